//! From a frame to its energy in each of the twelve notes.

use std::f64::consts::TAU;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

use super::frames::FRAME;
use super::{BANDS, RATE, Row};

/// Precision of the transform.
type Real = f32;

/// Lowest frequency that is heard, in Hz.
const LOWEST: u32 = 28;
/// Where hearing stops, in Hz.
const HIGHEST: u32 = 3_520;
/// The note A three octaves below the lowest of a piano is band 0; only its place in the octave matters, in Hz.
const BASE: f64 = 440.0 / 16.0;
/// A real transform is a complex one of half its length, and a little work after it.
const HALF: usize = FRAME / 2;

/// What is the same for all frames of all files.
struct Tables {
    plan: Arc<dyn Fft<Real>>,
    window: Box<[Real]>,
    /// Frequencies that are heard, as numbers of the transform's outputs.
    heard: Range<usize>,
    /// Root of unity of each heard frequency.
    roots: Box<[Complex<Real>]>,
    /// Neighbouring frequencies of one note: the note, and how many.
    runs: Box<[(usize, usize)]>,
}

fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(Tables::new)
}

/// Makes rows of frames. Its buffers are used again for each.
pub(super) struct Spectrum {
    tables: &'static Tables,
    values: Vec<Complex<Real>>,
    scratch: Vec<Complex<Real>>,
    power: Vec<Real>,
}

impl Spectrum {
    pub(super) fn new() -> Self {
        let tables = tables();
        let zero = Complex::new(0.0, 0.0);
        Self {
            tables,
            values: vec![zero; HALF],
            scratch: vec![zero; tables.plan.get_inplace_scratch_len()],
            power: vec![0.0; tables.heard.len()],
        }
    }

    /// The energies of a frame's notes.
    pub(super) fn row(&mut self, frame: &[i16; FRAME]) -> Row {
        let (samples, _) = frame.as_chunks::<2>();
        let (window, _) = self.tables.window.as_chunks::<2>();
        for (value, (pair, factors)) in self.values.iter_mut().zip(samples.iter().zip(window)) {
            *value = Complex::new(Real::from(pair[0]) * factors[0], Real::from(pair[1]) * factors[1]);
        }
        self.tables.plan.process_with_scratch(&mut self.values, &mut self.scratch);
        self.untangle();
        self.fold()
    }

    /// The even samples went in as real parts, the odd ones as imaginary parts. Their own spectra are the symmetric
    /// and the antisymmetric half of what came out, and the frame's is the one plus the other turned by `root`.
    fn untangle(&mut self) {
        let heard = &self.tables.heard;
        let up = &self.values[heard.clone()];
        let down = self.values[HALF - heard.end + 1..=HALF - heard.start].iter().rev();
        for (((power, root), a), b) in self.power.iter_mut().zip(&self.tables.roots).zip(up).zip(down) {
            let even = Complex::new(a.re + b.re, a.im - b.im);
            let odd = Complex::new(a.im + b.im, b.re - a.re);
            let re = even.re + (odd.re * root.re - odd.im * root.im);
            let im = even.im + (odd.re * root.im + odd.im * root.re);
            *power = (re * re + im * im) * 0.25;
        }
    }

    fn fold(&self) -> Row {
        let mut row = [0.0; BANDS];
        let mut rest = self.power.as_slice();
        for &(note, length) in &self.tables.runs {
            let (run, later) = rest.split_at(length);
            row[note] += sum(run);
            rest = later;
        }
        row
    }
}

/// Eight sums side by side, since a compiler may not reorder float additions by itself.
fn sum(values: &[Real]) -> f64 {
    let (blocks, rest) = values.as_chunks::<8>();
    let mut sums = [0.0f64; 8];
    for block in blocks {
        for (sum, &value) in sums.iter_mut().zip(block) {
            *sum += f64::from(value);
        }
    }
    let rest: f64 = rest.iter().map(|&value| f64::from(value)).sum();
    sums.iter().sum::<f64>() + rest
}

