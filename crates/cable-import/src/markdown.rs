//! Directories of Markdown files with front matter, as Hugo and Jekyll have them, as records.
//!
//! The files are read twice: first their front matter, for the paths of the pages, then each one by itself. Symbolic
//! links are not followed.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    vec,
};

use cable_body::html;
use cable_proto::v1::{self, BodyFormat};
use jiff::{Timestamp, tz::Offset};
use serde_json::Value;

use crate::{
    ConvertedItem, Item, ItemOutcome, SkipReason, addresses,
    fit::label,
    front_matter, ids,
    piece::{Fitter, Piece, Term, is_web, path_of_url, timestamp, words},
    text, times,
};
use body::Pages;
use fields::Fields;
use permalink::Parts;
use walk::{Entry, Kind};

mod anchors;
mod body;
mod code;
mod fields;
mod headline;
mod permalink;
mod shortcodes;
#[cfg(test)]
mod tests;
mod walk;

pub use permalink::check as check_permalink;
pub use walk::{Error, MAX_DEPTH, MAX_ENTRIES, MAX_FILE_BYTES};

/// The role of the paths of files among the ids of other systems.
const ROLE: &str = "markdown";

/// The options of an import.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The time of the import. Files that are dated later become pending versions.
    pub now: Timestamp,
    /// The prefix of all ids, without its hyphen. If empty, there is none.
    pub prefix: String,
    /// Whether drafts are imported, as pending versions without a time.
    pub drafts: bool,
    /// The pattern of paths, such as `/:year/:month/:slug/`. If unset, that of Jekyll for files below `_posts`, and else
    /// the directory and the slug.
    pub permalink: Option<String>,
    /// The offset of times without a zone. If unset, UTC, with a note.
    pub offset: Option<Offset>,
}

/// The items of a directory, in the order of their paths.
pub struct Items {
    root: PathBuf,
    entries: vec::IntoIter<Entry>,
    total: u64,
    site: Site,
    fitter: Fitter,
}

/// The facts about the whole directory that a file can depend on.
#[derive(Debug, Default)]
struct Site {
    options: Options,
    /// The paths of pages by the path of the file without its extension.
    pages: HashMap<String, String>,
    /// The same by the name of the file; none for a name that several files have.
    names: HashMap<String, Option<String>>,
    /// The ids of articles that several files would get.
    shared: HashSet<String>,
}

/// Reads a directory.
///
/// # Errors
/// Fails if a directory cannot be read, if there are too many files, or none of Markdown.
pub fn read(root: &Path, options: &Options) -> Result<Items, Error> {
    let entries = walk::walk(root)?;
    let mut site = Site { options: options.clone(), ..Site::default() };
    let mut fitter = Fitter::new(&options.prefix, options.now);
    let (mut ids, mut claims) = (HashSet::new(), Vec::new());
    for entry in &entries {
        let Some(survey) = survey(root, entry, options) else { continue };
        let id = id_of(&entry.path);
        if !ids.insert(id.clone()) {
            site.shared.insert(id.clone());
        }
        let stem = without_extension(&entry.path).to_owned();
        if let Some(path) = survey.path {
            claims.push((survey.is_later, path.clone(), id));
            let name = stem.strip_suffix("/index").unwrap_or(&stem);
            let name = name.rsplit('/').next().unwrap_or_default().to_owned();
            site.names.entry(name).and_modify(|other| *other = None).or_insert(Some(path.clone()));
            site.pages.insert(stem, path);
        }
    }
    // A page that readers see has its path before one that they see later.
    claims.sort_by_key(|(is_later, ..)| *is_later);
    for (_, path, id) in claims {
        fitter.claim(&path, &id);
    }
    Ok(Items {
        root: root.to_owned(),
        total: entries.len() as u64,
        entries: entries.into_iter(),
        site,
        fitter,
    })
}

