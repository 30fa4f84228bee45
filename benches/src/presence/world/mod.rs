//! Peers in virtual time: some with the real core, the others announcing at the pace of a peer that knows everybody.

mod learn;
mod view;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    time::{Duration, Instant},
};

use antiphon_p2p::{
    PeerId,
    libp2p::multihash::Multihash,
    presence::{Effect, Learned, LibrarySum, Params, Presence, Verdict},
};
use antiphon_proto::{
    ContentHash,
    announcement::{Announcement, Event, Flags},
    limits::ANNOUNCEMENT_BYTES,
};

use super::{
    memory::library,
    overlay::{Overlay, at},
    rng::Rng,
    spread::Spread,
};

/// Bytes of a request or an answer beside what it carries: a frame's length, protobuf, the protocol's name.
const FRAME: u64 = 40;

/// Milliseconds after which the core asks for a library that it lacks, at most.
const LEARN_WITHIN: u64 = 300;

/// What a world is like.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Of every core.
    pub params: Params,
    /// Songs of each peer.
    pub songs: u32,
    /// Songs in the ledger.
    pub ledger: u32,
    /// Whether libraries are made of whole albums.
    pub albums: bool,
    /// Milliseconds from one poll of a core to the next.
    pub tick: u64,
    /// See [`Rng`].
    pub seed: u64,
}

/// Time that a peer which knows so many others leaves between announcements, in milliseconds, as in the core.
#[must_use]
pub fn pace_ms(params: &Params, others: usize) -> u64 {
    let others = u32::try_from(others).unwrap_or(u32::MAX);
    let pace = params.heartbeat.max(params.heartbeat_per_peer.saturating_mul(others));
    u64::try_from(pace.as_millis()).unwrap_or(u64::MAX)
}

/// The same for the longest silence.
#[must_use]
pub fn expiry_ms(params: &Params, others: usize) -> u64 {
    pace_ms(params, others + others / 4) * 5 / 2
}

/// A peer without a core.
#[derive(Debug, Clone)]
struct Model {
    sequence: u64,
    sum: LibrarySum,
}

#[derive(Debug)]
enum Kind {
    Core(Box<Presence>),
    Model(Model),
    Off,
}

#[derive(Debug)]
struct Peer {
    id: PeerId,
    kind: Kind,
    /// Peers heard of by now, by number; only in cores.
    heard: Vec<bool>,
    heard_of: usize,
    /// Announcements made.
    published: u64,
}

#[derive(Debug)]
enum Input {
    Speak(u32),
    Poll(u32),
    /// A poll beside the tick.
    Nudge(u32),
    Hear {
        at: u32,
        author: u32,
        said: Announcement,
    },
    Greet {
        at: u32,
        from: u32,
        said: Announcement,
    },
    GreetBack {
        at: u32,
        from: u32,
    },
    Learned {
        at: u32,
        of: u32,
        learned: Learned,
    },
    NotLearned {
        at: u32,
        of: u32,
    },
    Closed {
        at: u32,
        other: u32,
    },
}

/// Bytes of libraries and hellos, both ways, and what went wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Said {
    /// Exchanges between neighbours.
    pub hellos: u64,
    /// Bytes of them, both ways.
    pub hello_bytes: u64,
    /// Libraries learned.
    pub learned: u64,
    /// Bytes of them.
    pub learned_bytes: u64,
    /// Announcements that the rules rejected.
    pub rejected: u64,
    /// Peers that were there all the time and were forgotten.
    pub forgotten: u64,
}

/// How an announcement is carried.
#[derive(Debug, Clone)]
pub enum Carry {
    /// Through the mesh, every copy counted.
    Mesh,
    /// To the cores only, each after one of these times that announcements took through the mesh.
    Sampled(Vec<u32>),
}

/// See the module.
#[derive(Debug)]
pub struct World {
    /// Connections and mesh.
    pub overlay: Overlay,
    /// The mesh's traffic.
    pub spread: Spread,
    /// Bytes beside it.
    pub said: Said,
    /// How announcements of peers without a core are carried; those of cores go through the mesh.
    pub carry: Carry,
    settings: Settings,
    base: Instant,
    now: u64,
    rng: Rng,
    peers: Vec<Peer>,
    numbers: HashMap<PeerId, u32>,
    cores: Vec<u32>,
    online: usize,
    ledger: HashMap<ContentHash, u64>,
    inputs: HashMap<u64, Input>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    next: u64,
    learned_at: BTreeMap<(u32, u32), u64>,
}

