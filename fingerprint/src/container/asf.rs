//! The header of an ASF file (Windows Media Audio): stream facts, protection, tags, cover.
//!
//! Advanced Systems Format specification 01.20.03, sections 3 and 4. The reader looks at the header object only,
//! of which at most [`MAX_HEADER_BYTES`] are read, and never believes a length beyond the bytes that are there.

use std::io::{self, Read, Seek, SeekFrom};

use super::sniff::ASF_HEADER;

/// Most bytes of a header object: its pictures are in it.
pub const MAX_HEADER_BYTES: u64 = 16 << 20;

/// Most objects and attributes that are looked at; real headers have tens.
const MAX_ENTRIES: usize = 4_096;

/// Sampled audio in a stream properties object.
const AUDIO_MEDIA: [u8; 16] =
    guid(0xf869_9e40, 0x5b4d, 0x11cf, [0xa8, 0xfd, 0x00, 0x80, 0x5f, 0x5c, 0x44, 0x2b]);
const VIDEO_MEDIA: [u8; 16] =
    guid(0xbc19_efc0, 0x5b4d, 0x11cf, [0xa8, 0xfd, 0x00, 0x80, 0x5f, 0x5c, 0x44, 0x2b]);
pub(super) const FILE_PROPERTIES: [u8; 16] =
    guid(0x8cab_dca1, 0xa947, 0x11cf, [0x8e, 0xe4, 0x00, 0xc0, 0x0c, 0x20, 0x53, 0x65]);
const STREAM_PROPERTIES: [u8; 16] =
    guid(0xb7dc_0791, 0xa9b7, 0x11cf, [0x8e, 0xe6, 0x00, 0xc0, 0x0c, 0x20, 0x53, 0x65]);
const CONTENT_DESCRIPTION: [u8; 16] =
    guid(0x75b2_2633, 0x668e, 0x11cf, [0xa6, 0xd9, 0x00, 0xaa, 0x00, 0x62, 0xce, 0x6c]);
const EXTENDED_CONTENT: [u8; 16] =
    guid(0xd2d0_a440, 0xe307, 0x11d2, [0x97, 0xf0, 0x00, 0xa0, 0xc9, 0x5e, 0xa8, 0x50]);
const HEADER_EXTENSION: [u8; 16] =
    guid(0x5fbf_03b5, 0xa92e, 0x11cf, [0x8e, 0xe3, 0x00, 0xc0, 0x0c, 0x20, 0x53, 0x65]);
const METADATA_LIBRARY: [u8; 16] =
    guid(0x4423_1c94, 0x9498, 0x49d1, [0xa1, 0x41, 0x1d, 0x13, 0x4e, 0x45, 0x70, 0x54]);
const CONTENT_ENCRYPTION: [u8; 16] =
    guid(0x2211_b3fb, 0xbd23, 0x11d2, [0xb4, 0xb7, 0x00, 0xa0, 0xc9, 0x55, 0xfc, 0x6e]);
const EXTENDED_ENCRYPTION: [u8; 16] =
    guid(0x298a_e614, 0x2622, 0x4c17, [0xb9, 0x35, 0xda, 0xe0, 0x7e, 0xe9, 0x28, 0x9c]);

/// A GUID as the file stores it: the first three parts little endian.
pub(super) const fn guid(a: u32, b: u16, c: u16, d: [u8; 8]) -> [u8; 16] {
    let (a, b, c) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]
}

/// The first audio stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsfAudio {
    /// WAVE format tag, e.g. 0x161 for Windows Media Audio 2.
    pub format: u16,
    /// Number of channels.
    pub channels: u16,
    /// In Hz.
    pub sample_rate: u32,
}

impl AsfAudio {
    /// FFmpeg's name of the codec.
    #[must_use]
    pub fn codec(&self) -> String {
        match self.format {
            0x000a => "wmavoice".into(),
            0x0160 => "wmav1".into(),
            0x0161 => "wmav2".into(),
            0x0162 => "wmapro".into(),
            0x0163 => "wmalossless".into(),
            other => format!("asf-{other:04x}"),
        }
    }

