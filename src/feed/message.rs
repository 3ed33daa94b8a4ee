//! Messages to followers: encoded once, and sent frame by frame.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::{event::Selected, server_sent};
use crate::{
    model::LogId,
    store::history::ChainPosition,
    wire::{fields, framed, v1},
};

/// The maximum size of a message in bytes: less than gRPC's default limit of 4 MiB for clients, with room for proxies.
pub(crate) const MAX_MESSAGE_BYTES: usize = 7 << 19;

/// The maximum size of the changes in a message in bytes. The position and the fields around them fit into the rest.
pub(super) const MAX_CHANGES_BYTES: usize = MAX_MESSAGE_BYTES - 256;

/// Changes up to this many bytes are copied into one block, because handling many slices would cost more.
const MAX_COPIED_BYTES: usize = 16 << 10;

/// Field numbers of the events of a WatchResponse.
pub(super) const CHANGES: u32 = 2;
pub(super) const SNAPSHOT: u32 = 3;
pub(super) const SNAPSHOT_END: u32 = 4;
pub(super) const CHECKPOINT: u32 = 5;
pub(super) const RESET: u32 = 6;

/// The field `more_follows` of a FeedChanges, set to true.
const MORE_FOLLOWS: [u8; 2] = [2 << 3, 1];

/// How the messages of a stream are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// As a WatchResponse with its gRPC prefix.
    Grpc,
    /// As a server-sent event, with the JSON of the event.
    Event,
}

/// A message as its stream writes it, or the rest of it that is still to be sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Message {
    /// The next bytes.
    next: Bytes,
    /// The changes after `next`, and the index of the first one.
    rest: Option<Arc<Changes>>,
    index: usize,
}

/// Changes that messages share.
#[derive(Debug)]
pub(super) struct Changes {
    pub(super) encoded: Arc<[OnceLock<Bytes>]>,
    pub(super) selected: Box<[Selected]>,
}

impl Changes {
    fn get(&self, index: usize) -> Option<&Bytes> {
        self.encoded[self.selected.get(index)?.index()].get()
    }

    fn iter(&self) -> impl Iterator<Item = &Bytes> {
        (0..self.selected.len()).filter_map(|index| self.get(index))
    }
}

impl Message {
    /// Encodes a message around an event. A message without a position belongs to a snapshot.
    pub(super) fn new(
        (log_id, form): (LogId, Form),
        at: Option<&ChainPosition>,
        field: u32,
        event: &[u8],
    ) -> Message {
        if form == Form::Event {
            return Message::whole(server_sent::event(log_id, at, field, event));
        }
        let mut out = start_message(log_id, at, event.len());
        fields::put_bytes(&mut out, field, event);
        Message::complete(out)
    }

    /// Returns the message of the changes of a commit, with the position of its end. The changes are `length` bytes
    /// long.
    pub(super) fn of_changes(
        (log_id, form): (LogId, Form),
        end: &ChainPosition,
        changes: Changes,
        length: usize,
    ) -> Message {
        if form == Form::Event {
            let mut event = Vec::with_capacity(length);
            changes.iter().for_each(|change| event.extend_from_slice(change));
            return Message::new((log_id, form), Some(end), CHANGES, &event);
        }
        let is_small = length <= MAX_COPIED_BYTES;
        let mut out = start_message(log_id, Some(end), if is_small { length } else { 0 });
        fields::put_key(&mut out, CHANGES, length);
        if is_small {
            changes.iter().for_each(|change| out.extend_from_slice(change));
            return Message::complete(out);
        }
        let total = out.len() - framed::PREFIX + length;
        framed::put_prefix(&mut out, total);
        Message { next: framed::shrink(out), rest: Some(Arc::new(changes)), index: 0 }
    }

    /// Returns the message of encoded changes up to a position. If `reached` is None, they are part of a commit that
    /// continues in the next message.
    pub(super) fn of_encoded(
        stream: (LogId, Form),
        reached: Option<&ChainPosition>,
        mut changes: Vec<u8>,
    ) -> Message {
        if reached.is_none() {
            changes.extend_from_slice(&MORE_FOLLOWS);
        }
        Message::new(stream, reached, CHANGES, &changes)
    }

    fn complete(mut out: Vec<u8>) -> Message {
        let length = out.len() - framed::PREFIX;
        framed::put_prefix(&mut out, length);
        Message::whole(framed::shrink(out))
    }

    fn whole(bytes: Bytes) -> Message {
        Message { next: bytes, rest: None, index: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.next.is_empty() && self.rest.is_none()
    }

    /// Whether the message refers to changes that other messages may share.
    pub(super) fn has_shared_changes(&self) -> bool {
        self.rest.is_some()
    }

    /// Returns the bytes that the message holds besides shared changes.
    pub(super) fn own_bytes(&self) -> usize {
        let selected =
            self.rest.as_ref().map_or(0, |rest| size_of::<Changes>() + size_of_val(&*rest.selected));
        self.next.len() + selected
    }

    /// Removes up to `limit` bytes from the front. Returns at least one slice, unless the message is empty.
    pub(super) fn take(&mut self, limit: usize) -> Vec<Bytes> {
        let (mut slices, mut room) = (Vec::new(), limit);
        loop {
            let slice = self.next.split_to(self.next.len().min(room));
            room -= slice.len();
            if !slice.is_empty() {
                slices.push(slice);
            }
            let Some(rest) = self.rest.as_ref().filter(|_| self.next.is_empty()) else { return slices };
            match rest.get(self.index) {
                Some(change) => self.next = change.clone(),
                None => self.rest = None,
            }
            self.index += 1;
            if room == 0 {
                return slices;
            }
        }
    }
}

fn start_message(log_id: LogId, at: Option<&ChainPosition>, length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(framed::PREFIX + length + 80);
    out.resize(framed::PREFIX, 0);
    if let Some(at) = at {
        fields::put_message(&mut out, 1, &position(log_id, at));
    }
    out
}

fn position(log_id: LogId, at: &ChainPosition) -> v1::Position {
    v1::Position {
        log_id: log_id.to_string(),
        revision: at.revision,
        chain: at.chain.map(|chain| Bytes::copy_from_slice(&chain)).unwrap_or_default(),
    }
}
