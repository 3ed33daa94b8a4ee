//! The access log: lines about calls that have ended. A share of all calls is logged, and those that failed because of
//! the node or were slow.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tonic::Code;

use super::request_id::hexadecimal;
use crate::{
    audit::{Audit, Budget, display_peer},
    config::{self, Share},
    telemetry::{Metrics, Spans, random},
};

/// The maximum number of lines per second. It bounds what calls can write to the log: some 3 MB a minute. Further lines
/// are counted.
const MAX_LINES_PER_SECOND: u32 = 200;

/// The records of a node that every call may add to.
pub(super) struct Observer {
    pub(super) audit: Arc<Audit>,
    pub(super) access: AccessLog,
    pub(super) metrics: Arc<Metrics>,
    pub(super) spans: Spans,
}

#[cfg(test)]
impl Observer {
    pub(super) fn for_test() -> Arc<Observer> {
        let (audit, access) = (Audit::to_log(), AccessLog::new(&config::Log::default()));
        Arc::new(Observer { audit, access, metrics: Arc::new(Metrics::new()), spans: Spans::off() })
    }
}

/// Which calls are logged.
pub(super) struct AccessLog {
    share: Share,
    slow: Duration,
    budget: Budget,
}

/// The line of a call.
pub(super) struct Line<'a> {
    pub(super) method: &'a str,
    pub(super) code: &'static str,
    pub(super) duration: Duration,
    pub(super) first_message: Option<Duration>,
    pub(super) bytes: u64,
    pub(super) peer: IpAddr,
    pub(super) principal: &'a str,
    pub(super) request_id: Option<&'a str>,
    pub(super) trace_id: Option<[u8; 16]>,
}

impl AccessLog {
    pub(super) fn new(settings: &config::Log) -> AccessLog {
        let budget = Budget::new(MAX_LINES_PER_SECOND, Duration::from_secs(1));
        AccessLog { share: settings.access, slow: settings.access_slow, budget }
    }

    /// Whether a call is logged. `duration` is the time that its client has waited, if that is known.
    pub(super) fn selects(&self, code: Code, duration: Option<Duration>) -> bool {
        matches!(code, Code::Internal | Code::Unavailable | Code::DataLoss | Code::Unknown)
            || duration.is_some_and(|duration| duration >= self.slow)
            || self.share.takes(|| (random() >> 32) as u32)
    }

    /// Logs a call, unless too many were logged in this second.
    pub(super) fn log(&self, line: &Line<'_>) {
        if !self.budget.take() {
            return;
        }
        if let Some(omitted) = self.budget.take_omitted() {
            tracing::info!(target: "access", omitted, "lines omitted");
        }
        tracing::info!(
            target: "access",
            method = line.method,
            code = line.code,
            duration_ms = millis(line.duration),
            first_message_ms = line.first_message.map(millis),
            bytes = line.bytes,
            peer = display_peer(line.peer),
            principal = line.principal,
            request_id = line.request_id,
            trace_id = line.trace_id.map(|id| hexadecimal(&id)),
            "call"
        );
    }
}

/// Returns a duration in milliseconds, to the microsecond.
pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(share: &str) -> AccessLog {
        AccessLog::new(&config::Log { access: share.parse().unwrap(), ..config::Log::default() })
    }

    #[test]
    fn failures_of_the_node_and_slow_calls_are_always_logged() {
        let log = log("0");
        let (fast, slow) = (Some(Duration::from_millis(99)), Some(Duration::from_millis(100)));
        for code in (0..17).map(Code::from) {
            let is_failure =
                [Code::Internal, Code::Unavailable, Code::DataLoss, Code::Unknown].contains(&code);
            assert_eq!(log.selects(code, fast), is_failure, "{code}");
            assert_eq!(log.selects(code, None), is_failure, "{code}");
            assert!(log.selects(code, slow), "{code}");
        }
    }

    #[test]
    fn the_share_of_logged_calls_is_the_setting() {
        for (share, expected) in [("0", 0), ("0.01", 1_000), ("0.5", 50_000), ("1", 100_000)] {
            let log = log(share);
            let taken = (0..100_000).filter(|_| log.selects(Code::Ok, None)).count();
            assert!(taken.abs_diff(expected) <= expected / 5, "{share}: {taken}");
        }
    }
}