impl Items {
    /// Returns the total number of items.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    fn item(&mut self, entry: &Entry) -> Item {
        let (title, outcome) = self.convert(entry);
        let kind = match entry.kind {
            Kind::Markdown | Kind::Html => "page",
            _ => "file",
        };
        let article = self.fitter.article(&id_of(&entry.path));
        Item::of_article(label(kind, &entry.path, &title), kind, outcome, article)
    }

    fn convert(&mut self, entry: &Entry) -> (String, ItemOutcome) {
        let skipped = |reason| (String::new(), ItemOutcome::Skipped(reason));
        let failed = |problem: String| (String::new(), ItemOutcome::Failed(problem));
        match &entry.kind {
            Kind::Hidden => return skipped(SkipReason::Hidden),
            Kind::SymbolicLink => return skipped(SkipReason::SymbolicLink),
            Kind::Broken(problem) => return failed(problem.clone()),
            Kind::Other => {
                let extension = html::head(walk::extension(&entry.path), 16).to_lowercase();
                let extension = if extension.is_empty() { "no extension".to_owned() } else { extension };
                return skipped(SkipReason::NotMarkdown(extension));
            }
            Kind::Markdown | Kind::Html => {}
        }
        let bytes = match walk::read(&self.root, &entry.path) {
            Ok(bytes) => bytes,
            Err(problem) => return failed(problem),
        };
        let text = match text::decode(&bytes) {
            Ok(text) => text,
            Err(error) => return failed(error.to_string()),
        };
        let text = text.as_ref();
        let (fields, body) = match split(text) {
            Ok(Some((fields, body))) => (fields, body),
            Ok(None) if entry.kind == Kind::Html => return skipped(SkipReason::PlainHtml),
            Ok(None) => (Fields::default(), text),
            Err(error) => return failed(error.to_string()),
        };
        if self.site.shared.contains(&id_of(&entry.path)) {
            return failed(format!("another file has the id {}: rename one of them", id_of(&entry.path)));
        }
        let mut page = match Page::new(&entry.path, fields, &self.site.options) {
            Ok(page) => page,
            Err(problem) => return failed(problem),
        };
        let title = words(&page.title);
        if let Some(reason) = page.skip_reason(&self.site.options) {
            return (title, ItemOutcome::Skipped(reason));
        }
        let format = if entry.kind == Kind::Html { BodyFormat::Html } else { BodyFormat::Markdown };
        match page.piece(body, format, &self.site) {
            Ok(piece) => {
                let title = words(&piece.article.headline);
                (title, self.fitter.fit(piece))
            }
            Err(problem) => (title, ItemOutcome::Failed(problem)),
        }
    }
}

impl Iterator for Items {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        let entry = self.entries.next()?;
        Some(self.item(&entry))
    }
}

/// The facts about one file that others depend on.
struct Survey {
    path: Option<String>,
    is_later: bool,
}

/// Returns the facts about a file, if it becomes an article.
fn survey(root: &Path, entry: &Entry, options: &Options) -> Option<Survey> {
    if !matches!(entry.kind, Kind::Markdown | Kind::Html) {
        return None;
    }
    let bytes = walk::read(root, &entry.path).ok()?;
    let fields = match split(&text::decode(&bytes).ok()?).ok()? {
        Some((fields, _)) => fields,
        None if entry.kind == Kind::Html => return None,
        None => Fields::default(),
    };
    let mut page = Page::new(&entry.path, fields, options).ok()?;
    if page.skip_reason(options).is_some() {
        return None;
    }
    let is_later = page.is_draft || page.published.is_some_and(|time| time > options.now);
    Some(Survey { path: page.path(options), is_later })
}

fn split(text: &str) -> Result<Option<(Fields, &str)>, front_matter::Error> {
    Ok(front_matter::fields(text)?.map(|(fields, body)| (Fields::new(fields), body)))
}

fn without_extension(path: &str) -> &str {
    match walk::extension(path) {
        "" => path,
        extension => &path[..path.len() - extension.len() - 1],
    }
}

/// Returns the id of the article for a file: its path without the extension, with a dot for each slash.
fn id_of(path: &str) -> String {
    let stem = without_extension(path);
    stem.strip_suffix("/index").unwrap_or(stem).replace('/', ".")
}

/// A file with the fields that decide whether it becomes an article.
struct Page<'a> {
    /// The path of the file.
    file: &'a str,
    fields: Fields,
    title: String,
    is_draft: bool,
    published: Option<Timestamp>,
    modified: Option<Timestamp>,
    expires: Option<Timestamp>,
    slug: String,
    categories: Vec<String>,
    notes: Vec<String>,
}

/// Splits a file name such as `2024-03-01-storm` into its date and its slug.
fn dated(stem: &str) -> (Option<&str>, &str) {
    let date = stem.get(..10).filter(|date| times::parse(date, Offset::UTC).is_some());
    match (date, stem.get(10..).and_then(|rest| rest.strip_prefix(['-', '_']))) {
        (Some(date), Some(slug)) if !slug.is_empty() => (Some(date), slug),
        _ => (None, stem),
    }
}

