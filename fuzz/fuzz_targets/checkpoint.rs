//! Signed checkpoints.
#![no_main]

use antiphon_proto::{SecretKey, note::Checkpoint};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = Checkpoint::open(bytes, "antiphon/x", &[SecretKey::from_seed(&[1; 32]).public()]);
});
