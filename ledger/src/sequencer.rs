//! Who puts registrations in order. A peer hands them to a [`Sequencer`] and hears what became of them.
//!
//! [`Solo`] is the sequencer of a network with one member: a thread that takes what is waiting, proposes, seals,
//! appends, and answers when the batch is durable. There is no fixed wait: while one batch is written the next one
//! gathers, so a lonely registration is answered at once and many share a batch.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    thread::JoinHandle,
};

use antiphon_proto::{
    SecretKey, limits,
    record::Invalid,
    wire::{Block, Registration, block, registration},
};
use tokio::sync::oneshot;

use crate::{
    append::{SealedBatch, Verdict},
    ledger::Ledger,
    refusal::Refusal,
    seal::{SealError, Sealer},
    state::Receipt,
};

/// Registrations that wait: what two full batches hold, so that one gathers while one is written. At most 3 MB.
const QUEUE: usize = 2 * limits::BATCH_BLOCKS;

/// What became of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is in the ledger, durably; also when it was there before, by the same registrant and with the same bytes.
    Accepted {
        /// Ledger index of its block.
        index: u64,
        /// Height of its batch.
        height: u64,
    },
    /// It cannot be in the ledger.
    Refused(Refusal),
    /// Not decided: it may be asked again later.
    Unavailable(String),
}

/// An answer that is to come. It always comes: dropping the sequencer makes it [`Answer::Unavailable`].
#[derive(Debug)]
pub struct Submission(oneshot::Receiver<Answer>);

impl Submission {
    /// An answer that is known at once.
    #[must_use]
    pub fn ready(answer: Answer) -> Self {
        let (sender, receiver) = oneshot::channel();
        // The receiver is here: this cannot fail.
        let _ = sender.send(answer);
        Self(receiver)
    }

    /// A submission and the other end, for other sequencers.
    #[must_use]
    pub fn channel() -> (oneshot::Sender<Answer>, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self(receiver))
    }

    /// Blocks until the answer is there. Not for async tasks: those await it.
    #[must_use]
    pub fn wait(self) -> Answer {
        self.0.blocking_recv().unwrap_or_else(|_| stopped())
    }
}

impl Future for Submission {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or_else(|_| stopped()))
    }
}

fn stopped() -> Answer {
    Answer::Unavailable("this peer is stopping".to_owned())
}

/// Puts registrations in order.
pub trait Sequencer: Send + Sync {
    /// Hands a registration in. Never blocks; a full queue is an answer.
    fn submit(&self, registration: Registration) -> Submission;
}

/// Tells the time: milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A sequencer that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The key does not order this network.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// No thread.
    #[error("cannot start the sequencer's thread: {0}")]
    Thread(#[from] io::Error),
}

/// The sequencer of a network with one member.
pub struct Solo {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A registration and who waits for its answer.
struct Pending {
    registration: Registration,
    answer: oneshot::Sender<Answer>,
}

#[derive(Default)]
struct Waiting {
    pending: VecDeque<Pending>,
    stopped: bool,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills `batch` up to a batch's worth; waits when there is nothing at all. `false` when it is over.
    fn gather(&self, batch: &mut VecDeque<Pending>) -> bool {
        let mut waiting = self.lock();
        while !waiting.stopped && batch.is_empty() && waiting.pending.is_empty() {
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let room = limits::BATCH_BLOCKS.saturating_sub(batch.len()).min(waiting.pending.len());
        batch.extend(waiting.pending.drain(..room));
        !waiting.stopped
    }
}

impl Solo {
    /// Starts ordering for the ledger's network, as its member.
    ///
    /// # Errors
    /// [`StartError::Seal`] when `member` is not the network's only member.
    pub fn start(ledger: Ledger, member: SecretKey, clock: Clock) -> Result<Self, StartError> {
        let sealer = Sealer::new(ledger.genesis(), member)?;
        let queue = Arc::new(Queue::default());
        let worker = Worker { ledger, sealer, clock, queue: Arc::clone(&queue) };
        let thread =
            std::thread::Builder::new().name("ledger-sequencer".to_owned()).spawn(move || worker.run())?;
        Ok(Self { queue, thread: Mutex::new(Some(thread)) })
    }

