//! Searching and discovering, for commands and others that ask a peer.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    failure::{Failure, Kind},
    ops::{Running, Tell, with_progress},
    peer::Peer,
    search::{Discovered, Filter, Hits, Index, Page, Scope, SearchError},
};

/// How long a question waits for blocks that came just now to be indexed.
const FRESH_WITHIN: Duration = Duration::from_secs(2);

/// What to search.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SearchRequest {
    /// Words of title, artist, album and genre.
    pub words: String,
    /// Only what somebody online serves.
    #[serde(default)]
    pub online: bool,
    /// Which part of it.
    #[serde(flatten)]
    pub page: Page,
}

/// What to discover.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DiscoverRequest {
    /// Only this.
    #[serde(flatten)]
    pub filter: Filter,
    /// What is listed; nothing: what goes with the filter.
    #[serde(default)]
    pub scope: Option<Scope>,
    /// Which part of each list.
    #[serde(flatten)]
    pub page: Page,
}

impl DiscoverRequest {
    /// What is listed: what a person who has chosen so far would choose from next.
    fn scopes(&self) -> Vec<Scope> {
        match (self.scope, &self.filter) {
            (Some(scope), _) => vec![scope],
            (None, Filter { album: Some(_), .. }) => vec![Scope::Counts, Scope::Tracks],
            (None, Filter { artist: Some(_), .. }) => vec![Scope::Counts, Scope::Albums, Scope::Tracks],
            (None, Filter { genre: Some(_), .. }) => vec![Scope::Counts, Scope::Artists, Scope::Albums],
            (None, _) => vec![Scope::Counts, Scope::Artists],
        }
    }
}

/// Why a question about what is online has no answer where no peer is running.
#[must_use]
pub fn nobody_known() -> Failure {
    Failure::new(
        Kind::NoDaemon,
        "no peer is running here, so nothing is known to be online; start one with `antiphon up`",
    )
}

/// Finds songs.
///
/// # Errors
/// [`Kind::NoDaemon`] when only what is online is wanted and no peer is running; when index or ledger cannot be read.
pub async fn search(
    peer: &Peer,
    request: SearchRequest,
    running: Option<&Running>,
    tell: Tell<'_>,
) -> anyhow::Result<Value> {
    if request.online && running.is_none() {
        return Err(nobody_known().into());
    }
    catch_up(peer, running, tell).await?;
    // Only a peer that runs knows who is online.
    let sources = running.map(|_| peer.sources.clone());
    let hits: Hits = ask(peer, move |index| {
        let only = sources.as_deref().filter(|_| request.online);
        let mut hits = index.search(&request.words, request.page, only)?;
        if let Some(sources) = &sources {
            index.count_sources(&mut hits, &**sources)?;
        }
        Ok(hits)
    })
    .await?;
    Ok(serde_json::to_value(hits)?)
}

/// Lists what is online.
///
/// # Errors
/// [`Kind::NoDaemon`] when no peer is running; when index or ledger cannot be read.
pub async fn discover(
    peer: &Peer,
    request: DiscoverRequest,
    running: Option<&Running>,
) -> anyhow::Result<Value> {
    if running.is_none() {
        return Err(nobody_known().into());
    }
    peer.search.caught_up(FRESH_WITHIN).await;
    let sources = peer.sources.clone();
    let discovered = ask(peer, move |index| {
        let mut all = Discovered::default();
        for scope in request.scopes() {
            all.add(index.discover(scope, &request.filter, &*sources, request.page)?);
        }
        Ok(all)
    })
    .await?;
    Ok(serde_json::to_value(discovered)?)
}

/// Brings the index up to the ledger: the running peer's by itself, another here and now.
async fn catch_up(peer: &Peer, running: Option<&Running>, tell: Tell<'_>) -> anyhow::Result<()> {
    if running.is_some() {
        // What is missing then is told in the answer.
        peer.search.caught_up(FRESH_WITHIN).await;
        return Ok(());
    }
    let (index, cancel, total) = (peer.search.clone(), peer.cancel.clone(), peer.ledger.size());
    let (send, receive) = watch::channel(json!(null));
    let work = async {
        let updated = tokio::task::spawn_blocking(move || {
            let tell = |done: u64| drop(send.send_replace(json!({ "done": done, "total": total })));
            index.update(&|| cancel.is_cancelled(), &tell)
        });
        anyhow::Ok(updated.await??)
    };
    with_progress(work, receive, tell).await.map(|_| ())
}

/// Asks off the event loop; once more when the index turned out to be damaged, after it was mended.
async fn ask<T: Send + 'static>(
    peer: &Peer,
    question: impl Fn(&Index) -> Result<T, SearchError> + Send + Sync + 'static,
) -> anyhow::Result<T> {
    let (index, cancel, question) = (peer.search.clone(), peer.cancel.clone(), Arc::new(question));
    let answered = tokio::task::spawn_blocking(move || match question(&index) {
        Err(SearchError::Damaged | SearchError::Engine(_) | SearchError::File(_)) => {
            index.update(&|| cancel.is_cancelled(), &|_| {})?;
            question(&index)
        }
        answered => answered,
    });
    Ok(answered.await??)
}
