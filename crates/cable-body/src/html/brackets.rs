//! Lines in brackets that no known shortcode has replaced: shortcodes of plug-ins, and prose such as `[sic]`.

use std::collections::HashSet;

/// The maximum number of names that are remembered for one text.
const MAX_NAMES: usize = 1_000;

/// Shortcodes of WordPress and of widespread plug-ins that occur without attributes.
const KNOWN: [&str; 26] = [
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
];

/// The shortcodes of one text.
#[derive(Debug, Default)]
pub(super) struct Shortcodes {
    /// The names found so far with attributes. Their closing forms are shortcodes, too.
    names: HashSet<String>,
}

impl Shortcodes {
    /// Returns the name of a shortcode that fills a line: `[contact-form id="1"]`, `[/contact-form]`. A name that is not
    /// known needs an attribute: other brackets are prose.
    pub(super) fn name_of<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        let inner = line.trim().strip_prefix('[')?.strip_suffix(']')?;
        let inner = inner.strip_prefix('/').unwrap_or(inner);
        let end = inner.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')));
        let (name, rest) = inner.split_at(end.unwrap_or(inner.len()));
        let is_form =
            rest.is_empty() || rest.starts_with(|c: char| c.is_whitespace() || c == '/' || c == ']');
        if !is_form || name.len() < 2 || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        let has_attributes = rest.split_whitespace().any(is_attribute);
        if has_attributes && self.names.len() < MAX_NAMES {
            self.names.insert(name.to_owned());
        }
        // Words of prose have no underscore.
        let is_known = KNOWN.contains(&name) || name.contains('_') || self.names.contains(name);
        (is_known || has_attributes).then_some(name)
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
