//! A number of events per period, so that no caller can fill a log.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// The events that may be recorded in each period. Further ones are counted.
#[derive(Debug)]
pub(crate) struct Budget {
    per_period: u32,
    period: Duration,
    start: Instant,
    /// The number of the period in the upper half, that of its events in the lower one.
    taken: AtomicU64,
    omitted: AtomicU64,
    /// The period in which the omitted events were last reported.
    reported: AtomicU64,
}

impl Budget {
    pub(crate) fn new(per_period: u32, period: Duration) -> Budget {
        let [taken, omitted, reported] = [const { AtomicU64::new(0) }; 3];
        Budget { per_period, period, start: Instant::now(), taken, omitted, reported }
    }

    fn period(&self) -> u64 {
        (self.start.elapsed().as_nanos() / self.period.as_nanos().max(1)) as u64 & u64::from(u32::MAX)
    }

    /// Takes one event of the current period. If there is none left, counts it as omitted.
    pub(crate) fn take(&self) -> bool {
        let period = self.period();
        let next = |taken: u64| match (taken >> 32 == period, taken as u32) {
            (true, count) => (count < self.per_period).then_some(taken + 1),
            (false, _) => Some(period << 32 | 1),
        };
        let is_taken = self.taken.fetch_update(Relaxed, Relaxed, next).is_ok();
        if !is_taken {
            self.omit(1);
        }
        is_taken
    }

    /// Counts further events as omitted.
    pub(crate) fn omit(&self, count: u64) {
        self.omitted.fetch_add(count, Relaxed);
    }

    /// Returns the number of omitted events that were not reported.
    pub(crate) fn drain_omitted(&self) -> Option<u64> {
        Some(self.omitted.swap(0, Relaxed)).filter(|count| *count > 0)
    }

    /// Whether [`take_omitted`](Self::take_omitted) would return a number.
    fn has_omitted(&self) -> bool {
        self.omitted.load(Relaxed) > 0 && self.reported.load(Relaxed) != self.period() + 1
    }

    /// Returns the number of omitted events, at most once per period.
    pub(crate) fn take_omitted(&self) -> Option<u64> {
        if !self.has_omitted() {
            return None;
        }
        self.reported.store(self.period() + 1, Relaxed);
        self.drain_omitted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_above_the_budget_are_counted_and_reported_once() {
        let budget = Budget::new(3, Duration::from_secs(3_600));
        assert_eq!((0..10).filter(|_| budget.take()).count(), 3);
        assert_eq!((budget.take_omitted(), budget.take_omitted()), (Some(7), None));
        assert!(!budget.take());
        assert_eq!(budget.take_omitted(), None, "the next period reports it");
    }

    #[test]
    fn each_period_has_a_budget_of_its_own() {
        let budget = Budget::new(1, Duration::from_nanos(1));
        assert!((0..5).all(|_| budget.take()));
    }
}
