//! A ledger and a write-ahead log in memory, which outlive a crash as a disk would.

use std::{
    cell::{RefCell, RefMut},
    collections::BTreeMap,
    rc::Rc,
};

use antiphon_proto::{
    ContentHash, RootHash, SongId,
    play::ReceiptId,
    wire::{Block, Epoch, Genesis, Receipt, Registration, Song, SongState, WalEntry, block, registration},
};

use prost::Message as _;

use crate::{
    append::{Proposal, SealedBatch, Verdict},
    council::{
        chain::{Chain, ChainFault, End, Kept, NotValid, same},
        court,
        journal::{Journal, JournalError},
        receipts::{Receipts, root_of},
    },
    error::Fault,
    proofs::Proofs,
    refusal::Refusal,
    roster::Roster,
    rule::Similar,
    seal::{self, SealPolicy, Sealed},
    state::{Applied, ApplyError, Batch, Checked, CheckedRegistration, ContentEntry, Params, Position, View},
    tokens::{self, Draft, Pending, Settlement, StateKey, TokenView, Tokens},
    tree::Frontier,
};

/// What all members of a simulated network share.
pub(super) struct Shared {
    pub(super) params: Params,
    pub(super) policy: SealPolicy,
    /// Checked once for all of them: a simulation is not about signatures of songs.
    pub(super) proofs: Proofs,
    pub(super) genesis: Genesis,
}

impl Shared {
    pub(super) fn new(genesis: Genesis) -> Rc<Self> {
        Rc::new(Self {
            params: Params::of(&genesis),
            policy: SealPolicy::new(&genesis),
            proofs: Proofs::new(),
            genesis,
        })
    }
}

#[derive(Clone, Default)]
struct Memory {
    contents: BTreeMap<ContentHash, ContentEntry>,
    songs: BTreeMap<SongId, u64>,
    bodies: BTreeMap<u64, Song>,
    state: BTreeMap<StateKey, Vec<u8>>,
}

impl TokenView for Memory {
    fn state(&mut self, key: &StateKey) -> Result<Option<Vec<u8>>, Fault> {
        View::state(self, key)
    }

    fn song_at(&mut self, index: u64) -> Result<Option<Song>, Fault> {
        self.song(index)
    }

    fn index_of(&mut self, id: &SongId) -> Result<Option<u64>, Fault> {
        self.song_index(id)
    }
}

impl View for Memory {
    fn content(&mut self, hash: &ContentHash) -> Result<Option<ContentEntry>, Fault> {
        Ok(self.contents.get(hash).copied())
    }

    fn song_index(&mut self, id: &SongId) -> Result<Option<u64>, Fault> {
        Ok(self.songs.get(id).copied())
    }

    fn song_id(&mut self, index: u64) -> Result<Option<SongId>, Fault> {
        Ok(self.songs.iter().find(|(_, at)| **at == index).map(|(id, _)| *id))
    }

    fn similar(&mut self, _: &Song) -> Result<Option<Similar>, Fault> {
        Ok(None)
    }

    fn accept_song(&mut self, index: u64, song: &Song) -> Result<(), Fault> {
        self.bodies.insert(index, song.clone());
        Ok(())
    }

    fn accept_other(&mut self, _: u64) {}

    fn song(&mut self, index: u64) -> Result<Option<Song>, Fault> {
        Ok(self.bodies.get(&index).cloned())
    }

    fn state(&mut self, key: &StateKey) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.state.get(key).cloned())
    }
}

struct Data {
    shared: Rc<Shared>,
    batches: Vec<SealedBatch>,
    end: End,
    frontier: Frontier,
    memory: Memory,
    tokens: Tokens,
    receipts: Receipts,
    /// Receipts that were not synced yet: a crash loses them.
    unsynced: Vec<ReceiptId>,
    /// Receipts of settlements, as the disk has them.
    settled: BTreeMap<u64, Vec<Receipt>>,
}

/// A simulated ledger. Clones are the same one.
#[derive(Clone)]
pub(super) struct SimChain(Rc<RefCell<Data>>);

impl SimChain {
    pub(super) fn new(shared: &Rc<Shared>) -> Self {
        let roster = Roster::genesis(&shared.genesis.member_keys());
        let end = End {
            position: Position::start(&shared.params.network),
            root: Frontier::new().root(),
            roster: roster.into(),
            seal: Vec::new(),
        };
        let frontier = Frontier::new();
        let (shared, tokens) = (Rc::clone(shared), Tokens::start(&shared.params));
        let memory = Memory::default();
        Self(Rc::new(RefCell::new(Data {
            shared,
            batches: Vec::new(),
            end,
            frontier,
            memory,
            tokens,
            receipts: Receipts::default(),
            unsynced: Vec::new(),
            settled: BTreeMap::new(),
        })))
    }

