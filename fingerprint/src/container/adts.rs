//! ADTS frame headers (ISO/IEC 13818-7, 6.2) the exact length of a raw AAC stream, and whether it is cut.

use std::io::{self, Read, Seek, SeekFrom};

use super::whole::lacks;

const HEADER_BYTES: usize = 7;
const RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
/// Samples in one raw data block.
const BLOCK_SAMPLES: u64 = 1_024;
/// Read at once while counting.
const WINDOW: usize = 64 * 1024;

/// What a frame header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Version bit, profile, rate index and channels: the same in all frames.
    fixed: u32,
    pub(crate) rate: u32,
    bytes: usize,
    blocks: u64,
}

impl Header {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let head: [u8; HEADER_BYTES] = *bytes.first_chunk()?;
        if head[0] != 0xff || head[1] & 0xf6 != 0xf0 {
            return None;
        }
        let rate = *RATES.get(usize::from((head[2] >> 2) & 15))?;
        let length = usize::from(head[3] & 3) << 11 | usize::from(head[4]) << 3 | usize::from(head[5] >> 5);
        if length < HEADER_BYTES {
            return None;
        }
        let fixed = u32::from_be_bytes([0, head[1], head[2] & 0xfd, head[3] & 0xc0]);
        Some(Self { fixed, rate, bytes: length, blocks: u64::from(head[6] & 3) + 1 })
    }
}

/// Finds the first of `chain` consistent frames in a row, from `from` to `upto`.
pub(crate) fn find_stream(bytes: &[u8], from: usize, upto: usize, chain: usize) -> Option<usize> {
    (from..upto.min(bytes.len())).find(|&at| {
        let Some(first) = Header::parse(&bytes[at..]) else { return false };
        let mut next = at + first.bytes;
        (1..chain).all(|_| match bytes.get(next..).and_then(Header::parse) {
            Some(header) if header.fixed == first.fixed => {
                next += header.bytes;
                true
            }
            _ => false,
        })
    })
}

/// Counts the samples of the stream from `start` to `end` by its frame headers.
///
/// # Errors
/// The source's own.
pub(crate) fn measure<R: Read + Seek>(source: &mut R, start: u64, end: u64) -> io::Result<u64> {
    source.seek(SeekFrom::Start(start))?;
    let mut left = end.saturating_sub(start);
    let mut window = Vec::with_capacity(WINDOW);
    let mut at = 0usize;
    let mut blocks = 0u64;
    loop {
        // A frame has at most 8,191 bytes.
        if window.len() < at + 16_384 && left > 0 {
            window.drain(..at.min(window.len()));
            at = 0;
            let room = (WINDOW - window.len()) as u64;
            let got = source.by_ref().take(room.min(left)).read_to_end(&mut window)?;
            left = if got == 0 { 0 } else { left - got as u64 };
        }
        let Some(rest) = window.get(at..).filter(|rest| rest.len() >= HEADER_BYTES) else { break };
        match Header::parse(rest) {
            Some(header) if header.bytes > rest.len() => break,
            Some(header) => {
                blocks += header.blocks;
                at += header.bytes;
            }
            None => {
                let last = window.len().saturating_sub(8_192).max(at + 1);
                at = find_stream(&window, at + 1, last, 2).unwrap_or(last);
            }
        }
    }
    Ok(blocks * BLOCK_SAMPLES)
}

/// What the last frame promises beyond `end`, if nothing but a part of that frame follows the one before it.
pub(super) fn missing<R: Read + Seek>(source: &mut R, end: u64) -> io::Result<Option<String>> {
    let mut tail = Vec::with_capacity(WINDOW);
    source.seek(SeekFrom::Start(end.saturating_sub(WINDOW as u64)))?;
    source.by_ref().take(WINDOW as u64).read_to_end(&mut tail)?;
    // Three in a row are a stream, not chance.
    let Some(mut at) = find_stream(&tail, 0, tail.len(), 3) else { return Ok(None) };
    let fixed = Header::parse(&tail[at..]).map(|header| header.fixed);
    while let Some(header) = tail.get(at..).and_then(Header::parse) {
        let there = tail.len() - at;
        if Some(header.fixed) != fixed {
            break;
        }
        if header.bytes > there {
            // A tag at the end is written to whole files, so the frame is a damaged one.
            let tagged = tail.len().checked_sub(128).is_some_and(|at| tail[at..].starts_with(b"TAG"))
                || tail.len().checked_sub(32).is_some_and(|at| tail[at..].starts_with(b"APETAGEX"));
            return Ok((!tagged).then(|| lacks("last frame", header.bytes as u64, "bytes", there as u64)));
        }
        at += header.bytes;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn frame(length: u8) -> Vec<u8> {
        let mut bytes = vec![0xff, 0xf1, 0x50, 0x80, length >> 3, (length & 7) << 5 | 0x1f, 0xfc];
        bytes.resize(usize::from(length), 0);
        bytes
    }

    #[test]
    fn headers_and_lengths() {
        let header = Header::parse(&frame(100)).unwrap();
        assert_eq!((header.rate, header.bytes, header.blocks), (44_100, 100, 1));
        assert_eq!(Header::parse(&[0xff, 0xfb, 0x50, 0x80, 0x20, 0x1f, 0xfc]), None, "layer III");
        assert_eq!(Header::parse(&frame(100)[..6]), None);
        let mut bytes: Vec<u8> = (0..5000u32).flat_map(|n| frame(50 + (n % 100) as u8)).collect();
        let length = bytes.len() as u64;
        assert_eq!(measure(&mut Cursor::new(&bytes), 0, length).unwrap(), 5000 * 1024);
        bytes.truncate(bytes.len() - 1);
        assert_eq!(measure(&mut Cursor::new(&bytes), 0, length).unwrap(), 4999 * 1024);
    }

    #[test]
    fn the_last_frame_can_be_cut() {
        let bytes: Vec<u8> = (0..2_000u32).flat_map(|n| frame(50 + (n % 100) as u8)).collect();
        let check = |bytes: &[u8]| missing(&mut Cursor::new(bytes), bytes.len() as u64).unwrap();
        assert_eq!(check(&bytes), None);
        assert_eq!(
            check(&bytes[..bytes.len() - 49]).unwrap(),
            "its last frame promises 149 bytes, 100 are there"
        );
        let tag = [b"TAG", &[b' '; 125][..]].concat();
        assert_eq!(check(&[&bytes[..], &tag].concat()), None);
        assert_eq!(check(&[&bytes[..bytes.len() - 9], &tag].concat()), None);
    }

    proptest::proptest! {
        #[test]
        fn total_on_any_bytes(bytes: Vec<u8>) {
            let length = bytes.len() as u64;
            let _ = measure(&mut Cursor::new(&bytes), 0, length);
            let _ = find_stream(&bytes, 0, bytes.len(), 3);
        }
    }
}
