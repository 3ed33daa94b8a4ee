//! A client that writes, one call after the other, and records the acknowledged writes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use cable_client::{Cable, v1};
use v1::record::Record;

use crate::{
    dice::Rng,
    operation::{Acknowledged, Call, Effect, Operation, State, Stored},
};

/// The number of names that every writer writes.
const SHARED_NAMES: u64 = 4;
/// The number of groups of names that a writer changes by commits only, and always as a whole.
const GROUPS: u64 = 4;
/// The size of the last group. Its commit takes long.
const LARGE_GROUP_SIZE: u64 = 60;

/// The content of a name as far as its writer knows it. An import does not return the revision.
#[derive(Debug, Clone)]
struct Known {
    revision: Option<i64>,
    state: State,
}

/// A writer with names of its own and some that all writers share.
pub(crate) struct Writer {
    number: u64,
    rng: Rng,
    shared: Shared,
    known: BTreeMap<String, Known>,
    /// The operation without a response.
    pending: Option<Operation>,
    written: u64,
    pub(crate) acknowledged: usize,
    pub(crate) highest: i64,
    pub(crate) applied: usize,
    pub(crate) not_applied: usize,
    pub(crate) unacknowledged_commits: usize,
}

impl Writer {
    pub(crate) fn new(number: u64, rng: Rng, shared: Shared) -> Writer {
        Writer {
            number,
            rng,
            shared,
            known: BTreeMap::new(),
            pending: None,
            written: 0,
            acknowledged: 0,
            highest: 0,
            applied: 0,
            not_applied: 0,
            unacknowledged_commits: 0,
        }
    }

    /// Writes until the node has ended.
    pub(crate) async fn write_until_failure(mut self, cable: Cable) -> Writer {
        loop {
            let operation = self.random_operation();
            self.shared.attempt(&operation);
            match operation.run(&cable).await {
                Ok(acknowledged) => {
                    self.acknowledged += 1;
                    self.record_acknowledgement(&operation, &acknowledged);
                }
                Err(error) => {
                    assert!(error.reason().is_none(), "{operation:?}: {error}");
                    self.pending = Some(operation);
                    return self;
                }
            }
        }
    }

    fn record_acknowledgement(&mut self, operation: &Operation, acknowledged: &Acknowledged) {
        self.highest = self.highest.max(acknowledged.head);
        for (effect, revision) in operation.effects.iter().zip(&acknowledged.revisions) {
            self.highest = self.highest.max(revision.unwrap_or(0));
            if is_shared(&effect.name) {
                self.shared.acknowledge(effect, revision.unwrap());
            } else {
                let known = Known { revision: *revision, state: effect.state.clone() };
                self.known.insert(effect.name.clone(), known);
            }
        }
    }

    fn random_operation(&mut self) -> Operation {
        self.written += 1;
        let marker = format!("w{}-{}", self.number, self.written);
        let (call, effects) = match self.rng.between(0, 9) {
            0..=3 => self.put(&marker),
            4 => self.retag(&marker),
            5 => self.remove(&marker),
            6..=7 => (Call::Commit, self.group(&marker)),
            8 => (Call::Import, self.imported(&marker)),
            _ => {
                let name = format!("articles/shared-{}", self.rng.between(1, SHARED_NAMES));
                (Call::Put, vec![Effect { state: self.content(&name, &marker), name }])
            }
        };
        Operation { request_id: format!("request-{marker}"), call, effects }
    }

    fn put(&mut self, marker: &str) -> (Call, Vec<Effect>) {
        let kind = ["articles", "articles", "articles", "authors", "sections", "tags", "collections"]
            [self.rng.between(0, 6) as usize];
        // One in three is new.
        let id = if self.rng.one_in(3) { self.written } else { self.rng.between(1, 30) };
        let name = format!("{kind}/own-{}-{id}", self.number);
        (Call::Put, vec![Effect { state: self.content(&name, marker), name }])
    }

    fn retag(&mut self, marker: &str) -> (Call, Vec<Effect>) {
        match self.random_live("articles/") {
            Some((name, State::Live(Record::Article(mut article)))) => {
                (article.tags, article.annotations) = (self.tags(), marker_annotation(marker));
                let state = State::Live(Record::Article(article));
                (Call::Retag, vec![Effect { name, state }])
            }
            _ => self.put(marker),
        }
    }