    pub(super) fn batches(&self) -> Vec<SealedBatch> {
        self.0.borrow().batches.clone()
    }

    /// What a crash leaves of the receipts.
    pub(super) fn restart(&self) {
        let mut data = self.0.borrow_mut();
        for id in std::mem::take(&mut data.unsynced) {
            data.receipts.forget(&id);
        }
    }

    /// The first song of the ledger.
    pub(super) fn first_song(&self) -> Option<Song> {
        self.0.borrow().memory.bodies.values().next().cloned()
    }

    /// Plays of all songs.
    pub(super) fn plays(&self) -> u64 {
        let data = self.0.borrow();
        let of = |(key, value): (&StateKey, &Vec<u8>)| match key {
            StateKey::Song(_) => SongState::decode(&value[..]).unwrap().plays,
            _ => 0,
        };
        data.memory.state.iter().map(of).sum()
    }

    /// Whether a settlement holds a receipt.
    pub(super) fn has_settled(&self, kept: &Registration) -> bool {
        let Some(registration::Body::Receipt(receipt)) = &kept.body else { return false };
        self.0.borrow().receipts.settlement_of(&receipt.id()).is_some()
    }

    /// Sums over the state.
    pub(super) fn tokens(&self) -> Tokens {
        self.0.borrow().tokens
    }

    /// The block of a registration.
    pub(super) fn holds(&self, registration: &Registration) -> bool {
        self.0
            .borrow()
            .batches
            .iter()
            .flat_map(|batch| &batch.blocks)
            .any(|bytes| Block::parse(bytes).is_ok_and(|block| same(registration, &block)))
    }

    pub(super) fn block(&self, index: u64) -> Option<Block> {
        let data = self.0.borrow();
        let bytes =
            data.batches.iter().flat_map(|batch| &batch.blocks).nth(usize::try_from(index).unwrap())?;
        Block::parse(bytes).ok()
    }
}

impl Data {
    /// What these receipts amount to; refused when no settlement is due.
    fn settle<R: std::borrow::Borrow<Receipt>>(
        &self,
        time_ms: u64,
        receipts: &[R],
    ) -> Result<Settlement, String> {
        let (mut memory, pending) = (self.memory.clone(), Pending::new(self.tokens));
        let mut draft = Draft::new(&mut memory, &pending);
        let time_ms = time_ms.max(self.end.position.time_ms);
        tokens::settle(&mut draft, time_ms, receipts, &self.receipts).map_err(|error| error.to_string())
    }

    /// The settlement that is due, and what it settles.
    fn due(&self, time_ms: u64) -> Option<(Epoch, Vec<Receipt>)> {
        if self.receipts.lacking().is_some() || self.receipts.waiting_len() == 0 {
            return None;
        }
        let waiting = self.receipts.waiting();
        let Settlement { epoch, settled, .. } = self.settle(time_ms, &waiting).ok()?;
        Some((epoch?, settled.into_iter().map(|at| Receipt::clone(waiting[at])).collect()))
    }

    /// Applies blocks that are checked; what the ledger would be.
    fn apply(&self, blocks: &[Vec<u8>]) -> Result<(Position, RootHash, Applied, Frontier), NotValid> {
        let mut memory = self.memory.clone();
        let roster = self.end.roster.clone();
        let mut batch =
            Batch::begin(&self.shared.params, self.end.position, &roster, self.tokens, &mut memory);
        let mut frontier = self.frontier.clone();
        for bytes in blocks {
            let checked = Checked::parse_with(&self.shared.params, &self.shared.proofs, bytes)
                .map_err(|error| NotValid(error.to_string()))?;
            batch.apply(&checked).map_err(|error| NotValid(error.to_string()))?;
            frontier.append(bytes);
        }
        let position = batch.position();
        let applied = batch.finish();
        Ok((position, frontier.root(), applied, frontier))
    }
}

impl Chain for SimChain {
    fn end(&self) -> End {
        self.0.borrow().end.clone()
    }

    fn admit(&self, registration: &Registration) -> Result<(), Refusal> {
        let data = self.0.borrow();
        CheckedRegistration::new(&data.shared.params, &data.shared.proofs, registration)?;
        Ok(())
    }

    fn find(&self, refusal: &Refusal, registration: &Registration) -> Result<Option<(u64, u64)>, ChainFault> {
        let Refusal::Duplicate { index, .. } = refusal else { return Ok(None) };
        let block = self.block(*index).filter(|block| same(registration, block));
        Ok(block.map(|block| (*index, block.height)))
    }

