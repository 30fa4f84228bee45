//! A peer without a ledger: what it believes, what it keeps, and that it gets the song.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;
mod net;
#[path = "../../ledger/tests/common/mod.rs"]
mod testing;

use std::{fs, path::Path, sync::Arc};

use antiphon::{
    config::{self, Config, Mode},
    failure::{Failure, Kind},
    genesis_file, light,
    ops::Request,
    peer::get::GetRequest,
    system::pathhex,
};
use antiphon_ledger::Ledger;
use antiphon_proto::{
    note::{Checkpoint, origin},
    wire::Genesis,
};
use common::{Machine, hash, tunes, wait_for, wait_scanned};
use net::{Lie, Peer};
use serde_json::Value;
use testing::{Artist, extend, key, logs, member};
use tokio_util::sync::CancellationToken;

/// Gets a song as the command does.
async fn get(dir: &Path, peer: &Peer, song: &str) -> Result<Value, Failure> {
    let config = Config {
        network: config::Network { peer_vps: vec![peer.address.to_string()], ..config::Network::default() },
        ledger: config::Ledger { mode: Mode::Light },
        ..Config::default()
    };
    let folder = pathhex::encode(&dir.join("out"));
    let request = Request::Get(GetRequest { song: song.to_owned(), folder, container: None });
    let cancel = CancellationToken::new();
    let done =
        light::execute(dir.to_owned(), &config, request, cancel.clone(), Arc::new(|_| {}), &|_| {}).await;
    cancel.cancel();
    done.map_err(|error| Failure::of(&error))
}

async fn ask(dir: &Path, request: Request) -> Value {
    let config = Config::default();
    let cancel = CancellationToken::new();
    light::execute(dir.to_owned(), &config, request, cancel, Arc::new(|_| {}), &|_| {}).await.unwrap()
}

fn grown(dir: &Path, artist: u8, size: u64) -> Ledger {
    let ledger = logs::open(dir);
    let artist = Artist::new(artist, ledger.genesis());
    while ledger.size() < size {
        let end = size.min(ledger.size() + 50);
        let first = u64::from(artist.key.public().0[0]) * 1_000_000;
        let songs: Vec<_> = (ledger.size()..end).map(|n| artist.song_registration(first + n)).collect();
        extend(&ledger, &songs).unwrap();
    }
    cosign(&ledger);
    ledger
}

