//! `/antiphon/ledger/1`: what network is this, every batch from a block on, then live; and reading the log: its newest
//! checkpoint, bundles of blocks, tiles of hashes, and proofs.
//!
//! **Participants.** Whoever has a part of the ledger answers; whoever lacks it asks. A stream carries one request.
//!
//! **Requests.** `info` is answered by one `LedgerInfo`. `follow` is answered by `LedgerFrame`s for as long as the stream
//! is open: batches in order, and cosigned checkpoints as they are made. `checkpoint`, `bundle`, `tile` and `proof` are
//! answered by one `LedgerReply`, with the formats of C2SP inside. What is not there is answered NOT_FOUND.
//!
//! **Goals.** Memory that does not grow with the number or the patience of those who ask: see [`Places`]. Answers of a
//! right form: what breaks it costs the sender score.
//!
//! **Non-goals.** Nothing that comes is verified here: that takes the council's keys, which the ledger knows.

mod follow;
mod read;
mod serve;

use antiphon_proto::{
    canonical, limits,
    wire::{
        LedgerFrame, LedgerInfo, LedgerInfoRequest, LedgerRequest, StreamErrorCode, ledger_frame,
        ledger_request,
    },
};
use libp2p::PeerId;
use tokio::sync::Semaphore;

use super::{
    Fault, LEDGER, Server, frame, malformed,
    request::{self, Question},
};
use crate::{
    config::Timeouts,
    error::RequestError,
    slots::{Slot, Slots},
    streams::{Opener, PeerStream},
};

pub use follow::{FollowStream, Followed};
pub(crate) use read::{Reading, ask_bundle, ask_checkpoint, ask_proof, ask_tile};

/// Followers served at once. They stay for hours, so they have places of their own: however many there are, requests
/// find theirs.
const FOLLOWERS: usize = 128;
/// Followers of one peer: the one that is served, and one whose end has not been noticed.
const FOLLOWERS_PER_PEER: usize = 2;
/// Requests to read the log that are answered at once. More are answered "busy".
const READERS: usize = 64;
/// The same of one peer: one that catches up asks for a few bundles at a time.
const READERS_PER_PEER: usize = 8;
/// Batches and the like that are read from the store and encoded at once: a batch is at most 1 MiB, twice, a bundle
/// 18 MiB in the worst case.
const READS: usize = 4;
/// Long batches and bundles that are on their way at once: 16 and 32 MiB. Others wait, and read theirs when it is their
/// turn.
const LONG_MESSAGES: usize = 16;

/// What bounds the answers to all peers together.
pub(crate) struct Places {
    followers: Slots,
    readers: Slots,
    reads: Semaphore,
    long_messages: Semaphore,
}

impl Places {
    pub(crate) fn new() -> Self {
        Self {
            followers: Slots::new(FOLLOWERS, FOLLOWERS_PER_PEER),
            readers: Slots::new(READERS, READERS_PER_PEER),
            reads: Semaphore::new(READS),
            long_messages: Semaphore::new(LONG_MESSAGES),
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
            let Some(_place) = server.ledger.followers.take(peer) else {
                return refuse(server, stream, StreamErrorCode::Busy, "too many follow already").await;
            };
            *general = None;
            serve::answer(server, peer, stream, &follow).await
        }
        Some(reading) => read::answer(server, peer, stream, &reading).await,
        // What a later version may ask for is no offence.
        None => {
            let detail = "this version does not know such a request";
            refuse(server, stream, StreamErrorCode::Malformed, detail).await
        }
    }
}

/// Whether the request is for the network that this peer is of.
fn is_ours(server: &Server, network: &[u8]) -> bool {
    let ours = blake3::hash(&server.services.ledger.info().genesis);
    network == &ours.as_bytes()[..]
}

async fn refuse(
    server: &Server,
    stream: &mut PeerStream,
    code: StreamErrorCode,
    detail: &str,
) -> Result<(), Fault> {
    // A LedgerReply says no in the same bytes.
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
