//! Removals: of the live version, of the pending version, and kills of both.

use super::{
    Draft, PlanContext, Planned, State, check_precondition,
    past::{add_imported_paths, carry_history},
    update_kind,
};
use crate::{
    entry::own_path,
    model::{Name, Slot},
    publishing::check::{Checked, Original},
    refusal::Refusal,
    store::Record,
    wire::{
        log::{FormerPath, LogEntry, Operation},
        v1::{RemovalReason, UpdateKind},
    },
};

/// A removal of a name.
#[derive(Debug, Clone)]
pub(crate) struct Removal {
    pub(crate) reason: RemovalReason,
    pub(crate) moved_to: Option<Name>,
    /// For a removal in another store, the times of the name and the paths that led to it there. A path with the time 0
    /// has no known time.
    pub(crate) imported: Option<Original>,
}

impl Removal {
    /// Checks the reason that a caller gives. In another store, an article may have expired.
    pub(super) fn check(&self, name: &Name) -> Result<(), Refusal> {
        let is_imported = self.imported.is_some();
        let reason = match self.reason {
            RemovalReason::Expired if is_imported => RemovalReason::Deleted,
            reason => reason,
        };
        match (reason, &self.moved_to) {
            (RemovalReason::Unspecified | RemovalReason::Expired, _) => {
                Err(Refusal::field("reason", "must be MOVED, WITHDRAWN, DELETED or KILLED"))
            }
            (RemovalReason::Moved, None) => Err(Refusal::field("moved_to", "required with the reason MOVED")),
            (RemovalReason::Moved, Some(target)) if target.kind != name.kind || target == name => {
                Err(Refusal::field("moved_to", format!("must be another {}", name.kind.noun())))
            }
            (RemovalReason::Withdrawn | RemovalReason::Deleted | RemovalReason::Killed, Some(_)) => {
                Err(Refusal::field("moved_to", "allowed only with the reason MOVED"))
            }
            _ => Ok(()),
        }
    }
}

/// Plans a removal. It also removes the pending version. Only a kill applies to a name that has nothing but a pending
/// version.
pub(super) fn remove(
    draft: &Draft,
    removal: &Removal,
    state: &State,
    context: PlanContext,
) -> Result<Planned, Refusal> {
    let kill = removal.reason == RemovalReason::Killed;
    let target = state.live().or(state.pending_record().filter(|_| kill));
    check_precondition(draft, state, target)?;
    let newest = state.record.as_ref().or(state.kill_tombstone());
    if target.or(newest.filter(|_| kill)).is_none() && removal.imported.is_none() {
        return Err(state.not_found(&draft.name));
    }
    let reason = if kill { RemovalReason::Killed } else { RemovalReason::Withdrawn };
    let stays = draft.import.as_ref().is_some_and(|import| import.keeps_pending(state, kill));
    let removed_pending = state.pending_record().filter(|_| !stays);
    let removed_pending = removed_pending.map(|pending| pending_removal(pending, reason, context));
    let mut entries: Vec<_> = removed_pending.into_iter().collect();
    let tombstone = tombstone(draft, removal, state, context)?;
    if leaves_tombstone(removal, state, &tombstone) {
        entries.push((Slot::Live, tombstone));
    }
    match newest.filter(|_| entries.is_empty()) {
        Some(newest) => Ok(state.unchanged(newest)),
        None => Ok(state.append(&draft.name, entries)),
    }
}

/// Returns whether the live slot changes. A kill remains a kill, and leaves no tombstone of a name that was never
/// visible.
fn leaves_tombstone(removal: &Removal, state: &State, tombstone: &LogEntry) -> bool {
    let Some(record) = &state.record else {
        return state.kill_tombstone().is_none()
            && (state.pending_record().is_none() || removal.imported.is_some());
    };
    let meaning = |log: &LogEntry| (log.reason(), log.moved_to.clone(), log.former_paths.clone());
    let is_same = meaning(&record.log) == meaning(tombstone);
    record.is_put() || (state.kill_tombstone().is_none() && !is_same)
}

fn tombstone(
    draft: &Draft,
    removal: &Removal,
    state: &State,
    context: PlanContext,
) -> Result<LogEntry, Refusal> {
    let kind = update_kind(draft, state)?;
    let mut log = live_removal(&draft.name, state.record.as_ref(), removal.reason, kind, context);
    log.moved_to = removal.moved_to.as_ref().map(ToString::to_string).unwrap_or_default();
    if let Some(original) = &removal.imported {
        add_imported_paths(&mut log, &original.former_paths, context.now);
        if state.record.is_none() {
            log.create_time = original.created.unwrap_or(context.now);
            log.first_publish_time = original.first_published.unwrap_or(0);
        }
    }
    Ok(log)
}

/// Plans the import of an article that has expired: its tombstone.
pub(super) fn expired(
    draft: &Draft,
    checked: &Checked,
    state: &State,
    context: PlanContext,
) -> Result<Planned, Refusal> {
    let mut original = checked.original.clone();
    let own = own_path(&checked.content).map(|path| FormerPath { path, ..FormerPath::default() });
    original.former_paths.extend(own);
    let removal = Removal { reason: RemovalReason::Expired, moved_to: None, imported: Some(original) };
    remove(draft, &removal, state, context)
}

/// Returns the entry that ends the live version.
pub(super) fn live_removal(
    name: &Name,
    before: Option<&Record>,
    reason: RemovalReason,
    kind: UpdateKind,
    context: PlanContext,
) -> LogEntry {
    let mut log = LogEntry {
        operation: Operation::Remove as i32,
        reason: reason as i32,
        time: context.now,
        update_kind: kind as i32,
        create_time: before.map_or(context.now, |record| record.log.create_time),
        first_publish_time: before.map_or(0, |record| record.log.first_publish_time),
        ..LogEntry::default()
    };
    carry_history(name, &mut log, before, context);
    log
}

/// Returns the entry that ends the pending version. A kill that the version was allowed to follow remains one.
pub(super) fn pending_removal(
    pending: &Record,
    reason: RemovalReason,
    context: PlanContext,
) -> (Slot, LogEntry) {
    let log = LogEntry {
        operation: Operation::Remove as i32,
        reason: reason as i32,
        time: context.now,
        update_kind: UpdateKind::Major as i32,
        create_time: pending.log.create_time,
        kill_time: if reason == RemovalReason::Killed { pending.log.kill_time } else { 0 },
        ..LogEntry::default()
    };
    (Slot::Pending, log)
}

/// Plans the removal of the pending version.
pub(super) fn remove_pending(draft: &Draft, state: &State, context: PlanContext) -> Result<Planned, Refusal> {
    check_precondition(draft, state, state.pending_record())?;
    let pending = state.pending_record().ok_or_else(|| Refusal::NotFound(draft.name.clone()))?;
    // The reason of a kill keeps the entry for good.
    let is_killed = state.record.is_none() && pending.log.kill_time != 0;
    let reason = if is_killed { RemovalReason::Killed } else { RemovalReason::Withdrawn };
    Ok(state.append(&draft.name, vec![pending_removal(pending, reason, context)]))
}
