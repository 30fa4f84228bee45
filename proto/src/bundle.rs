//! Entry bundles: blocks with their lengths before them, as C2SP tlog-tiles has them, and the seals of batches.

use crate::{
    limits,
    wire::{BatchSeal, Bundle},
};

/// A bundle that breaks a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// A block's bytes end too early, or there are none.
    #[error("block {0} of the bundle is cut off or empty")]
    Block(usize),
    /// More blocks than were asked for, or none.
    #[error("a bundle of {0} blocks")]
    Count(usize),
    /// A seal of a batch that does not end here, or out of order, or too long.
    #[error("seal {0} of the bundle is out of place or too long")]
    Seal(usize),
}

impl Bundle {
    /// Cuts the entries into blocks: at most 256.
    ///
    /// # Errors
    /// [`BundleError::Block`] and [`BundleError::Count`].
    pub fn blocks(&self) -> Result<Vec<&[u8]>, BundleError> {
        let mut blocks = Vec::new();
        let mut rest = &self.entries[..];
        while !rest.is_empty() {
            let number = blocks.len();
            if number >= limits::TILE_WIDTH as usize {
                return Err(BundleError::Count(number + 1));
            }
            let (length, after) = rest.split_first_chunk::<2>().ok_or(BundleError::Block(number))?;
            let length = usize::from(u16::from_be_bytes(*length));
            let block = after.get(..length).filter(|block| !block.is_empty());
            blocks.push(block.ok_or(BundleError::Block(number))?);
            rest = &after[length..];
        }
        Ok(blocks)
    }

    /// Adds a block at the end; false when it is empty or longer than a block may be.
    #[must_use]
    pub fn push_block(&mut self, block: &[u8]) -> bool {
        let Some(length) = u16::try_from(block.len()).ok().filter(|length| *length > 0) else { return false };
        self.entries.extend_from_slice(&length.to_be_bytes());
        self.entries.extend_from_slice(block);
        true
    }

