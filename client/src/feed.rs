//! Changes as they happen: a feed outlives connections, nodes and restarts, and says where it stands.

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
    BodyFormat, Cable, Error, Kind, Position, PositionStore, RawRecord, Result, Retry, View,
    client::note,
    list::ResultStream,
    pool::Busy,
    position::Saver,
    read::incomplete,
    shape::name,
    v1::{
        self, EntityKind, FeedResetReason, Tombstone, UpdateKind, WatchRequest, WatchResponse, feed_change,
        watch_request, watch_response,
    },
};

const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(10);
/// A peer that misses so many checkpoints in a row is given up.
const MISSED_CHECKPOINTS: u32 = 3;
/// Encoded bytes of the largest commit that a server can send: 500 changes of at most 2.5 MiB.
const MAX_COMMIT_BYTES: usize = 500 * (5 << 19);
/// So many faults of the server in a row end a feed: trying again does not mend a damaged record.
const MAX_SERVER_FAULTS: u32 = 5;

/// What a feed or a mirror follows: all that is set must hold; nothing set means everything.
///
/// Only articles have tags, sections and authors: with one of these set, only articles match. Ids may be given bare.
///
/// ```
/// use cable_client::{EntityKind, FeedFilter};
///
/// let storms = FeedFilter::default().tag("storm").tag("tags/flood").section("weather");
/// let front_pages = FeedFilter::default().kind(EntityKind::Collection);
/// ```
pub type FeedFilter = v1::FeedFilter;

impl FeedFilter {
    /// Has at least one of the tags that are given like this.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.any_tags.push(name("tags", tag));
        self
    }

    /// Belongs to at least one of the sections that are given like this.
    #[must_use]
    pub fn section(mut self, section: impl Into<String>) -> Self {
        self.sections.push(name("sections", section));
        self
    }

    /// Has a credit of at least one of the authors that are given like this.
    #[must_use]
    pub fn author(mut self, author: impl Into<String>) -> Self {
        self.authors.push(name("authors", author));
        self
    }

    /// Is of one of the kinds that are given like this.
    #[must_use]
    pub fn kind(mut self, kind: EntityKind) -> Self {
        self.kinds.push(kind.into());
        self
    }
}

impl Cable {
    /// Changes to what a filter matches, as they happen. Articles come in the view BASIC unless told otherwise.
    pub fn feed(&self, filter: impl Into<FeedFilter>) -> FeedBuilder {
        let request = WatchRequest { filter: Some(filter.into()), ..WatchRequest::default() };
        FeedBuilder {
            cable: self.clone(),
            request,
            start: Start::Now,
            interval: CHECKPOINT_INTERVAL,
            max_commit_bytes: MAX_COMMIT_BYTES,
            store: None,
            on_retry: None,
        }
    }
}

impl From<&Position> for Position {
    fn from(position: &Position) -> Self {
        position.clone()
    }
}

impl From<i64> for Position {
    /// That revision of whichever log the server has.
    fn from(revision: i64) -> Self {
        Position { revision, ..Position::default() }
    }
}

/// Where to begin, or to go on.
#[derive(Debug, Clone)]
enum Start {
    Now,
    After(Position),
    Snapshot,
}

type OnRetry = Arc<dyn Fn(&Error) + Send + Sync>;

/// Settings of a [`Feed`]; [`open`](FeedBuilder::open) begins it.
#[derive(Clone)]
#[must_use = "a feed begins when it is opened"]
pub struct FeedBuilder {
    cable: Cable,
    request: WatchRequest,
    start: Start,
    interval: Duration,
    max_commit_bytes: usize,
    store: Option<Arc<dyn PositionStore>>,
    on_retry: Option<OnRetry>,
}

impl fmt::Debug for FeedBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeedBuilder")
            .field("request", &self.request)
            .field("start", &self.start)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

impl FeedBuilder {
    /// How much of an article. BASIC unless set.
    pub fn view(mut self, view: View) -> Self {
        self.request.view = view.into();
        self
    }

    /// The form of the body, in the view FULL.
    pub fn body_format(mut self, format: BodyFormat) -> Self {
        self.request.body_format = format.into();
        self
    }

    /// With what happens after a node has first answered. So it is unless set.
    pub fn from_now(mut self) -> Self {
        self.start = Start::Now;
        self
    }

