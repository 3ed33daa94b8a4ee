//! The coverage of other formats by the schema: each field of the sample documents has a home or a reason to have none.
//!
//! The directory `coverage` has documents in five formats, with all fields that a publisher uses, and for each format a
//! mapping from its fields to those of Cable. The tables of `docs/schema-coverage.md` are those of the mappings.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use cable_import::{ItemOutcome, wxr};
use cable_proto::{POOL, v1};
use prost::Message as _;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, ReflectMessage as _, Value as Field};
use serde::Deserialize;
use serde_json::Value;

#[path = "coverage/xml.rs"]
mod xml;

/// The formats: the names of their mappings and the first parts of the names of their documents.
const FORMATS: [&str; 5] = ["ninjs", "ans", "wxr", "ghost", "jsonld"];

/// The variable that makes the test write the tables of the document in place of a comparison.
const WRITE: &str = "CABLE_WRITE_COVERAGE";

/// The line of the document above the tables.
const TABLES: &str = "<!-- Tables: written by the test `coverage` of cable-import. -->\n";

/// A mapping from the fields of a format to those of Cable. Each key is the path of a field of the format. `*` in a path
/// matches any text; an exact path comes first, then the longest one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mapping {
    /// The name of the format.
    name: String,
    /// The members that distinguish the elements of a list. The value of the first one is part of the path.
    kinds: Vec<String>,
    /// The fields with a home: paths of fields of Cable, separated by commas.
    home: BTreeMap<String, String>,
    /// Notes on fields with a home.
    notes: BTreeMap<String, String>,
    /// Fields of the work on an article, and of the systems for it, with the reason.
    workflow: BTreeMap<String, String>,
    /// Fields of the page around an article.
    presentation: BTreeMap<String, String>,
    /// Fields that follow from others.
    derived: BTreeMap<String, String>,
    /// Fields that must not be public.
    #[serde(default)]
    private: BTreeMap<String, String>,
    /// Texts that readers write.
    #[serde(default)]
    audience: BTreeMap<String, String>,
}

impl Mapping {
    fn read(format: &str) -> Self {
        let text = fs::read_to_string(directory().join(format!("{format}.toml"))).unwrap();
        toml::from_str(&text).unwrap_or_else(|error| panic!("{format}.toml: {error}"))
    }

    /// The fields without a home by class. There is no class for fields that readers see.
    fn classes(&self) -> [(&'static str, &BTreeMap<String, String>); 5] {
        [
            ("workflow", &self.workflow),
            ("presentation", &self.presentation),
            ("derived", &self.derived),
            ("private", &self.private),
            ("audience", &self.audience),
        ]
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        let without_home = self.classes().into_iter().flat_map(|(_, fields)| fields.keys());
        self.home.keys().chain(without_home).map(String::as_str)
    }

    /// Returns the key for a field of a document.
    fn key_of(&self, path: &str) -> Option<&str> {
        self.keys().find(|key| *key == path).or_else(|| {
            let patterns = self.keys().filter(|key| matches_pattern(key, path));
            patterns.max_by_key(|key| key.len())
        })
    }

    fn homes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.home.iter().flat_map(|(key, homes)| homes.split(", ").map(|home| (key.as_str(), home)))
    }

    /// Returns the tables of the document.
    fn tables(&self) -> String {
        let mut text = format!("\n## {}\n\n| Field | Cable | Note |\n|---|---|---|\n", self.name);
        for (key, homes) in &self.home {
            let homes = homes.replace(", ", "`, `");
            let note = self.notes.get(key).map_or("", String::as_str);
            text += &format!("| `{key}` | `{homes}` | {note} |\n").replace("|  |", "| |");
        }
        text += "\n| Field without a home | Class | Reason |\n|---|---|---|\n";
        for (class, fields) in self.classes() {
            text.extend(fields.iter().map(|(key, reason)| format!("| `{key}` | {class} | {reason} |\n")));
        }
        text
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/coverage")
}

/// Returns the paths of the documents of a format.
fn documents(format: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    let is_document =
        |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&format!("{format}-"));
    let documents = Vec::from_iter(entries.filter(is_document));
    assert_eq!(documents.len(), 2, "{format}");
    documents
}

