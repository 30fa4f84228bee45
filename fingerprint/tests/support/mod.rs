//! Real music, its re-encodings and `fpcalc`, for the comparison tests and the agreement example.

#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test stops where it goes wrong"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use antiphon_fingerprint::{Analysis, Analyzer};

/// Debian packages with freely licensed music.
pub const PACKAGES: [&str; 3] = ["wesnoth-1.16-music", "asc-music", "amoebax-data"];

/// One way to encode a track.
pub struct Encoding {
    /// Name in the table.
    pub name: &'static str,
    /// File name extension.
    pub extension: &'static str,
    /// Arguments for `ffmpeg` between input and output; empty for Monkey's Audio.
    pub arguments: &'static [&'static str],
    /// Whether every sample of the original survives.
    pub lossless: bool,
}

const fn lossy(name: &'static str, extension: &'static str, arguments: &'static [&'static str]) -> Encoding {
    Encoding { name, extension, arguments, lossless: false }
}

const fn lossless(
    name: &'static str,
    extension: &'static str,
    arguments: &'static [&'static str],
) -> Encoding {
    Encoding { name, extension, arguments, lossless: true }
}

/// All eleven containers, with the codecs that are common in them.
pub const ENCODINGS: &[Encoding] = &[
    lossy("mp3 128 kbit/s", "mp3", &["-c:a", "libmp3lame", "-b:a", "128k"]),
    lossy("mp3 320 kbit/s", "mp3", &["-c:a", "libmp3lame", "-b:a", "320k"]),
    lossy("mp3 V4, 48 kHz", "mp3", &["-ar", "48000", "-c:a", "libmp3lame", "-q:a", "4"]),
    lossy(
        "mp3 without tags",
        "mp3",
        &["-c:a", "libmp3lame", "-b:a", "160k", "-write_xing", "0", "-id3v2_version", "0"],
    ),
    lossy("ogg vorbis", "ogg", &["-c:a", "libvorbis", "-q:a", "5"]),
    lossless("ogg flac", "oga", &["-c:a", "flac", "-f", "ogg"]),
    lossless("flac", "flac", &["-c:a", "flac"]),
    lossless("flac 24 bit, 96 kHz", "flac", &["-ar", "96000", "-sample_fmt", "s32", "-c:a", "flac"]),
    lossy("m4a aac", "m4a", &["-c:a", "aac", "-b:a", "160k"]),
    lossless("m4a alac", "m4a", &["-c:a", "alac"]),
    lossy("aac adts", "aac", &["-c:a", "aac", "-b:a", "128k", "-f", "adts"]),
    lossy("opus", "opus", &["-c:a", "libopus", "-b:a", "96k"]),
    lossless("wav", "wav", &["-c:a", "pcm_s16le"]),
    lossless("wav 24 bit", "wav", &["-c:a", "pcm_s24le"]),
    lossless("wav float", "wav", &["-c:a", "pcm_f32le"]),
    lossless("aiff", "aiff", &["-c:a", "pcm_s16be"]),
    lossy("mka vorbis", "mka", &["-c:a", "libvorbis", "-q:a", "5"]),
    lossy("mka opus", "mka", &["-c:a", "libopus", "-b:a", "96k"]),
    lossy("mka aac", "mka", &["-c:a", "aac", "-b:a", "160k"]),
    lossless("mka flac", "mka", &["-c:a", "flac"]),
    lossy("wma 2", "wma", &["-c:a", "wmav2", "-b:a", "128k"]),
    lossless("ape", "ape", &[]),
];

/// Says why a test does nothing, or fails where everything has to be installed.
pub fn skip_or_fail(missing: &str) {
    assert!(std::env::var_os("CI").is_none(), "{missing} is missing, and CI must have it");
    eprintln!("SKIPPED: {missing} is missing");
}

/// Whether a program can be started.
pub fn has_program(name: &str) -> bool {
    let status = Command::new(name).arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok()
}

/// The songs of the packages that are installed, sounds under `min_bytes` left out.
pub fn package_music(min_bytes: u64) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for package in PACKAGES {
        let Ok(output) = Command::new("dpkg").args(["-L", package]).output() else { continue };
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let path = PathBuf::from(line);
            let audio = path.extension().is_some_and(|e| e == "ogg" || e == "mp3");
            if audio && fs::metadata(&path).is_ok_and(|m| m.is_file() && m.len() >= min_bytes) {
                found.push(path);
            }
        }
    }
    found
}

