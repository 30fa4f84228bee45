//! How many peers vouch for each ledger index.

use std::{collections::BTreeMap, sync::Arc};

use roaring::RoaringBitmap;

/// Indexes in a chunk: 128 KiB of counters, so that a ledger of a million songs takes 2 MB.
const CHUNK: usize = 1 << 16;

/// A counter for each index, saturating. Chunks without a count are not there; reading a clone costs nothing until a chunk
/// changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    chunks: BTreeMap<u16, Chunk>,
}

#[derive(Debug, Clone)]
struct Chunk {
    counters: Arc<Vec<u16>>,
    /// Sum of all counters: at none, the chunk goes.
    total: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, set: &RoaringBitmap) {
        set.iter().for_each(|index| self.increment(index));
    }

    pub(crate) fn remove(&mut self, set: &RoaringBitmap) {
        set.iter().for_each(|index| self.decrement(index));
    }

    pub(crate) fn increment(&mut self, index: u32) {
        let (high, low) = split(index);
        let empty = || Chunk { counters: Arc::new(vec![0; CHUNK]), total: 0 };
        let chunk = self.chunks.entry(high).or_insert_with(empty);
        if let Some(counter) = Arc::make_mut(&mut chunk.counters).get_mut(low)
            && *counter < u16::MAX
        {
            *counter += 1;
            chunk.total += 1;
        }
    }

    pub(crate) fn decrement(&mut self, index: u32) {
        let (high, low) = split(index);
        let Some(chunk) = self.chunks.get_mut(&high) else { return };
        if let Some(counter) = Arc::make_mut(&mut chunk.counters).get_mut(low)
            && *counter > 0
        {
            *counter -= 1;
            chunk.total -= 1;
        }
        if chunk.total == 0 {
            self.chunks.remove(&high);
        }
    }

    pub(crate) fn get(&self, index: u32) -> u32 {
        let (high, low) = split(index);
        let count = self.chunks.get(&high).and_then(|chunk| chunk.counters.get(low));
        u32::from(count.copied().unwrap_or(0))
    }

    /// Every index that has a count, ascending.
    pub(crate) fn each(&self) -> impl Iterator<Item = u32> {
        self.chunks.iter().flat_map(|(high, chunk)| {
            let counted = chunk.counters.iter().zip(0u32..).filter(|(counter, _)| **counter > 0);
            counted.map(move |(_, low)| (u32::from(*high) << 16) | low)
        })
    }

    /// Bytes of all chunks.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK * 2
    }
}

fn split(index: u32) -> (u16, usize) {
    let [a, b, c, d] = index.to_be_bytes();
    (u16::from_be_bytes([a, b]), usize::from(u16::from_be_bytes([c, d])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_plain_counting(
            sets in prop::collection::vec(prop::collection::btree_set(0u32..300_000, 0..50), 0..8),
            gone in any::<prop::sample::Index>(),
        ) {
            let sets: Vec<RoaringBitmap> = sets.into_iter().map(|set| set.into_iter().collect()).collect();
            let mut counts = Counts::default();
            sets.iter().for_each(|set| counts.add(set));
            let gone = if sets.is_empty() { 0 } else { gone.index(sets.len()) };
            sets.iter().take(gone).for_each(|set| counts.remove(set));
            let rest = &sets[gone..];
            let union = rest.iter().fold(RoaringBitmap::new(), |all, set| all | set);
            prop_assert_eq!(counts.each().collect::<RoaringBitmap>(), union.clone());
            for index in &union {
                prop_assert_eq!(counts.get(index) as usize, rest.iter().filter(|set| set.contains(index)).count());
            }
            rest.iter().for_each(|set| counts.remove(set));
            prop_assert_eq!(counts.bytes(), 0);
        }
    }
}
