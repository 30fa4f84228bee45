//! Title, artist, album and the rest, from a file's tags or, where those are missing, from its path.

mod clean;
mod container;
mod guess;
mod tagged;

use std::io;
use std::path::Path;

use antiphon_proto::Container;

use crate::container::{asf, mkv};
use crate::limits::{GENRE_BYTES, MAX_COVER_BYTES, MAX_LYRICS_BYTES, TEXT_BYTES};
use crate::source::Window;

/// What a file says about its music. Every text is trimmed, free of control characters and within the limits of a
/// song block; an empty text or a zero means unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags {
    /// Name of the song, at most 256 bytes.
    pub title: String,
    /// Performer or performers, at most 256 bytes.
    pub artist: String,
    /// Album, at most 256 bytes.
    pub album: String,
    /// Performer of the whole album, at most 256 bytes.
    pub album_artist: String,
    /// First genre, at most 128 bytes.
    pub genre: String,
    /// Year of the recording or release.
    pub year: u32,
    /// Number on the disc.
    pub track: u32,
    /// Number of the disc.
    pub disc: u32,
    /// International Standard Recording Code: 12 characters, upper case, no hyphens.
    pub isrc: String,
    /// MusicBrainz recording id.
    pub mbid: Option<[u8; 16]>,
    /// Whether title, artist or album was taken from the file's path.
    pub guessed: bool,
}

/// An embedded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cover {
    /// MIME type by the picture's own first bytes: JPEG, PNG, GIF, WebP or BMP.
    pub mime: String,
    /// The image file, at most [`MAX_COVER_BYTES`].
    pub bytes: Vec<u8>,
}

/// Opens the file once more, from an offset to its end.
pub(crate) type Open<'a> = &'a dyn Fn(u64) -> io::Result<Window>;

/// One field of [`Tags`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Title,
    Artist,
    Album,
    AlbumArtist,
    Genre,
    Year,
    Track,
    Disc,
    Isrc,
    Recording,
}

impl Tags {
    /// Fills a field that is still empty. Values that make no sense for it are dropped.
    fn put(&mut self, field: Field, value: &str) {
        let (text, limit) = match field {
            Field::Title => (&mut self.title, TEXT_BYTES),
            Field::Artist => (&mut self.artist, TEXT_BYTES),
            Field::Album => (&mut self.album, TEXT_BYTES),
            Field::AlbumArtist => (&mut self.album_artist, TEXT_BYTES),
            Field::Genre => {
                if self.genre.is_empty() {
                    self.genre = clean::genre(value, GENRE_BYTES);
                }
                return;
            }
            Field::Year => return fill(&mut self.year, clean::year(value)),
            Field::Track => return fill(&mut self.track, clean::number(value)),
            Field::Disc => return fill(&mut self.disc, clean::number(value)),
            Field::Isrc => {
                if self.isrc.is_empty() {
                    self.isrc = clean::isrc(value).unwrap_or_default();
                }
                return;
            }
            Field::Recording => {
                self.mbid = self.mbid.or_else(|| clean::uuid(value));
                return;
            }
        };
        if text.is_empty() {
            *text = clean::text(value, limit);
        }
    }

    /// Fills missing title, artist and album from the file's name and folders.
    pub(crate) fn fill_from_path(&mut self, path: &Path) {
        if !self.title.is_empty() && !self.artist.is_empty() && !self.album.is_empty() {
            return;
        }
        let guess = guess::from_path(path);
        for (field, value) in
            [(Field::Title, &guess.title), (Field::Artist, &guess.artist), (Field::Album, &guess.album)]
        {
            let before = self.texts();
            self.put(field, value);
            self.guessed |= before != self.texts();
        }
        fill(&mut self.track, guess.track);
        fill(&mut self.disc, guess.disc);
        fill(&mut self.year, guess.year);
    }

    fn texts(&self) -> [usize; 3] {
        [self.title.len(), self.artist.len(), self.album.len()]
    }
}

fn fill(number: &mut u32, value: u32) {
    if *number == 0 {
        *number = value;
    }
}

/// Reads the tags of a file whose container begins at `start`. What cannot be read is left empty.
pub(crate) fn read(container: Container, open: Open<'_>, start: u64) -> Tags {
    let mut tags = Tags::default();
    match container {
        Container::Wma => read_asf(open, start, &mut tags),
        Container::Mka => {
            container::read(container, open, start, &mut tags);
            if let Some(title) = open(start).ok().and_then(|mut window| {
                let end = window.len();
                mkv::title(&mut window, end)
            }) {
                tags.put(Field::Title, &title);
            }
        }
        Container::Aac => {
            if start > 0 {
                container::read_id3v2(open, &mut tags);
            }
            container::read(container, open, start, &mut tags);
        }
        // FLAC in Ogg is unknown to the tag library.
        Container::Ogg if !tagged::read(container, open, &mut tags) => {
            container::read(container, open, start, &mut tags);
        }
        Container::Ogg | Container::Unknown => {}
        _ => {
            tagged::read(container, open, &mut tags);
        }
    }
    tags
}

