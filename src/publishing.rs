//! Writes: what a caller wants becomes entries of the log. Here it is decided whether a write may happen, what it
//! changes and what it leaves; the log decides its place.
//!
//! Every append is a compare-and-set on what was read here, and the log checks paths when it appends. Where the caller
//! named no precondition, a write that lost a race is planned anew on the newer state. A call may be cancelled at any
//! await: nothing here is held for a write that is queued.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    clock::Clock,
    digest::Hash,
    entry::Entry,
    log::{Commit, Log, Outcome, Position, Step},
    model::{Kind, Name},
    refusal::Refusal,
    store::{self, Store, Written, envelope, request},
    wire::{
        log::LogEntry,
        v1::{RemovalReason, UpdateKind},
    },
};

pub(crate) mod check;
mod due;
mod patch;
mod pending;
mod plan;

pub(crate) use check::{name as check_name, path as check_path, time as check_time};
pub(crate) use due::keep;
pub(crate) use patch::check as check_mask;
pub(crate) use pending::Pending;
use plan::{Draft, Moment, Planned, State};

/// How often a write is planned anew before it is given up.
const ATTEMPTS: usize = 16;

/// Below this many changes, encoding them is too short to leave the caller's thread for.
const INLINE: usize = 4;

/// A request_id, and the identity of its request.
pub(crate) type Identified = (String, Hash);

/// What to do to a name.
#[derive(Debug, Clone)]
pub(crate) enum Verb {
    /// Put the entity, encoded as received.
    Put { kind: Kind, entity: bytes::Bytes },
    /// Replace top-level fields of an article by those of this one; no mask: by those that are set.
    Patch { article: bytes::Bytes, mask: Option<Vec<String>> },
    /// Remove the name.
    Remove { name: Name, reason: RemovalReason, moved_to: Option<Name> },
    /// Note that the name was removed elsewhere, with the paths that led to it.
    Bury { name: Name, reason: RemovalReason, moved_to: Option<Name>, paths: Vec<String> },
    /// Take the pending version of an article back.
    TakeBack { name: Name },
}

/// What must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Precondition {
    Absent,
    Etag(String),
}

/// One change, as its caller wants it.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) verb: Verb,
    pub(crate) precondition: Option<Precondition>,
    /// None in an import: BACKFILL for a name that readers never saw, MINOR for others, MAJOR for what waits.
    pub(crate) update_kind: Option<UpdateKind>,
    /// A put may bring a killed name back.
    pub(crate) allow_killed: bool,
    /// The request's field that holds the change: errors are told below it.
    pub(crate) field: String,
}

/// Changes that were held against the rules that need no store, in their order.
pub(crate) struct Checked {
    drafts: Vec<Result<Draft, Refusal>>,
    now: i64,
}

/// The writing side of a node.
pub(crate) struct Publishing {
    store: Arc<Store>,
    log: Arc<dyn Log>,
    clock: Clock,
}

impl Publishing {
    pub(crate) fn new(store: Arc<Store>, log: Arc<dyn Log>, clock: Clock) -> Publishing {
        Publishing { store, log, clock }
    }

    /// The outcome of a request that was committed before. Look it up before the request is validated: a retry repeats
    /// the first outcome, whatever the clock, the content and the rules are by then.
    ///
    /// # Errors
    /// The request_id was used for another request, or the store cannot be read.
    pub(crate) async fn repeat(
        &self,
        request: Option<&Identified>,
    ) -> Result<Option<(Vec<Written>, Position)>, Refusal> {
        let Some(request) = request else { return Ok(None) };
        let id = request.0.clone();
        let past = self.store.read(move |connection| request::find(connection, &id)).await?;
        match past {
            Some(past) => self.again(past, request).await.map(Some),
            None => Ok(None),
        }
    }

    /// Makes all changes or none.
    ///
    /// # Errors
    /// A change is not allowed, a precondition does not hold, or the store cannot write.
    pub(crate) async fn commit(
        &self,
        changes: Vec<Change>,
        request: Option<Identified>,
    ) -> Result<(Vec<Written>, Position), Refusal> {
        let now = self.clock.now();
        let drafts = drafts(changes, now)?;
        distinct_names(&drafts)?;
        let erases = drafts.iter().any(Draft::erases);
        let drafts: Arc<[Draft]> = drafts.into();
        for _ in 0..ATTEMPTS {
            let (states, past) = self.read(&drafts, request.as_ref()).await?;
            if let Some((past, request)) = past.zip(request.as_ref()) {
                return self.again(past, request).await;
            }
            let planned = plan::all(&drafts, &states, self.moment(now))?;
            let steps = steps(planned).await?;
            if request.is_none() && !erases && steps.iter().all(|step| matches!(step, Step::Unchanged(_))) {
                return Ok((found(steps), Position::of(&self.store.head())));
            }
            let request = request.clone();
            let commit = Commit { steps, request, time: now, erases, displaces: Vec::new() };
            match self.append(vec![commit]).await?.pop() {
                Some(Outcome::Committed(written, position)) => return Ok((written, position)),
                Some(Outcome::Duplicate(written)) => {
                    return Ok((written, Position::of(&self.store.head())));
                }
                Some(Outcome::Reused) => return Err(Refusal::RequestIdReused),
                Some(Outcome::PathTaken { step, path, owner }) => {
                    let field = drafts.get(step).map(|draft| draft.field.as_str()).unwrap_or_default();
                    return Err(taken(field, path, owner));
                }
                Some(Outcome::Conflict) => {}
                None => return Err(Refusal::Internal("the log gave no answer")),
            }
        }
        Err(Refusal::Contended)
    }

