//! Keeps the shelves up to date: soon after a change, and with a part of the processor that nobody misses.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{Folder, Music, MusicError, rows::RowsError};

/// After the first change, for those that come with it: a peer that leaves takes many songs, a scan brings them one by
/// one. Short enough that what nobody serves any more is gone within a second.
const TOGETHER: Duration = Duration::from_millis(250);
/// Making shelves takes a third of one core at most: after each, twice as long passes. With 100,000 songs that others
/// bring and take all the time, what is shown is then two seconds old at most.
const REST: u32 = 2;
/// However long the first took, which reads every song from the disk.
const LONGEST_REST: Duration = Duration::from_secs(10);
/// After a failure: of the disk, mostly.
const RETRY: Duration = Duration::from_secs(10);

impl Music {
    /// Keeps both shelves up to date until it is dropped. `online` changes when others come, go, or serve something else;
    /// `sizes` when the ledger grows.
    pub async fn run(self: Arc<Self>, online: watch::Receiver<u64>, sizes: watch::Receiver<u64>) {
        let moves = self.parts.catalogue.moves();
        tokio::join!(
            self.clone().keep(Folder::Own, moves, sizes.clone()),
            self.clone().keep(Folder::Online, online, sizes),
        );
    }

    async fn keep(
        self: Arc<Self>,
        folder: Folder,
        mut changes: watch::Receiver<u64>,
        mut sizes: watch::Receiver<u64>,
    ) {
        loop {
            changes.mark_unchanged();
            sizes.mark_unchanged();
            let started = Instant::now();
            let music = self.clone();
            let work = tokio::task::spawn_blocking(move || music.refresh(folder)).await;
            let ahead = match work {
                Ok(Ok(ahead)) => ahead,
                Ok(Err(MusicError::Rows(RowsError::Stopped))) => return,
                Ok(Err(error)) => {
                    tracing::warn!(%error, ?folder, "the list of songs is behind; trying again in {} s", RETRY.as_secs());
                    sleep(RETRY).await;
                    continue;
                }
                Err(error) => {
                    tracing::error!(%error, ?folder, "the list of songs");
                    sleep(RETRY).await;
                    continue;
                }
            };
            let ended = Instant::now();
            let rested = ended + ((ended - started) * REST).min(LONGEST_REST);
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                // Blocks never change: new ones matter only where some were missing.
                changed = sizes.changed(), if ahead => if changed.is_err() { return },
            }
            sleep_until(rested.max(Instant::now() + TOGETHER)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, sync::Mutex};

    use antiphon_proto::NetworkId;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        library::catalogue::{Catalogue, Change, FileRecord, Stamp, State},
        music::{
            Parts,
            id::Id,
            rows::tests::{Listed, song},
        },
        search::{ListedSources, Sources},
    };

    /// Sources that change.
    #[derive(Default)]
    struct Changing(Mutex<ListedSources>);

    impl Sources for Changing {
        fn count(&self, index: u64) -> u32 {
            self.0.lock().unwrap().count(index)
        }

        fn each(&self, each: &mut dyn FnMut(u64)) {
            self.0.lock().unwrap().each(each);
        }

        fn distinct(&self, indexes: &mut dyn Iterator<Item = u64>) -> u32 {
            self.0.lock().unwrap().distinct(indexes)
        }
    }

    fn known(number: u8, index: u64) -> Change {
        let stamp = Stamp { size: 1, modified: (1, 0), inode: (1, 1) };
        let state = State::Known { content: [number; 32], index };
        Change::Put(PathBuf::from(format!("/music/{number}")), FileRecord { stamp, state })
    }

    #[tokio::test]
    async fn shelves_follow_library_ledger_and_presence() {
        let folder = tempfile::tempdir().unwrap();
        let catalogue =
            Arc::new(Catalogue::open(&folder.path().join("c.redb"), &NetworkId([1; 32])).unwrap());
        let blocks = Listed::of(vec![song("a"), song("b")]);
        let (sources, cancel) = (Arc::new(Changing::default()), CancellationToken::new());
        let music = Arc::new(Music::new(Parts {
            blocks: blocks.clone(),
            catalogue: catalogue.clone(),
            played: folder.path().join("played"),
            sources: sources.clone(),
            cancel: cancel.clone(),
        }));
        let (online, sizes) = (watch::Sender::new(0), watch::Sender::new(2));
        let task = tokio::spawn(music.clone().run(online.subscribe(), sizes.subscribe()));
        let mut changes = music.changes();
        changes.wait_for(|now| now.own == 1 && now.online == 1).await.unwrap();
        catalogue.apply(&[known(1, 1)]).unwrap();
        changes.wait_for(|now| now.own == 2).await.unwrap();
        let own = music.shelf(Folder::Own);
        assert_eq!((own.len(), own.track(1).unwrap().sources), (1, 0));

        let mut some = ListedSources::default();
        some.add(0, 1);
        some.add(0, 2);
        some.add(2, 1);
        *sources.0.lock().unwrap() = some;
        online.send_modify(|version| *version += 1);
        changes.wait_for(|now| now.online == 2).await.unwrap();
        let shelf = music.shelf(Folder::Online);
        assert_eq!((shelf.len(), shelf.track_by_id(Id::Song(0)).unwrap().sources), (1, 2));
        // The block that was missing comes.
        blocks.bodies.lock().unwrap().push(song("c"));
        sizes.send_replace(3);
        changes.wait_for(|now| now.online == 3).await.unwrap();
        assert_eq!(music.shelf(Folder::Online).len(), 2);
        // Everybody leaves.
        *sources.0.lock().unwrap() = ListedSources::default();
        let left = Instant::now();
        online.send_modify(|version| *version += 1);
        changes.wait_for(|now| now.online == 4).await.unwrap();
        assert!(music.shelf(Folder::Online).is_empty());
        assert!(left.elapsed() < Duration::from_secs(5), "{:?}", left.elapsed());
        // The same as before is no news.
        assert!(!music.refresh(Folder::Own).unwrap());
        assert_eq!(*music.changes().borrow(), crate::music::Versions { own: 2, online: 4 });
        task.abort();
    }
}
