//! Size and speed, on songs that are made up. Not part of the tests: `docs/measurements.md` has the command and what it
//! printed.

use std::{fmt::Write as _, fs, sync::Arc, time::Instant};

use antiphon_proto::wire::Song;

use super::{super::*, NETWORK};

/// Songs by number: words as often as in languages (Zipf), a dozen tracks to an album, albums by artists of any fame,
/// and every eighth block a variant.
struct Made(u64);

/// Different numbers that look random for different inputs.
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A word of an invented language; low numbers are common.
fn word(number: u64) -> String {
    const HEADS: [&str; 16] =
        ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "st", "tr", "gl"];
    const TAILS: [&str; 8] = ["a", "e", "i", "o", "u", "an", "or", "el"];
    let mut text = String::new();
    let mut rest = mix(number) >> 8;
    for _ in 0..2 + number.checked_ilog(40).unwrap_or(0).min(3) {
        text += HEADS[(rest % 16) as usize];
        text += TAILS[(rest / 16 % 8) as usize];
        rest /= 128;
    }
    text
}

/// Some words, with numbers that fall off as one over rank among `vocabulary`.
fn phrase(seed: u64, words: u64, vocabulary: f64) -> String {
    let mut text = String::new();
    for at in 0..words {
        let even = (mix(seed.wrapping_mul(31).wrapping_add(at)) >> 11) as f64 / (1u64 << 53) as f64;
        let _ = write!(text, "{} ", word(vocabulary.powf(even) as u64));
    }
    text.trim_end().to_owned()
}

impl Blocks for Made {
    fn size(&self) -> u64 {
        self.0
    }

    fn entry(&self, index: u64) -> Result<Entry> {
        if index % 8 == 7 {
            return Ok(Entry::Variant { song: index - 1 - mix(index) % 6 });
        }
        let album = index / 14;
        let artist = mix(album) % (self.0 / 60 + 1);
        Ok(Entry::Song(Box::new(Song {
            title: phrase(index, 1 + mix(index) % 5, 200_000.0),
            artist: phrase(artist ^ 0xa, 1 + artist % 3, 50_000.0),
            album: phrase(album ^ 0xb, 1 + album % 4, 100_000.0),
            genre: phrase(artist % 300, 1, 300.0),
            track: (index % 14) as u32 + 1,
            year: 1960 + (album % 65) as u32,
            duration_ms: 200_000,
            ..Song::default()
        })))
    }

    fn hash(&self, index: u64) -> Result<Option<[u8; 32]>> {
        Ok((index < self.0).then(|| *blake3::hash(&index.to_le_bytes()).as_bytes()))
    }

    fn variants(&self, _: &Song) -> Result<Vec<u64>> {
        Ok(Vec::new())
    }
}

fn memory(line: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let found = status.lines().find(|found| found.starts_with(line)).unwrap();
    found.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_024
}

/// Median and highest of some runs, in milliseconds.
fn timed(mut work: impl FnMut(u64)) -> (f64, f64) {
    let mut times: Vec<f64> = (0..15)
        .map(|run| {
            let started = Instant::now();
            work(run);
            started.elapsed().as_secs_f64() * 1_000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() - 1])
}

#[test]
#[ignore = "a measurement"]
fn size_and_speed() {
    let number = |name: &str, usual: u64| std::env::var(name).map_or(usual, |text| text.parse().unwrap());
    let songs = number("SONGS", 100_000);
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("search");
    let blocks = Arc::new(Made(songs));
    let index = Index::new(&root, &NETWORK, blocks.clone());
    let before = memory("VmRSS");
    let started = Instant::now();
    index.update(&|| false, &|_| {}).unwrap();
    let took = started.elapsed().as_secs_f64();
    let files: Vec<u64> =
        fs::read_dir(&root).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).collect();
    eprintln!(
        "{songs} blocks: {:.0} a second, {:.1} bytes each, {} files; memory before {before} MB, at most {} MB, after {} MB",
        songs as f64 / took,
        files.iter().sum::<u64>() as f64 / songs as f64,
        files.len(),
        memory("VmHWM"),
        memory("VmRSS"),
    );
    drop(index);
    let index = Index::new(&root, &NETWORK, blocks);
    let started = Instant::now();
    index.open().unwrap();
    eprintln!(
        "opened and checked in {:.0} ms, {} MB",
        started.elapsed().as_secs_f64() * 1_000.0,
        memory("VmRSS")
    );
    let page = Page { offset: 0, limit: 50 };
    let titles: Vec<String> =
        (0..15).map(|at| phrase(at * 14 % songs, 1 + mix(at * 14) % 5, 200_000.0)).collect();
    let common = word(3);
    let measure = |what: &str, work: &mut dyn FnMut(u64) -> u64| {
        let mut found = 0;
        let (median, most) = timed(|run| found = work(run));
        eprintln!("{what}: {median:.1} ms, at most {most:.1} ms, {found} found, {} MB", memory("VmRSS"));
    };
    let find = |text: &str| index.search(text, page, None).unwrap().total;
    measure("a title", &mut |run| find(&titles[run as usize]));
    measure("a common word", &mut |_| find(&common));
    measure("one letter", &mut |_| find("s"));
    measure("two words with errors", &mut |_| find(&format!("{}x {}y", word(900), word(3))));
    measure("long words with errors", &mut |_| find("stranelorxtran glorstanelx"));
    measure("sixteen words", &mut |_| find(&titles.join(" ")));
    let mut sources = ListedSources::default();
    let served = number("ONLINE", 100_000).min(songs);
    for at in 0..served {
        let index = (mix(at / 50) % (songs / 50 + 1)) * 50 + at % 50;
        for peer in 0..1 + mix(at) % 3 {
            sources.add(index.min(songs - 1), (mix(at / 1_000 + peer) % 400) as u32);
        }
    }
    measure("a common word, online", &mut |_| index.search(&common, page, Some(&sources)).unwrap().total);
    for scope in [Scope::Counts, Scope::Artists, Scope::Genres, Scope::Albums, Scope::Tracks] {
        measure(&format!("{scope:?} of {served} online"), &mut |_| {
            let found = index.discover(scope, &Filter::default(), &sources, page).unwrap();
            found.counts.map_or(0, |counts| counts.tracks)
                + found.artists.map_or(0, |list| list.total)
                + found.genres.map_or(0, |list| list.total)
                + found.albums.map_or(0, |list| list.total)
                + found.tracks.map_or(0, |list| list.total)
        });
    }
    index.rest(Duration::ZERO);
    eprintln!("at rest: {} MB", memory("VmRSS"));
}