impl World {
    /// Everybody is off.
    #[must_use]
    pub fn new(overlay: Overlay, spread: Spread, settings: Settings) -> Self {
        let mut rng = Rng::new(settings.seed);
        let peers: Vec<Peer> = (0..overlay.peers())
            .map(|_| Peer {
                id: peer_id(&rng.bytes()),
                kind: Kind::Off,
                heard: Vec::new(),
                heard_of: 0,
                published: 0,
            })
            .collect();
        let numbers = peers.iter().map(|peer| peer.id).zip(0u32..).collect();
        Self {
            overlay,
            spread,
            said: Said::default(),
            carry: Carry::Mesh,
            settings,
            base: Instant::now(),
            now: 0,
            rng,
            peers,
            numbers,
            cores: Vec::new(),
            online: 0,
            ledger: HashMap::new(),
            inputs: HashMap::new(),
            queue: BinaryHeap::new(),
            next: 0,
            learned_at: BTreeMap::new(),
        }
    }

    /// Begins with everybody known: `cores` get tables as if they had been there for long, all others announce.
    pub fn settle(&mut self, cores: &[u32], off: &[u32]) {
        let online = self.peers.len() - off.len();
        let pace = pace_ms(&self.settings.params, online.saturating_sub(1)).max(1);
        self.now = pace;
        let mut last: Vec<(u64, u32)> = Vec::new();
        for peer in (0u32..).take(self.peers.len()) {
            if off.contains(&peer) {
                self.spread.set_off(peer, true);
                continue;
            }
            if !cores.contains(&peer) {
                let sum = LibrarySum::from_parts(&self.rng.bytes(), self.settings.songs);
                self.peers[at(peer)].kind = Kind::Model(Model { sequence: 1, sum });
                self.online += 1;
            }
            let ago = self.rng.any() % pace;
            last.push((self.now - ago, peer));
            if !cores.contains(&peer) {
                self.plan(2 * pace - ago, Input::Speak(peer));
            }
        }
        last.sort_unstable();
        for core in cores {
            self.start(*core);
        }
        for (time, author) in last {
            let Some(said) = self.state(author) else { continue };
            for core in cores.iter().filter(|core| **core != author) {
                self.hear(*core, author, &said, time);
            }
        }
    }

    /// A peer with a core comes and connects with all that its overlay has it connected with.
    pub fn join(&mut self, peer: u32) {
        self.spread.set_off(peer, false);
        self.start(peer);
        // At first it speaks often, whatever the tick is.
        for quarter in 0..400 {
            self.plan(self.now + 250 * quarter, Input::Nudge(peer));
        }
        let others: Vec<u32> = self.overlay.links(peer).collect();
        let (id, now) = (self.peers[at(peer)].id, self.instant(self.now));
        for other in others {
            if let Some(core) = self.core(other) {
                core.handle_connected(id, false);
                core.handle_subscribed(&id, now);
            }
        }
    }

    fn start(&mut self, peer: u32) {
        let (id, now, seed) = (self.peers[at(peer)].id, self.instant(self.now), self.rng.any());
        let mut core = Presence::new(id, self.settings.params.clone(), self.now << 16, now);
        let set =
            library(&mut Rng::new(seed), self.settings.songs, self.settings.ledger, self.settings.albums);
        let songs = u32::try_from(set.len()).unwrap_or(u32::MAX);
        core.replace_own(set, LibrarySum::from_parts(&self.rng.bytes(), songs));
        core.set_ledger_size(u64::from(self.settings.ledger));
        for other in self.overlay.links(peer) {
            if !matches!(self.peers[at(other)].kind, Kind::Off) {
                core.handle_connected(self.peers[at(other)].id, peer > other);
                core.handle_subscribed(&self.peers[at(other)].id, now);
            }
        }
        core.start(Flags::default(), now);
        let heard = vec![false; self.peers.len()];
        self.peers[at(peer)] =
            Peer { id, kind: Kind::Core(Box::new(core)), heard, heard_of: 0, published: 0 };
        self.cores.push(peer);
        self.online += 1;
        self.plan(self.now + 1, Input::Poll(peer));
    }

    /// A peer is gone without a word. Its neighbours notice when the connection times out, 10 to 14 seconds later.
    pub fn crash(&mut self, peer: u32) {
        for other in self.neighbours(peer) {
            let wait = 10_000 + self.rng.any() % 4_000;
            self.plan(self.now + wait, Input::Closed { at: other, other: peer });
        }
        self.remove(peer);
    }

