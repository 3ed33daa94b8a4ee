//! Imports: many changes, each committed on its own, in order.

use std::{collections::HashSet, sync::Arc};

use super::{
    Change, MAX_ATTEMPTS, Publishing, Single, content_bytes, encode_single,
    plan::{Decision, Draft, Planned, plan_each},
    workers::{Stop, Workers},
};
use crate::{
    audit::Origin,
    log::{Commit, Outcome, Position},
    model::Name,
    refusal::Refusal,
    store::WriteOutcome,
    wire::v1::KeepReason,
};

/// The number of changes that justify another thread to encode them.
const MIN_CHANGES_PER_THREAD: usize = 4;

/// Changes that have been checked against the rules that need no store, in their order.
pub(crate) struct Checked {
    drafts: Vec<Result<Draft, Refusal>>,
    now: i64,
}

/// The outcome of one record.
#[derive(Debug)]
pub(crate) enum Imported {
    Stored {
        /// Whether the record was written, and not stored before.
        changed: bool,
        omitted_path: Option<OmittedPath>,
    },
    /// The store keeps its version.
    Kept(KeepReason),
}

/// A path that an article was written without, and the article that has it.
#[derive(Debug)]
pub(crate) struct OmittedPath {
    pub(crate) path: String,
    pub(crate) owner: Name,
}

impl Imported {
    fn of(draft: &Draft, changed: bool, path_owner: Option<Name>) -> Imported {
        let omitted_path = draft.requested_path().zip(path_owner);
        let omitted_path = omitted_path.map(|(path, owner)| OmittedPath { path, owner });
        Imported::Stored { changed, omitted_path }
    }

    fn stored(draft: &Draft, written: WriteOutcome) -> Imported {
        Imported::of(draft, written.changed, written.path_owner)
    }
}

impl Publishing {
    /// Checks changes for [`Publishing::commit_each`], as far as that needs no store: some 40 µs per article.
    ///
    /// # Errors
    /// Fails if too many writes are waiting to be checked.
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

    /// Commits each change on its own, in order. A change that is rejected delays no other.
    ///
    /// # Errors
    /// Fails if the store cannot write. Changes that were committed before the failure remain.
    pub(crate) async fn commit_each(
        &self,
        checked: Checked,
        origin: &Arc<Origin>,
    ) -> Result<(Vec<Result<Imported, Refusal>>, Position), Refusal> {
        let Checked { drafts, now } = checked;
        let (results, open) = index_results(drafts);
        let mut progress =
            Progress { results, open, position: Position::of(&self.store.head()), conflicts: 0 };
        while !progress.open.is_empty() && progress.conflicts < MAX_ATTEMPTS {
            self.commit_round(&mut progress, now, origin).await?;
        }
        let conflict = || Err(Refusal::WriteConflict { attempts: MAX_ATTEMPTS });
        let results = progress.results.into_iter().map(|result| result.unwrap_or_else(conflict)).collect();
        Ok((results, progress.position))
    }

    /// Commits the open changes up to the second one of a name. Those that have to be planned again remain open.
    async fn commit_round(
        &self,
        progress: &mut Progress,
        now: i64,
        origin: &Arc<Origin>,
    ) -> Result<(), Refusal> {
        let (mut round, later) = split_at_duplicate(std::mem::take(&mut progress.open));
        let drafts: Arc<[Draft]> = round.iter().map(|(_, draft)| draft.clone()).collect();
        let (states, _) = self.read(&drafts, None, now).await?;
        let unread = round.split_off(states.len());
        let context = self.plan_context(now);
        let planned = self
            .workers
            .run(content_bytes(&drafts, &states), move |_| Ok(plan_each(&drafts, &states, context)));
        let round = Round::partition(round, planned.await?);
        for (index, result) in round.settled {
            progress.results[index] = Some(result);
        }
        progress.open = unread.into_iter().chain(later).collect();
        let (appended, planned): (IndexedDrafts, Vec<_>) = round.appends.into_iter().unzip();
        let encoded = encode_singly(&self.workers, planned, now, origin).await?;
        let (commits, appended) = partition_encoded(appended, encoded, &mut progress.results);
        let outcomes = if commits.is_empty() { Vec::new() } else { self.append(commits).await? };
        progress.add(appended, outcomes);
        Ok(())
    }
}

