//! Who may send how many bytes now: the rates in all and for each peer.
//!
//! Whoever has a piece to send asks and waits for its turn. Play goes before bulk, but for a twentieth that bulk is
//! owed. Among the peers of a mode, the one that has been sent the least goes first, however many pieces of it wait; a
//! peer that was away for a moment is remembered for [`LAG_BYTES`], no longer, so that nobody saves up. (This is what a
//! deficit round robin does, for askers that come back for each piece.) Nobody overtakes the one whose turn it is while
//! the rate in all has too little for it; whom only its own rate holds up is passed by.
//!
//! Pure: the time is passed in.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    num::NonZeroU64,
    time::Instant,
};

use antiphon_proto::wire::AudioMode;

use super::{Id, bucket::Bucket};

/// The longest piece under a limit: at 1 MB/s, play waits 65 ms for one that is on its way.
pub(super) const LONGEST_PIECE: u64 = 64 * 1024;
/// The shortest: one chunk group. Shorter ones bring the receiver nothing that it can verify.
const SHORTEST_PIECE: u64 = 16 * 1024;
/// Pieces a second and asker under a limit: often enough for an even flow, at moderate cost.
const PIECES_PER_SECOND: u64 = 20;
/// An idle bucket holds what its rate gives in this part of a second: what timers that are late cost is made up.
const BURSTS_PER_SECOND: u64 = 8;
/// Of so many bytes, bulk gets one while play takes all it can: 5 %, so that a download does not time out.
const BULK_SHARE: u64 = 20;
/// How far behind the others a peer may fall before it is forgotten: a few of the longest pieces.
const LAG_BYTES: u64 = 4 * LONGEST_PIECE;
/// Peers remembered: as many as are connected by default. Beyond that, those are forgotten who are owed the least.
const REMEMBERED_PEERS: usize = 256;

/// Bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Limits {
    pub(super) total: Option<NonZeroU64>,
    pub(super) peer: Option<NonZeroU64>,
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
struct Lane<P> {
    waiting: HashMap<P, VecDeque<Ask>>,
    /// Bytes that a peer was sent, as far as they count beside others.
    sent: HashMap<P, u64>,
    /// Where the peer that was served last stood.
    level: u64,
}

impl<P: Copy + Eq + Hash + Ord> Lane<P> {
    fn new() -> Self {
        Self { waiting: HashMap::new(), sent: HashMap::new(), level: 0 }
    }

    fn stand(&self, peer: &P) -> u64 {
        match self.sent.get(peer) {
            Some(&sent) if sent.saturating_add(LAG_BYTES) >= self.level => sent,
            _ => self.level,
        }
    }

    /// The peer whose turn it is among those that fit, and the bytes that it asks for first.
    fn first(&self, fits: impl Fn(&P, u64) -> bool) -> Option<(P, u64)> {
        let heads = self.waiting.iter().filter_map(|(peer, asks)| Some((*peer, asks.front()?.bytes)));
        heads.filter(|(peer, bytes)| fits(peer, *bytes)).min_by_key(|(peer, _)| (self.stand(peer), *peer))
    }

    fn serve(&mut self, peer: P) -> Option<Ask> {
        let stand = self.stand(&peer);
        let asks = self.waiting.get_mut(&peer)?;
        let ask = asks.pop_front()?;
        if asks.is_empty() {
            self.waiting.remove(&peer);
        }
        self.level = self.level.max(stand);
        self.sent.insert(peer, stand.saturating_add(ask.bytes));
        if self.sent.len() > REMEMBERED_PEERS {
            // Who does not wait is at most a lag behind.
            self.sent.retain(|peer, _| self.waiting.contains_key(peer));
        }
        Some(ask)
    }

    fn cancel(&mut self, peer: &P, id: Id) {
        if let Some(asks) = self.waiting.get_mut(peer) {
            asks.retain(|ask| ask.id != id);
            if asks.is_empty() {
                self.waiting.remove(peer);
            }
        }
    }
}

