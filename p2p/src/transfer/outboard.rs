//! Outboards: the inner nodes of a file's Bao tree, 64 B for each 16 KiB group but one (0.4 % of the file).
//!
//! Format: the pairs of hashes in post-order, nothing else. A file of at most one group has an empty outboard. The
//! content hash and the size are known from elsewhere, and everything is checked against them when it is read, so
//! the format needs no header, no version and no checksum.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use antiphon_proto::{ContentHash, limits};
use bao_tree::io::sync::outboard_post_order;

use super::{disk, tree};

/// Bytes read from a disk at once: a few milliseconds of an SD card.
const READ_BYTES: usize = 1024 * 1024;

/// How long an outboard is, in bytes, for a file of `size` bytes.
#[must_use]
pub fn length(size: u64) -> u64 {
    tree::tree(size).outboard_size()
}

/// Reads `size` bytes once, in order, and writes their outboard once, in order. Memory does not grow with the size.
///
/// # Errors
/// What reading or writing reports; `UnexpectedEof` when the data is shorter than `size`, `InvalidData` when it is
/// longer (a file that is still being written) or larger than any file that is served.
pub fn create(data: &mut impl Read, size: u64, out: &mut impl Write) -> io::Result<ContentHash> {
    if size > limits::FILE_BYTES {
        let text =
            format!("{size} bytes are more than the {} that a served file may have", limits::FILE_BYTES);
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut data = BufReader::with_capacity(READ_BYTES, data);
    let root = outboard_post_order(&mut data, tree::tree(size), &mut *out)?;
    if data.read(&mut [0])? != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file grew while it was being hashed"));
    }
    Ok(ContentHash(*root.as_bytes()))
}

/// Hashes the file `data` and puts its outboard at `outboard`: written beside it under a temporary name, synced,
/// renamed, and the folder synced. Gives the content hash and the file's size.
///
/// # Errors
/// As [`create`], and what the file system reports.
pub fn create_file(data: &Path, outboard: &Path) -> io::Result<(ContentHash, u64)> {
    let mut source = File::open(data)?;
    let size = source.metadata()?.len();
    let temporary = with_suffix(outboard, ".tmp");
    let written = write_to(&mut source, size, &temporary);
    let content = written.inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })?;
    fs::rename(&temporary, outboard)?;
    disk::sync_folder_of(outboard)?;
    Ok((content, size))
}

fn write_to(source: &mut File, size: u64, path: &Path) -> io::Result<ContentHash> {
    let mut out = BufWriter::new(File::create(path)?);
    let content = create(source, size, &mut out)?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    Ok(content)
}

/// `path` with `suffix` after its whole name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
