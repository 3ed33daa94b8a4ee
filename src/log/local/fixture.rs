//! Commits for the tests of the log.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    audit::Origin,
    entry::Entry,
    log::{Change, Commit, Expected, Step},
    model::Revision,
    store::envelope,
    wire::v1::RemovalReason,
};

/// Returns a commit of one entry, which was planned for a revision of the live slot.
pub(super) fn commit(entry: Entry, live: Revision) -> Commit {
    let erases = entry.log.reason() == RemovalReason::Killed;
    let packed = envelope::pack(&entry.bytes).unwrap();
    let request = Some((format!("of {}", entry.name), entry.hash));
    let expected = Expected { live, pending: 0 };
    let step = Step::Append(vec![Change { entry, packed, expected, path_owner: None }]);
    Commit {
        steps: vec![step],
        request: request.filter(|_| erases),
        time: 1,
        origin: Arc::new(Origin::scheduler()),
        erases,
        displaces: Vec::new(),
    }
}

/// Returns a permit of a queue of its own.
pub(super) fn permit() -> OwnedSemaphorePermit {
    Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap()
}
