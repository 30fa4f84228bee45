//! What explorers use: proofs, dumps, and the log over HTTP, by real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
};

use antiphon::system::keyfile;
use antiphon_ledger::{Ledger, Options};
use antiphon_proto::note::{Checkpoint, CosignedCheckpoint, origin};
use common::{Machine, tunes};
use serde_json::Value;

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
    machine_of(songs, 12)
}

fn machine_of(songs: u64, seconds: u32) -> Machine {
    let machine = Machine::new();
    tunes(&machine.music(), 0..songs, seconds);
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

/// Every file below a folder, by its path in it.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// The class and first bad block of a failure, and what it says.
fn failure(machine: &Machine, args: &[&str]) -> (Option<i32>, Value, String) {
    let output = machine.command().args(args).arg("--json").output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    let last: Value =
        errors.lines().last().map(|line| serde_json::from_str(line).unwrap()).unwrap_or_default();
    let error = &last["error"];
    (
        output.status.code(),
        error["first_bad"].clone(),
        error["message"].as_str().unwrap_or_default().to_owned(),
    )
}

#[test]
fn a_dump_verifies_and_every_damage_is_found() {
    let machine = machine(4);
    let dumped = machine.json(&["ledger", "dump", "dump"]);
    let info = machine.json(&["ledger", "info"]);
    assert_eq!((&dumped["manifest"]["size"], &dumped["manifest"]["root"]), (&4.into(), &info["root"]));
    let verified = machine.json(&["ledger", "verify", "dump"]);
    assert_eq!(
        (&verified["ok"], &verified["blocks"], &verified["songs"]),
        (&true.into(), &4.into(), &4.into())
    );
    assert_eq!((&verified["root"], &verified["head"]), (&info["root"], &info["head"]));
    let full = machine.json(&["ledger", "verify", "--full", "dump"]);
    assert_eq!(full["state_digest"].as_str().unwrap().len(), 64, "{full}");
    let network = verified["network"].as_str().unwrap();
    machine.json(&["ledger", "verify", "dump", "--network", network]);
    let other = "00".repeat(32);
    assert_eq!(failure(&machine, &["ledger", "verify", "dump", "--network", &other]).0, Some(5));
    assert_eq!(failure(&machine, &["ledger", "verify", "nowhere"]).0, Some(3));

    let whole = files(&machine.out().join("dump"));
    let written = |path: &str| machine.out().join("dump").join(path);
    let bad = |what: &str, index: Option<u64>| {
        let (code, first_bad, message) = failure(&machine, &["ledger", "verify", "dump"]);
        assert_eq!((code, first_bad.as_u64()), (Some(5), index), "{what}: {message}");
        assert!(message.contains(what), "{what}: {message}");
    };
    let bundle = "tile/entries/000.p/4";
    let bytes = whole[Path::new(bundle)].clone();
    let mut starts = vec![0];
    for _ in 0..4 {
        let at = *starts.last().unwrap();
        starts.push(at + 2 + usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]])));
    }
    // One bit in the middle of block 2.
    let mut flipped = bytes.clone();
    flipped[starts[2] + 400] ^= 4;
    fs::write(written(bundle), &flipped).unwrap();
    bad(bundle, Some(2));
    // Cut off inside block 3.
    fs::write(written(bundle), &bytes[..starts[3] + 100]).unwrap();
    bad(bundle, Some(3));
    // Blocks 1 and 2 swapped.
    let swapped = [
        &bytes[..starts[1]],
        &bytes[starts[2]..starts[3]],
        &bytes[starts[1]..starts[2]],
        &bytes[starts[3]..],
    ];
    fs::write(written(bundle), swapped.concat()).unwrap();
    bad(bundle, Some(1));
    fs::write(written(bundle), &bytes).unwrap();
    // Each file gone.
    for file in whole.keys() {
        let name = file.to_str().unwrap();
        if ["README.md", "DATA.md"].contains(&name) || name.ends_with(".proto") {
            continue;
        }
        fs::rename(written(name), machine.out().join("aside")).unwrap();
        bad(name, Some(0));
        fs::rename(machine.out().join("aside"), written(name)).unwrap();
    }
    machine.json(&["ledger", "verify", "dump"]);

    // It grows with the ledger.
    tunes(&machine.music(), 4..6, 12);
    machine.scan();
    cosign(&machine);
    machine.json(&["ledger", "dump", "dump"]);
    assert_eq!(machine.json(&["ledger", "verify", "dump"])["blocks"], 6);
}

