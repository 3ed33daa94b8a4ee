//! The part of its past that an article's new entry retains: former paths and departures, both bounded.

use std::collections::{BTreeSet, HashMap, HashSet};

use prost::Message as _;

use super::PlanContext;
use crate::{
    entry::{Derived, MAX_DEPARTURE_BYTES, MAX_DEPARTURES, own_path},
    model::{Kind, Name, Revision, limit, path},
    store::Record,
    wire::log::{Departure, FormerPath, LogEntry, Operation},
};

/// The maximum size of the key and length of a departure within its entry, in bytes.
const KEY_AND_LENGTH: usize = 3;

/// Adds to an entry the former paths of the article and the lists that it has left.
pub(super) fn carry_history(name: &Name, log: &mut LogEntry, before: Option<&Record>, context: PlanContext) {
    let Some(before) = before.filter(|_| name.kind == Kind::Article) else { return };
    let old = Derived::of_lists(name, &before.log);
    let new = Derived::of_lists(name, log);
    let own = |log: &LogEntry| Some(own_path(&log.content)?).filter(|_| log.operation() == Operation::Put);
    log.former_paths = former_paths(&before.log, own(&before.log), own(log).as_deref(), context.now);
    let floor = Some(before.log.departure_floor).filter(|floor| *floor >= context.floor).unwrap_or(0);
    (log.departures, log.departure_floor) =
        bound_departures(departures(before, &old, &new, context.floor), floor);
}

/// Returns the departures since the history floor, the newest first.
fn departures(before: &Record, old: &Derived, new: &Derived, floor: Revision) -> Vec<Departure> {
    let current: BTreeSet<String> = new.followed_lists().collect();
    let newest = old.followed_lists().map(|name| Departure { name, revision: 0 });
    let mut departures: Vec<Departure> = newest.filter(|newest| !current.contains(&newest.name)).collect();
    let known: BTreeSet<String> = departures.iter().map(|departure| departure.name.clone()).collect();
    let older = before.log.departures.iter().map(|older| Departure {
        revision: if older.revision == 0 { before.revision } else { older.revision },
        ..older.clone()
    });
    departures.extend(older.filter(|older| {
        older.revision >= floor && !current.contains(&older.name) && !known.contains(&older.name)
    }));
    departures
}

/// Drops the oldest departures above the limits, and raises the article's own floor to the newest one dropped.
fn bound_departures(mut departures: Vec<Departure>, floor: Revision) -> (Vec<Departure>, Revision) {
    let mut bytes = 0;
    let fits = |departure: &&Departure| {
        bytes += departure.encoded_len() + KEY_AND_LENGTH;
        bytes <= MAX_DEPARTURE_BYTES
    };
    let count = departures.iter().take(MAX_DEPARTURES).take_while(fits).count();
    let dropped = departures[count..].iter().map(|departure| departure.revision);
    let floor = dropped.fold(floor, Revision::max);
    departures.truncate(count);
    // The departures of one entry are known completely or not at all.
    departures.retain(|departure| departure.revision == 0 || departure.revision > floor);
    (departures, floor)
}

/// Returns the latest paths, up to the number of aliases that an article may have, so that a tombstone with them can be
/// imported again.
pub(super) fn latest(mut paths: Vec<FormerPath>) -> Vec<FormerPath> {
    let surplus = paths.len().saturating_sub(limit::ALIAS_PATHS.maximum as usize);
    paths.split_off(surplus)
}

/// Adds the former paths of an imported record to those that the article has in this store. Of two times of one path,
/// that of the record counts; a path without a time keeps its own, or ceases now.
pub(super) fn add_imported_paths(log: &mut LogEntry, imported: &[FormerPath], now: i64) {
    if imported.is_empty() {
        return;
    }
    let own = own_path(&log.content).filter(|_| log.operation() == Operation::Put);
    let carried = std::mem::take(&mut log.former_paths);
    let known: HashMap<String, i64> =
        carried.iter().map(|former| (path::normalise(&former.path), former.cease_time)).collect();
    let mut seen: HashSet<String> = own.iter().map(|own| path::normalise(own)).collect();
    for former in imported {
        let normal = path::normalise(&former.path);
        let known = known.get(&normal).copied().unwrap_or(now);
        let cease_time = if former.cease_time == 0 { known } else { former.cease_time };
        if seen.insert(normal) {
            log.former_paths.push(FormerPath { cease_time, ..former.clone() });
        }
    }
    let count = log.former_paths.len();
    log.former_paths
        .extend(carried.into_iter().filter(|former| !seen.contains(&path::normalise(&former.path))));
    if log.former_paths.len() > count {
        log.former_paths.sort_by_key(|former| former.cease_time);
    }
    log.former_paths = latest(std::mem::take(&mut log.former_paths));
}

