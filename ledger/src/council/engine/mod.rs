//! The consensus algorithm, behind words of our own: Tendermint (Buchman, Kwon, Milosevic, "The latest gossip on BFT
//! consensus", 2018) as malachite implements it, run for one height.
//!
//! Only this folder knows malachite. [`Engine`] takes events and gives acts, in order; it never touches a socket, a
//! file or a clock. Its user must keep two promises: every [`Act::Record`] is on disk before a later [`Act::Say`]
//! leaves this machine and before a later [`Act::Decide`] is acted on; and after a restart what was recorded for the
//! height comes back through [`Engine::replay`] before anything else.

mod codec;
mod context;

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use antiphon_proto::{
    NetworkId, PublicKey, SecretKey, ValueId, canonical,
    certificate::Certificate,
    council::{proposal_message, vote_message},
    genesis::quorum,
    wire::{self, WalEntry, council_message::Body as Message, wal_entry},
};
use arc_malachitebft_core_consensus::{
    ConsensusMsg, Effect, Error, Input, LivenessMsg, LocallyProposedValue, Params, ProposedValue, Resumable,
    Resume, SignedConsensusMsg, State, process,
};
pub(crate) use codec::Malformed;
use context::{At, Digest, Member, Set, Voted, Words};
use malachite::{
    CertificateError, NilOrVal, PolkaCertificate, Round, RoundCertificate, RoundCertificateType,
    SignedMessage, SignedProposal, SignedVote, ThresholdParams, Timeout, TimeoutKind, Validity, ValueOrigin,
    ValuePayload, VoteExtensionPolicy, VoteType,
};

use crate::roster::Members;

/// The algorithm's words, under a name that says whose they are.
use arc_malachitebft_core_types as malachite;

/// Messages of later heights that the algorithm itself would keep: none, they are kept by its user, who starts an
/// engine for each height.
const QUEUE: usize = 1;

/// The steps of a round that end by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Waiting for a proposal.
    Propose,
    /// Enough prevotes, but for different values.
    Prevote,
    /// Enough precommits, but for different values.
    Precommit,
    /// Time to say again what was said.
    Rebroadcast,
}

/// A timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Timer {
    pub(crate) round: u32,
    pub(crate) step: Step,
}

/// What the algorithm wants done, in this order.
#[derive(Debug)]
#[must_use]
pub(crate) enum Act {
    /// Write this down.
    Record(WalEntry),
    /// Tell every other member.
    Say(Message),
    /// Come back with [`Event::Timeout`] when it has elapsed.
    Wait(Timer),
    /// Forget a timer.
    Cancel(Timer),
    /// Forget all timers.
    CancelAll,
    /// It is this member's turn: come back with [`Event::Propose`], if there is something to propose.
    Build { round: u32 },
    /// Send the body of a value to everyone again.
    Restream(ValueId),
    /// A round has begun.
    Round { round: u32, proposer: PublicKey },
    /// The council has decided.
    Decide(Certificate),
}

/// What happens to the algorithm.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A message of another member.
    Heard(Message),
    /// A timer has elapsed.
    Timeout(Timer),
    /// What this member proposes in a round that it was asked for. Its body must be recorded.
    Propose { round: u32, value: ValueId },
    /// The verdict on a value whose body is there. The body of a valid one must be recorded.
    Verdict { round: u32, proposer: PublicKey, value: ValueId, valid: bool },
}

/// The algorithm cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// What is written down contradicts what follows from it: going on could mean to sign two things.
    #[error("the write-ahead log contradicts itself: {0}")]
    Diverged(String),
    /// One event was not understood. The height goes on.
    #[error("{0}")]
    Event(String),
}

/// The algorithm for one height.
pub(crate) struct Engine {
    state: State<Words>,
    host: Host,
}

/// What effects are carried out with.
struct Host {
    key: Arc<SecretKey>,
    network: NetworkId,
    members: Members,
    acts: VecDeque<Act>,
    /// While a log is replayed: what it holds.
    recorded: Option<HashSet<Vec<u8>>>,
}

