//! The height that is being decided: when it begins, its timers, its bodies, its decision.

use std::collections::{BTreeMap, BTreeSet};

use antiphon_proto::{
    BlockHash, PublicKey, ValueId, canonical,
    certificate::Certificate,
    council::{VoteKind, proposal_message, vote_message},
    limits,
    wire::{
        self, Block, ProposedBatch, ProposedRequest, Registration, WalEntry,
        council_message::Body as Message, wal_entry,
    },
};

use super::{CLOCK_AHEAD_MS, Chain, Halt, Journal, Member, Now, log_event};
use crate::{
    append::{Proposal, SealedBatch, Verdict},
    council::{
        chain::End,
        court,
        engine::{Act, Engine, EngineError, Event, Step, Timer},
    },
    refusal::Refusal,
    seal::{self, Sealed},
};

/// Bodies of one height that were proposed and are kept: one a round, and some that are not honest. Each may have 1 MiB.
const BODIES: usize = 48;
/// Bodies that are here before their proposal: not judged, not written down.
const EARLY_BODIES: usize = 4;
/// Proposals of one height that are remembered: at most two a round, as the algorithm does.
const PROPOSALS: usize = 96;
const PROPOSALS_PER_ROUND: usize = 2;
/// No step waits longer, however many rounds have passed: what ends a stall must not wait for its timers.
const WAIT_MS: u64 = 20_000;
/// A batch is halved so often at most, round by round.
const HALVINGS: u32 = 6;
/// Registrations that are refused one after the other before anything else is done.
const REFUSED_AT_ONCE: usize = 64;
/// Messages of this member that are told again to who comes back.
const SAID: usize = 64;
/// Messages of later heights that are kept of one sender, and bodies of all senders.
const AHEAD_EACH: usize = 64;
const AHEAD_BODIES: usize = 8;
/// A body is usually on its way when its proposal is there.
const BODY_PATIENCE_MS: u64 = 300;
/// Between two tellings of a height to the same member.
const SAY_AGAIN_MS: u64 = 1_000;
/// Between two askings for a body.
const BODY_RETRY_MS: u64 = 700;

/// A body that is here.
struct Held {
    batch: ProposedBatch,
    /// The verdict, once there is a proposal for it. The blocks of one that is not valid are dropped.
    valid: Option<bool>,
}

/// A proposal whose signature was checked, by whoever's turn it is in its round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    round: u32,
    by: PublicKey,
    value: ValueId,
}

/// A body that is not here.
struct Wanted {
    at_ms: u64,
    asked: usize,
}

/// A batch that this member may propose.
struct Prebuilt {
    proposal: Proposal,
    refused: Vec<(Registration, Refusal)>,
}

/// The height that is being decided.
pub(super) struct Running {
    height: u64,
    engine: Engine,
    pub(super) round: u32,
    pub(super) proposer: PublicKey,
    timers: BTreeMap<Timer, u64>,
    bodies: BTreeMap<ValueId, Held>,
    wanted: BTreeMap<ValueId, Wanted>,
    proposals: Vec<Known>,
    proposers: Vec<PublicKey>,
    /// What this member has said, oldest first.
    said: Vec<Message>,
    /// A round in which it is this member's turn, and it has not proposed.
    build: Option<u32>,
    /// What it would propose, as found out before the height began.
    prebuilt: Option<Prebuilt>,
    /// Rounds in which it has proposed before it was started again.
    proposed: BTreeSet<u32>,
    /// What was refused while a value was built: refused for good when the value is decided.
    refused: BTreeMap<ValueId, Vec<(Registration, Refusal)>>,
    decided: Option<Certificate>,
}

impl Running {
    pub(super) fn next_wake(&self) -> Option<u64> {
        self.timers.values().copied().chain(self.wanted.values().map(|wanted| wanted.at_ms)).min()
    }
}

/// The height of a message of the algorithm; none for others.
pub(super) fn message_height(message: &Message) -> Option<u64> {
    match message {
        Message::Vote(vote) => Some(vote.height),
        Message::Proposal(proposal) => Some(proposal.height),
        Message::Polka(polka) => Some(polka.height),
        Message::Round(round) => Some(round.height),
        Message::Proposed(batch) => batch.header.as_ref().map(|header| header.height),
        _ => None,
    }
}

