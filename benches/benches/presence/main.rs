//! Who is online, at 1,000, 10,000 and 100,000 peers: bytes, times and memory, in virtual time.
//!
//! `cargo bench -p antiphon-benches --bench presence [-- traffic | times | memory]`
//!
//! See `antiphon_benches::presence` for what is real and what is a model. Everything but memory is the same in every run.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints what it measured")]

mod flow;
mod times;
mod traffic;

use std::process::Command;

use antiphon_benches::presence::memory;

/// Connections of a peer, and of a mini-node in all its shards together.
const CONNECTIONS: usize = 48;
const OF_MINI_NODE: usize = 1_024;
const SIZES: [u32; 3] = [1_000, 10_000, 100_000];
const SEED: u64 = 20;

fn float(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}

/// Each table in a process of its own, so that nothing else is in its memory.
fn memory_of(tables: &[[u32; 4]]) {
    println!("## Memory of the table\n");
    println!(
        "| peers | songs each | ledger | libraries | pages, B a song | as the core says | taken from the system | B a song | after a snapshot and a song more for each |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for table in tables {
        let arguments: Vec<String> = table.iter().map(u32::to_string).collect();
        let made = Command::new(std::env::current_exe().unwrap()).arg("table").args(arguments).output();
        print!("{}", String::from_utf8(made.unwrap().stdout).unwrap());
    }
    println!();
}

fn table([peers, songs, ledger, albums]: [u32; 4]) {
    let table = memory::fill(peers, songs, ledger, albums == 1, SEED);
    let mb = |bytes: u64| float(bytes / 1_000) / 1_000.0;
    let a_song = |bytes: u64| match table.songs {
        0 => "–".to_owned(),
        all => format!("{:.2}", float(bytes) / float(all)),
    };
    let libraries = match (songs, albums) {
        (0, _) => "none known",
        (_, 1) => "albums of 12",
        _ => "single songs",
    };
    println!(
        "| {} | {songs} | {ledger} | {libraries} | {} | {:.0} MB | {:.0} MB | {} | {:.0} MB |",
        table.peers,
        a_song(table.pages),
        mb(table.said as u64),
        mb(table.resident),
        a_song(table.resident),
        mb(table.changed),
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let wanted = |name: &str| arguments.first().is_none_or(|argument| argument == name);
    if arguments.first().is_some_and(|argument| argument == "table") {
        let numbers: Vec<u32> = arguments[1..].iter().map(|number| number.parse().unwrap()).collect();
        return table(numbers.try_into().unwrap());
    }
    if wanted("traffic") {
        traffic::sizes();
        traffic::one_topic();
        traffic::settings();
        traffic::shards();
    }
    if wanted("times") {
        times::run();
        times::witnesses();
    }
    if wanted("memory") {
        let (small, large) = (1_000_000, 10_000_000);
        memory_of(&[
            [10_000, 0, small, 0],
            [100_000, 0, small, 0],
            [10_000, 1_000, small, 0],
            [10_000, 10_000, small, 0],
            [10_000, 10_000, small, 1],
            [10_000, 10_000, large, 0],
            [10_000, 10_000, large, 1],
            [10_000, 10_000, 100_000_000, 0],
        ]);
    }
}
