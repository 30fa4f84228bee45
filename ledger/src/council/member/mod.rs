//! One member of the council: the algorithm, its log, the pool, and what members tell one another. Sans-IO: messages,
//! time and the ledger come in as arguments or traits, what is to be done comes out of [`Member::poll`].
//!
//! After any number of inputs comes [`Member::settle`]: it makes what was recorded durable, and only then are
//! messages that depend on it given out, and only then is a decision appended to the ledger.

mod height;
mod peers;
mod report;
mod safety;
mod sync;

use std::{collections::VecDeque, sync::Arc};

use antiphon_proto::{
    ActId, NetworkId, PublicKey, SecretKey, canonical,
    certificate::Certificate,
    limits, note,
    wire::{
        Block, CouncilAct, CouncilMessage, Motion, Pending, ReceiptsRequest, Registration, SettledReceipts,
        WalEntry, council_message::Body as Message, registration, wal_entry,
    },
};

use self::{height::Running, peers::Peers, safety::Safety, sync::Sync};
use super::{
    chain::{Chain, ChainFault, Kept, registration_of},
    cosigns::Cosigns,
    engine::{EngineError, is_signed},
    journal::{Journal, JournalError},
    motions::{MotionError, Motions},
    pool::{Pool, Ticket, id_of},
};
use crate::{append::SealedBatch, refusal::Refusal, roster::Members, seal, sequencer::Answer};

pub use self::report::{MemberReport, Report, Voting};

/// The time, as the host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never goes back, for timers.
    pub ms: u64,
    /// Milliseconds since 1970, for blocks.
    pub wall_ms: u64,
}

/// How long things take, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From one height to the next, unless a full batch waits: a network that is used a little makes few blocks of
    /// proof, not one for each song.
    pub height: u64,
    /// Wait for a proposal, in the first round.
    pub propose: u64,
    /// Wait for more votes when there are enough, but not for one value, in the first round.
    pub vote: u64,
    /// What each round adds to both.
    pub delta: u64,
    /// Between two tellings of the same votes.
    pub rebroadcast: u64,
    /// Between two tellings of where this member is.
    pub status: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { height: 1_000, propose: 3_000, vote: 1_000, delta: 500, rebroadcast: 3_000, status: 2_000 }
    }
}

/// How far a proposer's clock may be ahead of this member's: further, and the batch is not voted for.
const CLOCK_AHEAD_MS: u64 = 60_000;
/// Between two askings for the receipts of a settlement.
const RECEIPTS_RETRY_MS: u64 = 2_000;
/// Registrations that nobody here waits for are forgotten after this.
const PENDING_MS: u64 = 10 * 60 * 1_000;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Output {
    /// Send a message to one member, or to all others. Messages may be lost.
    Send {
        /// To whom; `None` for every other member.
        to: Option<PublicKey>,
        /// It may be long, and must not hold up votes.
        bulk: bool,
        /// The message.
        message: CouncilMessage,
    },
    /// Tell askers what became of their registration.
    Answer {
        /// The askers.
        tickets: Vec<Ticket>,
        /// What became of it.
        answer: Answer,
    },
    /// A checkpoint that more than two thirds have cosigned.
    Checkpoint {
        /// The note.
        note: String,
        /// Of whom.
        members: Members,
    },
    /// The ledger has grown.
    Grown,
    /// The open motions have changed: they are worth keeping over a restart.
    Motions(Vec<Motion>),
}

/// This member cannot go on. Nothing that was acknowledged is lost.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// The write-ahead log.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The ledger.
    #[error(transparent)]
    Chain(#[from] ChainFault),
    /// The council has decided what the rules refuse here.
    #[error(
        "the council has decided a batch at height {height} that this member refuses: {why}. This antiphon is too old, or \
         its fingerprint index is wrong: upgrade, or remove fingerprints.redb and start again"
    )]
    Disagrees {
        /// The height.
        height: u64,
        /// Why.
        why: String,
    },
}

