//! Music: the own library, what others serve, and what is in it.

use std::{path::PathBuf, str::FromStr};

use askama::Template;
use axum::{
    extract::{Path, Query, State},
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{
    Answer, Failed, Page as Shown, Shared, blocking, downloads, marks,
    marks::Keep,
    see,
    views::{self, AlbumView, ArtistView, Both, GenreView, Pager, TrackView, counted},
};
use crate::{
    http::{App, problem::Problem},
    music::{
        Folder,
        id::Id,
        shelf::{AlbumList, Page, Shelf, TrackList},
    },
};

/// Which part of a list.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    tab: Option<String>,
    page: Option<usize>,
    q: Option<String>,
    name: Option<String>,
    size: Option<u32>,
}

/// Ways to look at a shelf.
const TABS: [(&str, &str); 4] =
    [("albums", "Albums"), ("artists", "Artists"), ("genres", "Genres"), ("songs", "Songs")];

#[derive(Template)]
#[template(path = "shelf.html")]
struct ShelfMain {
    heading: &'static str,
    path: &'static str,
    own: bool,
    summary: String,
    tabs: [(&'static str, &'static str); 4],
    tab: &'static str,
    albums: Vec<AlbumView>,
    artists: Vec<ArtistView>,
    genres: Vec<GenreView>,
    tracks: Vec<TrackView>,
    pager: Pager,
    empty: bool,
    peers: usize,
    folders: usize,
    samples: bool,
    scanning: Option<(u64, u64)>,
    /// Songs on their way to the own library, in words.
    coming: String,
}

/// The folders of the own library, and how many others are online.
async fn around(app: &App) -> Result<(Vec<PathBuf>, usize), Failed> {
    let library = app.peer.library.clone();
    let folders = blocking(move || Ok::<_, Failed>(library.folders())).await?;
    let online = app.peer.network.as_ref().map(antiphon_p2p::Network::online).unwrap_or_default();
    Ok((folders, online.peers()))
}

#[derive(Template)]
#[template(path = "welcome.html")]
struct Welcome {
    samples: bool,
}

/// Where one lands.
pub(super) async fn home(State(app): Shared) -> Answer {
    let both = Both::of(&app);
    let (folders, _) = around(&app).await?;
    if !both.online.is_empty() {
        return Ok(see("/discover"));
    }
    // What comes with the program is nobody's music.
    let samples = folders == [app.peer.data.samples()];
    if !samples && (!folders.is_empty() || !both.own.is_empty()) {
        return Ok(see("/library"));
    }
    Shown::show("Welcome", "", &Welcome { samples })
}

/// The own music.
pub(super) async fn library(State(app): Shared, Query(asked): Query<Asked>) -> Answer {
    shelf(&app, Folder::Own, &asked).await
}

/// What others serve now.
pub(super) async fn discover(State(app): Shared, Query(asked): Query<Asked>) -> Answer {
    shelf(&app, Folder::Online, &asked).await
}

