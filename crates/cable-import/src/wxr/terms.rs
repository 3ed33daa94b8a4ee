//! Categories and tags: those that the export lists, and those that a post names without a listing.

use std::collections::{HashMap, HashSet};

use cable_body::html;

use super::{
    Element, Item, ItemOutcome, Records, SkipReason, addresses::without_addresses, bounded, label, leftovers,
    record, site::Site,
};
use crate::{ids, listed::name_of};
use cable_proto::v1::{self, record::Record as Kind};
use cable_proto::{limit, path};

/// The categories and tags that posts can name.
#[derive(Debug, Default)]
pub(super) struct Terms {
    records: Records,
    /// Slugs by name, for posts and parents of WXR 1.0, which name terms by name only.
    section_slugs: HashMap<String, String>,
    tag_slugs: HashMap<String, String>,
    listed_sections: HashSet<String>,
    /// The parents of the listed sections by slug, as the channel names them.
    section_parents: HashMap<String, String>,
    /// The slugs of the listed sections by number.
    section_numbers: HashMap<String, String>,
}

/// The maximum number of parents in the path of a section.
const MAX_PARENTS: usize = 16;

/// A category or tag, as the channel or a post has it.
struct Term<'a> {
    slug: String,
    name: &'a str,
    description: &'a str,
    parent: &'a str,
}

impl Terms {
    /// Collects the slug of a term that the channel lists.
    pub(super) fn add(&mut self, element: &Element) {
        let Some((taxonomy, term)) = term(element) else { return };
        let name = html::text(term.name);
        match taxonomy {
            "category" => {
                self.listed_sections.insert(term.slug.clone());
                if !term.parent.is_empty() {
                    self.section_parents.insert(term.slug.clone(), term.parent.to_owned());
                }
                self.section_numbers.insert(element.get("wp:term_id").to_owned(), term.slug.clone());
                self.section_slugs.entry(name).or_insert(term.slug);
            }
            "post_tag" => {
                self.tag_slugs.entry(name).or_insert(term.slug);
            }
            _ => {}
        }
    }

    /// Returns the item of a term that the channel lists.
    pub(super) fn item(&mut self, site: &Site, element: &Element) -> Item {
        let kind = element.name.strip_prefix("wp:").unwrap_or(&element.name);
        let (taxonomy, term) = term(element).unwrap_or(("", Term::of_post("", "")));
        let label = label(kind, element.get("wp:term_id"), &without_addresses(&html::text(term.name)));
        Item::new(label, kind, self.outcome(site, element, taxonomy, &term))
    }

    fn outcome(&mut self, site: &Site, element: &Element, taxonomy: &str, term: &Term<'_>) -> ItemOutcome {
        if let Some(damage) = &element.damage {
            return ItemOutcome::Failed(damage.clone());
        }
        if !matches!(taxonomy, "category" | "post_tag") {
            return ItemOutcome::Skipped(SkipReason::Taxonomy(taxonomy.to_owned()));
        }
        let mut notes = Vec::from_iter(element.note());
        if term.slug.is_empty() {
            return ItemOutcome::Failed("no slug and no name".into());
        }
        let record = match taxonomy {
            "category" => self.section(site, term, &mut notes),
            _ => tag(site, term, &mut notes),
        };
        match self.records.item(record, notes) {
            ItemOutcome::Converted(mut converted) => {
                leftovers::of_term(element, &mut converted.not_imported);
                ItemOutcome::Converted(converted)
            }
            outcome => outcome,
        }
    }

    /// Returns the section for a category of a post, and its record if this is the first mention of a section that the
    /// export does not list.
    pub(super) fn section_of_post(
        &mut self,
        site: &Site,
        nicename: &str,
        name: &str,
        notes: &mut Vec<String>,
    ) -> Option<(String, Option<v1::Record>)> {
        let term = named(&self.section_slugs, nicename, name)?;
        let record = self.section(site, &term, notes);
        Some((name_of(&record), self.records.mention(record)))
    }

    /// Returns the tag for a tag of a post, and its record if this is the first mention of a tag that the export does
    /// not list.
    pub(super) fn tag_of_post(
        &mut self,
        site: &Site,
        nicename: &str,
        name: &str,
        notes: &mut Vec<String>,
    ) -> Option<(String, Option<v1::Record>)> {
        let record = tag(site, &named(&self.tag_slugs, nicename, name)?, notes);
        Some((name_of(&record), self.records.mention(record)))
    }

