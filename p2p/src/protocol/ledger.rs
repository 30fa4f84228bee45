//! `/antiphon/ledger/1`: what network is this, and every batch from a block on, then live.
//!
//! A follower that falls behind is served at its own pace: one batch at a time is read from the store and written to
//! the stream, whose flow control is the only queue. One that takes nothing for [`Timeouts::write`] is dropped. What
//! all followers together hold in memory is bounded: see the constants below.
//!
//! [`Timeouts::write`]: crate::Timeouts::write

use std::time::Duration;

use antiphon_proto::{
    NetworkId, canonical, limits,
    wire::{
        Batch, FollowRequest, LedgerFrame, LedgerInfo, LedgerInfoRequest, LedgerRequest, StreamErrorCode,
        ledger_frame, ledger_request,
    },
};
use futures::AsyncReadExt;
use libp2p::PeerId;
use tokio::{
    sync::{Semaphore, mpsc},
    time,
};

use super::{
    Fault, LEDGER, Server, allowance,
    frame::{self, FrameDecoder, FrameError},
    malformed, report,
    request::{self, Question, RETRY_PAUSES},
};
use crate::{
    config::Timeouts,
    error::RequestError,
    score::Offence,
    services::SourceError,
    slots::{Slot, Slots},
    streams::{Opener, PeerStream},
    swarm::Command,
};

/// Bytes that a follower reads at once.
const READ_BYTES: usize = 64 * 1024;
/// Followers served at once. They stay for hours, so they have places of their own: however many there are, requests
/// find theirs.
const FOLLOWERS: usize = 128;
/// Followers of one peer: the one that is served, and one whose end has not been noticed.
const FOLLOWERS_PER_PEER: usize = 2;
/// Batches read from the store and encoded at once, for all followers: each is at most 1 MiB, twice.
const READS: usize = 4;
/// Long batches that are on their way at once, for all followers: 16 MiB. Others wait, and read theirs when it is
/// their turn.
const LONG_BATCHES: usize = 16;
/// A batch from this size on is a long one. New batches of a ledger that grows slowly are shorter: they pass by
/// followers that catch up slowly, and 128 of them are 4 MiB.
const LONG_BATCH_BYTES: usize = 32 * 1024;

/// What followers share.
pub(crate) struct Followers {
    places: Slots,
    reads: Semaphore,
    long_batches: Semaphore,
}

impl Followers {
    pub(crate) fn new() -> Self {
        Self {
            places: Slots::new(FOLLOWERS, FOLLOWERS_PER_PEER),
            reads: Semaphore::new(READS),
            long_batches: Semaphore::new(LONG_BATCHES),
        }
    }
}

/// Answers one stream. A follower gives its general place back when it has got one of the followers'.
pub(crate) async fn answer(
    server: &Server,
    peer: PeerId,
    stream: &mut PeerStream,
    general: &mut Option<Slot>,
) -> Result<(), Fault> {
    let bytes = server.read_request(stream, limits::CONTROL_MESSAGE_BYTES).await?;
    let request: LedgerRequest =
        canonical::decode_lenient("ledger request", limits::CONTROL_MESSAGE_BYTES, &bytes)
            .map_err(malformed)?;
    match request.body {
        Some(ledger_request::Body::Info(LedgerInfoRequest {})) => {
            let reply = frame::encode(&server.services.ledger.info());
            server.write(stream, &reply).await?;
            server.close(stream).await
        }
        Some(ledger_request::Body::Follow(follow)) => {
            let Some(_place) = server.followers.places.take(peer) else {
                return refuse(server, stream, StreamErrorCode::Busy, "too many follow already").await;
            };
            *general = None;
            answer_follow(server, peer, stream, &follow).await
        }
        // What a later version may ask for is no offence.
        None => {
            let detail = "this version does not know such a request";
            refuse(server, stream, StreamErrorCode::Malformed, detail).await
        }
    }
}

