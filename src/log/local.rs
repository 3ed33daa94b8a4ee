//! The log of a node on its own: the store itself. An entry is appended and applied in one transaction, together with
//! whatever else is waiting (group commit), and acknowledged when that is on disk.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::{Change, Commit, Log, Outcome, Position, Step};
use crate::{
    health::Health,
    model::{Kind, Slot},
    store::{
        self, Made, Writer,
        apply::{Applier, Request},
        floor::History,
    },
    supervise,
};

/// The writer's thread.
const NAME: &str = "log-write";

/// Appends that may wait; the next one is refused.
const QUEUE: usize = 1_024;

/// A group ends with the append that reaches this many entries; 1,000 hold the writer for some 0.1 s.
const GROUP: usize = 1_000;

type Answer = Result<Vec<Outcome>, store::Error>;

/// What the writer's thread does, one after the other.
enum Job {
    Append(Append),
    /// Lets go of old history, answering whether there is more of it.
    Compact {
        now: i64,
        history: History,
        reply: oneshot::Sender<Result<bool, store::Error>>,
    },
}

struct Append {
    commits: Vec<Commit>,
    reply: oneshot::Sender<Answer>,
}

impl Append {
    fn erases(&self) -> bool {
        self.commits.iter().any(|commit| commit.erases)
    }
}

/// The log of a single node. Dropping it waits until what is queued is written.
#[derive(Debug)]
pub(crate) struct LocalLog {
    queue: Option<mpsc::Sender<Job>>,
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
    /// Starts the writer's thread. If it panics, what the store holds in memory is unknown: the node must end.
    pub(crate) fn start(writer: Writer, health: Arc<Health>) -> LocalLog {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let work = move |health: &Health| work(writer, jobs, health);
        let spawned = supervise::spawn(NAME.into(), health.clone(), move || work(&health));
        let writer = spawned.expect("a thread can be started when the node starts");
        LocalLog { queue: Some(queue), writer: Some(writer) }
    }

    /// Lets go of one pass's worth of history, between writes. Answers whether there is more to let go of.
    ///
    /// # Errors
    /// The queue is full, or the store failed; a later pass does what this one did not.
    pub(crate) async fn compact(&self, now: i64, history: History) -> Result<bool, store::Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Compact { now, history, reply })?;
        answer.await.unwrap_or(Err(store::Error::Lost))
    }

    fn send(&self, job: Job) -> Result<(), store::Error> {
        let queue = self.queue.as_ref().ok_or(store::Error::Closed)?;
        queue.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => store::Error::Overloaded,
            mpsc::error::TrySendError::Closed(_) => store::Error::Closed,
        })
    }
}

impl Log for LocalLog {
    fn append(&self, commits: Vec<Commit>) -> BoxFuture<'_, Answer> {
        let (reply, answer) = oneshot::channel();
        let sent = self.send(Job::Append(Append { commits, reply }));
        Box::pin(async move {
            sent?;
            // The reply is dropped without a word only by a panic.
            answer.await.unwrap_or(Err(store::Error::Lost))
        })
    }
}

/// Works until the queue is closed. After a panic it refuses what is queued: that has certainly not happened.
fn work(mut writer: Writer, mut jobs: mpsc::Receiver<Job>, health: &Health) {
    let worked = catch_unwind(AssertUnwindSafe(|| work_on(&mut writer, &mut jobs, health)));
    if let Err(panic) = worked {
        supervise::report(NAME, health, &supervise::panicked(&*panic));
        jobs.close();
        while let Some(job) = jobs.blocking_recv() {
            refuse(job);
        }
    }
}

fn work_on(writer: &mut Writer, jobs: &mut mpsc::Receiver<Job>, health: &Health) {
    let mut next = Next::default();
    while let Some(job) = next.0.take().or_else(|| jobs.blocking_recv()) {
        match job {
            Job::Append(first) => {
                let (group, other) = gather(first, jobs);
                next.0 = other;
                write(writer, group, health);
            }
            Job::Compact { now, history, reply } => {
                let _ = reply.send(writer.compact(now, &history));
            }
        }
    }
}

/// The job after a group. If the group panics it is refused, like those that are queued.
#[derive(Default)]
struct Next(Option<Job>);

impl Drop for Next {
    fn drop(&mut self) {
        if let Some(job) = self.0.take() {
            refuse(job);
        }
    }
}

fn refuse(job: Job) {
    match job {
        Job::Append(append) => drop(append.reply.send(Err(store::Error::Closed))),
        Job::Compact { reply, .. } => drop(reply.send(Err(store::Error::Closed))),
    }
}

/// The appends that wait, up to a group, and the job after them if it is another one.
fn gather(first: Append, jobs: &mut mpsc::Receiver<Job>) -> (Vec<Append>, Option<Job>) {
    let entries = |append: &Append| append.commits.iter().map(|commit| commit.steps.len()).sum::<usize>();
    let mut size = entries(&first);
    let mut group = vec![first];
    while size < GROUP {
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

fn write(writer: &mut Writer, group: Vec<Append>, health: &Health) {
    let written = writer.transact(|applier| {
        supervise::failpoint(NAME, health);
        let append =
            |append: &Append| append.commits.iter().map(|commit| commit_one(applier, commit)).collect();
        group.iter().map(append).collect::<Result<Vec<Vec<Outcome>>, _>>()
    });
    match written {
        Ok(outcomes) => acknowledge(writer, group.into_iter().zip(outcomes)),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "a group of writes failed");
            for append in group {
                let _ = append.reply.send(Err(error.clone()));
            }
        }
    }
}

