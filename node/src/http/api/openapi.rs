//! What the API can do, as OpenAPI.

use axum::Json;
use utoipa::OpenApi;

use super::{catalogue, downloads, events, ledger, library, marks, player, settings, wallet};
use crate::http::problem::Problem;

/// The API of a peer.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Antiphon",
        description = "A peer's API. On the peer's own machine no login is needed; from elsewhere, log in with the web \
                       password (POST /login) and send the cookie. What changes anything is refused to pages of other sites.",
    ),
    paths(
        super::status, super::peers, events::events,
        ledger::info, ledger::blocks, ledger::block, ledger::proof, ledger::song, ledger::account,
        ledger::account_history, ledger::account_songs, ledger::artist, ledger::epochs, ledger::chart, ledger::council,
        ledger::economy,
        catalogue::albums, catalogue::one_album, catalogue::artists, catalogue::one_artist, catalogue::genres,
        catalogue::songs, catalogue::one_song, catalogue::search,
        downloads::list, downloads::keep, downloads::cancel,
        library::library, library::add, library::remove, library::scan,
        player::stream, player::now, player::position, player::stop,
        marks::starred, marks::star, marks::rate, marks::plays, marks::playlists, marks::playlist, marks::create, marks::edit,
        marks::delete, settings::all, settings::change, settings::password, settings::add_app, settings::revoke_app,
        wallet::balance, wallet::history, wallet::send, wallet::buy,
    ),
    components(schemas(Problem)),
    tags(
        (name = "music", description = "What there is to hear"),
        (name = "library", description = "The own music"), (name = "player", description = "What is heard here"),
        (name = "wallet", description = "The own account"), (name = "ledger", description = "What all peers agree on"),
        (name = "listener", description = "Stars, ratings, playlists"), (name = "settings", description = "Looks and passwords"),
        (name = "peer", description = "The peer and its network"),
    )
)]
pub(super) struct Document;

/// This document.
pub(super) async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every route of the router stands in the document: a path that is added is described.
    #[test]
    fn every_route_is_described() {
        let routes = include_str!("mod.rs");
        let document = Document::openapi();
        let mut found = 0;
        for line in routes.lines().filter_map(|line| line.trim().strip_prefix(".route(\"")) {
            let path = line.split('"').next().unwrap();
            if path != "/openapi.json" {
                let whole = format!("/api/v1{path}");
                assert!(document.paths.paths.contains_key(&whole), "{whole} is not in the document");
                found += 1;
            }
        }
        assert_eq!(document.paths.paths.len(), found);
    }
}
