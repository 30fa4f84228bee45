//! What changes, as server-sent events: pages and programs need not ask again and again.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    response::{
        IntoResponse, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures::Stream;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{Shared, library, player};
use crate::http::{App, problem::Problem};

/// Listeners at the same time: a page has one.
pub(in crate::http) const LISTENERS: usize = 64;
/// What does not tell by itself is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Changes as they come: `online`, `library`, `scan`, `ledger`, `downloads`, `player`. The first of each comes at once.
#[utoipa::path(get, path = "/api/v1/events", tag = "peer", responses((status = 200, description = "Server-sent events: `online`, `library`, `scan`, `ledger`, `downloads`, `player`, each with JSON"), (status = 503, body = Problem)))]
pub(super) async fn events(State(app): Shared) -> Result<impl IntoResponse, Problem> {
    let Ok(place) = app.listening.clone().try_acquire_owned() else {
        let message = format!("{LISTENERS} pages listen for changes already; close some of them");
        return Err(Problem::new(axum::http::StatusCode::SERVICE_UNAVAILABLE, message));
    };
    let changes = Changes { app, told: [const { Value::Null }; NAMES.len()], at: 0, _place: place };
    Ok(Sse::new(stream(changes)).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

/// A place among the listeners.
pub(in crate::http) fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(LISTENERS))
}

/// Events by name.
const NAMES: [&str; 6] = ["online", "library", "scan", "ledger", "downloads", "player"];

/// What one listener was told.
struct Changes {
    app: Arc<App>,
    told: [Value; NAMES.len()],
    at: usize,
    _place: tokio::sync::OwnedSemaphorePermit,
}

impl Changes {
    fn look(&self, name: &str) -> Value {
        let app = &self.app;
        match name {
            "online" => {
                let online = app.peer.network.as_ref().map(antiphon_p2p::Network::online).unwrap_or_default();
                let version = app.peer.music.changes().borrow().online;
                json!({ "version": version, "peers": online.peers(), "files": online.indexes().count() })
            }
            "library" => json!({ "version": app.peer.music.changes().borrow().own }),
            "scan" => library::scanning(app),
            "ledger" => json!({ "size": app.peer.ledger.size(), "height": app.peer.ledger.height() }),
            "downloads" => {
                let version = *app.downloads.changes().borrow();
                json!({ "version": version, "counts": app.downloads.counts() })
            }
            _ => {
                let mut playing = player::playing(app);
                // A position moves all the time; pages know their own.
                for one in playing["playing"].as_array_mut().into_iter().flatten() {
                    if let Some(fields) = one.as_object_mut() {
                        fields.remove("position_ms");
                    }
                }
                playing
            }
        }
    }
}

fn stream(changes: Changes) -> impl Stream<Item = Result<Event, Infallible>> {
    futures::stream::unfold(changes, async |mut changes| {
        let (mut music, mut plays) = (changes.app.peer.music.changes(), changes.app.plays.changes());
        music.mark_unchanged();
        plays.mark_unchanged();
        loop {
            while let Some(name) = NAMES.get(changes.at) {
                let now = changes.look(name);
                let at = changes.at;
                changes.at += 1;
                let told = changes.told.get_mut(at)?;
                if *told != now {
                    let event = Event::default().event(*name).data(now.to_string());
                    *told = now;
                    return Some((Ok(event), changes));
                }
            }
            changes.at = 0;
            let stop = changes.app.peer.cancel.clone();
            tokio::select! {
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(LOOK_EVERY) => {}
                Ok(()) = music.changed() => {}
                Ok(()) = plays.changed() => {}
            }
        }
    })
}
