//! Writes. This module turns the changes that a caller requests into entries of the log. It decides whether a write is
//! allowed, what it changes, and which part of the past its entries retain. The log decides their order.
//!
//! Every append is a compare-and-set on the state that was read here, and the log checks paths when it appends. If the
//! caller gave no precondition, a write that lost a race is planned again on the newer state. A call may be cancelled
//! at any await: nothing here is held for a queued write.

use std::{collections::HashMap, sync::Arc};

use crate::{
    audit::Origin,
    clock::Clock,
    digest::Hash,
    entry::{Entry, MAX_ENTRY},
    log::{Commit, Log, Outcome, Position, Step},
    model::{Kind, Name, limit},
    refusal::Refusal,
    store::{Snapshot, Store, WriteOutcome, envelope, request},
    wire::{log::LogEntry, v1::UpdateKind},
};

pub(crate) mod check;
mod due;
mod import;
mod patch;
mod pending;
mod plan;
mod source;
mod workers;

pub(crate) use check::Original;
pub(crate) use due::run_scheduler;
pub(crate) use import::{Checked, Imported, OmittedPath, Prepared};
pub(crate) use patch::check as check_mask;
use plan::{Draft, PlanContext, Planned, State};
pub(crate) use plan::{Import, PendingRecord, Rehearsal, Removal};
pub(crate) use source::Source;
use workers::{Stop, Workers};

/// The number of times that a write is planned before it fails.
const MAX_ATTEMPTS: usize = 16;

/// A `request_id`, and the identity of its request.
pub(crate) type RequestIdentity = (String, Hash);

/// The operation of a change.
#[derive(Debug, Clone)]
pub(crate) enum Verb {
    /// Put the entity, encoded as received.
    Put { kind: Kind, entity: bytes::Bytes },
    /// Replace top-level fields of an article with those of this one. Without a mask, the fields that are set are
    /// replaced.
    Patch { article: bytes::Bytes, mask: Option<Vec<String>> },
    /// Remove the name, or record that it was removed in another store.
    Remove { name: Name, removal: Removal },
    /// Remove the pending version of an article.
    RemovePending { name: Name },
}

/// The condition that a name must meet before it is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Precondition {
    Absent,
    Etag(String),
}

/// One change, as requested by the caller.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) verb: Verb,
    pub(crate) precondition: Option<Precondition>,
    /// `None` in an import: BACKFILL for a name that readers never saw, MINOR for others, MAJOR for pending versions.
    pub(crate) update_kind: Option<UpdateKind>,
    /// The properties of the record, in an import.
    pub(crate) import: Option<Import>,
    /// Whether a put may publish a killed name again.
    pub(crate) allow_killed: bool,
    /// The path of the request's field that holds the change. The fields of errors are below it.
    pub(crate) field: String,
}

impl Change {
    /// Returns the size of the content that the change adds, in bytes.
    fn bytes(&self) -> usize {
        match &self.verb {
            Verb::Put { entity, .. } => entity.len(),
            Verb::Patch { article, .. } => article.len(),
            Verb::Remove { .. } | Verb::RemovePending { .. } => 0,
        }
    }
}

/// The write side of a node.
pub(crate) struct Publishing {
    store: Arc<Store>,
    log: Arc<dyn Log>,
    clock: Clock,
    workers: Workers,
}

impl Publishing {
    pub(crate) fn new(store: Arc<Store>, log: Arc<dyn Log>, clock: Clock) -> Publishing {
        Publishing { store, log, clock, workers: Workers::new() }
    }

