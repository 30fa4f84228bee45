//! Songs of ledger blocks, each read once: who comes and goes changes what is listed, not what the blocks say.

use std::{collections::HashMap, sync::Arc};

use antiphon_ledger::{Ledger, ReadError};
use antiphon_proto::{
    SongId,
    wire::{Block, block::Body},
};

use super::{
    Folder,
    shelf::{MAX_TRACKS, Row},
    song::{Names, Song, Variant, file},
};

/// Blocks that one listing reads: as many variants as songs. Who vouches for more variants than songs lists the same
/// songs again and again.
pub const MAX_FILES: usize = 2 * MAX_TRACKS;

/// Where blocks are read from.
pub trait Blocks: Send + Sync {
    /// The block at an index; `None` at the end.
    ///
    /// # Errors
    /// When it cannot be read.
    fn block(&self, index: u64) -> Result<Option<Block>, ReadError>;

    /// Ledger index of the song of this id.
    ///
    /// # Errors
    /// When it cannot be read.
    fn song_index(&self, id: &SongId) -> Result<Option<u64>, ReadError>;
}

impl Blocks for Ledger {
    fn block(&self, index: u64) -> Result<Option<Block>, ReadError> {
        self.parsed(index)
    }

    fn song_index(&self, id: &SongId) -> Result<Option<u64>, ReadError> {
        self.by_song_id(id)
    }
}

/// What a block is to a listing.
#[derive(Debug, Clone)]
enum Entry {
    Song(Arc<Song>),
    Variant(Arc<Variant>),
    /// Neither, and never will be.
    Nothing,
}

/// An entry and the folders that list it, as bits. What no folder lists is forgotten, so that no more is kept than the
/// shelves hold.
#[derive(Debug)]
struct Kept {
    entry: Entry,
    folders: u8,
}

/// What is listed, before it is put in order.
#[derive(Debug, Default)]
pub struct Listing {
    /// One for each song, by ledger index.
    pub rows: Vec<Row>,
    /// Some indexes are beyond the end of the ledger: it pays to look again when that has grown.
    pub ahead: bool,
}

/// Why there is no listing.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The ledger.
    #[error("the ledger cannot be read: {0}")]
    Ledger(#[from] ReadError),
    /// Told to stop.
    #[error("stopped")]
    Stopped,
}

/// Songs that shelves list.
pub struct Rows {
    blocks: Arc<dyn Blocks>,
    names: Names,
    kept: HashMap<u64, Kept>,
}

impl Rows {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(blocks: Arc<dyn Blocks>) -> Self {
        Self { blocks, names: Names::default(), kept: HashMap::new() }
    }

    /// The songs of these blocks (their own or their variants'), which ascend. `sources` says how many peers serve any
    /// of the blocks of one song. `stop` is asked at each block.
    ///
    /// # Errors
    /// When the ledger cannot be read, or when told to stop.
    pub fn list(
        &mut self,
        folder: Folder,
        indexes: impl IntoIterator<Item = u64>,
        sources: &dyn Fn(&[u64]) -> u32,
        stop: &dyn Fn() -> bool,
    ) -> Result<Listing, RowsError> {
        let mark = folder.bit();
        for kept in self.kept.values_mut() {
            kept.folders &= !mark;
        }
        let listing = self.list_marked(mark, indexes, sources, stop);
        self.kept.retain(|_, kept| kept.folders != 0);
        self.kept.shrink_to(self.kept.len());
        listing
    }

    /// Lets go of names that only forgotten songs had. Worth it when the last shelf that had them is gone.
    pub fn forget(&mut self) {
        self.names.forget();
    }

    fn list_marked(
        &mut self,
        mark: u8,
        indexes: impl IntoIterator<Item = u64>,
        sources: &dyn Fn(&[u64]) -> u32,
        stop: &dyn Fn() -> bool,
    ) -> Result<Listing, RowsError> {
        // Song and file.
        let mut pairs: Vec<(u64, u64)> = Vec::new();
        let mut ahead = false;
        for index in indexes {
            if stop() {
                return Err(RowsError::Stopped);
            }
            if pairs.len() >= MAX_FILES {
                break;
            }
            match self.entry(index, mark)? {
                Some(Entry::Song(_)) => pairs.push((index, index)),
                Some(Entry::Variant(variant)) => pairs.push((variant.song, index)),
                Some(Entry::Nothing) => {}
                None => ahead = true,
            }
        }
        // A song's own file comes before its variants, which are later blocks.
        pairs.sort_unstable();
        let mut rows = Vec::with_capacity(pairs.len().min(MAX_TRACKS));
        let mut files = Vec::new();
        for run in pairs.chunk_by(|one, other| one.0 == other.0) {
            // One more tells the shelf that there are more.
            if rows.len() > MAX_TRACKS || stop() {
                break;
            }
            let Some((song, first)) = run.first().copied() else { continue };
            let Some(Entry::Song(found)) = self.entry(song, mark)? else { continue };
            let other = match self.kept.get(&first).map(|kept| &kept.entry) {
                Some(Entry::Variant(variant)) => Some(variant.clone()),
                _ => None,
            };
            files.clear();
            files.extend(run.iter().map(|(_, file)| *file));
            rows.push(Row { song: found, other, sources: sources(&files) });
        }
        Ok(Listing { rows, ahead })
    }