    fn section(&self, site: &Site, term: &Term<'_>, notes: &mut Vec<String>) -> v1::Record {
        let id = site.id(&term.slug);
        let parent = site.id(self.parent_slug(site, term.parent));
        let path = self.path(site, term);
        record(Kind::Section(v1::Section {
            display_name: display_name(term, notes),
            tagline: bounded(&html::text(term.description), &limit::PARAGRAPH, "description", notes),
            path: if path::is_valid(&path) { path } else { String::new() },
            parent: if parent.is_empty() || parent == id {
                String::new()
            } else {
                format!("sections/{parent}")
            },
            name: format!("sections/{id}"),
            ..Default::default()
        }))
    }

    /// Returns the path that WordPress gives a section: the slugs of its parents, below the directory of the blog.
    fn path(&self, site: &Site, term: &Term<'_>) -> String {
        let mut path = format!("{}/", term.slug);
        let mut parent = term.parent;
        for _ in 0..MAX_PARENTS {
            let slug = self.parent_slug(site, parent);
            if slug.is_empty() {
                break;
            }
            path = format!("{slug}/{path}");
            parent = self.section_parents.get(slug).map_or("", String::as_str);
        }
        format!("{}/category/{path}", site.directory())
    }

    /// Returns the slug of a parent. WXR 1.0 gives the parent's name, later versions give its slug.
    fn parent_slug<'a>(&'a self, site: &Site, parent: &'a str) -> &'a str {
        if !site.names_parents() || self.listed_sections.contains(parent) {
            return parent;
        }
        self.section_slugs.get(&html::text(parent)).map_or(parent, String::as_str)
    }

    /// Returns the name of the section with a number of WordPress, if the export lists it.
    pub(super) fn section_by_number(&self, site: &Site, number: &str) -> Option<String> {
        self.section_numbers.get(number).map(|slug| format!("sections/{}", site.id(slug)))
    }
}

fn tag(site: &Site, term: &Term<'_>, notes: &mut Vec<String>) -> v1::Record {
    record(Kind::Tag(v1::Tag {
        display_name: display_name(term, notes),
        description: bounded(&html::text(term.description), &limit::PARAGRAPH, "description", notes),
        name: format!("tags/{}", site.id(&term.slug)),
        ..Default::default()
    }))
}

impl<'a> Term<'a> {
    fn of_post(slug: &str, name: &'a str) -> Self {
        Term { slug: slug.to_owned(), name, description: "", parent: "" }
    }
}

/// Returns the term that a post names by its slug, or only by its name.
fn named<'a>(slugs: &HashMap<String, String>, nicename: &str, name: &'a str) -> Option<Term<'a>> {
    let known = slugs.get(&html::text(name)).filter(|_| nicename.is_empty());
    let slug = known.cloned().unwrap_or_else(|| slug(nicename, name));
    (!slug.is_empty()).then(|| Term::of_post(&slug, name))
}

/// Returns the taxonomy and the term of an element of the channel. WXR 1.2 lists terms of every taxonomy as `wp:term`;
/// some plug-ins list categories and tags only so.
fn term(element: &Element) -> Option<(&str, Term<'_>)> {
    let (taxonomy, slug_field, name_field, description, parent) = match element.name.as_str() {
        "wp:category" => (
            "category",
            "wp:category_nicename",
            "wp:cat_name",
            "wp:category_description",
            "wp:category_parent",
        ),
        "wp:tag" => ("post_tag", "wp:tag_slug", "wp:tag_name", "wp:tag_description", ""),
        "wp:term" => (
            element.get("wp:term_taxonomy"),
            "wp:term_slug",
            "wp:term_name",
            "wp:term_description",
            "wp:term_parent",
        ),
        _ => return None,
    };
    let name = element.get(name_field);
    let term = Term {
        slug: slug(element.get(slug_field), name),
        name,
        description: element.get(description),
        parent: element.get(parent),
    };
    Some((taxonomy, term))
}

fn slug(nicename: &str, name: &str) -> String {
    match nicename {
        "" => ids::slug_of_name(&html::text(name)),
        slug => slug.to_owned(),
    }
}

fn display_name(term: &Term<'_>, notes: &mut Vec<String>) -> String {
    match html::text(term.name) {
        name if name.is_empty() => bounded(&term.slug, &limit::LINE, "display name", notes),
        name => bounded(&name, &limit::LINE, "display name", notes),
    }
}