    /// After this position, or after this revision of whichever log the server has: with what has happened since.
    pub fn after(mut self, position: impl Into<Position>) -> Self {
        self.start = Start::After(position.into());
        self
    }

    /// With all that matches now, before what happens from there on.
    pub fn with_snapshot(mut self) -> Self {
        self.start = Start::Snapshot;
        self
    }

    /// Where a position cannot be gone on from, begin anew with a snapshot, after a delivery that says so
    /// ([`Event::Reset`]). Unless allowed, the feed ends there with `RevisionCompacted` or `LogChanged`.
    pub fn reset_allowed(mut self, allowed: bool) -> Self {
        self.request.reset = allowed;
        self
    }

    /// Old content that is being loaded too ([`UpdateKind::Backfill`]). A snapshot holds it in any case.
    pub fn include_backfill(mut self) -> Self {
        self.request.include_backfill = true;
        self
    }

    /// How long the server is silent at most, from 1 s to 5 min. 10 s unless set. After three times that without a word
    /// the feed goes on at another connection.
    pub fn checkpoint_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// The largest commit that is accepted, in encoded bytes. A large commit arrives in parts of at most 3.5 MiB, which
    /// are held until the last one is there. Unless set, the largest commit that a server can send is accepted: some
    /// 1.2 GiB. Above the limit the feed ends with [`Kind::TooLarge`].
    pub fn max_commit_bytes(mut self, bytes: usize) -> Self {
        self.max_commit_bytes = bytes;
        self
    }

    /// Saves the position there. If one is saved already, the feed goes on after it, and where else to start does not
    /// count.
    ///
    /// A delivery counts as handled when the next one is asked for: when the stream is polled again. Its position is
    /// written within 200 ms of that, and never before. So after a crash the feed goes on with deliveries that were
    /// not handled, and may repeat the last that were. [`Feed::close`] counts the last delivery as handled and writes at
    /// once; dropping the feed writes what was handled before the last delivery, and may block for that.
    pub fn save_to(mut self, store: impl PositionStore) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Called with the reason each time before the feed tries again: for logs.
    pub fn on_retry(mut self, call: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.on_retry = Some(Arc::new(call));
        self
    }

    /// The feed. It connects when it is first polled, and goes on trying for as long as no node can be reached.
    pub fn open(mut self) -> Feed {
        self.request.checkpoint_interval = self.interval.try_into().ok();
        let standing = Arc::new(Standing::default());
        let saver = self.store.map(|store| Arc::new(Saver::new(store)));
        let following = Following {
            cable: self.cable,
            request: self.request,
            silence: self.interval.saturating_mul(MISSED_CHECKPOINTS),
            on_retry: self.on_retry,
            resume: self.start,
            snapshot: 0,
            live: None,
            parts: Parts { max_bytes: self.max_commit_bytes, ..Parts::default() },
            failures: 0,
            faults: 0,
            pause_until: None,
            standing: Arc::clone(&standing),
            saver: saver.clone(),
            begun: false,
            over: false,
        };
        let deliveries = stream::unfold(following, |mut following| async move {
            let delivery = following.next().await?;
            Some((delivery, following))
        });
        Feed { deliveries: deliveries.boxed(), standing, saver }
    }
}

/// What the server said at once.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Delivery {
    /// Where to resume once this is handled. None while a snapshot is under way: that has to be begun anew.
    pub position: Option<Position>,
    /// What it tells.
    pub event: Event,
}

/// What a delivery tells.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// What one or several commits changed, each commit whole, in the order of their revisions. A commit that the server
    /// sends in parts is delivered when the last one has arrived.
    Changes(Vec<FeedChange>),
    /// Some of what matches, in no order: part of a snapshot.
    Snapshot(Vec<RawRecord>),
    /// The snapshot is at its end.
    SnapshotEnd {
        /// Number of its records.
        count: u64,
        /// What it lacks, because the server cannot read it. None: it is complete.
        damage: Option<v1::Damage>,
    },
    /// All up to the delivery's position has been told.
    Checkpoint {
        /// The server is still reading what has happened since: the feed has not caught up.
        behind: bool,
    },
    /// Forget what is held: a snapshot follows, from its beginning.
    Reset(ResetReason),
}

