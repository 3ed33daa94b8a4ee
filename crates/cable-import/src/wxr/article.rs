//! Conversion of a post into an article.

use std::collections::BTreeMap;

use jiff::Timestamp;
use prost::Message as _;

use super::{
    ConvertedItem, Element, ItemOutcome, SkipReason, access,
    attachments::{Index, OfPost},
    bounded,
    element::Field,
    enclosures, footnotes, html, languages, leftovers, liveblog, record, search,
    survey::Survey,
    times::LocalTime,
    truncate,
};
use crate::fit::limit_annotations;
use cable_proto::limit;
use cable_proto::v1::{self, record::Record as Kind};

/// The approximate length in bytes of a headline that is derived from the text.
const DERIVED_HEADLINE_BYTES: usize = 80;

/// Whether readers see a post now or later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visibility {
    /// The post is visible.
    Live,
    /// The post becomes visible at its publication time.
    Scheduled,
}

/// Returns when readers see an item, or the reason why they do not see it.
pub(super) fn visibility(
    item: &Element,
    times: &LocalTime,
    now: Timestamp,
) -> Result<Visibility, SkipReason> {
    match item.get("wp:post_type") {
        "post" | "page" => {}
        "attachment" => return Err(SkipReason::Attachment),
        "" => return Err(SkipReason::PostType("not given".into())),
        other => return Err(SkipReason::PostType(other.to_owned())),
    }
    let status = item.get("wp:status");
    if !matches!(status, "publish" | "future") {
        return Err(SkipReason::Status(status.to_owned()));
    }
    if !item.get("wp:post_password").is_empty() {
        return Err(SkipReason::Password);
    }
    match times.published(item) {
        Some(time) if time.instant > now => Ok(Visibility::Scheduled),
        None if status == "future" => Err(SkipReason::ScheduledWithoutTime),
        _ => Ok(Visibility::Live),
    }
}

/// Converts a post or page.
pub(super) fn article(
    survey: &mut Survey,
    visibility: Visibility,
    id: u64,
    title: &str,
    item: &Element,
) -> ItemOutcome {
    let with_footnotes = footnotes::insert(item);
    let content = survey.patterns.insert(with_footnotes.as_deref().unwrap_or(item.raw("content:encoded")));
    let content = content.as_ref();
    let entries = liveblog::entries(item);
    let length = content.len() + entries.iter().map(String::len).sum::<usize>();
    if length > html::MAX_BYTES {
        return ItemOutcome::Failed(format!("text has {length} bytes: at most 4 MiB; split the post"));
    }
    let mut result = ConvertedItem { notes: item.note().into_iter().collect(), ..ConvertedItem::default() };
    result.notes.extend(item.note_on_markup());
    let (body, restricted) = body(survey, id, item, content, &entries, &mut result);
    let blocks = html::count(&body);
    if blocks as u64 > limit::BLOCKS.maximum {
        return ItemOutcome::Failed(format!("body has {blocks} blocks: at most 10,000; split the post"));
    }
    let paths = survey.paths.of_post(id, item, &survey.site, &mut result.notes);
    let is_live_blog =
        body.blocks.iter().any(|block| matches!(block.kind, Some(v1::block::Kind::LivePost(_))));
    let r#type = if is_live_blog { v1::ArticleType::Liveblog } else { v1::ArticleType::Article };
    let mut article = v1::Article {
        name: survey.site.article(id),
        r#type: r#type.into(),
        headline: headline(title, content, &mut result.notes),
        body: Some(body),
        access: access::of_post(item, restricted, &mut result.notes).into(),
        lead_media: lead_media(&survey.index, item, &mut result.notes),
        path: paths.path,
        alias_paths: paths.alias_paths,
        canonical_url: paths.canonical_url,
        language: survey.languages.of_post(&survey.site, item),
        translation_group: languages::group_of_post(&survey.site, item),
        alt_ids: vec![survey.site.post_id(id, item.get("guid"))],
        ..Default::default()
    };
    set_times(&mut article, visibility, &survey.times, item, &mut result.notes);
    let mut taken = vec!["_thumbnail_id", "_wp_old_slug", "_wp_old_date", access::NEWSLETTER];
    if enclosures::are_all_usable(item) {
        taken.push(enclosures::KEY);
    }
    if with_footnotes.is_some() {
        taken.push(footnotes::KEY);
    }
    search::set(&mut article, item, &mut taken, &mut result.notes);
    classify(&mut article, survey, item, &mut taken, &mut result);
    leftovers::of_post(item, &taken, &mut result.not_imported);
    set_byline(&mut article, survey, item, &mut result);
    let length = article.encoded_len();
    if length as u64 > limit::ARTICLE.maximum {
        return ItemOutcome::Failed(format!("encoded size is {length} bytes: at most 1 MiB; split the post"));
    }
    result.records.push(record(Kind::Article(article)));
    ItemOutcome::Converted(result)
}

