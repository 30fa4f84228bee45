//! Streams between peers: one behaviour for all of our request protocols.
//!
//! libp2p-stream queues a single inbound stream and silently drops the rest of a burst, picks a random one of several
//! connections, and keeps a sender for every connection that ever was. Here a stream that fits the limits is always
//! delivered, the best connection is chosen, and nothing outlives its connection. A stream beyond the limits is
//! dropped: the opener sees it end before the first reply byte, and may then try again, because no server acts on a
//! request without answering it.

mod behaviour;
mod handler;
mod rank;

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::{PeerId, StreamProtocol, swarm::ConnectionId};
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    time,
};

pub(crate) use behaviour::Behaviour;
pub use rank::Transport;
pub(crate) use rank::{Rank, dialled};

use crate::slots::{Slot, Slots};

/// Streams being opened at once: they wait in the swarm's queues.
const OPENS_IN_FLIGHT: usize = 256;

/// A stream sees the end of its connection a moment before the swarm does; so long it waits to learn which of the two
/// ended. Only streams that ended too early wait.
const CLOSED_WITHIN: Duration = Duration::from_millis(100);

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Fate {
    /// There is a better one with the peer.
    superseded: bool,
    /// It is gone.
    closed: bool,
}

/// What a connection's streams and the behaviour know of one another: who holds it shows that the connection is used.
#[derive(Debug)]
struct Usage {
    connection: ConnectionId,
    /// It leads through another peer.
    relayed: bool,
    /// Where the peer is, or the relay on the way to it.
    ip: Option<IpAddr>,
    fate: watch::Sender<Fate>,
}

/// A connection with a peer. Whoever keeps one keeps it open, also when it is not the best.
#[derive(Debug, Clone)]
pub(crate) struct Way(Arc<Usage>);

impl Way {
    /// Whether it leads through another peer.
    pub(crate) fn is_relayed(&self) -> bool {
        self.0.relayed
    }

    /// Where the peer is, or the relay on the way to it.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.0.ip
    }

    /// Whether the end of it has been noticed.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.fate.borrow().closed
    }
}

impl Usage {
    fn set_superseded(&self, superseded: bool) {
        self.fate.send_if_modified(|fate| std::mem::replace(&mut fate.superseded, superseded) != superseded);
    }

    fn set_closed(&self) {
        self.fate.send_if_modified(|fate| !std::mem::replace(&mut fate.closed, true));
    }
}

/// A stream on a connection with a peer.
#[derive(Debug)]
pub(crate) struct PeerStream {
    stream: libp2p::Stream,
    way: Way,
}

impl PeerStream {
    /// The connection it is on.
    pub(crate) fn way(&self) -> &Way {
        &self.way
    }

    /// Whether there is now a better connection with the peer. A stream that would stay for long is then opened anew,
    /// so that of several connections all but one become idle and are closed.
    pub(crate) fn is_superseded(&self) -> bool {
        self.way.0.fate.borrow().superseded
    }

    /// Waits until there is a better connection with the peer.
    pub(crate) fn superseded(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut fate = self.way.0.fate.subscribe();
        async move {
            if fate.wait_for(|fate| fate.superseded).await.is_err() {
                // Nobody is left who could say so.
                std::future::pending().await
            }
        }
    }

    /// Whether this stream, which has ended, ended with its connection. Then its end says nothing about the peer.
    pub(crate) fn lost_connection(&self) -> impl Future<Output = bool> + Send + use<> {
        let mut fate = self.way.0.fate.subscribe();
        async move { time::timeout(CLOSED_WITHIN, fate.wait_for(|fate| fate.closed)).await.is_ok() }
    }
}

/// A stream that a peer opened.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) peer: PeerId,
    pub(crate) protocol: StreamProtocol,
    pub(crate) stream: PeerStream,
    /// Its place among the permitted ones.
    pub(crate) slot: Slot,
}

/// Why a stream cannot be opened.
#[derive(Debug)]
pub(crate) enum OpenError {
    NotConnected,
    Unsupported,
    Io(io::Error),
    Shutdown,
}

/// A request for a stream on its way to the connection.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    peer: PeerId,
    /// The connection that is preferred to the best one, while it is there.
    on: Option<ConnectionId>,
    protocol: StreamProtocol,
    reply: oneshot::Sender<Result<PeerStream, OpenError>>,
}

/// Opens streams. Cloning is cheap.
#[derive(Debug, Clone)]
pub(crate) struct Opener {
    requests: mpsc::Sender<OpenRequest>,
    in_flight: Arc<Semaphore>,
}

impl Opener {
    /// Opens a stream on the best connection with the peer. Does not dial. With the lazy negotiation of protocols,
    /// a peer that does not speak this one shows only when the answer is read.
    pub(crate) async fn open(&self, peer: PeerId, protocol: StreamProtocol) -> Result<PeerStream, OpenError> {
        self.open_by(peer, None, protocol).await
    }

    /// The same on a certain connection, and on the best one when that is gone.
    pub(crate) async fn open_on(
        &self,
        peer: PeerId,
        way: &Way,
        protocol: StreamProtocol,
    ) -> Result<PeerStream, OpenError> {
        self.open_by(peer, Some(way.0.connection), protocol).await
    }

    async fn open_by(
        &self,
        peer: PeerId,
        on: Option<ConnectionId>,
        protocol: StreamProtocol,
    ) -> Result<PeerStream, OpenError> {
        let _permit = self.in_flight.acquire().await.map_err(|_| OpenError::Shutdown)?;
        let (reply, opened) = oneshot::channel();
        let request = OpenRequest { peer, on, protocol, reply };
        self.requests.send(request).await.map_err(|_| OpenError::Shutdown)?;
        // The connection closed with the request in its queue.
        let closed = || OpenError::Io(io::ErrorKind::ConnectionReset.into());
        opened.await.unwrap_or_else(|_| Err(closed()))
    }
}

/// The behaviour, the handle that opens streams and the receiver of what peers open. `on_last_direct` hears of every peer
/// whose last direct connection has closed.
pub(crate) fn new(
    local: PeerId,
    protocols: Arc<[StreamProtocol]>,
    slots: Slots,
    inbound: usize,
    on_drop: impl Fn(&StreamProtocol) + Send + Sync + 'static,
    on_last_direct: impl Fn(&PeerId) + Send + Sync + 'static,
) -> (Behaviour, Opener, mpsc::Receiver<Inbound>) {
    let (requests, opens) = mpsc::channel(OPENS_IN_FLIGHT);
    // Every queued stream holds a slot, so the queue never is full.
    let (accepted, incoming) = mpsc::channel(inbound.max(1));
    let accept = Arc::new(handler::Accept { protocols, slots, accepted, on_drop: Box::new(on_drop) });
    let opener = Opener { requests, in_flight: Arc::new(Semaphore::new(OPENS_IN_FLIGHT)) };
    (Behaviour::new(local, opens, accept, Box::new(on_last_direct)), opener, incoming)
}

impl AsyncRead for PeerStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
