//! The comments with which the block editor of WordPress delimits blocks: `<!-- wp:group {"align":"wide"} -->`. Blocks
//! that readers do not see are left out before the text is parsed, as WordPress does it.

use std::{borrow::Cow, ops::Range};

use serde_json::Value;

use super::blocks::Walker;

/// The view of premium content that readers see who have not logged in.
const LOGGED_OUT: &str = "premium-content/logged-out-view";

/// The blocks whose content only subscribers see.
const PREMIUM: [&str; 3] =
    ["jetpack/paywall", "premium-content/container", "premium-content/subscriber-view"];

/// A comment that opens a block.
pub(super) struct Opening<'a> {
    pub(super) name: &'a str,
    /// The attributes as JSON; empty if there are none.
    pub(super) attributes: &'a str,
    /// Whether the block has no HTML of its own.
    pub(super) is_void: bool,
}

impl<'a> Opening<'a> {
    /// Parses the text of a comment, such as `wp:paragraph {"align":"left"}`.
    pub(super) fn parse(comment: &'a str) -> Option<Self> {
        let comment = comment.trim().strip_prefix("wp:")?;
        let (header, is_void) = match comment.strip_suffix('/') {
            Some(header) => (header.trim_end(), true),
            None => (comment, false),
        };
        let (name, attributes) = header.split_once(char::is_whitespace).unwrap_or((header, ""));
        Some(Opening { name: name.strip_prefix("core/").unwrap_or(name), attributes, is_void })
    }

    /// Returns the attributes; null if there are none, or if they are not JSON.
    pub(super) fn values(&self) -> Value {
        serde_json::from_str(self.attributes).unwrap_or(Value::Null)
    }

    /// Returns whether WordPress, or the plug-in Block Visibility, shows the block to no reader.
    pub(super) fn is_hidden(&self) -> bool {
        if !self.attributes.contains("blockVisibility") {
            return false;
        }
        let values = self.values();
        let is = |path: &str, value: bool| values.pointer(path) == Some(&Value::Bool(value));
        is("/metadata/blockVisibility", false) || is("/blockVisibility/hideBlock", true)
    }
}

/// A comment that delimits a block.
enum Delimiter<'a> {
    Open(Opening<'a>),
    Close,
}

/// Returns the delimiters of a text, in order.
fn delimiters(html: &str) -> impl Iterator<Item = (Range<usize>, Delimiter<'_>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = at + html[at..].find("<!--")?;
            let inner = start + "<!--".len();
            let length = html[inner..].find("-->")?;
            at = inner + length + "-->".len();
            let comment = html[inner..inner + length].trim();
            let opening = Opening::parse(comment).map(Delimiter::Open);
            let found = opening.or_else(|| comment.starts_with("/wp:").then_some(Delimiter::Close));
            if let Some(delimiter) = found {
                return Some((start..at, delimiter));
            }
        }
    })
}

/// Returns the text without the blocks that readers do not see, and reports these.
pub(super) fn visible<'h>(html: &'h str, walker: &mut Walker<'_>) -> Cow<'h, str> {
    let mut out = String::new();
    let mut copied = 0;
    let mut delimiters = delimiters(html);
    while let Some((range, delimiter)) = delimiters.next() {
        let Delimiter::Open(opening) = delimiter else { continue };
        restrict(&opening, walker);
        let reason = match () {
            () if opening.is_hidden() => "readers do not see it",
            () if opening.name == LOGGED_OUT => "premium content: only readers who have not logged in see it",
            () => continue,
        };
        out.push_str(&html[copied..range.start]);
        let end = if opening.is_void { Some(range.end) } else { end_of_block(&mut delimiters) };
        let unclosed =
            if end.is_none() { ", and the rest of the text with it: its end is missing" } else { "" };
        walker.drop_markup(|| format!("wp:{}: left out, {reason}{unclosed}", opening.name));
        copied = end.unwrap_or(html.len());
    }
    if copied == 0 {
        return Cow::Borrowed(html);
    }
    out.push_str(&html[copied..]);
    Cow::Owned(out)
}

/// Returns the end of the block that the last delimiter opened. Like WordPress, it does not compare names.
fn end_of_block<'a>(delimiters: &mut impl Iterator<Item = (Range<usize>, Delimiter<'a>)>) -> Option<usize> {
    let mut depth = 1_usize;
    for (range, delimiter) in delimiters {
        match delimiter {
            Delimiter::Open(opening) => depth += usize::from(!opening.is_void),
            Delimiter::Close => depth -= 1,
        }
        if depth == 0 {
            return Some(range.end);
        }
    }
    None
}

/// Reports a block whose content only subscribers see.
fn restrict(opening: &Opening<'_>, walker: &mut Walker<'_>) {
    if let Some(name) = PREMIUM.into_iter().find(|name| *name == opening.name) {
        walker.restrict(name, || format!("premium content: wp:{name}: only subscribers may read it"));
    }
}
