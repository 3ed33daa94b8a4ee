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
