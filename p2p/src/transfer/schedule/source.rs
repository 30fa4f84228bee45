//! What is known of a source: how fast it is, how well it behaves.

use std::time::{Duration, Instant};

use antiphon_proto::limits::BAO_GROUP_BYTES;

/// A rate is measured over this long: short enough to notice a change within a piece.
const SAMPLE: Duration = Duration::from_millis(250);
/// Bytes a second of a source that has brought nothing yet, for estimates only.
pub(super) const GUESSED_RATE: u64 = 256 * 1024;
/// Round trip to a source that nobody measured.
pub(super) const GUESSED_RTT: Duration = Duration::from_millis(200);

/// How long so many bytes take.
pub(super) fn time_for(bytes: u64, rate: u64) -> Duration {
    Duration::from_micros(bytes.saturating_mul(1_000_000) / rate.max(1))
}

/// How many bytes come in that time.
pub(super) fn bytes_in(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate).saturating_mul(time.as_micros()) / 1_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Measures what a source brings while it has something to do. The time until the first byte counts, so that a first
/// burst out of somebody's buffers does not look like a rate.
#[derive(Debug, Default)]
struct Meter {
    rate: Option<u64>,
    samples: u32,
    since: Option<Instant>,
    bytes: u64,
}

impl Meter {
    fn begin(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    fn add(&mut self, bytes: u64, now: Instant) {
        self.bytes = self.bytes.saturating_add(bytes);
        let since = *self.since.get_or_insert(now);
        if self.rate.is_none() || now.saturating_duration_since(since) >= SAMPLE {
            self.fold(since, now);
            self.since = Some(now);
        }
    }

    /// The source has nothing to do any more.
    fn pause(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            // A few milliseconds say little, and a silence that is no longer than a round trip nothing.
            let least = if self.bytes == 0 { SAMPLE } else { SAMPLE / 10 };
            if now.saturating_duration_since(since) >= least {
                self.fold(since, now);
            }
        }
        self.bytes = 0;
    }

    /// What was measured since the last sample does not count.
    fn discard(&mut self) {
        (self.since, self.bytes) = (None, 0);
    }

    fn fold(&mut self, since: Instant, now: Instant) {
        let micros = now.saturating_duration_since(since).as_micros().max(1_000);
        let bytes = std::mem::take(&mut self.bytes);
        if bytes == 0 {
            // Not even two groups came in this time.
            let most =
                u64::try_from(u128::from(2 * BAO_GROUP_BYTES) * 1_000_000 / micros).unwrap_or(u64::MAX);
            self.rate = self.rate.map(|rate| rate.min(most).max(1));
            return;
        }
        let sample = u64::try_from(u128::from(bytes) * 1_000_000 / micros).unwrap_or(u64::MAX).max(1);
        self.samples = (self.samples + 1).min(4);
        let weight = u64::from(self.samples);
        self.rate =
            Some(self.rate.map_or(sample, |rate| (rate / weight * (weight - 1) + sample / weight).max(1)));
    }
}

/// A peer that has the file, or says so.
#[derive(Debug)]
pub(super) struct Source {
    /// Who came first is preferred among equals.
    pub(super) order: u64,
    rtt: Option<Duration>,
    rtt_is_measured: bool,
    meter: Meter,
    /// Bytes a second that it did not reach while nothing came.
    at_most: u64,
    /// Its requests, the oldest first; at most [`Self::width`].
    pub(super) requests: Vec<u64>,
    /// Requests that it answers at once.
    pub(super) width: usize,
    /// Whether it is one of those that are asked.
    pub(super) seated: bool,
    pub(super) seated_at: Instant,
    /// Failures since it last brought something worth while.
    pub(super) failures: u32,
    /// Busy replies since then.
    pub(super) busy: u32,
    /// How often it was asked in vain since then.
    pub(super) disappointing: u32,
    /// Streams that ended early.
    pub(super) early: u32,
    pub(super) rests_until: Option<Instant>,
    /// There is no connection with it; until then it may well come back.
    pub(super) away: Option<Instant>,
    /// Whether there ever was one.
    pub(super) met: bool,
    /// Connections that it lost since it last brought something.
    pub(super) losses: u32,
    /// When it was last asked anew because of a better connection.
    pub(super) moved_at: Option<Instant>,
    /// When it was last called.
    pub(super) called_at: Option<Instant>,
    /// Since when it has brought less than a sender must bring, and how much.
    pub(super) watched_since: Instant,
    pub(super) watched_bytes: u64,
}

impl Source {
    pub(super) fn new(order: u64, rtt: Option<Duration>, width: usize, now: Instant) -> Self {
        Self {
            order,
            rtt,
            rtt_is_measured: false,
            meter: Meter::default(),
            at_most: u64::MAX,
            requests: Vec::with_capacity(width),
            width,
            seated: false,
            seated_at: now,
            failures: 0,
            busy: 0,
            disappointing: 0,
            early: 0,
            rests_until: None,
            away: None,
            met: false,
            losses: 0,
            moved_at: None,
            called_at: None,
            watched_since: now,
            watched_bytes: 0,
        }
    }

