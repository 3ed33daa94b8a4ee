//! The status page, for people: HTML without scripts that loads itself again.

use std::{
    fmt::{self, Display, Write as _},
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use crate::{
    health::Health,
    telemetry::{Metrics, Rate, resident_bytes, start_time},
};

/// How often a browser loads the page again, in seconds.
const REFRESH_SECS: u32 = 5;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:14px/1.5 system-ui,sans-serif;max-width:64em;margin:2em auto;padding:0 1em}\
h1{font-size:1.4em}h2{font-size:1.1em;margin:1.6em 0 .4em}\
table{border-collapse:collapse;width:100%}\
th,td{text-align:left;padding:.2em .8em .2em 0;border-bottom:1px solid #8884}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\
.ok{color:#187a2f}.bad{color:#c22}";

/// The rights of the page: it shows itself in its own style, and nothing else.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// Returns the page.
pub(super) fn render(metrics: &Metrics, health: &Health) -> String {
    let conditions = health.conditions();
    let ready = conditions.is_serving("");
    let names: Vec<_> = conditions.iter().map(|(condition, _)| condition.name()).collect();
    let state = match (ready, names.is_empty()) {
        (true, true) => "ready".to_owned(),
        (true, false) => format!("ready, with conditions: {}", names.join(", ")),
        (false, _) => format!("not ready: {}", names.join(", ")),
    };
    let class = if names.is_empty() { "ok" } else { "bad" };
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"refresh\" content=\"{REFRESH_SECS}\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Cable: {title}</title>\
         <style>{STYLE}</style></head><body><h1>Cable {version}</h1>\
         <p class=\"{class}\"><strong>{state}</strong></p>",
        title = Escaped(&state),
        version = Escaped(env!("CARGO_PKG_VERSION")),
        state = Escaped(&state),
    );
    put_facts(&mut page, metrics);
    put_calls(&mut page, &metrics.rates());
    page += "<p>Calls and durations are those of the last 10 seconds. More is at \
             <a href=\"/metrics\">/metrics</a>.</p></body></html>\n";
    page
}

fn put_facts(page: &mut String, metrics: &Metrics) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let uptime = Duration::try_from_secs_f64(now - start_time()).unwrap_or_default();
    let (hits, misses) = (metrics.cache_hits.get(), metrics.cache_misses.get());
    let ratio = hits as f64 * 100.0 / (hits + misses).max(1) as f64;
    let facts = [
        ("Commit", env!("CABLE_COMMIT").to_owned()),
        ("Uptime", display_uptime(uptime)),
        ("Memory", mebibytes(resident_bytes())),
        ("Head revision", metrics.head_revision.get().to_string()),
        ("Oldest revision", metrics.history_floor_revision.get().to_string()),
        ("Connections", metrics.connections.get().to_string()),
        ("Feeds", format!("{}, {} revisions behind", metrics.feeds.get(), metrics.feed_lag_revisions.get())),
        (
            "Pending versions",
            format!(
                "{}, {} held, {} due",
                metrics.pending.get(),
                metrics.pending_held.get(),
                metrics.pending_due.get()
            ),
        ),
        (
            "Cache",
            format!(
                "{}, {} entries, {ratio:.1} % hits",
                mebibytes(metrics.cache_bytes.get()),
                metrics.cache_entries.get()
            ),
        ),
        ("Store", mebibytes(metrics.store_bytes.get())),
        (
            "Disk",
            format!(
                "{} free, {} reserved for removals",
                mebibytes(metrics.disk_free_bytes.get()),
                mebibytes(metrics.disk_reserve_bytes.get())
            ),
        ),
    ];
    *page += "<h2>Node</h2><table>";
    for (name, value) in facts {
        put(page, format_args!("<tr><th>{}</th><td>{}</td></tr>", Escaped(name), Escaped(&value)));
    }
    *page += "</table>";
}

fn put_calls(page: &mut String, rates: &[Rate]) {
    *page += "<h2>Calls</h2><table><tr><th>Method</th><th class=\"n\">per second</th>\
              <th class=\"n\">errors</th><th class=\"n\">in flight</th><th class=\"n\">median ≤</th>\
              <th class=\"n\">99 % ≤</th></tr>";
    for rate in rates {
        put(
            page,
            format_args!(
                "<tr><td>{}</td><td class=\"n\">{:.1}</td><td class=\"n\">{:.1}</td><td class=\"n\">{}</td>\
                 <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                Escaped(&rate.method),
                rate.per_second,
                rate.errors_per_second,
                rate.in_flight,
                display_duration(rate.median),
                display_duration(rate.p99),
            ),
        );
    }
    *page += "</table>";
}

fn put(page: &mut String, text: fmt::Arguments<'_>) {
    let _infallible = page.write_fmt(text);
}

fn display_duration(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "–".to_owned(), |duration| format!("{duration:?}"))
}

fn display_uptime(uptime: Duration) -> String {
    let minutes = uptime.as_secs() / 60;
    match (minutes / 1_440, minutes / 60 % 24, minutes % 60) {
        (0, 0, minutes) => format!("{minutes} min {} s", uptime.as_secs() % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Text that a browser shows as it is.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Condition;

    #[test]
    fn the_page_shows_the_node_and_its_conditions() {
        let (metrics, health) = (Metrics::new(), Health::default());
        metrics.head_revision.set(4_711);
        let get = metrics.for_method("<b>&\"'Get", false);
        metrics.sample();
        get.start();
        get.record(13, Duration::from_micros(100), None, 9);
        metrics.sample();
        let page = render(&metrics, &health);
        assert!(page.contains("<strong>ready</strong>") && page.contains("<td>4711</td>"), "{page}");
        assert!(page.contains("<td>&lt;b&gt;&amp;&quot;&#39;Get</td>") && page.contains("200µs"), "{page}");
        health.report(Condition::DiskFull, "/a/secret/path");
        let page = render(&metrics, &health);
        assert!(page.contains("ready, with conditions: disk_full") && !page.contains("/a/secret"), "{page}");
        health.report(Condition::Draining, "a test");
        assert!(render(&metrics, &health).contains("not ready: draining, disk_full"));
    }

    #[test]
    fn the_page_runs_no_script_and_loads_nothing() {
        let page = render(&Metrics::new(), &Health::default());
        for forbidden in
            ["<script", "javascript:", "src=", "@import", "url(", "onload", "http://", "https://"]
        {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert!(POLICY.starts_with("default-src 'none'; style-src 'sha256-"), "{}", *POLICY);
    }

    #[test]
    fn uptimes_are_readable() {
        for (secs, text) in [(61, "1 min 1 s"), (3_600, "1 h 0 min"), (90_000, "1 d 1 h")] {
            assert_eq!(display_uptime(Duration::from_secs(secs)), text);
        }
    }
}
