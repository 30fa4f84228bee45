//! Noticing that files came, changed or went, without a scan of everything.

use std::{
    collections::BTreeSet,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{Library, folders::outermost, scan::Targets, walk::is_unfinished};

/// A file that is being copied changes all the time: it is read when it has been quiet for this long.
const QUIET: Duration = Duration::from_secs(2);
/// But not later than this after the first change.
const AT_MOST: Duration = Duration::from_secs(30);
/// More changed places than this are one scan of the folders.
const PLACES: usize = 1_000;
/// Events between the watcher's thread and ours; when it is full, everything is scanned.
const EVENTS: usize = 4_096;
/// A folder that cannot be watched (a disk that is not there, a limit of the system) is tried again this often.
const RETRY: Duration = Duration::from_secs(60);
/// And scanned this often.
const WITHOUT_WATCHER: Duration = Duration::from_secs(15 * 60);

/// What has changed.
enum Seen {
    At(Vec<PathBuf>),
    Everywhere,
}

/// Follows changes in the library's folders for as long as it is polled; folders that are added are followed too.
pub async fn run(library: Arc<Library>) {
    let (send, mut events) = mpsc::channel(EVENTS);
    let lost = Arc::new(AtomicBool::new(false));
    let (mut changed, mut distrusted) = (library.folders_changed(), library.distrusted());
    let mut watched = Watched::new(send, lost.clone());
    watched.follow(library.folders());
    let mut pending = Pending::default();
    let mut retry = Instant::now() + RETRY;
    let mut rescan = Instant::now() + WITHOUT_WATCHER;
    loop {
        let due = pending.due();
        tokio::select! {
            Some(seen) = events.recv() => {
                pending.add(seen, &watched);
                if lost.swap(false, Ordering::Relaxed) {
                    pending.add(Seen::Everywhere, &watched);
                }
            }
            Ok(()) = changed.changed() => drop(watched.follow(library.folders())),
            Ok(()) = distrusted.changed() => {
                let again: Vec<PathBuf> = distrusted.borrow_and_update().iter().cloned().collect();
                pending.add(Seen::At(again), &watched);
            }
            () = sleep_until(due.unwrap_or(retry)), if due.is_some() => scan(&library, pending.take(&library.folders())).await,
            () = sleep_until(retry) => {
                retry = Instant::now() + RETRY;
                // What can be watched from now on has not been seen for a while.
                let fresh = watched.follow(library.folders());
                pending.add(Seen::At(fresh), &watched);
                if rescan <= Instant::now() {
                    rescan = Instant::now() + WITHOUT_WATCHER;
                    pending.add(Seen::At(watched.off.iter().cloned().collect()), &watched);
                }
            }
        }
    }
}

async fn scan(library: &Library, targets: Targets) {
    match library.scan(targets).await {
        Ok(report) => tracing::info!(
            files = report.files,
            songs = report.songs_new,
            variants = report.variants_new,
            removed = report.removed,
            failed = report.failed.len(),
            "changes in the music folders"
        ),
        Err(error) => tracing::error!(%error, "changes in the music folders could not be recorded"),
    }
}

/// The watcher and what it watches.
struct Watched {
    watcher: Option<RecommendedWatcher>,
    on: BTreeSet<PathBuf>,
    off: BTreeSet<PathBuf>,
}

impl Watched {
    fn new(send: mpsc::Sender<Seen>, lost: Arc<AtomicBool>) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let seen = match event {
                Ok(event) if event.need_rescan() => Seen::Everywhere,
                Ok(event) if matters(&event.kind) => Seen::At(event.paths),
                Ok(_) => return,
                Err(error) => {
                    tracing::debug!(%error, "watching");
                    Seen::Everywhere
                }
            };
            // What no longer fits is made good by a scan of everything.
            if send.try_send(seen).is_err() {
                lost.store(true, Ordering::Relaxed);
            }
        });
        let watcher = watcher.inspect_err(|error| tracing::warn!(%error, "folders cannot be watched")).ok();
        Self { watcher, on: BTreeSet::new(), off: BTreeSet::new() }
    }

    /// Watches these folders and no others. Gives those that are watched from now on.
    fn follow(&mut self, folders: Vec<PathBuf>) -> Vec<PathBuf> {
        let folders = outermost(folders);
        let Some(watcher) = &mut self.watcher else {
            self.off = folders;
            return Vec::new();
        };
        for folder in std::mem::take(&mut self.on) {
            // The system forgets a folder that goes away.
            if folders.contains(&folder) && folder.is_dir() {
                self.on.insert(folder);
            } else {
                let _ = watcher.unwatch(&folder);
            }
        }
        let mut fresh = Vec::new();
        let before = std::mem::take(&mut self.off);
        for folder in folders {
            if self.on.contains(&folder) {
                continue;
            }
            match watcher.watch(&folder, RecursiveMode::Recursive) {
                Ok(()) => {
                    self.on.insert(folder.clone());
                    fresh.push(folder);
                }
                Err(error) => {
                    if !before.contains(&folder) {
                        tracing::warn!(folder = %folder.display(), %error,
                            "cannot be watched; it is tried again, and scanned from time to time");
                    }
                    self.off.insert(folder);
                }
            }
        }
        fresh
    }

    /// Whether a change there can matter: nothing below a hidden folder is ours.
    fn is_visible(&self, path: &Path) -> bool {
        let folder = self.on.iter().chain(&self.off).find(|folder| path.starts_with(folder));
        let below = folder.and_then(|folder| path.strip_prefix(folder).ok()).unwrap_or(path);
        !below.components().any(|part| part.as_os_str().as_bytes().starts_with(b".")) && !is_unfinished(path)
    }
}