    /// The part of [`Publishing::each`] that needs no store: some 40 µs an article.
    pub(crate) fn check(&self, changes: Vec<Result<Change, Refusal>>) -> Checked {
        let now = self.clock.now();
        let check = |change: Result<Change, Refusal>| change.and_then(|change| Draft::check(change, now));
        Checked { drafts: changes.into_iter().map(check).collect(), now }
    }

    /// Makes each change by itself, in order; one that is refused holds up no other.
    ///
    /// # Errors
    /// The store cannot write; what it had written before stays.
    pub(crate) async fn each(
        &self,
        checked: Checked,
    ) -> Result<(Vec<Result<Written, Refusal>>, Position), Refusal> {
        let Checked { drafts, now } = checked;
        let (mut results, mut open) = places(drafts);
        let mut position = Position::of(&self.store.head());
        let mut conflicts = 0;
        while !open.is_empty() && conflicts < ATTEMPTS {
            let (round, later) = before_a_repeated_name(open);
            let drafts: Arc<[Draft]> = round.iter().map(|(_, draft)| draft.clone()).collect();
            let (states, _) = self.read(&drafts, None).await?;
            let round = Round::sort(round, plan::each(&drafts, &states, self.moment(now)));
            for (index, result) in round.settled {
                results[index] = Some(result);
            }
            open = later;
            let (appended, singles): (Numbered, Vec<_>) = round.appends.into_iter().unzip();
            let commits = self::singles(singles, now).await?;
            let outcomes = if commits.is_empty() { Vec::new() } else { self.append(commits).await? };
            let (before, mut again) = (open.len(), HashSet::new());
            for ((index, draft), outcome) in appended.into_iter().zip(outcomes) {
                match outcome {
                    Outcome::Committed(mut written, at) => {
                        results[index] = written.pop().map(Ok);
                        position = at;
                    }
                    // An owner that comes again may give the path up.
                    Outcome::PathTaken { path, owner, .. } if !again.contains(&owner) => {
                        results[index] = Some(Err(taken(&draft.field, path, owner)));
                    }
                    _ => {
                        again.insert(draft.name.clone());
                        open.push((index, draft));
                    }
                }
            }
            conflicts += usize::from(open.len() > before);
            open.sort_unstable_by_key(|(index, _)| *index);
        }
        let results = results.into_iter().map(|result| result.unwrap_or(Err(Refusal::Contended))).collect();
        Ok((results, position))
    }

    fn moment(&self, now: i64) -> Moment {
        Moment { now, floor: self.store.head().floor }
    }

    async fn append(&self, commits: Vec<Commit>) -> Result<Vec<Outcome>, Refusal> {
        Ok(self.log.append(commits).await?)
    }

    /// What is there now under the names of the drafts, and what came of the request before.
    async fn read(
        &self,
        drafts: &Arc<[Draft]>,
        request: Option<&Identified>,
    ) -> Result<(Vec<State>, Option<request::Past>), Refusal> {
        let drafts = drafts.clone();
        let id = request.map(|(id, _)| id.clone());
        // Of one moment: a request that landed between the two would be told that its own write is in its way.
        let read = move |connection: &store::Connection| {
            let moment = connection.unchecked_transaction()?;
            let past = id.map_or(Ok(None), |id| request::find(&moment, &id))?;
            let names = drafts.iter().map(|draft| &draft.name).collect();
            let states = drafts.iter().map(|draft| State::read(&moment, draft, &names));
            let states = states.collect::<Result<_, _>>()?;
            Ok((states, past))
        };
        Ok(self.store.read(read).await?)
    }

    async fn again(
        &self,
        past: request::Past,
        request: &Identified,
    ) -> Result<(Vec<Written>, Position), Refusal> {
        if past.hash != request.1 {
            return Err(Refusal::RequestIdReused);
        }
        if past.written.iter().any(|written| written.killed) {
            // The first one may have been cut off before it had erased: the log has to do it again.
            let (time, request) = (self.clock.now(), Some(request.clone()));
            let (steps, displaces) = (Vec::new(), Vec::new());
            self.append(vec![Commit { steps, request, time, erases: true, displaces }]).await?;
        }
        Ok((past.written, Position::of(&self.store.head())))
    }
}

type Results = Vec<Option<Result<Written, Refusal>>>;

/// A place for the result of each change, and the drafts of those whose own rules hold, each with its place.
fn places(drafts: Vec<Result<Draft, Refusal>>) -> (Results, Numbered) {
    let (mut results, mut open) = (Vec::with_capacity(drafts.len()), Vec::with_capacity(drafts.len()));
    for (index, draft) in drafts.into_iter().enumerate() {
        match draft {
            Ok(draft) => {
                open.push((index, draft));
                results.push(None);
            }
            Err(refusal) => results.push(Some(Err(refusal))),
        }
    }
    (results, open)
}

