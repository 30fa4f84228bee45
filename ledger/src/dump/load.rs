//! Filling a ledger from a dump: through the same door as every batch.

use antiphon_proto::note::{self, CosignedCheckpoint};

use super::{CHECKPOINT, DumpError, DumpSource, Head, MANIFEST, need_tile, seals, seals_path};
use crate::{
    append::SealedBatch,
    ledger::Ledger,
    log::tile::{BUNDLE_BYTES, TILE_WIDTH, Tile, entries_up_to, parse_entries},
    progress::{Progress, Stage},
};

/// Appends every batch of a dump that the ledger lacks, each held against every rule and its seal and made durable,
/// then keeps the dump's checkpoint, of which a quorum must be of the council that the blocks lead to. Ended early, it
/// goes on where it was. Returns the number of blocks appended.
///
/// # Errors
/// [`DumpError`]; what was appended before it stays.
pub fn load(
    source: &mut dyn DumpSource,
    ledger: &Ledger,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, DumpError> {
    let head = Head::read(source)?;
    if head.network != ledger.network() {
        return Err(DumpError::OtherNetwork { expected: ledger.network(), found: head.network });
    }
    // Who had to cosign it is only known behind the blocks; until then it just says how far the dump goes. What is
    // appended does not lean on it: every batch has its own seal.
    let checkpoint = CosignedCheckpoint::open(&head.note, &note::origin(&head.network), &[])?.checkpoint;
    let (start, size) = (ledger.size(), checkpoint.size);
    if start > size {
        return Ok(0);
    }
    if head.manifest.first > start {
        let what = format!("the ledger ends at block {start}, before the dump begins");
        return Err(DumpError::bad(MANIFEST, start, what));
    }
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    for tile in Tile::of_entries(size, start / TILE_WIDTH) {
        let file = tile.path();
        let first = tile.index.saturating_mul(TILE_WIDTH);
        let bundle = read_bundle(source, &tile)?;
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
    ledger.put_checkpoint(&head.note, ledger.roster().last())?;
    Ok(ledger.size().saturating_sub(start))
}

/// The bytes of a bundle.
pub(super) fn read_bundle(source: &mut dyn DumpSource, tile: &Tile) -> Result<Vec<u8>, DumpError> {
    let first = tile.index.saturating_mul(TILE_WIDTH);
    let (mut bytes, wider) = need_tile(source, &tile.path(), BUNDLE_BYTES, first)?;
    if wider {
        let behind = entries_up_to(&bytes, tile.width).1.len();
        bytes.truncate(bytes.len() - behind);
    }
    Ok(bytes)
}

/// The seals of a bundle.
pub(super) fn read_seals(source: &mut dyn DumpSource, tile: &Tile) -> Result<Vec<seals::Seal>, DumpError> {
    let file = seals_path(tile.index, tile.width);
    let first = tile.index.saturating_mul(TILE_WIDTH);
    let (bytes, wider) = need_tile(source, &file, seals::SEALS_BYTES, first)?;
    let width = if wider { 256 } else { tile.width };
    let seals =
        seals::parse(&bytes, tile.index, width).map_err(|error| DumpError::bad(file, first, error.0))?;
    let last = first.saturating_add(tile.width.into());
    Ok(seals.into_iter().filter(|(end, _)| *end <= last).collect())
}
