//! Noticing that files came, changed or went, without a scan of everything.

use std::{
    collections::BTreeSet,
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

use super::{Library, scan::Targets};

/// A file that is being copied changes all the time: it is read when it has been quiet for this long.
const QUIET: Duration = Duration::from_secs(2);
/// But not later than this after the first change.
const AT_MOST: Duration = Duration::from_secs(30);
/// More changed places than this are one scan of the folders.
const PLACES: usize = 1_000;
/// Events between the watcher's thread and ours; when it is full, everything is scanned.
const EVENTS: usize = 4_096;
/// Without a watcher (the system has a limit on watches), folders are scanned this often.
const WITHOUT_WATCHER: Duration = Duration::from_secs(15 * 60);

/// What has changed.
enum Seen {
    At(Vec<PathBuf>),
    Everywhere,
}

/// Follows changes in the library's folders for as long as it is polled; folders that are added are followed too.
pub async fn run(library: Arc<Library>) {
    let mut added = library.folders_added();
    loop {
        added.borrow_and_update();
        match library.folders() {
            Ok(folders) => {
                tokio::select! {
                    () = follow(&library, &folders) => {}
                    changed = added.changed() => if changed.is_err() { return },
                }
            }
            Err(error) => {
                tracing::error!(%error, "the music folders are not known; they are not watched");
                return;
            }
        }
    }
}

async fn follow(library: &Library, folders: &[PathBuf]) {
    let (send, mut events) = mpsc::channel(EVENTS);
    let lost = Arc::new(AtomicBool::new(false));
    let watcher = start(folders, send, lost.clone());
    let watching = match &watcher {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(%error, minutes = WITHOUT_WATCHER.as_secs() / 60,
                "folders cannot be watched (see fs.inotify.max_user_watches); they are scanned from time to time");
            false
        }
    };
    let mut pending = Pending::default();
    let mut rescan = Instant::now() + WITHOUT_WATCHER;
    loop {
        let wake = pending.due().unwrap_or(rescan);
        tokio::select! {
            Some(seen) = events.recv() => {
                pending.add(seen);
                if lost.swap(false, Ordering::Relaxed) {
                    pending.add(Seen::Everywhere);
                }
            }
            () = sleep_until(wake), if pending.due().is_some() || !watching => {
                let targets = if pending.due().is_some() { pending.take(folders) } else { everything(folders) };
                rescan = Instant::now() + WITHOUT_WATCHER;
                match library.scan(targets).await {
                    Ok(report) => tracing::info!(
                        files = report.files, songs = report.songs_new, variants = report.variants_new,
                        removed = report.removed, failed = report.failed.len(), "changes in the music folders"),
                    Err(error) => tracing::error!(%error, "changes in the music folders could not be recorded"),
                }
            }
        }
    }
}

fn everything(folders: &[PathBuf]) -> Targets {
    Targets { paths: folders.iter().cloned().collect(), absent_is_gone: false }
}

fn start(
    folders: &[PathBuf],
    send: mpsc::Sender<Seen>,
    lost: Arc<AtomicBool>,
) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
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
    })?;
    for folder in folders {
        watcher.watch(folder, RecursiveMode::Recursive)?;
    }
    Ok(watcher)
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
    fn add(&mut self, seen: Seen) {
        let now = Instant::now();
        match seen {
            Seen::At(paths) => self.places.extend(paths.into_iter().filter(|path| !hidden(path))),
            Seen::Everywhere => self.everywhere = true,
        }
        if self.places.len() > PLACES {
            self.places.clear();
            self.everywhere = true;
        }
        if self.everywhere || !self.places.is_empty() {
            self.first.get_or_insert(now);
            self.last = Some(now);
        }
    }

    fn due(&self) -> Option<Instant> {
        Some((self.last? + QUIET).min(self.first? + AT_MOST))
    }

    fn take(&mut self, folders: &[PathBuf]) -> Targets {
        let taken = std::mem::take(self);
        if taken.everywhere {
            return everything(folders);
        }
        // A folder and what is below it are one place.
        let mut paths: BTreeSet<PathBuf> = BTreeSet::new();
        for path in taken.places {
            if !path.ancestors().skip(1).any(|above| paths.contains(above)) {
                paths.insert(path);
            }
        }
        Targets { paths, absent_is_gone: true }
    }
}

fn hidden(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    name.starts_with(b".") || name.ends_with(b".part") || name.ends_with(b".part.obao")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn quiet_first_but_not_for_ever() {
        let mut pending = Pending::default();
        assert!(pending.due().is_none());
        let start = Instant::now();
        for _ in 0..20 {
            pending.add(Seen::At(vec!["/m/a.ogg".into()]));
            tokio::time::advance(Duration::from_millis(1_900)).await;
        }
        assert_eq!(pending.due(), Some(start + AT_MOST));
    }

    #[tokio::test]
    async fn places_inside_a_place_are_one() {
        let mut pending = Pending::default();
        pending.add(Seen::At(vec!["/m/a".into(), "/m/a/b.ogg".into(), "/m/c.ogg".into(), "/m/.x".into()]));
        let targets = pending.take(&[]);
        assert_eq!(targets.paths.into_iter().collect::<Vec<_>>(), [PathBuf::from("/m/a"), "/m/c.ogg".into()]);
        assert!(targets.absent_is_gone);
        for number in 0..2_000 {
            pending.add(Seen::At(vec![format!("/m/{number}").into()]));
        }
        let targets = pending.take(&["/m".into()]);
        assert_eq!((targets.paths.len(), targets.absent_is_gone), (1, false));
    }
}
