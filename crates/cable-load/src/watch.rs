//! A load of followers: measures how long each of many followers of one filter waits for each publish.
//!
//! `series` has the published articles, `crowd` the followers, and `ledger` accounts for the changes that they receive.

use std::time::{Duration, Instant};

use cable_client::{
    Builder, Cable, EntityKind, FeedFilter,
    v1::{ArticleView, BodyFormat},
};
use serde_json::Value;
use tokio::{signal::ctrl_c, time::sleep};

pub use self::report::WatchReport;
use self::{
    crowd::{FeedRequest, Followers, Recorder},
    series::{Publisher, Series},
};
use super::{
    CALL_TIMEOUT, Error, Progress, connect, pace,
    plan::{Limit, Mode, Plan},
    random::random_seed,
    report::{Tally, thousandths},
};

mod crowd;
mod ledger;
mod report;
mod series;

/// Maximum feeds on a connection by default: the built-in value of a service's `connections.max_feeds`.
const DEFAULT_FEEDS_PER_CONNECTION: u32 = 100;
const MAX_PUBLISHES_IN_FLIGHT: u32 = 100;

/// A load of followers of one filter.
#[derive(Debug, Clone)]
pub struct WatchLoad {
    /// The filter of each feed.
    pub filter: FeedFilter,
    /// The view of each article.
    pub view: ArticleView,
    /// The format of bodies.
    pub format: BodyFormat,
    /// Number of feeds to open.
    pub followers: u32,
    /// Connections to spread the feeds over. If unset, one per 100 followers.
    pub connections: Option<u32>,
    /// The changes to measure.
    pub changes: Changes,
    /// Maximum time to wait until all followers have caught up, and at the end for changes that they have not received
    /// yet.
    pub timeout: Duration,
}

/// The changes that a run measures.
#[derive(Debug, Clone)]
pub enum Changes {
    /// The articles that the run publishes.
    Published(Publishing),
    /// The changes of other publishers during this time.
    OfOthers(Duration),
}

/// The articles to publish, which have the first tag, section and author of the filter.
#[derive(Debug, Clone)]
pub struct Publishing {
    /// Number of articles.
    pub articles: u64,
    /// Articles per second. Each is due at a time of its own.
    pub rate: f64,
    /// Prefix of the names. A number unique to the run follows, then that of the article.
    pub prefix: String,
    /// Bytes of text in each body.
    pub body_bytes: u32,
    /// Whether the articles remain in the service. If not, the run removes them at the end.
    pub keep: bool,
}

/// The events while the followers watched.
struct Publishes {
    /// The calls that published; `None` if others published.
    publishes: Option<Tally>,
    interrupted: bool,
}

impl WatchLoad {
    /// Opens the feeds, publishes or waits, and accounts for the changes that the followers received.
    ///
    /// # Errors
    /// The service cannot be reached, the filter excludes the articles to publish, or the feeds could not be opened.
    pub async fn run(
        self,
        client: &Builder,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<WatchReport, Error> {
        let publisher = connect(client, 1, CALL_TIMEOUT).await?;
        let followers = self.open(client).await?;
        let (start, cpu) = (Instant::now(), pace::process_cpu());
        let published = self.publish_or_wait(&followers, publisher.clone(), start, progress).await;
        let cut_short = followers.wait_for_deliveries(self.timeout).await;
        let (elapsed, cpu) = (start.elapsed(), pace::process_cpu().saturating_sub(cpu));
        // Close the feeds before any article is removed, so that they do not receive the removals.
        let recorder = followers.close().await;
        let Publishes { publishes, interrupted } = published?;
        let articles_left = match (recorder.series(), &publishes) {
            (Some(series), Some(tally)) if self.removes_articles() => {
                series.remove(&publisher[0], tally.started()).await
            }
            _ => 0,
        };
        let ledger = std::mem::take(&mut *recorder.ledger());
        let interrupted = interrupted || cut_short;
        Ok(WatchReport {
            request_figures: self.request_figures(),
            publishes,
            ledger,
            elapsed,
            cpu,
            interrupted,
            cut_short,
            articles_left,
        })
    }

    fn connections(&self) -> u32 {
        let unset = || self.followers.div_ceil(DEFAULT_FEEDS_PER_CONNECTION);
        self.connections.unwrap_or_else(unset).min(self.followers)
    }

    fn removes_articles(&self) -> bool {
        matches!(&self.changes, Changes::Published(publishing) if !publishing.keep)
    }

    async fn open(&self, client: &Builder) -> Result<Followers, Error> {
        let kinds = &self.filter.kinds;
        let includes_articles = kinds.is_empty() || kinds.contains(&EntityKind::Article.into());
        if matches!(self.changes, Changes::Published(_)) && !includes_articles {
            return Err(Error::ExcludesArticles);
        }
        let connections = connect(client, self.connections() as usize, CALL_TIMEOUT).await?;
        let followers = self.followers as usize;
        let recorder = Recorder::new(self.series(), followers);
        let request = FeedRequest { filter: self.filter.clone(), view: self.view, format: self.format };
        Followers::open(recorder, &request, &connections, (followers, self.timeout)).await
    }

    /// Returns the series of articles to publish, or `None` if others publish.
    fn series(&self) -> Option<Series> {
        let Changes::Published(Publishing { rate, prefix, body_bytes, .. }) = &self.changes else {
            return None;
        };
        let stem = format!("{prefix}{:08x}", random_seed() as u32);
        Some(Series::new(stem, &self.filter, *body_bytes as usize, (self.view, self.format), *rate))
    }

    /// Publishes the articles, or waits while others publish.
    async fn publish_or_wait(
        &self,
        followers: &Followers,
        publisher: Vec<Cable>,
        start: Instant,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Publishes, Error> {
        match &self.changes {
            Changes::Published(publishing) => publishing.run(followers, publisher, start, progress).await,
            Changes::OfOthers(time) => {
                progress(Progress::Started { calls: None });
                let interrupted = tokio::select! {
                    () = sleep(*time) => false,
                    _ = ctrl_c() => true,
                };
                progress(Progress::Ended);
                followers.recorder.ledger().end();
                Ok(Publishes { publishes: None, interrupted })
            }
        }
    }

    /// Returns the figures of the report that describe the request.
    fn request_figures(&self) -> Vec<(&'static str, Value)> {
        let mut all = vec![("followers", self.followers.into()), ("connections", self.connections().into())];
        match &self.changes {
            Changes::OfOthers(time) => all.push(("watched_s", thousandths(time.as_secs_f64()))),
            Changes::Published(publishing) => all.extend([
                ("asked_publishes", publishing.articles.into()),
                ("asked_publishes_per_s", publishing.rate.into()),
                ("body_bytes", publishing.body_bytes.into()),
            ]),
        }
        all
    }
}

impl Publishing {
    async fn run(
        &self,
        followers: &Followers,
        publisher: Vec<Cable>,
        start: Instant,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Publishes, Error> {
        if let Some(series) = followers.recorder.series() {
            series.set_start(start);
        }
        let mode = Mode::Open { rate: self.rate, in_flight: MAX_PUBLISHES_IN_FLIGHT };
        let plan = Plan { mode, warm_up: Duration::ZERO, limit: Limit::Calls(self.articles) };
        let work = Publisher(followers.recorder.clone());
        let measured = pace::run(work, publisher, start, plan, progress).await?;
        Ok(Publishes { publishes: Some(measured.tally), interrupted: measured.interrupted })
    }
}
