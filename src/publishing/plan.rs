//! Plans a write: from the request of a caller and the current state to the entries to append.

use std::collections::HashSet;

use super::{Change, Precondition, Verb, check, check::Checked, patch};
use crate::{
    digest::{Hash, canonical_content},
    entry::{Derived, own_path},
    log::Expected,
    model::{Kind, LogId, Name, Revision, Slot, path},
    parse,
    refusal::Refusal,
    store::{self, Record, Snapshot, WriteOutcome},
    wire::{
        fields,
        log::{self, LogEntry, PendingBase},
        number::{NAME, article},
        v1::{RemovalReason, UpdateKind},
    },
};

mod due;
mod import;
mod past;
mod put;
mod rehearsal;
mod remove;

pub(super) use due::{Rivals, plan_due};
pub(super) use import::{Decision, plan_each};
pub(crate) use import::{Import, PendingRecord};
pub(super) use rehearsal::Found;
pub(crate) use rehearsal::Rehearsal;
pub(crate) use remove::Removal;

/// A change that was checked without the current state. A patch is checked when it is applied to the live version.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) name: Name,
    pub(super) field: String,
    action: Action,
    precondition: Option<Precondition>,
    update_kind: Option<UpdateKind>,
    allow_killed: bool,
    pub(super) import: Option<Import>,
    /// The article that owns the requested path. If set, this article is written without it.
    pub(super) path_owner: Option<Name>,
    /// Whether the same import has already written this record once, without its path.
    pub(super) is_repeated: bool,
}

#[derive(Debug, Clone)]
enum Action {
    Put(Checked),
    Patch { article: bytes::Bytes, mask: Option<Vec<String>> },
    Remove(Removal),
    RemovePending,
}

/// The current state of a name.
#[derive(Debug)]
pub(super) struct State {
    /// The newest entry of the live slot.
    record: Option<Record>,
    /// Articles: the newest entry of the pending slot.
    pending: Option<Record>,
    /// The slots whose newest entry cannot be read. The stand-in for it has its revision, its lists and its paths, but
    /// not its content.
    damaged: Vec<Slot>,
    /// The slots that an earlier record of a dry run would have written, with the hashes of their canonical contents.
    /// The content of their entries is not complete.
    rehearsed: Vec<(Slot, Hash)>,
    /// The article that owns the requested path, if the draft is written without it.
    path_owner: Option<Name>,
    log_id: LogId,
}

/// The time and the history floor of a plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlanContext {
    /// In microseconds since 1970 UTC.
    pub(super) now: i64,
    /// The history floor: departures are retained from this revision on.
    pub(super) floor: Revision,
}

/// The plan of a draft.
#[derive(Debug)]
pub(super) enum Planned {
    /// The entries of the name. If the live slot changes, its entry is the last one.
    Append {
        name: Name,
        entries: Vec<(Slot, LogEntry)>,
        expected: Expected,
        /// The article that owns the path that was omitted.
        path_owner: Option<Name>,
    },
    Unchanged {
        found: WriteOutcome,
        expected: Expected,
    },
}

impl Planned {
    /// Returns the size of the content that it appends, in bytes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Planned::Append { entries, .. } => entries.iter().map(|(_, log)| log.content.len()).sum(),
            Planned::Unchanged { .. } => 0,
        }
    }

    /// Returns the owner of the path that was omitted.
    pub(super) fn path_owner(&self) -> Option<&Name> {
        match self {
            Planned::Append { path_owner, .. } => path_owner.as_ref(),
            Planned::Unchanged { found, .. } => found.path_owner.as_ref(),
        }
    }

    /// Records the owner of the path that was omitted.
    fn with_path_owner(mut self, state: &State) -> Planned {
        match &mut self {
            Planned::Append { path_owner, .. }
            | Planned::Unchanged { found: WriteOutcome { path_owner, .. }, .. } => {
                path_owner.clone_from(&state.path_owner);
            }
        }
        self
    }
}

