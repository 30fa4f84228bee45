//! The handle of the network.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use antiphon_proto::{
    ContentHash, NetworkId, PublicKey, limits,
    wire::{
        AudioMode, AudioRequest, Bundle, ByteRange, LedgerInfo, PlayStart, RegisterReply, RegisterRequest,
    },
};
use libp2p::{Multiaddr, PeerId, Swarm, core::upgrade::Version, identity::Keypair, relay, swarm};
use prometheus_client::registry::Registry;
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    catchup::{CatchUp, Check, Goal},
    config::{Config, Role, Timeouts, UploadLimits},
    council::{self, CouncilConfig, CouncilError, CouncilEvents, CouncilSender, Gate},
    error::{ConnectError, DownloadError, FetchError, PlayError, RequestError, StartError},
    event::{Event, EventSender},
    metrics::Metrics,
    presence::{
        Join, LibrarySum, Online, Vouch,
        task::{Shared, Task},
    },
    protocol::{self, FollowStream, PlayStream, Server, audio, ledger, play, register},
    relay::{Book, Relay, RelayUsage},
    score::Offence,
    services::{AudioRefusal, AudioSource, LedgerSource, ProofQuery, Registrar, Witness},
    slots::Slots,
    status::WaysStatus,
    streams::{self, Inbound, Opener},
    swarm::{Actor, Behaviour, Command, Parts, PeerInfo, Traffic, Ways, build_transport},
    transfer::{
        download::{Context, Download, DownloadProgress, Downloaded, Driver},
        fetch::{self, Fetch, FetchProgress},
    },
    upload::Uploads,
};

/// Commands that wait for the actor; callers beyond that wait in turn.
const COMMANDS: usize = 128;
/// Events of one connection that wait for the swarm: the default of 7 makes busy connections wait.
const CONNECTION_EVENTS: usize = 64;
/// Libraries that are learned from this peer at once, in all and by one peer.
const LESSONS: usize = 16;
const LESSONS_PER_PEER: usize = 2;
/// How long starting waits for the listeners.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long shutting down waits for streams to end.
const SERVE_TIMEOUT: Duration = Duration::from_secs(2);

/// A peer is reached for at most this often: a dial and a way around it take about as long.
const REACH_EVERY: Duration = Duration::from_secs(3);
/// Peers whose last such time is kept: more than anybody wants at once.
const REACHED: usize = 256;

/// What the network serves, from the rest of the peer.
#[derive(Clone)]
pub struct Services {
    /// The ledger.
    pub ledger: Arc<dyn LedgerSource>,
    /// Who takes registrations.
    pub registrar: Arc<dyn Registrar>,
    /// The files.
    pub audio: Arc<dyn AudioSource>,
    /// Who witnesses plays.
    pub witness: Arc<dyn Witness>,
}

struct Inner {
    local: PeerId,
    commands: mpsc::Sender<Command>,
    opener: Opener,
    timeouts: Timeouts,
    metrics: Metrics,
    traffic: Traffic,
    downloads: Semaphore,
    uploads: Uploads,
    council: Arc<OnceLock<Gate>>,
    relay: Option<Arc<Relay>>,
    presence: Shared,
    changes: watch::Receiver<u64>,
    /// When peers were last reached for; at most [`REACHED`].
    reached: Mutex<HashMap<PeerId, Instant>>,
    closed: CancellationToken,
    tasks: TaskTracker,
}

/// A peer's place in the network. Cloning gives another handle of the same; when the last one is dropped, or on
/// [`Self::shutdown`], the network ends.
#[derive(Clone)]
pub struct Network(Arc<Inner>);

