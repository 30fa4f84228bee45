//! The packed index on disk: everything that is looked up, derived from the segments. Only this file knows sled.
//!
//! A fold takes a layer in: buckets and locations by single inserts, the mark last, then a flush of sled and a sync
//! of its file of our own (sled 0.34 only starts the write-back, and forgets acknowledged pages at a power cut). All
//! of it may be done again after a crash: what was inserted already is found and kept once. A panic inside sled
//! (it has some, on damaged files) becomes an error; whoever opens the ledger next builds the index again.

use std::{
    fs::{self, File},
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use antiphon_proto::{ContentHash, NetworkId};
use bincode::{Decode, Encode};

use super::{
    files,
    layer::{Layer, Table, first_8},
    packed::{self, Bucket, CHUNK, KeyEntry, Location, Locations},
    tip::{Mark, Tip},
};
use crate::{
    codec::{self, Stored},
    tokens::StateKey,
};

/// sled's page cache: enough for the inner nodes of 10 M blocks, small on a Pi.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// How long a database that was closed may be held yet, and how often it is looked at.
const RELEASED_WITHIN: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Key of [`About`] in the tree `meta`.
const ABOUT: &[u8] = b"about";
/// Key of the [`Mark`].
const MARK: &[u8] = b"mark";
/// File that says that the index was found damaged while in use, so that the next start builds it again.
const CONDEMNED: &str = "index-damaged";

/// What an index is an index of.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct About {
    network: [u8; 32],
    /// Secret of this store: registrants choose content hashes, and must not choose what collides here.
    secret: [u8; 32],
}

impl Stored for About {
    const VERSION: u8 = 1;
    const NAME: &'static str = "about";
}

/// Why the index cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct IndexError(pub(crate) String);

impl From<sled::Error> for IndexError {
    fn from(error: sled::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<codec::CodecError> for IndexError {
    fn from(error: codec::CodecError) -> Self {
        Self(error.to_string())
    }
}

/// Runs something of sled's; a panic becomes an error.
fn guarded<T>(work: impl FnOnce() -> Result<T, IndexError>) -> Result<T, IndexError> {
    // Nothing of ours is changed inside; sled's own state is not used again after a panic, but for reading.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(IndexError(format!("the index engine panicked: {text}")))
    })
}

/// The index of one ledger.
pub(crate) struct Index {
    dir: PathBuf,
    db: sled::Db,
    locations: sled::Tree,
    tables: [sled::Tree; 3],
    meta: sled::Tree,
    secret: [u8; 32],
}

/// Opens the database. One that this process has just closed is held by threads of sled's for a moment longer; nobody else
/// can hold it, for the ledger has a lock of its own.
fn open_db(dir: &Path) -> sled::Result<sled::Db> {
    let start = Instant::now();
    loop {
        match sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).open() {
            Err(sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock")
                    && start.elapsed() < RELEASED_WITHIN =>
            {
                thread::sleep(LOOK_AGAIN);
            }
            opened => return opened,
        }
    }
}

impl Index {
    /// Opens the index in `dir`, or makes an empty one when there is none or it was condemned.
    pub(crate) fn open(dir: &Path, network: &NetworkId) -> Result<(Self, Option<Tip>), IndexError> {
        let condemned = dir.with_file_name(CONDEMNED);
        if condemned.exists() {
            return Err(IndexError("it was found damaged while in use".to_owned()));
        }
        guarded(|| {
            let db = open_db(dir)?;
            let meta = db.open_tree("meta")?;
            let secret = match meta.get(ABOUT)? {
                Some(bytes) => {
                    let about: About = codec::decode(&bytes)?;
                    if about.network != network.0 {
                        return Err(IndexError("it is of another network".to_owned()));
                    }
                    about.secret
                }
                None if db.was_recovered() && meta.contains_key(MARK)? => {
                    return Err(IndexError("it does not say what it is of".to_owned()));
                }
                None => {
                    let mut secret = [0; 32];
                    files::random(&mut secret).map_err(|error| IndexError(error.to_string()))?;
                    meta.insert(ABOUT, codec::encode(&About { network: network.0, secret })?)?;
                    secret
                }
            };
            let mark = match meta.get(MARK)? {
                Some(bytes) => {
                    let tip = codec::decode::<Mark>(&bytes)?.into_tip();
                    Some(tip.ok_or_else(|| IndexError("its mark contradicts itself".to_owned()))?)
                }
                None => None,
            };
            let tables = [
                db.open_tree(Table::Contents.name())?,
                db.open_tree(Table::Songs.name())?,
                db.open_tree(Table::Variants.name())?,
            ];
            let index =
                Self { dir: dir.to_owned(), locations: db.open_tree("locations")?, db, tables, meta, secret };
            Ok((index, mark))
        })
    }

