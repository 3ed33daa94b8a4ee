//! The lines of the audit log that describe appended commits.

use std::sync::Arc;

use super::{Commit, Outcome, Step};
use crate::{
    audit::{Action, Change, Event, Origin},
    entry::Entry,
    model::{Revision, Slot},
    store::WriteOutcome,
    wire::v1::RemovalReason,
};

/// Returns the lines of the commits of one append, each with the revision after it, if it describes a commit. A commit
/// that is rejected, or that writes nothing and erases nothing, has none.
pub(super) fn lines(commits: &[Commit], outcomes: &[Option<Outcome>]) -> Vec<(Option<Revision>, Event)> {
    let mut lines = Vec::with_capacity(commits.len());
    let mut import = Import::default();
    for (commit, outcome) in commits.iter().zip(outcomes) {
        let (revision, changes, word) = match outcome {
            Some(Outcome::Committed(_, position)) => {
                (Some(position.revision), changes(commit, position.revision), "committed")
            }
            Some(Outcome::Duplicate(past)) if commit.erases => {
                (None, past.iter().map(repeated).collect(), "replayed")
            }
            _ => continue,
        };
        if commit.origin.summarised {
            import.add(commit, revision, changes);
        } else if !changes.is_empty() || commit.erases {
            let origin = commit.origin.as_ref().clone();
            lines.push((revision, Event::Write { origin, outcome: word, changes }));
        }
    }
    lines.extend(import.into_line());
    lines
}

/// The records of an import that one append writes.
#[derive(Default)]
struct Import {
    origin: Option<Arc<Origin>>,
    records: usize,
    first: Option<Revision>,
    head: Option<Revision>,
    kills: Vec<Change>,
}

impl Import {
    fn add(&mut self, commit: &Commit, revision: Option<Revision>, changes: Vec<Change>) {
        self.origin.get_or_insert_with(|| commit.origin.clone());
        self.records += 1;
        let written = changes.iter().filter(|change| change.action != Action::Nothing);
        self.first = self.first.or(written.map(|change| change.revision).min());
        self.head = revision.or(self.head);
        self.kills.extend(changes.into_iter().filter(|change| change.action == Action::Kill));
    }

    fn into_line(self) -> Option<(Option<Revision>, Event)> {
        let Import { origin, records, first, head, kills } = self;
        let origin = origin?.as_ref().clone();
        Some((head, Event::Import { origin, records, revisions: first.zip(head), kills }))
    }
}

/// Returns the changes of a commit whose last entry has the revision `head`.
fn changes(commit: &Commit, head: Revision) -> Vec<Change> {
    let entries = |step: &Step| match step {
        Step::Append(changes) => changes.len(),
        Step::Unchanged { .. } => 0,
    };
    let mut revision = head - commit.steps.iter().map(entries).sum::<usize>() as Revision;
    let mut all = Vec::with_capacity(commit.steps.len());
    for step in &commit.steps {
        match step {
            Step::Append(changes) => all.extend(changes.iter().map(|change| {
                revision += 1;
                Change { name: change.entry.name.to_string(), action: action(&change.entry), revision }
            })),
            Step::Unchanged { found, .. } => all.push(Change { action: Action::Nothing, ..repeated(found) }),
        }
    }
    all
}

fn action(entry: &Entry) -> Action {
    match (entry.derived.live, entry.slot) {
        (true, Slot::Live) => Action::Put,
        (true, Slot::Pending) => Action::PutPending,
        (false, _) if entry.log.reason() == RemovalReason::Killed => Action::Kill,
        (false, Slot::Live) => Action::Remove,
        (false, Slot::Pending) => Action::RemovePending,
    }
}

/// Returns the change of an earlier commit.
fn repeated(written: &WriteOutcome) -> Change {
    let action = match (written.killed, written.removed) {
        (true, _) => Action::Kill,
        (false, true) => Action::Remove,
        (false, false) => Action::Put,
    };
    Change { name: written.name.to_string(), action, revision: written.revision }
}
