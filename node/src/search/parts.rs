//! The segments of a commit, opened for questions.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use tantivy::{
    SegmentReader,
    columnar::{Column, StrColumn},
    schema::Field,
};

use super::{
    error::{Result, SearchError},
    schema::{self, number},
    store::{self, Committed},
};

/// What questions are asked of: one commit.
pub(super) struct Snapshot {
    committed: Arc<Committed>,
    /// Opened with the first question, and given up when there are none for a while: dictionaries stay in memory.
    parts: Mutex<Option<Arc<Vec<Part>>>>,
}

impl Snapshot {
    pub(super) fn new(committed: Committed) -> Self {
        Self { committed: Arc::new(committed), parts: Mutex::new(None) }
    }

    pub(super) fn empty() -> Self {
        Self { committed: store::nothing(), parts: Mutex::new(None) }
    }

    /// Blocks that are covered.
    pub(super) fn size(&self) -> u64 {
        self.committed.size
    }

    /// Fields with words, the one that counts least first.
    pub(super) fn fields(&self) -> [Field; 4] {
        self.committed.fields.with_words()
    }

    /// The segments, in the order of the ledger.
    pub(super) fn parts(&self) -> Result<Arc<Vec<Part>>> {
        let mut kept = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(parts) = &*kept {
            return Ok(parts.clone());
        }
        let parts: Result<Vec<Part>> = self
            .committed
            .segments
            .iter()
            .map(|segment| Ok(Part { reader: SegmentReader::open(segment)? }))
            .collect();
        let parts = Arc::new(parts?);
        *kept = Some(parts.clone());
        Ok(parts)
    }

    /// Gives up what was opened.
    pub(super) fn rest(&self) {
        *self.parts.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A segment.
pub(super) struct Part {
    pub(super) reader: SegmentReader,
}

impl Part {
    /// Number of documents.
    pub(super) fn documents(&self) -> u32 {
        self.reader.max_doc()
    }

    /// A column of numbers. Reads it into memory.
    pub(super) fn numbers(&self, name: &str) -> Result<Numbers> {
        Ok(Numbers(self.reader.fast_fields().u64(name)?))
    }

    /// A column of names. Reads it into memory, except for the names.
    pub(super) fn names(&self, name: &str) -> Result<Names> {
        self.reader.fast_fields().str(name)?.map(Names).ok_or(SearchError::Damaged)
    }

    /// The columns that tell where the block of an index is.
    pub(super) fn places(&self) -> Result<Places> {
        Ok(Places {
            index: self.numbers(number::INDEX)?,
            song: self.numbers(number::SONG)?,
            documents: self.documents(),
            at: 0,
        })
    }
}

/// A column of numbers with a value in every document.
pub(super) struct Numbers(Column<u64>);

impl Numbers {
    pub(super) fn of(&self, document: u32) -> u64 {
        self.0.values.get_val(document)
    }
}

/// A column of names with a value in every document.
pub(super) struct Names(StrColumn);

impl Names {
    /// The number of a document's name in the column's dictionary, which is sorted.
    pub(super) fn ordinal(&self, document: u32) -> u32 {
        u32::try_from(self.0.ords().values.get_val(document)).unwrap_or(u32::MAX)
    }

    /// Number of names.
    pub(super) fn len(&self) -> usize {
        self.0.num_terms()
    }

    /// Tells key and name of some ordinals, which ascend.
    pub(super) fn resolve(&self, ordinals: &[u64], tell: &mut dyn FnMut(&str, &str)) -> Result<()> {
        let mut whole = true;
        let found =
            self.0.dictionary().sorted_ords_to_term_cb(ordinals, |entry| {
                match std::str::from_utf8(entry) {
                    Ok(entry) => {
                        let (key, name) = schema::key_and_name(entry);
                        tell(key, name);
                    }
                    Err(_) => whole = false,
                }
            })?;
        if found && whole { Ok(()) } else { Err(SearchError::Damaged) }
    }

    /// The ordinals of all spellings of a name.
    pub(super) fn spellings(&self, key: &str) -> Result<Range<u32>> {
        let mut stream = self.0.dictionary().prefix_range(schema::entries_of(key)).into_stream()?;
        let mut found = 0..0;
        while stream.advance() {
            let ordinal = u32::try_from(stream.term_ord()).map_err(|_| SearchError::Damaged)?;
            if found.is_empty() {
                found.start = ordinal;
            }
            found.end = ordinal.saturating_add(1);
        }
        Ok(found)
    }
}

/// Finds documents by ledger index, which ascends.
pub(super) struct Places {
    index: Numbers,
    song: Numbers,
    documents: u32,
    /// Documents before this one are behind.
    at: u32,
}

impl Places {
    /// Whether the segment ends before this index.
    pub(super) fn ends_before(&self, index: u64) -> bool {
        self.documents.checked_sub(1).is_none_or(|last| self.index.of(last) < index)
    }

    /// The document of a block; `None` when it is not of this segment. Indexes that are asked for ascend.
    pub(super) fn find(&mut self, index: u64) -> Option<u32> {
        // Steps that double, then halves: neighbours are found at once.
        let (mut low, mut step) = (self.at, 1u32);
        let mut high = low;
        while high < self.documents && self.index.of(high) < index {
            low = high.saturating_add(1);
            high = high.saturating_add(step).min(self.documents);
            step = step.saturating_mul(2);
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if self.index.of(middle) < index {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.at = low;
        (low < self.documents && self.index.of(low) == index).then_some(low)
    }

    /// Ledger index of the song that a document is of.
    pub(super) fn song(&self, document: u32) -> u64 {
        self.song.of(document)
    }
}

/// Walks over segments by ledger index, ascending.
pub(super) struct Walk {
    places: Vec<Places>,
    part: usize,
}

impl Walk {
    pub(super) fn new(parts: &[Part]) -> Result<Self> {
        Ok(Self { places: parts.iter().map(Part::places).collect::<Result<_>>()?, part: 0 })
    }

    /// Segment and document of a block. Indexes that are asked for ascend.
    pub(super) fn find(&mut self, index: u64) -> Option<(usize, u32)> {
        while self.places.get(self.part)?.ends_before(index) {
            self.part += 1;
        }
        let document = self.places.get_mut(self.part)?.find(index)?;
        Some((self.part, document))
    }

    /// Ledger index of the song that a document is of.
    pub(super) fn song(&self, (part, document): (usize, u32)) -> u64 {
        self.places.get(part).map_or(u64::MAX, |places| places.song(document))
    }
}