    /// Removes whatever is in `dir`.
    pub(crate) fn wipe(dir: &Path) -> Result<(), crate::error::FileError> {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(crate::error::FileError::new("remove", dir)(error));
            }
            _ => {}
        }
        let condemned = dir.with_file_name(CONDEMNED);
        match fs::remove_file(&condemned) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(crate::error::FileError::new("remove", &condemned)(error))
            }
            _ => Ok(()),
        }
    }

    /// The index was found damaged: the next start must not trust it.
    pub(crate) fn condemn(&self) {
        let path = self.dir.with_file_name(CONDEMNED);
        if let Err(error) = files::write_atomically(&path, b"") {
            tracing::warn!(%error, "cannot mark the index as damaged; remove its directory before the next start");
        }
    }

    /// The key of a content hash in [`Table::Contents`].
    pub(crate) fn content_key(&self, hash: &ContentHash) -> u64 {
        first_8(blake3::keyed_hash(&self.secret, &hash.0).as_bytes())
    }

    const fn tree(&self, table: Table) -> &sled::Tree {
        match table {
            Table::Contents => &self.tables[0],
            Table::Songs => &self.tables[1],
            Table::Variants => &self.tables[2],
        }
    }

    /// Where a block is.
    pub(crate) fn location(&self, index: u64) -> Result<Option<Location>, IndexError> {
        guarded(|| {
            let locations = self.chunk(index / CHUNK)?;
            Ok(usize::try_from(index % CHUNK).ok().and_then(|at| locations.get(at).copied()))
        })
    }

    fn chunk(&self, number: u64) -> Result<Vec<Location>, IndexError> {
        match self.locations.get(number.to_be_bytes())? {
            Some(bytes) => codec::decode::<Locations>(&bytes)?
                .unpack()
                .ok_or_else(|| IndexError("a location contradicts itself".to_owned())),
            None => Ok(Vec::new()),
        }
    }

    /// At most `most` entries from `from` to `to`, both included, ascending.
    pub(crate) fn range(
        &self,
        table: Table,
        from: KeyEntry,
        to: KeyEntry,
        most: usize,
    ) -> Result<Vec<KeyEntry>, IndexError> {
        guarded(|| {
            let tree = self.tree(table);
            let mut out = Vec::new();
            let first = bucket_at(tree, from)?;
            let start = first.map_or_else(|| packed::entry_bytes(from), |(key, _)| key);
            for item in tree.range(start..=packed::entry_bytes(to)) {
                let bucket: Bucket = codec::decode(&item?.1)?;
                for entry in bucket.entries().filter(|entry| (from..=to).contains(entry)) {
                    if out.len() == most {
                        return Ok(out);
                    }
                    out.push(entry);
                }
            }
            Ok(out)
        })
    }

    /// Takes a layer in, durably; `tip` is the ledger's end after it.
    pub(crate) fn fold(&self, layer: &Layer, tip: &Tip) -> Result<(), IndexError> {
        guarded(|| {
            for table in Table::ALL {
                let entries: Vec<KeyEntry> = layer.table(table).iter().copied().collect();
                let tree = self.tree(table);
                insert(tree, &entries, |key, value| tree.insert(key, value).map(drop))?;
            }
            self.fold_locations(layer)?;
            // The state is what the mark says it is: both or neither, whenever the power goes.
            let mut batch = sled::Batch::default();
            for (key, value) in &layer.state {
                if value.is_empty() {
                    batch.remove(key.to_bytes());
                } else {
                    batch.insert(key.to_bytes(), &value[..]);
                }
            }
            batch.insert(MARK, codec::encode(&Mark::from(tip))?);
            self.meta.apply_batch(batch)?;
            self.sync()
        })
    }

    fn fold_locations(&self, layer: &Layer) -> Result<(), IndexError> {
        let mut at = layer.first;
        while at < layer.end() {
            let number = at / CHUNK;
            let mut chunk = self.chunk(number)?;
            let keep = usize::try_from(at % CHUNK).unwrap_or(0);
            if chunk.len() < keep {
                return Err(IndexError("a location is missing".to_owned()));
            }
            chunk.truncate(keep);
            let next = (number + 1).saturating_mul(CHUNK).min(layer.end());
            chunk.extend((at..next).filter_map(|index| layer.location(index)));
            self.locations.insert(number.to_be_bytes(), codec::encode(&Locations::pack(&chunk))?)?;
            at = next;
        }
        Ok(())
    }

    /// sled's own flush, then the sync that it leaves out.
    fn sync(&self) -> Result<(), IndexError> {
        self.db.flush()?;
        let path = self.dir.join("db");
        File::open(&path)
            .and_then(|file| file.sync_data())
            .map_err(|error| IndexError(format!("cannot sync {}: {error}", path.display())))
    }

    /// The value of an entry of the state.
    pub(crate) fn state(&self, key: &StateKey) -> Result<Option<Vec<u8>>, IndexError> {
        guarded(|| Ok(self.meta.get(key.to_bytes())?.map(|value| value.to_vec())))
    }

    /// At most `most` entries of the state whose keys begin so, from behind `after` on, ascending by their bytes.
    pub(crate) fn states(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        most: usize,
    ) -> Result<Vec<(StateKey, Vec<u8>)>, IndexError> {
        guarded(|| {
            let from = after.map_or(Bound::Included(prefix), Bound::Excluded);
            let mut out = Vec::new();
            for item in self.meta.range::<&[u8], _>((from, Bound::Unbounded)) {
                let (key, value) = item?;
                // What else is in this tree has names that are text: they come after every kind of entry.
                if out.len() >= most || !key.starts_with(prefix) || key == ABOUT || key == MARK {
                    break;
                }
                let key = StateKey::from_bytes(&key)
                    .ok_or_else(|| IndexError("an entry of the state has no name".to_owned()))?;
                out.push((key, value.to_vec()));
            }
            Ok(out)
        })
    }

    /// Bytes on disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        guarded(|| Ok(self.db.size_on_disk()?)).unwrap_or(0)
    }
}

