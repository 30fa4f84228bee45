//! A download that survives being stopped at any moment.
//!
//! Two files: `X.part` holds the data at its final offsets, `X.part.obao` the pairs of hashes that came with it
//! (format of [`super::outboard`]). Neither is trusted when it is opened again: the tree is walked from the content
//! hash down, and only groups whose whole path and bytes match count as present. So a kill or a power cut between
//! any two writes costs at most the groups that had not reached the disk, and nothing has to be synced on the way.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use antiphon_proto::{ContentHash, limits, wire::ByteRange};
use bao_tree::{
    ChunkRanges,
    io::{outboard::PostOrderOutboard, sync::valid_ranges},
};

use super::{
    decode::Verified,
    disk,
    groups::Groups,
    outboard::{self, with_suffix},
    tree,
};

/// Ending of the outboard beside a partial file.
pub const OUTBOARD_SUFFIX: &str = ".obao";

/// A partial download that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PartialError {
    /// Another transfer, of this process or another, is writing it.
    #[error("{path} is being written by another download; wait for it or stop it")]
    InUse {
        /// The partial file.
        path: PathBuf,
    },
    /// No such file can exist.
    #[error("a file of {size} bytes cannot be fetched: sizes go from 1 to {max}", max = limits::FILE_BYTES)]
    Size {
        /// Size asked for.
        size: u64,
    },
    /// The file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
}

/// Both files, open; the lock is on that of the hashes.
#[derive(Debug)]
struct Files {
    part: PathBuf,
    data: Arc<File>,
    /// Where the hashes were when they were opened.
    hashes_at: PathBuf,
    hashes: File,
}

/// Which groups are there; several sinks note theirs, and a reader looks.
#[derive(Debug, Clone)]
pub(crate) struct Present(Arc<Mutex<Groups>>);

