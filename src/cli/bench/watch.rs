//! `cable bench watch`: measures how long each of many followers of one filter waits for each publish.
//!
//! `series` has the published articles, `crowd` the followers, and `ledger` accounts for the changes that they receive.

use std::time::{Duration, Instant};

use cable_client::{
    Cable, EntityKind, FeedFilter,
    v1::{ArticleView, BodyFormat},
};
use clap::Args;
use serde_json::Value;
use tokio::{signal::ctrl_c, time::sleep};

use self::{
    crowd::{FeedRequest, Followers, Recorder},
    report::WatchReport,
    series::{Publisher, Series},
};
use super::{
    CALL_TIMEOUT, connect,
    draw::random_seed,
    duration, pace,
    plan::{Limit, Mode, Plan},
    rate,
    report::{Tally, thousandths},
    timeout,
};
use crate::cli::{Error, article::Shape, feed::Filter, progress};

mod crowd;
mod ledger;
mod report;
mod series;

const MAX_FOLLOWERS: u32 = 100_000;
/// Maximum feeds on a connection by default: the built-in value of a service's `connections.max_feeds`.
const DEFAULT_FEEDS_PER_CONNECTION: u32 = 100;
const MAX_PUBLISHES: u64 = 100_000;
/// Maximum size of a body, in bytes: with it and all other fields, an article is within its limit.
const MAX_BODY_BYTES: u32 = 900_000;
/// Maximum length of the prefix: with the numbers that follow it, a name is within its limit.
const MAX_PREFIX_LENGTH: usize = 64;
const MAX_PUBLISHES_IN_FLIGHT: u32 = 100;

#[derive(Debug, Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    filter: Filter,
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

/// The events while the followers watched.
struct Publishes {
    /// The calls that published; `None` if others published.
    publishes: Option<Tally>,
    interrupted: bool,
}

/// Opens the feeds, publishes or waits, and accounts for the changes that the followers received.
pub(super) async fn measure(watch: Watch, endpoint: &str) -> Result<WatchReport, Error> {
    let publisher = connect(endpoint, 1, CALL_TIMEOUT).await?;
    let followers = watch.open(endpoint).await?;
    let (start, cpu) = (Instant::now(), pace::process_cpu());
    let published = watch.publish_or_wait(&followers, publisher.clone(), start).await;
    let cut_short = followers.wait_for_deliveries(watch.timeout).await;
    let (elapsed, cpu) = (start.elapsed(), pace::process_cpu().saturating_sub(cpu));
    // Close the feeds before any article is removed, so that they do not receive the removals.
    let recorder = followers.close().await;
    let Publishes { publishes, interrupted } = published?;
    let articles_left = match (recorder.series(), &publishes) {
        (Some(series), Some(tally)) if !watch.publishing.keep => {
            series.remove(&publisher[0], tally.started()).await
        }
        _ => 0,
    };
    let ledger = std::mem::take(&mut *recorder.ledger());
    let interrupted = interrupted || cut_short;
    Ok(WatchReport {
        request_figures: watch.request_figures(),
        publishes,
        ledger,
        elapsed,
        cpu,
        interrupted,
        cut_short,
        articles_left,
    })
}

impl Watch {
    fn connections(&self) -> u32 {
        let unset = || self.followers.div_ceil(DEFAULT_FEEDS_PER_CONNECTION);
        self.connections.unwrap_or_else(unset).min(self.followers)
    }

    async fn open(&self, endpoint: &str) -> Result<Followers, Error> {
        let filter = self.filter.to_message();
        let includes_articles = filter.kinds.is_empty() || filter.kinds.contains(&EntityKind::Article.into());
        if !self.watch_only && !includes_articles {
            return Err(Error::Usage(
                "--kind: must include article, because only articles are published".to_owned(),
            ));
        }
        let connections = connect(endpoint, self.connections() as usize, CALL_TIMEOUT).await?;
        let followers = self.followers as usize;
        let recorder = Recorder::new(self.series(&filter), followers);
        let (view, format) = self.view();
        let request = FeedRequest { filter, view, format };
        Followers::open(recorder, &request, &connections, (followers, self.timeout)).await
    }

    fn view(&self) -> (ArticleView, BodyFormat) {
        (self.shape.view(ArticleView::Basic), self.shape.body_format())
    }

    fn series(&self, filter: &FeedFilter) -> Option<Series> {
        let Publishing { rate, prefix, size, .. } = &self.publishing;
        let stem = format!("{prefix}{:08x}", random_seed() as u32);
        (!self.watch_only).then(|| Series::new(stem, filter, *size as usize, self.view(), *rate))
    }

    /// Publishes the articles, or waits while others publish.
    async fn publish_or_wait(
        &self,
        followers: &Followers,
        publisher: Vec<Cable>,
        start: Instant,
    ) -> Result<Publishes, Error> {
        let bar = progress::bar();
        let published = match followers.recorder.series() {
            Some(series) => {
                series.set_start(start);
                let Publishing { publish, rate, .. } = self.publishing;
                let mode = Mode::Open { rate, in_flight: MAX_PUBLISHES_IN_FLIGHT };
                let plan = Plan { mode, warm_up: Duration::ZERO, limit: Limit::Calls(publish) };
                let work = Publisher(followers.recorder.clone());
                let measured = pace::run(work, publisher, start, plan, &bar).await;
                measured.map(|all| Publishes { publishes: Some(all.tally), interrupted: all.interrupted })
            }
            None => {
                let interrupted = tokio::select! {
                    () = sleep(self.duration) => false,
                    _ = ctrl_c() => true,
                };
                followers.recorder.ledger().end();
                Ok(Publishes { publishes: None, interrupted })
            }
        };
        bar.finish_and_clear();
        published
    }

    /// Returns the figures of the report that describe the request.
    fn request_figures(&self) -> Vec<(&'static str, Value)> {
        let mut all = vec![("followers", self.followers.into()), ("connections", self.connections().into())];
        if self.watch_only {
            all.push(("watched_s", thousandths(self.duration.as_secs_f64())));
        } else {
            let Publishing { publish, rate, size, .. } = &self.publishing;
            all.extend([
                ("asked_publishes", (*publish).into()),
                ("asked_publishes_per_s", (*rate).into()),
                ("body_bytes", (*size).into()),
            ]);
        }
        all
    }
}
