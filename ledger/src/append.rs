//! Proposing and appending batches: the state machine run over the store, and what it accepted made durable.

use std::{collections::BTreeMap, num::NonZeroUsize, thread};

use antiphon_proto::{
    BlockHash, ContentHash, RootHash, SongId, limits,
    record::Invalid,
    wire::{Registration, Song},
};

use crate::{
    error::{AppendError, Fault},
    ledger::{Inner, Ledger, Writer, feed_from, song_at},
    refusal::Refusal,
    rule::{NearDuplicates, RuleError, Similar},
    state::{ApplyError, Batch, Checked, CheckedRegistration, ContentEntry, Entry, Position, Receipt, View},
    store::{NewBatch, Store, Tip},
};

/// Records that one thread checks: below this, starting it costs more than it saves.
const CHECKS_PER_THREAD: usize = 16;

/// Blocks that were decided together, and the proof that they were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedBatch {
    /// Index of the first block.
    pub first: u64,
    /// Canonical bytes of each block, in order.
    pub blocks: Vec<Vec<u8>>,
    /// Proof over the ledger up to the end of this batch.
    pub seal: Vec<u8>,
}

/// What became of one registration in a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is the block at this position of the proposal.
    Accepted {
        /// From 0.
        position: usize,
    },
    /// It cannot stand here.
    Refused(Refusal),
    /// The batch is full, or holds enough of this registrant: it may go into a later one.
    NotThisBatch,
}

/// A batch that would follow the ledger, to be sealed and appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Index of its first block: the size of the ledger.
    pub first: u64,
    /// Canonical bytes of its blocks; none when nothing was accepted.
    pub blocks: Vec<Vec<u8>>,
    /// One verdict for each registration, in the same order.
    pub verdicts: Vec<Verdict>,
    /// Its height.
    pub height: u64,
    /// Its time in milliseconds since 1970.
    pub time_ms: u64,
    /// Size of the ledger with it.
    pub size: u64,
    /// Root of the log with it.
    pub root: RootHash,
    /// Hash of the last block with it.
    pub head: Option<BlockHash>,
}

/// A proposal that was found valid, so that appending the same blocks need not find out again. The rule has taken
/// its songs in.
pub(crate) struct Prepared {
    first: u64,
    hashes: Vec<BlockHash>,
    entries: Vec<Entry>,
    tip: Tip,
}

/// The ledger as the state machine sees it.
pub(crate) struct Committed<'a> {
    store: &'a Store,
    rule: &'a mut dyn NearDuplicates,
    /// Songs of the batch that is being applied, which the rule may want to look at.
    songs: BTreeMap<u64, Song>,
}

impl<'a> Committed<'a> {
    pub(crate) fn new(store: &'a Store, rule: &'a mut dyn NearDuplicates) -> Self {
        Self { store, rule, songs: BTreeMap::new() }
    }
}

impl View for Committed<'_> {
    fn content(&mut self, hash: &ContentHash) -> Result<Option<ContentEntry>, Fault> {
        self.store.content(hash)
    }

    fn song_index(&mut self, id: &SongId) -> Result<Option<u64>, Fault> {
        Ok(self.store.song_index(id)?)
    }

    fn song_id(&mut self, index: u64) -> Result<Option<SongId>, Fault> {
        Ok(self.store.song_id(index)?)
    }

    fn similar(&mut self, song: &Song) -> Result<Option<Similar>, Fault> {
        let (store, songs) = (self.store, &self.songs);
        let mut fetch = |index: u64| match songs.get(&index) {
            Some(song) => Ok(Some(song.clone())),
            None => song_at(store, index),
        };
        Ok(self.rule.find(song, &mut fetch)?)
    }

    fn accept_song(&mut self, index: u64, song: &Song) -> Result<(), Fault> {
        self.rule.insert(index, song)?;
        self.songs.insert(index, song.clone());
        Ok(())
    }

    fn accept_other(&mut self, index: u64) {
        self.rule.skip(index);
    }
}

impl Writer {
    /// Forgets the last proposal, and with it whatever the rule holds beyond the ledger. A rule that failed before is
    /// mended first: there may be room on the disk again.
    pub(crate) fn abandon(&mut self, store: &Store) -> Result<(), Fault> {
        self.prepared = None;
        if self.rule_broken {
            self.mend(store)?;
            self.rule_broken = false;
            tracing::info!("the near-duplicate index works again");
        }
        let truncated = self.rule.truncate(store.size()).map_err(Fault::from);
        self.watch(&truncated);
        truncated
    }

    /// Goes on from what the rule holds, or else has it begin anew.
    fn mend(&mut self, store: &Store) -> Result<(), Fault> {
        let size = store.size();
        let rule = &mut *self.rule;
        let kept = rule.truncate(size).and_then(|()| rule.flush()).map_err(Fault::from);
        match kept.and_then(|()| feed_from(store, rule, size, &|_| {})) {
            Err(Fault::Rule(error)) => {
                tracing::warn!(%error, "the near-duplicate index is built again");
                rule.reset()?;
                feed_from(store, rule, size, &|_| {})
            }
            done => done,
        }
    }

