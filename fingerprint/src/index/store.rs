//! The index on disk: a redb file of runs.
//!
//! Postings are immutable once written, as in a log-structured merge tree: a flush writes the songs in memory as a run
//! (sorted by hash) into each of the 256 partitions, and merges it there with runs that are not much larger.
//! Changing one list in place for each posting would rewrite a page of 4 KiB for each of a song's 64 hashes.
//!
//! | table | key | value |
//! |---|---|---|
//! | `antiphon.index.meta` | `version`, `next`, `songs` | u64 |
//! | `antiphon.index.runs` | partition u8 | CRC-32, then for each run, oldest first: id u32, postings u32, first song u64 |
//! | `antiphon.index.postings` | partition (8 bits), run (26), hash rest (20), part (10) as u64 | a chunk |
//! | `antiphon.index.durations` | ledger index / 256 | see `durations` |
//!
//! Every commit is durable and carries the allocator's state ("quick repair"), so that after a power cut the file opens
//! at once and holds the last flush.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{
    Database, ReadOnlyTable, ReadableDatabase, ReadableTable, Table, TableDefinition, TableHandle,
    WriteTransaction,
};

use super::chunk::{Chunk, Packer, look_up, seal, unpack, unseal};
use super::durations::{Durations, place};
use super::error::IndexError;
use super::merge::{Merged, Source, tail_to_merge};
use super::overlay::Overlay;
use super::slot::{REST_BITS, Slot};

/// Layout and rule together: another hash, another count of hashes or another cap of lists is another version.
const VERSION: u64 = 1;

/// Memory that the engine keeps pages in. A query reads some 200 pages, a flush streams; the system's own page cache
/// does the rest, so more would be memory taken from a small machine twice.
const CACHE_BYTES: usize = 8 << 20;

/// Old postings that a flush may merge for each new one. On average ten are due; this leaves room to catch up,
/// and keeps a flush short when all 256 partitions come due at once.
const MERGE_BUDGET: u64 = 16;

const META: TableDefinition<'static, &str, u64> = TableDefinition::new("antiphon.index.meta");
const RUNS: TableDefinition<'static, u8, &[u8]> = TableDefinition::new("antiphon.index.runs");
const POSTINGS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("antiphon.index.postings");
const DURATIONS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("antiphon.index.durations");

const RUN_BITS: u32 = 26;
const PART_BITS: u32 = 10;
/// Bytes of a run's entry.
const RUN_BYTES: usize = 16;

/// A sorted stretch of postings in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    /// Rises with age: a newer run has a higher one.
    id: u32,
    postings: u32,
    /// No song of the run has a lower ledger index.
    first_key: u64,
}

/// The file and what is known of it.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    db: Database,
    /// By partition, each oldest first.
    runs: Vec<Vec<Run>>,
    next: u64,
    songs: u64,
    /// Partition that the next flush begins with, so that put-off merges take turns.
    turn: u8,
    /// A write is under way or has failed; memory and file may differ.
    unfinished: bool,
}

/// A consistent view for one query.
pub(super) struct Snapshot<'a> {
    runs: &'a [Vec<Run>],
    postings: ReadOnlyTable<u64, &'static [u8]>,
    durations: ReadOnlyTable<u64, &'static [u8]>,
    /// The record of durations read last. Queries ask in rising order.
    latest: Option<(u64, Durations)>,
}

impl Store {
    /// Opens the file, creating it when it is missing or empty.
    pub(super) fn open(path: &Path) -> Result<Self, IndexError> {
        guarded(|| Self::open_unguarded(path)).map_err(|error| error.at(path))
    }

