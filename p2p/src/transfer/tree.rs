//! Geometry and hashing of the Bao tree (BLAKE3 over chunk groups of 16 KiB).

use antiphon_proto::{limits, wire::ByteRange};
use bao_tree::{BaoTree, BlockSize, ChunkNum, ChunkRanges};
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

/// Bytes in a chunk group, as a buffer length.
#[cfg(test)]
pub(crate) const GROUP: usize = 1024 << limits::BAO_CHUNK_LOG;
/// Bytes of a pair of hashes: what an inner node of the tree is on the wire and in an outboard.
pub(crate) const PAIR: usize = 64;

const CHUNKS_PER_GROUP: u64 = 1 << limits::BAO_CHUNK_LOG;

/// The tree over a file of `size` bytes.
pub(crate) fn tree(size: u64) -> BaoTree {
    BaoTree::new(size, BlockSize::from_chunk_log(limits::BAO_CHUNK_LOG))
}

/// The chunk groups that touch the byte ranges, in the form that both ends of a transfer walk. Empty when every
/// range lies beyond the end of the file.
pub(crate) fn covering(ranges: &[ByteRange], size: u64) -> ChunkRanges {
    let mut chunks = ChunkRanges::empty();
    for range in ranges {
        let end = range.end.min(size);
        if range.start >= end {
            continue;
        }
        let first = range.start / limits::BAO_GROUP_BYTES * CHUNKS_PER_GROUP;
        let past = end.div_ceil(limits::BAO_GROUP_BYTES) * CHUNKS_PER_GROUP;
        // A range to the end stays open: the walk takes only a range without an end for a whole last group.
        chunks |= if past * 1024 >= size {
            ChunkRanges::from(ChunkNum(first)..)
        } else {
            ChunkRanges::from(ChunkNum(first)..ChunkNum(past))
        };
    }
    chunks
}

/// Chaining value of an inner node.
pub(crate) fn parent_hash(pair: &[u8; PAIR], is_root: bool) -> [u8; 32] {
    let (left, right) = split_pair(pair);
    if is_root {
        *merge_subtrees_root(&left, &right, Mode::Hash).as_bytes()
    } else {
        merge_subtrees_non_root(&left, &right, Mode::Hash)
    }
}

/// Chaining value of a chunk group.
pub(crate) fn group_hash(start: ChunkNum, data: &[u8], is_root: bool) -> [u8; 32] {
    if is_root {
        return *blake3::hash(data).as_bytes();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(start.to_bytes());
    hasher.update(data);
    hasher.finalize_non_root()
}

/// Both halves of a pair of hashes.
pub(crate) fn split_pair(pair: &[u8; PAIR]) -> ([u8; 32], [u8; 32]) {
    let mut left = [0; 32];
    let mut right = [0; 32];
    left.copy_from_slice(&pair[..32]);
    right.copy_from_slice(&pair[32..]);
    (left, right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bao_tree::iter::{BaoChunk, ResponseIter};

    fn leaves(ranges: &[(u64, u64)], size: u64) -> Vec<(u64, usize)> {
        let ranges: Vec<_> = ranges.iter().map(|&(start, end)| ByteRange { start, end }).collect();
        ResponseIter::new(tree(size), covering(&ranges, size))
            .filter_map(|item| match item {
                BaoChunk::Leaf { start_chunk, size, .. } => Some((start_chunk.to_bytes(), size)),
                BaoChunk::Parent { .. } => None,
            })
            .collect()
    }

    #[test]
    fn ranges_are_rounded_to_whole_groups() {
        assert_eq!(leaves(&[(0, 1)], 100_000), [(0, GROUP)]);
        assert_eq!(leaves(&[(16_383, 16_385)], 100_000), [(0, GROUP), (16_384, GROUP)]);
        assert_eq!(leaves(&[(99_999, 100_000)], 100_000), [(98_304, 1_696)]);
        assert_eq!(leaves(&[(98_304, u64::MAX)], 100_000), [(98_304, 1_696)]);
        assert_eq!(leaves(&[(0, 1), (16_384, 16_385)], 16_385), [(0, GROUP), (16_384, 1)]);
        assert_eq!(leaves(&[(0, 1)], 16_385), [(0, GROUP)]);
        assert_eq!(leaves(&[(5, 6)], 10), [(0, 10)]);
        assert_eq!(
            leaves(&[(0, 16_384), (40_000, 50_000)], 60_000),
            [(0, GROUP), (32_768, GROUP), (49_152, 10_848)]
        );
        assert_eq!(leaves(&[(100_000, 200_000)], 100_000), []);
    }
}
