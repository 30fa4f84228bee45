//! Councils of real processes on loopback: killed, restarted, cut down below a quorum, without their logs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::{fs, path::PathBuf};

use common::{Machine, Peer, tune, wait_for};
use serde_json::Value;

/// Members, each on a machine of its own, and the genesis document that they share.
struct Town {
    machines: Vec<Machine>,
    keys: Vec<String>,
    genesis: PathBuf,
    running: Vec<Option<Peer>>,
    /// Tunes made so far: each is another recording.
    tunes: u64,
}

impl Town {
    fn new(members: usize, others: usize) -> Self {
        let machines: Vec<Machine> = (0..members + others).map(|_| Machine::new()).collect();
        let keys: Vec<String> = machines
            .iter()
            .map(|machine| {
                let file = machine.path("council.key");
                let shown = machine.json(&["council", "key", file.to_str().unwrap()]);
                shown["key"].as_str().unwrap().to_owned()
            })
            .collect();
        let genesis = machines[0].path("net.toml");
        let mut args = vec!["network", "new", "--stamp-bits", "4", "--name", "town"];
        args.extend(["--out", genesis.to_str().unwrap()]);
        for key in &keys[..members] {
            args.extend(["--member", key]);
        }
        machines[0].json(&args);
        let running = machines.iter().map(|_| None).collect();
        Self { machines, keys, genesis, running, tunes: 0 }
    }

    /// Starts a member, which joins through whoever is running.
    fn start(&mut self, number: usize, more: &[&str]) {
        let addresses: Vec<String> = self.running.iter().flatten().map(|peer| peer.address("quic")).collect();
        let machine = &self.machines[number];
        let (genesis, key, music) = (self.genesis.clone(), machine.path("council.key"), machine.music());
        let mut args = vec![music.to_str().unwrap(), "--genesis", genesis.to_str().unwrap()];
        args.extend(["--council-key", key.to_str().unwrap()]);
        for address in &addresses {
            args.extend(["--peer-vps", address]);
        }
        args.extend(more);
        self.running[number] = Some(machine.up(&args));
    }

    fn start_all(&mut self, members: usize) {
        for number in 0..members {
            self.start(number, &[]);
        }
        for number in 0..members {
            self.wait_council(number, "everyone votes", |status| {
                status["votes"] == true && status["missing"].as_array().unwrap().is_empty()
            });
        }
    }

    fn kill(&mut self, number: usize) {
        self.running[number].take().unwrap().kill();
    }

    fn council(&self, number: usize) -> Value {
        self.machines[number].json(&["council", "status"])
    }

    fn wait_council(&self, number: usize, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("member {number}: {what}"), || {
            Some(self.council(number)).filter(|status| holds(status))
        })
    }

    fn size(&self, number: usize) -> u64 {
        self.machines[number].json(&["ledger", "info"])["size"].as_u64().unwrap()
    }

    /// Puts a new tune into a machine's music folder and scans it.
    fn new_tune(&mut self, number: usize) -> Value {
        self.tunes += 1;
        let music = self.machines[number].music();
        tune(&music.join(format!("tune {}.wav", self.tunes)), self.tunes, 24);
        self.machines[number].json(&["scan", music.to_str().unwrap()])
    }

    /// Everybody who runs has so many blocks, and the same ones.
    fn wait_size(&self, size: u64) {
        let mut roots = Vec::new();
        for (number, _) in self.running.iter().enumerate().filter(|(_, peer)| peer.is_some()) {
            let info = wait_for(&format!("{size} blocks at {number}"), || {
                let info = self.machines[number].json(&["ledger", "info"]);
                (info["size"] == size).then_some(info)
            });
            roots.push(info["root"].clone());
        }
        assert!(roots.windows(2).all(|pair| pair[0] == pair[1]), "{roots:?}");
    }
}

