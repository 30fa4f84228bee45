//! Pictures of songs, albums and artists: out of the file, beside it, or drawn.
//!
//! The ledger has no pictures: what others serve gets a drawn one, until a file of it is here. Pictures in files are
//! untrusted; they are decoded within limits, one at a time, and never handed on as they are.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Cursor, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use antiphon_fingerprint::{Analyzer, limits::MAX_COVER_BYTES};
use antiphon_proto::ContentHash;
use bytes::Bytes;
use image::{
    DynamicImage, ImageFormat, ImageReader, Limits, codecs::jpeg::JpegEncoder, imageops::FilterType,
};
use tokio::sync::Semaphore;

use super::{Folder, Music, draw::draw, id::Id, shelf::Shelf};
use crate::library::{Library, Located};

/// Pixels on a side that may be asked for: from an icon to a large screen.
pub const SIZES: std::ops::RangeInclusive<u32> = 32..=1_200;
/// The size of a picture when none was asked for.
pub const USUAL_SIZE: u32 = 600;
/// Pixels on a side of what is decoded: scans of booklets pass.
const DECODED_SIDE: u32 = 8_000;
/// Memory for decoding: five thousand pixels on each side. One is decoded at a time.
const DECODED_BYTES: u64 = 100 * 1024 * 1024;
/// Memory of pictures that are kept: some hundred of the usual size.
const CACHE_BYTES: usize = 16 * 1024 * 1024;
/// Good, at a fifth of the size of the best.
const JPEG_QUALITY: u8 = 85;
/// Songs of an album whose files are looked into: where the first few have no picture, the others mostly have none.
const LOOKED_INTO: usize = 3;
/// Entries of a folder that are looked at.
const FOLDER_ENTRIES: usize = 4_096;
/// What pictures beside music are called, best first.
const NAMES: [&str; 4] = ["cover", "folder", "front", "album"];
const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// A picture, as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// `image/jpeg` or `image/png`.
    pub mime: &'static str,
    /// The image file.
    pub bytes: Bytes,
}

/// What a picture is of, in which size, out of which file. (Zeros: out of none.)
type Key = (Id, u32, [u8; 32]);

/// Pictures that were asked for last.
#[derive(Debug, Default)]
struct Cache {
    pictures: BTreeMap<Key, (Picture, u64)>,
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
}

impl Cache {
    fn get(&mut self, key: &Key) -> Option<Picture> {
        self.uses += 1;
        let (picture, used) = self.pictures.get_mut(key)?;
        self.by_use.remove(used);
        *used = self.uses;
        self.by_use.insert(self.uses, *key);
        Some(picture.clone())
    }

    fn put(&mut self, key: Key, picture: Picture, most: usize) {
        self.uses += 1;
        self.bytes += picture.bytes.len();
        if let Some((before, used)) = self.pictures.insert(key, (picture, self.uses)) {
            self.bytes -= before.bytes.len();
            self.by_use.remove(&used);
        }
        self.by_use.insert(self.uses, key);
        while self.bytes > most
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            if let Some((picture, _)) = self.pictures.remove(&oldest) {
                self.bytes -= picture.bytes.len();
            }
        }
    }
}

/// Pictures of what there is to hear.
#[derive(Clone)]
pub struct Covers(Arc<Shared>);

struct Shared {
    library: Arc<Library>,
    analyzer: Analyzer,
    cache: Mutex<Cache>,
    /// Leave to decode or draw.
    turn: Semaphore,
}

impl Covers {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(library: Arc<Library>, analyzer: Analyzer) -> Self {
        Self(Arc::new(Shared { library, analyzer, cache: Mutex::default(), turn: Semaphore::new(1) }))
    }

