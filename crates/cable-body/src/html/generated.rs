//! Blocks of the editor without HTML, which the site generates from their attributes:
//! `<!-- wp:acf/quote {"data":{"quote":"Words"}} /-->`.

use std::fmt;

use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::Value;

use super::{
    blocks::{Context, Flow, Walker},
    editor::Opening,
    figures,
    notes::quoted,
    urls,
};
use cable_proto::v1;

/// The blocks of WordPress that show nothing of the post's own text: lists of posts, parts of the theme, and space.
const FURNITURE: [&str; 29] = [
    "archives",
    "avatar",
    "calendar",
    "categories",
    "footnotes",
    "home-link",
    "jetpack/paywall",
    "latest-comments",
    "latest-posts",
    "loginout",
    "more",
    "navigation",
    "nextpage",
    "page-list",
    "page-list-item",
    "paragraph",
    "query",
    "read-more",
    "rss",
    "search",
    "separator",
    "site-logo",
    "site-tagline",
    "site-title",
    "social-links",
    "spacer",
    "tag-cloud",
    "template-part",
    "term-description",
];

/// The starts of the names of further such blocks, such as `post-date`.
const FURNITURE_STARTS: [&str; 5] = ["post-", "query-", "comment-", "comments-", "term-"];

/// Adds a block of the editor that has no HTML, or reports it.
pub(super) fn block(walker: &mut Walker<'_>, opening: &Opening<'_>, context: &Context, flow: &mut Flow) {
    let attributes = opening.values();
    let before = flow.blocks.len();
    if let Some(block) = figures::of_editor_block(walker, opening.name, &attributes) {
        flow.blocks.push(block);
    } else if opening.name.starts_with("acf/") {
        fields(walker, opening, context, flow);
    } else {
        link(walker, opening.name, &attributes, context, flow);
    }
    if flow.blocks.len() == before && !is_furniture(opening.name) {
        walker.drop_markup(|| format!("wp:{}: left out, its content is not in the text", opening.name));
    }
}

fn is_furniture(name: &str) -> bool {
    FURNITURE.contains(&name) || FURNITURE_STARTS.iter().any(|start| name.starts_with(start))
}

/// Adds a paragraph with the link of a button, or of an icon of a social network.
fn link(walker: &mut Walker<'_>, name: &str, attributes: &Value, context: &Context, flow: &mut Flow) {
    let text_of = |key: &str| attributes.get(key)?.as_str().filter(|text| !text.trim().is_empty());
    let service = || text_of("service").filter(|_| name == "social-link");
    let Some(url) = text_of("url") else { return };
    let Some(text) = text_of("text").or_else(|| text_of("label")).or_else(service) else { return };
    let href = urls::link(url);
    if href.is_none() {
        walker.notes.add(|| format!("link to {}: left out, its text stays", quoted(url)));
    }
    let mut linked = context.clone();
    linked.style.link = href.map(|href| v1::Link { href, ..Default::default() });
    walker.reparse(text, &linked, flow);
}

/// The attributes of a block of the plug-in Advanced Custom Fields.
#[derive(Deserialize)]
struct FieldBlock {
    data: Fields,
}

/// The fields of such a block in the order in which the editor shows them.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// Adds the texts of a block of Advanced Custom Fields. A key with an underscore at its start names the type of a field,
/// a number an attachment or a state.
fn fields(walker: &mut Walker<'_>, opening: &Opening<'_>, context: &Context, flow: &mut Flow) {
    let Ok(FieldBlock { data }) = serde_json::from_str(opening.attributes) else { return };
    let is_text = |text: &str| text.contains(|c: char| !c.is_ascii_digit() && !c.is_whitespace());
    let mut texts = 0;
    for (key, value) in &data.0 {
        if let Some(text) = value.as_str().filter(|text| !key.starts_with('_') && is_text(text)) {
            walker.reparse(text, context, flow);
            texts += 1;
        }
    }
    if texts > 0 {
        walker.notes.add(|| format!("wp:{}: {texts} fields became paragraphs", opening.name));
    }
}
