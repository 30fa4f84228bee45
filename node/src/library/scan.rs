//! A scan: one walker, a worker for each core, one collector that registers and writes the catalogue.
//!
//! Memory is bounded by the channels between them, whatever the folders hold. What has been found out is written
//! every half second, so that an interrupted scan goes on where it was.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use antiphon_proto::{ContentHash, canonical};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use super::{
    catalogue::{Catalogue, CatalogueError, Change, FileRecord, Stamp, State},
    examine::{Examiner, Outboards, Outcome},
    registrar::{Registrar, Settled},
    walk::{self, Found},
};

/// Paths between the walker and the workers: enough that workers never wait for a directory.
const PATHS_AHEAD: usize = 256;
/// Outcomes between the workers and the collector.
const OUTCOMES_AHEAD: usize = 64;
/// Registrations without an answer: several batches of the default quota, so that the sequencer never waits for us.
const IN_FLIGHT: usize = 256;
/// Changes that are written together.
const CHANGES: usize = 128;
/// Longest time that something found out stays unwritten.
const WRITE_EVERY: Duration = Duration::from_millis(500);
/// Files listed by name in a report; the rest is counted.
const LISTED: usize = 10_000;
/// Catalogue records looked at in one step when searching for deleted files.
const PAGE: usize = 512;

/// Reason for files that were not opened.
pub const NOT_AUDIO_NAME: &str = "not audio by its name";

/// What a scan found. This is the JSON of `antiphon scan --json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this form.
    pub schema: u32,
    /// Files looked at.
    pub files: u64,
    /// Songs that the ledger did not have.
    pub songs_new: u64,
    /// Encodings that the ledger did not have, of songs that it had.
    pub variants_new: u64,
    /// Files seen for the first time whose content the ledger had.
    pub known_new: u64,
    /// Registrations that wait for the network.
    pub pending: u64,
    /// Files that looked as they did before and were not read.
    pub unchanged: u64,
    /// Files that are gone.
    pub removed: u64,
    /// Files that are nothing to register.
    pub skipped: Vec<Listed>,
    /// Files that should have worked.
    pub failed: Vec<Listed>,
    /// Skipped or failed files beyond those listed.
    pub not_listed: u64,
    /// Whether it was stopped before the end.
    pub interrupted: bool,
    /// How long it took.
    pub seconds: f64,
}

/// A file and why it was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Where; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// How far a scan is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Files found so far.
    pub found: u64,
    /// Whether all have been found.
    pub complete: bool,
    /// Files done.
    pub done: u64,
    /// New in the ledger, songs and variants.
    pub registered: u64,
}

impl Progress {
    /// Whether files are being looked for, or some that were found are not done.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.found > 0 && (!self.complete || self.done < self.found)
    }
}

/// What is scanned.
#[derive(Debug, Clone)]
pub struct Targets {
    /// Files or folders.
    pub paths: BTreeSet<PathBuf>,
    /// Whether a path that does not exist means that its files are gone (a change was seen there), rather than that a
    /// disk is not mounted.
    pub absent_is_gone: bool,
}

/// Runs scans.
pub struct Scanner {
    /// Looks at files.
    pub examiner: Arc<Examiner>,
    /// Registers them.
    pub registrar: Registrar,
    /// Worker threads.
    pub workers: usize,
}

type Path2 = (PathBuf, Stamp);

/// Worker to collector.
enum Step {
    Examined(PathBuf, Stamp, Outcome),
    NotAudio(PathBuf),
    Failed(PathBuf, String),
}

impl Scanner {
    /// Scans until done or until the examiner's `stop` is set. Reports progress as it goes.
    ///
    /// # Errors
    /// When the catalogue cannot be written.
    pub async fn run(
        &self,
        targets: Targets,
        progress: &watch::Sender<Progress>,
    ) -> Result<Report, CatalogueError> {
        let started = Instant::now();
        let found = Arc::new(AtomicU64::new(0));
        let walked = Arc::new(AtomicBool::new(false));
        let (step_in, step_out) = mpsc::channel(OUTCOMES_AHEAD);
        let threads = self.spawn(&targets, &found, &walked, step_in);
        let mut collector = Collector {
            catalogue: self.examiner.catalogue.clone(),
            registrar: self.registrar.clone(),
            examiner: self.examiner.clone(),
            report: Report { schema: 1, ..Report::default() },
            changes: Vec::new(),
            in_flight: FuturesUnordered::new(),
            progress,
            found,
            walked,
        };
        collector.run(step_out).await?;
        let mut report = collector.report;
        for thread in threads {
            // A worker that panicked has dropped its sender; what it did not do is done by the next scan.
            if thread.join().is_err() {
                tracing::error!("a scan thread ended early; some files were not looked at");
                report.interrupted = true;
            }
        }
        report.interrupted |= self.examiner.stop.load(Ordering::Relaxed);
        if !report.interrupted {
            report.removed = self.sweep(&targets).await?;
        }
        report.seconds = (started.elapsed().as_secs_f64() * 1_000.0).round() / 1_000.0;
        Ok(report)
    }

