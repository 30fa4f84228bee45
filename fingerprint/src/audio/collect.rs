//! Takes decoded audio of any sample format and gives the fingerprint of its first 120 seconds.
//!
//! The path is `fpcalc`'s, so that the result is its result. 16-bit audio stays 16-bit: each channel is resampled
//! by itself, then they are mixed. Everything else is float; there mixing comes first, which gives the same as
//! mixing last, but for less work.

use super::mix::{integer_weights, mix_integers, weights};
use super::resample::{Element, Resampler, TARGET_RATE};
use super::sample::Sample;
use crate::chroma::Chroma;
use crate::error::AnalyzeError;
use crate::fingerprint::Fingerprint;
use crate::limits::FINGERPRINT_SECONDS;

/// Lowest sample rate, in Hz: Chromaprint's own limit.
const MIN_RATE: u32 = 1_001;
/// Highest: above any real music file, and it keeps the resampler's filter below 1,400 taps.
const MAX_RATE: u32 = 768_000;
/// Most channels: symphonia and FFmpeg stop at 64 and 32, music at 12.
const MAX_CHANNELS: usize = 32;
/// Frames handled at once, so that the scratch buffers stay in the first-level cache.
const BLOCK_FRAMES: usize = 4_096;
/// Resampled samples that are wanted.
const WANTED: usize = 120 * 11_025;
const _: () = assert!(FINGERPRINT_SECONDS == 120 && TARGET_RATE == 11_025);

/// Whether more audio is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Less than 120 seconds so far.
    More,
    /// All that the fingerprint needs is in.
    Done,
}

/// What a decoder's samples are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    /// 16 bits or fewer.
    Sixteen,
    /// Floats, or more than 16 bits.
    Float,
}

/// Collects audio until 120 seconds are in.
pub(crate) struct Collector {
    channels: usize,
    rate: u32,
    /// Frames still to be skipped at the start (encoder delay).
    skip: u64,
    /// Frames that count after those (what comes behind is an encoder's padding).
    limit: u64,
    taken: u64,
    path: Path,
    /// Resampled mono samples that are not analysed yet.
    ready: Vec<i16>,
    analysed: usize,
    chroma: Chroma,
}

enum Path {
    Sixteen { resamplers: Vec<Rate<i16>>, weights: Vec<i32>, plane: Vec<i16>, resampled: Vec<Vec<i16>> },
    Float { resampler: Rate<f32>, weights: Vec<f32>, mono: Vec<f32> },
}

/// The way to 11,025 Hz.
enum Rate<T: Element> {
    /// Already there: nothing is filtered.
    Same,
    Other(Resampler<T>),
}

impl<T: Element> Rate<T> {
    fn from(rate: u32) -> Self {
        if rate == TARGET_RATE { Self::Same } else { Self::Other(Resampler::new(rate)) }
    }

    fn push(&mut self, samples: &[T], out: &mut Vec<i16>) {
        match self {
            Self::Same => out.extend(samples.iter().map(|sample| sample.to_i16())),
            Self::Other(resampler) => resampler.push(samples, out),
        }
    }

    fn finish(self, out: &mut Vec<i16>) {
        if let Self::Other(resampler) = self {
            resampler.finish(out);
        }
    }
}

impl Collector {
    /// Starts a fingerprint of audio with `rate` Hz and `channels`.
    ///
    /// # Errors
    /// [`AnalyzeError::Unsupported`] for a rate or a channel count outside the limits.
    pub(crate) fn new(rate: u32, channels: usize, precision: Precision) -> Result<Self, AnalyzeError> {
        if !(MIN_RATE..=MAX_RATE).contains(&rate) {
            return Err(AnalyzeError::Unsupported(format!("a sample rate of {rate} Hz")));
        }
        if !(1..=MAX_CHANNELS).contains(&channels) {
            return Err(AnalyzeError::Unsupported(format!("{channels} channels")));
        }
        let path = match precision {
            Precision::Sixteen => Path::Sixteen {
                resamplers: (0..channels).map(|_| Rate::from(rate)).collect(),
                weights: integer_weights(channels),
                plane: Vec::with_capacity(BLOCK_FRAMES),
                resampled: vec![Vec::with_capacity(BLOCK_FRAMES); channels],
            },
            #[allow(clippy::cast_possible_truncation, reason = "weights of the analysis' own precision")]
            Precision::Float => Path::Float {
                resampler: Rate::from(rate),
                weights: weights(channels).into_iter().map(|weight| weight as f32).collect(),
                mono: Vec::with_capacity(BLOCK_FRAMES),
            },
        };
        Ok(Self {
            channels,
            rate,
            skip: 0,
            limit: u64::MAX,
            taken: 0,
            path,
            ready: Vec::with_capacity(BLOCK_FRAMES),
            analysed: 0,
            chroma: Chroma::new(),
        })
    }

