//! The mini-nodes that are known: bounded, whatever others tell.

use std::{collections::HashMap, net::IpAddr, time::Instant};

use antiphon_proto::limits;
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use super::{
    node::{DialTarget, Link, Node, Role},
    params::{ADDRESSES, KNOWN, NAMED, REMEMBERED, REMEMBERED_EACH, STRANGERS},
};
use crate::streams::Transport;

/// See the module.
#[derive(Debug)]
pub(super) struct Book {
    local: PeerId,
    /// At most [`KNOWN`].
    pub(super) nodes: Vec<Node>,
    /// Connected peers that are not among the nodes, and where. At most [`STRANGERS`].
    strangers: HashMap<PeerId, Multiaddr>,
}

impl Book {
    pub(super) fn new(local: PeerId) -> Self {
        Self { local, nodes: Vec::new(), strangers: HashMap::new() }
    }

    pub(super) fn find(&self, peer: &PeerId) -> Option<usize> {
        self.nodes.iter().position(|node| node.peer.as_ref() == Some(peer))
    }

    pub(super) fn get(&mut self, peer: &PeerId) -> Option<&mut Node> {
        self.nodes.iter_mut().find(|node| node.peer.as_ref() == Some(peer))
    }

    /// The node that a dial was for.
    pub(super) fn dialled(&mut self, target: &DialTarget) -> Option<&mut Node> {
        match target {
            DialTarget::Peer(peer) => self.get(peer),
            DialTarget::Address(address) => match split(address) {
                (Some(peer), _) => self.get(&peer),
                (None, address) => self
                    .nodes
                    .iter_mut()
                    .find(|node| node.peer.is_none() && node.addresses.contains(&address)),
            },
        }
    }

    /// Notes an address that the operator named (`named`) or that was remembered.
    pub(super) fn name(&mut self, address: &Multiaddr, named: bool, now: Instant) {
        let Some((peer, address)) = self.check(address) else { return };
        let known = match peer {
            Some(peer) => self.find(&peer),
            None => self.nodes.iter().position(|node| node.addresses.contains(&address)),
        };
        let named = named && self.nodes.iter().filter(|node| node.named).count() < NAMED;
        let Some(position) = known.or_else(|| self.admit(peer, &address, named)) else { return };
        let stranger = peer.and_then(|peer| self.strangers.remove(&peer));
        let node = &mut self.nodes[position];
        node.named |= named;
        node.add_address(address);
        if let Some(via) = stranger {
            (node.link, node.via, node.met) = (Link::Connected(now), Some(via), true);
        }
    }

    /// Notes what others tell of a mini-node. Of a connected peer they tell nothing new: it says itself what it is.
    pub(super) fn learn(&mut self, peer: PeerId, addresses: &[Multiaddr]) {
        if peer == self.local || self.strangers.contains_key(&peer) {
            return;
        }
        let checked = addresses.iter().filter_map(|address| self.check(address));
        let own = checked.filter(|(of, _)| of.is_none_or(|of| of == peer)).map(|(_, address)| address);
        let own: Vec<Multiaddr> = own.take(ADDRESSES).collect();
        let Some(first) = own.first() else { return };
        let Some(position) = self.find(&peer).or_else(|| self.admit(Some(peer), first, false)) else {
            return;
        };
        own.into_iter().for_each(|address| self.nodes[position].add_address(address));
    }

    /// Notes a direct connection. None: the peer is not known as a mini-node.
    pub(super) fn connected(&mut self, peer: PeerId, address: &Multiaddr) -> Option<&mut Node> {
        let address = split(address).1;
        let nameless =
            self.nodes.iter().position(|node| node.peer.is_none() && node.addresses.contains(&address));
        let position = match (self.find(&peer), nameless) {
            (Some(position), Some(nameless)) => Some(self.merge(position, nameless)),
            (None, Some(nameless)) => {
                self.nodes[nameless].peer = Some(peer);
                self.nodes[nameless].weight = weight(&self.local, &peer.to_bytes());
                Some(nameless)
            }
            (found, None) => found,
        };
        let Some(position) = position else {
            if self.strangers.len() < STRANGERS || self.strangers.contains_key(&peer) {
                self.strangers.insert(peer, address);
            }
            return None;
        };
        self.strangers.remove(&peer);
        let node = &mut self.nodes[position];
        if let Some(place) = node.addresses.iter().position(|known| *known == address) {
            node.addresses[..=place].rotate_right(1);
        }
        node.via = Some(address);
        node.met = true;
        Some(node)
    }

    /// A connected stranger says that it is a mini-node.
    pub(super) fn welcome(&mut self, peer: &PeerId, now: Instant) -> Option<&mut Node> {
        let via = self.strangers.get(peer)?.clone();
        if self.nodes.len() >= KNOWN {
            self.make_room(true)?;
        }
        self.strangers.remove(peer);
        let mut node = Node::new(Some(*peer), weight(&self.local, &peer.to_bytes()));
        (node.link, node.via, node.met) = (Link::Connected(now), Some(via), true);
        self.nodes.push(node);
        self.nodes.last_mut()
    }

