//! The index on disk: one redb file, some ten bytes for each block that is no music.

use std::path::{Path, PathBuf};

use antiphon_proto::NetworkId;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::Found;

/// Ledger indexes of blocks that are neither songs nor variants.
const OTHERS: TableDefinition<u64, ()> = TableDefinition::new("others");
/// Number of a settlement to index, height, time, plays, receipts, minted, burned, supply after it.
const EPOCHS: TableDefinition<u64, Line> = TableDefinition::new("epochs");
/// `version`, `covered`.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// The network whose ledger it is.
const NETWORK: TableDefinition<(), &[u8; 32]> = TableDefinition::new("network");

type Line = (u64, u64, u64, u32, u32, u64, u64, u64);

const VERSION: u64 = 1;
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
}

/// Why the index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExplorerError {
    /// The file.
    #[error("the explorer's index: {0}")]
    Database(#[from] redb::Error),
    /// The ledger.
    #[error("the ledger: {0}")]
    Ledger(String),
}

macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for ExplorerError {
            fn from(error: redb::$error) -> Self {
                Self::Database(error.into())
            }
        }
    )*};
}
from_redb!(DatabaseError, TransactionError, TableError, StorageError, CommitError, SetDurabilityError);

type Result<T> = std::result::Result<T, ExplorerError>;

/// The index. Every method blocks on the disk.
pub struct Explorer {
    database: Database,
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
        Ok(Some(Self { database }))
    }

    /// Blocks that it has looked at.
    ///
    /// # Errors
    /// [`ExplorerError::Database`].
    pub fn covered(&self) -> Result<u64> {
        let read = self.database.begin_read()?;
        Ok(read.open_table(META)?.get("covered")?.map_or(0, |covered| covered.value()))
    }

    pub(super) fn clear(&self) -> Result<()> {
        let write = self.database.begin_write()?;
        write.delete_table(OTHERS)?;
        write.delete_table(EPOCHS)?;
        write.open_table(OTHERS)?;
        write.open_table(EPOCHS)?;
        write.open_table(META)?.insert("covered", 0)?;
        write.commit()?;
        Ok(())
    }

    pub(super) fn add(&self, covered: u64, found: &[(u64, Found)]) -> Result<()> {
        let mut write = self.database.begin_write()?;
        // It can be made anew: a power cut may take the last of it.
        write.set_durability(Durability::None)?;
        {
            let (mut others, mut epochs) = (write.open_table(OTHERS)?, write.open_table(EPOCHS)?);
            for (index, found) in found {
                if !matches!(found, Found::Music) {
                    others.insert(index, ())?;
                }
                if let Found::Epoch(line) = found {
                    let value = (
                        line.index,
                        line.height,
                        line.time_ms,
                        line.plays,
                        line.receipts,
                        line.minted_units,
                        line.burned_units,
                        line.supply_units,
                    );
                    epochs.insert(line.number, value)?;
                }
            }
            write.open_table(META)?.insert("covered", covered)?;
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
    use super::*;

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
        let mut found: Vec<(u64, Found)> = vec![(0, Found::Music), (1, Found::Other)];
        found.extend((1..=50).map(|number| (10 * number, Found::Epoch(line(number)))));
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
        explorer.add(5, &[(4, Found::Other)]).unwrap();
        explorer.clear().unwrap();
        assert_eq!((explorer.covered().unwrap(), explorer.others(9, 9).unwrap().len()), (0, 0));
    }
}
