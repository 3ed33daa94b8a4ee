//! Calls to a node: at full speed or at a rate.

use std::{
    hint::spin_loop,
    thread::sleep,
    time::{Duration, Instant},
};

use cable_client::{Cable, Filter};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::runtime::Runtime;

use crate::{Outcome, node::Node, scale};
use cable_load::random::Random;

/// The number of connections to a node, and of concurrent calls over all of them at full speed.
const CONNECTIONS: usize = 4;
const CONCURRENCY: usize = 32;

/// The number of articles on a page.
const PAGE: u32 = 20;

/// The time before a call that is spent in a busy loop: the system wakes a sleeping thread about 60 us late.
const SPIN_TIME: Duration = Duration::from_micros(100);

/// One call.
#[derive(Debug, Clone)]
pub(super) enum Call {
    /// GetArticle.
    Article(String),
    /// The first page of a tag, BASIC.
    Page(&'static str),
}

impl Call {
    async fn make(self, cable: &Cable) -> Outcome<()> {
        match self {
            Call::Article(id) => drop(cable.article(id).await?),
            Call::Page(tag) => {
                let page = cable.list(Filter::default().tag(tag)).page_size(PAGE).await?;
                if page.articles.len() != PAGE as usize {
                    return Err(format!("the page of {tag} has {} articles", page.articles.len()).into());
                }
            }
        }
        Ok(())
    }
}

/// Calls at a rate, each with a flag for those that are reported separately.
pub(super) type Mixed = Vec<(Call, bool)>;

/// Latencies, measured from the intended time of each call.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// The latencies of the ordinary calls.
    pub(super) plain: Vec<Duration>,
    /// The latencies of the separately reported calls.
    pub(super) separate: Vec<Duration>,
    /// The delays of the load generator itself, which are not the node's.
    pub(super) late: Vec<Duration>,
}

/// A client of a node.
#[derive(Debug, Clone)]
pub(super) struct Client(Vec<Cable>);

impl Client {
    pub(super) fn new(node: &Node) -> Outcome<Client> {
        let clients: Result<_, _> = (0..CONNECTIONS).map(|_| scale::client(node)).collect();
        Ok(Client(clients?))
    }

    pub(super) fn connection(&self, index: usize) -> &Cable {
        &self.0[index % self.0.len()]
    }

    /// Makes calls at full speed.
    ///
    /// # Errors
    /// Fails if a call fails.
    pub(super) async fn run(&self, calls: impl Iterator<Item = Call>) -> Outcome<()> {
        let calls_in_flight = calls.enumerate().map(|(index, call)| call.make(self.connection(index)));
        stream::iter(calls_in_flight).buffer_unordered(CONCURRENCY).try_collect().await
    }

    /// Makes calls at a rate, like independent users: they start whether or not earlier ones have completed.
    ///
    /// # Errors
    /// Fails if a call fails.
    pub(super) fn run_at_rate(
        &self,
        runtime: &Runtime,
        rate: f64,
        calls: Mixed,
        random: &mut Random,
    ) -> Outcome<Times> {
        let mut due = Instant::now() + Duration::from_millis(5);
        let mut calls_in_flight = Vec::with_capacity(calls.len());
        for (index, (call, separate)) in calls.into_iter().enumerate() {
            due += gap(rate, random);
            wait_until(due);
            let cable = self.connection(index).clone();
            calls_in_flight.push(runtime.spawn(async move {
                let late = due.elapsed();
                let result = call.make(&cable).await.map_err(|error| error.to_string());
                result.map(|()| (due.elapsed(), late, separate))
            }));
        }
        let mut times = Times::default();
        for call in calls_in_flight {
            let (took, late, separate) = runtime.block_on(call)??;
            times.late.push(late);
            if separate { times.separate.push(took) } else { times.plain.push(took) }
        }
        Ok(times)
    }
}

/// Returns the time between two calls of independent users.
fn gap(rate: f64, random: &mut Random) -> Duration {
    Duration::from_secs_f64(-(1.0 - random.unit()).ln() / rate)
}

fn wait_until(due: Instant) {
    let left = due.saturating_duration_since(Instant::now());
    sleep(left.saturating_sub(SPIN_TIME));
    while Instant::now() < due {
        spin_loop();
    }
}

/// Returns the time that a share of the calls did not exceed.
pub(super) fn quantile(times: &[Duration], share: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let index = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or_default()
}

/// Returns the median.
pub(super) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn independent_calls_come_at_the_rate() {
        let mut random = Random::new(1);
        let sum: Duration = (0..20_000).map(|_| gap(2_000.0, &mut random)).sum();
        assert!((9.7..10.3).contains(&sum.as_secs_f64()), "{sum:?}");
    }

    #[test]
    fn a_quantile_is_one_of_the_times() {
        let times: Vec<Duration> = (1..=200).rev().map(Duration::from_micros).collect();
        assert_eq!(quantile(&times, 0.5), Duration::from_micros(101));
        assert_eq!(quantile(&times, 0.99), Duration::from_micros(199));
        assert_eq!(quantile(&times, 1.0), Duration::from_micros(200));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }

    #[test]
    fn the_middle_figure_is_the_median() {
        assert_eq!(median(vec![9.0, 1.0, 5.0]), 5.0);
        assert!(median(Vec::new()).is_nan());
    }
}
