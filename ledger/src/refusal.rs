//! Why the state machine refuses a block or a registration.

use antiphon_proto::{
    BlockHash, ContentHash, SongId, limits,
    record::Invalid,
    wire::{RefusalCode, Refused},
};

/// A verdict on one record, the same on every peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its form, stamp or signature.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The fingerprint cannot be read.
    #[error("fingerprint: {0}")]
    BadFingerprint(String),
    /// The same file is in the ledger.
    #[error(
        "content {content} is in the ledger already: block {index}, of song {song_id} (block {song_index})"
    )]
    Duplicate {
        /// The file.
        content: ContentHash,
        /// Block that holds it.
        index: u64,
        /// Song that it belongs to.
        song_id: SongId,
        /// That song's block.
        song_index: u64,
    },
    /// The same recording is in the ledger.
    #[error(
        "it sounds like song {song_id} (block {index}), with {error_per_10_000} of 10,000 bits different: \
         register it as a variant of that song"
    )]
    NearDuplicate {
        /// Block of the song that it matches.
        index: u64,
        /// That song.
        song_id: SongId,
        /// Bits that differ, in hundredths of a percent.
        error_per_10_000: u32,
    },
    /// A variant of a song that is not in the ledger.
    #[error("song {0} is not in the ledger")]
    UnknownSong(SongId),
    /// More records of one registrant than a batch may hold.
    #[error("one registrant may have {limit} records in a batch")]
    Quota {
        /// What the network allows.
        limit: u32,
    },
    /// Made by a clock that is ahead.
    #[error(
        "made at {created_ms} ms, more than {ahead} ms after the ledger's time {block_ms} ms: check the clock",
        ahead = limits::CLOCK_AHEAD_MS
    )]
    FromTheFuture {
        /// The registrant's time.
        created_ms: u64,
        /// The block's time.
        block_ms: u64,
    },
    /// The block names another position than it stands at.
    #[error("the block says index {got}, it stands at {expected}")]
    Index {
        /// Where it stands.
        expected: u64,
        /// What it says.
        got: u64,
    },
    /// The block links to another predecessor.
    #[error("the block links to {got}, the block before it is {expected}")]
    Link {
        /// Hash of the block before (the network id for the first).
        expected: BlockHash,
        /// What it says.
        got: BlockHash,
    },
    /// The block names another height.
    #[error("the block says height {got}, its batch has {expected}")]
    Height {
        /// Height of its batch.
        expected: u64,
        /// What it says.
        got: u64,
    },
    /// Time went back, or differs inside a batch.
    #[error("the block's time is {got} ms, expected {expected} ms or, at the start of a batch, later")]
    Time {
        /// Time of the batch, or of the batch before.
        expected: u64,
        /// What it says.
        got: u64,
    },
    /// An act of the council that cannot stand here.
    #[error("council act: {0}")]
    Act(&'static str),
    /// More is to be paid than is there.
    #[error("the account holds {there} units, {needed} are needed (10^8 units are one token)")]
    Balance {
        /// Units in the account.
        there: u64,
        /// Units to be paid.
        needed: u64,
    },
    /// Another record of the account stands there, or one before it is missing.
    #[error("record {got} of the account, expected {expected}: another one of it was faster")]
    Sequence {
        /// The next one.
        expected: u64,
        /// What it says.
        got: u64,
        /// Ledger index of the account's last record, when it has this sequence.
        last: Option<u64>,
    },
    /// The song's terms.
    #[error("terms: {0}")]
    Terms(&'static str),
    /// Another price.
    #[error("the song costs {price} units, not {got}")]
    Price {
        /// What it costs.
        price: u64,
        /// What was offered.
        got: u64,
    },
    /// Not by this key.
    #[error("not allowed: {0}")]
    Forbidden(&'static str),
    /// A claim on an artist's name, or on what waits for it.
    #[error("claim: {0}")]
    Claim(&'static str),
    /// A settlement that does not follow.
    #[error("settlement: {0}")]
    Epoch(&'static str),
    /// A receipt that proves no play.
    #[error("receipt: {0}")]
    Receipt(String),
    /// A sum beyond 64 bits.
    #[error("a sum overflows")]
    Overflow,
    /// The batch has no room for it.
    #[error("the batch would hold more than {blocks} blocks or {bytes} bytes",
        blocks = limits::BATCH_BLOCKS, bytes = limits::BATCH_BYTES)]
    BatchFull,
}

impl Refusal {
    /// The class that a registrant is told.
    #[must_use]
    pub const fn code(&self) -> RefusalCode {
        match self {
            Self::Invalid(invalid) => invalid.code(),
            Self::Duplicate { .. } => RefusalCode::DuplicateContent,
            Self::NearDuplicate { .. } => RefusalCode::NearDuplicate,
            Self::UnknownSong(_) => RefusalCode::UnknownSong,
            Self::Quota { .. } => RefusalCode::Quota,
            Self::FromTheFuture { .. } | Self::Time { .. } => RefusalCode::Time,
            Self::BatchFull => RefusalCode::Limit,
            Self::Act(_) | Self::Claim(_) => RefusalCode::Council,
            Self::Balance { .. } | Self::Overflow => RefusalCode::Balance,
            Self::Sequence { .. } => RefusalCode::Sequence,
            Self::Terms(_) | Self::Price { .. } => RefusalCode::Terms,
            Self::Forbidden(_) => RefusalCode::Forbidden,
            Self::Receipt(_) | Self::Epoch(_) => RefusalCode::Receipt,
            Self::BadFingerprint(_) | Self::Index { .. } | Self::Link { .. } | Self::Height { .. } => {
                RefusalCode::Malformed
            }
        }
    }

    /// The song that stands in the way and the index of its block.
    #[must_use]
    pub const fn song(&self) -> Option<(SongId, u64)> {
        match self {
            Self::Duplicate { song_id, song_index, .. } => Some((*song_id, *song_index)),
            Self::NearDuplicate { song_id, index, .. } => Some((*song_id, *index)),
            _ => None,
        }
    }

    /// The answer that travels to the registrant; the text is cut to [`limits::DETAIL_BYTES`].
    #[must_use]
    pub fn to_wire(&self) -> Refused {
        let mut detail = self.to_string();
        detail.truncate(detail.floor_char_boundary(limits::DETAIL_BYTES));
        let (song_id, index) = self.song().map_or((Vec::new(), 0), |(id, index)| (id.0.to_vec(), index));
        Refused { code: self.code().into(), detail, song_id, index }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_form_names_the_song_and_is_bounded() {
        let refusal = Refusal::NearDuplicate { index: 7, song_id: SongId([9; 32]), error_per_10_000: 120 };
        let wire = refusal.to_wire();
        assert_eq!(wire.code, i32::from(RefusalCode::NearDuplicate));
        assert_eq!((&wire.song_id[..], wire.index), (&[9u8; 32][..], 7));
        assert!(wire.detail.contains("variant"));
        let long = Refusal::BadFingerprint("\u{e9}".repeat(1000)).to_wire();
        assert!(long.detail.len() <= limits::DETAIL_BYTES && long.detail.len() > limits::DETAIL_BYTES - 4);
        assert!(long.song_id.is_empty());
    }
}
