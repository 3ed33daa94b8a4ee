//! `cable bench`: generates load on a service, checks the responses and reports their latency.

use std::{path::PathBuf, time::Duration};

use cable_client::{Builder, v1::ArticleView};
use cable_load::{
    Articles, Changes, Limit, MAX_NAMES, Mode, Plan, Progress, ReadCall, ReadLoad, Report, WatchLoad,
};
use clap::Args;

use super::{
    Error,
    article::{Filter, Shape},
    feed,
    nouns::ARTICLE,
    output::{Format, Output},
    progress,
};
use cable::config as settings;

const MAX_RATE: f64 = 1_000_000.0;
/// Maximum number of calls. More would not end within a day at any rate that one machine can generate.
const MAX_CALLS: u64 = 1_000_000_000;
const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_TIMEOUT: Duration = Duration::from_secs(60 * 60);
const DEFAULT_WORKERS: u32 = 16;
const DEFAULT_IN_FLIGHT: u32 = 1_000;
const MAX_FOLLOWERS: u32 = 100_000;
const MAX_PUBLISHES: u64 = 100_000;
/// Maximum size of a body, in bytes: with it and all other fields, an article is within its limit.
const MAX_BODY_BYTES: u32 = 900_000;
/// Maximum length of the prefix: with the numbers that follow it, a name is within its limit.
const MAX_PREFIX_LENGTH: usize = 64;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Call GetArticle for articles drawn from a set of names.
    Get(Get),
    /// Call ListArticles repeatedly for the first page of a list.
    List(List),
    /// Call StreamArticles repeatedly for all articles that match.
    Stream(Stream),
    /// Call Watch for many followers of one filter, publish, and measure how long each follower waits for each publish.
    Watch(Watch),
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

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Article to get; may be repeated.
    #[arg(long = "name", value_name = "ID", conflicts_with_all = ["Conditions", "order", "newest"])]
    names: Vec<String>,
    /// File with the articles to get, one id per line.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["names", "Conditions", "order", "newest"])]
    names_file: Option<PathBuf>,
    /// Number of articles to get if no names are given: the first N that match the filter.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=MAX_NAMES as i64))]
    newest: u32,
    /// Exponent of the Zipf law by which names are drawn, the first name the most often. If unset, all are equally
    /// likely.
    #[arg(long, value_name = "S", value_parser = zipf)]
    zipf: Option<f64>,
    /// Seed that another run printed, to draw the same names in the same order.
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    load: Load,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    filter: Filter,
    /// Maximum number of articles on a page.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    page_size: u32,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    load: Load,
}

#[derive(Debug, Args)]
pub(crate) struct Stream {
    #[command(flatten)]
    filter: Filter,
    /// Maximum number of articles in a stream. If unset, all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=i64::MAX as u64))]
    limit: Option<u64>,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    load: Load,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    filter: feed::Filter,
    #[command(flatten)]
    shape: Shape,
    /// Number of feeds to open.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_FOLLOWERS)))]
    followers: u32,
    /// Connections to spread the feeds over. If unset, one per 100 followers, the built-in limit of a connection
    /// (`connections.max_feeds` of the service).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    connections: Option<u32>,
    #[command(flatten)]
    publishing: Publishing,
    /// Publish nothing and measure the changes of other publishers, from the time of the change by the service's clock
    /// to its receipt. The clocks of both machines must be the same.
    #[arg(long, conflicts_with_all = ["publish", "rate", "prefix", "size", "keep"])]
    watch_only: bool,
    /// Time to watch.
    #[arg(long, value_name = "TIME", default_value = "30s", requires = "watch_only", value_parser = duration)]
    duration: Duration,
    /// Maximum time to wait until all followers have caught up, and at the end for changes that they have not received
    /// yet.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = timeout)]
    timeout: Duration,
}

/// The articles to publish, which have the first tag, section and author of the filter.
#[derive(Debug, Args)]
struct Publishing {
    /// Number of articles to publish.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=MAX_PUBLISHES))]
    publish: u64,
    /// Articles per second. Each is due at a time of its own, and latency counts from that time, however late it was
    /// published.
    #[arg(long, value_name = "R", default_value_t = 10.0, value_parser = rate)]
    rate: f64,
    /// Prefix of the names of the articles. A number unique to this run follows, then that of the article. None of the
    /// names may exist before.
    #[arg(long, value_name = "ID", default_value = "bench-watch-", value_parser = prefix)]
    prefix: String,
    /// Bytes of text in each body.
    #[arg(long, value_name = "BYTES", default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(0..=i64::from(MAX_BODY_BYTES)))]
    size: u32,
    /// Leave the articles in the service. If unset, they are removed at the end, as DELETED, which is not measured.
    #[arg(long)]
    keep: bool,
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

