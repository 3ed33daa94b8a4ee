//! Puts: of the live version, and of the pending version.

use std::borrow::Cow;

use super::{
    Draft, PlanContext, Planned, State, check_precondition, past::carry_history, remove, update_kind,
};
use crate::{
    model::{Kind, Slot},
    publishing::{
        Precondition,
        check::{Checked, OriginalTimes},
    },
    refusal::Refusal,
    store::Record,
    wire::{
        fields,
        log::{LogEntry, Operation},
        number::article,
        v1::{RemovalReason, UpdateKind},
    },
};

/// Plans a put into the slot that follows from the article's times.
pub(super) fn put(
    draft: &Draft,
    checked: &Checked,
    state: &State,
    context: PlanContext,
) -> Result<Planned, Refusal> {
    let is_pending = checked.release.is_pending(context.now);
    let replaced = match (&draft.precondition, is_pending) {
        (Some(Precondition::Absent), _) => state.live().or(state.pending_record()),
        (_, true) => state.pending_record().or(state.live()),
        (_, false) => state.live(),
    };
    check_precondition(draft, state, replaced)?;
    if let Some(killed) = state.kill_tombstone().filter(|_| !draft.allow_killed) {
        return Err(Refusal::Killed { name: draft.name.clone(), time: killed.log.time });
    }
    if is_pending {
        put_pending(draft, checked, state, context)
    } else {
        put_live(draft, checked, state, context)
    }
}

fn put_live(
    draft: &Draft,
    checked: &Checked,
    state: &State,
    context: PlanContext,
) -> Result<Planned, Refusal> {
    let name = &draft.name;
    let checked = &*without_lost_path(checked, state);
    if let Some(record) = state.live().filter(|record| state.has_content(name, record, checked)) {
        return Ok(state.unchanged(record).with_path_owner(state));
    }
    let before = state.record.as_ref();
    let original = original_times(draft, checked);
    let first = first_publish_time(before).or(original.first_published).or(checked.publish_time);
    let is_article = name.kind == Kind::Article;
    let mut log = LogEntry {
        operation: Operation::Put as i32,
        time: context.now,
        update_kind: update_kind(draft, state)? as i32,
        // A pending version that it replaces was never visible: nothing of it is retained here.
        create_time: before.map(|record| record.log.create_time).or(original.created).unwrap_or(context.now),
        first_publish_time: if is_article { first.unwrap_or(context.now) } else { 0 },
        content: checked.content.clone().into(),
        word_count: checked.word_count,
        ..LogEntry::default()
    };
    carry_history(name, &mut log, before, context);
    let superseded = state.pending_record().filter(|_| state.live().is_none());
    let superseded =
        superseded.map(|pending| remove::pending_removal(pending, RemovalReason::Withdrawn, context));
    let entries = superseded.into_iter().chain([(Slot::Live, log)]).collect();
    Ok(state.append(name, entries).with_path_owner(state))
}

/// Omits a path that a scheduled article has taken from this one. The publisher may not know of that yet, and a
/// correction must not fail for it.
fn without_lost_path<'a>(checked: &'a Checked, state: &State) -> Cow<'a, Checked> {
    if state.path_owner.is_none() {
        return Cow::Borrowed(checked);
    }
    let mut content = Vec::with_capacity(checked.content.len());
    fields::copy_if(&checked.content, &mut content, |number| number != article::PATH);
    Cow::Owned(Checked { content, ..checked.clone() })
}

fn put_pending(
    draft: &Draft,
    checked: &Checked,
    state: &State,
    context: PlanContext,
) -> Result<Planned, Refusal> {
    let name = &draft.name;
    let kind = match draft.update_kind {
        Some(UpdateKind::Backfill) => {
            let problem = "BACKFILL is allowed only for an article that becomes visible immediately";
            return Err(Refusal::field("update_kind", problem));
        }
        None | Some(UpdateKind::Unspecified) => UpdateKind::Major,
        Some(kind) => kind,
    };
    let base = state.base_revision();
    let is_same =
        |record: &&Record| record.log.base_revision == base && state.has_content(name, record, checked);
    if let Some(record) = state.pending_record().filter(is_same) {
        return Ok(state.unchanged(record));
    }
    let before = state.record.as_ref();
    let original = original_times(draft, checked);
    let create_time = before.or(state.pending_record()).map(|record| record.log.create_time);
    let log = LogEntry {
        operation: Operation::Put as i32,
        time: context.now,
        update_kind: kind as i32,
        create_time: create_time.or(original.created).unwrap_or(context.now),
        first_publish_time: first_publish_time(before).or(original.first_published).unwrap_or(0),
        content: checked.content.clone().into(),
        word_count: checked.word_count,
        base_revision: base,
        ..LogEntry::default()
    };
    Ok(state.append(name, vec![(Slot::Pending, log)]))
}

/// Returns the times of creation and first publication in another store. Only an import states them.
fn original_times(draft: &Draft, checked: &Checked) -> OriginalTimes {
    if draft.update_kind.is_none() { checked.original_times } else { OriginalTimes::default() }
}

/// Returns the time at which a name first became readable.
pub(super) fn first_publish_time(record: Option<&Record>) -> Option<i64> {
    record.map(|record| record.log.first_publish_time).filter(|time| *time != 0)
}
