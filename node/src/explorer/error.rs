//! What can go wrong with the explorer's index.

use crate::system::redb_errors::from_redb;

/// Why the index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExplorerError {
    /// The file.
    #[error("the explorer's index: {0}")]
    Database(#[from] redb::Error),
    /// The ledger.
    #[error("the ledger: {0}")]
    Ledger(String),
}

from_redb!(ExplorerError::Database);

/// What was asked for, or why not.
pub(super) type Result<T> = std::result::Result<T, ExplorerError>;
