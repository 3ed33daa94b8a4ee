//! The parser of a text, and its tokens. Elements that are nested too deeply become text before they are parsed.
//!
//! An HTML parser searches its open elements for each tag, so unbounded depth would cost quadratic time. A text that
//! would cost the parser more than the bounds allow is flattened, too.

use std::{collections::HashMap, ops::Range};

use ego_tree::iter::Edge;
use scraper::Html;

use super::markup::is_inline;
use crate::sanitise::{
    self,
    work::{self, Bounds},
};

/// The maximum number of open elements. Real pages have a few dozen.
const MAX_OPEN: usize = 100;
/// The maximum depth of a tree that is walked. The parser opens some elements on its own.
const MAX_TREE_DEPTH: usize = 3 * MAX_OPEN;

/// The bounds on the cost of parsing one text: about 0.3 s, a hundred times the cost of a long article.
const PARSE_BOUNDS: Bounds =
    Bounds { bytes: super::MAX_BYTES, tags: 200_000, attributes: 100, open: 600, steps: 10_000_000 };

/// The note on a text whose markup was removed.
pub(super) const FLATTENED: &str =
    "nested too deeply or too costly to parse: all markup but paragraphs and pictures left out";

/// Parses a text without shortcodes. Also returns whether markup was removed because the text was nested too deeply.
pub(super) fn parse(html: &str) -> (Html, bool) {
    if !is_deep(html) && work::steps(html, PARSE_BOUNDS).is_some() {
        return parse_measured(html);
    }
    (Html::parse_fragment(&flatten(html)), true)
}

/// Parses a text without shortcodes, unless that would exceed the bounds. Markup is removed only if the text is nested
/// too deeply. Also returns the steps that the parser took.
pub(super) fn parse_within(html: &str, bounds: Bounds) -> Option<((Html, bool), usize)> {
    let is_small = html.len() <= bounds.bytes && work::tags(html) <= bounds.tags;
    if is_small && is_deep(html) {
        let flat = flatten(html);
        let steps = work::STEPS_OF_FLAT_TAG * work::tags(&flat);
        return Some(((Html::parse_fragment(&flat), true), steps));
    }
    let steps = work::steps(html, bounds).filter(|_| is_small)?;
    Some((parse_measured(html), steps))
}

/// Parses a text whose cost is within bounds.
fn parse_measured(html: &str) -> (Html, bool) {
    let tree = Html::parse_fragment(html);
    // The check before parsing limits the parser's time. This check of the resulting tree is the authoritative one.
    if is_deep_tree(&tree) { (Html::parse_fragment(&flatten(html)), true) } else { (tree, false) }
}

fn is_deep_tree(tree: &Html) -> bool {
    let mut depth = 0_usize;
    tree.tree.root().traverse().any(|edge| {
        match edge {
            Edge::Open(_) => depth += 1,
            Edge::Close(_) => depth -= 1,
        }
        depth > MAX_TREE_DEPTH
    })
}

/// A lexical part of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Text,
    Open(&'a str),
    Close(&'a str),
    /// A comment or a declaration.
    Comment,
    /// The content of an element that contains no markup.
    Raw(&'a str),
}

pub(super) struct Tokens<'a> {
    source: &'a str,
    at: usize,
    raw: Option<&'a str>,
}

/// Returns the tokens of a source.
pub(super) fn tokens(source: &str) -> Tokens<'_> {
    Tokens { source, at: 0, raw: None }
}

impl Tokens<'_> {
    /// Continues after a part of the source that is no markup.
    pub(super) fn resume_at(&mut self, at: usize) {
        self.at = at;
        self.raw = None;
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = (Range<usize>, Token<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.at;
        let rest = self.source.get(start..).filter(|rest| !rest.is_empty())?;
        let (length, token) = match self.raw.take() {
            Some(name) => (end_of_raw(rest, name), Token::Raw(name)),
            None => token(rest),
        };
        self.at += length;
        if let Token::Open(name) = token
            && is_raw_text(name)
            && end_of_raw(&self.source[self.at..], name) > 0
        {
            self.raw = Some(name);
        }
        Some((start..self.at, token))
    }
}

fn token(rest: &str) -> (usize, Token<'_>) {
    if let Some(comment) = rest.strip_prefix("<!--") {
        return (4 + end_of_comment(comment), Token::Comment);
    }
    let name_at = if rest.starts_with("</") { 2 } else { 1 };
    if rest.starts_with('<') && rest[name_at..].starts_with(|c: char| c.is_ascii_alphabetic()) {
        let named = &rest[name_at..];
        let name = &named[..named.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(named.len())];
        let end = end_of_tag(rest);
        return (end, if name_at == 2 { Token::Close(name) } else { Token::Open(name) });
    }
    if rest.starts_with("<!") || rest.starts_with("<?") || rest.starts_with("</") {
        return (rest.find('>').map_or(rest.len(), |end| end + 1), Token::Comment);
    }
    let first = rest.chars().next().map_or(0, char::len_utf8);
    (rest[first..].find('<').map_or(rest.len(), |end| first + end), Token::Text)
}