/// The height of an entry of the log.
pub(super) fn height_of(entry: &WalEntry) -> Option<u64> {
    match entry.body.as_ref()? {
        wal_entry::Body::Vote(vote) => Some(vote.height),
        wal_entry::Body::Proposal(proposal) => Some(proposal.height),
        wal_entry::Body::Polka(polka) => Some(polka.height),
        wal_entry::Body::Timeout(timeout) => Some(timeout.height),
        wal_entry::Body::Value(value) => Some(value.height),
        wal_entry::Body::Proposed(batch) => batch.header.as_ref().map(|header| header.height),
        wal_entry::Body::SilentUntil(_) => None,
    }
}

/// Registrations in messages of at most a batch's bytes.
pub(super) fn chunks(registrations: Vec<Registration>) -> Vec<Vec<Registration>> {
    let mut chunks: Vec<Vec<Registration>> = Vec::new();
    let mut bytes = usize::MAX;
    for registration in registrations {
        let length = canonical::encode(&registration).len();
        bytes = bytes.saturating_add(length);
        match chunks.last_mut() {
            Some(chunk) if bytes <= limits::BATCH_BYTES && chunk.len() < limits::BATCH_BLOCKS => {
                chunk.push(registration);
            }
            _ => {
                bytes = length;
                chunks.push(vec![registration]);
            }
        }
    }
    chunks
}

fn read_proposal(proposal: &wire::Proposal) -> Option<Known> {
    Some(Known {
        round: proposal.round,
        by: PublicKey::try_from(&proposal.member[..]).ok()?,
        value: ValueId::try_from(&proposal.value[..]).ok()?,
    })
}

impl<C: Chain, J: Journal> Member<C, J> {
    /// Takes a message of the algorithm in.
    pub(super) fn hear_consensus(&mut self, now: Now, from: PublicKey, message: Message) -> Result<(), Halt> {
        let Some(height) = message_height(&message) else { return Ok(()) };
        let end = self.chain.end();
        let next = end.position.height.saturating_add(1);
        if height < next {
            self.late_precommit(&end, &message);
            return Ok(());
        }
        if self.running.as_ref().is_some_and(|running| running.height == height) {
            return self.feed(now, from, message);
        }
        let is_body = matches!(message, Message::Proposed(_));
        let bodies = self.ahead.iter().filter(|(_, other)| matches!(other, Message::Proposed(_))).count();
        let of_sender = |at: u64| {
            let same = |(sender, other): &&(PublicKey, Message)| {
                *sender == from && message_height(other) == Some(at)
            };
            self.ahead.iter().filter(same).count()
        };
        let room = of_sender(height) < AHEAD_EACH && (!is_body || bodies < AHEAD_BODIES);
        if room && height <= next.saturating_add(1) {
            self.ahead.push_back((from, message));
        }
        self.catch_up(now);
        Ok(())
    }

    /// Gives the running height a message.
    fn feed(&mut self, now: Now, from: PublicKey, message: Message) -> Result<(), Halt> {
        match message {
            Message::Proposed(batch) => self.hear_body(now, from, batch),
            Message::Proposal(proposal) => {
                let known = self.know_proposal(now, &proposal);
                self.engine(now, Event::Heard(Message::Proposal(proposal)))?;
                // Behind the proposal: the algorithm files the verdict under its round.
                match known {
                    Some(known) => self.tell_verdict(now, known),
                    None => Ok(()),
                }
            }
            message => self.engine(now, Event::Heard(message)),
        }
    }

    /// Runs the algorithm on an event, and carries out what it wants.
    fn engine(&mut self, now: Now, event: Event) -> Result<(), Halt> {
        let Some(running) = &mut self.running else { return Ok(()) };
        match running.engine.handle(event) {
            Ok(()) => {}
            Err(error @ EngineError::Event(_)) => log_event(&error),
            Err(error @ EngineError::Diverged(_)) => return Err(self.diverged(&error)),
        }
        self.drain(now);
        Ok(())
    }