    /// Runs the long part of a write on `bytes` of content where it blocks no other call.
    ///
    /// # Errors
    /// Fails if too many writes are waiting.
    pub(crate) async fn offload<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        self.workers.run(bytes, |_| Ok(work())).await
    }

    /// Returns the outcome of a request that was committed before. Call it before the request is validated: a retry
    /// repeats the first outcome, even if the clock, the content or the rules have changed since.
    ///
    /// # Errors
    /// Fails if the `request_id` was used for another request, or if the store cannot be read.
    pub(crate) async fn find_committed(
        &self,
        request: Option<&RequestIdentity>,
        origin: &Arc<Origin>,
    ) -> Result<Option<(Vec<WriteOutcome>, Position)>, Refusal> {
        let Some(request) = request else { return Ok(None) };
        let (id, now) = (request.0.clone(), self.clock.now());
        let past = self.store.read(move |snapshot| snapshot.find_request(&id, now)).await?;
        match past {
            Some(past) => self.replay_outcome(past, request, origin).await.map(Some),
            None => Ok(None),
        }
    }

    /// Commits all changes atomically.
    ///
    /// # Errors
    /// Fails if a change is not allowed, a precondition is not met, or the store cannot write.
    pub(crate) async fn commit(
        &self,
        changes: Vec<Change>,
        request: Option<RequestIdentity>,
        origin: &Arc<Origin>,
    ) -> Result<(Vec<WriteOutcome>, Position), Refusal> {
        let now = self.clock.now();
        let bytes = changes.iter().map(Change::bytes).sum();
        let drafts = self.workers.run(bytes, move |stop| check_drafts(changes, now, stop)).await?;
        let erases = drafts.iter().any(Draft::erases);
        let drafts: Arc<[Draft]> = drafts.into();
        for _ in 0..MAX_ATTEMPTS {
            let (states, past) = self.read(&drafts, request.as_ref(), now).await?;
            if let Some((past, request)) = past.zip(request.as_ref()) {
                return self.replay_outcome(past, request, origin).await;
            }
            if states.len() < drafts.len() {
                let value = limit::COMMIT_READ.maximum + 1;
                return Err(Refusal::Limit { field: "changes".into(), limit: &limit::COMMIT_READ, value });
            }
            let steps = self.plan(&drafts, states, now).await?;
            if request.is_none() && !erases && steps.iter().all(|step| matches!(step, Step::Unchanged { .. }))
            {
                return Ok((unchanged_versions(steps), Position::of(&self.store.head())));
            }
            let request = request.clone();
            let origin = origin.clone();
            let commit = Commit { steps, request, time: now, origin, erases, displaces: Vec::new() };
            match self.append(vec![commit]).await?.pop() {
                Some(Outcome::Committed(written, position)) => return Ok((written, position)),
                Some(Outcome::Duplicate(written)) => {
                    return Ok((written, Position::of(&self.store.head())));
                }
                Some(Outcome::Reused) => return Err(Refusal::RequestIdReused),
                Some(Outcome::PathTaken { step, path, owner }) => {
                    let field = drafts.get(step).map(|draft| draft.field.as_str()).unwrap_or_default();
                    return Err(path_taken(field, path, owner));
                }
                Some(Outcome::MovedInLoop { step, target, is_back }) => {
                    let refusal = moved_in_loop(&target, is_back);
                    return Err(match drafts.get(step) {
                        Some(draft) => refusal.within(&draft.field),
                        None => refusal,
                    });
                }
                Some(Outcome::Conflict) => {}
                None => return Err(Refusal::Internal("the log returned no outcome")),
            }
        }
        Err(Refusal::WriteConflict { attempts: MAX_ATTEMPTS })
    }

    /// Plans the drafts of one commit. Returns its steps, encoded, hashed and compressed.
    async fn plan(&self, drafts: &Arc<[Draft]>, states: Vec<State>, now: i64) -> Result<Vec<Step>, Refusal> {
        let (drafts, context) = (drafts.clone(), self.plan_context(now));
        let bytes = content_bytes(&drafts, &states);
        let plan = move |stop: &Stop| {
            let planned = plan::plan_all(&drafts, &states, context)?;
            stop.check()?;
            encode(planned)
        };
        self.workers.run(bytes, plan).await
    }

    fn plan_context(&self, now: i64) -> PlanContext {
        PlanContext { now, floor: self.store.head().floor }
    }

    async fn append(&self, commits: Vec<Commit>) -> Result<Vec<Outcome>, Refusal> {
        Ok(self.log.append(commits).await?)
    }

    /// Reads the current state of the names of the drafts, and the outcome of the request if it was committed before.
    /// Reading stops at the read limit of one commit: the states of the drafts after it are missing.
    async fn read(
        &self,
        drafts: &Arc<[Draft]>,
        request: Option<&RequestIdentity>,
        now: i64,
    ) -> Result<(Vec<State>, Option<request::PastRequest>), Refusal> {
        let drafts = drafts.clone();
        let id = request.map(|(id, _)| id.clone());
        // Read both in one transaction. If the request committed between the reads, its retry would fail its own
        // precondition.
        let read = move |snapshot: Snapshot<'_>| {
            let past = id.map_or(Ok(None), |id| snapshot.find_request(&id, now))?;
            let names = drafts.iter().map(|draft| &draft.name).collect();
            let (mut states, mut bytes) = (Vec::with_capacity(drafts.len()), 0);
            for draft in drafts.iter() {
                let state = State::read(snapshot, draft, &names)?;
                bytes += state.bytes();
                if bytes as u64 > limit::COMMIT_READ.maximum && !states.is_empty() {
                    break;
                }
                states.push(state);
            }
            Ok((states, past))
        };
        Ok(self.store.read(read).await?)
    }

    async fn replay_outcome(
        &self,
        past: request::PastRequest,
        request: &RequestIdentity,
        origin: &Arc<Origin>,
    ) -> Result<(Vec<WriteOutcome>, Position), Refusal> {
        if past.hash != request.1 {
            return Err(Refusal::RequestIdReused);
        }
        if past.outcomes.iter().any(|written| written.killed) {
            // The first call may have been cancelled before it erased: the log has to erase again.
            let (time, request) = (self.clock.now(), Some(request.clone()));
            let (steps, origin, displaces) = (Vec::new(), origin.clone(), Vec::new());
            self.append(vec![Commit { steps, request, time, origin, erases: true, displaces }]).await?;
        }
        Ok((past.outcomes, Position::of(&self.store.head())))
    }
}