    /// Whether every sample is kept.
    #[must_use]
    pub fn lossless(&self) -> bool {
        self.format == 0x0163
    }
}

/// A tag: its name as in the specification ("Title", "WM/AlbumTitle"), and its text or number as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsfTag {
    /// Name of the attribute.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// An embedded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsfPicture {
    /// As in ID3v2: 3 is the front cover.
    pub kind: u8,
    /// MIME type.
    pub mime: String,
    /// The image file.
    pub bytes: Vec<u8>,
}

/// What a header says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AsfHeader {
    /// Playing time in milliseconds, without the preroll.
    pub duration_ms: u64,
    /// The first audio stream.
    pub audio: Option<AsfAudio>,
    /// Whether there is a video stream.
    pub video: bool,
    /// Whether an encryption object is there.
    pub encrypted: bool,
    /// Tags in the order of the file.
    pub tags: Vec<AsfTag>,
    /// Pictures in the order of the file.
    pub pictures: Vec<AsfPicture>,
}

/// Reads the header object at the start of `source`.
///
/// # Errors
/// The source's own; `InvalidData` if there is no header object.
pub fn read<R: Read + Seek>(source: &mut R) -> io::Result<AsfHeader> {
    source.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    source.by_ref().take(30).read_to_end(&mut bytes)?;
    let size = Cursor(&bytes).at(16).and_then(|mut c| c.u64()).unwrap_or(0).min(MAX_HEADER_BYTES);
    source.by_ref().take(size.saturating_sub(30)).read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Reads a header object. Total on any bytes; `None` if they do not begin with one.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<AsfHeader> {
    let mut cursor = Cursor(bytes);
    if cursor.take(16)? != ASF_HEADER {
        return None;
    }
    // Size, number of objects, two reserved bytes.
    cursor.take(14)?;
    let mut header = AsfHeader::default();
    header.objects(cursor, 0);
    Some(header)
}

impl AsfHeader {
    fn objects(&mut self, mut cursor: Cursor<'_>, depth: u8) {
        for _ in 0..MAX_ENTRIES {
            let Some((kind, body)) = object(&mut cursor) else { break };
            // A part that does not fit its own object ends that object, not the header.
            let _ = match kind {
                FILE_PROPERTIES => self.file_properties(body),
                STREAM_PROPERTIES => self.stream(body),
                CONTENT_DESCRIPTION => self.description(body),
                EXTENDED_CONTENT => self.extended(body),
                METADATA_LIBRARY => self.library(body),
                CONTENT_ENCRYPTION | EXTENDED_ENCRYPTION => {
                    self.encrypted = true;
                    Some(())
                }
                HEADER_EXTENSION if depth == 0 => body.at(22).map(|inner| self.objects(inner, depth + 1)),
                _ => Some(()),
            };
        }
    }

    fn file_properties(&mut self, body: Cursor<'_>) -> Option<()> {
        // File id, size, creation date and packet count come before; send duration between.
        let mut cursor = body.at(40)?;
        let play = cursor.u64()? / 10_000;
        let _send = cursor.u64()?;
        let preroll = cursor.u64()?;
        self.duration_ms = play.saturating_sub(preroll);
        Some(())
    }

    fn stream(&mut self, mut body: Cursor<'_>) -> Option<()> {
        let kind = body.take(16)?;
        if kind == VIDEO_MEDIA {
            self.video = true;
        }
        if kind == AUDIO_MEDIA && self.audio.is_none() {
            // Error correction, time offset, lengths, flags, reserved.
            let mut format = body.at(38)?;
            let (format, channels, sample_rate) = (format.u16()?, format.u16()?, format.u32()?);
            self.audio = Some(AsfAudio { format, channels, sample_rate });
        }
        Some(())
    }

    fn description(&mut self, mut body: Cursor<'_>) -> Option<()> {
        let mut lengths = [0usize; 5];
        for length in &mut lengths {
            *length = usize::from(body.u16()?);
        }
        for (name, length) in
            ["Title", "Author", "Copyright", "Description", "Rating"].into_iter().zip(lengths)
        {
            self.tag(name.into(), text(body.take(length)?));
        }
        Some(())
    }

    fn extended(&mut self, mut body: Cursor<'_>) -> Option<()> {
        let count = usize::from(body.u16()?);
        for _ in 0..count.min(MAX_ENTRIES) {
            let length = usize::from(body.u16()?);
            let name = text(body.take(length)?);
            let kind = body.u16()?;
            let length = usize::from(body.u16()?);
            let value = body.take(length)?;
            self.attribute(name, kind, value);
        }
        Some(())
    }

    fn library(&mut self, mut body: Cursor<'_>) -> Option<()> {
        let count = usize::from(body.u16()?);
        for _ in 0..count.min(MAX_ENTRIES) {
            let _language_and_stream = body.u32()?;
            let name_length = usize::from(body.u16()?);
            let kind = body.u16()?;
            let value_length = usize::try_from(body.u32()?).ok()?;
            let name = text(body.take(name_length)?);
            let value = body.take(value_length)?;
            self.attribute(name, kind, value);
        }
        Some(())
    }

    fn attribute(&mut self, name: String, kind: u16, value: &[u8]) {
        if name == "WM/Picture" && kind == 1 {
            self.pictures.extend(picture(value));
            return;
        }
        let number = || {
            let mut bytes = [0u8; 8];
            let length = value.len().min(8);
            bytes[..length].copy_from_slice(&value[..length]);
            u64::from_le_bytes(bytes).to_string()
        };
        match kind {
            0 => self.tag(name, text(value)),
            // Boolean, 32, 64 and 16 bits.
            2..=5 => self.tag(name, number()),
            _ => {}
        }
    }

    fn tag(&mut self, name: String, value: String) {
        if !value.is_empty() && self.tags.len() < MAX_ENTRIES {
            self.tags.push(AsfTag { name, value });
        }
    }
}

/// Takes one object off: its GUID and its content.
fn object<'a>(cursor: &mut Cursor<'a>) -> Option<([u8; 16], Cursor<'a>)> {
    let kind = *cursor.take(16)?.first_chunk()?;
    let size = usize::try_from(cursor.u64()?).ok()?;
    Some((kind, Cursor(cursor.take(size.checked_sub(24)?)?)))
}

