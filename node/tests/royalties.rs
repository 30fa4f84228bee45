//! Plays by real processes: heard, witnessed, settled by a council of four, and paid to the unit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::{
    fs,
    io::Read,
    path::PathBuf,
    process::{Child, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

use common::{Machine, Peer, signal, tune, wait_for};
use serde_json::Value;

const TOKEN: u64 = 100_000_000;
/// Seconds of the songs: half of it makes a play.
const SECONDS: u32 = 8;

/// A council and the economy of a toy: settled every few seconds, a song is discovered after two plays.
struct City {
    members: Vec<Machine>,
    keys: Vec<String>,
    running: Vec<Option<Peer>>,
    genesis: PathBuf,
}

impl City {
    fn new(members: usize) -> Self {
        let machines: Vec<Machine> = (0..members).map(|_| Machine::new()).collect();
        let key = |machine: &Machine| {
            let file = machine.path("council.key");
            machine.json(&["council", "key", file.to_str().unwrap()])["key"].as_str().unwrap().to_owned()
        };
        let keys: Vec<String> = machines.iter().map(key).collect();
        let genesis = machines[0].path("net.toml");
        let mut args = vec!["network", "new", "--stamp-bits", "4", "--out", genesis.to_str().unwrap()];
        args.extend(["--floor", "0", "--cap", "600", "--threshold", "2"]);
        args.extend(["--heartbeat-ms", "500", "--epoch-ms", "3000", "--window-ms", "600000"]);
        for key in &keys {
            args.extend(["--member", key]);
        }
        machines[0].json(&args);
        let running = machines.iter().map(|_| None).collect();
        let mut city = Self { members: machines, keys, running, genesis };
        for number in 0..members {
            city.start(number);
        }
        for number in 0..members {
            city.wait_council(number, "everyone votes", |status| {
                status["votes"] == true && status["missing"].as_array().unwrap().is_empty()
            });
        }
        city
    }

    fn start(&mut self, number: usize) {
        let addresses: Vec<String> = self.running.iter().flatten().map(|peer| peer.address("quic")).collect();
        let machine = &self.members[number];
        let key = machine.path("council.key");
        let mut args =
            vec!["--genesis", self.genesis.to_str().unwrap(), "--council-key", key.to_str().unwrap()];
        for address in &addresses {
            args.extend(["--peer-vps", address]);
        }
        self.running[number] = Some(machine.mini_node(&args));
    }

    /// Somebody who joins through every member that runs.
    fn join(&self, machine: &Machine) -> Peer {
        let addresses: Vec<String> = self.running.iter().flatten().map(|peer| peer.address("quic")).collect();
        let music = machine.music();
        let mut args = vec![music.to_str().unwrap()];
        for address in &addresses {
            args.extend(["--peer-vps", address]);
        }
        machine.up(&args)
    }

    fn council(&self, number: usize) -> Value {
        self.members[number].json(&["council", "status"])
    }

    fn wait_council(&self, number: usize, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("member {number}: {what}"), || {
            Some(self.council(number)).filter(|status| holds(status))
        })
    }

    /// Every member that runs has the same ledger, and it verifies.
    fn agrees(&self) {
        let up: Vec<usize> =
            (0..self.members.len()).filter(|number| self.running[*number].is_some()).collect();
        let infos = wait_for("the members to have the same ledger", || {
            let infos: Vec<Value> =
                up.iter().map(|number| self.members[*number].json(&["ledger", "info"])).collect();
            infos.windows(2).all(|pair| pair[0]["root"] == pair[1]["root"]).then_some(infos)
        });
        assert!(!infos.is_empty());
        let verified = self.members[up[0]].json(&["ledger", "verify"]);
        assert_eq!(verified["ok"], true, "{verified}");
    }
}

/// Somebody with a wallet who keeps nothing that was played, so that each play comes from others.
fn person() -> Machine {
    person_with("")
}

/// The same, with further settings of the library.
fn person_with(settings: &str) -> Machine {
    let machine = Machine::new();
    let folder = machine.path("home/.config/antiphon");
    fs::create_dir_all(&folder).unwrap();
    let text = format!("[library]\nkeep_played = false\n{settings}");
    fs::write(folder.join("config.toml"), text).unwrap();
    machine
}

fn wallet(machine: &Machine) -> String {
    machine.json(&["wallet", "show"])["wallet"].as_str().unwrap().to_owned()
}

fn units(machine: &Machine) -> u64 {
    machine.json(&["wallet", "balance"])["units"].as_u64().unwrap()
}

fn song(machine: &Machine, words: &str) -> Value {
    machine.json(&["ledger", "song", words])
}

/// A program that plays a song as it comes.
struct Listener {
    child: Child,
    reader: Option<JoinHandle<usize>>,
    /// Told when the first byte has come, by which the play is counted.
    began: mpsc::Receiver<()>,
}

