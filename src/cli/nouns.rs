//! The kinds of entities as the command line knows them: their names, their columns, and their JSON.

use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::Value;

use super::Error;
use cable_import::{json, references};
use cable_proto::POOL;

/// A kind of entity that the service stores, as the command line shows it.
#[derive(Debug)]
pub(crate) struct Noun {
    /// Name in the singular: `tag`.
    pub(crate) name: &'static str,
    /// Name in the plural, the first part of its resource names: `tags`.
    pub(crate) plural: &'static str,
    /// Full name of its message.
    pub(super) message: &'static str,
    /// Headings of a listing. Each has the JSON fields that its value may come from, as `outer/inner`; the first one
    /// that is set applies.
    pub(super) columns: &'static [(&'static str, &'static [&'static str])],
}

pub(crate) const ARTICLE: Noun = Noun {
    name: "article",
    plural: "articles",
    message: "cable.v1.Article",
    columns: &[
        ("ID", &["name"]),
        ("PUBLISHED", &["publishTime", "firstPublishTime"]),
        ("SECTION", &["section"]),
        ("HEADLINE", &["headline"]),
    ],
};

pub(crate) const PENDING: Noun = Noun {
    name: "pending version",
    plural: "articles",
    message: "cable.v1.PendingArticle",
    columns: &[
        ("ID", &["article/name"]),
        ("DUE", &["dueTime"]),
        ("SECTION", &["article/section"]),
        ("HEADLINE", &["article/headline"]),
    ],
};

/// The result of a write. Tables have a sentence instead.
pub(crate) const RESULT: Noun = Noun {
    name: "result",
    plural: "results",
    message: "cable.v1.WriteResult",
    columns: &[("NAME", &["name"])],
};

pub(crate) const AUTHOR: Noun = Noun {
    name: "author",
    plural: "authors",
    message: "cable.v1.Author",
    columns: &[("ID", &["name"]), ("NAME", &["displayName"]), ("JOB", &["jobTitle"])],
};

pub(crate) const SECTION: Noun = Noun {
    name: "section",
    plural: "sections",
    message: "cable.v1.Section",
    columns: &[
        ("ID", &["name"]),
        ("NAME", &["displayName"]),
        ("PARENT", &["parent"]),
        ("TAGLINE", &["tagline"]),
    ],
};

pub(crate) const TAG: Noun = Noun {
    name: "tag",
    plural: "tags",
    message: "cable.v1.Tag",
    columns: &[
        ("ID", &["name"]),
        ("NAME", &["displayName"]),
        ("KIND", &["kind"]),
        ("DESCRIPTION", &["description"]),
    ],
};

pub(crate) const COLLECTION: Noun = Noun {
    name: "collection",
    plural: "collections",
    message: "cable.v1.Collection",
    columns: &[("ID", &["name"]), ("TITLE", &["title"]), ("ARTICLES", &["articles"])],
};

impl Noun {
    /// Returns the resource name of a bare id. A name is returned unchanged.
    pub(crate) fn full_name(&self, id: &str) -> String {
        if id.contains('/') { id.to_owned() } else { format!("{}/{id}", self.plural) }
    }

    fn descriptor(&self) -> MessageDescriptor {
        POOL.get_message_by_name(self.message).expect("the schema has all nouns")
    }

    /// Parses entities from canonical JSON: one or several entities, lists of them, or lines of an export
    /// (`{"tag": {...}}`). Bare ids are accepted wherever a name is.
    pub(crate) fn parse(&self, json: &str) -> Result<Vec<DynamicMessage>, Error> {
        let mut values = serde_json::Deserializer::from_str(json).into_iter::<Value>();
        let (mut entities, mut end) = (Vec::new(), 0);
        while let Some(value) = values.next() {
            let start = std::mem::replace(&mut end, values.byte_offset());
            match value.map_err(|error| self.invalid_json(&json::Error::from(&error)))? {
                Value::Array(list) => {
                    for value in list {
                        entities.push(self.entity(self.unwrap_record(&value).unwrap_or(&value))?);
                    }
                }
                value => entities.push(match self.unwrap_record(&value) {
                    Some(entity) => self.entity(entity)?,
                    // From the text rather than the value: errors then have a line and a column.
                    None => self.entity_at(json, start, end)?,
                }),
            }
        }
        Ok(entities)
    }

