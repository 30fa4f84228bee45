//! Fills a near-duplicate index with synthetic songs and prints what it costs, as a Markdown table.
//!
//! `cargo run --release --example index_scale -- [SONGS, default 100000] [FOLDER, default the temporary one]`
#![allow(clippy::print_stdout, reason = "the figures are this program's output")]

use std::convert::Infallible;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use antiphon_fingerprint::index::{Fetched, Index};
use antiphon_fingerprint::matching::{Candidate, MAX_ITEMS, MatchRule, Query, mix};

/// Queries of each kind that are timed.
const QUERIES: u64 = 2_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let songs: u64 = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let path = folder.join("antiphon-index-scale.redb");
    println!("| {songs} songs | |\n|---|---|");
    let mut index = fill(&path, songs)?;
    let stats = index.stats()?;
    row("postings", format!("{}", stats.postings));
    row(
        "file",
        format!(
            "{} B/song, {:.2} B/posting",
            stats.file_bytes / songs,
            per(stats.file_bytes, stats.postings)
        ),
    );
    row("most runs in a partition", format!("{}", stats.longest_run_list));
    queries(&index, songs)?;
    comparisons();
    row("memory", format!("{} now, {} at most", status("VmRSS:")?, status("VmHWM:")?));

    // What a kill leaves behind: the file as it is while this process has it open.
    let killed = folder.join("antiphon-index-killed.redb");
    std::fs::copy(&path, &killed)?;
    index.flush()?;
    drop(index);
    row("opening", format!("{:?}", opening(&path)?));
    row("opening after a kill", format!("{:?}", opening(&killed)?));
    std::fs::remove_file(&path)?;
    Ok(std::fs::remove_file(&killed)?)
}

fn fill(path: &Path, songs: u64) -> Result<Index, Box<dyn Error>> {
    let mut index = Index::create_fresh(path)?;
    let written = io("write_bytes:")?;
    let (mut inserting, mut flushes) = (Duration::ZERO, Vec::new());
    for key in 0..songs {
        let items = song(key);
        let start = Instant::now();
        index.insert(key, &items, duration(key))?;
        inserting += start.elapsed();
        if index.should_flush() {
            let start = Instant::now();
            index.flush()?;
            flushes.push(start.elapsed());
        }
    }
    index.flush()?;
    row("inserting a song into memory", format!("{:?}", inserting / u32::try_from(songs)?));
    let total: Duration = flushes.iter().sum();
    row("flushing", format!("{} times, {total:?} in all, {}", flushes.len(), spread(&mut flushes)));
    row("written to the disk", format!("{} B/song", (io("write_bytes:")? - written) / songs));
    Ok(index)
}

fn queries(index: &Index, songs: u64) -> Result<(), Box<dyn Error>> {
    let (mut known, mut unknown, mut found) = (Vec::new(), Vec::new(), 0);
    for number in 0..QUERIES {
        let key = (number * 7_919_993) % songs;
        // A re-encode: one item in eight has a wrong bit.
        let items: Vec<u32> =
            song(key).into_iter().map(|x| x ^ u32::from(mix(x).is_multiple_of(8))).collect();
        let start = Instant::now();
        let keys = index.candidates(&items, duration(key))?;
        known.push(start.elapsed());
        found += u64::from(keys.first() == Some(&key));
        let items = song(songs + number);
        let start = Instant::now();
        index.candidates(&items, 200_000)?;
        unknown.push(start.elapsed());
    }
    row("query, a copy", spread(&mut known));
    row("query, a new song", spread(&mut unknown));
    row("copies found", format!("{found} of {QUERIES}"));
    let mut fetch = |key: u64| Ok::<Fetched, Infallible>(Some((song(key), duration(key))));
    let start = Instant::now();
    index.find(&song(5), duration(5), &mut fetch)?;
    row("finding one, with its comparison", format!("{:?}", start.elapsed()));
    Ok(())
}

fn comparisons() {
    let (a, b) = (song(1), song(2));
    let time = |a: &[u32], b: &[u32]| {
        let query = Query::new(MatchRule::V1, Candidate::new(a, 1));
        let start = Instant::now();
        for _ in 0..100 {
            std::hint::black_box(query.compare(Candidate::new(b, 1)));
        }
        format!("{:?}", start.elapsed() / 100)
    };
    row("comparison", time(&a, &b));
    row("comparison at worst, all items equal", time(&[7; MAX_ITEMS], &[7; MAX_ITEMS]));
}

/// 948 items of which, as in music, every fourth repeats the one before.
fn song(key: u64) -> Vec<u32> {
    let mut state = (key + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let [a, b, c, d, ..] = state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    };
    let mut last = 0;
    (0..948)
        .map(|_| {
            let item = next();
            last = if item % 4 == 0 { last } else { item };
            last
        })
        .collect()
}

fn duration(key: u64) -> u32 {
    120_000 + mix(u32::try_from(key).unwrap_or(0)) % 240_000
}

fn opening(path: &Path) -> Result<Duration, Box<dyn Error>> {
    let start = Instant::now();
    let index = Index::open(path)?;
    let taken = start.elapsed();
    index.candidates(&song(1), duration(1))?;
    Ok(taken)
}

fn row(what: &str, value: String) {
    println!("| {what} | {value} |");
}

fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    format!("median {:?}, 99 % {:?}, longest {:?}", at(50), at(99), times.last().copied().unwrap_or_default())
}

fn per(bytes: u64, number: u64) -> f64 {
    let whole = |n: u64| f64::from(u32::try_from(n >> 8).unwrap_or(u32::MAX));
    whole(bytes) / whole(number.max(256))
}

fn status(field: &str) -> Result<String, Box<dyn Error>> {
    line("/proc/self/status", field)
}

fn io(field: &str) -> Result<u64, Box<dyn Error>> {
    Ok(line("/proc/self/io", field)?.parse()?)
}

fn line(file: &str, field: &str) -> Result<String, Box<dyn Error>> {
    let text = std::fs::read_to_string(file)?;
    let found = text.lines().find_map(|line| line.strip_prefix(field));
    Ok(found.unwrap_or("0").trim().to_owned())
}
