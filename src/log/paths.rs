//! Path ownership within a commit: no two live articles have the same path.

use std::collections::HashMap;

use super::{Commit, Outcome, Step};
use crate::{
    entry::{Entry, own_path},
    model::{Kind, Name, Slot},
    store::{self, apply::Applier},
};

/// Returns the first step that would give its article a path of another one. A path may pass from one article of a
/// commit to another; only the owners after the commit count.
pub(super) fn find_conflict(applier: &Applier<'_>, commit: &Commit) -> Result<Option<Outcome>, store::Error> {
    let live_entries =
        || commit.steps.iter().enumerate().filter_map(|(n, step)| Some((n, live_entry(step)?)));
    let after: HashMap<&Name, Option<&str>> =
        live_entries().map(|(_, entry)| (&entry.name, entry.derived.own_path())).collect();
    let mut claimed = HashMap::new();
    for (step, entry) in live_entries() {
        let Some(path) = entry.derived.own_path() else { continue };
        let still_owns = |owner: &Name| after.get(owner).is_none_or(|after| *after == Some(path));
        let owner =
            applier.path_owner(path)?.filter(|owner| still_owns(owner) && !commit.displaces.contains(owner));
        let owner = owner.as_ref().or_else(|| claimed.get(path).copied());
        if let Some(owner) = owner.filter(|owner| **owner != entry.name) {
            let path = own_path(&entry.log.content).unwrap_or_default();
            return Ok(Some(Outcome::PathTaken { step, path, owner: owner.clone() }));
        }
        claimed.insert(path, &entry.name);
    }
    Ok(None)
}

/// Returns the entry that readers see of a step's article after the step.
fn live_entry(step: &Step) -> Option<&Entry> {
    let Step::Append(changes) = step else { return None };
    let entries = changes.iter().map(|change| &change.entry);
    entries.rev().find(|entry| entry.slot == Slot::Live && entry.name.kind == Kind::Article)
}
