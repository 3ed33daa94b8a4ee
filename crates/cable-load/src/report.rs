//! The report of a run: figures with their unit at the end of their name, as JSON and as rows for people.
//!
//! Latencies are those of all calls, including failed and wrong ones; a call that was due and never started counts with
//! the time that it waited; if not all responses are correct, those of the correct ones are there too. Rates are those
//! of correct responses.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::{
    check::{Failure, Outcome},
    cores,
    plan::{Mode, Plan},
};

/// Delay above which a call is late. Below it, the delay shows only how exactly a thread can be woken.
const LATE_AFTER: Duration = Duration::from_millis(1);
/// Upper bound of a latency, in microseconds. No call can take as long.
const MAX_LATENCY_US: u64 = 48 * 60 * 60 * 1_000_000;
/// Significant digits of the histograms: each value is at most 0.1 % off.
const SIGNIFICANT_DIGITS: u8 = 3;
/// Share of the cores above which a client measures itself.
const SATURATED_SHARE: f64 = 0.9;
pub(super) const SATURATED_NOTE: &str =
    "this client used nearly all cores: the figures describe the client, not the service";
pub(super) const INTERRUPTED_NOTE: &str = "interrupted: the figures cover the time until then";

/// The outcome of the calls that are counted.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    started: u64,
    ok: u64,
    /// Failed calls, by code and reason.
    failed: BTreeMap<String, u64>,
    /// Wrong responses, by fault.
    wrong: BTreeMap<&'static str, u64>,
    missed: u64,
    late: u64,
    latest: Duration,
    articles: u64,
    bytes: u64,
    latency: Histogram<u64>,
    /// The latency of the calls with a correct response.
    ok_latency: Histogram<u64>,
    first: Histogram<u64>,
    end: Duration,
}

impl Tally {
    pub(crate) fn new() -> Tally {
        Tally {
            started: 0,
            ok: 0,
            failed: BTreeMap::new(),
            wrong: BTreeMap::new(),
            missed: 0,
            late: 0,
            latest: Duration::ZERO,
            articles: 0,
            bytes: 0,
            latency: histogram(),
            ok_latency: histogram(),
            first: histogram(),
            end: Duration::ZERO,
        }
    }

    /// Counts a call that is sent `now` and was due at `intended`. Times count from the start of the run.
    pub(crate) fn start(&mut self, intended: Duration, now: Duration) {
        self.started += 1;
        let late = now.saturating_sub(intended);
        if late > LATE_AFTER {
            self.late += 1;
            self.latest = self.latest.max(late);
        }
    }

    /// Counts a call that has ended.
    pub(crate) fn end(&mut self, intended: Duration, now: Duration, start: Instant, outcome: Outcome) {
        self.end = self.end.max(now);
        self.latency.saturating_record(micros(now.saturating_sub(intended)));
        let failure = match outcome {
            Ok(response) => {
                self.ok += 1;
                self.ok_latency.saturating_record(micros(now.saturating_sub(intended)));
                self.articles += response.articles;
                self.bytes += response.bytes;
                if let Some(first) = response.first {
                    let first = first.saturating_duration_since(start);
                    self.first.saturating_record(micros(first.saturating_sub(intended)));
                }
                return;
            }
            Err(failure) => failure,
        };
        match failure {
            Failure::Wrong(fault) => *self.wrong.entry(fault.name()).or_default() += 1,
            Failure::Call(error) => *self.failed.entry(error.code_and_reason()).or_default() += 1,
            Failure::Deadline => *self.failed.entry("DEADLINE_EXCEEDED".to_owned()).or_default() += 1,
        }
    }

    /// Counts calls that were due and were not started, by how long they have waited.
    pub(crate) fn record_missed(&mut self, waits: impl Iterator<Item = Duration>) {
        for wait in waits {
            self.missed += 1;
            self.latest = self.latest.max(wait);
            self.latency.saturating_record(micros(wait));
        }
    }

    /// Counts this many responses as wrong that were counted as correct.
    pub(crate) fn mark_unsteady(&mut self, responses: u64) {
        let responses = responses.min(self.ok);
        if responses > 0 {
            self.ok -= responses;
            *self.wrong.entry("unsteady").or_default() += responses;
        }
    }

