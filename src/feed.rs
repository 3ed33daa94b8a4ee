//! Feeds: the changes that match a filter. A follower is a cursor into the log and one frame in flight, never a queue.
//! New commits are encoded once for all followers of a group ([`hub`], [`group`]). A follower that is
//! further behind reads the store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::sync::{Semaphore, oneshot};

use crate::{
    cache::{Cache, Weigh},
    digest::Hash,
    log::Position,
    model::{LogId, Revision},
    refusal::{Differs, Refusal},
    store::{
        self, Store,
        history::{Bounds, ChainPosition, HistoryRange},
    },
    wire::{fields, v1::FeedResetReason},
};

mod consumers;
mod event;
mod filter;
mod follower;
mod group;
mod groups;
mod hub;
mod in_flight;
mod lags;
mod message;
mod retained;
mod server_sent;
mod snapshot;

pub(crate) use consumers::{ConsumerLimits, ConsumerStatus, Consumers};
use event::{CommitEvents, Selected};
pub(crate) use filter::Filter;
pub(crate) use follower::Follower;
use follower::Stage;
use group::Group;
pub(crate) use group::GroupKey;
use hub::Hub;
use lags::{Lags, Progress};
pub(crate) use message::Form;
use message::{MAX_CHANGES_BYTES, Message};
pub(crate) use server_sent::parse_position;
use snapshot::Snapshot;

/// Bounds of one message to a follower that is behind: whole commits, or a part of a larger one. The bound in bytes
/// limits the memory of a follower that stalls.
const SLICE_BOUNDS: Bounds = Bounds { rows: 20_000, events: 256, bytes: 64 << 10 };

/// Bytes of such messages that are cached for other followers at the same revision.
const MAX_SLICE_CACHE_BYTES: u64 = 8 << 20;

/// Reads of followers that run or wait at the store at once. All others wait here, so that reads of articles wait
/// behind these few only, however many followers are behind.
const MAX_READS: usize = 2;

/// The pause before a read is retried when the read queue of the store is full.
const OVERLOADED_PAUSE: Duration = Duration::from_millis(20);

/// How long a new feed waits for the node to reach the revision that it resumes after.
const RESUME_TIMEOUT: Duration = Duration::from_secs(1);

/// The remedy for a follower with a position in another history.
const RESET_REMEDY: &str = "set `allow_reset` (over HTTP, `reset`) to start with a snapshot";

/// The remedy for a consumer that acknowledges such a position.
const ACKNOWLEDGE_REMEDY: &str = "acknowledge a position of this history, such as that after a snapshot";

/// The feeds of a node.
pub(crate) struct Feeds {
    store: Arc<Store>,
    log_id: LogId,
    hub: Arc<Hub>,
    /// Messages for followers that are behind, by group and by the revision that they follow.
    slices: Cache<(u64, Revision), Arc<Result<Slice, store::Error>>>,
    reads: Semaphore,
    open_count: Arc<AtomicUsize>,
    max_open: usize,
    lags: Arc<Lags>,
}

/// The parameters of a feed.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) group_key: GroupKey,
    pub(crate) start: Start,
    /// Whether the feed restarts with a snapshot if it cannot resume at its position.
    pub(crate) may_reset: bool,
    /// The maximum time without a message on the stream.
    pub(crate) interval: Duration,
}

/// Where a feed starts.
#[derive(Debug)]
pub(crate) enum Start {
    Now,
    After { log_id: Option<LogId>, revision: Revision, chain: Option<Hash> },
    Snapshot,
}

/// The message that follows a revision, as read from the store.
#[derive(Debug, Clone)]
struct Slice {
    /// None if nothing up to `reached` concerns the group.
    message: Option<Message>,
    /// Everything up to here was read.
    reached: ChainPosition,
    /// Whether `reached` is within a commit, which continues in the next slice. Then it is no position to resume from.
    is_part: bool,
    floor: Revision,
    /// The number of erasures before it was read. After a later erasure it may hold killed content.
    erasures: u64,
}

