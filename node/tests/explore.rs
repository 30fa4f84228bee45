//! What explorers use: proofs, dumps, and the log over HTTP, by real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};

use antiphon::system::keyfile;
use antiphon_ledger::{Ledger, Options};
use antiphon_proto::note::{Checkpoint, CosignedCheckpoint, origin};
use common::{Machine, tunes};

/// Cosigns what the ledger holds, as the only member of its council.
fn cosign(machine: &Machine) {
    let member = keyfile::load(&machine.data().join("keys/member.key")).unwrap().unwrap();
    let ledger = Ledger::open(&machine.data().join("ledger"), Options::without_rule(None)).unwrap();
    let checkpoint =
        Checkpoint { origin: origin(&ledger.network()), size: ledger.size(), root: ledger.root() };
    let mut cosigned = CosignedCheckpoint::new(checkpoint.clone());
    cosigned.log_signatures.push((member.public(), checkpoint.log_signature(&member)));
    cosigned.cosignatures.push(checkpoint.cosign(&member, 1_700_000_000));
    ledger.put_checkpoint(cosigned.encode().as_bytes(), &[member.public()]).unwrap();
}

/// A machine whose ledger holds a few songs under a cosigned checkpoint.
fn machine(songs: u64) -> Machine {
    let machine = Machine::new();
    tunes(&machine.music(), 0..songs, 12);
    machine.scan();
    cosign(&machine);
    machine
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

/// One request as it is written, without a client's help.
fn ask(url: &str, request: &str) -> Answer {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..at].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: bytes[at + 4..].to_vec() }
}

fn get(url: &str, path: &str) -> Answer {
    ask(url, &format!("GET {path} HTTP/1.1"))
}

#[test]
fn the_log_is_served_as_static_files() {
    let machine = machine(3);
    let peer = machine.up(&["--serve-log", "127.0.0.1:0", machine.music().to_str().unwrap()]);
    let url = peer.ready["serve_log"].as_str().unwrap();
    assert_eq!(machine.json(&["status"])["serve_log"], url);

    let checkpoint = get(url, "/checkpoint");
    assert_eq!(checkpoint.status, 200);
    assert_eq!(checkpoint.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(checkpoint.header("cache-control"), Some("no-cache"));
    assert_eq!(checkpoint.body, fs::read(machine.data().join("ledger/checkpoint")).unwrap());
    let tag = checkpoint.header("etag").unwrap();
    let again = ask(url, &format!("GET /checkpoint HTTP/1.1\r\nIf-None-Match: \"other\", W/{tag}"));
    assert_eq!((again.status, again.body.len()), (304, 0));

    let tile = get(url, "/tile/0/000.p/3");
    assert_eq!((tile.status, tile.body.len()), (200, 96));
    assert_eq!(tile.header("content-type"), Some("application/octet-stream"));
    assert_eq!(tile.header("cache-control"), Some("public, max-age=60"));
    assert_eq!(get(url, "/tile/0/000.p/2").body, tile.body[..64]);
    let head = ask(url, "HEAD /tile/0/000.p/3 HTTP/1.1");
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("96"), 0));

    let bundle = get(url, "/tile/entries/000.p/1").body;
    let block = machine.json(&["ledger", "show", "#0"]);
    assert_eq!(blake3::hash(&bundle[2..]).to_hex().as_str(), block["hash"]);
    let genesis = get(url, "/genesis");
    assert_eq!(genesis.body, fs::read(machine.data().join("ledger/genesis")).unwrap());
    assert!(genesis.header("cache-control").unwrap().contains("immutable"));

    for (path, words) in [
        ("/", "no such file"),
        ("/tile/0/0", "no such file"),
        ("/tile/0/000.p/03", "no such file"),
        ("/tile/0/%300", "no such file"),
        ("/../keys/wallet.key", "no such file"),
        ("/checkpoint?x", "no such file"),
        ("//checkpoint", "no such file"),
        ("/tile/0/000", "does not reach so far"),
        ("/tile/entries/001.p/1", "does not reach so far"),
        ("/tile/0/000.p/4", "does not reach so far"),
    ] {
        let answer = get(url, path);
        let body = String::from_utf8(answer.body.clone()).unwrap();
        assert_eq!((answer.status, answer.header("cache-control")), (404, Some("no-store")), "{path}");
        assert!(body.contains(words), "{path}: {body}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = ask(url, &format!("{method} /checkpoint HTTP/1.1"));
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    let long = ask(url, &format!("GET /{} HTTP/1.1", "x".repeat(20_000)));
    assert!(matches!(long.status, 414 | 431), "{}", long.head);
}

#[test]
fn a_proof_convinces_offline_and_a_changed_one_does_not() {
    let machine = machine(5);
    let proof = machine.run(&["ledger", "proof", "#3"]);
    assert!(proof.status.success(), "{proof:?}");
    let path = machine.out().join("song.tlog-proof");
    fs::write(&path, &proof.stdout).unwrap();
    let verified = machine.json(&["ledger", "verify-proof", "song.tlog-proof"]);
    let shown = machine.json(&["ledger", "show", "#3"]);
    assert_eq!((&verified["ok"], &verified["index"]), (&true.into(), &3.into()));
    assert_eq!(verified["block"]["hash"], shown["hash"]);
    assert_eq!((&verified["cosigners"], &verified["checkpoint_size"]), (&1.into(), &5.into()));

    // Somebody else, who has the genesis document and nothing more.
    let other = Machine::new();
    let (path, genesis) = (path.to_str().unwrap(), machine.data().join("ledger/genesis"));
    let genesis = genesis.to_str().unwrap();
    let alone = other.run(&["ledger", "verify-proof", path]);
    assert_eq!(alone.status.code(), Some(3), "{alone:?}");
    let network = verified["network"].as_str().unwrap();
    let verify = ["ledger", "verify-proof", path, "--genesis", genesis, "--network"];
    assert_eq!(other.json(&[&verify[..], &[network]].concat()), verified);
    let wrong = other.run(&[&verify[..], &["00".repeat(32).as_str()]].concat());
    assert_eq!(wrong.status.code(), Some(5), "{wrong:?}");
    assert!(!other.data().exists(), "nothing is made by looking");

    // One bit of the block, of a hash, of the root, of a signature; the end cut off.
    let whole = fs::read(path).unwrap();
    let lines: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').collect();
    let places: Vec<usize> = lines.iter().map(|end| end - 3).filter(|at| whole[*at] > b'\n').collect();
    for at in places {
        let mut bad = whole.clone();
        bad[at] ^= 1;
        fs::write(path, &bad).unwrap();
        let output = machine.run(&["ledger", "verify-proof", path]);
        assert_eq!(output.status.code(), Some(5), "byte {at}: {output:?}");
    }
    fs::write(path, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(machine.run(&["ledger", "verify-proof", path]).status.code(), Some(5));

    let none = machine.run(&["ledger", "proof", "#99"]);
    assert_eq!(none.status.code(), Some(3), "{none:?}");
}
