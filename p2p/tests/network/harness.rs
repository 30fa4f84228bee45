//! Peers with an in-memory ledger and a library in a temporary folder.

use std::{
    collections::HashMap,
    fs::File,
    future::Future,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use antiphon_p2p::libp2p::multiaddr::Protocol;
use antiphon_p2p::{
    AudioFile, AudioRefusal, AudioSource, Config, Downloaded, Event, Fetch, FetchError, FetchProgress,
    Hearing, LedgerSource, Multiaddr, Network, PeerId, PlayRefused, ProofQuery, Registrar, Services,
    SourceError, Timeouts, Witness, outboard,
};
use antiphon_proto::{
    ContentHash, NetworkId, PublicKey, SecretKey,
    wire::{
        Accepted, AudioMode, AudioRequest, Batch, BatchSeal, Bundle, LedgerInfo, PlayRefusalCode, PlayStart,
        Receipt, RegisterReply, RegisterRequest, register_reply,
    },
};
use bytes::Bytes;
use futures::future::BoxFuture;
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

use crate::relay::{Path, Relay};

pub(crate) const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
pub(crate) const TCP: &str = "/ip4/127.0.0.1/tcp/0";
/// Far beyond what anything here takes; a hang becomes a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// The ledger.
#[derive(Debug)]
pub(crate) struct MemoryLedger {
    genesis: Vec<u8>,
    batches: Mutex<Vec<Batch>>,
    size: watch::Sender<u64>,
    checkpoint: watch::Sender<Bytes>,
    contents: Mutex<HashMap<ContentHash, u64>>,
}

impl MemoryLedger {
    pub(crate) fn new(genesis: &[u8]) -> Self {
        Self {
            genesis: genesis.to_vec(),
            batches: Mutex::default(),
            size: watch::channel(0).0,
            checkpoint: watch::channel(Bytes::new()).0,
            contents: Mutex::default(),
        }
    }

    pub(crate) fn network(&self) -> NetworkId {
        NetworkId(*blake3::hash(&self.genesis).as_bytes())
    }

    /// Adds a batch of so many blocks.
    pub(crate) fn push(&self, blocks: u64, block_bytes: usize) -> Batch {
        let first = *self.size.borrow();
        let block = |index: u64| {
            let mut bytes = vec![0xb1; block_bytes.max(8)];
            bytes[..8].copy_from_slice(&index.to_le_bytes());
            bytes
        };
        let batch = Batch { first, blocks: (first..first + blocks).map(block).collect(), seal: vec![5; 100] };
        self.batches.lock().unwrap().push(batch.clone());
        self.size.send_replace(first + blocks);
        batch
    }

    /// Notes the block that registers a content.
    pub(crate) fn register(&self, content: ContentHash, index: u64) {
        self.contents.lock().unwrap().insert(content, index);
    }

    /// Makes this the newest checkpoint.
    pub(crate) fn cosign(&self, note: &'static str) {
        self.checkpoint.send_replace(Bytes::from_static(note.as_bytes()));
    }

    /// Blocks `first` to `end` and the seals of the batches that end there, as a bundle.
    pub(crate) fn blocks(&self, first: u64, end: u64) -> Bundle {
        let mut bundle = Bundle::default();
        for batch in self.batches() {
            for (index, block) in (batch.first..).zip(&batch.blocks) {
                if (first..end).contains(&index) {
                    assert!(bundle.push_block(block));
                }
            }
            let after = batch.first + batch.blocks.len() as u64;
            if after > first && after <= end {
                bundle.seals.push(BatchSeal { end: after, seal: batch.seal });
            }
        }
        bundle
    }

    pub(crate) fn batches(&self) -> Vec<Batch> {
        self.batches.lock().unwrap().clone()
    }
}

impl LedgerSource for MemoryLedger {
    fn info(&self) -> LedgerInfo {
        LedgerInfo { genesis: self.genesis.clone(), size: *self.size.borrow(), seal: vec![5; 100] }
    }

    fn batch_from(&self, first: u64) -> Result<Option<Batch>, SourceError> {
        let batches = self.batches.lock().unwrap();
        match batches.binary_search_by_key(&first, |batch| batch.first) {
            Ok(position) => Ok(Some(batches[position].clone())),
            Err(_) if first == *self.size.borrow() => Ok(None),
            Err(_) => Err(SourceError::NotFound(first)),
        }
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.size.subscribe()
    }

    fn index_of(&self, content: &ContentHash) -> Option<u64> {
        self.contents.lock().unwrap().get(content).copied()
    }

    fn watch_checkpoint(&self) -> watch::Receiver<Bytes> {
        self.checkpoint.subscribe()
    }

    fn bundle(&self, index: u64, width: u32) -> Result<Option<Bundle>, SourceError> {
        let (first, end) = (index * 256, index * 256 + u64::from(width));
        Ok((end <= *self.size.borrow()).then(|| self.blocks(first, end)))
    }

    fn tile(&self, level: u32, index: u64, width: u32) -> Result<Option<Vec<u8>>, SourceError> {
        let hash = [u8::try_from(level).unwrap(); 32];
        Ok((index == 0).then(|| hash.repeat(width as usize)))
    }

    fn proof(&self, query: &ProofQuery) -> Result<Option<Vec<u8>>, SourceError> {
        match query {
            ProofQuery::Index(index) if index >= &*self.size.borrow() => Ok(None),
            ProofQuery::Content(_) => Err(SourceError::Internal("broken".to_owned())),
            query => Ok(Some(format!("{query:?}").into_bytes())),
        }
    }
}

/// Accepts everything, and remembers it.
#[derive(Debug, Default)]
pub(crate) struct Notary {
    pub(crate) seen: Arc<Mutex<Vec<(PeerId, RegisterRequest)>>>,
}

impl Registrar for Notary {
    fn register(&self, from: PeerId, request: RegisterRequest) -> BoxFuture<'static, RegisterReply> {
        let seen = self.seen.clone();
        Box::pin(async move {
            let mut seen = seen.lock().unwrap();
            seen.push((from, request));
            let accepted = Accepted { index: seen.len() as u64, height: 7 };
            RegisterReply { body: Some(register_reply::Body::Accepted(accepted)) }
        })
    }
}

