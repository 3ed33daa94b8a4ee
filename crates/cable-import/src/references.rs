//! The fields that name other entities, and the completion of bare ids in them.

use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};

/// The fields that hold a resource name: message, field, and the collection of the name.
const REFERENCES: &[(&str, &str, &str)] = &[
    ("cable.v1.Article", "name", "articles"),
    ("cable.v1.Article", "section", "sections"),
    ("cable.v1.Article", "additional_sections", "sections"),
    ("cable.v1.Article", "tags", "tags"),
    ("cable.v1.Credit", "author", "authors"),
    ("cable.v1.Related", "article", "articles"),
    ("cable.v1.Link", "article", "articles"),
    ("cable.v1.Author", "name", "authors"),
    ("cable.v1.Section", "name", "sections"),
    ("cable.v1.Section", "parent", "sections"),
    ("cable.v1.Tag", "name", "tags"),
    ("cable.v1.Tag", "parent", "tags"),
    ("cable.v1.Collection", "name", "collections"),
    ("cable.v1.Collection", "articles", "articles"),
];

/// Returns the collection of the names that a field holds. `None` if the field holds no resource name.
pub fn collection(message: &str, field: &str) -> Option<&'static str> {
    let reference = REFERENCES.iter().find(|(of, name, _)| *of == message && *name == field);
    reference.map(|(_, _, collection)| *collection)
}

/// Returns whether a text is an id: the part of a resource name that the client chooses.
pub fn is_id(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    (1..=128).contains(&text.len()) && text.bytes().all(is_allowed) && !matches!(text, "." | "..")
}

/// Completes each bare id in a reference of the message, at any depth: `russia` in Article.tags becomes `tags/russia`.
pub fn complete(message: &mut DynamicMessage) {
    let descriptor = message.descriptor();
    for (field, value) in message.fields_mut() {
        match collection(descriptor.full_name(), field.name()) {
            Some(collection) => complete_names(value, collection),
            None => complete_nested(value),
        }
    }
}

fn complete_names(value: &mut Value, collection: &str) {
    match value {
        Value::String(name) if !name.is_empty() && !name.contains('/') => {
            *name = format!("{collection}/{name}")
        }
        Value::List(names) => names.iter_mut().for_each(|name| complete_names(name, collection)),
        _ => {}
    }
}

fn complete_nested(value: &mut Value) {
    match value {
        Value::Message(message) => complete(message),
        Value::List(values) => values.iter_mut().for_each(complete_nested),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use cable_proto::POOL;

    use super::*;

    /// The fields that hold names and that only the server sets.
    const OF_THE_SERVER: [(&str, &str); 1] = [("FormerPath", "taken_by")];

    /// Reads the fields of entities whose comment describes a resource name: message, field and collection.
    fn described_references() -> Vec<(String, String, String)> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/cable/v1");
        let mut found = Vec::new();
        for file in ["article", "author", "body", "byline", "collection", "media", "section", "span", "tag"] {
            let text = fs::read_to_string(directory.join(format!("{file}.proto"))).unwrap();
            let (mut message, mut collection) = (String::new(), None);
            for line in text.lines().map(str::trim) {
                if let Some(name) = line.strip_prefix("message ") {
                    name.trim_end_matches(" {").clone_into(&mut message);
                } else if line.starts_with("//") {
                    let described = line.split('`').find_map(|code| code.strip_suffix("/{id}"));
                    collection = described.map(str::to_owned).or(collection);
                } else if let Some(collection) = collection.take()
                    && let Some((declared, _)) = line.split_once(" = ")
                {
                    let field = declared.rsplit(' ').next().unwrap().to_owned();
                    found.push((message.clone(), field, collection));
                }
            }
        }
        found
    }

    #[test]
    fn every_reference_of_the_schema_is_completed() {
        let described = described_references();
        assert!(described.len() > REFERENCES.len(), "{described:?}");
        for (message, field, of) in &described {
            if !OF_THE_SERVER.contains(&(message, field)) {
                let full_name = format!("cable.v1.{message}");
                assert_eq!(collection(&full_name, field), Some(of.as_str()), "{message}.{field}");
            }
        }
    }

    #[test]
    fn bare_ids_are_completed_at_any_depth_and_names_stay() {
        let json = serde_json::json!({
            "name": "storm", "section": "world", "tags": ["russia", "tags/ukraine", "a/b"],
            "byline": {"credits": [{"author": "ada"}, {"displayName": "ada"}]},
            "body": {"blocks": [{"quote": {"blocks": [
                {"paragraph": {"spans": [{"text": "x", "link": {"article": "y"}}]}}]}}]},
        });
        let descriptor = POOL.get_message_by_name("cable.v1.Article").unwrap();
        let mut article = DynamicMessage::deserialize(descriptor, json).unwrap();
        complete(&mut article);
        let completed = serde_json::to_value(&article).unwrap();
        assert_eq!(completed["name"], "articles/storm");
        assert_eq!(completed["section"], "sections/world");
        assert_eq!(completed["tags"], serde_json::json!(["tags/russia", "tags/ukraine", "a/b"]));
        assert_eq!(completed["byline"]["credits"][0]["author"], "authors/ada");
        assert_eq!(completed["byline"]["credits"][1]["displayName"], "ada");
        let quote = &completed["body"]["blocks"][0]["quote"]["blocks"][0]["paragraph"]["spans"][0];
        assert_eq!(quote["link"]["article"], "articles/y");
    }
}
