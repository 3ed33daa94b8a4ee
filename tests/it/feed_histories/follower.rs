//! A follower that applies each message and checks it against the promises of the schema.

use std::collections::BTreeMap;

use cable_client::{
    RawRecord, UpdateKind, View,
    v1::{
        self, EntityKind, FeedChange, FeedFilter, Position, WatchRequest, WatchResponse, feed_change::Change,
        record::Record as Entity, watch_request::Start, watch_response::Event,
    },
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::world::{self, Entry, State, World};
use crate::{
    follow::{self, WatchStream},
    raw::Raw,
    support::Node,
};

/// The filter and options of a feed.
#[derive(Debug, Clone)]
pub(super) struct FeedOptions {
    pub(super) filter: FeedFilter,
    pub(super) view: View,
    pub(super) backfill: bool,
}

#[derive(Debug)]
pub(super) struct Follower {
    pub(super) number: usize,
    pub(super) options: FeedOptions,
    pub(super) reset: bool,
    stream: Option<WatchStream>,
    /// The position of the last message.
    position: Option<Position>,
    /// The revision up to which everything was received.
    received_to: i64,
    held: BTreeMap<String, i64>,
    /// The revision at which it started. Older content is held only if it started with a snapshot.
    since: i64,
    from_snapshot: bool,
    /// The part of an unfinished snapshot that was received.
    snapshot: Option<BTreeMap<String, i64>>,
    /// The number of kills that had returned when the stream was opened.
    kills: usize,
    /// Whether it does not read for a while.
    pub(super) stalled: bool,
}

impl FeedOptions {
    pub(super) fn matches(&self, entity: &Entity) -> bool {
        let FeedFilter { any_tags, sections, authors, kinds, .. } = &self.filter;
        let (kind, empty) = (kind(entity), v1::Article::default());
        let article = if let Entity::Article(article) = entity { article } else { &empty };
        let credits = article.byline.iter().flat_map(|byline| &byline.credits);
        let within = |wanted: &[String], has: Vec<&String>| {
            wanted.is_empty() || has.iter().any(|name| wanted.contains(name))
        };
        (kinds.is_empty() || kinds.contains(&kind.into()))
            && within(any_tags, article.tags.iter().collect())
            && within(sections, article.additional_sections.iter().chain([&article.section]).collect())
            && within(authors, credits.map(|credit| &credit.author).collect())
    }

    /// Asserts that a received entity is the one that was put.
    fn check(&self, received: &RawRecord, put: &Entity) {
        let (mut received, mut put) = (received.decode().unwrap().record.unwrap(), put.clone());
        strip(&mut received);
        if let Entity::Article(article) = &mut put {
            match self.view {
                View::Basic => article.body = None,
                View::Reference => {
                    let complete = std::mem::take(article);
                    (article.name, article.publish_time) = (complete.name, complete.publish_time);
                }
                _ => {}
            }
        }
        assert_eq!(received, put);
    }
}

fn kind(entity: &Entity) -> EntityKind {
    match entity {
        Entity::Article(_) => EntityKind::Article,
        Entity::Author(_) => EntityKind::Author,
        Entity::Section(_) => EntityKind::Section,
        Entity::Tag(_) => EntityKind::Tag,
        Entity::Collection(_) => EntityKind::Collection,
        other => panic!("{other:?}"),
    }
}

/// Removes the fields that the server sets.
fn strip(entity: &mut Entity) {
    macro_rules! strip {
        ($($kind:ident),*) => {
            match entity {
                Entity::Article(article) => {
                    *article = crate::histories::stripped(std::mem::take(article));
                }
                $(Entity::$kind(entity) => {
                    entity.etag.clear();
                    entity.revision = 0;
                    (entity.create_time, entity.update_time) = (None, None);
                })*
                other => panic!("{other:?}"),
            }
        };
    }
    strip!(Author, Section, Tag, Collection);
}

impl Follower {
    pub(super) fn new(number: usize, options: FeedOptions, reset: bool) -> Follower {
        Follower {
            number,
            options,
            reset,
            stream: None,
            position: None,
            received_to: 0,
            held: BTreeMap::new(),
            since: 0,
            from_snapshot: false,
            snapshot: None,
            kills: 0,
            stalled: false,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// Starts from the head, after a revision, or with a snapshot.
    pub(super) async fn start(&mut self, node: &Node, world: &World, start: Option<Start>) {
        self.held.clear();
        self.position = None;
        self.from_snapshot = matches!(start, Some(Start::Snapshot(_)));
        self.since = match &start {
            Some(Start::After(position)) => position.revision,
            _ => world.head,
        };
        self.received_to = self.since;
        self.open(node, world, start).await;
    }

    /// Resumes at its last position.
    pub(super) async fn resume(&mut self, node: &Node, world: &World) {
        match self.position.clone() {
            Some(position) => {
                self.received_to = position.revision;
                self.open(node, world, Some(Start::After(position))).await;
            }
            None => self.start(node, world, Some(Start::Snapshot(true))).await,
        }
    }

    async fn open(&mut self, node: &Node, world: &World, start: Option<Start>) {
        let mut request = WatchRequest::default();
        request.filter = Some(self.options.filter.clone());
        request.view = self.options.view.into();
        request.include_backfill = self.options.backfill;
        request.allow_reset = self.reset;
        request.checkpoint_interval = Some(cable_client::ProtoDuration { seconds: 1, nanos: 0 });
        let resumed = matches!(start, Some(Start::After(_)));
        request.start = start;
        self.snapshot = (request.start == Some(Start::Snapshot(true))).then(BTreeMap::new);
        self.kills = world.kills;
        let opened = WatchStream::open_on(&Raw::narrow(node).await, request).await;
        let compacted = resumed && self.received_to < world.floor;
        match opened {
            Ok(stream) => {
                assert!(self.reset || !compacted, "{} is below the floor {}", self.received_to, world.floor);
                self.stream = Some(stream);
                if compacted {
                    let first = self.stream.as_mut().unwrap().message().await.unwrap();
                    assert!(matches!(first.event, Some(Event::Reset(_))), "{first:?}");
                    self.apply(first, world);
                }
            }
            Err(status) => self.handle_error(&status, world),
        }
    }

    /// Ends the stream and retains the position.
    pub(super) fn disconnect(&mut self) {
        self.stream = None;
        self.stalled = false;
    }

    /// Reads all available messages.
    pub(super) fn apply_ready(&mut self, world: &World) {
        while let Some(message) = self.stream.as_mut().and_then(WatchStream::ready) {
            match message {
                Ok(message) => self.apply(message, world),
                Err(status) => self.handle_error(&status, world),
            }
        }
    }

    pub(super) async fn apply_until(&mut self, node: &Node, world: &World, revision: i64) {
        self.stalled = false;
        while self.stream.is_none() || self.snapshot.is_some() || self.received_to < revision {
            let Some(stream) = &mut self.stream else {
                self.resume(node, world).await;
                continue;
            };
            match stream.message().await {
                Ok(message) => self.apply(message, world),
                Err(status) => self.handle_error(&status, world),
            }
        }
    }

    fn handle_error(&mut self, status: &Status, world: &World) {
        self.stream = None;
        match status.code() {
            Code::OutOfRange => {
                assert!(!self.reset, "a reset was allowed: {status:?}");
                let floor = world.floor_by_age(super::HISTORY);
                let details = status.get_error_details();
                let info = details.error_info().unwrap();
                assert_eq!(info.reason, "REVISION_COMPACTED");
                let oldest: i64 = info.metadata["oldest_revision"].parse().unwrap();
                assert!(
                    self.received_to < oldest && oldest <= floor,
                    "{}: {oldest}, at most {floor}",
                    self.received_to
                );
                self.position = None;
            }
            Code::Unavailable => {}
            _ => panic!("{status:?}"),
        }
    }

    fn apply(&mut self, message: WatchResponse, world: &World) {
        let (number, received_to) = (self.number, self.received_to);
        let event = message.event.unwrap();
        let position = message.position;
        if let Some(position) = &position {
            world.check_position(position);
            assert!(position.revision >= received_to, "{number}: {position:?} after {received_to}");
        }
        match (event, position) {
            (Event::Changes(changes), Some(position)) => self.changes(&changes.changes, position, world),
            (Event::Checkpoint(_), Some(position)) => self.changes(&[], position, world),
            (Event::Snapshot(part), None) => self.snapshot(&part.records, world),
            (Event::SnapshotEnd(end), Some(position)) => self.snapshot_end(end.count, position, world),
            (Event::Reset(reset), None) => {
                assert_eq!(reset.reason(), v1::FeedResetReason::Compacted);
                let floor = world.floor_by_age(super::HISTORY);
                assert!(
                    self.reset && received_to < floor,
                    "{number}: a reset at {received_to}, not below {floor}"
                );
                self.held.clear();
                self.position = None;
                self.snapshot = Some(BTreeMap::new());
            }
            (event, position) => panic!("{number}: {event:?} at {position:?}"),
        }
    }

    fn changes(&mut self, changes: &[FeedChange], position: Position, world: &World) {
        assert!(self.snapshot.is_none(), "{}: the snapshot has not ended", self.number);
        let mut received = BTreeMap::new();
        let mut last = self.received_to;
        for change in changes {
            assert!(change.revision > last, "{}: {} after {last}", self.number, change.revision);
            last = change.revision;
            received.insert(change.revision, self.change(change, world));
        }
        assert!(position.revision >= last, "{}: {position:?} after {last}", self.number);
        for (revision, matches) in &received {
            let name = world.entries[revision].name.clone();
            match matches {
                true => self.held.insert(name, *revision),
                false => self.held.remove(&name),
            };
        }
        for (revision, entry) in world.newest_within(self.received_to, position.revision) {
            assert_eq!(
                self.held.get(&entry.name).copied(),
                self.should_hold(entry).then_some(revision),
                "{} between {} and {}: {received:?}, {entry:?}, {:?}",
                self.number,
                self.received_to,
                position.revision,
                self.options
            );
        }
        self.received_to = position.revision;
        self.position = Some(position);
    }

    /// Returns whether an entry that is the newest of its name is held once it was received.
    fn should_hold(&self, entry: &Entry) -> bool {
        let State::Live(entity) = &entry.state else { return false };
        self.options.matches(entity) && (self.options.backfill || entry.kind != UpdateKind::Backfill)
    }

    /// Checks a change. Returns whether the name matches after it.
    fn change(&self, change: &FeedChange, world: &World) -> bool {
        let (number, revision) = (self.number, change.revision);
        let entry = world.entries.get(&revision).unwrap_or_else(|| panic!("{number}: {change:?}"));
        assert_eq!(change.time, Some(world::timestamp(entry.time)), "{number}: {change:?}");
        let received = change.change.as_ref().unwrap();
        let matches = match (received, &entry.state) {
            (Change::Upsert(record), State::Live(_)) => {
                self.upsert(record, revision, world);
                assert!(self.options.backfill || entry.kind != UpdateKind::Backfill, "{number}: {change:?}");
                true
            }
            (Change::Left(name), State::Live(_) | State::Removed(..)) => {
                assert_eq!(*name, entry.name);
                let left = matches!(&entry.state, State::Live(entity) if !self.options.matches(entity));
                assert!(left || !world.is_newest(name, revision), "{number}: {change:?} and {entry:?}");
                return false;
            }
            (Change::Removed(tombstone), State::Removed(reason, target)) => {
                assert_eq!((&tombstone.name, tombstone.revision), (&entry.name, revision));
                assert_eq!((tombstone.reason(), &tombstone.moved_to), (*reason, target), "{number}");
                false
            }
            _ => panic!("{number}: {change:?} and not {entry:?}"),
        };
        assert_eq!(change.update_kind(), entry.kind, "{number}: {change:?}");
        matches
    }

    fn upsert(&self, record: &RawRecord, revision: i64, world: &World) {
        let entry = &world.entries[&revision];
        let State::Live(entity) = &entry.state else { panic!("{}: {record:?} for {entry:?}", self.number) };
        assert!(!world.is_killed(revision, self.kills), "{}: killed content at {revision}", self.number);
        assert!(self.options.matches(entity), "{}: {entity:?} for {:?}", self.number, self.options);
        self.options.check(record, entity);
    }

    fn snapshot(&mut self, records: &[RawRecord], world: &World) {
        for record in records {
            let (name, revision) = follow::name(&record.decode().unwrap());
            self.upsert(record, revision, world);
            let snapshot = self.snapshot.as_mut().expect("part of no snapshot");
            assert_eq!(snapshot.insert(name, revision), None, "{}: twice in a snapshot", self.number);
        }
    }

    fn snapshot_end(&mut self, count: i64, position: Position, world: &World) {
        let snapshot = self.snapshot.take().expect("the end of no snapshot");
        assert_eq!(snapshot.len() as i64, count);
        assert!(snapshot.values().all(|revision| *revision <= position.revision));
        for (revision, entry, entity) in world.all_live() {
            if revision <= position.revision && self.options.matches(entity) {
                assert_eq!(snapshot.get(&entry.name), Some(&revision), "{}: {entry:?}", self.number);
            }
        }
        self.held = snapshot;
        self.from_snapshot = true;
        (self.since, self.received_to) = (position.revision, position.revision);
        self.position = Some(position);
    }

    /// Asserts that a follower that has caught up holds exactly the matching content, as far as it requested it.
    pub(super) fn check_held(&self, world: &World) {
        assert_eq!(self.received_to, world.head);
        let is_expected = |revision, entry: &Entry| match revision <= self.since {
            true => self.from_snapshot,
            false => self.options.backfill || entry.kind != UpdateKind::Backfill,
        };
        let matching = world.all_live().filter(|(.., entity)| self.options.matches(entity));
        let expected: BTreeMap<String, i64> = matching
            .filter(|(revision, entry, _)| is_expected(*revision, entry))
            .map(|(revision, entry, _)| (entry.name.clone(), revision))
            .collect();
        assert_eq!(self.held, expected, "{} of {:?}", self.number, self.options);
    }
}
