//! The index on disk: one redb file, some twenty bytes a block.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use antiphon_proto::{BlockHash, NetworkId, PublicKey};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::{
    Found, Seen,
    error::{ExplorerError, Result},
    hashes::{self, HASHES, Tail},
    songs::{self, SONGS},
};

/// Ledger indexes of blocks that are neither songs nor variants.
const OTHERS: TableDefinition<u64, ()> = TableDefinition::new("others");
/// Number of a settlement to index, height, time, plays, receipts, minted, burned, supply after it.
const EPOCHS: TableDefinition<u64, Line> = TableDefinition::new("epochs");
/// `version`; `covered`: blocks that were looked at; `hashed`: of these, blocks whose hashes are on the disk.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// The network whose ledger it is.
const NETWORK: TableDefinition<(), &[u8; 32]> = TableDefinition::new("network");

type Line = (u64, u64, u64, u32, u32, u64, u64, u64);

const VERSION: u64 = 2;
/// Page cache.
const CACHE_BYTES: usize = 1024 * 1024;
/// Entries of one answer.
const PAGE: usize = 1_000;

/// What a settlement has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochLine {
    /// Its number.
    pub number: u64,
    /// Ledger index.
    pub index: u64,
    /// Batch.
    pub height: u64,
    /// Time of the batch, milliseconds since 1970.
    pub time_ms: u64,
    /// Plays that it counts.
    pub plays: u32,
    /// Receipts that it settles.
    pub receipts: u32,
    /// Units that came into being.
    pub minted_units: u64,
    /// Units that were burned.
    pub burned_units: u64,
    /// Units that exist after it.
    pub supply_units: u64,
}

impl EpochLine {
    fn of(number: u64, line: Line) -> Self {
        let (index, height, time_ms, plays, receipts, minted_units, burned_units, supply_units) = line;
        Self { number, index, height, time_ms, plays, receipts, minted_units, burned_units, supply_units }
    }

    const fn value(&self) -> Line {
        (
            self.index,
            self.height,
            self.time_ms,
            self.plays,
            self.receipts,
            self.minted_units,
            self.burned_units,
            self.supply_units,
        )
    }
}

/// The index. Every method blocks on the disk.
pub struct Explorer {
    database: Database,
    tail: Mutex<Tail>,
}

impl Explorer {
    /// Opens the file, or makes it. One that is damaged, of another version or network is made anew.
    ///
    /// # Errors
    /// When none can be made.
    pub fn open(path: &Path, network: &NetworkId) -> Result<Self> {
        match Self::try_open(path, network) {
            Ok(Some(explorer)) => Ok(explorer),
            found => {
                if let Err(error) = found {
                    tracing::warn!(%error, "the explorer's index is made anew");
                }
                let aside: PathBuf = path.with_extension("redb.damaged");
                std::fs::rename(path, aside).map_err(redb::Error::Io)?;
                let made = Self::try_open(path, network)?;
                made.ok_or_else(|| {
                    redb::Error::Corrupted("a new file is of another version".to_owned()).into()
                })
            }
        }
    }