fn everything(folders: &[PathBuf]) -> Targets {
    Targets { paths: outermost(folders.iter().cloned()), absent_is_gone: false }
}

fn matters(kind: &EventKind) -> bool {
    // Reading a file is an event too, and every scan reads.
    !matches!(kind, EventKind::Access(_))
}

/// Places that have changed and when to look.
#[derive(Default)]
struct Pending {
    places: BTreeSet<PathBuf>,
    everywhere: bool,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Pending {
    fn add(&mut self, seen: Seen, watched: &Watched) {
        let before = self.places.len();
        match seen {
            Seen::At(paths) if paths.is_empty() => return,
            Seen::At(paths) => self.places.extend(paths.into_iter().filter(|path| watched.is_visible(path))),
            Seen::Everywhere => self.everywhere = true,
        }
        if before == 0 && self.places.is_empty() && !self.everywhere {
            return;
        }
        if self.places.len() > PLACES {
            self.places.clear();
            self.everywhere = true;
        }
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    fn due(&self) -> Option<Instant> {
        Some((self.last? + QUIET).min(self.first? + AT_MOST))
    }

    fn take(&mut self, folders: &[PathBuf]) -> Targets {
        let taken = std::mem::take(self);
        if taken.everywhere {
            return everything(folders);
        }
        Targets { paths: outermost(taken.places), absent_is_gone: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Watched {
        Watched { watcher: None, on: ["/m".into()].into(), off: BTreeSet::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn quiet_first_but_not_for_ever() {
        let mut pending = Pending::default();
        assert!(pending.due().is_none());
        let start = Instant::now();
        for _ in 0..20 {
            pending.add(Seen::At(vec!["/m/a.ogg".into()]), &nothing());
            tokio::time::advance(Duration::from_millis(1_900)).await;
        }
        assert_eq!(pending.due(), Some(start + AT_MOST));
    }

    #[tokio::test]
    async fn places_inside_a_place_are_one_and_the_trash_is_none() {
        let mut pending = Pending::default();
        pending.add(Seen::At(vec!["/m/.Trash-0/files/x.ogg".into(), "/m/.x".into()]), &nothing());
        assert!(pending.due().is_none());
        pending.add(Seen::At(vec!["/m/a".into(), "/m/a/b.ogg".into(), "/m/c.ogg".into()]), &nothing());
        let targets = pending.take(&[]);
        assert_eq!(targets.paths.into_iter().collect::<Vec<_>>(), [PathBuf::from("/m/a"), "/m/c.ogg".into()]);
        assert!(targets.absent_is_gone);
        for number in 0..2_000 {
            pending.add(Seen::At(vec![format!("/m/{number}").into()]), &nothing());
        }
        let targets = pending.take(&["/m".into(), "/m/a".into()]);
        assert_eq!((targets.paths.len(), targets.absent_is_gone), (1, false));
    }
}
