//! The tiles of a dump above the leaves, held bottom up against what the blocks give.

use super::{DumpError, DumpSource, need_tile};
use crate::{
    log::{
        proof::Hash,
        tile::{TILE_WIDTH, Tile, fold, hashes_at, parse_hashes},
    },
    tree::Frontier,
};

/// Bytes of a full tile.
const TILE_BYTES: usize = 256 * 32;

/// The hashes of a tile; `index` is the first block under it.
pub(super) fn read_tile(
    source: &mut dyn DumpSource,
    tile: &Tile,
    index: u64,
) -> Result<Vec<Hash>, DumpError> {
    let file = tile.path();
    let (mut bytes, wider) = need_tile(source, &file, TILE_BYTES, index)?;
    if wider {
        bytes.truncate(usize::from(tile.width) * 32);
    }
    match parse_hashes(&bytes) {
        Some(hashes) if hashes.len() == usize::from(tile.width) => Ok(hashes),
        _ => Err(DumpError::bad(
            file,
            index,
            format!("it holds {} bytes, not {} hashes", bytes.len(), tile.width),
        )),
    }
}

/// The right edge of the upper levels: for each of them the tile that is being filled.
pub(super) struct Levels {
    size: u64,
    levels: Vec<Level>,
}

#[derive(Default)]
struct Level {
    /// Hashes of this level so far.
    count: u64,
    /// What the tile in the dump says.
    stored: Vec<Hash>,
    /// What the blocks give.
    computed: Vec<Hash>,
}

impl Levels {
    /// Nothing of a log of `size` blocks yet.
    pub(super) const fn new(size: u64) -> Self {
        Self { size, levels: Vec::new() }
    }

    /// Takes in the level-1 hashes of the first `tiles` times 256 blocks, which are not in the dump, and returns the
    /// right edge over them. The root is what bears them out in the end.
    pub(super) fn skip(&mut self, source: &mut dyn DumpSource, tiles: u64) -> Result<Frontier, DumpError> {
        let mut edge = Frontier::new();
        for _ in 0..tiles {
            let hash = self.next(source, 1)?;
            edge.append_leaf(hash);
            self.push(source, 1, hash)?;
        }
        let blocks = tiles.saturating_mul(TILE_WIDTH);
        // Each set bit of one size is a set bit of the other: the nodes are the same.
        Ok(Frontier::from_parts(blocks, edge.nodes().to_vec()).unwrap_or_default())
    }

    /// What the dump says that the next hash of a level is.
    pub(super) fn next(&mut self, source: &mut dyn DumpSource, level: u8) -> Result<Hash, DumpError> {
        let (size, at) = (self.size, usize::from(level).saturating_sub(1));
        if self.levels.len() <= at {
            self.levels.resize_with(at + 1, Level::default);
        }
        let Some(state) = self.levels.get_mut(at) else { return Ok(Hash::default()) };
        let (tile, skip) = (state.count / TILE_WIDTH, state.count % TILE_WIDTH);
        let index = first_block(level, state.count);
        if skip == 0 {
            let width = hashes_at(level, size).saturating_sub(state.count).min(TILE_WIDTH);
            let tile = Tile::hashes(level, tile, u16::try_from(width).unwrap_or(256));
            state.stored = read_tile(source, &tile, index)?;
        }
        let hash = usize::try_from(skip).ok().and_then(|skip| state.stored.get(skip)).copied();
        hash.ok_or_else(|| DumpError::bad(self.path(level), index, "the tile is too narrow"))
    }

    /// Takes in the next hash of a level, which the blocks gave, and what follows from it above.
    pub(super) fn push(
        &mut self,
        source: &mut dyn DumpSource,
        level: u8,
        hash: Hash,
    ) -> Result<(), DumpError> {
        let stored = self.next(source, level)?;
        let path = self.path(level);
        let Some(state) = self.levels.get_mut(usize::from(level).saturating_sub(1)) else { return Ok(()) };
        if stored != hash {
            let index = first_block(level, state.count);
            return Err(DumpError::bad(path, index, "the blocks below give another hash"));
        }
        state.count = state.count.saturating_add(1);
        state.computed.push(hash);
        if state.computed.len() as u64 == TILE_WIDTH {
            let above = fold(&std::mem::take(&mut state.computed));
            self.push(source, level.saturating_add(1), above)?;
        }
        Ok(())
    }

    /// Path of the tile that a level's next hash stands in.
    fn path(&self, level: u8) -> String {
        let count = self.levels.get(usize::from(level).saturating_sub(1)).map_or(0, |state| state.count);
        let left = hashes_at(level, self.size).saturating_sub(count - count % TILE_WIDTH);
        let width = u16::try_from(left.min(TILE_WIDTH)).unwrap_or(256);
        Tile::hashes(level, count / TILE_WIDTH, width).path()
    }
}

/// Index of the first block under a hash of a level.
fn first_block(level: u8, at: u64) -> u64 {
    at.checked_shl(u32::from(level) * 8).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io};

    use super::*;
    use crate::tree::leaf_hash;

    impl DumpSource for BTreeMap<String, Vec<u8>> {
        fn read(&mut self, path: &str, _: usize) -> io::Result<Option<Vec<u8>>> {
            Ok(self.get(path).cloned())
        }
    }

    /// 600 full bundles and a bit: two full tiles and a partial one at level 1, a partial one at level 2.
    const SIZE: u64 = 600 * 256 + 9;

    fn tiles() -> (Vec<Hash>, BTreeMap<String, Vec<u8>>) {
        let level_1: Vec<Hash> = (0..600u32).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let level_2: Vec<Hash> = level_1.chunks_exact(256).map(fold).collect();
        let files = [
            ("tile/1/000", &level_1[..256]),
            ("tile/1/001", &level_1[256..512]),
            ("tile/1/002.p/88", &level_1[512..]),
            ("tile/2/000.p/2", &level_2[..]),
        ];
        let files = files.map(|(path, hashes)| (path.to_owned(), hashes.concat()));
        (level_1, files.into_iter().collect())
    }

    fn check(hashes: &[Hash], source: &mut BTreeMap<String, Vec<u8>>) -> Result<(), DumpError> {
        let mut levels = Levels::new(SIZE);
        hashes.iter().try_for_each(|hash| levels.push(source, 1, *hash))
    }

    #[test]
    fn every_level_is_held_against_the_one_below() {
        let (hashes, mut files) = tiles();
        check(&hashes, &mut files).unwrap();
        for (file, at, index) in [
            ("tile/1/000", 3, 3 * 256),
            ("tile/1/001", 255, 511 * 256),
            ("tile/1/002.p/88", 87, 599 * 256),
            ("tile/2/000.p/2", 1, 65_536),
        ] {
            let mut damaged = files.clone();
            damaged.get_mut(file).unwrap()[at * 32] ^= 1;
            let error = check(&hashes, &mut damaged).unwrap_err();
            assert_eq!(error.first_bad(), Some(index), "{error}");
            assert!(error.to_string().contains(file), "{error}");
            damaged.remove(file);
            assert!(
                matches!(check(&hashes, &mut damaged), Err(DumpError::Missing { file: f, .. }) if f == file)
            );
        }
    }

    #[test]
    fn what_is_skipped_gives_the_right_edge() {
        let (hashes, mut files) = tiles();
        let mut edge = Frontier::new();
        hashes.iter().for_each(|hash| edge.append_leaf(*hash));
        let skipped = Levels::new(SIZE).skip(&mut files, 600).unwrap();
        assert_eq!((skipped.size(), skipped.nodes()), (600 * 256, edge.nodes()));
        assert_eq!(skipped.root(), edge.root());
    }
}
