//! What explorers ask of the ledger and its own index does not know: which blocks are neither songs nor variants, what
//! each settlement has brought, which block has a hash, which songs name a key. Derived from the ledger, and made anew
//! where it is missing, damaged or of another version.
//!
//! Songs are most of a ledger. Whoever looks for what has changed an account reads the other blocks only.

mod error;
mod hashes;
mod songs;
mod store;

use std::{sync::Arc, time::Duration};

use antiphon_ledger::Ledger;
use antiphon_proto::{
    BlockHash, PublicKey,
    wire::{Block, Song, block::Body},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::songs::keys;
pub use self::{
    error::ExplorerError,
    store::{EpochLine, Explorer},
};

/// Blocks that are looked at before what was found is written.
const AT_ONCE: u64 = 4_096;
/// After a failure: the disk may have room again.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// A block, as explorers look for it.
pub(crate) struct Seen {
    /// Ledger index.
    pub(crate) index: u64,
    /// Its hash.
    pub(crate) hash: BlockHash,
    /// What it says.
    pub(crate) found: Found,
}

/// What a block says to explorers.
pub(crate) enum Found {
    /// It is a song that names these keys.
    Song(Vec<PublicKey>),
    /// It is a variant of one.
    Variant,
    /// Something else.
    Other,
    /// A settlement.
    Epoch(EpochLine),
}

impl Found {
    fn of(block: &Block, supply: &mut u64) -> Self {
        match &block.body {
            Some(Body::Song(song)) => Self::Song(keys(song)),
            Some(Body::Variant(_)) => Self::Variant,
            Some(Body::Epoch(epoch)) => {
                *supply = supply.saturating_add(epoch.minted).saturating_sub(epoch.burned);
                Self::Epoch(EpochLine {
                    number: epoch.number,
                    index: block.index,
                    height: block.height,
                    time_ms: block.time_ms,
                    plays: epoch.plays,
                    receipts: epoch.receipts,
                    minted_units: epoch.minted,
                    burned_units: epoch.burned,
                    supply_units: *supply,
                })
            }
            _ => Self::Other,
        }
    }
}

/// Keeps an explorer's index up to the ledger until `cancel`.
pub async fn follow(
    explorer: Arc<Explorer>,
    ledger: Ledger,
    mut sizes: watch::Receiver<u64>,
    cancel: CancellationToken,
) {
    loop {
        sizes.mark_unchanged();
        let (index, read, stop) = (explorer.clone(), ledger.clone(), cancel.clone());
        let work = tokio::task::spawn_blocking(move || update(&index, &read, &|| stop.is_cancelled()));
        match work.await {
            Ok(Ok(())) => {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    changed = sizes.changed() => if changed.is_err() { return },
                }
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "explorers do not see the newest blocks");
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = tokio::time::sleep(AGAIN_AFTER) => {}
                }
            }
            Err(_) => return,
        }
    }
}

/// Brings an index up to the ledger, or until `stop`. Blocks on the disk.
///
/// # Errors
/// Ledger or index cannot be read, or the index not be written.
pub fn update(explorer: &Explorer, ledger: &Ledger, stop: &dyn Fn() -> bool) -> Result<(), ExplorerError> {
    let size = ledger.size();
    // A ledger that was replaced by a shorter one.
    if explorer.covered()? > size {
        explorer.clear()?;
    }
    let mut at = explorer.covered()?;
    explorer.hash_again(at, &mut |index| Ok(block(ledger, index)?.map(|bytes| BlockHash::of(&bytes))))?;
    let mut supply = explorer.last_epoch()?.map_or(0, |line| line.supply_units);
    while at < size && !stop() {
        let end = at.saturating_add(AT_ONCE).min(size);
        let mut found = Vec::new();
        for index in at..end {
            let Some(bytes) = block(ledger, index)? else { break };
            let parsed = Block::parse(&bytes).map_err(|error| ExplorerError::Ledger(error.to_string()))?;
            let (hash, found_in) = (BlockHash::of(&bytes), Found::of(&parsed, &mut supply));
            found.push(Seen { index, hash, found: found_in });
        }
        let Some(last) = found.last() else { break };
        at = last.index.saturating_add(1);
        explorer.add(at, &found)?;
    }
    Ok(())
}

/// Songs and their indexes, the newest first, and below which index it goes on.
pub type SongsPage = (Vec<(u64, Song)>, Option<u64>);

/// Songs below an index that name a key. Blocks on the disk.
///
/// # Errors
/// Ledger or index cannot be read.
pub fn songs_of(
    explorer: &Explorer,
    ledger: &Ledger,
    key: &PublicKey,
    below: u64,
    limit: usize,
) -> Result<SongsPage, ExplorerError> {
    let found = explorer.songs_of(key, below, limit)?;
    let next = found.last().copied().filter(|_| found.len() >= limit);
    let mut songs = Vec::with_capacity(found.len());
    for index in found {
        let song = ledger.song(index).map_err(|error| ExplorerError::Ledger(error.to_string()))?;
        songs.extend(song.filter(|song| keys(song).contains(key)).map(|song| (index, song)));
    }
    Ok((songs, next))
}

fn block(ledger: &Ledger, index: u64) -> Result<Option<Vec<u8>>, ExplorerError> {
    ledger.block(index).map_err(|error| ExplorerError::Ledger(error.to_string()))
}
