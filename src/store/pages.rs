//! The pages of articles, read from the columns of their rows: the entries, with the bodies, are not opened.

use std::collections::HashMap;

use rusqlite::{OptionalExtension as _, params};

use super::{
    Error, Snapshot,
    listing::Query,
    matching,
    read::LIVE_SLOT,
    row::{self, Columns, unpack_terms},
    salvage,
};
use crate::{
    entry::{SitePage, Term},
    model::{Id, Name},
};

/// A reader of the pages of many articles in one snapshot. It reads each term and each parent of a section once.
pub(crate) struct Pages<'a> {
    snapshot: Snapshot<'a>,
    scope: Option<&'a Query>,
    terms: HashMap<i64, Term>,
    parents: HashMap<Id, Option<Id>>,
}

impl<'a> Snapshot<'a> {
    /// Returns a reader of pages, of the articles that match a query if there is one.
    pub(crate) fn pages(self, scope: Option<&'a Query>) -> Pages<'a> {
        Pages { snapshot: self, scope, terms: HashMap::new(), parents: HashMap::new() }
    }
}

impl Pages<'_> {
    /// Returns the page of an article that readers see. `None` if it has no page, or its row is damaged, or it does not
    /// match the query: the row decides, which has a checksum, and not the lists, which have none.
    pub(crate) fn read(&mut self, name: &Name) -> Result<Option<SitePage>, Error> {
        let sql = format!(
            "SELECT {} FROM doc INDEXED BY doc_key WHERE kind = ?1 AND slot = ?2 AND id = ?3",
            row::COLUMNS
        );
        let mut statement = self.snapshot.connection.prepare_cached(&sql)?;
        let key = params![name.kind as i64, LIVE_SLOT, name.id.as_str()];
        let found = statement.query_row(key, Columns::read).optional()?;
        let own = found.filter(|columns| columns.is_intact() && columns.name().as_ref() == Some(name));
        let Some(columns) = own else { return Ok(None) };
        let is_visible = match self.scope {
            Some(query) => self.matches(query, &columns)?,
            None => true,
        };
        Ok(columns.page.filter(|_| is_visible).and_then(|page| SitePage::from_bytes(&page)))
    }

    fn matches(&mut self, query: &Query, columns: &Columns) -> Result<bool, Error> {
        let numbers = unpack_terms(&columns.terms);
        let terms = numbers.into_iter().map(|number| self.term(number)).collect::<Result<Vec<_>, _>>()?;
        matching::matches_lists(query, &terms, Some(columns.time), |section| {
            if let Some(parent) = self.parents.get(&section) {
                return Ok(parent.clone());
            }
            let parent = self.snapshot.parent(section.clone())?;
            self.parents.insert(section, parent.clone());
            Ok(parent)
        })
    }

    /// Returns a term by its number. The table and the index of terms must agree, so that a damaged page of one cannot
    /// turn one list into another.
    fn term(&mut self, number: i64) -> Result<Term, Error> {
        if let Some(term) = self.terms.get(&number) {
            return Ok(term.clone());
        }
        let connection = self.snapshot.connection;
        let term = salvage::term(connection, number)?;
        let term = term.ok_or_else(|| Error::malformed("list of an article is missing"))?;
        let (kind, value) = term.parts();
        let mut statement = connection.prepare_cached("SELECT n FROM term WHERE kind = ?1 AND value = ?2")?;
        let indexed: Option<i64> = statement.query_row(params![kind, value], |row| row.get(0)).optional()?;
        if indexed != Some(number) {
            return Err(Error::malformed("table and index of lists disagree"));
        }
        self.terms.insert(number, term.clone());
        Ok(term)
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
        Ok(snapshot(writer).pages(scope).read(&name(id))?.map(|page| page.path))
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
