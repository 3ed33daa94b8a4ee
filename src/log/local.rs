//! The log of a single node, which is the store itself. An entry is appended and applied in one transaction, together
//! with the other waiting appends (group commit), and acknowledged when the transaction is on disk.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{Change, Commit, Expected, Log, Outcome, Position, Step, audited, paths};
use crate::{
    audit::Audit,
    entry,
    health::Health,
    model::{Kind, Name, Revision, Slot},
    store::{self, WriteOutcome, Writer, apply::Applier, consumer::ConsumerChanges, floor::History},
    supervise,
    telemetry::{Attribute, Span, SpanContext, SpanKind, Spans, Timings},
    wire::v1::RemovalReason,
};

/// The name of the writer's thread.
pub(crate) const THREAD_NAME: &str = "log-write";

/// The maximum number of queued appends. Another one is rejected.
const MAX_QUEUED_APPENDS: usize = 1_024;

/// The maximum content in the queue, in bytes. An append that would exceed it is rejected, so that a slow disk costs
/// callers a retry and not the node its memory. The queue holds five commits of the largest size.
const MAX_QUEUED_BYTES: usize = 64 << 20;

/// The unit in which queued content is counted, in bytes, rounded up.
const PERMIT_BYTES: usize = 1 << 10;

/// The number of entries at which a group is complete. 1,000 entries occupy the writer for some 0.1 s.
const MAX_GROUP_ENTRIES: usize = 1_000;

type AppendResult = Result<Vec<Outcome>, store::Error>;

/// A job of the writer's thread, which runs one at a time.
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
        let queued = traced(&commits).map(|_| Instant::now());
        Append { commits, reply, queued, _permit: permit }
    }

    fn erases(&self) -> bool {
        self.commits.iter().any(|commit| commit.erases)
    }
}

/// Where the writer records what it writes, and how long that takes.
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

