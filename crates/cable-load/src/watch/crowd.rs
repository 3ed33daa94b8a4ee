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
    ledger::{Ledger, ReceivedChange},
    series::Series,
};
use crate::Error;

/// Interval of the checks whether all followers have received everything.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The series that is measured, and the account of its changes that followers have received.
#[derive(Debug)]
pub(super) struct Recorder {
    /// The published series. If `None`, all changes are measured, of any publisher.
    series: Option<Series>,
    ledger: Mutex<Ledger>,
}

impl Recorder {
    pub(super) fn new(series: Option<Series>, followers: usize) -> Recorder {
        Recorder { series, ledger: Mutex::new(Ledger::new(followers)) }
    }

    pub(super) fn series(&self) -> Option<&Series> {
        self.series.as_ref()
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, follower: usize, delivery: &Delivery) {
        let received = (Instant::now(), SystemTime::now());
        let changes: &[FeedChange] = match &delivery.event {
            Event::Changes(changes) => changes,
            _ => &[],
        };
        let measured: Vec<(ReceivedChange<'_>, &FeedChange)> =
            changes.iter().filter_map(|change| Some((self.measure(change, received)?, change))).collect();
        let mut ledger = self.ledger();
        ledger.counts.messages += u64::from(!measured.is_empty());
        let new: Vec<&FeedChange> = measured
            .iter()
            .filter(|(measured, _)| ledger.record(follower, measured))
            .map(|(_, change)| *change)
            .collect();
        if let Some(position) = &delivery.position {
            ledger.advance(position.revision);
        }
        drop(ledger);
        for fault in new.into_iter().filter_map(|change| self.series.as_ref()?.check(change).err()) {
            self.ledger().record_fault(fault);
        }
    }

    /// Returns a change as the ledger records it, or `None` if it is not measured.
    fn measure<'a>(
        &self,
        change: &'a FeedChange,
        (received, clock): (Instant, SystemTime),
    ) -> Option<ReceivedChange<'a>> {
        let latency = match &self.series {
            Some(series) => series.latency(&change.name, received)?,
            None => change_age(change, clock),
        };
        let (hash, bytes) = match &change.state {
            NameState::Upsert(record) => (xxh3_64(record.as_bytes()), record.as_bytes().len()),
            NameState::Removed(tombstone) => (xxh3_64(&tombstone.encode_to_vec()), tombstone.encoded_len()),
            _ => (0, 0),
        };
        let is_departure = change.state == NameState::Left;
        let (revision, name) = (change.revision, &change.name[..]);
        Some(ReceivedChange { revision, name, hash, bytes: bytes as u64, is_departure, latency })
    }
}

/// Returns the age of a change by the service's clock and this machine's, which should be the same.
fn change_age(change: &FeedChange, received: SystemTime) -> Duration {
    let changed_at = change.time.and_then(|time| SystemTime::try_from(time).ok());
    changed_at.and_then(|changed_at| received.duration_since(changed_at).ok()).unwrap_or_default()
}

/// The request of each follower.
#[derive(Debug)]
pub(super) struct FeedRequest {
    pub(super) filter: FeedFilter,
    pub(super) view: ArticleView,
    pub(super) format: BodyFormat,
}

/// The start of a follower: that it has caught up, or the error that prevents it.
type StartResult = Result<(), Error>;

/// Followers that have all caught up.
#[derive(Debug)]
pub(super) struct Followers {
    pub(super) recorder: Arc<Recorder>,
    feeds: JoinSet<()>,
}

impl Followers {
    /// Opens the feeds, spread over the connections, and waits until each has caught up.
    ///
    /// # Errors
    /// The service refuses a feed, or not all followers caught up in time.
    pub(super) async fn open(
        recorder: Recorder,
        request: &FeedRequest,
        connections: &[Cable],
        (followers, within): (usize, Duration),
    ) -> Result<Followers, Error> {
        let recorder = Arc::new(recorder);
        let mut feeds = JoinSet::new();
        let (started, mut starts) = mpsc::channel(followers);
        for (follower, connection) in (0..followers).zip(connections.iter().cycle()) {
            let feed = open_feed(request, connection, recorder.clone(), started.clone());
            feeds.spawn(follow(feed, follower, recorder.clone(), started.clone()));
        }
        drop(started);
        let mut ready = 0;
        let all = async {
            while ready < followers
                && let Some(start) = starts.recv().await
            {
                start?;
                ready += 1;
            }
            Ok(())
        };
        let in_time: Result<Result<(), Error>, _> = timeout(within, all).await;
        in_time.unwrap_or_else(|_| Err(Error::NotCaughtUp { ready, followers, within }))?;
        recorder.ledger().begin();
        Ok(Followers { recorder, feeds })
    }

    /// Waits until each follower has received everything, but at most for `within`. Returns whether an interrupt ended
    /// the wait.
    pub(super) async fn wait_for_deliveries(&self, within: Duration) -> bool {
        let mut checks = interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let all_received = async {
            while self.recorder.ledger().lost() > 0 {
                checks.tick().await;
            }
        };
        tokio::select! {
            () = all_received => false,
            () = sleep(within) => false,
            _ = ctrl_c() => true,
        }
    }

    /// Closes the feeds. Returns the account, which is then complete.
    pub(super) async fn close(mut self) -> Arc<Recorder> {
        self.feeds.shutdown().await;
        self.recorder
    }
}

fn open_feed(
    request: &FeedRequest,
    connection: &Cable,
    recorder: Arc<Recorder>,
    started: mpsc::Sender<StartResult>,
) -> Feed {
    let retries = move |error: &cable_client::Error| {
        if error.reason() == Some(ErrorReason::TooManyFeeds) {
            // If the channel is full, the next failure reports the error again.
            let refusal = format!("{}: {}", error.code_and_reason(), error.message());
            let _lost = started.try_send(Err(Error::TooManyFeeds(refusal)));
        }
        *recorder.ledger().counts.broken.entry(error.code_and_reason()).or_default() += 1;
    };
    let feed = connection.feed(request.filter.clone()).view(request.view).body_format(request.format);
    feed.on_retry(retries).open()
}

async fn follow(
    mut feed: Feed,
    follower: usize,
    recorder: Arc<Recorder>,
    started: mpsc::Sender<StartResult>,
) {
    let (mut started, mut reconnects) = (Some(started), 0);
    while let Some(delivery) = feed.next().await {
        match delivery {
            Ok(delivery) => {
                recorder.record(follower, &delivery);
                let before = std::mem::replace(&mut reconnects, feed.reconnects());
                if reconnects > before {
                    recorder.ledger().counts.reconnects += reconnects - before;
                }
                if let Some(started) = started.take_if(|_| feed.is_caught_up()) {
                    let _start_was_reported = started.send(Ok(())).await;
                }
            }
            Err(error) => {
                *recorder.ledger().counts.ended.entry(error.code_and_reason()).or_default() += 1;
                if let Some(started) = started.take() {
                    let _start_was_reported = started.send(Err(error.into())).await;
                }
            }
        }
    }
}
