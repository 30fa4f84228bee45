//! Who may send at all: places in all and for each peer, and who waits for one.
//!
//! Play never waits behind bulk: some places are kept for it, and when all are taken, a bulk upload of the peer that has
//! the most of them is paused and gives its place up, until one is free again. (Its file and buffers stay open, so that
//! there are at most twice as many uploads as places.) Otherwise a request waits: play before bulk, and among the same
//! mode the peer that has the fewest places goes first, then the one that waits longest. When too many wait, the peer
//! that waits with the most loses its newest, bulk before play.
//!
//! Pure: no clock. How long anything waits is the caller's to say.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

use antiphon_proto::wire::AudioMode;

use super::Id;

/// How many of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Places in all.
    pub(super) total: usize,
    /// Places of one peer.
    pub(super) per_peer: usize,
    /// Places that bulk never takes; at least one remains for it.
    pub(super) play_reserve: usize,
    /// Requests that wait.
    pub(super) queue: usize,
}

impl Bounds {
    fn for_bulk(&self) -> usize {
        self.total.saturating_sub(self.play_reserve).max(self.total.min(1))
    }
}

/// What the caller is to do.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// This request has a place now.
    Admit(Id),
    /// This one waits no longer and gets none.
    Refuse(Id),
    /// This upload has lost its place for a while.
    Pause(Id),
    /// This one has a place again.
    Resume(Id),
}

/// Requests of one mode that wait.
#[derive(Debug)]
struct Queue<P> {
    /// Who has waited longest since it was last served goes first.
    order: VecDeque<P>,
    waiting: HashMap<P, VecDeque<Id>>,
    length: usize,
}

impl<P: Copy + Eq + Hash> Queue<P> {
    fn new() -> Self {
        Self { order: VecDeque::new(), waiting: HashMap::new(), length: 0 }
    }

    fn push(&mut self, peer: P, id: Id) {
        let ids = self.waiting.entry(peer).or_default();
        if ids.is_empty() {
            self.order.push_back(peer);
        }
        ids.push_back(id);
        self.length += 1;
    }

    /// Takes the oldest request of the peer with the smallest key; those without a key cannot be served now.
    fn take(&mut self, key: impl Fn(&P) -> Option<usize>) -> Option<(P, Id)> {
        let keys = self.order.iter().enumerate().filter_map(|(position, peer)| Some((key(peer)?, position)));
        let (_, position) = keys.min()?;
        let peer = self.order.remove(position)?;
        let ids = self.waiting.get_mut(&peer)?;
        let id = ids.pop_front()?;
        self.length -= 1;
        if ids.is_empty() {
            self.waiting.remove(&peer);
        } else {
            self.order.push_back(peer);
        }
        Some((peer, id))
    }

    /// Takes the newest request of the peer that waits with the most.
    fn take_from_greediest(&mut self) -> Option<Id> {
        let peer = *self.order.iter().max_by_key(|peer| self.waiting.get(*peer).map_or(0, VecDeque::len))?;
        let id = *self.waiting.get(&peer)?.back()?;
        self.remove(id).then_some(id)
    }

    fn remove(&mut self, id: Id) -> bool {
        let Some((&peer, ids)) = self.waiting.iter_mut().find(|(_, ids)| ids.contains(&id)) else {
            return false;
        };
        ids.retain(|other| *other != id);
        self.length -= 1;
        if ids.is_empty() {
            self.waiting.remove(&peer);
            self.order.retain(|other| *other != peer);
        }
        true
    }
}

#[derive(Debug, Clone, Copy)]
struct Open<P> {
    peer: P,
    mode: AudioMode,
    paused: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Places<P> {
    bounds: Bounds,
    /// Running and paused; at most twice the places.
    open: HashMap<Id, Open<P>>,
    /// The longest paused first.
    paused: VecDeque<Id>,
    play: Queue<P>,
    bulk: Queue<P>,
}

impl<P: Copy + Eq + Hash> Places<P> {
    pub(super) fn new(bounds: Bounds) -> Self {
        let (play, bulk) = (Queue::new(), Queue::new());
        Self { bounds, open: HashMap::new(), paused: VecDeque::new(), play, bulk }
    }

    /// Changes the bounds. Who runs beyond the new ones runs on.
    #[must_use]
    pub(super) fn set(&mut self, bounds: Bounds) -> Vec<Effect> {
        self.bounds = bounds;
        let mut effects = self.fill();
        self.shorten(&mut effects);
        effects
    }

    /// Asks for a place. Ids rise from one to the next.
    #[must_use]
    pub(super) fn enter(&mut self, id: Id, peer: P, mode: AudioMode) -> Vec<Effect> {
        self.queue(mode).push(peer, id);
        let mut effects = self.fill();
        self.shorten(&mut effects);
        effects
    }

    /// Gives a place up, or waits for one no longer. Does nothing for an id that is not known any more.
    #[must_use]
    pub(super) fn leave(&mut self, id: Id) -> Vec<Effect> {
        match self.open.remove(&id) {
            Some(open) if open.paused => self.paused.retain(|other| *other != id),
            Some(_) => {}
            None => {
                let _ = self.play.remove(id) || self.bulk.remove(id);
            }
        }
        self.fill()
    }

