//! The ledger as tables: Parquet files and JSON lines that ordinary tools read.
//!
//! Blocks are cut into ranges of [`RANGE_BLOCKS`]; a range has one file in each table, named by its first block. A
//! range that is full never changes, so its files are written once; those of the last range are replaced when the
//! ledger has grown. Every file is written beside its place and renamed, and a small manifest, written after each
//! range, says how far the folder is. `docs/DATA.md` describes every column.

mod accounts;
mod folder;
pub mod json;
mod lines;
mod parquet;
mod tables;

use std::{ops::Range, path::PathBuf};

use antiphon_ledger::{Ledger, tree};
use antiphon_proto::{
    BlockHash, SongId,
    wire::{Block, block::Body},
};
use anyhow::Context;
use serde::{Deserialize, Serialize};

use self::{
    accounts::{Accounts, Settled},
    folder::Folder,
    lines::Lines,
    parquet::Tables,
};
use crate::failure::{Failure, Kind};

/// Blocks in a range. A file of this many song blocks is about 200 MB, what analytic tools read well.
pub const RANGE_BLOCKS: u64 = 65_536;

/// What is written, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outputs {
    /// Folder of the Parquet tables.
    pub parquet: Option<PathBuf>,
    /// Folder of JSON lines, or one file when the name says so.
    pub jsonl: Option<PathBuf>,
}

/// What an export has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this form.
    pub schema: u32,
    /// Network id.
    pub network: String,
    /// Blocks that the export holds now.
    pub blocks: u64,
    /// Files that were written.
    pub files_written: u64,
    /// Files that were there and have not changed.
    pub files_kept: u64,
    /// Folder of the Parquet tables.
    pub parquet: Option<String>,
    /// Folder or file of JSON lines.
    pub jsonl: Option<String>,
}

/// A block on its way into the tables.
struct Row<'b> {
    /// Canonical bytes.
    bytes: &'b [u8],
    /// The same, decoded.
    block: &'b Block,
    /// BLAKE3 of the bytes.
    hash: BlockHash,
    /// RFC 6962 leaf hash of the bytes.
    leaf: [u8; 32],
    /// The song that the block is or belongs to, and its index.
    song: Option<(SongId, u64)>,
    /// What a settlement has led to, where the target asks for it.
    settled: Option<Settled>,
}

