//! Who may send how many bytes now: the rates in all and for each peer.
//!
//! Whoever has a piece to send asks and waits for its turn. Play goes before bulk, but for a twentieth that bulk is
//! owed. Among the sharers of a mode, the one that has been sent the least goes first, however many pieces of it wait; one
//! that was away for a moment is remembered for [`LAG_BYTES`], no longer, so that nobody saves up. (This is what a
//! deficit round robin does, for askers that come back for each piece.) Nobody overtakes the one whose turn it is while
//! the rate in all has too little for it; whom only its own rate holds up is passed by.
//!
//! Pure: the time is passed in.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Debug,
    hash::Hash,
    num::NonZeroU64,
    time::Instant,
};

use antiphon_proto::wire::AudioMode;
use libp2p::PeerId;

use super::{Id, bucket::Bucket};

/// The longest piece under a limit: at 1 MB/s, play waits 65 ms for one that is on its way.
pub(crate) const LONGEST_PIECE: u64 = 64 * 1024;
/// The shortest: one chunk group. Shorter ones bring the receiver nothing that it can verify.
const SHORTEST_PIECE: u64 = 16 * 1024;
/// Pieces a second and asker under a limit: often enough for an even flow, at moderate cost.
const PIECES_PER_SECOND: u64 = 20;
/// An idle bucket holds what its rate gives in this part of a second: what timers that are late cost is made up.
const BURSTS_PER_SECOND: u64 = 8;
/// Of so many bytes, bulk gets one while play takes all it can: 5 %, so that a download does not time out.
const BULK_SHARE: u64 = 20;
/// How far behind the others a sharer may fall before it is forgotten: a few of the longest pieces.
const LAG_BYTES: u64 = 4 * LONGEST_PIECE;

/// Who shares a rate evenly with the others: a peer, or two peers that something is carried between.
pub(crate) trait Sharer: Copy + Debug + Eq + Hash + Ord {
    /// Who has a rate of its own.
    type Peer: Copy + Debug + Eq + Hash;

    /// Those whose own rates the bytes count against.
    fn peers(&self) -> impl Iterator<Item = Self::Peer>;
}

impl Sharer for PeerId {
    type Peer = Self;

    fn peers(&self) -> impl Iterator<Item = Self> {
        std::iter::once(*self)
    }
}

/// Bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Limits {
    /// In all.
    pub(crate) total: Option<NonZeroU64>,
    /// Of each peer.
    pub(crate) peer: Option<NonZeroU64>,
}

/// Who may go, and when to look again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Turn {
    /// Askers and their bytes.
    pub(super) granted: Vec<(Id, u64)>,
    /// When the next of those that still wait may go; none when nobody waits.
    pub(super) wake: Option<Instant>,
}

#[derive(Debug)]
struct Ask {
    id: Id,
    bytes: u64,
}

/// The askers of one mode.
#[derive(Debug)]
struct Lane<S> {
    waiting: HashMap<S, VecDeque<Ask>>,
    /// Bytes that a sharer was sent, as far as they count beside others.
    sent: HashMap<S, u64>,
    /// Where the one that was served last stood.
    level: u64,
}

impl<S: Sharer> Lane<S> {
    fn new() -> Self {
        Self { waiting: HashMap::new(), sent: HashMap::new(), level: 0 }
    }

    fn stand(&self, sharer: &S) -> u64 {
        match self.sent.get(sharer) {
            Some(&sent) if sent.saturating_add(LAG_BYTES) >= self.level => sent,
            _ => self.level,
        }
    }

    /// Whose turn it is among those that fit, and the bytes that it asks for first.
    fn first(&self, fits: impl Fn(&S, u64) -> bool) -> Option<(S, u64)> {
        let heads = self.waiting.iter().filter_map(|(sharer, asks)| Some((*sharer, asks.front()?.bytes)));
        heads
            .filter(|(sharer, bytes)| fits(sharer, *bytes))
            .min_by_key(|(sharer, _)| (self.stand(sharer), *sharer))
    }

    fn serve(&mut self, sharer: S, remembered: usize) -> Option<Ask> {
        let stand = self.stand(&sharer);
        let asks = self.waiting.get_mut(&sharer)?;
        let ask = asks.pop_front()?;
        if asks.is_empty() {
            self.waiting.remove(&sharer);
        }
        self.level = self.level.max(stand);
        self.sent.insert(sharer, stand.saturating_add(ask.bytes));
        if self.sent.len() > remembered {
            // Who does not wait is at most a lag behind.
            self.sent.retain(|sharer, _| self.waiting.contains_key(sharer));
        }
        Some(ask)
    }

    fn cancel(&mut self, sharer: &S, id: Id) {
        if let Some(asks) = self.waiting.get_mut(sharer) {
            asks.retain(|ask| ask.id != id);
            if asks.is_empty() {
                self.waiting.remove(sharer);
            }
        }
    }
}

/// See the module. The number of askers is bounded by the places.
#[derive(Debug)]
pub(super) struct Rates<S: Sharer> {
    limits: Limits,
    /// Peers and sharers remembered. Beyond that, those are forgotten who are owed the least.
    remembered: usize,
    total: Option<Bucket>,
    /// Those of peers that were sent something lately; one that is not here is full.
    peers: HashMap<S::Peer, Bucket>,
    play: Lane<S>,
    bulk: Lane<S>,
    /// Play bytes that went while bulk waited, less what bulk has had of them.
    owed: u64,
}

impl<S: Sharer> Rates<S> {
    pub(super) fn new(limits: Limits, remembered: usize, now: Instant) -> Self {
        let mut rates = Self {
            limits: Limits::default(),
            remembered,
            total: None,
            peers: HashMap::new(),
            play: Lane::new(),
            bulk: Lane::new(),
            owed: 0,
        };
        rates.set(limits, now);
        rates
    }

