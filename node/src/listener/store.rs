//! The file `listener.redb`, and transactions on it.

use std::{
    fs::{self, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use antiphon_proto::NetworkId;
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};

use super::error::{Fault, Result};
use crate::system::durable;

/// The layout's version, and counters.
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// The network whose songs are meant.
const NETWORK: TableDefinition<(), &[u8; 32]> = TableDefinition::new("network");

/// Layout of the tables.
const VERSION: u64 = 1;
/// Page cache: enough for the playlists and counts that are looked at all the time, small beside a Pi's memory.
const CACHE_BYTES: usize = 2 * 1024 * 1024;

/// What the listener said and did. Cheap to clone; all clones are the same file.
///
/// Every method blocks on the disk: call them where that is allowed.
#[derive(Clone)]
pub struct Listener {
    store: Arc<Store>,
}

struct Store {
    path: PathBuf,
    database: Database,
    /// Held while a password is hashed: each hash needs 64 MiB, and a Pi has few of them.
    hashing: Mutex<()>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Listener").field(&self.store.path).finish()
    }
}

impl Listener {
    /// Opens the file, or makes it, for its owner only. One that cannot be read is left as it is.
    ///
    /// # Errors
    /// When it is damaged, of another network or a later version, or cannot be opened.
    pub fn open(path: &Path, network: &NetworkId) -> Result<Self> {
        let database = open(path, network).map_err(|fault| fault.at(path))?;
        let store = Store { path: path.to_owned(), database, hashing: Mutex::new(()) };
        Ok(Self { store: Arc::new(store) })
    }

    /// Looks at one state of the file.
    pub(super) fn read<T>(
        &self,
        look: impl FnOnce(&ReadTransaction) -> std::result::Result<T, Fault>,
    ) -> Result<T> {
        let read = self.store.database.begin_read().map_err(Fault::from);
        read.and_then(|read| look(&read)).map_err(|fault| fault.at(&self.store.path))
    }

    /// Makes a change, or none when it fails. It is on disk when this returns.
    pub(super) fn write<T>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> std::result::Result<T, Fault>,
    ) -> Result<T> {
        let run = || {
            let mut write = self.store.database.begin_write()?;
            write.set_durability(Durability::Immediate)?;
            let value = change(&write)?;
            write.commit()?;
            Ok(value)
        };
        run().map_err(|fault: Fault| fault.at(&self.store.path))
    }

    pub(super) fn hashing(&self) -> &Mutex<()> {
        &self.store.hashing
    }
}

fn io(error: io::Error) -> Fault {
    Fault::Redb(redb::Error::Io(error))
}

/// A new file gets its name when it is whole: one that was killed while it was made would look damaged.
fn open(path: &Path, network: &NetworkId) -> std::result::Result<Database, Fault> {
    if !path.try_exists().map_err(io)? {
        let temporary = path.with_extension("redb.new");
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        drop(prepare(&temporary, network)?);
        fs::rename(&temporary, path).map_err(io)?;
        durable::sync_directory(path.parent().unwrap_or_else(|| Path::new("."))).map_err(io)?;
    }
    prepare(path, network)
}

fn prepare(path: &Path, network: &NetworkId) -> std::result::Result<Database, Fault> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    // App passwords are in it as they are.
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(file = %path.display(), "others could read the app passwords in this file; they no longer can");
        file.set_permissions(Permissions::from_mode(0o600)).map_err(io)?;
    }
    let database = Database::builder().set_cache_size(CACHE_BYTES).create_file(file)?;
    let write = database.begin_write()?;
    {
        let mut meta = write.open_table(META)?;
        let found = meta.get("version")?.map(|version| version.value());
        match found {
            None => {
                meta.insert("version", VERSION)?;
            }
            Some(VERSION) => {}
            Some(later) if later > VERSION => return Err(Fault::Newer(later)),
            Some(_) => return Err(Fault::Record("its version")),
        }
        let mut known = write.open_table(NETWORK)?;
        let of = known.get(())?.map(|known| *known.value());
        match of {
            None => {
                known.insert((), &network.0)?;
            }
            Some(of) if of == network.0 => {}
            Some(_) => return Err(Fault::OtherNetwork),
        }
    }
    make_tables(&write)?;
    write.commit()?;
    Ok(database)
}

