//! What can go wrong with the index, sorted by what the caller does about it.

use std::path::PathBuf;

use redb::{CommitError, DatabaseError, StorageError, TableError, TransactionError};

/// Why an operation on the index failed.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The file cannot be read back. It is derived data: answer with `Index::create_fresh` and insert the songs again.
    #[error("the fingerprint index is damaged ({0}); start it afresh and fill it from the ledger")]
    Damaged(String),
    /// The file is something else, or the index of another program. Same answer.
    #[error("the file is not a fingerprint index ({0}); start it afresh and fill it from the ledger")]
    Foreign(String),
    /// Written by a version with another layout or another rule. Same answer.
    #[error("the fingerprint index has version {found}, this program reads {expected}; start it afresh")]
    Version {
        /// Version in the file.
        found: u64,
        /// Version that this program writes.
        expected: u64,
    },
    /// A process has the file open.
    #[error("the fingerprint index is in use by another process; stop that one first")]
    Locked,
    /// The disk refused.
    #[error("the fingerprint index at {path}: {source}")]
    Io {
        /// The index file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A flush did not finish, so memory and file may differ.
    #[error("an earlier write to the fingerprint index failed; open it again")]
    Unfinished,
    /// A song with a ledger index that is already covered, or beyond every ledger.
    #[error("ledger index {key} does not follow {next}, the next that the fingerprint index expects")]
    NotRising {
        /// The index offered.
        key: u64,
        /// The lowest that would be taken.
        next: u64,
    },
    /// Too many songs wait in memory.
    #[error("{songs} songs wait for the fingerprint index to be flushed, and no more fit")]
    Full {
        /// Songs in memory.
        songs: usize,
    },
    /// Durable songs cannot be taken back.
    #[error("the fingerprint index cannot go back to {size}: it is durable up to {durable}")]
    Durable {
        /// Ledger size asked for.
        size: u64,
        /// Ledger size that the file covers.
        durable: u64,
    },
}

impl IndexError {
    /// Whether the answer is `Index::create_fresh` and inserting the ledger's songs again.
    #[must_use]
    pub const fn wants_fresh(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Foreign(_) | Self::Version { .. })
    }
}

/// Why a search did not come to an answer.
#[derive(Debug, thiserror::Error)]
pub enum FindError<E> {
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The caller could not read a song.
    #[error("song {key} of the ledger could not be read for comparison: {error}")]
    Fetch {
        /// Ledger index of the song.
        key: u64,
        /// The caller's error.
        error: E,
    },
    /// The index names a song that the ledger does not have: they are out of step.
    #[error("the fingerprint index names song {key}, which the ledger does not have; start the index afresh")]
    Missing {
        /// Ledger index of the song.
        key: u64,
    },
}

impl From<StorageError> for IndexError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Io(source) => Self::io(source),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl IndexError {
    fn io(source: std::io::Error) -> Self {
        // The engine reports a file that is too short or has the wrong magic number in these two kinds.
        match source.kind() {
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => {
                Self::Damaged(source.to_string())
            }
            _ => Self::Io { path: PathBuf::new(), source },
        }
    }

    /// Names the file in an error of the disk.
    pub(super) fn at(self, file: &std::path::Path) -> Self {
        match self {
            Self::Io { path, source } if path.as_os_str().is_empty() => {
                Self::Io { path: file.into(), source }
            }
            other => other,
        }
    }
}

impl From<std::io::Error> for IndexError {
    fn from(source: std::io::Error) -> Self {
        Self::Io { path: PathBuf::new(), source }
    }
}

impl From<DatabaseError> for IndexError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen => Self::Locked,
            DatabaseError::Storage(storage) => storage.into(),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<TableError> for IndexError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Storage(storage) => storage.into(),
            other => Self::Foreign(other.to_string()),
        }
    }
}

impl From<TransactionError> for IndexError {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Storage(storage) => storage.into(),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<CommitError> for IndexError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Storage(storage) => storage.into(),
            other => Self::Damaged(other.to_string()),
        }
    }
}