/// Kills are answered last, when what they removed is erased: whatever else is in the group need not wait for that.
fn acknowledge(writer: &mut Writer, written: impl Iterator<Item = (Append, Vec<Outcome>)>) {
    let (kills, others): (Vec<_>, Vec<_>) = written.partition(|(append, _)| append.erases());
    for (append, outcomes) in others {
        let _ = append.reply.send(Ok(outcomes));
    }
    if kills.is_empty() {
        return;
    }
    let erased = writer.erase();
    if let Err(error) = &erased {
        tracing::error!(error = error as &dyn std::error::Error, "what was killed is not erased");
    }
    for (append, outcomes) in kills {
        let _ = append.reply.send(erased.clone().map(|()| outcomes));
    }
}

/// All of a commit's conditions are checked before its first entry is applied, so that it happens whole or not.
fn commit_one(applier: &mut Applier<'_>, commit: &Commit) -> Result<Outcome, store::Error> {
    if let Some((id, hash)) = &commit.request {
        match applier.past_request(id)? {
            Some(past) if past.hash == *hash => return Ok(Outcome::Duplicate(past.made)),
            Some(_) => return Ok(Outcome::Reused),
            None => {}
        }
    }
    for step in &commit.steps {
        if let Step::Append(changes) = step
            && changes.last().map_or(Ok(false), |change| has_changed(applier, change))?
        {
            return Ok(Outcome::Conflict);
        }
    }
    let mut made: Vec<Made> = Vec::with_capacity(commit.steps.len());
    for step in &commit.steps {
        match step {
            Step::Append(changes) => made.extend(append(applier, changes)?),
            Step::Unchanged(found) => made.push(*found),
        }
    }
    if let Some((id, hash)) = &commit.request {
        applier.remember(&Request { id, hash, made: &made, time: commit.time })?;
    }
    Ok(Outcome::Committed(made, Position::of(applier.head())))
}

/// Whether a name is no longer what a change was made for. Only articles have more than one slot.
fn has_changed(applier: &Applier<'_>, change: &Change) -> Result<bool, store::Error> {
    let name = &change.entry.name;
    let slots = if name.kind == Kind::Article { &Slot::ALL[..] } else { &[Slot::Live] };
    for slot in slots {
        if applier.current(name, *slot)? != change.expected.of(*slot) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Applies the entries of one step: what came of the last.
fn append(applier: &mut Applier<'_>, changes: &[Change]) -> Result<Option<Made>, store::Error> {
    let mut last = None;
    for Change { entry, packed, .. } in changes {
        let revision = applier.apply(entry, packed)?;
        let due = entry.derived.due.filter(|_| entry.slot == Slot::Pending);
        last = Some(Made { revision, slot: entry.slot, due });
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{
        log::{Change, Expected},
        model::{Revision, Slot},
        store::{
            Made, envelope,
            fixture::{article, open, removal},
        },
        wire::v1::RemovalReason,
    };

    fn commit(entry: crate::entry::Entry, live: Revision) -> Commit {
        let erases = entry.log.reason() == RemovalReason::Killed;
        let packed = envelope::pack(&entry.bytes);
        let request = Some((format!("of {}", entry.name), entry.hash));
        let expected = Expected { live, pending: 0 };
        let step = Step::Append(vec![Change { entry, packed, expected }]);
        Commit { steps: vec![step], request: request.filter(|_| erases), time: 1, erases }
    }

    #[test]
    fn a_panic_leaves_its_group_open_and_refuses_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let (store, writer) = open(dir.path());
        let (queue, jobs) = mpsc::channel(QUEUE);
        let append = || {
            let (reply, answer) = oneshot::channel();
            let commits = vec![commit(article("a", "A", &[], 1), 0)];
            queue.try_send(Job::Append(Append { commits, reply })).ok().unwrap();
            answer
        };
        let mut first = append();
        let (reply, mut compacted) = oneshot::channel();
        let history = History { age: std::time::Duration::MAX, entries: 1 };
        queue.try_send(Job::Compact { now: 0, history, reply }).ok().unwrap();
        let mut later = append();
        store.health().kill.send_replace(Some((NAME.into(), supervise::failpoint::Kill::Panic)));
        work(writer, jobs, store.health());

        assert!(matches!(first.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert!(matches!(compacted.try_recv().unwrap(), Err(store::Error::Closed)));
        assert!(matches!(later.try_recv().unwrap(), Err(store::Error::Closed)));
        let cause = store.health().cause(crate::health::Condition::TaskFailed);
        assert_eq!(cause.as_deref(), Some("the task `log-write` panicked: killed by a test"));
        assert_eq!(store.revision(), 0);
    }

    #[tokio::test]
    async fn a_kill_and_its_repeat_are_answered_when_all_that_was_read_before_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (store, writer) = open(dir.path());
        let forgotten = Arc::new(Mutex::new(Vec::new()));
        let (noted, seen) = (forgotten.clone(), Arc::downgrade(&store));
        store.on_erase(move || noted.lock().unwrap().push(seen.upgrade().unwrap().revision()));
        let log = LocalLog::start(writer, Arc::default());
        let kill = commit(removal("a", RemovalReason::Killed, 2), 1);

        log.append(vec![commit(article("a", "A", &[], 1), 0)]).await.unwrap();
        assert!(forgotten.lock().unwrap().is_empty());
        log.append(vec![kill.clone()]).await.unwrap();
        assert_eq!(*forgotten.lock().unwrap(), [2]);
        let repeated = log.append(vec![Commit { steps: Vec::new(), ..kill }]).await.unwrap();
        assert_eq!(repeated, [Outcome::Duplicate(vec![Made { revision: 2, slot: Slot::Live, due: None }])]);
        assert_eq!(*forgotten.lock().unwrap(), [2, 2]);
    }
}
