//! Ledgers for tests: opened small, so that segments roll and folds happen; and a rule that can be understood.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use antiphon_ledger::{
    AppendError, Ledger, NearDuplicates, OpenError, Options, Proposal, RuleError, SealedBatch, Similar,
    Tuning, Verdict,
    council::{self, Council, NoTransport, Pace},
    rule::Fetch,
    seal::Sealer,
    sequencer::Clock,
};
use antiphon_proto::{
    SecretKey,
    wire::{Genesis, Registration, Song},
};

use super::{START_MS, genesis, member};

/// A few batches a segment, a few batches a fold.
pub const SMALL: Tuning = Tuning { segment_bytes: 4_000, fold_blocks: 12 };

/// A council of one that waits for nothing, with its log beside the ledger in `dir`.
pub fn council(ledger: &Ledger, dir: &Path) -> Council {
    council_with(ledger, dir, member(), Arc::new(|| START_MS))
}

pub fn council_with(ledger: &Ledger, dir: &Path, key: SecretKey, clock: Clock) -> Council {
    let pace = Pace { height: 0, ..Pace::default() };
    let options = council::Options { dir: dir.join("council"), key, clock, pace, rejoin: false };
    Council::start(ledger.clone(), Arc::new(NoTransport), options).unwrap()
}

pub fn sealer(genesis: &Genesis) -> Sealer {
    Sealer::new(genesis, member()).unwrap()
}

pub fn open(dir: &Path) -> Ledger {
    try_open(dir).unwrap()
}

pub fn try_open(dir: &Path) -> Result<Ledger, OpenError> {
    Ledger::open_with(dir, Options::without_rule(Some(genesis())), SMALL)
}

/// The sealed batch that these registrations make, not appended.
pub fn sealed(ledger: &Ledger, time_ms: u64, registrations: &[Registration]) -> (SealedBatch, Proposal) {
    let proposal = ledger.propose(time_ms, registrations).unwrap();
    let seal = sealer(ledger.genesis()).seal(&proposal);
    (SealedBatch { first: proposal.first, blocks: proposal.blocks.clone(), seal }, proposal)
}

/// Proposes, seals and appends; what is refused is told by the verdicts.
pub fn extend(ledger: &Ledger, registrations: &[Registration]) -> Result<Vec<Verdict>, AppendError> {
    let (batch, proposal) = sealed(ledger, START_MS, registrations);
    if !batch.blocks.is_empty() {
        ledger.append(&batch)?;
        assert_eq!(
            (ledger.size(), ledger.root(), ledger.head()),
            (proposal.end.size, proposal.root, Some(proposal.end.link))
        );
    }
    Ok(proposal.verdicts)
}

/// Every batch of a ledger, in order.
pub fn batches(ledger: &Ledger) -> Vec<SealedBatch> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(batch) = ledger.batch_from(at).unwrap() {
        assert_eq!(batch.first, at);
        at += batch.blocks.len() as u64;
        out.push(batch);
    }
    assert_eq!(at, ledger.size());
    out
}

/// Songs are alike when their fingerprints begin with the same byte; 0xff is no fingerprint. What was flushed
/// outlives the ledger, as a file would.
#[derive(Clone, Default)]
pub struct FirstByte {
    pub disk: Arc<Mutex<Vec<Option<u64>>>>,
    songs: Vec<Option<u64>>,
    pub resets: Arc<Mutex<u32>>,
    /// The disk is full: nothing is written or taken in.
    pub full: Arc<AtomicBool>,
}

/// Blocks that [`FirstByte`] keeps in memory.
const MEMORY: usize = 200;

impl FirstByte {
    /// The rule as it is after a crash: only what was flushed.
    pub fn reopened(&self) -> Self {
        let songs = self.disk.lock().unwrap().clone();
        Self {
            disk: Arc::clone(&self.disk),
            songs,
            resets: Arc::clone(&self.resets),
            full: Arc::clone(&self.full),
        }
    }

    fn room(&self, in_memory: usize) -> Result<(), RuleError> {
        if self.full.load(Ordering::Relaxed) || in_memory >= MEMORY {
            return Err(RuleError::Index("there is no room".to_owned()));
        }
        Ok(())
    }
}

impl NearDuplicates for FirstByte {
    fn next_index(&self) -> u64 {
        self.songs.len() as u64
    }

    fn find(&self, song: &Song, fetch: &mut Fetch<'_>) -> Result<Option<Similar>, RuleError> {
        if song.fingerprint[0] == 0xff {
            return Err(RuleError::BadFingerprint("it begins with ff".to_owned()));
        }
        for index in self.songs.iter().flatten() {
            let other = fetch(*index)?.ok_or_else(|| RuleError::Index(format!("{index} is no song")))?;
            if other.fingerprint[0] == song.fingerprint[0] {
                return Ok(Some(Similar { index: *index, error_per_10_000: 0 }));
            }
        }
        Ok(None)
    }

    fn insert(&mut self, index: u64, _: &Song) -> Result<(), RuleError> {
        assert_eq!(index, self.next_index(), "songs are inserted in order");
        self.room(self.songs.len().saturating_sub(self.disk.lock().unwrap().len()))?;
        self.songs.push(Some(index));
        Ok(())
    }

    fn skip(&mut self, index: u64) {
        assert_eq!(index, self.next_index(), "blocks are skipped in order");
        self.songs.push(None);
    }

    fn truncate(&mut self, size: u64) -> Result<(), RuleError> {
        self.songs.truncate(usize::try_from(size).unwrap());
        Ok(())
    }

    fn flush(&mut self) -> Result<(), RuleError> {
        self.room(0)?;
        self.disk.lock().unwrap().clone_from(&self.songs);
        Ok(())
    }

    fn should_flush(&self) -> bool {
        self.songs.len() >= self.disk.lock().unwrap().len() + 5
    }

    fn reset(&mut self) -> Result<(), RuleError> {
        *self.resets.lock().unwrap() += 1;
        self.songs.clear();
        self.flush()
    }
}
