//! Replays a dump through every rule of the ledger and prints the digest of the state that it leads to, which must be
//! the same in every build and on every machine.
//!
//! `cargo run --release -p antiphon-ledger --example replay -- DUMP`
//!
//! For another architecture, with Debian's cross compiler and emulator:
//! `cargo build --release -p antiphon-ledger --example replay --target aarch64-unknown-linux-gnu`
//! `qemu-aarch64-static -L /usr/aarch64-linux-gnu target/aarch64-unknown-linux-gnu/release/examples/replay DUMP`
#![allow(clippy::print_stdout, reason = "a program that prints one line")]

use std::{error::Error, path::Path};

use antiphon_ledger::{
    Ledger, Options,
    dump::{self, DirSource, VerifyOptions},
};
use antiphon_proto::wire::Genesis;

fn main() -> Result<(), Box<dyn Error>> {
    let dump = std::env::args_os().nth(1).ok_or("usage: replay DUMP")?;
    let dump = Path::new(&dump);
    let genesis = Genesis::parse(&std::fs::read(dump.join("genesis"))?)?;
    let home = std::env::temp_dir().join(format!("antiphon-replay-{}", std::process::id()));
    let ledger = Ledger::open(&home, Options::without_rule(Some(genesis)))?;
    let report = {
        let options = VerifyOptions { replay: Some(&ledger), ..VerifyOptions::default() };
        dump::verify(&mut DirSource::new(dump), &options, &mut |_| {})
    };
    drop(ledger);
    std::fs::remove_dir_all(&home)?;
    let report = report?;
    let digest = report.state.map(|digest| digest.to_string()).unwrap_or_default();
    println!("{} blocks, root {}, state {digest}", report.size, report.root);
    Ok(())
}