    /// A peer says goodbye and closes its connections.
    pub fn leave(&mut self, peer: u32) {
        let wall = self.now;
        let said = match &mut self.peers[at(peer)].kind {
            Kind::Core(core) => Some(core.goodbye(wall)),
            Kind::Model(model) => {
                model.sequence += 1;
                self.state(peer).map(|said| Announcement { event: Event::Goodbye, ..said })
            }
            Kind::Off => None,
        };
        if let Some(said) = said {
            self.publish(peer, said, true);
        }
        for other in self.neighbours(peer) {
            let wait = u64::from(self.overlay.latency(peer, other)) + 1;
            self.plan(self.now + wait, Input::Closed { at: other, other: peer });
        }
        self.remove(peer);
    }

    fn remove(&mut self, peer: u32) {
        self.peers[at(peer)].kind = Kind::Off;
        self.online = self.online.saturating_sub(1);
        self.cores.retain(|core| *core != peer);
        self.spread.set_off(peer, true);
    }

    /// A core vouches for one more song; gives its index.
    pub fn add(&mut self, peer: u32) -> Option<u32> {
        let content = ContentHash(self.rng.bytes());
        let index = self.settings.ledger - 1;
        let core = self.core(peer)?;
        let index = (0..index).rev().find(|index| core.vouch(*index, &content))?;
        self.ledger.insert(content, u64::from(index));
        self.poll(peer);
        Some(index)
    }

    /// Lets time pass, up to the next thing that happens or `until`; says whether something happened.
    pub fn step(&mut self, until: u64) -> bool {
        let Some(Reverse((time, number))) = self.queue.peek().copied().filter(|next| next.0.0 <= until)
        else {
            self.now = self.now.max(until);
            return false;
        };
        self.queue.pop();
        self.now = self.now.max(time);
        if let Some(input) = self.inputs.remove(&number) {
            self.take(input);
        }
        true
    }

    /// Lets time pass.
    pub fn run(&mut self, until: u64) {
        while self.step(until) {}
    }

    fn take(&mut self, input: Input) {
        let now = self.instant(self.now);
        match input {
            Input::Speak(peer) => self.speak(peer),
            Input::Poll(peer) => {
                if self.core(peer).is_some() {
                    self.poll(peer);
                    self.plan(self.now + self.settings.tick, Input::Poll(peer));
                }
            }
            Input::Nudge(peer) => self.poll(peer),
            Input::Hear { at: peer, author, said } => {
                self.hear(peer, author, &said, self.now);
                // Nothing follows at once from a state that is as expected; the tick sees to the rest.
                let of_core = matches!(self.peers[at(author)].kind, Kind::Core(_));
                if said.event != Event::Digest || (of_core && matches!(self.carry, Carry::Sampled(_))) {
                    self.poll(peer);
                    self.plan(self.now + LEARN_WITHIN, Input::Nudge(peer));
                }
            }
            Input::Greet { at: peer, from, said } => {
                let id = self.peers[at(from)].id;
                if let Some(core) = self.core(peer) {
                    // What it says by gossip may have overtaken it.
                    let _ = core.handle_hello(id, said, now);
                    self.note(peer, from);
                    self.poll(peer);
                    self.plan(self.now + LEARN_WITHIN, Input::Nudge(peer));
                }
            }
            Input::GreetBack { at: peer, from } => {
                let id = self.peers[at(from)].id;
                let Some(said) = self.state(from) else {
                    if let Some(core) = self.core(peer) {
                        core.hello_failed(&id, now);
                    }
                    return;
                };
                let (said, ours) = (said, self.state(peer));
                let way = u64::from(self.overlay.latency(peer, from));
                if let Some(ours) = ours {
                    self.take(Input::Greet { at: from, from: peer, said: ours });
                }
                self.plan(self.now + way, Input::Greet { at: peer, from, said });
            }
            Input::Learned { at: peer, of, learned } => {
                let id = self.peers[at(of)].id;
                self.learned_at.insert((peer, of), self.now);
                if let Some(core) = self.core(peer) {
                    if core.handle_library(id, learned, now).is_err() {
                        self.said.rejected += 1;
                    }
                    self.poll(peer);
                }
            }
            Input::NotLearned { at: peer, of } => {
                let id = self.peers[at(of)].id;
                if let Some(core) = self.core(peer) {
                    core.library_failed(&id, now);
                }
            }
            Input::Closed { at: peer, other } => {
                let id = self.peers[at(other)].id;
                if let Some(core) = self.core(peer) {
                    core.handle_disconnected(&id, false, now);
                }
            }
        }
    }

    fn speak(&mut self, peer: u32) {
        let online = self.online;
        let Kind::Model(model) = &mut self.peers[at(peer)].kind else { return };
        model.sequence += 1;
        if let Some(said) = self.state(peer) {
            self.publish(peer, said, matches!(self.carry, Carry::Mesh));
        }
        let pace = pace_ms(&self.settings.params, online.saturating_sub(1));
        self.plan(self.now + pace, Input::Speak(peer));
    }

