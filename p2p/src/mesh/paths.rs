//! Where peers may be reached, by hearsay: addresses of their own, and relays at which they can be met.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use antiphon_proto::limits;
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use crate::{reach::is_relayed, streams::Transport};

/// Peers kept, some 2 MB at the worst: more than one talks to in an hour.
const PEERS: usize = 1_024;
/// Addresses of each peer, direct ones and circuits each: two transports on a few interfaces, or a few relays.
const ADDRESSES: usize = 8;
/// Hearsay is believed for so long; what is still true is told again.
const HEARD_FOR: Duration = Duration::from_secs(1_800);
/// Circuits tried for one peer: it keeps two reservations, and each try costs a relay a stream.
const CIRCUITS: usize = 6;
/// A reason kept, in bytes: a line for people.
const REASON_BYTES: usize = 200;

/// Where to dial a peer. The addresses do not end with its identity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Plan {
    /// The newest first, and of those told together the one told first.
    pub(crate) direct: Vec<Multiaddr>,
    /// Those that somebody told of first, among them those through a relay that is connected.
    pub(crate) relayed: Vec<Multiaddr>,
}

/// How a peer was not reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PathFailure {
    /// Its own addresses do not answer.
    Direct(String),
    /// The relays do not know it.
    NoReservation,
    /// A relay knows it, and yet.
    Relayed(String),
}

#[derive(Debug, Default)]
pub(super) struct Entry {
    /// The newest last; at most [`ADDRESSES`] each.
    direct: Vec<(Multiaddr, Instant)>,
    circuits: Vec<(Multiaddr, Instant)>,
    direct_failure: Option<String>,
    relayed_failure: Option<String>,
    /// Rises with each use of any.
    used: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Paths {
    local: PeerId,
    loopback: bool,
    pub(super) peers: HashMap<PeerId, Entry>,
    uses: u64,
}

impl Paths {
    /// Nobody is known. `loopback`: whether loopback addresses are kept, which only lead to this machine.
    pub(crate) fn new(local: PeerId, loopback: bool) -> Self {
        Self { local, loopback, peers: HashMap::new(), uses: 0 }
    }

    /// Somebody tells where a peer may be reached, with or without its identity at the end of each address.
    pub(crate) fn learn(&mut self, peer: PeerId, addresses: &[Multiaddr], now: Instant) {
        if peer == self.local {
            return;
        }
        // Somebody may tell of very many.
        let checked = addresses.iter().take(4 * ADDRESSES).filter_map(|address| self.check(peer, address));
        let checked: Vec<(Multiaddr, bool)> = checked.collect();
        if checked.is_empty() {
            return;
        }
        let entry = self.entry(peer);
        // What is told first is believed to be the best.
        for (address, is_circuit) in checked.into_iter().rev() {
            let known = if is_circuit { &mut entry.circuits } else { &mut entry.direct };
            known.retain(|(other, heard)| *other != address && now < *heard + HEARD_FOR);
            if known.len() >= ADDRESSES {
                known.remove(0);
            }
            known.push((address, now));
        }
    }

    /// Where to dial a peer. `relays` are the mini-nodes that are connected, and where: each is tried as a relay even
    /// if nobody told that the peer can be met there.
    pub(crate) fn plan(&mut self, peer: PeerId, relays: &[(PeerId, Multiaddr)], now: Instant) -> Plan {
        let uses = self.next_use();
        let mut plan = Plan::default();
        let mut through: Vec<PeerId> = Vec::new();
        let is_connected = |relay: &PeerId| relays.iter().any(|(of, _)| of == relay);
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.used = uses;
            plan.direct = fresh(&entry.direct, now).cloned().collect();
            let mut told: Vec<(PeerId, &Multiaddr)> = fresh(&entry.circuits, now)
                .filter_map(|circuit| Some((relay_of(circuit)?, circuit)))
                .collect();
            told.sort_by_key(|(relay, _)| !is_connected(relay));
            for (relay, circuit) in told {
                // A connected relay is used by its connection, whatever the address.
                if !(is_connected(&relay) && through.contains(&relay)) {
                    plan.relayed.push(circuit.clone());
                    through.push(relay);
                }
            }
        }
        for (relay, address) in relays {
            let is_known = *relay == peer || *relay == self.local || through.contains(relay);
            if !is_known && !is_relayed(address) {
                plan.relayed.extend(circuit(address, *relay));
                through.push(*relay);
            }
        }
        plan.relayed.truncate(CIRCUITS);
        plan
    }