impl Feeds {
    /// Creates the feeds of a node. `max_open` is the maximum number of open feeds.
    pub(crate) fn new(store: Arc<Store>, max_open: usize) -> Feeds {
        Feeds::with_failure_timeout(store, max_open, hub::FAILURE_TIMEOUT)
    }

    /// As `new`. `failure_timeout` is how long the store may fail before followers receive the error.
    fn with_failure_timeout(store: Arc<Store>, max_open: usize, failure_timeout: Duration) -> Feeds {
        let (log_id, hub) = (store.head().log_id, Arc::new(Hub::new(store.clone(), failure_timeout)));
        let reads = Semaphore::new(MAX_READS);
        Feeds {
            store,
            log_id,
            hub,
            slices: Cache::new(MAX_SLICE_CACHE_BYTES),
            reads,
            open_count: Arc::default(),
            max_open,
            lags: Arc::default(),
        }
    }

    /// Delivers commits to followers until the store closes. The work runs in a thread of its own, because it grows
    /// with the number of filters and must not delay a runtime. When the thread ends, for any reason, all feeds end.
    pub(crate) async fn run(&self) {
        let hub = self.hub.clone();
        let (mut task_alive, ended) = oneshot::channel::<()>();
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let runtime = runtime.expect("the hub runtime can be built at startup");
            runtime.block_on(async {
                tokio::select! {
                    () = hub.run() => {}
                    () = task_alive.closed() => {}
                }
            });
        };
        let thread = thread::Builder::new().name("hub".into()).spawn(work);
        let thread = thread.expect("the hub thread can be started at startup");
        let _ended = ended.await;
        self.hub.fail(store::Error::Closed);
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }

    /// Drops all messages in memory.
    pub(crate) fn clear(&self) {
        self.hub.clear();
        self.slices.clear();
    }

    /// Returns the number of open feeds.
    pub(crate) fn open_count(&self) -> usize {
        self.open_count.load(Ordering::Relaxed)
    }

    /// Returns the number of groups of open feeds, which share a filter.
    pub(crate) fn group_count(&self) -> usize {
        self.hub.groups.count()
    }

    /// Returns by how many revisions the feed furthest behind is behind the head.
    pub(crate) fn max_lag(&self) -> u64 {
        self.lags.max(self.store.revision())
    }

    /// Starts a feed.
    ///
    /// # Errors
    /// The feed cannot start there, or too many feeds are open.
    pub(crate) async fn watch(self: Arc<Self>, watch: Watch) -> Result<Follower, Refusal> {
        let permit = self.acquire_permit()?;
        self.hub.position()?;
        let group = self.hub.groups.join(watch.group_key);
        let start = match watch.start {
            Start::Now => (self.head(), Stage::Following),
            Start::Snapshot => self.start_snapshot(&group),
            Start::After { log_id, revision, chain } => {
                match self.resume(log_id, revision, chain, ("after", RESET_REMEDY)).await {
                    Ok(position) => (position, Stage::Following),
                    Err(refusal) => match reset_reason(&refusal).filter(|_| watch.may_reset) {
                        Some(reason) => (self.head(), Stage::Reset(reason)),
                        None => return Err(refusal),
                    },
                }
            }
        };
        Ok(Follower::new(self, group, start, (watch.may_reset, watch.interval), permit))
    }

    fn acquire_permit(&self) -> Result<Permit, Refusal> {
        let permit = Permit { open_count: self.open_count.clone(), progress: self.lags.track() };
        if permit.open_count.fetch_add(1, Ordering::Relaxed) < self.max_open {
            return Ok(permit);
        }
        Err(Refusal::TooManyFeeds { scope: "node", maximum: self.max_open })
    }

    fn head(&self) -> ChainPosition {
        let head = self.store.head();
        ChainPosition { revision: head.revision, chain: Some(head.chain) }
    }

    fn start_snapshot(&self, group: &Group) -> (ChainPosition, Stage) {
        let head = self.head();
        (head, Stage::Snapshot(Snapshot::new(&group.key.filter, head.revision)))
    }

    /// Checks that a feed can resume after a position that a consumer acknowledges.
    ///
    /// # Errors
    /// The position belongs to another history, is compacted, or is not reached within [`RESUME_TIMEOUT`].
    pub(crate) async fn check_position(&self, position: &Position) -> Result<(), Refusal> {
        let Position { log_id, revision, chain } = position;
        let advice = ("position", ACKNOWLEDGE_REMEDY);
        self.resume(Some(*log_id), *revision, Some(*chain), advice).await.map(drop)
    }

    /// Returns the position to resume from, if it belongs to this history. A refusal names the field, or the remedy.
    async fn resume(
        &self,
        log_id: Option<LogId>,
        revision: Revision,
        chain: Option<Hash>,
        (field, remedy): (&'static str, &'static str),
    ) -> Result<ChainPosition, Refusal> {
        Refusal::check_log(log_id, self.log_id, remedy)?;
        let mut heads = self.store.heads();
        let reached =
            tokio::time::timeout(RESUME_TIMEOUT, heads.wait_for(|head| head.revision >= revision)).await;
        let Ok(Ok(head)) = reached.map(|reached| reached.map(|head| head.clone())) else {
            return Err(Refusal::NotCaughtUp { requested: revision, reached: self.store.revision() });
        };
        if revision < head.floor {
            return Err(Refusal::Compacted { field, oldest: head.floor, head: head.revision });
        }
        let position = self.store.read(move |snapshot| snapshot.chain_position(revision)).await?;
        match (chain, position.chain) {
            (Some(given), Some(known)) if given != known => {
                let differs = Differs::Revision(revision);
                Err(Refusal::LogChanged { log_id: self.log_id, differs, remedy })
            }
            _ => Ok(position),
        }
    }

    /// Runs a read for a follower on a reader thread, once one of the `MAX_READS` permits is free.
    ///
    /// # Errors
    /// The read failed.
    async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(store::Snapshot<'_>) -> Result<T, store::Error> + Clone + Send + 'static,
    ) -> Result<T, store::Error> {
        let _permit = self.reads.acquire().await.map_err(|_| store::Error::Closed)?;
        loop {
            match self.store.read(job.clone()).await {
                Err(store::Error::Overloaded) => tokio::time::sleep(OVERLOADED_PAUSE).await,
                read => return read,
            }
        }
    }

    /// As [`Feeds::read`], in a task of its own. A follower whose connection does not poll it then holds no permit that
    /// other followers wait for.
    async fn read_in_task<T: Send + 'static>(
        self: &Arc<Self>,
        job: impl FnOnce(store::Snapshot<'_>) -> Result<T, store::Error> + Clone + Send + 'static,
    ) -> Result<T, store::Error> {
        let feeds = self.clone();
        tokio::spawn(async move { feeds.read(job).await }).await.unwrap_or(Err(store::Error::Closed))
    }

    /// Returns the slice after a revision, for the followers of a group. Followers that need it at the same time share
    /// one read. It runs in a task of its own, because all of them wait for it.
    async fn slice(
        self: &Arc<Self>,
        group: &Arc<Group>,
        after: Revision,
    ) -> Arc<Result<Slice, store::Error>> {
        if let Some(found) =
            self.slices.get_fresh(&(group.number, after), |slice| self.is_usable(slice, after)).await
        {
            return found;
        }
        let (feeds, group) = (self.clone(), group.clone());
        let load = tokio::spawn(async move {
            let load = || async { Arc::new(feeds.read_slice(&group, after).await) };
            feeds.slices.get((group.number, after), |slice| feeds.is_usable(slice, after), load).await
        });
        load.await.unwrap_or_else(|_| Arc::new(Err(store::Error::Closed)))
    }

    /// Whether a cached slice may be sent: it must advance its readers, and no erasure may have happened since it was
    /// read.
    fn is_usable(&self, slice: &Arc<Result<Slice, store::Error>>, after: Revision) -> bool {
        let slice = slice.as_ref().as_ref();
        slice.is_ok_and(|slice| slice.reached.revision > after && slice.erasures == self.hub.erasures())
    }

    /// Reads and encodes a slice, both on a reader thread.
    async fn read_slice(&self, group: &Arc<Group>, after: Revision) -> Result<Slice, store::Error> {
        let (erasures, log_id, key) = (self.hub.erasures(), self.log_id, group.key.clone());
        let job = move |snapshot: store::Snapshot<'_>| {
            let range = snapshot.history(after, &key.filter.wanted(), SLICE_BOUNDS)?;
            Ok(encode(range, &key, log_id, MAX_CHANGES_BYTES))
        };
        let EncodedRange { message, reached, is_part, floor } = self.read(job).await?;
        Ok(Slice { message, reached, is_part, floor, erasures })
    }
}

