//! The task that owns the swarm.
//!
//! Commands come in over a bounded channel and are answered by oneshot; events go out over a bounded channel that
//! never makes the loop wait. Nothing slow is awaited here: streams, files and decisions run as tasks of their own.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::transport::ListenerId,
    gossipsub::TopicHash,
    identify,
    metrics::{Metrics as Libp2pMetrics, Recorder},
    multiaddr::Protocol,
    ping,
    swarm::{
        ConnectionError, ConnectionId, DialError, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time,
};
use tokio_util::sync::CancellationToken;

use super::{
    Behaviour, Command, Traffic,
    behaviour::{BehaviourEvent, read_agent},
    table::Table,
    transport::{can_be_dialled, check_port},
    ways::Ways,
};
use crate::{
    error::{ConnectError, StartError},
    event::{DisconnectReason, Event, EventSender},
    metrics::{Labelled, Metrics},
    presence::task::Shared,
    reach::is_relayed,
    score::{Offence, Scores, Verdict},
    streams::{Transport, dialled},
};

/// How often bans, duplicates and the like are looked at.
const TICK: Duration = Duration::from_millis(500);
/// A peer that came back is dialled after this, unless it dials first.
const REDIAL_AFTER: Duration = Duration::from_millis(250);
/// How long a goodbye may take to leave this machine.
const GOODBYE: Duration = Duration::from_millis(200);
/// How long shutting down waits for connections to close in order.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

type Waiter = oneshot::Sender<Result<PeerId, ConnectError>>;

/// A dial on its way and who waits for it.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) address: Multiaddr,
    pub(super) peer: Option<PeerId>,
    pub(super) waiters: Vec<Waiter>,
}

impl Dial {
    /// Whether this is a dial of the peer, or of whoever is at the address.
    pub(super) fn is_of(&self, peer: Option<PeerId>, address: &Multiaddr) -> bool {
        (peer.is_some() && self.peer == peer) || self.address == *address
    }
}

/// What an actor is made of.
pub(crate) struct Parts {
    pub(crate) swarm: Swarm<Behaviour>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) events: EventSender,
    pub(crate) metrics: Metrics,
    pub(crate) libp2p_metrics: Libp2pMetrics,
    pub(crate) traffic: Traffic,
    pub(crate) presence: Shared,
    /// Peers from which on no more are dialled because they were found.
    pub(crate) enough_peers: usize,
    /// Relayed connections that nothing uses for so long are closed.
    pub(crate) relayed_idle: Duration,
    pub(crate) ways: Ways,
    /// Moves whenever a peer connects, leaves or comes back.
    pub(crate) changes: watch::Sender<u64>,
    /// Where this peer can be reached, as far as that is confirmed.
    pub(crate) external: watch::Sender<Vec<Multiaddr>>,
    /// Cancelled when the actor ends.
    pub(crate) closed: CancellationToken,
}

/// See the module. All fields belong to the actor's task alone, but the metrics and the traffic, which are counters.
pub(crate) struct Actor {
    pub(super) swarm: Swarm<Behaviour>,
    commands: mpsc::Receiver<Command>,
    events: EventSender,
    pub(super) metrics: Metrics,
    libp2p_metrics: Libp2pMetrics,
    pub(super) presence: Shared,
    pub(super) enough_peers: usize,
    pub(super) relayed_idle: Duration,
    pub(super) ways: Ways,
    /// Of the network's gossip, once it is joined.
    pub(super) topic: Option<TopicHash>,
    changes: watch::Sender<u64>,
    external: watch::Sender<Vec<Multiaddr>>,
    closed: CancellationToken,
    pub(super) table: Table,
    /// Peers that came back as another process, and when to dial them. Bounded by the limit on connections.
    redials: HashMap<PeerId, (Instant, Vec<Multiaddr>)>,
    scores: Scores,
    /// Peers of which every connection is being closed, until the last one is. Bounded by the limit on connections.
    resetting: HashSet<PeerId>,
    /// Bounded by the limit on pending connections.
    pub(super) dials: HashMap<ConnectionId, Dial>,
    /// Reasons of disconnects of ours, until the last connection is closed.
    leaving: HashMap<PeerId, DisconnectReason>,
    pub(super) addresses: BTreeSet<Multiaddr>,
    /// Listeners that have not come up yet.
    starting: HashMap<ListenerId, Multiaddr>,
    ready: Option<oneshot::Sender<Result<(), StartError>>>,
}