impl Network {
    /// Starts the network, and returns when every address of `config.listen` is listened on. Must be called on a
    /// tokio runtime with I/O and time. `node_key` is the Ed25519 seed of this device; metrics go to `registry`.
    ///
    /// # Errors
    /// [`StartError`], and nothing is left running.
    pub async fn start(
        config: Config,
        node_key: &[u8; 32],
        services: Services,
        registry: &mut Registry,
    ) -> Result<(Self, mpsc::Receiver<Event>), StartError> {
        let mut seed = *node_key;
        let keypair =
            Keypair::ed25519_from_bytes(&mut seed).map_err(|error| StartError::Key(error.to_string()))?;
        let local = keypair.public().to_peer_id();
        let (metrics, libp2p_metrics) = Metrics::register(registry);
        let slots = Slots::new(config.streams.inbound, config.streams.inbound_per_peer);
        let dropped = metrics.dropped_streams.clone();
        let on_drop = move |name: &libp2p::StreamProtocol| Metrics::count(&dropped, protocol::name_of(name));
        let book = config.relay.clone().map(|limits| Book::new(limits, &metrics));
        let reserved = book.clone();
        let on_last_direct = move |peer: &PeerId| {
            if let Some(book) = &reserved {
                book.forget(peer);
            }
        };
        let protocols = protocol::all(book.is_some());
        let (streams, opener, incoming) =
            streams::new(local, protocols, slots, config.streams.inbound, on_drop, on_last_direct);
        // A mini-node reaches others directly or not at all.
        let (through, relay_client) = match config.role {
            Role::Peer => Some(relay::client::new(local)).unzip(),
            Role::MiniNode => (None, None),
        };
        let swarm = Swarm::new(
            build_transport(&keypair, &config, through)?,
            Behaviour::new(&keypair, &config, relay_client, streams, registry)?,
            local,
            swarm_config(&config),
        );
        let presence = Shared::new(local, config.presence.clone());
        let (events, receiver) = EventSender::channel();
        let (commands, command_receiver) = mpsc::channel(COMMANDS);
        let (changed, changes) = watch::channel(0);
        let (external, external_addresses) = watch::channel(Vec::new());
        let (closed, traffic) = (CancellationToken::new(), Traffic::default());
        let mini_nodes = config.kept_mini_nodes();
        let mut actor = Actor::new(Parts {
            swarm,
            commands: command_receiver,
            events,
            metrics: metrics.clone(),
            libp2p_metrics,
            traffic: traffic.clone(),
            presence: presence.clone(),
            enough_peers: config.enough_peers,
            relayed_idle: config.timeouts.relayed_idle,
            ways: Ways::new(local, &config, rand::random()),
            changes: changed,
            external,
            closed: closed.clone(),
        });
        let (ready, listening) = oneshot::channel();
        actor.listen(&config.listen, ready)?;
        actor.announce(&config.external);
        let uploads = Uploads::new(config.uploads, metrics.clone());
        let relay = book.zip(config.relay).map(|(book, limits)| {
            let (opener, timeouts) = (opener.clone(), config.timeouts.clone());
            Relay::new(local, book, opener, limits, timeouts, external_addresses)
        });
        let inner = Inner {
            local,
            commands: commands.clone(),
            opener,
            timeouts: config.timeouts.clone(),
            metrics: metrics.clone(),
            traffic: traffic.clone(),
            downloads: Semaphore::new(config.streams.downloads),
            uploads: uploads.clone(),
            council: Arc::default(),
            relay: relay.clone(),
            presence: presence.clone(),
            changes,
            reached: Mutex::default(),
            closed: closed.clone(),
            tasks: TaskTracker::new(),
        };
        let task = Task {
            shared: presence.clone(),
            opener: inner.opener.clone(),
            commands: commands.downgrade(),
            ledger: services.ledger.clone(),
            timeouts: config.timeouts.clone(),
            metrics: metrics.clone(),
            closed: closed.clone(),
            enough: config.enough_peers,
            mini_nodes,
        };
        let server = Server {
            services,
            timeouts: config.timeouts,
            ledger: ledger::Places::new(),
            plays: play::Places::new(),
            lessons: Slots::new(LESSONS, LESSONS_PER_PEER),
            presence,
            uploads: uploads.clone(),
            metrics,
            traffic,
            council: inner.council.clone(),
            relay: relay.clone(),
            tasks: inner.tasks.clone(),
            commands: commands.downgrade(),
        };
        inner.tasks.spawn(actor.run());
        inner.tasks.spawn(task.run());
        inner.tasks.spawn(uploads.pace(closed.clone()));
        if let Some(relay) = relay {
            inner.tasks.spawn(relay.run(closed.clone()));
        }
        inner.tasks.spawn(serve(Arc::new(server), incoming, closed, inner.tasks.clone()));
        let network = Self(Arc::new(inner));
        let failure = match time::timeout(LISTEN_TIMEOUT, listening).await {
            Ok(Ok(Ok(()))) => return Ok((network, receiver)),
            Ok(Ok(Err(failure))) => failure,
            Ok(Err(_)) => StartError::Transport("the network ended while it started".to_owned()),
            Err(_) => StartError::Transport(format!("no listener within {LISTEN_TIMEOUT:?}")),
        };
        network.shutdown().await;
        Err(failure)
    }

