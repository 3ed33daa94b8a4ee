//! One entity in one shape, kept encoded: what answers are composed of.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    cache::{OVERHEAD, Weigh},
    compose::{self, Shape, Shared},
    model::{LogId, Name, Revision},
    refusal::Refusal,
    store::{self, Connection, Store, Tombstone, read},
};

/// What there is under a name, and since when that is known.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: Name,
    /// The head before it was loaded: it is fresh while the name has not changed since.
    pub(crate) as_of: Revision,
    pub(crate) state: State,
}

#[derive(Debug)]
pub(crate) enum State {
    Live {
        revision: Revision,
        bytes: Bytes,
        /// Names in it that can be included.
        references: Vec<Name>,
    },
    Gone(Tombstone),
    Absent,
    /// It could not be read; never kept.
    Failed(store::Error),
}

impl Part {
    /// Reads a part from the store.
    pub(crate) async fn load(store: &Store, log_id: LogId, name: Name, shape: Shape) -> Arc<Part> {
        let as_of = store.head().revision;
        let wanted = name.clone();
        let read = store.read(move |connection| read_state(connection, &wanted, log_id, shape)).await;
        let (as_of, state) = match read {
            Ok(state) => (as_of, state),
            Err(error) => (Revision::MIN, State::Failed(error)),
        };
        Arc::new(Part { name, as_of, state })
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

    pub(crate) fn is_fresh(&self, store: &Store) -> bool {
        self.as_of >= store.last_changed(&self.name)
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
        bytes: compose::entity(&record, log_id, shape),
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
        OVERHEAD + size_of::<Part>() + held
    }
}

/// A whole answer about one article, or why there is none.
#[derive(Debug)]
pub(crate) struct Answered {
    /// The head before the first of its parts was looked up.
    pub(crate) as_of: Revision,
    pub(crate) result: Result<Shared, Refusal>,
}

impl Weigh for Arc<Answered> {
    fn weight(&self) -> usize {
        OVERHEAD + size_of::<Answered>() + self.result.as_ref().map_or(0, |shared| shared.bytes.len())
    }
}
