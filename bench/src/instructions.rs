//! Instructions per call on the paths that most calls take: a gate that is independent of the machine's load. The
//! server's instructions under Valgrind are compared with the limit's for responses of the same size, in the same run
//! and with the same compiler. The gate checks the ratio of the two.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

use crate::{Outcome, newsroom::Newsroom, node::Program, report::grouped};

mod cases;
pub(crate) mod counted;

use counted::CountedServer;

/// The maximum increase of a ratio in percent. Runs differ by 0.5. The limit changes by up to 1.5 when its program is
/// recompiled. One needless copy of a response costs more than 2.
const TOLERANCE: f64 = 2.0;

/// The maximum number of runs of a check. The timers of a node add instructions, more of them the longer a call takes
/// on a machine that others use. So the lowest number of several runs counts.
const MAX_RUNS: usize = 3;

const JSON: &str = "bench/results/instructions.json";
const MARKDOWN: &str = "bench/results/instructions.md";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Compare with the recorded ratios and fail if one has risen; writes no results.
    #[arg(long)]
    check: bool,
}

/// Measures, and compares with the recorded ratios or records new ones.
///
/// # Errors
/// Fails if a step of the measurement fails, or if a ratio exceeds the recorded one by more than the tolerance.
pub(crate) fn run(root: &Path, options: Options) -> Outcome<()> {
    let program = Program::build(root)?;
    let dir = tempfile::tempdir()?;
    let newsroom = Newsroom::publish(&program, dir.path())?;
    let mut figures = measure(&program, &newsroom, &dir.path().join("1"))?;
    eprintln!("\n{}", markdown(&figures));
    if options.check {
        let recorded = serde_json::from_str(&fs::read_to_string(root.join(JSON))?)?;
        for run in 2..=MAX_RUNS {
            let Err(error) = check_ratios(&recorded, &figures) else { break };
            eprintln!("{error}\nrun {run} of at most {MAX_RUNS}");
            let again = measure(&program, &newsroom, &dir.path().join(run.to_string()))?;
            figures = figures.into_iter().zip(again).map(|(one, other)| one.lower(other)).collect();
        }
        return check_ratios(&recorded, &figures);
    }
    fs::write(root.join(JSON), format!("{:#}\n", json(&figures)))?;
    fs::write(root.join(MARKDOWN), markdown(&figures))?;
    Ok(())
}

/// The cost of one path.
#[derive(Debug)]
struct Figure {
    path: &'static str,
    /// The average size of a response message in bytes.
    bytes: usize,
    /// The instructions per unit.
    cable: u64,
    limit: u64,
}

impl Figure {
    fn ratio(&self) -> f64 {
        self.cable as f64 / self.limit as f64
    }

    /// Returns the lower one of two figures of one path.
    fn lower(self, other: Figure) -> Figure {
        if other.ratio() < self.ratio() { other } else { self }
    }
}

fn measure(program: &Program, newsroom: &Newsroom, dir: &Path) -> Outcome<Vec<Figure>> {
    fs::create_dir(dir)?;
    let mut serve = vec!["serve".as_ref(), "--ops-listen".as_ref(), "off".as_ref(), "--data".as_ref()];
    serve.push(newsroom.store.as_os_str());
    let mut cable = CountedServer::start(program.path(), &serve, dir.join("cable"))?;
    let mut figures = Vec::new();
    for (index, case) in cases::all(newsroom).iter().enumerate() {
        let (mut wire, response) = case.warm(cable.address)?;
        let counted = cable.count(|| case.load(&mut wire))? / case.units();
        let (size, messages) = (response.bytes.to_string(), response.messages.to_string());
        let limit = ["--size", &size, "--messages", &messages].map(AsRef::as_ref);
        let mut limit = CountedServer::start(&program.limit(), &limit, dir.join(format!("limit-{index}")))?;
        let (mut wire, _) = case.warm(limit.address)?;
        let limit = limit.count(|| case.load(&mut wire))? / case.units();
        let figure = Figure { path: case.path, bytes: response.bytes, cable: counted, limit };
        eprintln!("{}", row(&figure));
        figures.push(figure);
    }
    Ok(figures)
}