    pub(super) fn disconnected(&mut self, peer: &PeerId) {
        self.strangers.remove(peer);
    }

    /// Addresses worth remembering: of mini-nodes that have answered and are in rotation, the connected ones first.
    pub(super) fn addresses(&self) -> Vec<Multiaddr> {
        let mut worth: Vec<&Node> = self.nodes.iter().collect();
        worth.retain(|node| node.role == Role::MiniNode && node.met && !node.is_out_of_rotation());
        worth.sort_by_key(|node| (!node.is_connected(), node.failures, node.rtt.is_none(), node.rtt));
        let of_each = |node: &&Node| {
            let peer = node.peer;
            let first = node.addresses.iter().take(REMEMBERED_EACH).cloned();
            first.filter_map(move |address| address.with_p2p(peer?).ok()).collect::<Vec<_>>()
        };
        worth.iter().flat_map(of_each).take(REMEMBERED).collect()
    }

    fn admit(&mut self, peer: Option<PeerId>, address: &Multiaddr, matters: bool) -> Option<usize> {
        if self.nodes.len() >= KNOWN {
            self.make_room(matters)?;
        }
        let bytes = peer.map_or_else(|| address.to_vec(), |peer| peer.to_bytes());
        self.nodes.push(Node::new(peer, weight(&self.local, &bytes)));
        Some(self.nodes.len() - 1)
    }

    /// Gives up the node that is worth least. Hearsay never displaces what works or was not tried: whoever floods this
    /// peer with invented mini-nodes fills only the places that are free.
    fn make_room(&mut self, matters: bool) -> Option<()> {
        let worth = |node: &Node| match (node.role, node.met) {
            _ if node.named || matches!(node.link, Link::Dialling(_)) => None,
            (Role::Other, _) => Some(0),
            _ if node.is_connected() => None,
            (_, false) if node.failures > 0 => Some(1),
            (_, true) if node.is_out_of_rotation() => Some(2),
            (_, false) if matters => Some(3),
            (_, true) if matters => Some(4),
            _ => None,
        };
        let ranked = self.nodes.iter().enumerate();
        let ranked = ranked.filter_map(|(place, node)| Some((worth(node)?, node.weight, place)));
        let (_, _, place) = ranked.min()?;
        let gone = self.nodes.swap_remove(place);
        if let (true, Some(peer), Some(via)) = (gone.is_connected(), gone.peer, gone.via)
            && self.strangers.len() < STRANGERS
        {
            self.strangers.insert(peer, via);
        }
        Some(())
    }

    /// An address turned out to be that of a known peer. Gives the place of what remains.
    fn merge(&mut self, into: usize, nameless: usize) -> usize {
        let gone = self.nodes.swap_remove(nameless);
        let into = if into == self.nodes.len() { nameless } else { into };
        let node = &mut self.nodes[into];
        node.named |= gone.named;
        gone.addresses.into_iter().for_each(|address| node.add_address(address));
        into
    }

    /// What can be dialled of an address: whose it is, and the address without that.
    fn check(&self, address: &Multiaddr) -> Option<(Option<PeerId>, Multiaddr)> {
        let (peer, address) = split(address);
        let unusable = address.iter().any(|part| match part {
            Protocol::P2pCircuit | Protocol::P2p(_) => true,
            Protocol::Ip4(ip) => is_nowhere(ip.into()),
            Protocol::Ip6(ip) => is_nowhere(ip.into()),
            _ => false,
        });
        let names_many = address.iter().any(|part| matches!(part, Protocol::Dnsaddr(_)));
        let fits = address.len() <= limits::ADDRESS_BYTES
            && (names_many || Transport::of(&address) != Transport::Other);
        (fits && !unusable && peer != Some(self.local)).then_some((peer, address))
    }
}

fn is_nowhere(ip: IpAddr) -> bool {
    ip.is_unspecified() || ip.is_multicast()
}

/// An address without the identity at its end, and that.
pub(super) fn split(address: &Multiaddr) -> (Option<PeerId>, Multiaddr) {
    let mut address = address.clone();
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => {
            address.pop();
            (Some(peer), address)
        }
        _ => (None, address),
    }
}

/// Rendezvous hashing: each peer has its own order of all mini-nodes, so that peers spread evenly over them, and those
/// of a mini-node that dies spread over all the others.
fn weight(local: &PeerId, other: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&local.to_bytes()).update(other);
    let hash = hasher.finalize();
    hash.as_bytes().iter().take(8).fold(0, |weight, byte| weight << 8 | u64::from(*byte))
}
