//! Ways to others: mini-nodes that are kept, relays that are asked, addresses that others reach this peer at, and dials of
//! a peer by every way there is.
//!
//! The decisions are made in [`crate::mesh`], which knows no sockets; this is their hands and ears.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId, autonat,
    core::{ConnectedPoint, transport::ListenerId},
    dcutr, identify, kad,
    multiaddr::Protocol,
    relay,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
    upnp,
};

use super::{
    PeerInfo,
    actor::{Actor, Dial, innermost},
    transport::can_be_dialled,
};
use crate::{
    config::{Config, Role, listens_nearby, mesh_params},
    mesh::{Carrier, DialTarget, Effect, Mesh, Nat, Observation, PathFailure, Paths, ReserveFailure},
    protocol,
    reach::{Reach, ip_of, is_public, is_relayed, without_peer},
    status::{MiniNode, MiniNodeState, NatKind, NatStatus, Path, Reachability, Upnp, WaysStatus},
    streams::Transport,
};

/// A peer is not dialled by every way again before this.
const REACH_PAUSE: Duration = Duration::from_secs(2);
/// Nor suspected: a new connection would close one that is only slow.
const SUSPECT_PAUSE: Duration = Duration::from_secs(10);
/// Peers whose last dial is remembered; the oldest are forgotten.
const REACHED: usize = 1_024;
/// What libp2p says when a relay does not know the peer that is asked for.
const NO_RESERVATION: &str = "reservation";
/// Peers that are reached anew after a change of addresses: those in use, in all likelihood.
const DOUBTED: usize = 32;
/// Addresses dialled for one peer by each way.
const DIALLED: usize = 8;

/// What a dial was for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Purpose {
    Mesh(DialTarget),
    Direct(PeerId),
    Relayed(PeerId),
}

#[derive(Debug, Default)]
struct Attempt {
    reached: Option<Instant>,
    suspected: Option<Instant>,
}

/// See the module.
pub(crate) struct Ways {
    role: Role,
    private_addresses: bool,
    has_listeners: bool,
    mesh: Mesh,
    nat: Nat,
    paths: Paths,
    /// Where the operator says that this peer is reached.
    told: Vec<Multiaddr>,
    /// Listeners of ours at relays. Bounded by the relays that are asked.
    reservations: HashMap<ListenerId, PeerId>,
    /// Bounded by the limit on pending connections.
    dials: HashMap<ConnectionId, Purpose>,
    /// Bounded by `REACHED`.
    attempts: HashMap<PeerId, Attempt>,
    /// Connections that are dead if there is another. Bounded by the limit on connections.
    suspects: HashSet<ConnectionId>,
    /// Peers whose connections are in doubt, to be reached when a mini-node is. At most `DOUBTED`.
    doubted: Vec<PeerId>,
    /// Whether anybody was ever connected.
    met: bool,
    /// Addresses of interfaces came or went since the last tick.
    interfaces: Interfaces,
    upnp: Upnp,
}

/// Changes of interfaces that were not acted on yet.
#[derive(Debug, Default)]
struct Interfaces {
    came: bool,
    /// IPv4, IPv6.
    went: [bool; 2],
}

impl Ways {
    pub(crate) fn new(local: PeerId, config: &Config, seed: u64) -> Self {
        let now = Instant::now();
        let mut mesh = Mesh::new(local, mesh_params(config.role), seed, now);
        for (position, address) in config.mini_nodes.iter().enumerate() {
            if position < config.named {
                mesh.name(address);
            } else {
                mesh.remember(address);
            }
        }
        // Where only loopback is listened on, this machine is the world.
        let alone = !listens_nearby(&config.listen);
        Self {
            role: config.role,
            private_addresses: config.private_addresses,
            has_listeners: !config.listen.is_empty(),
            mesh,
            nat: Nat::new(alone),
            paths: Paths::new(local, alone),
            told: config.external.clone(),
            reservations: HashMap::new(),
            dials: HashMap::new(),
            attempts: HashMap::new(),
            suspects: HashSet::new(),
            doubted: Vec::new(),
            met: false,
            interfaces: Interfaces::default(),
            upnp: if config.upnp { Upnp::Searching } else { Upnp::Off },
        }
    }

