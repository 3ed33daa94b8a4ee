//! The rates of calls in the last seconds, for people: a scraper calculates its own.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::calls::{BUCKETS, MethodTotals};

/// The number of samples, which are taken once a second.
const SAMPLES: usize = 11;

type Sample = (Instant, BTreeMap<String, MethodTotals>);

/// The sums of the counters of calls in the last seconds.
#[derive(Debug, Default)]
pub(super) struct Samples(VecDeque<Sample>);

/// The smallest and the largest duration to which calls are assigned.
pub(crate) const SMALLEST_BOUND: Duration = Duration::from_nanos(BUCKETS[0]);
pub(crate) const LARGEST_BOUND: Duration = Duration::from_nanos(BUCKETS[BUCKETS.len() - 1]);

/// The calls of a method in the last seconds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rate {
    pub(crate) method: String,
    pub(crate) per_second: f64,
    pub(crate) errors_per_second: f64,
    pub(crate) in_flight: u64,
    /// Whether there were calls whose durations are known.
    pub(crate) has_durations: bool,
    /// Upper bounds of the median and of the 99th percentile. None above the last bucket, or without a call.
    pub(crate) median: Option<Duration>,
    pub(crate) p99: Option<Duration>,
    /// The calls that have ended since the start, by the name of their code.
    pub(crate) outcomes: Vec<(&'static str, u64)>,
}

impl Samples {
    pub(super) fn add(&mut self, now: Instant, totals: BTreeMap<String, MethodTotals>) {
        self.0.push_back((now, totals));
        if self.0.len() > SAMPLES {
            self.0.pop_front();
        }
    }

    /// Returns the rates between the oldest sample and the newest one, of methods that were called.
    pub(super) fn rates(&self) -> Vec<Rate> {
        let (Some((start, before)), Some((end, after))) = (self.0.front(), self.0.back()) else {
            return Vec::new();
        };
        let seconds = end.duration_since(*start).as_secs_f64().max(0.001);
        let none = MethodTotals::default();
        let called = after.iter().filter(|(_, totals)| totals.started > 0);
        called
            .map(|(method, after)| rate(method, before.get(method).unwrap_or(&none), after, seconds))
            .collect()
    }
}

fn rate(method: &str, before: &MethodTotals, after: &MethodTotals, seconds: f64) -> Rate {
    let per_second = |count: u64| count as f64 / seconds;
    let ended = |totals: &MethodTotals| totals.ended.iter().sum::<u64>();
    let all = ended(after).saturating_sub(ended(before));
    let ok = after.ended[0].saturating_sub(before.ended[0]);
    let mut buckets = after.buckets;
    buckets.iter_mut().zip(before.buckets).for_each(|(count, before)| *count -= before.min(*count));
    Rate {
        method: method.to_owned(),
        per_second: per_second(all),
        errors_per_second: per_second(all.saturating_sub(ok)),
        in_flight: after.in_flight(),
        has_durations: buckets.iter().any(|count| *count > 0),
        median: quantile(&buckets, 0.5),
        p99: quantile(&buckets, 0.99),
        outcomes: after.by_code().collect(),
    }
}

/// Returns the upper bound of the bucket that holds a quantile.
pub(super) fn quantile(buckets: &[u64], quantile: f64) -> Option<Duration> {
    let rank = (buckets.iter().sum::<u64>() as f64 * quantile).ceil().max(1.0) as u64;
    let mut below = 0;
    let bucket = buckets.iter().position(|count| {
        below += count;
        below >= rank
    });
    bucket.and_then(|bucket| BUCKETS.get(bucket)).map(|nanos| Duration::from_nanos(*nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        let mut totals = MethodTotals { started: 1_000, ..Default::default() };
        (totals.ended[0], totals.buckets[0]) = (900, 900);
        let before = totals.clone();
        totals.started += 100;
        totals.ended[0] += 98;
        totals.ended[13] += 2;
        totals.buckets[1] += 98;
        totals.buckets[10] += 2;
        let rate = rate("a", &before, &totals, 10.0);
        assert_eq!((rate.per_second, rate.errors_per_second, rate.in_flight), (10.0, 0.2, 100));
        assert_eq!((rate.median, rate.p99), (Some(Duration::from_micros(200)), None));
        assert_eq!(rate.outcomes, [("OK", 998), ("INTERNAL", 2)]);
        let idle = super::rate("a", &totals, &totals, 10.0);
        assert_eq!((idle.per_second, idle.median, idle.p99), (0.0, None, None));
    }

    #[test]
    fn only_the_last_samples_count() {
        let mut samples = Samples::default();
        assert_eq!(samples.rates(), []);
        for n in 0..100 {
            let totals = MethodTotals { started: n, ..Default::default() };
            samples.add(Instant::now(), [("a".to_owned(), totals)].into());
        }
        assert_eq!((samples.0.len(), samples.0[0].1["a"].started), (SAMPLES, 89));
    }
}