impl Present {
    fn new(groups: Groups) -> Self {
        Self(Arc::new(Mutex::new(groups)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Groups> {
        // The set is whole at every unlock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open partial download. All methods block on the disk.
#[derive(Debug)]
pub struct Partial {
    content: ContentHash,
    size: u64,
    files: Arc<Files>,
    /// Where the hashes are now.
    hashes_path: PathBuf,
    groups: Present,
    /// Whether it has got its name: then nothing at its old place is ours.
    finished: bool,
    sink: Sink,
}

/// Writes what one transfer verifies. Any number of them may write to the same partial file at the same time: the data
/// needs no lock, because what two of them write to the same place is the same.
#[derive(Debug)]
pub(crate) struct Sink {
    files: Arc<Files>,
    groups: Present,
    /// Pairs not yet written, by their place in the outboard. Neighbours in the file come one after another in a
    /// transfer, but not in order, and single writes of 64 B cost more than hashing what they describe.
    pairs: BTreeMap<u64, [u8; tree::PAIR]>,
    /// Groups that are written and not yet noted: their offsets and lengths.
    written: Vec<(u64, u64)>,
}

/// Pairs that wait to be written: those of 4 MiB of audio.
const PAIRS: usize = 256;

impl Partial {
    /// Opens or starts the download at `part` and checks what is there. Reads all the data that looks present.
    ///
    /// # Errors
    /// [`PartialError`].
    pub fn open(part: &Path, content: ContentHash, size: u64) -> Result<Self, PartialError> {
        if size == 0 || size > limits::FILE_BYTES {
            return Err(PartialError::Size { size });
        }
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| PartialError::Io { path, source }
        };
        let hashes_path = with_suffix(part, OUTBOARD_SUFFIX);
        let open =
            |path: &Path| OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let hashes = open(&hashes_path).map_err(at(&hashes_path))?;
        match hashes.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(PartialError::InUse { path: part.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(at(&hashes_path)(source)),
        }
        let data = open(part).map_err(at(part))?;
        let fresh = data.metadata().map_err(at(part))?.len() == 0;
        data.set_len(size).map_err(at(part))?;
        hashes.set_len(outboard::length(size)).map_err(at(&hashes_path))?;
        let groups = if fresh {
            Groups::new(size)
        } else {
            check(&content, size, &data, &hashes).map_err(at(part))?
        };
        let (part, groups) = (part.to_owned(), Present::new(groups));
        let files = Arc::new(Files { part, data: Arc::new(data), hashes_at: hashes_path.clone(), hashes });
        let sink = Sink::new(files.clone(), groups.clone());
        Ok(Self { content, size, files, hashes_path, groups, finished: false, sink })
    }

    /// Another writer of it.
    pub(crate) fn sink(&self) -> Sink {
        Sink::new(self.files.clone(), self.groups.clone())
    }

    /// What is there, kept up to date.
    pub(crate) fn present(&self) -> Present {
        self.groups.clone()
    }

    /// The data, for reading what is there.
    pub(crate) fn data(&self) -> Arc<File> {
        self.files.data.clone()
    }

    /// What is being fetched.
    #[must_use]
    pub fn content(&self) -> ContentHash {
        self.content
    }

    /// Size of the whole file in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that are present and verified.
    #[must_use]
    pub fn verified_bytes(&self) -> u64 {
        self.groups.lock().bytes()
    }

    /// Whether every byte is present and verified.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.groups.lock().is_complete()
    }

    /// The ranges to ask for next: at most as many as one request may hold.
    #[must_use]
    pub fn missing(&self) -> Vec<ByteRange> {
        self.groups.lock().missing(limits::AUDIO_RANGES)
    }

    /// Stores a verified piece; gives how many new bytes of the file it brought.
    ///
    /// # Errors
    /// What the disk reports, such as being full.
    pub fn store(&mut self, piece: &Verified<'_>) -> Result<u64, PartialError> {
        self.sink.store(piece)?;
        Ok(self.sink.note())
    }

    /// Hands the pairs of hashes that were stored to the system. Without it, an abrupt end loses the groups that only
    /// they can prove; [`Self::finish`] and dropping do it too.
    ///
    /// # Errors
    /// What the disk reports.
    pub fn flush(&mut self) -> Result<(), PartialError> {
        self.sink.flush()
    }

    /// Makes a complete download permanent: data synced, renamed to `dest` (which must not exist), folder synced. With
    /// `outboard`, the hashes move there, so that the file can be served at once without hashing it again; without, or
    /// when a file this small needs none, they are removed. `dest` and `outboard` must be on the same file system as
    /// the partial file. After an error it may be called again, with other names or the same.
    ///
    /// # Errors
    /// What the file system reports; `AlreadyExists` when there is something at `dest`, which is left as it is;
    /// `InvalidInput` when the download is not complete, or finished already.
    pub fn finish(&mut self, dest: &Path, outboard: Option<&Path>) -> io::Result<()> {
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
        if self.finished {
            return Err(invalid("the download has its name already".to_owned()));
        }
        if !self.is_complete() {
            return Err(invalid(format!("{} of {} bytes are there", self.verified_bytes(), self.size)));
        }
        self.flush().map_err(io::Error::other)?;
        self.files.data.sync_all()?;
        let kept = outboard.filter(|_| outboard::length(self.size) > 0);
        if let Some(place) = kept.filter(|place| **place != self.hashes_path) {
            self.files.hashes.sync_all()?;
            fs::rename(&self.hashes_path, place)?;
            place.clone_into(&mut self.hashes_path);
            disk::sync_folder_of(place)?;
        }
        disk::rename_to_new(&self.files.part, dest)?;
        self.finished = true;
        disk::sync_folder_of(dest)?;
        if kept.is_none() {
            fs::remove_file(&self.hashes_path)?;
        }
        Ok(())
    }

    /// Gives the download up and removes both files.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn discard(self) -> io::Result<()> {
        fs::remove_file(&self.files.part)?;
        fs::remove_file(&self.hashes_path)
    }
}

impl Sink {
    fn new(files: Arc<Files>, groups: Present) -> Self {
        Self { files, groups, pairs: BTreeMap::new(), written: Vec::new() }
    }

    /// Writes a verified piece. A group counts when it is noted.
    ///
    /// # Errors
    /// What the disk reports, such as being full.
    pub(crate) fn store(&mut self, piece: &Verified<'_>) -> Result<(), PartialError> {
        match *piece {
            Verified::Pair { outboard_offset: None, .. } => {}
            Verified::Pair { outboard_offset: Some(offset), pair } => {
                self.pairs.insert(offset, *pair);
                if self.pairs.len() >= PAIRS {
                    self.flush()?;
                }
            }
            Verified::Group { offset, data } => {
                let written = disk::write_all_at(&self.files.data, offset, data);
                written.map_err(|source| PartialError::Io { path: self.files.part.clone(), source })?;
                self.written.push((offset, data.len() as u64));
            }
        }
        Ok(())
    }

    /// Notes the groups that were written as present; gives how many bytes of them are new.
    pub(crate) fn note(&mut self) -> u64 {
        let mut groups = self.groups.lock();
        let new = self.written.drain(..).filter(|(offset, _)| groups.insert_at(*offset));
        new.map(|(_, length)| length).sum()
    }

    /// As [`Partial::flush`].
    ///
    /// # Errors
    /// What the disk reports.
    pub(crate) fn flush(&mut self) -> Result<(), PartialError> {
        let mut run: Vec<u8> = Vec::with_capacity(self.pairs.len() * tree::PAIR);
        let mut start = 0;
        for (offset, pair) in std::mem::take(&mut self.pairs) {
            if start + run.len() as u64 != offset {
                self.write_hashes(start, &run)?;
                run.clear();
                start = offset;
            }
            run.extend_from_slice(&pair);
        }
        self.write_hashes(start, &run)
    }

    fn write_hashes(&self, offset: u64, pairs: &[u8]) -> Result<(), PartialError> {
        let written = disk::write_all_at(&self.files.hashes, offset, pairs);
        written.map_err(|source| PartialError::Io { path: self.files.hashes_at.clone(), source })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::warn!(%error, "the hashes of a partial download were not kept");
        }
    }
}

/// Gives a finished file its name, which nothing may have yet, and syncs the folder.
///
/// # Errors
/// `AlreadyExists` when something has the name; both files are then as they were. Else what the file system reports.
pub fn publish(finished: &Path, dest: &Path) -> io::Result<()> {
    disk::rename_to_new(finished, dest)?;
    disk::sync_folder_of(dest)
}

/// The groups whose bytes match the content hash, by way of hashes that match it too.
fn check(content: &ContentHash, size: u64, data: &File, hashes: &File) -> io::Result<Groups> {
    let root = blake3::Hash::from_bytes(*content.as_bytes());
    let outboard = PostOrderOutboard { root, tree: tree::tree(size), data: hashes };
    let mut groups = Groups::new(size);
    for range in valid_ranges(outboard, data, &ChunkRanges::all()) {
        let range = range?;
        let mut offset = range.start.to_bytes();
        while offset < range.end.to_bytes() {
            groups.insert_at(offset);
            offset += limits::BAO_GROUP_BYTES;
        }
    }
    Ok(groups)
}
