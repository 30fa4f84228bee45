//! Bounds on what is read from a file, each with its reason.

use std::time::Duration;

/// Audio that a fingerprint is made of: Chromaprint's and AcoustID's convention.
pub const FINGERPRINT_SECONDS: u32 = 120;

/// What every peer agrees on: shortest and longest song in milliseconds, largest file, longest texts.
pub use antiphon_proto::limits::{
    DURATION_MS_MAX as MAX_DURATION_MS, DURATION_MS_MIN as MIN_DURATION_MS, FILE_BYTES as MAX_FILE_BYTES,
    GENRE_BYTES, TEXT_BYTES,
};

/// Largest single allocation while reading tags: cover art of this size passes, a hostile length does not.
pub const MAX_TAG_ALLOCATION: usize = 16 << 20;

/// Largest picture handed out as a cover: above the biggest that shops embed, below what hurts a small peer.
pub const MAX_COVER_BYTES: usize = 8 << 20;

/// Longest text of a song that is handed out: the longest opera is less.
pub const MAX_LYRICS_BYTES: usize = 256 << 10;

/// Wall-clock time for one file, unless the configuration says otherwise: 120 s of the slowest codec decode in
/// about 20 s on the smallest supported board.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(90);

/// Undecodable packets in a row after which a file counts as corrupt: a scratch loses a few, noise loses all.
pub(crate) const MAX_BAD_PACKETS: u32 = 50;

/// Least audio that a damaged or cut file must still give, in seconds, to be worth a fingerprint.
pub(crate) const MIN_DECODED_SECONDS: u64 = 5;
