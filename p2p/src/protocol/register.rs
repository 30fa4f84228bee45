//! `/antiphon/register/1`: one registration, one answer.
//!
//! Asking twice is safe: the ledger holds a song id once, so a repeated registration is refused with the song that
//! it made itself.

use antiphon_proto::{
    canonical, limits,
    wire::{RegisterReply, RegisterRequest, StreamErrorCode, register_reply},
};
use libp2p::PeerId;
use tokio::time;

use super::{
    Fault, REGISTER, Server, frame, malformed,
    request::{self, Question},
};
use crate::{
    config::Timeouts,
    error::RequestError,
    streams::{Opener, PeerStream},
};

/// Answers one stream.
pub(crate) async fn answer(server: &Server, peer: PeerId, stream: &mut PeerStream) -> Result<(), Fault> {
    let bytes = server.read_request(stream, limits::CONTROL_MESSAGE_BYTES).await?;
    let read = canonical::decode_lenient("register request", limits::CONTROL_MESSAGE_BYTES, &bytes);
    // A kind of registration that this version does not know is no offence.
    let newer = read.as_ref().is_ok_and(is_newer);
    let broken = match read {
        Ok(request) => match check(&request) {
            Ok(()) => {
                let reply = decide(server, peer, request).await;
                server.write(stream, &frame::encode(&reply)).await?;
                return server.close(stream).await;
            }
            Err(text) => text.to_owned(),
        },
        Err(error) => error.to_string(),
    };
    let reply = unavailable(StreamErrorCode::Malformed, &broken);
    server.write(stream, &frame::encode(&reply)).await?;
    server.close(stream).await?;
    if newer { Ok(()) } else { Err(malformed(broken)) }
}

fn is_newer(request: &RegisterRequest) -> bool {
    request.registration.as_ref().is_some_and(|registration| registration.body.is_none())
}

async fn decide(server: &Server, peer: PeerId, request: RegisterRequest) -> RegisterReply {
    let deciding = server.services.registrar.register(peer, request);
    time::timeout(server.timeouts.register, deciding)
        .await
        .unwrap_or_else(|_| unavailable(StreamErrorCode::Busy, "no decision in time; try again"))
}

fn check(request: &RegisterRequest) -> Result<(), &'static str> {
    if request.network.len() != 32 {
        return Err("a network id that is not 32 bytes");
    }
    if request.hops > limits::REGISTER_HOPS {
        return Err("a registration that was passed on too often");
    }
    if request.registration.as_ref().is_none_or(|registration| registration.body.is_none()) {
        return Err("a request without a registration");
    }
    Ok(())
}

fn unavailable(code: StreamErrorCode, detail: &str) -> RegisterReply {
    let error = request::stream_error(code, detail);
    RegisterReply { body: Some(register_reply::Body::Unavailable(error)) }
}

/// Asks a peer to register something.
pub(crate) async fn ask(
    opener: &Opener,
    peer: PeerId,
    request: &RegisterRequest,
    timeouts: &Timeouts,
) -> Result<RegisterReply, RequestError> {
    check(request).map_err(|text| RequestError::Invalid(text.to_owned()))?;
    let frame = frame::encode(request);
    if frame.len() > limits::CONTROL_MESSAGE_BYTES {
        return Err(RequestError::Invalid(format!("a registration of {} bytes", frame.len())));
    }
    let question = Question {
        peer,
        protocol: REGISTER,
        request: &frame,
        what: "register reply",
        reply_limit: limits::CONTROL_MESSAGE_BYTES,
        timeout: timeouts.register,
    };
    let (_, reply) = request::ask(opener, &question).await?;
    let mut reply: RegisterReply =
        canonical::decode_lenient("register reply", limits::CONTROL_MESSAGE_BYTES, &reply)
            .map_err(|error| RequestError::Malformed(error.to_string()))?;
    match &mut reply.body {
        None => return Err(RequestError::Unsupported("replies that this version knows")),
        Some(register_reply::Body::Accepted(_) | register_reply::Body::Kept(_)) => {}
        Some(register_reply::Body::Refused(refused)) => {
            if !matches!(refused.song_id.len(), 0 | 32) {
                return Err(RequestError::Malformed("a song id that is not 32 bytes".to_owned()));
            }
            refused.detail = request::clean(&refused.detail, limits::DETAIL_BYTES);
        }
        Some(register_reply::Body::Unavailable(error)) => {
            error.detail = request::clean(&error.detail, limits::DETAIL_BYTES);
        }
    }
    Ok(reply)
}
