//! How far each open feed is behind, for a metric.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

use crate::model::Revision;

/// A feed that waits for changes is behind by none, whatever it was last sent.
const CAUGHT_UP: Revision = Revision::MAX;

/// The revisions up to which the open feeds have been sent everything.
#[derive(Debug, Default)]
pub(super) struct Lags {
    feeds: Mutex<HashMap<u64, Arc<AtomicI64>>>,
    next: AtomicU64,
}

/// The progress of one feed, until it is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    sent: Arc<AtomicI64>,
    number: u64,
    lags: Arc<Lags>,
}

impl Lags {
    pub(super) fn track(self: &Arc<Lags>) -> Progress {
        let (sent, number) = (Arc::new(AtomicI64::new(CAUGHT_UP)), self.next.fetch_add(1, Relaxed));
        self.feeds().insert(number, sent.clone());
        Progress { sent, number, lags: self.clone() }
    }

    /// Returns by how many revisions the feed furthest behind is behind the head.
    pub(super) fn max(&self, head: Revision) -> u64 {
        let furthest = self.feeds().values().map(|sent| sent.load(Relaxed)).min().unwrap_or(CAUGHT_UP);
        head.saturating_sub(furthest).max(0).unsigned_abs()
    }

    fn feeds(&self) -> MutexGuard<'_, HashMap<u64, Arc<AtomicI64>>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    /// Notes that the feed was sent everything up to a revision, and may have more to send.
    pub(super) fn sent(&self, revision: Revision) {
        self.sent.store(revision, Relaxed);
    }

    /// Notes that the feed waits for changes.
    pub(super) fn caught_up(&self) {
        self.sent.store(CAUGHT_UP, Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.lags.feeds().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_that_of_the_feed_furthest_behind() {
        let lags = Arc::<Lags>::default();
        assert_eq!(lags.max(100), 0);
        let [slow, fast] = [lags.track(), lags.track()];
        assert_eq!(lags.max(100), 0);
        slow.sent(40);
        fast.sent(90);
        assert_eq!(lags.max(100), 60);
        drop(slow);
        assert_eq!(lags.max(100), 10);
        fast.caught_up();
        assert_eq!(lags.max(1_000), 0);
    }
}
