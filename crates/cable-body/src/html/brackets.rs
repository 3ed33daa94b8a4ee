//! Brackets that no known shortcode has replaced: shortcodes of plug-ins, and prose such as `[sic]`.

use std::collections::{BTreeMap, HashSet};

use super::notes::Notes;

/// The maximum number of names that are remembered for one text.
const MAX_NAMES: usize = 1_000;

/// Shortcodes of WordPress and of widespread plug-ins that occur without attributes.
const KNOWN: [&str; 27] = [
    "archives",
    "audio",
    "caption",
    "contact-field",
    "contact-form",
    "contact-form-7",
    "embed",
    "gallery",
    "googlemaps",
    "gravityform",
    "jetpack-related-posts",
    "playlist",
    "portfolio",
    "products",
    "sitemap",
    "slideshow",
    "subscribe2",
    "toc",
    "video",
    "wpforms",
    "ninja-forms",
    "testimonials",
    "googleapps",
    "soundcloud",
    "youtube",
    "vimeo",
    "tweet",
];

/// The shortcodes of one text.
#[derive(Debug, Default)]
pub(super) struct Shortcodes {
    /// The names found so far with attributes. Their closing forms are shortcodes, too.
    names: HashSet<String>,
    /// The names that have a closing tag in the source, and those of which the text had an opening one.
    closed: HashSet<String>,
    opened: HashSet<String>,
    /// The number of tags that stay in the text, by name.
    counts: BTreeMap<String, usize>,
}

/// A tag in brackets.
struct Tag<'a> {
    name: &'a str,
    is_closing: bool,
    /// Everything after the name.
    rest: &'a str,
}

impl<'a> Tag<'a> {
    /// Parses the text within brackets.
    fn parse(inner: &'a str) -> Option<Self> {
        let (inner, is_closing) = inner.strip_prefix('/').map_or((inner, false), |inner| (inner, true));
        let end = inner.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')));
        let (name, rest) = inner.split_at(end.unwrap_or(inner.len()));
        let is_name = name.len() >= 2 && name.starts_with(|c: char| c.is_ascii_alphabetic());
        is_name.then_some(Tag { name, is_closing, rest })
    }

    fn has_attributes(&self) -> bool {
        self.rest.split_whitespace().any(is_attribute)
    }
}

impl Shortcodes {
    /// Returns the name of a shortcode that fills a line: `[contact-form id="1"]`, `[/contact-form]`. A name that is not
    /// known needs an attribute: other brackets are prose.
    pub(super) fn name_of<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        let inner = line.trim().strip_prefix('[')?.strip_suffix(']')?;
        let tag = Tag::parse(inner)?;
        let Tag { name, rest, .. } = tag;
        if !(rest.is_empty() || rest.starts_with(|c: char| c.is_whitespace() || c == '/' || c == ']')) {
            return None;
        }
        let has_attributes = tag.has_attributes();
        if has_attributes && self.names.len() < MAX_NAMES {
            self.names.insert(name.to_owned());
        }
        // Words of prose have no underscore.
        let is_known = KNOWN.contains(&name) || name.contains('_') || self.names.contains(name);
        (is_known || has_attributes).then_some(name)
    }

    /// Records the names of the closing tags of a source.
    pub(super) fn read_closing_tags(&mut self, source: &str) {
        for (at, start) in source.match_indices("[/") {
            let rest = &source[at + start.len()..];
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')));
            let Some(end) = end.filter(|end| rest[*end..].starts_with(']')) else { continue };
            if self.closed.len() < MAX_NAMES && end > 1 && !self.closed.contains(&rest[..end]) {
                self.closed.insert(rest[..end].to_owned());
            }
        }
    }

    /// Counts the tags of shortcodes within a text. Those of prose have neither an underscore in their name, nor
    /// attributes, nor a closing tag.
    pub(super) fn count(&mut self, text: &str) {
        for part in text.split('[').skip(1) {
            let tag = part.split_once(']').and_then(|(inner, _)| Tag::parse(inner));
            if let Some(tag) = tag.filter(|tag| self.is_shortcode(tag)) {
                if !tag.is_closing && self.opened.len() < MAX_NAMES {
                    self.opened.insert(tag.name.to_owned());
                }
                if self.counts.len() < MAX_NAMES || self.counts.contains_key(tag.name) {
                    *self.counts.entry(tag.name.to_owned()).or_default() += 1;
                }
            }
        }
    }

    fn is_shortcode(&self, tag: &Tag<'_>) -> bool {
        let is_form = tag.rest.is_empty() || tag.rest.starts_with(|c: char| c.is_whitespace() || c == '/');
        let is_opened = self.opened.contains(tag.name) || tag.name.contains('_');
        if tag.is_closing {
            return tag.rest.is_empty() && is_opened;
        }
        let has_value = tag.rest.starts_with('=') && self.closed.contains(tag.name);
        has_value
            || (is_form && (tag.name.contains('_') || tag.has_attributes() || self.closed.contains(tag.name)))
    }

    /// Reports the tags that stay in the text.
    pub(super) fn report(&self, notes: &mut Notes) {
        for (name, count) in &self.counts {
            notes.add(|| format!("shortcode [{name}]: stays in the text, tags: {count}"));
        }
    }
}

fn is_attribute(word: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    word.split_once('=').is_some_and(|(name, _)| !name.is_empty() && name.chars().all(is_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_prose_are_no_shortcodes() {
        for line in [
            "[figure 4: each boat has one crew, more or less]",
            "[sic]",
            "[...]",
            "[Editor's note: the tide was low]",
            "[laughter]",
            "[table 2]",
            "[see a = b]",
            "[/sarcasm]",
            "[1]",
            "[]",
            "[so-called]",
            "[box=1]",
        ] {
            assert_eq!(Shortcodes::default().name_of(line), None, "{line}");
        }
        for (line, name) in [
            ("[contact-form]", "contact-form"),
            ("[recent_posts]", "recent_posts"),
            (" [box type=\"info\"] ", "box"),
            ("[chart id=3 /]", "chart"),
            ("[/contact-form]", "contact-form"),
            ("[Table id=3]", "Table"),
        ] {
            assert_eq!(Shortcodes::default().name_of(line), Some(name), "{line}");
        }
    }

    #[test]
    fn the_end_of_a_shortcode_is_one() {
        let mut shortcodes = Shortcodes::default();
        assert_eq!(shortcodes.name_of("[/box]"), None);
        assert_eq!(shortcodes.name_of("[box type=info]"), Some("box"));
        assert_eq!(shortcodes.name_of("[/box]"), Some("box"));
        assert_eq!(shortcodes.name_of("[/crate]"), None);
    }
}
