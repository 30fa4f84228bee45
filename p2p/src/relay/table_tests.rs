use std::{num::NonZeroU64, time::Duration};

use proptest::prelude::*;

use super::*;

type Names = Table<u32, &'static str>;

fn ip(text: &str) -> Origin {
    Some(text.parse::<IpAddr>().unwrap()).into()
}

/// Requests without end, so that only the numbers decide.
fn limits() -> RelayLimits {
    let unlimited = NonZeroU64::new(1_000_000).unwrap();
    RelayLimits {
        requests_per_minute: unlimited,
        requests_per_ip_per_minute: unlimited,
        ..RelayLimits::default()
    }
}

fn ends(source: u32, origin: Origin, destination: u32) -> Ends<u32> {
    Ends { source, origin, destination }
}

#[test]
fn one_ipv6_customer_is_one_origin() {
    assert_eq!(ip("2001:db8:1:2::1"), ip("2001:db8:1:2:ffff::2"));
    assert_ne!(ip("2001:db8:1:2::1"), ip("2001:db8:1:3::1"));
    assert_eq!(ip("::ffff:1.2.3.4"), ip("1.2.3.4"));
    assert_ne!(ip("1.2.3.4"), ip("1.2.3.5"));
    assert_eq!(Origin::from(None), Origin::Unknown);
}

#[test]
fn a_reservation_lasts_until_it_ends_or_its_peer_leaves() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut table = Names::new(limits());
    let here = ip("1.2.3.4");
    assert_eq!(table.admit(&ends(1, here, 2), start), Err(Refusal::NoReservation));
    assert_eq!(table.reserve(2, here, "first", start), Ok(()));
    assert_eq!(table.admit(&ends(1, here, 2), at(3_599)), Ok("first"));
    assert_eq!(table.admit(&ends(1, here, 2), at(3_600)), Err(Refusal::NoReservation));
    // Renewed, over another connection.
    assert_eq!(table.reserve(2, here, "second", at(2_700)), Ok(()));
    assert_eq!(table.admit(&ends(1, here, 2), at(6_299)), Ok("second"));
    table.expire(at(6_299));
    assert_eq!(table.reservations(), 1);
    table.expire(at(6_300));
    assert_eq!(table.reservations(), 0);
    assert_eq!(table.reserve(2, here, "third", at(6_300)), Ok(()));
    table.forget(&2);
    assert_eq!(table.admit(&ends(1, here, 2), at(6_300)), Err(Refusal::NoReservation));
    assert_eq!(table.admit(&ends(1, here, 1), start), Err(Refusal::Oneself));
    assert_eq!(table.reserved_from.0.len(), 0);
}

#[test]
fn reservations_are_bounded_in_all_and_by_address() {
    let mut now = Instant::now();
    let mut soon = || {
        now += Duration::from_millis(1);
        now
    };
    let mut table = Names::new(RelayLimits { reservations: 5, reservations_per_ip: 3, ..limits() });
    let (here, there) = (ip("1.2.3.4"), ip("1.2.3.5"));
    for peer in 0..3 {
        assert_eq!(table.reserve(peer, here, "", soon()), Ok(()));
    }
    assert_eq!(table.reserve(3, here, "", soon()), Err(Refusal::ReservationsOfAddress));
    assert_eq!(table.reserve(3, there, "", soon()), Ok(()));
    assert_eq!(table.reserve(4, there, "", soon()), Ok(()));
    assert_eq!(table.reserve(5, there, "", soon()), Err(Refusal::Reservations));
    // Whoever has one renews it, but does not move to an address that is full.
    assert_eq!(table.reserve(0, here, "", soon()), Ok(()));
    assert_eq!(table.reserve(3, here, "", soon()), Err(Refusal::ReservationsOfAddress));
    assert_eq!(table.reserve(0, there, "", soon()), Ok(()));
    assert_eq!(table.reserve(3, here, "", soon()), Ok(()));
    // Those that have ended make room.
    let later = soon() + limits().reservation_ttl;
    assert_eq!(table.reserve(9, here, "", later), Ok(()));
    assert_eq!(table.reservations(), 1);
}

