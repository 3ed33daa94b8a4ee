//! One follower: a cursor into the history and one piece on its way. It reads what it has missed from the store, and
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
    store::history::Place,
    wire::{Framed, fields, v1::FeedResetReason},
};

/// Bytes given to the connection at once.
const PIECE: usize = 64 << 10;

/// What a follower is at.
#[derive(Debug)]
pub(super) enum Stage {
    /// Sending the reason for a new snapshot.
    Reset(FeedResetReason),
    Snapshot(Snapshot),
    Following,
}

/// One stream of a feed.
pub(crate) struct Follower {
    feeds: Arc<Feeds>,
    group: Membership,
    news: watch::Receiver<()>,
    cursor: Cursor,
    stage: Stage,
    /// Whether a place that cannot be gone on from is answered by a snapshot.
    may_reset: bool,
    caught_up: bool,
    in_flight: Arc<InFlight>,
    /// The rest of the message that is being sent.
    rest: Message,
    interval: Duration,
    /// When the last message was begun.
    sent_at: Instant,
    silent_until: Pin<Box<Sleep>>,
    _permit: Permit,
}

/// How far a follower has come.
#[derive(Debug)]
pub(super) struct Cursor {
    /// The last position: a client resumes here.
    position: Place,
    /// All up to this revision was sent. Within a commit that comes in parts it is ahead of the position.
    sent: Revision,
    /// The client holds parts of a commit, and waits for the last one.
    is_open: bool,
}

impl Cursor {
    fn at(position: Place) -> Cursor {
        Cursor { sent: position.revision, position, is_open: false }
    }
}

impl Follower {
    pub(super) fn new(
        feeds: Arc<Feeds>,
        group: Membership,
        (at, stage): (Place, Stage),
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

    /// The next piece of the stream, when the one before has left.
    ///
    /// # Errors
    /// The place that it stands at cannot be gone on from, or the store cannot be read.
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

    /// Starts over with what matches now.
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

    /// The next changes, or a checkpoint.
    async fn follow(&mut self) -> Result<Message, Refusal> {
        let mut silent = false;
        loop {
            self.news.borrow_and_update();
            let (delivered, next) = self.look()?;
            match next {
                // Waited for only here: a piece that leaves wakes no follower for which there is nothing.
                Next::Message(_) | Next::Behind if self.in_flight.number().is_some() => {
                    self.in_flight.left().await;
                }
                Next::Message(next) => {
                    self.cursor = Cursor::at(next.end);
                    return Ok(next.message);
                }
                Next::Behind => {
                    self.caught_up = false;
                    // Boxed, as a snapshot is: a follower that waits is many times smaller.
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

    /// How far the hub has come, and what the group has for this follower. In this order: the group has received
    /// everything up to the position that was read before, so that a checkpoint there skips nothing.
    fn look(&self) -> Result<(Place, Next), Refusal> {
        let hub = &self.feeds.hub;
        let delivered = hub.position()?;
        #[cfg(test)]
        if let Some(happens) = hub.between_looks.lock().unwrap().take() {
            happens();
        }
        // The rest of a commit comes from where its first parts came from.
        let next = if self.cursor.is_open { Next::Behind } else { self.group.after(self.cursor.sent) };
        Ok((delivered, next))
    }

    /// Reads on from the store. None, if there was nothing for this follower.
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
        // All that was left of the commit has been superseded: the client still waits for the last part.
        let last = || Message::of_encoded(self.feeds.log_id, Some(reached), Vec::new());
        Ok(message.clone().or_else(|| was_open.then(last)))
    }

    /// Whether nothing was sent for the whole interval; if not, the alarm is set again. It is not set with each
    /// message: that costs more than all else here.
    fn is_silent(&mut self) -> bool {
        let until = self.sent_at + self.interval;
        let silent = until <= Instant::now();
        self.silent_until.as_mut().reset(if silent { Instant::now() + self.interval } else { until });
        silent
    }

    fn checkpoint(&mut self, delivered: Place) -> Message {
        if delivered.revision > self.cursor.sent {
            self.cursor = Cursor::at(delivered);
        }
        let mut checkpoint = Vec::new();
        fields::put_varint(&mut checkpoint, 1, u64::from(!self.caught_up));
        self.event(Some(&self.cursor.position), message::CHECKPOINT, &checkpoint)
    }

    fn event(&self, at: Option<&Place>, field: u32, event: &[u8]) -> Message {
        Message::new(self.feeds.log_id, at, field, event)
    }
}
