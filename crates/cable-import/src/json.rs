//! Messages in canonical JSON, with errors that have the path of the field and the values that it accepts.

use std::fmt::{self, Write as _};

use prost_reflect::{DynamicMessage, EnumDescriptor, Kind, MessageDescriptor};
use serde::Deserializer;
use serde_json::Value;
use serde_path_to_error::{Path, Segment, Track};

/// The maximum number of values of an enum that an error lists. No enum of articles has more.
const MAX_LISTED_VALUES: usize = 32;

/// The maximum length of a problem in bytes, before its list of values. It can quote a text of the file, such as a body.
const MAX_PROBLEM_BYTES: usize = 300;

/// A text that is not JSON, or not that of the message. The text of the error has no line and no column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    path: String,
    problem: String,
    place: Option<(usize, usize)>,
    is_eof: bool,
}

impl Error {
    /// Returns the line and the column of the error, from 1, if the message was parsed from a text.
    #[must_use]
    pub fn place(&self) -> Option<(usize, usize)> {
        self.place
    }

    /// Returns the path of the field: `article.body.blocks[3].id`. Empty if it is not known.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns whether the text ends too early.
    #[must_use]
    pub fn is_eof(&self) -> bool {
        self.is_eof
    }

    /// Returns the error of a message of this type, found in the field at a path.
    fn of_field(error: &serde_json::Error, path: &Path, message: &MessageDescriptor) -> Error {
        let mut error = Error::from(error);
        let (path, problem) = match error.problem.strip_prefix("unrecognized field name '") {
            // The path leads to the message that lacks the field.
            Some(name) => {
                let field = cut(name.strip_suffix('\'').unwrap_or(name));
                let parent = Some(path_text(path)).filter(|path| !path.is_empty());
                let path = parent.map_or_else(|| field.clone(), |parent| format!("{parent}.{field}"));
                (path, "unknown field".to_owned())
            }
            None => (path_text(path), describe(&error.problem, kind_at(path, message).as_ref())),
        };
        (error.path, error.problem) = (path, problem);
        error
    }
}

impl From<&serde_json::Error> for Error {
    fn from(error: &serde_json::Error) -> Error {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let problem =
            text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text).to_owned();
        let place = (line > 0).then_some((line, column));
        Error { path: String::new(), problem, place, is_eof: error.is_eof() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.is_empty() {
            true => f.write_str(&self.problem),
            false => write!(f, "{}: {}", self.path, self.problem),
        }
    }
}

impl std::error::Error for Error {}

/// Parses a message.
///
/// # Errors
/// The text is not JSON, or not that of such a message: it has an unknown field, or a value of the wrong type.
pub fn from_str(message: &MessageDescriptor, text: &str) -> Result<DynamicMessage, Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    let parsed = DynamicMessage::deserialize(message.clone(), &mut json);
    match parsed.and_then(|parsed| json.end().map(|()| parsed)) {
        // Paths are costly. A text with an error is parsed again to get its path.
        Err(error) if error.is_data() => {
            Err(locate(&error, message, &mut serde_json::Deserializer::from_str(text)))
        }
        parsed => parsed.map_err(|error| Error::from(&error)),
    }
}

/// Converts a value into a message.
///
/// # Errors
/// The value is not that of such a message: it has an unknown field, or a value of the wrong type.
pub fn from_value(message: &MessageDescriptor, value: &Value) -> Result<DynamicMessage, Error> {
    DynamicMessage::deserialize(message.clone(), value).map_err(|error| locate(&error, message, value))
}

/// Returns the error of a message with its path, for which the message is parsed again.
fn locate<'de>(
    error: &serde_json::Error,
    message: &MessageDescriptor,
    again: impl Deserializer<'de>,
) -> Error {
    let mut track = Track::new();
    let tracked = serde_path_to_error::Deserializer::new(again, &mut track);
    // It fails like the first time.
    let _same_error = DynamicMessage::deserialize(message.clone(), tracked);
    Error::of_field(error, &track.path(), message)
}

/// Returns the text of a path as far as it is known: `article.body.blocks[3].id`.
fn path_text(path: &Path) -> String {
    let mut text = String::new();
    for segment in path.iter() {
        // Writing to a text cannot fail.
        let _written = match segment {
            Segment::Seq { index } => write!(text, "[{index}]"),
            Segment::Map { key } if text.is_empty() => write!(text, "{}", cut(key)),
            Segment::Map { key } => write!(text, ".{}", cut(key)),
            Segment::Enum { .. } | Segment::Unknown => break,
        };
    }
    text
}

/// Returns the kind of the field at a path.
fn kind_at(path: &Path, message: &MessageDescriptor) -> Option<Kind> {
    let mut kind = Kind::Message(message.clone());
    for segment in path.iter() {
        match (segment, &kind) {
            (Segment::Seq { .. }, _) => {}
            (Segment::Map { .. }, Kind::Message(entry)) if entry.is_map_entry() => {
                kind = entry.map_entry_value_field().kind();
            }
            (Segment::Map { key }, Kind::Message(message)) => {
                let by_name = || message.get_field_by_name(key);
                kind = message.get_field_by_json_name(key).or_else(by_name)?.kind();
            }
            _ => return None,
        }
    }
    Some(kind)
}

