//! One follower: a cursor into the log and one frame in flight. It reads the commits that it missed from the store, and
//! new commits from the memory of its group.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    Feeds, Permit, Slice,
    group::Next,
    groups::Membership,
    in_flight::InFlight,
    message::{self, Message},
    snapshot::Snapshot,
};
use crate::{
    model::Revision,
    refusal::Refusal,
    store::history::ChainPosition,
    wire::{Framed, fields, v1::FeedResetReason},
};

/// The maximum size of one frame in bytes.
const PIECE: usize = 64 << 10;

/// The stage of a follower.
#[derive(Debug)]
pub(super) enum Stage {
    /// The reason for a new snapshot is sent next.
    Reset(FeedResetReason),
    Snapshot(Snapshot),
    Following,
}

/// The server side of one Watch stream.
pub(crate) struct Follower {
    feeds: Arc<Feeds>,
    group: Membership,
    news: watch::Receiver<()>,
    cursor: Cursor,
    stage: Stage,
    /// Whether the feed restarts with a snapshot if it cannot resume at its position.
    may_reset: bool,
    caught_up: bool,
    in_flight: Arc<InFlight>,
    /// The rest of the message that is being sent.
    rest: Message,
    interval: Duration,
    /// The time at which the last message was started.
    sent_at: Instant,
    silent_until: Pin<Box<Sleep>>,
    _permit: Permit,
}

/// The progress of a follower.
#[derive(Debug)]
pub(super) struct Cursor {
    /// The last position sent. The client resumes here.
    position: ChainPosition,
    /// Everything up to this revision was sent. Within a commit that is sent in parts, it is ahead of the position.
    sent: Revision,
    /// Whether the client has received parts of a commit and waits for the last one.
    is_open: bool,
}

impl Cursor {
    fn at(position: ChainPosition) -> Cursor {
        Cursor { sent: position.revision, position, is_open: false }
    }
}

impl Follower {
    pub(super) fn new(
        feeds: Arc<Feeds>,
        group: Membership,
        (at, stage): (ChainPosition, Stage),
        (may_reset, interval): (bool, Duration),
        permit: Permit,
    ) -> Follower {
        Follower {
            news: group.news(),
            feeds,
            group,
            cursor: Cursor::at(at),
            stage,
            may_reset,
            caught_up: false,
            in_flight: Arc::default(),
            rest: Message::default(),
            interval,
            sent_at: Instant::now(),
            silent_until: Box::pin(sleep_until(Instant::now() + interval)),
            _permit: permit,
        }
    }

    /// Returns the next frame of the stream, once the previous one has left.
    ///
    /// # Errors
    /// The feed cannot resume at its position, or the store cannot be read.
    pub(crate) async fn next(&mut self) -> Result<Framed, Refusal> {
        if self.rest.is_empty() {
            self.rest = self.message().await?;
            self.sent_at = Instant::now();
        }
        self.in_flight.left().await;
        Ok(self.in_flight.send(self.rest.take(PIECE)))
    }

