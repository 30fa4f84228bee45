//! Opening: the index up to its mark, then the segments behind it; or all segments, when the index cannot be used.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use antiphon_proto::{
    BlockHash, NetworkId, SongId,
    wire::{Block, Genesis, Song, block},
};

use super::{
    Recent, Store, Tuning,
    index::{Index, IndexError},
    layer::Layer,
    segments::{Place, Segments, Tail, damage},
    tip::Tip,
    walk::{RawBatch, START, Step, Walker},
};
use crate::{
    error::{Fault, OpenError, ReadError},
    ledger::song_at,
    progress::{Progress, Stage},
    refusal::Refusal,
    seal,
    state::{ApplyError, Entry, Kind, entry_of},
    tokens::{self, Pending, StateKey, TokenView},
};

/// Directory of the segments.
pub(super) const SEGMENTS: &str = "segments";
/// Directory of the index.
const INDEX: &str = "index";

/// Checks the ledger's end, however it was found out; the text says what is wrong with it.
pub(crate) type CheckTip<'a> = dyn Fn(&Tip) -> Result<(), String> + 'a;
/// Told how far a rebuild is.
pub(crate) type Tell<'a> = dyn Fn(Progress) + 'a;

impl Store {
    /// Opens the store in `dir`, or makes an empty one.
    pub(crate) fn open(
        dir: &Path,
        genesis: &Genesis,
        tuning: Tuning,
        check: &CheckTip<'_>,
        tell: &Tell<'_>,
    ) -> Result<(Self, Tail), OpenError> {
        let network = &genesis.network_id();
        let segments = Segments::open(&dir.join(SEGMENTS), *network, tuning.segment_bytes)?;
        if segments.count() == 0 {
            segments.create(0)?;
        }
        if let Some(first) = segments.get(0).filter(|segment| segment.header.first != 0) {
            let what = format!("the ledger's first segment begins with block {}", first.header.first);
            return Err(damage(&first.path, 0, what).into());
        }
        let path = dir.join(INDEX);
        match open_index(&path, network, &segments, check)? {
            Ok((index, mark)) => {
                let fresh = mark.is_none();
                let store = Self::assemble(segments, index, mark, genesis, tuning);
                match store.load(check, tell) {
                    Ok(end) => return store.finish(end),
                    Err(error @ OpenError::File(_)) => return Err(error),
                    Err(error) if fresh => return Err(error),
                    // The index may have misled: what the blocks say without it decides.
                    Err(error) => warn_rebuild(&error.to_string()),
                }
            }
            Err(error) => warn_rebuild(&error.to_string()),
        }
        Index::wipe(&path)?;
        let (index, _) = Index::open(&path, network).map_err(|error| OpenError::Index(error.to_string()))?;
        let segments = Segments::open(&dir.join(SEGMENTS), *network, tuning.segment_bytes)?;
        let store = Self::assemble(segments, index, None, genesis, tuning);
        let end = store.load(check, tell)?;
        store.finish(end)
    }

    /// Reads what the index lacks and checks the result. Returns where the ledger ends.
    fn load(&self, check: &CheckTip<'_>, tell: &Tell<'_>) -> Result<Place, OpenError> {
        let end = self.replay(tell)?;
        let tip = self.tip();
        if let Some(last) = tip.position.size.checked_sub(1) {
            // A mark that agrees with itself may still be another ledger's.
            let bytes = self.block(last)?.unwrap_or_default();
            if BlockHash::of(&bytes) != tip.position.link {
                return Err(OpenError::Index("its mark names another last block".to_owned()));
            }
        }
        check(&self.tip()).map_err(|what| self.not_sealed(what))?;
        Ok(end)
    }

    fn assemble(
        segments: Segments,
        index: Index,
        mark: Option<Tip>,
        genesis: &Genesis,
        tuning: Tuning,
    ) -> Self {
        let tip = mark.unwrap_or_else(|| Tip::start(genesis));
        let layer = Layer::new(tip.position.size);
        Self {
            segments,
            index: Arc::new(index),
            recent: Arc::new(RwLock::new(Recent { tip, layer, folding: None })),
            folder: Mutex::new(None),
            tuning,
        }
    }

    fn finish(self, end: Place) -> Result<(Self, Tail), OpenError> {
        let tail = Tail::open(&self.segments, end.segment, end.offset.into())?;
        Ok((self, tail))
    }

