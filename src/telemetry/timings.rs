//! The durations of events, in the buckets of the calls. Unlike the histogram of the registry's library, their number and
//! sum can be read.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

use super::calls::{BUCKETS, Durations};

/// A distribution of durations, shared with the registry.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timings(Arc<Durations>);

impl Timings {
    pub(crate) fn record(&self, duration: Duration) {
        self.0.record(duration);
    }

    /// Returns the number of durations.
    pub(super) fn count(&self) -> u64 {
        self.0.counts.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// Returns the sum of the durations in seconds.
    pub(super) fn seconds(&self) -> f64 {
        seconds(self.0.nanos.load(Relaxed))
    }
}

impl TypedMetric for Timings {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Timings {
    fn encode(&self, encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        let counts = std::array::from_fn(|i| self.0.counts[i].load(Relaxed));
        encode(encoder, &counts, self.0.nanos.load(Relaxed))
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// Encodes the number of durations in each bucket and above the last one, and their sum.
pub(super) fn encode(
    mut encoder: MetricEncoder,
    counts: &[u64; BUCKETS.len() + 1],
    nanos: u64,
) -> Result<(), std::fmt::Error> {
    let bounds = BUCKETS.map(seconds).into_iter().chain([f64::INFINITY]);
    let buckets: Vec<_> = bounds.zip(*counts).collect();
    encoder.encode_histogram::<NoLabelSet>(seconds(nanos), counts.iter().sum(), &buckets, None)
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_and_the_sum_can_be_read() {
        let timings = Timings::default();
        timings.clone().record(Duration::from_millis(4));
        timings.record(Duration::from_secs(60));
        assert_eq!((timings.count(), timings.seconds()), (2, 60.004));
    }
}