impl Tables {
    #[allow(clippy::cast_possible_truncation, reason = "rounded once to the transform's precision")]
    fn new() -> Self {
        let heard = number(LOWEST).max(1)..number(HIGHEST).min(HALF);
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for at in heard.clone() {
            let note = note(at);
            match runs.last_mut() {
                Some((last, length)) if *last == note => *length += 1,
                _ => runs.push((note, 1)),
            }
        }
        let root = |at| {
            let angle = -TAU * as_f64(at) / as_f64(FRAME);
            Complex::new(angle.cos() as Real, angle.sin() as Real)
        };
        Self {
            plan: FftPlanner::new().plan_fft_forward(HALF),
            window: (0..FRAME).map(|at| window(at) as Real).collect(),
            roots: heard.clone().map(root).collect(),
            heard,
            runs: runs.into(),
        }
    }
}

/// Hamming's window, that also brings 16-bit samples to the range of -1 to 1.
fn window(at: usize) -> f64 {
    (0.54 - 0.46 * (as_f64(at) * TAU / as_f64(FRAME - 1)).cos()) / f64::from(i16::MAX)
}

/// The transform's output nearest to a frequency.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
fn number(hertz: u32) -> usize {
    (as_f64(FRAME) * f64::from(hertz) / f64::from(RATE)).round() as usize
}

/// The note of one of the transform's outputs.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 11")]
fn note(at: usize) -> usize {
    let octave = (as_f64(at) * f64::from(RATE) / as_f64(FRAME) / BASE).log2();
    ((octave - octave.floor()) * as_f64(BANDS)) as usize
}

#[allow(clippy::cast_precision_loss, reason = "at most a frame's length")]
fn as_f64(value: usize) -> f64 {
    value as f64
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers of test data")]
mod tests {
    use super::*;

    #[test]
    fn hears_28_to_3520_hertz_in_runs_of_one_note() {
        let tables = tables();
        assert_eq!(tables.heard, 10..1_308);
        assert_eq!(tables.runs.iter().map(|run| run.1).sum::<usize>(), tables.heard.len());
        assert!(tables.runs.iter().all(|run| run.0 < BANDS && run.1 > 0));
    }

    #[test]
    fn a_tone_is_in_its_note() {
        // From A up to G sharp, a quarter tone above each: a band begins at its note.
        for (band, semitones) in (0..BANDS).map(|band| (band, as_f64(band) + 0.5)) {
            let hertz = 880.0 * (semitones / 12.0).exp2();
            let tone = |at| ((as_f64(at) * TAU * hertz / f64::from(RATE)).sin() * 20_000.0) as i16;
            let row = Spectrum::new().row(&std::array::from_fn(tone));
            let all: f64 = row.iter().sum();
            assert!(row[band] > 0.99 * all, "{band}: {row:?}");
        }
    }

    /// The definition of a Fourier transform, for a few frequencies.
    #[test]
    fn power_is_that_of_the_plain_transform() {
        let mut state = 1u32;
        let frame: [i16; FRAME] = std::array::from_fn(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as u16 as i16
        });
        let mut spectrum = Spectrum::new();
        spectrum.row(&frame);
        for at in [10, 11, 100, 1_023, 1_024, 1_025, 1_306, 1_307] {
            let (mut re, mut im) = (0.0, 0.0);
            for (time, &sample) in frame.iter().enumerate() {
                let angle = TAU * as_f64(at * time % FRAME) / as_f64(FRAME);
                let value = f64::from(sample) * window(time);
                re += value * angle.cos();
                im -= value * angle.sin();
            }
            let (expected, found) = (re * re + im * im, f64::from(spectrum.power[at - 10]));
            assert!((expected - found).abs() < 1e-3 * expected.max(1.0), "{at}: {expected} {found}");
        }
    }
}
