//! The shell around a [`Member`]: one thread with the ledger, the log's file and the clocks. Messages, registrations
//! and questions reach it through a bounded queue.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use antiphon_proto::{
    ActId, PublicKey, SecretKey, canonical, limits,
    wire::{CouncilAct, CouncilMessage, Motion, Motions, Registration},
};
use tokio::sync::{oneshot, watch};

use super::{
    Court, FileJournal, Halt, JournalError, Member, MotionError, Now, OpenError, Output, Pace, Report, Setup,
    Ticket, Voting,
};
use crate::{
    append::SealedBatch,
    error::{AppendError, FileError},
    ledger::Ledger,
    roster::{Members, Roster},
    sequencer::{Answer, Clock, Sequencer, Submission, check_size},
    store::files,
};

/// Things that wait for the thread: a few heights of a large council.
const COMMANDS: usize = 4_096;
/// Bytes of messages that wait for it; further ones are dropped, as a network would.
const QUEUED_BYTES: usize = 64 * 1024 * 1024;
/// Things that are taken in before the log is synced, and bytes of messages among them: the bound on what one record
/// of the log holds. More than a batch, so that a batch's worth of registrations that wait becomes one batch.
const BURST: usize = 512;
const BURST_BYTES: usize = 4 * 1024 * 1024;
/// A checkpoint is written so often at most: while many heights are decided a second the newest will do.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(200);
/// Longest message between members: a batch and what is around it.
pub const MESSAGE_BYTES: usize = limits::COUNCIL_MESSAGE_BYTES;
/// File of the write-ahead log in the council's folder.
const WAL: &str = "wal";
/// Folder of the receipts.
const RECEIPTS: &str = "receipts";
/// File of the open motions.
const MOTIONS: &str = "motions";

/// Parts of a message: a batch's blocks are the most that one has. An empty part takes two bytes on the wire and some
/// hundred in memory.
const MESSAGE_PARTS: usize = limits::BATCH_BLOCKS + limits::EPOCH_RECEIPTS + 16;

/// Counts the fields inside the one field of a message, without reading them; none for what is no protobuf.
fn parts(message: &[u8]) -> Option<usize> {
    let mut outer = message;
    let mut most = 0;
    while !outer.is_empty() {
        let mut inner = field(&mut outer)?;
        let mut count = 0usize;
        while !inner.is_empty() {
            field(&mut inner)?;
            count = count.saturating_add(1);
        }
        most = most.max(count);
    }
    Some(most)
}

/// Takes the next field off; its bytes when it is of a length, nothing otherwise.
fn field<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let key = varint(bytes)?;
    let length = match key & 7 {
        0 => {
            varint(bytes)?;
            return Some(&[]);
        }
        1 => 8,
        2 => usize::try_from(varint(bytes)?).ok()?,
        5 => 4,
        _ => return None,
    };
    let (inside, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(if key & 7 == 2 { inside } else { &[] })
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Carries messages to other members. They may be lost, late or repeated, but come from whom they say.
pub trait Transport: Send + Sync + 'static {
    /// Sends to one member, or to every other one. `bulk` messages may be long and must not hold up others. Never
    /// blocks.
    fn send(&self, to: Option<PublicKey>, bulk: bool, message: Vec<u8>);
}

/// Carries nothing: for a council of one.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTransport;

impl Transport for NoTransport {
    fn send(&self, _: Option<PublicKey>, _: bool, _: Vec<u8>) {}
}

/// How a member is started.
pub struct Options {
    /// Folder of the write-ahead log; made when it is missing.
    pub dir: PathBuf,
    /// The member's key.
    pub key: SecretKey,
    /// Tells the time for blocks.
    pub clock: Clock,
    /// How long things take.
    pub pace: Pace,
    /// The member does not know any more what it has signed: its log, if there is one, is put aside.
    pub rejoin: bool,
}

/// A member that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The write-ahead log.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// The receipts.
    #[error(transparent)]
    Receipts(#[from] OpenError),
    /// No thread.
    #[error("cannot start the council's thread: {0}")]
    Thread(std::io::Error),
}

enum Command {
    Heard {
        from: PublicKey,
        message: Box<CouncilMessage>,
        bytes: usize,
    },
    /// Somebody came or went.
    Look,
    Submit {
        registration: Box<Registration>,
        answer: oneshot::Sender<Answer>,
    },
    Append {
        batch: Box<SealedBatch>,
        done: oneshot::Sender<Result<(), AppendError>>,
    },
    Propose {
        act: Box<CouncilAct>,
        done: oneshot::Sender<Result<ActId, MotionError>>,
    },
    Vote {
        act: ActId,
        done: oneshot::Sender<Result<(), MotionError>>,
    },
    Stop,
}

