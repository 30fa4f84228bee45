//! Who is connected with whom, and along which connections announcements are passed on.

use super::rng::{Rng, mix};

/// What of gossipsub decides about traffic; the defaults are those of libp2p-gossipsub 0.50.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gossip {
    /// Links of the mesh that a peer makes when it has too few.
    pub mesh: usize,
    /// Fewer links are too few.
    pub mesh_low: usize,
    /// So many links are too many.
    pub mesh_high: usize,
    /// Peers outside the mesh that hear every second what a peer has, at least.
    pub lazy: usize,
    /// The same as a part of them, in percent.
    pub lazy_percent: usize,
    /// Seconds in which a peer says so of one announcement.
    pub history: u32,
    /// Whether own announcements go to every connection.
    pub flood: bool,
}

impl Default for Gossip {
    fn default() -> Self {
        Self { mesh: 6, mesh_low: 5, mesh_high: 12, lazy: 6, lazy_percent: 25, history: 3, flood: true }
    }
}

impl Gossip {
    /// How many of so many peers outside the mesh hear what a peer has.
    #[must_use]
    pub fn listeners(&self, outside: usize) -> usize {
        self.lazy.max(outside * self.lazy_percent / 100).min(outside)
    }
}

/// One shard. Peer 0 is a mini-node, the last one is connected with it.
#[derive(Debug)]
pub struct Overlay {
    /// Links of each peer's mesh.
    pub mesh: Vec<Vec<u32>>,
    /// Its other connections.
    pub outside: Vec<Vec<u32>>,
    /// Millisecond of the second in which its heartbeat is.
    pub phase: Vec<u32>,
    seed: u64,
}

impl Overlay {
    /// Random connections, at most `connections` for each of `peers` and `of_mini_node` for the first, and a mesh in them by
    /// gossipsub's rules, peers joining one by one.
    #[must_use]
    pub fn new(peers: u32, connections: usize, of_mini_node: usize, gossip: &Gossip, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let links = connect(peers, connections, of_mini_node, &mut rng);
        let mesh =
            Meshing { links: &links, mesh: vec![Vec::new(); links.len()], gossip, rng: &mut rng }.build();
        let outside = links.iter().zip(&mesh);
        let outside = outside.map(|(links, mesh)| {
            links.iter().copied().filter(|other| !mesh.contains(other)).collect::<Vec<_>>()
        });
        let outside = outside.collect();
        let phase = (0..peers).map(|_| rng.below(1_000)).collect();
        Self { mesh, outside, phase, seed }
    }

    /// Number of peers.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.mesh.len()
    }

    /// Everybody who is connected with a peer.
    pub fn links(&self, peer: u32) -> impl Iterator<Item = u32> {
        of(&self.mesh, peer).iter().chain(of(&self.outside, peer)).copied()
    }

    /// Milliseconds along a connection, one way: 20 to 150.
    #[must_use]
    pub fn latency(&self, one: u32, two: u32) -> u32 {
        let pair = (u64::from(one.min(two)) << 32) | u64::from(one.max(two));
        20 + u32::try_from(mix(pair ^ mix(self.seed)) % 131).unwrap_or(0)
    }

    /// Mean number of links in the mesh.
    #[must_use]
    pub fn mesh_links(&self) -> f64 {
        let links: u32 = self.mesh.iter().map(|links| u32::try_from(links.len()).unwrap_or(0)).sum();
        f64::from(links) / f64::from(u32::try_from(self.peers()).unwrap_or(1).max(1))
    }
}

pub(crate) fn at(peer: u32) -> usize {
    usize::try_from(peer).unwrap_or(usize::MAX)
}

fn of(lists: &[Vec<u32>], peer: u32) -> &[u32] {
    lists.get(at(peer)).map_or(&[], Vec::as_slice)
}

