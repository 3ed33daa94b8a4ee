//! A load generator: makes calls to a service, checks the responses and measures their latency.
//!
//! A [`ReadLoad`] calls for articles, a [`WatchLoad`] opens feeds. Each returns a [`Report`]. `plan` determines when
//! calls are due, `pace` makes them, `check` defines a correct response, and `report` has the results. Each kind of call
//! has a module of its own.
//!
//! A run handles interrupts (SIGINT): the first one ends it early, with a report of the time until then.

use std::{io, path::PathBuf, thread::available_parallelism, time::Duration};

use cable_client::{Builder, Cable, Retry};
use futures_util::future::try_join_all;

pub use self::{
    get::{Articles, MAX_NAMES},
    plan::{Limit, Mode, Plan},
    read::{ReadCall, ReadLoad},
    report::{CallReport, Report},
    watch::{Changes, Publishing, WatchLoad, WatchReport},
};

mod check;
mod get;
mod list;
mod pace;
mod plan;
pub mod random;
mod read;
mod report;
mod stream;
mod watch;

/// Maximum time of a call, if none is given.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A failure that prevents a run. Failed calls of a run are part of its report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No article is given, or none matches the filter.
    #[error("no articles to get")]
    NoArticles,
    /// The file has too many names.
    #[error("{}: must have at most {MAX_NAMES} names", .0.display())]
    TooManyNames(PathBuf),
    /// The filter excludes articles.
    #[error("the kinds must include article, because only articles are published")]
    ExcludesArticles,
    /// The service refuses a feed because it has too many: its code, reason and message.
    #[error("{0}")]
    TooManyFeeds(String),
    /// Not all followers caught up in time.
    #[error("only {ready} of {followers} followers caught up within {within:?}")]
    NotCaughtUp {
        /// Number of followers that caught up.
        ready: usize,
        /// Number of followers.
        followers: usize,
        /// Maximum time to wait.
        within: Duration,
    },
    /// A call before the measurement failed.
    #[error(transparent)]
    Call(#[from] cable_client::Error),
    /// A file or the operating system failed.
    #[error("cannot {operation}")]
    Io {
        /// The operation that failed.
        operation: String,
        /// The cause.
        source: io::Error,
    },
}

impl Error {
    fn io(operation: impl Into<String>, source: io::Error) -> Error {
        Error::Io { operation: operation.into(), source }
    }
}

/// The progress of a run, for display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The run has connected and begins.
    Started {
        /// Number of calls to measure, if it is known in advance.
        calls: Option<u64>,
    },
    /// This many measured calls have ended.
    Calls(u64),
    /// The calls have ended, or the time to watch is over.
    Ended,
}

/// Returns one client per connection. The clients do not retry: a failure must be visible.
async fn connect(client: &Builder, connections: usize, timeout: Duration) -> Result<Vec<Cable>, Error> {
    let client = || client.clone().timeout(timeout).retry(Retry::none()).build();
    let clients = (0..connections).map(|_| client()).collect::<Result<Vec<_>, _>>()?;
    // The first call over a client makes its connection. It must not be a measured call.
    try_join_all(clients.iter().map(Cable::status)).await?;
    Ok(clients)
}

fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}
