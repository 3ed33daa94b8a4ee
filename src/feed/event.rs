//! The events of commits, as followers receive them: the filters that they concern, and their encodings. The changes of
//! a commit are encoded once for each shape and outcome, and all messages share them.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use prost::Message as _;

use super::message::{Changes, Form, MAX_CHANGES_BYTES, Message};
use crate::{
    compose::{self, Shape},
    entry::Term,
    model::{Kind, LogId, Revision},
    store::{
        Record,
        history::{ChainPosition, Commit, Event, EventDamage},
    },
    wire::{fields, v1::UpdateKind},
};

/// The kind of change that an event is for the followers of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Outcome {
    Upsert,
    Left,
    Removed,
}

/// The number of outcomes.
const OUTCOMES: usize = 3;

/// A change in a message: the index of the event in its commit, and its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Selected {
    pub(super) event: u32,
    pub(super) outcome: Outcome,
}

impl Selected {
    pub(super) fn index(self) -> usize {
        self.event as usize * OUTCOMES + self.outcome as usize
    }
}

/// How changes are encoded for followers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Encoding {
    pub(super) log_id: LogId,
    pub(super) shape: Shape,
    /// Whether the followers are limited to some articles.
    pub(super) is_limited: bool,
}

/// The events of one commit, with the changes and messages already encoded for followers.
#[derive(Debug)]
pub(super) struct CommitEvents {
    pub(super) events: Vec<Event>,
    pub(super) end: ChainPosition,
    blocks: Vec<Block>,
    encodings: HashMap<Encoding, Encodings>,
}

/// The changes of a commit in one encoding.
#[derive(Debug)]
struct Encodings {
    /// One FeedChange, as a field of FeedChanges, for each [`Selected::index`].
    changes: Arc<[OnceLock<Bytes>]>,
    /// Bytes of `changes`.
    bytes: usize,
    /// Whether a message refers to `changes` instead of holding a copy.
    is_shared: bool,
    messages: HashMap<(Form, Box<[Selected]>), Message>,
    /// Bytes of the messages without the shared changes.
    message_bytes: usize,
}

impl CommitEvents {
    /// Indexes the events of a commit. `only` is the set of lists that filters will look up; None means any list.
    pub(super) fn new(commit: Commit, only: Option<&HashSet<&Term>>) -> CommitEvents {
        let blocks = commit.events.chunks(Block::SIZE).map(|events| Block::new(events, only)).collect();
        CommitEvents { events: commit.events, end: commit.end, blocks, encodings: HashMap::new() }
    }

    /// Returns the lists that any event concerns, each at least once.
    pub(super) fn terms(&self) -> impl Iterator<Item = &Term> {
        self.blocks.iter().flat_map(|block| block.lists.keys())
    }

    /// Returns the changes for the followers of a filter.
    pub(super) fn select(&self, filter: &super::Filter, backfill: bool) -> Box<[Selected]> {
        let mut selected = Vec::new();
        for (i, block) in self.blocks.iter().enumerate() {
            let outcomes = filter.outcomes(block, backfill);
            for bit in 0..Block::SIZE {
                if let Some(outcome) = outcomes.get(bit) {
                    selected.push(Selected { event: (i * Block::SIZE + bit) as u32, outcome });
                }
            }
        }
        selected.into()
    }

    /// Whether an event concerns the followers of every list.
    pub(super) fn has_unknown_lists(&self) -> bool {
        let unknown_lists =
            |block: &Block| block.unknown | block.leaves_any | (block.left_any & block.newest & !block.live);
        self.blocks.iter().any(|block| unknown_lists(block) != 0)
    }

    pub(super) fn first_revision(&self, selected: &[Selected]) -> Option<Revision> {
        selected.first().map(|first| self.events[first.event as usize].revision)
    }

