//! Settings of the network. Every bound has a default and a reason.

use std::{num::NonZeroU64, time::Duration};

use antiphon_proto::NetworkId;
use libp2p::Multiaddr;

use crate::{presence::Params, reach::Reach};

/// What a peer is to others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// One at home: it looks for a way through its router, and has mini-nodes relay for it.
    #[default]
    Peer,
    /// One on a public address: peers join through it, are found by it, and are told by it how they are reached.
    MiniNode,
}

/// How to listen, and how much of everything.
#[derive(Debug, Clone)]
pub struct Config {
    /// Addresses to listen on, QUIC first (`/ip4/0.0.0.0/udp/4001/quic-v1`). None: this peer only dials.
    /// Ports should be fixed ones: a peer that comes back elsewhere is not found again.
    pub listen: Vec<Multiaddr>,
    /// Connections.
    pub limits: ConnectionLimits,
    /// Streams and transfers.
    pub streams: StreamLimits,
    /// What this peer gives.
    pub uploads: UploadLimits,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// Presence.
    pub presence: Params,
    /// Connected peers from which on no more are dialled because others tell of them.
    pub enough_peers: usize,
    /// Finds peers in the local network by multicast DNS, and is found. Never where only loopback is listened on.
    pub mdns: bool,
    /// Asks the router to forward the ports by UPnP. Never where only loopback is listened on.
    pub upnp: bool,
    /// What this peer is to others.
    pub role: Role,
    /// Whether addresses that the internet cannot reach are dialled and announced. Never on a mini-node in a network of
    /// others: hosters take a packet to a private address for a scan.
    pub private_addresses: bool,
    /// Addresses under which this peer is reached, beside those that it listens on: of a cloud's router, for example.
    pub external: Vec<Multiaddr>,
    /// Addresses of mini-nodes, those that were named first.
    pub mini_nodes: Vec<Multiaddr>,
    /// The network, where it is known on starting. Without it a mini-node has no Kademlia, whose name it is in.
    pub network: Option<NetworkId>,
    /// Program and version, as other peers see it. At most 64 characters are sent.
    pub agent: String,
    /// Another number at every start. Peers that still hold a connection to an earlier process learn from it that the
    /// connection is dead.
    pub boot_nonce: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            limits: ConnectionLimits::default(),
            streams: StreamLimits::default(),
            uploads: UploadLimits::default(),
            timeouts: Timeouts::default(),
            presence: Params::default(),
            enough_peers: 48,
            mdns: false,
            upnp: false,
            role: Role::Peer,
            private_addresses: true,
            external: Vec::new(),
            mini_nodes: Vec::new(),
            network: None,
            agent: concat!("antiphon/", env!("CARGO_PKG_VERSION")).to_owned(),
            boot_nonce: rand::random(),
        }
    }
}

/// Whether others in the local network could reach one of these addresses, which are listened on.
#[must_use]
pub fn listens_nearby(listen: &[Multiaddr]) -> bool {
    listen.iter().any(|address| Reach::of(address) != Reach::Loopback)
}

/// Bounds on connections. One costs about 133 KiB over QUIC and 89 KiB over TCP when idle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Handshakes of others with us at once: more is a flood.
    pub pending_incoming: u32,
    /// Our own dials at once.
    pub pending_outgoing: u32,
    /// Established by others; below `total`, so that strangers cannot fill every place.
    pub incoming: u32,
    /// Established in all: 34 MB of idle QUIC connections.
    pub total: u32,
    /// With one peer: hole punching needs two and a spare.
    pub per_peer: u32,
    /// Established by others from one IPv4 address or IPv6 subnet, handshakes included; none: no such bound. Whole
    /// villages share one.
    pub per_address: Option<u32>,
    /// Physical memory of the process in bytes, above which no connection is added; none: no such bound.
    pub memory: Option<usize>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            pending_incoming: 64,
            pending_outgoing: 32,
            incoming: 192,
            total: 256,
            per_peer: 3,
            per_address: None,
            memory: None,
        }
    }
}

