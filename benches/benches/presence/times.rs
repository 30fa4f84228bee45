//! How long it takes until something is known, by the real core.

use antiphon_benches::presence::{
    Rng,
    overlay::Gossip,
    spread::Spread,
    world::{Carry, Settings, World, expiry_ms, pace_ms},
};
use antiphon_p2p::presence::Params;

use crate::{
    CONNECTIONS, OF_MINI_NODE, SEED, SIZES, float,
    flow::{Shard, quantile},
};

const SONGS: u32 = 1_000;
const LEDGER: u32 = 1_000_000;
const SECOND: u64 = 1_000;

/// Entries in the tables of all cores together: a few hundred bytes each.
const ENTRIES: u32 = 800_000;

fn spread_of(times: &[u64]) -> String {
    let at = |percent| float(quantile(times, percent)) / 1_000.0;
    format!("{:.2}, {:.2}, {:.2} s", at(50), at(99), at(100))
}

/// A settled world: the mini-node, neighbours of the last peer and others have cores; the last peer is off.
fn settled(peers: u32, gossip: &Gossip) -> World {
    let shard = Shard::new(peers, CONNECTIONS, OF_MINI_NODE, gossip);
    let params = Params { peers: 200_000, ..Params::default() };
    let tick = (pace_ms(&params, peers as usize) / 250).clamp(250, 20 * SECOND);
    let settings = Settings { params, songs: SONGS, ledger: LEDGER, albums: false, tick, seed: SEED };
    let most = (ENTRIES / peers).clamp(8, 300).min(peers / 2) as usize;
    let mut cores = vec![0];
    cores
        .extend(shard.overlay.links(peers - 1).filter(|other| *other != 0).take((most / 2).min(CONNECTIONS)));
    let mut rng = Rng::new(SEED);
    while cores.len() < most {
        let other = rng.below(peers - 1);
        if !cores.contains(&other) {
            cores.push(other);
        }
    }
    let spread = Spread::new(peers as usize, *gossip, SEED);
    let mut world = World::new(shard.overlay, spread, settings);
    world.carry = Carry::Sampled(shard.arrivals);
    world.settle(&cores, &[peers - 1]);
    world
}

