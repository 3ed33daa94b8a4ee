//! Files of another kind than their reader expects. Their first record shows the kind, and that no record of the file
//! can be read.

use serde_json::Value;

/// A file of another kind than its reader expects. The text names the command or the conversion for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrongFile {
    /// An export with `--as binary`.
    #[error("a binary export: use `cable import binary`")]
    Binary,
    /// A backup, which is a database.
    #[error("a backup: use `cable restore`")]
    Backup,
    /// JSON of some kind.
    #[error("JSON, not a binary export: use `cable import jsonl`")]
    Json,
    /// XML of some kind.
    #[error("XML: use `cable import wxr` for WordPress, or `cable import feed` for RSS and Atom")]
    Xml,
    /// An export of Ghost.
    #[error("an export of Ghost: use `cable import ghost`")]
    Ghost,
    /// A JSON Feed.
    #[error("a JSON Feed: use `cable import feed`")]
    JsonFeed,
    /// A value that takes several lines.
    #[error(
        "JSON over several lines, but each record is one line: convert it with `jq -c . FILE`; what `cable article get` \
         and the like print is for `cable article put`"
    )]
    SeveralLines,
    /// An array of values.
    #[error(
        "a JSON array, but each record is a line of its own: convert it with `jq -c '.[]' FILE`; what \
         `cable article ls` and the like print is for `cable article put`"
    )]
    Array,
    /// Entities without their records. The field is the name of their kind.
    #[error(
        "not a record but the {0} in it: use `cable {0} put`, or convert it with `jq -c '{{{0}: .}}' FILE`"
    )]
    Unwrapped(&'static str),
}

/// The kinds of entities in names and in records.
const KINDS: [(&str, &str); 5] = [
    ("articles/", "article"),
    ("authors/", "author"),
    ("sections/", "section"),
    ("tags/", "tag"),
    ("collections/", "collection"),
];

/// Returns the kind of a file that is not text.
pub(crate) fn of_bytes(start: &[u8]) -> Option<WrongFile> {
    match start {
        start if start.starts_with(b"CABLEREC") => Some(WrongFile::Binary),
        start if start.starts_with(b"SQLite format 3\0") => Some(WrongFile::Backup),
        _ => None,
    }
}

/// Returns the kind of a file that is not a binary export.
pub(crate) fn of_text(start: &[u8]) -> Option<WrongFile> {
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    match start.first() {
        Some(b'{' | b'[') => Some(WrongFile::Json),
        Some(b'<') => Some(WrongFile::Xml),
        _ => of_bytes(start),
    }
}

/// Returns the kind of a file whose first line is not a record. `after` is the start of the text after it, as far as it
/// was read.
pub(crate) fn of_line(line: &str, after: &[u8]) -> Option<WrongFile> {
    let line = line.trim_start_matches(crate::text::BYTE_ORDER_MARK).trim();
    let value = serde_json::from_str::<Value>(line);
    match (line.chars().next()?, value) {
        ('<', _) => Some(WrongFile::Xml),
        ('[', _) => Some(WrongFile::Array),
        ('{', Ok(value)) => of_value(&value),
        ('{', Err(error)) if error.is_eof() => of_start(after.trim_ascii_start()),
        _ => None,
    }
}

/// Returns the kind of a file that has a single object on its first line.
fn of_value(value: &Value) -> Option<WrongFile> {
    if value.get("db").is_some_and(Value::is_array) {
        return Some(WrongFile::Ghost);
    }
    let text = |field| value.get(field).and_then(Value::as_str);
    if text("version").is_some_and(|version| version.contains("jsonfeed.org")) {
        return Some(WrongFile::JsonFeed);
    }
    let name = text("name")?;
    KINDS.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, kind)| WrongFile::Unwrapped(kind))
}

/// Returns the kind of a file whose first line only begins an object. If the next line begins another one, the first line
/// is a record that was cut off.
fn of_start(after: &[u8]) -> Option<WrongFile> {
    match after {
        [] | [b'{', ..] => None,
        after if after.starts_with(b"\"db\"") => Some(WrongFile::Ghost),
        _ => Some(WrongFile::SeveralLines),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_shows_another_kind_of_file() {
        for (line, after, expected) in [
            ("<?xml version='1.0'?>", "<rss>", Some(WrongFile::Xml)),
            ("[", "{\"name\":\"tags/a\"}]", Some(WrongFile::Array)),
            ("[{\"tag\":{}}]", "", Some(WrongFile::Array)),
            ("{", "  \"article\": {", Some(WrongFile::SeveralLines)),
            ("\u{feff}{ \"article\": {", "    \"name\": 1", Some(WrongFile::SeveralLines)),
            ("{", "  \"db\": [", Some(WrongFile::Ghost)),
            ("{\"db\":[{\"data\":{}}]}", "", Some(WrongFile::Ghost)),
            (
                "{\"version\":\"https://jsonfeed.org/version/1.1\",\"items\":[]}",
                "",
                Some(WrongFile::JsonFeed),
            ),
            ("{\"name\":\"articles/a\",\"headline\":\"A\"}", "", Some(WrongFile::Unwrapped("article"))),
            ("{\"name\":\"tags/a\"}", "{\"name\":\"tags/b\"}", Some(WrongFile::Unwrapped("tag"))),
            // Records with an error, or cut off.
            ("{\"article\":{\"headlin\":1}}", "", None),
            ("{\"article\":{\"head", "", None),
            ("{\"article\":{\"head", "{\"tag\":{}}", None),
            ("nonsense", "{}", None),
            ("{\"name\":\"x\"}", "", None),
        ] {
            assert_eq!(of_line(line, after.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn a_kind_of_one_line_has_a_command() {
        assert_eq!(
            WrongFile::Unwrapped("tag").to_string(),
            "not a record but the tag in it: use `cable tag put`, or convert it with `jq -c '{tag: .}' FILE`"
        );
        assert_eq!(of_text(b"\xef\xbb\xbf\n{"), Some(WrongFile::Json));
        assert_eq!(of_text(b"<rss>"), Some(WrongFile::Xml));
        assert_eq!(of_text(b"CABLERE"), None);
    }
}
