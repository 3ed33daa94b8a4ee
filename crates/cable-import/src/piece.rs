//! Articles as other systems have them, fitted to the limits of records: their terms and authors become names, and no two
//! articles of an import get the same path.

use std::collections::HashMap;

use cable_body::{html, render};
use cable_proto::{
    limit, path,
    text::remove_forbidden,
    v1::{self, BodyFormat, record::Record as Kind},
};
use jiff::Timestamp;
use prost::Message as _;
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    ConvertedItem, ItemOutcome, SkipReason,
    addresses::{has_address, id_has_address, without_addresses},
    fit::{bounded, limit_annotations, truncate},
    ids,
    listed::{Records, record},
};

/// The approximate length in bytes of a headline that is derived from the text.
const DERIVED_HEADLINE_BYTES: usize = 80;

/// The maximum number of blocks that are searched for the words of a headline.
const HEADLINE_BLOCKS: usize = 32;

/// A section, a tag or an author that an article names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Term {
    /// The slug; if empty, it is derived from the name.
    pub(crate) slug: String,
    /// The name; if empty, the slug.
    pub(crate) name: String,
}

impl Term {
    pub(crate) fn of_name(name: &str) -> Self {
        Term { slug: String::new(), name: name.to_owned() }
    }
}

/// An article before it is fitted.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    /// The article, with texts of any length, and without name, sections, tags and byline.
    pub(crate) article: v1::Article,
    /// The id of the article, without the prefix.
    pub(crate) id: String,
    pub(crate) sections: Vec<Term>,
    pub(crate) tags: Vec<Term>,
    pub(crate) authors: Vec<Term>,
    /// Whether readers do not see the article before an editor releases it.
    pub(crate) is_draft: bool,
    /// Notes and counts so far.
    pub(crate) result: ConvertedItem,
}

/// The state of an import: its prefix, the names that it has mentioned, and the paths that its articles have.
#[derive(Debug, Default)]
pub(crate) struct Fitter {
    prefix: String,
    now: Timestamp,
    pub(crate) records: Records,
    /// The name of the article that has a path, by the hash of the path.
    owners: HashMap<u128, String>,
}

fn key(path: &str) -> u128 {
    xxh3_128(path::normalise(path).as_bytes())
}

