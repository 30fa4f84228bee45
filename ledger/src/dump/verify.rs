//! Verifying a dump without a ledger: everything that its files say, against the checkpoint of the council.
//!
//! One pass, bundle by bundle: every block is hashed, decoded and held against its leaf in the tile, its neighbours
//! and its batch's seal; tiles are held against one another bottom up, and in the end the root against the
//! checkpoint. Memory is that of a batch and a few bundles, whatever the size of the dump.

use std::{collections::VecDeque, thread};

use antiphon_proto::{
    BlockHash, NetworkId, PublicKey, RootHash, SongId, limits,
    note::{self, CosignedCheckpoint},
    wire::{Block, Genesis},
};

use super::{
    Council, DumpError, DumpSource, GenesisCouncil, Head, SealedAt, StateDigest,
    levels::{Levels, read_tile},
    load::{read_bundle, read_seals},
    seals, seals_path,
    seen::{Lookers, Pending, Seen},
};
use crate::{
    append::SealedBatch,
    error::{AppendError, Fault},
    ledger::Ledger,
    log::{
        proof::Hash,
        tile::{TILE_WIDTH, Tile, entries_up_to, fold},
    },
    progress::{Progress, Stage},
    state::ApplyError,
    tree::Frontier,
};

/// Makes the council of a genesis document, or tells why this version cannot follow it.
pub type MakeCouncil<'a> = Box<dyn Fn(&Genesis) -> Result<Box<dyn Council>, String> + 'a>;

/// How a dump is verified.
pub struct VerifyOptions<'a> {
    /// The network that it must be of. Without it the dump's own genesis document is taken for the right one, so that
    /// a dump of another network verifies as well.
    pub network: Option<NetworkId>,
    /// A ledger of the network, empty or a part of the dump, into which every batch is appended: that holds every
    /// block against every rule (signatures, stamps, the state machine) and gives the state digest.
    pub replay: Option<&'a Ledger>,
    /// Who the council is.
    pub council: MakeCouncil<'a>,
}

impl Default for VerifyOptions<'_> {
    fn default() -> Self {
        let council: MakeCouncil<'_> =
            Box::new(|genesis| Ok(Box::new(GenesisCouncil::new(genesis)) as Box<dyn Council>));
        Self { network: None, replay: None, council }
    }
}

/// What was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The network.
    pub network: NetworkId,
    /// First block in the dump.
    pub first: u64,
    /// Number of blocks under the checkpoint.
    pub size: u64,
    /// RFC 6962 root under the checkpoint.
    pub root: RootHash,
    /// Hash of the last block.
    pub head: Option<BlockHash>,
    /// Members that have cosigned it.
    pub cosigners: Vec<PublicKey>,
    /// Batches whose seal was verified. Of a dump that does not begin with block 0, the first may be missing.
    pub batches: u64,
    /// Number of song blocks seen.
    pub songs: u64,
    /// Number of other blocks seen.
    pub variants: u64,
    /// Bytes of the blocks seen.
    pub bytes: u64,
    /// What the state machine made of the blocks, when they were replayed from block 0 on.
    pub state: Option<StateDigest>,
}

