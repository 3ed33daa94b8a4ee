//! The order of rows in scans that continue after their last row. In a damaged database rows may be in any order, and such
//! a scan would then not end.

use super::Error;

/// Checks that a row comes after the one before it, or after the start of the scan.
///
/// # Errors
/// The database is damaged.
pub(super) fn check_order<K: PartialOrd>(previous: &K, next: &K) -> Result<(), Error> {
    if previous < next {
        Ok(())
    } else {
        Err(Error::malformed("rows of a table or an index are out of order"))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use prost::Message as _;
    use rusqlite::{Connection, params};

    use super::*;
    use crate::{
        entry::Entry,
        model::{Kind, Slot},
        store::{
            Snapshot, Store,
            fixture::{apply, article, noise, open, pending, snapshot},
            history::{Bounds, Selection},
            listing::{Cursor, MonthWalk, Query},
            scrub::Pass,
            verify::{Check, Sums},
        },
        wire::{fields, log, v1},
    };

    /// More steps than any scan of the store needs.
    const MAX_STEPS: usize = 20_000;

    /// Creates a store in which every table and index that is scanned has several pages.
    fn store(dir: &Path) {
        let (_store, mut writer) = open(dir);
        for tags in [["t", "u"], ["t", "v"]] {
            apply(&mut writer, &(0..600).map(|n| expiring(n, &tags)).collect::<Vec<_>>());
        }
        let waiting = (0..300).map(|n| {
            let entry =
                edited(n, &["t"], |content| content.publish_time = Some(fields::timestamp(10_000 + n)));
            pending(entry)
        });
        apply(&mut writer, &waiting.collect::<Vec<_>>());
    }

    /// Returns an article that expires and has left a list.
    fn expiring(n: i64, tags: &[&str]) -> Entry {
        let mut entry = edited(n, tags, |content| content.expire_time = Some(fields::timestamp(10_000 + n)));
        entry.log.departures.push(log::Departure { name: "tags/w".into(), revision: 0 });
        Entry::new(entry.name, entry.slot, entry.log)
    }

    /// Returns an article with content that `edit` changes.
    fn edited(n: i64, tags: &[&str], edit: impl Fn(&mut v1::Article)) -> Entry {
        let entry = article(&format!("a-long-id-for-many-pages-{n}"), &noise(n as usize, 64), tags, n);
        let mut content = v1::Article::decode(&entry.log.content[..]).unwrap();
        edit(&mut content);
        let log = log::LogEntry { content: content.encode_to_vec().into(), ..entry.log };
        Entry::new(entry.name, entry.slot, log)
    }

    fn number(bytes: &[u8]) -> u32 {
        bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
    }

    /// Returns the pages below the root of a tree in their order, if it has several.
    fn children(connection: &Connection, root: u32) -> Vec<u32> {
        let page: Vec<u8> = connection
            .query_row("SELECT data FROM sqlite_dbpage WHERE pgno = ?1", [root], |row| row.get(0))
            .unwrap();
        let is_interior = matches!(page[0], 2 | 5);
        let cells = number(&page[3..5]);
        let child = |cell: usize| {
            let at = number(&page[12 + 2 * cell..14 + 2 * cell]) as usize;
            number(&page[at..at + 4])
        };
        // The header has the last child.
        let children = (0..cells as usize).map(child).chain([number(&page[8..12])]);
        if is_interior { children.collect() } else { Vec::new() }
    }

    /// Exchanges the last page of each tree with each other one in turn, and runs the scans. Returns the names of the trees.
    fn with_exchanged_pages(run: impl Fn(&str, &Store, Snapshot<'_>)) -> BTreeSet<String> {
        let dir = tempfile::tempdir().unwrap();
        store(dir.path());
        let (store, writer) = open(dir.path());
        let connection = &writer.connection;
        let sql = "SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 1";
        let mut statement = connection.prepare(sql).unwrap();
        let trees = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let trees: Vec<(String, u32)> = trees.collect::<rusqlite::Result<_>>().unwrap();
        let mut exchanged = BTreeSet::new();
        for (name, root) in trees {
            let mut pages = children(connection, root);
            let Some(last) = pages.pop() else { continue };
            let data = |page: u32| -> Vec<u8> {
                let sql = "SELECT data FROM sqlite_dbpage WHERE pgno = ?1";
                connection.query_row(sql, [page], |row| row.get(0)).unwrap()
            };
            for page in pages.into_iter().rev().take(5) {
                let (of_page, of_last) = (data(page), data(last));
                let write = |of_page: &[u8], of_last: &[u8]| {
                    let sql = "UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1";
                    connection.execute(sql, params![page, of_page]).unwrap();
                    connection.execute(sql, params![last, of_last]).unwrap();
                };
                write(&of_last, &of_page);
                run(&name, &store, snapshot(&writer));
                write(&of_page, &of_last);
            }
            exchanged.insert(name);
        }
        exchanged
    }

    /// Steps until the scan is at its end or reports the damage.
    fn ends(name: &str, mut step: impl FnMut() -> Result<bool, Error>) {
        for _ in 0..MAX_STEPS {
            match step() {
                Ok(true) => {}
                Ok(false) | Err(Error::Malformed(_)) => return,
                Err(error) => panic!("{name}: {error}"),
            }
        }
        panic!("{name}: the scan does not end");
    }

    #[test]
    fn scans_of_a_store_with_exchanged_pages_end() {
        let exchanged = with_exchanged_pages(|name, store, snapshot| {
            let head = snapshot.head().unwrap().revision;
            let (mut check, mut sums) = (Check::new(snapshot), Sums::default());
            let mut after = 0;
            ends(name, || {
                let last = check.records_after(after, 100, &mut sums)?;
                after = last.unwrap_or(after);
                Ok(last.is_some())
            });
            let mut pass = Pass::new(store.start_tally());
            ends(name, || Ok(pass.step(snapshot)?.is_none()));
            match snapshot.verify() {
                Ok(findings) => assert!(!findings.faults.is_empty(), "{name}: the damage is not found"),
                Err(error) => assert!(matches!(error, Error::Malformed(_)), "{name}: {error}"),
            }
            let mut after = 0;
            ends(name, || {
                let before = after;
                snapshot.visit_records(before, 100, &Slot::ALL, |revision, _| {
                    after = revision;
                    Ok(true)
                })?;
                Ok(after != before)
            });
            let mut after = 0;
            ends(name, || {
                let last = snapshot.count_records((after, head), 100)?.last;
                after = last.unwrap_or(after);
                Ok(last.is_some())
            });
            let wanted =
                Selection { departed_terms: Some(Vec::new()), kinds: Kind::ALL.to_vec(), terms: Vec::new() };
            let bounds = Bounds { rows: 100, events: 100, bytes: 1 << 20 };
            let mut after = 0;
            ends(name, || {
                after = snapshot.history(after, &wanted, bounds)?.reached.revision;
                Ok(after < head)
            });
            let mut after = None;
            ends(name, || {
                after = snapshot.names(Kind::Article, after.as_ref(), 100)?.last().map(Cursor::by_id);
                Ok(after.is_some())
            });
            let mut after = None;
            ends(name, || {
                after = snapshot.articles(&Query::default(), after.as_ref(), 100)?.next;
                Ok(after.is_some())
            });
            let mut walk = MonthWalk::default();
            ends(name, || {
                walk = snapshot.walk_months(&Query::default(), std::mem::take(&mut walk))?;
                Ok(!walk.is_done)
            });
            let mut after = None;
            ends(name, || {
                after = snapshot.due_by(i64::MAX, after.as_ref(), 100)?.pop();
                Ok(after.is_some())
            });
            let mut after = None;
            ends(name, || {
                after = snapshot.pending_names(after.as_ref(), 100)?.pop().map(|(_, cursor)| cursor);
                Ok(after.is_some())
            });
        });
        for name in ["doc", "doc_key", "doc_id", "listing", "path", "departure", "due", "pending", "chain"] {
            assert!(exchanged.contains(name), "{name}: {exchanged:?}");
        }
    }
}
