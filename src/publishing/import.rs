//! Imports: many changes, each committed on its own, in order.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    Change, MAX_ATTEMPTS, Publishing, Single, content_bytes, encode_single, moved_in_loop,
    plan::{Decision, Draft, Found, Planned, Rehearsal, plan_each},
    workers::{Stop, Workers},
};
use crate::{
    audit::Origin,
    log::{Commit, Outcome, Position},
    model::{Name, limit},
    refusal::Refusal,
    store::{Snapshot, WriteOutcome},
    wire::v1::KeepReason,
};

/// The number of changes that justify another thread to encode them.
const MIN_CHANGES_PER_THREAD: usize = 4;

/// Changes that have been checked against the rules that need no store, in their order.
pub(crate) struct Checked {
    drafts: Vec<Result<Draft, Refusal>>,
    now: i64,
}

impl Checked {
    /// Returns whether nothing is written.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.drafts.iter().flatten().any(Draft::is_dry_run)
    }
}

/// Checked changes of which the first ones have been planned and encoded.
pub(crate) struct Prepared {
    /// The plans of the first changes, up to the second change of a name.
    steps: Vec<Step>,
    /// The changes without a plan.
    open: IndexedDrafts,
    results: Results,
    /// The index of the last change of each name.
    newest: HashMap<Name, usize>,
    now: i64,
}

impl Prepared {
    /// Returns the names that are changed.
    pub(crate) fn names(&self) -> HashSet<Name> {
        self.newest.keys().cloned().collect()
    }

    /// Undoes the plans that changes of other names, written after the plans were made, may affect: from the first such
    /// plan on, so that the order remains.
    pub(crate) fn replan_after(&mut self, written: &HashSet<Name>) {
        if written.is_empty() {
            return;
        }
        let first = self.steps.iter().position(|step| step.may_depend_on(written));
        let undone = self.steps.split_off(first.unwrap_or(self.steps.len()));
        let undone = undone.into_iter().map(|step| (step.index, step.draft));
        self.open = undone.chain(std::mem::take(&mut self.open)).collect();
    }
}

/// The plan of one change.
struct Step {
    index: usize,
    draft: Draft,
    /// Whether the plan depends on the owner of a path.
    asks_owner: bool,
    action: Action,
}

enum Action {
    /// Nothing is written.
    Settled(Result<Imported, Refusal>),
    Append(Commit),
}

impl Step {
    /// Returns whether the plan may be another one after changes of these names. A commit checks by itself that its name
    /// has not changed and that its path is free.
    fn may_depend_on(&self, written: &HashSet<Name>) -> bool {
        self.asks_owner || written.contains(&self.draft.name)
    }
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

    /// Returns the article that has the path that this one was written without.
    fn path_owner(&self) -> Option<&Name> {
        match self {
            Imported::Stored { omitted_path, .. } => omitted_path.as_ref().map(|omitted| &omitted.owner),
            Imported::Kept(_) => None,
        }
    }

