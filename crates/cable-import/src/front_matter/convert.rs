//! Fields of front matter as JSON of the schema: short forms of keys, and of values whose type the schema determines.

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};
use toml::Table;

use super::Error;
use crate::references::is_id;

/// The short forms of keys, with the fields that they stand for.
const SHORT_FORMS: [(&str, &str); 4] =
    [("id", "name"), ("title", "headline"), ("date", "publishTime"), ("updated", "modifiedTime")];

/// Parses front matter in TOML.
pub(super) fn toml(text: &str) -> Result<Map<String, Value>, Error> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count());
        Error::Syntax(format!("line {}: {}", line + 2, error.message()))
    })?;
    Ok(table.into_iter().map(|(key, value)| (key, toml_value(value))).collect())
}

/// Returns a value of TOML whose scalars are text.
fn toml_value(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::String(number.to_string()),
        toml::Value::Float(number) => Value::String(number.to_string()),
        toml::Value::Boolean(value) => Value::String(value.to_string()),
        toml::Value::Datetime(time) => Value::String(time.to_string()),
        toml::Value::Array(values) => values.into_iter().map(toml_value).collect(),
        toml::Value::Table(fields) => {
            Value::Object(fields.into_iter().map(|(key, value)| (key, toml_value(value))).collect())
        }
    }
}

/// Returns a value of JSON whose scalars are text.
pub(super) fn json(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::String(number.to_string()),
        Value::Bool(value) => Value::String(value.to_string()),
        Value::Array(values) => values.into_iter().map(json).collect(),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(key, value)| (key, json(value))).collect())
        }
        value => value,
    }
}

/// Returns fields of an article as JSON of the schema.
pub(super) fn article_fields(
    fields: Map<String, Value>,
    article: &MessageDescriptor,
) -> Result<Map<String, Value>, Error> {
    let mut full = Map::new();
    for (key, value) in fields {
        let (field, value) = match key.as_str() {
            "author" | "authors" => ("byline", byline(&key, value)?),
            "body" | "renderedBody" | "rendered_body" => {
                return Err(invalid(&key, "the body is the text below the front matter"));
            }
            key => {
                (SHORT_FORMS.iter().find(|(short, _)| *short == key).map_or(key, |(_, field)| *field), value)
            }
        };
        if full.insert(field.to_owned(), value).is_some() {
            return Err(invalid(&key, &format!("`{field}` is given twice")));
        }
    }
    message(full, article, "")
}

/// Returns the byline of authors, each an id, a name, or a Credit.
fn byline(key: &str, authors: Value) -> Result<Value, Error> {
    let credit = |author: Value| match author {
        Value::String(author) if is_author(&author) => Ok(json!({"author": author})),
        Value::String(name) => Ok(json!({"displayName": name})),
        Value::Object(credit) => Ok(Value::Object(credit)),
        _ => Err(invalid(key, "expected ids or names of authors")),
    };
    match authors {
        Value::Null => Ok(Value::Null),
        authors => {
            let credits: Vec<Value> = into_list(authors).into_iter().map(credit).collect::<Result<_, _>>()?;
            Ok(json!({"credits": credits}))
        }
    }
}

/// Returns whether a text names an author: an id or a resource name. Other texts are names as printed.
pub(super) fn is_author(text: &str) -> bool {
    is_id(text.strip_prefix("authors/").unwrap_or(text))
}

fn into_list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values,
        value => vec![value],
    }
}

/// Converts the fields of a message. `path` is that of the message, empty or with a final dot.
fn message(
    fields: Map<String, Value>,
    descriptor: &MessageDescriptor,
    path: &str,
) -> Result<Map<String, Value>, Error> {
    let mut converted = Map::new();
    for (key, value) in fields {
        let path = format!("{path}{key}");
        let found = descriptor.get_field_by_json_name(&key).or_else(|| descriptor.get_field_by_name(&key));
        let Some(field) = found else {
            let known = descriptor.fields().map(|field| field.json_name().to_owned()).collect();
            return Err(Error::UnknownField { field: path, known });
        };
        if value.is_null() {
            continue;
        }
        let value = match value {
            Value::Object(entries) if field.is_map() => map(entries, &path)?,
            _ if field.is_map() => return Err(invalid(&path, "expected a mapping")),
            value if field.is_list() => {
                let values = into_list(value).into_iter().enumerate();
                values
                    .map(|(at, value)| single(value, &field, &format!("{path}[{at}]")))
                    .collect::<Result<_, _>>()?
            }
            value => single(value, &field, &path)?,
        };
        if converted.insert(field.json_name().to_owned(), value).is_some() {
            return Err(invalid(&path, "given twice"));
        }
    }
    Ok(converted)
}

