//! Front matter in YAML, as values whose scalars are text.

use serde_json::{Map, Value};
use yaml_rust2::{
    Event,
    parser::{Parser, Tag},
    scanner::{Marker, ScanError, TScalarStyle},
};

use super::Error;

/// Maximum depth of lists and mappings. The schema needs less, outside bodies.
const MAX_DEPTH: usize = 32;

/// Parses one mapping. Anchors, aliases and tags are refused: with them, a short text can stand for a huge one.
pub(super) fn parse(text: &str) -> Result<Map<String, Value>, Error> {
    // The parser takes a NUL for the end of the text.
    if let Some(at) = text.find('\0') {
        let line = text[..at].matches('\n').count() + 2;
        return Err(Error::Syntax(format!("line {line}: contains U+0000: remove it")));
    }
    let mut parser = Parser::new_from_str(text);
    let mut open: Vec<Open> = Vec::new();
    let mut whole = None;
    loop {
        let (event, at) = parser.next_token().map_err(|error| scan_error(&error))?;
        let done = match event {
            Event::StreamEnd => break,
            Event::Scalar(text, style, anchor, tag) => {
                check(anchor, tag.as_ref(), at)?;
                Some(scalar(text, style))
            }
            Event::SequenceStart(anchor, tag) => {
                check(anchor, tag.as_ref(), at)?;
                push(&mut open, Open::List(Vec::new()), at)?;
                None
            }
            Event::MappingStart(anchor, tag) => {
                check(anchor, tag.as_ref(), at)?;
                push(&mut open, Open::Mapping(Map::new(), None), at)?;
                None
            }
            Event::SequenceEnd | Event::MappingEnd => open.pop().map(Open::into_value),
            Event::Alias(_) => return Err(error_at(at, "aliases are not supported")),
            Event::Nothing | Event::StreamStart | Event::DocumentStart | Event::DocumentEnd => None,
        };
        if let Some(value) = done {
            match open.last_mut() {
                Some(parent) => parent.add(value, at)?,
                None if whole.is_none() => whole = Some(value),
                None => return Err(error_at(at, "more than one document")),
            }
        }
    }
    match whole {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(fields)) => Ok(fields),
        Some(_) => Err(Error::Syntax("expected fields, such as `headline: Quay reopens`".to_owned())),
    }
}

/// Returns the text with the later lines of quoted scalars indented. YAML demands it, and the parsers of site generators
/// do not.
pub(super) fn with_indented_quotes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut quote = None;
    for line in text.split_inclusive('\n') {
        let value = match quote {
            Some(_) => {
                out.push_str("    ");
                line
            }
            None => {
                let value = line.trim_start().trim_start_matches("- ");
                let value = value
                    .split_once(": ")
                    .filter(|(key, _)| !key.contains(['"', '\'']))
                    .map_or(value, |(_, value)| value);
                let value = value.trim_start();
                quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
                value.get(1..).unwrap_or_default()
            }
        };
        if quote.is_some_and(|quote| is_closed(value, quote)) {
            quote = None;
        }
        out.push_str(line);
    }
    out
}

/// Returns whether a quoted scalar ends within a text.
fn is_closed(text: &str, quote: char) -> bool {
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\\' if quote == '"' => drop(characters.next()),
            '\'' if quote == c && characters.peek() == Some(&'\'') => drop(characters.next()),
            c if c == quote => return true,
            _ => {}
        }
    }
    false
}

/// A list or mapping whose end has not been read.
enum Open {
    List(Vec<Value>),
    /// A mapping, and the key whose value comes next.
    Mapping(Map<String, Value>, Option<String>),
}

impl Open {
    /// Adds an element, a key, or the value of a key.
    fn add(&mut self, value: Value, at: Marker) -> Result<(), Error> {
        match self {
            Open::List(values) => values.push(value),
            Open::Mapping(fields, key) => match (key.take(), value) {
                (Some(key), value) => {
                    fields.insert(key, value);
                }
                (None, Value::String(name)) if !fields.contains_key(&name) => *key = Some(name),
                (None, Value::String(name)) => return Err(error_at(at, &format!("`{name}` is given twice"))),
                (None, _) => return Err(error_at(at, "a key must be text")),
            },
        }
        Ok(())
    }

    fn into_value(self) -> Value {
        match self {
            Open::List(values) => Value::Array(values),
            Open::Mapping(fields, _) => Value::Object(fields),
        }
    }
}

fn push(open: &mut Vec<Open>, value: Open, at: Marker) -> Result<(), Error> {
    if open.len() == MAX_DEPTH {
        return Err(error_at(at, &format!("nested more than {MAX_DEPTH} deep")));
    }
    open.push(value);
    Ok(())
}

fn scalar(text: String, style: TScalarStyle) -> Value {
    match (style, text.as_str()) {
        (TScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Value::Null,
        _ => Value::String(text),
    }
}

fn check(anchor: usize, tag: Option<&Tag>, at: Marker) -> Result<(), Error> {
    match (anchor, tag) {
        (0, None) => Ok(()),
        (0, Some(_)) => Err(error_at(at, "tags are not supported")),
        _ => Err(error_at(at, "anchors are not supported")),
    }
}

fn scan_error(error: &ScanError) -> Error {
    error_at(*error.marker(), error.info())
}

/// Returns an error at a line of the file, whose first line is the delimiter.
fn error_at(at: Marker, problem: &str) -> Error {
    Error::Syntax(format!("line {}: {problem}", at.line() + 1))
}
