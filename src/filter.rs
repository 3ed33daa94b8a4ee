//! Converts the filter of a request, or of a credential, into a query of the store.

use std::hash::Hasher as _;

use prost::Message as _;
use xxhash_rust::xxh3::Xxh3;

use crate::{
    entry::Term,
    model::{Kind, limit},
    page_token::PageScope,
    parse,
    refusal::{Refusal, at_most},
    store::listing::{Order, Query},
    wire::v1,
};

/// Checks and converts a filter and an order.
///
/// # Errors
/// A name, type or time is invalid, or there are too many of them.
pub(crate) fn parse(filter: &v1::ArticleFilter, order: i32) -> Result<Query, Refusal> {
    let mut query = Query { order: self::order(order)?, ..Query::default() };
    let all_tags = parse::terms(Kind::Tag, &filter.all_tags, "filter.all_tags", Term::Tag)?;
    query.groups.extend(all_tags.into_iter().map(|term| vec![term]));
    for group in [
        parse::terms(Kind::Tag, &filter.any_tags, "filter.any_tags", Term::Tag)?,
        parse::terms(Kind::Author, &filter.authors, "filter.authors", Term::Author)?,
        types(&filter.types)?,
    ] {
        query.groups.extend((!group.is_empty()).then_some(group));
    }
    query.excluded = parse::terms(Kind::Tag, &filter.excluded_tags, "filter.excluded_tags", Term::Tag)?;
    if !filter.section.is_empty() {
        let section = parse::name(Kind::Section, &filter.section, "filter.section")?.id;
        match filter.include_child_sections {
            true => query.section_trees.push(section),
            false => query.groups.push(vec![Term::Section(section)]),
        }
    } else if filter.include_child_sections {
        return Err(Refusal::field("filter.include_child_sections", "requires `section`"));
    }
    if !filter.language.is_empty() {
        at_most(&limit::TOKEN, filter.language.len(), "filter.language")?;
        query.groups.push(vec![Term::Language(filter.language.to_lowercase())]);
    }
    query.not_before = parse::time(filter.published_after.as_ref(), "filter.published_after")?;
    query.before = parse::time(filter.published_before.as_ref(), "filter.published_before")?;
    Ok(query)
}

fn order(order: i32) -> Result<Order, Refusal> {
    match v1::ArticleOrder::try_from(order) {
        Ok(v1::ArticleOrder::Unspecified | v1::ArticleOrder::PublishTimeDesc) => Ok(Order::Time),
        Ok(v1::ArticleOrder::RevisionDesc) => Ok(Order::Revision),
        Err(_) => Err(Refusal::field("order", format!("unknown order {order}"))),
    }
}

fn types(types: &[i32]) -> Result<Vec<Term>, Refusal> {
    at_most(&limit::FILTER_TYPES, types.len(), "filter.types")?;
    let term = |(i, number): (usize, &i32)| match v1::ArticleType::try_from(*number) {
        Ok(v1::ArticleType::Unspecified) => Ok(Term::Type(v1::ArticleType::Article as i32)),
        Ok(_) => Ok(Term::Type(*number)),
        Err(_) => Err(Refusal::field(format!("filter.types[{i}]"), format!("unknown type {number}"))),
    };
    types.iter().enumerate().map(term).collect()
}

/// Returns the scope of the page tokens of a listing of articles.
#[must_use]
pub(crate) fn page_scope(filter: &v1::ArticleFilter, order: Order) -> PageScope {
    let mut hasher = Xxh3::new();
    hasher.update(&filter.encode_to_vec());
    hasher.write_u8(order as u8);
    PageScope::Articles(hasher.digest())
}
