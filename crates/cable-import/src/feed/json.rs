//! JSON Feed, versions 1.0 and 1.1.

use std::rc::Rc;

use serde_json::{Map, Value};
use url::Url;

use super::{
    entry::{Channel, Entry, Located, Text, resolved},
    media::{Attachment, File},
};
use crate::piece::Term;

/// The maximum number of values in one document.
pub const MAX_VALUES: usize = 1_000_000;

/// Returns the number of values that a document can have at most.
fn values(text: &str) -> usize {
    text.bytes().filter(|byte| matches!(byte, b',' | b'[' | b'{' | b':')).count()
}

/// Returns whether the number of values is within the bound. Signs within strings are no values.
fn is_bounded(text: &str) -> bool {
    if values(text) <= MAX_VALUES {
        return true;
    }
    let (mut count, mut is_string, mut is_escaped) = (0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_string,
            b'"' => is_string = !is_string,
            b',' | b'[' | b'{' | b':' if !is_string => count += 1,
            _ => {}
        }
    }
    count <= MAX_VALUES
}

type Object = Map<String, Value>;

/// Returns a text, or a number or a truth value as text; empty if there is none.
fn text(object: &Object, key: &str) -> String {
    match object.get(key) {
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

fn list<'a>(object: &'a Object, key: &str) -> &'a [Value] {
    object.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Adds the authors to an entry: `authors`, or `author` of version 1.0.
fn add_authors(object: &Object, entry: &mut Entry) {
    let all = list(object, "authors").iter().chain(object.get("author"));
    for author in all.filter_map(Value::as_object) {
        entry.add_authors(&text(author, "name"));
        if ["url", "avatar"].iter().any(|key| !text(author, key).is_empty()) {
            entry.count("addresses of authors");
        }
    }
}

/// The channel and the entries of a document, and the problem that ended the reading early, if there is one.
type Read = (Channel, Vec<Entry>, Option<String>);

/// Parses a document. If it is damaged within its items, those before the damage remain, with the problem.
fn parse(source: &str) -> Result<(Value, Option<String>), String> {
    let problem = match serde_json::from_str(source) {
        Ok(document) => return Ok((document, None)),
        Err(error) => format!("not JSON: {error}"),
    };
    let whole = items_start(source).and_then(|start| {
        let mut document: Value = serde_json::from_str(&format!("{}]}}", &source[..start])).ok()?;
        document["items"] = Value::Array(values_before_damage(&source[start..]));
        Some(document)
    });
    whole.map(|document| (document, Some(problem.clone()))).ok_or(problem)
}

/// Returns the position after the bracket that opens the list of items.
fn items_start(source: &str) -> Option<usize> {
    let (mut depth, mut is_string, mut is_escaped) = (0_usize, false, false);
    for (at, byte) in source.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_string,
            b'"' => is_string = !is_string,
            _ if is_string => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.checked_sub(1)?,
            b':' if depth == 1 && source[..at].trim_end().ends_with("\"items\"") => {
                let list = source[at + 1..].trim_start().strip_prefix('[')?;
                return Some(source.len() - list.len());
            }
            _ => {}
        }
    }
    None
}

/// Returns the values of a list up to the first one that is damaged.
fn values_before_damage(list: &str) -> Vec<Value> {
    let (mut values, mut rest) = (Vec::new(), list);
    loop {
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let Some(Ok(value)) = stream.next() else { return values };
        values.push(value);
        match rest[stream.byte_offset()..].trim_start().strip_prefix(',') {
            Some(after) => rest = after,
            None => return values,
        }
    }
}

/// Reads a document. The error states why it is not a feed.
pub(super) fn read(source: &str, address: Option<&Url>) -> Result<Read, String> {
    if !is_bounded(source) {
        return Err(format!("more than {MAX_VALUES} values"));
    }
    let (document, failure) = parse(source)?;
    let Some(document) = document.as_object() else { return Err("not a JSON object".to_owned()) };
    if !text(document, "version").starts_with("https://jsonfeed.org/version/1") {
        return Err("JSON without `version` `https://jsonfeed.org/version/1.1` or `/1`".to_owned());
    }
    let Some(items) = document.get("items").and_then(Value::as_array) else {
        return Err("field `items`: not a list".to_owned());
    };
    let own_address = text(document, "feed_url");
    let base = address.cloned().or_else(|| Url::parse(&own_address).ok());
    let base = base.filter(super::is_short).map(Rc::new);
    let at = |key: &str| resolved(base.as_deref(), &text(document, key));
    let mut head = Entry::default();
    add_authors(document, &mut head);
    let channel = Channel {
        title: text(document, "title"),
        home: at("home_page_url"),
        own_address,
        language: text(document, "language"),
        authors: head.authors,
        next: at("next_url"),
        ..Channel::default()
    }
    .bounded();
    let home = Url::parse(&channel.home).ok().filter(super::is_short).map(Rc::new);
    let base = home.or(base);
    let entries = items.iter().map(|item| entry(item, &channel, &base)).collect();
    Ok((channel, entries, failure))
}

