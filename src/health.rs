//! The conditions of a node: what its subsystems report in one place, and what follows from it. The health service,
//! `/readyz` and a metric show them; the store refuses writes under some of them.

use std::{fmt::Display, sync::Arc};

use tokio::sync::watch;

/// The services whose health is known, beside that of the whole node, which has the empty name.
pub(crate) const SERVICES: [&str; 5] = [
    "cable.v1.ContentService",
    "cable.v1.FeedService",
    "cable.v1.PublishingService",
    "cable.v1.StatusService",
    "cable.v1.TransferService",
];

/// The service that conditions of writing concern.
const PUBLISHING: &str = "cable.v1.PublishingService";

/// A state in which a node does not serve all that it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The node shuts down.
    Draining,
    /// A supervised task or thread has ended early. The node shuts down with an error.
    TaskFailed,
    /// SQLite reports the database as malformed. Writes are refused until it is replaced.
    DatabaseCorrupt,
    /// A sync to the disk failed. Writes are refused until the node is restarted: a sync that is repeated can succeed
    /// although the data of the first is lost.
    SyncFailed,
    /// The disk has less free space than the reserve, or none. It ends when there is space again.
    DiskFull,
}

impl Condition {
    pub(crate) const ALL: [Condition; 5] = [
        Condition::Draining,
        Condition::TaskFailed,
        Condition::DatabaseCorrupt,
        Condition::SyncFailed,
        Condition::DiskFull,
    ];

    /// Its name in metrics, logs and `/readyz`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Condition::Draining => "draining",
            Condition::TaskFailed => "task_failed",
            Condition::DatabaseCorrupt => "database_corrupt",
            Condition::SyncFailed => "sync_failed",
            Condition::DiskFull => "disk_full",
        }
    }

    /// Whether it concerns writes alone: the node goes on reading.
    fn is_of_writes(self) -> bool {
        matches!(self, Condition::SyncFailed | Condition::DiskFull)
    }
}

/// The conditions that hold, each with its cause.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions([Option<Arc<str>>; Condition::ALL.len()]);

impl Conditions {
    /// The cause of a condition that holds.
    pub(crate) fn cause(&self, condition: Condition) -> Option<&Arc<str>> {
        self.0[condition as usize].as_ref()
    }

    pub(crate) fn holds(&self, condition: Condition) -> bool {
        self.cause(condition).is_some()
    }

    /// Those that hold, with their causes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Condition, &Arc<str>)> {
        Condition::ALL.into_iter().filter_map(|condition| Some((condition, self.cause(condition)?)))
    }

    /// Whether a service serves. The empty name is that of the whole node, which serves as long as it reads.
    pub(crate) fn is_serving(&self, service: &str) -> bool {
        !self.iter().any(|(condition, _)| service == PUBLISHING || !condition.is_of_writes())
    }
}

/// The health of one node, which all of its parts share.
#[derive(Debug, Default)]
pub(crate) struct Health {
    conditions: watch::Sender<Conditions>,
    /// The task that a test ends, and how.
    #[cfg(test)]
    pub(crate) kill: watch::Sender<Option<(String, crate::supervise::failpoint::Kill)>>,
}

impl Health {
    /// Reports that a condition holds. The first report of it is logged, with its cause.
    pub(crate) fn report(&self, condition: Condition, cause: impl Display) {
        let is_new = self.conditions.send_if_modified(|conditions| {
            let found = &mut conditions.0[condition as usize];
            let is_new = found.is_none();
            found.get_or_insert_with(|| cause.to_string().into());
            is_new
        });
        if is_new && condition != Condition::Draining {
            tracing::error!(condition = condition.name(), cause = %cause, "the node does not serve all calls");
        }
    }

    /// Reports that a condition has ended.
    pub(crate) fn clear(&self, condition: Condition) {
        let has_ended =
            self.conditions.send_if_modified(|conditions| conditions.0[condition as usize].take().is_some());
        if has_ended {
            tracing::info!(condition = condition.name(), "the condition has ended");
        }
    }

    /// The conditions that hold now.
    pub(crate) fn conditions(&self) -> Conditions {
        self.conditions.borrow().clone()
    }

    /// The cause of a condition that holds now.
    pub(crate) fn cause(&self, condition: Condition) -> Option<Arc<str>> {
        self.conditions.borrow().cause(condition).cloned()
    }

    /// Waits until a condition holds.
    pub(crate) async fn reached(&self, condition: Condition) {
        // The sender lives as long as this is borrowed.
        let _ = self.subscribe().wait_for(|conditions| conditions.holds(condition)).await;
    }

    /// To wait for changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Conditions> {
        self.conditions.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_of_writes_concern_the_publishing_service_alone() {
        for condition in Condition::ALL {
            let health = Health::default();
            assert!(health.conditions().is_serving("") && health.conditions().is_serving(PUBLISHING));
            health.report(condition, "a test");
            let conditions = health.conditions();
            assert!(!conditions.is_serving(PUBLISHING), "{condition:?}");
            let reads_go_on = matches!(condition, Condition::SyncFailed | Condition::DiskFull);
            for service in SERVICES.into_iter().chain([""]).filter(|service| *service != PUBLISHING) {
                assert_eq!(conditions.is_serving(service), reads_go_on, "{condition:?}: {service}");
            }
            health.clear(condition);
            assert!(health.conditions().is_serving(PUBLISHING), "{condition:?}");
        }
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
        assert_eq!(Condition::ALL.map(|condition| condition as usize), [0, 1, 2, 3, 4]);
    }
}
