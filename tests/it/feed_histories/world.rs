//! The expected history: every entry, derived from the responses to the writes and from the clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Included},
};

use bytes::Bytes;
use cable_client::{
    Change, RemovalReason, Timestamp, UpdateKind,
    v1::{self, Position, WriteResult, record::Record as Entity},
};

/// One entry of the log.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) name: String,
    /// The first revision of its commit, and the last one.
    first: i64,
    end: i64,
    /// The time of the entry in microseconds since 1970 UTC.
    pub(super) time: i64,
    pub(super) kind: UpdateKind,
    pub(super) state: State,
}

/// The state of a name after an entry.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum State {
    Live(Box<Entity>),
    Removed(RemovalReason, String),
    /// The entry concerns a pending version, which readers do not see.
    Unseen,
}

/// A pending version.
#[derive(Debug, Clone)]
struct PendingVersion {
    entity: Box<Entity>,
    /// The time at which the version is due; none until another put sets one.
    due: Option<i64>,
    kind: UpdateKind,
    /// Whether the live version has changed since, so that this version does not become visible.
    held: bool,
}

/// A write of one name.
#[derive(Debug, Clone)]
pub(super) enum Write {
    Put(Box<Entity>, UpdateKind),
    Patch(Box<v1::Article>, Vec<&'static str>),
    Remove(String, RemovalReason, String),
}

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) head: i64,
    pub(super) floor: i64,
    /// The current time in microseconds since 1970 UTC.
    pub(super) now: i64,
    pub(super) entries: BTreeMap<i64, Entry>,
    /// The revisions of the newest entries that readers see, by name.
    newest: BTreeMap<String, i64>,
    pending: BTreeMap<String, PendingVersion>,
    /// The known chain hashes by revision.
    chains: BTreeMap<i64, Bytes>,
    /// The revisions whose content was killed, each with the number of the kill.
    killed: BTreeMap<i64, usize>,
    pub(super) kills: usize,
    /// The names that ever had a version.
    known: BTreeSet<String>,
}

impl Write {
    pub(super) fn name(&self) -> &str {
        match self {
            Write::Put(entity, _) => name(entity),
            Write::Patch(article, _) => &article.name,
            Write::Remove(name, ..) => name,
        }
    }

    /// Returns the change of the request. It allows killed names.
    pub(super) fn change(&self) -> Change {
        match self.clone() {
            Write::Put(entity, kind) => put(*entity).with_update_kind(kind).allow_killed(),
            Write::Patch(article, mask) => Change::patch(*article, mask),
            Write::Remove(name, reason, target) if target.is_empty() => Change::remove(name, reason),
            Write::Remove(name, reason, target) => Change::remove(name, reason).moved_to(target),
        }
    }
}

fn put(entity: Entity) -> Change {
    match entity {
        Entity::Article(article) => Change::put(article),
        Entity::Author(author) => Change::put(author),
        Entity::Section(section) => Change::put(section),
        Entity::Tag(tag) => Change::put(tag),
        Entity::Collection(collection) => Change::put(collection),
        other => panic!("{other:?} is not put"),
    }
}

pub(super) fn name(entity: &Entity) -> &str {
    match entity {
        Entity::Article(entity) => &entity.name,
        Entity::Author(entity) => &entity.name,
        Entity::Section(entity) => &entity.name,
        Entity::Tag(entity) => &entity.name,
        Entity::Collection(entity) => &entity.name,
        other => panic!("{other:?} has no name"),
    }
}

impl World {
    /// Returns an empty history.
    pub(super) fn new(now: i64) -> World {
        World { now, ..World::default() }
    }

    pub(super) fn live(&self, name: &str) -> Option<&Entity> {
        match &self.entries[self.newest.get(name)?].state {
            State::Live(entity) => Some(entity),
            _ => None,
        }
    }

    /// Returns all entities that readers see, with their revisions.
    pub(super) fn all_live(&self) -> impl Iterator<Item = (i64, &Entry, &Entity)> {
        self.newest.values().filter_map(|revision| match &self.entries[revision] {
            entry @ Entry { state: State::Live(entity), .. } => Some((*revision, entry, &**entity)),
            _ => None,
        })
    }

