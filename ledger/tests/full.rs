//! A disk that is full: the batch is not acknowledged, nothing else is lost, and the ledger goes on being read.
//!
//! The limit on the size of files (`ulimit -f`) stands in for the disk: a write ends half-way, as on a full one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod common;

use std::{path::Path, process::Command};

use antiphon_ledger::{AppendError, Ledger, Options};
use common::{Artist, START_MS, genesis, sealed};

const CHILD_DIR: &str = "ANTIPHON_TEST_FULL_DIR";
/// 512-byte blocks: 1.5 MiB, which the index with nothing folded stays below.
const LIMIT: &str = "3072";

fn open(dir: &Path) -> Ledger {
    Ledger::open(dir, Options::without_rule(Some(genesis()))).unwrap()
}

/// The child: appends until the disk is full, twice, and prints what was acknowledged.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let ledger = open(Path::new(&dir));
    let artist = Artist::new(1, ledger.genesis());
    let batch = |start: u64, count: u64| {
        let song =
            |n| antiphon_proto::wire::Registration::of_song(artist.prove_song(artist.bare_song(n, 3_000)));
        let registrations: Vec<_> = (start..start + count).map(song).collect();
        sealed(&ledger, START_MS, &registrations).0
    };
    let mut number = 0;
    let failed = loop {
        assert!(number < 2_000, "the limit is never met");
        match ledger.append(&batch(number, 60)) {
            Ok(_) => number += 60,
            Err(error) => break error,
        }
    };
    assert!(matches!(failed, AppendError::File(_)), "{failed}");
    assert_eq!(ledger.size(), number);
    // Nothing of the failed batch is left.
    let segment = std::fs::read_dir(Path::new(&dir).join("segments")).unwrap().next().unwrap().unwrap();
    let batches = common::batches(&ledger);
    let stored = |batch: &antiphon_ledger::SealedBatch| {
        batch.blocks.iter().map(|block| block.len() + 16).sum::<usize>() + batch.seal.len() + 16
    };
    assert_eq!(segment.metadata().unwrap().len(), 64 + batches.iter().map(stored).sum::<usize>() as u64);
    // What was half written is gone again, so a smaller batch may fit, and what is there can be read.
    ledger.append(&batch(5_000, 1)).unwrap();
    assert!(matches!(ledger.append(&batch(6_000, 64)), Err(AppendError::File(_))));
    ledger.verify(false, &mut |_| {}).unwrap();
    println!("acknowledged {}", ledger.size());
}

#[test]
fn a_full_disk_costs_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    // The signal that comes with the limit is ignored, so that the write fails instead.
    let script = format!("trap '' XFSZ; ulimit -f {LIMIT}; exec \"$0\" child --exact --nocapture");
    let output = Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD_DIR, dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    let line = text.lines().find_map(|line| line.strip_prefix("acknowledged ")).unwrap();
    let ledger = open(dir.path());
    assert_eq!(ledger.size(), line.parse::<u64>().unwrap());
    assert!(ledger.size() > 300);
    ledger.verify(false, &mut |_| {}).unwrap();
}
