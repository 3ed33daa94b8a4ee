//! Logs and metrics of a node: events to standard error, and metrics for a scraper.
//!
//! Only this module has the names of the metrics. A registry is a value: two nodes in one process count separately.

mod describe;

pub use describe::{Description, describe};

use std::{fmt, io::IsTerminal as _, str::FromStr, sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};
use tracing_subscriber::{
    EnvFilter, Layer as _, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use cable_proto::code_name;

use crate::health::{Condition, Conditions};

/// The format of log events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            _ => Err("expected text or json".to_owned()),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Text => "text",
            Format::Json => "json",
        })
    }
}

/// The levels that [`init`] understands.
pub(crate) const LEVELS: &str =
    "error, warn, info, debug, trace, off, or directives as in \"info,cable=debug\"";

/// Checks that [`init`] understands `level`.
///
/// # Errors
/// [`init`] does not understand the level. The text describes the expected syntax.
pub(crate) fn check_level(level: &str) -> Result<(), String> {
    if level.is_empty() {
        return Err(format!("expected {LEVELS}"));
    }
    EnvFilter::try_new(level).map(drop).map_err(|error| format!("expected {LEVELS} ({error})"))
}

/// Returns the level with `h2` limited to errors: it warns of each stream that a peer breaks, so a peer could fill the
/// log. If the level names `h2`, the operator's choice applies.
fn limit_h2(level: &str) -> String {
    if level.contains("h2") { level.to_owned() } else { format!("{level},h2=error") }
}

/// The level of this process's events, which can change while it runs.
#[derive(Debug)]
pub struct LogLevel(reload::Handle<EnvFilter, tracing_subscriber::Registry>);

impl LogLevel {
    /// Changes the level.
    ///
    /// # Errors
    /// The level is invalid, or this process sends its events elsewhere. The text states which.
    pub fn set(&self, level: &str) -> Result<(), String> {
        check_level(level)?;
        let filter = EnvFilter::try_new(limit_h2(level)).map_err(|error| error.to_string())?;
        self.0.reload(filter).map_err(|error| error.to_string())
    }
}

/// Sends this process's events to standard error, and returns their level. Only the first call has an effect.
pub fn init(level: &str, format: Format) -> LogLevel {
    let filter = EnvFilter::try_new(limit_h2(level)).unwrap_or_else(|_| EnvFilter::new("info"));
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        Format::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    // A second server in one process, as in tests, logs to the same place as the first one.
    let _already_set = tracing_subscriber::registry().with(filter).with(lines).try_init();
    LogLevel(handle)
}

/// The gRPC code of a successful call.
const OK: i32 = 0;

/// Upper bounds of the buckets, in seconds: from 50 microseconds, a cached read, to about 13 s, above the longest wait
/// that a call can request.
const RPC_SECONDS: [f64; 10] =
    [0.000_05, 0.000_2, 0.000_8, 0.003_2, 0.012_8, 0.051_2, 0.204_8, 0.819_2, 3.276_8, 13.107_2];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    method: String,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConditionName {
    condition: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Method {
    method: String,
}

#[derive(Debug, Clone)]
struct Seconds;

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(RPC_SECONDS)
    }
}

/// The metrics of a node. Any thread can update them at low cost.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    rpc: Family<Call, Counter>,
    rpc_seconds: Family<Method, Histogram, Seconds>,
    conditions: Family<ConditionName, Gauge>,
    /// Open connections.
    pub(crate) connections: Gauge,
    /// Connections closed immediately because their peer had reached its limit.
    pub(crate) connections_refused: Counter,
    /// Open feeds.
    pub(crate) feeds: Gauge<u64, AtomicU64>,
    /// Reads served from memory.
    pub(crate) cache_hits: Counter,
    /// Reads that the store had to serve.
    pub(crate) cache_misses: Counter,
    /// Entries applied to the store.
    pub(crate) entries_applied: Counter,
    /// The newest applied revision.
    pub(crate) head_revision: Gauge<u64, AtomicU64>,
    /// Size of the store on disk, in bytes.
    pub(crate) store_bytes: Gauge<u64, AtomicU64>,
    /// Pending versions.
    pub(crate) pending: Gauge<u64, AtomicU64>,
    /// Pending versions that wait for an editor's decision.
    pub(crate) pending_held: Gauge<u64, AtomicU64>,
    /// Pending versions that will take the path of a live article, among the next 1,000.
    pub(crate) pending_path_conflicts: Gauge<u64, AtomicU64>,
    /// Damaged records that the last scrub found.
    pub(crate) store_damaged_records: Gauge<u64, AtomicU64>,
    /// End of the last scrub, in seconds since 1970 UTC; 0 if none has ended since the start.
    pub(crate) store_scrub_time: Gauge<u64, AtomicU64>,
    /// Handshakes that have failed.
    pub(crate) tls_handshake_failures: Counter,
    /// Changed certificates, keys and client CAs that were not valid.
    pub(crate) tls_reload_failures: Counter,
    /// Expiry of the certificate in use, in seconds since 1970 UTC; 0 without TLS.
    pub(crate) tls_certificate_expiry: Gauge<u64, AtomicU64>,
    /// The time at which the certificate in use was loaded, in seconds since 1970 UTC; 0 without TLS.
    pub(crate) tls_reload_time: Gauge<u64, AtomicU64>,
}

