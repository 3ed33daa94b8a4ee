//! The protections of connections, tested from outside. A peer that breaks the protocol, sends nothing, reads nothing
//! or stays too long is disconnected, and all other peers are served meanwhile.

use std::time::Duration;

mod answers;
mod cancel;
mod drain;
mod floods;
pub(crate) mod frames;
mod memory;
mod origins;
mod partial;
pub(crate) mod places;
pub(crate) mod program;
mod signals;
mod slow;
pub(crate) mod speaker;
mod time;
mod unread;
mod web;

/// The maximum time that a test waits for an expected event. It is far longer than the event takes, so that no test
/// fails on a slow machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for an expected event.
pub(crate) async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, event).await.expect("the event happens in time")
}

/// Returns whether an event does not happen within the time that it would take.
async fn is_still_pending<T>(event: impl Future<Output = T>) -> bool {
    tokio::time::timeout(Duration::from_millis(500), event).await.is_err()
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
