//! Our protocols on libp2p streams: `/antiphon/ledger/1`, `/antiphon/register/1`, `/antiphon/audio/1`,
//! `/antiphon/library/1`, `/antiphon/play/1`; the sixth, `/antiphon/council/1`, is in [`crate::council`], and the one of relays in
//! [`crate::relay`].
//!
//! Every message is a frame ([`frame`]) of protobuf within the limits of `antiphon_proto::limits`. Each protocol has
//! its asking and its answering half in one file. The answering halves run as tasks of their own, with a deadline
//! for every step.

pub(crate) mod audio;
pub mod frame;
pub(crate) mod ledger;
pub(crate) mod library;
pub(crate) mod play;
pub(crate) mod register;
pub(crate) mod request;

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::Poll,
    time::Duration,
};

use futures::{AsyncRead as _, AsyncWrite as _, AsyncWriteExt};
use libp2p::{PeerId, StreamProtocol};
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};
use tokio_util::task::TaskTracker;

pub use ledger::{FollowStream, Followed};
pub use play::PlayStream;

use crate::{
    config::Timeouts,
    council::{self, Gate},
    metrics::{Held, Labelled, Metrics},
    network::Services,
    presence::task::Shared,
    relay::Relay,
    score::Offence,
    slots::Slots,
    streams::{Inbound, PeerStream},
    swarm::{Command, Traffic},
    upload::Uploads,
};
use frame::FrameError;

const LEDGER_NAME: &str = "/antiphon/ledger/1";
const REGISTER_NAME: &str = "/antiphon/register/1";
const AUDIO_NAME: &str = "/antiphon/audio/1";
const LIBRARY_NAME: &str = "/antiphon/library/1";
const PLAY_NAME: &str = "/antiphon/play/1";
const COUNCIL_NAME: &str = "/antiphon/council/1";
const HOP_NAME: &str = "/libp2p/circuit/relay/0.2.0/hop";
pub(crate) const LEDGER: StreamProtocol = StreamProtocol::new(LEDGER_NAME);
pub(crate) const REGISTER: StreamProtocol = StreamProtocol::new(REGISTER_NAME);
pub(crate) const AUDIO: StreamProtocol = StreamProtocol::new(AUDIO_NAME);
pub(crate) const LIBRARY: StreamProtocol = StreamProtocol::new(LIBRARY_NAME);
pub(crate) const PLAY: StreamProtocol = StreamProtocol::new(PLAY_NAME);
pub(crate) const COUNCIL: StreamProtocol = StreamProtocol::new(COUNCIL_NAME);
pub(crate) const HOP: StreamProtocol = StreamProtocol::new(HOP_NAME);

/// Slowest link that long messages are still waited for.
const SLOWEST_BYTES_PER_SECOND: usize = 8 * 1024;

/// Every protocol that this peer answers; that of relays only if it is one.
pub(crate) fn all(relay: bool) -> Arc<[StreamProtocol]> {
    let ours = [LEDGER, REGISTER, AUDIO, LIBRARY, PLAY, COUNCIL];
    ours.into_iter().chain(relay.then_some(HOP)).collect()
}

/// The static name of one of ours.
pub(crate) fn name_of(protocol: &StreamProtocol) -> &'static str {
    match protocol.as_ref() {
        LEDGER_NAME => LEDGER_NAME,
        REGISTER_NAME => REGISTER_NAME,
        AUDIO_NAME => AUDIO_NAME,
        LIBRARY_NAME => LIBRARY_NAME,
        PLAY_NAME => PLAY_NAME,
        COUNCIL_NAME => COUNCIL_NAME,
        HOP_NAME => HOP_NAME,
        _ => "the protocol",
    }
}

/// How long a message of this size may take.
pub(crate) fn allowance(base: Duration, bytes: usize) -> Duration {
    base + Duration::from_secs((bytes / SLOWEST_BYTES_PER_SECOND) as u64)
}

/// Why answering a peer ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The peer broke a rule.
    #[error("{0:?}: {1}")]
    Offence(Offence, String),
    /// The peer went away or takes nothing.
    #[error("{0}")]
    Gone(#[from] io::Error),
    /// Our own trouble.
    #[error("{0}")]
    Internal(String),
}

impl From<FrameError> for Fault {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::TooLong { .. } => Self::Offence(Offence::Oversized, error.to_string()),
            // Somebody who hangs up is no offender.
            FrameError::Ended { .. } => Self::Gone(io::Error::other(error.to_string())),
        }
    }
}

/// The answering side.
pub(crate) struct Server {
    pub(crate) services: Services,
    pub(crate) timeouts: Timeouts,
    pub(crate) uploads: Uploads,
    pub(crate) ledger: ledger::Places,
    pub(crate) plays: play::Places,
    /// Libraries being learned from this peer: each holds a copy of the set.
    pub(crate) lessons: Slots,
    pub(crate) presence: Shared,
    pub(crate) metrics: Metrics,
    pub(crate) traffic: Traffic,
    /// Where council streams go, once this peer takes part in one.
    pub(crate) council: Arc<OnceLock<Gate>>,
    /// What is carried between others, if anything is.
    pub(crate) relay: Option<Arc<Relay>>,
    /// The network's end waits for these.
    pub(crate) tasks: TaskTracker,
    /// Weak, so that serving does not keep the network alive when every handle is gone.
    pub(crate) commands: mpsc::WeakSender<Command>,
}

