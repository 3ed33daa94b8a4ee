//! The articles that a credential is limited to. To its caller, all others do not exist.

use std::{
    collections::BTreeSet,
    fmt,
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use prost::Message as _;
use xxhash_rust::xxh3::Xxh3;

use super::scope_table;
use crate::{
    entry::Term,
    filter,
    page_token::PageScope,
    store::listing::Query,
    wire::v1::{ArticleFilter, ArticleOrder},
};

/// The articles that match the filter of a credential.
#[derive(Debug, Clone)]
pub struct Scope {
    filter: ArticleFilter,
    query: Query,
    id: ScopeId,
}

/// The number of a scope in the keys of caches. No other scope of this process has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ScopeId(NonZeroU32);

impl ScopeId {
    fn next() -> ScopeId {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let last = LAST.fetch_add(1, Relaxed);
        ScopeId(NonZeroU32::MIN.checked_add(last).expect("fewer than 2^32 scopes are made"))
    }
}

impl PartialEq for Scope {
    fn eq(&self, other: &Scope) -> bool {
        self.filter == other.filter
    }
}

impl Eq for Scope {}

/// The filter as the file of credentials has it.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        toml::Value::Table(scope_table::write(&self.filter)).fmt(f)
    }
}

impl Scope {
    /// Checks a filter by the rules for the filter of a request.
    ///
    /// # Errors
    /// A name, type or time is not valid, there are too many of them, or the filter has no condition.
    pub fn new(filter: ArticleFilter) -> Result<Scope, String> {
        if filter == ArticleFilter::default() {
            return Err("the filter has no condition".to_owned());
        }
        let order = ArticleOrder::PublishTimeDesc as i32;
        let query = filter::parse(&filter, order).map_err(|refusal| refusal.to_string())?;
        Ok(Scope { filter, query, id: ScopeId::next() })
    }

    /// Returns the filter.
    #[must_use]
    pub fn filter(&self) -> &ArticleFilter {
        &self.filter
    }

    /// Whether a feed can follow the scope.
    #[must_use]
    pub fn has_feeds(&self) -> bool {
        self.followed_terms().is_some()
    }

    pub(crate) fn id(&self) -> ScopeId {
        self.id
    }

    pub(crate) fn query(&self) -> &Query {
        &self.query
    }

    /// Returns the scope of the page tokens of a listing within this scope.
    pub(crate) fn page_scope(&self, listing: PageScope) -> PageScope {
        let PageScope::Articles(hash) = listing else { return listing };
        let mut hasher = Xxh3::new();
        hasher.update(&hash.to_le_bytes());
        hasher.update(&self.filter.encode_to_vec());
        PageScope::Articles(hasher.digest())
    }

