//! JSON lines: a block a line, in one file or in a file for each range.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    ops::Range,
    path::{Path, PathBuf},
};

use antiphon_proto::NetworkId;
use anyhow::{Context, bail};

use super::{
    Row, Sink, Target,
    folder::{Folder, Pending, make_dir, range_name},
    json,
};

/// Endings that make a path a file.
const FILE_ENDINGS: [&str; 3] = ["jsonl", "ndjson", "json"];

/// Where lines go.
#[derive(Debug)]
pub(super) enum Lines {
    /// Everything in one file, written anew each time.
    File(PathBuf),
    /// A file for each range.
    Folder(Folder),
}

impl Lines {
    /// Takes `path` for a file when one is there or its name ends like one, else for a folder.
    ///
    /// # Errors
    /// When something else is in the way.
    pub(super) fn open(path: &Path, network: NetworkId, size: u64) -> anyhow::Result<Self> {
        let named = path.extension().and_then(|ending| ending.to_str());
        let one_file = match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => false,
            Ok(meta) if meta.is_file() => true,
            // A device or pipe would be replaced by a file.
            Ok(_) => bail!("{} is neither a file nor a folder", path.display()),
            Err(_) => named.is_some_and(|ending| FILE_ENDINGS.contains(&ending)),
        };
        if !one_file {
            return Ok(Self::Folder(Folder::open(path, "jsonl.json", network, size)?));
        }
        if let Some(folder) = path.parent() {
            make_dir(folder)?;
        }
        Ok(Self::File(path.to_owned()))
    }

    fn path(&self, first: u64) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Folder(folder) => folder.root().join(range_name(first, "jsonl")),
        }
    }
}

impl Target for Lines {
    fn missing(&self, size: u64) -> (Vec<Range<u64>>, u64) {
        match self {
            Self::File(_) => (std::iter::once(0..size).collect(), 0),
            Self::Folder(folder) => folder.missing(size, |first| self.path(first).is_file()),
        }
    }

    fn begin(&self, range: &Range<u64>) -> anyhow::Result<Box<dyn Sink>> {
        let (pending, file) = Pending::create(&self.path(range.start))?;
        Ok(Box::new(LinesFile { pending, out: BufWriter::new(file) }))
    }

    fn reached(&mut self, end: u64) -> anyhow::Result<()> {
        match self {
            Self::File(_) => Ok(()),
            Self::Folder(folder) => folder.reached(end),
        }
    }
}

struct LinesFile {
    pending: Pending,
    out: BufWriter<File>,
}

impl Sink for LinesFile {
    fn push(&mut self, row: &Row<'_>) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(&json::block(row.block, row.bytes))?;
        line.push(b'\n');
        let written = self.out.write_all(&line);
        written.with_context(|| format!("cannot write {}", self.pending.path().display()))
    }

    fn finish(self: Box<Self>) -> anyhow::Result<u64> {
        let Self { pending, out } = *self;
        let shown = pending.path().display().to_string();
        let file = out.into_inner().map_err(|error| error.into_error());
        pending.place(file.with_context(|| format!("cannot write {shown}"))?)?;
        Ok(1)
    }
}
