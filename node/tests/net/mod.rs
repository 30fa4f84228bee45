//! Peers on loopback: what a peer serves from its ledger, and lies about it.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use antiphon::{
    config,
    library::{Library, Parts, catalogue::Catalogue, describe::Registrant, folders::Folders},
    peer::{
        follow::{FollowStatus, Follower},
        orders::Offline,
        services::Desk,
    },
};
use antiphon_ledger::{Ledger, council::Council};
use antiphon_p2p::{
    Event, LedgerSource, Multiaddr, Network, NoWitness, PeerId, ProofQuery, Services, SourceError,
};
use antiphon_proto::{
    SecretKey,
    wire::{Batch, Bundle, LedgerInfo},
};
use bytes::Bytes;
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Longest wait for something that takes a second on an idle machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// What a peer changes in what it serves.
#[derive(Debug, Clone)]
pub enum Lie {
    None,
    /// A bit of each bundle.
    Blocks,
    /// A bit of each seal.
    Seals,
    /// Leaves out the seals at the ends of bundles.
    NoSeals,
    /// A bit of each tile.
    Tiles,
    /// A bit of each proof's block.
    Proofs,
    /// Gives the proof of another block.
    OtherProof,
    /// Goes away when it has served so many bundles.
    StopsAfter(usize),
    /// Is honest, but sends no bundle before this is set.
    Holds(Arc<AtomicBool>),
    /// Tells of another checkpoint.
    Checkpoint(Arc<Vec<u8>>),
}

struct Liar {
    desk: Arc<Desk>,
    lie: Lie,
    served: Arc<AtomicUsize>,
    network: Mutex<Option<Network>>,
}

impl LedgerSource for Liar {
    fn info(&self) -> LedgerInfo {
        self.desk.info()
    }

    fn batch_from(&self, first: u64) -> Result<Option<Batch>, SourceError> {
        let mut batch = LedgerSource::batch_from(&*self.desk, first)?;
        if let (Lie::Seals, Some(batch)) = (&self.lie, &mut batch) {
            *batch.seal.last_mut().unwrap() ^= 1;
        }
        Ok(batch)
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.desk.watch()
    }

    fn watch_checkpoint(&self) -> watch::Receiver<Bytes> {
        match &self.lie {
            Lie::Checkpoint(note) => watch::channel(Bytes::from(note.to_vec())).1,
            _ => self.desk.watch_checkpoint(),
        }
    }

    fn bundle(&self, index: u64, width: u32) -> Result<Option<Bundle>, SourceError> {
        while let Lie::Holds(gate) = &self.lie
            && !gate.load(Ordering::Relaxed)
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut bundle = self.desk.bundle(index, width)?;
        let Some(made) = &mut bundle else { return Ok(bundle) };
        let served = self.served.fetch_add(1, Ordering::Relaxed);
        match &self.lie {
            Lie::Blocks => *made.entries.last_mut().unwrap() ^= 1,
            Lie::Seals => made.seals.iter_mut().for_each(|seal| *seal.seal.last_mut().unwrap() ^= 1),
            Lie::NoSeals => made.seals.clear(),
            Lie::StopsAfter(most) if served >= *most => {
                let network = self.network.lock().unwrap().take();
                if let Some(network) = network {
                    tokio::runtime::Handle::current().spawn(async move { network.shutdown().await });
                }
                return Ok(None);
            }
            _ => {}
        }
        Ok(bundle)
    }

    fn tile(&self, level: u32, index: u64, width: u32) -> Result<Option<Vec<u8>>, SourceError> {
        let mut tile = self.desk.tile(level, index, width)?;
        if let (Lie::Tiles, Some(tile)) = (&self.lie, &mut tile) {
            tile[0] ^= 1;
        }
        Ok(tile)
    }

    fn proof(&self, query: &ProofQuery) -> Result<Option<Vec<u8>>, SourceError> {
        match &self.lie {
            Lie::Proofs => {
                let proof = self.desk.proof(query)?;
                Ok(proof.map(|mut proof| {
                    // Inside the block's base64.
                    proof[60] = if proof[60] == b'A' { b'B' } else { b'A' };
                    proof
                }))
            }
            Lie::OtherProof => self.desk.proof(&ProofQuery::Index(0)),
            _ => self.desk.proof(query),
        }
    }
}

/// A peer on loopback.
pub struct Peer {
    pub network: Network,
    pub address: Multiaddr,
    banned: Arc<Mutex<Vec<PeerId>>>,
    served: Arc<AtomicUsize>,
    _library: Option<TempDir>,
}

