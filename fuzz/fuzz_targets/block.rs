//! Blocks: whatever is accepted is written again as the same bytes.
#![no_main]

use antiphon_proto::wire::Block;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(block) = Block::parse(bytes) {
        assert_eq!(block.to_bytes(), bytes);
    }
});
