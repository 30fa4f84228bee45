//! Messages on a stream: length as a u32, big-endian, then the protobuf.

use std::io;

use antiphon_proto::canonical;
use bytes::{Buf, Bytes, BytesMut};
use futures::{AsyncRead, AsyncReadExt};
use prost::Message;

/// Bytes of the length.
pub const PREFIX_BYTES: usize = 4;
/// What is set aside for a message before its bytes are there: a peer must send what it makes us hold.
const FIRST_ALLOCATION: usize = 16 * 1024;

/// A message that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than this place allows; nothing of it was read.
    #[error("a message of {got} bytes is longer than the {limit} that are allowed here")]
    TooLong {
        /// Length announced.
        got: usize,
        /// Length allowed.
        limit: usize,
    },
    /// The stream ended.
    #[error("the stream ended{}: {reason}", if *.started { " inside a message" } else { "" })]
    Ended {
        /// Whether a part of the message had come.
        started: bool,
        /// The peer does not speak the protocol at all.
        unsupported: bool,
        /// What the transport says.
        reason: String,
    },
}

/// The bytes of a message with its length before it. The caller keeps messages below 4 GiB by the limits of each kind.
#[must_use]
pub fn encode<M: Message>(message: &M) -> Vec<u8> {
    encode_bytes(&canonical::encode(message))
}

/// Bytes that are a message as they are, with their length before them.
#[must_use]
pub fn encode_bytes(body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(PREFIX_BYTES + body.len());
    frame.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

/// Cuts a stream of bytes into messages, without I/O.
#[derive(Debug)]
pub struct FrameDecoder {
    limit: usize,
    buffer: BytesMut,
}

impl FrameDecoder {
    /// A decoder that takes messages of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, buffer: BytesMut::new() }
    }

    /// Takes the next bytes of the stream. The caller asks for messages before it adds more than it has read at once,
    /// so the buffer holds at most one message and one read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message.
    ///
    /// # Errors
    /// [`FrameError::TooLong`], as soon as the length is there; every further call gives it again.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(length) = self.announced()? else { return Ok(None) };
        if self.buffer.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX_BYTES);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Whether a part of a message is there.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        !self.buffer.is_empty()
    }

    fn announced(&self) -> Result<Option<usize>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        checked_length(*prefix, self.limit).map(Some)
    }
}

/// Reads exactly one message and nothing after it.
pub(crate) async fn read<R: AsyncRead + Unpin>(stream: &mut R, limit: usize) -> Result<Vec<u8>, FrameError> {
    let mut prefix = [0; PREFIX_BYTES];
    let mut filled = 0;
    while filled < PREFIX_BYTES {
        match stream.read(&mut prefix[filled..]).await {
            Ok(0) => return Err(ended(filled > 0, &io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => filled += count,
            Err(error) => return Err(ended(filled > 0, &error)),
        }
    }
    let length = checked_length(prefix, limit)?;
    let mut body = Vec::with_capacity(length.min(FIRST_ALLOCATION));
    let read = stream.take(length as u64).read_to_end(&mut body).await;
    match read {
        Ok(_) if body.len() == length => Ok(body),
        Ok(_) => Err(ended(true, &io::ErrorKind::UnexpectedEof.into())),
        Err(error) => Err(ended(true, &error)),
    }
}

fn checked_length(prefix: [u8; PREFIX_BYTES], limit: usize) -> Result<usize, FrameError> {
    let got = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if got > limit { Err(FrameError::TooLong { got, limit }) } else { Ok(got) }
}

pub(crate) fn ended(started: bool, error: &io::Error) -> FrameError {
    use libp2p::core::upgrade::NegotiationError;
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<NegotiationError>());
    let unsupported = matches!(inner, Some(NegotiationError::Failed));
    FrameError::Ended { started, unsupported, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use antiphon_proto::wire::{FollowRequest, LedgerRequest, ledger_request};
    use proptest::prelude::*;

    #[test]
    fn golden_bytes() {
        let follow = FollowRequest { network: vec![0xaa; 3], from: 300 };
        let request = LedgerRequest { body: Some(ledger_request::Body::Follow(follow)) };
        assert_eq!(encode(&request), b"\0\0\0\x0a\x12\x08\x0a\x03\xaa\xaa\xaa\x10\xac\x02");
        assert_eq!(encode(&LedgerRequest { body: None }), b"\0\0\0\0");
    }

    #[test]
    fn lengths_are_refused_before_their_bytes_come() {
        let mut decoder = FrameDecoder::new(10);
        decoder.push(&[0, 0, 0]);
        assert_eq!(decoder.next_frame(), Ok(None));
        decoder.push(&[11]);
        assert_eq!(decoder.next_frame(), Err(FrameError::TooLong { got: 11, limit: 10 }));
        let too_long = futures::executor::block_on(read(&mut &[255, 255, 255, 255, 1][..], 64));
        assert_eq!(too_long, Err(FrameError::TooLong { got: 0xffff_ffff, limit: 64 }));
    }

    #[test]
    fn an_early_end_says_whether_the_message_had_begun() {
        let read = |bytes: &[u8]| futures::executor::block_on(read(&mut &*bytes, 64));
        assert!(matches!(read(b""), Err(FrameError::Ended { started: false, .. })));
        assert!(matches!(read(b"\0\0"), Err(FrameError::Ended { started: true, .. })));
        assert!(matches!(read(b"\0\0\0\x02a"), Err(FrameError::Ended { started: true, .. })));
        assert_eq!(read(b"\0\0\0\x02abc"), Ok(b"ab".to_vec()));
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same_messages(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..10),
            cuts in prop::collection::vec(1usize..30, 1..50),
        ) {
            let mut bytes = Vec::new();
            for message in &messages {
                bytes.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
                bytes.extend_from_slice(message);
            }
            let mut decoder = FrameDecoder::new(40);
            let mut found = Vec::new();
            let mut cuts = cuts.iter().cycle();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                rest = later;
                decoder.push(now);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    found.push(frame.to_vec());
                }
            }
            prop_assert_eq!(found, messages);
            prop_assert!(!decoder.is_inside());
        }

        #[test]
        fn no_bytes_break_the_decoder(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20)) {
            let mut decoder = FrameDecoder::new(64);
            'pieces: for piece in pieces {
                decoder.push(&piece);
                loop {
                    match decoder.next_frame() {
                        Ok(Some(frame)) => prop_assert!(frame.len() <= 64),
                        Ok(None) => break,
                        Err(_) => break 'pieces,
                    }
                }
            }
        }
    }
}
