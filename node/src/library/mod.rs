//! The music folders: what is in them, what each file is, and getting it registered.
//!
//! Files are read, never written. What is known of them lives in the catalogue, which is derived data: without it,
//! the next scan reads every file again and registers nothing twice.

pub mod catalogue;
pub mod describe;
pub mod examine;
pub mod folders;
pub mod registrar;
pub mod scan;
pub mod walk;
pub mod watch;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use antiphon_fingerprint::Analyzer;
use antiphon_ledger::Ledger;
use antiphon_proto::{ContentHash, canonical, limits, wire::Registration};
use futures::{StreamExt, stream};
use tokio::sync::{Mutex, watch as channel};

use self::{
    catalogue::{Catalogue, CatalogueError, Change, Counts, FileRecord, OnMoved, State},
    describe::Registrant,
    examine::{Examiner, Outboards},
    folders::Folders,
    registrar::{Registrar, Settled},
    scan::{Progress, Report, Scanner, Targets},
};
use crate::peer::orders::Orders;

/// Registrations handed in at the same time when a connection is back.
const RETRIES_IN_FLIGHT: usize = 64;
/// Waiting registrations read in one step.
const RETRY_PAGE: usize = 256;

/// The library of a peer.
pub struct Library {
    catalogue: Arc<Catalogue>,
    outboards: Outboards,
    registrar: Registrar,
    scanner: Scanner,
    stop: Arc<AtomicBool>,
    /// One scan at a time: two would read the same files twice.
    scanning: Mutex<()>,
    progress: channel::Sender<Progress>,
    folders: Folders,
    folders_changed: channel::Sender<()>,
    /// Files that turned out to be other than recorded.
    distrusted: channel::Sender<BTreeSet<PathBuf>>,
}

/// What a library is made of.
pub struct Parts {
    /// What is known of files.
    pub catalogue: Arc<Catalogue>,
    /// Folders that are scanned on start.
    pub folders: Folders,
    /// Where outboards go.
    pub outboards: PathBuf,
    /// Decoders.
    pub analyzer: Analyzer,
    /// What the network knows.
    pub ledger: Ledger,
    /// Who registers.
    pub registrant: Registrant,
    /// Where registrations go.
    pub orders: Arc<dyn Orders>,
    /// Worker threads of a scan; 0: one for each core.
    pub workers: usize,
}

