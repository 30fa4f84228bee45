//! What must hold for whatever comes in over HTTP or stands in a file. The targets in this folder ask it of what the
//! fuzzer finds, `node/tests/any_input.rs` of random input in every run of the tests.
#![allow(dead_code, unreachable_pub, reason = "each target asks one thing")]

use std::sync::LazyLock;

use antiphon::{
    genesis_file,
    http::{
        guard::policy::{self, Head},
        range::{self, Wanted},
        subsonic::{
            bodies::Body,
            error::{Code, SubsonicError},
            login::{AppPassword, Login},
            params::Params,
            response::{Format, render},
        },
    },
    listener::{PlaylistId, SessionId, Token},
    music::{
        cover,
        id::Id,
        lyrics::{self, Lyrics},
    },
    system::pathhex,
    tokens,
};

/// A password that nobody finds by trying.
struct Secret(String);

static SECRET: LazyLock<Secret> =
    LazyLock::new(|| Secret(blake3::hash(b"an app password of 256 bits").to_hex().to_string()));

impl AppPassword for Secret {
    fn user(&self) -> &str {
        "listener"
    }

    fn password(&self) -> &str {
        &self.0
    }
}

/// A request of an app: its query and its form.
pub fn app_request(query: &str, form: &[u8]) {
    let Ok(params) = Params::parse(query, form) else { return };
    if let Ok(login) = Login::of(&params) {
        let knows = || format!("{query}{}", String::from_utf8_lossy(form)).contains(&SECRET.0[..16]);
        let found = login.check(std::slice::from_ref(&*SECRET));
        assert!(found.is_err() || knows(), "let in without the password");
    }
    for name in ["id", "count", "size", "f", "callback", "query", "u", "positionMs"] {
        let _ = (params.number::<u64>(name), params.number::<i64>(name), params.numbers::<u8>(name));
        let _ = (params.flag(name), params.id::<Id>(name), params.needed_number::<u32>(name));
    }
    let format = Format::of(&params).unwrap_or_default();
    // What was said comes back in an error, in any form of answer.
    let message = params.first("query").unwrap_or(query);
    for answer in [Ok(Body::Empty), Err(SubsonicError::saying(Code::Generic, message))] {
        let document = render(&format, &answer);
        match &format {
            Format::Xml => {
                let rest =
                    document.split_once("<subsonic-response ").map(|(_, rest)| rest).unwrap_or_default();
                assert!(rest.ends_with('>') && !document.contains('\0'), "{document}");
                // Nothing that was said is markup.
                assert!(rest.matches('<').count() <= 2, "{document}");
            }
            Format::Json => {
                assert!(document.starts_with("{\"subsonic-response\":") && document.ends_with("}}"))
            }
            Format::Jsonp(_) => {
                assert!(document.starts_with("/**/") && document.ends_with("}});"));
                assert!(!document.contains(['\u{2028}', '\u{2029}']), "{document}");
            }
        }
    }
}

/// A `Range` header for a file of this size.
pub fn range_header(header: &str, size: u64) {
    if let Wanted::Part(first, end) = range::wanted(Some(header), size) {
        assert!(first < end && end <= size, "{header:?} of {size}: {first} to {end}");
    }
    let _ = range::still(Some(header), "\"tag\"");
}

/// The head of a request: `Host`, `Origin`, `Sec-Fetch-Site`.
pub fn request_head(host: &str, origin: Option<&str>, site: Option<&str>) {
    let names = ["music.example".to_owned()];
    let head = Head { host: Some(host), origin, site, changes: true, proves: false };
    if policy::check(&head, &names).is_ok() {
        assert!(policy::is_ours(host, &names), "{host:?}");
        // Whoever names a page as the origin names ours.
        let ours = |origin: &str| origin.to_ascii_lowercase().ends_with(&host.to_ascii_lowercase());
        assert!(origin.is_none_or(ours), "{origin:?} to {host:?}");
    }
    assert!(!policy::is_ours(&format!("{host}.evil"), &names), "{host}.evil");
}

/// The text of a song, as it stands in a file.
pub fn lyrics(bytes: &[u8]) {
    let text = Lyrics::of_bytes(bytes);
    assert!(text.lines.len() <= lyrics::LINES);
    let times: Vec<Option<u32>> = text.lines.iter().map(|line| line.start_ms).collect();
    assert!(times.is_sorted(), "lines come in the order of their times");
    assert!(times.iter().all(|time| time.is_some() == text.is_timed()), "all lines have times, or none");
}

/// A picture in a file, for a list and for a large screen.
pub fn picture(bytes: &[u8]) {
    for size in [64, 1_200] {
        let _ = cover::scaled(bytes, size);
    }
}

/// Names and amounts in addresses, cookies and forms: each has one way to be written.
pub fn words(text: &str) {
    if let Ok(id) = text.parse::<Id>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(id) = text.parse::<PlaylistId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(id) = text.parse::<SessionId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Some(token) = Token::from_text(text) {
        assert_eq!(token.to_text(), text);
    }
    if let Ok(path) = pathhex::decode(text) {
        assert_eq!(pathhex::encode(&path), text);
    }
    if let Ok(units) = tokens::parse(text) {
        assert_eq!(tokens::parse(&tokens::format(units)).ok(), Some(units));
    }
    let _ = genesis_file::parse(text);
}
