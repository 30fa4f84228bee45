//! Judging NATs, reachability, and what people are told.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use libp2p::Multiaddr;
use proptest::prelude::*;

use super::{
    Carrier, Nat, Observation,
    core_tests::{address, peer},
};
use crate::status::{NatKind, Reachability};

const OUT: &str = "203.0.113.5";

fn own(nat: &mut Nat, ip: &str) {
    let quic: Multiaddr = format!("/ip4/{ip}/udp/7710/quic-v1").parse().unwrap();
    let tcp: Multiaddr = format!("/ip4/{ip}/tcp/7710").parse().unwrap();
    nat.set_listening([&quic, &tcp, &address(1).with(libp2p::multiaddr::Protocol::P2pCircuit)]);
}

fn seen(number: u16, carrier: Carrier, observed: &str, port: u16) -> Observation {
    let observer_ip = IpAddr::from([198, 51, 100, u8::try_from(number).unwrap()]);
    let observed = SocketAddr::new(observed.parse().unwrap(), port);
    Observation { observer: peer(number), observer_ip, carrier, observed, local: None }
}

fn at_home() -> (Nat, Instant) {
    let mut nat = Nat::new(false);
    own(&mut nat, "192.168.1.7");
    (nat, Instant::now())
}

#[test]
fn kinds_are_told_apart() {
    let (mut nat, now) = at_home();
    let kind = |nat: &Nat| nat.kind(Carrier::Udp, now);
    nat.observe(seen(1, Carrier::Udp, OUT, 40_000), now);
    assert_eq!(kind(&nat), NatKind::Unknown, "one alone shows nothing");
    nat.observe(seen(2, Carrier::Udp, OUT, 40_000), now);
    assert_eq!(kind(&nat), NatKind::Cone);
    assert_eq!(nat.kind(Carrier::Tcp, now), NatKind::Unknown, "each carrier by itself");
    // A third that says something else is outvoted.
    nat.observe(seen(3, Carrier::Udp, OUT, 40_001), now);
    assert_eq!(kind(&nat), NatKind::Cone);

    let (mut nat, now) = at_home();
    (1..4).for_each(|number| nat.observe(seen(number, Carrier::Udp, OUT, 40_000 + number), now));
    assert_eq!(nat.kind(Carrier::Udp, now), NatKind::Symmetric);
    // What it opens for one is of no use to others; a port that the user forwards is.
    assert_eq!(nat.external(Carrier::Udp, now), [SocketAddr::new(OUT.parse().unwrap(), 7710)]);

    let mut nat = Nat::new(false);
    own(&mut nat, OUT);
    nat.observe(seen(1, Carrier::Udp, OUT, 7710), now);
    assert_eq!(nat.kind(Carrier::Udp, now), NatKind::None);

    // Two ways out.
    let (mut nat, now) = at_home();
    nat.observe(seen(1, Carrier::Udp, OUT, 1), now);
    nat.observe(seen(2, Carrier::Udp, "203.0.113.9", 2), now);
    assert_eq!(nat.kind(Carrier::Udp, now), NatKind::Unknown);
}

#[test]
fn who_does_not_know_better_is_not_asked() {
    let (mut nat, now) = at_home();
    let inside = Observation { observer_ip: "192.168.1.9".parse().unwrap(), ..seen(1, Carrier::Udp, OUT, 9) };
    nat.observe(inside, now);
    nat.observe(seen(2, Carrier::Udp, "192.168.1.7", 9), now);
    let other_port = Some("192.168.1.7:50000".parse().unwrap());
    nat.observe(Observation { local: other_port, ..seen(3, Carrier::Udp, OUT, 9) }, now);
    let shared = Observation { observer_ip: "100.64.3.4".parse().unwrap(), ..seen(4, Carrier::Udp, OUT, 9) };
    nat.observe(shared, now);
    assert_eq!(nat.external(Carrier::Udp, now), []);
    let same_port = Some("192.168.1.7:7710".parse().unwrap());
    nat.observe(Observation { local: same_port, ..seen(3, Carrier::Udp, OUT, 9) }, now);
    assert_eq!(nat.external(Carrier::Udp, now).len(), 2);
    // Two peers on one machine are one observer.
    let twin = Observation { observer: peer(5), ..seen(3, Carrier::Udp, OUT, 9) };
    nat.observe(twin, now);
    assert_eq!(nat.kind(Carrier::Udp, now), NatKind::Unknown);
    // In a laboratory everything is outside.
    let mut nat = Nat::new(true);
    own(&mut nat, "192.168.1.7");
    nat.observe(inside, now);
    assert_eq!(nat.external(Carrier::Udp, now).len(), 2);
}