async fn shelf(app: &App, folder: Folder, asked: &Asked) -> Answer {
    let both = Both::of(app);
    let own = folder == Folder::Own;
    let shelf = if own { &both.own } else { &both.online };
    let (heading, path, place) =
        if own { ("My Library", "/library", "library") } else { ("Discover", "/discover", "discover") };
    let tab = TABS.iter().map(|(name, _)| *name).find(|name| asked.tab.as_deref() == Some(name));
    let tab = tab.unwrap_or("albums");
    let entries = match tab {
        "artists" => shelf.artists().len(),
        "genres" => shelf.genres().len(),
        "songs" => shelf.len(),
        _ => shelf.album_count(),
    };
    let pager = Pager::of(asked.page, entries, format!("{path}?tab={tab}&"));
    let part = pager.part();
    let (folders, peers) = around(app).await?;
    let scan = app.peer.library.progress().borrow().clone();
    let running = own && scan.is_running();
    let mut main = ShelfMain {
        heading,
        path,
        own,
        summary: summary(shelf, own, peers),
        tabs: TABS,
        tab,
        albums: Vec::new(),
        artists: Vec::new(),
        genres: Vec::new(),
        tracks: Vec::new(),
        pager,
        empty: shelf.is_empty(),
        peers,
        folders: folders.len(),
        samples: own && folders == [app.peer.data.samples()],
        scanning: running.then_some((scan.done, scan.found)),
        coming: if own { downloads::summary(app.downloads.counts()) } else { String::new() },
    };
    match tab {
        "artists" => main.artists = on(part, shelf.artists()).map(ArtistView::of).collect(),
        "genres" => main.genres = on(part, shelf.genres()).map(GenreView::of).collect(),
        "songs" => {
            let tracks = shelf.tracks(TrackList::All, part);
            main.tracks = tracks.into_iter().map(|track| TrackView::of(shelf, &both.own, track)).collect();
            number(&mut main.tracks, part.offset);
            marks::mark(app, &mut main.tracks).await?;
        }
        _ => {
            let order = if own { AlbumList::ByArtist } else { AlbumList::Newest };
            let albums = shelf.albums(order, part);
            main.albums = albums.into_iter().map(|album| AlbumView::of(shelf, album)).collect();
        }
    }
    Shown::show(heading, place, &main)
}

fn on<T>(part: Page, list: &[T]) -> impl Iterator<Item = &T> {
    list.iter().skip(part.offset).take(part.size)
}

/// Numbers songs by their place in a list.
pub(super) fn number(tracks: &mut [TrackView], before: usize) {
    for (number, track) in (before + 1..).zip(tracks) {
        track.number = number;
    }
}

fn summary(shelf: &Shelf, own: bool, peers: usize) -> String {
    let there = format!("{} in {}", counted(shelf.len(), "song"), counted(shelf.album_count(), "album"));
    let cut = if shelf.is_cut() { "; the oldest are listed, search finds the others" } else { "" };
    if own { format!("{there}{cut}") } else { format!("{there} from {} online{cut}", counted(peers, "peer")) }
}

#[derive(Template)]
#[template(path = "search.html")]
struct SearchMain {
    q: String,
    artists: Vec<ArtistView>,
    albums: Vec<AlbumView>,
    tracks: Vec<TrackView>,
}

/// Everything by words.
pub(super) async fn search(State(app): Shared, Query(asked): Query<Asked>) -> Answer {
    let q: String = asked.q.unwrap_or_default().trim().chars().take(200).collect();
    let mut main = SearchMain { q, artists: Vec::new(), albums: Vec::new(), tracks: Vec::new() };
    if !main.q.is_empty() {
        let both = Both::of(&app);
        let page = |size| Page { offset: 0, size };
        let q = &main.q;
        main.artists = both.artists(|shelf| shelf.find(q, page(12), page(0), page(0)).artists);
        main.albums = both.albums(|shelf| shelf.find(q, page(0), page(18), page(0)).albums);
        main.tracks = both.tracks(|shelf| shelf.find(q, page(0), page(0), page(50)).tracks);
        number(&mut main.tracks, 0);
        marks::mark(&app, &mut main.tracks).await?;
    }
    let title = if main.q.is_empty() { "Search".to_owned() } else { format!("Search: {}", main.q) };
    Shown::show(title, "search", &main)
}

#[derive(Template)]
#[template(path = "album.html")]
struct AlbumMain {
    album: AlbumView,
    genre: Option<GenreView>,
    length: String,
    songs: String,
    starred: bool,
    keep: Keep,
    tracks: Vec<TrackView>,
}

fn id(text: &str) -> Result<Id, Failed> {
    Id::from_str(text).map_err(|_| Problem::not_found("There is no such album, artist or song.").into())
}

