//! What happens because its time has come: pending versions appear, live articles expire. Nobody asks for it, so nobody
//! is refused: what cannot be done now is done later.

use std::{sync::Arc, time::Duration};

use super::{
    Publishing, Single,
    plan::{self, Rivals, State},
    singles,
};
use crate::{
    log::Commit,
    model::Slot,
    refusal::Refusal,
    store::{
        Connection, Error,
        due::{self, Due},
    },
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
            let mut planned = Vec::with_capacity(found.len());
            for (due, state, rivals) in found {
                if due.slot == Slot::Pending {
                    failed = failed.or(state.readable(&due.name, due.slot).err().map(Refusal::from));
                }
                let comes = plan::come(&due, &state, &rivals, self.moment(now));
                if !comes.is_empty() {
                    planned.push(Single { planned: comes, displaces: rivals.damaged, erases: false });
                }
            }
            let encoded = singles(&self.workers, planned, now).await?;
            let (commits, refused): (Vec<_>, Vec<_>) = encoded.into_iter().partition(Result::is_ok);
            failed = failed.or(refused.into_iter().find_map(Result::err));
            failed = failed.or(self.append_due(commits.into_iter().flatten().collect()).await?);
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
