//! What things cost on the wire: protobuf as gossipsub 0.50 writes it, each RPC on its own, with its length before it.

use antiphon_proto::limits::ANNOUNCEMENT_BYTES;

/// Bytes of a peer id: an identity multihash of an Ed25519 key. The key is in it, so that messages do not repeat it.
const PEER_ID: u64 = 38;
const SEQUENCE: u64 = 8;
const SIGNATURE: u64 = 64;
/// `/antiphon/`, 64 hexadecimal digits, `/swarm/`, two digits of the shard.
pub const TOPIC: u64 = 10 + 64 + 7 + 2;
/// The peer id in base 58 and the sequence, nanoseconds since 1970, in decimal: gossipsub's own.
pub const MESSAGE_ID: u64 = 52 + 19;

/// A packet of QUIC over IPv4: 20 IP, 8 UDP, 1 flags, 8 connection id, 2 packet number, 16 seal, 7 header of the stream's
/// frame.
pub const PACKET: u64 = 62;
/// The same with an acknowledgement in it, sent back when there is nothing else to send: one for each packet, as packets on
/// one connection are further apart than the 25 ms that an acknowledgement may wait.
pub const ACKNOWLEDGEMENT: u64 = 61;
/// Bytes of the stream in one packet: what is left of a 1,280-byte path and more often of 1,452.
const PACKET_ROOM: u64 = 1_350;

/// Sizes of RPCs for one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wire {
    /// Bytes of the topic's name.
    pub topic: u64,
    /// Bytes of a message's id.
    pub id: u64,
}

impl Default for Wire {
    fn default() -> Self {
        Self { topic: TOPIC, id: MESSAGE_ID }
    }
}

/// A protobuf field of bytes with its tag and length.
fn field(bytes: u64) -> u64 {
    1 + varint(bytes) + bytes
}

fn varint(value: u64) -> u64 {
    u64::from((64 - (value | 1).leading_zeros()).div_ceil(7))
}

impl Wire {
    /// A message with 96 bytes in it, without what is around it.
    #[must_use]
    pub fn message(self) -> u64 {
        let data = u64::try_from(ANNOUNCEMENT_BYTES).unwrap_or(0);
        field(PEER_ID) + field(data) + field(SEQUENCE) + field(self.topic) + field(SIGNATURE)
    }

    /// A copy of an announcement.
    #[must_use]
    pub fn copy(self) -> u64 {
        let rpc = field(self.message());
        varint(rpc) + rpc
    }

    /// A message that says which announcements its sender has.
    #[must_use]
    pub fn have(self, ids: u64) -> u64 {
        self.control(field(field(self.topic) + ids * field(self.id)))
    }

    /// A message that asks for announcements.
    #[must_use]
    pub fn want(self, ids: u64) -> u64 {
        self.control(field(ids * field(self.id)))
    }

    /// A subscription, or joining a mesh.
    #[must_use]
    pub fn subscribe(self) -> u64 {
        let rpc = field(2 + field(self.topic) + 4);
        varint(rpc) + rpc
    }

    /// Of messages that say what their sender has, the ids that fit into the 16,384 bytes which gossipsub takes by default:
    /// a longer one ends the stream, and the fifth stream of a connection ends gossip on it.
    #[must_use]
    pub fn most_ids(self) -> u64 {
        (16_384 - 8 - field(self.topic)) / field(self.id)
    }

    fn control(self, content: u64) -> u64 {
        let rpc = field(content);
        varint(rpc) + rpc
    }
}

/// Bytes that QUIC and IP add to an RPC of this length in its direction.
#[must_use]
pub fn quic(rpc: u64) -> u64 {
    rpc.div_ceil(PACKET_ROOM) * PACKET
}

/// Bytes that come back for it.
#[must_use]
pub fn quic_back(rpc: u64) -> u64 {
    rpc.div_ceil(PACKET_ROOM) * ACKNOWLEDGEMENT
}

#[cfg(test)]
mod tests {
    use super::*;
    use antiphon_p2p::{
        PeerId,
        libp2p::{gossipsub, identity::Keypair},
    };

    #[test]
    fn a_message_is_as_long_as_gossipsub_makes_it() {
        let keys = Keypair::generate_ed25519();
        let topic = format!("/antiphon/{}/swarm/{:02}", "a".repeat(64), 7);
        assert_eq!(topic.len() as u64, TOPIC);
        let source = PeerId::from_public_key(&keys.public());
        assert_eq!(source.to_base58().len() as u64 + 19, MESSAGE_ID);
        let message = gossipsub::RawMessage {
            source: Some(source),
            data: vec![1; ANNOUNCEMENT_BYTES],
            sequence_number: Some(1_763_000_000_000_000_000),
            topic: gossipsub::TopicHash::from_raw(topic),
            signature: Some(keys.sign(b"any").unwrap()),
            key: None,
            validated: true,
        };
        let wire = Wire::default();
        assert_eq!(wire.message(), message.raw_protobuf_len() as u64);
        // Its field in the RPC, and the RPC's length: three and two bytes.
        assert_eq!(wire.copy(), wire.message() + 3 + 2);
        assert_eq!(wire.copy(), 304);
    }

    #[test]
    fn control_messages() {
        let wire = Wire::default();
        assert_eq!(wire.have(1), 2 + 3 + 3 + 85 + 73);
        assert!(wire.have(wire.most_ids()) <= 16_384 + 3);
        assert!(wire.have(wire.most_ids() + 1) > 16_384 + 3);
        assert_eq!(wire.most_ids(), 223);
        assert_eq!(quic(304), 62);
        assert_eq!(quic(4_500), 4 * 62);
    }
}
