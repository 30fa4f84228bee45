//! The receiving end of a stream: greeting, then frames.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use antiphon_proto::{
    NetworkId, PublicKey,
    binding::BindingError,
    canonical, limits,
    wire::{
        Binding, CouncilClass, CouncilFrame, CouncilHello, CouncilWelcome, Roster, StreamErrorCode,
        council_frame::Body, council_welcome,
    },
};
use bytes::Bytes;
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::PeerId;
use prost::Message as _;
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{Class, lock, task::Note};
use crate::{
    config::Timeouts,
    metrics::Metrics,
    protocol::{
        COUNCIL, Fault, Server, allowance,
        frame::{self, FrameDecoder},
        malformed, penalize,
        request::stream_error,
    },
    score::Offence,
    streams::{Inbound, PeerStream},
    swarm::Command,
};

/// A greeting: a binding is about 200 bytes.
pub(super) const GREETING_BYTES: usize = 4 * 1024;
/// What protobuf puts around a message.
const AROUND: usize = 64;
/// Vote streams carry two heartbeats a second. One that is silent for longer leads nowhere.
const SILENCE: Duration = Duration::from_secs(10);
/// How long a stream that replaces another waits for its rest.
const HANDOVER: Duration = Duration::from_secs(1);
/// Bytes read at once.
const VOTE_READ: usize = 16 * 1024;
const BODY_READ: usize = 64 * 1024;

/// Where the streams that members open go.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(super) network: NetworkId,
    pub(super) notes: mpsc::Sender<Note>,
}

/// A greeting that was read and whose binding is the connection's own.
pub(super) struct Greeted {
    pub(super) member: PublicKey,
    pub(super) binding: Binding,
    pub(super) class: Class,
}

/// Takes a stream that a peer opened: reads its greeting and passes it to the council's task.
pub(crate) async fn accept(server: &Server, inbound: Inbound) {
    let Inbound { peer, mut stream, slot, .. } = inbound;
    let Some(gate) = server.council.get() else {
        // Who greets is heard out: a stream that is closed before would look broken to it.
        let _ = server.read_request(&mut stream, GREETING_BYTES).await;
        refuse(&mut stream, StreamErrorCode::Forbidden, "no member of a council", &server.timeouts).await;
        return;
    };
    let greeted = match greet(server, gate, peer, &mut stream).await {
        Ok(greeted) => greeted,
        Err((code, fault)) => {
            tracing::warn!(%peer, %fault, "a council stream is refused");
            if let Fault::Offence(offence, _) = &fault {
                penalize(&server.commands, peer, *offence);
            }
            if let Some(code) = code {
                refuse(&mut stream, code, &fault.to_string(), &server.timeouts).await;
            }
            return;
        }
    };
    let inbound = Inbound { peer, protocol: COUNCIL, stream, slot };
    let _ = gate.notes.send(Note::Inbound(Box::new((greeted, inbound)))).await;
}

type Refused = (Option<StreamErrorCode>, Fault);

async fn greet(
    server: &Server,
    gate: &Gate,
    peer: PeerId,
    stream: &mut PeerStream,
) -> Result<Greeted, Refused> {
    let bytes = server.read_request(stream, GREETING_BYTES).await.map_err(|fault| (None, fault))?;
    let refused = |code, offence, text| (Some(code), Fault::Offence(offence, text));
    let hello: CouncilHello = canonical::decode_lenient("council hello", GREETING_BYTES, &bytes)
        .map_err(|error| refused(StreamErrorCode::Malformed, Offence::Malformed, error.to_string()))?;
    let Ok(class) = CouncilClass::try_from(hello.class) else {
        let text = format!("class {} is not known", hello.class);
        return Err((Some(StreamErrorCode::Malformed), Fault::Internal(text)));
    };
    let binding = hello.binding.unwrap_or_default();
    let member = match check(&binding, &gate.network, peer) {
        Ok(member) => member,
        Err((code, offence, text)) => return Err(refused(code, offence, text)),
    };
    Ok(Greeted { member, binding, class: Class::of(class) })
}