/// Why a feed begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResetReason {
    /// What left the filter since the position is no longer known.
    Compacted,
    /// The position is of another history: a store was restored, or replaced.
    LogChanged,
    /// The connection broke within a snapshot.
    SnapshotBroken,
    /// One that this client does not know.
    Other,
}

/// The newest state of a name.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FeedChange {
    /// The name: `articles/storm`.
    pub name: String,
    /// Place of the change in the log's total order.
    pub revision: i64,
    /// When it was made.
    pub time: Option<Timestamp>,
    /// What kind of change it is.
    pub update_kind: UpdateKind,
    /// What has become of the name.
    pub state: NameState,
    /// Articles, unless they left: tags, sections and authors that it left by this change. What it left by changes that
    /// this one supersedes is not named.
    pub former_names: Vec<String>,
    /// Articles that match: paths that led to it as its own before.
    pub former_paths: Vec<String>,
}

/// What has become of a name.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum NameState {
    /// It matches, and this is what it is now.
    Upsert(RawRecord),
    /// An article that no longer matches and is still there. The follower may never have held it.
    Left,
    /// It is no longer there.
    Removed(Tombstone),
}

impl TryFrom<v1::FeedChange> for FeedChange {
    type Error = Error;

    fn try_from(change: v1::FeedChange) -> Result<Self> {
        let update_kind = change.update_kind();
        let (name, state) = match change.change {
            Some(feed_change::Change::Upsert(record)) => (record.name()?, NameState::Upsert(record)),
            Some(feed_change::Change::Left(name)) => (name, NameState::Left),
            Some(feed_change::Change::Removed(tombstone)) => {
                (tombstone.name.clone(), NameState::Removed(tombstone))
            }
            None => return Err(incomplete("a change without what it changed")),
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
    fn of(reason: FeedResetReason) -> Self {
        match reason {
            FeedResetReason::Compacted => ResetReason::Compacted,
            FeedResetReason::LogChanged => ResetReason::LogChanged,
            FeedResetReason::Unspecified => ResetReason::Other,
        }
    }
}

/// What a server tells about a filter, without gap and without repeat, over as many connections as it takes.
///
/// Poll it to make it go on: a server cuts off who takes nothing for 30 s, and the feed then goes on by itself. It ends
/// after an error, and fails only for what the caller must mend: a request that is refused, a position that cannot be
/// gone on from, a position that cannot be saved, a commit above the limit; and after five faults of the server in a row
/// ([`Kind::DataLoss`], [`Kind::Internal`], [`Kind::Unknown`], [`Kind::Malformed`]). All else is tried again, for ever,
/// with growing random waits.
#[must_use = "streams do nothing unless polled"]
pub struct Feed {
    deliveries: ResultStream<Delivery>,
    standing: Arc<Standing>,
    saver: Option<Arc<Saver>>,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("standing", &*self.standing.lock()).finish_non_exhaustive()
    }
}

impl Feed {
    /// Where it stands: the position of the last delivery, or the one that it began after. None while a snapshot is
    /// under way, and before the feed is first polled.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.standing.lock().position.clone()
    }

    /// Whether all that had happened was told at the last checkpoint, and the stream still runs.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.standing.is_caught_up()
    }

    /// How often it has gone on over another stream than its first.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.standing.lock().streams.saturating_sub(1)
    }

    /// Ends it. All that it delivered counts as handled, and its position is written.
    ///
    /// # Errors
    /// The position could not be saved ([`Kind::PositionStore`]).
    pub async fn close(self) -> Result<()> {
        let Some(saver) = &self.saver else { return Ok(()) };
        if let Some(position) = self.position() {
            saver.handled(position)?;
        }
        saver.finish().await
    }

    pub(crate) fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.standing)
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
            // What cannot be written comes again: nobody is left to be told.
            let _repeated = saver.write();
        }
    }
}

/// What can be asked of a feed while it waits.
#[derive(Default)]
pub(crate) struct Standing(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    position: Option<Position>,
    caught_up: bool,
    streams: u64,
}

