//! Songs that are to be kept: got one after the other in the background, into the folder of what is kept.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    failure::{Failure, Kind},
    peer::{
        Peer,
        choice::GetProgress,
        get::{GetRequest, Gotten},
    },
    system::pathhex,
};

/// Songs that wait at most.
pub const WAITING: usize = 10_000;
/// Ended ones that are remembered.
const ENDED: usize = 500;
/// Songs at the same time: each is got from several peers already.
const AT_ONCE: usize = 2;

/// How far one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Others come first.
    Waiting,
    /// It comes.
    Running,
    /// It is here, and served on.
    Done,
    /// It did not come.
    Failed,
    /// Somebody did not want it any more.
    Cancelled,
}

/// A song that is to be kept.
#[derive(Debug, Clone, Serialize)]
pub struct Download {
    /// Its number here.
    pub id: u64,
    /// Ledger index of the song's block.
    pub song: u64,
    /// How far it is.
    pub state: State,
    /// Bytes that are here.
    pub verified_bytes: u64,
    /// Bytes of the file, 0 until that is known.
    pub bytes: u64,
    /// Peers that have sent some of it.
    pub sources: usize,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Why it did not come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

struct Job {
    shown: Download,
    cancel: CancellationToken,
}

/// What is kept, and what waits. A cheap handle.
#[derive(Clone)]
pub struct Downloads(Arc<Inner>);

struct Inner {
    peer: Weak<Peer>,
    folder: PathBuf,
    jobs: Mutex<BTreeMap<u64, Job>>,
    more: Notify,
    changed: watch::Sender<u64>,
}

impl Downloads {
    /// Into this folder. Work ends with the peer; what was verified stays, and is found when it is asked for again.
    #[must_use]
    pub fn new(peer: &Arc<Peer>, folder: PathBuf) -> Self {
        let inner = Inner {
            peer: Arc::downgrade(peer),
            folder,
            jobs: Mutex::default(),
            more: Notify::new(),
            changed: watch::Sender::new(0),
        };
        let downloads = Self(Arc::new(inner));
        for _ in 0..AT_ONCE {
            let worker = downloads.clone();
            peer.spawn(async move { worker.work().await });
        }
        downloads
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<u64, Job>> {
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.0.changed.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    /// Changes with every step.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Keeps these songs, by the ledger indexes of their blocks. One that waits or comes already is not asked for twice.
    ///
    /// # Errors
    /// More than [`WAITING`] would wait: none of them is taken.
    pub fn keep(&self, songs: &[u64]) -> Result<Vec<Download>, Failure> {
        let mut jobs = self.jobs();
        let open = |job: &&Job| matches!(job.shown.state, State::Waiting | State::Running);
        let waiting = jobs.values().filter(open).count();
        if waiting.saturating_add(songs.len()) > WAITING {
            let message =
                format!("{waiting} songs wait to be kept already, and {WAITING} may; wait for some of them");
            return Err(Failure::new(Kind::Usage, message));
        }
        let mut taken = Vec::with_capacity(songs.len());
        for song in songs {
            if let Some(job) = jobs.values().filter(open).find(|job| job.shown.song == *song) {
                taken.push(job.shown.clone());
                continue;
            }
            let id = jobs.last_key_value().map_or(1, |(id, _)| id.saturating_add(1));
            let shown = Download {
                id,
                song: *song,
                state: State::Waiting,
                verified_bytes: 0,
                bytes: 0,
                sources: 0,
                path: None,
                error: None,
            };
            taken.push(shown.clone());
            jobs.insert(id, Job { shown, cancel: CancellationToken::new() });
        }
        forget(&mut jobs);
        drop(jobs);
        (0..AT_ONCE).for_each(|_| self.0.more.notify_one());
        self.tell();
        Ok(taken)
    }

    /// All that wait, come, or ended lately, the newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Download> {
        self.jobs().values().rev().map(|job| job.shown.clone()).collect()
    }

    /// Ends one, or forgets one that has ended. `false` when there is none.
    #[must_use]
    pub fn cancel(&self, id: u64) -> bool {
        let mut jobs = self.jobs();
        let Some(job) = jobs.get_mut(&id) else { return false };
        match job.shown.state {
            State::Waiting => job.shown.state = State::Cancelled,
            State::Running => job.cancel.cancel(),
            State::Done | State::Failed | State::Cancelled => drop(jobs.remove(&id)),
        }
        drop(jobs);
        self.tell();
        true
    }

    fn next(&self) -> Option<(u64, u64, CancellationToken)> {
        let mut jobs = self.jobs();
        let job = jobs.values_mut().find(|job| job.shown.state == State::Waiting)?;
        job.shown.state = State::Running;
        Some((job.shown.id, job.shown.song, job.cancel.clone()))
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut Download)) {
        if let Some(job) = self.jobs().get_mut(&id) {
            change(&mut job.shown);
        }
        self.tell();
    }

    async fn work(self) {
        loop {
            let Some((id, song, cancel)) = self.next() else {
                self.0.more.notified().await;
                continue;
            };
            let Some(peer) = self.0.peer.upgrade() else { return };
            let request = GetRequest {
                song: format!("#{song}"),
                folder: pathhex::encode(&self.0.folder),
                container: None,
            };
            let (send, progress) = watch::channel(GetProgress::default());
            let got = {
                let getting = peer.get(request, &send);
                let telling = self.follow(id, progress);
                tokio::select! {
                    got = getting => Some(got),
                    () = telling => None,
                    () = cancel.cancelled() => None,
                }
            };
            drop(peer);
            self.change(id, |shown| match got {
                Some(Ok(Gotten::One(report))) => {
                    (shown.state, shown.path) = (State::Done, Some(report.path));
                    (shown.verified_bytes, shown.bytes) = (report.bytes, report.bytes);
                }
                // A song is one.
                Some(Ok(Gotten::Many(_))) => shown.state = State::Failed,
                Some(Err(error)) => {
                    (shown.state, shown.error) = (State::Failed, Some(format!("{error:#}")));
                }
                None => shown.state = State::Cancelled,
            });
        }
    }

    async fn follow(&self, id: u64, mut progress: watch::Receiver<GetProgress>) {
        while progress.changed().await.is_ok() {
            let now = progress.borrow_and_update().clone();
            self.change(id, |shown| {
                (shown.verified_bytes, shown.bytes) = (now.verified_bytes, now.total);
                shown.sources = now.sources.len();
            });
        }
        // The getting says the rest.
        std::future::pending::<()>().await;
    }
}

/// Forgets the oldest that have ended.
fn forget(jobs: &mut BTreeMap<u64, Job>) {
    let ended: Vec<u64> = jobs
        .iter()
        .filter(|(_, job)| !matches!(job.shown.state, State::Waiting | State::Running))
        .map(|(id, _)| *id)
        .collect();
    for id in ended.iter().take(ended.len().saturating_sub(ENDED)) {
        jobs.remove(id);
    }
}
