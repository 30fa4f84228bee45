//! Pages for operators: `/healthz`, `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::{encoding::text::encode, metrics::gauge::Gauge, registry::Registry};

use crate::peer::Peer;

struct Pages {
    peer: Arc<Peer>,
    own: Registry,
    numbers: Numbers,
}

/// What is looked up when it is asked for.
struct Numbers {
    ledger_blocks: Gauge,
    ledger_height: Gauge,
    ledger_time: Gauge,
    library_songs: Gauge,
    library_pending: Gauge,
    supply: Gauge,
    minted: Gauge,
    burned: Gauge,
    epoch: Gauge,
    receipts_waiting: Gauge,
}

impl Numbers {
    fn new(registry: &mut Registry) -> Self {
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        Self {
            ledger_blocks: gauge("ledger_blocks", "Blocks of the ledger"),
            ledger_height: gauge("ledger_height", "Height of the newest batch of the ledger"),
            ledger_time: gauge(
                "ledger_last_batch_timestamp_seconds",
                "Time of the newest batch of the ledger, in seconds since 1970",
            ),
            library_songs: gauge("library_songs", "Files of the library that are in the ledger"),
            library_pending: gauge("library_pending", "Registrations that wait for an answer"),
            supply: gauge("token_supply_units", "Units that exist, 100,000,000 a token"),
            minted: gauge("token_minted_units", "Units that plays have minted"),
            burned: gauge("token_burned_units", "Units that plays have burned"),
            epoch: gauge("settlement_epoch", "Number of the last settlement"),
            receipts_waiting: gauge(
                "receipts_outbox",
                "Receipts of plays at this peer that no settlement has paid yet",
            ),
        }
    }

    async fn look(&self, peer: &Peer) {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let (ledger, library) = (peer.ledger.clone(), peer.library.clone());
        let info = tokio::task::spawn_blocking(move || (ledger.info(), library.counts())).await;
        if let Ok((info, counts)) = info {
            self.ledger_blocks.set(number(info.size));
            self.ledger_height.set(number(info.height));
            self.ledger_time.set(number(info.time_ms / 1_000));
            if let Ok(counts) = counts {
                self.library_songs.set(number(counts.known));
                self.library_pending.set(number(counts.pending));
            }
        }
        let tokens = peer.ledger.tokens();
        self.supply.set(number(tokens.supply()));
        self.minted.set(number(tokens.totals.minted));
        self.burned.set(number(tokens.totals.burned));
        self.epoch.set(number(tokens.totals.epoch));
        if let Some(royalties) = &peer.royalties {
            self.receipts_waiting.set(number(royalties.outbox.len() as u64));
        }
    }
}

/// The pages.
pub(super) fn router(peer: Arc<Peer>) -> Router {
    let mut own = Registry::with_prefix("antiphon");
    let numbers = Numbers::new(&mut own);
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(Pages { peer, own, numbers }))
}

/// Whether this peer is of use to others: it has the network, and its ledger is not far behind.
async fn ready(State(pages): State<Arc<Pages>>) -> impl IntoResponse {
    let peer = &pages.peer;
    if peer.orders_here() {
        return (StatusCode::OK, "ready\n");
    }
    if peer.upstream.borrow().is_none() {
        return (StatusCode::SERVICE_UNAVAILABLE, "no peer of the network is followed\n");
    }
    if peer.following.borrow().catching_up.is_some() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the ledger is catching up\n");
    }
    (StatusCode::OK, "ready\n")
}

async fn metrics(State(pages): State<Arc<Pages>>) -> impl IntoResponse {
    pages.numbers.look(&pages.peer).await;
    let (mut own, mut network) = (String::new(), String::new());
    let encoded = encode(&mut own, &pages.own).and_then(|()| encode(&mut network, &pages.peer.registry));
    if encoded.is_err() {
        return (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], String::new());
    }
    // Each part ends with the same last line; a page has it once.
    let text = own.trim_end().strip_suffix("# EOF").unwrap_or(&own).to_owned() + &network;
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (StatusCode::OK, [(header::CONTENT_TYPE, TYPE)], text)
}
