//! Answers as JSON.

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};

use super::tree::{Inner, Node, Scalar};

impl Serialize for Scalar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Signed(number) => serializer.serialize_i64(*number),
            Self::Thousandths(number) => serializer.serialize_f64(f64::from(*number) / 1_000.0),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
        }
    }
}

fn sequence<S: Serializer, T: Serialize>(serializer: S, items: &[T]) -> Result<S::Ok, S::Error> {
    let mut sequence = serializer.serialize_seq(Some(items.len()))?;
    for item in items {
        sequence.serialize_element(item)?;
    }
    sequence.end()
}

impl Serialize for Inner {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(node) => node.serialize(serializer),
            Self::Word(word) => word.serialize(serializer),
            Self::Many(nodes) => sequence(serializer, nodes),
            Self::Words(words) => sequence(serializer, words),
        }
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &self.attributes {
            map.serialize_entry(name, value)?;
        }
        for (name, inner) in &self.inner {
            map.serialize_entry(name, inner)?;
        }
        if let Some(text) = &self.text {
            map.serialize_entry("value", text)?;
        }
        map.end()
    }
}

/// The document whose only member has this name.
pub(super) fn document(name: &'static str, node: &Node) -> String {
    struct Document<'a>(&'static str, &'a Node);

    impl Serialize for Document<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry(self.0, self.1)?;
            map.end()
        }
    }

    // Strings as names, and no values that can refuse: this cannot fail.
    serde_json::to_string(&Document(name, node)).unwrap_or_default()
}
