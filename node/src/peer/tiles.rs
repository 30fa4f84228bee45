//! The upper part of a log whose root is trusted: tiles from peers, each verified up to the root before it is used.
//!
//! [`Edge`] is pure: the narrow tiles at the right edge of the tree, which together give its root. A full tile is
//! verified by the one hash of the level above that stands for it, and so on up to the edge. Who sends a wrong tile is
//! told at once, by name.

use std::{
    collections::{BTreeSet, HashMap},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use antiphon_ledger::{
    log::{
        proof::{self, Hash, Subtrees},
        tile::{TILE_WIDTH, fold, hashes_at, parse_hashes},
    },
    tree::Frontier,
};
use antiphon_p2p::{Network, Offence, RequestError};
use antiphon_proto::{NetworkId, RootHash};
use libp2p::PeerId;

/// Levels that a tree of 2^64 leaves has.
const LEVELS: u8 = 8;
/// Rounds over all peers for one tile: some may be busy.
const ROUNDS: u32 = 4;
/// Pause between rounds.
const ROUND_PAUSE: Duration = Duration::from_millis(300);
/// Full tiles that are kept, 8 KiB each: a path to the top, and what was asked for last.
const KEPT: usize = 64;

/// The right edge of a tree: its narrow tiles, one for each level that has one, lowest level first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    levels: Vec<Vec<Hash>>,
}

impl Edge {
    /// The tiles that make the edge of a tree: level, index and width.
    pub fn tiles(size: u64) -> impl Iterator<Item = (u8, u64, u16)> {
        (0..LEVELS).filter_map(move |level| {
            let count = hashes_at(level, size);
            let width = u16::try_from(count % TILE_WIDTH).ok().filter(|width| *width > 0)?;
            Some((level, count / TILE_WIDTH, width))
        })
    }

    /// The edge from the tiles that [`Edge::tiles`] names, in that order; `None` when they do not lead to the root.
    #[must_use]
    pub fn new(size: u64, tiles: Vec<Vec<Hash>>, root: &RootHash) -> Option<Self> {
        let mut levels = vec![Vec::new(); usize::from(LEVELS)];
        let mut tiles = tiles.into_iter();
        for (level, _, width) in Self::tiles(size) {
            let tile = tiles.next().filter(|tile| tile.len() == usize::from(width))?;
            *levels.get_mut(usize::from(level))? = tile;
        }
        if tiles.next().is_some() {
            return None;
        }
        // Each bit of the width is a perfect subtree, largest first.
        let mut nodes = Vec::new();
        for tile in levels.iter().rev() {
            let mut rest = &tile[..];
            for bit in (0..8).rev().filter(|bit| tile.len() & (1 << bit) != 0) {
                let (subtree, more) = rest.split_at_checked(1 << bit)?;
                nodes.push(fold(subtree));
                rest = more;
            }
        }
        let edge = Self { size, levels };
        (Frontier::from_parts(size, nodes)?.root() == *root).then_some(edge)
    }

    /// Number of leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The hashes of the narrow tile of a level; none when that level ends with a full tile.
    #[must_use]
    pub fn level(&self, level: u8) -> &[Hash] {
        self.levels.get(usize::from(level)).map_or(&[], Vec::as_slice)
    }

    /// Whether a tile is the narrow one of its level.
    fn holds(&self, level: u8, index: u64) -> bool {
        hashes_at(level, self.size) / TILE_WIDTH == index
    }
}

/// Why the log cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TilesError {
    /// Nobody answers, or all who do lie.
    #[error("no connected peer gives the tiles of the log up to block {size}{}", last.as_ref().map(|e| format!(": {e}")).unwrap_or_default())]
    NoPeers {
        /// Size of the log.
        size: u64,
        /// What the last one said.
        last: Option<RequestError>,
    },
}

/// Reads tiles of one log from several peers.
pub struct Tiles {
    network: Network,
    id: NetworkId,
    peers: Vec<PeerId>,
    edge: Edge,
    full: HashMap<(u8, u64), Arc<Vec<Hash>>>,
}

