//! The filter of a feed, and the outcomes of events for its followers.

use crate::{
    entry::Term,
    model::{Id, Kind},
    parse,
    refusal::Refusal,
    store::{history::Selection, listing::Query},
    wire::v1,
};

use super::event::{Block, List, Outcomes};

/// The filter of a feed. An entity matches if it has a term of each group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Filter {
    groups: Vec<Vec<Term>>,
    kinds: Vec<Kind>,
    /// The terms of the articles that the follower is limited to. Followers do not learn of other articles.
    scope: Option<Vec<Term>>,
}

impl Filter {
    /// Checks and converts the filter of a request.
    ///
    /// # Errors
    /// A name or a kind is invalid, or there are too many.
    pub(crate) fn parse(message: &v1::FeedFilter) -> Result<Filter, Refusal> {
        let groups = [
            terms(Kind::Tag, &message.any_tags, "filter.any_tags", Term::Tag)?,
            terms(Kind::Section, &message.sections, "filter.sections", Term::Section)?,
            terms(Kind::Author, &message.authors, "filter.authors", Term::Author)?,
        ];
        let groups: Vec<Vec<Term>> = groups.into_iter().filter(|group| !group.is_empty()).collect();
        let kinds = kinds(&message.kinds, !groups.is_empty())?;
        Ok(Filter { groups, kinds, scope: None })
    }

    /// Limits the filter to the articles with one of these terms. A collection names articles of any scope, so none
    /// matches.
    pub(crate) fn narrow(&mut self, scope: Vec<Term>) {
        self.kinds.retain(|kind| *kind != Kind::Collection);
        self.scope = Some(scope);
    }

    /// Whether the followers are limited to some articles.
    pub(super) fn is_limited(&self) -> bool {
        self.scope.is_some()
    }

    /// Returns terms of which each event that concerns the filter has at least one. Empty if events without terms
    /// concern it.
    pub(super) fn terms(&self) -> &[Term] {
        match &self.scope {
            Some(scope) if self.kinds == [Kind::Article] => scope,
            Some(_) => &[],
            None => self.groups.iter().min_by_key(|group| group.len()).map_or(&[], Vec::as_slice),
        }
    }

    /// Returns all terms of all groups, and those of the scope.
    pub(super) fn all_terms(&self) -> impl Iterator<Item = &Term> {
        self.groups.iter().chain(&self.scope).flatten()
    }

    /// Returns the part of the history that must be read to find matches.
    pub(super) fn wanted(&self) -> Selection {
        if let Some(scope) = &self.scope {
            // All events of the scope, and no other articles: the size of a part depends on nothing else.
            let (terms, departed_terms) = (scope.clone(), Some(scope.clone()));
            return Selection { terms, departed_terms, kinds: self.kinds.clone() };
        }
        // Nothing leaves a filter without conditions.
        let left = (!self.groups.is_empty()).then(|| self.groups.iter().flatten().cloned().collect());
        Selection { terms: self.terms().to_vec(), departed_terms: left, kinds: self.kinds.clone() }
    }

    /// Returns the query for the articles that match. None if no article does.
    pub(super) fn query(&self) -> Option<Query> {
        let articles = self.kinds.contains(&Kind::Article);
        let groups = self.groups.iter().chain(&self.scope).cloned().collect();
        articles.then(|| Query { groups, ..Query::default() })
    }