    fn not_sealed(&self, what: String) -> OpenError {
        let end = self.tip().end;
        match self.segments.get(end.segment) {
            Some(segment) => damage(&segment.path, end.offset.into(), what).into(),
            None => OpenError::Index(what),
        }
    }

    /// Reads what stands in the segments behind the tip. Returns where it ends.
    fn replay(&self, tell: &Tell<'_>) -> Result<Place, OpenError> {
        let tip = self.tip();
        let from = tip.position.size;
        let total = self.segments.disk_bytes();
        let mut done = self.bytes_before(tip.end);
        let mut walker = Walker::new(&self.segments, tip.end, tip.position.size, tip.position.height, false);
        loop {
            match walker.step()? {
                Step::Batch(batch) => {
                    done = done.saturating_add(batch.blocks.iter().map(|block| block.len() as u64).sum());
                    self.replay_batch(&batch)?;
                    if self.layer_is_full() {
                        tell(Progress { stage: Stage::Index, done, total });
                        self.fold_now().map_err(|error| OpenError::Index(error.to_string()))?;
                    }
                }
                Step::End(end) => {
                    tracing::debug!(from, to = self.size(), "read the segments behind the index");
                    return Ok(end);
                }
                Step::Torn(end, what) => {
                    tracing::warn!(blocks = self.size(), %what, "the last write was not completed");
                    return Ok(end);
                }
            }
        }
    }

    fn layer_is_full(&self) -> bool {
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        recent.layer.len() >= self.tuning.fold_blocks
    }

    fn bytes_before(&self, place: Place) -> u64 {
        u64::from(place.segment).saturating_mul(self.tuning.segment_bytes).saturating_add(place.offset.into())
    }

    /// Takes a stored batch in. It was accepted once, so only what a damaged disk could change is looked at.
    fn replay_batch(&self, batch: &RawBatch) -> Result<(), OpenError> {
        let mut tip = self.tip();
        let mut entries: Vec<Option<Entry>> = Vec::with_capacity(batch.blocks.len());
        let mut songs: BTreeMap<SongId, (u64, Option<Song>)> = BTreeMap::new();
        let mut changes = tip.roster.no_changes();
        let mut pending = Pending::new(tip.tokens);
        for (position, bytes) in batch.blocks.iter().enumerate() {
            let damaged = |what: String| self.damaged_in(batch, position, what);
            let block = Block::parse(bytes).map_err(|error| damaged(error.to_string()))?;
            let height =
                if position == 0 { tip.position.height.saturating_add(1) } else { tip.position.height };
            if block.index != tip.position.size
                || block.prev != tip.position.link.0
                || block.height != height
                || block.time_ms < tip.position.time_ms
            {
                return Err(damaged(format!("block {} does not follow the one before", block.index)));
            }
            let wrong = |error| match error {
                ApplyError::Refused(refusal) => damaged(Refusal::to_string(&refusal)),
                ApplyError::Fault(Fault::Read(error)) => error.into(),
                ApplyError::Fault(Fault::Rule(error)) => error.into(),
            };
            let entry = entry_of(&block, |id| match songs.get(id) {
                Some((index, _)) => Ok(Some(*index)),
                None => Ok(self.song_index(id)?),
            })
            .map_err(wrong)?;
            let kind = Kind::of(&block);
            let act = match &block.body {
                Some(block::Body::Song(song)) => {
                    let id = entry.as_ref().map_or_else(|| song.id(), |entry| entry.song_id);
                    songs.insert(id, (block.index, Some(song.clone())));
                    None
                }
                Some(block::Body::Council(council)) => {
                    let act = tip.roster.apply(&mut changes, council, block.height);
                    Some(act.map_err(|refusal| damaged(refusal.to_string()))?)
                }
                _ => None,
            };
            let mut view = Replayed { store: self, songs: &songs };
            let changed = tokens::replay(&mut view, &pending, &block, act).map_err(wrong)?;
            pending.take(changed);
            entries.push(entry);
            tip.count(bytes, kind);
            tip.position.size = tip.position.size.saturating_add(1);
            tip.position.link = BlockHash::of(bytes);
            tip.position.height = block.height;
            tip.position.time_ms = block.time_ms;
        }
        tip.roster = Arc::new(tip.roster.advance(tip.position.height, seal::signers(&batch.seal), changes));
        tip.seal.clone_from(&batch.seal);
        tip.end = batch.end;
        tip.tokens = pending.tokens;
        self.show(&entries, pending.entries, &batch.places, tip);
        Ok(())
    }

