//! Power cuts and rotten disks: what was acknowledged is there, or the ledger says that it is not.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use antiphon_ledger::{
    AppendError, Info, Ledger, OpenError, Options, ReadError, Stage, VerifyError,
    bench::{RawSong, append_raw},
};
use antiphon_proto::wire::Registration;
use antiphon_proto::{ContentHash, SongId};
use common::{Artist, SMALL, batches, extend, open, try_open};

/// A ledger with `count` batches of one to three blocks, not closed cleanly, and its numbers after each batch.
fn filled(dir: &Path, count: u64) -> Vec<Info> {
    let ledger = open(dir);
    let artist = Artist::new(1, ledger.genesis());
    let mut infos = vec![plain(&ledger)];
    for batch in 0..count {
        let mut registrations: Vec<_> =
            (0..1 + batch % 3).map(|n| artist.song_registration(batch * 10 + n)).collect();
        if batch % 3 == 1 {
            let variant = artist.variant(&artist.song(batch * 10), batch);
            registrations.push(Registration::of_variant(variant));
        }
        extend(&ledger, &registrations).unwrap();
        infos.push(plain(&ledger));
    }
    infos
}

/// These tests open a ledger thousands of times and sync each time; what they damage is the bytes, so memory will do.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// What must be equal whatever the index went through.
fn plain(ledger: &Ledger) -> Info {
    Info { disk_bytes: 0, segments: 0, ..ledger.info() }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(dir.join("segments")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Opens, compares, checks everything, and appends one more batch.
fn is_whole(dir: &Path, expected: &Info, context: &str) {
    let ledger = try_open(dir).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(&plain(&ledger), expected, "{context}");
    ledger.verify(false, &mut |_| {}).unwrap_or_else(|error| panic!("{context}: {error}"));
    let artist = Artist::new(2, ledger.genesis());
    extend(&ledger, &[artist.song_registration(1_000_000)]).unwrap();
    assert_eq!(ledger.size(), expected.size + 1);
    let after = plain(&ledger);
    drop(ledger);
    assert_eq!(plain(&open(dir)), after, "{context}, opened again");
}

/// The last batch's bytes: its segment, where it begins, and the segment's length.
fn last_batch(dir: &Path) -> (PathBuf, u64, u64) {
    let ledger = open(dir);
    let last = batches(&ledger).pop().unwrap();
    let length: usize =
        last.blocks.iter().map(|block| block.len() + 16).sum::<usize>() + last.seal.len() + 16;
    let path = segments(dir).pop().unwrap();
    let end = fs::metadata(&path).unwrap().len();
    (path, end - length as u64, end)
}

#[test]
fn a_torn_last_batch_is_cut_at_every_byte() {
    let dir = scratch();
    let infos = filled(dir.path(), 4);
    let (path, start, end) = last_batch(dir.path());
    let whole = fs::read(&path).unwrap();
    let (before, start, end) = (&infos[3], usize::try_from(start).unwrap(), usize::try_from(end).unwrap());
    let reopened = |bytes: &[u8], expected: &Info, context: String| {
        fs::write(&path, bytes).unwrap();
        let ledger = try_open(dir.path()).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(&plain(&ledger), expected, "{context}");
        // What was cut is gone: it must not stand behind the next batch.
        let length = fs::metadata(&path).unwrap().len();
        assert!(length == start as u64 || length == end as u64 && expected.size > before.size, "{context}");
    };
    for cut in start..end {
        reopened(&whole[..cut], before, format!("cut at {cut}"));
        // What the file system had not written yet reads as zeros, or as whatever was there before.
        let mut zeros = whole.clone();
        zeros[cut..].fill(0);
        reopened(&zeros, before, format!("zeros from {cut}"));
        let mut garbage = whole.clone();
        blake3::Hasher::new().update(&cut.to_le_bytes()).finalize_xof().fill(&mut garbage[cut..]);
        reopened(&garbage, before, format!("garbage from {cut}"));
    }
    // The seal may reach the disk before the blocks do.
    for hole in (start..end - 200).step_by(37) {
        let mut holed = whole.clone();
        holed[hole..hole + 200].fill(0);
        reopened(&holed, before, format!("hole at {hole}"));
    }
    reopened(&whole, &infos[4], "whole again".to_owned());
    fs::write(&path, &whole[..end - 1]).unwrap();
    is_whole(dir.path(), before, "after a cut");
}

#[test]
fn a_first_batch_may_be_torn_too() {
    let dir = scratch();
    let infos = filled(dir.path(), 1);
    let (path, start, end) = last_batch(dir.path());
    assert_eq!(start, 64);
    for cut in start..end {
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..usize::try_from(cut).unwrap()]).unwrap();
        assert_eq!(plain(&open(dir.path())), infos[0]);
        fs::write(&path, whole).unwrap();
    }
}