    /// Returns the entity within a line of an export, which can have properties of the record beside it, such as the
    /// source of its import.
    fn unwrap_record<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        let record = value.as_object()?;
        let entity = record.get(self.name).filter(|entity| entity.is_object())?;
        let mut others = record.keys().filter(|key| *key != self.name);
        others.all(|key| is_record_property(key)).then_some(entity)
    }

    fn entity(&self, json: &Value) -> Result<DynamicMessage, Error> {
        self.completed(json::from_value(&self.descriptor(), json))
    }

    fn completed(&self, parsed: Result<DynamicMessage, json::Error>) -> Result<DynamicMessage, Error> {
        let mut entity = parsed.map_err(|error| self.invalid_json(&error))?;
        references::complete(&mut entity);
        Ok(entity)
    }

    /// Parses the entity at a range of a text.
    fn entity_at(&self, json: &str, start: usize, end: usize) -> Result<DynamicMessage, Error> {
        let lines_before = "\n".repeat(json[..start].matches('\n').count());
        let padded = lines_before + &json[start..end];
        self.completed(json::from_str(&self.descriptor(), &padded))
    }

    fn invalid_json(&self, error: &json::Error) -> Error {
        match error.place() {
            Some((line, column)) => self.invalid(&format!("line {line}, column {column}: {error}")),
            None => self.invalid(error),
        }
    }

    /// Returns the error of content that is not an entity of this kind.
    pub(crate) fn invalid(&self, error: &impl std::fmt::Display) -> Error {
        Error::Usage(format!("not a valid {}: {error}", self.name))
    }
}

/// Returns whether a record has a field with this name that is not its entity.
fn is_record_property(name: &str) -> bool {
    let record = POOL.get_message_by_name("cable.v1.Record").expect("the schema has Record");
    let field = record.get_field_by_json_name(name).or_else(|| record.get_field_by_name(name));
    field.is_some_and(|field| field.containing_oneof().is_none_or(|oneof| oneof.is_synthetic()))
}

#[cfg(test)]
mod tests {
    use super::{super::output::Entity, *};
    use cable_proto::v1;

    #[test]
    fn printed_json_and_export_lines_can_be_put_again() {
        let tag = v1::Tag {
            name: "tags/harbour".into(),
            display_name: "Harbour".into(),
            kind: 4,
            revision: 7,
            ..Default::default()
        };
        let entity = Entity::new(&TAG, &tag);
        let line = entity.line();
        for json in [
            line.clone(),
            entity.pretty(),
            format!("{{\"tag\": {line}}}"),
            format!("{{\"tag\": {line}, \"importSource\": \"https://a.example\"}}"),
            format!("[{{\"has_pending\": true, \"mentioned\": false, \"tag\": {line}}}]"),
        ] {
            let tag: v1::Tag = TAG.parse(&json).unwrap()[0].transcode_to().unwrap();
            assert_eq!((tag.name.as_str(), tag.kind, tag.revision), ("tags/harbour", 4, 7));
        }
    }

    #[test]
    fn several_entities_are_parsed_from_lists_and_lines() {
        let (a, b) = (r#"{"name": "a", "parent": "b"}"#, r#"{"tag": {"name": "tags/b"}}"#);
        for json in
            [format!("{a}{b}"), format!("\n{a}\n\n{b}\n"), format!("[{a}, {b}]"), format!("[{a}] [] [{b}]")]
        {
            let tags = TAG.parse(&json).unwrap();
            let tags: Vec<v1::Tag> = tags.iter().map(|tag| tag.transcode_to().unwrap()).collect();
            let names: Vec<&str> = tags.iter().map(|tag| tag.name.as_str()).collect();
            assert_eq!(names, ["tags/a", "tags/b"], "{json}");
            assert_eq!(tags[0].parent, "tags/b", "{json}");
        }
        assert!(TAG.parse(" \n").unwrap().is_empty());
        let error = TAG.parse("{\"name\": \"a\"}\n\n{\n\"nam\": 1}").unwrap_err().to_string();
        assert!(error.contains("line 4"), "{error}");
        let error = TAG.parse("{\"name\": \"a\",\n\"kind\": \"TONE\"}").unwrap_err().to_string();
        let start = "not a valid tag: line 2, column 14: kind: \"TONE\": one of TAG_KIND_";
        assert!(error.starts_with(start), "{error}");
        for json in ["[[]]", "1", "[1]", r#""a""#, r#"[{"article": {}}]"#, "{} x"] {
            assert!(TAG.parse(json).is_err(), "{json}");
        }
    }

    #[test]
    fn an_unknown_field_is_refused_with_its_line() {
        let error = TAG.parse("{\n \"dispayName\": \"x\"}").unwrap_err().to_string();
        assert!(error.contains("dispayName") && error.contains("line 2"), "{error}");
        assert!(TAG.parse("{").is_err());
        assert!(TAG.parse(r#"{"article": {"name": "articles/x"}}"#).is_err());
        assert!(TAG.parse(r#"{"tag": {"name": "tags/x"}, "article": {}}"#).is_err());
        assert!(TAG.parse(r#"{"tag": {"name": "tags/x"}, "source": "x"}"#).is_err());
    }

    #[test]
    fn bare_ids_are_accepted_as_names() {
        assert_eq!(TAG.full_name("russia"), "tags/russia");
        assert_eq!(TAG.full_name("tags/russia"), "tags/russia");
        assert_eq!(COLLECTION.full_name("front"), "collections/front");
    }
}
