//! What has a star.

use askama::Template;
use axum::extract::State;

use super::{
    Answer, Failed, Page as Shown, Shared, blocking, browse, marks,
    views::{AlbumView, ArtistView, Both, TrackView},
};
use crate::{listener::Kind, music::id::Id};

/// Songs that the page shows.
const SHOWN: usize = 500;
/// Albums and artists that it shows.
const TILES: usize = 120;

/// A song with a star; it may not be there now.
struct Entry {
    id: String,
    title: String,
    track: Option<TrackView>,
}

#[derive(Template)]
#[template(path = "starred.html")]
struct StarredMain {
    artists: Vec<ArtistView>,
    albums: Vec<AlbumView>,
    entries: Vec<Entry>,
    /// Albums and artists with a star that are not there now.
    away: usize,
    /// Songs beyond those that are shown.
    more: usize,
    empty: bool,
}

/// All of it, the newest star first.
pub(super) async fn starred(State(app): Shared) -> Answer {
    let both = Both::of(&app);
    let (listener, ledger) = (app.listener.clone(), app.peer.ledger.clone());
    let found = blocking(move || {
        let of = |kind| listener.starred(kind).map(|all| all.into_iter().map(|(id, _)| id).collect());
        let (songs, albums, artists): (Vec<Id>, Vec<Id>, Vec<Id>) =
            (of(Kind::Song)?, of(Kind::Album)?, of(Kind::Artist)?);
        let more = songs.len().saturating_sub(SHOWN);
        let mut entries: Vec<Entry> = Vec::new();
        for id in songs.into_iter().take(SHOWN) {
            let Id::Song(index) = id else { continue };
            let track = both.track(index);
            let title = track.as_ref().map(|track| track.title.clone());
            let title = title.unwrap_or_else(|| both.named(&ledger, index).0);
            entries.push(Entry { id: id.to_string(), title, track });
        }
        let all = albums.len() + artists.len();
        let empty = entries.is_empty() && all == 0;
        let mut albums: Vec<AlbumView> = albums.into_iter().filter_map(|id| both.album(id)).collect();
        let mut artists: Vec<ArtistView> = artists.into_iter().filter_map(|id| both.artist(id)).collect();
        let away = all - albums.len() - artists.len();
        albums.truncate(TILES);
        artists.truncate(TILES);
        Ok::<_, Failed>(StarredMain { artists, albums, entries, away, more, empty })
    });
    let mut main = found.await?;
    let mut tracks: Vec<TrackView> = main.entries.iter().filter_map(|entry| entry.track.clone()).collect();
    marks::mark(&app, &mut tracks).await?;
    browse::number(&mut tracks, 0);
    let mut marked = tracks.into_iter();
    for entry in main.entries.iter_mut().filter(|entry| entry.track.is_some()) {
        entry.track = marked.next();
    }
    Shown::show("Starred", "starred", &main)
}