impl Actor {
    pub(crate) fn new(parts: Parts) -> Self {
        let local = *parts.swarm.local_peer_id();
        Self {
            swarm: parts.swarm,
            commands: parts.commands,
            events: parts.events,
            metrics: parts.metrics,
            libp2p_metrics: parts.libp2p_metrics,
            presence: parts.presence,
            enough_peers: parts.enough_peers,
            relayed_idle: parts.relayed_idle,
            ways: parts.ways,
            topic: None,
            changes: parts.changes,
            external: parts.external,
            closed: parts.closed,
            table: Table::new(local, parts.traffic),
            redials: HashMap::new(),
            resetting: HashSet::new(),
            scores: Scores::default(),
            dials: HashMap::new(),
            leaving: HashMap::new(),
            addresses: BTreeSet::new(),
            starting: HashMap::new(),
            ready: None,
        }
    }

    /// Begins to listen; `ready` learns when every address is up.
    pub(crate) fn listen(
        &mut self,
        addresses: &[Multiaddr],
        ready: oneshot::Sender<Result<(), StartError>>,
    ) -> Result<(), StartError> {
        for address in addresses {
            let refused = |reason| StartError::Listen { address: address.clone(), reason };
            check_port(address).map_err(|error| refused(error.to_string()))?;
            let listening =
                self.swarm.listen_on(address.clone()).map_err(|error| refused(innermost(&error)))?;
            self.starting.insert(listening, address.clone());
        }
        self.ready = Some(ready);
        self.report_ready(None);
        Ok(())
    }

    /// Runs until it is told to end, or every handle is gone.
    pub(crate) async fn run(mut self) {
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let done = loop {
            let mesh = self.mesh_timeout();
            tokio::select! {
                command = self.commands.recv() => match command {
                    None => break None,
                    Some(Command::Shutdown { reply }) => break Some(reply),
                    Some(command) => self.handle_command(command),
                },
                event = self.swarm.select_next_some() => self.handle_event(event),
                _ = ticks.tick() => self.handle_tick(Instant::now()),
                () = until(mesh) => self.drive_mesh(Instant::now()),
            }
        };
        self.close().await;
        self.closed.cancel();
        if let Some(reply) = done {
            let _ = reply.send(());
        }
    }

    /// Closes every connection in order, so that the peers know at once.
    async fn close(&mut self) {
        self.commands.close();
        self.say_goodbye().await;
        let peers: Vec<PeerId> = self.table.connected().copied().collect();
        for peer in peers {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closing = async {
            while self.table.connected().next().is_some() {
                let event = self.swarm.select_next_some().await;
                self.handle_event(event);
            }
        };
        if time::timeout(CLOSE_TIMEOUT, closing).await.is_err() {
            tracing::debug!("some connections did not close in time");
        }
    }

    /// Tells everybody that this peer leaves, and sees that it goes out before the connections close.
    async fn say_goodbye(&mut self) {
        let (Some(network), Some(bytes)) = (self.presence.network(), self.presence.goodbye()) else { return };
        if self.table.connected().next().is_none() {
            return;
        }
        self.handle_publish(&network, bytes);
        let flushing = async {
            loop {
                let event = self.swarm.select_next_some().await;
                self.handle_event(event);
            }
        };
        let _ = time::timeout(GOODBYE, flushing).await;
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Connect { address, reply } => self.handle_connect(address, reply),
            Command::Dial { peer, addresses, suspect } => self.handle_dial(peer, addresses, suspect),
            Command::Heard { peer, addresses, mini_node, dial } => {
                self.handle_heard(peer, addresses, mini_node, dial);
            }
            Command::Reach { peer, suspect } => self.handle_reach(peer, suspect),
            Command::Why { peer, reply } => {
                let _ = reply.send(self.why(&peer));
            }
            Command::Ways { reply } => {
                let _ = reply.send(self.ways_status());
            }
            Command::Subscribe { network } => self.handle_subscribe(&network),
            Command::Publish { network, bytes } => self.handle_publish(&network, bytes),
            Command::KnownPeers { reply } => {
                let _ = reply.send(self.table.addresses());
            }
            Command::Disconnect { peer, reason } => {
                self.leave(peer, DisconnectReason::Local(reason));
                let _ = self.swarm.disconnect_peer_id(peer);
            }
            Command::Penalize { peer, offence } => self.handle_offence(peer, offence),
            Command::Peers { reply } => {
                let _ = reply.send(self.peer_infos());
            }
            Command::AddExternalAddress { address } => {
                self.swarm.add_external_address(address);
                self.external_changed();
            }
            Command::ListenAddrs { reply } => {
                let local = *self.swarm.local_peer_id();
                let full = self.addresses.iter().map(|address| address.clone().with(Protocol::P2p(local)));
                let _ = reply.send(full.collect());
            }
            // Taken by the loop.
            Command::Shutdown { reply } => drop(reply),
        }
    }