    fn entry(&mut self, index: u64, mark: u8) -> Result<Option<Entry>, ReadError> {
        if let Some(kept) = self.kept.get_mut(&index) {
            kept.folders |= mark;
            return Ok(Some(kept.entry.clone()));
        }
        let Some(block) = self.blocks.block(index)? else { return Ok(None) };
        let entry = match block.body {
            Some(Body::Song(song)) => Entry::Song(Arc::new(self.names.song(index, block.time_ms, &song))),
            Some(Body::Variant(variant)) => {
                let id = <[u8; 32]>::try_from(&variant.song_id[..]).map(SongId);
                match id.ok().map(|id| self.blocks.song_index(&id)).transpose()?.flatten() {
                    Some(song) => {
                        let file = file(index, &variant.content_hash, variant.bytes, variant.container);
                        Entry::Variant(Arc::new(Variant { song, file }))
                    }
                    None => Entry::Nothing,
                }
            }
            _ => Entry::Nothing,
        };
        self.kept.insert(index, Kept { entry: entry.clone(), folders: mark });
        Ok(Some(entry))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use antiphon_proto::wire;

    use super::*;

    /// Blocks in memory; of a variant the song's id holds its index.
    #[derive(Default)]
    pub(crate) struct Listed {
        pub(crate) bodies: std::sync::Mutex<Vec<Body>>,
        pub(crate) reads: AtomicUsize,
    }

    impl Listed {
        pub(crate) fn of(bodies: Vec<Body>) -> Arc<Self> {
            Arc::new(Self { bodies: bodies.into(), reads: AtomicUsize::new(0) })
        }
    }

    impl Blocks for Listed {
        fn block(&self, index: u64) -> Result<Option<Block>, ReadError> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let body = self.bodies.lock().unwrap().get(usize::try_from(index).unwrap()).cloned();
            Ok(body.map(|body| Block { index, time_ms: 100 + index, body: Some(body), ..Block::default() }))
        }

        fn song_index(&self, id: &SongId) -> Result<Option<u64>, ReadError> {
            Ok(Some(u64::from(id.0[0])))
        }
    }

    pub(crate) fn song(title: &str) -> Body {
        let content_hash = blake3::hash(title.as_bytes()).as_bytes().to_vec();
        let (title, artist) = (title.to_owned(), "Somebody".to_owned());
        Body::Song(wire::Song { title, artist, content_hash, ..wire::Song::default() })
    }

    fn variant(song: u8, content: u8) -> Body {
        let (song_id, content_hash) = (vec![song; 32], vec![content; 32]);
        Body::Variant(wire::Variant { song_id, content_hash, bytes: 7, ..wire::Variant::default() })
    }

    fn list(rows: &mut Rows, folder: Folder, indexes: &[u64]) -> Listing {
        let sources = |files: &[u64]| u32::try_from(files.len()).unwrap();
        rows.list(folder, indexes.iter().copied(), &sources, &|| false).unwrap()
    }

    #[test]
    fn variants_lead_to_their_song() {
        let other = Body::Transfer(wire::Transfer::default());
        let blocks = Listed::of(vec![song("a"), song("b"), variant(0, 9), other, variant(1, 8)]);
        let mut rows = Rows::new(blocks.clone());
        let found = list(&mut rows, Folder::Online, &[1, 2, 3, 4, 99]);
        assert!(found.ahead);
        let lines: Vec<(u64, Option<u64>, u32)> = found
            .rows
            .iter()
            .map(|row| (row.song.index(), row.other.as_ref().map(|other| other.file.index), row.sources))
            .collect();
        // Of the second song its own file is there too.
        assert_eq!(lines, [(0, Some(2), 1), (1, None, 2)]);
        assert_eq!(found.rows[0].song.created_ms, 100);
        assert_eq!(found.rows[0].other.as_ref().unwrap().file.content.0, [9; 32]);
    }

    #[test]
    fn blocks_are_read_once_and_forgotten_with_the_last_folder() {
        let blocks = Listed::of(vec![song("a"), song("b")]);
        let mut rows = Rows::new(blocks.clone());
        assert_eq!(list(&mut rows, Folder::Own, &[0]).rows.len(), 1);
        assert_eq!(list(&mut rows, Folder::Online, &[0, 1]).rows.len(), 2);
        assert_eq!(blocks.reads.load(Ordering::Relaxed), 2);
        list(&mut rows, Folder::Online, &[]);
        assert_eq!(rows.kept.len(), 1);
        list(&mut rows, Folder::Own, &[]);
        assert!(rows.kept.is_empty());
        let stopped = rows.list(Folder::Own, [0], &|_| 0, &|| true);
        assert!(matches!(stopped, Err(RowsError::Stopped)));
    }
}
