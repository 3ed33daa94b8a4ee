//! The pages of articles, read from the columns of their rows: the entries, with the bodies, are not opened.

use rusqlite::{OptionalExtension as _, params};

use super::{
    Error, Snapshot,
    listing::{Query, section_tree},
    read::LIVE_SLOT,
    row::{self, Columns},
};
use crate::{
    entry::{SitePage, Term},
    model::Name,
};

/// A reader of the pages of many articles in one snapshot.
pub(crate) struct Pages<'a> {
    snapshot: Snapshot<'a>,
    scope: Option<Scope<'a>>,
}

/// A query whose terms are fingerprints.
struct Scope<'a> {
    query: &'a Query,
    /// The groups of the query, and one for each tree of sections.
    groups: Vec<Vec<u64>>,
    excluded: Vec<u64>,
}

impl<'a> Snapshot<'a> {
    /// Returns a reader of pages, of the articles that match a query if there is one.
    pub(crate) fn pages(self, scope: Option<&'a Query>) -> Result<Pages<'a>, Error> {
        let scope = scope.map(|query| Scope::of(query, self)).transpose()?;
        Ok(Pages { snapshot: self, scope })
    }
}

impl<'a> Scope<'a> {
    fn of(query: &'a Query, snapshot: Snapshot<'_>) -> Result<Scope<'a>, Error> {
        let fingerprints = |terms: &[Term]| terms.iter().map(Term::fingerprint).collect::<Vec<_>>();
        let mut groups: Vec<_> = query.groups.iter().map(|group| fingerprints(group)).collect();
        for root in &query.section_trees {
            groups.push(fingerprints(&section_tree(snapshot, root)?));
        }
        Ok(Scope { query, groups, excluded: fingerprints(&query.excluded) })
    }

    fn has(&self, page: &SitePage, time: i64) -> bool {
        let is_in = |list: &u64| page.is_in(*list);
        self.query.is_in_time_range(time)
            && self.groups.iter().all(|group| group.iter().any(is_in))
            && !self.excluded.iter().any(is_in)
    }
}