impl Fitter {
    pub(crate) fn new(prefix: &str, now: Timestamp) -> Self {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}-") };
        Fitter { prefix, now, ..Fitter::default() }
    }

    /// Returns the id for a slug; empty if the slug is empty.
    pub(crate) fn id(&self, slug: &str) -> String {
        ids::from_slug(&self.prefix, slug)
    }

    /// Returns the name of the article with an id of its source.
    pub(crate) fn article(&self, id: &str) -> String {
        format!("articles/{}", self.id(id))
    }

    /// Reserves a path for an article before all articles that come later.
    pub(crate) fn claim(&mut self, path: &str, id: &str) {
        let name = self.article(id);
        self.owners.entry(key(path)).or_insert(name);
    }

    /// Fits an article.
    pub(crate) fn fit(&mut self, piece: Piece) -> ItemOutcome {
        let Piece { mut article, id, sections, tags, authors, is_draft, mut result } = piece;
        article.name = self.article(&id);
        let expiry = article.expire_time.map(|time| time.seconds);
        if expiry.is_some_and(|expiry| expiry <= self.now.as_second()) {
            return ItemOutcome::Skipped(SkipReason::Expired);
        }
        let body = article.body.get_or_insert_default();
        let blocks = html::count(body);
        if blocks as u64 > limit::BLOCKS.maximum {
            return ItemOutcome::Failed(format!(
                "body has {blocks} blocks: at most {}; split the article",
                limit::BLOCKS.maximum
            ));
        }
        let notes = &mut result.notes;
        result.raw_html = count_raw(&body.blocks);
        article.r#type = v1::ArticleType::Article.into();
        remove_addresses(&mut article, notes);
        fit_texts(&mut article, notes);
        self.fit_times(&mut article, is_draft, notes);
        self.fit_paths(&mut article, notes);
        fit_urls(&mut article, notes);
        self.classify(&mut article, sections, tags, &mut result);
        self.set_byline(&mut article, authors, &mut result);
        limit_annotations(&mut article.annotations, &mut result.notes);
        let length = article.encoded_len();
        if length as u64 > limit::ARTICLE.maximum {
            return ItemOutcome::Failed(format!(
                "encoded size is {length} bytes: at most 1 MiB; split the article"
            ));
        }
        result.records.push(record(Kind::Article(article)));
        ItemOutcome::Converted(result)
    }

    /// Sets the times that follow from others. Only an article that is visible has been published.
    fn fit_times(&self, article: &mut v1::Article, is_draft: bool, notes: &mut Vec<String>) {
        let is_later = article.publish_time.is_some_and(|time| time.seconds > self.now.as_second());
        if is_draft {
            let note = "imported as a draft".to_owned();
            article.embargo = Some(v1::Embargo { until: None, note });
        } else if !is_later {
            article.create_time = article.publish_time;
            article.first_publish_time = article.publish_time;
        }
        if let (Some(published), Some(modified)) = (article.publish_time, article.modified_time)
            && modified.seconds < published.seconds
        {
            // Readers see no change before the publication.
            article.modified_time = Some(published);
        }
        if let (Some(published), Some(expiry)) = (article.publish_time, article.expire_time)
            && expiry.seconds <= published.seconds
        {
            article.expire_time = None;
            notes.push("expiry omitted: it is not after the publication".into());
        }
    }

    fn fit_paths(&mut self, article: &mut v1::Article, notes: &mut Vec<String>) {
        let name = &article.name;
        if !article.path.is_empty() {
            if path::is_valid(&article.path) {
                let owner = self.owners.entry(key(&article.path)).or_insert_with(|| name.clone());
                if owner != name {
                    notes.push(format!("without its path: {} is the path of {owner}", article.path));
                    article.path.clear();
                }
            } else {
                notes.push(format!("without its path: {:?} is not a path", truncate(&article.path, 200)));
                article.path.clear();
            }
        }
        let mut aliases: Vec<String> = Vec::new();
        let mut excess = 0;
        for alias in std::mem::take(&mut article.alias_paths) {
            let is_own = path::is_same(&alias, &article.path);
            if !path::is_valid(&alias) {
                notes.push(format!("former path omitted: {:?} is not a path", truncate(&alias, 200)));
            } else if is_own || aliases.iter().any(|other| path::is_same(other, &alias)) {
            } else if aliases.len() as u64 == limit::ALIAS_PATHS.maximum {
                excess += 1;
            } else {
                aliases.push(alias);
            }
        }
        if excess > 0 {
            notes.push(format!("{excess} former paths above the limit omitted"));
        }
        article.alias_paths = aliases;
    }

    /// Sets sections and tags. Sections above the limit become tags, tags above the limit an annotation.
    fn classify(
        &mut self,
        article: &mut v1::Article,
        mut sections: Vec<Term>,
        mut tags: Vec<Term>,
        result: &mut ConvertedItem,
    ) {
        let most = limit::ADDITIONAL_SECTIONS.maximum as usize + 1;
        let overflow = sections.split_off(sections.len().min(most));
        if !overflow.is_empty() {
            result.notes.push(format!("{} sections above the limit became tags", overflow.len()));
            tags.extend(overflow);
        }
        let mut sections = self.names(&sections, "sections", result).into_iter();
        article.section = sections.next().unwrap_or_default();
        article.additional_sections = sections.collect();
        let mut tags = self.names(&tags, "tags", result);
        let more = tags.split_off(tags.len().min(limit::TAGS.maximum as usize));
        if !more.is_empty() {
            article.annotations.insert("more_tags".into(), more.join(", "));
        }
        article.tags = tags;
    }

    /// Returns the resource names of terms, without duplicates, and adds those that are mentioned for the first time.
    fn names(&mut self, terms: &[Term], kind: &str, result: &mut ConvertedItem) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for term in terms {
            let term = without_address(term, kind, &mut result.notes);
            let Some((slug, display_name)) = parts(&term, &mut result.notes) else { continue };
            let name = format!("{kind}/{}", self.id(&slug));
            let mention = match kind {
                "sections" => {
                    Kind::Section(v1::Section { name: name.clone(), display_name, ..Default::default() })
                }
                _ => Kind::Tag(v1::Tag { name: name.clone(), display_name, ..Default::default() }),
            };
            result.mentions.extend(self.records.mention(record(mention)));
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    fn set_byline(&mut self, article: &mut v1::Article, authors: Vec<Term>, result: &mut ConvertedItem) {
        let mut credits: Vec<v1::Credit> = Vec::new();
        for author in authors {
            let is_address = has_address(&author.name) || has_address(&author.slug);
            let name = without_addresses(&author.name);
            let slug = if has_address(&author.slug) { String::new() } else { author.slug };
            let Some((slug, display_name)) = parts(&Term { slug, name }, &mut result.notes) else {
                if is_address {
                    result.notes.push("author omitted: known by an e-mail address only".into());
                }
                continue;
            };
            let author = format!("authors/{}", self.id(&slug));
            if credits.iter().any(|credit| credit.author == author) {
                continue;
            }
            let mention =
                v1::Author { name: author.clone(), display_name: display_name.clone(), ..Default::default() };
            result.mentions.extend(self.records.mention(record(Kind::Author(mention))));
            credits.push(v1::Credit { author, display_name, role: String::new() });
        }
        let more = credits.split_off(credits.len().min(limit::CREDITS.maximum as usize));
        result.notes.extend(more.iter().map(|credit| format!("credit of {} omitted", credit.display_name)));
        if !credits.is_empty() {
            article.byline = Some(v1::Byline { text: String::new(), credits });
        }
    }
}

