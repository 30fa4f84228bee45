//! What can go wrong with a ledger on disk, classed by what the caller can do about it.

use std::{io, path::PathBuf};

use antiphon_proto::{NetworkId, genesis::GenesisError};

use crate::{refusal::Refusal, rule::RuleError, seal::SealError};

/// Stored bytes that are not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is damaged at byte {offset}: {what}. Nothing was changed. Check the disk; then restore the data directory \
     from a backup, or move it away and let this peer fetch the ledger again", file.display()
)]
pub struct Damage {
    /// What is wrong.
    pub what: String,
    /// In which file.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
}

/// An operation on a file that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

impl FileError {
    pub(crate) fn new(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self { action, path, source }
    }
}

/// Something stored cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// Blocks that are not what was written.
    #[error(transparent)]
    Damaged(#[from] Box<Damage>),
    /// The derived index; it is rebuilt when the ledger is opened next.
    #[error("the index is damaged ({0}): start again, it is then rebuilt from the blocks")]
    Index(String),
}

/// A ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another process{}: stop it first, or ask it", dir.display(),
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Locked {
        /// The ledger's directory.
        dir: PathBuf,
        /// That process, when it could be told.
        pid: Option<u32>,
    },
    /// There is none, and no genesis document was given to start one.
    #[error("there is no ledger in {}: a genesis document is needed to start one", dir.display())]
    NotFound {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// The ledger belongs to another network than the one asked for.
    #[error("the ledger in {} is of network {stored}, not of {given}: use another data directory", dir.display())]
    OtherNetwork {
        /// The ledger's directory.
        dir: PathBuf,
        /// Network of what is stored.
        stored: NetworkId,
        /// Network asked for.
        given: NetworkId,
    },
    /// The genesis document that was given breaks a rule.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// Acknowledged blocks are not what was written.
    #[error(transparent)]
    Damaged(#[from] Box<Damage>),
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// The index could not be rebuilt.
    #[error("the index cannot be built: {0}")]
    Index(String),
    /// The near-duplicate rule could not take the ledger's songs in.
    #[error(transparent)]
    Rule(#[from] RuleError),
}

impl From<ReadError> for OpenError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::File(error) => Self::File(error),
            ReadError::Damaged(damage) => Self::Damaged(damage),
            ReadError::Index(what) => Self::Index(what),
        }
    }
}

/// A failure of this machine, not a verdict on a block.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Something stored cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The near-duplicate rule has no verdict.
    #[error(transparent)]
    Rule(#[from] RuleError),
}

/// A batch was not appended. The ledger is as it was.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// A batch without blocks.
    #[error("the batch holds no block")]
    Empty,
    /// The batch does not begin where the ledger ends: it was appended before, or others are missing.
    #[error("the batch begins at block {first}, the ledger ends at {size}")]
    NotNext {
        /// Blocks in the ledger.
        size: u64,
        /// First block of the batch.
        first: u64,
    },
    /// Refused before its seal was looked at: nobody who may seal made such a batch.
    #[error("block {index} is refused: {refusal}")]
    Refused {
        /// Index that the block would have.
        index: u64,
        /// Why.
        refusal: Refusal,
    },
    /// The network decided for a block that the rules refuse here. Whoever passed the batch on is not at fault: this
    /// version or its near-duplicate index differs from those of whoever ordered.
    #[error(
        "block {index} is decided by the network, but refused here: {refusal}. This antiphon is too old, or its \
         fingerprint index is wrong: upgrade, or remove fingerprints.redb and start again"
    )]
    Disagrees {
        /// Index that the block would have.
        index: u64,
        /// Why it is refused.
        refusal: Refusal,
    },
    /// The proof that comes with the batch does not hold.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A failure of this machine.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The disk did not take the batch.
    #[error(transparent)]
    File(#[from] FileError),
    /// An earlier write failed in a way that leaves open what is on the disk.
    #[error("an earlier write failed; nothing is appended until the ledger is opened again")]
    Halted,
    /// The council's thread has too much to do.
    #[error("the council has too much to do just now; the batch may be tried again")]
    Busy,
    /// The index cannot take more in.
    #[error("the index cannot be written: {0}; nothing is appended until it can")]
    Index(String),
}

impl AppendError {
    /// Whether the batch itself is at fault, so that whoever sent it is: anybody can see that no good seal covers it.
    #[must_use]
    pub const fn is_invalid_batch(&self) -> bool {
        matches!(self, Self::Empty | Self::Refused { .. } | Self::Seal(_))
    }

    /// Whether this is what the rules say of the batch, and not a failure of this machine.
    #[must_use]
    pub const fn is_verdict(&self) -> bool {
        self.is_invalid_batch() || matches!(self, Self::Disagrees { .. } | Self::NotNext { .. })
    }
}

/// A ledger does not verify.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Something stored cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A block that no ledger may hold at this place.
    #[error("block {index} breaks a rule: {refusal}")]
    Refused {
        /// Its index.
        index: u64,
        /// The rule.
        refusal: Refusal,
    },
    /// A batch whose proof does not hold.
    #[error("the batch of blocks {first} to {last}: {source}")]
    Seal {
        /// Its first block.
        first: u64,
        /// Its last block.
        last: u64,
        /// Why not.
        source: SealError,
    },
    /// The index does not say what the blocks say.
    #[error(
        "the index is wrong about block {index}: {what}. Remove the directory `index` of the ledger: it is then rebuilt"
    )]
    Index {
        /// Block whose entry is wrong.
        index: u64,
        /// Which entry.
        what: &'static str,
    },
    /// The near-duplicate rule has no verdict.
    #[error(transparent)]
    Rule(#[from] RuleError),
}

impl From<Fault> for VerifyError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Read(error) => Self::Read(error),
            Fault::Rule(error) => Self::Rule(error),
        }
    }
}
