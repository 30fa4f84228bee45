//! The sample-rate converter in front of Chromaprint.
//!
//! Fingerprints are compared bit by bit, so this has to give the samples that `fpcalc` gets, and `fpcalc` lets
//! FFmpeg's libswresample convert to 11,025 Hz, with the settings of Chromaprint's old resampler: filter size 16,
//! 256 phases, linear interpolation, cut-off 0.8. That means: a polyphase filter, each phase a sinc with a Kaiser
//! window (beta 9), `16 / 0.8 * ratio` taps long (80 for 44.1 kHz); as many phases as the ratio of the rates needs
//! if that is at most 256, else 256 with interpolation; the stream mirrored at its start and at its end. 16-bit
//! audio is converted with 16-bit coefficients and 32-bit sums, all other audio with floats.

use std::f64::consts::PI;

use super::sample::Sample;

/// Rate of the samples that Chromaprint analyses, in Hz.
pub(crate) const TARGET_RATE: u32 = 11_025;

const MAX_PHASES: u32 = 256;
const BASE_TAPS: f64 = 16.0;
const CUTOFF: f64 = 0.8;
const KAISER_BETA: f64 = 9.0;
const COEFFICIENT_BITS: u32 = 15;
/// Input samples that are gathered before they are converted, beyond a filter's length.
const BLOCK: usize = 16 * 1024;

/// A sample format that the filter works in.
pub(crate) trait Element: Sample + Default {
    /// A sum of products.
    type Sum: Copy;
    /// A coefficient, of filters whose coefficients add up to 1.
    fn coefficient(value: f64) -> Self;
    /// The products of a window and a filter of the same length, summed.
    fn dot(window: &[Self], filter: &[Self]) -> Self::Sum;
    /// The point at `part / whole` of the way from one sum to the next.
    fn between(from: Self::Sum, to: Self::Sum, part: i64, whole: i64) -> Self::Sum;
    /// The output sample of a sum.
    fn output(sum: Self::Sum) -> i16;
}

impl Element for i16 {
    type Sum = i32;

    /// Rounded in single precision, half to even, as the reference does.
    #[allow(clippy::cast_possible_truncation, reason = "f32 on purpose, then clamped to 16 bits")]
    fn coefficient(value: f64) -> Self {
        let scaled = value * f64::from(1u32 << COEFFICIENT_BITS);
        (scaled as f32).round_ties_even().clamp(-32_768.0, 32_767.0) as i16
    }

    /// Written so that the compiler can use the 16-bit multiply-add of a vector unit.
    fn dot(window: &[Self], filter: &[Self]) -> i32 {
        window
            .iter()
            .zip(filter)
            .fold(0i32, |sum, (&sample, &factor)| sum.wrapping_add(i32::from(sample) * i32::from(factor)))
    }

    fn between(from: i32, to: i32, part: i64, whole: i64) -> i32 {
        let way = i64::from(to.wrapping_sub(from)) * part / whole;
        from.wrapping_add(i32::try_from(way).unwrap_or(0))
    }

    fn output(sum: i32) -> i16 {
        let value = sum.wrapping_add(1 << (COEFFICIENT_BITS - 1)) >> COEFFICIENT_BITS;
        i16::try_from(value).unwrap_or(if value < 0 { i16::MIN } else { i16::MAX })
    }
}

impl Element for f32 {
    type Sum = f32;

    #[allow(clippy::cast_possible_truncation, reason = "the filter's own precision")]
    fn coefficient(value: f64) -> Self {
        value as f32
    }

    /// Sixteen sums side by side, since a compiler may not reorder float additions by itself.
    fn dot(window: &[Self], filter: &[Self]) -> f32 {
        const LANES: usize = 16;
        let mut sums = [0.0f32; LANES];
        let (windows, window_rest) = window.as_chunks::<LANES>();
        let (filters, filter_rest) = filter.as_chunks::<LANES>();
        for (samples, factors) in windows.iter().zip(filters) {
            for lane in 0..LANES {
                sums[lane] += samples[lane] * factors[lane];
            }
        }
        for (lane, (sample, factor)) in window_rest.iter().zip(filter_rest).enumerate() {
            sums[lane] += sample * factor;
        }
        sums.iter().sum()
    }

    #[allow(clippy::cast_precision_loss, reason = "both are small")]
    fn between(from: f32, to: f32, part: i64, whole: i64) -> f32 {
        from + (to - from) * (part as f32 / whole as f32)
    }

    fn output(sum: f32) -> i16 {
        sum.to_i16()
    }
}