impl Draft {
    pub(super) fn check(change: Change, now: i64) -> Result<Draft, Refusal> {
        let Change { verb, precondition, update_kind, allow_killed, import, field } = change;
        let mode = if import.is_some() { check::Mode::Import } else { check::Mode::Put { now } };
        let draft = |name, action| {
            let field = field.clone();
            let (path_owner, is_repeated) = (None, false);
            Draft {
                name,
                field,
                action,
                precondition,
                update_kind,
                allow_killed,
                import,
                path_owner,
                is_repeated,
            }
        };
        let checked = match verb {
            Verb::Put { kind, entity } => check::entity(kind, &entity, mode).map(|checked| {
                let name = checked.name.clone();
                draft(name, Action::Put(checked))
            }),
            Verb::Patch { article, mask } => {
                let name = fields::last(&article, NAME).unwrap_or_default();
                let name = parse::name(Kind::Article, &String::from_utf8_lossy(name), "name");
                name.map(|name| draft(name, Action::Patch { article, mask }))
            }
            Verb::Remove { name, removal } => {
                removal.check(&name).map(|()| draft(name, Action::Remove(removal)))
            }
            Verb::RemovePending { name } => Ok(draft(name, Action::RemovePending)),
        };
        checked.map_err(|refusal| refusal.within(&field))
    }

    /// Returns the refusal of its update kind, which is a field of the change in a commit, or of the request.
    fn kind_refused(&self, problem: &str) -> Refusal {
        let change = self.field.find(']').map_or("", |end| &self.field[..=end]);
        Refusal::field("update_kind", problem).within(change)
    }

    /// Returns the size of the content that the draft adds, in bytes.
    pub(super) fn bytes(&self) -> usize {
        match &self.action {
            Action::Put(checked) => checked.content.len(),
            Action::Patch { article, .. } => article.len(),
            Action::Remove(_) | Action::RemovePending => 0,
        }
    }

    /// Returns whether the present content is to be erased, not only removed.
    pub(super) fn erases(&self) -> bool {
        matches!(self.action, Action::Remove(Removal { reason: RemovalReason::Killed, .. }))
    }

    /// Returns whether the outcome is determined and nothing is written.
    pub(super) fn is_dry_run(&self) -> bool {
        self.import.as_ref().is_some_and(|import| import.dry_run)
    }

    /// Returns the path that the article is to have, as far as the draft itself states one.
    pub(super) fn requested_path(&self) -> Option<String> {
        let path = match &self.action {
            Action::Put(checked) if self.name.kind == Kind::Article => {
                fields::last(&checked.content, article::PATH)
            }
            Action::Patch { article, mask } => patch::value(article, mask.as_deref(), article::PATH),
            _ => None,
        };
        let path = path.filter(|path| !path.is_empty())?;
        Some(String::from_utf8_lossy(path).into_owned())
    }
}

impl State {
    /// Reads the state of a draft's name. `together` are the names that are written in the same call.
    pub(super) fn read(
        snapshot: Snapshot<'_>,
        draft: &Draft,
        together: &HashSet<&Name>,
    ) -> Result<State, store::Error> {
        let mut state = State::of(snapshot, &draft.name)?;
        state.path_owner.clone_from(&draft.path_owner);
        if state.path_owner.is_none()
            && let Some(path) = draft.requested_path().filter(|path| state.has_lost_path(path))
        {
            let holders = snapshot.path_owners(&path::normalise(&path))?;
            // An owner that is written in the same commit may release the path. The records of an import are commits
            // of their own.
            let may_release = |owner: &Name| draft.import.is_none() && together.contains(owner);
            state.path_owner = holders.into_iter().find(|owner| *owner != draft.name && !may_release(owner));
        }
        Ok(state)
    }

    /// Reads the state of a name, without the owner of a requested path.
    pub(super) fn of(snapshot: Snapshot<'_>, name: &Name) -> Result<State, store::Error> {
        let log_id = snapshot.head()?.log_id;
        let (damaged, rehearsed) = (Vec::new(), Vec::new());
        let mut state = State { record: None, pending: None, damaged, rehearsed, path_owner: None, log_id };
        state.record = state.newest(snapshot, name, Slot::Live)?;
        if name.kind == Kind::Article {
            state.pending = state.newest(snapshot, name, Slot::Pending)?;
        }
        Ok(state)
    }

