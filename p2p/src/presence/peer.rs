//! What is known of one other peer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use antiphon_proto::{
    ContentHash,
    announcement::{Announcement, Event},
};
use roaring::RoaringBitmap;

use super::digest::LibrarySum;

/// Changes that are kept while the library is being learned, and contents whose place in the ledger is not known yet. More
/// are learned by asking again.
const WAITING: usize = 64;

/// A library as the peer told it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Library {
    pub(super) set: Arc<RoaringBitmap>,
    pub(super) sum: LibrarySum,
    /// Songs that the sum counts and the set does not have, because the own ledger does not have them yet.
    pub(super) unresolved: Vec<ContentHash>,
}

/// How learning the library goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Learning {
    #[default]
    Idle,
    /// Wanted from then on.
    Due(Instant),
    Running,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Other {
    /// The newest announcement.
    pub(super) said: Announcement,
    /// When it came.
    pub(super) heard: Instant,
    /// How long it may be silent after that, by the pace that it kept then: it changes its pace only with its next
    /// announcement.
    pub(super) patience: Duration,
    /// Its connection closed, and nothing was heard since: until then it may be.
    pub(super) doubted_until: Option<Instant>,
    /// Left, or its connection closed, and nothing was heard since.
    pub(super) hidden: bool,
    pub(super) library: Option<Library>,
    pub(super) learning: Learning,
    pub(super) failures: u32,
    /// Changes that came while the library was being learned.
    waiting: Vec<Announcement>,
    /// More songs than there is memory for.
    pub(super) refused: bool,
}

/// What a change means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The set is as the peer says.
    Current,
    /// One song came or went: its index is needed.
    Resolve(ContentHash, bool),
    /// Something was missed.
    Stale,
}

impl Other {
    pub(super) fn new(said: Announcement, now: Instant, library: Option<Library>) -> Self {
        Self {
            said,
            heard: now,
            patience: Duration::ZERO,
            doubted_until: None,
            hidden: false,
            library,
            learning: Learning::Idle,
            failures: 0,
            waiting: Vec::new(),
            refused: false,
        }
    }

    /// Whether its songs count.
    pub(super) fn is_online(&self) -> bool {
        !self.hidden
    }

    /// How many lessons about it run: one or none.
    pub(super) fn lessons(&self) -> usize {
        usize::from(self.learning == Learning::Running)
    }

    /// Whether what is known of its library is what it says.
    pub(super) fn is_current(&self) -> bool {
        self.library.as_ref().is_some_and(|library| library.sum.digest() == self.said.digest)
    }

    /// Compares what is known with an announcement that is newer than all before.
    pub(super) fn follow(&mut self, said: &Announcement) -> Step {
        if self.learning == Learning::Running {
            if self.waiting.len() < WAITING {
                self.waiting.push(*said);
            }
            return Step::Current;
        }
        let Some(library) = &mut self.library else { return Step::Stale };
        if library.sum.digest() == said.digest {
            return Step::Current;
        }
        let (after, content, added) = match &said.event {
            Event::Add(content) => (library.sum.with(content), content, true),
            Event::Remove(content) => (library.sum.without(content), content, false),
            Event::Digest | Event::Goodbye => return Step::Stale,
        };
        if after.songs() != said.songs || after.digest() != said.digest {
            return Step::Stale;
        }
        library.sum = after;
        if !added {
            library.unresolved.retain(|known| known != content);
        }
        Step::Resolve(*content, added)
    }

    /// The library as of this sequence was learned: gives the changes since then, in order.
    pub(super) fn learned(&mut self, sequence: u64) -> Vec<Announcement> {
        self.learning = Learning::Idle;
        self.failures = 0;
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().filter(|said| said.sequence > sequence).collect()
    }

    /// What came meanwhile is worth nothing without the rest.
    pub(super) fn not_learned(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.learning = Learning::Idle;
        self.waiting.clear();
    }

    /// Keeps a content until the ledger has it; says whether there was room.
    pub(super) fn keep_unresolved(&mut self, content: ContentHash) -> bool {
        match &mut self.library {
            Some(library) if library.unresolved.len() < WAITING => {
                library.unresolved.push(content);
                true
            }
            _ => false,
        }
    }
}