impl Pages<'_> {
    /// Returns the page of an article that readers see. `None` if it has no page, or its row is damaged, or it does not
    /// match the query: the row decides, which has a checksum, and not the lists, which have none.
    pub(crate) fn read(&self, name: &Name) -> Result<Option<SitePage>, Error> {
        let sql = format!(
            "SELECT {} FROM doc INDEXED BY doc_key WHERE kind = ?1 AND slot = ?2 AND id = ?3",
            row::COLUMNS
        );
        let mut statement = self.snapshot.connection.prepare_cached(&sql)?;
        let key = params![name.kind as i64, LIVE_SLOT, name.id.as_str()];
        let found = statement.query_row(key, Columns::read).optional()?;
        let own = found.filter(|columns| columns.is_intact() && columns.name().as_ref() == Some(name));
        let Some(columns) = own else { return Ok(None) };
        let page = columns.page.and_then(|page| SitePage::from_bytes(&page));
        Ok(page.filter(|page| self.scope.as_ref().is_none_or(|scope| scope.has(page, columns.time))))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use prost::Message as _;
    use rusqlite::Connection;

    use super::*;
    use crate::{
        entry::Entry,
        filter,
        model::Slot,
        store::{
            Writer,
            fixture::{apply, faults, name, open, snapshot},
        },
        wire::{log, v1},
    };

    fn live(id: &str, path: &str, tag: &str) -> Entry {
        let content = v1::Article { path: path.into(), tags: vec![tag.into()], ..Default::default() };
        let log = log::LogEntry {
            operation: log::Operation::Put as i32,
            content: content.encode_to_vec().into(),
            ..Default::default()
        };
        Entry::new(name(id), Slot::Live, log)
    }

    fn path(writer: &Writer, id: &str, scope: Option<&Query>) -> Result<Option<String>, Error> {
        Ok(snapshot(writer).pages(scope)?.read(&name(id))?.map(|page| page.path))
    }

    /// Changes one row.
    fn change(dir: &Path, sql: &str) {
        let database = Connection::open(dir.join("cable.db")).unwrap();
        assert_eq!(database.execute(sql, []).unwrap(), 1);
    }

    #[test]
    fn a_damaged_page_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut writer) = open(dir.path());
        apply(&mut writer, &[live("a", "/a", "tags/t"), live("b", "", "tags/t")]);
        let path = |writer: &_, id| path(writer, id, None).unwrap();
        assert_eq!(path(&writer, "a"), Some("/a".to_owned()));
        assert_eq!(path(&writer, "b"), None);
        assert_eq!(path(&writer, "c"), None);
        apply(&mut writer, &[live("d", "/d", "tags/t")]);
        drop((store, writer));
        change(dir.path(), "UPDATE doc SET page = (SELECT page FROM doc WHERE id = 'd') WHERE id = 'a'");
        let (_store, mut writer) = open(dir.path());
        assert_eq!(path(&writer, "a"), None);
        assert_eq!(faults(dir.path())[0], "articles/a: checksum mismatch");
        apply(&mut writer, &[live("a", "/again", "tags/t")]);
        assert_eq!(path(&writer, "a"), Some("/again".to_owned()));
        assert_eq!(faults(dir.path()), Vec::<String>::new());
    }

    /// Replaces one of the places at which the database has `from` as the value of a term, by its number from 0. Returns
    /// false if there is none.
    fn damage_term(dir: &Path, place: usize, [from, to]: [&str; 2]) -> bool {
        let file = dir.join("cable.db");
        let mut bytes = fs::read(&file).unwrap();
        // In an entry, the name of the tag has the prefix of its kind.
        let is_term = |at: usize| bytes[at..].starts_with(from.as_bytes()) && bytes[at - 1] != b'/';
        let Some(at) = (1..bytes.len()).filter(|at| is_term(*at)).nth(place) else { return false };
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        fs::write(file, bytes).unwrap();
        true
    }

    #[test]
    fn damage_brings_no_page_into_a_scope() {
        let scope = |all: &[&str], excluded: &[&str]| {
            let tags = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let (all_tags, excluded_tags) = (tags(all), tags(excluded));
            filter::parse(&v1::ArticleFilter { all_tags, excluded_tags, ..Default::default() }, 0).unwrap()
        };
        let scopes = [scope(&["tags/public"], &[]), scope(&[], &["tags/secret"])];
        let check = |damage: &dyn Fn(&Path) -> bool| {
            let dir = tempfile::tempdir().unwrap();
            let (store, mut writer) = open(dir.path());
            apply(&mut writer, &[live("a", "/a", "tags/secret"), live("b", "/b", "tags/public")]);
            for scope in &scopes {
                assert_eq!(path(&writer, "a", Some(scope)).unwrap(), None);
                assert_eq!(path(&writer, "b", Some(scope)).unwrap(), Some("/b".to_owned()));
            }
            drop((store, writer));
            let is_damaged = damage(dir.path());
            let (_store, writer) = open(dir.path());
            for scope in &scopes {
                let path = path(&writer, "a", Some(scope));
                assert!(matches!(path, Ok(None) | Err(Error::Malformed(_))), "{path:?}");
            }
            is_damaged
        };
        // In the table of terms, and in its index.
        for place in 0..2 {
            assert!(check(&|dir| damage_term(dir, place, ["secret", "public"])), "{place}");
            assert!(check(&|dir| damage_term(dir, place, ["secret", "secrex"])), "{place}");
        }
        assert!(!check(&|dir| damage_term(dir, 2, ["secret", "public"])));
        let term = |value: &str| format!("(SELECT n FROM term WHERE value = '{value}')");
        let (public, secret) = (term("public"), term("secret"));
        assert!(check(&|dir| {
            change(dir, &format!("UPDATE listing SET term = {public} WHERE term = {secret}"));
            change(dir, "UPDATE doc SET terms = (SELECT terms FROM doc WHERE id = 'b') WHERE id = 'a'");
            true
        }));
    }
}
