//! Bar charts as SVG: readable on light and dark pages, with nothing but the results.

use std::fmt::Write as _;

use super::{
    CABLE,
    results::{CALLS, CPU, Case, P99, Results, Series, micros},
};

const WIDTH: f64 = 760.0;
const LABELS: f64 = 290.0;
const VALUES: f64 = 80.0;
const ROW: f64 = 26.0;
const TOP: f64 = 40.0;

/// Returns each plot with its file name.
pub(super) fn all(results: &Results) -> Vec<(&'static str, String)> {
    let plot = |id, name, label: &str, figure: fn(&super::Sample) -> f64| {
        let case = results.case(id)?;
        Some((name, bars(&format!("{}: {label}", case.title), &rows(case, figure))))
    };
    let plots = [
        plot("get", "get-cpu.svg", "CPU of the server per call, µs", CPU),
        plot("get", "get-calls.svg", "calls per second", CALLS),
        plot("rate", "rate-p99.svg", "p99, µs", P99),
    ];
    plots.into_iter().flatten().collect()
}

struct Row {
    label: &'static str,
    value: f64,
}

fn rows(case: &Case, figure: fn(&super::Sample) -> f64) -> Vec<Row> {
    let row = |series: &Series| Row { label: series.server, value: series.median(figure) };
    case.series.iter().map(row).collect()
}

fn bars(title: &str, rows: &[Row]) -> String {
    let height = TOP + ROW * rows.len() as f64 + 8.0;
    let largest = rows.iter().map(|row| row.value).fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n\
         <style>text {{ fill: #24292f }} .bar {{ fill: #8c959f }} .own {{ fill: #bf3989 }} \
         @media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} .bar {{ fill: #6e7681 }} }}</style>\n\
         <text x=\"8\" y=\"22\" font-weight=\"bold\">{}</text>\n",
        escaped(title)
    );
    for (index, row) in rows.iter().enumerate() {
        let top = TOP + ROW * index as f64;
        let length = (WIDTH - LABELS - VALUES) * row.value / largest;
        let class = if row.label == CABLE { "own" } else { "bar" };
        let (baseline, end) = (top + 15.0, LABELS + length + 6.0);
        let _ = write!(
            svg,
            "<text x=\"{:.0}\" y=\"{baseline:.0}\" text-anchor=\"end\">{}</text>\n\
             <rect class=\"{class}\" x=\"{LABELS}\" y=\"{top:.0}\" width=\"{length:.1}\" height=\"20\" rx=\"2\"/>\n\
             <text x=\"{end:.0}\" y=\"{baseline:.0}\">{}</text>\n",
            LABELS - 8.0,
            escaped(row.label),
            micros(row.value),
        );
    }
    svg + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bar_lengths_are_in_proportion_to_the_longest() {
        let svg = bars("a < b", &[Row { label: CABLE, value: 5.0 }, Row { label: "other", value: 20.0 }]);
        assert!(svg.contains("a &lt; b") && svg.contains("class=\"own\""));
        for width in ["width=\"97.5\"", "width=\"390.0\""] {
            assert!(svg.contains(width), "{svg}");
        }
    }
}
