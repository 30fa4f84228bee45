//! MPEG audio frame headers, the Xing/Info/VBRI/LAME tags in the first frame, and exact lengths of streams.
//!
//! ISO/IEC 11172-3 and 13818-3 for the header; the tags have no standard, the layouts are those that LAME,
//! FFmpeg and Fraunhofer's encoder write.

use std::io::{self, Read, Seek, SeekFrom};

use super::whole::lacks;

/// Longest frame: 320 kbit/s layer III at 8 kHz (MPEG 2.5 tables) or 384 kbit/s layer II, with padding.
const MAX_FRAME_BYTES: usize = 2_881 + 4;

/// Frames at the start that must have one bit rate before the stream can count as one of constant bit rate.
const CONSTANT_RATE_FRAMES: u64 = 256;

/// Bytes that may be fewer than the first frame's tag counts, as no count means the same to all encoders.
const SLACK_BYTES: u64 = 8 * 1024;

/// Samples that every MPEG decoder delays its output by, on top of the encoder's delay.
const DECODER_DELAY: u32 = 529;

const KBPS_V1_L2: [u16; 15] = [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384];
const KBPS_V1_L3: [u16; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
const KBPS_V2_L23: [u16; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];

/// What a frame header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// 3 for MPEG 1, 2 for MPEG 2, 0 for MPEG 2.5, as in the header.
    version: u32,
    /// 2 or 3.
    pub(crate) layer: u8,
    pub(crate) kbps: u16,
    pub(crate) rate: u32,
    pub(crate) mono: bool,
    has_crc: bool,
    /// Whole frame, header included.
    pub(crate) bytes: usize,
    pub(crate) samples: u32,
}

impl Header {
    /// Reads a header of layer II or III. Free-format and reserved values give `None`, as real files have none
    /// and they would let noise pass.
    pub(crate) fn parse(bytes: [u8; 4]) -> Option<Self> {
        let word = u32::from_be_bytes(bytes);
        if word >> 21 != 0x7ff || word & 3 == 2 {
            return None;
        }
        let version = (word >> 19) & 3;
        let layer = match (word >> 17) & 3 {
            1 => 3u8,
            2 => 2,
            _ => return None,
        };
        let rate_at_v1: u32 = *[44_100, 48_000, 32_000].get(usize::try_from((word >> 10) & 3).ok()?)?;
        let (rate, table) = match version {
            3 => (rate_at_v1, if layer == 2 { &KBPS_V1_L2 } else { &KBPS_V1_L3 }),
            2 => (rate_at_v1 / 2, &KBPS_V2_L23),
            0 => (rate_at_v1 / 4, &KBPS_V2_L23),
            _ => return None,
        };
        let kbps = *table.get(usize::try_from((word >> 12) & 15).ok()?)?;
        if kbps == 0 {
            return None;
        }
        let samples: u32 = if layer == 3 && version != 3 { 576 } else { 1152 };
        let padding = (word >> 9) & 1;
        let bytes = samples / 8 * u32::from(kbps) * 1_000 / rate + padding;
        Some(Self {
            version,
            layer,
            kbps,
            rate,
            mono: (word >> 6) & 3 == 3,
            has_crc: (word >> 16) & 1 == 0,
            bytes: usize::try_from(bytes).ok()?,
            samples,
        })
    }

    /// Whether `next` can follow in the same stream.
    fn continues(&self, next: &Self) -> bool {
        (self.version, self.layer, self.rate, self.mono) == (next.version, next.layer, next.rate, next.mono)
    }

    fn side_info_bytes(&self) -> usize {
        match (self.version == 3, self.mono) {
            (true, false) => 32,
            (true, true) | (false, false) => 17,
            (false, true) => 9,
        }
    }
}

/// A header at `at` in `bytes`, if there is one.
fn header_at(bytes: &[u8], at: usize) -> Option<Header> {
    Header::parse(*bytes.get(at..)?.first_chunk()?)
}

