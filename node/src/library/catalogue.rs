//! What is known of each file: one redb database, bounded in memory whatever the library's size.
//!
//! Derived data: a damaged file is moved out of the way and the next scan fills a new one. Records of another network
//! are worth nothing and are dropped.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use antiphon_proto::{ContentHash, NetworkId, limits};
use bincode::{Decode, Encode};
use redb::{
    Database, Durability, MultimapTableDefinition, ReadableDatabase, ReadableMultimapTable, ReadableTable,
    ReadableTableMetadata, TableDefinition,
};
use tokio::sync::watch;

use crate::system::redb_errors::{from_redb, is_damage};

/// Absolute path to [`FileRecord`].
const FILES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("files");
/// Content hash to the paths that hold it.
const CONTENTS: MultimapTableDefinition<&[u8; 32], &[u8]> = MultimapTableDefinition::new("contents");
/// Content hash to a signed registration that has no answer yet.
const PENDING: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("pending");
/// The layout's version.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// The network whose ledger the records name.
const NETWORK: TableDefinition<(), &[u8; 32]> = TableDefinition::new("network");

/// Layout of the tables and of [`FileRecord`].
const VERSION: u64 = 1;
/// Page cache: enough for the hot part of 100,000 files, small beside a Pi's memory.
const CACHE_BYTES: usize = 4 * 1024 * 1024;
/// A stored record is a few hundred bytes; more is damage.
const RECORD_BYTES: usize = 4 * 1024;
/// Reasons are for people.
const REASON_BYTES: usize = 512;

/// How a file looked when it was read: the same again means that it need not be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Stamp {
    /// Size in bytes.
    pub size: u64,
    /// Time of the last change, seconds and nanoseconds since 1970.
    pub modified: (i64, u32),
    /// File system and inode.
    pub inode: (u64, u64),
}

/// What a file turned out to be.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum State {
    /// Audio, in the ledger at this index (its own block: song or variant).
    Known {
        /// BLAKE3 of the file.
        content: [u8; 32],
        /// Ledger index.
        index: u64,
    },
    /// Audio; its registration has no answer yet.
    Pending {
        /// BLAKE3 of the file.
        content: [u8; 32],
    },
    /// Nothing that can be registered: not worth another look until it changes.
    Skipped {
        /// For people.
        reason: String,
    },
    /// Something went wrong.
    Failed {
        /// For people.
        reason: String,
        /// Whether the next scan should try again although the file has not changed.
        again: bool,
    },
}

impl State {
    /// Content hash, where there is one.
    #[must_use]
    pub fn content(&self) -> Option<ContentHash> {
        match self {
            Self::Known { content, .. } | Self::Pending { content } => Some(ContentHash(*content)),
            _ => None,
        }
    }
}

/// A file and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct FileRecord {
    /// How it looked.
    pub stamp: Stamp,
    /// What it is.
    pub state: State,
}

/// Numbers for status pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Files in the catalogue, of any state.
    pub files: u64,
    /// Files in the ledger.
    pub known: u64,
    /// Registrations without an answer.
    pub pending: u64,
    /// Files that are nothing to register, or went wrong.
    pub skipped: u64,
}

/// Why the catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The database says no.
    #[error("library catalogue: {0}")]
    Database(#[from] redb::Error),
    /// Written by another version.
    #[error("library catalogue: layout {found} is not known (this is {VERSION})")]
    Version {
        /// Layout found.
        found: u64,
    },
    /// A record that does not decode.
    #[error("library catalogue: the record of {path} is damaged")]
    Record {
        /// File of the record.
        path: PathBuf,
    },
}

impl CatalogueError {
    /// Whether the file itself is at fault.
    fn is_damage(&self) -> bool {
        match self {
            Self::Record { .. } => true,
            Self::Database(error) => is_damage(error),
            _ => false,
        }
    }
}

from_redb!(CatalogueError::Database);

type Result<T> = std::result::Result<T, CatalogueError>;

/// A content that came into the ledger with a file of this library, moved in it, or left with its last file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Which content.
    pub content: ContentHash,
    /// Ledger index before; none: not there, or not in the ledger.
    pub before: Option<u64>,
    /// The same now.
    pub after: Option<u64>,
}