impl Metrics {
    /// Returns a registry in which every metric is zero.
    pub(crate) fn new() -> Self {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("cable"),
            rpc: Family::default(),
            rpc_seconds: Family::new_with_constructor(Seconds),
            conditions: Family::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            feeds: Gauge::default(),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            entries_applied: Counter::default(),
            head_revision: Gauge::default(),
            store_bytes: Gauge::default(),
            pending: Gauge::default(),
            pending_held: Gauge::default(),
            pending_path_conflicts: Gauge::default(),
            store_damaged_records: Gauge::default(),
            store_scrub_time: Gauge::default(),
            tls_handshake_failures: Counter::default(),
            tls_reload_failures: Counter::default(),
            tls_certificate_expiry: Gauge::default(),
            tls_reload_time: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("rpc", "Completed calls, by method and gRPC code", self.rpc.clone());
        let seconds = self.rpc_seconds.clone();
        registry.register_with_unit(
            "rpc",
            "Time from the request to the end of the response",
            Unit::Seconds,
            seconds,
        );
        registry.register(
            "condition",
            "1 while a condition that prevents some calls is active, else 0",
            self.conditions.clone(),
        );
        registry.register("connections", "Open connections", self.connections.clone());
        registry.register(
            "connections_refused",
            "Connections closed because their peer had reached its connection limit",
            self.connections_refused.clone(),
        );
        registry.register("feeds", "Open feeds", self.feeds.clone());
        registry.register("cache_hits", "Reads served from memory", self.cache_hits.clone());
        registry.register("cache_misses", "Reads served from the store", self.cache_misses.clone());
        registry.register("entries_applied", "Entries applied to the store", self.entries_applied.clone());
        registry.register("head_revision", "Newest applied revision", self.head_revision.clone());
        registry.register("pending", "Pending versions", self.pending.clone());
        registry.register(
            "pending_held",
            "Pending versions that are held because the live version has changed",
            self.pending_held.clone(),
        );
        registry.register(
            "pending_path_conflicts",
            "Pending versions, of the next 1000, that will take the path of a live article",
            self.pending_path_conflicts.clone(),
        );
        registry.register_with_unit(
            "store",
            "Size of the store on disk",
            Unit::Bytes,
            self.store_bytes.clone(),
        );
        let damaged = self.store_damaged_records.clone();
        registry.register("store_damaged_records", "Damaged records that the last scrub found", damaged);
        registry.register_with_unit(
            "store_scrub_time",
            "End of the last scrub in Unix time, 0 if none has ended since the start",
            Unit::Seconds,
            self.store_scrub_time.clone(),
        );
        self.register_tls();
    }

    fn register_tls(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "tls_handshake_failures",
            "TLS handshakes that have failed",
            self.tls_handshake_failures.clone(),
        );
        registry.register(
            "tls_reload_failures",
            "Changed certificates, keys and client CAs that were not valid",
            self.tls_reload_failures.clone(),
        );
        registry.register_with_unit(
            "tls_certificate_expiry",
            "Expiry of the certificate in use in Unix time, 0 without TLS",
            Unit::Seconds,
            self.tls_certificate_expiry.clone(),
        );
        registry.register_with_unit(
            "tls_reload_time",
            "Time at which the certificate in use was loaded in Unix time, 0 without TLS",
            Unit::Seconds,
            self.tls_reload_time.clone(),
        );
    }

    /// Returns the counters of one method's calls.
    pub(crate) fn for_method(&self, method: &str) -> RpcMetrics {
        RpcMetrics {
            ok: self.rpc.get_or_create_owned(&Call { method: method.to_owned(), code: code_name(OK) }),
            seconds: self.rpc_seconds.get_or_create_owned(&Method { method: method.to_owned() }),
            by_code: self.rpc.clone(),
            method: method.to_owned(),
        }
    }

    /// Sets the gauge of each condition: 1 if it holds, else 0.
    pub(crate) fn set_conditions(&self, conditions: &Conditions) {
        for condition in Condition::ALL {
            let gauge = self.conditions.get_or_create_owned(&ConditionName { condition: condition.name() });
            gauge.set(i64::from(conditions.is_active(condition)));
        }
    }

    /// Returns all metrics in the OpenMetrics text format.
    pub(crate) fn to_text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail, and no label here has a fallible encoder.
        let _infallible = text::encode(&mut out, &self.registry);
        out
    }
}

