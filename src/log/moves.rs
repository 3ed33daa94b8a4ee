//! Moves within a commit: no name is removed as moved to one that leads back to it. A client that follows such moves
//! would never arrive.

use std::collections::HashMap;

use super::{Commit, Outcome, Step};
use crate::{
    entry::Entry,
    model::{Name, Slot},
    store::{self, apply::Applier},
};

/// The maximum number of moves that are followed from the target of a move. Each is a read in the transaction of the
/// write, and a commit can have 500 such targets. Clients give up after some 20 redirects, so a longer chain helps no
/// reader.
const MAX_MOVES: usize = 20;

/// Returns the first step that would leave a tombstone which leads back to its own name, or through too many others.
/// Only the names after the commit count.
pub(super) fn find_loop(applier: &Applier<'_>, commit: &Commit) -> Result<Option<Outcome>, store::Error> {
    let live_entries =
        || commit.steps.iter().enumerate().filter_map(|(n, step)| Some((n, live_entry(step)?)));
    let moves = || live_entries().filter_map(|(n, entry)| Some((n, &entry.name, moved_to(entry)?)));
    if moves().next().is_none() {
        return Ok(None);
    }
    let after: HashMap<&Name, Option<Name>> =
        live_entries().map(|(_, entry)| (&entry.name, moved_to(entry))).collect();
    for (step, name, target) in moves() {
        if let Some(is_back) = follow(applier, &after, name, target.clone())? {
            return Ok(Some(Outcome::MovedInLoop { step, target, is_back }));
        }
    }
    Ok(None)
}

/// Returns whether moves from a target lead back to a name, or through too many names; `None` if they end.
fn follow(
    applier: &Applier<'_>,
    after: &HashMap<&Name, Option<Name>>,
    name: &Name,
    target: Name,
) -> Result<Option<bool>, store::Error> {
    let mut reached = target;
    for _ in 0..MAX_MOVES {
        let next = match after.get(&reached) {
            Some(next) => next.clone(),
            None => applier.moved_to(&reached)?,
        };
        match next {
            None => return Ok(None),
            Some(next) if next == *name => return Ok(Some(true)),
            Some(next) => reached = next,
        }
    }
    Ok(Some(false))
}

/// Returns the entry that readers see of a step's name after the step.
fn live_entry(step: &Step) -> Option<&Entry> {
    let Step::Append(changes) = step else { return None };
    changes.iter().rev().map(|change| &change.entry).find(|entry| entry.slot == Slot::Live)
}

fn moved_to(entry: &Entry) -> Option<Name> {
    if entry.derived.live { None } else { Name::parse(&entry.log.moved_to) }
}