    /// What a peer says to a neighbour.
    fn state(&self, peer: u32) -> Option<Announcement> {
        match &self.peers[at(peer)].kind {
            Kind::Core(core) => Some(core.hello(self.now)),
            Kind::Model(model) => Some(Announcement {
                event: Event::Digest,
                flags: Flags::default(),
                songs: model.sum.songs(),
                sequence: model.sequence,
                time_ms: self.now,
                ledger_size: u64::from(self.settings.ledger),
                digest: model.sum.digest(),
            }),
            Kind::Off => None,
        }
    }

    fn publish(&mut self, author: u32, said: Announcement, mesh: bool) {
        if mesh {
            self.spread.send(&self.overlay, author, self.now);
        }
        for core in self.cores.clone().into_iter().filter(|core| *core != author) {
            let time = match &self.carry {
                Carry::Sampled(times) if !mesh => times.get(self.rng.place(times.len())).copied(),
                _ => self.spread.arrived(core),
            };
            if let Some(time) = time {
                self.plan(self.now + u64::from(time), Input::Hear { at: core, author, said });
            }
        }
    }

    fn hear(&mut self, core: u32, author: u32, said: &Announcement, time: u64) {
        let (id, now) = (self.peers[at(author)].id, self.instant(time));
        let left = matches!(self.peers[at(author)].kind, Kind::Off) || said.event == Event::Goodbye;
        let forgotten =
            !left && self.peers[at(core)].heard.get(at(author)) == Some(&true) && !self.knows(core, author);
        let Some(presence) = self.core(core) else { return };
        let verdict = presence.handle_announcement(id, &said.to_bytes(), now);
        self.said.rejected += u64::from(matches!(verdict, Verdict::Reject(_)));
        self.said.forgotten += u64::from(forgotten);
        self.note(core, author);
    }

    fn note(&mut self, core: u32, author: u32) {
        let peer = &mut self.peers[at(core)];
        if let Some(heard) = peer.heard.get_mut(at(author)).filter(|heard| !**heard) {
            *heard = true;
            peer.heard_of += 1;
        }
    }

    fn poll(&mut self, peer: u32) {
        let (now, wall) = (self.instant(self.now), self.now);
        while let Some(effect) = self.core(peer).and_then(|core| core.poll(now, wall)) {
            self.act(peer, effect);
        }
    }

    fn act(&mut self, peer: u32, effect: Effect) {
        let number = |world: &Self, id: &PeerId| world.numbers.get(id).copied().unwrap_or(0);
        match effect {
            Effect::Publish(said) => {
                self.peers[at(peer)].published += 1;
                self.publish(peer, said, true);
            }
            Effect::Hello(other) => {
                let other = number(self, &other);
                self.said.hellos += 1;
                self.said.hello_bytes += 2 * (u64::try_from(ANNOUNCEMENT_BYTES).unwrap_or(0) + FRAME);
                let way = u64::from(self.overlay.latency(peer, other));
                self.plan(self.now + way, Input::GreetBack { at: peer, from: other });
            }
            Effect::Learn { peer: of, known } => {
                let of = number(self, &of);
                let way = u64::from(self.overlay.latency(peer, of));
                match self.learn(of, known.as_deref()) {
                    Some((learned, bytes, trips)) => {
                        self.said.learned += 1;
                        self.said.learned_bytes += bytes;
                        self.plan(self.now + 2 * way * trips, Input::Learned { at: peer, of, learned });
                    }
                    None => self.plan(self.now + 2 * way, Input::NotLearned { at: peer, of }),
                }
            }
            Effect::Resolve { peer: of, content, added } => {
                let index = self.ledger.get(&content).copied();
                if let Some(core) = self.core(peer) {
                    core.handle_resolved(&of, &content, added, index);
                }
            }
        }
    }

    fn instant(&self, time: u64) -> Instant {
        self.base + Duration::from_millis(time)
    }

    fn plan(&mut self, time: u64, input: Input) {
        self.inputs.insert(self.next, input);
        self.queue.push(Reverse((time, self.next)));
        self.next += 1;
    }
}

/// An Ed25519 peer id, as if these bytes were a key: nothing here is signed.
fn peer_id(key: &[u8; 32]) -> PeerId {
    let inline = [&[8, 1, 18, 32][..], key].concat();
    let hash = Multihash::wrap(0, &inline).unwrap_or_default();
    PeerId::from_multihash(hash).unwrap_or_else(|_| PeerId::random())
}
