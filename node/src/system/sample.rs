//! Three short pieces that the peer makes itself, so that a first try needs no music of one's own.
//!
//! They are computed, note by note, and dedicated to the public domain (CC0 1.0). The arithmetic is in integers, so
//! that every machine makes the same bytes and a network of first tries holds three songs, not three a peer.

use std::{fs, io, path::Path};

use super::durable;

const RATE: u32 = 22_050;
const SINE: [i32; 65] = quarter_sine();

struct Piece {
    file: &'static str,
    title: &'static str,
    /// Milliseconds a note.
    pace: u32,
    /// Semitones above A2 (110 Hz); a rest is 99.
    melody: &'static [u8],
    /// The answer that joins in, half a phrase later.
    answer: &'static [u8],
}

const PIECES: [Piece; 3] = [
    Piece {
        file: "01 - Call.wav",
        title: "Call",
        pace: 430,
        melody: &[12, 14, 15, 19, 17, 15, 14, 12, 99, 19, 20, 19, 17, 15, 17, 12],
        answer: &[0, 0, 7, 7, 3, 3, 5, 5, 0, 0, 8, 8, 7, 7, 5, 0],
    },
    Piece {
        file: "02 - Response.wav",
        title: "Response",
        pace: 360,
        melody: &[24, 22, 19, 17, 19, 99, 15, 17, 19, 22, 24, 26, 27, 99, 24, 19],
        answer: &[5, 5, 5, 3, 3, 3, 10, 10, 8, 8, 8, 7, 7, 7, 5, 5],
    },
    Piece {
        file: "03 - Together.wav",
        title: "Together",
        pace: 510,
        melody: &[16, 16, 18, 19, 21, 19, 18, 16, 23, 21, 19, 18, 16, 14, 12, 99],
        answer: &[4, 4, 11, 11, 9, 9, 6, 6, 7, 7, 2, 2, 4, 4, 0, 0],
    },
];

/// Makes the sample folder if it is not complete.
///
/// # Errors
/// When a file cannot be written.
pub fn ensure(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (number, piece) in PIECES.iter().enumerate() {
        let path = folder.join(piece.file);
        if !path.exists() {
            durable::write(&path, &wave(piece, number + 1), 0o644)?;
        }
    }
    Ok(())
}

/// A quarter of a sine, 16 bits, by Bhaskara's rational approximation: integers only.
const fn quarter_sine() -> [i32; 65] {
    let mut table = [0i32; 65];
    let mut i = 0i64;
    while i <= 64 {
        // sin(x) ~ 16 x (pi - x) / (5 pi^2 - 4 x (pi - x)), with x in units of pi / 128.
        let p = i * (128 - i);
        #[allow(clippy::cast_possible_truncation, reason = "at most 32,767")]
        {
            table[i as usize] = (32_767 * 16 * p / (5 * 128 * 128 - 4 * p)) as i32;
        }
        i += 1;
    }
    table
}

/// Sine of a phase of 16 bits, as 16 bits.
fn sine(phase: u32) -> i32 {
    let step = (phase >> 8 & 0xff) as usize;
    match step {
        0..=64 => SINE[step],
        65..=128 => SINE[128 - step],
        129..=192 => -SINE[step - 128],
        _ => -SINE[256 - step],
    }
}

/// Phase step of 2^-16 of a turn, in 2^-12, of a semitone above A2.
fn phase_step(semitone: u8) -> u64 {
    // Twelfth roots of two in 16 bits.
    const ROOTS: [u64; 12] =
        [65_536, 69_433, 73_562, 77_936, 82_570, 87_480, 92_682, 98_193, 104_032, 110_218, 116_772, 123_715];
    let octave = u32::from(semitone / 12);
    let frequency_16 = (110 * ROOTS[usize::from(semitone % 12)]) << octave;
    (frequency_16 << 12) / u64::from(RATE)
}

