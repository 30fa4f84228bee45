//! The ledger on disk: segments, the truth, and a packed index of them. Nothing here knows the rules of the ledger.
//!
//! A commit is one write and one sync of a segment; its entries go into a layer in memory. Every
//! [`Tuning::fold_blocks`] blocks the layer is folded into the index by a thread of its own, and after a crash it is
//! read again from the segments. Readers look at the layers, then at the index.

pub(crate) mod files;
mod index;
mod layer;
mod load;
mod packed;
mod record;
mod segments;
mod tip;
mod walk;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
    thread::JoinHandle,
};

use antiphon_proto::{
    ContentHash, SongId,
    wire::{Block, Song, block},
};

use self::{
    index::{Index, IndexError},
    layer::{Keys, Layer, Table, first_8},
    packed::{INDEX_LIMIT, KeyEntry, Location},
    record::{Kind, RECORD_HEADER_BYTES},
    segments::{CommitError, Place, SEGMENT_BYTES, Segments, damage},
    walk::START,
};
pub(crate) use self::{
    segments::{Tail, read_up_to},
    tip::Tip,
    walk::{RawBatch, Step, Walker},
};
use crate::{
    error::{AppendError, Fault, ReadError},
    ledger::song_at,
    state::{ContentEntry, Entry},
    tokens::StateKey,
};

/// Sizes that only tests change.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    /// Bytes at which a new segment is begun.
    pub segment_bytes: u64,
    /// Blocks after which the layer in memory is folded into the index. More is faster and costs memory (about
    /// 150 B a block) and time at the next start after a crash.
    pub fold_blocks: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { segment_bytes: SEGMENT_BYTES, fold_blocks: 16_384 }
    }
}

/// Layers' worth of blocks that may wait in memory for a fold; then commits wait.
const LAYERS_WAITING: usize = 4;
/// Entries with one key that are compared with their blocks. Content keys are secret and song ids are hashes:
/// nobody can make two agree without 2^32 tries, or nine without more work than there is.
const CANDIDATES: usize = 8;

/// A layer that is being folded, and the ledger's end after it.
struct Frozen {
    layer: Layer,
    tip: Tip,
}

/// What is newer than the index.
struct Recent {
    tip: Tip,
    layer: Layer,
    folding: Option<Arc<Frozen>>,
}

/// Segments, index and what is newer. Shared by all readers; one writer holds the [`Tail`].
pub(crate) struct Store {
    segments: Segments,
    index: Arc<Index>,
    recent: Arc<RwLock<Recent>>,
    /// The thread that folds, until it is joined.
    folder: Mutex<Option<JoinHandle<Result<(), IndexError>>>>,
    tuning: Tuning,
}

/// A batch to be stored.
pub(crate) struct NewBatch<'a> {
    pub(crate) first: u64,
    pub(crate) blocks: &'a [Vec<u8>],
    pub(crate) entries: &'a [Option<Entry>],
    /// Entries of the state that it changes.
    pub(crate) state: BTreeMap<StateKey, Vec<u8>>,
    /// The ledger's end after it; [`Tip::end`] is filled in by the store.
    pub(crate) tip: Tip,
}

impl Store {
    /// The ledger's end.
    pub(crate) fn tip(&self) -> Tip {
        self.recent.read().unwrap_or_else(PoisonError::into_inner).tip.clone()
    }

    /// Number of blocks.
    pub(crate) fn size(&self) -> u64 {
        self.recent.read().unwrap_or_else(PoisonError::into_inner).tip.position.size
    }

    /// Number of segment files, and bytes of segments and index on disk.
    pub(crate) fn disk(&self) -> (u32, u64) {
        let bytes = self.segments.disk_bytes().saturating_add(self.index.disk_bytes());
        (self.segments.count(), bytes)
    }

