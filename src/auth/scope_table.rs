//! The filter of a credential as a table of the credentials file. The keys are the names of the fields of
//! `ArticleFilter`.

use std::str::FromStr as _;

use prost_types::Timestamp;
use toml::{Table, Value, value::Datetime};

use crate::wire::v1::{ArticleFilter, ArticleType};

/// Reads a filter.
///
/// # Errors
/// The value is not a table, a key is not a field of the filter, or its value has the wrong type.
pub(super) fn read(value: &Value) -> Result<ArticleFilter, String> {
    let Value::Table(table) = value else {
        return Err("`filter` must be a table: { all_tags = [\"tags/russia\"] }".to_owned());
    };
    let mut filter = ArticleFilter::default();
    for (key, value) in table {
        let invalid = |expected: &str| format!("`filter.{key}` must be {expected}");
        match key.as_str() {
            "all_tags" => filter.all_tags = texts(value).ok_or_else(|| invalid("a list of names"))?,
            "any_tags" => filter.any_tags = texts(value).ok_or_else(|| invalid("a list of names"))?,
            "excluded_tags" => {
                filter.excluded_tags = texts(value).ok_or_else(|| invalid("a list of names"))?
            }
            "authors" => filter.authors = texts(value).ok_or_else(|| invalid("a list of names"))?,
            "section" => filter.section = text(value).ok_or_else(|| invalid("a name"))?,
            "language" => filter.language = text(value).ok_or_else(|| invalid("a language"))?,
            "include_child_sections" => {
                filter.include_child_sections = value.as_bool().ok_or_else(|| invalid("true or false"))?;
            }
            "types" => {
                filter.types =
                    types(value).ok_or_else(|| invalid("a list of types, such as ARTICLE_TYPE_ARTICLE"))?;
            }
            "published_after" => {
                filter.published_after =
                    Some(time(value).ok_or_else(|| invalid("a time: 2026-01-31T12:00:00Z"))?);
            }
            "published_before" => {
                filter.published_before =
                    Some(time(value).ok_or_else(|| invalid("a time: 2026-01-31T12:00:00Z"))?);
            }
            _ => return Err(format!("unknown key `filter.{key}`: expected a field of ArticleFilter")),
        }
    }
    Ok(filter)
}

/// Writes a filter, without the fields that are unset.
pub(super) fn write(filter: &ArticleFilter) -> Table {
    let list = |texts: &[String]| Value::Array(texts.iter().cloned().map(Value::String).collect());
    let mut table = Table::new();
    for (key, texts) in [
        ("all_tags", &filter.all_tags),
        ("any_tags", &filter.any_tags),
        ("excluded_tags", &filter.excluded_tags),
        ("authors", &filter.authors),
    ] {
        if !texts.is_empty() {
            table.insert(key.to_owned(), list(texts));
        }
    }
    for (key, text) in [("section", &filter.section), ("language", &filter.language)] {
        if !text.is_empty() {
            table.insert(key.to_owned(), Value::String(text.clone()));
        }
    }
    if filter.include_child_sections {
        table.insert("include_child_sections".to_owned(), Value::Boolean(true));
    }
    if !filter.types.is_empty() {
        let names: Vec<String> = filter.types().map(|of| of.as_str_name().to_owned()).collect();
        table.insert("types".to_owned(), list(&names));
    }
    for (key, time) in
        [("published_after", filter.published_after), ("published_before", filter.published_before)]
    {
        if let Some(time) = time.and_then(|time| Datetime::from_str(&time.to_string()).ok()) {
            table.insert(key.to_owned(), Value::Datetime(time));
        }
    }
    table
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(text).collect()
}

fn types(value: &Value) -> Option<Vec<i32>> {
    let number = |value: &Value| ArticleType::from_str_name(value.as_str()?).map(|of| of as i32);
    value.as_array()?.iter().map(number).collect()
}

fn time(value: &Value) -> Option<Timestamp> {
    let Value::Datetime(time) = value else { return None };
    time.offset?;
    Timestamp::from_str(&time.to_string()).ok()
}
