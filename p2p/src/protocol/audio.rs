//! `/antiphon/audio/1`: ranges of a file as a Bao stream. The asking side that keeps what it gets is
//! [`crate::transfer::fetch`].
//!
//! A Bao stream has no place for an error, so a server that cannot go on ends it early; the client, which knows the
//! length from the size and the ranges, asks again for what is missing and then reads why.
//!
//! A request waits for a place among the uploads, and every piece for its permit: see [`crate::upload`].

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll};

use antiphon_proto::{
    ContentHash,
    audio::AudioRequestError,
    canonical::{self, CanonicalError},
    limits,
    wire::{AudioMode, AudioReply, AudioRequest, AudioServing, audio_reply},
};
use futures::AsyncRead as _;
use libp2p::PeerId;
use tokio::sync::mpsc;

use super::{
    AUDIO, Fault, Server, frame, malformed,
    request::{self, Question},
};
use crate::{
    config::Timeouts,
    error::{FetchError, RequestError},
    metrics::Metrics,
    services::{AudioFile, AudioRefusal},
    streams::{Opener, PeerStream},
    transfer::{
        encode::{EncodeError, PIECE_BYTES, Piece, encode},
        tree,
    },
    upload::{self, Upload},
};

/// Pieces between the thread that reads and the stream: enough that neither waits for the other's every step.
const PIECES_AHEAD: usize = 2;

/// Answers one stream.
pub(crate) async fn answer(server: &Server, peer: PeerId, stream: &mut PeerStream) -> Result<(), Fault> {
    let bytes = server.read_request(stream, limits::CONTROL_MESSAGE_BYTES).await?;
    let parsed = AudioRequest::parse(&bytes).and_then(|request| Ok((request.content()?, request)));
    let (content, request) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let refusal = AudioRefusal::Malformed { detail: error.to_string() };
            refuse(server, stream, &refusal).await?;
            return if is_newer(&error) { Ok(()) } else { Err(malformed(error)) };
        }
    };
    let mode = request.mode();
    let entered = tokio::select! {
        entered = server.uploads.enter(peer, mode) => entered,
        fault = given_up(stream) => return Err(fault),
    };
    let Ok(upload) = entered else {
        return refuse(server, stream, &AudioRefusal::Busy).await;
    };
    let audio = server.services.audio.clone();
    let (opened, request) = server
        .blocking(move || {
            let opened = audio.open(peer, &request);
            (opened, request)
        })
        .await?;
    let file = match opened {
        Ok(file) => file,
        Err(refusal) => return refuse(server, stream, &refusal).await,
    };
    let chunks = tree::covering(&request.ranges, file.size);
    if chunks.is_empty() {
        let detail = format!("every range lies beyond the {} bytes of the file", file.size);
        return refuse(server, stream, &AudioRefusal::Malformed { detail }).await;
    }
    let serving = audio_reply::Body::Serving(AudioServing { size: file.size });
    server.write(stream, &frame::encode(&AudioReply { body: Some(serving) })).await?;
    let sending = Sending { server, peer, mode, upload };
    sending.send(stream, content, file, chunks).await
}

/// Ends when the peer breaks its stream, or talks, while its request waits. The end of its half is in order.
async fn given_up(stream: &mut PeerStream) -> Fault {
    poll_fn(|cx| match Pin::new(&mut *stream).poll_read(cx, &mut [0]) {
        Poll::Ready(Ok(1..)) => Poll::Ready(malformed("a peer that talks before it is answered")),
        Poll::Ready(Err(error)) => Poll::Ready(error.into()),
        Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
    })
    .await
}

/// Whether a later version may well ask so: a mode or a field that this one does not know.
fn is_newer(error: &AudioRequestError) -> bool {
    matches!(
        error,
        AudioRequestError::Mode(_) | AudioRequestError::Canonical(CanonicalError::NotCanonical { .. })
    )
}

async fn refuse(server: &Server, stream: &mut PeerStream, refusal: &AudioRefusal) -> Result<(), Fault> {
    Metrics::count(&server.metrics.refusals, refusal.code().as_str_name());
    let error = request::stream_error(refusal.code(), &refusal.detail());
    let reply = AudioReply { body: Some(audio_reply::Body::Error(error)) };
    server.write(stream, &frame::encode(&reply)).await?;
    server.close(stream).await
}

