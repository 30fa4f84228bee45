//! Small files and directories: written so that a power cut leaves the old or the new, never half; and the lock.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    rand::{GetRandomFlags, getrandom},
};

use crate::error::{FileError, OpenError};

/// Extension of files that are not complete yet.
pub(crate) const TEMPORARY: &str = "tmp";

/// Fills a buffer with random bytes from the kernel.
pub(crate) fn random(buffer: &mut [u8]) -> Result<(), FileError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match getrandom(&mut buffer[filled..], GetRandomFlags::empty()) {
            Ok(more) => filled += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(FileError::new("read", "getrandom(2)")(error.into())),
        }
    }
    Ok(())
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), FileError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(FileError::new("sync", dir))
}

/// Makes a directory and its parents, durably, when it is missing.
pub(crate) fn make_dir(dir: &Path) -> Result<(), FileError> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(FileError::new("make", dir))?;
    dir.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_dir)
}

/// Writes a file beside its final name, makes it durable, and moves it there.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let temporary = path.with_extension(TEMPORARY);
    let mut file = File::create(&temporary).map_err(FileError::new("make", &temporary))?;
    file.write_all(bytes).map_err(FileError::new("write", &temporary))?;
    file.sync_all().map_err(FileError::new("sync", &temporary))?;
    drop(file);
    fs::rename(&temporary, path).map_err(FileError::new("rename", path))?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Reads a file of at most `limit` bytes; `None` when there is none.
pub(crate) fn read_bounded(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::new("open", path)(error)),
    };
    // What the file says of itself spares copies; it may lie, so it is not relied on.
    let length = file.metadata().map_or(0, |meta| usize::try_from(meta.len()).unwrap_or(limit));
    let mut bytes = Vec::with_capacity(length.min(limit).saturating_add(1));
    // One byte more, so that a longer file does not pass for its beginning.
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(FileError::new("read", path))?;
    Ok(Some(bytes))
}

/// Holds a ledger's directory for one process, for as long as it lives.
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the lock, or tells who has it.
    pub(crate) fn take(dir: &Path) -> Result<Self, OpenError> {
        let path: PathBuf = dir.join("lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(FileError::new("open", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // Ten digits hold any process id; the holder may be writing it just now.
                let _ = file.take(16).read_to_string(&mut text);
                return Err(OpenError::Locked { dir: dir.to_owned(), pid: text.trim().parse().ok() });
            }
            Err(error) => return Err(FileError::new("lock", &path)(error.into()).into()),
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(FileError::new("write", &path))?;
        Ok(Self { _file: file })
    }
}
