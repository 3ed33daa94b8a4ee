//! A feed, its entries and their fields, as RSS, Atom and JSON Feed have them in common.

use std::collections::HashMap;

use jiff::{Timestamp, fmt::rfc2822, tz::TimeZone};

use super::{Site, media, urls};
use crate::{
    content::{Articles, Topic},
    wire::{
        fields,
        v1::{self, Access, BodyFormat, SourceKind},
    },
};

/// A feed, before it is written in a format.
pub(super) struct Feed<'a> {
    pub(super) site: &'a Site,
    pub(super) title: String,
    pub(super) description: String,
    /// The address of the section's page. For other feeds, that of the site.
    pub(super) page: String,
    /// The address of the feed itself.
    pub(super) address: String,
    /// The latest change of any entry or, if there are none, of the topic, in microseconds since 1970 UTC.
    pub(super) change_time: i64,
    articles: Articles,
    topics: HashMap<String, Topic>,
}

/// An entry of a feed. Times are in microseconds since 1970 UTC.
pub(super) struct Entry {
    /// The name of the article, which never changes.
    pub(super) name: String,
    pub(super) title: String,
    /// The address of the article's page, if it has one.
    pub(super) page: Option<String>,
    pub(super) summary: String,
    /// The body as HTML, if it may be republished.
    pub(super) content: Option<String>,
    pub(super) publish_time: i64,
    pub(super) change_time: i64,
    pub(super) authors: Vec<String>,
    /// The ids of the tags with their names.
    pub(super) categories: Vec<(String, String)>,
    pub(super) language: String,
    pub(super) copyright: String,
    pub(super) lead: Option<media::Lead>,
}

impl Entry {
    /// Returns the summary, or the title if there is none, in place of the body.
    pub(super) fn text(&self) -> &str {
        if self.summary.is_empty() { &self.title } else { &self.summary }
    }
}

impl<'a> Feed<'a> {
    pub(super) fn new(
        site: &'a Site,
        address: String,
        topic: Option<Topic>,
        articles: Articles,
        topics: HashMap<String, Topic>,
    ) -> Feed<'a> {
        let (name, about, path, time) = match topic {
            None => (String::new(), site.description.clone(), String::new(), None),
            Some(Topic::Tag(tag)) => (tag.display_name, tag.description, String::new(), tag.update_time),
            Some(Topic::Section(section)) => {
                (section.display_name, section.tagline, section.path, section.update_time)
            }
            Some(Topic::Author(author)) => {
                (author.display_name, author.bio, String::new(), author.update_time)
            }
        };
        let title = match name.is_empty() {
            true => site.name.clone(),
            false => format!("{} – {name}", site.name),
        };
        let changes = articles.heads().map(|article| change_time(&article));
        let change_time = changes.max().or(time.as_ref().map(fields::micros)).unwrap_or(0);
        let path = if path.is_empty() { "/" } else { &path };
        Feed {
            description: if about.is_empty() { title.clone() } else { about },
            title,
            page: urls::page(&site.url, path),
            address: format!("{}{address}", site.url),
            change_time,
            articles,
            topics,
            site,
        }
    }

    /// Returns the entries. Each article is decoded and rendered when the iterator returns its entry.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        self.articles.decoded().map(|mut article| {
            let content = self.content(&mut article);
            self.entry(&article, content)
        })
    }

    fn entry(&self, article: &v1::Article, content: Option<String>) -> Entry {
        let site = &self.site.url;
        let page = match (&article.path[..], &article.canonical_url[..]) {
            ("", "") => None,
            ("", canonical) => Some(urls::absolute(site, "", canonical)),
            (path, _) => Some(urls::page(site, path)),
        };
        let rights = article.rights.clone().unwrap_or_default();
        let summary = if article.summary.is_empty() { &article.dek } else { &article.summary };
        Entry {
            name: article.name.clone(),
            title: article.headline.clone(),
            page,
            summary: summary.clone(),
            content,
            publish_time: publish_time(article),
            change_time: change_time(article),
            authors: self.authors(article),
            categories: self.categories(article),
            language: article.language.clone(),
            copyright: rights.copyright_notice,
            lead: article.lead_media.as_ref().and_then(|lead| media::Lead::of(lead, site, &article.path)),
        }
    }

    /// Returns the body as HTML if it may be republished: it is free to read, has no terms of use, and does not come from a
    /// wire service or a partner.
    fn content(&self, article: &mut v1::Article) -> Option<String> {
        let is_free = matches!(article.access(), Access::Unspecified | Access::Free);
        let has_terms = article.rights.as_ref().is_some_and(|rights| !rights.usage_terms.is_empty());
        let source = article.source.as_ref().map_or(SourceKind::Unspecified, |source| source.kind());
        let is_own = !matches!(source, SourceKind::Wire | SourceKind::Partner);
        let mut body = article.body.take().filter(|_| is_free && !has_terms && is_own)?;
        let mut walk = media::Walk::new(&self.site.url, &article.path);
        walk.blocks(&mut body.blocks);
        let html = Some(walk).filter(|walk| !walk.has_terms);
        html.map(|_| cable_body::render(&body, BodyFormat::Html)).filter(|html| !html.is_empty())
    }

    fn authors(&self, article: &v1::Article) -> Vec<String> {
        let Some(byline) = &article.byline else { return Vec::new() };
        let name = |credit: &v1::Credit| match (&credit.display_name[..], self.topics.get(&credit.author)) {
            ("", Some(Topic::Author(author))) => Some(author.display_name.clone()),
            ("", _) => None,
            (name, _) => Some(name.to_owned()),
        };
        let names: Vec<String> = byline.credits.iter().filter_map(name).collect();
        match names.is_empty() && !byline.text.is_empty() {
            true => vec![byline.text.clone()],
            false => names,
        }
    }

    /// Returns the tags that exist and are meant for readers.
    fn categories(&self, article: &v1::Article) -> Vec<(String, String)> {
        let tags = article.tags.iter().filter_map(|name| self.topics.get(name));
        let public = tags.filter(|topic| !topic.is_internal()).filter_map(|topic| match topic {
            Topic::Tag(tag) => {
                Some((tag.name.trim_start_matches("tags/").to_owned(), tag.display_name.clone()))
            }
            _ => None,
        });
        public.collect()
    }
}

/// Returns the time at which an article is listed.
fn publish_time(article: &v1::Article) -> i64 {
    let time = article.publish_time.as_ref().or(article.first_publish_time.as_ref());
    time.map_or(0, fields::micros)
}

/// Returns the time of the last change that readers should notice: the modified time or, if there is none, the time of the
/// update. A version that was scheduled changed when it became visible at the earliest.
fn change_time(article: &v1::Article) -> i64 {
    let time = article.modified_time.as_ref().or(article.update_time.as_ref());
    time.map_or(0, fields::micros).max(publish_time(article))
}

fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Formats a time as RFC 3339, in whole seconds: `2026-11-27T09:30:00Z`.
pub(super) fn rfc3339(micros: i64) -> String {
    timestamp(micros.div_euclid(1_000_000) * 1_000_000).to_string()
}

/// Formats a time as RFC 2822: `Fri, 27 Nov 2026 09:30:00 +0000`.
pub(super) fn rfc2822(micros: i64) -> String {
    let zoned = timestamp(micros).to_zoned(TimeZone::UTC);
    rfc2822::to_string(&zoned).unwrap_or_else(|_| "Thu, 1 Jan 1970 00:00:00 +0000".to_owned())
}
