//! `antiphon peers`: who is connected and by which way, how this peer is reached, and by whose help.

use std::time::Duration;

use antiphon_p2p::{
    Direction, Network, PeerInfo,
    status::{MiniNode, MiniNodeState, NatKind, Path, Reachability, Reservation, Upnp, WaysStatus},
};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::peer::Peer;

/// `antiphon peers --json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeersReport {
    /// Version of this form.
    pub schema: u32,
    /// This peer.
    pub peer_id: String,
    /// `public` when others can dial this peer, `private` when they cannot, `unknown` before that was tested.
    pub reachability: String,
    /// `none`, `cone` (the router maps a port to one port for everybody), `symmetric` (to another one for each
    /// destination) or `unknown`, for UDP.
    pub nat: String,
    /// The same for TCP.
    pub nat_tcp: String,
    /// What the router says to UPnP: `off`, `searching`, `mapped`, `expired`, `none`, `behind_another_nat`.
    pub upnp: String,
    /// Addresses at which others reach this peer, those at relays included.
    pub external: Vec<String>,
    /// What that means and what to do, for people.
    pub advice: String,
    /// Mini-nodes, and peers that were named with `--peer-vps`.
    pub mini_nodes: Vec<MiniNodeLine>,
    /// Connected peers.
    pub peers: Vec<PeerLine>,
}

/// A mini-node, as this peer sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MiniNodeLine {
    /// Who, once it has answered.
    pub peer_id: Option<String>,
    /// Where.
    pub addr: String,
    /// `connected`, `dialling`, `spare`, `waiting` (it failed and is tried again soon) or `resting` (it failed three times
    /// and is out of the rotation).
    pub state: String,
    /// Seconds until it is tried again.
    pub retry_s: Option<u64>,
    /// Failures in a row.
    pub failures: u32,
    /// Round trip, milliseconds.
    pub rtt_ms: Option<u64>,
    /// Whether it relays for this peer: `none`, `pending`, `held` or `refused`.
    pub reservation: String,
    /// Whether it says that it is a mini-node; none before it said anything.
    pub is_mini_node: Option<bool>,
    /// The last failure.
    pub reason: Option<String>,
}

/// A connected peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerLine {
    /// Who.
    pub peer_id: String,
    /// `direct`, `punched` (direct, through both routers) or `relayed`.
    pub path: String,
    /// `quic` or `tcp`; of a relayed path the way to the relay.
    pub transport: String,
    /// Where.
    pub addr: String,
    /// The relay.
    pub via: Option<String>,
    /// Round trip, microseconds.
    pub rtt_us: Option<u64>,
    /// The same in milliseconds.
    pub rtt_ms: Option<u64>,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// What it says it is.
    pub agent: String,
    /// Whether it relays for others.
    pub mini_node: bool,
    /// Open connections with it.
    pub connections: usize,
    /// Audio bytes sent to it.
    pub served_bytes: u64,
    /// Audio bytes had from it.
    pub fetched_bytes: u64,
}

/// Does it.
///
/// # Errors
/// When this peer is on no network.
pub(crate) async fn peers(peer: &Peer) -> anyhow::Result<PeersReport> {
    let network = peer.network.as_ref().context("this peer is on no network; run `antiphon up`")?;
    report(network).await
}

async fn report(network: &Network) -> anyhow::Result<PeersReport> {
    let ways = network.ways().await.context("the network is shutting down")?;
    let mut peers: Vec<PeerInfo> = network.peers().await;
    peers.sort_by_key(|known| (!known.mini_node, known.path, known.peer));
    Ok(PeersReport {
        schema: 1,
        peer_id: network.local_peer_id().to_string(),
        reachability: reachability(&ways).to_owned(),
        nat: nat(ways.nat.udp).to_owned(),
        nat_tcp: nat(ways.nat.tcp).to_owned(),
        upnp: upnp(ways.upnp).to_owned(),
        external: ways.external.iter().map(ToString::to_string).collect(),
        advice: ways.nat.advice.clone(),
        mini_nodes: ways.mini_nodes.iter().map(mini_node).collect(),
        peers: peers.iter().map(line).collect(),
    })
}

fn reachability(ways: &WaysStatus) -> &'static str {
    match ways.nat.reachability {
        Reachability::Public => "public",
        Reachability::Private => "private",
        Reachability::Unknown => "unknown",
    }
}

fn nat(kind: NatKind) -> &'static str {
    match kind {
        NatKind::None => "none",
        NatKind::Cone => "cone",
        NatKind::Symmetric => "symmetric",
        NatKind::Unknown => "unknown",
    }
}

fn upnp(upnp: Upnp) -> &'static str {
    match upnp {
        Upnp::Off => "off",
        Upnp::Searching => "searching",
        Upnp::Mapped => "mapped",
        Upnp::Expired => "expired",
        Upnp::NotFound => "none",
        Upnp::BehindAnother => "behind_another_nat",
    }
}

fn mini_node(known: &MiniNode) -> MiniNodeLine {
    let (state, until) = match known.state {
        MiniNodeState::Connected => ("connected", None),
        MiniNodeState::Dialling => ("dialling", None),
        MiniNodeState::Spare => ("spare", None),
        MiniNodeState::Waiting { until } => ("waiting", Some(until)),
        MiniNodeState::Resting { until } => ("resting", Some(until)),
    };
    let now = Instant::now().into_std();
    MiniNodeLine {
        peer_id: known.peer.map(|peer| peer.to_string()),
        addr: known.address.to_string(),
        state: state.to_owned(),
        retry_s: until.map(|until| until.saturating_duration_since(now).as_secs()),
        failures: known.failures,
        rtt_ms: known.rtt.map(millis),
        reservation: match known.reservation {
            Reservation::None => "none",
            Reservation::Pending => "pending",
            Reservation::Held => "held",
            Reservation::Refused => "refused",
        }
        .to_owned(),
        is_mini_node: known.is_mini_node,
        reason: known.reason.clone(),
    }
}

fn line(known: &PeerInfo) -> PeerLine {
    PeerLine {
        peer_id: known.peer.to_string(),
        path: path(known.path).to_owned(),
        transport: known.transport.name().to_owned(),
        addr: known.addr.to_string(),
        via: known.via.map(|via| via.to_string()),
        rtt_us: known.rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
        rtt_ms: known.rtt.map(millis),
        direction: match known.direction {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        }
        .to_owned(),
        agent: known.agent.clone(),
        mini_node: known.mini_node,
        connections: known.connections,
        served_bytes: known.served_bytes,
        fetched_bytes: known.fetched_bytes,
    }
}

/// A path's name.
pub(crate) fn path(path: Path) -> &'static str {
    match path {
        Path::Direct => "direct",
        Path::Punched => "punched",
        Path::Relayed => "relayed",
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