/// What one round of changes, each on its own, comes to.
#[derive(Default)]
struct Round {
    settled: Vec<(usize, Result<Written, Refusal>)>,
    appends: Vec<((usize, Draft), Single)>,
}

impl Round {
    fn sort(drafts: Numbered, planned: Vec<Result<Planned, Refusal>>) -> Round {
        let mut round = Round::default();
        for ((index, draft), planned) in drafts.into_iter().zip(planned) {
            let erases = draft.erases();
            match planned {
                Err(refusal) => round.settled.push((index, Err(refusal))),
                Ok(Planned::Unchanged(found)) if !erases => round.settled.push((index, Ok(found))),
                Ok(append) => {
                    let single = Single { planned: vec![append], displaces: Vec::new(), erases };
                    round.appends.push(((index, draft), single));
                }
            }
        }
        round
    }
}

fn taken(field: &str, path: String, owner: Name) -> Refusal {
    Refusal::PathTaken { field: "path".into(), path, owner }.within(field)
}

fn drafts(changes: Vec<Change>, now: i64) -> Result<Vec<Draft>, Refusal> {
    changes.into_iter().map(|change| Draft::check(change, now)).collect()
}

fn distinct_names(drafts: &[Draft]) -> Result<(), Refusal> {
    let mut seen = HashMap::with_capacity(drafts.len());
    for draft in drafts {
        if seen.insert(&draft.name, ()).is_some() {
            let why = format!("{} is changed twice", draft.name);
            return Err(Refusal::field("name", why).within(&draft.field));
        }
    }
    Ok(())
}

type Numbered = Vec<(usize, Draft)>;

fn before_a_repeated_name(mut drafts: Numbered) -> (Numbered, Numbered) {
    let mut seen = HashSet::new();
    let repeated = drafts.iter().position(|(_, draft)| !seen.insert(&draft.name));
    let later = drafts.split_off(repeated.unwrap_or(drafts.len()));
    (drafts, later)
}

/// Encodes, hashes and compresses what was planned; many changes do so on a thread of their own.
async fn steps(planned: Vec<Planned>) -> Result<Vec<Step>, Refusal> {
    if planned.len() <= INLINE {
        return Ok(encode(planned));
    }
    let encoded = tokio::task::spawn_blocking(move || encode(planned)).await;
    encoded.map_err(|_| Refusal::Internal("the encoding of a commit failed"))
}

/// A commit that nobody combines with others.
struct Single {
    planned: Vec<Planned>,
    displaces: Vec<Name>,
    erases: bool,
}

/// Encodes many small commits, on as many threads as there are cores: an import waits for nothing else.
async fn singles(mut planned: Vec<Single>, time: i64) -> Result<Vec<Commit>, Refusal> {
    let commit = move |Single { planned, displaces, erases }| Commit {
        steps: encode(planned),
        request: None,
        time,
        erases,
        displaces,
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = planned.len().div_ceil(cores).max(INLINE);
    let mut parts = Vec::with_capacity(cores);
    while !planned.is_empty() {
        let rest = planned.split_off(share.min(planned.len()));
        let part = std::mem::replace(&mut planned, rest);
        parts.push(tokio::task::spawn_blocking(move || part.into_iter().map(commit).collect::<Vec<_>>()));
    }
    let mut commits = Vec::new();
    for part in parts {
        commits.extend(part.await.map_err(|_| Refusal::Internal("the encoding of an import failed"))?);
    }
    Ok(commits)
}

fn encode(planned: Vec<Planned>) -> Vec<Step> {
    let entries = |planned: &Planned| match planned {
        Planned::Append { entries, .. } => entries.len(),
        Planned::Unchanged(_) => 0,
    };
    let size = u32::try_from(planned.iter().map(entries).sum::<usize>()).unwrap_or(u32::MAX);
    let mut index = 0;
    let mut change = |name: &Name, slot, mut log: LogEntry, expected, path_owner| {
        (log.commit_index, log.commit_size) = (index, size);
        index += 1;
        let entry = Entry::new(name.clone(), slot, log);
        let packed = envelope::pack(&entry.bytes);
        crate::log::Change { entry, packed, expected, path_owner }
    };
    let step = |planned| match planned {
        Planned::Unchanged(found) => Step::Unchanged(found),
        Planned::Append { name, entries, expected, path_owner } => {
            let entries = entries.into_iter();
            let changes = entries.map(|(slot, log)| change(&name, slot, log, expected, path_owner.clone()));
            Step::Append(changes.collect())
        }
    };
    planned.into_iter().map(step).collect()
}

fn found(steps: Vec<Step>) -> Vec<Written> {
    let found = |step| match step {
        Step::Unchanged(found) => Some(found),
        Step::Append(_) => None,
    };
    steps.into_iter().filter_map(found).collect()
}

#[cfg(test)]
mod tests;
