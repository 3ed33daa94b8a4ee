//! The options of a feed: its start, its limits and the store of its position.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};

use super::{
    Feed, FeedFilter, FeedStatus,
    session::{CommitParts, FeedDriver, OnRetry, Start},
};
use crate::{
    BodyFormat, Cable, Error, Position, PositionStore, View, list::Exclusive, position::Saver,
    shape::proto_duration, v1::WatchRequest,
};

impl Cable {
    /// Streams the changes to everything that a filter matches. Articles are in the view BASIC unless set otherwise.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// use cable_client::{Event, FeedFilter};
    /// use futures_util::TryStreamExt as _;
    ///
    /// let mut feed = cable.feed(FeedFilter::default().section("weather")).with_snapshot().open();
    /// while let Some(delivery) = feed.try_next().await? {
    ///     if let Event::Changes(changes) = delivery.event {
    ///         for change in changes {
    ///             println!("{} changed at revision {}", change.name, change.revision);
    ///         }
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn feed(&self, filter: impl Into<FeedFilter>) -> FeedBuilder {
        let request = WatchRequest { filter: Some(filter.into()), ..WatchRequest::default() };
        FeedBuilder {
            cable: self.clone(),
            request,
            start: Start::Now,
            checkpoint_interval: CHECKPOINT_INTERVAL,
            max_commit_bytes: MAX_COMMIT_BYTES,
            store: None,
            consumer: String::new(),
            on_retry: None,
            max_outage: None,
        }
    }
}

/// A builder for a [`Feed`]; [`open`](FeedBuilder::open) returns the feed. See [`Cable::feed`].
///
/// ```no_run
/// # fn example(cable: cable_client::Cable) {
/// use std::time::Duration;
/// use cable_client::{FeedFilter, Position, View};
///
/// # let last: Position = Position::default();
/// // `last` was written in one transaction with the changes before it.
/// let feed = cable
///     .feed(FeedFilter::default().section("world"))
///     .view(View::Full)
///     .after(last)
///     .checkpoint_interval(Duration::from_secs(5)) // reconnects after 15 s of silence
///     .max_commit_bytes(64 << 20)
///     .on_retry(|error| eprintln!("feed: {error}"))
///     .open();
/// # }
/// ```
#[derive(Clone)]
#[must_use = "feeds do nothing unless opened"]
pub struct FeedBuilder {
    cable: Cable,
    request: WatchRequest,
    start: Start,
    checkpoint_interval: Duration,
    max_commit_bytes: usize,
    store: Option<Arc<dyn PositionStore>>,
    /// The consumer that acknowledges positions. Empty: none.
    consumer: String,
    on_retry: Option<OnRetry>,
    max_outage: Option<Duration>,
}

impl fmt::Debug for FeedBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeedBuilder")
            .field("request", &self.request)
            .field("start", &self.start)
            .field("checkpoint_interval", &self.checkpoint_interval)
            .finish_non_exhaustive()
    }
}

impl FeedBuilder {
    /// Sets the view of articles. If unset, BASIC.
    pub fn view(mut self, view: View) -> Self {
        self.request.view = view.into();
        self
    }

    /// Sets the format of bodies in the view FULL; other views allow only BLOCKS. If unset, BLOCKS.
    pub fn body_format(mut self, format: BodyFormat) -> Self {
        self.request.body_format = format.into();
        self
    }

    /// Starts with the changes after a node first responds. This is the default.
    pub fn from_now(mut self) -> Self {
        self.start = Start::Now;
        self
    }

    /// Starts with the changes after this position, or after this revision of any log that the server has.
    pub fn after(mut self, position: impl Into<Position>) -> Self {
        self.start = Start::After(position.into());
        self
    }

    /// Starts with a snapshot of everything that matches now, followed by later changes.
    pub fn with_snapshot(mut self) -> Self {
        self.start = Start::Snapshot;
        self
    }

    /// Sets whether the server may restart the feed. If allowed and the server cannot resume after a position, the feed
    /// delivers [`Event::Reset`](crate::Event::Reset) and then a snapshot. If not, which is the default, the feed ends with the reason
    /// `RevisionCompacted` or `LogChanged`.
    pub fn allow_reset(mut self, allowed: bool) -> Self {
        self.request.allow_reset = allowed;
        self
    }

    /// Delivers writes that load old content too ([`UpdateKind::Backfill`](crate::UpdateKind::Backfill)). A snapshot always contains what they put.
    pub fn include_backfill(mut self) -> Self {
        self.request.include_backfill = true;
        self
    }

    /// Sets the longest silence of the server, from 1 s to 5 min. If unset, 10 s. After a silence of three times this
    /// interval, the feed reconnects.
    pub fn checkpoint_interval(mut self, interval: Duration) -> Self {
        self.checkpoint_interval = interval;
        self
    }

    /// Sets the size of the largest accepted commit in encoded bytes. A large commit arrives in parts of at most 3.5
    /// MiB, which the client holds in memory until the last part has arrived. If unset, the largest commit that a
    /// server can send is accepted, about 1.2 GiB. A larger commit, in parts or in one message, ends the feed with [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge).
    pub fn max_commit_bytes(mut self, bytes: usize) -> Self {
        self.max_commit_bytes = bytes;
        self
    }

