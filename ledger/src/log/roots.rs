//! The upper levels of the tree: one hash for every 256 blocks in a file, the rest in memory.
//!
//! The file `roots` in the ledger's directory is derived: 32 bytes for each full tile of leaf hashes, appended when a
//! reader first needs them, never while a batch is committed. What is in it is used only after it was found to agree
//! with the right edge of the ledger, whose seal says that it is the network's; a file that does not agree is built
//! again from the blocks. Levels above are in memory: 32 bytes for 65,536 blocks, 49 KB for 100 million.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, RwLock},
};

use antiphon_proto::NetworkId;

use super::{
    each_block, missing,
    proof::Hash,
    tile::{TILE_WIDTH, fold},
    to_usize,
};
use crate::{
    error::{FileError, ReadError},
    store::{Store, read_up_to},
    tree::{Frontier, leaf_hash},
};

/// File in the ledger's directory.
const FILE: &str = "roots";
/// First bytes of the file.
const MAGIC: [u8; 8] = *b"ANTPHROO";
/// Version of the file, behind the magic bytes, little-endian; the network id follows.
const VERSION: u32 = 1;
/// Bytes before the first hash.
const HEADER_BYTES: usize = 44;
/// Hashes that are written and shown at once: a rebuild of a large ledger makes progress that outlives a kill.
const WRITE_EVERY: u64 = 1_024;

/// The hashes of every 256 blocks and what is above them.
pub(super) struct Roots {
    path: PathBuf,
    header: [u8; HEADER_BYTES],
    /// Whoever appends to the file holds this.
    file: Mutex<()>,
    known: RwLock<Known>,
    handle: File,
}

/// What is known of the upper levels.
#[derive(Debug, Default)]
struct Known {
    /// Right edge over the hashes in the file.
    edge: Frontier,
    /// How many of them have been found to agree with the ledger.
    good: u64,
    /// The hashes behind the last full tile of level 1.
    last: Vec<Hash>,
    /// Level 2 and up, whole.
    upper: Vec<Vec<Hash>>,
}

impl Known {
    fn push(&mut self, root: Hash) {
        self.edge.append_leaf(root);
        self.last.push(root);
        if self.last.len() as u64 == TILE_WIDTH {
            let tile = std::mem::take(&mut self.last);
            self.push_upper(0, fold(&tile));
        }
    }

    fn push_upper(&mut self, level: usize, hash: Hash) {
        if self.upper.len() == level {
            self.upper.push(Vec::new());
        }
        let Some(hashes) = self.upper.get_mut(level) else { return };
        hashes.push(hash);
        if (hashes.len() as u64).is_multiple_of(TILE_WIDTH) {
            let above = fold(&hashes[hashes.len() - to_usize(TILE_WIDTH)..]);
            self.push_upper(level + 1, above);
        }
    }

    /// Whether the hashes are those of a ledger with this right edge, all of its full tiles.
    fn agrees(&self, ledger: &Frontier) -> bool {
        let full = ledger.size() / TILE_WIDTH;
        let nodes = ledger.nodes().get(..full.count_ones() as usize);
        self.edge.size() == full && nodes == Some(self.edge.nodes())
    }
}

