//! The log of a single node, which is the store itself. An entry is appended and applied in one transaction, together
//! with the other waiting appends (group commit), and acknowledged when the transaction is on disk.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{Commit, Log, Outcome};
use crate::{
    audit::Audit,
    health::Health,
    store::{self, Writer, consumer::ConsumerChanges, floor::History},
    supervise,
    telemetry::{SpanContext, Spans, Timings},
};

#[cfg(test)]
mod fixture;
mod group;
mod writer_thread;

/// The name of the writer's thread.
pub(crate) const THREAD_NAME: &str = "log-write";

/// The maximum number of queued jobs. Further appends, compactions and probes are refused.
const MAX_QUEUED_JOBS: usize = 1_024;

/// The maximum content in the queue, in bytes. An append that would exceed it is refused unless the queue is empty, so
/// that a slow disk costs callers a retry and not the node its memory.
const MAX_QUEUED_BYTES: usize = 64 << 20;

/// The unit in which queued content is counted, in bytes, rounded up.
const PERMIT_BYTES: usize = 1 << 10;

type AppendResult = Result<Vec<Outcome>, store::Error>;

/// A job for the writer's thread. Appends that wait are written as one group; other jobs run one at a time.
enum Job {
    Append(Append),
    /// Drops old history. The reply states whether there is more to drop.
    Compact {
        now: i64,
        history: History,
        reply: oneshot::Sender<Result<bool, store::Error>>,
    },
    /// Writes consumers of feeds, which are not in the log.
    Consumers {
        changes: ConsumerChanges,
        reply: oneshot::Sender<Result<(), store::Error>>,
    },
    /// Replies at once.
    Probe(oneshot::Sender<()>),
}

struct Append {
    commits: Vec<Commit>,
    reply: oneshot::Sender<AppendResult>,
    /// When it was queued, if its call is traced.
    queued: Option<Instant>,
    /// The append's share of the queue, released when the append is done.
    _permit: OwnedSemaphorePermit,
}

impl Append {
    fn new(
        commits: Vec<Commit>,
        reply: oneshot::Sender<AppendResult>,
        permit: OwnedSemaphorePermit,
    ) -> Append {
        let queued = trace_span(&commits).map(|_| Instant::now());
        Append { commits, reply, queued, _permit: permit }
    }

    fn erases(&self) -> bool {
        self.commits.iter().any(|commit| commit.erases)
    }
}

/// Returns the span of the call that appends commits, if it is traced. An append has the commits of one call.
fn trace_span(commits: &[Commit]) -> Option<SpanContext> {
    commits.first().and_then(|commit| commit.origin.span)
}

/// The audit log, timings and spans that the writer records to.
#[derive(Clone)]
pub(crate) struct Recorder {
    pub(crate) audit: Arc<Audit>,
    pub(crate) commit_seconds: Timings,
    pub(crate) sync_seconds: Timings,
    pub(crate) spans: Spans,
}

#[cfg(test)]
impl Recorder {
    pub(crate) fn for_test() -> Recorder {
        let [commit_seconds, sync_seconds] = [Timings::default(), Timings::default()];
        Recorder { audit: Audit::to_log(), commit_seconds, sync_seconds, spans: Spans::off() }
    }
}

/// The log of a single node. Dropping it waits until the writer has finished all queued jobs.
#[derive(Debug)]
pub(crate) struct LocalLog {
    queue: Option<mpsc::Sender<Job>>,
    /// The free units of content in the queue.
    permits: Arc<Semaphore>,
    refused: AtomicU64,
    /// The progress of the writer; see [`LocalLog::pulse`].
    pulse: Arc<AtomicU64>,
    writer: Option<thread::JoinHandle<()>>,
}

impl Drop for LocalLog {
    fn drop(&mut self) {
        self.queue = None;
        // A panic was reported when it happened.
        let _ = self.writer.take().map(thread::JoinHandle::join);
    }
}

