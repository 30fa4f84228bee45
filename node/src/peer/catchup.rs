//! Catching up when much is missing: the blocks up to a checkpoint that a quorum has cosigned, from every connected peer
//! at once.
//!
//! The tiles above the blocks come first and are verified up to the checkpoint's root, so that each bundle of 256 blocks
//! is checked by itself, whoever sends it. The bundles are cut back into the batches that the council has sealed, and
//! these are appended in order like any other, with every rule checked. What was appended stays: starting again, after a
//! crash too, goes on from there.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use antiphon_ledger::log::tile::TILE_WIDTH;
use antiphon_p2p::{
    Offence,
    catchup::{Check, Goal, plan::Limits},
};
use antiphon_proto::{note::Checkpoint, wire::Bundle};
use anyhow::{Context, bail};
use futures::{StreamExt, stream};
use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{
    checkpoints,
    cutter::{Cut, CutError, Cutter, Expected, is_of_log},
    follow::Follower,
    tiles::Tiles,
};

/// Blocks that must be missing before it is worth it: fewer come as quickly by following.
const FAR: u64 = 1_024;
/// Blocks for which the tiles are fetched at once: four tiles of level 1, 800 MB of songs.
const LEG: u64 = 4 * TILE_WIDTH * TILE_WIDTH;
/// Peers that are asked for their checkpoints.
const ASKED: usize = 16;
/// Addresses that are dialled before it begins, and for how long at most.
const DIALLED: usize = 8;
const DIAL_WITHIN: Duration = Duration::from_secs(5);
/// Peers that connect meanwhile join in.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Progress in the log.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// How far a catch-up is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Blocks when it began.
    pub start: u64,
    /// Blocks now.
    pub done: u64,
    /// Blocks of the checkpoint.
    pub target: u64,
    /// Peers that were asked.
    pub peers: u64,
}

/// What a leg brought.
enum Leg {
    /// Its end.
    Done,
    /// Somebody was found out: it goes on without that peer.
    Again,
}

impl Follower {
    /// Catches up as far as a checkpoint allows. Does nothing when little is missing or the council that has cosigned
    /// is not known yet: following does the rest. `others` are addresses that may help.
    pub(super) async fn catch_up(&self, others: &[Multiaddr]) -> anyhow::Result<()> {
        let mut dialled = false;
        loop {
            let Some((by, checkpoint)) = self.far_checkpoint().await else { return Ok(()) };
            if !dialled {
                dialled = true;
                self.dial(others).await;
                // With more peers there may be a newer one.
                continue;
            }
            let run = CatchingUp::new(self, by, checkpoint);
            let ended = run.run().await;
            self.status.send_modify(|status| status.catching_up = None);
            ended?;
        }
    }

    /// The newest checkpoint of the connected peers that is far ahead and can be trusted.
    async fn far_checkpoint(&self) -> Option<(PeerId, Checkpoint)> {
        let peers = self.network.peers().await.into_iter().map(|known| known.peer).take(ASKED);
        let asked = stream::iter(peers)
            .map(|peer| async move {
                let note = self.network.checkpoint(peer, self.ledger.network()).await.ok()?;
                Some((peer, self.trust(peer, &note).await?))
            })
            .buffer_unordered(ASKED)
            .collect::<Vec<_>>();
        let newest = asked.await.into_iter().flatten().max_by_key(|(_, newest)| newest.size)?;
        (newest.1.size > self.ledger.size().saturating_add(FAR)).then_some(newest)
    }

    async fn trust(&self, peer: PeerId, note: &[u8]) -> Option<Checkpoint> {
        match checkpoints::trusted_ahead(&self.ledger, note) {
            Ok(trusted) => {
                if trusted.is_none() {
                    tracing::debug!(%peer, "a checkpoint by a council that is not known here");
                }
                trusted
            }
            Err(error) => {
                tracing::warn!(%peer, %error, "the peer offers a false checkpoint");
                self.network.penalize(peer, Offence::BadCheckpoint).await;
                None
            }
        }
    }

    async fn dial(&self, others: &[Multiaddr]) {
        let dials = stream::iter(others.iter().take(DIALLED).cloned())
            .map(|address| timeout(DIAL_WITHIN, self.network.connect(address)))
            .buffer_unordered(DIALLED)
            .collect::<Vec<_>>();
        dials.await;
    }
}

/// One run up to one checkpoint.
struct CatchingUp<'f> {
    follower: &'f Follower,
    /// Who told of the checkpoint.
    by: PeerId,
    checkpoint: Checkpoint,
    start: u64,
    began: Instant,
    said: Instant,
    asked: HashSet<PeerId>,
}

impl<'f> CatchingUp<'f> {
    fn new(follower: &'f Follower, by: PeerId, checkpoint: Checkpoint) -> Self {
        let now = Instant::now();
        let start = follower.ledger.size();
        Self { follower, by, checkpoint, start, began: now, said: now, asked: HashSet::new() }
    }

    async fn run(mut self) -> anyhow::Result<()> {
        let follower = self.follower;
        let (size, root) = (self.checkpoint.size, self.checkpoint.root);
        let peers = self.peers().await;
        tracing::info!(from = self.start, to = size, peers = peers.len(), "catching up");
        let (network, id) = (follower.network.clone(), follower.ledger.network());
        let mut tiles = Tiles::open(network, id, peers, size, &root).await?;
        self.check_beginning(&mut tiles).await?;
        let mut cutter = Cutter::new(follower.ledger.size());
        while cutter.position() < size {
            if let Leg::Again = self.leg(&mut tiles, &mut cutter).await? {
                cutter = Cutter::new(follower.ledger.size());
            }
        }
        let end = follower.ledger.size();
        tracing::info!(
            blocks = end.saturating_sub(self.start),
            seconds = self.began.elapsed().as_secs(),
            "caught up"
        );
        // Whoever cosigns ends where a batch does; if not, following goes on from here.
        if end < size && end == self.start {
            bail!("the log up to block {size} holds no whole batch");
        }
        Ok(())
    }

