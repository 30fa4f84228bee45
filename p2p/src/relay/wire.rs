//! The messages of circuit relay v2 (libp2p specs, `relay/circuit-v2.md`) and how they are read from a stream.
//!
//! **Participants.** A peer that others cannot reach asks a relay for a *reservation*; whoever wants to reach it asks the
//! relay to *connect* the two. Both speak [`HopMessage`] with the relay (`/libp2p/circuit/relay/0.2.0/hop`); the relay
//! speaks [`StopMessage`] with the peer that is reached (`/libp2p/circuit/relay/0.2.0/stop`). After the last handshake
//! message a stream carries the bytes of the circuit.
//!
//! A message is a length (unsigned varint), then the protobuf, at most [`MESSAGE_BYTES`]. All fields are optional on the
//! wire, as the specification has them; unknown ones are passed over.

use std::io;

use futures::{AsyncRead, AsyncReadExt};
use prost::Message;

/// The longest message, length not counted: what other implementations take.
pub const MESSAGE_BYTES: usize = 4096;
/// Bytes of a length up to [`MESSAGE_BYTES`].
const LENGTH_BYTES: usize = 2;

/// What a hop message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum HopKind {
    /// Asks for a reservation.
    Reserve = 0,
    /// Asks for a circuit.
    Connect = 1,
    /// Answers.
    Status = 2,
}

/// What a stop message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum StopKind {
    /// Offers a circuit.
    Connect = 0,
    /// Answers.
    Status = 1,
}

/// How a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Status {
    /// No answer at all.
    Unused = 0,
    /// Granted.
    Ok = 100,
    /// No reservation is given.
    ReservationRefused = 200,
    /// A limit is reached.
    ResourceLimitExceeded = 201,
    /// Not to this peer, or not this way.
    PermissionDenied = 202,
    /// The other peer does not answer, or says no.
    ConnectionFailed = 203,
    /// The other peer has no reservation here.
    NoReservation = 204,
    /// The message cannot be read.
    MalformedMessage = 400,
    /// This message has no place here.
    UnexpectedMessage = 401,
}

/// Between a peer and the relay.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct HopMessage {
    /// What it is.
    #[prost(enumeration = "HopKind", optional, tag = "1")]
    pub kind: Option<i32>,
    /// Whom to connect with.
    #[prost(message, optional, tag = "2")]
    pub peer: Option<Peer>,
    /// What was reserved.
    #[prost(message, optional, tag = "3")]
    pub reservation: Option<Reservation>,
    /// What a circuit may carry; absent: no limit.
    #[prost(message, optional, tag = "4")]
    pub limit: Option<Limit>,
    /// How it went.
    #[prost(enumeration = "Status", optional, tag = "5")]
    pub status: Option<i32>,
}

/// Between the relay and the peer that is reached.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct StopMessage {
    /// What it is.
    #[prost(enumeration = "StopKind", optional, tag = "1")]
    pub kind: Option<i32>,
    /// Who wants to connect.
    #[prost(message, optional, tag = "2")]
    pub peer: Option<Peer>,
    /// What the circuit may carry; absent: no limit.
    #[prost(message, optional, tag = "3")]
    pub limit: Option<Limit>,
    /// How it went.
    #[prost(enumeration = "Status", optional, tag = "4")]
    pub status: Option<i32>,
}

/// A peer.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Peer {
    /// Its id in bytes.
    #[prost(bytes = "vec", optional, tag = "1")]
    pub id: Option<Vec<u8>>,
    /// Its addresses; not used.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub addrs: Vec<Vec<u8>>,
}

/// A reservation.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Reservation {
    /// When it ends, in seconds since 1970.
    #[prost(uint64, optional, tag = "1")]
    pub expire: Option<u64>,
    /// Addresses of the relay, each ending in its id.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub addrs: Vec<Vec<u8>>,
    /// A signed proof of it for others; optional.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub voucher: Option<Vec<u8>>,
}

/// What a circuit may carry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub struct Limit {
    /// Seconds.
    #[prost(uint32, optional, tag = "1")]
    pub duration: Option<u32>,
    /// Bytes in each direction.
    #[prost(uint64, optional, tag = "2")]
    pub data: Option<u64>,
}

impl HopMessage {
    /// An answer and nothing more.
    #[must_use]
    pub fn answer(status: Status) -> Self {
        Self { kind: Some(HopKind::Status.into()), status: Some(status.into()), ..Self::default() }
    }

    /// A reservation that is granted.
    #[must_use]
    pub fn granted(reservation: Reservation) -> Self {
        Self { reservation: Some(reservation), ..Self::answer(Status::Ok) }
    }
}

impl StopMessage {
    /// Offers a circuit with a peer, whose id is given in bytes.
    #[must_use]
    pub fn connect(peer: Vec<u8>) -> Self {
        let peer = Peer { id: Some(peer), addrs: Vec::new() };
        Self { kind: Some(StopKind::Connect.into()), peer: Some(peer), ..Self::default() }
    }
}

/// A message that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Longer than [`MESSAGE_BYTES`]; nothing of it was read.
    #[error("a message of more than {MESSAGE_BYTES} bytes")]
    TooLong,
    /// No such message.
    #[error("not a message: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// The stream ended or broke.
    #[error("the stream ended: {0}")]
    Ended(#[from] io::Error),
}

