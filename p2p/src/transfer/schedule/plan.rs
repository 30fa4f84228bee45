//! What a source gets to do next.

use std::time::{Duration, Instant};

use antiphon_proto::{limits::BAO_GROUP_BYTES, wire::AudioMode};

use super::{
    ACTIVE, COPIES, Output, Scheduler,
    claims::{Run, runs_of},
    health::{DOUBLINGS, LONG_PAUSE},
    request::Request,
    source::{Source, bytes_in, time_for},
};

/// Groups that are raced for at the start and after a jump: 64 KiB, a second or more of most songs.
pub(super) const RACE: u64 = 4;
/// The smallest piece: below 64 KiB, hashes and requests cost more than they save.
pub(super) const SMALLEST: u64 = 4;
/// A piece for a source that nobody measured yet: 512 KiB.
const FIRST: u64 = 32;
/// Pieces when nobody waits: 256 KiB to 16 MiB, and this long.
pub(super) const FEW: u64 = 16;
const MANY: u64 = 1_024;
const BULK_TIME: Duration = Duration::from_secs(3);
/// A group that two sources owe and that will take longer than this is asked of a third one, if that is much faster.
pub(super) const HOPELESS: Duration = Duration::from_millis(500);
/// In the end, requests with at most so many groups left are doubled: 256 KiB.
const ENDGAME: u64 = 16;
/// The next piece is asked for when the last one will end within a round trip and a half and this.
const LEAD: Duration = Duration::from_millis(100);

/// What to ask of a source.
pub(super) struct Work {
    runs: Vec<Run>,
    mode: AudioMode,
    race: bool,
}

impl Work {
    pub(super) fn new(runs: Vec<Run>, mode: AudioMode) -> Option<Self> {
        (!runs.is_empty()).then_some(Self { runs, mode, race: false })
    }
}

/// A source that could do something now.
pub(super) struct Free<P> {
    pub(super) peer: P,
    /// Bytes a second, known or guessed.
    pub(super) rate: u64,
    pub(super) rate_is_known: bool,
    /// Until its first byte would come.
    pub(super) lead_in: Duration,
    /// Whether it has nothing to do.
    idle: bool,
    /// Whether there is nobody else to ask.
    pub(super) alone: bool,
}

impl<P> Free<P> {
    /// Until so many groups would be there.
    pub(super) fn eta(&self, groups: u64) -> Duration {
        self.lead_in.saturating_add(time_for(groups.saturating_mul(BAO_GROUP_BYTES), self.rate))
    }
}

impl<P: Copy + Ord> Scheduler<P> {
    /// Finds something to do for the best source that has time.
    pub(super) fn plan(&mut self, now: Instant) {
        for free in self.free_sources(now) {
            if let Some(work) = self.work_for(&free, now) {
                self.start(free.peer, work, now);
                return;
            }
        }
    }

    fn start(&mut self, peer: P, work: Work, now: Instant) {
        let id = self.next_id;
        self.next_id += 1;
        work.runs.iter().flat_map(Run::clone).for_each(|group| self.claims.claim(group));
        let ranges = self.claims.ranges(&work.runs);
        self.requests.insert(id, Request::new(peer, work.runs, work.race, now));
        if let Some(source) = self.sources.get_mut(&peer) {
            if !source.seated {
                (source.seated, source.seated_at) = (true, now);
            }
            source.asked(id, now);
        }
        let stays_until = self.stays_until(&peer, now);
        self.outputs.push_back(Output::Start { id, peer, ranges, mode: work.mode, stays_until });
    }

    /// Sources with time for a request, the best first.
    fn free_sources(&self, now: Instant) -> Vec<Free<P>> {
        let usable = self.sources.values().filter(|source| !source.is_resting(now)).count();
        let active =
            self.sources.values().filter(|source| source.seated || !source.requests.is_empty()).count();
        let (mut seats, mut newcomers) = (Vec::new(), Vec::new());
        for (peer, source) in &self.sources {
            if source.is_resting(now) || source.requests.len() >= source.width {
                continue;
            }
            let busy_for = self.busy_for(source);
            let idle = source.requests.is_empty();
            let nearly_done = source.known_rate().is_some() && busy_for <= source.rtt() * 3 / 2 + LEAD;
            if !idle && !nearly_done {
                continue;
            }
            let lead_in = if idle { source.rtt() } else { busy_for.max(source.rtt()) };
            let (rate, rate_is_known) = (source.rate(), source.known_rate().is_some());
            let free = Free { peer: *peer, rate, rate_is_known, lead_in, idle, alone: usable == 1 };
            let rank = (!idle, free.eta(RACE), source.known_rtt().is_none(), source.order);
            if source.seated { &mut seats } else { &mut newcomers }.push((rank, free));
        }
        newcomers.sort_by_key(|(rank, _)| *rank);
        newcomers.truncate(ACTIVE.saturating_sub(active));
        seats.append(&mut newcomers);
        seats.sort_by_key(|(rank, _)| *rank);
        seats.into_iter().map(|(_, free)| free).collect()
    }