impl Engine {
    /// Starts a height. `members` are ascending; `proposers` are the same, in the order of their turns.
    pub(crate) fn start(
        key: Arc<SecretKey>,
        network: NetworkId,
        height: u64,
        members: &Members,
        proposers: &[PublicKey],
        log: &[WalEntry],
    ) -> Result<Self, EngineError> {
        let all = |keys: &[PublicKey]| keys.iter().map(|key| Member(*key)).collect();
        let set = Set { members: all(members), proposers: all(proposers) };
        let params = Params {
            address: Member(key.public()),
            threshold_params: ThresholdParams::default(),
            value_payload: ValuePayload::ProposalAndParts,
            enabled: true,
        };
        let state = State::new(Words, At(height), set.clone(), params, QUEUE, QUEUE);
        let host = Host { key, network, members: members.clone(), acts: VecDeque::new(), recorded: None };
        let mut engine = Self { state, host };
        let inputs: Vec<Input<Words>> = log.iter().filter_map(|entry| from_wal(entry, height)).collect();
        if !log.is_empty() {
            engine.state.index_wal_entries(&inputs);
            engine.host.recorded = Some(log.iter().map(canonical::encode).collect());
        }
        let policy = VoteExtensionPolicy::Disabled;
        engine.process(Input::StartHeight(At(height), set, !log.is_empty(), None, policy))?;
        for input in inputs {
            match engine.process(input) {
                Err(EngineError::Event(error)) => {
                    tracing::debug!(%error, "an entry of the log was not taken")
                }
                done => done?,
            }
        }
        engine.state.reset_entries_index();
        engine.host.recorded = None;
        Ok(engine)
    }

    /// The round that is running.
    pub(crate) fn round(&self) -> u32 {
        self.state.round().as_u32().unwrap_or(0)
    }

    /// Takes the next act.
    pub(crate) fn poll(&mut self) -> Option<Act> {
        self.host.acts.pop_front()
    }

    /// Takes an event in. Messages are verified.
    pub(crate) fn handle(&mut self, event: Event) -> Result<(), EngineError> {
        let height = self.state.height();
        let input = match event {
            Event::Heard(message) => {
                let malformed = |error: Malformed| EngineError::Event(error.to_string());
                match heard(&message).map_err(malformed)? {
                    Some(input) => input,
                    None => return Ok(()),
                }
            }
            Event::Timeout(timer) => Input::TimeoutElapsed(timeout(timer)),
            Event::Propose { round, value } => {
                Input::Propose(LocallyProposedValue::new(height, Round::new(round), Digest(value)))
            }
            Event::Verdict { round, proposer, value, valid } => Input::ProposedValue(
                ProposedValue {
                    height,
                    round: Round::new(round),
                    valid_round: Round::Nil,
                    proposer: Member(proposer),
                    value: Digest(value),
                    validity: Validity::from_bool(valid),
                },
                ValueOrigin::Consensus,
            ),
        };
        self.process(input)
    }

    fn process(&mut self, input: Input<Words>) -> Result<(), EngineError> {
        let host = &mut self.host;
        let done: Result<(), Error<Words>> = process!(
            input: input,
            state: &mut self.state,
            metrics: &(),
            with: effect => Ok::<_, EngineError>(host.carry_out(effect))
        );
        done.map_err(|error| match error {
            Error::ReplayDivergence(..) => EngineError::Diverged(error.to_string()),
            error => EngineError::Event(error.to_string()),
        })
    }
}

/// A message as an input; none for messages that are not the algorithm's.
fn heard(message: &Message) -> Result<Option<Input<Words>>, Malformed> {
    Ok(match message {
        Message::Vote(vote) => Some(Input::Vote(codec::vote_from_wire(vote)?)),
        Message::Proposal(proposal) => Some(Input::Proposal(codec::proposal_from_wire(proposal)?)),
        Message::Polka(polka) => Some(Input::PolkaCertificate(codec::polka_from_wire(polka)?)),
        Message::Round(round) => Some(Input::RoundCertificate(codec::round_from_wire(round)?)),
        _ => None,
    })
}

