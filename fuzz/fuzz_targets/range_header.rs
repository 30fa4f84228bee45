//! Which bytes of a file a request asks for.
#![no_main]

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: (String, u64)| checks::range_header(&input.0, input.1));
