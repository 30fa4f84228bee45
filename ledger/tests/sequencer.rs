//! The council of a network with one member, as those who register see it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use antiphon_ledger::{
    Ledger, Refusal,
    council::Voting,
    sequencer::{Answer, Sequencer as _},
};
use antiphon_proto::wire::{RefusalCode, Registration};
use common::{Artist, START_MS, council, council_with, genesis_of, key, member, open};

fn index_of(answer: &Answer) -> u64 {
    match answer {
        Answer::Accepted { index, height } => {
            assert!(*height > 0);
            *index
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn registrations_from_many_threads_are_each_answered() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let solo = Arc::new(council(&ledger, dir.path()));
    let threads: Vec<_> = (0..4u8)
        .map(|number| {
            let (solo, ledger) = (Arc::clone(&solo), ledger.clone());
            thread::spawn(move || {
                let artist = Artist::new(number, ledger.genesis());
                let songs: Vec<_> = (0..50).map(|n| artist.song(u64::from(number) * 1000 + n)).collect();
                let submissions: Vec<_> =
                    songs.iter().map(|song| solo.submit(Registration::of_song(song.clone()))).collect();
                for (song, submission) in songs.iter().zip(submissions) {
                    let index = index_of(&submission.wait());
                    // Acknowledged means readable, and durable, which the kill test looks at.
                    assert_eq!(ledger.song(index).unwrap().as_ref(), Some(song));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(ledger.size(), 200);
    assert!(ledger.height() < 200, "batches are shared: {}", ledger.height());
    ledger.verify(false, &mut |_| {}).unwrap();
}

#[test]
fn asking_again_gives_the_same_answer() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let solo = council(&ledger, dir.path());
    let (artist, other) = (Artist::new(1, ledger.genesis()), Artist::new(2, ledger.genesis()));
    let song = artist.song(1);
    let variant = Registration::of_variant(artist.variant(&song, 1));
    let first = solo.submit(Registration::of_song(song.clone())).wait();
    assert_eq!(solo.submit(Registration::of_song(song.clone())).wait(), first);
    let with_variant = solo.submit(variant.clone()).wait();
    assert_eq!(solo.submit(variant.clone()).wait(), with_variant);
    // Twice at once: one block, and the same answer to both.
    let new = artist.song_registration(2);
    let (a, b) = (solo.submit(new.clone()), solo.submit(new));
    assert_eq!(index_of(&a.wait()), index_of(&b.wait()));
    assert_eq!(ledger.size(), 3);
    // The same file by somebody else is a duplicate.
    match solo.submit(other.song_registration(1)).wait() {
        Answer::Refused(refusal @ Refusal::Duplicate { index: 0, .. }) => {
            assert_eq!(refusal.to_wire().song_id, song.id().0);
        }
        other => panic!("{other:?}"),
    }
    solo.stop();
    drop((solo, ledger));
    let ledger = open(dir.path());
    let solo = council(&ledger, dir.path());
    assert_eq!(solo.submit(Registration::of_song(song)).wait(), first);
    assert_eq!(solo.submit(variant).wait(), with_variant);
}

#[test]
fn a_quota_delays_and_refuses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let genesis = genesis_of(member().public(), 3);
    let ledger =
        Ledger::open(dir.path(), antiphon_ledger::Options::without_rule(Some(genesis.clone()))).unwrap();
    let solo = council(&ledger, dir.path());
    let artist = Artist::new(1, &genesis);
    let submissions: Vec<_> = (0..40).map(|n| solo.submit(artist.song_registration(n))).collect();
    let indexes: Vec<u64> = submissions.into_iter().map(|one| index_of(&one.wait())).collect();
    assert_eq!(indexes, (0..40).collect::<Vec<_>>(), "and keeps the order");
    assert!(ledger.height() >= 14);
}

#[test]
fn what_is_wrong_is_refused_and_hurts_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let solo = council(&ledger, dir.path());
    let artist = Artist::new(1, ledger.genesis());
    let mut forged = artist.song(1);
    forged.signature[0] ^= 1;
    let mut huge = artist.song(2);
    huge.fingerprint = vec![1; 100_000];
    let answers = [
        solo.submit(Registration::of_song(forged)),
        solo.submit(Registration::of_song(huge)),
        solo.submit(Registration { body: None }),
        solo.submit(artist.song_registration(3)),
    ]
    .map(|submission| submission.wait());
    let codes: Vec<_> = answers[..3]
        .iter()
        .map(|answer| match answer {
            Answer::Refused(refusal) => refusal.code(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(codes, [RefusalCode::BadSignature, RefusalCode::Limit, RefusalCode::Malformed]);
    assert_eq!(index_of(&answers[3]), 0);
}

#[test]
fn time_never_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let time = Arc::new(AtomicU64::new(START_MS + 5_000));
    let clock = Arc::clone(&time);
    let solo = council_with(&ledger, dir.path(), member(), Arc::new(move || clock.load(Ordering::SeqCst)));
    let artist = Artist::new(1, ledger.genesis());
    let _ = solo.submit(artist.song_registration(1)).wait();
    time.store(START_MS, Ordering::SeqCst);
    let _ = solo.submit(artist.song_registration(2)).wait();
    assert_eq!((ledger.size(), ledger.time_ms()), (2, START_MS + 5_000));
}

#[test]
fn the_end_is_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let artist = Artist::new(1, ledger.genesis());
    let solo = council(&ledger, dir.path());
    let submissions: Vec<_> = (0..30).map(|n| solo.submit(artist.song_registration(n))).collect();
    solo.stop();
    let accepted = submissions
        .into_iter()
        .map(antiphon_ledger::sequencer::Submission::wait)
        .filter(|answer| matches!(answer, Answer::Accepted { .. }))
        .count();
    assert_eq!(ledger.size(), accepted as u64);
    assert!(matches!(solo.submit(artist.song_registration(99)).wait(), Answer::Unavailable(_)));
    // The directory is free again.
    drop((solo, ledger));
    open(dir.path());
}

#[test]
fn answers_can_be_awaited() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let solo = council(&ledger, dir.path());
    let artist = Artist::new(1, ledger.genesis());
    let mut submission = std::pin::pin!(solo.submit(artist.song_registration(1)));
    let mut watch = ledger.watch();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        assert_eq!(index_of(&submission.as_mut().await), 0);
        if *watch.borrow_and_update() == 0 {
            watch.changed().await.unwrap();
        }
        assert_eq!(*watch.borrow(), 1);
    });
}

#[test]
fn a_stranger_cannot_order() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let stranger = council_with(&ledger, dir.path(), key(9), Arc::new(|| START_MS));
    let artist = Artist::new(1, ledger.genesis());
    let answer = stranger.submit(artist.song_registration(1)).wait();
    assert!(matches!(answer, Answer::Unavailable(_)), "{answer:?}");
    assert_eq!(stranger.report().voting, Voting::NotAMember);
    assert_eq!(ledger.size(), 0);
}

/// A sequencer that is not keeping up says so at once.
#[test]
fn a_full_queue_is_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    // The clock is read with everything that is taken in: this one stands still until it is told to go on.
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(Some(gate));
    let (entered_in, entered) = std::sync::mpsc::channel();
    let calls = AtomicU64::new(0);
    let clock = move || {
        // The start reads it a few times.
        if calls.fetch_add(1, Ordering::SeqCst) > 8
            && let Some(gate) = gate.lock().unwrap().take()
        {
            let _ = entered_in.send(());
            let _ = gate.recv();
        }
        START_MS
    };
    let solo = council_with(&ledger, dir.path(), member(), Arc::new(clock));
    let artist = Artist::new(1, ledger.genesis());
    let registration = artist.song_registration(1);
    let mut submissions: Vec<_> = (0..20).map(|_| solo.submit(registration.clone())).collect();
    entered.recv().unwrap();
    submissions.extend((0..4_200).map(|_| solo.submit(registration.clone())));
    drop(go);
    let answers: Vec<Answer> =
        submissions.into_iter().map(antiphon_ledger::sequencer::Submission::wait).collect();
    let unavailable = answers.iter().filter(|answer| matches!(answer, Answer::Unavailable(_))).count();
    assert!(unavailable >= 80, "{unavailable}");
    assert!(answers.iter().all(|answer| matches!(answer, Answer::Unavailable(_)) || index_of(answer) == 0));
    assert_eq!(ledger.size(), 1);
}
