//! Conversion of a post into an article.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil, fmt::rfc2822, tz::TimeZone};
use prost::Message as _;

use super::{
    ConvertedItem, Element, ItemOutcome,
    attachments::{Index, OfPost},
    bounded, html,
    reader::Field,
    terms::{Terms, record},
    truncate,
};
use cable_proto::v1::{self, record::Record as Kind};
use cable_proto::{limit, path};

/// The approximate length in bytes of a headline that is derived from the text.
const DERIVED_HEADLINE_BYTES: usize = 80;

/// The data that all posts of an export share.
pub(super) struct Site<'a> {
    pub(super) index: &'a Index,
    pub(super) language: &'a str,
}

/// Converts a post or page.
pub(super) fn article(
    site: &Site<'_>,
    terms: &mut Terms,
    id: u64,
    title: &str,
    item: &Element,
) -> ItemOutcome {
    let mut result = ConvertedItem { notes: item.note().into_iter().collect(), ..ConvertedItem::default() };
    let content = item.raw("content:encoded");
    if content.len() > html::MAX_BYTES {
        return ItemOutcome::Failed(format!("text has {} bytes: at most 4 MiB", content.len()));
    }
    let converted = html::body(content, &OfPost { index: site.index, post: id });
    result.raw_html = converted.raw_html;
    result.dropped = converted.dropped;
    let blocks = html::count(&converted.body);
    if blocks as u64 > limit::BLOCKS.maximum {
        return ItemOutcome::Failed(format!("body has {blocks} blocks: at most 10,000"));
    }
    let time = publish_time(item).map(timestamp);
    let mut article = v1::Article {
        name: format!("articles/wp-{id}"),
        create_time: time,
        first_publish_time: time,
        publish_time: time,
        r#type: v1::ArticleType::Article.into(),
        headline: headline(title, content, &mut result.notes),
        summary: bounded(
            &html::plain(item.raw("excerpt:encoded")),
            &limit::PARAGRAPH,
            "summary",
            &mut result.notes,
        ),
        body: Some(converted.body),
        lead_media: lead_media(site, item, &mut result.notes),
        path: path(item).unwrap_or_default(),
        language: language(site.language),
        alt_ids: vec![v1::AltId { role: "wordpress".into(), value: id.to_string() }],
        ..Default::default()
    };
    if article.path.is_empty() {
        result.notes.push("no path".into());
    }
    classify(&mut article, terms, item, &mut result);
    set_byline(&mut article, terms, item, &mut result);
    let length = article.encoded_len();
    if length as u64 > limit::ARTICLE.maximum {
        return ItemOutcome::Failed(format!("encoded size is {length} bytes: at most 1 MiB"));
    }
    result.records.push(record(Kind::Article(article)));
    ItemOutcome::Converted(result)
}

/// Returns the title; without one, the first words of the text.
fn headline(title: &str, content: &str, notes: &mut Vec<String>) -> String {
    if !title.is_empty() {
        return bounded(title, &limit::LINE, "headline", notes);
    }
    let text = html::plain(content);
    let mut words = truncate(&text, DERIVED_HEADLINE_BYTES);
    if words.len() < text.len() && !text[words.len()..].starts_with(' ') {
        words = words.rsplit_once(' ').map_or(words, |(words, _)| words);
    }
    match words {
        "" => "Untitled".to_owned(),
        words => words.to_owned(),
    }
}

fn lead_media(site: &Site<'_>, item: &Element, notes: &mut Vec<String>) -> Option<v1::Media> {
    let id = item.meta("_thumbnail_id")?;
    let media = id.parse().ok().and_then(|id| site.index.get(id)).cloned();
    if media.is_none() {
        notes.push(format!("featured image, attachment {id}, not in the file"));
    }
    media
}

