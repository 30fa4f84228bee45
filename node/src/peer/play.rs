//! Playing a song: its bytes in order, as they arrive.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Peer,
    choice::{Choice, GetProgress, SourceLine},
    fetching::{self, Fetching, Got},
    select,
};
use crate::{
    failure::{Failure, Kind},
    library::Located,
};

/// Bytes handed on at once.
const PIECE_BYTES: usize = 256 * 1024;

/// What to play.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlayRequest {
    /// Song id, its beginning, content hash, `#index`, or words.
    pub song: String,
    /// Only an encoding in this container.
    pub container: Option<String>,
}

/// What was played.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PlayReport {
    /// Version of this form.
    pub schema: u32,
    /// Song id.
    pub song: String,
    /// Title.
    pub title: String,
    /// Artist.
    pub artist: String,
    /// BLAKE3 of the file.
    pub content: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// Of these, verified and there before.
    pub resumed_bytes: u64,
    /// Milliseconds until the first byte.
    pub first_byte_ms: u64,
    /// Who sent it, most first; nobody when it came from the own library.
    pub sources: Vec<SourceLine>,
}

impl Peer {
    /// Plays a song: sends its bytes, in order, to whoever takes them.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no such song or nobody serves it; others say what went wrong with whom.
    pub async fn play(
        &self,
        request: PlayRequest,
        out: mpsc::Sender<Bytes>,
        progress: &watch::Sender<GetProgress>,
    ) -> anyhow::Result<PlayReport> {
        let started = Instant::now();
        let (ledger, index, words) = (self.ledger.clone(), self.search.clone(), request.song.clone());
        let selected = tokio::task::spawn_blocking(move || select::select(&ledger, &index, &words)).await??;
        let choices = self.choices(&selected, request.container.as_deref())?;
        let mut sink = Sink { out, started, first: None };
        let mut report = PlayReport {
            schema: 1,
            song: selected.song.id().to_string(),
            title: selected.song.title.clone(),
            artist: selected.song.artist.clone(),
            ..PlayReport::default()
        };
        for choice in &choices {
            if let Located::Here { path, .. } = self.library.locate(&choice.wanted.content)? {
                (report.content, report.bytes) = (choice.wanted.content.to_string(), choice.wanted.bytes);
                report.resumed_bytes = report.bytes;
                sink.file(&path).await?;
                report.first_byte_ms = sink.first_byte_ms();
                return Ok(report);
            }
        }
        let folder = self.data.played();
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let library = (self.settings.share_downloads && self.settings.keep_played).then_some(&self.library);
        let fetching = Fetching { network: self.network.as_ref(), library, access: None };
        let mut last = None;
        let mut ordered: VecDeque<&Choice> = fetching.in_order(&choices).await.into();
        let mut again = true;
        while let Some(choice) = ordered.pop_front() {
            let (hand_over, handed) = oneshot::channel();
            let fetched = fetching.listen(&folder, &selected.song, choice, hand_over, progress);
            let pumped = async {
                if let Ok(mut listener) = handed.await {
                    while let Some(bytes) = listener.read(PIECE_BYTES).await {
                        if !sink.put(bytes).await {
                            return;
                        }
                    }
                }
            };
            let (fetched, ()) = tokio::join!(fetched, pumped);
            match fetched {
                Ok(got) => {
                    // It was in the folder already.
                    if sink.first.is_none() {
                        sink.file(&got.path).await?;
                    }
                    (report.content, report.bytes) = (got.wanted.content.to_string(), got.wanted.bytes);
                    (report.resumed_bytes, report.first_byte_ms) = (got.resumed_bytes, sink.first_byte_ms());
                    report.sources.clone_from(&got.sources);
                    self.tidy_played(&folder, &got);
                    return Ok(report);
                }
                // Another encoding can only be tried while nothing was heard.
                Err(error) if sink.first.is_none() && Failure::of(&error).kind == Kind::NotFound => {
                    last = Some(error);
                    // A peer that has just joined may not have heard yet who has it.
                    if ordered.is_empty() && std::mem::take(&mut again) && fetching.hears_of(&choices).await {
                        ordered = fetching.in_order(&choices).await.into();
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| Failure::new(Kind::NotFound, "there is nothing to play").into()))
    }

    /// Keeps what was played within its limit, or not at all.
    fn tidy_played(&self, folder: &Path, got: &Got) {
        let most = if self.settings.keep_played { self.settings.played_bytes } else { 0 };
        let kept = if self.settings.keep_played { got.path.clone() } else { PathBuf::new() };
        match fetching::tidy(folder, most, &kept) {
            Ok(removed) => removed.iter().for_each(|path| self.library.forget_file(path)),
            Err(error) => {
                tracing::warn!(%error, folder = %folder.display(), "what was played was not tidied up");
            }
        }
    }
}

/// Where the bytes go.
struct Sink {
    out: mpsc::Sender<Bytes>,
    started: Instant,
    first: Option<Instant>,
}

impl Sink {
    /// Waits until there is room; false when nobody listens any more.
    async fn put(&mut self, bytes: Bytes) -> bool {
        self.first.get_or_insert_with(Instant::now);
        self.out.send(bytes).await.is_ok()
    }

    fn first_byte_ms(&self) -> u64 {
        let waited = self.first.map_or(0, |first| first.duration_since(self.started).as_millis());
        u64::try_from(waited).unwrap_or(u64::MAX)
    }

    /// A file as it is.
    async fn file(&mut self, path: &Path) -> anyhow::Result<()> {
        let opened = path.to_owned();
        let mut file = tokio::task::spawn_blocking(move || File::open(opened)).await??;
        loop {
            let read = tokio::task::spawn_blocking(move || {
                let mut piece = Vec::with_capacity(PIECE_BYTES);
                (&mut file).take(PIECE_BYTES as u64).read_to_end(&mut piece).map(|_| (file, piece))
            });
            let piece;
            (file, piece) = read.await?.with_context(|| format!("cannot read {}", path.display()))?;
            if piece.is_empty() || !self.put(piece.into()).await {
                return Ok(());
            }
        }
    }
}