/// A member of the council that runs. Dropping it stops it.
pub struct Council {
    ledger: Ledger,
    commands: SyncSender<Command>,
    queued: Arc<AtomicUsize>,
    /// Who came and went since the thread looked last: at most one change for each member.
    presence: Arc<Mutex<Vec<(PublicKey, bool)>>>,
    report: watch::Receiver<Report>,
    members: watch::Receiver<Vec<PublicKey>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Council {
    /// Starts to vote for the ledger's network. A key that is no member follows and waits until it is one.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(
        ledger: Ledger,
        transport: Arc<dyn Transport>,
        options: Options,
    ) -> Result<Self, StartError> {
        let Options { dir, key, clock, pace, rejoin } = options;
        files::make_dir(&dir)?;
        let (network, me) = (ledger.network(), key.public());
        let wal = dir.join(WAL);
        if rejoin {
            FileJournal::begin_anew(&wal, &network, &me)?;
        }
        let (journal, entries) = FileJournal::open(&wal, &network, &me)?;
        let (commands, queue) = sync_channel(COMMANDS);
        let queued = Arc::new(AtomicUsize::new(0));
        let presence = Arc::new(Mutex::new(Vec::new()));
        let times = Times { start: Instant::now(), clock };
        let setup = Setup {
            key: Arc::new(key),
            network,
            quota: usize::try_from(ledger.genesis().batch_quota).unwrap_or(usize::MAX),
            chain: Court::open(ledger.clone(), &dir.join(RECEIPTS))?,
            journal,
            entries,
            motions: read_motions(&dir.join(MOTIONS))?,
            pace,
            rejoin,
        };
        let quorum_ms = times.now().ms;
        let member = Member::new(setup, times.now());
        let (report_in, report) = watch::channel(member.report(times.now()));
        let (members_in, members) = watch::channel(all_members(&ledger.roster()));
        let host = Host {
            member,
            ledger: ledger.clone(),
            transport,
            times,
            motions: dir.join(MOTIONS),
            report: report_in,
            members: members_in,
            tickets: HashMap::new(),
            next_ticket: 0,
            queued: queued.clone(),
            presence: Arc::clone(&presence),
            checkpoint: None,
            checkpointed: None,
            quorum_ms,
        };
        let thread = std::thread::Builder::new()
            .name("ledger-council".to_owned())
            .spawn(move || host.run(&queue))
            .map_err(StartError::Thread)?;
        Ok(Self { ledger, commands, queued, presence, report, members, thread: Mutex::new(Some(thread)) })
    }

    /// Hands a message of another member in, whose key was checked. What is malformed or too much is dropped.
    pub fn hear(&self, from: PublicKey, message: &[u8]) {
        let bytes = message.len();
        if self.queued.load(Ordering::Relaxed).saturating_add(bytes) > QUEUED_BYTES {
            tracing::debug!(%from, "the council's queue is full: a message is dropped");
            return;
        }
        if parts(message).is_none_or(|parts| parts > MESSAGE_PARTS) {
            tracing::warn!(member = %from, bytes, "a message of too many parts, or none at all");
            return;
        }
        match canonical::decode_lenient::<CouncilMessage>("council message", MESSAGE_BYTES, message) {
            Ok(message) => {
                self.queued.fetch_add(bytes, Ordering::Relaxed);
                let command = Command::Heard { from, message: Box::new(message), bytes };
                if self.commands.try_send(command).is_err() {
                    self.queued.fetch_sub(bytes, Ordering::Relaxed);
                }
            }
            Err(error) => tracing::warn!(member = %from, %error, "a malformed message"),
        }
    }

    /// A member can be reached now.
    pub fn connected(&self, key: PublicKey) {
        self.is_there(key, true);
    }

    /// A member cannot be reached any more.
    pub fn disconnected(&self, key: PublicKey) {
        self.is_there(key, false);
    }

    /// Never lost, however full the queue is: the thread looks here whenever it does something.
    fn is_there(&self, key: PublicKey, there: bool) {
        let mut changes = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        changes.retain(|(other, _)| *other != key);
        changes.push((key, there));
        drop(changes);
        let _ = self.commands.try_send(Command::Look);
    }

