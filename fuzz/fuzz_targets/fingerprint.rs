//! Compressed fingerprints.
#![no_main]

use antiphon_fingerprint::Fingerprint;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(read) = Fingerprint::decompress(bytes) {
        assert_eq!(read.compress(), bytes);
    }
});