    /// Drops the first `frames` frames that come (an encoder's delay).
    pub(crate) fn skip(&mut self, frames: u64) {
        self.skip = frames;
    }

    /// Drops all after `frames` frames that count (an encoder's padding).
    pub(crate) fn limit(&mut self, frames: u64) {
        self.limit = frames;
    }

    /// Number of channels that are pushed.
    pub(crate) fn channels(&self) -> usize {
        self.channels
    }

    /// Whether audio of this shape continues the stream.
    pub(crate) fn fits(&self, rate: u32, channels: usize) -> bool {
        self.rate == rate && self.channels == channels
    }

    /// Frames taken so far.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes one plane for each channel, all of one length.
    pub(crate) fn push_planes<S: Sample>(&mut self, planes: &[&[S]]) -> Progress {
        let length = planes.iter().map(|plane| plane.len()).min().unwrap_or(0);
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(length);
        self.skip -= skipped as u64;
        let left = usize::try_from(self.limit - self.taken).unwrap_or(usize::MAX);
        let length = length.min(skipped.saturating_add(left));
        let mut at = skipped;
        while at < length && self.progress() == Progress::More && planes.len() == self.channels {
            let upto = length.min(at + BLOCK_FRAMES);
            self.taken += (upto - at) as u64;
            match &mut self.path {
                Path::Sixteen { resamplers, weights, plane, resampled } => {
                    for ((from, resampler), to) in planes.iter().zip(resamplers).zip(resampled.iter_mut()) {
                        plane.clear();
                        plane.extend(from[at..upto].iter().map(|sample| sample.to_i16()));
                        to.clear();
                        resampler.push(plane, to);
                    }
                    mix_planes(resampled, weights, &mut self.ready);
                }
                Path::Float { resampler, weights, mono } => {
                    mix_floats(planes, at, upto, weights, mono);
                    resampler.push(mono, &mut self.ready);
                }
            }
            self.analyse();
            at = upto;
        }
        self.progress()
    }

    /// Takes interleaved frames; a part of a frame at the end is dropped.
    pub(crate) fn push_interleaved<S: Sample>(&mut self, samples: &[S]) -> Progress {
        for block in samples.chunks(self.channels * BLOCK_FRAMES) {
            let planes: Vec<Vec<S>> = (0..self.channels)
                .map(|channel| {
                    block
                        .chunks_exact(self.channels)
                        .filter_map(|frame| frame.get(channel).copied())
                        .collect()
                })
                .collect();
            let planes: Vec<&[S]> = planes.iter().map(Vec::as_slice).collect();
            if self.push_planes(&planes) == Progress::Done {
                break;
            }
        }
        self.progress()
    }

    /// Ends the stream. `None` if it was too short for a single item (about 2.7 s).
    pub(crate) fn finish(mut self) -> Option<Fingerprint> {
        if self.progress() == Progress::More {
            match self.path {
                Path::Sixteen { resamplers, weights, mut resampled, .. } => {
                    for (resampler, to) in resamplers.into_iter().zip(&mut resampled) {
                        to.clear();
                        resampler.finish(to);
                    }
                    mix_planes(&resampled, &weights, &mut self.ready);
                }
                Path::Float { resampler, .. } => resampler.finish(&mut self.ready),
            }
            self.ready.truncate(WANTED - self.analysed);
            self.chroma.push(&self.ready);
        }
        Fingerprint::from_items(self.chroma.finish()).ok()
    }

    fn analyse(&mut self) {
        self.ready.truncate(WANTED - self.analysed);
        self.chroma.push(&self.ready);
        self.analysed += self.ready.len();
        self.ready.clear();
    }

    fn progress(&self) -> Progress {
        if self.analysed >= WANTED { Progress::Done } else { Progress::More }
    }
}