/// Returns a term without the e-mail addresses in it.
fn without_address(term: &Term, kind: &str, notes: &mut Vec<String>) -> Term {
    let (in_name, in_slug) = (has_address(&term.name), has_address(&term.slug));
    if in_name || in_slug {
        notes.push(format!("e-mail address omitted from {kind}"));
    }
    Term {
        slug: if in_slug { String::new() } else { term.slug.clone() },
        name: if in_name { without_addresses(&term.name) } else { term.name.clone() },
    }
}

/// Removes e-mail addresses from what is about the article and not part of its text.
fn remove_addresses(article: &mut v1::Article, notes: &mut Vec<String>) {
    let rights = article.rights.iter_mut().flat_map(|rights| {
        [("copyright notice", &mut rights.copyright_notice), ("usage terms", &mut rights.usage_terms)]
    });
    let source = article.source.iter_mut().map(|source| ("source", &mut source.name));
    let credit = article.lead_media.iter_mut().flat_map(|media| {
        [("credit", &mut media.credit), ("copyright notice of the picture", &mut media.copyright_notice)]
    });
    for (field, text) in rights.chain(source).chain(credit) {
        if !is_web(text) && has_address(text) {
            *text = without_addresses(text);
            notes.push(format!("e-mail address omitted from the {field}"));
        }
    }
    article.source.take_if(|source| source.name.is_empty());
    let all = article.alt_ids.len();
    article.alt_ids.retain(|id| !id_has_address(&id.value));
    if article.alt_ids.len() < all {
        notes.push("id of the other system omitted: it holds an e-mail address".into());
    }
}

/// Returns the slug and the display name of a term. `None` if it has neither.
fn parts(term: &Term, notes: &mut Vec<String>) -> Option<(String, String)> {
    let name = one_line(&term.name);
    let slug = match term.slug.trim() {
        "" => ids::slug_of_name(&name),
        slug => slug.to_owned(),
    };
    let name = if name.is_empty() { one_line(&slug) } else { name };
    let name = bounded(&name, &limit::LINE, "display name", notes);
    (!slug.is_empty() && !name.is_empty()).then_some((slug, name))
}

