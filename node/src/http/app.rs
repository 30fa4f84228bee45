//! What all requests share, and which of them goes where.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::DefaultBodyLimit, middleware};
use tokio::sync::Semaphore;
use tower_http::compression::{
    CompressionLayer,
    predicate::{NotForContentType, Predicate, SizeAbove},
};

use super::{
    api,
    guard::{self, Guard},
    operators,
    own::{Heard, Web},
    pages, subsonic,
    transcode::Transcoder,
};
use crate::{
    config,
    explorer::{self, Explorer},
    keep::Downloads,
    listener::Listener,
    ops::Running,
    peer::Peer,
    stream::{Streams, plays::Plays},
};

/// Body of a request at most: long lists of songs.
const BODY_BYTES: usize = 1024 * 1024;
/// Answers shorter than this are not worth compressing.
const COMPRESSED_FROM: u64 = 1_024;
/// Pages and lists take milliseconds; what takes longer than this is stuck. Songs are sent for as long as it takes.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// What all requests share.
pub struct App {
    /// The peer.
    pub peer: Arc<Peer>,
    /// What the listener said and did.
    pub listener: Listener,
    /// What explorers ask of the ledger.
    pub explorer: Arc<Explorer>,
    /// Songs that are open.
    pub streams: Streams,
    /// What is heard here.
    pub plays: Plays,
    /// Songs that are to be kept.
    pub downloads: Downloads,
    /// Other encodings.
    pub transcoder: Transcoder,
    /// Who is answered.
    pub guard: Arc<Guard>,
    /// What only a running peer knows.
    pub running: Running,
    /// Places of those who listen for changes.
    pub(super) listening: Arc<Semaphore>,
}

impl App {
    /// For requests to this peer. `exposed`: others than this machine can reach the server.
    ///
    /// # Errors
    /// When what the listener said and did cannot be opened.
    pub async fn new(
        peer: Arc<Peer>,
        settings: config::Http,
        exposed: bool,
        running: Running,
    ) -> anyhow::Result<Arc<Self>> {
        let asked = peer.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let explorer = asked.explorer()?.clone();
            let (listener, kept) = (asked.listener()?.clone(), asked.settings.kept.clone());
            let kept = kept.unwrap_or_else(|| asked.data.kept());
            let downloads = Downloads::open(&asked, listener.clone(), kept)?;
            anyhow::Ok((listener, explorer, downloads))
        });
        let (listener, explorer, downloads) = opened.await??;
        let (ledger, cancel) = (peer.ledger.clone(), peer.cancel.clone());
        peer.spawn(explorer::follow(explorer.clone(), ledger.clone(), ledger.watch(), cancel));
        let streams = Streams::new(&peer);
        let plays = Plays::new(&peer, streams.clone(), Arc::new(Heard(listener.clone())));
        downloads.start(&peer);
        let logins = Arc::new(Web(listener.clone()));
        let guard = Arc::new(Guard::new(settings.names, exposed, settings.tls, logins));
        let transcoder = Transcoder::new(peer.settings.ffmpeg.clone());
        Ok(Arc::new(Self {
            peer,
            listener,
            explorer,
            streams,
            plays,
            downloads,
            transcoder,
            guard,
            running,
            listening: api::events::places(),
        }))
    }

    /// Every route.
    pub fn router(self: &Arc<Self>) -> Router {
        // Audio does not get smaller, and events must not wait.
        let worth = SizeAbove::new(COMPRESSED_FROM)
            .and(NotForContentType::const_new("audio/"))
            .and(NotForContentType::const_new("image/"))
            .and(NotForContentType::const_new("application/octet-stream"))
            .and(NotForContentType::const_new("text/event-stream"));
        operators::router(self.peer.clone())
            .merge(pages::router(self.clone()))
            .nest("/api/v1", api::router(self.clone()))
            .merge(subsonic::answer::router(self.clone()))
            .layer(CompressionLayer::new().compress_when(worth))
            .layer(DefaultBodyLimit::max(BODY_BYTES))
            .layer(middleware::from_fn_with_state(self.guard.clone(), guard::watch))
    }
}
