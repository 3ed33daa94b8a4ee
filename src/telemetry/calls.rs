//! The counters of calls. Each core has its own, so that counting a call shares no memory with another core; a scrape
//! adds them up.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use cable_proto::code_name;

/// Upper bounds of the buckets, in nanoseconds: from 50 microseconds, a cached read, to about 13 s, above the longest
/// wait that a call can request.
pub(super) const BUCKETS: [u64; 10] = [
    50_000,
    200_000,
    800_000,
    3_200_000,
    12_800_000,
    51_200_000,
    204_800_000,
    819_200_000,
    3_276_800_000,
    13_107_200_000,
];

const CODES: usize = 17;

/// A distribution of durations.
#[derive(Debug, Default)]
pub(super) struct Durations {
    /// The number in each bucket, and above the last one.
    pub(super) counts: [AtomicU64; BUCKETS.len() + 1],
    pub(super) nanos: AtomicU64,
}

impl Durations {
    pub(super) fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.counts[BUCKETS.partition_point(|bound| *bound < nanos)].fetch_add(1, Relaxed);
        self.nanos.fetch_add(nanos, Relaxed);
    }
}

/// The counters of one method's calls on one core.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct RpcCounters {
    /// Whether the response is a stream. Its duration is that of its client, so the time to its first message counts.
    streams: bool,
    started: AtomicU64,
    ended: [AtomicU64; CODES],
    bytes: AtomicU64,
    seconds: Durations,
}

/// The counters of one method's calls on one core, shared with the registry.
pub(crate) type RpcMetrics = Arc<RpcCounters>;

impl RpcCounters {
    /// Counts a call that has started.
    pub(crate) fn start(&self) {
        self.started.fetch_add(1, Relaxed);
    }

    /// Counts a call that has ended with this gRPC code.
    pub(crate) fn record(&self, code: i32, duration: Duration, first_message: Option<Duration>, bytes: u64) {
        let code = usize::try_from(code).ok().filter(|code| *code < CODES).unwrap_or(2);
        self.ended[code].fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
        if let Some(duration) = if self.streams { first_message } else { Some(duration) } {
            self.seconds.record(duration);
        }
    }
}

/// The counters of all methods on all cores.
#[derive(Debug, Default)]
pub(super) struct Calls(Mutex<BTreeMap<String, Vec<RpcMetrics>>>);

/// The sums of one method's counters over all cores.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MethodTotals {
    pub(crate) streams: bool,
    pub(crate) started: u64,
    /// The calls that have ended, by code.
    pub(crate) ended: [u64; CODES],
    pub(crate) bytes: u64,
    /// The number of durations in each bucket, and above the last one.
    pub(crate) buckets: [u64; BUCKETS.len() + 1],
    pub(crate) nanos: u64,
}

impl Calls {
    /// Adds the counters of a method on one core.
    pub(super) fn add(&self, method: &str, streams: bool) -> RpcMetrics {
        let counters = Arc::new(RpcCounters { streams, ..RpcCounters::default() });
        let mut methods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        methods.entry(method.to_owned()).or_default().push(counters.clone());
        counters
    }

    /// Returns the sums, by method.
    pub(super) fn totals(&self) -> BTreeMap<String, MethodTotals> {
        let methods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        methods.iter().map(|(method, cores)| (method.clone(), MethodTotals::sum(cores))).collect()
    }
}

impl MethodTotals {
    fn sum(cores: &[RpcMetrics]) -> MethodTotals {
        let mut totals =
            MethodTotals { streams: cores.iter().all(|core| core.streams), ..Default::default() };
        for core in cores {
            // Ends are read first: a call that ends in between must not count as more ended than started.
            add_all(&mut totals.ended, &core.ended);
            totals.started += core.started.load(Relaxed);
            totals.bytes += core.bytes.load(Relaxed);
            if core.streams == totals.streams {
                add_all(&mut totals.buckets, &core.seconds.counts);
                totals.nanos += core.seconds.nanos.load(Relaxed);
            }
        }
        totals
    }

    /// Returns the number of calls in flight.
    pub(crate) fn in_flight(&self) -> u64 {
        self.started.saturating_sub(self.ended.iter().sum())
    }

    /// Returns the calls that have ended, by the name of their code. OK is there even if it is 0.
    pub(crate) fn by_code(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let codes = self.ended.iter().enumerate().map(|(code, count)| (code_name(code as i32), *count));
        codes.enumerate().filter(|(code, (_, count))| *code == 0 || *count > 0).map(|(_, ended)| ended)
    }
}

fn add_all(totals: &mut [u64], counters: &[AtomicU64]) {
    for (total, counter) in totals.iter_mut().zip(counters) {
        *total += counter.load(Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_all_cores_are_added_up() {
        let calls = Calls::default();
        let cores = [calls.add("a", false), calls.add("a", false)];
        let other = calls.add("b", true);
        for core in &cores {
            (0..3).for_each(|_| core.start());
            core.record(0, Duration::from_micros(50), None, 10);
            core.record(5, Duration::from_secs(60), None, 0);
        }
        other.start();
        other.record(1, Duration::from_secs(60), Some(Duration::from_micros(51)), 7);
        let totals = calls.totals();
        let (a, b) = (&totals["a"], &totals["b"]);
        assert_eq!(a.by_code().collect::<Vec<_>>(), [("OK", 2), ("NOT_FOUND", 2)]);
        assert_eq!((a.in_flight(), a.bytes, a.buckets[0], a.buckets[10]), (2, 20, 2, 2));
        assert_eq!((b.in_flight(), b.bytes, b.buckets[1], b.buckets.iter().sum()), (0, 7, 1, 1_u64));
    }
}