    fn diverged(&self, error: &EngineError) -> Halt {
        Halt::Disagrees { height: self.chain.end().position.height.saturating_add(1), why: error.to_string() }
    }

    fn drain(&mut self, now: Now) {
        while let Some(act) = self.running.as_mut().and_then(|running| running.engine.poll()) {
            self.carry_out(now, act);
        }
    }

    fn carry_out(&mut self, now: Now, act: Act) {
        let Some(running) = &mut self.running else { return };
        match act {
            Act::Record(entry) => {
                if let Some(wal_entry::Body::Vote(vote)) = &entry.body {
                    self.safety.signed(vote);
                }
                self.journal.append(&entry);
            }
            Act::Say(message) => {
                if matches!(message, Message::Vote(_) | Message::Proposal(_))
                    && !running.said.contains(&message)
                {
                    if running.said.len() >= SAID {
                        running.said.remove(0);
                    }
                    running.said.push(message.clone());
                }
                self.send(None, false, message);
            }
            Act::Wait(timer) => {
                let pace = &self.pace;
                let grown =
                    |base: u64| base.saturating_add(pace.delta.saturating_mul(u64::from(timer.round)));
                let wait = match timer.step {
                    Step::Propose => grown(pace.propose),
                    Step::Prevote | Step::Precommit => grown(pace.vote),
                    Step::Rebroadcast => pace.rebroadcast,
                };
                running.timers.insert(timer, now.ms.saturating_add(wait.min(WAIT_MS)));
            }
            Act::Cancel(timer) => drop(running.timers.remove(&timer)),
            Act::CancelAll => running.timers.clear(),
            Act::Build { round } => running.build = Some(round),
            Act::Restream(value) => {
                if let Some(held) = running.bodies.get(&value).filter(|held| held.valid == Some(true)) {
                    let batch = held.batch.clone();
                    self.send(None, true, Message::Proposed(batch));
                }
            }
            Act::Round { round, proposer } => {
                running.round = round;
                running.proposer = proposer;
                running.build = None;
            }
            Act::Decide(certificate) => running.decided = Some(certificate),
        }
    }

    pub(super) fn run_timers(&mut self, now: Now) -> Result<(), Halt> {
        loop {
            let Some(running) = &mut self.running else { return Ok(()) };
            let due = running.timers.iter().find(|(_, at)| **at <= now.ms).map(|(timer, _)| *timer);
            let Some(timer) = due else { return Ok(()) };
            running.timers.remove(&timer);
            if timer.step == Step::Propose && running.build == Some(timer.round) {
                // Too late to propose in this round.
                running.build = None;
            }
            self.engine(now, Event::Timeout(timer))?;
        }
    }

    /// Begins the next height, if there is a reason to. `true` when it has begun.
    pub(super) fn begin_height(&mut self, now: Now) -> Result<bool, Halt> {
        if self.running.is_some() || !self.safety.is_ready() {
            return Ok(false);
        }
        let end = self.chain.end();
        let height = end.position.height.saturating_add(1);
        if !end.roster.current().contains(&self.me) || self.safety.is_ahead_of(end.position.height) {
            return Ok(false);
        }
        let proposers = end.roster.proposers(height);
        let mut prebuilt = None;
        let others_began = self.ahead.iter().any(|(_, message)| message_height(message) == Some(height));
        if self.replay.is_empty() && !others_began {
            let paced = self.last_commit_ms.saturating_add(self.pace.height) <= now.ms;
            if !(paced || self.pool.fills_a_batch(self.quota)) {
                return Ok(false);
            }
            let settles = self.chain.is_settlement_due(now.wall_ms)?;
            if self.pool.is_empty() && !settles {
                return Ok(false);
            }
            if proposers.first() == Some(&self.me) {
                prebuilt = self.prebuild(now, 0)?;
                if prebuilt.is_none() {
                    return Ok(false);
                }
            } else if !settles && !self.anything_acceptable(now)? {
                return Ok(false);
            }
        }
        self.start_engine(now, &end, &proposers, prebuilt)?;
        Ok(true)
    }

