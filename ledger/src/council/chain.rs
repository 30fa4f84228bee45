//! The ledger as a member of the council needs it.

use std::sync::Arc;

use antiphon_proto::{
    RootHash,
    wire::{Block, Receipt, Registration, block, registration},
};

use crate::{
    append::{Proposal, SealedBatch},
    error::AppendError,
    ledger::Ledger,
    refusal::Refusal,
    roster::Roster,
    sequencer::check_size,
    state::{Position, body_of},
};

/// Where the ledger ends, and how.
#[derive(Debug, Clone)]
pub struct End {
    /// Size, last block, height, time.
    pub position: Position,
    /// Root of the log.
    pub root: RootHash,
    /// The council.
    pub roster: Arc<Roster>,
    /// Seal of the last batch, empty when there is none.
    pub seal: Vec<u8>,
}

/// This machine's failure to read or write its ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ledger: {0}")]
pub struct ChainFault(pub String);

/// A batch that is not valid, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotValid(pub String);

/// What became of a receipt that was handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It waits for the next settlement.
    New,
    /// It does so already.
    Known,
    /// It was settled.
    Settled {
        /// Ledger index of the settlement.
        index: u64,
        /// Its height.
        height: u64,
    },
    /// It proves no play.
    Refused(Refusal),
    /// Too many wait.
    Full(String),
}

/// The ledger that a member votes on. Verdicts are the same on every member whose ledger ends alike.
pub trait Chain {
    /// Where it ends.
    fn end(&self) -> End;

    /// Checks all that can be said of a registration without the ledger, so that it is worth to wait.
    ///
    /// # Errors
    /// [`Refusal`].
    fn admit(&self, registration: &Registration) -> Result<(), Refusal>;

    /// Index and height of the block that this very registration has become.
    ///
    /// # Errors
    /// [`ChainFault`].
    fn find(&self, refusal: &Refusal, registration: &Registration) -> Result<Option<(u64, u64)>, ChainFault>;

    /// The batch that these registrations make.
    ///
    /// # Errors
    /// [`ChainFault`].
    fn propose(&mut self, time_ms: u64, registrations: &[Registration]) -> Result<Proposal, ChainFault>;

    /// Holds blocks that would come next against every rule, and the settlement among them against its receipts; the end
    /// of the ledger with them.
    ///
    /// # Errors
    /// The outer error is this machine's, the inner one the verdict.
    fn examine(
        &mut self,
        first: u64,
        blocks: &[Vec<u8>],
        receipts: &[Receipt],
    ) -> Result<Result<(Position, RootHash), NotValid>, ChainFault>;

    /// Appends a batch, durably. The receipts of a settlement in it may be unknown: then there are none.
    ///
    /// # Errors
    /// The outer error is this machine's, the inner one the verdict on the batch.
    fn commit(
        &mut self,
        batch: &SealedBatch,
        receipts: &[Receipt],
    ) -> Result<Result<(), NotValid>, ChainFault>;

    /// A batch was appended by other ways.
    ///
    /// # Errors
    /// [`ChainFault`].
    fn grown(&mut self, batch: &SealedBatch) -> Result<(), ChainFault>;

    /// Takes a receipt in that was admitted. It is durable after [`Chain::sync_receipts`].
    ///
    /// # Errors
    /// [`ChainFault`].
    fn keep(&mut self, wall_ms: u64, receipt: &Receipt) -> Result<Kept, ChainFault>;

    /// Makes the receipts that were taken in durable.
    ///
    /// # Errors
    /// [`ChainFault`].
    fn sync_receipts(&mut self) -> Result<(), ChainFault>;

    /// Whether a settlement is due, and comes to something.
    ///
    /// # Errors
    /// [`ChainFault`].
    fn is_settlement_due(&mut self, wall_ms: u64) -> Result<bool, ChainFault>;

    /// Receipts that wait for a settlement.
    fn receipts_waiting(&self) -> usize;

    /// Ledger index of a settlement of the window whose receipts are not here: without them no further settlement can be
    /// judged.
    fn lacks_receipts_of(&self) -> Option<u64>;

    /// The receipts of a settlement.
    ///
    /// # Errors
    /// [`ChainFault`].
    fn settled_receipts(&self, index: u64) -> Result<Option<Vec<Receipt>>, ChainFault>;

    /// Takes the receipts of a settlement in that were lacking. `true` when they are those.
    ///
    /// # Errors
    /// [`ChainFault`].
    fn supply_receipts(&mut self, index: u64, receipts: &[Receipt]) -> Result<bool, ChainFault>;

    /// The batch that holds a block.
    ///
    /// # Errors
    /// [`ChainFault`].
    fn batch_from(&self, first: u64) -> Result<Option<SealedBatch>, ChainFault>;
}

impl Ledger {
    pub(super) fn end(&self) -> End {
        let tip = self.0.store.tip();
        End { position: tip.position, root: tip.root(), roster: tip.roster, seal: tip.seal }
    }

    /// Checks all that can be said of a registration without the ledger.
    pub(super) fn admit(&self, registration: &Registration) -> Result<(), Refusal> {
        check_size(registration)?;
        self.check(registration)
    }

    /// The block that a registration, which is refused for being there, has become.
    pub(super) fn find(
        &self,
        refusal: &Refusal,
        registration: &Registration,
    ) -> Result<Option<(u64, u64)>, ChainFault> {
        let (Refusal::Duplicate { index, .. } | Refusal::Sequence { last: Some(index), .. }) = refusal else {
            return Ok(None);
        };
        let block = self.parsed(*index).map_err(|error| ChainFault(error.to_string()))?;
        Ok(block.filter(|block| same(registration, block)).map(|block| (*index, block.height)))
    }

    pub(super) fn examine_batch(
        &self,
        first: u64,
        blocks: &[Vec<u8>],
    ) -> Result<Result<(Position, RootHash), NotValid>, ChainFault> {
        verdict(self.examine(first, blocks))
    }

    pub(super) fn commit_batch(&self, batch: &SealedBatch) -> Result<Result<(), NotValid>, ChainFault> {
        verdict(self.commit(batch).map(drop))
    }
}

fn verdict<T>(done: Result<T, AppendError>) -> Result<Result<T, NotValid>, ChainFault> {
    match done {
        Ok(done) => Ok(Ok(done)),
        Err(error) if error.is_verdict() => Ok(Err(NotValid(error.to_string()))),
        Err(error) => Err(ChainFault(error.to_string())),
    }
}

/// Whether a block is what a registration has become.
pub(crate) fn same(registration: &Registration, block: &Block) -> bool {
    block.body.is_some() && body_of(registration).is_ok_and(|body| body == block.body)
}

/// The registration in a block.
pub(crate) fn registration_of(block: Block) -> Option<Registration> {
    let body = match block.body? {
        block::Body::Song(song) => registration::Body::Song(song),
        block::Body::Variant(variant) => registration::Body::Variant(variant),
        block::Body::Council(council) => registration::Body::Council(council),
        block::Body::Transfer(transfer) => registration::Body::Transfer(transfer),
        block::Body::Purchase(purchase) => registration::Body::Purchase(purchase),
        block::Body::Grant(grant) => registration::Body::Grant(grant),
        block::Body::Claim(claim) => registration::Body::Claim(claim),
        // It is made of receipts, which are registered one by one.
        block::Body::Epoch(_) => return None,
    };
    Some(Registration { body: Some(body) })
}