/// Who is told of what moved, in order.
pub type OnMoved = Box<dyn Fn(&[Moved]) + Send + Sync>;

/// The database.
pub struct Catalogue {
    database: Database,
    on_moved: OnceLock<OnMoved>,
    /// How often something moved.
    moves: watch::Sender<u64>,
    /// Held from a commit until it was told, so that changes are told in their order.
    telling: Mutex<()>,
    /// How often something was written.
    written: AtomicU64,
    /// Numbers, and how often something had been written when they were counted.
    counted: Mutex<Option<(u64, Counts)>>,
}

/// One change, applied with others in one durable transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The file at this path is this.
    Put(PathBuf, FileRecord),
    /// The file is gone.
    Remove(PathBuf),
    /// A signed registration waits for its answer.
    AddPending(ContentHash, Vec<u8>),
    /// It has its answer.
    DropPending(ContentHash),
    /// All files with this content are in the ledger at this index.
    Settle(ContentHash, u64),
}

impl Catalogue {
    /// Opens or makes the database. One that cannot be read is renamed to `….damaged` and a new one made.
    ///
    /// # Errors
    /// When a new one cannot be made either.
    pub fn open(path: &Path, network: &NetworkId) -> Result<Self> {
        match Self::try_open(path, network) {
            Ok(catalogue) => Ok(catalogue),
            // Anything else (no memory, no descriptors, a newer version) may pass, and the file is sound.
            Err(error) if error.is_damage() => {
                let aside = path.with_extension("redb.damaged");
                tracing::warn!(%error, kept = %aside.display(), "the library catalogue is unusable; the next scan reads all files again");
                std::fs::rename(path, &aside)
                    .map_err(|error| CatalogueError::Database(redb::Error::Io(error)))?;
                Self::try_open(path, network)
            }
            Err(error) => Err(error),
        }
    }

