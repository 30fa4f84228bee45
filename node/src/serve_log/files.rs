//! Which files there are, and what is in them.

use antiphon_ledger::{
    Ledger, ReadError,
    dump::{self, CHECKPOINT, DumpError, GENESIS, MANIFEST},
    log::tile::{TILE_WIDTH, Tile},
};
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
    /// The newest checkpoint is over blocks that are still on their way.
    Behind,
    /// It cannot be read.
    Unreadable(String),
}

impl From<ReadError> for Missing {
    fn from(error: ReadError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";
const JSON: &str = "application/json";
/// Files of seals are named as entry bundles are.
const SEALS: &str = "seals/";
const ENTRIES: &str = "tile/entries/";

/// The file under a path, which begins with a slash. Only the one spelling of each path that the formats know is one.
pub(super) fn file(ledger: &Ledger, path: &str) -> Result<File, Missing> {
    let path = path.strip_prefix('/').ok_or(Missing::Name)?;
    let made = |bytes, content_type, lasts| Ok(File { bytes, content_type, lasts });
    match path {
        CHECKPOINT => made(served(ledger)?.0, TEXT, Lasts::Now),
        MANIFEST => made(served(ledger)?.1, JSON, Lasts::Now),
        GENESIS => made(canonical::encode(ledger.genesis()), BYTES, Lasts::Ever),
        _ if path.starts_with(SEALS) => {
            let tile = Tile::parse(&path.replacen(SEALS, ENTRIES, 1)).ok_or(Missing::Name)?;
            let seals = seals(ledger, &tile)?.ok_or(Missing::Beyond)?;
            made(seals, BYTES, lasts(&tile))
        }
        _ => {
            let tile = Tile::parse(path).ok_or(Missing::Name)?;
            let bytes = ledger.tile_at(&tile)?.ok_or(Missing::Beyond)?;
            made(bytes, BYTES, lasts(&tile))
        }
    }
}

/// The partial tiles that a checkpoint needs never change either, but a newer checkpoint needs wider ones.
const fn lasts(tile: &Tile) -> Lasts {
    if tile.is_full() { Lasts::Ever } else { Lasts::Soon }
}

/// Checkpoint and manifest; a log never shows one before it can serve all that it covers.
fn served(ledger: &Ledger) -> Result<(Vec<u8>, Vec<u8>), Missing> {
    dump::served(ledger).map_err(|error| match error {
        DumpError::NoCheckpoint => Missing::Checkpoint,
        DumpError::Behind { .. } => Missing::Behind,
        error => Missing::Unreadable(error.to_string()),
    })
}

/// The file of the seals of a bundle, as a dump of just that width has it; `None` beyond the ledger's end.
fn seals(ledger: &Ledger, bundle: &Tile) -> Result<Option<Vec<u8>>, ReadError> {
    let end = bundle.index.checked_mul(TILE_WIDTH).and_then(|first| first.checked_add(bundle.width.into()));
    let Some(end) = end.filter(|end| *end <= ledger.size()) else { return Ok(None) };
    let mut seals = ledger.bundle_seals(bundle.index)?;
    seals.retain(|(size, _)| *size <= end);
    Ok(Some(dump::seals::encode(&seals)))
}
