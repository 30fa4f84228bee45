//! The index's files: plain files with positioned reads, where the engine would rather map them into memory.
//!
//! The engine asks for slices: a large one (a dictionary, a column) is read as it is, a small one (the postings of one
//! word) comes out of the block around it, because the next small one is mostly a neighbour.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    ops::Range,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tantivy::{
    Directory, HasLen,
    directory::{
        AntiCallToken, DirectoryLock, FileHandle, FileSlice, Lock, OwnedBytes, TerminatingWrite,
        WatchCallback, WatchHandle, WritePtr,
        error::{DeleteError, LockError, OpenReadError, OpenWriteError},
        footer::Footer,
    },
};

use crate::system::durable;

/// Read at once for small slices. One block is kept for each open file, of which a segment has five.
const BLOCK_BYTES: usize = 32 * 1024;
/// A slice up to this comes out of a block: beyond, copying costs as much as reading.
const SMALL_BYTES: usize = 4 * 1024;
/// Read at once to check a file.
const CHECK_BYTES: usize = 256 * 1024;
/// The engine's list of its files. Here the folder is the list: what is in it and in use by nothing is deleted by the
/// engine after the next commit.
const MANAGED: &str = ".managed.json";
/// Endings of files that are being written.
const UNFINISHED: &str = "new";

/// A folder of plain files. Clones are handles on the same one.
#[derive(Debug, Clone)]
pub(super) struct Files {
    root: Arc<PathBuf>,
}

impl Files {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: Arc::new(root.to_owned()) }
    }

    fn path(&self, name: &Path) -> PathBuf {
        self.root.join(name)
    }

    /// Names of all files, those that were never finished left out.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&*self.root)? {
            if let Ok(name) = entry?.file_name().into_string()
                && !name.starts_with('.')
                && !name.ends_with(&format!(".{UNFINISHED}"))
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Compares a file of the engine with the checksum at its end.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] when they differ, else why it cannot be read.
    pub(super) fn check(&self, name: &Path) -> io::Result<()> {
        let file = Plain::open(&self.path(name))?;
        let len = file.len();
        let (footer, body) = Footer::extract_footer(FileSlice::new(Arc::new(file)))?;
        if footer.is_compatible().is_err() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "written by another version of the engine",
            ));
        }
        let mut sum = crc32fast::Hasher::new();
        for start in (0..body.len()).step_by(CHECK_BYTES) {
            let end = body.len().min(start.saturating_add(CHECK_BYTES));
            sum.update(&body.read_bytes_slice(start..end)?);
        }
        if sum.finalize() == footer.crc {
            return Ok(());
        }
        let message = format!("{} of {len} bytes has another checksum than it says", name.display());
        Err(io::Error::new(io::ErrorKind::InvalidData, message))
    }
}

impl Directory for Files {
    fn get_file_handle(&self, name: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        Plain::open(&self.path(name))
            .map(|file| Arc::new(file) as Arc<dyn FileHandle>)
            .map_err(|error| unread(error, name))
    }

    fn delete(&self, name: &Path) -> Result<(), DeleteError> {
        fs::remove_file(self.path(name)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => DeleteError::FileDoesNotExist(name.to_owned()),
            _ => DeleteError::IoError { io_error: Arc::new(error), filepath: name.to_owned() },
        })
    }

    fn exists(&self, name: &Path) -> Result<bool, OpenReadError> {
        self.path(name).try_exists().map_err(|error| unread(error, name))
    }

    fn open_write(&self, name: &Path) -> Result<WritePtr, OpenWriteError> {
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path(name));
        match opened {
            Ok(file) => Ok(BufWriter::new(Box::new(Durable(file)))),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(OpenWriteError::FileAlreadyExists(name.to_owned()))
            }
            Err(error) => Err(OpenWriteError::wrap_io_error(error, name.to_owned())),
        }
    }

    fn atomic_read(&self, name: &Path) -> Result<Vec<u8>, OpenReadError> {
        if name == Path::new(MANAGED) {
            let names = self.names().map_err(|error| unread(error, name))?;
            return serde_json::to_vec(&names).map_err(|error| unread(error.into(), name));
        }
        fs::read(self.path(name)).map_err(|error| unread(error, name))
    }

    fn atomic_write(&self, name: &Path, data: &[u8]) -> io::Result<()> {
        if name == Path::new(MANAGED) {
            return Ok(());
        }
        durable::write(&self.path(name), data, 0o600)
    }

    fn sync_directory(&self) -> io::Result<()> {
        durable::sync_directory(&self.root)
    }

    fn acquire_lock(&self, _: &Lock) -> Result<DirectoryLock, LockError> {
        // Whoever is here holds the data directory, and one writer at a time is seen to by the index.
        Ok(DirectoryLock::from(Box::new(())))
    }

    fn watch(&self, _: WatchCallback) -> tantivy::Result<WatchHandle> {
        // The index itself knows when it has committed.
        Ok(WatchHandle::empty())
    }
}

fn unread(error: io::Error, name: &Path) -> OpenReadError {
    match error.kind() {
        io::ErrorKind::NotFound => OpenReadError::FileDoesNotExist(name.to_owned()),
        _ => OpenReadError::wrap_io_error(error, name.to_owned()),
    }
}

/// A file that is written once.
struct Durable(File);

impl Write for Durable {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TerminatingWrite for Durable {
    fn terminate_ref(&mut self, _: AntiCallToken) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// A file that is read.
struct Plain {
    file: File,
    len: usize,
    /// The block that was read last, and where it begins.
    block: Mutex<Option<(usize, OwnedBytes)>>,
}

impl Plain {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        Ok(Self { file, len, block: Mutex::new(None) })
    }

    fn read(&self, range: Range<usize>) -> io::Result<OwnedBytes> {
        let mut bytes = vec![0; range.len()];
        self.file.read_exact_at(&mut bytes, range.start as u64)?;
        Ok(OwnedBytes::new(bytes))
    }
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plain({} bytes)", self.len)
    }
}

impl HasLen for Plain {
    fn len(&self) -> usize {
        self.len
    }
}

impl FileHandle for Plain {
    fn read_bytes(&self, range: Range<usize>) -> io::Result<OwnedBytes> {
        if range.start > range.end || range.end > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if range.len() > SMALL_BYTES {
            return self.read(range);
        }
        let mut kept = self.block.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((start, bytes)) = &*kept
            && range.start >= *start
            && range.end <= start.saturating_add(bytes.len())
        {
            return Ok(bytes.slice(range.start - start..range.end - start));
        }
        let block = self.read(range.start..self.len.min(range.start.saturating_add(BLOCK_BYTES)))?;
        let wanted = block.slice(0..range.len());
        *kept = Some((range.start, block));
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_what_the_file_holds() {
        let folder = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        fs::write(folder.path().join("a"), &content).unwrap();
        let file = Plain::open(&folder.path().join("a")).unwrap();
        let mut at = 12_345usize;
        for length in [0, 1, 7, 100, SMALL_BYTES, SMALL_BYTES + 1, BLOCK_BYTES, 3] {
            for _ in 0..50 {
                at = (at.wrapping_mul(7_919) + length) % (content.len() - length);
                assert_eq!(&*file.read_bytes(at..at + length).unwrap(), &content[at..at + length]);
                // A neighbour, out of the same block.
                let near = at.saturating_sub(3)..(at + length + 3).min(content.len());
                assert_eq!(&*file.read_bytes(near.clone()).unwrap(), &content[near]);
            }
        }
        assert!(file.read_bytes(content.len() - 1..content.len() + 1).is_err());
    }
}