/// One voice's sample: three partials under an envelope that falls over the note.
fn voice(notes: &[u8], at: u64, note_samples: u64) -> i32 {
    let position = usize::try_from(at / note_samples).unwrap_or(0) % notes.len();
    let Some(semitone) = notes.get(position).copied().filter(|note| *note != 99) else { return 0 };
    let within = at % note_samples;
    let attack = within.min(220);
    let fall = note_samples - within;
    let envelope = i64::try_from(attack * fall / note_samples).unwrap_or(0);
    let phase =
        |partial: u64| u32::try_from(((at * phase_step(semitone) * partial) >> 12) & 0xffff).unwrap_or(0);
    let tone = i64::from(sine(phase(1))) * 6 + i64::from(sine(phase(2))) * 3 + i64::from(sine(phase(3)));
    i32::try_from(tone * envelope / 220 / 32).unwrap_or(0)
}

fn samples(piece: &Piece) -> Vec<i16> {
    let note = u64::from(RATE * piece.pace / 1_000);
    let phrases = 4;
    let length = note * 16 * phrases;
    (0..length)
        .map(|at| {
            let phrase = at / (note * 16);
            let melody = voice(piece.melody, at, note);
            // Each phrase adds the answer a little later, so that no two phrases are the same.
            let answer = if phrase > 0 { voice(piece.answer, at + note * (phrase - 1), note) } else { 0 };
            i16::try_from((melody + answer).clamp(-32_768, 32_767)).unwrap_or(0)
        })
        .collect()
}

/// RIFF WAVE with an INFO list.
fn wave(piece: &Piece, track: usize) -> Vec<u8> {
    let data: Vec<u8> = samples(piece).into_iter().flat_map(i16::to_le_bytes).collect();
    let mut info = b"INFO".to_vec();
    let track = track.to_string();
    let tags: [(&[u8; 4], &str); 6] = [
        (b"INAM", piece.title),
        (b"IART", "Antiphon"),
        (b"IPRD", "First Sounds"),
        (b"IGNR", "Sample"),
        (b"ITRK", &track),
        (b"ICMT", "CC0 1.0: dedicated to the public domain"),
    ];
    for (id, text) in tags {
        let mut text = text.as_bytes().to_vec();
        text.push(0);
        chunk(&mut info, id, &text);
    }
    let mut format = Vec::new();
    for part in [1u16, 1] {
        format.extend_from_slice(&part.to_le_bytes());
    }
    for part in [RATE, RATE * 2] {
        format.extend_from_slice(&part.to_le_bytes());
    }
    for part in [2u16, 16] {
        format.extend_from_slice(&part.to_le_bytes());
    }
    let mut body = b"WAVE".to_vec();
    chunk(&mut body, b"fmt ", &format);
    chunk(&mut body, b"LIST", &info);
    chunk(&mut body, b"data", &data);
    let mut file = Vec::with_capacity(body.len() + 8);
    chunk(&mut file, b"RIFF", &body);
    file
}

fn chunk(into: &mut Vec<u8>, id: &[u8; 4], bytes: &[u8]) {
    into.extend_from_slice(id);
    into.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(0).to_le_bytes());
    into.extend_from_slice(bytes);
    if bytes.len() % 2 == 1 {
        into.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_makes_the_same_bytes() {
        let hashes: Vec<String> = PIECES
            .iter()
            .enumerate()
            .map(|(number, piece)| blake3::hash(&wave(piece, number + 1)).to_hex()[..16].to_owned())
            .collect();
        assert_eq!(hashes, GOLDEN);
    }

    const GOLDEN: [&str; 3] = ["e18feb5134c973b8", "c8e49ec14086578a", "8659a1ea3e1ba53a"];

    #[test]
    fn made_once() {
        let folder = tempfile::tempdir().unwrap();
        ensure(folder.path()).unwrap();
        ensure(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn loud_enough_and_never_clipped_flat() {
        for piece in &PIECES {
            let samples = samples(piece);
            let peak = samples.iter().map(|s| s.unsigned_abs()).max().unwrap();
            assert!((8_000..32_700).contains(&peak), "{}: peak {peak}", piece.title);
        }
    }
}
