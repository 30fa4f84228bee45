//! Near-duplicate index: which songs of the ledger could be the same recording as this one.
//!
//! Every song has 64 hashes ([`bottom_hashes`]) and for each hash the index lists the songs that have it. A song
//! that shares two or more with a query is a candidate, which [`MatchRule`] then judges by the whole fingerprints; those
//! come from the ledger.
//!
//! The index is derived data: it can be deleted at any time and filled again from the ledger. But what it answers
//! decides whether a registration is accepted, so the answers depend on the songs inserted and on nothing else: not
//! on when they were flushed, nor on what was still in memory. What an answer leaves out, it leaves out by rule:
//!
//! - a list keeps its first [`LIST_SONGS`] songs in ledger order;
//! - a song whose duration is more than 7 s from the query's is no candidate;
//! - of the rest, the [`MAX_CANDIDATES`] with the most hits stay, of equal hits the earlier in the ledger;
//! - a song with fewer than two distinct hashes, such as pure silence, has no candidates.
//!
//! The owner (one task) calls [`Index::insert`] for each song in ledger order and [`Index::flush`] after the ledger has
//! committed. After a crash [`Index::next_key`] says from where to insert again.

mod chunk;
mod durations;
mod error;
mod merge;
mod overlay;
mod slot;
mod store;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::path::Path;

pub use error::{FindError, IndexError};

use crate::matching::{Candidate, Comparison, MatchRule, Query, Verdict, bottom_hashes};
use overlay::Overlay;
use slot::Slot;
use store::{Snapshot, Store};

/// Songs that the list of one hash keeps, the first in ledger order. Silence and test tones give the same few hashes
/// in very many songs, and a query must not read them all: it reads at most 64 lists, so 131,072 songs.
/// With 100 million songs a usual list has about 350, far less.
pub const LIST_SONGS: usize = 2_048;

/// Hashes that a candidate shares with the query.
pub const MIN_HITS: usize = 2;

/// Most candidates of a query: each costs a read of the ledger and a comparison of some 50 us. A true copy shares 20
/// hashes and more, chance two or three, so it is among the first.
pub const MAX_CANDIDATES: usize = 128;

/// Songs in memory at which the owner should flush: about 4 MiB, and enough for each of the 256 partitions to get pages
/// that are half full.
pub const FLUSH_SONGS: usize = 2_048;

/// Most songs in memory, 8 MiB: room for several ledger batches of 340 after [`Index::should_flush`] first says so.
pub const MAX_OVERLAY_SONGS: usize = 4_096;

/// Ledger indexes from here on are refused. Nothing real comes near, and one bit is needed as a flag.
const KEY_LIMIT: u64 = 1 << 62;

/// The settings that tests make small.
#[derive(Debug, Clone, Copy)]
struct Limits {
    list_songs: usize,
    candidates: usize,
    flush_songs: usize,
    overlay_songs: usize,
}

impl Limits {
    const V1: Self = Self {
        list_songs: LIST_SONGS,
        candidates: MAX_CANDIDATES,
        flush_songs: FLUSH_SONGS,
        overlay_songs: MAX_OVERLAY_SONGS,
    };
}

/// The near-duplicate index of a ledger.
#[derive(Debug)]
pub struct Index {
    store: Store,
    overlay: Overlay,
    next: u64,
    limits: Limits,
}

/// A song of the ledger, compared with the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its ledger index.
    pub key: u64,
    /// The query (first) against it (second).
    pub comparison: Comparison,
}

/// A song as the ledger gives it for comparison: raw items and duration in milliseconds; none when there is none.
pub type Fetched = Option<(Vec<u32>, u32)>;

/// How large the index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexStats {
    /// Songs, those in memory included.
    pub songs: u64,
    /// Entries of all lists, those in memory included.
    pub postings: u64,
    /// Songs in memory only.
    pub overlay_songs: usize,
    /// Most runs in a partition: pages that a look-up of a hash reads.
    pub longest_run_list: usize,
    /// Size of the file.
    pub file_bytes: u64,
}

