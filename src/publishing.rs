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
    entry::{Entry, MAX_ENTRY},
    log::{Commit, Log, Outcome, Position, Step},
    model::{Kind, Name, limit},
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
mod workers;

pub(crate) use check::{name as check_name, path as check_path, time as check_time};
pub(crate) use due::keep;
pub(crate) use patch::check as check_mask;
pub(crate) use pending::Pending;
use plan::{Draft, Moment, Planned, State};
use workers::{Stop, Workers};

/// How often a write is planned anew before it is given up.
const ATTEMPTS: usize = 16;

/// Changes of an import that are worth a thread of their own to encode.
const SHARE: usize = 4;

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

impl Change {
    /// Bytes of content that it brings.
    fn bytes(&self) -> usize {
        match &self.verb {
            Verb::Put { entity, .. } => entity.len(),
            Verb::Patch { article, .. } => article.len(),
            Verb::Remove { .. } | Verb::Bury { .. } | Verb::TakeBack { .. } => 0,
        }
    }
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
    workers: Workers,
}

impl Publishing {
    pub(crate) fn new(store: Arc<Store>, log: Arc<dyn Log>, clock: Clock) -> Publishing {
        Publishing { store, log, clock, workers: Workers::new() }
    }

    /// Runs the long part of a write on `bytes` of content where it holds up no call.
    ///
    /// # Errors
    /// Too many writes wait for that.
    pub(crate) async fn aside<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        self.workers.run(bytes, |_| Ok(work())).await
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
        let (id, now) = (request.0.clone(), self.clock.now());
        let past = self.store.read(move |connection| request::find(connection, &id, now)).await?;
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
        let bytes = changes.iter().map(Change::bytes).sum();
        let drafts = self.workers.run(bytes, move |stop| drafts(changes, now, stop)).await?;
        let erases = drafts.iter().any(Draft::erases);
        let drafts: Arc<[Draft]> = drafts.into();
        for _ in 0..ATTEMPTS {
            let (states, past) = self.read(&drafts, request.as_ref(), now).await?;
            if let Some((past, request)) = past.zip(request.as_ref()) {
                return self.again(past, request).await;
            }
            if states.len() < drafts.len() {
                let value = limit::COMMIT_READ.maximum + 1;
                return Err(Refusal::Limit { field: "changes".into(), limit: &limit::COMMIT_READ, value });
            }
            let steps = self.plan(&drafts, states, now).await?;
            if request.is_none() && !erases && steps.iter().all(|step| matches!(step, Step::Unchanged { .. }))
            {
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
    ///
    /// # Errors
    /// Too many writes wait to be checked.
    pub(crate) async fn check(&self, changes: Vec<Result<Change, Refusal>>) -> Result<Checked, Refusal> {
        let now = self.clock.now();
        let bytes = changes.iter().flatten().map(Change::bytes).sum();
        let check = move |stop: &Stop| {
            let check = |change: Result<Change, Refusal>| {
                stop.check()?;
                Ok(change.and_then(|change| Draft::check(change, now)))
            };
            changes.into_iter().map(check).collect::<Result<_, Refusal>>()
        };
        Ok(Checked { drafts: self.workers.run(bytes, check).await?, now })
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
            let (mut round, later) = before_a_repeated_name(open);
            let drafts: Arc<[Draft]> = round.iter().map(|(_, draft)| draft.clone()).collect();
            let (states, _) = self.read(&drafts, None, now).await?;
            let unread = round.split_off(states.len());
            let at = self.moment(now);
            let planned =
                self.workers.run(weight(&drafts, &states), move |_| Ok(plan::each(&drafts, &states, at)));
            let round = Round::sort(round, planned.await?);
            for (index, result) in round.settled {
                results[index] = Some(result);
            }
            open = unread.into_iter().chain(later).collect();
            let (appended, planned): (Numbered, Vec<_>) = round.appends.into_iter().unzip();
            let encoded = singles(&self.workers, planned, now).await?;
            let (commits, appended) = sort_encoded(appended, encoded, &mut results);
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

    /// What the drafts of one commit come to, encoded, hashed and compressed.
    async fn plan(&self, drafts: &Arc<[Draft]>, states: Vec<State>, now: i64) -> Result<Vec<Step>, Refusal> {
        let (drafts, at) = (drafts.clone(), self.moment(now));
        let bytes = weight(&drafts, &states);
        let plan = move |stop: &Stop| {
            let planned = plan::all(&drafts, &states, at)?;
            stop.check()?;
            encode(planned)
        };
        self.workers.run(bytes, plan).await
    }

    fn moment(&self, now: i64) -> Moment {
        Moment { now, floor: self.store.head().floor }
    }

    async fn append(&self, commits: Vec<Commit>) -> Result<Vec<Outcome>, Refusal> {
        Ok(self.log.append(commits).await?)
    }

    /// What is there now under the names of the drafts, and what came of the request before. It ends at the bound on
    /// what is read for a commit: the states of the drafts behind are missing.
    async fn read(
        &self,
        drafts: &Arc<[Draft]>,
        request: Option<&Identified>,
        now: i64,
    ) -> Result<(Vec<State>, Option<request::Past>), Refusal> {
        let drafts = drafts.clone();
        let id = request.map(|(id, _)| id.clone());
        // Of one moment: a request that landed between the two would be told that its own write is in its way.
        let read = move |connection: &store::Connection| {
            let moment = connection.unchecked_transaction()?;
            let past = id.map_or(Ok(None), |id| request::find(&moment, &id, now))?;
            let names = drafts.iter().map(|draft| &draft.name).collect();
            let (mut states, mut bytes) = (Vec::with_capacity(drafts.len()), 0);
            for draft in drafts.iter() {
                let state = State::read(&moment, draft, &names)?;
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

/// The commits that were encoded, with their drafts; the others are refused.
fn sort_encoded(
    drafts: Numbered,
    encoded: Vec<Result<Commit, Refusal>>,
    results: &mut Results,
) -> (Vec<Commit>, Numbered) {
    let (mut commits, mut appended) = (Vec::with_capacity(drafts.len()), Vec::with_capacity(drafts.len()));
    for ((index, draft), commit) in drafts.into_iter().zip(encoded) {
        match commit {
            Ok(commit) => {
                commits.push(commit);
                appended.push((index, draft));
            }
            Err(refusal) => results[index] = Some(Err(refusal)),
        }
    }
    (commits, appended)
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
                Ok(Planned::Unchanged { found, .. }) if !erases => round.settled.push((index, Ok(found))),
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

fn drafts(changes: Vec<Change>, now: i64, stop: &Stop) -> Result<Vec<Draft>, Refusal> {
    let check = |change| stop.check().and_then(|()| Draft::check(change, now));
    let drafts = changes.into_iter().map(check).collect::<Result<Vec<_>, _>>()?;
    distinct_names(&drafts)?;
    Ok(drafts)
}

/// Bytes that planning works on.
fn weight(drafts: &[Draft], states: &[State]) -> usize {
    drafts.iter().zip(states).map(|(draft, state)| draft.bytes() + state.bytes()).sum()
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

/// A commit that nobody combines with others.
struct Single {
    planned: Vec<Planned>,
    displaces: Vec<Name>,
    erases: bool,
}

/// Encodes many small commits, on as many threads as there are cores: an import waits for nothing else.
async fn singles(
    workers: &Workers,
    mut planned: Vec<Single>,
    time: i64,
) -> Result<Vec<Result<Commit, Refusal>>, Refusal> {
    let commit = move |single| encode_single(single, time);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = planned.len().div_ceil(cores).max(SHARE);
    let mut parts = Vec::with_capacity(cores);
    while !planned.is_empty() {
        let rest = planned.split_off(share.min(planned.len()));
        let part = std::mem::replace(&mut planned, rest);
        let bytes = part.iter().flat_map(|single| &single.planned).map(Planned::bytes).sum();
        parts.push(workers.run(bytes, move |_| Ok(part.into_iter().map(commit).collect::<Vec<_>>())));
    }
    Ok(futures_util::future::try_join_all(parts).await?.into_iter().flatten().collect())
}

fn encode_single(Single { planned, displaces, erases }: Single, time: i64) -> Result<Commit, Refusal> {
    Ok(Commit { steps: encode(planned)?, request: None, time, erases, displaces })
}

/// Refuses an entry that the store could not read.
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

fn found(steps: Vec<Step>) -> Vec<Written> {
    let found = |step| match step {
        Step::Unchanged { found, .. } => Some(found),
        Step::Append(_) => None,
    };
    steps.into_iter().filter_map(found).collect()
}

#[cfg(test)]
mod tests;