    fn start_engine(
        &mut self,
        now: Now,
        end: &End,
        proposers: &[PublicKey],
        prebuilt: Option<Prebuilt>,
    ) -> Result<(), Halt> {
        let height = end.position.height.saturating_add(1);
        let replay = std::mem::take(&mut self.replay);
        let members = end.roster.current();
        let started = Engine::start(self.key.clone(), self.network, height, members, proposers, &replay);
        let engine = match started {
            Ok(engine) => engine,
            Err(error) => return Err(self.diverged(&error)),
        };
        let (mut bodies, mut proposed, mut proposals) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        for entry in replay {
            match entry.body {
                Some(wal_entry::Body::Proposed(batch)) => {
                    let value = batch.header.as_ref().map(wire::BatchHeader::digest);
                    bodies.extend(value.map(|value| (value, Held { batch, valid: Some(true) })));
                }
                Some(wal_entry::Body::Proposal(proposal)) => {
                    if proposal.member == self.me.0 {
                        proposed.insert(proposal.round);
                    }
                    proposals.extend(read_proposal(&proposal));
                }
                _ => {}
            }
        }
        self.running = Some(Running {
            height,
            round: engine.round(),
            engine,
            proposer: proposers.first().copied().unwrap_or(self.me),
            timers: BTreeMap::new(),
            bodies,
            wanted: BTreeMap::new(),
            proposals: proposals.clone(),
            proposers: proposers.to_vec(),
            said: Vec::new(),
            build: None,
            prebuilt,
            proposed,
            refused: BTreeMap::new(),
            decided: None,
        });
        self.drain(now);
        for proposal in proposals {
            // A crash may have come between a body and its verdict.
            self.tell_verdict(now, proposal)?;
        }
        let ahead = std::mem::take(&mut self.ahead);
        for (from, message) in ahead {
            match message_height(&message) {
                Some(other) if other == height => self.feed(now, from, message)?,
                _ => self.ahead.push_back((from, message)),
            }
        }
        Ok(())
    }

    /// Whether there is anything to begin a height for. What is refused by what is in the ledger is answered.
    fn anything_acceptable(&mut self, now: Now) -> Result<bool, Halt> {
        // A pool full of what is refused must not hold up everything else: the rest is looked at with the next status.
        for _ in 0..REFUSED_AT_ONCE {
            let Some((_, registration)) = self.pool.first() else { break };
            let registration = registration.clone();
            let proposal = self.chain.propose(now.wall_ms, std::slice::from_ref(&registration))?;
            match proposal.verdicts.into_iter().next() {
                Some(Verdict::Refused(refusal)) => self.refuse(&registration, refusal)?,
                _ => return Ok(true),
            }
        }
        Ok(false)
    }

    /// What this member would propose; none when everything that waits is refused, and answered.
    /// Later rounds get smaller batches: the one before may have been too much for somebody's line.
    fn prebuild(&mut self, now: Now, round: u32) -> Result<Option<Prebuilt>, Halt> {
        loop {
            let mut chosen = self.pool.select(self.quota);
            chosen.truncate(limits::BATCH_BLOCKS >> round.min(HALVINGS));
            if chosen.is_empty() && !self.chain.is_settlement_due(now.wall_ms)? {
                return Ok(None);
            }
            let proposal = self.chain.propose(now.wall_ms, &chosen)?;
            let refused =
                chosen.into_iter().zip(&proposal.verdicts).filter_map(
                    |(registration, verdict)| match verdict {
                        Verdict::Refused(refusal) => Some((registration, refusal.clone())),
                        Verdict::Accepted { .. } | Verdict::NotThisBatch => None,
                    },
                );
            let refused: Vec<_> = refused.collect();
            if !proposal.blocks.is_empty() {
                return Ok(Some(Prebuilt { proposal, refused }));
            }
            if refused.is_empty() {
                return Ok(None);
            }
            for (registration, refusal) in refused {
                self.refuse(&registration, refusal)?;
            }
        }
    }

