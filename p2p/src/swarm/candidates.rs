//! Addresses under which this peer may be reachable, and the tests whether it is.
//!
//! identify replaces the port that another peer saw by the one that is listened on, which is wrong behind a NAT that maps
//! to another port; holes are then punched at the wrong place. So what others saw is a candidate as it is. And AutoNAT's
//! client keeps every candidate that it ever heard of, which behind a symmetric NAT is one for each connection: here it
//! hears of a few.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId,
    autonat::v2::client,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
    },
};

use crate::reach::{ip_of, is_relayed};

/// Candidates that wait to be told; an address more is one that a later connection shows again.
const QUEUE: usize = 32;
/// Candidates that are tested at once at most: two transports on a few interfaces, and what a router maps them to.
const TESTED: usize = 24;
/// After this, one more candidate may be tested. So the client's list grows by 24 a day at most.
const ONE_MORE: Duration = Duration::from_secs(3_600);

/// AutoNAT's client, with candidates of ours and a bound on theirs.
pub(crate) struct Candidates {
    inner: client::Behaviour,
    queue: VecDeque<Multiaddr>,
    /// What the client has heard of.
    known: VecDeque<Multiaddr>,
    room: usize,
    grown: Instant,
}

impl Candidates {
    pub(crate) fn new(probe_interval: Duration) -> Self {
        let config = client::Config::default().with_probe_interval(probe_interval);
        Self {
            inner: client::Behaviour::new(rand::make_rng(), config),
            queue: VecDeque::new(),
            known: VecDeque::new(),
            room: TESTED,
            grown: Instant::now(),
        }
    }

    /// Another peer saw this peer there.
    pub(crate) fn observed(&mut self, address: Multiaddr) {
        if self.queue.len() < QUEUE && !self.queue.contains(&address) {
            self.queue.push_back(address);
        }
    }

    fn may_be_tested(&mut self, address: &Multiaddr, now: Instant) -> bool {
        if self.known.contains(address) {
            return true;
        }
        if now.saturating_duration_since(self.grown) >= ONE_MORE {
            (self.grown, self.room) = (now, (self.room + 1).min(TESTED));
        }
        if self.room == 0 {
            return false;
        }
        self.room -= 1;
        if self.known.len() == TESTED {
            self.known.pop_front();
        }
        self.known.push_back(address.clone());
        true
    }
}

impl NetworkBehaviour for Candidates {
    type ConnectionHandler = THandler<client::Behaviour>;
    type ToSwarm = client::Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::NewExternalAddrCandidate(candidate) = &event {
            // What is seen through a relay is the relay, or a name without an address.
            let is_place = ip_of(candidate.addr).is_some() && !is_relayed(candidate.addr);
            if !is_place || !self.may_be_tested(candidate.addr, Instant::now()) {
                return;
            }
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        self.inner.on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.queue.pop_front() {
            Some(address) => Poll::Ready(ToSwarm::NewExternalAddrCandidate(address)),
            None => self.inner.poll(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_candidates_is_cut() {
        let mut candidates = Candidates::new(Duration::from_secs(5));
        let (start, address) =
            (Instant::now(), |port: usize| format!("/ip4/50.1.0.1/tcp/{port}").parse().unwrap());
        let tested = (1..1_000).filter(|port| candidates.may_be_tested(&address(*port), start)).count();
        assert_eq!(tested, TESTED);
        assert!(candidates.may_be_tested(&address(1), start));
        assert!(candidates.may_be_tested(&address(2_000), start + ONE_MORE));
        assert!(!candidates.may_be_tested(&address(2_001), start + ONE_MORE));
        (0..1_000).for_each(|port| candidates.observed(address(port)));
        assert_eq!(candidates.queue.len(), QUEUE);
    }
}