    /// How long a source needs for what it was asked.
    pub(super) fn busy_for(&self, source: &Source) -> Duration {
        let needed =
            source.requests.iter().filter_map(|id| self.requests.get(id)).map(|request| request.needed);
        time_for(needed.sum::<u64>().saturating_mul(BAO_GROUP_BYTES), source.rate())
    }

    /// How long nothing has come from a source.
    pub(super) fn silence(&self, source: &Source, now: Instant) -> Duration {
        let latest = source.requests.iter().filter_map(|id| self.requests.get(id)).map(|one| one.progress_at);
        latest.max().map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }

    /// When a request will be through: by its source's pace, but who was silent for a while will be for as long again.
    pub(super) fn remaining_time(&self, request: &Request<P>, now: Instant) -> Duration {
        let Some(source) = self.sources.get(&request.peer) else { return Duration::MAX };
        let waited = now.saturating_duration_since(request.asked_at);
        let reply =
            if request.answered_at.is_none() { source.rtt().saturating_sub(waited) } else { Duration::ZERO };
        self.busy_for(source).saturating_add(reply).max(self.silence(source, now))
    }

    fn work_for(&mut self, free: &Free<P>, now: Instant) -> Option<Work> {
        if let Some(work) = self.race_work(free) {
            return Some(work);
        }
        match self.playhead {
            Some(playhead) => self.play_work(free, &playhead, now),
            None => self.bulk_work(free, 0, now),
        }
    }

    // --- the race

    /// Lets two sources race for the first groups from here on, if these are not there.
    pub(super) fn begin_race(&mut self, group: u64) {
        let near = |first: &u64| *first < group.saturating_add(RACE);
        self.race = self.claims.next_missing(group).filter(near);
        self.requests.values_mut().for_each(|request| request.race = false);
    }

    /// A request brought something in a race: whoever else runs gets other things to do.
    pub(super) fn win(&mut self, winner: u64, now: Instant) {
        self.race = None;
        let running = self.requests.iter_mut().filter(|(_, request)| request.race);
        let losers: Vec<u64> = running
            .filter_map(|(id, request)| {
                request.race = false;
                (*id != winner).then_some(*id)
            })
            .collect();
        losers.into_iter().for_each(|id| self.cancel(id, now));
    }

    fn race_work(&mut self, free: &Free<P>) -> Option<Work> {
        let first = self.race.filter(|_| free.idle && !free.alone)?;
        if self.requests.values().filter(|request| request.race).count() >= usize::from(COPIES) {
            return None;
        }
        let groups = (first..first.saturating_add(RACE).min(self.claims.count())).collect::<Vec<_>>();
        let wanted = groups
            .into_iter()
            .filter(|group| !self.claims.has(*group) && self.claims.copies(*group) < COPIES);
        let work = Work::new(runs_of(wanted), self.mode_near())?;
        Some(Work { race: true, ..work })
    }

    fn mode_near(&self) -> AudioMode {
        if self.playhead.is_some() { AudioMode::Play } else { AudioMode::Bulk }
    }

    // --- when nobody waits

    /// Free groups from `from` on, then those before; when none are free, something of what others are busy with.
    pub(super) fn bulk_work(&mut self, free: &Free<P>, from: u64, now: Instant) -> Option<Work> {
        if self.claims.free() > 0 {
            let most = self.piece(free, now);
            let mut runs = self.claims.free_runs(from, self.claims.count(), most);
            if runs.is_empty() {
                runs = self.claims.free_runs(0, from, most);
            }
            return Work::new(runs, AudioMode::Bulk);
        }
        self.take_over(free, now).or_else(|| self.double(free, now))
    }

    /// How many groups to ask for at once: a few seconds' worth, and no more than the source's part of what is left.
    fn piece(&self, free: &Free<P>, now: Instant) -> u64 {
        if free.alone && self.playhead.is_none() {
            return u64::MAX;
        }
        let usable = self.sources.values().filter(|source| !source.is_resting(now));
        let all = usable.fold(0u64, |sum, source| sum.saturating_add(source.rate())).max(1);
        let part = u128::from(self.claims.free()) * u128::from(free.rate) / u128::from(all);
        let part = u64::try_from(part).unwrap_or(u64::MAX).max(FEW);
        if !free.rate_is_known {
            return FIRST.min(part);
        }
        (bytes_in(free.rate, BULK_TIME) / BAO_GROUP_BYTES).clamp(FEW, MANY).min(part)
    }