/// Returns the text, with the entries of a live blog and the enclosures at its end, and whether only subscribers may
/// read a part of it.
fn body(
    survey: &Survey,
    id: u64,
    item: &Element,
    content: &str,
    entries: &[String],
    result: &mut ConvertedItem,
) -> (v1::Body, bool) {
    let (mut body, mut restricted) = (v1::Body::default(), false);
    for html in std::iter::once(content).chain(entries.iter().map(String::as_str)) {
        let converted = convert(survey, id, html, result);
        body.blocks.extend(converted.0.blocks);
        restricted |= converted.1;
    }
    let enclosures = enclosures::blocks(item, &body);
    body.blocks.extend(enclosures);
    if body.blocks.is_empty() && !item.meta.is_empty() {
        result.notes.push("no text: the site may show that of custom fields, which are not imported".into());
    }
    (body, restricted)
}

fn convert(survey: &Survey, id: u64, content: &str, result: &mut ConvertedItem) -> (v1::Body, bool) {
    let converted = html::body(content, &OfPost { index: &survey.index, post: id });
    result.raw_html += converted.raw_html;
    result.dropped += converted.dropped;
    let room = html::MAX_NOTES.saturating_sub(result.notes.len());
    let omitted = converted.notes.omitted + converted.notes.lines.len().saturating_sub(room);
    result.notes.extend(converted.notes.lines.into_iter().take(room));
    if omitted > 0 && room > 0 {
        result.notes.push(format!("and {omitted} more notes on the text"));
    }
    (converted.body, converted.restricted)
}

/// Sets the times. Only a post that is visible has been published.
fn set_times(
    article: &mut v1::Article,
    visibility: Visibility,
    times: &LocalTime,
    item: &Element,
    notes: &mut Vec<String>,
) {
    let published = times.published(item);
    let published_at = published.as_ref().map(|time| time.instant);
    article.publish_time = published_at.map(timestamp);
    match published {
        Some(time) => notes.extend(time.note),
        None => notes.extend(LocalTime::note_on_unusable(item)),
    }
    if visibility == Visibility::Live {
        article.create_time = article.publish_time;
        article.first_publish_time = article.publish_time;
    }
    let stated = item.get("wp:post_modified_gmt");
    if times.modified(item).is_none() && !stated.is_empty() && !stated.starts_with("0000-00-00") {
        notes.push(format!("time of the last change omitted: {:?} is not a time", html::head(stated, 64)));
    }
    if let Some(modified) = times.modified(item) {
        // WordPress changes a scheduled post before its publication, but readers see no change before it.
        let instant = published_at.map_or(modified.instant, |published| published.max(modified.instant));
        article.modified_time = Some(timestamp(instant));
        notes.extend(modified.note);
    }
}

/// Returns the title; without one, the first words of the text.
fn headline(title: &str, content: &str, notes: &mut Vec<String>) -> String {
    if !title.is_empty() {
        return bounded(title, &limit::LINE, "headline", notes);
    }
    let text = html::plain(&html::visible(content));
    let mut words = truncate(&text, DERIVED_HEADLINE_BYTES);
    if words.len() < text.len() && !text[words.len()..].starts_with(' ') {
        words = words.rsplit_once(' ').map_or(words, |(words, _)| words);
    }
    match words {
        "" => {
            notes.push("no title and no words: the headline is Untitled".into());
            "Untitled".to_owned()
        }
        words => {
            notes.push("no title: the headline is the first words of the text".into());
            words.to_owned()
        }
    }
}