#[test]
fn a_segment_that_was_being_made_is_no_segment() {
    let dir = scratch();
    let infos = filled(dir.path(), 3);
    let next = dir.path().join("segments").join(format!("{:020}.tmp", infos[3].size));
    fs::write(&next, b"ANTPH").unwrap();
    is_whole(dir.path(), &infos[3], "with a half-made segment");
    assert!(!next.exists());
}

/// A flipped bit in anything but the last batch is reported, whether the index lets the start pass by it or not.
#[test]
fn flipped_bits_are_never_served() {
    let dir = scratch();
    let infos = filled(dir.path(), 14);
    let (last, start, _) = last_batch(dir.path());
    let files = segments(dir.path());
    assert!(files.len() >= 3, "the test needs several segments, there are {}", files.len());
    let ledger = open(dir.path());
    let good: Vec<Vec<u8>> = batches(&ledger).into_iter().flat_map(|batch| batch.blocks).collect();
    ledger.close().unwrap();
    drop(ledger);
    let index = scratch();
    copy(&dir.path().join("index"), index.path());
    let mut served_around = 0;
    for path in &files {
        let whole = fs::read(path).unwrap();
        let end = if *path == last { usize::try_from(start).unwrap() } else { whole.len() };
        for at in (0..end).step_by(53) {
            let mut bad = whole.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(path, &bad).unwrap();
            let context = format!("{} byte {at}", path.display());
            // Without an index every byte is read when opening.
            remove_index(dir.path());
            match try_open(dir.path()) {
                Err(OpenError::Damaged(damage)) => {
                    assert_eq!(&damage.file, path, "{context}");
                    assert!(damage.to_string().contains("backup"), "{damage}");
                }
                other => panic!("{context}: {other:?}"),
            }
            remove_index(dir.path());
            copy(index.path(), &dir.path().join("index"));
            served_around += damage_is_noticed(dir.path(), &good, &context);
        }
        fs::write(path, &whole).unwrap();
    }
    assert!(served_around > 50, "blocks were found damaged when they were read: {served_around}");
    is_whole(dir.path(), &infos[14], "whole again");
}

fn remove_index(dir: &Path) {
    // A start that failed early has made none.
    if dir.join("index").exists() {
        fs::remove_dir_all(dir.join("index")).unwrap();
    }
}

/// Number of blocks that were found damaged when they were read.
fn damage_is_noticed(dir: &Path, good: &[Vec<u8>], context: &str) -> u32 {
    let ledger = match try_open(dir) {
        Ok(ledger) => ledger,
        Err(OpenError::Damaged(_)) => return 0,
        Err(other) => panic!("{context}: {other:?}"),
    };
    // The index let the walk begin behind the damage: blocks are checked when they are read.
    let mut damaged = 0;
    for (block, index) in good.iter().zip(0..) {
        match ledger.block(index) {
            Ok(Some(bytes)) => assert_eq!(&bytes, block, "{context}"),
            Ok(None) => panic!("{context}: block {index} is gone"),
            Err(ReadError::Damaged(_)) => damaged += 1,
            Err(other) => panic!("{context}: {other}"),
        }
    }
    match ledger.verify(false, &mut |_| {}) {
        Err(VerifyError::Read(ReadError::Damaged(_))) => {}
        other => panic!("{context}: {other:?}"),
    }
    damaged
}

#[test]
fn a_missing_segment_is_noticed() {
    let dir = scratch();
    filled(dir.path(), 20);
    let files = segments(dir.path());
    assert!(files.len() >= 4);
    for gone in &files[..files.len() - 1] {
        let kept = fs::read(gone).unwrap();
        fs::remove_file(gone).unwrap();
        remove_index(dir.path());
        assert!(matches!(try_open(dir.path()), Err(OpenError::Damaged(_))), "{}", gone.display());
        fs::write(gone, kept).unwrap();
    }
}

