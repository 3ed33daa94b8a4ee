//! HTML as WordPress keeps it, as a body: block-editor markup, and classic text in which line feeds mean something.
//!
//! Its invariant: the words of the source are the words of the body, in order; only markup is ever lost. Elements that
//! the body has no block for stay as sanitised HTML, and what sanitising empties leaves its words as a paragraph.

use crate::{
    model::limit,
    wire::v1::{self, block::Kind},
};

mod blocks;
mod figures;
mod markup;
mod runs;
mod source;
mod tables;
mod urls;

pub(crate) use urls::rendition;

/// Longest HTML of one text.
pub(crate) const MAX_BYTES: usize = 4 << 20;

/// The files that a text refers to by number.
pub(crate) trait Attachments {
    /// The attachment of that id.
    fn media(&self, id: u64) -> Option<v1::Media>;
    /// The pictures attached to the text's own post, in order.
    fn own_pictures(&self) -> Vec<v1::Media>;
}

/// No files.
pub(crate) struct NoAttachments;

impl Attachments for NoAttachments {
    fn media(&self, _id: u64) -> Option<v1::Media> {
        None
    }

    fn own_pictures(&self) -> Vec<v1::Media> {
        Vec::new()
    }
}

/// A text as a body.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Converted {
    /// The blocks.
    pub(crate) body: v1::Body,
    /// Number of raw_html blocks among them.
    pub(crate) raw_html: usize,
    /// Number of places where nothing safe remained of the markup; the words there are kept.
    pub(crate) dropped: usize,
}

/// Converts a text. Whatever it is, it becomes a body; the caller checks [`count`].
pub(crate) fn body(html: &str, attachments: &dyn Attachments) -> Converted {
    let (tree, flattened) = source::parse_post(html);
    let mut walker = blocks::Walker::new(attachments);
    let blocks = walker.fragment(&tree);
    Converted {
        body: v1::Body { blocks },
        raw_html: walker.raw_html,
        dropped: walker.dropped + usize::from(flattened),
    }
}

/// The words of a piece of HTML: entities decoded, markup stripped, white space collapsed.
pub(crate) fn plain(html: &str) -> String {
    if !html.contains(['<', '&']) {
        return collapse(html);
    }
    let (tree, _) = source::parse(html);
    collapse(&markup::text_of(tree.tree.root()))
}

/// A short piece of HTML, such as a caption, as spans.
pub(crate) fn spans(html: &str) -> Vec<v1::Span> {
    let (tree, _) = source::parse(html);
    let mut walker = blocks::Walker::new(&NoAttachments);
    runs::join(walker.fragment(&tree)).0
}

/// Number of blocks, nested ones counted.
pub(crate) fn count(body: &v1::Body) -> usize {
    fn of(blocks: &[v1::Block]) -> usize {
        let nested = blocks.iter().map(|block| match &block.kind {
            Some(Kind::List(list)) => list.items.iter().map(|item| of(&item.blocks)).sum(),
            Some(Kind::Quote(quote)) => of(&quote.blocks),
            _ => 0,
        });
        blocks.len() + nested.sum::<usize>()
    }
    of(&body.blocks)
}

/// The longest head of the text that has at most so many bytes.
pub(crate) fn head(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// As much of the text as a title or a credit line can have.
pub(crate) fn line(text: &str) -> String {
    head(text, limit::LINE.maximum as usize).to_owned()
}

fn collapse(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn block(kind: Kind) -> v1::Block {
    v1::Block { id: String::new(), kind: Some(kind) }
}

#[cfg(test)]
pub(crate) mod tests;