    /// Returns whether a revision is the newest of a name.
    pub(super) fn is_newest(&self, name: &str, revision: i64) -> bool {
        self.newest.get(name) == Some(&revision)
    }

    /// Returns the entries after a revision, up to another, that are still the newest of their names.
    pub(super) fn newest_within(&self, after: i64, to: i64) -> impl Iterator<Item = (i64, &Entry)> {
        let within = self.entries.range((Excluded(after), Included(to)));
        within
            .map(|(revision, entry)| (*revision, entry))
            .filter(|(revision, entry)| self.newest.get(&entry.name) == Some(revision))
    }

    /// Returns whether the name has never had any version.
    pub(super) fn is_new(&self, name: &str) -> bool {
        !self.known.contains(name)
    }

    pub(super) fn all_pending(&self) -> impl Iterator<Item = &str> {
        self.pending.keys().map(String::as_str)
    }

    /// Returns whether the content of a revision was erased by one of the first `kills`.
    pub(super) fn is_killed(&self, revision: i64, kills: usize) -> bool {
        self.killed.get(&revision).is_some_and(|kill| *kill <= kills)
    }

    /// Asserts that a position is not within a commit that has current entries on both sides of it.
    pub(super) fn check_position(&self, position: &Position) {
        let at = position.revision;
        if let Some(entry) = self.entries.get(&at) {
            let parts = [self.newest_within(entry.first - 1, at), self.newest_within(at, entry.end)];
            assert!(parts.map(|mut part| part.next()).contains(&None), "{at} is within a commit");
        }
        if let Some(chain) = self.chains.get(&at).filter(|_| !position.chain.is_empty()) {
            assert_eq!(chain, &position.chain, "the chain at {at}");
        }
    }

    /// Records changes that were committed together, as the response reports them.
    pub(super) fn record(&mut self, writes: &[Write], results: &[WriteResult], position: &Position) {
        let count = position.revision - self.head;
        let mut entries = Vec::new();
        for (write, result) in writes.iter().zip(results).filter(|(_, result)| result.changed) {
            let before = entries.len();
            self.plan(write, &mut entries);
            if writes.len() == 1 && entries.len() as i64 == count + 1 {
                // The record of the former content has been dropped with the history, so no entry replaces it.
                entries.pop();
            }
            assert!(entries.len() > before);
            assert_eq!(result.revision, self.head + entries.len() as i64, "{write:?}: {result:?}");
        }
        self.append(entries);
        assert_eq!(self.head, position.revision, "{writes:?}");
        self.chains.insert(self.head, position.chain.clone());
        if writes.iter().any(|write| matches!(write, Write::Remove(_, RemovalReason::Killed, _))) {
            self.kill(writes);
        }
    }

    fn kill(&mut self, writes: &[Write]) {
        self.kills += 1;
        for write in writes.iter().filter(|write| matches!(write, Write::Remove(_, RemovalReason::Killed, _)))
        {
            let versions = self.entries.iter().filter(|(_, entry)| entry.name == write.name());
            for (revision, _) in versions {
                self.killed.entry(*revision).or_insert(self.kills);
            }
        }
    }

    /// Adds the entries that a change makes.
    fn plan(&mut self, write: &Write, entries: &mut Vec<Entry>) {
        let name = write.name().to_owned();
        self.known.insert(name.clone());
        let entry = |kind, state| Entry { name: name.clone(), first: 0, end: 0, time: self.now, kind, state };
        let unseen = entry(UpdateKind::Major, State::Unseen);
        match write {
            Write::Put(entity, kind) => {
                match due(entity).filter(|due| due.is_none_or(|due| due > self.now)) {
                    Some(due) => {
                        entries.push(unseen);
                        let pending =
                            PendingVersion { entity: entity.clone(), due, kind: *kind, held: false };
                        self.pending.insert(name, pending);
                    }
                    None => {
                        if self.live(&name).is_none() && self.pending.contains_key(&name) {
                            entries.push(unseen);
                        }
                        entries.push(entry(*kind, State::Live(entity.clone())));
                        if self.live(&name).is_none() {
                            self.pending.remove(&name);
                        }
                        self.hold(&name);
                    }
                }
            }
            Write::Patch(patch, mask) => {
                let Some(Entity::Article(article)) = self.live(&name) else { panic!("{name} is not live") };
                let patched = Entity::Article(patched(article.clone(), patch, mask));
                entries.push(entry(UpdateKind::Major, State::Live(patched.into())));
                self.hold(&name);
            }
            Write::Remove(_, reason, target) => {
                let seen = self.newest.contains_key(&name);
                let removed = entry(UpdateKind::Major, State::Removed(*reason, target.clone()));
                if self.pending.remove(&name).is_some() {
                    entries.push(unseen);
                }
                entries.extend(seen.then_some(removed));
            }
        }
    }

