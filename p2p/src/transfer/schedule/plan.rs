//! What a source gets to do next.

use std::time::{Duration, Instant};

use antiphon_proto::{limits::BAO_GROUP_BYTES, wire::AudioMode};

use super::{
    ACTIVE, COPIES, Output, Scheduler,
    claims::{Run, runs_of},
    play::Playhead,
    request::Request,
    source::{GUESSED_RATE, Source, bytes_in, time_for},
};

/// Groups that are raced for at the start and after a jump: 64 KiB, a second or more of most songs.
const RACE: u64 = 4;
/// The smallest piece: below 64 KiB, hashes and requests cost more than they save.
const SMALLEST: u64 = 4;
/// A piece for a source that nobody measured yet: 512 KiB.
const FIRST: u64 = 32;
/// Pieces when nobody waits: 256 KiB to 16 MiB, and this long.
const BULK: (u64, u64) = (16, 1_024);
const BULK_TIME: Duration = Duration::from_secs(3);
/// Pieces of what is heard soon: at most 2 MiB, and this long, so that no source holds much of it.
const NEAR: u64 = 128;
const NEAR_TIME: Duration = Duration::from_secs(1);
/// What is heard within this time goes before all else: long enough to survive the loss of a source or two.
const READ_AHEAD: Duration = Duration::from_secs(30);
/// The same for songs of few bytes.
const READ_AHEAD_BYTES: u64 = 1024 * 1024;
/// What will come less than this before it is heard is late.
const MARGIN: Duration = Duration::from_millis(250);
/// A group that two sources owe and that will take longer than this is asked of a third one, if that is much faster.
const HOPELESS: Duration = Duration::from_millis(500);
/// Rest of a source that was replaced so before it brought anything.
const REPLACED_PAUSE: Duration = Duration::from_secs(1);
/// Late groups that are asked of another source at once: 256 KiB.
const LATE: u64 = 16;
/// In the end, requests with at most so many groups left are doubled: 256 KiB.
const ENDGAME: u64 = 16;
/// The next piece is asked for when the last one will end within a round trip and a half and this.
const LEAD: Duration = Duration::from_millis(100);

/// What to ask of a source.
struct Work {
    runs: Vec<Run>,
    mode: AudioMode,
    race: bool,
}

impl Work {
    fn new(runs: Vec<Run>, mode: AudioMode) -> Option<Self> {
        (!runs.is_empty()).then_some(Self { runs, mode, race: false })
    }
}

/// A source that could do something now.
struct Free<P> {
    peer: P,
    /// Bytes a second, known or guessed.
    rate: u64,
    rate_is_known: bool,
    /// Until its first byte would come.
    lead_in: Duration,
    /// Whether it has nothing to do.
    idle: bool,
    /// Whether there is nobody else to ask.
    alone: bool,
}

/// A group that will come too late.
struct Late {
    group: u64,
    /// The request that is to bring it.
    id: u64,
    /// Whether as many requests as may are to bring it.
    full: bool,
}

