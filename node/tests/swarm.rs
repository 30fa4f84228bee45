//! Who is online and what they serve: real processes, real sockets on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::{fs, time::Instant};

use common::{Machine, Peer, hash, tune, tunes, wait_for, wait_scanned};

/// Peers and songs that a running peer sees online.
fn online(machine: &Machine) -> (u64, u64) {
    let status = machine.json(&["status"]);
    (status["online_peers"].as_u64().unwrap(), status["online_songs"].as_u64().unwrap())
}

/// Waits until every machine sees so many peers online, and its number of songs.
fn wait_online(what: &str, machines: &[(&Machine, u64, u64)]) {
    let start = Instant::now();
    for (number, (machine, peers, songs)) in machines.iter().enumerate() {
        let mut last = (0, 0);
        wait_for(&format!("{what}: {peers} peers and {songs} songs at {number}, now {last:?}"), || {
            last = online(machine);
            (last == (*peers, *songs)).then_some(())
        });
    }
    eprintln!("{what}: everybody knows after {:?}", start.elapsed());
}

/// A machine whose library holds these tunes, running.
fn start(first: Option<&Peer>, seeds: std::ops::Range<u64>) -> (Machine, Peer) {
    let machine = Machine::new();
    tunes(&machine.music(), seeds, 25);
    let music = machine.music();
    let peer = match first {
        None => machine.up(&[music.to_str().unwrap()]),
        Some(first) => machine.up(&["--peer-vps", &first.address("quic"), music.to_str().unwrap()]),
    };
    (machine, peer)
}

#[test]
fn ten_peers_see_one_another_and_who_leaves() {
    let (first_machine, first) = start(None, 0..4);
    wait_scanned(&first_machine, 4);
    let mut peers = vec![(first_machine, first)];
    // Each shares two tunes with the one before.
    for number in 1..10u64 {
        let (machine, peer) = start(Some(&peers[0].1), number * 2..number * 2 + 4);
        wait_scanned(&machine, 4);
        peers.push((machine, peer));
    }
    // All but the own two tunes that nobody else has: 22 in all; the first and the last peer have two alone.
    let songs = |number: usize| if number == 0 || number == 9 { 20 } else { 22 };
    let all: Vec<_> = peers.iter().enumerate().map(|(n, (m, _))| (m, 9, songs(n))).collect();
    wait_online("ten joined", &all);
    // Each is connected with each other once.
    for (machine, _) in &peers {
        let status = machine.json(&["status"]);
        assert_eq!(status["peers"].as_array().unwrap().len(), 9, "{status}");
    }
    // The last one leaves in order, then another is killed.
    let (_, last) = peers.pop().unwrap();
    assert!(last.stop().0.success());
    let songs = |number: usize| if number == 0 || number == 8 { 18 } else { 20 };
    let all: Vec<_> = peers.iter().enumerate().map(|(n, (m, _))| (m, 8, songs(n))).collect();
    wait_online("one left", &all);
    let (_, killed) = peers.pop().unwrap();
    killed.kill();
    let songs = |number: usize| if number == 0 || number == 7 { 16 } else { 18 };
    let all: Vec<_> = peers.iter().enumerate().map(|(n, (m, _))| (m, 7, songs(n))).collect();
    wait_online("one was killed", &all);
    for (_, peer) in &peers {
        assert!(peer.metric("antiphon_p2p_announcements_total{kind=\"accepted\"}") > 0);
        assert_eq!(peer.metric("antiphon_p2p_announcements_total{kind=\"wrong_numbers\"}"), 0);
        assert_eq!(peer.metric("antiphon_p2p_bans_total"), 0);
    }
}

