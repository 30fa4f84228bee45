//! One request: asks, reads the stream into large buffers, has them verified, and says how far it is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use antiphon_proto::wire::AudioRequest;
use futures::{AsyncReadExt, FutureExt};
use libp2p::PeerId;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{self, Instant},
};
use tokio_util::task::TaskTracker;

use super::intake::{Buffers, Intake, Refusal};
use crate::{
    config::Timeouts,
    error::FetchError,
    protocol::audio,
    streams::{Opener, PeerStream},
    transfer::{decode::BadBytes, partial::PartialError},
};

/// What is worth a thread's attention when more is there already: half a buffer.
const ENOUGH_BYTES: usize = crate::transfer::encode::PIECE_BYTES / 2;

/// How long a whole group waits for more, unless it is the first one of its request: with several sources each brings
/// little at a time, and every hand-over to a thread wakes two. Far less than what counts as late.
const LINGER: Duration = Duration::from_millis(5);

/// How a request ended.
#[derive(Debug)]
pub(super) enum Ended {
    Complete,
    Early,
    /// Between two groups: there is a better connection with the peer.
    Moved,
    /// The connection broke.
    Lost,
    Bad(BadBytes),
    Disk(PartialError),
    Unanswered(FetchError),
    /// The thread that verifies ended.
    Internal,
}

/// What happens to a request.
#[derive(Debug)]
pub(super) enum Event {
    Answered {
        id: u64,
    },
    /// So many groups came, in all.
    Verified {
        id: u64,
        groups: u64,
    },
    Ended {
        id: u64,
        ended: Ended,
    },
}

/// Since when a request's bytes wait for the disk and the processor here.
#[derive(Debug, Clone)]
pub(super) struct Pulse {
    begin: Instant,
    /// Milliseconds since then, and one; zero: they do not wait.
    since: Arc<AtomicU64>,
}

impl Pulse {
    pub(super) fn new(begin: Instant) -> Self {
        Self { begin, since: Arc::default() }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn starts(&self) {
        self.since.store(self.now(), Ordering::Relaxed);
    }

    fn ends(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    /// Whether the same bytes have been waiting for so long.
    pub(super) fn waits_for(&self, time: Duration) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since > 0 && u128::from(self.now().saturating_sub(since)) >= time.as_millis()
    }
}

/// All that one request needs.
pub(super) struct Asking {
    pub(super) id: u64,
    pub(super) peer: PeerId,
    pub(super) request: AudioRequest,
    /// Size that the file must have.
    pub(super) size: u64,
    pub(super) opener: Opener,
    pub(super) timeouts: Timeouts,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) jobs: TaskTracker,
    pub(super) buffers: Buffers,
    pub(super) pulse: Pulse,
    /// From then on it moves to a better connection.
    pub(super) stays_until: Instant,
}

type Job = JoinHandle<(Intake, Vec<u8>, Result<(), Refusal>)>;

impl Asking {
    /// Runs to the end; nothing is sent after [`Event::Ended`].
    pub(super) async fn run(self, intake: Intake) {
        let ended = match audio::ask(&self.opener, self.peer, &self.request, &self.timeouts).await {
            Ok((_, found)) if found != self.size => {
                Ended::Unanswered(FetchError::Size { expected: self.size, found })
            }
            Ok((stream, _)) => {
                let _ = self.events.send(Event::Answered { id: self.id }).await;
                self.pump(stream, intake).await
            }
            Err(error) => Ended::Unanswered(error),
        };
        let _ = self.events.send(Event::Ended { id: self.id, ended }).await;
    }