    /// Stores a batch durably, then shows it to readers.
    pub(crate) fn commit(&self, tail: &mut Tail, batch: NewBatch<'_>) -> Result<(), AppendError> {
        self.make_room()?;
        let records = batch.blocks.len().saturating_add(1);
        let payloads: usize = batch.blocks.iter().map(Vec::len).sum::<usize>() + batch.tip.seal.len();
        let length = payloads + records * RECORD_HEADER_BYTES;
        if batch.tip.position.size >= INDEX_LIMIT {
            return Err(AppendError::Index("five bytes hold no more indexes".to_owned()));
        }
        if tail.is_halted() {
            return Err(AppendError::Halted);
        }
        let start = match tail.next(&self.segments, length) {
            Some(place) => place,
            None => self.begin_segment(tail, batch.first)?,
        };
        let (bytes, places, end) = self.encode(tail, &batch, start, length);
        tail.commit(&bytes).map_err(|error| match error {
            CommitError::File(error) => AppendError::File(error),
            CommitError::Halted => AppendError::Halted,
        })?;
        let tip = Tip { end, ..batch.tip };
        self.show(batch.entries, batch.state, &places, tip);
        Ok(())
    }

    fn begin_segment(&self, tail: &mut Tail, first: u64) -> Result<Place, AppendError> {
        let begun = self.segments.create(first).map_err(AppendError::File).and_then(|segment| {
            let opened = Tail::open(&self.segments, segment, START.into());
            opened.map(|tail| (segment, tail)).map_err(|error| match error {
                crate::error::OpenError::File(error) => AppendError::File(error),
                other => AppendError::Index(other.to_string()),
            })
        });
        match begun {
            Ok((segment, new)) => {
                *tail = new;
                Ok(Place { segment, offset: START })
            }
            Err(error) => {
                // A segment that may be there counts when the ledger is opened next: the one before it must not grow.
                if self.segments.may_exist(first) {
                    tail.halt();
                }
                Err(error)
            }
        }
    }

    /// The batch's records, their places, and where they end.
    fn encode(
        &self,
        tail: &Tail,
        batch: &NewBatch<'_>,
        start: Place,
        length: usize,
    ) -> (Vec<u8>, Vec<Place>, Place) {
        let salt = tail.salt(&self.segments);
        let mut bytes = Vec::with_capacity(length);
        // The tail has checked that the batch ends below the segment's size, which is far below 4 GiB.
        let place = |bytes: &Vec<u8>| {
            let more = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            Place { segment: start.segment, offset: start.offset.saturating_add(more) }
        };
        let mut places = Vec::with_capacity(batch.blocks.len());
        for (block, index) in batch.blocks.iter().zip(batch.first..) {
            places.push(place(&bytes));
            record::push(&mut bytes, &salt, Kind::Block(index), block);
        }
        record::push(&mut bytes, &salt, Kind::Seal(batch.tip.position.size), &batch.tip.seal);
        let end = place(&bytes);
        (bytes, places, end)
    }

    fn show(
        &self,
        entries: &[Option<Entry>],
        state: BTreeMap<StateKey, Vec<u8>>,
        places: &[Place],
        tip: Tip,
    ) {
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        recent.layer.state.extend(state);
        for (position, (entry, place)) in entries.iter().zip(places).enumerate() {
            let keys = entry
                .as_ref()
                .map(|entry| Keys::of(entry, recent.layer.end(), self.index.content_key(&entry.content)));
            recent.layer.push(Location { place: *place, starts_batch: position == 0 }, keys);
        }
        recent.tip = tip;
    }

    /// Waits when too much waits for a fold already.
    fn make_room(&self) -> Result<(), AppendError> {
        let waiting = self.recent.read().unwrap_or_else(PoisonError::into_inner).layer.len();
        if waiting >= self.tuning.fold_blocks.saturating_mul(LAYERS_WAITING) {
            self.fold_now().map_err(|error| AppendError::Index(error.to_string()))?;
        }
        Ok(())
    }

