//! The synced patterns of the block editor, which an export lists as items, and posts show by their number.

use std::{borrow::Cow, collections::HashMap};

use cable_body::html;

use super::Element;

/// The post type of synced patterns.
pub(super) const POST_TYPE: &str = "wp_block";

/// The block that shows a pattern. WordPress writes it with one space before its attributes.
const BLOCK: &str = "<!-- wp:block {";

/// The maximum number of bytes of all patterns of an export.
const MAX_BYTES: usize = 16 << 20;

/// The maximum depth of patterns within patterns.
const MAX_DEPTH: usize = 4;

/// The patterns that an export lists.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    texts: HashMap<u64, String>,
    bytes: usize,
}

impl Patterns {
    /// Collects a pattern that readers see.
    pub(super) fn add(&mut self, item: &Element) {
        let text = item.raw("content:encoded");
        let is_public = item.get("wp:status") == "publish" && item.get("wp:post_password").is_empty();
        let Ok(id) = item.get("wp:post_id").parse() else { return };
        if is_public && self.bytes + text.len() <= MAX_BYTES {
            self.bytes += text.len();
            self.texts.entry(id).or_insert_with(|| text.to_owned());
        }
    }

    /// Returns a text with the patterns that it shows. A pattern that is missing, too deep or too long stays a block by
    /// its number.
    pub(super) fn insert<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for _ in 0..MAX_DEPTH {
            match self.insert_once(&text) {
                Some(longer) => text = longer.into(),
                None => break,
            }
        }
        text
    }

    fn insert_once(&self, text: &str) -> Option<String> {
        let mut out = String::new();
        let mut rest = text;
        let mut is_changed = false;
        while let Some(at) = rest.find(BLOCK) {
            let end = rest[at..].find("-->").map_or(rest.len(), |end| at + end + "-->".len());
            let room = html::MAX_BYTES.saturating_sub(out.len() + rest.len());
            let pattern = reference(&rest[at..end]).and_then(|id| self.texts.get(&id));
            out.push_str(&rest[..at]);
            match pattern.filter(|pattern| pattern.len() <= room) {
                Some(pattern) => {
                    out.push_str(pattern);
                    is_changed = true;
                }
                None => out.push_str(&rest[at..end]),
            }
            rest = &rest[end..];
        }
        out.push_str(rest);
        is_changed.then_some(out)
    }
}

/// Returns the number of the pattern that a block shows: `<!-- wp:block {"ref":77} /-->`. A hidden block shows none.
fn reference(comment: &str) -> Option<u64> {
    if html::is_hidden(comment) {
        return None;
    }
    let attributes = comment.strip_prefix(&BLOCK[..BLOCK.len() - 1])?.strip_suffix("-->")?.trim_end();
    let attributes = attributes.strip_suffix('/')?;
    serde_json::from_str::<serde_json::Value>(attributes).ok()?.get("ref")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[(u64, &str)]) -> Patterns {
        Patterns { texts: texts.iter().map(|(id, text)| (*id, (*text).to_owned())).collect(), bytes: 0 }
    }

    #[test]
    fn patterns_replace_their_blocks_also_within_each_other() {
        let patterns = patterns(&[(7, "<p>seven <!-- wp:block {\"ref\":8} /--></p>"), (8, "eight")]);
        for (text, expected) in [
            ("a <!-- wp:block {\"ref\":8} /--> b", "a eight b"),
            ("<!-- wp:block {\"ref\":7} /-->", "<p>seven eight</p>"),
            (
                "<!-- wp:block {\"ref\":8,\"content\":{\"x\":1}} /--><!-- wp:block {\"ref\":8} /-->",
                "eighteight",
            ),
            ("<!-- wp:block {\"ref\":9} /-->", "<!-- wp:block {\"ref\":9} /-->"),
            ("<!-- wp:block {\"ref\":8}", "<!-- wp:block {\"ref\":8}"),
            ("no pattern", "no pattern"),
        ] {
            assert_eq!(patterns.insert(text), expected, "{text}");
        }
    }

    #[test]
    fn patterns_that_contain_themselves_end() {
        let block = "<!-- wp:block {\"ref\":7} /-->";
        let text = patterns(&[(7, &format!("{block}x{block}"))]).insert(block).into_owned();
        assert!(text.matches('x').count() == 15 && text.contains(block), "{text}");
        let doubled = patterns(&[(7, &block.repeat(100_000))]).insert(block).into_owned();
        assert!(doubled.len() <= html::MAX_BYTES);
    }

    #[test]
    fn a_hidden_block_shows_no_pattern() {
        let hidden = "<!-- wp:block {\"ref\":7,\"metadata\":{\"blockVisibility\":false}} /-->";
        assert_eq!(patterns(&[(7, "Words")]).insert(hidden), hidden);
        assert_eq!(patterns(&[(7, "Words")]).insert("<!-- wp:block {\"ref\":7} /-->"), "Words");
    }
}
