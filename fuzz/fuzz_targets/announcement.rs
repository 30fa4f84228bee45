//! The 96 bytes.
#![no_main]

use antiphon_proto::announcement::Announcement;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(read) = Announcement::parse(bytes) {
        assert_eq!(&read.to_bytes()[..], bytes);
    }
});