    /// Returns the kinds other than articles of which all entities match.
    pub(super) fn other_kinds(&self) -> impl Iterator<Item = Kind> + '_ {
        self.kinds.iter().copied().filter(|kind| *kind != Kind::Article)
    }

    /// Returns the outcomes of the events of a block for followers of the filter.
    pub(super) fn outcomes(&self, block: &Block, backfill: bool) -> Outcomes {
        match &self.scope {
            None => self.all_outcomes(block, backfill),
            Some(scope) => self.outcomes_within(scope, block, backfill),
        }
    }

    /// Returns the outcomes for followers that are limited to a scope. They depend only on what the articles are, or
    /// were until this event, within the scope:
    ///
    /// - An article in it that does not match the rest of the filter is LEFT at each event, whether it matched before or
    ///   not: it may have done so outside the scope.
    /// - An article that leaves it with this event is LEFT or REMOVED, whether it matched the rest of the filter or not:
    ///   what it has left before it may have left outside the scope.
    fn outcomes_within(&self, scope: &[Term], block: &Block, backfill: bool) -> Outcomes {
        let others = Filter { groups: Vec::new(), kinds: self.other_kinds().collect(), scope: None };
        let others =
            if self.groups.is_empty() { others.all_outcomes(block, backfill) } else { Outcomes::NONE };
        let articles = if self.kinds.contains(&Kind::Article) { block.of_kind(Kind::Article) } else { 0 };
        let union = |terms: &[Term], of: fn(List) -> u64| {
            terms.iter().fold(0, |union, term| union | of(block.list(term)))
        };
        let Block { live, newest, .. } = block;
        let within = articles & live & union(scope, |list| list.has);
        let left_scope = articles & !within & union(scope, |list| list.leaves);
        let matches =
            self.groups.iter().fold(within, |matches, group| matches & union(group, |list| list.has));
        let delivered = newest & if backfill { !0 } else { !block.backfill };
        Outcomes {
            upsert: others.upsert | (matches & delivered),
            left: others.left | (within & !matches & delivered) | (left_scope & (live | !newest)),
            removed: others.removed | (left_scope & !live & newest),
        }
    }

    fn all_outcomes(&self, block: &Block, backfill: bool) -> Outcomes {
        let kinds = self.kinds.iter().fold(0, |kinds, kind| kinds | block.of_kind(*kind));
        let (mut matches, mut may_have, mut leaves) = (kinds, kinds, 0);
        for group in &self.groups {
            let (mut has, mut left) = (0, 0);
            for list in group.iter().map(|term| block.list(term)) {
                has |= list.has;
                left |= list.left;
                leaves |= list.leaves;
            }
            matches &= has | block.unknown;
            // A follower may hold an article that has left some of the lists.
            may_have &= has | left;
        }
        let Block { live, newest, .. } = block;
        let matches = matches & (live | block.unknown);
        let delivered = if backfill { !0 } else { !block.backfill };
        let other = kinds & !matches & delivered;
        // Nothing leaves a filter without conditions.
        let leaves = if self.groups.is_empty() { 0 } else { block.leaves_any | (leaves & may_have) };
        Outcomes {
            // If the event is not the newest, the article matches again, and the later event delivers it.
            upsert: matches & newest & delivered,
            left: other & leaves & (live | !newest),
            removed: other & (may_have | block.left_any) & !live & newest,
        }
    }
}

fn terms(kind: Kind, names: &[String], field: &str, term: fn(Id) -> Term) -> Result<Vec<Term>, Refusal> {
    let mut terms = parse::terms(kind, names, field, term)?;
    terms.sort_unstable();
    terms.dedup();
    Ok(terms)
}

fn kinds(numbers: &[i32], only_articles: bool) -> Result<Vec<Kind>, Refusal> {
    let mut kinds = Vec::with_capacity(numbers.len());
    for (i, number) in numbers.iter().enumerate() {
        let field = || format!("filter.kinds[{i}]");
        let kind = Kind::from_number(i64::from(*number))
            .ok_or_else(|| Refusal::field(field(), format!("unknown value {number}")))?;
        if only_articles && kind != Kind::Article {
            return Err(Refusal::field(field(), "must be ARTICLE if tags, sections or authors are set"));
        }
        kinds.push(kind);
    }
    if kinds.is_empty() {
        kinds = if only_articles { vec![Kind::Article] } else { Kind::ALL.to_vec() };
    }
    kinds.sort_unstable();
    kinds.dedup();
    Ok(kinds)
}
