//! The packed values of the index, pure: locations of 256 blocks, and sorted buckets of keys.
//!
//! sled's memory goes by the number of its entries, so there are few and larger ones.

use bincode::{Decode, Encode};

use super::segments::Place;
use crate::codec::Stored;

/// Blocks whose locations share a value.
pub(crate) const CHUNK: u64 = 256;
/// Entries of a bucket before it is split.
pub(crate) const BUCKET: usize = 32;
/// Ledger indexes are below this, so that five bytes hold them: a million million blocks.
pub(crate) const INDEX_LIMIT: u64 = 1 << 40;
/// Bytes of a bucket's entry: eight of the key, five of the index, big-endian.
const ENTRY_BYTES: usize = 13;

/// Where a block is, and whether it begins a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) place: Place,
    pub(crate) starts_batch: bool,
}

/// Locations of up to [`CHUNK`] consecutive blocks: the step from each to the next, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Locations {
    /// (position in the chunk, segment, offset): at the first block, and wherever a segment begins.
    runs: Vec<(u8, u32, u32)>,
    /// One for each block but the last; the one before a run means nothing and is 0.
    steps: Vec<u32>,
    /// A bit for each block that begins a batch, lowest first.
    starts: [u8; 32],
}

impl Stored for Locations {
    const VERSION: u8 = 1;
    const NAME: &'static str = "locations";
}

impl Locations {
    /// Packs the locations of consecutive blocks, at most [`CHUNK`].
    pub(crate) fn pack(locations: &[Location]) -> Self {
        let mut out = Self { runs: Vec::new(), steps: Vec::new(), starts: [0; 32] };
        let mut before: Option<Place> = None;
        for (location, position) in locations.iter().zip(0u8..=255) {
            let place = location.place;
            if location.starts_batch {
                out.starts[usize::from(position / 8)] |= 1 << (position % 8);
            }
            let step = before
                .filter(|before| before.segment == place.segment)
                .and_then(|before| place.offset.checked_sub(before.offset));
            if before.is_some() {
                out.steps.push(step.unwrap_or(0));
            }
            if step.is_none() {
                out.runs.push((position, place.segment, place.offset));
            }
            before = Some(place);
        }
        out
    }

    /// The locations again; `None` when they contradict themselves.
    pub(crate) fn unpack(&self) -> Option<Vec<Location>> {
        if self.runs.is_empty() || self.steps.len() >= usize::try_from(CHUNK).ok()? {
            return None;
        }
        let mut out: Vec<Location> = Vec::with_capacity(self.steps.len() + 1);
        let mut runs = self.runs.iter().peekable();
        for position in 0..=self.steps.len() {
            let starts_batch = self.starts[position / 8] & (1 << (position % 8)) != 0;
            let place = match runs.next_if(|run| usize::from(run.0) == position) {
                Some((_, segment, offset)) => Place { segment: *segment, offset: *offset },
                None => {
                    let before = out.last()?.place;
                    let offset = before.offset.checked_add(self.steps[position - 1])?;
                    Place { segment: before.segment, offset }
                }
            };
            out.push(Location { place, starts_batch });
        }
        runs.next().is_none().then_some(out)
    }
}

/// A key (the first 8 bytes of a hash, or a song's index) and the ledger index that it leads to.
pub(crate) type KeyEntry = (u64, u64);

/// At most [`BUCKET`] entries, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Bucket {
    packed: Vec<u8>,
}

impl Stored for Bucket {
    const VERSION: u8 = 1;
    const NAME: &'static str = "bucket";
}

