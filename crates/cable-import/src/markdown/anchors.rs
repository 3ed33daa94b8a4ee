//! The ids of headings, which site generators derive from their text, for the links within a page that lead to them.

use std::collections::HashSet;

use cable_body::html;
use cable_proto::v1::{self, Span, block::Kind};

/// The maximum length of the id of a block.
const MAX_ID_BYTES: usize = 128;

/// Returns whether a text can be the id of a block.
pub(super) fn is_id(text: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-'))
}

/// Gives headings without an id the one that links of the page name.
pub(super) fn name_headings(blocks: &mut [v1::Block]) {
    let (mut targets, mut ids) = (HashSet::new(), HashSet::new());
    for block in blocks.iter() {
        survey(block, &mut targets, &mut ids);
    }
    for block in blocks {
        let Some(Kind::Heading(heading)) = &block.kind else { continue };
        let slug = slug(&heading.spans);
        if block.id.is_empty() && is_id(&slug) && targets.contains(&slug) && ids.insert(slug.clone()) {
            block.id = slug;
        }
    }
}

/// Collects the fragments of links within the page, and the ids of blocks.
fn survey(block: &v1::Block, targets: &mut HashSet<String>, ids: &mut HashSet<String>) {
    if !block.id.is_empty() {
        ids.insert(block.id.clone());
    }
    let spans: Vec<&Span> = match &block.kind {
        Some(Kind::Paragraph(paragraph)) => paragraph.spans.iter().collect(),
        Some(Kind::Heading(heading)) => heading.spans.iter().collect(),
        Some(Kind::Table(table)) => {
            table.rows.iter().flat_map(|row| &row.cells).flat_map(|cell| &cell.spans).collect()
        }
        _ => Vec::new(),
    };
    let links = spans.into_iter().filter_map(|span| span.link.as_ref()?.href.strip_prefix('#'));
    targets.extend(links.map(str::to_owned));
    html::nested(block).for_each(|inner| survey(inner, targets, ids));
}

/// Returns the id that generators derive from a heading: in lower case, with hyphens for spaces, without other signs.
fn slug(spans: &[Span]) -> String {
    let text: String = spans.iter().map(|span| span.text.as_str()).collect();
    let mut slug = String::new();
    for c in text.trim().chars() {
        match c {
            c if c.is_alphanumeric() || matches!(c, '_' | '-') => slug.extend(c.to_lowercase()),
            c if c.is_whitespace() => slug.push('-'),
            _ => {}
        }
    }
    slug
}
