//! Passing articles of a listing that a later part of it follows, without returning them.
//!
//! SQLite skips rows of the index if one list alone decides. Otherwise, the matches are found one by one.

use rusqlite::{OptionalExtension as _, params};

use super::{Cursor, MAX_SCANNED, Plan, Query, by_time};
use crate::store::{Error, Snapshot, scan};

/// The maximum number of rows that one step skips, some 5 ms.
const MAX_SKIPPED: usize = 100_000;

/// One step past articles of a listing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Skipped {
    /// The number of articles passed: at most as many as requested, but not all if that takes long. 0 at the end.
    pub(crate) articles: usize,
    /// The cursor from which to continue. `None` if the listing is at its end.
    pub(crate) next: Option<Cursor>,
}

impl Snapshot<'_> {
    /// Passes up to `count` articles after a cursor, in the order of time. `count` is at least 1.
    pub(crate) fn skip(self, query: &Query, after: Option<&Cursor>, count: usize) -> Result<Skipped, Error> {
        self.skip_within(query, after, count, [MAX_SKIPPED, MAX_SCANNED])
    }

    /// `limits` are those of one step: of rows that SQLite skips, and of matches.
    fn skip_within(
        self,
        query: &Query,
        after: Option<&Cursor>,
        count: usize,
        limits: [usize; 2],
    ) -> Result<Skipped, Error> {
        let Some(plan) = Plan::build(self, query)? else { return Ok(Skipped::default()) };
        let Some(term) = plan.only_list() else {
            let slice = by_time(self.connection, query, &plan, after, count.min(limits[1]))?;
            let articles = if slice.next.is_some() { slice.found.len() } else { 0 };
            return Ok(Skipped { articles, next: slice.next });
        };
        let count = count.min(limits[0]);
        // The empty id is below all ids of its time.
        let end = Cursor { key: query.before.unwrap_or(i64::MAX), id: String::new() };
        let below = after.min(Some(&end)).unwrap_or(&end);
        let sql = "SELECT time, id FROM listing WHERE term = ?1 AND time >= ?2 AND (time, id) < (?3, ?4)
                   ORDER BY time DESC, id DESC LIMIT 1 OFFSET ?5";
        let key = params![term, query.not_before.unwrap_or(i64::MIN), below.key, below.id, count as i64 - 1];
        let mut statement = self.connection.prepare_cached(sql)?;
        let last = statement.query_row(key, |row| Ok(Cursor { key: row.get(0)?, id: row.get(1)? }));
        let Some(last) = last.optional()? else { return Ok(Skipped::default()) };
        scan::check_order(&last, below)?;
        Ok(Skipped { articles: count, next: Some(last) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::Term,
        model::Id,
        store::fixture::{apply, article, open, snapshot},
    };

    #[test]
    fn the_rest_of_a_listing_follows_the_articles_that_were_passed() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = open(dir.path());
        // Three of each time, every second one with the tag.
        let tags = |i: usize| if i.is_multiple_of(2) { &["t"][..] } else { &[] };
        let entries: Vec<_> =
            (0..60).map(|i| article(&format!("a{i:02}"), "", tags(i), i as i64 / 3)).collect();
        apply(&mut writer, &entries);
        let snapshot = snapshot(&writer);
        let tag = || Term::Tag(Id::parse("t").unwrap());
        let range = |query: Query| Query { not_before: Some(3), before: Some(15), ..query };
        for query in [
            Query::default(),
            range(Query::default()),
            range(Query { groups: vec![vec![tag()]], ..Query::default() }),
            range(Query { excluded: vec![tag()], ..Query::default() }),
            Query { groups: vec![vec![Term::Tag(Id::parse("none").unwrap())]], ..Query::default() },
        ] {
            let all = snapshot.articles(&query, None, 100).unwrap().found;
            for from in 0..=all.len() {
                let after = from.checked_sub(1).map(|last| all[last].1.clone());
                for count in 1..=all.len() + 1 - from {
                    let skipped = snapshot.skip(&query, after.as_ref(), count).unwrap();
                    let Some(next) = skipped.next else {
                        // At the end of the listing, or above the number of its articles.
                        assert!(from + count >= all.len(), "{from} {count}");
                        continue;
                    };
                    assert_eq!((skipped.articles, &next), (count, &all[from + count - 1].1));
                    let rest = snapshot.articles(&query, Some(&next), 100).unwrap().found;
                    assert_eq!(rest, all[from + count..], "{from} {count}");
                }
            }
        }
    }

    #[test]
    fn a_step_passes_a_bounded_number_of_articles() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = open(dir.path());
        let tags = |i: i64| if i % 2 == 0 { &["t"][..] } else { &[] };
        let entries: Vec<_> = (0..40).map(|i| article(&format!("a{i:02}"), "", tags(i), i)).collect();
        apply(&mut writer, &entries);
        let snapshot = snapshot(&writer);
        let excluding = Query { excluded: vec![Term::Tag(Id::parse("t").unwrap())], ..Query::default() };
        for (query, left) in [(Query::default(), 37_usize), (excluding, 17)] {
            let all = snapshot.articles(&query, None, 100).unwrap().found;
            let (mut after, mut left, mut steps) = (None, left, 0);
            while left > 0 {
                let skipped = snapshot.skip_within(&query, after.as_ref(), left, [7, 7]).unwrap();
                assert!(skipped.articles <= 7);
                (after, left, steps) = (skipped.next, left - skipped.articles, steps + 1);
            }
            let passed = all.len() - 3;
            assert_eq!((after.as_ref(), steps), (Some(&all[passed - 1].1), passed.div_ceil(7)));
        }
    }
}
