//! The match rule and the index on real music: re-encodes of installed tracks find their original and nothing else.
//!
//! Needs `fpcalc`, `ffmpeg` and the Debian packages named below. Where they are missing the test says so and does nothing,
//! except in CI, where it fails.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of a test fail by panicking"
)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use antiphon_fingerprint::index::{Fetched, Index};
use antiphon_fingerprint::matching::{Candidate, compare};

const PACKAGES: [&str; 3] = ["wesnoth-1.16-music", "asc-music", "amoebax-data"];

/// Tracks that are re-encoded; all others are there to not be found.
const ENCODED: usize = 4;

/// Length of those: enough for the whole fingerprint, short enough to encode quickly.
const LENGTHS_MS: std::ops::Range<u32> = 45_000..200_000;

/// Name, file name extension and what `ffmpeg` is told.
const ENCODINGS: [(&str, &str, &[&str]); 5] = [
    ("mp3 at 64 kbit/s", "mp3", &["-b:a", "64k"]),
    ("ogg at 96 kbit/s", "ogg", &["-c:a", "libvorbis", "-b:a", "96k"]),
    ("first 2 s cut", "mp3", &["-ss", "2", "-b:a", "128k"]),
    ("6 dB quieter, opus", "opus", &["-af", "volume=-6dB", "-b:a", "64k"]),
    (
        "mono at 22 kHz with a second of silence first",
        "mp3",
        &["-af", "adelay=1000:all=1", "-ac", "1", "-ar", "22050"],
    ),
];

struct Track {
    path: PathBuf,
    items: Vec<u32>,
    duration_ms: u32,
}

impl Track {
    fn candidate(&self) -> Candidate<'_> {
        Candidate::new(&self.items, self.duration_ms)
    }
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn fpcalc(path: &Path) -> Track {
    // Some files end in a broken frame, which fpcalc reports by its exit status after the whole result.
    let output = Command::new("fpcalc").args(["-raw", "-json"]).arg(path).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let items = json["fingerprint"].as_array().unwrap().iter();
    let items = items.map(|item| u32::try_from(item.as_u64().unwrap()).unwrap()).collect();
    let duration_ms = (json["duration"].as_f64().unwrap() * 1_000.0) as u32;
    Track { path: path.into(), items, duration_ms }
}

/// The installed tracks, or why there are none.
fn music() -> Result<Vec<PathBuf>, String> {
    output("ffmpeg", &["-version"]).ok_or("there is no ffmpeg")?;
    output("fpcalc", &["-version"]).ok_or("there is no fpcalc")?;
    let mut paths = Vec::new();
    for package in PACKAGES {
        let files = output("dpkg", &["-L", package]).ok_or(format!("package {package} is not installed"))?;
        let music = files.lines().filter(|file| file.contains("/music/")).map(PathBuf::from);
        paths.extend(music.filter(|path| path.extension().is_some_and(|e| e == "ogg" || e == "mp3")));
    }
    paths.sort();
    if paths.len() < 40 { Err(format!("only {} tracks are installed", paths.len())) } else { Ok(paths) }
}

/// Does the work of each number below `jobs` on all processors, in no order.
fn in_parallel<T: Send>(jobs: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut done: BTreeMap<usize, T> = BTreeMap::new();
    std::thread::scope(|scope| {
        let worker = || {
            let numbers = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
            numbers.take_while(|&job| job < jobs).map(|job| (job, work(job))).collect::<Vec<_>>()
        };
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        handles.into_iter().for_each(|handle| done.extend(handle.join().unwrap()));
    });
    done.into_values().collect()
}

fn encode(
    original: &Track,
    (_, extension, arguments): (&str, &str, &[&str]),
    folder: &Path,
    job: usize,
) -> Track {
    let path = folder.join(format!("{job}.{extension}"));
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y", "-threads", "1", "-i"])
        .arg(&original.path)
        .args(["-map", "0:a:0", "-map_metadata", "-1"])
        .args(arguments)
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success(), "{}", original.path.display());
    let track = fpcalc(&path);
    std::fs::remove_file(&path).unwrap();
    track
}

#[test]
fn re_encodes_find_their_original_and_nothing_else() {
    let paths = match music() {
        Ok(paths) => paths,
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "{why}");
            eprintln!("skipped: {why}");
            return;
        }
    };
    let tracks = in_parallel(paths.len(), |job| fpcalc(&paths[job]));
    let folder = tempfile::tempdir().unwrap();
    let mut index = Index::open(&folder.path().join("index.redb")).unwrap();
    for (key, track) in (0u64..).zip(&tracks) {
        index.insert(key, &track.items, track.duration_ms).unwrap();
        if key % 16 == 0 {
            index.flush().unwrap();
        }
    }
    let suitable: Vec<usize> =
        (0..tracks.len()).filter(|&at| LENGTHS_MS.contains(&tracks[at].duration_ms)).collect();
    let chosen: Vec<usize> =
        suitable.iter().step_by((suitable.len() / ENCODED).max(1)).copied().take(ENCODED).collect();
    assert_eq!(chosen.len(), ENCODED);

    let copies = in_parallel(ENCODED * ENCODINGS.len(), |job| {
        let original = &tracks[chosen[job / ENCODINGS.len()]];
        encode(original, ENCODINGS[job % ENCODINGS.len()], folder.path(), job)
    });
    let mut fetch = |key: u64| {
        let track = &tracks[usize::try_from(key).unwrap()];
        Ok::<Fetched, Infallible>(Some((track.items.clone(), track.duration_ms)))
    };
    let mut worst = 0;
    for (job, copy) in copies.iter().enumerate() {
        let (at, name) = (chosen[job / ENCODINGS.len()], ENCODINGS[job % ENCODINGS.len()].0);
        let original = tracks[at].path.display();
        let found = index.find(&copy.items, copy.duration_ms, &mut fetch).unwrap();
        let found = found.unwrap_or_else(|| panic!("{name} of {original} found nothing"));
        assert_eq!(found.key, at as u64, "{name} of {original} found another track");
        worst = worst.max(found.comparison.rate().per_10_000());
        for (other, track) in tracks.iter().enumerate().filter(|(other, _)| *other != at) {
            let comparison = compare(copy.candidate(), track.candidate());
            assert!(
                !comparison.is_match(),
                "{name} of {original} matches {}: {comparison:?}",
                tracks[other].path.display()
            );
        }
    }
    eprintln!("{} copies found, at most {worst} of 10,000 bits wrong", copies.len());
    for (at, track) in tracks.iter().enumerate() {
        for other in &tracks[at + 1..] {
            let comparison = compare(track.candidate(), other.candidate());
            let pair = (track.path.display(), other.path.display());
            assert!(!comparison.is_match(), "{} matches {}: {comparison:?}", pair.0, pair.1);
        }
    }
}
