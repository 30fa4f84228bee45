//! Which mini-nodes are dialled, and which are asked to relay.
//!
//! A peer keeps a few connections to mini-nodes. Those that the operator named are dialled at once, all of them; others
//! that it hears of fill what room there is, in an order of the peer's own, so that peers spread evenly over the mesh.
//! Nobody is ever disconnected for a better one. Whoever fails three times in a row leaves the rotation, is tried again
//! after rests that grow, and is back when it answers. While peers cannot reach this one, two of the connected
//! mini-nodes relay for it.

use std::{
    cmp::Reverse,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    book::Book,
    node::{DialTarget, Lease, Link, Node, Pausing, ReserveFailure, Role},
    params::{
        ALONE_REST, DIAL_BURST, DIAL_INTERVAL, DIAL_TIMEOUT, DOUBT, EXTRA, GIVE_UP, JITTER, MeshParams,
        NAMED_DIALS, PAUSES, RESERVE_TIMEOUT, RESTS, SETTLED, SLOW_DIAL, SURE,
    },
};
use crate::{reach::is_relayed, status::MiniNode};

/// What is to be done.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Dial, whoever answers if no peer is named. Also comes for a connected peer, after a change of the network: then
    /// a new connection is to be made, whatever the old one seems to be. Each is answered by
    /// [`Mesh::handle_connected`] or [`Mesh::handle_dial_failed`].
    Dial {
        /// Who must answer.
        peer: Option<PeerId>,
        /// Where, without the identity at the end. Not empty.
        addresses: Vec<Multiaddr>,
    },
    /// Ask a connected mini-node to relay. Answered by [`Mesh::handle_reserved`] or
    /// [`Mesh::handle_reservation_failed`], and later perhaps [`Mesh::handle_reservation_lost`].
    Reserve {
        /// Whom.
        peer: PeerId,
        /// Where it can be dialled, without the identity at the end.
        address: Multiaddr,
    },
    /// Give the reservation, or the request for one, up. Not answered; its end must not be told as a loss.
    Release {
        /// Whose.
        peer: PeerId,
    },
}

/// Whether relays are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Not since this time, or since the next poll.
    No(Option<Instant>),
    Yes,
}

/// See the module. Time never goes backwards: an earlier `now` than before counts as the last one.
#[derive(Debug)]
pub(crate) struct Mesh {
    params: MeshParams,
    random: StdRng,
    book: Book,
    need: Need,
    /// To be released.
    released: Vec<PeerId>,
    /// When the next dial would go out if they went out at even distances.
    pace: Instant,
    now: Instant,
    /// Something was told since the last poll that gave nothing.
    changed: bool,
}

impl Mesh {
    /// A peer that knows of nobody. `seed` spreads pauses.
    pub(crate) fn new(local: PeerId, params: MeshParams, seed: u64, now: Instant) -> Self {
        Self {
            params,
            random: StdRng::seed_from_u64(seed),
            book: Book::new(local),
            need: Need::No(None),
            released: Vec::new(),
            pace: now,
            now,
            changed: false,
        }
    }

    /// The operator names a peer, with or without its identity at the end of the address.
    pub(crate) fn name(&mut self, address: &Multiaddr) {
        self.changed = true;
        self.book.name(address, true, self.now);
    }

    /// An address from an earlier run: known, but not dialled beyond the room that there is.
    pub(crate) fn remember(&mut self, address: &Multiaddr) {
        self.changed = true;
        self.book.name(address, false, self.now);
    }

    /// Others tell of a mini-node.
    pub(crate) fn learn(&mut self, peer: PeerId, addresses: &[Multiaddr]) {
        self.changed = true;
        self.book.learn(peer, addresses);
    }

    /// A connection was made, by either side. Tell every one of every peer; those through relays are passed over.
    pub(crate) fn handle_connected(&mut self, peer: PeerId, address: &Multiaddr, now: Instant) {
        self.input(now);
        let now = self.now;
        if is_relayed(address) {
            return;
        }
        if let Some(node) = self.book.connected(peer, address) {
            if !node.is_connected() {
                node.link = Link::Connected(now);
                // What it was says little of what it is now: it may be another program.
                node.lease = Lease::NEW;
            }
            (node.doubted, node.recheck) = (None, false);
        }
    }

