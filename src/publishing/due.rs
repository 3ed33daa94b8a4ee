//! What happens because its time has come: pending versions appear, live articles expire. Nobody asks for it, so nobody
//! is refused: what cannot be done now is done later.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use super::{
    Publishing, Single, encode_single,
    plan::{self, Moment, Rivals, State},
    workers::Stop,
};
use crate::{
    health::Health,
    log::Commit,
    model::Slot,
    refusal::Refusal,
    store::{
        Connection, Error,
        due::{self, Due},
    },
    supervise,
};

/// Changes that are planned and appended at once: at most 32 articles of 1 MiB are in memory.
const BATCH: usize = 32;

/// How long to wait after a failure, such as a full disk.
const PAUSE: Duration = Duration::from_secs(1);

/// Makes what has come due happen, at once for all that did while the node was down. Never returns.
pub(crate) async fn keep(publishing: Arc<Publishing>) {
    let mut next = publishing.store.next_due();
    let mut failing = false;
    loop {
        let earliest = *next.borrow_and_update();
        tokio::select! {
            () = reached(&publishing, earliest) => {}
            Ok(()) = next.changed() => continue,
        }
        let done = publishing.catch_up().await;
        if let Err(error) = &done {
            if !failing {
                tracing::error!(error = error as &dyn std::error::Error, "what is due cannot be done yet");
            }
            let pause = i64::try_from(PAUSE.as_micros()).unwrap_or(i64::MAX);
            publishing.clock.reached(publishing.clock.now().saturating_add(pause)).await;
        }
        failing = done.is_err();
    }
}

async fn reached(publishing: &Publishing, time: Option<i64>) {
    match time {
        Some(time) => publishing.clock.reached(time).await,
        None => std::future::pending().await,
    }
}

/// Up to [`BATCH`] of what is due, with what there is under each name, and who loses a path to it.
type Found = Vec<(Due, State, Rivals)>;

impl Publishing {
    /// One pass over what is due. A change that meets a faster one is left to the next pass.
    ///
    /// # Errors
    /// The first failure. A damaged record holds up no other, and a version that has no room no expiry.
    pub(super) async fn catch_up(&self) -> Result<(), Refusal> {
        let now = self.clock.now();
        let (mut last, mut failed) = (None, None);
        loop {
            let after = last.clone();
            let found = self.store.read(move |connection| read(connection, now, after.as_ref())).await?;
            let Some((due, ..)) = found.last() else { return failed.map_or(Ok(()), Err) };
            last = Some(due.clone());
            let (bytes, at) = (found.iter().map(bytes).sum(), self.moment(now));
            let health = self.store.health().clone();
            let plan = move |_: &Stop| {
                Ok(found.into_iter().map(|found| alone(found, at, &health)).collect::<Vec<_>>())
            };
            let planned = self.workers.run(bytes, plan).await?;
            let (commits, refused): (Vec<_>, Vec<_>) = planned.into_iter().partition(Result::is_ok);
            failed = failed.or(refused.into_iter().find_map(Result::err));
            failed = failed.or(self.append_due(commits.into_iter().flatten().flatten().collect()).await?);
        }
    }

    /// Appends what has come due. Without room, only removals: the refusal of the others is returned.
    async fn append_due(&self, commits: Vec<Commit>) -> Result<Option<Refusal>, Refusal> {
        if commits.is_empty() {
            return Ok(None);
        }
        match self.append(commits).await {
            Ok(_) => Ok(None),
            Err(full @ Refusal::Store(Error::Full { .. } | Error::NoSpace(_))) => Ok(Some(full)),
            Err(refusal) => Err(refusal),
        }
    }
}

/// Bytes of content that planning works on.
fn bytes((_, state, rivals): &(Due, State, Rivals)) -> usize {
    state.bytes() + rivals.losers.iter().map(|(_, loser)| loser.bytes()).sum::<usize>()
}

/// The commit of one thing that is due; none, if it no longer is. Should planning panic, the others go on: otherwise one
/// version that always does would end the node at each start.
fn alone(
    (due, state, rivals): (Due, State, Rivals),
    at: Moment,
    health: &Health,
) -> Result<Option<Commit>, Refusal> {
    let planned = catch_unwind(AssertUnwindSafe(|| {
        supervise::failpoint(due.name.id.as_str(), health);
        if due.slot == Slot::Pending {
            state.readable(&due.name, due.slot)?;
        }
        let planned = plan::come(&due, &state, &rivals, at);
        if planned.is_empty() {
            return Ok(None);
        }
        encode_single(Single { planned, displaces: rivals.damaged, erases: false }, at.now).map(Some)
    }));
    planned.unwrap_or_else(|_| {
        tracing::error!(name = %due.name, "planning what is due has panicked");
        Err(Refusal::Internal("planning what is due has panicked"))
    })
}

/// Of one moment: what is due is there.
fn read(connection: &Connection, now: i64, after: Option<&Due>) -> Result<Found, Error> {
    let moment = connection.unchecked_transaction()?;
    let found = due::by(&moment, now, after, BATCH)?;
    let with_state = |due: Due| {
        let state = State::of(&moment, &due.name)?;
        let rivals = Rivals::of(&moment, &due.name, &state)?;
        Ok((due, state, rivals))
    };
    found.into_iter().map(with_state).collect()
}