    fn spawn(
        &self,
        targets: &Targets,
        found: &Arc<AtomicU64>,
        walked: &Arc<AtomicBool>,
        steps: mpsc::Sender<Step>,
    ) -> Vec<thread::JoinHandle<()>> {
        let (path_in, path_out) = sync_channel::<Path2>(PATHS_AHEAD);
        let path_out = Arc::new(Mutex::new(path_out));
        let mut threads = Vec::with_capacity(self.workers + 1);
        for number in 0..self.workers {
            let (examiner, paths, steps) = (self.examiner.clone(), path_out.clone(), steps.clone());
            threads.extend(named(format!("scan-{number}"), move || work(&examiner, &paths, &steps)));
        }
        let (targets, found, walked, stop) =
            (targets.clone(), found.clone(), walked.clone(), self.examiner.stop.clone());
        threads.extend(named("scan-walk".into(), move || {
            find(&targets, &found, &stop, &path_in, &steps);
            walked.store(true, Ordering::Relaxed);
        }));
        threads
    }

    /// Takes files out of the catalogue that are gone from the folders.
    async fn sweep(&self, targets: &Targets) -> Result<u64, CatalogueError> {
        let (catalogue, targets) = (self.examiner.catalogue.clone(), targets.clone());
        let outboards = self.examiner.outboards.clone();
        let swept = tokio::task::spawn_blocking(move || {
            let mut removed = 0;
            for target in &targets.paths {
                if targets.absent_is_gone || target.exists() {
                    removed += sweep_below(&catalogue, &outboards, target)?;
                }
            }
            Ok(removed)
        });
        swept.await.unwrap_or(Ok(0))
    }
}

fn sweep_below(catalogue: &Catalogue, outboards: &Outboards, target: &Path) -> Result<u64, CatalogueError> {
    let mut removed = 0;
    if let Some(record) = catalogue.get(target)?
        && is_gone(target, &record)
    {
        removed += remove(catalogue, outboards, vec![(target.to_owned(), record)])?;
    }
    let mut after: Option<PathBuf> = None;
    loop {
        let mut page = catalogue.page_below(target, after.as_deref(), PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(removed) };
        after = Some(last.clone());
        page.retain(|(path, record)| is_gone(path, record));
        removed += remove(catalogue, outboards, page)?;
    }
}

/// Whether a file was deleted. A disk that is not mounted, or a folder that cannot be read, takes nothing away: what
/// is above the file must be of the file system that it was on.
fn is_gone(path: &Path, record: &FileRecord) -> bool {
    use std::os::unix::fs::MetadataExt;
    if !matches!(path.try_exists(), Ok(false)) {
        return false;
    }
    let above = path.ancestors().skip(1).find_map(|above| std::fs::metadata(above).ok());
    above.is_some_and(|above| above.dev() == record.stamp.inode.0)
}

/// Takes files out of the catalogue, and the outboards that no other file needs.
fn remove(
    catalogue: &Catalogue,
    outboards: &Outboards,
    gone: Vec<(PathBuf, FileRecord)>,
) -> Result<u64, CatalogueError> {
    let contents: BTreeSet<ContentHash> =
        gone.iter().filter_map(|(_, record)| record.state.content()).collect();
    let changes: Vec<Change> = gone.into_iter().map(|(path, _)| Change::Remove(path)).collect();
    catalogue.apply(&changes)?;
    for content in contents {
        if catalogue.paths_of(&content, 1)?.is_empty() {
            outboards.remove(&content);
        }
    }
    Ok(changes.len() as u64)
}

fn named(name: String, run: impl FnOnce() + Send + 'static) -> Option<thread::JoinHandle<()>> {
    match thread::Builder::new().name(name).spawn(run) {
        Ok(handle) => Some(handle),
        Err(error) => {
            tracing::error!(%error, "cannot start a scan thread");
            None
        }
    }
}

/// The walker.
fn find(
    targets: &Targets,
    found: &AtomicU64,
    stop: &AtomicBool,
    paths: &SyncSender<Path2>,
    steps: &mpsc::Sender<Step>,
) {
    for target in &targets.paths {
        if !target.exists() {
            if !targets.absent_is_gone {
                let _ = steps.blocking_send(Step::Failed(target.clone(), "no such file or folder".into()));
            }
            continue;
        }
        for item in walk::walk(target) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            found.fetch_add(1, Ordering::Relaxed);
            let sent = match item {
                Found::File { path, stamp } => paths.send((path, stamp)).is_ok(),
                Found::NotAudio(path) => steps.blocking_send(Step::NotAudio(path)).is_ok(),
                Found::Failed { path, reason } => steps.blocking_send(Step::Failed(path, reason)).is_ok(),
            };
            if !sent {
                return;
            }
        }
    }
}

/// A worker.
fn work(examiner: &Examiner, paths: &Mutex<Receiver<Path2>>, steps: &mpsc::Sender<Step>) {
    loop {
        let next = match paths.lock() {
            Ok(paths) => paths.recv(),
            Err(_) => return,
        };
        let Ok((path, stamp)) = next else { return };
        let outcome = if examiner.stop.load(Ordering::Relaxed) {
            Outcome::Stopped
        } else {
            examiner.examine(&path, stamp)
        };
        if steps.blocking_send(Step::Examined(path, stamp, outcome)).is_err() {
            return;
        }
    }
}

