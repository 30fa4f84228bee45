//! Counted places, in all and for each peer (or whatever else takes them).

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use libp2p::PeerId;

#[derive(Debug)]
struct Taken<K> {
    total: usize,
    by_peer: HashMap<K, usize>,
}

/// A number of places that peers share; no peer may take more than its part.
#[derive(Debug, Clone)]
pub(crate) struct Slots<K = PeerId> {
    total: usize,
    per_peer: usize,
    taken: Arc<Mutex<Taken<K>>>,
}

/// A place, free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot<K: Eq + Hash = PeerId> {
    peer: K,
    taken: Arc<Mutex<Taken<K>>>,
}

impl<K: Copy + Eq + Hash> Slots<K> {
    pub(crate) fn new(total: usize, per_peer: usize) -> Self {
        let taken = Taken { total: 0, by_peer: HashMap::new() };
        Self { total, per_peer, taken: Arc::new(Mutex::new(taken)) }
    }

    /// A place for the peer, if there is one.
    pub(crate) fn take(&self, peer: K) -> Option<Slot<K>> {
        let mut taken = lock(&self.taken);
        if taken.total >= self.total {
            return None;
        }
        let of_peer = taken.by_peer.get(&peer).copied().unwrap_or(0);
        if of_peer >= self.per_peer {
            return None;
        }
        taken.by_peer.insert(peer, of_peer + 1);
        taken.total += 1;
        Some(Slot { peer, taken: self.taken.clone() })
    }

    /// Places taken.
    #[cfg(test)]
    pub(crate) fn in_use(&self) -> usize {
        lock(&self.taken).total
    }
}

impl<K: Eq + Hash> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.total = taken.total.saturating_sub(1);
        match taken.by_peer.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                taken.by_peer.remove(&self.peer);
            }
        }
    }
}

// The counters are whole at every unlock, so a panic elsewhere while they were locked changes nothing.
fn lock<K>(taken: &Mutex<Taken<K>>) -> MutexGuard<'_, Taken<K>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let slots = Slots::new(3, 2);
        let (one, two) = (PeerId::random(), PeerId::random());
        let first = slots.take(one);
        let _second = slots.take(one);
        assert!(slots.take(one).is_none());
        let third = slots.take(two);
        assert!(third.is_some() && slots.take(two).is_none());
        drop(first);
        assert!(slots.take(one).is_some());
        drop(third);
        assert_eq!((slots.in_use(), lock(&slots.taken).by_peer.len()), (1, 1));
    }
}
