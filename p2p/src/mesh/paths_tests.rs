//! Ways to peers.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use super::{
    PathFailure, Paths,
    core_tests::{address, peer},
};

fn through(relay: u16) -> Multiaddr {
    address(relay).with(Protocol::P2p(peer(relay))).with(Protocol::P2pCircuit)
}

fn relays(numbers: &[u16]) -> Vec<(PeerId, Multiaddr)> {
    numbers.iter().map(|number| (peer(*number), address(*number))).collect()
}

fn paths() -> (Paths, Instant) {
    (Paths::new(peer(9_999), false), Instant::now())
}

#[test]
fn known_circuits_first_and_every_connected_relay_once() {
    let (mut paths, now) = paths();
    let plan = paths.plan(peer(1), &relays(&[10, 11, 1]), now);
    assert_eq!((plan.direct, plan.relayed), (vec![], vec![through(10), through(11)]), "not through itself");
    let told = [
        address(1).with(Protocol::P2p(peer(1))),
        through(20).with(Protocol::P2p(peer(1))),
        through(11).with(Protocol::P2p(peer(1))),
    ];
    paths.learn(peer(1), &told, now);
    let plan = paths.plan(peer(1), &relays(&[10, 11]), now);
    assert_eq!((plan.direct, plan.relayed), (vec![address(1)], vec![through(11), through(20), through(10)]));
    let plan = paths.plan(peer(1), &relays(&[30, 31, 32, 33, 34, 35, 36]), now);
    assert_eq!((plan.relayed.len(), &plan.relayed[..2]), (6, &[through(20), through(11)][..]));
}

#[test]
fn what_leads_nowhere_is_not_kept() {
    let (mut paths, now) = paths();
    let local = address(3).with(Protocol::P2p(peer(9_999))).with(Protocol::P2pCircuit);
    let twice = through(3).with(Protocol::P2p(peer(4))).with(Protocol::P2pCircuit);
    let other = address(3).with(Protocol::P2p(peer(2)));
    let inner = address(3).with(Protocol::P2p(peer(2))).with(Protocol::Tcp(1));
    let parsed = [
        "/ip4/127.0.0.1/tcp/1",
        "/ip6/::1/tcp/1",
        "/ip4/0.0.0.0/tcp/1",
        "/ip4/10.0.0.1/udp/1",
        "/p2p-circuit",
    ];
    let mut bad: Vec<Multiaddr> = parsed.iter().map(|text| text.parse().unwrap()).collect();
    bad.extend([local, twice, other, inner, through(1)]);
    for address in bad {
        paths.learn(peer(1), std::slice::from_ref(&address), now);
        assert!(paths.peers.is_empty(), "{address}");
    }
    paths.learn(peer(9_999), &[address(1)], now);
    assert!(paths.peers.is_empty());
    let mut paths = Paths::new(peer(9_999), true);
    paths.learn(peer(1), &["/ip4/127.0.0.1/tcp/1".parse().unwrap()], now);
    assert_eq!(paths.peers.len(), 1);
}

#[test]
fn it_is_bounded_and_forgets() {
    let (mut paths, now) = paths();
    let many: Vec<Multiaddr> = (0..20).map(address).chain((0..12).map(through)).collect();
    paths.learn(peer(99), &many, now);
    paths.learn(peer(99), &many, now);
    let plan = paths.plan(peer(99), &[], now);
    assert_eq!((plan.direct.len(), plan.relayed.len()), (8, 6));
    assert_eq!(plan.direct[0], address(0), "the one told first");
    let half = now + Duration::from_secs(900);
    paths.learn(peer(99), &[address(3)], half);
    let later = now + Duration::from_secs(1_800);
    let plan = paths.plan(peer(99), &[], later);
    assert_eq!((plan.direct, plan.relayed), (vec![address(3)], vec![]));
    for number in 100..1_500 {
        paths.learn(peer(number), &[address(number)], now);
        // Whoever is asked for stays.
        paths.plan(peer(99), &[], half);
    }
    assert_eq!(paths.peers.len(), 1_024);
    assert_eq!(paths.plan(peer(99), &[], half).direct[0], address(3), "the newest first");
    assert_eq!(paths.plan(peer(100), &[], now).direct, []);
}

#[test]
fn people_are_told_why() {
    let (mut paths, now) = paths();
    assert_eq!(paths.why(&peer(1), now), "nobody has told where it is");
    paths.learn(peer(1), &[through(2)], now);
    assert_eq!(paths.why(&peer(1), now), "no address of its own is known");
    paths.learn(peer(1), &[address(1)], now);
    assert_eq!(paths.why(&peer(1), now), "not tried directly yet");
    paths.failed(peer(1), PathFailure::Direct("timed out".to_owned()));
    paths.failed(peer(1), PathFailure::NoReservation);
    assert_eq!(paths.why(&peer(1), now), "not reached directly: timed out; no relay has a reservation of it");
    paths.failed(peer(1), PathFailure::Relayed("ä".repeat(300)));
    assert!(paths.why(&peer(1), now).len() < 300);
    paths.reached(&peer(1), false);
    assert_eq!(paths.why(&peer(1), now), "not reached directly: timed out");
    paths.reached(&peer(1), true);
    assert_eq!(paths.why(&peer(1), now), "not tried directly yet");
}
