//! Which bundle is asked of whom, and when. Knows no clock, no network and no bundle: time is passed in, and what a
//! bundle is, is the caller's.
//!
//! Work goes to the peer that will probably be done with it first, judged by the rate at which it delivered. A peer that
//! nobody knows gets one bundle. When there is nothing else to hand out, an idle peer gets what a slow one is still busy
//! with, and whoever is first counts: so no peer can hold the rest up. What comes out of order waits for its turn; how
//! much may wait is bounded.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use antiphon_proto::limits::TILE_WIDTH;

/// Bytes of a bundle until the first one has come.
const FIRST_GUESS: u64 = 512 * 1024;
/// For a peer whose rate is not known.
const FIRST_DEADLINE: Duration = Duration::from_secs(10);
/// For one whose rate is known: four times what it should take, within these.
const SHORTEST_DEADLINE: Duration = Duration::from_secs(3);
const LONGEST_DEADLINE: Duration = Duration::from_secs(60);
/// Before a bundle that somebody is busy with is asked of another one too.
const PATIENCE: Duration = Duration::from_millis(200);
/// A peer should have work for this long: enough for the longest round trips.
const WORK_AHEAD: Duration = Duration::from_secs(1);
/// Rest of a peer after a failure, doubled with each further one in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// A peer that is overtaken rests for at most 64 times that.
const LONGEST_REST: u32 = 6;
/// Failures in a row after which a peer is given up.
const FAILURES: u32 = 6;
/// Requests for the same bundle at once.
const COPIES: usize = 2;

/// Bounds on a catch-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bundles asked for at once.
    pub in_flight: usize,
    /// The same of one peer; it must not be more than the peer answers at once.
    pub per_peer: usize,
    /// Bytes that are asked for or wait for their turn; the next bundle in order is always asked for.
    pub ahead_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { in_flight: 16, per_peer: 4, ahead_bytes: 32 * 1024 * 1024 }
    }
}

/// Ask this peer for this bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Assignment<P> {
    /// Names the request in all that is said of it.
    pub id: u64,
    /// Whom to ask.
    pub peer: P,
    /// The bundle.
    pub index: u64,
    /// Blocks of it that are wanted, 1 to 256.
    pub width: u32,
}

/// Why a request brought nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The peer does not have this bundle, nor any later one.
    Missing,
    /// Anything that may be over soon: it is busy, or its stream broke.
    Passing,
    /// The peer is gone, or must not be asked again.
    Lost,
}

#[derive(Debug)]
struct Request<P> {
    peer: P,
    index: u64,
    since: Instant,
    until: Instant,
}

#[derive(Debug)]
struct Source {
    in_flight: usize,
    /// Bytes a second, once measured.
    rate: Option<u64>,
    failures: u32,
    /// Bundles in a row that another peer brought in its place.
    overtaken: u32,
    rests_until: Option<Instant>,
    /// It does not have this bundle, nor any later one.
    end: u64,
}

#[derive(Debug)]
enum Item<T> {
    /// Requests that are out; none: it must be asked for again.
    Open(Vec<u64>),
    Here(T, u64),
}

/// The plan of one catch-up, over peers `P` and bundles `T`.
#[derive(Debug)]
pub struct Plan<P, T> {
    limits: Limits,
    /// Blocks at the target.
    target: u64,
    /// The bundle that is given out next.
    head: u64,
    /// The first bundle that was never asked for.
    frontier: u64,
    /// The bundle after the last one.
    end: u64,
    /// Bundles from `head` to `frontier`. Bounded by `ahead_bytes` and `in_flight`.
    items: BTreeMap<u64, Item<T>>,
    requests: BTreeMap<u64, Request<P>>,
    sources: BTreeMap<P, Source>,
    /// Requests that are no longer of use.
    cancelled: Vec<u64>,
    next_id: u64,
    waiting_bytes: u64,
    bundle_bytes: u64,
}

