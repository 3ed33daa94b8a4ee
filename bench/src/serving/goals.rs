//! The targets, and whether they are met.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    CABLE, GO, LIMIT, NGINX, NGINX_NOT_MODIFIED, NOT_MODIFIED, ORDINARY, SAME_SIZE, WEB,
    results::{BYTES, CALLS, CPU, Figure, P99, Results},
};

/// A ratio of a figure of Cable's to another server's.
struct Goal {
    case: &'static str,
    label: &'static str,
    figure: Figure,
    /// The series of Cable.
    cable: &'static str,
    other: &'static str,
    bound: Bound,
}

#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

use Bound::{AtLeast, AtMost};

const fn goal(
    case: &'static str,
    label: &'static str,
    figure: Figure,
    other: &'static str,
    bound: Bound,
) -> Goal {
    Goal { case, label, figure, cable: CABLE, other, bound }
}

/// Returns a goal for another series of Cable.
const fn of(cable: &'static str, goal: Goal) -> Goal {
    Goal { cable, ..goal }
}

const GOALS: [Goal; 24] = [
    goal("get", "GetArticle, 16 × 10: CPU", CPU, ORDINARY, AtMost(0.4)),
    goal("get", "GetArticle, 16 × 10: CPU", CPU, LIMIT, AtMost(1.25)),
    goal("get", "GetArticle, 16 × 10: calls/s", CALLS, ORDINARY, AtLeast(1.0)),
    goal("get", "GetArticle, 16 × 10: calls/s", CALLS, GO, AtLeast(1.0)),
    goal("get", "GetArticle, 16 × 10: calls/s", CALLS, NGINX, AtLeast(1.0)),
    goal("get-50", "GetArticle, 50 × 1: CPU", CPU, ORDINARY, AtMost(0.75)),
    goal("get-1", "GetArticle, 1 × 100: CPU", CPU, ORDINARY, AtMost(1.0)),
    goal("get-1", "GetArticle, 1 × 100: calls/s", CALLS, ORDINARY, AtLeast(1.0)),
    goal("rate", "GetArticle at the same rate: p99", P99, ORDINARY, AtMost(1.0)),
    goal("rate", "GetArticle at the same rate: p99", P99, GO, AtMost(1.0)),
    goal("rate", "GetArticle at the same rate: p99", P99, NGINX, AtMost(1.0)),
    goal("ghz", "GetArticle by ghz: CPU", CPU, ORDINARY, AtMost(1.0)),
    goal("list", "ListArticles of 20: CPU", CPU, SAME_SIZE, AtMost(2.0)),
    goal("batch", "BatchGetArticles of 20: CPU", CPU, SAME_SIZE, AtMost(2.0)),
    of(WEB, goal("web", "GET of an article: CPU", CPU, CABLE, AtMost(1.3))),
    of(NOT_MODIFIED, goal("web", "GET that is not modified: CPU", CPU, CABLE, AtMost(1.0))),
    of(WEB, goal("web", "GET of an article: CPU", CPU, NGINX, AtMost(1.0))),
    of(NOT_MODIFIED, goal("web", "GET that is not modified: CPU", CPU, NGINX_NOT_MODIFIED, AtMost(1.0))),
    goal("stream", "StreamArticles of 10,000: bytes/s", BYTES, LIMIT, AtLeast(0.8)),
    goal("stream", "StreamArticles of 10,000: bytes/s", BYTES, ORDINARY, AtLeast(1.0)),
    goal("tls", "GetArticle over TLS, 16 × 10: CPU", CPU, GO, AtMost(0.5)),
    goal("tls", "GetArticle over TLS, 16 × 10: CPU", CPU, NGINX, AtMost(1.0)),
    goal("tls-50", "GetArticle over TLS, 50 × 1: CPU", CPU, GO, AtMost(0.5)),
    goal("tls-50", "GetArticle over TLS, 50 × 1: CPU", CPU, NGINX, AtMost(1.0)),
];

impl Goal {
    fn found(&self, results: &Results) -> Option<f64> {
        results.case(self.case)?.ratio(self.figure, self.cable, self.other)
    }

    fn bound(&self) -> String {
        match self.bound {
            AtMost(bound) => format!("≤ {bound}"),
            AtLeast(bound) => format!("≥ {bound}"),
        }
    }

    fn is_met(&self, found: f64) -> bool {
        match self.bound {
            AtMost(bound) => found <= bound,
            AtLeast(bound) => found >= bound,
        }
    }
}

fn found(results: &Results) -> impl Iterator<Item = (&'static Goal, f64)> {
    GOALS.iter().filter_map(|goal| Some((goal, goal.found(results)?)))
}

/// Returns a row for each target whose case was measured.
pub(super) fn table(results: &Results) -> String {
    let mut text = String::from(
        "| Cable / other server | Other server | Target | Measured | |\n| --- | --- | ---: | ---: | --- |\n",
    );
    for (goal, found) in found(results) {
        let met = if goal.is_met(found) { "" } else { "missed" };
        let _ = writeln!(text, "| {} | {} | {} | {found:.2} | {met} |", goal.label, goal.other, goal.bound());
    }
    text
}

pub(super) fn json(results: &Results) -> Vec<Value> {
    let row = |(goal, found): (&Goal, f64)| {
        json!({
            "case": goal.case, "what": goal.label, "other": goal.other, "to_reach": goal.bound(),
            "found": (found * 1e3).round() / 1e3, "met": goal.is_met(found),
        })
    };
    found(results).map(row).collect()
}
