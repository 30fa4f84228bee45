//! What a dump's verifier must know of the council. Nothing else here knows what a seal is made of.

use antiphon_proto::{BlockHash, PublicKey, RootHash, wire::Block, wire::Genesis};

use crate::seal::{SealError, SealPolicy};

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

/// The council of the genesis document, for ever.
#[derive(Debug, Clone)]
pub struct GenesisCouncil {
    members: Vec<PublicKey>,
    policy: SealPolicy,
}

impl GenesisCouncil {
    /// The council that a genesis document names.
    ///
    /// # Errors
    /// [`SealError`] when this version cannot follow it.
    pub fn new(genesis: &Genesis) -> Result<Self, SealError> {
        Ok(Self { members: genesis.member_keys(), policy: SealPolicy::new(genesis)? })
    }
}

impl Council for GenesisCouncil {
    fn members_at(&mut self, _: u64) -> Option<Vec<PublicKey>> {
        Some(self.members.clone())
    }

    fn see(&mut self, _: &Block) {}

    fn check_seal(&mut self, batch: &SealedAt<'_>) -> Result<(), String> {
        self.policy.verify(batch.size, batch.root, batch.seal).map_err(|error| error.to_string())
    }
}