/// The bytes of a message with its length before it.
#[must_use]
pub fn encode<M: Message>(message: &M) -> Vec<u8> {
    message.encode_length_delimited_to_vec()
}

/// Reads exactly one message: what follows it stays in the stream, for it may be the first bytes of a circuit.
///
/// # Errors
/// [`WireError`].
pub async fn read<M: Message + Default, R: AsyncRead + Unpin>(stream: &mut R) -> Result<M, WireError> {
    let mut length = 0;
    for place in 0..LENGTH_BYTES {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        length |= usize::from(byte[0] & 0x7f) << (7 * place);
        if byte[0] & 0x80 == 0 {
            break;
        }
        if place + 1 == LENGTH_BYTES {
            return Err(WireError::TooLong);
        }
    }
    if length > MESSAGE_BYTES {
        return Err(WireError::TooLong);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(M::decode(&body[..])?)
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use proptest::prelude::*;

    use super::*;

    fn peer() -> impl Strategy<Value = Peer> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        (prop::option::of(bytes()), prop::collection::vec(bytes(), 0..4))
            .prop_map(|(id, addrs)| Peer { id, addrs })
    }

    fn limit() -> impl Strategy<Value = Limit> {
        any::<(Option<u32>, Option<u64>)>().prop_map(|(duration, data)| Limit { duration, data })
    }

    fn reservation() -> impl Strategy<Value = Reservation> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        (any::<Option<u64>>(), prop::collection::vec(bytes(), 0..4), prop::option::of(bytes()))
            .prop_map(|(expire, addrs, voucher)| Reservation { expire, addrs, voucher })
    }

    #[test]
    fn golden_bytes() {
        let reserve = HopMessage { kind: Some(HopKind::Reserve.into()), ..HopMessage::default() };
        assert_eq!(encode(&reserve), b"\x02\x08\0");
        let to = Peer { id: Some(b"peer".to_vec()), addrs: Vec::new() };
        let connect =
            HopMessage { kind: Some(HopKind::Connect.into()), peer: Some(to), ..HopMessage::default() };
        assert_eq!(encode(&connect), b"\x0a\x08\x01\x12\x06\x0a\x04peer");
        assert_eq!(encode(&HopMessage::answer(Status::NoReservation)), b"\x05\x08\x02\x28\xcc\x01");
        let granted = HopMessage::granted(Reservation {
            expire: Some(300),
            addrs: vec![b"ab".to_vec(), b"c".to_vec()],
            voucher: None,
        });
        assert_eq!(encode(&granted), b"\x10\x08\x02\x1a\x0a\x08\xac\x02\x12\x02ab\x12\x01c\x28\x64");
        assert_eq!(encode(&StopMessage::connect(b"me".to_vec())), b"\x08\x08\0\x12\x04\x0a\x02me");
        let limit = Some(Limit { duration: Some(60), data: Some(5) });
        let status = StopMessage {
            kind: Some(StopKind::Status.into()),
            status: Some(Status::Ok.into()),
            limit,
            peer: None,
        };
        assert_eq!(encode(&status), b"\x0a\x08\x01\x1a\x04\x08\x3c\x10\x05\x20\x64");
    }

    #[test]
    fn exactly_the_message_is_read() {
        let mut stream = &b"\x02\x08\x01the circuit's first bytes"[..];
        let message: HopMessage = block_on(read(&mut stream)).unwrap();
        assert_eq!((message.kind(), stream), (HopKind::Connect, &b"the circuit's first bytes"[..]));
    }

    #[test]
    fn lengths_are_refused_before_their_bytes_come() {
        let failed = |bytes: &[u8]| block_on(read::<HopMessage, _>(&mut &*bytes)).unwrap_err();
        assert!(matches!(failed(b"\x81\x20"), WireError::TooLong));
        assert!(matches!(failed(b"\xff\xff\x01"), WireError::TooLong));
        assert!(matches!(failed(b"\x80\x80"), WireError::TooLong));
        assert!(matches!(failed(b""), WireError::Ended(_)));
        assert!(matches!(failed(b"\x02\x08"), WireError::Ended(_)));
        assert!(matches!(failed(b"\x02\x08\xff"), WireError::Malformed(_)));
        let longest = [&b"\x80\x20"[..], &[0x7a; MESSAGE_BYTES]].concat();
        assert!(matches!(failed(&longest), WireError::Malformed(_)));
        assert_eq!(block_on(read::<HopMessage, _>(&mut &b"\0"[..])).unwrap(), HopMessage::default());
    }

    proptest! {
        #[test]
        fn messages_come_back(
            numbers in any::<(Option<i32>, Option<i32>)>(),
            peer in prop::option::of(peer()),
            reservation in prop::option::of(reservation()),
            limit in prop::option::of(limit()),
        ) {
            let (kind, status) = numbers;
            let hop = HopMessage { kind, peer: peer.clone(), reservation, limit, status };
            prop_assert_eq!(block_on(read::<HopMessage, _>(&mut &encode(&hop)[..])).unwrap(), hop);
            let stop = StopMessage { kind, peer, limit, status };
            prop_assert_eq!(block_on(read::<StopMessage, _>(&mut &encode(&stop)[..])).unwrap(), stop);
        }

        #[test]
        fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = block_on(read::<HopMessage, _>(&mut &bytes[..]));
            let _ = block_on(read::<StopMessage, _>(&mut &bytes[..]));
        }
    }
}
