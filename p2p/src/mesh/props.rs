//! What holds for a mesh whatever it is told.

use std::time::Duration;

use libp2p::multiaddr::Protocol;
use proptest::prelude::*;

use super::{
    Effect, MeshParams,
    core_tests::{Bench, address, peer, refused},
    params::{ADDRESSES, KNOWN, NAMED_DIALS, REMEMBERED},
};
use crate::status::{MiniNode, MiniNodeState, Reservation};

/// Something that happens to a mesh.
#[derive(Debug, Clone)]
enum Input {
    Name(u16, bool),
    Learn(u16, u16),
    Connected(u16),
    Identified(u16, bool),
    Disconnected(u16),
    Failed(u16),
    Needs(bool),
    Reserved(u16),
    Refused(u16),
    Lost(u16),
    Changed,
    Wait(u64),
}

fn inputs() -> impl Strategy<Value = Input> {
    let number = 0..180u16;
    prop_oneof![
        (number.clone(), any::<bool>()).prop_map(|(number, with)| Input::Name(number, with)),
        (number.clone(), number.clone()).prop_map(|(number, at)| Input::Learn(number, at)),
        number.clone().prop_map(Input::Connected),
        (0..6u16, any::<bool>()).prop_map(|(number, is)| Input::Identified(number, is)),
        (0..6u16).prop_map(Input::Connected),
        (0..6u16, 0..6u16).prop_map(|(number, at)| Input::Learn(number, at)),
        (0..6u16).prop_map(Input::Disconnected),
        number.prop_map(Input::Failed),
        any::<bool>().prop_map(Input::Needs),
        (0..6u16).prop_map(Input::Reserved),
        (0..6u16).prop_map(Input::Refused),
        (0..6u16).prop_map(Input::Lost),
        Just(Input::Changed),
        (0..60_000u64).prop_map(Input::Wait),
    ]
}

fn apply(bench: &mut Bench, input: &Input) {
    let now = bench.now;
    let mesh = &mut bench.mesh;
    match *input {
        Input::Name(number, true) => mesh.name(&address(number).with(Protocol::P2p(peer(number)))),
        Input::Name(number, false) => mesh.name(&address(number)),
        Input::Learn(number, at) => mesh.learn(peer(number), &[address(at)]),
        Input::Connected(number) => mesh.handle_connected(peer(number), &address(number), now),
        Input::Identified(number, is) => mesh.handle_identified(peer(number), is, now),
        Input::Disconnected(number) => mesh.handle_disconnected(peer(number), now),
        Input::Failed(number) if number % 2 == 0 => mesh.handle_dial_failed(address(number), "no", now),
        Input::Failed(number) => mesh.handle_dial_failed(peer(number), "no", now),
        Input::Needs(needed) => mesh.set_needs_relay(needed),
        Input::Reserved(number) => mesh.handle_reserved(peer(number), now),
        Input::Refused(number) => mesh.handle_reservation_failed(peer(number), &refused(), now),
        Input::Lost(number) => mesh.handle_reservation_lost(peer(number), now),
        Input::Changed => mesh.network_changed(now),
        Input::Wait(ms) => bench.now += Duration::from_millis(ms),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn limits_hold_whatever_happens(inputs in prop::collection::vec(inputs(), 0..120)) {
        let mut bench = Bench::new(MeshParams::peer());
        for input in &inputs {
            apply(&mut bench, input);
            for effect in bench.effects() {
                match effect {
                    Effect::Dial { addresses, .. } => {
                        prop_assert!(!addresses.is_empty() && addresses.len() <= ADDRESSES);
                    }
                    Effect::Reserve { peer, .. } => {
                        let node = bench.mesh.status().into_iter().find(|node| node.peer == Some(peer)).unwrap();
                        prop_assert_eq!(node.reservation, Reservation::Pending);
                        prop_assert_eq!((node.state, node.is_mini_node), (MiniNodeState::Connected, Some(true)));
                    }
                    Effect::Release { .. } => {}
                }
            }
            let status = bench.mesh.status();
            prop_assert!(status.len() <= KNOWN);
            let dialling = |node: &&MiniNode| node.state == MiniNodeState::Dialling;
            let (wanted, chosen): (Vec<_>, Vec<_>) = status.iter().filter(dialling)
                .partition(|node| node.named && node.is_mini_node != Some(true));
            prop_assert!(wanted.len() <= NAMED_DIALS + 3 && chosen.len() <= 3, "{} {}", wanted.len(), chosen.len());
            let pending = status.iter().filter(|node| node.reservation == Reservation::Pending).count();
            prop_assert!(pending <= 2);
            prop_assert!(bench.mesh.addresses().len() <= REMEMBERED);
            let mut peers: Vec<_> = status.iter().filter_map(|node| node.peer).collect();
            peers.sort();
            peers.dedup();
            prop_assert_eq!(peers.len(), status.iter().filter(|node| node.peer.is_some()).count());
        }
    }

    /// Between the polls that are asked for, nothing happens; and the wake-ups are not many.
    #[test]
    fn the_timeout_is_right(inputs in prop::collection::vec(inputs(), 0..80), part in 0.0f64..1.0) {
        let mut bench = Bench::new(MeshParams::peer());
        for input in &inputs {
            apply(&mut bench, input);
            bench.effects();
            let Some(at) = bench.mesh.poll_timeout() else { continue };
            prop_assert!(at > bench.now);
            let between = bench.now + (at - bench.now).mul_f64(part);
            if between < at {
                prop_assert_eq!(bench.mesh.poll(between), None);
                bench.now = between;
            }
        }
        let mut wakes = 0;
        let end = bench.now + Duration::from_secs(600);
        while let Some(at) = bench.mesh.poll_timeout().filter(|at| *at < end) {
            bench.now = at;
            wakes += bench.effects().len() + 1;
        }
        prop_assert!(wakes < 4_000, "{}", wakes);
    }
}
