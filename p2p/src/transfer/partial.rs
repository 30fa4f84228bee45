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
};

use antiphon_proto::{ContentHash, limits, wire::ByteRange};
use bao_tree::{
    ChunkRanges,
    io::{
        outboard::PostOrderOutboard,
        sync::{WriteAt, valid_ranges},
    },
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

/// An open partial download. All methods block on the disk.
#[derive(Debug)]
pub struct Partial {
    content: ContentHash,
    size: u64,
    part: PathBuf,
    data: File,
    hashes_path: PathBuf,
    hashes: File,
    groups: Groups,
    /// Whether it has got its name: then nothing at `part` is ours.
    finished: bool,
    /// Pairs not yet written, by their place in the outboard. Neighbours in the file come one after another in a
    /// transfer, but not in order, and single writes of 64 B cost more than hashing what they describe.
    pairs: BTreeMap<u64, [u8; tree::PAIR]>,
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
        let (part, pairs) = (part.to_owned(), BTreeMap::new());
        Ok(Self { content, size, part, data, hashes_path, hashes, groups, finished: false, pairs })
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
        self.groups.bytes()
    }

    /// Whether every byte is present and verified.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.groups.is_complete()
    }

    /// The ranges to ask for next: at most as many as one request may hold.
    #[must_use]
    pub fn missing(&self) -> Vec<ByteRange> {
        self.groups.missing(limits::AUDIO_RANGES)
    }

    /// Stores a verified piece; gives how many new bytes of the file it brought.
    ///
    /// # Errors
    /// What the disk reports, such as being full.
    pub fn store(&mut self, piece: &Verified<'_>) -> Result<u64, PartialError> {
        match *piece {
            Verified::Pair { outboard_offset: None, .. } => Ok(0),
            Verified::Pair { outboard_offset: Some(offset), pair } => {
                self.pairs.insert(offset, *pair);
                if self.pairs.len() >= PAIRS {
                    self.flush()?;
                }
                Ok(0)
            }
            Verified::Group { offset, data } => {
                let written = self.data.write_all_at(offset, data);
                written.map_err(|source| PartialError::Io { path: self.part.clone(), source })?;
                Ok(if self.groups.insert_at(offset) { data.len() as u64 } else { 0 })
            }
        }
    }

    /// Hands the pairs of hashes that were stored to the system. Without it, an abrupt end loses the groups that only
    /// they can prove; [`Self::finish`] and dropping do it too.
    ///
    /// # Errors
    /// What the disk reports.
    pub fn flush(&mut self) -> Result<(), PartialError> {
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

    fn write_hashes(&mut self, offset: u64, pairs: &[u8]) -> Result<(), PartialError> {
        let written = self.hashes.write_all_at(offset, pairs);
        written.map_err(|source| PartialError::Io { path: self.hashes_path.clone(), source })
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
        self.data.sync_all()?;
        let kept = outboard.filter(|_| outboard::length(self.size) > 0);
        if let Some(place) = kept.filter(|place| **place != self.hashes_path) {
            self.hashes.sync_all()?;
            fs::rename(&self.hashes_path, place)?;
            place.clone_into(&mut self.hashes_path);
            disk::sync_folder_of(place)?;
        }
        disk::rename_to_new(&self.part, dest)?;
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
        fs::remove_file(&self.part)?;
        fs::remove_file(&self.hashes_path)
    }
}

impl Drop for Partial {
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
