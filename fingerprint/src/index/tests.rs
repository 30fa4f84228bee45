//! The index against a model that keeps everything in plain lists.

use std::convert::Infallible;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::matching::{Reason, mix};

const SMALL: Limits = Limits { list_songs: 5, candidates: 4, flush_songs: 8, overlay_songs: 12 };

/// What the index must answer, computed the slow way.
#[derive(Default)]
struct Model {
    songs: Vec<(u64, Vec<u32>, u32)>,
    next: u64,
    durable: u64,
}

impl Model {
    fn insert(&mut self, key: u64, items: &[u32], duration_ms: u32) {
        self.songs.push((key, bottom_hashes(items), duration_ms));
        self.next = key + 1;
    }

    fn truncate(&mut self, size: u64) {
        self.songs.retain(|(key, ..)| *key < size);
        self.next = self.next.min(size);
    }

    fn candidates(&self, limits: Limits, items: &[u32], duration_ms: u32) -> Vec<u64> {
        let wanted = bottom_hashes(items);
        let listed = |hash: u32, key: u64| {
            let list = self.songs.iter().filter(|(_, hashes, _)| hashes.contains(&hash));
            list.take(limits.list_songs).any(|song| song.0 == key)
        };
        let mut ranked: Vec<(Reverse<usize>, u64)> = self
            .songs
            .iter()
            .filter(|song| song.2.abs_diff(duration_ms) <= 7_000)
            .map(|song| (Reverse(wanted.iter().filter(|&&hash| listed(hash, song.0)).count()), song.0))
            .filter(|(Reverse(hits), _)| *hits >= 2)
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, key)| key).take(limits.candidates).collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u64, Vec<u32>, u32),
    Skip(u64),
    Truncate(u64),
    Flush,
    /// A crash: what was not flushed is gone.
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let items = prop::collection::vec((0u32..40).prop_map(mix), 0..30);
    let step = prop_oneof![
        12 => (0u64..400, items, (0u32..5).prop_map(|n| 100_000 + n * 3_500))
            .prop_map(|(gap, items, duration)| Step::Insert(gap, items, duration)),
        1 => (0u64..9).prop_map(Step::Skip),
        2 => (0u64..12).prop_map(Step::Truncate),
        3 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..60)
}

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fingerprints.redb");
    (dir, path)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn answers_do_not_depend_on_flushes_or_crashes(steps in steps()) {
        let (_dir, path) = scratch();
        let mut index = Index::open_with(&path, SMALL).unwrap();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Insert(gap, items, duration) => {
                    if index.overlay.len() == SMALL.overlay_songs {
                        let full = index.insert(model.next, &items, duration);
                        let refused = matches!(full, Err(IndexError::Full { songs: 12 }));
                        prop_assert!(refused);
                        continue;
                    }
                    let key = model.next + gap;
                    index.insert(key, &items, duration).unwrap();
                    model.insert(key, &items, duration);
                }
                Step::Skip(blocks) => {
                    index.skip_to(model.next + blocks);
                    model.next += blocks;
                }
                Step::Truncate(back) => {
                    let size = model.next.saturating_sub(back);
                    if size < model.durable {
                        let refused = matches!(index.truncate(size), Err(IndexError::Durable { .. }));
                        prop_assert!(refused);
                    } else {
                        index.truncate(size).unwrap();
                        model.truncate(size);
                    }
                }
                Step::Flush => {
                    index.flush().unwrap();
                    model.durable = model.next;
                }
                Step::Reopen => {
                    drop(index);
                    index = Index::open_with(&path, SMALL).unwrap();
                    model.truncate(model.durable);
                    model.next = model.durable;
                }
            }
            prop_assert_eq!(index.next_key(), model.next);
            prop_assert_eq!(index.durable_key(), model.durable);
            prop_assert_eq!(index.stats().unwrap().songs, model.songs.len() as u64);
            for start in [0, 13, 27] {
                let query: Vec<u32> = (start..start + 13).map(mix).collect();
                for duration in [100_000, 110_500] {
                    let expected = model.candidates(SMALL, &query, duration);
                    prop_assert_eq!(index.candidates(&query, duration).unwrap(), expected);
                }
            }
        }
    }
}