/// ID3-like picture: kind, length, MIME type and description as zero-terminated UTF-16, the image.
fn picture(value: &[u8]) -> Option<AsfPicture> {
    let mut cursor = Cursor(value);
    let kind = *cursor.take(1)?.first()?;
    let length = usize::try_from(cursor.u32()?).ok()?;
    let mime = text(cursor.terminated()?);
    let _description = cursor.terminated()?;
    Some(AsfPicture { kind, mime, bytes: cursor.take(length)?.to_vec() })
}

/// UTF-16LE text up to its terminator; what is no character becomes the replacement character.
fn text(bytes: &[u8]) -> String {
    let units = bytes
        .chunks_exact(2)
        .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
        .take_while(|&unit| unit != 0);
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// The bytes that are left.
#[derive(Clone, Copy)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn at(mut self, offset: usize) -> Option<Self> {
        self.take(offset)?;
        Some(self)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }

    /// UTF-16 up to a zero unit, which is taken off too.
    fn terminated(&mut self) -> Option<&'a [u8]> {
        let units = self.0.chunks_exact(2).position(|unit| unit == [0, 0])?;
        let text = self.take(units * 2)?;
        self.take(2)?;
        Some(text)
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers of test data")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn utf16(text: &str) -> Vec<u8> {
        text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
    }

    fn objects(kind: [u8; 16], body: &[u8]) -> Vec<u8> {
        [kind.to_vec(), (body.len() as u64 + 24).to_le_bytes().to_vec(), body.to_vec()].concat()
    }

    fn attribute(name: &str, kind: u16, value: &[u8]) -> Vec<u8> {
        let name = utf16(name);
        let mut bytes = (name.len() as u16).to_le_bytes().to_vec();
        bytes.extend(name);
        bytes.extend(kind.to_le_bytes());
        bytes.extend((value.len() as u16).to_le_bytes());
        bytes.extend(value);
        bytes
    }

    /// A header with an audio stream, tags and a picture; encrypted if asked.
    fn file(encrypted: bool) -> Vec<u8> {
        let mut properties = vec![0; 40];
        properties.extend(1_230_000_000u64.to_le_bytes());
        properties.extend([0; 8]);
        properties.extend(3_000u64.to_le_bytes());
        properties.extend([0; 16]);
        let mut stream = AUDIO_MEDIA.to_vec();
        stream.extend([0; 38]);
        stream.extend(0x161u16.to_le_bytes());
        stream.extend(2u16.to_le_bytes());
        stream.extend(44_100u32.to_le_bytes());
        let (title, author) = (utf16("A title"), utf16("Ünï"));
        let mut description = Vec::new();
        for length in [title.len(), author.len(), 0, 0, 0] {
            description.extend((length as u16).to_le_bytes());
        }
        description.extend(title);
        description.extend(author);
        let mut picture = vec![3, 4, 0, 0, 0];
        picture.extend(utf16("image/png"));
        picture.extend(utf16("cover"));
        picture.extend(b"\x89PNG");
        let mut extended = 3u16.to_le_bytes().to_vec();
        extended.extend(attribute("WM/AlbumTitle", 0, &utf16("An album")));
        extended.extend(attribute("WM/TrackNumber", 3, &7u32.to_le_bytes()));
        extended.extend(attribute("WM/Picture", 1, &picture));
        let mut parts = [
            objects(FILE_PROPERTIES, &properties),
            objects(STREAM_PROPERTIES, &stream),
            objects(CONTENT_DESCRIPTION, &description),
            objects(HEADER_EXTENSION, &[vec![0; 22], objects(EXTENDED_CONTENT, &extended)].concat()),
        ]
        .concat();
        if encrypted {
            parts.extend(objects(CONTENT_ENCRYPTION, &[0; 16]));
        }
        let mut bytes = ASF_HEADER.to_vec();
        bytes.extend((parts.len() as u64 + 30).to_le_bytes());
        bytes.extend([4, 0, 0, 0, 1, 2]);
        bytes.extend(parts);
        bytes
    }

    #[test]
    fn reads_facts_tags_and_picture() {
        let header = parse(&file(false)).unwrap();
        assert_eq!(header.duration_ms, 120_000);
        let audio = header.audio.unwrap();
        assert_eq!((audio.codec().as_str(), audio.channels, audio.sample_rate), ("wmav2", 2, 44_100));
        assert!(!audio.lossless() && !header.video && !header.encrypted);
        let tags: Vec<(&str, &str)> =
            header.tags.iter().map(|t| (t.name.as_str(), t.value.as_str())).collect();
        assert_eq!(
            tags,
            [("Title", "A title"), ("Author", "Ünï"), ("WM/AlbumTitle", "An album"), ("WM/TrackNumber", "7")]
        );
        assert_eq!(header.pictures.len(), 1);
        assert_eq!(header.pictures[0].mime, "image/png");
        assert_eq!(header.pictures[0].bytes, b"\x89PNG");
        let read = read(&mut io::Cursor::new(file(false))).unwrap();
        assert_eq!(read, header);
    }

    #[test]
    fn sees_encryption() {
        assert!(parse(&file(true)).unwrap().encrypted);
    }

    #[test]
    fn cut_headers_give_what_they_have() {
        let whole = file(false);
        for length in 0..whole.len() {
            if let Some(header) = parse(&whole[..length]) {
                assert!(header.tags.len() <= 4);
            }
        }
    }

    proptest! {
        #[test]
        fn total_on_any_bytes(at in 0usize..900, change in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut bytes = file(false);
            for (byte, new) in bytes.iter_mut().skip(at).zip(change) {
                *byte = new;
            }
            let _ = parse(&bytes);
        }
    }
}
