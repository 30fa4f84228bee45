//! Our words for what the consensus algorithm talks about. A value is the digest of a batch's header; an address is a
//! member's key; every member has one vote.

use std::{fmt, sync::Arc};

use antiphon_proto::{PublicKey, ValueId};
use malachite::{
    Address, Context, Height, NilOrVal, Proposal, ProposalPart, Round, SignedExtension, SigningScheme,
    Validator, ValidatorSet, Value, Vote, VoteType, VotingPower,
};

use super::malachite;

/// The family of types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Words;

/// A member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Member(pub(super) PublicKey);

/// A height.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct At(pub(super) u64);

/// What is agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Digest(pub(super) ValueId);

/// A council: members ascending by key, and the order in which they propose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) members: Arc<[Member]>,
    pub(super) proposers: Arc<[Member]>,
}

/// Parts are not streamed through the algorithm: bodies travel by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoPart;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proposed {
    pub(super) height: At,
    pub(super) round: Round,
    pub(super) value: Digest,
    pub(super) pol: Round,
    pub(super) by: Member,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Voted {
    pub(super) kind: VoteType,
    pub(super) height: At,
    pub(super) round: Round,
    pub(super) value: NilOrVal<ValueId>,
    pub(super) by: Member,
}

/// Signatures are made and verified by the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ed25519;

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Address for Member {}

impl Height for At {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);

    fn increment_by(&self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

impl Value for Digest {
    type Id = ValueId;

    fn id(&self) -> ValueId {
        self.0
    }
}

impl Validator<Words> for Member {
    fn address(&self) -> &Self {
        self
    }

    fn public_key(&self) -> &PublicKey {
        &self.0
    }

    fn voting_power(&self) -> VotingPower {
        1
    }
}

impl ValidatorSet<Words> for Set {
    fn count(&self) -> usize {
        self.members.len()
    }

    fn total_voting_power(&self) -> VotingPower {
        self.members.len() as u64
    }

    fn get_by_address(&self, address: &Member) -> Option<&Member> {
        self.members.binary_search(address).ok().and_then(|at| self.members.get(at))
    }

    fn get_by_index(&self, index: usize) -> Option<&Member> {
        self.members.get(index)
    }
}

impl ProposalPart<Words> for NoPart {
    fn is_first(&self) -> bool {
        true
    }

    fn is_last(&self) -> bool {
        true
    }
}

impl Proposal<Words> for Proposed {
    fn height(&self) -> At {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &Digest {
        &self.value
    }

    fn take_value(self) -> Digest {
        self.value
    }

    fn pol_round(&self) -> Round {
        self.pol
    }

    fn validator_address(&self) -> &Member {
        &self.by
    }
}

impl Vote<Words> for Voted {
    fn height(&self) -> At {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<ValueId> {
        &self.value
    }

    fn take_value(self) -> NilOrVal<ValueId> {
        self.value
    }

    fn vote_type(&self) -> VoteType {
        self.kind
    }

    fn validator_address(&self) -> &Member {
        &self.by
    }

    fn extension(&self) -> Option<&SignedExtension<Words>> {
        None
    }

    fn take_extension(&mut self) -> Option<SignedExtension<Words>> {
        None
    }

    fn extend(self, _: SignedExtension<Words>) -> Self {
        self
    }
}

impl SigningScheme for Ed25519 {
    type DecodingError = &'static str;
    type Signature = [u8; 64];
    type PublicKey = PublicKey;
    // The key stays with the host.
    type PrivateKey = ();

    fn decode_signature(bytes: &[u8]) -> Result<[u8; 64], &'static str> {
        bytes.try_into().map_err(|_| "not 64 bytes")
    }

    fn encode_signature(signature: &[u8; 64]) -> Vec<u8> {
        signature.to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<PublicKey, &'static str> {
        PublicKey::try_from(bytes).map_err(|_| "not 32 bytes")
    }

    fn encode_public_key(key: &PublicKey) -> Vec<u8> {
        key.0.to_vec()
    }
}

impl Context for Words {
    type Address = Member;
    type Height = At;
    type ProposalPart = NoPart;
    type Proposal = Proposed;
    type Validator = Member;
    type ValidatorSet = Set;
    type Timeouts = malachite::LinearTimeouts;
    type Value = Digest;
    type Vote = Voted;
    type Extension = ();
    type SigningScheme = Ed25519;

    fn select_proposer<'a>(&self, set: &'a Set, _: At, round: Round) -> &'a Member {
        let round = round.as_u32().unwrap_or(0) as usize;
        // A council has members, so the rest of the division is an index.
        &set.proposers[round % set.proposers.len().max(1)]
    }

    fn new_proposal(&self, height: At, round: Round, value: Digest, pol: Round, by: Member) -> Proposed {
        Proposed { height, round, value, pol, by }
    }

    fn new_prevote(&self, height: At, round: Round, value: NilOrVal<ValueId>, by: Member) -> Voted {
        Voted { kind: VoteType::Prevote, height, round, value, by }
    }

    fn new_precommit(&self, height: At, round: Round, value: NilOrVal<ValueId>, by: Member) -> Voted {
        Voted { kind: VoteType::Precommit, height, round, value, by }
    }
}