    /// Returns the number of calls that have ended.
    pub(crate) fn calls(&self) -> u64 {
        self.ok + self.failed() + self.wrong()
    }

    /// Returns the number of calls that were sent.
    pub(super) fn started(&self) -> u64 {
        self.started
    }

    /// Returns the number of calls with a correct response.
    pub(super) fn ok(&self) -> u64 {
        self.ok
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Returns whether calls were sent late, or not at all.
    pub(super) fn is_late(&self) -> bool {
        self.late + self.missed > 0
    }

    fn wrong(&self) -> u64 {
        self.wrong.values().sum()
    }

    pub(super) fn unanswered(&self) -> u64 {
        self.started.saturating_sub(self.calls())
    }

    /// Returns the number of calls, in total and by outcome.
    pub(super) fn counts(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("calls", self.started.into()),
            ("calls_ok", self.ok.into()),
            ("calls_failed", self.failed().into()),
            ("failed_by_reason", json!(self.failed)),
            ("calls_wrong", self.wrong().into()),
            ("wrong_by_reason", json!(self.wrong)),
            ("calls_unanswered", self.unanswered().into()),
            ("calls_not_started", self.missed.into()),
            ("calls_late", self.late.into()),
            ("late_max_us", micros(self.latest).into()),
        ]
    }

    pub(super) fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    #[cfg(test)]
    pub(crate) fn latency_above(&self, latency: Duration) -> u64 {
        self.latency.len() - self.latency.count_between(0, micros(latency))
    }

    #[cfg(test)]
    pub(crate) fn late(&self) -> (u64, Duration) {
        (self.late, self.latest)
    }
}

/// The results of a run that has ended.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) tally: Tally,
    /// Start of the measurement, from the start of the run.
    pub(crate) begin: Duration,
    /// CPU time of this process during the measurement.
    pub(crate) cpu: Duration,
    pub(crate) interrupted: bool,
}

