//! Pages for operators: `/healthz`, `/readyz` and `/metrics`.

pub mod subsonic;

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::{encoding::text::encode, metrics::gauge::Gauge, registry::Registry};
use tokio::net::TcpListener;

use crate::peer::Peer;

/// Address that is tried when none was asked for.
pub const DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7_711);

struct Pages {
    peer: Arc<Peer>,
    own: Registry,
    ledger_blocks: Gauge,
    library_songs: Gauge,
    library_pending: Gauge,
}

/// Listens on `wanted`; on the usual port, or any when it is taken, when nothing was asked for.
///
/// # Errors
/// When the address that was asked for cannot be used.
pub async fn bind(wanted: Option<SocketAddr>) -> anyhow::Result<TcpListener> {
    match wanted {
        Some(addr) => {
            TcpListener::bind(addr).await.with_context(|| format!("cannot serve HTTP on {addr} (--http)"))
        }
        None => match TcpListener::bind(DEFAULT).await {
            Ok(listener) => Ok(listener),
            Err(_) => Ok(TcpListener::bind(SocketAddr::new(DEFAULT.ip(), 0)).await?),
        },
    }
}

/// Serves until dropped.
pub async fn serve(listener: TcpListener, peer: Arc<Peer>) {
    let mut own = Registry::with_prefix("antiphon");
    let gauge = |registry: &mut Registry, name: &str, help: &str| {
        let gauge = Gauge::default();
        registry.register(name, help, gauge.clone());
        gauge
    };
    let pages = Pages {
        ledger_blocks: gauge(&mut own, "ledger_blocks", "Blocks of the ledger"),
        library_songs: gauge(&mut own, "library_songs", "Files of the library that are in the ledger"),
        library_pending: gauge(&mut own, "library_pending", "Registrations that wait for an answer"),
        own,
        peer,
    };
    let app = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(pages));
    if let Err(error) = axum::serve(listener, app).await {
        tracing::error!(%error, "the HTTP server ended");
    }
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
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    pages.ledger_blocks.set(number(pages.peer.ledger.size()));
    let library = pages.peer.library.clone();
    if let Ok(Ok(counts)) = tokio::task::spawn_blocking(move || library.counts()).await {
        pages.library_songs.set(number(counts.known));
        pages.library_pending.set(number(counts.pending));
    }
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