/// A range of the history, encoded as a message.
struct EncodedRange {
    message: Option<Message>,
    reached: ChainPosition,
    is_part: bool,
    floor: Revision,
}

/// Encodes the changes of a range that match a group key, up to `limit` bytes: whole commits or, if the first one does
/// not fit, a part of it.
fn encode(range: HistoryRange, key: &GroupKey, log_id: LogId, limit: usize) -> EncodedRange {
    let HistoryRange { commits, mut reached, within, floor } = range;
    let terms = key.filter.all_terms().collect();
    let (mut changes, mut is_part) = (Vec::new(), within.is_some());
    let mut last_end = None;
    'commits: for commit in commits {
        let commit = CommitEvents::new(commit, Some(&terms));
        let commit_start = changes.len();
        for Selected { event, outcome } in commit.select(&key.filter, key.backfill) {
            let event = &commit.events[event as usize];
            let change = event::encode(event, outcome, key.encoding(log_id));
            if !changes.is_empty() && changes.len() + fields::bytes_len(1, change.len()) > limit {
                is_part = commit_start == 0;
                reached = match last_end.filter(|_| !is_part) {
                    Some(end) => end,
                    None => ChainPosition { revision: event.revision - 1, chain: None },
                };
                changes.truncate(if is_part { changes.len() } else { commit_start });
                break 'commits;
            }
            fields::put_bytes(&mut changes, 1, &change);
        }
        last_end = Some(commit.end);
    }
    let message = (!changes.is_empty())
        .then(|| Message::of_encoded((log_id, key.form), Some(&reached).filter(|_| !is_part), changes));
    EncodedRange { message, reached, is_part, floor }
}

