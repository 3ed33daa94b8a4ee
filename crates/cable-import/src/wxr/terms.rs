//! Authors, categories and tags: those that the export lists, and those that a post names without a listing.

use std::collections::{HashMap, HashSet};

use cable_body::html;

use super::{ConvertedItem, Element, Item, ItemOutcome, NOT_UTF8, SkipReason, bounded, label};
use crate::ids;
use cable_proto::v1::{self, record::Record as Kind};
use cable_proto::{limit, path};

/// The terms that posts can name.
#[derive(Debug, Default)]
pub(super) struct Terms {
    sections: HashSet<String>,
    tags: HashSet<String>,
    /// Display names by id.
    authors: HashMap<String, String>,
    /// Slugs by name, for posts of WXR 1.0 that name terms by name only.
    section_slugs: HashMap<String, String>,
    tag_slugs: HashMap<String, String>,
}

/// A collector of the elements that the channel lists.
#[derive(Debug, Default)]
pub(super) struct Collector {
    elements: Vec<Element>,
}

impl Collector {
    pub(super) fn add(&mut self, element: Element) {
        self.elements.push(element);
    }

    /// Returns the terms, and an item for each element: sections, authors, tags, then other terms.
    pub(super) fn finish(self) -> (Terms, Vec<Item>) {
        let mut terms = Terms::default();
        for element in &self.elements {
            terms.index_slug(element);
        }
        let items = |names: &[&str], terms: &mut Terms| -> Vec<Item> {
            let named = self.elements.iter().filter(|e| names.contains(&e.name.as_str()));
            named.map(|element| terms.item(element)).collect()
        };
        let mut all = items(&["wp:category"], &mut terms);
        all.extend(items(&["wp:author"], &mut terms));
        all.extend(items(&["wp:tag"], &mut terms));
        all.extend(items(&["wp:term"], &mut terms));
        (terms, all)
    }
}

/// A category or tag, as the channel or a post has it.
struct Term<'a> {
    slug: String,
    name: &'a str,
    description: &'a str,
    parent: &'a str,
}

impl Terms {
    fn index_slug(&mut self, element: &Element) {
        match element.name.as_str() {
            "wp:category" => {
                let term = category(element);
                self.section_slugs.insert(html::plain(term.name), term.slug);
            }
            "wp:tag" => {
                let term = tag(element);
                self.tag_slugs.insert(html::plain(term.name), term.slug);
            }
            _ => {}
        }
    }

    fn item(&mut self, element: &Element) -> Item {
        match element.name.as_str() {
            "wp:category" => {
                self.section_item("category", element.get("wp:term_id"), &category(element), element)
            }
            "wp:author" => self.author_item(element),
            "wp:tag" => self.tag_item("tag", element.get("wp:term_id"), &tag(element), element),
            _ => self.term_item(element),
        }
    }

    /// Returns the item of a wp:term. WXR 1.2 lists terms of every taxonomy so; some plug-ins list categories and tags
    /// only so.
    fn term_item(&mut self, element: &Element) -> Item {
        let id = element.get("wp:term_id");
        let term = Term {
            slug: slug(element.get("wp:term_slug"), element.get("wp:term_name")),
            name: element.get("wp:term_name"),
            description: element.get("wp:term_description"),
            parent: element.get("wp:term_parent"),
        };
        match element.get("wp:term_taxonomy") {
            "category" => self.section_item("term", id, &term, element),
            "post_tag" => self.tag_item("term", id, &term, element),
            other => Item {
                label: label("term", id, &html::plain(term.name)),
                kind: "term".into(),
                outcome: ItemOutcome::Skipped(SkipReason::Taxonomy(other.to_owned())),
            },
        }
    }

    fn section_item(&mut self, kind: &str, id: &str, term: &Term<'_>, element: &Element) -> Item {
        let mut notes = Vec::from_iter(element.note());
        let record = self.section(term, &mut notes);
        item(kind, id, term.name, element, record, notes)
    }

    fn tag_item(&mut self, kind: &str, id: &str, term: &Term<'_>, element: &Element) -> Item {
        let mut notes = Vec::from_iter(element.note());
        let record = self.tag(term, &mut notes);
        item(kind, id, term.name, element, record, notes)
    }

    fn author_item(&mut self, element: &Element) -> Item {
        let mut notes = Vec::from_iter(element.note());
        let login = element.get("wp:author_login");
        let display_name = match element.get("wp:author_display_name") {
            "" => login,
            name => name,
        };
        let wordpress_id = element.get("wp:author_id");
        let record = self.author(login, display_name, wordpress_id, &mut notes);
        item("author", wordpress_id, display_name, element, record, notes)
    }

    /// Returns the section for a category of a post, and its record if this is its first use.
    pub(super) fn section_of_post(
        &mut self,
        nicename: &str,
        name: &str,
        notes: &mut Vec<String>,
    ) -> Option<(String, Option<v1::Record>)> {
        let plain = html::plain(name);
        let known = self.section_slugs.get(&plain).filter(|_| nicename.is_empty());
        let slug = known.cloned().unwrap_or_else(|| slug(nicename, name));
        let id = ids::from_slug(&slug);
        let record = self.section(&Term { slug, name, description: "", parent: "" }, notes);
        (!id.is_empty()).then(|| (format!("sections/{id}"), record))
    }

