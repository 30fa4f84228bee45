//! A peer as apps see it: two clients of OpenSubsonic that are not ours, real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use std::{fs, process::Command};

use common::{Machine, python, real_music, tunes, wait_scanned};

#[test]
fn apps_find_and_play_what_is_here() {
    let Some(python) = python("py-sonic==1.2.0 py-opensonic==10.4.1", "libsonic") else { return };
    let machine = Machine::new();
    let music = machine.music();
    for track in real_music("wesnoth-1.16-music").into_iter().take(4) {
        fs::copy(&track, music.join(track.file_name().unwrap())).unwrap();
    }
    tunes(&music, 0..1, 20);
    let songs = fs::read_dir(&music).unwrap().count() as u64;
    let peer = machine.up(&[music.to_str().unwrap()]);
    wait_scanned(&machine, songs);
    let app = machine.json(&["web", "add-app", "phone"]);
    let base = peer.ready["http"].as_str().unwrap().trim_end_matches('/');
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/subsonic.py");
    let (user, password) = (app["user"].as_str().unwrap(), app["password"].as_str().unwrap());
    let done = Command::new(python).args([script, base, user, password]).arg(&music).output().unwrap();
    let (out, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && out.trim() == "ok", "{out}\n{errors}");
}