fn reset_reason(refusal: &Refusal) -> Option<FeedResetReason> {
    match refusal {
        Refusal::Compacted { .. } => Some(FeedResetReason::Compacted),
        Refusal::LogChanged { .. } => Some(FeedResetReason::LogChanged),
        _ => None,
    }
}

/// One of the open feeds that the limit counts.
#[derive(Debug)]
struct Permit {
    open_count: Arc<AtomicUsize>,
    progress: Progress,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.open_count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Weigh for (u64, Revision) {
    fn weight(&self) -> usize {
        0
    }
}

impl Weigh for Arc<Result<Slice, store::Error>> {
    fn weight(&self) -> usize {
        let message = self.as_ref().as_ref().ok().and_then(|slice| slice.message.as_ref());
        size_of::<Slice>() + message.map_or(0, Message::own_bytes)
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Buf as _, Bytes};
    use prost::Message as _;

    use super::*;
    use crate::{
        compose::Shape,
        entry::{Entry, Term},
        model::Id,
        store::{
            Writer,
            fixture::{self, apply, article, open},
        },
        wire::{framed, v1},
    };

    fn feeds(dir: &std::path::Path) -> (Arc<Feeds>, Writer) {
        let (store, writer) = open(dir);
        (Arc::new(Feeds::new(store, 10)), writer)
    }

    /// Returns the key of articles with the tag `sea`.
    fn sea() -> GroupKey {
        let filter = v1::FeedFilter { any_tags: vec!["tags/sea".into()], ..Default::default() };
        GroupKey {
            filter: Filter::parse(&filter).unwrap(),
            shape: Shape::Basic,
            backfill: false,
            form: Form::Grpc,
        }
    }

