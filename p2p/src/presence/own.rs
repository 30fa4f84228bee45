//! What this peer itself vouches for, and what it says about it.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use antiphon_proto::{
    ContentHash,
    announcement::{Announcement, Event, Flags},
    limits,
};
use roaring::RoaringBitmap;

use super::digest::LibrarySum;

/// Changes that are told one by one, 96 bytes each. More at once are told as one digest, and whoever lacks them asks: that
/// costs every neighbour a few kilobytes, however many there are.
const DELTAS: usize = 8;
/// Changes told one by one come back at this pace.
const DELTA_EVERY: Duration = Duration::from_millis(250);
/// Time from one digest to the next while the library changes faster than it can be told.
const DIGEST_EVERY: Duration = Duration::from_secs(1);

/// The library at one moment.
#[derive(Debug, Clone)]
pub struct OwnLibrary {
    /// Sequence of the newest announcement that includes it.
    pub sequence: u64,
    /// Ledger indexes.
    pub set: Arc<RoaringBitmap>,
    /// Their sum.
    pub sum: LibrarySum,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Own {
    set: Arc<RoaringBitmap>,
    sum: LibrarySum,
    /// Of the last announcement made.
    sequence: u64,
    /// The sum in it.
    told: LibrarySum,
    ledger_size: u64,
    flags: Flags,
    /// Changes not yet told, each with the sum after it; none when there are too many to tell.
    deltas: VecDeque<(Event, LibrarySum)>,
    overflowed: bool,
    /// Changes that may be told one by one now.
    tokens: usize,
    refilled: Instant,
    digest_at: Option<Instant>,
}

impl Own {
    pub(super) fn new(sequence: u64, now: Instant) -> Self {
        Self {
            set: Arc::default(),
            sum: LibrarySum::default(),
            sequence,
            told: LibrarySum::default(),
            ledger_size: 0,
            flags: Flags::default(),
            deltas: VecDeque::new(),
            overflowed: false,
            tokens: DELTAS,
            refilled: now,
            digest_at: None,
        }
    }

    pub(super) fn set_relayed_only(&mut self, relayed_only: bool) {
        self.flags.relayed_only = relayed_only;
    }

    pub(super) fn set_flags(&mut self, flags: Flags) {
        self.flags = flags;
    }

    pub(super) fn set_sequence(&mut self, sequence: u64) {
        self.sequence = self.sequence.max(sequence);
    }

    pub(super) fn set_ledger_size(&mut self, size: u64) {
        self.ledger_size = size;
    }

    /// Takes a whole library, without telling its songs one by one.
    pub(super) fn replace(&mut self, set: RoaringBitmap, sum: LibrarySum) {
        (self.set, self.sum, self.told) = (Arc::new(set), sum, sum);
        self.sequence = self.sequence.saturating_add(1);
        self.overflowed = true;
        self.deltas.clear();
    }

    pub(super) fn vouch(&mut self, index: u32, content: &ContentHash) -> bool {
        let full = self.sum.songs() >= limits::LIBRARY_SONGS;
        if full || !Arc::make_mut(&mut self.set).insert(index) {
            return false;
        }
        self.sum = self.sum.with(content);
        self.note(Event::Add(*content));
        true
    }

    pub(super) fn withdraw(&mut self, index: u32, content: &ContentHash) -> bool {
        if !Arc::make_mut(&mut self.set).remove(index) {
            return false;
        }
        self.sum = self.sum.without(content);
        self.note(Event::Remove(*content));
        true
    }

    fn note(&mut self, event: Event) {
        if self.deltas.len() == DELTAS {
            self.overflowed = true;
        }
        if self.overflowed {
            self.deltas.clear();
        } else {
            self.deltas.push_back((event, self.sum));
        }
    }

    /// The library as it is. It may be ahead of what was told; then the announcements that follow lead to it.
    pub(super) fn library(&self) -> OwnLibrary {
        OwnLibrary { sequence: self.sequence, set: self.set.clone(), sum: self.sum }
    }

    /// The state that the present sequence stands for: what is said to one peer directly.
    pub(super) fn state(&self, wall_ms: u64) -> Announcement {
        self.announcement(Event::Digest, self.told, wall_ms)
    }

    /// The next thing to tell everybody about changes, if it is time.
    pub(super) fn poll(&mut self, now: Instant, wall_ms: u64) -> Option<Announcement> {
        while self.tokens < DELTAS && now.saturating_duration_since(self.refilled) >= DELTA_EVERY {
            self.tokens += 1;
            self.refilled += DELTA_EVERY;
        }
        if self.tokens == DELTAS {
            self.refilled = now;
        }
        if self.overflowed {
            if self.digest_at.is_some_and(|at| now < at) {
                return None;
            }
            return Some(self.digest(now, wall_ms));
        }
        if self.tokens == 0 {
            return None;
        }
        let (event, sum) = self.deltas.pop_front()?;
        self.tokens -= 1;
        Some(self.tell(event, sum, wall_ms))
    }

    /// The whole state, under a new sequence; tells everything that was not told yet.
    pub(super) fn digest(&mut self, now: Instant, wall_ms: u64) -> Announcement {
        self.overflowed = false;
        self.deltas.clear();
        self.digest_at = Some(now + DIGEST_EVERY);
        self.tell(Event::Digest, self.sum, wall_ms)
    }

    pub(super) fn goodbye(&mut self, wall_ms: u64) -> Announcement {
        self.tell(Event::Goodbye, self.sum, wall_ms)
    }

    fn tell(&mut self, event: Event, sum: LibrarySum, wall_ms: u64) -> Announcement {
        self.sequence = self.sequence.saturating_add(1);
        self.told = sum;
        self.announcement(event, sum, wall_ms)
    }

    /// Whether something is not told yet.
    pub(super) fn has_news(&self) -> bool {
        self.overflowed || !self.deltas.is_empty()
    }

    fn announcement(&self, event: Event, sum: LibrarySum, wall_ms: u64) -> Announcement {
        Announcement {
            event,
            flags: self.flags,
            songs: sum.songs(),
            sequence: self.sequence,
            time_ms: wall_ms,
            ledger_size: self.ledger_size.max(u64::from(sum.songs())),
            digest: sum.digest(),
        }
    }
}
