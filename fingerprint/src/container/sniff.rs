//! What kind of file this is, by its first bytes and never by its name.

use antiphon_proto::Container;

use super::{adts, mp3};

/// Bytes of the file's start (or of what follows an ID3v2 tag) that [`sniff`] should be given: room for junk
/// before the first MPEG frame and for three frames after it.
pub const SNIFF_BYTES: usize = 64 * 1024;

/// Bytes into which a first MPEG or ADTS frame may be pushed by padding or junk.
const MAX_JUNK: usize = 48 * 1024;

/// GUID of the ASF header object, as stored.
pub(crate) const ASF_HEADER: [u8; 16] =
    [0x30, 0x26, 0xb2, 0x75, 0x8e, 0x66, 0xcf, 0x11, 0xa6, 0xd9, 0x00, 0xaa, 0x00, 0x62, 0xce, 0x6c];

/// What the first bytes of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniffed {
    /// An audio container whose own first byte is at this offset.
    Audio(Container, u64),
    /// An ID3v2 tag of this many bytes; what follows it decides.
    Id3v2(u64),
    /// Nothing that is known.
    Unknown,
}

/// Looks at the first bytes of a file, at most [`SNIFF_BYTES`] of them.
#[must_use]
pub fn sniff(first_bytes: &[u8]) -> Sniffed {
    let bytes = &first_bytes[..first_bytes.len().min(SNIFF_BYTES)];
    if let Some(length) = id3v2_length(bytes) {
        return Sniffed::Id3v2(length);
    }
    if let Some(container) = magic(bytes) {
        return Sniffed::Audio(container, 0);
    }
    // Frames right at the start: two must agree. After junk: three, since more places are tried.
    let places = [(0, 1, 2), (1, MAX_JUNK, 3)];
    for (from, upto, chain) in places {
        if let Some(at) = mp3::find_stream(bytes, from, upto, chain) {
            return Sniffed::Audio(Container::Mp3, at as u64);
        }
        if let Some(at) = adts::find_stream(bytes, from, upto, chain) {
            return Sniffed::Audio(Container::Aac, at as u64);
        }
    }
    Sniffed::Unknown
}

fn magic(bytes: &[u8]) -> Option<Container> {
    let at = |offset: usize, tag: &[u8]| bytes.get(offset..offset + tag.len()) == Some(tag);
    if at(0, b"OggS") {
        return Some(ogg_kind(bytes));
    }
    if at(0, b"fLaC") {
        return Some(Container::Flac);
    }
    if at(0, b"MAC ") || at(0, b"MACF") {
        return Some(Container::Ape);
    }
    if at(8, b"WAVE") && (at(0, b"RIFF") || at(0, b"RF64") || at(0, b"BW64")) {
        return Some(Container::Wav);
    }
    if at(0, b"FORM") && (at(8, b"AIFF") || at(8, b"AIFC")) {
        return Some(Container::Aiff);
    }
    if at(4, b"ftyp") {
        return Some(Container::M4a);
    }
    if at(0, &ASF_HEADER) {
        return Some(Container::Wma);
    }
    if at(0, &[0x1a, 0x45, 0xdf, 0xa3]) {
        return Some(Container::Mka);
    }
    None
}

/// Opus if one of the streams that begin here is Opus, else Ogg; whether the codec is decoded shows later.
fn ogg_kind(bytes: &[u8]) -> Container {
    let mut rest = bytes;
    while let Some(header) = rest.first_chunk::<27>() {
        let begins = header[5] & 2 != 0;
        if !header.starts_with(b"OggS") || !begins {
            break;
        }
        let segments = usize::from(header[26]);
        let Some(table) = rest.get(27..27 + segments) else { break };
        let length: usize = table.iter().map(|&size| usize::from(size)).sum();
        let Some(body) = rest.get(27 + segments..) else { break };
        if body.starts_with(b"OpusHead") {
            return Container::Opus;
        }
        let Some(next) = body.get(length..) else { break };
        rest = next;
    }
    Container::Ogg
}

