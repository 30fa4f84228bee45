//! The running peer's side of the control socket.

use std::{fs, io, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};

use super::{Call, Line, REQUEST_BYTES, SCHEMA};
use crate::{
    failure::{Failure, Kind},
    ops::{self, Running},
    peer::Peer,
};

/// Commands at the same time.
const CLIENTS: usize = 32;
/// A client that connects writes its line at once.
const CALL_WITHIN: Duration = Duration::from_secs(10);
/// Progress lines that a slow client is behind before it misses some.
const LINES_AHEAD: usize = 16;

/// The socket, removed when dropped.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens. The caller holds the data directory's lock, so a socket that is there is a leftover.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn bind(path: PathBuf) -> io::Result<Self> {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Serves until dropped.
    pub async fn serve(self, peer: Arc<Peer>, running: Running) {
        let places = Arc::new(Semaphore::new(CLIENTS));
        let running = Arc::new(running);
        // Ends the clients' tasks with this one.
        let mut clients = tokio::task::JoinSet::new();
        loop {
            while clients.try_join_next().is_some() {}
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (peer, running) = (peer.clone(), running.clone());
                    clients.spawn(async move {
                        if let Err(error) = answer(stream, &peer, &running).await {
                            tracing::debug!(%error, "a command went away");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the control socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

async fn answer(stream: UnixStream, peer: &Peer, running: &Running) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    let mut limited = (&mut read).take(REQUEST_BYTES as u64);
    timeout(CALL_WITHIN, limited.read_until(b'\n', &mut line)).await??;
    let call: Call = match serde_json::from_slice::<Call>(&line) {
        Ok(call) if call.schema == SCHEMA => call,
        Ok(call) => {
            return refuse(
                &mut write,
                &format!("version {} of the control language is not known", call.schema),
            )
            .await;
        }
        Err(error) => return refuse(&mut write, &format!("not a request: {error}")).await,
    };
    let (send, mut receive) = mpsc::channel::<Value>(LINES_AHEAD);
    let tell = move |progress| {
        // A client that does not read misses progress, never the result.
        let _ = send.try_send(progress);
    };
    let work = ops::execute(peer, call.request, Some(running), &tell);
    tokio::pin!(work);
    let mut gone = [0; 1];
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            Some(progress) = receive.recv() => put(&mut write, &Line::Progress(progress)).await?,
            read = read.read(&mut gone) => if read? == 0 { return Ok(()) },
        }
    };
    let line = match done {
        Ok(result) => Line::Result(result),
        Err(error) => Line::Failure(Failure::of(&error)),
    };
    put(&mut write, &line).await
}

async fn refuse(write: &mut (impl AsyncWriteExt + Unpin), message: &str) -> io::Result<()> {
    put(write, &Line::Failure(Failure::new(Kind::Usage, message))).await
}

async fn put(write: &mut (impl AsyncWriteExt + Unpin), line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await
}