/// A request that is being answered.
struct Sending<'a> {
    server: &'a Server,
    peer: PeerId,
    mode: AudioMode,
    upload: Upload,
}

impl Sending<'_> {
    /// Reads and checks on a thread, writes here, with a bounded queue between.
    async fn send(
        &self,
        stream: &mut PeerStream,
        content: ContentHash,
        file: AudioFile,
        chunks: bao_tree::ChunkRanges,
    ) -> Result<(), Fault> {
        let server = self.server;
        let (pieces, mut ready) = mpsc::channel::<Piece>(PIECES_AHEAD);
        let (give_back, mut used) = mpsc::channel::<Vec<u8>>(PIECES_AHEAD + 2);
        let audio = Arc::clone(&server.services.audio);
        let reading = tokio::task::spawn_blocking(move || {
            let encoded = encode(&content, &file, chunks, &mut |piece| {
                pieces.blocking_send(piece).ok()?;
                Some(used.try_recv().unwrap_or_else(|_| vec![0; PIECE_BYTES]))
            });
            if let Err(EncodeError::Changed { .. }) = &encoded {
                audio.failed(content);
            }
            encoded
        });
        let served = server.metrics.served_bytes.get_or_create_owned(&upload::label(self.mode));
        let traffic = server.traffic.of(&self.peer);
        while let Some((buffer, filled)) = ready.recv().await {
            self.write(stream, &buffer[..filled]).await?;
            served.inc_by(filled as u64);
            traffic.served(filled as u64);
            let _ = give_back.try_send(buffer);
        }
        match reading.await {
            Ok(Ok(())) => server.close(stream).await,
            Ok(Err(error)) => {
                if let EncodeError::Changed { .. } = &error {
                    server.metrics.changed_files.inc();
                    tracing::warn!(%content, %error, "a served file changed; it is not served until it is scanned again");
                }
                // What was verified before is on its way and useful.
                server.flush(stream).await?;
                Err(Fault::Internal(error.to_string()))
            }
            Err(error) => Err(Fault::Internal(format!("reading a file failed: {error}"))),
        }
    }

    /// Writes a piece, as much at once as there are permits for.
    async fn write(&self, stream: &mut PeerStream, piece: &[u8]) -> Result<(), Fault> {
        let mut rest = piece;
        while !rest.is_empty() {
            let permitted = match self.upload.permit(rest.len()).await {
                Ok(permitted) => permitted,
                Err(over) => {
                    // As with a file that changed: the peer asks again and reads why.
                    self.server.flush(stream).await?;
                    return Err(Fault::Internal(over.to_string()));
                }
            };
            let (now, later) = rest.split_at(permitted.min(rest.len()));
            self.server.write(stream, now).await?;
            rest = later;
        }
        Ok(())
    }
}

/// Sends a request and reads the reply; gives the stream, at the start of the Bao stream, and the file's size.
pub(crate) async fn ask(
    opener: &Opener,
    peer: PeerId,
    request: &AudioRequest,
    timeouts: &Timeouts,
) -> Result<(PeerStream, u64), FetchError> {
    request.check().map_err(|error| RequestError::Invalid(error.to_string()))?;
    let question = Question {
        peer,
        protocol: AUDIO,
        request: &frame::encode(request),
        what: "audio reply",
        reply_limit: limits::CONTROL_MESSAGE_BYTES,
        timeout: timeouts.request,
    };
    let (stream, reply) = request::ask(opener, &question).await?;
    let reply: AudioReply = canonical::decode_lenient("audio reply", limits::CONTROL_MESSAGE_BYTES, &reply)
        .map_err(|error| RequestError::Malformed(error.to_string()))?;
    match reply.body {
        Some(audio_reply::Body::Serving(serving)) => Ok((stream, serving.size)),
        Some(audio_reply::Body::Error(error)) => match request::refused(&error) {
            RequestError::Refused { code, detail } => {
                Err(FetchError::Refused(AudioRefusal::from_code(code, detail)))
            }
            other => Err(other.into()),
        },
        None => Err(RequestError::Unsupported("replies that this version knows").into()),
    }
}
