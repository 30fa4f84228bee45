//! Does what the plan says, and tells it what happened.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use antiphon_proto::wire::{AudioMode, AudioRequest, ByteRange};
use libp2p::PeerId;
use tokio::{
    sync::{mpsc, watch},
    task::{self, AbortHandle, JoinSet},
    time::{self, Instant},
};
use tokio_util::task::TaskTracker;

use super::{
    Download, DownloadProgress, Downloaded, SourceProgress, SourceReport, SourceState,
    intake::{Buffers, Intake, Tally},
    listener::{Cursor, Playback, Readable},
    request::{Asking, Ended, Event, Pulse},
};
use crate::{
    config::Timeouts,
    error::{DownloadError, FetchError, RequestError},
    metrics::Metrics,
    protocol::report,
    score::Offence,
    services::AudioRefusal,
    streams::Opener,
    swarm::{Command, Traffic},
    transfer::{
        decode::Decoder,
        partial::Partial,
        schedule::{ACTIVE, Activity, End, Mode, Output, PER_SOURCE, Scheduler, Settings, Why},
    },
};

/// Events of requests that wait for the driver; each request has few, and waits when it is full.
const EVENTS: usize = 4 * ACTIVE * PER_SOURCE;
/// Between two reports of progress: ten or more a second look smooth, and cost nothing.
const REPORT_EVERY: Duration = Duration::from_millis(50);
/// Bytes that were verified for this long wait for the disk.
const DISK_IS_SLOW: Duration = Duration::from_millis(200);

/// What a download uses of the network.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) opener: Opener,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) timeouts: Timeouts,
    pub(crate) metrics: Metrics,
    pub(crate) traffic: Traffic,
    /// Moves whenever a peer connects or leaves.
    pub(crate) changes: watch::Receiver<u64>,
}

/// Who takes part, or did.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) brought: Arc<AtomicU64>,
    pub(super) failure: Option<FetchError>,
}

#[derive(Debug)]
struct Running {
    peer: PeerId,
    abort: AbortHandle,
    pulse: Pulse,
}

/// Where progress goes.
type Report<'a> = &'a (dyn Fn(DownloadProgress) + Send + Sync);

/// One download under way.
pub(crate) struct Driver<'a> {
    pub(super) context: Context,
    download: Download,
    playback: Option<Playback>,
    partial: Partial,
    before: u64,
    begin: Instant,
    pub(super) plan: Scheduler<PeerId>,
    verified: Arc<watch::Sender<u64>>,
    pub(super) known: BTreeMap<PeerId, Known>,
    /// Sources that the plan has given up while the caller still names them, and whether each was without a connection
    /// since then.
    pub(super) given_up: BTreeMap<PeerId, bool>,
    /// When to look next who is connected, while a source is not.
    pub(super) look_at: Option<Instant>,
    /// Requests under way, and the tasks that they are. Bounded by the plan.
    running: HashMap<u64, Running>,
    ids: HashMap<task::Id, u64>,
    tasks: JoinSet<()>,
    jobs: TaskTracker,
    buffers: Buffers,
    events: mpsc::Receiver<Event>,
    to_events: mpsc::Sender<Event>,
    report: Report<'a>,
    reported: Option<Instant>,
    pub(super) unreported: bool,
    jumps: u64,
    /// When to end for want of sources.
    pub(super) give_up_at: Option<Instant>,
}

/// How a download ends.
enum Outcome {
    Complete,
    Failed(DownloadError),
}

impl<'a> Driver<'a> {
    /// Opens the partial file.
    pub(crate) async fn open(
        context: Context,
        mut download: Download,
        report: Report<'a>,
    ) -> Result<Self, DownloadError> {
        let (part, content, size) = (download.part.clone(), download.content, download.size);
        let opened = task::spawn_blocking(move || Partial::open(&part, content, size)).await;
        let partial = opened.map_err(|_| DownloadError::Internal)??;
        let before = partial.verified_bytes();
        let playback = download.playback.take();
        let mode = playback.as_ref().map_or(Mode::Bulk, |playback| Mode::Play { rate: playback.rate });
        let settings = Settings { stall: context.timeouts.stall, once: download.once.is_some() };
        let begin = Instant::now();
        let plan = Scheduler::new(partial.present().lock().clone(), mode, settings, begin.into_std());
        let verified = Arc::new(watch::channel(before).0);
        if let Some(playback) = &playback {
            let readable =
                Readable { data: partial.data(), present: partial.present(), verified: verified.subscribe() };
            playback.readable.send_replace(Some(readable));
        }
        let (to_events, events) = mpsc::channel(EVENTS);
        Ok(Self {
            context,
            download,
            playback,
            partial,
            before,
            begin,
            plan,
            verified,
            known: BTreeMap::new(),
            given_up: BTreeMap::new(),
            look_at: None,
            running: HashMap::new(),
            ids: HashMap::new(),
            tasks: JoinSet::new(),
            jobs: TaskTracker::new(),
            buffers: Buffers::default(),
            events,
            to_events,
            report,
            reported: None,
            unreported: true,
            jumps: 0,
            give_up_at: None,
        })
    }