/// The log of a single node. Dropping it waits until all queued appends are written.
#[derive(Debug)]
pub(crate) struct LocalLog {
    queue: Option<mpsc::Sender<Job>>,
    /// The free units of content in the queue.
    permits: Arc<Semaphore>,
    refused: AtomicU64,
    /// The steps of the writer.
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
    /// Starts the writer's thread, which records what it writes. If it panics, the state that the store holds in memory is unknown, and the node must
    /// end.
    pub(crate) fn start(writer: Writer, health: Arc<Health>, recorder: Recorder) -> LocalLog {
        let (queue, jobs) = mpsc::channel(MAX_QUEUED_APPENDS);
        let pulse = writer.pulse();
        let run = move |health: &Health| run_writer(writer, jobs, health, &recorder);
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

    /// Drops the history of one pass, between writes. Returns whether there is more to drop.
    ///
    /// # Errors
    /// Fails if the queue is full or the store fails. A later pass then does the work of this one.
    pub(crate) async fn compact(&self, now: i64, history: History) -> Result<bool, store::Error> {
        let (reply, response) = oneshot::channel();
        self.send(Job::Compact { now, history, reply })?;
        response.await.unwrap_or(Err(store::Error::Lost))
    }

    /// Writes consumers of feeds, between writes. They are on disk when this returns. A full queue delays the job and
    /// does not refuse it: the caller sends one at a time.
    ///
    /// # Errors
    /// Fails if the store fails. The consumers have not been written, unless the error states that this is uncertain.
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

    /// Returns a number that grows while the writer works, also within a long job. It does not while the writer waits, for
    /// a job or for a disk that does not respond.
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
        let waiting = self.queue.as_ref().map_or(0, |queue| MAX_QUEUED_APPENDS - queue.capacity());
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

/// Runs jobs until the queue is closed. After a panic it rejects the queued jobs: they have certainly not been done.
fn run_writer(mut writer: Writer, mut jobs: mpsc::Receiver<Job>, health: &Health, recorder: &Recorder) {
    let result = catch_unwind(AssertUnwindSafe(|| run_jobs(&mut writer, &mut jobs, health, recorder)));
    if let Err(panic) = result {
        supervise::report(THREAD_NAME, health, &supervise::describe_panic(&*panic));
        jobs.close();
        while let Some(job) = jobs.blocking_recv() {
            reject(job);
        }
    }
}

fn run_jobs(writer: &mut Writer, jobs: &mut mpsc::Receiver<Job>, health: &Health, recorder: &Recorder) {
    let mut next = NextJob::default();
    while let Some(job) = next.0.take().or_else(|| jobs.blocking_recv()) {
        match job {
            Job::Append(first) => {
                let (group, other) = collect_group(first, jobs);
                next.0 = other;
                write_group(writer, group, health, recorder);
            }
            Job::Compact { now, history, reply } => {
                let _ = reply.send(writer.compact(now, &history));
            }
            Job::Consumers { changes, reply } => {
                let written = writer.write_consumers(&changes);
                if let Err(error) = &written {
                    tracing::error!(error = error as &dyn std::error::Error, "consumers not written");
                }
                let _ = reply.send(written);
            }
            Job::Probe(reply) => {
                supervise::failpoint(THREAD_NAME, health);
                let _ = reply.send(());
            }
        }
    }
}

/// The job after a group. If the group panics, this job is rejected, like the queued ones.
#[derive(Default)]
struct NextJob(Option<Job>);

impl Drop for NextJob {
    fn drop(&mut self) {
        if let Some(job) = self.0.take() {
            reject(job);
        }
    }
}

fn reject(job: Job) {
    match job {
        Job::Append(append) => drop(append.reply.send(Err(store::Error::Closed))),
        Job::Compact { reply, .. } => drop(reply.send(Err(store::Error::Closed))),
        Job::Consumers { reply, .. } => drop(reply.send(Err(store::Error::Closed))),
        // Dropping the sender is the reply.
        Job::Probe(_) => {}
    }
}

/// Collects the waiting appends, up to one group, and the job after them if it is of another kind.
fn collect_group(first: Append, jobs: &mut mpsc::Receiver<Job>) -> (Vec<Append>, Option<Job>) {
    let entries = |append: &Append| append.commits.iter().map(|commit| commit.steps.len()).sum::<usize>();
    let mut size = entries(&first);
    let mut group = vec![first];
    while size < MAX_GROUP_ENTRIES {
        match jobs.try_recv() {
            Ok(Job::Append(append)) => {
                size += entries(&append);
                group.push(append);
            }
            Ok(other) => return (group, Some(other)),
            Err(_) => break,
        }
    }
    (group, None)
}

fn write_group(writer: &mut Writer, group: Vec<Append>, health: &Health, recorder: &Recorder) {
    supervise::failpoint(THREAD_NAME, health);
    let start = Instant::now();
    let mut full = writer.check_space().err();
    let mut written = apply_group(writer, &group, full.as_ref(), recorder);
    if full.is_none()
        && let Err(error @ store::Error::NoSpace(_)) = &written
    {
        // The puts did not fit. Commits that only remove must not fail with them.
        full = Some(error.clone());
        written = apply_group(writer, &group, full.as_ref(), recorder);
    }
    let duration = start.elapsed();
    recorder.commit_seconds.record(duration);
    record_spans(&group, duration, &written, recorder);
    match written {
        Ok(responses) => acknowledge(writer, group.into_iter().zip(responses)),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "group commit failed");
            for append in group {
                let _ = append.reply.send(Err(error.clone()));
            }
        }
    }
}

/// Returns the span of the call that appends commits, if it is traced. An append has the commits of one call.
fn traced(commits: &[Commit]) -> Option<SpanContext> {
    commits.first().and_then(|commit| commit.origin.span)
}

