//! The sending end of a stream: opens it, and opens it again when it broke or when there is a better connection.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use antiphon_proto::{
    NetworkId, canonical,
    wire::{
        Binding, CouncilFrame, CouncilHello, CouncilWelcome, Heartbeat, StreamErrorCode, council_frame,
        council_welcome,
    },
};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::PeerId;
use tokio::{
    sync::{mpsc, oneshot},
    time::{self, Instant},
};

use super::{
    Class,
    outbox::{Outbox, Outgoing},
    reader::{GREETING_BYTES, check},
    task::Note,
};
use crate::{
    config::Timeouts,
    error::RequestError,
    metrics::Metrics,
    protocol::{
        COUNCIL, frame, penalize,
        request::{self, spread},
        write_some,
    },
    score::Offence,
    streams::{Opener, PeerStream},
    swarm::Command,
};

/// How often a vote stream says that it is there.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// Before a broken stream is opened again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long a stream that goes on elsewhere is waited for to be closed in order: its connection may be a dead one.
const CLOSE: Duration = Duration::from_secs(1);
/// Tag and longest length of the message inside a frame.
const FRAME_HEADER: usize = frame::PREFIX_BYTES + 1 + 10;

/// How a stream ended.
enum End {
    /// There is a better connection.
    Superseded,
    /// Try again soon.
    Broken(String),
    /// Not here, or not now.
    Refused(String),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// Sends one class of messages to one peer.
pub(super) struct Writer {
    pub(super) peer: PeerId,
    pub(super) class: Class,
    /// Tells this writer's notes from those of an earlier one.
    pub(super) generation: u64,
    pub(super) network: NetworkId,
    pub(super) binding: Binding,
    pub(super) opener: Opener,
    pub(super) timeouts: Timeouts,
    pub(super) metrics: Metrics,
    pub(super) notes: mpsc::Sender<Note>,
    pub(super) commands: mpsc::WeakSender<Command>,
}

impl Writer {
    /// Works until it is refused or cancelled.
    pub(super) async fn run(self) {
        let (peer, class, generation) = (self.peer, self.class, self.generation);
        let mut pause = FIRST_PAUSE;
        loop {
            let mut welcomed = false;
            let text = match self.stream(&mut welcomed).await {
                Ok(never) => match never {},
                Err(End::Superseded) => continue,
                Err(End::Broken(text)) => text,
                Err(End::Refused(text)) => {
                    tracing::debug!(%peer, ?class, text, "no council stream with this peer");
                    let _ = self.notes.send(Note::Refused { peer, generation }).await;
                    return;
                }
            };
            tracing::debug!(%peer, ?class, text, "a council stream broke");
            if welcomed {
                pause = FIRST_PAUSE;
                let _ = self.notes.send(Note::Down { peer, class, generation }).await;
            }
            time::sleep(spread(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn stream(&self, welcomed: &mut bool) -> Result<Infallible, End> {
        let greeting = time::timeout(self.timeouts.request, self.greet()).await;
        let (mut stream, binding) = greeting.map_err(|_| End::Broken("no answer".to_owned()))??;
        let (reply, outbox) = oneshot::channel();
        let note = Note::Welcomed {
            peer: self.peer,
            class: self.class,
            generation: self.generation,
            binding,
            reply,
        };
        let _ = self.notes.send(note).await;
        let Ok(outbox) = outbox.await else { return Err(End::Refused("not wanted here".to_owned())) };
        *welcomed = true;
        self.pump(&mut stream, &outbox).await
    }

    /// Opens a stream and says who we are; gives who answers.
    async fn greet(&self) -> Result<(PeerStream, Binding), End> {
        let what = "council welcome";
        let class = self.class.wire().into();
        let hello = CouncilHello { binding: Some(self.binding.clone()), class };
        let mut stream = request::open(&self.opener, self.peer, COUNCIL, what).await.map_err(failed)?;
        request::send(&mut stream, &frame::encode(&hello), what).await.map_err(failed)?;
        let bytes = frame::read(&mut stream, GREETING_BYTES)
            .await
            .map_err(|error| failed((true, request::from_frame(error, what))))?;
        let welcome = canonical::decode_lenient::<CouncilWelcome>(what, GREETING_BYTES, &bytes);
        match welcome.map(|welcome| welcome.body) {
            Ok(Some(council_welcome::Body::Binding(binding))) => {
                match check(&binding, &self.network, self.peer) {
                    Ok(_) => Ok((stream, binding)),
                    Err((_, offence, text)) => {
                        tracing::warn!(peer = %self.peer, text, "a council stream is refused");
                        penalize(&self.commands, self.peer, offence);
                        Err(End::Refused(text))
                    }
                }
            }
            Ok(Some(council_welcome::Body::Error(error))) => match request::refused(&error) {
                RequestError::Refused { code: StreamErrorCode::Busy, detail } => Err(End::Broken(detail)),
                refused => Err(End::Refused(refused.to_string())),
            },
            Ok(None) => Err(End::Refused("an answer that this version does not know".to_owned())),
            Err(error) => {
                penalize(&self.commands, self.peer, Offence::Malformed);
                Err(End::Refused(error.to_string()))
            }
        }
    }

    /// Sends what comes.
    async fn pump(&self, stream: &mut PeerStream, outbox: &Arc<Outbox>) -> Result<Infallible, End> {
        let mut beats = time::interval(HEARTBEAT);
        beats.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let heartbeat =
            frame::encode(&CouncilFrame { body: Some(council_frame::Body::Heartbeat(Heartbeat {})) });
        loop {
            if stream.is_superseded() {
                let _ = time::timeout(CLOSE, stream.close()).await;
                return Err(End::Superseded);
            }
            let mut byte = [0];
            tokio::select! {
                read = stream.read(&mut byte) => {
                    let talks = read? > 0;
                    let text = if talks { "the reader talks" } else { "the reader ended the stream" };
                    return Err(End::Broken(text.to_owned()));
                }
                next = outbox.next(self.class) => {
                    match next {
                        Outgoing::Frame(bytes) => self.write(stream, &bytes).await?,
                        Outgoing::Message(message) => {
                            self.write(stream, &header(&message)).await?;
                            self.write(stream, &message).await?;
                            Metrics::count(&self.metrics.council_sent, self.class.name());
                        }
                    }
                    self.flush(stream).await?;
                }
                _ = beats.tick() => {
                    // The tick also makes idle streams look for a better connection.
                    if self.class == Class::Vote {
                        self.write(stream, &heartbeat).await?;
                        self.flush(stream).await?;
                    }
                }
            }
        }
    }

    /// Writes all, to a reader that must take some of it now and then.
    async fn write(&self, stream: &mut PeerStream, bytes: &[u8]) -> Result<(), End> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let until = Instant::now() + self.timeouts.write;
            let written = time::timeout_at(until, write_some(stream, rest)).await;
            let written = written.map_err(|_| End::Broken("the reader takes nothing".to_owned()))?;
            match written.map_err(|fault| End::Broken(fault.to_string()))? {
                0 => return Err(End::Broken("the stream is closed".to_owned())),
                count => rest = &rest[count..],
            }
        }
        Ok(())
    }

    async fn flush(&self, stream: &mut PeerStream) -> Result<(), End> {
        let flushed = time::timeout(self.timeouts.write, stream.flush()).await;
        Ok(flushed.map_err(|_| End::Broken("the reader takes nothing".to_owned()))??)
    }
}

/// What stands before a message: the frame's length, then tag and length of the protobuf field. The message itself,
/// shared among members, is not copied.
fn header(message: &Bytes) -> Bytes {
    let mut field = BytesMut::with_capacity(FRAME_HEADER);
    prost::encoding::encode_key(1, prost::encoding::WireType::LengthDelimited, &mut field);
    prost::encoding::encode_varint(message.len() as u64, &mut field);
    let mut header = BytesMut::with_capacity(FRAME_HEADER);
    header.put_u32(u32::try_from(field.len() + message.len()).unwrap_or(u32::MAX));
    header.put(field);
    header.freeze()
}

fn failed((again, error): (bool, RequestError)) -> End {
    match error {
        RequestError::Unsupported(_) => End::Refused(error.to_string()),
        // The connection is about to be reported as gone, and this writer with it.
        RequestError::NotConnected(_) => End::Broken(error.to_string()),
        error if again => End::Broken(error.to_string()),
        error => End::Refused(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    #[test]
    fn the_hand_made_header_is_what_protobuf_writes() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 70_000] {
            let message = Bytes::from(vec![7; length]);
            let whole = [&header(&message)[..], &message].concat();
            let frame = CouncilFrame { body: Some(council_frame::Body::Message(message)) };
            assert_eq!(whole, frame::encode(&frame));
            assert_eq!(CouncilFrame::decode(&whole[4..]).unwrap(), frame);
        }
    }
}
