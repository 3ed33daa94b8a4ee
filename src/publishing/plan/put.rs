//! Plans puts of live and pending versions.

use std::borrow::Cow;

use super::{
    Draft, Import, PlanContext, Planned, State, check_precondition, hold_imported, is_held,
    past::{add_imported_paths, carry_history},
    remove, update_kind,
};
use crate::{
    model::{Kind, Slot},
    publishing::{Precondition, check::Checked},
    refusal::Refusal,
    store::Record,
    wire::{
        fields,
        log::{self, FormerPath, LogEntry, Operation, PendingBase},
        number::article,
        v1::{RemovalReason, UpdateKind},
    },
};

/// Plans a put into the live or the pending slot, by the article's times or by the record of an import. An imported article
/// that has expired becomes a removal.
pub(super) fn put(
    draft: &Draft,
    checked: &Checked,
    state: &State,
    context: PlanContext,
) -> Result<Planned, Refusal> {
    let import = draft.import.as_ref();
    let is_pending =
        import.is_some_and(|import| import.pending.is_some()) || checked.release.is_pending(context.now);
    let has_expired = checked.expire_time.is_some_and(|time| time <= context.now);
    if import.is_some() && !is_pending && has_expired {
        return remove::expired(draft, checked, state, context);
    }
    let replaced = match (&draft.precondition, is_pending) {
        (Some(Precondition::Absent), _) => state.live().or(state.pending_record()),
        (_, true) => state.pending_record().or(state.live()),
        (_, false) => state.live(),
    };
    check_precondition(draft, state, replaced)?;
    let is_allowed = draft.allow_killed || import.is_some_and(|import| import.may_follow_kill(state));
    if let Some(time) = state.kill_time().filter(|_| !is_allowed) {
        return Err(Refusal::Killed { name: draft.name.clone(), time });
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
    let former_paths = &checked.original.former_paths;
    let superseded = superseded_pending(draft.import.as_ref(), state, context);
    let is_same =
        |record: &&Record| state.has_content(name, record, checked) && has_paths(record, former_paths);
    if let Some(record) = state.live().filter(is_same) {
        let planned = match (draft.import.as_ref(), superseded) {
            (Some(_), Some(removal)) => state.append(name, vec![removal]),
            _ => state.unchanged(record),
        };
        return Ok(planned.with_path_owner(state));
    }
    let before = state.record.as_ref();
    let original = &checked.original;
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
    add_imported_paths(&mut log, former_paths, context.now);
    let is_change = draft.import.is_none() && state.live().is_some();
    let held = hold_imported(state, context).filter(|_| is_change && superseded.is_none());
    let entries = superseded.into_iter().chain(held).chain([(Slot::Live, log)]).collect();
    Ok(state.append(name, entries).with_path_owner(state))
}

/// Returns the removal of the pending version that a put of the live one supersedes. An import supersedes it if its file
/// has no pending version; any other put does if there was no live version.
fn superseded_pending(
    import: Option<&Import>,
    state: &State,
    context: PlanContext,
) -> Option<(Slot, LogEntry)> {
    let pending = state.pending_record()?;
    let is_superseded = match import.and_then(|import| import.has_pending) {
        Some(has_pending) => !has_pending,
        None => state.live().is_none(),
    };
    is_superseded.then(|| remove::pending_removal(pending, RemovalReason::Withdrawn, context))
}

/// Returns whether a record already has all former paths of an imported one, with their times.
fn has_paths(record: &Record, imported: &[FormerPath]) -> bool {
    if imported.is_empty() {
        return true;
    }
    let mut log = record.log.clone();
    add_imported_paths(&mut log, imported, record.log.time);
    log.former_paths == record.log.former_paths
}

/// Removes the path if another article has it. Either a scheduled article took it from this one: the publisher may not
/// know that yet, and a correction must not fail for it. Or the path comes from an import.
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
            return Err(draft.kind_refused(problem));
        }
        None | Some(UpdateKind::Unspecified) => UpdateKind::Major,
        Some(kind) => kind,
    };
    let record_of_pending = draft.import.as_ref().and_then(|import| import.pending);
    let base = record_of_pending.map_or(PendingBase::Unspecified, |pending| pending.base(state.live()));
    let base_revision = if base == PendingBase::Unspecified { state.base_revision() } else { 0 };
    let has_base = |record: &Record| match record_of_pending {
        Some(pending) => is_held(record, state.live()) == pending.is_held,
        None => record.log.base_revision == base_revision && !is_held(record, state.live()),
    };
    let is_same = |record: &&Record| has_base(record) && state.has_content(name, record, checked);
    if let Some(record) = state.pending_record().filter(is_same) {
        return Ok(state.unchanged(record));
    }
    let before = state.record.as_ref();
    let original = &checked.original;
    let create_time = before.or(state.pending_record()).map(|record| record.log.create_time);
    let log = LogEntry {
        operation: Operation::Put as i32,
        time: context.now,
        update_kind: kind as i32,
        create_time: create_time.or(original.created).unwrap_or(context.now),
        first_publish_time: first_publish_time(before).or(original.first_published).unwrap_or(0),
        content: checked.content.clone().into(),
        word_count: checked.word_count,
        base_revision,
        kill_time: if before.is_none() { state.kill_time().unwrap_or_default() } else { 0 },
        import: record_of_pending
            .map(|_| log::Import { pending_base: base as i32, ..log::Import::default() }),
        ..LogEntry::default()
    };
    Ok(state.append(name, vec![(Slot::Pending, log)]))
}

/// Returns the time at which a name first became readable.
pub(super) fn first_publish_time(record: Option<&Record>) -> Option<i64> {
    record.map(|record| record.log.first_publish_time).filter(|time| *time != 0)
}