#[test]
fn many_small_flushes_merge_and_change_nothing() {
    let (_dir, path) = scratch();
    let limits = Limits { list_songs: 40, ..Limits::V1 };
    let mut index = Index::open_with(&path, limits).unwrap();
    let mut model = Model::default();
    for key in 0..400u32 {
        // Each song has some hashes of its own and shares others with every seventh and with all.
        let items: Vec<u32> = (0..50)
            .map(|i| key * 100 + i)
            .chain((0..9).map(|i| (1 << 20) + (key % 7) * 9 + i))
            .chain([7, 8])
            .collect();
        index.insert(key.into(), &items, 60_000).unwrap();
        model.insert(key.into(), &items, 60_000);
        if key % 3 == 0 {
            index.flush().unwrap();
        }
        if key % 50 == 49 {
            let query: Vec<u32> =
                (key * 100..key * 100 + 50).chain([7, 8]).chain((1 << 20)..(1 << 20) + 9).collect();
            assert_eq!(index.candidates(&query, 60_000).unwrap(), model.candidates(limits, &query, 60_000));
        }
    }
    let stats = index.stats().unwrap();
    assert!(stats.longest_run_list <= merge::MAX_RUNS && stats.longest_run_list > 1, "{stats:?}");
}

#[test]
fn a_hash_that_thousands_of_songs_have_keeps_the_first() {
    let (_dir, path) = scratch();
    let mut index = Index::open(&path).unwrap();
    let common: Vec<u32> = (0..3).collect();
    for key in 0..5_000u64 {
        index.insert(key * 1_000_003, &common, 10_000).unwrap();
        if index.should_flush() {
            index.flush().unwrap();
        }
    }
    assert_eq!(index.stats().unwrap().overlay_songs, 5_000 - 2 * FLUSH_SONGS);
    let first: Vec<u64> = (0..MAX_CANDIDATES as u64).map(|key| key * 1_000_003).collect();
    assert_eq!(index.candidates(&common, 10_000).unwrap(), first);
    // A later song is out of every list although nothing else is wrong with it.
    index.insert(1 << 40, &[0, 1, 2, 9_000, 9_001], 90_000).unwrap();
    assert_eq!(index.candidates(&common, 90_000).unwrap(), Vec::<u64>::new());
    assert_eq!(index.candidates(&[9_000, 9_001], 90_000).unwrap(), [1 << 40]);
    index.flush().unwrap();
    drop(index);
    let index = Index::open(&path).unwrap();
    assert_eq!(index.candidates(&common, 10_000).unwrap(), first);
    assert_eq!(index.candidates(&[9_000, 9_001], 90_000).unwrap(), [1 << 40]);
}

/// A song that no other resembles.
fn recording(seed: u32) -> Vec<u32> {
    (0..900).map(|i| mix(seed * 1_000 + i).rotate_left(i % 32) ^ mix(i)).collect()
}

#[test]
fn finding_takes_the_lowest_rate_and_then_the_earliest() {
    let (_dir, path) = scratch();
    let mut index = Index::open(&path).unwrap();
    let original = recording(1);
    let worse: Vec<u32> = original.iter().map(|item| item ^ (u32::from(item % 2 == 0) << 3)).collect();
    let songs = [
        (3, recording(2), 180_000),
        (5, worse, 180_000),
        (8, original.clone(), 183_000),
        (9, original.clone(), 181_000),
        (12, original.clone(), 187_001),
    ];
    for (key, items, duration) in &songs {
        index.insert(*key, items, *duration).unwrap();
    }
    let mut fetch = |key: u64| -> Result<Fetched, Infallible> {
        let song = songs.iter().find(|song| song.0 == key);
        Ok(song.map(|(_, items, duration)| (items.clone(), *duration)))
    };
    let found = index.find(&original, 180_000, &mut fetch).unwrap().unwrap();
    assert_eq!((found.key, found.comparison.bit_errors), (8, 0));
    assert_eq!(index.closest(&original, 180_000, &mut fetch).unwrap(), Some(found));
    assert_eq!(index.find(&recording(77), 180_000, &mut fetch).unwrap(), None);
    assert_eq!(index.closest(&recording(77), 180_000, &mut fetch).unwrap(), None);

    // Nobody has this duration, and that is the answer to "why not".
    assert_eq!(index.find(&original, 600_000, &mut fetch).unwrap(), None);
    let nearest = index.closest(&original, 600_000, &mut fetch).unwrap().unwrap();
    assert_eq!((nearest.key, nearest.comparison.verdict), (8, Verdict::Different(Reason::Duration)));

    let mut nothing = |_: u64| Ok::<_, Infallible>(None);
    let missing = index.find(&original, 180_000, &mut nothing);
    assert!(matches!(missing, Err(FindError::Missing { key: 8 | 9 | 5 })));
    let mut broken = |_: u64| Err("disk");
    assert!(matches!(
        index.find(&original, 180_000, &mut broken),
        Err(FindError::Fetch { error: "disk", .. })
    ));
}