    /// Returns the lists of which each article in the scope is in at least one, and no other article is in any. `None`
    /// if there are no such lists. The history records when an article left a list, but not which lists it was in at
    /// the same time: whether an article has left the scope is known of such scopes alone.
    pub(crate) fn followed_terms(&self) -> Option<Vec<Term>> {
        let Query { groups, excluded, section_trees, not_before, before, order: _ } = &self.query;
        let others = excluded.len() + section_trees.len();
        if others > 0 || not_before.is_some() || before.is_some() {
            return None;
        }
        let groups: BTreeSet<BTreeSet<&Term>> = groups.iter().map(|group| group.iter().collect()).collect();
        let mut groups = groups.into_iter();
        let terms = groups.next().filter(|_| groups.next().is_none())?;
        let are_followed = terms.iter().all(|term| term.name().is_some());
        are_followed.then(|| terms.into_iter().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::auth::{CredentialFile, NewCredential, Role};

    const NOW: i64 = 1_800_000_000_000_000;

    fn tag(name: &str) -> ArticleFilter {
        ArticleFilter { all_tags: vec![name.to_owned()], ..Default::default() }
    }

    fn new(role: Role, filter: Option<ArticleFilter>) -> NewCredential {
        NewCredential { name: "wire".to_owned(), role, filter, lifetime: None, certificate: None }
    }

    fn file() -> (tempfile::TempDir, CredentialFile) {
        let dir = tempfile::tempdir().unwrap();
        let file = CredentialFile::new(dir.path().join("credentials.toml"));
        (dir, file)
    }

    #[test]
    fn every_field_of_a_filter_is_read_as_written() {
        let (_dir, file) = file();
        let time = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
        let filter = ArticleFilter {
            all_tags: vec!["tags/sea".into(), "tags/ice".into()],
            any_tags: vec!["tags/ports".into()],
            excluded_tags: vec!["tags/\u{7e}internal".into()],
            section: "sections/world".into(),
            include_child_sections: true,
            authors: vec!["authors/ann".into()],
            types: vec![0, 1, 3],
            language: "en-GB \"quoted\"".into(),
            published_after: time(1_700_000_000, 5_000),
            published_before: time(1_800_000_000, 0),
        };
        file.create(new(Role::Reader, Some(filter.clone())), NOW).unwrap();
        let read = |file: &CredentialFile| file.read().unwrap();
        assert_eq!(read(&file)[0].scope.as_ref().unwrap().filter(), &filter);
        file.rotate("wire", Duration::from_secs(60), None, NOW).unwrap();
        assert_eq!(read(&file)[1].scope, read(&file)[0].scope);
    }

    #[test]
    fn only_readers_have_filters_and_a_name_has_one() {
        let (_dir, file) = file();
        for role in [Role::Editor, Role::Publisher, Role::Admin] {
            let refused = file.create(new(role, Some(tag("tags/sea"))), NOW).unwrap_err().to_string();
            assert!(refused.contains("a filter is for readers"), "{refused}");
        }
        file.create(new(Role::Reader, Some(tag("tags/sea"))), NOW).unwrap();
        for other in [None, Some(tag("tags/ice"))] {
            let refused = file.create(new(Role::Reader, other), NOW).unwrap_err().to_string();
            assert!(refused.contains("has another filter already"), "{refused}");
        }
        file.create(new(Role::Reader, Some(tag("tags/sea"))), NOW).unwrap();
    }

    #[test]
    fn a_filter_in_the_file_is_checked_like_that_of_a_request() {
        let (_dir, file) = file();
        file.create(new(Role::Reader, Some(tag("tags/sea"))), NOW).unwrap();
        let good = std::fs::read_to_string(file.path()).unwrap();
        let line = "filter = { all_tags = [\"tags/sea\"] }";
        let many = vec!["\"tags/a\""; 65].join(", ");
        for (filter, expected) in [
            ("filter = 1".to_owned(), "`filter` must be a table"),
            ("filter = {}".to_owned(), "the filter has no condition"),
            ("filter = { tags = [] }".to_owned(), "unknown key `filter.tags`"),
            ("filter = { all_tags = \"tags/sea\" }".to_owned(), "`filter.all_tags` must be a list"),
            ("filter = { all_tags = [1] }".to_owned(), "`filter.all_tags` must be a list"),
            ("filter = { all_tags = [\"sea\"] }".to_owned(), "filter.all_tags[0]"),
            (format!("filter = {{ any_tags = [{many}] }}"), "exceeds the maximum of 64"),
            ("filter = { types = [\"NEWS\"] }".to_owned(), "`filter.types` must be"),
            ("filter = { include_child_sections = true }".to_owned(), "requires `section`"),
            ("filter = { published_after = \"2026\" }".to_owned(), "`filter.published_after` must be a time"),
            ("filter = { language = 1 }".to_owned(), "`filter.language` must be a language"),
        ] {
            assert!(good.contains(line), "{good}");
            std::fs::write(file.path(), good.replace(line, &filter)).unwrap();
            let error = file.read().unwrap_err().to_string();
            assert!(error.contains("credential 1") && error.contains(expected), "{filter}: {error}");
        }
        std::fs::write(file.path(), good.replace("\"reader\"", "\"editor\"")).unwrap();
        assert!(file.read().unwrap_err().to_string().contains("a filter is for readers"));
    }

    #[test]
    fn page_tokens_of_two_scopes_differ_and_those_of_one_are_stable() {
        let scope = |filter| Scope::new(filter).unwrap();
        let listing = PageScope::Articles(7);
        let [sea, ice] = ["tags/sea", "tags/ice"].map(|name| scope(tag(name)).page_scope(listing));
        assert!(sea != ice && sea != listing);
        assert_eq!(sea, scope(tag("tags/sea")).page_scope(listing));
    }
}
