//! The one writer of a store: it runs transactions, and publishes their effect once they are on disk.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rusqlite::Connection;

use super::{
    Error, Store,
    apply::{self, Applier},
    erase,
    session::Session,
};
use crate::{entry::Term, model::Revision};

/// The steps of SQLite's virtual machine after which the pulse of the writer beats: some 0.1 ms.
const STEPS_PER_PULSE: i32 = 1_000;

/// The one writer of a store.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(super) connection: Connection,
    // Ends before the store, whose lock covers it.
    session: Session,
    pub(super) store: Arc<Store>,
    /// The numbers of terms used before. [`apply`] bounds them. Emptied when a transaction fails, because it may have
    /// created some.
    pub(super) terms: HashMap<Term, i64>,
    pub(super) reader_timeout: Duration,
    last_commit: Duration,
    /// Counts the steps of the writer, so that a long job can be distinguished from one that hangs.
    pulse: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn new(mut connection: Connection, store: Arc<Store>, session: Session) -> Writer {
        let pulse = Arc::new(AtomicU64::new(0));
        let beat = pulse.clone();
        let handler = move || {
            beat.fetch_add(1, Relaxed);
            false
        };
        if let Err(error) = connection.progress_handler(STEPS_PER_PULSE, Some(handler)) {
            tracing::warn!(%error, "progress of long writes not followed");
        }
        Writer {
            connection,
            store,
            terms: HashMap::new(),
            reader_timeout: erase::READER_TIMEOUT,
            session,
            last_commit: Duration::ZERO,
            pulse,
        }
    }

    /// Returns the count of the writer's steps.
    pub(crate) fn pulse(&self) -> Arc<AtomicU64> {
        self.pulse.clone()
    }

    /// Checks that the disk has space for puts.
    ///
    /// # Errors
    /// Fails with `Full` if the free space is the reserve, which is for operations that free space.
    pub(crate) fn check_space(&self) -> Result<(), Error> {
        self.store.check_space().inspect_err(|error| error.report(self.store.health()))
    }

    /// Returns how long the last commit took, most of which is the sync.
    pub(crate) fn last_commit(&self) -> Duration {
        self.last_commit
    }

    /// Returns the newest revision that is on disk.
    pub(crate) fn head_revision(&self) -> Revision {
        self.store.revision()
    }

    /// Applies entries in one transaction, and publishes their effect once it is on disk.
    ///
    /// # Errors
    /// Fails with `Uncertain` if the commit itself failed for a reason other than lack of space; otherwise nothing was
    /// written.
    pub(crate) fn transact<T>(
        &mut self,
        work: impl FnOnce(&mut Applier<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.store.check_writable()?;
        let done = apply::transact(&mut self.connection, &mut self.terms, self.store.head().as_ref(), work);
        match done {
            Ok((result, effect)) => {
                self.session.record(&effect.head);
                self.last_commit = effect.commit_time;
                self.store.publish(effect);
                Ok(result)
            }
            Err(error) => {
                self.terms.clear();
                error.report(self.store.health());
                Err(error)
            }
        }
    }
}
