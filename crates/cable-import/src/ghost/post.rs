//! The parts of a post of Ghost: its text, times, picture and access, and what it loses.

use std::collections::BTreeMap;

use cable_body::{convert, html};
use cable_proto::v1::{self, BodyFormat};
use jiff::Timestamp;

use super::{
    SITE,
    documents::{self, Document},
    export::Row,
    gates::{self, Ungated},
    time,
};
use crate::ConvertedItem;

/// Returns the body, and whether some of it is for members only: the HTML that Ghost has rendered, or else the document
/// of its editor, or else the plain text.
pub(super) fn body(row: &Row, result: &mut ConvertedItem) -> Result<(v1::Body, bool), String> {
    let Ungated { html, has_gates, omitted } = source(row, &mut result.notes, &mut result.not_imported)?;
    if omitted > 0 {
        result.not_imported.insert(documents::NOT_ON_SITE.into(), omitted);
    }
    let converted = convert(BodyFormat::Html, &html.replace(SITE, ""))
        .map_err(|error| format!("body {error}; or split the post"))?;
    result.notes.extend(converted.notes);
    if converted.omitted_notes > 0 {
        result.notes.push(format!("and {} more notes on the text", converted.omitted_notes));
    }
    Ok((converted.body, has_gates))
}

/// Returns the HTML of the body.
fn source(row: &Row, notes: &mut Vec<String>, counts: &mut BTreeMap<String, u64>) -> Result<Ungated, String> {
    let (html, lexical, mobiledoc) = (row.text("html"), row.text("lexical"), row.text("mobiledoc"));
    if !html.is_empty() {
        return Ok(gates::ungated(&html));
    }
    // The plain text has also the parts that a document leaves out, so it does not replace a document with cards.
    let document = documents::lexical(&lexical).or_else(|| documents::mobiledoc(&mobiledoc));
    let is_damaged = document.is_none() && !(lexical + &mobiledoc).is_empty();
    let has_words = |document: &Document| !document.html.is_empty() || !document.counts.is_empty();
    if let Some(document) = document.filter(has_words) {
        counts.extend(document.counts);
        return Ok(Ungated { html: document.html, has_gates: document.has_gates, omitted: 0 });
    }
    let plain = row.text("plaintext");
    if plain.is_empty() && is_damaged {
        return Err("field `lexical` or `mobiledoc`: not a document, and `html` and `plaintext` are empty: save the post in \
                    Ghost and export again"
            .into());
    }
    if !plain.is_empty() {
        notes.push(
            "the text is that of `plaintext`, without markup: the post has no other that can be read".into(),
        );
    }
    Ok(Ungated { html: documents::paragraphs(&plain), ..Ungated::default() })
}

/// Returns a picture at an address of the site.
pub(super) fn media(url: &str) -> Option<v1::Media> {
    let rendition = html::rendition(&url.replace(SITE, ""), None, None).filter(|_| !url.is_empty())?;
    Some(v1::Media { renditions: vec![rendition], ..Default::default() })
}

/// Returns the access to a post. A part for members makes all of it theirs: an article has one access.
pub(super) fn access(visibility: &str, has_gates: bool, notes: &mut Vec<String>) -> v1::Access {
    match visibility {
        "" | "public" if has_gates => {
            notes.push("access is SUBSCRIBER: some of the text is for members only".into());
            v1::Access::Subscriber
        }
        "" => v1::Access::Unspecified,
        "public" => v1::Access::Free,
        // Members, subscribers, and some tiers of them.
        _ => v1::Access::Subscriber,
    }
}

/// Counts the parts of a post that have no place in an article.
pub(super) fn leftovers(row: &Row, meta: &Row, counts: &mut BTreeMap<String, u64>) {
    let mut add = |kind: &str, is_set: bool| {
        if is_set {
            *counts.entry(kind.to_owned()).or_default() += 1;
        }
    };
    add("featured marks", row.flag("featured"));
    for key in ["codeinjection_head", "codeinjection_foot", "custom_template"] {
        add(key, !row.text(key).is_empty());
    }
    for key in ["og_image", "og_description", "twitter_image", "twitter_description"] {
        add(key, !(row.text(key) + &meta.text(key)).is_empty());
    }
}

/// Reports times that are missing or cannot be read.
pub(super) fn note_on_times(row: &Row, published: Option<Timestamp>, notes: &mut Vec<String>) {
    for (key, field) in [("published_at", "publication time"), ("updated_at", "time of the last change")] {
        let text = row.text(key);
        if !text.is_empty() && time(row, key).is_none() {
            notes.push(format!("{field} omitted: {:?} is not a time", html::head(&text, 64)));
        }
    }
    if published.is_none() && row.text("status") == "published" {
        notes.push("no publication time: that of the first import is used".into());
    }
}