    /// Returns the bytes that a follower of `sea` receives after a revision, and the revision that they reach.
    async fn slice(feeds: &Arc<Feeds>, after: Revision) -> (Revision, Bytes) {
        let group = feeds.hub.groups.join(sea());
        let slice = feeds.slice(group.group(), after).await;
        let Slice { message, reached, .. } = slice.as_ref().as_ref().unwrap();
        (reached.revision, message.clone().map(bytes).unwrap_or_default())
    }

    fn bytes(mut message: Message) -> Bytes {
        message.take(usize::MAX).concat().into()
    }

    fn contains(bytes: &Bytes, text: &str) -> bool {
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// Encodes the range after revision 0 into at most `limit` bytes. Returns the number of changes, the revision
    /// reached, and whether it is a part of a commit.
    async fn encoded(feeds: &Feeds, limit: usize) -> (usize, Revision, bool) {
        let key = sea();
        let job = move |snapshot: store::Snapshot<'_>| {
            let range = snapshot.history(0, &key.filter.wanted(), SLICE_BOUNDS)?;
            Ok(encode(range, &key, LogId(7), limit))
        };
        let EncodedRange { message, reached, is_part, .. } = feeds.read(job).await.unwrap();
        let response = v1::WatchResponse::decode(&bytes(message.unwrap())[framed::PREFIX..]).unwrap();
        let Some(v1::watch_response::Event::Changes(changes)) = response.event else { panic!("no changes") };
        assert_eq!((changes.more_follows, response.position.is_none()), (is_part, is_part));
        (changes.changes.len(), reached.revision, is_part)
    }

