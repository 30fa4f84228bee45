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
    ContentHash, PublicKey, canonical, limits,
    wire::{
        Accepted, AccessToken, AudioRequest, Batch, BatchSeal, Bundle, Kept, LedgerInfo, RegisterReply,
        RegisterRequest, StreamError, StreamErrorCode, register_reply::Body,
    },
};
use bytes::Bytes;
use futures::future::BoxFuture;
use libp2p::PeerId;
use tokio::sync::watch;

use super::orders::{Orders, Verdict};
use crate::{
    library::{Library, Located},
    system::clock,
};

/// The parts of a peer that serve others.
#[derive(Default)]
pub struct Desk {
    ledger: OnceLock<Ledger>,
    library: OnceLock<Arc<Library>>,
    orders: OnceLock<Arc<dyn Orders>>,
    /// Size of the ledger; stays at 0 until there is one.
    size: watch::Sender<u64>,
    /// The newest cosigned checkpoint; empty until there is one.
    checkpoint: watch::Sender<Bytes>,
}

impl Desk {
    /// Starts to serve. Later calls change nothing.
    pub fn open(self: &Arc<Self>, ledger: Ledger, library: Arc<Library>, orders: Arc<dyn Orders>) {
        self.keep_up(&ledger);
        let _ = self.ledger.set(ledger);
        let _ = self.library.set(library);
        let _ = self.orders.set(orders);
    }

    /// Passes on what is new in the ledger, for as long as there is one.
    fn keep_up(self: &Arc<Self>, ledger: &Ledger) {
        self.size.send_replace(ledger.size());
        let (mut grows, mut cosigned) = (ledger.watch(), ledger.watch_checkpoint());
        self.checkpoint.send_replace(ledger.checkpoint().unwrap_or_default().into());
        let size = self.size.clone();
        tokio::spawn(async move {
            while grows.changed().await.is_ok() {
                size.send_replace(*grows.borrow_and_update());
            }
        });
        // Weak: serving alone does not keep the ledger open.
        let desk = Arc::downgrade(self);
        tokio::spawn(async move {
            while cosigned.changed().await.is_ok() {
                let Some(desk) = desk.upgrade() else { return };
                let note = desk.ledger.get().and_then(Ledger::checkpoint).unwrap_or_default();
                desk.checkpoint.send_replace(note.into());
            }
        });
    }
}

impl Desk {
    /// Holds a song's terms against the right that a peer shows.
    fn may_have(&self, content: &ContentHash, peer: PeerId, token: &[u8]) -> Result<(), AudioRefusal> {
        let Some(ledger) = self.ledger.get() else { return Err(AudioRefusal::NotFound) };
        let failed = |error: ReadError| internal(content, &error);
        let Some(entry) = ledger.by_content(content).map_err(failed)? else { return Ok(()) };
        let Some(song) = ledger.song(entry.song_index).map_err(failed)? else { return Ok(()) };
        if song.terms.is_none() {
            return Ok(());
        }
        let forbidden = |detail: String| AudioRefusal::Forbidden { detail };
        let now_ms = clock::now_ms();
        // Without a token nobody asks: the answer says what it costs.
        let nobody = PublicKey([0; 32]);
        let listener = if token.is_empty() {
            nobody
        } else {
            let checked = AccessToken::check(token, &ledger.network(), &peer.to_bytes(), now_ms);
            let (of, listener) = checked.map_err(|error| forbidden(error.to_string()))?;
            if of != entry.song_id {
                return Err(forbidden("the access token is another song's".to_owned()));
            }
            listener
        };
        ledger.may_hear(entry.song_index, &song, &listener, now_ms).map_err(failed)?.map_err(forbidden)
    }
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

    fn index_of(&self, content: &ContentHash) -> Option<u64> {
        self.ledger.get()?.by_content(content).ok().flatten().map(|entry| entry.index)
    }

    fn bundle(&self, index: u64, width: u32) -> Result<Option<Bundle>, SourceError> {
        let (Some(ledger), Ok(short)) = (self.ledger.get(), u16::try_from(width)) else { return Ok(None) };
        let Some(entries) = ledger.bundle(index, short).map_err(unreadable)? else { return Ok(None) };
        let end = index.saturating_mul(limits::TILE_WIDTH.into()).saturating_add(width.into());
        let seals = ledger.bundle_seals(index).map_err(unreadable)?.into_iter();
        let seals = seals.take_while(|(after, _)| *after <= end).map(|(end, seal)| BatchSeal { end, seal });
        Ok(Some(Bundle { entries, seals: seals.collect() }))
    }

    fn tile(&self, level: u32, index: u64, width: u32) -> Result<Option<Vec<u8>>, SourceError> {
        match (self.ledger.get(), u8::try_from(level), u16::try_from(width)) {
            (Some(ledger), Ok(level), Ok(width)) => ledger.tile(level, index, width).map_err(unreadable),
            _ => Ok(None),
        }
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
        Ok(proof.map(|proof| proof.encode()))
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreadable(error: ReadError) -> SourceError {
    SourceError::Internal(error.to_string())
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
                Verdict::Kept => RegisterReply { body: Some(Body::Kept(Kept {})) },
                Verdict::Refused(refused) => RegisterReply { body: Some(Body::Refused(refused)) },
                Verdict::Unavailable(reason) => error(StreamErrorCode::Busy, &reason),
            }
        })
    }
}

