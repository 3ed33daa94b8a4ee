//! Writes: what a caller wants becomes entries of the log. Here it is decided whether a write may happen, what it
//! changes and what it leaves; the log decides its place.
//!
//! Every append is a compare-and-set on what was read here. Where the caller named no precondition, a write that lost
//! a race is planned anew on the newer state.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{
    clock::Clock,
    digest::Hash,
    entry::{Entry, MAX_ENTRY},
    log::{Commit, Log, Outcome, Position, Step},
    model::{HashPrefix, Kind, Name, Revision, Slot, limit},
    refusal::Refusal,
    store::{self, Made, Store, envelope, read::PastRequest},
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

/// What a change did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) name: Name,
    /// The revision made, or found where nothing changed.
    pub(crate) revision: Revision,
    /// Of the entry's hash.
    pub(crate) prefix: HashPrefix,
    pub(crate) changed: bool,
    /// Where it stands.
    pub(crate) slot: Slot,
    /// Of a pending version: when it becomes visible, microseconds since 1970 UTC.
    pub(crate) due: Option<i64>,
    /// Whether there is nothing any more.
    pub(crate) removed: bool,
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
    /// Held from the check that a path is free until it is taken: else two writers could both find it free.
    path_locks: Box<[Arc<Mutex<()>>]>,
    workers: Workers,
}

impl Publishing {
    pub(crate) fn new(store: Arc<Store>, log: Arc<dyn Log>, clock: Clock) -> Publishing {
        let path_locks = (0..256).map(|_| Arc::default()).collect();
        Publishing { store, log, clock, path_locks, workers: Workers::new() }
    }

