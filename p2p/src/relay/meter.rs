//! How often something may be asked for, by each of many who ask.

use std::{collections::HashMap, hash::Hash, num::NonZeroU64, time::Instant};

use crate::pacing::Bucket;

/// A request, in the units of the bucket: a rate in a minute is then one in a second.
const REQUEST: u64 = 60;
/// Who is remembered: about 400 KB. Beyond that, those are forgotten who have asked the least.
const REMEMBERED: usize = 4_096;

/// A token bucket for each.
#[derive(Debug)]
pub(super) struct Meter<K> {
    per_minute: NonZeroU64,
    burst: u64,
    /// One that is not here is full.
    buckets: HashMap<K, Bucket>,
}

impl<K: Copy + Eq + Hash> Meter<K> {
    pub(super) fn new(per_minute: NonZeroU64, burst: u64) -> Self {
        Self { per_minute, burst: burst.max(1).saturating_mul(REQUEST), buckets: HashMap::new() }
    }

    /// Whether one may ask now.
    pub(super) fn has(&mut self, who: &K, now: Instant) -> bool {
        self.buckets.get_mut(who).is_none_or(|bucket| {
            bucket.fill(now);
            bucket.has(REQUEST)
        })
    }

    /// Counts a request that [`Self::has`] allowed.
    pub(super) fn take(&mut self, who: K, now: Instant) {
        if self.buckets.len() >= REMEMBERED && !self.buckets.contains_key(&who) {
            self.forget(now);
        }
        let (rate, burst) = (self.per_minute, self.burst);
        self.buckets.entry(who).or_insert_with(|| Bucket::new(rate, burst, now)).take(REQUEST);
    }

    /// Makes room: for many, so that a flood of strangers does not cost a search each.
    fn forget(&mut self, now: Instant) {
        self.buckets.values_mut().for_each(|bucket| bucket.fill(now));
        let mut requests = 0;
        while self.buckets.len() > REMEMBERED / 2 {
            let left = self.burst.saturating_sub(REQUEST.saturating_mul(requests));
            self.buckets.retain(|_, bucket| !bucket.has(left));
            requests += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_and_then_a_rate() {
        let start = Instant::now();
        let mut meter = Meter::new(NonZeroU64::new(6).unwrap(), 3);
        let mut asks = |who: u32, seconds| {
            let now = start + Duration::from_secs(seconds);
            let may = meter.has(&who, now);
            if may {
                meter.take(who, now);
            }
            may
        };
        assert_eq!(
            [0, 0, 0, 0, 9, 10, 10].map(|second| asks(1, second)),
            [true, true, true, false, false, true, false]
        );
        assert!(asks(2, 10));
    }

    #[test]
    fn a_flood_of_strangers_is_forgotten_before_those_who_ask_much() {
        let start = Instant::now();
        let mut meter = Meter::new(NonZeroU64::MIN, 8);
        for _ in 0..8 {
            meter.take(0, start);
        }
        for stranger in 1..20_000u32 {
            meter.take(stranger, start);
            assert!(meter.buckets.len() <= REMEMBERED);
        }
        assert!(!meter.has(&0, start) && meter.has(&1, start));
        // Those who ask without end leave no room for one another, and no more than that.
        for stranger in 1..20_000u32 {
            (0..8).for_each(|_| meter.take(stranger, start));
            assert!(meter.buckets.len() <= REMEMBERED);
        }
    }
}
