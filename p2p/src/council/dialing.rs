//! When to try again: to dial a member that is not connected, to greet one that refused. Time and randomness are
//! passed in.

use std::time::{Duration, Instant};

/// Between two attempts at first.
const SHORTEST: Duration = Duration::from_secs(1);
/// Between two attempts at last: a member that was away for hours is back within this.
const LONGEST: Duration = Duration::from_secs(30);
/// For this long after it was seen, a member is dialled at the shortest distance: it may be starting again.
const SOON: Duration = Duration::from_secs(30);

/// Attempts to reach one member.
#[derive(Debug, Clone)]
pub(super) struct Dialing {
    /// Until then attempts come at the shortest distance.
    soon_until: Instant,
    next: Instant,
    pause: Duration,
}

impl Dialing {
    /// To dial one that may be starting again; begins after `delay`.
    pub(super) fn new(now: Instant, delay: Duration) -> Self {
        Self { soon_until: now + SOON, next: now + delay, pause: SHORTEST }
    }

    /// To greet one that has refused: each refusal may cost score there, which a slower pace never adds up.
    pub(super) fn after_refusal(now: Instant) -> Self {
        Self { soon_until: now, next: now + SHORTEST, pause: SHORTEST * 2 }
    }

    /// Whether to try now; then the next time is set. `random` is from 0 to 1: those that lost the same member do not
    /// all dial at once.
    pub(super) fn due(&mut self, now: Instant, random: f64) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + self.pause.mul_f64(0.75 + random.clamp(0.0, 1.0) / 2.0);
        if now >= self.soon_until {
            self.pause = (self.pause * 2).min(LONGEST);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::Offence;
    use proptest::prelude::*;

    /// Seconds at which attempts are made within `total`.
    fn attempts(random: f64, total: u64) -> Vec<u64> {
        let start = Instant::now();
        times(Dialing::new(start, Duration::from_millis(100)), start, random, total)
    }

    fn times(mut dialing: Dialing, start: Instant, random: f64, total: u64) -> Vec<u64> {
        let ticks = (0..total * 10).map(|tick| start + Duration::from_millis(100 * tick));
        ticks.filter(|now| dialing.due(*now, random)).map(|now| (now - start).as_secs()).collect()
    }

    #[test]
    fn often_at_first_and_seldom_later() {
        let made = attempts(0.5, 600);
        assert_eq!(made[..5], [0, 1, 2, 3, 4]);
        let late: Vec<u64> = made.windows(2).map(|pair| pair[1] - pair[0]).rev().take(5).collect();
        assert_eq!(late, [30; 5]);
        assert!(made.len() < 60, "{}", made.len());
    }

    proptest! {
        /// A point is forgiven in six seconds.
        #[test]
        fn refusals_never_add_up_to_a_ban(random in 0.0f64..=1.0) {
            let start = Instant::now();
            let mut points = 0u64;
            let mut before = 0;
            for second in times(Dialing::after_refusal(start), start, random, 3_600) {
                points = points.saturating_sub((second - before) / 6) + u64::from(Offence::NotMember.points());
                before = second;
                prop_assert!(points < 50, "{} after {} s", points, second);
            }
        }

        #[test]
        fn distances_keep_their_bounds(random in 0.0f64..=1.0) {
            let made = attempts(random, 900);
            for pair in made.windows(2) {
                prop_assert!(pair[1] - pair[0] <= 39);
            }
        }
    }
}