    /// Returns the load of one kind of call; `otherwise` is the view if no option requests one.
    fn of(
        &self,
        call: ReadCall,
        filter: &Filter,
        shape: &Shape,
        otherwise: ArticleView,
    ) -> Result<ReadLoad, Error> {
        Ok(ReadLoad {
            call,
            filter: filter.to_message(),
            order: filter.order(),
            view: shape.view(otherwise),
            format: shape.body_format(),
            plan: self.plan()?,
            connections: self.connections,
            timeout: self.timeout,
        })
    }
}

impl Get {
    fn into_load(self) -> Result<ReadLoad, Error> {
        let articles = match self.names_file {
            Some(file) => Articles::File(file),
            None if self.names.is_empty() => Articles::First(self.newest),
            None => Articles::Named(self.names.iter().map(|id| ARTICLE.full_name(id)).collect()),
        };
        let call = ReadCall::Get { articles, zipf: self.zipf, seed: self.seed };
        self.load.of(call, &self.filter, &self.shape, ArticleView::Full)
    }
}

impl List {
    fn into_load(self) -> Result<ReadLoad, Error> {
        let call = ReadCall::List { page_size: self.page_size };
        self.load.of(call, &self.filter, &self.shape, ArticleView::Basic)
    }
}

impl Stream {
    fn into_load(self) -> Result<ReadLoad, Error> {
        let call = ReadCall::Stream { limit: self.limit };
        self.load.of(call, &self.filter, &self.shape, ArticleView::Basic)
    }
}

impl Watch {
    fn into_load(self) -> WatchLoad {
        let changes = if self.watch_only {
            Changes::OfOthers(self.duration)
        } else {
            Changes::Published(self.publishing.into())
        };
        WatchLoad {
            filter: self.filter.to_message(),
            view: self.shape.view(ArticleView::Basic),
            format: self.shape.body_format(),
            followers: self.followers,
            connections: self.connections,
            changes,
            timeout: self.timeout,
        }
    }
}

impl From<Publishing> for cable_load::Publishing {
    fn from(Publishing { publish, rate, prefix, size, keep }: Publishing) -> Self {
        cable_load::Publishing { articles: publish, rate, prefix, body_bytes: size, keep }
    }
}

impl From<cable_load::Error> for Error {
    fn from(error: cable_load::Error) -> Self {
        use cable_load::Error as Load;
        match error {
            Load::NoArticles => Error::Usage(error.to_string()),
            Load::TooManyNames(_) => Error::Usage(format!("--names-file {error}")),
            Load::ExcludesArticles => {
                Error::Usage("--kind: must include article, because only articles are published".to_owned())
            }
            Load::TooManyFeeds(refusal) => Error::Usage(format!(
                "{refusal}: use more --connections, or raise the limits of the service: the defaults are \
                 `connections.max_feeds` = 100 and `feed.max_open` = 20000"
            )),
            Load::NotCaughtUp { .. } => Error::Incomplete(error.to_string()),
            Load::Call(error) => Error::Call(error),
            Load::Io { operation, source } => Error::Io { operation, source },
        }
    }
}

/// Runs the command.
pub(crate) async fn run(command: Command, client: &Builder, output: &mut Output) -> Result<(), Error> {
    if output.format() == Format::Id {
        return Err(Error::Usage("--output id: not supported by this command".to_owned()));
    }
    let load = match command {
        Command::Get(get) => get.into_load()?,
        Command::List(list) => list.into_load()?,
        Command::Stream(stream) => stream.into_load()?,
        Command::Watch(watch) => {
            let report = watch.into_load().run(client, &mut progress_display()).await?;
            return print_report(&report, output);
        }
    };
    print_report(&load.run(client, &mut progress_display()).await?, output)
}

/// Returns a callback that displays the progress of a run.
fn progress_display() -> impl FnMut(Progress) {
    let mut displayed = None;
    move |progress| match progress {
        Progress::Started { calls } => {
            let bar = displayed.insert(progress::bar());
            if let Some(calls) = calls {
                progress::set_total_items(bar, calls);
            }
        }
        Progress::Calls(ended) => {
            if let Some(bar) = &displayed {
                bar.set_position(ended);
            }
        }
        Progress::Ended => {
            if let Some(bar) = displayed.take() {
                bar.finish_and_clear();
            }
        }
    }
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

fn zipf(text: &str) -> Result<f64, String> {
    bounded(text, 0.0, 10.0)
}

fn prefix(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    if text.len() <= MAX_PREFIX_LENGTH && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "must be at most {MAX_PREFIX_LENGTH} of the characters A-Z, a-z, 0-9, '.', '_', '~' and '-'"
        ))
    }
}
