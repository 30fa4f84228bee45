//! Inclusion and consistency proofs of an RFC 6962 tree: checked (RFC 9162, 2.1.3.2 and 2.1.4.2) and made.
//!
//! Pure: what a proof is made from comes through [`Subtrees`], which knows the hashes of perfect subtrees.

use antiphon_proto::RootHash;
use sha2::{Digest as _, Sha256};

use crate::tree::node_hash;

/// Hash of a leaf or node.
pub type Hash = [u8; 32];

/// Hashes in the longest proof: a tree of 2^64 leaves has 64 levels, and a consistency proof has one more.
pub const PROOF_HASHES: usize = 65;

/// A proof that proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// There is no such leaf in the tree, or no such tree in the newer one.
    #[error("{index} is not below {size}")]
    Range {
        /// Index or older size.
        index: u64,
        /// Size of the tree.
        size: u64,
    },
    /// A proof between these has another number of hashes.
    #[error("the proof has {0} hashes, which is not the number that it must have")]
    Length(usize),
    /// The hashes lead to another root.
    #[error("the proof does not lead to the root")]
    Root,
}

/// Holds an inclusion proof against a root: the leaf with this hash is at `index` in the tree of `size` leaves.
///
/// # Errors
/// [`ProofError`] says why it does not hold.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &RootHash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Range { index, size });
    }
    let wrong_length = ProofError::Length(proof.len());
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return Err(wrong_length);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last != 0 {
        return Err(wrong_length);
    }
    if hash == root.0 { Ok(()) } else { Err(ProofError::Root) }
}