/// A report of a run.
pub trait Report {
    /// Returns the request and the results, in this order.
    fn figures(&self) -> Vec<(&'static str, Value)>;

    /// Returns caveats that people should know before they believe the figures.
    fn notes(&self) -> Vec<&'static str>;

    /// Returns the reason why the run was not a success, or `None` if it was.
    fn problem(&self) -> Option<String>;

    /// Returns the figures as one object.
    fn json(&self) -> Value {
        self.figures().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Returns headings and values for people.
    fn rows(&self) -> Vec<(String, String)> {
        let mut rows = Vec::new();
        for (name, value) in self.figures() {
            match value {
                Value::Null => {}
                Value::Object(parts) if parts.is_empty() => {}
                Value::Object(parts) => {
                    rows.push((name.replace('_', " "), String::new()));
                    rows.extend(parts.iter().map(|(part, value)| (format!("- {part}"), plain_text(value))));
                }
                value => rows.push((name.replace('_', " "), plain_text(&value))),
            }
        }
        rows.extend(self.notes().into_iter().map(|note| ("note".to_owned(), note.to_owned())));
        rows
    }
}

/// The report of a run of calls.
#[derive(Debug)]
pub struct CallReport {
    name: &'static str,
    plan: Plan,
    facts: Vec<(&'static str, Value)>,
    measured: Measured,
}

impl CallReport {
    pub(crate) fn new(
        name: &'static str,
        plan: Plan,
        facts: Vec<(&'static str, Value)>,
        measured: Measured,
    ) -> CallReport {
        CallReport { name, plan, facts, measured }
    }

    /// Returns the time from the start of the measurement to the last response. At a requested rate, it is at least the
    /// time that the calls should take.
    fn elapsed(&self) -> Duration {
        let tally = &self.measured.tally;
        let took = tally.end.saturating_sub(self.measured.begin);
        match self.plan.mode {
            Mode::Open { rate, .. } => {
                took.max(Duration::from_secs_f64((tally.started + tally.missed) as f64 / rate))
            }
            Mode::Closed { .. } => took,
        }
    }

    fn saturated(&self) -> bool {
        is_saturated(self.measured.cpu, self.elapsed())
    }
}

impl Report for CallReport {
    fn problem(&self) -> Option<String> {
        let tally = &self.measured.tally;
        let unanswered = if self.measured.interrupted { 0 } else { tally.unanswered() };
        let faults = join_problems([
            (tally.failed(), "failed"),
            (tally.wrong(), "returned a wrong response"),
            (unanswered, "returned no response"),
        ])?;
        Some(format!("of {} calls, {faults}", tally.started))
    }

    fn figures(&self) -> Vec<(&'static str, Value)> {
        let (tally, elapsed) = (&self.measured.tally, self.elapsed());
        let mut all = self.request_figures();
        all.extend([
            ("elapsed_s", thousandths(elapsed.as_secs_f64())),
            ("interrupted", self.measured.interrupted.into()),
        ]);
        all.extend(tally.counts());
        all.extend([
            ("articles", tally.articles.into()),
            ("bytes", tally.bytes.into()),
            ("calls_per_s", tenths(per_second(tally.ok as f64, elapsed))),
            ("articles_per_s", tenths(per_second(tally.articles as f64, elapsed))),
            ("bytes_per_s", tenths(per_second(tally.bytes as f64, elapsed))),
            ("latency_us", quantiles(&tally.latency)),
        ]);
        if tally.ok < tally.started {
            all.push(("ok_latency_us", quantiles(&tally.ok_latency)));
        }
        if !tally.first.is_empty() {
            all.push(("first_article_us", quantiles(&tally.first)));
        }
        all.push(("client_cpu_us_per_call", cpu_per_unit(self.measured.cpu, tally.calls())));
        all.extend(client_figures(self.measured.cpu, elapsed));
        all
    }

    fn notes(&self) -> Vec<&'static str> {
        let tally = &self.measured.tally;
        let closed = matches!(self.plan.mode, Mode::Closed { .. });
        applicable_notes([
            (closed, "closed loop: latencies hide stalls because callers wait; use --rate to measure stalls"),
            (
                tally.is_late() && !closed,
                "calls started late: --in-flight was reached, or this client was short of CPU",
            ),
            (self.saturated(), SATURATED_NOTE),
            (self.measured.interrupted, INTERRUPTED_NOTE),
        ])
    }
}

impl CallReport {
    /// Returns the figures that describe the request.
    fn request_figures(&self) -> Vec<(&'static str, Value)> {
        let mut all: Vec<(&'static str, Value)> = vec![("bench", self.name.into())];
        all.extend(match self.plan.mode {
            Mode::Open { rate, in_flight } => {
                vec![
                    ("loop", "open".into()),
                    ("asked_calls_per_s", rate.into()),
                    ("in_flight", in_flight.into()),
                ]
            }
            Mode::Closed { workers } => vec![("loop", "closed".into()), ("workers", workers.into())],
        });
        all.extend(self.facts.iter().cloned());
        all.push(("warm_up_s", thousandths(self.plan.warm_up.as_secs_f64())));
        all
    }
}

/// Returns an empty histogram of microseconds.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_LATENCY_US, SIGNIFICANT_DIGITS)
        .expect("these bounds and digits are allowed")
}

/// Returns the notes that apply.
pub(super) fn applicable_notes<const N: usize>(all: [(bool, &'static str); N]) -> Vec<&'static str> {
    all.into_iter().filter(|(applies, _)| *applies).map(|(_, note)| note).collect()
}

/// Returns the numbers of faults that are not zero, as text.
pub(super) fn join_problems<const N: usize>(all: [(u64, &str); N]) -> Option<String> {
    let nonzero: Vec<String> =
        all.iter().filter(|(n, _)| *n > 0).map(|(n, label)| format!("{n} {label}")).collect();
    (!nonzero.is_empty()).then(|| nonzero.join(", "))
}

/// Returns the figures that show how busy this client was.
pub(super) fn client_figures(cpu: Duration, elapsed: Duration) -> [(&'static str, Value); 3] {
    let busy = share_of_cores(cpu, elapsed);
    [
        ("client_cpu_share", thousandths(busy)),
        ("client_cores", cores().into()),
        ("client_saturated", is_saturated(cpu, elapsed).into()),
    ]
}

/// Returns the CPU time in microseconds divided by `number`.
pub(super) fn cpu_per_unit(cpu: Duration, number: u64) -> Value {
    tenths(cpu.as_secs_f64() * 1e6 / number.max(1) as f64)
}

/// Returns whether this client was too busy to measure anything but itself.
pub(super) fn is_saturated(cpu: Duration, elapsed: Duration) -> bool {
    share_of_cores(cpu, elapsed) > SATURATED_SHARE
}

/// Returns the share of all cores of this machine that this process used.
fn share_of_cores(cpu: Duration, elapsed: Duration) -> f64 {
    per_second(cpu.as_secs_f64(), elapsed) / cores() as f64
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn per_second(number: f64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { number / time.as_secs_f64() }
}

pub(super) fn tenths(number: f64) -> Value {
    json!((number * 10.0).round() / 10.0)
}

pub(super) fn thousandths(number: f64) -> Value {
    json!((number * 1e3).round() / 1e3)
}

fn plain_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub(super) fn quantiles(histogram: &Histogram<u64>) -> Value {
    let at = |share: f64| histogram.value_at_quantile(share);
    json!({
        "mean": (histogram.mean() * 10.0).round() / 10.0,
        "p50": at(0.5),
        "p90": at(0.9),
        "p99": at(0.99),
        "p99_9": at(0.999),
        "p99_99": at(0.9999),
        "max": histogram.max(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::{Fault, Response},
        plan::Limit,
    };

    const MS: Duration = Duration::from_millis(1);

    fn report(rate: f64, tally: Tally, cpu: Duration) -> CallReport {
        let plan =
            Plan { mode: Mode::Open { rate, in_flight: 9 }, warm_up: MS, limit: Limit::Calls(tally.started) };
        CallReport::new("get", plan, Vec::new(), Measured { tally, begin: MS, cpu, interrupted: false })
    }

    /// Returns ten calls, one every 100 ms, of which one failed and one was wrong.
    fn ten_calls() -> Tally {
        let mut tally = Tally::new();
        let start = Instant::now();
        for number in 0..10 {
            let intended = MS + 100 * MS * number;
            tally.start(intended, intended);
            let outcome = match number {
                3 => Err(Failure::Deadline),
                4 => Err(Failure::Wrong(Fault::OtherArticle)),
                _ => Ok(Response { articles: 2, bytes: 1_000, first: None }),
            };
            tally.end(intended, intended + 5 * MS, start, outcome);
        }
        tally
    }

    #[test]
    fn rates_count_correct_responses_only() {
        let report = report(10.0, ten_calls(), 10 * MS);
        let json = report.json();
        assert_eq!((&json["calls"], &json["calls_ok"]), (&json!(10), &json!(8)));
        assert_eq!(json["failed_by_reason"], json!({"DEADLINE_EXCEEDED": 1}));
        assert_eq!(json["wrong_by_reason"], json!({"other_article": 1}));
        assert_eq!(json["calls_per_s"], json!(8.0));
        assert_eq!((&json["articles_per_s"], &json["bytes_per_s"]), (&json!(16.0), &json!(8_000.0)));
        assert_eq!(json["client_cpu_us_per_call"], json!(1_000.0));
        assert_eq!(json["client_saturated"], json!(false));
        assert_eq!(report.problem().unwrap(), "of 10 calls, 1 failed, 1 returned a wrong response");
        assert!(json["latency_us"]["p50"].as_u64().is_some_and(|us| (4_990..=5_010).contains(&us)));
    }

    #[test]
    fn a_saturated_client_adds_a_note() {
        let report = report(10.0, ten_calls(), Duration::from_secs(1) * cores() as u32);
        assert_eq!(report.json()["client_saturated"], json!(true));
        assert!(report.rows().iter().any(|(_, value)| value.contains("describe the client")));
    }

    #[test]
    fn unsteady_responses_count_as_wrong() {
        let mut tally = ten_calls();
        tally.mark_unsteady(3);
        assert_eq!((tally.ok, tally.wrong(), tally.calls()), (5, 4, 10));
    }

    #[test]
    fn a_run_without_calls_has_a_report() {
        let report = report(1.0, Tally::new(), Duration::ZERO);
        assert_eq!(report.json()["calls_per_s"], json!(0.0));
        assert_eq!(report.problem(), None);
    }
}
