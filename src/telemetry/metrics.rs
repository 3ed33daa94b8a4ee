//! The metrics of a node. Each is declared once: its name, its type and its help text.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder, text},
    metrics::{
        MetricType, TypedMetric,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        info::Info,
    },
    registry::Registry,
};

use super::{
    calls::{Calls, MethodTotals, RpcMetrics},
    history::{History, Sample},
    process,
    rates::{Rate, Samples},
    reasons::Reasons,
    timings::{self, Timings},
};
use crate::health::{Condition, Conditions};

/// A gauge of whole numbers from 0.
type Number = Gauge<u64, AtomicU64>;

/// A gauge of any numbers.
type Float = Gauge<f64, AtomicU64>;

/// The name of a metric and its help text. A counter is scraped under its name with `_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declaration {
    /// The name.
    pub name: &'static str,
    /// The description of its value.
    pub help: &'static str,
}

/// Defines [`Metrics`] and [`DECLARATIONS`].
macro_rules! metrics {
    ($(#[doc = $help:literal] $field:ident: $type:ty = $name:literal;)+) => {
        /// The metrics of a node. Any thread can update them at low cost.
        #[derive(Debug)]
        pub(crate) struct Metrics {
            registry: Registry,
            calls: Arc<Calls>,
            samples: Mutex<Samples>,
            history: Mutex<History>,
            log_head: Mutex<LogHead>,
            /// The consumers that have series.
            shown_consumers: Mutex<Vec<ConsumerName>>,
            $(#[doc = $help] pub(crate) $field: $type,)+
        }

        const DECLARED: &[Declaration] = &[$(Declaration { name: $name, help: $help }),+];

        impl Metrics {
            /// Returns a registry in which every metric is zero.
            pub(crate) fn new() -> Metrics {
                let calls = Arc::<Calls>::default();
                let mut registry = Registry::default();
                $(
                    let $field = <$type>::default();
                    registry.register($name, help($help), $field.clone());
                )+
                registry.register("cable_build", help(BUILD.help), build_info());
                registry.register_collector(Box::new(CallsCollector(calls.clone())));
                registry.register_collector(Box::new(process::Process));
                Metrics {
                    registry,
                    calls,
                    samples: Mutex::default(),
                    history: Mutex::default(),
                    log_head: Mutex::default(),
                    shown_consumers: Mutex::default(),
                    $($field,)+
                }
            }
        }
    };
}

metrics! {
    /// 1 while a condition that prevents some calls is active, else 0.
    conditions: Family<ConditionName, Gauge> = "cable_condition";
    /// Open connections.
    connections: Gauge = "cable_connections";
    /// Connections closed because their peer had reached its connection limit.
    connections_refused: Counter = "cable_connections_refused";
    /// Streams and connections that were reset because their client read nothing for connections.progress_timeout.
    stalled_resets: Counter = "cable_stalled_resets";
    /// TLS handshakes that have failed.
    tls_handshake_failures: Counter = "cable_tls_handshake_failures";
    /// Changed certificates, keys and client CAs that were not valid.
    tls_reload_failures: Counter = "cable_tls_reload_failures";
    /// Expiry of the certificate in use in Unix time, 0 without TLS.
    tls_certificate_expiry: Number = "cable_tls_certificate_expiry_seconds";
    /// Time at which the certificate in use was loaded in Unix time, 0 without TLS.
    tls_reload_time: Number = "cable_tls_reload_time_seconds";
    /// Open feeds.
    feeds: Number = "cable_feeds";
    /// Groups of open feeds: feeds with the same filter share one.
    feed_groups: Number = "cable_feed_groups";
    /// Revisions that the feed furthest behind has not been sent, although it has waited for none of them.
    feed_lag_revisions: Number = "cable_feed_lag_revisions";
    /// Consumers: followers with a name, whose acknowledged positions the node stores.
    consumers: Number = "cable_consumers";
    /// Consumers whose position is lost: it is compacted or belongs to another history.
    consumers_lost: Number = "cable_consumers_lost";
    /// Revisions after the position that a consumer has acknowledged, by owner and consumer. Not of lost positions.
    consumer_lag_revisions: Family<ConsumerName, Number> = "cable_consumer_lag_revisions";
    /// Time since the oldest revision that a consumer has not acknowledged, by owner and consumer. Not of lost positions.
    consumer_lag_seconds: Family<ConsumerName, Float> = "cable_consumer_lag_seconds";
    /// Calls refused because of who made them, by reason.
    denials: Reasons = "cable_auth_failures";
    /// Writes that were refused or failed, by reason.
    writes_refused: Reasons = "cable_writes_refused";
    /// Events that the audit log could not record.
    audit_failures: Counter = "cable_audit_failures";
    /// Spans of traces that the collector has accepted.
    spans_exported: Counter = "cable_spans_exported";
    /// Spans of traces that were dropped, because the collector did not take them in time.
    spans_dropped: Counter = "cable_spans_dropped";
    /// Reads served from memory.
    cache_hits: Counter = "cable_cache_hits";
    /// Reads served from the store.
    cache_misses: Counter = "cable_cache_misses";
    /// Bytes of encoded responses in memory.
    cache_bytes: Number = "cable_cache_bytes";
    /// Encoded responses and parts of them in memory.
    cache_entries: Number = "cable_cache_entries";
    /// Encoded responses and parts of them that were dropped to make room.
    cache_evictions: Counter = "cable_cache_evictions";
    /// Entries applied to the store.
    entries_applied: Counter = "cable_entries_applied";
    /// Newest applied revision.
    head_revision: Number = "cable_head_revision";
    /// Oldest revision from which a feed can resume.
    history_floor_revision: Number = "cable_history_floor_revision";
    /// Time to write a group of commits: to apply, audit and commit them.
    commit_seconds: Timings = "cable_commit_seconds";
    /// Time of the commit of a group on disk, most of which is the sync.
    commit_sync_seconds: Timings = "cable_commit_sync_seconds";
    /// Jobs that wait for the threads of the store, by queue.
    queue_length: Family<Queue, Number> = "cable_queue_length";
    /// Jobs refused because a queue of the store was full, by queue.
    queue_refused: Family<Queue, Counter> = "cable_queue_refused";
    /// Delay of a call in a queue, by queue: the minimum over the last tenth of a second.
    queue_delay_seconds: Family<Queue, Float> = "cable_queue_delay_seconds";
    /// Calls refused because the node was overloaded, by reason.
    calls_shed: Reasons = "cable_calls_shed";
    /// Memory limit of the process, 0 if it has none.
    memory_limit_bytes: Number = "cable_memory_limit_bytes";
    /// Step of memory pressure: 0 none, 1 the cache shrinks, 2 streams are refused, 3 reads of the store are refused.
    memory_step: Number = "cable_memory_step";
    /// Size of the store on disk.
    store_bytes: Number = "cable_store_bytes";
    /// Free bytes of the store's disk.
    disk_free_bytes: Number = "cable_disk_free_bytes";
    /// Bytes of the disk that are reserved for removals.
    disk_reserve_bytes: Number = "cable_disk_reserve_bytes";
    /// Damaged records that the last scrub found.
    store_damaged_records: Number = "cable_store_damaged_records";
    /// End of the last scrub in Unix time, 0 if none has ended since the start.
    store_scrub_time: Number = "cable_store_scrub_time_seconds";
    /// End of the last backup in Unix time, 0 if there is none.
    backup_time: Number = "cable_backup_time_seconds";
    /// Backups over gRPC that have ended, by outcome: sent, failed or cancelled.
    backups: Family<Outcome, Counter> = "cable_backups";
    /// Pending versions.
    pending: Number = "cable_pending";
    /// Pending versions that are held because the live version has changed.
    pending_held: Number = "cable_pending_held";
    /// Publications and expiries that are due and not done, at most 1000.
    pending_due: Number = "cable_pending_due";
    /// Time since the earliest publication or expiry that is due and not done.
    pending_overdue_seconds: Float = "cable_pending_overdue_seconds";
    /// Pending versions, of the next 1000, that will take the path of a live article.
    pending_path_conflicts: Number = "cable_pending_path_conflicts";
}

const BUILD: Declaration =
    Declaration { name: "cable_build_info", help: "1, with the version and the commit." };
const RPC: Declaration =
    Declaration { name: "cable_rpc", help: "Calls that have ended, by method and gRPC code." };
const IN_FLIGHT: Declaration =
    Declaration { name: "cable_rpc_in_flight", help: "Calls in flight, by method." };
const SENT_BYTES: Declaration = Declaration {
    name: "cable_rpc_sent_bytes",
    help: "Bytes of messages that ended calls have sent, by method.",
};
const RPC_SECONDS: Declaration = Declaration {
    name: "cable_rpc_seconds",
    help: "Time from the request to the end of the response, of calls without a stream of responses.",
};
const FIRST_MESSAGE_SECONDS: Declaration = Declaration {
    name: "cable_rpc_first_message_seconds",
    help: "Time from the request to the first message of a stream of responses.",
};

/// Returns the metrics, in the order in which they are scraped.
pub fn declarations() -> impl Iterator<Item = Declaration> {
    let calls = [BUILD, RPC, IN_FLIGHT, SENT_BYTES, RPC_SECONDS, FIRST_MESSAGE_SECONDS];
    DECLARED
        .iter()
        .copied()
        .chain(calls)
        .chain(process::DECLARED)
        .map(|declared| Declaration { help: help(declared.help), ..declared })
}

/// Returns a help text without the space and the full stop of a comment. The registry adds a full stop.
fn help(doc: &'static str) -> &'static str {
    doc.trim().trim_end_matches('.')
}

fn build_info() -> Info<Vec<(&'static str, &'static str)>> {
    Info::new(vec![("version", env!("CARGO_PKG_VERSION")), ("commit", env!("CABLE_COMMIT"))])
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ConditionName {
    condition: &'static str,
}

/// The log of the store, and its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogHead {
    pub(crate) log_id: String,
    pub(crate) revision: u64,
    pub(crate) digest: [u8; 32],
}

/// The owner and the name of a consumer. A node has at most 1,000.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub(crate) struct ConsumerName {
    pub(crate) owner: String,
    pub(crate) consumer: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Outcome {
    pub(crate) outcome: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Queue {
    queue: &'static str,
}

impl Queue {
    pub(crate) const SERVE: Queue = Queue { queue: "serve" };
    pub(crate) const READ: Queue = Queue { queue: "read" };
    pub(crate) const WRITE: Queue = Queue { queue: "write" };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets a counter to a sum that is counted elsewhere.
pub(crate) fn set_counter(counter: &Counter, total: u64) {
    counter.inner().store(total, Relaxed);
}

impl Metrics {
    /// Returns new counters of one method's calls, for one core.
    pub(crate) fn for_method(&self, method: &str, streams: bool) -> RpcMetrics {
        self.calls.add(method, streams)
    }

    /// Takes a sample of the counters of all calls, once a second, and one of what the operations page plots when that
    /// is due.
    pub(crate) fn sample(&self) {
        self.sample_at(Instant::now());
    }

    /// Does the same as [`sample`](Metrics::sample) at a time that is given.
    pub(crate) fn sample_at(&self, now: Instant) {
        let totals = self.calls.totals();
        let mut history = lock(&self.history);
        if history.is_due(now) {
            history.take(now, self, &totals);
        }
        drop(history);
        lock(&self.samples).add(now, totals);
    }

    /// Returns the samples of the last hour, the oldest first.
    pub(crate) fn history(&self) -> Vec<Sample> {
        lock(&self.history).samples()
    }

    #[cfg(test)]
    pub(super) fn call_totals(&self) -> std::collections::BTreeMap<String, MethodTotals> {
        self.calls.totals()
    }

    /// Sets the log of the store and its end.
    pub(crate) fn set_log_head(&self, head: LogHead) {
        *lock(&self.log_head) = head;
    }

    /// Returns the log of the store and its end, as of the last second.
    pub(crate) fn log_head(&self) -> LogHead {
        lock(&self.log_head).clone()
    }

    /// Returns the rates of calls in the last seconds.
    pub(crate) fn rates(&self) -> Vec<Rate> {
        lock(&self.samples).rates()
    }

    /// Counts a call that was refused because of who made it. Reasons are a few words of this program.
    pub(crate) fn count_denial(&self, reason: &'static str) {
        self.denials.counter(reason).inc();
    }

    /// Returns the counter of calls that are refused for a reason, because the node is overloaded.
    pub(crate) fn shed_calls(&self, reason: &'static str) -> Counter {
        self.calls_shed.counter(reason)
    }

    /// Counts a write that was refused or failed. Reasons are those of the schema.
    pub(crate) fn count_refused_write(&self, reason: &str) {
        self.writes_refused.counter(reason).inc();
    }

    /// Sets the gauges of consumers: the number of those with a lost position, and the lags of the others in revisions
    /// and seconds. Series of consumers that are not among them end.
    pub(crate) fn set_consumers(&self, lost: u64, lags: &BTreeMap<ConsumerName, (u64, f64)>) {
        self.consumers.set(lost + lags.len() as u64);
        self.consumers_lost.set(lost);
        for (name, (revisions, seconds)) in lags {
            self.consumer_lag_revisions.get_or_create_owned(name).set(*revisions);
            self.consumer_lag_seconds.get_or_create_owned(name).set(*seconds);
        }
        let mut shown = self.shown_consumers.lock().unwrap_or_else(PoisonError::into_inner);
        for name in shown.iter().filter(|name| !lags.contains_key(name)) {
            self.consumer_lag_revisions.remove(name);
            self.consumer_lag_seconds.remove(name);
        }
        *shown = lags.keys().cloned().collect();
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

/// Encodes the sums of the counters of calls.
#[derive(Debug)]
struct CallsCollector(Arc<Calls>);

impl Collector for CallsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let totals = self.0.totals();
        let ended = totals.iter().flat_map(|(method, totals)| {
            let labels = move |(code, count)| ([("method", &method[..]), ("code", code)], count);
            totals.by_code().map(labels)
        });
        encode_all(&mut encoder, RPC, ended.map(|(labels, count)| (labels, ConstCounter::new(count))))?;
        let by_method = || totals.iter().map(|(method, totals)| ([("method", &method[..])], totals));
        let in_flight = by_method().map(|(labels, totals)| (labels, ConstGauge::new(totals.in_flight())));
        encode_all(&mut encoder, IN_FLIGHT, in_flight)?;
        let bytes = by_method().map(|(labels, totals)| (labels, ConstCounter::new(totals.bytes)));
        encode_all(&mut encoder, SENT_BYTES, bytes)?;
        for (declaration, streams) in [(RPC_SECONDS, false), (FIRST_MESSAGE_SECONDS, true)] {
            let methods = by_method().filter(|(_, totals)| totals.streams == streams);
            encode_all(&mut encoder, declaration, methods.map(|(labels, totals)| (labels, Seconds(totals))))?;
        }
        Ok(())
    }
}

/// Encodes a metric of several labels.
fn encode_all<L: EncodeLabelSet, M: EncodeMetric>(
    encoder: &mut DescriptorEncoder,
    Declaration { name, help: text }: Declaration,
    metrics: impl Iterator<Item = (L, M)>,
) -> Result<(), std::fmt::Error> {
    let mut metrics = metrics.peekable();
    let Some((_, first)) = metrics.peek() else { return Ok(()) };
    let help = format!("{}.", help(text));
    let mut family = encoder.encode_descriptor(name, &help, None, first.metric_type())?;
    for (labels, metric) in metrics {
        metric.encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// The durations of a method's calls, as a histogram.
struct Seconds<'a>(&'a MethodTotals);

impl TypedMetric for Seconds<'_> {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Seconds<'_> {
    fn encode(&self, encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        timings::encode(encoder, &self.0.buckets, self.0.nanos)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_metric_has_its_documented_name() {
        let metrics = Metrics::new();
        let get = metrics.for_method("GetArticle", false);
        get.start();
        get.record(0, Duration::from_micros(100), None, 9);
        get.start();
        get.record(5, Duration::from_micros(900), None, 0);
        let watch = metrics.for_method("Watch", true);
        watch.start();
        watch.record(1, Duration::from_secs(900), Some(Duration::from_millis(1)), 7);
        watch.start();
        metrics.connections.inc();
        metrics.feeds.set(3);
        metrics.cache_misses.inc_by(2);
        metrics.pending_overdue_seconds.set(1.5);
        metrics.commit_seconds.record(Duration::from_millis(1));
        metrics.queue_length.get_or_create(&Queue::READ).set(4);
        metrics.count_denial("role");
        let health = crate::health::Health::default();
        health.report(Condition::DiskFull, "a test");
        metrics.set_conditions(&health.conditions());
        let text = metrics.to_text();
        for line in [
            "cable_rpc_total{method=\"GetArticle\",code=\"OK\"} 1",
            "cable_rpc_seconds_bucket{le=\"0.0002\",method=\"GetArticle\"} 1",
            "cable_rpc_seconds_bucket{le=\"+Inf\",method=\"GetArticle\"} 2",
            "cable_rpc_total{method=\"GetArticle\",code=\"NOT_FOUND\"} 1",
            "cable_rpc_seconds_count{method=\"GetArticle\"} 2",
            "cable_rpc_seconds_sum{method=\"GetArticle\"} 0.001",
            "cable_rpc_first_message_seconds_bucket{le=\"0.0032\",method=\"Watch\"} 1",
            "cable_rpc_in_flight{method=\"Watch\"} 1",
            "cable_rpc_sent_bytes_total{method=\"Watch\"} 7",
            "cable_condition{condition=\"disk_full\"} 1",
            "cable_condition{condition=\"draining\"} 0",
            "cable_connections 1",
            "cable_feeds 3",
            "cable_cache_misses_total 2",
            "cable_pending_overdue_seconds 1.5",
            "cable_commit_seconds_count 1",
            "cable_queue_length{queue=\"read\"} 4",
            "cable_auth_failures_total{reason=\"role\"} 1",
            "# HELP cable_feeds Open feeds.",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("cable_rpc_seconds_count{method=\"Watch\"}"), "{text}");
        assert!(text.contains(concat!("cable_build_info{version=\"", env!("CARGO_PKG_VERSION"))), "{text}");
    }

    #[test]
    fn series_of_consumers_end_with_them() {
        let metrics = Metrics::new();
        let name = |consumer: &str| ConsumerName { owner: "search".into(), consumer: consumer.into() };
        let lines = |name: &str| metrics.to_text().lines().filter(|line| line.contains(name)).count();
        metrics.set_consumers(1, &[(name("a"), (7, 1.5)), (name("b"), (0, 0.0))].into());
        let text = metrics.to_text();
        for line in [
            "cable_consumers 3",
            "cable_consumers_lost 1",
            "cable_consumer_lag_revisions{owner=\"search\",consumer=\"a\"} 7",
            "cable_consumer_lag_seconds{owner=\"search\",consumer=\"a\"} 1.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        metrics.set_consumers(0, &[(name("b"), (3, 0.5))].into());
        assert_eq!((lines("consumer=\"a\""), lines("consumer=\"b\"")), (0, 2));
    }

    #[test]
    fn two_registries_count_separately() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.cache_hits.inc();
        assert_ne!(one.cache_hits.get(), other.cache_hits.get());
    }

    #[test]
    fn every_declared_metric_is_scraped_with_its_help() {
        let metrics = Metrics::new();
        for streams in [true, false] {
            metrics.for_method(if streams { "a" } else { "b" }, streams).start();
        }
        metrics.count_denial("role");
        metrics.count_refused_write("STORE_FULL");
        metrics.backups.get_or_create(&Outcome { outcome: "sent" }).inc();
        drop(metrics.queue_length.get_or_create(&Queue::READ));
        drop(metrics.queue_refused.get_or_create(&Queue::READ));
        drop(metrics.queue_delay_seconds.get_or_create(&Queue::SERVE));
        drop(metrics.shed_calls("memory"));
        metrics.set_consumers(0, &[(ConsumerName::default(), (0, 0.0))].into());
        metrics.set_conditions(&Conditions::default());
        let text = metrics.to_text();
        let described: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# HELP ")).collect();
        for Declaration { name, help } in declarations() {
            let name = name.strip_suffix("_info").unwrap_or(name);
            let line = format!("{name} {help}.");
            assert!(described.contains(&&line[..]), "{line} is missing in\n{text}");
        }
        assert_eq!(described.len(), declarations().count());
    }
}
