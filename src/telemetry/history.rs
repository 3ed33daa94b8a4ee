//! The last hour of what varies in a node: a ring of samples of the metrics, for the plots of the operations page.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::{
    Metrics, Queue,
    calls::{BUCKETS, MethodTotals},
    process::{cpu_seconds, resident_bytes},
    rates,
    timings::Timings,
};

/// The time between two samples.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);

/// The time that the samples cover.
pub(crate) const COVERED: Duration = Duration::from_secs(3_600);

/// The number of samples: one hour. A press night is watched in minutes, and Prometheus has the days. They occupy
/// [`MAX_BYTES`] at most.
const SAMPLES: usize = (COVERED.as_secs() / INTERVAL.as_secs()) as usize;

/// The maximum size of the samples in bytes.
const MAX_BYTES: usize = 128 << 10;

const _: () = assert!(SAMPLES * size_of::<Sample>() <= MAX_BYTES);

/// A sample is due this long before the interval has passed: the task that takes it runs once a second, and is late
/// rather than early.
const SLACK: Duration = Duration::from_millis(500);

/// The codes that count as failures of the node, as in the alert `CableErrors`: UNKNOWN, INTERNAL, UNAVAILABLE and
/// DATA_LOSS.
const FAILURES: [usize; 4] = [2, 13, 14, 15];

/// A value that varies. Rates are those since the sample before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Series {
    /// Revisions per second.
    Commits,
    /// Mean time to write a group of commits, in seconds.
    CommitTime,
    /// Mean time of the commit of a group on disk, in seconds.
    SyncTime,
    /// Calls that have ended, per second.
    Calls,
    /// Calls that the node has failed, per second.
    Failures,
    /// Upper bound of the median of the durations of calls, in seconds. Infinite above the last bucket.
    Median,
    /// Upper bound of the 99th percentile of the durations of calls, in seconds. Infinite above the last bucket.
    P99,
    /// Bytes of messages that ended calls have sent, per second.
    SentBytes,
    /// Calls, writes and connections that were refused, per second.
    Refusals,
    /// Delay of calls before they are served, in seconds.
    Delay,
    /// The part of the reads that was served from memory.
    HitRatio,
    CacheBytes,
    ResidentBytes,
    /// Processor time per second: the number of cores in use.
    Processor,
    Feeds,
    /// Revisions that the feed furthest behind is behind.
    Lag,
    Connections,
    Pending,
    StoreBytes,
    FreeBytes,
}

const SERIES: usize = Series::FreeBytes as usize + 1;

/// The values at one time. A value is `None` if nothing happened that it could describe.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) time: Instant,
    values: [Option<f32>; SERIES],
}

impl Sample {
    pub(crate) fn value(&self, series: Series) -> Option<f32> {
        self.values[series as usize]
    }

    fn set(&mut self, series: Series, value: f64) {
        self.values[series as usize] = Some(value as f32);
    }
}

/// A number of events, and the sum of their durations in seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Timing {
    count: u64,
    seconds: f64,
}

impl Timing {
    fn of(timings: &Timings) -> Timing {
        Timing { count: timings.count(), seconds: timings.seconds() }
    }

    /// Returns the mean duration of the events since an earlier time.
    fn mean_since(self, before: Timing) -> Option<f64> {
        let count = self.count.saturating_sub(before.count);
        (count > 0).then(|| (self.seconds - before.seconds).max(0.0) / count as f64)
    }
}

/// The counts since the start.
#[derive(Debug, Clone, Default)]
struct Counts {
    revisions: u64,
    commits: Timing,
    syncs: Timing,
    calls: u64,
    failures: u64,
    sent_bytes: u64,
    refusals: u64,
    cache_hits: u64,
    cache_misses: u64,
    processor_seconds: f64,
    /// The durations of the calls without a stream of responses, by bucket.
    durations: [u64; BUCKETS.len() + 1],
}

/// The ring of samples.
#[derive(Debug)]
pub(super) struct History {
    samples: VecDeque<Sample>,
    /// The counts at the newest sample.
    before: Counts,
}

impl Default for History {
    fn default() -> History {
        History { samples: VecDeque::with_capacity(SAMPLES), before: Counts::default() }
    }
}