    /// This peer's id.
    #[must_use]
    pub fn local_peer_id(&self) -> PeerId {
        self.0.local
    }

    /// The addresses listened on, each ending in `/p2p/` and this peer's id.
    pub async fn listen_addrs(&self) -> Vec<Multiaddr> {
        self.ask(|reply| Command::ListenAddrs { reply }).await.unwrap_or_default()
    }

    /// Connects to a peer, with or without its id at the end of the address, and waits until the connection is
    /// there. One that is there already, or on its way, is used.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(&self, addr: Multiaddr) -> Result<PeerId, ConnectError> {
        let asked = self.ask(|reply| Command::Connect { address: addr, reply }).await;
        asked.unwrap_or(Err(ConnectError::Shutdown))
    }

    /// Takes part in the swarm of a network: announces this peer, and learns who is online and what they vouch for. The
    /// first call counts.
    pub async fn join(&self, join: Join) {
        if self.0.presence.join(&join) {
            let _ = self.0.commands.send(Command::Subscribe { network: join.network }).await;
        }
    }

    /// Says all that this peer serves: ledger indexes, and the contents they register. Later changes go to
    /// [`Self::vouch`].
    pub fn set_library(&self, songs: impl IntoIterator<Item = (u64, ContentHash)>) {
        let (mut set, mut sum) = (roaring::RoaringBitmap::new(), LibrarySum::default());
        for (index, content) in songs {
            if let Ok(index) = u32::try_from(index)
                && sum.songs() < limits::LIBRARY_SONGS
                && set.insert(index)
            {
                sum = sum.with(&content);
            }
        }
        self.0.presence.replace_own(set, sum);
    }

    /// Tells what this peer serves from now on, or no longer.
    pub fn vouch(&self, changes: &[Vouch]) {
        self.0.presence.vouch(changes);
    }

    /// Who is online and what they vouch for, as far as this peer knows, without itself.
    #[must_use]
    pub fn online(&self) -> Arc<Online> {
        self.0.presence.online()
    }

    /// Changes whenever [`Self::online`] does.
    #[must_use]
    pub fn watch_online(&self) -> watch::Receiver<u64> {
        self.0.presence.watch()
    }

    /// The connected peers and where they say they listen.
    pub async fn addresses(&self) -> Vec<(PeerId, Vec<Multiaddr>)> {
        self.ask(|reply| Command::KnownPeers { reply }).await.unwrap_or_default()
    }

    /// The connected peers, in no order.
    pub async fn peers(&self) -> Vec<PeerInfo> {
        self.ask(|reply| Command::Peers { reply }).await.unwrap_or_default()
    }

    /// How this peer is reached, and through whom.
    pub async fn ways(&self) -> Option<WaysStatus> {
        self.ask(|reply| Command::Ways { reply }).await
    }

    /// Changes whenever a peer connects, leaves or comes back.
    #[must_use]
    pub fn watch_peers(&self) -> watch::Receiver<u64> {
        self.0.changes.clone()
    }

    /// Opens a connection with a peer that is not connected, by whatever way there is. Waits for nothing:
    /// [`Self::watch_peers`] tells when it is there. Within three seconds of the last time for the same peer nothing is
    /// done.
    pub async fn reach(&self, peer: PeerId) {
        let due = {
            let now = Instant::now();
            let mut reached = self.0.reached.lock().unwrap_or_else(PoisonError::into_inner);
            reached.retain(|_, at| now.saturating_duration_since(*at) < REACH_EVERY);
            reached.len() < REACHED && !reached.contains_key(&peer) && reached.insert(peer, now).is_none()
        };
        if due {
            let _ = self.0.commands.send(Command::Reach { peer, suspect: false }).await;
        }
    }

    /// Why a peer that is not connected cannot be reached, for people; none when nothing is known of that.
    pub async fn why_unreachable(&self, peer: PeerId) -> Option<String> {
        self.ask(|reply| Command::Why { peer, reply }).await.flatten()
    }

    /// Closes every connection with a peer. `reason` comes back in [`Event::Disconnected`].
    pub async fn disconnect(&self, peer: PeerId, reason: impl Into<String>) {
        let _ = self.0.commands.send(Command::Disconnect { peer, reason: reason.into() }).await;
    }

    /// Notes that a peer broke a rule; enough of that, and it is banned for a while.
    pub async fn penalize(&self, peer: PeerId, offence: Offence) {
        let _ = self.0.commands.send(Command::Penalize { peer, offence }).await;
    }

    /// Asks a connected peer for its network and the size of its ledger. Nothing in the answer is verified.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn ledger_info(&self, peer: PeerId) -> Result<LedgerInfo, RequestError> {
        let answer = ledger::ask_info(&self.0.opener, peer, &self.0.timeouts).await;
        self.judge(peer, answer).await
    }

    /// Follows a connected peer's ledger: every batch from block `from` on, then each new one. A peer of another
    /// network says so in the first [`FollowStream::next`].
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn follow(
        &self,
        peer: PeerId,
        network: NetworkId,
        from: u64,
    ) -> Result<FollowStream, RequestError> {
        let inner = &self.0;
        FollowStream::open(&inner.opener, &inner.commands, peer, network, from, &inner.timeouts).await
    }

    /// Asks a connected peer for its newest cosigned checkpoint: a C2SP signed note of at most
    /// `limits::CHECKPOINT_BYTES`. Nothing in it is verified.
    ///
    /// # Errors
    /// [`RequestError`]; NOT_FOUND when it has none.
    pub async fn checkpoint(&self, peer: PeerId, network: NetworkId) -> Result<Vec<u8>, RequestError> {
        let answer = ledger::ask_checkpoint(self.reading(peer, network)).await;
        self.judge(peer, answer).await
    }

    /// Asks a connected peer for the first `width` (1 to 256) blocks of an entry bundle and the seals of the batches
    /// that end with one of them. Form and number of the blocks are right; nothing is verified. Up to 2 MiB come in one
    /// message; of a bundle of the longest blocks, which is 16 MiB, the rest is asked for again.
    ///
    /// # Errors
    /// [`RequestError`]; NOT_FOUND when the peer's ledger does not reach so far.
    pub async fn bundle(
        &self,
        peer: PeerId,
        network: NetworkId,
        index: u64,
        width: u32,
    ) -> Result<Bundle, RequestError> {
        let answer = ledger::ask_bundle(self.reading(peer, network), index, width).await;
        self.judge(peer, answer).await
    }

    /// Asks a connected peer for the first `width` (1 to 256) hashes of a tile: 32 bytes each, not verified.
    ///
    /// # Errors
    /// [`RequestError`]; NOT_FOUND when the peer's log does not reach so far.
    pub async fn tile(
        &self,
        peer: PeerId,
        network: NetworkId,
        level: u32,
        index: u64,
        width: u32,
    ) -> Result<Vec<u8>, RequestError> {
        let answer = ledger::ask_tile(self.reading(peer, network), level, index, width).await;
        self.judge(peer, answer).await
    }

    /// Asks a connected peer for a block and its proof: a C2SP tlog-proof file of at most `limits::LOG_PROOF_BYTES`, not
    /// verified.
    ///
    /// # Errors
    /// [`RequestError`]; NOT_FOUND when there is none.
    pub async fn proof(
        &self,
        peer: PeerId,
        network: NetworkId,
        query: &ProofQuery,
    ) -> Result<Vec<u8>, RequestError> {
        let answer = ledger::ask_proof(self.reading(peer, network), query).await;
        self.judge(peer, answer).await
    }

    /// Reads the ledger from several connected peers at once, bundle by bundle, each of which must pass `check`. A peer
    /// whose bundle does not is banned.
    pub fn catch_up(&self, peers: impl IntoIterator<Item = PeerId>, goal: Goal, check: Check) -> CatchUp {
        let mut catch_up = CatchUp::new(self.clone(), goal, check);
        peers.into_iter().for_each(|peer| catch_up.add(peer));
        catch_up
    }

    fn reading(&self, peer: PeerId, network: NetworkId) -> ledger::Reading<'_> {
        ledger::Reading { opener: &self.0.opener, timeouts: &self.0.timeouts, peer, network }
    }

    /// Asks a connected peer whose wallet it is paid to. Nobody has proved it.
    ///
    /// # Errors
    /// [`RequestError`]; BUSY when it has none just now, OTHER_NETWORK when it is of another one.
    pub async fn wallet_of(&self, peer: PeerId, network: NetworkId) -> Result<PublicKey, RequestError> {
        let answer = play::ask_wallet(&self.0.opener, peer, network, &self.0.timeouts).await;
        self.judge(peer, answer).await
    }

    /// Begins a play that a connected peer witnesses. `start` is signed, and names that peer's wallet.
    ///
    /// # Errors
    /// [`PlayError`].
    pub async fn begin_play(&self, peer: PeerId, start: PlayStart) -> Result<PlayStream, PlayError> {
        let inner = &self.0;
        PlayStream::begin(&inner.opener, &inner.commands, peer, start, &inner.timeouts).await
    }

    /// Asks a connected peer to register something.
    ///
    /// # Errors
    /// [`RequestError`]; a refusal is an answer, not an error.
    pub async fn register(
        &self,
        peer: PeerId,
        request: RegisterRequest,
    ) -> Result<RegisterReply, RequestError> {
        let answer = register::ask(&self.0.opener, peer, &request, &self.0.timeouts).await;
        self.judge(peer, answer).await
    }

    /// Downloads a file from all the connected peers that `sources` names, now and as it changes, verified group by
    /// group, continuing what is there. A peer that sends bad bytes is banned. Can be dropped at any time; what was
    /// verified stays.
    ///
    /// # Errors
    /// [`DownloadError`]; another download continues.
    pub async fn download(
        &self,
        download: Download,
        sources: watch::Receiver<Vec<PeerId>>,
        progress: watch::Sender<DownloadProgress>,
    ) -> Result<Downloaded, DownloadError> {
        let inner = &self.0;
        let _place = inner.downloads.acquire().await.map_err(|_| DownloadError::Shutdown)?;
        let report = |now| {
            progress.send_replace(now);
        };
        let running = async { Driver::open(self.context(), download, &report).await?.run(sources).await };
        tokio::select! {
            downloaded = Box::pin(running) => downloaded,
            () = inner.closed.cancelled() => Err(DownloadError::Shutdown),
        }
    }

    /// Fetches a file from a connected peer into `fetch.part`, verified group by group, continuing what is there.
    /// A peer that sends bad bytes is banned. Can be dropped at any time; what was verified stays.
    ///
    /// # Errors
    /// [`FetchError`]; asking again, or another peer, continues.
    pub async fn fetch(
        &self,
        peer: PeerId,
        fetch: Fetch,
        progress: watch::Sender<FetchProgress>,
    ) -> Result<Downloaded, FetchError> {
        let inner = &self.0;
        let _place = inner.downloads.acquire().await.map_err(|_| RequestError::Shutdown)?;
        tokio::select! {
            fetched = Box::pin(fetch::fetch(self.context(), peer, fetch, progress)) => fetched,
            () = inner.closed.cancelled() => Err(RequestError::Shutdown.into()),
        }
    }

    fn context(&self) -> Context {
        let inner = &self.0;
        Context {
            opener: inner.opener.clone(),
            commands: inner.commands.clone(),
            timeouts: inner.timeouts.clone(),
            metrics: inner.metrics.clone(),
            traffic: inner.traffic.clone(),
            changes: inner.changes.clone(),
        }
    }

    /// Whether a connected peer would serve this file now. Asks for its first byte and reads only the reply.
    ///
    /// # Errors
    /// [`FetchError`]; that it does not have the file (any more) is an answer, not an error.
    pub async fn has(&self, peer: PeerId, content: ContentHash) -> Result<bool, FetchError> {
        let request = AudioRequest {
            content_hash: content.0.to_vec(),
            ranges: vec![ByteRange { start: 0, end: 1 }],
            mode: AudioMode::Bulk.into(),
            access_token: Vec::new(),
        };
        match audio::ask(&self.0.opener, peer, &request, &self.0.timeouts).await {
            Ok(_) => Ok(true),
            Err(FetchError::Refused(AudioRefusal::NotFound | AudioRefusal::Gone)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Changes what this peer gives, from now on: rates, places and quota.
    pub fn set_upload_limits(&self, limits: UploadLimits) {
        self.0.uploads.set(limits);
    }

    /// Tells an address under which others reach this peer, as its operator knows it. A relay announces such addresses.
    pub async fn add_external_address(&self, address: Multiaddr) {
        let _ = self.0.commands.send(Command::AddExternalAddress { address }).await;
    }

    /// What this peer carries between others; none when it is no relay.
    #[must_use]
    pub fn relay_usage(&self) -> Option<RelayUsage> {
        self.0.relay.as_ref().map(|relay| relay.book().usage())
    }

    /// Says what this peer carried between others in a month (year, and 1 to 12, in UTC) before it was started, so that
    /// [`crate::RelayLimits::bytes_per_month`] holds over restarts. Does nothing when the month is over.
    pub fn set_relay_month(&self, bytes: u64, month: (u32, u8)) {
        if let Some(relay) = &self.0.relay {
            relay.book().set_month(bytes, month);
        }
    }

    /// Takes part in the council of a network, for as long as the events are kept: see [`CouncilEvents`]. May be
    /// called once; a peer that never calls it refuses the streams of members.
    ///
    /// # Errors
    /// [`CouncilError`].
    pub fn council(&self, config: CouncilConfig) -> Result<(CouncilSender, CouncilEvents), CouncilError> {
        let inner = &self.0;
        let shell = council::Shell {
            local: inner.local,
            opener: inner.opener.clone(),
            commands: inner.commands.downgrade(),
            changes: inner.changes.clone(),
            timeouts: inner.timeouts.clone(),
            metrics: inner.metrics.clone(),
            closed: inner.closed.child_token(),
            tasks: inner.tasks.clone(),
        };
        council::start(shell, config, &inner.council)
    }

    /// Ends the network: connections are closed in order, so that the peers know at once; streams end.
    pub async fn shutdown(&self) {
        let _ = self.ask(|reply| Command::Shutdown { reply }).await;
        self.0.downloads.close();
        self.0.tasks.close();
        if time::timeout(SERVE_TIMEOUT, self.0.tasks.wait()).await.is_err() {
            tracing::debug!("some streams did not end in time");
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.0.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Counts answers that break the rules against the peer.
    async fn judge<T>(&self, peer: PeerId, answer: Result<T, RequestError>) -> Result<T, RequestError> {
        if let Err(RequestError::Malformed(_)) = &answer {
            self.penalize(peer, Offence::Malformed).await;
        }
        answer
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Network").field(&self.0.local).finish()
    }
}

fn swarm_config(config: &Config) -> swarm::Config {
    swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(config.timeouts.idle)
        .with_per_connection_event_buffer_size(CONNECTION_EVENTS)
        .with_substream_upgrade_protocol_override(Version::V1Lazy)
        .with_smart_dial()
}

/// Answers what peers open, each stream in a task of its own. The number of tasks is bounded by the slots, and
/// by the places of followers and of circuits.
async fn serve(
    server: Arc<Server>,
    mut incoming: mpsc::Receiver<Inbound>,
    closed: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let inbound = tokio::select! {
            () = closed.cancelled() => return,
            inbound = incoming.recv() => inbound,
        };
        let Some(inbound) = inbound else { return };
        let (server, closed) = (server.clone(), closed.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = closed.cancelled() => {}
                () = server.serve(inbound) => {}
            }
        });
    }
}