impl Server {
    /// Answers one stream to its end.
    pub(crate) async fn serve(&self, inbound: Inbound) {
        if inbound.protocol == COUNCIL {
            Metrics::count(&self.metrics.inbound_streams, COUNCIL_NAME);
            return council::accept(self, inbound).await;
        }
        if inbound.protocol == HOP {
            Metrics::count(&self.metrics.inbound_streams, HOP_NAME);
            let Some(relay) = &self.relay else { return };
            let peer = inbound.peer;
            let answered = Box::pin(relay.answer(inbound)).await;
            return self.judge(peer, &HOP, answered);
        }
        let Inbound { peer, protocol, mut stream, slot } = inbound;
        let mut slot = Some(slot);
        let kind = name_of(&protocol);
        Metrics::count(&self.metrics.inbound_streams, kind);
        let _open = Held::new(self.metrics.open_streams.get_or_create_owned(&Labelled { kind }));
        let answered = match protocol.as_ref() {
            LEDGER_NAME => ledger::answer(self, peer, &mut stream, &mut slot).await,
            REGISTER_NAME => register::answer(self, peer, &mut stream).await,
            AUDIO_NAME => audio::answer(self, peer, &mut stream).await,
            LIBRARY_NAME => library::answer(self, peer, &mut stream).await,
            PLAY_NAME => play::answer(self, peer, &mut stream, &mut slot).await,
            _ => Ok(()),
        };
        drop(slot);
        self.judge(peer, &protocol, answered);
    }

    /// Counts what broke the rules against the peer.
    fn judge(&self, peer: PeerId, protocol: &StreamProtocol, answered: Result<(), Fault>) {
        match answered {
            Ok(()) => {}
            Err(Fault::Offence(offence, text)) => {
                tracing::debug!(%peer, %protocol, ?offence, text, "a peer breaks the protocol");
                penalize(&self.commands, peer, offence);
            }
            Err(fault) => tracing::debug!(%peer, %protocol, %fault, "a stream ended early"),
        }
    }

    /// Reads a request within the time that its kind may take.
    pub(crate) async fn read_request(&self, stream: &mut PeerStream, limit: usize) -> Result<Vec<u8>, Fault> {
        match time::timeout(self.timeouts.message, frame::read(stream, limit)).await {
            Ok(read) => Ok(read?),
            Err(_) => {
                let text = format!("no request within {:?}", self.timeouts.message);
                Err(Fault::Offence(Offence::TooSlow, text))
            }
        }
    }

    /// Reads the next message of a conversation; none when the peer ended it between two.
    pub(crate) async fn read_next(
        &self,
        stream: &mut PeerStream,
        limit: usize,
    ) -> Result<Option<Vec<u8>>, Fault> {
        match time::timeout(self.timeouts.message, frame::read(stream, limit)).await {
            Ok(Ok(bytes)) => Ok(Some(bytes)),
            Ok(Err(FrameError::Ended { started: false, .. })) => Ok(None),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                let text = format!("nothing more within {:?}", self.timeouts.message);
                Err(Fault::Offence(Offence::TooSlow, text))
            }
        }
    }

    /// Writes bytes to a reader that must take some of them now and then, and all in the end, and say nothing.
    async fn write(&self, stream: &mut PeerStream, bytes: &[u8]) -> Result<(), Fault> {
        let deadline = Instant::now() + allowance(self.timeouts.write, bytes.len());
        let mut rest = bytes;
        while !rest.is_empty() {
            let until = deadline.min(Instant::now() + self.timeouts.write);
            let written = time::timeout_at(until, write_some(stream, rest)).await;
            match written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
                0 => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                count => rest = &rest[count..],
            }
        }
        Ok(())
    }

    /// Hands what was written to the network.
    async fn flush(&self, stream: &mut PeerStream) -> Result<(), Fault> {
        let flushed = time::timeout(self.timeouts.write, stream.flush()).await;
        Ok(flushed.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??)
    }

    /// Ends the stream in order.
    async fn close(&self, stream: &mut PeerStream) -> Result<(), Fault> {
        let closed = time::timeout(self.timeouts.write, stream.close()).await;
        Ok(closed.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??)
    }

    /// Runs what blocks on the disk.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| Fault::Internal(format!("a disk task failed: {error}")))
    }
}

/// Writes some bytes, and listens meanwhile: a request is one message, and a peer that pushes more would fill the
/// buffers of a stream that nobody reads.
pub(crate) async fn write_some(stream: &mut PeerStream, bytes: &[u8]) -> Result<usize, Fault> {
    poll_fn(|cx| {
        // The end of the peer's half is in order; when the stream broke, writing says so.
        if let Poll::Ready(Ok(1..)) = Pin::new(&mut *stream).poll_read(cx, &mut [0]) {
            return Poll::Ready(Err(malformed("a peer that talks while it is answered")));
        }
        Pin::new(&mut *stream).poll_write(cx, bytes).map_err(Fault::from)
    })
    .await
}

/// Notes an offence without waiting. A full queue means that the actor has enough to do; the next offence comes soon.
pub(crate) fn penalize(commands: &mpsc::WeakSender<Command>, peer: PeerId, offence: Offence) {
    if let Some(commands) = commands.upgrade() {
        let _ = commands.try_send(Command::Penalize { peer, offence });
    }
}

/// What a peer asked for that cannot be read.
pub(crate) fn malformed(error: impl std::fmt::Display) -> Fault {
    Fault::Offence(Offence::Malformed, error.to_string())
}

/// Asked by [`crate::Network`] and the transfers: how a reply that breaks the rules is reported.
pub(crate) async fn report(commands: &mpsc::Sender<Command>, peer: PeerId, offence: Offence) {
    let _ = commands.send(Command::Penalize { peer, offence }).await;
}
