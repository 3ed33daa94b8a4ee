//! Plans the changes of a name that are due.

use super::{
    PlanContext, Planned, State, hold_imported, is_held, past::carry_history, put::first_publish_time, remove,
};
use crate::{
    entry::{self, own_path},
    model::{Name, Slot, path},
    store::{self, Record, Snapshot, due::Due},
    wire::{
        fields,
        log::{Import, LogEntry, Operation},
        number::article,
        v1::{RemovalReason, UpdateKind},
    },
};

/// Live articles that lose their path to a pending version when it becomes visible.
#[derive(Debug, Default)]
pub(in crate::publishing) struct Rivals {
    pub(in crate::publishing) losers: Vec<(Name, State)>,
    /// Articles whose records cannot be read. They continue to claim the path, after the article that took it.
    pub(in crate::publishing) damaged: Vec<Name>,
}

impl Rivals {
    /// Reads the owners of the path that the pending version of a name requests.
    pub(in crate::publishing) fn of(
        snapshot: Snapshot<'_>,
        name: &Name,
        state: &State,
    ) -> Result<Rivals, store::Error> {
        let mut rivals = Rivals::default();
        let Some(path) = state.pending_record().and_then(|pending| own_path(&pending.log.content)) else {
            return Ok(rivals);
        };
        let holders = snapshot.path_owners(&path::normalise(&path))?;
        for rival in holders.into_iter().filter(|rival| rival != name) {
            let state = State::of(snapshot, &rival)?;
            match state.check_readable(&rival, Slot::Live) {
                Ok(()) => rivals.losers.push((rival, state)),
                Err(_) => rivals.damaged.push(rival),
            }
        }
        Ok(rivals)
    }
}

/// Plans a due change as steps of one commit. Returns an empty list if the name has changed since the due change was
/// found, or if the version to publish cannot be read.
pub(in crate::publishing) fn plan_due(
    due: &Due,
    state: &State,
    rivals: &Rivals,
    context: PlanContext,
) -> Vec<Planned> {
    let entries = match (due.slot, state.pending_record(), state.live()) {
        (Slot::Pending, ..) if state.check_readable(&due.name, Slot::Pending).is_err() => return Vec::new(),
        // The live version is not the one that it was based on: the pending version is held.
        (Slot::Pending, Some(pending), live) if !is_held(pending, live) => {
            promote(due, pending, state.record.as_ref(), context)
        }
        (Slot::Live, _, Some(record)) => {
            let (reason, kind) = (RemovalReason::Expired, UpdateKind::Major);
            let mut expiry = remove::live_removal(&due.name, Some(record), reason, kind, context);
            (expiry.base_revision, expiry.import) = (record.revision, record.log.import.clone());
            vec![(Slot::Live, expiry)]
        }
        _ => return Vec::new(),
    };
    // The losers come first: at no revision do two articles own the path.
    let losses = rivals.losers.iter().filter(|_| due.slot == Slot::Pending);
    let losses = losses.filter_map(|(name, loser)| {
        let entry = path_loss(name, loser.live()?, &due.name, context);
        tracing::warn!(%name, to = %due.name, "article lost its path to a scheduled article");
        let held = hold_imported(loser, context);
        Some(loser.append(name, held.into_iter().chain([(Slot::Live, entry)]).collect()))
    });
    losses.chain([state.append(&due.name, entries)]).collect()
}

/// Returns the entry by which a live article loses its path.
fn path_loss(name: &Name, record: &Record, to: &Name, context: PlanContext) -> LogEntry {
    let mut content = Vec::with_capacity(record.log.content.len());
    fields::copy_if(&record.log.content, &mut content, |number| number != article::PATH);
    let mut log = LogEntry {
        operation: Operation::Put as i32,
        time: context.now,
        update_kind: UpdateKind::Republish as i32,
        create_time: record.log.create_time,
        first_publish_time: record.log.first_publish_time,
        content: content.into(),
        word_count: record.log.word_count,
        import: record.log.import.clone(),
        ..LogEntry::default()
    };
    carry_history(name, &mut log, Some(record), context);
    let lost = own_path(&record.log.content).unwrap_or_default();
    for former in log.former_paths.iter_mut().filter(|former| former.path == lost) {
        former.taken_by = to.id.to_string();
    }
    log
}

/// Moves a pending version to the live slot, its content byte for byte.
fn promote(
    due: &Due,
    pending: &Record,
    before: Option<&Record>,
    context: PlanContext,
) -> Vec<(Slot, LogEntry)> {
    let stated = first_publish_time(before).or(first_publish_time(Some(pending)));
    let first = stated.or(entry::publish_time(&pending.log.content)).unwrap_or(due.time);
    let mut log = LogEntry {
        operation: Operation::Put as i32,
        time: context.now,
        update_kind: pending.log.update_kind,
        create_time: pending.log.create_time,
        first_publish_time: first,
        content: pending.log.content.clone(),
        word_count: pending.log.word_count,
        import: pending.log.import.clone().map(|import| Import { pending_base: 0, ..import }),
        ..LogEntry::default()
    };
    carry_history(&due.name, &mut log, before, context);
    vec![remove::pending_removal(pending, RemovalReason::Unspecified, context), (Slot::Live, log)]
}