impl Library {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let registrant = Arc::new(parts.registrant);
        let registrar = Registrar::new(registrant.clone(), parts.orders, Arc::new(parts.ledger.clone()));
        let outboards = Outboards(parts.outboards);
        outboards.tidy();
        let examiner = Examiner {
            catalogue: parts.catalogue.clone(),
            analyzer: parts.analyzer,
            ledger: parts.ledger,
            registrant,
            outboards: outboards.clone(),
            stop: stop.clone(),
        };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers = if parts.workers == 0 { cores } else { parts.workers };
        let scanner = Scanner { examiner: Arc::new(examiner), registrar: registrar.clone(), workers };
        Self {
            catalogue: parts.catalogue,
            outboards,
            registrar,
            scanner,
            stop,
            scanning: Mutex::new(()),
            progress: channel::Sender::new(Progress::default()),
            folders: parts.folders,
            folders_changed: channel::Sender::new(()),
            distrusted: channel::Sender::new(BTreeSet::new()),
        }
    }

    /// Scans, after the scan that may be running.
    ///
    /// # Errors
    /// When the catalogue cannot be written.
    pub async fn scan(&self, targets: Targets) -> Result<Report, CatalogueError> {
        let _turn = self.scanning.lock().await;
        self.progress.send_replace(Progress::default());
        self.scanner.run(targets, &self.progress).await
    }

    /// How far the running scan is.
    #[must_use]
    pub fn progress(&self) -> channel::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Makes a running scan end soon; what it has found out is kept.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Remembers folders for later starts.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn remember(&self, folders: &[PathBuf]) -> anyhow::Result<()> {
        if self.folders.change(folders, &[])? {
            self.folders_changed.send_replace(());
        }
        Ok(())
    }

    /// Forgets folders: they are not scanned any more, and what is in them is not served any more. Says how many
    /// files that were.
    ///
    /// # Errors
    /// When that cannot be written.
    pub async fn forget(&self, folders: &[PathBuf]) -> anyhow::Result<u64> {
        let _turn = self.scanning.lock().await;
        if self.folders.change(&[], folders)? {
            self.folders_changed.send_replace(());
        }
        let kept = self.folders.list();
        let mut gone = 0;
        for folder in folders {
            let mut after: Option<PathBuf> = None;
            loop {
                let page = self.catalogue.page_below(folder, after.as_deref(), RETRY_PAGE)?;
                let Some((last, _)) = page.last() else { break };
                after = Some(last.clone());
                let elsewhere = |path: &Path| kept.iter().any(|folder| path.starts_with(folder));
                let changes: Vec<Change> = page
                    .into_iter()
                    .filter(|(path, _)| !elsewhere(path))
                    .map(|(path, _)| Change::Remove(path))
                    .collect();
                gone += changes.len() as u64;
                self.catalogue.apply(&changes)?;
            }
        }
        Ok(gone)
    }

    /// What is in the ledger of this library's files: index and content. What comes and goes is told from now on.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn follow(&self, tell: OnMoved) -> Result<Vec<(u64, ContentHash)>, CatalogueError> {
        self.catalogue.follow(tell)
    }

    /// Changes when the folders do.
    #[must_use]
    pub fn folders_changed(&self) -> channel::Receiver<()> {
        self.folders_changed.subscribe()
    }

    /// Files that should be read again.
    #[must_use]
    pub fn distrusted(&self) -> channel::Receiver<BTreeSet<PathBuf>> {
        self.distrusted.subscribe()
    }

    /// Folders that were remembered.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        self.folders.list()
    }

    /// Numbers for status pages.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn counts(&self) -> Result<Counts, CatalogueError> {
        self.catalogue.counts()
    }

    /// A file with this content that looks as it did when it was hashed, and its outboard. A file that has changed is
    /// passed over; the next scan reads it.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn locate(&self, content: &ContentHash) -> Result<Located, CatalogueError> {
        // Copies of one file beyond a few say nothing new.
        const COPIES: usize = 8;
        let mut changed = false;
        for path in self.catalogue.paths_of(content, COPIES)? {
            let Some(FileRecord { stamp, .. }) = self.catalogue.get(&path)? else { continue };
            match std::fs::metadata(&path) {
                Ok(meta)
                    if walk::stamp_of(&meta) == stamp && self.outboards.is_whole(content, stamp.size) =>
                {
                    let outboard =
                        (stamp.size > limits::BAO_GROUP_BYTES).then(|| self.outboards.path(content));
                    return Ok(Located::Here { path, size: stamp.size, outboard });
                }
                _ => changed = true,
            }
        }
        Ok(if changed { Located::Changed } else { Located::Unknown })
    }

    /// Marks files of a content as unread: they, or their outboard, are not what was hashed. They are read again at
    /// once where the folders are watched, else by the next scan.
    pub fn distrust(&self, content: &ContentHash) {
        let marked = self.catalogue.paths_of(content, RETRY_PAGE).and_then(|paths| {
            let changes: Vec<Change> = paths.iter().cloned().map(Change::Remove).collect();
            self.catalogue.apply(&changes).map(|()| paths)
        });
        self.outboards.remove(content);
        match marked {
            Ok(paths) => {
                self.distrusted.send_replace(paths.into_iter().collect());
            }
            Err(error) => tracing::error!(%error, "a changed file could not be marked"),
        }
    }

    /// Where the outboard of a finished download may be moved to: nowhere when that is another file system.
    #[must_use]
    pub fn outboard_place(&self, content: &ContentHash, download: &Path) -> Option<PathBuf> {
        use std::os::unix::fs::MetadataExt;
        let place = self.outboards.path(content);
        let folder = place.parent()?;
        std::fs::create_dir_all(folder).ok()?;
        let device = |folder: &Path| std::fs::metadata(folder).ok().map(|meta| meta.dev());
        (device(folder).is_some() && device(folder) == device(download.parent()?)).then_some(place)
    }

    /// Forgets a file that this peer has removed itself.
    pub fn forget_file(&self, path: &Path) {
        if let Err(error) = self.catalogue.apply(&[Change::Remove(path.to_owned())]) {
            tracing::warn!(%error, path = %path.display(), "a removed file could not be forgotten");
        }
    }

    /// Takes in a file that was downloaded and verified, with its outboard, so that it is served at once.
    ///
    /// # Errors
    /// When the file or the catalogue cannot be used.
    pub fn adopt(&self, path: &Path, content: &ContentHash, index: u64) -> anyhow::Result<()> {
        let path = path.canonicalize()?;
        let stamp = walk::stamp_of(&std::fs::metadata(&path)?);
        if stamp.size > limits::BAO_GROUP_BYTES {
            let place = self.outboards.path(content);
            if !self.outboards.is_whole(content, stamp.size) {
                if let Some(folder) = place.parent() {
                    std::fs::create_dir_all(folder)?;
                }
                let (found, _) = antiphon_p2p::outboard::create_file(&path, &place)?;
                anyhow::ensure!(found == *content, "{} changed after it was downloaded", path.display());
            }
        }
        let record = FileRecord { stamp, state: State::Known { content: content.0, index } };
        self.catalogue.apply(&[Change::Put(path, record)])?;
        Ok(())
    }

    /// Hands in what waits for an answer. Ends early when the network is not there.
    ///
    /// # Errors
    /// When the catalogue cannot be used.
    pub async fn retry_pending(&self) -> Result<u64, CatalogueError> {
        let mut settled = 0;
        let mut after = None;
        loop {
            let page = self.catalogue.pending_after(after, RETRY_PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(settled) };
            after = Some(*last);
            let mut answers =
                stream::iter(page).map(|entry| self.retry(entry)).buffer_unordered(RETRIES_IN_FLIGHT);
            let mut changes = Vec::new();
            let mut waiting = false;
            while let Some((content, answer)) = answers.next().await {
                match answer {
                    Some(Settled::Song(index) | Settled::Variant(index) | Settled::Known(index)) => {
                        settled += 1;
                        changes.push(Change::Settle(content, index));
                    }
                    Some(Settled::Waiting(registration, _)) => {
                        waiting = true;
                        changes.push(Change::AddPending(content, canonical::encode(&*registration)));
                    }
                    Some(Settled::Refused(reason)) => self.give_up(&content, &reason, &mut changes)?,
                    None => self.give_up(&content, "its registration was damaged on disk", &mut changes)?,
                }
            }
            self.catalogue.apply(&changes)?;
            if waiting {
                return Ok(settled);
            }
        }
    }

    async fn retry(&self, (content, bytes): (ContentHash, Vec<u8>)) -> (ContentHash, Option<Settled>) {
        let decoded =
            canonical::decode::<Registration>("registration", limits::CONTROL_MESSAGE_BYTES, &bytes);
        match decoded {
            Ok(registration) => (content, Some(self.registrar.settle(registration).await)),
            Err(_) => (content, None),
        }
    }

    fn give_up(
        &self,
        content: &ContentHash,
        reason: &str,
        changes: &mut Vec<Change>,
    ) -> Result<(), CatalogueError> {
        changes.push(Change::DropPending(*content));
        for path in self.catalogue.paths_of(content, usize::MAX)? {
            if let Some(record) = self.catalogue.get(&path)? {
                let state =
                    State::Failed { reason: format!("the network refuses it: {reason}"), again: false };
                changes.push(Change::Put(path, FileRecord { state, ..record }));
            }
        }
        Ok(())
    }
}

/// Where a content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Located {
    /// In this file, unchanged since it was hashed.
    Here {
        /// Absolute path.
        path: PathBuf,
        /// Bytes.
        size: u64,
        /// Its outboard; `None` for a file of one chunk group.
        outboard: Option<PathBuf>,
    },
    /// It was here, but every file that held it has changed.
    Changed,
    /// Not in this library.
    Unknown,
}
