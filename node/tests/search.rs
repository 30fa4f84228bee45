//! Finding songs by words: real processes, real files with tags.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use common::{Machine, have, real_music, tune, tunes, wait_for, wait_scanned};
use serde_json::Value;

/// A piece with tags, as FLAC.
fn tagged(folder: &Path, seed: u64, tags: &[(&str, &str)]) {
    let wav = folder.with_file_name(format!("{seed}.wav"));
    tune(&wav, seed, 30);
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-y", "-i"]).arg(&wav);
    for (name, value) in tags {
        command.arg("-metadata").arg(format!("{name}={value}"));
    }
    let made = command.arg(folder.join(format!("{seed}.flac"))).status().unwrap();
    assert!(made.success());
    fs::remove_file(wav).unwrap();
}

/// Four songs of three artists.
fn records(folder: &Path) {
    for (seed, title, artist, album, genre, track) in [
        (1, "Jóga", "Björk", "Homogenic", "Electronic", "2"),
        (2, "Hunter", "Björk", "Homogenic", "Electronic", "1"),
        (3, "Black", "Pearl Jam", "Ten", "Grunge", "5"),
        (4, "Back in Black", "AC/DC", "Back in Black", "Hard Rock", "6"),
    ] {
        let tags =
            [("title", title), ("artist", artist), ("album", album), ("genre", genre), ("track", track)];
        tagged(folder, seed, &tags);
    }
}

fn titles(found: &Value) -> Vec<&str> {
    found["songs"].as_array().unwrap().iter().map(|song| song["title"].as_str().unwrap()).collect()
}

fn search(machine: &Machine, words: &str) -> Output {
    machine.run(&["search", "--json", words])
}

/// The answer of a search that finds something.
fn found(machine: &Machine, words: &str) -> Value {
    machine.json(&["search", words])
}

fn check(machine: &Machine) {
    for (words, expected) in [
        ("bjork hunter", vec!["Hunter"]),
        ("BJÖRK joga", vec!["Jóga"]),
        ("acdc", vec!["Back in Black"]),
        ("blakc perl", vec!["Black"]),
        ("grun", vec!["Black"]),
        ("black", vec!["Black", "Back in Black"]),
    ] {
        let found = found(machine, words);
        assert_eq!(titles(&found), expected, "{words}: {found}");
        assert_eq!((&found["schema"], &found["behind"]), (&1.into(), &0.into()));
        assert_eq!(found["total"], expected.len() as u64);
    }
    let nothing = search(machine, "nowhere to be found");
    assert_eq!(nothing.status.code(), Some(3), "{nothing:?}");
    let nothing: Value = serde_json::from_slice(&nothing.stdout).unwrap();
    assert_eq!((&nothing["total"], nothing["songs"].as_array().unwrap().len()), (&0.into(), 0));
}

#[test]
fn words_find_songs_with_and_without_a_running_peer() {
    if !have("ffmpeg") {
        return;
    }
    let machine = Machine::new();
    let music = machine.music();
    records(&music);
    let peer = machine.up(&[music.to_str().unwrap()]);
    wait_scanned(&machine, 4);
    check(&machine);
    // A song that comes while the peer runs is found as soon as it is there.
    tagged(&music, 5, &[("title", "Latecomer"), ("artist", "Pearl Jam")]);
    wait_scanned(&machine, 5);
    assert_eq!(titles(&found(&machine, "latecomer")), ["Latecomer"]);
    let pages = machine.json(&["search", "--limit", "1", "--offset", "1", "black"]);
    assert_eq!(
        (titles(&pages), &pages["total"], &pages["offset"]),
        (vec!["Back in Black"], &2.into(), &1.into())
    );
    // For people.
    let shown = machine.run(&["search", "--limit", "1", "black"]);
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(text.starts_with("SONG  TITLE") && text.contains("Pearl Jam") && text.contains("0:30"), "{text}");
    assert!(String::from_utf8_lossy(&shown.stderr).contains("--offset 1"));
    let discovered = machine.json(&["discover"]);
    assert_eq!(discovered["schema"], 1);
    assert!(
        discovered["counts"]["tracks"].is_u64() && discovered["artists"]["items"].is_array(),
        "{discovered}"
    );
    let tracks = machine.json(&["discover", "--tracks", "--limit", "2"]);
    assert!(tracks["tracks"]["items"].is_array() && tracks.get("artists").is_none(), "{tracks}");
    // Words of other commands go the same way: a whole title before parts of others.
    assert_eq!(machine.json(&["ledger", "show", "black"])["song"]["artist"], "Pearl Jam");
    let (status, _) = peer.stop();
    assert!(status.success());
    check(&machine);
    assert_eq!(machine.json(&["ledger", "show", "bjork joga"])["song"]["title"], "Jóga");
    let several = machine.run(&["ledger", "show", "homogenic"]);
    assert_eq!(several.status.code(), Some(2), "{several:?}");
    let near = machine.run(&["ledger", "show", "huntre"]);
    assert_eq!(near.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&near.stderr).contains("Björk - Hunter"), "{near:?}");
    // Nobody is known to be online.
    for args in [&["discover"][..], &["search", "--online", "black"]] {
        let refused = machine.run(args);
        assert_eq!(refused.status.code(), Some(4), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("antiphon up"));
    }
}