    /// A peer was not reached.
    pub(crate) fn failed(&mut self, peer: PeerId, failure: PathFailure) {
        let entry = self.entry(peer);
        match failure {
            PathFailure::Direct(reason) => entry.direct_failure = Some(shorten(reason)),
            PathFailure::NoReservation => {
                entry.relayed_failure = Some("no relay has a reservation of it".to_owned());
            }
            PathFailure::Relayed(reason) => {
                entry.relayed_failure = Some(format!("not reached through a relay: {}", shorten(reason)));
            }
        }
    }

    /// A peer was reached: what went wrong before is forgotten. `direct`: not through a relay.
    pub(crate) fn reached(&mut self, peer: &PeerId, direct: bool) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.relayed_failure = None;
            if direct {
                entry.direct_failure = None;
            }
        }
    }

    /// Why a peer cannot be reached now, or only through a relay, for people.
    pub(crate) fn why(&self, peer: &PeerId, now: Instant) -> String {
        let Some(entry) = self.peers.get(peer) else {
            return "nobody has told where it is".to_owned();
        };
        let direct = match &entry.direct_failure {
            Some(reason) => format!("not reached directly: {reason}"),
            None if fresh(&entry.direct, now).next().is_none() => "no address of its own is known".to_owned(),
            None => "not tried directly yet".to_owned(),
        };
        match &entry.relayed_failure {
            Some(reason) => format!("{direct}; {reason}"),
            None => direct,
        }
    }

    /// The entry of a peer; the one that was not used for longest gives way.
    fn entry(&mut self, peer: PeerId) -> &mut Entry {
        let uses = self.next_use();
        if self.peers.len() >= PEERS && !self.peers.contains_key(&peer) {
            let oldest = self.peers.iter().min_by_key(|(_, entry)| entry.used).map(|(peer, _)| *peer);
            oldest.into_iter().for_each(|peer| drop(self.peers.remove(&peer)));
        }
        let entry = self.peers.entry(peer).or_default();
        entry.used = uses;
        entry
    }

    fn next_use(&mut self) -> u64 {
        self.uses = self.uses.saturating_add(1);
        self.uses
    }

    /// An address without the peer's identity at the end, if it can lead to the peer, and whether it is a circuit.
    fn check(&self, peer: PeerId, address: &Multiaddr) -> Option<(Multiaddr, bool)> {
        let mut address = address.clone();
        if let Some(Protocol::P2p(last)) = address.iter().last() {
            address.pop();
            if last != peer {
                return None;
            }
        }
        let nowhere = address.iter().any(|part| match part {
            Protocol::Ip4(ip) => {
                ip.is_unspecified() || ip.is_multicast() || (ip.is_loopback() && !self.loopback)
            }
            Protocol::Ip6(ip) => {
                ip.is_unspecified() || ip.is_multicast() || (ip.is_loopback() && !self.loopback)
            }
            _ => false,
        });
        let can_be_dialled = Transport::of(&address) != Transport::Other
            || address.iter().any(|part| matches!(part, Protocol::Dnsaddr(_)));
        if nowhere || !can_be_dialled || address.len() > limits::ADDRESS_BYTES {
            return None;
        }
        let is_circuit = is_relayed(&address);
        // A relay that is this peer, or the peer itself, leads nowhere; and no relay is reached through another.
        let leads = match relay_of(&address) {
            Some(relay) => relay != self.local && relay != peer,
            None => !is_circuit && !address.iter().any(|part| matches!(part, Protocol::P2p(_))),
        };
        leads.then_some((address, is_circuit))
    }
}

fn fresh(heard: &[(Multiaddr, Instant)], now: Instant) -> impl Iterator<Item = &Multiaddr> {
    heard.iter().rev().filter(move |(_, heard)| now < *heard + HEARD_FOR).map(|(address, _)| address)
}

/// The relay of an address that ends with `/p2p/<relay>/p2p-circuit` and has no other circuit in it.
fn relay_of(address: &Multiaddr) -> Option<PeerId> {
    let mut before = address.clone();
    let (Some(Protocol::P2pCircuit), Some(Protocol::P2p(relay))) = (before.pop(), before.pop()) else {
        return None;
    };
    let is_plain = !before.iter().any(|part| matches!(part, Protocol::P2pCircuit | Protocol::P2p(_)));
    is_plain.then_some(relay)
}

/// The way through a relay.
fn circuit(address: &Multiaddr, relay: PeerId) -> Option<Multiaddr> {
    Some(address.clone().with_p2p(relay).ok()?.with(Protocol::P2pCircuit))
}

fn shorten(mut reason: String) -> String {
    let end = (0..=reason.len().min(REASON_BYTES)).rev().find(|end| reason.is_char_boundary(*end));
    reason.truncate(end.unwrap_or(0));
    reason
}
