//! Sources that bring nothing, too little, or nonsense.

use std::time::{Duration, Instant};

use antiphon_proto::limits::BAO_GROUP_BYTES;

use super::{
    ACTIVE, End, LIARS, Output, Scheduler, Why,
    source::{Source, time_for},
};

/// What a source must bring in the time that it is given: two groups. One that drips a group now and then would
/// otherwise hold its part for ever.
const ENOUGH_BYTES: u64 = 2 * BAO_GROUP_BYTES;
/// That time: so long as four times these bytes should take, and some round trips, but not less than this.
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);
/// For a source that nobody measured.
const FIRST_WINDOW: Duration = Duration::from_secs(4);
/// One of two requests may wait for the other one, this many times as long.
const TURNS: u32 = 3;
/// Failures in a row after which a source is dropped.
const FAILURES: u32 = 5;
/// Rest after a failure, doubled with each further one.
pub(super) const FAILURE_PAUSE: Duration = Duration::from_millis(250);
/// The same after a stall, after a busy reply, and when others had to do its part.
pub(super) const LONG_PAUSE: Duration = Duration::from_secs(1);
/// Doublings at most: 32 s.
pub(super) const DOUBLINGS: u32 = 5;
/// While others stand by, a source this many times slower than the fastest one loses its seat, if it had it for a while.
const SLOW: u64 = 8;
const TRIAL: Duration = Duration::from_secs(5);
const SLOW_PAUSE: Duration = Duration::from_secs(30);

impl<P: Copy + Ord> Scheduler<P> {
    /// A request ended before its last group was reported.
    pub(crate) fn ended(&mut self, id: u64, end: End, now: Instant) {
        if matches!(end, End::Moved | End::Lost | End::Away) {
            return self.path_ended(id, end, now);
        }
        let Some(request) = self.forget(id, now) else { return };
        let (peer, once) = (request.peer, self.settings.once);
        let Some(source) = self.sources.get_mut(&peer) else { return };
        if matches!(end, End::Early | End::Busy | End::Gone) {
            self.heard_at = now;
        }
        let why = Why::Ended(end);
        match end {
            End::Early => {
                source.early = source.early.saturating_add(1);
                // The first time it is asked again at once; the reply says why.
                if source.early > 1 {
                    self.fail(&peer, FAILURE_PAUSE, why, now);
                }
            }
            // It has time for fewer requests.
            End::Busy if !source.requests.is_empty() => source.width = 1,
            End::Busy if once => self.drop_source(&peer, why, now),
            End::Busy => {
                let pause = LONG_PAUSE * 2u32.pow(source.busy.min(DOUBLINGS));
                source.busy = source.busy.saturating_add(1);
                source.rest(pause, now);
            }
            End::Failed => self.fail(&peer, FAILURE_PAUSE, why, now),
            End::Gone => self.drop_source(&peer, why, now),
            // Dealt with above.
            End::Moved | End::Lost | End::Away => {}
            End::BadBytes => {
                if self.liars.len() < LIARS {
                    self.liars.insert(peer);
                }
                self.drop_source(&peer, why, now);
            }
        }
    }

    pub(super) fn fail(&mut self, peer: &P, pause: Duration, why: Why, now: Instant) {
        let once = self.settings.once;
        let Some(source) = self.sources.get_mut(peer) else { return };
        let pause = pause * 2u32.pow(source.failures.min(DOUBLINGS));
        source.failures = source.failures.saturating_add(1);
        source.disappointing = source.disappointing.saturating_add(1);
        if once || source.failures >= FAILURES {
            self.drop_source(peer, why, now);
        } else {
            source.rest(pause, now);
        }
    }

    pub(super) fn drop_source(&mut self, peer: &P, why: Why, now: Instant) {
        self.remove_source(peer, now);
        self.outputs.push_back(Output::Dropped { peer: *peer, why });
    }

    /// Takes from sources what they hold up.
    pub(super) fn look_over(&mut self, now: Instant) {
        let usable = self.sources.values().filter(|source| !source.is_resting(now)).count();
        let busy: Vec<P> = self
            .sources
            .iter()
            .filter(|(_, source)| !source.requests.is_empty())
            .map(|(peer, _)| *peer)
            .collect();
        for peer in busy {
            let Some(source) = self.sources.get(&peer) else { continue };
            let others = usable > usize::from(!source.is_resting(now));
            let Some(window) = self.window_of(source, others) else { continue };
            let needed = source.requests.iter().filter_map(|id| self.requests.get(id)).map(|one| one.needed);
            let enough = needed.sum::<u64>().max(1).saturating_mul(BAO_GROUP_BYTES).min(ENOUGH_BYTES);
            let (brought, since) = (source.watched_bytes, source.watched_since);
            if brought >= enough {
                if let Some(source) = self.sources.get_mut(&peer) {
                    (source.watched_since, source.watched_bytes) = (now, 0);
                }
            } else if now.saturating_duration_since(since) >= window {
                self.cancel_all_of(&peer, now);
                self.fail(&peer, LONG_PAUSE, Why::Stalled(window), now);
                continue;
            }
            if others {
                self.cancel_forgotten(&peer, window * TURNS, now);
            }
        }
        self.swap_slow(now);
    }

    /// How long a source may bring less than it must. None: the one who waits for the reply knows.
    fn window_of(&self, source: &Source, others: bool) -> Option<Duration> {
        if !others {
            let answered = |id| self.requests.get(id).is_some_and(|request| request.answered_at.is_some());
            return source.requests.iter().any(answered).then_some(self.settings.stall);
        }
        let window = match source.known_rate() {
            Some(rate) => {
                time_for(4 * ENOUGH_BYTES, rate).saturating_add(source.rtt() * 4).max(SHORTEST_WINDOW)
            }
            None => FIRST_WINDOW,
        };
        Some(window.min(self.settings.stall))
    }

    /// Cancels a request that brings nothing while another one of the same source does.
    fn cancel_forgotten(&mut self, peer: &P, patience: Duration, now: Instant) {
        let theirs = self.sources.get(peer).map(|source| source.requests.clone()).unwrap_or_default();
        for id in theirs {
            let Some(request) = self.requests.get(&id) else { continue };
            if now.saturating_duration_since(request.progress_at) >= patience {
                self.cancel(id, now);
                if let Some(source) = self.sources.get_mut(peer) {
                    source.width = 1;
                }
            }
        }
    }

    /// Gives the seat of a source that is much slower than the fastest to one that stands by.
    fn swap_slow(&mut self, now: Instant) {
        let seated = self.sources.values().filter(|source| source.seated);
        let fastest = seated.clone().filter_map(Source::known_rate).max().unwrap_or(0);
        let stands_by = |source: &Source| {
            !source.seated
                && !source.is_resting(now)
                && source.known_rate().is_none_or(|rate| rate > fastest / SLOW)
        };
        if seated.count() < ACTIVE || !self.sources.values().any(stands_by) {
            return;
        }
        let slow = self.sources.iter().filter(|(_, source)| {
            let tried = now.saturating_duration_since(source.seated_at) >= TRIAL;
            source.seated && tried && source.known_rate().is_some_and(|rate| rate < fastest / SLOW)
        });
        let Some((slowest, _)) = slow.min_by_key(|(_, source)| source.known_rate()) else { return };
        let slowest = *slowest;
        self.cancel_all_of(&slowest, now);
        if let Some(source) = self.sources.get_mut(&slowest) {
            source.rest(SLOW_PAUSE, now);
        }
    }
}
