//! From bundles of 256 blocks back to the batches that were sealed. Pure.
//!
//! All blocks of a batch carry the same height and neighbours another, so the blocks themselves, which the checkpoint's
//! root vouches for, tell where a seal must be. A seal in another place, or one that is missing, is the fault of whoever
//! sent the bundle in which it should have been.

use antiphon_ledger::{SealedBatch, log::proof::Hash, log::tile::fold, tree::leaf_hash};
use antiphon_proto::{
    canonical, limits,
    wire::{Block, Bundle},
};

/// A batch, and who sent the bundle with its seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut<P> {
    /// The batch.
    pub batch: SealedBatch,
    /// Who sent the seal.
    pub sender: P,
}

/// Bundles that make no batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CutError<P> {
    /// A seal is missing, and who should have sent it.
    Seal(P),
    /// What the root vouches for are no blocks of a ledger.
    NotALedger,
}

/// Height of a block; none for bytes that are no block.
fn height(block: &[u8]) -> Option<u64> {
    canonical::decode_lenient::<Block>("block", limits::BLOCK_BYTES, block).ok().map(|block| block.height)
}

/// Whether a bundle is what the log holds: its blocks lead to `expected` (the one hash that stands for a full bundle, or
/// the leaf hashes of the last one), and within it there is a seal wherever a batch ends and nowhere else.
#[must_use]
pub fn is_of_log(first: u64, bundle: &Bundle, expected: &Expected) -> bool {
    let Ok(blocks) = bundle.blocks() else { return false };
    let leaves: Vec<Hash> = blocks.iter().map(|block| leaf_hash(block)).collect();
    let same = match expected {
        Expected::Full(hash) => leaves.len() == limits::TILE_WIDTH as usize && fold(&leaves) == *hash,
        Expected::Leaves(hashes) => leaves == *hashes,
    };
    if !same {
        return false;
    }
    let heights: Vec<Option<u64>> = blocks.iter().map(|block| height(block)).collect();
    let mut seals = bundle.seals.iter().map(|seal| seal.end).peekable();
    heights.windows(2).zip(first.saturating_add(1)..).all(|(pair, end)| {
        let sealed = seals.next_if_eq(&end).is_some();
        sealed == (pair[0] != pair[1])
    })
}

/// What the tree says of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// The hash over its 256 blocks.
    Full(Hash),
    /// The hash of each of its blocks, when they are fewer.
    Leaves(Vec<Hash>),
}

/// Cuts bundles, which come in order, into batches.
#[derive(Debug)]
pub struct Cutter<P> {
    /// First block of the batch that is being gathered.
    first: u64,
    blocks: Vec<Vec<u8>>,
    bytes: usize,
    height: Option<u64>,
    /// Who sent the last of them.
    last: Option<P>,
}

impl<P: Copy> Cutter<P> {
    /// Begins where a ledger of `size` blocks ends.
    #[must_use]
    pub const fn new(size: u64) -> Self {
        Self { first: size, blocks: Vec::new(), bytes: 0, height: None, last: None }
    }

