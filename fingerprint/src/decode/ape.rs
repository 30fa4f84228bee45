//! Monkey's Audio, with the `ape-decoder` crate.

use std::io::{Read, Seek, SeekFrom};
use std::time::Instant;

use ape_decoder::{ApeDecoder, ApeError};

use super::{Decoded, check_deadline, finish};
use crate::audio::{Collector, Precision, Progress};
use crate::error::AnalyzeError;
use crate::source::Window;

/// Largest seek table, in bytes: 12 h in the shortest frames (9,216 samples) need 0.9 MB.
const MAX_SEEK_TABLE: u32 = 4 << 20;
/// Largest stored WAV header: real ones have 44 bytes to a few kilobytes of chunks.
const MAX_WAV_HEADER: u32 = 1 << 20;
/// Largest decoded frame: "insane" has 1,179,648 samples a frame, so 8 channels of 32 bits fit.
const MAX_FRAME_BYTES: u64 = 40 << 20;
const MAX_CHANNELS: u16 = 32;

pub(super) fn decode(mut window: Window) -> Result<Decoded, AnalyzeError> {
    let started = Instant::now();
    let deadline = window.deadline();
    check_sizes(&mut window)?;
    window.seek(SeekFrom::Start(0))?;
    let mut decoder = ApeDecoder::new(window).map_err(reason)?;
    let info = decoder.info().clone();
    let frame_bytes =
        u64::from(info.blocks_per_frame.max(info.final_frame_blocks)) * u64::from(info.block_align);
    if frame_bytes > MAX_FRAME_BYTES || info.channels == 0 || info.channels > MAX_CHANNELS {
        return Err(AnalyzeError::Corrupt("impossible frame size".into()));
    }
    if info.is_floating_point {
        return Err(AnalyzeError::Unsupported("floating point in Monkey's Audio".into()));
    }
    let precision = if info.bits_per_sample <= 16 { Precision::Sixteen } else { Precision::Float };
    let mut collector = Collector::new(info.sample_rate, usize::from(info.channels), precision)?;
    let mut damage = None;
    for number in 0..decoder.total_frames() {
        check_deadline(started, deadline)?;
        let bytes = match decoder.decode_frame(number) {
            Ok(bytes) => bytes,
            Err(error) => {
                damage = Some(reason(error));
                break;
            }
        };
        let samples = samples(&bytes, info.bits_per_sample, info.is_big_endian, info.is_signed_8bit)?;
        if collector.push_interleaved(&samples) == Progress::Done {
            break;
        }
    }
    Ok(Decoded {
        codec: "ape".into(),
        duration_ms: info.duration_ms,
        sample_rate: info.sample_rate,
        channels: info.channels,
        lossless: true,
        fingerprint: finish(collector, info.sample_rate, info.duration_ms, damage)?,
    })
}

/// The decoder allocates what the header asks for, so the header is read before it.
fn check_sizes(window: &mut Window) -> Result<(), AnalyzeError> {
    let mut head = [0u8; 44];
    window.read_exact(&mut head).map_err(|_| AnalyzeError::Truncated("in the header".into()))?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let version = u16::from_le_bytes([head[4], head[5]]);
    let (table, wav_header) = if version >= 3_980 {
        (word(16), word(20))
    } else {
        // The older header has a count of seek points behind an optional peak level, else one for each frame.
        let flags = u16::from_le_bytes([head[8], head[9]]);
        let peak = if flags & 4 != 0 { 4 } else { 0 };
        let points = if flags & 16 != 0 { word(32 + peak) } else { word(24) };
        (points.saturating_mul(4).max(word(24).saturating_mul(4)), word(16))
    };
    if table > MAX_SEEK_TABLE || wav_header > MAX_WAV_HEADER || u64::from(table) > window.len() {
        return Err(AnalyzeError::Corrupt("impossible sizes in the header".into()));
    }
    Ok(())
}

/// Interleaved PCM bytes of one frame as samples, left-aligned in 32 bits.
fn samples(bytes: &[u8], bits: u16, big_endian: bool, signed_8bit: bool) -> Result<Vec<i32>, AnalyzeError> {
    let wide = |width: usize| -> Vec<i32> {
        let sample = |from: &[u8]| {
            let mut word = [0u8; 4];
            if big_endian {
                word[..width].copy_from_slice(from);
                i32::from_be_bytes(word)
            } else {
                word[4 - width..].copy_from_slice(from);
                i32::from_le_bytes(word)
            }
        };
        bytes.chunks_exact(width).map(sample).collect()
    };
    match bits {
        8 if signed_8bit => Ok(wide(1)),
        8 => Ok(bytes.iter().map(|&byte| (i32::from(byte) - 128) << 24).collect()),
        16 => Ok(wide(2)),
        24 => Ok(wide(3)),
        32 => Ok(wide(4)),
        other => Err(AnalyzeError::Unsupported(format!("{other}-bit Monkey's Audio"))),
    }
}

fn reason(error: ApeError) -> AnalyzeError {
    match error {
        ApeError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            AnalyzeError::Truncated("in Monkey's Audio data".into())
        }
        ApeError::Io(error) => error.into(),
        ApeError::UnsupportedVersion(version) => {
            AnalyzeError::Unsupported(format!("Monkey's Audio of version {version}"))
        }
        ApeError::DecodingError("short read on frame data") => {
            AnalyzeError::Truncated("in Monkey's Audio data".into())
        }
        other => AnalyzeError::Corrupt(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_widths() {
        assert_eq!(samples(&[0, 128, 255], 8, false, false).unwrap(), [i32::MIN, 0, 127 << 24]);
        assert_eq!(samples(&[0x80, 0], 8, false, true).unwrap(), [i32::MIN, 0]);
        assert_eq!(samples(&[0x34, 0x12], 16, false, false).unwrap(), [0x1234_0000]);
        assert_eq!(samples(&[0xff, 0x34, 0x12], 24, false, false).unwrap(), [0x1234_ff00]);
        assert_eq!(samples(&[0x12, 0x34, 0xff, 0xfe], 32, true, false).unwrap(), [0x1234_fffe]);
        assert!(samples(&[], 12, false, false).is_err());
    }
}