    /// Puts articles in one commit.
    fn commit(writer: &mut Writer, ids: &[&str]) {
        let entries = ids.iter().zip(0..).map(|(id, index)| {
            let mut entry = article(id, "Storm", &["sea"], 1);
            (entry.log.commit_index, entry.log.commit_size) = (index, ids.len() as u32);
            Entry::new(entry.name, entry.slot, entry.log)
        });
        apply(writer, &entries.collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_message_ends_between_commits_or_within_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let (feeds, mut writer) = feeds(dir.path());
        commit(&mut writer, &["a", "b"]);
        commit(&mut writer, &["c", "d", "e"]);
        let (all, reached, is_part) = encoded(&feeds, MAX_CHANGES_BYTES).await;
        assert_eq!((all, reached, is_part), (5, 5, false));
        let length = slice(&feeds, 0).await.1.len() / 5;
        assert_eq!(encoded(&feeds, 4 * length).await, (2, 2, false));
        assert_eq!(encoded(&feeds, length + length / 2).await, (1, 1, true));
        // A message always holds at least one change.
        assert_eq!(encoded(&feeds, 1).await, (1, 1, true));
    }

    /// Delivers everything that was committed.
    async fn deliver(feeds: &Feeds) {
        while let Some(batch) = feeds.hub.read().await.unwrap()
            && feeds.hub.groups.delivered() < feeds.store.revision()
        {
            feeds.hub.deliver(batch);
        }
    }

    #[tokio::test]
    async fn groups_share_retained_encodings_of_a_commit() {
        let dir = tempfile::tempdir().unwrap();
        let (feeds, mut writer) = feeds(dir.path());
        let key = |n: usize| {
            let any_tags = vec!["tags/sea".into(), format!("tags/{n}")];
            let filter = v1::FeedFilter { any_tags, ..Default::default() };
            GroupKey {
                filter: Filter::parse(&filter).unwrap(),
                shape: Shape::FULL_BLOCKS,
                backfill: false,
                form: Form::Grpc,
            }
        };
        let groups: Vec<_> = (0..200).map(|n| feeds.hub.groups.join(key(n))).collect();
        let text = "x".repeat(10_000);
        // Each group has one article that no other group has.
        let entries =
            (0..100).map(|n| article(&format!("a{n}"), &text, &[["sea", "land"][n % 2], &n.to_string()], 1));
        let entries = entries.zip(0..).map(|(mut entry, index)| {
            (entry.log.commit_index, entry.log.commit_size) = (index, 100);
            Entry::new(entry.name, entry.slot, entry.log)
        });
        apply(&mut writer, &entries.collect::<Vec<_>>());
        deliver(&feeds).await;
        let message_bytes = |group: &groups::Membership| match group.after(0) {
            group::Next::Message(next) => bytes(next.message).len(),
            other => panic!("{other:?}"),
        };
        let sent: usize = groups.iter().map(message_bytes).sum();
        assert!(
            sent > 100_000_000 && feeds.hub.retained_bytes() < 2_000_000,
            "{sent}, {}",
            feeds.hub.retained_bytes()
        );
    }

    #[tokio::test]
    async fn retained_bytes_are_bounded_even_by_one_large_commit() {
        let dir = tempfile::tempdir().unwrap();
        let (feeds, mut writer) = feeds(dir.path());
        let group = feeds.hub.groups.join(GroupKey { shape: Shape::FULL_BLOCKS, ..sea() });
        let text = "x".repeat(3 << 19);
        for n in 0..30 {
            apply(&mut writer, &[article("a", &text, &["sea"], n)]);
            deliver(&feeds).await;
            assert!(feeds.hub.retained_bytes() <= retained::MAX_RETAINED_BYTES);
        }
        assert!(feeds.hub.retained_bytes() > retained::MAX_RETAINED_BYTES / 2);
        assert!(matches!(group.after(29), group::Next::Message(_)));
        assert!(matches!(group.after(1), group::Next::Behind));
        // The commit is larger than a message, so it is read from the store.
        let large = ["b", "c", "d"].map(|id| article(id, &text, &["sea"], 1));
        let large = large.into_iter().zip(0..).map(|(mut entry, index)| {
            (entry.log.commit_index, entry.log.commit_size) = (index, 3);
            Entry::new(entry.name, entry.slot, entry.log)
        });
        apply(&mut writer, &large.collect::<Vec<_>>());
        deliver(&feeds).await;
        assert!(matches!(group.after(30), group::Next::Behind));
        assert!(matches!(group.after(33), group::Next::Nothing));
        // The message is larger than the room.
        let mut commit = CommitEvents::new(only_commit(&feeds, 29).await, None);
        let selected = commit.select(&group.key.filter, false);
        let encoding = GroupKey { shape: Shape::FULL_BLOCKS, ..sea() }.encoding(LogId(7));
        let encoding = (encoding, Form::Grpc);
        assert!(commit.message(selected.clone(), encoding, 1 << 20).is_none());
        assert!(commit.message(selected, encoding, 16 << 20).is_some());
        drop(group);
        feeds.hub.read().await.unwrap();
        assert_eq!(feeds.hub.retained_bytes(), 0);
    }

    async fn only_commit(feeds: &Feeds, after: Revision) -> store::history::Commit {
        let wanted = sea().filter.wanted();
        let job = move |snapshot: store::Snapshot<'_>| snapshot.history(after, &wanted, SLICE_BOUNDS);
        feeds.read(job).await.unwrap().commits.remove(0)
    }

    async fn follower(feeds: &Arc<Feeds>, interval: Duration) -> Follower {
        let watch = Watch { group_key: sea(), start: Start::Now, may_reset: false, interval };
        feeds.clone().watch(watch).await.unwrap()
    }

    async fn next(follower: &mut Follower) -> Result<v1::WatchResponse, Refusal> {
        let mut frame = follower.next().await?;
        let frame = frame.copy_to_bytes(frame.remaining());
        Ok(v1::WatchResponse::decode(&frame[framed::PREFIX..]).unwrap())
    }

    #[tokio::test]
    async fn a_commit_delivered_between_two_reads_is_not_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let (feeds, mut writer) = feeds(dir.path());
        let mut follower = follower(&feeds, Duration::from_secs(10)).await;
        apply(&mut writer, &[article("a", "Storm", &["sea"], 1)]);
        let batch = feeds.hub.read().await.unwrap().unwrap();
        let delivering = feeds.clone();
        *feeds.hub.between_reads.lock().unwrap() = Some(Box::new(move || delivering.hub.deliver(batch)));
        let first = next(&mut follower).await.unwrap();
        assert!(matches!(first.event, Some(v1::watch_response::Event::Changes(_))), "{first:?}");
        let second = next(&mut follower).await.unwrap();
        assert!(matches!(second.event, Some(v1::watch_response::Event::Checkpoint(_))), "{second:?}");
        assert_eq!(second.position.unwrap().revision, 1);
    }

