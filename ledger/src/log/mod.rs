//! The ledger as a public log: tiles, bundles, proofs and the newest checkpoint, all derived from the blocks.
//!
//! The formats are those of C2SP (`tlog-tiles`, `tlog-checkpoint`, `tlog-proof`) over the RFC 6962 tree whose leaves
//! are the blocks. [`tile`], [`proof`] and [`blockproof`] are pure. Nothing here holds the writer's lock: reading never
//! waits for a batch, and a batch never waits for a hash that only readers want.

pub mod blockproof;
mod checkpoint;
pub mod proof;
mod roots;
pub mod tile;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use antiphon_proto::{NetworkId, RootHash};
use tokio::sync::watch;

pub use self::checkpoint::CheckpointError;
use self::{
    blockproof::BlockProof,
    proof::{Hash, Subtrees},
    roots::Roots,
    tile::{TILE_WIDTH, Tile, hashes_at},
};
use crate::{
    error::{FileError, ReadError},
    ledger::{Inner, Ledger},
    store::{Step, Store},
    tree::leaf_hash,
};

/// Tiles of leaf hashes kept in memory, 8 KiB each: a follower reads forward, listeners ask near the end.
const LEAF_TILES: usize = 64;
/// Up to so many blocks are fetched one by one; more are read in one go, batch by batch.
const SINGLE_READS: u64 = 8;

/// What the log keeps beside the blocks.
pub(crate) struct Log {
    dir: PathBuf,
    roots: Roots,
    /// Leaf hashes by tile, the last used at the end. The tile at the end of the log is not full.
    leaves: Mutex<Vec<(u64, Arc<Vec<Hash>>)>>,
    checkpoint: Mutex<Option<checkpoint::Kept>>,
    checkpoint_size: watch::Sender<u64>,
}

impl Log {
    /// Opens what is kept beside the blocks in a ledger's directory.
    pub(crate) fn open(dir: &Path, network: &NetworkId, store: &Store) -> Result<Self, FileError> {
        let log = Self {
            dir: dir.to_owned(),
            roots: Roots::open(dir, network, &store.tip().frontier)?,
            leaves: Mutex::new(Vec::new()),
            checkpoint: Mutex::new(None),
            checkpoint_size: watch::Sender::new(0),
        };
        log.open_checkpoint(network, store)?;
        Ok(log)
    }

    /// Leaf hashes of a tile: at least `width` of them, which the ledger must have.
    fn leaf_tile(&self, store: &Store, index: u64, width: u64) -> Result<Arc<Vec<Hash>>, ReadError> {
        let mut known = self.cached(index);
        if (known.len() as u64) < width {
            let first = index.saturating_mul(TILE_WIDTH);
            let end = store.size().min(first.saturating_add(TILE_WIDTH));
            let mut hashes = known.to_vec();
            let from = first.saturating_add(known.len() as u64);
            each_block(store, from, end, &mut |block| hashes.push(leaf_hash(block)))?;
            known = Arc::new(hashes);
            self.keep(index, &known);
        }
        Ok(known)
    }

    fn cached(&self, index: u64) -> Arc<Vec<Hash>> {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = leaves.iter().position(|(of, _)| *of == index) else { return Arc::default() };
        let found = leaves.remove(at);
        let hashes = Arc::clone(&found.1);
        leaves.push(found);
        hashes
    }

    fn keep(&self, index: u64, hashes: &Arc<Vec<Hash>>) {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        leaves.retain(|(of, _)| *of != index);
        if leaves.len() >= LEAF_TILES {
            leaves.remove(0);
        }
        leaves.push((index, Arc::clone(hashes)));
    }

    /// Forgets every derived hash: they are made again from the blocks.
    fn forget(&self) -> Result<(), ReadError> {
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(self.roots.forget()?)
    }

    /// Hashes `first..first + count` of a level, all in one tile; the ledger must have them.
    fn hashes(&self, store: &Store, level: u32, first: u64, count: u64) -> Result<Vec<Hash>, ReadError> {
        if level > 0 {
            return self.roots.hashes(store, level, first, count);
        }
        let (index, skip) = (first / TILE_WIDTH, first % TILE_WIDTH);
        let tile = self.leaf_tile(store, index, skip + count)?;
        let hashes: Vec<Hash> = tile.iter().skip(to_usize(skip)).take(to_usize(count)).copied().collect();
        if hashes.len() as u64 == count { Ok(hashes) } else { Err(missing(level, first)) }
    }

    /// Tree head over the first `size` blocks; the ledger must have them.
    fn root_at(&self, store: &Store, size: u64) -> Result<RootHash, ReadError> {
        let tip = store.tip();
        if tip.position.size == size {
            return Ok(tip.root());
        }
        proof::root(&mut Reader { log: self, store }, size)
    }
}

fn missing(level: u32, first: u64) -> ReadError {
    ReadError::Index(format!("hash {first} of level {level} of the log is not there"))
}

/// At most 256, whatever the platform.
fn to_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Shows blocks `first..end`, which the store must have, in order.
fn each_block(store: &Store, first: u64, end: u64, show: &mut dyn FnMut(&[u8])) -> Result<(), ReadError> {
    let gone = |index| ReadError::Index(format!("block {index} is not in it"));
    if end.saturating_sub(first) <= SINGLE_READS {
        for index in first..end {
            show(&store.block(index)?.ok_or_else(|| gone(index))?);
        }
        return Ok(());
    }
    let mut walker = store.walk_from(first)?.ok_or_else(|| gone(first))?;
    let mut at = first;
    while at < end {
        let Step::Batch(batch) = walker.step()? else { return Err(gone(at)) };
        let skip = to_usize(at.saturating_sub(batch.first));
        for block in batch.blocks.iter().skip(skip).take(to_usize(end - at)) {
            show(block);
            at += 1;
        }
    }
    Ok(())
}