    /// Checks the form of a bundle whose first block has the index `first` and that may hold at most `most` blocks;
    /// gives their number. Neither blocks nor seals are verified.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn check(&self, first: u64, most: u32) -> Result<u32, BundleError> {
        let blocks = self.blocks()?.len();
        let count = u32::try_from(blocks).ok().filter(|count| (1..=most).contains(count));
        let count = count.ok_or(BundleError::Count(blocks))?;
        let last = first.checked_add(u64::from(count)).ok_or(BundleError::Count(blocks))?;
        let mut before = first;
        for (number, BatchSeal { end, seal }) in self.seals.iter().enumerate() {
            let placed = *end > before && *end <= last;
            if !placed || seal.is_empty() || seal.len() > limits::SEAL_BYTES {
                return Err(BundleError::Seal(number));
            }
            before = *end;
        }
        Ok(count)
    }

    /// The part of a bundle that begins with block `skip` and fits a message; None when there is nothing after `skip`.
    /// `first` is the index of this bundle's first block.
    ///
    /// # Errors
    /// [`BundleError`], when the bundle itself breaks a rule.
    pub fn part(&self, first: u64, skip: u32) -> Result<Option<Self>, BundleError> {
        let mut part = Self::default();
        let (mut bytes, mut seals) = (0, self.seals.iter().peekable());
        for (number, block) in self.blocks()?.into_iter().enumerate() {
            let after = first.saturating_add(number as u64 + 1);
            let seal = seals.next_if(|seal| seal.end == after);
            if number < skip as usize {
                continue;
            }
            bytes += block.len() + seal.map_or(0, |seal| seal.seal.len());
            if bytes > limits::BUNDLE_BYTES && !part.entries.is_empty() {
                break;
            }
            let _ = part.push_block(block);
            part.seals.extend(seal.cloned());
        }
        Ok((!part.entries.is_empty()).then_some(part))
    }

    /// Adds a part that follows.
    pub fn append(&mut self, part: Self) {
        self.entries.extend_from_slice(&part.entries);
        self.seals.extend(part.seals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bundle(blocks: &[Vec<u8>], first: u64, ends: &[u64]) -> Bundle {
        let mut bundle = Bundle::default();
        assert!(blocks.iter().all(|block| bundle.push_block(block)));
        bundle.seals = ends.iter().map(|end| BatchSeal { end: first + end, seal: vec![1; 300] }).collect();
        bundle
    }

    #[test]
    fn the_form_is_checked() {
        let good = bundle(&[vec![1], vec![2; 300], vec![3]], 512, &[1, 3]);
        assert_eq!(good.check(512, 256), Ok(3));
        assert_eq!(good.blocks().unwrap(), [&[1][..], &[2; 300], &[3]]);
        assert_eq!(good.check(512, 2), Err(BundleError::Count(3)));
        assert_eq!(good.check(513, 3), Err(BundleError::Seal(0)));
        assert_eq!(good.check(u64::MAX - 1, 3), Err(BundleError::Count(3)));
        assert_eq!(Bundle::default().check(0, 256), Err(BundleError::Count(0)));
        let seal = |ends: &[u64]| bundle(&[vec![1], vec![2]], 0, ends).check(0, 256);
        assert_eq!(seal(&[1, 2]), Ok(2));
        assert_eq!(seal(&[2, 1]), Err(BundleError::Seal(1)));
        assert_eq!(seal(&[1, 1]), Err(BundleError::Seal(1)));
        assert_eq!(seal(&[3]), Err(BundleError::Seal(0)));
        let long = BatchSeal { end: 1, seal: vec![0; limits::SEAL_BYTES + 1] };
        assert_eq!(Bundle { seals: vec![long], ..good.clone() }.check(0, 256), Err(BundleError::Seal(0)));
        for cut in [&b"\0"[..], b"\0\x02a", b"\0\0"] {
            let cut = Bundle { entries: cut.to_vec(), seals: vec![] };
            assert_eq!(cut.blocks(), Err(BundleError::Block(0)));
        }
        let many = Bundle { entries: b"\0\x01a".repeat(257), seals: vec![] };
        assert_eq!(many.blocks(), Err(BundleError::Count(257)));
        let mut full = Bundle::default();
        assert!(!full.push_block(&[]) && !full.push_block(&[0; 65_536]) && full.push_block(&[0; 65_535]));
    }

    #[test]
    fn the_longest_part_fits_its_message() {
        let mut longest = bundle(&vec![vec![7; 7_000]; 256], 0, &(1..=256).collect::<Vec<_>>());
        longest.seals.iter_mut().for_each(|seal| seal.seal = vec![1; 1_000]);
        let part = longest.part(0, 0).unwrap().unwrap();
        assert_eq!(part.check(0, 256), Ok(256));
        let long = bundle(&vec![vec![7; limits::BLOCK_BYTES]; 256], 0, &[]);
        let part = long.part(0, 100).unwrap().unwrap();
        assert_eq!(part.check(0, 256), Ok(32));
        for part in [part, longest] {
            assert!(prost::Message::encoded_len(&part) + 100 <= limits::BUNDLE_MESSAGE_BYTES);
        }
    }

    proptest! {
        #[test]
        fn parts_make_the_whole(
            lengths in prop::collection::vec(prop_oneof![1usize..50, 30_000usize..65_536], 1..120),
            ends in prop::collection::btree_set(1u64..120, 0..20),
            index in 0u64..1_000,
        ) {
            let first = index * 256;
            let ends: Vec<u64> = ends.into_iter().filter(|end| *end <= lengths.len() as u64).collect();
            let blocks: Vec<_> = lengths.iter().map(|length| vec![3; *length]).collect();
            let whole = bundle(&blocks, first, &ends);
            let mut found = Bundle::default();
            let mut skip = 0;
            while let Some(part) = whole.part(first, skip).unwrap() {
                prop_assert!(prost::Message::encoded_len(&part) <= limits::BUNDLE_MESSAGE_BYTES);
                skip += part.check(first + u64::from(skip), 256 - skip).unwrap();
                found.append(part);
            }
            prop_assert_eq!(found, whole);
        }

        #[test]
        fn no_bytes_break_the_reader(entries in prop::collection::vec(any::<u8>(), 0..200), end in any::<u64>()) {
            let bundle = Bundle { entries, seals: vec![BatchSeal { end, seal: vec![1] }] };
            let _ = bundle.check(0, 256);
            let _ = bundle.part(0, 3);
        }
    }
}
