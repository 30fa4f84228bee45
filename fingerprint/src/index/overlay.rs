//! Songs that are in the index but not yet in its file.

use std::collections::{BTreeMap, BTreeSet};

use super::chunk::Posting;
use super::slot::Slot;

/// A song in memory.
#[derive(Debug, Clone)]
struct Song {
    duration_ms: u32,
    slots: Box<[Slot]>,
}

/// The songs inserted since the last flush, about 2 KiB each.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    songs: BTreeMap<u64, Song>,
    postings: BTreeSet<(Slot, u64)>,
}

impl Overlay {
    pub(super) fn len(&self) -> usize {
        self.songs.len()
    }

    pub(super) fn postings(&self) -> usize {
        self.postings.len()
    }

    pub(super) fn insert(&mut self, key: u64, duration_ms: u32, slots: Box<[Slot]>) {
        self.postings.extend(slots.iter().map(|&slot| (slot, key)));
        self.songs.insert(key, Song { duration_ms, slots });
    }

    /// Forgets the songs from ledger index `size` on.
    pub(super) fn truncate(&mut self, size: u64) {
        for (key, song) in self.songs.split_off(&size) {
            for &slot in &song.slots {
                self.postings.remove(&(slot, key));
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.songs.clear();
        self.postings.clear();
    }

    /// Songs that have the hash, rising.
    pub(super) fn list(&self, slot: Slot) -> impl Iterator<Item = u64> + '_ {
        self.postings.range((slot, 0)..=(slot, u64::MAX)).map(|&(_, key)| key)
    }

    pub(super) fn duration(&self, key: u64) -> Option<u32> {
        self.songs.get(&key).map(|song| song.duration_ms)
    }

    /// Ledger indexes and durations, rising.
    pub(super) fn durations(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.songs.iter().map(|(&key, song)| (key, song.duration_ms))
    }

    pub(super) fn first_key(&self) -> Option<u64> {
        self.songs.first_key_value().map(|(&key, _)| key)
    }

    /// The postings of a partition, rising.
    pub(super) fn partition(&self, partition: u8) -> impl Iterator<Item = Posting> + '_ {
        let (first, last) = Slot::bounds(partition);
        self.postings
            .range((first, 0)..=(last, u64::MAX))
            .map(|&(slot, key)| Posting { rest: slot.rest(), key })
    }
}