    /// Requests that wait.
    pub(super) fn waiting(&self, mode: AudioMode) -> usize {
        match mode {
            AudioMode::Play => self.play.length,
            AudioMode::Bulk => self.bulk.length,
        }
    }

    fn queue(&mut self, mode: AudioMode) -> &mut Queue<P> {
        match mode {
            AudioMode::Play => &mut self.play,
            AudioMode::Bulk => &mut self.bulk,
        }
    }

    /// Gives out what is free, play first, then to those that were paused.
    fn fill(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        loop {
            let taken = self.taken();
            if let Some((peer, id)) = self.play.take(|peer| taken.for_play(&self.bounds, peer)) {
                if let Some(victim) = self.victim(&taken, &peer) {
                    self.pause(victim);
                    effects.push(Effect::Pause(victim));
                }
                self.open.insert(id, Open { peer, mode: AudioMode::Play, paused: false });
                effects.push(Effect::Admit(id));
            } else if let Some(id) = self.resumable(&taken) {
                self.resume(id);
                effects.push(Effect::Resume(id));
            } else if let Some((peer, id)) = self.bulk.take(|peer| taken.for_bulk(&self.bounds, peer)) {
                self.open.insert(id, Open { peer, mode: AudioMode::Bulk, paused: false });
                effects.push(Effect::Admit(id));
            } else {
                return effects;
            }
        }
    }

    /// Refuses what is too much to wait.
    fn shorten(&mut self, effects: &mut Vec<Effect>) {
        while self.play.length + self.bulk.length > self.bounds.queue {
            let refused = self.bulk.take_from_greediest().or_else(|| self.play.take_from_greediest());
            let Some(id) = refused else { return };
            effects.push(Effect::Refuse(id));
        }
    }

    /// The bulk upload that makes room for a play upload of the peer, if none is free: one of its own when it has all
    /// that a peer may have, else one of the peer that runs the most.
    fn victim(&self, taken: &Taken<P>, peer: &P) -> Option<Id> {
        let own = taken.of(peer) >= self.bounds.per_peer;
        if !own && taken.running < self.bounds.total {
            return None;
        }
        let running = self.open.iter().filter(|(_, open)| open.mode == AudioMode::Bulk && !open.paused);
        let eligible = running.filter(|(_, open)| !own || open.peer == *peer);
        // The newest has the least to lose.
        eligible.max_by_key(|(id, open)| (taken.bulk_of(&open.peer), **id)).map(|(id, _)| *id)
    }

    fn pause(&mut self, id: Id) {
        if let Some(open) = self.open.get_mut(&id) {
            open.paused = true;
            self.paused.push_back(id);
        }
    }

    fn resumable(&self, taken: &Taken<P>) -> Option<Id> {
        let fits = |id: &&Id| {
            self.open.get(*id).is_some_and(|open| {
                taken.running < self.bounds.total && taken.of(&open.peer) < self.bounds.per_peer
            })
        };
        self.paused.iter().find(fits).copied()
    }

    fn resume(&mut self, id: Id) {
        if let Some(open) = self.open.get_mut(&id) {
            open.paused = false;
            self.paused.retain(|other| *other != id);
        }
    }

    fn taken(&self) -> Taken<P> {
        let mut taken = Taken { running: 0, bulk: 0, paused: self.paused.len(), by_peer: HashMap::new() };
        for open in self.open.values() {
            let is_bulk = open.mode == AudioMode::Bulk;
            taken.bulk += usize::from(is_bulk);
            if !open.paused {
                taken.running += 1;
                let of_peer = taken.by_peer.entry(open.peer).or_insert((0, 0));
                of_peer.0 += 1;
                of_peer.1 += usize::from(is_bulk);
            }
        }
        taken
    }
}

/// How many places are taken. Counted anew for each decision: there are few, and decisions are rare.
#[derive(Debug)]
struct Taken<P> {
    running: usize,
    /// Bulk uploads, paused ones too.
    bulk: usize,
    paused: usize,
    /// Running ones of each peer, and how many of them are bulk.
    by_peer: HashMap<P, (usize, usize)>,
}

impl<P: Eq + Hash> Taken<P> {
    fn of(&self, peer: &P) -> usize {
        self.by_peer.get(peer).map_or(0, |(all, _)| *all)
    }

    fn bulk_of(&self, peer: &P) -> usize {
        self.by_peer.get(peer).map_or(0, |(_, bulk)| *bulk)
    }

    /// Whether a play request of the peer gets a place, if need be one of bulk; the key is how many the peer has.
    fn for_play(&self, bounds: &Bounds, peer: &P) -> Option<usize> {
        let running_bulk = self.bulk - self.paused;
        let fits = if self.of(peer) >= bounds.per_peer {
            self.bulk_of(peer) > 0 && self.running <= bounds.total
        } else {
            self.running < bounds.total || (running_bulk > 0 && self.running <= bounds.total)
        };
        fits.then(|| self.of(peer) - self.bulk_of(peer))
    }

    /// The same for a bulk request, which waits for all that are paused.
    fn for_bulk(&self, bounds: &Bounds, peer: &P) -> Option<usize> {
        let fits = self.paused == 0
            && self.bulk < bounds.for_bulk()
            && self.running < bounds.total
            && self.of(peer) < bounds.per_peer;
        fits.then(|| self.of(peer))
    }
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