impl History {
    /// Returns whether the next sample is due.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.samples.back().is_none_or(|newest| now.duration_since(newest.time) + SLACK >= INTERVAL)
    }

    /// Takes a sample. The totals are those of the calls of each method.
    pub(super) fn take(&mut self, now: Instant, metrics: &Metrics, totals: &BTreeMap<String, MethodTotals>) {
        let counts = Counts::read(metrics, totals);
        let mut sample = Sample { time: now, values: [None; SERIES] };
        add_gauges(&mut sample, metrics);
        if let Some(newest) = self.samples.back() {
            add_rates(&mut sample, &self.before, &counts, now.duration_since(newest.time));
        }
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        self.before = counts;
    }

    /// Returns the samples, the oldest first.
    pub(super) fn samples(&self) -> Vec<Sample> {
        self.samples.iter().copied().collect()
    }
}

impl Counts {
    fn read(metrics: &Metrics, totals: &BTreeMap<String, MethodTotals>) -> Counts {
        let refused =
            [&metrics.denials, &metrics.writes_refused, &metrics.calls_shed].map(|family| family.total());
        let mut counts = Counts {
            revisions: metrics.entries_applied.get(),
            commits: Timing::of(&metrics.commit_seconds),
            syncs: Timing::of(&metrics.commit_sync_seconds),
            refusals: refused.iter().sum::<u64>() + metrics.connections_refused.get(),
            cache_hits: metrics.cache_hits.get(),
            cache_misses: metrics.cache_misses.get(),
            processor_seconds: cpu_seconds(),
            ..Counts::default()
        };
        for totals in totals.values() {
            counts.calls += totals.ended.iter().sum::<u64>();
            counts.failures += FAILURES.iter().filter_map(|code| totals.ended.get(*code)).sum::<u64>();
            counts.sent_bytes += totals.bytes;
            if !totals.streams {
                counts.durations.iter_mut().zip(totals.buckets).for_each(|(sum, count)| *sum += count);
            }
        }
        counts
    }
}

fn add_gauges(sample: &mut Sample, metrics: &Metrics) {
    let delay = metrics.queue_delay_seconds.get(&Queue::SERVE).map_or(0.0, |delay| delay.get());
    for (series, value) in [
        (Series::Delay, delay),
        (Series::CacheBytes, metrics.cache_bytes.get() as f64),
        (Series::ResidentBytes, resident_bytes() as f64),
        (Series::Feeds, metrics.feeds.get() as f64),
        (Series::Lag, metrics.feed_lag_revisions.get() as f64),
        (Series::Connections, metrics.connections.get() as f64),
        (Series::Pending, metrics.pending.get() as f64),
        (Series::StoreBytes, metrics.store_bytes.get() as f64),
        (Series::FreeBytes, metrics.disk_free_bytes.get() as f64),
    ] {
        sample.set(series, value);
    }
}

fn add_rates(sample: &mut Sample, before: &Counts, after: &Counts, time: Duration) {
    let seconds = time.as_secs_f64().max(0.001);
    let since = |count: fn(&Counts) -> u64| count(after).saturating_sub(count(before)) as f64;
    for (series, count) in [
        (Series::Commits, since(|counts| counts.revisions)),
        (Series::Calls, since(|counts| counts.calls)),
        (Series::Failures, since(|counts| counts.failures)),
        (Series::SentBytes, since(|counts| counts.sent_bytes)),
        (Series::Refusals, since(|counts| counts.refusals)),
        (Series::Processor, (after.processor_seconds - before.processor_seconds).max(0.0)),
    ] {
        sample.set(series, count / seconds);
    }
    let durations = std::array::from_fn(|i| after.durations[i].saturating_sub(before.durations[i]));
    let hits = since(|counts| counts.cache_hits);
    let reads = hits + since(|counts| counts.cache_misses);
    for (series, value) in [
        (Series::CommitTime, after.commits.mean_since(before.commits)),
        (Series::SyncTime, after.syncs.mean_since(before.syncs)),
        (Series::Median, bound(&durations, 0.5)),
        (Series::P99, bound(&durations, 0.99)),
        (Series::HitRatio, (reads > 0.0).then(|| hits / reads)),
    ] {
        value.into_iter().for_each(|value| sample.set(series, value));
    }
}