impl<P: Copy + Ord, T> Plan<P, T> {
    /// From block `start` to a ledger of `target` blocks. The first bundle is the one that holds block `start`.
    #[must_use]
    pub fn new(start: u64, target: u64, limits: Limits) -> Self {
        let width = u64::from(TILE_WIDTH);
        let (head, end) = (start / width, target.div_ceil(width));
        Self {
            limits,
            target,
            head: if start >= target { end } else { head },
            frontier: if start >= target { end } else { head },
            end,
            items: BTreeMap::new(),
            requests: BTreeMap::new(),
            sources: BTreeMap::new(),
            cancelled: Vec::new(),
            next_id: 0,
            waiting_bytes: 0,
            bundle_bytes: FIRST_GUESS,
        }
    }

    /// Adds a peer to ask. One that is there stays as it is.
    pub fn add(&mut self, peer: P) {
        let source =
            Source { in_flight: 0, rate: None, failures: 0, overtaken: 0, rests_until: None, end: u64::MAX };
        self.sources.entry(peer).or_insert(source);
    }

    /// Whether there is still somebody to ask.
    #[must_use]
    pub fn has_peers(&self) -> bool {
        !self.sources.is_empty()
    }

    /// The bundle that comes next.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.head
    }

    /// Whether everything was given out.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.head >= self.end
    }

    /// Whether nobody is left who might have the next bundle.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        let possible = || self.sources.values().any(|source| source.end > self.head);
        let here = || matches!(self.items.get(&self.head), Some(Item::Here(..)));
        !self.is_done() && !here() && !possible()
    }

    /// The next bundle in order, if it is here.
    pub fn take(&mut self) -> Option<(u64, T)> {
        if !matches!(self.items.get(&self.head), Some(Item::Here(..))) {
            return None;
        }
        let index = self.head;
        let Some(Item::Here(bundle, bytes)) = self.items.remove(&index) else { return None };
        self.waiting_bytes -= bytes;
        self.head += 1;
        Some((index, bundle))
    }

    /// Whom to ask for what, one request at a time, until there is none.
    pub fn next_request(&mut self, now: Instant) -> Option<Assignment<P>> {
        if self.requests.len() >= self.limits.in_flight {
            return None;
        }
        let (index, peer) = self.fresh_work(now).or_else(|| self.copied_work(now))?;
        let id = self.next_id;
        self.next_id += 1;
        let until = now + self.deadline(&peer);
        self.requests.insert(id, Request { peer, index, since: now, until });
        if let Some(source) = self.sources.get_mut(&peer) {
            source.in_flight += 1;
        }
        self.frontier = self.frontier.max(index + 1);
        match self.items.entry(index).or_insert_with(|| Item::Open(Vec::new())) {
            Item::Open(ids) => ids.push(id),
            Item::Here(..) => {}
        }
        Some(Assignment { id, peer, index, width: self.width(index) })
    }

    /// A request brought a good bundle of so many bytes; false when another one was faster.
    pub fn done(&mut self, id: u64, bundle: T, bytes: u64, now: Instant) -> bool {
        let Some(request) = self.requests.remove(&id) else { return false };
        self.bundle_bytes = ((self.bundle_bytes * 7 + bytes) / 8).max(1);
        if let Some(source) = self.sources.get_mut(&request.peer) {
            let took = now.saturating_duration_since(request.since).max(Duration::from_millis(1));
            // What it delivers to all its requests together.
            let rate = u128::from(bytes) * 1_000 * source.in_flight as u128 / took.as_millis().max(1);
            let rate = u64::try_from(rate).unwrap_or(u64::MAX);
            source.rate = Some(source.rate.map_or(rate, |before| before / 4 * 3 + rate / 4).max(1));
            source.in_flight -= 1;
            (source.failures, source.overtaken) = (0, 0);
        }
        let Some(Item::Open(ids)) = self.items.get_mut(&request.index) else { return false };
        let others: Vec<u64> = ids.drain(..).filter(|other| *other != id).collect();
        others.into_iter().for_each(|other| self.overtake(other, now));
        self.waiting_bytes += bytes;
        self.items.insert(request.index, Item::Here(bundle, bytes));
        true
    }

    /// A request brought nothing.
    pub fn failed(&mut self, id: u64, failure: Failure, now: Instant) {
        let Some(request) = self.forget(id) else { return };
        let Some(source) = self.sources.get_mut(&request.peer) else { return };
        match failure {
            Failure::Missing => source.end = source.end.min(request.index),
            Failure::Passing => {
                source.failures += 1;
                source.rests_until = Some(now + FIRST_PAUSE * 2u32.saturating_pow(source.failures - 1));
            }
            Failure::Lost => {}
        }
        if failure == Failure::Lost || source.failures >= FAILURES {
            self.remove(&request.peer);
        }
    }

    /// A peer is gone or must not be asked again; what it was asked for goes to others.
    pub fn remove(&mut self, peer: &P) {
        self.sources.remove(peer);
        let theirs: Vec<u64> =
            self.requests.iter().filter(|(_, request)| request.peer == *peer).map(|(id, _)| *id).collect();
        for id in theirs {
            self.forget(id);
            self.cancelled.push(id);
        }
    }

    /// Gives up on requests whose time is over.
    pub fn expire(&mut self, now: Instant) {
        let late: Vec<u64> =
            self.requests.iter().filter(|(_, request)| request.until <= now).map(|(id, _)| *id).collect();
        for id in late {
            self.failed(id, Failure::Passing, now);
            self.cancelled.push(id);
        }
    }

    /// A request that may be dropped, until there is none.
    pub fn next_cancelled(&mut self) -> Option<u64> {
        self.cancelled.pop()
    }

    /// When to look again though nothing has happened.
    #[must_use]
    pub fn next_wake(&self, now: Instant) -> Option<Instant> {
        let deadlines = self.requests.values().map(|request| request.until);
        let rests =
            self.sources.values().filter_map(|source| source.rests_until).filter(|until| *until > now);
        // Somebody may have become slow enough to be helped.
        let idle = self.sources.values().any(|source| source.in_flight == 0);
        let help = (idle && !self.requests.is_empty()).then(|| now + PATIENCE);
        deadlines.chain(rests).chain(help).min()
    }

    fn width(&self, index: u64) -> u32 {
        let left = self.target.saturating_sub(index.saturating_mul(u64::from(TILE_WIDTH)));
        u32::try_from(left).unwrap_or(u32::MAX).min(TILE_WIDTH)
    }

    /// Bytes that are asked for or wait.
    fn ahead(&self) -> u64 {
        let open = self.items.values().filter(|item| matches!(item, Item::Open(ids) if !ids.is_empty()));
        self.waiting_bytes.saturating_add(self.bundle_bytes.saturating_mul(open.count() as u64))
    }

    /// What nobody is busy with, the lowest first.
    fn fresh_work(&self, now: Instant) -> Option<(u64, P)> {
        let dropped = self.items.iter().filter(|(_, item)| matches!(item, Item::Open(ids) if ids.is_empty()));
        for (index, _) in dropped {
            if let Some(peer) = self.fastest(*index, now, &[]) {
                return Some((*index, peer));
            }
        }
        let room = self.ahead().saturating_add(self.bundle_bytes) <= self.limits.ahead_bytes;
        if self.frontier >= self.end || !(room || self.frontier == self.head) {
            return None;
        }
        Some((self.frontier, self.fastest(self.frontier, now, &[])?))
    }

    /// What a slow peer is busy with, for an idle one: the lowest first, because everything waits for it.
    fn copied_work(&self, now: Instant) -> Option<(u64, P)> {
        for (index, item) in &self.items {
            let Item::Open(ids) = item else { continue };
            let requests: Vec<&Request<P>> = ids.iter().filter_map(|id| self.requests.get(id)).collect();
            let busy: Vec<P> = requests.iter().map(|request| request.peer).collect();
            if requests.is_empty() || requests.len() >= COPIES {
                continue;
            }
            let Some(peer) = self.fastest(*index, now, &busy) else { continue };
            let idle = self.sources.get(&peer).filter(|source| source.in_flight == 0);
            let Some(idle) = idle else { continue };
            // Only when the other one has had as long as this one would take.
            let patience = self.expected(idle).max(PATIENCE);
            if requests.iter().all(|request| now.saturating_duration_since(request.since) >= patience) {
                return Some((*index, peer));
            }
        }
        None
    }

    /// Who has room and would be done first; among equals, who has less to do.
    fn fastest(&self, index: u64, now: Instant, not: &[P]) -> Option<P> {
        let free = self.sources.iter().filter(|(peer, source)| {
            let rests = source.rests_until.is_some_and(|until| until > now);
            !rests && index < source.end && source.in_flight < self.window(source) && !not.contains(peer)
        });
        free.min_by_key(|(_, source)| (self.expected(source), source.in_flight)).map(|(peer, _)| *peer)
    }

    /// How many requests a peer may have at once.
    fn window(&self, source: &Source) -> usize {
        // After a failure one shows whether it is over.
        let Some(rate) = source.rate.filter(|_| source.failures == 0) else { return 1 };
        let bundles = rate.saturating_mul(WORK_AHEAD.as_secs()) / self.bundle_bytes;
        usize::try_from(bundles).unwrap_or(usize::MAX).clamp(1, self.limits.per_peer.max(1))
    }

    /// How long one more bundle would take the peer; nothing for one that is not known, so that it is tried.
    fn expected(&self, source: &Source) -> Duration {
        let Some(rate) = source.rate else { return Duration::ZERO };
        let bytes = self.bundle_bytes.saturating_mul(source.in_flight as u64 + 1);
        Duration::from_millis(bytes.saturating_mul(1_000) / rate)
    }

    fn deadline(&self, peer: &P) -> Duration {
        match self.sources.get(peer) {
            Some(source) if source.rate.is_some() => {
                self.expected(source).saturating_mul(4).clamp(SHORTEST_DEADLINE, LONGEST_DEADLINE)
            }
            _ => FIRST_DEADLINE,
        }
    }

    /// Takes a request out; its bundle is open again if nobody else has it.
    fn forget(&mut self, id: u64) -> Option<Request<P>> {
        let request = self.requests.remove(&id)?;
        if let Some(source) = self.sources.get_mut(&request.peer) {
            source.in_flight -= 1;
        }
        if let Some(Item::Open(ids)) = self.items.get_mut(&request.index) {
            ids.retain(|other| *other != id);
        }
        Some(request)
    }

    /// Another peer was faster. Who is overtaken again and again rests longer and longer: it may hang.
    fn overtake(&mut self, id: u64, now: Instant) {
        let Some(request) = self.forget(id) else { return };
        self.cancelled.push(id);
        let Some(source) = self.sources.get_mut(&request.peer) else { return };
        let took = now.saturating_duration_since(request.since).as_millis().max(1);
        let at_most = u64::try_from(u128::from(self.bundle_bytes) * 1_000 / took).unwrap_or(u64::MAX).max(1);
        source.rate = Some(source.rate.map_or(at_most, |rate| rate.min(at_most)));
        if now.saturating_duration_since(request.since) >= PATIENCE {
            source.rests_until = Some(now + FIRST_PAUSE * 2u32.pow(source.overtaken.min(LONGEST_REST)));
            source.overtaken += 1;
        }
    }

    /// Everybody who may still be asked.
    #[must_use]
    pub fn peers(&self) -> BTreeSet<P> {
        self.sources.keys().copied().collect()
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
