//! Reading the log: checkpoints, bundles, tiles, proofs; both halves.

use std::time::Duration;

use antiphon_proto::{
    NetworkId, canonical, limits,
    wire::{
        Bundle, BundleRequest, CheckpointRequest, LedgerReply, LedgerRequest, ProofRequest, StreamErrorCode,
        TileRequest, ledger_reply::Body as Reply, ledger_request::Body as Request, proof_request::Query,
    },
};
use libp2p::PeerId;

use super::{is_ours, refuse};
use crate::{
    config::Timeouts,
    error::RequestError,
    protocol::{
        Fault, LEDGER, Server, allowance, frame, malformed,
        request::{self, Question},
    },
    services::{ProofQuery, SourceError},
    streams::{Opener, PeerStream},
};

/// Bytes around the content of a reply that is not a bundle.
const AROUND: usize = 64;

/// Answers one request of these four kinds.
pub(super) async fn answer(
    server: &Server,
    peer: PeerId,
    stream: &mut PeerStream,
    request: &Request,
) -> Result<(), Fault> {
    if let Err(text) = check(request) {
        refuse(server, stream, StreamErrorCode::Malformed, text).await?;
        return Err(malformed(text));
    }
    if !is_ours(server, network_of(request)) {
        return refuse(server, stream, StreamErrorCode::OtherNetwork, "this is another network").await;
    }
    let Some(_place) = server.ledger.readers.take(peer) else {
        return refuse(server, stream, StreamErrorCode::Busy, "too many read already").await;
    };
    let closed = |_| Fault::Internal("the network is shut down".to_owned());
    let long = matches!(request, Request::Bundle(_));
    let _turn = if long { Some(server.ledger.long_messages.acquire().await.map_err(closed)?) } else { None };
    match read(server, request).await? {
        Ok(Some(reply)) => {
            server.write(stream, &reply).await?;
            server.close(stream).await
        }
        Ok(None) | Err(SourceError::NotFound(_)) => {
            refuse(server, stream, StreamErrorCode::NotFound, "this is not here").await
        }
        Err(SourceError::Internal(error)) => {
            tracing::error!(error, "the ledger cannot be read");
            refuse(server, stream, StreamErrorCode::Internal, "the ledger failed").await
        }
    }
}

/// Reads from the store and encodes the reply; only the encoded form stays.
async fn read(server: &Server, request: &Request) -> Result<Result<Option<Vec<u8>>, SourceError>, Fault> {
    let closed = |_| Fault::Internal("the network is shut down".to_owned());
    let _reading = server.ledger.reads.acquire().await.map_err(closed)?;
    let ledger = server.services.ledger.clone();
    let request = request.clone();
    let read = move || {
        let reply = match &request {
            Request::Checkpoint(_) => ledger.checkpoint()?.map(|note| Reply::Checkpoint(note.to_vec())),
            Request::Bundle(asked) => match ledger.bundle(asked.index, asked.width)? {
                Some(bundle) => cut(&bundle, asked)?.map(Reply::Bundle),
                None => None,
            },
            Request::Tile(asked) => ledger.tile(asked.level, asked.index, asked.width)?.map(Reply::Tile),
            Request::Proof(asked) => match query_of(asked) {
                Ok(query) => ledger.proof(&query)?.map(Reply::Proof),
                Err(_) => None,
            },
            Request::Info(_) | Request::Follow(_) => None,
        };
        Ok(reply.map(|body| frame::encode(&LedgerReply { body: Some(body) })))
    };
    server.blocking(read).await
}

/// The part of a bundle that was asked for and fits a message.
fn cut(bundle: &Bundle, asked: &BundleRequest) -> Result<Option<Bundle>, SourceError> {
    let first = asked.index.saturating_mul(u64::from(limits::TILE_WIDTH));
    let broken = |error: String| SourceError::Internal(format!("bundle {}: {error}", asked.index));
    let count = bundle.check(first, asked.width).map_err(|error| broken(error.to_string()))?;
    if count != asked.width {
        return Err(broken(format!("{count} blocks instead of {}", asked.width)));
    }
    bundle.part(first, asked.skip).map_err(|error| broken(error.to_string()))
}

