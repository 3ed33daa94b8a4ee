//! Feeds: what a filter matches, followed. A follower is a place in the history and one piece on its way, never a queue:
//! what just happened is kept once for all who follow the same ([`hub`], [`group`]), and whoever is further behind reads
//! the store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

use crate::{
    cache::{Cache, Weigh},
    digest::Hash,
    model::{LogId, Revision},
    refusal::{Differs, Refusal},
    store::{
        self, Store,
        history::{self, Bounds, Place, Stretch},
    },
    wire::v1::FeedResetReason,
};

mod event;
mod filter;
mod follower;
mod group;
mod hub;
mod in_flight;
mod snapshot;

pub(crate) use filter::Filter;
pub(crate) use follower::Follower;
use follower::Stage;
use group::Group;
pub(crate) use group::Interest;
use hub::Hub;
use snapshot::Snapshot;

/// What one message to a follower that is behind is made from. Its bytes bound what a stalled one holds.
const BEHIND: Bounds = Bounds { rows: 20_000, records: 256, bytes: 64 << 10 };

/// Bytes of such messages that are kept for others at the same place.
const SLICES: u64 = 8 << 20;

/// How long a feed waits for a node to reach the place that it is to start after.
const REACH: Duration = Duration::from_secs(1);

/// The way out for a follower of another history.
const RESET: &str = "set `reset` to start with a snapshot";

/// The feeds of a node.
pub(crate) struct Feeds {
    store: Arc<Store>,
    log_id: LogId,
    hub: Hub,
    /// What followers that are behind are told, by group and place.
    slices: Cache<(u64, Revision), Arc<Result<Slice, store::Error>>>,
    open: Arc<AtomicUsize>,
    most: usize,
}

/// What is asked of a feed.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) interest: Interest,
    pub(crate) start: Start,
    /// Whether a place that cannot be gone on from is answered by a snapshot.
    pub(crate) may_reset: bool,
    /// How long the stream is silent at most.
    pub(crate) interval: Duration,
}

/// Where a feed starts.
#[derive(Debug)]
pub(crate) enum Start {
    Now,
    After { log_id: Option<LogId>, revision: Revision, chain: Option<Hash> },
    Snapshot,
}

/// The message that tells what comes after a place.
#[derive(Debug, Clone)]
struct Slice {
    /// None: nothing up to `reached` concerns the group.
    message: Option<Bytes>,
    reached: Place,
    floor: Revision,
    /// How often there had been an erasure before it was read: after another one it may hold what was killed.
    erased: u64,
}

impl Feeds {
    /// `most`: how many may be open at once.
    pub(crate) fn new(store: Arc<Store>, most: usize) -> Feeds {
        let (log_id, hub) = (store.head().log_id, Hub::new(store.clone()));
        Feeds { store, log_id, hub, slices: Cache::new(SLICES), open: Arc::default(), most }
    }

    /// Hands out what happens, until the store is gone.
    pub(crate) async fn run(&self) {
        self.hub.run().await;
    }

    /// Drops what is kept in memory of what happened.
    pub(crate) fn forget(&self) {
        self.hub.forget();
        self.slices.forget();
    }

    /// Number of feeds that are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Starts a feed.
    ///
    /// # Errors
    /// It cannot start there, or there are too many.
    pub(crate) async fn watch(self: Arc<Self>, watch: Watch) -> Result<Follower, Refusal> {
        let permit = self.permit()?;
        let group = self.hub.group(watch.interest);
        let start = match watch.start {
            Start::Now => (self.head(), Stage::Following),
            Start::Snapshot => self.snapshot(&group),
            Start::After { log_id, revision, chain } => match self.resume(log_id, revision, chain).await {
                Ok(place) => (place, Stage::Following),
                Err(refusal) => match reset_reason(&refusal).filter(|_| watch.may_reset) {
                    Some(reason) => (self.head(), Stage::Reset(reason)),
                    None => return Err(refusal),
                },
            },
        };
        Ok(Follower::new(self, group, start, (watch.may_reset, watch.interval), permit))
    }

    fn permit(&self) -> Result<Permit, Refusal> {
        let permit = Permit(self.open.clone());
        if permit.0.fetch_add(1, Ordering::Relaxed) < self.most {
            return Ok(permit);
        }
        Err(Refusal::TooManyFeeds { most: self.most, of: "node" })
    }

    fn head(&self) -> Place {
        let head = self.store.head();
        Place { revision: head.revision, chain: Some(head.chain) }
    }

    fn snapshot(&self, group: &Group) -> (Place, Stage) {
        let head = self.head();
        (head, Stage::Snapshot(Snapshot::new(&group.interest.filter, head.revision)))
    }