fn path_taken(field: &str, path: String, owner: Name) -> Refusal {
    Refusal::PathTaken { field: "path".into(), path, owner }.within(field)
}

/// Returns the refusal of a removal whose new name leads nowhere.
fn moved_in_loop(target: &Name, is_back: bool) -> Refusal {
    let problem = if is_back {
        format!("{target} leads back to the name that is removed; put it again first, or use another name")
    } else {
        format!("{target} leads through too many other moves; use the name at their end")
    };
    Refusal::field("moved_to", problem)
}

fn check_drafts(changes: Vec<Change>, now: i64, stop: &Stop) -> Result<Vec<Draft>, Refusal> {
    let check = |change| stop.check().and_then(|()| Draft::check(change, now));
    let drafts = changes.into_iter().map(check).collect::<Result<Vec<_>, _>>()?;
    check_distinct_names(&drafts)?;
    Ok(drafts)
}

/// Returns the size of the content that planning works on, in bytes.
fn content_bytes(drafts: &[Draft], states: &[State]) -> usize {
    drafts.iter().zip(states).map(|(draft, state)| draft.bytes() + state.bytes()).sum()
}

fn check_distinct_names(drafts: &[Draft]) -> Result<(), Refusal> {
    let mut seen = HashMap::with_capacity(drafts.len());
    for draft in drafts {
        if seen.insert(&draft.name, ()).is_some() {
            let problem = format!("duplicate: {}", draft.name);
            return Err(Refusal::field("name", problem).within(&draft.field));
        }
    }
    Ok(())
}

/// A planned commit that is not combined with others.
struct Single {
    planned: Vec<Planned>,
    displaces: Vec<Name>,
    erases: bool,
}

fn encode_single(single: Single, time: i64, origin: Arc<Origin>) -> Result<Commit, Refusal> {
    let Single { planned, displaces, erases } = single;
    Ok(Commit { steps: encode(planned)?, request: None, time, origin, erases, displaces })
}

/// Encodes planned entries. Rejects an entry that the store could not read.
fn encode(planned: Vec<Planned>) -> Result<Vec<Step>, Refusal> {
    let entries = |planned: &Planned| match planned {
        Planned::Append { entries, .. } => entries.len(),
        Planned::Unchanged { .. } => 0,
    };
    let size = u32::try_from(planned.iter().map(entries).sum::<usize>()).unwrap_or(u32::MAX);
    let mut index = 0;
    let mut change = |name: &Name, slot, mut log: LogEntry, expected, path_owner| {
        (log.commit_index, log.commit_size) = (index, size);
        index += 1;
        let entry = Entry::new(name.clone(), slot, log);
        let packed = envelope::pack(&entry.bytes).map_err(|too_large| Refusal::Limit {
            field: name.to_string(),
            limit: &MAX_ENTRY,
            value: too_large.0 as u64,
        })?;
        Ok(crate::log::Change { entry, packed, expected, path_owner })
    };
    let step = |planned| match planned {
        Planned::Unchanged { found, expected } => Ok(Step::Unchanged { found, expected }),
        Planned::Append { name, entries, expected, path_owner } => {
            let entries = entries.into_iter();
            let changes = entries.map(|(slot, log)| change(&name, slot, log, expected, path_owner.clone()));
            Ok(Step::Append(changes.collect::<Result<_, Refusal>>()?))
        }
    };
    planned.into_iter().map(step).collect()
}

fn unchanged_versions(steps: Vec<Step>) -> Vec<WriteOutcome> {
    let found = |step| match step {
        Step::Unchanged { found, .. } => Some(found),
        Step::Append(_) => None,
    };
    steps.into_iter().filter_map(found).collect()
}

#[cfg(test)]
mod tests;
