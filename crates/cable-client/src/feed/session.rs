//! The streams of a feed: connecting, accepting messages, retrying and resuming.
//!
//! [`FeedDriver::next`] returns one delivery per call: it connects if there is no stream, receives a message, turns it
//! into a delivery and records its position. A failure closes the stream and schedules the next attempt; the stream
//! after it starts from the last recorded position. Nothing is requested ahead of the caller, so that the last delivery
//! counts as handled exactly when the next one is requested.

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::Streaming;

use super::{Delivery, Event, FeedChange, FeedStatus, ResetReason};
use crate::{
    Cable, Error, ErrorKind, Position, RawRecord, Result, Retry,
    client::report_outcome,
    pool::NodeGuard,
    position::Saver,
    read::malformed_response,
    retry::after,
    v1::{self, WatchRequest, WatchResponse, watch_request, watch_response},
};

/// The state of a feed between two deliveries.
pub(super) struct FeedDriver {
    pub(super) cable: Cable,
    pub(super) request: WatchRequest,
    pub(super) max_silence: Duration,
    pub(super) on_retry: Option<OnRetry>,
    /// The longest time without a message from any node. The feed then ends with the last error. `max_silence` is at most
    /// half of it, so that there is time for another node.
    pub(super) max_outage: Option<Duration>,
    /// The attempts since the last message.
    pub(super) outage: Option<Outage>,
    /// The start of the next stream.
    pub(super) resume: Start,
    /// The number of records delivered of the current snapshot.
    pub(super) snapshot_records: u64,
    pub(super) stream: Option<OpenStream>,
    pub(super) parts: CommitParts,
    /// Failures since the last sign of progress: a new position, or a checkpoint of a feed that has caught up.
    pub(super) failures: u32,
    /// The number of these failures that are faults of the server.
    pub(super) faults: u32,
    /// Whether the token was replaced since the last message.
    pub(super) is_token_replaced: bool,
    pub(super) pause_until: Option<Instant>,
    pub(super) status: Arc<FeedStatus>,
    pub(super) saver: Option<Arc<Saver>>,
    pub(super) is_started: bool,
    pub(super) is_ended: bool,
}

impl FeedDriver {
    /// Returns the next delivery. The feed ends after an error.
    pub(super) async fn next(&mut self) -> Option<Result<Delivery>> {
        if self.is_ended {
            return None;
        }
        let delivery = self.deliver().await;
        if delivery.is_err() {
            self.is_ended = true;
            self.status.lock().caught_up = false;
        }
        Some(delivery)
    }

    /// A request for a delivery marks the previous one as handled.
    async fn deliver(&mut self) -> Result<Delivery> {
        if self.is_started {
            self.mark_handled()?;
        } else {
            self.load_position().await?;
        }
        loop {
            let accepted = match self.receive().await {
                Ok(message) => self.accept(message),
                Err(error) => Err(error),
            };
            let delivery = match accepted {
                Ok(delivery) => delivery,
                Err(error) => self.recover(error).await?,
            };
            if let Some(delivery) = delivery {
                return Ok(delivery);
            }
        }
    }

    /// Loads the saved position, which takes precedence over every other start.
    async fn load_position(&mut self) -> Result<()> {
        if let Some(saver) = &self.saver
            && let Some(position) = saver.load().await?
        {
            self.resume = Start::After(position);
        }
        if let Start::After(position) = &self.resume {
            self.status.lock().position = Some(position.clone());
        }
        self.is_started = true;
        Ok(())
    }

    /// Marks the last delivery as handled.
    fn mark_handled(&self) -> Result<()> {
        let Some(saver) = &self.saver else { return Ok(()) };
        match self.status.lock().position.clone() {
            Some(position) => saver.mark_handled(position),
            None => Ok(()),
        }
    }

    /// Receives a message, on a new stream if there is none. A silent stream counts as broken.
    async fn receive(&mut self) -> Result<WatchResponse> {
        if self.stream.is_none() {
            self.connect().await?;
        }
        let Some(OpenStream { messages, node }) = &mut self.stream else { return Err(stream_ended()) };
        let waiting_since = Instant::now();
        match timeout(self.max_silence, messages.message()).await {
            Ok(Ok(Some(message))) => {
                // A node that sends a message has accepted the token, even if nothing has changed since the last one.
                (self.outage, self.is_token_replaced) = (None, false);
                Ok(message)
            }
            Ok(Ok(None)) => Err(stream_ended()),
            Ok(Err(status)) => {
                let error = Error::from_call(status, Some(node.peer()));
                report_outcome(node, Some(&error));
                Err(error)
            }
            Err(_) => {
                node.record_failure();
                self.outage.get_or_insert(Outage { since: waiting_since, failure: None });
                let message = format!("no message from the server for {:?}", self.max_silence);
                Err(Error::new(ErrorKind::DeadlineExceeded, message))
            }
        }
    }

