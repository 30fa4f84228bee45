//! Following another peer's ledger.

use std::time::Duration;

use antiphon_proto::{
    NetworkId, canonical, limits,
    wire::{Batch, FollowRequest, LedgerFrame, LedgerRequest, ledger_frame, ledger_request},
};
use futures::AsyncReadExt;
use libp2p::PeerId;
use tokio::{sync::mpsc, time};

use crate::{
    config::Timeouts,
    error::RequestError,
    protocol::{
        LEDGER, allowance,
        frame::{self, FrameDecoder, FrameError},
        report,
        request::{self, RETRY_PAUSES},
    },
    score::Offence,
    streams::{Opener, PeerStream},
    swarm::Command,
};

/// Bytes that a follower reads at once.
const READ_BYTES: usize = 64 * 1024;
/// A stream is opened anew over a better connection at most this often; and a message that has begun is given so long to
/// come to its end before.
const MOVE_EVERY: Duration = Duration::from_secs(1);

/// What a followed peer sends.
#[derive(Debug, Clone, PartialEq)]
pub enum Followed {
    /// The next batch.
    Batch(Batch),
    /// A cosigned checkpoint, a C2SP signed note. It may reach beyond the batches that have come.
    Checkpoint(Vec<u8>),
}

/// The batches of another peer's ledger, in order. Nothing in them is verified but their form and their order.
#[derive(Debug)]
pub struct FollowStream {
    peer: PeerId,
    network: NetworkId,
    opener: Opener,
    /// Weak: following alone does not keep the network alive.
    commands: mpsc::WeakSender<Command>,
    stream: Option<PeerStream>,
    opened_at: time::Instant,
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
        let mut this = Self {
            peer,
            network,
            opener: opener.clone(),
            commands: commands.downgrade(),
            stream: None,
            opened_at: time::Instant::now(),
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

    /// The next batch or checkpoint; waits for as long as the ledger does not grow. None when the peer ends the stream in order.
    /// Can be dropped at any time and called again, nothing is lost.
    ///
    /// # Errors
    /// [`RequestError`]; the stream is then of no more use, and following starts again at [`Self::position`].
    pub async fn next(&mut self) -> Result<Option<Followed>, RequestError> {
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
        let superseded = stream.superseded();
        let stays_until = self.inside_since.map_or(self.opened_at, |since| since.max(self.opened_at));
        let allowed = allowance(self.message_timeout, limits::BATCH_MESSAGE_BYTES);
        let ends_at = self.inside_since.map(|since| since + allowed);
        let read = tokio::select! {
            biased;
            // First, or a stream that always has something would never move.
            () = moves(superseded, stays_until + MOVE_EVERY) => {
                tracing::debug!(peer = %self.peer, "following over a better connection");
                (self.stream, self.attempts) = (None, RETRY_PAUSES.iter());
                return Ok(true);
            }
            read = stream.read(&mut self.scratch) => read,
            () = passes(ends_at) => {
                return Err(RequestError::Timeout { what: "rest of a batch", after: allowed });
            }
        };
        if self.begun && !matches!(read, Ok(1..)) && stream.lost_connection().await {
            // There may be another connection; if not, opening a stream says so.
            self.stream = None;
            return Ok(true);
        }
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

    /// Begins a stream where the last one ended; what had come of a message is asked for again.
    async fn reopen(&mut self) -> Result<(), RequestError> {
        let follow = FollowRequest { network: self.network.0.to_vec(), from: self.next };
        let request = frame::encode(&LedgerRequest { body: Some(ledger_request::Body::Follow(follow)) });
        self.decoder = FrameDecoder::new(limits::BATCH_MESSAGE_BYTES);
        (self.begun, self.inside_since) = (false, None);
        let opening = async {
            let mut stream = request::open(&self.opener, self.peer, LEDGER, "batch").await?;
            request::send(&mut stream, &request, "batch").await?;
            Ok(stream)
        };
        let after = self.request_timeout;
        let opened = time::timeout(after, opening).await;
        let opened = opened.map_err(|_| RequestError::Timeout { what: "stream", after })?;
        self.stream = Some(opened.map_err(|(_, error)| error)?);
        self.opened_at = time::Instant::now();
        Ok(())
    }

    async fn open_frame(&mut self, bytes: &[u8]) -> Result<Followed, RequestError> {
        let frame = canonical::decode_lenient("ledger frame", limits::BATCH_MESSAGE_BYTES, bytes);
        match frame.map(|frame: LedgerFrame| frame.body) {
            Ok(Some(ledger_frame::Body::Batch(batch))) => match check_batch(&batch, self.next) {
                Ok(after) => {
                    self.next = after;
                    Ok(Followed::Batch(batch))
                }
                Err(text) => Err(self.broken(Offence::Malformed, text.to_owned()).await),
            },
            Ok(Some(ledger_frame::Body::Checkpoint(note))) => {
                if !note.is_empty() && note.len() <= limits::CHECKPOINT_BYTES {
                    return Ok(Followed::Checkpoint(note));
                }
                let text = format!("a checkpoint of {} bytes", note.len());
                Err(self.broken(Offence::Malformed, text).await)
            }
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

/// Waits until a better connection is to be used.
async fn moves(superseded: impl Future<Output = ()>, stays_until: time::Instant) {
    superseded.await;
    time::sleep_until(stays_until).await;
}

/// Waits until then, if there is such a time.
async fn passes(at: Option<time::Instant>) {
    match at {
        Some(at) => time::sleep_until(at).await,
        None => std::future::pending().await,
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
