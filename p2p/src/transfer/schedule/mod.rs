//! Which part of a file is asked of which peer, and when. Knows no clock, no network and no file: time and what
//! happened come in through the methods, what is to be done comes out of [`Scheduler::poll`].
//!
//! - A file is cut into pieces only when there are several sources. A piece lasts a few seconds at the pace of its
//!   source, and the next one is asked for a little before it ends, so that no round trip is lost.
//! - The first 64 KiB, from the start or where somebody jumped to, are asked of the two best sources. Whoever brings
//!   something first goes on; the other one gets something else to do.
//! - While somebody listens, what is heard soon comes first. Each source gets a piece that it can bring in time; what is
//!   late is asked of another one too. Only then comes the rest of the file ([`near`], [`play`]).
//! - A source without work takes over the end of what a slower one is busy with, and in the end the same groups are
//!   asked twice: nobody can hold up the whole.
//! - What ends with its connection, or to go on over a better one, is asked for again at once and counts against nobody. A
//!   source without a connection stands by until it has one again; one that everything waits for is called ([`paths`]).
//! - Only groups that verify count. Who brings nothing, too little, nonsense, or no answer loses what it was asked for to
//!   the others at once, and rests or is dropped ([`health`]).
//!
//! A group is asked of at most [`COPIES`] sources at once, so at most that often it comes.

mod claims;
mod health;
mod near;
mod paths;
mod plan;
mod play;
mod request;
mod source;

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use antiphon_proto::{
    limits::BAO_GROUP_BYTES,
    wire::{AudioMode, ByteRange},
};

use self::{claims::Claims, play::Playhead, request::Request, source::Source};
use super::groups::Groups;

/// Sources that are asked: more would cost streams and buffers, and bring nothing on any home line.
pub(crate) const ACTIVE: usize = 8;
/// Sources that are known; those that are not asked stand by. Further ones are ignored.
pub(crate) const SOURCES: usize = 64;
/// Requests that one source has at once: the one that comes and the next.
pub(crate) const PER_SOURCE: usize = 2;
/// Requests for the same group at once.
pub(crate) const COPIES: u8 = 2;
/// Peers that sent bad bytes and are remembered; a ban keeps them away for longer than that.
const LIARS: usize = 256;
/// Groups after which a request is a success, whatever comes of it.
const FORGIVING: u64 = 64;
/// While something is asked for, things are looked over this often: somebody may have become slow.
const TICK: Duration = Duration::from_millis(100);
/// After a gap this long, this process had no time, and nobody else is to blame that nothing came.
const SLEPT: Duration = Duration::from_millis(500);

/// What is known of the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nobody listens: as fast as it goes, in any order.
    Bulk,
    /// Somebody does, and hears so many bytes a second.
    Play { rate: u64 },
}

/// How patient a download is.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// How long nothing may come when there is nobody else to ask.
    pub(crate) stall: Duration,
    /// Whether a source is dropped at its first failure. An early end is asked for once more to learn why.
    pub(crate) once: bool,
}

/// How a request ended without its last group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The stream ended in order, but early.
    Early,
    /// It has too much to do.
    Busy,
    /// It does not have the file (any more), or must not or cannot give it.
    Gone,
    /// The stream broke, or there was no answer.
    Failed,
    /// There is a better connection with it now.
    Moved,
    /// Its connection broke.
    Lost,
    /// There is no connection with it.
    Away,
    /// What it sent does not match the content hash.
    BadBytes,
}

/// Why a source is not asked any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its last request ended so.
    Ended(End),
    /// Too little came in a certain time.
    Stalled(Duration),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub(crate) enum Output<P> {
    /// Ask this peer for these ranges: whole groups, ascending.
    Start {
        /// Names the request in all that is said of it.
        id: u64,
        peer: P,
        ranges: Vec<ByteRange>,
        mode: AudioMode,
        /// When it may end with [`End::Moved`], so that a peer whose connections come and go is not asked anew each time.
        stays_until: Instant,
    },
    /// Nothing more is wanted of this request, and nothing more needs to be said of it.
    Cancel { id: u64 },
    /// This source is not asked any more.
    Dropped { peer: P, why: Why },
    /// Nothing comes, and this source is waited for: its connection may be dead, or gone.
    Call { peer: P },
    /// Every group is there.
    Complete,
    /// Nobody is left to ask; it goes on when a source is added or comes back.
    NoSources,
}

/// What a source is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    Sending,
    Waiting,
    Resting,
    Away,
}