/// Files of one range of blocks while they are written. Dropped unfinished, it leaves nothing behind.
trait Sink {
    /// Takes the next block of the range.
    fn push(&mut self, row: &Row<'_>) -> anyhow::Result<()>;
    /// Puts the files into place, durably. Returns how many there are.
    fn finish(self: Box<Self>) -> anyhow::Result<u64>;
}

/// Somewhere that ranges are written to.
trait Target {
    /// What has to be written for a ledger of `size` blocks, and the number of files that can stay.
    fn missing(&self, size: u64) -> (Vec<Range<u64>>, u64);
    /// Begins a range.
    fn begin(&self, range: &Range<u64>) -> anyhow::Result<Box<dyn Sink>>;
    /// Notes that the blocks below `end` are in place.
    fn reached(&mut self, end: u64) -> anyhow::Result<()>;
    /// Whether its rows tell balances.
    fn tells_balances(&self) -> bool {
        false
    }
}

/// Writes what `outputs` lack of the blocks of `ledger`, up to its size at the start. `progress` is told the blocks
/// done and all of them; when it answers `false`, the export ends early and the next one goes on from there.
///
/// # Errors
/// What stands in the way, with the file's name; files that are in place stay whole.
pub fn run(
    ledger: &Ledger,
    outputs: &Outputs,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> anyhow::Result<Report> {
    let (network, size) = (ledger.network(), ledger.size());
    let show = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let mut report = Report {
        schema: 1,
        network: network.to_string(),
        blocks: size,
        files_written: 0,
        files_kept: 0,
        parquet: show(&outputs.parquet),
        jsonl: show(&outputs.jsonl),
    };
    let mut all: Vec<Box<dyn Target>> = Vec::new();
    if let Some(path) = &outputs.parquet {
        all.push(Box::new(Tables::new(Folder::open(path, "parquet.json", network, size)?)?));
    }
    if let Some(path) = &outputs.jsonl {
        all.push(Box::new(Lines::open(path, network, size)?));
    }
    let mut plan = Vec::new();
    for target in all {
        let (ranges, kept) = target.missing(size);
        report.files_kept = report.files_kept.saturating_add(kept);
        plan.push((target, ranges));
    }
    let total = plan.iter().flat_map(|(_, ranges)| ranges).map(|range| range.end - range.start).sum();
    let mut done = 0_u64;
    let mut accounts = Accounts::default();
    for (mut target, ranges) in plan {
        for range in ranges {
            let mut tell = |more: u64| {
                done = done.saturating_add(more);
                progress(done, total)
            };
            let files = write_range(ledger, &*target, &range, &mut accounts, &mut tell)?;
            target.reached(range.end)?;
            report.files_written = report.files_written.saturating_add(files);
        }
    }
    Ok(report)
}

/// Writes the files of a range. `tell` gets the number of blocks that came in since it was last told.
fn write_range(
    ledger: &Ledger,
    target: &dyn Target,
    range: &Range<u64>,
    accounts: &mut Accounts,
    tell: &mut dyn FnMut(u64) -> bool,
) -> anyhow::Result<u64> {
    let mut sink = target.begin(range)?;
    // Nobody has an account as long as the state has no entries.
    let counts = target.tells_balances() && ledger.tokens().totals.entries > 0;
    if counts {
        accounts.go_to(ledger, range.start, tell)?;
    }
    let mut next = range.start;
    while next < range.end {
        let batch =
            ledger.batch_from(next)?.with_context(|| format!("the ledger ends before block {next}"))?;
        let before = next;
        let wanted = batch.blocks.iter().zip(batch.first..).filter(|(_, index)| range.contains(index));
        for (bytes, index) in wanted.filter(|(_, index)| *index >= before) {
            let block = Block::parse(bytes).with_context(|| format!("block {index}"))?;
            let song = song_of(ledger, &block)?;
            let settled = if counts { accounts.take(ledger, &block)? } else { None };
            let (hash, leaf) = (BlockHash::of(bytes), tree::leaf_hash(bytes));
            let row = Row { bytes, block: &block, hash, leaf, song, settled };
            sink.push(&row)?;
            next = index.saturating_add(1);
        }
        anyhow::ensure!(next > before, "the batch of block {before} does not hold it");
        if !tell(next - before) {
            return Err(interrupted());
        }
    }
    sink.finish()
}

fn interrupted() -> anyhow::Error {
    let message = "interrupted; files that are whole stay, the next export goes on from there";
    Failure::new(Kind::Failed, message).into()
}

/// The song that a block is or belongs to, and its index.
fn song_of(ledger: &Ledger, block: &Block) -> anyhow::Result<Option<(SongId, u64)>> {
    Ok(match &block.body {
        Some(Body::Song(song)) => Some((song.id(), block.index)),
        Some(Body::Variant(variant)) => {
            let id = variant.song()?;
            ledger.by_song_id(&id)?.map(|index| (id, index))
        }
        _ => None,
    })
}

/// Name of a block's kind, in every table.
fn kind_of(block: &Block) -> &'static str {
    match &block.body {
        Some(Body::Song(_)) => "song",
        Some(Body::Variant(_)) => "variant",
        Some(Body::Epoch(_)) => "epoch",
        Some(Body::Transfer(_)) => "transfer",
        Some(Body::Purchase(_)) => "purchase",
        Some(Body::Grant(_)) => "grant",
        Some(Body::Claim(_)) => "claim",
        Some(Body::Council(_)) => "council",
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt, path::Path};

    use antiphon_ledger::{Options, bench};
    use antiphon_proto::{
        PublicKey,
        wire::{Genesis, Song},
    };
    use serde_json::Value;

    use super::*;

    fn blocks(from: u64, to: u64) -> (Vec<Vec<u8>>, Vec<bench::RawSong>) {
        let songs = from..to;
        songs
            .map(|index| {
                let song = Song {
                    registrant: vec![1; 32],
                    fingerprint: vec![2; 9],
                    content_hash: blake3::hash(&index.to_le_bytes()).as_bytes().to_vec(),
                    bytes: 1_000,
                    duration_ms: 60_000,
                    title: format!("song {index}"),
                    created_ms: 1,
                    signature: vec![3; 64],
                    ..Song::default()
                };
                let raw = bench::RawSong { content: song.content().unwrap(), song_id: song.id() };
                let body = Some(Body::Song(song));
                let block = Block { version: 1, index, prev: vec![4; 32], height: 1, time_ms: 5, body };
                (block.to_bytes(), raw)
            })
            .unzip()
    }

    fn grow(ledger: &Ledger, to: u64) {
        while ledger.size() < to {
            let end = to.min(ledger.size() + 333);
            let (blocks, songs) = blocks(ledger.size(), end);
            bench::append_raw(ledger, &blocks, &songs, b"seal").unwrap();
        }
    }

    fn inode(path: &Path) -> u64 {
        fs::metadata(path).unwrap().ino()
    }

    fn indexes(path: &Path) -> Vec<u64> {
        let text = fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["index"].as_u64().unwrap())
            .collect()
    }

