//! A peer at work: data directory, ledger, library and network, tied together.

pub mod catchup;
pub mod checkpoints;
pub mod choice;
pub mod council;
pub mod cutter;
pub(crate) mod fetching;
pub mod follow;
mod follow_best;
pub mod get;
mod open;
pub mod orders;
mod place;
pub mod play;
mod presence;
mod relaying;
pub mod select;
pub mod services;
mod sources;
pub mod state;
pub mod tiles;
mod upstream;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use antiphon_fingerprint::Analyzer;
use antiphon_ledger::Ledger;
use antiphon_p2p::Network;
use antiphon_proto::SecretKey;
use libp2p::PeerId;
use prometheus_client::registry::Registry;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub(crate) use self::open::{Dialled, Opening};
use self::{council::Seat, orders::Orders};
use crate::{
    config::{self, Config},
    explorer::{Explorer, ExplorerError},
    failure::{Failure, Kind},
    library::Library,
    listener::{Listener, ListenerError},
    music::{Music, cover::Covers},
    royalty::{Royalties, access::Access},
    search,
    system::datadir::{DataDir, Lock},
    wallet::Wallet,
};

/// How much of a peer a command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// What is on disk. Nothing is created.
    ReadOnly,
    /// What is on disk; made when absent.
    Local,
    /// The network too, dialling out only.
    Dial,
    /// The network, listening.
    Serve,
}

/// A peer. Dropping it without [`Peer::close`] is safe, but costs the next start some work.
pub struct Peer {
    /// Where everything is.
    pub data: DataDir,
    /// What is agreed.
    pub ledger: Ledger,
    /// Music files.
    pub library: Arc<Library>,
    /// The network, where the command needs it.
    pub network: Option<Network>,
    /// Whom this peer follows at the moment.
    pub upstream: watch::Receiver<Option<PeerId>>,
    /// How this peer keeps up.
    pub following: watch::Sender<follow::FollowStatus>,
    /// Numbers for `/metrics`.
    pub registry: Registry,
    /// Decoders.
    pub analyzer: Analyzer,
    /// The key that registers, and whatever else it signs. Open where the command goes to the network; locked where it
    /// only reads; `None` where there is no wallet yet.
    pub wallet: Option<Wallet>,
    /// Settings of the library.
    pub settings: config::Library,
    /// Where registrations go.
    pub orders: Arc<dyn Orders>,
    /// Songs by words and names.
    pub search: Arc<search::Index>,
    /// Who is online with what.
    pub sources: Arc<dyn search::Sources>,
    /// What there is to hear; kept up to date where the peer serves.
    pub music: Arc<Music>,
    /// Pictures of it.
    pub covers: Covers,
    /// What this peer is paid and pays for; none without a network or an open wallet.
    pub royalties: Option<Royalties>,
    /// This peer's seat in the council, if it was given one.
    pub seat: Option<Seat>,
    /// Whether the settings ask for a seat.
    pub config_names_a_key: bool,
    /// Ends everything.
    pub cancel: CancellationToken,
    listener: OnceLock<Listener>,
    explorer: OnceLock<Arc<Explorer>>,
    tasks: Mutex<JoinSet<()>>,
    _lock: Lock,
}

impl Peer {
    /// Opens a data directory, joins or starts a network where needed. `report` is told what takes time.
    ///
    /// # Errors
    /// Whatever stands in the way, with what to do.
    pub async fn open(
        root: PathBuf,
        config: &Config,
        reach: Reach,
        cancel: CancellationToken,
        report: Arc<dyn Fn(&str) + Send + Sync>,
    ) -> anyhow::Result<Self> {
        if reach == Reach::ReadOnly && !root.join("ledger").exists() {
            return Err(Failure::new(
                Kind::NotFound,
                format!(
                    "there is no ledger in {}; start a peer with `antiphon up`, or name another --data-dir",
                    root.display()
                ),
            )
            .into());
        }
        let data = DataDir::open(&root)?;
        let lock = data.lock()?;
        Opening::new(data, config, reach, cancel)?.run(lock, report).await
    }

    /// Ends everything in order: scan, network, ledger.
    pub async fn close(&self) {
        self.library.stop();
        self.cancel.cancel();
        if let Some(network) = &self.network {
            network.shutdown().await;
            relaying::write_count(network, &self.data.relay());
        }
        let mut tasks = self.tasks.lock().map(|mut tasks| std::mem::take(&mut *tasks)).unwrap_or_default();
        tasks.shutdown().await;
        let (council, ledger) = (self.seat.as_ref().map(|seat| seat.council.clone()), self.ledger.clone());
        let search = self.search.clone();
        let closed = tokio::task::spawn_blocking(move || {
            search.close();
            if let Some(council) = council {
                council.stop();
            }
            ledger.close()
        });
        match closed.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the ledger's index could not be written; the next start does it")
            }
            Err(error) => tracing::error!(%error, "closing"),
        }
    }

    /// Whether this peer is one of those that order the ledger.
    #[must_use]
    pub fn orders_here(&self) -> bool {
        self.seat.as_ref().is_some_and(Seat::is_taken)
    }

    /// The wallet's key, which signs.
    ///
    /// # Errors
    /// When the peer was opened only to read, or has no wallet.
    pub fn signer(&self) -> Result<&Arc<SecretKey>, Failure> {
        let none = || Failure::new(Kind::NotFound, "there is no wallet here yet");
        self.wallet.as_ref().ok_or_else(none)?.signer()
    }

    /// What the listener said and did, opened when it is first asked for. Blocks on the disk.
    ///
    /// # Errors
    /// When the file is damaged, or of another network or version.
    pub fn listener(&self) -> Result<&Listener, ListenerError> {
        if let Some(listener) = self.listener.get() {
            return Ok(listener);
        }
        // Two at once would find the file in use.
        let _alone = self.tasks.lock();
        if let Some(listener) = self.listener.get() {
            return Ok(listener);
        }
        let opened = Listener::open(&self.data.listener(), &self.ledger.network())?;
        Ok(self.listener.get_or_init(|| opened))
    }

    /// What explorers ask of the ledger, opened when it is first asked for. Blocks on the disk.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn explorer(&self) -> Result<&Arc<Explorer>, ExplorerError> {
        if let Some(explorer) = self.explorer.get() {
            return Ok(explorer);
        }
        let _alone = self.tasks.lock();
        if let Some(explorer) = self.explorer.get() {
            return Ok(explorer);
        }
        let opened = Explorer::open(&self.data.explorer(), &self.ledger.network())?;
        Ok(self.explorer.get_or_init(|| Arc::new(opened)))
    }

    /// The same, where it is open: in a peer that answers explorers.
    #[must_use]
    pub fn open_explorer(&self) -> Option<Arc<Explorer>> {
        self.explorer.get().cloned()
    }

    /// The right to hear, as this peer shows it.
    pub(crate) fn access(&self) -> Option<&Access> {
        self.royalties.as_ref().map(|royalties| &royalties.access)
    }

    /// Adds work that ends with the peer.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        if let Ok(mut tasks) = self.tasks.lock() {
            tasks.spawn(async move {
                tokio::select! {
                    () = cancel.cancelled() => {}
                    () = work => {}
                }
            });
        }
    }

    /// Waits until a first connection to the network is up, at most `wait`.
    pub async fn connected(&self, wait: Duration) -> bool {
        let mut upstream = self.upstream.clone();
        self.orders_here()
            || tokio::time::timeout(wait, upstream.wait_for(Option::is_some)).await.is_ok_and(|up| up.is_ok())
    }
}
