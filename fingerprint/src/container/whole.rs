//! Whether a file ends before its own header says that it does: an interrupted copy or download.
//!
//! Each container's module reads a little of the start and of the end. What no header promises is not missed:
//! recordings of streams have no length and are whole.

use std::fmt::Write as _;
use std::io::{self, Read, Seek};

use antiphon_proto::Container;

use super::{adts, ape, asf_end, flac, mkv, mp3, mp4_end, ogg, riff};

/// What the file lacks, in words that follow "the file is cut off: "; `None` if it is whole or nothing is known.
///
/// # Errors
/// The source's own, but not that it ends early.
pub(crate) fn missing<R: Read + Seek>(
    container: Container,
    source: &mut R,
    end: u64,
) -> io::Result<Option<String>> {
    let found = match container {
        Container::Wav | Container::Aiff => riff::missing(source, end),
        Container::Flac => flac::missing(source, end),
        Container::Ogg | Container::Opus => ogg::missing(source, end),
        Container::Mp3 => mp3::missing(source, end),
        Container::M4a => mp4_end::missing(source, end),
        Container::Mka => mkv::missing(source, end),
        Container::Aac => adts::missing(source, end),
        Container::Ape => ape::missing(source, end),
        Container::Wma => asf_end::missing(source, end),
        Container::Unknown => Ok(None),
    };
    match found {
        // A header that breaks off is the decoder's to report: it knows which part it was.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        found => found,
    }
}

/// "its header promises 10,584,000 bytes of audio, 5,292,000 are there".
pub(super) fn lacks(part: &str, promised: u64, of: &str, there: u64) -> String {
    format!("its {part} promises {} {of}, {} are there", grouped(promised), grouped(there))
}

/// A number with a comma before every third digit from the right.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + 6);
    for (at, digit) in digits.chars().enumerate() {
        let comma = if at > 0 && (digits.len() - at).is_multiple_of(3) { "," } else { "" };
        let _ = write!(text, "{comma}{digit}");
    }
    text
}

/// Reads exactly `N` bytes from where the source is.
pub(super) fn take<const N: usize>(source: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    source.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(
            lacks("header", 10_584_000, "bytes of audio", 5_292_000),
            "its header promises 10,584,000 bytes of audio, 5,292,000 are there"
        );
    }

    const STARTS: [&[u8]; 10] = [
        b"RIFF\x10\x27\0\0WAVEdata",
        b"FORM\0\0\x27\x10AIFFSSND",
        b"fLaC\0\0\0\x22\x10\0\x10\0\0\0\0\0\0\0\x0a\xc4\x42\xf0\0\0\xff\xff",
        b"OggS\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x1e",
        b"\xff\xfb\x90\0",
        b"\0\0\0\x08ftyp\0\0\0\x40moov\0\0\0\x38trak\0\0\0\x30mdia",
        b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67",
        b"\xff\xf1\x50\x80\x01\x1f\xfc",
        b"MAC \x96\x0f\0\0\x34\0\0\0\x18\0\0\0",
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c\x1e\0\0\0\0\0\0\0",
    ];

    proptest! {
        #[test]
        fn total_on_any_bytes(start in prop::sample::select(&STARTS[..]), rest: Vec<u8>, longer in 0u64..99) {
            let bytes = [start, &rest].concat();
            for number in 0..=10u8 {
                let container = Container::from_byte(number).unwrap_or(Container::Unknown);
                let end = bytes.len() as u64 + longer;
                prop_assert!(missing(container, &mut io::Cursor::new(&bytes), end).is_ok());
            }
        }
    }
}
