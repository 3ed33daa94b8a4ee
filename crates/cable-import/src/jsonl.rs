//! Records as JSON lines: the canonical JSON mapping of `cable.v1.Record`, one object per line.
//!
//! Fields are in the order of their numbers and map entries in the order of their keys, so equal records give equal
//! lines.

use std::io::{self, BufRead, Read as _};

use prost::Message as _;
use prost_reflect::{
    DynamicMessage, EnumDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value,
};
use serde::Serialize;

use crate::{
    json, text,
    wrong_file::{self, WrongFile},
};
use cable_proto::{POOL, v1};

/// Maximum length of a line, in bytes. A longer one is not a record: the largest record, an article of 1 MiB, is a
/// fraction of it as JSON.
pub const MAX_LINE_BYTES: u64 = 16 << 20;

/// An error in the conversion between a record and a line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are not a valid Record.
    #[error("cannot decode the record: {0}")]
    Bytes(#[from] prost::DecodeError),
    /// The line is not a valid Record: bad JSON, an unknown field, a value of the wrong type. The message has the path of
    /// the field or, if the line is not JSON, the column.
    #[error("not a record: {}", describe(.0))]
    Json(#[from] json::Error),
    /// The line is a Record without an entity.
    #[error("empty record: must contain an article, author, section, tag, collection or tombstone")]
    Empty,
}

/// Describes an error in a line. The number of the line is the caller's to state: JSON alone would count it from 1.
fn describe(error: &json::Error) -> String {
    match error.place() {
        Some((_, column)) if error.path().is_empty() => format!("{error} at column {column}"),
        _ => error.to_string(),
    }
}

/// A converter between records and lines.
#[derive(Debug, Clone)]
pub struct RecordJson {
    record: MessageDescriptor,
}

impl Default for RecordJson {
    fn default() -> Self {
        RecordJson::new()
    }
}

impl RecordJson {
    /// Parses the schema. The converter is cheap to clone afterwards.
    #[must_use]
    pub fn new() -> Self {
        let record = POOL.get_message_by_name("cable.v1.Record").expect("the schema has Record");
        RecordJson { record }
    }

    /// Returns the line of an encoded Record, without a line feed, and whether the record has fields, at any depth,
    /// that this release does not know. The line lacks those fields.
    ///
    /// # Errors
    /// Fails if the bytes are not a valid Record.
    pub fn to_line(&self, record: &[u8]) -> Result<(String, bool), Error> {
        let message = DynamicMessage::decode(self.record.clone(), record)?;
        let mut writer = Writer { line: String::with_capacity(record.len() * 2), unknown: false };
        writer.message(&message)?;
        Ok((writer.line, writer.unknown))
    }

    /// Returns the encoded Record of a line. The bytes depend on the content only, not on the line's layout.
    ///
    /// # Errors
    /// Fails if the line is not JSON, if it names a field that the schema does not have or gives a field a value of
    /// another type (the message has the path of the field), or if it holds no entity.
    pub fn from_line(&self, line: &str) -> Result<Vec<u8>, Error> {
        self.parse_line(line).map(|record| record.encode_to_vec())
    }

    /// Returns the Record of a line.
    ///
    /// # Errors
    /// As [`from_line`](RecordJson::from_line).
    pub fn parse_line(&self, line: &str) -> Result<v1::Record, Error> {
        let message = json::from_str(&self.record, line)?;
        // Maps are unordered in dynamic messages and ordered in typed ones. JSON has no unknown fields, so the
        // conversion loses nothing.
        let record: v1::Record = message.transcode_to()?;
        if record.record.is_none() {
            return Err(Error::Empty);
        }
        Ok(record)
    }
}

/// A reader of the records in a file of JSON lines. It skips empty lines, and byte order marks at the start of lines,
/// which files that were joined have. It reads at most [`MAX_LINE_BYTES`] of a line into memory.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    json: RecordJson,
    line: Vec<u8>,
    number: u64,
    /// Whether no line with content has been read yet.
    is_start: bool,
}

/// A line that is not empty.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// A line that is a record.
    Record {
        /// Number of the line, from 1.
        number: u64,
        /// The record.
        record: Box<v1::Record>,
    },
    /// A line that is not a record.
    Invalid {
        /// Number of the line, from 1.
        number: u64,
        /// The problem.
        problem: String,
    },
}

impl<R: BufRead> Lines<R> {
    /// Returns a reader of the lines of `reader`.
    pub fn new(reader: R) -> Self {
        Lines { reader, json: RecordJson::new(), line: Vec::new(), number: 0, is_start: true }
    }

