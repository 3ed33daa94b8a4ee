//! Feeds: streams of changes that survive lost connections, node failures and restarts of the client.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _, stream};
use prost::Message as _;
use prost_types::Timestamp;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::Streaming;

use crate::{
    BodyFormat, Cable, Error, ErrorKind, Position, PositionStore, RawRecord, Result, Retry, View,
    client::report_outcome,
    list::ResultStream,
    pool::NodeGuard,
    position::Saver,
    read::malformed_response,
    v1::{
        self, FeedResetReason, Tombstone, UpdateKind, WatchRequest, WatchResponse, feed_change,
        watch_request, watch_response,
    },
};

const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(10);
/// The number of checkpoints in a row that a server may miss before the feed reconnects.
const MISSED_CHECKPOINTS: u32 = 3;
/// The encoded size of the largest commit that a server can send: 500 changes of at most 2.5 MiB each.
const MAX_COMMIT_BYTES: usize = 500 * (5 << 19);
/// The number of server faults in a row that ends a feed: a retry does not repair a damaged record.
const MAX_SERVER_FAULTS: u32 = 5;

/// The filter of a feed or a mirror.
pub type FeedFilter = v1::FeedFilter;

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
            on_retry: None,
        }
    }
}

/// The start of the next stream.
#[derive(Debug, Clone)]
enum Start {
    Now,
    After(Position),
    Snapshot,
}

type OnRetry = Arc<dyn Fn(&Error) + Send + Sync>;

/// A builder for a [`Feed`]; [`open`](FeedBuilder::open) returns the feed. See [`Cable::feed`].
#[derive(Clone)]
#[must_use = "feeds do nothing unless opened"]
pub struct FeedBuilder {
    cable: Cable,
    request: WatchRequest,
    start: Start,
    checkpoint_interval: Duration,
    max_commit_bytes: usize,
    store: Option<Arc<dyn PositionStore>>,
    on_retry: Option<OnRetry>,
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
    /// delivers [`Event::Reset`] and then a snapshot. If not, which is the default, the feed ends with the reason
    /// `RevisionCompacted` or `LogChanged`.
    pub fn allow_reset(mut self, allowed: bool) -> Self {
        self.request.reset = allowed;
        self
    }

    /// Delivers writes that load old content too ([`UpdateKind::Backfill`]). A snapshot always contains what they put.
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
    /// server can send is accepted, about 1.2 GiB. A larger commit ends the feed with [`ErrorKind::TooLarge`].
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
        self
    }

    /// Sets a function that is called with the error before each retry, for example to log it.
    pub fn on_retry(mut self, callback: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.on_retry = Some(Arc::new(callback));
        self
    }

    /// Returns the feed. It connects when it is first polled, and retries without limit while no node can be reached.
    pub fn open(mut self) -> Feed {
        self.request.checkpoint_interval = self.checkpoint_interval.try_into().ok();
        let status = Arc::new(FeedStatus::default());
        let saver = self.store.map(|store| Arc::new(Saver::new(store)));
        let driver = FeedDriver {
            cable: self.cable,
            request: self.request,
            max_silence: self.checkpoint_interval.saturating_mul(MISSED_CHECKPOINTS),
            on_retry: self.on_retry,
            resume: self.start,
            snapshot_records: 0,
            stream: None,
            parts: CommitParts { max_bytes: self.max_commit_bytes, ..CommitParts::default() },
            failures: 0,
            faults: 0,
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
        Feed { deliveries: deliveries.boxed(), status, saver }
    }
}

/// One item of a feed: an event and the position after it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Delivery {
    /// The position to resume from once this delivery is handled. `None` for a reset and during a snapshot, which
    /// cannot be resumed.
    pub position: Option<Position>,
    /// The event.
    pub event: Event,
}

