//! The ledger of a member, with the receipts that it settles.

use std::path::Path;

use antiphon_proto::{
    limits,
    wire::{Block, Epoch, Receipt, Registration, block, registration},
};

use super::{
    chain::{Chain, ChainFault, End, Kept, NotValid},
    receipts::{ReceiptFiles, Receipts, Settled, root_of},
};
use crate::{
    append::{Proposal, SealedBatch, in_parallel},
    error::FileError,
    ledger::Ledger,
    refusal::Refusal,
    state::{ApplyError, Position},
    tokens::{Settlement, Unsettled},
};

/// A settlement that came to nothing is not tried again for so long, unless something has changed.
const AGAIN_MS: u64 = 5_000;

/// A ledger that settles plays.
pub struct Court {
    ledger: Ledger,
    receipts: Receipts,
    files: ReceiptFiles,
    /// What those that wait came to when that was last found out.
    found: Option<Found>,
}

/// A settlement and what it settles.
type Due = (Epoch, Vec<Receipt>);

/// What those that wait came to.
struct Found {
    /// Size of the ledger.
    size: u64,
    /// How many waited.
    waiting: usize,
    at_ms: u64,
    due: Option<Due>,
}

fn fault(error: impl std::fmt::Display) -> ChainFault {
    ChainFault(error.to_string())
}

/// The settlement that a batch begins with.
pub(super) fn settlement(blocks: &[Vec<u8>]) -> Option<(Block, Epoch)> {
    let block = Block::parse(blocks.first()?).ok()?;
    match &block.body {
        Some(block::Body::Epoch(epoch)) => {
            let epoch = epoch.clone();
            Some((block, epoch))
        }
        _ => None,
    }
}

/// Whether these are the receipts that a batch's settlement names; none for a batch without.
pub(super) fn belong(blocks: &[Vec<u8>], receipts: &[Receipt]) -> bool {
    match settlement(blocks) {
        Some((_, epoch)) => {
            epoch.receipts as usize == receipts.len() && root_of(receipts)[..] == epoch.receipts_root
        }
        None => receipts.is_empty(),
    }
}

/// What a settlement in the ledger says of its receipts.
pub(super) fn settled(block: &Block, epoch: &Epoch) -> Option<Settled> {
    let root = epoch.receipts_root[..].try_into().ok()?;
    Some(Settled { index: block.index, time_ms: block.time_ms, root })
}

impl Court {
    /// Opens the receipts in `dir`, and looks which of those of the ledger's settlements are there.
    ///
    /// # Errors
    /// [`FileError`], or a ledger that cannot be read.
    pub fn open(ledger: Ledger, dir: &Path) -> Result<Self, OpenError> {
        let (files, waiting) = ReceiptFiles::open(dir)?;
        let mut receipts = Receipts::default();
        let after = ledger.time_ms().saturating_sub(ledger.economy().window_ms.into());
        let mut at = ledger.size();
        while let Some(index) = at.checked_sub(1) {
            at = index;
            let Some(block) = ledger.parsed(index).map_err(|error| OpenError::Ledger(error.to_string()))?
            else {
                break;
            };
            if block.time_ms < after {
                break;
            }
            let Some(block::Body::Epoch(epoch)) = &block.body else { continue };
            let Some(settled) = settled(&block, epoch) else { continue };
            match files.settled(&settled)? {
                Some(of) => receipts.settle(&settled, &of),
                None => receipts.lacks(settled),
            }
        }
        for receipt in waiting {
            // There is room: as many were written.
            let _ = receipts.add(receipt);
        }
        let time_ms = ledger.time_ms();
        let mut court = Self { ledger, receipts, files, found: None };
        if court.receipts.lacking().is_none() {
            // What the file still has of those that wait no longer.
            court.drop_hopeless(time_ms);
        }
        Ok(court)
    }

    /// What those that wait amount to now.
    fn settle(&self, wall_ms: u64) -> Result<Option<Due>, ChainFault> {
        let tokens = self.ledger.tokens();
        let time_ms = wall_ms.max(self.ledger.time_ms());
        let due = tokens.totals.epoch_ms.saturating_add(tokens.economy().epoch_ms.into());
        let early = time_ms < due && !tokens.totals.epoch_full;
        if early || self.receipts.waiting_len() == 0 || self.receipts.lacking().is_some() {
            return Ok(None);
        }
        let waiting = self.receipts.waiting();
        match self.ledger.settle(time_ms, &waiting, &self.receipts) {
            Ok(Settlement { epoch, settled, .. }) => {
                let of = |at: &usize| waiting.get(*at).copied().cloned();
                Ok(epoch.map(|epoch| (epoch, settled.iter().filter_map(of).collect())))
            }
            Err(ApplyError::Refused(refusal)) => {
                tracing::error!(%refusal, "what waits cannot be settled");
                Ok(None)
            }
            Err(ApplyError::Fault(error)) => Err(fault(error)),
        }
    }

