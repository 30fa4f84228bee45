//! Every rule of the mesh by itself.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId, identity::Keypair, multiaddr::Protocol};

use super::{Effect, Mesh, MeshParams, ReserveFailure, params::*};
use crate::status::{MiniNode, MiniNodeState, Reservation};

pub(super) fn peer(number: u16) -> PeerId {
    let mut seed = [7; 32];
    seed[..2].copy_from_slice(&number.to_be_bytes());
    Keypair::ed25519_from_bytes(seed).unwrap().public().to_peer_id()
}

pub(super) fn address(number: u16) -> Multiaddr {
    let [high, low] = number.to_be_bytes();
    format!("/ip4/10.0.{high}.{low}/udp/7710/quic-v1").parse().unwrap()
}

pub(super) fn refused() -> ReserveFailure {
    ReserveFailure::Refused("full".to_owned())
}

/// One mesh and its clock.
pub(super) struct Bench {
    pub(super) mesh: Mesh,
    start: Instant,
    pub(super) now: Instant,
}

impl Bench {
    pub(super) fn new(params: MeshParams) -> Self {
        let now = Instant::now();
        Self { mesh: Mesh::new(peer(9_999), params, 1, now), start: now, now }
    }

    fn wait(&mut self, time: Duration) -> Vec<Effect> {
        self.now += time;
        self.effects()
    }

    pub(super) fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.mesh.poll(self.now)).collect()
    }

    /// Who is dialled until nothing happens any more for `time`, with the seconds at which it happened.
    fn dials(&mut self, time: Duration) -> Vec<(u64, Option<PeerId>)> {
        let end = self.now + time;
        let mut dials = Vec::new();
        loop {
            for effect in self.effects() {
                if let Effect::Dial { peer, .. } = effect {
                    dials.push(((self.now - self.start).as_secs(), peer));
                }
            }
            match self.mesh.poll_timeout() {
                Some(at) if at <= end => self.now = self.now.max(at),
                _ => break,
            }
        }
        self.now = end;
        dials
    }

    /// A mini-node that is heard of, connected, and says what it is.
    fn meet(&mut self, number: u16) {
        self.mesh.learn(peer(number), &[address(number)]);
        self.mesh.handle_connected(peer(number), &address(number), self.now);
        self.mesh.handle_identified(peer(number), true, self.now);
    }

    fn fail(&mut self, number: u16) {
        self.mesh.handle_dial_failed(peer(number), "refused", self.now);
    }

    fn of(&self, number: u16) -> MiniNode {
        self.mesh.status().into_iter().find(|node| node.peer == Some(peer(number))).unwrap()
    }
}

fn dialled(effects: &[Effect]) -> Vec<Option<PeerId>> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Dial { peer, .. } => Some(*peer),
            _ => None,
        })
        .collect()
}

fn asked(effects: &[Effect]) -> Vec<PeerId> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Reserve { peer, .. } => Some(*peer),
            _ => None,
        })
        .collect()
}

fn number_of(peer_id: PeerId) -> u16 {
    (0..200).find(|number| peer(*number) == peer_id).unwrap()
}

#[test]
fn all_named_ones_are_dialled_at_once() {
    let mut bench = Bench::new(MeshParams::peer());
    bench.mesh.name(&address(1).with(Protocol::P2p(peer(1))));
    (2..6).for_each(|number| bench.mesh.name(&address(number)));
    let effects = bench.effects();
    assert_eq!(dialled(&effects), [Some(peer(1)), None, None, None, None]);
    let with = Effect::Dial { peer: Some(peer(1)), addresses: vec![address(1)] };
    assert_eq!(effects[0], with, "the identity is not part of the address");
    // All five stay, though three would do.
    for number in 1..6 {
        bench.mesh.handle_connected(peer(number), &address(number), bench.now);
        bench.mesh.handle_identified(peer(number), true, bench.now);
    }
    assert_eq!(bench.dials(Duration::from_secs(600)), []);
    assert!(bench.mesh.status().iter().all(|node| node.state == MiniNodeState::Connected && node.named));
    assert_eq!(bench.mesh.status().len(), 5);
}

#[test]
fn an_address_without_identity_becomes_the_peer_that_answers() {
    let mut bench = Bench::new(MeshParams::peer());
    bench.mesh.learn(peer(1), &[address(11)]);
    bench.mesh.name(&address(1));
    assert_eq!(dialled(&bench.effects()), [None, Some(peer(1))]);
    bench.mesh.handle_connected(peer(1), &address(1).with(Protocol::P2p(peer(1))), bench.now);
    let status = bench.mesh.status();
    assert_eq!((status.len(), status[0].peer, status[0].named), (1, Some(peer(1)), true));
    assert_eq!(status[0].address, address(1));
    // It is now first among its addresses.
    bench.mesh.handle_identified(peer(1), true, bench.now);
    let known: Vec<Multiaddr> = [1, 11].map(|number| address(number).with(Protocol::P2p(peer(1)))).into();
    assert_eq!(bench.mesh.addresses(), known);
}