impl Tiles {
    /// Begins with the edge of a log of `size` blocks with this root.
    ///
    /// # Errors
    /// [`TilesError`].
    pub async fn open(
        network: Network,
        id: NetworkId,
        peers: Vec<PeerId>,
        size: u64,
        root: &RootHash,
    ) -> Result<Self, TilesError> {
        let mut last = None;
        for round in 0..ROUNDS {
            pause(round).await;
            for peer in &peers {
                match ask_edge(&network, id, *peer, size).await {
                    Ok(tiles) => {
                        if let Some(edge) = Edge::new(size, tiles, root) {
                            return Ok(Self { network, id, peers, edge, full: HashMap::new() });
                        }
                        bad_tile(&network, *peer, "the edge of the log").await;
                    }
                    Err(error) => last = Some(error),
                }
            }
        }
        Err(TilesError::NoPeers { size, last })
    }

    /// The edge.
    #[must_use]
    pub const fn edge(&self) -> &Edge {
        &self.edge
    }

    /// All hashes of a tile; the tree must have it.
    ///
    /// # Errors
    /// [`TilesError`].
    pub async fn tile(&mut self, level: u8, index: u64) -> Result<Arc<Vec<Hash>>, TilesError> {
        // Up to what is known, and down again.
        let mut path = vec![(level, index)];
        let mut known = loop {
            let Some(&(level, index)) = path.last() else { return Err(self.nobody(None)) };
            if self.edge.holds(level, index) {
                break Arc::new(self.edge.level(level).to_vec());
            }
            if let Some(tile) = self.full.get(&(level, index)) {
                break Arc::clone(tile);
            }
            if level + 1 >= LEVELS {
                return Err(self.nobody(None));
            }
            path.push((level + 1, index / TILE_WIDTH));
        };
        path.pop();
        while let Some((level, index)) = path.pop() {
            let place = usize::try_from(index % TILE_WIDTH).unwrap_or(usize::MAX);
            let Some(expected) = known.get(place).copied() else { return Err(self.nobody(None)) };
            known = Arc::new(self.ask(level, index, &expected).await?);
            if self.full.len() >= KEPT {
                self.full.clear();
            }
            self.full.insert((level, index), Arc::clone(&known));
        }
        Ok(known)
    }

    /// The root over the first `size` leaves of this tree: what a log that is its beginning must have.
    ///
    /// # Errors
    /// [`TilesError`].
    pub async fn root_at(&mut self, size: u64) -> Result<RootHash, TilesError> {
        let size = size.min(self.edge.size);
        let mut wanted = Wanted::default();
        let Ok(_) = proof::root(&mut wanted, size);
        let mut found = HashMap::new();
        for (level, index) in wanted.0 {
            found.insert((level, index), self.tile(level, index).await?);
        }
        let Ok(root) = proof::root(&mut Found(found), size);
        Ok(root)
    }

    async fn ask(&mut self, level: u8, index: u64, expected: &Hash) -> Result<Vec<Hash>, TilesError> {
        let mut last = None;
        for round in 0..ROUNDS {
            pause(round).await;
            for turn in 0..self.peers.len() {
                let Some(peer) = self.peers.get(turn).copied() else { break };
                match ask_tile(&self.network, self.id, peer, level, index, 256).await {
                    Ok(hashes) if fold(&hashes) == *expected => {
                        // Whoever answered is asked first the next time.
                        self.peers.swap(0, turn);
                        return Ok(hashes);
                    }
                    Ok(_) => bad_tile(&self.network, peer, "a tile").await,
                    Err(error) => last = Some(error),
                }
            }
        }
        Err(self.nobody(last))
    }

    const fn nobody(&self, last: Option<RequestError>) -> TilesError {
        TilesError::NoPeers { size: self.edge.size, last }
    }
}

async fn pause(round: u32) {
    if round > 0 {
        tokio::time::sleep(ROUND_PAUSE * round).await;
    }
}

async fn bad_tile(network: &Network, peer: PeerId, what: &str) {
    tracing::warn!(%peer, "the peer sends {what} that does not lead to the root that the council has cosigned");
    network.penalize(peer, Offence::BadTile).await;
}

async fn ask_edge(
    network: &Network,
    id: NetworkId,
    peer: PeerId,
    size: u64,
) -> Result<Vec<Vec<Hash>>, RequestError> {
    let mut tiles = Vec::new();
    for (level, index, width) in Edge::tiles(size) {
        tiles.push(ask_tile(network, id, peer, level, index, width).await?);
    }
    Ok(tiles)
}

