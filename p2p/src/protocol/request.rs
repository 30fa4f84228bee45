//! The asking side that all protocols share.

use std::time::Duration;

use antiphon_proto::{
    limits,
    wire::{StreamError, StreamErrorCode},
};
use futures::AsyncWriteExt;
use libp2p::{PeerId, StreamProtocol};
use tokio::time;

use super::frame::{self, FrameError};
use crate::{
    error::RequestError,
    streams::{OpenError, Opener, PeerStream},
};

/// Pauses before another attempt, when a stream ended before the first byte of the reply. A peer whose limits are
/// full drops new streams without reading them, so nothing was done and asking again is safe; a reply that got lost
/// with its connection is covered too, because every request of ours is safe to repeat.
pub(crate) const RETRY_PAUSES: [Duration; 6] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1_600),
];

/// A reply that has not begun after this is awaited no longer when there is a better connection with the peer: the one
/// that the request went over may be dead. Most replies are there before.
const MOVES_AFTER: Duration = Duration::from_secs(1);

/// A pause of about this length. Requests that were dropped together must not come back together.
pub(crate) fn spread(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..1.5))
}

/// A question to a peer.
pub(crate) struct Question<'a> {
    pub(crate) peer: PeerId,
    pub(crate) protocol: StreamProtocol,
    /// The framed request.
    pub(crate) request: &'a [u8],
    /// What is awaited, for messages.
    pub(crate) what: &'static str,
    pub(crate) reply_limit: usize,
    /// For all attempts together.
    pub(crate) timeout: Duration,
}

/// Sends a request and reads the first message of the reply.
pub(crate) async fn ask(opener: &Opener, q: &Question<'_>) -> Result<(PeerStream, Vec<u8>), RequestError> {
    time::timeout(q.timeout, ask_until_answered(opener, q))
        .await
        .unwrap_or(Err(RequestError::Timeout { what: q.what, after: q.timeout }))
}

async fn ask_until_answered(
    opener: &Opener,
    q: &Question<'_>,
) -> Result<(PeerStream, Vec<u8>), RequestError> {
    let mut pauses = RETRY_PAUSES.iter();
    loop {
        let failure = match ask_once(opener, q).await {
            Err((true, failure)) => failure,
            Err((false, failure)) => return Err(failure),
            Ok(answer) => return Ok(answer),
        };
        let Some(pause) = pauses.next() else { return Err(failure) };
        tracing::debug!(peer = %q.peer, protocol = %q.protocol, %failure, "asking again");
        time::sleep(spread(*pause)).await;
    }
}

/// One attempt; a failure says whether another one makes sense.
async fn ask_once(opener: &Opener, q: &Question<'_>) -> Result<(PeerStream, Vec<u8>), (bool, RequestError)> {
    let mut stream = open(opener, q.peer, q.protocol.clone(), q.what).await?;
    send(&mut stream, q.request, q.what).await?;
    let superseded = stream.superseded();
    let moves = async {
        time::sleep(MOVES_AFTER).await;
        superseded.await;
    };
    let reply = tokio::select! {
        reply = frame::read(&mut stream, q.reply_limit) => reply,
        () = moves => {
            let reason = "there is a better connection".to_owned();
            return Err((true, RequestError::Closed { what: q.what, reason }));
        }
    };
    match reply {
        Ok(reply) => Ok((stream, reply)),
        Err(error) => {
            let again = matches!(error, FrameError::Ended { started: false, unsupported: false, .. });
            Err((again, from_frame(error, q.what)))
        }
    }
}

/// Opens a stream; a failure says whether another attempt makes sense.
pub(crate) async fn open(
    opener: &Opener,
    peer: PeerId,
    protocol: StreamProtocol,
    what: &'static str,
) -> Result<PeerStream, (bool, RequestError)> {
    opener.open(peer, protocol.clone()).await.map_err(|error| match error {
        OpenError::NotConnected => (false, RequestError::NotConnected(peer)),
        OpenError::Unsupported => (false, unsupported(&protocol)),
        OpenError::Shutdown => (false, RequestError::Shutdown),
        OpenError::Io(error) => (true, RequestError::Closed { what, reason: error.to_string() }),
    })
}

/// Writes a framed request; a failure says whether another attempt makes sense.
pub(crate) async fn send(
    stream: &mut PeerStream,
    request: &[u8],
    what: &'static str,
) -> Result<(), (bool, RequestError)> {
    let sent = async {
        stream.write_all(request).await?;
        stream.flush().await
    };
    sent.await.map_err(|error: std::io::Error| match frame::ended(false, &error) {
        FrameError::Ended { unsupported: true, .. } => (false, from_frame(frame::ended(false, &error), what)),
        _ => (true, RequestError::Closed { what, reason: error.to_string() }),
    })
}

fn unsupported(protocol: &StreamProtocol) -> RequestError {
    RequestError::Unsupported(super::name_of(protocol))
}

/// A frame that could not be read, as a failed request.
pub(crate) fn from_frame(error: FrameError, what: &'static str) -> RequestError {
    match error {
        FrameError::TooLong { .. } => RequestError::Malformed(error.to_string()),
        FrameError::Ended { unsupported: true, .. } => RequestError::Unsupported(what),
        FrameError::Ended { reason, .. } => RequestError::Closed { what, reason },
    }
}

/// An error from the wire, with its text cut and cleaned.
pub(crate) fn refused(error: &StreamError) -> RequestError {
    let code = StreamErrorCode::try_from(error.code).unwrap_or(StreamErrorCode::Internal);
    RequestError::Refused { code, detail: clean(&error.detail, limits::DETAIL_BYTES) }
}

/// An error for the wire.
pub(crate) fn stream_error(code: StreamErrorCode, detail: &str) -> StreamError {
    StreamError { code: code.into(), detail: clean(detail, limits::DETAIL_BYTES) }
}

/// Text of a stranger, made fit for a terminal: no control characters, at most so many bytes.
pub(crate) fn clean(text: &str, bytes: usize) -> String {
    let mut clean = String::new();
    for character in text.chars().filter(|character| !character.is_control()) {
        if clean.len() + character.len_utf8() > bytes {
            break;
        }
        clean.push(character);
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strange_text_is_cut_and_cleaned() {
        assert_eq!(clean("a\u{1b}[31mb\n", 10), "a[31mb");
        assert_eq!(clean("äöü", 5), "äö");
        let error = StreamError { code: 99, detail: "x".repeat(2 * limits::DETAIL_BYTES) };
        let RequestError::Refused { code, detail } = refused(&error) else { panic!("not a refusal") };
        assert_eq!((code, detail.len()), (StreamErrorCode::Internal, limits::DETAIL_BYTES));
    }
}
