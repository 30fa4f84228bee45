//! Playlists.

use std::{fmt, str::FromStr};

use bincode::{Decode, Encode};
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction};

use super::{
    COMMENT_BYTES, ListenerError, NAME_BYTES, Result, checked,
    codec::{decode, encode},
    error::Fault,
    store::Listener,
};

/// Id to [`Playlist`].
const HEADS: TableDefinition<u64, &[u8]> = TableDefinition::new("playlists");
/// Id to its songs: lists of playlists do not read them.
const SONGS: TableDefinition<u64, &[u8]> = TableDefinition::new("playlist songs");

/// Most playlists.
pub const PLAYLISTS: usize = 1_000;
/// Most songs of one.
pub const PLAYLIST_SONGS: usize = 10_000;

const FULL: ListenerError = ListenerError::Full { what: "songs in a playlist", most: PLAYLIST_SONGS };
const UNKNOWN: ListenerError = ListenerError::NotFound("playlist");

/// The name of a playlist for apps: `pl-` and 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaylistId(u64);

impl fmt::Display for PlaylistId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pl-{:016x}", self.0)
    }
}

impl FromStr for PlaylistId {
    type Err = ListenerError;

    fn from_str(text: &str) -> Result<Self> {
        let hex = text.strip_prefix("pl-").and_then(|hex| u64::from_str_radix(hex, 16).ok());
        // One form only.
        hex.map(Self).filter(|id| id.to_string() == text).ok_or(UNKNOWN)
    }
}

/// A playlist, without its songs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Playlist {
    /// Its name.
    pub name: String,
    /// A remark.
    pub comment: String,
    /// Whether it may be shown to others.
    pub public: bool,
    /// When it was made.
    pub created_ms: u64,
    /// When it was last changed.
    pub changed_ms: u64,
    /// How many songs are in it.
    pub songs: u32,
}

/// What is to change. What is left out stays; first songs are replaced, then some are taken out, then others put behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edit {
    /// Another name.
    pub name: Option<String>,
    /// Another remark.
    pub comment: Option<String>,
    /// Whether it may be shown to others.
    pub public: Option<bool>,
    /// Other songs.
    pub songs: Option<Vec<u64>>,
    /// Places of songs that are taken out. They are all counted before any is.
    pub remove: Vec<u64>,
    /// Songs that are put at the end.
    pub append: Vec<u64>,
}

impl Edit {
    /// The songs after it. A place where there is no song is an error: whoever names it looks at another list.
    fn apply(&self, songs: Vec<u64>) -> Result<Vec<u64>> {
        let mut songs = self.songs.clone().unwrap_or(songs);
        let mut gone = vec![false; songs.len()];
        for place in &self.remove {
            let place = usize::try_from(*place).ok().and_then(|place| gone.get_mut(place));
            *place.ok_or(ListenerError::NotFound("place in the playlist"))? = true;
        }
        let mut gone = gone.into_iter();
        songs.retain(|_| !gone.next().unwrap_or(false));
        songs.extend_from_slice(&self.append);
        if songs.len() > PLAYLIST_SONGS { Err(FULL) } else { Ok(songs) }
    }

    fn check(&self) -> Result<()> {
        let long = |songs: &[u64]| songs.len() > PLAYLIST_SONGS;
        if long(&self.append) || long(&self.remove) || self.songs.as_deref().is_some_and(long) {
            return Err(FULL);
        }
        Ok(())
    }
}

pub(super) fn make(write: &WriteTransaction) -> std::result::Result<(), Fault> {
    write.open_table(HEADS)?;
    write.open_table(SONGS)?;
    Ok(())
}

struct Tables<'t> {
    heads: Table<'t, u64, &'static [u8]>,
    songs: Table<'t, u64, &'static [u8]>,
}

impl<'t> Tables<'t> {
    fn open(write: &'t WriteTransaction) -> std::result::Result<Self, Fault> {
        Ok(Self { heads: write.open_table(HEADS)?, songs: write.open_table(SONGS)? })
    }

    fn put(&mut self, id: u64, mut head: Playlist, songs: &[u64]) -> std::result::Result<(), Fault> {
        head.songs = u32::try_from(songs.len()).map_err(|_| FULL)?;
        self.heads.insert(id, &encode("a playlist", &head)?[..])?;
        self.songs.insert(id, &encode("a playlist's songs", &songs)?[..])?;
        Ok(())
    }
}

