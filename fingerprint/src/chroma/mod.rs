//! Chromaprint's analysis: from 11,025 Hz mono samples to the items of its default algorithm.
//!
//! Overlapping frames of samples ([`frames`]) become energies in the twelve notes of the octave ([`spectrum`]);
//! these are smoothed over time and scaled to length one ([`smooth`]), summed up for quick rectangle sums
//! ([`image`]), and sixteen comparisons of rectangles give an item's 32 bits ([`classify`]).
//!
//! The numbers are Chromaprint's (<https://github.com/acoustid/chromaprint>, algorithm `TEST2`), because items
//! are only worth something if they are the same everywhere. The memory is fixed, except for the items themselves.

mod classify;
mod frames;
mod image;
mod smooth;
mod spectrum;
#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers of test data")]
mod tests;

use frames::Frames;
use image::Image;
use smooth::Smoother;
use spectrum::Spectrum;

/// Notes of the octave that energies are gathered in.
const BANDS: usize = 12;
/// Rate of the samples, in Hz.
const RATE: u32 = 11_025;

/// Energies of the twelve notes in one frame.
type Row = [f64; BANDS];

/// Makes one fingerprint; a second file needs a new one.
pub(crate) struct Chroma {
    frames: Frames,
    rows: Rows,
}

/// All that follows the cutting into frames.
struct Rows {
    spectrum: Spectrum,
    smoother: Smoother,
    image: Image,
    items: Vec<u32>,
}

impl Chroma {
    /// Starts a fingerprint.
    pub(crate) fn new() -> Self {
        let rows = Rows {
            spectrum: Spectrum::new(),
            smoother: Smoother::new(),
            image: Image::new(),
            items: Vec::new(),
        };
        Self { frames: Frames::new(), rows }
    }

    /// Takes the next samples, of 11,025 Hz. Each 1,365 add an item of 4 bytes, so whoever pushes bounds the memory.
    pub(crate) fn push(&mut self, samples: &[i16]) {
        self.frames.push(samples, |frame| self.rows.frame(frame));
    }

    /// The items: one for each 1,365 samples from sample 31,396 on. Samples that fill no frame are not heard.
    pub(crate) fn finish(self) -> Vec<u32> {
        self.rows.items
    }
}

impl Rows {
    fn frame(&mut self, frame: &[i16; frames::FRAME]) {
        let Some(row) = self.smoother.push(self.spectrum.row(frame)) else { return };
        self.image.push(&row);
        self.items.extend(classify::item(&self.image));
    }
}
