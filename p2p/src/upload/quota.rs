//! Bytes a day.

use std::num::NonZeroU64;

use antiphon_proto::wire::AudioMode;

/// Counts what was sent on a day (a number that rises with the days) against a limit.
#[derive(Debug, Clone)]
pub(super) struct Quota {
    limit: Option<NonZeroU64>,
    stops_play: bool,
    day: u64,
    used: u64,
}

impl Quota {
    pub(super) fn new(limit: Option<NonZeroU64>, stops_play: bool) -> Self {
        Self { limit, stops_play, day: 0, used: 0 }
    }

    /// Changes the limit; what was counted today stays.
    pub(super) fn set(&mut self, limit: Option<NonZeroU64>, stops_play: bool) {
        (self.limit, self.stops_play) = (limit, stops_play);
    }

    /// Whether this mode has used up the day.
    pub(super) fn is_over(&mut self, mode: AudioMode, today: u64) -> bool {
        self.turn(today);
        let concerned = self.stops_play || mode == AudioMode::Bulk;
        concerned && self.limit.is_some_and(|limit| self.used >= limit.get())
    }

    /// Counts bytes that go, of either mode.
    pub(super) fn count(&mut self, bytes: u64, today: u64) {
        self.turn(today);
        self.used = self.used.saturating_add(bytes);
    }

    /// A new day, also one before: a clock that was wrong must not stop everything until it was right.
    fn turn(&mut self, today: u64) {
        if today != self.day {
            (self.day, self.used) = (today, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_ends_bulk_and_the_next_begins_it() {
        let (play, bulk) = (AudioMode::Play, AudioMode::Bulk);
        let mut quota = Quota::new(NonZeroU64::new(100), false);
        quota.count(99, 5);
        assert!(!quota.is_over(bulk, 5));
        quota.count(u64::MAX, 5);
        assert!(quota.is_over(bulk, 5) && !quota.is_over(play, 5));
        quota.set(NonZeroU64::new(100), true);
        assert!(quota.is_over(play, 5));
        assert!(!quota.is_over(play, 6) && !quota.is_over(bulk, 6));
        quota.count(100, 6);
        assert!(quota.is_over(bulk, 6) && !quota.is_over(bulk, 5));
        quota.count(100, 5);
        quota.set(None, true);
        assert!(!quota.is_over(bulk, 5));
    }
}
