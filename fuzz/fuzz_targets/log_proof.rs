//! Proofs of one block, tile paths, tiles and entry bundles.
#![no_main]

use antiphon_ledger::log::{
    blockproof::BlockProof,
    tile::{Tile, parse_entries, parse_hashes},
};
use antiphon_proto::SecretKey;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(proof) = BlockProof::parse(bytes) {
        assert_eq!(proof.encode(), bytes);
        let _ = proof.verify("antiphon/x", &[SecretKey::from_seed(&[1; 32]).public()]);
    }
    if let Some(tile) = std::str::from_utf8(bytes).ok().and_then(Tile::parse) {
        assert_eq!(tile.path().as_bytes(), bytes);
    }
    let _ = parse_hashes(bytes);
    let _ = parse_entries(bytes, 3);
});
