//! Wallet, council and catalogue of a network with a small economy, through the real program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use std::{fs, process::Output};

use common::{Machine, Peer, tune, wait_for, wait_scanned};
use serde_json::Value;

/// A machine whose peer is the whole council of its network.
struct Town {
    machine: Machine,
    peer: Peer,
    wallet: String,
}

impl Town {
    fn new(settings: &str) -> Self {
        let machine = Machine::new();
        let folder = machine.path("home").join(".config/antiphon");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.toml"), settings).unwrap();
        let (genesis, key) = (machine.path("net.toml"), machine.path("council.key"));
        let member = machine.json(&["council", "key", key.to_str().unwrap()]);
        let member = member["key"].as_str().unwrap().to_owned();
        machine.json(&[
            "network",
            "new",
            "--member",
            &member,
            "--stamp-bits",
            "4",
            "--floor",
            "10",
            "--cap",
            "20.5",
            "--threshold",
            "2",
            "--epoch-ms",
            "5000",
            "--out",
            genesis.to_str().unwrap(),
        ]);
        tune(&machine.music().join("The Artist - a song.wav"), 1, 24);
        let (music, genesis) = (machine.music(), genesis);
        let peer = machine.up(&[
            music.to_str().unwrap(),
            "--genesis",
            genesis.to_str().unwrap(),
            "--council-key",
            key.to_str().unwrap(),
        ]);
        let wallet = wait_scanned(&machine, 1)["wallet"].as_str().unwrap().to_owned();
        Self { machine, peer, wallet }
    }

    fn json(&self, args: &str) -> Value {
        self.machine.json(&args.split(' ').collect::<Vec<_>>())
    }

    fn fails(&self, args: &str) -> (i32, String) {
        failed(&self.machine.run(&args.split(' ').collect::<Vec<_>>()))
    }

    fn size(&self) -> u64 {
        self.json("ledger info")["size"].as_u64().unwrap()
    }

    /// Proposes something, and waits until the council of one has decided it.
    fn decides(&self, args: &str) {
        let size = self.size();
        self.json(&format!("council propose {args}"));
        wait_for("the act", || (self.size() > size).then_some(()));
    }
}