/// The plan of one download from peers `P`.
#[derive(Debug)]
pub(crate) struct Scheduler<P> {
    settings: Settings,
    claims: Claims,
    sources: BTreeMap<P, Source>,
    /// Who sent bad bytes.
    liars: BTreeSet<P>,
    /// At most [`ACTIVE`] times [`PER_SOURCE`], and those of sources that lost their seat meanwhile.
    requests: BTreeMap<u64, Request<P>>,
    next_id: u64,
    next_order: u64,
    playhead: Option<Playhead>,
    /// First group of those that two sources race for.
    race: Option<u64>,
    outputs: VecDeque<Output<P>>,
    /// Whether the end was told.
    ended: bool,
    looked_at: Instant,
    /// When anybody last sent anything.
    heard_at: Instant,
}

impl<P: Copy + Ord> Scheduler<P> {
    /// A plan for what is missing in `have`.
    pub(crate) fn new(have: Groups, mode: Mode, settings: Settings, now: Instant) -> Self {
        let claims = Claims::new(have);
        let playhead = match mode {
            Mode::Bulk => None,
            Mode::Play { rate } => Some(Playhead::new(rate, 0, now)),
        };
        let mut scheduler = Self {
            settings,
            claims,
            sources: BTreeMap::new(),
            liars: BTreeSet::new(),
            requests: BTreeMap::new(),
            next_id: 0,
            next_order: 0,
            playhead,
            race: None,
            outputs: VecDeque::new(),
            ended: false,
            looked_at: now,
            heard_at: now,
        };
        scheduler.begin_race(0);
        scheduler
    }

    /// Adds a peer to ask, with the round trip to it if that is known. One that is there stays as it is.
    pub(crate) fn add_source(&mut self, peer: P, rtt: Option<Duration>, now: Instant) {
        if self.sources.len() >= SOURCES || self.sources.contains_key(&peer) || self.liars.contains(&peer) {
            return;
        }
        let width = if self.settings.once { 1 } else { PER_SOURCE };
        self.sources.insert(peer, Source::new(self.next_order, rtt, width, now));
        self.next_order += 1;
        self.ended &= self.claims.is_complete();
    }

    /// A peer does not have the file any more, or is gone.
    pub(crate) fn remove_source(&mut self, peer: &P, now: Instant) {
        self.cancel_all_of(peer, now);
        self.sources.remove(peer);
    }

    /// Whether the peer is (still) one that may be asked.
    pub(crate) fn is_source(&self, peer: &P) -> bool {
        self.sources.contains_key(peer)
    }

    /// The sources and what they do.
    pub(crate) fn sources(&self, now: Instant) -> impl Iterator<Item = (P, Activity)> {
        self.sources.iter().map(move |(peer, source)| {
            let activity = match source {
                source if !source.requests.is_empty() => Activity::Sending,
                source if source.is_away() => Activity::Away,
                source if source.is_resting(now) => Activity::Resting,
                _ => Activity::Waiting,
            };
            (*peer, activity)
        })
    }

