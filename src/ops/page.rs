//! The operations page: what a node does now and did in the last hour, for the engineer who watches it.

use std::{
    fmt::{Display, Write as _},
    sync::LazyLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use super::{
    state::{self, State},
    tiles::{self, Past, Tile},
    words::{self, Escaped, bytes, plural, whole},
};
use crate::{
    health::{Conditions, Health},
    telemetry::{LARGEST_BOUND, Metrics, Queue, Rate, Reasons, resident_bytes, start_time},
};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The rights of the page: it has its own style and script, and loads itself. It loads nothing else.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let [style, script] = [STYLE, SCRIPT].map(|text| STANDARD.encode(Sha256::digest(text)));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// Returns the page.
pub(super) fn render(metrics: &Metrics, health: &Health) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let past = Past::new(metrics.history(), Instant::now());
    let conditions = health.conditions();
    let state = State::of(&conditions);
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{state} · Cable</title><link rel=\"icon\" href=\"data:,\"><style>{STYLE}</style></head><body>\
         <header class=\"masthead\"><p class=\"paper\">Cable, operations</p><p class=\"mode\" id=\"mode\">\
         <a href=\"/\">Load again</a></p><button type=\"button\" id=\"pause\" hidden>Pause</button></header>\
         <p id=\"stale\" role=\"alert\"></p><main>",
        state = state.title(),
    );
    put_state(&mut page, state, &conditions);
    put_notices(&mut page, &state::notices(metrics, now));
    put_node(&mut page, metrics, now, &past);
    put_section(&mut page, "Head", &tiles::WRITES, &past, &head_facts(metrics));
    put_section(&mut page, "Calls", &tiles::CALLS, &past, &[]);
    put_calls(&mut page, &metrics.rates());
    put_refusals(&mut page, metrics);
    put_section(&mut page, "Feeds and connections", &tiles::FEEDS, &past, &feed_facts(metrics, now));
    put_section(&mut page, "Cache and memory", &tiles::MEMORY, &past, &memory_facts(metrics));
    put_section(&mut page, "Disk and pending versions", &tiles::STORE, &past, &store_facts(metrics, now));
    page += "<p class=\"foot\">For programs: <a href=\"/metrics\">/metrics</a>, <a href=\"/readyz\">/readyz</a>, \
             <a href=\"/livez\">/livez</a>. In a terminal: <code>cable top</code>.</p></main><script>";
    page += SCRIPT;
    page += "</script></body></html>\n";
    page
}

/// Appends the state. A reader of the screen is interrupted only when it changes.
fn put_state(page: &mut String, state: State, conditions: &Conditions) {
    put(
        page,
        format_args!("<div class=\"state {}\" role=\"status\"><h1>{}</h1>", state.class(), state.title()),
    );
    if let Some(sentence) = state.summary() {
        put(page, format_args!("<p>{sentence}</p>"));
    }
    for (condition, _) in conditions.iter() {
        let sentence = state::reason(condition);
        put(page, format_args!("<p>{sentence} <code>{}</code></p>", Escaped(condition.name())));
    }
    *page += "</div>";
}

fn put_notices(page: &mut String, notices: &[String]) {
    if notices.is_empty() {
        return;
    }
    *page += "<ul class=\"notices\">";
    for notice in notices {
        put(page, format_args!("<li>{}</li>", Escaped(notice)));
    }
    *page += "</ul>";
}