    /// The end of what another source is busy with, so that both are done at the same time.
    fn take_over(&mut self, free: &Free<P>, now: Instant) -> Option<Work> {
        let others = self.requests.iter().filter(|(_, request)| request.peer != free.peer);
        let latest = others
            .filter(|(_, request)| request.needed > SMALLEST)
            .map(|(id, request)| (self.remaining_time(request, now), *id))
            .max()?;
        self.take_from(free, latest.1, latest.0, now)
    }

    fn take_from(&mut self, free: &Free<P>, id: u64, remaining: Duration, now: Instant) -> Option<Work> {
        let request = self.requests.get(&id)?;
        let gain = remaining.checked_sub(free.lead_in)?.as_micros();
        // Both are done together when each has its part of what would come in the time that is gained.
        let theirs = u128::from(request.needed * BAO_GROUP_BYTES) * 1_000_000 / remaining.as_micros().max(1);
        let mine = u128::from(free.rate);
        let part = gain * theirs * mine / (theirs + mine).max(1) / 1_000_000 / u128::from(BAO_GROUP_BYTES);
        let most = if free.rate_is_known { self.longest(free.rate) } else { FIRST.min(request.needed / 2) };
        let part = u64::try_from(part).unwrap_or(u64::MAX).min(most).min(request.needed);
        if part < SMALLEST {
            return None;
        }
        let missing: Vec<(u64, u64)> =
            (0..).zip(request.outstanding()).filter(|(_, group)| !self.claims.has(*group)).collect();
        let split = missing.len().saturating_sub(usize::try_from(part).unwrap_or(usize::MAX));
        let (_, taken) = missing.split_at_checked(split)?;
        let place = taken.first()?.0;
        let own = |group: &u64| self.requests.values().any(|one| one.peer == free.peer && one.holds(*group));
        let runs = runs_of(taken.iter().map(|(_, group)| *group).filter(|group| !own(group)));
        self.shorten(id, place, now);
        Work::new(runs, self.mode_near())
    }

    /// Wants only the groups before this place of what a request still has to bring.
    pub(super) fn shorten(&mut self, id: u64, place: u64, now: Instant) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        let kept = usize::try_from(place).unwrap_or(usize::MAX);
        let gone: Vec<u64> =
            request.outstanding().skip(kept).filter(|group| !self.claims.has(*group)).collect();
        request.keep(place);
        request.needed = request.needed.saturating_sub(gone.len() as u64);
        gone.into_iter().for_each(|group| self.claims.release(group));
        self.cancel_useless(now);
    }

    fn longest(&self, rate: u64) -> u64 {
        (bytes_in(rate, BULK_TIME) / BAO_GROUP_BYTES).clamp(SMALLEST, MANY)
    }

    /// The same as another source, when there is nothing else to do, little left, and this one would be sooner.
    fn double(&mut self, free: &Free<P>, now: Instant) -> Option<Work> {
        if !free.idle || free.eta(1) > self.best_eta(now).saturating_mul(2) {
            return None;
        }
        let others = self.requests.iter().filter(|(_, request)| request.peer != free.peer);
        let few = others.filter(|(_, request)| (1..=ENDGAME).contains(&request.needed));
        let late = few.filter_map(|(id, request)| {
            let (remaining, eta) = (self.remaining_time(request, now), free.eta(request.needed));
            let full = !request.outstanding().any(|group| self.can_copy(group));
            let late = if full { remaining > (eta * 3).max(HOPELESS) } else { remaining > eta };
            late.then_some((remaining, *id, full))
        });
        let (_, id, full) = late.max()?;
        let wanted: Vec<u64> = self.requests.get(&id)?.outstanding().collect();
        if full {
            self.replace(id, now);
        }
        Work::new(runs_of(wanted.into_iter().filter(|group| self.can_copy(*group))), self.mode_near())
    }

    pub(super) fn can_copy(&self, group: u64) -> bool {
        !self.claims.has(group) && self.claims.copies(group) < COPIES
    }

    /// The soonest that any source could bring a group, if it got it next.
    pub(super) fn best_eta(&self, now: Instant) -> Duration {
        let usable = self.sources.values().filter(|source| !source.is_resting(now));
        let eta = |source: &Source| {
            let transfer = time_for(BAO_GROUP_BYTES, source.rate());
            self.busy_for(source).max(source.rtt()).max(self.silence(source, now)).saturating_add(transfer)
        };
        usable.map(eta).min().unwrap_or(Duration::MAX)
    }

    /// Takes from a source what two others will not bring in time either. One that brought nothing at all rests, each time longer.
    pub(super) fn replace(&mut self, id: u64, now: Instant) {
        let nothing = self.requests.get(&id).filter(|request| request.delivered() == 0).map(|one| one.peer);
        self.cancel(id, now);
        if let Some(source) = nothing.and_then(|peer| self.sources.get_mut(&peer)) {
            let pause = LONG_PAUSE * 2u32.pow(source.disappointing.min(DOUBLINGS));
            source.disappointing = source.disappointing.saturating_add(1);
            source.rest(pause, now);
        }
    }
}