/// # Errors
/// Fails if a ratio is too high or not recorded.
fn check_ratios(recorded: &Value, figures: &[Figure]) -> Outcome<()> {
    let failures: Vec<String> = figures.iter().filter_map(|figure| failure(recorded, figure)).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

fn failure(recorded: &Value, figure: &Figure) -> Option<String> {
    let path = figure.path;
    let recorded = &recorded["paths"][path];
    let Some(recorded_ratio) = recorded["ratio"].as_f64() else {
        return Some(format!("{path}: not recorded; run `cable-bench instructions` and commit {JSON}"));
    };
    let measured = figure.ratio();
    let change = 100.0 * (measured / recorded_ratio - 1.0);
    if change < -TOLERANCE {
        eprintln!("{path}: improved by {:.1} %; record the new ratio", -change);
    }
    (change > TOLERANCE).then(|| {
        format!(
            "{path}: {measured:.3} of the limit, {recorded_ratio:.3} recorded: {change:+.1} %, at most {TOLERANCE} allowed \
             ({} instructions, {} recorded; the limit {}, {} recorded)",
            grouped(figure.cable),
            grouped(recorded["cable"].as_u64().unwrap_or(0)),
            grouped(figure.limit),
            grouped(recorded["limit"].as_u64().unwrap_or(0)),
        )
    })
}

fn json(figures: &[Figure]) -> Value {
    let paths: Map<String, Value> = figures
        .iter()
        .map(|figure| {
            let Figure { bytes, cable, limit, .. } = figure;
            let ratio = (figure.ratio() * 1e4).round() / 1e4;
            let measured = json!({ "bytes": bytes, "cable": cable, "limit": limit, "ratio": ratio });
            (figure.path.to_owned(), measured)
        })
        .collect();
    json!({ "tolerance_percent": TOLERANCE, "paths": paths })
}

fn row(figure: &Figure) -> String {
    let numbers = [figure.bytes as u64, figure.cable, figure.limit].map(grouped).join(" | ");
    format!("| {} | {numbers} | {:.3} |", figure.path, figure.ratio())
}

fn markdown(figures: &[Figure]) -> String {
    let rows: Vec<String> = figures.iter().map(row).collect();
    format!(
        "| Path | Bytes of a message | Instructions, Cable | The limit | Ratio |\n\
         | --- | ---: | ---: | ---: | ---: |\n{}\n\n\
         Per call, of a stream per article; the process's own instructions under Valgrind, without the kernel's. One \
         connection; ten calls at a time are sent in one write. The limit is hyper and h2 alone with the same \
         number of bytes, framed in advance. CI fails when a ratio rises by more than {TOLERANCE} %.\n",
        rows.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(cable: u64, limit: u64) -> Figure {
        Figure { path: "GetArticle", bytes: 6_400, cable, limit }
    }

    #[test]
    fn a_ratio_may_fall_or_rise_within_the_tolerance() {
        let recorded = json(&[figure(20_000, 10_000)]);
        for (cable, limit) in [(20_000, 10_000), (20_390, 10_000), (12_000, 10_000), (40_000, 20_000)] {
            check_ratios(&recorded, &[figure(cable, limit)]).unwrap();
        }
        for (cable, limit) in [(20_420, 10_000), (20_000, 9_790)] {
            let error = check_ratios(&recorded, &[figure(cable, limit)]).unwrap_err().to_string();
            assert!(
                error.starts_with("GetArticle: 2.04") && error.contains("2.000 recorded: +2.1 %"),
                "{error}"
            );
        }
    }

    #[test]
    fn an_unrecorded_path_fails() {
        assert!(check_ratios(&json(&[]), &[figure(1, 1)]).is_err());
    }
}
