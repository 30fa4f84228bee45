//! Keeps a running peer's index up to date: in the background, and seldom enough for an SD card.
//!
//! Each commit writes some fifty kilobytes, however little is new. So what comes after a quiet time is indexed at once,
//! and while blocks keep coming, waits get longer, unless enough for a batch has come or somebody asks.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{Index, Result, SearchError, store::BATCH};

/// The wait after the first new block: the rest of its batch comes at the same time.
const SHORTEST: Duration = Duration::from_millis(500);
/// The longest wait: nearly 3,000 commits a day, or 150 MB written.
const LONGEST: Duration = Duration::from_secs(30);
/// Nothing new for so long is a quiet time.
const QUIET: Duration = Duration::from_secs(60);
/// Memory of questions is given up when there was none for so long.
const UNUSED: Duration = Duration::from_secs(60);
/// Wait after a failure: of the disk, mostly.
const RETRY: Duration = Duration::from_secs(30);

/// How long to wait before a commit.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    /// The last commit, and the wait before it.
    last: Option<(Instant, Duration)>,
}

impl Pace {
    /// The wait from now on, when there is something new.
    fn wait(&self, now: Instant) -> Duration {
        match self.last {
            Some((at, wait)) if now.saturating_duration_since(at) < QUIET => (wait * 2).min(LONGEST),
            _ => SHORTEST,
        }
    }

    /// There was a commit after this wait.
    fn committed(&mut self, now: Instant, wait: Duration) {
        self.last = Some((now, wait));
    }
}

/// Follows the ledger until told to stop. `sizes` is the number of blocks, as the ledger grows.
pub async fn follow(
    index: Arc<Index>,
    mut sizes: tokio::sync::watch::Receiver<u64>,
    cancel: CancellationToken,
) {
    let mut pace = Pace::default();
    loop {
        if let Err(error) = update(&index, &cancel).await {
            if cancel.is_cancelled() {
                return;
            }
            tracing::warn!(%error, "the search index is behind; trying again in {} s", RETRY.as_secs());
            tokio::time::sleep(RETRY).await;
            continue;
        }
        while *sizes.borrow_and_update() <= index.size() {
            tokio::select! {
                changed = sizes.changed() => if changed.is_err() { return },
                // The index was found damaged, or somebody has waited for what is there by now.
                () = index.wanted.notified() => {}
                () = tokio::time::sleep(UNUSED) => index.rest(UNUSED),
            }
        }
        let wait = pace.wait(Instant::now());
        let full = index.size().saturating_add(BATCH);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = index.wanted.notified() => {}
            _ = sizes.wait_for(|size| *size >= full) => {}
        }
        pace.committed(Instant::now(), wait);
    }
}

async fn update(index: &Arc<Index>, cancel: &CancellationToken) -> Result<()> {
    let (index, cancel) = (index.clone(), cancel.clone());
    let work = tokio::task::spawn_blocking(move || index.update(&|| cancel.is_cancelled(), &|_| {}));
    work.await.unwrap_or(Err(SearchError::Damaged)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_while_blocks_keep_coming() {
        let mut now = Instant::now();
        let mut pace = Pace::default();
        let mut waits = Vec::new();
        for _ in 0..9 {
            let wait = pace.wait(now);
            now += wait;
            pace.committed(now, wait);
            waits.push(wait.as_millis());
        }
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
        now += QUIET;
        assert_eq!(pace.wait(now), SHORTEST);
    }
}