    /// Proposes, when it is this member's turn and there is something to propose. `true` when it did.
    pub(super) fn build(&mut self, now: Now) -> Result<bool, Halt> {
        let Some(running) = &mut self.running else { return Ok(false) };
        let Some(round) = running.build else { return Ok(false) };
        if running.proposed.contains(&round) {
            // What was proposed then is in the log, and was said again.
            running.build = None;
            return Ok(false);
        }
        let prebuilt = match running.prebuilt.take() {
            Some(prebuilt) => Some(prebuilt),
            None => self.prebuild(now, round)?,
        };
        let Some(Prebuilt { proposal, refused }) = prebuilt else { return Ok(false) };
        let end = self.chain.end();
        let (signers, last) = match &self.last {
            Some(last) => (last.bitmap(), last.encode()),
            None => (Vec::new(), Vec::new()),
        };
        let sealed = Sealed { council: end.roster.current(), position: &proposal.end, root: proposal.root };
        let header = sealed.header(&self.network, &signers);
        let value = header.digest();
        let batch = ProposedBatch {
            header: Some(header),
            blocks: proposal.blocks,
            last,
            receipts: proposal.receipts,
        };
        // The body first: whoever signs for a value must be able to show it.
        self.journal.append(&WalEntry { body: Some(wal_entry::Body::Proposed(batch.clone())) });
        self.send(None, true, Message::Proposed(batch.clone()));
        if let Some(running) = &mut self.running {
            running.build = None;
            running.refused.insert(value, refused);
            running.bodies.insert(value, Held { batch, valid: Some(true) });
        }
        self.engine(now, Event::Propose { round, value })?;
        Ok(true)
    }

    /// Remembers a proposal, if it is by whoever's turn it is and signed, and asks for its body if that is not here.
    fn know_proposal(&mut self, now: Now, proposal: &wire::Proposal) -> Option<Known> {
        let running = self.running.as_mut()?;
        let known = read_proposal(proposal)?;
        if running.proposals.contains(&known) {
            return Some(known);
        }
        let turn = usize::try_from(known.round).ok()?.checked_rem(running.proposers.len())?;
        let of_round = running.proposals.iter().filter(|other| other.round == known.round).count();
        let message =
            proposal_message(&self.network, proposal.height, proposal.round, proposal.pol, &known.value);
        if running.proposers.get(turn) != Some(&known.by)
            || of_round >= PROPOSALS_PER_ROUND
            || running.proposals.len() >= PROPOSALS
            || !known.by.verifies(&message, &proposal.signature)
        {
            return None;
        }
        running.proposals.push(known);
        if !running.bodies.contains_key(&known.value) {
            let wanted = Wanted { at_ms: now.ms.saturating_add(BODY_PATIENCE_MS), asked: 0 };
            running.wanted.entry(known.value).or_insert(wanted);
        }
        Some(known)
    }

    /// Takes a body in. It is judged when there is a proposal for it.
    fn hear_body(&mut self, now: Now, from: PublicKey, batch: ProposedBatch) -> Result<(), Halt> {
        let Some(value) = batch.header.as_ref().map(wire::BatchHeader::digest) else { return Ok(()) };
        let Some(running) = &self.running else { return Ok(()) };
        if running.bodies.contains_key(&value) {
            return Ok(());
        }
        let proposals: Vec<Known> =
            running.proposals.iter().filter(|proposal| proposal.value == value).copied().collect();
        let early = running.bodies.values().filter(|held| held.valid.is_none()).count();
        let kept = running.bodies.values().filter(|held| held.valid == Some(true)).count();
        if (proposals.is_empty() && early >= EARLY_BODIES) || kept >= BODIES {
            return Ok(());
        }
        if !self.belongs(&self.chain.end(), &batch) {
            tracing::warn!(member = %from, %value, "a member sent a body that is not what its header says");
            return Ok(());
        }
        let Some(running) = &mut self.running else { return Ok(()) };
        running.wanted.remove(&value);
        running.bodies.insert(value, Held { batch, valid: None });
        for proposal in proposals {
            self.tell_verdict(now, proposal)?;
        }
        Ok(())
    }

