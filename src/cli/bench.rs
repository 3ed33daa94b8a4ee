//! `cable bench`: generates load on a service, checks the responses and measures their latency.
//!
//! `plan` determines when calls are due, `pace` makes them, `check` defines a correct response, and `report` has the
//! results. Each kind of call has a module of its own.

use std::{
    thread::available_parallelism,
    time::{Duration, Instant},
};

use cable_client::{Cable, Retry};
use clap::Args;
use futures_util::future::try_join_all;

use self::{
    pace::Work,
    plan::{Limit, Mode, Plan},
    report::{CallReport, Report},
};
use super::{
    Error,
    output::{Format, Output},
    progress,
};
use cable::config as settings;

mod check;
mod draw;
mod get;
mod list;
mod pace;
mod plan;
mod report;
mod stream;
mod watch;

const MAX_RATE: f64 = 1_000_000.0;
/// Maximum number of calls. More would not end within a day at any rate that one machine can generate.
const MAX_CALLS: u64 = 1_000_000_000;
const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_TIMEOUT: Duration = Duration::from_secs(60 * 60);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const STREAM_TIMEOUT: Duration = Duration::from_secs(60);
const DEFAULT_WORKERS: u32 = 16;
const DEFAULT_IN_FLIGHT: u32 = 1_000;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Call GetArticle for articles drawn from a set of names.
    Get(get::Get),
    /// Call ListArticles repeatedly for the first page of a list.
    List(list::List),
    /// Call StreamArticles repeatedly for all articles that match.
    Stream(stream::Stream),
    /// Call Watch for many followers of one filter, publish, and measure how long each follower waits for each publish.
    Watch(watch::Watch),
}

/// The amount and duration of the load.
#[derive(Debug, Args)]
struct Load {
    /// Total calls per second in an open loop. Each call is due at a time of its own, and its latency counts from that
    /// time, however late it was sent. If unset, a closed loop.
    #[arg(long, value_name = "R", value_parser = rate)]
    rate: Option<f64>,
    /// Callers of a closed loop: each sends its next call after its last response, which finds the peak. [default: 16]
    #[arg(long, value_name = "W", conflicts_with = "rate", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    workers: Option<u32>,
    /// Duration of the measurement.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// Number of calls to measure, however long they take.
    #[arg(long, value_name = "N", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..=MAX_CALLS))]
    calls: Option<u64>,
    /// Duration of the calls before the measurement, which are not counted.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = warm_up)]
    warm_up: Duration,
    /// Maximum calls in flight with --rate; beyond it, calls are late. [default: 1000]
    #[arg(long, value_name = "N", requires = "rate", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    in_flight: Option<u32>,
    /// Connections to each endpoint. If unset, two per core of this machine.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    connections: Option<u32>,
    /// Maximum time of a call; of a stream, until its end. If unset, 10s, and 60s for a stream.
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    timeout: Option<Duration>,
}

impl Load {
    fn plan(&self) -> Result<Plan, Error> {
        let limit = self.calls.map_or(Limit::Time(self.duration), Limit::Calls);
        let mode = match self.rate {
            Some(rate) => Mode::Open { rate, in_flight: self.in_flight.unwrap_or(DEFAULT_IN_FLIGHT) },
            None => Mode::Closed { workers: self.workers.unwrap_or(DEFAULT_WORKERS) },
        };
        if self.calls.is_none() && self.rate.unwrap_or(0.0) * self.duration.as_secs_f64() > MAX_CALLS as f64 {
            return Err(Error::Usage(format!("--rate times --duration must be at most {MAX_CALLS} calls")));
        }
        Ok(Plan { mode, warm_up: self.warm_up, limit })
    }

    async fn connect(&self, endpoint: &str, timeout: Duration) -> Result<Vec<Cable>, Error> {
        let count = self.connections.map_or_else(|| 2 * cores(), |count| count as usize);
        connect(endpoint, count, timeout).await
    }
}

/// Returns one client per connection. The clients do not retry: a failure must be visible.
async fn connect(endpoint: &str, connections: usize, timeout: Duration) -> Result<Vec<Cable>, Error> {
    let client = || Cable::builder(endpoint).timeout(timeout).retry(Retry::none()).build();
    let clients = (0..connections).map(|_| client()).collect::<Result<Vec<_>, _>>()?;
    // The first call over a client makes its connection. It must not be a measured call.
    try_join_all(clients.iter().map(Cable::status)).await?;
    Ok(clients)
}

/// Runs the command.
pub(crate) async fn run(command: Command, endpoint: &str, output: &mut Output) -> Result<(), Error> {
    if output.format() == Format::Id {
        return Err(Error::Usage("--output id: not supported by this command".to_owned()));
    }
    match command {
        Command::Get(get) => {
            let plan = get.load.plan()?;
            let connections = get.load.connect(endpoint, get.load.timeout.unwrap_or(CALL_TIMEOUT)).await?;
            let work = get::Work::new(get, &connections[0]).await?;
            measure(work, connections, plan, output).await
        }
        Command::List(list) => {
            let plan = list.load.plan()?;
            let connections = list.load.connect(endpoint, list.load.timeout.unwrap_or(CALL_TIMEOUT)).await?;
            measure(list::Work::new(&list), connections, plan, output).await
        }
        Command::Stream(stream) => {
            let plan = stream.load.plan()?;
            let timeout = stream.load.timeout.unwrap_or(STREAM_TIMEOUT);
            let connections = stream.load.connect(endpoint, timeout).await?;
            measure(stream::Work::new(&stream, timeout), connections, plan, output).await
        }
        Command::Watch(watch) => print_report(&watch::measure(watch, endpoint).await?, output),
    }
}

async fn measure<W: Work>(
    work: W,
    connections: Vec<Cable>,
    plan: Plan,
    output: &mut Output,
) -> Result<(), Error> {
    let facts = [("connections", connections.len().into())].into_iter().chain(work.facts()).collect();
    let bar = progress::bar();
    let measured = pace::run(work, connections, Instant::now(), plan, &bar).await;
    bar.finish_and_clear();
    print_report(&CallReport::new(W::NAME, plan, facts, measured?), output)
}

/// Prints a report. If it reports a problem, the command fails.
fn print_report(report: &impl Report, output: &mut Output) -> Result<(), Error> {
    match output.format() {
        Format::Table => output.pairs(report.rows())?,
        Format::Json => output.text(&format!("{:#}", report.json()))?,
        Format::Jsonl | Format::Id => output.text(&report.json().to_string())?,
    }
    report.problem().map_or(Ok(()), |problem| Err(Error::Incomplete(problem)))
}

fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

fn rate(text: &str) -> Result<f64, String> {
    bounded(text, 0.01, MAX_RATE)
}

fn bounded(text: &str, low: f64, high: f64) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (low..=high).contains(number));
    number.ok_or_else(|| format!("must be a number from {low} to {high}"))
}

fn duration(text: &str) -> Result<Duration, String> {
    within(text, Duration::from_millis(1), MAX_DURATION)
}

fn timeout(text: &str) -> Result<Duration, String> {
    within(text, Duration::from_millis(1), MAX_TIMEOUT)
}

fn warm_up(text: &str) -> Result<Duration, String> {
    within(text, Duration::ZERO, MAX_DURATION)
}

fn within(text: &str, low: Duration, high: Duration) -> Result<Duration, String> {
    let duration = settings::duration(text)?;
    if (low..=high).contains(&duration) {
        Ok(duration)
    } else {
        Err(format!("must be {low:?} to {} h", high.as_secs() / 3600))
    }
}
