//! The texts for search engines that plug-ins store in custom fields: descriptions, titles, canonical URLs and main
//! categories.

use cable_body::html;
use cable_proto::{limit, v1};

use super::{Element, bounded};
use crate::piece::web_url;

/// The custom fields of Yoast, Rank Math, All in One SEO, SEOPress and The SEO Framework. The first that is set counts.
const DESCRIPTIONS: [&str; 5] = [
    "_yoast_wpseo_metadesc",
    "rank_math_description",
    "_aioseo_description",
    "_seopress_titles_desc",
    "_genesis_description",
];
const TITLES: [&str; 5] =
    ["_yoast_wpseo_title", "rank_math_title", "_aioseo_title", "_seopress_titles_title", "_genesis_title"];
const CANONICAL_URLS: [&str; 4] = [
    "_yoast_wpseo_canonical",
    "rank_math_canonical_url",
    "_seopress_robots_canonical",
    "_genesis_canonical_uri",
];
const MAIN_CATEGORIES: [&str; 3] =
    ["_yoast_wpseo_primary_category", "rank_math_primary_category", "_seopress_robots_primary_cat"];

/// The custom fields that are taken.
type Taken = Vec<&'static str>;

/// Sets the summary, the headline for search engines and the canonical URL.
pub(super) fn set(article: &mut v1::Article, item: &Element, taken: &mut Taken, notes: &mut Vec<String>) {
    let excerpt = html::text(item.raw("excerpt:encoded"));
    let description = text(item, &DESCRIPTIONS);
    if let Some((key, description)) = &description
        && (excerpt.is_empty() || excerpt == *description)
    {
        taken.push(key);
    }
    let summary = match description {
        Some((_, description)) if excerpt.is_empty() => description,
        _ => excerpt,
    };
    article.summary = bounded(&summary, &limit::PARAGRAPH, "summary", notes);
    if let Some((key, title)) = text(item, &TITLES) {
        taken.push(key);
        let text = bounded(&title, &limit::LINE, "headline for search engines", notes);
        article.alternative_headlines.push(v1::AlternativeHeadline { role: "seo".into(), text });
    }
    let Some((key, url)) = field(item, &CANONICAL_URLS) else { return };
    let Some(url) = web_url(url) else {
        notes.push(format!("canonical URL omitted: {:?} is not a URL", html::head(url, 200)));
        return;
    };
    taken.push(key);
    if url != item.get("link") {
        url.clone_into(&mut article.canonical_url);
    }
}

/// Returns the number of the category that an editor chose as the main one, and its custom field.
pub(super) fn main_category(item: &Element) -> Option<(&'static str, &str)> {
    field(item, &MAIN_CATEGORIES)
}

/// Returns the text of the first field that is set. A text with variables such as `%%title%%` or `%title%` is a template,
/// which only the plug-in fills.
fn text(item: &Element, keys: &'static [&'static str]) -> Option<(&'static str, String)> {
    let (key, value) = field(item, keys)?;
    let text = html::text(value);
    (!text.is_empty() && !is_template(&text)).then_some((key, text))
}

fn field<'a>(item: &'a Element, keys: &'static [&'static str]) -> Option<(&'static str, &'a str)> {
    keys.iter().find_map(|key| Some((*key, item.meta(key)?)))
}

/// Returns whether a text has a variable of a plug-in: `%%title%%`, `%title%` or `#post_title`.
fn is_template(text: &str) -> bool {
    let is_name = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'-'))
    };
    let is_between = |word: &str| word.split('%').skip(1).step_by(2).any(is_name);
    let is_hash = |word: &str| word.strip_prefix('#').is_some_and(|name| name.contains('_') && is_name(name));
    text.contains("%%") || text.split_whitespace().any(|word| is_between(word) || is_hash(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_of_plugins_are_no_texts() {
        for template in ["%%title%% %%sep%%", "%title% - Lantern", "Read %excerpt%", "#post_title here"] {
            assert!(is_template(template), "{template}");
        }
        for text in ["Up 5% in March", "5%-10% less", "100 % sure", "#metoo marches", "50%"] {
            assert!(!is_template(text), "{text}");
        }
    }
}
