//! How long hits take while other calls miss.

use std::time::Duration;

use serde_json::json;

use super::{
    Bench, ROUNDS, judged,
    load::{Call, Client, Mixed, Times, median, quantile},
    stores::{Cold, HOT, Which, hot},
};
use crate::{Outcome, random::Random, scale::forget_pages};

/// Calls a second: a tenth of what the machine can do, so that neither end is the bottleneck.
const RATE: f64 = 2_000.0;
/// Calls of a round, and how many of a hundred miss.
const PACED: usize = 10_000;
const MISSING: usize = 20;

/// What a hit may take while others miss, if it takes 1 otherwise.
const STALL: f64 = 1.5;

impl Bench {
    /// How long hits take while other calls miss.
    pub(super) fn stalls(&mut self) -> Outcome<()> {
        let node = self.serve(Which::Large)?;
        let client = Client::new(&node)?;
        let hits = (0..HOT).map(|place| Call::Article(hot(place)));
        self.runtime.block_on(client.busily(hits))?;
        let (mut random, mut cold) = (Random::new(1), Cold::new(self.stores.articles));
        let mut rounds: [Vec<Times>; 3] = Default::default();
        for _ in 0..ROUNDS {
            for (kind, missing) in [0, MISSING, MISSING].into_iter().enumerate() {
                if kind == 2 {
                    forget_pages(&self.stores.database(Which::Large))?;
                }
                let calls = mixed(missing, &mut cold, &mut random);
                rounds[kind].push(client.at_rate(&self.runtime, RATE, calls, &mut random)?);
            }
        }
        let alone = p99(&rounds[0], |times| &times.plain);
        self.report.fact("Hits alone, p99", alone, format!("{alone:.0} us"));
        for (place, what, misses) in [
            (1, "Hits while 20 % of the calls miss, p99", "- the misses"),
            (2, "Hits while 20 % of the calls miss and read the disk, p99", "- these misses"),
        ] {
            let hits = p99(&rounds[place], |times| &times.plain);
            let ratio = hits / alone;
            let shown = format!("{hits:.0} us; {ratio:.2}{}", judged(ratio, STALL));
            self.report.fact(what, json!({ "p99_us": hits, "ratio": ratio }), shown);
            let missed = p99(&rounds[place], |times| &times.apart);
            self.report.fact(misses, missed, format!("{missed:.0} us"));
        }
        let late = median(rounds.iter().map(|rounds| p99(rounds, |times| &times.late)).collect());
        self.report.fact("The load's own delay in these, p99", late, format!("{late:.0} us"));
        node.stop().map(drop)
    }
}

/// Calls of a round: hits, and so many of a hundred that miss.
fn mixed(missing: usize, cold: &mut Cold, random: &mut Random) -> Mixed {
    let calls = (0..PACED).map(|_| {
        let misses = random.chance(missing);
        let id = if misses { cold.next() } else { hot(random.next()) };
        (Call::Article(id), misses)
    });
    calls.collect()
}

/// The median of the rounds' p99 of some of their times, in microseconds.
fn p99(rounds: &[Times], of: fn(&Times) -> &[Duration]) -> f64 {
    median(rounds.iter().map(|times| quantile(of(times), 0.99).as_secs_f64() * 1e6).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_of_a_hundred_calls_miss() {
        let (mut cold, mut random) = (Cold::new(100_000), Random::new(1));
        let calls = mixed(20, &mut cold, &mut random);
        let missing = calls.iter().filter(|(_, misses)| *misses).count();
        assert!((1_900..2_100).contains(&missing), "{missing}");
        assert!(mixed(0, &mut cold, &mut random).iter().all(|(_, misses)| !misses));
    }
}
