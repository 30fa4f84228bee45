//! From a folder on one machine to a file on another: real processes, real sockets on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use common::{Machine, hash, real_music, tune, tunes, wait_for, wait_scanned};

/// A handful of real tracks when they are installed, else tunes.
fn some_music(folder: &Path) -> Vec<PathBuf> {
    let mut tracks: Vec<PathBuf> =
        ["asc-music", "amoebax-data"].iter().flat_map(|p| real_music(p).into_iter().take(3)).collect();
    if tracks.is_empty() {
        tunes(folder, 0..5, 40);
        tracks = (0..5).map(|seed| folder.join(format!("tune {seed}.wav"))).collect();
        return tracks;
    }
    tracks
        .into_iter()
        .map(|track| {
            let copy = folder.join(track.file_name().unwrap());
            fs::copy(&track, &copy).unwrap();
            copy
        })
        .collect()
}

#[test]
fn scan_follow_get_compare() {
    let (artist, listener) = (Machine::new(), Machine::new());
    let tracks = some_music(&artist.music());
    let first = artist.up(&[artist.music().to_str().unwrap()]);
    let size = tracks.len() as u64;
    wait_scanned(&artist, size);
    for transport in ["quic", "tcp"] {
        let listener = Machine::new();
        let second =
            listener.up(&["--peer-vps", &first.address(transport), listener.music().to_str().unwrap()]);
        assert_eq!(second.ready["network"], first.ready["network"]);
        wait_for("the ledger to be followed", || {
            (listener.json(&["status"])["ledger_size"] == size).then_some(())
        });
        let (ours, theirs) = (listener.json(&["ledger", "info"]), artist.json(&["ledger", "info"]));
        assert_eq!((&ours["root"], &ours["head"]), (&theirs["root"], &theirs["head"]));
        for (index, _) in tracks.iter().enumerate() {
            let got = listener.json(&["get", &format!("#{index}")]);
            let path = PathBuf::from(got["path"].as_str().unwrap());
            let content = hash(&path);
            assert_eq!(got["content"], content.as_str());
            let source =
                tracks.iter().find(|track| hash(track) == content).expect("one of the artist's files");
            assert_eq!(path.extension(), source.extension());
            assert_eq!(fs::metadata(&path).unwrap().len(), got["bytes"].as_u64().unwrap());
        }
        let left: Vec<_> = fs::read_dir(listener.out()).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert_eq!(left.len(), tracks.len(), "nothing unfinished is left: {left:?}");
        // What was got is known and served on.
        assert_eq!(listener.json(&["status"])["library"]["songs"], size);
        let (status, rest) = second.stop();
        assert!(status.success() && rest.is_empty(), "{status} {rest}");
        assert_eq!(listener.json(&["ledger", "verify"])["blocks"], size);
    }
    // Without a running peer: one command joins, follows and gets.
    let got = listener.json(&["get", "#0", "--peer-vps", &first.address("quic")]);
    assert_eq!(got["content"], hash(Path::new(got["path"].as_str().unwrap())).as_str());
    let health = first.http("/healthz");
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    let metrics = first.http("/metrics");
    assert!(metrics.contains(&format!("antiphon_ledger_blocks {size}")), "{metrics}");
    assert_eq!(metrics.matches("# EOF").count(), 1);
    assert!(first.memory_kb("VmHWM") < 150_000, "scanning took {} kB", first.memory_kb("VmHWM"));
}

#[test]
fn a_follower_registers_through_its_peer_and_serves() {
    let (first_machine, second_machine) = (Machine::new(), Machine::new());
    tunes(&first_machine.music(), 0..2, 30);
    tunes(&second_machine.music(), 1..4, 30);
    let first = first_machine.up(&[first_machine.music().to_str().unwrap()]);
    wait_scanned(&first_machine, 2);
    let second =
        second_machine.up(&["--peer-vps", &first.address("quic"), second_machine.music().to_str().unwrap()]);
    // Tune 1 is known by then; 2 and 3 are new.
    wait_scanned(&second_machine, 3);
    wait_for("the registrations", || (first_machine.json(&["ledger", "info"])["songs"] == 4).then_some(()));
    let got = first_machine.json(&["get", "tune 3"]);
    assert_eq!(
        hash(Path::new(got["path"].as_str().unwrap())),
        hash(&second_machine.music().join("tune 3.wav"))
    );
    assert_eq!(got["peer"], second.ready["peer_id"]);
    // A third peer follows the second one and registers through both.
    let third_machine = Machine::new();
    tune(&third_machine.music().join("tune 9.wav"), 9, 30);
    let third =
        third_machine.up(&["--peer-vps", &second.address("tcp"), third_machine.music().to_str().unwrap()]);
    assert_eq!(third.ready["network"], first.ready["network"]);
    wait_for("the third peer's song", || {
        (first_machine.json(&["ledger", "info"])["songs"] == 5).then_some(())
    });
}