/// Returns the path of the post's page: the path of its link, or of its slug if the link is by number.
fn path(item: &Element) -> Option<String> {
    let link = item.get("link");
    let after_scheme = link.split_once("://").map_or(link, |(_, rest)| rest);
    let path_and_query = after_scheme.find(['/', '?', '#']).map_or("", |at| &after_scheme[at..]);
    let path = path_and_query.split(['?', '#']).next().unwrap_or_default();
    let by_number = path_and_query.len() > path.len() && matches!(path, "" | "/" | "/index.php");
    let path = match item.get("wp:post_name") {
        "" if by_number => return None,
        name if by_number => format!("/{name}/"),
        _ if path.is_empty() => return None,
        _ => format!("/{}", path.trim_start_matches('/')),
    };
    path::is_valid(&path).then_some(path)
}

/// Returns the publication time. WordPress writes UTC, local time without its zone, and the date of the feed. Zeros
/// mean that there is no time.
pub(super) fn publish_time(item: &Element) -> Option<Timestamp> {
    let civil = |text: &str| {
        let time = civil::DateTime::strptime("%Y-%m-%d %H:%M:%S", text).ok()?;
        TimeZone::UTC.to_timestamp(time).ok()
    };
    // Timestamps of the schema start with the year 1.
    let is_in_range = |time: &Timestamp| time.as_second() >= -62_135_596_800;
    civil(item.get("wp:post_date_gmt"))
        .or_else(|| civil(item.get("wp:post_date")))
        .or_else(|| rfc2822::parse(item.get("pubDate")).ok().map(|time| time.timestamp()))
        .filter(is_in_range)
}

/// Returns the language of the site as a BCP 47 tag, if it has the form of one.
fn language(text: &str) -> String {
    let tag = text.replace('_', "-");
    let subtag =
        |subtag: &str| (1..=8).contains(&subtag.len()) && subtag.bytes().all(|b| b.is_ascii_alphanumeric());
    let primary = tag.split('-').next().unwrap_or_default();
    let has_primary = primary.len() > 1 && primary.bytes().all(|b| b.is_ascii_alphabetic());
    if has_primary && tag.len() <= 64 && tag.split('-').all(subtag) { tag } else { String::new() }
}

fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: 0 }
}

/// Maps categories to sections, tags to tags, and terms of other taxonomies to annotations. Sections above the limit
/// become tags, tags above the limit an annotation.
fn classify(article: &mut v1::Article, terms: &mut Terms, item: &Element, result: &mut ConvertedItem) {
    let mut sections: Vec<String> = Vec::new();
    let mut tags: Vec<String> = Vec::new();
    let mut overflow = Vec::new();
    for field in terms_of(item, &["category"]) {
        let nicename = field.nicename.as_deref().unwrap_or_default().trim();
        if sections.len() as u64 > limit::ADDITIONAL_SECTIONS.maximum {
            overflow.push(field);
            continue;
        }
        let name = terms.section_of_post(nicename, field.text.trim(), &mut result.notes);
        insert(&mut sections, name, result);
    }
    if !overflow.is_empty() {
        result.notes.push(format!("{} categories above the limit became tags", overflow.len()));
    }
    for field in terms_of(item, &["post_tag", "tag"]).into_iter().chain(overflow) {
        let nicename = field.nicename.as_deref().unwrap_or_default().trim();
        let name = terms.tag_of_post(nicename, field.text.trim(), &mut result.notes);
        insert(&mut tags, name, result);
    }
    article.annotations =
        annotations(item, &tags.split_off(tags.len().min(limit::TAGS.maximum as usize)), &mut result.notes);
    article.tags = tags;
    let mut sections = sections.into_iter();
    article.section = sections.next().unwrap_or_default();
    article.additional_sections = sections.collect();
}

fn insert(names: &mut Vec<String>, named: Option<(String, Option<v1::Record>)>, result: &mut ConvertedItem) {
    let Some((name, record)) = named else { return };
    result.mentions.extend(record);
    if !names.contains(&name) {
        names.push(name);
    }
}

