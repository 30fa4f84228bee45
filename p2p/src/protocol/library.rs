//! `/antiphon/library/1`: what a peer vouches for.
//!
//! A stream begins with an announcement of 96 bytes, which is answered by the other's: who knows the digest in it is
//! done. Who does not asks for the library on another stream: all of it in pages, or what differs from an earlier state
//! by reconciliation. A third kind of question is who else is here, and where.

use antiphon_proto::{
    NetworkId,
    announcement::Announcement,
    canonical, limits,
    wire::{
        KnownPeer, LibraryAllRequest, LibraryPage, LibraryReconcileRequest, LibraryReply, LibraryRequest,
        LibraryState, PeersReply, PeersRequest, StreamErrorCode, library_reply, library_request,
    },
};
use libp2p::{Multiaddr, PeerId};
use roaring::RoaringBitmap;
use tokio::{sync::oneshot, time};

use super::{
    Fault, LIBRARY, Server, frame, malformed,
    request::{self, Question},
};
use crate::{
    config::Timeouts,
    error::RequestError,
    metrics::Metrics,
    presence::{
        Dropped, Learned, LibrarySum, pages,
        reconcile::{Learner, Teacher},
    },
    streams::{Opener, PeerStream},
    swarm::Command,
};

/// A peer and its addresses.
pub(crate) type Known = (PeerId, Vec<Multiaddr>);

/// Answers one stream.
pub(crate) async fn answer(server: &Server, peer: PeerId, stream: &mut PeerStream) -> Result<(), Fault> {
    let bytes = server.read_request(stream, limits::LIBRARY_MESSAGE_BYTES).await?;
    // No protobuf message begins with this byte.
    if bytes.first() == Some(&antiphon_proto::announcement::ANNOUNCEMENT_VERSION) {
        return greet(server, peer, stream, &bytes).await;
    }
    let request: LibraryRequest = decode("library request", &bytes).map_err(malformed)?;
    let Some(network) = server.presence.network() else {
        return refuse(server, stream, StreamErrorCode::Busy).await;
    };
    if request.network != network.0 {
        return refuse(server, stream, StreamErrorCode::OtherNetwork).await;
    }
    match request.body {
        Some(library_request::Body::Peers(asked)) => tell_peers(server, peer, stream, &asked).await,
        Some(library_request::Body::All(LibraryAllRequest {})) => {
            let Some(_slot) = server.lessons.take(peer) else {
                return refuse(server, stream, StreamErrorCode::Busy).await;
            };
            send_all(server, stream).await
        }
        Some(library_request::Body::Reconcile(first)) => {
            let Some(_slot) = server.lessons.take(peer) else {
                return refuse(server, stream, StreamErrorCode::Busy).await;
            };
            teach(server, stream, first.message).await
        }
        // A later version may ask more.
        None => refuse(server, stream, StreamErrorCode::Malformed).await,
    }
}

async fn greet(server: &Server, peer: PeerId, stream: &mut PeerStream, bytes: &[u8]) -> Result<(), Fault> {
    let said = Announcement::parse(bytes).map_err(malformed)?;
    Metrics::count_bytes(&server.metrics.library_bytes, "hello_received", bytes.len());
    // A peer that has no ledger yet has nothing to say; the other tries again.
    let Some(ours) = server.presence.hello() else { return Ok(()) };
    server.write(stream, &frame::encode_bytes(&ours)).await?;
    Metrics::count_bytes(&server.metrics.library_bytes, "hello_sent", ours.len());
    server.close(stream).await?;
    match server.presence.handle_hello(peer, said) {
        Err(Dropped::Numbers) => Err(malformed("an announcement whose numbers do not fit")),
        _ => Ok(()),
    }
}

async fn refuse(server: &Server, stream: &mut PeerStream, code: StreamErrorCode) -> Result<(), Fault> {
    let refused = u32::try_from(i32::from(code)).unwrap_or_default();
    let reply = LibraryReply { body: Some(library_reply::Body::Refused(refused)) };
    server.write(stream, &frame::encode(&reply)).await?;
    server.close(stream).await
}

async fn send(server: &Server, stream: &mut PeerStream, body: library_reply::Body) -> Result<(), Fault> {
    let frame = frame::encode(&LibraryReply { body: Some(body) });
    Metrics::count_bytes(&server.metrics.library_bytes, "sync_sent", frame.len());
    server.write(stream, &frame).await
}

fn state(library: &crate::presence::OwnLibrary) -> library_reply::Body {
    library_reply::Body::State(LibraryState {
        sequence: library.sequence,
        songs: library.sum.songs(),
        sum: library.sum.to_bytes().to_vec(),
    })
}

async fn send_all(server: &Server, stream: &mut PeerStream) -> Result<(), Fault> {
    let library = server.presence.own_library();
    send(server, stream, state(&library)).await?;
    let pages = server.blocking(move || pages::encode(&library.set)).await?;
    let last = pages.len().saturating_sub(1);
    for (number, indexes) in pages.into_iter().enumerate() {
        let page = LibraryPage { indexes, last: number == last };
        send(server, stream, library_reply::Body::Page(page)).await?;
    }
    server.close(stream).await
}

