//! The months in which articles are listed, and how many in each, without reading any article.
//!
//! SQLite counts the rows of a day in the index if one list alone decides. Otherwise, the matches are counted.

use std::fmt;

use jiff::{Timestamp, civil, tz::TimeZone};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Cursor, MAX_SCANNED, Plan, Query, Slice, by_time};
use crate::store::{Error, Snapshot, scan};

const DAY: i64 = 86_400_000_000;

/// The maximum number of days in which one step counts rows, each a lookup.
const MAX_DAYS: usize = 400;

/// The number of rows after which a step ends, some 5 ms. The rows of one day are counted together.
const MAX_COUNTED: usize = 100_000;

/// A month in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Month {
    year: i16,
    month: i8,
}

impl Month {
    /// Returns the month of a time in microseconds since 1970 UTC.
    pub(crate) fn of(time: i64) -> Month {
        let limit = if time < 0 { Timestamp::MIN } else { Timestamp::MAX };
        let date = Timestamp::from_microsecond(time).unwrap_or(limit).to_zoned(TimeZone::UTC).date();
        Month { year: date.year(), month: date.month() }
    }

    /// Parses a year from 0 to 9999 and a month, such as `2026-11`.
    pub(crate) fn parse(text: &str) -> Option<Month> {
        let (year, month) =
            text.split_once('-').filter(|(year, month)| (year.len(), month.len()) == (4, 2))?;
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let month = Month {
            year: Some(year).filter(|year| is_number(year))?.parse().ok()?,
            month: Some(month).filter(|month| is_number(month))?.parse().ok()?,
        };
        (1..=12).contains(&month.month).then_some(month)
    }

    /// Returns the first microsecond of the month, and that of the next one, since 1970 UTC.
    pub(crate) fn bounds(self) -> (i64, i64) {
        let next = match self.month {
            12 => Month { year: self.year.saturating_add(1), month: 1 },
            month => Month { month: month + 1, ..self },
        };
        (self.start().unwrap_or(i64::MIN), next.start().unwrap_or(i64::MAX))
    }

    fn start(self) -> Option<i64> {
        let first = civil::Date::new(self.year, self.month, 1).ok()?;
        Some(first.to_zoned(TimeZone::UTC).ok()?.timestamp().as_microsecond())
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// A walk over the months of a listing, the newest first, step by step.
#[derive(Debug, Default)]
pub(crate) struct MonthWalk {
    /// The months so far, and the number of articles in each. The last one may be incomplete.
    pub(crate) months: Vec<(Month, usize)>,
    pub(crate) is_done: bool,
    from: Option<Cursor>,
}

impl MonthWalk {
    fn count(&mut self, time: i64, articles: usize) {
        let month = Month::of(time);
        match self.months.last_mut() {
            Some((last, count)) if *last == month => *count += articles,
            _ => self.months.push((month, articles)),
        }
    }
}

impl Snapshot<'_> {
    /// Continues a walk over the articles that match a query, in the order of time.
    pub(crate) fn walk_months(self, query: &Query, mut walk: MonthWalk) -> Result<MonthWalk, Error> {
        let Some(plan) = Plan::build(self, query)? else {
            walk.is_done = true;
            return Ok(walk);
        };
        let is_bounded = query.not_before.is_some() || query.before.is_some();
        match plan.only_list().filter(|_| !is_bounded) {
            Some(term) => count_days(self.connection, term, &mut walk)?,
            None => {
                let connection = self.connection;
                let slice = by_time(connection, query, &plan, walk.from.as_ref(), MAX_SCANNED)?;
                let Slice { found, next, .. } = slice;
                found.iter().for_each(|(_, cursor)| walk.count(cursor.key, 1));
                (walk.is_done, walk.from) = (next.is_none(), next);
            }
        }
        Ok(walk)
    }
}

fn count_days(connection: &Connection, term: i64, walk: &mut MonthWalk) -> Result<(), Error> {
    let sql = "SELECT time FROM listing WHERE term = ?1 AND time < ?2 ORDER BY time DESC LIMIT 1";
    let mut newest = connection.prepare_cached(sql)?;
    let sql = "SELECT count(*) FROM listing WHERE term = ?1 AND time >= ?2 AND time < ?3";
    let mut count = connection.prepare_cached(sql)?;
    let mut before = walk.from.as_ref().map_or(i64::MAX, |cursor| cursor.key);
    let mut counted = 0;
    for _ in 0..MAX_DAYS {
        let row = newest.query_row(params![term, before], |row| row.get::<_, i64>(0)).optional()?;
        let Some(time) = row else {
            walk.is_done = true;
            return Ok(());
        };
        scan::check_order(&time, &before)?;
        let day = time.saturating_sub(time.rem_euclid(DAY));
        let articles: i64 = count.query_row(params![term, day, before], |row| row.get(0))?;
        walk.count(time, articles as usize);
        (before, counted) = (day, counted + articles as usize);
        if counted >= MAX_COUNTED {
            break;
        }
    }
    walk.from = Some(Cursor { key: before, id: String::new() });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::{Entry, Term},
        model::{Id, Slot},
        store::{
            fixture::{apply, article, open},
            read_only::ReadOnlyStore,
        },
    };