impl Standing {
    pub(crate) fn is_caught_up(&self) -> bool {
        self.lock().caught_up
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that runs; the node counts as busy with it.
struct Live {
    messages: Streaming<WatchResponse>,
    node: Busy,
}

/// The changes of a commit whose last part is yet to arrive.
#[derive(Default)]
struct Parts {
    changes: Vec<v1::FeedChange>,
    /// Encoded bytes of these.
    bytes: usize,
    max_bytes: usize,
}

impl Parts {
    /// Adds a message. Returns all changes of the commit if it was the last part.
    fn add(&mut self, part: v1::FeedChanges) -> Result<Option<Vec<v1::FeedChange>>> {
        if !part.more_follows && self.changes.is_empty() {
            return Ok(Some(part.changes));
        }
        self.bytes += part.encoded_len();
        if self.bytes > self.max_bytes {
            let message = format!(
                "a commit takes more than {} bytes: raise max_commit_bytes, or follow a smaller view or filter",
                self.max_bytes
            );
            return Err(Error::new(Kind::TooLarge, message));
        }
        self.changes.extend(part.changes);
        if part.more_follows {
            return Ok(None);
        }
        self.bytes = 0;
        Ok(Some(std::mem::take(&mut self.changes)))
    }

    /// Drops the parts: the commit comes again, or is superseded by a snapshot.
    fn clear(&mut self) {
        self.changes = Vec::new();
        self.bytes = 0;
    }
}

struct Following {
    cable: Cable,
    request: WatchRequest,
    silence: Duration,
    on_retry: Option<OnRetry>,
    /// What the next stream has to begin with.
    resume: Start,
    /// Records delivered of a snapshot that is under way.
    snapshot: u64,
    live: Option<Live>,
    parts: Parts,
    /// Failures since a delivery that moved the position on.
    failures: u32,
    /// Those of them that are faults of the server.
    faults: u32,
    pause_until: Option<Instant>,
    standing: Arc<Standing>,
    saver: Option<Arc<Saver>>,
    begun: bool,
    over: bool,
}

impl Following {
    async fn next(&mut self) -> Option<Result<Delivery>> {
        if self.over {
            return None;
        }
        let delivery = self.deliver().await;
        if delivery.is_err() {
            self.over = true;
            self.standing.lock().caught_up = false;
        }
        Some(delivery)
    }

    /// Whoever asks for a delivery has handled the one before.
    async fn deliver(&mut self) -> Result<Delivery> {
        if self.begun {
            self.mark_handled()?;
        } else {
            self.begin().await?;
        }
        loop {
            let delivered = match self.receive().await {
                Ok(message) => self.accept(message),
                Err(error) => Err(error),
            };
            let delivery = match delivered {
                Ok(delivery) => delivery,
                Err(error) => self.recover(error)?,
            };
            if let Some(delivery) = delivery {
                return Ok(delivery);
            }
        }
    }

    async fn begin(&mut self) -> Result<()> {
        if let Some(saver) = &self.saver
            && let Some(position) = saver.load().await?
        {
            self.resume = Start::After(position);
        }
        if let Start::After(position) = &self.resume {
            self.standing.lock().position = Some(position.clone());
        }
        self.begun = true;
        Ok(())
    }

    fn mark_handled(&self) -> Result<()> {
        let Some(saver) = &self.saver else { return Ok(()) };
        match self.standing.lock().position.clone() {
            Some(position) => saver.handled(position),
            None => Ok(()),
        }
    }

    async fn receive(&mut self) -> Result<WatchResponse> {
        if self.live.is_none() {
            self.connect().await?;
        }
        let Some(Live { messages, node }) = &mut self.live else { return Err(ended()) };
        match timeout(self.silence, messages.message()).await {
            Ok(Ok(Some(message))) => Ok(message),
            Ok(Ok(None)) => Err(ended()),
            Ok(Err(status)) => {
                let error = Error::from(status);
                note(node, Some(&error));
                Err(error)
            }
            Err(_) => {
                node.failed();
                Err(Error::new(Kind::DeadlineExceeded, "the server has been silent for too long"))
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
        self.live = Some(Live { messages, node });
        self.standing.lock().streams += 1;
        Ok(())
    }

    /// What the user is told of a message; none if that is nothing new.
    fn accept(&mut self, message: WatchResponse) -> Result<Option<Delivery>> {
        let WatchResponse { position, event } = message;
        // An event that a later release has invented.
        let Some(event) = event else { return Ok(None) };
        let may_follow_part =
            matches!(&event, watch_response::Event::Changes(_) | watch_response::Event::Reset(_));
        if !self.parts.changes.is_empty() && !may_follow_part {
            return Err(incomplete("another message between two parts of a commit"));
        }
        let event = match event {
            watch_response::Event::Reset(reset) => {
                return Ok(Some(self.reset(ResetReason::of(reset.reason()))));
            }
            watch_response::Event::Snapshot(part) => return Ok(Some(self.snapshot_part(part.records))),
            watch_response::Event::SnapshotEnd(end) => {
                Event::SnapshotEnd { count: self.snapshot_end(end.count)?, damage: end.damage }
            }
            watch_response::Event::Checkpoint(told) => Event::Checkpoint { behind: told.behind },
            watch_response::Event::Changes(changes) => {
                let Some(changes) = self.parts.add(changes)? else { return Ok(None) };
                match self.new_changes(changes, position.as_ref())? {
                    changes if changes.is_empty() => return Ok(None),
                    changes => Event::Changes(changes),
                }
            }
        };
        let position = position.ok_or_else(|| incomplete("a message of a feed without its position"))?;
        self.moved_to(&position, event == Event::Checkpoint { behind: false });
        Ok(Some(Delivery { position: Some(position), event }))
    }

    /// Drops what was delivered before.
    fn new_changes(
        &self,
        changes: Vec<v1::FeedChange>,
        position: Option<&Position>,
    ) -> Result<Vec<FeedChange>> {
        let told = match (&self.standing.lock().position, position) {
            (Some(last), Some(now)) if last.log_id.is_empty() || last.log_id == now.log_id => last.revision,
            _ => 0,
        };
        changes.into_iter().filter(|change| change.revision > told).map(FeedChange::try_from).collect()
    }

    fn snapshot_part(&mut self, records: Vec<RawRecord>) -> Delivery {
        self.snapshot += records.len() as u64;
        Delivery { position: None, event: Event::Snapshot(records) }
    }

    fn snapshot_end(&mut self, count: i64) -> Result<u64> {
        if i64::try_from(self.snapshot) != Ok(count) {
            return Err(incomplete("a snapshot with another number of records than it says"));
        }
        Ok(std::mem::take(&mut self.snapshot))
    }

    fn reset(&mut self, reason: ResetReason) -> Delivery {
        self.resume = Start::Snapshot;
        self.snapshot = 0;
        self.parts.clear();
        let mut standing = self.standing.lock();
        standing.position = None;
        standing.caught_up = false;
        Delivery { position: None, event: Event::Reset(reason) }
    }

    fn moved_to(&mut self, position: &Position, caught_up: bool) {
        let mut standing = self.standing.lock();
        if standing.position.as_ref() != Some(position) {
            (self.failures, self.faults) = (0, 0);
        }
        standing.position = Some(position.clone());
        standing.caught_up |= caught_up;
        drop(standing);
        self.resume = Start::After(position.clone());
    }

    /// Makes ready to try again, or gives the error back. A snapshot of which something was delivered begins anew, and
    /// that is told.
    fn recover(&mut self, error: Error) -> Result<Option<Delivery>> {
        self.live = None;
        self.parts.clear();
        self.standing.lock().caught_up = false;
        self.faults += u32::from(is_server_fault(&error));
        if must_be_mended(&error) || self.faults >= MAX_SERVER_FAULTS {
            return Err(error);
        }
        self.failures += 1;
        self.pause_until = Some(Instant::now() + self.cable.shared.retry.pause(self.failures, &error));
        if let Some(call) = &self.on_retry {
            call(&error);
        }
        Ok((self.snapshot > 0).then(|| self.reset(ResetReason::SnapshotBroken)))
    }
}

fn ended() -> Error {
    Error::truncated("the server ended the feed")
}

/// Whether trying again, here or at another node, cannot help.
fn must_be_mended(error: &Error) -> bool {
    matches!(
        error.kind(),
        Kind::InvalidArgument
            | Kind::OutOfRange
            | Kind::FailedPrecondition
            | Kind::Unauthenticated
            | Kind::PermissionDenied
            | Kind::Unimplemented
            | Kind::TooLarge
    )
}

/// Whether the server itself failed, which another try may meet again.
fn is_server_fault(error: &Error) -> bool {
    matches!(error.kind(), Kind::DataLoss | Kind::Internal | Kind::Unknown | Kind::Malformed)
}