/// Records the spans of the appends of a group whose calls are traced: from the queue to the disk, and in it the commit
/// that they share, which took `duration`.
fn record_spans(
    group: &[Append],
    duration: Duration,
    written: &Result<Vec<AppendResult>, store::Error>,
    recorder: &Recorder,
) {
    for (at, append) in group.iter().enumerate() {
        let (Some(call), Some(queued)) = (traced(&append.commits), append.queued) else { continue };
        let result = written.as_ref().map(|results| &results[at]);
        let span = |parent: SpanContext, name: &str, duration, failed, attributes| Span {
            context: parent.child(),
            parent: Some(parent.span),
            name: name.to_owned(),
            kind: SpanKind::Internal,
            end: SystemTime::now(),
            duration,
            failed,
            attributes,
        };
        let mut attributes = vec![("cable.commits", Attribute::Integer(append.commits.len() as i64))];
        let revision =
            result.ok().and_then(|result| result.as_ref().ok()).and_then(|outcomes| newest(outcomes));
        attributes.extend(revision.map(|revision| ("cable.revision", Attribute::Integer(revision))));
        let failed = !matches!(result, Ok(Ok(_)));
        let append = span(call, "append", queued.elapsed(), failed, attributes);
        let shared = vec![("cable.group_appends", Attribute::Integer(group.len() as i64))];
        recorder.spans.record(span(append.context, "commit", duration, written.is_err(), shared));
        recorder.spans.record(append);
    }
}

/// Returns the revision after the last of some commits.
fn newest(outcomes: &[Outcome]) -> Option<Revision> {
    outcomes.iter().rev().find_map(|outcome| match outcome {
        Outcome::Committed(_, position) => Some(position.revision),
        _ => None,
    })
}

/// Applies a group in one transaction. `full` is the reason why there is no space for puts; it is the reply to an
/// append that contains one.
fn apply_group(
    writer: &mut Writer,
    group: &[Append],
    full: Option<&store::Error>,
    recorder: &Recorder,
) -> Result<Vec<AppendResult>, store::Error> {
    let mut recorded = Vec::new();
    let written = writer.transact(|applier| {
        // The outcomes of each append; a put that a full disk rejects has none.
        let mut outcomes: Vec<Vec<Option<Outcome>>> = Vec::with_capacity(group.len());
        for append in group {
            let apply = |commit| apply_commit(applier, commit, full.is_some());
            outcomes.push(append.commits.iter().map(apply).collect::<Result<_, _>>()?);
        }
        // The lines are on disk before the changes are, also those of an append of which a part is rejected.
        let appended = group.iter().zip(&outcomes);
        let lines: Vec<_> =
            appended.flat_map(|(append, outcomes)| audited::lines(&append.commits, outcomes)).collect();
        recorder.audit.record(&lines)?;
        recorded = lines;
        let response = |outcomes: Vec<Option<Outcome>>| match (outcomes.iter().all(Option::is_some), full) {
            (false, Some(full)) => Err(full.clone()),
            _ => Ok(outcomes.into_iter().flatten().collect()),
        };
        Ok(outcomes.into_iter().map(response).collect())
    });
    match &written {
        Ok(_) => {
            recorder.sync_seconds.record(writer.last_commit());
            recorder.audit.committed(recorded);
        }
        Err(error) => recorder.audit.not_committed(writer.head_revision(), &recorded, error),
    }
    written
}

/// Replies to kills last, when their content is erased. The rest of the group need not wait for that.
fn acknowledge(writer: &mut Writer, written: impl Iterator<Item = (Append, AppendResult)>) {
    let (kills, others): (Vec<_>, Vec<_>) = written.partition(|(append, _)| append.erases());
    for (append, response) in others {
        let _ = append.reply.send(response);
    }
    if kills.is_empty() {
        return;
    }
    let erased = writer.erase();
    if let Err(error) = &erased {
        tracing::error!(error = error as &dyn std::error::Error, "erase after kill failed");
    }
    for (append, response) in kills {
        let _ = append.reply.send(erased.clone().and(response));
    }
}