    /// The reply to a request came, and what was asked for will follow.
    pub(crate) fn answered(&mut self, id: u64, now: Instant) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        if request.answered_at.is_some() {
            return;
        }
        (request.answered_at, request.progress_at, self.heard_at) = (Some(now), now, now);
        if let Some(source) = self.sources.get_mut(&request.peer) {
            source.answered_in(now.saturating_duration_since(request.asked_at));
        }
    }

    /// In all, `delivered` groups of a request came and are verified.
    pub(crate) fn verified(&mut self, id: u64, delivered: u64, now: Instant) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        let (new, mut wanted) = request.deliver(delivered);
        if new.is_empty() {
            return;
        }
        (request.progress_at, self.heard_at) = (now, now);
        let (peer, forgiven) = (request.peer, request.is_over() || request.delivered() >= FORGIVING);
        if let Some(source) = self.sources.get_mut(&peer) {
            source.brought(new.len() as u64 * BAO_GROUP_BYTES, now);
            if forgiven {
                source.forgive();
            }
        }
        if request.race {
            self.win(id, now);
        }
        for group in new {
            self.arrived(group, id, wanted > 0);
            wanted = wanted.saturating_sub(1);
        }
        if self.requests.get(&id).is_some_and(Request::is_over) {
            self.forget(id, now);
        }
        self.cancel_useless(now);
    }

    /// What this request brings waits for the disk here, which is not the sender's fault.
    pub(crate) fn waits_for_disk(&mut self, id: u64, now: Instant) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        (request.progress_at, self.heard_at) = (now, now);
        if let Some(source) = self.sources.get_mut(&request.peer) {
            (source.watched_since, source.watched_bytes) = (now, 0);
        }
    }

    /// The reader took everything before `byte`.
    pub(crate) fn advance(&mut self, byte: u64, now: Instant) {
        if let Some(playhead) = &mut self.playhead {
            playhead.advance(byte, now);
        }
    }

    /// The reader goes on at `byte`. What does not help there soon is cancelled at once.
    pub(crate) fn seek(&mut self, byte: u64, now: Instant) {
        let Some(rate) = self.playhead.as_ref().map(Playhead::rate) else { return };
        self.playhead = Some(Playhead::new(rate, byte, now));
        self.clear_way(now);
        self.begin_race(byte / BAO_GROUP_BYTES);
    }

    /// Somebody began to listen, or ceased to.
    pub(crate) fn set_mode(&mut self, mode: Mode, now: Instant) {
        self.playhead = match (mode, self.playhead) {
            (Mode::Bulk, _) => None,
            (Mode::Play { rate }, before) => {
                Some(Playhead::new(rate, before.map_or(0, |playhead| playhead.cursor()), now))
            }
        };
    }

    /// What to do next, until there is nothing more.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Output<P>> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        if self.claims.is_complete() {
            let running: Vec<u64> = self.requests.keys().copied().collect();
            running.into_iter().for_each(|id| self.cancel(id, now));
            self.tell_end(Output::Complete);
            return self.outputs.pop_front();
        }
        self.forgive_sleep(now);
        self.look_over(now);
        if self.outputs.is_empty() {
            if self.has_hope(now) {
                self.plan(now);
            } else {
                self.tell_end(Output::NoSources);
            }
        }
        if self.outputs.is_empty() {
            self.call_the_silent(now);
        }
        self.outputs.pop_front()
    }

    /// When to poll again though nothing has happened.
    pub(crate) fn next_wake(&self, now: Instant) -> Option<Instant> {
        let waits = !self.requests.is_empty() || self.sources.values().any(Source::is_away);
        let tick = waits.then(|| now + TICK);
        let rests = self.sources.values().filter_map(|source| source.rests_until);
        rests.filter(|until| *until > now).chain(tick).min()
    }

    /// When nobody polled for long, everybody gets the time anew.
    fn forgive_sleep(&mut self, now: Instant) {
        let gap = now.saturating_duration_since(std::mem::replace(&mut self.looked_at, now));
        if gap < SLEPT {
            return;
        }
        self.heard_at = now;
        self.requests.values_mut().for_each(|request| request.progress_at = now);
        for source in self.sources.values_mut() {
            (source.watched_since, source.watched_bytes) = (now, 0);
        }
    }

    fn tell_end(&mut self, output: Output<P>) {
        if !self.ended {
            self.ended = true;
            self.outputs.push_back(output);
        }
    }

    /// A group came with a request, which was to bring it or not.
    fn arrived(&mut self, group: u64, from: u64, wanted: bool) {
        let Some(copies) = self.claims.arrived(group) else { return };
        if let Some(request) = self.requests.get_mut(&from).filter(|_| wanted) {
            request.needed = request.needed.saturating_sub(1);
        }
        if copies > u8::from(wanted) {
            let others =
                self.requests.iter_mut().filter(|(id, request)| **id != from && request.holds(group));
            others.for_each(|(_, request)| request.needed = request.needed.saturating_sub(1));
        }
        if self.race == Some(group) {
            self.race = None;
        }
    }

    /// Takes a request out; what it was to bring is free again if nobody else has it.
    fn take_back(&mut self, id: u64) -> Option<Request<P>> {
        let request = self.requests.remove(&id)?;
        for group in request.outstanding() {
            self.claims.release(group);
        }
        Some(request)
    }

    /// The same, and notes of its source what it brought or did not.
    fn forget(&mut self, id: u64, now: Instant) -> Option<Request<P>> {
        let request = self.take_back(id)?;
        if let Some(source) = self.sources.get_mut(&request.peer) {
            source.released(id, now);
            if request.delivered() == 0 {
                let waited = now.saturating_duration_since(request.asked_at);
                source.asked_in_vain(waited, request.answered_at.is_some());
            }
        }
        Some(request)
    }

    fn cancel(&mut self, id: u64, now: Instant) {
        if self.forget(id, now).is_some() {
            self.outputs.push_back(Output::Cancel { id });
        }
    }

    /// Cancels what others brought.
    fn cancel_useless(&mut self, now: Instant) {
        let useless = self.requests.iter().filter(|(_, request)| request.needed == 0);
        let useless: Vec<u64> = useless.map(|(id, _)| *id).collect();
        useless.into_iter().for_each(|id| self.cancel(id, now));
    }

    fn cancel_all_of(&mut self, peer: &P, now: Instant) {
        let theirs = self.sources.get(peer).map(|source| source.requests.clone()).unwrap_or_default();
        theirs.into_iter().for_each(|id| self.cancel(id, now));
    }
}
