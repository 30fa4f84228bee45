//! Songs that are to be kept and have not come yet.

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::{ListenerError, Result, error::Fault, store::Listener};

/// Number of a download to the ledger index of its song.
const WANTED: TableDefinition<u64, u64> = TableDefinition::new("wanted");

/// Most songs.
pub const WANTED_SONGS: usize = 10_000;

pub(super) fn make(write: &WriteTransaction) -> std::result::Result<(), Fault> {
    write.open_table(WANTED)?;
    Ok(())
}

impl Listener {
    /// Writes down songs that are to be kept, as numbers of downloads and ledger indexes: all of them or none.
    ///
    /// # Errors
    /// When there would be more than [`WANTED_SONGS`], or they cannot be written.
    pub fn want(&self, songs: &[(u64, u64)]) -> Result<()> {
        self.write(|write| {
            let mut table = write.open_table(WANTED)?;
            for (number, song) in songs {
                table.insert(number, song)?;
            }
            let most = u64::try_from(WANTED_SONGS).unwrap_or(u64::MAX);
            if redb::ReadableTableMetadata::len(&table)? > most {
                return Err(
                    ListenerError::Full { what: "songs that are to be kept", most: WANTED_SONGS }.into()
                );
            }
            Ok(())
        })
    }

    /// This one has come, or nobody wants it any more.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn want_no_more(&self, number: u64) -> Result<()> {
        self.write(|write| {
            write.open_table(WANTED)?.remove(number)?;
            Ok(())
        })
    }

    /// What is to be kept, in the order in which it was asked for.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn wanted(&self) -> Result<Vec<(u64, u64)>> {
        self.read(|read| {
            let table = read.open_table(WANTED)?;
            let all = table.iter()?.map(|entry| entry.map(|(number, song)| (number.value(), song.value())));
            Ok(all.collect::<std::result::Result<_, _>>()?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::store::tests::{fresh, reopen},
        *,
    };

    #[test]
    fn what_is_wanted_outlives_a_restart() {
        let (directory, listener) = fresh();
        assert!(listener.wanted().unwrap().is_empty());
        listener.want(&[(2, 70), (1, 900), (3, 5)]).unwrap();
        listener.want_no_more(3).unwrap();
        listener.want_no_more(99).unwrap();
        drop(listener);
        assert_eq!(reopen(&directory).wanted().unwrap(), [(1, 900), (2, 70)]);
    }

    #[test]
    fn all_or_none() {
        let (_directory, listener) = fresh();
        let most: Vec<(u64, u64)> = (0..WANTED_SONGS as u64).map(|number| (number, number)).collect();
        listener.want(&most).unwrap();
        assert!(matches!(listener.want(&[(u64::MAX, 1)]), Err(ListenerError::Full { .. })));
        assert_eq!(listener.wanted().unwrap(), most);
        // The same number again is the same download.
        listener.want(&most[..1]).unwrap();
    }
}