async fn teach(server: &Server, stream: &mut PeerStream, mut message: Vec<u8>) -> Result<(), Fault> {
    let library = server.presence.own_library();
    send(server, stream, state(&library)).await?;
    let mut teacher = Teacher::new((*library.set).clone()).map_err(malformed)?;
    for _ in 0..limits::RECONCILE_STEPS {
        Metrics::count_bytes(&server.metrics.library_bytes, "sync_received", message.len());
        let (back, answer) = server
            .blocking(move || {
                let answer = teacher.step(&message);
                (teacher, answer)
            })
            .await?;
        teacher = back;
        let answer = answer.map_err(malformed)?;
        send(server, stream, library_reply::Body::Reconcile(answer)).await?;
        server.flush(stream).await?;
        message = match server.read_next(stream, limits::LIBRARY_MESSAGE_BYTES).await? {
            Some(bytes) => {
                decode::<LibraryReconcileRequest>("reconciliation", &bytes).map_err(malformed)?.message
            }
            // It knows enough.
            None => return Ok(()),
        };
    }
    Err(malformed("a reconciliation that does not end"))
}

async fn tell_peers(
    server: &Server,
    asker: PeerId,
    stream: &mut PeerStream,
    asked: &PeersRequest,
) -> Result<(), Fault> {
    if asked.wanted.len() > limits::PEERS_TOLD {
        return Err(malformed("too many peers are asked for at once"));
    }
    let (reply, known) = oneshot::channel();
    let commands = server.commands.upgrade().ok_or_else(|| Fault::Internal("shutting down".to_owned()))?;
    commands
        .send(Command::KnownPeers { reply })
        .await
        .map_err(|_| Fault::Internal("shutting down".to_owned()))?;
    let known = known.await.unwrap_or_default();
    let members = server.presence.neighbours();
    let wanted = |peer: &PeerId| asked.wanted.is_empty() || asked.wanted.contains(&peer.to_bytes());
    let told = known
        .into_iter()
        .filter(|(peer, addresses)| {
            *peer != asker && !addresses.is_empty() && members.contains(peer) && wanted(peer)
        })
        .take(limits::PEERS_TOLD)
        .map(|(peer, addresses)| KnownPeer {
            peer: peer.to_bytes(),
            addresses: addresses.iter().take(limits::PEER_ADDRESSES).map(Multiaddr::to_vec).collect(),
        });
    let reply = LibraryReply { body: Some(library_reply::Body::Peers(PeersReply { peers: told.collect() })) };
    server.write(stream, &frame::encode(&reply)).await?;
    server.close(stream).await
}

fn decode<M: prost::Message + Default>(
    name: &'static str,
    bytes: &[u8],
) -> Result<M, canonical::CanonicalError> {
    canonical::decode_lenient(name, limits::LIBRARY_MESSAGE_BYTES, bytes)
}

/// The asking side.
pub(crate) struct Asker<'a> {
    pub(crate) opener: &'a Opener,
    pub(crate) timeouts: &'a Timeouts,
    pub(crate) metrics: &'a Metrics,
    pub(crate) peer: PeerId,
    pub(crate) network: NetworkId,
}

