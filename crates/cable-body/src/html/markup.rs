//! Queries on the parsed tree.

use ego_tree::iter::Edge;
use scraper::{ElementRef, Node};

pub(super) type NodeRef<'a> = ego_tree::NodeRef<'a, Node>;

/// Returns whether the element is part of running text.
pub(super) fn is_inline(name: &str) -> bool {
    matches!(
        name,
        "a" | "abbr"
            | "acronym"
            | "b"
            | "bdi"
            | "bdo"
            | "big"
            | "blink"
            | "cite"
            | "code"
            | "data"
            | "del"
            | "dfn"
            | "em"
            | "font"
            | "i"
            | "ins"
            | "kbd"
            | "label"
            | "mark"
            | "nobr"
            | "q"
            | "rb"
            | "rp"
            | "rt"
            | "ruby"
            | "s"
            | "samp"
            | "small"
            | "span"
            | "strike"
            | "strong"
            | "sub"
            | "sup"
            | "time"
            | "tt"
            | "u"
            | "var"
            | "wbr"
    )
}

/// Returns whether an element has no block of its own, only those within it.
pub(super) fn is_wrapper(name: &str) -> bool {
    matches!(
        name,
        "p" | "div"
            | "section"
            | "article"
            | "main"
            | "header"
            | "footer"
            | "aside"
            | "nav"
            | "address"
            | "center"
            | "hgroup"
            | "figcaption"
            | "picture"
            | "li"
            | "html"
            | "body"
            | "head"
            | "title"
            | "legend"
            | "summary"
            | "dt"
            | "dd"
            | "option"
            | "template"
            | "slot"
            | "noscript"
    )
}

/// Returns the text below a node without that of scripts and styles. The text of block elements is separated from the
/// text around it.
pub(super) fn text_of(node: NodeRef<'_>) -> String {
    text_without(node, |_| false)
}

/// Returns the same as [`text_of`], without the content of the elements for which `skip` is true.
pub(super) fn text_without(node: NodeRef<'_>, skip: impl Fn(ElementRef<'_>) -> bool) -> String {
    let mut text = String::new();
    let mut skipped = 0_usize;
    for edge in node.traverse() {
        let (node, open) = match edge {
            Edge::Open(node) => (node, true),
            Edge::Close(node) => (node, false),
        };
        if let Some(element) = ElementRef::wrap(node) {
            let name = element.value().name();
            if matches!(name, "script" | "style") || skip(element) {
                skipped = if open { skipped + 1 } else { skipped - 1 };
            } else if name == "br" {
                text.push_str(if open { "\n" } else { "" });
            } else if !is_inline(name) {
                text.push(' ');
            }
        } else if let (Node::Text(part), true, 0) = (node.value(), open, skipped) {
            text.push_str(part);
        }
    }
    text
}

/// Returns whether a class of the element contains the word.
pub(super) fn has_class(element: ElementRef<'_>, word: &str) -> bool {
    element.value().classes().any(|class| class.contains(word))
}

/// Returns whether the element is the caption of a figure.
pub(super) fn is_caption(element: ElementRef<'_>) -> bool {
    let class = |word| element.value().classes().any(|class| class == word);
    element.value().name() == "figcaption" || class("wp-caption-text") || class("gallery-caption")
}

/// Returns the elements below this one, without the element itself.
pub(super) fn below(element: ElementRef<'_>) -> impl Iterator<Item = ElementRef<'_>> {
    element.descendants().skip(1).filter_map(ElementRef::wrap)
}

/// Returns a number from an attribute.
pub(super) fn number(element: ElementRef<'_>, attribute: &str) -> Option<i32> {
    element.attr(attribute)?.trim().trim_end_matches("px").parse().ok().filter(|n| *n > 0)
}

/// Returns whether only white space and comments follow among the node's siblings.
pub(super) fn is_last(node: NodeRef<'_>) -> bool {
    node.next_siblings().all(|next| match next.value() {
        Node::Text(text) => text.trim().is_empty(),
        other => other.is_comment(),
    })
}