/// Converts one channel to 11,025 Hz.
pub(crate) struct Resampler<T> {
    /// Coefficients of phase `p` at `p * taps ..`; one phase more than there are, for interpolation.
    bank: Vec<T>,
    taps: usize,
    phases: i64,
    /// Whether positions fall between phases.
    interpolate: bool,
    /// Phases from one output to the next, and the rest in parts of `divisor`.
    step: (i64, i64),
    divisor: i64,
    /// Position of the next output in `pending`: sample, phase, part of a phase.
    sample: usize,
    phase: i64,
    part: i64,
    /// Input from the next output's window on. The first `taps` are the mirrored start.
    pending: Vec<T>,
    started: bool,
}

impl<T: Element> Resampler<T> {
    pub(crate) fn new(in_rate: u32) -> Self {
        let factor = (f64::from(TARGET_RATE) * CUTOFF / f64::from(in_rate)).min(1.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "16 to a few thousand")]
        let taps = ((BASE_TAPS / factor).ceil().max(1.0) as usize).next_multiple_of(2);
        let exact = TARGET_RATE / gcd(TARGET_RATE, in_rate);
        let phases = if exact <= MAX_PHASES { exact } else { MAX_PHASES };
        let advance = i64::from(in_rate) * i64::from(phases);
        let divisor = i64::from(TARGET_RATE);
        Self {
            bank: filter_bank(factor, taps, phases),
            taps,
            phases: i64::from(phases),
            interpolate: advance % divisor != 0,
            step: (advance / divisor, advance % divisor),
            divisor,
            sample: taps - (taps - 1) / 2,
            phase: 0,
            part: 0,
            pending: Vec::with_capacity(BLOCK + 4 * taps),
            started: false,
        }
    }

    /// Takes samples; appends what can be converted to `out`.
    pub(crate) fn push(&mut self, mut samples: &[T], out: &mut Vec<i16>) {
        while !samples.is_empty() {
            let (now, later) = samples.split_at(samples.len().min(BLOCK));
            self.pending.extend_from_slice(now);
            samples = later;
            if self.start() {
                self.convert(out);
            }
        }
    }

    /// Converts the rest, with the stream's end mirrored over half a filter.
    pub(crate) fn finish(mut self, out: &mut Vec<i16>) {
        if !self.start() {
            return;
        }
        let end = self.pending.len();
        let left = end.saturating_sub(self.sample);
        let mirrored = left.min(self.taps).div_ceil(2);
        for back in 1..=mirrored {
            self.pending.push(self.pending[end - back]);
        }
        self.convert(out);
    }

    /// Puts the mirrored start in front once there is enough to mirror.
    fn start(&mut self) -> bool {
        if !self.started && self.pending.len() > self.taps {
            let mirror: Vec<T> = self.pending[1..=self.taps].iter().rev().copied().collect();
            self.pending.splice(0..0, mirror);
            self.started = true;
        }
        self.started
    }

    fn convert(&mut self, out: &mut Vec<i16>) {
        while let Some(window) = self.pending.get(self.sample..self.sample + self.taps) {
            let at = usize::try_from(self.phase).unwrap_or(0) * self.taps;
            let mut sum = T::dot(window, &self.bank[at..at + self.taps]);
            if self.interpolate {
                let next = T::dot(window, &self.bank[at + self.taps..at + 2 * self.taps]);
                sum = T::between(sum, next, self.part, self.divisor);
            }
            out.push(T::output(sum));
            self.advance();
        }
        let done = self.sample.min(self.pending.len());
        self.pending.drain(..done);
        self.sample -= done;
    }

    fn advance(&mut self) {
        self.part += self.step.1;
        self.phase += self.step.0;
        if self.part >= self.divisor {
            self.part -= self.divisor;
            self.phase += 1;
        }
        self.sample += usize::try_from(self.phase / self.phases).unwrap_or(0);
        self.phase %= self.phases;
    }
}

fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn filter_bank<T: Element>(factor: f64, taps: usize, phases: u32) -> Vec<T> {
    let row = |phase: u32| -> Vec<f64> {
        let center = as_f64((taps - 1) / 2);
        let width = factor * as_f64(taps) * PI;
        (0..taps)
            .map(|tap| {
                let x = PI * (as_f64(tap) - center - f64::from(phase) / f64::from(phases)) * factor;
                let sinc = if x == 0.0 { 1.0 } else { x.sin() / x };
                let w = 2.0 * x / width;
                sinc * bessel_i0(KAISER_BETA * (1.0 - w * w).max(0.0).sqrt())
            })
            .collect()
    };
    // All phases are scaled by the sum of the first.
    let norm: f64 = row(0).iter().sum();
    let mut bank = vec![T::default(); taps * (as_usize(phases) + 1)];
    let even = phases.is_multiple_of(2);
    let own = if even { phases / 2 } else { phases - 1 };
    for phase in 0..=own {
        let at = as_usize(phase) * taps;
        for (to, value) in bank[at..at + taps].iter_mut().zip(row(phase)) {
            *to = T::coefficient(value / norm);
        }
        // The upper half of an even number of phases is the lower one reversed.
        if even && phase > 0 {
            let mut reversed = bank[at..at + taps].to_vec();
            reversed.reverse();
            let at = as_usize(phases - phase) * taps;
            bank[at..at + taps].copy_from_slice(&reversed);
        }
    }
    // Behind the last phase comes the first one, a sample later.
    let (rows, last) = bank.split_at_mut(taps * as_usize(phases));
    last[1..].copy_from_slice(&rows[..taps - 1]);
    bank
}