/// Returns the fields of all documents of a format, each once.
fn fields(format: &str, mapping: &Mapping) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    for path in documents(format) {
        let text = fs::read_to_string(path).unwrap();
        match format {
            "wxr" => collect(&xml::channel(&text), "", &mapping.kinds, &mut fields),
            _ => {
                collect_members(&serde_json::from_str(&text).unwrap(), "", None, &mapping.kinds, &mut fields)
            }
        }
    }
    fields
}

/// Collects the paths of the leaves of a value. Indexes of lists are no part of a path.
fn collect(value: &Value, path: &str, kinds: &[String], fields: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            let kind = kinds.iter().find_map(|name| Some((name, members.get(name)?.as_str()?)));
            let path = kind.map_or_else(|| path.to_owned(), |(_, kind)| format!("{path}[{kind}]"));
            collect_members(value, &path, kind.map(|(name, _)| name.as_str()), kinds, fields);
        }
        Value::Array(elements) => {
            assert!(!elements.is_empty(), "{path}: an empty list shows nothing");
            elements.iter().for_each(|element| collect(element, path, kinds, fields));
        }
        _ => drop(fields.insert(path.to_owned())),
    }
}

/// Collects the paths of the leaves of an object, except the member that its own path contains.
fn collect_members(
    object: &Value,
    path: &str,
    kind: Option<&str>,
    kinds: &[String],
    fields: &mut BTreeSet<String>,
) {
    for (name, member) in object.as_object().unwrap() {
        if kind != Some(name) {
            let separator = if path.is_empty() { "" } else { "." };
            collect(member, &format!("{path}{separator}{name}"), kinds, fields);
        }
    }
}

fn matches_pattern(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            let mut ends = text.char_indices().map(|(index, _)| index).chain([text.len()]);
            ends.any(|index| matches_pattern(rest, &text[index..]))
        }),
    }
}

/// Returns the message in which a path of Cable starts, and the rest of the path: `Author.bio`, or `headline` of an
/// article.
fn root_of(path: &str) -> (MessageDescriptor, &str) {
    let (name, rest) = match path.split_once('.') {
        Some((name, rest)) if name.starts_with(char::is_uppercase) => (name, rest),
        _ => ("Article", path),
    };
    let message = POOL.get_message_by_name(&format!("cable.v1.{name}"));
    (message.unwrap_or_else(|| panic!("{path}: the schema has no message {name}")), rest)
}

/// Checks that a path of Cable leads to a field with a value. Only the blocks of a body may stand for all their fields.
fn check_home(path: &str) -> Result<(), String> {
    let (mut message, rest) = root_of(path);
    let mut names = rest.split('.').peekable();
    while let Some(name) = names.next() {
        let field = message.get_field_by_name(name).ok_or(format!("{} has no {name}", message.name()))?;
        let Kind::Message(inner) = field.kind() else {
            return names.peek().map_or(Ok(()), |next| Err(format!("{name} has no {next}")));
        };
        let is_value = field.is_map() || inner.parent_file().package_name() == "google.protobuf";
        if names.peek().is_none() && !is_value && !message.full_name().starts_with("cable.v1.B") {
            return Err(format!("{name} is a message: name its field"));
        }
        message = inner;
    }
    Ok(())
}

#[test]
fn each_field_of_each_document_has_its_line() {
    for format in FORMATS {
        let mapping = Mapping::read(format);
        let fields = fields(format, &mapping);
        let missing = Vec::from_iter(fields.iter().filter(|field| mapping.key_of(field).is_none()));
        assert!(missing.is_empty(), "{format}.toml has no line for {missing:#?}");
    }
}

#[test]
fn each_line_is_unique_and_used_by_a_document() {
    for format in FORMATS {
        let mapping = Mapping::read(format);
        let fields = fields(format, &mapping);
        let used = BTreeSet::from_iter(fields.iter().filter_map(|field| mapping.key_of(field)));
        let unused = Vec::from_iter(mapping.keys().filter(|key| !used.contains(key)));
        assert!(unused.is_empty(), "{format}.toml: no document has a field for {unused:#?}");
        assert_eq!(mapping.keys().count(), used.len(), "{format}.toml: a field is in two tables");
        let stray = Vec::from_iter(mapping.notes.keys().filter(|key| !mapping.home.contains_key(*key)));
        assert!(stray.is_empty(), "{format}.toml: notes on fields without a home: {stray:#?}");
    }
}