impl Listener {
    fn start(machine: &Machine, words: &str) -> Self {
        let mut command = machine.command();
        command.args(["play", words, "--stdout", "--counted", "--json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let (begins, began) = mpsc::channel();
        let reader = thread::spawn(move || {
            let mut bytes = vec![0];
            if out.read_exact(&mut bytes).is_err() {
                return 0;
            }
            let _ = begins.send(());
            out.read_to_end(&mut bytes).unwrap_or(0)
        });
        Self { child, reader: Some(reader), began }
    }

    /// Until three quarters were heard.
    fn hear_most(&self) {
        self.began.recv_timeout(common::DEADLINE).expect("a first byte");
        thread::sleep(Duration::from_millis(u64::from(SECONDS) * 1_000 * 3 / 4));
    }

    /// Until the song is over; what the command says of it.
    fn finish(mut self) -> (bool, String) {
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        (status.success(), errors)
    }
}

/// Plays a song to its end.
fn plays(machine: &Machine, words: &str) {
    let (worked, said) = Listener::start(machine, words).finish();
    assert!(worked, "{said}");
    let report: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(report["receipts"], 1, "{said}");
    assert!(report["heard_ms"].as_u64().unwrap() >= u64::from(SECONDS) * 500, "{said}");
}

/// Waits until so many plays of a song are settled, everywhere that is asked.
fn wait_plays(machines: &[&Machine], words: &str, count: u64) {
    for machine in machines {
        wait_for(&format!("{count} plays"), || (song(machine, words)["plays"] == count).then_some(()));
    }
}

fn wait_online(machine: &Machine, songs: u64) {
    wait_for("songs online", || {
        (machine.json(&["status"])["online_songs"].as_u64() >= Some(songs)).then_some(())
    });
}

#[test]
fn plays_are_paid_to_the_unit() {
    let city = City::new(4);
    let (one, two) = (person(), person());
    let artist = person_with("artist_names = [\"The Choir\"]\nterms = \"purchase\"\nprice = \"0.5\"\n");
    let (first, second) = (person(), person());
    let folder = first.music().join("The Fans/Debut");
    fs::create_dir_all(&folder).unwrap();
    tune(&folder.join("Anthem.wav"), 7, SECONDS);
    let mut server_one = Some(city.join(&first));
    common::wait_scanned(&first, 1);
    let folder = artist.music().join("The Choir/Debut");
    fs::create_dir_all(&folder).unwrap();
    tune(&folder.join("Hymn.wav"), 9, SECONDS);
    let _artist = city.join(&artist);
    common::wait_scanned(&artist, 1);
    let (_listener_one, _listener_two) = (city.join(&one), city.join(&two));
    wait_online(&one, 2);
    wait_online(&two, 2);

    // Two plays while the song is being discovered, each from another server. Each brings one token to the listener,
    // one to the server, and one into the escrow of the name, since a fan has registered the song.
    plays(&one, "Anthem");
    wait_plays(&[&one, &first], "Anthem", 1);
    assert_eq!((units(&one), units(&first)), (TOKEN, TOKEN));
    let told = song(&one, "Anthem");
    assert_eq!(
        (&told["tier"], &told["escrow"]["units"]),
        (&Value::from("discovery"), &Value::from(TOKEN)),
        "{told}"
    );

    let _server_two = city.join(&second);
    wait_online(&second, 2);
    second.json(&["get", "Anthem"]);
    // Only the second server is left.
    server_one.take().unwrap().stop();
    wait_online(&two, 2);
    plays(&two, "Anthem");
    wait_plays(&[&one, &two, &second, &artist], "Anthem", 2);
    assert_eq!((units(&two), units(&second)), (TOKEN, TOKEN));

    // The artist claims the name, and the council gives it what has waited: two tokens.
    let key = wallet(&artist);
    artist.json(&["wallet", "claim", "The Fans", "--statement", "https://example.org/the-fans"]);
    city.wait_council(1, "the claim is there", |status| {
        status["claims"].as_array().is_some_and(|all| all.len() == 1)
    });
    let proposed = city.members[0].json(&["council", "propose", "release", "The Fans", "--to", &key]);
    let motion = proposed["motion"].as_str().unwrap().to_owned();
    for number in [1, 2] {
        city.wait_council(number, "the motion is there", |status| {
            status["motions"][0]["id"] == motion.as_str()
        });
        city.members[number].json(&["council", "vote", &motion[..16]]);
    }
    wait_for("the escrow to be released", || (units(&artist) == 2 * TOKEN).then_some(()));
    // To nobody else: the name is taken.
    let other = wallet(&two);
    let refused = city.members[0].run(&["council", "propose", "release", "The Fans", "--to", &other]);
    assert!(!refused.status.success(), "{refused:?}");

    // The third play is beyond the threshold. The supply is 6 tokens of at most 600, so that it burns
    // 1,000 * (6 / 600)^3 = 0.001 tokens of the listener; the artist and the server get one each.
    plays(&one, "Anthem");
    wait_plays(&[&one, &second, &artist], "Anthem", 3);
    let burned = TOKEN / 1_000;
    assert_eq!(units(&one), TOKEN - burned);
    assert_eq!((units(&second), units(&artist), units(&two)), (2 * TOKEN, 3 * TOKEN, TOKEN));
    let told = song(&one, "Anthem");
    assert_eq!((&told["tier"], &told["escrow"]["units"]), (&Value::from("paid"), &Value::from(0)), "{told}");
    assert_eq!(
        (&told["minted_units"], &told["burned_units"]),
        (&Value::from(8 * TOKEN), &Value::from(burned))
    );
    let balance = one.json(&["wallet", "balance"]);
    assert_eq!(balance["supply_units"], 8 * TOKEN - burned, "{balance}");

    // A song with a price is not served to who has not paid, whoever asks: the answer names the price. Payment, the
    // artist's share and the right are one block.
    let refused = two.run(&["get", "Hymn"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("0.5"), "{said}");
    let bought = two.json(&["wallet", "buy", "Hymn", "--yes"]);
    assert_eq!((units(&two), units(&artist)), (TOKEN / 2, 3 * TOKEN + TOKEN / 2), "{bought}");
    let again = two.run(&["wallet", "buy", "Hymn", "--yes"]);
    assert_eq!(again.status.code(), Some(1), "it is bought already");
    wait_for("the artist to know of the purchase", || {
        two.command().args(["get", "Hymn"]).output().unwrap().status.success().then_some(())
    });
    assert!(!one.run(&["get", "Hymn"]).status.success(), "it was not bought by this one");

    // Who cannot pay is told before anything is played.
    let (worked, said) = {
        one.json(&["wallet", "send", &key, "0.999"]);
        wait_for("the account to be empty", || (units(&one) == 0).then_some(()));
        Listener::start(&one, "Anthem").finish()
    };
    assert!(!worked && said.contains("burns") && said.contains("holds 0"), "{said}");
    // What is sent twice, or is not there, is refused.
    let refused = one.run(&["wallet", "send", &key, "1"]);
    assert_eq!(refused.status.code(), Some(1));
    city.agrees();
    assert_eq!(city.keys.len(), 4);
}

#[test]
fn whoever_is_killed_nothing_is_lost_and_nothing_paid_twice() {
    let mut city = City::new(4);
    let (listener, server) = (person(), person());
    tune(&server.music().join("Anthem.wav"), 8, SECONDS);
    let mut serving = Some(city.join(&server));
    common::wait_scanned(&server, 1);
    let mut listening = Some(city.join(&listener));
    wait_online(&listener, 1);

    // The server is killed when more than half was heard: the listener hands in what both have signed.
    let playing = Listener::start(&listener, "Anthem");
    playing.hear_most();
    signal(serving.as_ref().unwrap().pid(), "KILL");
    serving.take().unwrap().kill();
    let (_, said) = playing.finish();
    wait_for(&format!("a play whose server was killed ({said})"), || {
        (song(&listener, "Anthem")["plays"] == 1).then_some(())
    });
    assert_eq!(units(&listener), TOKEN);

    // The listener is killed when more than half was heard: the server hands it in.
    serving = Some(city.join(&server));
    wait_online(&listener, 1);
    wait_for("the server to know what it got", || (units(&server) == TOKEN).then_some(()));
    let playing = Listener::start(&listener, "Anthem");
    playing.hear_most();
    signal(listening.as_ref().unwrap().pid(), "KILL");
    listening.take().unwrap().kill();
    let _ = playing.finish();
    wait_plays(&[&server], "Anthem", 2);
    listening = Some(city.join(&listener));
    wait_for("the listener to know", || (song(&listener, "Anthem")["plays"] == 2).then_some(()));
    assert_eq!((units(&listener), units(&server)), (2 * TOKEN, 2 * TOKEN));

    // A member is killed while a settlement is due, and another one right after it.
    wait_online(&listener, 1);
    plays(&listener, "Anthem");
    city.running[0].take().unwrap().kill();
    wait_plays(&[&listener, &server], "Anthem", 3);
    city.start(0);
    for number in 0..4 {
        city.wait_council(number, "it votes", |status| status["votes"] == true);
    }
    // What waits in the outboxes is handed in again and again; it is settled once.
    let before = (units(&listener), units(&server));
    plays(&listener, "Anthem");
    wait_plays(&[&listener, &server], "Anthem", 4);
    assert_eq!(units(&server), before.1 + TOKEN);
    city.agrees();
    drop((serving, listening));
}
