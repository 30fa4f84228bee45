//! Tags that symphonia's container readers give: Matroska, FLAC in Ogg, and ID3v2 in front of raw AAC.

use antiphon_proto::Container;
use symphonia::core::formats::Attachment;
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::{MetadataOptions, MetadataReader, MetadataRevision, StandardTag, Tag, Visual};
use symphonia::default::meta::Id3v2Reader;

use super::{Field, Open, Tags};
use crate::decode;

pub(super) fn read(container: Container, open: Open<'_>, start: u64, tags: &mut Tags) {
    let Some(window) = open(start).ok() else { return };
    for revision in decode::read_metadata(container, window).revisions {
        fill(&revision, tags);
    }
}

/// Reads the ID3v2 tag at the very start of the file.
pub(super) fn read_id3v2(open: Open<'_>, tags: &mut Tags) {
    let Ok(window) = open(0) else { return };
    let stream = MediaSourceStream::new(Box::new(window), Default::default());
    if let Ok(mut reader) = Id3v2Reader::try_new(stream, MetadataOptions::default())
        && let Ok(buffer) = reader.read_all()
    {
        fill(&buffer.revision, tags);
    }
}

/// The bytes of an attached picture whose name says cover, else of the first picture.
pub(super) fn cover(container: Container, open: Open<'_>, start: u64) -> Option<Vec<u8>> {
    let found = decode::read_metadata(container, open(start).ok()?);
    let mut pictures: Vec<(bool, Vec<u8>)> = found
        .attachments
        .into_iter()
        .filter_map(|attachment| match attachment {
            Attachment::File(file) => {
                Some((file.name.to_lowercase().contains("cover"), file.data.into_vec()))
            }
            Attachment::VendorData(_) => None,
        })
        .collect();
    let visuals = found.revisions.into_iter().flat_map(|revision| revision.media.visuals);
    pictures.extend(visuals.map(|Visual { data, .. }| (false, data.into_vec())));
    let mut images = pictures.into_iter().filter(|(_, bytes)| super::image_type(bytes).is_some());
    let first = images.next()?;
    if first.0 {
        return Some(first.1);
    }
    Some(images.find(|(is_cover, _)| *is_cover).unwrap_or(first).1)
}

/// The text of the song.
pub(super) fn lyrics(container: Container, open: Open<'_>, start: u64) -> Option<String> {
    let mut revisions = decode::read_metadata(container, open(start).ok()?).revisions;
    // Raw AAC has its tag in front of the audio.
    if container == Container::Aac && start > 0 {
        let stream = MediaSourceStream::new(Box::new(open(0).ok()?), Default::default());
        let buffer = Id3v2Reader::try_new(stream, MetadataOptions::default()).ok()?.read_all().ok()?;
        revisions.push(buffer.revision);
    }
    let tags = revisions.into_iter().flat_map(|revision| {
        let own = revision.per_track.into_iter().flat_map(|track| track.metadata.tags);
        own.chain(revision.media.tags).collect::<Vec<_>>()
    });
    tags.into_iter().find_map(|tag| match tag.std {
        Some(StandardTag::Lyrics(text)) => Some(text.to_string()),
        _ => None,
    })
}

fn fill(revision: &MetadataRevision, tags: &mut Tags) {
    let own = revision.per_track.iter().flat_map(|track| &track.metadata.tags);
    for Tag { raw, std } in own.chain(&revision.media.tags) {
        // FFmpeg writes a song's tags without a target, which Matroska takes for those of an album: a field that
        // is named by its own word is believed before the meaning that comes from the target.
        match (raw.key.split_once('@'), std) {
            (Some((_, name)), _) if named(name).is_some() => {
                if let Some(field) = named(name) {
                    tags.put(field, &raw.value.to_string());
                }
            }
            (_, Some(tag)) => put(tag, tags),
            (None, None) if raw.key.eq_ignore_ascii_case("date") => {
                tags.put(Field::Year, &raw.value.to_string())
            }
            _ => {}
        }
    }
}

/// Matroska's tag names, whatever they are attached to. "TITLE" is not among them: there it is the album's.
fn named(name: &str) -> Option<Field> {
    Some(match name {
        "ARTIST" => Field::Artist,
        "ALBUM" => Field::Album,
        "ALBUM_ARTIST" => Field::AlbumArtist,
        "GENRE" => Field::Genre,
        "DATE" | "DATE_RELEASED" | "DATE_RECORDED" => Field::Year,
        "PART_NUMBER" => Field::Track,
        "DISC" => Field::Disc,
        "ISRC" => Field::Isrc,
        "MUSICBRAINZ_TRACKID" => Field::Recording,
        _ => return None,
    })
}

fn put(tag: &StandardTag, tags: &mut Tags) {
    use StandardTag as S;
    match tag {
        S::TrackTitle(text) => tags.put(Field::Title, text),
        S::Artist(text) => tags.put(Field::Artist, text),
        S::Album(text) => tags.put(Field::Album, text),
        S::AlbumArtist(text) => tags.put(Field::AlbumArtist, text),
        S::Genre(text) => tags.put(Field::Genre, text),
        S::RecordingDate(text) | S::ReleaseDate(text) | S::OriginalReleaseDate(text) => {
            tags.put(Field::Year, text);
        }
        S::RecordingYear(year) | S::ReleaseYear(year) | S::OriginalReleaseYear(year) => {
            tags.put(Field::Year, &year.to_string());
        }
        S::TrackNumber(number) => tags.put(Field::Track, &number.to_string()),
        S::DiscNumber(number) => tags.put(Field::Disc, &number.to_string()),
        S::IdentIsrc(text) => tags.put(Field::Isrc, text),
        S::MusicBrainzRecordingId(text) => tags.put(Field::Recording, text),
        _ => {}
    }
}
