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
use tokio::sync::mpsc;

use super::{
    OpenError, OpenRequest, Usage,
    handler::{Accept, Handler},
    rank::Rank,
};

/// A connection that is not the best one is closed after this, if nothing uses it: the streams that were opened on it
/// before the better one came are through by then.
const DUPLICATE_GRACE: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    rank: Rank,
    since: Instant,
    we_dialled: bool,
    /// One more for the handler and for each stream.
    usage: Arc<Usage>,
}

/// See the module above.
pub(crate) struct Behaviour {
    local: PeerId,
    opens: mpsc::Receiver<OpenRequest>,
    accept: Arc<Accept>,
    /// Bounded by the limit on connections.
    peers: HashMap<PeerId, Vec<Connection>>,
    /// Tokens of connections that are established but not yet reported; bounded as `peers`.
    tokens: HashMap<ConnectionId, Arc<Usage>>,
}

impl Behaviour {
    pub(super) fn new(local: PeerId, opens: mpsc::Receiver<OpenRequest>, accept: Arc<Accept>) -> Self {
        Self { local, opens, accept, peers: HashMap::new(), tokens: HashMap::new() }
    }

    /// Connections that a better one replaces, that are not used, and that are ours to close: the dialler of a
    /// connection closes it, so that both sides never close a different one at the same time.
    pub(crate) fn superfluous(&self, now: Instant) -> Vec<ConnectionId> {
        let mut found = Vec::new();
        for connections in self.peers.values() {
            let Some(best) = best(connections) else { continue };
            for connection in connections {
                let idle = Arc::strong_count(&connection.usage) <= 2;
                let old = now.saturating_duration_since(connection.since) >= DUPLICATE_GRACE
                    && now.saturating_duration_since(best.since) >= DUPLICATE_GRACE;
                if connection.id != best.id && connection.we_dialled && idle && old {
                    found.push(connection.id);
                }
            }
        }
        found
    }

    fn handler(&mut self, id: ConnectionId, peer: PeerId) -> Handler {
        let usage = Arc::new(Usage::default());
        self.tokens.insert(id, usage.clone());
        Handler::new(peer, self.accept.clone(), usage)
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
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(id, peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(id, peer))
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
                    we_dialled: established.endpoint.is_dialer(),
                    usage,
                });
                mark_superseded(connections);
            }
            FromSwarm::ConnectionClosed(closed) => {
                if let Some(connections) = self.peers.get_mut(&closed.peer_id) {
                    connections.retain(|connection| connection.id != closed.connection_id);
                    mark_superseded(connections);
                    if connections.is_empty() {
                        self.peers.remove(&closed.peer_id);
                    }
                }
            }
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
            let best = self.peers.get(&request.peer).and_then(|connections| best(connections));
            let Some(connection) = best else {
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