fn end_of_comment(comment: &str) -> usize {
    if let Some(end) = [">", "->"].into_iter().find(|end| comment.starts_with(end)) {
        return end.len();
    }
    let mut from = 0;
    while let Some(at) = comment[from..].find("--").map(|at| from + at) {
        let end = ["-->", "--!>"].into_iter().find(|end| comment[at..].starts_with(end));
        if let Some(end) = end {
            return at + end.len();
        }
        from = at + 1;
    }
    comment.len()
}

/// Returns the end of a tag: the first `>` outside a quoted value.
pub(super) fn end_of_tag(rest: &str) -> usize {
    let mut quote = None;
    let mut value_next = false;
    for (at, byte) in rest.bytes().enumerate() {
        match (quote, byte) {
            (Some(open), close) if open == close => quote = None,
            (Some(_), _) => {}
            (None, b'>') => return at + 1,
            (None, b'"' | b'\'') if value_next => quote = Some(byte),
            _ => {}
        }
        value_next = byte == b'=' || (value_next && byte.is_ascii_whitespace());
    }
    rest.len()
}

fn end_of_raw(rest: &str, name: &str) -> usize {
    let mut from = 0;
    while let Some(at) = rest[from..].find("</").map(|at| from + at) {
        let named = rest.as_bytes().get(at + 2..at + 2 + name.len());
        if named.is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes())) {
            return at;
        }
        from = at + 2;
    }
    rest.len()
}

pub(super) fn is_any(name: &str, of: &[&str]) -> bool {
    of.iter().any(|other| other.eq_ignore_ascii_case(name))
}

fn is_raw_text(name: &str) -> bool {
    is_any(
        name,
        &["script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes", "noscript"],
    )
}

const VOID: [&str; 14] = [
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track",
    "wbr",
];
/// Elements that the parser closes on its own when the next one opens.
const SELF_CLOSING: [&str; 4] = ["p", "li", "dt", "dd"];
/// Elements that the parser closes in the same way, but not within foreign content.
const SELF_CLOSING_IN_TABLES: [&str; 7] = ["tr", "td", "th", "tbody", "thead", "tfoot", "option"];

fn is_deep(html: &str) -> bool {
    let mut open: HashMap<String, usize> = HashMap::new();
    let mut depth = 0;
    let mut foreign = false;
    for (_, token) in tokens(html) {
        match token {
            Token::Open(name) => {
                foreign |= is_any(name, &["svg", "math"]);
                let closes_itself =
                    is_any(name, &SELF_CLOSING) || (!foreign && is_any(name, &SELF_CLOSING_IN_TABLES));
                if !closes_itself && !is_any(name, &VOID) {
                    *open.entry(name.to_ascii_lowercase()).or_default() += 1;
                    depth += 1;
                }
            }
            Token::Close(name) => {
                if let Some(count @ 1..) = open.get_mut(&name.to_ascii_lowercase()) {
                    *count -= 1;
                    depth -= 1;
                }
            }
            _ => {}
        }
        if depth > MAX_OPEN {
            return true;
        }
    }
    false
}

/// Returns HTML with a space for each tag that the sanitiser removes and that ends a word, as that of a button does.
pub(super) fn separated(html: &str) -> String {
    let ends_word = |name: &str| {
        let name = name.to_ascii_lowercase();
        !is_inline(&name)
            && !matches!(name.as_str(), "script" | "style" | "wbr")
            && !sanitise::allows(&name, None)
    };
    let mut out = String::with_capacity(html.len());
    for (range, token) in tokens(html) {
        if let Token::Open(name) | Token::Close(name) = token
            && ends_word(name)
        {
            out.push(' ');
        }
        out.push_str(&html[range]);
    }
    out
}

/// Reduces the HTML to its words: only paragraphs, line breaks, dividers and pictures remain.
fn flatten(html: &str) -> String {
    let mut flat = String::with_capacity(html.len());
    for (range, token) in tokens(html) {
        let source = &html[range];
        match token {
            Token::Text => flat.push_str(&source.replace('<', "&lt;")),
            Token::Raw(name) if !is_any(name, &["script", "style"]) => {
                flat.push_str(&source.replace('<', "&lt;"));
            }
            Token::Open(name)
                if is_any(name, &["img"])
                    && !source[1..].contains('<')
                    && work::attributes(source) <= PARSE_BOUNDS.attributes =>
            {
                flat.push_str(source)
            }
            Token::Open(name) if is_any(name, &["br"]) => flat.push_str("<br>"),
            Token::Open(name) if is_any(name, &["hr"]) => flat.push_str("<hr>"),
            Token::Open(name) | Token::Close(name) if !is_inline(&name.to_ascii_lowercase()) => {
                flat.push_str("\n\n");
            }
            _ => {}
        }
    }
    flat
}