    /// Nothing delivers commits here: the hub is behind.
    #[tokio::test]
    async fn a_follower_that_has_caught_up_has_all_writes_acknowledged_before() {
        let dir = tempfile::tempdir().unwrap();
        let (feeds, mut writer) = feeds(dir.path());
        let _member = feeds.hub.groups.join(sea());
        apply(&mut writer, &[article("a", "Storm", &["sea"], 1)]);
        apply(&mut writer, &[article("b", "Harvest", &["land"], 2)]);
        assert_eq!(feeds.hub.position().unwrap().revision, 0);
        let after = |revision| Start::After { log_id: None, revision, chain: None };
        for (start, has_changes) in [(after(0), true), (after(1), false), (Start::Now, false)] {
            let (interval, may_reset) = (Duration::from_secs(60), false);
            let watch = Watch { group_key: sea(), start, may_reset, interval };
            let mut follower = feeds.clone().watch(watch).await.unwrap();
            let mut first = next(&mut follower).await.unwrap();
            if has_changes {
                assert!(matches!(first.event, Some(v1::watch_response::Event::Changes(_))), "{first:?}");
                first = next(&mut follower).await.unwrap();
            }
            let caught_up = v1::watch_response::Event::Checkpoint(v1::FeedCheckpoint { behind: false });
            assert_eq!(first.event, Some(caught_up));
            assert_eq!(first.position.unwrap().revision, 2);
        }
    }

    /// A partner whose filter matches one change after very many others. Each read ends after a bounded number of rows,
    /// and the checkpoint after it is a position that another stream resumes after.
    #[tokio::test]
    async fn a_rare_filter_progresses_over_a_long_history_in_bounded_steps() {
        const OTHERS: usize = 100_000;
        let dir = tempfile::tempdir().unwrap();
        let (feeds, mut writer) = feeds(dir.path());
        for first in (0..OTHERS).step_by(1_000) {
            let others = (first..first + 1_000).map(|n| article(&format!("o{n}"), "A", &["land"], 1));
            apply(&mut writer, &others.collect::<Vec<_>>());
        }
        let head = apply(&mut writer, &[article("a", "Storm", &["sea"], 2)]);
        let mut limited = GroupKey { filter: Filter::parse(&v1::FeedFilter::default()).unwrap(), ..sea() };
        limited.filter.narrow(vec![Term::Tag(Id::parse("sea").unwrap())]);
        for key in [sea(), limited] {
            let (mut reached, mut chain, mut steps) = (0, None, 0);
            loop {
                let start = Start::After { log_id: Some(feeds.log_id), revision: reached, chain };
                // Without an interval, each read without a match is followed by a checkpoint.
                let watch =
                    Watch { group_key: key.clone(), start, may_reset: false, interval: Duration::ZERO };
                let mut follower = feeds.clone().watch(watch).await.unwrap();
                let message = next(&mut follower).await.unwrap();
                let position = message.position.unwrap();
                if let Some(v1::watch_response::Event::Changes(changes)) = message.event {
                    assert_eq!((changes.changes.len(), position.revision), (1, head));
                    let caught_up = next(&mut follower).await.unwrap();
                    let expected =
                        v1::watch_response::Event::Checkpoint(v1::FeedCheckpoint { behind: false });
                    assert_eq!(caught_up.event, Some(expected));
                    break;
                }
                let behind = v1::watch_response::Event::Checkpoint(v1::FeedCheckpoint { behind: true });
                assert_eq!(message.event, Some(behind));
                let rows = usize::try_from(position.revision - reached).unwrap();
                assert!((1..=SLICE_BOUNDS.rows).contains(&rows), "{rows} rows after {reached}");
                (reached, chain) = (position.revision, Some(position.chain[..].try_into().unwrap()));
                steps += 1;
            }
            assert_eq!(steps, OTHERS / SLICE_BOUNDS.rows, "the last read has the match");
        }
    }

