//! `/api/v1`: everything that the player and the explorer can do, for programs. Answers are JSON, errors are RFC 9457
//! problem documents, lists come in pages with a cursor, and `openapi.json` describes all of it.

pub(in crate::http) mod catalogue;
mod downloads;
pub(in crate::http) mod events;
pub(in crate::http) mod extract;
pub(in crate::http) mod ledger;
pub(in crate::http) mod library;
pub(in crate::http) mod marks;
mod openapi;
pub(in crate::http) mod player;
pub(in crate::http) mod settings;
mod wallet;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{delete, get, post},
};
use serde_json::Value;
use tower_http::timeout::TimeoutLayer;

use super::{App, app::ANSWER_WITHIN, problem::Problem};
use crate::ops::{self, Request};

/// What is shared, as handlers take it.
type Shared = State<Arc<App>>;
/// What most handlers give.
pub(in crate::http) type Answer = Result<Json<Value>, Problem>;

/// Asks the peer what a command would ask.
pub(in crate::http) async fn ask(app: &App, request: Request) -> Answer {
    let (music, _) = tokio::sync::mpsc::channel(1);
    let done = ops::execute(&app.peer, request, Some(&app.running), &|_| {}, music).await?;
    Ok(Json(done))
}

/// Waits for the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Result<T, Problem> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(anyhow::Error::from)??)
}

/// All routes.
pub(super) fn router(app: Arc<App>) -> Router {
    let quick = Router::new()
        .route("/albums", get(catalogue::albums))
        .route("/albums/{album}", get(catalogue::one_album))
        .route("/artists", get(catalogue::artists))
        .route("/artists/{artist}", get(catalogue::one_artist))
        .route("/genres", get(catalogue::genres))
        .route("/songs", get(catalogue::songs))
        .route("/songs/{song}", get(catalogue::one_song))
        .route("/search", get(catalogue::search))
        .route("/downloads", get(downloads::list).post(downloads::keep))
        .route("/downloads/{id}", delete(downloads::cancel))
        .route("/status", get(status))
        .route("/peers", get(peers))
        .route("/ledger", get(ledger::info))
        .route("/ledger/blocks", get(ledger::blocks))
        .route("/ledger/blocks/{which}", get(ledger::block))
        .route("/ledger/blocks/{which}/proof", get(ledger::proof))
        .route("/ledger/songs/{which}", get(ledger::song))
        .route("/ledger/accounts/{key}", get(ledger::account))
        .route("/ledger/accounts/{key}/history", get(ledger::account_history))
        .route("/ledger/accounts/{key}/songs", get(ledger::account_songs))
        .route("/ledger/artists/{name}", get(ledger::artist))
        .route("/ledger/epochs", get(ledger::epochs))
        .route("/ledger/chart", get(ledger::chart))
        .route("/ledger/council", get(ledger::council))
        .route("/ledger/economy", get(ledger::economy))
        .route("/library", get(library::library))
        .route("/library/folders", post(library::add).delete(library::remove))
        .route("/library/scan", post(library::scan))
        .route("/player", get(player::now))
        .route("/player/position", post(player::position))
        .route("/player/stop", post(player::stop))
        .route("/plays", get(marks::plays))
        .route("/playlists", get(marks::playlists).post(marks::create))
        .route("/playlists/{id}", get(marks::playlist).post(marks::edit).delete(marks::delete))
        .route("/ratings", post(marks::rate))
        .route("/settings", get(settings::all).post(settings::change))
        .route("/settings/apps", post(settings::add_app))
        .route("/settings/apps/{id}", delete(settings::revoke_app))
        .route("/settings/password", post(settings::password))
        .route("/starred", get(marks::starred).post(marks::star))
        .route("/wallet", get(wallet::balance))
        .route("/wallet/history", get(wallet::history))
        .route("/wallet/send", post(wallet::send))
        .route("/wallet/buy", post(wallet::buy))
        .route("/openapi.json", get(openapi::document))
        .fallback(async || Problem::not_found("the API has no such path; see /api/v1/openapi.json"))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, ANSWER_WITHIN));
    Router::new()
        .route("/songs/{song}/stream", get(player::stream))
        .route("/events", get(events::events))
        .merge(quick)
        .with_state(app)
}

/// How the peer is doing.
#[utoipa::path(get, path = "/api/v1/status", tag = "peer", responses((status = 200, description = "As `antiphon status --json`")))]
async fn status(State(app): Shared) -> Answer {
    ask(&app, Request::Status).await
}

/// Who is connected, directly or through a relay, and how this peer is reached.
#[utoipa::path(get, path = "/api/v1/peers", tag = "peer", responses((status = 200, description = "As `antiphon peers --json`")))]
async fn peers(State(app): Shared) -> Answer {
    ask(&app, Request::Peers).await
}
