//! The writer's thread: it runs the queued jobs one at a time, and the waiting appends together.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::mpsc;

use super::{Append, Job, Recorder, THREAD_NAME, group};
use crate::{
    health::Health,
    store::{self, Writer},
    supervise,
};

/// The number of entries at which a group is complete. 1,000 entries occupy the writer for some 0.1 s.
const MAX_GROUP_ENTRIES: usize = 1_000;

/// Runs jobs until the queue is closed. After a panic it rejects the queued jobs: they have certainly not been done.
pub(super) fn run(mut writer: Writer, mut jobs: mpsc::Receiver<Job>, health: &Health, recorder: &Recorder) {
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
                group::write(writer, group, health, recorder);
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

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        log::local::{
            MAX_QUEUED_JOBS,
            fixture::{commit, permit},
        },
        store::{
            fixture::{article, open},
            floor::History,
        },
    };

    #[test]
    fn after_a_panic_the_queued_jobs_are_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let (store, writer) = open(dir.path());
        let (queue, jobs) = mpsc::channel(MAX_QUEUED_JOBS);
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
        run(writer, jobs, store.health(), &Recorder::for_test());

        assert!(matches!(first.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert!(matches!(compacted.try_recv().unwrap(), Err(store::Error::Closed)));
        assert!(matches!(later.try_recv().unwrap(), Err(store::Error::Closed)));
        let cause = store.health().cause(crate::health::Condition::TaskFailed);
        assert_eq!(cause.as_deref(), Some("the task `log-write` panicked: killed by a test"));
        assert_eq!(store.revision(), 0);
    }
}
