//! Three mini-nodes that are killed and come back in turn, and ten peers that must not mind.

use std::{
    env,
    time::{Duration, Instant},
};

use crate::{
    lab::{Home, Kind, Lab, Server},
    node::{Node, must, start_all, wait_online},
};

/// Sets how long, in seconds.
const SECONDS: &str = "ANTIPHON_MESH_SECONDS";
/// Songs of each peer.
const SONGS: u64 = 2;
/// Within what the others know that a peer came or went.
const KNOWN: Duration = Duration::from_secs(15);
/// How much later a busy machine may be.
const GRACE: Duration = Duration::from_secs(5);
const HOMES: [Kind; 10] = [
    Kind::Public,
    Kind::Cone,
    Kind::Cone,
    Kind::Cone,
    Kind::ConeOtherPort,
    Kind::ConeOtherPort,
    Kind::Symmetric,
    Kind::Symmetric,
    Kind::Double,
    Kind::UdpBlocked,
];
/// Which mini-nodes are away in which round.
const AWAY: [&[usize]; 6] = [&[0], &[1], &[0, 1], &[2], &[1, 2], &[0, 2]];

struct World {
    peers: Vec<Node>,
    minis: Vec<Node>,
    start: Instant,
    servers: [Server; 3],
    _homes: Vec<Home>,
    _lab: Lab,
}

impl World {
    fn new(lab: Lab) -> Self {
        let servers: [Server; 3] = ["mini-a", "mini-b", "mini-c"].map(|label| lab.server(label));
        let mut minis: Vec<Node> = Vec::new();
        for (server, label) in servers.iter().zip(["mini-a", "mini-b", "mini-c"]) {
            // Whoever is started again knows of the others even when it is the first.
            let joins: Vec<&Node> = minis.iter().collect();
            let mut mini = Node::mini(label, server, &joins);
            mini.up();
            minis.push(mini);
        }
        let homes: Vec<Home> = HOMES.into_iter().map(|kind| lab.home(kind, 1)).collect();
        let mut peers: Vec<Node> = Vec::new();
        for (number, home) in homes.iter().enumerate() {
            let first = number as u64 * SONGS;
            // One is enough; the mesh tells of the others.
            let joins = [&minis[number % 3]];
            let label = format!("{} {number}", home.kind.name());
            let mut peer = Node::peer(&label, &home.machines[0], &joins, first..first + SONGS);
            if home.kind == Kind::UdpBlocked {
                peer.join(joins[0].tcp_address());
            }
            peers.push(peer);
        }
        start_all(&mut peers);
        Self { peers, minis, start: Instant::now(), servers, _homes: homes, _lab: lab }
    }

    fn say(&self, what: &str) {
        eprintln!("{:6.1} s: {what}", self.start.elapsed().as_secs_f64());
    }

    /// Peers, other than the one that is away, and the songs that they are to see online.
    fn present(&self, away: Option<usize>) -> (Vec<&Node>, u64) {
        let present: Vec<&Node> = self
            .peers
            .iter()
            .enumerate()
            .filter(|(number, _)| Some(*number) != away)
            .map(|(_, p)| p)
            .collect();
        let songs = (present.len() as u64 - 1) * SONGS;
        (present, songs)
    }

    /// Waits until everybody who is here sees the songs of everybody who is here, and says how long that took.
    fn wait_right(&self, what: &str, away: Option<usize>, within: Duration) {
        let (present, songs) = self.present(away);
        let took = wait_online(present.iter().copied(), songs, within).unwrap_or_else(|error| {
            present.iter().for_each(|peer| peer.show_log());
            present.iter().for_each(|peer| eprintln!("{}: {}", peer.label, peer.peers()));
            panic!("{what}: {error}");
        });
        self.say(&format!("{what}: everybody sees {songs} songs after {:.1} s", took.as_secs_f64()));
    }

    /// Looks for a while, without a change of a peer, whether anybody loses sight of anything.
    fn watch(&self, what: &str, away: Option<usize>, during: Duration) {
        let total = HOMES.len() as u64 * SONGS;
        let end = Instant::now() + during;
        let mut lost: Vec<(String, u64)> = Vec::new();
        while Instant::now() < end {
            let (present, songs) = self.present(away);
            for peer in present {
                let status = peer.status();
                assert_eq!(status["ledger_size"], total, "{what}: {} lost the catalogue", peer.label);
                let online = status["online_songs"].as_u64().unwrap();
                assert!(online > 0, "{what}: {} sees nobody", peer.label);
                if online != songs && !lost.contains(&(peer.label.clone(), online)) {
                    lost.push((peer.label.clone(), online));
                }
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        if !lost.is_empty() {
            self.say(&format!("{what}: for a while seen less: {lost:?}"));
        }
        for (number, peer) in self.peers.iter().enumerate() {
            assert!(Some(number) == away || peer.is_alive(), "{what}: {} died", peer.label);
        }
    }

    /// Mini-nodes are killed, a peer goes and comes while they are away, and they come back.
    fn round(&mut self, round: usize) {
        let away = AWAY[round % AWAY.len()];
        away.iter().for_each(|&mini| self.minis[mini].kill());
        let what = format!("without mini-nodes {away:?}");
        self.watch(&what, None, Duration::from_secs(3));
        self.wait_right(&what, None, KNOWN + GRACE);
        // Odd ones leave in order, the others are unplugged.
        let peer = (round * 3 + 1) % self.peers.len();
        let how = if round.is_multiple_of(2) { "is killed" } else { "leaves" };
        if round.is_multiple_of(2) {
            self.peers[peer].kill()
        } else {
            self.peers[peer].stop()
        }
        let what = format!("{} {how}", self.peers[peer].label);
        self.wait_right(&what, Some(peer), KNOWN + GRACE);
        self.peers[peer].up();
        let what = format!("{} is back", self.peers[peer].label);
        self.wait_right(&what, None, KNOWN + GRACE);
        for &mini in away {
            self.minis[mini].up();
        }
        let what = format!("mini-nodes {away:?} are back");
        self.watch(&what, None, Duration::from_secs(3));
        self.wait_right(&what, None, KNOWN + GRACE);
    }
}

#[test]
fn mesh() {
    let _turn = crate::turn();
    let Some(lab) = Lab::new() else { return };
    let seconds = env::var(SECONDS).map_or(90, |text| text.parse().expect("seconds"));
    let mut world = World::new(lab);
    let total = HOMES.len() as u64 * SONGS;
    let all: Vec<&Node> = world.peers.iter().collect();
    must("all songs are in every ledger", Duration::from_secs(120), &all, || {
        all.iter().all(|peer| peer.status()["ledger_size"] == total)
    });
    world.wait_right("all are up", None, Duration::from_secs(60));
    world.start = Instant::now();
    let end = Duration::from_secs(seconds);
    for round in 0.. {
        world.round(round);
        if world.start.elapsed() >= end {
            break;
        }
    }
    crate::private::assert_none(&world.servers);
}