    /// Reads the next line that is not empty.
    ///
    /// # Errors
    /// The file cannot be read, is compressed or of another kind, or its text is UTF-16 or UTF-32.
    fn read(&mut self) -> io::Result<Option<Line>> {
        loop {
            self.number += 1;
            self.line.clear();
            let mut line = self.reader.by_ref().take(MAX_LINE_BYTES);
            if line.read_until(b'\n', &mut self.line)? == 0 {
                return Ok(None);
            }
            if self.is_start {
                let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
                text::check_start(&self.line).map_err(invalid)?;
                wrong_file::of_bytes(&self.line).map_or(Ok(()), |wrong| Err(of_kind(wrong)))?;
            }
            if self.line.len() as u64 == MAX_LINE_BYTES && !self.line.ends_with(b"\n") {
                self.reader.skip_until(b'\n')?;
                return Ok(Some(self.invalid(format!("longer than {} MiB", MAX_LINE_BYTES >> 20))));
            }
            if let Some(line) = self.parse() {
                if std::mem::take(&mut self.is_start) && matches!(line, Line::Invalid { .. }) {
                    self.check_kind()?;
                }
                return Ok(Some(line));
            }
        }
    }

    /// Checks that the file, whose first line is not a record, can have records at all.
    fn check_kind(&mut self) -> io::Result<()> {
        let line = String::from_utf8_lossy(&self.line);
        let after = self.reader.fill_buf()?;
        wrong_file::of_line(&line, after).map_or(Ok(()), |wrong| Err(of_kind(wrong)))
    }

    /// Returns the line that was read, or `None` if it is empty.
    fn parse(&self) -> Option<Line> {
        let line = match std::str::from_utf8(&self.line) {
            Ok(line) => line.strip_prefix(text::BYTE_ORDER_MARK).unwrap_or(line).trim(),
            Err(error) => return Some(self.invalid(text::Error::from(error).to_string())),
        };
        if line.is_empty() {
            return None;
        }
        Some(match self.json.parse_line(line) {
            Ok(record) => Line::Record { number: self.number, record: Box::new(record) },
            Err(Error::Json(error)) if error.is_eof() && !self.line.ends_with(b"\n") => {
                self.invalid(format!("the file was cut off within this record: {}", describe(&error)))
            }
            Err(error) => self.invalid(error.to_string()),
        })
    }

