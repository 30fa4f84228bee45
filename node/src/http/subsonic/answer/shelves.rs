//! One shelf or both, as if it were one.

use std::{collections::HashSet, sync::Arc};

use crate::music::{
    id::Id,
    shelf::{Album, Artist, Page, Shelf, Track},
};

/// Shelves, the own one first.
pub(super) struct Shelves(Vec<Arc<Shelf>>);

/// An album with its songs of all shelves.
pub(super) struct AlbumOf<'s> {
    /// The first shelf that has it.
    pub(super) shelf: &'s Shelf,
    /// As it is there.
    pub(super) album: &'s Album,
    /// By disc and track; those of the other shelf behind them.
    pub(super) tracks: Vec<&'s Track>,
}

/// An artist, and the first shelf that has it.
#[derive(Clone, Copy)]
pub(super) struct ArtistOf<'s> {
    pub(super) artist: &'s Artist,
    /// Albums on all shelves.
    pub(super) albums: usize,
    /// When the newest of them came into the ledger, milliseconds since 1970.
    pub(super) created_ms: u64,
}

impl Shelves {
    pub(super) fn new(shelves: Vec<Arc<Shelf>>) -> Self {
        Self(shelves)
    }

    pub(super) fn each(&self) -> impl Iterator<Item = &Shelf> {
        self.0.iter().map(|shelf| &**shelf)
    }

    /// Number of songs; one that is on both shelves counts twice.
    pub(super) fn len(&self) -> usize {
        self.each().map(Shelf::len).sum()
    }

    pub(super) fn track(&self, index: u64) -> Option<&Track> {
        self.each().find_map(|shelf| shelf.track(index))
    }

    pub(super) fn album(&self, id: Id) -> Option<AlbumOf<'_>> {
        let (shelf, album) = self.each().find_map(|shelf| Some((shelf, shelf.album(id)?)))?;
        let mut tracks: Vec<&Track> = shelf.tracks_of(album).iter().collect();
        for other in self.each().filter(|other| !std::ptr::eq(*other, shelf)) {
            if let Some(album) = other.album(id) {
                tracks.extend(
                    other.tracks_of(album).iter().filter(|track| shelf.track(track.index()).is_none()),
                );
            }
        }
        Some(AlbumOf { shelf, album, tracks })
    }

    pub(super) fn artist(&self, id: Id) -> Option<ArtistOf<'_>> {
        let mut found = self.each().filter_map(|shelf| Some((shelf, shelf.artist(id)?)));
        let (shelf, artist) = found.next()?;
        if found.next().is_none() {
            // On one shelf only: it has each album once.
            let (mut albums, mut created_ms) = (0, 0);
            for album in shelf.albums_of(artist) {
                albums += 1;
                created_ms = created_ms.max(album.created_ms);
            }
            return Some(ArtistOf { artist, albums, created_ms });
        }
        let albums = self.album_ids(id);
        let created_ms = albums.iter().map(|(_, created_ms)| *created_ms).max().unwrap_or(0);
        Some(ArtistOf { artist, albums: albums.len(), created_ms })
    }

    /// Albums of an artist, each once, and since when they are there.
    fn album_ids(&self, artist: Id) -> Vec<(Id, u64)> {
        let found = self.each().filter_map(|shelf| Some((shelf, shelf.artist(artist)?)));
        let ids = found
            .flat_map(|(shelf, artist)| shelf.albums_of(artist))
            .map(|album| (album.id, album.created_ms));
        let mut known = HashSet::new();
        ids.filter(|(id, _)| known.insert(*id)).collect()
    }

    /// Albums of an artist with their songs, each once.
    pub(super) fn albums_of(&self, artist: Id) -> Vec<AlbumOf<'_>> {
        self.album_ids(artist).into_iter().filter_map(|(id, _)| self.album(id)).collect()
    }

    /// Songs of an artist or on the artist's albums, each once.
    pub(super) fn tracks_by(&self, artist: Id) -> Vec<&Track> {
        let found = self.each().filter_map(|shelf| Some((shelf, shelf.artist(artist)?)));
        once(found.flat_map(|(shelf, artist)| shelf.tracks_by(artist, Page::ALL)))
    }

    /// A page of a list of the first shelf and what only the others have behind it.
    pub(super) fn page<'s, T>(
        &'s self,
        page: Page,
        list: impl Fn(&'s Shelf, Page) -> Vec<&'s T>,
        has: impl Fn(&Shelf, &T) -> bool,
    ) -> Vec<&'s T> {
        let mut taken: Vec<&'s T> = Vec::new();
        let mut skip = page.offset;
        for (at, shelf) in self.each().enumerate() {
            let wanted = page.size - taken.len();
            if wanted == 0 {
                break;
            }
            if at == 0 {
                let part = Page { offset: skip, size: wanted };
                taken = list(shelf, part);
                if taken.is_empty() {
                    skip -= list(shelf, Page { offset: 0, size: skip }).len();
                } else {
                    skip = 0;
                }
                continue;
            }
            let before = || self.each().take(at);
            let fresh = list(shelf, Page::ALL).into_iter();
            let fresh = fresh.filter(|found| !before().any(|shelf| has(shelf, found)));
            let mut found: Vec<&'s T> = fresh.skip(skip).take(wanted).collect();
            if found.is_empty() {
                continue;
            }
            skip = 0;
            taken.append(&mut found);
        }
        taken
    }

    pub(super) fn track_page<'s>(
        &'s self,
        page: Page,
        list: impl Fn(&'s Shelf, Page) -> Vec<&'s Track>,
    ) -> Vec<&'s Track> {
        self.page(page, list, |shelf, track| shelf.track(track.index()).is_some())
    }

    pub(super) fn album_page<'s>(
        &'s self,
        page: Page,
        list: impl Fn(&'s Shelf, Page) -> Vec<&'s Album>,
    ) -> Vec<AlbumOf<'s>> {
        let found = self.page(page, list, |shelf, album: &Album| shelf.album(album.id).is_some());
        found.into_iter().filter_map(|album| self.album(album.id)).collect()
    }

    pub(super) fn artist_page<'s>(
        &'s self,
        page: Page,
        list: impl Fn(&'s Shelf, Page) -> Vec<&'s Artist>,
    ) -> Vec<ArtistOf<'s>> {
        let found = self.page(page, list, |shelf, artist: &Artist| shelf.artist(artist.id).is_some());
        found.into_iter().filter_map(|artist| self.artist(artist.id)).collect()
    }

    /// All artists, by letters and name.
    pub(super) fn artists(&self) -> Vec<ArtistOf<'_>> {
        let mut all = self.artist_page(Page::ALL, |shelf, page| {
            shelf.artists().iter().skip(page.offset).take(page.size).collect()
        });
        if self.0.len() > 1 {
            all.sort_by_cached_key(|found| found.artist.order());
        }
        all
    }
}

/// Each song once.
pub(super) fn once<'s>(tracks: impl IntoIterator<Item = &'s Track>) -> Vec<&'s Track> {
    let mut known = HashSet::new();
    tracks.into_iter().filter(|track| known.insert(track.index())).collect()
}