impl<'a> Page<'a> {
    fn new(file: &'a str, fields: Fields, options: &Options) -> Result<Self, String> {
        let mut page = Page {
            file,
            fields,
            title: String::new(),
            is_draft: false,
            published: None,
            modified: None,
            expires: None,
            slug: String::new(),
            categories: Vec::new(),
            notes: Vec::new(),
        };
        page.title = page.fields.text(&["title", "headline"]).map(|(_, text)| text).unwrap_or_default();
        let is_published = page.fields.flag("published").unwrap_or(true);
        page.is_draft = page.fields.flag("draft").unwrap_or(false)
            || !is_published
            || file.split('/').any(|part| part == "_drafts");
        let (date, slug) = dated(page.stem());
        let (date, slug) = (date.map(str::to_owned), slug.to_owned());
        page.slug = match page.fields.text(&["slug"]) {
            Some((_, slug)) => slug,
            None => slug,
        };
        page.published = page.time(&["publishdate", "pubdate", "published_at"], options)?;
        let dated = page.time(&["date"], options)?;
        page.published = page.published.or(dated);
        if page.published.is_none()
            && let Some(date) = date
        {
            let offset = options.offset.unwrap_or(Offset::UTC);
            page.published = times::parse(&date, offset).map(|time| time.instant);
            if options.offset.is_none() {
                page.notes.push(format!("date {date} of the file name: taken as UTC"));
            }
        }
        page.modified = page.time(
            &["lastmod", "last_modified_at", "modified", "updated", "updateddate", "updated_at"],
            options,
        )?;
        page.expires = page.time(&["expirydate", "unpublishdate"], options)?;
        page.categories = page.fields.list("categories", true);
        page.categories.extend(page.fields.list("category", false));
        page.categories.extend(page.fields.list("section", false));
        if let Some((above, _)) = page.directory().split_once("_posts").filter(|_| page.categories.is_empty())
        {
            // Jekyll takes the directories above `_posts` for categories.
            page.categories.extend(above.split('/').filter(|part| !part.is_empty()).map(str::to_owned));
        }
        Ok(page)
    }

