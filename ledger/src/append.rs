//! Proposing and appending batches: the state machine run over the store, and what it accepted made durable.

use std::{borrow::Borrow, collections::BTreeMap, num::NonZeroUsize, sync::Arc, thread};

use antiphon_proto::{
    BlockHash, ContentHash, RootHash, SongId, canonical, limits,
    record::Invalid,
    wire::{self, Block, Epoch, Registration, Song, block},
};

use crate::{
    error::{AppendError, Fault},
    heard::Heard,
    ledger::{Inner, Ledger, Writer, feed_from, song_at},
    refusal::Refusal,
    roster::Changes,
    rule::{NearDuplicates, RuleError, Similar},
    seal::{self, Sealed},
    state::{
        Applied, ApplyError, Batch, Checked, CheckedRegistration, ContentEntry, Entry, Position, Receipt,
        View,
    },
    store::{NewBatch, Store, Tip},
    tokens::{self, Draft, Earlier, Pending, Settlement, StateKey, TokenView, Unsettled},
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
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// Index of its first block: the size of the ledger.
    pub first: u64,
    /// Canonical bytes of its blocks; none when nothing was accepted.
    pub blocks: Vec<Vec<u8>>,
    /// What the settlement that it begins with settles; none without.
    pub receipts: Vec<wire::Receipt>,
    /// One verdict for each registration, in the same order.
    pub verdicts: Vec<Verdict>,
    /// The end of the ledger with it: size, last block, height, time.
    pub end: Position,
    /// Root of the log with it.
    pub root: RootHash,
}

/// A proposal that was found valid, so that appending the same blocks need not find out again. The rule has taken
/// its songs in.
pub(crate) struct Prepared {
    first: u64,
    hashes: Vec<BlockHash>,
    entries: Vec<Option<Entry>>,
    changes: Changes,
    /// Entries of the state that it changes.
    state: BTreeMap<StateKey, Vec<u8>>,
    /// The roster in it is still the one before the batch.
    tip: Tip,
}

/// What a batch that is accepted makes of the ledger.
struct Accepted {
    receipts: Vec<Receipt>,
    entries: Vec<Option<Entry>>,
    state: BTreeMap<StateKey, Vec<u8>>,
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

    fn song(&mut self, index: u64) -> Result<Option<Song>, Fault> {
        match self.songs.get(&index) {
            Some(song) => Ok(Some(song.clone())),
            None => Ok(song_at(self.store, index)?),
        }
    }

    fn state(&mut self, key: &StateKey) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.store.state(key)?)
    }
}

/// The state as the last batch has left it.
struct Stored<'a> {
    store: &'a Store,
    heard: &'a Heard,
}

impl TokenView for Stored<'_> {
    fn state(&mut self, key: &StateKey) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.store.state(key)?)
    }

    fn song_at(&mut self, index: u64) -> Result<Option<Song>, Fault> {
        Ok(song_at(self.store, index)?)
    }

    fn index_of(&mut self, id: &SongId) -> Result<Option<u64>, Fault> {
        Ok(self.store.song_index(id)?)
    }

    fn song_of(&mut self, id: &SongId) -> Result<Option<(u64, Song)>, Fault> {
        if let Some(known) = self.heard.get(id) {
            return Ok(Some(known));
        }
        let found = self.store.song(id)?;
        if let Some((index, song)) = &found {
            self.heard.put(*id, *index, song);
        }
        Ok(found)
    }
}

impl Ledger {
    fn stored(&self) -> Stored<'_> {
        Stored { store: &self.0.store, heard: &self.0.heard }
    }
}

