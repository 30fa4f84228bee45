//! Requests of apps: their queries and forms.
#![no_main]

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: (String, Vec<u8>)| checks::app_request(&input.0, &input.1));