fn mix_planes(planes: &[Vec<i16>], weights: &[i32], out: &mut Vec<i16>) {
    match planes {
        [one] => out.extend_from_slice(one),
        [left, right] => {
            out.extend(left.iter().zip(right).map(|(&l, &r)| mix_integers([l, r].into_iter(), weights)));
        }
        _ => {
            let length = planes.iter().map(Vec::len).min().unwrap_or(0);
            out.extend((0..length).map(|at| mix_integers(planes.iter().map(|plane| plane[at]), weights)));
        }
    }
}

fn mix_floats<S: Sample>(planes: &[&[S]], at: usize, upto: usize, weights: &[f32], mono: &mut Vec<f32>) {
    mono.clear();
    match planes {
        [one] => mono.extend(one[at..upto].iter().map(|sample| sample.to_f32())),
        [left, right] => {
            let pairs = left[at..upto].iter().zip(&right[at..upto]);
            mono.extend(pairs.map(|(l, r)| (l.to_f32() + r.to_f32()) * 0.5));
        }
        _ => {
            mono.resize(upto - at, 0.0);
            for (plane, weight) in planes.iter().zip(weights) {
                for (sum, sample) in mono.iter_mut().zip(&plane[at..upto]) {
                    *sum += sample.to_f32() * weight;
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers of test data")]
mod tests {
    use super::*;

    fn noise(samples: usize) -> Vec<i16> {
        let mut state = 1u32;
        let mut low = 0i32;
        (0..samples)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                low += ((state >> 16) as i32 - 32_768 - low) / 8;
                low as i16
            })
            .collect()
    }

    #[test]
    fn planes_and_frames_agree_for_every_channel_count() {
        for channels in [1usize, 2, 3, 6] {
            let planes: Vec<Vec<i16>> =
                (0..channels).map(|c| noise(200_000).into_iter().skip(c * 7).collect()).collect();
            let frames = planes.iter().map(Vec::len).min().unwrap();
            let mut interleaved = Vec::new();
            for at in 0..frames {
                interleaved.extend(planes.iter().map(|plane| plane[at]));
            }
            for precision in [Precision::Sixteen, Precision::Float] {
                let mut a = Collector::new(44_100, channels, precision).unwrap();
                let mut b = Collector::new(44_100, channels, precision).unwrap();
                a.skip(100);
                b.skip(100);
                let slices: Vec<&[i16]> = planes.iter().map(|plane| &plane[..frames]).collect();
                assert_eq!(a.push_planes(&slices), Progress::More);
                for piece in interleaved.chunks(channels * 999) {
                    b.push_interleaved(piece);
                }
                assert_eq!(a.taken(), frames as u64 - 100);
                assert_eq!(a.finish().unwrap(), b.finish().unwrap());
            }
        }
    }

    #[test]
    fn both_precisions_hear_the_same() {
        let music = noise(1_000_000);
        let items = |precision| {
            let mut collector = Collector::new(44_100, 2, precision).unwrap();
            collector.push_planes(&[&music, &music]);
            collector.finish().unwrap()
        };
        let (a, b) = (items(Precision::Sixteen), items(Precision::Float));
        let errors: u32 = a.items().iter().zip(b.items()).map(|(x, y)| (x ^ y).count_ones()).sum();
        assert!(errors < a.items().len() as u32 / 10, "{errors}");
    }

    #[test]
    fn stops_at_120_seconds() {
        let mut collector = Collector::new(8_000, 1, Precision::Sixteen).unwrap();
        let second = noise(8_000);
        for number in 1..=125 {
            let progress = collector.push_planes(&[&second]);
            assert_eq!(progress == Progress::Done, number > 120, "{number}");
        }
        assert_eq!(collector.finish().unwrap().items().len(), 948);
    }

    #[test]
    fn refuses_odd_shapes_and_short_audio() {
        assert!(Collector::new(1_000, 2, Precision::Float).is_err());
        assert!(Collector::new(1_000_000, 2, Precision::Float).is_err());
        assert!(Collector::new(44_100, 0, Precision::Float).is_err());
        assert!(Collector::new(44_100, 33, Precision::Float).is_err());
        assert!(Collector::new(44_100, 2, Precision::Float).unwrap().finish().is_none());
    }
}