/// Describes a problem of a field, with the form that its kind requires.
fn describe(problem: &str, kind: Option<&Kind>) -> String {
    let value = problem.strip_prefix("unrecognized enum value '").and_then(|rest| rest.strip_suffix('\''));
    match (kind, value) {
        (Some(Kind::Enum(of)), Some(value)) => format!("{:?}: one of {}", cut(value), values(of)),
        (Some(Kind::Enum(of)), None) => format!("{}: one of {}", cut(problem), values(of)),
        (Some(Kind::Message(of)), _) if of.full_name() == "google.protobuf.Timestamp" => {
            format!("{}; a time has the form 2024-05-01T12:00:00Z", cut(problem))
        }
        (Some(Kind::Message(of)), _) if of.full_name() == "google.protobuf.Duration" => {
            format!("{}; a duration has the form 90.5s", cut(problem))
        }
        // The words of JSON.
        _ => cut(problem).replace("expected a map", "expected an object").replace("a list", "an array"),
    }
}

/// Returns the names of an enum's values, without the unset one.
fn values(of: &EnumDescriptor) -> String {
    let names: Vec<String> =
        of.values().filter(|value| value.number() != 0).map(|value| value.name().to_owned()).collect();
    let more = names.len().saturating_sub(MAX_LISTED_VALUES);
    let listed = names[..names.len() - more].join(", ");
    if more == 0 { listed } else { format!("{listed} and {more} more") }
}

/// Returns the first bytes of a text.
fn cut(text: &str) -> String {
    if text.len() <= MAX_PROBLEM_BYTES {
        return text.to_owned();
    }
    let end = (0..=MAX_PROBLEM_BYTES).rev().find(|end| text.is_char_boundary(*end));
    format!("{}...", &text[..end.unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use cable_proto::POOL;

    use super::*;

    fn record() -> MessageDescriptor {
        POOL.get_message_by_name("cable.v1.Record").unwrap()
    }

    fn error(text: &str) -> Error {
        from_str(&record(), text).unwrap_err()
    }

    #[test]
    fn errors_have_the_path_of_the_field() {
        for (text, expected) in [
            (
                r#"{"article":{"headline":7}}"#,
                "article.headline: invalid type: integer `7`, expected a string",
            ),
            (r#"{"article":{"headlin":"x"}}"#, "article.headlin: unknown field"),
            (r#"{"artikel":{}}"#, "artikel: unknown field"),
            (
                r#"{"article":{"body":{"blocks":[{"divider":{}},{"paragraf":{}}]}}}"#,
                "article.body.blocks[1].paragraf: unknown field",
            ),
            (
                r#"{"article":{"tags":["a",5]}}"#,
                "article.tags[1]: invalid type: integer `5`, expected a string",
            ),
            (r#"{"article":{"tags":"a"}}"#, "article.tags: invalid type: string \"a\", expected an array"),
            (r#"{"article":[]}"#, "article: invalid type: sequence, expected an object"),
            (
                r#"{"article":{"annotations":{"a b":5}}}"#,
                "article.annotations.a b: invalid type: integer `5`, expected a string",
            ),
        ] {
            assert_eq!(error(text).to_string(), expected, "{text}");
            let value: Value = serde_json::from_str(text).unwrap();
            let error = from_value(&record(), &value).unwrap_err();
            assert_eq!((error.to_string(), error.place()), (expected.to_owned(), None), "{text}");
        }
    }

    #[test]
    fn errors_of_enums_and_times_have_a_valid_form() {
        let kind = error(r#"{"article":{"type":"live_blog"}}"#).to_string();
        assert!(kind.starts_with(r#"article.type: "live_blog": one of ARTICLE_TYPE_ARTICLE, "#), "{kind}");
        assert!(kind.contains("ARTICLE_TYPE_LIVEBLOG") && !kind.contains("UNSPECIFIED"), "{kind}");
        let kind = error(r#"{"article":{"type":true}}"#).to_string();
        assert!(kind.contains("boolean") && kind.contains("one of ARTICLE_TYPE_ARTICLE"), "{kind}");
        for value in [r#""2024-05-01""#, "5", r#""yesterday""#] {
            let time = error(&format!(r#"{{"article":{{"publishTime":{value}}}}}"#)).to_string();
            assert!(time.starts_with("article.publishTime: "), "{time}");
            assert!(time.ends_with("a time has the form 2024-05-01T12:00:00Z"), "{time}");
        }
    }

    #[test]
    fn errors_of_syntax_have_a_place() {
        let syntax = error("{\"tag\":\n{\"name\" \"tags/a\"}}");
        assert_eq!((syntax.to_string().as_str(), syntax.place()), ("expected `:`", Some((2, 9))));
        assert!(error("{\"tag\":{").is_eof());
        assert_eq!(error("{} x").to_string(), "trailing characters");
    }

    #[test]
    fn errors_are_bounded() {
        let long = "x".repeat(1 << 20);
        for text in [
            format!(r#"{{"article":{{"type":"{long}"}}}}"#),
            format!(r#"{{"article":{{"body":"{long}"}}}}"#),
            format!(r#"{{"article":{{"{long}":1}}}}"#),
        ] {
            assert!(error(&text).to_string().len() < 2_000, "{}", error(&text).to_string().len());
        }
    }
}
