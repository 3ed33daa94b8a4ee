//! Followers who are told the same: one filter, one shape. What they are told is kept for a while, once for all of them.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::watch;

use super::filter::Filter;
use crate::{compose::Shape, model::Revision, store::history::Place};

/// What distinguishes what followers are told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Interest {
    pub(crate) filter: Filter,
    pub(crate) shape: Shape,
    /// Whether BACKFILL writes are told.
    pub(crate) backfill: bool,
}

/// One message for all followers of a group.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// The revision of the first change in it.
    pub(super) first: Revision,
    /// Where its reader stands after it.
    pub(super) end: Place,
    pub(super) bytes: Bytes,
}

/// What there is for a follower at some place.
#[derive(Debug)]
pub(super) enum Next {
    Message(Message),
    /// Nothing yet.
    Nothing,
    /// What comes next is no longer kept here, only in the store.
    Behind,
}

/// Followers with one interest.
#[derive(Debug)]
pub(super) struct Group {
    /// A number that no other group of this node has, or had.
    pub(super) number: u64,
    pub(super) interest: Interest,
    recent: Mutex<Recent>,
    /// Changes with each message.
    told: watch::Sender<()>,
}

/// The last messages.
#[derive(Debug)]
struct Recent {
    /// All messages after this revision are kept.
    from: Revision,
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Group {
    /// A group that is told everything after a revision.
    pub(super) fn new(number: u64, interest: Interest, from: Revision) -> Group {
        let recent = Mutex::new(Recent { from, messages: VecDeque::new(), bytes: 0 });
        Group { number, interest, recent, told: watch::Sender::new(()) }
    }

    /// To wait for messages.
    pub(super) fn told(&self) -> watch::Receiver<()> {
        self.told.subscribe()
    }

    /// What comes after a revision.
    pub(super) fn after(&self, revision: Revision) -> Next {
        let recent = self.recent();
        if revision < recent.from {
            return Next::Behind;
        }
        let next = recent.messages.partition_point(|message| message.end.revision <= revision);
        match recent.messages.get(next) {
            None => Next::Nothing,
            // It stands within a commit.
            Some(message) if message.first <= revision => Next::Behind,
            Some(message) => Next::Message(message.clone()),
        }
    }

    /// Adds a message, and drops the oldest ones beyond the bound; never the newest. Followers are woken by
    /// [`Group::wake`].
    pub(super) fn push(&self, message: Message, bound: usize) {
        let mut recent = self.recent();
        recent.bytes += message.bytes.len();
        recent.messages.push_back(message);
        while recent.bytes > bound && recent.messages.len() > 1 {
            let Some(oldest) = recent.messages.pop_front() else { break };
            recent.bytes -= oldest.bytes.len();
            recent.from = oldest.end.revision;
        }
    }

    /// Drops all messages: those who have not taken them read on from the store.
    pub(super) fn forget(&self) {
        let mut recent = self.recent();
        if let Some(newest) = recent.messages.back() {
            recent.from = newest.end.revision;
        }
        recent.messages.clear();
        recent.bytes = 0;
    }

    pub(super) fn wake(&self) {
        self.told.send_replace(());
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
