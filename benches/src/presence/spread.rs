//! One announcement on its way through a mesh: when each peer has it, and every copy and control message on the way.
//!
//! The author sends it to all its connections. Whoever gets it first checks it, then passes it on to its mesh, except to
//! its author and to those that it came from meanwhile. In each of the next three seconds it tells some peers outside its
//! mesh that it has it; who lacks it asks for it and gets it.

use super::{
    overlay::{Gossip, Overlay, at},
    rng::Rng,
};

/// Milliseconds from getting an announcement to passing it on: a signature, the core, the queue.
const CHECK: u32 = 2;
/// Milliseconds that events may lie ahead; more than a second and a way.
const RING: usize = 2_048;
const NEVER: u32 = u32::MAX;

/// What passed through a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Announcements, with duplicates.
    pub copies_in: u64,
    /// The same, sent.
    pub copies_out: u64,
    /// Ids in messages that say what their sender has.
    pub ids_in: u64,
    /// The same, sent.
    pub ids_out: u64,
    /// Announcements that were asked for.
    pub wants_in: u64,
    /// Announcements that this peer asked for.
    pub wants_out: u64,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Copy { from: u32, to: u32 },
    Forward { peer: u32 },
    Heartbeat { peer: u32, left: u32 },
    Have { from: u32, to: u32 },
    Want { from: u32, to: u32 },
}

/// Sends announcements and counts.
#[derive(Debug)]
pub struct Spread {
    gossip: Gossip,
    rng: Rng,
    ring: Vec<Vec<Step>>,
    /// Millisecond of the second in which the announcement was made.
    start: u32,
    waiting: usize,
    /// When each peer had the announcement, in milliseconds after it was made.
    arrived: Vec<u32>,
    /// Whether a peer has asked for it.
    asked: Vec<bool>,
    /// Who sent a copy to whom before it was passed on.
    early: Vec<Vec<u32>>,
    /// Peers that are off.
    off: Vec<bool>,
    /// What each peer sent and got since the beginning.
    pub loads: Vec<Load>,
    /// Announcements sent.
    pub announcements: u64,
}

impl Spread {
    /// Everybody is there, nothing was sent.
    #[must_use]
    pub fn new(peers: usize, gossip: Gossip, seed: u64) -> Self {
        Self {
            gossip,
            rng: Rng::new(seed),
            ring: vec![Vec::new(); RING],
            start: 0,
            waiting: 0,
            arrived: vec![NEVER; peers],
            asked: vec![false; peers],
            early: vec![Vec::new(); peers],
            off: vec![false; peers],
            loads: vec![Load::default(); peers],
            announcements: 0,
        }
    }

    /// A peer goes or comes. Its links stay: gossipsub grafts others within a second, which changes nothing at this scale.
    pub fn set_off(&mut self, peer: u32, off: bool) {
        self.off[at(peer)] = off;
    }

    /// Sends an announcement at this millisecond.
    pub fn send(&mut self, overlay: &Overlay, author: u32, now: u64) {
        self.start = u32::try_from(now % 1_000).unwrap_or(0);
        self.announcements += 1;
        self.arrived.fill(NEVER);
        self.asked.fill(false);
        self.early.iter_mut().for_each(Vec::clear);
        self.arrived[at(author)] = 0;
        if self.gossip.flood {
            for to in overlay.links(author) {
                self.copy(overlay, author, to, 0);
            }
        } else {
            for to in &overlay.mesh[at(author)] {
                self.copy(overlay, author, *to, 0);
            }
        }
        self.beat(overlay, author, 0);
        let mut time = 0;
        while self.waiting > 0 {
            let mut steps = std::mem::take(&mut self.ring[at(time) % RING]);
            self.waiting -= steps.len();
            for step in &steps {
                self.step(overlay, *step, time, author);
            }
            steps.clear();
            self.ring[at(time) % RING] = steps;
            time += 1;
        }
    }

    /// When a peer had the last announcement, in milliseconds after it was made. None: never.
    #[must_use]
    pub fn arrived(&self, peer: u32) -> Option<u32> {
        Some(self.arrived[at(peer)]).filter(|time| *time != NEVER)
    }

