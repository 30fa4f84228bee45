//! What pages show of songs, albums and artists, in words.

use std::collections::BTreeSet;

use antiphon_ledger::Ledger;
use antiphon_proto::wire::TermsKind;

use crate::{
    http::App,
    music::{
        Folder,
        id::Id,
        shelf::{Album, Artist, Genre, Page, Shelf, Track},
    },
    tokens,
};

/// Entries on a page.
pub(super) const PER_PAGE: usize = 60;

/// A song in a list.
#[derive(Debug, Clone)]
pub(super) struct TrackView {
    /// Ledger index.
    pub(super) index: u64,
    /// Name of the song.
    pub(super) id: String,
    /// Its title.
    pub(super) title: String,
    /// Who performs it.
    pub(super) artist: String,
    /// Name of the artist.
    pub(super) artist_id: String,
    /// The album.
    pub(super) album: String,
    /// Name of the album.
    pub(super) album_id: String,
    /// Disc and track, for the order.
    pub(super) place: (u16, u16),
    /// The number to show.
    pub(super) number: usize,
    /// Minutes and seconds.
    pub(super) length: String,
    /// Milliseconds.
    pub(super) ms: u32,
    /// What it asks of its listeners; nothing when it is open.
    pub(super) terms: String,
    /// Whether the own library has it.
    pub(super) here: bool,
    /// How many others serve it now.
    pub(super) sources: u32,
    /// Whether it has a star.
    pub(super) starred: bool,
    /// How far it is on its way to the own library; empty when it is not.
    pub(super) coming: String,
    /// What it waits for on its way; empty when it does not.
    pub(super) waits: String,
    /// Why it did not come there; empty when nothing is known.
    pub(super) failed: String,
}

/// An album in a grid.
#[derive(Debug, Clone)]
pub(super) struct AlbumView {
    /// Name of the album.
    pub(super) id: String,
    /// Its title.
    pub(super) title: String,
    /// Whose it is.
    pub(super) artist: String,
    /// Name of whose it is.
    pub(super) artist_id: String,
    /// Empty when unknown.
    pub(super) year: String,
}

/// An artist in a grid.
#[derive(Debug, Clone)]
pub(super) struct ArtistView {
    /// Name of the artist.
    pub(super) id: String,
    /// As it is written.
    pub(super) name: String,
    /// Songs, in words.
    pub(super) songs: String,
}

/// A genre in a list.
#[derive(Debug, Clone)]
pub(super) struct GenreView {
    /// As it is written.
    pub(super) name: String,
    /// Its page.
    pub(super) href: String,
    /// Songs, in words.
    pub(super) songs: String,
}

/// `1 song`, `2 songs`.
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// `3:07`, `1:02:09`.
pub(super) fn length(ms: u64) -> String {
    let seconds = ms / 1_000;
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// A date and time, to the minute.
pub(super) fn when(ms: u64) -> String {
    let text = crate::http::subsonic::date::iso8601(ms);
    text.get(..16).map_or(text.clone(), |text| text.replace('T', " ") + " UTC")
}

/// Bytes in words.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        1_000_000..1_000_000_000 => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10),
    }
}

/// Text behind a `?` or `=`.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// What a song asks of its listeners.
pub(super) fn terms(kind: TermsKind, price: u64) -> String {
    match kind {
        TermsKind::Open => String::new(),
        TermsKind::PayPerPlay => format!("{} a play", tokens::words(price)),
        TermsKind::Purchase => format!("Buy: {}", tokens::words(price)),
        TermsKind::Grant => "By grant only".to_owned(),
    }
}

impl TrackView {
    /// A song of a shelf. `own` tells whether it is here.
    pub(super) fn of(shelf: &Shelf, own: &Shelf, track: &Track) -> Self {
        let artist = shelf.artist_of(track);
        let album = shelf.album_of(track);
        let title = if track.title.is_empty() { "Untitled" } else { &track.title };
        Self {
            index: track.index(),
            id: track.id().to_string(),
            title: title.to_owned(),
            artist: artist.map(|artist| artist.name.to_string()).unwrap_or_default(),
            artist_id: artist.map(|artist| artist.id.to_string()).unwrap_or_default(),
            album: album.map(|album| album.title.to_string()).unwrap_or_default(),
            album_id: album.map(|album| album.id.to_string()).unwrap_or_default(),
            place: (track.disc, track.track),
            number: usize::from(track.track),
            length: length(track.duration_ms.into()),
            ms: track.duration_ms,
            terms: terms(track.terms, track.price),
            here: own.track(track.index()).is_some(),
            sources: track.sources,
            starred: false,
            coming: String::new(),
            waits: String::new(),
            failed: String::new(),
        }
    }
}

impl AlbumView {
    /// An album of a shelf.
    pub(super) fn of(shelf: &Shelf, album: &Album) -> Self {
        let owner = shelf.owner_of(album);
        Self {
            id: album.id.to_string(),
            title: album.title.to_string(),
            artist: owner.map(|owner| owner.name.to_string()).unwrap_or_default(),
            artist_id: owner.map(|owner| owner.id.to_string()).unwrap_or_default(),
            year: if album.year == 0 { String::new() } else { album.year.to_string() },
        }
    }
}

impl ArtistView {
    /// An artist of a shelf.
    pub(super) fn of(artist: &Artist) -> Self {
        let songs = usize::try_from(artist.songs).unwrap_or(usize::MAX);
        Self { id: artist.id.to_string(), name: artist.name.to_string(), songs: counted(songs, "song") }
    }
}

