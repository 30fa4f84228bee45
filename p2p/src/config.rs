//! Settings of the network. Every bound has a default and a reason.

use std::{num::NonZeroU64, time::Duration};

use antiphon_proto::NetworkId;
use libp2p::Multiaddr;

use crate::{mesh::MeshParams, presence::Params, reach::Reach};

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
    /// What this peer carries between others; none: it is no relay, and does not offer the protocol.
    pub relay: Option<RelayLimits>,
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
    /// How many of them were named by somebody; the others are remembered.
    pub named: usize,
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
            relay: None,
            timeouts: Timeouts::default(),
            presence: Params::default(),
            enough_peers: 48,
            mdns: false,
            upnp: false,
            role: Role::Peer,
            private_addresses: true,
            external: Vec::new(),
            mini_nodes: Vec::new(),
            named: 0,
            network: None,
            agent: concat!("antiphon/", env!("CARGO_PKG_VERSION")).to_owned(),
            boot_nonce: rand::random(),
        }
    }
}

impl Config {
    /// Mini-nodes that this peer wants to be connected with.
    pub(crate) fn kept_mini_nodes(&self) -> usize {
        mesh_params(self.role).keep
    }
}

/// How much of the mesh a peer keeps.
pub(crate) fn mesh_params(role: Role) -> MeshParams {
    match role {
        Role::Peer => MeshParams::peer(),
        Role::MiniNode => MeshParams::mini_node(),
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

/// Bounds on what this peer carries between others that cannot reach one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayLimits {
    /// Peers that may be reached through this one: each keeps a connection open (about 133 KiB over QUIC), so
    /// [`ConnectionLimits::total`] should leave room for them.
    pub reservations: usize,
    /// Those behind one IP address (IPv6: one /64): a carrier's NAT has many customers behind one.
    pub reservations_per_ip: usize,
    /// Requests for a reservation by one peer in a minute, all of them at once if need be. An honest one renews a few
    /// times in an hour, and asks again when its network changes.
    pub requests_per_minute: NonZeroU64,
    /// The same from one IP address: with as many at once as may reserve there, after a restart of this relay all come
    /// back together.
    pub requests_per_ip_per_minute: NonZeroU64,
    /// How long a reservation lasts unless it is renewed: well below [`Timeouts::idle`] with the renewal after three
    /// quarters of it.
    pub reservation_ttl: Duration,
    /// Circuits at once: each is a task, two streams, and at most 128 KiB while it is busy both ways.
    pub circuits: usize,
    /// Those that peers behind one IP address (IPv6: one /64) have asked for, so that nobody takes all with identities
    /// that cost nothing.
    pub circuits_per_ip: usize,
    /// Those that one peer has asked for: a listener fetches from many sources.
    pub circuits_per_source: usize,
    /// Those to one peer: an artist behind a NAT has many listeners.
    pub circuits_per_destination: usize,
    /// Requests being dealt with at once. Each waits for two peers, for [`Timeouts::message`] at most.
    pub handshakes: usize,
    /// Those from one IP address (IPv6: one /64).
    pub handshakes_per_ip: usize,
    /// How long a circuit lasts: as long as the longest song.
    pub circuit_duration: Duration,
    /// Bytes a second in all; none: as fast as it goes. Shared evenly among the pairs of peers that send.
    pub total_bytes_per_second: Option<NonZeroU64>,
    /// Bytes a second of each peer, to it and from it together; none: as fast as it goes.
    pub peer_bytes_per_second: Option<NonZeroU64>,
    /// Bytes of each peer on one day (in UTC), to it and from it together; none: any number. Counted in memory.
    pub peer_bytes_per_day: Option<NonZeroU64>,
    /// Bytes in a month of the calendar (in UTC); none: any number. Each is counted once, though it comes in and goes
    /// out: where the host counts both, give half of it. With the last one, every circuit ends until the next month.
    pub bytes_per_month: Option<NonZeroU64>,
}

impl Default for RelayLimits {
    fn default() -> Self {
        const ONE_IN_TEN_SECONDS: NonZeroU64 = NonZeroU64::MIN.saturating_add(5);
        const TWO_A_SECOND: NonZeroU64 = NonZeroU64::MIN.saturating_add(119);
        Self {
            reservations: 2_048,
            reservations_per_ip: 128,
            requests_per_minute: ONE_IN_TEN_SECONDS,
            requests_per_ip_per_minute: TWO_A_SECOND,
            reservation_ttl: Duration::from_secs(3_600),
            circuits: 1_024,
            circuits_per_ip: 256,
            circuits_per_source: 64,
            circuits_per_destination: 128,
            handshakes: 256,
            handshakes_per_ip: 64,
            circuit_duration: Duration::from_secs(12 * 3_600),
            total_bytes_per_second: None,
            peer_bytes_per_second: None,
            peer_bytes_per_day: None,
            bytes_per_month: None,
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
