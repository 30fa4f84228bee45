//! What was carried, and what may be: each peer's bytes on a day, and all bytes in a month. Pure.

use std::{collections::HashMap, hash::Hash, num::NonZeroU64};

use super::{
    month::{Month, day, is_before, month},
    refusal::Refusal,
};

/// Peers whose bytes of the day are remembered: about 1 MB. Beyond that, those with the fewest bytes are forgotten.
const REMEMBERED: usize = 16_384;
/// The month's warning comes when so many of a hundred bytes are used.
const WARNING_PERCENT: u128 = 80;

/// What the operator should know, once a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    /// Most of the month's bytes are used.
    Warning,
    /// All of them.
    Full,
}

/// Counts bytes against the limits. Times are seconds since 1970.
#[derive(Debug)]
pub(super) struct Usage<P> {
    per_day: Option<NonZeroU64>,
    per_month: Option<NonZeroU64>,
    day: u64,
    peers: HashMap<P, u64>,
    month: Month,
    /// Of this month, before this process began.
    earlier: u64,
    /// Of this month, since.
    counted: u64,
    total: u64,
    told: Option<Mark>,
}

impl<P: Copy + Eq + Hash> Usage<P> {
    pub(super) fn new(per_day: Option<NonZeroU64>, per_month: Option<NonZeroU64>, unix: u64) -> Self {
        Self {
            per_day,
            per_month,
            day: day(unix),
            peers: HashMap::new(),
            month: month(unix),
            earlier: 0,
            counted: 0,
            total: 0,
            told: None,
        }
    }

    /// Whether anything may be carried between these now.
    pub(super) fn check(&mut self, between: [P; 2], unix: u64) -> Result<(), Refusal> {
        self.turn(unix);
        if self.per_month.is_some_and(|limit| self.of_month() >= limit.get()) {
            return Err(Refusal::Month);
        }
        let of = |peer: &P| self.peers.get(peer).copied().unwrap_or(0);
        match self.per_day {
            Some(limit) if between.iter().any(|peer| of(peer) >= limit.get()) => Err(Refusal::Day),
            _ => Ok(()),
        }
    }

    /// Counts bytes that are about to be carried. The piece that reaches a limit may go beyond it, the next is refused.
    pub(super) fn spend(&mut self, between: [P; 2], bytes: u64, unix: u64) -> Result<(), Refusal> {
        self.check(between, unix)?;
        if self.per_day.is_some() {
            for peer in between {
                if self.peers.len() >= REMEMBERED && !self.peers.contains_key(&peer) {
                    self.forget();
                }
                let of_peer = self.peers.entry(peer).or_insert(0);
                *of_peer = of_peer.saturating_add(bytes);
            }
        }
        self.counted = self.counted.saturating_add(bytes);
        self.total = self.total.saturating_add(bytes);
        Ok(())
    }

    /// What has become true since the last time.
    pub(super) fn news(&mut self) -> Option<Mark> {
        let limit = u128::from(self.per_month?.get());
        let used = u128::from(self.of_month());
        let mark = if used >= limit {
            Mark::Full
        } else if used.saturating_mul(100) >= limit.saturating_mul(WARNING_PERCENT) {
            Mark::Warning
        } else {
            return None;
        };
        let is_new = Some(mark) > self.told;
        self.told = self.told.max(Some(mark));
        is_new.then_some(mark)
    }

    /// Says what an earlier process has carried in a month. Does nothing when it is over.
    pub(super) fn set_month(&mut self, bytes: u64, of: Month, unix: u64) {
        self.turn(unix);
        if of == self.month {
            self.earlier = bytes;
        }
    }

    /// The month and its bytes.
    pub(super) fn month(&mut self, unix: u64) -> (Month, u64) {
        self.turn(unix);
        (self.month, self.of_month())
    }