fn network_of(request: &Request) -> &[u8] {
    match request {
        Request::Checkpoint(asked) => &asked.network,
        Request::Bundle(asked) => &asked.network,
        Request::Tile(asked) => &asked.network,
        Request::Proof(asked) => &asked.network,
        Request::Info(_) => &[],
        Request::Follow(asked) => &asked.network,
    }
}

fn check(request: &Request) -> Result<(), &'static str> {
    if network_of(request).len() != 32 {
        return Err("a network id that is not 32 bytes");
    }
    match request {
        Request::Bundle(asked) => {
            check_place(asked.index, asked.width)?;
            if asked.skip < asked.width { Ok(()) } else { Err("a bundle of which everything is there") }
        }
        Request::Tile(asked) => {
            check_place(asked.index, asked.width)?;
            if asked.level <= limits::TILE_LEVEL_MAX { Ok(()) } else { Err("a level above the highest") }
        }
        Request::Proof(asked) => query_of(asked).map(|_| ()),
        Request::Checkpoint(_) | Request::Info(_) | Request::Follow(_) => Ok(()),
    }
}

fn check_place(index: u64, width: u32) -> Result<(), &'static str> {
    if !(1..=limits::TILE_WIDTH).contains(&width) {
        return Err("a width that is not 1 to 256");
    }
    let end = index
        .checked_mul(u64::from(limits::TILE_WIDTH))
        .and_then(|first| first.checked_add(u64::from(width)));
    if end.is_some() { Ok(()) } else { Err("an index beyond the last") }
}

fn query_of(asked: &ProofRequest) -> Result<ProofQuery, &'static str> {
    let length = "an id that is not 32 bytes";
    match &asked.query {
        None => Err("a proof of nothing"),
        Some(Query::Index(index)) => Ok(ProofQuery::Index(*index)),
        Some(Query::SongId(id)) => id[..].try_into().map(ProofQuery::Song).map_err(|_| length),
        Some(Query::ContentHash(hash)) => hash[..].try_into().map(ProofQuery::Content).map_err(|_| length),
    }
}

/// Whom to ask, and about which network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading<'a> {
    pub(crate) opener: &'a Opener,
    pub(crate) timeouts: &'a Timeouts,
    pub(crate) peer: PeerId,
    pub(crate) network: NetworkId,
}

impl Reading<'_> {
    async fn ask(&self, body: Request, what: &'static str, limit: usize) -> Result<Reply, RequestError> {
        check(&body).map_err(|text| RequestError::Invalid(text.to_owned()))?;
        let question = Question {
            peer: self.peer,
            protocol: LEDGER,
            request: &frame::encode(&LedgerRequest { body: Some(body) }),
            what,
            reply_limit: limit,
            timeout: self.timeout(limit),
        };
        let (_, reply) = request::ask(self.opener, &question).await?;
        let reply: LedgerReply = canonical::decode_lenient("ledger reply", limit, &reply)
            .map_err(|error| RequestError::Malformed(error.to_string()))?;
        match reply.body {
            Some(Reply::Error(error)) => Err(request::refused(&error)),
            Some(body) => Ok(body),
            None => Err(RequestError::Unsupported("ledger replies that this version knows")),
        }
    }

    fn timeout(&self, limit: usize) -> Duration {
        allowance(self.timeouts.request, limit)
    }
}

fn another() -> RequestError {
    RequestError::Malformed("an answer to another question".to_owned())
}

fn bounded(bytes: Vec<u8>, limit: usize) -> Result<Vec<u8>, RequestError> {
    if (1..=limit).contains(&bytes.len()) {
        return Ok(bytes);
    }
    Err(RequestError::Malformed(format!("{} bytes where 1 to {limit} are allowed", bytes.len())))
}