    /// Remembers when the rule has failed.
    pub(crate) fn watch<T>(&mut self, done: &Result<T, Fault>) {
        self.rule_broken |= matches!(done, Err(Fault::Rule(RuleError::Index(_))));
    }
}

impl Ledger {
    /// The batch that these registrations, in this order, would make at `time_ms` (or at the time of the last batch,
    /// if that is later). Nothing durable changes.
    ///
    /// # Errors
    /// [`Fault`] when there is no verdict; what is wrong with a registration is in its [`Verdict`].
    pub fn propose(&self, time_ms: u64, registrations: &[Registration]) -> Result<Proposal, Fault> {
        let inner = &*self.0;
        let checked =
            in_parallel(registrations, |registration| CheckedRegistration::new(&inner.params, registration));
        let mut writer = inner.writer();
        let tip = inner.store.tip();
        writer.abandon(&inner.store)?;
        let size = tip.position.size;
        let proposal = inner.build(&mut writer, tip, time_ms, checked);
        writer.watch(&proposal);
        if proposal.is_err() && writer.rule.truncate(size).is_err() {
            writer.rule_broken = true;
        }
        proposal
    }

    /// Appends the next batch: checks its seal and every rule, makes it durable, shows it. All or nothing.
    ///
    /// # Errors
    /// [`AppendError`]; [`AppendError::is_invalid_batch`] tells whether the sender is at fault.
    pub fn append(&self, batch: &SealedBatch) -> Result<Vec<Receipt>, AppendError> {
        let receipts = self.commit(batch)?;
        self.maintain();
        Ok(receipts)
    }

    /// [`Ledger::append`] without what may follow the acknowledgement; [`Ledger::maintain`] is then due.
    pub(crate) fn commit(&self, batch: &SealedBatch) -> Result<Vec<Receipt>, AppendError> {
        let inner = &*self.0;
        let mut writer = inner.writer();
        let tip = inner.store.tip();
        let size = tip.position.size;
        if batch.blocks.is_empty() {
            return Err(AppendError::Empty);
        }
        if batch.first != size {
            return Err(AppendError::NotNext { size, first: batch.first });
        }
        if writer.rule_broken {
            writer.abandon(&inner.store)?;
        }
        let done = inner.accept(&mut writer, tip, batch).and_then(|(receipts, entries, tip)| {
            let tip = Tip { seal: batch.seal.clone(), ..tip };
            let new = NewBatch { first: batch.first, blocks: &batch.blocks, entries: &entries, tip };
            inner.store.commit(&mut writer.tail, new)?;
            Ok(receipts)
        });
        if done.is_err() {
            // What the rule took in is not in the ledger.
            let forgotten = writer.rule.truncate(size);
            let failed = matches!(done, Err(AppendError::Fault(Fault::Rule(RuleError::Index(_)))));
            writer.rule_broken |= failed || forgotten.is_err();
            if let Err(error) = forgotten {
                tracing::error!(%error, "the near-duplicate index is out of step; it is fed again");
            }
        } else {
            inner.size.send_replace(inner.store.size());
        }
        done
    }

    /// Writes out what need not be on disk when a batch is acknowledged, if there is enough of it.
    pub(crate) fn maintain(&self) {
        self.0.store.maintain();
        let mut writer = self.0.writer();
        if writer.prepared.is_none()
            && writer.rule.should_flush()
            && let Err(error) = writer.rule.flush()
        {
            writer.rule_broken = true;
            tracing::error!(%error, "the near-duplicate index was not written; it is tried again");
        }
    }
}

impl Inner {
    /// Applies registrations one after the other, as long as they fit.
    fn build(
        &self,
        writer: &mut Writer,
        mut tip: Tip,
        time_ms: u64,
        checked: Vec<Result<CheckedRegistration<'_>, Invalid>>,
    ) -> Result<Proposal, Fault> {
        let start = tip.position;
        let (height, time_ms) = (start.height.saturating_add(1), time_ms.max(start.time_ms));
        let mut view = Committed::new(&self.store, &mut *writer.rule);
        let mut batch = Batch::begin(&self.params, start, &mut view);
        let (mut blocks, mut hashes) = (Vec::new(), Vec::new());
        let mut verdicts = Vec::with_capacity(checked.len());
        for registration in checked {
            let position = batch.position();
            let built = registration
                .and_then(|registration| Checked::build(&position, height, time_ms, &registration));
            let (block, bytes) = match built {
                Ok(built) => built,
                Err(invalid) => {
                    verdicts.push(Verdict::Refused(invalid.into()));
                    continue;
                }
            };
            verdicts.push(match batch.apply(&block) {
                Ok(_) => {
                    tip.count(&bytes, block.is_song());
                    blocks.push(bytes);
                    hashes.push(block.hash());
                    Verdict::Accepted { position: blocks.len() - 1 }
                }
                Err(ApplyError::Refused(Refusal::Quota { .. } | Refusal::BatchFull)) => Verdict::NotThisBatch,
                Err(ApplyError::Refused(refusal)) => Verdict::Refused(refusal),
                Err(ApplyError::Fault(fault)) => return Err(fault),
            });
        }
        tip.position = batch.position();
        let entries = batch.into_entries();
        let proposal = Proposal {
            first: start.size,
            blocks,
            verdicts,
            height,
            time_ms,
            size: tip.position.size,
            root: tip.root(),
            head: tip.head(),
        };
        if !hashes.is_empty() {
            writer.prepared = Some(Prepared { first: start.size, hashes, entries, tip });
        }
        Ok(proposal)
    }

