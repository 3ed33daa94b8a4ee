//! The scheduler: publishes pending versions and expires live articles when they are due. It acts on no request, so a
//! change that fails is rejected to no caller: it is retried later.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use super::{
    Publishing, Single, encode_single,
    plan::{self, PlanContext, Rivals, State},
    workers::Stop,
};
use crate::{
    audit::Origin,
    clock,
    health::Health,
    log::Commit,
    model::Slot,
    refusal::Refusal,
    store::{Error, Snapshot, due::Due},
    supervise,
};

/// The maximum number of changes that are planned and appended together. At most 32 articles of 1 MiB are in memory.
const MAX_BATCH: usize = 32;

/// The content that is appended together, in bytes. It is a small part of the log's queue, so that steady writes cannot
/// keep due changes out of the queue.
pub(super) const MAX_APPEND_BYTES: usize = 8 << 20;

/// The delay after a failure, such as a full disk.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Runs the scheduler: applies every change that is due, including all that became due while the node was down. Never
/// returns.
pub(crate) async fn run_scheduler(publishing: Arc<Publishing>) {
    let mut next = publishing.store.next_due();
    let mut failing = false;
    loop {
        let earliest = *next.borrow_and_update();
        tokio::select! {
            () = wait_until(&publishing, earliest) => {}
            Ok(()) = next.changed() => continue,
        }
        let result = publishing.apply_due().await;
        if let Err(error) = &result {
            if !failing {
                tracing::error!(
                    error = error as &dyn std::error::Error,
                    "scheduled publishing failed; will retry"
                );
            }
            let retry_time = publishing.clock.now().saturating_add(clock::micros(RETRY_DELAY));
            publishing.clock.sleep_until(retry_time).await;
        }
        failing = result.is_err();
    }
}

async fn wait_until(publishing: &Publishing, time: Option<i64>) {
    match time {
        Some(time) => publishing.clock.sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Up to [`MAX_BATCH`] due changes, each with the state of its name and the articles that lose a path to it.
type DueBatch = Vec<(Due, State, Rivals)>;

impl Publishing {
    /// Makes one pass over the due changes. A change that conflicts with a faster write is left to the next pass.
    ///
    /// # Errors
    /// Returns the first failure. A damaged record delays no other change, and a version that does not fit on the disk
    /// delays no expiry.
    pub(super) async fn apply_due(&self) -> Result<(), Refusal> {
        let now = self.clock.now();
        let (mut last, mut failed) = (None, None);
        loop {
            let after = last.clone();
            let found = self.store.read(move |snapshot| read(snapshot, now, after.as_ref())).await?;
            let Some((due, ..)) = found.last() else { return failed.map_or(Ok(()), Err) };
            last = Some(due.clone());
            let (bytes, context) = (found.iter().map(bytes).sum(), self.plan_context(now));
            let health = self.store.health().clone();
            let origin = Arc::new(Origin::scheduler());
            let plan = move |_: &Stop| {
                let plan = |found| plan_single(found, context, &health, &origin);
                Ok(found.into_iter().map(plan).collect::<Vec<_>>())
            };
            let planned = self.workers.run(bytes, plan).await?;
            let (commits, failures): (Vec<_>, Vec<_>) = planned.into_iter().partition(Result::is_ok);
            failed = failed.or(failures.into_iter().find_map(Result::err));
            for slice in split_appends(commits.into_iter().flatten().flatten()) {
                failed = failed.or(self.append_due(slice).await?);
            }
        }
    }

    /// Appends the due changes. Without space on the disk it appends removals only, and returns the refusal of the
    /// others.
    async fn append_due(&self, commits: Vec<Commit>) -> Result<Option<Refusal>, Refusal> {
        match self.append(commits).await {
            Ok(_) => Ok(None),
            Err(full @ Refusal::Store(Error::Full { .. } | Error::NoSpace(_))) => Ok(Some(full)),
            Err(refusal) => Err(refusal),
        }
    }
}

/// Splits commits into appends of at most [`MAX_APPEND_BYTES`]. A larger commit is an append of its own.
fn split_appends(commits: impl Iterator<Item = Commit>) -> Vec<Vec<Commit>> {
    let mut slices: Vec<Vec<Commit>> = Vec::new();
    let mut room = 0;
    for commit in commits {
        let bytes = commit.bytes();
        match slices.last_mut() {
            Some(slice) if bytes <= room => {
                slice.push(commit);
                room -= bytes;
            }
            _ => {
                slices.push(vec![commit]);
                room = MAX_APPEND_BYTES.saturating_sub(bytes);
            }
        }
    }
    slices
}

/// Returns the size of the content that planning works on, in bytes.
fn bytes((_, state, rivals): &(Due, State, Rivals)) -> usize {
    state.bytes() + rivals.losers.iter().map(|(_, loser)| loser.bytes()).sum::<usize>()
}

/// Returns the commit of one due change, or `None` if it is no longer due. If planning panics, the others continue:
/// otherwise one version that always panics would end the node at each start.
fn plan_single(
    (due, state, rivals): (Due, State, Rivals),
    context: PlanContext,
    health: &Health,
    origin: &Arc<Origin>,
) -> Result<Option<Commit>, Refusal> {
    let planned = catch_unwind(AssertUnwindSafe(|| {
        supervise::failpoint(due.name.id.as_str(), health);
        if due.slot == Slot::Pending {
            state.check_readable(&due.name, due.slot)?;
        }
        let planned = plan::plan_due(&due, &state, &rivals, context);
        if planned.is_empty() {
            return Ok(None);
        }
        let single = Single { planned, displaces: rivals.damaged, erases: false };
        encode_single(single, context.now, origin.clone()).map(Some)
    }));
    planned.unwrap_or_else(|_| {
        tracing::error!(name = %due.name, "planning of a due change panicked");
        Err(Refusal::Internal("planning of a due change panicked"))
    })
}

/// Reads due changes and their states from one snapshot, so that each due change is in its state.
fn read(snapshot: Snapshot<'_>, now: i64, after: Option<&Due>) -> Result<DueBatch, Error> {
    let found = snapshot.due_by(now, after, MAX_BATCH)?;
    let with_state = |due: Due| {
        let state = State::of(snapshot, &due.name)?;
        let rivals = Rivals::of(snapshot, &due.name, &state)?;
        Ok((due, state, rivals))
    };
    found.into_iter().map(with_state).collect()
}
