//! The coordinates of C2SP `tlog-tiles` and their paths, and the bytes of tiles and entry bundles.

use antiphon_proto::limits;

use super::proof::Hash;
use crate::tree::node_hash;

/// Hashes in a full tile, and entries in a full bundle.
pub const TILE_WIDTH: u64 = 256;
/// Highest level of a tile.
const MAX_LEVEL: u8 = 63;
/// Bytes of the largest entry bundle.
pub const BUNDLE_BYTES: usize = 256 * (2 + limits::BLOCK_BYTES);

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Hashes of the subtrees of 256^level leaves.
    Hashes {
        /// 0 to 63.
        level: u8,
    },
    /// The blocks themselves.
    Entries,
}

/// A tile or bundle by its coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// What it holds.
    pub kind: Kind,
    /// Its place in its level, from 0.
    pub index: u64,
    /// Number of hashes or entries, 1 to 256.
    pub width: u16,
}

impl Tile {
    /// A tile of hashes.
    #[must_use]
    pub const fn hashes(level: u8, index: u64, width: u16) -> Self {
        Self { kind: Kind::Hashes { level }, index, width }
    }

    /// An entry bundle.
    #[must_use]
    pub const fn entries(index: u64, width: u16) -> Self {
        Self { kind: Kind::Entries, index, width }
    }

    /// Whether it is as wide as tiles get, so that it never changes.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.width as u64 == TILE_WIDTH
    }

    /// Its path below the log's prefix: `tile/<L>/<N>`, `tile/entries/<N>`, with `.p/<W>` when it is partial.
    #[must_use]
    pub fn path(&self) -> String {
        let level = match self.kind {
            Kind::Hashes { level } => level.to_string(),
            Kind::Entries => "entries".to_owned(),
        };
        let partial = if self.is_full() { String::new() } else { format!(".p/{}", self.width) };
        format!("tile/{level}/{}{partial}", index_path(self.index))
    }

    /// Reads a path; only the one form that [`Tile::path`] writes is one.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let kind = match level {
            "entries" => Kind::Entries,
            _ => Kind::Hashes { level: level.parse().ok().filter(|level| *level <= MAX_LEVEL)? },
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => (index, width.parse().ok().filter(|width| (1..=255).contains(width))?),
            None => (rest, 256),
        };
        let tile = Self { kind, index: parse_index(index)?, width };
        // Signs, leading zeros and other spellings of the same numbers.
        (tile.path() == path).then_some(tile)
    }

    /// The tiles of hashes at a level, and how wide each is, that a tree of `size` leaves has from tile `from` on.
    pub fn of_level(level: u8, size: u64, from: u64) -> impl Iterator<Item = Self> {
        spans(hashes_at(level, size), from).map(move |(index, width)| Self::hashes(level, index, width))
    }

    /// The bundles that a log of `size` leaves has from bundle `from` on.
    pub fn of_entries(size: u64, from: u64) -> impl Iterator<Item = Self> {
        spans(size, from).map(|(index, width)| Self::entries(index, width))
    }
}

/// Number of full subtrees of 256^level leaves in a tree.
#[must_use]
pub const fn hashes_at(level: u8, size: u64) -> u64 {
    match size.checked_shr(level as u32 * 8) {
        Some(count) => count,
        None => 0,
    }
}

fn spans(count: u64, from: u64) -> impl Iterator<Item = (u64, u16)> {
    (from..count.div_ceil(TILE_WIDTH)).map(move |index| {
        let width = (count - index * TILE_WIDTH).min(TILE_WIDTH);
        (index, u16::try_from(width).unwrap_or(256))
    })
}

/// An index in path elements of three digits, all but the last with an `x` before them.
#[must_use]
pub fn index_path(index: u64) -> String {
    let mut path = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    path
}

/// Reads what [`index_path`] writes.
#[must_use]
pub fn parse_index(path: &str) -> Option<u64> {
    let digits: String = path.chars().filter(char::is_ascii_digit).collect();
    let index = digits.parse().ok()?;
    (index_path(index) == path).then_some(index)
}

/// The hashes of a tile's bytes; `None` when there are none, or not whole ones, or too many.
#[must_use]
pub fn parse_hashes(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    (rest.is_empty() && (1..=256).contains(&hashes.len())).then(|| hashes.to_vec())
}

/// Hash of the perfect subtree over these hashes; their number must be a power of two, or the result means nothing.
#[must_use]
pub fn fold(hashes: &[Hash]) -> Hash {
    let mut level = hashes.to_vec();
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| node_hash(&pair[0], pair.get(1).unwrap_or(&pair[0]))).collect();
    }
    level.first().copied().unwrap_or_default()
}

/// Appends an entry to a bundle: its length in two bytes, big-endian, and its bytes. `None` when it is longer than that.
#[must_use]
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Option<()> {
    let length = u16::try_from(entry.len()).ok()?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Some(())
}

