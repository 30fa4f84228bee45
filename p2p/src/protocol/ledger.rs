//! `/antiphon/ledger/1`: what network is this, and every batch from a block on, then live.
//!
//! A follower that falls behind is served at its own pace: one batch at a time is read from the store and written to
//! the stream, whose flow control is the only queue. One that takes nothing for [`Timeouts::write`] is dropped.
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
use tokio::{sync::mpsc, time};

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
    streams::{Opener, PeerStream},
    swarm::Command,
};

/// Bytes that a follower reads at once.
const READ_BYTES: usize = 64 * 1024;

/// Answers one stream.
pub(crate) async fn answer(server: &Server, peer: PeerId, stream: &mut PeerStream) -> Result<(), Fault> {
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
        Some(ledger_request::Body::Follow(follow)) => answer_follow(server, peer, stream, &follow).await,
        None => Err(malformed("a ledger request without a body")),
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
    while *next < size {
        let (ledger, first) = (server.services.ledger.clone(), *next);
        match server.blocking(move || ledger.batch_from(first)).await? {
            Ok(Some(batch)) if batch.first == first && !batch.blocks.is_empty() => {
                *next = first.saturating_add(batch.blocks.len() as u64);
                let frame = LedgerFrame { body: Some(ledger_frame::Body::Batch(batch)) };
                server.write(stream, &frame::encode(&frame)).await?;
            }
            // The size ran ahead of the store; it will be announced again.
            Ok(None) => break,
            Ok(Some(_)) => {
                tracing::error!(first, "the ledger gave a batch that starts elsewhere");
                refuse(server, stream, StreamErrorCode::Internal, "the ledger failed").await?;
                return Ok(false);
            }
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
            inside_since: None,
        };
        let opening = time::timeout(timeouts.request, this.reopen()).await;
        opening.map_err(|_| RequestError::Timeout { what: "stream", after: timeouts.request })??;
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
                self.inside_since.get_or_insert_with(time::Instant::now);
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
        let opened = request::open(&self.opener, self.peer, LEDGER, "batch").await;
        let mut stream = opened.map_err(|(_, error)| error)?;
        request::send(&mut stream, &self.request, "batch").await.map_err(|(_, error)| error)?;
        self.stream = Some(stream);
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
            Ok(None) => Err(self.broken(Offence::Malformed, "an empty ledger frame".to_owned()).await),
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
