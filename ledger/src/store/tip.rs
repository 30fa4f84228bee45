//! The end of the ledger: everything that the next batch needs, and the sums that `info` shows.

use std::sync::Arc;

use antiphon_proto::{BlockHash, RootHash, wire::Genesis};
use bincode::{Decode, Encode};

use super::{segments::Place, walk::START};
use crate::{
    codec::Stored,
    roster::{Roster, StoredRoster},
    seal::{SealError, SealPolicy, Sealed},
    state::{Kind, Params, Position},
    tokens::{StoredTokens, Tokens},
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
    /// The council.
    pub(crate) roster: Arc<Roster>,
    /// Sums over the state.
    pub(crate) tokens: Tokens,
    /// Where the last batch ends in the segments.
    pub(crate) end: Place,
}

impl Tip {
    /// The start of a network's ledger.
    pub(crate) fn start(genesis: &Genesis) -> Self {
        Self {
            position: Position::start(&genesis.network_id()),
            songs: 0,
            variants: 0,
            block_bytes: 0,
            song_bytes: 0,
            frontier: Frontier::new(),
            seal: Vec::new(),
            roster: Arc::new(Roster::genesis(&genesis.member_keys())),
            tokens: Tokens::start(&Params::of(genesis)),
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
    pub(crate) fn count(&mut self, bytes: &[u8], kind: Kind) {
        self.frontier.append_leaf(leaf_hash(bytes));
        self.add(bytes.len() as u64, kind);
    }

    /// Counts a block in that is in the log already.
    pub(crate) fn add(&mut self, length: u64, kind: Kind) {
        self.block_bytes = self.block_bytes.saturating_add(length);
        match kind {
            Kind::Song => {
                self.songs = self.songs.saturating_add(1);
                self.song_bytes = self.song_bytes.saturating_add(length);
            }
            Kind::Variant => self.variants = self.variants.saturating_add(1),
            Kind::Council | Kind::Epoch | Kind::Tokens => {}
        }
    }

    /// Whether the seal proves this end of the ledger.
    pub(crate) fn check_seal(&self, policy: &SealPolicy) -> Result<(), SealError> {
        let sealed = Sealed { council: self.roster.last(), position: &self.position, root: self.root() };
        policy.verify(&sealed, &self.seal)
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
    roster: StoredRoster,
    tokens: StoredTokens,
    segment: u32,
    offset: u32,
}

impl Stored for Mark {
    const VERSION: u8 = 3;
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
            roster: StoredRoster::from(&*tip.roster),
            tokens: StoredTokens::from(&tip.tokens),
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
            roster: Arc::new(self.roster.into()),
            tokens: self.tokens.into_tokens()?,
            end: Place { segment: self.segment, offset: self.offset },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codec, testing::genesis};

    #[test]
    fn golden_mark() {
        let mut tip = Tip::start(&genesis());
        tip.position.link = BlockHash([1; 32]);
        tip.count(b"song", Kind::Song);
        tip.position.size = 1;
        tip.position.height = 2;
        tip.position.time_ms = 3;
        tip.seal = vec![9];
        tip.end = Place { segment: 4, offset: 100 };
        let bytes = codec::encode(&Mark::from(&tip)).unwrap();
        let mut golden = vec![3, 1];
        golden.extend([1; 32]);
        golden.extend([2, 3, 1, 0, 4, 4, 1]);
        golden.extend(leaf_hash(b"song"));
        golden.extend([1, 9]);
        let member = genesis().member_keys()[0].0;
        for _ in 0..4 {
            golden.push(1);
            golden.extend(member);
        }
        golden.extend([0, 0, 0]);
        // Totals: when the network began. The economy of the genesis document. No entries.
        golden.extend([7, 32, 128, 208, 149, 255, 188, 49]);
        let economy = antiphon_proto::canonical::encode(&antiphon_proto::economy::DEFAULT);
        golden.push(u8::try_from(economy.len()).unwrap());
        golden.extend(economy);
        golden.extend([0, 0, 0, 0, 4, 100]);
        assert_eq!(bytes, golden);
        assert_eq!(codec::decode::<Mark>(&bytes).unwrap().into_tip(), Some(tip));
    }

    #[test]
    fn a_mark_with_a_wrong_frontier_is_refused() {
        let mut mark = Mark::from(&Tip::start(&genesis()));
        mark.size = 1;
        assert_eq!(mark.into_tip(), None);
    }
}
