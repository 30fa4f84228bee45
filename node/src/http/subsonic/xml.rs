//! Answers as XML 1.0.

use std::{borrow::Cow, io};

use quick_xml::{
    Writer,
    events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event, attributes::Attribute},
    name::QName,
};

use super::tree::{Inner, Node, Scalar};

/// What elements are named in.
const NAMESPACE: &str = "http://subsonic.org/restapi";

/// Whether XML 1.0 knows the character at all. What it does not know cannot be written by a reference either.
const fn is_allowed(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{1_0000}'..)
}

/// Text for an attribute or an element. White space is written as references: parsers change it otherwise.
fn escaped(text: &str) -> Cow<'_, str> {
    let plain = |character: char| {
        is_allowed(character) && !matches!(character, '<' | '>' | '&' | '"' | '\'' | '\t' | '\n' | '\r')
    };
    if text.chars().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\t' => escaped.push_str("&#9;"),
            '\n' => escaped.push_str("&#10;"),
            '\r' => escaped.push_str("&#13;"),
            other if is_allowed(other) => escaped.push(other),
            _ => escaped.push(char::REPLACEMENT_CHARACTER),
        }
    }
    Cow::Owned(escaped)
}

fn words(scalar: &Scalar) -> Cow<'_, str> {
    match scalar {
        Scalar::Text(text) => escaped(text),
        Scalar::Number(number) => Cow::Owned(number.to_string()),
        Scalar::Signed(number) => Cow::Owned(number.to_string()),
        Scalar::Thousandths(number) => Cow::Owned((f64::from(*number) / 1_000.0).to_string()),
        Scalar::Flag(flag) => Cow::Borrowed(if *flag { "true" } else { "false" }),
    }
}

struct Document {
    writer: Writer<Vec<u8>>,
}

impl Document {
    fn element(&mut self, start: BytesStart<'_>, name: &'static str, node: &Node) -> io::Result<()> {
        let mut start = start;
        for (name, value) in &node.attributes {
            start.push_attribute(Attribute { key: QName(name), value: words(value) });
        }
        if node.inner.is_empty() && node.text.is_none() {
            return self.writer.write_event(Event::Empty(start));
        }
        self.writer.write_event(Event::Start(start))?;
        for (name, inner) in &node.inner {
            self.inner(name, inner)?;
        }
        if let Some(text) = &node.text {
            self.writer.write_event(Event::Text(BytesText::from_escaped(escaped(text))))?;
        }
        self.writer.write_event(Event::End(BytesEnd::new(name)))
    }

    fn inner(&mut self, name: &'static str, inner: &Inner) -> io::Result<()> {
        match inner {
            Inner::One(node) => self.element(BytesStart::new(name), name, node),
            Inner::Many(nodes) => {
                nodes.iter().try_for_each(|node| self.element(BytesStart::new(name), name, node))
            }
            Inner::Word(word) => self.word(name, word),
            Inner::Words(words) => words.iter().try_for_each(|word| self.word(name, word)),
        }
    }

    fn word(&mut self, name: &'static str, word: &Scalar) -> io::Result<()> {
        self.writer.write_event(Event::Start(BytesStart::new(name)))?;
        self.writer.write_event(Event::Text(BytesText::from_escaped(words(word))))?;
        self.writer.write_event(Event::End(BytesEnd::new(name)))
    }
}

/// The document whose root has this name.
pub(super) fn document(name: &'static str, node: &Node) -> String {
    let mut document = Document { writer: Writer::new(Vec::with_capacity(1_024)) };
    let mut root = BytesStart::new(name);
    root.push_attribute(("xmlns", NAMESPACE));
    let written = document
        .writer
        .write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))
        .and_then(|()| document.element(root, name, node));
    // Memory takes everything, and only strings were written: neither can fail.
    written.ok().and_then(|()| String::from_utf8(document.writer.into_inner()).ok()).unwrap_or_default()
}