impl GenreView {
    /// A genre of a shelf.
    pub(super) fn of(genre: &Genre) -> Self {
        Self {
            name: genre.name.to_string(),
            href: format!("/genre?name={}", escaped(&genre.name)),
            songs: counted(genre.songs(), "song"),
        }
    }
}

/// Both shelves at one moment.
pub(super) struct Both {
    /// The own songs.
    pub(super) own: std::sync::Arc<Shelf>,
    /// Those of others.
    pub(super) online: std::sync::Arc<Shelf>,
}

impl Both {
    /// As they are now.
    pub(super) fn of(app: &App) -> Self {
        Self { own: app.peer.music.shelf(Folder::Own), online: app.peer.music.shelf(Folder::Online) }
    }

    /// The own shelf first.
    fn each(&self) -> [&Shelf; 2] {
        [&self.own, &self.online]
    }

    /// A song by its ledger index.
    pub(super) fn track(&self, index: u64) -> Option<TrackView> {
        let sources = self.online.track(index).map_or(0, |track| track.sources);
        let found = self
            .each()
            .into_iter()
            .find_map(|shelf| shelf.track(index).map(|track| TrackView::of(shelf, &self.own, track)));
        found.map(|track| TrackView { sources, ..track })
    }

    /// Title and artist of a song by its ledger index; what nobody serves now is in the ledger all the same. Blocks.
    pub(super) fn named(&self, ledger: &Ledger, index: u64) -> (String, String) {
        let shown = self.track(index).map(|track| (track.title, track.artist));
        let shown = shown.or_else(|| ledger.song(index).ok()?.map(|song| (song.title, song.artist)));
        let (title, artist) = shown.unwrap_or_default();
        (if title.is_empty() { format!("Song {index}") } else { title }, artist)
    }

    /// An album by its name.
    pub(super) fn album(&self, id: Id) -> Option<AlbumView> {
        self.each().into_iter().find_map(|shelf| shelf.album(id).map(|album| AlbumView::of(shelf, album)))
    }

    /// An artist by name.
    pub(super) fn artist(&self, id: Id) -> Option<ArtistView> {
        self.each().into_iter().find_map(|shelf| shelf.artist(id).map(ArtistView::of))
    }

    /// Songs that `of` takes from each shelf, each once, those that are here first.
    pub(super) fn tracks<'s>(&'s self, of: impl Fn(&'s Shelf) -> Vec<&'s Track>) -> Vec<TrackView> {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for shelf in self.each() {
            let fresh = of(shelf).into_iter().filter(|track| seen.insert(track.index()));
            found.extend(fresh.map(|track| TrackView::of(shelf, &self.own, track)));
        }
        found
    }

    /// Albums that `of` takes from each shelf, each once.
    pub(super) fn albums<'s>(&'s self, of: impl Fn(&'s Shelf) -> Vec<&'s Album>) -> Vec<AlbumView> {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for shelf in self.each() {
            let fresh = of(shelf).into_iter().filter(|album| seen.insert(album.id));
            found.extend(fresh.map(|album| AlbumView::of(shelf, album)));
        }
        found
    }

    /// Artists that `of` takes from each shelf, each once.
    pub(super) fn artists<'s>(&'s self, of: impl Fn(&'s Shelf) -> Vec<&'s Artist>) -> Vec<ArtistView> {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for shelf in self.each() {
            let fresh = of(shelf).into_iter().filter(|artist| seen.insert(artist.id));
            found.extend(fresh.map(ArtistView::of));
        }
        found
    }
}

/// Links to the pages before and after.
#[derive(Debug, Clone, Default)]
pub(super) struct Pager {
    /// Counted from 1.
    pub(super) page: usize,
    /// How many there are.
    pub(super) pages: usize,
    /// Address without the number.
    base: String,
}

impl Pager {
    /// Of a list. `base` is an address that ends with `?` or `&`.
    pub(super) fn of(asked: Option<usize>, entries: usize, base: String) -> Self {
        let pages = entries.div_ceil(PER_PAGE).max(1);
        Self { page: asked.unwrap_or(1).clamp(1, pages), pages, base }
    }

    /// Which part of the list is shown.
    pub(super) fn part(&self) -> Page {
        Page { offset: self.page.saturating_sub(1) * PER_PAGE, size: PER_PAGE }
    }

    /// Address of the page before.
    pub(super) fn previous(&self) -> Option<String> {
        (self.page > 1).then(|| format!("{}page={}", self.base, self.page - 1))
    }

    /// Address of the page after.
    pub(super) fn next(&self) -> Option<String> {
        (self.page < self.pages).then(|| format!("{}page={}", self.base, self.page + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(length(187_400), "3:07");
        assert_eq!(length(3_729_000), "1:02:09");
        assert_eq!(counted(1, "song"), "1 song");
        assert_eq!(bytes(1_250_000), "1.2 MB");
        assert_eq!(escaped("R&B é"), "R%26B%20%C3%A9");
        assert_eq!(when(0), "1970-01-01 00:00 UTC");
    }

    #[test]
    fn pages() {
        let pager = Pager::of(Some(9), 130, "/library?".into());
        assert_eq!((pager.page, pager.pages, pager.part().offset), (3, 3, 120));
        assert_eq!(pager.previous().as_deref(), Some("/library?page=2"));
        assert_eq!(pager.next(), None);
        assert_eq!(Pager::of(None, 0, String::new()).pages, 1);
    }
}