/// An album: what is here of it, and what others serve.
pub(super) async fn album(State(app): Shared, Path(name): Path<String>) -> Answer {
    let both = Both::of(&app);
    let id = id(&name)?;
    let gone =
        || Problem::not_found("Nobody who is online has this album now, and it is not in your library.");
    let found = both.albums(|shelf| shelf.album(id).into_iter().collect());
    let album = found.into_iter().next().ok_or_else(gone)?;
    let mut tracks = both.tracks(|shelf| {
        shelf.album(id).map(|album| shelf.tracks_of(album).iter().collect()).unwrap_or_default()
    });
    tracks.sort_by_key(|track| track.place);
    marks::mark(&app, &mut tracks).await?;
    let genre = [&both.own, &both.online]
        .into_iter()
        .find_map(|shelf| shelf.album_genre(shelf.album(id)?).map(GenreView::of));
    let ms = tracks.iter().map(|track| u64::from(track.ms)).sum();
    let main = AlbumMain {
        genre,
        length: views::length(ms),
        songs: counted(tracks.len(), "song"),
        starred: marks::starred(&app, vec![id]).await? == [true],
        keep: Keep::of(&tracks),
        tracks,
        album,
    };
    Shown::show(main.album.title.clone(), "", &main)
}

#[derive(Template)]
#[template(path = "artist.html")]
struct ArtistMain {
    artist: ArtistView,
    starred: bool,
    albums: Vec<AlbumView>,
    tracks: Vec<TrackView>,
}

/// An artist.
pub(super) async fn artist(State(app): Shared, Path(name): Path<String>) -> Answer {
    let both = Both::of(&app);
    let id = id(&name)?;
    let gone = || {
        Problem::not_found("Nobody who is online has music of this artist now, and neither has your library.")
    };
    let artist = both.artists(|shelf| shelf.artist(id).into_iter().collect()).into_iter().next();
    let artist = artist.ok_or_else(gone)?;
    let albums =
        both.albums(|shelf| shelf.artist(id).map(|artist| shelf.albums_of(artist)).unwrap_or_default());
    let page = Page { offset: 0, size: views::PER_PAGE };
    let mut tracks =
        both.tracks(|shelf| shelf.artist(id).map(|artist| shelf.tracks_by(artist, page)).unwrap_or_default());
    number(&mut tracks, 0);
    marks::mark(&app, &mut tracks).await?;
    let starred = marks::starred(&app, vec![id]).await? == [true];
    Shown::show(artist.name.clone(), "", &ArtistMain { artist, starred, albums, tracks })
}

#[derive(Template)]
#[template(path = "genre.html")]
struct GenreMain {
    name: String,
    albums: Vec<AlbumView>,
    tracks: Vec<TrackView>,
    pager: Pager,
}

/// A genre.
pub(super) async fn genre(State(app): Shared, Query(asked): Query<Asked>) -> Answer {
    let both = Both::of(&app);
    let name = asked.name.unwrap_or_default();
    let found = [&both.own, &both.online].into_iter().filter_map(|shelf| shelf.genre(&name));
    let (shown, count) =
        found.fold((None, 0), |(_, most), genre| (Some(genre.name.to_string()), genre.songs().max(most)));
    let gone = || Problem::not_found("There is no music of this genre in your library or online now.");
    let shown = shown.ok_or_else(gone)?;
    let pager = Pager::of(asked.page, count, format!("/genre?name={}&", views::escaped(&name)));
    let first = Page { offset: 0, size: 24 };
    let albums = if pager.page == 1 {
        both.albums(|shelf| shelf.albums(AlbumList::Genre(&name), first))
    } else {
        Vec::new()
    };
    let mut tracks = both.tracks(|shelf| shelf.tracks(TrackList::Genre(&name), pager.part()));
    number(&mut tracks, pager.part().offset);
    marks::mark(&app, &mut tracks).await?;
    Shown::show(shown.clone(), "", &GenreMain { name: shown, albums, tracks, pager })
}

/// A picture.
pub(super) async fn cover(
    State(app): Shared,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    let id = Id::from_str(&name).map_err(|_| Problem::not_found("there is no such picture"))?;
    let picture = app.peer.covers.picture(&app.peer.music, id, asked.size).await;
    let picture = picture.ok_or_else(|| Problem::not_found("there is no such picture"))?;
    let headers = [(header::CONTENT_TYPE, picture.mime), (header::CACHE_CONTROL, "private, max-age=86400")];
    Ok((headers, picture.bytes).into_response())
}
