//! Albums and songs by kind and order, a page at a time.

use super::{Album, Artist, Shelf, Track, shuffle::Shuffle};
use crate::music::id::Id;

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Entries that are left out.
    pub offset: usize,
    /// Entries at most.
    pub size: usize,
}

impl Page {
    /// Everything.
    pub const ALL: Self = Self { offset: 0, size: usize::MAX };

    /// The page of a list.
    pub(super) fn of<T>(self, list: &[T]) -> &[T] {
        let start = self.offset.min(list.len());
        let end = start.saturating_add(self.size).min(list.len());
        &list[start..end]
    }

    pub(super) fn take<T>(self, list: impl Iterator<Item = T>) -> Vec<T> {
        list.skip(self.offset).take(self.size).collect()
    }
}

/// Which albums, in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlbumList<'n> {
    /// All, by title.
    ByTitle,
    /// All, by artist and title.
    ByArtist,
    /// All, the newest first.
    Newest,
    /// Of these years and those between, in this direction.
    Years(u16, u16),
    /// With songs of a genre.
    Genre(&'n str),
    /// All, in an order that this number makes.
    Random(u64),
}

/// Which songs, in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackList<'n> {
    /// All, by artist and title of the album, disc and track.
    All,
    /// Of a genre.
    Genre(&'n str),
    /// In an order that a number makes.
    Random {
        /// The number.
        seed: u64,
        /// Only of this genre.
        genre: Option<&'n str>,
        /// Only of these years and those between.
        years: Option<(u16, u16)>,
    },
}

impl Shelf {
    /// A page of albums.
    #[must_use]
    pub fn albums(&self, list: AlbumList<'_>, page: Page) -> Vec<&Album> {
        match list {
            AlbumList::ByArtist => page.of(&self.albums).iter().collect(),
            AlbumList::ByTitle => self.albums_at(page.of(&self.albums_by_title)),
            AlbumList::Newest => self.albums_at(page.of(&self.albums_by_age)),
            AlbumList::Years(from, to) => self.albums_of_years(from, to, page),
            AlbumList::Genre(name) => {
                self.genre(name).map(|genre| self.albums_at(page.of(&genre.albums))).unwrap_or_default()
            }
            AlbumList::Random(seed) => {
                page.take(Shuffle::new(seed, self.albums.len()).iter().filter_map(|at| self.albums.get(at)))
            }
        }
    }

    fn albums_at(&self, places: &[u32]) -> Vec<&Album> {
        places.iter().filter_map(|place| self.albums.get(*place as usize)).collect()
    }

    fn albums_of_years(&self, from: u16, to: u16, page: Page) -> Vec<&Album> {
        let year = |place: &u32| self.albums.get(*place as usize).map_or(0, |album| album.year);
        let (first, last) = (from.min(to), from.max(to));
        let start = self.albums_by_year.partition_point(|place| year(place) < first);
        let end = self.albums_by_year.partition_point(|place| year(place) <= last);
        let fitting = self.albums_by_year.get(start..end).unwrap_or_default();
        if from <= to {
            return self.albums_at(page.of(fitting));
        }
        let rest = fitting.len().saturating_sub(page.offset);
        let turned = &fitting[rest.saturating_sub(page.size)..rest];
        turned.iter().rev().filter_map(|place| self.albums.get(*place as usize)).collect()
    }

    /// A page of songs.
    #[must_use]
    pub fn tracks(&self, list: TrackList<'_>, page: Page) -> Vec<&Track> {
        match list {
            TrackList::All => page.of(&self.tracks).iter().collect(),
            TrackList::Genre(name) => {
                let places = self.genre(name).map(|genre| page.of(&genre.tracks)).unwrap_or_default();
                places.iter().filter_map(|place| self.tracks.get(*place as usize)).collect()
            }
            TrackList::Random { seed, genre, years } => {
                let of = match genre.map(|name| self.genre(name)) {
                    Some(None) => return Vec::new(),
                    Some(Some(genre)) => Some(&genre.tracks),
                    None => None,
                };
                let length = of.map_or(self.tracks.len(), |places| places.len());
                let place = |at: usize| match of {
                    Some(places) => places.get(at).map(|place| *place as usize),
                    None => Some(at),
                };
                let fits = |track: &&Track| {
                    years.is_none_or(|(one, other)| {
                        (one.min(other)..=one.max(other)).contains(&track.year) && track.year != 0
                    })
                };
                let places = Shuffle::new(seed, length).iter().filter_map(place);
                page.take(places.filter_map(|place| self.tracks.get(place)).filter(fits))
            }
        }
    }

    /// Songs of an artist or on the artist's albums, in the order of the artist's albums.
    #[must_use]
    pub fn tracks_by(&self, artist: &Artist, page: Page) -> Vec<&Track> {
        let counts = |track: &&Track| {
            let is = |found: Option<&Artist>| found.is_some_and(|found| found.id == artist.id);
            is(self.artist_of(track)) || self.album_of(track).is_some_and(|album| is(self.owner_of(album)))
        };
        let albums = self.albums_of(artist).into_iter();
        page.take(albums.flat_map(|album| self.tracks_of(album)).filter(counts))
    }

    /// A page of the songs with these names, in this order; what is not here does not count.
    pub fn pick_tracks(&self, ids: impl IntoIterator<Item = Id>, page: Page) -> Vec<&Track> {
        page.take(ids.into_iter().filter_map(|id| self.track_by_id(id)))
    }

    /// A page of the albums with these names, in this order; what is not here does not count.
    pub fn pick_albums(&self, ids: impl IntoIterator<Item = Id>, page: Page) -> Vec<&Album> {
        page.take(ids.into_iter().filter_map(|id| self.album(id)))
    }

    /// A page of the artists with these names, in this order; what is not here does not count.
    pub fn pick_artists(&self, ids: impl IntoIterator<Item = Id>, page: Page) -> Vec<&Artist> {
        page.take(ids.into_iter().filter_map(|id| self.artist(id)))
    }
}
