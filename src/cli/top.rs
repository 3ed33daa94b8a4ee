//! `cable top`: shows the calls, feeds and resources of a node, from its metrics.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use clap::Args;

use super::{Error, ops, output::Output};
use cable::config;

/// The maximum number of frames without `--frames`.
const ENDLESS: u64 = u64::MAX;

/// The minimum time between two frames. A node takes some milliseconds to write its metrics, and rates over less have no
/// meaning.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// The width of the first column of the table. With it, a row fits into a terminal of 80 columns.
const METHOD_WIDTH: usize = 26;

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Address of the node's metrics.
    #[arg(long, value_name = "ADDRESS", value_parser = ops::address, env = "CABLE_OPS", default_value = "127.0.0.1:7191")]
    ops: String,
    /// Time between two frames, at least 100ms. Rates are those of this time.
    #[arg(long, value_name = "DURATION", value_parser = interval, default_value = "2s")]
    interval: Duration,
    /// Number of frames. If unset, frames continue on a terminal, and there is one in a pipe.
    #[arg(long, value_name = "N")]
    frames: Option<u64>,
}

/// Parses the time between two frames.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = config::duration(text)?;
    if interval < MIN_INTERVAL {
        return Err(format!("expected at least {}ms", MIN_INTERVAL.as_millis()));
    }
    Ok(interval)
}

/// Runs the command.
pub(crate) fn run(top: &Top, output: &mut Output) -> Result<(), Error> {
    let is_terminal = io::stdout().is_terminal();
    let frames = top.frames.unwrap_or(if is_terminal { ENDLESS } else { 1 });
    let mut before = Scrape::get(&top.ops)?;
    for _ in 0..frames {
        std::thread::sleep(top.interval);
        let after = Scrape::get(&top.ops)?;
        output.clear()?;
        output.text(&frame(&before, &after))?;
        before = after;
    }
    Ok(())
}

/// The metrics of a node at a time.
struct Scrape {
    time: Instant,
    /// The values, by name and labels.
    values: BTreeMap<String, f64>,
}

impl Scrape {
    fn get(address: &str) -> Result<Scrape, Error> {
        let failed = |source| Error::io(format!("read the metrics of {address}"), source);
        let text = fetch(address).map_err(failed)?;
        Ok(Scrape { time: Instant::now(), values: parse(&text) })
    }

    fn value(&self, name: &str) -> f64 {
        self.values.get(name).copied().unwrap_or(0.0)
    }

    /// Returns the samples of a name, by their labels.
    fn samples(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        let start = format!("{name}{{");
        let all = self.values.range(start.clone()..);
        let of_name = all.take_while(move |(key, _)| key.starts_with(&start));
        of_name.map(|(key, value)| (key.split_once('{').unwrap_or_default().1, *value))
    }
}

/// Returns the metrics of a node as text.
fn fetch(address: &str) -> io::Result<String> {
    match ops::get(address, "/metrics")? {
        (200, text) => Ok(text),
        _ => Err(io::Error::other("not the address of a node's metrics")),
    }
}

fn parse(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    samples.filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?))).collect()
}

/// Returns the value of a label.
fn label<'a>(labels: &'a str, name: &str) -> &'a str {
    let value = labels.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split_once('"'));
    value.unwrap_or_default().0
}

fn frame(before: &Scrape, after: &Scrape) -> String {
    let seconds = after.time.duration_since(before.time).as_secs_f64().max(0.001);
    let gauge = |name: &str| after.value(name);
    let rate = |name: &str| (after.value(name) - before.value(name)).max(0.0) / seconds;
    let conditions: Vec<_> = after
        .samples("cable_condition")
        .filter(|(_, value)| *value > 0.0)
        .map(|(labels, _)| label(labels, "condition"))
        .collect();
    let state = if conditions.is_empty() { "ready".to_owned() } else { conditions.join(", ") };
    let mib = |name: &str| gauge(name) / f64::from(1 << 20);
    let (hits, misses) = (rate("cable_cache_hits_total"), rate("cable_cache_misses_total"));
    let ratio = 100.0 * hits / (hits + misses).max(1e-9);
    let mut text = format!(
        "{state}   head {:.0}\n\
         connections {:.0}   feeds {:.0}, {:.0} behind   pending {:.0}, {:.0} due\n\
         cpu {:.0} %   memory {:.1} MiB   files {:.0}   store {:.1} MiB   disk free {:.1} MiB\n\
         cache {:.1} MiB, {:.0} entries, {ratio:.1} % hits   entries {:.1}/s\n\
         queues {:.0} read, {:.0} write\n\n\
         {:<METHOD_WIDTH$} {:>8} {:>8} {:>6} {:>8} {:>8} {:>9}\n",
        gauge("cable_head_revision"),
        gauge("cable_connections"),
        gauge("cable_feeds"),
        gauge("cable_feed_lag_revisions"),
        gauge("cable_pending"),
        gauge("cable_pending_due"),
        rate("process_cpu_seconds_total") * 100.0,
        mib("process_resident_memory_bytes"),
        gauge("process_open_fds"),
        mib("cable_store_bytes"),
        mib("cable_disk_free_bytes"),
        mib("cable_cache_bytes"),
        gauge("cable_cache_entries"),
        rate("cable_entries_applied_total"),
        gauge("cable_queue_length{queue=\"read\"}"),
        gauge("cable_queue_length{queue=\"write\"}"),
        "METHOD",
        "CALLS/S",
        "ERRORS/S",
        "OPEN",
        "MEDIAN <=",
        "99 % <=",
        "KIB/S",
    );
    let methods = after.samples("cable_rpc_in_flight").map(|(labels, _)| label(labels, "method"));
    for row in methods.filter_map(|method| row(method, before, after, seconds)) {
        text += &row;
    }
    text.trim_end().to_owned()
}