#[test]
fn observations_are_bounded_and_age() {
    let (mut nat, now) = at_home();
    (0..200).for_each(|number| nat.observe(seen(number, Carrier::Udp, OUT, 40_000), now));
    (0..200).for_each(|number| nat.observe(seen(number, Carrier::Tcp, OUT, 40_000), now));
    assert_eq!(nat.seen.len(), 32);
    assert_eq!(nat.kind(Carrier::Udp, now), NatKind::Cone);
    let later = now + Duration::from_secs(24 * 3_600);
    assert_eq!(nat.kind(Carrier::Udp, later), NatKind::Unknown);
    // The newest word of each counts: the router was restarted.
    (190..200).for_each(|number| nat.observe(seen(number, Carrier::Udp, OUT, 50_000), now));
    assert_eq!(nat.external(Carrier::Udp, now)[0].port(), 50_000);
    nat.network_changed();
    assert_eq!(nat.kind(Carrier::Udp, now), NatKind::Unknown);
}

#[test]
fn a_relay_is_needed_until_somebody_gets_through() {
    let (mut nat, mut now) = at_home();
    let four: Multiaddr = format!("/ip4/{OUT}/tcp/7710").parse().unwrap();
    let six: Multiaddr = "/ip6/2001:db8::7/udp/7710/quic-v1".parse().unwrap();
    assert_eq!((nat.reachability(now), nat.needs_relay(now)), (Reachability::Unknown, true));
    nat.tested(&four, false, now);
    assert_eq!((nat.reachability(now), nat.needs_relay(now)), (Reachability::Private, true));
    nat.tested(&six, true, now);
    assert_eq!((nat.reachability(now), nat.needs_relay(now)), (Reachability::Public, true));
    nat.tested(&four, true, now);
    assert_eq!((nat.confirmed(now).len(), nat.needs_relay(now)), (2, false));
    // One failure is forgiven, two are not.
    nat.tested(&four, false, now);
    assert!(!nat.needs_relay(now));
    nat.tested(&four, true, now);
    nat.tested(&four, false, now);
    assert!(!nat.needs_relay(now));
    nat.tested(&four, false, now);
    assert!(nat.needs_relay(now));
    // Once lost, it takes two successes.
    nat.tested(&four, true, now);
    assert!(nat.needs_relay(now));
    nat.tested(&four, true, now);
    assert!(!nat.needs_relay(now));
    // Nobody tests again.
    now += Duration::from_secs(2 * 3_600);
    assert_eq!((nat.reachability(now), nat.needs_relay(now)), (Reachability::Unknown, true));
    // Within a home network, or through a relay, everybody is reachable.
    let inside: Multiaddr = "/ip4/192.168.1.7/tcp/7710".parse().unwrap();
    nat.tested(&inside, true, now);
    let circuit: Multiaddr = format!("{four}/p2p/{}/p2p-circuit", peer(1)).parse().unwrap();
    nat.tested(&circuit, true, now);
    assert!(nat.confirmed(now).is_empty());
    nat.tested(&four, true, now);
    nat.tested(&four, true, now);
    nat.network_changed();
    assert!(nat.needs_relay(now));
}

#[test]
fn people_are_told_what_to_do() {
    let (mut nat, now) = at_home();
    let has = |nat: &Nat, words: &[&str]| {
        let advice = nat.advice(now);
        assert!(words.iter().all(|word| advice.contains(word)), "{advice}");
    };
    has(&nat, &["not known yet", "forward UDP and TCP port 7710", "UPnP"]);
    (1..4).for_each(|number| nat.observe(seen(number, Carrier::Tcp, OUT, 40_000), now));
    has(&nat, &["cone NAT", "UPnP", "No connection over UDP"]);
    (1..4).for_each(|number| nat.observe(seen(number, Carrier::Udp, OUT, 40_000 + number), now));
    has(&nat, &["symmetric NAT", "port 7710", "slower"]);
    own(&mut nat, "100.70.1.2");
    has(&nat, &["symmetric NAT", "provider"]);
    nat.tested(&"/ip6/2001:db8::7/tcp/7710".parse().unwrap(), true, now);
    has(&nat, &["IPv6", "relay"]);
    nat.tested(&format!("/ip4/{OUT}/tcp/7710").parse().unwrap(), true, now);
    has(&nat, &["nothing needs to be done"]);
    let mut nat = Nat::new(false);
    own(&mut nat, OUT);
    nat.observe(seen(1, Carrier::Udp, OUT, 7710), now);
    has(&nat, &["firewall", "port 7710"]);
}

proptest! {
    #[test]
    fn memory_is_bounded(steps in prop::collection::vec((0..200u16, 1..60_000u16, any::<bool>(), 0..9_000u64), 0..300)) {
        let (mut nat, mut now) = at_home();
        for (number, port, flag, seconds) in steps {
            now += Duration::from_secs(seconds);
            nat.observe(seen(number, if flag { Carrier::Udp } else { Carrier::Tcp }, OUT, port), now);
            nat.tested(&format!("/ip4/{OUT}/tcp/{port}").parse().unwrap(), flag, now);
            prop_assert!(nat.seen.len() <= 32 && nat.confirmed(now).len() <= 16);
            prop_assert!(nat.external(Carrier::Udp, now).len() <= 8);
            prop_assert!(nat.needs_relay(now) || nat.reachability(now) == Reachability::Public);
        }
    }
}