/// Witnesses plays of one song, and remembers the receipts.
pub(crate) struct Scribe {
    key: SecretKey,
    network: NetworkId,
    /// None: it witnesses nothing.
    pub(crate) hearing: Mutex<Option<Hearing>>,
    pub(crate) done: Mutex<Vec<Receipt>>,
}

impl Scribe {
    fn new(seed: &[u8; 32], network: NetworkId) -> Self {
        let key = SecretKey::from_seed(blake3::hash(seed).as_bytes());
        Self { key, network, hearing: Mutex::default(), done: Mutex::default() }
    }
}

impl Witness for Scribe {
    fn wallet(&self) -> Option<PublicKey> {
        Some(self.key.public())
    }

    fn network(&self) -> Option<NetworkId> {
        Some(self.network)
    }

    fn begin(&self, _: PeerId, _: &PlayStart) -> Result<Hearing, PlayRefused> {
        let unknown = || PlayRefused::new(PlayRefusalCode::UnknownSong, "no such song");
        self.hearing.lock().unwrap().ok_or_else(unknown)
    }

    fn sign(&self, message: &[u8]) -> Option<[u8; 64]> {
        Some(self.key.sign(message))
    }

    fn done(&self, receipt: Receipt) {
        self.done.lock().unwrap().push(receipt);
    }
}

/// The files.
#[derive(Debug)]
pub(crate) struct Library {
    folder: TempDir,
    files: Mutex<HashMap<ContentHash, (PathBuf, u64)>>,
    pub(crate) requests: Mutex<Vec<AudioRequest>>,
    pub(crate) failed: Mutex<Vec<ContentHash>>,
    /// The right to hear that is asked for; none: everybody may.
    pub(crate) right: Mutex<Option<Vec<u8>>>,
}

impl Library {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            folder,
            files: Mutex::default(),
            requests: Mutex::default(),
            failed: Mutex::default(),
            right: Mutex::default(),
        }
    }

    /// Puts a file in.
    pub(crate) fn add(&self, bytes: &[u8]) -> ContentHash {
        let content = ContentHash::of(bytes);
        let path = self.folder.path().join(content.to_string());
        std::fs::write(&path, bytes).unwrap();
        let made = outboard::create_file(&path, &with_obao(&path)).unwrap();
        assert_eq!(made, (content, bytes.len() as u64));
        self.files.lock().unwrap().insert(content, (path, bytes.len() as u64));
        content
    }

    pub(crate) fn path(&self, content: &ContentHash) -> PathBuf {
        self.files.lock().unwrap()[content].0.clone()
    }

    /// Bytes of all ranges that were asked for.
    pub(crate) fn asked_bytes(&self) -> u64 {
        let requests = self.requests.lock().unwrap();
        requests.iter().flat_map(|request| &request.ranges).map(|range| range.end - range.start).sum()
    }
}

fn with_obao(path: &std::path::Path) -> PathBuf {
    path.with_extension("obao")
}

impl AudioSource for Library {
    fn open(&self, _: PeerId, request: &AudioRequest) -> Result<AudioFile, AudioRefusal> {
        self.requests.lock().unwrap().push(request.clone());
        let content = request.content().unwrap();
        if self.failed.lock().unwrap().contains(&content) {
            return Err(AudioRefusal::Gone);
        }
        if self.right.lock().unwrap().as_ref().is_some_and(|right| *right != request.access_token) {
            return Err(AudioRefusal::Forbidden { detail: "buy it first".to_owned() });
        }
        let (path, size) = self.files.lock().unwrap().get(&content).cloned().ok_or(AudioRefusal::NotFound)?;
        let data = File::open(&path).map_err(|_| AudioRefusal::Gone)?;
        let outboard = (size > 16_384).then(|| File::open(with_obao(&path)).unwrap());
        Ok(AudioFile { size, data, outboard })
    }

