//! What a file is: its container, duration, tags and Chromaprint fingerprint, and which other song it equals.
//!
//! This crate reads local files and, for Windows Media Audio only, runs an `ffmpeg` program. It never opens a
//! socket and never writes to a file that it analyses.

pub mod analyzer;
mod audio;
mod chroma;
pub mod container;
mod decode;
pub mod error;
pub mod fingerprint;
pub mod index;
pub mod limits;
pub mod matching;
mod source;
pub mod tags;

pub use analyzer::{Analysis, Analyzer, AnalyzerConfig, FfmpegChoice};
pub use container::sniff::{SNIFF_BYTES, Sniffed, sniff};
pub use error::{AnalyzeError, ErrorClass};
pub use fingerprint::{Fingerprint, FingerprintError};
pub use tags::{Cover, Tags};
