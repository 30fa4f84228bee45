//! The title of a Matroska segment (RFC 9559), which is where FFmpeg and mkvmerge put a song's title.

use std::io::{self, Read, Seek, SeekFrom};

use super::whole::lacks;

/// EBML header, segment, its information, and the title in that.
const SEGMENT: u32 = 0x1853_8067;
const INFO: u32 = 0x1549_a966;
const TITLE: u32 = 0x7ba9;
const CLUSTER: u32 = 0x1f43_b675;

/// Elements that are looked at on the way; the information is among the first.
const MAX_ELEMENTS: u32 = 64;
/// Most bytes of a title that are read.
const MAX_TITLE: u64 = 1_024;

/// The title, if there is one before the audio.
pub(crate) fn title<R: Read + Seek>(source: &mut R, end: u64) -> Option<String> {
    let segment = find(source, SEGMENT, 0, end)?;
    let info = find(source, INFO, segment.0, segment.1)?;
    let (start, end) = find(source, TITLE, info.0, info.1)?;
    source.seek(SeekFrom::Start(start)).ok()?;
    let mut bytes = Vec::new();
    source.by_ref().take((end - start).min(MAX_TITLE)).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end_matches(['\0', char::REPLACEMENT_CHARACTER]).to_owned())
}

/// What the segment promises beyond `end`; one of unknown size was streamed and promises nothing.
pub(super) fn missing<R: Read + Seek>(source: &mut R, end: u64) -> io::Result<Option<String>> {
    let mut at = 0u64;
    for _ in 0..MAX_ELEMENTS {
        source.seek(SeekFrom::Start(at))?;
        let (Some((id, _)), Some((size, unknown))) = (number(source, false)?, number(source, true)?) else {
            break;
        };
        let start = source.stream_position()?;
        let stop = start.saturating_add(size);
        if id == u64::from(SEGMENT) {
            let cut = !unknown && stop > end;
            return Ok(cut.then(|| lacks("segment", size, "bytes", end.saturating_sub(start))));
        }
        at = stop;
    }
    Ok(None)
}

/// The content of the first element `id` among those from `at` to `end`.
fn find<R: Read + Seek>(source: &mut R, id: u32, mut at: u64, end: u64) -> Option<(u64, u64)> {
    for _ in 0..MAX_ELEMENTS {
        if at >= end {
            break;
        }
        source.seek(SeekFrom::Start(at)).ok()?;
        let found = u32::try_from(number(source, false).ok()??.0).ok()?;
        let (size, unknown) = number(source, true).ok()??;
        let start = source.stream_position().ok()?;
        // A size of all ones means "to the end", as live streams have it.
        let stop = if unknown { end } else { start.checked_add(size)?.min(end) };
        if found == id {
            return Some((start, stop));
        }
        if found == CLUSTER {
            break;
        }
        at = stop;
    }
    None
}

/// A number of one to eight bytes whose leading zeros tell its length, and whether all its bits are ones. Sizes lose
/// their length marker, ids keep it.
fn number<R: Read>(source: &mut R, is_size: bool) -> io::Result<Option<(u64, bool)>> {
    let mut first = [0u8];
    source.read_exact(&mut first)?;
    let more = first[0].leading_zeros();
    if more > 7 {
        return Ok(None);
    }
    let mask = if is_size { 0x7f_u8 >> more } else { 0xff };
    let mut value = u64::from(first[0] & mask);
    for _ in 0..more {
        let mut next = [0u8];
        source.read_exact(&mut next)?;
        value = value << 8 | u64::from(next[0]);
    }
    let ones = (1u64 << (7 * (more + 1))) - 1;
    Ok(Some((value, is_size && value == ones)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn element(id: &[u8], content: &[u8]) -> Vec<u8> {
        let size = 0x4000 | u16::try_from(content.len()).unwrap();
        [id, &size.to_be_bytes(), content].concat()
    }

    fn file() -> Vec<u8> {
        let info = element(&[0x15, 0x49, 0xa9, 0x66], &element(&[0x7b, 0xa9], "Tïtle\0".as_bytes()));
        let segment = [element(&[0xec], &[0; 40]), info].concat();
        [element(&[0x1a, 0x45, 0xdf, 0xa3], b"matroska"), element(&[0x18, 0x53, 0x80, 0x67], &segment)]
            .concat()
    }

    #[test]
    fn finds_the_title() {
        let bytes = file();
        let length = bytes.len() as u64;
        assert_eq!(title(&mut Cursor::new(&bytes), length).unwrap(), "Tïtle");
        for cut in 0..bytes.len() {
            let _ = title(&mut Cursor::new(&bytes[..cut]), length);
        }
    }

    #[test]
    fn known_sizes_are_promises() {
        let bytes = file();
        let check = |length: usize| missing(&mut Cursor::new(&bytes), length as u64).unwrap();
        assert_eq!(check(bytes.len()), None);
        assert_eq!(check(bytes.len() + 128), None);
        assert!(check(bytes.len() - 1).unwrap().contains("segment"));
    }

    #[test]
    fn unknown_sizes_reach_to_the_end() {
        let mut bytes = file();
        let at = bytes.windows(4).position(|w| w == [0x18, 0x53, 0x80, 0x67]).unwrap() + 4;
        bytes.splice(at..at + 2, [0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        let length = bytes.len() as u64;
        assert_eq!(title(&mut Cursor::new(&bytes), length).unwrap(), "Tïtle");
        assert_eq!(missing(&mut Cursor::new(&bytes), length - 9).unwrap(), None);
    }

    proptest::proptest! {
        #[test]
        fn total_on_any_bytes(bytes: Vec<u8>) {
            let _ = title(&mut Cursor::new(&bytes), bytes.len() as u64);
        }
    }
}
