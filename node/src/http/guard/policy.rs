//! Which requests are answered at all, from their head alone.
//!
//! A browser sends requests that its user never meant: from a page of another site, or to a name that an attacker points
//! at this machine (DNS rebinding). So the name that a request was sent to must be one of ours, and what changes anything
//! must come from our own pages. Programs that are no browsers send neither `Origin` nor `Sec-Fetch-Site`.

use std::net::IpAddr;

/// What is asked of a request's head.
#[derive(Debug, Clone, Copy)]
pub struct Head<'r> {
    /// `Host`, or the authority of the request's target.
    pub host: Option<&'r str>,
    /// `Origin`.
    pub origin: Option<&'r str>,
    /// `Sec-Fetch-Site`.
    pub site: Option<&'r str>,
    /// Whether it may change something: any method but GET, HEAD and OPTIONS.
    pub changes: bool,
    /// Whether it proves who sends it by itself, with no help of the browser (an app's password in each request).
    pub proves: bool,
}

/// Why a request is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The name that it was sent to.
    #[error(
        "this peer does not answer to {0:?}; use its IP address, or name it in the settings ([http] names = [\"...\"])"
    )]
    Host(String),
    /// The page that it comes from.
    #[error("a page of another site may not do this")]
    Origin,
}

/// A host and port without the port; an IPv6 address without its brackets.
fn name(host: &str) -> &str {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(rest) = host.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((address, behind)) if behind.is_empty() || behind.strip_prefix(':').is_some_and(is_port) => {
                address
            }
            _ => host,
        };
    }
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') && is_port(port) => name,
        _ => host,
    }
}

/// Whether requests to this name are for us: an IP address (nobody can rebind one), this machine, or a name from the
/// settings.
#[must_use]
pub fn is_ours(host: &str, names: &[String]) -> bool {
    let name = name(host).trim_end_matches('.');
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|ours| ours.eq_ignore_ascii_case(name))
}

/// Looks at a request's head.
///
/// # Errors
/// Why it is not answered.
pub fn check(head: &Head<'_>, names: &[String]) -> Result<(), Refused> {
    let host = head.host.unwrap_or_default();
    if !is_ours(host, names) {
        return Err(Refused::Host(host.chars().take(100).collect()));
    }
    if !head.changes || head.proves {
        return Ok(());
    }
    let from_us = match (head.origin, head.site) {
        (Some(origin), _) => {
            let there = origin.split_once("://").map(|(_, there)| there);
            there.is_some_and(|there| there.eq_ignore_ascii_case(host))
        }
        (None, Some(site)) => matches!(site, "same-origin" | "none"),
        (None, None) => true,
    };
    if from_us { Ok(()) } else { Err(Refused::Origin) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Head<'static> =
        Head { host: Some("127.0.0.1:7711"), origin: None, site: None, changes: false, proves: false };

    #[test]
    fn names_that_are_ours() {
        let names = ["music.example".to_owned()];
        for ours in [
            "127.0.0.1:7711",
            "localhost",
            "LOCALHOST:1",
            "[::1]:80",
            "192.168.1.5",
            "Music.example:443",
            "music.example.",
        ] {
            assert!(is_ours(ours, &names), "{ours}");
        }
        for other in [
            "",
            "evil.example",
            "evil.example:7711",
            "music.example.evil",
            "localhost.evil",
            "127.0.0.1.evil:80",
            "[evil]",
            "[::1].evil",
        ] {
            assert!(!is_ours(other, &names), "{other}");
        }
        assert_eq!(check(&Head { host: None, ..GET }, &names), Err(Refused::Host(String::new())));
    }

    #[test]
    fn changes_come_from_our_pages() {
        let post = Head { changes: true, ..GET };
        let from = |origin| Head { origin: Some(origin), ..post };
        assert_eq!(check(&post, &[]), Ok(()));
        assert_eq!(check(&from("http://127.0.0.1:7711"), &[]), Ok(()));
        assert_eq!(check(&from("https://127.0.0.1:7711"), &[]), Ok(()));
        for other in ["http://127.0.0.1:80", "http://evil.example", "null", ""] {
            assert_eq!(check(&from(other), &[]), Err(Refused::Origin), "{other}");
            assert_eq!(check(&Head { proves: true, ..from(other) }, &[]), Ok(()));
            assert_eq!(check(&Head { changes: false, ..from(other) }, &[]), Ok(()));
        }
        assert_eq!(check(&Head { site: Some("cross-site"), ..post }, &[]), Err(Refused::Origin));
        assert_eq!(check(&Head { site: Some("same-site"), ..post }, &[]), Err(Refused::Origin));
        assert_eq!(check(&Head { site: Some("same-origin"), ..post }, &[]), Ok(()));
    }
}
