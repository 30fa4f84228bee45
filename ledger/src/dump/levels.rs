//! The tiles of a dump above the leaves, held bottom up against what the blocks give.

use super::{DumpError, DumpSource, need};
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
    let bytes = need(source, &file, TILE_BYTES, index)?;
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