impl Prepared {
    /// Whether these are the blocks, in this place.
    fn is(&self, first: u64, blocks: &[Vec<u8>]) -> bool {
        self.first == first
            && self.hashes.len() == blocks.len()
            && self.hashes.iter().zip(blocks).all(|(hash, bytes)| *hash == BlockHash::of(bytes))
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
    /// Checks all that can be said of a registration without looking into the ledger: form, stamp, signature. What
    /// passes is remembered, so that its batch is checked quicker.
    ///
    /// # Errors
    /// [`Refusal::Invalid`].
    pub fn check(&self, registration: &Registration) -> Result<(), Refusal> {
        CheckedRegistration::new(&self.0.params, &self.0.proofs, registration)?;
        Ok(())
    }

    /// The batch that these registrations, in this order, would make at `time_ms` (or at the time of the last batch,
    /// if that is later). Nothing durable changes.
    ///
    /// # Errors
    /// [`Fault`] when there is no verdict; what is wrong with a registration is in its [`Verdict`].
    pub fn propose(&self, time_ms: u64, registrations: &[Registration]) -> Result<Proposal, Fault> {
        self.propose_with(time_ms, None, registrations)
    }

    /// The same, with a settlement as the first block. It was made by [`Ledger::settle`] for the same time.
    ///
    /// # Errors
    /// As [`Ledger::propose`]. A settlement that is refused is left out.
    pub fn propose_with(
        &self,
        time_ms: u64,
        epoch: Option<Epoch>,
        registrations: &[Registration],
    ) -> Result<Proposal, Fault> {
        let inner = &*self.0;
        let checked = in_parallel(registrations, |registration| {
            CheckedRegistration::new(&inner.params, &inner.proofs, registration)
        });
        let mut writer = inner.writer();
        let tip = inner.store.tip();
        writer.abandon(&inner.store)?;
        let size = tip.position.size;
        let proposal = inner.build(&mut writer, tip, time_ms, epoch, checked);
        writer.watch(&proposal);
        if proposal.is_err() && writer.rule.truncate(size).is_err() {
            writer.rule_broken = true;
        }
        proposal
    }

    /// What these receipts, whose form and signatures hold, amount to in a block of this time (or that of the last
    /// batch, if it is later). Nothing changes.
    ///
    /// # Errors
    /// [`ApplyError::Refused`] when no settlement is due, a failure when the ledger cannot be read.
    pub fn settle<R: Borrow<wire::Receipt>>(
        &self,
        time_ms: u64,
        receipts: &[R],
        earlier: &dyn Earlier,
    ) -> Result<Settlement, ApplyError> {
        let tip = self.0.store.tip();
        let (pending, mut view) = (Pending::new(tip.tokens), self.stored());
        let mut draft = Draft::new(&mut view, &pending);
        tokens::settle(&mut draft, time_ms.max(tip.position.time_ms), receipts, earlier)
    }

    /// Why receipts, whose form and signatures hold, would not be settled at this time; nothing of those that would.
    ///
    /// # Errors
    /// As [`Ledger::settle`].
    pub fn judge_receipts<R: Borrow<wire::Receipt>>(
        &self,
        time_ms: u64,
        receipts: &[R],
        earlier: &dyn Earlier,
    ) -> Result<Vec<(usize, Unsettled)>, Fault> {
        let tip = self.0.store.tip();
        let (pending, mut view) = (Pending::new(tip.tokens), self.stored());
        let mut draft = Draft::new(&mut view, &pending);
        tokens::judge(&mut draft, time_ms.max(tip.position.time_ms), receipts, earlier)
    }

    /// Holds a batch that somebody else proposes against every rule, as if it were to be appended. Returns the end of
    /// the ledger with it, and the log's root. Nothing durable changes.
    ///
    /// # Errors
    /// [`AppendError::Disagrees`] and other errors that [`AppendError::is_verdict`] tells are verdicts on the batch;
    /// the rest are failures of this machine.
    pub fn examine(&self, first: u64, blocks: &[Vec<u8>]) -> Result<(Position, RootHash), AppendError> {
        let inner = &*self.0;
        let mut writer = inner.writer();
        let tip = inner.store.tip();
        let size = tip.position.size;
        if blocks.is_empty() {
            return Err(AppendError::Empty);
        }
        if first != size {
            return Err(AppendError::NotNext { size, first });
        }
        check_limits(first, blocks)?;
        if let Some(prepared) = writer.prepared.as_ref().filter(|prepared| prepared.is(first, blocks)) {
            return Ok((prepared.tip.position, prepared.tip.root()));
        }
        writer.abandon(&inner.store)?;
        match inner.apply_all(&mut writer, tip, blocks) {
            Ok(prepared) => {
                let end = (prepared.tip.position, prepared.tip.root());
                writer.prepared = Some(prepared);
                Ok(end)
            }
            Err(error) => {
                let failed = matches!(error, AppendError::Fault(Fault::Rule(RuleError::Index(_))));
                writer.rule_broken |= failed || writer.rule.truncate(size).is_err();
                Err(error)
            }
        }
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
        let done = inner.accept(&mut writer, tip, batch).and_then(|accepted| {
            let Accepted { receipts, entries, state, tip } = accepted;
            let new = NewBatch { first: batch.first, blocks: &batch.blocks, entries: &entries, state, tip };
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
        epoch: Option<Epoch>,
        checked: Vec<Result<CheckedRegistration<'_>, Invalid>>,
    ) -> Result<Proposal, Fault> {
        let start = tip.position;
        let (height, time_ms) = (start.height.saturating_add(1), time_ms.max(start.time_ms));
        let mut view = Committed::new(&self.store, &mut *writer.rule);
        let roster = Arc::clone(&tip.roster);
        let mut batch = Batch::begin(&self.params, start, &roster, tip.tokens, &mut view);
        let (mut blocks, mut hashes) = (Vec::new(), Vec::new());
        if let Some(epoch) = epoch {
            let built = Checked::build_body(&batch.position(), height, time_ms, block::Body::Epoch(epoch));
            let built = built.map_err(|invalid| ApplyError::Refused(invalid.into()));
            match built.and_then(|(block, bytes)| batch.apply(&block).map(|_| (block, bytes))) {
                Ok((block, bytes)) => {
                    tip.count(&bytes, block.kind());
                    blocks.push(bytes);
                    hashes.push(block.hash());
                }
                Err(ApplyError::Refused(refusal)) => tracing::error!(%refusal, "a settlement was left out"),
                Err(ApplyError::Fault(fault)) => return Err(fault),
            }
        }
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
                    tip.count(&bytes, block.kind());
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
        let Applied { entries, changes, tokens, state } = batch.finish();
        tip.tokens = tokens;
        let proposal = Proposal {
            first: start.size,
            blocks,
            receipts: Vec::new(),
            verdicts,
            end: tip.position,
            root: tip.root(),
        };
        if !hashes.is_empty() {
            writer.prepared = Some(Prepared { first: start.size, hashes, entries, changes, state, tip });
        }
        Ok(proposal)
    }

    /// Holds a batch against every rule and its seal.
    fn accept(&self, writer: &mut Writer, tip: Tip, batch: &SealedBatch) -> Result<Accepted, AppendError> {
        let first = tip.position.size;
        check_limits(first, &batch.blocks)?;
        seal::check_order(&tip.seal, &batch.seal)?;
        let prepared = writer.prepared.take();
        let prepared = match prepared.filter(|prepared| prepared.is(first, &batch.blocks)) {
            Some(prepared) => {
                self.check_seal(&prepared.tip, &batch.seal)?;
                prepared
            }
            None => {
                // Whatever a proposal left in the rule.
                writer.rule.truncate(first).map_err(Fault::from)?;
                // The seal first: a few signatures tell whether anything else is worth looking at.
                let mut ahead = tip.clone();
                for bytes in &batch.blocks {
                    ahead.frontier.append(bytes);
                }
                // What the block says counts, whatever is wrong with it: that is told below.
                let read = |bytes: &Vec<u8>| {
                    let block = canonical::decode_lenient::<Block>("block", limits::BLOCK_BYTES, bytes);
                    (BlockHash::of(bytes), block)
                };
                if let Some((link, Ok(block))) = batch.blocks.last().map(read) {
                    ahead.position = Position {
                        size: ahead.frontier.size(),
                        link,
                        height: block.height,
                        time_ms: block.time_ms,
                    };
                }
                self.check_seal(&ahead, &batch.seal)?;
                self.apply_all(writer, tip, &batch.blocks)?
            }
        };
        let receipts = receipts(first, &prepared.tip.position, &prepared.hashes);
        let Prepared { entries, changes, state, mut tip, .. } = prepared;
        tip.roster = Arc::new(tip.roster.advance(tip.position.height, seal::signers(&batch.seal), changes));
        tip.seal.clone_from(&batch.seal);
        Ok(Accepted { receipts, entries, state, tip })
    }

    /// Whether the council that is to decide the next batch has decided on this end of the ledger.
    fn check_seal(&self, with: &Tip, seal: &[u8]) -> Result<(), AppendError> {
        let sealed = Sealed { council: with.roster.current(), position: &with.position, root: with.root() };
        Ok(self.policy.verify(&sealed, seal)?)
    }

    /// Holds the blocks that would come next against every rule.
    fn apply_all(
        &self,
        writer: &mut Writer,
        mut tip: Tip,
        blocks: &[Vec<u8>],
    ) -> Result<Prepared, AppendError> {
        let first = tip.position.size;
        let checked = in_parallel(blocks, |bytes| Checked::parse_with(&self.params, &self.proofs, bytes));
        let mut view = Committed::new(&self.store, &mut *writer.rule);
        let roster = Arc::clone(&tip.roster);
        let mut state = Batch::begin(&self.params, tip.position, &roster, tip.tokens, &mut view);
        let mut hashes = Vec::with_capacity(checked.len());
        for ((block, bytes), index) in checked.into_iter().zip(blocks).zip(first..) {
            let refused = |refusal| AppendError::Disagrees { index, refusal };
            let block = block.map_err(|invalid| refused(invalid.into()))?;
            state.apply(&block).map_err(|error| match error {
                ApplyError::Refused(refusal) => refused(refusal),
                ApplyError::Fault(fault) => fault.into(),
            })?;
            hashes.push(block.hash());
            tip.count(bytes, block.kind());
        }
        tip.position = state.position();
        let Applied { entries, changes, tokens, state } = state.finish();
        tip.tokens = tokens;
        Ok(Prepared { first, hashes, entries, changes, state, tip })
    }
}

fn check_limits(first: u64, blocks: &[Vec<u8>]) -> Result<(), AppendError> {
    let total: usize = blocks.iter().map(Vec::len).sum();
    if blocks.len() > limits::BATCH_BLOCKS || total > limits::BATCH_BYTES {
        return Err(AppendError::Refused { index: first, refusal: Refusal::BatchFull });
    }
    Ok(())
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
