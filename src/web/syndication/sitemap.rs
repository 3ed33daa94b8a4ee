//! Sitemaps, by sitemaps.org and the rules of Google News.

use super::{MAX_MONTH_PAGES, Site, entry::rfc3339, month_path, urls, xml::Xml};
use crate::{entry::SitePage, store::listing::Month};

const NAMESPACE: &str = "http://www.sitemaps.org/schemas/sitemap/0.9";
const NEWS: &str = "http://www.google.com/schemas/sitemap-news/0.9";

/// The maximum number of sitemaps in an index (sitemaps.org).
const MAX_SITEMAPS: usize = 50_000;

/// Writes the index: for each month, the newest first, its sitemaps.
pub(super) fn write_index(site: &Site, months: &[(Month, usize)]) -> Vec<u8> {
    let mut xml = Xml::new();
    xml.open("sitemapindex", &[("xmlns", NAMESPACE)]);
    let parts = months.iter().flat_map(|(month, articles)| {
        (1..=articles.div_ceil(MAX_MONTH_PAGES)).map(|part| month_path(*month, part))
    });
    for path in parts.take(MAX_SITEMAPS) {
        xml.open("sitemap", &[]);
        xml.text("loc", &urls::page(&site.url, &path));
        xml.close("sitemap");
    }
    xml.close("sitemapindex");
    xml.finish()
}

/// Writes the sitemap of a month.
pub(super) fn write_month(site: &Site, pages: &[SitePage]) -> Vec<u8> {
    let mut xml = Xml::new();
    xml.open("urlset", &[("xmlns", NAMESPACE)]);
    for (url, page) in canonical(site, pages) {
        xml.open("url", &[]);
        xml.text("loc", &url);
        xml.text("lastmod", &rfc3339(page.change_time));
        xml.close("url");
    }
    xml.close("urlset");
    xml.finish()
}

/// Writes the news sitemap.
pub(super) fn write_news(site: &Site, pages: &[SitePage]) -> Vec<u8> {
    let mut xml = Xml::new();
    xml.open("urlset", &[("xmlns", NAMESPACE), ("xmlns:news", NEWS)]);
    for (url, page) in canonical(site, pages) {
        xml.open("url", &[]);
        xml.text("loc", &url);
        xml.open("news:news", &[]);
        xml.open("news:publication", &[]);
        xml.text("news:name", &site.name);
        let language = news_language(&page.language).or_else(|| news_language(&site.language));
        xml.text("news:language", &language.unwrap_or_else(|| "en".to_owned()));
        xml.close("news:publication");
        xml.text("news:publication_date", &rfc3339(page.publish_time));
        xml.text("news:title", &page.headline);
        xml.close("news:news");
        xml.close("url");
    }
    xml.close("urlset");
    xml.finish()
}

/// Returns the pages that are the canonical ones of their articles, with their addresses.
fn canonical<'a>(site: &'a Site, pages: &'a [SitePage]) -> impl Iterator<Item = (String, &'a SitePage)> {
    pages.iter().filter_map(|page| {
        let url = urls::page(&site.url, &page.path);
        let canonical = Some(&page.canonical_url).filter(|canonical| !canonical.is_empty());
        let is_own =
            canonical.is_none_or(|canonical| urls::absolute(&site.url, &page.path, canonical) == url);
        is_own.then_some((url, page))
    })
}

/// Returns a language as Google News writes it: two or three letters, or one of two forms of Chinese.
fn news_language(tag: &str) -> Option<String> {
    let tag = tag.to_ascii_lowercase();
    match &tag[..] {
        "zh-cn" | "zh-hans" | "zh-hans-cn" => return Some("zh-cn".to_owned()),
        "zh-tw" | "zh-hant" | "zh-hant-tw" => return Some("zh-tw".to_owned()),
        _ => {}
    }
    let code = tag.split('-').next().filter(|code| (2..=3).contains(&code.len()))?;
    Some(code.to_owned())
}
