//! A folder that an export grows in: its manifest, and files that appear whole.

use std::{
    fs::{self, File},
    io::{self, Write},
    ops::Range,
    path::{Path, PathBuf},
};

use antiphon_proto::NetworkId;
use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::RANGE_BLOCKS;
use crate::{
    failure::{Failure, Kind},
    system::durable,
};

/// Version of the layout of folders, and of the columns in them.
const LAYOUT: u32 = 1;
/// A manifest has a few short fields.
const MANIFEST_BYTES: u64 = 64 * 1024;

/// What the manifest says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    schema: u32,
    network: String,
    /// Blocks that all tables hold.
    blocks: u64,
    blocks_per_file: u64,
    made_by: String,
}

/// A folder that is filled range by range.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    manifest_path: PathBuf,
    manifest: Manifest,
}

impl Folder {
    /// Opens a folder, or makes it. `manifest` is the name of the manifest in it.
    ///
    /// # Errors
    /// When it cannot be made, or holds an export of another network, another layout, or more than `size` blocks.
    pub(super) fn open(root: &Path, manifest: &str, network: NetworkId, size: u64) -> anyhow::Result<Self> {
        make_dir(root)?;
        let manifest_path = root.join(manifest);
        let stored = read_manifest(&manifest_path)?;
        if let Some(stored) = &stored {
            check(stored, root, network, size)?;
        }
        let fresh = || Manifest {
            schema: LAYOUT,
            network: network.to_string(),
            blocks: 0,
            blocks_per_file: RANGE_BLOCKS,
            made_by: format!("antiphon {}", env!("CARGO_PKG_VERSION")),
        };
        let new = stored.is_none();
        let folder = Self { root: root.to_owned(), manifest_path, manifest: stored.unwrap_or_else(fresh) };
        if new {
            folder.save()?;
        }
        Ok(folder)
    }

    /// The folder itself.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The network that the folder is about.
    pub(super) fn network(&self) -> &str {
        &self.manifest.network
    }

    /// Ranges of a ledger of `size` blocks whose files have to be written, and the number of ranges that can stay.
    /// `there` tells whether all files of the range from a block on exist.
    pub(super) fn missing(&self, size: u64, there: impl Fn(u64) -> bool) -> (Vec<Range<u64>>, u64) {
        // An empty ledger has its tables too, so that queries work.
        let ranges = size.div_ceil(RANGE_BLOCKS).max(1);
        let (mut missing, mut kept) = (Vec::new(), 0_u64);
        for number in 0..ranges {
            let first = number.saturating_mul(RANGE_BLOCKS);
            let end = first.saturating_add(RANGE_BLOCKS).min(size);
            if end <= self.manifest.blocks && there(first) {
                kept = kept.saturating_add(1);
            } else {
                missing.push(first..end);
            }
        }
        (missing, kept)
    }

    /// Notes that the blocks below `end` are in place.
    pub(super) fn reached(&mut self, end: u64) -> anyhow::Result<()> {
        if end > self.manifest.blocks {
            self.manifest.blocks = end;
            self.save()?;
        }
        Ok(())
    }

    fn save(&self) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(&self.manifest)?;
        text.push('\n');
        let shown = self.manifest_path.display();
        durable::write(&self.manifest_path, text.as_bytes(), 0o644)
            .with_context(|| format!("cannot write {shown}"))
    }
}

fn read_manifest(path: &Path) -> anyhow::Result<Option<Manifest>> {
    let shown = path.display();
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
        Ok(meta) if meta.len() > MANIFEST_BYTES => {
            anyhow::bail!("{shown} is no manifest of an export: {} bytes", meta.len())
        }
        Ok(_) => {}
    }
    let text = fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    let manifest = serde_json::from_slice(&text);
    manifest.map(Some).with_context(|| format!("{shown} is no manifest of an export; name another folder"))
}

