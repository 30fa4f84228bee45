//! Staying up to date: joining a network through a known peer, then following its ledger.
//!
//! A member of the council follows nobody: members tell each other. It only keeps the connections that it was told to
//! keep, and follows again when it is a member no more.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use antiphon_ledger::{
    AppendError, Ledger, SealedBatch,
    council::{Council, Voting},
};
use antiphon_p2p::{Followed, Network, Offence};
use antiphon_proto::{
    NetworkId,
    wire::{Batch, Genesis},
};
use anyhow::{Context, bail};
use libp2p::{Multiaddr, PeerId};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    catchup::Progress,
    checkpoints::{self, Judged},
    upstream::Upstreams,
};
use crate::failure::{Failure, Kind};

/// A stream that brings nothing for this long is looked into.
const ASK_EVERY: Duration = Duration::from_secs(15);
/// So often in a row another peer must be found to have more before this one is left.
const BEHIND: u32 = 2;
/// Other connected peers that are asked.
const OTHERS: usize = 8;
/// A member that meets no quorum for so long follows like any other peer, until it meets one.
const ALONE_MS: u64 = 15_000;
/// So often it is looked whether this peer is a member of the council.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// First and longest pause between attempts to reach an address that a member keeps up.
const DIAL_PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

/// Finds out from a peer which network this is.
///
/// # Errors
/// When the peer cannot be reached or has no ledger; a [`Failure`] when it is of another network than `insist`.
pub async fn introduce(
    network: &Network,
    address: &Multiaddr,
    insist: Option<NetworkId>,
) -> anyhow::Result<(PeerId, Genesis)> {
    let peer = network.connect(address.clone()).await.with_context(|| format!("cannot reach {address}"))?;
    let info = network
        .ledger_info(peer)
        .await
        .with_context(|| format!("{address} does not say which network it is of"))?;
    if info.genesis.is_empty() {
        bail!("{address} is not of a network yet");
    }
    let genesis =
        Genesis::parse(&info.genesis).with_context(|| format!("{address} is not of a usable network"))?;
    let id = genesis.network_id();
    if let Some(wanted) = insist
        && wanted != id
    {
        let message = format!(
            "{address} is of network {id}, but this data directory (or --network) says {wanted}; \
             use another --data-dir for another network"
        );
        return Err(Failure::new(Kind::Usage, message).into());
    }
    Ok((peer, genesis))
}

/// How this peer keeps up, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FollowStatus {
    /// A catch-up that runs.
    pub catching_up: Option<Progress>,
    /// The last thing that people must look into.
    pub alarm: Option<String>,
}

/// Who writes to the ledger.
#[derive(Clone)]
pub enum Appender {
    /// Whoever has a batch.
    Ledger(Ledger),
    /// The one thread of a member of the council.
    Council(Arc<Council>),
}

impl Appender {
    /// Appends a batch; one that was appended meanwhile by other ways is no error. The outer error is this machine's,
    /// the inner one the batch's.
    async fn append(&self, batch: SealedBatch) -> anyhow::Result<Result<(), AppendError>> {
        let appended = match self {
            Self::Ledger(ledger) => {
                let ledger = ledger.clone();
                tokio::task::spawn_blocking(move || ledger.append(&batch).map(drop)).await?
            }
            Self::Council(council) => council.append(batch).await,
        };
        Ok(match appended {
            Err(AppendError::NotNext { size, first }) if first < size => Ok(()),
            other => other,
        })
    }
}

/// Follows one peer after the other until cancelled; see [`super::follow_best`].
pub struct Follower {
    /// The network.
    pub network: Network,
    /// What grows.
    pub ledger: Ledger,
    /// The seat in the council, if this peer has the key of one.
    pub council: Option<Arc<Council>>,
    /// Whom registrations are handed to: whoever is followed.
    pub upstream: watch::Sender<Option<PeerId>>,
    /// Addresses that answered, for the next start.
    pub answered: watch::Sender<Option<Multiaddr>>,
    /// How it goes.
    pub status: watch::Sender<FollowStatus>,
    /// Ends it.
    pub cancel: CancellationToken,
}

