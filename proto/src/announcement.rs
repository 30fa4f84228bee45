//! The 96 bytes by which a peer says that it is here and what it vouches for.
//!
//! Fixed layout, big-endian:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | kind: 0 digest, 1 add, 2 remove, 3 goodbye |
//! | 2 | 2 | flags: bit 0 relayed only, bit 1 mini-node |
//! | 4 | 4 | songs vouched for, after this event |
//! | 8 | 8 | sequence, strictly rising per peer |
//! | 16 | 8 | milliseconds since 1970 |
//! | 24 | 8 | ledger size known |
//! | 32 | 32 | content hash (add, remove) or zero |
//! | 64 | 32 | library digest after this event |

use crate::{
    hash::ContentHash,
    limits::{ANNOUNCEMENT_BYTES, LIBRARY_SONGS},
};

/// Layout version.
pub const ANNOUNCEMENT_VERSION: u8 = 1;

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Nothing: this is the state.
    Digest,
    /// The peer vouches for one more content hash.
    Add(ContentHash),
    /// The peer no longer vouches for a content hash.
    Remove(ContentHash),
    /// The peer leaves.
    Goodbye,
}

/// Properties of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// Reachable through a relay only.
    pub relayed_only: bool,
    /// A mini-node.
    pub mini_node: bool,
}

/// One announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcement {
    /// What has happened.
    pub event: Event,
    /// Properties of the peer.
    pub flags: Flags,
    /// Songs vouched for, after this event.
    pub songs: u32,
    /// Strictly rising per peer.
    pub sequence: u64,
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// Blocks of the ledger that the peer has.
    pub ledger_size: u64,
    /// Summary of the library after this event.
    pub digest: [u8; 32],
}

/// Bytes that are not an announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnnouncementError {
    /// Another length than 96.
    #[error("an announcement is 96 bytes, not {0}")]
    Length(usize),
    /// Written by another version.
    #[error("announcement version {0} is not known")]
    Version(u8),
    /// An unassigned kind.
    #[error("announcement kind {0} is not known")]
    Kind(u8),
    /// An unassigned flag.
    #[error("announcement flags {0:#06x} are not known")]
    Flags(u16),
    /// A content hash where none belongs, or none where one belongs.
    #[error("the content hash does not fit the kind")]
    Hash,
    /// A number of songs that cannot be: none after an addition, or more than a library may hold.
    #[error("a library of {0} songs cannot be")]
    Songs(u32),
}

impl Announcement {
    /// The 96 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; ANNOUNCEMENT_BYTES] {
        let (kind, hash) = match self.event {
            Event::Digest => (0, [0; 32]),
            Event::Add(hash) => (1, hash.0),
            Event::Remove(hash) => (2, hash.0),
            Event::Goodbye => (3, [0; 32]),
        };
        let flags = u16::from(self.flags.relayed_only) | (u16::from(self.flags.mini_node) << 1);
        let mut bytes = [0; ANNOUNCEMENT_BYTES];
        bytes[0] = ANNOUNCEMENT_VERSION;
        bytes[1] = kind;
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.songs.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.time_ms.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.ledger_size.to_be_bytes());
        bytes[32..64].copy_from_slice(&hash);
        bytes[64..].copy_from_slice(&self.digest);
        bytes
    }

    /// Reads exactly 96 bytes.
    ///
    /// # Errors
    /// [`AnnouncementError`] for anything that [`Announcement::to_bytes`] does not write.
    pub fn parse(bytes: &[u8]) -> Result<Self, AnnouncementError> {
        let bytes: &[u8; ANNOUNCEMENT_BYTES] =
            bytes.try_into().map_err(|_| AnnouncementError::Length(bytes.len()))?;
        if bytes[0] != ANNOUNCEMENT_VERSION {
            return Err(AnnouncementError::Version(bytes[0]));
        }
        let flags = u16::from_be_bytes([bytes[2], bytes[3]]);
        if flags & !0b11 != 0 {
            return Err(AnnouncementError::Flags(flags));
        }
        let hash: [u8; 32] = array(bytes, 32);
        let event = match (bytes[1], hash == [0; 32]) {
            (0, true) => Event::Digest,
            (1, false) => Event::Add(ContentHash(hash)),
            (2, false) => Event::Remove(ContentHash(hash)),
            (3, true) => Event::Goodbye,
            (0..=3, _) => return Err(AnnouncementError::Hash),
            (kind, _) => return Err(AnnouncementError::Kind(kind)),
        };
        let songs = u32::from_be_bytes(array(bytes, 4));
        if songs > LIBRARY_SONGS || (songs == 0 && matches!(event, Event::Add(_))) {
            return Err(AnnouncementError::Songs(songs));
        }
        Ok(Self {
            event,
            flags: Flags { relayed_only: flags & 1 != 0, mini_node: flags & 2 != 0 },
            songs,
            sequence: u64::from_be_bytes(array(bytes, 8)),
            time_ms: u64::from_be_bytes(array(bytes, 16)),
            ledger_size: u64::from_be_bytes(array(bytes, 24)),
            digest: array(bytes, 64),
        })
    }
}

/// `N` bytes at a fixed offset inside the 96.
fn array<const N: usize>(bytes: &[u8; ANNOUNCEMENT_BYTES], offset: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[offset..offset + N]);
    out
}
