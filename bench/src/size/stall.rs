//! The latency of hits while other calls miss.

use std::time::Duration;

use serde_json::json;

use super::{
    Bench,
    load::{Call, Client, Mixed, Times, median, quantile},
    stores::{Cold, HOT, Which, hot},
    verdict_of,
};
use crate::Outcome;
use cable_load::random::Random;

/// The calls per second: a tenth of the machine's capacity, so that neither end is the bottleneck.
const CALLS_PER_SECOND: f64 = 2_000.0;
/// The number of calls in a round, and the percentage of misses.
const CALLS_PER_ROUND: usize = 6_000;
const MISS_PERCENT: usize = 20;
/// The number of rounds of each kind. It is higher than elsewhere, because other work of the machine affects every p99.
const ROUNDS: usize = 9;

/// The maximum latency of a hit while others miss, relative to hits alone.
const MAX_SLOWDOWN: f64 = 1.5;

impl Bench {
    /// Measures the latency of hits while other calls miss.
    pub(super) fn stalls(&mut self) -> Outcome<()> {
        let node = self.serve(Which::Large)?;
        let client = Client::new(&node)?;
        let hits = (0..HOT).map(|index| Call::Article(hot(index)));
        self.runtime.block_on(client.run(hits))?;
        let rounds = self.rounds(&client)?;
        self.report_rounds(&rounds);
        node.stop().map(drop)
    }

    /// Makes rounds without misses, with some, and with some that read the disk, in turns.
    fn rounds(&self, client: &Client) -> Outcome<[Vec<Times>; 3]> {
        let (mut random, mut cold) = (Random::new(1), Cold::new(self.stores.articles));
        let mut rounds: [Vec<Times>; 3] = Default::default();
        for round in 0..ROUNDS {
            for turn in 0..3 {
                let kind = (round + turn) % 3;
                match kind {
                    2 => self.stores.drop_from_page_cache(Which::Large)?,
                    _ => self.stores.load_into_page_cache(Which::Large)?,
                }
                let missing = if kind == 0 { 0 } else { MISS_PERCENT };
                let calls = mixed(missing, &mut cold, &mut random);
                rounds[kind].push(client.run_at_rate(&self.runtime, CALLS_PER_SECOND, calls, &mut random)?);
            }
        }
        Ok(rounds)
    }

    fn report_rounds(&mut self, rounds: &[Vec<Times>; 3]) {
        let mut fact = |label: &'static str, rounds: &[Times], select: Selection, verdict: &str| {
            let [middle, late] = [0.5, 0.99].map(|share| quantiles_by_round(rounds, select, share));
            let (p50, p99) = (median(middle), median(late.clone()));
            let value = json!({ "p50_us": p50, "p99_us": p99, "p99_us_by_round": late });
            self.report.fact(label, value, format!("{p50:.0} / {p99:.0} us{verdict}"));
        };
        let p99 = |rounds| median(quantiles_by_round(rounds, |times| &times.plain, 0.99));
        let verdict = |index: usize| {
            let ratio = p99(&rounds[index]) / p99(&rounds[0]);
            format!("; {ratio:.2}{}", verdict_of(ratio, MAX_SLOWDOWN))
        };
        fact("Hits alone, p50 / p99", &rounds[0], |times| &times.plain, "");
        fact("Hits while 20 % of all calls miss", &rounds[1], |times| &times.plain, &verdict(1));
        fact("- the misses", &rounds[1], |times| &times.separate, "");
        fact("Hits while 20 % of all calls read the disk", &rounds[2], |times| &times.plain, &verdict(2));
        fact("- these misses", &rounds[2], |times| &times.separate, "");
        fact("The load's own delay, hits alone", &rounds[0], |times| &times.late, "");
        fact("- with misses", &rounds[1], |times| &times.late, "");
    }
}

/// A selection of a round's times.
type Selection = fn(&Times) -> &[Duration];

/// Returns the calls of a round: hits, and `missing` percent misses.
fn mixed(missing: usize, cold: &mut Cold, random: &mut Random) -> Mixed {
    let calls = (0..CALLS_PER_ROUND).map(|_| {
        let misses = random.chance(missing);
        let id = if misses { cold.next() } else { hot(random.next()) };
        (Call::Article(id), misses)
    });
    calls.collect()
}

/// Returns a quantile of each round's times, in microseconds.
fn quantiles_by_round(rounds: &[Times], select: Selection, share: f64) -> Vec<f64> {
    rounds.iter().map(|times| quantile(select(times), share).as_secs_f64() * 1e6).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requested_share_of_calls_misses() {
        let (mut cold, mut random) = (Cold::new(100_000), Random::new(1));
        let calls = mixed(20, &mut cold, &mut random);
        let missing = calls.iter().filter(|(_, misses)| *misses).count();
        assert!((CALLS_PER_ROUND * 18 / 100..CALLS_PER_ROUND * 22 / 100).contains(&missing), "{missing}");
        assert!(mixed(0, &mut cold, &mut random).iter().all(|(_, misses)| !misses));
    }
}
