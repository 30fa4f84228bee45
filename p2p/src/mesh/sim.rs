//! A mesh of mini-nodes and peers in virtual time.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    time::{Duration, Instant},
};

use libp2p::PeerId;

use super::{
    Effect, Mesh, MeshParams, ReserveFailure,
    core_tests::{address, peer},
    node::DialTarget,
};
use crate::status::{MiniNodeState, Reservation};

const MINI_NODES: u16 = 20;
const PEERS: u16 = 200;
/// One way, in milliseconds.
const LATENCY: u64 = 30;
/// After which a dial to a dead machine gives up; every other one refuses at once.
const DIAL_TIMEOUT: u64 = 10_000;
/// After which a dead machine is noticed.
const NOTICED: u64 = 12_000;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Arrives { named: bool },
    Refuses { named: bool },
    Identifies,
    Reserves,
    Gone,
}

/// Time, order, at whom, from whom, what.
type Event = (u64, u64, u16, u16, What);

/// Actors are numbers: mini-nodes first, then peers.
struct Sim {
    start: Instant,
    ms: u64,
    meshes: Vec<Mesh>,
    alive: Vec<bool>,
    /// When each wants to be polled, in milliseconds.
    wakes: Vec<u64>,
    events: BinaryHeap<Reverse<Event>>,
    order: u64,
    connections: BTreeSet<(u16, u16)>,
    numbers: BTreeMap<PeerId, u16>,
    reservations: BTreeSet<(u16, u16)>,
    /// By actor and second.
    dials: BTreeMap<(u16, u64), usize>,
    places_per_relay: usize,
    line_is_down: bool,
}

