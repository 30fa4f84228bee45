//! The verifying end of a Bao stream, without I/O: bytes in, verified groups out.

use std::collections::VecDeque;

use antiphon_proto::{ContentHash, wire::ByteRange};
use bao_tree::{
    BaoTree, TreeNode,
    iter::{BaoChunk, ResponseIter},
};

use super::tree;

/// Bytes that do not belong to the content hash. Nothing of the group that holds them is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes for offset {offset} do not match the content hash")]
pub struct BadBytes {
    /// First byte of the file that the refused piece describes; a multiple of 16,384.
    pub offset: u64,
}

/// A verified piece of a Bao stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified<'a> {
    /// Hashes of an inner node.
    Pair {
        /// Position in the outboard in bytes; none for a node that an outboard does not hold.
        outboard_offset: Option<u64>,
        /// Left and right hash.
        pair: &'a [u8; tree::PAIR],
    },
    /// A chunk group: 16 KiB, or the rest of the file.
    Group {
        /// Where it belongs in the file.
        offset: u64,
        /// Its bytes.
        data: &'a [u8],
    },
}

/// Checks a Bao stream piece by piece. The shape of the stream follows from the size and the ranges, so that the
/// sender decides nothing but the bytes.
#[derive(Debug)]
pub struct Decoder {
    tree: BaoTree,
    pieces: ResponseIter,
    /// The coming pieces up to the next group: at most one for each level of the tree.
    ahead: VecDeque<BaoChunk>,
    /// Hashes that the coming pieces must have, the next one last. At most one for each level of the tree.
    expected: Vec<[u8; 32]>,
}

impl Decoder {
    /// A decoder of the answer to a request for `ranges` of a file of `size` bytes.
    #[must_use]
    pub fn new(content: &ContentHash, size: u64, ranges: &[ByteRange]) -> Self {
        let tree = tree::tree(size);
        let pieces = ResponseIter::new(tree, tree::covering(ranges, size));
        let mut decoder = Self { tree, pieces, ahead: VecDeque::new(), expected: vec![*content.as_bytes()] };
        decoder.look_ahead();
        decoder
    }

    /// How many bytes [`Self::feed`] takes next: 64 or at most 16,384; none at the end of the stream.
    #[must_use]
    pub fn wants(&self) -> Option<usize> {
        self.ahead.front().map(length_of)
    }

    /// How many bytes there are up to the end of the next group: with fewer, nothing more can be used. Zero at the end
    /// of the stream.
    #[must_use]
    pub fn until_group(&self) -> usize {
        self.ahead.iter().map(length_of).sum()
    }

    /// Checks the next piece.
    ///
    /// # Errors
    /// [`BadBytes`] for bytes of another file or another length; the decoder is then at its end.
    pub fn feed<'a>(&mut self, bytes: &'a [u8]) -> Result<Verified<'a>, BadBytes> {
        let piece = self.ahead.pop_front().ok_or(BadBytes { offset: self.tree.size() })?;
        let verified = self.check(&piece, bytes).inspect_err(|_| self.ahead.clear())?;
        if self.ahead.is_empty() {
            self.look_ahead();
        }
        Ok(verified)
    }

    /// Takes the pieces up to the next group out of the walk.
    fn look_ahead(&mut self) {
        for piece in self.pieces.by_ref() {
            let is_group = matches!(piece, BaoChunk::Leaf { .. });
            self.ahead.push_back(piece);
            if is_group {
                break;
            }
        }
    }

    fn check<'a>(&mut self, piece: &BaoChunk, bytes: &'a [u8]) -> Result<Verified<'a>, BadBytes> {
        match *piece {
            BaoChunk::Parent { node, is_root, left, right, .. } => {
                let bad = BadBytes { offset: start_of(node) };
                let pair: &[u8; tree::PAIR] = bytes.try_into().map_err(|_| bad)?;
                if self.expected.pop() != Some(tree::parent_hash(pair, is_root)) {
                    return Err(bad);
                }
                let (left_hash, right_hash) = tree::split_pair(pair);
                if right {
                    self.expected.push(right_hash);
                }
                if left {
                    self.expected.push(left_hash);
                }
                let outboard_offset = outboard_offset(&self.tree, node);
                Ok(Verified::Pair { outboard_offset, pair })
            }
            BaoChunk::Leaf { start_chunk, size, is_root, .. } => {
                let offset = start_chunk.to_bytes();
                let fits = bytes.len() == size;
                if !fits || self.expected.pop() != Some(tree::group_hash(start_chunk, bytes, is_root)) {
                    return Err(BadBytes { offset });
                }
                Ok(Verified::Group { offset, data: bytes })
            }
        }
    }
}

/// Bytes of a piece on the wire.
fn length_of(piece: &BaoChunk) -> usize {
    match piece {
        BaoChunk::Parent { .. } => tree::PAIR,
        BaoChunk::Leaf { size, .. } => *size,
    }
}

/// Where a node's pair stands in a post-order outboard.
pub(crate) fn outboard_offset(tree: &BaoTree, node: TreeNode) -> Option<u64> {
    tree.post_order_offset(node).map(|position| position.value() * tree::PAIR as u64)
}

/// First byte of the file below a node.
pub(crate) fn start_of(node: TreeNode) -> u64 {
    node.chunk_range().start.to_bytes()
}

/// Decodes a whole Bao stream that is in memory, and counts the verified bytes; what comes after the stream's end is
/// left alone. This is the surface for fuzzing: no input may make it panic or take more memory than the input has.
///
/// # Errors
/// [`BadBytes`]; a stream that ends early is not an error and gives what was verified.
pub fn decode_all(
    content: &ContentHash,
    size: u64,
    ranges: &[ByteRange],
    mut bytes: &[u8],
) -> Result<u64, BadBytes> {
    let mut decoder = Decoder::new(content, size, ranges);
    let mut verified = 0;
    while let Some(length) = decoder.wants() {
        let Some((piece, rest)) = bytes.split_at_checked(length) else { break };
        bytes = rest;
        if let Verified::Group { data, .. } = decoder.feed(piece)? {
            verified += data.len() as u64;
        }
    }
    Ok(verified)
}
