//! The running peer's side of the control socket.

use std::{fs, io, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use super::{Call, Line, PIECE_BYTES, REQUEST_BYTES, SCHEMA};
use crate::{
    failure::{Failure, Kind},
    ops::{self, Request, Running},
    peer::Peer,
};

/// Commands at the same time.
const CLIENTS: usize = 32;
/// A client that connects writes its line at once.
const CALL_WITHIN: Duration = Duration::from_secs(10);
/// A client takes a line within this time, or its request ends.
const TAKE_WITHIN: Duration = Duration::from_secs(30);
/// A client that plays may pause for this long.
const PAUSED_FOR: Duration = Duration::from_secs(6 * 3600);
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
    let (read, write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    let mut limited = (&mut read).take(REQUEST_BYTES as u64);
    timeout(CALL_WITHIN, limited.read_until(b'\n', &mut line)).await??;
    let call = serde_json::from_slice::<Call>(&line);
    // Whoever pauses the music takes nothing for as long.
    let plays = call.as_ref().is_ok_and(|call| matches!(call.request, Request::Play(_)));
    let patience = if plays { PAUSED_FOR } else { TAKE_WITHIN };
    let (send, receive) = mpsc::channel::<Out>(LINES_AHEAD);
    // Written beside the work: a client that does not read must not hold it up.
    let writer = AbortOnDropHandle::new(tokio::spawn(put_all(write, receive, patience)));
    let last = match call {
        Ok(call) if call.schema == SCHEMA => {
            let progress = send.clone();
            // A client that does not read misses progress, never the result.
            let tell = move |now| drop(progress.try_send(Out::Line(Line::Progress(now))));
            let (out, mut music) = mpsc::channel(ops::PIECES_AHEAD);
            let passing = async {
                while let Some(bytes) = music.recv().await {
                    if send.send(Out::Music(bytes)).await.is_err() {
                        return;
                    }
                }
            };
            let work = async {
                tokio::join!(ops::execute(peer, call.request, Some(running), &tell, out), passing).0
            };
            let mut gone = [0; 1];
            tokio::select! {
                done = work => done.map_or_else(|error| Line::Failure(Failure::of(&error)), Line::Result),
                // Whoever hangs up, or talks out of turn, has ended the request.
                _ = read.read(&mut gone) => return Ok(()),
            }
        }
        Ok(call) => refusal(&format!("version {} of the control language is not known", call.schema)),
        Err(error) => refusal(&format!("not a request: {error}")),
    };
    let sent = timeout(patience, send.send(Out::Line(last))).await;
    drop(send);
    if sent.is_ok() {
        writer.await??;
    }
    Ok(())
}

fn refusal(message: &str) -> Line {
    Line::Failure(Failure::new(Kind::Usage, message))
}

/// What goes to a client.
enum Out {
    Line(Line),
    Music(Bytes),
}

async fn put_all(
    mut write: OwnedWriteHalf,
    mut lines: mpsc::Receiver<Out>,
    patience: Duration,
) -> io::Result<()> {
    while let Some(out) = lines.recv().await {
        match out {
            Out::Line(line) => timeout(patience, put_line(&mut write, &line)).await??,
            // No more comes, but the answer is not there yet.
            Out::Music(bytes) if bytes.is_empty() => {
                timeout(patience, put_line(&mut write, &Line::Bytes(0))).await??;
            }
            Out::Music(bytes) => {
                for piece in bytes.chunks(PIECE_BYTES as usize) {
                    let line = Line::Bytes(u32::try_from(piece.len()).unwrap_or(PIECE_BYTES));
                    timeout(patience, put_line(&mut write, &line)).await??;
                    timeout(patience, write.write_all(piece)).await??;
                }
            }
        }
    }
    Ok(())
}

async fn put_line(write: &mut OwnedWriteHalf, line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await
}