impl<P> Free<P> {
    /// Until so many groups would be there.
    fn eta(&self, groups: u64) -> Duration {
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
        self.outputs.push_back(Output::Start { id, peer, ranges, mode: work.mode });
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
    fn silence(&self, source: &Source, now: Instant) -> Duration {
        let latest = source.requests.iter().filter_map(|id| self.requests.get(id)).map(|one| one.progress_at);
        latest.max().map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }

    /// When a request will be through: by its source's pace, but who was silent for a while will be for as long again.
    fn remaining_time(&self, request: &Request<P>, now: Instant) -> Duration {
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
    fn bulk_work(&mut self, free: &Free<P>, from: u64, now: Instant) -> Option<Work> {
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
        let part = u64::try_from(part).unwrap_or(u64::MAX).max(BULK.0);
        if !free.rate_is_known {
            return FIRST.min(part);
        }
        (bytes_in(free.rate, BULK_TIME) / BAO_GROUP_BYTES).clamp(BULK.0, BULK.1).min(part)
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
        let gone =
            request.outstanding().skip(usize::try_from(place).unwrap_or(usize::MAX)).collect::<Vec<_>>();
        let request = self.requests.get_mut(&id)?;
        request.keep(place);
        request.needed = request.needed.saturating_sub(taken.len() as u64);
        gone.into_iter().for_each(|group| self.claims.release(group));
        self.cancel_useless(now);
        Work::new(runs, self.mode_near())
    }

    fn longest(&self, rate: u64) -> u64 {
        (bytes_in(rate, BULK_TIME) / BAO_GROUP_BYTES).clamp(SMALLEST, BULK.1)
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

    fn can_copy(&self, group: u64) -> bool {
        !self.claims.has(group) && self.claims.copies(group) < COPIES
    }

    // --- while somebody listens

    fn play_work(&mut self, free: &Free<P>, playhead: &Playhead, now: Instant) -> Option<Work> {
        let first = playhead.cursor() / BAO_GROUP_BYTES;
        let window = self.window(playhead, now);
        if let Some(work) = self.late_work(free, playhead, first..window, now) {
            return Some(work);
        }
        if let Some(near) = self.claims.next_free(first).filter(|group| *group < window) {
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
            return if free.alone { BULK.0 } else { SMALLEST };
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
        let late = self.latest(free, playhead, &near, now);
        if let Some(Late { group: first, id, full }) = late {
            let request = self.requests.get(&id)?;
            let wanted = request.outstanding().filter(|group| *group >= first && near.contains(group));
            let wanted: Vec<u64> = wanted.take(usize::try_from(LATE).unwrap_or(1)).collect();
            if full {
                self.replace(id, now);
            }
            let wanted = wanted.into_iter().filter(|group| self.can_copy(*group));
            return Work::new(runs_of(wanted), AudioMode::Play);
        }
        let (id, remaining) = self.trailing(free, playhead, &near, now)?;
        self.take_from(free, id, remaining, now)
    }

    /// The nearest group that will be late, and that this source would bring much sooner.
    fn latest(&self, free: &Free<P>, playhead: &Playhead, near: &Run, now: Instant) -> Option<Late> {
        // Somebody better will have time soon enough.
        if free.eta(1) > self.best_eta(now).saturating_mul(2) {
            return None;
        }
        let own = |group: u64| self.requests.values().any(|one| one.peer == free.peer && one.holds(group));
        let mut found: Option<(u64, Duration, Late)> = None;
        for (id, request) in self.requests.iter().filter(|(_, request)| request.peer != free.peer) {
            let soon = |(_, group): &(u64, u64)| near.contains(group) && !self.claims.has(*group);
            let Some((place, group)) = (0..).zip(request.outstanding()).find(soon) else { continue };
            let eta = self.eta_of(request, place, now);
            let full = self.claims.copies(group) >= COPIES;
            let sooner =
                if full { eta > (free.eta(1) * 3).max(HOPELESS) } else { eta > free.eta(1) * 10 / 7 };
            if !sooner || own(group) || eta + MARGIN <= playhead.left(group * BAO_GROUP_BYTES, now) {
                continue;
            }
            // Of two that have the same group, the worse one.
            let better = |(other, than, _): &(u64, Duration, Late)| (group, than) < (*other, &eta);
            if found.as_ref().is_none_or(better) {
                found = Some((group, eta, Late { group, id: *id, full }));
            }
        }
        found.map(|(_, _, late)| late)
    }

    /// The soonest that any source could bring a group, if it got it next.
    fn best_eta(&self, now: Instant) -> Duration {
        let usable = self.sources.values().filter(|source| !source.is_resting(now));
        let eta = |source: &Source| {
            let transfer = time_for(BAO_GROUP_BYTES, source.rate());
            self.busy_for(source).max(source.rtt()).max(self.silence(source, now)).saturating_add(transfer)
        };
        usable.map(eta).min().unwrap_or(Duration::MAX)
    }

    /// Takes from a source what two others will not bring in time either. One that brought nothing at all rests.
    fn replace(&mut self, id: u64, now: Instant) {
        let nothing = self.requests.get(&id).filter(|request| request.delivered() == 0).map(|one| one.peer);
        self.cancel(id, now);
        if let Some(source) = nothing.and_then(|peer| self.sources.get_mut(&peer)) {
            source.rest(REPLACED_PAUSE, now);
        }
    }

    /// A request that is in time with its first group, but not with its last.
    fn trailing(
        &self,
        free: &Free<P>,
        playhead: &Playhead,
        near: &Run,
        now: Instant,
    ) -> Option<(u64, Duration)> {
        let others = self.requests.iter().filter(|(_, request)| request.peer != free.peer);
        let long = others.filter(|(_, request)| request.needed > 2 * SMALLEST);
        long.filter_map(|(id, request)| {
            let last = request.outstanding().filter(|group| near.contains(group)).last()?;
            let remaining = self.remaining_time(request, now);
            (remaining > playhead.left(last * BAO_GROUP_BYTES, now)).then_some((*id, remaining))
        })
        .max_by_key(|(_, remaining)| *remaining)
    }

    /// When a request will bring the group at this place of what it still has to bring.
    fn eta_of(&self, request: &Request<P>, place: u64, now: Instant) -> Duration {
        let Some(source) = self.sources.get(&request.peer) else { return Duration::MAX };
        let rate = source.known_rate().unwrap_or(GUESSED_RATE);
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