    /// Finishes the batch that is being written, answers what waits with [`Answer::Unavailable`], and gives the
    /// ledger back. May be called more than once.
    pub fn stop(&self) {
        self.queue.lock().stopped = true;
        self.queue.changed.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for Solo {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Sequencer for Solo {
    fn submit(&self, registration: Registration) -> Submission {
        if let Err(refusal) = check_size(&registration) {
            return Submission::ready(Answer::Refused(refusal));
        }
        let mut waiting = self.queue.lock();
        if waiting.stopped {
            return Submission::ready(stopped());
        }
        if waiting.pending.len() >= QUEUE {
            let reason = format!("{QUEUE} registrations are waiting already");
            return Submission::ready(Answer::Unavailable(reason));
        }
        let (answer, submission) = Submission::channel();
        waiting.pending.push_back(Pending { registration, answer });
        drop(waiting);
        self.queue.changed.notify_one();
        submission
    }
}

/// What can never become a song block does not wait in memory either.
pub(crate) fn check_size(registration: &Registration) -> Result<(), Refusal> {
    let limit = limits::SONG_BLOCK_BYTES as u64;
    let got = registration_len(registration) as u64;
    if got > limit { Err(Invalid::Limit { field: "registration", got, limit }.into()) } else { Ok(()) }
}

fn registrant(registration: &Registration) -> &[u8] {
    match &registration.body {
        Some(registration::Body::Song(song)) => &song.registrant,
        Some(registration::Body::Variant(variant)) => &variant.registrant,
        Some(registration::Body::Council(_)) => &[],
        None => &[],
    }
}

fn registration_len(registration: &Registration) -> usize {
    use antiphon_proto::canonical;
    match &registration.body {
        Some(registration::Body::Song(song)) => canonical::encode(song).len(),
        Some(registration::Body::Variant(variant)) => canonical::encode(variant).len(),
        Some(registration::Body::Council(council)) => canonical::encode(council).len(),
        None => 0,
    }
}

struct Worker {
    ledger: Ledger,
    sealer: Sealer,
    clock: Clock,
    queue: Arc<Queue>,
}

impl Drop for Worker {
    /// However the thread ends, nobody is left waiting: a dropped answer says that this peer is stopping.
    fn drop(&mut self) {
        let mut waiting = self.queue.lock();
        waiting.stopped = true;
        waiting.pending.clear();
    }
}

impl Worker {
    fn run(self) {
        let mut batch = VecDeque::new();
        while self.queue.gather(&mut batch) {
            self.decide(&mut batch);
            self.ledger.maintain();
        }
    }

    /// Decides one batch. What did not fit stays for the next one.
    fn decide(&self, batch: &mut VecDeque<Pending>) {
        let (now, later) = self.within_quota(batch);
        let (registrations, answers): (Vec<_>, Vec<_>) =
            now.into_iter().map(|pending| (pending.registration, pending.answer)).unzip();
        let (verdicts, receipts) = match self.append(&registrations) {
            Ok(decided) => decided,
            Err(reason) => {
                tracing::error!(%reason, "a batch was not appended");
                for answer in answers {
                    let _ = answer.send(Answer::Unavailable(reason.clone()));
                }
                batch.extend(later);
                return;
            }
        };
        for ((registration, answer), verdict) in registrations.into_iter().zip(answers).zip(verdicts) {
            let decision = match verdict {
                Verdict::NotThisBatch => {
                    batch.push_back(Pending { registration, answer });
                    continue;
                }
                Verdict::Accepted { position } => accepted(receipts.get(position)),
                Verdict::Refused(refusal) => self.known(&registration, refusal),
            };
            // Whoever asked may have gone: the ledger holds the answer.
            let _ = answer.send(decision);
        }
        batch.extend(later);
    }

    /// Takes everything out, in order, and puts aside what is over its registrant's quota anyway: a whole library
    /// that is scanned would else have all its signatures checked again for every batch.
    fn within_quota(&self, batch: &mut VecDeque<Pending>) -> (Vec<Pending>, Vec<Pending>) {
        let quota = self.ledger.genesis().batch_quota;
        let mut records: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        batch.drain(..).partition(|pending| {
            let records = records.entry(registrant(&pending.registration).to_vec()).or_default();
            *records = records.saturating_add(1);
            *records <= quota
        })
    }

    /// Proposes, seals and appends. The error is what those who wait are told.
    fn append(&self, registrations: &[Registration]) -> Result<(Vec<Verdict>, Vec<Receipt>), String> {
        let proposal = self
            .ledger
            .propose((self.clock)(), registrations)
            .map_err(|fault| format!("the ledger cannot be read: {fault}"))?;
        if proposal.blocks.is_empty() {
            return Ok((proposal.verdicts, Vec::new()));
        }
        let seal = self.sealer.seal(&proposal);
        let batch = SealedBatch { first: proposal.first, blocks: proposal.blocks, seal };
        let receipts = self.ledger.commit(&batch).map_err(|error| error.to_string())?;
        Ok((proposal.verdicts, receipts))
    }

    /// A duplicate of the very same registration is its answer once more: the first one may have been lost.
    fn known(&self, registration: &Registration, refusal: Refusal) -> Answer {
        let Refusal::Duplicate { index, .. } = refusal else { return Answer::Refused(refusal) };
        match self.ledger.parsed(index) {
            Ok(Some(block)) if same(registration, &block) => Answer::Accepted { index, height: block.height },
            Ok(_) => Answer::Refused(refusal),
            Err(error) => Answer::Unavailable(error.to_string()),
        }
    }
}

fn accepted(receipt: Option<&Receipt>) -> Answer {
    match receipt {
        Some(receipt) => Answer::Accepted { index: receipt.index, height: receipt.height },
        None => Answer::Unavailable("the batch holds no such block".to_owned()),
    }
}

fn same(registration: &Registration, block: &Block) -> bool {
    match (&registration.body, &block.body) {
        (Some(registration::Body::Song(a)), Some(block::Body::Song(b))) => a == b,
        (Some(registration::Body::Variant(a)), Some(block::Body::Variant(b))) => a == b,
        (Some(registration::Body::Council(a)), Some(block::Body::Council(b))) => a == b,
        _ => false,
    }
}
