//! Where the files of a dump come from.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::store::files;

/// Gives the files of a dump by their paths, which have `/` between their elements on every system.
pub trait DumpSource {
    /// A whole file; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read; [`io::ErrorKind::InvalidData`] when it is longer than `limit` bytes.
    fn read(&mut self, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>>;
}

/// A dump in a directory.
#[derive(Debug, Clone)]
pub struct DirSource(PathBuf);

impl DirSource {
    /// The dump in `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    /// That directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl DumpSource for DirSource {
    fn read(&mut self, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let read = files::read_bounded(&self.0.join(path), limit).map_err(|error| error.source)?;
        match read {
            Some(bytes) if bytes.len() > limit => {
                Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is longer than {limit} bytes")))
            }
            read => Ok(read),
        }
    }
}