/// The event of a delivery.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The changes of one or several whole commits, in the order of their revisions. A commit that the server sends in
    /// parts is delivered once the last part has arrived.
    Changes(Vec<FeedChange>),
    /// A part of a snapshot: matching records, in no guaranteed order.
    Snapshot(Vec<RawRecord>),
    /// The end of a snapshot.
    SnapshotEnd {
        /// The number of records in the snapshot.
        count: u64,
        /// Matching records that the snapshot lacks because the server cannot read them. `None`: it is complete.
        damage: Option<v1::Damage>,
    },
    /// Everything up to the position of the delivery was delivered.
    Checkpoint {
        /// Whether the feed is behind: the server is still reading earlier changes.
        behind: bool,
    },
    /// The feed restarts: discard what it delivered. A snapshot follows.
    Reset(ResetReason),
}

/// The reason of a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResetReason {
    /// The position is older than the history floor: the server no longer knows which names have left the
    /// filter since.
    Compacted,
    /// The position belongs to another history: the store was restored or replaced.
    LogChanged,
    /// The connection broke during a snapshot. Such a reset needs no [`FeedBuilder::allow_reset`].
    SnapshotBroken,
    /// A reason that this client does not know.
    Other,
}

/// The newest state of a name.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FeedChange {
    /// The resource name, such as `articles/storm`.
    pub name: String,
    /// The revision of the change in the log.
    pub revision: i64,
    /// The time of the change. `None` if it is no longer known.
    pub time: Option<Timestamp>,
    /// The kind of update.
    pub update_kind: UpdateKind,
    /// The new state of the name.
    pub state: NameState,
    /// The tags, sections and authors that an article left with this change. Empty for [`NameState::Left`]. It lacks
    /// those that the article left with earlier changes that this one supersedes.
    pub former_names: Vec<String>,
    /// Former paths of a matching article, which now redirect to it.
    pub former_paths: Vec<String>,
}

/// The new state of a name.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum NameState {
    /// The name matches, and this is its content.
    Upsert(RawRecord),
    /// The name of an article that no longer matches and still exists. The follower may never have had it.
    Left,
    /// The name no longer exists.
    Removed(Tombstone),
    /// The name may match, but the server cannot read its record, which is damaged. A copy that the follower holds is
    /// out of date until the name is written or removed again.
    Unreadable,
}

impl TryFrom<v1::FeedChange> for FeedChange {
    type Error = Error;

    fn try_from(change: v1::FeedChange) -> Result<Self> {
        let update_kind = change.update_kind();
        let (name, state) = match change.change {
            Some(feed_change::Change::Upsert(record)) => (record.name()?, NameState::Upsert(record)),
            Some(feed_change::Change::Left(name)) => (name, NameState::Left),
            Some(feed_change::Change::Unreadable(name)) => (name, NameState::Unreadable),
            Some(feed_change::Change::Removed(tombstone)) => {
                (tombstone.name.clone(), NameState::Removed(tombstone))
            }
            None => return Err(malformed_response("change without content")),
        };
        let v1::FeedChange { revision, time, former_names, former_paths, .. } = change;
        Ok(FeedChange { name, revision, time, update_kind, state, former_names, former_paths })
    }
}

impl From<FeedChange> for v1::FeedChange {
    fn from(change: FeedChange) -> Self {
        let state = match change.state {
            NameState::Upsert(record) => feed_change::Change::Upsert(record),
            NameState::Left => feed_change::Change::Left(change.name),
            NameState::Removed(tombstone) => feed_change::Change::Removed(tombstone),
            NameState::Unreadable => feed_change::Change::Unreadable(change.name),
        };
        v1::FeedChange {
            revision: change.revision,
            time: change.time,
            update_kind: change.update_kind.into(),
            former_names: change.former_names,
            former_paths: change.former_paths,
            change: Some(state),
        }
    }
}

impl ResetReason {
    fn from_message(reason: FeedResetReason) -> Self {
        match reason {
            FeedResetReason::Compacted => ResetReason::Compacted,
            FeedResetReason::LogChanged => ResetReason::LogChanged,
            FeedResetReason::Unspecified => ResetReason::Other,
        }
    }
}

