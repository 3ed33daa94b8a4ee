//! Writes an encoded message as JSON: the canonical form of proto3, in the order of the field numbers.
//!
//! The message is not decoded into structs, which could take a hundred times its size. The writer holds one
//! list of fields for each level of the message.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    sync::LazyLock,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use prost::{Message as _, encoding::decode_varint};
use prost_reflect::{Cardinality, Kind, MessageDescriptor};
use prost_types::{Duration, Timestamp};

use super::{POOL, fields};

/// The deepest nesting of messages, which is that of the decoder.
const MAX_DEPTH: usize = 100;

/// The messages of the schema, prepared for the writer.
static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::new);

/// Returns an encoded message of the package `cable.v1` as JSON. Returns None if it would be larger than `maximum`
/// bytes.
pub(crate) fn message(name: &str, encoded: &[u8], maximum: usize) -> Option<Vec<u8>> {
    let index = *SCHEMA.by_name.get(name)?;
    let mut writer = Writer { out: String::with_capacity(encoded.len() * 2), maximum };
    let complete = writer.message(index, encoded, 0);
    (complete && writer.out.len() <= maximum).then(|| writer.out.into_bytes())
}

/// Appends a text as a JSON string.
pub(crate) fn put_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte < 0x20 || matches!(byte, b'"' | b'\\')) {
        out.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            control => drop(write!(out, "\\u{control:04x}")),
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

struct Schema {
    by_name: HashMap<String, usize>,
    messages: Vec<MessageShape>,
}

/// How a message is written.
enum MessageShape {
    /// As an object with these fields, in the order of their numbers.
    Object(Vec<FieldShape>),
    Timestamp,
    Duration,
}

struct FieldShape {
    number: u32,
    /// The name in JSON, in quotes and with a colon.
    key: String,
    value: Value,
    is_list: bool,
    /// Whether a value that is the default of its type is written if it is present.
    has_presence: bool,
    /// The number of the group of fields of which only the last one counts.
    oneof: Option<usize>,
}

/// The type of a value.
#[derive(Clone)]
enum Value {
    Bool,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Float,
    Double,
    Text,
    Bytes,
    Enum(HashMap<i32, String>),
    Message(usize),
    Map(Box<(Value, Value)>),
}

impl Schema {
    fn new() -> Schema {
        let all: Vec<MessageDescriptor> = POOL.all_messages().collect();
        let by_name: HashMap<String, usize> =
            all.iter().enumerate().map(|(index, message)| (message.full_name().to_owned(), index)).collect();
        let messages = all.iter().map(|message| MessageShape::new(message, &by_name)).collect();
        let short = |(name, index): (String, usize)| {
            (name.strip_prefix("cable.v1.").map(str::to_owned).unwrap_or(name), index)
        };
        Schema { messages, by_name: by_name.into_iter().map(short).collect() }
    }
}

impl MessageShape {
    fn new(message: &MessageDescriptor, by_name: &HashMap<String, usize>) -> MessageShape {
        match message.full_name() {
            "google.protobuf.Timestamp" => return MessageShape::Timestamp,
            "google.protobuf.Duration" => return MessageShape::Duration,
            _ => {}
        }
        let oneofs: Vec<String> = message.oneofs().map(|oneof| oneof.name().to_owned()).collect();
        let mut fields: Vec<FieldShape> = message
            .fields()
            .map(|field| FieldShape {
                number: field.number(),
                key: format!("\"{}\":", field.json_name()),
                value: Value::of(&field.kind(), by_name),
                is_list: field.cardinality() == Cardinality::Repeated && !field.is_map(),
                has_presence: field.supports_presence(),
                oneof: field
                    .containing_oneof()
                    .and_then(|oneof| oneofs.iter().position(|name| name == oneof.name())),
            })
            .collect();
        fields.sort_by_key(|field| field.number);
        MessageShape::Object(fields)
    }
}

impl Value {
    fn of(kind: &Kind, by_name: &HashMap<String, usize>) -> Value {
        match kind {
            Kind::Bool => Value::Bool,
            Kind::Int32 => Value::Int32,
            Kind::Int64 => Value::Int64,
            Kind::Uint32 => Value::Uint32,
            Kind::Uint64 => Value::Uint64,
            Kind::Sint32 => Value::Sint32,
            Kind::Sint64 => Value::Sint64,
            Kind::Fixed32 => Value::Fixed32,
            Kind::Fixed64 => Value::Fixed64,
            Kind::Sfixed32 => Value::Sfixed32,
            Kind::Sfixed64 => Value::Sfixed64,
            Kind::Float => Value::Float,
            Kind::Double => Value::Double,
            Kind::String => Value::Text,
            Kind::Bytes => Value::Bytes,
            Kind::Enum(of) => {
                let names = of.values().map(|value| (value.number(), format!("\"{}\"", value.name())));
                Value::Enum(names.collect())
            }
            Kind::Message(entry) if entry.is_map_entry() => {
                let key = Value::of(&entry.map_entry_key_field().kind(), by_name);
                let value = Value::of(&entry.map_entry_value_field().kind(), by_name);
                Value::Map(Box::new((key, value)))
            }
            Kind::Message(message) => Value::Message(by_name.get(message.full_name()).copied().unwrap_or(0)),
        }
    }

    /// Whether a list of such values can be encoded as one field.
    fn is_packable(&self) -> bool {
        !matches!(self, Value::Text | Value::Bytes | Value::Message(_) | Value::Map(_))
    }

    /// The value that stands for a missing one in the entry of a map.
    fn default(&self) -> &'static [u8] {
        match self {
            Value::Text | Value::Bytes | Value::Message(_) | Value::Map(_) => &[],
            Value::Fixed32 | Value::Sfixed32 | Value::Float => &[0; 4],
            Value::Fixed64 | Value::Sfixed64 | Value::Double => &[0; 8],
            _ => &[0],
        }
    }

    /// Whether an encoded value is the default of its type.
    fn is_default(&self, encoded: &[u8]) -> bool {
        match self {
            // The longest encodings of 0 have more than one byte.
            Value::Text | Value::Bytes => encoded.is_empty(),
            Value::Message(_) | Value::Map(_) => false,
            Value::Fixed32
            | Value::Sfixed32
            | Value::Float
            | Value::Fixed64
            | Value::Sfixed64
            | Value::Double => encoded.iter().all(|byte| *byte == 0),
            _ => varint(encoded) == 0,
        }
    }
}