impl Bucket {
    pub(crate) fn pack(entries: &[KeyEntry]) -> Self {
        Self { packed: entries.iter().flat_map(|entry| entry_bytes(*entry)).collect() }
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = KeyEntry> {
        self.packed.as_chunks::<ENTRY_BYTES>().0.iter().map(|bytes| {
            let (mut key, mut index) = ([0; 8], [0; 8]);
            key.copy_from_slice(&bytes[..8]);
            index[3..].copy_from_slice(&bytes[8..]);
            (u64::from_be_bytes(key), u64::from_be_bytes(index))
        })
    }
}

/// An entry's 13 bytes, in the order of entries; also the key of the bucket that begins with it.
pub(crate) fn entry_bytes((key, index): KeyEntry) -> [u8; ENTRY_BYTES] {
    let mut out = [0; ENTRY_BYTES];
    out[..8].copy_from_slice(&key.to_be_bytes());
    out[8..].copy_from_slice(&index.to_be_bytes()[3..]);
    out
}

/// Merges new entries into those of a bucket and cuts the result into buckets of at most [`BUCKET`].
/// Both are ascending and the result is too; what is in both is kept once.
pub(crate) fn merge(old: &[KeyEntry], new: &[KeyEntry]) -> Vec<Vec<KeyEntry>> {
    let mut all: Vec<KeyEntry> = old.iter().chain(new).copied().collect();
    all.sort_unstable();
    all.dedup();
    let parts = all.len().div_ceil(BUCKET).max(1);
    // Even parts: splitting 33 into 32 and 1 would leave half-empty buckets behind every insertion in order.
    all.chunks(all.len().div_ceil(parts).max(1)).map(<[_]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use proptest::prelude::*;

    fn location(segment: u32, offset: u32, starts_batch: bool) -> Location {
        Location { place: Place { segment, offset }, starts_batch }
    }

    #[test]
    fn golden_locations() {
        let locations = [location(0, 64, true), location(0, 3000, false), location(1, 64, true)];
        let bytes = codec::encode(&Locations::pack(&locations)).unwrap();
        let mut golden = vec![1, 2, 0, 0, 64, 2, 1, 64, 2, 251, 0x78, 0x0b, 0, 0b101];
        golden.resize(golden.len() + 31, 0);
        assert_eq!(bytes, golden);
    }

    #[test]
    fn golden_bucket() {
        let bucket = Bucket::pack(&[(1, 2), (0x0102_0304_0506_0708, 0x0a_0b0c_0d0e)]);
        let bytes = codec::encode(&bucket).unwrap();
        assert_eq!(
            bytes,
            [
                1, 26, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 0x0a, 0x0b, 0x0c, 0x0d,
                0x0e
            ]
        );
    }

    #[test]
    fn contradictory_locations_are_refused() {
        let none = Locations { runs: vec![], steps: vec![], starts: [0; 32] };
        assert_eq!(none.unpack(), None);
        let overflow = Locations { runs: vec![(0, 0, u32::MAX)], steps: vec![1], starts: [0; 32] };
        assert_eq!(overflow.unpack(), None);
        let long = Locations { runs: vec![(0, 0, 64)], steps: vec![1; 256], starts: [0; 32] };
        assert_eq!(long.unpack(), None);
        let stray = Locations { runs: vec![(0, 0, 64), (9, 1, 64)], steps: vec![1], starts: [0; 32] };
        assert_eq!(stray.unpack(), None);
    }

    proptest! {
        #[test]
        fn locations_round_trip(steps in proptest::collection::vec((1u32..5000, any::<bool>(), 0u8..20), 1..=256)) {
            let mut place = Place { segment: 3, offset: 64 };
            let locations: Vec<Location> = steps.iter().map(|(step, starts_batch, roll)| {
                let here = place;
                place = if *roll == 0 { Place { segment: place.segment + 1, offset: 64 } }
                    else { Place { offset: place.offset + step, ..place } };
                Location { place: here, starts_batch: *starts_batch }
            }).collect();
            let bytes = codec::encode(&Locations::pack(&locations)).unwrap();
            prop_assert_eq!(codec::decode::<Locations>(&bytes).unwrap().unpack(), Some(locations));
        }

        #[test]
        fn merging_is_a_sorted_union(old in proptest::collection::btree_set((any::<u64>(), 0..INDEX_LIMIT), 0..40),
                                     new in proptest::collection::btree_set((any::<u64>(), 0..INDEX_LIMIT), 0..200)) {
            let (old, new): (Vec<_>, Vec<_>) = (old.into_iter().collect(), new.into_iter().collect());
            let parts = merge(&old, &new);
            prop_assert!(parts.iter().all(|part| part.len() <= BUCKET));
            let mut all: Vec<KeyEntry> = old.iter().chain(&new).copied().collect();
            all.sort_unstable();
            all.dedup();
            let flat: Vec<KeyEntry> = parts.iter().flatten().copied().collect();
            prop_assert_eq!(&flat, &all);
            let again: Vec<KeyEntry> = parts.iter().flat_map(|part| Bucket::pack(part).entries().collect::<Vec<_>>()).collect();
            prop_assert_eq!(again, all);
        }
    }
}