    /// Appends a batch that came by other ways. One thread writes to the ledger: this member's.
    ///
    /// # Errors
    /// As [`Ledger::append`]; [`AppendError::Halted`] when the member has stopped.
    pub async fn append(&self, batch: SealedBatch) -> Result<(), AppendError> {
        let (done, answer) = oneshot::channel();
        let command = Command::Append { batch: Box::new(batch), done };
        match self.commands.try_send(command) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(AppendError::Busy),
            Err(TrySendError::Disconnected(_)) => return Err(AppendError::Halted),
        }
        answer.await.unwrap_or(Err(AppendError::Halted))
    }

    /// Proposes an act, and votes for it.
    ///
    /// # Errors
    /// [`MotionError`]; none inside when the member has stopped or has too much to do.
    pub async fn propose(&self, act: CouncilAct) -> Option<Result<ActId, MotionError>> {
        let (done, answer) = oneshot::channel();
        self.commands.try_send(Command::Propose { act: Box::new(act), done }).ok()?;
        answer.await.ok()
    }

    /// Votes for an open motion.
    ///
    /// # Errors
    /// As [`Council::propose`].
    pub async fn vote(&self, act: ActId) -> Option<Result<(), MotionError>> {
        let (done, answer) = oneshot::channel();
        self.commands.try_send(Command::Vote { act, done }).ok()?;
        answer.await.ok()
    }

    /// Where the council is.
    #[must_use]
    pub fn report(&self) -> Report {
        self.report.borrow().clone()
    }

    /// Everyone who may speak to this member: the councils around the end of the ledger.
    #[must_use]
    pub fn members(&self) -> watch::Receiver<Vec<PublicKey>> {
        self.members.clone()
    }

    /// Stops voting, answers what waits with [`Answer::Unavailable`], and gives the ledger back. May be called more
    /// than once.
    pub fn stop(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // The thread takes everything out of the queue before long; if it has ended, the queue is closed.
            let _ = self.commands.send(Command::Stop);
            let _ = thread.join();
        }
    }
}

impl Drop for Council {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Sequencer for Council {
    fn submit(&self, registration: Registration) -> Submission {
        // The signature here, on the asker's thread: the council's own thread finds that it was checked.
        if let Err(refusal) = check_size(&registration).and_then(|()| self.ledger.check(&registration)) {
            return Submission::ready(Answer::Refused(refusal));
        }
        let (answer, submission) = Submission::channel();
        match self.commands.try_send(Command::Submit { registration: Box::new(registration), answer }) {
            Ok(()) => submission,
            Err(TrySendError::Full(_)) => {
                Submission::ready(Answer::Unavailable(format!("{COMMANDS} things are waiting already")))
            }
            // A dropped answer says that this peer is stopping.
            Err(TrySendError::Disconnected(_)) => submission,
        }
    }
}

struct Times {
    start: Instant,
    clock: Clock,
}

impl Times {
    fn now(&self) -> Now {
        let ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        // From an hour on, so that what was due before the start can be told.
        Now { ms: ms.saturating_add(3_600_000), wall_ms: (self.clock)() }
    }
}

struct Host {
    member: Member<Court, FileJournal>,
    ledger: Ledger,
    transport: Arc<dyn Transport>,
    times: Times,
    motions: PathBuf,
    report: watch::Sender<Report>,
    members: watch::Sender<Vec<PublicKey>>,
    tickets: HashMap<Ticket, oneshot::Sender<Answer>>,
    next_ticket: Ticket,
    queued: Arc<AtomicUsize>,
    presence: Arc<Mutex<Vec<(PublicKey, bool)>>>,
    /// A checkpoint that was not written yet.
    checkpoint: Option<(String, Members)>,
    /// When the last one was.
    checkpointed: Option<Instant>,
    /// When there was a quorum last.
    quorum_ms: u64,
}

impl Host {
    fn run(mut self, queue: &Receiver<Command>) {
        // The algorithm asserts what it takes for granted. A broken assertion must stop this member, not the peer.
        let ran = catch_unwind(AssertUnwindSafe(|| self.serve(queue)));
        let why = match ran {
            Ok(Ok(())) => return,
            Ok(Err(halt)) => halt.to_string(),
            Err(_) => "the consensus algorithm has failed".to_owned(),
        };
        tracing::error!(%why, "this member of the council has stopped: it votes no more until it is started again");
        self.report.send_modify(|report| report.voting = Voting::Halted(why));
        // Whoever waits hears that this peer cannot answer.
        self.tickets.clear();
        self.follow_only(queue);
    }

    /// What is left of a member that has stopped: batches that others decide are still appended.
    fn follow_only(&self, queue: &Receiver<Command>) {
        while let Ok(command) = queue.recv() {
            match command {
                Command::Append { batch, done } => {
                    let _ = done.send(self.ledger.append(&batch).map(drop));
                }
                Command::Heard { bytes, .. } => drop(self.queued.fetch_sub(bytes, Ordering::Relaxed)),
                Command::Stop => return,
                // Dropped answers say enough.
                _ => {}
            }
        }
    }