#[test]
fn members_are_killed_and_come_back() {
    let mut town = Town::new(4, 0);
    town.start_all(4);
    town.new_tune(1);
    town.wait_size(1);
    // One is killed: the rest go on.
    town.kill(3);
    for number in [0, 1, 2] {
        town.new_tune(number);
    }
    town.wait_size(4);
    let status =
        town.wait_council(0, "one is missing", |status| status["missing"].as_array().unwrap().len() == 1);
    assert_eq!(status["missing"][0], town.keys[3].as_str());
    assert_eq!(status["quorum_is_there"], true);
    // It comes back, catches up and votes.
    town.start(3, &[]);
    town.wait_size(4);
    town.wait_council(3, "it votes", |status| status["votes"] == true);
    // Two are killed: nothing moves, and everyone can say why.
    town.kill(0);
    town.kill(1);
    for number in [2, 3] {
        town.wait_council(number, "no quorum", |status| status["quorum_is_there"] == false);
    }
    let status = town.council(2);
    let mut missing: Vec<&str> =
        status["missing"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
    missing.sort_unstable();
    let mut gone = [town.keys[0].as_str(), town.keys[1].as_str()];
    gone.sort_unstable();
    assert_eq!(missing, gone);
    let shown = town.machines[2].run(&["status"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("NO PROGRESS"), "{shown}");
    // A song that is registered meanwhile waits, and is in the ledger as soon as one is back.
    let music = town.machines[2].music();
    tune(&music.join("late.wav"), 99, 24);
    let mut scan = town.machines[2].command();
    let mut scan = scan.args(["scan", music.to_str().unwrap()]).spawn().unwrap();
    wait_for("the registration to wait", || (town.council(2)["pending"].as_u64() > Some(0)).then_some(()));
    assert_eq!((town.size(2), town.size(3)), (4, 4));
    town.start(0, &[]);
    town.wait_size(5);
    assert!(scan.wait().unwrap().success());
    town.start(1, &[]);
    town.wait_size(5);
}

#[test]
fn what_was_acknowledged_survives_a_kill_of_all() {
    let mut town = Town::new(4, 0);
    town.start_all(4);
    for number in 0..4 {
        let report = town.new_tune(number);
        assert_eq!(report["songs_new"], 1, "{report}");
    }
    // At once: the answer of the last scan is a moment old.
    for number in 0..4 {
        common::signal(town.running[number].as_ref().unwrap().pid(), "KILL");
    }
    for number in 0..4 {
        town.kill(number);
    }
    town.start_all(4);
    town.wait_size(4);
    town.new_tune(0);
    town.wait_size(5);
    for number in 0..4 {
        let (status, _) = town.running[number].take().unwrap().stop();
        assert!(status.success());
        let verified = town.machines[number].json(&["ledger", "verify"]);
        assert_eq!((&verified["blocks"], &verified["ok"]), (&Value::from(5), &Value::from(true)));
    }
}

#[test]
fn a_member_without_its_log_refuses_and_joins_again() {
    let mut town = Town::new(4, 0);
    town.start_all(4);
    for number in 0..3 {
        town.new_tune(number);
    }
    town.wait_size(3);
    let (status, _) = town.running[2].take().unwrap().stop();
    assert!(status.success());
    let folder = town.machines[2].data().join("council");
    fs::remove_dir_all(&folder).unwrap();
    town.start(2, &[]);
    let status = town.wait_council(2, "it refuses", |status| {
        status["why_not"].as_str().is_some_and(|why| why.contains("--council-rejoin"))
    });
    assert_eq!(status["votes"], false);
    town.new_tune(0);
    town.wait_size(4);
    let (status, _) = town.running[2].take().unwrap().stop();
    assert!(status.success());
    town.start(2, &["--council-rejoin"]);
    town.wait_council(2, "it is silent", |status| {
        status["why_not"].as_str().is_some_and(|why| why.contains("silent"))
    });
    for number in [0, 1, 3, 0] {
        town.new_tune(number);
    }
    town.wait_council(2, "it votes", |status| status["votes"] == true);
    town.kill(3);
    town.new_tune(1);
    town.wait_size(9);
    // A key votes in one process at a time.
    let (genesis, key) = (town.genesis.clone(), town.machines[2].path("council.key"));
    let mut other = town.machines[2].command();
    let data = town.machines[2].path("other");
    let other = other
        .args(["mini-node", "--genesis", genesis.to_str().unwrap(), "--council-key", key.to_str().unwrap()])
        .args(["--http", "127.0.0.1:0", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1"])
        .env("ANTIPHON_DATA_DIR", data)
        .output()
        .unwrap();
    assert!(!other.status.success());
    assert!(String::from_utf8_lossy(&other.stderr).contains("another process votes"));
}

#[test]
fn the_council_changes_itself() {
    let mut town = Town::new(4, 1);
    town.start_all(4);
    town.new_tune(0);
    town.wait_size(1);
    // The newcomer follows and waits.
    town.start(4, &[]);
    town.wait_size(1);
    let status = town.council(4);
    assert_eq!(status["votes"], false);
    let (joins, leaves) = (town.keys[4].clone(), town.keys[1].clone());
    let proposed = town.machines[0].json(&["council", "propose", "--add", &joins, "--remove", &leaves]);
    let id = proposed["motion"].as_str().unwrap().to_owned();
    for number in [2, 3] {
        town.wait_council(number, "the motion is there", |status| status["motions"][0]["id"] == id.as_str());
        town.machines[number].json(&["council", "vote", &id[..12]]);
    }
    // The act is a block; it takes effect two heights later.
    town.wait_size(2);
    town.new_tune(0);
    town.new_tune(2);
    town.wait_size(4);
    town.wait_council(4, "the newcomer votes", |status| status["votes"] == true);
    let status = town.wait_council(0, "the new council is complete", |status| {
        status["missing"].as_array().unwrap().is_empty()
    });
    let members: Vec<&str> =
        status["members"].as_array().unwrap().iter().map(|member| member["key"].as_str().unwrap()).collect();
    assert!(members.contains(&joins.as_str()) && !members.contains(&leaves.as_str()));
    // Without the one that left and one more there is still a quorum.
    town.kill(1);
    town.kill(3);
    town.new_tune(4);
    town.wait_size(5);
    let unknown = town.machines[0].run(&["council", "vote", "00000000"]);
    assert_eq!(unknown.status.code(), Some(3));
}
