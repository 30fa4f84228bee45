//! 32-byte identities: content hash, song id, block hash, network id.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER_PERMISSIVE;

/// Bytes that are not an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Raw bytes of another length.
    #[error("{name} must be 32 bytes, not {got}")]
    Length {
        /// What was expected.
        name: &'static str,
        /// Length found.
        got: usize,
    },
    /// Text that is not 64 hexadecimal digits.
    #[error("{name} must be 64 hexadecimal digits: {text:?}")]
    Hex {
        /// What was expected.
        name: &'static str,
        /// Start of the text found.
        text: String,
    },
}

/// Reads 64 hexadecimal digits.
pub(crate) fn parse_hex(name: &'static str, text: &str) -> Result<[u8; 32], IdError> {
    let bad = || IdError::Hex { name, text: text.chars().take(80).collect() };
    let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| bad())?;
    bytes.try_into().map_err(|_| bad())
}

macro_rules! identity {
    ($(#[$doc:meta])* $type:ident, $name:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(pub [u8; 32]);

        impl $type {
            /// The raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl TryFrom<&[u8]> for $type {
            type Error = IdError;

            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                bytes.try_into().map(Self).map_err(|_| IdError::Length { name: $name, got: bytes.len() })
            }
        }

        impl FromStr for $type {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_hex($name, text).map(Self)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for byte in self.0 {
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($type))
            }
        }
    };
}
pub(crate) use identity;

identity!(
    /// BLAKE3 of an audio file's bytes, also its Bao root.
    ContentHash,
    "content hash"
);
identity!(
    /// BLAKE3 of a song's canonical registration: its stable name across variants.
    SongId,
    "song id"
);
identity!(
    /// BLAKE3 of a block's canonical bytes: what the next block links to.
    BlockHash,
    "block hash"
);
identity!(
    /// BLAKE3 of the canonical genesis document.
    NetworkId,
    "network id"
);
identity!(
    /// BLAKE3 of a batch's header: what a council's members vote on.
    ValueId,
    "value id"
);
identity!(
    /// BLAKE3 of a council act.
    ActId,
    "act id"
);
identity!(
    /// RFC 6962 tree head (SHA-256).
    RootHash,
    "root hash"
);

impl BlockHash {
    /// The link to a block with these canonical bytes.
    #[must_use]
    pub fn of(block_bytes: &[u8]) -> Self {
        Self(*blake3::hash(block_bytes).as_bytes())
    }
}

impl ContentHash {
    /// The hash of a whole file that is in memory.
    #[must_use]
    pub fn of(file: &[u8]) -> Self {
        Self(*blake3::hash(file).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_rejects() {
        let id = ContentHash::of(b"antiphon");
        assert_eq!(id.to_string().parse::<ContentHash>(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse::<ContentHash>(), Ok(id));
        assert!("".parse::<ContentHash>().is_err());
        assert!("zz".repeat(32).parse::<ContentHash>().is_err());
        assert!("ab".repeat(33).parse::<ContentHash>().is_err());
    }

    #[test]
    fn raw_bytes_must_be_32() {
        assert!(matches!(SongId::try_from(&[0u8; 31][..]), Err(IdError::Length { got: 31, .. })));
        assert!(SongId::try_from(&[0u8; 32][..]).is_ok());
    }
}