/// Encodes up to `seconds` of a track. The result is kept if it is there already.
pub fn encode(track: &Path, encoding: &Encoding, folder: &Path, seconds: u32) -> PathBuf {
    let stem = track.file_stem().unwrap().to_string_lossy();
    let label = encoding.name.replace([' ', '/', ','], "_");
    let target = folder.join(format!("{stem}.{label}.{}", encoding.extension));
    if target.exists() {
        return target;
    }
    if encoding.extension == "ape" {
        let wav = ENCODINGS.iter().find(|e| e.name == "wav").unwrap();
        let source = encode(track, wav, folder, seconds);
        run(Command::new("jmac").arg("c2").arg(source).arg(&target));
        return target;
    }
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-y", "-i"]).arg(track);
    command.args(["-t", &seconds.to_string(), "-vn", "-map_metadata", "0:s:0"]);
    command.args(encoding.arguments).arg(&target);
    run(&mut command);
    target
}

/// Runs a program that has to succeed.
pub fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What `fpcalc` says: raw items and the duration in seconds.
pub fn fpcalc(path: &Path) -> Option<(Vec<u32>, f64)> {
    let output = Command::new("fpcalc").args(["-raw", "-json"]).arg(path).output().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let items = answer["fingerprint"].as_array()?.iter().map(|item| item.as_u64().unwrap() as u32).collect();
    Some((items, answer["duration"].as_f64()?))
}

/// How two fingerprints of the same audio differ.
#[derive(Debug, Clone, Copy, Default)]
pub struct Difference {
    /// Bits that differ, over the common length.
    pub errors: u32,
    /// Bits compared.
    pub bits: u32,
    /// Items that one has more.
    pub length: usize,
}

impl Difference {
    /// Compares item by item, without any offset.
    pub fn of(a: &[u32], b: &[u32]) -> Self {
        let errors = a.iter().zip(b).map(|(x, y)| (x ^ y).count_ones()).sum();
        let common = a.len().min(b.len());
        Self { errors, bits: common as u32 * 32, length: a.len().abs_diff(b.len()) }
    }

    /// Bit error rate.
    pub fn rate(&self) -> f64 {
        f64::from(self.errors) / f64::from(self.bits.max(1))
    }

    /// Bit by bit the same.
    pub fn identical(&self) -> bool {
        self.errors == 0 && self.length == 0
    }
}

/// One line of the comparison.
#[derive(Debug, Default)]
pub struct Row {
    /// One for each file.
    pub differences: Vec<Difference>,
    /// Seconds that our duration is away from the reference, the worst.
    pub worst_duration: f64,
    /// CPU seconds of this crate and of `fpcalc`.
    pub cpu: (f64, f64),
}

impl Row {
    /// Files that agree bit by bit.
    pub fn identical(&self) -> usize {
        self.differences.iter().filter(|d| d.identical()).count()
    }

    /// Median and worst bit error rate.
    pub fn rates(&self) -> (f64, f64) {
        let mut rates: Vec<f64> = self.differences.iter().map(Difference::rate).collect();
        rates.sort_by(f64::total_cmp);
        (rates[rates.len() / 2], rates[rates.len() - 1])
    }
}

/// The comparison, by container and codec.
pub type Table = BTreeMap<String, Row>;

/// Compares one file; `reference` is the file that `fpcalc` gets.
pub fn compare(
    table: &mut Table,
    name: &str,
    analyzer: &Analyzer,
    path: &Path,
    reference: &Path,
) -> Analysis {
    let before = own_cpu_seconds();
    let children = child_cpu_seconds();
    let analysis = analyzer.analyze(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let own = own_cpu_seconds() - before + child_cpu_seconds() - children;
    let children = child_cpu_seconds();
    let (items, seconds) = fpcalc(reference).unwrap_or_else(|| panic!("fpcalc {}", reference.display()));
    let theirs = child_cpu_seconds() - children;
    let row = table.entry(name.to_owned()).or_default();
    row.differences.push(Difference::of(analysis.fingerprint.items(), &items));
    row.worst_duration = row.worst_duration.max((f64::from(analysis.duration_ms) / 1000.0 - seconds).abs());
    row.cpu.0 += own;
    row.cpu.1 += theirs;
    analysis
}

/// CPU time of this thread, from the scheduler's statistics.
fn own_cpu_seconds() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// CPU time of the children that have ended, in steps of 10 ms.
fn child_cpu_seconds() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(13) + ticks(14)) / 100.0
}