/// A registration on its way, and the file that it is for.
type Landing = (PathBuf, Stamp, ContentHash, Settled);

struct Collector<'p> {
    catalogue: Arc<Catalogue>,
    registrar: Registrar,
    examiner: Arc<Examiner>,
    report: Report,
    changes: Vec<Change>,
    in_flight: FuturesUnordered<BoxFuture<'static, Landing>>,
    progress: &'p watch::Sender<Progress>,
    found: Arc<AtomicU64>,
    walked: Arc<AtomicBool>,
}

impl Collector<'_> {
    async fn run(&mut self, mut steps: mpsc::Receiver<Step>) -> Result<(), CatalogueError> {
        let mut tick = tokio::time::interval(WRITE_EVERY);
        let mut open = true;
        while open || !self.in_flight.is_empty() {
            let room = self.in_flight.len() < IN_FLIGHT;
            tokio::select! {
                Some(landing) = self.in_flight.next(), if !self.in_flight.is_empty() => self.land(landing),
                step = steps.recv(), if open && room => match step {
                    Some(step) => self.step(step),
                    None => open = false,
                },
                _ = tick.tick() => self.write().await?,
            }
            if self.changes.len() >= CHANGES {
                self.write().await?;
            }
            self.show();
        }
        self.write().await
    }

    fn step(&mut self, step: Step) {
        self.report.files += 1;
        match step {
            Step::NotAudio(path) => self.list(false, &path, NOT_AUDIO_NAME),
            Step::Failed(path, reason) => self.list(true, &path, &reason),
            Step::Examined(path, stamp, outcome) => self.examined(path, stamp, outcome),
        }
    }

    fn examined(&mut self, path: PathBuf, stamp: Stamp, outcome: Outcome) {
        match outcome {
            Outcome::Unchanged => self.report.unchanged += 1,
            Outcome::Stopped => self.report.files = self.report.files.saturating_sub(1),
            Outcome::Same(state) => self.list_state(&path, &state),
            Outcome::Decided(state) => {
                if matches!(state, State::Known { .. }) {
                    self.report.known_new += 1;
                }
                self.list_state(&path, &state);
                self.changes.push(Change::Put(path, FileRecord { stamp, state }));
            }
            Outcome::Register { content, registration } => {
                let registrar = self.registrar.clone();
                self.in_flight.push(Box::pin(async move {
                    let settled = registrar.settle(*registration).await;
                    (path, stamp, content, settled)
                }));
            }
        }
    }

    fn land(&mut self, (path, stamp, content, settled): Landing) {
        let known = |index| State::Known { content: content.0, index };
        let state = match settled {
            Settled::Song(index) => {
                self.report.songs_new += 1;
                known(index)
            }
            Settled::Variant(index) => {
                self.report.variants_new += 1;
                known(index)
            }
            Settled::Known(index) => {
                self.report.known_new += 1;
                known(index)
            }
            Settled::Refused(reason) => {
                let state =
                    State::Failed { reason: format!("the network refuses it: {reason}"), again: false };
                self.examiner.outboards.remove(&content);
                self.list_state(&path, &state);
                state
            }
            Settled::Waiting(registration, reason) => {
                tracing::debug!(path = %path.display(), reason, "the registration waits");
                self.report.pending += 1;
                self.changes.push(Change::AddPending(content, canonical::encode(&*registration)));
                State::Pending { content: content.0 }
            }
        };
        self.changes.push(Change::Put(path, FileRecord { stamp, state }));
    }

    fn list_state(&mut self, path: &Path, state: &State) {
        match state {
            State::Skipped { reason } => self.list(false, path, reason),
            State::Failed { reason, .. } => self.list(true, path, reason),
            State::Known { .. } | State::Pending { .. } => {}
        }
    }

    fn list(&mut self, failed: bool, path: &Path, reason: &str) {
        let list = if failed { &mut self.report.failed } else { &mut self.report.skipped };
        if list.len() < LISTED {
            list.push(Listed { path: path.to_string_lossy().into_owned(), reason: reason.to_owned() });
        } else {
            self.report.not_listed += 1;
        }
    }

    async fn write(&mut self) -> Result<(), CatalogueError> {
        let changes = std::mem::take(&mut self.changes);
        if changes.is_empty() {
            return Ok(());
        }
        let catalogue = self.catalogue.clone();
        tokio::task::spawn_blocking(move || catalogue.apply(&changes)).await.unwrap_or(Ok(()))
    }

    fn show(&self) {
        let now = Progress {
            found: self.found.load(Ordering::Relaxed),
            complete: self.walked.load(Ordering::Relaxed),
            done: self.report.files.saturating_sub(self.in_flight.len() as u64),
            registered: self.report.songs_new + self.report.variants_new,
        };
        self.progress.send_if_modified(|last| {
            let changed = *last != now;
            *last = now;
            changed
        });
    }
}