    fn open_unguarded(path: &Path) -> Result<Self, IndexError> {
        let db = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
        let read = db.begin_read()?;
        let tables: Vec<String> =
            read.list_tables().map_err(IndexError::from)?.map(|table| table.name().to_owned()).collect();
        if tables.is_empty() {
            drop(read);
            initialise(&db)?;
        } else if !tables.iter().any(|name| name == META.name()) {
            return Err(IndexError::Foreign("it has other tables".into()));
        }
        let read = db.begin_read()?;
        let meta = read.open_table(META)?;
        let number = |name: &str| Ok::<_, IndexError>(meta.get(name)?.map_or(0, |value| value.value()));
        let found = number("version")?;
        if found != VERSION {
            return Err(IndexError::Version { found, expected: VERSION });
        }
        let (next, songs) = (number("next")?, number("songs")?);
        let table = read.open_table(RUNS)?;
        let mut runs = Vec::with_capacity(256);
        for partition in 0..=u8::MAX {
            runs.push(table.get(partition)?.map_or(Ok(Vec::new()), |value| read_runs(value.value()))?);
        }
        // Both must be there for a query to work.
        read.open_table(POSTINGS)?;
        read.open_table(DURATIONS)?;
        Ok(Self { path: path.into(), db, runs, next, songs, turn: 0, unfinished: false })
    }

    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    pub(super) const fn songs(&self) -> u64 {
        self.songs
    }

    pub(super) fn postings(&self) -> u64 {
        self.runs.iter().flatten().map(|run| u64::from(run.postings)).sum()
    }

    /// Most runs in a partition.
    pub(super) fn longest(&self) -> usize {
        self.runs.iter().map(Vec::len).max().unwrap_or(0)
    }

    pub(super) fn file_bytes(&self) -> Result<u64, IndexError> {
        Ok(std::fs::metadata(&self.path).map_err(|error| IndexError::from(error).at(&self.path))?.len())
    }

    /// Runs `query` on the state of the last flush.
    pub(super) fn read<T>(
        &self,
        query: impl FnOnce(&mut Snapshot<'_>) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        if self.unfinished {
            return Err(IndexError::Unfinished);
        }
        guarded(|| query(&mut self.snapshot()?)).map_err(|error| error.at(&self.path))
    }

    fn snapshot(&self) -> Result<Snapshot<'_>, IndexError> {
        let read = self.db.begin_read()?;
        let (postings, durations) = (read.open_table(POSTINGS)?, read.open_table(DURATIONS)?);
        Ok(Snapshot { runs: &self.runs, postings, durations, latest: None })
    }

    /// Makes the overlay and the watermark durable, in one transaction. Lists keep their first `cap` songs.
    pub(super) fn write(&mut self, overlay: &Overlay, next: u64, cap: usize) -> Result<(), IndexError> {
        if self.unfinished {
            return Err(IndexError::Unfinished);
        }
        self.unfinished = true;
        let songs = self.songs + u64::try_from(overlay.len()).unwrap_or(u64::MAX);
        let runs =
            guarded(|| self.commit(overlay, (next, songs), cap)).map_err(|error| error.at(&self.path))?;
        (self.runs, self.next, self.songs) = (runs, next, songs);
        self.turn = self.turn.wrapping_add(37);
        self.unfinished = false;
        Ok(())
    }

    fn commit(
        &self,
        overlay: &Overlay,
        (next, songs): (u64, u64),
        cap: usize,
    ) -> Result<Vec<Vec<Run>>, IndexError> {
        let mut write = self.db.begin_write()?;
        write.set_quick_repair(true);
        let runs =
            if overlay.len() > 0 { self.write_songs(&write, overlay, cap)? } else { self.runs.clone() };
        {
            let mut meta = write.open_table(META)?;
            meta.insert("next", next)?;
            meta.insert("songs", songs)?;
        }
        write.commit()?;
        Ok(runs)
    }

    fn write_songs(
        &self,
        write: &WriteTransaction,
        overlay: &Overlay,
        cap: usize,
    ) -> Result<Vec<Vec<Run>>, IndexError> {
        write_durations(write, overlay)?;
        let snapshot = self.snapshot()?;
        let mut postings = write.open_table(POSTINGS)?;
        let mut table = write.open_table(RUNS)?;
        let mut runs = self.runs.clone();
        let mut budget = u64::try_from(overlay.postings()).unwrap_or(u64::MAX).saturating_mul(MERGE_BUDGET);
        for step in 0..=u8::MAX {
            let partition = self.turn.wrapping_add(step);
            let Some(list) = runs.get_mut(usize::from(partition)) else { continue };
            let fresh = u64::try_from(overlay.partition(partition).count()).unwrap_or(u64::MAX);
            if fresh == 0 {
                continue;
            }
            let sizes: Vec<u64> = list.iter().map(|run| u64::from(run.postings)).collect();
            let tail = tail_to_merge(&sizes, fresh, budget);
            let merged = list.split_off(list.len().saturating_sub(tail));
            let cost: u64 = merged.iter().map(|run| u64::from(run.postings)).sum();
            budget = budget.saturating_sub(cost);
            let id = merged.last().or(list.last()).map_or(0, |run| run.id + 1);
            list.push(write_run(&mut postings, &snapshot, overlay, (partition, id), &merged, cap)?);
            table.insert(partition, stored_runs(list).as_slice())?;
        }
        Ok(runs)
    }
}