#[test]
fn a_new_data_directory_starts_from_a_dump() {
    let machine = machine(3);
    machine.json(&["ledger", "dump", "dump"]);
    let dump = machine.out().join("dump");
    let dump = dump.to_str().unwrap();
    let other = Machine::new();
    let wrong = "11".repeat(32);
    assert_eq!(failure(&other, &["ledger", "load", dump, "--network", &wrong]).0, Some(5));
    assert!(!other.data().exists(), "nothing is made for a dump that is not wanted");
    let loaded = other.json(&["ledger", "load", dump]);
    assert_eq!((&loaded["loaded"], &loaded["blocks"]), (&3.into(), &3.into()));
    assert_eq!(other.json(&["ledger", "verify"])["root"], machine.json(&["ledger", "info"])["root"]);
    // Once more: nothing to do. More of it: only that.
    assert_eq!(other.json(&["ledger", "load", dump])["loaded"], 0);
    tunes(&machine.music(), 3..5, 12);
    machine.scan();
    cosign(&machine);
    machine.json(&["ledger", "dump", dump]);
    assert_eq!(other.json(&["ledger", "load", dump])["loaded"], 2);
    // It has the checkpoint too, and can prove and dump in its turn.
    other.json(&["ledger", "proof", "#4"]);
    other.json(&["ledger", "dump", "again"]);
    // The first dump may still have narrower tiles of its first checkpoint.
    let first = files(Path::new(dump));
    for (path, bytes) in files(&other.out().join("again")) {
        assert!(first.get(&path) == Some(&bytes), "{}", path.display());
    }

    // A directory of another network is left alone; a running peer too.
    let third = self::machine(1);
    let (code, _, message) = failure(&third, &["ledger", "load", dump]);
    assert_eq!(code, Some(2), "{message}");
    assert!(message.contains("another --data-dir"), "{message}");
    let peer = third.up(&[third.music().to_str().unwrap()]);
    let (code, _, message) = failure(&third, &["ledger", "load", dump]);
    assert_eq!(code, Some(1), "{message}");
    assert!(message.contains("a peer is running"), "{message}");
    drop(peer);
}

#[test]
fn a_log_that_is_served_verifies_and_loads_like_a_dump() {
    // More than two bundles, so that files are fetched ahead.
    const SONGS: u64 = 530;
    let machine = machine_of(SONGS, 4);
    let peer = machine.up(&["--serve-log", "127.0.0.1:0", machine.music().to_str().unwrap()]);
    let url = peer.ready["serve_log"].as_str().unwrap();
    let info = machine.json(&["ledger", "info"]);
    let other = Machine::new();
    let verified = other.json(&["ledger", "verify", url]);
    assert_eq!((&verified["blocks"], &verified["root"]), (&SONGS.into(), &info["root"]));
    let full = other.json(&["ledger", "verify", "--full", &format!("{url}/")]);
    assert_eq!(full["state_digest"].as_str().unwrap().len(), 64);
    assert_eq!(other.json(&["ledger", "load", url])["loaded"], SONGS);
    assert_eq!(other.json(&["ledger", "verify"])["root"], info["root"]);
    // The running peer makes dumps, and what it serves is what it writes.
    machine.json(&["ledger", "dump", "dump"]);
    for (path, bytes) in files(&machine.out().join("dump")) {
        let name = path.to_str().unwrap();
        if !["README.md", "DATA.md", "manifest.json"].contains(&name) && !name.ends_with(".proto") {
            assert!(get(url, &format!("/{name}")).body == bytes, "{name}");
        }
    }
    let manifest: Value = serde_json::from_slice(&get(url, "/manifest.json").body).unwrap();
    let written: Value =
        serde_json::from_slice(&fs::read(machine.out().join("dump/manifest.json")).unwrap()).unwrap();
    for field in ["format", "version", "network", "genesis_sha256", "first", "size", "root", "head"] {
        assert_eq!(manifest[field], written[field], "{field}");
    }
    let (code, _, message) = failure(&other, &["ledger", "verify", "http://127.0.0.1:1/"]);
    assert_eq!(code, Some(1), "{message}");
    let (code, _, message) = failure(&other, &["ledger", "verify", &format!("{url}/nothing")]);
    assert_eq!(code, Some(3), "{message}");
    assert!(message.contains("manifest.json"), "{message}");
}