/// The counters of one method's calls. Counting a successful call needs no look-up.
#[derive(Debug, Clone)]
pub(crate) struct RpcMetrics {
    ok: Counter,
    seconds: Histogram,
    by_code: Family<Call, Counter>,
    method: String,
}

impl RpcMetrics {
    /// Counts a call that has ended with this gRPC code.
    pub(crate) fn record(&self, code: i32, duration: Duration) {
        if code == OK {
            self.ok.inc();
        } else {
            let call = Call { method: self.method.clone(), code: code_name(code) };
            self.by_code.get_or_create(&call).inc();
        }
        self.seconds.observe(duration.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_has_its_documented_name() {
        let metrics = Metrics::new();
        metrics.for_method("GetArticle").record(0, Duration::from_micros(100));
        metrics.for_method("GetArticle").record(5, Duration::from_micros(900));
        metrics.connections.inc();
        metrics.connections_refused.inc();
        metrics.feeds.set(3);
        metrics.cache_hits.inc();
        metrics.cache_misses.inc_by(2);
        metrics.entries_applied.inc_by(4);
        metrics.head_revision.set(5);
        metrics.store_bytes.set(6);
        metrics.store_damaged_records.set(7);
        metrics.store_scrub_time.set(8);
        metrics.tls_handshake_failures.inc();
        metrics.tls_reload_failures.inc_by(9);
        metrics.tls_certificate_expiry.set(10);
        metrics.tls_reload_time.set(11);
        let health = crate::health::Health::default();
        health.report(Condition::DiskFull, "a test");
        metrics.set_conditions(&health.conditions());
        let text = metrics.to_text();
        for line in [
            "cable_rpc_total{method=\"GetArticle\",code=\"OK\"} 1",
            "cable_rpc_seconds_bucket{le=\"0.0002\",method=\"GetArticle\"} 1",
            "cable_rpc_total{method=\"GetArticle\",code=\"NOT_FOUND\"} 1",
            "cable_rpc_seconds_count{method=\"GetArticle\"} 2",
            "cable_condition{condition=\"disk_full\"} 1",
            "cable_condition{condition=\"draining\"} 0",
            "cable_connections 1",
            "cable_connections_refused_total 1",
            "cable_feeds 3",
            "cable_cache_hits_total 1",
            "cable_cache_misses_total 2",
            "cable_entries_applied_total 4",
            "cable_head_revision 5",
            "cable_store_bytes 6",
            "cable_store_damaged_records 7",
            "cable_store_scrub_time_seconds 8",
            "cable_tls_handshake_failures_total 1",
            "cable_tls_reload_failures_total 9",
            "cable_tls_certificate_expiry_seconds 10",
            "cable_tls_reload_time_seconds 11",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn two_registries_count_separately() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.cache_hits.inc();
        assert_ne!(one.to_text(), other.to_text());
    }

    #[test]
    fn only_valid_levels_and_directives_are_accepted() {
        for level in ["info", "off", "TRACE", "info,cable=debug", "warn,cable::store=trace"] {
            assert_eq!(check_level(level), Ok(()), "{level}");
        }
        for level in ["", "info,=,", "cable=loud"] {
            assert!(check_level(level).is_err(), "{level}");
        }
    }

    #[test]
    fn a_peer_that_breaks_streams_does_not_fill_the_log() {
        assert_eq!(limit_h2("info"), "info,h2=error");
        assert_eq!(limit_h2("off"), "off,h2=error");
        assert_eq!(limit_h2("info,h2=trace"), "info,h2=trace");
        for level in ["info", "off", "info,cable=debug"] {
            assert_eq!(check_level(&limit_h2(level)), Ok(()), "{level}");
        }
    }
}