    /// Begins a fold when there is enough to fold and none is running.
    pub(crate) fn maintain(&self) {
        let mut folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        if folder.as_ref().is_some_and(|folder| !folder.is_finished()) {
            return;
        }
        if let Some(Err(error)) = folder.take().and_then(|folder| folder.join().ok()) {
            tracing::error!(%error, "the index was not written; it is tried again");
        }
        let Some(frozen) = self.freeze(self.tuning.fold_blocks) else { return };
        let (index, recent) = (Arc::clone(&self.index), Arc::clone(&self.recent));
        let thread = std::thread::Builder::new().name("ledger-fold".to_owned());
        // Without a thread the layer stays where it is, and the next call tries again.
        match thread.spawn(move || fold(&index, &recent, &frozen)) {
            Ok(handle) => *folder = Some(handle),
            Err(error) => tracing::error!(%error, "no thread for the index"),
        }
    }

    /// Folds everything, and waits for it.
    pub(crate) fn fold_now(&self) -> Result<(), IndexError> {
        let mut folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = folder.take() {
            let _ = folder.join();
        }
        // Twice: what the thread failed at, then what came since.
        for _ in 0..2 {
            let Some(frozen) = self.freeze(1) else { break };
            fold(&self.index, &self.recent, &frozen)?;
        }
        Ok(())
    }

    /// What is to be folded next: what an earlier fold left, else the layer when it holds at least `least` blocks.
    fn freeze(&self, least: usize) -> Option<Arc<Frozen>> {
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        if recent.folding.is_none() && recent.layer.len() >= least {
            let empty = Layer::new(recent.layer.end());
            let layer = std::mem::replace(&mut recent.layer, empty);
            recent.folding = Some(Arc::new(Frozen { layer, tip: recent.tip.clone() }));
        }
        recent.folding.clone()
    }

    /// A failure of the index while in use: the next start builds it again.
    fn index_failed(&self, error: &IndexError) -> ReadError {
        self.index.condemn();
        ReadError::Index(error.to_string())
    }

    fn location(&self, index: u64) -> Result<Option<Location>, ReadError> {
        {
            let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
            if index >= recent.tip.position.size {
                return Ok(None);
            }
            let frozen = recent.folding.as_ref().and_then(|frozen| frozen.layer.location(index));
            if let Some(location) = recent.layer.location(index).or(frozen) {
                return Ok(Some(location));
            }
        }
        match self.index.location(index) {
            Ok(Some(location)) => Ok(Some(location)),
            Ok(None) => Err(self.index_failed(&IndexError(format!("block {index} is not in it")))),
            Err(error) => Err(self.index_failed(&error)),
        }
    }

