//! Routes requests for streams to the best connection.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};
use tokio::sync::{mpsc, watch};

use super::{
    OpenError, OpenRequest, Usage,
    handler::{Accept, HELD_WHEN_IDLE, Handler},
    rank::{Rank, dialled},
};
use crate::reach::{ip_of, is_relayed};

/// A connection that is not the best one is closed after this, if nothing uses it: the streams that were opened on it
/// before the better one came are through by then.
const DUPLICATE_GRACE: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    rank: Rank,
    since: Instant,
    /// When a stream was last seen on it.
    used: Instant,
    we_dialled: bool,
    /// One more for the handler and for each stream.
    usage: Arc<Usage>,
}

/// Hears of peers that can no longer be reached but through others.
pub(super) type OnLastDirect = Box<dyn Fn(&PeerId) + Send + Sync>;

/// See the module above.
pub(crate) struct Behaviour {
    local: PeerId,
    opens: mpsc::Receiver<OpenRequest>,
    accept: Arc<Accept>,
    on_last_direct: OnLastDirect,
    /// Bounded by the limit on connections.
    peers: HashMap<PeerId, Vec<Connection>>,
    /// Tokens of connections that are established but not yet reported; bounded as `peers`.
    tokens: HashMap<ConnectionId, Arc<Usage>>,
}

impl Behaviour {
    pub(super) fn new(
        local: PeerId,
        opens: mpsc::Receiver<OpenRequest>,
        accept: Arc<Accept>,
        on_last_direct: OnLastDirect,
    ) -> Self {
        Self { local, opens, accept, on_last_direct, peers: HashMap::new(), tokens: HashMap::new() }
    }

    /// Connections that a better one replaces, that are not used, and that are ours to close: the dialler of a
    /// connection closes it, so that both sides never close a different one at the same time.
    pub(crate) fn superfluous(&self, now: Instant) -> Vec<(PeerId, ConnectionId)> {
        let mut found = Vec::new();
        for (peer, connections) in &self.peers {
            let Some(best) = best(connections) else { continue };
            for connection in connections {
                let idle = Arc::strong_count(&connection.usage) <= HELD_WHEN_IDLE;
                let old = now.saturating_duration_since(connection.since) >= DUPLICATE_GRACE
                    && now.saturating_duration_since(best.since) >= DUPLICATE_GRACE;
                if connection.id != best.id && connection.we_dialled && idle && old {
                    found.push((*peer, connection.id));
                }
            }
        }
        found
    }

    /// Relayed connections that no stream of ours has used for so long. Both sides may close one: nothing is lost by it.
    pub(crate) fn idle_relayed(&mut self, now: Instant, limit: Duration) -> Vec<ConnectionId> {
        let mut found = Vec::new();
        for connection in self.peers.values_mut().flatten().filter(|connection| connection.usage.relayed) {
            if Arc::strong_count(&connection.usage) > HELD_WHEN_IDLE {
                connection.used = now;
            } else if now.saturating_duration_since(connection.used) >= limit {
                found.push(connection.id);
            }
        }
        found
    }

    fn handler(&mut self, id: ConnectionId, peer: PeerId, relayed: bool, remote: &Multiaddr) -> Handler {
        let usage =
            Arc::new(Usage { connection: id, relayed, ip: ip_of(remote), fate: watch::Sender::default() });
        self.tokens.insert(id, usage.clone());
        Handler::new(peer, self.accept.clone(), usage)
    }

    fn forget(&mut self, peer: &PeerId, id: ConnectionId) {
        let Some(connections) = self.peers.get_mut(peer) else { return };
        for closed in connections.extract_if(.., |connection| connection.id == id) {
            closed.usage.set_closed();
        }
        mark_superseded(connections);
        if connections.iter().all(|connection| connection.usage.relayed) {
            (self.on_last_direct)(peer);
        }
        if connections.is_empty() {
            self.peers.remove(peer);
        }
    }
}

/// The connection to use: the best rank, and among equals the newest, because of two that the same side dialled the
/// older one is more likely to be dead.
fn best(connections: &[Connection]) -> Option<&Connection> {
    connections.iter().rev().min_by_key(|connection| connection.rank)
}

fn mark_superseded(connections: &[Connection]) {
    let best = best(connections).map(|connection| connection.id);
    for connection in connections {
        connection.usage.set_superseded(Some(connection.id) != best);
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(id, peer, is_relayed(local) || is_relayed(remote), remote))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(id, peer, is_relayed(remote), remote))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                let Some(usage) = self.tokens.remove(&established.connection_id) else { return };
                let connections = self.peers.entry(established.peer_id).or_default();
                connections.push(Connection {
                    id: established.connection_id,
                    rank: Rank::new(&self.local, &established.peer_id, established.endpoint),
                    since: Instant::now(),
                    used: Instant::now(),
                    we_dialled: dialled(established.endpoint),
                    usage,
                });
                mark_superseded(connections);
            }
            FromSwarm::ConnectionClosed(closed) => self.forget(&closed.peer_id, closed.connection_id),
            // Another behaviour denied the connection after this one had made its handler.
            FromSwarm::ListenFailure(failure) => {
                self.tokens.remove(&failure.connection_id);
            }
            FromSwarm::DialFailure(failure) => {
                self.tokens.remove(&failure.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        while let Poll::Ready(Some(request)) = self.opens.poll_recv(cx) {
            let connections = self.peers.get(&request.peer).map_or(&[][..], Vec::as_slice);
            let preferred = connections.iter().find(|connection| Some(connection.id) == request.on);
            let Some(connection) = preferred.or_else(|| best(connections)) else {
                let _ = request.reply.send(Err(OpenError::NotConnected));
                continue;
            };
            return Poll::Ready(ToSwarm::NotifyHandler {
                peer_id: request.peer,
                handler: NotifyHandler::One(connection.id),
                event: request,
            });
        }
        Poll::Pending
    }
}
