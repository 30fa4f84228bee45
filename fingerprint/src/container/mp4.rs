//! What symphonia does not tell of an MP4 file (ISO/IEC 14496-12): its sample entry, protection, edit list.

use std::io::{self, Read, Seek, SeekFrom};

/// Boxes visited in all before the file counts as malformed: a real `moov` of one track has about 60.
const MAX_BOXES: u32 = 4_096;
/// Nesting of the containers below.
const MAX_DEPTH: u32 = 8;

/// The first audio track of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct AudioTrack {
    /// Four-character code of its sample entry, e.g. `mp4a`, `alac`, `drms`.
    pub(crate) entry: [u8; 4],
    /// Ticks in a second.
    timescale: u32,
    /// Media length in ticks.
    duration: u64,
    /// First media tick that the edit list plays.
    start: u64,
    /// Ticks that the edit list plays, in the movie's timescale.
    edited: u64,
    movie_timescale: u32,
}

impl AudioTrack {
    /// Frames of `rate` Hz to drop at the start.
    pub(crate) fn skip_frames(&self, rate: u32) -> u64 {
        scale(self.start, rate, self.timescale).unwrap_or(0)
    }

    /// Playing time by the edit list, or the whole media without one.
    pub(crate) fn duration_ms(&self) -> Option<u64> {
        let media = scale(self.duration.saturating_sub(self.start), 1_000, self.timescale);
        let edited = scale(self.edited, 1_000, self.movie_timescale).filter(|&ms| ms > 0);
        match (media, edited) {
            // A list that plays more than there is (a loop) says nothing of the music's length.
            (Some(media), Some(edited)) => Some(edited.min(media)).filter(|&ms| ms > 0),
            (media, edited) => media.filter(|&ms| ms > 0).or(edited),
        }
    }

    /// Apple's FairPlay or common encryption.
    pub(crate) fn protection(&self) -> Option<&'static str> {
        match &self.entry {
            b"drms" | b"drmi" => Some("Apple FairPlay"),
            b"enca" | b"encs" => Some("common encryption (DRM)"),
            b"aavd" | b"aax " => Some("Audible DRM"),
            _ => None,
        }
    }
}

fn scale(ticks: u64, to: u32, from: u32) -> Option<u64> {
    u64::try_from(u128::from(ticks) * u128::from(to) / u128::from(from.max(1))).ok().filter(|_| from > 0)
}

/// Reads the first audio track's facts; `None` if there is no audio track or the boxes make no sense.
///
/// # Errors
/// The source's own, except that a file which ends too early gives what was found.
pub(crate) fn read<R: Read + Seek>(source: &mut R, start: u64, end: u64) -> io::Result<Option<AudioTrack>> {
    let mut walk = Walk {
        source,
        boxes: 0,
        movie_timescale: 0,
        track: AudioTrack::default(),
        is_audio: false,
        found: None,
    };
    match walk.children(start, end, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
        Err(error) => return Err(error),
    }
    let movie_timescale = walk.movie_timescale;
    Ok(walk.found.map(|track| AudioTrack { movie_timescale, ..track }))
}

struct Walk<'a, R> {
    source: &'a mut R,
    boxes: u32,
    movie_timescale: u32,
    /// The track being read.
    track: AudioTrack,
    is_audio: bool,
    found: Option<AudioTrack>,
}

