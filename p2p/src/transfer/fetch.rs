//! Fetching a file from one peer.
//!
//! A task reads the stream into large buffers; a thread verifies them and writes what is verified to the partial
//! file. Between them is a short queue. Only verified bytes count: as progress, against the stall limit, on disk.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use antiphon_proto::{
    ContentHash,
    wire::{AudioMode, AudioRequest},
};
use futures::AsyncReadExt;
use libp2p::PeerId;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{self, Instant},
};

use super::{
    decode::{BadBytes, Decoder, Verified},
    encode::{PIECE_BYTES, Piece},
    partial::{Partial, PartialError},
};
use crate::{
    config::Timeouts,
    error::{FetchError, RequestError},
    metrics::Metrics,
    protocol::{audio, report},
    score::Offence,
    streams::{Opener, PeerStream},
    swarm::{Command, Traffic},
};

/// Buffers between the stream and the thread that verifies.
const PIECES_AHEAD: usize = 2;
/// A buffer this full is handed over even when the thread is busy.
const ENOUGH_BYTES: usize = PIECE_BYTES / 2;
/// Verified bytes that every [`Timeouts::stall`] must bring: two groups. A peer that drips a group now and then would
/// otherwise keep a listener waiting for ever; the slowest link that is waited for brings four times as much.
const STALL_BYTES: u64 = 32 * 1024;
/// How often a transfer that ended early is asked for again at once, to learn why.
const ASK_AGAIN: u32 = 1;

/// What to fetch, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// BLAKE3 of the file.
    pub content: ContentHash,
    /// Its size in bytes, from the ledger.
    pub size: u64,
    /// Is somebody listening?
    pub mode: AudioMode,
    /// Right to hear it, or empty.
    pub access_token: Vec<u8>,
    /// The partial file; what is there already and verifies is not fetched again.
    pub part: PathBuf,
}

/// How far a fetch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FetchProgress {
    /// Bytes of the file that are on disk and verified.
    pub verified_bytes: u64,
    /// Bytes of the file.
    pub total: u64,
}

/// A complete download, not yet at its place.
#[derive(Debug)]
pub struct Fetched {
    /// Bytes of the file that came in this fetch; the rest was there.
    pub fetched_bytes: u64,
    partial: Partial,
}

impl Fetched {
    /// See [`Partial::finish`]. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Partial::finish`].
    pub fn finish(&mut self, dest: &Path, outboard: Option<&Path>) -> std::io::Result<()> {
        self.partial.finish(dest, outboard)
    }

    /// The partial file, whole.
    #[must_use]
    pub fn into_partial(self) -> Partial {
        self.partial
    }
}

/// What a fetch uses of the network.
pub(crate) struct Fetcher<'a> {
    pub(crate) opener: &'a Opener,
    pub(crate) commands: &'a mpsc::Sender<Command>,
    pub(crate) timeouts: &'a Timeouts,
    pub(crate) metrics: &'a Metrics,
    pub(crate) traffic: &'a Traffic,
}