/// Length of an ID3v2 tag with header and footer (id3.org, ID3v2.4.0 structure, 3.1).
pub(crate) fn id3v2_length(bytes: &[u8]) -> Option<u64> {
    let head = bytes.first_chunk::<10>()?;
    if !head.starts_with(b"ID3") || head[3] == 0xff || head[4] == 0xff {
        return None;
    }
    let size =
        head[6..].iter().try_fold(0u64, |size, &byte| (byte < 0x80).then(|| size << 7 | u64::from(byte)))?;
    let footer = if head[5] & 0x10 != 0 { 10 } else { 0 };
    Some(10 + size + footer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magic_bytes() {
        let cases: [(&[u8], Container); 10] = [
            (b"OggS\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x1e\x01vorbis", Container::Ogg),
            (b"OggS\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x13OpusHead", Container::Opus),
            (b"fLaC\0\0\0\x22", Container::Flac),
            (b"MAC \x96\x0f", Container::Ape),
            (b"RIFF\0\0\0\0WAVEfmt ", Container::Wav),
            (b"FORM\0\0\0\0AIFF", Container::Aiff),
            (b"FORM\0\0\0\0AIFC", Container::Aiff),
            (b"\0\0\0\x20ftypM4A ", Container::M4a),
            (&ASF_HEADER, Container::Wma),
            (&[0x1a, 0x45, 0xdf, 0xa3, 0x9f], Container::Mka),
        ];
        for (bytes, container) in cases {
            assert_eq!(sniff(bytes), Sniffed::Audio(container, 0));
        }
    }

    #[test]
    fn frames_need_company() {
        let mut one = vec![0u8; 417];
        one[..4].copy_from_slice(&[0xff, 0xfb, 0x90, 0x00]);
        assert_eq!(sniff(&one), Sniffed::Unknown);
        let two = [one.clone(), one.clone()].concat();
        assert_eq!(sniff(&two), Sniffed::Audio(Container::Mp3, 0));
        let behind_junk = [b"junk".to_vec(), two.clone()].concat();
        assert_eq!(sniff(&behind_junk), Sniffed::Unknown);
        let behind_junk = [b"junk".to_vec(), two, one].concat();
        assert_eq!(sniff(&behind_junk), Sniffed::Audio(Container::Mp3, 4));
    }

    #[test]
    fn id3_sizes_are_syncsafe() {
        assert_eq!(sniff(b"ID3\x04\0\0\0\0\x02\x01"), Sniffed::Id3v2(10 + 257));
        assert_eq!(sniff(b"ID3\x04\0\x10\0\0\x02\x01"), Sniffed::Id3v2(20 + 257));
        assert_eq!(sniff(b"ID3\x04\0\0\0\x80\x02\x01"), Sniffed::Unknown);
        assert_eq!(sniff(b"ID3\x04\0\0\x7f\x7f\x7f\x7f"), Sniffed::Id3v2(10 + (1 << 28) - 1));
    }

    #[test]
    fn text_and_nothing_are_not_audio() {
        assert_eq!(sniff(b""), Sniffed::Unknown);
        assert_eq!(sniff(b"O"), Sniffed::Unknown);
        assert_eq!(sniff("Once upon a time ".repeat(4000).as_bytes()), Sniffed::Unknown);
        assert_eq!(sniff(&[0xff; 70_000]), Sniffed::Unknown);
        assert_eq!(sniff(&[0; 70_000]), Sniffed::Unknown);
    }

    #[test]
    fn noise_is_not_audio() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..50 {
            let noise: Vec<u8> = (0..SNIFF_BYTES)
                .map(|_| {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 56) as u8
                })
                .collect();
            assert_eq!(sniff(&noise), Sniffed::Unknown);
        }
    }

    proptest::proptest! {
        #[test]
        fn total_on_any_bytes(bytes: Vec<u8>) {
            let _ = sniff(&bytes);
        }
    }
}
