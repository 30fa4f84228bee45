//! Who is connected, by which connections. Bounded by the limits on connections.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use antiphon_proto::limits;
use libp2p::{Multiaddr, PeerId, core::ConnectedPoint, swarm::ConnectionId};

use crate::{
    reach::{Reach, ip_of, is_relayed, relay_of},
    status::Path,
    streams::{Rank, Transport},
};

/// Addresses kept of one peer: two transports on a few interfaces and at two relays.
const ADDRESSES: usize = 12;
/// Addresses of one peer that are looked at.
const LISTED: usize = 64;

/// Who dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The other side.
    Inbound,
    /// This side.
    Outbound,
}

/// A connected peer, by the connection that is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Who.
    pub peer: PeerId,
    /// Its address, as seen from here.
    pub addr: Multiaddr,
    /// How the connection travels; of a relayed one, to the relay or from it.
    pub transport: Transport,
    /// By which way.
    pub path: Path,
    /// The relay, where there is one.
    pub via: Option<PeerId>,
    /// Who dialled.
    pub direction: Direction,
    /// Last round trip time.
    pub rtt: Option<Duration>,
    /// Program and version as told by the peer; empty until it did.
    pub agent: String,
    /// Whether it relays for others, as told by the peer: a mini-node does.
    pub mini_node: bool,
    /// When the first of its present connections was established.
    pub connected_since: SystemTime,
    /// Open connections with it.
    pub connections: usize,
    /// Audio bytes sent to it since then, hashes included.
    pub served_bytes: u64,
    /// Audio bytes received from it since then and verified.
    pub fetched_bytes: u64,
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    rank: Rank,
    addr: Multiaddr,
    transport: Transport,
    direction: Direction,
    since: SystemTime,
    rtt: Option<Duration>,
    nonce: Option<u64>,
}

#[derive(Debug, Default)]
struct Peer {
    agent: String,
    mini_node: bool,
    /// Where it says it listens.
    listens: Vec<Multiaddr>,
    connections: Vec<Connection>,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Table {
    local: PeerId,
    peers: HashMap<PeerId, Peer>,
    traffic: Traffic,
}

impl Table {
    pub(crate) fn new(local: PeerId, traffic: Traffic) -> Self {
        Self { local, peers: HashMap::new(), traffic }
    }

    /// Adds a connection; says whether it is the peer's first.
    pub(crate) fn established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) -> bool {
        let (addr, direction) = match endpoint {
            ConnectedPoint::Dialer { address, .. } => (address.clone(), Direction::Outbound),
            // Who comes through a relay is known by name alone; the way is in the address of this end.
            ConnectedPoint::Listener { local_addr, .. } if endpoint.is_relayed() => {
                (local_addr.clone(), Direction::Inbound)
            }
            ConnectedPoint::Listener { send_back_addr, .. } => (send_back_addr.clone(), Direction::Inbound),
        };
        let entry = self.peers.entry(peer).or_default();
        entry.connections.push(Connection {
            id,
            rank: Rank::new(&self.local, &peer, endpoint),
            transport: Transport::of(&addr),
            addr,
            direction,
            since: SystemTime::now(),
            rtt: None,
            nonce: None,
        });
        let first = entry.connections.len() == 1;
        self.traffic.add(peer);
        first
    }

    /// Removes a connection; says whether it was the peer's last.
    pub(crate) fn closed(&mut self, peer: &PeerId, id: ConnectionId) -> bool {
        let Some(entry) = self.peers.get_mut(peer) else { return false };
        entry.connections.retain(|connection| connection.id != id);
        let last = entry.connections.is_empty();
        if last {
            self.peers.remove(peer);
            self.traffic.forget(peer);
        }
        last
    }

    /// The connections with a peer and where they lead.
    pub(crate) fn connections_of(&self, peer: &PeerId) -> impl Iterator<Item = (ConnectionId, &Multiaddr)> {
        let connections = self.peers.get(peer).map(|entry| &entry.connections);
        connections.into_iter().flatten().map(|connection| (connection.id, &connection.addr))
    }

    /// Whether circuits that this peer is an end of lead through another one. The address of an end may name the relay's
    /// place only.
    pub(crate) fn carries(&self, relay: &PeerId) -> bool {
        let places: Vec<_> = self.connections_of(relay).filter_map(|(_, address)| ip_of(address)).collect();
        let circuits = self.peers.values().flat_map(|entry| &entry.connections).map(|known| &known.addr);
        circuits.filter(|address| is_relayed(address)).any(|address| match relay_of(address) {
            Some(through) => through == *relay,
            None => ip_of(address).is_some_and(|ip| places.contains(&ip)),
        })
    }

