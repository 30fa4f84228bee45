//! What the benches share: medians, ratios, processor time, songs and real music.
//!
//! Machines are noisy, so every bench runs its subject and its peer in turn, in the same run, and reports the ratio
//! of the medians. Nothing here is a test.

pub mod http;
pub mod names;
pub mod presence;
pub mod process;

use std::{path::PathBuf, process::Command, time::Instant};

use antiphon_proto::{
    SecretKey,
    wire::{Genesis, Song},
};

/// When the networks of benches begin, in milliseconds since 1970.
pub const NOW_MS: u64 = 1_700_000_000_000;
/// Bytes of the fingerprint that a registration of a real song holds, in the median.
const FINGERPRINT: usize = 2_532;

/// A registration of usual size, signed, without a work stamp; `number` makes its content, title and fingerprint.
#[must_use]
pub fn song(number: u64, genesis: &Genesis, registrant: &SecretKey) -> Song {
    let mut fingerprint = vec![0; FINGERPRINT];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut fingerprint);
    let mut song = Song {
        registrant: registrant.public().0.to_vec(),
        fingerprint,
        content_hash: blake3::hash(&number.to_le_bytes()).as_bytes().to_vec(),
        container: 2,
        bytes: 30_000_000,
        duration_ms: 240_000,
        title: format!("A song with a title of usual length, number {number}"),
        artist: "An artist with a usual name".to_owned(),
        album: "An album of songs".to_owned(),
        album_artist: "An artist with a usual name".to_owned(),
        genre: "Electronic".to_owned(),
        year: 2020,
        track: 4,
        isrc: "GBAYE6700150".to_owned(),
        mbid: vec![7; 16],
        created_ms: NOW_MS,
        ..Song::default()
    };
    song.sign(&genesis.network_id(), registrant);
    song
}

/// The middle value; 0 when there is none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

/// Processor time of this process so far, user and system, on all cores, in seconds. 0 where there is no `/proc`.
#[must_use]
pub fn processor_seconds() -> f64 {
    processor_seconds_of(std::process::id())
}

/// The same of another process.
#[must_use]
pub fn processor_seconds_of(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name of the program, in parentheses, may hold spaces; both times are the 12th and 13th field behind it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// Physical memory of a process in bytes. 0 where there is no `/proc`.
#[must_use]
pub fn resident_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

/// What one transfer took.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Seconds on the clock.
    pub seconds: f64,
    /// Processor seconds of both ends together.
    pub processor: f64,
}

/// Measures from [`Self::start`] to [`Self::stop`].
#[derive(Debug)]
pub struct Stopwatch {
    start: Instant,
    processor: f64,
}

impl Stopwatch {
    /// Begins now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now(), processor: processor_seconds() }
    }

    /// What has passed.
    #[must_use]
    pub fn stop(&self) -> Cost {
        let processor = processor_seconds() - self.processor;
        Cost { seconds: self.start.elapsed().as_secs_f64(), processor }
    }
}

/// Costs of several kinds of transfer, round by round; the first kind is the yardstick.
#[derive(Debug)]
pub struct Rounds {
    names: Vec<String>,
    costs: Vec<Vec<Cost>>,
    mebibytes: f64,
}

impl Rounds {
    /// For transfers of `bytes` of the kinds `names`.
    #[must_use]
    pub fn new(names: &[&str], bytes: usize) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Self { costs: vec![Vec::new(); names.len()], names, mebibytes: bytes as f64 / f64::from(1 << 20) }
    }

    /// The kinds in the order of a round: another one begins each time, and every other round goes backwards, so that
    /// none is always first or always behind the same one.
    pub fn order(&self, round: usize) -> impl Iterator<Item = usize> + use<> {
        let count = self.names.len();
        (0..count).map(move |place| {
            let place = (place + round / 2) % count;
            if round.is_multiple_of(2) { place } else { count - 1 - place }
        })
    }

    /// Adds what a kind took in the next round.
    pub fn add(&mut self, kind: usize, cost: Cost) {
        self.costs[kind].push(cost);
    }

    /// A table in Markdown: medians, with the slowest and the fastest in parentheses. The ratio to the yardstick is the
    /// median of the ratios in each round: what else the machine does changes both more than their ratio.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!(
            "| | MiB/s | of {} | CPU s/GiB |\n|---|---|---|---|\n",
            self.names.first().map_or("", String::as_str)
        );
        for (name, costs) in self.names.iter().zip(&self.costs) {
            let rates: Vec<f64> = costs.iter().map(|cost| self.mebibytes / cost.seconds).collect();
            let pairs = self.costs[0].iter().zip(costs);
            let ratios: Vec<f64> = pairs.map(|(base, cost)| base.seconds / cost.seconds).collect();
            let processor: Vec<f64> =
                costs.iter().map(|cost| cost.processor * 1024.0 / self.mebibytes).collect();
            text += &format!(
                "| {name} | {} | {} | {} |\n",
                spread(&rates, 0),
                spread(&ratios, 2),
                spread(&processor, 2)
            );
        }
        text
    }
}

/// The median, and the smallest and the largest value in parentheses.
#[must_use]
pub fn spread(values: &[f64], decimals: usize) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.decimals$} ({least:.decimals$} to {most:.decimals$})", median(values))
}

/// Audio files of Debian packages that are installed.
#[must_use]
pub fn package_music(packages: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for package in packages {
        let Ok(listed) = Command::new("dpkg").args(["-L", package]).output() else { continue };
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        files
            .extend(listed.lines().filter(|l| l.ends_with(".ogg") || l.ends_with(".mp3")).map(PathBuf::from));
    }
    files.sort();
    files
}

/// Encodes `source` with `ffmpeg` into `target`; its extension names the container.
#[must_use]
pub fn encode(source: &PathBuf, target: &PathBuf, args: &[&str]) -> bool {
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y", "-i"])
        .arg(source)
        .args(["-map", "0:a:0"])
        .args(args)
        .arg(target)
        .status();
    made.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(&[]).abs() < f64::EPSILON);
    }
}
