//! The results as a file for programs, as tables for people, and as plots.

use std::{fmt::Write as _, fs, path::Path};

use serde_json::{Value, json};

use super::{
    goals, plot,
    results::{Case, Results, Series},
};
use crate::Outcome;

/// Returns the targets and the tables.
pub(super) fn markdown(results: &Results) -> String {
    let mut text = goals::table(results);
    for case in &results.cases {
        let _ = write!(text, "\n{}", case.table());
    }
    let _ = write!(
        text,
        "\nMedians of {} rounds in turns, over loopback. CPU is that of the server's process, by user and system. \
         Latency is h2load's, from sending a request to the end of its response. {}\n",
        results.rounds, results.machine
    );
    text
}

/// Returns the results for programs.
pub(super) fn json(results: &Results) -> Value {
    let case = |case: &Case| {
        let series: Vec<_> = case.series.iter().map(Series::json).collect();
        json!({ "case": case.id, "title": case.title, "servers": series })
    };
    let cases: Vec<_> = results.cases.iter().map(case).collect();
    let (machine, rounds) = (&results.machine, results.rounds);
    json!({ "machine": machine, "rounds": rounds, "goals": goals::json(results), "cases": cases })
}

/// Writes all files.
///
/// # Errors
/// Fails if one cannot be written.
pub(super) fn write(root: &Path, results: &Results) -> Outcome<()> {
    let directory = root.join("bench/results");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("serving.json"), format!("{:#}\n", json(results)))?;
    fs::write(directory.join("serving.md"), markdown(results))?;
    for (name, plot) in plot::all(results) {
        fs::write(directory.join(name), plot)?;
    }
    Ok(())
}