    /// A connected peer said what it is, for the first time or anew: a mini-node offers to relay.
    pub(crate) fn handle_identified(&mut self, peer: PeerId, is_mini_node: bool, now: Instant) {
        self.input(now);
        let now = self.now;
        let known = self.book.find(&peer).is_some();
        let node = if known || !is_mini_node { self.book.get(&peer) } else { self.book.welcome(&peer, now) };
        let Some(node) = node.filter(|node| node.is_connected()) else { return };
        node.role = if is_mini_node { Role::MiniNode } else { Role::Other };
        if !is_mini_node {
            node.blame("it is not a mini-node");
            if node.lease.is_active() {
                self.released.push(peer);
            }
            node.lease = Lease::NEW;
        }
    }

    /// The last direct connection with a peer is gone.
    pub(crate) fn handle_disconnected(&mut self, peer: PeerId, now: Instant) {
        self.input(now);
        let (now, jitter) = (self.now, self.jitter());
        self.book.disconnected(&peer);
        let Some(node) = self.book.get(&peer) else { return };
        let Link::Connected(since) = node.link else { return };
        (node.via, node.lease, node.doubted, node.recheck) = (None, Lease::NEW, None, false);
        node.link = Link::Idle(None);
        let (is_useless, stood) = (node.role == Role::Other && !node.named, now >= since + SETTLED);
        let pausing = self.pausing(jitter);
        let Some(node) = self.book.get(&peer) else { return };
        if is_useless {
            node.pause(RESTS.1, now, Pausing { at_most: None, ..pausing });
        } else if stood {
            node.settle();
            node.blame("the connection was lost");
            node.pause(PAUSES.0, now, pausing);
        } else {
            node.fail("the connection was lost soon after it was made", now, pausing);
        }
        if pausing.at_most.is_some() {
            self.shorten_rests();
        }
    }

    /// A dial failed.
    pub(crate) fn handle_dial_failed(&mut self, target: impl Into<DialTarget>, reason: &str, now: Instant) {
        self.input(now);
        let jitter = self.jitter();
        let pausing = self.pausing(jitter);
        let now = self.now;
        let Some(node) = self.book.dialled(&target.into()) else { return };
        match node.link {
            Link::Dialling(_) => node.fail(reason, now, pausing),
            // The dial after a change of the network, or one of somebody else's.
            Link::Connected(_) | Link::Idle(_) => {}
        }
        self.forget_hopeless();
    }

    /// A round trip was measured on a connection.
    pub(crate) fn measure(&mut self, peer: PeerId, rtt: Duration) {
        if let Some(node) = self.book.get(&peer) {
            node.rtt = Some(rtt);
            node.recheck = false;
            self.changed |= node.doubted.take().is_some();
        }
    }

    /// Whether relays are needed, because others cannot reach this peer. Not at first.
    pub(crate) fn set_needs_relay(&mut self, needed: bool) {
        match (needed, self.need) {
            (true, Need::No(_)) => self.need = Need::Yes,
            (false, Need::Yes) => self.need = Need::No(None),
            _ => return,
        }
        self.changed = true;
    }

    /// A mini-node relays for this peer.
    pub(crate) fn handle_reserved(&mut self, peer: PeerId, now: Instant) {
        self.input(now);
        let now = self.now;
        if let Some(node) = self.book.get(&peer).filter(|node| node.is_connected()) {
            node.reserved(now);
        }
    }

    /// A mini-node does not relay for this peer.
    pub(crate) fn handle_reservation_failed(&mut self, peer: PeerId, failure: &ReserveFailure, now: Instant) {
        self.input(now);
        let (now, jitter) = (self.now, self.jitter());
        if let Some(node) = self.book.get(&peer).filter(|node| node.lease.is_active()) {
            node.reserve_failed(failure, now, jitter);
        }
    }

