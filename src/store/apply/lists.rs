//! The lists of an article: the numbers of their terms, and the rows of those that it is in or has left.

use rusqlite::{OptionalExtension as _, params};

use super::{Applier, PreviousRow};
use crate::{
    entry::{Derived, Entry, Term},
    model::{Revision, Slot},
    store::{
        Error,
        row::{ANY_TERM, DepartureRow},
    },
};

/// The maximum number of terms whose numbers the writer caches: 8 MB of the longest ones. Above it, all are dropped.
const MAX_CACHED_TERMS: usize = 1 << 15;

/// The rows that a transaction adds to those of a term.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TermDelta {
    articles: i64,
    departures: i64,
}

impl Applier<'_> {
    pub(super) fn term(&self, number: i64) -> Result<Option<Term>, Error> {
        let mut statement = self.transaction.prepare_cached("SELECT kind, value FROM term WHERE n = ?1")?;
        let parts = statement.query_row([number], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)));
        Ok(parts.optional()?.and_then(|(kind, value)| Term::from_parts(kind, &value)))
    }

    pub(super) fn term_numbers(&mut self, terms: &[Term]) -> Result<Vec<i64>, Error> {
        let mut numbers = terms.iter().map(|term| self.term_number(term)).collect::<Result<Vec<_>, _>>()?;
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn term_number(&mut self, term: &Term) -> Result<i64, Error> {
        if let Some(number) = self.terms.get(term) {
            return Ok(*number);
        }
        let (kind, value) = term.parts();
        let key = params![kind, value];
        let select = "SELECT n FROM term WHERE kind = ?1 AND value = ?2";
        let known = self.transaction.prepare_cached(select)?.query_row(key, |row| row.get(0)).optional()?;
        let insert = "INSERT INTO term(kind, value) VALUES(?1, ?2) RETURNING n";
        let number = match known {
            Some(number) => number,
            None => self.transaction.prepare_cached(insert)?.query_row(key, |row| row.get(0))?,
        };
        if self.terms.len() >= MAX_CACHED_TERMS {
            self.terms.clear();
        }
        self.terms.insert(term.clone(), number);
        Ok(number)
    }

    fn term_delta(&mut self, term: i64) -> &mut TermDelta {
        self.term_deltas.entry(term).or_default()
    }

    /// Deletes a departure.
    pub(in crate::store) fn drop_departure(
        &mut self,
        id: &str,
        (term, at): DepartureRow,
    ) -> Result<(), Error> {
        let delete = "DELETE FROM departure WHERE revision = ?1 AND term = ?2 AND id = ?3";
        self.transaction.prepare_cached(delete)?.execute(params![at, term, id])?;
        self.term_delta(term).departures -= 1;
        Ok(())
    }

    /// Deletes all departures of an article whose own columns are damaged. It scans the whole store.
    fn drop_all_departures(&mut self, id: &str) -> Result<(), Error> {
        let transaction = self.transaction;
        let mut delete = transaction.prepare_cached("DELETE FROM departure WHERE id = ?1 RETURNING term")?;
        for term in delete.query_map([id], |row| row.get(0))? {
            self.term_delta(term?).departures -= 1;
        }
        Ok(())
    }

    /// Updates the lists of an article. Only the rows that differ are touched: most edits change no list.
    pub(super) fn update_listings(
        &mut self,
        entry: &Entry,
        old: Option<&PreviousRow>,
        terms: &[i64],
    ) -> Result<(), Error> {
        let (id, time) = (entry.name.id.as_str(), entry.derived.time);
        if old.is_some_and(|old| old.is_damaged) {
            self.remove_from_all_lists(id)?;
        }
        let old = old.filter(|old| !old.is_damaged);
        let (was, was_at) = old.map_or((&[][..], 0), |old| (&old.terms[..], old.time));
        let moved = time != was_at;
        for term in was.iter().filter(|term| moved || !terms.contains(term)) {
            let delete = "DELETE FROM listing WHERE term = ?1 AND time = ?2 AND id = ?3";
            self.transaction.prepare_cached(delete)?.execute(params![term, was_at, id])?;
            self.term_delta(*term).articles -= 1;
        }
        for term in terms.iter().filter(|term| moved || !was.contains(term)) {
            let insert = "INSERT INTO listing VALUES(?1, ?2, ?3)";
            self.transaction.prepare_cached(insert)?.execute(params![term, time, id])?;
            self.term_delta(*term).articles += 1;
        }
        Ok(())
    }

    /// Removes an article from all lists. It scans all lists of the store, for an article whose own columns are
    /// damaged.
    fn remove_from_all_lists(&mut self, id: &str) -> Result<(), Error> {
        let transaction = self.transaction;
        let mut delete = transaction.prepare_cached("DELETE FROM listing WHERE id = ?1 RETURNING term")?;
        for term in delete.query_map([id], |row| row.get(0))? {
            self.term_delta(term?).articles -= 1;
        }
        Ok(())
    }

    /// Records the lists that the article has left, and when. Rows that remain are not touched.
    pub(super) fn update_departures(
        &mut self,
        entry: &Entry,
        revision: Revision,
        old: Option<&PreviousRow>,
    ) -> Result<Vec<DepartureRow>, Error> {
        let Derived { departures: derived_departures, departure_floor, .. } = &entry.derived;
        let mut departures = Vec::with_capacity(derived_departures.len() + 1);
        departures.extend((*departure_floor > 0).then_some((ANY_TERM, *departure_floor)));
        for (term, at) in derived_departures {
            departures.push((self.term_number(term)?, if *at == 0 { revision } else { *at }));
        }
        departures.sort_unstable();
        let id = entry.name.id.as_str();
        if entry.slot == Slot::Live && old.is_some_and(|old| old.is_damaged) {
            self.drop_all_departures(id)?;
        }
        let was = old.filter(|old| !old.is_damaged).map_or(&[][..], |old| &old.departures);
        for departure in was.iter().filter(|departure| departures.binary_search(departure).is_err()) {
            self.drop_departure(id, *departure)?;
        }
        for (term, at) in departures.iter().filter(|departure| was.binary_search(departure).is_err()) {
            let insert = "INSERT INTO departure VALUES(?1, ?2, ?3)";
            self.transaction.prepare_cached(insert)?.execute(params![at, term, id])?;
            self.term_delta(*term).departures += 1;
        }
        Ok(departures)
    }

    /// Updates the use counts of terms, and deletes the terms that are no longer used.
    pub(super) fn count_terms(&mut self) -> Result<(), Error> {
        let count = "UPDATE term SET articles = articles + ?1, departures = departures + ?2 WHERE n = ?3";
        let mut count = self.transaction.prepare_cached(count)?;
        let delete =
            "DELETE FROM term WHERE n = ?1 AND articles = 0 AND departures = 0 RETURNING kind, value";
        let mut delete = self.transaction.prepare_cached(delete)?;
        for (term, delta) in &self.term_deltas {
            count.execute([delta.articles, delta.departures, *term])?;
            let deleted = delete.query_row([term], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)));
            if let Some((kind, value)) = deleted.optional()? {
                Term::from_parts(kind, &value).and_then(|term| self.terms.remove(&term));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        model::{Id, Kind},
        store::{
            Writer,
            fixture::{apply, article, faults, name, open, removal, snapshot},
            floor::History,
            history,
        },
        wire::{log::Departure, v1::RemovalReason},
    };

    fn count(writer: &Writer, sql: &str) -> i64 {
        writer.connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn the_writer_caches_a_bounded_number_of_terms() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = open(dir.path());
        let fill = |applier: &mut Applier<'_>| {
            (0..=MAX_CACHED_TERMS as i32).try_for_each(|n| applier.term_number(&Term::Type(n)).map(|_| ()))
        };
        writer.transact(fill).unwrap();
        assert_eq!(writer.terms.len(), 1);
    }

    #[test]
    fn an_unused_term_is_deleted_and_can_be_created_again() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = open(dir.path());
        let tags = |writer: &Writer| count(writer, "SELECT count(*) FROM term WHERE kind = 1");
        let departing = |id: &str, tags: &[&str], departures: &[(&str, Revision)]| {
            let mut log = article(id, "A", tags, 1).log;
            let departures = departures
                .iter()
                .map(|(tag, revision)| Departure { name: format!("tags/{tag}"), revision: *revision });
            log.departures = departures.collect();
            Entry::new(name(id), Slot::Live, log)
        };
        apply(&mut writer, &[article("a", "A", &["t", "u"], 1), article("b", "A", &["u"], 1)]);
        assert_eq!(tags(&writer), 2);
        apply(&mut writer, &[departing("a", &["u"], &[("t", 0)])]);
        assert_eq!(tags(&writer), 2, "a departure still uses the tag");
        apply(&mut writer, &[article("a", "A", &["u"], 1)]);
        assert_eq!(
            (tags(&writer), writer.terms.contains_key(&Term::Tag(Id::parse("t").unwrap()))),
            (1, false)
        );
        // Also within one transaction.
        apply(&mut writer, &[article("a", "A", &["v"], 1), article("a", "A", &["t"], 1)]);
        assert_eq!(tags(&writer), 2);
        assert_eq!(faults(dir.path()), Vec::<String>::new());

        apply(
            &mut writer,
            &[removal("a", RemovalReason::Deleted, 2), removal("b", RemovalReason::Deleted, 2)],
        );
        writer.compact(1_000, &History { age: Duration::ZERO, entries: 0 }).unwrap();
        assert_eq!(count(&writer, "SELECT count(*) FROM term"), 0);
        assert_eq!(faults(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn the_floor_of_an_article_is_found_by_its_revision() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = open(dir.path());
        apply(&mut writer, &[article("a", "A", &["t"], 1), article("a", "B", &["u"], 1)]);
        let mut log = article("a", "C", &["v"], 1).log;
        log.departure_floor = 2;
        apply(&mut writer, &[Entry::new(name("a"), Slot::Live, log)]);
        assert_eq!(faults(dir.path()), Vec::<String>::new());
        let bounds = history::Bounds { rows: 10, events: 10, bytes: 1_000 };
        let departures = |after, tag: &str| {
            let terms = vec![Term::Tag(Id::parse(tag).unwrap())];
            let selection = history::Selection {
                terms: terms.clone(),
                departed_terms: Some(terms),
                kinds: vec![Kind::Article],
            };
            let range = snapshot(&writer).history(after, &selection, bounds).unwrap();
            let events = range.commits.into_iter().flat_map(|commit| commit.events);
            events.map(|event| event.revision).collect::<Vec<_>>()
        };
        for tag in ["t", "u", "never"] {
            assert_eq!([0, 1, 2].map(|after| departures(after, tag)), [vec![2], vec![2], vec![]], "{tag}");
        }
        // The next entry resets the floor.
        apply(&mut writer, &[article("a", "D", &["v"], 1)]);
        assert_eq!(count(&writer, "SELECT count(*) FROM departure"), 0);
        assert_eq!(faults(dir.path()), Vec::<String>::new());
    }
}