#[allow(clippy::cast_precision_loss, reason = "tap numbers are small")]
fn as_f64(value: usize) -> f64 {
    value as f64
}

fn as_usize(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Modified Bessel function of the first kind, order 0, by its power series to full precision.
fn bessel_i0(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let (mut sum, mut last, mut term) = (1.0, 0.0, 1.0);
    let mut n = 1.0;
    while sum != last {
        last = sum;
        term *= quarter / (n * n);
        sum += term;
        n += 1.0;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T: Element>(rate: u32, input: &[T], piece: usize) -> Vec<i16> {
        let mut out = Vec::new();
        let mut resampler = Resampler::new(rate);
        for part in input.chunks(piece) {
            resampler.push(part, &mut out);
        }
        resampler.finish(&mut out);
        out
    }

    fn sine(rate: u32, hertz: f64, samples: usize) -> Vec<i16> {
        (0..samples).map(|i| ((as_f64(i) / f64::from(rate) * hertz * 2.0 * PI).sin() * 16_000.0) as i16).collect()
    }

    fn floats(samples: &[i16]) -> Vec<f32> {
        samples.iter().map(|&sample| f32::from(sample) / 32_768.0).collect()
    }

    #[test]
    fn filters_follow_the_ratio() {
        let shape = |rate| {
            let resampler = Resampler::<i16>::new(rate);
            (resampler.taps, resampler.phases, resampler.interpolate)
        };
        assert_eq!(shape(44_100), (80, 1, false));
        assert_eq!(shape(48_000), (88, 147, false));
        assert_eq!(shape(22_050), (40, 1, false));
        assert_eq!(shape(96_000), (176, 147, false));
        assert_eq!(shape(32_000), (60, 256, true));
        assert_eq!(shape(8_000), (16, 256, true));
    }

    #[test]
    fn pieces_do_not_matter() {
        for rate in [8_000, 22_050, 32_000, 44_100, 48_000, 96_000] {
            let input = sine(rate, 440.0, 100_000);
            assert_eq!(run(rate, &input, 100_000), run(rate, &input, 777), "{rate}");
            let input = floats(&input);
            assert_eq!(run(rate, &input, 100_000), run(rate, &input, 777), "{rate}");
        }
    }

    #[test]
    fn lengths_follow_the_ratio() {
        for rate in [8_000u32, 22_050, 32_000, 44_100, 48_000, 96_000] {
            let out = run(rate, &sine(rate, 440.0, as_usize(rate) * 4), 4096);
            assert!(out.len().abs_diff(44_100) <= 20, "{rate}: {}", out.len());
        }
    }

    #[test]
    fn integers_and_floats_agree() {
        for rate in [8_000, 22_050, 32_000, 44_100, 48_000] {
            let input = sine(rate, 440.0, 50_000);
            let worst = run(rate, &input, 4096)
                .iter()
                .zip(run(rate, &floats(&input), 4096))
                .map(|(a, b)| a.abs_diff(b))
                .max();
            assert!(worst.is_some_and(|worst| worst <= 8), "{rate}: {worst:?}");
        }
    }

    #[test]
    fn a_constant_stays_a_constant() {
        for rate in [8_000, 22_050, 32_000, 44_100, 48_000] {
            for value in [i16::MIN, -1000, 0, 1, i16::MAX] {
                let out = run(rate, &vec![value; 50_000], 50_000);
                assert!(out.iter().all(|&s| s.abs_diff(value) <= 12), "{rate} {value}");
            }
        }
    }

    #[test]
    fn low_tones_pass_and_high_tones_do_not() {
        let peak = |samples: &[i16]| samples[200..samples.len() - 200].iter().map(|s| s.unsigned_abs()).max().unwrap();
        assert!(peak(&run(44_100, &sine(44_100, 1_000.0, 44_100), 4096)) > 15_500);
        assert!(peak(&run(44_100, &sine(44_100, 9_000.0, 44_100), 4096)) < 20);
    }

    #[test]
    fn short_streams_do_not_fail() {
        for length in 0..300 {
            for rate in [8_000, 44_100, 48_000] {
                let _ = run(rate, &vec![100i16; length], 50);
            }
        }
    }
}