fn cosign(ledger: &Ledger) {
    let note = logs::cosigned(ledger, ledger.size(), &[member()]);
    ledger.put_checkpoint(&note, &[member().public()]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn proofs_are_kept_and_checkpoints_move_on() {
    let dirs = tempfile::tempdir().unwrap();
    let dir = dirs.path().join("light");
    let ledger = grown(&dirs.path().join("ledger"), 1, 300);
    let peer = Peer::serving(&ledger, Lie::None).await;
    let song = ledger.song(7).unwrap().unwrap();
    // The peer has the ledger, but no music: the proof comes, the file does not.
    let failed = get(&dir, &peer, &song.id().to_string()).await.unwrap_err();
    assert_eq!(failed.kind, Kind::Offline);
    assert!(failed.message.contains("serves"), "{failed}");
    let info = ask(&dir, Request::LedgerInfo).await;
    assert_eq!((&info["size"], &info["proofs"]), (&300.into(), &1.into()));
    assert_eq!(info["root"], ledger.root().to_string());
    let kept = ask(&dir, Request::LedgerProof { what: "#7".to_owned() }).await;
    let by_content = song.content().unwrap().to_string();
    assert_eq!(kept, ask(&dir, Request::LedgerProof { what: by_content.clone() }).await);
    assert_eq!(ask(&dir, Request::Status).await["ledger_size"], 300);
    // More blocks, a newer checkpoint, another song.
    logs::grow(&ledger, 2_000, 100);
    cosign(&ledger);
    let failed = get(&dir, &peer, "#1500").await.unwrap_err();
    assert!(failed.message.contains("serves"), "{failed}");
    let info = ask(&dir, Request::LedgerInfo).await;
    assert_eq!((&info["size"], &info["proofs"]), (&2_000.into(), &2.into()));
    assert!(info["disk_bytes"].as_u64().unwrap() < 20_000, "{info}");
    assert!(!dir.join("ledger").exists());
    // What nobody knows is not found, and words are no name.
    assert_eq!(get(&dir, &peer, "#2000").await.unwrap_err().kind, Kind::NotFound);
    assert_eq!(get(&dir, &peer, &"ab".repeat(32)).await.unwrap_err().kind, Kind::NotFound);
    assert_eq!(get(&dir, &peer, "some words").await.unwrap_err().kind, Kind::Usage);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_false_is_believed() {
    let dirs = tempfile::tempdir().unwrap();
    let ledger = grown(&dirs.path().join("ledger"), 1, 300);
    for lie in [Lie::Proofs, Lie::OtherProof] {
        let dir = tempfile::tempdir().unwrap();
        let liar = Peer::serving(&ledger, lie.clone()).await;
        let failed = get(dir.path(), &liar, "#7").await.unwrap_err();
        assert!(failed.message.contains("a false proof"), "{lie:?}: {failed}");
        assert_eq!(ask(dir.path(), Request::LedgerInfo).await["proofs"], 0);
    }
    // A council that this peer does not know.
    let root = ledger.root();
    let at = Checkpoint { origin: origin(&ledger.network()), size: 300, root };
    let strange = logs::sign(&at, &[key(1), key(2)]);
    let stranger = Peer::serving(&ledger, Lie::Checkpoint(Arc::new(strange))).await;
    let dir = tempfile::tempdir().unwrap();
    let failed = get(dir.path(), &stranger, "#7").await.unwrap_err();
    assert_eq!(failed.kind, Kind::Verification);
    assert!(failed.message.contains("full peer"), "{failed}");
    assert_eq!(ask(dir.path(), Request::LedgerInfo).await["size"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_second_history_is_told_and_not_taken() {
    let dirs = tempfile::tempdir().unwrap();
    let dir = dirs.path().join("light");
    let one = grown(&dirs.path().join("one"), 1, 300);
    let first = Peer::serving(&one, Lie::None).await;
    assert_eq!(get(&dir, &first, "#7").await.unwrap_err().kind, Kind::Offline);
    // Longer, shorter, and as long.
    for size in [700, 200, 300] {
        let other = grown(&dirs.path().join(format!("other {size}")), 2, size);
        let second = Peer::serving(&other, Lie::None).await;
        let failed = get(&dir, &second, "#7").await.unwrap_err();
        assert_eq!(failed.kind, Kind::Verification, "{failed}");
        assert!(failed.message.contains("FORKED"), "{failed}");
        let info = ask(&dir, Request::LedgerInfo).await;
        assert_eq!((&info["size"], &info["root"]), (&300.into(), &one.root().to_string().into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_a_genesis_document_nobody_is_believed_about_the_network() {
    let dirs = tempfile::tempdir().unwrap();
    let ledger = grown(&dirs.path().join("ledger"), 1, 10);
    let peer = Peer::serving(&ledger, Lie::None).await;
    let genesis = Genesis::new("another", 1, [3; 16], &[key(5).public()]);
    let document = dirs.path().join("net.toml");
    fs::write(&document, genesis_file::write(&genesis)).unwrap();
    let config = Config {
        network: config::Network {
            peer_vps: vec![peer.address.to_string()],
            genesis: Some(document),
            ..config::Network::default()
        },
        ..Config::default()
    };
    let folder = pathhex::encode(dirs.path());
    let request = Request::Get(GetRequest { song: "#1".to_owned(), folder, container: None });
    let dir = dirs.path().join("light");
    let done =
        light::execute(dir.clone(), &config, request, CancellationToken::new(), Arc::new(|_| {}), &|_| {});
    let failed = Failure::of(&done.await.unwrap_err());
    assert_eq!(failed.kind, Kind::Usage, "{failed}");
    assert_eq!(ask(&dir, Request::LedgerInfo).await["network"], genesis.network_id().to_string());
}

#[test]
fn the_commands() {
    let (artist, listener) = (Machine::new(), Machine::new());
    tunes(&artist.music(), 0..3, 30);
    let first = artist.up(&[artist.music().to_str().unwrap()]);
    wait_scanned(&artist, 3);
    let id = artist.json(&["ledger", "show", "#1"])["song"]["id"].as_str().map(str::to_owned);
    let what = id.unwrap_or_else(|| "#1".to_owned());
    let address = first.address("quic");
    // The council may still be about to cosign.
    let got = wait_for("a proof", || {
        let done = listener
            .command()
            .args(["get", "--light", &what, "--peer-vps", &address, "--json"])
            .output()
            .unwrap();
        if !done.status.success() {
            eprintln!("{}", String::from_utf8_lossy(&done.stderr));
        }
        done.status.success().then(|| serde_json::from_slice::<Value>(&done.stdout).unwrap())
    });
    assert_eq!(got["content"], hash(Path::new(got["path"].as_str().unwrap())).as_str());
    assert_eq!(got["peer"], first.ready["peer_id"]);
    // From now on the data directory says what it is, and whom it knows.
    let again = listener.json(&["get", "#1"]);
    assert_eq!(again["resumed_bytes"], again["bytes"]);
    let info = listener.json(&["ledger", "info"]);
    assert_eq!((&info["mode"], &info["size"], &info["proofs"]), (&"light".into(), &3.into(), &1.into()));
    assert_eq!(listener.json(&["status"])["mode"], "light");
    let proof = listener.run(&["ledger", "proof", "#1"]);
    let file = listener.path("song.tlog-proof");
    fs::write(&file, &proof.stdout).unwrap();
    let verified = listener.json(&["ledger", "verify-proof", file.to_str().unwrap()]);
    assert_eq!((&verified["ok"], &verified["index"]), (&true.into(), &1.into()));
    for refused in
        [&["up", "--light"][..], &["scan", "--light"], &["ledger", "show", "#1"], &["ledger", "verify"]]
    {
        let refused = listener.run(refused);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("a light peer keeps no ledger"), "{said}");
    }
    // A whole ledger is not thrown away.
    let refused = artist.run(&["status"]);
    assert!(refused.status.success());
    first.stop();
    assert_eq!(artist.run(&["get", "--light", "#1"]).status.code(), Some(2));
}