    /// Changes the limits from now on.
    pub(super) fn set(&mut self, limits: Limits, now: Instant) {
        match (&mut self.total, limits.total) {
            (Some(bucket), Some(rate)) => bucket.set(rate, burst(rate), now),
            (total, rate) => *total = rate.map(|rate| Bucket::new(rate, burst(rate), now)),
        }
        match limits.peer {
            Some(rate) => self.peers.values_mut().for_each(|bucket| bucket.set(rate, burst(rate), now)),
            None => self.peers.clear(),
        }
        self.limits = limits;
    }

    /// Bytes that are asked for at once.
    pub(super) fn piece(&self) -> Option<u64> {
        let slowest = [self.limits.total, self.limits.peer].into_iter().flatten().min()?;
        Some((slowest.get() / PIECES_PER_SECOND).clamp(SHORTEST_PIECE, LONGEST_PIECE))
    }

    /// Waits for a turn with at most [`LONGEST_PIECE`]. One asker waits for one piece at a time.
    pub(super) fn ask(&mut self, id: Id, sharer: S, mode: AudioMode, bytes: u64) {
        let ask = Ask { id, bytes: bytes.min(LONGEST_PIECE) };
        self.lane(mode).waiting.entry(sharer).or_default().push_back(ask);
    }

    /// Waits no longer.
    pub(super) fn cancel(&mut self, id: Id, sharer: &S, mode: AudioMode) {
        self.lane(mode).cancel(sharer, id);
    }

    /// Lets go whoever may.
    pub(super) fn turn(&mut self, now: Instant) -> Turn {
        if let Some(total) = &mut self.total {
            total.fill(now);
        }
        self.peers.values_mut().for_each(|bucket| bucket.fill(now));
        let mut granted = Vec::new();
        let held_up = loop {
            let Some((mode, sharer, bytes)) = self.next() else { break None };
            if let Some(total) = self.total.as_ref().filter(|total| !total.has(bytes)) {
                break Some(total.ready_at(bytes));
            }
            if let Some(ask) = self.grant(mode, sharer, now) {
                granted.push((ask.id, ask.bytes));
            }
        };
        let wake = [held_up, self.next_peer_ready()].into_iter().flatten().min();
        Turn { granted, wake }
    }

    /// Whose turn it is, whether or not there is enough in all.
    fn next(&self) -> Option<(AudioMode, S, u64)> {
        let fits = |sharer: &S, bytes| {
            sharer.peers().all(|peer| self.peers.get(&peer).is_none_or(|bucket| bucket.has(bytes)))
        };
        let play = self.play.first(fits).map(|(sharer, bytes)| (AudioMode::Play, sharer, bytes));
        let bulk = self.bulk.first(fits).map(|(sharer, bytes)| (AudioMode::Bulk, sharer, bytes));
        match (play, bulk) {
            (Some(_), Some((_, _, bytes))) if self.owed >= bytes.saturating_mul(BULK_SHARE - 1) => bulk,
            (Some(play), _) => Some(play),
            (None, bulk) => bulk,
        }
    }

    fn grant(&mut self, mode: AudioMode, sharer: S, now: Instant) -> Option<Ask> {
        let bulk_waits = !self.bulk.waiting.is_empty();
        let remembered = self.remembered;
        let ask = self.lane(mode).serve(sharer, remembered)?;
        match mode {
            AudioMode::Play if bulk_waits => {
                let most = LONGEST_PIECE.saturating_mul(BULK_SHARE - 1);
                self.owed = self.owed.saturating_add(ask.bytes).min(most);
            }
            AudioMode::Play => {}
            AudioMode::Bulk => {
                self.owed = self.owed.saturating_sub(ask.bytes.saturating_mul(BULK_SHARE - 1));
            }
        }
        if let Some(total) = &mut self.total {
            total.take(ask.bytes);
        }
        if let Some(rate) = self.limits.peer {
            for peer in sharer.peers() {
                if self.peers.len() >= remembered {
                    self.forget_full(burst(rate));
                }
                let bucket = self.peers.entry(peer).or_insert_with(|| Bucket::new(rate, burst(rate), now));
                bucket.take(ask.bytes);
            }
        }
        Some(ask)
    }

    /// Makes room among the buckets of peers.
    fn forget_full(&mut self, burst: u64) {
        self.peers.retain(|_, bucket| !bucket.is_full());
        if self.peers.len() >= self.remembered {
            let fullest = self.peers.iter().min_by_key(|(_, bucket)| bucket.ready_at(burst));
            if let Some(peer) = fullest.map(|(peer, _)| *peer) {
                self.peers.remove(&peer);
            }
        }
    }

    /// When the first of those goes whom only its own rate holds up.
    fn next_peer_ready(&self) -> Option<Instant> {
        let heads = [&self.play, &self.bulk].into_iter().flat_map(|lane| &lane.waiting);
        let ready = heads.filter_map(|(sharer, asks)| {
            let bytes = asks.front()?.bytes;
            let buckets = sharer.peers().filter_map(|peer| self.peers.get(&peer));
            buckets.filter(|bucket| !bucket.has(bytes)).map(|bucket| bucket.ready_at(bytes)).max()
        });
        ready.min()
    }

    fn lane(&mut self, mode: AudioMode) -> &mut Lane<S> {
        match mode {
            AudioMode::Play => &mut self.play,
            AudioMode::Bulk => &mut self.bulk,
        }
    }
}

/// Never shorter than a piece, which could else never go.
fn burst(rate: NonZeroU64) -> u64 {
    (rate.get() / BURSTS_PER_SECOND).max(LONGEST_PIECE)
}

#[cfg(test)]
#[path = "rates_tests.rs"]
mod tests;