    /// A batch that is in the ledger now.
    fn after(&mut self, blocks: &[Vec<u8>], receipts: &[Receipt]) -> Result<(), ChainFault> {
        let Some((block, epoch)) = settlement(blocks) else { return Ok(()) };
        let Some(settled) = settled(&block, &epoch) else { return Ok(()) };
        if receipts.is_empty() {
            self.receipts.lacks(settled);
        } else {
            self.receipts.settle(&settled, receipts);
        }
        let window = self.ledger.economy().window_ms;
        let before = block.time_ms.saturating_sub(u64::from(window)).saturating_sub(limits::CLOCK_AHEAD_MS);
        self.receipts.prune(before);
        if self.receipts.lacking().is_none() {
            self.drop_hopeless(block.time_ms);
        }
        self.files.tidy(&self.receipts).map_err(fault)?;
        let time_of = |index| match self.ledger.parsed(index) {
            Ok(Some(block)) if matches!(block.body, Some(block::Body::Epoch(_))) => Some(block.time_ms),
            // What cannot be read stays.
            Err(_) => Some(u64::MAX),
            _ => None,
        };
        self.files.prune(block.time_ms, time_of).map_err(fault)
    }

    fn drop_hopeless(&mut self, time_ms: u64) {
        self.receipts.drop_hopeless(time_ms, self.ledger.economy().window_ms);
    }

    /// Holds a settlement against its receipts: the same must come of them here.
    fn recompute(
        &self,
        blocks: &[Vec<u8>],
        receipts: &[Receipt],
    ) -> Result<Result<(), NotValid>, ChainFault> {
        let not = |why: String| Ok(Err(NotValid(why)));
        if !belong(blocks, receipts) {
            return not("its receipts are not those that its settlement names".to_owned());
        }
        let Some((block, epoch)) = settlement(blocks) else { return Ok(Ok(())) };
        if let Some(lacking) = self.receipts.lacking() {
            return not(format!(
                "the receipts of the settlement at block {} are not here yet",
                lacking.index
            ));
        }
        let check = |receipt: &Receipt| -> Result<(), Refusal> {
            let body = Some(registration::Body::Receipt(receipt.clone()));
            self.ledger.check(&Registration { body })
        };
        // Those that wait here were checked when they came.
        let new: Vec<&Receipt> =
            receipts.iter().filter(|receipt| !self.receipts.is_waiting(receipt)).collect();
        if let Some(Err(refusal)) = in_parallel(&new, |one| check(one)).into_iter().find(Result::is_err) {
            return not(refusal.to_string());
        }
        let found = match self.ledger.settle(block.time_ms, receipts, &self.receipts) {
            Ok(found) => found,
            Err(ApplyError::Refused(refusal)) => return not(refusal.to_string()),
            Err(ApplyError::Fault(error)) => return Err(fault(error)),
        };
        if let Some((_, why)) = found.unsettled.first() {
            return not(format!("a receipt cannot be settled: {why}"));
        }
        if found.epoch.as_ref() == Some(&epoch) {
            Ok(Ok(()))
        } else {
            not("its sums are not those of its receipts".to_owned())
        }
    }
}

/// The receipts cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// The ledger.
    #[error("the ledger: {0}")]
    Ledger(String),
}

impl Chain for Court {
    fn end(&self) -> End {
        self.ledger.end()
    }

    fn admit(&self, registration: &Registration) -> Result<(), Refusal> {
        self.ledger.admit(registration)
    }

    fn find(&self, refusal: &Refusal, registration: &Registration) -> Result<Option<(u64, u64)>, ChainFault> {
        self.ledger.find(refusal, registration)
    }

    fn propose(&mut self, time_ms: u64, registrations: &[Registration]) -> Result<Proposal, ChainFault> {
        let now = (self.ledger.size(), self.receipts.waiting_len(), time_ms);
        // Whoever proposes has just found out that there is something to propose.
        let found = self.found.take_if(|found| (found.size, found.waiting, found.at_ms) == now);
        let due = match found {
            Some(found) => found.due,
            None => self.settle(time_ms)?,
        };
        let Some((epoch, receipts)) = due else {
            return self.ledger.propose(time_ms, registrations).map_err(fault);
        };
        let mut proposal = self.ledger.propose_with(time_ms, Some(epoch), registrations).map_err(fault)?;
        if settlement(&proposal.blocks).is_some() {
            proposal.receipts = receipts;
        }
        Ok(proposal)
    }