impl Peer {
    /// One that serves nothing.
    pub async fn bare() -> Self {
        let desk = Arc::new(Desk::default());
        Self::start(desk.clone(), desk, None).await
    }

    /// One that serves a ledger.
    pub async fn serving(ledger: &Ledger, lie: Lie) -> Self {
        let desk = Arc::new(Desk::default());
        let dir = tempfile::tempdir().unwrap();
        desk.open(ledger.clone(), library(ledger, &dir), Arc::new(Offline));
        let served = Arc::new(AtomicUsize::new(0));
        let liar = Liar { desk: desk.clone(), lie, served: served.clone(), network: Mutex::new(None) };
        let liar = Arc::new(liar);
        let mut peer = Self::start(liar.clone(), desk, Some(dir)).await;
        *liar.network.lock().unwrap() = Some(peer.network.clone());
        peer.served = served;
        peer
    }

    async fn start(source: Arc<dyn LedgerSource>, desk: Arc<Desk>, dir: Option<TempDir>) -> Self {
        let config = antiphon_p2p::Config {
            listen: vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()],
            agent: "antiphon/test".to_owned(),
            ..antiphon_p2p::Config::default()
        };
        let services =
            Services { ledger: source, registrar: desk.clone(), audio: desk, witness: Arc::new(NoWitness) };
        let seed: [u8; 32] = rand::random();
        let (network, mut events) =
            Network::start(config, &seed, services, &mut Registry::default()).await.unwrap();
        let banned = Arc::new(Mutex::new(Vec::new()));
        let noted = banned.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let Event::Banned { peer, .. } = event {
                    noted.lock().unwrap().push(peer);
                }
            }
        });
        let address = network.listen_addrs().await.remove(0);
        Self { network, address, banned, served: Arc::default(), _library: dir }
    }

    pub fn id(&self) -> PeerId {
        self.network.local_peer_id()
    }

    /// Bundles that it has served.
    pub fn bundles(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    pub fn has_banned(&self, other: &Self) -> bool {
        self.banned.lock().unwrap().contains(&other.id())
    }

    /// Waits until another one is connected with this one.
    pub async fn connected_to(&self, other: &Self) {
        let connected = async {
            while !self.network.peers().await.iter().any(|known| known.peer == other.id()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, connected).await.unwrap();
    }

    /// Follows these with a ledger.
    pub fn follow(&self, ledger: &Ledger, council: Option<Arc<Council>>, others: &[&Self]) -> Follows {
        let cancel = CancellationToken::new();
        let (upstream, upstream_out) = watch::channel(None);
        let (answered, answered_out) = watch::channel(None);
        let status = watch::Sender::new(FollowStatus::default());
        let follower = Follower {
            network: self.network.clone(),
            ledger: ledger.clone(),
            council,
            upstream,
            answered,
            status: status.clone(),
            cancel: cancel.clone(),
        };
        let addresses: VecDeque<Multiaddr> = others.iter().map(|other| other.address.clone()).collect();
        let task = tokio::spawn(follower.run(addresses));
        Follows { status, upstream: upstream_out, answered: answered_out, cancel, task }
    }
}

/// A follower that runs.
pub struct Follows {
    status: watch::Sender<FollowStatus>,
    upstream: watch::Receiver<Option<PeerId>>,
    answered: watch::Receiver<Option<Multiaddr>>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Follows {
    pub fn status(&self) -> FollowStatus {
        self.status.borrow().clone()
    }

    pub fn upstream(&self) -> Option<PeerId> {
        *self.upstream.borrow()
    }

    pub fn answered(&self) -> bool {
        self.answered.borrow().is_some()
    }

    /// Ends it wherever it is, and waits until it has let go of everything.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

fn library(ledger: &Ledger, dir: &TempDir) -> Arc<Library> {
    let place = |name: &str| dir.path().join(name);
    Arc::new(Library::new(Parts {
        catalogue: Arc::new(Catalogue::open(&place("library.redb"), &ledger.network()).unwrap()),
        folders: Folders::open(&place("folders.json")).unwrap(),
        outboards: place("outboards"),
        analyzer: config::Library::default().analyzer(),
        ledger: ledger.clone(),
        registrant: Registrant {
            wallet: Some(SecretKey::from_seed(&[1; 32]).into()),
            artist_names: Vec::new(),
            network: ledger.network(),
            stamp_bits: 0,
            terms: None,
        },
        orders: Arc::new(Offline),
        workers: 1,
    }))
}

/// Waits until something is so.
pub async fn eventually(so: impl Fn() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.expect("it should be so by now");
}
