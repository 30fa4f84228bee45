//! The parameters of a request, from its query string and from a form in its body.

use std::str::FromStr;

use super::error::{Code, SubsonicError};

/// Longest query string. Web servers take less; long lists come in a body.
pub const QUERY_BYTES: usize = 64 * 1024;
/// Longest body: a play queue of 10,000 songs takes up to 320 KB.
pub const BODY_BYTES: usize = 512 * 1024;
/// Most parameters of one request: a play queue of 10,000 songs, and whatever else a request says.
pub const PAIRS: usize = 12_000;

/// The parameters of a request, in their order. Names may repeat.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Params {
    pairs: Vec<(String, String)>,
}

/// Names only: among the values are passwords.
impl std::fmt::Debug for Params {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.pairs.iter().map(|(name, _)| name)).finish()
    }
}

impl Params {
    /// Reads a query string, without its question mark, and a form in the body after it.
    ///
    /// # Errors
    /// Error 10 when there is more than anybody needs.
    pub fn parse(query: &str, body: &[u8]) -> Result<Self, SubsonicError> {
        if query.len() > QUERY_BYTES || body.len() > BODY_BYTES {
            return Err(SubsonicError::saying(
                Code::Parameter,
                "The parameters of the request are too long.",
            ));
        }
        let mut pairs = Vec::new();
        for part in query.as_bytes().split(|byte| *byte == b'&').chain(body.split(|byte| *byte == b'&')) {
            if part.is_empty() {
                continue;
            }
            if pairs.len() == PAIRS {
                return Err(SubsonicError::saying(Code::Parameter, "The request has too many parameters."));
            }
            let mut halves = part.splitn(2, |byte| *byte == b'=');
            let mut half = || decoded(halves.next().unwrap_or_default());
            pairs.push((half(), half()));
        }
        Ok(Self { pairs })
    }

    /// Every value of this name, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value of this name; an empty one is one.
    #[must_use]
    pub fn first<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// The first value of this name that says something: apps send empty ones for what they do not know.
    #[must_use]
    pub fn filled<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).find(|value| !value.is_empty())
    }

    /// The value of this name, which may be empty.
    ///
    /// # Errors
    /// Error 10 when there is none.
    pub fn text<'a>(&'a self, name: &'a str) -> Result<&'a str, SubsonicError> {
        self.first(name).ok_or_else(|| SubsonicError::missing(name))
    }

    /// The value of this name as something that is read from text, like an id.
    ///
    /// # Errors
    /// Error 10 when there is none; error 70 when it cannot be the name of anything.
    pub fn id<T: FromStr>(&self, name: &str) -> Result<T, SubsonicError> {
        let text = self.filled(name).ok_or_else(|| SubsonicError::missing(name))?;
        text.parse().map_err(|_| SubsonicError::not_found())
    }

    /// A whole number of this name, where there is one.
    ///
    /// # Errors
    /// Error 10 when it is no number, or out of the range of its type.
    pub fn number<T: Number>(&self, name: &str) -> Result<Option<T>, SubsonicError> {
        self.filled(name).map(|text| number(name, text)).transpose()
    }

    /// A whole number of this name.
    ///
    /// # Errors
    /// Error 10 when there is none, or as [`Self::number`].
    pub fn needed_number<T: Number>(&self, name: &str) -> Result<T, SubsonicError> {
        self.number(name)?.ok_or_else(|| SubsonicError::missing(name))
    }

    /// Every whole number of this name, in order. Empty values are none.
    ///
    /// # Errors
    /// Error 10 when one of them is none.
    pub fn numbers<T: Number>(&self, name: &str) -> Result<Vec<T>, SubsonicError> {
        self.all(name).filter(|text| !text.is_empty()).map(|text| number(name, text)).collect()
    }

    /// Yes or no of this name, where it says.
    ///
    /// # Errors
    /// Error 10 when it says something else.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, SubsonicError> {
        match self.filled(name) {
            None => Ok(None),
            Some(text) if text.eq_ignore_ascii_case("true") || text == "1" => Ok(Some(true)),
            Some(text) if text.eq_ignore_ascii_case("false") || text == "0" => Ok(Some(false)),
            Some(_) => Err(SubsonicError::wrong(name, "true or false")),
        }
    }
}

/// Whole numbers that a parameter can be.
pub trait Number: FromStr {}

macro_rules! numbers {
    ($($number:ty),*) => {
        $(impl Number for $number {})*
    };
}
numbers!(u8, u32, u64, i64, usize);

fn number<T: Number>(name: &str, text: &str) -> Result<T, SubsonicError> {
    text.parse().map_err(|_| SubsonicError::wrong(name, "a whole number in range"))
}