fn connect(peers: u32, connections: usize, of_mini_node: usize, rng: &mut Rng) -> Vec<Vec<u32>> {
    /// Rounds in which ends that found nobody try again.
    const ROUNDS: usize = 20;
    let mut links: Vec<Vec<u32>> = vec![Vec::new(); at(peers)];
    let mut link = |one: u32, two: u32| {
        let new = one != two && !of(&links, one).contains(&two);
        if new {
            links[at(one)].push(two);
            links[at(two)].push(one);
        }
        new
    };
    let mut ends: Vec<u32> = Vec::new();
    for peer in 0..peers {
        let wanted = if peer == 0 { of_mini_node } else { connections };
        ends.extend(std::iter::repeat_n(peer, wanted.min(at(peers) - 1)));
    }
    if peers > 1 && link(0, peers - 1) {
        for peer in [0, peers - 1] {
            if let Some(end) = ends.iter().position(|end| *end == peer) {
                ends.swap_remove(end);
            }
        }
    }
    for _ in 0..ROUNDS {
        rng.shuffle(&mut ends);
        let mut left = Vec::new();
        for pair in ends.chunks(2) {
            if !matches!(pair, [one, two] if link(*one, *two)) {
                left.extend_from_slice(pair);
            }
        }
        ends = left;
    }
    links
}

/// Peers join in random order; whoever has too few or too many links then mends that.
struct Meshing<'a> {
    links: &'a [Vec<u32>],
    mesh: Vec<Vec<u32>>,
    gossip: &'a Gossip,
    rng: &'a mut Rng,
}

impl Meshing<'_> {
    fn build(mut self) -> Vec<Vec<u32>> {
        /// Heartbeats after the last join.
        const HEARTBEATS: usize = 10;
        let mut order: Vec<u32> = (0..u32::try_from(self.links.len()).unwrap_or(0)).collect();
        self.rng.shuffle(&mut order);
        let mut joined = vec![false; order.len()];
        for peer in &order {
            joined[at(*peer)] = true;
            let touched = self.fill(*peer, &joined);
            touched.into_iter().for_each(|other| self.mend(other, &joined));
        }
        for _ in 0..HEARTBEATS {
            order.iter().for_each(|peer| self.mend(*peer, &joined));
        }
        self.mesh
    }

    /// Grafts up to the wanted number; gives whom.
    fn fill(&mut self, peer: u32, joined: &[bool]) -> Vec<u32> {
        let free = |other: &u32| {
            let mesh = of(&self.mesh, *other);
            joined[at(*other)] && mesh.len() < self.gossip.mesh_high && !mesh.contains(&peer)
        };
        let mut free: Vec<u32> = of(self.links, peer).iter().copied().filter(free).collect();
        self.rng.shuffle(&mut free);
        free.truncate(self.gossip.mesh.saturating_sub(of(&self.mesh, peer).len()));
        for other in &free {
            self.mesh[at(peer)].push(*other);
            self.mesh[at(*other)].push(peer);
        }
        free
    }

    fn mend(&mut self, peer: u32, joined: &[bool]) {
        if of(&self.mesh, peer).len() >= self.gossip.mesh_high {
            let mut mesh = std::mem::take(&mut self.mesh[at(peer)]);
            self.rng.shuffle(&mut mesh);
            let pruned = mesh.split_off(self.gossip.mesh);
            self.mesh[at(peer)] = mesh;
            for other in &pruned {
                self.mesh[at(*other)].retain(|link| *link != peer);
            }
            for other in pruned {
                if of(&self.mesh, other).len() < self.gossip.mesh_low {
                    self.fill(other, joined);
                }
            }
        } else if of(&self.mesh, peer).len() < self.gossip.mesh_low {
            self.fill(peer, joined);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meshes_follow_the_rules() {
        let gossip = Gossip::default();
        for peers in [2, 5, 40, 1_000] {
            let overlay = Overlay::new(peers, 48, 100, &gossip, 1);
            assert!(overlay.links(0).any(|other| other == peers - 1));
            for peer in 0..peers {
                let (mesh, links) = (&overlay.mesh[at(peer)], overlay.links(peer).count());
                assert!(links <= if peer == 0 { 100 } else { 48 });
                assert!(
                    mesh.len() >= gossip.mesh_low.min(links) && mesh.len() <= gossip.mesh_high,
                    "{}",
                    mesh.len()
                );
                assert!(mesh.iter().all(|other| overlay.mesh[at(*other)].contains(&peer)));
                assert!((20..=150).contains(&overlay.latency(peer, 0)));
            }
        }
        assert_eq!(gossip.listeners(42), 10);
        assert_eq!(gossip.listeners(3), 3);
    }
}
