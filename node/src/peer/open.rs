//! Opening a peer: keys, network, ledger, library, in this order.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use antiphon_ledger::{Ledger, OpenError, Options, Stage};
use antiphon_p2p::{ConnectionLimits, Event, Network, Role, Services};
use antiphon_proto::{NetworkId, wire::Genesis};
use anyhow::{Context, bail};
use libp2p::{Multiaddr, PeerId};
use prometheus_client::registry::Registry;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Peer, Reach,
    council::{self, Seat, Seated},
    follow::{self, Follower},
    orders::{Offline, Orders, Remote},
    presence, relaying,
    services::Desk,
    sources::OnlineNow,
    state::NetworkState,
};
use crate::{
    config::Config,
    failure::{Failure, Kind},
    genesis_file,
    library::{Library, Parts, catalogue::Catalogue, describe::Registrant, folders::Folders},
    music::{self, Music, cover::Covers},
    royalty::{
        Royalties,
        outbox::{Outbox, Pace},
        witness::Stand,
    },
    rule::Rule,
    search,
    system::{
        clock,
        datadir::{DataDir, Lock},
        keyfile,
        random::random,
    },
    wallet,
};

/// First port that is tried on a new data directory.
const FIRST_PORT: u16 = 7_710;
/// Memory of the process above which no connection is added: half of the smallest Pi.
const MEMORY_BYTES: usize = 512 * 1024 * 1024;
/// The same on a mini-node, of the smallest VPS.
const MINI_NODE_MEMORY_BYTES: usize = 320 * 1024 * 1024;
/// Connections of a mini-node: at 133 KiB each when idle, 200 MB.
const MINI_NODE_CONNECTIONS: u32 = 1_536;
/// Connections from one address: a family's, or a village's behind one carrier NAT.
const PER_ADDRESS: u32 = 64;
const MINI_NODE_PER_ADDRESS: u32 = 128;
/// Pause between attempts to join a network for the first time.
const JOIN_PAUSE: Duration = Duration::from_secs(2);
/// How long a first start without a peer to join through looks for peers in the local network, and how often.
const NEARBY_WITHIN: Duration = Duration::from_secs(3);
const NEARBY_PAUSE: Duration = Duration::from_millis(200);
/// How long a start waits to hear that a named peer is of another network.
const ASK_WITHIN: Duration = Duration::from_secs(3);
/// First and longest pause after which waiting registrations are handed in again; at once when another peer is followed.
/// It may have nobody to hand them on to yet.
const RETRIES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

/// The seat in the council, if there is one, and where registrations go.
type Ordering = (Option<Seat>, Arc<dyn Orders>);

/// What [`Peer::open`] works with until the peer is whole.
pub(crate) struct Opening<'c> {
    data: DataDir,
    config: &'c Config,
    reach: Reach,
    state: NetworkState,
    insist: Option<NetworkId>,
    addresses: VecDeque<Multiaddr>,
    registry: Registry,
    desk: Arc<Desk>,
    stand: Arc<Stand>,
    cancel: CancellationToken,
}

fn insist(config: &Config, state: &NetworkState) -> anyhow::Result<Option<NetworkId>> {
    let parse = |text: &String| {
        text.parse::<NetworkId>().map_err(|e| Failure::new(Kind::Usage, format!("--network: {e}")))
    };
    let wanted = config.network.id.as_ref().map(parse).transpose()?;
    let pinned = state.network.as_ref().map(parse).transpose()?;
    match (wanted, pinned) {
        (Some(wanted), Some(pinned)) if wanted != pinned => bail!(Failure::new(
            Kind::Usage,
            format!("this data directory belongs to network {pinned}, not {wanted}; use another --data-dir")
        )),
        (wanted, pinned) => Ok(wanted.or(pinned)),
    }
}

fn addresses(config: &Config, state: &NetworkState) -> anyhow::Result<VecDeque<Multiaddr>> {
    let mut addresses = VecDeque::new();
    for text in &config.network.peer_vps {
        let address: Multiaddr = text.parse().map_err(|error| {
            Failure::new(
                Kind::Usage,
                format!("--peer-vps {text}: {error}; an example: /ip4/192.0.2.1/udp/7710/quic-v1"),
            )
        })?;
        addresses.push_back(address);
    }
    // What answered before comes after what was asked for now.
    addresses.extend(state.peers.iter().filter_map(|text| text.parse::<Multiaddr>().ok()));
    let mut seen = Vec::new();
    addresses.retain(|address| {
        let new = !seen.contains(address);
        seen.push(address.clone());
        new
    });
    Ok(addresses)
}

