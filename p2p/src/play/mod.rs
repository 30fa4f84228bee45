//! Plays: how a listener and the peer that serves it come to agree on what was heard.
//!
//! **Participants.** The listener says where it is, at every heartbeat, with the receipt of the play up to there; the
//! witness recomputes that receipt from what it was told and from its own clock, and signs it if it is the same.
//!
//! **Goals.** A receipt takes two: neither can make one alone. A play that breaks off loses at most one heartbeat. No
//! listener hears faster than time passes, or two songs at once at one witness.
//!
//! **Non-goals.** Whether a play counts, who is paid, and whether the listener may hear the song at all: the ledger
//! knows. Nor does a witness see the loudspeaker: it sees that somebody with this key took the time.
//!
//! [`Listening`] and [`Witnessing`] do no I/O and read no clock; `/antiphon/play/1` carries their messages.

mod account;
mod listening;
mod witnessing;

#[cfg(test)]
mod tests;

use std::time::Duration;

use antiphon_proto::{limits, wire, wire::PlayRefusalCode};

pub use listening::Listening;
pub use witnessing::Witnessing;
pub(crate) use witnessing::check_start;

/// How far a listener's clock may be from its witness's: no time server is ever so wrong, and the ledger's own clocks
/// may be twice as far apart.
pub const CLOCK_APART_MS: u64 = 5 * 60 * 1_000;
/// Longest play: half a day of music and as much of pauses, as receipts allow.
pub const LONGEST_MS: u32 = 2 * limits::DURATION_MS_MAX;
/// Heartbeats that may come at once beyond four in the time of one: the last one of a play, and some that a slow line
/// held up.
pub const BEATS_AT_ONCE: u32 = 4;
/// A play that says nothing is over after three heartbeats, but not before this: a phone changes its network in less.
const SILENT_AT_LEAST: Duration = Duration::from_secs(15);

/// What a witness must know of a song and of the network's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hearing {
    /// The song's duration.
    pub duration_ms: u32,
    /// From one heartbeat to the next.
    pub heartbeat_ms: u32,
}

impl Hearing {
    /// How long a play may say nothing.
    #[must_use]
    pub fn silence(&self) -> Duration {
        Duration::from_millis(3 * u64::from(self.heartbeat_ms)).max(SILENT_AT_LEAST)
    }
}

/// A witness that says no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the play is refused ({code:?}): {detail}")]
pub struct PlayRefused {
    /// Why.
    pub code: PlayRefusalCode,
    /// For people.
    pub detail: String,
}

impl PlayRefused {
    /// With a sentence for people.
    #[must_use]
    pub fn new(code: PlayRefusalCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// As it is sent, its text cut and cleaned.
    #[must_use]
    pub fn to_wire(&self) -> wire::PlayRefused {
        let detail = crate::protocol::request::clean(&self.detail, limits::DETAIL_BYTES);
        wire::PlayRefused { code: self.code.into(), detail }
    }

    /// As it came: a code that this version does not know is unspecified, the text is cut and cleaned.
    #[must_use]
    pub fn from_wire(refused: &wire::PlayRefused) -> Self {
        let code = PlayRefusalCode::try_from(refused.code).unwrap_or(PlayRefusalCode::Unspecified);
        Self { code, detail: crate::protocol::request::clean(&refused.detail, limits::DETAIL_BYTES) }
    }
}
