//! What was heard: counts for each song, and a journal of the last plays.

use bincode::{Decode, Encode};
use redb::{ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction};

use super::{
    Result,
    codec::{decode, encode},
    error::Fault,
    store::Listener,
};

/// Song to [`SongPlays`].
const COUNTS: TableDefinition<u64, &[u8]> = TableDefinition::new("plays");
/// Count, last time and song: the order of what is heard most.
const BY_COUNT: TableDefinition<(u64, u64, u64), ()> = TableDefinition::new("plays by count");
/// Last time and song: the order of what was heard last.
const BY_TIME: TableDefinition<(u64, u64), ()> = TableDefinition::new("plays by time");
/// A number that grows, to [`Play`].
const PLAYS: TableDefinition<u64, &[u8]> = TableDefinition::new("journal");

/// Songs with a count. Beyond that the one that was heard longest ago is forgotten.
pub const PLAYED_SONGS: u64 = 200_000;
/// Plays in the journal. Beyond that the oldest is forgotten.
pub const JOURNAL: u64 = 10_000;
/// Most entries of one answer.
pub const PAGE: usize = 10_000;

/// How a song came to be heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum How {
    /// It is a file of this library.
    Library,
    /// It came from peers that were connected directly.
    Direct,
    /// It came from peers through a relay.
    Relayed,
    /// An app says so, and nothing else is known of it.
    App,
}

impl How {
    /// Its name for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Library => "library",
            Self::Direct => "direct",
            Self::Relayed => "relayed",
            Self::App => "app",
        }
    }
}

/// A play.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Play {
    /// When it was.
    pub time_ms: u64,
    /// Which song: the ledger index.
    pub song: u64,
    /// How much of it was heard.
    pub heard_ms: u64,
    /// How long the song is.
    pub duration_ms: u64,
    /// Receipts that were signed for it.
    pub receipts: u32,
    /// What it cost, in the smallest units.
    pub cost_units: u64,
    /// How it came to be heard.
    pub how: How,
}

/// How often a song was heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct SongPlays {
    /// How often.
    pub count: u64,
    /// When it was last.
    pub last_ms: u64,
}

pub(super) fn make(write: &WriteTransaction) -> std::result::Result<(), Fault> {
    write.open_table(COUNTS)?;
    write.open_table(BY_COUNT)?;
    write.open_table(BY_TIME)?;
    write.open_table(PLAYS)?;
    Ok(())
}

struct Counts<'t> {
    counts: Table<'t, u64, &'static [u8]>,
    by_count: Table<'t, (u64, u64, u64), ()>,
    by_time: Table<'t, (u64, u64), ()>,
}

impl<'t> Counts<'t> {
    fn open(write: &'t WriteTransaction) -> std::result::Result<Self, Fault> {
        Ok(Self {
            counts: write.open_table(COUNTS)?,
            by_count: write.open_table(BY_COUNT)?,
            by_time: write.open_table(BY_TIME)?,
        })
    }

    /// Takes a song out; gives what was known of it.
    fn take(&mut self, song: u64) -> std::result::Result<SongPlays, Fault> {
        let Some(old) = self.counts.remove(song)?.map(|bytes| decode("a count", bytes.value())) else {
            return Ok(SongPlays::default());
        };
        let old: SongPlays = old?;
        self.by_count.remove((old.count, old.last_ms, song))?;
        self.by_time.remove((old.last_ms, song))?;
        Ok(old)
    }

    fn add(&mut self, song: u64, time_ms: u64, most: u64) -> std::result::Result<(), Fault> {
        let old = self.take(song)?;
        while self.counts.len()? >= most {
            let Some(oldest) = self.by_time.first()?.map(|(key, _)| key.value().1) else { break };
            self.take(oldest)?;
        }
        let new = SongPlays { count: old.count.saturating_add(1), last_ms: old.last_ms.max(time_ms) };
        self.counts.insert(song, &encode("a count", &new)?[..])?;
        self.by_count.insert((new.count, new.last_ms, song), ())?;
        self.by_time.insert((new.last_ms, song), ())?;
        Ok(())
    }
}