/// Returns the upper bound of a quantile in seconds, infinite above the last bucket. `None` without a call.
fn bound(durations: &[u64; BUCKETS.len() + 1], quantile: f64) -> Option<f64> {
    let bound = rates::quantile(durations, quantile).map_or(f64::INFINITY, |bound| bound.as_secs_f64());
    (durations.iter().sum::<u64>() > 0).then_some(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes samples in steps of the interval, from a time that is the same for all.
    struct Ring {
        history: History,
        start: Instant,
        metrics: Metrics,
    }

    impl Ring {
        fn new() -> Ring {
            Ring { history: History::default(), start: Instant::now(), metrics: Metrics::new() }
        }

        fn take(&mut self, step: u32) -> Sample {
            let totals = self.metrics.call_totals();
            self.history.take(self.start + step * INTERVAL, &self.metrics, &totals);
            self.history.samples().pop().unwrap()
        }
    }

    #[test]
    fn a_sample_has_the_rates_since_the_one_before() {
        let mut ring = Ring::new();
        let (get, watch) = (ring.metrics.for_method("Get", false), ring.metrics.for_method("Watch", true));
        ring.metrics.feeds.set(7);
        let first = ring.take(0);
        assert_eq!((first.value(Series::Feeds), first.value(Series::Calls)), (Some(7.0), None));
        for _ in 0..98 {
            get.record(0, Duration::from_micros(100), None, 10);
        }
        get.record(13, Duration::from_secs(60), None, 0);
        get.record(5, Duration::from_secs(60), None, 0);
        // A follower that leaves after a minute is no slow call.
        watch.record(1, Duration::from_secs(60), Some(Duration::from_secs(60)), 20);
        ring.metrics.entries_applied.inc_by(10);
        ring.metrics.commit_seconds.record(Duration::from_millis(4));
        ring.metrics.commit_seconds.record(Duration::from_millis(8));
        ring.metrics.cache_hits.inc_by(3);
        ring.metrics.cache_misses.inc();
        ring.metrics.count_denial("UNAUTHENTICATED");
        ring.metrics.count_refused_write("STORE_FULL");
        let second = ring.take(1);
        let value = |series| second.value(series).unwrap();
        assert_eq!((value(Series::Calls), value(Series::Failures)), (101.0 / 5.0, 1.0 / 5.0));
        assert_eq!((value(Series::Median), value(Series::P99)), (0.000_2, f32::INFINITY));
        assert_eq!((value(Series::SentBytes), value(Series::Commits)), (200.0, 2.0));
        assert!((value(Series::CommitTime) - 0.006).abs() < 1e-6);
        assert_eq!((value(Series::HitRatio), value(Series::Refusals)), (0.75, 2.0 / 5.0));
        let idle = ring.take(2);
        assert_eq!((idle.value(Series::Calls), idle.value(Series::Commits)), (Some(0.0), Some(0.0)));
        for series in [Series::Median, Series::P99, Series::CommitTime, Series::SyncTime, Series::HitRatio] {
            assert_eq!(idle.value(series), None, "{series:?}");
        }
    }

    #[test]
    fn the_ring_has_one_hour_and_no_more() {
        let mut ring = Ring::new();
        for step in 0..SAMPLES as u32 + 10 {
            ring.take(step);
        }
        let samples = ring.history.samples();
        assert_eq!((samples.len(), ring.history.samples.capacity()), (SAMPLES, SAMPLES));
        assert_eq!(samples[0].time, ring.start + 10 * INTERVAL);
        let covered = samples[SAMPLES - 1].time - samples[0].time;
        assert_eq!(covered + INTERVAL, COVERED);
    }

    #[test]
    fn a_sample_is_due_once_per_interval() {
        let mut ring = Ring::new();
        assert!(ring.history.is_due(ring.start));
        ring.take(0);
        for (millis, due) in [(0, false), (4_400, false), (4_500, true), (9_000, true)] {
            assert_eq!(ring.history.is_due(ring.start + Duration::from_millis(millis)), due, "{millis}");
        }
    }
}