/// Holds a consistency proof against two roots: the tree of `new` leaves begins with that of `old` leaves. Between
/// equal sizes, and from the empty tree, the proof is empty.
///
/// # Errors
/// [`ProofError`] says why it does not hold.
pub fn verify_consistency(
    old: u64,
    old_root: &RootHash,
    new: u64,
    new_root: &RootHash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if old > new {
        return Err(ProofError::Range { index: old, size: new });
    }
    let wrong_length = ProofError::Length(proof.len());
    if old == 0 || old == new {
        let empty: RootHash = RootHash(Sha256::digest([]).into());
        let same = if old == 0 {
            *old_root == empty && (new > 0 || *new_root == empty)
        } else {
            old_root == new_root
        };
        return match (proof.is_empty(), same) {
            (false, _) => Err(wrong_length),
            (true, false) => Err(ProofError::Root),
            (true, true) => Ok(()),
        };
    }
    // When the old tree is perfect, its root is the first node and is left out of the proof.
    let perfect = old.is_power_of_two().then_some(&old_root.0);
    let mut hashes = perfect.into_iter().chain(proof);
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        (node, last) = (node >> 1, last >> 1);
    }
    let first = hashes.next().ok_or(wrong_length)?;
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in hashes {
        if last == 0 {
            return Err(wrong_length);
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last != 0 {
        return Err(wrong_length);
    }
    if (old_hash, new_hash) == (old_root.0, new_root.0) { Ok(()) } else { Err(ProofError::Root) }
}

/// Knows the hashes of perfect subtrees.
pub trait Subtrees {
    /// Why a hash cannot be told.
    type Error;

    /// Hash over the leaves from `index << level` on, `1 << level` of them.
    ///
    /// # Errors
    /// When it cannot be told.
    fn subtree(&mut self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// Tree head over the first `size` leaves.
///
/// # Errors
/// Those of `tree`.
pub fn root<T: Subtrees>(tree: &mut T, size: u64) -> Result<RootHash, T::Error> {
    if size == 0 {
        return Ok(RootHash(Sha256::digest([]).into()));
    }
    range(tree, 0, size).map(RootHash)
}

/// The inclusion proof of a leaf in the tree of `size` leaves, from the leaf's sibling up (RFC 6962, 2.1.1). Empty
/// when there is no such leaf.
///
/// # Errors
/// Those of `tree`.
pub fn inclusion<T: Subtrees>(tree: &mut T, index: u64, size: u64) -> Result<Vec<Hash>, T::Error> {
    let (mut low, mut high) = (0, if index < size { size } else { 0 });
    let mut others = Vec::new();
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            others.push((middle, high));
            high = middle;
        } else {
            others.push((low, middle));
            low = middle;
        }
    }
    others.into_iter().rev().map(|(low, high)| range(tree, low, high)).collect()
}

/// The consistency proof from `old` leaves to `new` (RFC 6962, 2.1.2). Empty when they are equal, when there are no
/// old ones, and when `old` is not below `new`.
///
/// # Errors
/// Those of `tree`.
pub fn consistency<T: Subtrees>(tree: &mut T, old: u64, new: u64) -> Result<Vec<Hash>, T::Error> {
    if old == 0 || old >= new {
        return Ok(Vec::new());
    }
    let (mut low, mut high) = (0, new);
    let mut others = Vec::new();
    while old < high {
        let middle = low + split(high - low);
        if old <= middle {
            others.push((middle, high));
            high = middle;
        } else {
            others.push((low, middle));
            low = middle;
        }
    }
    // The old tree's own right edge, unless that is the whole old tree, whose root is known.
    if low > 0 {
        others.push((low, high));
    }
    others.into_iter().rev().map(|(low, high)| range(tree, low, high)).collect()
}

/// The largest power of two below `count`, which is at least two.
const fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// Hash over leaves `low..high`, where `low` is a multiple of the largest perfect subtree that fits.
fn range<T: Subtrees>(tree: &mut T, low: u64, high: u64) -> Result<Hash, T::Error> {
    let mut parts = Vec::new();
    let mut at = low;
    while at < high {
        let level = (high - at).ilog2();
        parts.push(tree.subtree(level, at >> level)?);
        at += 1 << level;
    }
    let mut parts = parts.into_iter().rev();
    let last = parts.next().unwrap_or_default();
    Ok(parts.fold(last, |right, left| node_hash(&left, &right)))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::tree::leaf_hash;

    /// Leaves, and everything else by the definition.
    struct Naive(Vec<Hash>);

    fn mth(leaves: &[Hash]) -> Hash {
        match leaves.len() {
            0 => Sha256::digest([]).into(),
            1 => leaves[0],
            n => {
                let k = n.next_power_of_two() / 2;
                node_hash(&mth(&leaves[..k]), &mth(&leaves[k..]))
            }
        }
    }

    /// PATH of RFC 6962, 2.1.1.
    fn path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
        let n = leaves.len();
        if n == 1 {
            return vec![];
        }
        let k = n.next_power_of_two() / 2;
        let (mut proof, other) = if m < k {
            (path(m, &leaves[..k]), mth(&leaves[k..]))
        } else {
            (path(m - k, &leaves[k..]), mth(&leaves[..k]))
        };
        proof.push(other);
        proof
    }

    /// SUBPROOF of RFC 6962, 2.1.2.
    fn subproof(m: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
        let n = leaves.len();
        if m == n {
            return if whole { vec![] } else { vec![mth(leaves)] };
        }
        let k = n.next_power_of_two() / 2;
        let (mut proof, other) = if m <= k {
            (subproof(m, &leaves[..k], whole), mth(&leaves[k..]))
        } else {
            (subproof(m - k, &leaves[k..], false), mth(&leaves[..k]))
        };
        proof.push(other);
        proof
    }

    impl Subtrees for Naive {
        type Error = Infallible;

        fn subtree(&mut self, level: u32, index: u64) -> Result<Hash, Infallible> {
            let (index, width) = (usize::try_from(index).unwrap(), 1 << level);
            Ok(mth(&self.0[index * width..(index + 1) * width]))
        }
    }

    fn tree(size: usize) -> Naive {
        Naive((0..size).map(|n| leaf_hash(&n.to_be_bytes())).collect())
    }

    #[test]
    fn every_small_proof_is_the_one_of_the_definition() {
        for size in 1..=40usize {
            let mut tree = tree(size);
            let whole = root(&mut tree, size as u64).unwrap();
            assert_eq!(whole.0, mth(&tree.0));
            for index in 0..size {
                let proof = inclusion(&mut tree, index as u64, size as u64).unwrap();
                assert_eq!(proof, path(index, &tree.0));
                let leaf = tree.0[index];
                assert_eq!(verify_inclusion(&leaf, index as u64, size as u64, &proof, &whole), Ok(()));
            }
            for old in 0..=size {
                let proof = consistency(&mut tree, old as u64, size as u64).unwrap();
                if old > 0 {
                    assert_eq!(proof, subproof(old, &tree.0, true));
                }
                let before = RootHash(mth(&tree.0[..old]));
                assert_eq!(verify_consistency(old as u64, &before, size as u64, &whole, &proof), Ok(()));
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_changed_does_not_verify(
            size in 1..200usize, a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>(),
            bit in 0..256usize, how in 0..5) {
            let mut tree = tree(size);
            let (index, old) = (a.index(size), b.index(size) + 1);
            let (n, i, o) = (size as u64, index as u64, old as u64);
            let (whole, before) = (RootHash(mth(&tree.0)), RootHash(mth(&tree.0[..old])));
            let mut inclusion = inclusion(&mut tree, i, n).unwrap();
            let mut consistency = consistency(&mut tree, o, n).unwrap();
            let (mut leaf, mut first) = (tree.0[index], before);
            match how {
                0 => { leaf[bit / 8] ^= 1 << (bit % 8); first.0[bit / 8] ^= 1 << (bit % 8); }
                1 => { inclusion.push([0; 32]); consistency.push([0; 32]); }
                2 => { prop_assume!(inclusion.pop().is_some() && consistency.pop().is_some()); }
                3 => {
                    prop_assume!(!inclusion.is_empty() && !consistency.is_empty());
                    let at = a.index(inclusion.len());
                    inclusion[at][bit / 8] ^= 1 << (bit % 8);
                    let at = b.index(consistency.len());
                    consistency[at][bit / 8] ^= 1 << (bit % 8);
                }
                _ => {
                    prop_assume!(size > 1 && old < size);
                    inclusion.reverse();
                    inclusion.push(leaf);
                    consistency.push(before.0);
                }
            }
            prop_assert!(verify_inclusion(&leaf, i, n, &inclusion, &whole).is_err());
            prop_assert!(verify_consistency(o, &first, n, &whole, &consistency).is_err());
        }

        #[test]
        fn no_input_panics(index: u64, size: u64, old: u64, hashes in 0..70usize) {
            let proof = vec![[1; 32]; hashes];
            let _ = verify_inclusion(&[0; 32], index, size, &proof, &RootHash([2; 32]));
            let _ = verify_consistency(old, &RootHash([2; 32]), size, &RootHash([3; 32]), &proof);
        }
    }

    #[test]
    fn leaves_outside_are_refused() {
        let whole = RootHash([0; 32]);
        let out = Err(ProofError::Range { index: 3, size: 3 });
        assert_eq!(verify_inclusion(&[0; 32], 3, 3, &[], &whole), out);
        let out = Err(ProofError::Range { index: 4, size: 3 });
        assert_eq!(verify_consistency(4, &whole, 3, &whole, &[]), out);
        let mut tree = tree(3);
        assert_eq!(inclusion(&mut tree, 3, 3), Ok(vec![]));
        assert_eq!(consistency(&mut tree, 4, 3), Ok(vec![]));
    }
}