/// What a peer that keeps no ledger needs of the network.
pub(crate) struct Dialled {
    /// The network, dialling out only.
    pub(crate) network: Network,
    /// Where others may be reached.
    pub(crate) addresses: VecDeque<Multiaddr>,
    /// How many of them, from the first on, were named for this run; the others are remembered.
    pub(crate) named: usize,
    /// The network that is insisted on.
    pub(crate) insist: Option<NetworkId>,
    /// What is remembered of the network.
    pub(crate) state: NetworkState,
}

impl<'c> Opening<'c> {
    /// Starts the network and nothing else.
    pub(crate) async fn network_only(mut self) -> anyhow::Result<Dialled> {
        let node_key = keyfile::load_or_create(&self.data.key("node"))?;
        let network = self.network(&node_key.seed()).await?;
        let named = self.config.network.peer_vps.len();
        Ok(Dialled { network, addresses: self.addresses, named, insist: self.insist, state: self.state })
    }

    pub(crate) fn new(
        data: DataDir,
        config: &'c Config,
        reach: Reach,
        cancel: CancellationToken,
    ) -> anyhow::Result<Self> {
        let state = NetworkState::load(&data.network_state())?;
        Ok(Self {
            insist: insist(config, &state)?,
            addresses: addresses(config, &state)?,
            data,
            config,
            reach,
            state,
            registry: Registry::default(),
            desk: Arc::new(Desk::default()),
            stand: Arc::new(Stand::default()),
            cancel,
        })
    }