#[test]
fn keys_rise_and_durable_songs_stay() {
    let (_dir, path) = scratch();
    let mut index = Index::open(&path).unwrap();
    index.insert(4, &[1, 2], 1_000).unwrap();
    assert!(matches!(index.insert(4, &[1, 2], 1_000), Err(IndexError::NotRising { key: 4, next: 5 })));
    assert!(matches!(index.insert(KEY_LIMIT, &[1], 1), Err(IndexError::NotRising { .. })));
    index.skip_to(2);
    assert_eq!(index.next_key(), 5);
    index.skip_to(9);
    index.flush().unwrap();
    assert!(matches!(index.truncate(8), Err(IndexError::Durable { size: 8, durable: 9 })));
    index.truncate(50).unwrap();
    assert_eq!((index.next_key(), index.durable_key()), (9, 9));
    // A watermark without songs is durable too.
    index.skip_to(700);
    index.flush().unwrap();
    drop(index);
    assert_eq!(Index::open(&path).unwrap().next_key(), 700);
}

#[test]
fn foreign_and_damaged_files_are_told_apart_from_busy_ones() {
    let (dir, path) = scratch();
    std::fs::write(&path, b"this is somebody's shopping list, not an index").unwrap();
    let error = Index::open(&path).unwrap_err();
    assert!(error.wants_fresh(), "{error}");
    let index = Index::create_fresh(&path).unwrap();
    assert_eq!(index.next_key(), 0);

    assert!(matches!(Index::open(&path), Err(IndexError::Locked)));
    assert!(matches!(Index::create_fresh(&path), Err(IndexError::Locked)));
    drop(index);

    let other: redb::TableDefinition<'_, u64, u64> = redb::TableDefinition::new("music");
    let foreign = dir.path().join("other.redb");
    let db = redb::Database::create(&foreign).unwrap();
    let write = db.begin_write().unwrap();
    write.open_table(other).unwrap().insert(1, 2).unwrap();
    write.commit().unwrap();
    drop(db);
    assert!(matches!(Index::open(&foreign), Err(IndexError::Foreign(_))));

    let meta: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("antiphon.index.meta");
    let db = redb::Database::open(&path).unwrap();
    let write = db.begin_write().unwrap();
    write.open_table(meta).unwrap().insert("version", 99).unwrap();
    write.commit().unwrap();
    drop(db);
    assert!(matches!(Index::open(&path), Err(IndexError::Version { found: 99, .. })));
    Index::create_fresh(&path).unwrap();

    let nowhere = Index::open(&dir.path().join("no/such/folder.redb")).unwrap_err();
    assert!(!nowhere.wants_fresh() && nowhere.to_string().contains("folder.redb"), "{nowhere}");
}

#[test]
fn a_changed_file_gives_an_error_or_an_answer_but_never_a_panic() {
    let (dir, path) = scratch();
    let mut index = Index::open(&path).unwrap();
    for key in 0..300 {
        index.insert(key, &recording(u32::try_from(key).unwrap()), 100_000).unwrap();
    }
    index.flush().unwrap();
    drop(index);
    let good = std::fs::read(&path).unwrap();
    let bad_path = dir.path().join("bad.redb");
    let mut refused = 0;
    for step in 0..120usize {
        let mut bad = good.clone();
        if step % 4 == 0 {
            bad.truncate(good.len() * step / 120);
        } else {
            let at = (step * 7_919) % if step % 4 == 1 { 4_096 } else { good.len() };
            bad[at..(at + 64).min(good.len())].fill(0xa5);
        }
        std::fs::write(&bad_path, &bad).unwrap();
        let answer = Index::open(&bad_path).and_then(|index| index.candidates(&recording(5), 100_000));
        refused += usize::from(answer.is_err());
        assert!(answer.is_ok() || answer.is_err_and(|error| error.wants_fresh()), "step {step}");
    }
    assert!(refused > 10);
}

#[test]
fn queries_may_run_on_several_threads() {
    const fn shared<T: Send + Sync>() {}
    shared::<Index>();
}