/// Applies one commit. All of its conditions are checked before its first entry is applied, so that it is atomic.
/// Returns `None` if the commit contains a put and there is no space.
fn apply_commit(
    applier: &mut Applier<'_>,
    commit: &Commit,
    is_full: bool,
) -> Result<Option<Outcome>, store::Error> {
    if let Some((id, hash)) = &commit.request {
        match applier.find_request(id, commit.time)? {
            Some(past) if past.hash == *hash => return Ok(Some(Outcome::Duplicate(past.outcomes))),
            Some(_) => return Ok(Some(Outcome::Reused)),
            None => {}
        }
    }
    if is_full && commit.puts() {
        return Ok(None);
    }
    for step in &commit.steps {
        let planned_for = match step {
            Step::Append(changes) => changes.last().map(|change| (&change.entry.name, change.expected)),
            Step::Unchanged { found, expected } => Some((&found.name, *expected)),
        };
        if let Some((name, expected)) = planned_for
            && has_changed(applier, name, expected)?
        {
            return Ok(Some(Outcome::Conflict));
        }
    }
    if let Some(conflict) = paths::find_conflict(applier, commit)? {
        return Ok(Some(conflict));
    }
    let mut outcomes: Vec<WriteOutcome> = Vec::with_capacity(commit.steps.len());
    for step in &commit.steps {
        match step {
            Step::Append(changes) => outcomes.extend(append(applier, changes)?),
            Step::Unchanged { found, .. } => outcomes.push(found.clone()),
        }
    }
    if let Some((id, hash)) = &commit.request {
        applier.record_request(id, hash, &outcomes, commit.time)?;
    }
    Ok(Some(Outcome::Committed(outcomes, Position::of(applier.head()))))
}

