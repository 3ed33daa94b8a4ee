//! The first pass over an export: everything that posts refer to, and the paths that they claim.

use std::io::BufRead;

use jiff::Timestamp;

use super::{
    Element, Error, Item, ItemOutcome,
    article::{self, Visibility},
    attachments::Index,
    authors::{Authors, GUEST},
    label,
    languages::{LANGUAGE, Languages},
    paths::{self, Paths},
    patterns::{self, Patterns},
    reader::Reader,
    site::Site,
    terms::Terms,
    times::LocalTime,
};

/// The things that the posts of an export refer to.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) site: Site,
    pub(super) terms: Terms,
    pub(super) authors: Authors,
    pub(super) index: Index,
    pub(super) languages: Languages,
    pub(super) patterns: Patterns,
    pub(super) times: LocalTime,
    pub(super) paths: Paths,
}

/// A collector of the survey.
#[derive(Default)]
pub(super) struct Surveyor {
    survey: Survey,
    paths: paths::Collector,
    /// The elements that list authors, categories, tags and other terms.
    listed: Vec<Element>,
    now: Timestamp,
    items: u64,
    has_posts: bool,
    /// The error at which the reading of a file ended early.
    failure: Option<Error>,
}

impl Surveyor {
    pub(super) fn new(prefix: &str, now: Timestamp) -> Self {
        let survey = Survey { site: Site::new(prefix), ..Survey::default() };
        Surveyor { survey, now, ..Surveyor::default() }
    }

    /// Adds a file of the export. Where it is damaged, the second pass reports the error.
    pub(super) fn add_file<R: BufRead>(&mut self, reader: Reader<R>) -> Result<(), Error> {
        let mut site = Site::default();
        let mut is_wordpress = false;
        for element in reader {
            let element = match element {
                Ok(element) => element,
                Err(error @ (Error::Truncated { .. } | Error::Damaged(_))) => {
                    self.failure = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            };
            is_wordpress |= is_of_wordpress(&element);
            site.add(&element);
            self.add(element);
        }
        if !is_wordpress {
            let foreign = || Error::NotWxr("no element is in a namespace of WordPress".into());
            return Err(self.failure.take().unwrap_or_else(foreign));
        }
        let (expected, found) = (self.survey.site.address(), site.address());
        if expected != found && !found.is_empty() {
            return Err(Error::OtherSite { expected, found });
        }
        Ok(())
    }

    fn add(&mut self, element: Element) {
        self.survey.site.add(&element);
        match element.name.as_str() {
            "item" => self.add_item(&element),
            "wp:author" => self.listed.push(element),
            "wp:category" | "wp:tag" | "wp:term" => {
                self.add_term(&element);
                self.listed.push(element);
            }
            _ => self.items += u64::from(element.damage.is_some()),
        }
    }

    fn add_item(&mut self, item: &Element) {
        self.items += 1;
        let post_type = item.get("wp:post_type");
        self.has_posts |= !post_type.is_empty() || item.damage.is_some();
        if item.damage.is_some() {
            return;
        }
        match post_type {
            "attachment" => self.survey.index.add(item),
            GUEST => self.survey.authors.add_guest_item(item),
            patterns::POST_TYPE => self.survey.patterns.add(item),
            _ => {}
        }
        self.survey.times.add(item);
        let visibility = article::visibility(item, &self.survey.times, self.now);
        if let (Ok(visibility), Ok(id)) = (visibility, item.get("wp:post_id").parse()) {
            let is_scheduled = visibility == Visibility::Scheduled;
            self.paths.add(id, is_scheduled, item, &self.survey.site);
        }
    }

    fn add_term(&mut self, element: &Element) {
        if element.damage.is_some() {
            return;
        }
        self.survey.terms.add(element);
        let (slug, name) = (element.get("wp:term_slug"), element.get("wp:term_name"));
        let description = element.get("wp:term_description");
        match element.get("wp:term_taxonomy") {
            "author" => self.survey.authors.add_guest_term(slug, name, description),
            LANGUAGE => self.survey.languages.add(slug, description),
            _ => {}
        }
    }

    /// Returns the survey, an item for each listed element (categories, authors, tags, then other terms), and the total
    /// number of items.
    pub(super) fn finish(self) -> Result<(Survey, Vec<Item>, u64), Error> {
        let Surveyor { mut survey, paths, listed, items, has_posts, failure, .. } = self;
        if !has_posts {
            return Err(failure.unwrap_or(Error::NoPosts));
        }
        survey.paths = paths.finish();
        let mut channel = Vec::new();
        for name in ["wp:category", "wp:author", "wp:tag", "wp:term"] {
            for element in listed.iter().filter(|element| element.name == name) {
                channel.push(match name {
                    "wp:author" => survey.authors.user_item(&survey.site, element),
                    _ => survey.terms.item(&survey.site, element),
                });
            }
        }
        let total = items + channel.len() as u64;
        Ok((survey, channel, total))
    }
}

fn is_of_wordpress(element: &Element) -> bool {
    element.name.starts_with("wp:") || element.fields.iter().any(|field| field.name.starts_with("wp:"))
}

/// Returns the item of a damaged element that is neither a post nor a term.
pub(super) fn damaged_item(element: &Element, damage: &str) -> Item {
    let kind = element.name.clone();
    let outcome = ItemOutcome::Failed(damage.to_owned());
    Item::new(label(&kind, "", ""), kind, outcome)
}
