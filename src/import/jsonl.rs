//! Records as lines: the canonical JSON mapping of `cable.v1.Record`, one object a line.
//!
//! Fields stand in the order of their numbers and map entries in the order of their keys, so equal records are equal
//! lines.

use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _,
    Value,
};
use serde::Serialize;

use crate::wire::{self, v1};

/// Why a record and a line could not become one another.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The bytes are no Record.
    #[error("the record cannot be decoded: {0}")]
    Bytes(#[from] prost::DecodeError),
    /// The line is no Record: bad JSON, an unknown field, a value of the wrong type. The message says which and where.
    #[error("not a record: {0}")]
    Json(#[from] serde_json::Error),
    /// The line is a Record of nothing.
    #[error("the record is empty: it must hold an article, author, section, tag, collection or tombstone")]
    Empty,
}

/// Turns records into lines and back.
#[derive(Debug, Clone)]
pub(crate) struct RecordJson {
    record: MessageDescriptor,
}

impl RecordJson {
    /// Reads the schema once; cheap to clone after that.
    #[expect(clippy::new_without_default, reason = "it parses the schema: worth a visible call")]
    pub(crate) fn new() -> Self {
        let pool = DescriptorPool::decode(wire::DESCRIPTORS).expect("the build has compiled the schema");
        let record = pool.get_message_by_name("cable.v1.Record").expect("the schema has Record");
        RecordJson { record }
    }

    /// The line of an encoded Record, without line feed, and whether it had fields, at any depth, that this release
    /// does not know and the line therefore lacks.
    ///
    /// # Errors
    /// The bytes are no Record.
    pub(crate) fn to_line(&self, record: &[u8]) -> Result<(String, bool), Error> {
        let message = DynamicMessage::decode(self.record.clone(), record)?;
        let mut writer = Writer { line: String::with_capacity(record.len() * 2), unknown: false };
        writer.message(&message)?;
        Ok((writer.line, writer.unknown))
    }

    /// The encoded Record of a line. Its bytes are the same for the same content, however the line is laid out.
    ///
    /// # Errors
    /// The line is not JSON, names a field that the schema does not have or gives it a value of another type (the
    /// message has the name and the column), or holds no entity.
    pub(crate) fn from_line(&self, line: &str) -> Result<Vec<u8>, Error> {
        let mut json = serde_json::Deserializer::from_str(line);
        let message = DynamicMessage::deserialize(self.record.clone(), &mut json)?;
        json.end()?;
        // Maps are unordered in dynamic messages and ordered in typed ones. JSON brings no unknown fields, so nothing
        // is lost on the way.
        let record: v1::Record = message.transcode_to()?;
        if record.record.is_none() {
            return Err(Error::Empty);
        }
        Ok(record.encode_to_vec())
    }
}

struct Writer {
    line: String,
    unknown: bool,
}

impl Writer {
    fn message(&mut self, message: &DynamicMessage) -> Result<(), Error> {
        self.unknown |= message.unknown_fields().next().is_some();
        if message.descriptor().full_name().starts_with("google.protobuf.") {
            return self.json(message);
        }
        self.line.push('{');
        for (at, (field, value)) in message.fields().enumerate() {
            self.comma(at);
            self.json(field.json_name())?;
            self.line.push(':');
            self.value(value, &field.kind())?;
        }
        self.line.push('}');
        Ok(())
    }

    fn value(&mut self, value: &Value, kind: &Kind) -> Result<(), Error> {
        match (value, kind) {
            (Value::Message(message), _) => self.message(message),
            (Value::List(values), _) => self.list(values, kind),
            (Value::Map(entries), Kind::Message(entry)) => {
                let mut entries: Vec<_> = entries.iter().collect();
                entries.sort_by(|a, b| a.0.cmp(b.0));
                self.map(&entries, &entry.map_entry_value_field().kind())
            }
            (Value::EnumNumber(number), Kind::Enum(of)) => self.enumerator(*number, of),
            // 64 bits do not fit a JSON number everywhere.
            (Value::I64(number), _) => self.json(&number.to_string()),
            (Value::U64(number), _) => self.json(&number.to_string()),
            (Value::I32(number), _) => self.json(number),
            (Value::U32(number), _) => self.json(number),
            (Value::Bool(truth), _) => self.json(truth),
            (Value::String(text), _) => self.json(text),
            (other, _) => unreachable!("the schema's records hold no {other:?}"),
        }
    }

    fn list(&mut self, values: &[Value], kind: &Kind) -> Result<(), Error> {
        self.line.push('[');
        for (at, value) in values.iter().enumerate() {
            self.comma(at);
            self.value(value, kind)?;
        }
        self.line.push(']');
        Ok(())
    }

    fn map(&mut self, entries: &[(&MapKey, &Value)], kind: &Kind) -> Result<(), Error> {
        self.line.push('{');
        for (at, (key, value)) in entries.iter().enumerate() {
            self.comma(at);
            self.json(key.as_str().expect("the schema's map keys are strings"))?;
            self.line.push(':');
            self.value(value, kind)?;
        }
        self.line.push('}');
        Ok(())
    }

    fn enumerator(&mut self, number: i32, of: &EnumDescriptor) -> Result<(), Error> {
        match of.get_value(number) {
            Some(value) => self.json(value.name()),
            None => self.json(&number),
        }
    }

    fn comma(&mut self, at: usize) {
        if at > 0 {
            self.line.push(',');
        }
    }

    fn json(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        self.line.push_str(&serde_json::to_string(value)?);
        Ok(())
    }
}