    fn try_open(path: &Path, network: &NetworkId) -> Result<Self> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
        let write = database.begin_write()?;
        {
            write.open_table(FILES)?;
            write.open_multimap_table(CONTENTS)?;
            write.open_table(PENDING)?;
            let mut meta = write.open_table(META)?;
            let found = meta.get("version")?.map(|version| version.value());
            match found {
                None => {
                    meta.insert("version", VERSION)?;
                }
                Some(VERSION) => {}
                Some(found) => return Err(CatalogueError::Version { found }),
            }
        }
        let known = write.open_table(NETWORK)?.get(())?.map(|known| *known.value());
        if known.is_some_and(|known| known != network.0) {
            tracing::info!("the library was of another network; every file is read again");
            write.delete_table(FILES)?;
            write.delete_multimap_table(CONTENTS)?;
            write.delete_table(PENDING)?;
            write.open_table(FILES)?;
            write.open_multimap_table(CONTENTS)?;
            write.open_table(PENDING)?;
        }
        write.open_table(NETWORK)?.insert((), &network.0)?;
        write.commit()?;
        Ok(Self {
            database,
            on_moved: OnceLock::new(),
            moves: watch::Sender::new(0),
            telling: Mutex::new(()),
            written: AtomicU64::new(0),
            counted: Mutex::new(None),
        })
    }

    /// What is known of a file.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn get(&self, path: &Path) -> Result<Option<FileRecord>> {
        let read = self.database.begin_read()?;
        let table = read.open_table(FILES)?;
        match table.get(path.as_os_str().as_bytes())? {
            Some(value) => decode(path, value.value()).map(Some),
            None => Ok(None),
        }
    }

    /// Applies all changes or none; durable when it returns.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn apply(&self, changes: &[Change]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let _turn = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        // A kill must not cost a repair of the whole file on the next start.
        write.set_quick_repair(true);
        let moved = {
            let mut tables = Tables {
                files: write.open_table(FILES)?,
                contents: write.open_multimap_table(CONTENTS)?,
                pending: write.open_table(PENDING)?,
                touched: BTreeMap::new(),
            };
            for change in changes {
                tables.apply(change)?;
            }
            tables.moved()?
        };
        write.commit()?;
        self.written.fetch_add(1, Ordering::AcqRel);
        if moved.is_empty() {
            return Ok(());
        }
        if let Some(tell) = self.on_moved.get() {
            tell(&moved);
        }
        self.moves.send_modify(|moves| *moves += 1);
        Ok(())
    }

    /// Changes whenever a content comes into the ledger with a file of this library, moves in it, or leaves.
    #[must_use]
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.moves.subscribe()
    }

    /// Ledger indexes of all files but those in a folder, ascending, each once. Records that are damaged are left out.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn known(&self, but: &Path) -> Result<Vec<u64>> {
        let read = self.database.begin_read()?;
        let files = read.open_table(FILES)?;
        let mut known = Vec::new();
        for entry in files.iter()? {
            let (key, value) = entry?;
            let path = path_of(key.value());
            if path.starts_with(but) {
                continue;
            }
            if let Ok(FileRecord { state: State::Known { index, .. }, .. }) = decode(&path, value.value()) {
                known.push(index);
            }
        }
        known.sort_unstable();
        known.dedup();
        Ok(known)
    }

    /// Tells from now on what comes and goes; gives what is there. The first call counts.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn follow(&self, tell: OnMoved) -> Result<Vec<(u64, ContentHash)>> {
        let _turn = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let read = self.database.begin_read()?;
        let files = read.open_table(FILES)?;
        let mut known = BTreeMap::new();
        for entry in files.iter()? {
            let (key, value) = entry?;
            if let State::Known { content, index } = decode(&path_of(key.value()), value.value())?.state {
                known.insert(index, ContentHash(content));
            }
        }
        let _ = self.on_moved.set(tell);
        Ok(known.into_iter().collect())
    }

    /// Paths that hold this content, at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn paths_of(&self, content: &ContentHash, limit: usize) -> Result<Vec<PathBuf>> {
        let read = self.database.begin_read()?;
        let table = read.open_multimap_table(CONTENTS)?;
        let mut paths = Vec::new();
        for path in table.get(&content.0)?.take(limit) {
            paths.push(path_of(path?.value()));
        }
        Ok(paths)
    }

    /// The registration of a content that waits for its answer.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn pending(&self, content: &ContentHash) -> Result<Option<Vec<u8>>> {
        let read = self.database.begin_read()?;
        let table = read.open_table(PENDING)?;
        Ok(table.get(&content.0)?.map(|bytes| bytes.value().to_vec()))
    }

    /// Registrations that wait for their answer, after `after` in the order of the content hash, at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn pending_after(
        &self,
        after: Option<ContentHash>,
        limit: usize,
    ) -> Result<Vec<(ContentHash, Vec<u8>)>> {
        let read = self.database.begin_read()?;
        let table = read.open_table(PENDING)?;
        let mut found = Vec::new();
        let start = after.map_or([0; 32], |content| content.0);
        for entry in table.range::<&[u8; 32]>(&start..)? {
            let (content, bytes) = entry?;
            if after.is_some_and(|after| after.0 == *content.value()) {
                continue;
            }
            if found.len() == limit {
                break;
            }
            found.push((ContentHash(*content.value()), bytes.value().to_vec()));
        }
        Ok(found)
    }

    /// Files below a folder whose path is not in `seen`, at most `limit`, after `after` in the order of paths.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn page_below(
        &self,
        folder: &Path,
        after: Option<&Path>,
        limit: usize,
    ) -> Result<Vec<(PathBuf, FileRecord)>> {
        let mut prefix = folder.as_os_str().as_bytes().to_vec();
        if prefix.last() != Some(&b'/') {
            prefix.push(b'/');
        }
        let start = after.map_or_else(|| prefix.clone(), |path| path.as_os_str().as_bytes().to_vec());
        let read = self.database.begin_read()?;
        let table = read.open_table(FILES)?;
        let mut page = Vec::new();
        for entry in table.range::<&[u8]>(&start[..]..)? {
            let (key, value) = entry?;
            if !key.value().starts_with(&prefix) || page.len() == limit {
                break;
            }
            if after.is_some_and(|after| after.as_os_str().as_bytes() == key.value()) {
                continue;
            }
            let path = path_of(key.value());
            let record = decode(&path, value.value())?;
            page.push((path, record));
        }
        Ok(page)
    }

    /// Counts by a walk over all records, once for each change: whoever watches a peer asks all the time.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn counts(&self) -> Result<Counts> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        // Before it is looked: what is written meanwhile is counted the next time.
        let written = self.written.load(Ordering::Acquire);
        if let Some((_, counts)) = counted.filter(|(then, _)| *then == written) {
            return Ok(counts);
        }
        let read = self.database.begin_read()?;
        let files = read.open_table(FILES)?;
        let mut counts = Counts { files: files.len()?, ..Counts::default() };
        counts.pending = read.open_table(PENDING)?.len()?;
        for entry in files.iter()? {
            let (key, value) = entry?;
            match decode(&path_of(key.value()), value.value())?.state {
                State::Known { .. } => counts.known += 1,
                State::Pending { .. } => {}
                State::Skipped { .. } | State::Failed { .. } => counts.skipped += 1,
            }
        }
        *counted = Some((written, counts));
        Ok(counts)
    }
}