    /// A consumer acknowledges the position of any checkpoint, which needs a chain.
    #[tokio::test]
    async fn the_checkpoint_of_an_empty_store_has_a_chain() {
        let dir = tempfile::tempdir().unwrap();
        let (feeds, _writer) = feeds(dir.path());
        for start in [Start::Now, Start::After { log_id: None, revision: 0, chain: None }] {
            let (interval, may_reset) = (Duration::from_secs(60), false);
            let watch = Watch { group_key: sea(), start, may_reset, interval };
            let mut follower = feeds.clone().watch(watch).await.unwrap();
            let position = next(&mut follower).await.unwrap().position.unwrap();
            assert_eq!((position.revision, &position.chain[..]), (0, &[0; 32][..]));
        }
    }

    #[tokio::test]
    async fn followers_receive_an_error_if_store_reads_fail() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut writer) = open(dir.path());
        let failure_timeout = Duration::from_millis(200);
        let feeds = Arc::new(Feeds::with_failure_timeout(store, 10, failure_timeout));
        let running = feeds.clone();
        let hub = tokio::spawn(async move { running.hub.run().await });
        let mut follower = follower(&feeds, Duration::from_secs(60)).await;
        assert_eq!(next(&mut follower).await.unwrap().position.unwrap().revision, 0);
        fixture::hide_departures(dir.path(), true);
        apply(&mut writer, &[article("a", "Storm", &["sea"], 1)]);
        let started = std::time::Instant::now();
        let failed = next(&mut follower).await.unwrap_err();
        assert!(matches!(failed, Refusal::Store(store::Error::Failed(_))), "{failed:?}");
        assert!(started.elapsed() >= failure_timeout, "{:?}", started.elapsed());
        let watch = Watch { group_key: sea(), start: Start::Now, may_reset: false, interval: RESUME_TIMEOUT };
        assert!(feeds.clone().watch(watch).await.is_err());
        fixture::hide_departures(dir.path(), false);
        while feeds.hub.position().is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        hub.abort();
    }

    #[tokio::test]
    async fn feeds_end_when_the_hub_panics() {
        let dir = tempfile::tempdir().unwrap();
        let (feeds, _writer) = feeds(dir.path());
        let mut follower = follower(&feeds, Duration::from_secs(60)).await;
        next(&mut follower).await.unwrap();
        *feeds.hub.should_panic.lock().unwrap() = true;
        let running = feeds.clone();
        assert!(tokio::spawn(async move { running.run().await }).await.unwrap_err().is_panic());
        assert!(matches!(next(&mut follower).await, Err(Refusal::Store(store::Error::Closed))));
    }

    #[tokio::test]
    async fn a_slice_without_progress_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let (feeds, mut writer) = feeds(dir.path());
        let _member = feeds.hub.groups.join(sea());
        apply(&mut writer, &[article("a", "Storm", &["sea"], 1)]);
        assert_eq!(slice(&feeds, 1).await, (1, Bytes::new()));
        apply(&mut writer, &[article("b", "Calm", &["sea"], 2)]);
        let (reached, sent) = slice(&feeds, 1).await;
        assert!(reached == 2 && contains(&sent, "Calm"));
    }

    #[tokio::test]
    async fn slices_read_before_an_erasure_are_not_sent_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let (feeds, mut writer) = feeds(dir.path());
        let group = feeds.hub.groups.join(sea());
        apply(&mut writer, &[article("a", "Storm", &["sea"], 1)]);
        assert!(contains(&slice(&feeds, 0).await.1, "Storm"));
        let read = feeds.hub.read().await.unwrap().unwrap();
        apply(&mut writer, &[article("a", "Calm", &["sea"], 2)]);
        let erasing = feeds.clone();
        std::thread::spawn(move || erasing.clear()).join().unwrap();
        feeds.hub.deliver(read);
        assert!(matches!(group.after(0), group::Next::Behind));
        assert_eq!(feeds.hub.retained_bytes(), 0);
        assert!(!contains(&slice(&feeds, 0).await.1, "Storm"));
    }
}
