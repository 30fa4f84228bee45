//! A song that comes from others.

use std::{
    fs::File,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use antiphon_p2p::Listener;
use antiphon_proto::wire::Song;
use anyhow::Context;
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

use super::Reader;
use crate::{
    failure::{Failure, Kind},
    peer::{
        Peer,
        choice::{Choice, GetProgress},
        fetching::Fetching,
        select::Selected,
    },
};

/// How far the work is.
#[derive(Clone)]
enum Stage {
    /// Nothing has come.
    Asking,
    /// This encoding comes.
    Listening(Choice, Listener),
    /// All of it is on the disk.
    Complete(Choice, Arc<File>),
    /// Nothing more comes.
    Failed(Failure),
}

/// A song that comes from others, or has come. The download ends when this is dropped.
pub(super) struct Coming {
    /// Which song it is.
    pub(super) song: Arc<Song>,
    stage: watch::Sender<Stage>,
    /// How far it is, and who sends it.
    pub(super) progress: watch::Sender<GetProgress>,
    readers: AtomicUsize,
    used: Mutex<Instant>,
    work: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl std::fmt::Debug for Coming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coming").finish_non_exhaustive()
    }
}

/// Counts somebody who reads.
#[derive(Debug)]
pub(super) struct Reading(Arc<Coming>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::AcqRel);
        self.0.touch();
    }
}

impl Coming {
    pub(super) fn begin(peer: &Arc<Peer>, selected: Selected, choices: Vec<Choice>) -> Arc<Self> {
        let coming = Arc::new(Self {
            song: Arc::new(selected.song),
            stage: watch::Sender::new(Stage::Asking),
            progress: watch::Sender::new(GetProgress::default()),
            readers: AtomicUsize::new(0),
            used: Mutex::new(Instant::now()),
            work: Mutex::new(None),
        });
        let song = coming.song.clone();
        let work = Work { peer: peer.clone(), of: Arc::downgrade(&coming), song, choices };
        let task = AbortOnDropHandle::new(tokio::spawn(work.run()));
        *coming.work.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        coming
    }

    pub(super) fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long nobody has read it.
    pub(super) fn idle(&self, now: Instant) -> Duration {
        if self.is_read() {
            return Duration::ZERO;
        }
        now.saturating_duration_since(*self.used.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn is_read(&self) -> bool {
        self.readers.load(Ordering::Acquire) > 0
    }

    pub(super) fn file(&self) -> Option<Arc<File>> {
        match &*self.stage.borrow() {
            Stage::Complete(_, file) => Some(file.clone()),
            _ => None,
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Complete(..))
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Failed(_))
    }

    /// Which encoding comes, once that is known.
    pub(super) async fn choice(&self) -> Result<Choice, Failure> {
        let mut stage = self.stage.subscribe();
        loop {
            match &*stage.borrow_and_update() {
                Stage::Asking => {}
                Stage::Listening(choice, _) | Stage::Complete(choice, _) => return Ok(choice.clone()),
                Stage::Failed(failure) => return Err(failure.clone()),
            }
            if stage.changed().await.is_err() {
                return Err(stopped());
            }
        }
    }

    pub(super) fn reader(self: &Arc<Self>, byte: u64, size: u64) -> Reader {
        self.readers.fetch_add(1, Ordering::AcqRel);
        let reading = Reading(self.clone());
        match &*self.stage.borrow() {
            Stage::Complete(_, file) => Reader::of_file(file.clone(), byte, size).counted(reading),
            Stage::Listening(_, listener) => {
                let mut listener = listener.clone();
                if listener.position() != byte {
                    listener.seek(byte);
                }
                Reader::of_listener(listener, reading)
            }
            Stage::Asking | Stage::Failed(_) => Reader::none(byte, reading),
        }
    }

    /// Why nothing more came.
    pub(super) async fn failure(&self) -> Failure {
        let mut stage = self.stage.subscribe();
        let ended = tokio::time::timeout(
            Duration::from_secs(5),
            stage.wait_for(|stage| matches!(stage, Stage::Failed(_) | Stage::Complete(..))),
        );
        match ended.await {
            Ok(Ok(stage)) => match &*stage {
                Stage::Failed(failure) => failure.clone(),
                _ => stopped(),
            },
            _ => stopped(),
        }
    }
}

impl Reading {
    pub(super) async fn failure(&self) -> Failure {
        self.0.failure().await
    }
}

fn stopped() -> Failure {
    Failure::new(Kind::Failed, "the download was stopped; ask again")
}

/// The task behind it.
struct Work {
    peer: Arc<Peer>,
    of: Weak<Coming>,
    song: Arc<Song>,
    choices: Vec<Choice>,
}

impl Work {
    async fn run(self) {
        let end = match self.fetch().await {
            Ok((choice, file)) => Stage::Complete(choice, file),
            Err(error) => Stage::Failed(Failure::of(&error)),
        };
        if let Some(coming) = self.of.upgrade() {
            coming.stage.send_replace(end);
        }
    }

    async fn fetch(&self) -> anyhow::Result<(Choice, Arc<File>)> {
        let folder = self.peer.data.played();
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let fetching = self.peer.fetching_played();
        let mut tries = fetching.tries(&self.choices).await;
        while let Some(choice) = tries.next() {
            match self.try_one(&fetching, &folder, choice).await {
                Ok(file) => return Ok((choice.clone(), file)),
                Err((error, heard)) => tries.failed(&fetching, error, heard).await?,
            }
        }
        Err(tries.error())
    }

    /// Tries one encoding. With a failure comes whether some of it was read.
    async fn try_one(
        &self,
        fetching: &Fetching<'_>,
        folder: &std::path::Path,
        choice: &Choice,
    ) -> Result<Arc<File>, (anyhow::Error, bool)> {
        let Some(coming) = self.of.upgrade() else { return Err((stopped().into(), true)) };
        let progress = coming.progress.clone();
        drop(coming);
        let (hand_over, handed) = oneshot::channel::<Listener>();
        let announced = async {
            // The first bytes say that somebody has it.
            let Ok(listener) = handed.await else { return false };
            let mut first = listener.clone();
            let came = first.read(1).await.is_some();
            if let Some(coming) = self.of.upgrade().filter(|_| came) {
                coming.stage.send_replace(Stage::Listening(choice.clone(), listener));
            }
            came
        };
        let fetched = fetching.listen(folder, &self.song, choice, hand_over, &progress);
        let (fetched, came) = tokio::join!(fetched, announced);
        let got = fetched.map_err(|error| (error, came))?;
        let path = got.path().to_owned();
        let opened = tokio::task::spawn_blocking(move || File::open(path)).await;
        let file = opened.map_err(anyhow::Error::from).and_then(|file| Ok(file?));
        let file = file.context("what was downloaded cannot be opened").map_err(|error| (error, true))?;
        // Opened first: it may be removed at once.
        self.peer.tidy_played(folder, &got);
        let bytes = choice.bytes();
        let sources = match got.sources() {
            [] => progress.borrow().sources.clone(),
            some => some.to_vec(),
        };
        progress.send_replace(GetProgress { verified_bytes: bytes, total: bytes, sources });
        Ok(Arc::new(file))
    }
}
