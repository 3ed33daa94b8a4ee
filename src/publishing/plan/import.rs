//! The rules of imports: which versions a record replaces, so that an import can be repeated beside editors.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use prost::Message as _;

use super::{Action, Draft, PlanContext, Planned, State, plan};
use crate::{
    model::{Kind, Slot},
    refusal::Refusal,
    store::Record,
    wire::{
        fields,
        log::{Operation, PendingBase},
        number::article,
        v1::{self, KeepReason, RemovalReason},
    },
};

/// The properties of an imported record beside its content.
#[derive(Debug, Clone, Default)]
pub(crate) struct Import {
    /// The source of the import. Empty if it has none.
    pub(crate) source: Arc<str>,
    /// The source that the record itself states, in the place of the former. Empty if it states none.
    pub(crate) record_source: String,
    /// Whether the record replaces versions that were changed or removed since their import.
    pub(crate) overwrites: bool,
    /// Whether nothing is written.
    pub(crate) dry_run: bool,
    /// Whether the file only mentions the entity.
    pub(crate) mentioned: bool,
    /// For the record of a pending version.
    pub(crate) pending: Option<PendingRecord>,
    /// Whether the name has a pending version of its own in the file. `None` if the record does not state it.
    pub(crate) has_pending: Option<bool>,
}

/// The properties of the record of a pending version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PendingRecord {
    /// Whether it was held in the store that it comes from.
    pub(crate) is_held: bool,
}

/// The decision about an imported record.
#[derive(Debug)]
pub(in crate::publishing) enum Decision {
    Planned(Planned),
    /// The store keeps its version.
    Kept(KeepReason),
}

enum Verdict {
    Write,
    Keep(KeepReason),
    /// The name holds a version of this source.
    Conflict(String),
}

/// Plans changes of an import, each on its own.
pub(in crate::publishing) fn plan_each(
    drafts: &[Draft],
    states: &[State],
    context: PlanContext,
) -> Vec<Result<Decision, Refusal>> {
    drafts.iter().zip(states).map(|(draft, state)| decide(draft, state, context)).collect()
}

pub(super) fn decide(draft: &Draft, state: &State, context: PlanContext) -> Result<Decision, Refusal> {
    let planned = plan(draft, state, context);
    let Some(import) = &draft.import else { return planned.map(Decision::Planned) };
    // A record that the store has already is unchanged, regardless of its writer.
    if let Ok(unchanged @ Planned::Unchanged { .. }) = planned {
        return Ok(Decision::Planned(unchanged));
    }
    match import.judge(draft, state) {
        Verdict::Write => Ok(Decision::Planned(import.mark(planned?))),
        Verdict::Keep(reason) => Ok(Decision::Kept(reason)),
        Verdict::Conflict(source) => {
            Err(Refusal::SourceConflict { name: draft.name.clone(), holder: source })
        }
    }
}

impl Import {
    /// Returns the source that the written version gets.
    fn version_source(&self) -> &str {
        if self.record_source.is_empty() { &self.source } else { &self.record_source }
    }

    fn judge(&self, draft: &Draft, state: &State) -> Verdict {
        let present = [state.live(), state.pending_record()];
        if present.iter().all(Option::is_none) {
            return self.judge_removed(draft, state);
        }
        // The content of a damaged version is lost already.
        let is_readable = |version: &&Record| state.check_readable(&draft.name, version.slot).is_ok();
        let versions: Vec<&Record> = present.into_iter().flatten().filter(is_readable).collect();
        let conflict = versions.iter().find_map(|version| self.conflict(draft, version));
        match conflict.filter(|_| !self.overwrites) {
            Some(source) => Verdict::Conflict(source),
            None if self.mentioned => Verdict::Keep(KeepReason::Mentioned),
            // Killed content must not remain anywhere, regardless of edits.
            None if self.overwrites || draft.erases() => Verdict::Write,
            None if versions.iter().all(|version| self.owns(version)) => Verdict::Write,
            None => Verdict::Keep(KeepReason::Changed),
        }
    }

