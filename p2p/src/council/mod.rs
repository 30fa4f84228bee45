//! `/antiphon/council/1`: direct streams among the members of a council.
//!
//! **Participants.** Nodes that speak for a member: each shows a binding, in which the member's key signs the node's
//! peer id. The connection proves the peer id itself, so a binding can be shown by nobody else. Of two nodes that
//! claim the same member, the one with the later binding is believed.
//!
//! **Streams.** Each member opens two streams to each other one and sends on them, and only there: votes on the one,
//! bodies on the other, so that a megabyte never delays a vote. The opener sends `CouncilHello`, the other side answers
//! `CouncilWelcome` (its own binding, or why not) and then only reads. Every further message is a `CouncilFrame`. Vote
//! streams also carry heartbeats, twice a second, and rosters: the bindings and addresses of members that the sender
//! knows, by which a full mesh grows from one address. When the peers get a better connection, a stream is closed in
//! order at the end of a message and goes on there.
//!
//! Addresses in rosters are hints that nobody signs: a dial proves the peer id, so a false one costs a dial.
//!
//! **Goals.** Order within a class. Sending never waits: when a member takes less than it is sent, the oldest messages
//! to it are dropped. Receiving is bounded: who does not read is sent less, by the flow control of the streams.
//!
//! **Non-goals.** What is said is opaque here, and may get lost: when a stream breaks, when a queue is full, when nobody
//! is connected. Agreement that needs it says it again.
//!
//! [`roster`], [`dialing`] and [`outbox`] are pure; [`task`] owns all state; [`link`] and [`reader`] are the two ends of
//! a stream, each a task of its own.

mod dialing;
mod link;
mod outbox;
mod reader;
mod roster;
mod task;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use antiphon_proto::{
    NetworkId, PublicKey,
    binding::BindingError,
    limits,
    wire::{Binding, CouncilClass},
};
use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, watch};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    config::Timeouts,
    metrics::{Labelled, Metrics},
    streams::Opener,
    swarm::Command,
};
use outbox::Outbox;
pub(crate) use reader::{Gate, accept};

/// Votes that wait for their reader: as many as a member may have queued for us.
const VOTES: usize = 1_024;
/// Bodies that wait for their reader: 9 MB. Beyond these each member's stream holds one, and the rest stays with it.
const BODIES: usize = 8;
/// Votes that are handed out in a row while bodies wait.
const VOTES_IN_A_ROW: u32 = 64;
/// Notes of the streams that wait for the council's task.
const NOTES: usize = 256;

/// What is needed to take part.
#[derive(Debug, Clone)]
pub struct CouncilConfig {
    /// The network whose council it is.
    pub network: NetworkId,
    /// The own member's word that this node speaks for it. Its time should be that of the start, so that it replaces
    /// what another node of the same member said before.
    pub binding: Binding,
    /// The members, kept up to date. While the own one is not among them, this peer is connected to nobody.
    pub members: watch::Receiver<Vec<PublicKey>>,
}

/// Taking part is not possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CouncilError {
    /// It takes part already, or did.
    #[error("this network already takes part in a council")]
    Already,
    /// The binding is none.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// The binding is for another node.
    #[error("the binding is not for this node's peer id")]
    OtherPeer,
}

/// What a message is, and so how long it may be, how many wait, and what it may be delayed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// At most `limits::COUNCIL_VOTE_BYTES`; 1,024 wait for a slow member.
    Vote,
    /// At most `limits::COUNCIL_MESSAGE_BYTES`; 8 MiB wait for a slow member.
    Body,
}

impl Class {
    /// Bytes of a message.
    #[must_use]
    pub fn limit(self) -> usize {
        match self {
            Self::Vote => limits::COUNCIL_VOTE_BYTES,
            Self::Body => limits::COUNCIL_MESSAGE_BYTES,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Vote => "vote",
            Self::Body => "body",
        }
    }