    /// The place to go on from, if it is one of this history.
    async fn resume(
        &self,
        log_id: Option<LogId>,
        revision: Revision,
        chain: Option<Hash>,
    ) -> Result<Place, Refusal> {
        Refusal::check_log(log_id, self.log_id, RESET)?;
        let mut heads = self.store.heads();
        let reached = tokio::time::timeout(REACH, heads.wait_for(|head| head.revision >= revision)).await;
        let Ok(Ok(head)) = reached.map(|reached| reached.map(|head| head.clone())) else {
            return Err(Refusal::NotCaughtUp { asked: revision, reached: self.store.revision() });
        };
        if revision < head.floor {
            return Err(Refusal::Compacted { oldest: head.floor, head: head.revision });
        }
        let place = self.store.read(move |connection| history::place(connection, revision)).await?;
        match (chain, place.chain) {
            (Some(given), Some(known)) if given != known => {
                let differs = Differs::Revision(revision);
                Err(Refusal::LogChanged { log_id: self.log_id, differs, remedy: RESET })
            }
            _ => Ok(place),
        }
    }

    /// What comes after a place, for a group's followers.
    async fn slice(&self, group: &Group, after: Revision) -> Arc<Result<Slice, store::Error>> {
        // One that leads nowhere would keep its readers where they are.
        let leads_on = |slice: &Arc<Result<Slice, store::Error>>| {
            slice
                .as_ref()
                .as_ref()
                .is_ok_and(|slice| slice.reached.revision > after && slice.erased == self.hub.times_erased())
        };
        let load = || async { Arc::new(self.read_slice(group, after).await) };
        self.slices.get((group.number, after), leads_on, load).await
    }

    async fn read_slice(&self, group: &Group, after: Revision) -> Result<Slice, store::Error> {
        let erased = self.hub.times_erased();
        let wanted = group.interest.filter.wanted();
        let read = self.store.read(move |connection| history::stretch(connection, after, &wanted, BEHIND));
        let Stretch { commits, reached, floor } = read.await?;
        let Interest { filter, shape, backfill } = &group.interest;
        let mut changes = Vec::new();
        for commit in commits.into_iter().map(event::Told::new) {
            let outcomes = commit.outcomes(filter, *backfill);
            commit.put_changes(&mut changes, &outcomes, self.log_id, *shape);
        }
        let message = (!changes.is_empty())
            .then(|| event::message(self.log_id, Some(&reached), event::CHANGES, &changes));
        Ok(Slice { message, reached, floor, erased })
    }
}

fn reset_reason(refusal: &Refusal) -> Option<FeedResetReason> {
    match refusal {
        Refusal::Compacted { .. } => Some(FeedResetReason::Compacted),
        Refusal::LogChanged { .. } => Some(FeedResetReason::LogChanged),
        _ => None,
    }
}

/// One of the feeds that may be open.
#[derive(Debug)]
struct Permit(Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
        size_of::<Slice>() + message.map_or(0, Bytes::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compose::Shape,
        store::{
            Writer,
            fixture::{apply, article, open},
        },
        wire::v1,
    };

    fn feeds(dir: &std::path::Path) -> (Arc<Feeds>, Writer) {
        let (store, writer) = open(dir);
        (Arc::new(Feeds::new(store, 10)), writer)
    }

    /// What has the tag `sea`.
    fn sea() -> Interest {
        let asked = v1::FeedFilter { any_tags: vec!["tags/sea".into()], ..Default::default() };
        Interest { filter: Filter::parse(&asked).unwrap(), shape: Shape::Basic, backfill: false }
    }

    async fn slice(feeds: &Feeds, after: Revision) -> (Revision, Bytes) {
        let slice = feeds.slice(&feeds.hub.group(sea()), after).await;
        let Slice { message, reached, .. } = slice.as_ref().as_ref().unwrap();
        (reached.revision, message.clone().unwrap_or_default())
    }

    fn holds(bytes: &Bytes, text: &str) -> bool {
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    #[tokio::test]
    async fn what_led_nowhere_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let (feeds, mut writer) = feeds(dir.path());
        let _kept = feeds.hub.group(sea());
        apply(&mut writer, &[article("a", "Storm", &["sea"], 1)]);
        assert_eq!(slice(&feeds, 1).await, (1, Bytes::new()));
        apply(&mut writer, &[article("b", "Calm", &["sea"], 2)]);
        let (reached, told) = slice(&feeds, 1).await;
        assert!(reached == 2 && holds(&told, "Calm"));
    }

    #[tokio::test]
    async fn what_was_read_before_an_erasure_is_told_to_nobody_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let (feeds, mut writer) = feeds(dir.path());
        let group = feeds.hub.group(sea());
        apply(&mut writer, &[article("a", "Storm", &["sea"], 1)]);
        assert!(holds(&slice(&feeds, 0).await.1, "Storm"));
        let read = feeds.hub.read().await.unwrap().unwrap();
        apply(&mut writer, &[article("a", "Calm", &["sea"], 2)]);
        let erasing = feeds.clone();
        std::thread::spawn(move || erasing.forget()).join().unwrap();
        assert!(feeds.hub.tell_all(&read).is_empty());
        assert!(matches!(group.after(0), group::Next::Nothing));
        assert!(!holds(&slice(&feeds, 0).await.1, "Storm"));
    }
}
