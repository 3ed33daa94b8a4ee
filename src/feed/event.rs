//! Entries as followers see them, encoded once for all whom they concern alike.

use std::sync::Mutex;

use bytes::Bytes;
use prost::Message as _;

use super::filter::{Filter, Outcome};
use crate::{
    compose::{self, Shape},
    entry::{Derived, Term},
    model::{LogId, Name, Revision},
    store::{
        Record,
        history::{self, Commit, Place},
    },
    wire::{
        fields, framed,
        v1::{self, UpdateKind},
    },
};

/// What has become of a name at a revision.
#[derive(Debug)]
pub(super) struct Event {
    event: history::Event,
    /// Tags, sections and authors that the article belongs to now.
    terms: Vec<Term>,
    /// What it has left, each with the revision. Sorted, none twice.
    left: Vec<(Term, Revision)>,
    /// At or below this revision it may have left any list.
    left_floor: Revision,
}

impl Event {
    fn new(event: history::Event) -> Event {
        let newest = &event.newest;
        let Derived { terms, mut left, left_floor, .. } = Derived::standing(&newest.name, &newest.log);
        for (_, at) in left.iter_mut().filter(|(_, at)| *at == 0) {
            *at = newest.revision;
        }
        Event { terms, left, left_floor, event }
    }

    pub(super) fn name(&self) -> &Name {
        &self.event.newest.name
    }

    pub(super) fn revision(&self) -> Revision {
        self.event.revision
    }

    /// Whether nothing has happened to the name since.
    pub(super) fn is_newest(&self) -> bool {
        self.event.revision == self.event.newest.revision
    }

    /// Whether the name is there now.
    pub(super) fn is_live(&self) -> bool {
        self.event.newest.is_put()
    }

    pub(super) fn has(&self, term: &Term) -> bool {
        self.terms.binary_search(term).is_ok()
    }

    /// Whether the event is that the article has left a list.
    pub(super) fn leaves(&self, term: &Term) -> bool {
        self.departure(term) == Some(self.event.revision)
    }

    /// Whether it has ever left a list, as far as is known.
    pub(super) fn left(&self, term: &Term) -> bool {
        self.departure(term).is_some()
    }

    fn departure(&self, term: &Term) -> Option<Revision> {
        let found = self.left.binary_search_by(|(left, _)| left.cmp(term)).ok()?;
        Some(self.left[found].1)
    }

    /// Whether the event is that the article may have left any list.
    pub(super) fn leaves_any(&self) -> bool {
        self.event.revision == self.left_floor
    }

    /// Whether it may ever have left any list: some of its departures are unknown.
    pub(super) fn left_any(&self) -> bool {
        self.left_floor > 0
    }

    /// Whether the event concerns followers of every list.
    pub(super) fn concerns_all(&self) -> bool {
        self.leaves_any() || (self.left_any() && self.is_newest() && !self.is_live())
    }

    /// All lists that feeds can follow and the event can be told to.
    pub(super) fn concerned(&self) -> impl Iterator<Item = &Term> {
        self.terms.iter().chain(self.left.iter().map(|(term, _)| term))
    }

    pub(super) fn is_backfill(&self) -> bool {
        self.is_newest() && self.event.newest.log.update_kind() == UpdateKind::Backfill
    }

    /// A FeedChange.
    fn encode(&self, outcome: Outcome, log_id: LogId, shape: Shape) -> Vec<u8> {
        let (newest, mut out) = (&self.event.newest, Vec::new());
        let log = &newest.log;
        fields::put_varint(&mut out, 1, self.event.revision.unsigned_abs());
        fields::put_time(&mut out, 2, self.event.time);
        if self.is_newest() {
            fields::put_varint(&mut out, 3, u64::from(log.update_kind.unsigned_abs()));
        }
        match outcome {
            Outcome::Upsert => {
                fields::put_bytes(&mut out, 4, &record(newest, log_id, shape));
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
            for left in &log.left {
                fields::put_string(&mut out, 7, &left.name);
            }
        }
        out
    }
}

/// A Record that holds an entity.
pub(super) fn record(record: &Record, log_id: LogId, shape: Shape) -> Vec<u8> {
    let entity = compose::entity(record, log_id, shape);
    let mut out = Vec::with_capacity(entity.len() + 8);
    // The numbers of Record's fields are those of the kinds.
    fields::put_bytes(&mut out, record.name.kind as u32, &entity);
    out
}

/// What is left of a commit, as followers see it.
pub(super) struct Told {
    pub(super) events: Vec<Event>,
    pub(super) end: Place,
    /// Messages made so far, each with what it was made for.
    messages: Mutex<Vec<(Shape, Outcomes, Bytes)>>,
}

/// What of a commit a message tells: places of events, and what each is.
type Outcomes = Vec<(usize, Outcome)>;

impl Told {
    pub(super) fn new(commit: Commit) -> Told {
        let events = commit.events.into_iter().map(Event::new).collect();
        Told { events, end: commit.end, messages: Mutex::default() }
    }

    /// What a filter's followers are told of it.
    pub(super) fn outcomes(&self, filter: &Filter, backfill: bool) -> Outcomes {
        let events = self.events.iter().enumerate().filter(|(_, event)| backfill || !event.is_backfill());
        events.filter_map(|(i, event)| Some((i, filter.outcome(event)?))).collect()
    }

    /// The message that says so, framed; the same bytes for all who are told the same.
    pub(super) fn message(&self, outcomes: Outcomes, log_id: LogId, shape: Shape) -> Bytes {
        let mut messages = self.messages.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let made = messages.iter().find(|(s, o, _)| *s == shape && *o == outcomes);
        if let Some((.., bytes)) = made {
            return bytes.clone();
        }
        let mut changes = Vec::new();
        self.put_changes(&mut changes, &outcomes, log_id, shape);
        let bytes = message(log_id, Some(&self.end), CHANGES, &changes);
        messages.push((shape, outcomes, bytes.clone()));
        bytes
    }

    /// Adds what is told to a FeedChanges.
    pub(super) fn put_changes(
        &self,
        changes: &mut Vec<u8>,
        told: &[(usize, Outcome)],
        log_id: LogId,
        shape: Shape,
    ) {
        for (i, outcome) in told {
            fields::put_bytes(changes, 1, &self.events[*i].encode(*outcome, log_id, shape));
        }
    }
}

/// Numbers of what a WatchResponse can tell.
pub(super) const CHANGES: u32 = 2;
pub(super) const SNAPSHOT: u32 = 3;
pub(super) const SNAPSHOT_END: u32 = 4;
pub(super) const CHECKPOINT: u32 = 5;
pub(super) const RESET: u32 = 6;

/// A framed WatchResponse.
pub(super) fn message(log_id: LogId, at: Option<&Place>, field: u32, event: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(framed::PREFIX + event.len() + 80);
    out.resize(framed::PREFIX, 0);
    if let Some(place) = at {
        fields::put_message(&mut out, 1, &position(log_id, place));
    }
    fields::put_bytes(&mut out, field, event);
    let length = out.len() - framed::PREFIX;
    framed::put_prefix(&mut out, length);
    framed::kept(out)
}

fn position(log_id: LogId, place: &Place) -> v1::Position {
    v1::Position {
        log_id: log_id.to_string(),
        revision: place.revision,
        chain: place.chain.map(|chain| Bytes::copy_from_slice(&chain)).unwrap_or_default(),
    }
}
