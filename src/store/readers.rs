//! The threads that read: each owns one connection and takes jobs from one bounded queue. No connection is ever held
//! across an await.

use std::{path::Path, thread};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use rusqlite::{Connection, OpenFlags};
use tokio::sync::oneshot;

use super::{Error, schema};

/// Reads that may wait. At 10 µs each the last one waits some 10 ms; more would only wait longer.
const QUEUE: usize = 1_024;

type Job = Box<dyn FnOnce(&Connection) + Send>;

#[derive(Debug)]
pub(super) struct Readers {
    jobs: Sender<Job>,
}

impl Readers {
    pub(super) fn start(path: &Path, threads: usize) -> rusqlite::Result<Readers> {
        let (jobs, queue) = bounded(QUEUE);
        for n in 0..threads.max(1) {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            schema::configure(&connection, schema::Role::Reader)?;
            let queue = queue.clone();
            let name = format!("store-read-{n}");
            let spawned = thread::Builder::new().name(name).spawn(move || work(&connection, &queue));
            spawned.expect("a thread can be started when the node starts");
        }
        Ok(Readers { jobs })
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Whoever asked may have gone away while the job waited.
            if !reply.is_closed() {
                let _ = reply.send(job(connection));
            }
        });
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => Error::Overloaded,
            TrySendError::Disconnected(_) => Error::Closed,
        })?;
        answer.await.unwrap_or(Err(Error::Closed))
    }
}

fn work(connection: &Connection, queue: &Receiver<Job>) {
    for job in queue {
        // A panicking read fails its caller only: the reply is dropped, the thread goes on.
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(connection)));
        if caught.is_err() {
            tracing::error!("a read of the store panicked");
        }
    }
}
