//! `cable check`: a plug-in for Nagios, Icinga and other monitors, in one line with performance data.

use std::{
    fmt, io,
    time::{Duration, Instant},
};

use cable::{
    config,
    readiness::{DRAINING, Readiness},
};
use cable_client::{Cable, ErrorKind, v1};
use clap::Args;

use super::{Error, ops, output::Output, terminal};

/// The exit code of usage that is invalid, for a monitor.
pub(crate) const UNKNOWN: u8 = 3;

/// The options with the bounds of what the service reports.
const BOUNDS: [&str; 6] =
    ["warn_free", "crit_free", "warn_overdue", "crit_overdue", "warn_time", "crit_time"];

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes, as monitors expect them: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN (invalid usage)."
)]
pub(crate) struct Check {
    /// Ask this operations address, which needs no token, instead of the service: whether the node serves, and its
    /// conditions. No bound applies to it.
    #[arg(long, value_name = "ADDRESS", value_parser = ops::address, conflicts_with_all = BOUNDS)]
    ops: Option<String>,
    /// With --ops, accept a node that serves but has a condition, for supervisors that restart one whose check fails.
    #[arg(long, requires = "ops")]
    ready: bool,
    /// Warn if the disk has less free space. If unset, twice the reserve of the node.
    #[arg(long, value_name = "SIZE", value_parser = config::size)]
    warn_free: Option<u64>,
    /// Fail if the disk has less free space. If unset, the reserve of the node: below it, puts are refused.
    #[arg(long, value_name = "SIZE", value_parser = config::size)]
    crit_free: Option<u64>,
    /// Warn if as many scheduled publications and expiries are overdue.
    #[arg(long, value_name = "N", default_value_t = 1)]
    warn_overdue: u64,
    /// Fail if as many scheduled publications and expiries are overdue.
    #[arg(long, value_name = "N", default_value_t = 10)]
    crit_overdue: u64,
    /// Warn if the response takes as long.
    #[arg(long, value_name = "TIME", value_parser = config::duration, default_value = "1s")]
    warn_time: Duration,
    /// Fail if the response takes as long.
    #[arg(long, value_name = "TIME", value_parser = config::duration, default_value = "5s")]
    crit_time: Duration,
}

/// The state of a service, by its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Ok = 0,
    Warning = 1,
    Critical = 2,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Ok => "OK",
            State::Warning => "WARNING",
            State::Critical => "CRITICAL",
        })
    }
}

/// Runs the command. A state other than OK is an error with its exit code. `cable` is an error if the options that select
/// the service are invalid.
pub(crate) async fn run(check: Check, cable: Result<Cable, Error>, output: &mut Output) -> Result<(), Error> {
    if let Some(address) = &check.ops {
        let warning = if check.ready { State::Ok } else { State::Warning };
        let (state, line) = report_readiness(address, warning, ops::get(address, "/readyz"));
        return finish(state as u8, &line, output);
    }
    let start = Instant::now();
    let (exit_code, line) = match cable {
        Ok(cable) => match cable.status().await {
            Ok(status) => {
                let (state, line) = report(&check, &status, start.elapsed());
                (state as u8, line)
            }
            // The node responds, but the monitor learns no more.
            Err(error)
                if [ErrorKind::Unauthenticated, ErrorKind::PermissionDenied].contains(&error.kind()) =>
            {
                let line = format!("CABLE WARNING - {}", first_line(&error.into()));
                (State::Warning as u8, line)
            }
            Err(error) => (State::Critical as u8, format!("CABLE CRITICAL - {}", first_line(&error.into()))),
        },
        Err(error) => (UNKNOWN, format!("CABLE UNKNOWN - {}", first_line(&error))),
    };
    finish(exit_code, &line, output)
}

/// Prints the line. A state other than OK is an error with its exit code.
fn finish(exit_code: u8, line: &str, output: &mut Output) -> Result<(), Error> {
    output.text(&format!("{line}\n"))?;
    if exit_code == State::Ok as u8 { Ok(()) } else { Err(Error::Reported { exit_code }) }
}

/// Returns the state of a node by what `/readyz` responds, and the line that reports it. `warning` is the state of a node
/// that serves but has a condition.
fn report_readiness(address: &str, warning: State, response: io::Result<(u16, String)>) -> (State, String) {
    let response = response.map(|(status, text)| Readiness::parse(status, &text));
    let (state, fact) = match response {
        Ok(Some(readiness)) => (readiness_state(&readiness, warning), readiness.to_string()),
        Ok(None) => (State::Critical, format!("{address} is not the operations address of a node")),
        Err(error) => (State::Critical, format!("{address}: {error}")),
    };
    let fact = fact.trim_end().replace('\n', "; ").replace('|', "/");
    (state, format!("CABLE {state} - {}", terminal::escape(&fact)))
}

