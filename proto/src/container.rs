//! The audio containers that the network knows, as one byte in a song block.

use std::fmt;

/// Kind of file that audio bytes are stored in. The discriminants are the byte in the ledger and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Container {
    /// Ogg with Vorbis or FLAC inside (RFC 3533).
    Ogg = 0,
    /// MPEG-1/2 layer III stream.
    Mp3 = 1,
    /// Native FLAC (RFC 9639).
    Flac = 2,
    /// ISO base media file with AAC or ALAC.
    M4a = 3,
    /// Raw AAC in ADTS frames.
    Aac = 4,
    /// Ogg with Opus inside (RFC 7845).
    Opus = 5,
    /// RIFF WAVE.
    Wav = 6,
    /// Audio Interchange File Format, AIFF-C included.
    Aiff = 7,
    /// Windows Media Audio in ASF.
    Wma = 8,
    /// Monkey's Audio.
    Ape = 9,
    /// Matroska audio.
    Mka = 10,
    /// Anything else.
    Unknown = 255,
}

impl Container {
    /// Every container with a name of its own, in the order of its byte.
    pub const ALL: [Self; 11] = [
        Self::Ogg,
        Self::Mp3,
        Self::Flac,
        Self::M4a,
        Self::Aac,
        Self::Opus,
        Self::Wav,
        Self::Aiff,
        Self::Wma,
        Self::Ape,
        Self::Mka,
    ];

    /// The byte in the ledger.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// The container of a ledger byte; `None` for a byte that no version has assigned.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Ogg,
            1 => Self::Mp3,
            2 => Self::Flac,
            3 => Self::M4a,
            4 => Self::Aac,
            5 => Self::Opus,
            6 => Self::Wav,
            7 => Self::Aiff,
            8 => Self::Wma,
            9 => Self::Ape,
            10 => Self::Mka,
            255 => Self::Unknown,
            _ => return None,
        })
    }

    /// File name extension that a download gets, without the dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Ogg => "ogg",
            Self::Mp3 => "mp3",
            Self::Flac => "flac",
            Self::M4a => "m4a",
            Self::Aac => "aac",
            Self::Opus => "opus",
            Self::Wav => "wav",
            Self::Aiff => "aiff",
            Self::Wma => "wma",
            Self::Ape => "ape",
            Self::Mka => "mka",
            Self::Unknown => "bin",
        }
    }

    /// Whether a file name extension (without dot, any case) suggests audio that a scan should open.
    /// The container itself is decided by the file's first bytes, never by this.
    #[must_use]
    pub fn is_audio_extension(extension: &str) -> bool {
        const KNOWN: [&str; 22] = [
            "ogg", "oga", "mp3", "mp2", "mpga", "flac", "m4a", "m4b", "mp4", "m4p", "aac", "adts", "opus",
            "wav", "wave", "aif", "aiff", "aifc", "wma", "ape", "mka", "webm",
        ];
        KNOWN.iter().any(|known| known.eq_ignore_ascii_case(extension))
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Unknown { "unknown" } else { self.extension() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_the_published_table() {
        let table: Vec<(u8, &str)> = Container::ALL.iter().map(|c| (c.byte(), c.extension())).collect();
        let published = ["ogg", "mp3", "flac", "m4a", "aac", "opus", "wav", "aiff", "wma", "ape", "mka"];
        assert_eq!(table, (0u8..).zip(published).collect::<Vec<_>>());
        assert_eq!(Container::Unknown.byte(), 255);
    }

    #[test]
    fn every_byte_maps_back_or_is_refused() {
        for byte in 0..=255u8 {
            if let Some(container) = Container::from_byte(byte) {
                assert_eq!(container.byte(), byte);
            } else {
                assert!((11..255).contains(&byte));
            }
        }
    }
}