/// Finds the first of `chain` consistent frames in a row, from `from` to `upto`.
pub(crate) fn find_stream(bytes: &[u8], from: usize, upto: usize, chain: usize) -> Option<usize> {
    (from..upto.min(bytes.len())).find(|&at| {
        let Some(first) = header_at(bytes, at) else { return false };
        let mut next = at + first.bytes;
        (1..chain).all(|_| match header_at(bytes, next) {
            Some(header) if first.continues(&header) => {
                next += header.bytes;
                true
            }
            _ => false,
        })
    })
}

/// Length and delays of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) header: Header,
    /// Playable samples for each channel in the whole file.
    pub(crate) samples: u64,
    /// Decoded samples to drop at the start.
    pub(crate) skip: u32,
    /// Samples to play after those, if the encoder says how much it padded.
    pub(crate) played: Option<u64>,
}

/// What the tag in the first frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct InfoTag {
    frames: Option<u32>,
    /// Bytes of the stream, this frame included.
    bytes: Option<u32>,
    /// Whether an encoder wrote it whose byte counts are exact.
    exact: bool,
    /// Whether all frames have one bit rate.
    constant: bool,
    /// Encoder delay and padding, in samples.
    gaps: Option<(u32, u32)>,
}

/// Measures the stream that starts at `start` of `source` (its first frame header) and ends at `end`.
///
/// With a frame count in a tag this reads one frame; with a constant bit rate a few hundred; otherwise the
/// headers of all frames.
///
/// # Errors
/// The source's own; `InvalidData` if there is no frame at `start`.
pub(crate) fn measure<R: Read + Seek>(source: &mut R, start: u64, end: u64) -> io::Result<Stream> {
    source.seek(SeekFrom::Start(start))?;
    let mut frame = Vec::with_capacity(MAX_FRAME_BYTES);
    source.by_ref().take(MAX_FRAME_BYTES as u64).read_to_end(&mut frame)?;
    let header = header_at(&frame, 0).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    frame.truncate(header.bytes);
    let tag = info_tag(&frame, &header);
    let gaps = tag.and_then(|tag| tag.gaps);
    let audio = start + if tag.is_some() { header.bytes as u64 } else { 0 };
    let frames = match tag.and_then(|tag| tag.frames) {
        Some(frames) => u64::from(frames),
        None => count_frames(source, audio, end, &header)?,
    };
    let total = frames * u64::from(header.samples);
    let Some((delay, padding)) = gaps else {
        return Ok(Stream { header, samples: total, skip: 0, played: None });
    };
    let samples = total.saturating_sub(u64::from(delay + padding));
    Ok(Stream { header, samples, skip: delay + DECODER_DELAY, played: Some(samples) })
}

fn info_tag(frame: &[u8], header: &Header) -> Option<InfoTag> {
    if header.layer != 3 {
        return None;
    }
    // The CRC's two bytes are not counted by encoders that write the tag after the side information.
    let at = 4 + header.side_info_bytes();
    for at in if header.has_crc { [at, at + 2] } else { [at, at] } {
        if let Some(b"Xing" | b"Info") = frame.get(at..at + 4) {
            return Some(xing(frame, at));
        }
    }
    // VBRI is always 32 bytes behind the header.
    if frame.get(36..40) == Some(b"VBRI") {
        let word = |at: usize| frame.get(at..).and_then(<[u8]>::first_chunk).map(|b| u32::from_be_bytes(*b));
        let (bytes, frames) = (word(46).filter(|&n| n > 0), word(50).filter(|&n| n > 0));
        return Some(InfoTag { frames, bytes, ..InfoTag::default() });
    }
    None
}