    #[test]
    fn ranges_are_written_once_and_an_interrupted_export_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let genesis = Genesis::new("", 1, [0; 16], &[PublicKey([1; 32])]);
        let ledger =
            Ledger::open(&directory.path().join("ledger"), Options::without_rule(Some(genesis))).unwrap();
        let (tables, lines) = (directory.path().join("tables"), directory.path().join("lines"));
        let outputs = Outputs { parquet: Some(tables.clone()), jsonl: Some(lines.clone()) };
        // An empty ledger has its tables.
        let report = run(&ledger, &outputs, &mut |_, _| true).unwrap();
        assert_eq!((report.blocks, report.files_written), (0, 8));

        grow(&ledger, RANGE_BLOCKS + 1_000);
        // Stopped in the second range of the tables: the first one is in place.
        let error = run(&ledger, &outputs, &mut |done, _| done <= RANGE_BLOCKS).unwrap_err();
        assert!(error.to_string().starts_with("interrupted"), "{error}");
        let first = tables.join("songs/000000000000.parquet");
        let inode_of_first = inode(&first);
        assert_eq!(fs::read_dir(tables.join("songs")).unwrap().count(), 1);
        let mut last = (0, 0);
        let mut tell = |done, total| {
            assert!(done >= last.0);
            last = (done, total);
            true
        };
        let report = run(&ledger, &outputs, &mut tell).unwrap();
        assert_eq!((report.files_written, report.files_kept), (7 + 2, 7));
        assert_eq!(last, (RANGE_BLOCKS + 2_000, RANGE_BLOCKS + 2_000));
        assert_eq!(inode(&first), inode_of_first);
        let first_lines = lines.join("000000000000.jsonl");
        assert!(indexes(&first_lines).into_iter().eq(0..RANGE_BLOCKS));
        let inode_of_lines = inode(&first_lines);

        grow(&ledger, RANGE_BLOCKS + 1_001);
        let report = run(&ledger, &outputs, &mut |_, _| true).unwrap();
        assert_eq!((report.files_written, report.files_kept), (7 + 1, 7 + 1));
        assert_eq!((inode(&first), inode(&first_lines)), (inode_of_first, inode_of_lines));
        let second = indexes(&lines.join("000000065536.jsonl"));
        assert!(second.into_iter().eq(RANGE_BLOCKS..RANGE_BLOCKS + 1_001));
    }
}
