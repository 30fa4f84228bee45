//! Software that we did not write verifies our dumps: aics-tlog (PyPI), which knows the C2SP formats and nothing of us.
//!
//! It is installed into the target directory when the test runs first. Without Python 3.11 or the package index the
//! test is skipped, and says so; with `CI` set it fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use antiphon_ledger::dump;
use antiphon_proto::{
    PublicKey, SecretKey,
    genesis::quorum,
    note::{cosigner_key, origin, verifier_key},
};
use common::{
    key,
    logs::{cosigned, grow, open},
    member,
};
use serde_json::json;

const PACKAGE: &str = "aics-tlog==0.2.1";

fn run(program: &Path, args: &[&str]) -> Result<Output, String> {
    let output = Command::new(program).args(args).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(output)
    } else {
        Err(format!("{args:?}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// A Python that is new enough, the newest first.
fn python() -> Result<PathBuf, String> {
    let test = "import sys, venv; sys.exit(sys.version_info < (3, 11))";
    let names = ["python3.14", "python3.13", "python3.12", "python3.11", "python3"].map(PathBuf::from);
    let found = names.into_iter().find(|name| run(name, &["-c", test]).is_ok());
    found.ok_or_else(|| "there is no Python 3.11 or newer with venv".to_owned())
}

/// The Python of an environment that has the package.
fn environment() -> Result<PathBuf, String> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(PACKAGE.replace("==", "-"));
    let program = dir.join("bin/python");
    if run(&program, &["-c", "import aics_tlog"]).is_err() {
        let dir = dir.to_str().ok_or("the target directory's name is not UTF-8")?;
        run(&python()?, &["-m", "venv", "--clear", dir])?;
        // It asks for 3.12 and runs on 3.11 as well, which is what Debian 12 has.
        run(&program, &["-m", "pip", "install", "--quiet", "--ignore-requires-python", PACKAGE])?;
    }
    Ok(program)
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[test]
fn aics_tlog_verifies_a_dump() {
    let program = match environment() {
        Ok(program) => program,
        Err(why) if env::var_os("CI").is_some() => panic!("{PACKAGE} cannot be had: {why}"),
        Err(why) => {
            // Not by a macro: the test harness keeps what those print to itself.
            let _ = writeln!(std::io::stderr(), "SKIPPED: {PACKAGE} cannot be had: {why}");
            return;
        }
    };
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ledger = open(dir.path());
    let secrets = [member(), key(1), key(2), key(3)];
    let members: Vec<PublicKey> = secrets.iter().map(SecretKey::public).collect();
    grow(&ledger, 1_500, 300);
    let old = cosigned(&ledger, 900, &secrets);
    ledger.put_checkpoint(&cosigned(&ledger, 1_500, &secrets[..3]), &members).unwrap();
    dump::write(&ledger, out.path(), 0, &mut |_| {}).unwrap();

    let hexes = |hashes: Vec<[u8; 32]>| hashes.iter().map(|hash| hex(hash)).collect::<Vec<_>>();
    let blocks: Vec<_> = [0u64, 1, 255, 256, 1_279, 1_280, 1_499]
        .into_iter()
        .map(|index| {
            let proof = hexes(ledger.inclusion_proof(index, 1_500).unwrap().unwrap());
            json!({ "index": index, "bytes": hex(&ledger.block(index).unwrap().unwrap()), "proof": proof })
        })
        .collect();
    let name = origin(&ledger.network());
    let task = json!({
        "dump": out.path(),
        "log": verifier_key(&name, &members[0]),
        "members": members.iter().map(cosigner_key).collect::<Vec<_>>(),
        "quorum": quorum(members.len()),
        "old": String::from_utf8(old).unwrap(),
        "consistency": hexes(ledger.consistency_proof(900, 1_500).unwrap().unwrap()),
        "blocks": blocks,
        "damage": [
            "checkpoint", "tile/0/000", "tile/0/005.p/220", "tile/1/000.p/5", "tile/entries/003",
            "tile/entries/005.p/220",
        ],
    });
    let file = out.path().join("task.json");
    fs::write(&file, task.to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/third_party/check.py");
    let output = run(&program, &[script.to_str().unwrap(), file.to_str().unwrap()]).unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "ok: 1500 blocks, 7 tiles, 6 bundles, 26 changes refused\n");
}
