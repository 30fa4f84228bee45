//! The behaviours of a peer. Later ones (Kademlia, relay, …) are fields beside these.

use libp2p::{
    PeerId, allow_block_list, connection_limits, identify,
    identity::Keypair,
    mdns, memory_connection_limits,
    metrics::Registry,
    ping,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
};

use crate::{
    config::{Config, ConnectionLimits},
    error::StartError,
    presence::task::Reach,
    protocol::request::clean,
    streams,
    swarm::gossip::{self, Gossip},
};

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
    limits: connection_limits::Behaviour,
    memory: Toggle<memory_connection_limits::Behaviour>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(crate) gossip: Gossip,
    mdns: Toggle<mdns::tokio::Behaviour>,
    pub(crate) streams: streams::Behaviour,
}

impl Behaviour {
    pub(crate) fn new(
        keypair: &Keypair,
        config: &Config,
        streams: streams::Behaviour,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        let identify = identify::Config::new(PROTOCOL_VERSION.to_owned(), keypair.public())
            .with_agent_version(agent_version(&config.agent, config.boot_nonce))
            .with_push_listen_addr_updates(true);
        let ping = ping::Config::new().with_interval(config.timeouts.ping).with_timeout(config.timeouts.ping);
        Ok(Self {
            blocked: allow_block_list::Behaviour::default(),
            limits: connection_limits::Behaviour::new(limits(&config.limits)),
            memory: config.limits.memory.map(memory_connection_limits::Behaviour::with_max_bytes).into(),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping),
            gossip: gossip::behaviour(keypair, registry)?,
            mdns: local_discovery(keypair, config).into(),
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
fn local_discovery(keypair: &Keypair, config: &Config) -> Option<mdns::tokio::Behaviour> {
    let reachable = |address: &libp2p::Multiaddr| Reach::of(address) != Reach::Loopback;
    if !config.mdns || !config.listen.iter().any(reachable) {
        return None;
    }
    let local = keypair.public().to_peer_id();
    mdns::tokio::Behaviour::new(mdns::Config::default(), local)
        .inspect_err(|error| tracing::warn!(%error, "no discovery in the local network"))
        .ok()
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