    pub(super) async fn run(
        mut self,
        lock: Lock,
        report: Arc<dyn Fn(&str) + Send + Sync>,
    ) -> anyhow::Result<Peer> {
        let wallet = match self.reach {
            Reach::ReadOnly | Reach::Local => wallet::locked(&self.data)?,
            Reach::Dial | Reach::Serve => {
                Some(wallet::open(&self.data, &self.config.wallet, &self.cancel, &*report).await?)
            }
        };
        let node_key = keyfile::load_or_create(&self.data.key("node"))?;
        let wants_network = match self.reach {
            Reach::ReadOnly | Reach::Local => false,
            Reach::Dial => !self.addresses.is_empty(),
            Reach::Serve => true,
        };
        let mut network = if wants_network { Some(self.network(&node_key.seed()).await?) } else { None };
        let named = self.config.network.genesis.as_deref().map(genesis_file::read).transpose()?;
        if let (Some(named), Some(insist)) = (named.as_ref().map(Genesis::network_id), self.insist)
            && named != insist
        {
            let message = format!("the genesis document is of network {named}, not of {insist}");
            bail!(Failure::new(Kind::Usage, message));
        }
        let ledger = match self.ledger(None, report.clone()).await? {
            Some(ledger) => {
                if let Some(named) = named.filter(|named| named.network_id() != ledger.network()) {
                    bail!(Failure::new(
                        Kind::Usage,
                        format!(
                            "this data directory belongs to network {}, and the genesis document is of {}; use another \
                             --data-dir",
                            ledger.network(),
                            named.network_id()
                        )
                    ));
                }
                self.check_asked(network.as_ref(), ledger.network()).await?;
                ledger
            }
            None => {
                let genesis = self.genesis(network.as_ref(), &*report).await?;
                self.ledger(Some(genesis), report.clone()).await?.context("the new ledger is not there")?
            }
        };
        self.pin(&ledger)?;
        if let Some(first) = network.take_if(|_| self.is_nameless()) {
            self.insist = Some(ledger.network());
            first.shutdown().await;
            self.registry = Registry::default();
            network = Some(self.network(&node_key.seed()).await?);
        }

        let (upstream_in, upstream) = watch::channel(None);
        let (seat, orders) = self.orders(&ledger, network.as_ref(), &upstream)?;
        let stamp_bits = ledger.genesis().stamp_bits;
        let registrant = Registrant {
            artist_names: self.config.library.artist_names.iter().map(|name| name.to_lowercase()).collect(),
            network: ledger.network(),
            stamp_bits,
            terms: self.config.library.terms()?,
            wallet: wallet.clone(),
        };
        let analyzer = self.config.library.analyzer();
        let catalogue = Arc::new(Catalogue::open(&self.data.catalogue(), &ledger.network())?);
        let library = Arc::new(Library::new(Parts {
            catalogue: catalogue.clone(),
            folders: Folders::open(&self.data.folders())?,
            outboards: self.data.outboards(),
            analyzer: analyzer.clone(),
            ledger: ledger.clone(),
            registrant,
            orders: orders.clone(),
            workers: self.config.library.workers,
        }));
        let royalties = self.royalties(&ledger, network.as_ref(), wallet.as_ref(), &orders).await?;
        self.desk.open(ledger.clone(), library.clone(), orders.clone());
        let search = search::Index::new(&self.data.search(), &ledger.network(), Arc::new(ledger.clone()));
        let sources: Arc<dyn search::Sources> = Arc::new(OnlineNow(network.clone()));
        let music = Arc::new(Music::new(music::Parts {
            blocks: Arc::new(ledger.clone()),
            catalogue,
            played: self.data.played(),
            sources: sources.clone(),
            cancel: self.cancel.clone(),
        }));
        let peer = Peer {
            data: self.data.clone(),
            search: Arc::new(search),
            sources,
            covers: Covers::new(library.clone(), analyzer.clone()),
            music,
            ledger,
            library,
            network,
            upstream,
            registry: self.registry,
            analyzer,
            wallet,
            cancel: self.cancel,
            following: watch::Sender::default(),
            listener: OnceLock::new(),
            explorer: OnceLock::new(),
            tasks: Mutex::new(JoinSet::new()),
            seat,
            royalties,
            orders,
            settings: self.config.library.clone(),
            config_names_a_key: self.config.council.key.is_some(),
            _lock: lock,
        };
        if self.reach == Reach::Serve {
            peer.spawn(search::follow::follow(peer.search.clone(), peer.ledger.watch(), peer.cancel.clone()));
        }
        if let Some(network) = peer.network.as_ref().filter(|_| self.reach == Reach::Serve) {
            peer.spawn(peer.music.clone().run(network.watch_online(), peer.ledger.watch()));
        }
        if let Some(network) = peer.network.clone() {
            if self.config.network.mini_node {
                peer.spawn(relaying::keep_count(network.clone(), peer.data.relay()));
            }
            presence::take_part(&peer, &network, self.reach, self.config.network.mini_node).await?;
            follow(&peer, network, upstream_in, self.addresses, self.state);
        }
        Ok(peer)
    }

    /// Whether this is a mini-node that does not know its network yet. The network's name is a part of what mini-nodes
    /// speak, so that it only asks, and begins to listen when it has the answer.
    fn is_nameless(&self) -> bool {
        self.config.network.mini_node && self.insist.is_none()
    }