fn check(stored: &Manifest, root: &Path, network: NetworkId, size: u64) -> anyhow::Result<()> {
    let shown = root.display();
    let refuse = |message: String| Err(Failure::new(Kind::Usage, message).into());
    if stored.schema != LAYOUT || stored.blocks_per_file != RANGE_BLOCKS {
        return refuse(format!(
            "the export in {shown} was made by {} in another layout; name another folder",
            stored.made_by
        ));
    }
    if stored.network != network.to_string() {
        return refuse(format!(
            "{shown} holds an export of network {}, this ledger is of {network}; name another folder",
            stored.network
        ));
    }
    if stored.blocks > size {
        return refuse(format!(
            "the export in {shown} has {} blocks, this ledger only {size}: let the peer catch up first",
            stored.blocks
        ));
    }
    Ok(())
}

/// Name of a range's file, in the order of the ledger when sorted: 12 digits hold every index that a ledger can have.
pub(super) fn range_name(first: u64, extension: &str) -> String {
    format!("{first:012}.{extension}")
}

/// Makes a folder, and those above it.
pub(super) fn make_dir(path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make the folder {}", path.display()))
}

/// A file that appears under its name when it is whole. Dropped before, it is removed.
#[derive(Debug)]
pub(super) struct Pending {
    path: PathBuf,
    temporary: PathBuf,
    placed: bool,
}

impl Pending {
    /// Begins a file; what is under its name stays until [`Pending::place`].
    pub(super) fn create(path: &Path) -> anyhow::Result<(Self, File)> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let temporary = path.with_file_name(name);
        // What lies there may be a link that somebody else has laid: it is removed, never followed.
        let file = match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => File::create_new(&temporary),
        };
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok((Self { path: path.to_owned(), temporary, placed: false }, file))
    }

    /// The name that the file will have.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the bytes durable, then gives the file its name.
    pub(super) fn place(mut self, mut file: File) -> anyhow::Result<()> {
        let placed = file.flush().and_then(|()| file.sync_all()).and_then(|()| {
            fs::rename(&self.temporary, &self.path)?;
            self.placed = true;
            durable::sync_directory(self.path.parent().unwrap_or_else(|| Path::new(".")))
        });
        placed.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.placed {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init, reason = "lists of ranges are what is tested")]
    use super::*;

    const NETWORK: NetworkId = NetworkId([7; 32]);

    #[test]
    fn full_ranges_stay_and_the_last_one_is_replaced_when_it_grew() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("a/b");
        let mut folder = Folder::open(&root, "m.json", NETWORK, 0).unwrap();
        assert_eq!(folder.missing(0, |_| false), (vec![0..0], 0));
        let size = 2 * RANGE_BLOCKS + 5;
        let third = 2 * RANGE_BLOCKS..size;
        assert_eq!(folder.missing(size, |_| true).0.len(), 3);
        folder.reached(size).unwrap();

        let folder = Folder::open(&root, "m.json", NETWORK, size + 1).unwrap();
        assert_eq!(folder.missing(size, |_| true), (vec![], 3));
        assert_eq!(folder.missing(size + 1, |_| true), (vec![third.start..size + 1], 2));
        // A file that somebody removed is written again.
        let removed = |first| first != RANGE_BLOCKS;
        assert_eq!(folder.missing(size, removed), (vec![RANGE_BLOCKS..2 * RANGE_BLOCKS], 2));
    }

    #[test]
    fn folders_of_others_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        Folder::open(root, "m.json", NETWORK, 9).unwrap().reached(9).unwrap();
        for (network, size, word) in [(NetworkId([8; 32]), 9, "network"), (NETWORK, 8, "catch up")] {
            let error = Folder::open(root, "m.json", network, size).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        for text in ["", "{}", "[1", &"x".repeat(100_000)] {
            fs::write(root.join("m.json"), text).unwrap();
            assert!(Folder::open(root, "m.json", NETWORK, 9).is_err());
        }
    }

    #[test]
    fn files_appear_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "old").unwrap();
        let (pending, mut file) = Pending::create(&path).unwrap();
        file.write_all(b"ne").unwrap();
        drop((pending, file));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let (pending, mut file) = Pending::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        pending.place(file).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