    fn failed(&self, content: ContentHash) {
        self.failed.lock().unwrap().push(content);
    }
}

/// A peer and what it serves.
pub(crate) struct Peer {
    pub(crate) network: Network,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) ledger: Arc<MemoryLedger>,
    pub(crate) notary: Arc<Notary>,
    pub(crate) library: Arc<Library>,
    pub(crate) scribe: Arc<Scribe>,
    pub(crate) registry: Registry,
}

/// Deadlines that are soon over where a test waits for them, and far away elsewhere.
pub(crate) fn config(listen: &[&str]) -> Config {
    Config {
        listen: listen.iter().map(|address| address.parse().unwrap()).collect(),
        timeouts: Timeouts { request: Duration::from_secs(20), ..Timeouts::default() },
        ..Config::default()
    }
}

pub(crate) async fn peer(listen: &[&str]) -> Peer {
    start(config(listen), rand::random()).await
}

pub(crate) async fn start(config: Config, seed: [u8; 32]) -> Peer {
    try_start(config, seed).await.unwrap()
}

pub(crate) async fn try_start(config: Config, seed: [u8; 32]) -> Result<Peer, antiphon_p2p::StartError> {
    let ledger = Arc::new(MemoryLedger::new(b"a genesis document"));
    let notary = Arc::new(Notary::default());
    let library = Arc::new(Library::new());
    let scribe = Arc::new(Scribe::new(&seed, ledger.network()));
    let services = Services {
        ledger: ledger.clone(),
        registrar: notary.clone(),
        audio: library.clone(),
        witness: scribe.clone(),
    };
    let mut registry = Registry::default();
    let (network, events) = Box::pin(Network::start(config, &seed, services, &mut registry)).await?;
    Ok(Peer { network, events, ledger, notary, library, scribe, registry })
}

impl Peer {
    pub(crate) fn id(&self) -> PeerId {
        self.network.local_peer_id()
    }

    pub(crate) async fn address(&self) -> Multiaddr {
        self.network.listen_addrs().await[0].clone()
    }

    /// Connects to another peer.
    pub(crate) async fn join(&self, other: &Self) -> PeerId {
        let connected = self.network.connect(other.address().await).await.unwrap();
        assert_eq!(connected, other.id());
        connected
    }

    /// Waits for an event that fits, and skips the others.
    pub(crate) async fn event<T>(&mut self, mut fits: impl FnMut(&Event) -> Option<T>) -> T {
        within(async {
            loop {
                let event = self.events.recv().await.expect("the network has ended");
                if let Some(found) = fits(&event) {
                    return found;
                }
            }
        })
        .await
    }

    pub(crate) async fn banned(&mut self, who: PeerId) {
        self.event(|event| matches!(event, Event::Banned { peer, .. } if *peer == who).then_some(())).await;
    }

    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    pub(crate) async fn fetch(&self, from: PeerId, wanted: &Wanted) -> Result<Downloaded, FetchError> {
        within(self.network.fetch(from, wanted.fetch.clone(), wanted.progress.clone())).await
    }
}

/// A download in a folder of its own.
pub(crate) struct Wanted {
    pub(crate) folder: TempDir,
    pub(crate) fetch: Fetch,
    pub(crate) progress: watch::Sender<FetchProgress>,
}

impl Wanted {
    pub(crate) fn new(content: ContentHash, size: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("song.part");
        let fetch = Fetch { content, size, mode: AudioMode::Bulk, access_token: Vec::new(), part };
        Self { folder, fetch, progress: watch::channel(FetchProgress::default()).0 }
    }

    /// Moves the download to its place and reads it.
    pub(crate) fn finish(&self, mut fetched: Downloaded) -> Vec<u8> {
        let dest = self.folder.path().join("song");
        fetched.finish(&dest, None).unwrap();
        std::fs::read(dest).unwrap()
    }
}

/// A path to a peer, by its first address, and the address to dial at its near end.
pub(crate) async fn through(peer: &Peer, path: Path) -> (Relay, Multiaddr) {
    let mut parts: Vec<_> = peer.address().await.iter().map(Protocol::acquire).collect();
    let Protocol::Ip4(ip) = parts[0] else { panic!("{parts:?}") };
    let relay = match parts[1] {
        Protocol::Udp(port) => Relay::udp((ip, port).into(), path, 1).await.unwrap(),
        Protocol::Tcp(port) => Relay::tcp((ip, port).into(), path, 1).await.unwrap(),
        _ => panic!("{parts:?}"),
    };
    match &mut parts[1] {
        Protocol::Udp(port) | Protocol::Tcp(port) => *port = relay.address().port(),
        _ => {}
    }
    (relay, parts.into_iter().collect())
}

/// Bytes that differ from one size to another.
pub(crate) fn sample(size: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    blake3::Hasher::new().update(&size.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Fails instead of hanging.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("this takes too long")
}

/// Asks again and again until the answer is yes.
pub(crate) async fn eventually<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    within(async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