impl Follower {
    /// Runs until cancelled.
    pub async fn run(self, mut addresses: VecDeque<Multiaddr>) {
        let cancel = self.cancel.clone();
        let work = async {
            let mut upstreams = Upstreams::default();
            loop {
                if self.is_member() {
                    self.keep_connected(addresses.make_contiguous()).await;
                    continue;
                }
                tokio::select! {
                    () = self.until_member(true) => {}
                    () = self.follow_best(addresses.make_contiguous(), &mut upstreams) => {}
                }
                self.let_go();
            }
        };
        tokio::select! {
            () = cancel.cancelled() => {}
            () = work => {}
        }
    }

    /// Nobody is followed for now.
    pub(super) fn let_go(&self) {
        self.upstream.send_replace(None);
        self.status.send_modify(|status| status.catching_up = None);
    }

    /// Whether the council brings this peer its blocks. A member that has stopped hears nothing and must follow; so must
    /// one that has not met a quorum for a while: the council may have changed without it, and refuse it.
    fn is_member(&self) -> bool {
        self.council.as_ref().is_some_and(|council| {
            let report = council.report();
            !matches!(report.voting, Voting::NotAMember | Voting::Halted(_)) && report.alone_ms < ALONE_MS
        })
    }

    /// Waits until this peer is a member, or is one no more.
    async fn until_member(&self, member: bool) {
        while self.is_member() != member {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Keeps connections to all addresses for as long as this peer is a member. Each has a pause of its own, which grows
    /// while nobody answers there.
    async fn keep_connected(&self, addresses: &[Multiaddr]) {
        tracing::info!("this peer is in the council: it follows nobody");
        let keep = async {
            futures::future::join_all(addresses.iter().map(|address| self.keep(address))).await;
            // Without an address there is nothing to keep.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.until_member(false) => {}
            () = keep => {}
        }
    }

    async fn keep(&self, address: &Multiaddr) {
        let mut known: Option<PeerId> = None;
        let mut pause = DIAL_PAUSES.0;
        loop {
            let connected = self.network.peers().await;
            if !known.is_some_and(|known| connected.iter().any(|other| other.peer == known)) {
                match self.network.connect(address.clone()).await {
                    Ok(peer) => {
                        self.answered.send_replace(Some(address.clone()));
                        (known, pause) = (Some(peer), DIAL_PAUSES.0);
                    }
                    Err(error) => {
                        tracing::debug!(%address, %error, "not connected");
                        pause = (pause * 2).min(DIAL_PAUSES.1);
                    }
                }
            }
            // Never all at once.
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.75..1.25))).await;
        }
    }

    /// Follows a connected peer for as long as it can be followed. `others` are addresses of peers that may help to catch
    /// up.
    pub(super) async fn follow_peer(&self, peer: PeerId, others: &[Multiaddr]) -> anyhow::Result<()> {
        let id = self.ledger.network();
        self.upstream.send_replace(Some(peer));
        let mut council = self.ledger.roster().next().clone();
        self.catch_up_beside(peer, others).await?;
        let from = self.ledger.size();
        let mut stream = self.network.follow(peer, id, from).await?;
        tracing::info!(%peer, from, "following");
        let mut behind = 0;
        // The newest checkpoint that is over blocks that have not come yet.
        let mut ahead: Option<(u64, Vec<u8>)> = None;
        loop {
            let followed = match timeout(ASK_EVERY, stream.next()).await {
                Ok(followed) => followed?,
                Err(_) => {
                    behind = if self.is_behind(peer).await? { behind + 1 } else { 0 };
                    if behind >= BEHIND {
                        bail!("it says that it has more blocks, but sends none");
                    }
                    continue;
                }
            };
            match followed {
                None => return Ok(()),
                Some(Followed::Batch(batch)) => {
                    behind = 0;
                    self.take_batch(peer, batch).await?;
                    if let Some((_, note)) = ahead.take_if(|(size, _)| *size <= self.ledger.size()) {
                        ahead = self.take_checkpoint(peer, note).await?;
                    }
                    // Whoever cosigns what is far ahead may be known only now.
                    if *self.ledger.roster().next() != council {
                        council = self.ledger.roster().next().clone();
                        self.catch_up_beside(peer, others).await?;
                        if self.ledger.size() > stream.position() {
                            stream = self.network.follow(peer, id, self.ledger.size()).await?;
                        }
                    }
                }
                Some(Followed::Checkpoint(note)) => {
                    if let Some(newer) = self.take_checkpoint(peer, note).await? {
                        ahead = Some(newer);
                    }
                }
            }
        }
    }

    /// Catches up for as long as the upstream is there: registrations go to it meanwhile.
    async fn catch_up_beside(&self, upstream: PeerId, others: &[Multiaddr]) -> anyhow::Result<()> {
        tokio::select! {
            caught_up = self.catch_up(others) => caught_up,
            () = self.leaves(upstream) => bail!("its connection is gone"),
        }
    }

    /// Waits until a peer is not connected any more.
    async fn leaves(&self, peer: PeerId) {
        let mut changes = self.network.watch_peers();
        loop {
            let connected = self.network.peers().await;
            if !connected.iter().any(|known| known.peer == peer) || changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn take_batch(&self, peer: PeerId, batch: Batch) -> anyhow::Result<()> {
        let batch = SealedBatch { first: batch.first, blocks: batch.blocks, seal: batch.seal };
        if let Err(error) = self.append(batch).await? {
            if error.is_invalid_batch() {
                self.network.penalize(peer, Offence::BadBatch).await;
            }
            return Err(error).context("a batch of the peer cannot be appended");
        }
        Ok(())
    }

    /// Keeps a checkpoint, or gives it back when it is over blocks that are not here yet.
    async fn take_checkpoint(&self, peer: PeerId, note: Vec<u8>) -> anyhow::Result<Option<(u64, Vec<u8>)>> {
        let ledger = self.ledger.clone();
        let judging = tokio::task::spawn_blocking(move || (checkpoints::judge(&ledger, &note), note));
        let (judged, note) = judging.await?;
        match judged {
            Ok(Judged::Good | Judged::Old) => Ok(None),
            Ok(Judged::Ahead(size)) => Ok(Some((size, note))),
            Ok(Judged::Bad(offence, why)) => {
                tracing::warn!(%peer, why, "the peer sends a false checkpoint");
                self.network.penalize(peer, offence).await;
                bail!("it sends a false checkpoint: {why}");
            }
            Ok(Judged::Fork(why)) => {
                self.forked(peer, &why).await;
                bail!(why);
            }
            // The ledger is as good as before: the next one is tried.
            Err(error) => {
                tracing::error!(%error, "the newest checkpoint was not kept");
                Ok(None)
            }
        }
    }

    /// A quorum has cosigned two histories: no computer can settle that.
    pub(super) async fn forked(&self, peer: PeerId, why: &str) {
        tracing::error!(%peer, why, "THE NETWORK HAS FORKED, or somebody deceives this peer");
        self.status.send_modify(|status| status.alarm = Some(why.to_owned()));
        self.network.penalize(peer, Offence::ForkedCheckpoint).await;
    }

    /// Whether a connected peer, this one or another, says that it has more. One that does not answer at all is an
    /// error: it hangs.
    async fn is_behind(&self, upstream: PeerId) -> anyhow::Result<bool> {
        let mut most = self.network.ledger_info(upstream).await.context("the peer went silent")?.size;
        for other in self.network.peers().await.into_iter().take(OTHERS) {
            if let Ok(info) = self.network.ledger_info(other.peer).await {
                most = most.max(info.size);
            }
        }
        Ok(most > self.ledger.size())
    }

    /// The outer error is ours, the inner one the batch's.
    pub(super) async fn append(&self, batch: SealedBatch) -> anyhow::Result<Result<(), AppendError>> {
        let appender = match &self.council {
            Some(council) => Appender::Council(council.clone()),
            None => Appender::Ledger(self.ledger.clone()),
        };
        appender.append(batch).await
    }
}