fn xing(frame: &[u8], at: usize) -> InfoTag {
    let word = |at: usize| frame.get(at..).and_then(<[u8]>::first_chunk).map(|b| u32::from_be_bytes(*b));
    let flags = word(at + 4).unwrap_or(0);
    let mut next = at + 8;
    let mut frames = None;
    if flags & 1 != 0 {
        frames = word(next).filter(|&n| n > 0);
        next += 4;
    }
    let mut bytes = None;
    if flags & 2 != 0 {
        bytes = word(next).filter(|&n| n > 0);
        next += 4;
    }
    for (bit, length) in [(4, 100), (8, 4)] {
        if flags & bit != 0 {
            next += length;
        }
    }
    // Only these three encoders fill in the delays; others leave anything there.
    let exact = matches!(frame.get(next..next + 4), Some(b"LAME" | b"Lavf" | b"Lavc"));
    let gaps = frame
        .get(next + 21..next + 24)
        .filter(|_| exact)
        .map(|b| u32::from_be_bytes([0, b[0], b[1], b[2]]))
        .map(|gaps| (gaps >> 12, gaps & 0xfff));
    InfoTag { frames, bytes, exact, constant: frame.get(at..at + 4) == Some(b"Info"), gaps }
}

/// What the tag in the first frame, which is at the start, promises beyond `end`.
///
/// Without such a tag a stream promises nothing: it can end after any frame.
pub(super) fn missing<R: Read + Seek>(source: &mut R, end: u64) -> io::Result<Option<String>> {
    source.seek(SeekFrom::Start(0))?;
    let mut frames = Vec::with_capacity(2 * MAX_FRAME_BYTES);
    source.by_ref().take(2 * MAX_FRAME_BYTES as u64).read_to_end(&mut frames)?;
    let Some(header) = header_at(&frames, 0) else { return Ok(None) };
    let Some(tag) = info_tag(&frames[..frames.len().min(header.bytes)], &header) else { return Ok(None) };
    // Only at a constant rate do frames tell bytes.
    let second = header_at(&frames, header.bytes).filter(|second| tag.constant && header.continues(second));
    let by_frames = || {
        let frame_bits = u64::from(second?.kbps) * 1_000 * u64::from(header.samples) / u64::from(header.rate);
        Some(frame_bits.saturating_mul(u64::from(tag.frames?)) / 8)
    };
    let Some(promised) = tag.bytes.map(u64::from).or_else(by_frames) else { return Ok(None) };
    // Old encoders counted the tags that they wrote around the stream; cutters leave the count as it was.
    let slack = (if tag.exact { promised / 200 } else { promised / 50 }).max(SLACK_BYTES);
    let cut = promised > end.saturating_add(slack);
    Ok(cut.then(|| lacks("header", promised, "bytes of audio", end)))
}

/// Counts frames from `start` to `end`.
fn count_frames<R: Read + Seek>(source: &mut R, start: u64, end: u64, first: &Header) -> io::Result<u64> {
    let mut walk = Walk::new(source, start, end)?;
    let mut constant = true;
    while walk.frames < CONSTANT_RATE_FRAMES {
        match walk.next(first)? {
            Some(header) => constant &= header.kbps == first.kbps,
            None => return Ok(walk.frames),
        }
    }
    let length = end.saturating_sub(start);
    if constant {
        // Three more places, so that a variable rate with a quiet start is not taken for a constant one.
        for quarter in 1..=3u64 {
            let mut probe = Walk::new(source, start + length / 4 * quarter, end)?;
            constant &= probe.next(first)?.is_none_or(|header| header.kbps == first.kbps);
        }
    }
    if constant {
        let bits = u128::from(length) * 8 * u128::from(first.rate);
        let frames = bits / (u128::from(first.kbps) * 1_000 * u128::from(first.samples));
        return Ok(u64::try_from(frames).unwrap_or(u64::MAX));
    }
    let mut walk = Walk::new(source, start, end)?;
    while walk.next(first)?.is_some() {}
    Ok(walk.frames)
}

/// Goes from header to header, through a window of the file.
struct Walk<'a, R> {
    source: &'a mut R,
    window: Vec<u8>,
    /// Place in `window` of the next header.
    at: usize,
    /// Bytes of the file after the window.
    left: u64,
    frames: u64,
}