fn former_paths(before: &LogEntry, was: Option<String>, is: Option<&str>, now: i64) -> Vec<FormerPath> {
    let mut paths = before.former_paths.clone();
    let same = |a: &str, b: Option<&str>| b.is_some_and(|b| path::is_same(a, b));
    if let Some(was) = was.filter(|was| !same(was, is)) {
        paths.retain(|former| !same(&former.path, Some(&was)));
        paths.push(FormerPath { path: was, cease_time: now, ..FormerPath::default() });
    }
    paths.retain(|former| !same(&former.path, is));
    latest(paths)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        entry::Entry,
        model::{HashPrefix, Slot},
        store::fixture::{self, faults, name, open},
        wire::v1,
    };

    const CONTEXT: PlanContext = PlanContext { now: 0, floor: 0 };

    /// An article that is put repeatedly, and the tags that it had after each put.
    struct Retagged {
        record: Record,
        had: Vec<BTreeSet<String>>,
    }

    impl Retagged {
        fn put(before: Option<Retagged>, tags: BTreeSet<String>) -> (Retagged, Entry) {
            let article = v1::Article { tags: tags.iter().cloned().collect(), ..Default::default() };
            let mut log = LogEntry {
                operation: Operation::Put as i32,
                content: prost::Message::encode_to_vec(&article).into(),
                ..Default::default()
            };
            let (record, mut had) = before.map_or((None, Vec::new()), |was| (Some(was.record), was.had));
            carry_history(&name("a"), &mut log, record.as_ref(), CONTEXT);
            had.push(tags);
            let entry = Entry::new(name("a"), Slot::Live, log.clone());
            let record = Record {
                name: name("a"),
                slot: Slot::Live,
                revision: had.len() as Revision,
                prefix: HashPrefix(0),
                log,
            };
            (Retagged { record, had }, entry)
        }

        /// Compares the departures of the entry with the changes made: a follower that resumes after any revision
        /// learns of each departure since.
        fn check(&self) {
            let (now, log) = (self.had.last().unwrap(), &self.record.log);
            let revision = |departure: &Departure| match departure.revision {
                0 => self.record.revision,
                revision => revision,
            };
            let known: BTreeMap<&str, Revision> = log
                .departures
                .iter()
                .map(|departure| (departure.name.as_str(), revision(departure)))
                .collect();
            for (had, after) in self.had.iter().zip(1..) {
                for tag in had.difference(now).filter(|_| log.departure_floor <= after) {
                    assert!(known.get(tag.as_str()).is_some_and(|at| *at > after), "{tag} after {after}");
                }
            }
            for departure in &log.departures {
                assert!(!now.contains(&departure.name), "{departure:?}");
                assert!(departure.revision == 0 || departure.revision > log.departure_floor, "{departure:?}");
            }
        }
    }

    /// Returns tags drawn from three thousand, all of the same length.
    fn tags(round: u64, count: u64, length: usize) -> BTreeSet<String> {
        let draw = |n: u64| xxhash_rust::xxh3::xxh3_64(&(round * 1_000 + n).to_le_bytes()) % 3_000;
        (0..count).map(|n| format!("tags/{:0>length$}", draw(n))).collect()
    }

    #[test]
    fn departures_are_bounded_and_never_lost_silently() {
        for (length, count) in [(4, 60), (128, 128)] {
            let mut article: Option<Retagged> = None;
            for round in 0..200 {
                let (next, entry) = Retagged::put(article.take(), tags(round, count, length));
                let departures = &next.record.log.departures;
                let encoded = departures.iter().map(|departure| departure.encoded_len() + KEY_AND_LENGTH);
                let bytes: usize = encoded.sum();
                assert!(departures.len() <= MAX_DEPARTURES && bytes <= MAX_DEPARTURE_BYTES);
                assert!(entry.bytes.len() <= MAX_DEPARTURE_BYTES + (32 << 10), "{}", entry.bytes.len());
                if round % 10 == 9 {
                    next.check();
                }
                article = Some(next);
            }
            assert!(article.unwrap().record.log.departure_floor > 150);
        }
    }

    #[test]
    fn an_article_within_the_bounds_has_no_floor_of_its_own() {
        let (mut article, _) = Retagged::put(None, tags(0, 60, 4));
        for round in 1..10 {
            (article, _) = Retagged::put(Some(article), tags(round, 60, 4));
        }
        assert_eq!(article.record.log.departure_floor, 0);
        article.check();
    }

    #[test]
    fn a_floor_below_the_history_floor_is_reset() {
        let mut log = LogEntry { departure_floor: 7, ..Default::default() };
        let record = Record {
            name: name("a"),
            slot: Slot::Live,
            revision: 9,
            prefix: HashPrefix(0),
            log: log.clone(),
        };
        for (floor, expected) in [(7, 7), (8, 0)] {
            carry_history(&name("a"), &mut log, Some(&record), PlanContext { now: 0, floor });
            assert_eq!(log.departure_floor, expected);
        }
    }

    #[test]
    fn retagging_costs_the_same_on_every_write() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = open(dir.path());
        let (mut article, mut changes): (Option<Retagged>, Vec<u64>) = (None, Vec::new());
        for round in 0..120 {
            let (next, entry) = Retagged::put(article.take(), tags(round, 128, 128));
            let before = fixture::changes(&writer);
            fixture::apply(&mut writer, &[entry]);
            changes.push(fixture::changes(&writer) - before);
            article = Some(next);
        }
        let full = article.unwrap().record.log.departure_floor > 100;
        assert!(full && changes[20..].iter().all(|rows| *rows < 1_400), "{changes:?}");
        assert_eq!(faults(dir.path()), Vec::<String>::new());
    }
}