#[test]
fn room_is_filled_in_the_peers_own_order() {
    let mut bench = Bench::new(MeshParams::peer());
    (0..20).for_each(|number| bench.mesh.learn(peer(number), &[address(number)]));
    let first = dialled(&bench.effects());
    assert_eq!(first.len(), 3);
    let mut again = Bench::new(MeshParams::peer());
    (0..20).rev().for_each(|number| again.mesh.learn(peer(number), &[address(number)]));
    assert_eq!(dialled(&again.effects()), first, "whatever the order in which they were heard of");
    for node in first.iter().flatten() {
        let number = number_of(*node);
        bench.mesh.handle_connected(*node, &address(number), bench.now);
        bench.mesh.handle_identified(*node, true, bench.now);
    }
    assert_eq!(bench.dials(Duration::from_secs(600)), []);
    bench.mesh.handle_disconnected(first[1].unwrap(), bench.now);
    let next = dialled(&bench.effects());
    assert_eq!(next.len(), 1);
    assert!(!first.contains(&next[0]), "another one first, while that one may be down");
}

#[test]
fn a_slow_dial_does_not_hold_up_another() {
    let mut bench = Bench::new(MeshParams::peer());
    (0..20).for_each(|number| bench.mesh.learn(peer(number), &[address(number)]));
    (100..102).for_each(|number| bench.meet(number));
    assert_eq!(dialled(&bench.effects()).len(), 1);
    assert_eq!(dialled(&bench.wait(SLOW_DIAL - Duration::from_millis(1))), []);
    assert_eq!(dialled(&bench.wait(Duration::from_millis(1))).len(), 1);
    assert_eq!(dialled(&bench.wait(SLOW_DIAL)).len(), 1);
    // Never more at once than are to be kept.
    assert_eq!(dialled(&bench.wait(SLOW_DIAL)).len(), 0);
    assert_eq!(dialled(&bench.wait(DIAL_TIMEOUT)).len(), 1);
    let silent = bench.mesh.status().into_iter().filter(|node| node.reason.as_deref() == Some("no answer"));
    assert_eq!(silent.count(), 3, "no answer counts as a failure");
}

