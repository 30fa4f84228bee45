//! Names of the state's entries.

use antiphon_proto::{PublicKey, epoch::Escrow};

/// Name of an entry of the state. Its bytes are told in `state.proto`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateKey {
    /// A wallet's account: `AccountState`.
    Account(PublicKey),
    /// What waits for an artist: `EscrowState`.
    Escrow(Escrow),
    /// Whose a normalised artist's name is: `ArtistState`.
    Artist(String),
    /// Plays of the song at this ledger index: `SongState`.
    Song(u64),
    /// Who may hear the song at this ledger index: `RightState`.
    Right(u64, PublicKey),
}

const ACCOUNT: u8 = 1;
const ESCROW: u8 = 2;
const ARTIST: u8 = 3;
const SONG: u8 = 4;
const RIGHT: u8 = 5;
const OF_KEY: u8 = 1;
const OF_NAME: u8 = 2;

impl StateKey {
    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Account(key) => [&[ACCOUNT][..], &key.0].concat(),
            Self::Escrow(Escrow::Key(key)) => [&[ESCROW, OF_KEY][..], &key.0].concat(),
            Self::Escrow(Escrow::Name(name)) => [&[ESCROW, OF_NAME][..], name.as_bytes()].concat(),
            Self::Artist(name) => [&[ARTIST][..], name.as_bytes()].concat(),
            Self::Song(index) => [&[SONG][..], &index.to_be_bytes()].concat(),
            Self::Right(index, key) => [&[RIGHT][..], &index.to_be_bytes(), &key.0].concat(),
        }
    }

    /// Of its bytes; `None` for what is none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let public = |bytes: &[u8]| PublicKey::try_from(bytes).ok();
        let name = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let index = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).ok();
        match *kind {
            ACCOUNT => public(rest).map(Self::Account),
            ESCROW => match rest.split_first()? {
                (&OF_KEY, key) => public(key).map(|key| Self::Escrow(Escrow::Key(key))),
                (&OF_NAME, text) => name(text).map(|name| Self::Escrow(Escrow::Name(name))),
                _ => None,
            },
            ARTIST => name(rest).map(Self::Artist),
            SONG => index(rest).map(Self::Song),
            RIGHT => {
                let (song, key) = rest.split_at_checked(8)?;
                Some(Self::Right(index(song)?, public(key)?))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_keys() {
        let key = PublicKey([7; 32]);
        let all = [
            (StateKey::Account(key), [&[1][..], &[7; 32]].concat()),
            (StateKey::Escrow(Escrow::Key(key)), [&[2, 1][..], &[7; 32]].concat()),
            (StateKey::Escrow(Escrow::Name("ab".into())), vec![2, 2, b'a', b'b']),
            (StateKey::Artist("ab".into()), vec![3, b'a', b'b']),
            (StateKey::Song(258), vec![4, 0, 0, 0, 0, 0, 0, 1, 2]),
            (StateKey::Right(1, key), [&[5, 0, 0, 0, 0, 0, 0, 0, 1][..], &[7; 32]].concat()),
        ];
        for (name, bytes) in all {
            assert_eq!(name.to_bytes(), bytes);
            assert_eq!(StateKey::from_bytes(&bytes), Some(name));
        }
        for wrong in [&[][..], &[0], &[1, 2], &[2, 3, 4], &[4, 1], &[5, 1, 2], &[3, 0xff]] {
            assert_eq!(StateKey::from_bytes(wrong), None);
        }
    }
}
