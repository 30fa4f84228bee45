//! Filling a ledger from a dump: through the same door as every batch.

use antiphon_proto::{
    PublicKey,
    note::{self, CosignedCheckpoint},
};

use super::{CHECKPOINT, DumpError, DumpSource, Head, MANIFEST, need, seals, seals_path};
use crate::{
    append::SealedBatch,
    ledger::Ledger,
    log::tile::{BUNDLE_BYTES, TILE_WIDTH, Tile, parse_entries},
    progress::{Progress, Stage},
};

/// Appends every batch of a dump that the ledger lacks, each held against every rule and its seal and made durable,
/// then keeps the dump's checkpoint, of which a quorum of `members` must be. Ended early, it goes on where it was.
/// Returns the number of blocks appended.
///
/// # Errors
/// [`DumpError`]; what was appended before it stays.
pub fn load(
    source: &mut dyn DumpSource,
    ledger: &Ledger,
    members: &[PublicKey],
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, DumpError> {
    let head = Head::read(source)?;
    if head.network != ledger.network() {
        return Err(DumpError::OtherNetwork { expected: ledger.network(), found: head.network });
    }
    let checkpoint = CosignedCheckpoint::open(&head.note, &note::origin(&head.network), members)?;
    checkpoint.check(members)?;
    let (start, size) = (ledger.size(), checkpoint.checkpoint.size);
    if head.manifest.first > start {
        let what = format!("the ledger ends at block {start}, before the dump begins");
        return Err(DumpError::bad(MANIFEST, start, what));
    }
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    for tile in Tile::of_entries(size, start / TILE_WIDTH) {
        let file = tile.path();
        let first = tile.index.saturating_mul(TILE_WIDTH);
        let bundle = need(source, &file, BUNDLE_BYTES, first)?;
        let entries = parse_entries(&bundle, tile.width)
            .ok_or_else(|| DumpError::bad(&file, first, format!("it does not hold {} blocks", tile.width)))?;
        let mut seals =
            read_seals(source, &tile)?.into_iter().skip_while(|(end, _)| *end <= start).peekable();
        for (entry, index) in entries.into_iter().zip(first..).skip_while(|(_, index)| *index < start) {
            blocks.push(entry.to_vec());
            if let Some((end, seal)) = seals.next_if(|(end, _)| *end == index.saturating_add(1)) {
                let blocks = std::mem::take(&mut blocks);
                let first = end.saturating_sub(blocks.len() as u64);
                ledger.append(&SealedBatch { first, blocks, seal })?;
            } else if blocks.len() > antiphon_proto::limits::BATCH_BLOCKS {
                return Err(DumpError::bad(
                    seals_path(tile.index, tile.width),
                    index,
                    "no seal covers the block",
                ));
            }
        }
        progress(Progress { stage: Stage::Load, done: ledger.size(), total: size });
    }
    if !blocks.is_empty() {
        return Err(DumpError::bad(CHECKPOINT, ledger.size(), "no seal covers the last blocks"));
    }
    ledger.put_checkpoint(&head.note, members)?;
    Ok(ledger.size().saturating_sub(start))
}

/// The seals of a bundle.
pub(super) fn read_seals(source: &mut dyn DumpSource, tile: &Tile) -> Result<Vec<seals::Seal>, DumpError> {
    let file = seals_path(tile.index, tile.width);
    let first = tile.index.saturating_mul(TILE_WIDTH);
    let bytes = need(source, &file, seals::SEALS_BYTES, first)?;
    seals::parse(&bytes, tile.index, tile.width).map_err(|error| DumpError::bad(file, first, error.0))
}
