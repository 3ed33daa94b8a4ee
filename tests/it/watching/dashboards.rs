//! The dashboard and the alert rules in `deploy/`.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Returns the names of all series of a node.
fn series() -> BTreeSet<String> {
    let suffixes = ["", "_total", "_bucket", "_sum", "_count"];
    let declared: Vec<_> = cable::telemetry::declarations().collect();
    declared.iter().flat_map(|metric| suffixes.map(|suffix| format!("{}{suffix}", metric.name))).collect()
}

/// Returns the metrics of nodes that expressions name.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("cable_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

/// Returns the expressions in a dashboard.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        Value::Object(members) => {
            for (key, value) in members {
                match value.as_str().filter(|_| key == "expr" || key == "query") {
                    Some(expression) => found.push(expression.to_owned()),
                    None => expressions(value, found),
                }
            }
        }
        _ => {}
    }
}

/// Whether the brackets of an expression match.
fn is_balanced(expression: &str) -> bool {
    let mut open = Vec::new();
    for c in expression.chars() {
        match c {
            '(' => open.push(')'),
            '[' => open.push(']'),
            '{' => open.push('}'),
            ')' | ']' | '}' if open.pop() != Some(c) => return false,
            _ => {}
        }
    }
    open.is_empty() && expression.matches('"').count().is_multiple_of(2)
}

fn check(expressions: &[String], place: &str) {
    let series = series();
    for expression in expressions {
        assert!(is_balanced(expression), "{place}: {expression}");
        for name in named(expression) {
            assert!(series.contains(&name), "{place}: {name} is no metric: {expression}");
        }
    }
}

#[test]
fn the_dashboard_names_only_metrics_that_exist() {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/cable.json")).unwrap();
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    assert!(found.len() > 40, "{}", found.len());
    check(&found, "dashboard");
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    let charts = panels.iter().filter(|panel| panel["type"] != "row");
    for panel in charts {
        assert!(!panel["description"].as_str().unwrap().is_empty(), "{panel}");
    }
}

#[test]
fn the_dashboard_shows_every_metric() {
    let text = read("deploy/grafana/cable.json");
    let shown = named(&text);
    let shown_as = |name: &str| shown.iter().any(|shown| shown.starts_with(name));
    // The damage that a scrub found has an alert of its own: the condition and the log.
    let missing: Vec<_> = cable::telemetry::declarations()
        .map(|metric| metric.name)
        .filter(|name| !shown_as(name) && *name != "cable_store_damaged_records")
        .collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn every_alert_names_metrics_that_exist_and_its_place_in_the_runbook() {
    let (alerts, runbook) = (read("deploy/prometheus/alerts.yml"), read("docs/runbook.md"));
    let after = |key: &str| -> Vec<String> {
        let values = alerts.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key));
        values.map(|value| value.trim().to_owned()).collect()
    };
    let (names, runbooks) = (after("alert:"), after("runbook:"));
    let lines: Vec<_> = alerts.lines().collect();
    let follows = |(index, line): (usize, &&str)| {
        (line.trim() == "expr: |").then(|| lines[index + 1].trim().to_owned())
    };
    let expressions: Vec<_> = lines.iter().enumerate().filter_map(follows).collect();
    assert!(names.len() >= 10 && names.len() == runbooks.len() && names.len() == expressions.len());
    check(&expressions, "alerts");
    let headings: BTreeSet<String> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|heading| heading.to_lowercase().replace(' ', "-"))
        .collect();
    for (name, link) in names.iter().zip(runbooks) {
        let anchor = link.strip_prefix("docs/runbook.md#").unwrap();
        assert!(headings.contains(anchor), "{name}: the runbook has no {anchor}");
        assert!(runbook.contains(&format!("`{name}`")), "{name} is not in the runbook");
    }
}
