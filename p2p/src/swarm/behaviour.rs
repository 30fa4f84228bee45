//! The behaviours of a peer.

use std::{num::NonZeroUsize, time::Duration};

use antiphon_proto::NetworkId;
use libp2p::{
    PeerId, StreamProtocol, allow_block_list, autonat, connection_limits, dcutr, identify,
    identity::Keypair,
    kad::{self, store::MemoryStore},
    mdns, memory_connection_limits,
    metrics::Registry,
    ping, relay,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
    upnp,
};

use super::{candidates::Candidates, per_address::PerAddress};
use crate::{
    config::{Config, ConnectionLimits, Role, listens_nearby},
    error::StartError,
    protocol::request::clean,
    streams,
    swarm::gossip::{self, Gossip},
};

/// Mini-nodes that Kademlia tells of in one answer, and asks at once for anything: a mesh has tens of them.
const KADEMLIA_BUCKET: NonZeroUsize = NonZeroUsize::new(20).unwrap();
/// How often a mini-node looks for others that it does not know yet.
const KADEMLIA_LOOK: Duration = Duration::from_secs(300);
/// Other peers' records that Kademlia keeps: none are put there, so few are room for mistakes.
const KADEMLIA_RECORDS: usize = 16;

/// Name of the family of protocols, as identify tells it.
const PROTOCOL_VERSION: &str = "/antiphon/1";
/// Stands between the program's name and the boot nonce in identify's agent version.
const BOOT: &str = " boot=";
/// Characters of a program's name that are sent and shown.
const AGENT_BYTES: usize = 64;

/// Everything that runs on a connection. The first fields may refuse it.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    per_address: Toggle<PerAddress>,
    limits: connection_limits::Behaviour,
    memory: Toggle<memory_connection_limits::Behaviour>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(crate) gossip: Gossip,
    mdns: Toggle<mdns::tokio::Behaviour>,
    relay_client: Toggle<relay::client::Behaviour>,
    dcutr: Toggle<dcutr::Behaviour>,
    pub(crate) candidates: Toggle<Candidates>,
    autonat_server: Toggle<autonat::v2::server::Behaviour>,
    upnp: Toggle<upnp::tokio::Behaviour>,
    pub(crate) kademlia: Toggle<Kademlia>,
    pub(crate) streams: streams::Behaviour,
}

pub(crate) type Kademlia = kad::Behaviour<MemoryStore>;

impl Behaviour {
    pub(crate) fn new(
        keypair: &Keypair,
        config: &Config,
        relay_client: Option<relay::client::Behaviour>,
        streams: streams::Behaviour,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        let identify = identify::Config::new(PROTOCOL_VERSION.to_owned(), keypair.public())
            .with_agent_version(agent_version(&config.agent, config.boot_nonce))
            .with_push_listen_addr_updates(true)
            // Then only those are told that are known to be reached from outside.
            .with_hide_listen_addrs(!config.private_addresses);
        let ping = ping::Config::new().with_interval(config.timeouts.ping).with_timeout(config.timeouts.ping);
        let local = keypair.public().to_peer_id();
        let at_home = config.role == Role::Peer && !config.listen.is_empty();
        let mini_node = config.role == Role::MiniNode;
        Ok(Self {
            blocked: allow_block_list::Behaviour::default(),
            per_address: config.limits.per_address.map(PerAddress::new).into(),
            limits: connection_limits::Behaviour::new(limits(&config.limits)),
            memory: config.limits.memory.map(memory_connection_limits::Behaviour::with_max_bytes).into(),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping),
            gossip: gossip::behaviour(keypair, registry)?,
            mdns: local_discovery(local, config).into(),
            relay_client: relay_client.into(),
            dcutr: at_home.then(|| dcutr::Behaviour::new(local)).into(),
            candidates: at_home.then(|| Candidates::new(config.timeouts.probe)).into(),
            autonat_server: mini_node.then(autonat::v2::server::Behaviour::default).into(),
            upnp: (at_home && config.upnp && listens_nearby(&config.listen))
                .then(upnp::tokio::Behaviour::default)
                .into(),
            kademlia: config.network.filter(|_| mini_node).map(|network| kademlia(local, &network)).into(),
            streams,
        })
    }

    pub(crate) fn ban(&mut self, peer: PeerId) {
        self.blocked.block_peer(peer);
    }

    pub(crate) fn pardon(&mut self, peer: PeerId) {
        self.blocked.unblock_peer(peer);
    }
}