fn readiness_state(readiness: &Readiness, warning: State) -> State {
    match (readiness.is_ready, readiness.conditions.is_empty()) {
        (true, true) => State::Ok,
        (true, false) => warning,
        (false, _) => State::Critical,
    }
}

/// Returns the first line of an error. `|` would begin the performance data.
fn first_line(error: &Error) -> String {
    let text = error.describe();
    text.lines().next().unwrap_or_default().trim_start_matches("cable: ").replace('|', "/")
}

/// Returns the state of a node and the line that reports it.
fn report(check: &Check, status: &v1::GetStatusResponse, time: Duration) -> (State, String) {
    let problems = problems(check, status, time);
    let state = problems.iter().map(|(state, _)| *state).max().unwrap_or(State::Ok);
    let counts = status.counts.unwrap_or_default();
    let revision = status.head.as_ref().map_or(0, |head| head.revision);
    let mut facts: Vec<String> = problems.into_iter().map(|(_, problem)| problem).collect();
    facts.push(format!("version {}, {} articles, revision {revision}", status.version, counts.articles));
    (state, format!("CABLE {state} - {} | {}", facts.join("; "), performance_data(check, status, time)))
}

/// Returns each problem of a node with its state.
fn problems(check: &Check, status: &v1::GetStatusResponse, time: Duration) -> Vec<(State, String)> {
    let mut found = Vec::new();
    for condition in &status.conditions {
        let state = if condition == DRAINING { State::Warning } else { State::Critical };
        found.push((state, condition.clone()));
    }
    let thresholds = Thresholds::of(check, status);
    if let Some(free) = status.free_bytes.map(i64::unsigned_abs) {
        let state = rate(free < thresholds.warn_free, free < thresholds.crit_free);
        found.extend(state.map(|state| (state, format!("{} MiB of disk free", free >> 20))));
    }
    match status.overdue_changes.map(i64::unsigned_abs) {
        Some(overdue) => {
            let state = rate(overdue >= check.warn_overdue, overdue >= check.crit_overdue);
            found.extend(state.map(|state| (state, format!("{overdue} scheduled changes overdue"))));
        }
        None => found.push((State::Warning, "overdue changes unknown".to_owned())),
    }
    if let Some(damage) = &status.damage {
        let text = if damage.database { "the database is damaged" } else { "records are damaged" };
        found.push((State::Critical, text.to_owned()));
    }
    let state = rate(time >= check.warn_time, time >= check.crit_time);
    found.extend(state.map(|state| (state, format!("response after {:.3} s", time.as_secs_f64()))));
    found
}

/// Returns the state of a value, or `None` if it is within both bounds.
fn rate(warns: bool, fails: bool) -> Option<State> {
    match (warns, fails) {
        (_, true) => Some(State::Critical),
        (true, false) => Some(State::Warning),
        (false, false) => None,
    }
}

/// The bounds of the free space in bytes.
struct Thresholds {
    warn_free: u64,
    crit_free: u64,
}

impl Thresholds {
    fn of(check: &Check, status: &v1::GetStatusResponse) -> Thresholds {
        let reserve = status.reserve_bytes.unsigned_abs();
        Thresholds {
            warn_free: check.warn_free.unwrap_or(reserve.saturating_mul(2)),
            crit_free: check.crit_free.unwrap_or(reserve),
        }
    }
}

