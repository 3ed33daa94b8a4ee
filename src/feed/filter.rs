//! The filter of a feed, and the outcomes of events for its followers.

use crate::{
    entry::Term,
    model::{Id, Kind},
    parse,
    refusal::Refusal,
    store::{history::Selection, listing::Query},
    wire::v1,
};

use super::event::{Block, Outcomes};

/// The filter of a feed. An entity matches if it has a term of each group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Filter {
    groups: Vec<Vec<Term>>,
    kinds: Vec<Kind>,
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
        Ok(Filter { groups, kinds })
    }

    /// Returns terms of which each matching article has at least one. Empty if the filter has no terms.
    pub(super) fn terms(&self) -> &[Term] {
        self.groups.iter().min_by_key(|group| group.len()).map_or(&[], Vec::as_slice)
    }

    /// Returns all terms of all groups.
    pub(super) fn all_terms(&self) -> impl Iterator<Item = &Term> {
        self.groups.iter().flatten()
    }

    /// Returns the part of the history that must be read to find matches.
    pub(super) fn wanted(&self) -> Selection {
        // Nothing leaves a filter without conditions.
        let left = (!self.groups.is_empty()).then(|| self.groups.iter().flatten().cloned().collect());
        Selection { terms: self.terms().to_vec(), departed_terms: left, kinds: self.kinds.clone() }
    }

    /// Returns the query for the articles that match. None if no article does.
    pub(super) fn query(&self) -> Option<Query> {
        let articles = self.kinds.contains(&Kind::Article);
        articles.then(|| Query { groups: self.groups.clone(), ..Query::default() })
    }

    /// Returns the kinds other than articles of which all entities match.
    pub(super) fn other_kinds(&self) -> impl Iterator<Item = Kind> + '_ {
        self.kinds.iter().copied().filter(|kind| *kind != Kind::Article)
    }

    /// Returns the outcomes of the events of a block for followers of the filter.
    pub(super) fn outcomes(&self, block: &Block, backfill: bool) -> Outcomes {
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
