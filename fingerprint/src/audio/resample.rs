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
const BLOCK: usize = 32 * 1024;

/// Periods that are converted together: enough lanes for the widest vector unit to be kept busy.
const WIDE: usize = 32;
/// Longest period, in input samples, that is converted that way (192 kHz has 2,560): it bounds the buffers.
const MAX_PERIOD: usize = 4_096;

/// One output of a period: where its window begins, counted from the period's start, and its filter.
pub(crate) struct Place<'a, T> {
    offset: usize,
    filter: &'a [T],
}

/// A sample format that the filter works in.
pub(crate) trait Element: Sample + Default {
    /// A sum of products.
    type Sum: Copy;
    /// A coefficient, of filters whose coefficients add up to 1.
    fn coefficient(value: f64) -> Self;
    /// The products of a window and a filter of the same length, summed.
    fn dot(window: &[Self], filter: &[Self]) -> Self::Sum;
    /// What a sample is while periods are converted.
    type Sorted: Copy + Default;
    /// Puts each place's samples of all periods side by side, in rows of `width`.
    fn sort(samples: &[Self], period: usize, width: usize, sorted: &mut Vec<Self::Sorted>);
    /// One output of [`WIDE`] periods at once, from the first of which `skip` come before.
    fn wide(sorted: &Rows<'_, Self::Sorted>, skip: usize, place: &Place<'_, Self>) -> [i16; WIDE];
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

    /// Pairs of neighbouring samples, for the multiply-add that takes pairs.
    type Sorted = [i16; 2];

    fn sort(samples: &[Self], period: usize, width: usize, sorted: &mut Vec<[i16; 2]>) {
        sorted.resize(width * period, [0; 2]);
        for (place, row) in sorted.chunks_exact_mut(width).enumerate() {
            let firsts = every(samples, place, period);
            let seconds = every(samples, place + 1, period);
            for (to, (first, second)) in row.iter_mut().zip(firsts.zip(seconds)) {
                *to = [first, second];
            }
        }
    }

    fn wide(sorted: &Rows<'_, [i16; 2]>, skip: usize, place: &Place<'_, Self>) -> [i16; WIDE] {
        let mut sums = [0i32; WIDE];
        let (factors, _) = place.filter.as_chunks::<2>();
        let mut cursor = sorted.cursor(place.offset, skip);
        for &[a, b] in factors {
            // The ends of the filter round to nothing.
            if (a, b) != (0, 0) {
                let Some(pairs) = cursor.window() else { break };
                for (sum, pair) in sums.iter_mut().zip(pairs) {
                    let product = i32::from(pair[0]) * i32::from(a) + i32::from(pair[1]) * i32::from(b);
                    *sum = sum.wrapping_add(product);
                }
            }
            cursor.advance(2);
        }
        sums.map(Self::output)
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

    type Sorted = f32;

    fn sort(samples: &[Self], period: usize, width: usize, sorted: &mut Vec<f32>) {
        sorted.resize(width * period, 0.0);
        for (place, row) in sorted.chunks_exact_mut(width).enumerate() {
            for (to, sample) in row.iter_mut().zip(every(samples, place, period)) {
                *to = sample;
            }
        }
    }

    fn wide(sorted: &Rows<'_, f32>, skip: usize, place: &Place<'_, Self>) -> [i16; WIDE] {
        let mut sums = [0.0f32; WIDE];
        let mut cursor = sorted.cursor(place.offset, skip);
        for factor in place.filter {
            let Some(window) = cursor.window() else { break };
            for (sum, sample) in sums.iter_mut().zip(window) {
                *sum += sample * factor;
            }
            cursor.advance(1);
        }
        sums.map(Self::output)
    }

    #[allow(clippy::cast_precision_loss, reason = "both are small")]
    fn between(from: f32, to: f32, part: i64, whole: i64) -> f32 {
        from + (to - from) * (part as f32 / whole as f32)
    }

    fn output(sum: f32) -> i16 {
        sum.to_i16()
    }
}

/// One sample of each period.
fn every<T: Copy>(samples: &[T], place: usize, period: usize) -> impl Iterator<Item = T> {
    samples.get(place..).unwrap_or_default().chunks(period).map(|chunk| chunk[0])
}

/// Samples sorted by their place in the period: a row for each place, a column for each period.
pub(crate) struct Rows<'a, S> {
    sorted: &'a [S],
    period: usize,
    width: usize,
}

