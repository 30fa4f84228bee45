//! Genesis documents.
#![no_main]

use antiphon_proto::{canonical, wire::Genesis};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(genesis) = Genesis::parse(bytes) {
        assert_eq!(canonical::encode(&genesis), bytes);
    }
});
