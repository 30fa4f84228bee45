//! A peer as apps see it: three clients of OpenSubsonic that are not ours, real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::{Machine, missing, python, real_music, tune, tunes, wait_scanned, wait_shelved};

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
    wait_shelved(&peer, songs);
    let app = machine.json(&["web", "add-app", "phone"]);
    let base = peer.ready["http"].as_str().unwrap().trim_end_matches('/');
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/subsonic.py");
    let (user, password) = (app["user"].as_str().unwrap(), app["password"].as_str().unwrap());
    let done = Command::new(python).args([script, base, user, password]).arg(&music).output().unwrap();
    let (out, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && out.trim() == "ok", "{out}\n{errors}");
}

/// Oldest Node.js that the package runs on in our tests.
const NODE: (u32, u32) = (20, 19);

/// The folder with the client and its package, which npm gets on the first run.
fn client_in_javascript() -> Option<PathBuf> {
    let version = Command::new("node").arg("--version").output().ok().and_then(|output| {
        let text = String::from_utf8(output.stdout).ok()?;
        let mut numbers = text.trim().strip_prefix('v')?.split('.').map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    if !missing(
        &format!("Node.js {}.{} or newer", NODE.0, NODE.1),
        version.is_some_and(|version| version >= NODE),
    ) {
        return None;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("subsonic-js");
    fs::create_dir_all(&folder).unwrap();
    // Another run of this test on the same target directory waits here.
    let lock = fs::File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let mark = folder.join("installed");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/subsonic");
    let wanted = fs::read_to_string(sources.join("package-lock.json")).unwrap();
    for name in [".npmrc", "package.json", "package-lock.json", "client.mjs"] {
        fs::copy(sources.join(name), folder.join(name)).unwrap();
    }
    if fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
        return Some(folder);
    }
    let installed = Command::new("npm").args(["ci", "--loglevel=error"]).current_dir(&folder).status();
    let installed = installed.is_ok_and(|status| status.success());
    if installed {
        fs::write(mark, wanted).unwrap();
    }
    missing("npm, or a package from its registry", installed).then_some(folder)
}

#[test]
fn an_app_in_javascript() {
    let Some(client) = client_in_javascript() else { return };
    let machine = Machine::new();
    let music = machine.music();
    for track in real_music("wesnoth-1.16-music").into_iter().take(2) {
        fs::copy(&track, music.join(track.file_name().unwrap())).unwrap();
    }
    tunes(&music, 0..2, 12);
    tune(&music.join("words.wav"), 7, 12);
    let songs = fs::read_dir(&music).unwrap().count() as u64;
    fs::write(music.join("words.lrc"), "[00:01.00]first\n[00:02.50]second & last\n").unwrap();
    let peer = machine.up(&[music.to_str().unwrap()]);
    wait_scanned(&machine, songs);
    wait_shelved(&peer, songs);
    let app = machine.json(&["web", "add-app", "browser"]);
    let (user, password) = (app["user"].as_str().unwrap(), app["password"].as_str().unwrap());
    let base = peer.ready["http"].as_str().unwrap();
    let mut command = Command::new("node");
    command.arg(client.join("client.mjs")).args([base, user, password]).arg(&music);
    let done = command.output().unwrap();
    let (out, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && out.trim() == "ok", "{out}\n{errors}");
}
