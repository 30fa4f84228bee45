//! What people are shown of the network beyond the connected peers.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

/// A mini-node that this peer knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MiniNode {
    /// Who it is; none while only an address is known and nobody has answered there.
    pub peer: Option<PeerId>,
    /// Where it is connected, or would be dialled first.
    pub address: Multiaddr,
    /// How it is doing.
    pub state: MiniNodeState,
    /// Dials and connections that failed in a row.
    pub failures: u32,
    /// Last round trip time.
    pub rtt: Option<Duration>,
    /// Whether it relays for this peer.
    pub reservation: Reservation,
    /// The last failure, in words.
    pub reason: Option<String>,
    /// Named by the operator, not heard of.
    pub named: bool,
    /// Whether it is a mini-node by its own word; none while it has not said.
    pub is_mini_node: Option<bool>,
}

/// How a mini-node is doing, as seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MiniNodeState {
    /// A direct connection is open.
    Connected,
    /// A dial is on its way.
    Dialling,
    /// Known, and not needed now.
    Spare,
    /// It failed; not dialled before this.
    Waiting {
        /// When it may be dialled again.
        until: Instant,
    },
    /// It failed too often and is out of the rotation.
    Resting {
        /// When it is tried again.
        until: Instant,
    },
}

/// Whether a mini-node relays for this peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reservation {
    /// It was not asked.
    None,
    /// It was asked and has not answered.
    Pending,
    /// It relays.
    Held,
    /// It did not take the last request, or took it and failed.
    Refused,
}

/// What a NAT between this peer and the world does, as far as others' observations show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatKind {
    /// Others see an address of this very machine.
    None,
    /// All see the same address and port: whoever is told of it can be met by hole punching.
    Cone,
    /// Each sees another port: nobody can be told where to meet.
    Symmetric,
    /// Too few have told what they see.
    Unknown,
}

/// Whether others can connect to this peer by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reachability {
    /// Another machine did.
    Public,
    /// Others tried in vain, or there is a NAT and nobody got through it.
    Private,
    /// Not known yet.
    Unknown,
}

/// What this peer knows of the routers between it and others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatStatus {
    /// Whether others can dial this peer.
    pub reachability: Reachability,
    /// How its UDP port is mapped.
    pub udp: NatKind,
    /// How its TCP port is mapped.
    pub tcp: NatKind,
    /// What that means and what to do, for people.
    pub advice: String,
}

/// What the router says to UPnP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upnp {
    /// It is not asked.
    Off,
    /// No answer yet.
    Searching,
    /// It forwards a port.
    Mapped,
    /// It forwarded one, and does not any more.
    Expired,
    /// Nobody answers.
    NotFound,
    /// It has no public address itself.
    BehindAnother,
}

/// The way to a connected peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// Dialled.
    Direct,
    /// Direct, through routers that both sides opened from inside.
    Punched,
    /// By way of a relay.
    Relayed,
}

/// How this peer is reached, and through whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaysStatus {
    /// The routers in between.
    pub nat: NatStatus,
    /// Addresses at which others reach this peer, those at relays included.
    pub external: Vec<Multiaddr>,
    /// What the router says to UPnP.
    pub upnp: Upnp,
    /// Mini-nodes and peers that were named.
    pub mini_nodes: Vec<MiniNode>,
    /// Addresses of mini-nodes that are worth remembering, best first.
    pub remembered: Vec<Multiaddr>,
}