/// The state of [`Publishing::commit_each`] between two rounds.
struct Progress {
    results: Results,
    open: IndexedDrafts,
    /// The position after the last commit.
    position: Position,
    /// The number of rounds in which another writer was faster.
    conflicts: usize,
}

impl Progress {
    fn add(&mut self, appended: IndexedDrafts, outcomes: Vec<Outcome>) {
        let (mut replanned, mut is_conflict) = (HashSet::new(), false);
        for ((index, mut draft), outcome) in appended.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Committed(mut written, at) => {
                    self.results[index] = written.pop().map(|written| Ok(Imported::stored(&draft, written)));
                    self.position = at;
                    continue;
                }
                // The article is written without the path. An owner that is planned again may release it.
                Outcome::PathTaken { owner, .. } if !replanned.contains(&owner) => {
                    draft.path_owner = Some(owner);
                }
                _ => is_conflict = true,
            }
            replanned.insert(draft.name.clone());
            self.open.push((index, draft));
        }
        self.conflicts += usize::from(is_conflict);
        self.open.sort_unstable_by_key(|(index, _)| *index);
    }
}

type Results = Vec<Option<Result<Imported, Refusal>>>;

/// Returns a slot for the result of each change, and the drafts that passed the check, each with its index.
fn index_results(drafts: Vec<Result<Draft, Refusal>>) -> (Results, IndexedDrafts) {
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

/// Returns the commits that were encoded, with their drafts. The other drafts get a refusal as result.
fn partition_encoded(
    drafts: IndexedDrafts,
    encoded: Vec<Result<Commit, Refusal>>,
    results: &mut Results,
) -> (Vec<Commit>, IndexedDrafts) {
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

/// The results of one round of changes, each on its own.
#[derive(Default)]
struct Round {
    settled: Vec<(usize, Result<Imported, Refusal>)>,
    appends: Vec<((usize, Draft), Single)>,
}

impl Round {
    fn partition(drafts: IndexedDrafts, decisions: Vec<Result<Decision, Refusal>>) -> Round {
        let mut round = Round::default();
        for ((index, draft), decision) in drafts.into_iter().zip(decisions) {
            let erases = draft.erases() && !draft.is_dry_run();
            let result = match decision {
                Err(refusal) => Err(refusal),
                Ok(Decision::Kept(reason)) => Ok(Imported::Kept(reason)),
                Ok(Decision::Planned(Planned::Unchanged { found, .. })) if !erases => {
                    Ok(Imported::stored(&draft, found))
                }
                Ok(Decision::Planned(planned)) if draft.is_dry_run() => {
                    Ok(Imported::of(&draft, true, planned.path_owner().cloned()))
                }
                Ok(Decision::Planned(planned)) => {
                    let single = Single { planned: vec![planned], displaces: Vec::new(), erases };
                    round.appends.push(((index, draft), single));
                    continue;
                }
            };
            round.settled.push((index, result));
        }
        round
    }
}

type IndexedDrafts = Vec<(usize, Draft)>;

fn split_at_duplicate(mut drafts: IndexedDrafts) -> (IndexedDrafts, IndexedDrafts) {
    let mut seen = HashSet::new();
    let repeated = drafts.iter().position(|(_, draft)| !seen.insert(&draft.name));
    let later = drafts.split_off(repeated.unwrap_or(drafts.len()));
    (drafts, later)
}

/// Encodes many small commits on as many threads as there are cores, because an import waits for nothing else.
pub(super) async fn encode_singly(
    workers: &Workers,
    mut planned: Vec<Single>,
    time: i64,
    origin: &Arc<Origin>,
) -> Result<Vec<Result<Commit, Refusal>>, Refusal> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = planned.len().div_ceil(cores).max(MIN_CHANGES_PER_THREAD);
    let mut parts = Vec::with_capacity(cores);
    while !planned.is_empty() {
        let rest = planned.split_off(share.min(planned.len()));
        let part = std::mem::replace(&mut planned, rest);
        let bytes = part.iter().flat_map(|single| &single.planned).map(Planned::bytes).sum();
        let origin = origin.clone();
        let commit = move |single| encode_single(single, time, origin.clone());
        parts.push(workers.run(bytes, move |_| Ok(part.into_iter().map(commit).collect::<Vec<_>>())));
    }
    Ok(futures_util::future::try_join_all(parts).await?.into_iter().flatten().collect())
}
