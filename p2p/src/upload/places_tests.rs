use proptest::prelude::*;

use super::{
    Effect::{Admit, Pause, Refuse, Resume},
    *,
};

const PLAY: AudioMode = AudioMode::Play;
const BULK: AudioMode = AudioMode::Bulk;
const NOTHING: [Effect; 0] = [];

fn places(total: usize, per_peer: usize, play_reserve: usize, queue: usize) -> Places<u8> {
    Places::new(Bounds { total, per_peer, play_reserve, queue })
}

#[test]
fn the_peer_with_the_fewest_places_goes_first() {
    let mut places = places(4, 4, 0, 100);
    for id in 0..4 {
        assert_eq!(places.enter(id, 1, BULK), [Admit(id)]);
    }
    // Peer 1 waits with four more before the others come.
    for (id, peer) in [(4, 1), (5, 1), (6, 1), (7, 1), (8, 2), (9, 3), (10, 3)] {
        assert_eq!(places.enter(id, peer, BULK), NOTHING);
    }
    assert_eq!(places.leave(0), [Admit(8)]);
    assert_eq!(places.leave(1), [Admit(9)]);
    // Everybody has one; 1 waits longer than 3, and then 3 longer than 1.
    assert_eq!(places.leave(2), [Admit(4)]);
    assert_eq!(places.leave(3), [Admit(10)]);
    assert_eq!(places.leave(8), [Admit(5)]);
    assert_eq!((places.waiting(BULK), places.waiting(PLAY)), (2, 0));
}

#[test]
fn bulk_leaves_places_to_play() {
    let mut places = places(3, 2, 1, 100);
    assert_eq!(places.enter(0, 1, BULK), [Admit(0)]);
    assert_eq!(places.enter(1, 1, BULK), [Admit(1)]);
    assert_eq!(places.enter(2, 2, BULK), NOTHING);
    assert_eq!(places.enter(3, 2, PLAY), [Admit(3)]);
    assert_eq!(places.leave(0), [Admit(2)]);
    // However much is kept, bulk is not shut out; with no places at all, everything waits.
    let mut one = Places::new(Bounds { total: 1, per_peer: 1, play_reserve: 9, queue: 1 });
    assert_eq!(one.enter(0, 1, BULK), [Admit(0)]);
    let mut none = Places::new(Bounds { total: 0, per_peer: 1, play_reserve: 0, queue: 1 });
    assert_eq!(none.enter(0, 1, PLAY), NOTHING);
    assert_eq!(none.enter(1, 1, BULK), [Refuse(1)]);
}

#[test]
fn play_takes_the_place_of_bulk_and_gives_it_back() {
    let mut places = places(3, 2, 0, 100);
    for (id, peer) in [(0, 1), (1, 1), (2, 2)] {
        assert_eq!(places.enter(id, peer, BULK), [Admit(id)]);
    }
    // The newest of the peer that runs the most; then everybody runs one.
    assert_eq!(places.enter(3, 3, PLAY), [Pause(1), Admit(3)]);
    assert_eq!(places.enter(4, 4, PLAY), [Pause(2), Admit(4)]);
    assert_eq!(places.enter(5, 5, PLAY), [Pause(0), Admit(5)]);
    assert_eq!(places.enter(6, 5, PLAY), NOTHING);
    assert_eq!(places.enter(7, 6, BULK), NOTHING);
    // Play that waits, then those that were paused, the longest first, then bulk that waits.
    assert_eq!(places.leave(3), [Admit(6)]);
    assert_eq!(places.leave(4), [Resume(1)]);
    assert_eq!(places.leave(2), NOTHING);
    assert_eq!(places.leave(5), [Resume(0)]);
    assert_eq!(places.leave(6), [Admit(7)]);
}

#[test]
fn play_of_a_peer_takes_the_places_of_its_own_bulk() {
    let mut places = places(10, 2, 0, 100);
    assert_eq!(places.enter(0, 1, BULK), [Admit(0)]);
    assert_eq!(places.enter(1, 1, BULK), [Admit(1)]);
    assert_eq!(places.enter(2, 2, BULK), [Admit(2)]);
    assert_eq!(places.enter(3, 1, PLAY), [Pause(1), Admit(3)]);
    assert_eq!(places.enter(4, 1, PLAY), [Pause(0), Admit(4)]);
    // More than its part it does not get, and what is paused does not run beside it.
    assert_eq!(places.enter(5, 1, PLAY), NOTHING);
    assert_eq!(places.leave(2), NOTHING);
    assert_eq!(places.leave(3), [Admit(5)]);
    assert_eq!(places.leave(4), [Resume(1)]);
}

