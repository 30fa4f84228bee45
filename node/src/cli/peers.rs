//! `antiphon peers`, for people.

use serde_json::Value;

use super::{
    output::Output,
    table::{Align, Table},
};
use crate::{
    ops,
    peer_ops::{MiniNodeLine, PeersReport},
};

pub(super) fn show(answer: Value, output: &Output) -> anyhow::Result<()> {
    let report: PeersReport = ops::read(answer.clone())?;
    if output.json {
        return output.value(&answer);
    }
    output.line(&format!(
        "this peer: {} ({}; router: {} for UDP, {} for TCP; UPnP: {})",
        report.peer_id,
        report.reachability,
        report.nat,
        report.nat_tcp,
        report.upnp.replace('_', " "),
    ))?;
    for address in &report.external {
        output.line(&format!("  reached at {address}"))?;
    }
    if !report.advice.is_empty() {
        output.line(&format!("  {}", report.advice))?;
    }
    if !report.mini_nodes.is_empty() {
        output.line("")?;
        let mut table = Table::new([
            ("mini-node", Align::Left),
            ("state", Align::Left),
            ("relays", Align::Left),
            ("failures", Align::Right),
            ("ms", Align::Right),
            ("address", Align::Left),
            ("last failure", Align::Left),
        ]);
        for known in &report.mini_nodes {
            table.row(mini_node(known));
        }
        output.raw(table.text().as_bytes())?;
    }
    output.line("")?;
    if report.peers.is_empty() {
        return output.line("no peer is connected");
    }
    let mut table = Table::new([
        ("peer", Align::Left),
        ("path", Align::Left),
        ("over", Align::Left),
        ("ms", Align::Right),
        ("sent", Align::Right),
        ("had", Align::Right),
        ("address", Align::Left),
    ]);
    for peer in &report.peers {
        let kind = if peer.mini_node { " *" } else { "" };
        let via = peer.via.as_deref().map(|via| format!(" via {}", tail(via))).unwrap_or_default();
        table.row([
            format!("{}{kind}", tail(&peer.peer_id)),
            format!("{}{via}", peer.path),
            peer.transport.clone(),
            peer.rtt_us.map(|rtt| format!("{}.{}", rtt / 1_000, rtt % 1_000 / 100)).unwrap_or_default(),
            size(peer.served_bytes),
            size(peer.fetched_bytes),
            if peer.via.is_some() { String::new() } else { peer.addr.clone() },
        ]);
    }
    output.raw(table.text().as_bytes())?;
    output.line("* mini-node")
}

fn mini_node(known: &MiniNodeLine) -> [String; 7] {
    let retry = known.retry_s.map(|retry| format!(", tried again in {retry} s")).unwrap_or_default();
    let name = match &known.peer_id {
        Some(peer) => tail(peer).to_owned(),
        None => "?".to_owned(),
    };
    let state = match known.is_mini_node {
        Some(false) => format!("{} (a peer like this one)", known.state),
        _ => format!("{}{retry}", known.state),
    };
    [
        name,
        state,
        if known.reservation == "none" { String::new() } else { known.reservation.clone() },
        if known.failures == 0 { String::new() } else { known.failures.to_string() },
        known.rtt_ms.map(|rtt| rtt.to_string()).unwrap_or_default(),
        known.addr.clone(),
        if known.state == "connected" { String::new() } else { known.reason.clone().unwrap_or_default() },
    ]
}

/// Peer ids begin alike; their ends differ.
fn tail(peer: &str) -> &str {
    peer.get(peer.len().saturating_sub(8)..).unwrap_or(peer)
}

fn size(bytes: u64) -> String {
    match bytes {
        0 => String::new(),
        1..1_048_576 => format!("{} KiB", bytes.div_ceil(1_024)),
        _ => format!("{} MiB", bytes >> 20),
    }
}
