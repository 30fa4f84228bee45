//! Tags that the `lofty` crate reads: ID3, Vorbis comments, MP4 atoms, APE, RIFF INFO, AIFF text.

use std::io::BufReader;

use antiphon_proto::Container;
use lofty::config::{GlobalOptions, ParseOptions, ParsingMode, apply_global_options};
use lofty::file::{FileType, TaggedFile, TaggedFileExt};
use lofty::picture::PictureType;
use lofty::probe::Probe;
use lofty::tag::{ItemKey, ItemValue, Tag, TagType};

use super::{Field, Open, Tags};
use crate::limits::{MAX_TAG_ALLOCATION, TEXT_BYTES};

/// Fields and the keys that can hold them, best first.
const KEYS: [(Field, &[ItemKey]); 10] = [
    (Field::Title, &[ItemKey::TrackTitle]),
    (Field::Artist, &[ItemKey::TrackArtist, ItemKey::TrackArtists]),
    (Field::Album, &[ItemKey::AlbumTitle]),
    (Field::AlbumArtist, &[ItemKey::AlbumArtist, ItemKey::AlbumArtists]),
    (Field::Genre, &[ItemKey::Genre]),
    (
        Field::Year,
        &[ItemKey::RecordingDate, ItemKey::Year, ItemKey::ReleaseDate, ItemKey::OriginalReleaseDate],
    ),
    (Field::Track, &[ItemKey::TrackNumber]),
    (Field::Disc, &[ItemKey::DiscNumber]),
    (Field::Isrc, &[ItemKey::Isrc]),
    (Field::Recording, &[ItemKey::MusicBrainzRecordingId]),
];

/// Reads all tags of a file; false if it cannot be read.
pub(super) fn read(container: Container, open: Open<'_>, tags: &mut Tags) -> bool {
    let Some(file) = parse(container, open, false) else { return false };
    let mut found: Vec<&Tag> = file.tags().iter().collect();
    // ID3v1 cuts everything at 30 bytes, so it comes last; the container's own kind comes first.
    found.sort_by_key(|tag| match tag.tag_type() {
        kind if kind == file.primary_tag_type() => 0,
        TagType::Id3v1 => 2,
        _ => 1,
    });
    for tag in found {
        for (field, keys) in KEYS {
            for key in keys {
                if let Some(value) = value(tag, *key, field) {
                    tags.put(field, &value);
                }
            }
        }
    }
    true
}

/// The front cover's bytes, else those of the first picture.
pub(super) fn cover(container: Container, open: Open<'_>) -> Option<Vec<u8>> {
    let file = parse(container, open, true)?;
    let pictures = || file.tags().iter().flat_map(Tag::pictures);
    let front = pictures().find(|picture| picture.pic_type() == PictureType::CoverFront);
    front.or_else(|| pictures().next()).map(|picture| picture.data().to_vec())
}

/// The first text of the song.
pub(super) fn lyrics(container: Container, open: Open<'_>) -> Option<String> {
    let file = parse(container, open, false)?;
    let keys = [ItemKey::Lyrics, ItemKey::UnsyncLyrics];
    let mut texts = file.tags().iter().flat_map(|tag| keys.map(|key| tag.get_string(key))).flatten();
    texts.find(|text| !text.trim().is_empty()).map(str::to_owned)
}

fn parse(container: Container, open: Open<'_>, pictures: bool) -> Option<TaggedFile> {
    let kind = match container {
        Container::Ogg => FileType::Vorbis,
        Container::Mp3 => FileType::Mpeg,
        Container::Flac => FileType::Flac,
        Container::M4a => FileType::Mp4,
        Container::Opus => FileType::Opus,
        Container::Wav => FileType::Wav,
        Container::Aiff => FileType::Aiff,
        Container::Ape => FileType::Ape,
        // This library takes Matroska for MPEG.
        Container::Aac | Container::Wma | Container::Mka | Container::Unknown => return None,
    };
    // The setting is one of this thread.
    apply_global_options(GlobalOptions::new().allocation_limit(MAX_TAG_ALLOCATION));
    let options = ParseOptions::new()
        .read_properties(false)
        .read_cover_art(pictures)
        .parsing_mode(ParsingMode::Relaxed);
    let reader = BufReader::new(open(0).ok()?);
    Probe::with_file_type(reader, kind).options(options).read().ok()
}

/// One value as text; several artists in one.
fn value(tag: &Tag, key: ItemKey, field: Field) -> Option<String> {
    if field == Field::Artist || field == Field::AlbumArtist {
        let mut all = String::new();
        for name in tag.get_strings(key).map(str::trim).filter(|name| !name.is_empty()) {
            if all.len() > TEXT_BYTES {
                break;
            }
            if !all.is_empty() {
                all.push_str(", ");
            }
            all.push_str(name);
        }
        return (!all.is_empty()).then_some(all);
    }
    match tag.get(key)?.value() {
        ItemValue::Text(text) | ItemValue::Locator(text) => Some(text.clone()),
        ItemValue::Binary(bytes) => std::str::from_utf8(bytes).ok().map(str::to_owned),
    }
}
