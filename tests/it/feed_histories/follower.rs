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
    follow::{self, Follow},
    raw::Raw,
    support::Node,
};

/// The filter and options of a feed.
#[derive(Debug, Clone)]
pub(super) struct Interest {
    pub(super) filter: FeedFilter,
    pub(super) view: View,
    pub(super) backfill: bool,
}

#[derive(Debug)]
pub(super) struct Follower {
    pub(super) number: usize,
    pub(super) interest: Interest,
    pub(super) reset: bool,
    stream: Option<Follow>,
    /// The position of the last message.
    position: Option<Position>,
    /// The revision up to which everything was received.
    place: i64,
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

impl Interest {
    pub(super) fn matches(&self, entity: &Entity) -> bool {
        let FeedFilter { any_tags, sections, authors, kinds, .. } = &self.filter;
        let (kind, empty) = (kind(entity), v1::Article::default());
        let article = if let Entity::Article(article) = entity { article } else { &empty };
        let credits = article.byline.iter().flat_map(|byline| &byline.credits);
        let within = |asked: &[String], has: Vec<&String>| {
            asked.is_empty() || has.iter().any(|name| asked.contains(name))
        };
        (kinds.is_empty() || kinds.contains(&kind.into()))
            && within(any_tags, article.tags.iter().collect())
            && within(sections, article.additional_sections.iter().chain([&article.section]).collect())
            && within(authors, credits.map(|credit| &credit.author).collect())
    }