#[test]
fn each_home_is_a_field_of_the_schema() {
    for format in FORMATS {
        for (key, home) in Mapping::read(format).homes() {
            check_home(home).unwrap_or_else(|error| panic!("{format}.toml: {key}: {home}: {error}"));
        }
    }
    assert!(check_home("headline.text").is_err());
    assert!(check_home("subtitle").is_err());
    assert!(check_home("byline").is_err());
    assert!(check_home("lead_media.caption").is_err());
}

#[test]
fn each_field_without_a_home_has_a_reason() {
    for format in FORMATS {
        for (class, fields) in Mapping::read(format).classes() {
            for (key, reason) in fields {
                assert!(!reason.trim().is_empty(), "{format}.toml: {class}: {key}");
            }
        }
    }
    let visible = "name = ''\nkinds = []\n[visible]\nheadline = 'seen by readers'";
    let error = toml::from_str::<Mapping>(visible).err().unwrap().to_string();
    assert!(error.contains("unknown field `visible`"), "{error}");
}

/// Returns whether a field at the path has a value in any element of the lists on the way.
fn is_set(message: &DynamicMessage, path: &str) -> bool {
    let (name, rest) = path.split_once('.').unwrap_or((path, ""));
    if !message.has_field_by_name(name) {
        return false;
    }
    let field = message.get_field_by_name(name).unwrap();
    match (&*field, rest) {
        (_, "") => true,
        (Field::Message(inner), _) => is_set(inner, rest),
        (Field::List(elements), _) => elements.iter().filter_map(Field::as_message).any(|e| is_set(e, rest)),
        _ => false,
    }
}

fn dynamic(record: v1::record::Record) -> Option<DynamicMessage> {
    use v1::record::Record::{Article, Author, Section, Tag};
    let (name, bytes) = match record {
        Article(article) => ("Article", article.encode_to_vec()),
        Author(author) => ("Author", author.encode_to_vec()),
        Section(section) => ("Section", section.encode_to_vec()),
        Tag(tag) => ("Tag", tag.encode_to_vec()),
        _ => return None,
    };
    let descriptor = POOL.get_message_by_name(&format!("cable.v1.{name}")).unwrap();
    Some(DynamicMessage::decode(descriptor, bytes.as_slice()).unwrap())
}

/// Returns the records of an export with all that it mentions.
fn import(path: &Path) -> Vec<DynamicMessage> {
    let options = wxr::Options { now: "2032-01-01T00:00:00Z".parse().unwrap(), ..Default::default() };
    let mut records = Vec::new();
    for item in wxr::read(vec![path.to_owned()], &options).unwrap() {
        match item.unwrap().outcome {
            ItemOutcome::Converted(converted) => {
                records.extend(converted.mentions.into_iter().chain(converted.records))
            }
            ItemOutcome::Skipped(_) => {}
            ItemOutcome::Failed(cause) => panic!("{}: {cause}", path.display()),
        }
    }
    records.into_iter().filter_map(|record| dynamic(record.record?)).collect()
}

#[test]
fn the_importer_of_wordpress_exports_fills_each_home() {
    let records = Vec::from_iter(documents("wxr").iter().flat_map(|path| import(path)));
    for (key, home) in Mapping::read("wxr").homes() {
        let (message, path) = root_of(home);
        let mut of_message = records.iter().filter(|record| record.descriptor() == message);
        assert!(of_message.any(|record| is_set(record, path)), "{key}: no record has {home}");
    }
}

#[test]
fn the_document_has_the_tables_of_the_mappings() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema-coverage.md");
    let document = fs::read_to_string(&path).unwrap();
    let (text, _) = document.split_once(TABLES).expect("the document has the line above the tables");
    let tables = String::from_iter(FORMATS.map(|format| Mapping::read(format).tables()));
    let current = format!("{text}{TABLES}{tables}");
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, &current).unwrap();
    } else {
        assert!(
            document == current,
            "docs/schema-coverage.md differs from the mappings: \
             run `{WRITE}=1 cargo test -p cable-import --test coverage`"
        );
    }
}