/// A stream of the changes that match a filter, without gaps and without repeats, across connections.
///
/// Poll the stream to keep it running. A server disconnects a client that reads nothing for 30 s; the feed then resumes
/// automatically.
///
/// The feed ends after an error. Only errors that need intervention end it:
///
/// - a request that the server refuses,
/// - a position from which the server cannot resume,
/// - a position that cannot be saved,
/// - a commit above the limit,
/// - five server faults in a row ([`ErrorKind::DataLoss`], [`ErrorKind::Internal`], [`ErrorKind::Unknown`],
///   [`ErrorKind::Malformed`]).
///
/// The feed retries after all other errors, without limit and with growing random waits.
#[must_use = "streams do nothing unless polled"]
pub struct Feed {
    deliveries: ResultStream<Delivery>,
    status: Arc<FeedStatus>,
    saver: Option<Arc<Saver>>,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("status", &*self.status.lock()).finish_non_exhaustive()
    }
}

impl Feed {
    /// Returns the position of the last delivery or, before the first one, the position that the feed starts after.
    /// `None` if there is neither: during a snapshot, and before the feed is first polled.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.status.lock().position.clone()
    }

    /// Returns whether the feed has caught up: the current stream has delivered a checkpoint that is not `behind`, and
    /// no reset since.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.status.is_caught_up()
    }

    /// Returns how many times the feed has reconnected.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.status.lock().streams.saturating_sub(1)
    }

    /// Closes the feed. All its deliveries count as handled, and the position of the last one is written.
    pub async fn close(self) -> Result<()> {
        let Some(saver) = &self.saver else { return Ok(()) };
        if let Some(position) = self.position() {
            saver.mark_handled(position)?;
        }
        saver.flush().await
    }

    pub(crate) fn status(&self) -> Arc<FeedStatus> {
        Arc::clone(&self.status)
    }
}

impl Stream for Feed {
    type Item = Result<Delivery>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.deliveries.poll_next_unpin(cx)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(saver) = &self.saver {
            // There is no caller left to report an error to. If the write fails, the deliveries are repeated later.
            let _repeated = saver.write();
        }
    }
}

/// The state of a feed that its handle can read while the stream waits.
#[derive(Default)]
pub(crate) struct FeedStatus(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    position: Option<Position>,
    caught_up: bool,
    streams: u64,
}