/// Readers may then rely on them.
fn make_tables(write: &WriteTransaction) -> std::result::Result<(), Fault> {
    super::stars::make(write)?;
    super::plays::make(write)?;
    super::playlists::make(write)?;
    super::queue::make(write)?;
    super::bookmarks::make(write)?;
    super::devices::make(write)?;
    super::wanted::make(write)?;
    super::web::make(write)?;
    super::settings::make(write)
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::ListenerError, *};

    pub(in super::super) const NETWORK_ID: NetworkId = NetworkId([1; 32]);

    /// A new file in a new folder.
    pub(in super::super) fn fresh() -> (tempfile::TempDir, Listener) {
        let directory = tempfile::tempdir().unwrap();
        let listener = reopen(&directory);
        (directory, listener)
    }

    /// The file in the folder.
    pub(in super::super) fn reopen(directory: &tempfile::TempDir) -> Listener {
        Listener::open(&directory.path().join("listener.redb"), &NETWORK_ID).unwrap()
    }

    #[test]
    fn the_file_is_for_its_owner_only() {
        let (directory, listener) = fresh();
        let path = directory.path().join("listener.redb");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        drop(listener);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        reopen(&directory);
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn a_file_that_was_not_made_to_the_end_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("listener.redb.new"), [7; 9_999]).unwrap();
        reopen(&directory).set_setting("theme", "dark").unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_eq!(reopen(&directory).setting("theme").unwrap().as_deref(), Some("dark"));
    }

    #[test]
    fn a_damaged_file_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("listener.redb");
        let bytes = b"not a database at all".repeat(1_000);
        fs::write(&path, &bytes).unwrap();
        let error = Listener::open(&path, &NETWORK_ID).unwrap_err();
        assert!(matches!(error, ListenerError::Damaged { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("listener.redb") && text.contains("move it away"), "{text}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn a_file_that_was_cut_short_is_damaged() {
        let (directory, listener) = fresh();
        drop(listener);
        let path = directory.path().join("listener.redb");
        let bytes = fs::read(&path).unwrap();
        for length in [1, 100, 4_096, bytes.len() / 2, bytes.len() - 1] {
            fs::write(&path, &bytes[..length]).unwrap();
            let error = Listener::open(&path, &NETWORK_ID).unwrap_err();
            assert!(matches!(error, ListenerError::Damaged { .. }), "{length}: {error:?}");
            assert!(path.exists());
        }
    }

    #[test]
    fn another_network_and_a_later_version_are_refused() {
        let (directory, listener) = fresh();
        let path = directory.path().join("listener.redb");
        listener.set_setting("theme", "dark").unwrap();
        drop(listener);
        let error = Listener::open(&path, &NetworkId([2; 32])).unwrap_err();
        assert!(matches!(error, ListenerError::OtherNetwork { .. }), "{error}");
        let listener = reopen(&directory);
        assert_eq!(listener.setting("theme").unwrap().as_deref(), Some("dark"));
        listener.write(|write| Ok(write.open_table(META)?.insert("version", 2).map(|_| ())?)).unwrap();
        drop(listener);
        let error = Listener::open(&path, &NETWORK_ID).unwrap_err();
        assert!(matches!(error, ListenerError::Newer { found: 2, .. }), "{error}");
    }

    #[test]
    fn what_fails_in_the_middle_did_not_happen() {
        let (_directory, listener) = fresh();
        let failed = listener.write(|write| -> std::result::Result<(), Fault> {
            write.open_table(META)?.insert("x", 1)?;
            Err(ListenerError::NotFound("thing").into())
        });
        assert!(matches!(failed, Err(ListenerError::NotFound("thing"))));
        assert!(listener.read(|read| Ok(read.open_table(META)?.get("x")?.is_none())).unwrap());
    }
}
