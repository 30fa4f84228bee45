//! The near-duplicate rule inside the ledger, with a rule simple enough to see through: songs are alike when their
//! fingerprints begin with the same byte.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod common;

use std::{path::Path, sync::atomic::Ordering};

use antiphon_ledger::{AppendError, Fault, Ledger, Options, Refusal, RuleError, Verdict};
use antiphon_proto::wire::{RefusalCode, Registration, Song};
use common::{Artist, FirstByte, SMALL, START_MS, batches, extend, genesis, sealed};

fn open(dir: &Path, rule: &FirstByte) -> Ledger {
    let rule = Box::new(rule.reopened());
    Ledger::open_with(dir, Options { genesis: Some(genesis()), rule, progress: None }, SMALL).unwrap()
}

/// A song whose fingerprint begins with `first`.
fn song(artist: &Artist, number: u64, first: u8) -> Song {
    let mut song = artist.bare_song(number, 40);
    song.fingerprint[0] = first;
    artist.prove_song(song)
}

fn registration(artist: &Artist, number: u64, first: u8) -> Registration {
    Registration::of_song(song(artist, number, first))
}

#[test]
fn a_near_duplicate_is_refused_and_becomes_a_variant() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path(), &FirstByte::default());
    let (a, b) = (Artist::new(1, ledger.genesis()), Artist::new(2, ledger.genesis()));
    let first = song(&a, 1, 10);
    // The second is alike within the batch, the third has no fingerprint, the fourth is new.
    let verdicts = extend(
        &ledger,
        &[
            Registration::of_song(first.clone()),
            registration(&b, 2, 10),
            registration(&b, 3, 0xff),
            registration(&b, 4, 11),
        ],
    )
    .unwrap();
    assert_eq!(verdicts[0], Verdict::Accepted { position: 0 });
    let alike = Refusal::NearDuplicate { index: 0, song_id: first.id(), error_per_10_000: 0 };
    assert_eq!(verdicts[1], Verdict::Refused(alike.clone()));
    assert!(matches!(&verdicts[2], Verdict::Refused(refusal) if refusal.code() == RefusalCode::Malformed));
    assert_eq!(verdicts[3], Verdict::Accepted { position: 1 });
    // And in a later batch.
    assert_eq!(extend(&ledger, &[registration(&b, 5, 10)]).unwrap(), [Verdict::Refused(alike)]);
    let variant = Registration::of_variant(b.variant(&first, 5));
    assert_eq!(extend(&ledger, &[variant]).unwrap(), [Verdict::Accepted { position: 0 }]);
    assert_eq!(ledger.variants_of(&first.id()).unwrap(), [2]);
    ledger.verify(true, &mut |_| {}).unwrap();
}

#[test]
fn an_abandoned_proposal_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path(), &FirstByte::default());
    let artist = Artist::new(1, ledger.genesis());
    let registrations = [registration(&artist, 1, 1), registration(&artist, 2, 2)];
    let (one, proposal) = sealed(&ledger, START_MS, &registrations);
    // Asked in between: what was only proposed is not there.
    assert_eq!(ledger.check_near_duplicate(&song(&artist, 9, 1)).unwrap(), None);
    let (two, again) = sealed(&ledger, START_MS + 1, &registrations[1..]);
    assert_eq!(again.verdicts, [Verdict::Accepted { position: 0 }]);
    assert_ne!(proposal.root, again.root);
    // The first of the two is still a valid batch.
    ledger.append(&one).unwrap();
    ledger.append(&two).unwrap_err();
    let found = ledger.check_near_duplicate(&song(&artist, 9, 2)).unwrap();
    assert_eq!(found.map(|similar| similar.index), Some(1));
    let none = ledger.check_near_duplicate(&song(&artist, 9, 0xff));
    assert!(matches!(none, Err(Fault::Rule(RuleError::BadFingerprint(_)))));
    assert_eq!(extend(&ledger, &[registration(&artist, 3, 3)]).unwrap(), [Verdict::Accepted { position: 0 }]);
}

#[test]
fn a_refused_batch_leaves_no_trace() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = open(a.path(), &FirstByte::default());
    let artist = Artist::new(1, source.genesis());
    for n in 0..5u8 {
        extend(&source, &[registration(&artist, n.into(), n)]).unwrap();
    }
    let follower = open(b.path(), &FirstByte::default());
    for batch in batches(&source) {
        let mut bad = batch.clone();
        bad.seal[0] ^= 1;
        follower.append(&bad).unwrap_err();
        // A proposal of its own stands in the way of nothing.
        follower.propose(START_MS, &[registration(&artist, 100, 100)]).unwrap();
        follower.append(&batch).unwrap();
    }
    assert_eq!(follower.root(), source.root());
    follower.verify(true, &mut |_| {}).unwrap();
}