    /// The picture of a song, an album or an artist, at most so many pixels on each side, within [`SIZES`]. There is one
    /// for every name, also of what is not here any more: apps keep names for years. `None` only when the peer ends.
    pub async fn picture(&self, music: &Music, id: Id, size: Option<u32>) -> Option<Picture> {
        let size = size.unwrap_or(USUAL_SIZE).clamp(*SIZES.start(), *SIZES.end());
        let (shown, contents) = subject(&music.shelf(Folder::Own), &music.shelf(Folder::Online), id);
        let key: Key = (shown, size, contents.first().map_or([0; 32], |content| content.0));
        if let Some(kept) = self.0.kept(&key) {
            return Some(kept);
        }
        let _turn = self.0.turn.acquire().await.ok()?;
        // Somebody else may have waited for the same.
        if let Some(kept) = self.0.kept(&key) {
            return Some(kept);
        }
        let shared = self.0.clone();
        let made = tokio::task::spawn_blocking(move || {
            let found = contents.iter().find_map(|content| shared.found(content, size));
            let picture = found.or_else(|| drawn(shown, size))?;
            shared.cache.lock().unwrap_or_else(PoisonError::into_inner).put(
                key,
                picture.clone(),
                CACHE_BYTES,
            );
            Some(picture)
        });
        made.await.ok().flatten()
    }
}

impl Shared {
    fn kept(&self, key: &Key) -> Option<Picture> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(key)
    }

    fn found(&self, content: &ContentHash, size: u32) -> Option<Picture> {
        let Ok(Located::Here { path, .. }) = self.library.locate(content) else { return None };
        let embedded = self.analyzer.cover(&path).ok().flatten().map(|cover| cover.bytes);
        let scale = |bytes: Vec<u8>| scaled(&bytes, size);
        embedded.and_then(scale).or_else(|| beside(&path).and_then(scale))
    }
}

/// Whose picture is shown, and the files to look into. A song that has no picture of its own is shown with its album's,
/// so that all songs of an album look the same.
fn subject(own: &Shelf, online: &Shelf, id: Id) -> (Id, Vec<ContentHash>) {
    match id {
        Id::Song(index) => {
            let (shelf, here) = if own.track(index).is_some() { (own, true) } else { (online, false) };
            let track = shelf.track(index);
            let album = track.and_then(|track| shelf.album_of(track)).map_or(id, |album| album.id);
            let content = track.filter(|_| here).map(|track| track.file().content);
            (album, content.into_iter().collect())
        }
        Id::Album(_) => {
            let tracks = own.album(id).map(|album| own.tracks_of(album)).unwrap_or_default();
            (id, tracks.iter().take(LOOKED_INTO).map(|track| track.file().content).collect())
        }
        Id::Artist(_) => (id, Vec::new()),
    }
}

/// The picture beside a music file.
fn beside(music: &Path) -> Option<Vec<u8>> {
    let rank = |path: &PathBuf| {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        let stem = path.file_stem()?.to_str()?.to_ascii_lowercase();
        let extension = EXTENSIONS.iter().position(|known| *known == extension)?;
        Some((NAMES.iter().position(|known| *known == stem)?, extension))
    };
    let entries = std::fs::read_dir(music.parent()?).ok()?.take(FOLDER_ENTRIES);
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut ranked: Vec<_> = paths.filter_map(|path| Some((rank(&path)?, path))).collect();
    ranked.sort();
    ranked.into_iter().find_map(|(_, path)| bounded(&path, MAX_COVER_BYTES))
}

/// The bytes of a file that is no larger.
pub(super) fn bounded(path: &Path, most: usize) -> Option<Vec<u8>> {
    // A named pipe would block.
    let whole = std::fs::metadata(path).ok().filter(|meta| meta.is_file() && meta.len() <= most as u64)?;
    let mut bytes = Vec::with_capacity(usize::try_from(whole.len()).ok()?);
    File::open(path).ok()?.take(most as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Decodes within limits, and makes it no larger than asked for.
#[must_use]
pub fn scaled(bytes: &[u8], size: u32) -> Option<Picture> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().ok()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(DECODED_SIDE);
    limits.max_image_height = Some(DECODED_SIDE);
    limits.max_alloc = Some(DECODED_BYTES);
    reader.limits(limits);
    // A decoder that gives up on damage is no reason to end.
    let image = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| reader.decode())).ok()?.ok()?;
    let larger = image.width() > size || image.height() > size;
    encoded(if larger { image.resize(size, size, FilterType::CatmullRom) } else { image })
}