/// The front cover of a file, else its first picture.
pub(crate) fn read_cover(container: Container, open: Open<'_>, start: u64) -> Option<Cover> {
    let found = match container {
        Container::Wma => asf_cover(open, start),
        Container::Mka | Container::Aac | Container::Unknown => container::cover(container, open, start),
        Container::Ogg => tagged::cover(container, open).or_else(|| container::cover(container, open, start)),
        _ => tagged::cover(container, open),
    };
    found.and_then(Cover::new)
}

/// The text of a song.
pub(crate) fn read_lyrics(container: Container, open: Open<'_>, start: u64) -> Option<String> {
    let found = match container {
        Container::Wma | Container::Unknown => None,
        Container::Mka | Container::Aac => container::lyrics(container, open, start),
        Container::Ogg => {
            tagged::lyrics(container, open).or_else(|| container::lyrics(container, open, start))
        }
        _ => tagged::lyrics(container, open),
    };
    found.filter(|text| text.len() <= MAX_LYRICS_BYTES && !text.trim().is_empty())
}

impl Cover {
    /// Takes a picture that is one by its first bytes and not too large.
    fn new(bytes: Vec<u8>) -> Option<Self> {
        let mime = image_type(&bytes)?;
        (bytes.len() <= MAX_COVER_BYTES).then(|| Self { mime: mime.to_owned(), bytes })
    }
}

/// The declared type is not believed: the bytes are shown in browsers.
fn image_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some("image/png"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        [b'B', b'M', ..] => Some("image/bmp"),
        _ => None,
    }
}

fn read_asf(open: Open<'_>, start: u64, tags: &mut Tags) {
    let Ok(header) = open(start).and_then(|mut window| asf::read(&mut window)) else { return };
    for tag in header.tags {
        let field = match tag.name.as_str() {
            "Title" => Field::Title,
            "Author" | "WM/Author" => Field::Artist,
            "WM/AlbumTitle" => Field::Album,
            "WM/AlbumArtist" => Field::AlbumArtist,
            "WM/Genre" => Field::Genre,
            "WM/Year" | "WM/OriginalReleaseYear" | "date" => Field::Year,
            "WM/TrackNumber" => Field::Track,
            "WM/PartOfSet" => Field::Disc,
            "WM/ISRC" => Field::Isrc,
            "MusicBrainz/Track Id" => Field::Recording,
            _ => continue,
        };
        tags.put(field, &tag.value);
    }
}

fn asf_cover(open: Open<'_>, start: u64) -> Option<Vec<u8>> {
    const FRONT_COVER: u8 = 3;
    let header = open(start).and_then(|mut window| asf::read(&mut window)).ok()?;
    let mut pictures = header.pictures;
    let front = pictures.iter().position(|picture| picture.kind == FRONT_COVER).unwrap_or(0);
    (front < pictures.len()).then(|| pictures.swap_remove(front).bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_of_a_field_stays() {
        let mut tags = Tags::default();
        tags.put(Field::Title, " \u{1}A title\n");
        tags.put(Field::Title, "Another");
        tags.put(Field::Track, "3/12");
        tags.put(Field::Year, "2009-05-01");
        tags.put(Field::Isrc, "nonsense");
        tags.put(Field::Isrc, "us-s1z-99-00001");
        tags.put(Field::Recording, "f4b1e3c2-0000-4000-8000-123456789abc");
        assert_eq!(tags.title, "A title");
        assert_eq!((tags.track, tags.year), (3, 2009));
        assert_eq!(tags.isrc, "USS1Z9900001");
        assert_eq!(tags.mbid.unwrap()[..4], [0xf4, 0xb1, 0xe3, 0xc2]);
    }

    #[test]
    fn only_missing_texts_are_guessed() {
        let path = Path::new("/srv/x/An Artist/2001 - An Album/03 - A Song.ogg");
        let mut tags = Tags { title: "Real".into(), ..Tags::default() };
        tags.fill_from_path(path);
        assert!(tags.guessed);
        assert_eq!(
            (tags.title.as_str(), tags.artist.as_str(), tags.album.as_str()),
            ("Real", "An Artist", "An Album")
        );
        assert_eq!((tags.track, tags.year), (3, 2001));

        let mut full = Tags { title: "T".into(), artist: "A".into(), album: "B".into(), ..Tags::default() };
        let before = full.clone();
        full.fill_from_path(path);
        assert_eq!(full, before);
    }

    #[test]
    fn pictures_are_known_by_their_bytes() {
        assert!(Cover::new(b"<svg onload=alert(1)>".to_vec()).is_none());
        assert_eq!(Cover::new(b"\xff\xd8\xff\xe0rest".to_vec()).unwrap().mime, "image/jpeg");
        let mut large = b"\xff\xd8\xff".to_vec();
        large.resize(MAX_COVER_BYTES + 1, 0);
        assert!(Cover::new(large).is_none());
    }
}
