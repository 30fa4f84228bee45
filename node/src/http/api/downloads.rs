//! Songs that are kept.

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Shared,
    extract::{Named, Sent},
    player::song_index,
};
use crate::{http::problem::Problem, keep::Download, music::id::Id};

fn shown(download: &Download) -> Value {
    let mut shown = serde_json::to_value(download).unwrap_or_default();
    shown["song"] = json!(Id::Song(download.song).to_string());
    shown
}

/// Songs that wait, come, or have come lately.
#[utoipa::path(get, path = "/api/v1/downloads", tag = "library", responses((status = 200, description = "Downloads, the newest first")))]
pub(super) async fn list(State(app): Shared) -> Answer {
    let all: Vec<Value> = app.downloads.list().iter().map(shown).collect();
    Ok(Json(json!({ "downloads": all })))
}

/// Songs to be kept.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct Wanted {
    /// Ids of songs.
    songs: Vec<String>,
}

/// Keeps songs: gets them from others, and serves them on.
#[utoipa::path(post, path = "/api/v1/downloads", tag = "library", request_body = Wanted, responses((status = 202, description = "They wait"), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn keep(
    State(app): Shared,
    Sent(wanted): Sent<Wanted>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let songs: Vec<u64> = wanted.songs.iter().map(|id| song_index(id)).collect::<Result<_, _>>()?;
    let taken: Vec<Value> = app.downloads.keep(songs).await?.iter().map(shown).collect();
    Ok((StatusCode::ACCEPTED, Json(json!({ "downloads": taken }))))
}

/// Ends a download, or forgets one that has ended.
#[utoipa::path(delete, path = "/api/v1/downloads/{id}", tag = "library", params(("id" = u64, Path, description = "Number of the download")), responses((status = 200, description = "What is left"), (status = 404, body = Problem)))]
pub(super) async fn cancel(State(app): Shared, Named(id): Named<u64>) -> Answer {
    if !app.downloads.cancel(id).await? {
        return Err(Problem::not_found(format!("there is no download {id}")));
    }
    list(State(app)).await
}
