//! Mini-nodes that copy a ledger: real processes on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;
#[path = "../../ledger/tests/common/mod.rs"]
mod testing;

use std::path::Path;

use antiphon_fingerprint::Fingerprint;
use antiphon_ledger::{Ledger, Options};
use antiphon_proto::wire::Registration;
use common::{Machine, signal, wait_for};
use testing::{Artist, extend, logs, member};

/// Enough that a copy takes a while, and that catching up is worth it.
const SONGS: u64 = 2_600;
/// Songs of a batch.
const EACH: u64 = 40;
/// Items of a fingerprint: short, to save time.
const ITEMS: u64 = 200;

/// A ledger of songs that are all different recordings, under a cosigned checkpoint.
fn grown(dir: &Path) {
    let ledger = Ledger::open(dir, Options::without_rule(Some(logs::network()))).unwrap();
    let artist = Artist::new(1, ledger.genesis());
    let registration = |number: u64| {
        let mut song = artist.bare_song(number, 1);
        let mut hash = blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof();
        let items = (0..ITEMS).map(|_| {
            let mut item = [0; 4];
            hash.fill(&mut item);
            u32::from_le_bytes(item)
        });
        song.fingerprint = Fingerprint::from_items(items.collect()).unwrap().compress();
        Registration::of_song(artist.prove_song(song))
    };
    while ledger.size() < SONGS {
        let end = SONGS.min(ledger.size() + EACH);
        let songs: Vec<_> = (ledger.size()..end).map(registration).collect();
        extend(&ledger, &songs).unwrap();
    }
    let note = logs::cosigned(&ledger, SONGS, &[member()]);
    ledger.put_checkpoint(&note, &[member().public()]).unwrap();
}

fn blocks(machine: &Machine) -> u64 {
    machine.json(&["status"])["ledger_size"].as_u64().unwrap()
}

fn peers(machine: &Machine) -> usize {
    machine.json(&["status"])["peers"].as_array().unwrap().len()
}

#[test]
fn a_copy_is_completed_by_others_when_the_first_upstream_is_killed() {
    let [origin, second, third, new] = [(); 4].map(|()| Machine::new());
    std::fs::create_dir_all(origin.data()).unwrap();
    grown(&origin.data().join("ledger"));
    let first = origin.mini_node(&[]);
    let address = first.address("quic");
    // Two that have it all, each by itself.
    let _second = second.mini_node(&["--peer-vps", &address]);
    let _third = third.mini_node(&["--peer-vps", &address]);
    for machine in [&second, &third] {
        wait_for("a full copy", || (blocks(machine) == SONGS).then_some(()));
    }
    // A fourth that knows the address of the first one alone, and hears of the others from it.
    let running = new.mini_node(&["--peer-vps", &address]);
    wait_for("the others", || (peers(&new) >= 2).then_some(()));
    // It stops the clock where it is, so that the first one is gone in the middle of the copy if there still is one.
    eprintln!("{} blocks when the first one is killed", blocks(&new));
    let gone = origin.json(&["status"])["peer_id"].clone();
    signal(running.pid(), "STOP");
    first.kill();
    signal(running.pid(), "CONT");
    wait_for("a full copy without the first one", || (blocks(&new) == SONGS).then_some(()));
    for machine in [&second, &third, &new] {
        let upstream = || machine.json(&["status"])["upstream"].clone();
        wait_for("another upstream", || Some(upstream()).filter(|now| now.is_string() && *now != gone));
    }
    let roots: Vec<_> =
        [&second, &third, &new].map(|machine| machine.json(&["ledger", "info"])["root"].clone()).into();
    assert!(roots.windows(2).all(|two| two[0] == two[1]), "{roots:?}");
}
