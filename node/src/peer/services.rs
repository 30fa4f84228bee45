//! What other peers may ask of this one: ledger batches, registration, audio.
//!
//! The network is up before the ledger is known (a newcomer learns it from its first peer), so each part is filled in
//! once, when it is there; until then the answer is "not yet".

use std::{
    fs::File,
    sync::{Arc, OnceLock},
};

use antiphon_ledger::{Ledger, ReadError};
use antiphon_p2p::{AudioFile, AudioRefusal, AudioSource, LedgerSource, ProofQuery, Registrar, SourceError};
use antiphon_proto::{
    ContentHash, canonical, limits,
    wire::{
        Accepted, AudioRequest, Batch, BatchSeal, Bundle, LedgerInfo, RegisterReply, RegisterRequest,
        StreamError, StreamErrorCode, register_reply::Body,
    },
};
use bytes::Bytes;
use futures::future::BoxFuture;
use libp2p::PeerId;
use tokio::sync::watch;

use super::orders::{Orders, Verdict};
use crate::library::{Library, Located};

/// The parts of a peer that serve others.
#[derive(Default)]
pub struct Desk {
    ledger: OnceLock<Ledger>,
    library: OnceLock<Arc<Library>>,
    orders: OnceLock<Arc<dyn Orders>>,
    /// Size of the ledger; stays at 0 until there is one.
    size: watch::Sender<u64>,
    /// The newest cosigned checkpoint; stays empty until there is one.
    checkpoint: watch::Sender<Bytes>,
}

impl Desk {
    /// Starts to serve. Later calls change nothing.
    pub fn open(self: &Arc<Self>, ledger: Ledger, library: Arc<Library>, orders: Arc<dyn Orders>) {
        self.size.send_replace(ledger.size());
        let mut grows = ledger.watch();
        let size = self.size.clone();
        self.tell_checkpoints(&ledger);
        let _ = self.ledger.set(ledger);
        let _ = self.library.set(library);
        let _ = self.orders.set(orders);
        tokio::spawn(async move {
            // Ends with the ledger.
            while grows.changed().await.is_ok() {
                size.send_replace(*grows.borrow_and_update());
            }
        });
    }

    fn tell_checkpoints(self: &Arc<Self>, ledger: &Ledger) {
        let newest = |ledger: &Ledger| Bytes::from(ledger.checkpoint().unwrap_or_default());
        let mut newer = ledger.watch_checkpoint();
        self.checkpoint.send_replace(newest(ledger));
        // Whoever held the ledger itself here would keep it open for ever.
        let desk = Arc::downgrade(self);
        tokio::spawn(async move {
            while newer.changed().await.is_ok() {
                let Some(desk) = desk.upgrade() else { return };
                if let Some(ledger) = desk.ledger.get() {
                    desk.checkpoint.send_replace(newest(ledger));
                }
            }
        });
    }
}

fn unreadable(error: ReadError) -> SourceError {
    SourceError::Internal(error.to_string())
}

fn error(code: StreamErrorCode, detail: &str) -> RegisterReply {
    let detail = detail.chars().take(limits::DETAIL_BYTES / 4).collect();
    RegisterReply { body: Some(Body::Unavailable(StreamError { code: code.into(), detail })) }
}

impl LedgerSource for Desk {
    fn info(&self) -> LedgerInfo {
        self.ledger.get().map_or_else(LedgerInfo::default, |ledger| LedgerInfo {
            genesis: canonical::encode(ledger.genesis()),
            size: ledger.size(),
            seal: ledger.last_seal().unwrap_or_default(),
        })
    }

    fn batch_from(&self, first: u64) -> Result<Option<Batch>, SourceError> {
        let Some(ledger) = self.ledger.get() else { return Ok(None) };
        let batch = ledger.batch_from(first).map_err(unreadable)?;
        Ok(batch.map(|batch| Batch { first: batch.first, blocks: batch.blocks, seal: batch.seal }))
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.size.subscribe()
    }

    fn watch_checkpoint(&self) -> watch::Receiver<Bytes> {
        self.checkpoint.subscribe()
    }