/// Returns whether a name is no longer in the state for which a change was planned. Only articles have more than one
/// slot.
fn has_changed(applier: &Applier<'_>, name: &Name, expected: Expected) -> Result<bool, store::Error> {
    let slots = if name.kind == Kind::Article { &Slot::ALL[..] } else { &[Slot::Live] };
    for slot in slots {
        if applier.current_revision(name, *slot)? != expected.of(*slot) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Applies the entries of one step. Returns the outcome of the last one.
fn append(applier: &mut Applier<'_>, changes: &[Change]) -> Result<Option<WriteOutcome>, store::Error> {
    let mut last = None;
    for Change { entry, packed, path_owner, .. } in changes {
        let revision = applier.apply(entry, packed)?;
        last = Some(WriteOutcome {
            name: entry.name.clone(),
            revision,
            prefix: entry::hash_prefix(&entry.log),
            changed: true,
            slot: entry.slot,
            due: entry.derived.due.filter(|_| entry.slot == Slot::Pending),
            removed: !entry.derived.live,
            killed: entry.log.reason() == RemovalReason::Killed,
            path_owner: path_owner.clone(),
        });
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{
        log::Change,
        model::Revision,
        store::{
            Store, envelope,
            fixture::{self, article, open, removal},
        },
    };

    fn commit(entry: crate::entry::Entry, live: Revision) -> Commit {
        let erases = entry.log.reason() == RemovalReason::Killed;
        let packed = envelope::pack(&entry.bytes).unwrap();
        let request = Some((format!("of {}", entry.name), entry.hash));
        let expected = Expected { live, pending: 0 };
        let step = Step::Append(vec![Change { entry, packed, expected, path_owner: None }]);
        Commit {
            steps: vec![step],
            request: request.filter(|_| erases),
            time: 1,
            origin: Arc::new(crate::audit::Origin::scheduler()),
            erases,
            displaces: Vec::new(),
        }
    }

    /// Returns a permit of a queue of its own.
    fn permit() -> OwnedSemaphorePermit {
        Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap()
    }

    #[tokio::test]
    async fn queued_appends_are_bounded_in_bytes() {
        let (queue, jobs) = mpsc::channel(MAX_QUEUED_APPENDS);
        let permits = Arc::new(Semaphore::new(MAX_QUEUED_BYTES / PERMIT_BYTES));
        let log = LocalLog {
            queue: Some(queue),
            permits,
            refused: AtomicU64::new(0),
            pulse: Arc::default(),
            writer: None,
        };
        let large = |id: &str| commit(article(id, &fixture::noise(1, 1_000_000), &[], 1), 0);
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

    #[test]
    fn after_a_panic_the_queued_jobs_are_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let (store, writer) = open(dir.path());
        let (queue, jobs) = mpsc::channel(MAX_QUEUED_APPENDS);
        let append = || {
            let (reply, response) = oneshot::channel();
            let commits = vec![commit(article("a", "A", &[], 1), 0)];
            queue.try_send(Job::Append(Append::new(commits, reply, permit()))).ok().unwrap();
            response
        };
        let mut first = append();
        let (reply, mut compacted) = oneshot::channel();
        let history = History { age: std::time::Duration::MAX, entries: 1 };
        queue.try_send(Job::Compact { now: 0, history, reply }).ok().unwrap();
        let mut later = append();
        store.health().kill.send_replace(Some((THREAD_NAME.into(), supervise::failpoint::Kill::Panic)));
        run_writer(writer, jobs, store.health(), &Recorder::for_test());

        assert!(matches!(first.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert!(matches!(compacted.try_recv().unwrap(), Err(store::Error::Closed)));
        assert!(matches!(later.try_recv().unwrap(), Err(store::Error::Closed)));
        let cause = store.health().cause(crate::health::Condition::TaskFailed);
        assert_eq!(cause.as_deref(), Some("the task `log-write` panicked: killed by a test"));
        assert_eq!(store.revision(), 0);
    }

    /// Writes one group of appends and returns their replies.
    fn write_together(writer: &mut Writer, commits: Vec<Commit>) -> Vec<AppendResult> {
        let append = |commit| {
            let (reply, response) = oneshot::channel();
            (Append::new(vec![commit], reply, permit()), response)
        };
        let (group, responses): (Vec<_>, Vec<_>) = commits.into_iter().map(append).unzip();
        write_group(writer, group, &Health::default(), &Recorder::for_test());
        responses.into_iter().map(|mut response| response.try_recv().unwrap()).collect()
    }

    fn is_removed(store: &Store, response: &AppendResult) -> bool {
        matches!(&response.as_ref().unwrap()[..], [Outcome::Committed(..)])
            && store.head().live(Kind::Article) == 0
    }

    #[test]
    fn a_put_without_disk_space_does_not_fail_a_removal() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut writer) = open(dir.path());
        write_together(&mut writer, vec![commit(article("a", "A", &[], 1), 0)]);
        fixture::fill(&writer);
        let large = || commit(article("b", &fixture::noise(1, 100_000), &[], 1), 0);
        let responses = write_together(&mut writer, vec![large()]);
        assert!(matches!(responses[..], [Err(store::Error::NoSpace(_))]), "{responses:?}");
        let kill = commit(removal("a", RemovalReason::Killed, 2), 1);
        let responses = write_together(&mut writer, vec![large(), kill, large()]);
        assert!(matches!(
            responses[..],
            [Err(store::Error::NoSpace(_)), Ok(_), Err(store::Error::NoSpace(_))]
        ));
        assert!(is_removed(&store, &responses[1]));
        assert_eq!((store.revision(), fixture::faults(dir.path())), (2, Vec::<String>::new()));
    }

    #[test]
    fn the_reserve_is_for_commits_that_only_remove() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut writer) = open(dir.path());
        write_together(&mut writer, vec![commit(article("a", "A", &[], 1), 0)]);
        drop((store, writer));
        let options = store::Options {
            dir: dir.path().to_owned(),
            readers: 1,
            reserve_bytes: u64::MAX,
            health: Arc::default(),
        };
        let (store, mut writer) = Store::open(options, crate::model::LogId(7)).unwrap();
        let put = commit(article("b", "B", &[], 1), 0);
        let removes = commit(removal("a", RemovalReason::Deleted, 2), 1);
        let mut mixed = removes.clone();
        mixed.steps.extend(put.steps.clone());
        let responses = write_together(&mut writer, vec![put, mixed, removes]);
        assert!(matches!(
            responses[..],
            [Err(store::Error::Full { .. }), Err(store::Error::Full { .. }), Ok(_)]
        ));
        assert!(is_removed(&store, &responses[2]));
        assert_eq!((store.revision(), fixture::faults(dir.path())), (2, Vec::<String>::new()));
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

    /// A kill of many entries, an import and a compaction are long jobs.
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
