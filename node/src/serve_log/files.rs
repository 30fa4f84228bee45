//! Which files there are, and what is in them.

use antiphon_ledger::{Ledger, ReadError, log::tile::Tile};
use antiphon_proto::canonical;

/// How long an answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lasts {
    /// For ever: the bytes under this name never change.
    Ever,
    /// Until the log has grown so far that nobody asks for this name any more.
    Soon,
    /// Until the next checkpoint.
    Now,
}

/// A file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) bytes: Vec<u8>,
    pub(super) content_type: &'static str,
    pub(super) lasts: Lasts,
}

/// Why there is no file.
#[derive(Debug)]
pub(super) enum Missing {
    /// No log has a file of this name.
    Name,
    /// This log does not reach so far.
    Beyond,
    /// No quorum has cosigned a checkpoint yet.
    Checkpoint,
    /// It cannot be read.
    Unreadable(ReadError),
}

impl From<ReadError> for Missing {
    fn from(error: ReadError) -> Self {
        Self::Unreadable(error)
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";

/// The file under a path, which begins with a slash. Only the one spelling of each path that the formats know is one.
pub(super) fn file(ledger: &Ledger, path: &str) -> Result<File, Missing> {
    let path = path.strip_prefix('/').ok_or(Missing::Name)?;
    let made = |bytes, content_type, lasts| Ok(File { bytes, content_type, lasts });
    match path {
        "checkpoint" => made(ledger.checkpoint().ok_or(Missing::Checkpoint)?, TEXT, Lasts::Now),
        "genesis" => made(canonical::encode(ledger.genesis()), BYTES, Lasts::Ever),
        _ => {
            let tile = Tile::parse(path).ok_or(Missing::Name)?;
            let bytes = ledger.tile_at(&tile)?.ok_or(Missing::Beyond)?;
            made(bytes, BYTES, if tile.is_full() { Lasts::Ever } else { Lasts::Soon })
        }
    }
}