    fn invalid(&self, problem: String) -> Line {
        Line::Invalid { number: self.number, problem }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// Returns the error of a file of another kind.
fn of_kind(wrong: WrongFile) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the file is {wrong}"))
}

/// Returns the text of a number that is not finite in ProtoJSON.
fn non_finite(number: f32) -> &'static str {
    match number {
        f32::INFINITY => "Infinity",
        f32::NEG_INFINITY => "-Infinity",
        _ => "NaN",
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
            // Not every JSON parser preserves 64-bit numbers.
            (Value::I64(number), _) => self.json(&number.to_string()),
            (Value::U64(number), _) => self.json(&number.to_string()),
            (Value::I32(number), _) => self.json(number),
            (Value::U32(number), _) => self.json(number),
            // JSON has no number for the others, which ProtoJSON writes as texts.
            (Value::F32(number), _) if number.is_finite() => self.json(number),
            (Value::F32(number), _) => self.json(non_finite(*number)),
            (Value::Bool(value), _) => self.json(value),
            (Value::String(text), _) => self.json(text),
            (other, _) => unreachable!("the schema's records contain no {other:?}"),
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
        self.line.push_str(&serde_json::to_string(value).map_err(|error| json::Error::from(&error))?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cable_proto::v1::{Block, Span, block, record::Record as Entity};
    use proptest::{collection::vec, prelude::*};
    use prost::encoding;

    use super::*;

    fn encoded(entity: Entity) -> Vec<u8> {
        v1::Record { record: Some(entity), ..Default::default() }.encode_to_vec()
    }

    /// Writes a record that has every field of the schema set, down to a depth.
    #[test]
    fn fields_of_every_kind_can_be_written() {
        fn filled(of: &prost_reflect::MessageDescriptor, depth: usize) -> DynamicMessage {
            let mut message = DynamicMessage::new(of.clone());
            for field in of.fields().filter(|_| !of.full_name().starts_with("google.protobuf.")) {
                if matches!(field.kind(), Kind::Message(_)) && (depth == 0 || field.is_map()) {
                    continue;
                }
                let value = match field.kind() {
                    Kind::Message(inner) => Value::Message(filled(&inner, depth - 1)),
                    kind => match Value::default_value(&kind) {
                        Value::F32(_) => Value::F32(0.375),
                        Value::F64(_) => Value::F64(0.375),
                        other => other,
                    },
                };
                message.set_field(&field, if field.is_list() { Value::List(vec![value]) } else { value });
            }
            message
        }
        let of = cable_proto::POOL.get_message_by_name("cable.v1.Record").unwrap();
        for field in of.oneofs().next().unwrap().fields() {
            let Kind::Message(entity) = field.kind() else { panic!("{field:?}") };
            let mut record = DynamicMessage::new(of.clone());
            record.set_field(&field, Value::Message(filled(&entity, 6)));
            let mut writer = Writer { line: String::new(), unknown: false };
            writer.message(&record).unwrap();
            let read = DynamicMessage::deserialize(
                of.clone(),
                &mut serde_json::Deserializer::from_str(&writer.line),
            );
            assert_eq!(read.unwrap().encode_to_vec(), record.encode_to_vec(), "{}", writer.line);
        }
    }

    #[test]
    fn a_line_is_canonical_json_in_schema_order() {
        let article = v1::Article {
            name: "articles/storm".into(),
            revision: 5_000_000_000,
            r#type: v1::ArticleType::Gallery.into(),
            headline: "Storm\n\u{2028}\"closes\"".into(),
            publish_time: Some(prost_types::Timestamp { seconds: 1_704_067_200, nanos: 500_000_000 }),
            annotations: (b'a'..=b'j').rev().map(|c| ((c as char).to_string(), String::new())).collect(),
            body: Some(v1::Body {
                blocks: vec![Block { kind: Some(block::Kind::Divider(v1::Divider {})), id: String::new() }],
            }),
            ..Default::default()
        };
        let (line, unknown) = RecordJson::new().to_line(&encoded(Entity::Article(article))).unwrap();
        let expected = concat!(
            r#"{"article":{"name":"articles/storm","revision":"5000000000","type":"ARTICLE_TYPE_GALLERY","#,
            "\"headline\":\"Storm\\n\u{2028}\\\"closes\\\"\",",
            r#""body":{"blocks":[{"divider":{}}]},"publishTime":"2024-01-01T00:00:00.500Z","#,
            r#""annotations":{"a":"","b":"","c":"","d":"","e":"","f":"","g":"","h":"","i":"","j":""}}}"#,
        );
        assert_eq!(line, expected);
        assert!(!unknown);
    }

    #[test]
    fn unknown_fields_are_detected_at_any_depth() {
        let json = RecordJson::new();
        let tag = v1::Tag { name: "tags/x".into(), ..Default::default() }.encode_to_vec();
        let record = |inner: &[u8]| {
            let mut record = Vec::new();
            encoding::bytes::encode(4, &inner.to_vec(), &mut record);
            record
        };
        assert!(!json.to_line(&record(&tag)).unwrap().1);
        let mut later = tag.clone();
        encoding::string::encode(900, &"new".to_owned(), &mut later);
        assert!(json.to_line(&record(&later)).unwrap().1, "in the entity");

        let mut span = Span { text: "x".into(), ..Span::default() }.encode_to_vec();
        encoding::uint64::encode(900, &1, &mut span);
        // From the span outwards: paragraph 1, block 2, body 1, article 15, record 1.
        let nested = [1, 2, 1, 15, 1].into_iter().fold(span, |inner, number| {
            let mut outer = Vec::new();
            encoding::bytes::encode(number, &inner, &mut outer);
            outer
        });
        let (line, unknown) = json.to_line(&nested).unwrap();
        assert!(unknown, "in a span of {line}");
    }

    #[test]
    fn an_invalid_line_is_an_error_with_its_field_or_column() {
        let json = RecordJson::new();
        let error = |line: &str| json.from_line(line).unwrap_err().to_string();
        let unknown = error(r#"{"article":{"name":"articles/x","headlin":"y"}}"#);
        assert_eq!(unknown, "not a record: article.headlin: unknown field");
        let nested = error(r#"{"article":{"body":{"blocks":[{"paragraf":{}}]}}}"#);
        assert!(nested.contains("article.body.blocks[0].paragraf"), "{nested}");
        let syntax = error(r#"{"tag":{"name" "tags/x"}}"#);
        assert_eq!(syntax, "not a record: expected `:` at column 16");
        assert!(error(r#"{"article":{"#).contains("EOF"));
        assert!(error(r#"{"tag":{"name":"tags/x"}} x"#).contains("trailing"));
        assert!([unknown, nested, syntax].iter().all(|error| !error.contains("line")));
        assert!(error("{}").contains("empty"));
        assert!(error(r#"{"tag":{"kind":"TAG_KIND_SHIP"}}"#).contains("TAG_KIND_SHIP"));
        assert!(json.to_line(b"\x0a\xff").is_err());
    }

    #[test]
    fn a_file_that_was_cut_off_says_so() {
        let whole = "{\"tag\":{\"name\":\"tags/x\",\"displayName\":\"X\"}}";
        let problem_of = |file: &str| match Lines::new(file.as_bytes()).next().unwrap().unwrap() {
            Line::Invalid { problem, .. } => problem,
            Line::Record { .. } => String::new(),
        };
        assert_eq!(problem_of(whole), "");
        for length in 1..whole.len() {
            let cut = problem_of(&whole[..length]);
            assert!(cut.contains("the file was cut off within this record"), "{length}: {cut}");
        }
        assert!(!problem_of("{\"tag\":\n{}").contains("cut off"));
    }

    /// Returns the names of the records and the numbers of the invalid lines.
    fn read_lines(file: &[u8]) -> Vec<Result<String, u64>> {
        let lines = Lines::new(file).map(|line| match line.unwrap() {
            Line::Record { record, .. } => match record.record {
                Some(Entity::Tag(tag)) => Ok(tag.name),
                other => panic!("{other:?}"),
            },
            Line::Invalid { number, .. } => Err(number),
        });
        lines.collect()
    }

    #[test]
    fn byte_order_marks_and_empty_lines_are_skipped() {
        let line = |id: &str| format!("{{\"tag\":{{\"name\":\"tags/{id}\"}}}}");
        let (a, b) = (line("a"), line("b"));
        let both = [Ok("tags/a".to_owned()), Ok("tags/b".to_owned())];
        for file in [
            format!("{a}\n{b}"),
            format!("\u{feff}{a}\n{b}\n"),
            format!("\u{feff}{a}\r\n\u{feff}{b}\r\n"),
            format!("\u{feff}\n\n {a}\n\t\n{b}\n\n"),
        ] {
            assert_eq!(read_lines(file.as_bytes()), both, "{file:?}");
        }
        let mut file = format!("{a}\n\u{feff}\u{feff}{b}\n\0\0\n").into_bytes();
        file.push(0xff);
        assert_eq!(read_lines(&file), [Ok("tags/a".to_owned()), Err(2), Err(3), Err(4)]);
        assert_eq!(read_lines(b""), []);
    }

    #[test]
    fn a_file_in_a_wide_encoding_is_refused_as_a_whole() {
        let wide = text::tests::wide_encodings("\n{\"tag\":{\"name\":\"tags/a\"}}\n{}\n");
        for (bytes, expected) in wide.into_iter().chain(text::tests::compressed()) {
            let error = Lines::new(&bytes[..]).next().unwrap().unwrap_err();
            assert_eq!(error.to_string(), expected.to_string(), "{bytes:?}");
        }
    }

    /// The error of the file has the remedy. After a first record, the same line is one that is refused.
    #[test]
    fn a_file_of_another_kind_is_refused_as_a_whole() {
        for (file, expected) in [
            ("{\n  \"tag\": {\n    \"name\": \"tags/a\"\n  }\n}\n", "jq -c ."),
            ("\n[{\"tag\":{\"name\":\"tags/a\"}}]", "jq -c '.[]'"),
            ("{\"name\":\"tags/a\",\"displayName\":\"A\"}\n", "`cable tag put`"),
            ("<rss/>", "`cable import wxr`"),
            ("CABLEREC\u{1}", "`cable import binary`"),
        ] {
            let error = Lines::new(file.as_bytes()).next().unwrap().unwrap_err().to_string();
            assert!(error.contains(expected), "{file}: {error}");
            let after = format!("{{\"tag\":{{\"name\":\"tags/a\"}}}}\n{}", file.trim_start());
            assert_eq!(read_lines(after.as_bytes())[..2], [Ok("tags/a".to_owned()), Err(2)], "{file}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped() {
        let mut file = vec![b'x'; usize::try_from(MAX_LINE_BYTES).unwrap() + 1];
        file.extend_from_slice(b"\n{\"tag\":{\"name\":\"tags/a\"}}\n");
        assert_eq!(read_lines(&file), [Err(1), Ok("tags/a".to_owned())]);
    }

    #[test]
    fn the_deepest_body_fits_a_line() {
        let text = vec![Span { text: "deep".into(), ..Span::default() }];
        let mut inner =
            Block { kind: Some(block::Kind::Paragraph(v1::Paragraph { spans: text })), id: String::new() };
        for _ in 1..16 {
            let items = vec![v1::ListItem { blocks: vec![inner] }];
            inner = Block {
                kind: Some(block::Kind::List(v1::List { items, ..Default::default() })),
                id: String::new(),
            };
        }
        let body = Some(v1::Body { blocks: vec![inner] });
        let record = encoded(Entity::Article(v1::Article { body, ..Default::default() }));
        let json = RecordJson::new();
        assert_eq!(json.from_line(&json.to_line(&record).unwrap().0).unwrap(), record);
    }

    fn spans() -> impl Strategy<Value = Vec<Span>> {
        let link = prop::option::of(any::<String>()).prop_map(|href| {
            href.map(|href| v1::Link { href, title: String::new(), article: "articles/x".into() })
        });
        vec(
            (any::<String>(), vec(-1..9_i32, 0..3), link).prop_map(|(text, marks, link)| Span {
                text,
                marks,
                link,
            }),
            0..4,
        )
    }

    fn blocks() -> impl Strategy<Value = Vec<Block>> {
        let leaf = prop_oneof![
            spans().prop_map(|spans| block::Kind::Paragraph(v1::Paragraph { spans })),
            (any::<i32>(), spans())
                .prop_map(|(level, spans)| block::Kind::Heading(v1::Heading { level, spans })),
            any::<(String, String)>()
                .prop_map(|(html, reason)| block::Kind::RawHtml(v1::RawHtml { html, reason })),
            Just(block::Kind::Divider(v1::Divider {})),
        ];
        let leaf = (any::<String>(), leaf).prop_map(|(id, kind)| Block { id, kind: Some(kind) });
        let nested = leaf.prop_recursive(3, 12, 3, |inner| {
            (vec(inner, 0..3), spans()).prop_map(|(blocks, attribution)| Block {
                id: String::new(),
                kind: Some(block::Kind::Quote(v1::Quote { blocks, attribution })),
            })
        });
        vec(nested, 0..4)
    }

    fn map() -> impl Strategy<Value = BTreeMap<String, String>> {
        prop::collection::btree_map(any::<String>(), any::<String>(), 0..4)
    }

    fn time() -> impl Strategy<Value = Option<prost_types::Timestamp>> {
        let time = (-62_135_596_800..253_402_300_800_i64, 0..1_000_000_000_i32);
        prop::option::of(time.prop_map(|(seconds, nanos)| prost_types::Timestamp { seconds, nanos }))
    }

    fn article() -> impl Strategy<Value = v1::Article> {
        (any::<(String, i64, i32, String, Vec<String>)>(), blocks(), map(), time(), -1..9_i32).prop_map(
            |((name, revision, word_count, headline, tags), blocks, annotations, publish_time, state)| {
                v1::Article {
                    name,
                    revision,
                    word_count,
                    headline,
                    tags,
                    body: Some(v1::Body { blocks }),
                    annotations,
                    publish_time,
                    state,
                    embargo: publish_time.map(|_| v1::Embargo::default()),
                    ..Default::default()
                }
            },
        )
    }

    fn entity() -> impl Strategy<Value = Entity> {
        prop_oneof![
            3 => article().prop_map(Entity::Article),
            1 => (any::<String>(), map()).prop_map(|(name, alt_ids)| Entity::Author(v1::Author { name, alt_ids, ..Default::default() })),
            1 => any::<(String, i32)>().prop_map(|(name, rank)| Entity::Section(v1::Section { name, rank, ..Default::default() })),
            1 => (any::<(String, i64)>(), time()).prop_map(|((name, revision), remove_time)| {
                Entity::Tombstone(v1::Tombstone { name, revision, remove_time, reason: 4, ..Default::default() })
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn records_survive_lines(entity in entity()) {
            let json = RecordJson::new();
            let record = encoded(entity);
            let (line, unknown) = json.to_line(&record).unwrap();
            prop_assert!(!unknown && !line.contains('\n'));
            prop_assert_eq!(json.from_line(&line).unwrap(), record);
        }
    }
}