    /// Returns the outcome of a record that was imported again, to give it its path.
    fn after(self, second: Option<Result<Imported, Refusal>>) -> Imported {
        match (self, second) {
            (
                Imported::Stored { changed: first, .. },
                Some(Ok(Imported::Stored { changed, omitted_path })),
            ) => Imported::Stored { changed: first || changed, omitted_path },
            (first, _) => first,
        }
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

    /// Plans and encodes the first changes for [`Publishing::commit_each`].
    ///
    /// # Errors
    /// Fails if the store cannot be read, or if too many writes are waiting.
    pub(crate) async fn prepare(&self, checked: Checked, origin: &Arc<Origin>) -> Result<Prepared, Refusal> {
        let Checked { drafts, now } = checked;
        let (results, mut open) = index_results(drafts);
        let newest = newest_of_each_name(&open);
        let steps = self.plan_round(&mut open, now, origin).await?;
        Ok(Prepared { steps, open, results, newest, now })
    }

    /// Commits each change on its own, in order. A change that is rejected delays no other. An article whose path a
    /// later change releases is written without the path first, and then with it.
    ///
    /// # Errors
    /// Fails if the store cannot write. Changes that were committed before the failure remain.
    pub(crate) async fn commit_each(
        &self,
        prepared: Prepared,
        origin: &Arc<Origin>,
    ) -> Result<(Vec<Result<Imported, Refusal>>, Position), Refusal> {
        let Prepared { steps, open, results, newest, now } = prepared;
        let position = Position::of(&self.store.head());
        let mut progress = Progress { results, open, omitted: Vec::new(), position, conflicts: 0 };
        self.append_round(&mut progress, steps).await?;
        self.commit_rounds(&mut progress, now, origin).await?;
        let omitted = std::mem::take(&mut progress.omitted);
        let (again, firsts) = take_waiting(omitted, &newest, &mut progress.results);
        if !again.is_empty() {
            (progress.open, progress.conflicts) = (again, 0);
            self.commit_rounds(&mut progress, now, origin).await?;
            merge(firsts, &mut progress.results);
        }
        Ok((finish(progress.results), progress.position))
    }

    async fn commit_rounds(
        &self,
        progress: &mut Progress,
        now: i64,
        origin: &Arc<Origin>,
    ) -> Result<(), Refusal> {
        while !progress.open.is_empty() && progress.conflicts < MAX_ATTEMPTS {
            let steps = self.plan_round(&mut progress.open, now, origin).await?;
            self.append_round(progress, steps).await?;
        }
        Ok(())
    }

    /// Decides about each change of a dry run, in order, as [`Publishing::commit_each`] would, and writes nothing.
    ///
    /// # Errors
    /// Fails if the store cannot be read.
    pub(crate) async fn rehearse(
        &self,
        checked: Checked,
        rehearsal: &mut Rehearsal,
    ) -> Result<(Vec<Result<Imported, Refusal>>, Position), Refusal> {
        let Checked { drafts, now } = checked;
        let (mut results, open) = index_results(drafts);
        let newest = newest_of_each_name(&open);
        let omitted = self.rehearse_round(open, now, rehearsal, &mut results).await?;
        let (again, firsts) = take_waiting(omitted, &newest, &mut results);
        self.rehearse_round(again, now, rehearsal, &mut results).await?;
        merge(firsts, &mut results);
        Ok((finish(results), Position::of(&self.store.head())))
    }

    /// Returns the drafts whose articles would be stored without their paths.
    async fn rehearse_round(
        &self,
        drafts: IndexedDrafts,
        now: i64,
        rehearsal: &mut Rehearsal,
        results: &mut Results,
    ) -> Result<IndexedDrafts, Refusal> {
        let drafts: Arc<[(usize, Draft)]> = drafts.into();
        let (context, mut omitted) = (self.plan_context(now), Vec::new());
        let mut next = 0;
        while next < drafts.len() {
            let found = self.find(drafts.clone(), next).await?;
            let part = next..next + found.len();
            next = part.end;
            let judged = drafts[part.clone()].iter().zip(&found);
            let bytes = judged.map(|((_, draft), found)| draft.bytes() + found.bytes()).sum();
            let (all, mut state) = (drafts.clone(), std::mem::take(rehearsal));
            let judge = move |stop: &Stop| {
                let mut judge = |((_, draft), found): (&(usize, Draft), Found)| {
                    stop.check().map(|()| state.judge(draft, found, context))
                };
                let decisions = all[part].iter().zip(found).map(&mut judge).collect::<Result<Vec<_>, _>>()?;
                Ok((decisions, state))
            };
            let (decisions, state) = self.workers.run(bytes, judge).await?;
            *rehearsal = state;
            for ((index, draft), decision) in drafts[next - decisions.len()..next].iter().zip(decisions) {
                let result = decision.map(|decision| rehearsed(draft, decision));
                if result.as_ref().is_ok_and(|imported| imported.path_owner().is_some()) {
                    omitted.push((*index, draft.clone()));
                }
                results[*index] = Some(result);
            }
        }
        Ok(omitted)
    }

    /// Reads what the store holds for the drafts from an index on, up to the read limit of one commit.
    async fn find(&self, drafts: Arc<[(usize, Draft)]>, from: usize) -> Result<Vec<Found>, Refusal> {
        let read = move |snapshot: Snapshot<'_>| {
            let (mut all, mut bytes) = (Vec::new(), 0);
            for (_, draft) in &drafts[from..] {
                let found = Found::read(snapshot, draft)?;
                bytes += found.bytes();
                if bytes as u64 > limit::COMMIT_READ.maximum && !all.is_empty() {
                    break;
                }
                all.push(found);
            }
            Ok(all)
        };
        Ok(self.store.read(read).await?)
    }

    /// Plans and encodes the open changes up to the second one of a name. The others remain open.
    async fn plan_round(
        &self,
        open: &mut IndexedDrafts,
        now: i64,
        origin: &Arc<Origin>,
    ) -> Result<Vec<Step>, Refusal> {
        let (mut round, later) = split_at_duplicate(std::mem::take(open));
        let drafts: Arc<[Draft]> = round.iter().map(|(_, draft)| draft.clone()).collect();
        let (states, _) = self.read(&drafts, None, now).await?;
        let unread = round.split_off(states.len());
        *open = unread.into_iter().chain(later).collect();
        let context = self.plan_context(now);
        let bytes = content_bytes(&drafts, &states);
        let asks_owner: Vec<bool> =
            states.iter().zip(&*drafts).map(|(state, draft)| state.asks_owner(draft)).collect();
        let plan = move |_: &Stop| Ok(plan_each(&drafts, &states, context));
        let decisions = self.workers.run(bytes, plan).await?;
        let (mut singles, mut plans) = (Vec::new(), Vec::with_capacity(round.len()));
        for ((_, draft), decision) in round.iter().zip(decisions) {
            plans.push(match decision {
                Err(refusal) => Plan::Settled(Err(refusal)),
                Ok(Decision::Kept(reason)) => Plan::Settled(Ok(Imported::Kept(reason))),
                Ok(Decision::Planned(Planned::Unchanged { found, .. })) if !draft.erases() => {
                    Plan::Settled(Ok(Imported::stored(draft, found)))
                }
                Ok(Decision::Planned(planned)) => {
                    let (planned, erases) = (vec![planned], draft.erases());
                    singles.push(Single { planned, displaces: Vec::new(), erases });
                    Plan::Append
                }
            });
        }
        let mut encoded = encode_singly(&self.workers, singles, now, origin).await?.into_iter();
        let step = |(((index, draft), plan), asks_owner)| {
            let action = match plan {
                Plan::Settled(result) => Action::Settled(result),
                Plan::Append => {
                    encoded.next()?.map_or_else(|error| Action::Settled(Err(error)), Action::Append)
                }
            };
            Some(Step { index, draft, asks_owner, action })
        };
        Ok(round.into_iter().zip(plans).zip(asks_owner).filter_map(step).collect())
    }

