//! Whether a native FLAC file (RFC 9639) has the last of the samples that its STREAMINFO block counts.

use std::io::{self, Read, Seek, SeekFrom};

use super::whole::{lacks, take};

/// Metadata blocks that are looked at.
const MAX_BLOCKS: u32 = 1_024;
/// Read of the end. Frames have a few kilobytes, but tags of other formats may follow the last one.
const TAIL_BYTES: u64 = 64 * 1024;
/// Most that is read of the end for large frames (many channels at high rates).
const MAX_TAIL_BYTES: u64 = 1 << 20;
/// Longest frame header: 15 bytes and the CRC.
const MAX_HEADER: usize = 16;

#[derive(Debug, Clone, Copy)]
struct StreamInfo {
    max_block: u64,
    max_frame: u64,
    rate: u64,
    samples: u64,
}

/// Compares the last frame's position with the sample count.
pub(crate) fn missing<R: Read + Seek>(source: &mut R, end: u64) -> io::Result<Option<String>> {
    let Some((info, audio)) = metadata(source)? else { return Ok(None) };
    if audio > end {
        return Ok(Some(lacks("metadata", audio, "bytes before the audio", end)));
    }
    if info.samples == 0 || info.rate == 0 {
        return Ok(None);
    }
    let reach = (info.max_frame * 2).clamp(TAIL_BYTES, MAX_TAIL_BYTES);
    let mut tail = Vec::new();
    source.seek(SeekFrom::Start(end.saturating_sub(reach).max(audio)))?;
    source.by_ref().take(reach).read_to_end(&mut tail)?;
    // The furthest position: a false header within a frame can only make a cut file look longer.
    let last = (0..tail.len()).filter_map(|at| frame_end(&tail[at..], &info)).max();
    // Exactly all samples in every encoder's files; a last block and a moment are allowed to be missing.
    let slack = info.max_block + info.rate / 10;
    Ok(last
        .or_else(|| (audio == end).then_some(0))
        .filter(|last| last.saturating_add(slack) < info.samples)
        .map(|last| lacks("header", info.samples, "samples", last)))
}

/// The stream's facts and where its metadata ends.
fn metadata<R: Read + Seek>(source: &mut R) -> io::Result<Option<(StreamInfo, u64)>> {
    source.seek(SeekFrom::Start(0))?;
    let magic: [u8; 8] = take(source)?;
    if !magic.starts_with(b"fLaC") || magic[4] & 0x7f != 0 || magic[5..] != [0, 0, 34] {
        return Ok(None);
    }
    let body: [u8; 34] = take(source)?;
    let word = |from: usize, to: usize| body[from..to].iter().fold(0u64, |n, &byte| n << 8 | u64::from(byte));
    let info = StreamInfo {
        max_block: word(2, 4),
        max_frame: word(7, 10),
        rate: word(10, 13) >> 4,
        samples: word(13, 18) & 0xf_ffff_ffff,
    };
    let mut at = 42u64;
    let mut is_last = magic[4] & 0x80 != 0;
    for _ in 0..MAX_BLOCKS {
        if is_last {
            return Ok(Some((info, at)));
        }
        source.seek(SeekFrom::Start(at))?;
        let mut head = [0u8; 4];
        if source.read_exact(&mut head).is_err() {
            return Ok(Some((info, at + 4)));
        }
        is_last = head[0] & 0x80 != 0;
        at += 4 + u64::from(u32::from_be_bytes([0, head[1], head[2], head[3]]));
    }
    Ok(None)
}