    /// Returns the time at which the feed ends unless a node serves it before. An outage starts here if there is none.
    fn outage_end(&mut self) -> Option<Instant> {
        let outage = self.outage.get_or_insert_with(|| Outage { since: Instant::now(), failure: None });
        outage.since.checked_add(self.max_outage?)
    }

    /// Returns the error with which an outage ends the feed. If its end has cut the last attempt short, the
    /// failure before it has the cause.
    fn outage_error(&mut self, error: Error, limit: Duration) -> Error {
        let failure = self.outage.take().and_then(|outage| outage.failure);
        let cause = failure.filter(|_| error.kind() == ErrorKind::DeadlineExceeded);
        cause.unwrap_or(error).with_outage(limit)
    }

    /// Opens a stream that starts where the last one stopped, after the wait that the last failure requires.
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
        let timeout = self.outage_end().map(|end| {
            let left = end.saturating_duration_since(Instant::now());
            left.min(self.cable.scope.timeout)
        });
        let (messages, node) = self.cable.open(|| self.request.clone(), timeout, &Retry::none()).await?;
        self.stream = Some(OpenStream { messages, node });
        self.status.lock().streams += 1;
        Ok(())
    }

    /// Returns the delivery for a message, or `None` if it contains nothing new.
    fn accept(&mut self, message: WatchResponse) -> Result<Option<Delivery>> {
        let WatchResponse { position, event } = message;
        // An event type of a later release.
        let Some(event) = event else { return Ok(None) };
        let may_follow_part =
            matches!(&event, watch_response::Event::Changes(_) | watch_response::Event::Reset(_));
        if !self.parts.changes.is_empty() && !may_follow_part {
            return Err(malformed_response("message between two parts of a commit"));
        }
        let event = match event {
            watch_response::Event::Reset(reset) => {
                return Ok(Some(self.reset(ResetReason::from_message(reset.reason()))));
            }
            watch_response::Event::Snapshot(part) => return Ok(Some(self.snapshot_part(part.records))),
            watch_response::Event::SnapshotEnd(end) => {
                Event::SnapshotEnd { count: self.snapshot_end(end.count)?, damage: end.damage }
            }
            watch_response::Event::Checkpoint(checkpoint) => Event::Checkpoint { behind: checkpoint.behind },
            watch_response::Event::Changes(changes) => {
                let Some(changes) = self.parts.add(changes)? else { return Ok(None) };
                match self.new_changes(changes, position.as_ref())? {
                    changes if changes.is_empty() => return Ok(None),
                    changes => Event::Changes(changes),
                }
            }
        };
        let position = position.ok_or_else(|| malformed_response("feed message without position"))?;
        self.advance_to(&position, event == Event::Checkpoint { behind: false });
        Ok(Some(Delivery { position: Some(position), event }))
    }

    /// Drops the changes that were delivered before.
    fn new_changes(
        &self,
        changes: Vec<v1::FeedChange>,
        position: Option<&Position>,
    ) -> Result<Vec<FeedChange>> {
        let delivered_up_to = match (&self.status.lock().position, position) {
            (Some(last), Some(now)) if last.log_id.is_empty() || last.log_id == now.log_id => last.revision,
            _ => 0,
        };
        changes
            .into_iter()
            .filter(|change| change.revision > delivered_up_to)
            .map(FeedChange::try_from)
            .collect()
    }

    /// Counts the records of a part. A part has no position: a snapshot cannot be resumed.
    fn snapshot_part(&mut self, records: Vec<RawRecord>) -> Delivery {
        self.snapshot_records += records.len() as u64;
        Delivery { position: None, event: Event::Snapshot(records) }
    }

    /// Checks that the snapshot is complete, and returns the number of its records.
    fn snapshot_end(&mut self, count: i64) -> Result<u64> {
        if i64::try_from(self.snapshot_records) != Ok(count) {
            let problem = format!("{} snapshot records instead of {count}", self.snapshot_records);
            return Err(malformed_response(problem));
        }
        Ok(std::mem::take(&mut self.snapshot_records))
    }

    /// Discards what was received. The next stream starts with a snapshot.
    fn reset(&mut self, reason: ResetReason) -> Delivery {
        self.resume = Start::Snapshot;
        self.snapshot_records = 0;
        self.parts.clear();
        let mut status = self.status.lock();
        status.position = None;
        status.caught_up = false;
        Delivery { position: None, event: Event::Reset(reason) }
    }

    /// Records the position of a delivery, from which the next stream resumes. Progress restarts the count of failures: a
    /// new position or, in an idle log, that nothing is left to deliver.
    fn advance_to(&mut self, position: &Position, caught_up: bool) {
        let mut status = self.status.lock();
        if caught_up || status.position.as_ref() != Some(position) {
            (self.failures, self.faults) = (0, 0);
        }
        status.position = Some(position.clone());
        status.caught_up |= caught_up;
        drop(status);
        self.resume = Start::After(position.clone());
    }

    /// Prepares a retry, or returns the error if a retry cannot help. If a part of a snapshot was delivered, the
    /// snapshot restarts, and a reset is delivered.
    async fn recover(&mut self, error: Error) -> Result<Option<Delivery>> {
        let may_retry = self.has_other_token(&error).await || !is_permanent(&error);
        self.stream = None;
        self.parts.clear();
        self.status.lock().caught_up = false;
        self.faults += u32::from(is_server_fault(&error));
        if !may_retry || self.faults >= MAX_SERVER_FAULTS {
            return Err(error);
        }
        self.failures += 1;
        let next = after(self.cable.shared.retry.pause(self.failures, &error));
        if let (Some(end), Some(limit)) = (self.outage_end(), self.max_outage)
            && next >= end
        {
            return Err(self.outage_error(error, limit));
        }
        self.pause_until = Some(next);
        if let Some(callback) = &self.on_retry {
            callback(&error);
        }
        if let Some(outage) = &mut self.outage {
            outage.failure = Some(error);
        }
        Ok((self.snapshot_records > 0).then(|| self.reset(ResetReason::SnapshotBroken)))
    }

    /// Returns whether there is another token than the one with which an open stream ended. Once, until a node sends a
    /// message: a source that returns other tokens without end does not help. A stream that is refused when it opens has been
    /// attempted with another token already.
    async fn has_other_token(&mut self, error: &Error) -> bool {
        let Some(OpenStream { node, .. }) = &self.stream else { return false };
        let first = !std::mem::replace(&mut self.is_token_replaced, true);
        first && self.cable.replace_token(node.token_number, error).await
    }
}