#[test]
fn a_damaged_or_missing_index_is_made_anew() {
    let machine = Machine::new();
    tunes(&machine.music(), 0..6, 25);
    machine.scan();
    // Never made: the scan did not need it.
    assert!(!machine.data().join("search").exists());
    assert_eq!(
        machine.json(&["ledger", "show", "tune 3"])["index"],
        found(&machine, "tune 3")["songs"][0]["index"]
    );
    let kinds = ["json", "term", "idx", "fast", "store", "fieldnorm"];
    for kind in kinds {
        let mut files = fs::read_dir(machine.data().join("search")).unwrap().map(|file| file.unwrap().path());
        let file = files.find(|file| file.extension().is_some_and(|end| end == kind)).unwrap();
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        fs::write(&file, bytes).unwrap();
        assert_eq!(found(&machine, "tune")["total"], 6, "{}", file.display());
    }
    fs::remove_dir_all(machine.data().join("search")).unwrap();
    let peer = machine.up(&[machine.music().to_str().unwrap()]);
    assert_eq!(found(&machine, "tune")["total"], 6);
    drop(peer);
}

#[test]
fn kills_lose_nothing() {
    let machine = Machine::new();
    let music = machine.music();
    for round in 0..4u64 {
        tunes(&music, round * 3..round * 3 + 3, 20);
        let peer = machine.up(&[music.to_str().unwrap()]);
        if round < 3 {
            // At some moment while songs come in and are indexed.
            wait_for("a new song", || (machine.json(&["status"])["ledger_size"] != round * 3).then_some(()));
            if round % 2 == 1 {
                let _ = search(&machine, "tune");
            }
            peer.kill();
        } else {
            wait_scanned(&machine, 12);
            wait_for("the index", || (found(&machine, "tune")["behind"] == 0).then_some(()));
            assert_eq!(found(&machine, "tune")["total"], 12);
        }
    }
}

#[test]
fn real_music_is_found_by_its_titles() {
    let tracks: Vec<_> = ["wesnoth-1.16-music", "asc-music", "amoebax-data"]
        .iter()
        .flat_map(|package| real_music(package))
        .collect();
    if tracks.is_empty() {
        return;
    }
    let machine = Machine::new();
    for track in tracks.iter().take(14) {
        fs::copy(track, machine.music().join(track.file_name().unwrap())).unwrap();
    }
    let peer = machine.up(&[machine.music().to_str().unwrap()]);
    let size = wait_for("the scan", || {
        let status = machine.json(&["status"]);
        let scan = &status["library"]["scan"];
        (scan[0].is_u64() && scan[0] == scan[1] && status["library"]["pending"] == 0)
            .then(|| status["ledger_size"].as_u64().unwrap())
    });
    assert!(size > 0);
    for index in 0..size {
        let shown = machine.json(&["ledger", "show", &index.to_string()]);
        let Some(title) = shown["song"]["title"].as_str() else { continue };
        let answer = found(&machine, title);
        let songs = answer["songs"].as_array().unwrap();
        assert!(songs.iter().any(|song| song["index"] == index), "{title}: {answer}");
        assert_eq!(songs[0]["title"].as_str().unwrap().to_lowercase(), title.to_lowercase());
    }
    drop(peer);
}

#[test]
fn what_others_serve_is_discovered_and_got_by_album_and_artist() {
    if !have("ffmpeg") {
        return;
    }
    let (artist, listener) = (Machine::new(), Machine::new());
    records(&artist.music());
    let serving = artist.up(&[artist.music().to_str().unwrap()]);
    wait_scanned(&artist, 4);
    let _listening =
        listener.up(&["--peer-vps", &serving.address("quic"), listener.music().to_str().unwrap()]);
    let discovered = wait_for("the songs online", || {
        let discovered = listener.json(&["discover"]);
        (discovered["counts"]["tracks"] == 4).then_some(discovered)
    });
    let names: Vec<&str> = discovered["artists"]["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|artist| {
            assert_eq!(artist["sources"], 1, "{artist}");
            artist["name"].as_str().unwrap()
        })
        .collect();
    assert_eq!(names, ["AC/DC", "Björk", "Pearl Jam"]);
    assert_eq!(titles(&listener.json(&["search", "--online", "black"])), ["Black", "Back in Black"]);
    let album = listener.json(&["discover", "--artist", "bjork"]);
    assert!(album.to_string().contains("Homogenic"), "{album}");
    // An album, in the order of its tracks; then an artist, of whom one song is here already.
    let got = listener.json(&["get", "homogenic"]);
    let listed: Vec<&str> =
        got["songs"].as_array().unwrap().iter().map(|song| song["title"].as_str().unwrap()).collect();
    assert_eq!((listed, &got["failed"]), (vec!["Hunter", "Jóga"], &serde_json::json!([])));
    let again = listener.json(&["get", "artist:Björk"]);
    assert!(again["songs"].as_array().unwrap().iter().all(|song| song["resumed_bytes"] == song["bytes"]));
    // Two peers have them now, as the artist sees it.
    wait_for("the copies online", || (artist.json(&["discover"])["counts"]["tracks"] == 2).then_some(()));
    assert_eq!(titles(&artist.json(&["search", "--online", "bjork"])).len(), 2);
    // Who leaves takes its songs along.
    assert!(serving.stop().0.success());
    wait_for("nobody to be online", || (listener.json(&["discover"])["counts"]["tracks"] == 0).then_some(()));
    assert_eq!(listener.run(&["search", "--online", "black"]).status.code(), Some(3));
    assert_eq!(titles(&listener.json(&["search", "black"])).len(), 2);
}
