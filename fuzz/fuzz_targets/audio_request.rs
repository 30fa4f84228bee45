//! Audio requests.
#![no_main]

use antiphon_proto::{canonical, wire::AudioRequest};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = AudioRequest::parse(bytes) {
        assert_eq!(canonical::encode(&request), bytes);
    }
});