    /// Commits planned changes. Those that have to be planned again are open afterwards.
    async fn append_round(&self, progress: &mut Progress, steps: Vec<Step>) -> Result<(), Refusal> {
        let (mut appended, mut commits) = (Vec::new(), Vec::new());
        for Step { index, draft, action, .. } in steps {
            match action {
                Action::Settled(result) => {
                    if result.as_ref().is_ok_and(|imported| imported.path_owner().is_some()) {
                        progress.omitted.push((index, draft));
                    }
                    progress.results[index] = Some(result);
                }
                Action::Append(commit) => {
                    appended.push((index, draft));
                    commits.push(commit);
                }
            }
        }
        if !commits.is_empty() {
            let outcomes = self.append(commits).await?;
            progress.add(appended, outcomes);
        }
        Ok(())
    }
}

/// The plan of one change before it is encoded.
enum Plan {
    Settled(Result<Imported, Refusal>),
    Append,
}

/// The state of [`Publishing::commit_each`] between two rounds.
struct Progress {
    results: Results,
    open: IndexedDrafts,
    /// The drafts whose articles are stored without their paths.
    omitted: IndexedDrafts,
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
                    let imported = written.pop().map(|written| Imported::stored(&draft, written));
                    let is_omitted =
                        imported.as_ref().is_some_and(|imported| imported.path_owner().is_some());
                    self.results[index] = imported.map(Ok);
                    self.omitted.extend(is_omitted.then_some((index, draft)));
                    self.position = at;
                    continue;
                }
                // The article is written without the path. An owner that is planned again may release it.
                Outcome::PathTaken { owner, .. } if !replanned.contains(&owner) => {
                    draft.path_owner = Some(owner);
                }
                Outcome::MovedInLoop { target, is_back, .. } => {
                    self.results[index] = Some(Err(moved_in_loop(&target, is_back)));
                    continue;
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

/// Returns the outcome of a record of a dry run.
fn rehearsed(draft: &Draft, decision: Decision) -> Imported {
    match decision {
        Decision::Kept(reason) => Imported::Kept(reason),
        Decision::Planned(Planned::Unchanged { found, .. }) => Imported::stored(draft, found),
        Decision::Planned(planned) => Imported::of(draft, true, planned.path_owner().cloned()),
    }
}

/// Returns the index of the last draft of each name.
fn newest_of_each_name(drafts: &IndexedDrafts) -> HashMap<Name, usize> {
    drafts.iter().map(|(index, draft)| (draft.name.clone(), *index)).collect()
}

/// Returns the drafts of articles without their paths whose owners are changed by the same drafts and may have released
/// them, and takes their outcomes so far.
fn take_waiting(
    omitted: IndexedDrafts,
    newest: &HashMap<Name, usize>,
    results: &mut Results,
) -> (IndexedDrafts, Vec<(usize, Imported)>) {
    let (mut again, mut firsts) = (Vec::new(), Vec::new());
    for (index, mut draft) in omitted {
        let Some(Ok(first)) = &results[index] else { continue };
        let waits = first.path_owner().is_some_and(|owner| newest.contains_key(owner));
        if waits
            && newest.get(&draft.name) == Some(&index)
            && let Some(Ok(first)) = results[index].take()
        {
            firsts.push((index, first));
            (draft.path_owner, draft.is_repeated) = (None, true);
            again.push((index, draft));
        }
    }
    again.sort_unstable_by_key(|(index, _)| *index);
    (again, firsts)
}

/// Adds the outcomes of the first attempts to those of the second ones.
fn merge(firsts: Vec<(usize, Imported)>, results: &mut Results) {
    for (index, first) in firsts {
        results[index] = Some(Ok(first.after(results[index].take())));
    }
}

fn finish(results: Results) -> Vec<Result<Imported, Refusal>> {
    let conflict = || Err(Refusal::WriteConflict { attempts: MAX_ATTEMPTS });
    results.into_iter().map(|result| result.unwrap_or_else(conflict)).collect()
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