#[test]
fn a_restart_with_an_unchanged_library_costs_96_bytes_each_way() {
    let (one_machine, one) = start(None, 0..3);
    wait_scanned(&one_machine, 3);
    let (two_machine, two) = start(Some(&one), 2..8);
    wait_scanned(&two_machine, 6);
    wait_online("two joined", &[(&one_machine, 1, 6), (&two_machine, 1, 3)]);
    let music = two_machine.music();
    let mut two = Some(two);
    for killed in [false, true] {
        let running = two.take().unwrap();
        if killed {
            running.kill()
        } else {
            assert!(running.stop().0.success())
        }
        wait_online("gone", &[(&one_machine, 0, 0)]);
        // The neighbour of the one that restarts counts what it must say and hear about libraries.
        let bytes = |kind: &str| one.metric(&format!("antiphon_p2p_library_bytes_total{{kind=\"{kind}\"}}"));
        let (learned, heard, said) = (bytes("sync_received"), bytes("hello_received"), bytes("hello_sent"));
        two = Some(two_machine.up(&["--peer-vps", &one.address("quic"), music.to_str().unwrap()]));
        wait_online("restarted", &[(&one_machine, 1, 6), (&two_machine, 1, 3)]);
        assert_eq!(bytes("sync_received"), learned, "its library is known by its digest");
        assert_eq!((bytes("hello_received") - heard, bytes("hello_sent") - said), (96, 96));
    }
}

#[test]
fn what_changes_on_the_disk_is_withdrawn_and_comes_back() {
    let (one_machine, one) = start(None, 0..3);
    wait_scanned(&one_machine, 3);
    let (two_machine, _two) = start(Some(&one), 10..12);
    wait_scanned(&two_machine, 2);
    wait_online("joined", &[(&one_machine, 1, 2), (&two_machine, 1, 3)]);
    let path = one_machine.music().join("tune 1.wav");
    let kept = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    wait_online("a file is gone", &[(&two_machine, 1, 2)]);
    fs::write(&path, &kept).unwrap();
    wait_online("it is back", &[(&two_machine, 1, 3)]);
    // A change of one byte is another file; too little of it is left to be music.
    fs::write(&path, &kept[..2_000]).unwrap();
    wait_online("another file", &[(&two_machine, 1, 2)]);
}

#[test]
fn a_song_from_many_peers_is_got_and_played() {
    let machine = Machine::new();
    tune(&machine.music().join("long.wav"), 77, 300);
    let content = hash(&machine.music().join("long.wav"));
    let artist = machine.up(&[machine.music().to_str().unwrap()]);
    wait_scanned(&machine, 1);
    let mut keepers = Vec::new();
    for number in 0..3 {
        let keeper = Machine::new();
        let running = keeper.up(&["--peer-vps", &artist.address("quic"), keeper.music().to_str().unwrap()]);
        wait_for("the song is online", || (online(&keeper).1 == 1).then_some(()));
        let got = keeper.json(&["get", "#0"]);
        assert_eq!((&got["content"], &got["resumed_bytes"]), (&content.as_str().into(), &0.into()));
        let sum: u64 = got["sources"].as_array().unwrap().iter().map(|s| s["bytes"].as_u64().unwrap()).sum();
        assert_eq!(sum, got["bytes"].as_u64().unwrap());
        // What was got is served on.
        wait_for("the artist sees it", || (online(&machine).0 == number + 1).then_some(()));
        keepers.push((keeper, running));
    }
    let listener = Machine::new();
    let running = listener.up(&["--peer-vps", &artist.address("tcp"), listener.music().to_str().unwrap()]);
    wait_for("everybody is online", || (online(&listener) == (4, 1)).then_some(()));
    // The artist goes offline: those who keep the song serve it.
    artist.kill();
    let output = listener.command().args(["play", "#0", "--stdout", "--json"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    assert_eq!(blake3::hash(&output.stdout).to_hex().as_str(), content);
    let report: serde_json::Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert!(!report["sources"].as_array().unwrap().is_empty(), "{told}");
    let events = told.lines().filter(|line| line.contains("\"progress\"")).count();
    assert!(events > 0, "{told}");
    // Played once, it is here, and served on.
    let again = listener.command().args(["play", "#0", "--stdout", "--json"]).output().unwrap();
    assert_eq!(blake3::hash(&again.stdout).to_hex().as_str(), content);
    wait_for("it is served on", || (listener.json(&["status"])["library"]["songs"] == 1).then_some(()));
    // Without a running peer.
    let visitor = Machine::new();
    let output = visitor
        .command()
        .args(["play", "#0", "--stdout", "--peer-vps", &running.address("quic")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(blake3::hash(&output.stdout).to_hex().as_str(), content);
    let nothing = visitor.run(&["play", "#7", "--stdout"]);
    assert_eq!(nothing.status.code(), Some(3));
}
