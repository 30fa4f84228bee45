//! Downloads of ours beside raw quinn and iroh-blobs, in one run. One process, both ends, loopback.
//!
//! `antiphon-peers [MiB] [rounds] [folder]`. It runs only where there is no network but loopback (the manifest says
//! how): peers of others have a will of their own, and nothing that they might send may leave this machine.

mod iroh_blobs_peer;
#[path = "../../benches/transfer/ours.rs"]
mod ours;
#[path = "../../benches/transfer/raw.rs"]
mod raw;
#[path = "../../benches/transfer/served.rs"]
mod served;

use std::path::PathBuf;

use antiphon_benches::Rounds;
use anyhow::ensure;
use iroh_blobs_peer::Cipher;
use ours::QUIC;
use raw::Ends;
use served::OneFile;

const NAMES: [&str; 6] = [
    "raw quinn, file to file",
    "raw quinn, memory to memory",
    "download from one source",
    "download from four sources",
    "iroh-blobs",
    "iroh-blobs, ChaCha20 as the others",
];

/// Fails when there is an interface besides loopback.
fn only_loopback() -> anyhow::Result<()> {
    let table = std::fs::read_to_string("/proc/self/net/dev")?;
    let names = table.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim()));
    let others: Vec<&str> = names.filter(|name| *name != "lo").collect();
    ensure!(others.is_empty(), "not where {others:?} could be reached: see benches/peers/Cargo.toml");
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    only_loopback()?;
    let mut arguments = std::env::args().skip(1);
    let mebibytes: usize = arguments.next().map_or(Ok(512), |text| text.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(7), |text| text.parse())?;
    let folder = tempfile::tempdir_in(arguments.next().map_or_else(std::env::temp_dir, PathBuf::from))?;
    let bytes = mebibytes * 1024 * 1024;
    let (folder, file) = (folder.path(), OneFile::make(folder.path(), bytes as u64));
    let mut measured = Rounds::new(&NAMES, bytes);
    for round in 0..=rounds {
        for kind in measured.order(round) {
            let cost = match kind {
                0 => raw::transfer(Ends::Files(file.path.clone(), folder.join("moved"))).await,
                1 => raw::transfer(Ends::Memory(bytes)).await,
                2 => ours::download(QUIC, 1, &file, folder).await,
                3 => ours::download(QUIC, 4, &file, folder).await,
                4 => iroh_blobs_peer::fetch(Cipher::ItsOwn, &file, folder).await?,
                _ => iroh_blobs_peer::fetch(Cipher::ChaCha20, &file, folder).await?,
            };
            println!("round {round}: {:<36} {:6.0} MiB/s", NAMES[kind], mebibytes as f64 / cost.seconds);
            // The first round warms caches up.
            if round > 0 {
                measured.add(kind, cost);
            }
        }
    }
    println!("{}", measured.table());
    Ok(())
}
