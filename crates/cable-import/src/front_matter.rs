//! Articles as text files: front matter in YAML or TOML with the fields, and below it the body.
//!
//! ```text
//! ---
//! headline: Quay reopens
//! tags: [port-averil]
//! ---
//! The quay opened again on **Monday**.
//! ```
//!
//! The keys are the fields of Article by their JSON names, and a few short forms. All scalars are read as text: the
//! schema determines the types, so `headline: 1984` and `language: no` are what they look like.

use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::{Map, Value};

use crate::references;
use cable_proto::{POOL, v1};

mod convert;
#[cfg(test)]
mod tests;
mod write;
mod yaml;

pub use convert::parse_time;
pub use write::write;

/// Maximum length of front matter, in bytes: more than an article needs besides its body, and parsed in milliseconds.
pub const MAX_BYTES: usize = 256 << 10;

/// An error in the front matter of a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The last line of the front matter is missing.
    #[error("front matter without an end: expected a line `{0}`")]
    Unclosed(&'static str),
    /// The front matter is longer than [`MAX_BYTES`].
    #[error("front matter longer than {} KiB", MAX_BYTES >> 10)]
    TooLong,
    /// The front matter is not valid YAML or TOML, or uses a feature that it may not.
    #[error("front matter: {0}")]
    Syntax(String),
    /// A key is not a field.
    #[error("front matter: unknown field `{field}`")]
    UnknownField {
        /// The path of the key: `byline.texts`.
        field: String,
        /// The keys that exist there.
        known: Vec<String>,
    },
    /// The value of a field is not of its type, or the field is given twice.
    #[error("front matter: field `{field}`: {problem}")]
    Field {
        /// The path of the field: `byline.credits[0].author`.
        field: String,
        /// The problem.
        problem: String,
    },
    /// The article that the fields give is not valid.
    #[error("front matter: {0}")]
    Article(String),
}

/// An article as text.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The fields, without a body.
    pub article: v1::Article,
    /// The text below the front matter.
    pub body: String,
}

/// Parses an article as text. Without front matter, the whole text is the body.
///
/// # Errors
/// The front matter is not valid. The message names the field or the line.
pub fn parse(text: &str) -> Result<Document, Error> {
    let Some((syntax, front_matter, body)) = split(text)? else {
        return Ok(Document { article: v1::Article::default(), body: text.to_owned() });
    };
    let fields = match syntax {
        Syntax::Yaml => yaml::parse(front_matter)?,
        Syntax::Toml => convert::toml(front_matter)?,
    };
    Ok(Document { article: article(fields)?, body: body.to_owned() })
}

/// The fields of front matter, and the text below it.
type Split<'a> = (Map<String, Value>, &'a str);

/// Returns the fields of front matter in YAML, TOML or JSON, whose scalars are text, and the text below. `None` without
/// front matter.
pub(crate) fn fields(text: &str) -> Result<Option<Split<'_>>, Error> {
    if let Some(found) = json_fields(text)? {
        return Ok(Some(found));
    }
    let Some((syntax, front_matter, body)) = split(text)? else { return Ok(None) };
    let fields = match syntax {
        Syntax::Yaml => yaml::parse(front_matter)
            .or_else(|error| yaml::parse(&yaml::with_indented_quotes(front_matter)).map_err(|_| error))?,
        Syntax::Toml => convert::toml(front_matter)?,
    };
    Ok(Some((fields, body)))
}

/// Splits a text that starts with an object of JSON.
fn json_fields(text: &str) -> Result<Option<Split<'_>>, Error> {
    let is_object = text
        .strip_prefix('{')
        .is_some_and(|rest| rest.starts_with(['"', '\r', '\n']) || rest.trim().starts_with('"'));
    if !is_object {
        return Ok(None);
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Map<String, Value>>();
    match values.next() {
        Some(Ok(_)) if values.byte_offset() > MAX_BYTES => Err(Error::TooLong),
        Some(Ok(fields)) => {
            let body = text[values.byte_offset()..].trim_start_matches([' ', '\t', '\r', '\n']);
            Ok(Some((fields.into_iter().map(|(key, value)| (key, convert::json(value))).collect(), body)))
        }
        Some(Err(error)) => Err(Error::Syntax(error.to_string())),
        None => Ok(None),
    }
}

/// The languages of front matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Syntax {
    Yaml,
    Toml,
}

/// Splits a text into its front matter and the body below. `None` if it has no front matter. Empty lines above front
/// matter are no part of the body; below them, a line of hyphens alone can be a rule.
fn split(text: &str) -> Result<Option<(Syntax, &str, &str)>, Error> {
    let below = text.trim_start_matches(['\r', '\n', ' ', '\t']);
    let is_moved = below.len() < text.len() && text[..text.len() - below.len()].ends_with('\n');
    if is_moved && starts_with_field(below) {
        return split_at_start(below);
    }
    split_at_start(text)
}

/// Returns whether the line below the first one is a field: `title: Storm` or `title = "Storm"`.
fn starts_with_field(text: &str) -> bool {
    let Some(line) = text.lines().nth(1) else { return false };
    let is_key =
        |key: &str| !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
    [':', '='].iter().any(|sign| line.split_once(*sign).is_some_and(|(key, _)| is_key(key.trim_end())))
}

fn split_at_start(text: &str) -> Result<Option<(Syntax, &str, &str)>, Error> {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (syntax, delimiter, ends) = match first.trim_end() {
        "---" => (Syntax::Yaml, "---", &["---", "..."][..]),
        "+++" => (Syntax::Toml, "+++", &["+++"][..]),
        _ => return Ok(None),
    };
    let mut end = 0;
    for line in rest.split_inclusive('\n') {
        if ends.contains(&line.trim_end()) {
            let body = &rest[end + line.len()..];
            // The empty line that separates the body is not a part of it.
            let body = body.strip_prefix("\r\n").or_else(|| body.strip_prefix('\n')).unwrap_or(body);
            return Ok(Some((syntax, &rest[..end], body)));
        }
        end += line.len();
        if end > MAX_BYTES {
            return Err(Error::TooLong);
        }
    }
    Err(Error::Unclosed(delimiter))
}

fn descriptor() -> MessageDescriptor {
    POOL.get_message_by_name("cable.v1.Article").expect("the schema has Article")
}

/// Returns the article that fields of front matter describe, with full names.
fn article(fields: Map<String, Value>) -> Result<v1::Article, Error> {
    let fields = convert::article_fields(fields, &descriptor())?;
    let invalid = |problem: String| Error::Article(problem);
    let message = DynamicMessage::deserialize(descriptor(), Value::Object(fields));
    let mut message = message.map_err(|error| invalid(error.to_string()))?;
    references::complete(&mut message);
    message.transcode_to().map_err(|error| invalid(error.to_string()))
}
