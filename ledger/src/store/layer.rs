//! What was appended since the last fold, in memory: the newest entries of the index.

use std::collections::{BTreeMap, BTreeSet};

use super::packed::{KeyEntry, Location};
use crate::{state::Entry, tokens::StateKey};

/// The tables of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// Content hash, keyed by a secret of this store, to the block that holds the file.
    Contents,
    /// Song id to its block.
    Songs,
    /// Index of a song's block to its variants' blocks.
    Variants,
}

impl Table {
    pub(crate) const ALL: [Self; 3] = [Self::Contents, Self::Songs, Self::Variants];

    /// Name of its tree in the index.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Contents => "contents",
            Self::Songs => "songs",
            Self::Variants => "variants",
        }
    }
}

/// The keys of an entry, as the tables hold them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys {
    pub(crate) content: u64,
    /// Key and table of what else leads to the block: its own song id, or the song that it is a variant of.
    pub(crate) other: (Table, u64),
}

impl Keys {
    pub(crate) fn of(entry: &Entry, index: u64, content_key: u64) -> Self {
        let other = if entry.song_index == index {
            (Table::Songs, first_8(&entry.song_id.0))
        } else {
            (Table::Variants, entry.song_index)
        };
        Self { content: content_key, other }
    }
}

/// The first eight bytes of a hash, in its order.
pub(crate) fn first_8(hash: &[u8; 32]) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&hash[..8]);
    u64::from_be_bytes(out)
}

/// Entries of consecutive blocks, from `first` on.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) first: u64,
    pub(crate) locations: Vec<Location>,
    contents: BTreeSet<KeyEntry>,
    songs: BTreeSet<KeyEntry>,
    variants: BTreeSet<KeyEntry>,
    /// Entries of the state that were changed; an empty one is gone.
    pub(crate) state: BTreeMap<StateKey, Vec<u8>>,
}

impl Layer {
    pub(crate) const fn new(first: u64) -> Self {
        Self {
            first,
            locations: Vec::new(),
            contents: BTreeSet::new(),
            songs: BTreeSet::new(),
            variants: BTreeSet::new(),
            state: BTreeMap::new(),
        }
    }

    /// Index of the block behind the last.
    pub(crate) fn end(&self) -> u64 {
        self.first.saturating_add(self.locations.len() as u64)
    }

    pub(crate) fn len(&self) -> usize {
        self.locations.len()
    }

    /// Takes the next block in.
    pub(crate) fn push(&mut self, location: Location, keys: Option<Keys>) {
        let index = self.end();
        self.locations.push(location);
        let Some(keys) = keys else { return };
        self.contents.insert((keys.content, index));
        let (table, key) = keys.other;
        match table {
            Table::Contents => self.contents.insert((key, index)),
            Table::Songs => self.songs.insert((key, index)),
            Table::Variants => self.variants.insert((key, index)),
        };
    }

    pub(crate) fn location(&self, index: u64) -> Option<Location> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.locations.get(at).copied()
    }

    pub(crate) const fn table(&self, table: Table) -> &BTreeSet<KeyEntry> {
        match table {
            Table::Contents => &self.contents,
            Table::Songs => &self.songs,
            Table::Variants => &self.variants,
        }
    }

    /// At most `most` entries from `from` to `to`, both included, ascending.
    pub(crate) fn range(
        &self,
        table: Table,
        from: KeyEntry,
        to: KeyEntry,
        most: usize,
    ) -> impl Iterator<Item = KeyEntry> {
        self.table(table).range(from..=to).take(most).copied()
    }
}