    fn bundle(&self, index: u64, width: u32) -> Result<Option<Bundle>, SourceError> {
        let (Some(ledger), Ok(narrow)) = (self.ledger.get(), u16::try_from(width)) else { return Ok(None) };
        let Some(entries) = ledger.bundle(index, narrow).map_err(unreadable)? else { return Ok(None) };
        let end = index.saturating_mul(u64::from(limits::TILE_WIDTH)).saturating_add(width.into());
        let seals = ledger.bundle_seals(index).map_err(unreadable)?;
        let seals = seals.into_iter().filter(|(at, _)| *at <= end);
        Ok(Some(Bundle { entries, seals: seals.map(|(end, seal)| BatchSeal { end, seal }).collect() }))
    }

    fn tile(&self, level: u32, index: u64, width: u32) -> Result<Option<Vec<u8>>, SourceError> {
        let (Some(ledger), Ok(level), Ok(width)) =
            (self.ledger.get(), u8::try_from(level), u16::try_from(width))
        else {
            return Ok(None);
        };
        ledger.tile(level, index, width).map_err(unreadable)
    }

    fn proof(&self, query: &ProofQuery) -> Result<Option<Vec<u8>>, SourceError> {
        let Some(ledger) = self.ledger.get() else { return Ok(None) };
        let index = match query {
            ProofQuery::Index(index) => Some(*index),
            ProofQuery::Song(id) => ledger.by_song_id(id).map_err(unreadable)?,
            ProofQuery::Content(hash) => {
                ledger.by_content(hash).map_err(unreadable)?.map(|entry| entry.index)
            }
        };
        let Some(index) = index else { return Ok(None) };
        let proof = ledger.block_proof(index).map_err(unreadable)?;
        Ok(proof.map(|proof| proof.encode()).filter(|text| text.len() <= limits::PROOF_BYTES))
    }
}

impl Registrar for Desk {
    fn register(&self, from: PeerId, request: RegisterRequest) -> BoxFuture<'static, RegisterReply> {
        let (Some(ledger), Some(orders)) = (self.ledger.get(), self.orders.get()) else {
            return Box::pin(async { error(StreamErrorCode::Busy, "this peer has no ledger yet") });
        };
        let network = ledger.network();
        if request.network != network.0 {
            return Box::pin(async {
                error(StreamErrorCode::OtherNetwork, "this peer is of another network")
            });
        }
        let Some(registration) = request.registration else {
            return Box::pin(async { error(StreamErrorCode::Malformed, "the registration is missing") });
        };
        if request.hops >= limits::REGISTER_HOPS {
            return Box::pin(async { error(StreamErrorCode::Malformed, "passed on too often") });
        }
        tracing::debug!(%from, hops = request.hops, "a registration");
        let answer = orders.submit(registration, request.hops);
        Box::pin(async move {
            match answer.await {
                Verdict::Accepted { index, height } => {
                    RegisterReply { body: Some(Body::Accepted(Accepted { index, height })) }
                }
                Verdict::Refused(refused) => RegisterReply { body: Some(Body::Refused(refused)) },
                Verdict::Unavailable(reason) => error(StreamErrorCode::Busy, &reason),
            }
        })
    }
}

impl AudioSource for Desk {
    fn open(&self, _peer: PeerId, request: &AudioRequest) -> Result<AudioFile, AudioRefusal> {
        let content = request.content().map_err(|_| AudioRefusal::NotFound)?;
        let library = self.library.get().ok_or(AudioRefusal::NotFound)?;
        match library.locate(&content) {
            Ok(Located::Here { path, size, outboard }) => {
                let data = File::open(&path).map_err(|error| internal(&content, &error))?;
                let outboard =
                    outboard.map(File::open).transpose().map_err(|error| internal(&content, &error))?;
                Ok(AudioFile { size, data, outboard })
            }
            Ok(Located::Changed) => Err(AudioRefusal::Gone),
            Ok(Located::Unknown) => Err(AudioRefusal::NotFound),
            Err(error) => Err(internal(&content, &error)),
        }
    }

    fn failed(&self, content: ContentHash) {
        tracing::warn!(%content, "a file is not what it was when it was hashed; it is no longer served");
        if let Some(library) = self.library.get() {
            library.distrust(&content);
        }
    }
}

fn internal(content: &ContentHash, error: &dyn std::fmt::Display) -> AudioRefusal {
    tracing::warn!(%content, %error, "cannot serve");
    AudioRefusal::Internal
}