#[test]
fn requests_have_a_rate_for_each_peer_and_each_address() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut table = Names::new(RelayLimits {
        requests_per_minute: NonZeroU64::new(6).unwrap(),
        requests_per_ip_per_minute: NonZeroU64::new(60).unwrap(),
        reservations_per_ip: 10,
        ..RelayLimits::default()
    });
    let here = ip("1.2.3.4");
    let granted = |table: &mut Names, peer, seconds| table.reserve(peer, here, "", at(seconds)).is_ok();
    assert_eq!((0..20).filter(|_| granted(&mut table, 1, 0)).count(), 6);
    let come_and_go = |table: &mut Names, peer, seconds| {
        let came = granted(table, peer, seconds);
        table.forget(&peer);
        came
    };
    // Of the ten of the address, the peer that renewed took one.
    assert_eq!((2..20).filter(|peer| come_and_go(&mut table, *peer, 0)).count(), 9);
    // What one peer is refused does not cost its address, and who renews is not held up by others behind the same.
    assert!(!granted(&mut table, 1, 1) && come_and_go(&mut table, 30, 1) && !come_and_go(&mut table, 31, 1));
    assert!(come_and_go(&mut table, 32, 10) && granted(&mut table, 1, 10) && !granted(&mut table, 1, 10));
}

#[test]
fn circuits_are_bounded_in_all_and_by_everybody_in_them() {
    let start = Instant::now();
    let bounds = RelayLimits {
        circuits: 6,
        circuits_per_ip: 4,
        circuits_per_source: 2,
        circuits_per_destination: 3,
        ..limits()
    };
    let mut table = Names::new(bounds);
    let (here, there) = (ip("1.2.3.4"), ip("::1"));
    for destination in [10, 11, 12] {
        assert_eq!(table.reserve(destination, there, "", start), Ok(()));
    }
    let mut open = |source, origin, destination| table.admit(&ends(source, origin, destination), start);
    assert!(open(1, here, 10).is_ok() && open(1, here, 10).is_ok());
    assert_eq!(open(1, here, 11), Err(Refusal::CircuitsOfSource));
    assert!(open(2, here, 10).is_ok());
    assert_eq!(open(3, here, 10), Err(Refusal::CircuitsOfDestination));
    assert!(open(3, here, 11).is_ok());
    assert_eq!(open(4, here, 11), Err(Refusal::CircuitsOfAddress));
    assert!(open(4, there, 11).is_ok() && open(5, there, 12).is_ok());
    assert_eq!(open(6, there, 12), Err(Refusal::Circuits));
    table.release(&ends(1, here, 10));
    assert_eq!(table.admit(&ends(6, there, 12), start), Ok(""));
    assert_eq!(table.circuits(), 6);
}

proptest! {
    #[test]
    fn any_comings_and_goings_keep_the_bounds(
        steps in prop::collection::vec((0..4u8, 0..8u32, 0..3u8, 0..8u32, 0..30u64), 1..200),
    ) {
        let bounds = RelayLimits {
            reservations: 5,
            reservations_per_ip: 3,
            circuits: 6,
            circuits_per_ip: 4,
            circuits_per_source: 2,
            circuits_per_destination: 3,
            reservation_ttl: Duration::from_secs(100),
            ..limits()
        };
        let mut table = Names::new(bounds);
        let mut now = Instant::now();
        let mut open: Vec<Ends<u32>> = Vec::new();
        for (what, peer, origin, other, seconds) in steps {
            now += Duration::from_secs(seconds);
            let origin = Origin::V4(Ipv4Addr::new(1, 2, 3, origin));
            let ends = ends(peer, origin, other);
            match what {
                0 => drop(table.reserve(peer, origin, "", now)),
                1 => table.forget(&peer),
                2 if table.admit(&ends, now).is_ok() => open.push(ends),
                _ if !open.is_empty() => table.release(&open.swap_remove(other as usize % open.len())),
                _ => {}
            }
            prop_assert_eq!(table.circuits(), open.len());
            prop_assert!(open.len() <= 6 && table.reservations() <= 5);
            for one in &open {
                prop_assert!(open.iter().filter(|other| other.source == one.source).count() <= 2);
                prop_assert!(open.iter().filter(|other| other.destination == one.destination).count() <= 3);
                prop_assert!(open.iter().filter(|other| other.origin == one.origin).count() <= 4);
            }
            for reserved in table.reservations.values() {
                let same = table.reservations.values().filter(|other| other.origin == reserved.origin).count();
                prop_assert!(same <= 3);
                prop_assert_eq!(table.reserved_from.of(&reserved.origin), same);
            }
        }
        open.drain(..).for_each(|ends| table.release(&ends));
        (0..8).for_each(|peer| table.forget(&peer));
        // Nothing is left of who is gone.
        prop_assert!(table.reserved_from.0.is_empty() && table.circuits_from.0.is_empty());
        prop_assert!(table.by_source.0.is_empty() && table.by_destination.0.is_empty());
    }
}
