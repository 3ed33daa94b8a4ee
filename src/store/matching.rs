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
        let derived = Derived::of_lists(&record.name, &record.log);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;

    use super::*;
    use crate::{
        entry::Entry,
        filter,
        model::Slot,
        store::fixture::{apply, name, open, snapshot},
        wire::{log, v1},
    };

    /// Numbers that look random, the same in each run.
    struct Draw(u64);

    impl Draw {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 += 1;
            xxhash_rust::xxh3::xxh3_64(&self.0.to_le_bytes()) % bound
        }

        fn names(&mut self, prefix: &str, max: u64) -> Vec<String> {
            let numbers: BTreeSet<u64> = (0..self.below(max + 1)).map(|_| self.below(4)).collect();
            numbers.into_iter().map(|number| format!("{prefix}/{number}")).collect()
        }

        fn section(&mut self) -> String {
            format!("sections/{}", self.below(4))
        }

        fn article(&mut self) -> v1::Article {
            let credits = self.names("authors", 2).into_iter();
            let credits = credits.map(|author| v1::Credit { author, ..Default::default() }).collect();
            v1::Article {
                tags: self.names("tags", 3),
                section: self.section(),
                additional_sections: vec![self.section()],
                byline: Some(v1::Byline { credits, ..Default::default() }),
                path: "/page".to_owned(),
                r#type: self.below(3) as i32,
                language: ["", "en-GB", "ru"][self.below(3) as usize].to_owned(),
                publish_time: Some(prost_types::Timestamp { seconds: self.below(8) as i64, nanos: 0 }),
                ..Default::default()
            }
        }

        fn filter(&mut self) -> v1::ArticleFilter {
            let mut filter = v1::ArticleFilter::default();
            for _ in 0..=self.below(2) {
                match self.below(8) {
                    0 => filter.all_tags = self.names("tags", 2),
                    1 => filter.any_tags = self.names("tags", 3),
                    2 => filter.excluded_tags = self.names("tags", 2),
                    3 => filter.section = self.section(),
                    4 => (filter.section, filter.include_child_sections) = (self.section(), true),
                    5 => filter.authors = self.names("authors", 2),
                    6 => filter.types = vec![1 + self.below(2) as i32],
                    _ => {
                        filter.language = "EN-gb".to_owned();
                        filter.published_after =
                            Some(prost_types::Timestamp { seconds: self.below(6) as i64, nanos: 0 });
                    }
                }
            }
            filter
        }
    }

    fn entry(name: Name, content: Vec<u8>) -> Entry {
        let operation = log::Operation::Put as i32;
        Entry::new(
            name,
            Slot::Live,
            log::LogEntry { operation, content: content.into(), ..Default::default() },
        )
    }

    #[test]
    fn a_record_matches_exactly_if_the_listing_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = open(dir.path());
        let mut draw = Draw(1);
        // 0 above 1 above 2, and a cycle of 3 with itself.
        for (id, parent) in [(1, 0), (2, 1), (3, 3)] {
            let section = v1::Section { parent: format!("sections/{parent}"), ..Default::default() };
            let name = Name::parse(&format!("sections/{id}")).unwrap();
            apply(&mut writer, &[entry(name, section.encode_to_vec())]);
        }
        let names: Vec<Name> = (0..40).map(|number| name(&format!("a{number}"))).collect();
        for name in &names {
            apply(&mut writer, &[entry(name.clone(), draw.article().encode_to_vec())]);
        }
        let snapshot = snapshot(&writer);
        let mut matched = 0;
        for _ in 0..400 {
            let [first, second] = [draw.filter(), draw.filter()];
            let [mut both, second_query] = [&first, &second].map(|filter| filter::parse(filter, 0).unwrap());
            both.narrow(&second_query);
            let listed = snapshot.articles(&both, None, 100).unwrap().found;
            let listed: BTreeSet<Name> = listed.into_iter().map(|(name, _)| name).collect();
            let matches = |query: &Query, name: &&Name| {
                let record = snapshot.record(name).unwrap().unwrap();
                snapshot.matches(query, &record).unwrap()
            };
            let pages = snapshot.pages(Some(&both)).unwrap();
            let has_page = |name: &&Name| pages.read(name).unwrap().is_some();
            assert_eq!(names.iter().filter(has_page).cloned().collect::<BTreeSet<_>>(), listed, "{first:?}");
            let records: BTreeSet<Name> = names.iter().filter(|name| matches(&both, name)).cloned().collect();
            assert_eq!(listed, records, "{first:?} and {second:?}");
            let first = filter::parse(&first, 0).unwrap();
            let each = names.iter().filter(|name| matches(&first, name) && matches(&second_query, name));
            assert_eq!(each.cloned().collect::<BTreeSet<_>>(), records);
            matched += records.len();
        }
        assert!(matched > 400, "{matched}");
    }

    #[test]
    fn a_tombstone_matches_by_the_lists_of_its_removal() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = open(dir.path());
        let departure = |name: &str, revision| log::Departure { name: name.to_owned(), revision };
        let mut removal = crate::store::fixture::removal("a", v1::RemovalReason::Deleted, 7).log;
        removal.departures = vec![departure("tags/now", 0), departure("tags/before", 3)];
        apply(&mut writer, &[Entry::new(name("a"), Slot::Live, removal)]);
        apply(&mut writer, &[crate::store::fixture::removal("unknown", v1::RemovalReason::Deleted, 7)]);
        let snapshot = snapshot(&writer);
        let matches = |id: &str, filter: v1::ArticleFilter| {
            let record = snapshot.record(&name(id)).unwrap().unwrap();
            snapshot.matches(&filter::parse(&filter, 0).unwrap(), &record).unwrap()
        };
        let tags = |names: &[&str]| names.iter().map(|name| format!("tags/{name}")).collect::<Vec<_>>();
        let any = |names: &[&str]| v1::ArticleFilter { any_tags: tags(names), ..Default::default() };
        let excluding =
            |names: &[&str]| v1::ArticleFilter { excluded_tags: tags(names), ..Default::default() };
        assert!(matches("a", any(&["now", "other"])) && !matches("a", any(&["before"])));
        assert!(matches("a", excluding(&["before"])) && !matches("a", excluding(&["now"])));
        for unknown in [
            v1::ArticleFilter { types: vec![1], ..any(&["now"]) },
            v1::ArticleFilter { language: "en".to_owned(), ..any(&["now"]) },
            v1::ArticleFilter { published_after: Some(prost_types::Timestamp::default()), ..any(&["now"]) },
        ] {
            assert!(!matches("a", unknown));
        }
        assert!(!matches("unknown", any(&["now"])) && !matches("unknown", excluding(&["now"])));
    }
}