impl Fetcher<'_> {
    /// Fetches everything that is missing.
    pub(crate) async fn run(
        &self,
        peer: PeerId,
        fetch: Fetch,
        progress: watch::Sender<FetchProgress>,
    ) -> Result<Fetched, FetchError> {
        let (part, content, size) = (fetch.part.clone(), fetch.content, fetch.size);
        let opened = tokio::task::spawn_blocking(move || Partial::open(&part, content, size)).await;
        let mut partial = opened.map_err(|_| FetchError::Internal)??;
        let before = partial.verified_bytes();
        progress.send_replace(FetchProgress { verified_bytes: before, total: size });
        let mut ask_again = ASK_AGAIN;
        while !partial.is_complete() {
            let outcome = self.one_request(peer, &fetch, &progress, partial).await;
            let (back, end) = outcome?;
            partial = back;
            let closed = FetchError::Closed { verified: partial.verified_bytes(), total: size };
            match end {
                End::Complete => {}
                End::Early if ask_again > 0 => ask_again -= 1,
                End::Early => return Err(closed),
                End::Unanswered(FetchError::Refused(refusal)) => return Err(FetchError::Refused(refusal)),
                End::Unanswered(_) if ask_again < ASK_AGAIN => return Err(closed),
                End::Unanswered(FetchError::Request(RequestError::Timeout { after, .. })) => {
                    let verified = partial.verified_bytes();
                    return Err(FetchError::Stalled { after, verified, total: size });
                }
                End::Unanswered(error) => return Err(error),
                End::Stalled(after) => {
                    let verified = partial.verified_bytes();
                    return Err(FetchError::Stalled { after, verified, total: size });
                }
                End::Bad(bad) => {
                    self.metrics.bad_bytes.inc();
                    report(self.commands, peer, Offence::BadBytes).await;
                    return Err(bad.into());
                }
                End::Disk(error) => return Err(error.into()),
            }
        }
        Ok(Fetched { fetched_bytes: partial.verified_bytes().saturating_sub(before), partial })
    }

    /// Asks for as much as one request may name and stores what comes.
    async fn one_request(
        &self,
        peer: PeerId,
        fetch: &Fetch,
        progress: &watch::Sender<FetchProgress>,
        partial: Partial,
    ) -> Result<(Partial, End), FetchError> {
        let request = AudioRequest {
            content_hash: fetch.content.0.to_vec(),
            ranges: partial.missing(),
            mode: fetch.mode.into(),
            access_token: fetch.access_token.clone(),
        };
        let (mut stream, found) = match audio::ask(self.opener, peer, &request, self.timeouts).await {
            Ok(answer) => answer,
            Err(error) => {
                if let FetchError::Request(RequestError::Malformed(_)) = &error {
                    report(self.commands, peer, Offence::Malformed).await;
                }
                return Ok((partial, End::Unanswered(error)));
            }
        };
        if found != fetch.size {
            return Err(FetchError::Size { expected: fetch.size, found });
        }
        let traffic = self.traffic.of(&peer);
        let before = partial.verified_bytes();
        let verified = Arc::new(AtomicU64::new(before));
        let (pieces, incoming) = mpsc::channel(PIECES_AHEAD);
        let (give_back, used) = mpsc::channel(PIECES_AHEAD + 2);
        let writer = Writer {
            partial,
            decoder: Decoder::new(&fetch.content, fetch.size, &request.ranges),
            incoming,
            give_back,
            verified: verified.clone(),
            progress: progress.clone(),
        };
        let writing = tokio::task::spawn_blocking(move || writer.run());
        let reader = Reader { pieces, used, verified, stall: self.timeouts.stall };
        let (partial, end) = reader.run(&mut stream, writing).await?;
        let new = partial.verified_bytes().saturating_sub(before);
        self.metrics.fetched_bytes.inc_by(new);
        traffic.fetched(new);
        Ok((partial, end))
    }
}

/// How one request ended.
#[derive(Debug)]
enum End {
    Complete,
    Early,
    Stalled(Duration),
    Bad(BadBytes),
    Disk(PartialError),
    Unanswered(FetchError),
}

/// The half on the network's side.
struct Reader {
    pieces: mpsc::Sender<Piece>,
    used: mpsc::Receiver<Vec<u8>>,
    verified: Arc<AtomicU64>,
    stall: Duration,
}

impl Reader {
    async fn run(
        mut self,
        stream: &mut PeerStream,
        mut writing: JoinHandle<(Partial, End)>,
    ) -> Result<(Partial, End), FetchError> {
        let stalled = tokio::select! {
            // The writer stops when it has all, or cannot go on.
            done = &mut writing => return done.map_err(|_| FetchError::Internal),
            stalled = self.pump(stream) => stalled,
        };
        drop(self.pieces);
        let (partial, end) = writing.await.map_err(|_| FetchError::Internal)?;
        Ok(match end {
            End::Early if stalled => (partial, End::Stalled(self.stall)),
            end => (partial, end),
        })
    }

    /// Moves bytes until the stream ends; true when it stalls.
    async fn pump(&mut self, stream: &mut PeerStream) -> bool {
        let mut watchdog = Watchdog::new(self.stall, self.verified.load(Ordering::Relaxed), Instant::now());
        loop {
            let mut buffer = self.used.try_recv().unwrap_or_else(|_| vec![0; PIECE_BYTES]);
            let mut filled = 0;
            let mut ended = false;
            while !ended && filled < ENOUGH_BYTES && (filled == 0 || !self.writer_is_idle()) {
                tokio::select! {
                    biased;
                    read = stream.read(&mut buffer[filled..]) => match read {
                        Ok(0) | Err(_) => ended = true,
                        Ok(count) => filled += count,
                    },
                    () = watchdog.tick() => {
                        let verified = self.verified.load(Ordering::Relaxed);
                        if watchdog.is_stalled(Instant::now(), verified, !self.writer_is_idle()) {
                            return true;
                        }
                    }
                }
            }
            if filled > 0 && self.pieces.send((buffer, filled)).await.is_err() {
                return false;
            }
            if ended {
                return false;
            }
        }
    }

