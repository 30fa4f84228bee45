//! Stars and ratings of songs, albums and artists.

use redb::{ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction};

use super::{
    ListenerError, Result,
    codec::{decode, encode},
    error::Fault,
    store::Listener,
};
use crate::music::id::Id;

/// Kind and name, to when it got its star.
const STARRED: TableDefinition<&[u8], &[u8]> = TableDefinition::new("stars");
/// Kind and name, to 1 to 5.
const RATED: TableDefinition<&[u8], &[u8]> = TableDefinition::new("ratings");

/// Most stars.
pub const STARS: usize = 100_000;
/// Most ratings.
pub const RATINGS: usize = 100_000;
/// The best rating.
const BEST: u8 = 5;

/// What has a star.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Songs.
    Song,
    /// Albums.
    Album,
    /// Artists.
    Artist,
}

impl Kind {
    /// First byte of the keys of this kind. Never to be changed.
    const fn byte(self) -> u8 {
        match self {
            Self::Song => 0,
            Self::Album => 1,
            Self::Artist => 2,
        }
    }
}

fn key(id: &Id) -> Vec<u8> {
    let (kind, name): (_, &[u8]) = match id {
        Id::Song(index) => (Kind::Song, &index.to_be_bytes()),
        Id::Album(name) => (Kind::Album, name),
        Id::Artist(name) => (Kind::Artist, name),
    };
    [&[kind.byte()], name].concat()
}

fn id(key: &[u8]) -> std::result::Result<Id, Fault> {
    let fault = Fault::Record("the name of a star");
    let Some((kind, name)) = key.split_first() else { return Err(fault) };
    let id = match kind {
        0 => name.try_into().ok().map(|name| Id::Song(u64::from_be_bytes(name))),
        1 => name.try_into().ok().map(Id::Album),
        2 => name.try_into().ok().map(Id::Artist),
        _ => None,
    };
    id.ok_or(fault)
}

pub(super) fn make(write: &WriteTransaction) -> std::result::Result<(), Fault> {
    write.open_table(STARRED)?;
    write.open_table(RATED)?;
    Ok(())
}

/// Refuses one more than there may be.
fn room(
    table: &Table<'_, &'static [u8], &'static [u8]>,
    what: &'static str,
    most: usize,
) -> std::result::Result<(), Fault> {
    if table.len()? >= most as u64 { Err(ListenerError::Full { what, most }.into()) } else { Ok(()) }
}

impl Listener {
    /// Gives stars. What has one keeps it as it is.
    ///
    /// # Errors
    /// When there are too many; none is given then.
    pub fn star(&self, ids: &[Id], now_ms: u64) -> Result<()> {
        self.write(|write| {
            let mut table = write.open_table(STARRED)?;
            for id in ids {
                let key = key(id);
                if table.get(&key[..])?.is_none() {
                    room(&table, "stars", STARS)?;
                    table.insert(&key[..], &encode("a star", &now_ms)?[..])?;
                }
            }
            Ok(())
        })
    }

