//! The chunks of RIFF WAVE (with EBU Tech 3306's RF64) and of AIFF: whether the audio's chunk is all there.

use std::io::{self, Read, Seek, SeekFrom};

use super::whole::{lacks, take};

/// Chunks that are looked at; real files have a handful.
const MAX_CHUNKS: u32 = 256;
/// Encoders count a little too much: the pad byte, or the header itself as audio. No interrupted copy ends so near.
const SLACK: u64 = 256;

/// What the audio's chunk, or a later one that the whole form's size confirms, promises beyond `end`.
pub(crate) fn missing<R: Read + Seek>(source: &mut R, end: u64) -> io::Result<Option<String>> {
    source.seek(SeekFrom::Start(0))?;
    let head: [u8; 12] = take(source)?;
    let big_endian = head.starts_with(b"FORM");
    let number = |bytes: [u8; 4]| {
        u64::from(if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    };
    let form_end = 8 + number([head[4], head[5], head[6], head[7]]);
    let mut long_size = None;
    let mut at = 12u64;
    for _ in 0..MAX_CHUNKS {
        source.seek(SeekFrom::Start(at))?;
        let id: [u8; 4] = take(source)?;
        let size = number(take(source)?);
        let start = at + 8;
        match &id {
            b"ds64" => {
                let [_, _, _, _, _, _, _, _, data @ ..]: [u8; 16] = take(source)?;
                long_size = Some(u64::from_le_bytes(data));
            }
            b"data" | b"SSND" => {
                let size = if size == 0xffff_ffff { long_size.unwrap_or(size) } else { size };
                if is_placeholder(size) {
                    return Ok(None);
                }
                if beyond(start, size, end) {
                    return Ok(Some(lacks("header", size, "bytes of audio", end.saturating_sub(start))));
                }
                at = start.saturating_add(size).saturating_add(size & 1);
                continue;
            }
            // Tags behind the audio: sizes of such chunks are wrong now and then, but not twice by the same.
            _ if beyond(start, size, end) => {
                let confirmed = start + size <= form_end + 1 && !is_placeholder(form_end - 8);
                return Ok(confirmed.then(|| lacks("header", form_end, "bytes", end)));
            }
            _ => {}
        }
        at = start.saturating_add(size).saturating_add(size & 1);
    }
    Ok(None)
}

fn beyond(start: u64, size: u64, end: u64) -> bool {
    start.saturating_add(size) > end.saturating_add(SLACK)
}

/// Sizes that programs write into a pipe, where they cannot come back to correct them: FFmpeg and GStreamer all
/// ones or zero, SoX and ALSA something just below or at 2 GiB.
fn is_placeholder(size: u64) -> bool {
    matches!(size, 0 | 0x7f00_0000..=0x8000_0000 | 0xffff_ff00..=0xffff_ffff | u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn wav(size: u32, audio: usize) -> Vec<u8> {
        let mut bytes = b"RIFF".to_vec();
        bytes.extend(size.wrapping_add(36).to_le_bytes());
        bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x44\xac\0\0\x88\x58\x01\0\x02\0\x10\0data");
        bytes.extend(size.to_le_bytes());
        bytes.resize(bytes.len() + audio, 0);
        bytes
    }

    fn check(bytes: &[u8]) -> Option<String> {
        missing(&mut Cursor::new(bytes), bytes.len() as u64).ok().flatten()
    }

    #[test]
    fn promised_and_streamed_sizes() {
        let cut = check(&wav(10_584_000, 292_000)).unwrap();
        assert_eq!(cut, "its header promises 10,584,000 bytes of audio, 292,000 are there");
        for streamed in [0, 0x7fff_f000, 0x7fff_ffff, 0x8000_0000, 0xffff_ff00, u32::MAX - 36, u32::MAX] {
            assert_eq!(check(&wav(streamed, 5_000)), None, "{streamed:x}");
        }
        assert_eq!(check(&wav(5_001, 5_001)), None);
        assert_eq!(check(&wav(5_001, 5_000)), None);
        assert_eq!(check(&wav(5_044, 5_000)), None);
        assert_eq!(check(&wav(5_000, 5_128)), None);
    }

    #[test]
    fn long_sizes() {
        let mut bytes = b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0".to_vec();
        bytes.extend([0; 8]);
        bytes.extend(100_000u64.to_le_bytes());
        bytes.extend([0; 12]);
        bytes.extend(b"data\xff\xff\xff\xff");
        bytes.resize(bytes.len() + 60_000, 0);
        assert!(check(&bytes).is_some());
        bytes.resize(bytes.len() + 40_000, 0);
        assert_eq!(check(&bytes), None);
    }

    #[test]
    fn chunks_behind_the_audio() {
        let mut bytes = wav(5_000, 5_000);
        bytes.extend(b"id3 \0\x10\0\0");
        bytes.extend([0; 4_096]);
        let form = u32::try_from(bytes.len() - 8).unwrap();
        assert_eq!(check(&bytes[..7_000]), None, "the form's size does not know the tag");
        bytes[4..8].copy_from_slice(&form.to_le_bytes());
        assert!(check(&bytes[..7_000]).is_some());
        assert_eq!(check(&bytes), None);
    }
}
