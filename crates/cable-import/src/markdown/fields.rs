//! The fields of front matter by the names that site generators use, each taken once, so that the rest can be counted.

use std::collections::{BTreeMap, BTreeSet};

use cable_body::html;
use cable_proto::limit;
use serde_json::{Map, Value};

/// The fields of a file. Keys are matched without regard to case, as Hugo does.
#[derive(Debug, Default)]
pub(super) struct Fields {
    values: BTreeMap<String, Value>,
    taken: BTreeSet<String>,
}

impl Fields {
    pub(super) fn new(fields: Map<String, Value>) -> Self {
        let values = fields.into_iter().map(|(key, value)| (key.to_lowercase(), value));
        let mut values: BTreeMap<String, Value> = values.collect();
        // Zola has tags and categories in a table.
        if let Some(Value::Object(taxonomies)) = values.remove("taxonomies") {
            let mut rest = Map::new();
            for (name, terms) in taxonomies {
                if matches!(name.as_str(), "tags" | "categories" | "authors") && !values.contains_key(&name) {
                    values.insert(name, terms);
                } else {
                    rest.insert(name, terms);
                }
            }
            values.insert("taxonomies".to_owned(), Value::Object(rest));
        }
        Fields { values, taken: BTreeSet::new() }
    }

    /// Returns the value of a field and marks it as taken. `None` if the field is not set.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        let value = self.values.get(key)?.clone();
        self.taken.insert(key.to_owned());
        Some(value).filter(|value| !value.is_null() && value != "")
    }

    /// Returns the value of a field without taking it.
    pub(super) fn values_of(&self, key: &str) -> Option<Value> {
        self.values.get(key).cloned()
    }

    /// Returns the text of the first field that is set, with the name of the field. A value that is not text is not
    /// taken.
    pub(super) fn text(&mut self, keys: &[&'static str]) -> Option<(&'static str, String)> {
        let mut found = None;
        for key in keys {
            match self.values.get(*key) {
                Some(Value::String(text)) => {
                    let text = text.trim().to_owned();
                    let is_new = found.as_ref().is_none_or(|(_, first): &(_, String)| *first == text);
                    if is_new || text.is_empty() {
                        self.taken.insert((*key).to_owned());
                    }
                    if found.is_none() && !text.is_empty() {
                        found = Some((*key, text));
                    }
                }
                Some(Value::Null) => drop(self.taken.insert((*key).to_owned())),
                _ => {}
            }
        }
        found
    }

    /// Returns whether a field has a value that means yes.
    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        match self.take(key)? {
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Some(true),
                "false" | "no" | "off" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the texts of a list, or of a text that separates them by commas or, if `by_space`, by white space, as
    /// Jekyll reads it. Lists within the list are a part of it, as in Hexo. A field with a value of another kind is not
    /// taken.
    pub(super) fn list(&mut self, key: &str, by_space: bool) -> Vec<String> {
        let mut texts = Vec::new();
        let is_list = match self.values.get(key) {
            Some(Value::String(text)) if text.contains(',') => {
                texts.extend(text.split(',').map(str::to_owned));
                true
            }
            Some(Value::String(text)) if by_space => {
                texts.extend(text.split_whitespace().map(str::to_owned));
                true
            }
            Some(value) => add_texts(value, &mut texts),
            None => true,
        };
        if is_list {
            self.taken.insert(key.to_owned());
        }
        let texts = texts.into_iter().map(|text: String| text.trim().to_owned());
        texts.filter(|text| !text.is_empty()).collect()
    }

    /// Returns the number of fields that are set and not taken, by name.
    pub(super) fn rest(&self, counts: &mut BTreeMap<String, u64>) {
        let is_set = |value: &Value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(values) => !values.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            _ => true,
        };
        for key in self.values.iter().filter(|(key, value)| is_set(value) && !self.taken.contains(*key)) {
            let name = html::head(key.0, limit::TOKEN.maximum as usize);
            *counts.entry(format!("front matter field {name}")).or_default() += 1;
        }
    }
}

/// Adds the text of a value, the name in a mapping, or those of a list. Returns false if there are other values.
fn add_texts(value: &Value, texts: &mut Vec<String>) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => {
            texts.push(text.clone());
            true
        }
        Value::Array(values) => {
            let unread = values.iter().filter(|value| !add_texts(value, texts)).count();
            unread == 0
        }
        Value::Object(fields) => {
            let name = ["name", "title", "slug", "id"].iter().find_map(|key| fields.get(*key)?.as_str());
            texts.extend(name.filter(|name| !name.is_empty()).map(str::to_owned));
            name.is_some_and(|name| !name.is_empty())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        let Value::Object(fields) = value else { panic!("not an object") };
        Fields::new(fields)
    }

    #[test]
    fn each_term_of_a_list_is_read_or_its_field_is_counted() {
        for (value, expected, is_counted) in [
            (json!(["eel", "river"]), &["eel", "river"][..], false),
            (json!("eel, river"), &["eel", "river"], false),
            (json!([["eel", "river"], ["sea"]]), &["eel", "river", "sea"], false),
            (json!([{"name": "eel"}, null, ""]), &["eel"], false),
            (json!({"eel": "1"}), &[], true),
            (json!(["eel", {"weight": "1"}]), &["eel"], true),
        ] {
            let mut fields = fields(json!({"tags": value}));
            assert_eq!(fields.list("tags", true), expected, "{value}");
            let mut counts = BTreeMap::new();
            fields.rest(&mut counts);
            assert_eq!(counts.contains_key("front matter field tags"), is_counted, "{value}");
        }
    }

    #[test]
    fn terms_of_zola_are_those_of_the_page() {
        let mut fields = fields(json!({"taxonomies": {"tags": ["eel"], "series": ["river"]}, "title": "x"}));
        assert_eq!(fields.list("tags", true), ["eel"]);
        let mut counts = BTreeMap::new();
        fields.rest(&mut counts);
        assert!(counts.contains_key("front matter field taxonomies"), "{counts:?}");
    }
}
