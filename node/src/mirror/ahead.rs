//! Fetches the files that are likely wanted next, a few at a time.

use std::{
    collections::HashMap,
    io,
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

use antiphon_ledger::log::tile::{Kind, TILE_WIDTH, Tile};

use super::Fetcher;

/// Files of a kind that are fetched ahead, each in a thread of its own: 8 bundles of songs are 7 MB.
pub(super) const FILES: usize = 8;

/// Where files of seals are, beside the tiles; their names are made in the same way.
const SEALS: &str = "seals/";
const ENTRIES: &str = "tile/entries/";

/// What is on its way.
pub(super) struct Ahead {
    /// Blocks of the dump: there is nothing behind them.
    size: u64,
    coming: HashMap<String, Receiver<io::Result<Option<Vec<u8>>>>>,
}

impl Ahead {
    pub(super) fn new(size: u64) -> Self {
        Self { size, coming: HashMap::new() }
    }

    /// A file, from what is on its way or asked for now; those that follow it are set on their way.
    pub(super) fn read(
        &mut self,
        fetcher: &Fetcher,
        path: &str,
        limit: usize,
    ) -> io::Result<Option<Vec<u8>>> {
        let fetched = self.coming.remove(path).and_then(|coming| {
            self.fetch_next(fetcher, path, limit);
            coming.recv().ok()
        });
        match fetched {
            Some(fetched) => fetched,
            None => {
                let first = fetcher.get(path, limit);
                // Whoever reads two in a row reads the rest too.
                if matches!(first, Ok(Some(_))) {
                    self.fetch_next(fetcher, path, limit);
                }
                first
            }
        }
    }

    fn fetch_next(&mut self, fetcher: &Fetcher, path: &str, limit: usize) {
        for next in following(path, self.size) {
            // What nobody asks for in the end must not pile up.
            if self.coming.len() >= 4 * FILES || self.coming.contains_key(&next) {
                continue;
            }
            let (send, receive) = sync_channel(1);
            let (fetcher, file) = (fetcher.clone(), next.clone());
            let begun = thread::Builder::new().name("fetch".to_owned()).spawn(move || {
                let _ = send.send(fetcher.get(&file, limit));
            });
            // Without a thread, it is fetched when it is asked for.
            if begun.is_ok() {
                self.coming.insert(next, receive);
            }
        }
    }
}

/// Paths of the files that follow one in a log of `size` blocks: bundles, tiles of leaf hashes, and seals.
fn following(path: &str, size: u64) -> Vec<String> {
    let (seals, tile) = match path.strip_prefix(SEALS) {
        Some(rest) => (true, Tile::parse(&format!("{ENTRIES}{rest}"))),
        None => (false, Tile::parse(path)),
    };
    let Some(tile) = tile.filter(|tile| matches!(tile.kind, Kind::Entries | Kind::Hashes { level: 0 }))
    else {
        return Vec::new();
    };
    let next = (1..=FILES as u64).filter_map(|more| {
        let index = tile.index.checked_add(more)?;
        let left = size.checked_sub(index.checked_mul(TILE_WIDTH)?).filter(|left| *left > 0)?;
        let width = u16::try_from(left.min(TILE_WIDTH)).ok()?;
        let path = Tile { index, width, ..tile }.path();
        Some(if seals { path.replacen(ENTRIES, SEALS, 1) } else { path })
    });
    next.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows() {
        assert_eq!(following("tile/entries/000", 600), ["tile/entries/001", "tile/entries/002.p/88"]);
        assert_eq!(following("seals/001", 600), ["seals/002.p/88"]);
        assert_eq!(following("tile/0/001", 768), ["tile/0/002"]);
        assert_eq!(following("tile/0/000", u64::MAX).len(), FILES);
        for last in ["tile/entries/002.p/88", "tile/1/000", "genesis", "seals/", "tile/entries/002"] {
            assert_eq!(following(last, 600), Vec::<String>::new(), "{last}");
        }
    }
}
