//! Conversion of HTML from WordPress into a body: block-editor markup, and classic text, in which line feeds are
//! significant.
//!
//! Invariant: the words of the source are the words of the body, in order; only markup is ever lost. Elements without a
//! matching block remain as sanitised HTML. If the sanitiser leaves nothing of an element, its words become a
//! paragraph.

use cable_proto::limit;
use cable_proto::v1::{self, block::Kind};

mod blocks;
mod figures;
mod markup;
mod runs;
mod source;
mod tables;
mod urls;

pub use urls::rendition;

/// The maximum length of one text's HTML, in bytes.
pub const MAX_BYTES: usize = 4 << 20;

/// A source of the files that a text refers to by number.
pub trait Attachments {
    /// Returns the attachment with the given id.
    fn media(&self, id: u64) -> Option<v1::Media>;
    /// Returns the pictures attached to the text's own post, in order.
    fn own_pictures(&self) -> Vec<v1::Media>;
}

/// An empty set of files.
pub struct NoAttachments;

impl Attachments for NoAttachments {
    fn media(&self, _id: u64) -> Option<v1::Media> {
        None
    }

    fn own_pictures(&self) -> Vec<v1::Media> {
        Vec::new()
    }
}

/// A text converted into a body.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Converted {
    /// The body with its blocks.
    pub body: v1::Body,
    /// The number of raw_html blocks in the body.
    pub raw_html: usize,
    /// The number of places where no safe markup remained. The words there are preserved.
    pub dropped: usize,
}

/// Converts a text into a body. Every input has a result; the caller checks its [`count`].
pub fn body(html: &str, attachments: &dyn Attachments) -> Converted {
    let (tree, flattened) = source::parse_post(html);
    let mut walker = blocks::Walker::new(attachments);
    let blocks = walker.fragment(&tree);
    Converted {
        body: v1::Body { blocks },
        raw_html: walker.raw_html,
        dropped: walker.dropped + usize::from(flattened),
    }
}

/// Returns the words of a piece of HTML: entities decoded, markup stripped, white space collapsed.
pub fn plain(html: &str) -> String {
    if !html.contains(['<', '&']) {
        return collapse(html);
    }
    let (tree, _) = source::parse(html);
    collapse(&markup::text_of(tree.tree.root()))
}

/// Converts a short piece of HTML, such as a caption, into spans.
pub fn spans(html: &str) -> Vec<v1::Span> {
    let (tree, _) = source::parse(html);
    let mut walker = blocks::Walker::new(&NoAttachments);
    runs::join(walker.fragment(&tree)).0
}

/// Returns the number of blocks, including nested ones.
pub fn count(body: &v1::Body) -> usize {
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

/// Returns the longest prefix of the text that has at most `bytes` bytes.
pub fn head(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Returns the text, cut to the maximum length of a title or a credit line.
pub fn line(text: &str) -> String {
    head(text, limit::LINE.maximum as usize).to_owned()
}

fn collapse(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn block(kind: Kind) -> v1::Block {
    v1::Block { id: String::new(), kind: Some(kind) }
}

#[cfg(test)]
pub mod tests;