impl<'a, R: Read + Seek> Walk<'a, R> {
    const WINDOW: usize = 64 * 1024;

    fn new(source: &'a mut R, start: u64, end: u64) -> io::Result<Self> {
        source.seek(SeekFrom::Start(start))?;
        let left = end.saturating_sub(start);
        Ok(Self { source, window: Vec::with_capacity(Self::WINDOW), at: 0, left, frames: 0 })
    }

    fn next(&mut self, like: &Header) -> io::Result<Option<Header>> {
        loop {
            if self.window.len() < self.at + 2 * MAX_FRAME_BYTES {
                self.refill()?;
            }
            let Some(rest) = self.window.get(self.at..).filter(|rest| rest.len() >= 4) else {
                return Ok(None);
            };
            match header_at(rest, 0) {
                Some(header) if like.continues(&header) => {
                    // A frame that the file's end cuts off has no sound.
                    if rest.len() < header.bytes {
                        return Ok(None);
                    }
                    self.at += header.bytes;
                    self.frames += 1;
                    return Ok(Some(header));
                }
                // Not at a frame: the next place where two follow each other, or the end of the window.
                _ => {
                    let last = self.window.len().saturating_sub(MAX_FRAME_BYTES).max(self.at + 1);
                    match find_stream(&self.window, self.at + 1, last, 2) {
                        Some(at) => self.at = at,
                        None => self.at = last,
                    }
                }
            }
        }
    }