/// The entries of a bundle of `width`; `None` when the bytes are not exactly these.
#[must_use]
pub fn parse_entries(bundle: &[u8], width: u16) -> Option<Vec<&[u8]>> {
    let (whole, rest) = entries_up_to(bundle, width);
    (whole.len() == usize::from(width) && rest.is_empty()).then_some(whole)
}

/// The whole entries at the beginning of a bundle, at most `most`, and the bytes behind them.
#[must_use]
pub fn entries_up_to(bundle: &[u8], most: u16) -> (Vec<&[u8]>, &[u8]) {
    let mut entries = Vec::new();
    let mut rest = bundle;
    while entries.len() < usize::from(most) {
        let Some((length, more)) = rest.split_first_chunk::<2>() else { break };
        let Some((entry, after)) = more.split_at_checked(usize::from(u16::from_be_bytes(*length))) else {
            break;
        };
        entries.push(entry);
        rest = after;
    }
    (entries, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_paths_of_the_specification() {
        assert_eq!(index_path(1_234_067), "x001/x234/067");
        assert_eq!(Tile::hashes(0, 0, 256).path(), "tile/0/000");
        assert_eq!(Tile::hashes(63, 999, 1).path(), "tile/63/999.p/1");
        assert_eq!(Tile::entries(1_000, 255).path(), "tile/entries/x001/000.p/255");
        for bad in [
            "tile/0/0",
            "tile/0/0000",
            "tile/00/000",
            "tile/64/000",
            "tile/+1/000",
            "tile/0/x000/001",
            "tile/0/x001/x000",
            "tile/0/001/000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/0/000/",
            "/tile/0/000",
            "tile/0/000.p/1.p/1",
            "tile/entries/",
            "tile/e/000",
            "tile/0/x018/x446/x744/x073/x709/x551/616",
            "tile/0/\u{661}00",
        ] {
            assert_eq!(Tile::parse(bad), None, "{bad}");
        }
    }

    /// The example in the specification: a tree of 70,000.
    #[test]
    fn the_tiles_of_70_000() {
        let at = |level| -> Vec<Tile> { Tile::of_level(level, 70_000, 0).collect() };
        assert_eq!((at(0).len(), at(0)[272].width, at(0)[273].width), (274, 256, 112));
        assert_eq!((at(1).len(), at(1)[0].width, at(1)[1].width), (2, 256, 17));
        assert_eq!(at(2), [Tile::hashes(2, 0, 1)]);
        assert_eq!(at(3), []);
        assert_eq!(Tile::of_level(1, 256, 0).collect::<Vec<_>>(), [Tile::hashes(1, 0, 1)]);
        assert_eq!(
            Tile::of_entries(513, 1).collect::<Vec<_>>(),
            [Tile::entries(1, 256), Tile::entries(2, 1)]
        );
        assert_eq!(hashes_at(8, u64::MAX), 0);
    }

    #[test]
    fn golden_bundle() {
        let mut bundle = Vec::new();
        push_entry(&mut bundle, b"abc").unwrap();
        push_entry(&mut bundle, b"").unwrap();
        assert_eq!(bundle, [0, 3, b'a', b'b', b'c', 0, 0]);
        assert_eq!(parse_entries(&bundle, 2), Some(vec![&b"abc"[..], b""]));
        assert_eq!(parse_entries(&bundle, 1), None);
        assert_eq!(parse_entries(&bundle, 3), None);
        assert_eq!(parse_entries(&bundle[..6], 2), None);
        assert_eq!(push_entry(&mut bundle, &[0; 65_536]), None);
    }

    #[test]
    fn tiles_hold_whole_hashes() {
        assert_eq!(parse_hashes(&[1; 64]), Some(vec![[1; 32]; 2]));
        for bad in [0, 31, 33, 257 * 32] {
            assert_eq!(parse_hashes(&vec![0; bad]), None);
        }
        assert_eq!(fold(&[[1; 32]]), [1; 32]);
        assert_eq!(fold(&[[1; 32], [2; 32]]), node_hash(&[1; 32], &[2; 32]));
    }

    proptest! {
        #[test]
        fn paths_round_trip(level in 0..=63u8, entries: bool, index: u64, width in 1..=256u16) {
            let kind = if entries { Kind::Entries } else { Kind::Hashes { level } };
            let tile = Tile { kind, index, width };
            prop_assert_eq!(Tile::parse(&tile.path()), Some(tile));
        }

        #[test]
        fn only_one_spelling(path in "tile/([0-9]{1,2}|entries)(/x?[0-9]{3}){1,3}(\\.p/[0-9]{1,3})?") {
            if let Some(tile) = Tile::parse(&path) {
                prop_assert_eq!(tile.path(), path);
            }
        }

        #[test]
        fn bundles_round_trip(entries in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..20)) {
            let mut bundle = Vec::new();
            for entry in &entries {
                push_entry(&mut bundle, entry).unwrap();
            }
            let width = u16::try_from(entries.len()).unwrap();
            prop_assert_eq!(parse_entries(&bundle, width).unwrap(), entries);
        }
    }
}
