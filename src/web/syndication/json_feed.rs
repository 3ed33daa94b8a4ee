//! JSON Feed 1.1.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{
    MAX_FEED_BYTES,
    entry::{Entry, Feed, rfc3339},
};

pub(super) const MEDIA_TYPE: &str = "application/feed+json";

pub(super) fn write(feed: &Feed<'_>) -> Vec<u8> {
    let head = json!({
        "version": "https://jsonfeed.org/version/1.1",
        "title": feed.title,
        "description": feed.description,
        "home_page_url": feed.page,
        "feed_url": feed.address,
        "language": feed.site.language,
        "authors": [{"name": feed.site.name}],
    });
    let mut out = head.to_string();
    // The items are written one by one, so that the size of the feed is known.
    out.truncate(out.len() - 1);
    out.push_str(",\"items\":[");
    for (index, entry) in feed.entries().enumerate() {
        if index > 0 {
            out.push(',');
        }
        let _ = write!(out, "{}", Value::Object(item(entry)));
        if out.len() > MAX_FEED_BYTES {
            break;
        }
    }
    out.push_str("]}\n");
    out.into_bytes()
}

fn item(entry: Entry) -> Map<String, Value> {
    let mut item = Map::new();
    let mut put = |key: &str, value: Value| {
        item.insert(key.to_owned(), value);
    };
    put("id", json!(entry.name));
    put("title", json!(entry.title));
    put("date_published", json!(rfc3339(entry.publish_time)));
    put("date_modified", json!(rfc3339(entry.change_time)));
    // An item must have content.
    if entry.content.is_none() {
        put("content_text", json!(entry.text()));
    }
    entry.content.into_iter().for_each(|content| put("content_html", content.into()));
    entry.page.iter().for_each(|page| put("url", json!(page)));
    if !entry.summary.is_empty() {
        put("summary", json!(entry.summary));
    }
    if !entry.language.is_empty() {
        put("language", json!(entry.language));
    }
    if !entry.authors.is_empty() {
        let authors: Vec<Value> = entry.authors.iter().map(|name| json!({"name": name})).collect();
        put("authors", json!(authors));
    }
    if !entry.categories.is_empty() {
        let tags: Vec<&String> = entry.categories.iter().map(|(_, label)| label).collect();
        put("tags", json!(tags));
    }
    match &entry.lead {
        Some(lead) if lead.is_picture() => put("image", json!(lead.url)),
        // The media type of an attachment is required.
        Some(lead) if !lead.media_type.is_empty() => {
            put("attachments", json!([{"url": lead.url, "mime_type": lead.media_type}]));
        }
        _ => {}
    }
    item
}
