//! The ledger's log as an RFC 6962 Merkle tree (SHA-256): an append-only frontier that knows the tree head.
//!
//! The frontier holds one node for each perfect subtree that the leaves form, largest first: at most 64 hashes,
//! whatever the size of the ledger.

use antiphon_proto::RootHash;
use sha2::{Digest as _, Sha256};

/// First byte of what a leaf hash is taken of (RFC 6962, section 2.1).
const LEAF: u8 = 0;
/// First byte of what an inner node's hash is taken of.
const NODE: u8 = 1;

/// Leaf hash of a block: SHA-256(0x00 || bytes).
#[must_use]
pub fn leaf_hash(block: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update([LEAF]);
    hasher.update(block);
    hasher.finalize().into()
}

/// Hash of an inner node: SHA-256(0x01 || left || right).
#[must_use]
pub fn node_hash(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update([NODE]);
    hasher.update(left);
    hasher.update(right);
    hasher.finalize().into()
}

/// The right edge of a tree: enough to append leaves and to tell the root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    nodes: Vec<[u8; 32]>,
}

impl Frontier {
    /// The empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A frontier that was stored: `nodes` are the roots of the perfect subtrees, largest first, so there must be
    /// one for each bit that is set in `size`. `None` otherwise.
    #[must_use]
    pub fn from_parts(size: u64, nodes: Vec<[u8; 32]>) -> Option<Self> {
        (size.count_ones() as usize == nodes.len()).then_some(Self { size, nodes })
    }

    /// Number of leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the perfect subtrees, largest first.
    #[must_use]
    pub fn nodes(&self) -> &[[u8; 32]] {
        &self.nodes
    }

    /// Appends a block.
    pub fn append(&mut self, block: &[u8]) {
        self.append_leaf(leaf_hash(block));
    }

    /// Appends a leaf whose hash is known.
    pub fn append_leaf(&mut self, leaf: [u8; 32]) {
        let mut node = leaf;
        // Each set bit at the low end is a perfect subtree of the size that the new node has grown to.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.nodes.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.nodes.push(node);
        // 2^64 leaves cannot be appended in any lifetime.
        self.size = self.size.saturating_add(1);
    }

    /// Tree head over all leaves; SHA-256 of nothing for the empty tree.
    #[must_use]
    pub fn root(&self) -> RootHash {
        let mut nodes = self.nodes.iter().rev();
        let Some(last) = nodes.next() else { return RootHash(Sha256::digest([]).into()) };
        RootHash(nodes.fold(*last, |right, left| node_hash(left, &right)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition of RFC 6962, section 2.1, word for word.
    fn naive(leaves: &[Vec<u8>]) -> [u8; 32] {
        match leaves.len() {
            0 => Sha256::digest([]).into(),
            1 => leaf_hash(&leaves[0]),
            n => {
                let mut k = 1;
                while k * 2 < n {
                    k *= 2;
                }
                node_hash(&naive(&leaves[..k]), &naive(&leaves[k..]))
            }
        }
    }

    fn hex(root: RootHash) -> String {
        root.to_string()
    }

    /// The eight leaves that Certificate Transparency's own implementations are tested with.
    #[test]
    fn certificate_transparency_vectors() {
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut frontier = Frontier::new();
        assert_eq!(hex(frontier.root()), roots[0]);
        for (leaf, root) in leaves.iter().zip(&roots[1..]) {
            frontier.append(leaf);
            assert_eq!(hex(frontier.root()), *root);
        }
    }

    proptest! {
        #[test]
        fn equals_the_definition(leaves in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..40), 0..130)) {
            let mut frontier = Frontier::new();
            for leaf in &leaves {
                frontier.append(leaf);
            }
            prop_assert_eq!(frontier.root().0, naive(&leaves));
            let copy = Frontier::from_parts(frontier.size(), frontier.nodes().to_vec());
            prop_assert_eq!(copy, Some(frontier));
        }
    }

    #[test]
    fn parts_must_fit_the_size() {
        assert!(Frontier::from_parts(3, vec![[0; 32]; 2]).is_some());
        assert!(Frontier::from_parts(3, vec![[0; 32]; 3]).is_none());
        assert!(Frontier::from_parts(0, vec![]).is_some());
    }
}
