//! Bytes of a song, in order from some place on.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

use antiphon_p2p::Listener;
use bytes::Bytes;

use super::coming::Reading;
use crate::failure::{Failure, Kind};

/// Bytes that are read at once.
const PIECE_BYTES: u64 = 128 * 1024;

/// Reads a song from some byte to its end.
#[derive(Debug)]
pub struct Reader {
    from: From,
    /// Read and not given out.
    ready: Option<Bytes>,
    reading: Option<Reading>,
}

#[derive(Debug)]
enum From {
    File { file: Arc<File>, at: u64, end: u64 },
    Listener(Box<Listener>),
    None,
}

impl Reader {
    pub(super) fn of_file(file: Arc<File>, at: u64, end: u64) -> Self {
        Self { from: From::File { file, at, end }, ready: None, reading: None }
    }

    pub(super) fn of_listener(listener: Listener, reading: Reading) -> Self {
        Self { from: From::Listener(Box::new(listener)), ready: None, reading: Some(reading) }
    }

    pub(super) fn none(_: u64, reading: Reading) -> Self {
        Self { from: From::None, ready: None, reading: Some(reading) }
    }

    pub(super) fn counted(mut self, reading: Reading) -> Self {
        self.reading = Some(reading);
        self
    }

    /// Waits for the next bytes, which are then given out without waiting.
    pub(super) async fn fill(&mut self) -> Result<(), Failure> {
        if self.ready.is_none() {
            self.ready = self.next().await?;
        }
        Ok(())
    }

    /// The next bytes, at most 256 KiB; none at the end.
    ///
    /// # Errors
    /// Why no more comes.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        if let Some(bytes) = self.ready.take() {
            return Ok(Some(bytes));
        }
        match &mut self.from {
            From::File { file, at, end } => {
                let length = PIECE_BYTES.min(end.saturating_sub(*at));
                if length == 0 {
                    return Ok(None);
                }
                let bytes = read_at(file.clone(), *at, length).await.map_err(|error| {
                    Failure::new(Kind::Failed, format!("the file cannot be read: {error}"))
                })?;
                *at += bytes.len() as u64;
                Ok(Some(bytes))
            }
            From::Listener(listener) => match listener.read(usize::MAX).await {
                Some(bytes) => Ok(Some(bytes)),
                None if listener.is_at_end() => Ok(None),
                None => Err(self.failure().await),
            },
            From::None => Err(self.failure().await),
        }
    }

    async fn failure(&self) -> Failure {
        match &self.reading {
            Some(reading) => reading.failure().await,
            None => Failure::new(Kind::Failed, "the song ended early"),
        }
    }
}

async fn read_at(file: Arc<File>, at: u64, length: u64) -> io::Result<Bytes> {
    let work = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact_at(&mut bytes, at)?;
        Ok(Bytes::from(bytes))
    });
    work.await.map_err(io::Error::other)?
}