#[test]
fn registrations_wait_for_the_network_and_a_restart() {
    let (first_machine, second_machine) = (Machine::new(), Machine::new());
    tunes(&first_machine.music(), 0..1, 30);
    let music = second_machine.music();
    let listen = {
        let first = first_machine.up(&[first_machine.music().to_str().unwrap()]);
        wait_scanned(&first_machine, 1);
        let second = second_machine.up(&["--peer-vps", &first.address("quic"), music.to_str().unwrap()]);
        wait_for("the ledger", || (second_machine.json(&["status"])["ledger_size"] == 1).then_some(()));
        let listen = first.address("tcp");
        first.kill();
        second.kill();
        listen
    };
    tunes(&music, 5..7, 30);
    let second = second_machine.up(&[music.to_str().unwrap()]);
    wait_for("two registrations to wait", || {
        (second_machine.json(&["status"])["library"]["pending"] == 2).then_some(())
    });
    second.kill();
    // The first peer comes back on the same port.
    let port = listen.split('/').nth(4).unwrap();
    let listen = format!("/ip4/127.0.0.1/tcp/{port}");
    let first = first_machine.up(&["--listen", &listen, first_machine.music().to_str().unwrap()]);
    let second =
        second_machine.up(&["--peer-vps", &first.address(&format!("tcp/{port}")), music.to_str().unwrap()]);
    wait_scanned(&second_machine, 2);
    let status = second_machine.json(&["status"]);
    assert_eq!(status["library"]["pending"], 0);
    assert_eq!(first_machine.json(&["ledger", "info"])["songs"], 3);
    drop(second);
}

#[test]
fn a_killed_get_goes_on() {
    let (artist, listener) = (Machine::new(), Machine::new());
    // Big enough to be killed in the middle: half an hour.
    tune(&artist.music().join("long.wav"), 7, 1_800);
    let first = artist.up(&[artist.music().to_str().unwrap()]);
    wait_scanned(&artist, 1);
    let address = first.address("quic");
    let second = listener.up(&["--peer-vps", &address, listener.music().to_str().unwrap()]);
    wait_for("the ledger", || (listener.json(&["status"])["ledger_size"] == 1).then_some(()));
    second.kill();
    let part = || -> u64 {
        let files = fs::read_dir(listener.out()).unwrap().filter_map(Result::ok);
        files.filter(|f| f.file_name().to_string_lossy().ends_with(".part")).map(|f| blocks(&f.path())).sum()
    };
    let mut killed = false;
    for _ in 0..20 {
        let mut child = listener
            .command()
            .args(["get", "#0", "--json", "--peer-vps", &address])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let ended = wait_for("some bytes", || {
            let ended = child.try_wait().unwrap();
            (ended.is_some() || part() > 1_000_000).then_some(ended)
        });
        if ended.is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
            killed = true;
            break;
        }
        for file in fs::read_dir(listener.out()).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        // It is in the library now; forget it, so that the next try asks the peer.
        fs::remove_file(listener.data().join("library.redb")).unwrap();
    }
    assert!(killed, "no get was ever killed before its end");
    let got = listener.json(&["get", "#0", "--peer-vps", &address]);
    assert_eq!(hash(Path::new(got["path"].as_str().unwrap())), hash(&artist.music().join("long.wav")));
    if got["peer"] != "" {
        assert!(got["resumed_bytes"].as_u64().unwrap() > 0, "{got}");
    }
}

/// Bytes that a file takes on disk, holes left out.
fn blocks(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).map_or(0, |meta| meta.blocks() * 512)
}

#[test]
fn changes_in_the_folder_are_noticed() {
    let machine = Machine::new();
    let music = machine.music();
    tunes(&music, 0..1, 30);
    let peer = machine.up(&[music.to_str().unwrap()]);
    wait_scanned(&machine, 1);
    // A new folder with a new file, copied under another name first.
    fs::create_dir(music.join("album")).unwrap();
    tune(&music.join(".unfinished"), 1, 30);
    fs::rename(music.join(".unfinished"), music.join("album/new.wav")).unwrap();
    wait_scanned(&machine, 2);
    fs::remove_dir_all(music.join("album")).unwrap();
    wait_scanned(&machine, 1);
    tune(&music.join("tune 0.wav"), 2, 30);
    wait_for("the changed file", || (machine.json(&["ledger", "info"])["songs"] == 3).then_some(()));
    let (status, _) = peer.stop();
    assert!(status.success());
}

#[test]
fn networks_are_not_mixed() {
    let (first_machine, second_machine) = (Machine::new(), Machine::new());
    let first = first_machine.up(&[first_machine.music().to_str().unwrap()]);
    let second = second_machine.up(&[second_machine.music().to_str().unwrap()]);
    assert_ne!(first.ready["network"], second.ready["network"]);
    let id = first.ready["network"].as_str().unwrap().to_owned();
    second.stop();
    // Naming a peer of another network is told at once, to who orders a network of its own too.
    let refused = second_machine.run(&["up", "--http", "127.0.0.1:0", "--peer-vps", &first.address("quic")]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another --data-dir"));
    let refused = second_machine.run(&["scan", "--network", &id, second_machine.music().to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another --data-dir"));
    let third_machine = Machine::new();
    let other = "ab".repeat(32);
    let refused = third_machine.run(&["get", "x", "--network", &other, "--peer-vps", &first.address("quic")]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains(&id),
        "{}",
        String::from_utf8_lossy(&refused.stderr)
    );
}