    fn examine(
        &mut self,
        first: u64,
        blocks: &[Vec<u8>],
        receipts: &[Receipt],
    ) -> Result<Result<(Position, antiphon_proto::RootHash), NotValid>, ChainFault> {
        match self.recompute(blocks, receipts)? {
            Ok(()) => self.ledger.examine_batch(first, blocks),
            Err(why) => Ok(Err(why)),
        }
    }

    fn commit(
        &mut self,
        batch: &SealedBatch,
        receipts: &[Receipt],
    ) -> Result<Result<(), NotValid>, ChainFault> {
        let receipts = if belong(&batch.blocks, receipts) { receipts } else { &[] };
        if !receipts.is_empty() {
            // Before the settlement is in the ledger: whoever settles must be able to show of what.
            self.files.write_settled(batch.first, receipts).map_err(fault)?;
        }
        let done = self.ledger.commit_batch(batch)?;
        if done.is_ok() {
            self.after(&batch.blocks, receipts)?;
        }
        Ok(done)
    }

    fn grown(&mut self, batch: &SealedBatch) -> Result<(), ChainFault> {
        self.after(&batch.blocks, &[])
    }

    fn batch_from(&self, first: u64) -> Result<Option<SealedBatch>, ChainFault> {
        self.ledger.batch_from(first).map_err(fault)
    }

    fn keep(&mut self, wall_ms: u64, receipt: &Receipt) -> Result<Kept, ChainFault> {
        let id = receipt.id();
        if let Some(index) = self.receipts.settlement_of(&id) {
            let block = self.ledger.parsed(index).map_err(fault)?;
            return Ok(Kept::Settled { index, height: block.map_or(0, |block| block.height) });
        }
        let alone = std::slice::from_ref(receipt);
        let found = self.ledger.judge_receipts(wall_ms, alone, &self.receipts).map_err(fault)?;
        match found.first() {
            Some((_, Unsettled::Invalid(invalid))) => return Ok(Kept::Refused(invalid.clone().into())),
            Some((_, why)) if !why.may_change() => {
                return Ok(Kept::Refused(Refusal::Receipt(why.to_string())));
            }
            _ => {}
        }
        match self.receipts.add(receipt.clone()) {
            Ok(true) => {
                self.files.add(receipt).map_err(fault)?;
                Ok(Kept::New)
            }
            Ok(false) => Ok(Kept::Known),
            Err(full) => Ok(Kept::Full(full.to_string())),
        }
    }

    fn sync_receipts(&mut self) -> Result<(), ChainFault> {
        self.files.sync().map_err(fault)
    }

    fn is_settlement_due(&mut self, wall_ms: u64) -> Result<bool, ChainFault> {
        let (size, waiting) = (self.ledger.size(), self.receipts.waiting_len());
        if let Some(found) =
            self.found.as_ref().filter(|found| (found.size, found.waiting) == (size, waiting))
        {
            match found.due {
                None if wall_ms < found.at_ms.saturating_add(AGAIN_MS) => return Ok(false),
                Some(_) if found.at_ms == wall_ms => return Ok(true),
                _ => {}
            }
        }
        let due = self.settle(wall_ms)?;
        let is_due = due.is_some();
        self.found = Some(Found { size, waiting, at_ms: wall_ms, due });
        Ok(is_due)
    }

    fn receipts_waiting(&self) -> usize {
        self.receipts.waiting_len()
    }

    fn lacks_receipts_of(&self) -> Option<u64> {
        self.receipts.lacking().map(|settled| settled.index)
    }

    fn settled_receipts(&self, index: u64) -> Result<Option<Vec<Receipt>>, ChainFault> {
        let Some(block) = self.ledger.parsed(index).map_err(fault)? else { return Ok(None) };
        let Some(block::Body::Epoch(epoch)) = &block.body else { return Ok(None) };
        let Some(settled) = settled(&block, epoch) else { return Ok(None) };
        self.files.settled(&settled).map_err(fault)
    }

    fn supply_receipts(&mut self, index: u64, receipts: &[Receipt]) -> Result<bool, ChainFault> {
        let Some(lacking) = self.receipts.lacking().filter(|lacking| lacking.index == index) else {
            return Ok(false);
        };
        if root_of(receipts) != lacking.root {
            return Ok(false);
        }
        self.files.write_settled(index, receipts).map_err(fault)?;
        self.receipts.settle(&lacking, receipts);
        self.files.tidy(&self.receipts).map_err(fault)?;
        Ok(true)
    }
}
