//! The latency of hits while other calls miss.

use std::time::Duration;

use serde_json::json;

use super::{
    Bench, judged,
    load::{Call, Client, Mixed, Times, median, quantile},
    stores::{Cold, HOT, Which, hot},
};
use crate::{Outcome, random::Random};

/// The calls per second: a tenth of the machine's capacity, so that neither end is the bottleneck.
const RATE: f64 = 2_000.0;
/// The number of calls in a round, and the percentage of misses.
const PACED: usize = 6_000;
const MISSING: usize = 20;
/// The number of rounds of each kind. It is higher than elsewhere, because other work of the machine affects every p99.
const ROUNDS: usize = 9;

/// The maximum latency of a hit while others miss, relative to hits alone.
const STALL: f64 = 1.5;

impl Bench {
    /// Measures the latency of hits while other calls miss.
    pub(super) fn stalls(&mut self) -> Outcome<()> {
        let node = self.serve(Which::Large)?;
        let client = Client::new(&node)?;
        let hits = (0..HOT).map(|place| Call::Article(hot(place)));
        self.runtime.block_on(client.busily(hits))?;
        let rounds = self.rounds(&client)?;
        self.tell(&rounds);
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
                    2 => self.stores.forget(Which::Large)?,
                    _ => self.stores.remember(Which::Large)?,
                }
                let missing = if kind == 0 { 0 } else { MISSING };
                let calls = mixed(missing, &mut cold, &mut random);
                rounds[kind].push(client.at_rate(&self.runtime, RATE, calls, &mut random)?);
            }
        }
        Ok(rounds)
    }

    fn tell(&mut self, rounds: &[Vec<Times>; 3]) {
        let mut fact = |what: &'static str, rounds: &[Times], of: Of, verdict: &str| {
            let [middle, late] = [0.5, 0.99].map(|share| each(rounds, of, share));
            let (p50, p99) = (median(middle), median(late.clone()));
            let value = json!({ "p50_us": p50, "p99_us": p99, "p99_us_by_round": late });
            self.report.fact(what, value, format!("{p50:.0} / {p99:.0} us{verdict}"));
        };
        let p99 = |rounds| median(each(rounds, |times| &times.plain, 0.99));
        let verdict = |place: usize| {
            let ratio = p99(&rounds[place]) / p99(&rounds[0]);
            format!("; {ratio:.2}{}", judged(ratio, STALL))
        };
        fact("Hits alone, p50 / p99", &rounds[0], |times| &times.plain, "");
        fact("Hits while 20 % of all calls miss", &rounds[1], |times| &times.plain, &verdict(1));
        fact("- the misses", &rounds[1], |times| &times.apart, "");
        fact("Hits while 20 % of all calls read the disk", &rounds[2], |times| &times.plain, &verdict(2));
        fact("- these misses", &rounds[2], |times| &times.apart, "");
        fact("The load's own delay, hits alone", &rounds[0], |times| &times.late, "");
        fact("- with misses", &rounds[1], |times| &times.late, "");
    }
}

/// A selection of a round's times.
type Of = fn(&Times) -> &[Duration];

/// Returns the calls of a round: hits, and `missing` percent misses.
fn mixed(missing: usize, cold: &mut Cold, random: &mut Random) -> Mixed {
    let calls = (0..PACED).map(|_| {
        let misses = random.chance(missing);
        let id = if misses { cold.next() } else { hot(random.next()) };
        (Call::Article(id), misses)
    });
    calls.collect()
}

/// Returns a quantile of each round's times, in microseconds.
fn each(rounds: &[Times], of: Of, share: f64) -> Vec<f64> {
    rounds.iter().map(|times| quantile(of(times), share).as_secs_f64() * 1e6).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_of_a_hundred_calls_miss() {
        let (mut cold, mut random) = (Cold::new(100_000), Random::new(1));
        let calls = mixed(20, &mut cold, &mut random);
        let missing = calls.iter().filter(|(_, misses)| *misses).count();
        assert!((PACED * 18 / 100..PACED * 22 / 100).contains(&missing), "{missing}");
        assert!(mixed(0, &mut cold, &mut random).iter().all(|(_, misses)| !misses));
    }
}