    const NOVEMBER: i64 = 1_793_491_200_000_000;

    #[test]
    fn a_month_has_its_name_and_its_bounds() {
        let month = Month::of(NOVEMBER);
        assert_eq!((month.to_string(), month.bounds().0), ("2026-11".to_owned(), NOVEMBER));
        assert_eq!(Month::of(NOVEMBER - 1).to_string(), "2026-10");
        assert_eq!(month.bounds().1, NOVEMBER + 30 * DAY);
        assert_eq!(Month::of(month.bounds().1).to_string(), "2026-12");
        for time in [0, -1, i64::MIN, i64::MAX, -62_135_596_800_000_000, 253_402_300_799_999_999] {
            let month = Month::of(time);
            let (start, end) = month.bounds();
            assert!(start <= time && time <= end, "{time} {month}");
        }
        for text in ["2026-11", "0001-01", "9999-12"] {
            assert_eq!(Month::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "2026", "2026-13", "2026-00", "2026-1", "026-11", "+026-11", "2026-+1", "2026-11-1"]
        {
            assert_eq!(Month::parse(text), None, "{text}");
        }
    }

    /// Returns an article that is listed at a time.
    fn dated(id: &str, tags: &[&str], time: i64) -> Entry {
        let Entry { name, mut log, .. } = article(id, "A", tags, time);
        log.first_publish_time = time;
        Entry::new(name, Slot::Live, log)
    }

    /// Walks to the end. Returns the months and the number of steps.
    fn walk(store: &ReadOnlyStore, query: &Query) -> (Vec<(Month, usize)>, usize) {
        let mut walk = MonthWalk::default();
        for step in 1.. {
            walk = store.read(|snapshot| snapshot.walk_months(query, walk)).unwrap();
            if walk.is_done {
                return (walk.months, step);
            }
        }
        unreachable!()
    }

    #[test]
    fn the_articles_of_each_month_are_counted_in_steps() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = open(dir.path());
        let reader = ReadOnlyStore::open(dir.path()).unwrap();
        let all = Query::default();
        assert_eq!(walk(&reader, &all), (vec![], 1));
        // One article a day over five years, and some at the same time.
        let mut entries = Vec::new();
        for day in 0..1_900 {
            let tags: &[&str] = if day % 2 == 0 { &["even"] } else { &[] };
            entries.push(dated(&format!("a{day}"), tags, NOVEMBER - day * DAY));
        }
        entries.extend((0..9).map(|n| dated(&format!("same{n}"), &["even"], NOVEMBER)));
        for chunk in entries.chunks(100) {
            apply(&mut writer, chunk);
        }
        let mut expected: Vec<(Month, usize)> = Vec::new();
        for day in 0..1_900 {
            let (month, new) = (Month::of(NOVEMBER - day * DAY), if day == 0 { 10 } else { 1 });
            match expected.last_mut() {
                Some((last, count)) if *last == month => *count += new,
                _ => expected.push((month, new)),
            }
        }
        assert_eq!(walk(&reader, &all), (expected.clone(), 1_900_usize.div_ceil(MAX_DAYS)));
        // Counted by matches: the same.
        let tag = |tag: &str| Term::Tag(Id::parse(tag).unwrap());
        let matched =
            Query { groups: vec![vec![Term::All]], excluded: vec![tag("even")], ..Query::default() };
        let odd = walk(&reader, &matched).0;
        assert_eq!(odd.iter().map(|(_, count)| count).sum::<usize>(), 950);
        let even = walk(&reader, &Query { groups: vec![vec![tag("even")]], ..Query::default() }).0;
        assert_eq!(even.iter().map(|(_, count)| count).sum::<usize>(), 959);
        for (month, count) in expected {
            let of = |months: &[(Month, usize)]| {
                months.iter().find(|(of, _)| *of == month).map_or(0, |(_, count)| *count)
            };
            assert_eq!(of(&odd) + of(&even), count, "{month}");
        }
        let since = Query { not_before: Some(NOVEMBER), ..Query::default() };
        assert_eq!(walk(&reader, &since), (vec![(Month::of(NOVEMBER), 10)], 1));
    }
}
