//! What is kept in memory of a song: its block without what nobody lists.

use std::{
    collections::HashSet,
    hash::{Hash, Hasher},
    sync::Arc,
};

use antiphon_proto::{Container, ContentHash, wire::TermsKind};

use super::id::Id;
use crate::search;

/// The names that songs of one album share, each as its blocks spell it; an empty text means unknown.
#[derive(Debug)]
pub struct About {
    /// Who performs the song.
    pub artist: Arc<str>,
    /// The album.
    pub album: Arc<str>,
    /// Whose album it is: the album artist, or else the artist.
    pub owner: Arc<str>,
    /// The genre.
    pub genre: Arc<str>,
    /// The artist by name.
    pub artist_id: Id,
    /// The owner by name.
    pub owner_id: Id,
    /// The album by names of owner and album.
    pub album_id: Id,
    /// What all spellings of the genre share.
    pub genre_key: Arc<str>,
}

impl About {
    fn names(&self) -> [&str; 4] {
        [&self.artist, &self.album, &self.owner, &self.genre]
    }
}

impl PartialEq for About {
    fn eq(&self, other: &Self) -> bool {
        self.names() == other.names()
    }
}

impl Eq for About {}

impl Hash for About {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.names().hash(state);
    }
}

/// An encoding of a song.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    /// Ledger index of its block: the song's or a variant's.
    pub index: u64,
    /// BLAKE3 of the file.
    pub content: ContentHash,
    /// Its size.
    pub bytes: u64,
    /// Its container.
    pub container: Container,
}

/// Another encoding of a song.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// Ledger index of the song.
    pub song: u64,
    /// The encoding.
    pub file: File,
}

/// A song. 144 bytes and the title, for which reason codes are plain bytes and small numbers are small.
#[derive(Debug)]
pub struct Song {
    /// Its own encoding; the index is that of the song's block.
    pub own: File,
    /// Length in milliseconds.
    pub duration_ms: u32,
    /// Title as the block has it; may be empty.
    pub title: Box<str>,
    /// Artist, album and the like.
    pub about: Arc<About>,
    /// Year of release, 0 when unknown.
    pub year: u16,
    /// Position on the disc, 0 when unknown.
    pub track: u16,
    /// Disc of the set, 0 when unknown.
    pub disc: u16,
    isrc: [u8; 12],
    mbid: [u8; 16],
    /// When it came into the ledger, milliseconds since 1970.
    pub created_ms: u64,
    /// What it asks of its listeners.
    pub terms: TermsKind,
    /// The price in units, where it asks for one.
    pub price: u64,
}

impl Song {
    /// The name that lasts.
    #[must_use]
    pub fn id(&self) -> Id {
        Id::Song(self.own.index)
    }

    /// Ledger index of its block.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.own.index
    }

    /// International Standard Recording Code.
    #[must_use]
    pub fn isrc(&self) -> Option<&str> {
        std::str::from_utf8(&self.isrc).ok().filter(|_| self.isrc[0] != 0)
    }

    /// MusicBrainz recording id.
    #[must_use]
    pub fn mbid(&self) -> Option<[u8; 16]> {
        Some(self.mbid).filter(|id| *id != [0; 16])
    }
}

/// Makes songs of blocks, and has those with the same names share them. It holds what the songs hold, and what they
/// held until [`Names::forget`].
#[derive(Debug, Default)]
pub struct Names {
    texts: HashSet<Arc<str>>,
    abouts: HashSet<Arc<About>>,
}

impl Names {
    /// The song in a block of this index and time.
    #[must_use]
    pub fn song(&mut self, index: u64, created_ms: u64, song: &antiphon_proto::wire::Song) -> Song {
        let (terms, price) = song.asks();
        let small = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        Song {
            own: file(index, &song.content_hash, song.bytes, song.container),
            duration_ms: song.duration_ms,
            title: song.title.as_str().into(),
            about: self.about(song),
            year: small(song.year),
            track: small(song.track),
            disc: small(song.disc),
            isrc: song.isrc.as_bytes().try_into().unwrap_or_default(),
            mbid: song.mbid[..].try_into().unwrap_or_default(),
            created_ms,
            terms,
            price,
        }
    }

    fn about(&mut self, song: &antiphon_proto::wire::Song) -> Arc<About> {
        let owner = search::owner(song);
        let unnamed = Id::Artist([0; 16]);
        let mut about = About {
            artist: self.text(&song.artist),
            album: self.text(&song.album),
            owner: self.text(owner),
            genre: self.text(&song.genre),
            artist_id: unnamed,
            owner_id: unnamed,
            album_id: unnamed,
            genre_key: Arc::default(),
        };
        if let Some(known) = self.abouts.get(&about) {
            return known.clone();
        }
        // Folding names is most of the work, and is done once for each album.
        about.artist_id = Id::artist(&song.artist);
        about.owner_id = Id::artist(owner);
        about.album_id = Id::album(owner, &song.album);
        about.genre_key = self.text(&search::name_key(&song.genre));
        let about = Arc::new(about);
        self.abouts.insert(about.clone());
        about
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let text: Arc<str> = text.into();
        self.texts.insert(text.clone());
        text
    }

    /// Lets go of names that no song has any more.
    pub fn forget(&mut self) {
        self.abouts.retain(|about| Arc::strong_count(about) > 1);
        self.texts.retain(|text| Arc::strong_count(text) > 1);
        self.abouts.shrink_to(self.abouts.len() * 2);
        self.texts.shrink_to(self.texts.len() * 2);
    }
}

/// The encoding in a block.
pub(super) fn file(index: u64, content: &[u8], bytes: u64, container: u32) -> File {
    let container = u8::try_from(container).ok().and_then(Container::from_byte).unwrap_or(Container::Unknown);
    // A block in the ledger has a whole hash.
    File { index, content: ContentHash(content.try_into().unwrap_or_default()), bytes, container }
}

#[cfg(test)]
mod tests {
    use antiphon_proto::wire;

    use super::*;

    #[test]
    fn songs_share_their_names() {
        let mut names = Names::default();
        let block = wire::Song {
            title: "One".into(),
            artist: "Café Noir".into(),
            album: "Album".into(),
            genre: "Hip-Hop".into(),
            isrc: "GBAYE6700150".into(),
            year: 1_999,
            track: 70_000,
            ..wire::Song::default()
        };
        let one = names.song(3, 5, &block);
        let two = names.song(4, 5, &wire::Song { title: "Two".into(), isrc: String::new(), ..block });
        assert!(Arc::ptr_eq(&one.about, &two.about));
        assert_eq!((one.isrc(), two.isrc(), one.mbid()), (Some("GBAYE6700150"), None, None));
        assert_eq!((one.year, one.track, one.id()), (1_999, u16::MAX, Id::Song(3)));
        assert_eq!((&*one.about.owner, &*one.about.genre_key), ("Café Noir", "hiphop"));
        assert_eq!(one.about.album_id, Id::album("cafe noir", "ALBUM"));
        drop((one, two));
        names.forget();
        assert!(names.abouts.is_empty() && names.texts.is_empty());
        assert!(size_of::<Song>() <= 144, "{}", size_of::<Song>());
    }
}
