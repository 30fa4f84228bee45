//! A real process, killed with SIGKILL at random moments: every acknowledged registration is in the ledger.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod common;

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use antiphon_ledger::{
    Ledger, OpenError, Options, Tuning,
    sequencer::{Answer, Sequencer as _},
};
use common::{Artist, council, genesis};

/// Names the directory to the child, which is this very test.
const CHILD_DIR: &str = "ANTIPHON_TEST_KILL_DIR";
const ROUNDS: u32 = 20;
/// Quick folds and small segments, so that kills meet them.
const TUNING: Tuning = Tuning { segment_bytes: 40_000, fold_blocks: 40 };

fn open(dir: &Path) -> Ledger {
    Ledger::open_with(dir, Options::without_rule(Some(genesis())), TUNING).unwrap()
}

/// The child: registers song after song and prints the index of each that was accepted, until it is killed.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let ledger = open(Path::new(&dir));
    let artist = Artist::new(1, ledger.genesis());
    let mut number = ledger.size();
    let solo = council(&ledger, Path::new(&dir));
    loop {
        let some = (number..number + 7).map(|n| (n, solo.submit(artist.song_registration(n))));
        for (n, submission) in some.collect::<Vec<_>>() {
            match submission.wait() {
                Answer::Accepted { index, .. } => println!("accepted {n} {index}"),
                other => panic!("{other:?}"),
            }
        }
        number += 7;
    }
}

fn spawn(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Numbers and indexes that the child said were accepted, up to a kill after `kill_after` of them and a bit.
fn run_child(dir: &Path, kill_after: u32, delay: Duration) -> Vec<(u64, u64)> {
    let mut child = spawn(dir);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (sender, receiver) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let words: Vec<&str> = line.split(' ').collect();
            // A kill may cut the last line short: what was not read whole was not acknowledged to anyone.
            if let ["accepted", number, index] = words[..]
                && let (Ok(number), Ok(index)) = (number.parse(), index.parse())
                && sender.send((number, index)).is_err()
            {
                break;
            }
        }
    });
    let mut acknowledged: Vec<(u64, u64)> = Vec::new();
    for _ in 0..kill_after {
        acknowledged.push(receiver.recv_timeout(Duration::from_secs(60)).unwrap());
    }
    // While it lives, the ledger is its own.
    match Ledger::open(dir, Options::without_rule(None)) {
        Err(OpenError::Locked { pid, .. }) => assert_eq!(pid, Some(child.id())),
        other => panic!("{other:?}"),
    }
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap();
    acknowledged.extend(receiver.try_iter());
    // The last line may lack its end: a shorter number would be another one.
    acknowledged.pop();
    acknowledged
}

#[test]
fn nothing_acknowledged_is_lost_by_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut all: Vec<(u64, u64)> = Vec::new();
    let mut random = u64::from(std::process::id());
    for round in 0..ROUNDS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let delay = Duration::from_micros((random >> 33) % 12_000);
        let kill_after = 1 + u32::try_from((random >> 20) % 60).unwrap();
        all.extend(run_child(dir.path(), kill_after, delay));
        let ledger = open(dir.path());
        for (number, index) in &all {
            let song =
                ledger.song(*index).unwrap().unwrap_or_else(|| panic!("round {round}: {index} is lost"));
            assert_eq!(song.title, format!("Song {number}"), "round {round}");
        }
        if round % 5 == 4 {
            ledger.verify(false, &mut |_| {}).unwrap();
        }
    }
    let ledger = open(dir.path());
    eprintln!("{} acknowledged over {ROUNDS} kills, {} in the ledger", all.len(), ledger.size());
    assert!(ledger.size() >= all.len() as u64);
    ledger.verify(true, &mut |_| {}).unwrap();
}