const fn timeout(timer: Timer) -> Timeout {
    let round = Round::new(timer.round);
    match timer.step {
        Step::Propose => Timeout::propose(round),
        Step::Prevote => Timeout::prevote(round),
        Step::Precommit => Timeout::precommit(round),
        Step::Rebroadcast => Timeout::rebroadcast(round),
    }
}

fn timer(timeout: Timeout) -> Option<Timer> {
    let step = match timeout.kind {
        TimeoutKind::Propose => Step::Propose,
        TimeoutKind::Prevote => Step::Prevote,
        TimeoutKind::Precommit => Step::Precommit,
        TimeoutKind::Rebroadcast => Step::Rebroadcast,
        // Heights have no target time here: they are paced by who starts them.
        TimeoutKind::FinalizeHeight(_) => return None,
    };
    Some(Timer { round: timeout.round.as_u32()?, step })
}

/// What is written down, of what the algorithm asks to.
fn to_wal(height: At, input: &Input<Words>) -> Option<WalEntry> {
    let body = match input {
        Input::Vote(vote) => wal_entry::Body::Vote(codec::vote_to_wire(vote)),
        Input::Proposal(proposal) => wal_entry::Body::Proposal(codec::proposal_to_wire(proposal)),
        Input::PolkaCertificate(polka) => wal_entry::Body::Polka(codec::polka_to_wire(polka)),
        Input::TimeoutElapsed(timeout) => {
            let timer = timer(*timeout)?;
            let step = match timer.step {
                Step::Propose => 0,
                Step::Prevote => 1,
                Step::Precommit => 2,
                Step::Rebroadcast => return None,
            };
            wal_entry::Body::Timeout(wire::WalTimeout { height: height.0, round: timer.round, step })
        }
        Input::ProposedValue(value, _) => wal_entry::Body::Value(wire::WalValue {
            height: value.height.0,
            round: value.round.as_u32()?,
            pol: codec::pol_to_wire(value.valid_round),
            proposer: value.proposer.0.0.to_vec(),
            value: value.value.0.0.to_vec(),
            valid: value.validity.is_valid(),
        }),
        Input::StartHeight(..)
        | Input::RoundCertificate(_)
        | Input::Propose(_)
        | Input::SyncValueResponse(_) => return None,
    };
    Some(WalEntry { body: Some(body) })
}

/// An entry of the log as an input, if it is of this height. What cannot be read was not written by this version: it
/// is left out, and a vote that would have followed from it is found missing.
fn from_wal(entry: &WalEntry, height: u64) -> Option<Input<Words>> {
    let input = match entry.body.as_ref()? {
        wal_entry::Body::Vote(vote) if vote.height == height => {
            Input::Vote(codec::vote_from_wire(vote).ok()?)
        }
        wal_entry::Body::Proposal(proposal) if proposal.height == height => {
            Input::Proposal(codec::proposal_from_wire(proposal).ok()?)
        }
        wal_entry::Body::Polka(polka) if polka.height == height => {
            Input::PolkaCertificate(codec::polka_from_wire(polka).ok()?)
        }
        wal_entry::Body::Timeout(timeout_) if timeout_.height == height => {
            let step = match timeout_.step {
                0 => Step::Propose,
                1 => Step::Prevote,
                2 => Step::Precommit,
                _ => return None,
            };
            Input::TimeoutElapsed(timeout(Timer { round: timeout_.round, step }))
        }
        wal_entry::Body::Value(value) if value.height == height => Input::ProposedValue(
            ProposedValue {
                height: At(height),
                round: Round::new(value.round),
                valid_round: codec::pol_from_wire(value.pol),
                proposer: Member(PublicKey::try_from(&value.proposer[..]).ok()?),
                value: Digest(ValueId::try_from(&value.value[..]).ok()?),
                validity: Validity::from_bool(value.valid),
            },
            ValueOrigin::Consensus,
        ),
        _ => return None,
    };
    Some(input)
}

