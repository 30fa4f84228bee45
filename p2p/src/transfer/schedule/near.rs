//! What a source gets to do next while somebody listens.

use std::time::{Duration, Instant};

use antiphon_proto::{limits::BAO_GROUP_BYTES, wire::AudioMode};

use super::{
    COPIES, Scheduler,
    claims::{Run, runs_of},
    plan::{FEW, Free, HOPELESS, RACE, SMALLEST, Work},
    play::Playhead,
    request::Request,
    source::{bytes_in, time_for},
};

/// Pieces of what is heard soon: at most 2 MiB, and this long, so that no source holds much of it.
const NEAR: u64 = 128;
const NEAR_TIME: Duration = Duration::from_secs(1);
/// What is heard within this time goes before all else: long enough to survive the loss of a source or two.
const READ_AHEAD: Duration = Duration::from_secs(30);
/// The same for songs of few bytes.
const READ_AHEAD_BYTES: u64 = 1024 * 1024;
/// What will come less than this before it is heard is late.
const MARGIN: Duration = Duration::from_millis(250);
/// Late groups that are asked of another source at once: 256 KiB.
const LATE: u64 = 16;

/// A group that will come too late.
struct Late {
    group: u64,
    /// The request that is to bring it, and how many others before.
    id: u64,
    place: u64,
    /// Whether as many requests as may are to bring it.
    full: bool,
}

impl<P: Copy + Ord> Scheduler<P> {
    /// What is late or free goes out in the order in which it is heard; then comes the rest of the file.
    pub(super) fn play_work(&mut self, free: &Free<P>, playhead: &Playhead, now: Instant) -> Option<Work> {
        let first = playhead.cursor() / BAO_GROUP_BYTES;
        let window = self.window(playhead, now);
        let near = self.claims.next_free(first).filter(|group| *group < window);
        if let Some(work) = self.late_work(free, playhead, first..near.unwrap_or(window), now) {
            return Some(work);
        }
        if let Some(near) = near {
            let start = self.start_for(free, playhead, near, now);
            let most = self.near_piece(free, playhead, start, now);
            if let Some(work) = Work::new(self.claims.free_runs(start, window, most), AudioMode::Play) {
                return Some(work);
            }
        }
        self.bulk_work(free, window, now)
    }

    /// The first group that can wait.
    fn window(&self, playhead: &Playhead, now: Instant) -> u64 {
        let ahead = playhead.position(now).saturating_add(bytes_in(playhead.rate(), READ_AHEAD));
        let end = ahead.max(playhead.cursor().saturating_add(READ_AHEAD_BYTES));
        end.div_ceil(BAO_GROUP_BYTES).min(self.claims.count())
    }

    /// The nearest group for the fastest source; for another one, the nearest that it brings in time.
    fn start_for(&mut self, free: &Free<P>, playhead: &Playhead, near: u64, now: Instant) -> u64 {
        let length = SMALLEST * BAO_GROUP_BYTES;
        let heard = time_for(length, playhead.rate());
        let left = playhead.left(near * BAO_GROUP_BYTES, now).saturating_add(heard);
        if free.alone || free.eta(SMALLEST) <= left || self.is_fastest(free, now) {
            return near;
        }
        let needs = free.eta(SMALLEST).saturating_sub(heard);
        let byte = playhead.position(now).saturating_add(bytes_in(playhead.rate(), needs));
        byte.div_ceil(BAO_GROUP_BYTES).max(near)
    }

    fn is_fastest(&self, free: &Free<P>, now: Instant) -> bool {
        let own = if free.rate_is_known { free.rate } else { 0 };
        let mut others =
            self.sources.iter().filter(|(peer, one)| **peer != free.peer && !one.is_resting(now));
        !others.any(|(_, source)| source.known_rate().is_some_and(|rate| rate > own))
    }

    fn near_piece(&self, free: &Free<P>, playhead: &Playhead, start: u64, now: Instant) -> u64 {
        if !free.rate_is_known {
            return if free.alone { FEW } else { SMALLEST };
        }
        let mut bytes = bytes_in(free.rate, NEAR_TIME);
        // Of a source that is slower than the song, only what it brings in time.
        if free.rate < playhead.rate() && !free.alone {
            let left = playhead.left(start * BAO_GROUP_BYTES, now).saturating_sub(free.lead_in);
            let lost = playhead.rate() - free.rate;
            let share =
                u128::from(bytes_in(free.rate, left)) * u128::from(playhead.rate()) / u128::from(lost);
            bytes = bytes.min(u64::try_from(share).unwrap_or(u64::MAX));
        }
        (bytes / BAO_GROUP_BYTES).clamp(SMALLEST, NEAR)
    }