async fn ask_tile(
    network: &Network,
    id: NetworkId,
    peer: PeerId,
    level: u8,
    index: u64,
    width: u16,
) -> Result<Vec<Hash>, RequestError> {
    let bytes = network.tile(peer, id, level.into(), index, width.into()).await?;
    parse_hashes(&bytes).ok_or_else(|| RequestError::Malformed("a tile of no whole hashes".to_owned()))
}

/// Tile of hashes that a perfect subtree is made from: level, index, first place in it and how many.
fn place_of(level: u32, index: u64) -> (u8, u64, usize, usize) {
    let within = level % 8;
    let first = index << within;
    let tile_level = u8::try_from(level / 8).unwrap_or(u8::MAX);
    (tile_level, first / TILE_WIDTH, usize::try_from(first % TILE_WIDTH).unwrap_or(0), 1 << within)
}

/// Notes which tiles a proof is made from.
#[derive(Default)]
struct Wanted(BTreeSet<(u8, u64)>);

impl Subtrees for Wanted {
    type Error = Infallible;

    fn subtree(&mut self, level: u32, index: u64) -> Result<Hash, Infallible> {
        let (level, index, ..) = place_of(level, index);
        self.0.insert((level, index));
        Ok(Hash::default())
    }
}

/// Makes it from them. What is missing leads to a wrong root.
struct Found(HashMap<(u8, u64), Arc<Vec<Hash>>>);

impl Subtrees for Found {
    type Error = Infallible;

    fn subtree(&mut self, level: u32, index: u64) -> Result<Hash, Infallible> {
        let (level, index, first, count) = place_of(level, index);
        let hashes = self.0.get(&(level, index)).and_then(|tile| tile.get(first..first + count));
        Ok(hashes.map(fold).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use antiphon_ledger::tree::leaf_hash;
    use proptest::prelude::*;

    use super::*;

    /// Every hash of a level of the tree over `size` numbered leaves.
    fn level(size: u64, level: u8) -> Vec<Hash> {
        let mut hashes: Vec<Hash> = (0..size).map(|leaf| leaf_hash(&leaf.to_be_bytes())).collect();
        for _ in 0..level {
            hashes = hashes.chunks_exact(256).map(fold).collect();
        }
        hashes
    }

    fn root(size: u64) -> RootHash {
        let mut tree = Frontier::new();
        (0..size).for_each(|leaf| tree.append(&leaf.to_be_bytes()));
        tree.root()
    }

    fn edge_tiles(size: u64) -> Vec<Vec<Hash>> {
        let cut = |(at, index, width): (u8, u64, u16)| {
            let first = usize::try_from(index * 256).unwrap();
            level(size, at)[first..first + usize::from(width)].to_vec()
        };
        Edge::tiles(size).map(cut).collect()
    }

    #[test]
    fn edges_of_many_sizes_lead_to_the_root() {
        for size in [0, 1, 2, 255, 256, 257, 511, 513, 65_535, 65_536, 65_537, 70_000] {
            let (tiles, root) = (edge_tiles(size), root(size));
            let edge = Edge::new(size, tiles.clone(), &root).unwrap();
            assert_eq!(edge.size(), size);
            assert!(size < 256 || Edge::new(size - 1, tiles, &root).is_none(), "{size}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn an_edge_with_a_wrong_bit_is_none(size in 1u64..3_000, at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let (mut tiles, root) = (edge_tiles(size), root(size));
            prop_assert!(Edge::new(size, tiles.clone(), &root).is_some());
            let tile = at.index(tiles.len());
            let hash = at.index(tiles[tile].len());
            tiles[tile][hash][at.index(32)] ^= 1 << bit;
            prop_assert!(Edge::new(size, tiles, &root).is_none());
        }

        #[test]
        fn roots_of_beginnings(size in 1u64..3_000, old in any::<prop::sample::Index>()) {
            let old = old.index(usize::try_from(size).unwrap() + 1) as u64;
            let mut wanted = Wanted::default();
            let Ok(_) = proof::root(&mut wanted, old);
            let found = wanted.0.into_iter().map(|(at, index)| {
                let hashes = level(size, at);
                let first = usize::try_from(index * 256).unwrap();
                let tile = hashes[first..hashes.len().min(first + 256)].to_vec();
                ((at, index), Arc::new(tile))
            });
            let Ok(made) = proof::root(&mut Found(found.collect()), old);
            prop_assert_eq!(made, root(old));
        }
    }
}
