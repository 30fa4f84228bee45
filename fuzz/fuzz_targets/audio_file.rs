//! Whole files: told apart, decoded, and their tags, pictures and texts read.
#![no_main]

use std::{io::Write, sync::LazyLock};

use antiphon_fingerprint::{Analyzer, AnalyzerConfig, FfmpegChoice, sniff};

static ANALYZER: LazyLock<Analyzer> = LazyLock::new(|| {
    Analyzer::new(AnalyzerConfig { ffmpeg: FfmpegChoice::Without, ..AnalyzerConfig::default() })
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = sniff(bytes);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let _ = ANALYZER.analyze(file.path());
    let _ = ANALYZER.cover(file.path());
    let _ = ANALYZER.lyrics(file.path());
});
