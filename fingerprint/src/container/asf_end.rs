//! Whether an ASF file's data object is all there (Advanced Systems Format 01.20.03, sections 3.2 and 5.1).

use std::io::{self, Read, Seek, SeekFrom};

use super::asf::{FILE_PROPERTIES, MAX_HEADER_BYTES, guid};
use super::whole::{lacks, take};

const DATA: [u8; 16] = guid(0x75b2_2636, 0x668e, 0x11cf, [0xa6, 0xd9, 0x00, 0xaa, 0x00, 0x62, 0xce, 0x6c]);
/// GUID, size, file id, number of packets, two reserved bytes: what a data object has without packets.
const DATA_HEADER: u64 = 50;
/// In which the file properties are looked for: they are among the first objects.
const PROPERTIES_WITHIN: u64 = 64 * 1024;
/// The header was written before the length was known.
const BROADCAST: u32 = 1;

/// What the header object, the data object or, where that has no size, the file properties promise beyond `end`.
///
/// The size in the file properties comes last, since not every editor of tags keeps it.
pub(super) fn missing<R: Read + Seek>(source: &mut R, end: u64) -> io::Result<Option<String>> {
    source.seek(SeekFrom::Start(16))?;
    let header = u64::from_le_bytes(take(source)?);
    if header > MAX_HEADER_BYTES {
        return Ok(None);
    }
    if header.saturating_add(DATA_HEADER) > end {
        return Ok(Some(lacks("header", header + DATA_HEADER, "bytes before the audio", end)));
    }
    let mut head = Vec::new();
    source.seek(SeekFrom::Start(0))?;
    source.by_ref().take(header.min(PROPERTIES_WITHIN)).read_to_end(&mut head)?;
    let (file, is_broadcast) = properties(&head).unwrap_or((0, false));
    if is_broadcast {
        return Ok(None);
    }
    source.seek(SeekFrom::Start(header))?;
    let kind: [u8; 16] = take(source)?;
    let data = u64::from_le_bytes(take(source)?);
    // The data object's size is zero or without packets, or all ones, if the encoder could not come back.
    if kind == DATA && data > DATA_HEADER && data < u64::from(u32::MAX) {
        let cut = header + data > end;
        return Ok(cut.then(|| lacks("header", data, "bytes of audio", end - header)));
    }
    let cut = file > end && file < u64::from(u32::MAX);
    Ok(cut.then(|| lacks("header", file, "bytes", end)))
}

/// File size and broadcast flag.
fn properties(head: &[u8]) -> Option<(u64, bool)> {
    let at = head.windows(16).position(|window| window == FILE_PROPERTIES)?;
    let body = head.get(at + 24..)?;
    let size = u64::from_le_bytes(*body.get(16..)?.first_chunk()?);
    let flags = u32::from_le_bytes(*body.get(64..)?.first_chunk()?);
    Some((size, flags & BROADCAST != 0))
}

#[cfg(test)]
mod tests {
    use super::super::sniff::ASF_HEADER;
    use super::*;
    use std::io::Cursor;

    fn file(size: u64, flags: u32, data: u64) -> Vec<u8> {
        let mut bytes = ASF_HEADER.to_vec();
        bytes.extend(134u64.to_le_bytes());
        bytes.extend([1, 0, 0, 0, 1, 2]);
        bytes.extend(FILE_PROPERTIES);
        bytes.extend(104u64.to_le_bytes());
        bytes.extend([0; 16]);
        bytes.extend(size.to_le_bytes());
        bytes.extend([0; 40]);
        bytes.extend(flags.to_le_bytes());
        bytes.resize(134, 0);
        bytes.extend(DATA);
        bytes.extend(data.to_le_bytes());
        bytes.resize(134 + 1_050, 0);
        bytes
    }

    fn check(bytes: &[u8]) -> Option<String> {
        missing(&mut Cursor::new(bytes), bytes.len() as u64).unwrap()
    }

    #[test]
    fn sizes_and_streams() {
        assert_eq!(check(&file(1_184, 2, 1_050)), None);
        assert_eq!(check(&file(9_999, 2, 1_050)), None, "an editor shortened the header");
        let cut = check(&file(1_184, 2, 2_050)).unwrap();
        assert_eq!(cut, "its header promises 2,050 bytes of audio, 1,050 are there");
        assert_eq!(check(&file(9_999, 1, 2_050)), None, "a broadcast");
        assert!(check(&file(2_184, 2, 0)).is_some());
        assert_eq!(check(&file(0, 2, 0)), None);
        assert!(check(&file(1_184, 2, 1_050)[..150]).is_some());
    }
}