async fn answer_follow(
    server: &Server,
    peer: PeerId,
    stream: &mut PeerStream,
    follow: &FollowRequest,
) -> Result<(), Fault> {
    let genesis = server.services.ledger.info().genesis;
    let ours = blake3::hash(&genesis);
    if follow.network[..] != ours.as_bytes()[..] {
        return refuse(server, stream, StreamErrorCode::OtherNetwork, "this is another network").await;
    }
    let mut sizes = server.services.ledger.watch();
    if follow.from > *sizes.borrow() {
        return refuse(server, stream, StreamErrorCode::NotFound, "the ledger is not that long").await;
    }
    tracing::debug!(%peer, from = follow.from, "a follower");
    let mut next = follow.from;
    loop {
        let size = *sizes.borrow_and_update();
        if !send_batches(server, stream, &mut next, size).await? {
            return Ok(());
        }
        let mut byte = [0];
        tokio::select! {
            changed = sizes.changed() => {
                if changed.is_err() {
                    return server.close(stream).await;
                }
            }
            read = stream.read(&mut byte) => {
                // Followers say nothing more: this is their end of the stream closing, or nonsense.
                return match read {
                    Ok(0) | Err(_) => Ok(()),
                    Ok(_) => Err(malformed("a follower that talks")),
                };
            }
        }
    }
}

/// Sends everything below `size`, and says whether the stream goes on.
async fn send_batches(
    server: &Server,
    stream: &mut PeerStream,
    next: &mut u64,
    size: u64,
) -> Result<bool, Fault> {
    let followers = &server.followers;
    let shutdown = |_| Fault::Internal("the network is shut down".to_owned());
    while *next < size {
        let mut turn = None;
        let read = loop {
            let read = read_batch(server, *next).await?;
            let long = matches!(&read, Ok(Some(batch)) if batch.frame.len() >= LONG_BATCH_BYTES);
            if !long || turn.is_some() {
                break read;
            }
            turn = followers.long_batches.try_acquire().ok();
            if turn.is_some() {
                break read;
            }
            // Nothing is held while waiting.
            drop(read);
            turn = Some(followers.long_batches.acquire().await.map_err(shutdown)?);
        };
        match read {
            Ok(Some(batch)) => {
                *next = batch.end;
                server.write(stream, &batch.frame).await?;
            }
            // The size ran ahead of the store; it will be announced again.
            Ok(None) => break,
            Err(error @ SourceError::NotFound(_)) => {
                refuse(server, stream, StreamErrorCode::NotFound, &error.to_string()).await?;
                return Ok(false);
            }
            Err(error @ SourceError::Internal(_)) => {
                tracing::error!(%error, "the ledger cannot be read");
                refuse(server, stream, StreamErrorCode::Internal, "the ledger failed").await?;
                return Ok(false);
            }
        }
    }
    server.flush(stream).await?;
    Ok(true)
}

/// A batch as it is sent.
struct Encoded {
    frame: Vec<u8>,
    /// Index after its last block.
    end: u64,
}

