//! Playing a song: its bytes in order, as they arrive.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Peer,
    choice::{Choice, GetProgress, SourceLine},
    fetching::{self, Fetching, Got},
    select::{self, Selected},
};
use crate::{
    failure::{Failure, Kind},
    library::Located,
    royalty::{
        Royalties,
        listen::{self, Encoding, Position},
    },
    system::clock,
};

/// How often a position is told.
const POSITION_EVERY: Duration = Duration::from_millis(200);
/// Bytes handed on at once.
const PIECE_BYTES: usize = 256 * 1024;

/// What to play.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlayRequest {
    /// Song id, its beginning, content hash, `#index`, or words.
    pub song: String,
    /// Only an encoding in this container.
    pub container: Option<String>,
    /// Whoever takes the bytes plays them to somebody, at once and at the usual speed: the play counts. It lasts until
    /// the song is over or the request is dropped; the bytes end with an empty piece.
    #[serde(default)]
    pub counted: bool,
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
    /// Milliseconds of the song that were heard, as receipts prove it; 0 when the play does not count.
    #[serde(default)]
    pub heard_ms: u64,
    /// Receipts that are on their way to the council.
    #[serde(default)]
    pub receipts: usize,
}

impl Peer {
    /// Plays a song: sends its bytes, in order, to whoever takes them.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no such song, [`Kind::Offline`] when nobody serves it now; others say what
    /// went wrong with whom.
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
        let mut sink = Sink { out, started, first: None, sent: watch::Sender::new(Sent::default()) };
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
                sink.end(request.counted).await;
                report.first_byte_ms = sink.first_byte_ms();
                return Ok(report);
            }
        }
        self.check_terms(&selected).await?;
        let counting = match choices.first() {
            Some(choice) if request.counted => {
                self.count(&selected, choice, sink.sent.subscribe(), progress).await?
            }
            _ => None,
        };
        let folder = self.data.played();
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let fetching = self.fetching_played();
        let mut tries = fetching.tries(&choices).await;
        while let Some(choice) = tries.next() {
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
                    // A short song is there before anything was told of it.
                    let bytes = got.wanted.bytes;
                    let (verified_bytes, total) = (bytes, bytes);
                    progress.send_replace(GetProgress { verified_bytes, total, sources: got.sources });
                    sink.end(request.counted).await;
                    if let Some(counting) = counting {
                        let counted = counting.finish().await;
                        (report.heard_ms, report.receipts) = (counted.heard_ms, counted.receipts);
                    }
                    return Ok(report);
                }
                Err(error) => tries.failed(&fetching, error, sink.first.is_some()).await?,
            }
        }
        Err(tries.error())
    }

    /// Getting what is played, and served on when it is kept.
    pub(crate) fn fetching_played(&self) -> Fetching<'_> {
        let library = (self.settings.share_downloads && self.settings.keep_played).then_some(&self.library);
        Fetching { network: self.network.as_ref(), library, access: self.access() }
    }

    /// What a song asks for is said before anything is fetched.
    pub(crate) async fn check_terms(&self, selected: &Selected) -> anyhow::Result<()> {
        let Some(wallet) = &self.wallet else { return Ok(()) };
        let (ledger, index, song) = (self.ledger.clone(), selected.index, selected.song.clone());
        let (listener, now_ms) = (wallet.public(), clock::now_ms());
        let may =
            tokio::task::spawn_blocking(move || ledger.may_hear(index, &song, &listener, now_ms)).await??;
        let refused = |why: String| {
            Failure::new(Kind::Refused, format!("{:?} may not be heard: {why}", selected.song.title)).into()
        };
        may.map_err(refused)
    }

    /// Begins to count a play, if it can be paid for.
    async fn count(
        &self,
        selected: &Selected,
        choice: &Choice,
        sent: watch::Receiver<Sent>,
        progress: &watch::Sender<GetProgress>,
    ) -> anyhow::Result<Option<Counting>> {
        let Some(royalties) = self.royalties.clone() else { return Ok(None) };
        let (index, song) = (selected.index, selected.song.clone());
        let encoding = Encoding { index: choice.index, content: choice.wanted.content };
        let asked = royalties.clone();
        let song = tokio::task::spawn_blocking(move || asked.song(index, &song, encoding)).await??;
        Ok(Some(Counting::begin(royalties, song, choice.wanted.bytes, sent, progress.subscribe())))
    }

    /// Keeps what was played within its limit, or not at all.
    pub(crate) fn tidy_played(&self, folder: &Path, got: &Got) {
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

/// What has gone to whoever plays.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    bytes: u64,
    first: Option<Instant>,
}

