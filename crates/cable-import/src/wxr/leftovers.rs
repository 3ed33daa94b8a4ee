//! The parts of an export that a record has no place for, counted by kind.

use std::{borrow::Cow, collections::BTreeMap};

use cable_body::html;
use cable_proto::limit;

use super::Element;

/// Counts by kind.
pub(super) type Counts = BTreeMap<String, u64>;

/// Counts what is not imported of a post: comments, custom fields that no field has taken, and marks.
pub(super) fn of_post(item: &Element, taken: &[&str], counts: &mut Counts) {
    add(counts, "comments", (item.all("wp:comment").count() - item.comments.len()) as u64);
    add(counts, "sticky marks", u64::from(item.get("wp:is_sticky") == "1"));
    let is_set = |name| !matches!(item.get(name), "" | "0");
    add(counts, "page parents", u64::from(is_set("wp:post_parent")));
    add(counts, "positions in menus", u64::from(is_set("wp:menu_order")));
    custom_fields("custom field", item, taken, counts);
}

/// Counts what is not imported of a category or tag.
pub(super) fn of_term(element: &Element, counts: &mut Counts) {
    custom_fields("field of terms", element, &[], counts);
}

fn custom_fields(kind: &str, element: &Element, taken: &[&str], counts: &mut Counts) {
    for (key, _) in element.meta.iter().filter(|(key, _)| !taken.contains(&key.as_str())) {
        add(
            counts,
            &format!("{kind} {}", html::head(&without_hash(key.trim()), limit::TOKEN.maximum as usize)),
            1,
        );
    }
}

/// Returns the name of a custom field with `*` for a hash at its end: WordPress names its caches so.
fn without_hash(key: &str) -> Cow<'_, str> {
    let is_hash = |hash: &str| hash.len() >= 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    match key.rsplit_once('_') {
        Some((name, hash)) if is_hash(hash) => format!("{name}_*").into(),
        _ => key.into(),
    }
}

fn add(counts: &mut Counts, kind: &str, count: u64) {
    if count > 0 {
        *counts.entry(kind.to_owned()).or_default() += count;
    }
}
