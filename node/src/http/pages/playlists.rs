//! Playlists.

use askama::Template;
use axum::{
    Form,
    extract::{Path, State},
};
use serde::Deserialize;

use super::{
    Answer, Failed, Page as Shown, Shared, blocking, marks, see,
    views::{self, Both, TrackView, counted},
};
use crate::{
    http::{api::player::song_index, problem::Problem},
    listener::{Edit, PlaylistId},
    system::{clock, random::random},
};

/// A playlist in the list of them.
struct Line {
    id: String,
    name: String,
    songs: String,
    changed: String,
}

#[derive(Template)]
#[template(path = "playlists.html")]
struct AllMain {
    lists: Vec<Line>,
}

/// All of them.
pub(super) async fn all(State(app): Shared) -> Answer {
    let listener = app.listener.clone();
    let found = blocking(move || listener.playlists()).await?;
    let lists = found.into_iter().map(|(id, head)| Line {
        id: id.to_string(),
        name: head.name,
        songs: counted(usize::try_from(head.songs).unwrap_or(usize::MAX), "song"),
        changed: views::when(head.changed_ms),
    });
    Shown::show("Playlists", "playlists", &AllMain { lists: lists.collect() })
}

/// A new playlist.
#[derive(Debug, Deserialize)]
pub(super) struct New {
    name: String,
    song: Option<String>,
}

fn named(name: &str) -> Result<String, Failed> {
    let name = name.trim();
    if name.is_empty() {
        return Err(Problem::bad("A playlist needs a name.").into());
    }
    Ok(name.to_owned())
}

/// Makes one, with a song when one is named.
pub(super) async fn create(State(app): Shared, Form(new): Form<New>) -> Answer {
    let name = named(&new.name)?;
    let songs = new.song.map(|song| song_index(&song)).transpose()?;
    let (listener, random) = (app.listener.clone(), random()?);
    let id = blocking(move || listener.create_playlist(&name, songs.as_slice(), random, clock::now_ms()));
    Ok(see(&format!("/playlists/{}", id.await?)))
}

/// A song at its place.
struct Entry {
    place: usize,
    track: Option<TrackView>,
}

#[derive(Template)]
#[template(path = "playlist.html")]
struct OneMain {
    id: String,
    name: String,
    summary: String,
    entries: Vec<Entry>,
}

/// Songs that a page of a playlist shows.
const SHOWN: usize = 500;

/// One of them.
pub(super) async fn one(State(app): Shared, Path(id): Path<String>) -> Answer {
    let id: PlaylistId = id.parse()?;
    let listener = app.listener.clone();
    let found = blocking(move || listener.playlist(id)).await?;
    let (head, songs) = found.ok_or_else(|| Problem::not_found("There is no such playlist."))?;
    let both = Both::of(&app);
    let mut tracks: Vec<TrackView> = Vec::new();
    let mut there: Vec<bool> = Vec::new();
    for (place, song) in songs.iter().take(SHOWN).enumerate() {
        let track = both.track(*song);
        there.push(track.is_some());
        tracks.extend(track.map(|track| TrackView { number: place + 1, ..track }));
    }
    marks::mark(&app, &mut tracks).await?;
    let mut tracks = tracks.into_iter();
    let entry =
        |(place, there): (usize, bool)| Entry { place, track: there.then(|| tracks.next()).flatten() };
    let entries: Vec<Entry> = there.into_iter().enumerate().map(entry).collect();
    let here = entries.iter().filter(|entry| entry.track.is_some()).count();
    let mut summary = counted(songs.len(), "song");
    if songs.len() > SHOWN {
        summary.push_str(&format!("; the first {SHOWN} are shown"));
    }
    if here < entries.len() {
        summary.push_str(&format!("; {} cannot be heard now", entries.len() - here));
    }
    Shown::show(
        head.name.clone(),
        "playlists",
        &OneMain { id: id.to_string(), name: head.name, summary, entries },
    )
}

/// What is to be done with a playlist.
#[derive(Debug, Deserialize)]
pub(super) struct Change {
    /// `rename`, `remove`, `add` or `delete`.
    action: String,
    name: Option<String>,
    place: Option<u64>,
    song: Option<String>,
}

/// Does it.
pub(super) async fn edit(State(app): Shared, Path(id): Path<String>, Form(change): Form<Change>) -> Answer {
    let id: PlaylistId = id.parse()?;
    let listener = app.listener.clone();
    let edit = match change.action.as_str() {
        "delete" => {
            blocking(move || listener.delete_playlist(id)).await?;
            return Ok(see("/playlists"));
        }
        "rename" => {
            Edit { name: Some(named(change.name.as_deref().unwrap_or_default())?), ..Edit::default() }
        }
        "remove" => Edit { remove: change.place.into_iter().collect(), ..Edit::default() },
        "add" => {
            let song = song_index(change.song.as_deref().unwrap_or_default())?;
            Edit { append: vec![song], ..Edit::default() }
        }
        _ => return Err(Problem::bad("Nobody knows what that form asks for.").into()),
    };
    blocking(move || listener.edit_playlist(id, &edit, clock::now_ms())).await?;
    Ok(see(&format!("/playlists/{id}")))
}
