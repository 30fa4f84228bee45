//! Getting a registration ordered, without knowing by whom.

use antiphon_ledger::sequencer::{Answer, Sequencer};
use antiphon_p2p::Network;
use antiphon_proto::{
    NetworkId,
    wire::{Refused, RegisterRequest, Registration, register_reply::Body},
};
use futures::future::BoxFuture;
use libp2p::PeerId;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};

/// Registrations on their way to one peer at a time: what it grants to one peer.
const REMOTE_IN_FLIGHT: usize = 16;

/// What became of a registration.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// In the ledger, durably, at this index.
    Accepted {
        /// Ledger index.
        index: u64,
        /// Batch.
        height: u64,
    },
    /// A receipt: on the disk of a member of the council, for the next settlement.
    Kept,
    /// Never, as it is.
    Refused(Refused),
    /// Not decided: ask again later.
    Unavailable(String),
}

/// Where registrations go: to the sequencer of this process, or over the network towards one.
pub trait Orders: Send + Sync {
    /// Hands a registration over; the answer comes when it is durable or refused. `hops` is the number of peers that
    /// have passed it on.
    fn submit(&self, registration: Registration, hops: u32) -> BoxFuture<'static, Verdict>;
}

/// A sequencer in this process.
pub struct Local(pub Arc<dyn Sequencer>);

impl Orders for Local {
    fn submit(&self, registration: Registration, _hops: u32) -> BoxFuture<'static, Verdict> {
        let submission = self.0.submit(registration);
        Box::pin(async move {
            match submission.await {
                Answer::Accepted { index, height } => Verdict::Accepted { index, height },
                Answer::Kept => Verdict::Kept,
                Answer::Refused(refusal) => Verdict::Refused(refusal.to_wire()),
                Answer::Unavailable(reason) => Verdict::Unavailable(reason),
            }
        })
    }
}

/// The peer that this one follows; it orders or passes on.
pub struct Remote {
    network: Network,
    id: NetworkId,
    upstream: watch::Receiver<Option<PeerId>>,
    turns: Arc<Semaphore>,
}

impl Remote {
    /// Sends to whoever `upstream` names at the time.
    #[must_use]
    pub fn new(network: Network, id: NetworkId, upstream: watch::Receiver<Option<PeerId>>) -> Self {
        Self { network, id, upstream, turns: Arc::new(Semaphore::new(REMOTE_IN_FLIGHT)) }
    }
}

impl Orders for Remote {
    fn submit(&self, registration: Registration, hops: u32) -> BoxFuture<'static, Verdict> {
        let (network, mut upstream, turns) =
            (self.network.clone(), self.upstream.clone(), self.turns.clone());
        let request = RegisterRequest {
            network: self.id.0.to_vec(),
            registration: Some(registration),
            hops: hops.saturating_add(1),
        };
        Box::pin(async move {
            let Ok(_turn) = turns.acquire().await else { return Verdict::Unavailable("stopping".into()) };
            let Some(peer) = *upstream.borrow_and_update() else {
                return Verdict::Unavailable("no peer of the network is connected".into());
            };
            let answer = tokio::select! {
                answer = network.register(peer, request) => answer,
                // It may never answer; the next one is asked at once.
                _ = upstream.wait_for(|now| *now != Some(peer)) => {
                    return Verdict::Unavailable("the peer that was asked is not followed any more".into());
                }
            };
            match answer.map(|reply| reply.body) {
                Ok(Some(Body::Accepted(accepted))) => {
                    Verdict::Accepted { index: accepted.index, height: accepted.height }
                }
                Ok(Some(Body::Kept(_))) => Verdict::Kept,
                Ok(Some(Body::Refused(refused))) => Verdict::Refused(refused),
                Ok(Some(Body::Unavailable(error))) => Verdict::Unavailable(error.detail),
                Ok(None) => Verdict::Unavailable("the peer gave an empty answer".into()),
                Err(error) => Verdict::Unavailable(error.to_string()),
            }
        })
    }
}

/// Nobody: the network is not joined in this run.
pub struct Offline;

impl Orders for Offline {
    fn submit(&self, _registration: Registration, _hops: u32) -> BoxFuture<'static, Verdict> {
        Box::pin(async { Verdict::Unavailable("not connected; registered when the peer runs".into()) })
    }
}
