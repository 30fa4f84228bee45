//! Asks peers as the plan says.

use std::{collections::HashMap, sync::Arc, time::Instant};

use antiphon_proto::{
    NetworkId,
    limits::TILE_WIDTH,
    wire::{Bundle, StreamErrorCode},
};
use libp2p::PeerId;
use tokio::{
    task::{AbortHandle, JoinSet},
    time,
};

use super::plan::{Assignment, Failure, Limits, Plan};
use crate::{error::RequestError, network::Network, score::Offence};

/// Says whether a bundle is what the log holds at this index (in bundles of 256 blocks). It runs on threads for work
/// that takes long, for several bundles at once and in any order.
pub type Check = Arc<dyn Fn(u64, &Bundle) -> bool + Send + Sync>;

/// What is to be caught up on.
#[derive(Debug, Clone)]
pub struct Goal {
    /// The network.
    pub network: NetworkId,
    /// First block that is wanted; the bundle that holds it comes whole.
    pub start: u64,
    /// Blocks of the ledger up to which to go: the size of a checkpoint.
    pub target: u64,
    /// How much at once.
    pub limits: Limits,
}

/// A catch-up cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CatchUpError {
    /// Nobody is left who has the next bundle. More peers may be added, and then it goes on.
    #[error("no peer is left that has block {position}")]
    NoPeers {
        /// First block that is missing.
        position: u64,
    },
}

enum Answer {
    Good { bundle: Bundle, bytes: u64, peer: PeerId },
    Failed(Failure),
}

struct Answered {
    id: u64,
    at: Instant,
    answer: Answer,
}

/// Bundles in order. Requests go on while the caller works on a bundle; dropping this ends them.
pub struct CatchUp {
    network: Network,
    goal: Goal,
    check: Check,
    plan: Plan<PeerId, (PeerId, Bundle)>,
    /// Who sent what was given out last.
    sender: Option<PeerId>,
    /// Bounded by the plan.
    requests: JoinSet<Answered>,
    handles: HashMap<u64, AbortHandle>,
}

impl CatchUp {
    pub(crate) fn new(network: Network, goal: Goal, check: Check) -> Self {
        let plan = Plan::new(goal.start, goal.target, goal.limits.clone());
        Self { network, goal, check, plan, sender: None, requests: JoinSet::new(), handles: HashMap::new() }
    }

    /// Adds a connected peer to ask.
    pub fn add(&mut self, peer: PeerId) {
        self.plan.add(peer);
    }

    /// First block that is missing.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.goal.start.max(self.plan.position().saturating_mul(u64::from(TILE_WIDTH)))
    }

    /// Who sent the bundle that [`Self::next`] gave last: what no check of a single bundle can tell may be wrong still.
    #[must_use]
    pub fn sender(&self) -> Option<PeerId> {
        self.sender
    }

    /// The next bundle and its index; none when the goal is reached. Can be dropped at any time and called again,
    /// nothing is lost.
    ///
    /// # Errors
    /// [`CatchUpError`].
    pub async fn next(&mut self) -> Result<Option<(u64, Bundle)>, CatchUpError> {
        loop {
            // Answers that came while the caller had other things to do are in time.
            while let Some(answered) = self.requests.try_join_next() {
                self.take(answered.ok());
            }
            let now = Instant::now();
            self.plan.expire(now);
            let next = self.plan.take();
            self.ask(now);
            if let Some((index, (sender, bundle))) = next {
                self.sender = Some(sender);
                return Ok(Some((index, bundle)));
            }
            if self.plan.is_done() {
                return Ok(None);
            }
            if self.plan.is_stuck() {
                return Err(CatchUpError::NoPeers { position: self.position() });
            }
            let wake = self.plan.next_wake(now);
            let sleep = async {
                match wake {
                    Some(until) => time::sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(answered) = self.requests.join_next() => self.take(answered.ok()),
                () = sleep => {}
            }
        }
    }

    fn ask(&mut self, now: Instant) {
        while let Some(assignment) = self.plan.next_request(now) {
            let work = request(self.network.clone(), self.goal.network, assignment, self.check.clone());
            self.handles.insert(assignment.id, self.requests.spawn(work));
        }
        while let Some(id) = self.plan.next_cancelled() {
            if let Some(handle) = self.handles.remove(&id) {
                handle.abort();
            }
        }
    }

    fn take(&mut self, answered: Option<Answered>) {
        // None: it was aborted.
        let Some(Answered { id, at, answer }) = answered else { return };
        self.handles.remove(&id);
        match answer {
            Answer::Good { bundle, bytes, peer } => {
                self.plan.done(id, (peer, bundle), bytes, at);
            }
            Answer::Failed(failure) => self.plan.failed(id, failure, at),
        }
    }
}

impl std::fmt::Debug for CatchUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CatchUp").field("goal", &self.goal).field("position", &self.position()).finish()
    }
}

async fn request(network: Network, id: NetworkId, assignment: Assignment<PeerId>, check: Check) -> Answered {
    let Assignment { id: request, peer, index, width } = assignment;
    let asked = network.bundle(peer, id, index, width).await;
    let at = Instant::now();
    let answer = match asked {
        Ok(bundle) => verify(&network, peer, index, bundle, check).await,
        Err(error) => {
            tracing::debug!(%peer, index, %error, "no bundle");
            Answer::Failed(failure(&error))
        }
    };
    Answered { id: request, at, answer }
}

async fn verify(network: &Network, peer: PeerId, index: u64, bundle: Bundle, check: Check) -> Answer {
    let seals: usize = bundle.seals.iter().map(|seal| seal.seal.len()).sum();
    let bytes = (bundle.entries.len() + seals) as u64;
    let checked = tokio::task::spawn_blocking(move || check(index, &bundle).then_some(bundle)).await;
    match checked {
        Ok(Some(bundle)) => Answer::Good { bundle, bytes, peer },
        Ok(None) => {
            tracing::warn!(%peer, index, "a peer sends a bundle that is not the log's");
            network.penalize(peer, Offence::BadBundle).await;
            Answer::Failed(Failure::Lost)
        }
        // The check itself failed, which is not the peer's fault.
        Err(error) => {
            tracing::error!(%error, "checking a bundle failed");
            Answer::Failed(Failure::Passing)
        }
    }
}

/// What a failed request says about the peer.
fn failure(error: &RequestError) -> Failure {
    match error {
        RequestError::Refused { code: StreamErrorCode::NotFound, .. } => Failure::Missing,
        RequestError::Refused {
            code: StreamErrorCode::Busy | StreamErrorCode::Internal | StreamErrorCode::Gone,
            ..
        }
        | RequestError::Timeout { .. }
        | RequestError::Closed { .. } => Failure::Passing,
        RequestError::Refused { .. }
        | RequestError::NotConnected(_)
        | RequestError::Unsupported(_)
        | RequestError::Malformed(_)
        | RequestError::Invalid(_)
        | RequestError::Shutdown => Failure::Lost,
    }
}
