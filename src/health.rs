//! The conditions of a node: its subsystems report them in one place. The health service, `/readyz` and a metric show
//! them, and the store rejects writes under some of them.

use std::{
    fmt::{self, Display},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;

use crate::readiness;

/// The services whose health is reported, besides that of the whole node, which has the empty name.
pub(crate) const SERVICES: [&str; 6] = [
    "cable.v1.AdminService",
    "cable.v1.ContentService",
    "cable.v1.FeedService",
    "cable.v1.PublishingService",
    "cable.v1.StatusService",
    "cable.v1.TransferService",
];

/// The service that conditions of writing affect.
const PUBLISHING: &str = "cable.v1.PublishingService";

/// A state in which a node does not serve all that it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The node is shutting down.
    Draining,
    /// A supervised task or thread has ended early. The node shuts down with an error.
    TaskFailed,
    /// SQLite reports the database as malformed. Writes are rejected until the database is replaced.
    DatabaseCorrupt,
    /// A sync to the disk failed. Writes are rejected until the node is restarted: a repeated sync can succeed although
    /// the data of the first one is lost.
    SyncFailed,
    /// The disk has less free space than the reserve, or none. The condition ends when there is space again.
    DiskFull,
    /// The audit log cannot be written. Writes are rejected until it can.
    AuditFailed,
}

impl Condition {
    pub(crate) const ALL: [Condition; 6] = [
        Condition::Draining,
        Condition::TaskFailed,
        Condition::DatabaseCorrupt,
        Condition::SyncFailed,
        Condition::DiskFull,
        Condition::AuditFailed,
    ];

    /// Returns the name of the condition in metrics, logs and `/readyz`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Condition::Draining => readiness::DRAINING,
            Condition::TaskFailed => "task_failed",
            Condition::DatabaseCorrupt => "database_corrupt",
            Condition::SyncFailed => "sync_failed",
            Condition::DiskFull => "disk_full",
            Condition::AuditFailed => "audit_failed",
        }
    }

    /// Returns whether the condition affects writes alone, so that the node continues to read.
    fn is_write_condition(self) -> bool {
        matches!(self, Condition::SyncFailed | Condition::DiskFull | Condition::AuditFailed)
    }
}

/// The active conditions, each with its cause.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions([Option<Arc<str>>; Condition::ALL.len()]);

impl Conditions {
    /// Returns the cause of a condition, if it is active.
    pub(crate) fn cause(&self, condition: Condition) -> Option<&Arc<str>> {
        self.0[condition as usize].as_ref()
    }

    pub(crate) fn is_active(&self, condition: Condition) -> bool {
        self.cause(condition).is_some()
    }

    /// Returns the active conditions with their causes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Condition, &Arc<str>)> {
        Condition::ALL.into_iter().filter_map(|condition| Some((condition, self.cause(condition)?)))
    }

    /// Returns whether a service serves. The empty name is the whole node, which serves while it can read.
    pub(crate) fn is_serving(&self, service: &str) -> bool {
        !self.iter().any(|(condition, _)| service == PUBLISHING || !condition.is_write_condition())
    }
}

impl Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_serving("") { "serving" } else { "not ready" })?;
        self.iter().try_for_each(|(condition, cause)| write!(f, "; {}: {cause}", condition.name()))
    }
}

/// The health of one node, shared by all of its parts.
#[derive(Debug, Default)]
pub(crate) struct Health {
    conditions: watch::Sender<Conditions>,
    /// Whether the node was dropped before it ended, so that its tasks end early.
    is_abandoned: AtomicBool,
    /// The task that a test ends, and how.
    #[cfg(test)]
    pub(crate) kill: watch::Sender<Option<(String, crate::supervise::failpoint::Kill)>>,
}

impl Health {
    /// Ends the reports of tasks that end. Call it when the tasks are dropped on purpose.
    pub(crate) fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::Relaxed);
    }

    /// Reports that a condition is active. The first report is logged, with its cause.
    pub(crate) fn report(&self, condition: Condition, cause: impl Display) {
        if condition == Condition::TaskFailed && self.is_abandoned.load(Ordering::Relaxed) {
            return;
        }
        let is_new = self.conditions.send_if_modified(|conditions| {
            let found = &mut conditions.0[condition as usize];
            let is_new = found.is_none();
            found.get_or_insert_with(|| cause.to_string().into());
            is_new
        });
        if is_new && condition != Condition::Draining {
            tracing::error!(condition = condition.name(), cause = %cause, "node degraded");
        }
    }

    /// Reports that a condition has ended.
    pub(crate) fn clear(&self, condition: Condition) {
        let has_ended =
            self.conditions.send_if_modified(|conditions| conditions.0[condition as usize].take().is_some());
        if has_ended {
            tracing::info!(condition = condition.name(), "condition ended");
        }
    }

    /// Returns the conditions that are active now.
    pub(crate) fn conditions(&self) -> Conditions {
        self.conditions.borrow().clone()
    }

    /// Returns the cause of a condition, if it is active now.
    pub(crate) fn cause(&self, condition: Condition) -> Option<Arc<str>> {
        self.conditions.borrow().cause(condition).cloned()
    }

    /// Waits until a condition is active.
    pub(crate) async fn wait_for(&self, condition: Condition) {
        // The sender lives as long as `self` is borrowed.
        let _ = self.subscribe().wait_for(|conditions| conditions.is_active(condition)).await;
    }

    /// Returns a receiver that is notified of changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Conditions> {
        self.conditions.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_conditions_affect_only_the_publishing_service() {
        for condition in Condition::ALL {
            let health = Health::default();
            assert!(health.conditions().is_serving("") && health.conditions().is_serving(PUBLISHING));
            health.report(condition, "a test");
            let conditions = health.conditions();
            assert!(!conditions.is_serving(PUBLISHING), "{condition:?}");
            let reads_continue = condition.is_write_condition();
            for service in SERVICES.into_iter().chain([""]).filter(|service| *service != PUBLISHING) {
                assert_eq!(conditions.is_serving(service), reads_continue, "{condition:?}: {service}");
            }
            health.clear(condition);
            assert!(health.conditions().is_serving(PUBLISHING), "{condition:?}");
        }
    }

    #[test]
    fn a_node_that_is_dropped_has_no_failed_task() {
        let health = Health::default();
        health.abandon();
        health.report(Condition::TaskFailed, "the task `accept` ended early");
        assert_eq!(health.cause(Condition::TaskFailed), None);
        health.report(Condition::DiskFull, "a test");
        assert!(health.cause(Condition::DiskFull).is_some());
    }

    #[test]
    fn the_first_cause_of_a_condition_remains() {
        let health = Health::default();
        let mut watching = health.subscribe();
        health.report(Condition::SyncFailed, "the first");
        assert!(watching.has_changed().unwrap());
        watching.mark_unchanged();
        health.report(Condition::SyncFailed, "the second");
        assert!(!watching.has_changed().unwrap());
        assert_eq!(health.cause(Condition::SyncFailed).as_deref(), Some("the first"));
        assert_eq!(Condition::ALL.map(|condition| condition as usize), [0, 1, 2, 3, 4, 5]);
    }
}
