//! What the listener has said and heard: stars, ratings, playlists, plays.

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Shared, blocking,
    extract::{Asked, Named, PageQuery, Sent},
    player::song_index,
};
use crate::{
    http::{App, problem::Problem},
    listener::{Edit, Kind, Playlist, PlaylistId},
    music::{Folder, id::Id},
    system::{clock, random::random},
};

/// What somebody names that has stars and ratings.
fn named(id: &str) -> Result<Id, Problem> {
    id.parse().map_err(|_| Problem::not_found("There is no such album, artist or song."))
}

/// What there is no more can get neither star nor rating.
///
/// # Errors
/// It is on no shelf.
fn must_be_there(app: &App, id: Id) -> Result<(), Problem> {
    let there = [Folder::Own, Folder::Online].into_iter().any(|folder| {
        let shelf = app.peer.music.shelf(folder);
        match id {
            Id::Song(index) => shelf.track(index).is_some(),
            Id::Album(_) => shelf.album(id).is_some(),
            Id::Artist(_) => shelf.artist(id).is_some(),
        }
    });
    if there { Ok(()) } else { Err(Problem::not_found("It is neither in your library nor online now.")) }
}

/// Gives a star, or takes it away.
///
/// # Errors
/// Nothing of that name is there, or it cannot be written.
pub(in crate::http) async fn set_star(app: &App, id: &str, starred: bool) -> Result<(), Problem> {
    let of = named(id)?;
    // What there is no more can lose one.
    if starred {
        must_be_there(app, of)?;
    }
    let listener = app.listener.clone();
    blocking(move || {
        Ok(if starred { listener.star(&[of], clock::now_ms()) } else { listener.unstar(&[of]) }?)
    })
    .await
}

/// Gives a rating of 1 to 5, or takes it away with 0.
///
/// # Errors
/// Nothing of that name is there, it is another number, or it cannot be written.
pub(in crate::http) async fn set_rating(app: &App, id: &str, rating: u8) -> Result<(), Problem> {
    let of = named(id)?;
    must_be_there(app, of)?;
    let listener = app.listener.clone();
    blocking(move || Ok(listener.rate(&of, rating)?)).await
}

/// What has a star, the newest first.
#[utoipa::path(get, path = "/api/v1/starred", tag = "listener", responses((status = 200, description = "Songs, albums and artists, and since when")))]
pub(super) async fn starred(State(app): Shared) -> Answer {
    let listener = app.listener.clone();
    let found = blocking(move || {
        let of = |kind| -> anyhow::Result<Vec<Value>> {
            let all = listener.starred(kind)?;
            Ok(all.iter().map(|(id, since)| json!({ "id": id.to_string(), "starred_ms": since })).collect())
        };
        Ok(json!({
            "songs": of(Kind::Song)?, "albums": of(Kind::Album)?, "artists": of(Kind::Artist)?,
        }))
    });
    Ok(Json(found.await?))
}

/// A star.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct Star {
    /// Id of a song, an album or an artist.
    id: String,
    /// Whether it is to have one.
    starred: bool,
}

/// Gives a star, or takes it away.
#[utoipa::path(post, path = "/api/v1/starred", tag = "listener", request_body = Star, responses((status = 200, description = "Whether it has one"), (status = 404, body = Problem)))]
pub(super) async fn star(State(app): Shared, Sent(Star { id, starred }): Sent<Star>) -> Answer {
    set_star(&app, &id, starred).await?;
    Ok(Json(json!({ "id": id, "starred": starred })))
}

/// A rating.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct Rating {
    /// Id of a song, an album or an artist.
    id: String,
    /// 1 to 5; 0 takes it away.
    #[schema(maximum = 5)]
    rating: u8,
}

/// Gives a rating, or takes it away.
#[utoipa::path(post, path = "/api/v1/ratings", tag = "listener", request_body = Rating, responses((status = 200, description = "The rating"), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn rate(State(app): Shared, Sent(Rating { id, rating }): Sent<Rating>) -> Answer {
    set_rating(&app, &id, rating).await?;
    Ok(Json(json!({ "id": id, "rating": rating })))
}

/// What was heard here, the newest first, and what it cost.
#[utoipa::path(get, path = "/api/v1/plays", tag = "listener", params(PageQuery), responses((status = 200, description = "Plays, and the cursor of the next page"), (status = 400, body = Problem)))]
pub(super) async fn plays(State(app): Shared, Asked(page): Asked<PageQuery>) -> Answer {
    let (limit, before) = (page.limit()?, page.below()?);
    let listener = app.listener.clone();
    let journal = blocking(move || Ok(listener.journal(Some(before), limit)?)).await?;
    let next = journal.last().filter(|_| journal.len() == limit).map(|(number, _)| number.to_string());
    let plays: Vec<Value> = journal
        .iter()
        .map(|(number, play)| {
            json!({
                "number": number, "song": Id::Song(play.song).to_string(), "time_ms": play.time_ms,
                "heard_ms": play.heard_ms, "duration_ms": play.duration_ms,
                "how": play.how.name(), "receipts": play.receipts, "cost_units": play.cost_units,
            })
        })
        .collect();
    Ok(Json(json!({ "plays": plays, "next": next })))
}