impl FeedStatus {
    pub(crate) fn is_caught_up(&self) -> bool {
        self.lock().caught_up
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open stream, and the guard by which its node counts as busy.
struct OpenStream {
    messages: Streaming<WatchResponse>,
    node: NodeGuard,
}

/// The changes of a commit of which the last part has not arrived yet.
#[derive(Default)]
struct CommitParts {
    changes: Vec<v1::FeedChange>,
    /// The encoded size of the changes in bytes.
    bytes: usize,
    max_bytes: usize,
}

impl CommitParts {
    /// Adds a message. Returns all changes of the commit if it was the last part.
    fn add(&mut self, part: v1::FeedChanges) -> Result<Option<Vec<v1::FeedChange>>> {
        if !part.more_follows && self.changes.is_empty() {
            return Ok(Some(part.changes));
        }
        self.bytes += part.encoded_len();
        if self.bytes > self.max_bytes {
            let message = format!(
                "commit larger than {} bytes: raise max_commit_bytes, or use a smaller view or filter",
                self.max_bytes
            );
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        self.changes.extend(part.changes);
        if part.more_follows {
            return Ok(None);
        }
        self.bytes = 0;
        Ok(Some(std::mem::take(&mut self.changes)))
    }

    /// Drops the parts: the server sends the commit again, or a snapshot supersedes it.
    fn clear(&mut self) {
        self.changes = Vec::new();
        self.bytes = 0;
    }
}

struct FeedDriver {
    cable: Cable,
    request: WatchRequest,
    max_silence: Duration,
    on_retry: Option<OnRetry>,
    /// The start of the next stream.
    resume: Start,
    /// The number of records delivered of the current snapshot.
    snapshot_records: u64,
    stream: Option<OpenStream>,
    parts: CommitParts,
    /// Failures since the last delivery with a new position.
    failures: u32,
    /// The number of these failures that are faults of the server.
    faults: u32,
    pause_until: Option<Instant>,
    status: Arc<FeedStatus>,
    saver: Option<Arc<Saver>>,
    is_started: bool,
    is_ended: bool,
}

impl FeedDriver {
    async fn next(&mut self) -> Option<Result<Delivery>> {
        if self.is_ended {
            return None;
        }
        let delivery = self.deliver().await;
        if delivery.is_err() {
            self.is_ended = true;
            self.status.lock().caught_up = false;
        }
        Some(delivery)
    }

    /// A request for a delivery marks the previous one as handled.
    async fn deliver(&mut self) -> Result<Delivery> {
        if self.is_started {
            self.mark_handled()?;
        } else {
            self.load_position().await?;
        }
        loop {
            let accepted = match self.receive().await {
                Ok(message) => self.accept(message),
                Err(error) => Err(error),
            };
            let delivery = match accepted {
                Ok(delivery) => delivery,
                Err(error) => self.recover(error)?,
            };
            if let Some(delivery) = delivery {
                return Ok(delivery);
            }
        }
    }

    async fn load_position(&mut self) -> Result<()> {
        if let Some(saver) = &self.saver
            && let Some(position) = saver.load().await?
        {
            self.resume = Start::After(position);
        }
        if let Start::After(position) = &self.resume {
            self.status.lock().position = Some(position.clone());
        }
        self.is_started = true;
        Ok(())
    }

    fn mark_handled(&self) -> Result<()> {
        let Some(saver) = &self.saver else { return Ok(()) };
        match self.status.lock().position.clone() {
            Some(position) => saver.mark_handled(position),
            None => Ok(()),
        }
    }

    async fn receive(&mut self) -> Result<WatchResponse> {
        if self.stream.is_none() {
            self.connect().await?;
        }
        let Some(OpenStream { messages, node }) = &mut self.stream else { return Err(stream_ended()) };
        match timeout(self.max_silence, messages.message()).await {
            Ok(Ok(Some(message))) => Ok(message),
            Ok(Ok(None)) => Err(stream_ended()),
            Ok(Err(status)) => {
                let error = Error::from(status);
                report_outcome(node, Some(&error));
                Err(error)
            }
            Err(_) => {
                node.record_failure();
                let message = format!("no message from the server for {:?}", self.max_silence);
                Err(Error::new(ErrorKind::DeadlineExceeded, message))
            }
        }
    }

    async fn connect(&mut self) -> Result<()> {
        if let Some(until) = self.pause_until.take() {
            sleep_until(until).await;
        }
        let start = match &self.resume {
            Start::Now => None,
            Start::After(position) => Some(watch_request::Start::After(position.clone())),
            Start::Snapshot => Some(watch_request::Start::Snapshot(true)),
        };
        self.request.start = start;
        let (messages, node) = self.cable.open(|| self.request.clone(), None, &Retry::none()).await?;
        self.stream = Some(OpenStream { messages, node });
        self.status.lock().streams += 1;
        Ok(())
    }

    /// Returns the delivery for a message, or `None` if it contains nothing new.
    fn accept(&mut self, message: WatchResponse) -> Result<Option<Delivery>> {
        let WatchResponse { position, event } = message;
        // An event type of a later release.
        let Some(event) = event else { return Ok(None) };
        let may_follow_part =
            matches!(&event, watch_response::Event::Changes(_) | watch_response::Event::Reset(_));
        if !self.parts.changes.is_empty() && !may_follow_part {
            return Err(malformed_response("message between two parts of a commit"));
        }
        let event = match event {
            watch_response::Event::Reset(reset) => {
                return Ok(Some(self.reset(ResetReason::from_message(reset.reason()))));
            }
            watch_response::Event::Snapshot(part) => return Ok(Some(self.snapshot_part(part.records))),
            watch_response::Event::SnapshotEnd(end) => {
                Event::SnapshotEnd { count: self.snapshot_end(end.count)?, damage: end.damage }
            }
            watch_response::Event::Checkpoint(checkpoint) => Event::Checkpoint { behind: checkpoint.behind },
            watch_response::Event::Changes(changes) => {
                let Some(changes) = self.parts.add(changes)? else { return Ok(None) };
                match self.new_changes(changes, position.as_ref())? {
                    changes if changes.is_empty() => return Ok(None),
                    changes => Event::Changes(changes),
                }
            }
        };
        let position = position.ok_or_else(|| malformed_response("feed message without position"))?;
        self.advance_to(&position, event == Event::Checkpoint { behind: false });
        Ok(Some(Delivery { position: Some(position), event }))
    }

    /// Drops the changes that were delivered before.
    fn new_changes(
        &self,
        changes: Vec<v1::FeedChange>,
        position: Option<&Position>,
    ) -> Result<Vec<FeedChange>> {
        let delivered_up_to = match (&self.status.lock().position, position) {
            (Some(last), Some(now)) if last.log_id.is_empty() || last.log_id == now.log_id => last.revision,
            _ => 0,
        };
        changes
            .into_iter()
            .filter(|change| change.revision > delivered_up_to)
            .map(FeedChange::try_from)
            .collect()
    }

    fn snapshot_part(&mut self, records: Vec<RawRecord>) -> Delivery {
        self.snapshot_records += records.len() as u64;
        Delivery { position: None, event: Event::Snapshot(records) }
    }

    fn snapshot_end(&mut self, count: i64) -> Result<u64> {
        if i64::try_from(self.snapshot_records) != Ok(count) {
            let problem = format!("{} snapshot records instead of {count}", self.snapshot_records);
            return Err(malformed_response(problem));
        }
        Ok(std::mem::take(&mut self.snapshot_records))
    }

    fn reset(&mut self, reason: ResetReason) -> Delivery {
        self.resume = Start::Snapshot;
        self.snapshot_records = 0;
        self.parts.clear();
        let mut status = self.status.lock();
        status.position = None;
        status.caught_up = false;
        Delivery { position: None, event: Event::Reset(reason) }
    }

    fn advance_to(&mut self, position: &Position, caught_up: bool) {
        let mut status = self.status.lock();
        if status.position.as_ref() != Some(position) {
            (self.failures, self.faults) = (0, 0);
        }
        status.position = Some(position.clone());
        status.caught_up |= caught_up;
        drop(status);
        self.resume = Start::After(position.clone());
    }

    /// Prepares a retry, or returns the error if a retry cannot help. If a part of a snapshot was delivered, the
    /// snapshot restarts, and a reset is delivered.
    fn recover(&mut self, error: Error) -> Result<Option<Delivery>> {
        self.stream = None;
        self.parts.clear();
        self.status.lock().caught_up = false;
        self.faults += u32::from(is_server_fault(&error));
        if is_permanent(&error) || self.faults >= MAX_SERVER_FAULTS {
            return Err(error);
        }
        self.failures += 1;
        self.pause_until = Some(Instant::now() + self.cable.shared.retry.pause(self.failures, &error));
        if let Some(callback) = &self.on_retry {
            callback(&error);
        }
        Ok((self.snapshot_records > 0).then(|| self.reset(ResetReason::SnapshotBroken)))
    }
}

fn stream_ended() -> Error {
    Error::truncated("server ended the feed")
}

/// Returns whether a retry cannot help, on this node or another.
fn is_permanent(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidArgument
            | ErrorKind::OutOfRange
            | ErrorKind::FailedPrecondition
            | ErrorKind::Unauthenticated
            | ErrorKind::PermissionDenied
            | ErrorKind::Unimplemented
            | ErrorKind::TooLarge
    )
}

/// Returns whether the server itself failed, so that a retry can fail in the same way.
fn is_server_fault(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DataLoss | ErrorKind::Internal | ErrorKind::Unknown | ErrorKind::Malformed
    )
}
