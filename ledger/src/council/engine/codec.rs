//! Between the algorithm's types and our messages. Nothing is verified here: lengths and numbers only.

use antiphon_proto::{
    PublicKey, ValueId,
    wire::{self, CouncilVote, VoteKind},
};
use malachite::{
    NilOrVal, PolkaSignature, Round, RoundCertificateType, RoundSignature, SignedProposal, SignedVote,
    VoteType,
};

use super::{
    context::{At, Digest, Member, Proposed, Voted, Words},
    malachite,
};

/// A message that cannot be one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a malformed {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

fn key(bytes: &[u8]) -> Result<Member, Malformed> {
    PublicKey::try_from(bytes).map(Member).map_err(|_| Malformed("key"))
}

fn value(bytes: &[u8]) -> Result<ValueId, Malformed> {
    ValueId::try_from(bytes).map_err(|_| Malformed("value"))
}

fn nil_or_value(bytes: &[u8]) -> Result<NilOrVal<ValueId>, Malformed> {
    if bytes.is_empty() { Ok(NilOrVal::Nil) } else { value(bytes).map(NilOrVal::Val) }
}

fn signature(bytes: &[u8]) -> Result<[u8; 64], Malformed> {
    bytes.try_into().map_err(|_| Malformed("signature"))
}

fn round(round: Round) -> u32 {
    round.as_u32().unwrap_or(0)
}

/// One more than a round that may be none.
pub(super) fn pol_to_wire(pol: Round) -> u32 {
    pol.as_u32().map_or(0, |round| round.saturating_add(1))
}

pub(super) fn pol_from_wire(pol: u32) -> Round {
    pol.checked_sub(1).map_or(Round::Nil, Round::new)
}

fn bytes(value: &NilOrVal<ValueId>) -> Vec<u8> {
    match value {
        NilOrVal::Nil => Vec::new(),
        NilOrVal::Val(value) => value.0.to_vec(),
    }
}

pub(super) const fn kind(kind: VoteType) -> VoteKind {
    match kind {
        VoteType::Prevote => VoteKind::Prevote,
        VoteType::Precommit => VoteKind::Precommit,
    }
}

pub(super) fn vote_to_wire(vote: &SignedVote<Words>) -> wire::Vote {
    wire::Vote {
        kind: kind(vote.message.kind).into(),
        height: vote.message.height.0,
        round: round(vote.message.round),
        value: bytes(&vote.message.value),
        member: vote.message.by.0.0.to_vec(),
        signature: vote.signature.to_vec(),
    }
}

pub(super) fn vote_from_wire(vote: &wire::Vote) -> Result<SignedVote<Words>, Malformed> {
    let kind = match VoteKind::try_from(vote.kind).map_err(|_| Malformed("vote"))? {
        VoteKind::Prevote => VoteType::Prevote,
        VoteKind::Precommit => VoteType::Precommit,
    };
    let voted = Voted {
        kind,
        height: At(vote.height),
        round: Round::new(vote.round),
        value: nil_or_value(&vote.value)?,
        by: key(&vote.member)?,
    };
    Ok(SignedVote::new(voted, signature(&vote.signature)?))
}

pub(super) fn proposal_to_wire(proposal: &SignedProposal<Words>) -> wire::Proposal {
    wire::Proposal {
        height: proposal.message.height.0,
        round: round(proposal.message.round),
        pol: pol_to_wire(proposal.message.pol),
        value: proposal.message.value.0.0.to_vec(),
        member: proposal.message.by.0.0.to_vec(),
        signature: proposal.signature.to_vec(),
    }
}

pub(super) fn proposal_from_wire(proposal: &wire::Proposal) -> Result<SignedProposal<Words>, Malformed> {
    let proposed = Proposed {
        height: At(proposal.height),
        round: Round::new(proposal.round),
        value: Digest(value(&proposal.value)?),
        pol: pol_from_wire(proposal.pol),
        by: key(&proposal.member)?,
    };
    Ok(SignedProposal::new(proposed, signature(&proposal.signature)?))
}

pub(super) fn polka_to_wire(polka: &malachite::PolkaCertificate<Words>) -> wire::PolkaCertificate {
    let signatures = polka
        .polka_signatures
        .iter()
        .map(|one| CouncilVote { member: one.address.0.0.to_vec(), signature: one.signature.to_vec() });
    wire::PolkaCertificate {
        height: polka.height.0,
        round: round(polka.round),
        value: polka.value_id.0.to_vec(),
        signatures: signatures.collect(),
    }
}

pub(super) fn polka_from_wire(
    polka: &wire::PolkaCertificate,
) -> Result<malachite::PolkaCertificate<Words>, Malformed> {
    let one = |vote: &CouncilVote| Ok(PolkaSignature::new(key(&vote.member)?, signature(&vote.signature)?));
    Ok(malachite::PolkaCertificate {
        height: At(polka.height),
        round: Round::new(polka.round),
        value_id: value(&polka.value)?,
        polka_signatures: polka.signatures.iter().map(one).collect::<Result<_, _>>()?,
    })
}

pub(super) fn round_to_wire(certificate: &malachite::RoundCertificate<Words>) -> wire::RoundCertificate {
    let vote = |one: &RoundSignature<Words>| wire::Vote {
        kind: kind(one.vote_type).into(),
        height: certificate.height.0,
        round: round(certificate.round),
        value: bytes(&one.value_id),
        member: one.address.0.0.to_vec(),
        signature: one.signature.to_vec(),
    };
    wire::RoundCertificate {
        height: certificate.height.0,
        round: round(certificate.round),
        precommits: certificate.cert_type == RoundCertificateType::Precommit,
        votes: certificate.round_signatures.iter().map(vote).collect(),
    }
}

pub(super) fn round_from_wire(
    certificate: &wire::RoundCertificate,
) -> Result<malachite::RoundCertificate<Words>, Malformed> {
    let votes: Vec<_> = certificate.votes.iter().map(vote_from_wire).collect::<Result<_, _>>()?;
    let here = |vote: &SignedVote<Words>| {
        vote.message.height.0 == certificate.height && round(vote.message.round) == certificate.round
    };
    if !votes.iter().all(here) {
        return Err(Malformed("round certificate"));
    }
    let kind =
        if certificate.precommits { RoundCertificateType::Precommit } else { RoundCertificateType::Skip };
    let (height, round) = (At(certificate.height), Round::new(certificate.round));
    Ok(malachite::RoundCertificate::new_from_votes(height, round, kind, votes))
}
