//! The results of a run, grouped by case.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::load::Sample;
use crate::report::grouped;

/// All cases of a run.
#[derive(Debug)]
pub(super) struct Results {
    pub(super) machine: String,
    pub(super) rounds: usize,
    pub(super) cases: Vec<Case>,
}

/// One kind of load, with the series of each server measured under it.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) id: &'static str,
    pub(super) title: String,
    pub(super) series: Vec<Series>,
}

/// The samples of one server, one per round.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) server: &'static str,
    pub(super) samples: Vec<Sample>,
    /// The server's peak memory in bytes at the end of the case.
    pub(super) peak_memory: u64,
}

/// A function that returns one figure of a sample.
pub(super) type Figure = fn(&Sample) -> f64;

pub(super) const CPU: Figure = |sample| sample.cpu_us;
pub(super) const CALLS: Figure = |sample| sample.calls_per_s;
pub(super) const BYTES: Figure = |sample| sample.bytes_per_s;
pub(super) const P99: Figure = |sample| sample.latency_us.map_or(0.0, |latency| latency[1]);

impl Series {
    pub(super) fn new(server: &'static str) -> Series {
        Series { server, samples: Vec::new(), peak_memory: 0 }
    }

    pub(super) fn median(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(figure).collect())
    }

    /// Returns the number of attempts that stalled and were repeated.
    fn stalls(&self) -> u32 {
        self.samples.iter().map(|sample| sample.stalls).sum()
    }

    pub(super) fn json(&self) -> Value {
        let all = |figure: Figure| self.samples.iter().map(figure).map(rounded).collect::<Vec<_>>();
        let latency: Vec<_> = self.samples.iter().filter_map(|sample| sample.latency_us).collect();
        json!({
            "server": self.server, "calls_per_s": all(CALLS), "bytes_per_s": all(BYTES), "cpu_us": all(CPU),
            "latency_us": latency, "stalls": self.stalls(), "peak_memory": self.peak_memory,
        })
    }
}

impl Case {
    fn series_of(&self, server: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.server == server)
    }

    /// Returns the ratio of one server's figure to another's: the median of the ratios of the rounds.
    pub(super) fn ratio(&self, figure: Figure, server: &str, other: &str) -> Option<f64> {
        let (one, other) = (self.series_of(server)?, self.series_of(other)?);
        let pairs = one.samples.iter().zip(&other.samples);
        Some(median(pairs.map(|(one, other)| figure(one) / figure(other)).collect()))
    }

    /// Returns the median calls per second of the slowest server.
    pub(super) fn slowest(&self) -> Option<f64> {
        self.series.iter().map(|series| series.median(CALLS)).min_by(f64::total_cmp)
    }

    pub(super) fn table(&self) -> String {
        let timed = self.series.iter().any(|series| series.samples.iter().any(|s| s.latency_us.is_some()));
        let mut text =
            format!("**{}**\n\n| Server | Calls/s | MB/s | CPU per call, µs | Peak memory, MB |", self.title);
        text += if timed { " p50, µs | p99, µs | p99.9, µs |\n" } else { "\n" };
        text += "| --- | ---: | ---: | ---: | ---: |";
        text += if timed { " ---: | ---: | ---: |\n" } else { "\n" };
        for series in &self.series {
            let _ = write!(
                text,
                "| {} | {} | {:.0} | {} | {} |",
                series.server,
                grouped(series.median(CALLS) as u64),
                series.median(BYTES) / 1e6,
                micros(series.median(CPU)),
                series.peak_memory / 1_000_000
            );
            for index in 0..if timed { 3 } else { 0 } {
                let value = series.median(|sample| sample.latency_us.map_or(0.0, |latency| latency[index]));
                let _ = write!(text, " {} |", grouped(value as u64));
            }
            text.push('\n');
        }
        for series in self.series.iter().filter(|series| series.stalls() > 0) {
            let _ = writeln!(
                text,
                "\n{} stalled {} times; these runs were repeated.",
                series.server,
                series.stalls()
            );
        }
        text
    }
}

impl Results {
    pub(super) fn new(machine: String, rounds: usize) -> Results {
        Results { machine, rounds, cases: Vec::new() }
    }

    pub(super) fn add(&mut self, case: Case) {
        eprintln!("{}", case.table());
        self.cases.push(case);
    }

    pub(super) fn case(&self, id: &str) -> Option<&Case> {
        self.cases.iter().find(|case| case.id == id)
    }
}

/// Formats microseconds: two decimals below 10, one below 100, none above.
pub(super) fn micros(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => grouped(value as u64),
    }
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(server: &'static str, cpu: &[f64]) -> Series {
        let samples = cpu.iter().map(|cpu_us| Sample { cpu_us: *cpu_us, ..Sample::default() }).collect();
        Series { server, samples, peak_memory: 0 }
    }

    #[test]
    fn ratio_is_the_median_of_the_ratios_of_rounds() {
        let series = vec![series("a", &[1.0, 2.0, 30.0]), series("b", &[2.0, 2.0, 20.0])];
        let case = Case { id: "x", title: String::new(), series };
        assert_eq!(case.ratio(CPU, "a", "b"), Some(1.0));
        assert_eq!(case.ratio(CPU, "a", "c"), None);
    }

    #[test]
    fn median_of_an_even_count_is_the_middle_mean() {
        assert_eq!(
            (median(vec![3.0, 1.0]), median(vec![5.0, 1.0, 2.0]), median(Vec::new())),
            (2.0, 2.0, 0.0)
        );
    }
}
