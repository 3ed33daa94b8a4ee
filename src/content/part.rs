//! One entity in one shape, kept encoded: what answers are composed of.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    cache::Weigh,
    compose::{self, Shape},
    entry::Derived,
    model::{LogId, Name, Revision},
    refusal::Refusal,
    store::{self, Connection, Store, Stripe, Subject, Tombstone, read},
};

/// What there is under a name, and since when that is known.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: Name,
    /// The head before it was loaded: it is fresh while the name has not changed since.
    as_of: Revision,
    stripe: Stripe,
    pub(crate) state: State,
}

#[derive(Debug)]
pub(crate) enum State {
    Live {
        revision: Revision,
        /// Where it stands in lists, microseconds since 1970 UTC.
        time: i64,
        bytes: Bytes,
        /// Bytes of content that were read for it.
        read: usize,
        /// Names in it that can be included.
        references: Vec<Name>,
    },
    Gone(Tombstone),
    Absent,
    /// It could not be read; never kept.
    Failed(store::Error),
}

impl Part {
    /// Reads parts from the store, in one job.
    pub(super) async fn load(store: &Store, log_id: LogId, names: Vec<Name>, shape: Shape) -> Vec<Arc<Part>> {
        let as_of = store.revision();
        let wanted = names.clone();
        let read = store.read(move |connection| {
            let state = |name| read_state(connection, name, log_id, shape).unwrap_or_else(State::Failed);
            Ok(wanted.iter().map(state).collect::<Vec<_>>())
        });
        let states = match read.await {
            Ok(states) => states,
            Err(error) => names.iter().map(|_| State::Failed(error.clone())).collect(),
        };
        // A damaged database proves no absence.
        let unknown = |state| match state {
            State::Absent if store.is_damaged() => State::Failed(store::Error::damaged()),
            known => known,
        };
        let states = states.into_iter().map(unknown);
        let part = |(name, state)| {
            let stripe = Stripe::of(Subject::Name(&name));
            Arc::new(Part { name, as_of, stripe, state })
        };
        names.into_iter().zip(states).map(part).collect()
    }

    /// Why there is nothing to serve.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match &self.state {
            State::Live { .. } => None,
            State::Gone(tombstone) => {
                let tombstone = Box::new(tombstone.clone());
                Some(Refusal::Gone { name: self.name.clone(), tombstone })
            }
            State::Absent => Some(Refusal::NotFound(self.name.clone())),
            State::Failed(error) => Some(error.clone().into()),
        }
    }

    pub(super) fn is_fresh(&self, store: &Store) -> bool {
        store.unchanged_since(self.as_of, &[self.stripe])
    }

    /// Whether a name that was found in an index, at a time and at a head, is not what the index says, although nothing
    /// has happened to it since.
    pub(super) fn is_damaged(&self, head: Revision, at: Option<i64>) -> bool {
        match &self.state {
            State::Live { revision, time, .. } => *revision <= head && at.is_some_and(|at| at != *time),
            State::Gone(tombstone) => tombstone.revision <= head,
            // A removal leaves a tombstone, for hours at least.
            State::Absent | State::Failed(_) => true,
        }
    }

    /// Whether nothing is known of the name, for a reason that is not its own record.
    pub(super) fn failure(&self) -> Option<&store::Error> {
        match &self.state {
            State::Failed(store::Error::Corrupt(_) | store::Error::Malformed(_)) => None,
            State::Failed(error) => Some(error),
            _ => None,
        }
    }
}

fn read_state(
    connection: &Connection,
    name: &Name,
    log_id: LogId,
    shape: Shape,
) -> Result<State, store::Error> {
    let Some(record) = read::record(connection, name)? else { return Ok(State::Absent) };
    if let Some(tombstone) = record.tombstone() {
        return Ok(State::Gone(tombstone));
    }
    Ok(State::Live {
        revision: record.revision,
        time: Derived::time(name, &record.log),
        bytes: compose::entity(&record, log_id, shape),
        read: record.log.content.len(),
        references: compose::references(&record.log.content),
    })
}

impl Weigh for Arc<Part> {
    fn weight(&self) -> usize {
        let held = match &self.state {
            State::Live { bytes, references, .. } => {
                bytes.len()
                    + references.iter().map(|name| size_of::<Name>() + name.id.as_str().len()).sum::<usize>()
            }
            _ => 0,
        };
        size_of::<Part>() + self.name.id.as_str().len() + held
    }
}

impl Weigh for (Name, Shape) {
    fn weight(&self) -> usize {
        self.0.id.as_str().len()
    }
}