/// JPEG, or PNG where something shows through.
fn encoded(image: DynamicImage) -> Option<Picture> {
    let mut bytes = Vec::new();
    let mime = if image.color().has_alpha() {
        image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).ok()?;
        "image/png"
    } else {
        let encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
        image.to_rgb8().write_with_encoder(encoder).ok()?;
        "image/jpeg"
    };
    Some(Picture { mime, bytes: bytes.into() })
}

fn drawn(id: Id, size: u32) -> Option<Picture> {
    let mut bytes = Vec::new();
    let picture = draw(id.to_string().as_bytes(), size);
    picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).ok()?;
    Some(Picture { mime: "image/png", bytes: bytes.into() })
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage, RgbaImage};

    use super::*;

    fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
        let mut bytes = Vec::new();
        image.into().write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
        bytes
    }

    #[test]
    fn pictures_are_scaled_within_limits() {
        let large = png(RgbImage::from_pixel(400, 200, Rgb([9, 99, 199])));
        let picture = scaled(&large, 100).unwrap();
        let again = image::load_from_memory(&picture.bytes).unwrap();
        assert_eq!((picture.mime, again.width(), again.height()), ("image/jpeg", 100, 50));
        let small = scaled(&png(RgbaImage::new(10, 10)), 100).unwrap();
        let again = image::load_from_memory(&small.bytes).unwrap();
        assert_eq!((small.mime, again.width()), ("image/png", 10));
        // Little as a file, much as a picture.
        assert!(scaled(&png(RgbImage::new(9_000, 1)), 100).is_none());
        for length in [0, 10, large.len() / 2] {
            assert!(scaled(&large[..length], 100).is_none());
        }
        assert!(scaled(b"<svg/>", 100).is_none());
    }

    #[test]
    fn the_best_picture_beside_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let song = folder.path().join("song.ogg");
        assert_eq!(beside(&song), None);
        for (name, bytes) in [("back.jpg", "no"), ("Folder.JPG", "second"), ("album.png", "third")] {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        assert_eq!(beside(&song).as_deref(), Some(&b"second"[..]));
        std::fs::write(folder.path().join("COVER.webp"), "first").unwrap();
        assert_eq!(beside(&song).as_deref(), Some(&b"first"[..]));
        assert_eq!(bounded(&folder.path().join("COVER.webp"), 4), None);
        assert_eq!(bounded(folder.path(), 4_000_000), None);
    }

    #[test]
    fn what_was_used_last_is_kept() {
        let picture = |length| Picture { mime: "image/png", bytes: vec![0; length].into() };
        let key = |number| (Id::Song(number), 100, [0; 32]);
        let mut cache = Cache::default();
        for number in 0..3 {
            cache.put(key(number), picture(40), 120);
        }
        assert!(cache.get(&key(0)).is_some());
        cache.put(key(3), picture(40), 120);
        assert!(cache.get(&key(1)).is_none() && cache.get(&key(0)).is_some() && cache.get(&key(3)).is_some());
        cache.put(key(0), picture(10), 120);
        assert_eq!((cache.bytes, cache.pictures.len(), cache.by_use.len()), (90, 3, 3));
        cache.put(key(9), picture(500), 120);
        assert_eq!((cache.bytes, cache.pictures.len()), (0, 0));
    }

    #[test]
    fn songs_look_like_their_album() {
        let none = Shelf::default();
        assert_eq!(subject(&none, &none, Id::Song(1)), (Id::Song(1), vec![]));
        let artist = Id::artist("Somebody");
        assert_eq!(subject(&none, &none, artist), (artist, vec![]));
        let picture = drawn(artist, 64).unwrap();
        assert_eq!(image::load_from_memory(&picture.bytes).unwrap().width(), 64);
    }
}
