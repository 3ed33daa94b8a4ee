//! Whether one article matches a query, decided by its record instead of the lists.

use std::collections::HashSet;

use super::{Error, Record, Snapshot, listing::Query};
use crate::{
    entry::{Derived, Term},
    model::{Id, Kind, Name},
    wire::{fields, number::SECTION_PARENT},
};

impl Snapshot<'_> {
    /// Returns whether an article matches a query. A removed article matches if it did at its removal, as far as its
    /// tombstone shows: the tombstone has the tags, sections and authors of the article. A query for a type, a language
    /// or a time matches no removed article.
    pub(crate) fn matches(self, query: &Query, record: &Record) -> Result<bool, Error> {
        let derived = Derived::without_content_hash(&record.name, &record.log);
        let terms = match derived.live {
            true => derived.terms,
            false => last_terms(derived),
        };
        let has = |term: &Term| terms.contains(term);
        let in_time = match record.is_put() {
            true => query.is_in_time_range(Derived::time(&record.name, &record.log)),
            false => query.not_before.is_none() && query.before.is_none(),
        };
        let matches = in_time
            && !terms.is_empty()
            && query.groups.iter().all(|group| group.iter().any(has))
            && !query.excluded.iter().any(has);
        if !matches {
            return Ok(false);
        }
        for root in &query.section_trees {
            if !self.is_in_tree(&terms, root)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns whether one of the terms is a section, or a section below it. Each section is visited once, so that
    /// parents may form a cycle.
    fn is_in_tree(self, terms: &[Term], root: &Id) -> Result<bool, Error> {
        let section = |term: &Term| match term {
            Term::Section(id) => Some(id.clone()),
            _ => None,
        };
        let mut next: Vec<Id> = terms.iter().filter_map(section).collect();
        let mut seen = HashSet::new();
        while let Some(id) = next.pop() {
            if id == *root {
                return Ok(true);
            }
            if seen.insert(id.clone()) {
                next.extend(self.parent(id)?);
            }
        }
        Ok(false)
    }

    fn parent(self, id: Id) -> Result<Option<Id>, Error> {
        let record = self.record(&Name { kind: Kind::Section, id })?.filter(Record::is_put);
        let parent = record.as_ref().and_then(|record| fields::last(&record.log.content, SECTION_PARENT));
        let parent = parent.and_then(|parent| Name::parse(std::str::from_utf8(parent).ok()?));
        Ok(parent.map(|parent| parent.id))
    }
}

/// Returns the lists that a removed article was in until its removal. Empty if they are unknown.
fn last_terms(removed: Derived) -> Vec<Term> {
    let last = removed.departures.into_iter().filter(|(_, at)| *at == 0);
    last.map(|(term, _)| term).collect()
}
