//! Where the listener is, and how much time is left for what comes.

use std::time::{Duration, Instant};

use super::source::{bytes_in, time_for};

/// The play position, as far as it can be known. A reader that takes all it can get runs ahead of the ear: the ear
/// moves at the rate of the song, and never past the reader.
#[derive(Debug, Clone, Copy)]
pub(super) struct Playhead {
    /// Bytes a second.
    rate: u64,
    /// First byte that the reader did not take yet.
    cursor: u64,
    anchor: u64,
    since: Instant,
}

impl Playhead {
    pub(super) fn new(rate: u64, cursor: u64, now: Instant) -> Self {
        Self { rate: rate.max(1), cursor, anchor: cursor, since: now }
    }

    pub(super) fn rate(&self) -> u64 {
        self.rate
    }

    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// What is heard now, in bytes of the file.
    pub(super) fn position(&self, now: Instant) -> u64 {
        let heard = bytes_in(self.rate, now.saturating_duration_since(self.since));
        self.cursor.min(self.anchor.saturating_add(heard))
    }

    /// The reader has taken everything before `byte`.
    pub(super) fn advance(&mut self, byte: u64, now: Instant) {
        // The ear had caught up and waited.
        if self.position(now) == self.cursor {
            (self.anchor, self.since) = (self.cursor, now);
        }
        self.cursor = byte;
    }

    /// How long until this byte is heard; nothing for one that was.
    pub(super) fn left(&self, byte: u64, now: Instant) -> Duration {
        time_for(byte.saturating_sub(self.position(now)), self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ear_is_no_faster_than_the_song() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut playhead = Playhead::new(1_000, 5_000, start);
        assert_eq!(playhead.position(at(9)), 5_000);
        // A greedy reader.
        playhead.advance(25_000, at(9));
        assert_eq!(playhead.position(at(10)), 6_000);
        playhead.advance(65_000, at(10));
        assert_eq!((playhead.position(at(20)), playhead.cursor()), (16_000, 65_000));
        assert_eq!(playhead.left(20_000, at(20)), Duration::from_secs(4));
        assert_eq!(playhead.left(1, at(20)), Duration::ZERO);
        // Nothing more came: the ear waits, and goes on from there.
        assert_eq!(playhead.position(at(500)), 65_000);
        playhead.advance(70_000, at(500));
        assert_eq!(playhead.position(at(502)), 67_000);
    }
}