/// One member.
pub struct Member<C, J> {
    key: Arc<SecretKey>,
    me: PublicKey,
    network: NetworkId,
    quota: usize,
    pace: Pace,
    chain: C,
    journal: J,
    safety: Safety,
    pool: Pool,
    motions: Motions,
    cosigns: Cosigns,
    peers: Peers,
    sync: Sync,
    running: Option<Running>,
    /// Entries of the log that are of the height which is to be started.
    replay: Vec<WalEntry>,
    /// Messages of heights that have not begun here.
    ahead: VecDeque<(PublicKey, Message)>,
    /// Who has signed the last batch, as far as it is known: more than its seal says.
    last: Option<Certificate>,
    last_commit_ms: u64,
    status_ms: u64,
    /// New registrations that the other members have not been told of.
    gossip: Vec<Registration>,
    /// Who was asked last for the receipts of a settlement that are not here, and when.
    receipts_asked: Option<(PublicKey, u64)>,
    /// What waits for the log to be durable.
    held: Vec<Output>,
    out: VecDeque<Output>,
}

/// What a member begins with.
pub struct Setup<C, J> {
    /// Its key.
    pub key: Arc<SecretKey>,
    /// The network.
    pub network: NetworkId,
    /// Records of one registrant in one batch, from the genesis document.
    pub quota: usize,
    /// The ledger.
    pub chain: C,
    /// The write-ahead log, and what was in it.
    pub journal: J,
    /// What was in it.
    pub entries: Vec<WalEntry>,
    /// The motions that were open.
    pub motions: Vec<Motion>,
    /// How long things take.
    pub pace: Pace,
    /// The member does not know what it has signed, and is to join again.
    pub rejoin: bool,
}

impl<C: Chain, J: Journal> Member<C, J> {
    /// A member that starts, or starts again.
    pub fn new(setup: Setup<C, J>, now: Now) -> Self {
        let Setup { key, network, quota, chain, journal, entries, motions, pace, rejoin } = setup;
        let (me, end) = (key.public(), chain.end());
        let last = seal::certificate(&end.seal, end.roster.last().len());
        let safety = Safety::new(me, &end, last.as_ref(), &entries, rejoin);
        let height = end.position.height.saturating_add(1);
        let mut peers = Peers::default();
        for entry in &entries {
            if let Some(wal_entry::Body::Vote(vote)) = &entry.body {
                peers.logged(vote);
            }
        }
        let replay = entries.into_iter().filter(|entry| height::height_of(entry) == Some(height)).collect();
        let mut member = Self {
            key,
            me,
            network,
            quota,
            pace,
            chain,
            journal,
            safety,
            pool: Pool::default(),
            motions: Motions::default(),
            cosigns: Cosigns::new(note::origin(&network)),
            peers,
            sync: Sync::default(),
            running: None,
            replay,
            ahead: VecDeque::new(),
            last,
            last_commit_ms: now.ms.saturating_sub(pace.height),
            status_ms: now.ms,
            gossip: Vec::new(),
            receipts_asked: None,
            held: Vec::new(),
            out: VecDeque::new(),
        };
        for motion in &motions {
            // What has expired meanwhile is left out.
            let _ = member.motions.add(motion, &network, &end.roster, end.position.height);
        }
        member.submit_carried(now);
        member.cosign(now);
        member
    }

    /// Hands a registration in. The ticket is answered sooner or later, by [`Output::Answer`].
    ///
    /// # Errors
    /// [`Halt`].
    pub fn submit(&mut self, now: Now, registration: Registration, ticket: Ticket) -> Result<(), Halt> {
        if !self.is_member() {
            self.answer(vec![ticket], not_a_member());
            return Ok(());
        }
        let answer = match self.chain.admit(&registration) {
            Err(refusal) => Answer::Refused(refusal),
            Ok(()) if matches!(registration.body, Some(registration::Body::Receipt(_))) => {
                return self.submit_receipt(now, registration, ticket);
            }
            Ok(()) => match self.pool.add(registration.clone(), Some(ticket), now.ms) {
                Ok(true) => {
                    self.gossip.push(registration);
                    return Ok(());
                }
                Ok(false) => return Ok(()),
                Err(full) => Answer::Unavailable(full.to_string()),
            },
        };
        self.answer(vec![ticket], answer);
        Ok(())
    }