fn line(id: PlaylistId, head: &Playlist) -> Value {
    json!({
        "id": id.to_string(), "name": head.name, "comment": head.comment, "songs": head.songs,
        "created_ms": head.created_ms, "changed_ms": head.changed_ms,
    })
}

/// Playlists.
#[utoipa::path(get, path = "/api/v1/playlists", tag = "listener", responses((status = 200, description = "All of them, without their songs")))]
pub(super) async fn playlists(State(app): Shared) -> Answer {
    let listener = app.listener.clone();
    let found = blocking(move || Ok(listener.playlists()?)).await?;
    let lists: Vec<Value> = found.iter().map(|(id, head)| line(*id, head)).collect();
    Ok(Json(json!({ "playlists": lists })))
}

async fn shown(app: &App, id: PlaylistId) -> Answer {
    let listener = app.listener.clone();
    let found = blocking(move || Ok(listener.playlist(id)?)).await?;
    let (head, songs) = found.ok_or_else(|| Problem::not_found("There is no such playlist."))?;
    let mut list = line(id, &head);
    list["song_ids"] = songs.iter().map(|song| Id::Song(*song).to_string()).collect();
    Ok(Json(list))
}

/// One of them, with the ids of its songs.
#[utoipa::path(get, path = "/api/v1/playlists/{id}", tag = "listener", params(("id" = String, Path, description = "Id of the playlist")), responses((status = 200, description = "The playlist"), (status = 404, body = Problem)))]
pub(super) async fn playlist(State(app): Shared, Named(id): Named<String>) -> Answer {
    shown(&app, list_id(&id)?).await
}

fn list_id(id: &str) -> Result<PlaylistId, Problem> {
    id.parse().map_err(|_| Problem::not_found("There is no such playlist."))
}

/// A playlist, or what is to be changed of one: what is left out stays as it is.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ListSaid {
    /// What it is called.
    name: Option<String>,
    /// For people.
    comment: Option<String>,
    /// Ids of all of its songs, in order.
    song_ids: Option<Vec<String>>,
}

impl ListSaid {
    fn edit(self) -> Result<Edit, Problem> {
        let name = self.name.map(|name| name.trim().to_owned());
        if name.as_ref().is_some_and(String::is_empty) {
            return Err(Problem::bad("A playlist needs a name."));
        }
        let songs = self.song_ids.map(|ids| ids.iter().map(|id| song_index(id)).collect()).transpose()?;
        Ok(Edit { name, comment: self.comment, songs, ..Edit::default() })
    }
}

/// Makes a playlist.
#[utoipa::path(post, path = "/api/v1/playlists", tag = "listener", request_body = ListSaid, responses((status = 201, description = "The playlist"), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn create(
    State(app): Shared,
    Sent(said): Sent<ListSaid>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let edit = said.edit()?;
    let name = edit.name.ok_or_else(|| Problem::bad("A playlist needs a name."))?;
    let (listener, random) = (app.listener.clone(), random()?);
    let made = blocking(move || {
        let songs = edit.songs.unwrap_or_default();
        let id = listener.create_playlist(&name, &songs, random, clock::now_ms())?;
        if edit.comment.is_some() {
            listener.edit_playlist(
                id,
                &Edit { comment: edit.comment, ..Edit::default() },
                clock::now_ms(),
            )?;
        }
        Ok(id)
    });
    let id = made.await?;
    Ok((StatusCode::CREATED, shown(&app, id).await?))
}

/// Changes a playlist.
#[utoipa::path(post, path = "/api/v1/playlists/{id}", tag = "listener", params(("id" = String, Path, description = "Id of the playlist")), request_body = ListSaid, responses((status = 200, description = "The playlist as it is now"), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn edit(State(app): Shared, Named(id): Named<String>, Sent(said): Sent<ListSaid>) -> Answer {
    let (id, edit) = (list_id(&id)?, said.edit()?);
    let listener = app.listener.clone();
    blocking(move || Ok(listener.edit_playlist(id, &edit, clock::now_ms())?)).await?;
    shown(&app, id).await
}

/// Deletes a playlist; its songs stay where they are.
#[utoipa::path(delete, path = "/api/v1/playlists/{id}", tag = "listener", params(("id" = String, Path, description = "Id of the playlist")), responses((status = 200, description = "Those that are left"), (status = 404, body = Problem)))]
pub(super) async fn delete(State(app): Shared, Named(id): Named<String>) -> Answer {
    let (listener, id) = (app.listener.clone(), list_id(&id)?);
    if !blocking(move || Ok(listener.delete_playlist(id)?)).await? {
        return Err(Problem::not_found("There is no such playlist."));
    }
    playlists(State(app)).await
}
