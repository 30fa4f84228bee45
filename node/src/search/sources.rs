//! Who is online with what.

use std::collections::{BTreeMap, BTreeSet};

/// What is online now, by ledger index. Answers may change from one call to the next, as peers come and go.
pub trait Sources: Send + Sync {
    /// Peers online now that vouch for the block at this ledger index (a song's own block or a variant's).
    fn count(&self, index: u64) -> u32;
    /// Calls `each` with every ledger index that somebody online vouches for, ascending, once.
    fn each(&self, each: &mut dyn FnMut(u64));
    /// Distinct peers online that vouch for at least one of these.
    fn distinct(&self, indexes: &mut dyn Iterator<Item = u64>) -> u32;
}

/// Nobody is online.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSources;

impl Sources for NoSources {
    fn count(&self, _: u64) -> u32 {
        0
    }

    fn each(&self, _: &mut dyn FnMut(u64)) {}

    fn distinct(&self, _: &mut dyn Iterator<Item = u64>) -> u32 {
        0
    }
}

/// Peers by number, in memory: for tests and measurements.
#[derive(Debug, Clone, Default)]
pub struct ListedSources {
    peers: BTreeMap<u64, BTreeSet<u32>>,
}

impl ListedSources {
    /// A peer vouches for a block.
    pub fn add(&mut self, index: u64, peer: u32) {
        self.peers.entry(index).or_default().insert(peer);
    }
}

impl Sources for ListedSources {
    fn count(&self, index: u64) -> u32 {
        self.peers.get(&index).map_or(0, |peers| u32::try_from(peers.len()).unwrap_or(u32::MAX))
    }

    fn each(&self, each: &mut dyn FnMut(u64)) {
        self.peers.keys().copied().for_each(each);
    }

    fn distinct(&self, indexes: &mut dyn Iterator<Item = u64>) -> u32 {
        let found: BTreeSet<u32> =
            indexes.filter_map(|index| self.peers.get(&index)).flatten().copied().collect();
        u32::try_from(found.len()).unwrap_or(u32::MAX)
    }
}