    /// Returns the message of all these changes, which groups with the same changes share. None if it would exceed the
    /// maximum message size, or if the encodings of the commit would exceed `budget` bytes.
    pub(super) fn message(
        &mut self,
        selected: Box<[Selected]>,
        (encoding, form): (Encoding, Form),
        budget: usize,
    ) -> Option<Message> {
        let (events, end) = (&self.events, &self.end);
        let used: usize =
            self.encodings.values().map(|encodings| encodings.bytes + encodings.message_bytes).sum();
        let encodings = self.encodings.entry(encoding).or_insert_with(|| Encodings::new(events.len()));
        let key = (form, selected);
        if let Some(message) = encodings.messages.get(&key) {
            return Some(message.clone());
        }
        let (bytes_before, mut length) = (encodings.bytes, 0);
        for change in &key.1 {
            length += encodings.encode(&events[change.event as usize], *change, encoding);
            if length > MAX_CHANGES_BYTES || used + (encodings.bytes - bytes_before) > budget {
                return None;
            }
        }
        let changes = Changes { encoded: encodings.changes.clone(), selected: key.1.clone() };
        let message = Message::of_changes((encoding.log_id, form), end, changes, length);
        encodings.is_shared |= message.has_shared_changes();
        encodings.message_bytes += message.own_bytes();
        encodings.messages.insert(key, message.clone());
        Some(message)
    }

    /// Returns the bytes that the messages retain in memory, with each shared encoding counted once.
    pub(super) fn retained_bytes(&self) -> usize {
        let shared = |encodings: &Encodings| if encodings.is_shared { encodings.bytes } else { 0 };
        self.encodings.values().map(|encodings| encodings.message_bytes + shared(encodings)).sum()
    }
}

impl Encodings {
    fn new(events: usize) -> Encodings {
        let changes = std::iter::repeat_with(OnceLock::new).take(events * OUTCOMES).collect();
        Encodings { changes, bytes: 0, is_shared: false, messages: HashMap::new(), message_bytes: 0 }
    }

    /// Encodes a change, unless it is encoded already. Returns its length.
    fn encode(&mut self, event: &Event, selected: Selected, encoding: Encoding) -> usize {
        let change = &self.changes[selected.index()];
        if let Some(encoded) = change.get() {
            return encoded.len();
        }
        let mut encoded = Vec::new();
        fields::put_bytes(&mut encoded, 1, &encode(event, selected.outcome, encoding));
        let length = encoded.len();
        self.bytes += length + size_of::<OnceLock<Bytes>>() * OUTCOMES;
        // No other thread sets it.
        let _not_set_before = change.set(crate::wire::framed::shrink(encoded));
        length
    }
}

/// Encodes a FeedChange.
pub(super) fn encode(event: &Event, outcome: Outcome, encoding: Encoding) -> Vec<u8> {
    match encoding.is_limited {
        true => encode_all(&limited(event, outcome), outcome, encoding),
        false => encode_all(event, outcome, encoding),
    }
}

/// Returns an event without what it shows of other articles, or of the article itself while it was outside the scope:
/// the lists and paths that it had, the name to which it has moved, and whether it has changed since it left.
fn limited(event: &Event, outcome: Outcome) -> Event {
    let mut event = event.clone();
    event.departures.clear();
    event.newest.log.former_paths.clear();
    event.newest.log.moved_to.clear();
    if outcome == Outcome::Left && event.newest.name.kind == Kind::Article {
        event.newest.log.update_kind = 0;
    }
    event
}

fn encode_all(event: &Event, outcome: Outcome, encoding: Encoding) -> Vec<u8> {
    let (newest, mut out) = (&event.newest, Vec::new());
    let log = &newest.log;
    fields::put_varint(&mut out, 1, event.revision.unsigned_abs());
    fields::put_time(&mut out, 2, event.time);
    if event.is_newest() && event.damage == EventDamage::None {
        fields::put_varint(&mut out, 3, u64::from(log.update_kind.unsigned_abs()));
    }
    match outcome {
        Outcome::Upsert if event.damage != EventDamage::None => {
            fields::put_string(&mut out, 9, &newest.name.to_string());
        }
        Outcome::Upsert => {
            fields::put_bytes(&mut out, 4, &encode_record(newest, encoding));
            for former in &log.former_paths {
                fields::put_string(&mut out, 8, &former.path);
            }
        }
        Outcome::Left => fields::put_string(&mut out, 5, &newest.name.to_string()),
        Outcome::Removed => {
            let tombstone = compose::tombstone(newest);
            fields::put_bytes(&mut out, 6, &tombstone.encode_to_vec());
        }
    }
    if outcome != Outcome::Left {
        let departures = event.departures.iter().filter(|(_, at)| *at == event.revision);
        for name in departures.filter_map(|(term, _)| term.name()) {
            fields::put_string(&mut out, 7, &name);
        }
    }
    out
}