impl<'a, S> Rows<'a, S> {
    /// At a sample counted from the first period's start, `skip` periods later.
    fn cursor(&self, offset: usize, skip: usize) -> Cursor<'a, S> {
        let (row, column) = (offset % self.period, offset / self.period + skip);
        Cursor { sorted: self.sorted, period: self.period, width: self.width, row, column }
    }
}

/// Walks over samples without a division for each.
struct Cursor<'a, S> {
    sorted: &'a [S],
    period: usize,
    width: usize,
    row: usize,
    column: usize,
}

impl<'a, S> Cursor<'a, S> {
    /// This sample and the same one of the next periods.
    fn window(&self) -> Option<&'a [S; WIDE]> {
        self.sorted.get(self.row * self.width + self.column..)?.first_chunk()
    }

    fn advance(&mut self, samples: usize) {
        self.row += samples;
        while self.row >= self.period {
            self.row -= self.period;
            self.column += 1;
        }
    }
}

/// Puts output `number` of each period in its place.
fn scatter(values: &[i16; WIDE], number: usize, outputs: usize, out: &mut [i16]) {
    for (to, &value) in out.iter_mut().skip(number).step_by(outputs).zip(values) {
        *to = value;
    }
}

/// Converts one channel to 11,025 Hz.
pub(crate) struct Resampler<T: Element> {
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
    /// Input samples after which the phases repeat, if they do and that is worth using.
    period: Option<usize>,
    /// Samples while periods are converted; kept for its memory.
    sorted: Vec<T::Sorted>,
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
            period: (advance % divisor == 0)
                .then(|| as_usize(in_rate / gcd(TARGET_RATE, in_rate)))
                .filter(|&period| period <= MAX_PERIOD),
            sorted: Vec::new(),
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
                self.convert(false, out);
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
        self.convert(true, out);
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

    /// Converts what is there; short rests only at the end, if periods are used.
    fn convert(&mut self, end: bool, out: &mut Vec<i16>) {
        if let Some(period) = self.period {
            self.convert_by_periods(period, out);
        }
        if end || self.period.is_none() {
            self.convert_by_phases(out);
        }
        let done = self.sample.min(self.pending.len());
        self.pending.drain(..done);
        self.sample -= done;
    }

    fn convert_by_periods(&mut self, period: usize, out: &mut Vec<i16>) {
        let outputs = usize::try_from(self.phases).unwrap_or(1);
        let needed = WIDE * period + self.taps;
        if self.pending.len() < self.sample + needed {
            return;
        }
        let before = (self.sample, self.phase);
        let mut plan = Vec::with_capacity(outputs);
        for _ in 0..outputs {
            plan.push((self.sample - before.0, usize::try_from(self.phase).unwrap_or(0)));
            self.advance();
        }
        (self.sample, self.phase) = before;
        let places: Vec<Place<'_, T>> = plan
            .iter()
            .map(|&(offset, phase)| Place {
                offset,
                filter: &self.bank[phase * self.taps..(phase + 1) * self.taps],
            })
            .collect();
        // As many at once as there are: they share the sorting.
        let blocks = (self.pending.len() - self.sample - self.taps) / (WIDE * period);
        // The last output's window starts within the period after, and reaches as far as its filter is long.
        let width = WIDE * blocks + self.taps / period + 2;
        // One sample more, for the last pair.
        let samples = &self.pending[self.sample..];
        let samples = &samples[..samples.len().min(blocks * WIDE * period + self.taps + 1)];
        T::sort(samples, period, width, &mut self.sorted);
        let rows = Rows { sorted: &self.sorted, period, width };
        let at = out.len();
        out.resize(at + blocks * WIDE * outputs, 0);
        for (number, place) in places.iter().enumerate() {
            for (block, out) in out[at..].chunks_exact_mut(WIDE * outputs).enumerate() {
                scatter(&T::wide(&rows, block * WIDE, place), number, outputs, out);
            }
        }
        self.sample += blocks * WIDE * period;
    }

    fn convert_by_phases(&mut self, out: &mut Vec<i16>) {
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
#[allow(clippy::cast_possible_truncation, reason = "small numbers of test data")]
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
        (0..samples)
            .map(|i| ((as_f64(i) / f64::from(rate) * hertz * 2.0 * PI).sin() * 16_000.0) as i16)
            .collect()
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
        let peak = |samples: &[i16]| {
            samples[200..samples.len() - 200].iter().map(|s| s.unsigned_abs()).max().unwrap()
        };
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