/// Returns the values in the format `label=value[unit];warn;crit`. A bound of the free space is a lower one: `N:`.
fn performance_data(check: &Check, status: &v1::GetStatusResponse, time: Duration) -> String {
    let Thresholds { warn_free, crit_free } = Thresholds::of(check, status);
    let (warn_time, crit_time) = (check.warn_time.as_secs_f64(), check.crit_time.as_secs_f64());
    let mut data = vec![format!("time={:.4}s;{warn_time};{crit_time}", time.as_secs_f64())];
    if let Some(free) = status.free_bytes {
        data.push(format!("free={free}B;{warn_free}:;{crit_free}:"));
    }
    if let Some(overdue) = status.overdue_changes {
        data.push(format!("overdue={overdue};{};{}", check.warn_overdue, check.crit_overdue));
    }
    data.push(format!("store={}B", status.store_bytes));
    data.push(format!("articles={}", status.counts.unwrap_or_default().articles));
    data.push(format!("revision={}c", status.head.as_ref().map_or(0, |head| head.revision)));
    data.join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        check: Check,
    }

    fn check(line: &str) -> Check {
        Line::parse_from(["check"].into_iter().chain(line.split_whitespace())).check
    }

    fn status(change: impl FnOnce(&mut v1::GetStatusResponse)) -> v1::GetStatusResponse {
        let mut status = v1::GetStatusResponse::default();
        status.version = "0.1.0".into();
        status.free_bytes = Some(4 << 30);
        status.reserve_bytes = 512 << 20;
        status.overdue_changes = Some(0);
        change(&mut status);
        status
    }

    #[test]
    fn a_sound_node_is_ok_with_performance_data() {
        let (state, line) = report(&check(""), &status(|_| {}), Duration::from_millis(12));
        assert_eq!(state, State::Ok);
        assert_eq!(
            line,
            "CABLE OK - version 0.1.0, 0 articles, revision 0 | time=0.0120s;1;5 \
             free=4294967296B;1073741824:;536870912: overdue=0;1;10 store=0B articles=0 revision=0c"
        );
    }

    #[test]
    fn readiness_has_a_state_of_its_own() {
        for (response, expected, text) in [
            (Ok((200, "ready\n")), State::Ok, "ready"),
            (Ok((200, "ready\ndisk|full\n")), State::Warning, "ready; disk/full"),
            (
                Ok((503, "not ready\ndraining\ndisk_full\n")),
                State::Critical,
                "not ready; draining; disk_full",
            ),
            (Ok((503, "down")), State::Critical, "localhost:1 is not the operations address"),
            (Ok((200, "<html>")), State::Critical, "localhost:1 is not the operations address"),
            (Ok((404, "ready\n")), State::Critical, "localhost:1 is not the operations address"),
            (Err("refused"), State::Critical, "localhost:1: refused"),
        ] {
            let response = response.map(|(code, text)| (code, text.to_owned())).map_err(io::Error::other);
            let (state, line) = report_readiness("localhost:1", State::Warning, response);
            assert_eq!(state, expected, "{line}");
            assert!(line.starts_with(&format!("CABLE {expected} - {text}")), "{line}");
        }
    }

    #[test]
    fn each_problem_has_its_state_and_the_worst_one_counts() {
        let damage = |database| v1::Damage { database, ..Default::default() };
        type Change = Box<dyn FnOnce(&mut v1::GetStatusResponse)>;
        let cases: Vec<(&str, Change, Duration, State, &str)> = vec![
            (
                "",
                Box::new(|s| s.conditions = vec!["draining".into()]),
                Duration::ZERO,
                State::Warning,
                "draining",
            ),
            (
                "",
                Box::new(|s| s.conditions = vec!["disk_full".into()]),
                Duration::ZERO,
                State::Critical,
                "disk_full",
            ),
            (
                "",
                Box::new(|s| s.conditions = vec!["new_one".into()]),
                Duration::ZERO,
                State::Critical,
                "new_one",
            ),
            ("", Box::new(|s| s.free_bytes = Some(1 << 30)), Duration::ZERO, State::Ok, "version"),
            (
                "",
                Box::new(|s| s.free_bytes = Some(1000 << 20)),
                Duration::ZERO,
                State::Warning,
                "1000 MiB of disk free",
            ),
            ("", Box::new(|s| s.free_bytes = Some(0)), Duration::ZERO, State::Critical, "0 MiB of disk free"),
            ("", Box::new(|s| s.free_bytes = None), Duration::ZERO, State::Ok, "version"),
            ("--warn-free 5GiB", Box::new(|_| {}), Duration::ZERO, State::Warning, "4096 MiB of disk free"),
            ("--crit-free 5GiB", Box::new(|_| {}), Duration::ZERO, State::Critical, "4096 MiB of disk free"),
            ("", Box::new(|s| s.overdue_changes = Some(1)), Duration::ZERO, State::Warning, "1 scheduled"),
            ("", Box::new(|s| s.overdue_changes = Some(10)), Duration::ZERO, State::Critical, "10 scheduled"),
            (
                "--warn-overdue 5",
                Box::new(|s| s.overdue_changes = Some(4)),
                Duration::ZERO,
                State::Ok,
                "version",
            ),
            (
                "",
                Box::new(|s| s.overdue_changes = None),
                Duration::ZERO,
                State::Warning,
                "overdue changes unknown",
            ),
            (
                "",
                Box::new(move |s| s.damage = Some(damage(true))),
                Duration::ZERO,
                State::Critical,
                "the database",
            ),
            (
                "",
                Box::new(move |s| s.damage = Some(damage(false))),
                Duration::ZERO,
                State::Critical,
                "records",
            ),
            ("", Box::new(|_| {}), Duration::from_secs(1), State::Warning, "response after 1.000 s"),
            (
                "--crit-time 300ms",
                Box::new(|_| {}),
                Duration::from_secs(1),
                State::Critical,
                "response after",
            ),
            (
                "",
                Box::new(|s| (s.overdue_changes, s.conditions) = (Some(2), vec!["sync_failed".into()])),
                Duration::ZERO,
                State::Critical,
                "sync_failed; 2 scheduled",
            ),
        ];
        for (options, change, time, expected, text) in cases {
            let (state, line) = report(&check(options), &status(change), time);
            assert_eq!(state, expected, "{line}");
            assert!(line.starts_with(&format!("CABLE {expected} - {text}")), "{text}: {line}");
            assert_eq!(line.lines().count(), 1);
        }
    }
}