/// A batch of which the first song is taken in before the second is refused.
#[test]
fn a_batch_refused_half_way_leaves_no_trace() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // A ledger without the rule, whose member seals what others must refuse.
    let careless = common::open(a.path());
    let artist = Artist::new(1, careless.genesis());
    extend(&careless, &[registration(&artist, 1, 5), registration(&artist, 2, 5)]).unwrap();
    let follower = open(b.path(), &FirstByte::default());
    match follower.append(&batches(&careless)[0]) {
        Err(
            error @ AppendError::Disagrees { index: 1, refusal: Refusal::NearDuplicate { index: 0, .. } },
        ) => assert!(!error.is_invalid_batch(), "its seal is good: whoever passed it on is not at fault"),
        other => panic!("{other:?}"),
    }
    assert_eq!(follower.check_near_duplicate(&song(&artist, 9, 5)).unwrap(), None);
    assert_eq!(
        extend(&follower, &[registration(&artist, 2, 5)]).unwrap(),
        [Verdict::Accepted { position: 0 }]
    );
}

#[test]
fn the_rule_is_fed_with_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let rule = FirstByte::default();
    let ledger = open(dir.path(), &rule);
    let artist = Artist::new(1, ledger.genesis());
    for n in 0..12u8 {
        extend(&ledger, &[registration(&artist, n.into(), n)]).unwrap();
    }
    drop(ledger);
    let flushed = rule.disk.lock().unwrap().len();
    assert!((1..12).contains(&flushed), "it is flushed now and then: {flushed}");
    for lost in [flushed, 3, 0] {
        rule.disk.lock().unwrap().truncate(lost);
        let ledger = open(dir.path(), &rule);
        for n in 0..12u8 {
            let found = ledger.check_near_duplicate(&song(&artist, 99, n)).unwrap();
            assert_eq!(found.map(|similar| similar.index), Some(n.into()));
        }
    }
    assert_eq!(*rule.resets.lock().unwrap(), 0);
    // Ahead of the ledger, as after a restored backup: it starts again.
    *rule.disk.lock().unwrap() = (0..40).map(Some).collect();
    let ledger = open(dir.path(), &rule);
    assert_eq!(*rule.resets.lock().unwrap(), 1);
    assert_eq!(ledger.check_near_duplicate(&song(&artist, 99, 50)).unwrap(), None);
    ledger.close().unwrap();
    assert_eq!(rule.disk.lock().unwrap().len(), 12);
}

/// An index that says what the blocks do not is found by `verify`, and built again by it.
#[test]
fn verifying_builds_the_rule_anew() {
    let dir = tempfile::tempdir().unwrap();
    let rule = FirstByte::default();
    {
        let ledger = open(dir.path(), &rule);
        let artist = Artist::new(1, ledger.genesis());
        for n in 0..8u8 {
            extend(&ledger, &[registration(&artist, n.into(), n)]).unwrap();
        }
        ledger.close().unwrap();
    }
    rule.disk.lock().unwrap()[2] = None;
    let ledger = open(dir.path(), &rule);
    let artist = Artist::new(1, ledger.genesis());
    assert_eq!(ledger.check_near_duplicate(&song(&artist, 99, 2)).unwrap(), None);
    let mut last = None;
    let report = ledger.verify(true, &mut |progress| last = Some(progress)).unwrap();
    assert!(report.near_duplicates);
    assert_eq!(last.map(|progress| (progress.done, progress.total)), Some((8, 8)));
    assert!(ledger.check_near_duplicate(&song(&artist, 99, 2)).unwrap().is_some());
    extend(&ledger, &[registration(&artist, 200, 200)]).unwrap();
}

/// More songs than a rule keeps in memory.
#[test]
fn verifying_flushes_the_rule_now_and_then() {
    let dir = tempfile::tempdir().unwrap();
    let rule = FirstByte::default();
    let ledger = open(dir.path(), &rule);
    let artist = Artist::new(1, ledger.genesis());
    for batch in 0..5u8 {
        let registrations: Vec<_> =
            (0..50).map(|n| batch * 50 + n).map(|n| registration(&artist, n.into(), n)).collect();
        extend(&ledger, &registrations).unwrap();
    }
    assert_eq!(ledger.size(), 250);
    assert_eq!(ledger.verify(true, &mut |_| {}).unwrap().songs, 250);
    assert!(ledger.check_near_duplicate(&song(&artist, 999, 77)).unwrap().is_some());
}

#[test]
fn a_rule_that_failed_works_again_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let rule = FirstByte::default();
    let ledger = open(dir.path(), &rule);
    let artist = Artist::new(1, ledger.genesis());
    for n in 0..7u8 {
        extend(&ledger, &[registration(&artist, n.into(), n)]).unwrap();
    }
    let (batch, _) = sealed(&ledger, START_MS, &[registration(&artist, 7, 7)]);
    rule.full.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        let failed = ledger.propose(START_MS, &[registration(&artist, 8, 8)]);
        assert!(matches!(failed, Err(Fault::Rule(RuleError::Index(_)))), "{failed:?}");
        let failed = ledger.append(&batch);
        assert!(matches!(failed, Err(AppendError::Fault(Fault::Rule(RuleError::Index(_))))), "{failed:?}");
    }
    assert_eq!(ledger.size(), 7);
    rule.full.store(false, Ordering::Relaxed);
    ledger.append(&batch).unwrap();
    for n in 0..8u8 {
        let found = ledger.check_near_duplicate(&song(&artist, 99, n)).unwrap();
        assert_eq!(found.map(|similar| similar.index), Some(n.into()));
    }
    assert_eq!(extend(&ledger, &[registration(&artist, 8, 8)]).unwrap(), [Verdict::Accepted { position: 0 }]);
    ledger.verify(true, &mut |_| {}).unwrap();
}