    /// Holds a batch against every rule and its seal. Returns receipts, entries, and the ledger's end with it.
    fn accept(
        &self,
        writer: &mut Writer,
        tip: Tip,
        batch: &SealedBatch,
    ) -> Result<(Vec<Receipt>, Vec<Entry>, Tip), AppendError> {
        // Taken before anything can fail: what is not appended now is not prepared any more.
        let prepared = writer.prepared.take();
        let first = tip.position.size;
        let total: usize = batch.blocks.iter().map(Vec::len).sum();
        if batch.blocks.len() > limits::BATCH_BLOCKS || total > limits::BATCH_BYTES {
            return Err(AppendError::Refused { index: first, refusal: Refusal::BatchFull });
        }
        if let Some(prepared) = prepared {
            let same = prepared.first == first
                && prepared.hashes.len() == batch.blocks.len()
                && prepared
                    .hashes
                    .iter()
                    .zip(&batch.blocks)
                    .all(|(hash, bytes)| *hash == BlockHash::of(bytes));
            if same {
                self.policy.verify(prepared.tip.position.size, prepared.tip.root(), &batch.seal)?;
                let receipts = receipts(first, &prepared.tip.position, &prepared.hashes);
                return Ok((receipts, prepared.entries, prepared.tip));
            }
        }
        // Whatever a proposal left in the rule.
        writer.rule.truncate(first).map_err(Fault::from)?;
        self.apply_all(writer, tip, batch)
    }

    fn apply_all(
        &self,
        writer: &mut Writer,
        mut tip: Tip,
        batch: &SealedBatch,
    ) -> Result<(Vec<Receipt>, Vec<Entry>, Tip), AppendError> {
        // The seal first: one signature tells whether anything else is worth looking at.
        for bytes in &batch.blocks {
            // Which kind it is, is counted when it is known to be a block at all.
            tip.frontier.append(bytes);
        }
        self.policy.verify(tip.frontier.size(), tip.root(), &batch.seal)?;
        let checked = in_parallel(&batch.blocks, |bytes| Checked::parse(&self.params, bytes));
        let mut view = Committed::new(&self.store, &mut *writer.rule);
        let mut state = Batch::begin(&self.params, tip.position, &mut view);
        let mut receipts = Vec::with_capacity(checked.len());
        for ((block, bytes), index) in checked.into_iter().zip(&batch.blocks).zip(batch.first..) {
            // The seal is good, so it is not the sender who is wrong.
            let refused = |refusal| AppendError::Disagrees { index, refusal };
            let block = block.map_err(|invalid| refused(invalid.into()))?;
            receipts.push(state.apply(&block).map_err(|error| match error {
                ApplyError::Refused(refusal) => refused(refusal),
                ApplyError::Fault(fault) => fault.into(),
            })?);
            tip.add(bytes.len() as u64, block.is_song());
        }
        tip.position = state.position();
        Ok((receipts, state.into_entries(), tip))
    }
}

fn receipts(first: u64, end: &Position, hashes: &[BlockHash]) -> Vec<Receipt> {
    let receipt = |(hash, index): (&BlockHash, u64)| Receipt {
        index,
        height: end.height,
        time_ms: end.time_ms,
        hash: *hash,
    };
    hashes.iter().zip(first..).map(receipt).collect()
}

/// Applies a pure check to every item, on as many threads as there are cores, and keeps the order.
pub(crate) fn in_parallel<'a, T: Sync, R: Send>(items: &'a [T], check: impl Fn(&'a T) -> R + Sync) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = cores.min(items.len().div_ceil(CHECKS_PER_THREAD));
    if threads < 2 {
        return items.iter().map(check).collect();
    }
    let share = items.len().div_ceil(threads);
    let check = &check;
    thread::scope(|scope| {
        let (mine, others) = items.split_at(share);
        let others: Vec<_> = others
            .chunks(share)
            .map(|chunk| {
                let run = move || chunk.iter().map(check).collect::<Vec<R>>();
                let started = thread::Builder::new().name("ledger-check".to_owned()).spawn_scoped(scope, run);
                (chunk, started)
            })
            .collect();
        let mut out: Vec<R> = mine.iter().map(check).collect();
        for (chunk, started) in others {
            // Without a thread, or when it failed, the work is done here.
            match started.ok().and_then(|thread| thread.join().ok()) {
                Some(results) => out.extend(results),
                None => out.extend(chunk.iter().map(check)),
            }
        }
        out
    })
}
