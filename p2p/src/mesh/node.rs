//! One mini-node, as seen from here.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

use super::params::{
    ADDRESSES, DIAL_TIMEOUT, FAILURES, IDENTIFY_TIMEOUT, LATELY, PAUSES, REASON_BYTES, REFUSED_PAUSES,
    RESERVE_PAUSES, RESERVE_TIMEOUT, RESTS, SETTLED, SLOW_DIAL,
};
use crate::status::{MiniNode, MiniNodeState, Reservation};

/// What was dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DialTarget {
    /// A peer whose identity is known.
    Peer(PeerId),
    /// An address where whoever answers is welcome.
    Address(Multiaddr),
}

impl From<PeerId> for DialTarget {
    fn from(peer: PeerId) -> Self {
        Self::Peer(peer)
    }
}

impl From<Multiaddr> for DialTarget {
    fn from(address: Multiaddr) -> Self {
        Self::Address(address)
    }
}

/// Why there is no reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReserveFailure {
    /// The relay says no: it is full, or does not relay for this peer.
    Refused(String),
    /// No answer, or the stream broke.
    Failed(String),
}

/// What a peer is, by its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Unknown,
    MiniNode,
    /// It does not relay.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// Not dialled before this, if there is such a time.
    Idle(Option<Instant>),
    Dialling(Instant),
    Connected(Instant),
}

/// Which pauses apply.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pausing {
    /// Multiplies the pause.
    pub(super) jitter: f64,
    /// No pause is longer: set while no mini-node is connected, when failures say nothing about a mini-node.
    pub(super) at_most: Option<Duration>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) peer: Option<PeerId>,
    /// Without the identity at their end; the one that worked last is first. At most [`ADDRESSES`].
    pub(super) addresses: Vec<Multiaddr>,
    pub(super) named: bool,
    /// By which this peer prefers it to others.
    pub(super) weight: u64,
    pub(super) role: Role,
    pub(super) link: Link,
    /// Address of the open connection.
    pub(super) via: Option<Multiaddr>,
    /// It has answered once.
    pub(super) met: bool,
    pub(super) failures: u32,
    pub(super) rests: u32,
    /// The last failure.
    pub(super) failed: Option<Instant>,
    pub(super) rtt: Option<Duration>,
    pub(super) reason: Option<String>,
    /// Until then an old connection is held for dead.
    pub(super) doubted: Option<Instant>,
    /// To be dialled although it is connected.
    pub(super) recheck: bool,
    pub(super) lease: Lease,
}

/// The reservation at one mini-node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lease {
    /// Not asked for before this, if there is such a time. `again`: one was lost, and this relay is asked first.
    None {
        after: Option<Instant>,
        setbacks: u32,
        again: bool,
    },
    Pending {
        since: Instant,
        setbacks: u32,
    },
    Held {
        since: Instant,
        setbacks: u32,
    },
}

impl Lease {
    pub(super) const NEW: Self = Self::None { after: None, setbacks: 0, again: false };

    pub(super) fn is_active(self) -> bool {
        !matches!(self, Self::None { .. })
    }

    fn setbacks(self) -> u32 {
        match self {
            Self::None { setbacks, .. } | Self::Pending { setbacks, .. } | Self::Held { setbacks, .. } => {
                setbacks
            }
        }
    }

    fn status(self) -> Reservation {
        match self {
            Self::None { setbacks: 0, .. } | Self::None { again: true, .. } => Reservation::None,
            Self::None { .. } => Reservation::Refused,
            Self::Pending { .. } => Reservation::Pending,
            Self::Held { .. } => Reservation::Held,
        }
    }
}

impl Node {
    pub(super) fn new(peer: Option<PeerId>, weight: u64) -> Self {
        Self {
            peer,
            addresses: Vec::new(),
            named: false,
            weight,
            role: Role::Unknown,
            link: Link::Idle(None),
            via: None,
            met: false,
            failures: 0,
            rests: 0,
            failed: None,
            rtt: None,
            reason: None,
            doubted: None,
            recheck: false,
            lease: Lease::NEW,
        }
    }