    /// Makes all changes or none. `request`: the request_id and a hash of what it asks for.
    ///
    /// # Errors
    /// A change is not allowed, a precondition does not hold, or the store cannot write.
    pub(crate) async fn commit(
        &self,
        changes: Vec<Change>,
        request: Option<(String, Hash)>,
    ) -> Result<(Vec<Written>, Position), Refusal> {
        let now = self.clock.now();
        let bytes = changes.iter().map(Change::bytes).sum();
        let drafts = self.workers.run(bytes, move |stop| drafts(changes, now, stop)).await?;
        let erases = drafts.iter().any(Draft::erases);
        let drafts: Arc<[Draft]> = drafts.into();
        for _ in 0..ATTEMPTS {
            let _paths = self.lock_paths(&drafts).await;
            let (states, past) = self.read(&drafts, request.as_ref()).await?;
            if let Some(past) = past {
                let same = request.as_ref().is_some_and(|(_, hash)| *hash == past.hash);
                if !same {
                    return Err(Refusal::RequestIdReused);
                }
                if erases {
                    // The first one may have been cut off before it had erased: the log has to do it again.
                    self.append(vec![Commit { steps: Vec::new(), request, time: now, erases }]).await?;
                }
                return Ok(self.repeat(&drafts, &past.made));
            }
            if states.len() < drafts.len() {
                let value = limit::COMMIT_READ.maximum + 1;
                return Err(Refusal::Limit { field: "changes".into(), limit: &limit::COMMIT_READ, value });
            }
            let steps = self.plan(&drafts, states, now).await?;
            if request.is_none() && !erases && steps.iter().all(|step| matches!(step, Step::Unchanged(_))) {
                return Ok((written(&drafts, &found(&steps)), Position::of(&self.store.head())));
            }
            let commit = Commit { steps, request: request.clone(), time: now, erases };
            match self.append(vec![commit]).await?.pop() {
                Some(Outcome::Committed(made, position)) => return Ok((written(&drafts, &made), position)),
                Some(Outcome::Duplicate(made)) => return Ok(self.repeat(&drafts, &made)),
                Some(Outcome::Reused) => return Err(Refusal::RequestIdReused),
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
            let _paths = self.lock_paths(&drafts).await;
            let (states, _) = self.read(&drafts, None).await?;
            let unread = round.split_off(states.len());
            let at = self.moment(now);
            let planned =
                self.workers.run(weight(&drafts, &states), move |_| Ok(plan::each(&drafts, &states, at)));
            let round = Round::sort(round, planned.await?);
            for (index, result) in round.settled {
                results[index] = Some(result);
            }
            open = round.waiting;
            open.extend(unread.into_iter().chain(later));
            let (appended, planned): (Numbered, Vec<_>) = round.appends.into_iter().unzip();
            let erases = appended.iter().map(|(_, draft)| draft.erases());
            let encoded = singles(&self.workers, planned.into_iter().zip(erases).collect(), now).await?;
            let (commits, appended) = sort_encoded(appended, encoded, &mut results);
            let outcomes = if commits.is_empty() { Vec::new() } else { self.append(commits).await? };
            let before = open.len();
            for ((index, draft), outcome) in appended.into_iter().zip(outcomes) {
                if let Outcome::Committed(made, at) = outcome {
                    results[index] = written(std::slice::from_ref(&draft), &made).pop().map(Ok);
                    position = at;
                } else {
                    open.push((index, draft));
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
        request: Option<&(String, Hash)>,
    ) -> Result<(Vec<State>, Option<PastRequest>), Refusal> {
        let drafts = drafts.clone();
        let id = request.map(|(id, _)| id.clone());
        // Of one moment: a request that landed between the two would be told that its own write is in its way.
        let read = move |connection: &store::Connection| {
            let moment = connection.unchecked_transaction()?;
            let past = id.map_or(Ok(None), |id| store::read::request(&moment, &id))?;
            let (mut states, mut bytes) = (Vec::with_capacity(drafts.len()), 0);
            for draft in drafts.iter() {
                let state = State::read(&moment, draft)?;
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

    /// In the order of the stripes, so that two writers cannot wait for each other.
    async fn lock_paths(&self, drafts: &[Draft]) -> Vec<OwnedMutexGuard<()>> {
        let stripe =
            |path: &str| xxhash_rust::xxh3::xxh3_64(path.as_bytes()) as usize % self.path_locks.len();
        let mut stripes: Vec<usize> =
            drafts.iter().filter_map(|draft| draft.wanted_path()).map(|p| stripe(&p)).collect();
        stripes.sort_unstable();
        stripes.dedup();
        let mut guards = Vec::with_capacity(stripes.len());
        for stripe in stripes {
            guards.push(self.path_locks[stripe].clone().lock_owned().await);
        }
        guards
    }

    fn repeat(&self, drafts: &[Draft], made: &[Made]) -> (Vec<Written>, Position) {
        (written(drafts, made), Position::of(&self.store.head()))
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
    appends: Vec<((usize, Draft), Planned)>,
    /// For the next round, in order.
    waiting: Numbered,
}

impl Round {
    /// A change that wants a path whose owner may give it up earlier in the round waits, and all after it.
    fn sort(drafts: Numbered, planned: Vec<Result<Planned, Refusal>>) -> Round {
        let (mut round, mut before) = (Round::default(), HashSet::new());
        for ((index, draft), planned) in drafts.into_iter().zip(planned) {
            let early = matches!(&planned, Err(Refusal::PathTaken { owner, .. }) if before.contains(owner));
            if early || !round.waiting.is_empty() {
                round.waiting.push((index, draft));
                continue;
            }
            before.insert(draft.name.clone());
            match planned {
                Err(refusal) => round.settled.push((index, Err(refusal))),
                Ok(Planned::Unchanged(found)) if !draft.erases() => {
                    let found = written(std::slice::from_ref(&draft), &[found]).pop();
                    round.settled.extend(found.map(|found| (index, Ok(found))));
                }
                Ok(append) => round.appends.push(((index, draft), append)),
            }
        }
        round
    }
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

/// The same for commits of one change each, with whether they erase, on as many threads as there are cores: an
/// import waits for nothing else.
async fn singles(
    workers: &Workers,
    mut planned: Vec<(Planned, bool)>,
    time: i64,
) -> Result<Vec<Result<Commit, Refusal>>, Refusal> {
    let commit =
        move |(planned, erases)| Ok(Commit { steps: encode(vec![planned])?, request: None, time, erases });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = planned.len().div_ceil(cores).max(SHARE);
    let mut parts = Vec::with_capacity(cores);
    while !planned.is_empty() {
        let rest = planned.split_off(share.min(planned.len()));
        let part = std::mem::replace(&mut planned, rest);
        let bytes = part.iter().map(|(planned, _)| planned.bytes()).sum();
        parts.push(workers.run(bytes, move |_| Ok(part.into_iter().map(commit).collect::<Vec<_>>())));
    }
    Ok(futures_util::future::try_join_all(parts).await?.into_iter().flatten().collect())
}

/// Refuses an entry that the store could not read.
fn encode(planned: Vec<Planned>) -> Result<Vec<Step>, Refusal> {
    let entries = |planned: &Planned| match planned {
        Planned::Append { entries, .. } => entries.len(),
        Planned::Unchanged(_) => 0,
    };
    let size = u32::try_from(planned.iter().map(entries).sum::<usize>()).unwrap_or(u32::MAX);
    let mut index = 0;
    let mut change = |name: &Name, slot, mut log: LogEntry, expected| {
        (log.commit_index, log.commit_size) = (index, size);
        index += 1;
        let entry = Entry::new(name.clone(), slot, log);
        let packed = envelope::pack(&entry.bytes).map_err(|too_large| Refusal::Limit {
            field: name.to_string(),
            limit: &MAX_ENTRY,
            value: too_large.0 as u64,
        })?;
        Ok(crate::log::Change { entry, packed, expected })
    };
    let step = |planned| match planned {
        Planned::Unchanged(found) => Ok(Step::Unchanged(found)),
        Planned::Append { name, entries, expected } => {
            let changes = entries.into_iter().map(|(slot, log)| change(&name, slot, log, expected));
            Ok(Step::Append(changes.collect::<Result<_, Refusal>>()?))
        }
    };
    planned.into_iter().map(step).collect()
}

fn found(steps: &[Step]) -> Vec<Made> {
    let found = |step: &Step| match step {
        Step::Unchanged(found) => Some(*found),
        Step::Append(_) => None,
    };
    steps.iter().filter_map(found).collect()
}

fn written(drafts: &[Draft], made: &[Made]) -> Vec<Written> {
    let one = |(draft, made): (&Draft, &Made)| Written {
        name: draft.name.clone(),
        revision: made.revision.abs(),
        prefix: made.prefix,
        changed: made.revision > 0,
        slot: made.slot,
        due: made.due,
        removed: draft.removes(),
    };
    drafts.iter().zip(made).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::{name, noise};

    fn planned(headline: usize) -> Planned {
        let content = noise(1, headline).into_bytes().into();
        let log = LogEntry { content, ..Default::default() };
        let expected = crate::log::Expected { live: 0, pending: 0 };
        Planned::Append { name: name("a"), entries: vec![(Slot::Live, log)], expected }
    }

    #[test]
    fn an_entry_that_could_not_be_read_is_refused_by_name() {
        assert!(encode(vec![planned((2 << 20) - 100)]).is_ok());
        let refused = encode(vec![planned(100), planned(2 << 20)]).unwrap_err();
        assert!(refused.to_string().starts_with("articles/a: 20"), "{refused}");
        assert!(matches!(refused, Refusal::Limit { limit: &MAX_ENTRY, value, .. } if value > 2 << 20));
    }

    #[tokio::test]
    async fn an_entry_that_is_too_large_holds_up_no_other() {
        let encoded = singles(&Workers::new(), vec![(planned(2 << 20), false), (planned(100), false)], 1)
            .await
            .unwrap();
        assert!(encoded[0].is_err() && encoded[1].is_ok());
    }
}