impl Asker<'_> {
    async fn ask(
        &self,
        request: &[u8],
        what: &'static str,
        reply_limit: usize,
    ) -> Result<(PeerStream, Vec<u8>), RequestError> {
        let question = Question {
            peer: self.peer,
            protocol: LIBRARY,
            request,
            what,
            reply_limit,
            timeout: self.timeouts.request,
        };
        request::ask(self.opener, &question).await
    }

    /// Says our 96 bytes and reads the other's.
    pub(crate) async fn hello(&self, ours: &[u8]) -> Result<Announcement, RequestError> {
        let limit = limits::ANNOUNCEMENT_BYTES;
        let (_, theirs) = self.ask(&frame::encode_bytes(ours), "announcement", limit).await?;
        Metrics::count_bytes(&self.metrics.library_bytes, "hello_sent", ours.len());
        Metrics::count_bytes(&self.metrics.library_bytes, "hello_received", theirs.len());
        Announcement::parse(&theirs).map_err(broken)
    }

    /// Learns the library, from what is known of it if that is something.
    pub(crate) async fn library(&self, known: Option<RoaringBitmap>) -> Result<Learned, RequestError> {
        let (body, learner) = match known {
            None => (library_request::Body::All(LibraryAllRequest {}), None),
            Some(known) => {
                let begun = blocking(move || Learner::new(known)).await?;
                let (learner, message) = begun.map_err(|error| RequestError::Invalid(error.to_string()))?;
                (library_request::Body::Reconcile(LibraryReconcileRequest { message }), Some(learner))
            }
        };
        let request = LibraryRequest { network: self.network.0.to_vec(), body: Some(body) };
        let request = frame::encode(&request);
        let (mut stream, first) = self.ask(&request, "library", limits::LIBRARY_MESSAGE_BYTES).await?;
        Metrics::count_bytes(&self.metrics.library_bytes, "sync_sent", request.len());
        let library_reply::Body::State(state) = self.read(&first)? else {
            return Err(broken("a library without a state"));
        };
        let sum = <&[u8; 32]>::try_from(&state.sum[..]).map_err(|_| broken("a sum that is not 32 bytes"))?;
        let sum = LibrarySum::from_parts(sum, state.songs);
        let set = match learner {
            None => self.read_pages(&mut stream).await?,
            Some(learner) => self.reconcile(&mut stream, learner).await?,
        };
        Ok(Learned { sequence: state.sequence, set, sum })
    }

    async fn read_pages(&self, stream: &mut PeerStream) -> Result<RoaringBitmap, RequestError> {
        let mut pages = pages::Pages::default();
        loop {
            let library_reply::Body::Page(page) = self.next(stream).await? else {
                return Err(broken("something else than a page"));
            };
            if page.indexes.is_empty() && !page.last {
                return Err(broken("an empty page that is not the last"));
            }
            pages.push(&page.indexes).map_err(broken)?;
            if page.last {
                return blocking(move || pages.finish()).await;
            }
        }
    }

    async fn reconcile(
        &self,
        stream: &mut PeerStream,
        mut learner: Learner,
    ) -> Result<RoaringBitmap, RequestError> {
        for _ in 0..limits::RECONCILE_STEPS {
            let library_reply::Body::Reconcile(message) = self.next(stream).await? else {
                return Err(broken("something else than a reconciliation"));
            };
            let (back, next) = blocking(move || {
                let next = learner.step(&message);
                (learner, next)
            })
            .await?;
            learner = back;
            let Some(message) = next.map_err(broken)? else {
                return blocking(move || learner.finish()).await;
            };
            let frame = frame::encode(&LibraryReconcileRequest { message });
            Metrics::count_bytes(&self.metrics.library_bytes, "sync_sent", frame.len());
            request::send(stream, &frame, "reconciliation").await.map_err(|(_, error)| error)?;
        }
        Err(broken("a reconciliation that does not end"))
    }

    async fn next(&self, stream: &mut PeerStream) -> Result<library_reply::Body, RequestError> {
        let what = "library";
        let read =
            time::timeout(self.timeouts.message, frame::read(stream, limits::LIBRARY_MESSAGE_BYTES)).await;
        let bytes = read.map_err(|_| RequestError::Timeout { what, after: self.timeouts.message })?;
        self.read(&bytes.map_err(|error| request::from_frame(error, what))?)
    }

    fn read(&self, bytes: &[u8]) -> Result<library_reply::Body, RequestError> {
        Metrics::count_bytes(&self.metrics.library_bytes, "sync_received", bytes.len());
        let reply: LibraryReply = decode("library reply", bytes).map_err(broken)?;
        match reply.body {
            Some(library_reply::Body::Refused(code)) => {
                let code = i32::try_from(code).ok().and_then(|code| StreamErrorCode::try_from(code).ok());
                let code = code.unwrap_or(StreamErrorCode::Internal);
                Err(RequestError::Refused { code, detail: String::new() })
            }
            Some(body) => Ok(body),
            None => Err(RequestError::Unsupported("replies that this version knows")),
        }
    }

    /// Who else is there, and where: hearsay.
    pub(crate) async fn peers(&self, wanted: &[PeerId]) -> Result<Vec<Known>, RequestError> {
        let wanted = wanted.iter().take(limits::PEERS_TOLD).map(|peer| peer.to_bytes()).collect();
        let body = Some(library_request::Body::Peers(PeersRequest { wanted }));
        let request = frame::encode(&LibraryRequest { network: self.network.0.to_vec(), body });
        let (_, reply) = self.ask(&request, "peers", limits::LIBRARY_MESSAGE_BYTES).await?;
        let reply: LibraryReply = decode("library reply", &reply).map_err(broken)?;
        let Some(library_reply::Body::Peers(told)) = reply.body else { return Ok(Vec::new()) };
        let read = |known: KnownPeer| {
            let peer = PeerId::from_bytes(&known.peer).ok()?;
            let addresses = known.addresses.into_iter().take(limits::PEER_ADDRESSES);
            let short = addresses.filter(|bytes| bytes.len() <= limits::ADDRESS_BYTES);
            Some((peer, short.filter_map(|bytes| Multiaddr::try_from(bytes).ok()).collect()))
        };
        Ok(told.peers.into_iter().take(limits::PEERS_TOLD).filter_map(read).collect())
    }
}

fn broken(error: impl std::fmt::Display) -> RequestError {
    RequestError::Malformed(error.to_string())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, RequestError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| RequestError::Shutdown)
}
