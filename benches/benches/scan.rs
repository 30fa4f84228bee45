//! Analysing files (decode, fingerprint, tags) on one core against `fpcalc` on one core, file by file in turn.
//!
//! `cargo bench -p antiphon-benches --bench scan [FILE...]`. Without files: tracks of Debian's music packages, and
//! encodings of some of them in every container that `ffmpeg` makes.
#![allow(clippy::print_stdout, reason = "a bench prints its table")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use antiphon_benches::{encode, median, package_music};
use antiphon_fingerprint::{Analyzer, AnalyzerConfig};

const ROUNDS: usize = 3;
const ENCODINGS: [(&str, &[&str]); 9] = [
    ("mp3", &["-b:a", "192k"]),
    ("flac", &[]),
    ("m4a", &["-b:a", "160k"]),
    ("aac", &["-b:a", "160k"]),
    ("opus", &["-b:a", "128k"]),
    ("wav", &[]),
    ("aiff", &[]),
    ("mka", &["-c:a", "libvorbis", "-q:a", "5"]),
    ("wma", &["-b:a", "160k"]),
];

fn main() {
    let named: Vec<PathBuf> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).map(PathBuf::from).collect();
    let Ok(folder) = tempfile::tempdir() else { return println!("no room for temporary files") };
    let files = if named.is_empty() { mix(folder.path()) } else { named };
    if files.is_empty() {
        return println!("no music: install wesnoth-1.16-music, asc-music and ffmpeg, or name files");
    }
    let analyzer = Analyzer::new(AnalyzerConfig::default());
    let mut by_kind: BTreeMap<String, (f64, f64, usize)> = BTreeMap::new();
    for file in &files {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(time(|| analyzer.analyze(file).is_ok()));
            theirs.push(time(|| fpcalc(file)));
        }
        let kind = file.extension().unwrap_or_default().to_string_lossy().into_owned();
        let sum = by_kind.entry(kind).or_default();
        *sum = (sum.0 + median(&ours), sum.1 + median(&theirs), sum.2 + 1);
    }
    println!(
        "| container | files | antiphon, ms a file | fpcalc, ms a file | times faster |\n|---|---|---|---|---|"
    );
    let mut all = (0.0, 0.0, 0);
    for (kind, sum) in &by_kind {
        row(kind, *sum);
        all = (all.0 + sum.0, all.1 + sum.1, all.2 + sum.2);
    }
    row("all", all);
}

#[allow(clippy::cast_precision_loss, reason = "a few hundred files")]
fn row(kind: &str, (ours, theirs, files): (f64, f64, usize)) {
    let each = 1_000.0 / files as f64;
    println!("| {kind} | {files} | {:.1} | {:.1} | {:.2} |", ours * each, theirs * each, theirs / ours);
}

fn time(work: impl FnOnce() -> bool) -> f64 {
    let start = Instant::now();
    assert!(work(), "a file could not be analysed");
    start.elapsed().as_secs_f64()
}

/// The whole program, as a scan by `fpcalc` would run it: its start is some milliseconds of it. It ends with an error
/// after printing the fingerprint of a file of less than 120 s.
fn fpcalc(file: &Path) -> bool {
    let ran = Command::new("fpcalc").arg(file).stdout(Stdio::null()).stderr(Stdio::null()).status();
    ran.is_ok()
}

fn mix(folder: &Path) -> Vec<PathBuf> {
    let mut files = package_music(&["asc-music"]);
    let wesnoth = package_music(&["wesnoth-1.16-music"]);
    files.extend(wesnoth.iter().take(8).cloned());
    for (number, source) in wesnoth.iter().skip(8).take(3).enumerate() {
        for (extension, args) in ENCODINGS {
            let target = folder.join(format!("{number}.{extension}"));
            if encode(source, &target, args) {
                files.push(target);
            }
        }
    }
    files
}
