//! Who reaches whom, and how: a home of each kind with a home of each other kind.
//!
//! All homes are in one laboratory and up at the same time. Nobody serves on what it got, so that every song comes from
//! the one that it is asked of.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    lab::{Carrier, Home, Kind, Lab, Server},
    node::{Link, Node, until, wait_online},
    table,
};

/// Longest wait until everybody sees everybody's songs.
const ALL_SEEN: Duration = Duration::from_secs(60);
/// Longest wait until the paths are what they should be, once all songs have come.
const ALL_PATHS: Duration = Duration::from_secs(45);

/// Changes of a pair's path that are kept.
const STORY: usize = 40;

/// Two homes of which the first one gets a song of the second.
struct Pair {
    name: String,
    one: usize,
    other: usize,
    /// The paths that it may end on.
    expected: &'static [&'static str],
    song: String,
}

/// What was seen of a pair, in seconds since both were ready.
#[derive(Debug, Clone, Default)]
struct Seen {
    connected: Option<f64>,
    now: Option<Link>,
    /// Since when on this path.
    since: f64,
    /// Every path so far, for those who look into a failure.
    story: Vec<String>,
}

/// Homes and what runs in them. Processes go before the namespaces.
struct World {
    nodes: Vec<Node>,
    pairs: Vec<Pair>,
    minis: Vec<Node>,
    servers: Vec<Server>,
    _homes: Vec<Home>,
    _carrier: Carrier,
    _lab: Lab,
}

/// How two should be connected in the end. Our routers let in only what was asked for from the very same address and
/// port, so that a random port for each destination cannot be hit.
fn expected(one: Kind, two: Kind) -> &'static [&'static str] {
    let either = |kind| one == kind || two == kind;
    if either(Kind::Public) {
        &["direct"]
    } else if either(Kind::Symmetric) {
        &["relayed"]
    } else if either(Kind::UdpBlocked) {
        // Over TCP: a matter of luck.
        &["punched", "relayed"]
    } else {
        &["punched"]
    }
}

impl World {
    fn new(lab: Lab) -> Self {
        let servers: Vec<Server> = ["mini-a", "mini-b"].map(|label| lab.server(label)).into();
        let first = Node::mini("mini-a", &servers[0], &[]);
        let second = Node::mini("mini-b", &servers[1], &[&first]);
        let mut world = Self {
            nodes: Vec::new(),
            pairs: Vec::new(),
            minis: vec![first, second],
            _homes: Vec::new(),
            _carrier: lab.same_carrier(0).0,
            servers,
            _lab: lab,
        };
        // The first of each kind gets, the second of each kind gives.
        let lines = Kind::ALL.map(|kind| [0, 1].map(|_| world.home(kind, 1)));
        for (place, one) in Kind::ALL.into_iter().enumerate() {
            for (other_place, other) in Kind::ALL.into_iter().enumerate().skip(place) {
                let name = format!("{}, {}", one.name(), other.name());
                let (from, to) = (lines[place][0], lines[other_place][1]);
                world.pair(name, from, to, expected(one, other));
            }
        }
        let together = world.home(Kind::Cone, 2);
        for node in &mut world.nodes[together..] {
            node.set("NETWORK__MDNS", "true");
        }
        world.pair("same network at home".to_owned(), together, together + 1, &["direct"]);
        let (carrier, homes) = world._lab.same_carrier(2);
        world._carrier = carrier;
        let first = world.nodes.len();
        for home in homes {
            world.move_in(home, "carried");
        }
        world.pair("same carrier, no way back".to_owned(), first, first + 1, &["relayed"]);
        world
    }

    /// A home, with a peer on each machine. Gives the first one's number.
    fn home(&mut self, kind: Kind, machines: usize) -> usize {
        let home = self._lab.home(kind, machines);
        self.move_in(home, kind.name())
    }

    fn move_in(&mut self, home: Home, name: &str) -> usize {
        let first = self.nodes.len();
        for machine in &home.machines {
            let number = self.nodes.len();
            let joins: Vec<&Node> = self.minis.iter().take(1).collect();
            let seed = number as u64;
            let mut node = Node::peer(&format!("{name} {number}"), machine, &joins, seed..seed + 1);
            node.set("LIBRARY__SHARE_DOWNLOADS", "false");
            if home.kind == Kind::UdpBlocked {
                node.join(self.minis[0].tcp_address());
            }
            self.nodes.push(node);
        }
        self._homes.push(home);
        first
    }

