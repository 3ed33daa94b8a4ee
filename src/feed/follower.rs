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
    message::{self, Form, Message},
    snapshot::Snapshot,
};
use crate::{
    model::{LogId, Revision},
    refusal::Refusal,
    store::history::ChainPosition,
    wire::{Framed, fields, v1::FeedResetReason},
};

/// The maximum size of one frame in bytes.
const MAX_FRAME_BYTES: usize = 64 << 10;

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
    wakeups: watch::Receiver<()>,
    cursor: Cursor,
    stage: Stage,
    /// Whether the feed restarts with a snapshot if it cannot resume at its position.
    may_reset: bool,
    caught_up: bool,
    /// The head when the feed was opened. A follower has not caught up before it has received everything up to here, so
    /// that it has the writes that were acknowledged before it was opened.
    opened_at: Revision,
    in_flight: Arc<InFlight>,
    /// The rest of the message that is being sent.
    rest: Message,
    interval: Duration,
    /// The time at which the last message was started.
    last_sent: Instant,
    checkpoint_timer: Pin<Box<Sleep>>,
    permit: Permit,
}

/// The progress of a follower.
#[derive(Debug)]
pub(super) struct Cursor {
    /// The last position sent. The client resumes here.
    position: ChainPosition,
    /// Everything up to this revision was sent. Within a commit that is sent in parts, it is ahead of the position.
    sent: Revision,
    /// Whether the client has received parts of a commit and waits for the last one.
    is_within_commit: bool,
}

impl Cursor {
    fn at(position: ChainPosition) -> Cursor {
        Cursor { sent: position.revision, position, is_within_commit: false }
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
            wakeups: group.wakeups(),
            opened_at: feeds.store.revision(),
            feeds,
            group,
            cursor: Cursor::at(at),
            stage,
            may_reset,
            caught_up: false,
            in_flight: Arc::default(),
            rest: Message::default(),
            interval,
            last_sent: Instant::now(),
            checkpoint_timer: Box::pin(sleep_until(Instant::now() + interval)),
            permit,
        }
    }

    /// Returns the next frame of the stream, once the previous one has been released.
    ///
    /// # Errors
    /// The feed cannot resume at its position, or the store cannot be read.
    pub(crate) async fn next(&mut self) -> Result<Framed, Refusal> {
        if self.rest.is_empty() {
            self.rest = self.next_message().await?;
            self.permit.progress.sent(self.cursor.sent);
            self.last_sent = Instant::now();
        }
        self.in_flight.released().await;
        Ok(self.in_flight.send(self.rest.take(MAX_FRAME_BYTES)))
    }

    async fn next_message(&mut self) -> Result<Message, Refusal> {
        loop {
            match &mut self.stage {
                Stage::Reset(reason) => {
                    let mut reset = Vec::new();
                    fields::put_varint(&mut reset, 1, *reason as u64);
                    self.in_flight.released().await;
                    self.start_snapshot();
                    return Ok(self.event(None, message::RESET, &reset));
                }
                Stage::Snapshot(_) => return Box::pin(self.next_snapshot_part()).await,
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
    fn start_snapshot(&mut self) {
        let head = self.feeds.head();
        self.cursor = Cursor::at(head);
        self.stage = Stage::Snapshot(Snapshot::new(&self.group.key.filter, head.revision));
    }

    async fn next_snapshot_part(&mut self) -> Result<Message, Refusal> {
        self.in_flight.released().await;
        let Stage::Snapshot(snapshot) = &mut self.stage else {
            return Err(Refusal::Internal("feed has no snapshot in progress"));
        };
        let (encoding, until) = (self.group.key.encoding(self.feeds.log_id), self.last_sent + self.interval);
        if let Some(part) = snapshot.next(&self.feeds, encoding, until).await? {
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
        let mut is_silent = false;
        loop {
            self.wakeups.borrow_and_update();
            let (delivered, next) = self.peek_next()?;
            match next {
                // The frame in flight is awaited only here: its release wakes no follower that has nothing to send.
                Next::Message(_) | Next::Behind if self.in_flight.number().is_some() => {
                    self.in_flight.released().await;
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
                    if self.last_sent.elapsed() >= self.interval && !self.cursor.is_within_commit {
                        return Ok(self.checkpoint(self.cursor.position));
                    }
                }
                Next::Nothing if is_silent || !self.caught_up => {
                    self.caught_up = true;
                    return Ok(self.checkpoint(delivered));
                }
                Next::Nothing => {
                    self.permit.progress.caught_up();
                    tokio::select! {
                    _ = self.wakeups.changed() => {}
                    () = self.checkpoint_timer.as_mut() => is_silent = self.check_silence(),
                    }
                }
            }
        }
    }

    /// Returns the position that the hub has reached, and the next message of the group for this follower. They are
    /// read in this order: the group has received everything up to the position that was read first, so a checkpoint at
    /// that position skips nothing.
    fn peek_next(&self) -> Result<(ChainPosition, Next), Refusal> {
        let hub = &self.feeds.hub;
        let delivered = hub.position()?;
        #[cfg(test)]
        if let Some(hook) = hub.between_reads.lock().unwrap().take() {
            hook();
        }
        let next = match self.group.after(self.cursor.sent) {
            // The rest of a commit comes from the store, like its first parts.
            _ if self.cursor.is_within_commit => Next::Behind,
            // The hub is a moment behind the head. Nothing wakes this follower when the hub gets there.
            Next::Nothing if delivered.revision.max(self.cursor.sent) < self.opened_at => Next::Behind,
            next => next,
        };
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
            return Err(Refusal::Compacted {
                field: "after",
                oldest: *floor,
                head: self.feeds.head().revision,
            });
        }
        if *is_part {
            self.cursor.sent = reached.revision;
            self.cursor.is_within_commit |= message.is_some();
            return Ok(message.clone());
        }
        let was_within_commit = std::mem::replace(&mut self.cursor, Cursor::at(*reached)).is_within_commit;
        // The rest of the commit has been superseded, but the client still waits for the last part.
        let last = || Message::of_encoded(self.stream(), Some(reached), Vec::new());
        Ok(message.clone().or_else(|| was_within_commit.then(last)))
    }

    /// Returns whether nothing was sent for the whole interval. If something was sent, resets the timer. It is not set
    /// with each message, because that costs more than everything else here.
    fn check_silence(&mut self) -> bool {
        let deadline = self.last_sent + self.interval;
        let is_silent = deadline <= Instant::now();
        self.checkpoint_timer.as_mut().reset(if is_silent {
            Instant::now() + self.interval
        } else {
            deadline
        });
        is_silent
    }

    fn checkpoint(&mut self, delivered: ChainPosition) -> Message {
        // At the same revision too: a position to resume from may have come without its chain.
        if delivered.revision >= self.cursor.sent {
            self.cursor = Cursor::at(delivered);
        }
        let mut checkpoint = Vec::new();
        fields::put_varint(&mut checkpoint, 1, u64::from(!self.caught_up));
        self.event(Some(&self.cursor.position), message::CHECKPOINT, &checkpoint)
    }

    fn event(&self, at: Option<&ChainPosition>, field: u32, event: &[u8]) -> Message {
        Message::new(self.stream(), at, field, event)
    }

    fn stream(&self) -> (LogId, Form) {
        (self.feeds.log_id, self.group.key.form)
    }
}
