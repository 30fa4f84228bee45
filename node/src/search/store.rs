//! The index on disk: opened and checked, made anew where that is needed, and added to.
//!
//! Nothing that was committed is changed, segments are only replaced by their sum, and the engine names its files in
//! one small file that is replaced at once: a kill at any moment leaves the last commit. Each commit says up to which
//! block it goes, of which network, and what the last block was.

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tantivy::{
    Index as Engine, IndexSettings, IndexWriter, Segment, SegmentReader,
    indexer::{IndexWriterOptions, NoMergePolicy},
};

use super::{
    blocks::{Blocks, Entry},
    error::{Result, SearchError},
    files::Files,
    merges,
    schema::{self, Fields, number},
};
use crate::system::durable;

/// Version of what is in the index: the schema, the analysis, or the meaning of a column.
pub(super) const VERSION: u32 = 1;
/// Blocks in one commit. What is indexed again after a kill, and what waits in memory for the engine's thread.
pub(super) const BATCH: u64 = 8_192;
/// Blocks between two looks whether to stop.
const LOOK_EVERY: u64 = 256;
/// Memory of the engine's one indexing thread: the least that it takes.
const HEAP_BYTES: usize = 15_000_000;

/// What a commit says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Covers {
    version: u32,
    network: String,
    /// Blocks that were looked at.
    size: u64,
    /// BLAKE3 of the last of them, in hexadecimal.
    head: Option<String>,
}

/// An index that is open.
pub(super) struct Store {
    engine: Engine,
    fields: Fields,
    network: String,
    size: u64,
}

/// The segments of a commit, in the order of the ledger. Their files stay while this lives.
pub(super) struct Committed {
    pub(super) size: u64,
    pub(super) fields: Fields,
    pub(super) segments: Vec<Segment>,
}