#[test]
fn a_lost_or_broken_index_is_built_again() {
    let dir = scratch();
    let infos = filled(dir.path(), 30);
    open(dir.path()).close().unwrap();
    let expected = &infos[30];
    type Harm<'a> = (&'a str, &'a dyn Fn(&Path));
    let variants: [Harm<'_>; 7] = [
        ("deleted", &|index| fs::remove_dir_all(index).unwrap()),
        ("empty db", &|index| fs::write(index.join("db"), b"").unwrap()),
        ("half db", &|index| truncate(&index.join("db"), 2)),
        ("tenth of db", &|index| truncate(&index.join("db"), 10)),
        ("garbage db", &|index| fs::write(index.join("db"), vec![0x5a; 100_000]).unwrap()),
        ("no conf", &|index| fs::remove_file(index.join("conf")).unwrap()),
        ("garbage conf", &|index| fs::write(index.join("conf"), b"nonsense").unwrap()),
    ];
    for (name, damage) in variants {
        let work = scratch();
        copy(dir.path(), work.path());
        damage(&work.path().join("index"));
        is_whole(work.path(), expected, name);
    }
}

#[test]
fn a_rebuild_tells_how_far_it_is() {
    let dir = scratch();
    let infos = filled(dir.path(), 30);
    remove_index(dir.path());
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let options = Options {
        progress: Some(Box::new(move |progress| tell.lock().unwrap().push(progress))),
        ..Options::without_rule(Some(common::genesis()))
    };
    let ledger = Ledger::open_with(dir.path(), options, SMALL).unwrap();
    assert_eq!(plain(&ledger), infos[30]);
    let told = told.lock().unwrap();
    assert!(told.len() >= 3, "{told:?}");
    assert!(told.iter().all(|progress| progress.stage == Stage::Index && progress.done <= progress.total));
    assert!(told.windows(2).all(|pair| pair[0].done < pair[1].done));
}

fn truncate(path: &Path, part: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / part).unwrap();
}

/// Garbage inside the index's file may be found only when it is read: an error then, never wrong data, and the next
/// start has repaired it.
#[test]
fn garbage_inside_the_index_is_repaired_at_the_latest_at_the_next_start() {
    let dir = scratch();
    let infos = filled(dir.path(), 30);
    open(dir.path()).close().unwrap();
    let length = fs::metadata(dir.path().join("index/db")).unwrap().len();
    for start in (0..length).step_by(usize::try_from(length / 24).unwrap()) {
        let work = scratch();
        copy(dir.path(), work.path());
        let db = work.path().join("index/db");
        let mut bytes = fs::read(&db).unwrap();
        let at = usize::try_from(start).unwrap();
        let end = bytes.len().min(at + 700);
        blake3::Hasher::new().update(&start.to_le_bytes()).finalize_xof().fill(&mut bytes[at..end]);
        fs::write(&db, bytes).unwrap();
        let first = open(work.path());
        assert_eq!(plain(&first), infos[30]);
        let verdict = first.verify(false, &mut |_| {});
        drop(first);
        if let Err(error) = verdict {
            assert!(
                matches!(error, VerifyError::Read(ReadError::Index(_)) | VerifyError::Index { .. }),
                "{start}: {error}"
            );
            if matches!(error, VerifyError::Index { .. }) {
                fs::remove_dir_all(work.path().join("index")).unwrap();
            }
        }
        is_whole(work.path(), &infos[30], &format!("garbage at {start}"));
    }
}

#[test]
fn an_index_from_elsewhere_is_not_used() {
    let (a, b) = (scratch(), scratch());
    let infos = filled(a.path(), 3);
    open(a.path()).close().unwrap();
    let b_infos = filled(b.path(), 30);
    open(b.path()).close().unwrap();
    // Of the same network, but ahead of these segments.
    fs::remove_dir_all(a.path().join("index")).unwrap();
    copy(&b.path().join("index"), &a.path().join("index"));
    // It proves that blocks are gone which were acknowledged: somebody has to decide.
    let (here, there) = (infos[3].size, b_infos[30].size);
    for _ in 0..2 {
        match try_open(a.path()) {
            Err(OpenError::Damaged(damage)) => {
                assert!(damage.what.contains(&format!("the last {} of them", there - here)), "{damage}");
                assert!(damage.what.contains("fork") && damage.what.contains("index"), "{damage}");
            }
            other => panic!("{other:?}"),
        }
    }
    remove_index(a.path());
    is_whole(a.path(), &infos[3], "without the index of a longer ledger");
}