/// A name with its value, which is HTML.
type Fact = (&'static str, String);

fn put_node(page: &mut String, metrics: &Metrics, now: u64, past: &Past) {
    let uptime = now as f64 - start_time();
    let head = metrics.log_head();
    *page += "<section aria-label=\"Node\">";
    put_facts(
        page,
        &[
            ("As of", format!("{}; the plots show the last {}", words::time(now), past.words())),
            ("Head revision", whole(head.revision)),
            ("Uptime", words::long(uptime)),
            ("Version", format!("{} ({})", env!("CARGO_PKG_VERSION"), env!("CABLE_COMMIT"))),
        ],
    );
    *page += "</section>";
}

fn head_facts(metrics: &Metrics) -> Vec<Fact> {
    let head = metrics.log_head();
    let digest: String = head.digest.iter().map(|byte| format!("{byte:02x}")).collect();
    vec![
        ("Log id", format!("<code>{}</code>", Escaped(&head.log_id))),
        ("Oldest revision that a feed can resume from", whole(metrics.history_floor_revision.get())),
        ("Writes in the queue", queue_length(metrics, Queue::WRITE)),
        ("Log digest at the head", format!("<code>{digest}</code>")),
    ]
}

fn queue_length(metrics: &Metrics, queue: Queue) -> String {
    whole(metrics.queue_length.get(&queue).map_or(0, |length| length.get()))
}

fn feed_facts(metrics: &Metrics, now: u64) -> Vec<Fact> {
    let expiry = metrics.tls_certificate_expiry.get();
    let certificate = match expiry {
        0 => "no TLS".to_owned(),
        expiry if expiry <= now => format!("expired {}", words::time(expiry)),
        expiry => format!("expires {}, in {}", words::time(expiry), words::long((expiry - now) as f64)),
    };
    vec![
        ("Groups of followers with the same filter", whole(metrics.feed_groups.get())),
        ("Reset because their client did not read", whole(metrics.stalled_resets.get())),
        ("Certificate", certificate),
    ]
}

fn memory_facts(metrics: &Metrics) -> Vec<Fact> {
    let limit = match metrics.memory_limit_bytes.get() {
        0 => "none".to_owned(),
        limit => {
            format!("{}, {:.0} % used", bytes(limit as f64), resident_bytes() as f64 * 100.0 / limit as f64)
        }
    };
    vec![
        ("Memory limit", limit),
        ("Entries in the cache", whole(metrics.cache_entries.get())),
        ("Dropped to make room", whole(metrics.cache_evictions.get())),
        ("Reads in the queue", queue_length(metrics, Queue::READ)),
    ]
}

fn store_facts(metrics: &Metrics, now: u64) -> Vec<Fact> {
    let since = |time: u64, none: &str| match time {
        0 => none.to_owned(),
        time => format!("{}, {} ago", words::time(time), words::long(now.saturating_sub(time) as f64)),
    };
    let damaged = plural(metrics.store_damaged_records.get(), "damaged record");
    vec![
        ("Reserve for removals", bytes(metrics.disk_reserve_bytes.get() as f64)),
        (
            "Pending versions",
            format!(
                "{}, {} held, {} due",
                whole(metrics.pending.get()),
                whole(metrics.pending_held.get()),
                whole(metrics.pending_due.get())
            ),
        ),
        ("Last backup", since(metrics.backup_time.get(), "none")),
        (
            "Last scrub",
            format!("{}; {damaged}", since(metrics.store_scrub_time.get(), "none since the start")),
        ),
    ]
}

fn put_section(page: &mut String, title: &str, tiles: &[Tile], past: &Past, facts: &[Fact]) {
    put(page, format_args!("<section><h2>{title}</h2><div class=\"tiles\">"));
    for tile in tiles {
        tiles::put(page, tile, past);
    }
    *page += "</div>";
    put_facts(page, facts);
    *page += "</section>";
}

fn put_facts(page: &mut String, facts: &[Fact]) {
    if facts.is_empty() {
        return;
    }
    *page += "<dl class=\"facts\">";
    for (name, value) in facts {
        put(page, format_args!("<div><dt>{name}</dt><dd>{value}</dd></div>"));
    }
    *page += "</dl>";
}

/// Begins a table, which a keyboard can scroll where it is wider than the screen.
fn put_table(page: &mut String, label: &str, caption: &str, columns: &[(&str, &str)]) {
    put(
        page,
        format_args!(
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{label}\"><table>\
             <caption>{caption}</caption><thead><tr>"
        ),
    );
    for (class, column) in columns {
        put(page, format_args!("<th scope=\"col\" class=\"{class}\">{column}</th>"));
    }
    *page += "</tr></thead><tbody>";
}

const TABLE_END: &str = "</tbody></table></div>";

fn put_calls(page: &mut String, rates: &[Rate]) {
    let columns = [
        ("", "Method"),
        ("n", "Per second"),
        ("n", "Not OK"),
        ("n", "In flight"),
        ("n", "Median"),
        ("n", "99 %"),
        ("", "Outcomes since the start"),
    ];
    put_table(
        page,
        "Calls by method",
        "Calls by method. Rates and durations are those of the last 10 seconds.",
        &columns,
    );
    for rate in rates {
        let outcomes = rate.outcomes.iter().filter(|(_, count)| *count > 0);
        let outcomes: Vec<_> = outcomes.map(|(code, count)| format!("{code} {}", whole(*count))).collect();
        put(
            page,
            format_args!(
                "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
                 <td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
                Escaped(rate.method.trim_start_matches("cable.v1.")),
                words::number(rate.per_second),
                words::number(rate.errors_per_second),
                whole(rate.in_flight),
                duration(rate, rate.median),
                duration(rate, rate.p99),
                Escaped(&outcomes.join(", ")),
            ),
        );
    }
    if rates.is_empty() {
        *page += "<tr><td colspan=\"7\">No call since the start.</td></tr>";
    }
    *page += TABLE_END;
}

/// Returns the upper bound of a duration, which is unknown above the last bucket and without a call.
fn duration(rate: &Rate, bound: Option<std::time::Duration>) -> String {
    match bound {
        Some(bound) => words::at_most(bound.as_secs_f64(), LARGEST_BOUND),
        None if rate.has_durations => words::at_most(f64::INFINITY, LARGEST_BOUND),
        None => "no call".to_owned(),
    }
}

fn put_refusals(page: &mut String, metrics: &Metrics) {
    let families: [(&str, &Reasons); 3] = [
        ("Write refused or failed", &metrics.writes_refused),
        ("Caller refused", &metrics.denials),
        ("Call refused under load", &metrics.calls_shed),
    ];
    let others = [
        ("Connection refused", "limit of its peer", metrics.connections_refused.get()),
        ("Connection refused", "failed TLS handshake", metrics.tls_handshake_failures.get()),
    ];
    put_table(
        page,
        "Refusals by reason",
        "Refusals by reason, since the start.",
        &[("", "Refusal"), ("", "Reason"), ("n", "Number")],
    );
    let mut rows = 0;
    let mut put_row = |refusal: &str, reason: &str, count: u64| {
        if count > 0 {
            rows += 1;
            put(
                page,
                format_args!(
                    "<tr><th scope=\"row\">{refusal}</th><td>{}</td><td class=\"n\">{}</td></tr>",
                    Escaped(reason),
                    whole(count)
                ),
            );
        }
    };
    for (refusal, family) in families {
        family.list().iter().for_each(|(reason, count)| put_row(refusal, reason, *count));
    }
    others.iter().for_each(|(refusal, reason, count)| put_row(refusal, reason, *count));
    if rows == 0 {
        *page += "<tr><td colspan=\"3\">None.</td></tr>";
    }
    *page += TABLE_END;
}

fn put(page: &mut String, text: impl Display) {
    let _infallible = write!(page, "{text}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        health::Condition,
        telemetry::{INTERVAL, LogHead},
    };

    #[test]
    fn the_page_shows_the_node_and_its_conditions() {
        let (metrics, health) = (Metrics::new(), Health::default());
        metrics.set_log_head(LogHead { log_id: "0123abcd".to_owned(), revision: 4_711, digest: [0xab; 32] });
        let get = metrics.for_method("<b>&\"'Get", false);
        metrics.sample();
        get.start();
        get.record(13, Duration::from_micros(100), None, 9);
        metrics.count_denial("UNAUTHENTICATED");
        metrics.sample();
        let page = render(&metrics, &health);
        for part in [
            "<title>Serving · Cable</title>",
            "<h1>Serving</h1><p>Reads, writes and feeds are served.</p>",
            "<dt>Head revision</dt><dd>4,711</dd>",
            "<dd><code>0123abcd</code></dd>",
            &"ab".repeat(32),
            "<th scope=\"row\">&lt;b&gt;&amp;&quot;&#39;Get</th>",
            "<td class=\"n\">≤ 200 µs</td><td>INTERNAL 1</td>",
            "<th scope=\"row\">Caller refused</th><td>UNAUTHENTICATED</td><td class=\"n\">1</td>",
        ] {
            assert!(page.contains(part), "{part} is missing in\n{page}");
        }
        health.report(Condition::DiskFull, "/a/secret/path");
        let page = render(&metrics, &health);
        assert!(page.contains("<h1>Refusing writes</h1><p>The disk has less free space"), "{page}");
        assert!(page.contains("<code>disk_full</code>") && !page.contains("/a/secret"), "{page}");
        health.report(Condition::Draining, "a test");
        assert!(render(&metrics, &health).contains("<h1>Draining</h1>"));
    }

    #[test]
    fn the_page_runs_its_own_script_and_loads_nothing_else() {
        let (metrics, health) = (Metrics::new(), Health::default());
        let page = render(&metrics, &health);
        for forbidden in
            ["javascript:", "src=", "@import", "url(", "onload", "http://", "https://", "http-equiv"]
        {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert_eq!((page.matches("<script").count(), page.matches("style=").count()), (1, 0));
        for (start, end, directive) in
            [("<script>", "</script>", "script-src"), ("<style>", "</style>", "style-src")]
        {
            let text = page.split_once(start).unwrap().1.split_once(end).unwrap().0;
            let hash = STANDARD.encode(Sha256::digest(text));
            assert!(POLICY.contains(&format!("; {directive} 'sha256-{hash}';")), "{}", *POLICY);
        }
    }

    /// The listener counts on responses of a few hundred kilobytes at most.
    #[test]
    fn a_page_of_a_busy_hour_is_bounded() {
        let (metrics, health) = (Metrics::new(), Health::default());
        let methods: Vec<_> =
            (0..60).map(|i| metrics.for_method(&format!("cable.v1.Service/Method{i}"), false)).collect();
        let start = Instant::now().checked_sub(Duration::from_secs(3_600)).unwrap();
        for i in 0..720_u32 {
            for (code, method) in (0..17).cycle().zip(&methods) {
                let micros = u64::from(i.wrapping_mul(2_654_435_761) >> 8);
                method.record(code, Duration::from_micros(micros), None, micros);
            }
            metrics.feeds.set(u64::from(i * 7_919 % 1_000));
            metrics.sample_at(start + i * INTERVAL);
        }
        let began = Instant::now();
        let page = render(&metrics, &health);
        assert!((20_000..250_000).contains(&page.len()), "{} bytes in {:?}", page.len(), began.elapsed());
        assert!(page.contains("the plots show the last hour"), "{page}");
    }
}