/// Checks a binding that the node at the other end of a connection shows.
pub(super) fn check(
    binding: &Binding,
    network: &NetworkId,
    peer: PeerId,
) -> Result<PublicKey, (StreamErrorCode, Offence, String)> {
    let member = binding.check(network).map_err(|error| {
        let (code, offence) = match error {
            BindingError::OtherNetwork(_) => (StreamErrorCode::OtherNetwork, Offence::NotMember),
            BindingError::Form(_) => (StreamErrorCode::Malformed, Offence::Malformed),
            BindingError::Signature => (StreamErrorCode::Forbidden, Offence::BadBinding),
        };
        (code, offence, error.to_string())
    })?;
    if binding.peer != peer.to_bytes() {
        let text = "the binding is another peer's".to_owned();
        return Err((StreamErrorCode::Forbidden, Offence::BadBinding, text));
    }
    Ok(member)
}

/// Says no. A peer that does not take even that is left alone.
pub(super) async fn refuse(
    stream: &mut PeerStream,
    code: StreamErrorCode,
    detail: &str,
    timeouts: &Timeouts,
) {
    let error = stream_error(code, detail);
    let welcome = CouncilWelcome { body: Some(council_welcome::Body::Error(error)) };
    let _ = time::timeout(timeouts.message, send(stream, &frame::encode(&welcome), true)).await;
}

async fn send(stream: &mut PeerStream, bytes: &[u8], close: bool) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    if close { stream.close().await } else { stream.flush().await }
}

/// Where messages go. What is full makes the reader wait, and so in the end the sender.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) votes: mpsc::Sender<(PublicKey, Bytes)>,
    pub(super) bodies: mpsc::Sender<(PublicKey, Bytes)>,
}

/// The task's hold on a reader.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) id: u64,
    cancel: CancellationToken,
    /// Cancelled when the reader has ended.
    ended: CancellationToken,
    heard: Heard,
}

impl Held {
    /// How long nothing was heard while the reader listened.
    pub(super) fn silent_for(&self, now: Instant) -> Duration {
        lock(&self.heard).map_or(Duration::ZERO, |last| now.saturating_duration_since(last))
    }
}

/// When bytes last came; none while the reader has something else to do.
type Heard = Arc<Mutex<Option<Instant>>>;

impl Drop for Held {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Reads one stream of a member.
pub(super) struct Reader {
    pub(super) id: u64,
    pub(super) peer: PeerId,
    pub(super) member: PublicKey,
    pub(super) class: Class,
    pub(super) stream: PeerStream,
    /// The framed answer to the greeting.
    pub(super) welcome: Vec<u8>,
    /// The stream of the same class that this one continues.
    pub(super) previous: Option<Held>,
    pub(super) delivery: Delivery,
    pub(super) notes: mpsc::Sender<Note>,
    pub(super) commands: mpsc::WeakSender<Command>,
    pub(super) timeouts: Timeouts,
    pub(super) metrics: Metrics,
}

impl Reader {
    /// What the task keeps, and the reader's work.
    pub(super) fn start(
        mut self,
        closed: &CancellationToken,
    ) -> (Held, impl Future<Output = ()> + Send + 'static) {
        let cancel = closed.child_token();
        let ended = CancellationToken::new();
        let heard = Heard::default();
        let held = Held { id: self.id, cancel: cancel.clone(), ended: ended.clone(), heard: heard.clone() };
        let work = async move {
            let _ended = ended.drop_guard();
            tokio::select! {
                () = cancel.cancelled() => {}
                read = self.run(&heard) => self.report(read).await,
            }
        };
        (held, work)
    }