    /// Whether this is a peer that serves and that nobody outside can dial, as far as is known.
    fn is_hidden(&self, now: Instant) -> bool {
        self.role == Role::Peer && self.has_listeners && self.nat.needs_relay(now)
    }

    /// Mini-nodes that are connected, and where.
    fn connected_mini_nodes(&self) -> Vec<(PeerId, Multiaddr)> {
        let connected = |known: MiniNode| {
            let relays = known.state == MiniNodeState::Connected && known.is_mini_node == Some(true);
            known.peer.filter(|_| relays).map(|peer| (peer, known.address))
        };
        self.mesh.status().into_iter().filter_map(connected).collect()
    }
}

impl Actor {
    /// Looks what is to be done now.
    pub(super) fn drive_mesh(&mut self, now: Instant) {
        self.ways.mesh.set_needs_relay(self.ways.is_hidden(now));
        while let Some(effect) = self.ways.mesh.poll(now) {
            match effect {
                Effect::Dial { peer, addresses } => self.dial_mini_node(peer, addresses, now),
                Effect::Reserve { peer, address } => self.reserve(peer, address, now),
                Effect::Release { peer } => self.release(peer),
            }
        }
    }

    fn dial_mini_node(&mut self, peer: Option<PeerId>, mut addresses: Vec<Multiaddr>, now: Instant) {
        addresses.retain(|address| can_be_dialled(address) && self.may_be_dialled(address));
        let Some(first) = addresses.first().cloned() else {
            let target = peer.map_or_else(|| DialTarget::Address(Multiaddr::empty()), DialTarget::Peer);
            return self.ways.mesh.handle_dial_failed(target, "no address that may be dialled", now);
        };
        let target = peer.map_or_else(|| DialTarget::Address(first.clone()), DialTarget::Peer);
        let again = peer.is_some_and(|peer| self.table.has_direct(&peer));
        // Somebody may be dialling it already.
        let running = self.dials.iter().find(|(_, dial)| dial.is_of(peer, &first)).map(|(id, _)| *id);
        if let Some(running) = running.filter(|_| !again) {
            self.ways.dials.insert(running, Purpose::Mesh(target));
            return;
        }
        let options = match peer {
            Some(peer) => {
                let condition = if again { PeerCondition::Always } else { PeerCondition::NotDialing };
                DialOpts::peer_id(peer).condition(condition).addresses(addresses).build()
            }
            None => DialOpts::unknown_peer_id().address(first.clone()).build(),
        };
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.ways.dials.insert(id, Purpose::Mesh(target));
                self.dials.insert(id, Dial { address: first, peer, waiters: Vec::new() });
            }
            // Somebody else dials it: the end of that dial is told.
            Err(DialError::DialPeerConditionFalse(_)) => {}
            Err(error) => self.ways.mesh.handle_dial_failed(target, &innermost(&error), now),
        }
    }

    /// A mini-node among others keeps to addresses that the internet reaches. Names are looked at when they are resolved.
    fn may_be_dialled(&self, address: &Multiaddr) -> bool {
        self.ways.private_addresses || ip_of(address).is_none() || is_public(address)
    }

    fn reserve(&mut self, peer: PeerId, address: Multiaddr, now: Instant) {
        let address = address.with(Protocol::P2p(peer)).with(Protocol::P2pCircuit);
        match self.swarm.listen_on(address) {
            Ok(listener) => {
                self.ways.reservations.insert(listener, peer);
            }
            Err(error) => {
                let failure = ReserveFailure::Failed(innermost(&error));
                self.ways.mesh.handle_reservation_failed(peer, &failure, now);
            }
        }
    }

    fn release(&mut self, peer: PeerId) {
        let listeners: Vec<ListenerId> = self
            .ways
            .reservations
            .extract_if(|_, relay| *relay == peer)
            .map(|(listener, _)| listener)
            .collect();
        for listener in listeners {
            self.swarm.remove_listener(listener);
        }
    }

    /// A listener of ours at a relay ended. Says whether it was one.
    pub(super) fn reservation_closed(
        &mut self,
        listener: ListenerId,
        reason: &Result<(), std::io::Error>,
    ) -> bool {
        let Some(peer) = self.ways.reservations.remove(&listener) else { return false };
        let now = Instant::now();
        match reason {
            Ok(()) => self.ways.mesh.handle_reservation_lost(peer, now),
            Err(error) => {
                let text = innermost(error);
                tracing::debug!(relay = %peer, error = text, "no reservation");
                let refused =
                    ["limit", "denied", "refused"].iter().any(|word| text.to_lowercase().contains(word));
                let failure =
                    if refused { ReserveFailure::Refused(text) } else { ReserveFailure::Failed(text) };
                self.ways.mesh.handle_reservation_failed(peer, &failure, now);
            }
        }
        self.drive_mesh(now);
        true
    }

    pub(super) fn handle_relay_client(&mut self, event: relay::client::Event) {
        if let relay::client::Event::ReservationReqAccepted { relay_peer_id: relay, renewal, .. } = event {
            tracing::debug!(%relay, renewal, "it relays for this peer");
            self.ways.mesh.handle_reserved(relay, Instant::now());
        }
    }

    /// A listen address came up.
    pub(super) fn address_came(&mut self, listener: ListenerId, address: &Multiaddr) {
        if self.ways.reservations.contains_key(&listener) || is_relayed(address) {
            return;
        }
        if Reach::of(address) != Reach::Loopback {
            self.ways.interfaces.came = true;
        }
        if self.ways.role == Role::MiniNode && (self.ways.private_addresses || is_public(address)) {
            self.swarm.add_external_address(address.clone());
            self.external_changed();
        }
        self.ways.nat.set_listening(&self.addresses);
    }

    /// A listen address is gone.
    pub(super) fn address_went(&mut self, address: &Multiaddr) {
        if is_relayed(address) || Reach::of(address) == Reach::Loopback {
            return;
        }
        match ip_of(address) {
            Some(ip) => self.ways.interfaces.went[usize::from(ip.is_ipv6())] = true,
            None => return,
        }
        if self.ways.role == Role::MiniNode {
            self.swarm.remove_external_address(address);
            self.external_changed();
        }
    }

    /// Tells what the operator says of this peer's addresses.
    pub(crate) fn announce(&mut self, external: &[Multiaddr]) {
        for address in external {
            self.swarm.add_external_address(address.clone());
        }
        self.external_changed();
    }

    pub(super) fn way_opened(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let now = Instant::now();
        self.ways.dials.remove(&id);
        self.ways.met = true;
        // What was in doubt is not needed any more.
        let doubted: Vec<ConnectionId> = self
            .table
            .connections_of(&peer)
            .map(|(other, _)| other)
            .filter(|other| *other != id && self.ways.suspects.contains(other))
            .collect();
        for connection in doubted {
            tracing::debug!(%peer, ?connection, "closing a connection that a new one replaces");
            self.swarm.close_connection(connection);
        }
        self.ways.paths.reached(&peer, !endpoint.is_relayed());
        if endpoint.is_relayed() {
            return;
        }
        if endpoint.is_listener() && is_public(endpoint.get_remote_address()) {
            self.reached_from_outside(now);
        }
        // Where somebody dials from is no place to dial it, and no news where it is connected already: AutoNAT dials back.
        if endpoint.is_dialer() || self.table.connections_of(&peer).count() == 1 {
            let address = without_peer(endpoint.get_remote_address().clone());
            self.ways.mesh.handle_connected(peer, &address, now);
        }
        self.drive_mesh(now);
    }

    pub(super) fn way_measured(&mut self, peer: PeerId, id: ConnectionId, rtt: Duration) {
        // Whatever was in doubt is alive.
        self.ways.suspects.remove(&id);
        if self.table.connections_of(&peer).any(|(known, address)| known == id && !is_relayed(address)) {
            self.ways.mesh.measure(peer, rtt);
        }
    }

    pub(super) fn way_closed(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        self.ways.suspects.remove(&id);
        if !endpoint.is_relayed() && !self.table.has_direct(&peer) {
            let now = Instant::now();
            self.ways.mesh.handle_disconnected(peer, now);
            self.drive_mesh(now);
        }
    }

    /// A dial failed; it may have been anybody's.
    pub(super) fn way_failed(&mut self, id: ConnectionId, peer: Option<PeerId>, error: &DialError) {
        let now = Instant::now();
        let text = dial_failure(error);
        match self.ways.dials.remove(&id) {
            Some(Purpose::Mesh(target)) => self.ways.mesh.handle_dial_failed(target, &text, now),
            Some(Purpose::Direct(peer)) => self.ways.paths.failed(peer, PathFailure::Direct(text)),
            Some(Purpose::Relayed(peer)) if text.contains(NO_RESERVATION) => {
                self.ways.paths.failed(peer, PathFailure::NoReservation);
            }
            Some(Purpose::Relayed(peer)) => self.ways.paths.failed(peer, PathFailure::Relayed(text)),
            None => {
                if let Some(peer) = peer.filter(|peer| !self.table.has_direct(peer)) {
                    self.ways.mesh.handle_dial_failed(peer, &text, now);
                }
            }
        }
        self.drive_mesh(now);
    }

    pub(super) fn way_identified(&mut self, peer: PeerId, id: ConnectionId, info: &identify::Info) {
        let now = Instant::now();
        let is_mini_node = info.protocols.contains(&protocol::HOP);
        self.ways.mesh.handle_identified(peer, is_mini_node, now);
        self.table.relays(&peer, is_mini_node);
        let Some(remote) = self
            .table
            .connections_of(&peer)
            .find_map(|(other, address)| (other == id).then(|| address.clone()))
        else {
            return;
        };
        let (place, relayed) = (Reach::of(&remote), is_relayed(&remote));
        let usable = |address: &&Multiaddr| Reach::of(address) <= place && self.may_be_dialled(address);
        let listens: Vec<Multiaddr> =
            info.listen_addrs.iter().filter(usable).take(DIALLED).cloned().map(without_peer).collect();
        if is_mini_node {
            let direct: Vec<Multiaddr> = listens.into_iter().filter(|address| !is_relayed(address)).collect();
            self.ways.mesh.learn(peer, &direct);
            if !relayed {
                self.reach_doubted(now);
            }
            if let Some(kademlia) = self.swarm.behaviour_mut().kademlia.as_mut()
                && info.protocols.iter().any(|name| kademlia.protocol_names().contains(name))
            {
                for address in direct {
                    kademlia.add_address(&peer, address);
                }
            }
            // Of a connection that the other side dialled, it can only say what it was told before.
            if !relayed && self.table.dialled(&peer, id) {
                self.observed(peer, &remote, info.observed_addr.clone(), now);
            }
        } else {
            self.ways.paths.learn(peer, &listens, now);
        }
        self.drive_mesh(now);
    }

    /// A mini-node is there after a change of addresses: others are reached through it until they are reached directly.
    fn reach_doubted(&mut self, now: Instant) {
        for peer in std::mem::take(&mut self.ways.doubted) {
            let still = self.table.connections_of(&peer).any(|(id, _)| self.ways.suspects.contains(&id));
            if still || !self.table.is_connected(&peer) {
                self.dial_every_way(peer, true, now);
            }
        }
    }

    /// A mini-node saw this peer there.
    fn observed(&mut self, observer: PeerId, remote: &Multiaddr, address: Multiaddr, now: Instant) {
        let (Some(observed), Some(observer_ip)) = (socket_of(&address), ip_of(remote)) else { return };
        let carrier = match Transport::of(remote) {
            Transport::Quic => Carrier::Udp,
            Transport::Tcp => Carrier::Tcp,
            Transport::Other => return,
        };
        self.ways.nat.observe(Observation { observer, observer_ip, carrier, observed, local: None }, now);
        let external = self.ways.nat.external(carrier, now);
        if let Some(candidates) = self.swarm.behaviour_mut().candidates.as_mut() {
            for socket in external {
                candidates.observed(multiaddr_of(carrier, socket));
            }
        }
    }

    /// Somebody outside has just dialled this peer: what was confirmed is still so.
    fn reached_from_outside(&mut self, now: Instant) {
        for address in self.ways.nat.confirmed(now) {
            self.ways.nat.tested(&address, true, now);
        }
    }

    pub(super) fn handle_autonat(&mut self, event: &autonat::v2::client::Event) {
        let ok = event.result.is_ok();
        tracing::debug!(address = %event.tested_addr, ok, server = %event.server, "reachability was tested");
        let now = Instant::now();
        self.ways.nat.tested(&event.tested_addr, ok, now);
        self.presence.set_relayed_only(self.ways.is_hidden(now));
        self.drive_mesh(now);
    }

    pub(super) fn handle_dcutr(&mut self, event: dcutr::Event) {
        let peer = event.remote_peer_id;
        match event.result {
            Ok(_) => tracing::debug!(%peer, "a way through both NATs"),
            Err(error) => {
                let error = innermost(&error);
                tracing::debug!(%peer, error, "no way through both NATs");
            }
        }
    }

    pub(super) fn handle_upnp(&mut self, event: upnp::Event) {
        self.ways.upnp = match event {
            upnp::Event::NewExternalAddr { external_addr, .. } => {
                tracing::info!(address = %external_addr, "the router forwards the port");
                Upnp::Mapped
            }
            upnp::Event::ExpiredExternalAddr { external_addr, .. } => {
                tracing::info!(address = %external_addr, "the router forwards the port no longer");
                Upnp::Expired
            }
            upnp::Event::GatewayNotFound => Upnp::NotFound,
            upnp::Event::NonRoutableGateway => Upnp::BehindAnother,
        };
    }

    pub(super) fn handle_kademlia(&mut self, event: kad::Event) {
        if let kad::Event::RoutingUpdated { peer, addresses, .. } = event {
            let known: Vec<Multiaddr> = addresses.iter().cloned().map(without_peer).collect();
            self.ways.mesh.learn(peer, &known);
        }
    }

    /// Somebody tells where a peer is.
    pub(super) fn handle_heard(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        mini_node: bool,
        dial: bool,
    ) {
        let now = Instant::now();
        let addresses: Vec<Multiaddr> = addresses.into_iter().map(without_peer).collect();
        if mini_node {
            let direct: Vec<Multiaddr> = addresses
                .into_iter()
                .filter(|address| !is_relayed(address) && self.may_be_dialled(address))
                .collect();
            self.ways.mesh.learn(peer, &direct);
            return self.drive_mesh(now);
        }
        self.ways.paths.learn(peer, &addresses, now);
        if dial {
            self.dial_every_way(peer, false, now);
        }
    }

    /// Opens a connection with a peer by whatever way there is; `suspect`: one that is there may be dead.
    pub(super) fn handle_reach(&mut self, peer: PeerId, suspect: bool) {
        let now = Instant::now();
        if !self.dial_every_way(peer, suspect, now) {
            return;
        }
        // Others may know a way that this peer has not heard of.
        self.presence.want(peer);
    }

    /// Says whether anything is done.
    fn dial_every_way(&mut self, peer: PeerId, suspect: bool, now: Instant) -> bool {
        if peer == *self.swarm.local_peer_id() || (self.table.is_connected(&peer) && !suspect) {
            return false;
        }
        if self.ways.attempts.len() >= REACHED && !self.ways.attempts.contains_key(&peer) {
            let long_ago = |attempt: &Attempt| {
                attempt.reached.is_none_or(|at| now.saturating_duration_since(at) > SUSPECT_PAUSE)
            };
            self.ways.attempts.retain(|_, attempt| !long_ago(attempt));
            if self.ways.attempts.len() >= REACHED {
                return false;
            }
        }
        let attempt = self.ways.attempts.entry(peer).or_default();
        let (last, pause) = if suspect {
            (&mut attempt.suspected, SUSPECT_PAUSE)
        } else {
            (&mut attempt.reached, REACH_PAUSE)
        };
        if last.is_some_and(|last| now.saturating_duration_since(last) < pause) {
            return false;
        }
        *last = Some(now);
        if suspect {
            let doubted: Vec<ConnectionId> = self.table.connections_of(&peer).map(|(id, _)| id).collect();
            self.ways.suspects.extend(doubted);
        }
        let relays = if self.ways.role == Role::Peer { self.ways.connected_mini_nodes() } else { Vec::new() };
        let plan = self.ways.paths.plan(peer, &relays, now);
        tracing::debug!(%peer, suspect, direct = ?plan.direct, relayed = plan.relayed.len(), "dialling by every way");
        self.dial_one_way(peer, plan.direct, Purpose::Direct(peer));
        self.dial_one_way(peer, plan.relayed, Purpose::Relayed(peer));
        true
    }

    fn dial_one_way(&mut self, peer: PeerId, mut addresses: Vec<Multiaddr>, purpose: Purpose) {
        addresses.retain(|address| can_be_dialled(address) && self.may_be_dialled(address));
        addresses.truncate(DIALLED);
        if addresses.is_empty() {
            return;
        }
        let options = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(addresses).build();
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.ways.dials.insert(id, purpose);
            }
            Err(error) => tracing::debug!(%peer, %error, "not dialled"),
        }
    }

    /// When the mesh wants to be asked again, if it does.
    pub(super) fn mesh_timeout(&self) -> Option<Instant> {
        self.ways.mesh.poll_timeout()
    }

    /// What happens now and then.
    pub(super) fn tick_ways(&mut self, now: Instant) {
        let changes = std::mem::take(&mut self.ways.interfaces);
        // The first addresses of a start are no change.
        if self.has_started() && (changes.came || changes.went != [false; 2]) {
            self.interfaces_changed(&changes, now);
        }
        self.presence.set_relayed_only(self.ways.is_hidden(now));
        for address in &self.ways.told {
            self.ways.nat.tested(address, true, now);
        }
        self.drive_mesh(now);
        let limit = self.relayed_idle;
        for connection in self.swarm.behaviour_mut().streams.idle_relayed(now, limit) {
            tracing::debug!(?connection, "closing a relayed connection that nothing uses");
            self.swarm.close_connection(connection);
        }
    }

    fn interfaces_changed(&mut self, changes: &Interfaces, now: Instant) {
        let lost = changes.went != [false; 2];
        // A new address is of interest to whoever has lost the others; on starting, dials are on their way.
        if !lost && (!self.ways.met || !self.ways.connected_mini_nodes().is_empty()) {
            return;
        }
        if lost {
            tracing::info!("the addresses of this machine changed; looking for ways anew");
        }
        for peer in self.table.connected().copied().collect::<Vec<_>>() {
            let went = |address: &Multiaddr| {
                Reach::of(address) != Reach::Loopback
                    && ip_of(address).is_some_and(|ip| changes.went[usize::from(ip.is_ipv6())])
            };
            let doubted: Vec<ConnectionId> = self
                .table
                .connections_of(&peer)
                .filter(|(_, address)| went(address))
                .map(|(id, _)| id)
                .collect();
            if !doubted.is_empty() && self.ways.doubted.len() < DOUBTED {
                self.ways.doubted.push(peer);
            }
            self.ways.suspects.extend(doubted);
        }
        if lost {
            self.ways.nat.network_changed();
            if self.ways.role == Role::Peer {
                let direct = self.swarm.external_addresses().filter(|address| !is_relayed(address));
                let direct: Vec<Multiaddr> = direct.cloned().collect();
                direct.iter().for_each(|address| self.swarm.remove_external_address(address));
            }
        }
        self.ways.attempts.clear();
        self.ways.mesh.network_changed(now);
    }

    /// Why a peer that is not connected is not.
    pub(super) fn why(&self, peer: &PeerId) -> Option<String> {
        (!self.table.is_connected(peer)).then(|| self.ways.paths.why(peer, Instant::now()))
    }

    /// The connected peers, with the way to each. Between two that nobody can dial, a direct connection leads through
    /// routers that both opened from inside, whichever of their dials it came of.
    pub(super) fn peer_infos(&self) -> Vec<PeerInfo> {
        let mut infos = self.table.infos();
        if self.ways.is_hidden(Instant::now()) {
            let hidden = |info: &&mut PeerInfo| {
                info.path == Path::Direct
                    && is_public(&info.addr)
                    && self.presence.is_relayed_only(&info.peer)
            };
            infos.iter_mut().filter(hidden).for_each(|info| info.path = Path::Punched);
        }
        // The address of an end may name the relay's place only.
        let relays: Vec<(PeerId, Option<IpAddr>)> =
            infos.iter().filter(|info| info.mini_node).map(|info| (info.peer, ip_of(&info.addr))).collect();
        let nameless = |info: &&mut PeerInfo| info.path == Path::Relayed && info.via.is_none();
        for info in infos.iter_mut().filter(nameless) {
            let place = ip_of(&info.addr);
            info.via = relays.iter().find(|(_, ip)| ip.is_some() && *ip == place).map(|(relay, _)| *relay);
        }
        infos
    }

    pub(super) fn ways_status(&self) -> WaysStatus {
        let now = Instant::now();
        let external: Vec<Multiaddr> = self.swarm.external_addresses().cloned().collect();
        if self.ways.role == Role::MiniNode {
            return self.mini_node_status(external);
        }
        WaysStatus {
            nat: NatStatus {
                reachability: self.ways.nat.reachability(now),
                udp: self.ways.nat.kind(Carrier::Udp, now),
                tcp: self.ways.nat.kind(Carrier::Tcp, now),
                advice: self.ways.nat.advice(now),
            },
            external,
            upnp: self.ways.upnp,
            mini_nodes: self.ways.mesh.status(),
            remembered: self.ways.mesh.addresses(),
        }
    }

    /// A mini-node is where its operator says, or where it listens: nobody tests that.
    fn mini_node_status(&self, external: Vec<Multiaddr>) -> WaysStatus {
        let (reachability, advice) = if external.is_empty() {
            let advice = "This mini-node has no public address, so that nobody is told of it and it relays for nobody: name one \
                          with --external.";
            (Reachability::Private, advice)
        } else {
            (Reachability::Public, "A mini-node: let UDP and TCP in at these addresses.")
        };
        let nat = NatStatus {
            reachability,
            udp: NatKind::Unknown,
            tcp: NatKind::Unknown,
            advice: advice.to_owned(),
        };
        let mesh = &self.ways.mesh;
        WaysStatus { nat, external, upnp: Upnp::Off, mini_nodes: mesh.status(), remembered: mesh.addresses() }
    }
}

fn socket_of(address: &Multiaddr) -> Option<SocketAddr> {
    let ip = ip_of(address)?;
    address.iter().find_map(|part| match part {
        Protocol::Udp(port) | Protocol::Tcp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    })
}

fn multiaddr_of(carrier: Carrier, socket: SocketAddr) -> Multiaddr {
    let address = Multiaddr::from(socket.ip());
    match carrier {
        Carrier::Udp => address.with(Protocol::Udp(socket.port())).with(Protocol::QuicV1),
        Carrier::Tcp => address.with(Protocol::Tcp(socket.port())),
    }
}

/// The reason of a failed dial, for people: what each address said, in short.
fn dial_failure(error: &DialError) -> String {
    match error {
        DialError::Transport(errors) => {
            let texts: BTreeSet<String> = errors.iter().map(|(_, error)| innermost(error)).collect();
            texts.into_iter().collect::<Vec<_>>().join("; ")
        }
        other => innermost(other),
    }
}