struct Tables<'t> {
    files: redb::Table<'t, &'static [u8], &'static [u8]>,
    contents: redb::MultimapTable<'t, &'static [u8; 32], &'static [u8]>,
    pending: redb::Table<'t, &'static [u8; 32], &'static [u8]>,
    /// Contents of changed files, and their ledger index before.
    touched: BTreeMap<[u8; 32], Option<u64>>,
}

impl Tables<'_> {
    fn apply(&mut self, change: &Change) -> Result<()> {
        match change {
            Change::Put(path, record) => self.put(path, record),
            Change::Remove(path) => {
                let content = self.unlink(path)?;
                self.files.remove(path.as_os_str().as_bytes())?;
                // A registration whose last file is gone is not handed in any more.
                if let Some(content) = content
                    && self.contents.get(&content.0)?.next().is_none()
                {
                    self.pending.remove(&content.0)?;
                }
                Ok(())
            }
            Change::AddPending(content, bytes) => {
                if bytes.len() <= limits::CONTROL_MESSAGE_BYTES {
                    self.pending.insert(&content.0, &bytes[..])?;
                }
                Ok(())
            }
            Change::DropPending(content) => {
                self.pending.remove(&content.0)?;
                Ok(())
            }
            Change::Settle(content, index) => self.settle(content, *index),
        }
    }

    /// Notes where a content was before it changes.
    fn touch(&mut self, content: &ContentHash) -> Result<()> {
        if !self.touched.contains_key(&content.0) {
            let before = self.index_of(&content.0)?;
            self.touched.insert(content.0, before);
        }
        Ok(())
    }

    /// The ledger index of a content that a file of the library has.
    fn index_of(&self, content: &[u8; 32]) -> Result<Option<u64>> {
        for path in self.contents.get(content)? {
            let path = path?;
            let Some(value) = self.files.get(path.value())? else { continue };
            if let Ok(FileRecord { state: State::Known { index, .. }, .. }) =
                decode(&path_of(path.value()), value.value())
            {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    fn moved(&self) -> Result<Vec<Moved>> {
        let mut moved = Vec::new();
        for (content, before) in &self.touched {
            let after = self.index_of(content)?;
            if *before != after {
                moved.push(Moved { content: ContentHash(*content), before: *before, after });
            }
        }
        Ok(moved)
    }

    fn put(&mut self, path: &Path, record: &FileRecord) -> Result<()> {
        self.unlink(path)?;
        let (key, content) = (path.as_os_str().as_bytes(), record.state.content());
        if let Some(content) = &content {
            self.touch(content)?;
            self.contents.insert(&content.0, key)?;
        }
        self.files.insert(key, &encode(record)[..])?;
        Ok(())
    }

    /// Takes the path of a file that changes out of the list of its content; gives the content.
    fn unlink(&mut self, path: &Path) -> Result<Option<ContentHash>> {
        let key = path.as_os_str().as_bytes();
        let old = self.files.get(key)?.map(|value| decode(path, value.value()));
        let content = old.and_then(Result::ok).and_then(|record| record.state.content());
        if let Some(content) = &content {
            self.touch(content)?;
            self.contents.remove(&content.0, key)?;
        }
        Ok(content)
    }

    fn settle(&mut self, content: &ContentHash, index: u64) -> Result<()> {
        self.touch(content)?;
        self.pending.remove(&content.0)?;
        let mut paths = Vec::new();
        for path in self.contents.get(&content.0)? {
            paths.push(path_of(path?.value()));
        }
        for path in paths {
            let key = path.as_os_str().as_bytes();
            let Some(old) = self.files.get(key)?.map(|value| value.value().to_vec()) else { continue };
            let record =
                FileRecord { state: State::Known { content: content.0, index }, ..decode(&path, &old)? };
            self.files.insert(key, &encode(&record)[..])?;
        }
        Ok(())
    }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<RECORD_BYTES>()
}

fn encode(record: &FileRecord) -> Vec<u8> {
    let mut record = record.clone();
    if let State::Skipped { reason } | State::Failed { reason, .. } = &mut record.state {
        let end = (0..=REASON_BYTES.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
        reason.truncate(end.unwrap_or(0));
    }
    // Plain numbers and one short string always encode.
    bincode::encode_to_vec(&record, config()).unwrap_or_default()
}

fn decode(path: &Path, bytes: &[u8]) -> Result<FileRecord> {
    match bincode::decode_from_slice(bytes, config()) {
        Ok((record, used)) if used == bytes.len() => Ok(record),
        _ => Err(CatalogueError::Record { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(state: State) -> FileRecord {
        FileRecord { stamp: Stamp { size: 1, modified: (2, 3), inode: (4, 5) }, state }
    }

    fn open() -> (tempfile::TempDir, Catalogue) {
        let directory = tempfile::tempdir().unwrap();
        let catalogue = Catalogue::open(&directory.path().join("library.redb"), &NetworkId([1; 32])).unwrap();
        (directory, catalogue)
    }

    #[test]
    fn golden_record() {
        let bytes = encode(&record(State::Failed { reason: "no".into(), again: true }));
        assert_eq!(bytes, [1, 4, 3, 4, 5, 3, 2, b'n', b'o', 1]);
        let bytes = encode(&record(State::Known { content: [7; 32], index: 300 }));
        assert_eq!(bytes[..6], [1, 4, 3, 4, 5, 0]);
        assert_eq!(bytes[38..], [251, 44, 1]);
    }

    #[test]
    fn a_file_moves_through_its_states() {
        let (_directory, catalogue) = open();
        let path = PathBuf::from(OsStr::from_bytes(b"/m/\xff.ogg"));
        let content = ContentHash([9; 32]);
        catalogue
            .apply(&[
                Change::Put(path.clone(), record(State::Pending { content: content.0 })),
                Change::AddPending(content, vec![1, 2]),
            ])
            .unwrap();
        assert_eq!(catalogue.pending(&content).unwrap(), Some(vec![1, 2]));
        assert_eq!(catalogue.counts().unwrap(), Counts { files: 1, pending: 1, ..Counts::default() });
        catalogue.apply(&[Change::Settle(content, 12)]).unwrap();
        for _ in 0..2 {
            assert_eq!(catalogue.counts().unwrap(), Counts { files: 1, known: 1, ..Counts::default() });
        }
        assert_eq!(
            catalogue.get(&path).unwrap().unwrap().state,
            State::Known { content: content.0, index: 12 }
        );
        assert_eq!(catalogue.pending(&content).unwrap(), None);
        assert_eq!(catalogue.paths_of(&content, 9).unwrap(), std::slice::from_ref(&path));
        catalogue
            .apply(&[Change::Put(path.clone(), record(State::Skipped { reason: "x".repeat(9_000) }))])
            .unwrap();
        assert!(catalogue.paths_of(&content, 9).unwrap().is_empty());
        catalogue.apply(&[Change::Remove(path.clone())]).unwrap();
        assert_eq!(catalogue.get(&path).unwrap(), None);
    }

    #[test]
    fn what_comes_and_goes_is_told() {
        let (_directory, catalogue) = open();
        let (one, two) = (ContentHash([1; 32]), ContentHash([2; 32]));
        let known = |content: ContentHash, index| record(State::Known { content: content.0, index });
        catalogue.apply(&[Change::Put("/m/a".into(), known(one, 5))]).unwrap();
        let told = std::sync::Arc::new(Mutex::new(Vec::new()));
        let tell = {
            let told = told.clone();
            move |moved: &[Moved]| told.lock().unwrap().extend_from_slice(moved)
        };
        assert_eq!(catalogue.follow(Box::new(tell)).unwrap(), [(5, one)]);
        let apply = |changes: &[Change]| {
            catalogue.apply(changes).unwrap();
            std::mem::take(&mut *told.lock().unwrap())
        };
        // A copy is no news, nor is losing one of two.
        assert_eq!(apply(&[Change::Put("/m/b".into(), known(one, 5))]), []);
        assert_eq!(apply(&[Change::Remove("/m/a".into())]), []);
        let pending = record(State::Pending { content: two.0 });
        assert_eq!(apply(&[Change::Put("/m/c".into(), pending)]), []);
        let came = Moved { content: two, before: None, after: Some(9) };
        assert_eq!(apply(&[Change::Settle(two, 9)]), [came]);
        // Another content in the same file: one goes, one comes.
        let went = Moved { content: one, before: Some(5), after: None };
        let three = ContentHash([3; 32]);
        let came = Moved { content: three, before: None, after: Some(11) };
        assert_eq!(apply(&[Change::Put("/m/b".into(), known(three, 11))]), [went, came]);
        let went = Moved { content: three, before: Some(11), after: None };
        let skipped = record(State::Skipped { reason: String::new() });
        assert_eq!(apply(&[Change::Put("/m/b".into(), skipped)]), [went]);
        // What comes and goes in one transaction never was.
        assert_eq!(apply(&[Change::Put("/m/d".into(), known(one, 5)), Change::Remove("/m/d".into())]), []);
    }

    #[test]
    fn pages_stay_inside_the_folder() {
        let (_directory, catalogue) = open();
        let state = State::Skipped { reason: String::new() };
        for path in ["/m/a", "/m/b/c", "/m/d", "/music/e", "/l/z"] {
            catalogue.apply(&[Change::Put(path.into(), record(state.clone()))]).unwrap();
        }
        let page = |after: Option<&str>, limit| -> Vec<PathBuf> {
            let page = catalogue.page_below(Path::new("/m"), after.map(Path::new), limit).unwrap();
            page.into_iter().map(|(path, _)| path).collect()
        };
        assert_eq!(page(None, 2), [PathBuf::from("/m/a"), PathBuf::from("/m/b/c")]);
        assert_eq!(page(Some("/m/b/c"), 2), [PathBuf::from("/m/d")]);
    }

    #[test]
    fn a_damaged_catalogue_is_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("library.redb");
        std::fs::write(&path, b"not a database at all").unwrap();
        let catalogue = Catalogue::open(&path, &NetworkId([1; 32])).unwrap();
        assert_eq!(catalogue.counts().unwrap(), Counts::default());
        assert!(directory.path().join("library.redb.damaged").exists());
    }

    #[test]
    fn another_network_starts_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("library.redb");
        let files = |network| {
            let catalogue = Catalogue::open(&path, &NetworkId([network; 32])).unwrap();
            let files = catalogue.counts().unwrap().files;
            let state = State::Known { content: [7; 32], index: 0 };
            catalogue.apply(&[Change::Put("/m/a".into(), record(state))]).unwrap();
            files
        };
        assert_eq!((files(1), files(1), files(2), files(2)), (0, 1, 0, 1));
    }

    #[test]
    fn a_registration_goes_with_its_last_file() {
        let (_directory, catalogue) = open();
        let content = ContentHash([9; 32]);
        let pending = record(State::Pending { content: content.0 });
        catalogue
            .apply(&[
                Change::Put("/m/a".into(), pending.clone()),
                Change::Put("/m/b".into(), pending),
                Change::AddPending(content, vec![1]),
            ])
            .unwrap();
        catalogue.apply(&[Change::Remove("/m/a".into())]).unwrap();
        assert!(catalogue.pending(&content).unwrap().is_some());
        catalogue.apply(&[Change::Remove("/m/b".into())]).unwrap();
        assert!(catalogue.pending(&content).unwrap().is_none());
    }
}