    async fn peers(&self) -> Vec<PeerId> {
        self.follower.network.peers().await.into_iter().map(|known| known.peer).collect()
    }

    /// What is here must be the beginning of what the council has cosigned.
    async fn check_beginning(&self, tiles: &mut Tiles) -> anyhow::Result<()> {
        let ledger = &self.follower.ledger;
        let size = ledger.size();
        let theirs = tiles.root_at(size).await?;
        let at = ledger.clone();
        let ours = tokio::task::spawn_blocking(move || at.root_at(size)).await??;
        if ours == Some(theirs) {
            return Ok(());
        }
        let text = format!(
            "a quorum has cosigned a log of {} blocks that does not begin with the {size} blocks of this ledger: the \
             network has forked, or this ledger is not what was decided. Keep both and ask the council",
            self.checkpoint.size
        );
        self.follower.forked(self.by, &text).await;
        bail!(text)
    }

    /// Gets and appends everything up to the next multiple of [`LEG`].
    async fn leg(&mut self, tiles: &mut Tiles, cutter: &mut Cutter<PeerId>) -> anyhow::Result<Leg> {
        let start = cutter.position();
        let target = self.checkpoint.size.min((start / LEG + 1).saturating_mul(LEG));
        let check = self.check(tiles, start, target).await?;
        let goal = Goal { network: self.follower.ledger.network(), start, target, limits: Limits::default() };
        let peers = self.peers().await;
        self.asked = peers.iter().copied().collect();
        let mut bundles = self.follower.network.catch_up(peers, goal, check);
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.tell();
        loop {
            let next = tokio::select! {
                next = bundles.next() => next?,
                _ = look.tick() => {
                    for peer in self.peers().await {
                        if self.asked.insert(peer) {
                            bundles.add(peer);
                        }
                    }
                    continue;
                }
            };
            let Some((index, bundle)) = next else { return Ok(Leg::Done) };
            let sender = bundles.sender().context("a bundle that nobody sent")?;
            let cuts = match cutter.push(index.saturating_mul(TILE_WIDTH), &bundle, sender) {
                Ok(cuts) => cuts,
                Err(CutError::Seal(by)) => return Ok(self.found_out(by, "a seal is missing").await),
                Err(CutError::NotALedger) => bail!("what the council has cosigned is not a ledger"),
            };
            for cut in cuts {
                if let Some(again) = self.append(cut).await? {
                    return Ok(again);
                }
            }
            self.tell();
        }
    }

    /// What each bundle of a leg is held against.
    async fn check(&self, tiles: &mut Tiles, start: u64, target: u64) -> anyhow::Result<Check> {
        let first = start / TILE_WIDTH;
        let mut expected = Vec::new();
        for index in first..target.div_ceil(TILE_WIDTH) {
            let end = (index + 1).saturating_mul(TILE_WIDTH);
            if end > self.checkpoint.size {
                expected.push(Expected::Leaves(tiles.edge().level(0).to_vec()));
                continue;
            }
            let tile = tiles.tile(1, index / TILE_WIDTH).await?;
            let place = usize::try_from(index % TILE_WIDTH).unwrap_or(usize::MAX);
            let hash = tile.get(place).context("a tile of the log is too short")?;
            expected.push(Expected::Full(*hash));
        }
        Ok(Arc::new(move |index: u64, bundle: &Bundle| {
            let place = index.checked_sub(first).and_then(|place| usize::try_from(place).ok());
            let expected = place.and_then(|place| expected.get(place));
            expected.is_some_and(|expected| is_of_log(index.saturating_mul(TILE_WIDTH), bundle, expected))
        }))
    }

    async fn append(&self, cut: Cut<PeerId>) -> anyhow::Result<Option<Leg>> {
        let sender = cut.sender;
        match self.follower.append(cut.batch).await? {
            Ok(()) => Ok(None),
            // The blocks are the log's: what is wrong is the seal.
            Err(error) if error.is_invalid_batch() => {
                Ok(Some(self.found_out(sender, &error.to_string()).await))
            }
            Err(error) => Err(error).context("a batch of the log cannot be appended"),
        }
    }

    async fn found_out(&self, peer: PeerId, why: &str) -> Leg {
        tracing::warn!(%peer, why, "the peer sends a bundle with a false seal");
        self.follower.network.penalize(peer, Offence::BadBundle).await;
        // It is no longer connected when the penalty has been dealt with, which is before the next question.
        Leg::Again
    }

    fn tell(&mut self) {
        let progress = Progress {
            start: self.start,
            done: self.follower.ledger.size(),
            target: self.checkpoint.size,
            peers: self.asked.len() as u64,
        };
        if self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            let left = progress.target.saturating_sub(progress.done);
            let seconds = self.began.elapsed().as_secs().max(1);
            let rate = progress.done.saturating_sub(progress.start) / seconds;
            tracing::info!(
                done = progress.done,
                target = progress.target,
                left,
                rate,
                peers = progress.peers,
                "catching up"
            );
        }
        self.follower.status.send_modify(|status| status.catching_up = Some(progress));
    }
}
