//! Whether a request is answered at all, from its head.
#![no_main]

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: (String, Option<String>, Option<String>)| checks::request_head(
    &input.0,
    input.1.as_deref(),
    input.2.as_deref()
));