#[test]
fn three_failures_take_it_out_and_an_answer_brings_it_back() {
    let mut bench = Bench::new(MeshParams { keep: 2, relays: 0 });
    bench.meet(100);
    bench.mesh.name(&address(1).with(Protocol::P2p(peer(1))));
    let mut pauses = Vec::new();
    let mut before = bench.now;
    for _ in 0..10 {
        let dials = loop {
            let dials = dialled(&bench.effects());
            if !dials.is_empty() {
                break dials;
            }
            bench.now = bench.mesh.poll_timeout().unwrap();
        };
        assert_eq!(dials, [Some(peer(1))]);
        pauses.push((bench.now - before).as_secs());
        before = bench.now;
        bench.fail(1);
        match bench.of(1).state {
            MiniNodeState::Waiting { .. } => assert!(pauses.len() < 3),
            MiniNodeState::Resting { .. } => assert!(pauses.len() >= 3),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bench.of(1).reason.as_deref(), Some("refused"));
    let expected = [0, 2, 4, 30, 60, 120, 240, 480, 600, 600];
    for (pause, expected) in pauses.iter().zip(expected) {
        assert!((expected * 3 / 4..=expected * 5 / 4 + 1).contains(pause), "{pauses:?}");
    }
    bench.mesh.handle_connected(peer(1), &address(1), bench.now);
    bench.mesh.handle_identified(peer(1), true, bench.now);
    assert_eq!(bench.of(1).failures, 10);
    bench.wait(SETTLED);
    assert_eq!((bench.of(1).failures, bench.of(1).reason), (0, None));
}

#[test]
fn short_connections_count_as_failures() {
    let mut bench = Bench::new(MeshParams::peer());
    for failures in 1..=3 {
        bench.meet(1);
        bench.now += SETTLED - Duration::from_secs(1);
        bench.mesh.handle_disconnected(peer(1), bench.now);
        assert_eq!(bench.of(1).failures, failures);
    }
    bench.meet(1);
    bench.now += SETTLED;
    bench.mesh.handle_disconnected(peer(1), bench.now);
    assert_eq!(bench.of(1).failures, 0);
    assert!(matches!(bench.of(1).state, MiniNodeState::Waiting { .. }));
    assert_eq!(bench.of(1).reason.as_deref(), Some("the connection was lost"));
}

/// An outage of this peer's own line looks like the death of every mini-node.
#[test]
fn nobody_rests_long_while_nobody_answers() {
    let mut bench = Bench::new(MeshParams::peer());
    (1..4).for_each(|number| bench.meet(number));
    bench.wait(SETTLED);
    (1..4).for_each(|number| bench.mesh.handle_disconnected(peer(number), bench.now));
    let mut last = bench.now;
    let end = bench.now + Duration::from_secs(7_200);
    while bench.now < end {
        let dials: Vec<PeerId> = dialled(&bench.effects()).into_iter().flatten().collect();
        if !dials.is_empty() {
            let pause = bench.now - last;
            assert!(pause <= ALONE_REST.mul_f64(JITTER.1), "{pause:?}");
            last = bench.now;
        }
        dials.into_iter().for_each(|node| bench.mesh.handle_dial_failed(node, "no route", bench.now));
        bench.now = bench.mesh.poll_timeout().unwrap_or(end);
    }
    assert_eq!(bench.mesh.status().len(), 3, "nobody was forgotten");
    bench.mesh.network_changed(bench.now);
    assert_eq!(dialled(&bench.effects()).len(), 3);
}

#[test]
fn a_named_peer_that_is_no_mini_node_is_kept_and_does_not_count() {
    let mut bench = Bench::new(MeshParams { keep: 1, relays: 2 });
    bench.mesh.set_needs_relay(true);
    bench.mesh.name(&address(1));
    assert_eq!(dialled(&bench.effects()), [None]);
    bench.mesh.handle_connected(peer(1), &address(1), bench.now);
    bench.mesh.learn(peer(2), &[address(2)]);
    assert_eq!(bench.effects(), [], "it may still say that it is one");
    bench.mesh.handle_identified(peer(1), false, bench.now);
    assert_eq!(dialled(&bench.effects()), [Some(peer(2))]);
    bench.mesh.handle_connected(peer(2), &address(2), bench.now);
    bench.mesh.handle_identified(peer(2), true, bench.now);
    assert_eq!(asked(&bench.effects()), [peer(2)], "it is never asked to relay");
    bench.wait(SETTLED);
    bench.mesh.handle_disconnected(peer(1), bench.now);
    assert_eq!(dialled(&bench.wait(PAUSES.0 * 2)), [Some(peer(1))], "although there is no room");
    assert!(bench.of(1).named && bench.of(1).is_mini_node == Some(false));
}

#[test]
fn who_does_not_say_what_it_is_does_not_count_for_long() {
    let mut bench = Bench::new(MeshParams { keep: 1, relays: 0 });
    bench.mesh.learn(peer(1), &[address(1)]);
    bench.effects();
    bench.mesh.handle_connected(peer(1), &address(1), bench.now);
    bench.mesh.learn(peer(2), &[address(2)]);
    assert_eq!(bench.dials(IDENTIFY_TIMEOUT - Duration::from_millis(1)), []);
    assert_eq!(bench.dials(Duration::from_secs(1)).len(), 1);
    bench.mesh.handle_connected(peer(2), &address(2), bench.now);
    // One that was only heard of and is none is left alone for long.
    bench.mesh.handle_identified(peer(1), false, bench.now);
    bench.mesh.handle_disconnected(peer(1), bench.now);
    assert!(matches!(bench.of(1).state, MiniNodeState::Waiting { until } if until > bench.now + RESTS.1 / 2));
}

#[test]
fn a_mini_node_that_dialled_us_is_one_too() {
    let mut bench = Bench::new(MeshParams::peer());
    bench.mesh.handle_connected(peer(1), &address(77), bench.now);
    bench.mesh.handle_connected(peer(2), &address(78), bench.now);
    bench.mesh.handle_identified(peer(2), false, bench.now);
    bench.mesh.learn(peer(2), &[address(2)]);
    assert_eq!(bench.mesh.status(), []);
    bench.mesh.handle_identified(peer(1), true, bench.now);
    assert_eq!(bench.of(1).state, MiniNodeState::Connected);
    assert_eq!(bench.mesh.addresses(), [], "where it came from is not where it listens");
    bench.mesh.learn(peer(1), &[address(1)]);
    bench.mesh.set_needs_relay(true);
    assert_eq!(bench.effects(), [Effect::Reserve { peer: peer(1), address: address(1) }]);
    // What comes through a relay is no connection to build on.
    let circuit = address(1).with(Protocol::P2p(peer(1))).with(Protocol::P2pCircuit);
    bench.mesh.learn(peer(3), &[address(3)]);
    bench.mesh.handle_connected(peer(3), &circuit, bench.now);
    assert_ne!(bench.of(3).state, MiniNodeState::Connected);
}

#[test]
fn two_relays_and_another_when_one_is_lost() {
    let mut bench = Bench::new(MeshParams::peer());
    (1..4).for_each(|number| bench.meet(number));
    assert_eq!(bench.effects(), []);
    bench.mesh.set_needs_relay(true);
    let relays = asked(&bench.effects());
    assert_eq!(relays.len(), 2);
    assert_ne!(relays[0], relays[1]);
    relays.iter().for_each(|relay| bench.mesh.handle_reserved(*relay, bench.now));
    assert_eq!(bench.effects(), []);
    assert_eq!(bench.of(number_of(relays[0])).reservation, Reservation::Held);
    bench.mesh.handle_disconnected(relays[0], bench.now);
    let third = asked(&bench.effects());
    assert!(third.len() == 1 && !relays.contains(&third[0]));
    // It refuses, and nobody else is left.
    bench.mesh.handle_reservation_failed(third[0], &refused(), bench.now);
    assert_eq!(bench.of(number_of(third[0])).reservation, Reservation::Refused);
    assert_eq!(bench.of(number_of(third[0])).reason.as_deref(), Some("no reservation: full"));
    assert_eq!(asked(&bench.wait(REFUSED_PAUSES.0 / 2)), []);
    assert_eq!(asked(&bench.wait(REFUSED_PAUSES.0)), third);
}

#[test]
fn a_lost_reservation_is_asked_for_at_once_and_then_with_pauses() {
    let mut bench = Bench::new(MeshParams { keep: 3, relays: 1 });
    (1..4).for_each(|number| bench.meet(number));
    bench.mesh.set_needs_relay(true);
    let relay = asked(&bench.effects())[0];
    bench.mesh.handle_reserved(relay, bench.now);
    bench.mesh.handle_reservation_lost(relay, bench.now);
    assert_eq!(asked(&bench.effects()), [relay]);
    bench.mesh.handle_reserved(relay, bench.now);
    bench.mesh.handle_reservation_lost(relay, bench.now);
    let second = asked(&bench.effects());
    assert!(second.len() == 1 && second[0] != relay, "another one meanwhile");
    bench.mesh.handle_reserved(second[0], bench.now);
    // One that stood for long is asked for at once again.
    bench.wait(SETTLED);
    bench.mesh.handle_reservation_lost(second[0], bench.now);
    assert_eq!(asked(&bench.effects()), second);
    // A request without an answer is given up.
    let effects = bench.wait(RESERVE_TIMEOUT);
    assert_eq!(effects[0], Effect::Release { peer: second[0] });
    assert_eq!(asked(&effects).len(), 1);
}

#[test]
fn relays_are_given_up_when_that_is_sure() {
    let mut bench = Bench::new(MeshParams::peer());
    (1..4).for_each(|number| bench.meet(number));
    bench.mesh.set_needs_relay(true);
    let mut relays = asked(&bench.effects());
    relays.iter().for_each(|relay| bench.mesh.handle_reserved(*relay, bench.now));
    bench.mesh.set_needs_relay(false);
    assert_eq!(bench.wait(Duration::from_secs(5)), []);
    assert_eq!(bench.wait(SURE - Duration::from_millis(1)), []);
    bench.mesh.set_needs_relay(true);
    assert_eq!(bench.wait(SURE), [], "they were held all the time");
    bench.mesh.set_needs_relay(false);
    bench.effects();
    let mut released: Vec<PeerId> = bench
        .wait(SURE)
        .into_iter()
        .map(|effect| match effect {
            Effect::Release { peer } => peer,
            other => panic!("{other:?}"),
        })
        .collect();
    released.sort();
    relays.sort();
    assert_eq!(released, relays);
    assert!(bench.mesh.status().iter().all(|node| node.reservation == Reservation::None));
}

#[test]
fn when_all_relays_are_full_more_mini_nodes_are_met() {
    let mut bench = Bench::new(MeshParams::peer());
    (0..20).for_each(|number| bench.mesh.learn(peer(number), &[address(number)]));
    bench.mesh.set_needs_relay(true);
    let mut met = Vec::new();
    for _ in 0..6 {
        for effect in bench.wait(Duration::from_millis(100)) {
            match effect {
                Effect::Dial { peer: Some(node), .. } => {
                    met.push(node);
                    bench.mesh.handle_connected(node, &address(number_of(node)), bench.now);
                    bench.mesh.handle_identified(node, true, bench.now);
                }
                Effect::Reserve { peer, .. } => {
                    bench.mesh.handle_reservation_failed(peer, &refused(), bench.now);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(met.len(), 3 + EXTRA);
}

#[test]
fn a_change_of_the_network_tries_everything_anew() {
    let mut bench = Bench::new(MeshParams::peer());
    (1..3).for_each(|number| bench.meet(number));
    bench.mesh.learn(peer(3), &[address(3)]);
    bench.mesh.set_needs_relay(true);
    asked(&bench.effects()).iter().for_each(|relay| bench.mesh.handle_reserved(*relay, bench.now));
    bench.fail(3);
    assert_eq!(bench.effects(), []);
    bench.mesh.network_changed(bench.now);
    let effects = bench.effects();
    let released = effects.iter().filter(|effect| matches!(effect, Effect::Release { .. })).count();
    assert_eq!((released, dialled(&effects).len(), asked(&effects).len()), (2, 3, 0));
    // Nobody is asked to relay on a connection that may be dead.
    bench.mesh.handle_connected(peer(1), &address(1), bench.now);
    assert_eq!(asked(&bench.effects()), [peer(1)]);
    bench.mesh.handle_dial_failed(peer(2), "already connected", bench.now);
    assert_eq!((bench.of(2).failures, bench.of(2).state), (0, MiniNodeState::Connected));
    bench.mesh.measure(peer(2), Duration::from_millis(5));
    assert_eq!(asked(&bench.effects()), [peer(2)]);
}

#[test]
fn what_cannot_be_dialled_is_not_kept() {
    let mut bench = Bench::new(MeshParams::peer());
    let circuit = format!("{}/p2p/{}/p2p-circuit", address(1), peer(1));
    let others = format!("{}/p2p/{}", address(1), peer(2));
    let long = format!("/dns4/{}.example/tcp/1", "a".repeat(130));
    for bad in
        [circuit.as_str(), &others, "/ip4/0.0.0.0/tcp/1", "/ip4/10.0.0.1/udp/1", "/ip6/ff02::1/tcp/1", &long]
    {
        bench.mesh.learn(peer(1), &[bad.parse().unwrap()]);
    }
    bench.mesh.name(&address(1).with(Protocol::P2p(peer(9_999))));
    bench.mesh.learn(peer(9_999), &[address(1)]);
    assert_eq!(bench.mesh.status(), []);
    let many: Vec<Multiaddr> = (0..100).map(address).collect();
    bench.mesh.learn(peer(1), &many);
    let Some(Effect::Dial { addresses, .. }) = bench.mesh.poll(bench.now) else { panic!() };
    assert_eq!(addresses.len(), ADDRESSES);
}

#[test]
fn hearsay_does_not_displace_what_works() {
    let mut bench = Bench::new(MeshParams::peer());
    (0..3).for_each(|number| bench.meet(number));
    bench.mesh.learn(peer(3), &[address(3)]);
    (100..1_000).for_each(|number| bench.mesh.learn(peer(number), &[address(number)]));
    assert_eq!(bench.mesh.status().len(), KNOWN);
    assert_eq!(bench.of(3).state, MiniNodeState::Spare);
    // What the operator names has a place, and so has a mini-node that connects.
    bench.mesh.name(&address(50).with(Protocol::P2p(peer(50))));
    bench.meet(51);
    assert_eq!((bench.of(50).named, bench.of(51).state), (true, MiniNodeState::Connected));
    assert_eq!(bench.mesh.status().len(), KNOWN);
}

#[test]
fn worth_remembering_is_what_worked() {
    let mut bench = Bench::new(MeshParams::peer());
    (1..4).for_each(|number| bench.meet(number));
    bench.mesh.learn(peer(4), &[address(4)]);
    bench.mesh.measure(peer(2), Duration::from_millis(9));
    bench.mesh.measure(peer(3), Duration::from_millis(3));
    bench.mesh.handle_disconnected(peer(1), bench.now);
    let expected: Vec<Multiaddr> = [3, 2, 1].map(|n| address(n).with(Protocol::P2p(peer(n)))).into();
    assert_eq!(bench.mesh.addresses(), expected);
    // In the next run they are known, without being named.
    let mut next = Bench::new(MeshParams::peer());
    expected.iter().for_each(|address| next.mesh.remember(address));
    assert_eq!(dialled(&next.effects()).len(), 3);
    assert!(next.mesh.status().iter().all(|node| !node.named));
}
