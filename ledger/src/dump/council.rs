//! What a dump's verifier must know of the council. Nothing else here knows what a seal is made of.

use antiphon_proto::{
    BlockHash, PublicKey, RootHash,
    wire::{Block, Genesis, block},
};

use crate::{
    refusal::Refusal,
    roster::{Changes, Roster},
    seal::{SealPolicy, Sealed, check_order, signers},
    state::Position,
};

/// A batch, and what was proven about it before its seal is looked at.
#[derive(Debug, Clone, Copy)]
pub struct SealedAt<'a> {
    /// Index of its first block.
    pub first: u64,
    /// Size of the ledger after it.
    pub size: u64,
    /// RFC 6962 root after it.
    pub root: RootHash,
    /// Hash of its last block.
    pub head: BlockHash,
    /// Its height.
    pub height: u64,
    /// Its time in milliseconds since 1970.
    pub time_ms: u64,
    /// The proof.
    pub seal: &'a [u8],
}

/// Knows who may cosign, and what proves a batch.
pub trait Council {
    /// The members of whom a quorum must have cosigned a checkpoint over `size` blocks. `None` while the blocks that
    /// say so have not been seen; it is asked again behind the last one.
    fn members_at(&mut self, size: u64) -> Option<Vec<PublicKey>>;

    /// Sees the blocks in order, each before the seal of its batch: at least all that are neither songs nor variants,
    /// which say nothing about the council.
    fn see(&mut self, block: &Block);

    /// Whether the seal proves the batch.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check_seal(&mut self, batch: &SealedAt<'_>) -> Result<(), String>;
}

/// The council of the genesis document, and what the blocks make of it.
#[derive(Debug, Clone)]
pub struct GenesisCouncil {
    policy: SealPolicy,
    roster: Roster,
    changes: Changes,
    /// The seal of the batch before.
    seal: Vec<u8>,
    /// An act that cannot stand where it does.
    wrong: Option<Refusal>,
    size: u64,
}

impl GenesisCouncil {
    /// The council that a genesis document names.
    #[must_use]
    pub fn new(genesis: &Genesis) -> Self {
        let roster = Roster::genesis(&genesis.member_keys());
        let changes = roster.no_changes();
        Self { policy: SealPolicy::new(genesis), roster, changes, seal: Vec::new(), wrong: None, size: 0 }
    }
}

impl Council for GenesisCouncil {
    fn members_at(&mut self, size: u64) -> Option<Vec<PublicKey>> {
        (size == self.size).then(|| self.roster.last().to_vec())
    }

    fn see(&mut self, block: &Block) {
        if let Some(block::Body::Council(council)) = &block.body
            && let Err(refusal) = self.roster.apply(&mut self.changes, council, block.height)
        {
            self.wrong = Some(refusal);
        }
    }

    fn check_seal(&mut self, batch: &SealedAt<'_>) -> Result<(), String> {
        if let Some(refusal) = self.wrong.take() {
            return Err(refusal.to_string());
        }
        let position =
            Position { size: batch.size, link: batch.head, height: batch.height, time_ms: batch.time_ms };
        let sealed = Sealed { council: self.roster.current(), position: &position, root: batch.root };
        check_order(&self.seal, batch.seal)
            .and_then(|()| self.policy.verify(&sealed, batch.seal))
            .map_err(|error| error.to_string())?;
        self.seal = batch.seal.to_vec();
        let nothing = self.roster.no_changes();
        let changes = std::mem::replace(&mut self.changes, nothing);
        self.roster = self.roster.advance(batch.height, signers(batch.seal), changes);
        // What was decided counts from the height after the next.
        self.changes = self.roster.no_changes();
        self.size = batch.size;
        Ok(())
    }
}
