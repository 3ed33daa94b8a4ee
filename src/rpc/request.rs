//! The options that many requests have in common, parsed in one place: views and includes, freshness, page sizes,
//! preconditions. `parse` has the values that other modules parse, too.

use std::time::Duration;

use crate::{
    compose::{Shape, Wants},
    content::Selection,
    model::{LogId, Revision, limit},
    parse,
    publishing::Precondition,
    refusal::{Refusal, at_most},
    wire::v1::{self, ArticleView, BodyFormat, Include, UpdateKind},
};

/// How long a read that sets no `max_wait` waits for a revision.
const DEFAULT_WAIT: Duration = Duration::from_secs(1);

/// Parses the view and the body format of articles, and the entities to include.
pub(super) fn selection(
    view: i32,
    format: i32,
    includes: &[i32],
    default: ArticleView,
) -> Result<Selection, Refusal> {
    let unknown = |field, number: i32| Refusal::field(field, format!("unknown value {number}"));
    let view = ArticleView::try_from(view).map_err(|_| unknown("view", view))?;
    let format = BodyFormat::try_from(format).map_err(|_| unknown("body_format", format))?;
    let format = if format == BodyFormat::Unspecified { BodyFormat::Blocks } else { format };
    let shape = match if view == ArticleView::Unspecified { default } else { view } {
        ArticleView::Reference => Shape::Reference,
        ArticleView::Basic => Shape::Basic,
        ArticleView::Full | ArticleView::Unspecified => Shape::Full(format),
    };
    if !matches!(shape, Shape::Full(_)) && format != BodyFormat::Blocks {
        return Err(Refusal::field("body_format", "requires the view FULL"));
    }
    Ok(Selection { shape, wants: wants(includes)? })
}

fn wants(includes: &[i32]) -> Result<Wants, Refusal> {
    let mut wants = Wants::default();
    for (i, number) in includes.iter().enumerate() {
        let field = || format!("includes[{i}]");
        let wanted = match Include::try_from(*number) {
            Ok(Include::Authors) => &mut wants.authors,
            Ok(Include::Sections) => &mut wants.sections,
            Ok(Include::Tags) => &mut wants.tags,
            Ok(Include::Unspecified) | Err(_) => {
                return Err(Refusal::field(field(), format!("unknown value {number}")));
            }
        };
        if std::mem::replace(wanted, true) {
            return Err(Refusal::field(field(), "duplicate"));
        }
    }
    Ok(wants)
}

/// Parses the revision to wait for, the log that it belongs to, and the maximum wait.
pub(super) fn freshness(
    freshness: Option<&v1::Freshness>,
) -> Result<(Revision, Option<LogId>, Duration), Refusal> {
    let Some(freshness) = freshness else { return Ok((0, None, DEFAULT_WAIT)) };
    let log_id = log_id(&freshness.log_id, "freshness.log_id")?;
    if freshness.at_least_revision < 0 {
        return Err(Refusal::field("freshness.at_least_revision", "must not be negative"));
    }
    let wait = match &freshness.max_wait {
        None => DEFAULT_WAIT,
        Some(wait) => parse::duration(wait).ok_or_else(|| {
            let problem = "must be a duration of at least 0, with nanos from 0 to 999999999";
            Refusal::field("freshness.max_wait", problem)
        })?,
    };
    let millis = usize::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(usize::MAX);
    at_most(&limit::MAX_WAIT_MS, millis, "freshness.max_wait")?;
    Ok((freshness.at_least_revision, log_id, wait))
}

/// Parses a log id. Returns None if it is unset.
pub(super) fn log_id(text: &str, field: &str) -> Result<Option<LogId>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let log_id =
        LogId::parse(text).ok_or_else(|| Refusal::field(field, "must be 8 hex digits in lower case"))?;
    Ok(Some(log_id))
}

/// Parses the size of a page. A value above the limit means the limit (AIP-158).
pub(super) fn page_size(requested: i32) -> Result<usize, Refusal> {
    match usize::try_from(requested) {
        Err(_) => Err(Refusal::field("page_size", "must not be negative")),
        Ok(0) => Ok(limit::DEFAULT_PAGE_SIZE),
        Ok(requested) => Ok(requested.min(limit::PAGE_SIZE.maximum as usize)),
    }
}

/// Parses the precondition of a write.
pub(super) fn precondition(precondition: Option<v1::Precondition>) -> Result<Option<Precondition>, Refusal> {
    use v1::precondition::Condition;
    match precondition.and_then(|precondition| precondition.condition) {
        None => Ok(None),
        Some(Condition::MustBeAbsent(true)) => Ok(Some(Precondition::Absent)),
        Some(Condition::MustBeAbsent(false)) => {
            Err(Refusal::field("precondition.must_be_absent", "must be true if set"))
        }
        Some(Condition::Etag(etag)) if etag.is_empty() => {
            Err(Refusal::field("precondition.etag", "must not be empty"))
        }
        Some(Condition::Etag(etag)) => Ok(Some(Precondition::Etag(etag))),
    }
}

/// Parses the update kind of a write.
pub(super) fn update_kind(number: i32) -> Result<UpdateKind, Refusal> {
    UpdateKind::try_from(number).map_err(|_| Refusal::field("update_kind", format!("unknown value {number}")))
}