    fn damaged_in(&self, batch: &RawBatch, position: usize, what: String) -> OpenError {
        let place = batch.places.get(position).copied().unwrap_or(batch.end);
        match self.segments.get(place.segment) {
            Some(segment) => damage(&segment.path, place.offset.into(), what).into(),
            None => OpenError::Index(what),
        }
    }
}

/// The state while stored batches are taken in.
struct Replayed<'a> {
    store: &'a Store,
    /// Songs of the batch, which the store does not show yet.
    songs: &'a BTreeMap<SongId, (u64, Option<Song>)>,
}

impl TokenView for Replayed<'_> {
    fn state(&mut self, key: &StateKey) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.store.state(key)?)
    }

    fn song_at(&mut self, index: u64) -> Result<Option<Song>, Fault> {
        match self.songs.values().find(|(at, _)| *at == index) {
            Some((_, song)) => Ok(song.clone()),
            None => Ok(song_at(self.store, index)?),
        }
    }

    fn index_of(&mut self, id: &SongId) -> Result<Option<u64>, Fault> {
        match self.songs.get(id) {
            Some((index, _)) => Ok(Some(*index)),
            None => Ok(self.store.song_index(id)?),
        }
    }
}

fn warn_rebuild(reason: &str) {
    tracing::warn!(reason, "the index is built again from the blocks");
}

/// The index and its mark, or why they cannot be used with these segments.
///
/// # Errors
/// [`OpenError::Damaged`] when the mark proves that the segments lack blocks.
fn open_index(
    path: &Path,
    network: &NetworkId,
    segments: &Segments,
    check: &CheckTip<'_>,
) -> Result<Result<(Index, Option<Tip>), IndexError>, OpenError> {
    let (index, mark) = match Index::open(path, network) {
        Ok(opened) => opened,
        Err(error) => return Ok(Err(error)),
    };
    let Some(tip) = &mark else { return Ok(Ok((index, None))) };
    let length = match segments.handle(tip.end.segment) {
        Ok((_, file)) => file.metadata().map_or(0, |meta| meta.len()),
        Err(ReadError::Index(_)) => 0,
        Err(error) => return Err(error.into()),
    };
    if tip.end.offset >= START && u64::from(tip.end.offset) <= length {
        return Ok(Ok((index, mark)));
    }
    // Only what was acknowledged is folded in, and the seal tells that this network decided it.
    if tip.position.size > 0 && check(tip).is_ok() {
        return Err(lost(path, segments, tip));
    }
    Ok(Err(IndexError("its mark lies behind the end of the segments".to_owned())))
}

/// Blocks that the index knows are gone: nothing may be appended in their place without being told.
fn lost(index: &Path, segments: &Segments, tip: &Tip) -> OpenError {
    let known = tip.position.size;
    let Some(last) = segments.count().checked_sub(1) else {
        return OpenError::Index(format!("it knows {known} blocks, and there is no segment"));
    };
    let Some(segment) = segments.get(last) else {
        return OpenError::Index(format!("it knows {known} blocks, and the last segment is missing"));
    };
    let start = Place { segment: last, offset: START };
    // The height only tells a torn batch from damage, which makes no difference to what can be counted.
    let mut walker = Walker::new(segments, start, segment.header.first, u64::MAX, false);
    let (mut there, mut end) = (segment.header.first, start);
    while let Ok(Step::Batch(batch)) = walker.step() {
        there = there.saturating_add(batch.blocks.len() as u64);
        end = batch.end;
    }
    let missing = match known.checked_sub(there) {
        Some(missing) if missing > 0 => format!("the last {missing} of them are missing"),
        // The last one is there, so it is a segment before it that is not.
        _ => "some of them are missing".to_owned(),
    };
    let what = format!(
        "the index knows {known} acknowledged blocks, and {missing}. Restore the segment files from a backup. A peer \
         that only follows may remove {} and start again: it fetches them from the network. A sequencer must not go \
         on without them: it would fork its network",
        index.display()
    );
    damage(&segment.path, end.offset.into(), what).into()
}