    /// Tells the algorithm what to think of a proposal, if its body is here.
    fn tell_verdict(&mut self, now: Now, proposal: Known) -> Result<(), Halt> {
        let Known { round, by, value } = proposal;
        let Some(held) = self.running.as_mut().and_then(|running| running.bodies.get_mut(&value)) else {
            return Ok(());
        };
        let valid = match held.valid {
            Some(valid) => valid,
            None => {
                let batch = std::mem::take(&mut held.batch);
                let judged = self.judge(now, &self.chain.end(), &batch)?;
                if let Err(why) = &judged {
                    tracing::warn!(member = %by, %value, %why, "a member proposes what is not valid");
                } else {
                    // Whoever signs for a value must be able to show it, whatever happens.
                    let entry = wal_entry::Body::Proposed(batch.clone());
                    self.journal.append(&WalEntry { body: Some(entry) });
                }
                let Some(running) = &mut self.running else { return Ok(()) };
                let valid = judged.is_ok();
                let batch = if valid { batch } else { ProposedBatch::default() };
                running.bodies.insert(value, Held { batch, valid: Some(valid) });
                valid
            }
        };
        self.engine(now, Event::Verdict { round, proposer: by, value, valid })
    }

    /// Whether these blocks are those that the header commits to, and its certificate is one. If not, it is the
    /// sender who is wrong, and nothing is said about the value.
    fn belongs(&self, end: &End, batch: &ProposedBatch) -> bool {
        let Some(header) = &batch.header else { return false };
        let total: usize = batch.blocks.iter().map(Vec::len).sum();
        if batch.blocks.is_empty() || batch.blocks.len() > limits::BATCH_BLOCKS || total > limits::BATCH_BYTES
        {
            return false;
        }
        // Each block names the one before it, so the last one's hash leaves no choice.
        let mut link = end.position.link;
        for bytes in &batch.blocks {
            let read = canonical::decode_lenient::<Block>("block", limits::BLOCK_BYTES, bytes);
            if !read.is_ok_and(|block| block.prev == link.0) {
                return false;
            }
            link = BlockHash::of(bytes);
        }
        header.head == link.0
            && court::belong(&batch.blocks, &batch.receipts)
            && self.is_last(end, header, &batch.last)
    }

    /// Whether a certificate is of the batch before, and by those whom the header names.
    fn is_last(&self, end: &End, header: &wire::BatchHeader, last: &[u8]) -> bool {
        // At the first height, and after a batch that was sealed by version 0.1, there is none.
        let Some(mine) = &self.last else { return header.signers.is_empty() && last.is_empty() };
        let members = end.roster.last();
        let Ok(theirs) = Certificate::decode(last, members.len()) else { return false };
        theirs.bitmap() == header.signers
            && (theirs.height, theirs.value) == (mine.height, mine.value)
            && (theirs == *mine || theirs.verify(&self.network, members).is_ok())
    }

    /// The verdict on a batch, the same on every member whose clock is right.
    fn judge(&mut self, now: Now, end: &End, batch: &ProposedBatch) -> Result<Result<(), String>, Halt> {
        let Some(header) = &batch.header else { return Ok(Err("no header".to_owned())) };
        if header.time_ms > now.wall_ms.saturating_add(CLOCK_AHEAD_MS) {
            return Ok(Err("it is from the future: a clock is wrong".to_owned()));
        }
        let (position, root) = match self.chain.examine(end.position.size, &batch.blocks, &batch.receipts)? {
            Ok(examined) => examined,
            Err(why) => return Ok(Err(why.0)),
        };
        let sealed = Sealed { council: end.roster.current(), position: &position, root };
        if sealed.header(&self.network, &header.signers) == *header {
            Ok(Ok(()))
        } else {
            Ok(Err("its header is not that of its blocks".to_owned()))
        }
    }