#[test]
fn a_lost_end_is_damage_while_the_index_knows_it() {
    let dir = scratch();
    let infos = filled(dir.path(), 30);
    open(dir.path()).close().unwrap();
    let last = segments(dir.path()).pop().unwrap();
    let whole = fs::read(&last).unwrap();
    for length in [0, 64, whole.len() - 1] {
        match length {
            0 => fs::remove_file(&last).unwrap(),
            length => fs::write(&last, &whole[..length]).unwrap(),
        }
        match try_open(dir.path()) {
            Err(OpenError::Damaged(damage)) => assert!(damage.what.contains("missing"), "{damage}"),
            other => panic!("{length}: {other:?}"),
        }
        fs::write(&last, &whole).unwrap();
    }
    is_whole(dir.path(), &infos[30], "restored");
}

/// A segment that got no batch, as after a failure between making it and writing to it.
#[test]
fn an_empty_segment_is_used_by_the_next_batch() {
    let dir = scratch();
    let infos = filled(dir.path(), 20);
    let files = segments(dir.path());
    let mut header = Vec::new();
    let at =
        infos.iter().position(|info| files.iter().any(|file| name_of(file) == info.size && info.size > 0));
    let first = infos[at.unwrap()].size;
    // Everything from that segment on goes, but for the segment's header.
    for file in &files {
        match name_of(file) {
            number if number == first => {
                header = fs::read(file).unwrap()[..64].to_vec();
                fs::write(file, &header).unwrap();
            }
            number if number > first => fs::remove_file(file).unwrap(),
            _ => {}
        }
    }
    assert_eq!(header.len(), 64);
    remove_index(dir.path());
    let count = segments(dir.path()).len();
    let ledger = try_open(dir.path()).unwrap();
    assert_eq!(ledger.size(), first);
    // More than a segment holds: it goes into the empty one all the same.
    let artist = Artist::new(2, ledger.genesis());
    let many: Vec<_> = (0..40).map(|n| artist.song_registration(2_000_000 + n)).collect();
    extend(&ledger, &many).unwrap();
    let after = plain(&ledger);
    drop(ledger);
    assert_eq!(segments(dir.path()).len(), count);
    is_whole(dir.path(), &after, "after an empty segment");
}

/// A failure that leaves open whether the new segment is there: nothing goes behind the end of the one before.
#[test]
fn a_segment_that_cannot_be_made_stops_appending_until_the_next_start() {
    let dir = scratch();
    let infos = filled(dir.path(), 3);
    let ledger = open(dir.path());
    let artist = Artist::new(3, ledger.genesis());
    let mut before = infos[3].clone();
    let taken = loop {
        let taken = dir.path().join("segments").join(format!("{:020}.seg", ledger.size()));
        fs::create_dir(&taken).unwrap();
        match extend(&ledger, &[artist.song_registration(3_000_000 + ledger.size())]) {
            Ok(_) => fs::remove_dir(&taken).unwrap(),
            Err(AppendError::File(_)) => break taken,
            Err(other) => panic!("{other}"),
        }
        before = plain(&ledger);
    };
    let song = [artist.song_registration(4_000_000)];
    assert!(matches!(extend(&ledger, &song), Err(AppendError::Halted)));
    fs::remove_dir(&taken).unwrap();
    assert!(matches!(extend(&ledger, &song), Err(AppendError::Halted)));
    drop(ledger);
    is_whole(dir.path(), &before, "opened again");
    assert!(taken.exists(), "the next batch has made the segment");
}