/// A time in which no node has sent a message.
pub(super) struct Outage {
    /// The time of the first failure, or of the first attempt to connect.
    since: Instant,
    /// The last failure that was followed by another attempt.
    failure: Option<Error>,
}

/// The start of the next stream.
#[derive(Debug, Clone)]
pub(super) enum Start {
    Now,
    After(Position),
    Snapshot,
}

/// The function that is called with the error before each retry.
pub(super) type OnRetry = Arc<dyn Fn(&Error) + Send + Sync>;

/// An open stream, and the guard by which its node counts as busy.
pub(super) struct OpenStream {
    messages: Streaming<WatchResponse>,
    node: NodeGuard,
}

/// The changes of a commit of which the last part has not arrived yet.
#[derive(Default)]
pub(super) struct CommitParts {
    pub(super) changes: Vec<v1::FeedChange>,
    /// The encoded size of the changes in bytes.
    pub(super) bytes: usize,
    pub(super) max_bytes: usize,
}

impl CommitParts {
    /// Adds a message. Returns all changes of the commit if it was the last part.
    fn add(&mut self, part: v1::FeedChanges) -> Result<Option<Vec<v1::FeedChange>>> {
        let is_whole = !part.more_follows && self.changes.is_empty();
        self.bytes += if is_whole { largest_commit(&part.changes) } else { part.encoded_len() };
        if self.bytes > self.max_bytes {
            let message = format!(
                "commit larger than {} bytes: raise max_commit_bytes, or use a smaller view or filter",
                self.max_bytes
            );
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        self.changes.extend(part.changes);
        if part.more_follows {
            return Ok(None);
        }
        self.bytes = 0;
        Ok(Some(std::mem::take(&mut self.changes)))
    }

    /// Drops the parts: the server sends the commit again, or a snapshot supersedes it.
    fn clear(&mut self) {
        self.changes = Vec::new();
        self.bytes = 0;
    }
}

/// Returns the encoded size in bytes of the largest commit in a message of whole commits. The changes of a commit have one
/// time.
fn largest_commit(changes: &[v1::FeedChange]) -> usize {
    let commits = changes.chunk_by(|first, second| first.time == second.time);
    commits.map(|commit| commit.iter().map(prost::Message::encoded_len).sum()).max().unwrap_or_default()
}

/// The number of server faults in a row that ends a feed: a retry does not repair a damaged record.
const MAX_SERVER_FAULTS: u32 = 5;

/// Returns the error for a stream that ends with OK, as no healthy server does.
fn stream_ended() -> Error {
    Error::truncated("server ended the feed")
}

/// Returns whether a retry cannot help, on this node or another.
fn is_permanent(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidArgument
            | ErrorKind::OutOfRange
            | ErrorKind::FailedPrecondition
            | ErrorKind::Unauthenticated
            | ErrorKind::PermissionDenied
            | ErrorKind::Unimplemented
            | ErrorKind::TooLarge
    )
}

/// Returns whether the server itself failed, so that a retry can fail in the same way.
fn is_server_fault(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DataLoss | ErrorKind::Internal | ErrorKind::Unknown | ErrorKind::Malformed
    )
}
