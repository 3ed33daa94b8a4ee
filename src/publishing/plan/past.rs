//! The part of its past that an article's new entry retains: former paths and departures, both bounded.

use std::collections::BTreeSet;

use prost::Message as _;

use super::Moment;
use crate::{
    entry::{Derived, MAX_DEPARTURE_BYTES, MAX_DEPARTURES, own_path},
    model::{Kind, Name, Revision, limit, path},
    store::Record,
    wire::log::{FormerPath, Left, LogEntry, Operation},
};

/// The maximum size of the key and length of a departure within its entry, in bytes.
const KEY_AND_LENGTH: usize = 3;

/// Adds to an entry the former paths of the article and the lists that it has left.
pub(super) fn follow_up(name: &Name, log: &mut LogEntry, before: Option<&Record>, at: Moment) {
    let Some(before) = before.filter(|_| name.kind == Kind::Article) else { return };
    let old = Derived::without_content_hash(name, &before.log);
    let new = Derived::without_content_hash(name, log);
    let own = |log: &LogEntry| Some(own_path(&log.content)?).filter(|_| log.operation() == Operation::Put);
    log.former_paths = former_paths(&before.log, own(&before.log), own(log).as_deref(), at.now);
    let floor = Some(before.log.left_floor).filter(|floor| *floor >= at.floor).unwrap_or(0);
    (log.left, log.left_floor) = bounded(departures(before, &old, &new, at.floor), floor);
}

/// Returns the departures since the history floor, the newest first.
fn departures(before: &Record, old: &Derived, new: &Derived, floor: Revision) -> Vec<Left> {
    let holds: BTreeSet<String> = new.followed_lists().collect();
    let left_now = old.followed_lists().map(|name| Left { name, revision: 0 });
    let mut left: Vec<Left> = left_now.filter(|left| !holds.contains(&left.name)).collect();
    let known: BTreeSet<String> = left.iter().map(|left| left.name.clone()).collect();
    let left_before = before.log.left.iter().map(|left| Left {
        revision: if left.revision == 0 { before.revision } else { left.revision },
        ..left.clone()
    });
    left.extend(
        left_before.filter(|left| {
            left.revision >= floor && !holds.contains(&left.name) && !known.contains(&left.name)
        }),
    );
    left
}

/// Drops the oldest departures above the limits, and raises the article's own floor to the newest one dropped.
fn bounded(mut left: Vec<Left>, floor: Revision) -> (Vec<Left>, Revision) {
    let mut bytes = 0;
    let fits = |left: &&Left| {
        bytes += left.encoded_len() + KEY_AND_LENGTH;
        bytes <= MAX_DEPARTURE_BYTES
    };
    let count = left.iter().take(MAX_DEPARTURES).take_while(fits).count();
    let dropped = left[count..].iter().map(|left| left.revision);
    let floor = dropped.fold(floor, Revision::max);
    left.truncate(count);
    // The departures of one entry are known completely or not at all.
    left.retain(|left| left.revision == 0 || left.revision > floor);
    (left, floor)
}

/// Returns the latest paths, up to the number of aliases that an article may have, so that a tombstone with them can be
/// imported again.
pub(super) fn latest(mut paths: Vec<FormerPath>) -> Vec<FormerPath> {
    let surplus = paths.len().saturating_sub(limit::ALIAS_PATHS.maximum as usize);
    paths.split_off(surplus)
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

    const AT: Moment = Moment { now: 0, floor: 0 };

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
            follow_up(&name("a"), &mut log, record.as_ref(), AT);
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
            let at = |left: &Left| if left.revision == 0 { self.record.revision } else { left.revision };
            let known: BTreeMap<&str, Revision> =
                log.left.iter().map(|left| (left.name.as_str(), at(left))).collect();
            for (had, after) in self.had.iter().zip(1..) {
                for tag in had.difference(now).filter(|_| log.left_floor <= after) {
                    assert!(known.get(tag.as_str()).is_some_and(|at| *at > after), "{tag} after {after}");
                }
            }
            for left in &self.record.log.left {
                assert!(!now.contains(&left.name), "{left:?}");
                assert!(left.revision == 0 || left.revision > self.record.log.left_floor, "{left:?}");
            }
        }
    }

    /// Returns tags drawn from three thousand, all of the same length.
    fn tags(round: u64, count: u64, length: usize) -> BTreeSet<String> {
        let draw = |n: u64| xxhash_rust::xxh3::xxh3_64(&(round * 1_000 + n).to_le_bytes()) % 3_000;
        (0..count).map(|n| format!("tags/{:0>length$}", draw(n))).collect()
    }

    #[test]
    fn departures_are_bounded_and_never_lost_in_silence() {
        for (length, count) in [(4, 60), (128, 128)] {
            let mut article: Option<Retagged> = None;
            for round in 0..200 {
                let (next, entry) = Retagged::put(article.take(), tags(round, count, length));
                let left = &next.record.log.left;
                let bytes: usize = left.iter().map(|left| left.encoded_len() + KEY_AND_LENGTH).sum();
                assert!(left.len() <= MAX_DEPARTURES && bytes <= MAX_DEPARTURE_BYTES);
                assert!(entry.bytes.len() <= MAX_DEPARTURE_BYTES + (32 << 10), "{}", entry.bytes.len());
                if round % 10 == 9 {
                    next.check();
                }
                article = Some(next);
            }
            assert!(article.unwrap().record.log.left_floor > 150);
        }
    }

    #[test]
    fn an_article_within_the_bounds_has_no_floor_of_its_own() {
        let (mut article, _) = Retagged::put(None, tags(0, 60, 4));
        for round in 1..10 {
            (article, _) = Retagged::put(Some(article), tags(round, 60, 4));
        }
        assert_eq!(article.record.log.left_floor, 0);
        article.check();
    }

    #[test]
    fn a_floor_below_that_of_the_history_is_forgotten() {
        let mut log = LogEntry { left_floor: 7, ..Default::default() };
        let record = Record {
            name: name("a"),
            slot: Slot::Live,
            revision: 9,
            prefix: HashPrefix(0),
            log: log.clone(),
        };
        for (floor, expected) in [(7, 7), (8, 0)] {
            follow_up(&name("a"), &mut log, Some(&record), Moment { now: 0, floor });
            assert_eq!(log.left_floor, expected);
        }
    }

    #[test]
    fn each_write_of_a_retagged_article_changes_as_much_as_the_one_before() {
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
        let full = article.unwrap().record.log.left_floor > 100;
        assert!(full && changes[20..].iter().all(|rows| *rows < 1_400), "{changes:?}");
        assert_eq!(faults(dir.path()), Vec::<String>::new());
    }
}
