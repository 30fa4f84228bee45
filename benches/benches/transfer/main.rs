//! How fast a verified download is, beside the QUIC under it, and how long the first byte of a song takes. One process,
//! both ends, loopback.
//!
//! `cargo bench -p antiphon-benches --bench transfer -- [MiB] [rounds] [folder] [kinds]`, where kinds are the numbers of
//! those to measure, such as `0,2` (all by default), and `-- first-byte [times]`. Rounds are
//! interleaved so that a noisy machine disturbs all kinds alike; trust the ratios more than the rates. What other
//! programs do is in `benches/peers`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement, not a program"
)]

mod first_byte;
mod ours;
mod raw;
#[path = "../../../p2p/tests/common/relay.rs"]
mod relay;
mod served;

use std::path::PathBuf;

use antiphon_benches::Rounds;
use ours::QUIC;
use raw::Ends;
use served::OneFile;

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const NAMES: [&str; 5] = [
    "raw quinn, file to file",
    "raw quinn, memory to memory",
    "download from one source",
    "download from four sources",
    "download from one source over TCP",
];

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    if arguments.next_if(|argument| argument == "first-byte").is_some() {
        return first_byte::measure(arguments.next().map_or(20, |text| text.parse().unwrap())).await;
    }
    let mebibytes: usize = arguments.next().map_or(512, |text| text.parse().unwrap());
    let rounds: usize = arguments.next().map_or(7, |text| text.parse().unwrap());
    let folder =
        tempfile::tempdir_in(arguments.next().map_or_else(std::env::temp_dir, PathBuf::from)).unwrap();
    let bytes = mebibytes * 1024 * 1024;
    let (folder, file) = (folder.path(), OneFile::make(folder.path(), bytes as u64));
    let kinds = arguments.next().unwrap_or_else(|| "0,1,2,3,4".to_owned());
    let kinds: Vec<usize> = kinds.split(',').map(|kind| kind.parse().unwrap()).collect();
    let names: Vec<&str> = kinds.iter().map(|kind| NAMES[*kind]).collect();
    let mut measured = Rounds::new(&names, bytes);
    for round in 0..=rounds {
        for place in measured.order(round) {
            let cost = match kinds[place] {
                0 => raw::transfer(Ends::Files(file.path.clone(), folder.join("moved"))).await,
                1 => raw::transfer(Ends::Memory(bytes)).await,
                2 => ours::download(QUIC, 1, &file, folder).await,
                3 => ours::download(QUIC, 4, &file, folder).await,
                _ => ours::download(TCP, 1, &file, folder).await,
            };
            println!("round {round}: {:<34} {:6.0} MiB/s", names[place], mebibytes as f64 / cost.seconds);
            // The first round warms caches up.
            if round > 0 {
                measured.add(place, cost);
            }
        }
    }
    println!("{}", measured.table());
}