/// Verifies a dump: see the module's words for what is looked at.
///
/// # Errors
/// [`DumpError`], the first thing that is wrong; [`DumpError::first_bad`] names the block.
pub fn verify(
    source: &mut dyn DumpSource,
    options: &VerifyOptions<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, DumpError> {
    let head = Head::read(source)?;
    if let Some(expected) = options.network.or(options.replay.map(Ledger::network))
        && expected != head.network
    {
        return Err(DumpError::OtherNetwork { expected, found: head.network });
    }
    let mut council = (options.council)(&head.genesis).map_err(DumpError::Unsupported)?;
    let origin = note::origin(&head.network);
    let unverified = CosignedCheckpoint::open(&head.note, &origin, &[])?;
    let size = unverified.checkpoint.size;
    let mut signed = cosigned(&head, &mut *council, size)?;
    head.manifest.check_end(size, &unverified.checkpoint.root)?;

    let mut pass = Pass::new(source, council, options.replay, &head, &unverified.checkpoint)?;
    thread::scope(|scope| {
        let lookers = Lookers::start(scope, options.replay.is_some());
        pass.run(&lookers, progress)
    })?;
    let (report, mut council) = pass.finish(&head)?;
    if signed.is_none() {
        signed = cosigned(&head, &mut *council, size)?;
    }
    let cosigners = signed.ok_or_else(|| DumpError::Unsupported("the council is not known".to_owned()))?;
    Ok(Report { cosigners, ..report })
}

/// The members that have cosigned the checkpoint; `None` while the council at its size is not known.
fn cosigned(head: &Head, council: &mut dyn Council, size: u64) -> Result<Option<Vec<PublicKey>>, DumpError> {
    let Some(members) = council.members_at(size) else { return Ok(None) };
    let opened = CosignedCheckpoint::open(&head.note, &note::origin(&head.network), &members)?;
    opened.check(&members)?;
    Ok(Some(opened.cosigners().into_iter().collect()))
}

/// A bundle that was read, with what belongs to it, and is being looked at.
struct Read {
    tile: Tile,
    pending: Pending,
    /// The tile of its leaf hashes.
    leaves: Vec<Hash>,
    seals: Vec<seals::Seal>,
}

/// Where the chain is, behind the last block; nothing is known before the first of a dump that begins later.
#[derive(Clone, Copy)]
struct Link {
    hash: BlockHash,
    height: u64,
    time_ms: u64,
}

/// The batch that the next block belongs to.
#[derive(Default)]
struct Open {
    first: u64,
    /// Blocks so far.
    count: usize,
    /// Whether it began before the dump does.
    cut: bool,
    /// Its blocks, for the replay.
    blocks: Vec<(Vec<u8>, Block)>,
}

/// One pass over a dump.
struct Pass<'a> {
    source: &'a mut dyn DumpSource,
    council: Box<dyn Council>,
    replay: Option<&'a Ledger>,
    frontier: Frontier,
    levels: Levels,
    link: Option<Link>,
    open: Open,
    state: StateDigest,
    report: Report,
}

impl<'a> Pass<'a> {
    fn new(
        source: &'a mut dyn DumpSource,
        council: Box<dyn Council>,
        replay: Option<&'a Ledger>,
        head: &Head,
        checkpoint: &note::Checkpoint,
    ) -> Result<Self, DumpError> {
        let (first, size, network) = (head.manifest.first, checkpoint.size, head.network);
        let mut levels = Levels::new(size);
        let frontier = levels.skip(source, first / TILE_WIDTH)?;
        let start = Link { hash: BlockHash(network.0), height: 0, time_ms: 0 };
        Ok(Self {
            source,
            council,
            replay,
            frontier,
            levels,
            link: (first == 0).then_some(start),
            open: Open { first, cut: first > 0, ..Open::default() },
            state: StateDigest::start(&network),
            report: Report {
                network,
                first,
                size,
                root: checkpoint.root,
                head: None,
                cosigners: Vec::new(),
                batches: 0,
                songs: 0,
                variants: 0,
                bytes: 0,
                state: None,
            },
        })
    }

    /// Reads ahead of what is looked at, and ahead of what is held against the rest; errors come in the blocks' order.
    fn run(&mut self, lookers: &Lookers, progress: &mut dyn FnMut(Progress)) -> Result<(), DumpError> {
        let size = self.report.size;
        let mut tiles = Tile::of_entries(size, self.report.first / TILE_WIDTH);
        let mut ahead = VecDeque::new();
        loop {
            while ahead.len() <= lookers.ahead()
                && let Some(tile) = tiles.next()
            {
                ahead.push_back(self.read(lookers, tile));
            }
            let Some(read) = ahead.pop_front() else { return Ok(()) };
            self.bundle(read?)?;
            progress(Progress { stage: Stage::Verify, done: self.frontier.size(), total: size });
        }
    }

