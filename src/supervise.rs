//! Supervision: every long-lived task and thread has a name, and its end is detected. If one ends early or panics, the
//! node reports [`Condition::TaskFailed`] with that name. `server::run` waits for this condition and ends the node.

use std::{
    any::Any,
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use futures_util::FutureExt as _;

use crate::health::{Condition, Health};

/// Runs work that must not end before it is dropped. If it ends or panics, the node has failed.
pub(crate) async fn run_endless(name: &'static str, health: Arc<Health>, work: impl Future<Output = ()>) {
    let ended = AssertUnwindSafe(killable(name, &health, work)).catch_unwind().await;
    report(
        name,
        &health,
        &ended.err().map_or_else(|| "ended early".to_owned(), |panic| describe_panic(&*panic)),
    );
}

/// A supervised task. Dropping the handle leaves the task running.
#[derive(Debug)]
pub(crate) struct Task(tokio::task::JoinHandle<()>);

impl Task {
    /// Starts a task that must not end on its own.
    pub(crate) fn start(
        name: &'static str,
        health: &Arc<Health>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Task {
        Task(tokio::spawn(run_endless(name, health.clone(), work)))
    }

    /// Aborts the task, and waits until it has released its resources.
    pub(crate) async fn abort_and_join(self) {
        self.0.abort();
        let _ = self.0.await;
    }
}

/// Starts a thread. It may return when its owner has closed its queue. If it panics, the node has failed.
///
/// # Errors
/// Fails if the system cannot create another thread.
pub(crate) fn spawn(
    name: String,
    health: Arc<Health>,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.clone()).spawn(move || {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            report(&name, &health, &describe_panic(&*panic));
        }
    })
}

/// Reports that a task or thread has failed.
pub(crate) fn report(name: &str, health: &Health, how: &str) {
    health.report(Condition::TaskFailed, format_args!("the task `{name}` {how}"));
}

/// Returns the message of a panic.
pub(crate) fn describe_panic(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", message.unwrap_or("no message"))
}

/// A point at which tests can make a thread panic. Outside of tests it does nothing.
#[inline]
pub(crate) fn failpoint(name: &str, health: &Health) {
    #[cfg(test)]
    failpoint::check(name, health);
    #[cfg(not(test))]
    let _ = (name, health);
}

/// Wraps work so that tests can end it. Outside of tests it returns the work unchanged.
pub(crate) fn killable(
    name: &str,
    health: &Arc<Health>,
    work: impl Future<Output = ()>,
) -> impl Future<Output = ()> {
    #[cfg(test)]
    let work = failpoint::until_killed(name.to_owned(), health.clone(), work);
    #[cfg(not(test))]
    let _ = (name, health);
    work
}

/// Failures that tests inject.
#[cfg(test)]
pub(crate) mod failpoint {
    use futures_util::future::{Either, select};

    use super::*;

    /// How a task ends.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Kill {
        Panic,
        Return,
        /// The thread blocks until the test requests something else.
        Hang,
    }

    /// Panics or blocks if a test has requested it for this task.
    pub(super) fn check(name: &str, health: &Health) {
        let is_requested =
            |kill| health.kill.borrow().as_ref().is_some_and(|(killed, how)| killed == name && *how == kill);
        while is_requested(Kill::Hang) {
            thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(!is_requested(Kill::Panic), "killed by a test");
    }

    /// Runs work until a test ends it.
    pub(super) async fn until_killed(name: String, health: Arc<Health>, work: impl Future<Output = ()>) {
        let mut kills = health.kill.subscribe();
        let killed = kills.wait_for(|kill| kill.as_ref().is_some_and(|(killed, _)| *killed == name));
        let (killed, work) = (std::pin::pin!(killed), std::pin::pin!(work));
        if let Either::Left((killed, _)) = select(killed, work).await {
            drop(killed);
            check(&name, &health);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{failpoint::Kill, *};

    fn cause(health: &Health) -> String {
        health.cause(Condition::TaskFailed).map(|cause| cause.to_string()).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_task_that_panics_or_ends_is_reported_with_its_name() {
        for (how, expected) in [
            (Kill::Panic, "the task `a` panicked: killed by a test"),
            (Kill::Return, "the task `a` ended early"),
        ] {
            let health = Arc::new(Health::default());
            let [a, b] = ["a", "b"].map(|name| Task::start(name, &health, std::future::pending()));
            health.kill.send_replace(Some(("a".into(), how)));
            let mut watching = health.subscribe();
            watching.wait_for(|conditions| conditions.is_active(Condition::TaskFailed)).await.unwrap();
            assert_eq!(cause(&health), expected);
            a.abort_and_join().await;
            b.abort_and_join().await;
        }
    }

    #[tokio::test]
    async fn an_aborted_task_is_not_a_failure() {
        let health = Arc::new(Health::default());
        Task::start("a", &health, std::future::pending()).abort_and_join().await;
        assert_eq!(cause(&health), "");
    }

    #[test]
    fn a_thread_may_return_and_must_not_panic() {
        let health = Arc::new(Health::default());
        spawn("a".into(), health.clone(), || {}).unwrap().join().unwrap();
        assert_eq!(cause(&health), "");
        spawn("a".into(), health.clone(), || panic!("no {}", "way")).unwrap().join().unwrap();
        assert_eq!(cause(&health), "the task `a` panicked: no way");
    }
}