impl AudioSource for Desk {
    fn open(&self, peer: PeerId, request: &AudioRequest) -> Result<AudioFile, AudioRefusal> {
        let content = request.content().map_err(|_| AudioRefusal::NotFound)?;
        let library = self.library.get().ok_or(AudioRefusal::NotFound)?;
        self.may_have(&content, peer, &request.access_token)?;
        match library.locate(&content) {
            Ok(Located::Here { path, size, outboard }) => {
                let data = File::open(&path).map_err(|error| internal(&content, &error))?;
                let outboard =
                    outboard.map(File::open).transpose().map_err(|error| internal(&content, &error))?;
                Ok(AudioFile { size, data, outboard })
            }
            Ok(Located::Changed) => {
                tracing::info!(%content, "a file has changed since it was hashed; it is no longer announced");
                library.distrust(&content);
                Err(AudioRefusal::Gone)
            }
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

#[cfg(test)]
mod tests {
    use antiphon_ledger::{Options, SealedBatch, seal::Sealer, tree};
    use antiphon_proto::{
        SecretKey,
        note::{self, Checkpoint, CosignedCheckpoint},
        wire::{Genesis, Registration, Song},
    };

    use super::*;

    #[tokio::test]
    async fn the_log_is_served_as_the_ledger_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let member = SecretKey::from_seed(&[7; 32]);
        let genesis =
            Genesis { stamp_bits: 0, batch_quota: 340, ..Genesis::new("", 1, [0; 16], &[member.public()]) };
        let network = genesis.network_id();
        let sealer = Sealer::new(&genesis, SecretKey::from_seed(&[7; 32])).unwrap();
        let ledger = Ledger::open(directory.path(), Options::without_rule(Some(genesis))).unwrap();
        let content = |index: u64| ContentHash::of(&index.to_le_bytes());
        let song = |index: u64| {
            let mut song = Song {
                registrant: member.public().0.to_vec(),
                title: "title".to_owned(),
                fingerprint: vec![2; 9],
                content_hash: content(index).0.to_vec(),
                bytes: 1_000,
                duration_ms: 60_000,
                created_ms: 1,
                ..Song::default()
            };
            song.sign(&network, &member);
            song
        };
        for first in [0, 100, 200] {
            let songs: Vec<_> =
                (first..first + 100).map(|index| Registration::of_song(song(index))).collect();
            let proposal = ledger.propose(5, &songs).unwrap();
            let seal = sealer.seal(&proposal);
            ledger.append(&SealedBatch { first, blocks: proposal.blocks, seal }).unwrap();
        }
        let desk = Arc::new(Desk::default());
        assert_eq!(desk.bundle(0, 1), Ok(None));
        desk.keep_up(&ledger);
        let _ = desk.ledger.set(ledger.clone());

        let ends = |index, width| {
            let bundle = desk.bundle(index, width).unwrap()?;
            assert_eq!(bundle.check(index * 256, width), Ok(width));
            Some(bundle.seals.iter().map(|seal| seal.end).collect::<Vec<_>>())
        };
        assert_eq!(ends(0, 256), Some(vec![100, 200]));
        assert_eq!(ends(0, 150), Some(vec![100]));
        assert_eq!(ends(0, 200), Some(vec![100, 200]));
        assert_eq!(ends(1, 44), Some(vec![300]));
        assert_eq!(ends(1, 43), Some(vec![]));
        assert_eq!((ends(1, 45), ends(u64::MAX, 1)), (None, None));
        let tile = desk.tile(0, 1, 44).unwrap().unwrap();
        assert_eq!(
            (tile.len(), &tile[..32]),
            (44 * 32, &tree::leaf_hash(&ledger.block(256).unwrap().unwrap())[..])
        );
        assert_eq!(desk.tile(300, 0, 1), Ok(None));

        assert_eq!((desk.checkpoint(), desk.proof(&ProofQuery::Index(5))), (Ok(None), Ok(None)));
        let root = ledger.root_at(300).unwrap().unwrap();
        let checkpoint = Checkpoint { origin: note::origin(&ledger.network()), size: 300, root };
        let mut cosigned = CosignedCheckpoint::new(checkpoint.clone());
        cosigned.log_signatures = vec![(member.public(), checkpoint.log_signature(&member))];
        cosigned.cosignatures = vec![checkpoint.cosign(&member, 1_700_000_000)];
        let mut newest = desk.watch_checkpoint();
        ledger.put_checkpoint(cosigned.encode().as_bytes(), &[member.public()]).unwrap();
        newest.changed().await.unwrap();
        assert_eq!(newest.borrow().to_vec(), ledger.checkpoint().unwrap());
        let proof = ledger.block_proof(5).unwrap().unwrap().encode();
        let of = |query| desk.proof(&query).unwrap();
        assert_eq!(of(ProofQuery::Index(5)), Some(proof.clone()));
        assert_eq!(of(ProofQuery::Song(song(5).id())), Some(proof.clone()));
        assert_eq!(of(ProofQuery::Content(content(5))), Some(proof));
        assert_eq!((of(ProofQuery::Index(300)), of(ProofQuery::Content(content(300)))), (None, None));
    }
}
