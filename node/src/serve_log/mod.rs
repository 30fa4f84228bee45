//! The ledger as static files over HTTP, laid out as C2SP `tlog-tiles` and as a dump on disk: whoever can fetch files
//! can verify everything. It can stand behind any reverse proxy or cache, and says how long each answer holds.
//!
//! A listener of its own, apart from `--http`: what is served here is public. Connections, their duration, the time to
//! send a request, and the bytes that wait to be sent are bounded; nothing but GET and HEAD is answered.

mod answer;
mod files;
mod held;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use antiphon_ledger::Ledger;
use anyhow::Context;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

use self::held::Held;

/// Connections at the same time. Others wait to be accepted.
const CONNECTIONS: usize = 128;
/// A client sends the head of a request within this time, the first one and each that follows.
const HEAD_WITHIN: Duration = Duration::from_secs(15);
/// A head is this long at most.
const HEAD_BYTES: usize = 16 * 1024;
/// After this time a connection takes no more requests, so that nobody keeps a place for ever.
const CONNECTION_LASTS: Duration = Duration::from_secs(300);
/// And after as much again it is cut.
const LAST_ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Answers that are read from the disk at the same time.
const READERS: usize = 4;
/// Kilobytes of answers that wait for slow clients, all together: some 40 bundles of songs.
const WAITING_KB: u32 = 32 * 1024;

/// What all connections share.
#[derive(Clone)]
struct Shared {
    ledger: Ledger,
    readers: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// Listens.
///
/// # Errors
/// When the address cannot be used.
pub async fn bind(addr: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).await.with_context(|| format!("cannot serve the log on {addr} (--serve-log)"))
}

/// Serves until dropped.
pub async fn serve(listener: TcpListener, ledger: Ledger) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let shared = Shared {
        ledger,
        readers: Arc::new(Semaphore::new(READERS)),
        waiting: Arc::new(Semaphore::new(WAITING_KB as usize)),
    };
    // Ends with this task.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = shared.clone();
                connections.spawn(async move {
                    connection(stream, shared).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the log's HTTP server");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, shared: Shared) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request: Request<Incoming>| {
        let shared = shared.clone();
        async move { Ok::<Response<Held>, Infallible>(answer::answer(&request, &shared).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = sleep(CONNECTION_LASTS) => {
            connection.as_mut().graceful_shutdown();
            match timeout(LAST_ANSWER_WITHIN, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client of the log went away");
    }
}