/// A field of a message that is being written: the index of its shape, and its value.
struct Found<'a> {
    shape: usize,
    is_packed: bool,
    value: &'a [u8],
}

struct Writer {
    out: String,
    maximum: usize,
}

impl Writer {
    /// Writes a message. Returns false if it is too large or too deep.
    fn message(&mut self, index: usize, encoded: &[u8], depth: usize) -> bool {
        if depth > MAX_DEPTH || self.out.len() > self.maximum {
            return false;
        }
        let shapes = match &SCHEMA.messages[index] {
            MessageShape::Object(shapes) => shapes,
            MessageShape::Timestamp => {
                let time = Timestamp::decode(encoded).unwrap_or_default();
                let _ = write!(self.out, "\"{time}\"");
                return true;
            }
            MessageShape::Duration => {
                let duration = Duration::decode(encoded).unwrap_or_default();
                let _ = write!(self.out, "\"{duration}\"");
                return true;
            }
        };
        let mut found = find(shapes, encoded);
        retain_last_of_oneofs(shapes, &mut found);
        // The order of the values of one field remains.
        found.sort_by_key(|field| field.shape);
        self.out.push('{');
        let mut is_first = true;
        for values in found.chunk_by(|one, next| one.shape == next.shape) {
            let shape = &shapes[values[0].shape];
            if !shape.is_list
                && !shape.has_presence
                && values.last().is_some_and(|last| shape.value.is_default(last.value))
            {
                continue;
            }
            if !std::mem::take(&mut is_first) {
                self.out.push(',');
            }
            self.out.push_str(&shape.key);
            if !self.field(shape, values, depth) {
                return false;
            }
        }
        self.out.push('}');
        true
    }

