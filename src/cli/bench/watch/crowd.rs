//! Followers of one filter, each with a feed of its own, which record in the ledger the changes that they receive.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use cable_client::{
    Cable, Delivery, ErrorReason, Event, Feed, FeedChange, FeedFilter, NameState,
    v1::{ArticleView, BodyFormat},
};
use futures_util::StreamExt as _;
use prost::Message as _;
use tokio::{
    signal::ctrl_c,
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    ledger::{Heard, Ledger},
    series::Series,
};
use crate::cli::{Error, code_and_reason};

/// Interval of the checks whether all followers have received everything.
const LOOK: Duration = Duration::from_millis(50);

/// The series that is measured, and the account of its changes that followers have received.
#[derive(Debug)]
pub(super) struct Hearing {
    /// The published series. If `None`, all changes are measured, of any publisher.
    series: Option<Series>,
    ledger: Mutex<Ledger>,
}

impl Hearing {
    pub(super) fn new(series: Option<Series>, followers: usize) -> Hearing {
        Hearing { series, ledger: Mutex::new(Ledger::new(followers)) }
    }

    pub(super) fn series(&self) -> Option<&Series> {
        self.series.as_ref()
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, follower: usize, delivery: &Delivery) {
        let received = (Instant::now(), SystemTime::now());
        let changes: &[FeedChange] = match &delivery.event {
            Event::Changes(changes) => changes,
            _ => &[],
        };
        let heard: Vec<(Heard<'_>, &FeedChange)> =
            changes.iter().filter_map(|change| Some((self.heard(change, received)?, change))).collect();
        let mut ledger = self.ledger();
        ledger.counts.messages += u64::from(!heard.is_empty());
        let new: Vec<&FeedChange> = heard
            .iter()
            .filter(|(heard, _)| ledger.hear(follower, heard))
            .map(|(_, change)| *change)
            .collect();
        if let Some(position) = &delivery.position {
            ledger.reach(position.revision);
        }
        drop(ledger);
        for fault in new.into_iter().filter_map(|change| self.series.as_ref()?.check(change).err()) {
            self.ledger().wrong(fault);
        }
    }

    /// Returns a change as the ledger records it, or `None` if it is not measured.
    fn heard<'a>(
        &self,
        change: &'a FeedChange,
        (received, clock): (Instant, SystemTime),
    ) -> Option<Heard<'a>> {
        let latency = match &self.series {
            Some(series) => series.latency(&change.name, received)?,
            None => since_made(change, clock),
        };
        let (hash, bytes) = match &change.state {
            NameState::Upsert(record) => (xxh3_64(record.as_bytes()), record.as_bytes().len()),
            NameState::Removed(tombstone) => (xxh3_64(&tombstone.encode_to_vec()), tombstone.encoded_len()),
            _ => (0, 0),
        };
        let leaves = change.state == NameState::Left;
        let (revision, name) = (change.revision, &change.name[..]);
        Some(Heard { revision, name, hash, bytes: bytes as u64, leaves, latency })
    }
}

/// Returns the age of a change by the service's clock and this machine's, which should be the same.
fn since_made(change: &FeedChange, received: SystemTime) -> Duration {
    let made = change.time.and_then(|time| SystemTime::try_from(time).ok());
    made.and_then(|made| received.duration_since(made).ok()).unwrap_or_default()
}

/// The request of each follower.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) filter: FeedFilter,
    pub(super) view: ArticleView,
    pub(super) format: BodyFormat,
}

/// The start of a follower: that it has caught up, or the error that prevents it.
type Arrival = Result<(), Error>;

/// Followers that have all caught up.
#[derive(Debug)]
pub(super) struct Crowd {
    pub(super) hearing: Arc<Hearing>,
    feeds: JoinSet<()>,
}

impl Crowd {
    /// Opens the feeds, spread over the connections, and waits until each has caught up.
    ///
    /// # Errors
    /// The service refuses a feed, or not all followers caught up in time.
    pub(super) async fn gather(
        hearing: Hearing,
        wanted: &Wanted,
        connections: &[Cable],
        (followers, within): (usize, Duration),
    ) -> Result<Crowd, Error> {
        let hearing = Arc::new(hearing);
        let mut feeds = JoinSet::new();
        let (said, mut arrivals) = mpsc::channel(followers);
        for (follower, connection) in (0..followers).zip(connections.iter().cycle()) {
            let feed = open(wanted, connection, hearing.clone(), said.clone());
            feeds.spawn(follow(feed, follower, hearing.clone(), said.clone()));
        }
        drop(said);
        let mut there = 0;
        let all = async {
            while there < followers
                && let Some(arrival) = arrivals.recv().await
            {
                arrival?;
                there += 1;
            }
            Ok(())
        };
        let in_time: Result<Result<(), Error>, _> = timeout(within, all).await;
        in_time.unwrap_or_else(|_| {
            Err(Error::Incomplete(format!(
                "only {there} of {followers} followers were there after {within:?}"
            )))
        })?;
        hearing.ledger().begin();
        Ok(Crowd { hearing, feeds })
    }

    /// Waits until each follower has received everything, but at most for `within`. Returns whether an interrupt ended
    /// the wait.
    pub(super) async fn settle(&self, within: Duration) -> bool {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let told = async {
            while self.hearing.ledger().lost() > 0 {
                look.tick().await;
            }
        };
        tokio::select! {
            () = told => false,
            () = sleep(within) => false,
            _ = ctrl_c() => true,
        }
    }

    /// Closes the feeds. Returns the account, which is then complete.
    pub(super) async fn leave(mut self) -> Arc<Hearing> {
        self.feeds.shutdown().await;
        self.hearing
    }
}

fn open(wanted: &Wanted, connection: &Cable, hearing: Arc<Hearing>, said: mpsc::Sender<Arrival>) -> Feed {
    let retries = move |error: &cable_client::Error| {
        if error.reason() == Some(ErrorReason::TooManyFeeds) {
            // If the channel is full, the next failure reports the error again.
            let _lost = said.try_send(Err(too_many(error)));
        }
        *hearing.ledger().counts.broken.entry(code_and_reason(error)).or_default() += 1;
    };
    let feed = connection.feed(wanted.filter.clone()).view(wanted.view).body_format(wanted.format);
    feed.on_retry(retries).open()
}

fn too_many(error: &cable_client::Error) -> Error {
    Error::Usage(format!(
        "{}: {}: spread the followers over more --connections, or let the service grant more: unless set, \
         `connections.max_feeds` is 100 and `feed.max_open` 20000",
        code_and_reason(error),
        error.message()
    ))
}

async fn follow(mut feed: Feed, follower: usize, hearing: Arc<Hearing>, said: mpsc::Sender<Arrival>) {
    let (mut said, mut reconnects) = (Some(said), 0);
    while let Some(delivery) = feed.next().await {
        match delivery {
            Ok(delivery) => {
                hearing.hear(follower, &delivery);
                let before = std::mem::replace(&mut reconnects, feed.reconnects());
                if reconnects > before {
                    hearing.ledger().counts.reconnects += reconnects - before;
                }
                if let Some(said) = said.take_if(|_| feed.is_caught_up()) {
                    let _nobody_waits = said.send(Ok(())).await;
                }
            }
            Err(error) => {
                *hearing.ledger().counts.ended.entry(code_and_reason(&error)).or_default() += 1;
                if let Some(said) = said.take() {
                    let _nobody_waits = said.send(Err(error.into())).await;
                }
            }
        }
    }
}
