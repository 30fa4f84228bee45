//! A network in virtual time: sources with a bandwidth, a round trip and a character, and a listener.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use antiphon_proto::limits::{AUDIO_RANGES, BAO_GROUP_BYTES};

use super::*;

/// What a source does when its time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Good,
    /// Takes requests and sends nothing more.
    Stalls,
    /// Its connection breaks and is not there any more.
    Dies,
    /// Sends bytes of another file.
    Lies,
    /// Has too much to do, for so many milliseconds.
    Busy(u64),
    /// Sends a group now and then.
    Drips,
    /// Ends every stream after a group.
    Stops,
    /// Does not have it.
    Lacks,
    /// Has no connection for so many milliseconds, and then another one.
    Vanishes(u64),
    /// Has a better connection, and every so many milliseconds yet another.
    Moves(u64),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Character {
    pub(super) rtt_ms: u64,
    /// Bytes a second.
    pub(super) rate: u64,
    pub(super) turn: Turn,
    pub(super) at_ms: u64,
    /// Whether the scheduler is told the round trip.
    pub(super) hinted: bool,
}

pub(super) fn good(rate: u64, rtt_ms: u64) -> Character {
    Character { rtt_ms, rate, turn: Turn::Good, at_ms: 0, hinted: true }
}

pub(super) fn bad(rate: u64, rtt_ms: u64, turn: Turn, at_ms: u64) -> Character {
    Character { turn, at_ms, ..good(rate, rtt_ms) }
}

#[derive(Debug)]
struct Running {
    id: u64,
    peer: usize,
    groups: Vec<u64>,
    starts_ms: u64,
    answered: bool,
    /// In thousandths of a byte.
    sent: u64,
    delivered: u64,
    stays_until: Instant,
    /// Its connection is not the best one any more.
    superseded: bool,
}

/// Takes what there is as fast as the song goes, once a little is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listener {
    pub(super) rate: u64,
    /// Bytes that must be there before the first sound.
    pub(super) prebuffer: u64,
    cursor: u64,
    playing: bool,
    /// In thousandths of a byte.
    due: u64,
    pub(super) underruns: u64,
    pub(super) first_sound_ms: Option<u64>,
}

impl Listener {
    pub(super) fn new(rate: u64, prebuffer: u64) -> Self {
        Self { rate, prebuffer, cursor: 0, playing: false, due: 0, underruns: 0, first_sound_ms: None }
    }
}

pub(super) struct Sim {
    begin: Instant,
    pub(super) ms: u64,
    pub(super) plan: Scheduler<usize>,
    characters: Vec<Character>,
    /// Bytes a second of a line that all sources share.
    pub(super) bottleneck: Option<u64>,
    running: Vec<Running>,
    have: Vec<bool>,
    /// How often each group came.
    pub(super) came: Vec<u32>,
    pub(super) brought: BTreeMap<usize, u64>,
    pub(super) dropped: BTreeMap<usize, Why>,
    /// Who was called when.
    pub(super) calls: Vec<(usize, u64)>,
    /// Requests that were moved.
    pub(super) moves: u64,
    pub(super) requests: u64,
    pub(super) complete: bool,
    pub(super) no_sources: bool,
    pub(super) listener: Option<Listener>,
    wake: Option<Instant>,
}

impl Sim {
    pub(super) fn new(have: Groups, mode: Mode, characters: &[Character]) -> Self {
        let begin = Instant::now();
        let settings = Settings { stall: Duration::from_secs(15), once: false };
        let count = usize::try_from(have.count()).unwrap();
        let there = (0..have.count()).map(|group| have.contains(group)).collect();
        let mut plan = Scheduler::new(have, mode, settings, begin);
        for (peer, one) in characters.iter().enumerate() {
            plan.add_source(peer, one.hinted.then(|| Duration::from_millis(one.rtt_ms)), begin);
        }
        let mut sim = Self {
            begin,
            ms: 0,
            plan,
            characters: characters.to_vec(),
            bottleneck: None,
            running: Vec::new(),
            have: there,
            came: vec![0; count],
            brought: BTreeMap::new(),
            dropped: BTreeMap::new(),
            calls: Vec::new(),
            moves: 0,
            requests: 0,
            complete: false,
            no_sources: false,
            listener: None,
            wake: None,
        };
        sim.drain();
        sim
    }

