//! What commands print and how they end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::{fs, process::Command};

use common::{Machine, have, real_music, tunes, wait_for};

#[test]
fn exit_codes() {
    let machine = Machine::new();
    for (args, code) in [
        (vec!["--version"], 0),
        (vec!["completions", "bash"], 0),
        (vec!["man"], 0),
        (vec![], 2),
        (vec!["nonsense"], 2),
        (vec!["ledger", "info"], 3),
        (vec!["status"], 3),
        (vec!["fingerprint", "/nowhere.ogg"], 3),
        (vec!["scan", "/nowhere"], 3),
        (vec!["status", "--config", "/nowhere.toml"], 2),
    ] {
        let output = machine.run(&args);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {errors}");
        assert!(!errors.contains("panicked"), "{errors}");
    }
    // Nothing was made by looking.
    assert!(!machine.data().join("ledger").exists());
}

#[test]
fn failures_are_json_when_asked() {
    let machine = Machine::new();
    let output = machine.run(&["ledger", "info", "--json"]);
    assert!(output.stdout.is_empty());
    let failure: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(failure["error"]["kind"], "not_found");
}

#[test]
fn settings_files_are_checked() {
    let machine = Machine::new();
    let path = machine.path("config.toml");
    fs::write(&path, "[library]\nfoldres = []\n").unwrap();
    let output = machine.run(&["status", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("foldres") && errors.contains("config.toml"), "{errors}");
}

#[test]
fn one_peer_for_a_data_directory() {
    let machine = Machine::new();
    let peer = machine.up(&[machine.music().to_str().unwrap()]);
    let second = machine.run(&["up", machine.music().to_str().unwrap()]);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("running"), "{second:?}");
    peer.kill();
    // A killed peer leaves nothing to clean up.
    let peer = machine.up(&[machine.music().to_str().unwrap()]);
    drop(peer);
}

#[test]
fn a_first_try_without_music() {
    let machine = Machine::new();
    let peer = machine.up(&[]);
    let status = common::wait_scanned(&machine, 3);
    assert_eq!(status["running"], true);
    assert_eq!(status["peer_id"], peer.ready["peer_id"]);
    let got = machine.json(&["get", "Response"]);
    assert!(got["path"].as_str().unwrap().ends_with("Antiphon - Response.wav"), "{got}");
    let shown = machine.json(&["ledger", "show", "Call"]);
    assert_eq!(shown["song"]["artist"], "Antiphon", "{shown}");
    let (status, rest) = peer.stop();
    assert!(status.success(), "{rest}");
    let offline = machine.json(&["status"]);
    assert_eq!((&offline["running"], &offline["ledger_size"]), (&false.into(), &3.into()));
}

#[test]
fn doctor_finds_nothing_wrong_with_a_fresh_machine() {
    let machine = Machine::new();
    let report = machine.json(&["doctor"]);
    assert_eq!(report["ok"], true, "{report}");
    let peer = machine.up(&[machine.music().to_str().unwrap()]);
    let report = machine.json(&["doctor"]);
    let names: Vec<_> =
        report["checks"].as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"running peer"), "{report}");
    drop(peer);
}

#[test]
fn fingerprints_are_those_of_fpcalc() {
    if !have("fpcalc") {
        return;
    }
    let machine = Machine::new();
    let Some(track) = real_music("amoebax-data").into_iter().next() else { return };
    let ours = machine.json(&["fingerprint", track.to_str().unwrap()]);
    let theirs = Command::new("fpcalc").arg("-json").arg(&track).output().unwrap();
    let theirs: serde_json::Value = serde_json::from_slice(&theirs.stdout).unwrap();
    assert_eq!(ours["fingerprint"], theirs["fingerprint"]);
    let keys: Vec<_> = ours.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["duration", "fingerprint"]);
    let difference = ours["duration"].as_f64().unwrap() - theirs["duration"].as_f64().unwrap();
    assert!(difference.abs() < 0.1, "{ours} {theirs}");
}

#[test]
fn an_idle_peer_is_small() {
    let machine = Machine::new();
    tunes(&machine.music(), 0..12, 25);
    machine.scan();
    let peer = machine.up(&[machine.music().to_str().unwrap()]);
    wait_for("the scan of the start", || {
        let status = machine.json(&["status"]);
        (status["library"]["scan"] == serde_json::json!([12, 12])).then_some(())
    });
    // What is new is indexed for searching first, which takes some memory for a moment.
    wait_for("the search index", || (machine.json(&["search", "tune"])["behind"] == 0).then_some(()));
    // The rest is pages of the program, which the system takes back when it wants to; a build for tests has many.
    wait_for("less than 12 MB of its own", || (peer.memory_kb("RssAnon") < 12_000).then_some(()));
}