    /// Bytes a second, once measured.
    pub(super) fn known_rate(&self) -> Option<u64> {
        self.meter.rate
    }

    /// The same, or a guess: a source that was asked in vain is worth less each time.
    pub(super) fn rate(&self) -> u64 {
        let guess = || (GUESSED_RATE >> (2 * self.disappointing.min(8))).min(self.at_most).max(1);
        self.meter.rate.unwrap_or_else(guess)
    }

    pub(super) fn known_rtt(&self) -> Option<Duration> {
        self.rtt
    }

    pub(super) fn rtt(&self) -> Duration {
        self.rtt.unwrap_or(GUESSED_RTT)
    }

    /// From a question to its reply.
    pub(super) fn answered_in(&mut self, time: Duration) {
        self.rtt = match self.rtt {
            Some(rtt) if self.rtt_is_measured => Some((rtt * 3 + time) / 4),
            _ => Some(time),
        };
        (self.rtt_is_measured, self.met) = (true, true);
    }

    /// A request ended by no fault of its own, and the next one goes over another connection.
    pub(super) fn moved(&mut self, id: u64, now: Instant) {
        self.requests.retain(|request| *request != id);
        self.meter.discard();
        if !self.requests.is_empty() {
            self.meter.begin(now);
        }
        (self.rtt_is_measured, self.at_most) = (false, u64::MAX);
        (self.watched_since, self.watched_bytes) = (now, 0);
    }

    /// A request brought nothing in this time, perhaps not even a reply.
    pub(super) fn asked_in_vain(&mut self, time: Duration, answered: bool) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        self.at_most = self.at_most.min(BAO_GROUP_BYTES * 1_000_000 / micros);
        if !answered {
            self.rtt = self.rtt.map(|rtt| rtt.max(time)).or(Some(time.max(GUESSED_RTT)));
        }
    }

    /// There is a connection with it again. How fast it was is still the best guess.
    pub(super) fn came(&mut self, rtt: Option<Duration>, now: Instant) {
        (self.away, self.rests_until, self.met) = (None, None, true);
        self.losses = 0;
        self.forgive();
        (self.rtt, self.rtt_is_measured) = (rtt.or(self.rtt), false);
        (self.watched_since, self.watched_bytes) = (now, 0);
    }

    /// A request goes out.
    pub(super) fn asked(&mut self, id: u64, now: Instant) {
        if self.requests.is_empty() {
            (self.watched_since, self.watched_bytes) = (now, 0);
        }
        self.requests.push(id);
        self.meter.begin(now);
    }

    /// A request is over.
    pub(super) fn released(&mut self, id: u64, now: Instant) {
        self.requests.retain(|request| *request != id);
        if self.requests.is_empty() {
            self.meter.pause(now);
        }
    }

    /// Verified bytes came.
    pub(super) fn brought(&mut self, bytes: u64, now: Instant) {
        self.meter.add(bytes, now);
        self.watched_bytes = self.watched_bytes.saturating_add(bytes);
        self.losses = 0;
    }

    /// Whether it is not to be asked now.
    pub(super) fn is_resting(&self, now: Instant) -> bool {
        self.is_away() || self.rests_until.is_some_and(|until| until > now)
    }

    /// Whether there is no connection with it.
    pub(super) fn is_away(&self) -> bool {
        self.away.is_some()
    }

    /// It brought something worth while.
    pub(super) fn forgive(&mut self) {
        (self.failures, self.busy, self.disappointing) = (0, 0, 0);
    }

    /// Leaves it alone for a while; somebody else gets its seat.
    pub(super) fn rest(&mut self, pause: Duration, now: Instant) {
        self.rests_until = Some(now + pause);
        self.seated = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_what_comes() {
        let (start, mut meter) = (Instant::now(), Meter::default());
        let at = |ms: u64| start + Duration::from_millis(ms);
        meter.begin(at(0));
        (1..=100).for_each(|step| meter.add(10_000, at(step * 10)));
        let rate = meter.rate.unwrap();
        assert!((900_000..1_100_000).contains(&rate), "{rate}");
        (1..=200).for_each(|step| meter.add(1_000, at(1_000 + step * 10)));
        let rate = meter.rate.unwrap();
        assert!((100_000..250_000).contains(&rate), "{rate}");
        // Idle time does not count.
        meter.pause(at(3_000));
        meter.begin(at(60_000));
        (1..=100).for_each(|step| meter.add(1_000, at(60_000 + step * 10)));
        let rate = meter.rate.unwrap();
        assert!((90_000..150_000).contains(&rate), "{rate}");
    }

    #[test]
    fn times_and_bytes_do_not_overflow() {
        assert_eq!(time_for(1_000, 0), Duration::from_secs(1_000));
        assert_eq!(time_for(u64::MAX, 1).as_micros(), u128::from(u64::MAX));
        assert_eq!(time_for(4 << 30, 1), Duration::from_secs(4 << 30));
        assert_eq!(bytes_in(u64::MAX, Duration::MAX), u64::MAX);
        assert_eq!(bytes_in(1_000, Duration::from_millis(2_500)), 2_500);
    }
}