impl Snapshot<'_> {
    /// The first `cap` songs that have the hash, rising, added to `keys`; gives their number.
    pub(super) fn list(&self, slot: Slot, cap: usize, keys: &mut Vec<u64>) -> Result<usize, IndexError> {
        let start = keys.len();
        let runs = self.runs.get(usize::from(slot.partition())).map(Vec::as_slice).unwrap_or_default();
        for run in runs {
            let first = chunk_key(slot.partition(), run.id, 0, 0)?;
            let last = chunk_key(slot.partition(), run.id, slot.rest(), (1 << PART_BITS) - 1)?;
            let mut parts = Vec::new();
            let mut range = self.postings.range(first..=last)?;
            while let Some(entry) = range.next_back() {
                let (at, bytes) = entry?;
                parts.push(look_up(bytes.value(), slot.rest())?);
                // Only a chunk that begins within this very list has an earlier part of it before it.
                if at.value() <= chunk_key(slot.partition(), run.id, slot.rest(), 0)? {
                    break;
                }
            }
            keys.extend(parts.into_iter().rev().flatten());
            if keys.len() - start >= cap {
                break;
            }
        }
        keys.truncate(start + cap);
        Ok(keys.len() - start)
    }

    /// Duration of a song in milliseconds.
    pub(super) fn duration(&mut self, key: u64) -> Result<Option<u32>, IndexError> {
        let (record, low) = place(key);
        if self.latest.as_ref().is_none_or(|(number, _)| *number != record) {
            let Some(stored) = self.durations.get(record)? else { return Ok(None) };
            self.latest = Some((record, Durations::read(stored.value())?));
        }
        Ok(self.latest.as_ref().and_then(|(_, durations)| durations.get(low)))
    }

    /// All postings of a run, rising, a chunk in memory at a time.
    fn run(&self, partition: u8, run: Run) -> Result<Source<'_>, IndexError> {
        let (first, last) = bounds(partition, run.id)?;
        let chunks = self.postings.range(first..=last)?;
        Ok(Box::new(chunks.flat_map(|entry| {
            let postings = entry.map_err(IndexError::from).and_then(|(_, bytes)| unpack(bytes.value()));
            let (postings, error) = match postings {
                Ok(postings) => (postings, None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            postings.into_iter().map(Ok).chain(error)
        })))
    }
}

/// Replaces `old` runs of a partition by one that has their postings and the overlay's.
fn write_run(
    table: &mut Table<'_, u64, &'static [u8]>,
    snapshot: &Snapshot<'_>,
    overlay: &Overlay,
    (partition, id): (u8, u32),
    old: &[Run],
    cap: usize,
) -> Result<Run, IndexError> {
    let first_key = old.first().map(|run| run.first_key).or(overlay.first_key()).unwrap_or(0);
    let mut sources = old.iter().map(|&run| snapshot.run(partition, run)).collect::<Result<Vec<_>, _>>()?;
    sources.push(Box::new(overlay.partition(partition).map(Ok)));
    let mut store = |chunk: Chunk| {
        let key = chunk_key(partition, id, chunk.rest, chunk.part)?;
        table.insert(key, chunk.bytes.as_slice())?;
        Ok::<_, IndexError>(())
    };
    let mut packer = Packer::new(first_key, cap);
    for posting in Merged::new(sources) {
        packer.push(posting?).map_or(Ok(()), &mut store)?;
    }
    let (rest, kept) = packer.finish();
    rest.into_iter().try_for_each(store)?;
    for run in old {
        let (first, last) = bounds(partition, run.id)?;
        table.retain_in(first..=last, |_, _| false)?;
    }
    let postings = u32::try_from(kept).map_err(|_| full("a run has too many postings"))?;
    Ok(Run { id, postings, first_key })
}

