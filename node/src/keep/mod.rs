//! Songs that are to be kept: got one after the other in the background, into the folder of what is kept. What was asked
//! for is on the disk before it is acknowledged, and goes on after a restart.

mod jobs;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

pub use self::jobs::{Counts, Download, State};
use self::jobs::{End, Jobs};
use crate::{
    failure::{Failure, Kind},
    listener::{Listener, ListenerError},
    music::{Folder, id::Id},
    peer::{
        Peer,
        choice::GetProgress,
        get::{GetRequest, Gotten},
    },
    system::pathhex,
};

/// Songs at the same time: each is got from several peers already.
const AT_ONCE: usize = 2;
/// How often it is looked whether something that stood in the way is gone.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// What is kept, and what waits. A cheap handle.
#[derive(Clone)]
pub struct Downloads(Arc<Inner>);

struct Inner {
    peer: Weak<Peer>,
    listener: Listener,
    folder: PathBuf,
    jobs: Mutex<Jobs>,
    /// Held by whoever adds some, so that two who want the same song do not both get it.
    adding: tokio::sync::Mutex<()>,
    more: Notify,
    changed: watch::Sender<u64>,
    began: Instant,
}

/// Waits for the disk.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ListenerError> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(anyhow::Error::from)
        .and_then(|done| done.map_err(anyhow::Error::from))
        .map_err(|e| Failure::of(&e))
}

impl Downloads {
    /// Into this folder. What was still to come when the peer stopped goes on. Blocks on the disk.
    ///
    /// # Errors
    /// When what was asked for cannot be read.
    pub fn open(peer: &Arc<Peer>, listener: Listener, folder: PathBuf) -> Result<Self, ListenerError> {
        let jobs = Jobs::restored(&listener.wanted()?);
        let inner = Inner {
            peer: Arc::downgrade(peer),
            listener,
            folder,
            jobs: Mutex::new(jobs),
            adding: tokio::sync::Mutex::new(()),
            more: Notify::new(),
            changed: watch::Sender::new(0),
            began: Instant::now(),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Begins to get them. Ends with the peer.
    pub fn start(&self, peer: &Peer) {
        for _ in 0..AT_ONCE {
            let worker = self.clone();
            peer.spawn(async move { worker.work().await });
        }
        let waiting = self.clone();
        let mut shelves = peer.music.changes();
        peer.spawn(async move {
            loop {
                waiting.go_on();
                let changed = tokio::time::timeout(LOOK_EVERY, shelves.changed()).await;
                if matches!(changed, Ok(Err(_))) {
                    return;
                }
            }
        });
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.0.changed.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn wake(&self) {
        (0..AT_ONCE).for_each(|_| self.0.more.notify_one());
        self.tell();
    }

    /// Changes with every step.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Keeps these songs, by the ledger indexes of their blocks. One that waits or comes already is not asked for twice.
    /// They are on the disk when this returns.
    ///
    /// # Errors
    /// More than [`crate::listener::WANTED_SONGS`] would wait: none of them is taken. They cannot be written down.
    pub async fn keep(&self, songs: Vec<u64>) -> Result<Vec<Download>, Failure> {
        let _alone = self.0.adding.lock().await;
        let planned = self.jobs().plan(&songs)?;
        if !planned.is_empty() {
            let (listener, new) = (self.0.listener.clone(), planned.clone());
            on_disk(move || listener.want(&new)).await?;
        }
        let taken = self.jobs().add(&planned, &songs);
        self.wake();
        Ok(taken)
    }

    /// All that wait, come, or ended lately, the newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Download> {
        self.jobs().list()
    }

    /// The newest word on each of these songs that is or was to be kept.
    #[must_use]
    pub fn of(&self, songs: &HashSet<u64>) -> HashMap<u64, Download> {
        self.jobs().of(songs)
    }

    /// How many are how far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.jobs().counts()
    }

    /// Ends one, or forgets one that has ended. `false` when there is none.
    ///
    /// # Errors
    /// It cannot be written down.
    pub async fn cancel(&self, id: u64) -> Result<bool, Failure> {
        let Some(state) = self.jobs().state(id) else { return Ok(false) };
        if state.is_open() {
            let listener = self.0.listener.clone();
            on_disk(move || listener.want_no_more(id)).await?;
        }
        self.jobs().cancel(id);
        self.tell();
        Ok(true)
    }

    /// Whether somebody online has it, or this peer itself.
    fn is_there(&self, song: u64) -> bool {
        let on =
            |music: &crate::music::Music, folder| music.shelf(folder).track_by_id(Id::Song(song)).is_some();
        self.0
            .peer
            .upgrade()
            .is_some_and(|peer| on(&peer.music, Folder::Online) || on(&peer.music, Folder::Own))
    }

    /// Lets those go on that have waited for somebody.
    fn go_on(&self) {
        let now_ms = self.now_ms();
        if self.jobs().go_on(|song| self.is_there(song), now_ms) {
            self.wake();
        }
    }

    async fn work(self) {
        loop {
            let next = self.jobs().begin();
            let Some((id, song, cancel)) = next else {
                self.0.more.notified().await;
                continue;
            };
            let Some(peer) = self.0.peer.upgrade() else { return };
            self.tell();
            let request = GetRequest {
                song: format!("#{song}"),
                folder: pathhex::encode(&self.0.folder),
                container: None,
            };
            let (send, progress) = watch::channel(GetProgress::default());
            let end = tokio::select! {
                got = peer.get(request, &send) => match got {
                    Ok(Gotten::One(report)) => End::Here { path: report.path, bytes: report.bytes },
                    // An index names one song.
                    Ok(Gotten::Many(_)) => End::Not(Failure::new(Kind::Failed, "it is more than one song")),
                    Err(error) => End::Not(Failure::of(&error)),
                },
                () = self.follow(id, progress) => End::Cancelled,
                () = cancel.cancelled() => End::Cancelled,
            };
            if peer.cancel.is_cancelled() {
                // It goes on with the next start.
                return;
            }
            drop(peer);
            self.ended(id, song, end).await;
        }
    }

    async fn ended(&self, id: u64, song: u64, end: End) {
        let (is_there, now_ms) = (self.is_there(song), self.now_ms());
        let over = self.jobs().end(id, end, is_there, now_ms);
        self.tell();
        if over {
            let listener = self.0.listener.clone();
            // It would be asked for again with the next start, and found to be here.
            if let Err(error) = on_disk(move || listener.want_no_more(id)).await {
                tracing::warn!(%error, "a download that has ended cannot be written down as such");
            }
        }
    }

    async fn follow(&self, id: u64, mut progress: watch::Receiver<GetProgress>) {
        while progress.changed().await.is_ok() {
            let now = progress.borrow_and_update().clone();
            self.jobs().progress(id, now.verified_bytes, now.total, now.sources.len());
            self.tell();
        }
        // The getting says the rest.
        std::future::pending::<()>().await;
    }
}