impl<R: Read + Seek> Walk<'_, R> {
    fn children(&mut self, mut at: u64, end: u64, depth: u32) -> io::Result<()> {
        while self.found.is_none() && at.saturating_add(8) <= end {
            self.boxes += 1;
            if self.boxes > MAX_BOXES {
                return Ok(());
            }
            self.source.seek(SeekFrom::Start(at))?;
            let size = u64::from(u32::from_be_bytes(self.bytes()?));
            let kind: [u8; 4] = self.bytes()?;
            let (header, size) = match size {
                0 => (8, end - at),
                1 => (16, u64::from_be_bytes(self.bytes()?)),
                size => (8, size),
            };
            if size < header {
                return Ok(());
            }
            let next = at.saturating_add(size);
            self.content(kind, at + header, next.min(end), depth)?;
            at = next;
        }
        Ok(())
    }

    fn content(&mut self, kind: [u8; 4], at: u64, end: u64, depth: u32) -> io::Result<()> {
        match &kind {
            b"moov" | b"mdia" | b"minf" | b"stbl" | b"edts" if depth < MAX_DEPTH => {
                self.children(at, end, depth + 1)
            }
            b"trak" if depth < MAX_DEPTH => {
                self.track = AudioTrack::default();
                self.is_audio = false;
                self.children(at, end, depth + 1)?;
                if self.is_audio && self.found.is_none() {
                    self.found = Some(self.track);
                }
                Ok(())
            }
            b"mvhd" => {
                self.movie_timescale = self.times()?.0;
                Ok(())
            }
            b"mdhd" => {
                (self.track.timescale, self.track.duration) = self.times()?;
                Ok(())
            }
            b"hdlr" => {
                let fields: [u8; 12] = self.bytes()?;
                self.is_audio = fields.ends_with(b"soun");
                Ok(())
            }
            b"stsd" => {
                let fields: [u8; 16] = self.bytes()?;
                self.track.entry.copy_from_slice(&fields[12..16]);
                Ok(())
            }
            b"elst" => self.edits(),
            _ => Ok(()),
        }
    }

    /// Timescale and duration of an `mvhd` or `mdhd` box.
    fn times(&mut self) -> io::Result<(u32, u64)> {
        let [version, ..]: [u8; 4] = self.bytes()?;
        if version == 1 {
            let _: [u8; 16] = self.bytes()?;
            Ok((u32::from_be_bytes(self.bytes()?), u64::from_be_bytes(self.bytes()?)))
        } else {
            let _: [u8; 8] = self.bytes()?;
            Ok((u32::from_be_bytes(self.bytes()?), u64::from(u32::from_be_bytes(self.bytes()?))))
        }
    }

    /// The first edit that plays media. Later ones are for films.
    fn edits(&mut self) -> io::Result<()> {
        let [version, ..]: [u8; 4] = self.bytes()?;
        let count = u32::from_be_bytes(self.bytes()?);
        for _ in 0..count.min(4) {
            let (length, start) = if version == 1 {
                (u64::from_be_bytes(self.bytes()?), i64::from_be_bytes(self.bytes()?))
            } else {
                let length = u64::from(u32::from_be_bytes(self.bytes()?));
                (length, i64::from(i32::from_be_bytes(self.bytes()?)))
            };
            let _rate: [u8; 4] = self.bytes()?;
            if let Ok(start) = u64::try_from(start) {
                (self.track.start, self.track.edited) = (start, length);
                break;
            }
        }
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(content.len() + 8).unwrap().to_be_bytes().to_vec();
        bytes.extend(kind);
        bytes.extend(content);
        bytes
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    /// A file of one audio track with the given sample entry and no media.
    fn file(entry: &[u8; 4]) -> Vec<u8> {
        let mut hdlr = words(&[0, 0]);
        hdlr.extend(b"soun");
        hdlr.extend([0; 13]);
        let mut sample = vec![0; 28];
        sample[7] = 1;
        sample[17] = 2;
        sample[19] = 16;
        sample[24..26].copy_from_slice(&44_100u16.to_be_bytes());
        let stsd = [words(&[0, 1]), boxed(entry, &sample)].concat();
        let stbl = boxed(b"stbl", &boxed(b"stsd", &stsd));
        let mdhd = boxed(b"mdhd", &words(&[0, 0, 0, 44_100, 441_000, 0]));
        let mdia = boxed(b"mdia", &[mdhd, boxed(b"hdlr", &hdlr), boxed(b"minf", &stbl)].concat());
        let edits = boxed(b"edts", &boxed(b"elst", &words(&[0, 1, 9_000, 1_024, 0x1_0000])));
        let trak = boxed(b"trak", &[edits, mdia].concat());
        let mvhd = boxed(b"mvhd", &words(&[0, 0, 0, 1_000, 10_000]));
        [boxed(b"ftyp", b"M4A \0\0\0\0"), boxed(b"moov", &[mvhd, trak].concat())].concat()
    }

    fn parse(bytes: &[u8]) -> Option<AudioTrack> {
        read(&mut Cursor::new(bytes), 0, bytes.len() as u64).unwrap()
    }

    #[test]
    fn reads_entry_edits_and_lengths() {
        let track = parse(&file(b"mp4a")).unwrap();
        assert_eq!(&track.entry, b"mp4a");
        assert_eq!(track.protection(), None);
        assert_eq!(track.skip_frames(44_100), 1_024);
        assert_eq!(track.skip_frames(22_050), 512);
        assert_eq!(track.duration_ms(), Some(9_000));
    }

    #[test]
    fn sees_protection() {
        assert_eq!(parse(&file(b"drms")).unwrap().protection(), Some("Apple FairPlay"));
        assert!(parse(&file(b"enca")).unwrap().protection().is_some());
    }

    #[test]
    fn cut_files_and_loops_end() {
        let whole = file(b"mp4a");
        for length in 0..whole.len() {
            let _ = parse(&whole[..length]);
        }
        let endless: Vec<u8> = (0..100_000).flat_map(|_| boxed(b"free", b"")).collect();
        assert_eq!(parse(&endless), None);
        assert_eq!(parse(&boxed(b"moov", &[0; 64])), None);
    }

    proptest::proptest! {
        #[test]
        fn total_on_any_bytes(at in 0usize..300, change: Vec<u8>) {
            let mut bytes = file(b"mp4a");
            for (byte, new) in bytes.iter_mut().skip(at).zip(change) {
                *byte = new;
            }
            let _ = parse(&bytes).map(|track| (track.duration_ms(), track.skip_frames(44_100)));
        }
    }
}