    fn handle_connect(&mut self, address: Multiaddr, reply: Waiter) {
        let peer = match address.iter().last() {
            Some(Protocol::P2p(peer)) => Some(peer),
            _ => None,
        };
        if peer == Some(*self.swarm.local_peer_id()) {
            let _ = reply.send(Err(ConnectError::Myself));
            return;
        }
        if let Some(peer) = peer.filter(|peer| self.table.is_connected(peer)) {
            let _ = reply.send(Ok(peer));
            return;
        }
        if let Some(dial) = self.dials.values_mut().find(|dial| dial.is_of(peer, &address)) {
            dial.waiters.push(reply);
            return;
        }
        if !can_be_dialled(&address) {
            let _ =
                reply.send(Err(ConnectError::Address { address, reason: "no transport for it".to_owned() }));
            return;
        }
        let options = match peer {
            Some(peer) => DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(vec![address.clone()])
                .build(),
            None => DialOpts::unknown_peer_id().address(address.clone()).build(),
        };
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.dials.insert(connection, Dial { address, peer, waiters: vec![reply] });
            }
            Err(error) => {
                let _ = reply.send(Err(connect_error(&address, &error)));
            }
        }
    }

    pub(super) fn handle_dial(&mut self, peer: PeerId, mut addresses: Vec<Multiaddr>, suspect: bool) {
        addresses.retain(can_be_dialled);
        let condition =
            if suspect { PeerCondition::NotDialing } else { PeerCondition::DisconnectedAndNotDialing };
        let options = DialOpts::peer_id(peer).condition(condition).addresses(addresses).build();
        if let Err(error) = self.swarm.dial(options) {
            tracing::debug!(%peer, %error, "not dialled");
        }
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Circuits of ours at others are no address for a relay to give out.
    pub(super) fn external_changed(&self) {
        let direct = self.swarm.external_addresses().filter(|address| !is_relayed(address));
        self.external.send_replace(direct.cloned().collect());
    }

    pub(super) fn handle_offence(&mut self, peer: PeerId, offence: Offence) {
        Metrics::count(&self.metrics.offences, offence.name());
        let (verdict, released) = self.scores.offend(peer, offence, Instant::now());
        if let Some(released) = released {
            self.swarm.behaviour_mut().pardon(released);
        }
        if let Verdict::Ban(duration) = verdict {
            tracing::info!(%peer, ?offence, ?duration, "banned");
            self.metrics.bans.inc();
            self.leave(peer, DisconnectReason::Banned);
            self.swarm.behaviour_mut().ban(peer);
            self.events.send(Event::Banned { peer, duration });
        }
        self.count_banned();
    }

    fn handle_tick(&mut self, now: Instant) {
        self.tick_ways(now);
        let due: Vec<PeerId> =
            self.redials.iter().filter(|(_, (at, _))| *at <= now).map(|(peer, _)| *peer).collect();
        for peer in due {
            if let Some((_, addresses)) = self.redials.remove(&peer) {
                self.handle_dial(peer, addresses, false);
            }
        }
        for peer in self.scores.release(now) {
            self.swarm.behaviour_mut().pardon(peer);
        }
        self.count_banned();
        for (peer, connection) in self.swarm.behaviour().streams.superfluous(now) {
            // Circuits through it would end: libp2p's client of relays opens them on whichever it likes.
            if !self.table.carries(&peer) {
                tracing::debug!(%peer, ?connection, "closing a duplicate connection");
                self.swarm.close_connection(connection);
            }
        }
    }

    fn count_banned(&self) {
        self.metrics.banned.set(i64::try_from(self.scores.banned()).unwrap_or(i64::MAX));
    }

    /// Remembers why a connected peer is about to be disconnected; the first reason stays.
    fn leave(&mut self, peer: PeerId, reason: DisconnectReason) {
        if self.table.is_connected(&peer) {
            self.leaving.entry(peer).or_insert(reason);
        }
    }

    fn handle_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        self.libp2p_metrics.record(&event);
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Identify(event)) => self.handle_identify(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => self.handle_ping(event),
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(event)) => self.handle_gossip(event),
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(event)) => self.handle_mdns(event),
            SwarmEvent::Behaviour(BehaviourEvent::RelayClient(event)) => self.handle_relay_client(event),
            SwarmEvent::Behaviour(BehaviourEvent::Candidates(event)) => self.handle_autonat(&event),
            SwarmEvent::Behaviour(BehaviourEvent::Dcutr(event)) => self.handle_dcutr(event),
            SwarmEvent::Behaviour(BehaviourEvent::Upnp(event)) => self.handle_upnp(event),
            SwarmEvent::Behaviour(BehaviourEvent::Kademlia(event)) => self.handle_kademlia(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                let addr = endpoint.get_remote_address().clone();
                self.connections(&addr).inc();
                self.answer_dials(peer_id, connection_id);
                if self.table.established(peer_id, connection_id, &endpoint) {
                    self.metrics.peers.inc();
                    self.presence.connected(peer_id, dialled(&endpoint));
                    self.changed();
                    self.events.send(Event::Connected { peer: peer_id, addr });
                }
                if self.resetting.contains(&peer_id) {
                    // One more before the others are closed, and gossip would take it for the same visit.
                    self.swarm.close_connection(connection_id);
                }
                self.way_opened(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, endpoint, cause, .. } => {
                self.connections(endpoint.get_remote_address()).dec();
                if self.table.closed(&peer_id, connection_id) {
                    self.resetting.remove(&peer_id);
                    self.metrics.peers.dec();
                    let idle = matches!(cause, Some(ConnectionError::KeepAliveTimeout));
                    self.presence.disconnected(&peer_id, endpoint.is_relayed() || idle);
                    self.changed();
                    let why = || match cause {
                        None => DisconnectReason::Closed,
                        Some(error) => DisconnectReason::Error(error.to_string()),
                    };
                    let reason = self.leaving.remove(&peer_id).unwrap_or_else(why);
                    self.events.send(Event::Disconnected { peer: peer_id, reason });
                }
                self.way_closed(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                self.handle_failed_dial(connection_id, &error);
                self.way_failed(connection_id, peer_id, &error);
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(%send_back_addr, %error, "an incoming connection failed");
            }
            SwarmEvent::NewListenAddr { listener_id, address } => {
                self.starting.remove(&listener_id);
                self.addresses.insert(address.clone());
                self.address_came(listener_id, &address);
                self.events.send(Event::ListenAddr { addr: address });
                self.report_ready(None);
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.address_went(&address);
                self.forget_address(address);
            }
            SwarmEvent::ListenerClosed { listener_id, addresses, reason }
                if self.reservation_closed(listener_id, &reason) =>
            {
                addresses.into_iter().for_each(|address| self.forget_address(address));
            }
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                let failed = self.starting.remove(&listener_id).map(|address| {
                    let reason =
                        reason.as_ref().err().map_or_else(|| "closed".to_owned(), ToString::to_string);
                    StartError::Listen { address, reason }
                });
                tracing::warn!(?reason, ?addresses, "a listener closed");
                addresses.into_iter().for_each(|address| self.forget_address(address));
                if failed.is_some() {
                    self.report_ready(failed);
                }
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "a listener has trouble"),
            SwarmEvent::ExternalAddrConfirmed { .. } | SwarmEvent::ExternalAddrExpired { .. } => {
                self.external_changed();
            }
            _ => {}
        }
    }

    fn connections(&self, addr: &Multiaddr) -> prometheus_client::metrics::gauge::Gauge {
        let kind = Transport::of(addr).name();
        self.metrics.connections.get_or_create_owned(&Labelled { kind })
    }

    fn forget_address(&mut self, address: Multiaddr) {
        if self.addresses.remove(&address) {
            self.events.send(Event::ListenAddrGone { addr: address });
        }
    }

    /// Whether every listener has come up.
    pub(super) fn has_started(&self) -> bool {
        self.ready.is_none() && self.starting.is_empty()
    }

    fn report_ready(&mut self, failed: Option<StartError>) {
        if (failed.is_some() || self.starting.is_empty())
            && let Some(ready) = self.ready.take()
        {
            let _ = ready.send(failed.map_or(Ok(()), Err));
        }
    }

    fn answer_dials(&mut self, peer: PeerId, connection: ConnectionId) {
        let reached = |id: &ConnectionId, dial: &mut Dial| *id == connection || dial.peer == Some(peer);
        for (_, dial) in self.dials.extract_if(reached) {
            for waiter in dial.waiters {
                let _ = waiter.send(Ok(peer));
            }
        }
    }

    fn handle_failed_dial(&mut self, connection: ConnectionId, error: &DialError) {
        let Some(dial) = self.dials.remove(&connection) else { return };
        // Our second connection with a peer may be one too many, which is no failure to reach it.
        let reached = dial.peer.filter(|peer| self.table.is_connected(peer));
        for waiter in dial.waiters {
            let _ = waiter.send(reached.ok_or_else(|| connect_error(&dial.address, error)));
        }
    }

    fn handle_identify(&mut self, event: identify::Event) {
        self.libp2p_metrics.record(&event);
        let identify::Event::Received { connection_id, peer_id: peer, info } = event else { return };
        let (agent, nonce) = read_agent(&info.agent_version);
        self.way_identified(peer, connection_id, &info);
        self.table.listens(&peer, info.listen_addrs);
        let (news, stale) = self.table.identified(&peer, connection_id, &agent, nonce);
        if news {
            self.events.send(Event::Identified { peer, agent });
        }
        if stale.is_empty() {
            return;
        }
        tracing::info!(%peer, connections = stale.len(), "a peer came back; closing what it left behind");
        let addresses = self.table.addresses_of(&peer);
        if addresses.is_empty() {
            // A command that dials, asks and ends: its new connection is in use already.
            for connection in stale {
                self.swarm.close_connection(connection);
            }
        } else {
            // Gossip says what it follows on the first connection only, and the new process has not heard that: all are
            // closed and made anew.
            self.redials.insert(peer, (Instant::now() + REDIAL_AFTER, addresses));
            self.leave(peer, DisconnectReason::Local("it came back as another process".to_owned()));
            let _ = self.swarm.disconnect_peer_id(peer);
            self.resetting.insert(peer);
        }
        self.changed();
        self.events.send(Event::Restarted { peer });
    }

    fn handle_ping(&mut self, event: ping::Event) {
        self.libp2p_metrics.record(&event);
        match event.result {
            Ok(rtt) => {
                self.table.measured(&event.peer, event.connection, rtt);
                self.way_measured(event.peer, event.connection, rtt);
            }
            Err(ping::Failure::Unsupported) => {}
            Err(failure) => {
                tracing::debug!(peer = %event.peer, %failure, "a ping failed; closing the connection");
                if self.swarm.close_connection(event.connection) && self.table.connections(&event.peer) == 1 {
                    self.leave(event.peer, DisconnectReason::Silent);
                }
            }
        }
    }
}

/// Waits until then; for ever when there is no such time.
async fn until(then: Option<Instant>) {
    match then {
        Some(then) => time::sleep_until(then.into()).await,
        None => std::future::pending().await,
    }
}

fn connect_error(address: &Multiaddr, error: &DialError) -> ConnectError {
    let address = address.clone();
    match error {
        DialError::LocalPeerId { .. } => ConnectError::Myself,
        DialError::WrongPeerId { obtained, .. } => ConnectError::OtherPeer { address, found: *obtained },
        DialError::Denied { cause } => {
            let inner =
                std::error::Error::source(cause).map_or_else(|| cause.to_string(), ToString::to_string);
            ConnectError::Denied(inner)
        }
        DialError::Transport(errors) => {
            let texts: Vec<String> = errors.iter().map(|(_, error)| innermost(error)).collect();
            ConnectError::Unreachable { address, reason: texts.join("; ") }
        }
        DialError::NoAddresses => ConnectError::Address { address, reason: "nothing to dial".to_owned() },
        DialError::Aborted | DialError::DialPeerConditionFalse(_) => {
            ConnectError::Unreachable { address, reason: error.to_string() }
        }
    }
}

/// The last error of a chain: what the system said.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
