//! Places in songs.

use bincode::{Decode, Encode};
use redb::{ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

use super::{
    COMMENT_BYTES, ListenerError, Result, checked,
    codec::{decode, encode},
    error::Fault,
    store::Listener,
};

/// Song to [`Bookmark`].
const MARKS: TableDefinition<u64, &[u8]> = TableDefinition::new("bookmarks");

/// Most bookmarks.
pub const BOOKMARKS: usize = 10_000;

/// A place in a song.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Bookmark {
    /// How far in it.
    pub position_ms: u64,
    /// A remark.
    pub comment: String,
    /// When it was made.
    pub created_ms: u64,
    /// When it was last changed.
    pub changed_ms: u64,
}

pub(super) fn make(write: &WriteTransaction) -> std::result::Result<(), Fault> {
    write.open_table(MARKS)?;
    Ok(())
}

impl Listener {
    /// Sets the bookmark of a song, or moves it.
    ///
    /// # Errors
    /// When there are too many, or the remark is too long.
    pub fn set_bookmark(&self, song: u64, position_ms: u64, comment: &str, now_ms: u64) -> Result<()> {
        let comment = checked("the comment of a bookmark", comment, COMMENT_BYTES)?;
        self.write(|write| {
            let mut table = write.open_table(MARKS)?;
            let old = table.get(song)?.map(|bytes| decode::<Bookmark>("a bookmark", bytes.value()));
            let created_ms = match old {
                Some(old) => old?.created_ms,
                None if table.len()? >= BOOKMARKS as u64 => {
                    return Err(ListenerError::Full { what: "bookmarks", most: BOOKMARKS }.into());
                }
                None => now_ms,
            };
            let mark = Bookmark { position_ms, comment, created_ms, changed_ms: now_ms };
            table.insert(song, &encode("a bookmark", &mark)?[..])?;
            Ok(())
        })
    }

    /// Removes the bookmark of a song; says whether there was one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn remove_bookmark(&self, song: u64) -> Result<bool> {
        self.write(|write| {
            let was = write.open_table(MARKS)?.remove(song)?.is_some();
            Ok(was)
        })
    }

    /// All bookmarks, by song.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn bookmarks(&self) -> Result<Vec<(u64, Bookmark)>> {
        self.read(|read| {
            let mut found = Vec::new();
            for entry in read.open_table(MARKS)?.iter()? {
                let (song, bytes) = entry?;
                found.push((song.value(), decode("a bookmark", bytes.value())?));
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

    #[test]
    fn golden_bytes() {
        let mark = Bookmark { position_ms: 1, comment: "x".into(), created_ms: 2, changed_ms: 3 };
        assert_eq!(encode("x", &mark).unwrap(), [1, 1, 1, b'x', 2, 3]);
    }

    #[test]
    fn bookmarks_come_and_go() {
        let (directory, listener) = fresh();
        listener.set_bookmark(7, 1_000, "here", 10).unwrap();
        listener.set_bookmark(7, 2_000, "", 20).unwrap();
        assert!(listener.set_bookmark(8, 0, &"x".repeat(COMMENT_BYTES + 1), 20).is_err());
        drop(listener);
        let listener = reopen(&directory);
        let mark = Bookmark { position_ms: 2_000, comment: String::new(), created_ms: 10, changed_ms: 20 };
        assert_eq!(listener.bookmarks().unwrap(), [(7, mark)]);
        assert!(listener.remove_bookmark(7).unwrap());
        assert!(!listener.remove_bookmark(7).unwrap());
    }
}