fn write_durations(write: &WriteTransaction, overlay: &Overlay) -> Result<(), IndexError> {
    let mut table = write.open_table(DURATIONS)?;
    let mut songs = overlay.durations().peekable();
    while let Some(&(key, _)) = songs.peek() {
        let record = place(key).0;
        let mut durations =
            table.get(record)?.map_or(Ok(Durations::default()), |stored| Durations::read(stored.value()))?;
        while let Some((key, duration_ms)) = songs.next_if(|&(key, _)| place(key).0 == record) {
            durations.push(place(key).1, duration_ms);
        }
        table.insert(record, durations.stored().as_slice())?;
    }
    Ok(())
}

/// Writes the empty tables of a new index.
fn initialise(db: &Database) -> Result<(), IndexError> {
    let mut write = db.begin_write()?;
    write.set_quick_repair(true);
    write.open_table(META)?.insert("version", VERSION)?;
    write.open_table(RUNS)?;
    write.open_table(POSTINGS)?;
    write.open_table(DURATIONS)?;
    Ok(write.commit()?)
}

fn chunk_key(partition: u8, run: u32, rest: u32, part: u32) -> Result<u64, IndexError> {
    if run >= 1 << RUN_BITS || part >= 1 << PART_BITS || rest >= 1 << REST_BITS {
        return Err(full("a run number or a list is too large"));
    }
    let key = (u64::from(partition) << RUN_BITS) | u64::from(run);
    Ok((((key << REST_BITS) | u64::from(rest)) << PART_BITS) | u64::from(part))
}

/// First and last chunk key of a run.
fn bounds(partition: u8, run: u32) -> Result<(u64, u64), IndexError> {
    let last = chunk_key(partition, run, (1 << REST_BITS) - 1, (1 << PART_BITS) - 1)?;
    Ok((chunk_key(partition, run, 0, 0)?, last))
}

fn full(what: &str) -> IndexError {
    IndexError::Damaged(what.into())
}

fn stored_runs(runs: &[Run]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for run in runs {
        bytes.extend(run.id.to_le_bytes());
        bytes.extend(run.postings.to_le_bytes());
        bytes.extend(run.first_key.to_le_bytes());
    }
    seal(&mut bytes);
    bytes
}

fn read_runs(stored: &[u8]) -> Result<Vec<Run>, IndexError> {
    let (entries, rest) = unseal(stored)?.as_chunks::<RUN_BYTES>();
    if !rest.is_empty() {
        return Err(IndexError::Damaged("a list of runs has an impossible length".into()));
    }
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |sum, &byte| (sum << 8) | u64::from(byte));
    let half = |bytes: &[u8]| u32::try_from(number(bytes)).unwrap_or(u32::MAX);
    Ok(entries
        .iter()
        .map(|entry| {
            let (head, first_key) = entry.split_at(8);
            let (id, postings) = head.split_at(4);
            Run { id: half(id), postings: half(postings), first_key: number(first_key) }
        })
        .collect())
}

/// The engine may panic on pages that a failing card has changed. That is a damaged file, not the end of the
/// process.
fn guarded<T>(work: impl FnOnce() -> Result<T, IndexError>) -> Result<T, IndexError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(IndexError::Damaged("its pages contradict one another".into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_never_changes() {
        assert_eq!(chunk_key(0xab, 3, 0x5, 0).unwrap(), 0xab00_0000_c000_1400);
        assert_eq!(bounds(1, 1).unwrap(), (0x0100_0000_4000_0000, 0x0100_0000_7fff_ffff));
        assert!(chunk_key(0, 1 << 26, 0, 0).is_err() && chunk_key(0, 0, 0, 1 << 10).is_err());

        let runs =
            [Run { id: 7, postings: 300, first_key: 1 << 32 }, Run { id: 9, postings: 1, first_key: 2 }];
        let stored = stored_runs(&runs);
        let expected = [7, 0, 0, 0, 44, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
        assert_eq!((stored.len(), &stored[4..20]), (36, &expected[..]));
        assert_eq!(read_runs(&stored).unwrap(), runs);
        assert!(read_runs(&stored[..35]).is_err() && read_runs(&[]).is_err());
    }

    #[test]
    fn a_panic_of_the_engine_is_an_error() {
        let quiet = guarded::<()>(|| panic!("the page is not a leaf"));
        assert!(matches!(quiet, Err(IndexError::Damaged(_))));
    }
}
