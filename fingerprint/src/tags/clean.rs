//! Values of tags made fit for a song block.

/// Trims, removes control characters (a line break becomes a space) and cuts at a character within `limit` bytes.
pub(super) fn text(value: &str, limit: usize) -> String {
    let mut clean = String::with_capacity(value.len().min(limit));
    for c in value.trim_matches(|c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}').chars() {
        let c = match c {
            '\n' | '\r' | '\t' => ' ',
            c if c.is_control() => continue,
            c => c,
        };
        if clean.len() + c.len_utf8() > limit {
            break;
        }
        clean.push(c);
    }
    clean.truncate(clean.trim_end().len());
    clean
}

/// The first genre. ID3 numbers in front of a name, as in "(17)Rock", are dropped.
pub(super) fn genre(value: &str, limit: usize) -> String {
    let mut rest = value.trim();
    while let Some(inner) = rest.strip_prefix('(')
        && let Some((number, name)) = inner.split_once(')')
        && !name.trim().is_empty()
        && number.chars().all(|c| c.is_ascii_digit())
    {
        rest = name.trim();
    }
    text(rest.split([';', '\0']).next().unwrap_or(""), limit)
}

/// The leading number, as in "3/12" or "03"; 0 if there is none.
pub(super) fn number(value: &str) -> u32 {
    let digits: String = value.trim().chars().take_while(char::is_ascii_digit).take(6).collect();
    digits.parse().unwrap_or(0)
}

/// The first four digits in a row that can be a year of music; 0 if there are none.
pub(super) fn year(value: &str) -> u32 {
    value
        .split(|c: char| !c.is_ascii_digit())
        .find_map(|run| {
            // "20090501" is a date, too.
            let year = run.get(..4)?.parse().ok()?;
            (1_000..=2_999).contains(&year).then_some(year)
        })
        .unwrap_or(0)
}

/// ISO 3901: two letters, three letters or digits, seven digits; upper case, without hyphens and spaces.
pub(super) fn isrc(value: &str) -> Option<String> {
    let code: String =
        value.chars().filter(|c| !matches!(c, '-' | ' ')).take(13).map(|c| c.to_ascii_uppercase()).collect();
    let bytes = code.as_bytes();
    let fits = bytes.len() == 12
        && bytes[..2].iter().all(u8::is_ascii_uppercase)
        && bytes[2..5].iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        && bytes[5..].iter().all(u8::is_ascii_digit);
    fits.then_some(code)
}

/// A UUID as 16 bytes. The nil UUID is none.
pub(super) fn uuid(value: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = value
        .trim()
        .trim_matches('\0')
        .chars()
        .filter(|&c| c != '-')
        .take(33)
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect::<Option<_>>()?;
    if digits.len() != 32 {
        return None;
    }
    let mut id = [0u8; 16];
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    (id != [0; 16]).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        assert_eq!(text("  a\0b\u{7f}\r\nc  ", 100), "ab  c");
        assert_eq!(text("äöü", 5), "äö");
        assert_eq!(text("abc   def", 6), "abc");
        assert_eq!(text("\u{feff}\u{200a}x", 10), "x");
        assert_eq!(text("\n\t", 10), "");
    }

    #[test]
    fn genres() {
        assert_eq!(genre("(17)Rock", 50), "Rock");
        assert_eq!(genre("(17)", 50), "(17)");
        assert_eq!(genre("(4)(17) Folk; Rock", 50), "Folk");
        assert_eq!(genre("(Live) Jazz", 50), "(Live) Jazz");
    }

    #[test]
    fn numbers_and_years() {
        assert_eq!(number("3/12"), 3);
        assert_eq!(number(" 07"), 7);
        assert_eq!(number("A1"), 0);
        assert_eq!(number("99999999999"), 999_999);
        assert_eq!(year("2009-05-01"), 2009);
        assert_eq!(year("20090501"), 2009);
        assert_eq!(year("May 1st, 1987"), 1987);
        assert_eq!(year("0000"), 0);
        assert_eq!(year("99"), 0);
    }

    #[test]
    fn codes() {
        assert_eq!(isrc("de-a45-01-00001").unwrap(), "DEA450100001");
        assert_eq!(isrc("DEA4501000012"), None);
        assert_eq!(isrc("12A450100001"), None);
        assert_eq!(uuid("00000000-0000-0000-0000-000000000000"), None);
        assert_eq!(uuid("not a uuid"), None);
        assert_eq!(uuid("0123456789abcdef0123456789ABCDEF").unwrap()[..2], [0x01, 0x23]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_made_fit(value: String, limit in 0usize..300) {
            let clean = text(&value, limit);
            proptest::prop_assert!(clean.len() <= limit);
            proptest::prop_assert!(!clean.chars().any(char::is_control));
            proptest::prop_assert_eq!(clean.trim_end(), &clean);
            proptest::prop_assert!(genre(&value, limit).len() <= limit);
            let _ = (number(&value), year(&value), isrc(&value), uuid(&value));
        }
    }
}