impl Store {
    /// Opens the index in `root` when it is whole and belongs to this ledger. Reads every byte of it once.
    pub(super) fn open(root: &Path, network: &str, blocks: &dyn Blocks) -> Option<Self> {
        // The engine panics on some kinds of damage.
        let opened = catch_unwind(AssertUnwindSafe(|| Self::try_open(root, network, blocks)));
        match opened.unwrap_or(Err(SearchError::Damaged)) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "the search index is damaged and is made anew");
                None
            }
        }
    }

    fn try_open(root: &Path, network: &str, blocks: &dyn Blocks) -> Result<Option<Self>> {
        let files = Files::new(root);
        if !Engine::exists(&files).map_err(tantivy::TantivyError::from)? {
            return Ok(None);
        }
        let (schema, fields) = schema::schema();
        let mut engine = Engine::open(files.clone())?;
        let metas = engine.load_metas()?;
        let covers: Option<Covers> =
            metas.payload.as_deref().and_then(|payload| serde_json::from_str(payload).ok());
        let Some(covers) = covers.filter(|covers| covers.version == VERSION && covers.network == network)
        else {
            tracing::info!("the search index is of another version or network and is made anew");
            return Ok(None);
        };
        if engine.schema() != schema
            || covers.size > blocks.size()
            || covers.head != head(blocks, covers.size)?
        {
            tracing::warn!("the search index does not fit the ledger and is made anew");
            return Ok(None);
        }
        for name in metas.list_segment_files() {
            // A segment has no file of what it lacks, such as deletions; what it should have is missed below.
            match files.check(&name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                checked => checked?,
            }
        }
        engine.set_tokenizers(schema::tokenizers());
        let store = Self { engine, fields, network: network.to_owned(), size: covers.size };
        for segment in &store.committed()?.segments {
            whole(segment, fields)?;
        }
        Ok(Some(store))
    }

    /// Throws away what is there and starts an empty index.
    pub(super) fn create(root: &Path, network: &str) -> Result<Self> {
        let failed = |source| SearchError::Folder { path: root.to_owned(), source };
        match fs::remove_dir_all(root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        fs::create_dir(root).map_err(failed)?;
        durable::sync_directory(root.parent().unwrap_or(root)).map_err(failed)?;
        let (schema, fields) = schema::schema();
        let settings =
            IndexSettings { docstore_compress_dedicated_thread: false, ..IndexSettings::default() };
        let mut engine = Engine::create(Files::new(root), schema, settings)?;
        engine.set_tokenizers(schema::tokenizers());
        Ok(Self { engine, fields, network: network.to_owned(), size: 0 })
    }

    /// Blocks that are in the last commit.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The last commit.
    pub(super) fn committed(&self) -> Result<Committed> {
        let mut segments = Vec::new();
        for segment in self.engine.searchable_segments()? {
            let reader = SegmentReader::open(&segment)?;
            segments.push((reader.fast_fields().u64(number::INDEX)?.min_value(), segment));
        }
        segments.sort_by_key(|(first, _)| *first);
        let segments = segments.into_iter().map(|(_, segment)| segment).collect();
        Ok(Committed { size: self.size, fields: self.fields, segments })
    }

    /// Starts adding.
    pub(super) fn writer(&self) -> Result<IndexWriter> {
        let options = IndexWriterOptions::builder()
            .memory_budget_per_thread(HEAP_BYTES)
            .num_worker_threads(1)
            .num_merge_threads(1)
            .build();
        let writer = self.engine.writer_with_options(options)?;
        // Merges are chosen here: the engine's own policy does not keep the order of the ledger.
        writer.set_merge_policy(Box::new(NoMergePolicy));
        Ok(writer)
    }

    /// Adds the next blocks, at most [`BATCH`], and commits them. A writer that is dropped after an error has changed
    /// nothing.
    pub(super) fn add(
        &mut self,
        writer: &mut IndexWriter,
        blocks: &dyn Blocks,
        stop: &dyn Fn() -> bool,
    ) -> Result<()> {
        let end = blocks.size().min(self.size.saturating_add(BATCH));
        for index in self.size..end {
            if index % LOOK_EVERY == 0 && stop() {
                return Err(SearchError::Stopped);
            }
            match blocks.entry(index)? {
                Entry::Song(song) => writer.add_document(self.fields.song(index, &song))?,
                Entry::Variant { song } => writer.add_document(self.fields.variant(index, song))?,
                Entry::Other => continue,
            };
        }
        let covers =
            Covers { version: VERSION, network: self.network.clone(), size: end, head: head(blocks, end)? };
        let mut commit = writer.prepare_commit()?;
        commit.set_payload(&serde_json::to_string(&covers).map_err(io::Error::from)?);
        commit.commit()?;
        self.size = end;
        Ok(())
    }

    /// Merges what is due, newest segments first, until nothing is.
    pub(super) fn merge(&self, writer: &mut IndexWriter) -> Result<()> {
        loop {
            let committed = self.committed()?;
            let documents: Vec<u32> =
                committed.segments.iter().map(|segment| segment.meta().max_doc()).collect();
            let Some(start) = merges::due(&documents) else { return Ok(()) };
            let ids: Vec<_> = committed.segments[start..].iter().map(Segment::id).collect();
            writer.merge(&ids).wait()?;
        }
    }
}

/// Finds files that are missing, and numbers of the list of segments that are not those of the files.
fn whole(segment: &Segment, fields: Fields) -> Result<()> {
    let reader = SegmentReader::open(segment)?;
    for field in fields.with_words() {
        reader.inverted_index(field)?;
    }
    let documents = reader.fast_fields().u64(number::INDEX)?.num_docs();
    if documents == reader.max_doc() { Ok(()) } else { Err(SearchError::Damaged) }
}

/// Hash of the last of so many blocks.
fn head(blocks: &dyn Blocks, size: u64) -> Result<Option<String>> {
    let Some(last) = size.checked_sub(1) else { return Ok(None) };
    Ok(blocks.hash(last)?.map(|hash| data_encoding::HEXLOWER.encode(&hash)))
}

/// The segments of no index.
pub(super) fn nothing() -> Arc<Committed> {
    Arc::new(Committed { size: 0, fields: schema::schema().1, segments: Vec::new() })
}
