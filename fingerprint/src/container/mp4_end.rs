//! Whether an MP4 file's boxes and its audio's chunks lie within it (ISO/IEC 14496-12).

use std::io::{self, Read, Seek, SeekFrom};

use super::whole::{lacks, take};

/// Boxes visited in all: a file in fragments of ten seconds has two for each, so hours fit.
const MAX_BOXES: u32 = 8_192;
/// Nesting down to the chunk offsets: `moov`, `trak`, `mdia`, `minf`, `stbl`.
const MAX_DEPTH: u32 = 5;

/// What a box or the last chunk of an audio track promises beyond `end`.
pub(crate) fn missing<R: Read + Seek>(source: &mut R, end: u64) -> io::Result<Option<String>> {
    let mut walk = Walk { source, end, boxes: 0, is_audio: false, last_chunk: 0, found: None };
    match walk.children(0, end, 0) {
        // What breaks off in the middle of a box was found where that box began.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
        _ => {}
    }
    let beyond = walk.last_chunk >= end;
    Ok(walk.found.or_else(|| beyond.then(|| lacks("index", walk.last_chunk, "bytes and more", end))))
}

struct Walk<'a, R> {
    source: &'a mut R,
    end: u64,
    boxes: u32,
    is_audio: bool,
    /// Where the last chunk of an audio track begins.
    last_chunk: u64,
    found: Option<String>,
}

impl<R: Read + Seek> Walk<'_, R> {
    fn children(&mut self, mut at: u64, end: u64, depth: u32) -> io::Result<()> {
        while self.found.is_none() && at.saturating_add(8) <= end && self.boxes < MAX_BOXES {
            self.boxes += 1;
            self.source.seek(SeekFrom::Start(at))?;
            let size = u64::from(u32::from_be_bytes(take(self.source)?));
            let kind: [u8; 4] = take(self.source)?;
            let (header, size) = match size {
                // To the end of the file.
                0 => (8, end - at),
                1 => (16, u64::from_be_bytes(take(self.source)?)),
                size => (8, size),
            };
            if size < header {
                return Ok(());
            }
            let next = at.saturating_add(size);
            // Only boxes without which nothing plays: what follows the last one may be no box at all.
            if depth == 0 && next > self.end && matches!(&kind, b"moov" | b"mdat" | b"moof") {
                let name = String::from_utf8_lossy(&kind);
                self.found = Some(lacks(&format!("\"{name}\" box"), size, "bytes", self.end - at));
                return Ok(());
            }
            match &kind {
                b"moov" | b"mdia" | b"minf" | b"stbl" if depth < MAX_DEPTH => {
                    self.children(at + header, next.min(end), depth + 1)?;
                }
                b"trak" if depth < MAX_DEPTH => {
                    self.is_audio = false;
                    self.children(at + header, next.min(end), depth + 1)?;
                }
                b"hdlr" => self.is_audio = take::<12>(self.source)?.ends_with(b"soun"),
                b"stco" | b"co64" if self.is_audio => self.chunks(at + header, &kind == b"co64")?,
                _ => {}
            }
            at = next;
        }
        Ok(())
    }

    /// The last of a track's chunk offsets.
    fn chunks(&mut self, at: u64, wide: bool) -> io::Result<()> {
        let fields: [u8; 8] = take(self.source)?;
        let count = u32::from_be_bytes([fields[4], fields[5], fields[6], fields[7]]);
        let Some(last) = count.checked_sub(1).map(u64::from) else { return Ok(()) };
        let width = if wide { 8 } else { 4 };
        self.source.seek(SeekFrom::Start(at + 8 + last * width))?;
        let offset = if wide {
            u64::from_be_bytes(take(self.source)?)
        } else {
            u64::from(u32::from_be_bytes(take(self.source)?))
        };
        self.last_chunk = self.last_chunk.max(offset);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        [&u32::try_from(content.len() + 8).unwrap().to_be_bytes()[..], kind, content].concat()
    }

    fn file(handler: &[u8; 4], chunk: u32) -> Vec<u8> {
        let stco = boxed(b"stco", &[0u32, 2, 200, chunk].map(u32::to_be_bytes).concat());
        let minf = boxed(b"minf", &boxed(b"stbl", &stco));
        let hdlr = boxed(b"hdlr", &[&[0; 8], &handler[..], &[0; 13]].concat());
        let moov = boxed(b"moov", &boxed(b"trak", &boxed(b"mdia", &[hdlr, minf].concat())));
        [boxed(b"ftyp", b"M4A \0\0\0\0"), moov, boxed(b"mdat", &[0; 1_000])].concat()
    }

    fn check(bytes: &[u8]) -> Option<String> {
        missing(&mut Cursor::new(bytes), bytes.len() as u64).unwrap()
    }

    #[test]
    fn boxes_and_chunks() {
        let whole = file(b"soun", 600);
        assert_eq!(check(&whole), None);
        assert_eq!(check(&[&whole[..], b"TAGged".as_slice(), &[0; 122]].concat()), None);
        let cut = check(&whole[..whole.len() - 500]).unwrap();
        assert_eq!(cut, "its \"mdat\" box promises 1,008 bytes, 508 are there");
        assert!(check(&whole[..60]).unwrap().contains("moov"));
        assert!(check(&file(b"soun", 5_000)).unwrap().contains("index"));
        assert_eq!(check(&file(b"text", 5_000)), None, "chapters are not missed");
    }

    #[test]
    fn media_to_the_end_is_known_by_its_chunks() {
        let mut bytes = file(b"soun", 1_100);
        let mdat = bytes.len() - 1_008;
        bytes[mdat..mdat + 4].fill(0);
        assert_eq!(check(&bytes), None);
        assert!(check(&bytes[..1_000]).unwrap().contains("index"));
    }
}
