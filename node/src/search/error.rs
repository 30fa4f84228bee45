//! What can go wrong with the index.

use std::{io, path::PathBuf};

use antiphon_ledger::ReadError;

/// Why the index did not answer. It is derived data: the next [`super::Index::update`] looks at it again and makes it
/// anew where it is damaged.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The folder of the index.
    #[error("the search index in {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The engine under it.
    #[error("the search index: {0}")]
    Engine(#[from] tantivy::TantivyError),
    /// A file of it.
    #[error("the search index: {0}")]
    File(#[from] io::Error),
    /// The engine gave up in the middle, as it does on damaged files.
    #[error("the search index is damaged; it is made anew")]
    Damaged,
    /// The blocks that it is made from.
    #[error(transparent)]
    Ledger(#[from] ReadError),
    /// The caller wanted it to end.
    #[error("stopped before the search index was complete; it goes on there")]
    Stopped,
}

/// What the index does, or why not.
pub type Result<T> = std::result::Result<T, SearchError>;
