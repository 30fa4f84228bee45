//! What there is to hear: the own library, and what is online now.

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Shared, blocking,
    extract::{Asked, MOST, Named, PageQuery},
};
use crate::{
    export::json::terms_kind,
    http::problem::Problem,
    music::{
        Folder,
        id::Id,
        shelf::{Album, AlbumList, Artist, Genre, Page, Shelf, Track, TrackList},
    },
    tokens,
};

/// Which part of which shelf.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
pub(super) struct ShelfQuery {
    /// `own`: the own library. `online`: what others serve now. [default: `online`]
    shelf: Option<String>,
    /// `title`, `artist`, `newest` or `random`.
    sort: Option<String>,
    /// Only of this genre.
    genre: Option<String>,
    /// For `random`: the same number gives the same order, page by page.
    seed: u64,
    /// `next` of the page before; nothing for the first.
    cursor: Option<String>,
    /// Entries, 1 to 500.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
}

impl ShelfQuery {
    fn folder(&self) -> Result<Folder, Problem> {
        folder(self.shelf.as_deref())
    }

    fn page(&self) -> Result<Page, Problem> {
        let query = PageQuery { cursor: self.cursor.clone(), limit: self.limit };
        Ok(Page { offset: query.offset()?, size: query.limit()? })
    }
}

fn folder(shelf: Option<&str>) -> Result<Folder, Problem> {
    match shelf {
        None | Some("online") => Ok(Folder::Online),
        Some("own") => Ok(Folder::Own),
        Some(other) => Err(Problem::bad(format!("there is no shelf {other:?}: own or online"))),
    }
}

/// A page of a list, and where the next one begins.
fn listed(name: &str, items: Vec<Value>, page: Page, cut: bool) -> Json<Value> {
    let next = (items.len() == page.size).then(|| (page.offset + page.size).to_string());
    Json(json!({ name: items, "next": next, "cut": cut }))
}

/// A song as the API tells it.
pub(in crate::http) fn song(shelf: &Shelf, track: &Track) -> Value {
    let (file, about) = (track.file(), &track.about);
    json!({
        "id": track.id().to_string(), "title": track.title, "artist": &*about.artist,
        "artist_id": about.artist_id.to_string(), "album": &*about.album,
        "album_id": shelf.album_of(track).map_or(about.album_id, |album| album.id).to_string(),
        "genre": &*about.genre, "year": track.year, "track": track.track, "disc": track.disc,
        "duration_ms": track.duration_ms, "created_ms": track.created_ms, "sources": track.sources,
        "bytes": file.bytes, "container": file.container.extension(), "content": file.content.to_string(),
        "terms": terms_kind(track.terms.into()), "price_units": track.price, "price_tokens": tokens::format(track.price),
    })
}

fn album(shelf: &Shelf, album: &Album) -> Value {
    let owner = shelf.owner_of(album);
    json!({
        "id": album.id.to_string(), "title": &*album.title,
        "artist": owner.map(|owner| &*owner.name), "artist_id": owner.map(|owner| owner.id.to_string()),
        "year": album.year, "songs": album.songs(), "duration_ms": album.duration_ms,
        "created_ms": album.created_ms, "genre": shelf.album_genre(album).map(|genre| &*genre.name),
    })
}

fn artist(artist: &Artist) -> Value {
    json!({
        "id": artist.id.to_string(), "name": &*artist.name, "albums": artist.albums(), "songs": artist.songs,
        "letter": artist.letter.to_string(),
    })
}

fn genre(genre: &Genre) -> Value {
    json!({ "name": &*genre.name, "albums": genre.albums(), "songs": genre.songs() })
}

/// Albums.
#[utoipa::path(get, path = "/api/v1/albums", tag = "music", params(ShelfQuery), responses((status = 200, description = "A page of albums"), (status = 400, body = Problem)))]
pub(super) async fn albums(State(app): Shared, Asked(query): Asked<ShelfQuery>) -> Answer {
    let (shelf, page) = (app.peer.music.shelf(query.folder()?), query.page()?);
    let list = match (query.genre.as_deref(), query.sort.as_deref()) {
        (Some(genre), _) => AlbumList::Genre(genre),
        (None, None | Some("artist")) => AlbumList::ByArtist,
        (None, Some("title")) => AlbumList::ByTitle,
        (None, Some("newest")) => AlbumList::Newest,
        (None, Some("random")) => AlbumList::Random(query.seed),
        (None, Some(other)) => return Err(no_order(other)),
    };
    let items = shelf.albums(list, page).into_iter().map(|one| album(&shelf, one)).collect();
    Ok(listed("albums", items, page, shelf.is_cut()))
}

fn no_order(sort: &str) -> Problem {
    Problem::bad(format!("there is no order {sort:?}: title, artist, newest or random"))
}

/// Songs.
#[utoipa::path(get, path = "/api/v1/songs", tag = "music", params(ShelfQuery), responses((status = 200, description = "A page of songs"), (status = 400, body = Problem)))]
pub(super) async fn songs(State(app): Shared, Asked(query): Asked<ShelfQuery>) -> Answer {
    let (shelf, page) = (app.peer.music.shelf(query.folder()?), query.page()?);
    let list = match (query.genre.as_deref(), query.sort.as_deref()) {
        (genre, Some("random")) => TrackList::Random { seed: query.seed, genre, years: None },
        (Some(genre), _) => TrackList::Genre(genre),
        (None, None | Some("artist")) => TrackList::All,
        (None, Some(other)) => {
            return Err(Problem::bad(format!("songs are not put in the order {other:?}: artist or random")));
        }
    };
    let items = shelf.tracks(list, page).into_iter().map(|one| song(&shelf, one)).collect();
    Ok(listed("songs", items, page, shelf.is_cut()))
}