/// What a name or a value of a form stands for. A percent sign that starts nothing is itself; what is no UTF-8 becomes
/// the sign for that.
fn decoded(bytes: &[u8]) -> String {
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let pair = digit(at + 1).zip(digit(at + 2)).map(|(high, low)| high * 16 + low);
        match (byte, pair.and_then(|pair| u8::try_from(pair).ok())) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 2;
            }
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(*byte),
        }
        at += 1;
    }
    String::from_utf8(decoded).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn params(query: &str) -> Params {
        Params::parse(query, b"").unwrap()
    }

    #[test]
    fn a_query_and_a_form() {
        let params =
            Params::parse("id=so-1&q=a+b%26c%3D%C3%A9&id=so-2&empty=&bare&&=x", b"id=so-3&q=z").unwrap();
        assert_eq!(params.all("id").collect::<Vec<_>>(), ["so-1", "so-2", "so-3"]);
        assert_eq!(params.text("q").unwrap(), "a b&c=é");
        assert_eq!(params.text("empty").unwrap(), "");
        assert_eq!(params.first("bare"), Some(""));
        assert_eq!(params.filled("empty"), None);
        assert_eq!(params.first(""), Some("x"));
        assert_eq!(params.first("none"), None);
        // A second equals sign belongs to the value.
        assert_eq!(self::params("a=b=c").first("a"), Some("b=c"));
    }

    #[test]
    fn percent_signs() {
        for (text, meant) in [
            ("%41", "A"),
            ("%4", "%4"),
            ("%", "%"),
            ("%zz", "%zz"),
            ("%%41", "%A"),
            ("%FF", "\u{FFFD}"),
            ("%+1", "% 1"),
        ] {
            assert_eq!(params(&format!("x={text}")).first("x"), Some(meant), "{text}");
        }
    }

    #[test]
    fn types() {
        let params = params("n=12&m=-3&big=99999999999&t=true&f=FALSE&bad=x&none=&l=1&l=2");
        assert_eq!(params.number::<u32>("n"), Ok(Some(12)));
        assert_eq!(params.number::<i64>("m"), Ok(Some(-3)));
        assert_eq!(params.number::<u32>("none"), Ok(None));
        assert_eq!(params.numbers::<u64>("l"), Ok(vec![1, 2]));
        assert_eq!(
            (params.flag("t"), params.flag("f"), params.flag("none")),
            (Ok(Some(true)), Ok(Some(false)), Ok(None))
        );
        for (error, name) in [
            (params.number::<u32>("m").unwrap_err(), "m"),
            (params.number::<u32>("big").unwrap_err(), "big"),
            (params.needed_number::<u64>("none").unwrap_err(), "none"),
            (params.needed_number::<u64>("missing").unwrap_err(), "missing"),
            (params.text("missing").unwrap_err(), "missing"),
            (params.flag("bad").unwrap_err(), "bad"),
            (params.id::<crate::music::id::Id>("missing").unwrap_err(), "missing"),
        ] {
            assert_eq!(error.code, Code::Parameter);
            assert!(error.message.contains(&format!("'{name}'")), "{error}");
        }
        assert_eq!(params.id::<crate::music::id::Id>("bad").unwrap_err().code, Code::NotFound);
    }

    #[test]
    fn too_much() {
        let pairs = |count| "a=1&".repeat(count);
        assert!(Params::parse("", pairs(PAIRS).as_bytes()).is_ok());
        assert!(Params::parse("", pairs(PAIRS + 1).as_bytes()).is_err());
        assert!(Params::parse(&"a".repeat(QUERY_BYTES), b"").is_ok());
        assert!(Params::parse(&"a".repeat(QUERY_BYTES + 1), b"").is_err());
        assert!(Params::parse("", &[b'a'; BODY_BYTES]).is_ok());
        assert!(Params::parse("", &[b'a'; BODY_BYTES + 1]).is_err());
    }

    #[test]
    fn values_are_not_printed() {
        assert_eq!(format!("{:?}", params("u=joe&p=sesame")), r#"["u", "p"]"#);
    }

    proptest! {
        #[test]
        fn anything_is_read(query: String, body: Vec<u8>) {
            let params = Params::parse(&query, &body).unwrap();
            for (name, _) in &params.pairs {
                let _ = (params.number::<u64>(name), params.flag(name), params.text(name));
            }
        }

        #[test]
        fn what_is_encoded_comes_back(name in "[^=]+", value: String) {
            let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
            let params = Params::parse(&format!("{}={}", encode(&name), encode(&value)), b"").unwrap();
            prop_assert_eq!(params.first(&name), Some(value.as_str()));
        }
    }
}