/// Encodes a Record with an entity.
pub(super) fn record(mut record: Record, encoding: Encoding) -> Vec<u8> {
    if encoding.is_limited {
        record.log.former_paths.clear();
    }
    encode_record(&record, encoding)
}

fn encode_record(record: &Record, Encoding { log_id, shape, .. }: Encoding) -> Vec<u8> {
    let entity = compose::entity(record, log_id, shape);
    let mut out = Vec::with_capacity(entity.len() + 8);
    // The field numbers of Record are the numbers of the kinds.
    fields::put_bytes(&mut out, record.name.kind as u32, &entity);
    out
}

/// Up to 64 events, one bit each, indexed by the conditions of filters.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// The name exists now.
    pub(super) live: u64,
    /// The name has not changed since the event.
    pub(super) newest: u64,
    pub(super) backfill: u64,
    /// The lists of the name are unknown. A filter may match.
    pub(super) unknown: u64,
    /// At this event the article may have left any list.
    pub(super) leaves_any: u64,
    /// The article may have left any list at some time.
    pub(super) left_any: u64,
    kinds: [u64; Kind::ALL.len()],
    lists: HashMap<Term, List>,
}

/// The events of a block that concern one list, one bit each.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct List {
    /// The article is in the list now.
    pub(super) has: u64,
    /// The article has left the list at some time, as far as the history shows.
    pub(super) left: u64,
    /// At this event the article leaves the list.
    pub(super) leaves: u64,
}

impl Block {
    pub(super) const SIZE: usize = u64::BITS as usize;

    fn new(events: &[Event], only: Option<&HashSet<&Term>>) -> Block {
        let mut block = Block::default();
        for (i, event) in events.iter().enumerate() {
            let bit = 1 << i;
            let set = |mask: &mut u64, value: bool| *mask |= if value { bit } else { 0 };
            let is_newest = event.is_newest();
            set(&mut block.live, event.newest.is_put());
            set(&mut block.newest, is_newest);
            set(&mut block.backfill, is_newest && event.newest.log.update_kind() == UpdateKind::Backfill);
            set(&mut block.unknown, event.damage == EventDamage::All);
            set(&mut block.leaves_any, event.leaves_any());
            set(&mut block.left_any, event.left_any());
            block.kinds[event.newest.name.kind as usize - 1] |= bit;
            let mut update_list = |term: &Term, update: &dyn Fn(&mut List)| match block.lists.get_mut(term) {
                Some(list) => update(list),
                None if only.is_none_or(|only| only.contains(term)) => {
                    update(block.lists.entry(term.clone()).or_default());
                }
                None => {}
            };
            for term in &event.terms {
                update_list(term, &|list| list.has |= bit);
            }
            for (term, at) in &event.departures {
                update_list(term, &|list| {
                    list.left |= bit;
                    set(&mut list.leaves, *at == event.revision);
                });
            }
        }
        block
    }

    pub(super) fn of_kind(&self, kind: Kind) -> u64 {
        self.kinds[kind as usize - 1]
    }

    pub(super) fn list(&self, term: &Term) -> List {
        self.lists.get(term).copied().unwrap_or_default()
    }
}

/// The outcomes of the events of a block for one filter, one bit each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcomes {
    pub(super) upsert: u64,
    pub(super) left: u64,
    pub(super) removed: u64,
}

impl Outcomes {
    pub(super) const NONE: Outcomes = Outcomes { upsert: 0, left: 0, removed: 0 };

    /// Returns the outcome of one event. None if the event does not concern the filter.
    fn get(&self, event: usize) -> Option<Outcome> {
        let is_set = |mask: u64| mask & (1 << event) != 0;
        let outcomes =
            [(self.upsert, Outcome::Upsert), (self.left, Outcome::Left), (self.removed, Outcome::Removed)];
        outcomes.into_iter().find(|(mask, _)| is_set(*mask)).map(|(_, outcome)| outcome)
    }
}