/// Artists.
#[utoipa::path(get, path = "/api/v1/artists", tag = "music", params(ShelfQuery), responses((status = 200, description = "A page of artists"), (status = 400, body = Problem)))]
pub(super) async fn artists(State(app): Shared, Asked(query): Asked<ShelfQuery>) -> Answer {
    let (shelf, page) = (app.peer.music.shelf(query.folder()?), query.page()?);
    let items = shelf.artists().iter().skip(page.offset).take(page.size).map(artist).collect();
    Ok(listed("artists", items, page, shelf.is_cut()))
}

/// Genres.
#[utoipa::path(get, path = "/api/v1/genres", tag = "music", params(ShelfQuery), responses((status = 200, description = "A page of genres"), (status = 400, body = Problem)))]
pub(super) async fn genres(State(app): Shared, Asked(query): Asked<ShelfQuery>) -> Answer {
    let (shelf, page) = (app.peer.music.shelf(query.folder()?), query.page()?);
    let items = shelf.genres().iter().skip(page.offset).take(page.size).map(genre).collect();
    Ok(listed("genres", items, page, shelf.is_cut()))
}

fn id(text: &str) -> Result<Id, Problem> {
    text.parse().map_err(|_| {
        Problem::not_found(format!("{:?} is not an id", text.chars().take(80).collect::<String>()))
    })
}

fn gone(what: &str) -> Problem {
    Problem::not_found(format!("{what} is neither in the own library nor online now"))
}

/// One song.
#[utoipa::path(get, path = "/api/v1/songs/{song}", tag = "music", params(("song" = String, Path, description = "Id of the song")), responses((status = 200, description = "The song"), (status = 404, body = Problem)))]
pub(super) async fn one_song(State(app): Shared, Named(text): Named<String>) -> Answer {
    let id = id(&text)?;
    for folder in [Folder::Own, Folder::Online] {
        let shelf = app.peer.music.shelf(folder);
        if let Some(track) = shelf.track_by_id(id) {
            let mut found = song(&shelf, track);
            found["own"] = json!(folder == Folder::Own);
            return Ok(Json(found));
        }
    }
    Err(gone("the song"))
}

/// One album, with its songs.
#[utoipa::path(get, path = "/api/v1/albums/{album}", tag = "music", params(("album" = String, Path, description = "Id of the album")), responses((status = 200, description = "The album"), (status = 404, body = Problem)))]
pub(super) async fn one_album(State(app): Shared, Named(text): Named<String>) -> Answer {
    let id = id(&text)?;
    for folder in [Folder::Own, Folder::Online] {
        let shelf = app.peer.music.shelf(folder);
        if let Some(one) = shelf.album(id) {
            let mut found = album(&shelf, one);
            let tracks = shelf.tracks_of(one).iter().take(MOST);
            found["tracks"] = tracks.map(|track| song(&shelf, track)).collect();
            return Ok(Json(found));
        }
    }
    Err(gone("the album"))
}

/// One artist, with the albums.
#[utoipa::path(get, path = "/api/v1/artists/{artist}", tag = "music", params(("artist" = String, Path, description = "Id of the artist")), responses((status = 200, description = "The artist"), (status = 404, body = Problem)))]
pub(super) async fn one_artist(State(app): Shared, Named(text): Named<String>) -> Answer {
    let id = id(&text)?;
    for folder in [Folder::Own, Folder::Online] {
        let shelf = app.peer.music.shelf(folder);
        if let Some(one) = shelf.artist(id) {
            let mut found = artist(one);
            let albums = shelf.albums_of(one).into_iter().take(MOST);
            found["album_list"] = albums.map(|one| album(&shelf, one)).collect();
            return Ok(Json(found));
        }
    }
    Err(gone("the artist"))
}

/// What is looked for.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
pub(super) struct SearchQuery {
    /// Words.
    q: String,
    /// `own` or `online`. [default: `online`]
    shelf: Option<String>,
    /// Entries of each kind, 1 to 500. [default: 20]
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
}

/// Artists, albums and songs by words.
#[utoipa::path(get, path = "/api/v1/search", tag = "music", params(SearchQuery), responses((status = 200, description = "What was found of each kind"), (status = 400, body = Problem)))]
pub(super) async fn search(State(app): Shared, Asked(query): Asked<SearchQuery>) -> Answer {
    let shelf = app.peer.music.shelf(folder(query.shelf.as_deref())?);
    let limit = PageQuery { cursor: None, limit: Some(query.limit.unwrap_or(20)) }.limit()?;
    let page = Page { offset: 0, size: limit };
    // Searching a large shelf takes milliseconds.
    let work = blocking(move || {
        let found = shelf.find(&query.q, page, page, page);
        Ok(json!({
            "artists": found.artists.into_iter().map(artist).collect::<Vec<_>>(),
            "albums": found.albums.into_iter().map(|one| album(&shelf, one)).collect::<Vec<_>>(),
            "songs": found.tracks.into_iter().map(|one| song(&shelf, one)).collect::<Vec<_>>(),
        }))
    });
    Ok(Json(work.await?))
}
