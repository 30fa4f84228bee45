//! What can go wrong with what the listener said and did.

use std::path::{Path, PathBuf};

use crate::system::redb_errors::{from_redb, is_damage};

/// Why something was not kept, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ListenerError {
    /// The file cannot be what was written.
    #[error(
        "{path} is damaged ({why}). It holds stars, playlists and app passwords, and cannot be made anew: put back a copy \
         of it, or move it away to begin with nothing"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Written by a later version of this program.
    #[error(
        "{path} was written by a later version of this program (layout {found}): use that one, or move the file away"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: u64,
    },
    /// Its songs are those of another ledger.
    #[error(
        "{path} belongs to another network: its songs are not those of this one. Use another data directory, or move the \
         file away to begin with nothing"
    )]
    OtherNetwork {
        /// The file.
        path: PathBuf,
    },
    /// The disk, or the database on it.
    #[error("{path}: {source}")]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// There are as many as there may be.
    #[error("there can be no more than {most} {what}")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many.
        most: usize,
    },
    /// Somebody wrote more than is kept.
    #[error("{what} can have no more than {most} bytes")]
    TooLong {
        /// What.
        what: &'static str,
        /// How long.
        most: usize,
    },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Refused(&'static str),
    /// Nothing of that name.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// The machine has too little.
    #[error("there is not enough memory to check a password: {0} KiB are needed")]
    Memory(u32),
}

/// What was asked for, or why not.
pub type Result<T> = std::result::Result<T, ListenerError>;

/// What went wrong inside a transaction, which does not know the file.
#[derive(Debug)]
pub(super) enum Fault {
    /// The database says no.
    Redb(redb::Error),
    /// A record that cannot be what was written.
    Record(&'static str),
    /// A record of a later version.
    Newer(u64),
    /// The records are of another network.
    OtherNetwork,
    /// The file is sound, and what was asked for is not done.
    Told(ListenerError),
}

impl Fault {
    pub(super) fn at(self, path: &Path) -> ListenerError {
        let path = path.to_owned();
        match self {
            Self::Redb(source) if is_damage(&source) => {
                ListenerError::Damaged { path, why: source.to_string() }
            }
            Self::Redb(source) => ListenerError::Database { path, source: Box::new(source) },
            Self::Record(what) => ListenerError::Damaged { path, why: format!("{what} cannot be read") },
            Self::Newer(found) => ListenerError::Newer { path, found },
            Self::OtherNetwork => ListenerError::OtherNetwork { path },
            Self::Told(error) => error,
        }
    }
}

impl From<ListenerError> for Fault {
    fn from(error: ListenerError) -> Self {
        Self::Told(error)
    }
}

from_redb!(Fault::Redb);
