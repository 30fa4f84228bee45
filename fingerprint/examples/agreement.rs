//! Compares this crate with `fpcalc` on installed music and on re-encodings of it; prints a Markdown table.
//!
//! Usage: `agreement [folder for the encodings] [tracks to encode]`. Needs `fpcalc`, `ffmpeg` and `jmac`, and the
//! Debian packages `wesnoth-1.16-music asc-music amoebax-data`.

#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program that prints a table")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::PathBuf;

use antiphon_fingerprint::{Analyzer, AnalyzerConfig};
use support::{ENCODINGS, Table, compare, encode, package_music};

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let folder = arguments.next().map_or_else(|| std::env::temp_dir().join("agreement"), PathBuf::from);
    let tracks = arguments.next().and_then(|n| n.to_string_lossy().parse().ok()).unwrap_or(6usize);
    std::fs::create_dir_all(&folder).expect("the folder for the encodings");
    let analyzer = Analyzer::new(AnalyzerConfig::default());
    let music = package_music(100_000);
    let mut table = Table::new();
    for path in &music {
        let kind = path.extension().unwrap_or_default().to_string_lossy();
        compare(&mut table, &format!("packages: {kind}"), &analyzer, path, path);
    }
    let step = (music.len() / tracks.max(1)).max(1);
    for track in music.iter().step_by(step).take(tracks) {
        for encoding in ENCODINGS {
            let path = encode(track, encoding, &folder, 150);
            // fpcalc 1.5.1 decodes Monkey's Audio wrongly.
            let reference = if encoding.extension == "ape" {
                encode(track, &ENCODINGS[12], &folder, 150)
            } else {
                path.clone()
            };
            compare(&mut table, encoding.name, &analyzer, &path, &reference);
        }
    }
    print(&table);
}

fn print(table: &Table) {
    println!(
        "| files | count | identical | bit error rate, median | worst | items more or less | duration, s off | CPU ms a file | fpcalc | times faster |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let (mut ours, mut theirs, mut files, mut same) = (0.0, 0.0, 0, 0);
    for (name, row) in table {
        let count = row.differences.len();
        let (median, worst) = row.rates();
        let length = row.differences.iter().map(|d| d.length).max().unwrap_or(0);
        let (own, fpcalc) = (row.cpu.0 * 1e3 / count as f64, row.cpu.1 * 1e3 / count as f64);
        println!(
            "| {name} | {count} | {} | {median:.5} | {worst:.5} | {length} | {:.3} | {own:.0} | {fpcalc:.0} | {:.2} |",
            row.identical(),
            row.worst_duration,
            fpcalc / own
        );
        ours += row.cpu.0;
        theirs += row.cpu.1;
        files += count;
        same += row.identical();
    }
    println!(
        "| all | {files} | {same} | | | | | {:.0} | {:.0} | {:.2} |",
        ours * 1e3 / files as f64,
        theirs * 1e3 / files as f64,
        theirs / ours
    );
}