    /// A reservation ended that was not released.
    pub(crate) fn handle_reservation_lost(&mut self, peer: PeerId, now: Instant) {
        self.input(now);
        let (now, jitter) = (self.now, self.jitter());
        if let Some(node) = self.book.get(&peer) {
            node.reservation_lost(now, jitter);
        }
    }

    /// This peer's addresses or routes changed: all pauses are forgotten, what is connected is dialled anew because
    /// its connection may be dead without knowing, and reservations are asked for anew.
    pub(crate) fn network_changed(&mut self, now: Instant) {
        self.input(now);
        let now = self.now;
        for node in &mut self.book.nodes {
            node.forgive();
            if let (true, Some(peer)) = (node.lease.is_active(), node.peer) {
                self.released.push(peer);
            }
            node.lease = Lease::NEW;
            if node.is_connected() && (node.role == Role::MiniNode || node.named) {
                (node.doubted, node.recheck) = (Some(now + DOUBT), !node.addresses.is_empty());
            }
        }
    }

    /// What is to be done next; call until it gives nothing.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Effect> {
        self.now = self.now.max(now);
        self.expire();
        let effect = self.next_release().or_else(|| self.next_reservation()).or_else(|| self.next_dial());
        self.changed &= effect.is_some();
        effect
    }

    /// When to poll again although nothing happens; a time that has passed: at once.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.changed {
            return Some(self.now);
        }
        let need = match self.need {
            Need::No(since) => since.map(|since| since + SURE),
            Need::Yes => None,
        };
        let pace = self.pace.checked_sub(DIAL_INTERVAL * (DIAL_BURST - 1));
        let own = [need, pace].into_iter().flatten();
        // What is due already was dealt with by the last poll, or waits for something else.
        own.chain(self.book.nodes.iter().flat_map(Node::timers)).filter(|at| *at > self.now).min()
    }

    /// What is known, the connected ones first.
    pub(crate) fn status(&self) -> Vec<MiniNode> {
        let mut nodes: Vec<&Node> = self.book.nodes.iter().collect();
        nodes.sort_by_key(|node| (!node.is_connected(), !node.named, node.failures, u64::MAX - node.weight));
        nodes.into_iter().map(|node| node.status(self.now)).collect()
    }

    /// Addresses of mini-nodes worth remembering, with their identities, best first.
    pub(crate) fn addresses(&self) -> Vec<Multiaddr> {
        self.book.addresses()
    }

    fn input(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.changed = true;
    }

    fn jitter(&mut self) -> f64 {
        self.random.random_range(JITTER.0..JITTER.1)
    }

    fn is_alone(&self) -> bool {
        !self.book.nodes.iter().any(|node| node.is_connected() && node.role != Role::Other)
    }

    fn pausing(&self, jitter: f64) -> Pausing {
        Pausing { jitter, at_most: self.is_alone().then_some(ALONE_REST) }
    }

    /// With the last mini-node gone, those that rest may be what helps.
    fn shorten_rests(&mut self) {
        let latest = self.now + ALONE_REST.mul_f64(self.jitter());
        for node in &mut self.book.nodes {
            if let Link::Idle(Some(until)) = &mut node.link {
                *until = (*until).min(latest);
            }
        }
    }

    /// Those that were only heard of are not tried for ever.
    fn forget_hopeless(&mut self) {
        if !self.is_alone() {
            self.book.nodes.retain(|node| node.named || node.rests < GIVE_UP);
        }
    }

    /// What happens by time alone.
    fn expire(&mut self) {
        let (now, jitter) = (self.now, self.jitter());
        let pausing = self.pausing(jitter);
        for node in &mut self.book.nodes {
            match node.link {
                Link::Dialling(since) if now >= since + DIAL_TIMEOUT => node.fail("no answer", now, pausing),
                Link::Connected(since) if now >= since + SETTLED && node.failures > 0 => node.settle(),
                _ => {}
            }
            if node.doubted.is_some_and(|until| until <= now) {
                (node.doubted, node.recheck) = (None, false);
            }
            if let (Lease::Pending { since, .. }, Some(peer)) = (node.lease, node.peer)
                && now >= since + RESERVE_TIMEOUT
            {
                node.reserve_failed(&ReserveFailure::Failed("no answer".to_owned()), now, jitter);
                self.released.push(peer);
            }
        }
        match self.need {
            Need::No(None) => self.need = Need::No(Some(now)),
            Need::No(Some(since)) if now >= since + SURE => self.release_all(),
            _ => {}
        }
    }

    fn release_all(&mut self) {
        for node in &mut self.book.nodes {
            if let (true, Some(peer)) = (node.lease.is_active(), node.peer) {
                self.released.push(peer);
                node.lease = Lease::NEW;
            }
        }
    }

    fn next_release(&mut self) -> Option<Effect> {
        self.released.pop().map(|peer| Effect::Release { peer })
    }

    fn next_reservation(&mut self) -> Option<Effect> {
        let now = self.now;
        let active = self.book.nodes.iter().filter(|node| node.lease.is_active()).count();
        if self.need != Need::Yes || active >= self.params.relays {
            return None;
        }
        let able = self.book.nodes.iter_mut().filter(|node| node.can_reserve(now));
        let node =
            able.max_by_key(|node| (matches!(node.lease, Lease::None { again: true, .. }), node.weight))?;
        let (peer, address) = (node.peer?, node.relay_address()?.clone());
        node.reserve(now);
        Some(Effect::Reserve { peer, address })
    }

    fn next_dial(&mut self) -> Option<Effect> {
        let now = self.now;
        if self.pace > now + DIAL_INTERVAL * (DIAL_BURST - 1) {
            return None;
        }
        let doubted = self.book.nodes.iter().position(|node| node.recheck);
        let node = doubted.or_else(|| self.next_named()).or_else(|| self.next_in_room())?;
        let node = &mut self.book.nodes[node];
        if doubted.is_some() {
            node.recheck = false;
        } else {
            node.link = Link::Dialling(now);
        }
        let dial = Effect::Dial { peer: node.peer, addresses: node.addresses.clone() };
        self.pace = self.pace.max(now) + DIAL_INTERVAL;
        Some(dial)
    }

    /// One that the operator wants connected, whatever it is.
    fn next_named(&self) -> Option<usize> {
        let dialling = |node: &&Node| node.is_wanted() && matches!(node.link, Link::Dialling(_));
        if self.book.nodes.iter().filter(dialling).count() >= NAMED_DIALS {
            return None;
        }
        self.book.nodes.iter().position(|node| node.is_wanted() && node.can_dial(self.now))
    }

    /// The next one of this peer's order, if there is room. Those that failed come later, and those that said that
    /// they are no mini-nodes last.
    fn next_in_room(&self) -> Option<usize> {
        let now = self.now;
        let nodes = &self.book.nodes;
        let dials =
            || nodes.iter().filter(|node| !node.is_wanted() && matches!(node.link, Link::Dialling(_)));
        if dials().count() >= self.params.keep {
            return None;
        }
        let fresh = |node: &&Node| matches!(node.link, Link::Dialling(since) if now < since + SLOW_DIAL);
        let coming = nodes.iter().filter(fresh).filter(|node| node.role != Role::Other).count();
        let connected = nodes.iter().filter(|node| node.counts(now)).count();
        if connected + coming >= self.params.keep + self.extra() {
            return None;
        }
        let able = nodes.iter().enumerate().filter(|(_, node)| !node.is_wanted() && node.can_dial(now));
        let best = able.max_by_key(|(_, node)| {
            let failed = (node.is_out_of_rotation(), node.failed_lately(now));
            (node.role != Role::Other, Reverse(failed), node.weight)
        });
        best.map(|(place, _)| place)
    }

    /// Room beyond the usual, while relays are needed and every connected one refuses.
    fn extra(&self) -> usize {
        let leases = || self.book.nodes.iter().filter(|node| node.is_connected());
        if self.need != Need::Yes || leases().any(|node| node.lease.is_active()) {
            return 0;
        }
        leases().filter(|node| node.refuses()).count().min(EXTRA)
    }
}
