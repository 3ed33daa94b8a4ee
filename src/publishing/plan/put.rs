//! Puts: of the live version, and of the pending version.

use std::borrow::Cow;

use super::{Draft, Moment, Planned, State, holds, past::follow_up, remove, update_kind};
use crate::{
    model::{Kind, Slot},
    publishing::{Precondition, check::Checked},
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
pub(super) fn put(draft: &Draft, checked: &Checked, state: &State, at: Moment) -> Result<Planned, Refusal> {
    let waits = checked.release.is_none_or(|release| release > at.now);
    let replaced = match (&draft.precondition, waits) {
        (Some(Precondition::Absent), _) => state.live().or(state.waiting()),
        (_, true) => state.waiting().or(state.live()),
        (_, false) => state.live(),
    };
    holds(draft, state, replaced)?;
    if let Some(killed) = state.killed().filter(|_| !draft.allow_killed) {
        return Err(Refusal::Killed { name: draft.name.clone(), time: killed.log.time });
    }
    if waits { put_pending(draft, checked, state, at) } else { put_live(draft, checked, state, at) }
}

fn put_live(draft: &Draft, checked: &Checked, state: &State, at: Moment) -> Result<Planned, Refusal> {
    let name = &draft.name;
    let checked = &*without_lost_path(checked, state);
    if let Some(record) = state.live().filter(|record| state.holds_content(name, record, checked)) {
        return Ok(state.unchanged(record).without_path_of(state));
    }
    let before = state.record.as_ref();
    let (created, published) = told(draft, checked);
    let first = first_publish_time(before).or(published).or(checked.publish_time);
    let is_article = name.kind == Kind::Article;
    let mut log = LogEntry {
        operation: Operation::Put as i32,
        time: at.now,
        update_kind: update_kind(draft, state)? as i32,
        // A pending version that it replaces was never visible: nothing of it is retained here.
        create_time: before.map(|record| record.log.create_time).or(created).unwrap_or(at.now),
        first_publish_time: if is_article { first.unwrap_or(at.now) } else { 0 },
        content: checked.content.clone().into(),
        word_count: checked.word_count,
        ..LogEntry::default()
    };
    follow_up(name, &mut log, before, at);
    let superseded = state.waiting().filter(|_| state.live().is_none());
    let superseded = superseded.map(|waiting| remove::withdrawal(waiting, RemovalReason::Withdrawn, at));
    let entries = superseded.into_iter().chain([(Slot::Live, log)]).collect();
    Ok(state.append(name, entries).without_path_of(state))
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

fn put_pending(draft: &Draft, checked: &Checked, state: &State, at: Moment) -> Result<Planned, Refusal> {
    let name = &draft.name;
    let kind = match draft.update_kind {
        Some(UpdateKind::Backfill) => {
            let why = "BACKFILL is allowed only for an article that is visible at once";
            return Err(Refusal::field("update_kind", why));
        }
        None | Some(UpdateKind::Unspecified) => UpdateKind::Major,
        Some(kind) => kind,
    };
    let base = state.base();
    let is_there =
        |record: &&Record| record.log.base_revision == base && state.holds_content(name, record, checked);
    if let Some(record) = state.waiting().filter(is_there) {
        return Ok(state.unchanged(record));
    }
    let before = state.record.as_ref();
    let (created, published) = told(draft, checked);
    let create_time = before.or(state.waiting()).map(|record| record.log.create_time);
    let log = LogEntry {
        operation: Operation::Put as i32,
        time: at.now,
        update_kind: kind as i32,
        create_time: create_time.or(created).unwrap_or(at.now),
        first_publish_time: first_publish_time(before).or(published).unwrap_or(0),
        content: checked.content.clone().into(),
        word_count: checked.word_count,
        base_revision: base,
        ..LogEntry::default()
    };
    Ok(state.append(name, vec![(Slot::Pending, log)]))
}

/// Returns the times of creation and first publication in another store. Only an import states them.
fn told(draft: &Draft, checked: &Checked) -> (Option<i64>, Option<i64>) {
    if draft.update_kind.is_none() { checked.told } else { (None, None) }
}

/// Returns the time at which a name first became readable.
pub(super) fn first_publish_time(record: Option<&Record>) -> Option<i64> {
    record.map(|record| record.log.first_publish_time).filter(|time| *time != 0)
}