/// The bucket that an entry belongs to, and its key.
fn bucket_at(tree: &sled::Tree, entry: KeyEntry) -> Result<Option<([u8; 13], Bucket)>, IndexError> {
    let Some(item) = tree.range(..=packed::entry_bytes(entry)).next_back() else { return Ok(None) };
    let (key, value) = item?;
    let key = key.as_ref().try_into().map_err(|_| IndexError("a bucket's key is malformed".to_owned()))?;
    Ok(Some((key, codec::decode(&value)?)))
}

/// Inserts ascending entries, a bucket at a time; `put` writes one bucket.
fn insert(
    tree: &sled::Tree,
    entries: &[KeyEntry],
    mut put: impl FnMut([u8; 13], Vec<u8>) -> sled::Result<()>,
) -> Result<(), IndexError> {
    let mut rest = entries;
    while let Some(first) = rest.first() {
        // The first bucket begins below every entry.
        let (key, old) = match bucket_at(tree, *first)? {
            Some((key, bucket)) => (key, bucket.entries().collect()),
            None => (packed::entry_bytes((0, 0)), Vec::new()),
        };
        let bound = (Bound::Excluded(key), Bound::Unbounded);
        let next = tree.range::<[u8; 13], _>(bound).next().transpose()?.map(|(key, _)| key);
        let below =
            |entry: &KeyEntry| next.as_ref().is_none_or(|next| packed::entry_bytes(*entry)[..] < next[..]);
        let (mine, others) = rest.split_at(rest.partition_point(below));
        rest = others;
        // What a crash left here of entries that moved on to the next bucket is in that bucket.
        let old: Vec<KeyEntry> = old.into_iter().filter(below).collect();
        let parts = packed::merge(&old, mine);
        // The upper parts first: a crash in between leaves entries twice, never nowhere.
        for part in parts.iter().skip(1).rev() {
            if let Some(lowest) = part.first() {
                put(packed::entry_bytes(*lowest), codec::encode(&Bucket::pack(part))?)?;
            }
        }
        if let Some(lower) = parts.first() {
            put(key, codec::encode(&Bucket::pack(lower))?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::store::{layer::Keys, segments::Place};

    const NETWORK: NetworkId = NetworkId([1; 32]);

    fn location(index: u64) -> Location {
        let offset = u32::try_from(index).unwrap() * 10;
        Location { place: Place { segment: 0, offset }, starts_batch: index.is_multiple_of(3) }
    }

    /// Blocks `first..end`, each a song with a key of its own.
    fn layer(first: u64, end: u64) -> (Layer, Tip) {
        let mut layer = Layer::new(first);
        for index in first..end {
            let key =
                u64::from_be_bytes(blake3::hash(&index.to_le_bytes()).as_bytes()[..8].try_into().unwrap());
            layer.push(location(index), Some(Keys { content: key, other: (Table::Variants, index / 50) }));
        }
        (layer, Tip::start(&crate::testing::genesis()))
    }

    fn all(index: &Index, table: Table) -> BTreeSet<KeyEntry> {
        let most = (u64::MAX, packed::INDEX_LIMIT - 1);
        index.range(table, (0, 0), most, usize::MAX).unwrap().into_iter().collect()
    }

    fn holds(index: &Index, size: u64) {
        let (model, _) = layer(0, size);
        for table in [Table::Contents, Table::Variants] {
            assert_eq!(&all(index, table), model.table(table));
            for entry in model.table(table) {
                assert_eq!(index.range(table, *entry, *entry, 9).unwrap(), [*entry], "{entry:?}");
            }
        }
        for at in 0..size {
            assert_eq!(index.location(at).unwrap(), Some(location(at)));
        }
        assert_eq!(index.location(size).unwrap(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        /// A fold that was cut off after any number of writes is done again, with more, and leaves no trace.
        #[test]
        fn an_interrupted_fold_is_repeated(
            first in 0..400u64, second in 1..300u64, third in 1..100u64, writes in 0..40usize) {
            let dir = tempfile::tempdir().unwrap();
            let (index, mark) = Index::open(&dir.path().join("index"), &NETWORK).unwrap();
            prop_assert!(mark.is_none());
            let (base, tip) = layer(0, first);
            index.fold(&base, &tip).unwrap();
            let (cut_off, _) = layer(first, first + second);
            for table in Table::ALL {
                let entries: Vec<KeyEntry> = cut_off.table(table).iter().copied().collect();
                let (tree, mut left) = (index.tree(table), writes);
                let _ = insert(tree, &entries, |key, value| {
                    left = left.checked_sub(1).ok_or(sled::Error::Unsupported("cut off".to_owned()))?;
                    tree.insert(key, value).map(drop)
                });
            }
            index.fold_locations(&cut_off).unwrap();
            // Shorter than what was cut off, then the rest: the locations of the first try must not stay behind.
            let middle = first + second / 2;
            for (from, to) in [(first, middle), (middle, first + second + third)] {
                let (layer, tip) = layer(from, to);
                index.fold(&layer, &tip).unwrap();
            }
            holds(&index, first + second + third);
        }
    }

    /// A split that was cut off leaves entries in the lower bucket that the upper one has too. Splitting the lower one
    /// again must not put what is stale above what the upper one has gained.
    #[test]
    fn a_split_that_was_cut_off_shadows_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (index, _) = Index::open(&dir.path().join("index"), &NETWORK).unwrap();
        let tree = index.tree(Table::Songs);
        let put = |key: KeyEntry, entries: &[KeyEntry]| {
            let value = codec::encode(&Bucket::pack(entries)).unwrap();
            tree.insert(packed::entry_bytes(key), value).unwrap();
        };
        let stale: Vec<KeyEntry> = (1..=32).map(|n| (n * 10, n)).collect();
        let mut upper = stale[9..].to_vec();
        upper.insert(10, (195, 99));
        put((0, 0), &stale);
        put(upper[0], &upper);
        insert(tree, &[(1, 100)], |key, value| tree.insert(key, value).map(drop)).unwrap();
        for entry in stale.iter().chain(&[(195, 99), (1, 100)]) {
            assert_eq!(index.range(Table::Songs, *entry, *entry, 9).unwrap(), [*entry]);
        }
    }

    #[test]
    fn the_secret_and_the_mark_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let hash = ContentHash([5; 32]);
        let (index, _) = Index::open(&path, &NETWORK).unwrap();
        let key = index.content_key(&hash);
        let (layer, mut tip) = layer(0, 5);
        tip.songs = 5;
        index.fold(&layer, &tip).unwrap();
        drop(index);
        let (index, mark) = Index::open(&path, &NETWORK).unwrap();
        assert_eq!((index.content_key(&hash), mark), (key, Some(tip)));
        drop(index);
        assert!(Index::open(&path, &NetworkId([2; 32])).is_err());
        Index::wipe(&path).unwrap();
        let (index, mark) = Index::open(&path, &NETWORK).unwrap();
        assert_ne!(index.content_key(&hash), key);
        assert!(mark.is_none());
    }
}