    /// Records a change of the live version.
    fn hold(&mut self, name: &str) {
        self.pending.get_mut(name).into_iter().for_each(|pending| pending.held = true);
    }

    pub(super) fn remove_pending(&mut self, name: &str, position: &Position) {
        self.pending.remove(name).unwrap();
        let entry = Entry {
            name: name.to_owned(),
            first: 0,
            end: 0,
            time: self.now,
            kind: UpdateKind::Major,
            state: State::Unseen,
        };
        self.append(vec![entry]);
        assert_eq!(self.head, position.revision, "the pending version of {name} is removed");
    }

    /// Appends one commit.
    fn append(&mut self, entries: Vec<Entry>) {
        let (first, end) = (self.head + 1, self.head + entries.len() as i64);
        for entry in entries {
            self.head += 1;
            if !matches!(entry.state, State::Unseen) {
                self.newest.insert(entry.name.clone(), self.head);
            }
            self.entries.insert(self.head, Entry { first, end, ..entry });
        }
    }

    /// Returns the next change by the clock, and its time.
    pub(super) fn next_due(&self) -> Option<(i64, String)> {
        let promoted = self.pending.iter().filter(|(_, pending)| !pending.held);
        let promoted = promoted.filter_map(|(name, pending)| Some((pending.due?, name.clone())));
        let expire = self.all_live().filter_map(|(_, entry, entity)| match entity {
            Entity::Article(article) => Some((micros(article.expire_time.as_ref()?), entry.name.clone())),
            _ => None,
        });
        promoted.chain(expire).min()
    }

    /// Applies the change of a name that is due at this time.
    pub(super) fn apply_due(&mut self, time: i64, name: &str) {
        self.now = self.now.max(time);
        let entry =
            |kind, state| Entry { name: name.to_owned(), first: 0, end: 0, time: self.now, kind, state };
        let pending = self.pending.get(name);
        let is_promoted = pending.is_some_and(|pending| pending.due == Some(time) && !pending.held);
        let entries = if is_promoted {
            let pending = self.pending.remove(name).unwrap();
            let unseen = entry(UpdateKind::Major, State::Unseen);
            vec![unseen, entry(pending.kind, State::Live(pending.entity))]
        } else {
            vec![entry(UpdateKind::Major, State::Removed(RemovalReason::Expired, String::new()))]
        };
        self.append(entries);
    }

    /// Returns the floor once all entries older than `age` microseconds are dropped.
    pub(super) fn floor_by_age(&self, age: i64) -> i64 {
        let young = self.entries.range(self.floor + 1..).find(|(_, entry)| entry.time >= self.now - age);
        young.map_or(self.head, |(revision, _)| revision - 1)
    }
}

/// Returns when an article becomes visible: now, at a time, or at no known time.
fn due(entity: &Entity) -> Option<Option<i64>> {
    let Entity::Article(article) = entity else { return None };
    let publish = article.publish_time.as_ref().map(micros);
    match &article.embargo {
        Some(embargo) => {
            Some(embargo.until.as_ref().map(micros).map(|until| until.max(publish.unwrap_or(0))))
        }
        None => publish.map(Some),
    }
}

fn patched(mut article: v1::Article, patch: &v1::Article, mask: &[&str]) -> v1::Article {
    for field in mask {
        match *field {
            "tags" => article.tags = patch.tags.clone(),
            "section" => article.section = patch.section.clone(),
            "byline" => article.byline = patch.byline.clone(),
            _ => article.headline = patch.headline.clone(),
        }
    }
    article
}

pub(super) fn micros(time: &Timestamp) -> i64 {
    time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000
}

pub(super) fn timestamp(micros: i64) -> Timestamp {
    Timestamp { seconds: micros / 1_000_000, nanos: (micros % 1_000_000 * 1_000) as i32 }
}
