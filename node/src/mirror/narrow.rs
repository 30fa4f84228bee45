//! Partial files from full ones. A dump drops a partial file once the full one is there, as C2SP `tlog-tiles` allows;
//! whoever reads at an older size takes the beginning of the full one instead.

use antiphon_ledger::{
    dump::seals,
    log::tile::{Kind, TILE_WIDTH, Tile, entries_up_to},
};

/// Where files of seals are, beside the tiles; their names are made in the same way.
const SEALS: &str = "seals/";
const ENTRIES: &str = "tile/entries/";

/// A file that comes in widths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wide {
    /// The tile, or the entry bundle that seals belong to.
    pub(super) tile: Tile,
    seals: bool,
}

impl Wide {
    /// The file of a path; `None` for one that has no widths.
    pub(super) fn parse(path: &str) -> Option<Self> {
        match path.strip_prefix(SEALS) {
            Some(rest) => Some(Self { tile: Tile::parse(&format!("{ENTRIES}{rest}"))?, seals: true }),
            None => Some(Self { tile: Tile::parse(path)?, seals: false }),
        }
    }

    /// Its path.
    pub(super) fn path(&self) -> String {
        let path = self.tile.path();
        if self.seals { path.replacen(ENTRIES, SEALS, 1) } else { path }
    }

    /// The same kind of file elsewhere.
    pub(super) const fn at(self, index: u64, width: u16) -> Self {
        Self { tile: Tile { index, width, ..self.tile }, ..self }
    }

    /// Path of the full file; `None` when this one is full.
    pub(super) fn full(&self) -> Option<String> {
        (!self.tile.is_full()).then(|| self.at(self.tile.index, 256).path())
    }

    /// What this file must hold, given what the full one holds; `None` when that is not what it should be.
    pub(super) fn cut(&self, full: &[u8]) -> Option<Vec<u8>> {
        let Tile { kind, index, width } = self.tile;
        if self.seals {
            let end = index.checked_mul(TILE_WIDTH)?.checked_add(width.into())?;
            let mut seals = seals::parse(full, index, 256).ok()?;
            seals.retain(|(size, _)| *size <= end);
            return Some(seals::encode(&seals));
        }
        let length = match kind {
            Kind::Hashes { .. } => usize::from(width) * 32,
            Kind::Entries => full.len().checked_sub(entries_up_to(full, width).1.len())?,
        };
        full.get(..length).map(<[u8]>::to_vec)
    }
}

#[cfg(test)]
mod tests {
    use antiphon_ledger::log::tile::push_entry;

    use super::*;

    fn cut(path: &str, full: &[u8]) -> Option<Vec<u8>> {
        Wide::parse(path).unwrap().cut(full)
    }

    #[test]
    fn paths_of_full_files() {
        for (partial, full) in [
            ("tile/0/001.p/7", Some("tile/0/001")),
            ("tile/entries/x001/000.p/255", Some("tile/entries/x001/000")),
            ("seals/000.p/1", Some("seals/000")),
            ("seals/000", None),
            ("tile/3/000", None),
        ] {
            assert_eq!(Wide::parse(partial).unwrap().full().as_deref(), full, "{partial}");
            assert_eq!(Wide::parse(partial).unwrap().path(), partial);
        }
        for none in ["genesis", "seals/", "seals/1", "tile/entries", "checkpoint", "seals/tile/0/000"] {
            assert_eq!(Wide::parse(none), None, "{none}");
        }
    }

    #[test]
    fn beginnings() {
        let tile: Vec<u8> = (0..=255).flat_map(|byte| [byte; 32]).collect();
        assert_eq!(cut("tile/1/000.p/2", &tile).unwrap(), tile[..64]);
        assert_eq!(cut("tile/1/000.p/2", &tile[..63]), None);

        let (mut two, mut bundle) = (Vec::new(), Vec::new());
        for (number, entry) in [&b"a"[..], b"", b"ccc"].into_iter().enumerate() {
            if number < 2 {
                push_entry(&mut two, entry).unwrap();
            }
            push_entry(&mut bundle, entry).unwrap();
        }
        assert_eq!(cut("tile/entries/000.p/2", &bundle).unwrap(), two);

        let seals = [(260, vec![1]), (300, vec![2, 2]), (512, vec![])];
        let full = seals::encode(&seals);
        assert_eq!(cut("seals/001.p/44", &full).unwrap(), seals::encode(&seals[..2]));
        assert_eq!(cut("seals/001.p/3", &full).unwrap(), seals::encode(&[]));
        assert_eq!(cut("seals/001.p/3", b"?"), None);
    }
}
