//! Following whoever is there: mini-nodes before other peers, connected ones before addresses. When the one that is
//! followed fails, the next one takes its place at once.

use std::time::Duration;

use antiphon_p2p::Network;
use antiphon_proto::wire::Genesis;
use futures::{StreamExt, stream::FuturesUnordered};
use libp2p::{Multiaddr, PeerId};
use tokio::time::{Instant, sleep, timeout};

use super::{
    follow::{self, Follower},
    upstream::{Rank, Upstreams},
};

/// A peer that was followed for this long was worth it: it is tried again soon, and pauses are short again.
const WORTH_IT: Duration = Duration::from_secs(10);
/// Connected peers that are asked at once whether they can be followed.
const ASKED: usize = 8;
/// How long they have for the answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// When an address has not answered after this, the next one is tried beside it.
const HEAD_START: Duration = Duration::from_secs(2);
/// While one that is no mini-node is followed, it is looked this often whether one is connected.
const BETTER_EVERY: Duration = Duration::from_secs(5);
/// And the addresses that were named are tried this often: peers that follow one another in a circle would else stay among
/// themselves for ever.
const NAMED_EVERY: Duration = Duration::from_secs(30);

impl Follower {
    /// Follows the best peer that can be found, for as long as that goes; waits a little when there is none.
    pub(super) async fn follow_best(&self, addresses: &[Multiaddr], upstreams: &mut Upstreams) {
        let Some(peer) = self.find(addresses, upstreams).await else {
            let others = !self.network.peers().await.is_empty();
            let pause = upstreams.pause(others);
            // Whoever connects meanwhile is asked at once.
            let _ = timeout(pause, self.somebody(upstreams)).await;
            return;
        };
        let started = Instant::now();
        let ended = tokio::select! {
            ended = self.follow_peer(peer, addresses) => Some(ended),
            better = self.better_than(peer, addresses, upstreams) => {
                tracing::info!(%peer, ?better, "a better one to follow is there");
                if let Some(better) = better {
                    upstreams.answered(better);
                }
                None
            }
        };
        match ended {
            None => return,
            Some(Ok(())) => tracing::info!(%peer, "the peer ended the stream"),
            Some(Err(error)) => {
                tracing::warn!(%peer, error = format!("{error:#}"), "following a peer failed");
            }
        }
        upstreams.failed(peer, started.elapsed() >= WORTH_IT, now());
    }

    /// Waits until somebody connects who was not tried a moment ago.
    async fn somebody(&self, upstreams: &Upstreams) {
        let mut changes = self.network.watch_peers();
        loop {
            let connected = self.network.peers().await;
            if upstreams.candidates(&connected, now()).iter().any(|group| !group.is_empty())
                || changes.changed().await.is_err()
            {
                return;
            }
        }
    }

    /// A peer of the network that has what this one has, at least: connected ones first, then the addresses.
    async fn find(&self, addresses: &[Multiaddr], upstreams: &mut Upstreams) -> Option<PeerId> {
        if let Some(peer) = self.find_connected(upstreams).await {
            return Some(peer);
        }
        let began = Instant::now();
        let mut changes = self.network.watch_peers();
        let (mut waiting, mut dials) = (addresses.iter(), FuturesUnordered::new());
        let mut next = true;
        loop {
            if std::mem::take(&mut next)
                && let Some(address) = waiting.next()
            {
                dials.push(self.introduce(address));
            }
            if dials.is_empty() {
                return None;
            }
            tokio::select! {
                Some(answered) = dials.next() => match answered {
                    Some(peer) => {
                        upstreams.answered(peer);
                        if !upstreams.is_avoided(&peer, now()) {
                            return Some(peer);
                        }
                        next = true;
                    }
                    None => next = true,
                },
                () = sleep(HEAD_START), if waiting.len() > 0 => next = true,
                // The addresses have had their time, and somebody else has connected.
                Ok(()) = changes.changed(), if began.elapsed() >= HEAD_START => {
                    if let Some(peer) = self.find_connected(upstreams).await {
                        return Some(peer);
                    }
                }
            }
        }
    }

    async fn introduce(&self, address: &Multiaddr) -> Option<PeerId> {
        match follow::introduce(&self.network, address, Some(self.ledger.network())).await {
            Ok((peer, _)) => {
                self.answered.send_replace(Some(address.clone()));
                Some(peer)
            }
            Err(error) => {
                tracing::warn!(%address, error = format!("{error:#}"), "not to be followed");
                None
            }
        }
    }

    /// The first of the connected peers that says what it must, of those of the best rank.
    async fn find_connected(&self, upstreams: &mut Upstreams) -> Option<PeerId> {
        let connected = self.network.peers().await;
        for group in upstreams.candidates(&connected, now()) {
            let mut asked: FuturesUnordered<_> =
                group.into_iter().take(ASKED).map(|peer| self.can_be_followed(peer)).collect();
            while let Some((peer, can)) = asked.next().await {
                if can {
                    return Some(peer);
                }
                upstreams.failed(peer, false, now());
            }
        }
        None
    }

    /// Whether a peer is of this network and not behind.
    async fn can_be_followed(&self, peer: PeerId) -> (PeerId, bool) {
        let Ok(Ok(info)) = timeout(ANSWER_WITHIN, self.network.ledger_info(peer)).await else {
            return (peer, false);
        };
        let ours =
            Genesis::parse(&info.genesis).map(|genesis| genesis.network_id()) == Ok(self.ledger.network());
        (peer, ours && info.size >= self.ledger.size())
    }

    /// Waits until somebody better than an upstream that is no mini-node is connected; gives who, if it answered at an
    /// address that was named.
    async fn better_than(
        &self,
        upstream: PeerId,
        addresses: &[Multiaddr],
        upstreams: &Upstreams,
    ) -> Option<PeerId> {
        let mut tried = Instant::now();
        loop {
            sleep(BETTER_EVERY).await;
            let connected = self.network.peers().await;
            let own =
                connected.iter().find(|known| known.peer == upstream).map(|known| upstreams.rank(known));
            if own != Some(Rank::Other) {
                continue;
            }
            if !upstreams.candidates(&connected, now())[0].is_empty() {
                return None;
            }
            if tried.elapsed() >= NAMED_EVERY {
                tried = Instant::now();
                if let Some(peer) = reached(&self.network, addresses).await
                    && peer != upstream
                    && !upstreams.is_avoided(&peer, now())
                {
                    return Some(peer);
                }
            }
        }
    }
}

/// Who answers at one of these addresses first.
async fn reached(network: &Network, addresses: &[Multiaddr]) -> Option<PeerId> {
    let mut dials: FuturesUnordered<_> =
        addresses.iter().map(|address| network.connect(address.clone())).collect();
    while let Some(dialled) = dials.next().await {
        if let Ok(peer) = dialled {
            return Some(peer);
        }
    }
    None
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
