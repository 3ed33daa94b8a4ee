//! Conversion of HTML into a body: plain HTML, such as that of editors and of this crate's renderer; and HTML of
//! WordPress, with block-editor markup, and classic text, in which line feeds are significant.
//!
//! Invariant: the words of the source are the words of the body, in order; only markup is ever lost, and the controls of
//! players (`cards.rs`), and the blocks that readers of the site do not see (`editor.rs`). Elements without a matching block remain as sanitised HTML. If the sanitiser leaves nothing of
//! an element, its words become a paragraph.

use std::borrow::Cow;

use crate::sanitise::work::Bounds;
use blocks::Walker;
use cable_proto::limit;
use cable_proto::v1::{self, block::Kind};

mod blocks;
mod brackets;
mod cards;
mod code;
mod editor;
mod figures;
mod generated;
mod ids;
mod links;
mod lists;
mod literal;
mod markup;
mod notes;
mod players;
mod posts;
mod runs;
mod shortcodes;
mod source;
mod styles;
mod tables;
mod twins;
mod urls;

pub(crate) use blocks::{CHECKED, UNCHECKED};
pub use notes::{MAX_NOTES, Notes};
pub use urls::rendition;
pub(crate) use urls::{media_type, page};

/// The maximum length of one text's HTML, in bytes.
pub const MAX_BYTES: usize = 4 << 20;

/// The maximum number of start tags in plain HTML. Three for each block that a body may have.
pub(crate) const MAX_TAGS: usize = 3 * limit::BLOCKS.maximum as usize;

/// The maximum number of steps to parse plain HTML.
pub(crate) const MAX_STEPS: usize = 6_000_000;

/// The bounds on the cost of parsing plain HTML: within 250 ms together with the walk. Markdown becomes HTML of up to
/// four times its size. An article with more elements than this has no valid body.
const PLAIN_BOUNDS: Bounds =
    Bounds { bytes: 4 << 20, tags: MAX_TAGS, attributes: 100, open: 600, steps: MAX_STEPS };

/// The maximum number of `&` in plain HTML. A parser takes about a microsecond for each reference.
const MAX_REFERENCES: usize = 50_000;

/// The origin of HTML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// Line feeds and shortcodes count outside the blocks of the block editor.
    WordPress,
    /// Line feeds are spaces.
    Plain,
}

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
    /// Whether only subscribers of the site may read a part of the text.
    pub restricted: bool,
    /// A line for each part of the source that was changed or left out.
    pub notes: Notes,
}

/// Converts a text of WordPress into a body. Every input has a result; the caller checks its [`count`].
pub fn body(html: &str, attachments: &dyn Attachments) -> Converted {
    let mut walker = Walker::new(attachments, Dialect::WordPress);
    let visible = editor::visible(html, &mut walker);
    let elements = shortcodes::replace(&visible, &mut walker);
    converted(source::parse(&elements), walker)
}

/// Returns a text of WordPress without the blocks that readers of the site do not see.
pub fn visible(html: &str) -> Cow<'_, str> {
    editor::visible(html, &mut Walker::new(&NoAttachments, Dialect::WordPress))
}

/// Returns whether a comment opens a block that readers of the site do not see.
pub fn is_hidden(comment: &str) -> bool {
    let inner = comment.strip_prefix("<!--").and_then(|rest| rest.strip_suffix("-->"));
    inner.and_then(editor::Opening::parse).is_some_and(|opening| opening.is_hidden())
}

/// Converts plain HTML into a body, unless that would take too long. The caller checks its [`count`].
pub(crate) fn plain_body(html: &str) -> Option<Converted> {
    Some(converted(parse_plain(html, PLAIN_BOUNDS.steps)?.0, Walker::new(&NoAttachments, Dialect::Plain)))
}

/// Converts plain HTML of another site into a body, with the URLs that `resolve` returns, unless that would take more
/// steps. Also returns the steps that the parser took, and the number of forbidden characters that are left out.
pub(crate) fn foreign_body(
    html: &str,
    resolve: &dyn Fn(&str) -> Option<String>,
    steps: usize,
) -> Option<(Converted, usize, usize)> {
    let ((mut tree, flattened), steps) = parse_plain(html, steps.min(PLAIN_BOUNDS.steps))?;
    let omitted = links::prepare(&mut tree, resolve);
    Some((converted((tree, flattened), Walker::new(&NoAttachments, Dialect::Plain)), steps, omitted))
}

fn parse_plain(html: &str, steps: usize) -> Option<((scraper::Html, bool), usize)> {
    if html.matches('&').count() > MAX_REFERENCES {
        return None;
    }
    source::parse_within(html, Bounds { steps, ..PLAIN_BOUNDS })
}

fn converted((mut tree, flattened): (scraper::Html, bool), mut walker: Walker<'_>) -> Converted {
    cards::simplify(&mut tree, &mut walker.notes);
    if flattened {
        walker.drop_markup(|| source::FLATTENED.to_owned());
    }
    let blocks = walker.fragment(&tree);
    let Walker { raw_html, dropped, restricted, notes, .. } = walker;
    let restricted = !restricted.is_empty();
    Converted { body: v1::Body { blocks }, raw_html, dropped, restricted, notes }
}

/// Returns the words of a piece of HTML: entities decoded, markup stripped, white space collapsed.
pub fn plain(html: &str) -> String {
    if !html.contains(['<', '&']) {
        return collapse(html);
    }
    let (tree, _) = source::parse(html);
    collapse(&markup::text_of(tree.tree.root()))
}

/// Returns the words of a short text that may hold markup, such as a title, a name or an alternative text. Signs that
/// begin no markup are words, too: `List<String>`.
pub fn text(html: &str) -> String {
    plain(&literal::escape_signs(html))
}

/// Converts a short text that may hold markup, such as a caption, into spans. Signs are treated as in [`text`].
pub fn spans(html: &str) -> Vec<v1::Span> {
    let (tree, _) = source::parse(&literal::escape_signs(html));
    let mut walker = Walker::new(&NoAttachments, Dialect::WordPress);
    runs::join(walker.fragment(&tree)).0
}

/// Returns the number of blocks, including nested ones.
pub fn count(body: &v1::Body) -> usize {
    fn of(block: &v1::Block) -> usize {
        1 + nested(block).map(of).sum::<usize>()
    }
    body.blocks.iter().map(of).sum()
}

/// Returns the blocks directly within a block, in order.
pub fn nested(block: &v1::Block) -> impl Iterator<Item = &v1::Block> {
    let (blocks, items, rows): (&[v1::Block], &[v1::ListItem], &[v1::TableRow]) = match &block.kind {
        Some(Kind::List(list)) => (&[], &list.items, &[]),
        Some(Kind::Quote(quote)) => (&quote.blocks, &[], &[]),
        Some(Kind::LivePost(post)) => (&post.blocks, &[], &[]),
        Some(Kind::Table(table)) => (&[], &[], &table.rows),
        _ => (&[], &[], &[]),
    };
    let cells = rows.iter().flat_map(|row| &row.cells).flat_map(|cell| &cell.blocks);
    blocks.iter().chain(items.iter().flat_map(|item| &item.blocks)).chain(cells)
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
