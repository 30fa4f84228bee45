//! An answer in XML as the value that it would be in JSON, by the contract.

use quick_xml::{Reader, XmlVersion, events::Event};
use serde_json::{Map, Value};

use crate::table::{Contract, Form};

/// An element.
#[derive(Debug, Default)]
pub(crate) struct Element {
    pub(crate) name: String,
    attributes: Vec<(String, String)>,
    children: Vec<Self>,
    text: String,
}

pub(crate) fn parse(document: &str) -> Element {
    let mut reader = Reader::from_str(document);
    let mut open = vec![Element::default()];
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) => open.push(element(&start)),
            Event::Empty(start) => open.last_mut().unwrap().children.push(element(&start)),
            Event::End(_) => {
                let done = open.pop().unwrap();
                open.last_mut().unwrap().children.push(done);
            }
            Event::Text(text) => {
                open.last_mut().unwrap().text += &text.xml_content(XmlVersion::Implicit1_0);
            }
            Event::GeneralRef(reference) => {
                let resolved = match reference.resolve_char_ref().unwrap() {
                    Some(character) => character.to_string(),
                    None => match reference.xml_content(XmlVersion::Implicit1_0).as_ref() {
                        "amp" => "&".to_owned(),
                        "lt" => "<".to_owned(),
                        "gt" => ">".to_owned(),
                        "quot" => "\"".to_owned(),
                        "apos" => "'".to_owned(),
                        other => panic!("&{other}; is not known"),
                    },
                };
                open.last_mut().unwrap().text += &resolved;
            }
            Event::Eof => {
                assert_eq!(open.len(), 1, "open elements");
                return open.remove(0).children.remove(0);
            }
            _ => {}
        }
    }
}

fn element(start: &quick_xml::events::BytesStart<'_>) -> Element {
    let attributes = start.attributes().map(|attribute| {
        let attribute = attribute.unwrap();
        let value = attribute.normalized_value(XmlVersion::Implicit1_0).unwrap().into_owned();
        (attribute.key.as_ref().to_owned(), value)
    });
    let name = start.name().as_ref().to_owned();
    Element { name, attributes: attributes.collect(), ..Element::default() }
}

/// A plain value from its text.
fn plain(form: &Form, text: &str) -> Result<Value, String> {
    let wrong = || format!("{text:?} is no {form:?}");
    match form {
        Form::Number | Form::Rating => text.parse::<i64>().map(Value::from).map_err(|_| wrong()),
        Form::Decimal => text.parse::<f64>().map(Value::from).map_err(|_| wrong()),
        Form::Flag => text.parse::<bool>().map(Value::from).map_err(|_| wrong()),
        _ => Ok(Value::from(text)),
    }
}

/// The element as an object of a type: all that is in it, and nothing that the type does not have.
pub(crate) fn value(element: &Element, contract: &Contract, name: &str) -> Result<Value, String> {
    let mut object = Map::new();
    let (mut attributes, mut children) = (Vec::new(), Vec::new());
    for field in contract.fields(name) {
        let named = || element.children.iter().filter(|child| child.name == field.name);
        let found = match &field.form {
            Form::Value => Some(Value::from(&*element.text)),
            Form::Word => named().next().map(|child| Value::from(&*child.text)),
            Form::Of(inner) => named().next().map(|child| value(child, contract, inner)).transpose()?,
            Form::Many(inner) => {
                let one = |child: &Element| match &**inner {
                    Form::Of(inner) => value(child, contract, inner),
                    form => plain(form, &child.text),
                };
                Some(Value::Array(named().map(one).collect::<Result<_, _>>()?))
            }
            form => {
                attributes.push(field.name.clone());
                let found = element.attributes.iter().find(|(name, _)| *name == field.name);
                found.map(|(_, text)| plain(form, text)).transpose()?
            }
        };
        if !attributes.contains(&field.name) {
            children.push(field.name.clone());
        }
        object.extend(found.map(|found| (field.name, found)));
    }
    let strange = element.attributes.iter().map(|(name, _)| name);
    if let Some(name) = strange.filter(|name| *name != "xmlns").find(|name| !attributes.contains(name)) {
        return Err(format!("<{}> has an attribute {name}", element.name));
    }
    if let Some(child) = element.children.iter().find(|child| !children.contains(&child.name)) {
        return Err(format!("<{}> has an element <{}>", element.name, child.name));
    }
    Ok(Value::Object(object))
}
