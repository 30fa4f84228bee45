//! The small case: 200 peers, all with the real core, converge in virtual time.

use antiphon_p2p::presence::Params;

use super::{
    overlay::{Gossip, Overlay},
    spread::Spread,
    world::{Carry, Said, Settings, World, expiry_ms, pace_ms},
};

const PEERS: u32 = 200;
const SECOND: u64 = 1_000;

fn world(seed: u64) -> World {
    let gossip = Gossip::default();
    let overlay = Overlay::new(PEERS, 16, 48, &gossip, seed);
    let spread = Spread::new(overlay.peers(), gossip, seed);
    let settings =
        Settings { params: Params::default(), songs: 100, ledger: 100_000, albums: false, tick: 250, seed };
    World::new(overlay, spread, settings)
}

/// How long it takes until something is so for each of these, in milliseconds; it must be within `most`.
fn times(world: &mut World, of: &[u32], most: u64, is: impl Fn(&mut World, u32) -> bool) -> Vec<u64> {
    let times = world.until(of, 50, most, is);
    assert_eq!(times.len(), of.len(), "after {most} ms");
    times
}

#[test]
fn two_hundred_peers_converge() {
    let mut world = world(7);
    let (last, leaver, victim) = (PEERS - 1, 50, 60);
    // 199 come within twenty seconds; each knows every other one pace later.
    for peer in 0..last {
        world.run(world.now() + 100);
        world.join(peer);
    }
    let all: Vec<u32> = world.cores().to_vec();
    let pace = pace_ms(&Params::default(), 199);
    times(&mut world, &all, pace + SECOND, |world, core| world.heard_of(core) == 198);
    assert!(all.iter().all(|core| (0..last).all(|other| other == *core || world.knows(*core, other))));
    // Somebody who comes is known to all at once, and to its neighbours with its library.
    world.join(last);
    times(&mut world, &all, 2 * SECOND, |world, core| world.knows(core, last));
    let neighbours = world.neighbours(last);
    times(&mut world, &neighbours, 2 * SECOND, |world, core| world.learned_at(core, last).is_some());
    // It knows the others one pace later, and their libraries where it is connected.
    times(&mut world, &[last], pace + SECOND, |world, core| world.heard_of(core) == 199);
    let connected = world.core(last).unwrap().online().libraries().filter(|of| of.1 == 100).count();
    assert_eq!(connected, neighbours.len());
    // One more song: one announcement, no question.
    let before = world.said;
    world.add(last).unwrap();
    times(&mut world, &neighbours, SECOND, |world, core| world.songs_of(core, last) == Some(101));
    assert_eq!(world.said.learned, before.learned);
    // A goodbye and a crash.
    world.leave(leaver);
    let rest: Vec<u32> = world.cores().to_vec();
    times(&mut world, &rest, 2 * SECOND, |world, core| !world.knows(core, leaver));
    world.crash(victim);
    let rest: Vec<u32> = world.cores().to_vec();
    let expiry = expiry_ms(&Params::default(), 197);
    let took = times(&mut world, &rest, expiry + SECOND, |world, core| !world.knows(core, victim));
    assert!(took.iter().all(|time| *time >= expiry - pace - SECOND), "nobody is given up too early");
    // And nobody who is there was ever given up, nothing was rejected, nothing is learned again.
    let before = world.said;
    world.run(world.now() + 12 * SECOND);
    assert_eq!((world.said.forgotten, world.said.rejected), (0, 0));
    assert_eq!((world.said.learned, world.said.hellos), (before.learned, before.hellos));
}

#[test]
fn the_model_announces_as_often_as_the_core() {
    let mut models = world(8);
    models.settle(&[0, 1, 2], &[]);
    models.carry = Carry::Mesh;
    let before = models.spread.announcements;
    models.run(models.now() + 60 * SECOND);
    let said = models.spread.announcements - before;
    // 200 peers at a pace of ten seconds; three of them began with an announcement each.
    assert!((1_195..=1_215).contains(&said), "{said}");
    assert_eq!(models.said.forgotten, 0);
    let Said { rejected, .. } = models.said;
    assert_eq!(rejected, 0);
}
