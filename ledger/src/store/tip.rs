//! The end of the ledger: everything that the next batch needs, and the sums that `info` shows.

use antiphon_proto::{BlockHash, NetworkId, RootHash};
use bincode::{Decode, Encode};

use super::{segments::Place, walk::START};
use crate::{
    codec::Stored,
    state::Position,
    tree::{Frontier, leaf_hash},
};

/// What stands at the end of the ledger after a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tip {
    /// Size, link, height and time.
    pub(crate) position: Position,
    /// Number of song blocks.
    pub(crate) songs: u64,
    /// Number of variant blocks.
    pub(crate) variants: u64,
    /// Bytes of all blocks.
    pub(crate) block_bytes: u64,
    /// Bytes of the song blocks.
    pub(crate) song_bytes: u64,
    /// The log's right edge.
    pub(crate) frontier: Frontier,
    /// Seal of the last batch, empty when there is none.
    pub(crate) seal: Vec<u8>,
    /// Where the last batch ends in the segments.
    pub(crate) end: Place,
}

impl Tip {
    /// The start of a network's ledger.
    pub(crate) fn start(network: &NetworkId) -> Self {
        Self {
            position: Position::start(network),
            songs: 0,
            variants: 0,
            block_bytes: 0,
            song_bytes: 0,
            frontier: Frontier::new(),
            seal: Vec::new(),
            end: Place { segment: 0, offset: START },
        }
    }

    /// Hash of the last block.
    pub(crate) fn head(&self) -> Option<BlockHash> {
        (self.position.size > 0).then_some(self.position.link)
    }

    /// Root of the log.
    pub(crate) fn root(&self) -> RootHash {
        self.frontier.root()
    }

    /// Counts a block in and puts it into the log; the position is the caller's.
    pub(crate) fn count(&mut self, bytes: &[u8], is_song: bool) {
        self.frontier.append_leaf(leaf_hash(bytes));
        self.add(bytes.len() as u64, is_song);
    }

    /// Counts a block in that is in the log already.
    pub(crate) fn add(&mut self, length: u64, is_song: bool) {
        self.block_bytes = self.block_bytes.saturating_add(length);
        if is_song {
            self.songs = self.songs.saturating_add(1);
            self.song_bytes = self.song_bytes.saturating_add(length);
        } else {
            self.variants = self.variants.saturating_add(1);
        }
    }
}

/// How a [`Tip`] is stored: the mark up to which the index holds everything.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Mark {
    size: u64,
    link: [u8; 32],
    height: u64,
    time_ms: u64,
    songs: u64,
    variants: u64,
    block_bytes: u64,
    song_bytes: u64,
    frontier: Vec<[u8; 32]>,
    seal: Vec<u8>,
    segment: u32,
    offset: u32,
}

impl Stored for Mark {
    const VERSION: u8 = 1;
    const NAME: &'static str = "mark";
}

impl From<&Tip> for Mark {
    fn from(tip: &Tip) -> Self {
        Self {
            size: tip.position.size,
            link: tip.position.link.0,
            height: tip.position.height,
            time_ms: tip.position.time_ms,
            songs: tip.songs,
            variants: tip.variants,
            block_bytes: tip.block_bytes,
            song_bytes: tip.song_bytes,
            frontier: tip.frontier.nodes().to_vec(),
            seal: tip.seal.clone(),
            segment: tip.end.segment,
            offset: tip.end.offset,
        }
    }
}

impl Mark {
    /// The tip again; `None` when the mark contradicts itself.
    pub(crate) fn into_tip(self) -> Option<Tip> {
        Some(Tip {
            frontier: Frontier::from_parts(self.size, self.frontier)?,
            position: Position {
                size: self.size,
                link: BlockHash(self.link),
                height: self.height,
                time_ms: self.time_ms,
            },
            songs: self.songs,
            variants: self.variants,
            block_bytes: self.block_bytes,
            song_bytes: self.song_bytes,
            seal: self.seal,
            end: Place { segment: self.segment, offset: self.offset },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn golden_mark() {
        let mut tip = Tip::start(&NetworkId([1; 32]));
        tip.count(b"song", true);
        tip.position.size = 1;
        tip.position.height = 2;
        tip.position.time_ms = 3;
        tip.seal = vec![9];
        tip.end = Place { segment: 4, offset: 100 };
        let bytes = codec::encode(&Mark::from(&tip)).unwrap();
        let mut golden = vec![1, 1];
        golden.extend([1; 32]);
        golden.extend([2, 3, 1, 0, 4, 4, 1]);
        golden.extend(leaf_hash(b"song"));
        golden.extend([1, 9, 4, 100]);
        assert_eq!(bytes, golden);
        assert_eq!(codec::decode::<Mark>(&bytes).unwrap().into_tip(), Some(tip));
    }

    #[test]
    fn a_mark_with_a_wrong_frontier_is_refused() {
        let mut mark = Mark::from(&Tip::start(&NetworkId([1; 32])));
        mark.size = 1;
        assert_eq!(mark.into_tip(), None);
    }
}