    /// Whether this side dialled a connection.
    pub(crate) fn dialled(&self, peer: &PeerId, id: ConnectionId) -> bool {
        let connections = self.peers.get(peer).map(|entry| &entry.connections);
        let dialled = |known: &Connection| known.id == id && known.direction == Direction::Outbound;
        connections.into_iter().flatten().any(dialled)
    }

    /// Whether there is a connection with a peer that leads through no relay.
    pub(crate) fn has_direct(&self, peer: &PeerId) -> bool {
        self.connections_of(peer).any(|(_, address)| !is_relayed(address))
    }

    pub(crate) fn is_connected(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    /// How many connections there are with a peer.
    pub(crate) fn connections(&self, peer: &PeerId) -> usize {
        self.peers.get(peer).map_or(0, |entry| entry.connections.len())
    }

    pub(crate) fn connected(&self) -> impl Iterator<Item = &PeerId> {
        self.peers.keys()
    }

    /// Notes what a peer said of itself on a connection. Gives whether that is news, and the connections that belong
    /// to an earlier process of the peer: those that are older and carried another boot nonce.
    pub(crate) fn identified(
        &mut self,
        peer: &PeerId,
        id: ConnectionId,
        agent: &str,
        nonce: Option<u64>,
    ) -> (bool, Vec<ConnectionId>) {
        let Some(entry) = self.peers.get_mut(peer) else { return (false, Vec::new()) };
        let Some(position) = entry.connections.iter().position(|connection| connection.id == id) else {
            return (false, Vec::new());
        };
        let news = entry.agent != agent;
        agent.clone_into(&mut entry.agent);
        entry.connections[position].nonce = nonce;
        let older = &entry.connections[..position];
        let stale = |connection: &&Connection| connection.nonce.is_some() && connection.nonce != nonce;
        let stale = older.iter().filter(stale).map(|connection| connection.id).collect();
        (news, stale)
    }

    /// Notes where a peer says it listens.
    pub(crate) fn listens(&mut self, peer: &PeerId, addresses: Vec<Multiaddr>) {
        let Some(entry) = self.peers.get_mut(peer) else { return };
        let short = addresses.into_iter().filter(|address| address.len() <= limits::ADDRESS_BYTES);
        let mut listens: Vec<Multiaddr> = short.take(LISTED).collect();
        // Those by which most can reach it go first: not all are kept, and fewer are told of.
        listens.sort_by_key(|address| (Reach::of(address), is_relayed(address)));
        listens.truncate(ADDRESSES);
        entry.listens = listens;
    }

    /// Notes whether a peer says that it relays for others.
    pub(crate) fn relays(&mut self, peer: &PeerId, relays: bool) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.mini_node = relays;
        }
    }

    /// Where a connected peer can be dialled.
    pub(crate) fn addresses_of(&self, peer: &PeerId) -> Vec<Multiaddr> {
        self.peers.get(peer).map(|entry| entry.listens.clone()).unwrap_or_default()
    }

    /// The connected peers and where they can be dialled.
    pub(crate) fn addresses(&self) -> Vec<(PeerId, Vec<Multiaddr>)> {
        self.peers.iter().map(|(peer, entry)| (*peer, entry.listens.clone())).collect()
    }

    pub(crate) fn measured(&mut self, peer: &PeerId, id: ConnectionId, rtt: Duration) {
        let connections = self.peers.get_mut(peer).map(|entry| &mut entry.connections);
        if let Some(connection) = connections.into_iter().flatten().find(|connection| connection.id == id) {
            connection.rtt = Some(rtt);
        }
    }

    /// Every connected peer.
    pub(crate) fn infos(&self) -> Vec<PeerInfo> {
        self.peers.iter().filter_map(|(peer, entry)| self.info(*peer, entry)).collect()
    }

    fn info(&self, peer: PeerId, entry: &Peer) -> Option<PeerInfo> {
        let used = entry.connections.iter().rev().min_by_key(|connection| connection.rank)?;
        let traffic = self.traffic.of(&peer);
        Some(PeerInfo {
            peer,
            addr: used.addr.clone(),
            transport: used.transport,
            direction: used.direction,
            rtt: used.rtt,
            path: if is_relayed(&used.addr) { Path::Relayed } else { Path::Direct },
            via: relay_of(&used.addr),
            agent: entry.agent.clone(),
            mini_node: entry.mini_node,
            connected_since: entry.connections.iter().map(|connection| connection.since).min()?,
            connections: entry.connections.len(),
            served_bytes: traffic.served.load(Ordering::Relaxed),
            fetched_bytes: traffic.fetched.load(Ordering::Relaxed),
        })
    }
}

