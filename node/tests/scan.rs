//! Scanning: twice, interrupted, and folders full of what is no music.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::{
    ffi::OsStr,
    fs::{self, File, FileTimes},
    os::unix::{ffi::OsStrExt, fs::symlink},
    process::{Command, Stdio},
};

use common::{Machine, have, real_music, tune, tunes, wait_for};

fn reasons(report: &serde_json::Value, list: &str) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let listed = report[list].as_array().unwrap().iter();
    let mut listed: Vec<_> = listed
        .map(|item| (text(&item["path"]).rsplit('/').next().unwrap().to_owned(), text(&item["reason"])))
        .collect();
    listed.sort();
    listed
}

#[test]
fn the_second_scan_reads_nothing() {
    let machine = Machine::new();
    tunes(&machine.music(), 0..6, 30);
    let first = machine.scan();
    assert_eq!((&first["files"], &first["songs_new"]), (&6.into(), &6.into()), "{first}");
    // Other bytes under the same size, time and inode: whoever reads the file notices.
    let path = machine.music().join("tune 3.wav");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let size = fs::metadata(&path).unwrap().len();
    let file = File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 10_000], size / 2).unwrap();
    file.set_times(FileTimes::new().set_modified(modified)).unwrap();
    drop(file);
    let second = machine.scan();
    assert_eq!((&second["unchanged"], &second["songs_new"]), (&6.into(), &0.into()), "{second}");
    // A change that shows is read.
    fs::write(machine.music().join("tune 4.wav"), b"").unwrap();
    fs::remove_file(machine.music().join("tune 5.wav")).unwrap();
    let third = machine.scan();
    assert_eq!((&third["unchanged"], &third["removed"]), (&4.into(), &1.into()), "{third}");
    assert_eq!(reasons(&third, "skipped"), [("tune 4.wav".into(), "the file is empty".into())]);
    let info = machine.json(&["ledger", "info"]);
    assert_eq!((&info["size"], &info["songs"]), (&6.into(), &6.into()));
    // Folders inside folders are one place, and what is forgotten is not served any more.
    fs::create_dir(machine.music().join("inner")).unwrap();
    fs::rename(machine.music().join("tune 0.wav"), machine.music().join("inner/tune 0.wav")).unwrap();
    let (inner, music) = (machine.music().join("inner"), machine.music());
    let nested = machine.json(&["scan", inner.to_str().unwrap(), music.to_str().unwrap()]);
    assert_eq!((&nested["files"], &nested["known_new"]), (&5.into(), &1.into()), "{nested}");
    let forgotten = machine.json(&["forget", music.to_str().unwrap()]);
    assert_eq!(forgotten["files"], 4, "{forgotten}");
    assert_eq!(machine.json(&["status"])["library"]["files"], 1);
    let verified = machine.json(&["ledger", "verify"]);
    assert_eq!((&verified["ok"], &verified["blocks"]), (&true.into(), &6.into()));
}

#[test]
fn odd_files_are_listed_and_stop_nothing() {
    let machine = Machine::new();
    let music = machine.music();
    tune(&music.join("good.wav"), 1, 30);
    let whole = fs::read(music.join("good.wav")).unwrap();
    let odd: [(&[u8], &[u8]); 7] = [
        (b"empty.mp3", b""),
        (b"text.mp3", b"this is a shopping list, not a song. this is a shopping list, not a song."),
        (b"one byte.flac", b"f"),
        (b"header only.wav", &whole[..44]),
        (b"cover.jpg", b"\xff\xd8\xff\xe0"),
        (b"magic only.flac", b"fLaC"),
        (b"zeros.ogg", &[0; 5_000]),
    ];
    for (name, bytes) in odd {
        fs::write(music.join(OsStr::from_bytes(name)), bytes).unwrap();
    }
    tune(&music.join(OsStr::from_bytes(b"\xff\xfe not utf-8.wav")), 2, 30);
    fs::create_dir_all(music.join("a/b")).unwrap();
    symlink(&music, music.join("a/b/loop")).unwrap();
    symlink(music.join("nothing"), music.join("dangling.ogg")).unwrap();
    let report = machine.scan();
    assert_eq!(report["songs_new"], 2, "{report}");
    let mut listed: Vec<String> =
        ["skipped", "failed"].iter().flat_map(|list| reasons(&report, list)).map(|(name, _)| name).collect();
    listed.sort();
    let mut expected: Vec<String> =
        odd.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
    expected.push("dangling.ogg".into());
    expected.sort();
    assert_eq!(listed, expected, "{report}");
    // They are listed again without being read again.
    let again = machine.scan();
    assert_eq!((&again["unchanged"], &again["songs_new"]), (&2.into(), &0.into()), "{again}");
    assert_eq!(reasons(&again, "skipped"), reasons(&report, "skipped"));
}