    fn read(&mut self, lookers: &Lookers, tile: Tile) -> Result<Read, DumpError> {
        let pending = lookers.look(read_bundle(self.source, &tile)?, tile.width);
        let leaves = Tile::hashes(0, tile.index, tile.width);
        let leaves = read_tile(self.source, &leaves, tile.index.saturating_mul(TILE_WIDTH))?;
        let seals = read_seals(self.source, &tile)?;
        Ok(Read { tile, pending, leaves, seals })
    }

    /// Everything about one entry bundle.
    fn bundle(&mut self, read: Read) -> Result<(), DumpError> {
        let Read { tile, pending, leaves, seals } = read;
        let first = tile.index.saturating_mul(TILE_WIDTH);
        let file = tile.path();
        let (bytes, seen) = pending.wait();
        let (entries, rest) = entries_up_to(&bytes, tile.width);
        for ((seen, leaf), index) in seen.blocks.iter().zip(&leaves).zip(first..) {
            if seen.leaf != *leaf {
                let (file, what) = if self.tile_is_right(&leaves)? {
                    (file, "the block is not the one in the log")
                } else {
                    let tile = Tile::hashes(0, tile.index, tile.width);
                    (tile.path(), "the hash is not that of the block")
                };
                return Err(DumpError::bad(file, index, what));
            }
        }
        if entries.len() < usize::from(tile.width) {
            return Err(DumpError::bad(file, first + entries.len() as u64, "the bundle ends there"));
        }
        if !rest.is_empty() {
            return Err(DumpError::bad(file, first + u64::from(tile.width), "bytes follow the last block"));
        }
        let mut seals = seals.iter().peekable();
        for ((seen, entry), index) in seen.blocks.into_iter().zip(entries).zip(first..) {
            self.block(&file, index, entry, seen)?;
            if let Some((_, seal)) = seals.next_if(|(end, _)| *end == index.saturating_add(1)) {
                self.close(&tile, seal)?;
            } else if self.open.count >= limits::BATCH_BLOCKS {
                return Err(DumpError::bad(seals_path(tile.index, tile.width), self.open.first, NO_SEAL));
            }
        }
        if tile.is_full() { self.levels.push(self.source, 1, seen.root) } else { Ok(()) }
    }

    /// Whether a tile of leaf hashes is the one that the checkpoint, or the tile above, vouches for.
    fn tile_is_right(&mut self, stored: &[Hash]) -> Result<bool, DumpError> {
        if stored.len() as u64 == TILE_WIDTH {
            return Ok(self.levels.next(self.source, 1)? == fold(stored));
        }
        let mut frontier = self.frontier.clone();
        stored.iter().for_each(|leaf| frontier.append_leaf(*leaf));
        Ok(frontier.root() == self.report.root)
    }

    /// Holds a block against the one before it and its batch.
    fn block(&mut self, file: &str, index: u64, entry: &[u8], seen: Seen) -> Result<(), DumpError> {
        let bad = |what: String| DumpError::bad(file, index, what);
        let block = seen.frame.map_err(|invalid| bad(invalid.to_string()))?;
        if block.index != index {
            return Err(bad(format!("the block says that it is block {}", block.index)));
        }
        if let Some(link) = self.link {
            let begins = self.open.count == 0 && !self.open.cut;
            if block.prev != link.hash.0 {
                return Err(bad("the block does not link to the one before".to_owned()));
            }
            if !begins && !self.open.cut && block.height == link.height.saturating_add(1) {
                let last = index.saturating_sub(1) / TILE_WIDTH;
                return Err(DumpError::bad(self.seals_path(last), self.open.first, NO_SEAL));
            }
            if block.height != link.height.saturating_add(begins.into()) {
                return Err(bad(format!("its height is {}, behind {}", block.height, link.height)));
            }
            if block.time_ms < link.time_ms || (!begins && block.time_ms != link.time_ms) {
                return Err(bad(format!("its time is {}, behind {}", block.time_ms, link.time_ms)));
            }
        }
        self.link = Some(Link { hash: seen.hash, height: block.height, time_ms: block.time_ms });
        self.frontier.append_leaf(seen.leaf);
        if let Some(block) = &block.block {
            self.council.see(block);
        }
        self.report.bytes = self.report.bytes.saturating_add(entry.len() as u64);
        let kind = if block.song { &mut self.report.songs } else { &mut self.report.variants };
        *kind = kind.saturating_add(1);
        self.open.count += 1;
        if self.replay.is_some() {
            self.open.blocks.extend(block.block.map(|block| (entry.to_vec(), block)));
        }
        Ok(())
    }