impl Listener {
    /// Makes a playlist. Its id is made of the random bytes.
    ///
    /// # Errors
    /// When there are too many, or anything of it is too long.
    pub fn create_playlist(
        &self,
        name: &str,
        songs: &[u64],
        random: [u8; 8],
        now_ms: u64,
    ) -> Result<PlaylistId> {
        let name = checked("the name of a playlist", name, NAME_BYTES)?;
        if songs.len() > PLAYLIST_SONGS {
            return Err(FULL);
        }
        self.write(|write| {
            let mut tables = Tables::open(write)?;
            if tables.heads.len()? >= PLAYLISTS as u64 {
                return Err(ListenerError::Full { what: "playlists", most: PLAYLISTS }.into());
            }
            let mut id = u64::from_be_bytes(random);
            while tables.heads.get(id)?.is_some() {
                id = id.wrapping_add(1);
            }
            let head = Playlist { name, created_ms: now_ms, changed_ms: now_ms, ..Playlist::default() };
            tables.put(id, head, songs)?;
            Ok(PlaylistId(id))
        })
    }

    /// Changes a playlist, in all or nothing.
    ///
    /// # Errors
    /// When there is no such playlist or place in it, or anything would be too long.
    pub fn edit_playlist(&self, id: PlaylistId, edit: &Edit, now_ms: u64) -> Result<()> {
        edit.check()?;
        let text = |what, text: &Option<String>, most| {
            text.as_deref().map(|text| checked(what, text, most)).transpose()
        };
        let name = text("the name of a playlist", &edit.name, NAME_BYTES)?;
        let comment = text("the comment of a playlist", &edit.comment, COMMENT_BYTES)?;
        self.write(|write| {
            let mut tables = Tables::open(write)?;
            let (old, songs) = (tables.heads.get(id.0)?, tables.songs.get(id.0)?);
            let (Some(old), Some(songs)) = (old, songs) else { return Err(UNKNOWN.into()) };
            let mut head: Playlist = decode("a playlist", old.value())?;
            let known = decode("a playlist's songs", songs.value())?;
            drop((old, songs));
            let songs = edit.apply(known)?;
            head.name = name.unwrap_or(head.name);
            head.comment = comment.unwrap_or(head.comment);
            head.public = edit.public.unwrap_or(head.public);
            head.changed_ms = now_ms;
            tables.put(id.0, head, &songs)
        })
    }

