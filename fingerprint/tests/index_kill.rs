//! A process that fills the index is killed without warning, again and again; what it had flushed must be there.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of a test fail by panicking")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use antiphon_fingerprint::index::Index;
use antiphon_fingerprint::matching::mix;

const FOLDER: &str = "ANTIPHON_INDEX_KILL_FILE";
const KILLS: u32 = 8;
const DURATION: u32 = 150_000;

fn song(key: u64) -> Vec<u32> {
    let start = u32::try_from(key).unwrap() * 100;
    (start..start + 100).map(mix).collect()
}

/// Not a test of its own: the process that is killed. It says each watermark that it knows to be durable.
#[test]
#[ignore = "started by the test below"]
fn the_process_that_is_killed() {
    let Some(path) = std::env::var_os(FOLDER) else { return };
    let mut index = Index::open(Path::new(&path)).unwrap();
    println!("durable {}", index.next_key());
    for key in index.next_key()..1 << 20 {
        index.insert(key, &song(key), DURATION).unwrap();
        if key % 40 == 39 {
            index.flush().unwrap();
            println!("durable {}", index.durable_key());
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.redb");
    let mut before = 0;
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_process_that_is_killed", "--ignored", "--nocapture"])
            .env(FOLDER, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let marks =
            lines.filter_map(|line| Some(line.ok()?.split_once("durable ")?.1.trim().parse::<u64>().ok()));
        // It is in the middle of inserting, or of the next flush, when it is killed.
        let said =
            marks.flatten().nth(usize::try_from(kill).unwrap() * 3 + 1).expect("the process says its marks");
        child.kill().unwrap();
        child.wait().unwrap();

        let index = Index::open(&path).unwrap();
        let durable = index.next_key();
        assert!(durable >= said && said >= before, "{durable} is durable, {said} was said, {before} before");
        assert_eq!(index.stats().unwrap().songs, durable);
        for key in [0, durable / 2, durable - 1] {
            assert_eq!(index.candidates(&song(key), DURATION).unwrap(), [key]);
        }
        before = durable;
    }
}