    /// Returns the tag for a tag of a post, and its record if this is its first use.
    pub(super) fn tag_of_post(
        &mut self,
        nicename: &str,
        name: &str,
        notes: &mut Vec<String>,
    ) -> Option<(String, Option<v1::Record>)> {
        let plain = html::plain(name);
        let known = self.tag_slugs.get(&plain).filter(|_| nicename.is_empty());
        let slug = known.cloned().unwrap_or_else(|| slug(nicename, name));
        let id = ids::from_slug(&slug);
        let record = self.tag(&Term { slug, name, description: "", parent: "" }, notes);
        (!id.is_empty()).then(|| (format!("tags/{id}"), record))
    }

    /// Returns the author of a post: the name, the display name, and the record if this is its first use.
    pub(super) fn author_of_post(
        &mut self,
        login: &str,
        notes: &mut Vec<String>,
    ) -> Option<(String, String, Option<v1::Record>)> {
        let id = ids::from_slug(login);
        let record = self.author(login, login, "", notes);
        let display_name = self.authors.get(&id)?.clone();
        Some((format!("authors/{id}"), display_name, record))
    }

    fn section(&mut self, term: &Term<'_>, notes: &mut Vec<String>) -> Option<v1::Record> {
        let id = ids::from_slug(&term.slug);
        if id.is_empty() || !self.sections.insert(id.clone()) {
            return None;
        }
        let parent = match term.parent {
            "" => String::new(),
            // WXR 1.0 gives the parent's name, later versions its slug.
            parent => ids::from_slug(self.section_slugs.get(parent).map_or(parent, String::as_str)),
        };
        let path = format!("/category/{}/", term.slug);
        Some(record(Kind::Section(v1::Section {
            display_name: display_name(term, notes),
            tagline: bounded(&html::plain(term.description), &limit::PARAGRAPH, "description", notes),
            path: if path::is_valid(&path) { path } else { String::new() },
            parent: if parent.is_empty() || parent == id {
                String::new()
            } else {
                format!("sections/{parent}")
            },
            name: format!("sections/{id}"),
            ..Default::default()
        })))
    }

    fn tag(&mut self, term: &Term<'_>, notes: &mut Vec<String>) -> Option<v1::Record> {
        let id = ids::from_slug(&term.slug);
        if id.is_empty() || !self.tags.insert(id.clone()) {
            return None;
        }
        Some(record(Kind::Tag(v1::Tag {
            display_name: display_name(term, notes),
            description: bounded(&html::plain(term.description), &limit::PARAGRAPH, "description", notes),
            name: format!("tags/{id}"),
            ..Default::default()
        })))
    }

    fn author(
        &mut self,
        login: &str,
        display_name: &str,
        wordpress_id: &str,
        notes: &mut Vec<String>,
    ) -> Option<v1::Record> {
        let id = ids::from_slug(login);
        if id.is_empty() || self.authors.contains_key(&id) {
            return None;
        }
        let display_name = match html::plain(display_name) {
            name if name.is_empty() => login.to_owned(),
            name => name,
        };
        let display_name = bounded(&display_name, &limit::LINE, "display name", notes);
        self.authors.insert(id.clone(), display_name.clone());
        let mut author = v1::Author { name: format!("authors/{id}"), display_name, ..Default::default() };
        if !wordpress_id.is_empty() {
            author.alt_ids.insert("wordpress".into(), wordpress_id.to_owned());
        }
        Some(record(Kind::Author(author)))
    }
}

fn item(
    kind: &str,
    id: &str,
    name: &str,
    element: &Element,
    record: Option<v1::Record>,
    notes: Vec<String>,
) -> Item {
    let outcome = match record {
        _ if element.damaged => ItemOutcome::Failed(NOT_UTF8.into()),
        Some(record) => {
            ItemOutcome::Converted(ConvertedItem { records: vec![record], notes, ..ConvertedItem::default() })
        }
        None if name.is_empty() => ItemOutcome::Failed("no slug and no name".into()),
        None => ItemOutcome::Skipped(SkipReason::Duplicate),
    };
    Item { label: label(kind, id, &html::plain(name)), kind: kind.to_owned(), outcome }
}

pub(super) fn record(kind: Kind) -> v1::Record {
    v1::Record { record: Some(kind), ..Default::default() }
}

fn category(element: &Element) -> Term<'_> {
    let name = element.get("wp:cat_name");
    Term {
        slug: slug(element.get("wp:category_nicename"), name),
        name,
        description: element.get("wp:category_description"),
        parent: element.get("wp:category_parent"),
    }
}

fn tag(element: &Element) -> Term<'_> {
    let name = element.get("wp:tag_name");
    Term {
        slug: slug(element.get("wp:tag_slug"), name),
        name,
        description: element.get("wp:tag_description"),
        parent: "",
    }
}

fn slug(nicename: &str, name: &str) -> String {
    match nicename {
        "" => ids::slug_of_name(&html::plain(name)),
        slug => slug.to_owned(),
    }
}

fn display_name(term: &Term<'_>, notes: &mut Vec<String>) -> String {
    match html::plain(term.name) {
        name if name.is_empty() => bounded(&term.slug, &limit::LINE, "display name", notes),
        name => bounded(&name, &limit::LINE, "display name", notes),
    }
}