    /// Returns the name of the file without its extension; that of the directory for `index`.
    fn stem(&self) -> &'a str {
        let stem = without_extension(self.file);
        let stem = stem.strip_suffix("/index").unwrap_or(stem);
        stem.rsplit('/').next().unwrap_or_default()
    }

    fn directory(&self) -> &'a str {
        let stem = without_extension(self.file);
        let stem = stem.strip_suffix("/index").unwrap_or(stem);
        stem.rsplit_once('/').map_or("", |(directory, _)| directory)
    }

    /// Returns whether the file has a directory of its own, with its pictures.
    fn is_bundle(&self) -> bool {
        without_extension(self.file).ends_with("/index")
    }

    fn time(&mut self, keys: &[&'static str], options: &Options) -> Result<Option<Timestamp>, String> {
        let Some((key, text)) = self.fields.text(keys) else { return Ok(None) };
        let Some(time) = times::parse(&text, options.offset.unwrap_or(Offset::UTC)) else {
            let text = html::head(&text, 64);
            return Err(format!(
                "field `{key}`: {text:?} is not a time: write one such as 2026-03-01T06:00:00Z"
            ));
        };
        if !time.has_zone && options.offset.is_none() {
            self.notes.push(format!("{key} {text} has no time zone: taken as UTC"));
        }
        Ok(Some(time.instant))
    }

    fn skip_reason(&self, options: &Options) -> Option<SkipReason> {
        let name = self.file.rsplit('/').next().unwrap_or_default();
        if without_extension(name) == "_index" {
            return Some(SkipReason::ListPage);
        }
        if self.is_draft && !options.drafts {
            return Some(SkipReason::Status("draft".into()));
        }
        self.expires.filter(|time| *time <= options.now).map(|_| SkipReason::Expired)
    }

    /// Returns the path of the page.
    fn path(&mut self, options: &Options) -> Option<String> {
        if matches!(self.fields.take("permalink"), Some(Value::String(text)) if text == "false") {
            return None;
        }
        let stated = self.fields.text(&["url"]).or_else(|| self.fields.text(&["permalink"]));
        if let Some((_, text)) = stated.filter(|(_, text)| !text.contains("{{")) {
            let text = if is_web(&text) { path_of_url(&text) } else { &text };
            return permalink::stated(permalink::style(text), &self.parts(options));
        }
        let is_post = self.directory().split('/').any(|part| part == "_posts");
        let pattern = match &options.permalink {
            Some(pattern) => pattern,
            None if is_post => permalink::style("date"),
            None if self.slug == "index" && self.directory().is_empty() => "/",
            None => "/:sections/:slug/",
        };
        permalink::expand(pattern, &self.parts(options))
    }

    fn parts(&self, options: &Options) -> Parts<'_> {
        Parts {
            date: self.published,
            offset: options.offset,
            slug: &self.slug,
            title: &self.title,
            stem: dated(self.stem()).1,
            directory: self.directory(),
            categories: self.categories.clone(),
        }
    }

    /// Returns the article.
    fn piece(&mut self, text: &str, format: BodyFormat, site: &Site) -> Result<Piece, String> {
        let path = self.path(&site.options);
        let base = if self.is_bundle() { path.clone().unwrap_or_default() } else { String::new() };
        let pages = Location { site, file: self.file, base };
        let converted = body::convert_body(text, format, !self.title.is_empty(), &pages)
            .map_err(|error| format!("body {error}; or split the article"))?;
        if self.title.is_empty() {
            self.title = body::escaped(&addresses::without_addresses(&converted.headline));
        }
        let mut result = ConvertedItem { notes: std::mem::take(&mut self.notes), ..ConvertedItem::default() };
        result.notes.extend(converted.notes);
        result.not_imported = converted.counts;
        if path.is_none() {
            result.notes.push("no path: set `url` or `permalink`, or give --permalink".into());
        }
        let mut article = v1::Article {
            headline: std::mem::take(&mut self.title),
            body: Some(converted.body),
            path: path.unwrap_or_default(),
            publish_time: self.published.and_then(timestamp),
            modified_time: self.modified.and_then(timestamp),
            expire_time: self.expires.and_then(timestamp),
            alt_ids: vec![v1::AltId { role: ROLE.into(), value: self.file.to_owned() }],
            ..Default::default()
        };
        self.set_texts(&mut article);
        article.lead_media = self.lead_media(&pages, &mut result.notes);
        article.alias_paths = self.aliases(&article.path);
        let mut authors = self.fields.list("authors", false);
        authors.extend(self.fields.list("author", false));
        let mut tags = self.fields.list("tags", true);
        tags.extend(self.fields.list("tag", false));
        tags.extend(self.fields.list("keywords", false));
        self.fields.rest(&mut result.not_imported);
        let terms = |names: Vec<String>| names.iter().map(|name| Term::of_name(name)).collect();
        Ok(Piece {
            article,
            id: id_of(self.file),
            sections: terms(std::mem::take(&mut self.categories)),
            tags: terms(tags),
            authors: terms(authors),
            is_draft: self.is_draft,
            result,
        })
    }

    fn set_texts(&mut self, article: &mut v1::Article) {
        let mut text =
            |keys: &[&'static str]| self.fields.text(keys).map(|(_, text)| text).unwrap_or_default();
        article.dek = text(&["subtitle", "dek", "standfirst"]);
        article.kicker = String::new();
        article.summary = text(&["excerpt", "summary", "description"]);
        article.language = text(&["lang", "language", "locale"]);
        article.canonical_url = text(&["canonical_url", "canonicalurl", "canonical"]);
        for (role, keys) in [("seo", &["seo_title", "meta_title"][..]), ("short", &["linktitle"][..])] {
            let text = text(keys);
            if !text.is_empty() {
                article.alternative_headlines.push(v1::AlternativeHeadline { role: role.into(), text });
            }
        }
        let group = text(&["translationkey"]);
        article.translation_group = if group.is_empty() { group } else { ids::from_slug("", &group) };
    }

    /// Returns the picture of the page, from the fields that themes use for it.
    fn lead_media(&mut self, pages: &Location<'_>, notes: &mut Vec<String>) -> Option<v1::Media> {
        let keys = [
            "image",
            "featured_image",
            "featuredimage",
            "feature_image",
            "cover",
            "images",
            "banner",
            "thumbnail",
            "hero_image",
            "header",
        ];
        for key in keys {
            let (mut alt, mut caption, mut credit) = Default::default();
            let src = match self.fields.values_of(key) {
                Some(Value::String(text)) => text,
                Some(Value::Array(values)) => {
                    let others = values.len().saturating_sub(1);
                    match values.into_iter().next() {
                        Some(Value::String(text)) => {
                            if others > 0 {
                                notes.push(format!(
                                    "field `{key}`: {others} pictures after the first omitted"
                                ));
                            }
                            text
                        }
                        _ => continue,
                    }
                }
                Some(Value::Object(map)) => {
                    let get = |keys: &[&str]| {
                        keys.iter().find_map(|key| map.get(*key)?.as_str()).unwrap_or_default().to_owned()
                    };
                    alt = get(&["alt"]);
                    (caption, credit) = (get(&["caption", "title"]), get(&["credit", "attribution"]));
                    let src = get(&["src", "url", "path", "image", "filename"]);
                    let used = [&src, &alt, &caption, &credit];
                    let omitted = map.iter().filter(|(_, value)| match value {
                        Value::String(text) => {
                            let is_flag = matches!(text.as_str(), "" | "true" | "false");
                            !is_flag && !used.contains(&text)
                        }
                        value => !value.is_null(),
                    });
                    notes.extend(omitted.map(|(name, _)| format!("field `{key}.{name}` omitted")));
                    src
                }
                _ => continue,
            };
            let Some(rendition) =
                html::rendition(&pages.file(&src), None, None).filter(|_| !src.trim().is_empty())
            else {
                if !src.trim().is_empty() {
                    notes.push(format!(
                        "picture omitted: field `{key}`: {:?} is not a URL",
                        html::head(&src, 200)
                    ));
                    self.fields.take(key);
                }
                continue;
            };
            self.fields.take(key);
            let mut companion = |own: String, keys: &[&'static str]| match own {
                own if own.is_empty() => self.fields.text(keys).map(|(_, text)| text).unwrap_or_default(),
                own => own,
            };
            let alt_text =
                companion(alt, &["image_alt", "imagealt", "featured_image_alt", "feature_image_alt", "alt"]);
            let caption = companion(
                caption,
                &["image_caption", "image_figcaption", "featured_image_caption", "feature_image_caption"],
            );
            let credit = companion(credit, &["image_credit", "featured_image_credit"]);
            return Some(v1::Media {
                renditions: vec![rendition],
                alt_text,
                caption: html::spans(&cable_proto::text::remove_forbidden(&caption).0),
                credit,
                ..Default::default()
            });
        }
        None
    }

    /// Returns the former paths: those of Hugo can be relative to the directory of the page.
    fn aliases(&mut self, path: &str) -> Vec<String> {
        let mut aliases = self.fields.list("aliases", true);
        aliases.extend(self.fields.list("redirect_from", false));
        let directory = path.trim_end_matches('/').rsplit_once('/').map_or("", |(directory, _)| directory);
        let absolute = |alias: String| match alias {
            alias if is_web(&alias) => permalink::resolve("", path_and_query(&alias)),
            alias if alias.starts_with('/') => permalink::resolve("", &alias),
            alias => permalink::resolve(directory, &alias),
        };
        aliases.into_iter().map(absolute).collect()
    }
}

