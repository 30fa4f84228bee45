//! Bao streams of any claimed size and ranges.
#![no_main]

use antiphon_p2p::decode::decode_all;
use antiphon_proto::{ContentHash, limits, wire::ByteRange};

libfuzzer_sys::fuzz_target!(|input: (Vec<u8>, u64, Vec<(u64, u64)>)| {
    let (bytes, size, pairs) = input;
    let mut ranges = Vec::new();
    let mut from = 0u64;
    for (gap, length) in pairs.into_iter().take(limits::AUDIO_RANGES) {
        let start = from.saturating_add(gap % 100_000);
        let end = start.saturating_add(1 + length % 100_000);
        ranges.push(ByteRange { start, end });
        from = end + 1;
    }
    // Whatever verifies against the hash of these very bytes cannot be more than they are.
    let verified = decode_all(&ContentHash::of(&bytes), size % limits::FILE_BYTES, &ranges, &bytes);
    assert!(verified.unwrap_or(0) <= bytes.len() as u64);
});