    fn remove(&mut self, marker: &str) -> (Call, Vec<Effect>) {
        match self.random_live("") {
            Some((name, _)) => (Call::Remove, vec![Effect { state: moved_state(&name, marker), name }]),
            None => self.put(marker),
        }
    }

    /// Returns a live name of this writer that no commit writes.
    fn random_live(&mut self, prefix: &str) -> Option<(String, State)> {
        let live = |(name, known): (&String, &Known)| {
            let fits = name.starts_with(prefix) && name.contains("/own-");
            (fits && matches!(known.state, State::Live(_))).then(|| (name.clone(), known.state.clone()))
        };
        let names: Vec<_> = self.known.iter().filter_map(live).collect();
        let last = (names.len() as u64).checked_sub(1)?;
        Some(names[self.rng.between(0, last) as usize].clone())
    }

    fn imported(&mut self, marker: &str) -> Vec<Effect> {
        let number = self.number;
        let names = (0..self.rng.between(1, 30)).map(|i| format!("articles/imported-{number}-{i}"));
        names.map(|name| Effect { state: self.content(&name, marker), name }).collect()
    }

    /// Returns the effects on a whole group, put or removed.
    fn group(&mut self, marker: &str) -> Vec<Effect> {
        let group = self.rng.between(1, GROUPS);
        let members = if group == GROUPS { LARGE_GROUP_SIZE } else { group + 1 };
        let kinds = ["articles", "authors", "tags", "articles", "collections", "sections"];
        let names = (0..members)
            .map(|i| format!("{}/group-{}-{group}-{i}", kinds[i as usize % kinds.len()], self.number));
        let names: Vec<String> = names.collect();
        let live = matches!(self.known.get(&names[0]), Some(Known { state: State::Live(_), .. }));
        let remove = live && self.rng.one_in(4);
        let effect = |name: String| {
            let state = if remove { moved_state(&name, marker) } else { self.content(&name, marker) };
            Effect { state, name }
        };
        names.into_iter().map(effect).collect()
    }

    fn tags(&mut self) -> Vec<String> {
        let first = self.rng.between(0, 20);
        (first..=first + self.rng.between(0, 3)).map(|n| format!("tags/t{n}")).collect()
    }

    /// Returns content that only this write has.
    fn content(&mut self, name: &str, marker: &str) -> State {
        macro_rules! make {
            ($variant:ident, $field:ident = $value:expr) => {{
                let mut entity = v1::$variant::default();
                entity.name = name.to_owned();
                entity.$field = $value;
                Record::$variant(entity)
            }};
        }
        let text = format!("As of {marker}");
        State::Live(match name.split('/').next().unwrap() {
            "authors" => make!(Author, display_name = text),
            "sections" => make!(Section, display_name = text),
            "tags" => make!(Tag, display_name = text),
            "collections" => make!(Collection, title = text),
            _ => {
                let mut article = v1::Article::default();
                article.name = name.to_owned();
                article.headline = text;
                article.summary = "The harbour was quiet. ".repeat(self.rng.between(1, 80) as usize);
                (article.tags, article.annotations) = (self.tags(), marker_annotation(marker));
                Record::Article(article)
            }
        })
    }

    /// Asserts that every name holds the last acknowledged content or the content of the write without a response, and
    /// that a commit without a response has either all of its names or none.
    pub(crate) fn check(&self, stored: &BTreeMap<String, Stored>) {
        for (name, known) in &self.known {
            let found = stored.get(name).unwrap_or_else(|| panic!("{name}: lost {known:?}"));
            if found.state == known.state {
                assert!(
                    known.revision.is_none_or(|revision| revision == found.revision),
                    "{name}: {known:?}"
                );
            } else {
                assert!(self.was_attempted(name, found), "{name}: found {found:?}, expected {known:?}");
            }
        }
        if let Some(pending) = self.pending.as_ref().filter(|pending| pending.call == Call::Commit) {
            self.check_all_or_none(pending, stored);
        }
    }

    fn was_attempted(&self, name: &str, found: &Stored) -> bool {
        let mut effects = self.pending.iter().flat_map(|pending| &pending.effects);
        effects.any(|effect| effect.name == name && effect.state == found.state)
    }

    fn check_all_or_none(&self, commit: &Operation, stored: &BTreeMap<String, Stored>) {
        let present: Vec<i64> = revisions(commit, stored).into_iter().flatten().collect();
        let complete = present.len() == commit.effects.len();
        assert!(present.is_empty() || complete, "{} of {} changes", present.len(), commit.effects.len());
        assert!(present.windows(2).all(|pair| pair[1] == pair[0] + 1), "{present:?}");
    }