#[test]
fn who_waits_with_the_most_loses_first() {
    let mut places = places(1, 1, 0, 3);
    assert_eq!(places.enter(0, 9, PLAY), [Admit(0)]);
    for id in 1..4 {
        assert_eq!(places.enter(id, 1, BULK), NOTHING);
    }
    assert_eq!(places.enter(4, 2, BULK), [Refuse(3)]);
    assert_eq!(places.enter(5, 3, PLAY), [Refuse(2)]);
    assert_eq!(places.enter(6, 3, PLAY), [Refuse(4)]);
    assert_eq!(places.enter(7, 3, PLAY), [Refuse(1)]);
    assert_eq!(places.enter(8, 4, BULK), [Refuse(8)]);
    assert_eq!(places.enter(9, 4, PLAY), [Refuse(7)]);
    assert_eq!(places.leave(5), NOTHING);
    assert_eq!(places.leave(5), NOTHING);
    assert_eq!(places.leave(0), [Admit(6)]);
    assert_eq!(places.leave(6), [Admit(9)]);
    let more = Bounds { total: 3, per_peer: 2, play_reserve: 0, queue: 0 };
    assert_eq!(places.enter(10, 5, BULK), NOTHING);
    assert_eq!(places.enter(11, 5, BULK), NOTHING);
    assert_eq!(places.enter(12, 6, BULK), NOTHING);
    assert_eq!(places.set(more), [Admit(10), Admit(12), Refuse(11)]);
}

proptest! {
    #[test]
    fn any_comings_and_goings_keep_the_bounds(
        total in 0..6usize,
        per_peer in 1..4usize,
        play_reserve in 0..4usize,
        queue in 0..12usize,
        steps in prop::collection::vec((any::<bool>(), 0..5u8, any::<bool>(), any::<prop::sample::Index>()), 1..120),
    ) {
        let bounds = Bounds { total, per_peer, play_reserve, queue };
        let mut places = Places::new(bounds);
        // What the effects say: waiting, running, paused.
        let mut model: HashMap<Id, (u8, AudioMode, &str)> = HashMap::new();
        for (id, (enters, peer, plays, which)) in (0..).zip(steps) {
            let effects = if enters || model.is_empty() {
                let mode = if plays { PLAY } else { BULK };
                model.insert(id, (peer, mode, "waits"));
                places.enter(id, peer, mode)
            } else {
                let mut ids: Vec<_> = model.keys().copied().collect();
                ids.sort_unstable();
                let id = *which.get(&ids);
                model.remove(&id);
                places.leave(id)
            };
            for effect in effects {
                let (id, from, to) = match effect {
                    Admit(id) => (id, "waits", Some("runs")),
                    Refuse(id) => (id, "waits", None),
                    Pause(id) => (id, "runs", Some("paused")),
                    Resume(id) => (id, "paused", Some("runs")),
                };
                let (peer, mode, state) = model.remove(&id).unwrap();
                prop_assert_eq!(state, from);
                if let Some(to) = to {
                    model.insert(id, (peer, mode, to));
                }
            }
            let count = |fits: &dyn Fn(u8, AudioMode, &str) -> bool| {
                model.values().filter(|(peer, mode, state)| fits(*peer, *mode, state)).count()
            };
            let running = count(&|_, _, state| state == "runs");
            prop_assert!(running <= total);
            prop_assert!(count(&|_, mode, state| mode == BULK && state != "waits") <= bounds.for_bulk());
            prop_assert!(count(&|_, _, state| state == "waits") <= queue);
            prop_assert_eq!(count(&|_, mode, state| mode == PLAY && state == "paused"), 0);
            let bulk_runs = count(&|_, mode, state| mode == BULK && state == "runs") > 0;
            for peer in 0..5 {
                let of_peer = count(&|other, _, state| other == peer && state == "runs");
                prop_assert!(of_peer <= per_peer);
                // Nobody waits while it could run.
                if count(&|other, mode, state| other == peer && mode == PLAY && state == "waits") > 0 {
                    let own_bulk = count(&|other, mode, state| other == peer && mode == BULK && state == "runs");
                    prop_assert!(own_bulk == 0 && (of_peer == per_peer || (running == total && !bulk_runs)));
                }
                if count(&|other, _, state| other == peer && state == "paused") > 0 {
                    prop_assert!(of_peer == per_peer || running == total);
                }
            }
            prop_assert_eq!(places.open.len(), count(&|_, _, state| state != "waits"));
            prop_assert_eq!(places.waiting(PLAY) + places.waiting(BULK), count(&|_, _, state| state == "waits"));
        }
        // When all that run leave, again and again, nobody is left behind.
        while total > 0 && !model.is_empty() {
            let mut ids: Vec<_> = model.iter().filter(|(_, entry)| entry.2 == "runs").map(|(id, _)| *id).collect();
            ids.sort_unstable();
            prop_assert!(!ids.is_empty(), "{model:?}");
            for id in ids {
                model.remove(&id);
                for effect in places.leave(id) {
                    match effect {
                        Admit(id) | Resume(id) => model.get_mut(&id).unwrap().2 = "runs",
                        Pause(id) => model.get_mut(&id).unwrap().2 = "paused",
                        Refuse(id) => drop(model.remove(&id)),
                    }
                }
            }
        }
        if total > 0 {
            prop_assert!(places.open.is_empty() && places.play.order.is_empty() && places.bulk.order.is_empty());
        }
    }
}
