//! Bounds on what is read from a file, each with its reason.

use std::time::Duration;

/// Audio that a fingerprint is made of: Chromaprint's and AcoustID's convention.
pub const FINGERPRINT_SECONDS: u32 = 120;

/// Shortest song, in milliseconds: the song block's own lower limit.
pub const MIN_DURATION_MS: u32 = 1_000;

/// Longest song, in milliseconds (12 h): the song block's own upper limit.
pub const MAX_DURATION_MS: u32 = 12 * 60 * 60 * 1_000;

/// Largest file, in bytes: the network's own limit, and what 32-bit chunk sizes can describe.
pub const MAX_FILE_BYTES: u64 = 4 << 30;

/// Longest text field of a song block, in bytes. The same number as in `antiphon_proto::limits`.
pub const TEXT_BYTES: usize = 256;

/// Longest genre of a song block, in bytes. The same number as in `antiphon_proto::limits`.
pub const GENRE_BYTES: usize = 128;

/// Largest single allocation while reading tags: cover art of this size passes, a hostile length does not.
pub const MAX_TAG_ALLOCATION: usize = 16 << 20;

/// Largest picture handed out as a cover: above the biggest that shops embed, below what hurts a small peer.
pub const MAX_COVER_BYTES: usize = 8 << 20;

/// Wall-clock time for one file, unless the configuration says otherwise: 120 s of the slowest codec decode in
/// about 20 s on the smallest supported board.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(90);

/// Undecodable packets in a row after which a file counts as corrupt: a scratch loses a few, noise loses all.
pub(crate) const MAX_BAD_PACKETS: u32 = 50;

/// Least audio that a damaged or cut file must still give, in seconds, to be worth a fingerprint.
pub(crate) const MIN_DECODED_SECONDS: u64 = 5;