pub(crate) fn run() {
    println!("## Times (median, 99 %, last of the observed cores)\n");
    println!(
        "| peers in one topic | cores | goodbye | join known | joiner's library, at neighbours | one more song, at neighbours | who comes knows half, 99 %, all | announcements it makes until then | crash, at neighbours | crash, at others | silence allowed | forgotten by mistake |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    let costs = [200, SIZES[0], 1_562, SIZES[1], SIZES[2]].map(scenes);
    println!(
        "\nA join among 1,000 peers, {CONNECTIONS} of them connected, {SONGS} songs each: {}.\n",
        costs[1]
    );
}

/// Prints a row; gives what the join cost beside announcements.
fn scenes(peers: u32) -> String {
    let mut world = settled(peers, &Gossip::default());
    let (joiner, leaver) = (peers - 1, (1..peers).find(|peer| !world.cores().contains(peer)).unwrap());
    world.run(world.now() + 30 * SECOND);
    let cores = world.cores().to_vec();
    world.leave(leaver);
    let goodbye = world.until(&cores, 10, 60 * SECOND, |world, core| !world.knows(core, leaver));
    let before = world.said;
    world.join(joiner);
    let known = world.until(&cores, 10, 60 * SECOND, |world, core| world.knows(core, joiner));
    let joined = world.now() - known.last().copied().unwrap_or(0);
    world.run(joined + 5 * SECOND);
    let neighbours = world.neighbours(joiner);
    let library: Vec<u64> =
        neighbours.iter().filter_map(|core| world.learned_at(*core, joiner)).map(|at| at - joined).collect();
    let library = sorted(library);
    let said = (world.said.learned - before.learned, world.said.learned_bytes - before.learned_bytes);
    let hellos = (world.said.hellos - before.hellos, world.said.hello_bytes - before.hello_bytes);
    world.add(joiner).unwrap();
    let wanted = Some(u64::from(SONGS) + 1);
    let song =
        world.until(&neighbours, 10, 30 * SECOND, |world, core| world.songs_of(core, joiner) == wanted);
    let pace = pace_ms(&Params::default(), peers as usize - 1);
    let filled = fill(&mut world, joiner, joined, pace);
    let published = world.published(joiner);
    // In the middle of a pace, so that it was silent for half of it.
    world.run(world.now() + pace / 2);
    world.crash(joiner);
    let crash = world.now();
    let near =
        world.until(&neighbours, 100, 20 * SECOND, |world, core| world.songs_of(core, joiner).is_none());
    let others: Vec<u32> = cores.iter().copied().filter(|core| !neighbours.contains(core)).collect();
    let passed = world.now() - crash;
    let slice = (pace / 250).max(100);
    let far = world.until(&others, slice, 5 * pace, |world, core| !world.knows(core, joiner));
    let far: Vec<u64> = far.into_iter().map(|time| time + passed).collect();
    println!(
        "| {peers} | {} | {} | {} | {} | {} | {} | {published} | {} | {} | {:.0} s | {} |",
        cores.len(),
        spread_of(&goodbye),
        spread_of(&known),
        spread_of(&library),
        spread_of(&song),
        filled,
        spread_of(&near),
        spread_of(&far),
        float(expiry_ms(&Params::default(), peers as usize - 1)) / 1_000.0,
        world.said.forgotten,
    );
    assert_eq!(world.said.rejected, 0);
    format!(
        "{} hellos ({} B both ways), {} libraries learned on both sides ({} B)",
        hellos.0, hellos.1, said.0, said.1
    )
}

fn fill(world: &mut World, joiner: u32, joined: u64, pace: u64) -> String {
    let others = world.online() - 1;
    let mut times = Vec::new();
    for percent in [50, 99, 100] {
        let wanted = others * percent / 100;
        world
            .until(&[joiner], (pace / 1_000).max(10), 3 * pace, |world, core| world.heard_of(core) >= wanted);
        times.push(format!("{:.0}", float(world.now() - joined) / 1_000.0));
    }
    times.join(", ") + " s"
}

fn sorted(mut times: Vec<u64>) -> Vec<u64> {
    times.sort_unstable();
    times
}

/// What a crash takes if neighbours that lose a connection say so to everybody: two of them are believed unless the peer
/// itself answers within two seconds.
pub(crate) fn witnesses() {
    const ANSWER: u64 = 2 * SECOND;
    println!("## A crash, if two neighbours' word is enough\n");
    println!("| peers in one topic | known after: median, 99 %, last | announcements that it takes |");
    println!("|---|---|---|");
    for peers in SIZES {
        let gossip = Gossip::default();
        let shard = Shard::new(peers, CONNECTIONS, OF_MINI_NODE, &gossip);
        let mut spread = Spread::new(peers as usize, gossip, SEED);
        let mut rng = Rng::new(SEED);
        let (mut times, mut said) = (Vec::new(), 0u64);
        let crashes = (400_000 / peers).clamp(4, 40);
        for _ in 0..crashes {
            let victim = 1 + rng.below(peers - 1);
            spread.set_off(victim, true);
            // Connections end after 10 to 14 seconds without an answer; who notices waits up to a second, to hear others.
            let mut notices: Vec<(u64, u32)> = shard
                .overlay
                .links(victim)
                .map(|other| (10_000 + rng.any() % 4_000 + rng.any() % 1_000, other))
                .collect();
            notices.sort_unstable();
            let mut heard: Vec<Vec<u64>> = vec![Vec::new(); peers as usize];
            for (time, witness) in notices {
                let silent = heard[witness as usize].iter().filter(|at| **at <= time).count() >= 2;
                if silent {
                    continue;
                }
                said += 1;
                spread.send(&shard.overlay, witness, time);
                for (peer, heard) in (0u32..).zip(&mut heard) {
                    heard.extend(spread.arrived(peer).map(|after| time + u64::from(after)));
                }
            }
            spread.set_off(victim, false);
            for (peer, mut heard) in (0u32..).zip(heard) {
                heard.sort_unstable();
                times.extend(heard.get(1).filter(|_| peer != victim).map(|at| at + ANSWER));
            }
        }
        let times = sorted(times);
        println!("| {peers} | {} | {:.1} |", spread_of(&times), float(said) / f64::from(crashes));
    }
    println!();
}