fn failed(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn stranger(byte: u8) -> String {
    antiphon_proto::SecretKey::from_seed(&[byte; 32]).public().to_string()
}

#[test]
fn a_genesis_document_has_its_economy() {
    let machine = Machine::new();
    let file = machine.path("net.toml");
    let file = file.to_str().unwrap();
    let member = stranger(1);
    let made = machine.json(&[
        "network",
        "new",
        "--member",
        &member,
        "--floor",
        "1.00000001",
        "--cap",
        "2",
        "--coverage",
        "9000",
        "--threshold",
        "7",
        "--heartbeat-ms",
        "200",
        "--epoch-ms",
        "1000",
        "--window-ms",
        "2000",
        "--out",
        file,
    ]);
    let economy = &made["economy"];
    assert_eq!((&economy["floor_units"], &economy["cap_tokens"]), (&100_000_001_u64.into(), &"2".into()));
    assert_eq!((&economy["threshold_plays"], &economy["window_ms"]), (&7.into(), &2000.into()));
    assert_eq!(machine.json(&["network", "show", file]), made);
    let shown = machine.run(&["network", "show", file]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("floor 1.00000001, cap 2 tokens") && shown.contains("coverage 9000"), "{shown}");
    // The defaults, said or not, are left out.
    let text = machine.run(&["network", "new", "--member", &member, "--threshold", "10000"]);
    assert!(!String::from_utf8(text.stdout).unwrap().contains("economy"));
    for bad in [
        ["--floor", "3", "--cap", "2"],
        ["--floor", "0.000000001", "--cap", "2"],
        ["--floor", "1e3", "--cap", "2"],
    ] {
        let output = machine.run(&[&["network", "new", "--member", &member][..], &bad].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}

#[test]
fn an_account_with_nothing_in_it() {
    let town = Town::new("");
    let other = stranger(9);
    let balance = town.json("wallet balance");
    assert_eq!((&balance["schema"], &balance["key"]), (&1.into(), &town.wallet.as_str().into()));
    assert_eq!((&balance["units"], &balance["tokens"]), (&0.into(), &"0".into()));
    assert_eq!((&balance["sequence"], &balance["escrow_units"]), (&0.into(), &0.into()));
    assert_eq!((&balance["supply_units"], &balance["cap_units"]), (&0.into(), &2_050_000_000_u64.into()));
    assert_eq!(town.json(&format!("wallet balance {other}"))["key"], other.as_str());
    assert_eq!(town.fails("wallet balance xyz").0, 2);
    let status = town.json("status");
    assert_eq!((&status["wallet_units"], &status["wallet_tokens"]), (&0.into(), &"0".into()));

    let (code, said) = town.fails(&format!("wallet send {other} 1.5"));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("1.5 tokens are needed, and the account holds 0 tokens"), "{said}");
    let (code, said) = town.fails(&format!("wallet send {} 1", town.wallet));
    assert_eq!((code, said.contains("own key")), (2, true), "{said}");
    assert_eq!(town.fails(&format!("wallet send {other} 1,5")).0, 2);
    let (code, said) = town.fails("wallet buy #0 --yes");
    assert_eq!((code, said.contains("free to hear")), (1, true), "{said}");
    assert_eq!(town.fails("wallet buy nothing_like_it --yes").0, 3);
    let (code, said) = town.fails(&format!("wallet grant #0 {other}"));
    assert_eq!((code, said.contains("only the artist")), (1, true), "{said}");
    assert_eq!(town.json("wallet history")["entries"].as_array().unwrap().len(), 0);

    // Without a running peer as well.
    let (status, _) = town.peer.stop();
    assert!(status.success());
    let offline = town.machine.json(&["wallet", "balance"]);
    assert_eq!(offline, balance);
    let nobody = Machine::new();
    assert_eq!(failed(&nobody.run(&["wallet", "balance"])).0, 3);
    assert_eq!(failed(&nobody.run(&["wallet", "claim", "somebody"])).0, 3);
}

#[test]
fn claims_are_decided_by_the_council() {
    let town = Town::new("");
    let song = town.json("ledger song #0");
    assert_eq!(
        (&song["schema"], &song["tier"], &song["threshold_plays"]),
        (&1.into(), &"discovery".into(), &2.into())
    );
    assert_eq!((&song["terms"]["kind"], &song["burn_units"]), (&"open".into(), &0.into()));
    let name = song["escrow"]["name"].as_str().unwrap().to_owned();
    let status = town.json("council status");
    assert_eq!((&status["claims"], &status["epoch"]), (&Value::Array(Vec::new()), &0.into()));
    assert_eq!((&status["receipts"], &status["supply_units"]), (&0.into(), &0.into()));
    assert_eq!(status["economy"]["threshold_plays"], 2);

    // What nobody has claimed cannot be released, nor ruled on.
    let early = town.machine.run(&["council", "propose", "release", &name, "--to", &town.wallet]);
    let (code, said) = failed(&early);
    assert_eq!((code, said.contains("has not claimed")), (1, true), "{said}");
    let (code, said) =
        failed(&town.machine.run(&["council", "propose", "ruling", "--artist", &name, "--nobody"]));
    assert_eq!((code, said.contains("nobody has claimed")), (1, true), "{said}");

    let size = town.size();
    let claim = ["wallet", "claim", &name.to_uppercase(), "--statement", "see example.org"];
    let claimed = town.machine.json(&claim);
    assert_eq!((&claimed["kind"], &claimed["sequence"]), (&"claim".into(), &1.into()));
    assert_eq!((&claimed["index"], &claimed["arrived"]), (&size.into(), &true.into()));
    assert_eq!(town.json("wallet balance")["sequence"], 1);
    let status = town.json("council status");
    let waiting = &status["claims"][0];
    assert_eq!((&waiting["artist"], &waiting["key"]), (&name.as_str().into(), &town.wallet.as_str().into()));
    assert_eq!((&waiting["statement"], &waiting["escrow_units"]), (&"see example.org".into(), &0.into()));
    let shown = String::from_utf8(town.machine.run(&["council", "status"]).stdout).unwrap();
    assert!(shown.contains("see example.org") && shown.contains("not settled yet"), "{shown}");
    let history = town.json("wallet history");
    assert_eq!((&history["entries"][0]["kind"], &history["complete"]), (&"claimed".into(), &true.into()));

    let size = town.size();
    town.machine.json(&["council", "propose", "release", &name, "--to", &town.wallet]);
    wait_for("the release", || (town.size() > size).then_some(()));
    let status = town.json("council status");
    assert_eq!(status["claims"], Value::Array(Vec::new()));
    assert_eq!(town.json("ledger song #0")["escrow"]["owner"], town.wallet.as_str());
    assert_eq!(town.json("wallet history --limit 1")["entries"][0]["kind"], "released");
    let (code, said) = failed(&town.machine.run(&claim));
    assert_eq!((code, said.contains("already")), (1, true), "{said}");
    let (code, said) = town.fails(&format!("council propose release --key {}", town.wallet));
    assert_eq!((code, said.contains("nothing waits")), (1, true), "{said}");

    let size = town.size();
    town.machine.json(&["council", "propose", "ruling", "--artist", &name, "--nobody"]);
    wait_for("the ruling", || (town.size() > size).then_some(()));
    assert_eq!(town.json("ledger song #0")["escrow"]["owner"], Value::Null);

    town.decides("ruling --song #0 --withhold");
    assert_eq!(town.json("ledger song #0")["withheld"], true);
    let (code, said) = town.fails("council propose ruling --song #0 --withhold");
    assert_eq!((code, said.contains("already")), (1, true), "{said}");
    town.decides("ruling --song #0 --restore");
    assert_eq!(town.json("ledger song #0")["withheld"], false);

    town.decides("parameters --threshold 5 --coverage 6000");
    let economy = &town.json("council status")["economy"];
    assert_eq!((&economy["threshold_plays"], &economy["coverage_basis_points"]), (&5.into(), &6000.into()));
    assert_eq!((&economy["epoch_ms"], &economy["floor_tokens"]), (&5000.into(), &"10".into()));
    assert_eq!(town.json("ledger song #0")["threshold_plays"], 5);
    assert_eq!(town.fails("council propose parameters --threshold 5").0, 2);
    assert_eq!(town.fails("council propose parameters --coverage 0").0, 2);
    let act = town.json(&format!("ledger show #{}", town.size() - 1));
    assert_eq!(act["council"]["parameters"]["threshold_plays"], 5);
    assert_eq!(town.json("ledger verify")["ok"], true);
}

#[test]
fn terms_of_own_songs_and_grants() {
    let town = Town::new(
        "[library]\nartist_names = [\"The Artist\", \"music\"]\nterms = \"purchase\"\nprice = \"1.5\"\n",
    );
    let song = town.json("ledger song #0");
    assert_eq!(
        (&song["terms"]["kind"], &song["terms"]["price_units"]),
        (&"purchase".into(), &150_000_000.into())
    );
    assert_eq!(song["terms"]["price_tokens"], "1.5");
    assert_eq!(
        (&song["escrow"]["key"], &song["splits"][0]["basis_points"]),
        (&town.wallet.as_str().into(), &10_000.into())
    );
    assert_eq!((&song["why_not"], &song["rights"]), (&Value::Null, &Value::Array(Vec::new())));
    let shown = String::from_utf8(town.machine.run(&["ledger", "song", "#0"]).stdout).unwrap();
    assert!(shown.contains("1.5 tokens once"), "{shown}");
    let (code, said) = town.fails("wallet buy #0");
    assert_eq!((code, said.contains("costs 1.5 tokens") && said.contains("already")), (1, true), "{said}");

    let other = stranger(9);
    let granted = town.json(&format!("wallet grant #0 {other} --days 3"));
    assert_eq!((&granted["kind"], &granted["sequence"]), (&"grant".into(), &1.into()));
    let rights = town.json("ledger song #0")["rights"].clone();
    assert_eq!((&rights[0]["key"], &rights[0]["index"]), (&other.as_str().into(), &granted["index"]));
    assert!(rights[0]["until_ms"].as_u64().is_some());
    town.json(&format!("wallet grant #0 {other}"));
    assert_eq!(town.json("ledger song #0")["rights"][0]["until_ms"], Value::Null);
    let history = town.json("wallet history --limit 1");
    assert_eq!((&history["entries"][0]["kind"], &history["complete"]), (&"granted".into(), &false.into()));
    town.json(&format!("wallet grant #0 {other} --revoke"));
    assert_eq!(town.json("ledger song #0")["rights"], Value::Array(Vec::new()));
    assert_eq!(town.json("wallet balance")["sequence"], 3);

    // The command itself makes the record when no peer runs.
    let (status, _) = town.peer.stop();
    assert!(status.success());
    let key = town.machine.path("council.key");
    let mut alone = town.machine.command();
    alone.env("ANTIPHON__COUNCIL__KEY", key).args(["wallet", "grant", "#0", &other, "--json"]);
    let output = alone.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(town.machine.json(&["ledger", "song", "#0"])["rights"][0]["key"], other.as_str());
}

#[test]
fn settings_that_contradict_each_other_stop_the_start() {
    let machine = Machine::new();
    let mut command = machine.command();
    command.args(["up", "--http", "127.0.0.1:0"]).env("ANTIPHON__LIBRARY__TERMS", "purchase");
    let (code, said) = failed(&command.output().unwrap());
    assert_eq!((code, said.contains("library.price")), (2, true), "{said}");
}
