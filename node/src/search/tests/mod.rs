//! The index on songs in memory.
#![allow(clippy::cast_possible_truncation, reason = "a test")]

mod damage;
mod grouping;
mod model;
mod scale;
mod words;

use std::sync::{Arc, PoisonError, RwLock};

use antiphon_proto::{NetworkId, wire::Song};
use tempfile::TempDir;

use super::{Blocks, Entry, Hits, Index, Page, Result};

/// A ledger in memory.
#[derive(Default)]
pub(super) struct Memory(RwLock<Vec<Entry>>);

impl Memory {
    pub(super) fn push(&self, entry: Entry) -> u64 {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        entries.push(entry);
        entries.len() as u64 - 1
    }

    pub(super) fn cut(&self, size: usize) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).truncate(size);
    }
}

impl Blocks for Memory {
    fn size(&self) -> u64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    fn entry(&self, index: u64) -> Result<Entry> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(entries.get(usize::try_from(index).unwrap()).cloned().unwrap_or(Entry::Other))
    }

    fn hash(&self, index: u64) -> Result<Option<[u8; 32]>> {
        let text = match self.entry(index)? {
            Entry::Song(song) => format!("{song:?}"),
            other => format!("{other:?}"),
        };
        Ok((index < self.size()).then(|| *blake3::hash(text.as_bytes()).as_bytes()))
    }

    fn variants(&self, song: &Song) -> Result<Vec<u64>> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let is = |entry: &Entry| matches!(entry, Entry::Song(other) if **other == *song);
        let own = entries.iter().position(is).map(|own| own as u64);
        let of = |entry: &Entry| matches!(entry, Entry::Variant { song } if Some(*song) == own);
        Ok((0..).zip(&*entries).filter(|(_, entry)| of(entry)).map(|(index, _)| index).collect())
    }
}

/// An index of songs in memory, in a folder of its own.
pub(super) struct Shelf {
    pub(super) folder: TempDir,
    pub(super) blocks: Arc<Memory>,
    pub(super) index: Index,
}

/// The network of tests.
pub(super) const NETWORK: NetworkId = NetworkId([9; 32]);

impl Shelf {
    pub(super) fn new() -> Self {
        let (folder, blocks) = (tempfile::tempdir().unwrap(), Arc::new(Memory::default()));
        let index = Index::new(&folder.path().join("search"), &NETWORK, blocks.clone());
        Self { folder, blocks, index }
    }

    /// A shelf with these songs, each of title, artist, album, genre.
    pub(super) fn of(songs: &[[&str; 4]]) -> Self {
        let shelf = Self::new();
        for fields in songs {
            shelf.add(song(*fields));
        }
        shelf.update();
        shelf
    }

    pub(super) fn add(&self, song: Song) -> u64 {
        self.blocks.push(Entry::Song(Box::new(song)))
    }

    pub(super) fn update(&self) -> u64 {
        self.index.update(&|| false, &|_| {}).unwrap()
    }

    /// As after a restart.
    pub(super) fn reopened(self) -> Self {
        let Self { folder, blocks, index } = self;
        drop(index);
        let index = Index::new(&folder.path().join("search"), &NETWORK, blocks.clone());
        Self { folder, blocks, index }
    }

    pub(super) fn search(&self, query: &str) -> Hits {
        self.index.search(query, Page { offset: 0, limit: 500 }, None).unwrap()
    }

    /// Ledger indexes of what is found, best first.
    pub(super) fn found(&self, query: &str) -> Vec<u64> {
        self.search(query).songs.iter().map(|hit| hit.song.index).collect()
    }
}

pub(super) fn song([title, artist, album, genre]: [&str; 4]) -> Song {
    Song {
        title: title.to_owned(),
        artist: artist.to_owned(),
        album: album.to_owned(),
        genre: genre.to_owned(),
        duration_ms: 1_000,
        ..Song::default()
    }
}
