//! The whole stage beside an independent port of Chromaprint that works in double precision.

use std::f64::consts::TAU;

use proptest::prelude::*;
use rusty_chromaprint::{Configuration, Fingerprinter};

use super::Chroma;
use super::frames::{FRAME, HOP};

/// Samples before the first item: 16 + 5 - 1 frames.
const FIRST: usize = FRAME + 19 * HOP;

fn ours(samples: &[i16], piece: usize) -> Vec<u32> {
    let mut chroma = Chroma::new();
    for part in samples.chunks(piece) {
        chroma.push(part);
    }
    chroma.finish()
}

fn yardstick(samples: &[i16]) -> Vec<u32> {
    let mut port = Fingerprinter::new(&Configuration::default());
    port.start(super::RATE, 1).unwrap();
    port.consume(samples);
    port.finish();
    port.fingerprint().to_vec()
}

/// One bit in this many may differ, where a value is as near to a level as single precision is fine. Real music
/// had none in a million; this bound leaves room for other machines' order of additions.
const BITS_FOR_AN_ERROR: usize = 10_000;

/// Bits that differ.
fn errors(samples: &[i16], piece: usize) -> u32 {
    let (ours, theirs) = (ours(samples, piece), yardstick(samples));
    assert_eq!(ours.len(), theirs.len(), "{} samples", samples.len());
    ours.iter().zip(theirs).map(|(a, b)| (a ^ b).count_ones()).sum()
}

fn noise(seed: u32, samples: usize, amplitude: i32) -> Vec<i16> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        i32::from((state >> 16) as u16) - 32_768
    };
    (0..samples).map(|_| (next() * amplitude / 32_768) as i16).collect()
}

/// A tone that glides from one frequency to another, in Hz.
fn sweep(from: f64, to: f64, samples: usize, amplitude: f64) -> Vec<i16> {
    let mut turns = 0.0;
    (0..samples)
        .map(|at| {
            turns += (from + (to - from) * at as f64 / samples as f64) / f64::from(super::RATE);
            ((turns * TAU).sin() * amplitude) as i16
        })
        .collect()
}

/// Silence, a chord, noise and clicks, one after the other.
fn medley(samples: usize) -> Vec<i16> {
    let tones = [220.0, 277.2, 329.6].map(|hertz| sweep(hertz, hertz, samples, 8_000.0));
    let noise = noise(5, samples, 3_000);
    (0..samples)
        .map(|at| match at / 20_000 % 4 {
            0 => 0,
            1 => tones.iter().map(|tone| tone[at]).sum(),
            2 => noise[at],
            _ => i16::from(at % 500 == 0) * i16::MAX,
        })
        .collect()
}

#[test]
fn lengths_around_every_boundary_give_the_same_items() {
    let samples = noise(7, FIRST + 9 * HOP, 20_000);
    let mut lengths = vec![0, 1, HOP, FRAME - 1, FRAME, FRAME + 1];
    for hops in 1..29 {
        lengths.extend([FRAME + hops * HOP - 1, FRAME + hops * HOP, FRAME + hops * HOP + 1]);
    }
    for length in lengths.into_iter().filter(|&length| length <= samples.len()) {
        assert_eq!(errors(&samples[..length], 1_000), 0, "{length} samples");
        let items = if length < FIRST { 0 } else { (length - FIRST) / HOP + 1 };
        assert_eq!(ours(&samples[..length], 1_000).len(), items, "{length} samples");
    }
}

#[test]
fn two_minutes_of_every_kind_of_sound_give_the_same_items() {
    const LONG: usize = 120 * super::RATE as usize;
    let sounds = [
        ("silence", vec![0; LONG]),
        ("a constant", vec![-20_000; LONG]),
        ("loudest", (0..LONG).map(|at| if at / 25 % 2 == 0 { i16::MIN } else { i16::MAX }).collect()),
        ("loud noise", noise(1, LONG, 32_768)),
        ("faint noise", noise(2, LONG, 12)),
        ("a tone", sweep(440.0, 440.0, LONG, 20_000.0)),
        ("a tone too high", sweep(5_000.0, 5_000.0, LONG, 20_000.0)),
        ("a sweep", sweep(20.0, 5_500.0, LONG, 20_000.0)),
        ("a faint sweep", sweep(20.0, 5_500.0, LONG, 3.0)),
        ("a medley", medley(LONG)),
    ];
    for (name, samples) in sounds {
        let errors = errors(&samples, 4_096);
        assert!(errors as usize <= 948 * 32 / BITS_FOR_AN_ERROR, "{name}: {errors} bits differ");
    }
}

/// Regenerate only on purpose: these items are what peers compare.
#[test]
fn golden_items() {
    assert_eq!(ours(&vec![0; FIRST + HOP], FRAME), [627_964_279; 2]);
    let samples = noise(3, FIRST + 5 * HOP, 10_000);
    let golden = [4_118_671_679, 4_118_667_581, 4_118_639_933, 4_118_639_997, 3_590_149_501, 3_590_157_693];
    assert_eq!(ours(&samples, FRAME), golden);
    assert_eq!(yardstick(&samples), golden);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sound_gives_the_same_items(
        seed: u32,
        length in 0usize..80_000,
        amplitude in prop_oneof![0..40i32, 0..=32_768],
        tone in (20.0..5_500.0f64, 20.0..5_500.0f64, 0.0..16_000.0f64),
        gate in 1usize..40_000,
        piece in 1usize..10_000,
    ) {
        let gated = |at: usize| (at / gate).is_multiple_of(2);
        let samples: Vec<i16> = noise(seed, length, amplitude)
            .into_iter()
            .zip(sweep(tone.0, tone.1, length, tone.2))
            .enumerate()
            .map(|(at, (noise, tone))| if gated(at) { noise.saturating_add(tone) } else { 0 })
            .collect();
        prop_assert!(errors(&samples, piece) <= 1);
    }

    #[test]
    fn pieces_do_not_matter(seed: u32, piece in 1usize..10_000) {
        let samples = noise(seed, FIRST + 3 * HOP, 10_000);
        prop_assert_eq!(ours(&samples, piece), ours(&samples, samples.len()));
    }
}
