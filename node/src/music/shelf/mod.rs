//! What there is to hear at one moment, grouped and in order. A shelf never changes; another one takes its place.
//!
//! Songs belong to albums, and albums to artists: whoever goes from artist to album to song meets every song. Names are
//! one when they differ in case, accents and punctuation only, and are shown as most songs spell them. [`build`] makes
//! a shelf of rows, [`lists`] answers what apps ask for by kind and order, [`find`] what they ask for by words.

mod build;
mod find;
mod lists;
mod shuffle;
#[cfg(test)]
mod tests;
mod words;

use std::{ops::Deref, ops::Range, sync::Arc};

use self::words::Words;
pub use self::{
    find::Found,
    lists::{AlbumList, Page, TrackList},
};
use super::{
    id::Id,
    song::{File, Song, Variant},
};

/// Songs of one shelf: 75 MB in memory, what a Pi of 1 GB can spare. Of larger libraries the songs that came first into
/// the ledger are listed; the index of the ledger (`search`) finds the others too.
pub const MAX_TRACKS: usize = 250_000;
/// Articles that do not count when artists are sorted, as most apps have them.
pub const IGNORED_ARTICLES: &str = "The El La Los Las Le Les";
/// Shown for songs whose artist nobody knows.
pub const NO_ARTIST: &str = "[Unknown Artist]";
/// Shown for songs without an album: one album for each artist, so that they are met where albums are listed, and do not
/// make an album each.
pub const NO_ALBUM: &str = "[Unknown Album]";

/// What a shelf is made of.
#[derive(Debug, Clone)]
pub struct Row {
    /// The song.
    pub song: Arc<Song>,
    /// The encoding to be played, where it is not the song's own.
    pub other: Option<Arc<Variant>>,
    /// Peers online that serve the song; 0 for own songs.
    pub sources: u32,
}

/// A song on a shelf.
#[derive(Debug)]
pub struct Track {
    song: Arc<Song>,
    other: Option<Arc<Variant>>,
    /// Peers online that serve it; 0 for own songs.
    pub sources: u32,
    album: u32,
    artist: u32,
    genre: u32,
}

impl Deref for Track {
    type Target = Song;

    fn deref(&self) -> &Song {
        &self.song
    }
}

impl Track {
    /// The encoding to be played: of own songs the one on disk, of others the song's own where somebody serves it.
    #[must_use]
    pub fn file(&self) -> &File {
        self.other.as_ref().map_or(&self.song.own, |other| &other.file)
    }

    /// The song without what the shelf says of it.
    #[must_use]
    pub fn song(&self) -> &Arc<Song> {
        &self.song
    }
}

/// An album.
#[derive(Debug)]
pub struct Album {
    /// The name that lasts.
    pub id: Id,
    /// As most songs spell it; [`NO_ALBUM`] where they name none.
    pub title: Arc<str>,
    artist: u32,
    /// The earliest year of its songs, 0 when unknown.
    pub year: u16,
    genre: u32,
    tracks: Range<u32>,
    /// Length of all songs.
    pub duration_ms: u64,
    /// When its newest song came into the ledger, milliseconds since 1970.
    pub created_ms: u64,
}

impl Album {
    /// Number of songs.
    #[must_use]
    pub fn songs(&self) -> usize {
        self.tracks.len()
    }
}

/// An artist: of songs, of albums, or of both.
#[derive(Debug)]
pub struct Artist {
    /// The name that lasts.
    pub id: Id,
    /// As most songs spell it; [`NO_ARTIST`] where they name none.
    pub name: Arc<str>,
    /// Where the artist stands in an alphabet: the first letter without articles, in upper case; `#` for what begins with
    /// no letter.
    pub letter: char,
    /// Albums of the artist, one behind the other.
    own: Range<u32>,
    /// Albums of others with songs of the artist.
    guest: Box<[u32]>,
    /// Songs that are the artist's or on an album of the artist.
    pub songs: u32,
}

impl Artist {
    /// Number of albums: the artist's, and those of others with songs of the artist.
    #[must_use]
    pub fn albums(&self) -> usize {
        self.own.len() + self.guest.len()
    }
}

/// A genre.
#[derive(Debug)]
pub struct Genre {
    /// As most songs spell it.
    pub name: Arc<str>,
    key: Arc<str>,
    albums: Box<[u32]>,
    tracks: Box<[u32]>,
}

impl Genre {
    /// Number of songs.
    #[must_use]
    pub fn songs(&self) -> usize {
        self.tracks.len()
    }

    /// Number of albums with a song of it.
    #[must_use]
    pub fn albums(&self) -> usize {
        self.albums.len()
    }
}

/// Words of the names on a shelf.
#[derive(Debug, Default)]
struct Indexes {
    artists: Words,
    albums: Words,
    tracks: Words,
}

/// What there is to hear at one moment.
#[derive(Debug, Default)]
pub struct Shelf {
    /// By artist and title of the album, disc, track and title: each album is a part of it.
    tracks: Vec<Track>,
    by_index: Vec<u32>,
    /// By artist and title: each artist's are a part of it.
    albums: Vec<Album>,
    albums_by_id: Vec<u32>,
    albums_by_title: Vec<u32>,
    albums_by_age: Vec<u32>,
    /// Without those whose year is unknown.
    albums_by_year: Vec<u32>,
    /// In the order of an alphabet.
    artists: Vec<Artist>,
    artists_by_id: Vec<u32>,
    genres: Vec<Genre>,
    words: Indexes,
    cut: bool,
}

