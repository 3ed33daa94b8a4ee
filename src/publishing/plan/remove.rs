//! Removals: of what readers see, of what waits, and of both for ever.

use super::{
    Draft, Moment, Planned, State, holds,
    past::{follow_up, latest},
    update_kind,
};
use crate::{
    model::{Name, Slot},
    refusal::Refusal,
    store::Record,
    wire::{
        log::{FormerPath, LogEntry, Operation},
        v1::{RemovalReason, UpdateKind},
    },
};

/// A removal, as its caller wants it.
pub(super) struct Removal<'a> {
    pub(super) reason: RemovalReason,
    pub(super) moved_to: Option<&'a Name>,
    /// It happened elsewhere: the paths that led to the name there.
    pub(super) buried: Option<&'a [String]>,
}

/// Checks what a caller gives as reason.
pub(super) fn check(name: &Name, reason: RemovalReason, moved_to: Option<&Name>) -> Result<(), Refusal> {
    match (reason, moved_to) {
        (RemovalReason::Unspecified | RemovalReason::Expired, _) => {
            Err(Refusal::field("reason", "it must be MOVED, WITHDRAWN, DELETED or KILLED"))
        }
        (RemovalReason::Moved, None) => {
            Err(Refusal::field("moved_to", "it is required with the reason MOVED"))
        }
        (RemovalReason::Moved, Some(target)) if target.kind != name.kind || target == name => {
            Err(Refusal::field("moved_to", format!("it must be another {}", name.kind.noun())))
        }
        (RemovalReason::Withdrawn | RemovalReason::Deleted | RemovalReason::Killed, Some(_)) => {
            Err(Refusal::field("moved_to", "it is allowed only with the reason MOVED"))
        }
        _ => Ok(()),
    }
}

/// The same for what happened elsewhere: there an article may have expired.
pub(super) fn check_buried(
    name: &Name,
    reason: RemovalReason,
    moved_to: Option<&Name>,
) -> Result<(), Refusal> {
    let reason = if reason == RemovalReason::Expired { RemovalReason::Deleted } else { reason };
    check(name, reason, moved_to)
}

/// Plans a removal. It takes what waits along; only a kill reaches what nobody has seen yet.
pub(super) fn remove(
    draft: &Draft,
    removal: &Removal<'_>,
    state: &State,
    at: Moment,
) -> Result<Planned, Refusal> {
    let kill = removal.reason == RemovalReason::Killed;
    let target = state.live().or(state.waiting().filter(|_| kill));
    holds(draft, state, target)?;
    let trace = state.record.as_ref().or(state.killed());
    if target.or(trace.filter(|_| kill)).is_none() && removal.buried.is_none() {
        return Err(state.missing(&draft.name));
    }
    let reason = if kill { RemovalReason::Killed } else { RemovalReason::Withdrawn };
    let withdrawn = state.waiting().map(|waiting| withdrawal(waiting, reason, at));
    let mut entries: Vec<_> = withdrawn.into_iter().collect();
    if leaves_tombstone(removal, state) {
        entries.push((Slot::Live, tombstone(draft, removal, state, at)?));
    }
    match trace.filter(|_| entries.is_empty()) {
        Some(trace) => Ok(state.unchanged(trace)),
        None => Ok(state.append(&draft.name, entries)),
    }
}

/// Whether the live slot changes. A kill stays one, and makes no trace of what was never seen.
fn leaves_tombstone(removal: &Removal<'_>, state: &State) -> bool {
    let Some(record) = &state.record else {
        return state.killed().is_none() && (state.waiting().is_none() || removal.buried.is_some());
    };
    let moved_to = removal.moved_to.map(ToString::to_string).unwrap_or_default();
    let is_same = record.log.reason() == removal.reason && record.log.moved_to == moved_to;
    record.is_put() || (state.killed().is_none() && !is_same)
}

fn tombstone(draft: &Draft, removal: &Removal<'_>, state: &State, at: Moment) -> Result<LogEntry, Refusal> {
    let kind = update_kind(draft, state)?;
    let mut log = end(&draft.name, state.record.as_ref(), removal.reason, kind, at);
    log.moved_to = removal.moved_to.map(ToString::to_string).unwrap_or_default();
    for path in removal.buried.unwrap_or_default() {
        if !log.former_paths.iter().any(|former| former.path == *path) {
            log.former_paths.push(FormerPath {
                path: path.clone(),
                cease_time: at.now,
                ..FormerPath::default()
            });
        }
    }
    log.former_paths = latest(log.former_paths);
    Ok(log)
}

/// The entry by which what readers see ends.
pub(super) fn end(
    name: &Name,
    before: Option<&Record>,
    reason: RemovalReason,
    kind: UpdateKind,
    at: Moment,
) -> LogEntry {
    let mut log = LogEntry {
        operation: Operation::Remove as i32,
        reason: reason as i32,
        time: at.now,
        update_kind: kind as i32,
        create_time: before.map_or(at.now, |record| record.log.create_time),
        first_publish_time: before.map_or(0, |record| record.log.first_publish_time),
        ..LogEntry::default()
    };
    follow_up(name, &mut log, before, at);
    log
}

/// The entry by which what waits ends.
pub(super) fn withdrawal(waiting: &Record, reason: RemovalReason, at: Moment) -> (Slot, LogEntry) {
    let log = LogEntry {
        operation: Operation::Remove as i32,
        reason: reason as i32,
        time: at.now,
        update_kind: UpdateKind::Major as i32,
        create_time: waiting.log.create_time,
        ..LogEntry::default()
    };
    (Slot::Pending, log)
}

/// Plans to take back what waits.
pub(super) fn take_back(draft: &Draft, state: &State, at: Moment) -> Result<Planned, Refusal> {
    holds(draft, state, state.waiting())?;
    let waiting = state.waiting().ok_or_else(|| Refusal::NotFound(draft.name.clone()))?;
    let entry = withdrawal(waiting, RemovalReason::Withdrawn, at);
    Ok(state.append(&draft.name, vec![entry]))
}
