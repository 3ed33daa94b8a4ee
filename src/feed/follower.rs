//! One follower: a place in the history and one piece on its way. What it has missed is read from the store; what has
//! just happened is there in memory, shared with all who follow the same.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    Feeds, Permit,
    event::{self, message},
    group::{Group, Next},
    in_flight::InFlight,
    snapshot::Snapshot,
};
use crate::{
    refusal::Refusal,
    store::{self, history::Place},
    wire::{fields, v1::FeedResetReason},
};

/// Bytes given to the connection at once.
const PIECE: usize = 64 << 10;

/// How long to wait before the store is asked again when it has more to read than it can queue.
const OVERLOADED: Duration = Duration::from_millis(20);

/// What a follower is at.
#[derive(Debug)]
pub(super) enum Stage {
    /// Saying why it begins anew.
    Reset(FeedResetReason),
    Snapshot(Snapshot),
    Following,
}

/// One stream of a feed.
pub(crate) struct Follower {
    feeds: Arc<Feeds>,
    group: Arc<Group>,
    told: watch::Receiver<()>,
    /// All up to here has been told.
    at: Place,
    stage: Stage,
    /// Whether a place that cannot be gone on from is answered by a snapshot.
    may_reset: bool,
    caught_up: bool,
    in_flight: Arc<InFlight>,
    /// What of a message is yet to be given out.
    rest: Bytes,
    interval: Duration,
    /// When the last message was given out.
    told_at: Instant,
    silent_until: Pin<Box<Sleep>>,
    _permit: Permit,
}

impl Follower {
    pub(super) fn new(
        feeds: Arc<Feeds>,
        group: Arc<Group>,
        (at, stage): (Place, Stage),
        (may_reset, interval): (bool, Duration),
        permit: Permit,
    ) -> Follower {
        Follower {
            told: group.told(),
            feeds,
            group,
            at,
            stage,
            may_reset,
            caught_up: false,
            in_flight: Arc::default(),
            rest: Bytes::new(),
            interval,
            told_at: Instant::now(),
            silent_until: Box::pin(sleep_until(Instant::now() + interval)),
            _permit: permit,
        }
    }

    /// The next piece of the stream, when the one before has left.
    ///
    /// # Errors
    /// The place that it stands at cannot be gone on from, or the store cannot be read.
    pub(crate) async fn next(&mut self) -> Result<Bytes, Refusal> {
        if self.rest.is_empty() {
            self.rest = self.message().await?;
            self.told_at = Instant::now();
        }
        self.in_flight.left().await;
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        Ok(self.in_flight.send(piece))
    }

    async fn message(&mut self) -> Result<Bytes, Refusal> {
        loop {
            match &mut self.stage {
                Stage::Reset(reason) => {
                    let mut reset = Vec::new();
                    fields::put_varint(&mut reset, 1, *reason as u64);
                    self.in_flight.left().await;
                    self.begin_snapshot();
                    return Ok(self.say(None, event::RESET, &reset));
                }
                Stage::Snapshot(_) => return Box::pin(self.snapshot()).await,
                Stage::Following => match self.follow().await {
                    Ok(message) => return Ok(message),
                    Err(Refusal::Compacted { .. }) if self.may_reset => {
                        self.stage = Stage::Reset(FeedResetReason::Compacted);
                    }
                    Err(refusal) => return Err(refusal),
                },
            }
        }
    }

    /// Starts over with what matches now.
    fn begin_snapshot(&mut self) {
        let head = self.feeds.head();
        self.at = head;
        self.stage = Stage::Snapshot(Snapshot::new(&self.group.interest.filter, head.revision));
    }

    async fn snapshot(&mut self) -> Result<Bytes, Refusal> {
        self.in_flight.left().await;
        loop {
            let Stage::Snapshot(snapshot) = &mut self.stage else {
                return Err(Refusal::Internal("a feed has no snapshot under way"));
            };
            let part = snapshot.next(&self.feeds.store, self.feeds.log_id, self.group.interest.shape).await;
            match part {
                Err(store::Error::Overloaded) => tokio::time::sleep(OVERLOADED).await,
                Err(error) => return Err(error.into()),
                Ok(Some(part)) => return Ok(self.say(None, event::SNAPSHOT, &part)),
                Ok(None) => {
                    let mut end = Vec::new();
                    fields::put_varint(&mut end, 1, snapshot.count.unsigned_abs());
                    self.stage = Stage::Following;
                    return Ok(self.say(Some(&self.at), event::SNAPSHOT_END, &end));
                }
            }
        }
    }

    /// The next changes, or a checkpoint.
    async fn follow(&mut self) -> Result<Bytes, Refusal> {
        let mut silent = false;
        loop {
            self.told.borrow_and_update();
            // Asked before it is seen that there is nothing more: all up to here is in what is kept.
            let told = self.feeds.hub.told();
            match self.group.after(self.at.revision) {
                // Waited for only here: what leaves wakes nobody for whom there is nothing.
                Next::Message(_) | Next::Behind if self.in_flight.number().is_some() => {
                    self.in_flight.left().await;
                }
                Next::Message(message) => {
                    self.at = message.end;
                    return Ok(message.bytes);
                }
                Next::Behind => {
                    self.caught_up = false;
                    // Boxed, as a snapshot is: a follower that waits is many times smaller.
                    if let Some(message) = Box::pin(self.catch_up()).await? {
                        return Ok(message);
                    }
                    if self.told_at.elapsed() >= self.interval {
                        return Ok(self.checkpoint(self.at));
                    }
                }
                Next::Nothing if silent || !self.caught_up => {
                    self.caught_up = true;
                    return Ok(self.checkpoint(told));
                }
                Next::Nothing => tokio::select! {
                    _ = self.told.changed() => {}
                    () = self.silent_until.as_mut() => silent = self.is_silent(),
                },
            }
        }
    }

    /// Reads on from the store. None, if there was nothing for this follower.
    async fn catch_up(&mut self) -> Result<Option<Bytes>, Refusal> {
        let slice = loop {
            match &*self.feeds.slice(&self.group, self.at.revision).await {
                Err(store::Error::Overloaded) => tokio::time::sleep(OVERLOADED).await,
                Err(error) => return Err(error.clone().into()),
                Ok(slice) => break slice.clone(),
            }
        };
        if self.at.revision < slice.floor {
            return Err(Refusal::Compacted { oldest: slice.floor, head: self.feeds.head().revision });
        }
        self.at = slice.reached;
        Ok(slice.message)
    }

    /// Whether nothing has been told for the whole interval; if not, the alarm is set again. It is not set with each
    /// message: that costs more than all else here.
    fn is_silent(&mut self) -> bool {
        let until = self.told_at + self.interval;
        let silent = until <= Instant::now();
        self.silent_until.as_mut().reset(if silent { Instant::now() + self.interval } else { until });
        silent
    }

    fn checkpoint(&mut self, told: Place) -> Bytes {
        if told.revision > self.at.revision {
            self.at = told;
        }
        let mut checkpoint = Vec::new();
        fields::put_varint(&mut checkpoint, 1, u64::from(!self.caught_up));
        self.say(Some(&self.at), event::CHECKPOINT, &checkpoint)
    }

    fn say(&self, at: Option<&Place>, field: u32, event: &[u8]) -> Bytes {
        message(self.feeds.log_id, at, field, event)
    }
}