    /// None for a file of another version or network.
    fn try_open(path: &Path, network: &NetworkId) -> Result<Option<Self>> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
        let write = database.begin_write()?;
        {
            write.open_table(OTHERS)?;
            write.open_table(EPOCHS)?;
            write.open_table(HASHES)?;
            write.open_table(SONGS)?;
            let mut meta = write.open_table(META)?;
            let version = meta.get("version")?.map(|version| version.value());
            let mut networks = write.open_table(NETWORK)?;
            let known = networks.get(())?.map(|known| *known.value());
            if version.is_some_and(|version| version != VERSION)
                || known.is_some_and(|known| known != network.0)
            {
                return Ok(None);
            }
            meta.insert("version", VERSION)?;
            networks.insert((), &network.0)?;
        }
        write.commit()?;
        Ok(Some(Self { database, tail: Mutex::default() }))
    }

    /// Blocks that it has looked at.
    ///
    /// # Errors
    /// [`ExplorerError::Database`].
    pub fn covered(&self) -> Result<u64> {
        self.number("covered")
    }

    fn number(&self, name: &str) -> Result<u64> {
        let read = self.database.begin_read()?;
        Ok(read.open_table(META)?.get(name)?.map_or(0, |number| number.value()))
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that the hashes of these blocks are known: those that fill no segment are in memory only.
    pub(super) fn hash_again(
        &self,
        covered: u64,
        hash: &mut dyn FnMut(u64) -> Result<Option<BlockHash>>,
    ) -> Result<()> {
        let hashed = self.number("hashed")?;
        let known = {
            let tail = self.tail();
            (tail.first(), tail.end())
        };
        if known == (hashed, covered) {
            return Ok(());
        }
        let mut tail = Tail::from(hashed);
        for index in hashed..covered {
            let missing = || ExplorerError::Ledger(format!("block {index} is missing"));
            tail.push(&hash(index)?.ok_or_else(missing)?.0);
        }
        *self.tail() = tail;
        Ok(())
    }

    pub(super) fn clear(&self) -> Result<()> {
        let write = self.database.begin_write()?;
        write.delete_table(OTHERS)?;
        write.delete_table(EPOCHS)?;
        write.delete_table(HASHES)?;
        write.delete_table(SONGS)?;
        write.open_table(OTHERS)?;
        write.open_table(EPOCHS)?;
        write.open_table(HASHES)?;
        write.open_table(SONGS)?;
        {
            let mut meta = write.open_table(META)?;
            meta.insert("covered", 0)?;
            meta.insert("hashed", 0)?;
        }
        write.commit()?;
        *self.tail() = Tail::default();
        Ok(())
    }

    /// Adds blocks that follow those before. What fails is done again, with [`Self::hash_again`] first.
    pub(super) fn add(&self, covered: u64, found: &[Seen]) -> Result<()> {
        let mut tail = self.tail();
        let mut write = self.database.begin_write()?;
        // It can be made anew: a power cut may take the last of it.
        write.set_durability(Durability::None)?;
        {
            let (mut others, mut epochs) = (write.open_table(OTHERS)?, write.open_table(EPOCHS)?);
            let (mut hashes, mut songs) = (write.open_table(HASHES)?, songs::More::default());
            let mut meta = write.open_table(META)?;
            for Seen { index, hash, found } in found {
                match found {
                    Found::Song(keys) => songs.add(keys, *index),
                    Found::Variant => {}
                    Found::Other => drop(others.insert(index, ())?),
                    Found::Epoch(line) => {
                        others.insert(index, ())?;
                        epochs.insert(line.number, line.value())?;
                    }
                }
                tail.push(&hash.0);
                if tail.is_full() {
                    tail.write(&mut hashes)?;
                    meta.insert("hashed", tail.first())?;
                }
            }
            songs.write(&mut write.open_table(SONGS)?)?;
            meta.insert("covered", covered)?;
        }
        write.commit()?;
        Ok(())
    }

    /// Blocks below an index that are neither songs nor variants, the newest first, at most [`PAGE`].
    ///
    /// # Errors
    /// [`ExplorerError::Database`].
    pub fn others(&self, below: u64, limit: usize) -> Result<Vec<u64>> {
        let read = self.database.begin_read()?;
        let table = read.open_table(OTHERS)?;
        let found = table.range(..below)?.rev().take(limit.min(PAGE));
        found.map(|entry| Ok(entry?.0.value())).collect()
    }

    /// Blocks that may have this hash, mostly one or none.
    ///
    /// # Errors
    /// [`ExplorerError::Database`].
    pub fn with_hash(&self, hash: &BlockHash) -> Result<Vec<u64>> {
        // Held while the disk is read: a segment must not move there in between.
        let tail = self.tail();
        let read = self.database.begin_read()?;
        hashes::find(&read.open_table(HASHES)?, &tail, &hash.0)
    }

    /// Songs below an index that may name this key, the newest first, at most [`PAGE`].
    ///
    /// # Errors
    /// [`ExplorerError::Database`].
    pub fn songs_of(&self, key: &PublicKey, below: u64, limit: usize) -> Result<Vec<u64>> {
        let read = self.database.begin_read()?;
        songs::find(&read.open_table(SONGS)?, key, below, limit.min(PAGE))
    }

    /// Settlements below a number, the newest first, at most [`PAGE`].
    ///
    /// # Errors
    /// [`ExplorerError::Database`].
    pub fn epochs(&self, below: u64, limit: usize) -> Result<Vec<EpochLine>> {
        let read = self.database.begin_read()?;
        let table = read.open_table(EPOCHS)?;
        let found = table.range(..below)?.rev().take(limit.min(PAGE));
        found
            .map(|entry| {
                let (number, line) = entry?;
                Ok(EpochLine::of(number.value(), line.value()))
            })
            .collect()
    }

    /// The newest settlement.
    ///
    /// # Errors
    /// [`ExplorerError::Database`].
    pub fn last_epoch(&self) -> Result<Option<EpochLine>> {
        Ok(self.epochs(u64::MAX, 1)?.first().copied())
    }

    /// Settlements from the first to the last, evenly, about `points` of them: what a chart shows.
    ///
    /// # Errors
    /// [`ExplorerError::Database`].
    pub fn chart(&self, points: usize) -> Result<Vec<EpochLine>> {
        let Some(last) = self.last_epoch()? else { return Ok(Vec::new()) };
        let read = self.database.begin_read()?;
        let table = read.open_table(EPOCHS)?;
        let step = (last.number / points.clamp(1, PAGE) as u64).max(1);
        let mut chart = Vec::new();
        let mut number = 1;
        while number < last.number {
            if let Some(line) = table.get(number)? {
                chart.push(EpochLine::of(number, line.value()));
            }
            number = number.saturating_add(step);
        }
        chart.push(last);
        Ok(chart)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::hashes::SEGMENT, *};

    fn line(number: u64) -> EpochLine {
        EpochLine {
            number,
            index: 10 * number,
            height: number,
            time_ms: 1_000 * number,
            plays: 3,
            receipts: 4,
            minted_units: 30,
            burned_units: 10,
            supply_units: 20 * number,
        }
    }

    #[test]
    fn what_was_added_is_found_and_another_network_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("explorer.redb");
        let explorer = Explorer::open(&path, &NetworkId([1; 32])).unwrap();
        assert_eq!((explorer.covered().unwrap(), explorer.last_epoch().unwrap()), (0, None));
        let mut found = vec![seen(0, Found::Variant), seen(1, Found::Other)];
        found.extend((1..=50).map(|number| seen(10 * number, Found::Epoch(line(number)))));
        explorer.add(501, &found).unwrap();
        assert_eq!(explorer.covered().unwrap(), 501);
        assert_eq!(explorer.others(21, 10).unwrap(), [20, 10, 1]);
        assert_eq!(explorer.epochs(3, 10).unwrap(), [line(2), line(1)]);
        let chart = explorer.chart(10).unwrap();
        assert_eq!((chart.first(), chart.last(), chart.len()), (Some(&line(1)), Some(&line(50)), 11));
        drop(explorer);
        assert_eq!(Explorer::open(&path, &NetworkId([1; 32])).unwrap().covered().unwrap(), 501);
        assert_eq!(Explorer::open(&path, &NetworkId([2; 32])).unwrap().covered().unwrap(), 0);
        std::fs::write(&path, b"damaged").unwrap();
        let explorer = Explorer::open(&path, &NetworkId([2; 32])).unwrap();
        assert_eq!(explorer.covered().unwrap(), 0);
        explorer.add(5, &[seen(4, Found::Other)]).unwrap();
        explorer.clear().unwrap();
        assert_eq!((explorer.covered().unwrap(), explorer.others(9, 9).unwrap().len()), (0, 0));
    }

    fn hash(index: u64) -> BlockHash {
        BlockHash::of(&index.to_le_bytes())
    }

    fn seen(index: u64, found: Found) -> Seen {
        Seen { index, hash: hash(index), found }
    }

    #[test]
    fn blocks_by_hash_and_songs_by_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("explorer.redb");
        let open = || Explorer::open(&path, &NetworkId([1; 32])).unwrap();
        let explorer = open();
        let (one, other) = (PublicKey([7; 32]), PublicKey([9; 32]));
        let size = 2 * SEGMENT + 777;
        let kind = |index: u64| match index % 3 {
            0 => Found::Song(vec![one]),
            1 => Found::Song(vec![one, other]),
            _ => Found::Other,
        };
        for first in (0..size).step_by(10_000) {
            let end = (first + 10_000).min(size);
            let batch: Vec<Seen> = (first..end).map(|index| seen(index, kind(index))).collect();
            explorer.add(end, &batch).unwrap();
        }
        let check = |explorer: &Explorer| {
            for index in [0, 1, SEGMENT - 1, SEGMENT, 2 * SEGMENT - 1, 2 * SEGMENT, size - 1] {
                assert_eq!(explorer.with_hash(&hash(index)).unwrap(), [index]);
            }
            assert!(explorer.with_hash(&hash(size)).unwrap().is_empty());
        };
        check(&explorer);
        assert_eq!(explorer.songs_of(&other, 11, 9).unwrap(), [10, 7, 4, 1]);
        assert_eq!(explorer.songs_of(&one, 4_099, 3).unwrap(), [4_098, 4_096, 4_095]);
        assert_eq!(explorer.songs_of(&one, u64::MAX, PAGE + 1).unwrap().len(), PAGE);
        assert!(explorer.songs_of(&PublicKey([8; 32]), u64::MAX, 9).unwrap().is_empty());
        drop(explorer);
        let explorer = open();
        let mut asked = Vec::new();
        let mut again = |index| {
            asked.push(index);
            Ok(Some(hash(index)))
        };
        explorer.hash_again(size, &mut again).unwrap();
        explorer.hash_again(size, &mut again).unwrap();
        assert_eq!(asked, (2 * SEGMENT..size).collect::<Vec<_>>());
        check(&explorer);
    }
}
