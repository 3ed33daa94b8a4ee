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
        Fields { values: values.collect(), taken: BTreeSet::new() }
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
    /// Jekyll reads it.
    pub(super) fn list(&mut self, key: &str, by_space: bool) -> Vec<String> {
        let texts = match self.take(key) {
            Some(Value::Array(values)) => values.into_iter().filter_map(text_of).collect(),
            Some(Value::String(text)) if text.contains(',') => text.split(',').map(str::to_owned).collect(),
            Some(Value::String(text)) if by_space => text.split_whitespace().map(str::to_owned).collect(),
            Some(value) => text_of(value).into_iter().collect(),
            None => Vec::new(),
        };
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

/// Returns the text of a value, or the name in a mapping.
fn text_of(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Object(fields) => ["name", "title", "slug", "id"]
            .iter()
            .find_map(|key| Some(fields.get(*key)?.as_str()?.to_owned()))
            .filter(|text| !text.is_empty()),
        _ => None,
    }
}
