//! What a log that is served file by file shows of itself: as a dump of the whole ledger would, made on the spot.

use antiphon_proto::{
    BlockHash, canonical,
    note::{self, CosignedCheckpoint},
};

use super::{DumpError, Manifest};
use crate::{
    ledger::Ledger,
    log::tile::{TILE_WIDTH, hashes_at},
};

/// The newest checkpoint, as a note, and the bytes of the manifest that goes with it.
///
/// # Errors
/// [`DumpError::NoCheckpoint`], or [`DumpError::Behind`] while the blocks that it covers are not all here.
pub fn served(ledger: &Ledger) -> Result<(Vec<u8>, Vec<u8>), DumpError> {
    let note = ledger.checkpoint().ok_or(DumpError::NoCheckpoint)?;
    // Verified when it was kept.
    let checkpoint = CosignedCheckpoint::open(&note, &note::origin(&ledger.network()), &[])?.checkpoint;
    let size = checkpoint.size;
    let behind = DumpError::Behind { size: ledger.size(), checkpoint: size };
    let head = match size.checked_sub(1) {
        Some(last) => Some(BlockHash::of(&ledger.block(last)?.ok_or(behind)?)),
        None => None,
    };
    let genesis = canonical::encode(ledger.genesis());
    let (network, files) = (ledger.network(), files(size));
    let manifest = Manifest::new(&network, &genesis, (0, size), &checkpoint.root, head, files);
    Ok((note, manifest.to_bytes()?))
}

/// Files of a log of `size` blocks: bundles and their seals, the tiles of every level, and the three that are about
/// the whole. Nothing that is for people only.
fn files(size: u64) -> u64 {
    let bundles = size.div_ceil(TILE_WIDTH).saturating_mul(2);
    let tiles = (0..=u8::MAX).map(|level| hashes_at(level, size)).take_while(|hashes| *hashes > 0);
    tiles.fold(bundles.saturating_add(3), |sum, hashes| sum.saturating_add(hashes.div_ceil(TILE_WIDTH)))
}

#[cfg(test)]
mod tests {
    use super::files;

    #[test]
    fn counts_of_files() {
        assert_eq!(files(0), 3);
        // One bundle, its seals, one tile of leaves.
        assert_eq!(files(255), 3 + 3);
        // And one of level 1.
        assert_eq!(files(256), 3 + 4);
        // The example of tlog-tiles: 274 tiles of leaves, two of level 1, one of level 2.
        assert_eq!(files(70_000), 3 + 2 * 274 + 274 + 2 + 1);
    }
}