impl Index {
    /// Opens the index at `path`, or creates it when nothing is there (its folder must exist).
    ///
    /// # Errors
    /// [`IndexError::wants_fresh`] says whether to go on with [`Index::create_fresh`]; else the file is in use or
    /// the disk failed.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        Self::open_with(path, Limits::V1)
    }

    fn open_with(path: &Path, limits: Limits) -> Result<Self, IndexError> {
        let store = Store::open(path)?;
        let next = store.next();
        Ok(Self { store, overlay: Overlay::default(), next, limits })
    }

    /// Deletes what is at `path` and starts empty.
    ///
    /// # Errors
    /// When a process has the file open, or the disk fails.
    pub fn create_fresh(path: &Path) -> Result<Self, IndexError> {
        let refused = |error: std::io::Error| IndexError::from(error).at(path);
        match std::fs::File::open(path) {
            Ok(file) => match file.try_lock() {
                Ok(()) => std::fs::remove_file(path).map_err(refused)?,
                Err(std::fs::TryLockError::WouldBlock) => return Err(IndexError::Locked),
                Err(std::fs::TryLockError::Error(error)) => return Err(refused(error)),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(refused(error)),
        }
        Self::open(path)
    }

    /// The lowest ledger index that may still be inserted: those below are covered, on disk or in memory.
    #[must_use]
    pub const fn next_key(&self) -> u64 {
        self.next
    }

    /// The lowest ledger index that is not covered on disk.
    #[must_use]
    pub const fn durable_key(&self) -> u64 {
        self.store.next()
    }

    /// Adds the song with ledger index `key`. Queries see it at once; it is durable after [`Index::flush`].
    ///
    /// # Errors
    /// When `key` is below [`Index::next_key`], or [`MAX_OVERLAY_SONGS`] wait for a flush.
    pub fn insert(&mut self, key: u64, items: &[u32], duration_ms: u32) -> Result<(), IndexError> {
        if key < self.next || key >= KEY_LIMIT {
            return Err(IndexError::NotRising { key, next: self.next });
        }
        if self.overlay.len() >= self.limits.overlay_songs {
            return Err(IndexError::Full { songs: self.overlay.len() });
        }
        let slots = bottom_hashes(items).into_iter().map(Slot::of).collect();
        self.overlay.insert(key, duration_ms, slots);
        self.next = key + 1;
        Ok(())
    }

    /// Marks the ledger indexes below `next` as covered: blocks that are not songs. A lower number changes nothing.
    pub fn skip_to(&mut self, next: u64) {
        self.next = self.next.max(next.min(KEY_LIMIT));
    }

    /// Goes back to a ledger of `size` blocks: forgets the songs from that index on, for a batch that was proposed and
    /// then abandoned. A larger size than the present changes nothing.
    ///
    /// # Errors
    /// When songs at or above `size` are durable already.
    pub fn truncate(&mut self, size: u64) -> Result<(), IndexError> {
        let durable = self.store.next();
        if size < durable {
            return Err(IndexError::Durable { size, durable });
        }
        self.overlay.truncate(size);
        self.next = self.next.min(size);
        Ok(())
    }

    /// Whether enough songs wait in memory to be worth writing.
    #[must_use]
    pub fn should_flush(&self) -> bool {
        self.overlay.len() >= self.limits.flush_songs
    }

    /// Makes everything inserted so far durable, in one transaction. Call it when the ledger has committed these blocks:
    /// [`Index::truncate`] cannot go behind it.
    ///
    /// # Errors
    /// When the disk fails. The index then refuses all work until it is opened again; nothing wrong is ever read.
    pub fn flush(&mut self) -> Result<(), IndexError> {
        if self.overlay.len() == 0 && self.next == self.store.next() {
            return Ok(());
        }
        self.store.write(&self.overlay, self.next, self.limits.list_songs)?;
        self.overlay.clear();
        Ok(())
    }

    /// Ledger indexes of the songs that may match, by the rule in the module's description.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn candidates(&self, items: &[u32], duration_ms: u32) -> Result<Vec<u64>, IndexError> {
        self.ranked(items, Some(duration_ms))
    }

    /// The match with the lowest error rate, of equal rates the earliest in the ledger. `fetch` reads a song's items and
    /// duration from the ledger, in memory or on disk, by its index.
    ///
    /// # Errors
    /// When the index or `fetch` fails, or the ledger lacks a song that the index names.
    pub fn find<E>(
        &self,
        items: &[u32],
        duration_ms: u32,
        fetch: &mut dyn FnMut(u64) -> Result<Fetched, E>,
    ) -> Result<Option<Found>, FindError<E>> {
        let keys = self.ranked(items, Some(duration_ms))?;
        let found = best_of(&keys, Candidate::new(items, duration_ms), fetch)?;
        Ok(found.filter(|found| found.comparison.is_match()))
    }

    /// The song that comes nearest, whatever its duration: the match if there is one, else what best explains why
    /// there is none (grey zone first, then another duration, then another recording). For people: it answers
    /// from other candidates than [`Index::find`], so only that one decides.
    ///
    /// # Errors
    /// As [`Index::find`].
    pub fn closest<E>(
        &self,
        items: &[u32],
        duration_ms: u32,
        fetch: &mut dyn FnMut(u64) -> Result<Fetched, E>,
    ) -> Result<Option<Found>, FindError<E>> {
        if let Some(found) = self.find(items, duration_ms, fetch)? {
            return Ok(Some(found));
        }
        let keys = self.ranked(items, None)?;
        best_of(&keys, Candidate::new(items, duration_ms), fetch)
    }

    /// How large the index is.
    ///
    /// # Errors
    /// When the file's size cannot be read.
    pub fn stats(&self) -> Result<IndexStats, IndexError> {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Ok(IndexStats {
            songs: self.store.songs().saturating_add(count(self.overlay.len())),
            postings: self.store.postings().saturating_add(count(self.overlay.postings())),
            overlay_songs: self.overlay.len(),
            longest_run_list: self.store.longest(),
            file_bytes: self.store.file_bytes()?,
        })
    }

    /// Candidates, of a near duration when one is given, best first.
    fn ranked(&self, items: &[u32], duration_ms: Option<u32>) -> Result<Vec<u64>, IndexError> {
        self.store.read(|snapshot| {
            let mut keys = Vec::new();
            for hash in bottom_hashes(items) {
                let slot = Slot::of(hash);
                let stored = snapshot.list(slot, self.limits.list_songs, &mut keys)?;
                keys.extend(self.overlay.list(slot).take(self.limits.list_songs - stored));
            }
            keys.sort_unstable();
            let mut ranked = Vec::new();
            for same in keys.chunk_by(|a, b| a == b) {
                let (Some(&key), true) = (same.first(), same.len() >= MIN_HITS) else { continue };
                if self.is_near(snapshot, key, duration_ms)? {
                    ranked.push((Reverse(same.len()), key));
                }
            }
            // The order is total, so an unstable sort gives every peer the same list.
            ranked.sort_unstable();
            ranked.truncate(self.limits.candidates);
            Ok(ranked.into_iter().map(|(_, key)| key).collect())
        })
    }

    fn is_near(
        &self,
        snapshot: &mut Snapshot<'_>,
        key: u64,
        duration_ms: Option<u32>,
    ) -> Result<bool, IndexError> {
        let Some(wanted) = duration_ms else { return Ok(true) };
        let own = self.overlay.duration(key).map_or_else(|| snapshot.duration(key), |own| Ok(Some(own)))?;
        let own = own.ok_or_else(|| IndexError::Damaged(format!("song {key} has no duration")))?;
        Ok(MatchRule::V1.durations_agree(wanted, own))
    }
}

/// The best of `keys` by verdict, then error rate, then ledger index.
fn best_of<E>(
    keys: &[u64],
    song: Candidate<'_>,
    fetch: &mut dyn FnMut(u64) -> Result<Fetched, E>,
) -> Result<Option<Found>, FindError<E>> {
    let query = Query::new(MatchRule::V1, song);
    let rank = |found: &Found| match found.comparison.verdict {
        Verdict::Match => 0,
        Verdict::GreyZone => 1,
        Verdict::Different(_) => 2,
    };
    let mut best: Option<Found> = None;
    for &key in keys {
        let fetched = fetch(key).map_err(|error| FindError::Fetch { key, error })?;
        let (items, duration_ms) = fetched.ok_or(FindError::Missing { key })?;
        let found = Found { key, comparison: query.compare(Candidate::new(&items, duration_ms)) };
        let order = |other: &Found| {
            let rates = found.comparison.rate().compare(other.comparison.rate());
            rank(&found).cmp(&rank(other)).then(rates).then(key.cmp(&other.key))
        };
        if best.as_ref().is_none_or(|best| order(best).is_lt()) {
            best = Some(found);
        }
    }
    Ok(best)
}