    /// Bytes since the start.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    fn of_month(&self) -> u64 {
        self.earlier.saturating_add(self.counted)
    }

    /// A new day or month, also one before: a clock that was wrong must not stop everything until it was right. But for
    /// the month just before: a clock that is set back a little at its end must not give the bytes of another month.
    fn turn(&mut self, unix: u64) {
        if day(unix) != self.day {
            self.day = day(unix);
            self.peers.clear();
        }
        let month = month(unix);
        if month != self.month && !is_before(month, self.month) {
            self.month = month;
            (self.earlier, self.counted, self.told) = (0, 0, None);
        }
    }

    /// Makes room: for many, so that a flood of strangers does not cost a search each.
    fn forget(&mut self) {
        let mut most = 1u64;
        while self.peers.len() > REMEMBERED / 2 {
            self.peers.retain(|_, bytes| *bytes > most);
            most = most.saturating_mul(4);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60 * 60;
    /// 2026-11-30, noon.
    const NOVEMBER: u64 = 1_796_040_000;

    fn limit(bytes: u64) -> Option<NonZeroU64> {
        NonZeroU64::new(bytes)
    }

    #[test]
    fn a_month_warns_once_then_ends_and_the_next_begins_anew() {
        let mut usage = Usage::new(None, limit(1_000), NOVEMBER);
        assert_eq!(usage.spend([1, 2], 799, NOVEMBER), Ok(()));
        assert_eq!(usage.news(), None);
        assert_eq!(usage.spend([1, 2], 1, NOVEMBER), Ok(()));
        assert_eq!((usage.news(), usage.news()), (Some(Mark::Warning), None));
        assert_eq!(usage.spend([1, 2], 300, NOVEMBER), Ok(()));
        assert_eq!((usage.news(), usage.news()), (Some(Mark::Full), None));
        assert_eq!(usage.spend([3, 4], 1, NOVEMBER), Err(Refusal::Month));
        assert_eq!(usage.check([3, 4], NOVEMBER), Err(Refusal::Month));
        assert_eq!(usage.month(NOVEMBER), ((2026, 11), 1_100));
        let december = NOVEMBER + DAY;
        assert_eq!(usage.check([3, 4], december), Ok(()));
        // The clock goes back over the end of the month, and on again.
        assert_eq!(usage.spend([3, 4], 10, NOVEMBER), Ok(()));
        assert_eq!(usage.month(december), ((2026, 12), 10));
        // A clock that was far ahead.
        assert_eq!(usage.month(december + 365 * DAY), ((2027, 12), 0));
        assert_eq!(usage.month(december), ((2026, 12), 0));
        assert_eq!(usage.total(), 1_110);
    }

    #[test]
    fn what_an_earlier_process_carried_counts() {
        let mut usage = Usage::new(None, limit(1_000), NOVEMBER);
        assert_eq!(usage.spend([1, 2], 10, NOVEMBER), Ok(()));
        usage.set_month(900, (2026, 10), NOVEMBER);
        assert_eq!(usage.month(NOVEMBER), ((2026, 11), 10));
        usage.set_month(900, (2026, 11), NOVEMBER);
        usage.set_month(900, (2026, 11), NOVEMBER);
        assert_eq!(usage.month(NOVEMBER), ((2026, 11), 910));
        assert_eq!(usage.news(), Some(Mark::Warning));
        usage.set_month(u64::MAX, (2026, 11), NOVEMBER);
        assert_eq!((usage.news(), usage.check([1, 2], NOVEMBER)), (Some(Mark::Full), Err(Refusal::Month)));
    }

    #[test]
    fn a_day_ends_for_either_peer_alone() {
        let mut usage = Usage::new(limit(100), None, NOVEMBER);
        assert_eq!(usage.spend([1, 2], 100, NOVEMBER), Ok(()));
        assert_eq!(usage.spend([3, 1], 1, NOVEMBER), Err(Refusal::Day));
        assert_eq!(usage.spend([2, 3], 1, NOVEMBER), Err(Refusal::Day));
        assert_eq!(usage.spend([3, 4], 1, NOVEMBER), Ok(()));
        assert_eq!(usage.spend([3, 1], 1, NOVEMBER + DAY), Ok(()));
        assert_eq!(usage.news(), None);
    }

    #[test]
    fn strangers_do_not_push_out_who_has_used_much() {
        let mut usage = Usage::new(limit(1_000_000), None, NOVEMBER);
        assert_eq!(usage.spend([0, 1], 1_000_000, NOVEMBER), Ok(()));
        for peer in (2..100_000u32).step_by(2) {
            assert_eq!(usage.spend([peer, peer + 1], 70, NOVEMBER), Ok(()));
            assert!(usage.peers.len() <= REMEMBERED);
        }
        assert_eq!(usage.check([0, 7], NOVEMBER), Err(Refusal::Day));
    }
}