    /// Canonical bytes of a block; `None` at the end of the ledger.
    pub(crate) fn block(&self, index: u64) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(Location { place, .. }) = self.location(index)? else { return Ok(None) };
        match self.segments.read(place)? {
            (Kind::Block(got), bytes) if got == index => Ok(Some(bytes)),
            // The record is whole and not the one that the index means.
            _ => Err(self.index_failed(&IndexError(format!("block {index} is not where it says")))),
        }
    }

    /// A block, decoded; `None` at the end of the ledger.
    pub(crate) fn parsed(&self, index: u64) -> Result<Option<Block>, ReadError> {
        let Some(bytes) = self.block(index)? else { return Ok(None) };
        match Block::parse(&bytes) {
            Ok(block) => Ok(Some(block)),
            Err(error) => Err(self.damaged_at(index, format!("block {index}: {error}"))),
        }
    }

    /// Damage at a block's place.
    pub(crate) fn damaged_at(&self, index: u64, what: String) -> ReadError {
        let place = match self.location(index) {
            Ok(Some(location)) => location.place,
            _ => return ReadError::Index(what),
        };
        match self.segments.get(place.segment) {
            Some(segment) => damage(&segment.path, place.offset.into(), what).into(),
            None => ReadError::Index(what),
        }
    }

    /// At most `most` entries of a table from `from` to `to`, both included, ascending.
    fn range(
        &self,
        table: Table,
        from: KeyEntry,
        to: KeyEntry,
        most: usize,
    ) -> Result<Vec<KeyEntry>, ReadError> {
        let mut found: BTreeSet<KeyEntry> = BTreeSet::new();
        let size;
        {
            let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
            size = recent.tip.position.size;
            found.extend(recent.layer.range(table, from, to, most));
            if let Some(frozen) = &recent.folding {
                found.extend(frozen.layer.range(table, from, to, most));
            }
        }
        found.extend(self.index.range(table, from, to, most).map_err(|error| self.index_failed(&error))?);
        Ok(found.into_iter().filter(|(_, index)| *index < size).take(most).collect())
    }

    fn with_key(&self, table: Table, key: u64) -> Result<Vec<u64>, ReadError> {
        let found = self.range(table, (key, 0), (key, INDEX_LIMIT - 1), CANDIDATES)?;
        Ok(found.into_iter().map(|(_, index)| index).collect())
    }

    /// The value of an entry of the state.
    pub(crate) fn state(&self, key: &StateKey) -> Result<Option<Vec<u8>>, ReadError> {
        {
            let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
            let frozen = recent.folding.as_ref().and_then(|frozen| frozen.layer.state.get(key));
            if let Some(value) = recent.layer.state.get(key).or(frozen) {
                return Ok((!value.is_empty()).then(|| value.clone()));
            }
        }
        self.index.state(key).map_err(|error| self.index_failed(&error))
    }

    /// At most `most` entries of the state whose keys begin so, behind `after`, ascending by their bytes.
    pub(crate) fn states(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        most: usize,
    ) -> Result<Vec<(StateKey, Vec<u8>)>, ReadError> {
        let mut found: BTreeMap<Vec<u8>, (StateKey, Vec<u8>)> = BTreeMap::new();
        let mut recently: BTreeMap<StateKey, Vec<u8>> = BTreeMap::new();
        {
            let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
            let frozen = recent.folding.iter().flat_map(|frozen| &frozen.layer.state);
            for (key, value) in frozen.chain(&recent.layer.state) {
                let bytes = key.to_bytes();
                if bytes.starts_with(prefix) && after.is_none_or(|after| &bytes[..] > after) {
                    recently.insert(key.clone(), value.clone());
                }
            }
        }
        // Some of what the index has may be gone since.
        let stored = self.index.states(prefix, after, most.saturating_add(recently.len()));
        for (key, value) in stored.map_err(|error| self.index_failed(&error))? {
            found.insert(key.to_bytes(), (key, value));
        }
        for (key, value) in recently {
            if value.is_empty() {
                found.remove(&key.to_bytes());
            } else {
                found.insert(key.to_bytes(), (key, value));
            }
        }
        Ok(found.into_values().take(most).collect())
    }

    /// The first block that holds a file.
    pub(crate) fn content(&self, hash: &ContentHash) -> Result<Option<ContentEntry>, Fault> {
        for index in self.with_key(Table::Contents, self.index.content_key(hash))? {
            let Some(found) = self.parsed(index)? else { continue };
            match found.body {
                Some(block::Body::Song(song)) if song.content_hash == hash.0 => {
                    return Ok(Some(ContentEntry { index, song_index: index, song_id: song.id() }));
                }
                Some(block::Body::Variant(variant)) if variant.content_hash == hash.0 => {
                    let unknown = || self.damaged_at(index, format!("block {index} names no song"));
                    let song_id = variant.song().map_err(|_| unknown())?;
                    let song_index = self.song_index(&song_id)?.ok_or_else(unknown)?;
                    return Ok(Some(ContentEntry { index, song_index, song_id }));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// The block of a song.
    pub(crate) fn song_index(&self, id: &SongId) -> Result<Option<u64>, ReadError> {
        Ok(self.song(id)?.map(|(index, _)| index))
    }

    /// A song and its block.
    pub(crate) fn song(&self, id: &SongId) -> Result<Option<(u64, Song)>, ReadError> {
        for index in self.with_key(Table::Songs, first_8(&id.0))? {
            if let Some(song) = song_at(self, index)?.filter(|song| song.id() == *id) {
                return Ok(Some((index, song)));
            }
        }
        Ok(None)
    }

    /// The id of the song in a block; `None` when it is not a song.
    pub(crate) fn song_id(&self, index: u64) -> Result<Option<SongId>, ReadError> {
        Ok(song_at(self, index)?.map(|song| song.id()))
    }

    /// Songs whose id lies from `from` to `to`, in the order of ids, at most `most`.
    pub(crate) fn songs_between(
        &self,
        from: &SongId,
        to: &SongId,
        most: usize,
    ) -> Result<Vec<(SongId, u64)>, ReadError> {
        let (mut at, last) = ((first_8(&from.0), 0), (first_8(&to.0), INDEX_LIMIT - 1));
        let mut out = Vec::new();
        while out.len() < most {
            let page = self.range(Table::Songs, at, last, most.max(CANDIDATES))?;
            let Some(end) = page.last().copied() else { break };
            for (_, index) in page {
                if let Some(id) = self.song_id(index)?.filter(|id| (from..=to).contains(&id)) {
                    out.push((id, index));
                }
            }
            at = (end.0, end.1.saturating_add(1));
        }
        out.sort_unstable();
        out.truncate(most);
        Ok(out)
    }

    /// Blocks of a song's variants from block `from` on, ascending, at most `most`.
    pub(crate) fn variants(&self, song_index: u64, from: u64, most: usize) -> Result<Vec<u64>, ReadError> {
        let found = self.range(Table::Variants, (song_index, from), (song_index, INDEX_LIMIT - 1), most)?;
        Ok(found.into_iter().map(|(_, index)| index).collect())
    }

    /// The batch that holds a block; `None` at the end of the ledger.
    pub(crate) fn batch(&self, index: u64) -> Result<Option<RawBatch>, ReadError> {
        let Some(mut walker) = self.walk_from(index)? else { return Ok(None) };
        match walker.step()? {
            Step::Batch(batch) => Ok(Some(batch)),
            Step::End(_) | Step::Torn(..) => Err(self.damaged_at(index, "the batch ends early".to_owned())),
        }
    }

    /// A walker from the beginning of the batch that holds a block; `None` at the end of the ledger. It must not be
    /// asked for more than is committed: a batch may be being written.
    pub(crate) fn walk_from(&self, index: u64) -> Result<Option<Walker<'_>>, ReadError> {
        let Some(mut location) = self.location(index)? else { return Ok(None) };
        let mut first = index;
        // A batch holds a few hundred blocks, so this ends soon; block 0 begins one.
        while !location.starts_batch && first > 0 {
            first -= 1;
            let Some(before) = self.location(first)? else { return Ok(None) };
            location = before;
        }
        Ok(Some(Walker::new(&self.segments, location.place, first, 0, true)))
    }

    /// A walker over everything that is committed.
    pub(crate) const fn walk(&self) -> Walker<'_> {
        Walker::new(&self.segments, Place { segment: 0, offset: START }, 0, 0, true)
    }
}

impl Drop for Store {
    /// A fold that runs is let finish: its thread uses files that the next one to open this ledger uses too.
    fn drop(&mut self) {
        if let Some(folder) = self.folder.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = folder.join();
        }
    }
}

fn fold(index: &Index, recent: &RwLock<Recent>, frozen: &Frozen) -> Result<(), IndexError> {
    index.fold(&frozen.layer, &frozen.tip)?;
    recent.write().unwrap_or_else(PoisonError::into_inner).folding = None;
    Ok(())
}

/// Whether a path may hold a ledger already.
pub(crate) fn exists(dir: &Path) -> bool {
    dir.join(load::SEGMENTS).exists()
}