    /// Removes a playlist; says whether there was one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn delete_playlist(&self, id: PlaylistId) -> Result<bool> {
        self.write(|write| {
            let mut tables = Tables::open(write)?;
            tables.songs.remove(id.0)?;
            let was = tables.heads.remove(id.0)?.is_some();
            Ok(was)
        })
    }

    /// All playlists, by name.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn playlists(&self) -> Result<Vec<(PlaylistId, Playlist)>> {
        let mut found = self.read(|read| {
            let mut found = Vec::new();
            for entry in read.open_table(HEADS)?.iter()? {
                let (id, bytes) = entry?;
                found.push((PlaylistId(id.value()), decode("a playlist", bytes.value())?));
            }
            Ok(found)
        })?;
        found.sort_by(|(one_id, one): &(PlaylistId, Playlist), (other_id, other)| {
            (&one.name, one_id).cmp(&(&other.name, other_id))
        });
        Ok(found)
    }

    /// A playlist and its songs.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn playlist(&self, id: PlaylistId) -> Result<Option<(Playlist, Vec<u64>)>> {
        self.read(|read: &ReadTransaction| {
            let (heads, songs) = (read.open_table(HEADS)?, read.open_table(SONGS)?);
            let (Some(head), Some(songs)) = (heads.get(id.0)?, songs.get(id.0)?) else { return Ok(None) };
            let head = decode("a playlist", head.value())?;
            Ok(Some((head, decode("a playlist's songs", songs.value())?)))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{
        super::store::tests::{fresh, reopen},
        *,
    };

    #[test]
    fn golden_bytes() {
        let head = Playlist {
            name: "ab".into(),
            comment: "c".into(),
            public: true,
            created_ms: 1,
            changed_ms: 2,
            songs: 3,
        };
        assert_eq!(encode("x", &head).unwrap(), [1, 2, b'a', b'b', 1, b'c', 1, 1, 2, 3]);
        assert_eq!(encode("x", &&[1u64, 300][..]).unwrap(), [1, 2, 1, 251, 44, 1]);
    }

    #[test]
    fn ids() {
        let id = PlaylistId(0x0123_4567_89ab_cdef);
        assert_eq!(id.to_string(), "pl-0123456789abcdef");
        assert_eq!("pl-0123456789abcdef".parse::<PlaylistId>().unwrap(), id);
        for bad in ["", "pl-", "pl-1", "pl-0123456789ABCDEF", "pl-+123456789abcdef", "so-0123456789abcdef"] {
            assert!(bad.parse::<PlaylistId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_playlist_through_its_life() {
        let (directory, listener) = fresh();
        let id = listener.create_playlist("mine", &[1, 2, 2, 3], [0, 0, 0, 0, 0, 0, 0, 9], 10).unwrap();
        assert_eq!(id.to_string(), "pl-0000000000000009");
        let other = listener.create_playlist("another", &[], [0, 0, 0, 0, 0, 0, 0, 9], 11).unwrap();
        assert_eq!(other.to_string(), "pl-000000000000000a");
        let edit = Edit {
            comment: Some("x".into()),
            public: Some(true),
            remove: vec![3, 1, 1],
            append: vec![7],
            ..Edit::default()
        };
        listener.edit_playlist(id, &edit, 20).unwrap();
        drop(listener);
        let listener = reopen(&directory);
        let (head, songs) = listener.playlist(id).unwrap().unwrap();
        assert_eq!(songs, [1, 2, 7]);
        assert_eq!(
            (head.name.as_str(), head.comment.as_str(), head.public, head.songs),
            ("mine", "x", true, 3)
        );
        assert_eq!((head.created_ms, head.changed_ms), (10, 20));
        let names: Vec<String> =
            listener.playlists().unwrap().into_iter().map(|(_, head)| head.name).collect();
        assert_eq!(names, ["another", "mine"]);
        assert!(listener.delete_playlist(other).unwrap());
        assert!(!listener.delete_playlist(other).unwrap());
        assert!(matches!(listener.edit_playlist(other, &edit, 1), Err(ListenerError::NotFound("playlist"))));
    }

    #[test]
    fn bounds() {
        let (_directory, listener) = fresh();
        let most = vec![u64::MAX; PLAYLIST_SONGS];
        let id = listener.create_playlist(&"n".repeat(NAME_BYTES), &most, [1; 8], 0).unwrap();
        let full = Edit { append: vec![1], ..Edit::default() };
        assert!(matches!(listener.edit_playlist(id, &full, 1), Err(ListenerError::Full { .. })));
        let swap = Edit { remove: vec![0], append: vec![1], ..Edit::default() };
        listener.edit_playlist(id, &swap, 1).unwrap();
        let place = Edit { remove: vec![PLAYLIST_SONGS as u64], ..Edit::default() };
        assert!(listener.edit_playlist(id, &place, 1).is_err());
        let name = Edit { name: Some("n".repeat(NAME_BYTES + 1)), ..Edit::default() };
        assert!(matches!(listener.edit_playlist(id, &name, 1), Err(ListenerError::TooLong { .. })));
        assert!(listener.create_playlist("x", &vec![1; PLAYLIST_SONGS + 1], [2; 8], 0).is_err());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Create(Vec<u64>),
        Change(usize, Option<Vec<u64>>, Vec<u64>, Vec<u64>),
        Delete(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let songs = || proptest::collection::vec(0u64..9, 0..5);
        prop_oneof![
            songs().prop_map(Step::Create),
            (0usize..4, proptest::option::of(songs()), songs(), songs())
                .prop_map(|(which, songs, remove, append)| Step::Change(which, songs, remove, append)),
            (0usize..4).prop_map(Step::Delete),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn they_are_what_a_list_would_be(steps in proptest::collection::vec(step(), 0..20)) {
            let (directory, listener) = fresh();
            let (mut ids, mut model) = (Vec::new(), BTreeMap::<PlaylistId, Vec<u64>>::new());
            for (now, step) in (0u64..).zip(steps) {
                match step {
                    Step::Create(songs) => {
                        let id = listener.create_playlist("x", &songs, now.to_be_bytes(), now).unwrap();
                        ids.push(id);
                        model.insert(id, songs);
                    }
                    Step::Change(which, songs, remove, append) => {
                        let Some(id) = ids.get(which) else { continue };
                        let edit = Edit { songs, remove, append, ..Edit::default() };
                        let done = listener.edit_playlist(*id, &edit, now).is_ok();
                        let known = model.get_mut(id);
                        let list = known.as_ref().map(|list| edit.songs.as_ref().unwrap_or(list).clone());
                        let fits = list.filter(|list| edit.remove.iter().all(|place| *place < list.len() as u64));
                        prop_assert_eq!(done, fits.is_some());
                        if let (Some(list), Some(known)) = (fits, known) {
                            let stay = (0u64..).zip(list).filter(|(place, _)| !edit.remove.contains(place));
                            *known = stay.map(|(_, song)| song).chain(edit.append).collect();
                        }
                    }
                    Step::Delete(which) => {
                        let Some(id) = ids.get(which) else { continue };
                        prop_assert_eq!(listener.delete_playlist(*id).unwrap(), model.remove(id).is_some());
                    }
                }
            }
            drop(listener);
            let listener = reopen(&directory);
            prop_assert_eq!(listener.playlists().unwrap().len(), model.len());
            for (id, songs) in model {
                let (head, found) = listener.playlist(id).unwrap().unwrap();
                prop_assert_eq!(head.songs as usize, songs.len());
                prop_assert_eq!(found, songs);
            }
        }
    }
}