    pub(super) fn bulk(bytes: u64, characters: &[Character]) -> Self {
        Self::new(Groups::new(bytes), Mode::Bulk, characters)
    }

    pub(super) fn play(bytes: u64, rate: u64, prebuffer: u64, characters: &[Character]) -> Self {
        let mut sim = Self::new(Groups::new(bytes), Mode::Play { rate }, characters);
        sim.listener = Some(Listener::new(rate, prebuffer));
        sim
    }

    pub(super) fn now(&self) -> Instant {
        self.begin + Duration::from_millis(self.ms)
    }

    pub(super) fn has(&self, group: u64) -> bool {
        self.have[usize::try_from(group).unwrap()]
    }

    /// Runs until it is complete, nobody is left, or so many milliseconds are over.
    pub(super) fn run(&mut self, longest_ms: u64) {
        let until = self.ms + longest_ms;
        self.drain();
        while self.ms < until && !self.complete && !self.no_sources {
            self.step();
        }
    }

    /// A millisecond.
    pub(super) fn step(&mut self) {
        self.ms += 1;
        let mut happened = self.paths();
        happened |= self.transfer();
        happened |= self.listen();
        if happened || self.wake.is_some_and(|wake| wake <= self.now()) {
            self.drain();
        }
    }

    pub(super) fn seek(&mut self, byte: u64) {
        let now = self.now();
        self.plan.seek(byte, now);
        if let Some(listener) = &mut self.listener {
            (listener.cursor, listener.playing, listener.due) = (byte, false, 0);
            listener.first_sound_ms = None;
        }
        self.drain();
    }

    fn turned(&self, peer: usize) -> Option<Turn> {
        let one = &self.characters[peer];
        (self.ms >= one.at_ms && one.turn != Turn::Good).then_some(one.turn)
    }

    fn drain(&mut self) {
        let now = self.now();
        while let Some(output) = self.plan.poll(now) {
            match output {
                Output::Start { id, peer, ranges, stays_until, .. } => {
                    self.start(id, peer, &ranges, stays_until);
                }
                Output::Call { peer } => self.calls.push((peer, self.ms)),
                Output::Cancel { id } => self.running.retain(|running| running.id != id),
                Output::Dropped { peer, why } => {
                    self.dropped.insert(peer, why);
                }
                Output::Complete => self.complete = true,
                Output::NoSources => self.no_sources = true,
            }
        }
        self.wake = self.plan.next_wake(now);
        self.check();
    }

