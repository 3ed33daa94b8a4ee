//! Followers of one filter, each a feed of its own, and how what they are told comes to the ledger.

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

/// How often it is looked whether all have been told everything.
const LOOK: Duration = Duration::from_millis(50);

/// What is measured, and what has been heard of it.
#[derive(Debug)]
pub(super) struct Hearing {
    /// None: whatever anybody publishes.
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

    /// None: the change is not part of what is measured.
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

/// By the service's clock and this machine's, which should be the same.
fn since_made(change: &FeedChange, received: SystemTime) -> Duration {
    let made = change.time.and_then(|time| SystemTime::try_from(time).ok());
    made.and_then(|made| received.duration_since(made).ok()).unwrap_or_default()
}

/// What a follower is to follow.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) filter: FeedFilter,
    pub(super) view: ArticleView,
    pub(super) format: BodyFormat,
}

/// Whether a follower is there, or why it cannot be.
type Arrival = Result<(), Error>;

/// Followers that are all there.
#[derive(Debug)]
pub(super) struct Crowd {
    pub(super) hearing: Arc<Hearing>,
    feeds: JoinSet<()>,
}

impl Crowd {
    /// Opens the feeds, spread over the connections, and waits until each is told that it has caught up.
    ///
    /// # Errors
    /// The service refuses one, or they were not all there in time.
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

    /// Waits until each follower has been told everything, but not for longer than that. True: until interrupted.
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

    /// Closes the feeds. What they heard is complete.
    pub(super) async fn leave(mut self) -> Arc<Hearing> {
        self.feeds.shutdown().await;
        self.hearing
    }
}

fn open(wanted: &Wanted, connection: &Cable, hearing: Arc<Hearing>, said: mpsc::Sender<Arrival>) -> Feed {
    let retries = move |error: &cable_client::Error| {
        if error.reason() == Some(ErrorReason::TooManyFeeds) {
            // If there is no room to say it: it is said again when it has failed again.
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
         `connections.feeds` is 100 and `feed.most` 20000",
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
