//! What the index is made from.

use antiphon_ledger::Ledger;
use antiphon_proto::{
    SongId,
    wire::{Song, block::Body},
};

use super::error::Result;

/// What a block means to the index.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A song.
    Song(Box<Song>),
    /// Another encoding of the song in an earlier block.
    Variant {
        /// Ledger index of the song.
        song: u64,
    },
    /// Nothing.
    Other,
}

/// The blocks of one network's ledger, which only grow.
pub trait Blocks: Send + Sync {
    /// Number of blocks.
    fn size(&self) -> u64;

    /// The block at an index; [`Entry::Other`] at the end.
    ///
    /// # Errors
    /// When it cannot be read.
    fn entry(&self, index: u64) -> Result<Entry>;

    /// BLAKE3 of a block's bytes; `None` at the end. Tells two ledgers of one network apart.
    ///
    /// # Errors
    /// When it cannot be read.
    fn hash(&self, index: u64) -> Result<Option<[u8; 32]>>;

    /// Blocks of a song's variants, ascending, not more than one answer holds.
    ///
    /// # Errors
    /// When they cannot be read.
    fn variants(&self, song: &Song) -> Result<Vec<u64>>;
}

impl Blocks for Ledger {
    fn size(&self) -> u64 {
        Self::size(self)
    }

    fn entry(&self, index: u64) -> Result<Entry> {
        Ok(match self.parsed(index)?.and_then(|block| block.body) {
            Some(Body::Song(song)) => Entry::Song(Box::new(song)),
            Some(Body::Variant(variant)) => {
                let id = <[u8; 32]>::try_from(&variant.song_id[..]).map(SongId);
                match id.ok().map(|id| self.by_song_id(&id)).transpose()?.flatten() {
                    Some(song) => Entry::Variant { song },
                    None => Entry::Other,
                }
            }
            _ => Entry::Other,
        })
    }

    fn hash(&self, index: u64) -> Result<Option<[u8; 32]>> {
        Ok(self.block(index)?.map(|bytes| *blake3::hash(&bytes).as_bytes()))
    }

    fn variants(&self, song: &Song) -> Result<Vec<u64>> {
        Ok(self.variants_of(&song.id())?)
    }
}
