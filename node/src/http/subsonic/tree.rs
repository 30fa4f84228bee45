//! An answer before it is XML or JSON.
//!
//! In XML, what is plain is an attribute and what has parts is an element. In JSON both are members of an object. Which
//! members are arrays cannot be seen in XML, and must not depend on how many entries there are: so it is said here.

use super::date;

/// A plain value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    /// A string in JSON.
    Text(String),
    /// A number in JSON.
    Number(u64),
    /// A number in JSON that may be negative.
    Signed(i64),
    /// A number in JSON with up to three digits behind the point, of so many thousandths.
    Thousandths(u32),
    /// A boolean in JSON.
    Flag(bool),
}

impl From<&str> for Scalar {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for Scalar {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<String> for Scalar {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u32> for Scalar {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u64> for Scalar {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<i64> for Scalar {
    fn from(number: i64) -> Self {
        Self::Signed(number)
    }
}

impl From<bool> for Scalar {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// What stands inside an element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inner {
    /// One element; in JSON an object.
    One(Node),
    /// Elements of one name; in JSON an array of objects, also of none or one.
    Many(Vec<Node>),
    /// One element that holds nothing but text; in JSON a plain member.
    Word(Scalar),
    /// The same, several times; in JSON an array of plain values.
    Words(Vec<Scalar>),
}

/// An element; in JSON an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    pub(super) attributes: Vec<(&'static str, Scalar)>,
    pub(super) inner: Vec<(&'static str, Inner)>,
    /// The text of the element; in JSON the member `value`.
    pub(super) text: Option<String>,
}

impl Node {
    /// With nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With an attribute.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Scalar>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }

    /// With an attribute, where there is one.
    #[must_use]
    pub fn maybe(self, name: &'static str, value: Option<impl Into<Scalar>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// With a moment, in milliseconds since 1970.
    #[must_use]
    pub fn date(self, name: &'static str, ms: u64) -> Self {
        self.with(name, date::iso8601(ms))
    }

    /// With a moment, where there is one.
    #[must_use]
    pub fn maybe_date(self, name: &'static str, ms: Option<u64>) -> Self {
        self.maybe(name, ms.map(date::iso8601))
    }

    /// With an element.
    #[must_use]
    pub fn one(mut self, name: &'static str, node: Self) -> Self {
        self.inner.push((name, Inner::One(node)));
        self
    }

    /// With elements of one name.
    #[must_use]
    pub fn many(mut self, name: &'static str, nodes: impl IntoIterator<Item = Self>) -> Self {
        self.inner.push((name, Inner::Many(nodes.into_iter().collect())));
        self
    }

    /// With an element that holds text, where there is one.
    #[must_use]
    pub fn word(mut self, name: &'static str, value: Option<impl Into<Scalar>>) -> Self {
        if let Some(value) = value {
            self.inner.push((name, Inner::Word(value.into())));
        }
        self
    }

    /// With elements that hold text.
    #[must_use]
    pub fn words<T: Into<Scalar>>(mut self, name: &'static str, values: impl IntoIterator<Item = T>) -> Self {
        self.inner.push((name, Inner::Words(values.into_iter().map(Into::into).collect())));
        self
    }

    /// With a text.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    pub(super) fn append(mut self, name: &'static str, inner: Inner) -> Self {
        self.inner.push((name, inner));
        self
    }
}