impl Listener {
    /// Writes down a play.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn played(&self, play: &Play) -> Result<()> {
        self.played_within(play, PLAYED_SONGS, JOURNAL)
    }

    fn played_within(&self, play: &Play, songs: u64, journal: u64) -> Result<()> {
        self.write(|write| {
            Counts::open(write)?.add(play.song, play.time_ms, songs)?;
            let mut plays = write.open_table(PLAYS)?;
            let next = plays.last()?.map_or(0, |(key, _)| key.value().saturating_add(1));
            while plays.len()? >= journal {
                plays.pop_first()?;
            }
            plays.insert(next, &encode("a play", play)?[..])?;
            Ok(())
        })
    }

    /// How often each of these songs was heard.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn plays_of(&self, songs: &[u64]) -> Result<Vec<SongPlays>> {
        self.read(|read| {
            let table = read.open_table(COUNTS)?;
            let look = |song: &u64| match table.get(*song)? {
                Some(bytes) => decode("a count", bytes.value()),
                None => Ok(SongPlays::default()),
            };
            songs.iter().map(look).collect()
        })
    }

    /// The songs that are heard most often, from `offset` on, at most `limit` and [`PAGE`].
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn most_played(&self, offset: usize, limit: usize) -> Result<Vec<(u64, SongPlays)>> {
        self.read(|read| {
            let mut found = Vec::new();
            for entry in read.open_table(BY_COUNT)?.iter()?.rev().skip(offset).take(limit.min(PAGE)) {
                let (count, last_ms, song) = entry?.0.value();
                found.push((song, SongPlays { count, last_ms }));
            }
            Ok(found)
        })
    }

    /// The songs that were heard last, the newest first, from `offset` on, at most `limit` and [`PAGE`].
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn last_played(&self, offset: usize, limit: usize) -> Result<Vec<(u64, SongPlays)>> {
        self.read(|read| {
            let counts = read.open_table(COUNTS)?;
            let mut found = Vec::new();
            for entry in read.open_table(BY_TIME)?.iter()?.rev().skip(offset).take(limit.min(PAGE)) {
                let (_, song) = entry?.0.value();
                let bytes = counts.get(song)?.ok_or(Fault::Record("a count"))?;
                found.push((song, decode("a count", bytes.value())?));
            }
            Ok(found)
        })
    }

    /// The plays before one (all: `None`), the newest first, each with its number; at most `limit` and [`PAGE`].
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn journal(&self, before: Option<u64>, limit: usize) -> Result<Vec<(u64, Play)>> {
        self.read(|read| {
            let mut found = Vec::new();
            let plays = read.open_table(PLAYS)?;
            for entry in plays.range(..before.unwrap_or(u64::MAX))?.rev().take(limit.min(PAGE)) {
                let (number, bytes) = entry?;
                found.push((number.value(), decode("a play", bytes.value())?));
            }
            Ok(found)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::store::tests::{fresh, reopen},
        *,
    };

    fn play(song: u64, time_ms: u64) -> Play {
        let (receipts, cost_units) = (2, 300);
        Play { time_ms, song, heard_ms: 3, duration_ms: 4, receipts, cost_units, how: How::Relayed }
    }

    fn songs(found: &[(u64, SongPlays)]) -> Vec<u64> {
        found.iter().map(|(song, _)| *song).collect()
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(encode("a play", &play(7, 1)).unwrap(), [1, 1, 7, 3, 4, 2, 251, 44, 1, 2]);
        assert_eq!(encode("a count", &SongPlays { count: 5, last_ms: 9 }).unwrap(), [1, 5, 9]);
        for (how, byte) in [(How::Library, 0), (How::Direct, 1), (How::Relayed, 2), (How::App, 3)] {
            assert_eq!(encode("how", &how).unwrap(), [1, byte]);
        }
    }

    #[test]
    fn counts_and_orders() {
        let (directory, listener) = fresh();
        for (song, time) in [(1, 10), (2, 20), (1, 30), (3, 40), (2, 50), (1, 5)] {
            listener.played(&play(song, time)).unwrap();
        }
        drop(listener);
        let listener = reopen(&directory);
        let plays = listener.plays_of(&[1, 2, 3, 4]).unwrap();
        // A play that an app tells of late does not make the song older.
        assert_eq!(plays[0], SongPlays { count: 3, last_ms: 30 });
        assert_eq!(plays[1], SongPlays { count: 2, last_ms: 50 });
        assert_eq!(plays[3], SongPlays::default());
        assert_eq!(songs(&listener.most_played(0, 9).unwrap()), [1, 2, 3]);
        assert_eq!(songs(&listener.most_played(1, 1).unwrap()), [2]);
        assert_eq!(songs(&listener.last_played(0, 9).unwrap()), [2, 3, 1]);
        assert_eq!(listener.last_played(2, 9).unwrap(), [(1, plays[0])]);
        let journal = listener.journal(None, 2).unwrap();
        assert_eq!(journal, [(5, play(1, 5)), (4, play(2, 50))]);
        assert_eq!(listener.journal(Some(4), 9).unwrap().len(), 4);
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let (_directory, listener) = fresh();
        for time in 0..10 {
            listener.played_within(&play(time % 5, time), 3, 4).unwrap();
        }
        assert_eq!(songs(&listener.last_played(0, 99).unwrap()), [4, 3, 2]);
        assert_eq!(songs(&listener.most_played(0, 99).unwrap()).len(), 3);
        assert_eq!(listener.plays_of(&[0]).unwrap(), [SongPlays::default()]);
        let numbers: Vec<u64> =
            listener.journal(None, 99).unwrap().into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, [9, 8, 7, 6]);
    }
}
