//! Articles as text with front matter in YAML.

use std::fmt::Write as _;

use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, ReflectMessage as _, Value};

use super::{
    convert::{enum_prefix, is_author, short_name},
    descriptor,
};
use crate::references;
use cable_proto::v1;

/// Returns an article as text: as front matter the name, the etag and the fields that a client can set, and below it
/// `body`. [`parse`](super::parse) returns the same article.
pub fn write(article: &v1::Article, body: &str) -> String {
    let message = DynamicMessage::decode(descriptor(), article.encode_to_vec().as_slice())
        .expect("an encoded article is an article");
    let mut text = String::from("---\n");
    for (field, value) in message.fields().filter(|(field, _)| is_written(field)) {
        match authors(article).filter(|_| field.name() == "byline") {
            Some(authors) => write_list(&mut text, "authors", authors, 0),
            None => write_field(&mut text, &field, value, 0),
        }
    }
    text += "---\n";
    if !body.is_empty() {
        text += "\n";
        text += body;
    }
    text
}

/// Returns whether a field is one that a put uses, besides the body.
fn is_written(field: &FieldDescriptor) -> bool {
    match field.name() {
        "name" | "etag" => true,
        "body" | "former_paths" => false,
        _ => field.number() >= 10,
    }
}

/// Returns the authors of a byline in the short form. `None` if that form would lose a part of it.
fn authors(article: &v1::Article) -> Option<Vec<String>> {
    let byline =
        article.byline.as_ref().filter(|byline| byline.text.is_empty() && !byline.credits.is_empty())?;
    let author = |credit: &v1::Credit| match (&*credit.author, &*credit.display_name, &*credit.role) {
        (name, "", "") => name.strip_prefix("authors/").filter(|id| is_author(id)).map(scalar),
        ("", name, "") if !is_author(name) => Some(scalar(name)),
        _ => None,
    };
    byline.credits.iter().map(author).collect()
}

fn write_field(out: &mut String, field: &FieldDescriptor, value: &Value, indent: usize) {
    let name = field.json_name();
    match value {
        Value::List(values) => {
            let items = values.iter().map(|value| match as_nested(value) {
                Some(message) => nested(message, indent + 4).unwrap_or_else(|| "{}".to_owned()),
                None => scalar_of(field, value),
            });
            write_list(out, name, items.collect(), indent);
        }
        Value::Map(entries) => {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by(|a, b| a.0.cmp(b.0));
            _ = writeln!(out, "{:indent$}{name}:", "");
            for (key, value) in entries {
                let (key, value) = (key.as_str().unwrap_or_default(), value.as_str().unwrap_or_default());
                _ = writeln!(out, "{:indent$}  {}: {}", "", scalar(key), scalar(value));
            }
        }
        value => match as_nested(value).map(|message| nested(message, indent + 2)) {
            Some(Some(fields)) => _ = writeln!(out, "{:indent$}{name}:\n{:indent$}  {fields}", "", ""),
            Some(None) => _ = writeln!(out, "{:indent$}{name}: {{}}", ""),
            None => _ = writeln!(out, "{:indent$}{name}: {}", "", scalar_of(field, value)),
        },
    }
}

/// Writes a list whose items are text already.
fn write_list(out: &mut String, name: &str, items: Vec<String>, indent: usize) {
    _ = writeln!(out, "{:indent$}{name}:", "");
    for item in items {
        _ = writeln!(out, "{:indent$}  - {item}", "");
    }
}

/// Returns a value that is written as a mapping.
fn as_nested(value: &Value) -> Option<&DynamicMessage> {
    value.as_message().filter(|message| !message.descriptor().full_name().starts_with("google.protobuf."))
}

/// Returns the fields of a message, one per line, without the indentation of the first line and the end of the last
/// one. `None` if there are none.
fn nested(message: &DynamicMessage, indent: usize) -> Option<String> {
    let mut fields = String::new();
    for (field, value) in message.fields() {
        write_field(&mut fields, &field, value, indent);
    }
    Some(fields.trim().to_owned()).filter(|fields| !fields.is_empty())
}

/// Returns a value of one line.
fn scalar_of(field: &FieldDescriptor, value: &Value) -> String {
    match (value, field.kind()) {
        (Value::EnumNumber(number), Kind::Enum(of)) => match of.get_value(*number) {
            Some(value) => short_name(value.name(), &enum_prefix(&of)),
            None => number.to_string(),
        },
        (Value::Message(time), _) => match serde_json::to_value(time) {
            Ok(serde_json::Value::String(time)) => time,
            _ => String::new(),
        },
        (Value::String(text), _) => {
            let collection = references::collection(field.parent_message().full_name(), field.name());
            let id = collection.and_then(|of| text.strip_prefix(of)?.strip_prefix('/'));
            scalar(id.filter(|id| references::is_id(id)).unwrap_or(text))
        }
        (Value::Bool(value), _) => value.to_string(),
        (Value::I32(number), _) => number.to_string(),
        (Value::I64(number), _) => number.to_string(),
        (Value::U32(number), _) => number.to_string(),
        (Value::U64(number), _) => number.to_string(),
        (Value::F32(number), _) => number.to_string(),
        (Value::F64(number), _) => number.to_string(),
        (other, _) => unreachable!("an article contains no {other:?}"),
    }
}

/// Returns a text as a scalar of YAML: plain where that is unambiguous, else in double quotes.
fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_alphanumeric() || c == '/')
        && !text.ends_with([' ', ':'])
        && ![": ", " #"].iter().any(|end| text.contains(end))
        && !text.chars().any(is_escaped)
        && !["null", "Null", "NULL"].contains(&text);
    if is_plain { text.to_owned() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted += "\\n",
            '\t' => quoted += "\\t",
            c if is_escaped(c) => _ = write!(quoted, "\\U{:08X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// Returns whether a character could end a line, or is not visible in an editor.
fn is_escaped(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || cable_proto::text::is_forbidden(c)
}