    fn refill(&mut self) -> io::Result<()> {
        if self.left == 0 {
            return Ok(());
        }
        self.window.drain(..self.at.min(self.window.len()));
        self.at = 0;
        let room = (Self::WINDOW - self.window.len()) as u64;
        let got = self.source.by_ref().take(room.min(self.left)).read_to_end(&mut self.window)?;
        self.left = if got == 0 { 0 } else { self.left - got as u64 };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A stereo MPEG 1 layer III frame of 44.1 kHz with the bit rate of `index`.
    fn frame(index: u8) -> Vec<u8> {
        let head = [0xff, 0xfb, index << 4, 0];
        let mut bytes = head.to_vec();
        bytes.resize(Header::parse(head).unwrap().bytes, 0);
        bytes
    }

    #[test]
    fn headers() {
        let header = Header::parse([0xff, 0xfb, 0x90, 0x00]).unwrap();
        assert_eq!((header.kbps, header.rate, header.bytes, header.samples), (128, 44_100, 417, 1152));
        let header = Header::parse([0xff, 0xf3, 0x42, 0xc0]).unwrap();
        assert_eq!((header.kbps, header.rate, header.bytes, header.samples), (32, 22_050, 105, 576));
        assert!(header.mono);
        for bad in [
            [0xff, 0xfb, 0xf0, 0], // bit rate 15
            [0xff, 0xfb, 0x00, 0], // free format
            [0xff, 0xfb, 0x9c, 0], // reserved rate
            [0xff, 0xeb, 0x90, 0], // reserved version
            [0xff, 0xf9, 0x90, 0], // layer 0 is ADTS
            [0xff, 0xff, 0x90, 0], // layer I
            [0x7f, 0xfb, 0x90, 0],
        ] {
            assert_eq!(Header::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn constant_and_variable_rates_are_measured() {
        let constant: Vec<u8> = (0..1000).flat_map(|_| frame(9)).collect();
        let length = constant.len() as u64;
        let stream = measure(&mut Cursor::new(&constant), 0, length).unwrap();
        // 417 bytes are a little less than the exact 417.96.
        assert!(stream.samples.abs_diff(1000 * 1152) < 4 * 1152, "{}", stream.samples);
        let variable: Vec<u8> = (0..1000u32).flat_map(|n| frame(if n < 300 { 9 } else { 11 })).collect();
        let length = variable.len() as u64;
        assert_eq!(measure(&mut Cursor::new(&variable), 0, length).unwrap().samples, 1000 * 1152);
    }

    #[test]
    fn junk_between_frames_is_stepped_over() {
        let mut bytes = Vec::new();
        for number in 0..300u32 {
            bytes.extend(frame(if number % 2 == 0 { 9 } else { 10 }));
            if number == 150 {
                bytes.extend([0x55; 5000]);
            }
        }
        let length = bytes.len() as u64;
        assert_eq!(measure(&mut Cursor::new(&bytes), 0, length).unwrap().samples, 300 * 1152);
    }

    #[test]
    fn tags_in_the_first_frame() {
        let mut first = frame(9);
        first[36..40].copy_from_slice(b"Info");
        first[43] = 1;
        first[44..48].copy_from_slice(&500u32.to_be_bytes());
        first[48..52].copy_from_slice(b"LAME");
        first[69..72].copy_from_slice(&[0x24, 0x04, 0x80]); // 576 and 1152
        let length = first.len() as u64;
        let stream = measure(&mut Cursor::new(&first), 0, length).unwrap();
        assert_eq!((stream.samples, stream.skip), (500 * 1152 - 576 - 1152, 576 + 529));

        first[48..52].copy_from_slice(b"GOGO");
        let stream = measure(&mut Cursor::new(&first), 0, length).unwrap();
        assert_eq!((stream.samples, stream.skip), (500 * 1152, 0));

        let mut first = frame(9);
        first[36..40].copy_from_slice(b"VBRI");
        first[50..54].copy_from_slice(&77u32.to_be_bytes());
        assert_eq!(measure(&mut Cursor::new(&first), 0, length).unwrap().samples, 77 * 1152);
    }

    #[test]
    fn the_tag_promises_bytes() {
        let file = |flags: u8, encoder: &[u8; 4], frames: u32, bytes: u32, there: usize| {
            let mut first = frame(9);
            first[36..40].copy_from_slice(b"Info");
            first[43] = flags;
            let words = [(1, frames), (2, bytes)].into_iter().filter(|(bit, _)| flags & bit != 0);
            let mut at = 44;
            for (_, word) in words {
                first[at..at + 4].copy_from_slice(&word.to_be_bytes());
                at += 4;
            }
            first[at..at + 4].copy_from_slice(encoder);
            first.extend((0..there).flat_map(|_| frame(9)));
            let length = first.len() as u64;
            missing(&mut Cursor::new(first), length).unwrap()
        };
        let whole = 2_001 * 417;
        assert_eq!(file(3, b"LAME", 2_000, whole, 2_000), None);
        assert_eq!(file(3, b"LAME", 2_000, whole, 1_985), None);
        assert_eq!(
            file(3, b"LAME", 2_000, whole, 1_000).unwrap(),
            "its header promises 834,417 bytes of audio, 417,417 are there"
        );
        assert!(file(3, b"LAME", 2_000, whole, 1_975).is_some());
        assert_eq!(file(3, b"GOGO", 2_000, whole, 1_975), None);
        assert!(file(3, b"GOGO", 2_000, whole, 1_900).is_some());
        assert_eq!(file(1, b"GOGO", 2_000, 0, 2_000), None);
        assert!(file(1, b"GOGO", 2_000, 0, 1_900).is_some());
        assert_eq!(file(0, b"LAME", 0, 0, 100), None);
    }

    proptest::proptest! {
        #[test]
        fn total_on_any_bytes(mut bytes: Vec<u8>, seed in 0usize..4) {
            if seed > 0 && bytes.len() > 4 {
                bytes[..4].copy_from_slice(&[0xff, 0xfb, 0x90, 0x00]);
            }
            let length = bytes.len() as u64;
            let _ = measure(&mut Cursor::new(&bytes), 0, length);
            let _ = find_stream(&bytes, 0, bytes.len(), 3);
        }
    }
}