/// Position after the frame whose header is at the start of `bytes` (RFC 9639, 9.1), if one of this stream is.
fn frame_end(bytes: &[u8], info: &StreamInfo) -> Option<u64> {
    let head: [u8; 4] = *bytes.first_chunk()?;
    let (block_bits, rate_bits) = (head[2] >> 4, head[2] & 15);
    let valid = head[0] == 0xff && head[1] & 0xfe == 0xf8 && head[3] & 1 == 0;
    if !valid || block_bits == 0 || rate_bits == 15 || head[3] >> 4 > 10 {
        return None;
    }
    let (number, length) = coded_number(&bytes[4..])?;
    let mut at = 4 + length;
    let mut number_of = |wide: bool| {
        let width = if wide { 2 } else { 1 };
        let value = bytes.get(at..at + width)?.iter().fold(0u64, |n, &byte| n << 8 | u64::from(byte));
        at += width;
        Some(value)
    };
    let block = match block_bits {
        1 => 192,
        2..=5 => 576u64 << (block_bits - 2),
        6 => number_of(false)? + 1,
        7 => number_of(true)? + 1,
        _ => 256 << (block_bits - 8),
    };
    match rate_bits {
        12 => number_of(false)?,
        13 | 14 => number_of(true)?,
        _ => 0,
    };
    if at >= MAX_HEADER || block > info.max_block || crc8(bytes.get(..at)?) != *bytes.get(at)? {
        return None;
    }
    let start = if head[1] & 1 == 1 { number } else { number.checked_mul(info.max_block)? };
    start.checked_add(block).filter(|&end| end <= info.samples)
}

/// A number coded as in UTF-8, extended to seven bytes, and how many bytes it takes.
fn coded_number(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = match first.leading_ones() {
        0 => return Some((u64::from(first), 1)),
        ones @ 2..=7 => usize::try_from(ones).ok()?,
        _ => return None,
    };
    let mut value = u64::from(first & (0x7f >> length));
    for &byte in bytes.get(1..length)? {
        if byte & 0xc0 != 0x80 {
            return None;
        }
        value = value << 6 | u64::from(byte & 0x3f);
    }
    Some((value, length))
}

/// Polynomial x^8 + x^2 + x + 1, starting at zero.
fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |crc, &byte| {
        (0..8).fold(crc ^ byte, |crc, _| if crc & 0x80 != 0 { crc << 1 ^ 7 } else { crc << 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A frame of 4,096 samples with a body of nonsense.
    fn frame(number: u8) -> Vec<u8> {
        let mut bytes = vec![0xff, 0xf8, 0xc9, 0x18, number];
        bytes.push(crc8(&bytes));
        bytes.resize(2_000, 0x55);
        bytes
    }

    fn file(samples: u32, frames: u8) -> Vec<u8> {
        let mut bytes = b"fLaC\x80\0\0\x22\x10\0\x10\0\0\0\0\0\0\0\x0a\xc4\x42\xf0".to_vec();
        bytes.extend(samples.to_be_bytes());
        bytes.extend([0; 16]);
        bytes.extend((0..frames).flat_map(frame));
        bytes
    }

    fn check(bytes: &[u8]) -> Option<String> {
        missing(&mut Cursor::new(bytes), bytes.len() as u64).unwrap()
    }

    #[test]
    fn crc_of_the_standard_example() {
        // RFC 9639, D.1.2: the first frame header of its first example.
        assert_eq!(crc8(&[0xff, 0xf8, 0x69, 0x18, 0x00, 0x00]), 0xbf);
    }

    #[test]
    fn the_last_frame_tells() {
        assert_eq!(check(&file(100 * 4_096, 100)), None);
        assert_eq!(check(&file(0, 50)), None, "of unknown length");
        let cut = check(&file(100 * 4_096, 50)).unwrap();
        assert_eq!(cut, "its header promises 409,600 samples, 204,800 are there");
        let mut tagged = file(100 * 4_096, 100);
        tagged.extend(b"TAG");
        tagged.extend([0; 125]);
        assert_eq!(check(&tagged), None);
        tagged.extend([0; 100_000]);
        assert_eq!(check(&tagged), None, "the frames are too far away");
    }

    #[test]
    fn metadata_can_be_cut() {
        let mut bytes = file(100 * 4_096, 0);
        assert!(check(&bytes).is_some());
        bytes[4] = 0;
        bytes.extend([0x86, 0, 1, 0]);
        bytes.extend([0; 100]);
        assert_eq!(check(&bytes).unwrap(), "its metadata promises 302 bytes before the audio, 146 are there");
    }

    #[test]
    fn numbers() {
        assert_eq!(coded_number(&[0x7f]), Some((127, 1)));
        assert_eq!(coded_number(&[0xc2, 0x80]), Some((128, 2)));
        assert_eq!(coded_number(&[0xfe, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf]), Some(((1 << 36) - 1, 7)));
        assert_eq!(coded_number(&[0x80]), None);
        assert_eq!(coded_number(&[0xc2, 0x00]), None);
    }
}