    fn newest(
        &mut self,
        snapshot: Snapshot<'_>,
        name: &Name,
        slot: Slot,
    ) -> Result<Option<Record>, store::Error> {
        let found = snapshot.record_or_stand_in(name, slot)?;
        self.damaged.extend(found.iter().filter(|(_, is_damaged)| *is_damaged).map(|_| slot));
        Ok(found.map(|(record, _)| record))
    }

    /// Fails if the content of a slot cannot be read. Call it before the content is used.
    pub(super) fn check_readable(&self, name: &Name, slot: Slot) -> Result<(), store::Error> {
        if self.damaged.contains(&slot) { Err(store::Error::Corrupt(name.clone())) } else { Ok(()) }
    }

    fn has_content(&self, name: &Name, record: &Record, checked: &Checked) -> bool {
        if let Some((_, content)) = self.rehearsed.iter().find(|(slot, _)| *slot == record.slot) {
            return *content == canonical_content(name, &checked.content);
        }
        let (old, new) = (&record.log.content, &checked.content);
        self.check_readable(name, record.slot).is_ok()
            && (old == new || canonical_content(name, old) == canonical_content(name, new))
    }

    /// Returns whether the plan of a draft depends on the owner of the path that it requests.
    pub(super) fn asks_owner(&self, draft: &Draft) -> bool {
        draft.requested_path().is_some_and(|path| self.has_lost_path(&path))
    }

    /// Returns whether a scheduled article took this path from the live version, which has had none since.
    fn has_lost_path(&self, path: &str) -> bool {
        self.live().is_some_and(|record| {
            let lost_paths = record.log.former_paths.iter().filter(|former| !former.taken_by.is_empty());
            own_path(&record.log.content).is_none()
                && lost_paths.into_iter().any(|former| path::is_same(&former.path, path))
        })
    }

    /// Returns the revision that a pending version is based on: that of the live version, 0 if there is none.
    fn base_revision(&self) -> Revision {
        self.live().map_or(0, |record| record.revision)
    }

    /// Returns the size of the content that was read, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.record.iter().chain(&self.pending).map(|record| record.log.content.len()).sum()
    }

    /// Returns the version that readers see.
    fn live(&self) -> Option<&Record> {
        self.record.as_ref().filter(|record| record.is_put())
    }

    /// Returns the pending version.
    fn pending_record(&self) -> Option<&Record> {
        self.pending.as_ref().filter(|record| record.is_put())
    }

    /// Returns the time of the kill of a name that must not be published again without permission.
    fn kill_time(&self) -> Option<i64> {
        let newest = self.record.as_ref().or(self.pending.as_ref())?;
        let killed_by_it = self.kill_tombstone().map(|tombstone| tombstone.log.time);
        Some(newest.log.kill_time).filter(|time| *time != 0).or(killed_by_it)
    }

    /// Returns the tombstone of a kill, if it is what is left of a name.
    fn kill_tombstone(&self) -> Option<&Record> {
        let newest = self.record.as_ref().or(self.pending.as_ref());
        newest.filter(|record| !record.is_put() && record.log.reason() == RemovalReason::Killed)
    }

    fn not_found(&self, name: &Name) -> Refusal {
        match self.record.as_ref().and_then(Record::tombstone) {
            Some(tombstone) => Refusal::Gone { name: name.clone(), tombstone: Box::new(tombstone) },
            None => Refusal::NotFound(name.clone()),
        }
    }

    fn append(&self, name: &Name, entries: Vec<(Slot, LogEntry)>) -> Planned {
        Planned::Append { name: name.clone(), entries, expected: self.expected(), path_owner: None }
    }

    /// Returns the plan that writes nothing, because a record of the state is the wanted version.
    fn unchanged(&self, record: &Record) -> Planned {
        let due = if record.slot == Slot::Pending { Derived::pending(&record.log).due } else { None };
        let found = WriteOutcome {
            name: record.name.clone(),
            revision: record.revision,
            prefix: record.prefix,
            changed: false,
            slot: record.slot,
            due,
            removed: !record.is_put(),
            killed: record.log.reason() == RemovalReason::Killed,
            path_owner: None,
        };
        Planned::Unchanged { found, expected: self.expected() }
    }

    fn expected(&self) -> Expected {
        let revision = |record: &Option<Record>| record.as_ref().map_or(0, |record| record.revision);
        Expected { live: revision(&self.record), pending: revision(&self.pending) }
    }
}