    /// Asserts that a received entity is the one that was put.
    fn check(&self, told: &RawRecord, put: &Entity) {
        let (mut told, mut put) = (told.decode().unwrap().record.unwrap(), put.clone());
        strip(&mut told);
        if let Entity::Article(article) = &mut put {
            match self.view {
                View::Basic => article.body = None,
                View::Reference => {
                    let whole = std::mem::take(article);
                    (article.name, article.publish_time) = (whole.name, whole.publish_time);
                }
                _ => {}
            }
        }
        assert_eq!(told, put);
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
    pub(super) fn new(number: usize, interest: Interest, reset: bool) -> Follower {
        Follower {
            number,
            interest,
            reset,
            stream: None,
            position: None,
            place: 0,
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
    pub(super) async fn begin(&mut self, node: &Node, world: &World, start: Option<Start>) {
        self.held.clear();
        self.position = None;
        self.from_snapshot = matches!(start, Some(Start::Snapshot(_)));
        self.since = match &start {
            Some(Start::After(position)) => position.revision,
            _ => world.head,
        };
        self.place = self.since;
        self.open(node, world, start).await;
    }

    /// Resumes at its last position.
    pub(super) async fn resume(&mut self, node: &Node, world: &World) {
        match self.position.clone() {
            Some(position) => {
                self.place = position.revision;
                self.open(node, world, Some(Start::After(position))).await;
            }
            None => self.begin(node, world, Some(Start::Snapshot(true))).await,
        }
    }

    async fn open(&mut self, node: &Node, world: &World, start: Option<Start>) {
        let mut request = WatchRequest::default();
        request.filter = Some(self.interest.filter.clone());
        request.view = self.interest.view.into();
        request.include_backfill = self.interest.backfill;
        request.reset = self.reset;
        request.checkpoint_interval = Some(cable_client::ProtoDuration { seconds: 1, nanos: 0 });
        let resumed = matches!(start, Some(Start::After(_)));
        request.start = start;
        self.snapshot = (request.start == Some(Start::Snapshot(true))).then(BTreeMap::new);
        self.kills = world.kills;
        let opened = Follow::open_on(&Raw::narrow(node).await, request).await;
        let compacted = resumed && self.place < world.floor;
        match opened {
            Ok(stream) => {
                assert!(self.reset || !compacted, "{} is below the floor {}", self.place, world.floor);
                self.stream = Some(stream);
                if compacted {
                    let first = self.stream.as_mut().unwrap().message().await.unwrap();
                    assert!(matches!(first.event, Some(Event::Reset(_))), "{first:?}");
                    self.take(first, world);
                }
            }
            Err(status) => self.end(&status, world),
        }
    }

    /// Ends the stream and retains the position.
    pub(super) fn kill(&mut self) {
        self.stream = None;
        self.stalled = false;
    }

    /// Reads all available messages.
    pub(super) fn take_ready(&mut self, world: &World) {
        while let Some(message) = self.stream.as_mut().and_then(Follow::ready) {
            match message {
                Ok(message) => self.take(message, world),
                Err(status) => self.end(&status, world),
            }
        }
    }

    pub(super) async fn take_until(&mut self, node: &Node, world: &World, revision: i64) {
        self.stalled = false;
        while self.stream.is_none() || self.snapshot.is_some() || self.place < revision {
            let Some(stream) = &mut self.stream else {
                self.resume(node, world).await;
                continue;
            };
            match stream.message().await {
                Ok(message) => self.take(message, world),
                Err(status) => self.end(&status, world),
            }
        }
    }

    fn end(&mut self, status: &Status, world: &World) {
        self.stream = None;
        match status.code() {
            Code::OutOfRange => {
                assert!(!self.reset, "a reset was allowed: {status:?}");
                let floor = world.floor_by_age(super::HISTORY);
                let details = status.get_error_details();
                let info = details.error_info().unwrap();
                assert_eq!(info.reason, "REVISION_COMPACTED");
                let oldest: i64 = info.metadata["oldest_revision"].parse().unwrap();
                assert!(self.place < oldest && oldest <= floor, "{}: {oldest}, at most {floor}", self.place);
                self.position = None;
            }
            Code::Unavailable => {}
            _ => panic!("{status:?}"),
        }
    }

    fn take(&mut self, message: WatchResponse, world: &World) {
        let (number, place) = (self.number, self.place);
        let event = message.event.unwrap();
        let position = message.position;
        if let Some(position) = &position {
            world.check_position(position);
            assert!(position.revision >= place, "{number}: {position:?} after {place}");
        }
        match (event, position) {
            (Event::Changes(changes), Some(position)) => self.changes(&changes.changes, position, world),
            (Event::Checkpoint(_), Some(position)) => self.changes(&[], position, world),
            (Event::Snapshot(part), None) => self.snapshot(&part.records, world),
            (Event::SnapshotEnd(end), Some(position)) => self.snapshot_end(end.count, position, world),
            (Event::Reset(reset), None) => {
                assert_eq!(reset.reason(), v1::FeedResetReason::Compacted);
                let floor = world.floor_by_age(super::HISTORY);
                assert!(self.reset && place < floor, "{number}: a reset at {place}, not below {floor}");
                self.held.clear();
                self.position = None;
                self.snapshot = Some(BTreeMap::new());
            }
            (event, position) => panic!("{number}: {event:?} at {position:?}"),
        }
    }

    fn changes(&mut self, changes: &[FeedChange], position: Position, world: &World) {
        assert!(self.snapshot.is_none(), "{}: the snapshot has not ended", self.number);
        let mut told = BTreeMap::new();
        let mut last = self.place;
        for change in changes {
            assert!(change.revision > last, "{}: {} after {last}", self.number, change.revision);
            last = change.revision;
            told.insert(change.revision, self.change(change, world));
        }
        assert!(position.revision >= last, "{}: {position:?} after {last}", self.number);
        for (revision, matches) in &told {
            let name = world.entries[revision].name.clone();
            match matches {
                true => self.held.insert(name, *revision),
                false => self.held.remove(&name),
            };
        }
        for (revision, entry) in world.newest_within(self.place, position.revision) {
            assert_eq!(
                self.held.get(&entry.name).copied(),
                self.is_to_hold(entry).then_some(revision),
                "{} between {} and {}: {told:?}, {entry:?}, {:?}",
                self.number,
                self.place,
                position.revision,
                self.interest
            );
        }
        self.place = position.revision;
        self.position = Some(position);
    }

    /// Returns whether an entry that is the newest of its name is held once it was received.
    fn is_to_hold(&self, entry: &Entry) -> bool {
        let State::Live(entity) = &entry.state else { return false };
        self.interest.matches(entity) && (self.interest.backfill || entry.kind != UpdateKind::Backfill)
    }

    /// Checks a change. Returns whether the name matches after it.
    fn change(&self, change: &FeedChange, world: &World) -> bool {
        let (number, revision) = (self.number, change.revision);
        let entry = world.entries.get(&revision).unwrap_or_else(|| panic!("{number}: {change:?}"));
        assert_eq!(change.time, Some(world::timestamp(entry.time)), "{number}: {change:?}");
        let told = change.change.as_ref().unwrap();
        let matches = match (told, &entry.state) {
            (Change::Upsert(record), State::Live(_)) => {
                self.upsert(record, revision, world);
                assert!(self.interest.backfill || entry.kind != UpdateKind::Backfill, "{number}: {change:?}");
                true
            }
            (Change::Left(name), State::Live(_) | State::Removed(..)) => {
                assert_eq!(*name, entry.name);
                let left = matches!(&entry.state, State::Live(entity) if !self.interest.matches(entity));
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
        assert!(self.interest.matches(entity), "{}: {entity:?} for {:?}", self.number, self.interest);
        self.interest.check(record, entity);
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
            if revision <= position.revision && self.interest.matches(entity) {
                assert_eq!(snapshot.get(&entry.name), Some(&revision), "{}: {entry:?}", self.number);
            }
        }
        self.held = snapshot;
        self.from_snapshot = true;
        (self.since, self.place) = (position.revision, position.revision);
        self.position = Some(position);
    }

    /// Asserts that a follower that has caught up holds exactly the matching content, as far as it requested it.
    pub(super) fn check_held(&self, world: &World) {
        assert_eq!(self.place, world.head);
        let told = |revision, entry: &Entry| match revision <= self.since {
            true => self.from_snapshot,
            false => self.interest.backfill || entry.kind != UpdateKind::Backfill,
        };
        let matching = world.all_live().filter(|(.., entity)| self.interest.matches(entity));
        let expected: BTreeMap<String, i64> = matching
            .filter(|(revision, entry, _)| told(*revision, entry))
            .map(|(revision, entry, _)| (entry.name.clone(), revision))
            .collect();
        assert_eq!(self.held, expected, "{} of {:?}", self.number, self.interest);
    }
}
