//! Fingerprints against `fpcalc` (Chromaprint 1.5.1), on real music and on all kinds of re-encodings of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test stops where it goes wrong"
)]

mod support;

use std::path::{Path, PathBuf};

use antiphon_fingerprint::{Analyzer, AnalyzerConfig};
use support::{ENCODINGS, Encoding, Table, compare, encode, has_program, package_music, skip_or_fail};

/// Length of the encodings: enough for 140 items, short enough for a test.
const SECONDS: u32 = 20;

fn analyzer() -> Analyzer {
    Analyzer::new(AnalyzerConfig::default())
}

/// A few tracks of the packages, or a visible reason why not.
fn music(count: usize) -> Option<Vec<PathBuf>> {
    for program in ["fpcalc", "ffmpeg", "jmac"] {
        if !has_program(program) {
            skip_or_fail(program);
            return None;
        }
    }
    let all = package_music(300_000);
    if all.len() < count {
        skip_or_fail("the music of wesnoth-1.16-music, asc-music and amoebax-data");
        return None;
    }
    let step = all.len() / count;
    Some(all.into_iter().step_by(step).take(count).collect())
}

fn wav() -> &'static Encoding {
    ENCODINGS.iter().find(|encoding| encoding.name == "wav").unwrap()
}

/// The file whose fingerprint and duration are the truth for an encoding.
fn reference(track: &Path, encoding: &Encoding, path: &Path, folder: &Path) -> PathBuf {
    // fpcalc 1.5.1 decodes Monkey's Audio wrongly.
    if encoding.extension == "ape" { encode(track, wav(), folder, SECONDS) } else { path.to_owned() }
}

#[test]
fn package_music_is_identical() {
    let Some(mut tracks) = music(6) else { return };
    tracks.extend(
        package_music(300_000).into_iter().filter(|path| path.extension().is_some_and(|e| e == "mp3")),
    );
    let mut table = Table::new();
    for track in &tracks {
        compare(&mut table, "packages", &analyzer(), track, track);
    }
    let row = &table["packages"];
    assert_eq!(row.identical(), tracks.len(), "{row:?}");
    assert!(row.worst_duration <= 0.1, "{row:?}");
}

#[test]
fn encodings_agree() {
    let Some(tracks) = music(2) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut table = Table::new();
    for track in &tracks {
        for encoding in ENCODINGS {
            let path = encode(track, encoding, folder.path(), SECONDS);
            let reference = reference(track, encoding, &path, folder.path());
            let analysis = compare(&mut table, encoding.name, &analyzer(), &path, &reference);
            assert_eq!(analysis.lossless, encoding.lossless, "{}", path.display());
            // Encoders pad, so a lossy file may be some frames longer than its source.
            let milliseconds = f64::from(analysis.duration_ms) - f64::from(SECONDS) * 1_000.0;
            assert!(milliseconds.abs() <= 100.0, "{}: {milliseconds} ms off", path.display());
        }
    }
    for (name, row) in &table {
        let (median, worst) = row.rates();
        eprintln!(
            "{name}: {} of {} identical, {median:.5} {worst:.5}",
            row.identical(),
            row.differences.len()
        );
        if name.contains("opus") || name.contains("wma") {
            // Opus: two decoders of different authors. WMA: fpcalc loses the last packet.
            assert!(worst <= 0.005, "{name}: {row:?}");
        } else {
            assert_eq!(row.identical(), row.differences.len(), "{name}: {row:?}");
        }
        assert!(row.differences.iter().all(|difference| difference.length <= 1), "{name}: {row:?}");
        // FFmpeg guesses the length of a raw AAC stream from its bit rate.
        let tolerance = if name == "aac adts" { f64::INFINITY } else { 0.1 };
        assert!(row.worst_duration <= tolerance, "{name}: {row:?}");
    }
}

#[test]
fn odd_rates_and_channels_agree() {
    const ODD: &[Encoding] = &[
        odd("mono 8 kHz", &["-ar", "8000", "-ac", "1"]),
        odd("stereo 11.025 kHz", &["-ar", "11025"]),
        odd("stereo 22.05 kHz", &["-ar", "22050"]),
        odd("stereo 32 kHz", &["-ar", "32000"]),
        odd("stereo 88.2 kHz", &["-ar", "88200"]),
        odd("stereo 192 kHz", &["-ar", "192000"]),
        odd("5.1", &["-af", "pan=5.1|FL=FL|FR=FR|FC=0.5*FL+0.5*FR|LFE=FL|BL=FR|BR=FL"]),
        odd("u8", &["-c:a", "pcm_u8"]),
        odd("s32", &["-c:a", "pcm_s32le"]),
        odd("f64", &["-c:a", "pcm_f64le"]),
        odd("mu-law", &["-c:a", "pcm_mulaw"]),
    ];
    let Some(tracks) = music(1) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut table = Table::new();
    for encoding in ODD {
        let path = encode(&tracks[0], encoding, folder.path(), SECONDS);
        compare(&mut table, encoding.name, &analyzer(), &path, &path);
    }
    for (name, row) in &table {
        let (_, worst) = row.rates();
        eprintln!("{name}: {} identical, {worst:.5}", row.identical());
        assert!(worst <= 0.002, "{name}: {row:?}");
    }
}

const fn odd(name: &'static str, arguments: &'static [&'static str]) -> Encoding {
    Encoding { name, extension: "wav", arguments, lossless: true }
}