/// The hashes of perfect subtrees of a ledger.
struct Reader<'a> {
    log: &'a Log,
    store: &'a Store,
}

impl Subtrees for Reader<'_> {
    type Error = ReadError;

    fn subtree(&mut self, level: u32, index: u64) -> Result<Hash, ReadError> {
        let within = level % 8;
        let hashes = self.log.hashes(self.store, level / 8, index << within, 1 << within)?;
        Ok(tile::fold(&hashes))
    }
}

impl Inner {
    fn reader(&self) -> Reader<'_> {
        Reader { log: &self.log, store: &self.store }
    }
}

impl Ledger {
    /// A tile of the log: `width` (1 to 256) hashes of 32 bytes at a level, as C2SP `tlog-tiles` has them. `None` when
    /// the ledger has not so many. What was served once is served for ever, narrower tiles too.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn tile(&self, level: u8, index: u64, width: u16) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(first) = first_of(index, width, hashes_at(level, self.size())) else { return Ok(None) };
        let hashes = self.0.log.hashes(&self.0.store, level.into(), first, width.into())?;
        Ok(Some(hashes.concat()))
    }

    /// A bundle of `width` (1 to 256) blocks, each behind its length in two bytes. `None` when the ledger has not so
    /// many.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn bundle(&self, index: u64, width: u16) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(first) = first_of(index, width, self.size()) else { return Ok(None) };
        let mut bundle = Vec::new();
        let mut whole = Some(());
        each_block(&self.0.store, first, first + u64::from(width), &mut |block| {
            whole = whole.and(tile::push_entry(&mut bundle, block));
        })?;
        // No block is longer than two bytes say.
        whole
            .map(|()| Some(bundle))
            .ok_or_else(|| ReadError::Index("a block is too long for a bundle".to_owned()))
    }

    /// What [`Ledger::tile`] or [`Ledger::bundle`] says of a path's tile.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn tile_at(&self, tile: &Tile) -> Result<Option<Vec<u8>>, ReadError> {
        match tile.kind {
            tile::Kind::Hashes { level } => self.tile(level, tile.index, tile.width),
            tile::Kind::Entries => self.bundle(tile.index, tile.width),
        }
    }

    /// For every batch that ends inside a bundle of 256 blocks, ascending: the ledger's size after it, and its seal. A
    /// batch whose last block is the bundle's last ends inside it.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn bundle_seals(&self, index: u64) -> Result<Vec<(u64, Vec<u8>)>, ReadError> {
        let size = self.size();
        let Some(first) = index.checked_mul(TILE_WIDTH).filter(|first| *first < size) else {
            return Ok(Vec::new());
        };
        let end = size.min(first.saturating_add(TILE_WIDTH));
        let mut seals = Vec::new();
        let Some(mut walker) = self.0.store.walk_from(first)? else { return Ok(seals) };
        let mut at = first;
        while at < end {
            let Step::Batch(batch) = walker.step()? else { break };
            at = batch.first.saturating_add(batch.blocks.len() as u64);
            if at <= end {
                seals.push((at, batch.seal));
            }
        }
        Ok(seals)
    }

    /// Tree head over the first `size` blocks; `None` when there are not so many.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn root_at(&self, size: u64) -> Result<Option<RootHash>, ReadError> {
        if size > self.size() {
            return Ok(None);
        }
        self.0.log.root_at(&self.0.store, size).map(Some)
    }

    /// Proof that block `index` is in the log of the first `size` blocks, from the leaf's sibling up; `None` when there
    /// is no such block or size.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn inclusion_proof(&self, index: u64, size: u64) -> Result<Option<Vec<Hash>>, ReadError> {
        if index >= size || size > self.size() {
            return Ok(None);
        }
        proof::inclusion(&mut self.0.reader(), index, size).map(Some)
    }

    /// Proof that the log of `new` blocks begins with that of `old`; `None` when there is no such size.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn consistency_proof(&self, old: u64, new: u64) -> Result<Option<Vec<Hash>>, ReadError> {
        if old > new || new > self.size() {
            return Ok(None);
        }
        proof::consistency(&mut self.0.reader(), old, new).map(Some)
    }

    /// Everything that proves a block to somebody who knows only the network and its council; `None` when no cosigned
    /// checkpoint covers it.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn block_proof(&self, index: u64) -> Result<Option<BlockProof>, ReadError> {
        let Some(kept) = self.0.log.kept() else { return Ok(None) };
        let (size, root) = (kept.size, kept.root);
        if size > self.size() {
            return Ok(None);
        }
        for again in [false, true] {
            let Some(hashes) = self.inclusion_proof(index, size)? else { return Ok(None) };
            let Some(block) = self.block(index)? else { return Ok(None) };
            // Nobody is given a proof that does not hold, whatever has become of the derived hashes.
            if proof::verify_inclusion(&leaf_hash(&block), index, size, &hashes, &root).is_ok() {
                return Ok(Some(BlockProof { index, block, hashes, checkpoint: kept.note }));
            }
            if !again {
                self.0.log.forget()?;
            }
        }
        Err(ReadError::Index(format!("block {index} is not under the checkpoint of {size} blocks")))
    }
}

/// Index of a tile's first hash or block, when `count` are there and the tile's are among them.
fn first_of(index: u64, width: u16, count: u64) -> Option<u64> {
    let first = index.checked_mul(TILE_WIDTH)?;
    let end = first.checked_add(width.into())?;
    ((1..=TILE_WIDTH).contains(&width.into()) && end <= count).then_some(first)
}