fn name_of(segment: &Path) -> u64 {
    segment.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

/// Of a ledger of the same network and the same lengths, but with other songs.
#[test]
fn an_index_that_looks_right_is_not_used() {
    let (a, b) = (scratch(), scratch());
    for (dir, number) in [(&a, 1), (&b, 2)] {
        let ledger = open(dir.path());
        extend(&ledger, &[Artist::new(1, ledger.genesis()).song_registration(number)]).unwrap();
        ledger.close().unwrap();
    }
    let expected = plain(&open(a.path()));
    remove_index(a.path());
    copy(&b.path().join("index"), &a.path().join("index"));
    is_whole(a.path(), &expected, "index of a like ledger");
}

/// sled's threads hold what was closed for a moment longer.
fn open_index(dir: &Path) -> sled::Db {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        match sled::open(dir.join("index")) {
            Ok(db) => return db,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Values inside the index that are not what was written: an error for whoever meets them, repaired by a restart.
#[test]
fn a_broken_value_is_an_error_once() {
    for tree in ["contents", "songs", "variants", "locations"] {
        let dir = scratch();
        let infos = filled(dir.path(), 30);
        open(dir.path()).close().unwrap();
        let db = open_index(dir.path());
        let values = db.open_tree(tree).unwrap();
        for key in values.iter().keys() {
            values.insert(key.unwrap(), b"nonsense").unwrap();
        }
        db.flush().unwrap();
        drop((values, db));
        match try_open(dir.path()) {
            // The last block is looked at when opening.
            Ok(ledger) if tree == "locations" => assert_eq!(plain(&ledger), infos[30]),
            Ok(ledger) => {
                let error = ledger.verify(false, &mut |_| {}).unwrap_err();
                assert!(matches!(error, VerifyError::Read(ReadError::Index(_))), "{tree}: {error}");
            }
            Err(error) => panic!("{tree}: {error}"),
        }
        is_whole(dir.path(), &infos[30], tree);
    }
}

/// Whole records with a wrong seal: by no accident of a disk, but what a stranger might leave there.
#[test]
fn seals_are_checked_again() {
    let source_dir = scratch();
    filled(source_dir.path(), 3);
    let source = open(source_dir.path());
    let all = batches(&source);
    let forge = |bad: usize| {
        let dir = scratch();
        let ledger = open(dir.path());
        for (number, batch) in all.iter().enumerate() {
            let songs: Vec<RawSong> = batch
                .blocks
                .iter()
                .map(|_| RawSong { content: ContentHash([0; 32]), song_id: SongId([0; 32]) })
                .collect();
            let seal = if number == bad { b"no seal".to_vec() } else { batch.seal.clone() };
            append_raw(&ledger, &batch.blocks, &songs, &seal).unwrap();
        }
        dir
    };
    let last = forge(2);
    assert!(matches!(try_open(last.path()), Err(OpenError::Damaged(_))));
    let middle = forge(1);
    let ledger = open(middle.path());
    let first = all[1].first;
    match ledger.verify(false, &mut |_| {}) {
        Err(VerifyError::Seal { first: at, .. }) => assert_eq!(at, first),
        other => panic!("{other:?}"),
    }
    drop(ledger);
    open(forge(9).path()).verify(false, &mut |_| {}).unwrap();
}

#[test]
fn one_handle_at_a_time() {
    let dir = scratch();
    let ledger = open(dir.path());
    let other = ledger.clone();
    drop(ledger);
    match try_open(dir.path()) {
        Err(OpenError::Locked { pid: Some(pid), .. }) => assert_eq!(pid, std::process::id()),
        other => panic!("{other:?}"),
    }
    drop(other);
    try_open(dir.path()).unwrap();
}

#[test]
fn a_lost_or_changed_genesis_document_is_damage() {
    let dir = scratch();
    filled(dir.path(), 2);
    let path = dir.path().join("genesis");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..20]).unwrap();
    assert!(matches!(try_open(dir.path()), Err(OpenError::Damaged(_))));
    fs::remove_file(&path).unwrap();
    assert!(matches!(try_open(dir.path()), Err(OpenError::Damaged(_))));
    fs::write(&path, bytes).unwrap();
    try_open(dir.path()).unwrap();
}

/// Small segments and folds make the tests above meaningful: several of both must have happened.
#[test]
fn the_small_sizes_are_reached() {
    let dir = scratch();
    let infos = filled(dir.path(), 30);
    assert!(segments(dir.path()).len() > 4);
    assert!(infos[30].size > 4 * SMALL.fold_blocks as u64);
}
