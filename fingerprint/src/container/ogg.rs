//! Where an Ogg stream ends, by the last page's position (RFC 3533, section 6), and whether that page is whole.

use std::io::{self, Read, Seek, SeekFrom};

use super::whole::lacks;

const HEADER_BYTES: usize = 27;
/// A page has at most 65,307 bytes, so the last one begins in this much of the end, whatever else is muxed in.
const TAIL_BYTES: u64 = 256 * 1024;
/// Room for the first pages of all streams.
const HEAD_BYTES: u64 = 64 * 1024;
/// Streams that may begin together; music has one, or a second one with a picture or a skeleton.
const MAX_STREAMS: usize = 16;

/// The first audio stream of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AudioStream {
    serial: u32,
    /// Position of its last page, in samples (of 48 kHz and with the pre-skip for Opus).
    pub(crate) end: u64,
}

/// Finds the first audio stream and its end; `None` if another stream follows it (a chain) or there is none.
///
/// # Errors
/// The source's own.
pub(crate) fn measure<R: Read + Seek>(source: &mut R, end: u64) -> io::Result<Option<AudioStream>> {
    let mut bytes = Vec::new();
    source.seek(SeekFrom::Start(0))?;
    source.by_ref().take(HEAD_BYTES).read_to_end(&mut bytes)?;
    let Some(serial) = first_audio(&bytes) else { return Ok(None) };
    source.seek(SeekFrom::Start(end.saturating_sub(TAIL_BYTES)))?;
    bytes.clear();
    source.by_ref().take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(last_position(&bytes, serial).map(|end| AudioStream { serial, end }))
}

/// What the last page promises beyond `end`. A missing end-of-stream flag is no sign: recordings have none.
pub(super) fn missing<R: Read + Seek>(source: &mut R, end: u64) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    source.seek(SeekFrom::Start(end.saturating_sub(TAIL_BYTES)))?;
    source.by_ref().take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let mut at = 0;
    // From page to page; between them only where something else follows a page.
    while let Some(skip) = bytes.get(at..).and_then(|rest| rest.windows(5).position(|w| w == b"OggS\0")) {
        at += skip;
        let there = bytes.len() - at;
        match page_bytes(&bytes[at..]) {
            Some(length) if length <= there => at += length,
            Some(length) => return Ok(Some(lacks("last page", length as u64, "bytes", there as u64))),
            None => return Ok(Some("its last page ends in its header".into())),
        }
    }
    Ok(None)
}

/// Length of the page at the start of `bytes`, if its header is all there.
fn page_bytes(bytes: &[u8]) -> Option<usize> {
    let segments = usize::from(*bytes.get(HEADER_BYTES - 1)?);
    let table = bytes.get(HEADER_BYTES..HEADER_BYTES + segments)?;
    Some(HEADER_BYTES + segments + table.iter().map(|&size| usize::from(size)).sum::<usize>())
}

fn first_audio(bytes: &[u8]) -> Option<u32> {
    let mut rest = bytes;
    for _ in 0..MAX_STREAMS {
        let header = rest.first_chunk::<HEADER_BYTES>()?;
        let begins = header[5] & 2 != 0;
        if !header.starts_with(b"OggS") || !begins {
            return None;
        }
        let segments = usize::from(header[26]);
        let length: usize =
            rest.get(HEADER_BYTES..HEADER_BYTES + segments)?.iter().map(|&s| usize::from(s)).sum();
        let body = rest.get(HEADER_BYTES + segments..)?;
        if [&b"\x01vorbis"[..], b"OpusHead", b"\x7fFLAC"].iter().any(|magic| body.starts_with(magic)) {
            return Some(serial_of(header));
        }
        rest = body.get(length..)?;
    }
    None
}

fn serial_of(header: &[u8; HEADER_BYTES]) -> u32 {
    u32::from_le_bytes([header[14], header[15], header[16], header[17]])
}

/// The last position that a page of `serial` has; pages in which no packet ends have none.
fn last_position(bytes: &[u8], serial: u32) -> Option<u64> {
    (0..bytes.len().saturating_sub(HEADER_BYTES - 1)).rev().find_map(|at| {
        let header = bytes[at..].first_chunk::<HEADER_BYTES>()?;
        if !header.starts_with(b"OggS\0") || serial_of(header) != serial {
            return None;
        }
        let position = i64::from_le_bytes(*header[6..].first_chunk()?);
        u64::try_from(position).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn page(flags: u8, position: i64, serial: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = b"OggS\0".to_vec();
        bytes.push(flags);
        bytes.extend(position.to_le_bytes());
        bytes.extend(serial.to_le_bytes());
        bytes.extend([0; 8]);
        bytes.push(1);
        bytes.push(u8::try_from(body.len()).unwrap());
        bytes.extend(body);
        bytes
    }

    fn end(pages: &[Vec<u8>]) -> Option<u64> {
        let bytes = pages.concat();
        measure(&mut Cursor::new(&bytes), bytes.len() as u64).unwrap().map(|stream| stream.end)
    }

    #[test]
    fn the_last_page_of_the_audio_counts() {
        let pages = [
            page(2, 0, 7, b"fishead"),
            page(2, 0, 9, b"\x01vorbis"),
            page(0, 100, 9, b"a"),
            page(0, 5_000, 9, b"b"),
            page(0, -1, 9, b"no packet ends here"),
            page(4, 99_999, 7, b"other"),
        ];
        assert_eq!(end(&pages), Some(5_000));
        assert_eq!(end(&pages[..1]), None);
        assert_eq!(end(&[page(2, 0, 9, b"Speex   ")]), None);
    }

    #[test]
    fn the_last_page_can_be_cut() {
        let filler = (0..3_000).flat_map(|n| page(0, n, 9, &[7; 200]));
        let bytes: Vec<u8> = page(2, 0, 9, b"\x01vorbis").into_iter().chain(filler).collect();
        let check = |bytes: &[u8]| missing(&mut Cursor::new(bytes), bytes.len() as u64).unwrap();
        assert_eq!(check(&bytes), None);
        assert_eq!(check(&bytes[..bytes.len() - 228]), None, "between two pages");
        assert_eq!(
            check(&bytes[..bytes.len() - 100]).unwrap(),
            "its last page promises 228 bytes, 128 are there"
        );
        assert!(check(&bytes[..bytes.len() - 210]).is_some());
        for junk in [&[0; 50_000][..], &[b"TAG", &[b' '; 125][..]].concat()] {
            assert_eq!(check(&[&bytes, junk].concat()), None);
        }
    }

    #[test]
    fn of_a_chain_the_end_is_unknown() {
        let first = [page(2, 0, 1, b"OpusHead"), page(4, 48_000, 1, &[0; 200])].concat();
        let filler = vec![0; 300_000];
        let second = [page(2, 0, 2, b"OpusHead"), page(4, 96_000, 2, b"x")].concat();
        assert_eq!(end(&[first, filler, second]), None);
    }

    proptest::proptest! {
        #[test]
        fn total_on_any_bytes(bytes: Vec<u8>) {
            let _ = measure(&mut Cursor::new(&bytes), bytes.len() as u64);
        }
    }
}
