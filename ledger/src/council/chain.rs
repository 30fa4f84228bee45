//! The ledger as a member of the council needs it.

use std::sync::Arc;

use antiphon_proto::{
    RootHash,
    wire::{Block, Registration, block, registration},
};

use crate::{
    append::{Proposal, SealedBatch},
    error::AppendError,
    ledger::Ledger,
    refusal::Refusal,
    roster::Roster,
    sequencer::check_size,
    state::Position,
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

    /// Holds blocks that would come next against every rule; the end of the ledger with them.
    ///
    /// # Errors
    /// The outer error is this machine's, the inner one the verdict.
    fn examine(
        &mut self,
        first: u64,
        blocks: &[Vec<u8>],
    ) -> Result<Result<(Position, RootHash), NotValid>, ChainFault>;

    /// Appends a batch, durably.
    ///
    /// # Errors
    /// The outer error is this machine's, the inner one the verdict on the batch.
    fn commit(&mut self, batch: &SealedBatch) -> Result<Result<(), NotValid>, ChainFault>;

    /// The batch that holds a block.
    ///
    /// # Errors
    /// [`ChainFault`].
    fn batch_from(&self, first: u64) -> Result<Option<SealedBatch>, ChainFault>;
}

impl Chain for Ledger {
    fn end(&self) -> End {
        let tip = self.0.store.tip();
        End { position: tip.position, root: tip.root(), roster: tip.roster, seal: tip.seal }
    }

    fn admit(&self, registration: &Registration) -> Result<(), Refusal> {
        check_size(registration)?;
        self.check(registration)
    }

    fn find(&self, refusal: &Refusal, registration: &Registration) -> Result<Option<(u64, u64)>, ChainFault> {
        let Refusal::Duplicate { index, .. } = refusal else { return Ok(None) };
        let block = self.parsed(*index).map_err(|error| ChainFault(error.to_string()))?;
        Ok(block.filter(|block| same(registration, block)).map(|block| (*index, block.height)))
    }

    fn propose(&mut self, time_ms: u64, registrations: &[Registration]) -> Result<Proposal, ChainFault> {
        Self::propose(self, time_ms, registrations).map_err(|fault| ChainFault(fault.to_string()))
    }

    fn examine(
        &mut self,
        first: u64,
        blocks: &[Vec<u8>],
    ) -> Result<Result<(Position, RootHash), NotValid>, ChainFault> {
        verdict(Self::examine(self, first, blocks))
    }

    fn commit(&mut self, batch: &SealedBatch) -> Result<Result<(), NotValid>, ChainFault> {
        verdict(Self::commit(self, batch).map(drop))
    }

    fn batch_from(&self, first: u64) -> Result<Option<SealedBatch>, ChainFault> {
        Self::batch_from(self, first).map_err(|error| ChainFault(error.to_string()))
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
    match (&registration.body, &block.body) {
        (Some(registration::Body::Song(a)), Some(block::Body::Song(b))) => a == b,
        (Some(registration::Body::Variant(a)), Some(block::Body::Variant(b))) => a == b,
        (Some(registration::Body::Council(a)), Some(block::Body::Council(b))) => a == b,
        _ => false,
    }
}

/// The registration in a block.
pub(crate) fn registration_of(block: Block) -> Option<Registration> {
    let body = match block.body? {
        block::Body::Song(song) => registration::Body::Song(song),
        block::Body::Variant(variant) => registration::Body::Variant(variant),
        block::Body::Council(council) => registration::Body::Council(council),
    };
    Some(Registration { body: Some(body) })
}