    /// Saves the position in a store. If the store already has a position, the feed resumes after it and ignores every
    /// other start.
    ///
    /// A delivery counts as handled when the next one is requested, that is, when the stream is polled again. The feed
    /// writes its position within 200 ms after that, and never before. After a crash, the feed thus resumes with the
    /// deliveries that were not handled, and may repeat the last handled ones. [`Feed::close`] counts the last delivery
    /// as handled and writes immediately. Dropping the feed writes the position of the deliveries before the last one,
    /// and may block.
    ///
    /// ```no_run
    /// # fn example(cable: cable_client::Cable) {
    /// use cable_client::{FeedFilter, FilePosition};
    ///
    /// let feed = cable
    ///     .feed(FeedFilter::default().any_tag("storm"))
    ///     .with_snapshot() // ignored once the file has a position
    ///     .allow_reset(true)
    ///     .save_to(FilePosition::new("storm.position"))
    ///     .open();
    /// # }
    /// ```
    pub fn save_to(mut self, store: impl PositionStore) -> Self {
        self.store = Some(Arc::new(store));
        self.request.consumer.clear();
        self.consumer.clear();
        self
    }

    /// Follows as a consumer of this name: the node stores the position, and shows how far the consumer is behind. The
    /// feed resumes after the position that was acknowledged last, unless it starts [`after`](FeedBuilder::after) another
    /// one. It takes the place of [`save_to`](FeedBuilder::save_to).
    ///
    /// Deliveries are acknowledged as `save_to` saves them: when the next one is requested, and within 200 ms. While no
    /// node can be reached, the acknowledgement is repeated. A consumer that starts from now misses nothing from its first
    /// feed on, even if it acknowledges nothing.
    ///
    /// ```no_run
    /// # fn example(cable: cable_client::Cable) {
    /// use cable_client::FeedFilter;
    ///
    /// let feed = cable
    ///     .feed(FeedFilter::default().any_tag("storm"))
    ///     .with_snapshot() // ignored once the consumer has a position
    ///     .allow_reset(true)
    ///     .consumer("search-indexer")
    ///     .open();
    /// # }
    /// ```
    pub fn consumer(mut self, name: impl Into<String>) -> Self {
        self = self.acknowledge_as(name);
        self.request.consumer.clone_from(&self.consumer);
        self
    }

    /// Acknowledges deliveries as a consumer. The start of the feed does not depend on its position.
    pub(crate) fn acknowledge_as(mut self, name: impl Into<String>) -> Self {
        self.consumer = name.into();
        self.store = None;
        self
    }

    /// Sets a function that is called with the error before each retry, for example to log it.
    ///
    /// The function runs on the task that polls the feed, and should not block.
    pub fn on_retry(mut self, callback: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.on_retry = Some(Arc::new(callback));
        self
    }

    /// Ends the feed with the last error if no node has sent a message for this long, from the last message or the first
    /// attempt to connect. For a program that reads up to the newest change and ends. If unset, the feed retries without
    /// limit.
    ///
    /// The feed requests checkpoints often enough to reconnect after a silence of half this limit, at least 3 s, unless
    /// [`checkpoint_interval`](FeedBuilder::checkpoint_interval) is shorter.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// use cable_client::FeedFilter;
    /// use futures_util::TryStreamExt as _;
    ///
    /// let mut feed = cable.feed(FeedFilter::default()).with_snapshot().max_outage(cable.timeout()).open();
    /// while !feed.is_caught_up() {
    ///     println!("{:?}", feed.try_next().await?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_outage(mut self, limit: Duration) -> Self {
        self.max_outage = Some(limit);
        self
    }

    /// Returns the feed. It connects when it is first polled, and retries without limit while no node can be reached,
    /// unless [`max_outage`](FeedBuilder::max_outage) sets one.
    pub fn open(mut self) -> Feed {
        let interval = self.effective_interval();
        self.request.checkpoint_interval = Some(proto_duration(interval));
        let status = Arc::new(FeedStatus::default());
        let saver = match self.store {
            Some(store) => Some(Saver::to_store(store)),
            None if self.consumer.is_empty() => None,
            None => Some(Saver::to_node(self.cable.clone(), self.consumer)),
        };
        let saver = saver.map(Arc::new);
        let driver = FeedDriver {
            cable: self.cable,
            request: self.request,
            max_silence: interval.saturating_mul(MISSED_CHECKPOINTS),
            on_retry: self.on_retry,
            max_outage: self.max_outage,
            outage: None,
            resume: self.start,
            snapshot_records: 0,
            stream: None,
            parts: CommitParts { max_bytes: self.max_commit_bytes, ..CommitParts::default() },
            failures: 0,
            faults: 0,
            is_token_replaced: false,
            pause_until: None,
            status: Arc::clone(&status),
            saver: saver.clone(),
            is_started: false,
            is_ended: false,
        };
        let deliveries = stream::unfold(driver, |mut driver| async move {
            let delivery = driver.next().await?;
            Some((delivery, driver))
        });
        Feed { deliveries: Exclusive::new(deliveries.fuse().boxed()), status, saver }
    }

    /// Returns the interval between checkpoints, with which a silence is noticed within half of the longest outage.
    fn effective_interval(&self) -> Duration {
        let half = self.max_outage.unwrap_or(Duration::MAX) / (2 * MISSED_CHECKPOINTS);
        self.checkpoint_interval.min(half.max(MIN_CHECKPOINT_INTERVAL))
    }
}

const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(10);
/// The shortest interval that a server accepts.
const MIN_CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// The number of checkpoints in a row that a server may miss before the feed reconnects.
const MISSED_CHECKPOINTS: u32 = 3;

/// The encoded size of the largest commit that a server can send: 500 changes of at most 2.5 MiB each.
const MAX_COMMIT_BYTES: usize = 500 * (5 << 19);
