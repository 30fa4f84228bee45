//! How fast durable batches are appended, beside a plain file that takes the same bytes with the same syncs.
//!
//! `cargo bench -p antiphon-benches --bench append -- [BLOCKS [DIRECTORY]]`
//!
//! Four ways in turns, batch by batch, on the same disk in the same run:
//! - plain: one file, one write and one fdatasync for each batch;
//! - store: segments, index and folds, without the state machine;
//! - follow: a follower's append, with every rule, signature, hash and seal;
//! - order: propose, seal and append, as the sequencer does.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints what it measured")]

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use antiphon_benches::{NOW_MS, song};
use antiphon_ledger::{
    Ledger, Options, SealedBatch,
    bench::{RawSong, append_raw},
    seal::Sealer,
};
use antiphon_proto::{
    ContentHash, SecretKey, SongId,
    wire::{Genesis, Registration, Song},
};

const BATCH: usize = 256;

fn open(dir: &Path, genesis: &Genesis) -> Ledger {
    Ledger::open(dir, Options::without_rule(Some(genesis.clone()))).unwrap()
}

#[derive(Default)]
struct Times([Vec<Duration>; 4]);

impl Times {
    fn add(&mut self, way: usize, work: impl FnOnce()) {
        let start = Instant::now();
        work();
        self.0[way].push(start.elapsed());
    }

    fn print(&self) {
        let rate = |times: &[Duration]| {
            let total: Duration = times.iter().sum();
            (times.len() * BATCH) as f64 / total.as_secs_f64()
        };
        let plain = rate(&self.0[0]);
        for (name, times) in ["plain", "store", "follow", "order"].iter().zip(&self.0) {
            let mut sorted = times.clone();
            sorted.sort_unstable();
            println!(
                "{name:7} {:>9.0} blocks/s   {:.2} of plain   median batch {:>6.2} ms   slowest {:>7.2} ms",
                rate(times),
                rate(times) / plain,
                sorted[sorted.len() / 2].as_secs_f64() * 1e3,
                sorted[sorted.len() - 1].as_secs_f64() * 1e3,
            );
        }
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let blocks: usize = args.next().map_or(20_480, |text| text.parse().unwrap());
    let base = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let scratch = tempfile::tempdir_in(base).unwrap();
    let dir = |name: &str| scratch.path().join(name);

    let member = SecretKey::from_seed(&[1; 32]);
    let genesis = Genesis {
        stamp_bits: 0,
        batch_quota: u32::MAX,
        ..Genesis::new("bench", NOW_MS, [0; 16], &[member.public()])
    };
    let sealer = Sealer::new(&genesis, member).unwrap();
    let registrant = SecretKey::from_seed(&[2; 32]);
    let before = resident_kib();
    let (order, follow, store) =
        (open(&dir("order"), &genesis), open(&dir("follow"), &genesis), open(&dir("store"), &genesis));
    println!("three ledgers opened: {} KiB each", (resident_kib() - before) / 3);
    let mut plain = File::create(dir("plain")).unwrap();

    let mut times = Times::default();
    let mut bytes = 0;
    for batch in 0..(blocks / BATCH).max(1) {
        let songs: Vec<Song> =
            (0..BATCH).map(|n| song((batch * BATCH + n) as u64, &genesis, &registrant)).collect();
        let raw: Vec<RawSong> = songs
            .iter()
            .map(|song| RawSong { content: song.content().unwrap(), song_id: SongId(song.id().0) })
            .collect();
        let registrations: Vec<_> = songs.into_iter().map(Registration::of_song).collect();
        let mut sealed = None;
        times.add(3, || {
            let proposal = order.propose(NOW_MS, &registrations).unwrap();
            let seal = sealer.seal(&proposal);
            let batch = SealedBatch { first: proposal.first, blocks: proposal.blocks, seal };
            order.append(&batch).unwrap();
            sealed = Some(batch);
        });
        let sealed = sealed.unwrap();
        times.add(2, || drop(follow.append(&sealed).unwrap()));
        let all: Vec<u8> = sealed.blocks.iter().flatten().copied().collect();
        // In turns, so that neither always pays for what the other left to the disk.
        for way in if batch % 2 == 0 { [0, 1] } else { [1, 0] } {
            times.add(way, || match way {
                0 => plain.write_all(&all).and_then(|()| plain.sync_data()).unwrap(),
                _ => append_raw(&store, &sealed.blocks, &raw, &sealed.seal).unwrap(),
            });
        }
        bytes += sealed.blocks.iter().map(Vec::len).sum::<usize>();
    }
    println!(
        "{} blocks of {} bytes in batches of {BATCH}",
        order.size(),
        bytes / BATCH / (blocks / BATCH).max(1)
    );
    times.print();
    reads(&order);
    let size = order.size();
    order.close().unwrap();
    drop(order);
    let start = Instant::now();
    let order = open(&dir("order"), &genesis);
    println!("reopened after a clean end: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    assert_eq!(order.size(), size);
    drop((order, follow));
    let start = Instant::now();
    let follow = open(&dir("follow"), &genesis);
    println!("reopened without one: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    drop(follow);
    std::fs::remove_dir_all(dir("follow").join("index")).unwrap();
    let start = Instant::now();
    let follow = open(&dir("follow"), &genesis);
    println!("reopened without index: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    let info = follow.info();
    println!(
        "on disk {:.3} of the blocks' bytes; resident {} KiB",
        info.disk_bytes as f64 / info.bytes as f64,
        resident_kib()
    );
    let start = Instant::now();
    follow.verify(false, &mut |_| {}).unwrap();
    println!("verified in {:.2} s", start.elapsed().as_secs_f64());
}

fn reads(ledger: &Ledger) {
    let size = ledger.size();
    let start = Instant::now();
    let mut at = 1;
    for _ in 0..10_000 {
        at = (at * 48_271) % size.max(2);
        ledger.block(at).unwrap();
        at += 1;
    }
    println!("block by index: {:.1} us", start.elapsed().as_secs_f64() * 1e6 / 1e4);
    let start = Instant::now();
    for number in 0..10_000u64 {
        let hash = ContentHash(*blake3::hash(&(number % size).to_le_bytes()).as_bytes());
        ledger.by_content(&hash).unwrap().unwrap();
    }
    println!("block by content hash: {:.1} us", start.elapsed().as_secs_f64() * 1e6 / 1e4);
    let start = Instant::now();
    for number in 0..10_000u64 {
        let hash = ContentHash(*blake3::hash(&(u64::MAX - number).to_le_bytes()).as_bytes());
        assert!(ledger.by_content(&hash).unwrap().is_none());
    }
    println!("content hash that is not there: {:.1} us", start.elapsed().as_secs_f64() * 1e6 / 1e4);
}
