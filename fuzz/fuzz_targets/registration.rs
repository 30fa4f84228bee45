//! Registrations, as they are kept and sent.
#![no_main]

use antiphon_proto::{NetworkId, canonical, limits, wire::Registration};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(read) = canonical::decode::<Registration>("registration", limits::CONTROL_MESSAGE_BYTES, bytes) {
        let _ = read.check(&NetworkId([0; 32]), 0);
        assert_eq!(canonical::encode(&read), bytes);
    }
});
