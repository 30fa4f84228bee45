//! Signed checkpoints, with and without cosignatures.
#![no_main]

use antiphon_proto::{
    SecretKey,
    note::{Checkpoint, CosignedCheckpoint},
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let members = [SecretKey::from_seed(&[1; 32]).public()];
    let _ = Checkpoint::open(bytes, "antiphon/x", &members);
    if let Ok(opened) = CosignedCheckpoint::open(bytes, "antiphon/x", &members) {
        let again = CosignedCheckpoint::open(opened.encode().as_bytes(), "antiphon/x", &members);
        assert_eq!(again.ok(), Some(opened));
    }
});
