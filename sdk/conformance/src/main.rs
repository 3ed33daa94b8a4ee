//! The conformance suite of Cable's clients. It starts a node behind a proxy that fails on command, lets a driver use
//! the node through a client, and checks what the client delivers.

mod case;
mod driver;
mod follower;
mod gate;
mod node;
mod proxy;
mod random;
mod run;

use std::{
    collections::VecDeque,
    io::Write as _,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use clap::Parser;

use crate::{case::Case, driver::Driver, run::Context};

/// The result of a step. The error is a sentence.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// Returns an error.
pub(crate) fn fail<T>(problem: impl Into<String>) -> Outcome<T> {
    Err(problem.into())
}

/// The time for one case. It is far longer than any needs.
const LONGEST_CASE: Duration = Duration::from_secs(300);

/// Check a client of Cable against a node behind a faulty network
#[derive(Debug, Parser)]
#[command(name = "cable-conformance", version)]
struct Arguments {
    /// Command line of the driver of the client. If unset, that of the Rust client, beside this program
    #[arg(long, value_name = "COMMAND")]
    driver: Option<String>,
    /// Program `cable`
    #[arg(long, value_name = "FILE", env = "CABLE_PROGRAM", default_value = "cable")]
    program: PathBuf,
    /// Case to run; may be repeated. If unset, all
    #[arg(long, value_name = "NAME")]
    case: Vec<String>,
    /// List the cases
    #[arg(long)]
    list: bool,
    /// Fail if a case is skipped
    #[arg(long)]
    forbid_skips: bool,
    /// Number of cases at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 6)]
    jobs: usize,
    /// Run this number of random cases instead
    #[arg(long, value_name = "NUMBER")]
    random: Option<u64>,
    /// Seed of the first random case. If unset, another one each time
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

/// The end of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Passed,
    /// The capabilities that the driver lacks.
    Skipped(String),
    Failed(String),
}

/// A line of the table.
#[derive(Debug, Clone)]
struct Line {
    name: String,
    verdict: Verdict,
    took: Duration,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match suite(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            print(&format!("cable-conformance: {problem}"));
            ExitCode::from(2)
        }
    }
}

async fn suite(arguments: &Arguments) -> Outcome<bool> {
    let cases = case::all()?;
    if arguments.list {
        for case in &cases {
            print(&format!("{:32} {}", case.name, case.about));
        }
        return Ok(true);
    }
    if let Some(unknown) = arguments.case.iter().find(|name| !cases.iter().any(|case| case.name == **name)) {
        return fail(format!("no case is named {unknown}: see --list"));
    }
    let context = context(arguments)?;
    let driver = Driver::start(&context.driver).await?;
    let (language, capabilities) = (driver.language.clone(), driver.capabilities.clone());
    driver.end().await?;
    if let Some(runs) = arguments.random {
        let first = arguments.seed.unwrap_or_else(|| fastrand::u64(..1_000_000_000));
        return random::run_all(&context, &language, first, runs, arguments.jobs).await;
    }
    let mut chosen: Vec<Case> = cases
        .into_iter()
        .filter(|case| arguments.case.is_empty() || arguments.case.contains(&case.name))
        .collect();
    // A long case mostly waits: the others run meanwhile.
    chosen.sort_by_key(|case| !case.long);
    let started = Instant::now();
    let lines = run_cases(chosen, &context, &capabilities, arguments.jobs).await;
    print(&table(&language, &lines, started.elapsed()));
    let is_skipped = lines.iter().any(|line| matches!(line.verdict, Verdict::Skipped(_)));
    let is_failed = lines.iter().any(|line| matches!(line.verdict, Verdict::Failed(_)));
    Ok(!(is_failed || is_skipped && arguments.forbid_skips))
}

