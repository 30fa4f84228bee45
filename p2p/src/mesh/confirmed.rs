//! Addresses at which another machine reached this peer, or did not. A single failure may be the other machine's own,
//! so an address is lost by two in a row, and is then back after two successes.

use std::time::{Duration, Instant};

use antiphon_proto::limits;
use libp2p::{Multiaddr, multiaddr::Protocol};

use crate::reach::without_peer;

/// Addresses whose tests are kept: two carriers, two families and some mappings.
const ADDRESSES: usize = 16;
/// A success counts for so long; by then the address is tested again.
const CONFIRMED_FOR: Duration = Duration::from_secs(3600);
/// Failures in a row that make an address lost, and successes in a row that a lost one needs.
const TURNS: u32 = 2;

#[derive(Debug)]
struct Tests {
    address: Multiaddr,
    confirmed: bool,
    was_lost: bool,
    /// Results in a row that speak against the present state.
    against: u32,
    reached: Option<Instant>,
    tested: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Confirmations {
    tests: Vec<Tests>,
}

impl Confirmations {
    pub(super) fn tested(&mut self, address: &Multiaddr, reached: bool, now: Instant) {
        let address = without_peer(address.clone());
        if address.len() > limits::ADDRESS_BYTES {
            return;
        }
        let known = self.tests.iter().position(|tests| tests.address == address);
        let place = known.unwrap_or_else(|| self.add(address, now));
        if let Some(tests) = self.tests.get_mut(place) {
            tests.result(reached, now);
        }
    }

    pub(super) fn addresses(&self, now: Instant) -> impl Iterator<Item = &Multiaddr> {
        self.tests.iter().filter(move |tests| tests.is_confirmed(now)).map(|tests| &tests.address)
    }

    pub(super) fn any(&self, now: Instant) -> bool {
        self.addresses(now).next().is_some()
    }

    pub(super) fn any_ipv4(&self, now: Instant) -> bool {
        let is_four = |part: Option<Protocol<'_>>| {
            matches!(part, Some(Protocol::Ip4(_) | Protocol::Dns4(_) | Protocol::Dns(_)))
        };
        self.addresses(now).any(|address| is_four(address.iter().next()))
    }

    pub(super) fn has_failed(&self, now: Instant) -> bool {
        self.tests.iter().any(|tests| !tests.is_confirmed(now) && now < tests.tested + CONFIRMED_FOR)
    }

    fn add(&mut self, address: Multiaddr, now: Instant) -> usize {
        if self.tests.len() >= ADDRESSES {
            let oldest = (0..self.tests.len()).min_by_key(|place| {
                self.tests.get(*place).map(|tests| (tests.is_confirmed(now), tests.tested))
            });
            oldest.into_iter().for_each(|place| drop(self.tests.swap_remove(place)));
        }
        let fresh =
            Tests { address, confirmed: false, was_lost: false, against: 0, reached: None, tested: now };
        self.tests.push(fresh);
        self.tests.len().saturating_sub(1)
    }
}

impl Tests {
    fn result(&mut self, reached: bool, now: Instant) {
        if self.confirmed && !self.is_confirmed(now) {
            (self.confirmed, self.against) = (false, 0);
        }
        self.tested = now;
        if reached {
            self.reached = Some(now);
        }
        self.against = if reached == self.confirmed { 0 } else { self.against.saturating_add(1) };
        let needed = if self.confirmed || self.was_lost { TURNS } else { 1 };
        if self.against >= needed {
            self.was_lost |= self.confirmed;
            (self.confirmed, self.against) = (reached, 0);
        }
    }

    fn is_confirmed(&self, now: Instant) -> bool {
        self.confirmed && self.reached.is_some_and(|at| now < at + CONFIRMED_FOR)
    }
}