    /// Moves bytes until there are no more: one buffer is verified while the next one is filled.
    async fn pump(&self, mut stream: PeerStream, intake: Intake) -> Ended {
        let mut idle = Some(intake);
        let mut job: Option<Job> = None;
        let (mut buffer, mut filled, mut open) = (self.buffers.take(), 0, true);
        let mut due = Due::default();
        let stays_until = self.stays_until;
        let superseded = stream.superseded();
        let moves = async move {
            time::sleep_until(stays_until).await;
            superseded.await;
        };
        tokio::pin!(moves);
        let mut leaves = false;
        loop {
            if let Some(intake) = idle.take_if(|intake| due.is_now(intake, filled, open)) {
                let next = std::mem::replace(&mut buffer, self.buffers.take());
                job = Some(self.verify(intake, next, filled));
                filled = 0;
            }
            if job.is_none() && !open {
                return match leaves {
                    true => Ended::Moved,
                    false if stream.lost_connection().await => Ended::Lost,
                    false => Ended::Early,
                };
            }
            tokio::select! {
                biased;
                read = stream.read(&mut buffer[filled..]), if open && filled < buffer.len() => match read {
                    Ok(0) | Err(_) => open = false,
                    Ok(count) => {
                        filled += count;
                        open = read_on(&mut stream, &mut buffer, &mut filled);
                    }
                },
                done = join(&mut job), if job.is_some() => {
                    job = None;
                    self.pulse.ends();
                    let Some((intake, used, taken)) = done else { return Ended::Internal };
                    self.buffers.give_back(used);
                    let _ = self.events.send(Event::Verified { id: self.id, groups: intake.groups }).await;
                    match taken {
                        Ok(()) if intake.is_complete() => return Ended::Complete,
                        Ok(()) => idle = Some(intake),
                        Err(Refusal::Bad(bad)) => return Ended::Bad(bad),
                        Err(Refusal::Disk(error)) => return Ended::Disk(error),
                    }
                }
                () = due.passes(), if due.at.is_some() => due.passed = true,
                () = &mut moves, if open => {
                    // What has come already is not asked for again.
                    read_on(&mut stream, &mut buffer, &mut filled);
                    (open, leaves) = (false, true);
                }
            }
        }
    }

    fn verify(&self, mut intake: Intake, buffer: Vec<u8>, filled: usize) -> Job {
        self.pulse.starts();
        self.jobs.spawn_blocking(move || {
            let taken = intake.take(buffer.get(..filled).unwrap_or_default());
            (intake, buffer, taken)
        })
    }
}

/// When what is in the buffer goes to a thread.
#[derive(Debug, Default)]
struct Due {
    /// For the whole group that waits.
    at: Option<Instant>,
    passed: bool,
    /// Whether the request's first group went.
    begun: bool,
}

impl Due {
    /// The first group at once, then half a buffer, or at least a group that has waited. Of a stream that ended also the
    /// rest, which may tell why.
    fn is_now(&mut self, intake: &Intake, filled: usize, open: bool) -> bool {
        let whole = filled > 0 && filled >= intake.lacking();
        let now = filled > 0 && (!open || whole && (!self.begun || self.passed || filled >= ENOUGH_BYTES));
        if now {
            *self = Self { begun: true, ..Self::default() };
        } else if whole && self.at.is_none() {
            self.at = Some(Instant::now() + LINGER);
        }
        now
    }

    async fn passes(&self) {
        match self.at {
            Some(at) if !self.passed => time::sleep_until(at).await,
            _ => std::future::pending().await,
        }
    }
}

/// Reads what is there without waiting, up to half a buffer: fewer and larger pieces. False at the end of the stream.
fn read_on(stream: &mut PeerStream, buffer: &mut [u8], filled: &mut usize) -> bool {
    while *filled < ENOUGH_BYTES {
        match stream.read(&mut buffer[*filled..]).now_or_never() {
            None => return true,
            Some(Ok(0) | Err(_)) => return false,
            Some(Ok(count)) => *filled += count,
        }
    }
    true
}

async fn join(job: &mut Option<Job>) -> Option<(Intake, Vec<u8>, Result<(), Refusal>)> {
    match job {
        Some(job) => job.await.ok(),
        None => std::future::pending().await,
    }
}