    /// Adds an address that somebody told. What worked stays in front; when there is no room and the mini-node fails,
    /// the last one gives way.
    pub(super) fn add_address(&mut self, address: Multiaddr) {
        if self.addresses.contains(&address) {
            return;
        }
        if self.addresses.len() >= ADDRESSES {
            if self.failures == 0 {
                return;
            }
            self.addresses.pop();
        }
        self.addresses.push(address);
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.link, Link::Connected(_))
    }

    /// Whether it fills one of the places for mini-nodes. One that has not said what it is does so for a while.
    pub(super) fn counts(&self, now: Instant) -> bool {
        match self.link {
            Link::Connected(since) => match self.role {
                Role::MiniNode => true,
                Role::Unknown => now < since + IDENTIFY_TIMEOUT,
                Role::Other => false,
            },
            _ => false,
        }
    }

    /// Whether it is dialled whether or not there is room: the operator wants it, and it is no mini-node, or has
    /// never said that it is one.
    pub(super) fn is_wanted(&self) -> bool {
        self.named && self.role != Role::MiniNode
    }

    pub(super) fn can_dial(&self, now: Instant) -> bool {
        !self.addresses.is_empty()
            && matches!(self.link, Link::Idle(until) if until.is_none_or(|until| until <= now))
    }

    pub(super) fn is_out_of_rotation(&self) -> bool {
        self.failures >= FAILURES
    }

    /// Whether others are to be tried before it.
    pub(super) fn failed_lately(&self, now: Instant) -> bool {
        self.failed.is_some_and(|failed| now < failed + LATELY)
    }

    /// A dial or a connection failed.
    pub(super) fn fail(&mut self, reason: &str, now: Instant, pausing: Pausing) {
        self.failures = self.failures.saturating_add(1);
        self.failed = Some(now);
        let pause = if self.is_out_of_rotation() {
            let pause = doubling(RESTS, self.rests);
            if pausing.at_most.is_none() {
                self.rests = self.rests.saturating_add(1);
            }
            pause
        } else {
            doubling(PAUSES, self.failures.saturating_sub(1))
        };
        self.blame(reason);
        self.pause(pause, now, pausing);
    }

    /// It is not dialled for so long.
    pub(super) fn pause(&mut self, pause: Duration, now: Instant, pausing: Pausing) {
        let pause = pausing.at_most.map_or(pause, |most| pause.min(most));
        self.link = Link::Idle(Some(now + pause.mul_f64(pausing.jitter)));
    }

    pub(super) fn blame(&mut self, reason: &str) {
        let end = (0..=reason.len().min(REASON_BYTES)).rev().find(|end| reason.is_char_boundary(*end));
        self.reason = Some(reason[..end.unwrap_or(0)].to_owned());
    }

    /// The connection stood long enough.
    pub(super) fn settle(&mut self) {
        (self.failures, self.rests, self.failed, self.reason) = (0, 0, None, None);
    }

    /// Pauses and failures are forgotten.
    pub(super) fn forgive(&mut self) {
        (self.failures, self.rests, self.failed) = (0, 0, None);
        if let Link::Idle(until) = &mut self.link {
            *until = None;
        }
    }

    /// The address by which to ask for a reservation: one that others can dial, if there is one.
    pub(super) fn relay_address(&self) -> Option<&Multiaddr> {
        let via = self.via.as_ref().filter(|via| self.addresses.contains(via));
        via.or(self.addresses.first()).or(self.via.as_ref())
    }

    /// Whether to ask it for a reservation.
    pub(super) fn can_reserve(&self, now: Instant) -> bool {
        let free = matches!(self.lease, Lease::None { after, .. } if after.is_none_or(|after| after <= now));
        free && self.is_connected()
            && self.role == Role::MiniNode
            && self.doubted.is_none()
            && self.relay_address().is_some()
    }

    pub(super) fn reserve(&mut self, now: Instant) {
        self.lease = Lease::Pending { since: now, setbacks: self.lease.setbacks() };
    }

    pub(super) fn reserved(&mut self, now: Instant) {
        if !matches!(self.lease, Lease::Held { .. }) {
            self.lease = Lease::Held { since: now, setbacks: self.lease.setbacks() };
        }
    }

    /// A request for a reservation failed.
    pub(super) fn reserve_failed(&mut self, failure: &ReserveFailure, now: Instant, jitter: f64) {
        let (pauses, reason) = match failure {
            ReserveFailure::Refused(reason) => (REFUSED_PAUSES, reason),
            ReserveFailure::Failed(reason) => (RESERVE_PAUSES, reason),
        };
        let setbacks = self.lease.setbacks();
        let after = now + doubling(pauses, setbacks).mul_f64(jitter);
        self.lease = Lease::None { after: Some(after), setbacks: setbacks.saturating_add(1), again: false };
        self.blame(&format!("no reservation: {reason}"));
    }

    /// A reservation ended although the connection lives: asked for again at once, and with pauses if that happens
    /// again soon.
    pub(super) fn reservation_lost(&mut self, now: Instant, jitter: f64) {
        match self.lease {
            Lease::Held { since, setbacks } => {
                let setbacks = if now >= since + SETTLED { 0 } else { setbacks };
                let pause =
                    setbacks.checked_sub(1).map(|times| doubling(RESERVE_PAUSES, times).mul_f64(jitter));
                let after = pause.map(|pause| now + pause);
                self.lease =
                    Lease::None { after, setbacks: setbacks.saturating_add(1), again: setbacks == 0 };
                self.blame("the reservation was lost");
            }
            Lease::Pending { .. } => {
                self.reserve_failed(&ReserveFailure::Failed("it ended".to_owned()), now, jitter);
            }
            Lease::None { .. } => {}
        }
    }

    /// Whether it relays for nobody more, as far as known.
    pub(super) fn refuses(&self) -> bool {
        self.lease.status() == Reservation::Refused
    }

    /// The times after `polled` at which something may change by itself.
    pub(super) fn timers(&self) -> impl Iterator<Item = Instant> + use<> {
        let (first, second) = match self.link {
            Link::Idle(until) => (until, None),
            Link::Dialling(since) => (Some(since + SLOW_DIAL), Some(since + DIAL_TIMEOUT)),
            Link::Connected(since) => (Some(since + SETTLED), Some(since + IDENTIFY_TIMEOUT)),
        };
        let lease = match self.lease {
            Lease::None { after, .. } => after,
            Lease::Pending { since, .. } => Some(since + RESERVE_TIMEOUT),
            Lease::Held { .. } => None,
        };
        [first, second, lease, self.doubted].into_iter().flatten()
    }

    pub(super) fn status(&self, now: Instant) -> MiniNode {
        let state = match self.link {
            Link::Connected(_) => MiniNodeState::Connected,
            Link::Dialling(_) => MiniNodeState::Dialling,
            Link::Idle(Some(until)) if until > now && self.is_out_of_rotation() => {
                MiniNodeState::Resting { until }
            }
            Link::Idle(Some(until)) if until > now => MiniNodeState::Waiting { until },
            Link::Idle(_) => MiniNodeState::Spare,
        };
        let address = self.via.as_ref().or(self.addresses.first());
        MiniNode {
            peer: self.peer,
            address: address.cloned().unwrap_or_else(Multiaddr::empty),
            state,
            failures: self.failures,
            rtt: self.rtt,
            reservation: self.lease.status(),
            reason: self.reason.clone(),
            named: self.named,
            is_mini_node: match self.role {
                Role::Unknown => None,
                Role::MiniNode => Some(true),
                Role::Other => Some(false),
            },
        }
    }
}

/// The first pause, doubled so many times, up to the longest.
fn doubling((first, longest): (Duration, Duration), times: u32) -> Duration {
    first.saturating_mul(2u32.saturating_pow(times.min(16))).min(longest)
}