/// Plans changes that are committed atomically.
pub(super) fn plan_all(
    drafts: &[Draft],
    states: &[State],
    context: PlanContext,
) -> Result<Vec<Planned>, Refusal> {
    drafts.iter().zip(states).map(|(draft, state)| plan(draft, state, context)).collect()
}

fn plan(draft: &Draft, state: &State, context: PlanContext) -> Result<Planned, Refusal> {
    match &draft.action {
        Action::Put(checked) => put::put(draft, checked, state, context),
        Action::Patch { article, mask } => {
            let Some(record) = state.live() else {
                check_precondition(draft, state, None)?;
                return Err(state.not_found(&draft.name));
            };
            state.check_readable(&draft.name, Slot::Live).map_err(Refusal::from)?;
            let mut patched = patch::apply(&record.log.content, article, mask.as_deref())?;
            fields::put_string(&mut patched, NAME, &draft.name.to_string());
            let checked = check::entity(Kind::Article, &patched, check::Mode::Put { now: context.now });
            let checked = checked.map_err(|refusal| refusal.within(&draft.field))?;
            put::put(draft, &checked, state, context)
        }
        Action::Remove(removal) => remove::remove(draft, removal, state, context),
        Action::RemovePending => remove::remove_pending(draft, state, context),
    }
}

/// Returns whether a pending version is held, because the live version is not the one that it is based on.
fn is_held(pending: &Record, live: Option<&Record>) -> bool {
    let base = pending.log.import.as_ref().map_or(PendingBase::Unspecified, log::Import::pending_base);
    match base {
        PendingBase::Superseded => true,
        PendingBase::Imported => live.is_some_and(|live| live.log.import.is_none()),
        PendingBase::Unspecified => live.is_some_and(|live| live.revision != pending.log.base_revision),
    }
}

/// Returns the entry that holds the pending version of an import because another write changes the live version. The
/// pending version has no base revision to compare later, so the hold is stored: it lasts even after the live version
/// has expired.
fn hold_imported(state: &State, context: PlanContext) -> Option<(Slot, LogEntry)> {
    let mut log = state.pending_record()?.log.clone();
    let import = log.import.as_mut().filter(|import| import.pending_base() == PendingBase::Imported)?;
    import.set_pending_base(PendingBase::Superseded);
    log.time = context.now;
    Some((Slot::Pending, log))
}

/// Checks the precondition against the version that is to be replaced.
fn check_precondition(draft: &Draft, state: &State, replaced: Option<&Record>) -> Result<(), Refusal> {
    let current = replaced.map(|record| state.log_id.etag(record.revision, record.prefix));
    match (&draft.precondition, current) {
        (Some(Precondition::Absent), Some(etag)) => Err(Refusal::Exists { name: draft.name.clone(), etag }),
        (Some(Precondition::Etag(wanted)), current) if current.as_ref() != Some(wanted) => {
            Err(Refusal::EtagMismatch { name: draft.name.clone(), current })
        }
        _ => Ok(()),
    }
}

/// Returns the update kind of an entry of the live slot.
fn update_kind(draft: &Draft, state: &State) -> Result<UpdateKind, Refusal> {
    let seen = state.record.is_some();
    match (draft.update_kind, &state.record) {
        (None, Some(record)) if draft.is_repeated => return Ok(record.log.update_kind()),
        _ => {}
    }
    match draft.update_kind {
        None if seen => Ok(UpdateKind::Minor),
        None => Ok(UpdateKind::Backfill),
        Some(UpdateKind::Backfill) if seen || state.pending.is_some() => {
            Err(draft.kind_refused("BACKFILL is allowed only for a name that never had a version"))
        }
        Some(UpdateKind::Unspecified) => Ok(UpdateKind::Major),
        Some(kind) => Ok(kind),
    }
}