    fn step(&mut self, overlay: &Overlay, step: Step, time: u32, author: u32) {
        match step {
            Step::Copy { to, .. } if self.off[at(to)] => {}
            Step::Copy { from, to } => {
                self.loads[at(to)].copies_in += 1;
                if self.arrived[at(to)] == NEVER {
                    self.arrived[at(to)] = time;
                    self.plan(time + CHECK, Step::Forward { peer: to });
                }
                if time <= self.arrived[at(to)] + CHECK {
                    self.early[at(to)].push(from);
                }
            }
            Step::Forward { peer } => {
                for to in &overlay.mesh[at(peer)] {
                    if *to != author && !self.early[at(peer)].contains(to) {
                        self.copy(overlay, peer, *to, time);
                    }
                }
                self.beat(overlay, peer, time);
            }
            Step::Heartbeat { peer, left } => self.tell(overlay, peer, left, time),
            Step::Have { from, to } => {
                if self.arrived[at(to)] == NEVER && !self.asked[at(to)] {
                    self.asked[at(to)] = true;
                    self.loads[at(to)].wants_out += 1;
                    self.loads[at(from)].wants_in += 1;
                    self.plan(time + overlay.latency(from, to), Step::Want { from: to, to: from });
                }
            }
            Step::Want { from, to } => self.copy(overlay, to, from, time),
        }
    }

    /// Tells peers outside the mesh, and again in a second.
    fn tell(&mut self, overlay: &Overlay, peer: u32, left: u32, time: u32) {
        let outside = &overlay.outside[at(peer)];
        let listeners = self.gossip.listeners(outside.len());
        let mut chosen: Vec<u32> = Vec::with_capacity(listeners);
        while chosen.len() < listeners {
            let to = outside[self.rng.place(outside.len())];
            if chosen.contains(&to) {
                continue;
            }
            chosen.push(to);
            self.loads[at(peer)].ids_out += 1;
            if self.off[at(to)] {
                continue;
            }
            self.loads[at(to)].ids_in += 1;
            if self.arrived[at(to)] == NEVER {
                self.plan(time + overlay.latency(peer, to), Step::Have { from: peer, to });
            }
        }
        if left > 1 {
            self.plan(time + 1_000, Step::Heartbeat { peer, left: left - 1 });
        }
    }

    fn copy(&mut self, overlay: &Overlay, from: u32, to: u32, time: u32) {
        self.loads[at(from)].copies_out += 1;
        self.plan(time + overlay.latency(from, to), Step::Copy { from, to });
    }

    fn beat(&mut self, overlay: &Overlay, peer: u32, time: u32) {
        let wait = (overlay.phase[at(peer)] + 2_000 - (self.start + time) % 1_000) % 1_000;
        // Never in the millisecond that is being worked off.
        self.plan(time + wait.max(1), Step::Heartbeat { peer, left: self.gossip.history });
    }

    fn plan(&mut self, time: u32, step: Step) {
        self.ring[at(time) % RING].push(step);
        self.waiting += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_it_once_and_copies_balance() {
        let gossip = Gossip::default();
        let overlay = Overlay::new(500, 48, 100, &gossip, 3);
        let mut spread = Spread::new(500, gossip, 4);
        for author in 0..50 {
            spread.send(&overlay, author * 7, u64::from(author) * 333);
            assert!((0..500).all(|peer| spread.arrived(peer).is_some_and(|time| time < 1_500)));
            assert_eq!(spread.arrived(author * 7), Some(0));
        }
        let sum = |of: fn(&Load) -> u64| spread.loads.iter().map(of).sum::<u64>();
        assert_eq!(sum(|load| load.copies_in), sum(|load| load.copies_out));
        assert_eq!(sum(|load| load.ids_in), sum(|load| load.ids_out));
        assert_eq!(sum(|load| load.wants_in), sum(|load| load.wants_out));
        // Each passes it on to its mesh but to whom it came from, and says three times that it has it.
        let per_peer = sum(|load| load.copies_in) / 50 / 500;
        assert!((4..=9).contains(&per_peer), "{per_peer}");
        let listeners: usize = overlay.outside.iter().map(|outside| gossip.listeners(outside.len())).sum();
        assert_eq!(sum(|load| load.ids_out), 50 * 3 * listeners as u64);
    }

    #[test]
    fn without_a_way_it_does_not_arrive() {
        let gossip = Gossip::default();
        let overlay = Overlay::new(10, 48, 48, &gossip, 3);
        let mut spread = Spread::new(10, gossip, 4);
        spread.set_off(3, true);
        spread.send(&overlay, 0, 0);
        assert_eq!(spread.arrived(3), None);
        assert!((0..10).filter(|peer| *peer != 3).all(|peer| spread.arrived(peer).is_some()));
    }
}