    async fn report(&mut self, read: Result<(), Fault>) {
        let (peer, member, class) = (self.peer, self.member, self.class);
        match read {
            Ok(()) => tracing::debug!(%peer, %member, ?class, "a council stream ended"),
            Err(Fault::Offence(offence, text)) => {
                tracing::warn!(%peer, %member, ?class, ?offence, text, "a council member breaks the protocol");
                penalize(&self.commands, peer, offence);
            }
            Err(fault) => tracing::debug!(%peer, %member, ?class, %fault, "a council stream broke"),
        }
        let _ = self.notes.send(Note::ReaderEnded { peer, class, id: self.id }).await;
    }

    async fn run(&mut self, heard: &Heard) -> Result<(), Fault> {
        let welcome = std::mem::take(&mut self.welcome);
        let sent = time::timeout(self.timeouts.message, send(&mut self.stream, &welcome, false));
        sent.await.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        if let Some(previous) = self.previous.take() {
            // What is on its way there comes before what comes here.
            let _ = time::timeout(HANDOVER, previous.ended.cancelled()).await;
        }
        let mut decoder = FrameDecoder::new(self.class.limit() + AROUND);
        let size = if self.class == Class::Vote { VOTE_READ } else { BODY_READ };
        let mut scratch = vec![0; size];
        let mut inside_since = None;
        loop {
            *lock(heard) = None;
            while let Some(bytes) = decoder.next_frame()? {
                inside_since = None;
                self.take(bytes).await?;
            }
            let until = if decoder.is_inside() {
                let since = *inside_since.get_or_insert_with(Instant::now);
                Some(since + allowance(self.timeouts.message, self.class.limit()))
            } else {
                (self.class == Class::Vote).then(|| Instant::now() + SILENCE)
            };
            *lock(heard) = Some(Instant::now());
            let read = self.stream.read(&mut scratch);
            let count = match until {
                None => read.await?,
                Some(until) => time::timeout_at(until, read).await.map_err(|_| self.silent(&decoder))??,
            };
            match count {
                0 if decoder.is_inside() => {
                    return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
                }
                0 => return Ok(()),
                count => decoder.push(&scratch[..count]),
            }
        }
    }

    fn silent(&self, decoder: &FrameDecoder) -> Fault {
        if decoder.is_inside() {
            return Fault::Offence(Offence::TooSlow, "a message that does not come to its end".to_owned());
        }
        Fault::Gone(std::io::Error::new(std::io::ErrorKind::TimedOut, "no heartbeat"))
    }

    async fn take(&mut self, bytes: Bytes) -> Result<(), Fault> {
        let frame = CouncilFrame::decode(bytes).map_err(malformed)?;
        match (frame.body, self.class) {
            (Some(Body::Message(message)), class) => {
                if message.len() > class.limit() {
                    let text = format!("a message of {} bytes", message.len());
                    return Err(Fault::Offence(Offence::Oversized, text));
                }
                self.deliver(message).await
            }
            (Some(Body::Heartbeat(_)), Class::Vote) => Ok(()),
            (Some(Body::Roster(roster)), Class::Vote) => self.pass_on(roster).await,
            (Some(_), Class::Body) => Err(malformed("a body stream with something else")),
            // Of a later version.
            (None, _) => Ok(()),
        }
    }

    async fn deliver(&mut self, message: Bytes) -> Result<(), Fault> {
        Metrics::count(&self.metrics.council_received, self.class.name());
        let (to, message) = match self.class {
            // A copy, so that a small message that waits does not keep a large buffer.
            Class::Vote => (&self.delivery.votes, Bytes::copy_from_slice(&message)),
            Class::Body => (&self.delivery.bodies, message),
        };
        let sent = to.send((self.member, message)).await;
        sent.map_err(|_| Fault::Internal("nobody listens any more".to_owned()))
    }

    async fn pass_on(&mut self, roster: Roster) -> Result<(), Fault> {
        if roster.entries.len() > limits::ROSTER_ENTRIES {
            return Err(malformed("a roster of too many entries"));
        }
        let note = Note::Roster { peer: self.peer, from: self.member, roster };
        let sent = self.notes.send(note).await;
        sent.map_err(|_| Fault::Internal("the council has ended".to_owned()))
    }
}
