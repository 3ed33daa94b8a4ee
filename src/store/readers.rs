//! The reader threads: each owns one connection and takes jobs from one bounded queue. No connection is held across an
//! await.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Sender, TrySendError, bounded};
use rusqlite::{Connection, OpenFlags};
use tokio::sync::oneshot;

use super::{Error, Snapshot, schema};
use crate::{health::Health, supervise};

/// The maximum number of queued reads. At 10 µs each, the last one waits some 10 ms; more would only wait longer.
const MAX_QUEUED: usize = 1_024;

type Job = Box<dyn FnOnce(&Connection) + Send>;

#[derive(Debug)]
pub(super) struct Readers {
    jobs: Sender<Job>,
    /// The jobs that were refused because the queue was full.
    refused: AtomicU64,
}

impl Readers {
    pub(super) fn start(path: &Path, threads: usize, health: &Arc<Health>) -> rusqlite::Result<Readers> {
        let (jobs, queue) = bounded::<Job>(MAX_QUEUED);
        for n in 0..threads.max(1) {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            schema::configure(&connection, schema::Role::Reader)?;
            let queue = queue.clone();
            let name = format!("store-read-{n}");
            let (thread_name, node_health) = (name.clone(), health.clone());
            let spawned = supervise::spawn(name, health.clone(), move || {
                for job in queue {
                    supervise::failpoint(&thread_name, &node_health);
                    job(&connection);
                }
            });
            spawned.expect("a thread can be started when the node starts");
        }
        Ok(Readers { jobs, refused: AtomicU64::new(0) })
    }

    /// Returns the number of queued jobs, and that of jobs refused so far.
    pub(super) fn counts(&self) -> (usize, u64) {
        (self.jobs.len(), self.refused.load(Relaxed))
    }

    /// Measures how long a read is queued, without counting as one. `None` if the queue is full.
    pub(super) async fn measure_delay(&self) -> Option<Duration> {
        let (reply, delay) = oneshot::channel();
        let start = Instant::now();
        self.jobs.try_send(Box::new(move |_| _ = reply.send(start.elapsed()))).ok()?;
        delay.await.ok()
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(Snapshot<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, response) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // The call may have been cancelled while the job was queued.
            if !reply.is_closed() {
                let _ = reply.send(run_one(connection, job));
            }
        });
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => {
                self.refused.fetch_add(1, Relaxed);
                Error::Overloaded
            }
            TrySendError::Disconnected(_) => Error::Closed,
        })?;
        // The sender is dropped without a reply only if the thread itself has ended.
        response.await.unwrap_or(Err(Error::Closed))
    }
}

/// Runs one read. If it panics, only its caller fails.
fn run_one<T>(
    connection: &Connection,
    job: impl FnOnce(Snapshot<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(|| Snapshot::read(connection, job))).unwrap_or_else(|panic| {
        tracing::error!(panic = supervise::describe_panic(&*panic), "store read panicked");
        Err(Error::Panicked)
    })
}

#[cfg(test)]
mod tests {
    use super::{super::fixture, *};

    #[tokio::test]
    async fn a_read_that_panics_fails_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _writer) = fixture::open(dir.path());
        let panics = |_: Snapshot<'_>| -> Result<(), Error> { panic!("injected panic") };
        assert!(matches!(store.read(panics).await, Err(Error::Panicked)));
        assert_eq!(store.read(|_| Ok(7)).await.unwrap(), 7);
        assert!(store.health().cause(crate::health::Condition::TaskFailed).is_none());
    }
}