    async fn message(&mut self) -> Result<Message, Refusal> {
        loop {
            match &mut self.stage {
                Stage::Reset(reason) => {
                    let mut reset = Vec::new();
                    fields::put_varint(&mut reset, 1, *reason as u64);
                    self.in_flight.left().await;
                    self.begin_snapshot();
                    return Ok(self.event(None, message::RESET, &reset));
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

    /// Restarts with a snapshot of the current matches.
    fn begin_snapshot(&mut self) {
        let head = self.feeds.head();
        self.cursor = Cursor::at(head);
        self.stage = Stage::Snapshot(Snapshot::new(&self.group.interest.filter, head.revision));
    }

    async fn snapshot(&mut self) -> Result<Message, Refusal> {
        self.in_flight.left().await;
        let Stage::Snapshot(snapshot) = &mut self.stage else {
            return Err(Refusal::Internal("a feed has no snapshot under way"));
        };
        if let Some(part) = snapshot.next(&self.feeds, self.group.interest.shape).await? {
            return Ok(self.event(None, message::SNAPSHOT, &part));
        }
        let mut end = Vec::new();
        fields::put_varint(&mut end, 1, snapshot.count.unsigned_abs());
        let mut damage = std::mem::take(&mut snapshot.damage);
        damage.database |= self.feeds.store.is_damaged();
        if let Some(damage) = damage.to_message() {
            fields::put_message(&mut end, 2, &damage);
        }
        self.stage = Stage::Following;
        Ok(self.event(Some(&self.cursor.position), message::SNAPSHOT_END, &end))
    }

    /// Returns the next changes, or a checkpoint.
    async fn follow(&mut self) -> Result<Message, Refusal> {
        let mut silent = false;
        loop {
            self.news.borrow_and_update();
            let (delivered, next) = self.look()?;
            match next {
                // The frame in flight is awaited only here: when it leaves, it wakes no follower that has nothing to
                // send.
                Next::Message(_) | Next::Behind if self.in_flight.number().is_some() => {
                    self.in_flight.left().await;
                }
                Next::Message(next) => {
                    self.cursor = Cursor::at(next.end);
                    return Ok(next.message);
                }
                Next::Behind => {
                    self.caught_up = false;
                    // Boxed, like the snapshot: this makes a waiting follower many times smaller.
                    if let Some(message) = Box::pin(self.catch_up()).await? {
                        return Ok(message);
                    }
                    if self.sent_at.elapsed() >= self.interval && !self.cursor.is_open {
                        return Ok(self.checkpoint(self.cursor.position));
                    }
                }
                Next::Nothing if silent || !self.caught_up => {
                    self.caught_up = true;
                    return Ok(self.checkpoint(delivered));
                }
                Next::Nothing => tokio::select! {
                    _ = self.news.changed() => {}
                    () = self.silent_until.as_mut() => silent = self.is_silent(),
                },
            }
        }
    }

    /// Returns the position that the hub has reached, and the next message of the group for this follower. They are
    /// read in this order: the group has received everything up to the position that was read first, so a checkpoint at
    /// that position skips nothing.
    fn look(&self) -> Result<(ChainPosition, Next), Refusal> {
        let hub = &self.feeds.hub;
        let delivered = hub.position()?;
        #[cfg(test)]
        if let Some(happens) = hub.between_looks.lock().unwrap().take() {
            happens();
        }
        // The rest of a commit comes from the store, like its first parts.
        let next = if self.cursor.is_open { Next::Behind } else { self.group.after(self.cursor.sent) };
        Ok((delivered, next))
    }

    /// Reads the next slice from the store. Returns None if it has nothing for this follower.
    async fn catch_up(&mut self) -> Result<Option<Message>, Refusal> {
        let slice = self.feeds.slice(self.group.group(), self.cursor.sent).await;
        let Slice { message, reached, is_part, floor, .. } = match &*slice {
            Ok(slice) => slice,
            Err(error) => return Err(error.clone().into()),
        };
        if self.cursor.sent < *floor {
            return Err(Refusal::Compacted { oldest: *floor, head: self.feeds.head().revision });
        }
        if *is_part {
            self.cursor.sent = reached.revision;
            self.cursor.is_open |= message.is_some();
            return Ok(message.clone());
        }
        let was_open = std::mem::replace(&mut self.cursor, Cursor::at(*reached)).is_open;
        // The rest of the commit has been superseded, but the client still waits for the last part.
        let last = || Message::of_encoded(self.feeds.log_id, Some(reached), Vec::new());
        Ok(message.clone().or_else(|| was_open.then(last)))
    }

    /// Whether nothing was sent for the whole interval. If something was sent, the timer is set again. It is not set
    /// with each message, because that costs more than everything else here.
    fn is_silent(&mut self) -> bool {
        let until = self.sent_at + self.interval;
        let silent = until <= Instant::now();
        self.silent_until.as_mut().reset(if silent { Instant::now() + self.interval } else { until });
        silent
    }

    fn checkpoint(&mut self, delivered: ChainPosition) -> Message {
        if delivered.revision > self.cursor.sent {
            self.cursor = Cursor::at(delivered);
        }
        let mut checkpoint = Vec::new();
        fields::put_varint(&mut checkpoint, 1, u64::from(!self.caught_up));
        self.event(Some(&self.cursor.position), message::CHECKPOINT, &checkpoint)
    }

    fn event(&self, at: Option<&ChainPosition>, field: u32, event: &[u8]) -> Message {
        Message::new(self.feeds.log_id, at, field, event)
    }
}