#[test]
fn without_a_checkpoint_there_is_nothing_to_prove() {
    let machine = Machine::new();
    tunes(&machine.music(), 0..1, 12);
    machine.scan();
    let _ = fs::remove_file(machine.data().join("ledger/checkpoint"));
    for args in [&["ledger", "dump", "dump"][..], &["ledger", "proof", "#0"]] {
        let (code, _, message) = failure(&machine, args);
        assert_eq!(code, Some(3), "{message}");
        assert!(message.contains("checkpoint"), "{message}");
    }
}

/// A web server for a folder, in Python, so that it is not ours.
fn serve_folder(folder: &Path) -> (std::process::Child, String) {
    let mut child = std::process::Command::new("python3")
        .args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"])
        .arg(folder)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.split_whitespace().skip_while(|word| *word != "port").nth(1).unwrap();
    (child, format!("http://127.0.0.1:{port}"))
}

#[test]
fn any_web_server_can_offer_a_dump_that_has_grown() {
    if !common::have("python3") {
        return;
    }
    let machine = machine_of(200, 4);
    machine.json(&["ledger", "dump", "dump"]);
    let dump = machine.out().join("dump");
    let old = ["checkpoint", "manifest.json"].map(|name| (name, fs::read(dump.join(name)).unwrap()));
    tunes(&machine.music(), 200..260, 4);
    machine.scan();
    cosign(&machine);
    machine.json(&["ledger", "dump", "dump"]);
    assert!(!dump.join("tile/entries/000.p").exists() && dump.join("tile/entries/000").exists());
    let (mut server, url) = serve_folder(&dump);
    assert_eq!(machine.json(&["ledger", "verify", &url])["blocks"], 260);
    // Whoever has read the checkpoint before it grew takes the beginnings of the full files.
    for (name, bytes) in old {
        fs::write(dump.join(name), bytes).unwrap();
    }
    assert_eq!(machine.json(&["ledger", "verify", &url])["blocks"], 200);
    // A file that is wrong is named, and is no error of the network.
    fs::write(dump.join("tile/0/000"), [7; 8192]).unwrap();
    let (code, first_bad, message) = failure(&machine, &["ledger", "verify", &url]);
    assert_eq!((code, first_bad), (Some(5), 0.into()), "{message}");
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn a_dump_that_cannot_be_written_says_where() {
    let machine = machine(2);
    fs::write(machine.out().join("file"), "").unwrap();
    let (code, _, message) = failure(&machine, &["ledger", "dump", "file"]);
    assert!(code == Some(1) && message.contains("/out/file"), "{message}");
    let (code, _, message) = failure(&machine, &["ledger", "dump", "dump", "--from", "7"]);
    assert!(code == Some(2) && message.contains("256"), "{message}");

    let mut command = std::process::Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_antiphon")]);
    machine.dress(&mut command);
    let peer = machine.up_by(command, &[machine.music().to_str().unwrap()]);
    common::wait_scanned(&machine, 2);
    let pid = peer.pid().to_string();
    let limited = std::process::Command::new("prlimit").args(["--pid", &pid, "--fsize=100"]).status();
    assert!(limited.unwrap().success());
    let (code, _, message) = failure(&machine, &["ledger", "dump", "dump"]);
    assert!(
        code == Some(1) && message.contains("/out/dump/") && message.contains("File too large"),
        "{message}"
    );
    drop(peer);
    // With room again, it goes on.
    machine.json(&["ledger", "dump", "dump"]);
    machine.json(&["ledger", "verify", "dump"]);
}
