//! What explorers ask of the ledger and its own index does not know: which blocks are neither songs nor variants, and what
//! each settlement has brought. Derived from the ledger, and made anew where it is missing, damaged or of another version.
//!
//! Songs are most of a ledger. Whoever looks for what has changed an account reads the other blocks only.

mod store;

use std::{sync::Arc, time::Duration};

use antiphon_ledger::Ledger;
use antiphon_proto::wire::{Block, block::Body};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::store::{EpochLine, Explorer, ExplorerError};

/// Blocks that are looked at before what was found is written.
const AT_ONCE: u64 = 4_096;
/// After a failure: the disk may have room again.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What a block says to explorers.
pub(crate) enum Found {
    /// It is a song or a variant.
    Music,
    /// Something else.
    Other,
    /// A settlement.
    Epoch(EpochLine),
}

impl Found {
    fn of(block: &Block, supply: &mut u64) -> Self {
        match &block.body {
            Some(Body::Song(_) | Body::Variant(_)) => Self::Music,
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
    let mut supply = explorer.last_epoch()?.map_or(0, |line| line.supply_units);
    while at < size && !stop() {
        let end = at.saturating_add(AT_ONCE).min(size);
        let mut found = Vec::new();
        for index in at..end {
            let block = ledger.parsed(index).map_err(|error| ExplorerError::Ledger(error.to_string()))?;
            let Some(block) = block else { break };
            found.push((index, Found::of(&block, &mut supply)));
        }
        explorer.add(end, &found)?;
        at = end;
    }
    Ok(())
}