/// Asks for the newest cosigned checkpoint.
pub(crate) async fn ask_checkpoint(reading: Reading<'_>) -> Result<Vec<u8>, RequestError> {
    let request = CheckpointRequest { network: reading.network.0.to_vec() };
    let limit = limits::CHECKPOINT_BYTES + AROUND;
    match reading.ask(Request::Checkpoint(request), "checkpoint", limit).await? {
        Reply::Checkpoint(note) => bounded(note, limits::CHECKPOINT_BYTES),
        _ => Err(another()),
    }
}

/// Asks for the first `width` blocks of a bundle, in as many messages as it takes.
pub(crate) async fn ask_bundle(reading: Reading<'_>, index: u64, width: u32) -> Result<Bundle, RequestError> {
    let mut whole = Bundle::default();
    let mut skip = 0;
    loop {
        let network = reading.network.0.to_vec();
        let request = Request::Bundle(BundleRequest { network, index, width, skip });
        let Reply::Bundle(part) = reading.ask(request, "bundle", limits::BUNDLE_MESSAGE_BYTES).await? else {
            return Err(another());
        };
        // What was asked for passed the check of indexes.
        let first = index.saturating_mul(u64::from(limits::TILE_WIDTH)).saturating_add(u64::from(skip));
        let count = part.check(first, width - skip);
        skip += count.map_err(|error| RequestError::Malformed(error.to_string()))?;
        whole.append(part);
        if skip >= width {
            return Ok(whole);
        }
    }
}

/// Asks for the first `width` hashes of a tile.
pub(crate) async fn ask_tile(
    reading: Reading<'_>,
    level: u32,
    index: u64,
    width: u32,
) -> Result<Vec<u8>, RequestError> {
    let request = TileRequest { network: reading.network.0.to_vec(), level, index, width };
    let limit = 32 * limits::TILE_WIDTH as usize + AROUND;
    match reading.ask(Request::Tile(request), "tile", limit).await? {
        Reply::Tile(hashes) if hashes.len() == 32 * width as usize => Ok(hashes),
        Reply::Tile(hashes) => {
            Err(RequestError::Malformed(format!("a tile of {} bytes for {width} hashes", hashes.len())))
        }
        _ => Err(another()),
    }
}

/// Asks for a block and its proof.
pub(crate) async fn ask_proof(reading: Reading<'_>, query: &ProofQuery) -> Result<Vec<u8>, RequestError> {
    let query = match query {
        ProofQuery::Index(index) => Query::Index(*index),
        ProofQuery::Song(id) => Query::SongId(id.0.to_vec()),
        ProofQuery::Content(hash) => Query::ContentHash(hash.0.to_vec()),
    };
    let request = ProofRequest { network: reading.network.0.to_vec(), query: Some(query) };
    match reading.ask(Request::Proof(request), "proof", limits::LOG_PROOF_BYTES + AROUND).await? {
        Reply::Proof(proof) => bounded(proof, limits::LOG_PROOF_BYTES),
        _ => Err(another()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_checked() {
        let network = vec![1; 32];
        let bundle = |index, width, skip| {
            check(&Request::Bundle(BundleRequest { network: network.clone(), index, width, skip }))
        };
        assert_eq!(bundle(0, 256, 255), Ok(()));
        assert_eq!(bundle(u64::MAX / 256, 255, 0), Ok(()));
        for (index, width, skip) in
            [(0, 0, 0), (0, 257, 0), (0, 1, 1), (u64::MAX / 256, 256, 0), (u64::MAX, 1, 0)]
        {
            assert!(bundle(index, width, skip).is_err(), "{index} {width} {skip}");
        }
        let tile = |level| {
            check(&Request::Tile(TileRequest { network: network.clone(), level, index: 0, width: 1 }))
        };
        assert!(tile(63).is_ok() && tile(64).is_err());
        let proof = |query| check(&Request::Proof(ProofRequest { network: network.clone(), query }));
        assert!(proof(Some(Query::Index(u64::MAX))).is_ok());
        assert!(proof(Some(Query::SongId(vec![1; 31]))).is_err());
        assert!(proof(Some(Query::ContentHash(vec![]))).is_err());
        assert!(proof(None).is_err());
        assert!(check(&Request::Checkpoint(CheckpointRequest { network: vec![1; 31] })).is_err());
    }
}
