//! One entity encoded in one shape, and cached: the material of responses.

use std::sync::Arc;

use bytes::Bytes;

use super::Viewer;
use crate::{
    auth::Scope,
    cache::Weigh,
    compose::{self, Shape},
    entry::{self, Derived},
    model::{Kind, LogId, Name, Revision},
    refusal::Refusal,
    store::{self, Record, Snapshot, Store, Stripe, Subject, Tombstone},
};

/// The state of a name in one shape, and the head at which it was read.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: Name,
    /// The head before it was loaded. The part is fresh while the name has not changed since.
    as_of: Revision,
    stripe: Stripe,
    pub(crate) state: State,
}

#[derive(Debug)]
pub(crate) enum State {
    Live {
        revision: Revision,
        /// The time at which the article is listed, in microseconds since 1970 UTC.
        time: i64,
        /// The time at which the article expires, if it does, in microseconds since 1970 UTC.
        expire_time: Option<i64>,
        bytes: Bytes,
        /// Bytes of content that were read for it.
        read: usize,
        /// Names in it that a response can include.
        references: Vec<Name>,
    },
    Gone(Tombstone),
    Absent,
    /// The caller is limited to other articles. To it, the name does not exist.
    Hidden,
    /// It could not be read. This state is never cached.
    Failed(store::Error),
}

impl Part {
    /// Reads parts from the store, in one job. With a scope, the names are those of articles.
    pub(super) async fn load(
        store: &Store,
        log_id: LogId,
        names: Vec<Name>,
        shape: Shape,
        viewer: Viewer,
    ) -> Vec<Arc<Part>> {
        let as_of = store.revision();
        let wanted = names.clone();
        let read = store.read(move |snapshot| {
            let state = |name| {
                let state = match &viewer {
                    None => read_state(snapshot, name, log_id, shape),
                    Some(scope) => read_state_within(snapshot, name, log_id, shape, scope),
                };
                state.unwrap_or_else(State::Failed)
            };
            Ok(wanted.iter().map(state).collect::<Vec<_>>())
        });
        let states = match read.await {
            Ok(states) => states,
            Err(error) => names.iter().map(|_| State::Failed(error.clone())).collect(),
        };
        // With a damaged database, a record that is not found may still exist.
        let unknown = |state| match state {
            State::Absent | State::Hidden if store.is_damaged() => State::Failed(store::Error::damaged()),
            known => known,
        };
        let states = states.into_iter().map(unknown);
        let part = |(name, state)| {
            let stripe = Stripe::of(Subject::Name(&name));
            Arc::new(Part { name, as_of, stripe, state })
        };
        names.into_iter().zip(states).map(part).collect()
    }

    /// Returns the reason why there is nothing to serve.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match &self.state {
            State::Live { .. } => None,
            State::Gone(tombstone) => {
                let tombstone = Box::new(tombstone.clone());
                Some(Refusal::Gone { name: self.name.clone(), tombstone })
            }
            State::Absent | State::Hidden => Some(Refusal::NotFound(self.name.clone())),
            State::Failed(error) => Some(error.clone().into()),
        }
    }

    pub(super) fn is_fresh(&self, store: &Store) -> bool {
        store.unchanged_since(self.as_of, &[self.stripe])
    }

    /// Whether a name that was found in an index, at a head and a time, disagrees with the index although it has not
    /// changed since.
    pub(super) fn is_damaged(&self, head: Revision, at: Option<i64>) -> bool {
        match &self.state {
            State::Live { revision, time, .. } => *revision <= head && at.is_some_and(|at| at != *time),
            State::Gone(tombstone) => tombstone.revision <= head,
            // A removal leaves a tombstone, for hours at least.
            State::Absent | State::Failed(_) => true,
            // It has left the scope since, or the index is damaged. Neither is for the caller to know.
            State::Hidden => false,
        }
    }

    /// Returns the error if the state of the name is unknown for a reason other than its own record.
    pub(super) fn failure(&self) -> Option<&store::Error> {
        match &self.state {
            State::Failed(store::Error::Corrupt(_) | store::Error::Malformed(_)) => None,
            State::Failed(error) => Some(error),
            _ => None,
        }
    }
}

fn read_state(
    snapshot: Snapshot<'_>,
    name: &Name,
    log_id: LogId,
    shape: Shape,
) -> Result<State, store::Error> {
    let Some(record) = snapshot.record(name)? else { return Ok(State::Absent) };
    Ok(state_of(name, &record, log_id, shape))
}

/// Reads an article for a caller that is limited to a scope. Former paths and the name to which an article has moved can
/// name articles outside it, so the caller does not receive them.
fn read_state_within(
    snapshot: Snapshot<'_>,
    name: &Name,
    log_id: LogId,
    shape: Shape,
    scope: &Scope,
) -> Result<State, store::Error> {
    let Some(mut record) = snapshot.record_within(name, scope.query())? else { return Ok(State::Hidden) };
    record.log.former_paths = Vec::new();
    record.log.moved_to = String::new();
    Ok(state_of(name, &record, log_id, shape))
}

fn state_of(name: &Name, record: &Record, log_id: LogId, shape: Shape) -> State {
    if let Some(tombstone) = record.tombstone() {
        return State::Gone(tombstone);
    }
    State::Live {
        revision: record.revision,
        time: Derived::time(name, &record.log),
        expire_time: (name.kind == Kind::Article).then(|| entry::expire_time(&record.log.content)).flatten(),
        bytes: compose::entity(record, log_id, shape),
        read: record.log.content.len(),
        references: compose::references(&record.log.content),
    }
}

impl Weigh for Arc<Part> {
    fn weight(&self) -> usize {
        let owned = match &self.state {
            State::Live { bytes, references, .. } => {
                bytes.len()
                    + references.iter().map(|name| size_of::<Name>() + name.id.as_str().len()).sum::<usize>()
            }
            _ => 0,
        };
        size_of::<Part>() + self.name.id.as_str().len() + owned
    }
}

impl Weigh for (Name, Shape) {
    fn weight(&self) -> usize {
        self.0.id.as_str().len()
    }
}