/// Returns the terms of a taxonomy. WXR 1.0 repeats each term without its slug, and also without its taxonomy. The
/// repetitions are left out if the complete term exists.
fn terms_of<'a>(item: &'a Element, domains: &[&str]) -> Vec<&'a Field> {
    let all: Vec<_> = item.all("category").collect();
    let (complete, bare): (Vec<_>, Vec<_>) = all.into_iter().partition(|f| f.nicename.is_some());
    let of_domain = |field: &&Field| match &field.domain {
        Some(domain) => domains.contains(&domain.as_str()),
        None => domains.contains(&"category"),
    };
    let is_bare = |field: &&Field| {
        let same = |other: &&Field| other.text.trim() == field.text.trim();
        let is_repeated = complete.iter().any(same);
        let is_tag = field.domain.is_none() && bare.iter().any(|o| o.domain.is_some() && same(o));
        !is_repeated && !is_tag
    };
    let rest = bare.iter().copied().filter(of_domain).filter(is_bare);
    complete.iter().copied().filter(of_domain).chain(rest).filter(|f| !f.text.trim().is_empty()).collect()
}

fn annotations(item: &Element, more_tags: &[String], notes: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    if item.get("wp:post_type") == "page" {
        all.insert("post_type".to_owned(), "page".to_owned());
    }
    let mut add = |key: &str, value: &str| {
        let list: &mut String = all.entry(key.to_owned()).or_default();
        if !list.is_empty() {
            list.push_str(", ");
        }
        list.push_str(value);
    };
    for tag in more_tags {
        add("more_tags", tag);
    }
    for field in item.all("category") {
        match field.domain.as_deref() {
            None | Some("" | "category" | "post_tag" | "tag" | "author") => {}
            Some(taxonomy) => add(taxonomy, field.text.trim()),
        }
    }
    limit_annotations(&mut all, notes);
    all
}

/// Limits the annotations of an article to 16 KiB in total. The longest are removed first.
fn limit_annotations(all: &mut BTreeMap<String, String>, notes: &mut Vec<String>) {
    while all.len() as u64 > limit::ANNOTATIONS.maximum {
        if let Some((key, value)) = all.pop_last() {
            notes.push(format!("annotation {key} omitted: {value}"));
        }
    }
    let size = |all: &BTreeMap<String, String>| all.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
    while size(all) as u64 > limit::ANNOTATIONS_BYTES.maximum {
        let longest = all.iter().max_by_key(|(_, v)| v.len()).map(|(k, _)| k.clone()).unwrap_or_default();
        let value = all.remove(&longest).unwrap_or_default();
        notes.push(format!("annotation {longest} omitted: {value}"));
    }
}

/// Sets the authors: the guest authors that Co-Authors Plus stores as a taxonomy, or else the user who created the
/// post.
fn set_byline(article: &mut v1::Article, terms: &mut Terms, item: &Element, result: &mut ConvertedItem) {
    let guests = item.all("category").filter(|field| field.domain.as_deref() == Some("author"));
    let slugs = guests.filter_map(|guest| guest.nicename.as_deref());
    let mut logins: Vec<&str> = slugs.map(|slug| slug.strip_prefix("cap-").unwrap_or(slug)).collect();
    if logins.is_empty() {
        logins.push(item.get("dc:creator"));
    }
    let mut credits: Vec<v1::Credit> = Vec::new();
    for login in logins {
        let Some((author, display_name, record)) = terms.author_of_post(login, &mut result.notes) else {
            continue;
        };
        result.mentions.extend(record);
        if credits.iter().all(|credit| credit.author != author) {
            credits.push(v1::Credit { author, display_name, role: String::new() });
        }
    }
    let more = credits.split_off(credits.len().min(limit::CREDITS.maximum as usize));
    result.notes.extend(more.iter().map(|credit| format!("credit of {} omitted", credit.display_name)));
    if !credits.is_empty() {
        article.byline = Some(v1::Byline { text: String::new(), credits });
    }
}
