//! Ids, cookies, amounts, paths, and the genesis documents that people write.
#![no_main]

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &str| checks::words(input));
