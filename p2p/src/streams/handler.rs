//! Opens and accepts streams on one connection.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use libp2p::{
    PeerId, Stream, StreamProtocol,
    core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo},
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use tokio::sync::{mpsc, oneshot};

use super::{Inbound, OpenError, OpenRequest, PeerStream, Usage, Way};
use crate::slots::Slots;

/// Who always holds a connection's usage: its handler and the behaviour.
pub(super) const HELD_WHEN_IDLE: usize = 2;

/// What all handlers share about inbound streams.
pub(super) struct Accept {
    pub(super) protocols: Arc<[StreamProtocol]>,
    pub(super) slots: Slots,
    pub(super) accepted: mpsc::Sender<Inbound>,
    pub(super) on_drop: Box<dyn Fn(&StreamProtocol) + Send + Sync>,
}

/// Who waits for an outbound stream.
#[derive(Debug)]
pub(crate) struct Waiting(oneshot::Sender<Result<PeerStream, OpenError>>);

/// One connection's end of the behaviour.
pub(crate) struct Handler {
    peer: PeerId,
    accept: Arc<Accept>,
    usage: Arc<Usage>,
    /// Bounded by the opens that may be in flight.
    requests: VecDeque<OpenRequest>,
    waker: Option<Waker>,
}

impl Handler {
    pub(super) fn new(peer: PeerId, accept: Arc<Accept>, usage: Arc<Usage>) -> Self {
        Self { peer, accept, usage, requests: VecDeque::new(), waker: None }
    }

    fn wrap(&self, stream: Stream) -> PeerStream {
        PeerStream { stream, way: Way(self.usage.clone()) }
    }

    fn accept(&self, stream: Stream, protocol: StreamProtocol) {
        let Some(slot) = self.accept.slots.take(self.peer) else {
            (self.accept.on_drop)(&protocol);
            return;
        };
        let inbound = Inbound { peer: self.peer, protocol, stream: self.wrap(stream), slot };
        // Fails only while the network shuts down.
        let _ = self.accept.accepted.try_send(inbound);
    }
}

impl Drop for Handler {
    /// A handler lives as long as its connection.
    fn drop(&mut self) {
        self.usage.set_closed();
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = OpenRequest;
    type ToBehaviour = Infallible;
    type InboundProtocol = Protocols;
    type OutboundProtocol = Protocols;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Waiting;

    fn listen_protocol(&self) -> SubstreamProtocol<Protocols> {
        SubstreamProtocol::new(Protocols(self.accept.protocols.clone()), ())
    }

    /// Streams do that by themselves; besides them only who keeps the [`Way`].
    fn connection_keep_alive(&self) -> bool {
        Arc::strong_count(&self.usage) > HELD_WHEN_IDLE
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Protocols, Waiting, Self::ToBehaviour>> {
        let Some(request) = self.requests.pop_front() else {
            self.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let protocols = Protocols(Arc::new([request.protocol]));
        let protocol = SubstreamProtocol::new(protocols, Waiting(request.reply));
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
    }

    fn on_behaviour_event(&mut self, request: OpenRequest) {
        self.requests.push_back(request);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Protocols, Protocols, (), Waiting>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                let (stream, protocol) = protocol;
                self.accept(stream, protocol);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                let (stream, _) = protocol;
                let _ = info.0.send(Ok(self.wrap(stream)));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let error = match error {
                    StreamUpgradeError::Timeout => OpenError::Io(std::io::ErrorKind::TimedOut.into()),
                    StreamUpgradeError::NegotiationFailed => OpenError::Unsupported,
                    StreamUpgradeError::Io(error) => OpenError::Io(error),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                let _ = info.0.send(Err(error));
            }
            _ => {}
        }
    }
}

/// Agrees on the name of a protocol, nothing more.
#[derive(Debug, Clone)]
pub(crate) struct Protocols(Arc<[StreamProtocol]>);

impl UpgradeInfo for Protocols {
    type Info = StreamProtocol;
    type InfoIter = Vec<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.to_vec()
    }
}

impl InboundUpgrade<Stream> for Protocols {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

impl OutboundUpgrade<Stream> for Protocols {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}
