//! Decoding: one module for each library or program that does it.

mod ape;
pub(crate) mod ffmpeg;
mod gather;
mod library;
mod opus;

use std::time::{Duration, Instant};

use antiphon_proto::Container;

use crate::error::AnalyzeError;
use crate::fingerprint::Fingerprint;
use crate::limits::MIN_DECODED_SECONDS;
use crate::source::Window;

pub(crate) use library::read_metadata;

/// What decoding tells of a file.
#[derive(Debug, Clone)]
pub(crate) struct Decoded {
    pub(crate) codec: String,
    /// Of the whole file.
    pub(crate) duration_ms: u64,
    pub(crate) sample_rate: u32,
    pub(crate) channels: u16,
    pub(crate) lossless: bool,
    pub(crate) fingerprint: Fingerprint,
}

/// Decodes the start of an audio stream that begins at the window's first byte.
///
/// WMA is not decoded here, see [`ffmpeg::decode`].
pub(crate) fn decode(container: Container, window: Window) -> Result<Decoded, AnalyzeError> {
    match container {
        Container::Ape => ape::decode(window),
        _ => library::decode(container, window),
    }
}

/// The fingerprint of what was collected, or why there is none.
///
/// `expected_ms` is the length by the container, `damage` what went wrong on the way, if anything did.
fn finish(
    collector: crate::audio::Collector,
    rate: u32,
    expected_ms: u64,
    damage: Option<AnalyzeError>,
) -> Result<Fingerprint, AnalyzeError> {
    let taken = collector.taken();
    let taken_ms = taken.saturating_mul(1_000) / u64::from(rate.max(1));
    let short = taken < MIN_DECODED_SECONDS * u64::from(rate);
    // What does not tell its length, or is damaged inside, is good for as long as it goes, if long enough.
    if short && let Some(damage) = damage {
        return Err(damage);
    }
    if short && expected_ms > taken_ms + 2_000 {
        return Err(AnalyzeError::Truncated(format!(
            "{} s of {} s can be decoded",
            taken_ms / 1_000,
            expected_ms / 1_000
        )));
    }
    collector.finish().ok_or(AnalyzeError::TooShort(taken_ms))
}

/// [`AnalyzeError::Timeout`] once the deadline has passed.
fn check_deadline(started: Instant, deadline: Instant) -> Result<(), AnalyzeError> {
    if Instant::now() > deadline { Err(timed_out(started, deadline)) } else { Ok(()) }
}

fn timed_out(started: Instant, deadline: Instant) -> AnalyzeError {
    AnalyzeError::Timeout(deadline.checked_duration_since(started).unwrap_or(Duration::ZERO))
}
