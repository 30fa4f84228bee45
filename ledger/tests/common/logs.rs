//! Ledgers of many small blocks, and checkpoints over them.

use std::path::Path;

use antiphon_ledger::{Ledger, Options};
use antiphon_proto::{
    RootHash, SecretKey,
    note::{self, Checkpoint, CosignedCheckpoint},
    wire::Genesis,
};

use super::{Artist, SMALL, START_MS, extend, genesis_of, member};

/// Room for batches of any size, and no work to wait for.
pub fn network() -> Genesis {
    Genesis { stamp_bits: 0, ..genesis_of(member().public(), 1_000) }
}

pub fn open(dir: &Path) -> Ledger {
    Ledger::open_with(dir, Options::without_rule(Some(network())), SMALL).unwrap()
}

/// Appends songs up to `size` blocks, in batches of `each`.
pub fn grow(ledger: &Ledger, size: u64, each: u64) {
    let artist = Artist::new(1, ledger.genesis());
    while ledger.size() < size {
        let end = size.min(ledger.size() + each);
        let songs: Vec<_> = (ledger.size()..end).map(|n| artist.song_registration(n)).collect();
        extend(ledger, &songs).unwrap();
    }
}

/// A note over the first `size` blocks by these members.
pub fn cosigned(ledger: &Ledger, size: u64, by: &[SecretKey]) -> Vec<u8> {
    let root = ledger.root_at(size).unwrap().unwrap_or(RootHash([9; 32]));
    sign(&Checkpoint { origin: note::origin(&ledger.network()), size, root }, by)
}

pub fn sign(checkpoint: &Checkpoint, by: &[SecretKey]) -> Vec<u8> {
    let mut out = CosignedCheckpoint::new(checkpoint.clone());
    out.log_signatures = by[..1].iter().map(|s| (s.public(), checkpoint.log_signature(s))).collect();
    out.cosignatures = by.iter().map(|secret| checkpoint.cosign(secret, START_MS / 1000)).collect();
    out.encode().into_bytes()
}
