//! The protections of connections, from outside: what breaks the protocol, says nothing, takes nothing or stays too
//! long is sent away, and everybody else is served meanwhile.

use std::time::Duration;

mod answers;
mod drain;
mod floods;
mod frames;
mod memory;
mod origins;
mod partial;
mod places;
pub(crate) mod program;
mod signals;
pub(crate) mod speaker;
mod time;
mod unread;
mod web;

/// How long a test waits for what must happen. Far more than it takes, so that a slow machine fails nothing.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what must happen.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it happens in time")
}

/// Whether nothing happens for as long as it would have taken.
async fn nothing<T>(what: impl Future<Output = T>) -> bool {
    tokio::time::timeout(Duration::from_millis(500), what).await.is_err()
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