    /// First block that is not here yet.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.first.saturating_add(self.blocks.len() as u64)
    }

    /// Takes in the bundle whose first block is `first`; gives the batches that it ends. What is here already is
    /// passed over.
    ///
    /// # Errors
    /// [`CutError`].
    pub fn push(&mut self, first: u64, bundle: &Bundle, sender: P) -> Result<Vec<Cut<P>>, CutError<P>> {
        let blocks = bundle.blocks().map_err(|_| CutError::NotALedger)?;
        let mut seals = bundle.seals.iter().peekable();
        let mut cuts = Vec::new();
        for (block, index) in blocks.into_iter().zip(first..) {
            let end = index.saturating_add(1);
            let seal = seals.next_if(|seal| seal.end == end);
            if index != self.position() {
                continue;
            }
            let height = height(block).ok_or(CutError::NotALedger)?;
            if let (Some(last), true) = (self.last, self.height.is_some_and(|before| before != height)) {
                return Err(CutError::Seal(last));
            }
            self.take(block, height, sender)?;
            if let Some(seal) = seal {
                let batch = SealedBatch {
                    first: self.first,
                    blocks: std::mem::take(&mut self.blocks),
                    seal: seal.seal.clone(),
                };
                *self = Self::new(end);
                cuts.push(Cut { batch, sender });
            }
        }
        Ok(cuts)
    }

    /// Memory is bounded by what a batch may hold.
    fn take(&mut self, block: &[u8], height: u64, sender: P) -> Result<(), CutError<P>> {
        self.bytes = self.bytes.saturating_add(block.len());
        if self.blocks.len() >= limits::BATCH_BLOCKS || self.bytes > limits::BATCH_BYTES {
            return Err(CutError::NotALedger);
        }
        self.blocks.push(block.to_vec());
        (self.height, self.last) = (Some(height), Some(sender));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use antiphon_proto::wire::BatchSeal;
    use proptest::prelude::*;

    use super::*;

    fn block(index: u64, height: u64) -> Vec<u8> {
        canonical::encode(&Block { version: 1, index, height, ..Block::default() })
    }

    /// The bundles of a log whose batches have these lengths.
    fn bundles(batches: &[usize]) -> (Vec<Bundle>, Vec<Vec<u8>>) {
        let (mut blocks, mut seals) = (Vec::new(), Vec::new());
        for (height, length) in (1u64..).zip(batches) {
            for _ in 0..*length {
                blocks.push(block(blocks.len() as u64, height));
            }
            seals.push(BatchSeal { end: blocks.len() as u64, seal: height.to_be_bytes().to_vec() });
        }
        let made = blocks.chunks(256).enumerate().map(|(number, chunk)| {
            let first = number as u64 * 256;
            let mut bundle = Bundle::default();
            assert!(chunk.iter().all(|block| bundle.push_block(block)));
            let inside = first + 1..=first + chunk.len() as u64;
            bundle.seals = seals.iter().filter(|seal| inside.contains(&seal.end)).cloned().collect();
            bundle
        });
        (made.collect(), blocks)
    }

    fn expected(bundle: &Bundle) -> Expected {
        let leaves: Vec<Hash> = bundle.blocks().unwrap().iter().map(|block| leaf_hash(block)).collect();
        if leaves.len() == 256 { Expected::Full(fold(&leaves)) } else { Expected::Leaves(leaves) }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn batches_come_out_as_they_went_in(
            lengths in prop::collection::vec(1usize..340, 1..12),
            skip in any::<prop::sample::Index>(),
        ) {
            let (bundles, blocks) = bundles(&lengths);
            let known = skip.index(lengths.len());
            let start: usize = lengths[..known].iter().sum();
            let mut cutter = Cutter::new(start as u64);
            let mut at = start;
            let mut left = lengths[known..].iter();
            for (number, bundle) in bundles.iter().enumerate().skip(start / 256) {
                let first = number as u64 * 256;
                prop_assert!(is_of_log(first, bundle, &expected(bundle)));
                for cut in cutter.push(first, bundle, number).unwrap() {
                    let length = *left.next().unwrap();
                    prop_assert_eq!(cut.batch.first, at as u64);
                    prop_assert_eq!(&cut.batch.blocks[..], &blocks[at..at + length]);
                    at += length;
                    prop_assert_eq!(cut.sender, (at - 1) / 256);
                }
            }
            prop_assert!(left.next().is_none());
            prop_assert_eq!(cutter.position(), blocks.len() as u64);
        }

        #[test]
        fn one_changed_byte_or_seal_is_noticed(
            lengths in prop::collection::vec(1usize..100, 2..8),
            at in any::<prop::sample::Index>(),
        ) {
            let (bundles, _) = bundles(&lengths);
            let number = at.index(bundles.len());
            let (first, good) = (number as u64 * 256, &bundles[number]);
            let expected = expected(good);
            let mut bad = good.clone();
            let byte = at.index(bad.entries.len());
            bad.entries[byte] ^= 1;
            prop_assert!(!is_of_log(first, &bad, &expected));
            let mut bad = good.clone();
            let end = first + good.blocks().unwrap().len() as u64;
            bad.seals.retain(|seal| seal.end == end);
            prop_assert_eq!(is_of_log(first, &bad, &expected), bad.seals.len() == good.seals.len());
        }
    }

    #[test]
    fn a_missing_seal_at_the_end_of_a_bundle_is_its_senders_fault() {
        let (mut bundles, _) = bundles(&[256, 10]);
        bundles[0].seals.clear();
        let mut cutter = Cutter::new(0);
        assert_eq!(cutter.push(0, &bundles[0], "one"), Ok(Vec::new()));
        assert_eq!(cutter.push(256, &bundles[1], "two"), Err(CutError::Seal("one")));
    }

    #[test]
    fn what_no_ledger_holds() {
        let (bundles, _) = bundles(&[400]);
        let mut cutter = Cutter::new(0);
        cutter.push(0, &bundles[0], ()).unwrap();
        assert_eq!(cutter.push(256, &bundles[1], ()), Err(CutError::NotALedger));
        let mut bundle = Bundle::default();
        assert!(bundle.push_block(b"\xff"));
        assert_eq!(Cutter::new(0).push(0, &bundle, ()), Err(CutError::NotALedger));
    }
}