    /// Takes stars away.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn unstar(&self, ids: &[Id]) -> Result<()> {
        self.write(|write| {
            let mut table = write.open_table(STARRED)?;
            for id in ids {
                table.remove(&key(id)[..])?;
            }
            Ok(())
        })
    }

    /// When each of these got its star.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn starred_of(&self, ids: &[Id]) -> Result<Vec<Option<u64>>> {
        self.read(|read| {
            let table = read.open_table(STARRED)?;
            let look = |id: &Id| {
                let found = table.get(&key(id)[..])?;
                found.map(|bytes| decode("a star", bytes.value())).transpose()
            };
            ids.iter().map(look).collect()
        })
    }

    /// Everything of a kind that has a star, and since when; the newest first.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn starred(&self, kind: Kind) -> Result<Vec<(Id, u64)>> {
        let mut found = self.read(|read| {
            let table = read.open_table(STARRED)?;
            let (first, after) = ([kind.byte()], [kind.byte() + 1]);
            let mut found = Vec::new();
            for entry in table.range::<&[u8]>(&first[..]..&after[..])? {
                let (key, bytes) = entry?;
                found.push((id(key.value())?, decode("a star", bytes.value())?));
            }
            Ok(found)
        })?;
        found.sort_by_key(|(id, at): &(Id, u64)| (std::cmp::Reverse(*at), *id));
        Ok(found)
    }

    /// Gives a rating of 1 to 5, or takes it away with 0.
    ///
    /// # Errors
    /// Above 5, or when there are too many.
    pub fn rate(&self, of: &Id, rating: u8) -> Result<()> {
        if rating > BEST {
            return Err(ListenerError::Refused("a rating is a number from 0 to 5"));
        }
        self.write(|write| {
            let mut table = write.open_table(RATED)?;
            let key = key(of);
            if rating == 0 {
                table.remove(&key[..])?;
                return Ok(());
            }
            if table.get(&key[..])?.is_none() {
                room(&table, "ratings", RATINGS)?;
            }
            table.insert(&key[..], &encode("a rating", &rating)?[..])?;
            Ok(())
        })
    }

    /// The rating of each of these; 0: none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn ratings_of(&self, ids: &[Id]) -> Result<Vec<u8>> {
        self.read(|read| {
            let table = read.open_table(RATED)?;
            let look = |id: &Id| match table.get(&key(id)[..])? {
                Some(bytes) => decode("a rating", bytes.value()),
                None => Ok(0),
            };
            ids.iter().map(look).collect()
        })
    }

    /// Everything of a kind that has a rating; the best first.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn rated(&self, kind: Kind) -> Result<Vec<(Id, u8)>> {
        let mut found = self.read(|read| {
            let table = read.open_table(RATED)?;
            let (first, after) = ([kind.byte()], [kind.byte() + 1]);
            let mut found = Vec::new();
            for entry in table.range::<&[u8]>(&first[..]..&after[..])? {
                let (key, bytes) = entry?;
                found.push((id(key.value())?, decode("a rating", bytes.value())?));
            }
            Ok(found)
        })?;
        found.sort_by_key(|(id, rating): &(Id, u8)| (std::cmp::Reverse(*rating), *id));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::store::tests::{fresh, reopen},
        *,
    };

    #[test]
    fn golden_bytes() {
        assert_eq!(key(&Id::Song(258)), [0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(key(&Id::Album([7; 16]))[..3], [1, 7, 7]);
        assert_eq!(key(&Id::Artist([7; 16]))[..3], [2, 7, 7]);
        assert_eq!(encode("a star", &1_000u64).unwrap(), [1, 251, 232, 3]);
        assert_eq!(encode("a rating", &5u8).unwrap(), [1, 5]);
        for known in [Id::Song(u64::MAX), Id::Album([255; 16]), Id::Artist([0; 16])] {
            assert_eq!(id(&key(&known)).unwrap(), known);
        }
        for bad in [&[][..], &[0], &[3, 1], &[1; 16]] {
            assert!(id(bad).is_err());
        }
    }

    #[test]
    fn stars_come_and_go() {
        let (directory, listener) = fresh();
        let (artist, album) = (Id::artist("x"), Id::album("x", "y"));
        listener.star(&[Id::Song(1), Id::Song(2), album], 10).unwrap();
        listener.star(&[Id::Song(3), Id::Song(1), artist], 20).unwrap();
        drop(listener);
        let listener = reopen(&directory);
        assert_eq!(
            listener.starred(Kind::Song).unwrap(),
            [(Id::Song(3), 20), (Id::Song(1), 10), (Id::Song(2), 10)]
        );
        assert_eq!(listener.starred(Kind::Album).unwrap(), [(album, 10)]);
        assert_eq!(listener.starred(Kind::Artist).unwrap(), [(artist, 20)]);
        listener.unstar(&[Id::Song(1), Id::Song(9), album]).unwrap();
        assert_eq!(
            listener.starred_of(&[Id::Song(1), Id::Song(2), album, artist]).unwrap(),
            [None, Some(10), None, Some(20)]
        );
    }

    #[test]
    fn ratings_come_and_go() {
        let (_directory, listener) = fresh();
        listener.rate(&Id::Song(1), 3).unwrap();
        listener.rate(&Id::Song(2), 5).unwrap();
        listener.rate(&Id::Song(1), 4).unwrap();
        assert!(listener.rate(&Id::Song(1), 6).is_err());
        assert_eq!(listener.rated(Kind::Song).unwrap(), [(Id::Song(2), 5), (Id::Song(1), 4)]);
        listener.rate(&Id::Song(2), 0).unwrap();
        assert_eq!(listener.ratings_of(&[Id::Song(1), Id::Song(2)]).unwrap(), [4, 0]);
    }
}