/// Multicast DNS, where other machines could reach what it would tell. A machine without multicast goes on without.
fn local_discovery(local: PeerId, config: &Config) -> Option<mdns::tokio::Behaviour> {
    if !config.mdns || !listens_nearby(&config.listen) {
        return None;
    }
    mdns::tokio::Behaviour::new(mdns::Config::default(), local)
        .inspect_err(|error| tracing::warn!(%error, "no discovery in the local network"))
        .ok()
}

/// Kademlia of one network's mini-nodes, which are all its servers: its table is how they learn of one another. Peers at
/// home are not even clients: libp2p's dials twenty servers whenever it has met a new one. They hear of mini-nodes from
/// those that they have.
fn kademlia(local: PeerId, network: &NetworkId) -> Kademlia {
    let mut config = kad::Config::new(kademlia_protocol(network));
    config
        .set_kbucket_size(KADEMLIA_BUCKET)
        .set_periodic_bootstrap_interval(Some(KADEMLIA_LOOK))
        .set_record_filtering(kad::StoreInserts::FilterBoth);
    let store = kad::store::MemoryStoreConfig {
        max_records: KADEMLIA_RECORDS,
        max_provided_keys: KADEMLIA_RECORDS,
        ..kad::store::MemoryStoreConfig::default()
    };
    let store = MemoryStore::with_config(local, store);
    let mut kademlia = Kademlia::with_config(local, store, config);
    kademlia.set_mode(Some(kad::Mode::Server));
    kademlia
}

/// Name of a network's Kademlia.
pub(crate) fn kademlia_protocol(network: &NetworkId) -> StreamProtocol {
    let name = format!("/antiphon/{network}/kad/1.0.0");
    StreamProtocol::try_from_owned(name).unwrap_or(StreamProtocol::new("/antiphon/kad/1.0.0"))
}

fn limits(limits: &ConnectionLimits) -> connection_limits::ConnectionLimits {
    connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(limits.pending_incoming))
        .with_max_pending_outgoing(Some(limits.pending_outgoing))
        .with_max_established_incoming(Some(limits.incoming))
        .with_max_established(Some(limits.total))
        .with_max_established_per_peer(Some(limits.per_peer))
}

/// What identify tells of us.
fn agent_version(agent: &str, boot_nonce: u64) -> String {
    format!("{}{BOOT}{boot_nonce:016x}", clean(agent, AGENT_BYTES))
}

/// Program and boot nonce of another peer; one that is no antiphon has no nonce.
pub(crate) fn read_agent(agent_version: &str) -> (String, Option<u64>) {
    let (agent, nonce) = match agent_version.rsplit_once(BOOT) {
        Some((agent, nonce)) => (agent, u64::from_str_radix(nonce, 16).ok()),
        None => (agent_version, None),
    };
    (clean(agent, AGENT_BYTES), nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_nonce_travels_in_the_agent_version() {
        assert_eq!(agent_version("antiphon/0.1.0", 0xab), "antiphon/0.1.0 boot=00000000000000ab");
        assert_eq!(
            read_agent("antiphon/0.1.0 boot=00000000000000ab"),
            ("antiphon/0.1.0".to_owned(), Some(0xab))
        );
        assert_eq!(read_agent("kubo/0.30 boot=x"), ("kubo/0.30".to_owned(), None));
        assert_eq!(read_agent("evil\u{7}"), ("evil".to_owned(), None));
        assert_eq!(read_agent(&"x".repeat(5_000)).0.len(), AGENT_BYTES);
    }
}