fn lead_media(index: &Index, item: &Element, notes: &mut Vec<String>) -> Option<v1::Media> {
    // The plug-ins of themes write 0 or -1 for none.
    let id = item.meta("_thumbnail_id").filter(|id| !matches!(*id, "0" | "-1"))?;
    let media = id.parse().ok().and_then(|id| index.get(id)).cloned();
    if media.is_none() {
        notes.push(format!("featured image, attachment {id}, not in the file"));
    }
    media
}

fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: 0 }
}

/// Maps categories to sections, tags to tags, and terms of other taxonomies to annotations. Sections above the limit
/// become tags, tags above the limit an annotation.
fn classify(
    article: &mut v1::Article,
    survey: &mut Survey,
    item: &Element,
    taken: &mut Vec<&'static str>,
    result: &mut ConvertedItem,
) {
    let Survey { terms, site, .. } = survey;
    let mut sections: Vec<String> = Vec::new();
    let mut tags: Vec<String> = Vec::new();
    let mut overflow = Vec::new();
    for field in terms_of(item, &["category"]) {
        let nicename = field.nicename.as_deref().unwrap_or_default().trim();
        if sections.len() as u64 > limit::ADDITIONAL_SECTIONS.maximum {
            overflow.push(field);
            continue;
        }
        let name = terms.section_of_post(site, nicename, field.text.trim(), &mut result.notes);
        insert(&mut sections, name, result);
    }
    if let Some((key, number)) = search::main_category(item) {
        let main = terms.section_by_number(site, number);
        if let Some(at) = sections.iter().position(|section| Some(section) == main.as_ref()) {
            sections[..=at].rotate_right(1);
            taken.push(key);
        }
    }
    if !overflow.is_empty() {
        result.notes.push(format!("{} categories above the limit became tags", overflow.len()));
    }
    for field in terms_of(item, &["post_tag", "tag"]).into_iter().chain(overflow) {
        let nicename = field.nicename.as_deref().unwrap_or_default().trim();
        let name = terms.tag_of_post(site, nicename, field.text.trim(), &mut result.notes);
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
            Some(taxonomy) if languages::TAXONOMIES.contains(&taxonomy) => {}
            Some(taxonomy) => add(taxonomy, field.text.trim()),
        }
    }
    limit_annotations(&mut all, notes);
    all
}

/// Sets the authors: the guest authors that Co-Authors Plus stores as a taxonomy, or else the user who created the
/// post.
fn set_byline(article: &mut v1::Article, survey: &mut Survey, item: &Element, result: &mut ConvertedItem) {
    let Survey { authors, site, .. } = survey;
    let guests = item.all("category").filter(|field| field.domain.as_deref() == Some("author"));
    let guests: Vec<_> =
        guests.filter_map(|guest| Some((guest.nicename.as_deref()?, guest.text.trim()))).collect();
    let mut found = Vec::new();
    for (slug, name) in &guests {
        found.extend(authors.credit_of_guest(site, slug, name, &mut result.notes));
    }
    if guests.is_empty() {
        found.extend(authors.credit_of_user(site, item.get("dc:creator"), &mut result.notes));
    }
    let mut credits: Vec<v1::Credit> = Vec::new();
    for (credit, record) in found {
        result.mentions.extend(record);
        if credits.iter().all(|other| other.author != credit.author) {
            credits.push(credit);
        }
    }
    let more = credits.split_off(credits.len().min(limit::CREDITS.maximum as usize));
    result.notes.extend(more.iter().map(|credit| format!("credit of {} omitted", credit.display_name)));
    if !credits.is_empty() {
        article.byline = Some(v1::Byline { text: String::new(), credits });
    }
}
