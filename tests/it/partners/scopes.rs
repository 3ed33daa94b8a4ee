//! A model of the filter of articles: whether an article matches, by its JSON.

use serde_json::Value;

use super::steps::rfc3339;

/// Returns whether an article matches a filter when it is put now. Its section s1 has the sections s2 and s3 below it.
pub(super) fn is_match(filter: &Value, article: &Value, now: i64) -> bool {
    let has = |key: &str, name: &Value| match key {
        "tags" => article["tags"].as_array().is_some_and(|tags| tags.contains(name)),
        _ => article["byline"]["credits"][0]["author"] == *name,
    };
    let names = |key: &str| filter[key].as_array().cloned().unwrap_or_default();
    let any = |key: &str, of: &str| names(key).is_empty() || names(key).iter().any(|name| has(of, name));
    let in_section = match (&filter["section"], &filter["include_child_sections"]) {
        (Value::Null, _) => true,
        (_, Value::Bool(true)) => article["section"] != "sections/s4",
        (section, _) => article["section"] == *section,
    };
    let language = &filter["language"];
    let in_language = language.is_null()
        || article["language"].as_str().map(str::to_lowercase).as_deref() == language.as_str();
    // Times of one form, in one zone, are in the order of their texts.
    let time = article["publish_time"].as_str().map_or_else(|| rfc3339(now), str::to_owned);
    let bound = |key: &str| filter[key].as_str().map(str::to_owned);
    names("all_tags").iter().all(|tag| has("tags", tag))
        && !names("excluded_tags").iter().any(|tag| has("tags", tag))
        && any("any_tags", "tags")
        && any("authors", "byline")
        && (names("types").is_empty() || names("types").contains(&article["type"]))
        && in_section
        && in_language
        && bound("published_after").is_none_or(|after| time >= after)
        && bound("published_before").is_none_or(|before| time < before)
}
