//! What is heard here: songs as bytes, and where players are in them.

use std::time::Duration;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, Method, Response, header},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    Answer, Shared,
    extract::{Asked, Named, Sent},
};
use crate::{
    http::{App, audio, problem::Problem, transcode::Format},
    music::id::Id,
    peer::select,
    stream::plays::{Rate, Said},
};

/// A page says where it is each second; when it says nothing for so long it is gone.
const LASTS: Duration = Duration::from_secs(5);

/// How a song is sent.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
pub(super) struct StreamQuery {
    /// Another encoding, made by ffmpeg: `mp3`, `opus` or `aac`. Nothing: the original bytes, with ranges.
    format: Option<String>,
    /// Thousand bits a second of the other encoding, 32 to 320.
    #[param(minimum = 32, maximum = 320)]
    kbits: Option<u32>,
    /// Where the other encoding begins, seconds.
    offset: u32,
    /// Whether a browser should store it.
    download: bool,
}

/// The ledger index of a song by its id.
pub(in crate::http) fn song_index(id: &str) -> Result<u64, Problem> {
    match id.parse() {
        Ok(Id::Song(index)) => Ok(index),
        _ => Err(Problem::not_found(format!(
            "{:?} is not the id of a song",
            id.chars().take(80).collect::<String>()
        ))),
    }
}

/// A song's bytes. Ranges, `If-Range` and `HEAD` work while it still comes from others.
#[utoipa::path(get, path = "/api/v1/songs/{song}/stream", tag = "player", params(("song" = String, Path, description = "Id of the song"), StreamQuery), responses((status = 200, description = "All of it"), (status = 206, description = "A part of it"), (status = 403, body = Problem), (status = 404, body = Problem), (status = 416), (status = 503, body = Problem)))]
pub(super) async fn stream(
    State(app): Shared,
    method: Method,
    Named(song): Named<String>,
    Asked(query): Asked<StreamQuery>,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let opened = app.streams.open(song_index(&song)?).await?;
    if let Some(name) = &query.format {
        let format = Format::of(name)
            .ok_or_else(|| Problem::bad(format!("no encoding {name:?} is made here: mp3, opus or aac")))?;
        let kbits = query.kbits.unwrap_or(192);
        if !(32..=320).contains(&kbits) {
            return Err(Problem::bad(format!("kbits is {kbits}; it goes from 32 to 320")));
        }
        let body = app.transcoder.encode(&opened, format, kbits, query.offset).await?;
        let response = Response::builder()
            .header(header::CONTENT_TYPE, audio::media_type(format.extension()))
            .header(header::CACHE_CONTROL, "no-store");
        return response.body(body).map_err(|error| anyhow::Error::from(error).into());
    }
    let name = query
        .download
        .then(|| format!("{}.{}", select::name(&opened.song.artist, &opened.song.title), opened.extension));
    audio::original(&opened, &headers, method == Method::HEAD, name.as_deref()).await
}

/// What is playing.
#[utoipa::path(get, path = "/api/v1/player", tag = "player", responses((status = 200, description = "What is playing, the newest first")))]
pub(super) async fn now(State(app): Shared) -> Answer {
    Ok(Json(playing(&app)))
}

/// What is playing, as it is told.
pub(in crate::http) fn playing(app: &App) -> serde_json::Value {
    json!({ "playing": app.plays.now() })
}

/// Where a player is.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct PositionSaid {
    /// A name that the player gives itself, and keeps.
    player: String,
    /// Id of the song.
    song: String,
    /// Milliseconds from its start.
    position_ms: u32,
    /// Whether it can be heard.
    playing: bool,
}

/// A player says where it is: at each change, and each second while it plays.
#[utoipa::path(post, path = "/api/v1/player/position", tag = "player", request_body = PositionSaid, responses((status = 200, description = "What is playing"), (status = 404, body = Problem)))]
pub(super) async fn position(State(app): Shared, Sent(said): Sent<PositionSaid>) -> Answer {
    let song = song_index(&said.song)?;
    let (position_ms, playing) = (said.position_ms, said.playing);
    app.plays
        .say(&web(&said.player), Said { song, position_ms, playing, rate: Rate::NORMAL, lasts: LASTS })
        .await?;
    now(State(app)).await
}

/// A player that has stopped.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct Stopped {
    /// The name that it has given itself.
    player: String,
}

/// A player has stopped: what was heard until then counts.
#[utoipa::path(post, path = "/api/v1/player/stop", tag = "player", request_body = Stopped, responses((status = 200, description = "What is playing")))]
pub(super) async fn stop(State(app): Shared, Sent(stopped): Sent<Stopped>) -> Answer {
    app.plays.stop(&web(&stopped.player));
    Ok(Json(playing(&app)))
}

/// Names of pages and of apps never meet.
fn web(player: &str) -> String {
    format!("web {player}")
}
