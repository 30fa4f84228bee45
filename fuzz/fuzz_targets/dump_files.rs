//! The files of a dump that are not in a format of others.
#![no_main]

use antiphon_ledger::dump::{Manifest, seals};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = Manifest::parse(bytes);
    if let Ok(found) = seals::parse(bytes, 1, 256) {
        assert_eq!(seals::encode(&found), bytes);
    }
});