    /// Takes a receipt in. Whoever handed it in hears of it when it is on disk.
    fn submit_receipt(&mut self, now: Now, registration: Registration, ticket: Ticket) -> Result<(), Halt> {
        let Some(registration::Body::Receipt(receipt)) = &registration.body else { return Ok(()) };
        let answer = match self.chain.keep(now.wall_ms, receipt)? {
            Kept::New => {
                self.gossip.push(registration);
                Answer::Kept
            }
            Kept::Known => Answer::Kept,
            Kept::Settled { index, height } => Answer::Accepted { index, height },
            Kept::Refused(refusal) => Answer::Refused(refusal),
            Kept::Full(why) => Answer::Unavailable(why),
        };
        self.held.push(Output::Answer { tickets: vec![ticket], answer });
        Ok(())
    }

    /// Whether this member is in the council of one of the next two heights.
    #[must_use]
    pub fn is_member(&self) -> bool {
        let roster = self.chain.end().roster;
        roster.current().contains(&self.me) || roster.next().contains(&self.me)
    }

    /// Takes a message of another member in.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn hear(&mut self, now: Now, from: PublicKey, message: CouncilMessage) -> Result<(), Halt> {
        let Some(message) = message.body else { return Ok(()) };
        let roster = self.chain.end().roster;
        if from == self.me || !roster.knows(&from) {
            return Ok(());
        }
        self.peers.heard(from, now.ms, &message);
        match message {
            Message::Vote(_) | Message::Proposal(_) | Message::Polka(_) | Message::Round(_) => {
                self.hear_consensus(now, from, message)
            }
            Message::Proposed(_) => self.hear_consensus(now, from, message),
            Message::ProposedRequest(request) => {
                self.send_body(from, &request);
                Ok(())
            }
            Message::Pending(pending) => self.hear_pending(now, pending),
            Message::ReceiptsRequest(request) => self.send_receipts(from, request.index),
            Message::Receipts(settled) => {
                if self.chain.supply_receipts(settled.index, &settled.receipts)? {
                    tracing::info!(block = settled.index, member = %from, "the receipts of a settlement are here");
                    self.receipts_asked = None;
                }
                Ok(())
            }
            Message::Status(status) => self.hear_status(now, from, &status),
            Message::BatchesRequest(request) => self.send_batches(from, request.first),
            Message::Batches(batches) => self.hear_batches(now, from, batches),
            Message::Cosigned(cosigned) => {
                self.cosigns.add(from, &cosigned);
                self.checkpoint();
                Ok(())
            }
            Message::Motion(motion) => {
                self.hear_motion(now, &motion);
                Ok(())
            }
        }
    }

    /// Looks at the time. Due whenever [`Member::next_wake`] says so.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn tick(&mut self, now: Now) -> Result<(), Halt> {
        self.run_timers(now)?;
        self.ask_for_bodies(now);
        if self.status_ms <= now.ms {
            self.status_ms = now.ms.saturating_add(self.pace.status);
            self.tell_status(None, false);
            self.pool.expire(now.ms, PENDING_MS);
            self.submit_carried(now);
        }
        self.ask_for_receipts(now);
        self.catch_up(now);
        Ok(())
    }

    /// The ledger has grown by other means than this member.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn grown(&mut self, now: Now, batch: &SealedBatch) -> Result<(), Halt> {
        self.chain.grown(batch)?;
        self.after_commit(now, batch, None)
    }

    /// Makes durable what was recorded, gives out what waited for that, appends what was decided, and begins what is
    /// due.
    ///
    /// # Errors
    /// [`Halt`]; nothing that waited is given out.
    pub fn settle(&mut self, now: Now) -> Result<(), Halt> {
        loop {
            self.tell_pending();
            self.chain.sync_receipts()?;
            self.journal.flush()?;
            self.out.extend(self.held.drain(..));
            if self.commit_decided(now)? {
                continue;
            }
            self.safety_step(now)?;
            if !self.begin_height(now)? && !self.build(now)? {
                break;
            }
        }
        self.journal.flush()?;
        self.out.extend(self.held.drain(..));
        Ok(())
    }

    /// When [`Member::tick`] is due, in milliseconds of [`Now::ms`].
    #[must_use]
    pub fn next_wake(&self, now: Now) -> u64 {
        let running = self.running.as_ref().and_then(Running::next_wake);
        let pace = (self.running.is_none() && !self.pool.is_empty())
            .then(|| self.last_commit_ms.saturating_add(self.pace.height));
        // What was due and could not be done waits for a message, or for the next telling of the status.
        let later = |at: &u64| *at > now.ms;
        let next = [running, pace, self.sync.next_wake()].into_iter().flatten().filter(later);
        next.fold(self.status_ms, u64::min)
    }

    /// Takes the next thing that is to be done.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// It signs whatever it is asked to: one of two machines with the same key, in a simulation.
    #[cfg(test)]
    pub(super) fn be_reckless(&mut self) {
        self.safety.reckless = true;
    }

    /// Proposes an act, and votes for it.
    ///
    /// # Errors
    /// [`MotionError`].
    pub fn propose_act(&mut self, now: Now, act: CouncilAct) -> Result<ActId, MotionError> {
        let id = act.id();
        self.vote_for(now, act)?;
        Ok(id)
    }

    /// Votes for an open motion.
    ///
    /// # Errors
    /// [`MotionError`].
    pub fn vote_act(&mut self, now: Now, id: &ActId) -> Result<(), MotionError> {
        let act = self.motions.act(id).cloned().ok_or(MotionError::Unknown(*id))?;
        self.vote_for(now, act)
    }

    fn vote_for(&mut self, now: Now, act: CouncilAct) -> Result<(), MotionError> {
        let end = self.chain.end();
        if !end.roster.current().contains(&self.me) {
            return Err(MotionError::NotAMember(self.me));
        }
        let votes = vec![act.vote(&self.network, &self.key)];
        let motion = Motion { act: Some(act), votes };
        if self.motions.add(&motion, &self.network, &end.roster, end.position.height)? {
            self.send(None, false, Message::Motion(motion));
            self.motions_changed(now);
        }
        Ok(())
    }

    fn hear_motion(&mut self, now: Now, motion: &Motion) {
        let end = self.chain.end();
        match self.motions.add(motion, &self.network, &end.roster, end.position.height) {
            Ok(true) => self.motions_changed(now),
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, "a motion was not taken"),
        }
    }

    fn motions_changed(&mut self, now: Now) {
        self.out.push_back(Output::Motions(self.motions.all().collect()));
        self.submit_carried(now);
    }

    /// Acts that are voted for by enough members go the way of every registration.
    fn submit_carried(&mut self, now: Now) {
        for registration in self.motions.carried(&self.chain.end().roster) {
            // More votes may have come in meanwhile: the first one decides.
            let _ = self.pool.add(registration, None, now.ms);
        }
    }

    fn hear_pending(&mut self, now: Now, pending: Pending) -> Result<(), Halt> {
        for registration in pending.registrations {
            match (self.chain.admit(&registration), &registration.body) {
                (Ok(()), Some(registration::Body::Receipt(receipt))) => {
                    self.chain.keep(now.wall_ms, receipt)?;
                }
                // A full pool is the sender's loss only: it has the registration itself.
                (Ok(()), _) => drop(self.pool.add(registration, None, now.ms)),
                (Err(refusal), _) => {
                    tracing::debug!(%refusal, "a member passed on what cannot be registered")
                }
            }
        }
        Ok(())
    }

    /// Answers who lacks the receipts of a settlement.
    fn send_receipts(&mut self, to: PublicKey, index: u64) -> Result<(), Halt> {
        if let Some(receipts) = self.chain.settled_receipts(index)? {
            self.send(Some(to), true, Message::Receipts(SettledReceipts { index, receipts }));
        }
        Ok(())
    }

    /// Asks one member after the other for the receipts of a settlement that are not here.
    fn ask_for_receipts(&mut self, now: Now) {
        let Some(index) = self.chain.lacks_receipts_of() else { return };
        let (last, at) = self.receipts_asked.unwrap_or((self.me, 0));
        if at.saturating_add(RECEIPTS_RETRY_MS) > now.ms {
            return;
        }
        let connected: Vec<PublicKey> = self.peers.connected().map(|(key, _)| *key).collect();
        let next = connected.iter().find(|key| **key > last).or(connected.first()).copied();
        let Some(key) = next else { return };
        self.receipts_asked = Some((key, now.ms));
        self.send(Some(key), false, Message::ReceiptsRequest(ReceiptsRequest { index }));
    }

    /// Tells the others what was handed in here.
    fn tell_pending(&mut self) {
        for registrations in height::chunks(std::mem::take(&mut self.gossip)) {
            self.send(None, true, Message::Pending(Pending { registrations }));
        }
    }

    /// Gives a message out when everything that was recorded before it is durable.
    fn send(&mut self, to: Option<PublicKey>, bulk: bool, body: Message) {
        self.held.push(Output::Send { to, bulk, message: CouncilMessage { body: Some(body) } });
    }

    fn answer(&mut self, tickets: Vec<Ticket>, answer: Answer) {
        if !tickets.is_empty() {
            self.out.push_back(Output::Answer { tickets, answer });
        }
    }

    /// Answers a registration that cannot be in the ledger; or that is there already, from the same registrant: then
    /// an earlier answer was lost.
    fn refuse(&mut self, registration: &Registration, refusal: Refusal) -> Result<(), Halt> {
        let Some(tickets) = self.pool.remove(&id_of(registration)) else { return Ok(()) };
        let answer = match self.chain.find(&refusal, registration)? {
            Some((index, height)) => Answer::Accepted { index, height },
            None => Answer::Refused(refusal),
        };
        self.answer(tickets, answer);
        Ok(())
    }

    /// What follows from a batch that is in the ledger now.
    fn after_commit(
        &mut self,
        now: Now,
        batch: &SealedBatch,
        certificate: Option<Certificate>,
    ) -> Result<(), Halt> {
        let end = self.chain.end();
        let (height, roster) = (end.position.height, end.roster);
        let waiting = if self.pool.is_empty() { &[][..] } else { &batch.blocks[..] };
        for (bytes, index) in waiting.iter().zip(batch.first..) {
            // The ledger has accepted it, so it is a block in its one form.
            let block = canonical::decode_lenient::<Block>("block", limits::BLOCK_BYTES, bytes).ok();
            let Some(registration) = block.and_then(registration_of) else { continue };
            if let Some(tickets) = self.pool.remove(&id_of(&registration)) {
                self.answer(tickets, Answer::Accepted { index, height });
            }
        }
        self.pool.next_turn();
        if !self.is_member() {
            let tickets = self.pool.drain();
            self.answer(tickets, not_a_member());
        }
        self.running = None;
        self.replay.clear();
        if certificate.is_none() {
            let last = seal::certificate(&end.seal, roster.last().len());
            self.safety.found(&self.chain.end(), last.as_ref());
            self.last = last;
        } else {
            self.last = certificate;
        }
        self.last_commit_ms = now.ms;
        self.sync.grown(now.ms);
        self.cosigns.retain(|key| roster.knows(key));
        if self.motions.prune(&roster, height) {
            self.motions_changed(now);
        } else {
            self.submit_carried(now);
        }
        self.journal.rewind(&self.safety.keep())?;
        self.ahead.retain(|(_, message)| height::message_height(message) > Some(height));
        self.out.push_back(Output::Grown);
        self.cosign(now);
        self.tell_status(None, false);
        Ok(())
    }

    /// Tells everyone that the log up to here is on disk.
    fn cosign(&mut self, now: Now) {
        let end = self.chain.end();
        if end.position.size == 0 || !end.roster.last().contains(&self.me) {
            return;
        }
        let cosigned = self.cosigns.sign(&self.key, end.position.size, end.root, now.wall_ms / 1_000);
        self.send(None, false, Message::Cosigned(cosigned));
        self.checkpoint();
    }

    fn checkpoint(&mut self) {
        let end = self.chain.end();
        if end.position.size == 0 || !end.roster.last().contains(&self.me) {
            return;
        }
        // The council that has decided the last batch: who joins later need not be there yet.
        let members = end.roster.last().clone();
        if let Some(note) = self.cosigns.checkpoint(&self.key, end.position.size, end.root, &members) {
            self.out.push_back(Output::Checkpoint { note, members });
        }
    }
}

fn not_a_member() -> Answer {
    Answer::Unavailable("this peer is not a member of the council".to_owned())
}

fn log_event(error: &EngineError) {
    tracing::debug!(%error, "a message of a member was not taken");
}