    fn pair(&mut self, name: String, one: usize, other: usize, expected: &'static [&'static str]) {
        let song = crate::common::hash(&self.nodes[other].song(other as u64));
        self.pairs.push(Pair { name, one, other, expected, song });
    }

    /// Looks at all pairs again and again until told to stop.
    fn watch(&self, seen: &Mutex<Vec<Seen>>, stop: &AtomicBool) {
        let mut by_getter: HashMap<usize, Vec<usize>> = HashMap::new();
        for (number, pair) in self.pairs.iter().enumerate() {
            by_getter.entry(pair.one).or_default().push(number);
        }
        while !stop.load(Ordering::Relaxed) {
            for (getter, pairs) in by_getter.iter().filter(|(getter, _)| self.nodes[**getter].is_ready()) {
                let links = self.nodes[*getter].links();
                let now = Instant::now();
                for &number in pairs {
                    let pair = &self.pairs[number];
                    if !self.nodes[pair.other].is_ready() {
                        continue;
                    }
                    let both = self.nodes[pair.one].ready_at().max(self.nodes[pair.other].ready_at());
                    let after = now.saturating_duration_since(both).as_secs_f64();
                    let link = links.get(&self.nodes[pair.other].peer_id()).cloned();
                    let seen = &mut seen.lock().unwrap()[number];
                    if link.is_some() {
                        seen.connected.get_or_insert(after);
                    }
                    // A circuit that nobody uses is closed after a while, and dialled again when it is wanted.
                    let idle = link.is_none() && seen.now.as_ref().is_some_and(Link::is_relayed);
                    if link != seen.now {
                        let path = link
                            .as_ref()
                            .map_or("none".to_owned(), |link| format!("{} {}", link.path, link.transport));
                        let line = format!("{after:.1} {path}");
                        if seen.story.len() < STORY && seen.story.last() != Some(&line) {
                            seen.story.push(line);
                        }
                    }
                    if link != seen.now && !idle {
                        (seen.now, seen.since) = (link, after);
                    }
                }
            }
            thread::sleep(Duration::from_millis(150));
        }
    }

    /// Has every song got, those of one home one after the other. Gives what failed.
    fn get_all(&self) -> Vec<Result<(), String>> {
        let results = Mutex::new(vec![Err("not tried".to_owned()); self.pairs.len()]);
        thread::scope(|scope| {
            for getter in 0..self.nodes.len() {
                let mine: Vec<usize> =
                    (0..self.pairs.len()).filter(|&number| self.pairs[number].one == getter).collect();
                let results = &results;
                scope.spawn(move || {
                    for number in mine {
                        let got = self.nodes[getter].get(&self.pairs[number].song);
                        results.lock().unwrap()[number] = got;
                    }
                });
            }
        });
        results.into_inner().unwrap()
    }

    /// Waits until everybody sees everybody's songs. Gives what is wrong, else.
    fn wait_seen(&self) -> Option<String> {
        let others = self.nodes.len() as u64 - 1;
        match wait_online(&self.nodes, others, ALL_SEEN) {
            Ok(took) => {
                eprintln!("everybody sees everybody's songs after {:.1} s", took.as_secs_f64());
                None
            }
            Err(error) => Some(error),
        }
    }

    fn run(&mut self) {
        self.minis.iter_mut().for_each(Node::up);
        // One after the other, as people start them. Of two that start at the same moment on a machine that is busy with all
        // of them, one may open its circuit before it knows its own address: that one is not punched, only the next is.
        self.nodes.iter_mut().for_each(Node::up);
        let world = &*self;
        let seen = Mutex::new(vec![Seen::default(); world.pairs.len()]);
        let stop = AtomicBool::new(false);
        let (blind, got) = thread::scope(|scope| {
            let watching = scope.spawn(|| world.watch(&seen, &stop));
            // Else a panic below would wait for the watcher for ever.
            let _stops = StopOnDrop(&stop);
            world.nodes.iter().for_each(Node::wait_ready);
            let blind = world.wait_seen();
            let got = world.get_all();
            let as_expected = || {
                let seen = seen.lock().unwrap();
                world.pairs.iter().zip(seen.iter()).all(|(pair, seen)| pair.is_on_path(seen))
            };
            let settled = until(ALL_PATHS, as_expected);
            eprintln!("all paths are as expected after another {settled:.1?}");
            stop.store(true, Ordering::Relaxed);
            watching.join().unwrap();
            (blind, got)
        });
        world.report(&seen.into_inner().unwrap(), &got, blind);
        crate::private::assert_none(&world.servers);
    }

    fn report(&self, seen: &[Seen], got: &[Result<(), String>], blind: Option<String>) {
        let mut wrong: Vec<String> = blind.into_iter().collect();
        let mut rows = Vec::new();
        for ((pair, seen), got) in self.pairs.iter().zip(seen).zip(got) {
            rows.push(pair.row(seen, got));
            if let Err(error) = got {
                wrong.push(format!("{}: {error}", pair.name));
            }
            if !pair.is_on_path(seen) {
                let (one, other) = (&self.nodes[pair.one], &self.nodes[pair.other]);
                let back = other.links().get(&one.peer_id()).cloned();
                wrong.push(format!("{}: {seen:?}, from the other side {back:?}", pair.name));
                eprintln!("{} is {}\n{}", one.label, one.peer_id(), one.peers());
                eprintln!("{} is {}\n{}", other.label, other.peer_id(), other.peers());
            }
        }
        let table = table::markdown(
            &["pair", "path", "transport", "connected after, s", "on this path after, s", "song"],
            &rows,
        );
        eprintln!("{table}");
        table::write_to_file("nat matrix", &table);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

impl Pair {
    fn is_on_path(&self, seen: &Seen) -> bool {
        seen.now.as_ref().is_some_and(|link| self.expected.contains(&link.path.as_str()))
    }

    fn row(&self, seen: &Seen, got: &Result<(), String>) -> Vec<String> {
        let seconds = |number: Option<f64>| number.map_or("never".to_owned(), |s| format!("{s:.1}"));
        let (path, transport) = seen
            .now
            .as_ref()
            .map_or(("none".to_owned(), String::new()), |link| (link.path.clone(), link.transport.clone()));
        let since = seconds(seen.now.as_ref().map(|_| seen.since));
        let song = if got.is_ok() { "intact" } else { "FAILED" };
        vec![self.name.clone(), path, transport, seconds(seen.connected), since, song.to_owned()]
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn matrix() {
    let _turn = crate::turn();
    let Some(lab) = Lab::new() else { return };
    World::new(lab).run();
}