impl Sim {
    /// Every actor names one mini-node by its address alone.
    fn new(names: impl Fn(u16) -> u16, places_per_relay: usize) -> Self {
        let start = Instant::now();
        let all = MINI_NODES + PEERS;
        let mesh = |number: u16| {
            let params = if number < MINI_NODES { MeshParams::mini_node() } else { MeshParams::peer() };
            let mut mesh = Mesh::new(peer(number), params, number.into(), start);
            mesh.name(&address(names(number)));
            mesh.set_needs_relay(number >= MINI_NODES);
            mesh
        };
        Self {
            start,
            ms: 0,
            meshes: (0..all).map(mesh).collect(),
            alive: vec![true; all.into()],
            wakes: vec![0; all.into()],
            events: BinaryHeap::new(),
            order: 0,
            connections: BTreeSet::new(),
            numbers: (0..all).map(|number| (peer(number), number)).collect(),
            reservations: BTreeSet::new(),
            dials: BTreeMap::new(),
            places_per_relay,
            line_is_down: false,
        }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn later(&mut self, delay: u64, at: u16, from: u16, what: What) {
        self.order += 1;
        self.events.push(Reverse((self.ms + delay, self.order, at, from, what)));
    }

    fn run(&mut self, ms: u64) {
        let end = self.ms + ms;
        (0..MINI_NODES + PEERS).for_each(|actor| self.poll(actor));
        loop {
            let (wake, sleeper) = self.wakes.iter().copied().zip(0..).min().unwrap();
            let event = self.events.peek().map_or(u64::MAX, |Reverse(event)| event.0);
            if wake.min(event) > end {
                break;
            }
            self.ms = self.ms.max(wake.min(event));
            if event <= wake {
                let Some(Reverse((_, _, at, from, what))) = self.events.pop() else { break };
                self.handle(at, from, what);
                self.poll(from);
                self.poll(at);
            } else {
                self.poll(sleeper);
            }
        }
        self.ms = end;
    }

    fn poll(&mut self, actor: u16) {
        let now = self.at(self.ms);
        while self.alive[usize::from(actor)] {
            let Some(effect) = self.meshes[usize::from(actor)].poll(now) else { break };
            match effect {
                Effect::Dial { peer, addresses } => {
                    let to = (0..MINI_NODES).find(|number| addresses.contains(&address(*number))).unwrap();
                    assert!(peer.is_none_or(|peer| self.numbers[&peer] == to));
                    *self.dials.entry((actor, self.ms / 1_000)).or_default() += 1;
                    let reached = self.alive[usize::from(to)] && to != actor && !self.line_is_down;
                    let named = peer.is_none();
                    match reached {
                        true => self.later(2 * LATENCY, actor, to, What::Arrives { named }),
                        false if to % 2 == 0 => self.later(2 * LATENCY, actor, to, What::Refuses { named }),
                        false => self.later(DIAL_TIMEOUT, actor, to, What::Refuses { named }),
                    }
                    self.check(actor);
                }
                Effect::Reserve { peer, .. } => {
                    let to = self.numbers[&peer];
                    assert!(self.connections.contains(&(actor, to)));
                    self.later(2 * LATENCY, actor, to, What::Reserves);
                }
                Effect::Release { peer } => {
                    self.reservations.remove(&(actor, self.numbers[&peer]));
                }
            }
        }
        let wake = self.meshes[usize::from(actor)].poll_timeout().filter(|_| self.alive[usize::from(actor)]);
        // Rounded up, as timers are.
        let ms = |at: Instant| u64::try_from(at.duration_since(self.start).as_millis()).unwrap() + 1;
        self.wakes[usize::from(actor)] = wake.map_or(u64::MAX, ms);
    }

    fn check(&self, actor: u16) {
        let status = self.meshes[usize::from(actor)].status();
        let dialling = status.iter().filter(|node| node.state == MiniNodeState::Dialling && !node.named);
        let keep = if actor < MINI_NODES { 8 } else { 3 };
        assert!(dialling.count() <= keep);
    }

    fn handle(&mut self, at: u16, from: u16, what: What) {
        if !self.alive[usize::from(at)] {
            return;
        }
        let now = self.at(self.ms);
        let reached = self.alive[usize::from(from)] && !self.line_is_down;
        let mesh = &mut self.meshes[usize::from(at)];
        match what {
            What::Arrives { .. } if reached => {
                for (one, other) in [(at, from), (from, at)] {
                    self.connections.insert((one, other));
                    self.meshes[usize::from(one)].handle_connected(peer(other), &address(other), now);
                    self.later(2 * LATENCY, one, other, What::Identifies);
                }
            }
            What::Arrives { named } | What::Refuses { named } => {
                let target: DialTarget = if named { address(from).into() } else { peer(from).into() };
                mesh.handle_dial_failed(target, "not there", now);
            }
            What::Identifies if self.connections.contains(&(at, from)) => {
                mesh.handle_identified(peer(from), from < MINI_NODES, now);
                if from < MINI_NODES {
                    (0..MINI_NODES).for_each(|other| mesh.learn(peer(other), &[address(other)]));
                }
            }
            What::Reserves if self.connections.contains(&(at, from)) => {
                let taken = self.reservations.iter().filter(|(_, relay)| *relay == from).count();
                if !reached {
                    mesh.handle_reservation_failed(
                        peer(from),
                        &ReserveFailure::Failed("gone".to_owned()),
                        now,
                    );
                } else if taken < self.places_per_relay {
                    self.reservations.insert((at, from));
                    mesh.handle_reserved(peer(from), now);
                } else {
                    mesh.handle_reservation_failed(
                        peer(from),
                        &ReserveFailure::Refused("full".to_owned()),
                        now,
                    );
                }
            }
            What::Gone if self.connections.remove(&(at, from)) => {
                self.reservations.remove(&(at, from));
                mesh.handle_disconnected(peer(from), now);
            }
            What::Identifies | What::Reserves | What::Gone => {}
        }
    }

    fn kill(&mut self, number: u16) {
        self.alive[usize::from(number)] = false;
        let lost: Vec<(u16, u16)> =
            self.connections.iter().filter(|(_, other)| *other == number).copied().collect();
        // A program that ends says so; a machine that loses its power does not.
        let noticed = if number.is_multiple_of(2) { LATENCY } else { NOTICED };
        lost.into_iter().for_each(|(at, from)| self.later(noticed, at, from, What::Gone));
        self.connections.retain(|(at, _)| *at != number);
        self.reservations.retain(|(_, relay)| *relay != number);
    }

    /// Another program with the same identity, that has forgotten everything but one mini-node.
    fn restart(&mut self, number: u16, names: u16) {
        let now = self.at(self.ms);
        let mut mesh = Mesh::new(peer(number), MeshParams::mini_node(), u64::from(number) + 1_000, now);
        mesh.name(&address(names));
        self.meshes[usize::from(number)] = mesh;
        self.alive[usize::from(number)] = true;
    }

    /// Living mini-nodes that a peer is connected to.
    fn has(&self, actor: u16) -> usize {
        let of = self.connections.range((actor, 0)..(actor, MINI_NODES));
        of.filter(|(_, other)| self.alive[usize::from(*other)]).count()
    }

    fn relays(&self, actor: u16) -> usize {
        let status = self.meshes[usize::from(actor)].status();
        let held = status.iter().filter(|node| node.reservation == Reservation::Held);
        held.filter(|node| self.alive[usize::from(self.numbers[&node.peer.unwrap()])]).count()
    }

    fn assert_whole(&self) {
        for actor in MINI_NODES..MINI_NODES + PEERS {
            let (has, relays) = (self.has(actor), self.relays(actor));
            assert!(has >= 3, "{actor} has {has} at {} ms", self.ms);
            assert_eq!(relays, 2, "{actor} at {} ms", self.ms);
        }
    }

    /// Nobody is alone or cannot be reached, and 19 of 20 have all that they want.
    fn assert_nearly_whole(&self) {
        let actors = || MINI_NODES..MINI_NODES + PEERS;
        let whole = actors().filter(|actor| self.has(*actor) >= 3 && self.relays(*actor) == 2).count();
        assert!(whole * 20 >= usize::from(PEERS) * 19, "{whole}");
        assert!(actors().all(|actor| self.has(actor) >= 1 && self.relays(actor) >= 1));
    }

    /// Peers at each living mini-node but the first, by connection and by reservation.
    fn load(&self) -> [Vec<usize>; 2] {
        [&self.connections, &self.reservations].map(|links| {
            let alive = (1..MINI_NODES).filter(|number| self.alive[usize::from(*number)]);
            let of =
                |mini: u16| links.iter().filter(|(at, other)| *at >= MINI_NODES && *other == mini).count();
            alive.map(of).collect()
        })
    }

    fn assert_spread(&self) {
        for load in self.load() {
            let mean = load.iter().sum::<usize>() / load.len();
            let most = load.iter().copied().max().unwrap();
            assert!(most * 10 <= mean * 18, "{load:?}");
        }
    }

    /// Nobody dials more than the burst in a second, and few in a minute.
    fn assert_no_storm(&self) {
        let mut minutes: BTreeMap<(u16, u64), usize> = BTreeMap::new();
        for ((actor, second), dials) in &self.dials {
            assert!(*dials <= 14, "{dials} dials of {actor} in second {second}");
            *minutes.entry((*actor, second / 60)).or_default() += dials;
        }
        assert!(minutes.values().all(|dials| *dials <= 130), "{:?}", minutes.values().max());
    }
}

#[test]
fn everybody_finds_three_and_a_third_may_die() {
    // Peers know one mini-node from its operator's page, all the same.
    let mut sim = Sim::new(|number| u16::from(number == 0), usize::MAX);
    sim.run(3_000);
    sim.assert_whole();
    sim.assert_spread();
    sim.run(60_000);
    for turn in 0..3 {
        let third: Vec<u16> = (0..MINI_NODES).filter(|number| number % 3 == turn).collect();
        third.iter().for_each(|number| sim.kill(*number));
        let before: usize = sim.dials.values().sum();
        // Those that died without a word are noticed, and dead ones are dialled before living ones are.
        sim.run(NOTICED + 5_000);
        sim.assert_nearly_whole();
        // Who met three silent ones in a row had to wait for a dial to end.
        sim.run(2 * DIAL_TIMEOUT);
        sim.assert_whole();
        let dials = sim.dials.values().sum::<usize>() - before;
        assert!(dials < 2_500, "{dials}");
        sim.run(60_000);
        let living = (0..MINI_NODES).find(|number| sim.alive[usize::from(*number)]).unwrap();
        third.iter().for_each(|number| sim.restart(*number, living));
        sim.run(60_000);
        sim.assert_whole();
        for number in third {
            assert!(sim.has(number) >= 8, "{number} is back among the others");
        }
    }
    sim.assert_no_storm();
}

#[test]
fn what_came_back_is_chosen_again() {
    let mut sim = Sim::new(|number| (number + 1) % MINI_NODES, usize::MAX);
    sim.run(60_000);
    (0..6).for_each(|number| sim.kill(number));
    sim.run(120_000);
    (0..6).for_each(|number| sim.restart(number, 10));
    sim.run(60_000);
    (6..12).for_each(|number| sim.kill(number));
    sim.run(30_000);
    sim.assert_whole();
    let back: usize = sim.load()[0][..5].iter().sum();
    assert!(back > 40, "{back}");
}

#[test]
fn an_outage_of_the_line_ends_within_a_minute_or_two() {
    let mut sim = Sim::new(|_| 3, usize::MAX);
    sim.run(60_000);
    sim.line_is_down = true;
    let connections: Vec<(u16, u16)> = sim.connections.iter().copied().collect();
    connections.into_iter().for_each(|(at, from)| sim.later(NOTICED, at, from, What::Gone));
    sim.run(300_000);
    sim.line_is_down = false;
    sim.run(100_000);
    sim.assert_whole();
    sim.assert_no_storm();
}

#[test]
fn full_relays_push_peers_to_others() {
    // 400 reservations are wanted; there are 460 places.
    let mut sim = Sim::new(|number| (number + 1) % MINI_NODES, 23);
    sim.run(300_000);
    let served = (MINI_NODES..MINI_NODES + PEERS).filter(|actor| sim.relays(*actor) >= 1).count();
    assert_eq!(served, usize::from(PEERS), "everybody has at least one");
    sim.assert_no_storm();
}