/// Bytes that went to and came from one peer.
#[derive(Debug, Default)]
pub(crate) struct PeerTraffic {
    served: AtomicU64,
    fetched: AtomicU64,
}

impl PeerTraffic {
    pub(crate) fn served(&self, bytes: u64) {
        self.served.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn fetched(&self, bytes: u64) {
        self.fetched.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Counters of the connected peers, shared between the actor and the transfers. Entries come and go with the
/// connections; what a transfer counts after that is lost with it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traffic(Arc<Mutex<HashMap<PeerId, Arc<PeerTraffic>>>>);

impl Traffic {
    /// The peer's counters; ones that nobody reads when it is not connected.
    pub(crate) fn of(&self, peer: &PeerId) -> Arc<PeerTraffic> {
        self.lock().get(peer).cloned().unwrap_or_default()
    }

    fn add(&self, peer: PeerId) {
        self.lock().entry(peer).or_default();
    }

    fn forget(&self, peer: &PeerId) {
        self.lock().remove(peer);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, Arc<PeerTraffic>>> {
        // Whole at every unlock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::core::{Endpoint, transport::PortUse};

    fn dialled(addr: &str) -> ConnectedPoint {
        let (address, role_override, port_use) = (addr.parse().unwrap(), Endpoint::Dialer, PortUse::Reuse);
        ConnectedPoint::Dialer { address, role_override, port_use }
    }

    fn accepted(addr: &str) -> ConnectedPoint {
        ConnectedPoint::Listener { local_addr: addr.parse().unwrap(), send_back_addr: addr.parse().unwrap() }
    }

    const QUIC: &str = "/ip4/127.0.0.1/udp/4001/quic-v1";
    const TCP: &str = "/ip4/127.0.0.1/tcp/4001";

    #[test]
    fn another_boot_nonce_marks_older_connections() {
        let (local, peer) = (PeerId::random(), PeerId::random());
        let mut table = Table::new(local, Traffic::default());
        let ids: Vec<_> = (0..3).map(ConnectionId::new_unchecked).collect();
        assert!(table.established(peer, ids[0], &accepted(QUIC)));
        assert_eq!(table.identified(&peer, ids[0], "a", Some(1)), (true, vec![]));
        assert!(!table.established(peer, ids[1], &accepted(QUIC)));
        assert_eq!(table.identified(&peer, ids[1], "a", Some(1)), (false, vec![]));
        table.established(peer, ids[2], &dialled(QUIC));
        assert_eq!(table.identified(&peer, ids[2], "a", Some(2)), (false, vec![ids[0], ids[1]]));
        assert_eq!(table.identified(&peer, ids[0], "a", Some(1)), (false, vec![]));
        assert!(!table.closed(&peer, ids[0]) && !table.closed(&peer, ids[1]));
        assert!(table.closed(&peer, ids[2]) && !table.is_connected(&peer));
    }

    #[test]
    fn both_sides_of_two_dials_prefer_the_same_connection() {
        let (one, two) = (PeerId::random(), PeerId::random());
        // The first connection was dialled by `one`, the second by `two`.
        let of_one = [Rank::new(&one, &two, &dialled(QUIC)), Rank::new(&one, &two, &accepted(QUIC))];
        let of_two = [Rank::new(&two, &one, &accepted(QUIC)), Rank::new(&two, &one, &dialled(QUIC))];
        assert_eq!(of_one, of_two);
        assert_ne!(of_one[0], of_one[1]);
        assert!(of_one[0].max(of_one[1]) < Rank::new(&one, &two, &dialled(TCP)));
        let circuit = format!("{QUIC}/p2p/{}/p2p-circuit", PeerId::random());
        assert!(Rank::new(&one, &two, &dialled(TCP)) < Rank::new(&one, &two, &dialled(&circuit)));
    }
}
