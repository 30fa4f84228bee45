//! What can be seen of a world.

use antiphon_p2p::presence::Presence;

use super::{Kind, World, at};

impl World {
    /// Milliseconds since the world began.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Peers with a core.
    #[must_use]
    pub fn cores(&self) -> &[u32] {
        &self.cores
    }

    /// A peer's core.
    #[must_use]
    pub fn core(&mut self, peer: u32) -> Option<&mut Presence> {
        match &mut self.peers[at(peer)].kind {
            Kind::Core(core) => Some(core),
            Kind::Model(_) | Kind::Off => None,
        }
    }

    /// Whether a peer is in the table of a core.
    #[must_use]
    pub fn knows(&self, core: u32, other: u32) -> bool {
        let id = self.peers[at(other)].id;
        matches!(&self.peers[at(core)].kind, Kind::Core(core) if core.is_known(&id))
    }

    /// Peers that a core has heard of since it came.
    #[must_use]
    pub fn heard_of(&self, core: u32) -> usize {
        self.peers[at(core)].heard_of
    }

    /// Announcements that a core has made.
    #[must_use]
    pub fn published(&self, core: u32) -> u64 {
        self.peers[at(core)].published
    }

    /// Peers that are on.
    #[must_use]
    pub fn online(&self) -> usize {
        self.online
    }

    /// Songs that a core shows of another peer. None: it does not show it.
    #[must_use]
    pub fn songs_of(&mut self, core: u32, other: u32) -> Option<u64> {
        let id = self.peers[at(other)].id;
        let online = self.core(core)?.online();
        online.libraries().find(|of| of.0 == id).map(|of| of.1)
    }

    /// When a core learned a library last.
    #[must_use]
    pub fn learned_at(&self, core: u32, of: u32) -> Option<u64> {
        self.learned_at.get(&(core, of)).copied()
    }

    /// Cores that are connected with a peer.
    #[must_use]
    pub fn neighbours(&self, peer: u32) -> Vec<u32> {
        self.overlay.links(peer).filter(|other| self.cores.contains(other)).collect()
    }

    /// Lets time pass in slices, at most for `most`, until something is so for each of these cores; gives how long that took
    /// each, ascending. All in milliseconds.
    pub fn until(
        &mut self,
        cores: &[u32],
        slice: u64,
        most: u64,
        is: impl Fn(&mut Self, u32) -> bool,
    ) -> Vec<u64> {
        let (start, mut left, mut times) = (self.now, cores.to_vec(), Vec::new());
        while !left.is_empty() && self.now - start < most {
            self.run(self.now + slice);
            let took = self.now - start;
            left.retain(|core| {
                let there = is(self, *core);
                times.extend(there.then_some(took));
                !there
            });
        }
        times
    }
}