    fn writer_is_idle(&self) -> bool {
        self.pieces.capacity() == self.pieces.max_capacity()
    }
}

/// Notices a sender that brings too few verified bytes, however many others it sends.
struct Watchdog {
    stall: Duration,
    ticks: time::Interval,
    seen: u64,
    since: Instant,
}

impl Watchdog {
    fn new(stall: Duration, seen: u64, now: Instant) -> Self {
        let mut ticks = time::interval((stall / 4).max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        Self { stall, ticks, seen, since: now }
    }

    async fn tick(&mut self) {
        self.ticks.tick().await;
    }

    /// A queue that is not empty means that the delay is the disk's, not the sender's.
    fn is_stalled(&mut self, now: Instant, verified: u64, disk_is_busy: bool) -> bool {
        if verified.saturating_sub(self.seen) >= STALL_BYTES || disk_is_busy {
            (self.seen, self.since) = (verified, now);
        }
        now.saturating_duration_since(self.since) >= self.stall
    }
}

/// The half on the disk's side.
struct Writer {
    partial: Partial,
    decoder: Decoder,
    incoming: mpsc::Receiver<Piece>,
    give_back: mpsc::Sender<Vec<u8>>,
    verified: Arc<AtomicU64>,
    progress: watch::Sender<FetchProgress>,
}

impl Writer {
    fn run(mut self) -> (Partial, End) {
        let end = self.receive();
        (self.partial, end)
    }

    fn receive(&mut self) -> End {
        // Bytes of a piece that a buffer ended in; at most one group.
        let mut begun: Vec<u8> = Vec::new();
        while self.decoder.wants().is_some() {
            let Some((buffer, filled)) = self.incoming.blocking_recv() else { return End::Early };
            let taken = self.take(&buffer[..filled], &mut begun);
            let flushed = self.partial.flush().map_err(End::Disk);
            if let Err(end) = taken.and(flushed) {
                return end;
            }
            let (verified_bytes, total) = (self.partial.verified_bytes(), self.partial.size());
            self.progress.send_replace(FetchProgress { verified_bytes, total });
            let _ = self.give_back.try_send(buffer);
        }
        End::Complete
    }

    fn take(&mut self, mut bytes: &[u8], begun: &mut Vec<u8>) -> Result<(), End> {
        while let Some(wanted) = self.decoder.wants() {
            if begun.is_empty() {
                let Some((piece, rest)) = bytes.split_at_checked(wanted) else {
                    begun.extend_from_slice(bytes);
                    return Ok(());
                };
                bytes = rest;
                self.check_and_store(piece)?;
            } else {
                let lacking = wanted.saturating_sub(begun.len()).min(bytes.len());
                let (more, rest) = bytes.split_at(lacking);
                begun.extend_from_slice(more);
                bytes = rest;
                if begun.len() < wanted {
                    return Ok(());
                }
                let piece = std::mem::take(begun);
                self.check_and_store(&piece)?;
                *begun = piece;
                begun.clear();
            }
        }
        Ok(())
    }

    fn check_and_store(&mut self, piece: &[u8]) -> Result<(), End> {
        let verified: Verified<'_> = self.decoder.feed(piece).map_err(End::Bad)?;
        let new = self.partial.store(&verified).map_err(End::Disk)?;
        if new > 0 {
            self.verified.store(self.partial.verified_bytes(), Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sender_that_drips_is_stalled() {
        let (stall, start) = (Duration::from_secs(15), Instant::now());
        // Bytes in each second, and whether that is enough.
        for (bytes, enough) in [(0, false), (1_000, false), (2_100, false), (2_400, true), (100_000, true)] {
            let mut watchdog = Watchdog::new(stall, 7, start);
            let mut stalled = false;
            for second in 1..60 {
                let now = start + Duration::from_secs(second);
                stalled |= watchdog.is_stalled(now, 7 + second * bytes, false);
            }
            assert_eq!(stalled, !enough, "{bytes} bytes a second");
        }
        let mut waiting_for_the_disk = Watchdog::new(stall, 0, start);
        assert!(!waiting_for_the_disk.is_stalled(start + stall * 2, 0, true));
    }
}