/// Checks a map of the schema, whose values are all text.
fn map(entries: Map<String, Value>, path: &str) -> Result<Value, Error> {
    match entries.iter().find(|(_, value)| !value.is_string()) {
        Some((key, _)) => Err(invalid(&format!("{path}.{key}"), "expected text")),
        None => Ok(Value::Object(entries)),
    }
}

/// Converts the value of a field, or one element of a list.
fn single(value: Value, field: &FieldDescriptor, path: &str) -> Result<Value, Error> {
    let text = match (value, field.kind()) {
        (Value::Object(fields), Kind::Message(descriptor)) if !is_time(&descriptor) => {
            return message(fields, &descriptor, &format!("{path}.")).map(Value::Object);
        }
        (Value::String(text), _) => text,
        (_, Kind::Message(descriptor)) if is_time(&descriptor) => return Err(invalid(path, EXPECTED_TIME)),
        (_, Kind::Message(_)) => return Err(invalid(path, "expected a mapping")),
        _ => return Err(invalid(path, "expected a single value")),
    };
    match field.kind() {
        Kind::Message(descriptor) if is_time(&descriptor) => match parse_time(&text) {
            Some(time) => Ok(Value::String(time.to_string())),
            None => Err(invalid(path, EXPECTED_TIME)),
        },
        Kind::Message(_) => Err(invalid(path, "expected a mapping")),
        Kind::Enum(of) => enum_value(&text, &of, path),
        Kind::Bool => match text.as_str() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(invalid(path, "expected `true` or `false`")),
        },
        Kind::String => Ok(Value::String(text)),
        _ => match serde_json::from_str(&text) {
            Ok(Value::Number(number)) => Ok(Value::Number(number)),
            _ => Err(invalid(path, "expected a number")),
        },
    }
}

const EXPECTED_TIME: &str =
    "expected a day such as 2026-03-01 or a time with its offset such as 2026-03-01T06:00:00Z";

fn is_time(descriptor: &MessageDescriptor) -> bool {
    descriptor.full_name() == "google.protobuf.Timestamp"
}

/// Parses a time with its offset, or a day, which stands for its first instant in UTC.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    // The parser of dates would accept a time without an offset and ignore all but its day.
    let day = || Date::strptime("%Y-%m-%d", text).ok()?.to_zoned(TimeZone::UTC).ok();
    // `2026-03-01 06:00:00 +0200`, as static site generators write it.
    let joined = text.replacen(" +", "+", 1).replacen(" -", "-", 1).replacen(" Z", "Z", 1);
    joined.parse().ok().or_else(|| day().map(|start| start.timestamp()))
}

/// Returns the full name of an enum value: `liveblog` is ARTICLE_TYPE_LIVEBLOG.
fn enum_value(text: &str, of: &EnumDescriptor, path: &str) -> Result<Value, Error> {
    let prefix = enum_prefix(of);
    let name = text.to_ascii_uppercase().replace([' ', '-'], "_");
    let mut names = of.values().map(|value| value.name().to_owned());
    let found =
        names.find(|full| *full == name || full.strip_prefix(&prefix) == Some(&name)).map(Value::String);
    // A value of a later schema has a number only.
    let number = || text.parse::<i32>().ok().map(Value::from);
    found.or_else(number).ok_or_else(|| {
        let known: Vec<String> = of.values().skip(1).map(|value| short_name(value.name(), &prefix)).collect();
        invalid(path, &format!("expected one of: {}", known.join(", ")))
    })
}

/// Returns the start that the names of all values have: `ARTICLE_TYPE_`.
pub(super) fn enum_prefix(of: &EnumDescriptor) -> String {
    of.default_value().name().trim_end_matches("UNSPECIFIED").to_owned()
}

/// Returns the short name of an enum value: `liveblog`.
pub(super) fn short_name(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

fn invalid(field: &str, problem: &str) -> Error {
    Error::Field { field: field.to_owned(), problem: problem.to_owned() }
}