    fn field(&mut self, shape: &FieldShape, values: &[Found<'_>], depth: usize) -> bool {
        match &shape.value {
            Value::Map(types) => self.map(types, values, depth),
            _ if shape.is_list => self.list(shape, values, depth),
            // A message that is encoded in parts is the concatenation of them.
            value @ Value::Message(_) if values.len() > 1 => {
                let whole: Vec<u8> = values.iter().flat_map(|part| part.value).copied().collect();
                self.value(value, &whole, depth)
            }
            value => values.last().is_none_or(|last| self.value(value, last.value, depth)),
        }
    }

    fn list(&mut self, shape: &FieldShape, values: &[Found<'_>], depth: usize) -> bool {
        let mut separator = '[';
        for found in values {
            let mut rest = found.value;
            while found.is_packed && !rest.is_empty() {
                let length = shape.value.packed_len(rest);
                self.out.push(std::mem::replace(&mut separator, ','));
                if !self.value(&shape.value, &rest[..length], depth) {
                    return false;
                }
                rest = &rest[length..];
            }
            if !found.is_packed {
                self.out.push(std::mem::replace(&mut separator, ','));
                if !self.value(&shape.value, found.value, depth) {
                    return false;
                }
            }
        }
        if separator == '[' {
            self.out.push('[');
        }
        self.out.push(']');
        true
    }

    /// Writes a map, sorted by its keys.
    fn map(&mut self, (key, value): &(Value, Value), entries: &[Found<'_>], depth: usize) -> bool {
        let mut sorted: BTreeMap<String, &[u8]> = BTreeMap::new();
        for entry in entries {
            let name = fields::last(entry.value, 1).unwrap_or(key.default());
            let name = match key {
                Value::Text => String::from_utf8_lossy(name).into_owned(),
                key => {
                    let mut writer = Writer { out: String::new(), maximum: self.maximum };
                    writer.value(key, name, depth);
                    writer.out.trim_matches('"').to_owned()
                }
            };
            sorted.insert(name, fields::last(entry.value, 2).unwrap_or(value.default()));
        }
        let mut separator = '{';
        for (name, encoded) in sorted {
            self.out.push(std::mem::replace(&mut separator, ','));
            put_string(&mut self.out, &name);
            self.out.push(':');
            if !self.value(value, encoded, depth) {
                return false;
            }
        }
        self.out.push('}');
        true
    }

    fn value(&mut self, value: &Value, encoded: &[u8], depth: usize) -> bool {
        let out = &mut self.out;
        // Writing to a string cannot fail.
        let _ = match value {
            Value::Bool => write!(out, "{}", varint(encoded) != 0),
            Value::Int32 => write!(out, "{}", varint(encoded) as i32),
            Value::Uint32 => write!(out, "{}", varint(encoded) as u32),
            Value::Sint32 => write!(out, "{}", zigzag(varint(encoded)) as i32),
            Value::Int64 => write!(out, "\"{}\"", varint(encoded) as i64),
            Value::Uint64 => write!(out, "\"{}\"", varint(encoded)),
            Value::Sint64 => write!(out, "\"{}\"", zigzag(varint(encoded))),
            Value::Fixed32 => write!(out, "{}", u32::from_le_bytes(array(encoded))),
            Value::Sfixed32 => write!(out, "{}", i32::from_le_bytes(array(encoded))),
            Value::Fixed64 => write!(out, "\"{}\"", u64::from_le_bytes(array(encoded))),
            Value::Sfixed64 => write!(out, "\"{}\"", i64::from_le_bytes(array(encoded))),
            Value::Float => match f32::from_le_bytes(array(encoded)) {
                finite if finite.is_finite() => write!(out, "{finite:?}"),
                other => write!(out, "\"{}\"", not_finite(other.into())),
            },
            Value::Double => match f64::from_le_bytes(array(encoded)) {
                finite if finite.is_finite() => write!(out, "{finite:?}"),
                other => write!(out, "\"{}\"", not_finite(other)),
            },
            Value::Text => {
                put_string(out, &String::from_utf8_lossy(encoded));
                Ok(())
            }
            Value::Bytes => write!(out, "\"{}\"", BASE64_STANDARD.encode(encoded)),
            Value::Enum(names) => match names.get(&(varint(encoded) as i32)) {
                Some(name) => {
                    out.push_str(name);
                    Ok(())
                }
                None => write!(out, "{}", varint(encoded) as i32),
            },
            Value::Message(index) => return self.message(*index, encoded, depth + 1),
            Value::Map(_) => Ok(()),
        };
        self.out.len() <= self.maximum
    }
}

impl Value {
    /// Returns the length of the first of several packed values.
    fn packed_len(&self, packed: &[u8]) -> usize {
        let length = match self {
            Value::Fixed32 | Value::Sfixed32 | Value::Float => 4,
            Value::Fixed64 | Value::Sfixed64 | Value::Double => 8,
            _ => 1 + packed.iter().take_while(|byte| **byte >= 0x80).count(),
        };
        length.min(packed.len())
    }
}

/// Returns the known fields of a message, in their order.
fn find<'a>(shapes: &[FieldShape], encoded: &'a [u8]) -> Vec<Found<'a>> {
    const LENGTH_DELIMITED: u8 = 2;
    let known = fields::fields(encoded).map_while(Result::ok).filter_map(|field| {
        let shape = shapes.binary_search_by_key(&field.number, |shape| shape.number).ok()?;
        let wire_type = field.encoded.first().map_or(0, |key| key & 7);
        let is_packed =
            shapes[shape].is_list && wire_type == LENGTH_DELIMITED && shapes[shape].value.is_packable();
        Some(Found { shape, is_packed, value: field.value })
    });
    known.collect()
}

/// Drops the fields of each oneof that another field of it follows.
fn retain_last_of_oneofs(shapes: &[FieldShape], found: &mut Vec<Found<'_>>) {
    if found.iter().filter(|field| shapes[field.shape].oneof.is_some()).count() < 2 {
        return;
    }
    // For each oneof, the field that counts, and whether another one was met before it.
    let mut last: HashMap<usize, (usize, bool)> = HashMap::new();
    let mut keeps = vec![true; found.len()];
    for (at, field) in found.iter().enumerate().rev() {
        let Some(oneof) = shapes[field.shape].oneof else { continue };
        let (winner, is_cut) = last.entry(oneof).or_insert((field.shape, false));
        *is_cut |= *winner != field.shape;
        keeps[at] = !*is_cut;
    }
    let mut keeps = keeps.into_iter();
    found.retain(|_| keeps.next().unwrap_or(true));
}

fn varint(mut encoded: &[u8]) -> u64 {
    decode_varint(&mut encoded).unwrap_or(0)
}

fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn array<const N: usize>(encoded: &[u8]) -> [u8; N] {
    encoded.first_chunk().copied().unwrap_or([0; N])
}

fn not_finite(number: f64) -> &'static str {
    match number {
        number if number.is_nan() => "NaN",
        number if number > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::{DynamicMessage, SerializeOptions};
    use serde_json::{Value as Json, value::Serializer};

    use super::*;
    use crate::wire::v1;

    const ANY_SIZE: usize = usize::MAX;

    /// Returns the JSON of the writer, after it was compared with that of the reference implementation.
    fn checked(name: &str, encoded: &[u8]) -> String {
        let written = String::from_utf8(message(name, encoded, ANY_SIZE).unwrap()).unwrap();
        let descriptor = POOL.get_message_by_name(&format!("cable.v1.{name}")).unwrap();
        let reference = DynamicMessage::decode(descriptor, encoded).unwrap();
        let options = SerializeOptions::new();
        let reference = reference.serialize_with_options(Serializer, &options).unwrap();
        assert_eq!(serde_json::from_str::<Json>(&written).unwrap(), reference, "{written}");
        written
    }

    #[test]
    fn fields_follow_their_numbers_and_defaults_are_left_out() {
        let tag = v1::Tag {
            name: "tags/a".into(),
            revision: 7,
            display_name: "A \"b\"\n\u{1}".into(),
            ..v1::Tag::default()
        };
        let written = checked("Tag", &tag.encode_to_vec());
        assert_eq!(written, r#"{"name":"tags/a","revision":"7","displayName":"A \"b\"\n\u0001"}"#);
        let reversed: Vec<u8> = {
            let encoded = tag.encode_to_vec();
            let mut parts: Vec<_> = fields::fields(&encoded).map(|field| field.unwrap().encoded).collect();
            parts.reverse();
            parts.concat()
        };
        assert_eq!(checked("Tag", &reversed), written);
        assert_eq!(checked("Tag", &[]), "{}");
        let mut zero = Vec::new();
        fields::put_bytes(&mut zero, 1, b"");
        zero.extend([3 << 3, 0x80, 0]);
        assert_eq!(checked("Tag", &zero), "{}", "a default that is encoded");
    }

    #[test]
    fn parts_of_a_message_are_merged_and_the_last_of_a_oneof_counts() {
        let mut article = Vec::new();
        for text in ["one", "two"] {
            let mut body = Vec::new();
            let mut block = Vec::new();
            fields::put_message(&mut block, 2, &v1::Paragraph::default());
            fields::put_message(&mut block, 3, &v1::Heading { level: 2, ..v1::Heading::default() });
            fields::put_string(&mut block, 1, text);
            fields::put_bytes(&mut body, 1, &block);
            fields::put_bytes(&mut article, super::super::number::article::BODY, &body);
        }
        let written = checked("Article", &article);
        assert!(written.contains("one") && written.contains("two"), "{written}");
        let descriptor = POOL.get_message_by_name("cable.v1.ErrorReason");
        assert!(descriptor.is_none(), "an enum is no message");
    }

    #[test]
    fn unknown_values_and_fields_are_as_in_the_reference() {
        let mut article = Vec::new();
        fields::put_varint(&mut article, super::super::number::article::TYPE, 4_711);
        fields::put_varint(&mut article, 900, 1);
        assert_eq!(checked("Article", &article), r#"{"type":4711}"#);
    }

    #[test]
    fn a_message_above_the_maximum_is_not_written() {
        let tag = v1::Tag { display_name: "a".repeat(1_000), ..v1::Tag::default() }.encode_to_vec();
        let whole = message("Tag", &tag, ANY_SIZE).unwrap();
        assert_eq!(message("Tag", &tag, whole.len()).unwrap(), whole);
        assert_eq!(message("Tag", &tag, whole.len() - 1), None);
    }

    /// The writer knows two of the messages that JSON treats specially. No response has another one.
    #[test]
    fn no_response_has_another_well_known_message() {
        let mut open: Vec<MessageDescriptor> =
            POOL.all_messages().filter(|message| message.full_name().starts_with("cable.v1.")).collect();
        let mut seen = std::collections::HashSet::new();
        while let Some(message) = open.pop() {
            if !seen.insert(message.full_name().to_owned()) {
                continue;
            }
            open.extend(message.fields().filter_map(|field| field.kind().as_message().cloned()));
        }
        let others: Vec<_> = seen
            .iter()
            .filter(|name| {
                name.starts_with("google.") && !name.ends_with(".Timestamp") && !name.ends_with(".Duration")
            })
            .collect();
        let allowed = ["google.protobuf.FieldMask"];
        assert!(others.iter().all(|name| allowed.contains(&name.as_str())), "{others:?}");
    }
}