    fn wire(self) -> CouncilClass {
        match self {
            Self::Vote => CouncilClass::Vote,
            Self::Body => CouncilClass::Body,
        }
    }

    fn of(wire: CouncilClass) -> Self {
        match wire {
            CouncilClass::Vote => Self::Vote,
            CouncilClass::Body => Self::Body,
        }
    }
}

/// What the council's network tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CouncilEvent {
    /// Messages go both ways from now on. What was sent before is lost.
    Connected(PublicKey),
    /// The member is gone, or no member any more.
    Disconnected(PublicKey),
    /// A member said something. It may come a moment before the member's [`Self::Connected`].
    Message {
        /// Who.
        from: PublicKey,
        /// What.
        message: Bytes,
    },
}

/// A connected member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberInfo {
    /// Who.
    pub key: PublicKey,
    /// The node that speaks for it.
    pub peer: PeerId,
    /// Its address as seen from here, once known.
    pub addr: Option<Multiaddr>,
    /// Last round trip time, once known.
    pub rtt: Option<Duration>,
}

/// A message that was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Too long for its class.
    #[error("a message of {got} bytes is longer than the {limit} of its class")]
    TooLong {
        /// Its length.
        got: usize,
        /// What is allowed.
        limit: usize,
    },
    /// Not a member, or not connected now.
    #[error("this member is not connected")]
    NotConnected,
}

/// What the sending handles and the task share; every lock is held for moments only.
#[derive(Debug)]
struct Shared {
    /// Queues of the members that take messages now.
    outboxes: Mutex<HashMap<PublicKey, Arc<Outbox>>>,
    connected: Mutex<Vec<MemberInfo>>,
    metrics: Metrics,
}

/// Sends to members. Cloning gives another handle of the same.
#[derive(Debug, Clone)]
pub struct CouncilSender(Arc<Shared>);

impl CouncilSender {
    /// Queues a message for one member. Never waits: when the member takes less than it is sent, the oldest of the
    /// class are dropped.
    ///
    /// # Errors
    /// [`SendError`]; nothing was queued.
    pub fn send(&self, to: PublicKey, class: Class, message: Bytes) -> Result<(), SendError> {
        check_length(class, &message)?;
        let outbox = lock(&self.0.outboxes).get(&to).cloned().ok_or(SendError::NotConnected)?;
        self.queue(&outbox, class, message);
        Ok(())
    }

    /// Queues a message for every connected member, and says for how many. The bytes are shared, not copied.
    ///
    /// # Errors
    /// [`SendError::TooLong`]; nothing was queued.
    pub fn broadcast(&self, class: Class, message: &Bytes) -> Result<usize, SendError> {
        check_length(class, message)?;
        let outboxes: Vec<_> = lock(&self.0.outboxes).values().cloned().collect();
        for outbox in &outboxes {
            self.queue(outbox, class, message.clone());
        }
        Ok(outboxes.len())
    }

    /// The connected members, by key.
    #[must_use]
    pub fn connected(&self) -> Vec<MemberInfo> {
        lock(&self.0.connected).clone()
    }

    fn queue(&self, outbox: &Outbox, class: Class, message: Bytes) {
        let dropped = outbox.push(class, message);
        if dropped > 0 {
            let kind = class.name();
            self.0.metrics.council_dropped.get_or_create(&Labelled { kind }).inc_by(dropped as u64);
        }
    }
}

fn check_length(class: Class, message: &Bytes) -> Result<(), SendError> {
    let (got, limit) = (message.len(), class.limit());
    if got > limit { Err(SendError::TooLong { got, limit }) } else { Ok(()) }
}