    /// Ends a batch: its seal, and every rule when the blocks are replayed.
    fn close(&mut self, tile: &Tile, seal: &[u8]) -> Result<(), DumpError> {
        let size = self.frontier.size();
        let next = Open { first: size, ..Open::default() };
        let open = std::mem::replace(&mut self.open, next);
        let Some(link) = self.link else { return Ok(()) };
        if !open.cut {
            let batch = SealedAt {
                first: open.first,
                size,
                root: self.frontier.root(),
                head: link.hash,
                height: link.height,
                time_ms: link.time_ms,
                seal,
            };
            let first = self.report.first;
            self.council.check_seal(&batch).map_err(|what| {
                // The council is known from the genesis document on; what changed it may be in the blocks before.
                let hint =
                    format!("{what}; or the council changed before block {first}, where this dump begins");
                let what = if first > 0 { hint } else { what };
                DumpError::bad(seals_path(tile.index, tile.width), open.first, what)
            })?;
            self.report.batches = self.report.batches.saturating_add(1);
        }
        let Some(ledger) = self.replay else { return Ok(()) };
        let (bytes, blocks): (Vec<_>, Vec<_>) = open.blocks.into_iter().unzip();
        if ledger.size() < size {
            ledger.append(&SealedBatch { first: open.first, blocks: bytes, seal: seal.to_vec() })?;
        }
        if self.report.first == 0 {
            let find = |id: &SongId| Ok(ledger.by_song_id(id)?);
            for block in blocks {
                self.state.add(&block, find).map_err(|error| fault(block.index, error))?;
            }
        }
        Ok(())
    }

    /// Path of a bundle's seals.
    fn seals_path(&self, index: u64) -> String {
        let left = self.report.size.saturating_sub(index.saturating_mul(TILE_WIDTH));
        seals_path(index, u16::try_from(left.min(TILE_WIDTH)).unwrap_or(256))
    }

    /// What is left to say behind the last block.
    fn finish(mut self, head: &Head) -> Result<(Report, Box<dyn Council>), DumpError> {
        let got = self.frontier.root();
        if got != self.report.root {
            return Err(DumpError::Root { expected: self.report.root, got });
        }
        if self.open.count > 0 {
            let last = self.report.size.saturating_sub(1) / TILE_WIDTH;
            return Err(DumpError::bad(self.seals_path(last), self.open.first, NO_SEAL));
        }
        if self.report.size > self.report.first {
            self.report.head = self.link.map(|link| link.hash).filter(|_| self.report.size > 0);
            head.manifest.check_head(self.report.size, self.report.head)?;
        }
        self.report.state = (self.replay.is_some() && self.report.first == 0).then_some(self.state);
        Ok((self.report, self.council))
    }
}

const NO_SEAL: &str = "no seal covers the batch that begins with this block";

fn fault(index: u64, error: ApplyError) -> DumpError {
    match error {
        ApplyError::Refused(refusal) => AppendError::Disagrees { index, refusal }.into(),
        ApplyError::Fault(Fault::Read(error)) => error.into(),
        ApplyError::Fault(fault) => AppendError::Fault(fault).into(),
    }
}