/// See the module. The number of askers is bounded by the places.
#[derive(Debug)]
pub(super) struct Rates<P> {
    limits: Limits,
    total: Option<Bucket>,
    /// Those of peers that were sent something lately; one that is not here is full.
    peers: HashMap<P, Bucket>,
    play: Lane<P>,
    bulk: Lane<P>,
    /// Play bytes that went while bulk waited, less what bulk has had of them.
    owed: u64,
}

impl<P: Copy + Eq + Hash + Ord> Rates<P> {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        let mut rates = Self {
            limits: Limits::default(),
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
    pub(super) fn ask(&mut self, id: Id, peer: P, mode: AudioMode, bytes: u64) {
        let ask = Ask { id, bytes: bytes.min(LONGEST_PIECE) };
        self.lane(mode).waiting.entry(peer).or_default().push_back(ask);
    }

    /// Waits no longer.
    pub(super) fn cancel(&mut self, id: Id, peer: &P, mode: AudioMode) {
        self.lane(mode).cancel(peer, id);
    }

    /// Lets go whoever may.
    pub(super) fn turn(&mut self, now: Instant) -> Turn {
        if let Some(total) = &mut self.total {
            total.fill(now);
        }
        self.peers.values_mut().for_each(|bucket| bucket.fill(now));
        let mut granted = Vec::new();
        let held_up = loop {
            let Some((mode, peer, bytes)) = self.next() else { break None };
            if let Some(total) = self.total.as_ref().filter(|total| !total.has(bytes)) {
                break Some(total.ready_at(bytes));
            }
            if let Some(ask) = self.grant(mode, peer, now) {
                granted.push((ask.id, ask.bytes));
            }
        };
        let wake = [held_up, self.next_peer_ready()].into_iter().flatten().min();
        Turn { granted, wake }
    }

    /// Whose turn it is, whether or not there is enough in all.
    fn next(&self) -> Option<(AudioMode, P, u64)> {
        let fits = |peer: &P, bytes| self.peers.get(peer).is_none_or(|bucket| bucket.has(bytes));
        let play = self.play.first(fits).map(|(peer, bytes)| (AudioMode::Play, peer, bytes));
        let bulk = self.bulk.first(fits).map(|(peer, bytes)| (AudioMode::Bulk, peer, bytes));
        match (play, bulk) {
            (Some(_), Some((_, _, bytes))) if self.owed >= bytes.saturating_mul(BULK_SHARE - 1) => bulk,
            (Some(play), _) => Some(play),
            (None, bulk) => bulk,
        }
    }

    fn grant(&mut self, mode: AudioMode, peer: P, now: Instant) -> Option<Ask> {
        let bulk_waits = !self.bulk.waiting.is_empty();
        let ask = self.lane(mode).serve(peer)?;
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
            if self.peers.len() >= REMEMBERED_PEERS {
                self.forget_full(burst(rate));
            }
            let bucket = self.peers.entry(peer).or_insert_with(|| Bucket::new(rate, burst(rate), now));
            bucket.take(ask.bytes);
        }
        Some(ask)
    }

    /// Makes room among the buckets of peers.
    fn forget_full(&mut self, burst: u64) {
        self.peers.retain(|_, bucket| !bucket.is_full());
        if self.peers.len() >= REMEMBERED_PEERS {
            let fullest = self.peers.iter().min_by_key(|(_, bucket)| bucket.ready_at(burst));
            if let Some(peer) = fullest.map(|(peer, _)| *peer) {
                self.peers.remove(&peer);
            }
        }
    }

    /// When the first of those goes whom only its own rate holds up.
    fn next_peer_ready(&self) -> Option<Instant> {
        let heads = [&self.play, &self.bulk].into_iter().flat_map(|lane| &lane.waiting);
        let ready = heads.filter_map(|(peer, asks)| {
            let (bucket, bytes) = (self.peers.get(peer)?, asks.front()?.bytes);
            (!bucket.has(bytes)).then(|| bucket.ready_at(bytes))
        });
        ready.min()
    }

    fn lane(&mut self, mode: AudioMode) -> &mut Lane<P> {
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