    fn propose(&mut self, time_ms: u64, registrations: &[Registration]) -> Result<Proposal, ChainFault> {
        let data: RefMut<'_, Data> = self.0.borrow_mut();
        let due = data.due(time_ms);
        let start = data.end.position;
        let (height, time_ms) = (start.height + 1, time_ms.max(start.time_ms));
        let mut memory = data.memory.clone();
        let mut batch = Batch::begin(&data.shared.params, start, &data.end.roster, data.tokens, &mut memory);
        let (mut blocks, mut verdicts, mut frontier) = (Vec::new(), Vec::new(), data.frontier.clone());
        let mut receipts = Vec::new();
        if let Some((epoch, of)) = due {
            let body = block::Body::Epoch(epoch);
            let (block, bytes) = Checked::build_body(&batch.position(), height, time_ms, body).unwrap();
            batch.apply(&block).unwrap();
            frontier.append(&bytes);
            blocks.push(bytes);
            receipts = of;
        }
        for registration in registrations {
            let checked =
                CheckedRegistration::new(&data.shared.params, &data.shared.proofs, registration).unwrap();
            let (block, bytes) = Checked::build(&batch.position(), height, time_ms, &checked).unwrap();
            verdicts.push(match batch.apply(&block) {
                Ok(_) => {
                    frontier.append(&bytes);
                    blocks.push(bytes);
                    Verdict::Accepted { position: blocks.len() - 1 }
                }
                Err(ApplyError::Refused(Refusal::Quota { .. } | Refusal::BatchFull)) => Verdict::NotThisBatch,
                Err(ApplyError::Refused(refusal)) => Verdict::Refused(refusal),
                Err(ApplyError::Fault(fault)) => panic!("{fault}"),
            });
        }
        let (end, root) = (batch.position(), frontier.root());
        Ok(Proposal { first: start.size, blocks, receipts, verdicts, end, root })
    }

    fn examine(
        &mut self,
        first: u64,
        blocks: &[Vec<u8>],
        receipts: &[Receipt],
    ) -> Result<Result<(Position, RootHash), NotValid>, ChainFault> {
        let data = self.0.borrow();
        assert_eq!(first, data.end.position.size);
        if let Some((block, epoch)) = court::settlement(blocks) {
            let found = data.settle(block.time_ms, receipts);
            let same = found.is_ok_and(|found| found.epoch == Some(epoch) && found.unsettled.is_empty());
            if data.receipts.lacking().is_some() || !same {
                return Ok(Err(NotValid("not what its receipts say, or they are not here".to_owned())));
            }
        }
        Ok(data.apply(blocks).map(|(position, root, ..)| (position, root)))
    }

    fn commit(
        &mut self,
        batch: &SealedBatch,
        receipts: &[Receipt],
    ) -> Result<Result<(), NotValid>, ChainFault> {
        let mut data = self.0.borrow_mut();
        if batch.first != data.end.position.size {
            return Ok(Err(NotValid("not the next batch".to_owned())));
        }
        let (position, root, applied, frontier) = match data.apply(&batch.blocks) {
            Ok(applied) => applied,
            Err(why) => return Ok(Err(why)),
        };
        let council = data.end.roster.current().clone();
        let sealed = Sealed { council: &council, position: &position, root };
        if let Err(error) = data.shared.policy.verify(&sealed, &batch.seal) {
            return Ok(Err(NotValid(error.to_string())));
        }
        for (entry, index) in applied.entries.iter().zip(batch.first..) {
            let Some(entry) = entry else { continue };
            let place = ContentEntry { index, song_index: entry.song_index, song_id: entry.song_id };
            data.memory.contents.insert(entry.content, place);
            if entry.song_index == index {
                data.memory.songs.insert(entry.song_id, index);
            }
        }
        let roster = data.end.roster.advance(position.height, seal::signers(&batch.seal), applied.changes);
        data.end = End { position, root, roster: roster.into(), seal: batch.seal.clone() };
        if let Some((block, epoch)) = court::settlement(&batch.blocks) {
            let settled = court::settled(&block, &epoch).unwrap();
            if court::belong(&batch.blocks, receipts) {
                data.settled.insert(settled.index, receipts.to_vec());
                data.receipts.settle(&settled, receipts);
            } else {
                data.receipts.lacks(settled);
            }
        }
        for (bytes, index) in batch.blocks.iter().zip(batch.first..) {
            if let Ok(Block { body: Some(block::Body::Song(song)), .. }) = Block::parse(bytes) {
                data.memory.bodies.insert(index, song);
            }
        }
        data.frontier = frontier;
        data.tokens = applied.tokens;
        data.memory.state.extend(applied.state);
        data.batches.push(batch.clone());
        Ok(Ok(()))
    }

