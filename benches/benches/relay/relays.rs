//! The relays, and peers of ours behind them.

use std::{
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use antiphon_p2p::{
    Config, ConnectionLimits, Multiaddr, Network, RelayLimits, Role, Timeouts, status::Reservation,
};
use futures::StreamExt;
use libp2p::{
    Swarm, identify,
    multiaddr::Protocol,
    noise, ping, relay,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use tokio::task::JoinHandle;

use crate::served::OneFile;

/// More peers than any measurement has, all from one address.
const MANY: u32 = 16_384;
const FOR_EVER: Duration = Duration::from_secs(1_000_000);

enum Running {
    Ours(Network),
    Rival(JoinHandle<()>),
}

/// A relay.
pub(crate) struct Relay {
    pub(crate) address: Multiaddr,
    running: Running,
}

impl Relay {
    /// A mini-node of ours.
    pub(crate) async fn ours(listen: &str, rate: Option<NonZeroU64>, file: &Arc<OneFile>) -> Self {
        let network = mini_node(&[listen], rate, file).await;
        let address = network.listen_addrs().await[0].clone();
        Self { address, running: Running::Ours(network) }
    }

    /// libp2p's relay server.
    pub(crate) async fn rival(listen: &str) -> Self {
        let mut swarm = rival();
        swarm.listen_on(listen.parse().unwrap()).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        swarm.add_external_address(address.clone());
        let address = address.with(Protocol::P2p(*swarm.local_peer_id()));
        let task = tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        Self { address, running: Running::Rival(task) }
    }

    pub(crate) async fn end(self) {
        match self.running {
            Running::Ours(network) => network.shutdown().await,
            Running::Rival(task) => task.abort(),
        }
    }
}

/// A mini-node of ours that lets many in from one address.
pub(crate) async fn mini_node(listen: &[&str], rate: Option<NonZeroU64>, file: &Arc<OneFile>) -> Network {
    let many = MANY as usize;
    let relay = RelayLimits {
        reservations: many,
        reservations_per_ip: many,
        requests_per_ip_per_minute: NonZeroU64::new(MANY.into()).unwrap(),
        circuits_per_ip: many,
        handshakes_per_ip: many,
        total_bytes_per_second: rate,
        ..RelayLimits::default()
    };
    let limits = ConnectionLimits {
        pending_incoming: MANY,
        incoming: MANY,
        total: MANY,
        ..ConnectionLimits::default()
    };
    let listen = listen.iter().map(|address| address.parse().unwrap()).collect();
    let config = Config { listen, relay: Some(relay), limits, role: Role::MiniNode, ..Config::default() };
    file.start_with(config, seed()).await
}

/// A peer of ours that serves the file and is met at the relay: nobody tests whether it can be reached otherwise.
pub(crate) async fn behind(relay: &Relay, listen: &str, file: &Arc<OneFile>) -> Network {
    let network = file.start_with(at(relay, listen), seed()).await;
    until_reserved(&network).await;
    network
}

/// The settings of such a peer.
pub(crate) fn at(relay: &Relay, listen: &str) -> Config {
    Config {
        listen: vec![listen.parse().unwrap()],
        mini_nodes: vec![relay.address.clone()],
        named: 1,
        timeouts: Timeouts { probe: FOR_EVER, ..Timeouts::default() },
        ..Config::default()
    }
}

pub(crate) async fn until_reserved(network: &Network) {
    let held = || async {
        let ways = network.ways().await.unwrap();
        ways.mini_nodes.iter().any(|known| known.reservation == Reservation::Held)
    };
    while !held().await {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Another one each time.
pub(crate) fn seed() -> [u8; 32] {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    *blake3::hash(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes()).as_bytes()
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    relay: relay::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

fn rival() -> Swarm<Behaviour> {
    let limits = relay::Config {
        reservation_rate_limiters: Vec::new(),
        circuit_src_rate_limiters: Vec::new(),
        max_circuit_duration: FOR_EVER,
        max_circuit_bytes: 0,
        ..relay::Config::default()
    };
    libp2p::SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_quic()
        .with_behaviour(|key| Behaviour {
            relay: relay::Behaviour::new(key.public().to_peer_id(), limits),
            identify: identify::Behaviour::new(identify::Config::new("/rival/1".to_owned(), key.public())),
            ping: ping::Behaviour::default(),
        })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(FOR_EVER))
        .build()
}
