//! Why a file could not be analysed, in words fit for a scan report.

use std::io;
use std::time::Duration;

use crate::limits::{MAX_DURATION_MS, MAX_FILE_BYTES};

/// What a scan does with a file that gave an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Nothing is wrong with the scan: the file is not something that Antiphon takes.
    Skipped,
    /// The file should have worked: reading it failed or it is damaged. Worth a second look by the user.
    Failed,
}

/// Why a file has no analysis. The text completes "skipped: ..." or "failed: ...".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnalyzeError {
    /// The file could not be opened or read.
    #[error("cannot read the file: {0}")]
    Io(#[from] io::Error),
    /// Not a regular file.
    #[error("not a regular file")]
    NotAFile,
    /// Zero bytes.
    #[error("the file is empty")]
    Empty,
    /// Its first bytes are no audio format that is known.
    #[error("not an audio file")]
    NotAudio,
    /// More bytes than the network carries.
    #[error("the file has {0} bytes, more than the limit of {MAX_FILE_BYTES}")]
    TooLarge(u64),
    /// The file ends before enough audio for a fingerprint.
    #[error("the file is cut off: {0}")]
    Truncated(String),
    /// Digital rights management.
    #[error("protected by {0}; only its owner's player can decode it")]
    Encrypted(&'static str),
    /// This format is decoded by an `ffmpeg` program, and there is none.
    #[error(
        "Windows Media Audio needs the ffmpeg program, which was not found; install ffmpeg and scan again"
    )]
    NeedsFfmpeg,
    /// Less than a second, or too little for a fingerprint.
    #[error("too short for a fingerprint ({0} ms)")]
    TooShort(u64),
    /// More than twelve hours.
    #[error("{0} s long, more than the limit of {max} s", max = MAX_DURATION_MS / 1000)]
    TooLong(u64),
    /// A known container with a codec or a feature that is not decoded.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// The bytes contradict their format.
    #[error("the file is damaged: {0}")]
    Corrupt(String),
    /// It took too long; the file may be made to do that.
    #[error("gave up after {} s", .0.as_secs())]
    Timeout(Duration),
    /// The `ffmpeg` program could not be run or failed.
    #[error("ffmpeg failed: {0}")]
    Ffmpeg(String),
}

impl AnalyzeError {
    /// Whether a scan lists the file as skipped or as failed.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotAFile
            | Self::Empty
            | Self::NotAudio
            | Self::TooLarge(_)
            | Self::Encrypted(_)
            | Self::NeedsFfmpeg
            | Self::TooShort(_)
            | Self::TooLong(_)
            | Self::Unsupported(_) => ErrorClass::Skipped,
            Self::Io(_) | Self::Truncated(_) | Self::Corrupt(_) | Self::Timeout(_) | Self::Ffmpeg(_) => {
                ErrorClass::Failed
            }
        }
    }
}
