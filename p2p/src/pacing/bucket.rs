//! A token bucket in whole numbers.

use std::{
    num::NonZeroU64,
    time::{Duration, Instant},
};

/// Levels are kept in billionths of a byte, so that a rate times a time in nanoseconds needs no rounding.
const PARTS: u128 = 1_000_000_000;

/// Lets through at most `rate * t + burst` bytes in any time `t`.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    /// Bytes a second.
    rate: NonZeroU64,
    /// Bytes that an idle bucket holds.
    burst: u64,
    /// In parts; at most the burst.
    level: u128,
    filled_at: Instant,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(rate: NonZeroU64, burst: u64, now: Instant) -> Self {
        Self { rate, burst, level: u128::from(burst) * PARTS, filled_at: now }
    }

    /// Changes the rate from now on; what has gathered stays, as far as it fits.
    pub(crate) fn set(&mut self, rate: NonZeroU64, burst: u64, now: Instant) {
        self.fill(now);
        (self.rate, self.burst) = (rate, burst);
        self.level = self.level.min(u128::from(burst) * PARTS);
    }

    /// Adds what has come since the last time. A time before that adds nothing.
    pub(crate) fn fill(&mut self, now: Instant) {
        let nanos = now.saturating_duration_since(self.filled_at).as_nanos();
        let new = nanos.saturating_mul(u128::from(self.rate.get()));
        self.level = self.level.saturating_add(new).min(u128::from(self.burst) * PARTS);
        self.filled_at = self.filled_at.max(now);
    }

    /// Whether so many bytes may go, as of the last [`Self::fill`].
    pub(crate) fn has(&self, bytes: u64) -> bool {
        self.level >= u128::from(bytes) * PARTS
    }

    /// Takes bytes out that [`Self::has`] has found.
    pub(crate) fn take(&mut self, bytes: u64) {
        self.level = self.level.saturating_sub(u128::from(bytes) * PARTS);
    }

    /// When so many bytes, at most the burst, may go.
    pub(crate) fn ready_at(&self, bytes: u64) -> Instant {
        let lacking = (u128::from(bytes) * PARTS).saturating_sub(self.level);
        let nanos = lacking.div_ceil(u128::from(self.rate.get()));
        // A rate of one byte a second and the longest piece are 18 hours.
        self.filled_at + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Whether it holds all that it can.
    pub(crate) fn is_full(&self) -> bool {
        self.level >= u128::from(self.burst) * PARTS
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(rate: u64) -> NonZeroU64 {
        NonZeroU64::new(rate).unwrap()
    }

    #[test]
    fn what_is_ready_then_may_go_then_and_not_before() {
        let start = Instant::now();
        let mut bucket = Bucket::new(rate(3), 10, start);
        bucket.take(10);
        let at = bucket.ready_at(10);
        assert_eq!(at, start + Duration::from_nanos(3_333_333_334));
        bucket.fill(at - Duration::from_nanos(1));
        assert!(!bucket.has(10) && bucket.has(9));
        bucket.fill(at);
        assert!(bucket.has(10) && bucket.is_full());
        // A clock that steps back takes nothing and gives nothing twice.
        bucket.take(10);
        bucket.fill(start);
        bucket.fill(at);
        assert!(!bucket.has(1));
        bucket.set(rate(1_000), 5, at);
        bucket.fill(at + Duration::from_secs(1));
        assert!(bucket.has(5) && !bucket.has(6));
        bucket.set(NonZeroU64::MAX, u64::MAX, at + Duration::from_secs(u32::MAX.into()));
        bucket.fill(at + Duration::from_secs(u64::from(u32::MAX) * 2));
        assert!(bucket.is_full());
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate_and_the_burst(
            per_second in 1..10_000_000u64,
            burst in 1..1_000_000u64,
            steps in prop::collection::vec((0..2_000_000_000u64, 1..1_000_000u64), 1..100),
        ) {
            let start = Instant::now();
            let mut bucket = Bucket::new(rate(per_second), burst, start);
            let (mut nanos, mut sent) = (0, 0u128);
            for (pause, bytes) in steps {
                nanos += pause;
                bucket.fill(start + Duration::from_nanos(nanos));
                if bucket.has(bytes) {
                    bucket.take(bytes);
                    sent += u128::from(bytes);
                }
                prop_assert!(sent * PARTS <= u128::from(per_second) * u128::from(nanos) + u128::from(burst) * PARTS);
            }
        }
    }
}
