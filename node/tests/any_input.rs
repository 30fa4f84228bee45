//! What the fuzz targets ask of what comes in over HTTP or stands in a file, here of random input in each run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

#[path = "../../fuzz/checks.rs"]
mod checks;

use proptest::prelude::*;

/// Parameters as apps send them, right and wrong ones.
fn parameters() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("u"),
        Just("p"),
        Just("t"),
        Just("s"),
        Just("apiKey"),
        Just("f"),
        Just("callback"),
        Just("id"),
        Just("query"),
        Just("count"),
        Just("size"),
        Just("positionMs"),
    ];
    let value = prop_oneof![
        Just("json".to_owned()),
        Just("jsonp".to_owned()),
        Just("listener".to_owned()),
        "enc:[0-9a-fg]{0,8}",
        "(so|al|ar)-[0-9a-f]{1,32}",
        "[0-9]{1,24}",
        "[a-z.$]{1,10}",
        "(%[0-9a-fA-F]{2}|[<>&\"']|.){0,12}",
    ];
    prop::collection::vec((name, value), 0..8).prop_map(|pairs| {
        pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
    })
}

/// Texts with stamps, tags and words.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        "\\[[0-9]{1,3}:[0-9]{2}(\\.[0-9]{1,3})?\\]",
        "\\[(ar|ti|offset):[+-]?[a-z0-9]{0,8}\\]",
        "<[0-9]{2}:[0-9]{2}\\.[0-9]{2}>",
        "\\PC{0,8}",
        "[\\r\\n]{1,2}",
    ];
    prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat().into_bytes())
}

proptest! {
    #[test]
    fn requests_of_apps(query in parameters(), form in parameters()) {
        checks::app_request(&query, form.as_bytes());
    }

    #[test]
    fn requests_of_nobody(query: String, form: Vec<u8>) {
        checks::app_request(&query, &form);
    }

    #[test]
    fn ranges(header in "bytes ?= ?[0-9]{0,21} ?- ?[0-9]{0,21}(,[0-9]+-)?", size: u64) {
        checks::range_header(&header, size);
    }

    #[test]
    fn ranges_of_nobody(header: String, size: u64) {
        checks::range_header(&header, size);
    }

    #[test]
    fn heads(
        host in "(\\[?[0-9a-f:.]{1,20}\\]?|localhost|music\\.example|[a-z.]{1,12})(:[0-9]{0,5})?",
        origin in prop::option::of("(https?://|)(localhost|music\\.example|[a-z.:0-9]{1,12})"),
        site in prop::option::of("same-origin|cross-site|none|[a-z-]{1,8}"),
    ) {
        checks::request_head(&host, origin.as_deref(), site.as_deref());
    }

    #[test]
    fn heads_of_nobody(host: String, origin: Option<String>, site: Option<String>) {
        checks::request_head(&host, origin.as_deref(), site.as_deref());
    }

    #[test]
    fn texts_of_songs(text in text()) {
        checks::lyrics(&text);
    }

    #[test]
    fn texts_of_nothing(mark in prop_oneof![Just(&b"\xff\xfe"[..]), Just(&b"\xfe\xff"[..]), Just(&b""[..])], bytes: Vec<u8>) {
        checks::lyrics(&[mark, &bytes].concat());
    }

    #[test]
    fn pictures(
        magic in prop_oneof![Just(&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..]), Just(&b"\xff\xd8\xff\xe0\0\x10JFIF"[..]), Just(&b"RIFF\x40\0\0\0WEBPVP8L"[..])],
        bytes: Vec<u8>,
    ) {
        checks::picture(&[magic, &bytes].concat());
    }

    #[test]
    fn words(text in prop_oneof![
        "(so-|al-|ar-|pl-)?[0-9a-f]{0,64}", "[0-9]{0,12}(\\.[0-9]{0,9})?", "[a-z_]{1,10} = [\\[\\]0-9\"a-z]{0,12}", any::<String>(),
    ]) {
        checks::words(&text);
    }
}
