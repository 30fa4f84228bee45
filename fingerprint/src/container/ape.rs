//! Whether the frames of a Monkey's Audio file are all there.

use std::io::{self, Read, Seek, SeekFrom};

use super::whole::{lacks, take};

/// Version 3.98 (2003) brought the descriptor with the lengths; files of older ones do not tell.
const FIRST_WITH_LENGTHS: u16 = 3_980;
/// Descriptor and header have 52 and 24 bytes; more than this is no file to be judged.
const MAX_HEADER: u64 = 64 * 1024;
/// Seek table and stored WAV header, as large as the decoder takes them or larger.
const MAX_TABLE: u64 = 16 << 20;

/// Adds up the parts that the descriptor lists, up to the last frame.
pub(crate) fn missing<R: Read + Seek>(source: &mut R, end: u64) -> io::Result<Option<String>> {
    source.seek(SeekFrom::Start(0))?;
    let head: [u8; 36] = take(source)?;
    let word =
        |at: usize| u64::from(u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
    if u16::from_le_bytes([head[4], head[5]]) < FIRST_WITH_LENGTHS {
        return Ok(None);
    }
    let (descriptor, header, table, stored) = (word(8), word(12), word(16), word(20));
    if descriptor > MAX_HEADER || header > MAX_HEADER || table > MAX_TABLE || stored > MAX_TABLE {
        return Ok(None);
    }
    let frames = word(24) | word(28) << 32;
    let start = descriptor + header + table + stored;
    if start.saturating_add(frames) <= end {
        return Ok(None);
    }
    Ok(Some(lacks("header", frames, "bytes of audio", end.saturating_sub(start))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn lengths_add_up() {
        let mut bytes = b"MAC \x96\x0f\0\0\x34\0\0\0\x18\0\0\0\x08\0\0\0\x2c\0\0\0\xe8\x03\0\0".to_vec();
        bytes.resize(52 + 24 + 8 + 44 + 1_000, 0);
        let check = |length: usize| missing(&mut Cursor::new(&bytes[..length]), length as u64).unwrap();
        assert_eq!(check(1_128), None);
        assert_eq!(check(628).unwrap(), "its header promises 1,000 bytes of audio, 500 are there");
        bytes[4] = 0x6e;
        assert_eq!(missing(&mut Cursor::new(&bytes[..628]), 628).unwrap(), None, "3.95 has no lengths");
    }
}