impl Roots {
    /// Opens the file, or begins one. A file that is not of this ledger is begun anew.
    pub(super) fn open(dir: &Path, network: &NetworkId, ledger: &Frontier) -> Result<Self, FileError> {
        let path = dir.join(FILE);
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..].copy_from_slice(&network.0);
        let handle = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(FileError::new("open", &path))?;
        let roots = Self { path, header, file: Mutex::new(()), known: RwLock::default(), handle };
        roots.read(ledger)?;
        Ok(roots)
    }

    fn read(&self, ledger: &Frontier) -> Result<(), FileError> {
        let full = ledger.size() / TILE_WIDTH;
        let mut known = Known::default();
        let mut buffer = [0; 32 * 256];
        let mut header = [0; HEADER_BYTES];
        let read = |buffer: &mut [u8], at| {
            read_up_to(&self.handle, buffer, at).map_err(FileError::new("read", &self.path))
        };
        let got = read(&mut header, 0)?;
        let mut offset = HEADER_BYTES as u64;
        let mut fits = header == self.header;
        while fits {
            let got = read(&mut buffer, offset)?;
            let (hashes, _) = buffer[..got].as_chunks::<32>();
            // Half a hash at the end is the rest of a write that a crash cut short; the next one overwrites it.
            hashes.iter().for_each(|hash| known.push(*hash));
            offset += got as u64;
            if got < buffer.len() {
                break;
            }
            fits = known.edge.size() <= full;
        }
        fits &= known.edge.size() <= full;
        if fits && known.agrees(ledger) {
            known.good = known.edge.size();
        } else if known.edge.size() >= full {
            fits = false;
        }
        if !fits {
            if got > 0 {
                tracing::warn!(file = %self.path.display(), "hashes of the log do not fit the ledger; they are made again");
            }
            known = Known::default();
            self.reset()?;
        }
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    fn reset(&self) -> Result<(), FileError> {
        self.handle
            .set_len(0)
            .and_then(|()| self.handle.write_all_at(&self.header, 0))
            .map_err(FileError::new("write", &self.path))
    }

    /// Hashes `first..first + count` of a level above the leaves, all in one tile; the ledger must have them.
    pub(super) fn hashes(
        &self,
        store: &Store,
        level: u32,
        first: u64,
        count: u64,
    ) -> Result<Vec<Hash>, ReadError> {
        let end = first.saturating_add(count);
        // One hash of level 1 stands for a tile, one of level 2 for 256 of them, and so on.
        let needed = 1u64.checked_shl((level - 1) * 8).and_then(|each| end.checked_mul(each));
        let needed = needed.ok_or_else(|| missing(level, first))?;
        if self.good() < needed {
            self.extend(store)?;
        }
        if self.good() < needed {
            return Err(missing(level, first));
        }
        if level == 1 { self.read_level_1(first, count) } else { self.read_upper(level, first, count) }
    }

    fn good(&self) -> u64 {
        self.known.read().unwrap_or_else(PoisonError::into_inner).good
    }

    fn read_level_1(&self, first: u64, count: u64) -> Result<Vec<Hash>, ReadError> {
        let mut bytes = vec![0; to_usize(count).saturating_mul(32)];
        let at = HEADER_BYTES as u64 + first * 32;
        let got = read_up_to(&self.handle, &mut bytes, at).map_err(FileError::new("read", &self.path))?;
        if got < bytes.len() {
            return Err(missing(1, first));
        }
        Ok(bytes.as_chunks::<32>().0.to_vec())
    }

    fn read_upper(&self, level: u32, first: u64, count: u64) -> Result<Vec<Hash>, ReadError> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let hashes = usize::try_from(level - 2).ok().and_then(|level| known.upper.get(level));
        let range = to_usize(first)..to_usize(first.saturating_add(count));
        hashes.and_then(|hashes| hashes.get(range)).map(<[Hash]>::to_vec).ok_or_else(|| missing(level, first))
    }

    /// Forgets everything: it is made again from the blocks.
    pub(super) fn forget(&self) -> Result<(), FileError> {
        let _appends = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        self.begin_anew()
    }

    /// For whoever holds the lock on the file.
    fn begin_anew(&self) -> Result<(), FileError> {
        tracing::warn!(file = %self.path.display(), "hashes of the log were wrong; they are made again");
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Known::default();
        self.reset()
    }

    /// Blocks that must be read before every hash is known.
    pub(super) fn behind(&self, store: &Store) -> u64 {
        let have = self.known.read().unwrap_or_else(PoisonError::into_inner).edge.size();
        store.size().saturating_sub(have.saturating_mul(TILE_WIDTH))
    }

    /// Brings file and memory up to the ledger's last full tile, and holds them against its right edge.
    fn extend(&self, store: &Store) -> Result<(), ReadError> {
        let _appends = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let ledger = store.tip().frontier;
        if self.good() == ledger.size() / TILE_WIDTH {
            return Ok(());
        }
        for again in [false, true] {
            if again {
                self.begin_anew()?;
            }
            self.append(store, ledger.size() / TILE_WIDTH)?;
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            if known.agrees(&ledger) {
                known.good = known.edge.size();
                return Ok(());
            }
        }
        Err(ReadError::Index("the blocks do not give the log's root".to_owned()))
    }

    fn append(&self, store: &Store, full: u64) -> Result<(), ReadError> {
        let mut have = self.known.read().unwrap_or_else(PoisonError::into_inner).edge.size();
        while have < full {
            let until = full.min(have + WRITE_EVERY);
            let (mut tile, mut new) = (Vec::new(), Vec::new());
            each_block(store, have * TILE_WIDTH, until * TILE_WIDTH, &mut |block| {
                tile.push(leaf_hash(block));
                if tile.len() as u64 == TILE_WIDTH {
                    new.push(fold(&tile));
                    tile.clear();
                }
            })?;
            let at = HEADER_BYTES as u64 + have * 32;
            self.handle.write_all_at(&new.concat(), at).map_err(FileError::new("write", &self.path))?;
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            new.into_iter().for_each(|root| known.push(root));
            have = until;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_levels_are_those_of_the_tree() {
        let mut known = Known::default();
        let leaves: Vec<Hash> = (0..70_000u32).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        leaves.iter().for_each(|leaf| known.push(*leaf));
        assert_eq!((known.upper.len(), known.upper[0].len(), known.upper[1].len()), (2, 273, 1));
        assert_eq!(known.upper[0][3], fold(&leaves[768..1024]));
        assert_eq!(known.upper[1][0], fold(&leaves[..65_536]));
        assert_eq!(known.last, leaves[273 * 256..]);
    }
}
