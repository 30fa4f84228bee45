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
mod own;
mod pages;
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
pub async fn serve(listener: TcpListener, app: Arc<App>, stop: CancellationToken) {
    server::serve(listener, app.router(), stop).await;
}
