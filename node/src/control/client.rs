//! A command's side of the control socket.

use std::{io, path::Path};

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};

use super::{ANSWER_BYTES, Call, Line, PIECE_BYTES, SCHEMA};
use crate::ops::Request;

/// A connection to a running peer.
pub struct Client {
    stream: UnixStream,
}

impl Client {
    /// Connects; `None` when no peer is running.
    ///
    /// # Errors
    /// When there is a socket that cannot be used.
    pub async fn connect(socket: &Path) -> anyhow::Result<Option<Self>> {
        match UnixStream::connect(socket).await {
            Ok(stream) => Ok(Some(Self { stream })),
            // A socket that nobody listens on is what a killed peer leaves behind.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                Ok(None)
            }
            Err(error) => {
                Err(error).with_context(|| format!("cannot reach the running peer at {}", socket.display()))
            }
        }
    }

    /// Asks, passes on progress, and gives the answer.
    ///
    /// # Errors
    /// What the peer answers, or that it went away.
    pub async fn call(self, request: Request, tell: &(dyn Fn(Value) + Send + Sync)) -> anyhow::Result<Value> {
        self.call_for(request, tell, &mut |_| bail!("the running peer sends music that was not asked for"))
            .await
    }

    /// The same, where music comes with it.
    ///
    /// # Errors
    /// As [`Self::call`], and what `take` gives.
    pub async fn call_for(
        self,
        request: Request,
        tell: &(dyn Fn(Value) + Send + Sync),
        take: &mut (dyn FnMut(&[u8]) -> anyhow::Result<()> + Send),
    ) -> anyhow::Result<Value> {
        let (read, mut write) = self.stream.into_split();
        let mut line = serde_json::to_string(&Call { schema: SCHEMA, request })?;
        line.push('\n');
        write.write_all(line.as_bytes()).await?;
        let mut read = BufReader::new(read);
        loop {
            let mut line = Vec::new();
            (&mut read).take(ANSWER_BYTES as u64).read_until(b'\n', &mut line).await?;
            if line.last() != Some(&b'\n') {
                bail!("the running peer went away before it answered; see its log");
            }
            match serde_json::from_slice(&line)
                .context("the running peer answers in another version; restart it")?
            {
                Line::Progress(progress) => tell(progress),
                Line::Bytes(count) if count <= PIECE_BYTES => {
                    let mut bytes = vec![0; usize::try_from(count)?];
                    read.read_exact(&mut bytes).await?;
                    take(&bytes)?;
                }
                Line::Bytes(count) => bail!("the running peer sends {count} bytes at once"),
                Line::Result(result) => return Ok(result),
                Line::Failure(failure) => return Err(failure.into()),
            }
        }
    }
}