    /// Judges a record of a name that has no version now.
    fn judge_removed(&self, draft: &Draft, state: &State) -> Verdict {
        let Some(removed) = state.record.as_ref().or(state.kill_tombstone()) else { return Verdict::Write };
        let is_returnable = state.kill_tombstone().is_none() || self.may_follow_kill(state);
        let is_open = self.overwrites || draft.erases() || (self.owns(removed) && is_returnable);
        if is_open && !self.mentioned { Verdict::Write } else { Verdict::Keep(KeepReason::Removed) }
    }

    /// Returns whether the record is that of a pending version that an editor was allowed to put after the kill of the
    /// name, as the tombstone states that this source has imported. A kill since then removed the version.
    pub(super) fn may_follow_kill(&self, state: &State) -> bool {
        let Some(tombstone) = self.allowing_tombstone(state) else { return false };
        let is_kill = |entry: &&Record| entry.log.reason() == RemovalReason::Killed;
        let killed_at = state.pending.as_ref().filter(is_kill).map_or(0, |entry| entry.revision);
        self.pending.is_some() && killed_at <= tombstone.revision
    }

    /// Returns whether the removal of a name in the file leaves its pending version here, because the file has one, too.
    pub(super) fn keeps_pending(&self, state: &State, is_kill: bool) -> bool {
        self.has_pending == Some(true) && (!is_kill || self.allowing_tombstone(state).is_some())
    }

    /// Returns the tombstone of a kill that this source has imported and that allows a pending version.
    fn allowing_tombstone<'a>(&self, state: &'a State) -> Option<&'a Record> {
        let allows = |tombstone: &&Record| {
            tombstone.log.import.as_ref().is_some_and(|import| import.allows_pending) && self.owns(tombstone)
        };
        state.record.as_ref().filter(allows)
    }

    /// Returns whether an import whose versions this one may replace wrote a version, and nothing has changed it since.
    fn owns(&self, version: &Record) -> bool {
        let import = version.log.import.as_ref();
        import.is_some_and(|import| self.source.is_empty() || import.source == self.version_source())
    }

    /// Returns the source of a version if it is another one. Empty if the version only has ids of another source.
    fn conflict(&self, draft: &Draft, version: &Record) -> Option<String> {
        let own = self.version_source();
        match &version.log.import {
            Some(import) => Some(import.source.clone())
                .filter(|source| !source.is_empty() && !own.is_empty() && source != own),
            None => has_other_ids(draft, version).then(String::new),
        }
    }

    /// Marks the versions of a plan as written by this import.
    fn mark(&self, mut planned: Planned) -> Planned {
        if let Planned::Append { entries, .. } = &mut planned {
            for (slot, log) in entries {
                if *slot == Slot::Live || log.operation() == Operation::Put {
                    let is_kill = log.reason() == RemovalReason::Killed;
                    let import = log.import.get_or_insert_default();
                    import.source = self.version_source().to_owned();
                    import.allows_pending = is_kill && self.has_pending == Some(true);
                }
            }
        }
        planned
    }
}

impl PendingRecord {
    /// Returns what the pending version is based on, beside a live version: on that version only if no import wrote it.
    pub(super) fn base(self, live: Option<&Record>) -> PendingBase {
        match live {
            _ if self.is_held => PendingBase::Superseded,
            Some(live) if live.log.import.is_none() => PendingBase::Unspecified,
            _ => PendingBase::Imported,
        }
    }
}

/// Returns whether an article and its version in the store are different articles of one system: they have different
/// ids there.
fn has_other_ids(draft: &Draft, version: &Record) -> bool {
    let Action::Put(checked) = &draft.action else { return false };
    if draft.name.kind != Kind::Article {
        return false;
    }
    let (stored, new) = (alt_ids(&version.log.content), alt_ids(&checked.content));
    let differ = |(role, values): (&String, &HashSet<String>)| {
        stored.get(role).is_some_and(|stored| stored.is_disjoint(values))
    };
    new.iter().any(differ)
}

/// Returns the ids of an article by system.
fn alt_ids(content: &[u8]) -> HashMap<String, HashSet<String>> {
    let mut ids: HashMap<String, HashSet<String>> = HashMap::new();
    let all = fields::fields(content).map_while(Result::ok).filter(|field| field.number == article::ALT_IDS);
    for alt_id in all.filter_map(|field| v1::AltId::decode(field.value).ok()) {
        ids.entry(alt_id.role).or_default().insert(alt_id.value);
    }
    ids
}
