//! Counters by reason, which a page can list as well as a scraper.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder},
    metrics::{MetricType, TypedMetric, counter::Counter},
};

/// A family of counters with the label `reason`. Reasons are those of this program and of the schema, so there are few.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reasons(Arc<Mutex<BTreeMap<String, Counter>>>);

impl Reasons {
    /// Returns the counter of a reason.
    pub(super) fn counter(&self, reason: &str) -> Counter {
        let mut counters = self.counters();
        match counters.get(reason) {
            Some(counter) => counter.clone(),
            None => counters.entry(reason.to_owned()).or_default().clone(),
        }
    }

    /// Returns the reasons with their counts, in alphabetical order.
    pub(crate) fn list(&self) -> Vec<(String, u64)> {
        self.counters().iter().map(|(reason, counter)| (reason.clone(), counter.get())).collect()
    }

    /// Returns the sum over all reasons.
    pub(super) fn total(&self) -> u64 {
        self.counters().values().map(Counter::get).sum()
    }

    fn counters(&self) -> MutexGuard<'_, BTreeMap<String, Counter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TypedMetric for Reasons {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for Reasons {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        for (reason, counter) in self.counters().iter() {
            counter.encode(encoder.encode_family(&[("reason", &reason[..])])?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }

    fn is_empty(&self) -> bool {
        self.counters().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_listed_with_their_counts() {
        let reasons = Reasons::default();
        assert!(reasons.is_empty());
        let first = reasons.counter("b");
        first.inc();
        reasons.counter("b").inc();
        reasons.counter("a").inc_by(3);
        assert_eq!(reasons.list(), [("a".to_owned(), 3), ("b".to_owned(), 2)]);
        assert_eq!((reasons.total(), first.get()), (5, 2));
    }
}
