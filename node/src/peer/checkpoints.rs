//! Checkpoints that peers send: which are kept, which wait, and what is wrong with the rest.

use antiphon_ledger::{CheckpointError, Ledger};
use antiphon_p2p::Offence;
use antiphon_proto::{
    PublicKey,
    note::{self, Checkpoint, CosignedCheckpoint, NoteError},
};

/// What a checkpoint is to this ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// It is what this ledger holds, and is kept if it is news.
    Good,
    /// It is over more blocks than are here: who may cosign it is known when they are.
    Ahead(u64),
    /// It is older than what is here, fits it, and was cosigned by others than today's council: nothing is to be learnt.
    Old,
    /// No honest peer sends it.
    Bad(Offence, String),
    /// A quorum has cosigned another history: people must see this.
    Fork(String),
}

/// Judges a checkpoint and keeps it if it is to be kept. Blocks on the disk.
///
/// # Errors
/// Failures of this machine.
pub fn judge(ledger: &Ledger, note: &[u8]) -> Result<Judged, CheckpointError> {
    let origin = note::origin(&ledger.network());
    // The council first: when it is older than the size, the size is judged with care.
    let roster = ledger.roster();
    let read = |members: &[PublicKey]| CosignedCheckpoint::open(note, &origin, members);
    let opened = match read(roster.next()) {
        Ok(opened) => opened,
        // Somebody signs in the name of a member.
        Err(error) => return Ok(Judged::Bad(Offence::BadCheckpoint, error.to_string())),
    };
    let Checkpoint { size, root, .. } = opened.checkpoint;
    if size > ledger.size() {
        return Ok(Judged::Ahead(size));
    }
    match ledger.put_checkpoint(note, roster.last()) {
        Ok(_) => Ok(Judged::Good),
        Err(error @ CheckpointError::Fork { .. }) => Ok(Judged::Fork(error.to_string())),
        Err(CheckpointError::Note(NoteError::Quorum { .. } | NoteError::Unsigned))
            if ledger.root_at(size)? == Some(root) && size < ledger.size() =>
        {
            Ok(Judged::Old)
        }
        // The ledger has grown meanwhile, and with it the council may be another.
        Err(CheckpointError::Note(_)) if ledger.roster().last() != roster.last() => judge(ledger, note),
        Err(CheckpointError::Note(error)) => Ok(Judged::Bad(Offence::BadCheckpoint, error.to_string())),
        Err(error) => Err(error),
    }
}

/// A checkpoint over more blocks than are here that a quorum of the council that is known here has cosigned. `None` when
/// that cannot be told: the council may have changed meanwhile. The error is what no honest peer sends.
///
/// # Errors
/// [`NoteError`].
pub fn trusted_ahead(ledger: &Ledger, note: &[u8]) -> Result<Option<Checkpoint>, NoteError> {
    let roster = ledger.roster();
    let origin = note::origin(&ledger.network());
    for members in [roster.next(), roster.current()] {
        let opened = CosignedCheckpoint::open(note, &origin, members)?;
        if opened.check(members).is_ok() {
            return Ok(Some(opened.checkpoint));
        }
    }
    Ok(None)
}
