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
    size: u64,
    root: RootHash,
    cosigners: usize,
    note: Vec<u8>,
}

impl Kept {
    fn new(opened: &CosignedCheckpoint, note: &[u8]) -> Self {
        let checkpoint = &opened.checkpoint;
        let cosigners = opened.cosigners().len();
        Self { size: checkpoint.size, root: checkpoint.root, cosigners, note: note.to_vec() }
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
        let kept = Kept::new(&opened, note);
        self.check_root(store, &kept)?;
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

    /// Size and note of the newest checkpoint.
    pub(super) fn kept(&self) -> Option<(u64, Vec<u8>)> {
        let kept = self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().map(|kept| (kept.size, kept.note.clone()))
    }

    fn put(&self, store: &Store, new: Kept) -> Result<bool, CheckpointError> {
        self.check_root(store, &new)?;
        let mut kept = self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = &*kept {
            if old.size == new.size && old.root != new.root {
                return Err(CheckpointError::Fork { size: new.size, ours: old.root, theirs: new.root });
            }
            if (old.size, old.cosigners) >= (new.size, new.cosigners) {
                return Ok(false);
            }
        }
        files::write_atomically(&self.dir.join(FILE), &new.note)?;
        let size = new.size;
        *kept = Some(new);
        drop(kept);
        self.checkpoint_size.send_replace(size);
        Ok(true)
    }
}

impl Ledger {
    /// Takes a checkpoint in: verifies every line of `members`, the quorum, that the log itself has signed it, and its root when the ledger has grown so
    /// far, and keeps it durably when it is newer than the one that is kept, or as new with more cosignatures.
    /// Returns whether it is kept. Lines of other keys are kept with it.
    ///
    /// # Errors
    /// [`CheckpointError`]; the one that is kept stays.
    pub fn put_checkpoint(&self, note: &[u8], members: &[PublicKey]) -> Result<bool, CheckpointError> {
        let opened = CosignedCheckpoint::open(note, &note::origin(&self.network()), members)?;
        opened.check(members)?;
        self.0.log.put(&self.0.store, Kept::new(&opened, note))
    }

    /// The newest checkpoint that a quorum has cosigned, as a note. It may be ahead of the blocks that are here.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Vec<u8>> {
        self.0.log.kept().map(|(_, note)| note)
    }

    /// Size of the newest checkpoint, 0 while there is none. Slow readers see the newest only; a note of the same size
    /// with more cosignatures is told too.
    #[must_use]
    pub fn watch_checkpoint(&self) -> watch::Receiver<u64> {
        self.0.log.checkpoint_size.subscribe()
    }
}
