//! Making a dump, or continuing one.
//!
//! Every file is written beside its name and renamed. What the tiles of the new checkpoint need is on the disk before
//! the checkpoint, and that before the manifest, so that whatever interrupts this, the directory holds the old dump
//! or the new one. What an interrupted run has written is compared and kept.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use antiphon_proto::{
    BlockHash, canonical, limits,
    note::{self, CosignedCheckpoint},
};

use super::{
    CHECKPOINT, DirSource, DumpError, DumpSource as _, GENESIS, MANIFEST, MANIFEST_BYTES, Manifest, seals,
    seals_path,
};
use crate::{
    error::{FileError, ReadError},
    ledger::Ledger,
    log::{
        CheckpointError,
        tile::{BUNDLE_BYTES, Kind, TILE_WIDTH, Tile, hashes_at, push_entry},
    },
    progress::{Progress, Stage},
    store::{Step, files},
    tree::leaf_hash,
};

/// What people need to read a dump without this program.
const TEXTS: [(&str, &str); 5] = [
    ("README.md", include_str!("README.md")),
    ("DATA.md", include_str!("../../../docs/DATA.md")),
    ("proto/antiphon/v1/ledger.proto", include_str!("../../../proto/schema/antiphon/v1/ledger.proto")),
    ("proto/antiphon/v1/council.proto", include_str!("../../../proto/schema/antiphon/v1/council.proto")),
    ("proto/antiphon/v1/wire.proto", include_str!("../../../proto/schema/antiphon/v1/wire.proto")),
];

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The manifest of the dump as it is now.
    pub manifest: Manifest,
    /// Number of files that are new or changed.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Writes the ledger up to its newest cosigned checkpoint into `dir`, from block `from` (a multiple of 256) on; a dump
/// that is there is continued.
///
/// # Errors
/// [`DumpError`]; the directory then holds the dump that it held before, and can be continued.
pub fn write(
    ledger: &Ledger,
    dir: &Path,
    from: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Written, DumpError> {
    let note = ledger.checkpoint().ok_or(DumpError::NoCheckpoint)?;
    let checkpoint = CosignedCheckpoint::open(&note, &note::origin(&ledger.network()), &[])?.checkpoint;
    let (size, theirs) = (checkpoint.size, checkpoint.root);
    let Some(ours) = ledger.root_at(size)? else {
        return Err(DumpError::Behind { size: ledger.size(), checkpoint: size });
    };
    if ours != theirs {
        return Err(CheckpointError::Fork { size, ours, theirs }.into());
    }
    if !from.is_multiple_of(TILE_WIDTH) || from > size {
        return Err(DumpError::Start { from, size });
    }
    files::make_dir(dir)?;
    check_ours(dir)?;
    let before = existing(dir, ledger, from, size)?;
    let mut out = Out { dir, files: 0, bytes: 0, full: Vec::new() };
    let start = out.first_missing(from, before);
    let (files, head) = out.all(ledger, (start, from, size), progress)?;
    let genesis = canonical::encode(ledger.genesis());
    out.put(GENESIS, &genesis)?;
    for (path, text) in TEXTS {
        out.put(path, text.as_bytes())?;
    }
    out.sync()?;
    let manifest = Manifest::new(&ledger.network(), &genesis, (from, size), &theirs, head, files);
    // The checkpoint first: it is what tools go by, and a manifest that is behind it is no contradiction.
    files::write_atomically(&dir.join(CHECKPOINT), &note)?;
    files::write_atomically(&dir.join(MANIFEST), &manifest.to_bytes()?)?;
    out.remove_partials()?;
    Ok(Written { manifest, files: out.files.saturating_add(2), bytes: out.bytes })
}

/// A folder that holds other things is not written into: nothing of somebody's own is overwritten.
fn check_ours(dir: &Path) -> Result<(), DumpError> {
    if dir.join(MANIFEST).exists() {
        return Ok(());
    }
    let error = |error| DumpError::Source { file: dir.display().to_string(), error };
    for entry in fs::read_dir(dir).map_err(error)? {
        let name = entry.map_err(error)?.file_name();
        // What a first dump that was interrupted leaves behind.
        let tops = TEXTS.iter().filter_map(|(path, _)| path.split('/').next()).chain(["tile", "seals"]);
        let ours = [GENESIS, CHECKPOINT].into_iter().chain(tops).any(|top| {
            let temporary = Path::new(top).with_extension(files::TEMPORARY);
            name == *top || name == temporary.as_os_str()
        });
        let text = TEXTS.iter().find(|(path, _)| name == **path);
        let changed = text
            .is_some_and(|(path, text)| fs::read(dir.join(path)).is_ok_and(|found| found != text.as_bytes()));
        if !ours || changed {
            return Err(DumpError::Occupied(format!("a folder with other things: {}", name.display())));
        }
    }
    Ok(())
}

/// Size of the dump that is there, which this one must continue.
fn existing(dir: &Path, ledger: &Ledger, from: u64, size: u64) -> Result<u64, DumpError> {
    let read = DirSource::new(dir).read(MANIFEST, MANIFEST_BYTES);
    let Some(bytes) = read.map_err(|error| DumpError::Source { file: MANIFEST.to_owned(), error })? else {
        return Ok(0);
    };
    let manifest = Manifest::parse(&bytes)?;
    let network = ledger.network();
    if manifest.network != network.to_string() {
        return Err(DumpError::Occupied(format!("of network {}", manifest.network)));
    }
    if manifest.first != from {
        return Err(DumpError::Occupied(format!("from block {} on", manifest.first)));
    }
    if manifest.size > size {
        return Err(DumpError::Occupied(format!("of {} blocks, which is newer", manifest.size)));
    }
    let root = ledger.root_at(manifest.size)?.map(|root| root.to_string());
    if root.as_ref() != Some(&manifest.root) {
        return Err(DumpError::Occupied("of another history".to_owned()));
    }
    Ok(manifest.size)
}

/// The directory that is written to.
struct Out<'a> {
    dir: &'a Path,
    files: u64,
    bytes: u64,
    /// Full tiles and bundles that were partial in an older dump, maybe.
    full: Vec<String>,
}

