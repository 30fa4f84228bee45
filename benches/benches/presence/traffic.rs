//! Bytes and signatures a second.

use antiphon_benches::presence::{
    overlay::Gossip,
    wire::{TOPIC, Wire},
    world::{expiry_ms, pace_ms},
};
use antiphon_p2p::presence::Params;
use std::time::Duration;

use crate::{
    CONNECTIONS, OF_MINI_NODE, SIZES, float,
    flow::{Flow, Rate, Shard, quantile},
};

/// How long a peer is there, and the songs that it keeps or drops a day, one by one.
const SESSION_S: f64 = 4.0 * 3_600.0;
const CHANGES_A_DAY: f64 = 10.0;

/// Settings under which a shard runs.
struct Plan {
    name: &'static str,
    params: Params,
    gossip: Gossip,
    wire: Wire,
    /// Whether a peer that comes is told at once how many are there, and so speaks at the pace of the others; and neighbours
    /// say whom they lost.
    told: bool,
}

fn as_it_is() -> Plan {
    Plan {
        name: "as it is",
        params: Params::default(),
        gossip: Gossip::default(),
        wire: Wire::default(),
        told: false,
    }
}

fn proposed() -> Plan {
    Plan {
        name: "proposed",
        params: Params { heartbeat_per_peer: Duration::from_millis(200), ..Params::default() },
        gossip: Gossip { mesh: 4, mesh_low: 3, mesh_high: 8, lazy: 3, lazy_percent: 0, ..Gossip::default() },
        wire: Wire { id: 16, ..Wire::default() },
        told: true,
    }
}

/// Announcements a second of everybody who is just there.
fn heartbeats(params: &Params, peers: u32) -> f64 {
    f64::from(peers) * 1_000.0 / float(pace_ms(params, peers as usize - 1))
}

/// Announcements that a peer makes which comes into a shard, beyond those of one that is there, until it knows everybody.
fn extra_of_a_join(params: &Params, peers: u32) -> f64 {
    let pace = pace_ms(params, peers as usize);
    let (mut time, mut made) = (0, 0.0);
    while time < pace {
        made += 1.0;
        // It has heard of as many as have spoken.
        let known = u64::from(peers) * time / pace;
        time += pace_ms(params, usize::try_from(known).unwrap());
    }
    made - 1.0
}

/// Announcements a second, with those of peers that come and go and of single songs.
fn all(plan: &Plan, peers: u32) -> f64 {
    // Once told, the first is at the others' pace; one session in ten ends by a crash, which takes four of neighbours.
    let extra = if plan.told { 1.0 + 0.4 } else { extra_of_a_join(&plan.params, peers) };
    let (peers, beats) = (f64::from(peers), heartbeats(&plan.params, peers));
    beats + peers / SESSION_S * (extra + 1.0) + peers * CHANGES_A_DAY / 86_400.0
}

fn kb(bytes: (f64, f64)) -> String {
    format!("{:.1} / {:.1}", bytes.0 / 1_000.0, bytes.1 / 1_000.0)
}

pub(crate) fn sizes() {
    let wire = Wire::default();
    println!("An announcement: 96 B, a message of {} B, an RPC of {} B.", wire.message(), wire.copy());
    println!(
        "An id in a message that says what its sender has: {} B; such a message holds at most {} ids, so one topic carries at most {} announcements a second.",
        wire.have(2) - wire.have(1),
        wire.most_ids(),
        wire.most_ids() / u64::from(Gossip::default().history),
    );
    println!(
        "QUIC and IP: 62 B for each RPC of up to 1,350 B, and 61 B back for each that is not answered.\n"
    );
}

