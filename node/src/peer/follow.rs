//! Staying up to date: joining a network through a known peer, then following its ledger.

use std::{collections::VecDeque, time::Duration};

use antiphon_ledger::{AppendError, Ledger, SealedBatch};
use antiphon_p2p::{Followed, Network, Offence};
use antiphon_proto::{
    NetworkId,
    wire::{Batch, Genesis},
};
use anyhow::{Context, bail};
use libp2p::{Multiaddr, PeerId};
use tokio::{sync::watch, time::timeout};

use tokio_util::sync::CancellationToken;

use crate::failure::{Failure, Kind};

/// A stream that brings nothing for this long is looked into.
const ASK_EVERY: Duration = Duration::from_secs(30);
/// So often in a row another peer must be found to have more before this one is left.
const BEHIND: u32 = 3;
/// Other connected peers that are asked.
const OTHERS: usize = 8;
/// First and longest pause between attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// A peer that was followed for this long was worth it: the next pause is short again.
const WORTH_IT: Duration = Duration::from_secs(10);

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

/// Follows one of `addresses` after the other until cancelled.
pub struct Follower {
    /// The network.
    pub network: Network,
    /// What grows.
    pub ledger: Ledger,
    /// Whom registrations are handed to: whoever is followed.
    pub upstream: watch::Sender<Option<PeerId>>,
    /// Addresses that answered, for the next start.
    pub answered: watch::Sender<Option<Multiaddr>>,
    /// Ends it.
    pub cancel: CancellationToken,
}

impl Follower {
    /// Runs until cancelled.
    pub async fn run(self, mut addresses: VecDeque<Multiaddr>) {
        let mut pause = PAUSES.0;
        while let Some(address) = addresses.front().cloned() {
            let started = tokio::time::Instant::now();
            let ended = tokio::select! {
                () = self.cancel.cancelled() => return,
                ended = self.follow(&address) => ended,
            };
            self.upstream.send_replace(None);
            match ended {
                Ok(()) => tracing::info!(%address, "the peer ended the stream"),
                Err(error) => {
                    tracing::warn!(%address, error = format!("{error:#}"), "following a peer failed")
                }
            }
            addresses.rotate_left(1);
            pause = if started.elapsed() > WORTH_IT { PAUSES.0 } else { (pause * 2).min(PAUSES.1) };
            tokio::select! {
                () = self.cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn follow(&self, address: &Multiaddr) -> anyhow::Result<()> {
        let id = self.ledger.network();
        let (peer, _) = introduce(&self.network, address, Some(id)).await?;
        self.answered.send_replace(Some(address.clone()));
        let from = self.ledger.size();
        let mut stream = self.network.follow(peer, id, from).await?;
        tracing::info!(%peer, from, "following");
        self.upstream.send_replace(Some(peer));
        let mut behind = 0;
        loop {
            let batch = match timeout(ASK_EVERY, stream.next()).await {
                Ok(followed) => match followed? {
                    Some(Followed::Batch(batch)) => batch,
                    // Each batch comes with a proof of its own.
                    Some(Followed::Checkpoint(_)) => continue,
                    None => return Ok(()),
                },
                Err(_) => {
                    behind = if self.is_behind(peer).await? { behind + 1 } else { 0 };
                    if behind >= BEHIND {
                        bail!("it says that it has more blocks, but sends none");
                    }
                    continue;
                }
            };
            behind = 0;
            if let Err(error) = self.append(batch).await? {
                if error.is_invalid_batch() {
                    self.network.penalize(peer, Offence::BadBatch).await;
                }
                return Err(error).context("a batch of the peer cannot be appended");
            }
        }
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
    async fn append(&self, batch: Batch) -> anyhow::Result<Result<(), AppendError>> {
        let ledger = self.ledger.clone();
        let batch = SealedBatch { first: batch.first, blocks: batch.blocks, seal: batch.seal };
        let appended = tokio::task::spawn_blocking(move || ledger.append(&batch)).await?;
        Ok(appended.map(|_| ()))
    }
}