    /// Repeats the operation without a response, twice. Returns the number of entries that this made. `head` is the
    /// head before it.
    pub(crate) async fn repeat(
        &mut self,
        cable: &Cable,
        stored: &BTreeMap<String, Stored>,
        head: i64,
    ) -> i64 {
        let Some(pending) = self.pending.take() else { return 0 };
        let first = pending.run(cable).await.unwrap();
        let second = pending.run(cable).await.unwrap();
        assert_eq!(first.revisions, second.revisions, "{pending:?}");
        let existing = revisions(&pending, stored);
        let shared = is_shared(&pending.effects[0].name);
        let mut written_entries = 0;
        for (existing, returned) in existing.iter().zip(&first.revisions) {
            match (existing, returned) {
                (Some(existing), Some(returned)) => assert_eq!(existing, returned, "{pending:?}"),
                // Another writer's entry may have followed it.
                (None, Some(returned)) if shared => written_entries += i64::from(*returned > head),
                (None, Some(returned)) => {
                    assert!(*returned > head, "{pending:?}");
                    written_entries += 1;
                }
                (existing, None) => written_entries += i64::from(existing.is_none()),
            }
        }
        *(if written_entries == 0 { &mut self.applied } else { &mut self.not_applied }) += 1;
        self.unacknowledged_commits += usize::from(pending.call == Call::Commit);
        self.record_acknowledgement(&pending, &first);
        written_entries
    }

    /// Returns all names that this writer ever wrote or tried to write.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        let pending = self.pending.iter().flat_map(|pending| &pending.effects);
        self.known.keys().chain(pending.map(|effect| &effect.name)).cloned()
    }
}

/// Returns the revision of each effect that is stored.
fn revisions(operation: &Operation, stored: &BTreeMap<String, Stored>) -> Vec<Option<i64>> {
    let present = |effect: &Effect| {
        let found = stored.get(&effect.name)?;
        (found.state == effect.state).then_some(found.revision)
    };
    operation.effects.iter().map(present).collect()
}

fn marker_annotation(marker: &str) -> BTreeMap<String, String> {
    [("marker".to_owned(), marker.to_owned())].into()
}

fn moved_state(name: &str, marker: &str) -> State {
    State::Moved(format!("{}/{marker}", name.split('/').next().unwrap()))
}

fn is_shared(name: &str) -> bool {
    name.starts_with("articles/shared-")
}

/// All writes to the shared names: the content, and the revision once the write is acknowledged.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<BTreeMap<String, Vec<Known>>>>);

impl Shared {
    fn attempt(&self, operation: &Operation) {
        let mut names = self.0.lock().unwrap();
        for effect in operation.effects.iter().filter(|effect| is_shared(&effect.name)) {
            let known = Known { revision: None, state: effect.state.clone() };
            names.entry(effect.name.clone()).or_default().push(known);
        }
    }

    fn acknowledge(&self, effect: &Effect, revision: i64) {
        let mut names = self.0.lock().unwrap();
        let attempts = names.get_mut(&effect.name).unwrap();
        let attempt = attempts.iter_mut().find(|attempt| attempt.state == effect.state).unwrap();
        attempt.revision = Some(revision);
    }

    /// Asserts that each name holds the write with the highest revision, or a later one without a response. Returns the
    /// names.
    pub(crate) fn check(&self, stored: &BTreeMap<String, Stored>) -> Vec<String> {
        let mut names = self.0.lock().unwrap();
        for (name, attempts) in names.iter_mut() {
            let highest = attempts.iter().filter_map(|attempt| attempt.revision).max();
            let Some(found) = stored.get(name) else {
                assert_eq!(highest, None, "{name}: lost");
                continue;
            };
            assert!(Some(found.revision) >= highest, "{name}: {found:?} is older than {highest:?}");
            let same = |attempt: &&Known| attempt.state == found.state;
            let attempt = attempts.iter().find(same).unwrap_or_else(|| panic!("no writer wrote {found:?}"));
            assert!(attempt.revision.is_none_or(|revision| revision == found.revision), "{name}: {found:?}");
            attempts.retain(|attempt| attempt.revision.is_none() || attempt.revision == highest);
        }
        names.keys().cloned().collect()
    }
}