#[test]
fn a_killed_scan_goes_on_where_it_was() {
    let machine = Machine::new();
    tunes(&machine.music(), 0..60, 25);
    let segments = machine.data().join("ledger/segments");
    let written = || -> u64 {
        let Ok(files) = fs::read_dir(&segments) else { return 0 };
        files.filter_map(|f| f.ok()?.metadata().ok()).map(|m| m.len()).sum()
    };
    for round in 0..8 {
        let mut child = machine
            .command()
            .args(["scan", machine.music().to_str().unwrap(), "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // As soon as a song is in the ledger: the next height, with all the others, is a second away.
        let before = written();
        let ended = wait_for("progress", || {
            let ended = child.try_wait().unwrap();
            (ended.is_some() || written() > before).then_some(ended)
        });
        assert!(round > 0 || ended.is_none(), "the scan was never killed");
        if ended.is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    machine.scan();
    let last = machine.scan();
    assert_eq!((&last["unchanged"], &last["songs_new"]), (&60.into(), &0.into()), "{last}");
    let info = machine.json(&["ledger", "info"]);
    assert_eq!((&info["songs"], &info["variants"]), (&60.into(), &0.into()), "nothing twice, nothing lost");
    assert_eq!(machine.json(&["ledger", "verify"])["ok"], true);
}

#[test]
fn an_interrupted_scan_says_so() {
    let machine = Machine::new();
    tunes(&machine.music(), 0..60, 25);
    let child = machine
        .command()
        .args(["scan", machine.music().to_str().unwrap(), "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the catalogue", || machine.data().join("library.redb").exists().then_some(()));
    common::signal(child.id(), "INT");
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        return; // It was done before the signal came.
    }
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["interrupted"], true);
    let rest = machine.scan();
    assert_eq!(machine.json(&["ledger", "info"])["songs"], 60, "{rest}");
}

#[test]
fn other_encodings_are_variants_and_other_recordings_are_not() {
    if !have("ffmpeg") {
        return;
    }
    let machine = Machine::new();
    // Below 20 s of common sound the rule does not call two files the same recording.
    let long = |track: &std::path::PathBuf| fs::metadata(track).unwrap().len() > 400_000;
    let tracks: Vec<_> = ["asc-music", "amoebax-data"]
        .iter()
        .flat_map(|package| real_music(package).into_iter().filter(long).take(2))
        .collect();
    if tracks.is_empty() {
        return;
    }
    for (number, track) in tracks.iter().enumerate() {
        fs::copy(
            track,
            machine.music().join(format!("{number}.{}", track.extension().unwrap().to_str().unwrap())),
        )
        .unwrap();
    }
    let songs = machine.scan()["songs_new"].as_u64().unwrap();
    assert_eq!(songs, tracks.len() as u64);
    for (number, track) in tracks.iter().enumerate() {
        for (name, args) in
            [("low.mp3", "-b:a 64k"), ("x.flac", ""), ("y.m4a", "-b:a 128k"), ("z.opus", "-b:a 96k")]
        {
            let target = machine.music().join(format!("{number} {name}"));
            let made = Command::new("ffmpeg")
                .args(["-nostdin", "-v", "error", "-i"])
                .arg(track)
                .args(["-vn", "-map", "0:a:0"])
                .args(args.split_whitespace())
                .arg(target)
                .status()
                .unwrap();
            assert!(made.success());
        }
    }
    let report = machine.scan();
    assert_eq!((&report["songs_new"], &report["variants_new"]), (&0.into(), &(songs * 4).into()), "{report}");
    let shown = machine.json(&["ledger", "show", "#0"]);
    assert_eq!(shown["variants"].as_array().unwrap().len(), 4, "{shown}");
    let matched = machine.json(&["match", machine.music().join("1 low.mp3").to_str().unwrap()]);
    assert_eq!((&matched["matched"], &matched["same_file"]), (&true.into(), &true.into()), "{matched}");
    let info = machine.json(&["ledger", "info"]);
    assert!(info["mean_song_block_bytes"].as_u64().unwrap() <= 3_100, "{info}");
}