    /// Starts the network. The port is the same on every start.
    async fn network(&mut self, node_seed: &[u8; 32]) -> anyhow::Result<Network> {
        let nonce: [u8; 8] = random()?;
        let serves = self.reach == Reach::Serve;
        let listens = serves && !self.is_nameless();
        let listen = if listens { self.listen()? } else { Vec::new() };
        let settings = &self.config.network;
        let mini_node = settings.mini_node;
        let limits = if mini_node {
            ConnectionLimits {
                incoming: MINI_NODE_CONNECTIONS - 128,
                total: MINI_NODE_CONNECTIONS,
                pending_incoming: 256,
                memory: Some(MINI_NODE_MEMORY_BYTES),
                per_address: Some(MINI_NODE_PER_ADDRESS),
                ..ConnectionLimits::default()
            }
        } else {
            ConnectionLimits {
                memory: Some(MEMORY_BYTES),
                per_address: Some(PER_ADDRESS),
                ..ConnectionLimits::default()
            }
        };
        let at_home = serves && (!mini_node || settings.allow_private);
        let config = antiphon_p2p::Config {
            listen,
            agent: format!("antiphon/{}", env!("CARGO_PKG_VERSION")),
            boot_nonce: u64::from_le_bytes(nonce),
            uploads: self.config.upload.limits(),
            mdns: at_home && settings.mdns,
            upnp: at_home && settings.upnp,
            role: if mini_node { Role::MiniNode } else { Role::Peer },
            private_addresses: !mini_node || settings.allow_private,
            external: settings
                .external
                .iter()
                .map(|text| parse_external(text))
                .collect::<anyhow::Result<_>>()?,
            mini_nodes: self.addresses.iter().cloned().collect(),
            named: settings.peer_vps.len(),
            network: self.insist,
            relay: self.config.relay.limits().filter(|_| mini_node),
            limits,
            ..antiphon_p2p::Config::default()
        };
        let services = Services {
            ledger: self.desk.clone(),
            registrar: self.desk.clone(),
            audio: self.desk.clone(),
            witness: self.stand.clone(),
        };
        let (network, mut events) = Box::pin(Network::start(config, node_seed, services, &mut self.registry))
            .await
            .context("cannot start the network; is another peer using the same --listen address?")?;
        let cancel = self.cancel.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    event = events.recv() => match event {
                        Some(Event::Banned { peer, duration }) => tracing::warn!(%peer, ?duration, "banned"),
                        Some(event) => tracing::debug!(?event, "network"),
                        None => return,
                    },
                }
            }
        });
        Ok(network)
    }

    fn listen(&mut self) -> anyhow::Result<Vec<Multiaddr>> {
        if !self.config.network.listen.is_empty() {
            return self.config.network.listen.iter().map(|text| parse_listen(text)).collect();
        }
        let port = match self.state.port {
            Some(port) => port,
            None => {
                let port = free_port()?;
                self.state.port = Some(port);
                self.state.save(&self.data.network_state())?;
                port
            }
        };
        let mut listen = Vec::new();
        for ip in ["/ip4/0.0.0.0", "/ip6/::"] {
            if ip.starts_with("/ip6") && !std::path::Path::new("/proc/net/if_inet6").exists() {
                continue;
            }
            listen.push(parse_listen(&format!("{ip}/udp/{port}/quic-v1"))?);
            listen.push(parse_listen(&format!("{ip}/tcp/{port}"))?);
        }
        Ok(listen)
    }

    /// The genesis document to create the ledger with.
    async fn genesis(
        &mut self,
        network: Option<&Network>,
        report: &(dyn Fn(&str) + Send + Sync),
    ) -> anyhow::Result<Genesis> {
        if let Some(path) = &self.config.network.genesis {
            let genesis = genesis_file::read(path)?;
            report(&format!("starting from {}: network {}", path.display(), genesis.network_id()));
            return Ok(genesis);
        }
        if let Some(network) = network
            && !self.addresses.is_empty()
        {
            return self.join(network, report).await;
        }
        if let Some(network) = network
            && let Some(genesis) = self.nearby(network, report).await
        {
            return Ok(genesis);
        }
        if let Some(id) = self.insist {
            bail!(
                "the ledger of network {id} is not in {}; name a peer of that network with --peer-vps, or leave --network out \
                 and remove network.json to start a network of your own",
                self.data.root().display()
            );
        }
        let member = keyfile::load_or_create(&self.data.key("member"))?;
        let genesis = Genesis::new("", clock::now_ms().max(1), random()?, &[member.public()]);
        report(&format!("starting a network of one's own: {}", genesis.network_id()));
        Ok(genesis)
    }

    /// Whoever names a peer of another network than this directory's should hear it now, not in a log. A peer that
    /// does not answer at once is tried again later.
    async fn check_asked(&self, network: Option<&Network>, id: NetworkId) -> anyhow::Result<()> {
        let Some(network) = network else { return Ok(()) };
        for address in self.addresses.iter().take(self.config.network.peer_vps.len()) {
            let asked = tokio::time::timeout(ASK_WITHIN, follow::introduce(network, address, Some(id))).await;
            if let Ok(Err(error)) = asked
                && error.is::<Failure>()
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// The network of whoever is found in the local network within a few seconds: without a peer to join through, a
    /// second peer at home belongs to the network of the first.
    async fn nearby(&self, network: &Network, report: &(dyn Fn(&str) + Send + Sync)) -> Option<Genesis> {
        let mini_node = self.config.network.mini_node && !self.config.network.allow_private;
        if !self.config.network.mdns
            || mini_node
            || !antiphon_p2p::listens_nearby(&network.listen_addrs().await)
        {
            return None;
        }
        report("looking for peers in the local network");
        let until = tokio::time::Instant::now() + NEARBY_WITHIN;
        while tokio::time::Instant::now() < until {
            for found in network.peers().await {
                let Ok(info) = network.ledger_info(found.peer).await else { continue };
                let Ok(genesis) = Genesis::parse(&info.genesis) else { continue };
                let id = genesis.network_id();
                if self.insist.is_none_or(|wanted| wanted == id) {
                    report(&format!("joining network {id}, which {} in the local network is of", found.addr));
                    return Some(genesis);
                }
            }
            tokio::time::sleep(NEARBY_PAUSE).await;
        }
        None
    }

    async fn join(
        &self,
        network: &Network,
        report: &(dyn Fn(&str) + Send + Sync),
    ) -> anyhow::Result<Genesis> {
        loop {
            for address in &self.addresses {
                match follow::introduce(network, address, self.insist).await {
                    Ok((_, genesis)) => {
                        report(&format!("joining network {}", genesis.network_id()));
                        return Ok(genesis);
                    }
                    Err(error) if error.is::<Failure>() => return Err(error),
                    Err(error) => report(&format!("{error:#}")),
                }
            }
            if self.reach != Reach::Serve {
                bail!(
                    "no peer of the network answers; is the address of --peer-vps right, and that peer running?"
                );
            }
            report("no peer of the network answers yet; trying again");
            tokio::select! {
                () = self.cancel.cancelled() => bail!("stopped before a network was joined"),
                () = tokio::time::sleep(JOIN_PAUSE) => {}
            }
        }
    }

    /// Opens the ledger; `None` when there is none and no genesis document to start it from.
    async fn ledger(
        &self,
        genesis: Option<Genesis>,
        report: Arc<dyn Fn(&str) + Send + Sync>,
    ) -> anyhow::Result<Option<Ledger>> {
        let (path, index) = (self.data.ledger(), self.data.fingerprints());
        let opened = tokio::task::spawn_blocking(move || {
            let rule = Rule::open(&index)
                .map_err(|error| anyhow::anyhow!("fingerprint index {}: {error}", index.display()))?;
            let progress: Box<dyn Fn(antiphon_ledger::Progress) + Send> =
                Box::new(move |now| report(&stage(now)));
            let options = Options { genesis, rule: Box::new(rule), progress: Some(progress) };
            match Ledger::open(&path, options) {
                Ok(ledger) => Ok(Some(ledger)),
                Err(OpenError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            }
        });
        opened.await?
    }

    fn pin(&mut self, ledger: &Ledger) -> anyhow::Result<()> {
        let id = ledger.network();
        if let Some(wanted) = self.insist.filter(|wanted| *wanted != id) {
            bail!("the ledger in {} is of network {id}, not {wanted}", self.data.root().display());
        }
        if self.state.network.is_none() && self.reach != Reach::ReadOnly {
            self.state.network = Some(id.to_string());
            self.state.save(&self.data.network_state())?;
        }
        Ok(())
    }

    /// What this peer is paid for and what it pays for: with a wallet that is open, in a network.
    async fn royalties(
        &self,
        ledger: &Ledger,
        network: Option<&Network>,
        wallet: Option<&wallet::Wallet>,
        orders: &Arc<dyn Orders>,
    ) -> anyhow::Result<Option<Royalties>> {
        let (Some(network), Some(signer)) = (network, wallet.and_then(|wallet| wallet.signer().ok())) else {
            return Ok(None);
        };
        let (id, folder) = (ledger.network(), self.data.receipts());
        let outbox = tokio::task::spawn_blocking(move || Outbox::open(&folder, id)).await??;
        let royalties = Royalties::new(ledger, network, signer.clone(), Arc::new(outbox));
        self.stand.open(royalties.witness());
        let pace = Pace::of(&ledger.economy());
        tokio::spawn(royalties.outbox.clone().hand_in(orders.clone(), pace, self.cancel.clone()));
        Ok(Some(royalties))
    }

    fn orders(
        &self,
        ledger: &Ledger,
        network: Option<&Network>,
        upstream: &watch::Receiver<Option<PeerId>>,
    ) -> anyhow::Result<Ordering> {
        if self.reach == Reach::ReadOnly {
            return Ok((None, Arc::new(Offline)));
        }
        let elsewhere: Arc<dyn Orders> = match network {
            Some(network) => Arc::new(Remote::new(network.clone(), ledger.network(), upstream.clone())),
            None => Arc::new(Offline),
        };
        Ok(match council::take(&self.config.council, &self.data, ledger, network)? {
            Some(seat) => {
                let orders = Arc::new(Seated::new(seat.council.clone(), elsewhere));
                (Some(seat), orders)
            }
            None => (None, elsewhere),
        })
    }
}

fn parse_listen(text: &str) -> anyhow::Result<Multiaddr> {
    text.parse().map_err(|error| {
        Failure::new(
            Kind::Usage,
            format!("--listen {text}: {error}; an example: /ip4/0.0.0.0/udp/7710/quic-v1"),
        )
        .into()
    })
}

fn parse_external(text: &str) -> anyhow::Result<Multiaddr> {
    text.parse().map_err(|error| {
        Failure::new(
            Kind::Usage,
            format!("--external {text}: {error}; an example: /ip4/192.0.2.1/udp/7710/quic-v1"),
        )
        .into()
    })
}

fn stage(now: antiphon_ledger::Progress) -> String {
    let (what, unit) = match now.stage {
        Stage::Index => ("building the ledger's index", "bytes"),
        Stage::Rule => ("building the fingerprint index", "blocks"),
        Stage::Verify => ("verifying the ledger", "blocks"),
        Stage::Dump => ("writing the dump", "blocks"),
        Stage::Load => ("loading the dump", "blocks"),
    };
    format!("{what}: {} of {} {unit}", now.done, now.total)
}

/// A port that is free for UDP and TCP now: the usual one, or any.
fn free_port() -> anyhow::Result<u16> {
    use std::net::{TcpListener, UdpSocket};
    let free = |port: u16| {
        let tcp = TcpListener::bind(("0.0.0.0", port)).ok()?;
        let port = tcp.local_addr().ok()?.port();
        UdpSocket::bind(("0.0.0.0", port)).ok().map(|_| port)
    };
    (FIRST_PORT..FIRST_PORT + 10)
        .chain(std::iter::repeat_n(0, 10))
        .find_map(free)
        .context("no free port was found")
}

/// Follows the network and keeps registrations moving.
fn follow(
    peer: &Peer,
    network: Network,
    upstream: watch::Sender<Option<PeerId>>,
    addresses: VecDeque<Multiaddr>,
    mut state: NetworkState,
) {
    let (answered_in, answered) = watch::channel(None::<Multiaddr>);
    let path = peer.data.network_state();
    if state.network.is_none() {
        state.network = Some(peer.ledger.network().to_string());
    }
    peer.spawn(presence::remember(network.clone(), state, path, answered));
    let follower = Follower {
        network,
        ledger: peer.ledger.clone(),
        council: peer.seat.as_ref().map(|seat| seat.council.clone()),
        upstream,
        answered: answered_in,
        status: peer.following.clone(),
        cancel: peer.cancel.clone(),
    };
    peer.spawn(follower.run(addresses));
    let council = peer.seat.as_ref().map(|seat| seat.council.clone());
    let (library, mut connected) = (peer.library.clone(), peer.upstream.clone());
    peer.spawn(async move {
        let mut pause = RETRIES.0;
        loop {
            let orders_here = council.as_ref().is_some_and(|council| council.report().is_member());
            if orders_here || connected.borrow_and_update().is_some() {
                match library.retry_pending().await {
                    Ok(0) => {}
                    Ok(settled) => tracing::info!(settled, "waiting registrations have their answer"),
                    Err(error) => tracing::error!(%error, "waiting registrations cannot be handed in"),
                }
            }
            tokio::select! {
                changed = connected.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    pause = RETRIES.0;
                }
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRIES.1),
            }
        }
    });
}
