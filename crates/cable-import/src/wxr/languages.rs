//! The languages of posts, and the groups of their translations, which the plug-in Polylang stores as taxonomies.

use std::collections::HashMap;

use super::{Element, site::Site};
use crate::piece::language;

/// The taxonomy of languages. Its terms describe the locale.
pub(super) const LANGUAGE: &str = "language";

/// The taxonomy of translations. Each of its terms is a group of posts.
const TRANSLATIONS: &str = "post_translations";

/// The taxonomies that become fields of an article.
pub(super) const TAXONOMIES: [&str; 2] = [LANGUAGE, TRANSLATIONS];

/// The languages that an export lists.
#[derive(Debug, Default)]
pub(super) struct Languages {
    /// The locales by slug, such as `fr_FR` by `fr`.
    locales: HashMap<String, String>,
}

impl Languages {
    /// Collects the locale of a language from its term.
    pub(super) fn add(&mut self, slug: &str, description: &str) {
        if let Some(locale) = locale_of(description) {
            self.locales.insert(slug.to_owned(), locale.to_owned());
        }
    }

    /// Returns the language of a post as a BCP 47 tag; that of the site if the post states none.
    pub(super) fn of_post(&self, site: &Site, item: &Element) -> String {
        let slug = term(item, LANGUAGE);
        let stated = self.locales.get(slug).map_or_else(|| language(slug), |locale| language(locale));
        if stated.is_empty() { site.language() } else { stated }
    }
}

/// Returns the id of the group of translations that a post belongs to; empty if it belongs to none.
pub(super) fn group_of_post(site: &Site, item: &Element) -> String {
    site.id(term(item, TRANSLATIONS))
}

/// Returns the slug of the first term of a taxonomy; empty if the post has none.
fn term<'a>(item: &'a Element, taxonomy: &str) -> &'a str {
    let mut fields = item.all("category").filter(|field| field.domain.as_deref() == Some(taxonomy));
    fields.find_map(|field| field.nicename.as_deref()).unwrap_or_default().trim()
}

/// Returns the locale of a description, which is a serialised array of PHP: `a:3:{s:6:"locale";s:5:"fr_FR";...}`.
fn locale_of(description: &str) -> Option<&str> {
    let (_, rest) = description.split_once("\"locale\";")?;
    let (_, rest) = rest.split_once('"')?;
    let (locale, _) = rest.split_once('"')?;
    Some(locale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locales_are_read_from_serialised_arrays() {
        let description = "a:3:{s:6:\"locale\";s:5:\"fr_FR\";s:3:\"rtl\";i:0;s:9:\"flag_code\";s:2:\"fr\";}";
        assert_eq!(locale_of(description), Some("fr_FR"));
        for description in ["", "French", "a:1:{s:6:\"locale\";", "a:1:{s:6:\"locale\";s:5:\"fr"] {
            assert_eq!(locale_of(description), None, "{description}");
        }
    }
}
