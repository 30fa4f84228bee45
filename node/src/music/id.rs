//! Names of songs, albums and artists, as apps and pages keep them.
//!
//! A song is named by the ledger index of its own block, which never changes; albums and artists by the names that they
//! go by, up to case, accents and punctuation, so that they are the same on every peer and after every restart.

use std::{fmt, str::FromStr};

use bincode::{Decode, Encode};
use data_encoding::HEXLOWER;

use crate::search;

/// The name of something that can be listed, starred or played: `so-12`, `al-` and 32 hex digits, `ar-` and 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Id {
    /// The ledger index of a song's own block.
    Song(u64),
    /// An album, by whose it is and its title.
    Album([u8; 16]),
    /// An artist.
    Artist([u8; 16]),
}

/// Not the name of anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id: so-INDEX, al-HEX or ar-HEX")]
pub struct NotAnId;

/// 128 bits: no two names of one network meet.
fn short(kind: &str, parts: &[&str]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key(kind);
    for part in parts {
        let key = search::name_key(part);
        hasher.update(&(key.len() as u64).to_le_bytes());
        hasher.update(key.as_bytes());
    }
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    id
}

impl Id {
    /// The album of this title, by whose it is.
    #[must_use]
    pub fn album(owner: &str, title: &str) -> Self {
        Self::Album(short("antiphon album id 1", &[owner, title]))
    }

    /// The artist of this name.
    #[must_use]
    pub fn artist(name: &str) -> Self {
        Self::Artist(short("antiphon artist id 1", &[name]))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Song(index) => write!(f, "so-{index}"),
            Self::Album(id) => write!(f, "al-{}", HEXLOWER.encode(id)),
            Self::Artist(id) => write!(f, "ar-{}", HEXLOWER.encode(id)),
        }
    }
}

impl FromStr for Id {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let hex = |text: &str| -> Result<[u8; 16], NotAnId> {
            let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| NotAnId)?;
            bytes.try_into().map_err(|_| NotAnId)
        };
        match text.split_at_checked(3).ok_or(NotAnId)? {
            // One form only: no signs, no leading zeros.
            ("so-", index) => match index.parse() {
                Ok(number) if index == u64::to_string(&number) => Ok(Self::Song(number)),
                _ => Err(NotAnId),
            },
            ("al-", id) => hex(id).map(Self::Album),
            ("ar-", id) => hex(id).map(Self::Artist),
            _ => Err(NotAnId),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_last() {
        assert_eq!(Id::artist("Café Noir"), Id::artist("CAFE NOIR"));
        assert_ne!(Id::album("a", "bc"), Id::album("ab", "c"));
        // Apps keep these for years.
        assert_eq!(Id::artist("Nobody").to_string(), "ar-2ea56b3d1591b78d5eef4ac00bf7feb8");
        assert_eq!(Id::album("Nobody", "Nothing").to_string(), "al-d74b62fb8deac6a1952bb585b876c074");
        for id in [Id::Song(0), Id::Song(u64::MAX), Id::artist("x"), Id::album("x", "y")] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn what_is_no_id() {
        for text in ["", "so", "so-", "so-01", "so-+1", "so--1", "so-1 ", "al-12", "xx-1", "ar-ABCDEF", "é"]
        {
            assert_eq!(text.parse::<Id>(), Err(NotAnId), "{text}");
        }
    }
}
