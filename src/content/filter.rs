//! Converts the filter of a request into a query of the store.

use std::hash::Hasher as _;

use prost::Message as _;
use xxhash_rust::xxh3::Xxh3;

use crate::{
    entry::Term,
    model::{Id, Kind, limit},
    publishing::{check_name, check_time},
    refusal::{Refusal, at_most},
    store::listing::{Order, Query},
    wire::{fields, v1},
};

/// Checks and converts a filter and an order.
///
/// # Errors
/// A name, type or time is invalid, or there are too many of them.
pub(crate) fn parse(filter: &v1::ArticleFilter, order: i32) -> Result<Query, Refusal> {
    let mut query = Query { order: self::order(order)?, ..Query::default() };
    query.groups.extend(terms(Kind::Tag, &filter.all_tags, "all_tags")?.into_iter().map(|term| vec![term]));
    for group in [
        terms(Kind::Tag, &filter.any_tags, "any_tags")?,
        terms(Kind::Author, &filter.authors, "authors")?,
        types(&filter.types)?,
    ] {
        query.groups.extend((!group.is_empty()).then_some(group));
    }
    query.excluded = terms(Kind::Tag, &filter.none_tags, "none_tags")?;
    if !filter.section.is_empty() {
        let section = check_name(Kind::Section, &filter.section, "filter.section")?.id;
        match filter.include_child_sections {
            true => query.section_tree = Some(section),
            false => query.groups.push(vec![Term::Section(section)]),
        }
    } else if filter.include_child_sections {
        return Err(Refusal::field("filter.include_child_sections", "requires `section`"));
    }
    if !filter.language.is_empty() {
        at_most(&limit::TOKEN, filter.language.len(), "filter.language")?;
        query.groups.push(vec![Term::Language(filter.language.to_lowercase())]);
    }
    check_time(filter.published_after.as_ref(), "filter.published_after")?;
    check_time(filter.published_before.as_ref(), "filter.published_before")?;
    query.not_before = filter.published_after.as_ref().map(fields::micros);
    query.before = filter.published_before.as_ref().map(fields::micros);
    Ok(query)
}

fn order(order: i32) -> Result<Order, Refusal> {
    match v1::ArticleOrder::try_from(order) {
        Ok(v1::ArticleOrder::Unspecified | v1::ArticleOrder::PublishTimeDesc) => Ok(Order::Time),
        Ok(v1::ArticleOrder::RevisionDesc) => Ok(Order::Revision),
        Err(_) => Err(Refusal::field("order", format!("unknown order {order}"))),
    }
}

fn terms(kind: Kind, names: &[String], field: &str) -> Result<Vec<Term>, Refusal> {
    at_most(&limit::FILTER, names.len(), format!("filter.{field}"))?;
    let term = |(i, name): (usize, &String)| {
        let id: Id = check_name(kind, name, &format!("filter.{field}[{i}]"))?.id;
        Ok(if kind == Kind::Tag { Term::Tag(id) } else { Term::Author(id) })
    };
    names.iter().enumerate().map(term).collect()
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

/// Returns a hash of what a page token is bound to: the method, the filter and the order.
#[must_use]
pub(crate) fn fingerprint(method: &str, filter: &v1::ArticleFilter, order: Order) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(method.as_bytes());
    hasher.update(&filter.encode_to_vec());
    hasher.write_u8(order as u8);
    hasher.digest()
}