/// Counts the members whose values have other types than JSON Feed gives them.
fn count_types(item: &Object, entry: &mut Entry) {
    for (key, value) in item.iter().filter(|(key, value)| KNOWN.contains(&key.as_str()) && !value.is_null()) {
        let is_right = match key.as_str() {
            "tags" => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
            "authors" | "attachments" => {
                value.as_array().is_some_and(|list| list.iter().all(Value::is_object))
            }
            "author" => value.is_object(),
            _ => value.is_string() || value.is_number(),
        };
        if !is_right {
            entry.count(&format!("{key} of another type"));
        }
    }
}

/// The members of an item that are used.
const KNOWN: [&str; 17] = [
    "id",
    "url",
    "external_url",
    "title",
    "content_html",
    "content_text",
    "summary",
    "image",
    "banner_image",
    "date_published",
    "date_modified",
    "author",
    "authors",
    "tags",
    "language",
    "attachments",
    "_id",
];

fn entry(item: &Value, channel: &Channel, base: &Option<Rc<Url>>) -> Entry {
    let mut entry = Entry { kind: "item", base: base.clone(), ..Entry::default() };
    let Some(item) = item.as_object() else {
        entry.damage = Some("not a JSON object".to_owned());
        return entry;
    };
    let at = |key: &str| resolved(base.as_deref(), &text(item, key));
    let located =
        |text: Text| Some(Located { text, base: base.clone() }).filter(|at| !at.text.source().is_empty());
    entry.guid = text(item, "id");
    entry.link = at("url");
    entry.external_url = at("external_url");
    entry.title = Some(text(item, "title")).filter(|title| !title.is_empty()).map(Text::Plain);
    entry.content = located(Text::Html(text(item, "content_html")));
    if entry.content.is_none() {
        entry.content = located(Text::Plain(text(item, "content_text")));
    }
    entry.summary = located(Text::Plain(text(item, "summary")));
    entry.published = text(item, "date_published");
    entry.updated = text(item, "date_modified");
    add_authors(item, &mut entry);
    let tags = list(item, "tags").iter().filter_map(Value::as_str);
    tags.for_each(|tag| entry.add_category(Term::of_name(tag)));
    entry.language = text(item, "language");
    if entry.language.is_empty() {
        entry.language.clone_from(&channel.language);
    }
    for key in ["image", "banner_image"] {
        if !text(item, key).is_empty() {
            let file = File { url: at(key), medium: "image".into(), ..File::default() };
            entry.add_attachment(Attachment { files: vec![file], ..Attachment::default() });
        }
    }
    add_attachments(item, &mut entry, base);
    count_types(item, &mut entry);
    for key in item.keys().filter(|key| !KNOWN.contains(&key.as_str())) {
        entry.count(key);
    }
    entry
}

/// Adds the attachments. Those of one title are the same content in several encodings.
fn add_attachments(item: &Object, entry: &mut Entry, base: &Option<Rc<Url>>) {
    let first = entry.attachments.len();
    for attachment in list(item, "attachments").iter().filter_map(Value::as_object) {
        let url = resolved(base.as_deref(), &text(attachment, "url"));
        let mut one = Attachment::of_file(url, &text(attachment, "mime_type"));
        one.title = text(attachment, "title");
        one.duration = attachment
            .get("duration_in_seconds")
            .and_then(Value::as_f64)
            .and_then(|seconds| (0.0..1e9).contains(&seconds).then_some(seconds as i64));
        let same = entry.attachments[first..].iter_mut().find(|other| {
            !one.title.is_empty() && other.title == one.title && other.files[0].kind() == one.files[0].kind()
        });
        match same {
            Some(other) => other.files.extend(one.files),
            None => entry.add_attachment(one),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_before_the_damage_remain() {
        let head = r#"{"version":"https://jsonfeed.org/version/1","x":{"items":[1]},"title":"\"items\":[","items":["#;
        for (rest, count) in [
            ("{\"id\":1},{\"id\":2},{\"id\":", 2),
            ("{\"id\":1}, {\"id\":\"a\tb\"},{}]}", 1),
            ("{\"id\":1}", 1),
            ("", 0),
        ] {
            let (_, entries, failure) = read(&format!("{head}{rest}"), None).unwrap();
            assert_eq!(entries.len(), count, "{rest}");
            assert!(failure.is_some_and(|failure| failure.contains("not JSON")), "{rest}");
        }
        assert!(read("{\"version\":\"https://jsonfeed.org/version/1\",", None).is_err());
    }

    #[test]
    fn values_of_other_types_are_counted() {
        let source = r#"{"version":"https://jsonfeed.org/version/1","items":[
            {"id":1,"tags":"sea","author":"Ann","authors":["Bo"],"title":null,"summary":["a"],"attachments":[]}]}"#;
        let (_, entries, _) = read(source, None).unwrap();
        let counts: Vec<&str> = entries[0].not_imported.keys().map(String::as_str).collect();
        assert_eq!(
            counts,
            [
                "author of another type",
                "authors of another type",
                "summary of another type",
                "tags of another type"
            ]
        );
    }

    #[test]
    fn values_are_bounded_and_signs_in_texts_are_not_counted() {
        assert!(is_bounded(&format!("[{}]", "1,".repeat(1_000))));
        assert!(!is_bounded(&format!("[{}]", "[],".repeat(MAX_VALUES))));
        assert!(is_bounded(&format!("[\"{}\\\"{}\"]", ",".repeat(MAX_VALUES), ":".repeat(100))));
    }
}