    fn serve(&mut self, queue: &Receiver<Command>) -> Result<(), Halt> {
        self.settle()?;
        loop {
            let now = self.times.now();
            let mut wait = Duration::from_millis(self.member.next_wake(now).saturating_sub(now.ms));
            if self.checkpoint.is_some() {
                wait = wait.min(CHECKPOINT_EVERY);
            }
            let mut command = match queue.recv_timeout(wait) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            let (mut taken, mut bytes) = (0, 0);
            while let Some(next) = command.take() {
                match &next {
                    Command::Stop => return Ok(()),
                    Command::Heard { bytes: more, .. } => bytes += more,
                    _ => {}
                }
                self.take(next)?;
                taken += 1;
                if taken < BURST && bytes < BURST_BYTES {
                    command = queue.try_recv().ok();
                }
            }
            let now = self.times.now();
            let changes = std::mem::take(&mut *self.presence.lock().unwrap_or_else(PoisonError::into_inner));
            for (key, there) in changes {
                if there {
                    self.member.connected(now, key);
                } else {
                    self.member.disconnected(key);
                }
            }
            self.member.tick(now)?;
            self.settle()?;
        }
    }

    fn take(&mut self, command: Command) -> Result<(), Halt> {
        let now = self.times.now();
        match command {
            Command::Heard { from, message, bytes } => {
                self.queued.fetch_sub(bytes, Ordering::Relaxed);
                self.member.hear(now, from, *message)?;
            }
            Command::Look => {}
            Command::Submit { registration, answer } => {
                self.next_ticket = self.next_ticket.wrapping_add(1);
                self.tickets.insert(self.next_ticket, answer);
                self.member.submit(now, *registration, self.next_ticket)?;
            }
            Command::Append { batch, done } => {
                let appended = self.ledger.commit(&batch).map(drop);
                let ok = appended.is_ok();
                let _ = done.send(appended);
                if ok {
                    self.member.grown(now, &batch)?;
                }
            }
            Command::Propose { act, done } => {
                let _ = done.send(self.member.propose_act(now, *act));
            }
            Command::Vote { act, done } => {
                let _ = done.send(self.member.vote_act(now, &act));
            }
            Command::Stop => {}
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Halt> {
        let now = self.times.now();
        self.member.settle(now)?;
        let mut grown = false;
        while let Some(output) = self.member.poll() {
            match output {
                Output::Send { to, bulk, message } => {
                    self.transport.send(to, bulk, canonical::encode(&message));
                }
                Output::Answer { tickets, answer } => {
                    for sender in tickets.iter().filter_map(|ticket| self.tickets.remove(ticket)) {
                        // Whoever asked may have gone: the ledger holds the answer.
                        let _ = sender.send(answer.clone());
                    }
                }
                Output::Checkpoint { note, members } => self.checkpoint = Some((note, members)),
                Output::Grown => grown = true,
                Output::Motions(motions) => self.keep_motions(motions),
            }
        }
        self.write_checkpoint();
        if grown {
            self.ledger.maintain();
            self.members.send_if_modified(|members| {
                let new = all_members(&self.ledger.roster());
                let changed = *members != new;
                *members = new;
                changed
            });
        }
        let mut report = self.member.report(now);
        if report.has_quorum() {
            self.quorum_ms = now.ms;
        }
        report.alone_ms = now.ms.saturating_sub(self.quorum_ms);
        self.report.send_replace(report);
        Ok(())
    }

    fn write_checkpoint(&mut self) {
        if self.checkpointed.is_some_and(|last| last.elapsed() < CHECKPOINT_EVERY) {
            return;
        }
        let Some((note, members)) = self.checkpoint.take() else { return };
        self.checkpointed = Some(Instant::now());
        if let Err(error) = self.ledger.put_checkpoint(note.as_bytes(), &members) {
            tracing::error!(%error, "the newest checkpoint was not kept");
        }
    }

    fn keep_motions(&self, motions: Vec<Motion>) {
        let bytes = canonical::encode(&Motions { motions });
        if let Err(error) = files::write_atomically(&self.motions, &bytes) {
            tracing::error!(%error, "the open motions were not kept: vote again after a restart");
        }
    }
}

/// The councils around the end of the ledger.
fn all_members(roster: &Roster) -> Vec<PublicKey> {
    let mut members: Vec<PublicKey> =
        roster.councils().into_iter().flat_map(|council| council.iter().copied()).collect();
    members.sort_unstable();
    members.dedup();
    members
}

fn read_motions(path: &Path) -> Result<Vec<Motion>, FileError> {
    let limit = 4 * 1024 * 1024;
    let Some(bytes) = files::read_bounded(path, limit)? else { return Ok(Vec::new()) };
    match canonical::decode::<Motions>("motions", limit, &bytes) {
        Ok(motions) => Ok(motions.motions),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the open motions cannot be read: vote again");
            Ok(Vec::new())
        }
    }
}
