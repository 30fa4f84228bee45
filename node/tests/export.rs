//! Exports, read by a program that is not ours: DuckDB runs the very queries of `docs/DATA.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::{Machine, python, tunes, wait_scanned};
use serde_json::{Value, json};

/// Runs SQL in `folder` and prints the rows as JSON.
const SCRIPT: &str = "
import duckdb, json, os, sys
os.chdir(sys.argv[1])
print(json.dumps([duckdb.sql(query).fetchall() for query in sys.argv[2:]], default=str))
";

fn duckdb(python: &Path, folder: &Path, queries: &[&str]) -> Vec<Value> {
    let output = Command::new(python).args(["-c", SCRIPT]).arg(folder).args(queries).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The queries of the documentation, in their order.
fn documented() -> Vec<&'static str> {
    let text = include_str!("../../docs/DATA.md");
    text.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// Every file of a folder, with its bytes.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

fn sample_artist(machine: &Machine) {
    let settings = machine.path("home").join(".config/antiphon");
    fs::create_dir_all(&settings).unwrap();
    fs::write(settings.join("config.toml"), "[library]\nartist_names = [\"Antiphon\"]\n").unwrap();
}

#[test]
fn duckdb_answers_the_documented_queries() {
    let machine = Machine::new();
    sample_artist(&machine);
    let peer = machine.up(&[]);
    let wallet = wait_scanned(&machine, 3)["wallet"].clone();
    // Through the running peer, into paths relative to the command.
    let export = ["ledger", "export", "--parquet", "export", "--jsonl", "ledger.jsonl"];
    let report = machine.json(&export);
    assert_eq!((&report["blocks"], &report["files_written"]), (&3.into(), &8.into()), "{report}");
    let lines = fs::read_to_string(machine.out().join("ledger.jsonl")).unwrap();
    let blocks: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shown = machine.json(&["ledger", "show", "#1"]);
    assert_eq!((blocks.len(), &blocks[1]["hash"]), (3, &shown["hash"]));
    drop(peer);

    let Some(python) = python("duckdb==2.0.0", "duckdb") else { return };
    let mut answers = duckdb(&python, &machine.out(), &documented()).into_iter();
    let artists = answers.next().unwrap();
    assert_eq!((&artists[0][0], &artists[0][1]), (&json!("Antiphon"), &json!(3)), "{artists}");
    assert_eq!(answers.next().unwrap(), json!([]));
    assert_eq!(answers.next().unwrap(), json!([[0, wallet, 100.0]]));
    let bytes: u64 = blocks.iter().map(|block| block["bytes"].as_u64().unwrap()).sum();
    assert_eq!(answers.next().unwrap(), json!([["song", 3, bytes]]));

    // What the tables say is what the lines say, hashes and NULLs included.
    let rows = duckdb(
        &python,
        &machine.out(),
        &[
            "SELECT * FROM 'export/blocks/*.parquet' ORDER BY index",
            "SELECT song_id, content_hash, hex(fingerprint), mbid, created_ms, price, container
             FROM 'export/songs/*.parquet' ORDER BY index",
        ],
    );
    for (position, block) in blocks.iter().enumerate() {
        let fields = ["index", "height", "time_ms", "kind", "prev", "hash", "bytes", "leaf_hash"];
        let expected: Vec<&Value> = fields.iter().map(|field| &block[field]).collect();
        assert_eq!(rows[0][position], json!(expected));
        let song = &block["song"];
        let fingerprint = song["fingerprint"].as_str().unwrap().to_uppercase();
        let expected = json!([
            song["id"],
            song["content_hash"],
            fingerprint,
            Value::Null,
            song["created_ms"],
            0,
            song["container"]
        ]);
        assert_eq!(rows[1][position], expected);
    }
}

#[test]
fn exports_grow_and_are_never_half_written() {
    let machine = Machine::new();
    tunes(&machine.music(), 0..2, 15);
    machine.scan();
    let export = ["ledger", "export", "--parquet", "a", "--jsonl", "b"];
    machine.json(&export);
    let first = files(&machine.out());
    assert_eq!(first.len(), 10, "{:?}", first.iter().map(|(path, _)| path).collect::<Vec<_>>());
    // Nothing new: nothing is written.
    let report = machine.json(&export);
    assert_eq!((&report["files_written"], &report["files_kept"]), (&0.into(), &8.into()), "{report}");
    assert_eq!(files(&machine.out()), first);
    // A file that was removed comes back as it was.
    fs::remove_file(machine.out().join("a/songs/000000000000.parquet")).unwrap();
    machine.json(&export);
    assert_eq!(files(&machine.out()), first);
    tunes(&machine.music(), 2..3, 15);
    machine.scan();
    let report = machine.json(&export);
    assert_eq!((&report["blocks"], &report["files_written"]), (&3.into(), &8.into()), "{report}");
    assert_eq!(files(&machine.out()).len(), 10);

    // The folder of another network is left alone.
    let other = Machine::new();
    tunes(&other.music(), 0..1, 15);
    other.scan();
    let output = other.run(&["ledger", "export", "--parquet", machine.out().join("a").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("another folder"), "{output:?}");
}

#[test]
fn what_stands_in_the_way_is_said() {
    let machine = Machine::new();
    tunes(&machine.music(), 0..2, 15);
    machine.scan();
    fs::write(machine.out().join("file"), "").unwrap();
    let said = |args: &[&str]| {
        let output = machine.run(args);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let errors = said(&["ledger", "export", "--parquet", "file"]);
    assert!(errors.contains("cannot make the folder") && errors.contains("/out/file"), "{errors}");
    let errors = said(&["ledger", "export", "--jsonl", "/dev/null"]);
    assert!(errors.contains("neither a file nor a folder"), "{errors}");
    assert_eq!(machine.run(&["ledger", "export"]).status.code(), Some(2));
}

#[test]
fn a_full_disk_leaves_nothing_half_written() {
    let machine = Machine::new();
    tunes(&machine.music(), 0..2, 15);
    machine.scan();
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_antiphon")]);
    machine.dress(&mut command);
    let peer = machine.up_by(command, &[machine.music().to_str().unwrap()]);
    wait_scanned(&machine, 2);
    // From now on, the peer cannot make a file longer than a kilobyte.
    let pid = peer.pid().to_string();
    assert!(Command::new("prlimit").args(["--pid", &pid, "--fsize=1024"]).status().unwrap().success());
    for (format, file) in [("--jsonl", "x.jsonl"), ("--parquet", "x")] {
        let output = machine.run(&["ledger", "export", format, file]);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("/out/x") && errors.contains("File too large"), "{errors}");
    }
    let mut left = files(&machine.out());
    left.retain(|(path, _)| !path.ends_with("parquet.json"));
    assert_eq!(left, [], "nothing half written is left");
}