impl LocalLog {
    /// Starts the writer's thread. If it panics, the state that the store holds in memory is undefined, and the node must
    /// end.
    pub(crate) fn start(writer: Writer, health: Arc<Health>, recorder: Recorder) -> LocalLog {
        let (queue, jobs) = mpsc::channel(MAX_QUEUED_JOBS);
        let pulse = writer.pulse();
        let run = move |health: &Health| writer_thread::run(writer, jobs, health, &recorder);
        let spawned = supervise::spawn(THREAD_NAME.into(), health.clone(), move || run(&health));
        let writer = spawned.expect("a thread can be started when the node starts");
        LocalLog {
            queue: Some(queue),
            permits: Arc::new(Semaphore::new(MAX_QUEUED_BYTES / PERMIT_BYTES)),
            refused: AtomicU64::new(0),
            pulse,
            writer: Some(writer),
        }
    }

    /// Runs one pass of compaction, between writes. Returns whether there is more to drop.
    ///
    /// # Errors
    /// Fails if the queue is full, the store fails or the writer has ended. A later pass then does the work of this one.
    pub(crate) async fn compact(&self, now: i64, history: History) -> Result<bool, store::Error> {
        let (reply, response) = oneshot::channel();
        self.send(Job::Compact { now, history, reply })?;
        response.await.unwrap_or(Err(store::Error::Lost))
    }

    /// Writes consumers of feeds, between writes. They are on disk when this returns. A full queue delays the job and
    /// does not refuse it: the caller sends one at a time.
    ///
    /// # Errors
    /// Fails if the store fails or the writer has ended. The consumers have not been written, unless the error states that this is uncertain.
    pub(crate) async fn write_consumers(&self, changes: ConsumerChanges) -> Result<(), store::Error> {
        let (reply, response) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(store::Error::Closed)?;
        queue.send(Job::Consumers { changes, reply }).await.map_err(|_| store::Error::Closed)?;
        response.await.unwrap_or(Err(store::Error::Lost))
    }

    /// Waits until the writer has done all jobs before this one.
    ///
    /// # Errors
    /// Fails if the queue is full or the writer has ended.
    pub(crate) async fn probe(&self) -> Result<(), store::Error> {
        let (reply, response) = oneshot::channel();
        self.send(Job::Probe(reply))?;
        response.await.map_err(|_| store::Error::Lost)
    }

    /// Returns a number that increases while the writer works, even within a long job. It stops while the writer waits for
    /// a job, or for a disk that does not respond.
    pub(crate) fn pulse(&self) -> u64 {
        self.pulse.load(Relaxed)
    }

    /// Reserves room for commits in the queue. Commits that are larger than the queue reserve all of it.
    fn reserve(&self, commits: &[Commit]) -> Result<OwnedSemaphorePermit, store::Error> {
        let bytes: usize = commits.iter().map(Commit::bytes).sum();
        let units = bytes.div_ceil(PERMIT_BYTES).clamp(1, MAX_QUEUED_BYTES / PERMIT_BYTES) as u32;
        self.permits.clone().try_acquire_many_owned(units).map_err(|_| self.refuse())
    }

    fn refuse(&self) -> store::Error {
        self.refused.fetch_add(1, Relaxed);
        store::Error::Overloaded
    }

    /// Returns the number of jobs that wait for the writer, and that of appends refused so far.
    pub(crate) fn counts(&self) -> (usize, u64) {
        let waiting = self.queue.as_ref().map_or(0, |queue| MAX_QUEUED_JOBS - queue.capacity());
        (waiting, self.refused.load(Relaxed))
    }

    fn send(&self, job: Job) -> Result<(), store::Error> {
        let queue = self.queue.as_ref().ok_or(store::Error::Closed)?;
        queue.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => self.refuse(),
            mpsc::error::TrySendError::Closed(_) => store::Error::Closed,
        })
    }
}

