//! Who is online and what they vouch for, at one moment: what searches and downloads read.

use std::sync::Arc;

use libp2p::PeerId;
use roaring::RoaringBitmap;

use super::counts::Counts;

/// A snapshot. Making one copies no set.
#[derive(Debug, Default)]
pub struct Online {
    pub(super) counts: Counts,
    pub(super) peers: Vec<(PeerId, Arc<RoaringBitmap>)>,
}

impl Online {
    /// Peers that vouch for a ledger index.
    #[must_use]
    pub fn sources(&self, index: u64) -> u32 {
        u32::try_from(index).map_or(0, |index| self.counts.get(index))
    }

    /// Every ledger index that somebody vouches for, ascending.
    pub fn indexes(&self) -> impl Iterator<Item = u64> {
        self.counts.each().map(u64::from)
    }

    /// Distinct peers that vouch for at least one of these.
    #[must_use]
    pub fn distinct(&self, indexes: &mut dyn Iterator<Item = u64>) -> u32 {
        let wanted: RoaringBitmap = indexes.filter_map(|index| u32::try_from(index).ok()).collect();
        let having = self.peers.iter().filter(|(_, set)| !set.is_disjoint(&wanted)).count();
        u32::try_from(having).unwrap_or(u32::MAX)
    }

    /// Peers that vouch for at least one of these, in no order.
    pub fn providers(&self, indexes: &[u64]) -> impl Iterator<Item = PeerId> {
        let wanted: Vec<u32> = indexes.iter().filter_map(|index| u32::try_from(*index).ok()).collect();
        let has = move |set: &RoaringBitmap| wanted.iter().any(|index| set.contains(*index));
        self.peers.iter().filter(move |(_, set)| has(set)).map(|(peer, _)| *peer)
    }

    /// How many peers.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// The peers and how many songs each vouches for, in no order.
    pub fn libraries(&self) -> impl Iterator<Item = (PeerId, u64)> {
        self.peers.iter().map(|(peer, set)| (*peer, set.len()))
    }
}