impl Host {
    fn carry_out(&mut self, effect: Effect<Words>) -> Resume<Words> {
        match effect {
            Effect::CancelAllTimeouts(r) => self.acted(Act::CancelAll, r),
            Effect::CancelTimeout(timeout, r) => {
                if let Some(timer) = timer(timeout) {
                    self.act(Act::Cancel(timer));
                }
                r.resume_with(())
            }
            Effect::ScheduleTimeout(timeout, r) => {
                if let Some(timer) = timer(timeout) {
                    self.act(Act::Wait(timer));
                }
                r.resume_with(())
            }
            Effect::StartRound(_, round, proposer, _, r) => {
                let round = round.as_u32().unwrap_or(0);
                self.acted(Act::Round { round, proposer: proposer.0 }, r)
            }
            Effect::PublishConsensusMsg(message, r) => {
                let message = match message {
                    SignedConsensusMsg::Vote(vote) => Message::Vote(codec::vote_to_wire(&vote)),
                    SignedConsensusMsg::Proposal(proposal) => {
                        Message::Proposal(codec::proposal_to_wire(&proposal))
                    }
                };
                self.acted(Act::Say(message), r)
            }
            Effect::PublishLivenessMsg(message, r) => {
                let message = match message {
                    LivenessMsg::Vote(vote) => Message::Vote(codec::vote_to_wire(&vote)),
                    LivenessMsg::PolkaCertificate(polka) => Message::Polka(codec::polka_to_wire(&polka)),
                    LivenessMsg::SkipRoundCertificate(round) => Message::Round(codec::round_to_wire(&round)),
                };
                self.acted(Act::Say(message), r)
            }
            Effect::RepublishVote(vote, r) => {
                self.acted(Act::Say(Message::Vote(codec::vote_to_wire(&vote))), r)
            }
            Effect::RepublishRoundCertificate(round, r) => {
                self.acted(Act::Say(Message::Round(codec::round_to_wire(&round))), r)
            }
            Effect::GetValue(_, round, _, r) => {
                self.acted(Act::Build { round: round.as_u32().unwrap_or(0) }, r)
            }
            Effect::RestreamProposal(_, _, _, _, value, r) => self.acted(Act::Restream(value), r),
            Effect::Decide(certificate, _, r) => {
                let certificate = self.certificate(&certificate);
                self.acted(Act::Decide(certificate), r)
            }
            // The next height is started by who runs this one.
            Effect::Finalize(_, _, evidence, r) => {
                if !evidence.is_empty() {
                    tracing::warn!(?evidence, "members have signed two things in one round");
                }
                r.resume_with(())
            }
            Effect::WalAppend(height, input, r) => {
                self.record(height, &input);
                r.resume_with(())
            }
            effect => self.sign_or_verify(effect),
        }
    }

    fn act(&mut self, act: Act) {
        self.acts.push_back(act);
    }

    fn acted(&mut self, act: Act, resume: impl Resumable<Words, Value = ()>) -> Resume<Words> {
        self.act(act);
        resume.resume_with(())
    }

    fn record(&mut self, height: At, input: &Input<Words>) {
        let Some(entry) = to_wal(height, input) else { return };
        // What is replayed is in the log already. What follows from it for the first time is not.
        let known = |recorded: &HashSet<Vec<u8>>| recorded.contains(&canonical::encode(&entry));
        if !self.recorded.as_ref().is_some_and(known) {
            self.act(Act::Record(entry));
        }
    }

    fn certificate(&self, certificate: &malachite::CommitCertificate<Words>) -> Certificate {
        let round = certificate.round.as_u32().unwrap_or(0);
        let mut ours =
            Certificate::new(certificate.height.0, round, certificate.value_id, self.members.len());
        for one in &certificate.commit_signatures {
            if let Ok(member) = self.members.binary_search(&one.address.0) {
                ours.add(member, one.signature);
            }
        }
        ours
    }

