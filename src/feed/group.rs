//! Followers with the same filter, shape and backfill option. Their messages are encoded once and retained for a while.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::{
    event::Encoding,
    filter::Filter,
    message::{Form, Message},
};
use crate::{
    compose::Shape,
    model::{LogId, Revision},
    store::history::ChainPosition,
};

/// The properties that determine the messages of a follower.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct GroupKey {
    pub(crate) filter: Filter,
    pub(crate) shape: Shape,
    /// Whether BACKFILL writes are delivered.
    pub(crate) backfill: bool,
    pub(crate) form: Form,
}

impl GroupKey {
    /// Returns how changes are encoded for the followers.
    pub(super) fn encoding(&self, log_id: LogId) -> Encoding {
        Encoding { log_id, shape: self.shape, is_limited: self.filter.is_limited() }
    }
}

/// The message of one commit, for all followers of a group.
#[derive(Debug, Clone)]
pub(super) struct CommitMessage {
    /// The revision of the first change in the message.
    pub(super) first_revision: Revision,
    /// The end of the commit.
    pub(super) end: ChainPosition,
    pub(super) message: Message,
}

/// The next message of a group for a follower at some revision.
#[derive(Debug)]
pub(super) enum Next {
    Message(CommitMessage),
    /// There is no new message yet.
    Nothing,
    /// The next message is not retained: the follower reads the store.
    Behind,
}

/// Followers with one key.
#[derive(Debug)]
pub(super) struct Group {
    /// A number that no other group of this node has or had.
    pub(super) number: u64,
    pub(super) key: Arc<GroupKey>,
    recent: Mutex<Recent>,
    /// Changes with each message.
    wakeups: watch::Sender<()>,
}

/// The messages that a group retains.
#[derive(Debug)]
struct Recent {
    /// All messages after this revision are retained.
    retained_after: Revision,
    messages: VecDeque<CommitMessage>,
}

impl Group {
    /// Creates a group that receives everything after a revision.
    pub(super) fn new(number: u64, key: Arc<GroupKey>, retained_after: Revision) -> Group {
        let recent = Mutex::new(Recent { retained_after, messages: VecDeque::new() });
        Group { number, key, recent, wakeups: watch::Sender::new(()) }
    }

    /// Returns a receiver that is notified of each message.
    pub(super) fn wakeups(&self) -> watch::Receiver<()> {
        self.wakeups.subscribe()
    }

    /// Returns the next message after a revision.
    pub(super) fn after(&self, revision: Revision) -> Next {
        let recent = self.recent();
        if revision < recent.retained_after {
            return Next::Behind;
        }
        let next = recent.messages.partition_point(|message| message.end.revision <= revision);
        match recent.messages.get(next) {
            None => Next::Nothing,
            // The follower is within the commit.
            Some(message) if message.first_revision <= revision => Next::Behind,
            Some(message) => Next::Message(message.clone()),
        }
    }

    /// Adds a message, unless `is_current` returns false because the message may no longer be sent. In that case
    /// followers read the store. [`Group::wake`] wakes them.
    pub(super) fn push(&self, message: CommitMessage, is_current: impl FnOnce() -> bool) {
        let mut recent = self.recent();
        let end = message.end.revision;
        if end <= recent.retained_after {
            // The group was created after the commit.
        } else if is_current() {
            recent.messages.push_back(message);
        } else {
            recent.drop_all(end);
        }
    }

    /// Makes followers read the store up to a revision, because the message of that commit is not retained.
    pub(super) fn skip(&self, end: Revision) {
        self.recent().drop_all(end);
    }

    /// Drops the messages up to a revision.
    pub(super) fn drop_through(&self, end: Revision) {
        let mut recent = self.recent();
        while recent.messages.front().is_some_and(|oldest| oldest.end.revision <= end)
            && let Some(oldest) = recent.messages.pop_front()
        {
            recent.retained_after = oldest.end.revision;
        }
    }

    /// Drops all messages. Followers that have not received them read the store.
    pub(super) fn clear(&self) {
        let mut recent = self.recent();
        if let Some(newest) = recent.messages.back() {
            let end = newest.end.revision;
            recent.drop_all(end);
        }
    }

    pub(super) fn wake(&self) {
        self.wakeups.send_replace(());
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    fn drop_all(&mut self, end: Revision) {
        self.retained_after = self.retained_after.max(end);
        self.messages = VecDeque::new();
    }
}