fn context(arguments: &Arguments) -> Outcome<Context> {
    let driver = match &arguments.driver {
        Some(driver) => driver.clone(),
        None => {
            let own =
                std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
            own.with_file_name("cable-conformance-driver").to_string_lossy().into_owned()
        }
    };
    // The program runs in another directory.
    let is_bare = arguments.program.components().count() == 1;
    let program =
        if is_bare { Ok(arguments.program.clone()) } else { std::path::absolute(&arguments.program) };
    let program = program.map_err(|error| format!("--program: {error}"))?;
    Ok(Context { program, driver })
}

/// Runs cases, a few at a time, and returns their lines in the order in which they were given.
async fn run_cases(cases: Vec<Case>, context: &Context, capabilities: &[String], jobs: usize) -> Vec<Line> {
    let (mut long, mut short): (VecDeque<_>, VecDeque<_>) =
        cases.into_iter().enumerate().partition(|(_, case)| case.long);
    let lines = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    // Long cases wait for time to pass: they take no job.
    while let Some(next) = long.pop_front() {
        let lines = Arc::clone(&lines);
        let (context, capabilities) = (context.clone(), capabilities.to_vec());
        tasks.spawn(async move { run_case(next, &context, &capabilities, &lines).await });
    }
    let queue = Arc::new(Mutex::new(std::mem::take(&mut short)));
    for _ in 0..jobs.max(1) {
        let (queue, lines) = (Arc::clone(&queue), Arc::clone(&lines));
        let (context, capabilities) = (context.clone(), capabilities.to_vec());
        tasks.spawn(async move {
            loop {
                let Some(next) = lock(&queue).pop_front() else { return };
                run_case(next, &context, &capabilities, &lines).await;
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    let mut lines = std::mem::take(&mut *lock(&lines));
    lines.sort_by_key(|(index, _)| *index);
    lines.into_iter().map(|(_, line)| line).collect()
}

async fn run_case(
    (index, case): (usize, Case),
    context: &Context,
    capabilities: &[String],
    lines: &Mutex<Vec<(usize, Line)>>,
) {
    let started = Instant::now();
    let lacking: Vec<&str> =
        case.needs.iter().filter(|need| !capabilities.contains(need)).map(|need| &need[..]).collect();
    let verdict = if lacking.is_empty() {
        let outcome = tokio::time::timeout(LONGEST_CASE, run::run(&case, context)).await;
        match outcome.unwrap_or_else(|_| fail(format!("not done within {LONGEST_CASE:?}"))) {
            Ok(()) => Verdict::Passed,
            Err(problem) => Verdict::Failed(problem),
        }
    } else {
        Verdict::Skipped(lacking.join(", "))
    };
    let line = Line { name: case.name, verdict, took: started.elapsed() };
    print(&described(&line));
    lock(lines).push((index, line));
}

fn described(line: &Line) -> String {
    let took = line.took.as_secs_f64();
    match &line.verdict {
        Verdict::Passed => format!("passed   {:32} {took:5.1} s", line.name),
        Verdict::Skipped(lacking) => format!("SKIPPED  {:32} the driver lacks: {lacking}", line.name),
        Verdict::Failed(problem) => format!("FAILED   {:32} {took:5.1} s: {problem}", line.name),
    }
}

/// Returns the table of all cases. Failures have the first line of their problem.
fn table(language: &str, lines: &[Line], took: Duration) -> String {
    let count = |is_meant: fn(&Verdict) -> bool| lines.iter().filter(|line| is_meant(&line.verdict)).count();
    let mut text = format!("\n{language}: {} cases in {:.0} s\n", lines.len(), took.as_secs_f64());
    for line in lines {
        text += described(line).lines().next().unwrap_or_default();
        text.push('\n');
    }
    let (passed, skipped, failed) = (
        count(|verdict| *verdict == Verdict::Passed),
        count(|verdict| matches!(verdict, Verdict::Skipped(_))),
        count(|verdict| matches!(verdict, Verdict::Failed(_))),
    );
    text + &format!("{passed} passed, {skipped} skipped, {failed} failed")
}

/// Prints a line. A reader that is gone does not need it.
pub(crate) fn print(line: &str) {
    let _reader_is_gone = writeln!(std::io::stdout().lock(), "{line}");
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