    fn grown(&mut self, _: &SealedBatch) -> Result<(), ChainFault> {
        Ok(())
    }

    fn keep(&mut self, _: u64, receipt: &Receipt) -> Result<Kept, ChainFault> {
        let mut data = self.0.borrow_mut();
        if let Some(index) = data.receipts.settlement_of(&receipt.id()) {
            return Ok(Kept::Settled { index, height: 0 });
        }
        Ok(match data.receipts.add(receipt.clone()) {
            Ok(true) => {
                data.unsynced.push(receipt.id());
                Kept::New
            }
            Ok(false) => Kept::Known,
            Err(full) => Kept::Full(full.to_string()),
        })
    }

    fn sync_receipts(&mut self) -> Result<(), ChainFault> {
        self.0.borrow_mut().unsynced.clear();
        Ok(())
    }

    fn is_settlement_due(&mut self, wall_ms: u64) -> Result<bool, ChainFault> {
        Ok(self.0.borrow().due(wall_ms).is_some())
    }

    fn receipts_waiting(&self) -> usize {
        self.0.borrow().receipts.waiting_len()
    }

    fn lacks_receipts_of(&self) -> Option<u64> {
        self.0.borrow().receipts.lacking().map(|settled| settled.index)
    }

    fn settled_receipts(&self, index: u64) -> Result<Option<Vec<Receipt>>, ChainFault> {
        Ok(self.0.borrow().settled.get(&index).cloned())
    }

    fn supply_receipts(&mut self, index: u64, receipts: &[Receipt]) -> Result<bool, ChainFault> {
        let mut data = self.0.borrow_mut();
        let lacking = data.receipts.lacking().filter(|lacking| lacking.index == index);
        let Some(lacking) = lacking.filter(|lacking| lacking.root == root_of(receipts)) else {
            return Ok(false);
        };
        data.settled.insert(index, receipts.to_vec());
        data.receipts.settle(&lacking, receipts);
        Ok(true)
    }

    fn batch_from(&self, first: u64) -> Result<Option<SealedBatch>, ChainFault> {
        let data = self.0.borrow();
        let holds =
            |batch: &&SealedBatch| (batch.first..batch.first + batch.blocks.len() as u64).contains(&first);
        Ok(data.batches.iter().find(holds).cloned())
    }
}

/// When a simulated disk fails: at which flush from now, and whether that one still reaches the disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct CrashAt {
    pub(super) flushes: u32,
    pub(super) reaches: bool,
}

#[derive(Default)]
struct Log {
    durable: Vec<WalEntry>,
    pending: Vec<WalEntry>,
    crash: Option<CrashAt>,
    crashed: bool,
}

/// A simulated write-ahead log. Clones are the same one.
#[derive(Clone, Default)]
pub(super) struct SimJournal(Rc<RefCell<Log>>);

impl SimJournal {
    /// What is on the disk. What was not synced is gone.
    pub(super) fn restart(&self) -> Vec<WalEntry> {
        let mut log = self.0.borrow_mut();
        log.pending.clear();
        log.crash = None;
        log.crashed = false;
        log.durable.clone()
    }

    pub(super) fn crash_at(&self, at: CrashAt) {
        self.0.borrow_mut().crash = Some(at);
    }

    /// The crash that was wanted and has not come about will not come.
    pub(super) fn call_off(&self) {
        self.0.borrow_mut().crash = None;
    }

    /// Whether the last error was a crash that was wanted.
    pub(super) fn has_crashed(&self) -> bool {
        self.0.borrow().crashed
    }

    /// Somebody removes the log, or puts an older one in its place.
    pub(super) fn replace(&self, entries: Vec<WalEntry>) {
        self.0.borrow_mut().durable = entries;
    }
}

impl Journal for SimJournal {
    fn append(&mut self, entry: &WalEntry) {
        self.0.borrow_mut().pending.push(entry.clone());
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        let mut log = self.0.borrow_mut();
        if log.pending.is_empty() {
            return Ok(());
        }
        if let Some(at) = &mut log.crash {
            if at.flushes > 0 {
                at.flushes -= 1;
            } else {
                if at.reaches {
                    let pending = std::mem::take(&mut log.pending);
                    log.durable.extend(pending);
                }
                log.crashed = true;
                return Err(JournalError::TooLong("the power is gone".into()));
            }
        }
        let pending = std::mem::take(&mut log.pending);
        log.durable.extend(pending);
        Ok(())
    }

    fn rewind(&mut self, keep: &[WalEntry]) -> Result<(), JournalError> {
        self.flush()?;
        // At once, not only when it is large: what is left out must never be missed.
        self.0.borrow_mut().durable = keep.to_vec();
        Ok(())
    }
}