    fn start(&mut self, id: u64, peer: usize, ranges: &[ByteRange], stays_until: Instant) {
        self.requests += 1;
        assert!((1..=AUDIO_RANGES).contains(&ranges.len()));
        assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start), "{ranges:?}");
        let groups: Vec<u64> = ranges
            .iter()
            .flat_map(|range| range.start / BAO_GROUP_BYTES..range.end.div_ceil(BAO_GROUP_BYTES))
            .collect();
        assert!(groups.iter().all(|group| !self.has(*group)), "asked for what is there");
        let starts_ms = self.ms + self.characters[peer].rtt_ms;
        let (answered, sent, delivered, superseded) = (false, 0, 0, false);
        let running =
            Running { id, peer, groups, starts_ms, answered, sent, delivered, stays_until, superseded };
        self.running.push(running);
    }

    /// The bounds that always hold.
    fn check(&self) {
        let mut by_peer: BTreeMap<usize, usize> = BTreeMap::new();
        self.running.iter().for_each(|running| *by_peer.entry(running.peer).or_default() += 1);
        assert!(by_peer.values().all(|count| *count <= PER_SOURCE), "{by_peer:?}");
        assert!(by_peer.len() <= ACTIVE, "{by_peer:?}");
        assert!(by_peer.keys().all(|peer| !self.plan.sources[peer].is_away()));
        let known: BTreeSet<u64> = self.running.iter().map(|running| running.id).collect();
        assert!(self.plan.requests.keys().copied().eq(known), "the plan knows what runs");
        // Now and then: it looks at every group.
        if self.requests.is_multiple_of(8) {
            self.plan.check();
        }
    }

    /// Connections come and go.
    fn paths(&mut self) -> bool {
        let (now, mut happened) = (self.now(), false);
        for (peer, one) in self.characters.clone().into_iter().enumerate() {
            match one.turn {
                Turn::Moves(every) if self.ms >= one.at_ms && (self.ms - one.at_ms).is_multiple_of(every) => {
                    self.supersede(peer);
                }
                Turn::Vanishes(for_ms) if self.ms == one.at_ms + for_ms => {
                    self.plan.came(&peer, None, now);
                    happened = true;
                }
                _ => {}
            }
        }
        let leaves = |one: &Running| one.superseded && one.answered && one.stays_until <= now;
        let leaving: Vec<u64> = self.running.iter().filter(|one| leaves(one)).map(|one| one.id).collect();
        self.running.retain(|one| !leaves(one));
        for id in leaving {
            self.moves += 1;
            self.plan.ended(id, End::Moved, now);
            happened = true;
        }
        happened
    }

    /// All that runs with a peer is on a connection that is not the best one any more.
    pub(super) fn supersede(&mut self, peer: usize) {
        self.running.iter_mut().filter(|one| one.peer == peer).for_each(|one| one.superseded = true);
    }

    /// From now on a peer is as fast as this.
    pub(super) fn set_rate(&mut self, peer: usize, rate: u64) {
        self.characters[peer].rate = rate;
    }

    fn transfer(&mut self) -> bool {
        let (now, mut happened) = (self.now(), false);
        let mut over = Vec::new();
        for place in 0..self.running.len() {
            let (id, peer, due) = {
                let running = &self.running[place];
                (running.id, running.peer, running.starts_ms <= self.ms)
            };
            let end = match self.turned(peer) {
                Some(Turn::Dies) => Some(End::Failed),
                Some(Turn::Vanishes(for_ms)) if self.ms < self.characters[peer].at_ms + for_ms => {
                    let old = self.running[place].answered;
                    Some(if old { End::Lost } else { End::Away })
                }
                Some(Turn::Busy(for_ms)) if due && !self.running[place].answered => {
                    (self.ms < self.characters[peer].at_ms + for_ms).then_some(End::Busy)
                }
                Some(Turn::Lacks) if due => Some(End::Gone),
                Some(Turn::Stops) if self.running[place].delivered > 0 => Some(End::Early),
                Some(Turn::Lies) if self.running[place].answered => Some(End::BadBytes),
                _ => None,
            };
            if let Some(end) = end {
                over.push((id, end));
            } else if due && !self.running[place].answered && self.turned(peer) != Some(Turn::Stalls) {
                self.running[place].answered = true;
                self.plan.answered(id, now);
                happened = true;
            }
        }
        for (id, end) in over {
            self.running.retain(|running| running.id != id);
            self.plan.ended(id, end, now);
            happened = true;
        }
        self.send() || happened
    }

    /// Every source shares its bandwidth among its requests, and all share the bottleneck.
    fn send(&mut self) -> bool {
        let now = self.now();
        let mut busy: BTreeMap<usize, u64> = BTreeMap::new();
        for running in self.running.iter().filter(|running| running.answered) {
            *busy.entry(running.peer).or_default() += 1;
        }
        let rate = |peer: usize| match self.turned(peer) {
            Some(Turn::Stalls) => 0,
            Some(Turn::Drips) => 1_500,
            _ => self.characters[peer].rate,
        };
        let rates: BTreeMap<usize, u64> = busy.keys().map(|peer| (*peer, rate(*peer))).collect();
        let all: u64 = rates.values().sum();
        let mut verified = Vec::new();
        for running in self.running.iter_mut().filter(|running| running.answered) {
            let mut share = rates[&running.peer] / busy[&running.peer];
            if let Some(bottleneck) = self.bottleneck.filter(|bottleneck| *bottleneck < all) {
                share = u64::try_from(u128::from(share) * u128::from(bottleneck) / u128::from(all)).unwrap();
            }
            // Bytes a second are thousandths of a byte in a millisecond.
            running.sent += share;
            let total = running.groups.len() as u64;
            let delivered = (running.sent / 1_000 / BAO_GROUP_BYTES).min(total);
            if delivered > running.delivered {
                for group in &running.groups
                    [usize::try_from(running.delivered).unwrap()..usize::try_from(delivered).unwrap()]
                {
                    let group = usize::try_from(*group).unwrap();
                    self.have[group] = true;
                    self.came[group] += 1;
                    *self.brought.entry(running.peer).or_default() += 1;
                }
                running.delivered = delivered;
                verified.push((running.id, delivered));
            }
        }
        self.running.retain(|running| running.delivered < running.groups.len() as u64);
        for (id, delivered) in &verified {
            self.plan.verified(*id, *delivered, now);
        }
        !verified.is_empty()
    }

    fn listen(&mut self) -> bool {
        let (now, ms) = (self.now(), self.ms);
        let Some(mut listener) = self.listener else { return false };
        let end = self.have.len() as u64 * BAO_GROUP_BYTES;
        let mut ready = listener.cursor;
        let most = if listener.playing { listener.rate } else { listener.prebuffer };
        while ready < end && ready < listener.cursor + most && self.has(ready / BAO_GROUP_BYTES) {
            ready = (ready / BAO_GROUP_BYTES + 1) * BAO_GROUP_BYTES;
        }
        if !listener.playing && (ready >= listener.cursor + listener.prebuffer || ready == end) {
            listener.playing = true;
            listener.first_sound_ms.get_or_insert(ms);
        }
        let before = listener.cursor;
        if listener.playing && listener.cursor < end {
            listener.due += listener.rate;
            let wanted = (listener.cursor + listener.due / 1_000).min(end);
            if wanted > ready {
                listener.underruns += 1;
            }
            listener.cursor = wanted.min(ready);
            listener.due %= 1_000;
        }
        let moved = listener.cursor / BAO_GROUP_BYTES != before / BAO_GROUP_BYTES;
        self.listener = Some(listener);
        if moved {
            self.plan.advance(listener.cursor, now);
        }
        moved
    }

    /// Groups that came although they were there.
    pub(super) fn wasted(&self) -> u64 {
        self.came.iter().map(|times| u64::from(times.saturating_sub(1))).sum()
    }
}

impl<P: Copy + Ord> Scheduler<P> {
    /// What the counters say is what is there.
    fn check(&self) {
        for request in self.requests.values() {
            let needed = request.outstanding().filter(|group| !self.claims.has(*group)).count() as u64;
            assert_eq!(needed, request.needed);
            assert!(needed > 0, "a request that brings nothing");
        }
        let mut free = 0;
        for group in (0..self.claims.count()).filter(|group| !self.claims.has(*group)) {
            let holders = self.requests.values().filter(|request| request.holds(group)).count();
            assert_eq!(holders, usize::from(self.claims.copies(group)), "group {group}");
            assert!(holders <= usize::from(COPIES));
            free += u64::from(holders == 0);
        }
        assert_eq!(free, self.claims.free());
    }
}
