//! Canonical protobuf: one meaning, one byte string.
//!
//! Protobuf itself allows many encodings of one message. Ours is the one that prost writes: fields by number,
//! default values left out, minimal varints. Reading accepts only that: what was read is written again and must be
//! the same bytes, which refuses unknown fields, explicit defaults, repeated or reordered fields alike.

use prost::Message;

/// Bytes that are not the canonical encoding of a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// Longer than this kind of message may be; nothing was read.
    #[error("{name} of {got} bytes is longer than the {limit} that are allowed")]
    TooLong {
        /// Kind of message.
        name: &'static str,
        /// Length found.
        got: usize,
        /// Length allowed.
        limit: usize,
    },
    /// Not protobuf, or of other types.
    #[error("{name} cannot be decoded: {source}")]
    Decode {
        /// Kind of message.
        name: &'static str,
        /// What prost found.
        source: prost::DecodeError,
    },
    /// Decodes, but is not what an encoder of this version writes.
    #[error(
        "{name} is not in canonical form (unknown, repeated or reordered field, or a default value written out)"
    )]
    NotCanonical {
        /// Kind of message.
        name: &'static str,
    },
}

/// The canonical bytes of a message.
#[must_use]
pub fn encode<M: Message>(message: &M) -> Vec<u8> {
    message.encode_to_vec()
}

/// Reads a message from at most `limit` bytes and refuses any other encoding than the canonical one.
///
/// # Errors
/// [`CanonicalError`], naming the message by `name`.
pub fn decode<M: Message + Default>(
    name: &'static str,
    limit: usize,
    bytes: &[u8],
) -> Result<M, CanonicalError> {
    let message = decode_lenient::<M>(name, limit, bytes)?;
    // The length is compared first: it costs no allocation.
    if message.encoded_len() != bytes.len() || message.encode_to_vec() != bytes {
        return Err(CanonicalError::NotCanonical { name });
    }
    Ok(message)
}

/// Reads a message that nothing is hashed or signed from, so that a later version may add fields.
///
/// # Errors
/// [`CanonicalError::TooLong`] or [`CanonicalError::Decode`].
pub fn decode_lenient<M: Message + Default>(
    name: &'static str,
    limit: usize,
    bytes: &[u8],
) -> Result<M, CanonicalError> {
    if bytes.len() > limit {
        return Err(CanonicalError::TooLong { name, got: bytes.len(), limit });
    }
    M::decode(bytes).map_err(|source| CanonicalError::Decode { name, source })
}