    /// Asks for bodies that did not come by themselves.
    pub(super) fn ask_for_bodies(&mut self, now: Now) {
        let connected: Vec<PublicKey> = self.peers.connected().map(|(key, _)| *key).collect();
        let Some(running) = &mut self.running else { return };
        let mut questions = Vec::new();
        for (value, wanted) in running.wanted.iter_mut().filter(|(_, wanted)| wanted.at_ms <= now.ms) {
            wanted.at_ms = now.ms.saturating_add(BODY_RETRY_MS);
            let whom = wanted.asked.checked_rem(connected.len()).and_then(|at| connected.get(at));
            wanted.asked = wanted.asked.saturating_add(1);
            let request = ProposedRequest { height: running.height, value: value.0.to_vec() };
            questions.extend(whom.map(|key| (*key, request)));
        }
        for (key, request) in questions {
            self.send(Some(key), false, Message::ProposedRequest(request));
        }
    }

    /// Answers who lacks a body.
    pub(super) fn send_body(&mut self, to: PublicKey, request: &ProposedRequest) {
        let Some(running) = &self.running else { return };
        let held = ValueId::try_from(&request.value[..]).ok().and_then(|value| running.bodies.get(&value));
        if let Some(batch) = held.filter(|held| held.valid == Some(true)).map(|held| held.batch.clone()) {
            self.send(Some(to), true, Message::Proposed(batch));
        }
    }

    /// Tells a member that came back what this one has said at this height; not to one that asks all the time.
    pub(super) fn say_again(&mut self, now: Now, to: PublicKey) {
        let Some(running) = &self.running else { return };
        let peer = self.peers.entry(to);
        if peer.told_again_ms.is_some_and(|last| last.saturating_add(SAY_AGAIN_MS) > now.ms) {
            return;
        }
        peer.told_again_ms = Some(now.ms);
        let bodies: Vec<_> = running
            .bodies
            .values()
            .filter(|held| held.valid == Some(true))
            .map(|held| Message::Proposed(held.batch.clone()))
            .collect();
        for body in bodies {
            self.send(Some(to), true, body);
        }
        for message in self.running.as_ref().map(|running| running.said.clone()).unwrap_or_default() {
            self.send(Some(to), false, message);
        }
    }

    /// A precommit for the batch that is in the ledger already: it tells the next proposer who is there.
    fn late_precommit(&mut self, end: &End, message: &Message) {
        let (Message::Vote(vote), Some(last)) = (message, &mut self.last) else { return };
        let same = vote.kind == i32::from(VoteKind::Precommit)
            && (vote.height, vote.round) == (last.height, last.round)
            && vote.value == last.value.0;
        let Ok(key) = PublicKey::try_from(&vote.member[..]) else { return };
        let Ok(signature) = <[u8; 64]>::try_from(&vote.signature[..]) else { return };
        let Some(member) = end.roster.last().iter().position(|member| *member == key) else { return };
        if !same || last.has(member) {
            return;
        }
        let bytes =
            vote_message(VoteKind::Precommit, &self.network, vote.height, vote.round, Some(&last.value));
        if key.verifies(&bytes, &signature) {
            last.add(member, signature);
        }
    }

    /// Appends what was decided. `true` when the ledger has grown.
    pub(super) fn commit_decided(&mut self, now: Now) -> Result<bool, Halt> {
        let Some(running) = &mut self.running else { return Ok(false) };
        let Some(certificate) = running.decided.take() else { return Ok(false) };
        let held = running.bodies.remove(&certificate.value);
        let refused = running.refused.remove(&certificate.value).unwrap_or_default();
        let height = running.height;
        let Some(Held {
            batch: ProposedBatch { header: Some(header), blocks, receipts, .. },
            valid: Some(true),
        }) = held
        else {
            let why = "its body was found not valid".to_owned();
            return Err(Halt::Disagrees { height, why });
        };
        let first = self.chain.end().position.size;
        let batch = SealedBatch { first, blocks, seal: seal::encode(&header.signers, &certificate) };
        if let Err(why) = self.chain.commit(&batch, &receipts)? {
            return Err(Halt::Disagrees { height, why: why.0 });
        }
        self.after_commit(now, &batch, Some(certificate))?;
        for (registration, refusal) in refused {
            self.refuse(&registration, refusal)?;
        }
        Ok(true)
    }
}
