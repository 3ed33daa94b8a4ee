//! The application of one commit: either all of its conditions hold and all of its entries are applied, or none is.

use super::{Change, Commit, Expected, Outcome, Position, Step, moves, paths};
use crate::{
    entry,
    model::{Kind, Name, Slot},
    store::{self, WriteOutcome, apply::Applier},
    wire::v1::RemovalReason,
};

/// Applies one commit. All of its conditions are checked before its first entry is applied, so that it is atomic.
/// Returns `None` if the commit contains a put and there is no space.
pub(super) fn apply(
    applier: &mut Applier<'_>,
    commit: &Commit,
    is_full: bool,
) -> Result<Option<Outcome>, store::Error> {
    if let Some((id, hash)) = &commit.request {
        match applier.find_request(id, commit.time)? {
            Some(past) if past.hash == *hash => return Ok(Some(Outcome::Duplicate(past.outcomes))),
            Some(_) => return Ok(Some(Outcome::Reused)),
            None => {}
        }
    }
    if is_full && commit.puts() {
        return Ok(None);
    }
    for step in &commit.steps {
        let planned_for = match step {
            Step::Append(changes) => changes.last().map(|change| (&change.entry.name, change.expected)),
            Step::Unchanged { found, expected } => Some((&found.name, *expected)),
        };
        if let Some((name, expected)) = planned_for
            && has_changed(applier, name, expected)?
        {
            return Ok(Some(Outcome::Conflict));
        }
    }
    if let Some(conflict) = paths::find_conflict(applier, commit)? {
        return Ok(Some(conflict));
    }
    if let Some(found) = moves::find_loop(applier, commit)? {
        return Ok(Some(found));
    }
    let mut outcomes: Vec<WriteOutcome> = Vec::with_capacity(commit.steps.len());
    for step in &commit.steps {
        match step {
            Step::Append(changes) => outcomes.extend(append(applier, changes)?),
            Step::Unchanged { found, .. } => outcomes.push(found.clone()),
        }
    }
    if let Some((id, hash)) = &commit.request {
        applier.record_request(id, hash, &outcomes, commit.time)?;
    }
    Ok(Some(Outcome::Committed(outcomes, Position::of(applier.head()))))
}

/// Returns whether a name is no longer in the state for which a change was planned. Only articles have more than one
/// slot.
fn has_changed(applier: &Applier<'_>, name: &Name, expected: Expected) -> Result<bool, store::Error> {
    let slots = if name.kind == Kind::Article { &Slot::ALL[..] } else { &[Slot::Live] };
    for slot in slots {
        if applier.current_revision(name, *slot)? != expected.of(*slot) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Applies the entries of one step. Returns the outcome of the last one.
fn append(applier: &mut Applier<'_>, changes: &[Change]) -> Result<Option<WriteOutcome>, store::Error> {
    let mut last = None;
    for Change { entry, packed, path_owner, .. } in changes {
        let revision = applier.apply(entry, packed)?;
        last = Some(WriteOutcome {
            name: entry.name.clone(),
            revision,
            prefix: entry::hash_prefix(&entry.log),
            changed: true,
            slot: entry.slot,
            due: entry.derived.due.filter(|_| entry.slot == Slot::Pending),
            removed: !entry.derived.live,
            killed: entry.log.reason() == RemovalReason::Killed,
            path_owner: path_owner.clone(),
        });
    }
    Ok(last)
}
