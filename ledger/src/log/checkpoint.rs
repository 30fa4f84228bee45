//! The newest checkpoint that a quorum has cosigned: kept in memory and in the file `checkpoint`.

use std::{fs, sync::PoisonError};

use antiphon_proto::{
    NetworkId, PublicKey, RootHash, limits,
    note::{self, CosignedCheckpoint, NoteError},
};
use tokio::sync::watch;

use super::Log;
use crate::{
    error::{FileError, ReadError},
    ledger::Ledger,
    store::{Store, files},
};

/// File in the ledger's directory.
const FILE: &str = "checkpoint";
/// Blocks that are read when a ledger is opened, at most, to make hashes that a lost file had held: some seconds.
const READ_ON_OPEN: u64 = 1_000_000;
/// Name under which a file that does not fit the blocks is put aside.
const BAD: &str = "checkpoint.bad";

/// A checkpoint that this ledger does not keep.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Not a checkpoint of this network that enough of the council have cosigned.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The council has cosigned other blocks than these: one of the two histories is false.
    #[error(
        "a quorum has cosigned a log of {size} blocks with the root {theirs}, and this ledger's root is {ours}: the \
         network has forked, or this ledger is not what was decided. Keep both and ask the council"
    )]
    Fork {
        /// Size of the checkpoint.
        size: u64,
        /// Root of this ledger, or of the checkpoint that it holds.
        ours: RootHash,
        /// Root of the checkpoint.
        theirs: RootHash,
    },
    /// Something stored cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The newest checkpoint.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) size: u64,
    pub(super) root: RootHash,
    pub(super) note: Vec<u8>,
}

impl Kept {
    fn new(opened: &CosignedCheckpoint, note: Vec<u8>) -> Self {
        Self { size: opened.checkpoint.size, root: opened.checkpoint.root, note }
    }
}

impl Log {
    /// Reads the stored checkpoint; one that does not fit the blocks is put aside.
    pub(super) fn open_checkpoint(&self, network: &NetworkId, store: &Store) -> Result<(), FileError> {
        let path = self.dir.join(FILE);
        let Some(note) = files::read_bounded(&path, limits::CHECKPOINT_BYTES)? else { return Ok(()) };
        match self.fits(network, store, &note) {
            Ok(kept) => {
                self.checkpoint_size.send_replace(kept.size);
                *self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
            }
            Err(error) => {
                let aside = self.dir.join(BAD);
                tracing::warn!(%error, file = %aside.display(), "the stored checkpoint is put aside");
                fs::rename(&path, &aside).map_err(FileError::new("rename", &path))?;
                files::sync_dir(&self.dir)?;
            }
        }
        Ok(())
    }

    /// Its signatures were verified when it was stored; what can have changed since are the blocks and the file.
    fn fits(&self, network: &NetworkId, store: &Store, note: &[u8]) -> Result<Kept, CheckpointError> {
        let opened = CosignedCheckpoint::open(note, &note::origin(network), &[])?;
        let kept = Kept::new(&opened, note.to_vec());
        if self.roots.behind(store) <= READ_ON_OPEN {
            self.check_root(store, &kept)?;
        } else {
            tracing::debug!("the stored checkpoint is held against the blocks when it is used");
        }
        Ok(kept)
    }

    fn check_root(&self, store: &Store, kept: &Kept) -> Result<(), CheckpointError> {
        let &Kept { size, root: theirs, .. } = kept;
        if size > store.size() {
            return Ok(());
        }
        let ours = self.root_at(store, size)?;
        if ours == theirs { Ok(()) } else { Err(CheckpointError::Fork { size, ours, theirs }) }
    }

    /// The newest checkpoint.
    pub(super) fn kept(&self) -> Option<Kept> {
        self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(
        &self,
        store: &Store,
        mut new: CosignedCheckpoint,
        members: &[PublicKey],
    ) -> Result<bool, CheckpointError> {
        let (size, theirs) = (new.checkpoint.size, new.checkpoint.root);
        new.drop_unknown_members();
        self.check_root(store, &Kept::new(&new, Vec::new()))?;
        let mut kept = self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(old) if old.size > size => return Ok(false),
            Some(old) if old.size == size => {
                if old.root != theirs {
                    return Err(CheckpointError::Fork { size, ours: old.root, theirs });
                }
                // One of another council than the one that is asked for now is replaced.
                let opened = CosignedCheckpoint::open(&old.note, &new.checkpoint.origin, members);
                if let Ok(mut merged) =
                    opened.map_err(drop).and_then(|old| old.check(members).map(|()| old).map_err(drop))
                {
                    if !merged.merge(&new) {
                        return Ok(false);
                    }
                    new = merged;
                }
            }
            _ => {}
        }
        // Written anew, so that no key has two lines.
        let new = Kept::new(&new, new.encode().into_bytes());
        files::write_atomically(&self.dir.join(FILE), &new.note)?;
        *kept = Some(new);
        drop(kept);
        self.checkpoint_size.send_replace(size);
        Ok(true)
    }
}

impl Ledger {
    /// Takes a checkpoint in: verifies every line of `members`, the quorum, that the log itself has signed it, and its
    /// root when the ledger has grown so far. One that is newer than what is kept takes its place, durably; what one
    /// of the same size adds (cosignatures, lines of outside witnesses) is added. Returns whether anything changed.
    ///
    /// # Errors
    /// [`CheckpointError`]; the one that is kept stays.
    pub fn put_checkpoint(&self, note: &[u8], members: &[PublicKey]) -> Result<bool, CheckpointError> {
        let opened = CosignedCheckpoint::open(note, &note::origin(&self.network()), members)?;
        opened.check(members)?;
        self.0.log.put(&self.0.store, opened, members)
    }

    /// The newest checkpoint that a quorum has cosigned, as a note. It may be ahead of the blocks that are here.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Vec<u8>> {
        self.0.log.kept().map(|kept| kept.note)
    }

    /// Size of the newest checkpoint, 0 while there is none. Slow readers see the newest only; it is told again when
    /// signatures were added to it.
    #[must_use]
    pub fn watch_checkpoint(&self) -> watch::Receiver<u64> {
        self.0.log.checkpoint_size.subscribe()
    }
}
