//! HTTP: the player and the explorer for browsers, an API for programs, OpenSubsonic for the apps that people have, and
//! numbers for operators.
//!
//! [`server`] owns the connections, [`guard`] decides who is answered, and [`audio`] sends songs. Everything else makes
//! answers of what [`crate::music`], [`crate::stream`] and the ledger know.

pub(crate) mod api;
mod app;
pub mod audio;
pub mod guard;
mod operators;
pub mod problem;
pub mod range;
mod server;
pub mod subsonic;
mod transcode;

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::app::App;
use crate::{config, ops::Running, peer::Peer};

/// Address that is tried when none was asked for.
pub const DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7_711);

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

/// Serves until `stop`, and for a moment after it what is on its way.
///
/// # Errors
/// When what the listener has said and done cannot be opened.
pub async fn serve(
    listener: TcpListener,
    peer: Arc<Peer>,
    settings: config::Http,
    running: Running,
    stop: CancellationToken,
) {
    let exposed = listener.local_addr().is_ok_and(|addr| !addr.ip().is_loopback());
    let router = App::new(peer, settings, exposed, running).router();
    server::serve(listener, router, stop).await;
}