    /// Runs to the end.
    pub(crate) async fn run(
        mut self,
        mut sources: watch::Receiver<Vec<PeerId>>,
    ) -> Result<Downloaded, DownloadError> {
        let outcome = self.drive(&mut sources).await;
        self.tasks.shutdown().await;
        // What is being written is written before anybody else may touch the file.
        self.jobs.close();
        self.jobs.wait().await;
        self.tell(Instant::now(), true);
        match outcome {
            Outcome::Complete => {
                let fetched_bytes = self.partial.verified_bytes().saturating_sub(self.before);
                let sources = self.reports();
                Ok(Downloaded { fetched_bytes, sources, partial: self.partial })
            }
            Outcome::Failed(DownloadError::NoSources { .. }) => {
                let (verified, total) = (self.partial.verified_bytes(), self.download.size);
                Err(DownloadError::NoSources { verified, total, sources: self.reports() })
            }
            Outcome::Failed(error) => Err(error),
        }
    }

    async fn drive(&mut self, sources: &mut watch::Receiver<Vec<PeerId>>) -> Outcome {
        let mut named = true;
        let mut changes = self.context.changes.clone();
        changes.mark_unchanged();
        self.update_sources(sources).await;
        loop {
            self.excuse_the_disk();
            let now = Instant::now();
            if self.look_at.is_some_and(|at| at <= now) {
                self.look(sources).await;
            }
            while let Some(output) = self.plan.poll(now.into_std()) {
                if let Some(outcome) = self.act(output, named, now) {
                    return outcome;
                }
            }
            if self.give_up_at.is_some_and(|at| at <= now) {
                return no_sources();
            }
            self.tell(now, false);
            let wake = self.next_wake(now);
            let sleep = async {
                match wake {
                    Some(at) => time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(event) = self.events.recv() => {
                    if let Some(outcome) = self.take_all(event).await {
                        return outcome;
                    }
                }
                Some(joined) = self.tasks.join_next_with_id() => self.reap(joined.map(|(id, ())| id)),
                changed = sources.changed(), if named => match changed {
                    Ok(()) => self.update_sources(sources).await,
                    Err(_) => named = false,
                },
                Ok(()) = changes.changed() => self.look(sources).await,
                moved = moved(&mut self.playback) => self.follow(moved),
                () = sleep => {}
            }
        }
    }

    fn next_wake(&self, now: Instant) -> Option<Instant> {
        let plan = self.plan.next_wake(now.into_std()).map(Instant::from_std);
        let report = self.reported.filter(|_| self.unreported).map(|at| at + REPORT_EVERY);
        [plan, report, self.give_up_at, self.look_at].into_iter().flatten().min()
    }

    // --- what the plan wants

    fn act(&mut self, output: Output<PeerId>, named: bool, now: Instant) -> Option<Outcome> {
        self.unreported = true;
        match output {
            Output::Start { id, peer, ranges, mode, stays_until } => {
                self.start(id, peer, ranges, mode, Instant::from_std(stays_until));
            }
            Output::Cancel { id } => {
                if let Some(running) = self.running.remove(&id) {
                    running.abort.abort();
                }
            }
            Output::Dropped { peer, why } => self.dropped(peer, why),
            Output::Call { peer } => {
                tracing::debug!(%peer, "nothing comes; another connection is sought");
                // When the actor has that much to do, there is a next time.
                let _ = self.context.commands.try_send(Command::Reach { peer, suspect: true });
            }
            Output::Complete => return Some(Outcome::Complete),
            Output::NoSources if named && !self.download.patience.is_zero() => {
                self.give_up_at.get_or_insert(now + self.download.patience);
            }
            Output::NoSources => return Some(no_sources()),
        }
        None
    }

    fn start(
        &mut self,
        id: u64,
        peer: PeerId,
        ranges: Vec<ByteRange>,
        mode: AudioMode,
        stays_until: Instant,
    ) {
        let (content, size) = (self.download.content, self.download.size);
        let tally = Tally {
            brought: self.known.entry(peer).or_default().brought.clone(),
            verified: self.verified.clone(),
            peer,
            traffic: self.context.traffic.clone(),
            metrics: self.context.metrics.clone(),
        };
        let intake = Intake::new(Decoder::new(&content, size, &ranges), self.partial.sink(), tally);
        let pulse = Pulse::new(self.begin);
        let asking = Asking {
            id,
            peer,
            request: AudioRequest {
                content_hash: content.0.to_vec(),
                ranges,
                mode: self.download.once.unwrap_or(mode).into(),
                access_token: self.download.access_token.clone(),
            },
            size,
            opener: self.context.opener.clone(),
            timeouts: self.context.timeouts.clone(),
            events: self.to_events.clone(),
            jobs: self.jobs.clone(),
            buffers: self.buffers.clone(),
            pulse: pulse.clone(),
            stays_until,
        };
        tracing::trace!(id, %peer, ranges = ?asking.request.ranges, "asking for a part of a file");
        let abort = self.tasks.spawn(asking.run(intake));
        self.ids.insert(abort.id(), id);
        self.running.insert(id, Running { peer, abort, pulse });
    }

    fn dropped(&mut self, peer: PeerId, why: Why) {
        tracing::debug!(%peer, ?why, "a source is not asked any more");
        self.given_up.insert(peer, false);
        if let Why::Stalled(after) = why {
            let (verified, total) = (self.partial.verified_bytes(), self.download.size);
            self.fails(peer, FetchError::Stalled { after, verified, total });
        }
    }

    /// Keeps what says most about a source.
    pub(super) fn fails(&mut self, peer: PeerId, failure: FetchError) {
        let known = self.known.entry(peer).or_default();
        // After an early end, that nobody answers says nothing more.
        let vague = matches!(failure, FetchError::Request(_) | FetchError::Stalled { .. });
        if !(vague && matches!(known.failure, Some(FetchError::Closed { .. }))) {
            known.failure = Some(failure);
        }
    }

    // --- what happened

    /// Takes an event and what else is there.
    async fn take_all(&mut self, first: Event) -> Option<Outcome> {
        let mut next = Some(first);
        while let Some(event) = next {
            if let Some(outcome) = self.take(event).await {
                return Some(outcome);
            }
            next = self.events.try_recv().ok();
        }
        None
    }

    async fn take(&mut self, event: Event) -> Option<Outcome> {
        let now = Instant::now().into_std();
        match event {
            Event::Answered { id } => self.plan.answered(id, now),
            Event::Verified { id, groups } => {
                self.unreported = true;
                self.plan.verified(id, groups, now);
            }
            Event::Ended { id, ended } => {
                let running = self.running.remove(&id)?;
                return self.ended(id, running.peer, ended).await;
            }
        }
        None
    }

    async fn ended(&mut self, id: u64, peer: PeerId, ended: Ended) -> Option<Outcome> {
        let (verified, total) = (self.partial.verified_bytes(), self.download.size);
        let (end, failure) = match ended {
            Ended::Complete => return None,
            Ended::Moved => {
                tracing::debug!(%peer, id, "the rest is asked for over a better connection");
                self.plan.ended(id, End::Moved, Instant::now().into_std());
                return None;
            }
            Ended::Lost => (End::Lost, FetchError::Closed { verified, total }),
            Ended::Early => (End::Early, FetchError::Closed { verified, total }),
            Ended::Disk(error) => return Some(Outcome::Failed(error.into())),
            Ended::Internal => (End::Failed, FetchError::Internal),
            Ended::Bad(bad) => {
                tracing::warn!(%peer, %bad, "a peer sends bytes of another file");
                self.context.metrics.bad_bytes.inc();
                report(&self.context.commands, peer, Offence::BadBytes).await;
                (End::BadBytes, bad.into())
            }
            Ended::Unanswered(FetchError::Request(RequestError::Shutdown)) => {
                return Some(Outcome::Failed(DownloadError::Shutdown));
            }
            Ended::Unanswered(FetchError::Request(RequestError::Timeout { after, .. })) => {
                (End::Failed, FetchError::Stalled { after, verified, total })
            }
            Ended::Unanswered(error) => {
                if let FetchError::Request(RequestError::Malformed(_)) = &error {
                    report(&self.context.commands, peer, Offence::Malformed).await;
                }
                (end_of(&error), error)
            }
        };
        tracing::debug!(%peer, ?end, %failure, "a request ended early");
        self.fails(peer, failure);
        self.plan.ended(id, end, Instant::now().into_std());
        if end == End::Away {
            self.look_soon();
        }
        None
    }

    /// A task is over. One that panicked did not say so.
    fn reap(&mut self, joined: Result<task::Id, task::JoinError>) {
        let (task, panicked) = match joined {
            Ok(task) => (task, false),
            Err(error) => (error.id(), error.is_panic()),
        };
        let Some(id) = self.ids.remove(&task).filter(|_| panicked) else { return };
        if let Some(running) = self.running.remove(&id) {
            self.fails(running.peer, FetchError::Internal);
            self.plan.ended(id, End::Failed, Instant::now().into_std());
        }
    }

    /// The reader moved, or is gone.
    fn follow(&mut self, moved: Option<Cursor>) {
        let now = Instant::now().into_std();
        match moved {
            None => {
                self.playback = None;
                self.plan.set_mode(Mode::Bulk, now);
            }
            Some(Cursor { byte, jumps }) if jumps != self.jumps => {
                self.jumps = jumps;
                self.plan.seek(byte, now);
            }
            Some(Cursor { byte, .. }) => self.plan.advance(byte, now),
        }
    }

    /// What came and waits here is nobody's fault.
    fn excuse_the_disk(&mut self) {
        let now = Instant::now().into_std();
        for (id, running) in &self.running {
            if running.pulse.waits_for(DISK_IS_SLOW) {
                self.plan.waits_for_disk(*id, now);
            }
        }
    }

    // --- what is told

    fn tell(&mut self, now: Instant, at_once: bool) {
        let due = self.reported.is_none_or(|at| now >= at + REPORT_EVERY);
        if !(at_once || due && self.unreported) {
            return;
        }
        (self.reported, self.unreported) = (Some(now), false);
        let states: BTreeMap<PeerId, Activity> = self.plan.sources(now.into_std()).collect();
        let sources = self.known.iter().map(|(peer, known)| SourceProgress {
            peer: *peer,
            bytes: known.brought.load(Ordering::Relaxed),
            state: match states.get(peer) {
                Some(Activity::Sending) => SourceState::Sending,
                Some(Activity::Waiting) => SourceState::Waiting,
                Some(Activity::Resting) => SourceState::Resting,
                Some(Activity::Away) => SourceState::Away,
                None => SourceState::Gone,
            },
        });
        let (verified_bytes, total) = (self.partial.verified_bytes(), self.download.size);
        (self.report)(DownloadProgress { verified_bytes, total, sources: sources.collect() });
    }

    fn reports(&mut self) -> Vec<SourceReport> {
        let report = |(peer, known): (PeerId, Known)| SourceReport {
            peer,
            bytes: known.brought.load(Ordering::Relaxed),
            failure: known.failure,
        };
        std::mem::take(&mut self.known).into_iter().map(report).collect()
    }
}

/// What says that a source did not answer, to the plan.
fn end_of(error: &FetchError) -> End {
    match error {
        FetchError::Refused(AudioRefusal::Busy) => End::Busy,
        FetchError::Request(RequestError::NotConnected(_)) => End::Away,
        FetchError::Refused(AudioRefusal::Internal) | FetchError::Request(RequestError::Closed { .. }) => {
            End::Failed
        }
        _ => End::Gone,
    }
}

fn no_sources() -> Outcome {
    Outcome::Failed(DownloadError::NoSources { verified: 0, total: 0, sources: Vec::new() })
}

/// Waits until the reader moves; none when it is gone.
async fn moved(playback: &mut Option<Playback>) -> Option<Cursor> {
    match playback {
        Some(playback) => match playback.cursor.changed().await {
            Ok(()) => Some(*playback.cursor.borrow_and_update()),
            Err(_) => None,
        },
        None => std::future::pending().await,
    }
}