/// What members say. Dropping it ends this peer's part in the council.
#[derive(Debug)]
pub struct CouncilEvents {
    /// Connected members, each with the number of its session: what changes is told once it is read.
    sessions: watch::Receiver<BTreeMap<PublicKey, u64>>,
    told: BTreeMap<PublicKey, u64>,
    /// At most two for each member.
    pending: VecDeque<CouncilEvent>,
    votes: mpsc::Receiver<(PublicKey, Bytes)>,
    bodies: mpsc::Receiver<(PublicKey, Bytes)>,
    votes_in_a_row: u32,
    _ends: DropGuard,
}

impl CouncilEvents {
    /// The next event: who comes and goes first, then votes, then bodies. None when the network is shut down. Can be
    /// dropped at any time and called again, nothing is lost.
    pub async fn recv(&mut self) -> Option<CouncilEvent> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            if self.votes_in_a_row >= VOTES_IN_A_ROW {
                self.votes_in_a_row = 0;
                if let Ok((from, message)) = self.bodies.try_recv() {
                    return Some(CouncilEvent::Message { from, message });
                }
            }
            tokio::select! {
                biased;
                changed = self.sessions.changed() => {
                    changed.ok()?;
                    self.compare();
                }
                Some((from, message)) = self.votes.recv() => {
                    self.votes_in_a_row += 1;
                    return Some(CouncilEvent::Message { from, message });
                }
                Some((from, message)) = self.bodies.recv() => {
                    self.votes_in_a_row = 0;
                    return Some(CouncilEvent::Message { from, message });
                }
            }
        }
    }

    fn compare(&mut self) {
        let now = self.sessions.borrow_and_update().clone();
        for (key, session) in &self.told {
            if now.get(key) != Some(session) {
                self.pending.push_back(CouncilEvent::Disconnected(*key));
            }
        }
        for (key, session) in &now {
            if self.told.get(key) != Some(session) {
                self.pending.push_back(CouncilEvent::Connected(*key));
            }
        }
        self.told = now;
    }
}

/// What the council needs of the network.
#[derive(Debug, Clone)]
pub(crate) struct Shell {
    pub(crate) local: PeerId,
    pub(crate) opener: Opener,
    /// Weak: taking part alone does not keep the network alive.
    pub(crate) commands: mpsc::WeakSender<Command>,
    pub(crate) changes: watch::Receiver<u64>,
    pub(crate) timeouts: Timeouts,
    pub(crate) metrics: Metrics,
    /// Ends the council and everything in it.
    pub(crate) closed: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// Begins to take part.
pub(crate) fn start(
    shell: Shell,
    config: CouncilConfig,
    gate: &OnceLock<Gate>,
) -> Result<(CouncilSender, CouncilEvents), CouncilError> {
    let member = config.binding.check(&config.network)?;
    if config.binding.peer != shell.local.to_bytes() {
        return Err(CouncilError::OtherPeer);
    }
    let (notes, receiver) = mpsc::channel(NOTES);
    let set = gate.set(Gate { network: config.network, notes: notes.clone() });
    set.map_err(|_| CouncilError::Already)?;
    let (votes, vote_receiver) = mpsc::channel(VOTES);
    let (bodies, body_receiver) = mpsc::channel(BODIES);
    let (sessions, session_receiver) = watch::channel(BTreeMap::new());
    let shared = Arc::new(Shared {
        outboxes: Mutex::default(),
        connected: Mutex::default(),
        metrics: shell.metrics.clone(),
    });
    let events = CouncilEvents {
        sessions: session_receiver,
        told: BTreeMap::new(),
        pending: VecDeque::new(),
        votes: vote_receiver,
        bodies: body_receiver,
        votes_in_a_row: 0,
        _ends: shell.closed.clone().drop_guard(),
    };
    let tasks = shell.tasks.clone();
    let delivery = reader::Delivery { votes, bodies };
    let task = task::Council::new(shell, config, member, shared.clone(), delivery, notes, sessions);
    tasks.spawn(task.run(receiver));
    Ok((CouncilSender(shared), events))
}

// Whole at every unlock, so a panic elsewhere while it was locked changes nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
