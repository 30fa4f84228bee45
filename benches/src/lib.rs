//! What the benches share: medians, ratios, songs and real music.
//!
//! Machines are noisy, so every bench runs its subject and its peer in turn, in the same run, and reports the ratio
//! of the medians. Nothing here is a test.

pub mod presence;

use std::{path::PathBuf, process::Command};

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