/// Returns the path and the query of a URL: a former address with a query is no path.
fn path_and_query(url: &str) -> &str {
    let url = url.split('#').next().unwrap_or_default();
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find(['/', '?']).map_or("/", |at| &rest[at..])
}

/// The place of a file in the directory.
struct Location<'a> {
    site: &'a Site,
    file: &'a str,
    /// The path of the page whose directory has its files; empty if it has none of its own.
    base: String,
}

impl Pages for Location<'_> {
    fn page(&self, file: &str) -> Option<String> {
        let (file, fragment) = file.split_once('#').map_or((file, ""), |(file, rest)| (file, rest));
        let wanted =
            if file.ends_with(".md") || file.ends_with(".markdown") { without_extension(file) } else { file };
        let wanted = wanted.trim_end_matches('/');
        let directory = self.file.rsplit_once('/').map_or("", |(directory, _)| directory);
        let near = join(if wanted.starts_with('/') { "" } else { directory }, wanted)?;
        let far = wanted.trim_start_matches('/');
        let candidates = [
            near.clone(),
            format!("{near}/index"),
            far.to_owned(),
            format!("{far}/index"),
            format!("_posts/{far}"),
        ];
        let name = wanted.rsplit('/').next().unwrap_or_default();
        let by_name = || self.site.names.get(name).cloned().flatten();
        let path = candidates.iter().find_map(|path| self.site.pages.get(path).cloned()).or_else(by_name)?;
        Some(if fragment.is_empty() { path } else { format!("{path}#{fragment}") })
    }

    fn file(&self, url: &str) -> String {
        let is_relative = !url.is_empty() && !url.starts_with(['/', '#', '?']) && !url.contains(':');
        if !is_relative || self.base.is_empty() {
            return url.to_owned();
        }
        match join(self.base.trim_matches('/'), url) {
            Some(path) => format!("/{path}"),
            None => url.to_owned(),
        }
    }
}

/// Joins a relative path to a directory. `None` if it leads above the root.
fn join(directory: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