/// A play that is being counted.
struct Counting {
    /// Ends when the song is over.
    clock: AbortOnDropHandle<()>,
    listening: JoinHandle<listen::Report>,
}

impl Counting {
    /// Accompanies a song: its position is the time since the first byte, but never beyond what was sent.
    fn begin(
        royalties: Royalties,
        song: listen::Song,
        total: u64,
        sent: watch::Receiver<Sent>,
        sources: watch::Receiver<GetProgress>,
    ) -> Self {
        let (position_in, position) = watch::channel(Position::default());
        let duration_ms = song.duration_ms;
        let clock = AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let now = *sent.borrow();
                let ms =
                    now.first.map_or(0, |first| position_ms(first.elapsed(), duration_ms, now.bytes, total));
                position_in.send_replace(Position { ms, playing: now.first.is_some() });
                if ms >= duration_ms {
                    return;
                }
                tokio::time::sleep(POSITION_EVERY).await;
            }
        }));
        let (peers, outbox) = (royalties.peers, royalties.outbox);
        // Not ended with the request: what was heard until then is handed in.
        let listening = tokio::spawn(listen::listen(peers, song, position, sources, outbox));
        Self { clock, listening }
    }

    /// Waits until the song is over.
    async fn finish(self) -> listen::Report {
        let _ = self.clock.await;
        self.listening.await.unwrap_or_default()
    }
}

/// Where a player is, that began with the first byte.
fn position_ms(since_first: Duration, duration_ms: u32, sent: u64, total: u64) -> u32 {
    let elapsed = u32::try_from(since_first.as_millis()).unwrap_or(u32::MAX);
    let there = u128::from(duration_ms) * u128::from(sent.min(total)) / u128::from(total.max(1));
    elapsed.min(u32::try_from(there).unwrap_or(duration_ms)).min(duration_ms)
}

/// Where the bytes go.
struct Sink {
    out: mpsc::Sender<Bytes>,
    started: Instant,
    first: Option<Instant>,
    sent: watch::Sender<Sent>,
}

impl Sink {
    /// Waits until there is room; false when nobody listens any more.
    async fn put(&mut self, bytes: Bytes) -> bool {
        let first = *self.first.get_or_insert_with(Instant::now);
        let length = bytes.len() as u64;
        let taken = self.out.send(bytes).await.is_ok();
        self.sent.send_modify(|sent| {
            sent.bytes = sent.bytes.saturating_add(length);
            sent.first = Some(first);
        });
        taken
    }

    /// Says that no more comes, to whoever has to know before the request is over.
    async fn end(&self, counted: bool) {
        if counted {
            let _ = self.out.send(Bytes::new()).await;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_player_is_no_further_than_time_and_bytes() {
        let at = |ms, sent| position_ms(Duration::from_millis(ms), 60_000, sent, 1_000);
        assert_eq!((at(0, 1_000), at(5_000, 1_000), at(90_000, 1_000)), (0, 5_000, 60_000));
        assert_eq!((at(5_000, 50), at(5_000, 0)), (3_000, 0));
        assert_eq!(position_ms(Duration::from_secs(1), 60_000, 5, 0), 0);
    }
}
