//! Songs that receipts name: whoever settles asks for the same ones again and again, and a block on disk is the slow part.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use antiphon_proto::{SongId, wire::Song};

/// Songs of one half of the memory: some 2 MB.
const HALF: usize = 4_096;

/// Songs without their fingerprints, with their indexes. A song in the ledger never changes.
#[derive(Default)]
pub(crate) struct Heard(Mutex<Halves>);

/// What was asked for lately, and what was before that. The older half is forgotten when the newer one is full.
#[derive(Default)]
struct Halves {
    new: HashMap<SongId, (u64, Song)>,
    old: HashMap<SongId, (u64, Song)>,
}

impl Halves {
    fn put(&mut self, id: SongId, known: (u64, Song)) {
        if self.new.len() >= HALF {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(id, known);
    }
}

impl Heard {
    fn halves(&self) -> MutexGuard<'_, Halves> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: &SongId) -> Option<(u64, Song)> {
        let mut halves = self.halves();
        if let Some(known) = halves.new.get(id) {
            return Some(known.clone());
        }
        let known = halves.old.remove(id)?;
        halves.put(*id, known.clone());
        Some(known)
    }

    pub(crate) fn put(&self, id: SongId, index: u64, song: &Song) {
        let song = Song { fingerprint: Vec::new(), ..song.clone() };
        self.halves().put(id, (index, song));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays() {
        let heard = Heard::default();
        let id = |number: u64| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_le_bytes());
            SongId(id)
        };
        let song = Song { fingerprint: vec![1; 2_000], title: "a".to_owned(), ..Song::default() };
        for number in 0..4 * HALF as u64 {
            heard.put(id(number), number, &song);
            assert_eq!(heard.get(&id(0)).unwrap().0, 0);
        }
        assert!(heard.get(&id(1)).is_none());
        assert!(heard.get(&id(4 * HALF as u64 - 1)).unwrap().1.fingerprint.is_empty());
        let halves = heard.halves();
        assert!(halves.new.len() <= HALF && halves.old.len() <= HALF);
    }
}