/// Returns the row of a method, `None` if it was never called.
fn row(method: &str, before: &Scrape, after: &Scrape, seconds: f64) -> Option<String> {
    let mut called = false;
    let (mut ok, mut errors) = (0.0, 0.0);
    for (labels, value) in
        after.samples("cable_rpc_total").filter(|(labels, _)| label(labels, "method") == method)
    {
        let ended = value - before.value(&format!("cable_rpc_total{{{labels}"));
        called |= value > 0.0;
        *if label(labels, "code") == "OK" { &mut ok } else { &mut errors } += ended.max(0.0);
    }
    let in_flight = after.value(&format!("cable_rpc_in_flight{{method=\"{method}\"}}"));
    let bytes_name = format!("cable_rpc_sent_bytes_total{{method=\"{method}\"}}");
    let bytes = after.value(&bytes_name) - before.value(&bytes_name);
    let [median, p99] = [0.5, 0.99].map(|quantile| display_quantile(method, before, after, quantile));
    // No two services of the API have a method of the same name.
    let name = match method.strip_prefix("cable.v1.") {
        Some(own) => own.rsplit('/').next(),
        None => method.rsplit('.').next(),
    };
    let name: String = name.unwrap_or(method).chars().take(METHOD_WIDTH).collect();
    (called || in_flight > 0.0).then(|| {
        format!(
            "{name:<METHOD_WIDTH$} {:>8.1} {:>8.1} {in_flight:>6.0} {median:>8} {p99:>8} {:>9.1}\n",
            (ok + errors) / seconds,
            errors / seconds,
            bytes.max(0.0) / 1_024.0 / seconds,
        )
    })
}

/// Returns the upper bound of the bucket that holds a quantile of the durations between two scrapes.
fn display_quantile(method: &str, before: &Scrape, after: &Scrape, quantile: f64) -> String {
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for name in ["cable_rpc_seconds_bucket", "cable_rpc_first_message_seconds_bucket"] {
        let of_method = after.samples(name).filter(|(labels, _)| label(labels, "method") == method);
        buckets.extend(of_method.map(|(labels, value)| {
            let bound = label(labels, "le").parse().unwrap_or(f64::INFINITY);
            (bound, value - before.value(&format!("{name}{{{labels}")))
        }));
    }
    buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let count = buckets.last().map_or(0.0, |(_, count)| *count);
    let found = buckets.iter().find(|(_, below)| count > 0.0 && *below >= count * quantile);
    match found {
        None => "-".to_owned(),
        Some((bound, _)) if bound.is_infinite() => "more".to_owned(),
        Some((bound, _)) => format!("{:?}", Duration::from_secs_f64(*bound)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(text: &str, time: Instant) -> Scrape {
        Scrape { time, values: parse(text) }
    }

    #[test]
    fn a_frame_shows_rates_and_quantiles() {
        let start = Instant::now();
        let text = |calls: u32, slow: u32| {
            format!(
                "# TYPE cable_rpc_total counter\n\
                 cable_rpc_total{{method=\"a.B/Get\",code=\"OK\"}} {calls}\n\
                 cable_rpc_total{{method=\"a.B/Get\",code=\"INTERNAL\"}} {slow}\n\
                 cable_rpc_in_flight{{method=\"a.B/Get\"}} 3\n\
                 cable_rpc_in_flight{{method=\"a.B/Never\"}} 0\n\
                 cable_rpc_seconds_bucket{{le=\"0.0002\",method=\"a.B/Get\"}} {calls}\n\
                 cable_rpc_seconds_bucket{{le=\"+Inf\",method=\"a.B/Get\"}} {}\n\
                 cable_condition{{condition=\"disk_full\"}} 1\n\
                 cable_condition{{condition=\"draining\"}} 0\n\
                 cable_head_revision 42\n",
                calls + slow
            )
        };
        let before = scrape(&text(100, 0), start);
        let after = scrape(&text(120, 2), start + Duration::from_secs(2));
        let frame = frame(&before, &after);
        assert!(frame.starts_with("disk_full   head 42\n"), "{frame}");
        let row: Vec<_> = frame.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(row, ["B/Get", "11.0", "1.0", "3", "200µs", "more", "0.0"]);
        assert!(!frame.contains("Never"), "{frame}");
        assert!(frame.lines().all(|line| line.chars().count() <= 80), "{frame}");
    }

    #[test]
    fn a_frame_takes_a_time() {
        for text in ["0s", "99ms"] {
            assert!(interval(text).unwrap_err().contains("at least 100ms"), "{text}");
        }
        assert_eq!(interval("100ms"), Ok(MIN_INTERVAL));
    }
}
