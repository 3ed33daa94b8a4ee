//! Removals: of the live version, of the pending version, and kills of both.

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

/// A removal, as requested by the caller.
pub(super) struct Removal<'a> {
    pub(super) reason: RemovalReason,
    pub(super) moved_to: Option<&'a Name>,
    /// For a removal in another store, the paths that led to the name there.
    pub(super) buried: Option<&'a [String]>,
}

/// Checks the reason that a caller gives.
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

/// Checks the reason of a removal in another store. There, an article may have expired.
pub(super) fn check_buried(
    name: &Name,
    reason: RemovalReason,
    moved_to: Option<&Name>,
) -> Result<(), Refusal> {
    let reason = if reason == RemovalReason::Expired { RemovalReason::Deleted } else { reason };
    check(name, reason, moved_to)
}

/// Plans a removal. It also removes the pending version. Only a kill applies to a name that has nothing but a pending
/// version.
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

/// Returns whether the live slot changes. A kill remains a kill, and leaves no tombstone of a name that was never
/// visible.
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

/// Returns the entry that ends the live version.
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

/// Returns the entry that ends the pending version.
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

/// Plans the removal of the pending version.
pub(super) fn take_back(draft: &Draft, state: &State, at: Moment) -> Result<Planned, Refusal> {
    holds(draft, state, state.waiting())?;
    let waiting = state.waiting().ok_or_else(|| Refusal::NotFound(draft.name.clone()))?;
    let entry = withdrawal(waiting, RemovalReason::Withdrawn, at);
    Ok(state.append(&draft.name, vec![entry]))
}