pub(crate) fn one_topic() {
    println!("## One topic, {CONNECTIONS} connections, heartbeats only\n");
    println!(
        "| peers | pace | announcements/s | mesh links | known after: median, 99 %, last | copies in / out | kB/s in / out | 99 % of peers | with QUIC and IP | signatures/s | of a Pi's core | mini-node ({OF_MINI_NODE} connections), kB/s in / out |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    let plan = as_it_is();
    for peers in SIZES {
        let shard = Shard::new(peers, CONNECTIONS, OF_MINI_NODE, &plan.gossip);
        let speed = heartbeats(&plan.params, peers);
        let rate = |flow: &Flow| Rate::of(flow, speed, plan.wire, &plan.gossip);
        let ordinary = rate(&shard.ordinary);
        let arrivals = &shard.arrivals;
        println!(
            "| {peers} | {:.0} s | {speed:.1} | {:.1} | {}, {}, {} ms | {:.1} / {:.1} | {} | {} | {} | {:.0} | {:.1} % | {} |",
            float(pace_ms(&plan.params, peers as usize - 1)) / 1_000.0,
            shard.overlay.mesh_links(),
            quantile(arrivals, 50),
            quantile(arrivals, 99),
            quantile(arrivals, 100),
            shard.ordinary.copies.0,
            shard.ordinary.copies.1,
            kb(ordinary.gossip),
            kb(rate(&shard.heavy).gossip),
            kb(ordinary.line),
            ordinary.checks,
            ordinary.core() * 100.0,
            kb(rate(&shard.mini_node).gossip),
        );
    }
    println!();
}

/// One setting after the other is changed, and stays so.
pub(crate) fn settings() {
    const PEERS: u32 = 10_000;
    println!("## What the settings do, {PEERS} peers in one topic\n");
    println!(
        "| | kB/s in / out | with QUIC and IP | signatures/s | known after: 99 %, last | mini-node, kB/s in / out |"
    );
    println!("|---|---|---|---|---|---|");
    let gossip = Gossip::default();
    let short = Wire { id: 16, ..Wire::default() };
    let few = Gossip { lazy_percent: 0, ..gossip };
    let thin = Gossip { mesh: 4, mesh_low: 3, mesh_high: 8, ..few };
    let lazy = Gossip { lazy: 3, ..thin };
    for (name, connections, gossip, wire, speed) in [
        ("as it is", CONNECTIONS, gossip, Wire::default(), 20.0),
        ("16 connections instead of 48", 16, gossip, Wire::default(), 20.0),
        ("message ids of 16 bytes instead of 71", CONNECTIONS, gossip, short, 20.0),
        ("and `gossip_factor` 0 instead of 0.25", CONNECTIONS, few, short, 20.0),
        ("and a mesh of 4 (3 to 8) instead of 6 (5 to 12)", CONNECTIONS, thin, short, 20.0),
        ("and `gossip_lazy` 3 instead of 6", CONNECTIONS, lazy, short, 20.0),
        ("and half of the topic's name", CONNECTIONS, lazy, Wire { topic: TOPIC - 48, ..short }, 20.0),
        ("and 5 announcements a second instead of 20", CONNECTIONS, lazy, short, 5.0),
    ] {
        let shard = Shard::new(PEERS, connections, OF_MINI_NODE, &gossip);
        let rate = Rate::of(&shard.ordinary, speed, wire, &gossip);
        println!(
            "| {name} | {} | {} | {:.0} | {}, {} ms | {} |",
            kb(rate.gossip),
            kb(rate.line),
            rate.checks,
            quantile(&shard.arrivals, 99),
            quantile(&shard.arrivals, 100),
            kb(Rate::of(&shard.mini_node, speed, wire, &gossip).gossip),
        );
    }
    println!();
}

pub(crate) fn shards() {
    println!(
        "## Shards, with sessions of {:.0} hours and {CHANGES_A_DAY} changes a day\n",
        SESSION_S / 3_600.0
    );
    println!(
        "| settings | peers | shards | peers in one | pace | silence allowed | announcements/s | ids in a message, of the most | kB/s in / out with QUIC and IP | signatures/s | at home | mini-node in all shards, kB/s in / out | signatures/s |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for plan in [as_it_is(), proposed()] {
        for peers in SIZES {
            for shards in [1, 4, 16, 64] {
                row(&plan, peers, shards);
            }
        }
    }
    println!();
}

fn row(plan: &Plan, peers: u32, shards: u32) {
    let inside = peers / shards;
    let shard = Shard::new(inside, CONNECTIONS, OF_MINI_NODE / shards as usize, &plan.gossip);
    let speed = all(plan, inside);
    let rate = Rate::of(&shard.ordinary, speed, plan.wire, &plan.gossip);
    let mini_node = Rate::of(&shard.mini_node, speed, plan.wire, &plan.gossip);
    let each = |rate: f64| rate * f64::from(shards);
    let ids = speed * f64::from(plan.gossip.history) / float(plan.wire.most_ids());
    println!(
        "| {} | {peers} | {shards} | {inside} | {:.0} s | {:.0} s | {speed:.1} | {:.0} % | {} | {:.0} | {} | {} | {:.0} |",
        plan.name,
        float(pace_ms(&plan.params, inside as usize - 1)) / 1_000.0,
        float(expiry_ms(&plan.params, inside as usize - 1)) / 1_000.0,
        ids * 100.0,
        kb(rate.line),
        rate.checks,
        if ids > 1.0 {
            "breaks"
        } else if rate.fits_at_home() {
            "yes"
        } else {
            "no"
        },
        kb((each(mini_node.line.0), each(mini_node.line.1))),
        each(mini_node.checks),
    );
}