impl Out<'_> {
    /// The first bundle at or behind `from` that is not wholly there, given that a dump of `size` blocks was.
    fn first_missing(&self, from: u64, size: u64) -> u64 {
        let full = size / TILE_WIDTH;
        let there = |index: &u64| {
            bundle_paths(&Tile::entries(*index, 256)).iter().all(|path| self.dir.join(path).exists())
        };
        (from / TILE_WIDTH..full).find(|index| !there(index)).unwrap_or_else(|| full.max(from / TILE_WIDTH))
    }

    /// Writes a file unless it is there with these bytes.
    fn put(&mut self, path: &str, bytes: &[u8]) -> Result<(), DumpError> {
        let target = self.dir.join(path);
        if fs::metadata(&target).is_ok_and(|meta| meta.len() == bytes.len() as u64)
            && files::read_bounded(&target, bytes.len())?.as_deref() == Some(bytes)
        {
            return Ok(());
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(FileError::new("make", parent))?;
        }
        let temporary = target.with_extension(files::TEMPORARY);
        fs::write(&temporary, bytes).map_err(FileError::new("write", &temporary))?;
        fs::rename(&temporary, &target).map_err(FileError::new("rename", &target))?;
        self.files = self.files.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// Tiles, bundles and seals. Returns the number of files in the whole dump and the hash of the last block.
    fn all(
        &mut self,
        ledger: &Ledger,
        (start, from, size): (u64, u64, u64),
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(u64, Option<BlockHash>), DumpError> {
        self.bundles(ledger, start, size, progress)?;
        let mut tiles = 3 * (size.div_ceil(TILE_WIDTH) - from / TILE_WIDTH);
        let mut level = 1;
        while hashes_at(level, size) > 0 {
            for tile in Tile::of_level(level, size, 0) {
                let short = || ReadError::Index(format!("{} cannot be made", tile.path()));
                let path = tile.path();
                self.put(&path, &ledger.tile_at(&tile)?.ok_or_else(short)?)?;
                self.note_full(&tile, path);
                tiles = tiles.saturating_add(1);
            }
            level += 1;
        }
        let head = match size.checked_sub(1) {
            Some(last) => ledger.block(last)?.map(|bytes| BlockHash::of(&bytes)),
            None => None,
        };
        // Checkpoint, genesis and manifest.
        Ok((tiles.saturating_add(3 + TEXTS.len() as u64), head))
    }

    /// Entry bundles, leaf hashes and seals, in one walk over the blocks.
    fn bundles(
        &mut self,
        ledger: &Ledger,
        start: u64,
        size: u64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), DumpError> {
        let store = &ledger.0.store;
        let first = start.saturating_mul(TILE_WIDTH);
        let gone = |index| ReadError::Index(format!("block {index} is not in it"));
        if first >= size {
            return Ok(());
        }
        let mut walker = store.walk_from(first)?.ok_or_else(|| gone(first))?;
        let (mut at, mut bundle) = (first, Bundle::default());
        let mut sealed = first;
        while at < size {
            let Step::Batch(batch) = walker.step()? else { return Err(gone(at).into()) };
            let end = batch.first.saturating_add(batch.blocks.len() as u64);
            let skip = usize::try_from(at.saturating_sub(batch.first)).unwrap_or(usize::MAX);
            for block in batch.blocks.iter().skip(skip) {
                if at >= size {
                    break;
                }
                bundle.push(block)?;
                at = at.saturating_add(1);
                if at == end {
                    sealed = end;
                    bundle.seals.push((end, batch.seal.clone()));
                }
                if at.is_multiple_of(TILE_WIDTH) || at == size {
                    self.bundle((at - 1) / TILE_WIDTH, std::mem::take(&mut bundle))?;
                    progress(Progress { stage: Stage::Dump, done: at, total: size });
                }
            }
        }
        if sealed == size {
            Ok(())
        } else {
            Err(DumpError::bad(CHECKPOINT, sealed, "the checkpoint ends inside a batch"))
        }
    }

    fn bundle(&mut self, index: u64, bundle: Bundle) -> Result<(), DumpError> {
        let tile = Tile::entries(index, bundle.width);
        let [entries, leaves, seals] = bundle_paths(&tile);
        self.put(&entries, &bundle.entries)?;
        self.put(&leaves, &bundle.leaves)?;
        self.put(&seals, &seals::encode(&bundle.seals))?;
        for path in [entries, leaves, seals] {
            self.note_full(&tile, path);
        }
        Ok(())
    }

    fn note_full(&mut self, tile: &Tile, path: String) {
        if tile.is_full() && self.dir.join(format!("{path}.p")).exists() {
            self.full.push(path);
        }
    }

    /// Everything written so far becomes durable.
    fn sync(&self) -> Result<(), FileError> {
        let dir = File::open(self.dir).map_err(FileError::new("open", self.dir))?;
        rustix::fs::syncfs(&dir).map_err(|error| FileError::new("sync", self.dir)(error.into()))
    }

    /// Removes partial tiles whose full tile is there, as tlog-tiles allows: last, when nothing asks for them.
    fn remove_partials(&self) -> Result<(), FileError> {
        for path in &self.full {
            let partial: PathBuf = self.dir.join(format!("{path}.p"));
            match fs::remove_dir_all(&partial) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(FileError::new("remove", partial)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Paths of a bundle, its leaf hashes and its seals.
fn bundle_paths(tile: &Tile) -> [String; 3] {
    let leaves = Tile { kind: Kind::Hashes { level: 0 }, ..*tile };
    [tile.path(), leaves.path(), seals_path(tile.index, tile.width)]
}

/// A bundle that is being filled.
#[derive(Default)]
struct Bundle {
    width: u16,
    entries: Vec<u8>,
    leaves: Vec<u8>,
    seals: Vec<seals::Seal>,
}

impl Bundle {
    fn push(&mut self, block: &[u8]) -> Result<(), ReadError> {
        let too_long = || ReadError::Index("a block is too long for a bundle".to_owned());
        push_entry(&mut self.entries, block).ok_or_else(too_long)?;
        self.leaves.extend_from_slice(&leaf_hash(block));
        self.width += 1;
        debug_assert!(self.entries.len() <= BUNDLE_BYTES && block.len() <= limits::BLOCK_BYTES);
        Ok(())
    }
}