/// Returns the words of a text on one line, without characters that no text may hold.
pub(crate) fn one_line(text: &str) -> String {
    let (text, _) = remove_forbidden(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the words of a text that may hold markup.
pub(crate) fn words(text: &str) -> String {
    one_line(&html::text(text))
}

fn fit_texts(article: &mut v1::Article, notes: &mut Vec<String>) {
    let headline = words(&article.headline);
    article.headline = if headline.is_empty() {
        derived_headline(article.body.as_ref())
    } else {
        bounded(&headline, &limit::LINE, "headline", notes)
    };
    article.dek = bounded(&words(&article.dek), &limit::PARAGRAPH, "dek", notes);
    article.summary = bounded(&words(&article.summary), &limit::PARAGRAPH, "summary", notes);
    for other in &mut article.alternative_headlines {
        other.text = bounded(&words(&other.text), &limit::LINE, "alternative headline", notes);
    }
    let headline = &article.headline;
    article.alternative_headlines.retain(|other| !other.text.is_empty() && other.text != *headline);
    article.language = language(&article.language);
}

/// Returns the first words of the text: of the first block that has some. The plain text of a player or an embed is its
/// URL, which counts where there is nothing else.
fn derived_headline(body: Option<&v1::Body>) -> String {
    // A divider is a line of signs in plain text.
    let is_divider = |block: &&v1::Block| matches!(block.kind, Some(v1::block::Kind::Divider(_)));
    use v1::block::Kind::{Audio, Embed, Video};
    let is_url = |block: &&v1::Block| matches!(block.kind, Some(Video(_) | Audio(_) | Embed(_)));
    let blocks = body.into_iter().flat_map(|body| &body.blocks).take(HEADLINE_BLOCKS);
    let words = blocks.filter(|block| !is_divider(block));
    let (urls, texts): (Vec<_>, Vec<_>) = words.partition(is_url);
    let line = |block: &v1::Block| {
        let text = render(&v1::Body { blocks: vec![block.clone()] }, BodyFormat::PlainText);
        one_line(html::head(&text, 4 * DERIVED_HEADLINE_BYTES))
    };
    let text = texts.into_iter().chain(urls).map(line).find(|line| !line.is_empty()).unwrap_or_default();
    let mut words = truncate(&text, DERIVED_HEADLINE_BYTES);
    if words.len() < text.len() && !text[words.len()..].starts_with(' ') {
        words = words.rsplit_once(' ').map_or(words, |(words, _)| words);
    }
    if words.is_empty() { "Untitled".to_owned() } else { words.to_owned() }
}

/// Returns a language as a BCP 47 tag, if it has the form of one; else an empty text.
pub(crate) fn language(text: &str) -> String {
    let tag = text.trim().replace('_', "-");
    let is_subtag =
        |subtag: &str| (1..=8).contains(&subtag.len()) && subtag.bytes().all(|b| b.is_ascii_alphanumeric());
    let primary = tag.split('-').next().unwrap_or_default();
    let has_primary = primary.len() > 1 && primary.bytes().all(|b| b.is_ascii_alphabetic());
    let is_tag = has_primary && tag.len() <= 64 && tag.split('-').all(is_subtag);
    if is_tag { tag } else { String::new() }
}

/// Returns the text as a URL of the web, if a record can have it.
pub(crate) fn web_url(text: &str) -> Option<&str> {
    let url = text.trim();
    let is_usable = is_web(url) && html::rendition(url, None, None).is_some() && !url.contains('\\');
    is_usable.then_some(url)
}

fn fit_urls(article: &mut v1::Article, notes: &mut Vec<String>) {
    let url = std::mem::take(&mut article.canonical_url);
    match web_url(&url) {
        Some(url) => url.clone_into(&mut article.canonical_url),
        None if url.trim().is_empty() => {}
        None => notes.push(format!("canonical URL omitted: {:?} is not a URL", truncate(url.trim(), 200))),
    }
    article.alt_ids.retain(|id| !id.value.is_empty() && id.value.len() as u64 <= limit::URL.maximum);
    if let Some(media) = &mut article.lead_media {
        media.alt_text = bounded(&words(&media.alt_text), &limit::PARAGRAPH, "alternative text", notes);
        media.credit = bounded(&words(&media.credit), &limit::LINE, "credit", notes);
    }
}

/// Returns whether a URL has the scheme http or https.
pub(crate) fn is_web(url: &str) -> bool {
    let start = html::head(url, 8).to_ascii_lowercase();
    start.starts_with("http://") || start.starts_with("https://")
}

/// Returns the path of a URL: `/a/` for `https://host/a/?b#c`. A URL without a path has the path `/`.
pub(crate) fn path_of_url(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
    rest.split(['?', '#']).next().unwrap_or_default()
}

/// Returns the number of raw_html blocks.
fn count_raw<'a>(blocks: impl IntoIterator<Item = &'a v1::Block>) -> usize {
    let (mut open, mut count) = (Vec::from_iter(blocks), 0);
    while let Some(block) = open.pop() {
        count += usize::from(matches!(block.kind, Some(v1::block::Kind::RawHtml(_))));
        open.extend(html::nested(block));
    }
    count
}

/// Returns a time of the schema, whose timestamps start with the year 1.
pub(crate) fn timestamp(time: Timestamp) -> Option<prost_types::Timestamp> {
    (time.as_second() >= -62_135_596_800)
        .then(|| prost_types::Timestamp { seconds: time.as_second(), nanos: 0 })
}
