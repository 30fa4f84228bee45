//! From decoded samples to Chromaprint: resampling, mixing to mono, 16-bit rounding.

mod collect;
mod mix;
mod resample;
mod sample;

pub(crate) use collect::{Collector, Precision, Progress};
pub(crate) use sample::Sample;
