//! A load of reads, all of one kind: single articles, lists or streams.

use std::time::{Duration, Instant};

use cable_client::{
    Builder, Cable,
    v1::{ArticleFilter, ArticleOrder, ArticleView, BodyFormat},
};

use super::{
    CALL_TIMEOUT, Error, Progress, check::Expected, connect, cores, get, get::Articles, list, pace,
    pace::Work, plan::Plan, report::CallReport, stream,
};

const STREAM_TIMEOUT: Duration = Duration::from_secs(60);

/// A load of reads, all of one kind.
#[derive(Debug, Clone)]
pub struct ReadLoad {
    /// The kind of call.
    pub call: ReadCall,
    /// The filter that the articles match.
    pub filter: ArticleFilter,
    /// The order of the articles.
    pub order: ArticleOrder,
    /// The view of each article.
    pub view: ArticleView,
    /// The format of bodies.
    pub format: BodyFormat,
    /// The amount and duration of the load.
    pub plan: Plan,
    /// Connections to each endpoint. If unset, two per core of this machine.
    pub connections: Option<u32>,
    /// Maximum time of a call; of a stream, until its end. If unset, 10 s, and 60 s for a stream.
    pub timeout: Option<Duration>,
}

/// A kind of read.
#[derive(Debug, Clone)]
pub enum ReadCall {
    /// GetArticle for articles drawn from a set.
    Get {
        /// The set.
        articles: Articles,
        /// Exponent of the Zipf law by which articles are drawn, the first one the most often. If unset, all are equally
        /// likely.
        zipf: Option<f64>,
        /// Seed of the draws. If unset, a random one, which the report states.
        seed: Option<u64>,
    },
    /// ListArticles for the first page of a list.
    List {
        /// Maximum number of articles on a page.
        page_size: u32,
    },
    /// StreamArticles for all articles that match.
    Stream {
        /// Maximum number of articles in a stream. If unset, all.
        limit: Option<u64>,
    },
}

impl ReadLoad {
    /// Connects, makes the calls and measures them.
    ///
    /// # Errors
    /// The service cannot be reached, or there are no articles to get.
    pub async fn run(
        self,
        client: &Builder,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<CallReport, Error> {
        let ReadLoad { call, filter, order, view, format, plan, connections, timeout } = self;
        let timeout = timeout.unwrap_or(match call {
            ReadCall::Stream { .. } => STREAM_TIMEOUT,
            ReadCall::Get { .. } | ReadCall::List { .. } => CALL_TIMEOUT,
        });
        let connections = connections.map_or_else(|| 2 * cores(), |count| count as usize);
        let connections = connect(client, connections, timeout).await?;
        let expected = Expected::new(view, format, filter, order);
        match call {
            ReadCall::Get { articles, zipf, seed } => {
                let names = articles.names(&expected, &connections[0]).await?;
                let work = get::Work::new(names, zipf, seed, expected);
                measure(work, connections, plan, progress).await
            }
            ReadCall::List { page_size } => {
                measure(list::Work { expected, page_size }, connections, plan, progress).await
            }
            ReadCall::Stream { limit } => {
                measure(stream::Work { expected, limit, timeout }, connections, plan, progress).await
            }
        }
    }
}

async fn measure<W: Work>(
    work: W,
    connections: Vec<Cable>,
    plan: Plan,
    progress: &mut dyn FnMut(Progress),
) -> Result<CallReport, Error> {
    let facts = [("connections", connections.len().into())].into_iter().chain(work.facts()).collect();
    let measured = pace::run(work, connections, Instant::now(), plan, progress).await?;
    Ok(CallReport::new(W::NAME, plan, facts, measured))
}
