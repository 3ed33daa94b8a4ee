//! XML as JSON, so that the fields of all formats are walked alike.

use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};
use serde_json::{Map, Value};

/// Returns the element `channel` of an export. Attributes are members with `@`, text beside them is `#text`, and an
/// element that appears several times is a list.
pub(crate) fn channel(text: &str) -> Value {
    let mut reader = Reader::from_str(text);
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) if start.name().as_ref() == "channel" => {
                return content(&mut reader, Map::new());
            }
            Event::Eof => panic!("the document has no channel"),
            _ => {}
        }
    }
}

/// Returns the element whose attributes are given and whose content follows.
fn content(reader: &mut Reader<&[u8]>, mut members: Map<String, Value>) -> Value {
    let mut text = String::new();
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) => {
                let name = start.name().as_ref().to_owned();
                let element = content(reader, attributes(&start));
                add(&mut members, name, element);
            }
            Event::Empty(empty) => {
                let element = element(attributes(&empty), String::new());
                add(&mut members, empty.name().as_ref().to_owned(), element);
            }
            Event::Text(part) => text += part.trim(),
            Event::CData(part) => text += &part,
            Event::End(_) => return element(members, text),
            Event::Eof => panic!("the document ends within an element"),
            _ => {}
        }
    }
}

fn element(mut members: Map<String, Value>, text: String) -> Value {
    if members.is_empty() {
        return Value::String(text);
    }
    if members.keys().all(|name| name.starts_with('@')) {
        members.insert("#text".to_owned(), Value::String(text));
    }
    Value::Object(members)
}

fn attributes(start: &BytesStart<'_>) -> Map<String, Value> {
    let attributes = start.attributes().map(|attribute| attribute.unwrap());
    attributes.map(|a| (format!("@{}", a.key.as_ref()), Value::from(&*a.value))).collect()
}

fn add(members: &mut Map<String, Value>, name: String, element: Value) {
    match members.get_mut(&name) {
        Some(Value::Array(elements)) => elements.push(element),
        Some(first) => *first = Value::Array(vec![first.take(), element]),
        None => drop(members.insert(name, element)),
    }
}
