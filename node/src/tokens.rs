//! Amounts of tokens as people write them: `1.5`. Units count everywhere else; no amount ever goes through a float.

use antiphon_proto::{economy::TOKEN, limits};

/// Digits behind the point: a unit is 10^-8 tokens.
const PLACES: usize = 8;

/// Text that is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an amount of tokens: {why}")]
pub struct AmountError {
    text: String,
    why: &'static str,
}

/// Units of an amount such as `1`, `0.25` or `1234.00000001`.
///
/// # Errors
/// [`AmountError`] for anything else, and for more than 10^10 tokens.
pub fn parse(text: &str) -> Result<u64, AmountError> {
    let wrong = |why| AmountError { text: text.chars().take(40).collect(), why };
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return Err(wrong("write digits, with a point before at most 8 more"));
    }
    if part.len() > PLACES {
        return Err(wrong("it has more than 8 digits behind the point"));
    }
    let too_much = || wrong("there are never more than 10,000,000,000 tokens");
    let whole: u64 = whole.parse().map_err(|_| too_much())?;
    let part: u64 = format!("{part:0<PLACES$}").parse().map_err(|_| too_much())?;
    let units = whole.checked_mul(TOKEN).and_then(|units| units.checked_add(part));
    units.filter(|units| *units <= limits::UNITS_MAX).ok_or_else(too_much)
}

/// Units as tokens, without zeros at the end: what [`parse`] reads.
#[must_use]
pub fn format(units: u64) -> String {
    let (whole, part) = (units / TOKEN, units % TOKEN);
    if part == 0 {
        return whole.to_string();
    }
    let part = format!("{part:0PLACES$}");
    format!("{whole}.{}", part.trim_end_matches('0'))
}

/// Units in a sentence: `1 token`, `1.5 tokens`.
#[must_use]
pub fn words(units: u64) -> String {
    format!("{} token{}", format(units), if units == TOKEN { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts() {
        for (text, units) in [
            ("0", 0),
            ("1", TOKEN),
            ("1.5", 150_000_000),
            ("0.00000001", 1),
            ("007.10", 710_000_000),
            ("10000000000", limits::UNITS_MAX),
        ] {
            assert_eq!(parse(text), Ok(units), "{text}");
        }
        for text in
            ["", ".", "1.", ".5", "-1", "+1", "1e3", " 1", "1,5", "0.000000001", "10000000000.00000001", "٣"]
        {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(parse(&"9".repeat(400)).unwrap_err().to_string().len() < 200);
        assert_eq!(words(TOKEN), "1 token");
        assert_eq!(words(0), "0 tokens");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(units in 0..=limits::UNITS_MAX) {
            prop_assert_eq!(parse(&format(units)), Ok(units));
        }

        #[test]
        fn any_text_is_an_amount_or_an_error(text in "\\PC{0,30}") {
            if let Ok(units) = parse(&text) {
                prop_assert_eq!(parse(&format(units)), Ok(units));
            }
        }
    }
}
