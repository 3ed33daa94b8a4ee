//! The bound on the bytes of the messages that all groups of a node retain.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use super::group::{CommitMessage, Group};
use crate::model::Revision;

/// The maximum size of all retained messages in bytes, with shared encodings counted once. Followers that are further
/// behind read the store.
pub(super) const MAX_RETAINED_BYTES: usize = 32 << 20;

/// Bytes of a group's reference to a message.
const REFERENCE_BYTES: usize = size_of::<CommitMessage>() + size_of::<Weak<Group>>();

/// The messages that groups retain, by commit, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Retained {
    commits: VecDeque<RetainedCommit>,
    bytes: usize,
}

/// The messages that groups retain of one commit.
#[derive(Debug)]
pub(super) struct RetainedCommit {
    end: Revision,
    groups: Vec<Weak<Group>>,
    /// Bytes of the messages.
    message_bytes: usize,
}

impl RetainedCommit {
    pub(super) fn new(end: Revision) -> RetainedCommit {
        RetainedCommit { end, groups: Vec::new(), message_bytes: 0 }
    }

    /// Records that a group retains a message of the commit. `message_bytes` is the size of all its messages so far in
    /// bytes.
    pub(super) fn add(&mut self, group: &Arc<Group>, message_bytes: usize) {
        self.groups.push(Arc::downgrade(group));
        self.message_bytes = message_bytes;
    }

    /// Returns the bytes that the messages of the commit may take.
    pub(super) fn room(&self) -> usize {
        MAX_RETAINED_BYTES.saturating_sub((self.groups.len() + 1) * REFERENCE_BYTES)
    }

    pub(super) fn bytes(&self) -> usize {
        self.message_bytes + self.groups.len() * REFERENCE_BYTES
    }
}

impl Retained {
    /// Drops the oldest messages until there is room for those of one more commit.
    pub(super) fn make_room(&mut self, bytes: usize) {
        while self.bytes + bytes > MAX_RETAINED_BYTES
            && let Some(oldest) = self.commits.pop_front()
        {
            self.bytes -= oldest.bytes();
            for group in oldest.groups.iter().filter_map(Weak::upgrade) {
                group.drop_through(oldest.end);
            }
        }
    }

    pub(super) fn push(&mut self, commit: RetainedCommit) {
        if !commit.groups.is_empty() {
            self.bytes += commit.bytes();
            self.commits.push_back(commit);
        }
    }

    /// Drops the records of all messages.
    pub(super) fn clear(&mut self) {
        *self = Retained::default();
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
