//! Foreign texts and lists, cut to the limits of records, and the labels of items.

use std::collections::BTreeMap;

use cable_body::html;
use cable_proto::limit::{self, Limit};

/// Returns a label such as `post 1177 'Storm closes the harbour'`.
pub(crate) fn label(kind: &str, id: &str, title: &str) -> String {
    const MAX_TITLE_BYTES: usize = 80;
    let mut label = kind.to_owned();
    if !id.is_empty() {
        label = format!("{label} {id}");
    }
    match truncate(title, MAX_TITLE_BYTES) {
        "" => label,
        title => format!("{label} '{title}'"),
    }
}

/// Returns the text, truncated to `bytes` bytes.
pub(crate) fn truncate(text: &str, bytes: usize) -> &str {
    html::head(text, bytes).trim_end()
}

/// Returns the text, truncated to its limit. If it is truncated, a note reports it.
pub(crate) fn bounded(text: &str, limit: &Limit, field: &str, notes: &mut Vec<String>) -> String {
    let bounded = truncate(text, limit.maximum as usize);
    if bounded.len() < text.len() {
        notes.push(format!("{field} truncated from {} to {} bytes", text.len(), bounded.len()));
    }
    bounded.to_owned()
}

/// Limits the annotations of an article to 16 KiB in total. The longest are removed first.
pub(crate) fn limit_annotations(all: &mut BTreeMap<String, String>, notes: &mut Vec<String>) {
    while all.len() as u64 > limit::ANNOTATIONS.maximum {
        if let Some((key, value)) = all.pop_last() {
            notes.push(format!("annotation {key} omitted: {value}"));
        }
    }
    let size = |all: &BTreeMap<String, String>| all.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
    while size(all) as u64 > limit::ANNOTATIONS_BYTES.maximum {
        let longest = all.iter().max_by_key(|(_, v)| v.len()).map(|(k, _)| k.clone()).unwrap_or_default();
        let value = all.remove(&longest).unwrap_or_default();
        notes.push(format!("annotation {longest} omitted: {value}"));
    }
}