    /// What another source will bring too late, and this one sooner.
    fn late_work(&mut self, free: &Free<P>, playhead: &Playhead, near: Run, now: Instant) -> Option<Work> {
        if free.alone {
            return None;
        }
        let Late { group: first, id, place, full } = self.latest(free, playhead, &near, now)?;
        let wanted = self.requests.get(&id)?.outstanding();
        let wanted = wanted.filter(|group| *group >= first && near.contains(group));
        let wanted: Vec<u64> = wanted.take(usize::try_from(LATE).unwrap_or(1)).collect();
        if place > 0 {
            // It would not come to these in time.
            self.shorten(id, place, now);
        } else if full {
            self.replace(id, now);
        }
        Work::new(runs_of(wanted.into_iter().filter(|group| self.can_copy(*group))), AudioMode::Play)
    }

    /// The nearest group that will be late, and that this source would bring much sooner.
    fn latest(&self, free: &Free<P>, playhead: &Playhead, near: &Run, now: Instant) -> Option<Late> {
        // Somebody better will have time soon enough.
        if free.eta(1) > self.best_eta(now).saturating_mul(2) {
            return None;
        }
        let mut found: Option<(u64, Duration, Late)> = None;
        for (id, request) in self.requests.iter().filter(|(_, request)| request.peer != free.peer) {
            let doubtful = self.is_doubtful(request, now);
            let late = (0..).zip(request.outstanding()).find_map(|(place, group)| {
                if !near.contains(&group) || self.claims.has(group) {
                    return None;
                }
                let eta = self.eta_of(request, place, now);
                let full = self.claims.copies(group) >= COPIES;
                let is_late = self.is_late(free, playhead, (group, eta, full, doubtful), now);
                is_late.then_some((group, eta, Late { group, id: *id, place, full }))
            });
            let Some((group, eta, late)) = late else { continue };
            // Of two that have the same group, the worse one.
            let first = |(other, than, _): &(u64, Duration, Late)| (group, than) < (*other, &eta);
            if found.as_ref().is_none_or(first) {
                found = Some((group, eta, late));
            }
        }
        found.map(|(_, _, late)| late)
    }

    /// Whether a group that another source brings in a certain time is late, and this source can help.
    fn is_late(
        &self,
        free: &Free<P>,
        playhead: &Playhead,
        (group, eta, full, doubtful): (u64, Duration, bool, bool),
        now: Instant,
    ) -> bool {
        let left = playhead.left(group * BAO_GROUP_BYTES, now);
        // Of a source that does not keep its pace or has not shown one, this may be the last time to help.
        let last_time = doubtful && free.eta(SMALLEST + 1) + free.eta(1) > left;
        let sooner = if full { eta > (free.eta(1) * 3).max(HOPELESS) } else { eta > free.eta(1) * 10 / 7 };
        let own = || self.requests.values().any(|one| one.peer == free.peer && one.holds(group));
        sooner && (last_time || eta + MARGIN > left) && !own()
    }

    fn is_doubtful(&self, request: &Request<P>, now: Instant) -> bool {
        let Some(source) = self.sources.get(&request.peer) else { return true };
        let pace = source.known_rate().map(|rate| time_for(2 * BAO_GROUP_BYTES, rate));
        pace.is_none_or(|pace| self.silence(source, now) > pace.saturating_add(source.rtt()))
    }

    /// When a request will bring the group at this place of what it still has to bring.
    fn eta_of(&self, request: &Request<P>, place: u64, now: Instant) -> Duration {
        let Some(source) = self.sources.get(&request.peer) else { return Duration::MAX };
        let rate = source.rate();
        let transfer = time_for((place + 1).saturating_mul(BAO_GROUP_BYTES), rate);
        let waited = now.saturating_duration_since(request.asked_at);
        let reply = match request.answered_at {
            None => source.rtt().saturating_sub(waited),
            Some(_) => Duration::ZERO,
        };
        (reply + transfer).max(self.silence(source, now))
    }

    /// After a jump: cancels what does not help soon.
    pub(super) fn clear_way(&mut self, now: Instant) {
        let Some(playhead) = self.playhead else { return };
        let Some(target) = self.claims.next_missing(playhead.cursor() / BAO_GROUP_BYTES) else { return };
        if playhead.left(target.saturating_mul(BAO_GROUP_BYTES), now) > READ_AHEAD {
            return;
        }
        let near = target..self.window(&playhead, now);
        let helps = |request: &Request<P>| {
            let mut soon = request.outstanding().take(usize::try_from(RACE).unwrap_or(1) + 1);
            soon.any(|group| near.contains(&group) && !self.claims.has(group))
        };
        let useless: Vec<u64> =
            self.requests.iter().filter(|(_, request)| !helps(request)).map(|(id, _)| *id).collect();
        useless.into_iter().for_each(|id| self.cancel(id, now));
    }
}