    fn sign_or_verify(&self, effect: Effect<Words>) -> Resume<Words> {
        match effect {
            Effect::SignVote(vote, r) => {
                let signature = self.key.sign(&signed_part(&self.network, &vote));
                r.resume_with(SignedVote::new(vote, signature))
            }
            Effect::SignProposal(proposal, r) => {
                let signature = self.key.sign(&self.proposal_message(&proposal));
                r.resume_with(SignedProposal::new(proposal, signature))
            }
            Effect::VerifySignature(SignedMessage { message, signature }, key, r) => {
                let bytes = match &message {
                    ConsensusMsg::Vote(vote) => signed_part(&self.network, vote),
                    ConsensusMsg::Proposal(proposal) => self.proposal_message(proposal),
                };
                r.resume_with(key.verifies(&bytes, &signature))
            }
            Effect::VerifyCommitCertificate(certificate, _, _, r) => {
                let verified = self.certificate(&certificate).verify(&self.network, &self.members);
                r.resume_with(valid(verified.is_ok()))
            }
            Effect::VerifyPolkaCertificate(polka, _, _, r) => r.resume_with(valid(self.verify_polka(&polka))),
            Effect::VerifyRoundCertificate(round, _, _, r) => r.resume_with(valid(self.verify_round(&round))),
            // Extensions are disabled and values are not synchronised through the algorithm: neither is ever asked.
            Effect::VerifyExtendedCommitCertificate(.., r) => r.resume_with(valid(false)),
            Effect::ExtendVote(.., r) => r.resume_with(None),
            Effect::VerifyVoteExtension(.., r) => {
                r.resume_with(Err(arc_malachitebft_core_consensus::VoteExtensionError::InvalidVoteExtension))
            }
            _ => Resume::Continue,
        }
    }

    fn proposal_message(&self, proposal: &context::Proposed) -> Vec<u8> {
        let round = proposal.round.as_u32().unwrap_or(0);
        let pol = codec::pol_to_wire(proposal.pol);
        proposal_message(&self.network, proposal.height.0, round, pol, &proposal.value.0)
    }

    /// Whether votes are by distinct members, enough of them, and signed.
    fn verify_votes(&self, votes: &[(Voted, [u8; 64])], needed: usize) -> bool {
        let mut seen = HashSet::new();
        let good = |(vote, signature): &(Voted, [u8; 64])| {
            self.members.binary_search(&vote.by.0).is_ok()
                && seen.insert(vote.by.0)
                && vote.by.0.verifies(&signed_part(&self.network, vote), signature)
        };
        votes.len() >= needed && votes.iter().all(good)
    }

    fn verify_polka(&self, polka: &PolkaCertificate<Words>) -> bool {
        let votes: Vec<_> = polka.votes(&Words).map(|vote| (vote.message, vote.signature)).collect();
        self.verify_votes(&votes, quorum(self.members.len()))
    }

    fn verify_round(&self, certificate: &RoundCertificate<Words>) -> bool {
        let votes: Vec<_> = certificate.votes(&Words).map(|vote| (vote.message, vote.signature)).collect();
        let needed = match certificate.cert_type {
            RoundCertificateType::Precommit => {
                if votes.iter().any(|(vote, _)| vote.kind != VoteType::Precommit) {
                    return false;
                }
                quorum(self.members.len())
            }
            // More than a third: one of them at least is honest.
            RoundCertificateType::Skip => self.members.len() / 3 + 1,
        };
        self.verify_votes(&votes, needed)
    }
}

/// A verdict in the algorithm's words. It only writes the reason to a log; ours would say no more.
#[allow(clippy::result_large_err, reason = "the algorithm's own type")]
fn valid(good: bool) -> Result<(), CertificateError<Words>> {
    if good { Ok(()) } else { Err(CertificateError::VerificationError(None)) }
}

/// Whether a vote is its member's, of a network.
pub(crate) fn is_signed(network: &NetworkId, vote: &wire::Vote) -> bool {
    let Ok(SignedMessage { message, signature }) = codec::vote_from_wire(vote) else { return false };
    message.by.0.verifies(&signed_part(network, &message), &signature)
}

/// What a vote's member signs.
fn signed_part(network: &NetworkId, vote: &Voted) -> Vec<u8> {
    let value = match &vote.value {
        NilOrVal::Nil => None,
        NilOrVal::Val(value) => Some(value),
    };
    let round = vote.round.as_u32().unwrap_or(0);
    vote_message(codec::kind(vote.kind), network, vote.height.0, round, value)
}