/// Reads the batch that starts with block `first` and encodes it; only the encoded form stays.
async fn read_batch(server: &Server, first: u64) -> Result<Result<Option<Encoded>, SourceError>, Fault> {
    let closed = |_| Fault::Internal("the network is shut down".to_owned());
    let _reading = server.followers.reads.acquire().await.map_err(closed)?;
    let ledger = server.services.ledger.clone();
    let read = move || match ledger.batch_from(first) {
        Ok(Some(batch)) if batch.first == first && !batch.blocks.is_empty() => {
            let end = first.saturating_add(batch.blocks.len() as u64);
            let frame = frame::encode(&LedgerFrame { body: Some(ledger_frame::Body::Batch(batch)) });
            Ok(Some(Encoded { frame, end }))
        }
        Ok(Some(_)) => Err(SourceError::Internal(format!("the batch of block {first} starts elsewhere"))),
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    server.blocking(read).await
}

async fn refuse(
    server: &Server,
    stream: &mut PeerStream,
    code: StreamErrorCode,
    detail: &str,
) -> Result<(), Fault> {
    let error = request::stream_error(code, detail);
    let frame = LedgerFrame { body: Some(ledger_frame::Body::Error(error)) };
    server.write(stream, &frame::encode(&frame)).await?;
    server.close(stream).await
}

/// Asks for the network and the size.
pub(crate) async fn ask_info(
    opener: &Opener,
    peer: PeerId,
    timeouts: &Timeouts,
) -> Result<LedgerInfo, RequestError> {
    let request = LedgerRequest { body: Some(ledger_request::Body::Info(LedgerInfoRequest {})) };
    let question = Question {
        peer,
        protocol: LEDGER,
        request: &frame::encode(&request),
        what: "ledger info",
        reply_limit: limits::CONTROL_MESSAGE_BYTES,
        timeout: timeouts.request,
    };
    let (_, reply) = request::ask(opener, &question).await?;
    let info: LedgerInfo = canonical::decode_lenient("ledger info", limits::CONTROL_MESSAGE_BYTES, &reply)
        .map_err(|error| RequestError::Malformed(error.to_string()))?;
    if info.genesis.len() > limits::GENESIS_BYTES || info.seal.len() > limits::SEAL_BYTES {
        return Err(RequestError::Malformed("a genesis document or a seal that is too long".to_owned()));
    }
    Ok(info)
}

/// The batches of another peer's ledger, in order. Nothing in them is verified but their form and their order.
#[derive(Debug)]
pub struct FollowStream {
    peer: PeerId,
    opener: Opener,
    /// Weak: following alone does not keep the network alive.
    commands: mpsc::WeakSender<Command>,
    request: Vec<u8>,
    stream: Option<PeerStream>,
    decoder: FrameDecoder,
    scratch: Box<[u8]>,
    next: u64,
    /// Whether a first byte has come.
    begun: bool,
    /// Attempts left until then.
    attempts: std::slice::Iter<'static, Duration>,
    message_timeout: Duration,
    request_timeout: Duration,
    /// Since when the rest of a message is awaited.
    inside_since: Option<time::Instant>,
}

impl FollowStream {
    pub(crate) async fn open(
        opener: &Opener,
        commands: &mpsc::Sender<Command>,
        peer: PeerId,
        network: NetworkId,
        from: u64,
        timeouts: &Timeouts,
    ) -> Result<Self, RequestError> {
        let follow = FollowRequest { network: network.0.to_vec(), from };
        let request = frame::encode(&LedgerRequest { body: Some(ledger_request::Body::Follow(follow)) });
        let mut this = Self {
            peer,
            opener: opener.clone(),
            commands: commands.downgrade(),
            request,
            stream: None,
            decoder: FrameDecoder::new(limits::BATCH_MESSAGE_BYTES),
            scratch: vec![0; READ_BYTES].into(),
            next: from,
            begun: false,
            attempts: RETRY_PAUSES.iter(),
            message_timeout: timeouts.message,
            request_timeout: timeouts.request,
            inside_since: None,
        };
        this.reopen().await?;
        Ok(this)
    }

    /// Who is followed.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// First block of the batch that comes next.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The next batch; waits for as long as the ledger does not grow. None when the peer ends the stream in order.
    /// Can be dropped at any time and called again, nothing is lost.
    ///
    /// # Errors
    /// [`RequestError`]; the stream is then of no more use, and following starts again at [`Self::position`].
    pub async fn next(&mut self) -> Result<Option<Batch>, RequestError> {
        loop {
            match self.decoder.next_frame() {
                Ok(None) => {}
                Ok(Some(frame)) => {
                    self.inside_since = None;
                    return self.open_frame(&frame).await.map(Some);
                }
                Err(error) => return Err(self.broken(Offence::Oversized, error.to_string()).await),
            }
            if !self.read_more().await? {
                return Ok(None);
            }
        }
    }

    /// Reads what is there; false at the end of the stream.
    async fn read_more(&mut self) -> Result<bool, RequestError> {
        if self.stream.is_none() {
            self.reopen().await?;
        }
        let Some(stream) = self.stream.as_mut() else { return Ok(false) };
        // From when its rest is waited for: a caller that takes its time with the message before costs the peer none.
        if self.decoder.is_inside() {
            self.inside_since.get_or_insert_with(time::Instant::now);
        }
        let read = match self.inside_since {
            None => stream.read(&mut self.scratch).await,
            Some(since) => {
                let allowed = allowance(self.message_timeout, limits::BATCH_MESSAGE_BYTES);
                match time::timeout_at(since + allowed, stream.read(&mut self.scratch)).await {
                    Ok(read) => read,
                    Err(_) => return Err(RequestError::Timeout { what: "rest of a batch", after: allowed }),
                }
            }
        };
        match read {
            Ok(0) if self.begun && !self.decoder.is_inside() => Ok(false),
            Ok(0) => self.ended(&std::io::ErrorKind::UnexpectedEof.into()).await,
            Err(error) => self.ended(&error).await,
            Ok(count) => {
                self.begun = true;
                self.decoder.push(&self.scratch[..count]);
                Ok(true)
            }
        }
    }

    /// A stream that ended before its first byte was dropped unread: another one is tried.
    async fn ended(&mut self, error: &std::io::Error) -> Result<bool, RequestError> {
        let what = "batch";
        let failure = frame::ended(self.decoder.is_inside(), error);
        let again = matches!(failure, FrameError::Ended { started: false, unsupported: false, .. });
        let Some(pause) = self.attempts.next().filter(|_| again && !self.begun) else {
            return Err(request::from_frame(failure, what));
        };
        self.stream = None;
        time::sleep(request::spread(*pause)).await;
        Ok(true)
    }

    async fn reopen(&mut self) -> Result<(), RequestError> {
        let opening = async {
            let mut stream = request::open(&self.opener, self.peer, LEDGER, "batch").await?;
            request::send(&mut stream, &self.request, "batch").await?;
            Ok(stream)
        };
        let after = self.request_timeout;
        let opened = time::timeout(after, opening).await;
        let opened = opened.map_err(|_| RequestError::Timeout { what: "stream", after })?;
        self.stream = Some(opened.map_err(|(_, error)| error)?);
        Ok(())
    }

    async fn open_frame(&mut self, bytes: &[u8]) -> Result<Batch, RequestError> {
        let frame = canonical::decode_lenient("ledger frame", limits::BATCH_MESSAGE_BYTES, bytes);
        match frame.map(|frame: LedgerFrame| frame.body) {
            Ok(Some(ledger_frame::Body::Batch(batch))) => match check_batch(&batch, self.next) {
                Ok(after) => {
                    self.next = after;
                    Ok(batch)
                }
                Err(text) => Err(self.broken(Offence::Malformed, text.to_owned()).await),
            },
            Ok(Some(ledger_frame::Body::Error(error))) => Err(request::refused(&error)),
            Ok(None) => Err(RequestError::Unsupported("ledger frames that this version knows")),
            Err(error) => Err(self.broken(Offence::Malformed, error.to_string()).await),
        }
    }

    async fn broken(&mut self, offence: Offence, text: String) -> RequestError {
        self.stream = None;
        if let Some(commands) = self.commands.upgrade() {
            report(&commands, self.peer, offence).await;
        }
        RequestError::Malformed(text)
    }
}

/// Checks the form of a batch that must start at `first`; gives the index after its last block.
fn check_batch(batch: &Batch, first: u64) -> Result<u64, &'static str> {
    if batch.first != first {
        return Err("a batch that starts elsewhere than the last one ended");
    }
    if batch.blocks.is_empty() || batch.blocks.len() > limits::BATCH_BLOCKS {
        return Err("a batch of no blocks or of too many");
    }
    if batch.blocks.iter().any(|block| block.is_empty() || block.len() > limits::BLOCK_BYTES) {
        return Err("a batch with an empty block or one that is too long");
    }
    if batch.blocks.iter().map(Vec::len).sum::<usize>() > limits::BATCH_BYTES {
        return Err("a batch that is too long");
    }
    if batch.seal.len() > limits::SEAL_BYTES {
        return Err("a seal that is too long");
    }
    first.checked_add(batch.blocks.len() as u64).ok_or("a batch beyond the last index")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_checked_for_form_and_order() {
        let batch = |first, blocks: Vec<Vec<u8>>| Batch { first, blocks, seal: vec![1] };
        assert_eq!(check_batch(&batch(5, vec![vec![1]; 3]), 5), Ok(8));
        assert!(check_batch(&batch(6, vec![vec![1]; 3]), 5).is_err());
        assert!(check_batch(&batch(5, vec![]), 5).is_err());
        assert!(check_batch(&batch(5, vec![vec![]]), 5).is_err());
        assert!(check_batch(&batch(5, vec![vec![1]; limits::BATCH_BLOCKS + 1]), 5).is_err());
        assert!(check_batch(&batch(5, vec![vec![1; limits::BLOCK_BYTES + 1]]), 5).is_err());
        assert!(check_batch(&batch(5, vec![vec![1; limits::BLOCK_BYTES]; 17]), 5).is_err());
        assert!(check_batch(&batch(u64::MAX, vec![vec![1]]), u64::MAX).is_err());
        let seal = Batch { first: 0, blocks: vec![vec![1]], seal: vec![0; limits::SEAL_BYTES + 1] };
        assert!(check_batch(&seal, 0).is_err());
    }

    #[test]
    fn the_largest_batch_fits_its_frame() {
        let block = limits::BATCH_BYTES / limits::BATCH_BLOCKS;
        let batch = Batch {
            first: u64::MAX,
            blocks: vec![vec![1; block]; limits::BATCH_BLOCKS],
            seal: vec![1; limits::SEAL_BYTES],
        };
        let frame = LedgerFrame { body: Some(ledger_frame::Body::Batch(batch)) };
        assert!(frame::encode(&frame).len() <= limits::BATCH_MESSAGE_BYTES + frame::PREFIX_BYTES);
    }
}