impl Log for LocalLog {
    fn append(&self, commits: Vec<Commit>) -> BoxFuture<'_, AppendResult> {
        let (reply, response) = oneshot::channel();
        let sent = self
            .reserve(&commits)
            .and_then(|permit| self.send(Job::Append(Append::new(commits, reply, permit))));
        Box::pin(async move {
            sent?;
            // Only a panic drops the sender without a reply.
            response.await.unwrap_or(Err(store::Error::Lost))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::{fixture::commit, *};
    use crate::{
        store::fixture::{self as stores, article, open, removal},
        wire::v1::RemovalReason,
    };

    #[tokio::test]
    async fn queued_appends_are_bounded_in_bytes() {
        let (queue, jobs) = mpsc::channel(MAX_QUEUED_JOBS);
        let permits = Arc::new(Semaphore::new(MAX_QUEUED_BYTES / PERMIT_BYTES));
        let log = LocalLog {
            queue: Some(queue),
            permits,
            refused: AtomicU64::new(0),
            pulse: Arc::default(),
            writer: None,
        };
        let large = |id: &str| commit(article(id, &stores::noise(1, 1_000_000), &[], 1), 0);
        let size = large("a").bytes();
        assert!(size > 2_500_000, "the content, its entry and the compressed entry: {size}");
        let mut queued = Vec::new();
        for n in 0..MAX_QUEUED_BYTES / size.next_multiple_of(PERMIT_BYTES) {
            queued.push(log.append(vec![large(&format!("a{n}"))]));
        }
        assert!(matches!(log.append(vec![large("b")]).await, Err(store::Error::Overloaded)));
        let removes = log.append(vec![commit(removal("a", RemovalReason::Deleted, 2), 1)]);
        drop(jobs);
        assert!(matches!(removes.await, Err(store::Error::Lost)), "the removal was queued");
        for append in queued {
            assert!(matches!(append.await, Err(store::Error::Lost)));
        }
        assert_eq!(log.permits.available_permits(), MAX_QUEUED_BYTES / PERMIT_BYTES);
    }

    #[tokio::test]
    async fn a_kill_is_acknowledged_after_the_erase_listeners_ran() {
        let dir = tempfile::tempdir().unwrap();
        let (store, writer) = open(dir.path());
        let erased_at = Arc::new(Mutex::new(Vec::new()));
        let (recorded, observed) = (erased_at.clone(), Arc::downgrade(&store));
        store.on_erase(move || recorded.lock().unwrap().push(observed.upgrade().unwrap().revision()));
        let log = LocalLog::start(writer, Arc::default(), Recorder::for_test());
        let kill = commit(removal("a", RemovalReason::Killed, 2), 1);

        log.append(vec![commit(article("a", "A", &[], 1), 0)]).await.unwrap();
        assert!(erased_at.lock().unwrap().is_empty());
        log.append(vec![kill.clone()]).await.unwrap();
        assert_eq!(*erased_at.lock().unwrap(), [2]);
        let repeated = log.append(vec![Commit { steps: Vec::new(), ..kill }]).await.unwrap();
        let [Outcome::Duplicate(outcomes)] = &repeated[..] else { panic!("{repeated:?}") };
        assert_eq!((outcomes.len(), outcomes[0].revision, outcomes[0].killed), (1, 2, true));
        assert_eq!(*erased_at.lock().unwrap(), [2, 2]);
    }

    /// A long transaction has steps, too.
    #[tokio::test]
    async fn the_pulse_beats_during_a_long_job_only() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, writer) = open(dir.path());
        let log = LocalLog::start(writer, Arc::default(), Recorder::for_test());
        let puts = (0..200).map(|n| commit(article(&format!("a{n}"), "A", &["sea", "ice"], 1), 0));
        let idle = log.pulse();
        log.append(puts.collect()).await.unwrap();
        let after = log.pulse();
        assert!(after >= idle + 10, "{idle} {after}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        assert_eq!(log.pulse(), after);
    }
}