fn short(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn long(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

impl Shelf {
    /// Whether there is more than [`MAX_TRACKS`].
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Number of songs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tracks.len()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tracks.is_empty()
    }

    /// Number of albums.
    #[must_use]
    pub fn album_count(&self) -> usize {
        self.albums.len()
    }

    /// All artists, in the order of an alphabet without [`IGNORED_ARTICLES`].
    #[must_use]
    pub fn artists(&self) -> &[Artist] {
        &self.artists
    }

    /// All genres, by name. Songs without one are in none.
    #[must_use]
    pub fn genres(&self) -> &[Genre] {
        &self.genres
    }

    /// The song of this ledger index.
    #[must_use]
    pub fn track(&self, index: u64) -> Option<&Track> {
        let of = |place: &u32| self.tracks.get(*place as usize).map(|track| track.index());
        let at = self.by_index.binary_search_by(|place| of(place).cmp(&Some(index))).ok()?;
        self.tracks.get(*self.by_index.get(at)? as usize)
    }

    /// The song of this name.
    #[must_use]
    pub fn track_by_id(&self, id: Id) -> Option<&Track> {
        match id {
            Id::Song(index) => self.track(index),
            Id::Album(_) | Id::Artist(_) => None,
        }
    }

    /// The album of this name.
    #[must_use]
    pub fn album(&self, id: Id) -> Option<&Album> {
        let of = |place: &u32| self.albums.get(*place as usize).map(|album| album.id);
        let at = self.albums_by_id.binary_search_by(|place| of(place).cmp(&Some(id))).ok()?;
        self.albums.get(*self.albums_by_id.get(at)? as usize)
    }

    /// The artist of this name.
    #[must_use]
    pub fn artist(&self, id: Id) -> Option<&Artist> {
        let of = |place: &u32| self.artists.get(*place as usize).map(|artist| artist.id);
        let at = self.artists_by_id.binary_search_by(|place| of(place).cmp(&Some(id))).ok()?;
        self.artists.get(*self.artists_by_id.get(at)? as usize)
    }

    /// The genre of this name, up to case, accents and punctuation.
    #[must_use]
    pub fn genre(&self, name: &str) -> Option<&Genre> {
        self.genres.get(self.genre_place(name)?)
    }

    fn genre_place(&self, name: &str) -> Option<usize> {
        let key = crate::search::name_key(name);
        self.genres.binary_search_by(|genre| (*genre.key).cmp(&*key)).ok()
    }

    /// The album that a song is on.
    #[must_use]
    pub fn album_of(&self, track: &Track) -> Option<&Album> {
        self.albums.get(track.album as usize)
    }

    /// Who performs a song.
    #[must_use]
    pub fn artist_of(&self, track: &Track) -> Option<&Artist> {
        self.artists.get(track.artist as usize)
    }

    /// Whose an album is.
    #[must_use]
    pub fn owner_of(&self, album: &Album) -> Option<&Artist> {
        self.artists.get(album.artist as usize)
    }

    /// The genre of a song.
    #[must_use]
    pub fn genre_of(&self, track: &Track) -> Option<&Genre> {
        self.genres.get(track.genre as usize)
    }

    /// The genre that most songs of an album have.
    #[must_use]
    pub fn album_genre(&self, album: &Album) -> Option<&Genre> {
        self.genres.get(album.genre as usize)
    }

    /// Songs of an album, by disc and track.
    #[must_use]
    pub fn tracks_of(&self, album: &Album) -> &[Track] {
        self.tracks.get(long(&album.tracks)).unwrap_or_default()
    }

    /// Albums of an artist, by year and title, and behind them those of others with songs of the artist.
    #[must_use]
    pub fn albums_of(&self, artist: &Artist) -> Vec<&Album> {
        let mut own: Vec<&Album> = self.albums.get(long(&artist.own)).unwrap_or_default().iter().collect();
        // They are by title already. Unknown years come last.
        own.sort_by_key(|album| album.year.wrapping_sub(1));
        let guest = artist.guest.iter().filter_map(|place| self.albums.get(*place as usize));
        own.into_iter().chain(guest).collect()
    }

    /// Bytes on the heap that this shelf takes beside the songs, which shelves share.
    #[must_use]
    pub fn heap(&self) -> usize {
        let lists = [
            self.by_index.capacity(),
            self.albums_by_id.capacity(),
            self.albums_by_title.capacity(),
            self.albums_by_age.capacity(),
            self.albums_by_year.capacity(),
            self.artists_by_id.capacity(),
            self.artists.iter().map(|artist| artist.guest.len()).sum(),
            self.genres.iter().map(|genre| genre.albums.len() + genre.tracks.len()).sum(),
        ];
        self.tracks.capacity() * size_of::<Track>()
            + self.albums.capacity() * size_of::<Album>()
            + self.artists.capacity() * size_of::<Artist>()
            + self.genres.capacity() * size_of::<Genre>()
            + lists.into_iter().sum::<usize>() * size_of::<u32>()
            + self.words.artists.heap()
            + self.words.albums.heap()
            + self.words.tracks.heap()
    }
}
