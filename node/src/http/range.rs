//! Which bytes of a file a request asks for, and whether it has them (RFC 9110, sections 13.1.2, 13.1.5 and 14).

/// What is to be sent of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All of it, with 200.
    Whole,
    /// From the first byte up to and without the second, with 206.
    Part(u64, u64),
    /// Nothing of it, with 416.
    Unsatisfiable,
}

/// Reads the `Range` header of a request for a file of `size` bytes. What is not understood, and several ranges at once,
/// mean all of it, as the RFC allows.
#[must_use]
pub fn wanted(range: Option<&str>, size: u64) -> Wanted {
    let Some(range) = range.and_then(|range| range.trim().strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    let Some((first, last)) = range.trim().split_once('-') else { return Wanted::Whole };
    match (number(first), number(last)) {
        (Some(Some(first)), Some(last)) => {
            let end = last.map_or(size, |last| last.saturating_add(1).min(size));
            if last.is_some_and(|last| last < first) {
                Wanted::Whole
            } else if first >= size {
                Wanted::Unsatisfiable
            } else {
                Wanted::Part(first, end)
            }
        }
        // The last so many.
        (Some(None), Some(Some(count))) => match count {
            0 => Wanted::Unsatisfiable,
            _ if size == 0 => Wanted::Unsatisfiable,
            _ => Wanted::Part(size.saturating_sub(count), size),
        },
        _ => Wanted::Whole,
    }
}

/// Digits only: `Some(None)` for nothing at all, `None` for anything else. A number too large is the largest.
fn number(text: &str) -> Option<Option<u64>> {
    let text = text.trim();
    if text.is_empty() {
        return Some(None);
    }
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| Some(text.parse().unwrap_or(u64::MAX)))
}

/// Whether an `If-Range` header still means the file with this strong tag.
#[must_use]
pub fn still(if_range: Option<&str>, tag: &str) -> bool {
    if_range.is_none_or(|known| known.trim() == tag)
}

/// Whether an `If-None-Match` header names the file with this strong tag: whoever asks has it. Caches may have made the tag
/// a weak one.
#[must_use]
pub fn is_known(if_none_match: Option<&str>, tag: &str) -> bool {
    let names = |known: &str| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag;
    if_none_match.is_some_and(|known| known.split(',').any(|known| names(known.trim())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_somebody_has() {
        for known in ["\"a\"", "W/\"a\"", "*", "\"b\" , \"a\"", "\"b\",W/\"a\""] {
            assert!(is_known(Some(known), "\"a\""), "{known}");
        }
        for other in [None, Some(""), Some("\"b\""), Some("a"), Some("W/W/\"a\"")] {
            assert!(!is_known(other, "\"a\""), "{other:?}");
        }
    }

    #[test]
    fn ranges() {
        let of = |text| wanted(Some(text), 100);
        assert_eq!(of("bytes=0-"), Wanted::Part(0, 100));
        assert_eq!(of("bytes=0-0"), Wanted::Part(0, 1));
        assert_eq!(of("bytes=10-1000"), Wanted::Part(10, 100));
        assert_eq!(of("bytes=-10"), Wanted::Part(90, 100));
        assert_eq!(of("bytes=-1000"), Wanted::Part(0, 100));
        assert_eq!(of("bytes=99-99999999999999999999999"), Wanted::Part(99, 100));
        assert_eq!(of("bytes=100-"), Wanted::Unsatisfiable);
        assert_eq!(of("bytes=-0"), Wanted::Unsatisfiable);
        for whole in
            ["bytes=5-4", "bytes=0-1,5-6", "bytes=x-", "bytes=-", "lines=0-1", "", "bytes=1", "bytes=+1-2"]
        {
            assert_eq!(of(whole), Wanted::Whole, "{whole}");
        }
        assert_eq!(wanted(None, 100), Wanted::Whole);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Unsatisfiable);
        assert_eq!(wanted(Some("bytes=-1"), 0), Wanted::Unsatisfiable);
    }

    proptest! {
        #[test]
        fn never_beyond_the_file(text in ".{0,40}", first: u64, last: u64, size: u64) {
            for range in [text, format!("bytes={first}-{last}"), format!("bytes=-{last}")] {
                if let Wanted::Part(start, end) = wanted(Some(&range), size) {
                    prop_assert!(start < end && end <= size);
                }
            }
        }
    }
}