/// Bounds on streams and transfers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamLimits {
    /// Streams that others opened, in all: each costs a task and at most a message of 1 MiB. Followers are not among
    /// them, they have places of their own.
    pub inbound: usize,
    /// Streams that one peer opened: registrations and a few transfers.
    pub inbound_per_peer: usize,
    /// Files downloaded at once: each has at most 16 streams, and two buffers of 256 KiB for each that is busy. More
    /// wait.
    pub downloads: usize,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self { inbound: 512, inbound_per_peer: 32, downloads: 16 }
    }
}

/// Bounds on what this peer sends of its files. All of them can be changed while it runs
/// ([`crate::Network::set_upload_limits`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadLimits {
    /// Bytes a second in all; none: as fast as it goes. Play goes before bulk, which keeps a twentieth; bulk is shared
    /// evenly among peers. 64 KiB or an eighth of a second may go at once. Hashes that prove the audio are counted,
    /// what the transport adds (about 5 %) is not.
    pub total_bytes_per_second: Option<NonZeroU64>,
    /// Bytes a second for each peer; none: as fast as it goes.
    pub peer_bytes_per_second: Option<NonZeroU64>,
    /// Requests answered at once: each takes a thread and about 1 MiB. Bulk that has to make room for play is paused
    /// with its file open, so that there may be twice as many. Under a limit in all, at most one for each 8 KiB/s.
    pub slots: usize,
    /// Those of one peer: a scheduler wants a few ranges in parallel. More than eight can fill what a connection holds,
    /// and hold up everything else between the two.
    pub slots_per_peer: usize,
    /// Places that bulk never takes; at least one remains for it.
    pub play_reserve: usize,
    /// Requests that wait for a place: each is a task and a stream. When there are more, the peers with the most are
    /// answered "busy", bulk first.
    pub queue: usize,
    /// How long a request waits before it is answered "busy": less than the other side waits for a reply
    /// ([`Timeouts::request`]), so that it learns why.
    pub queue_wait: Duration,
    /// Bytes on one day (in UTC); none: any number. What is beyond is answered "busy", and what runs ends. Counted in
    /// memory: a restart begins anew.
    pub bytes_per_day: Option<NonZeroU64>,
    /// Whether play stops too when the day's bytes are used up. Bulk always does.
    pub quota_stops_play: bool,
}

impl Default for UploadLimits {
    fn default() -> Self {
        Self {
            total_bytes_per_second: None,
            peer_bytes_per_second: None,
            slots: 32,
            slots_per_peer: 8,
            play_reserve: 8,
            queue: 128,
            queue_wait: Duration::from_secs(3),
            bytes_per_day: None,
            quota_stops_play: false,
        }
    }
}

/// How long to wait for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// Handshake of a connection: three round trips over a bad mobile link.
    pub dial: Duration,
    /// From opening a stream to the first reply, retries included.
    pub request: Duration,
    /// The same for a registration, which waits for the council's decision.
    pub register: Duration,
    /// A message, once its first byte is due or there: what takes longer is an attack.
    pub message: Duration,
    /// A reader that takes nothing: its stream ends.
    pub write: Duration,
    /// A sender of audio that brings less than 32 KiB that verify in this time is given up. When somebody else could
    /// be asked, as soon as it falls far behind its own pace.
    pub stall: Duration,
    /// Connections without streams are closed after this.
    pub idle: Duration,
    /// A relayed connection that nothing but gossip and pings use is closed after this: its place at the relay is dear,
    /// and another is had in a second.
    pub relayed_idle: Duration,
    /// Between pings, and until an unanswered one closes the connection.
    pub ping: Duration,
    /// A QUIC connection that hears nothing is dead after this. QUIC asks for a sign of life three times as often.
    pub silence: Duration,
    /// Between tests whether this peer can be reached from outside.
    pub probe: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            dial: Duration::from_secs(10),
            request: Duration::from_secs(10),
            register: Duration::from_secs(60),
            message: Duration::from_secs(10),
            write: Duration::from_secs(30),
            stall: Duration::from_secs(15),
            idle: Duration::from_secs(3_600),
            relayed_idle: Duration::from_secs(60),
            ping: Duration::from_secs(5),
            silence: Duration::from_secs(6),
            probe: Duration::from_secs(5),
        }
    }
}
