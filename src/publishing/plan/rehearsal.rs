//! Dry runs of imports: each record is judged on the store as the records before it would leave it.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use prost::Message as _;

use super::{Draft, PlanContext, Planned, State, import};
use crate::{
    digest::{Hash, canonical_content},
    entry::own_path,
    model::{HashPrefix, Kind, Name, Revision, Slot, path},
    refusal::Refusal,
    store::{self, Record, Snapshot},
    wire::{
        fields,
        log::{LogEntry, Operation},
        number::{NAME, article},
    },
};

/// The memory of a dry run in bytes, for some 15,000 versions. There are at most 8 imports.
const MAX_BYTES: usize = 8 << 20;

/// The memory of a version besides its entry: its key in two tables, and the tables themselves.
const VERSION_BYTES: usize = 384;

/// The first revision of versions that a dry run would write. No store comes near it.
const FIRST_REVISION: Revision = 1 << 62;

/// The versions that the records of a dry run so far would have written, as far as the next records depend on them. Of
/// many versions, the oldest are forgotten.
#[derive(Debug, Default)]
pub(crate) struct Rehearsal {
    versions: HashMap<Key, Version>,
    /// The keys, the oldest first.
    order: VecDeque<Key>,
    /// The owners of paths among the versions, by the normal form of the path.
    owners: HashMap<String, Name>,
    bytes: usize,
    written: Revision,
}

type Key = (Name, Slot);

#[derive(Debug)]
struct Version {
    revision: Revision,
    /// The hash of the canonical content.
    content: Hash,
    /// The entry, encoded, with no more of its content than the name and the path.
    entry: Vec<u8>,
}

impl Version {
    fn bytes(&self) -> usize {
        self.entry.len() + VERSION_BYTES
    }

    fn log(&self) -> LogEntry {
        LogEntry::decode(&*self.entry).unwrap_or_default()
    }
}

/// The content of the store for a draft: the state of its name, and the articles that have the path that it requests.
#[derive(Debug)]
pub(in crate::publishing) struct Found {
    state: State,
    path_owners: Vec<Name>,
}

impl Found {
    pub(in crate::publishing) fn read(snapshot: Snapshot<'_>, draft: &Draft) -> Result<Found, store::Error> {
        let state = State::of(snapshot, &draft.name)?;
        let path = draft.requested_path();
        let owners = path.map(|path| snapshot.path_owners(&path::normalise(&path))).transpose()?;
        Ok(Found { state, path_owners: owners.unwrap_or_default() })
    }

    /// Returns the size of the content that was read, in bytes.
    pub(in crate::publishing) fn bytes(&self) -> usize {
        self.state.bytes()
    }
}

impl Rehearsal {
    /// Decides about a record, and remembers what it would write.
    pub(in crate::publishing) fn judge(
        &mut self,
        draft: &Draft,
        found: Found,
        context: PlanContext,
    ) -> Result<import::Decision, Refusal> {
        let (mut state, path_owner) = self.overlay(draft, found);
        let mut decision = import::decide(draft, &state, context);
        // The log refuses an entry whose path another article has, and the record is planned again without it.
        if path_owner.is_some() && state.path_owner.is_none() && claims_path(&decision) {
            state.path_owner = path_owner;
            decision = import::decide(draft, &state, context);
        }
        if let Ok(import::Decision::Planned(Planned::Append { name, entries, .. })) = &decision {
            entries.iter().for_each(|(slot, log)| self.write((name.clone(), *slot), log));
        }
        decision
    }

    /// Returns the state of a draft's name after the records before it, and the article that then has its path.
    fn overlay(&self, draft: &Draft, found: Found) -> (State, Option<Name>) {
        let Found { mut state, path_owners } = found;
        for slot in [Slot::Live, Slot::Pending] {
            let key = (draft.name.clone(), slot);
            let Some(version) = self.versions.get(&key) else { continue };
            let (revision, log) = (version.revision, version.log());
            let record = Record { name: key.0, slot, revision, prefix: HashPrefix(0), log };
            match slot {
                Slot::Live => state.record = Some(record),
                Slot::Pending => state.pending = Some(record),
            }
            state.damaged.retain(|damaged| *damaged != slot);
            state.rehearsed.push((slot, version.content));
        }
        let Some(path) = draft.requested_path() else { return (state, None) };
        let has_moved = |owner: &&Name| self.versions.contains_key(&((*owner).clone(), Slot::Live));
        let stored = path_owners.iter().filter(|owner| !has_moved(owner));
        let mut owners = self.owners.get(&path::normalise(&path)).into_iter().chain(stored);
        let owner = owners.find(|owner| **owner != draft.name).cloned();
        if state.has_lost_path(&path) {
            state.path_owner.clone_from(&owner);
        }
        (state, owner)
    }

    fn write(&mut self, key: Key, log: &LogEntry) {
        let mut content = Vec::new();
        let is_needed = |number| number == NAME || (key.0.kind == Kind::Article && number == article::PATH);
        fields::copy_if(&log.content, &mut content, is_needed);
        let hash = canonical_content(&key.0, &log.content);
        let log = LogEntry { content: Bytes::from(content), departures: Vec::new(), ..log.clone() };
        let revision = FIRST_REVISION + self.written;
        self.written += 1;
        let version = Version { revision, content: hash, entry: log.encode_to_vec() };
        if !self.remove(&key) {
            self.order.push_back(key.clone());
        }
        if let Some(path) = claimed_path(&key, &log) {
            self.owners.insert(path, key.0.clone());
        }
        self.bytes += version.bytes();
        self.versions.insert(key, version);
        while self.bytes > MAX_BYTES
            && let Some(oldest) = self.order.pop_front()
        {
            self.remove(&oldest);
        }
    }

    /// Removes a version. Returns whether it was there.
    fn remove(&mut self, key: &Key) -> bool {
        let Some(version) = self.versions.remove(key) else { return false };
        self.bytes -= version.bytes();
        if let Some(path) = claimed_path(key, &version.log())
            && self.owners.get(&path) == Some(&key.0)
        {
            self.owners.remove(&path);
        }
        true
    }
}

/// Returns whether a plan gives a path to an article that readers see.
fn claims_path(decision: &Result<import::Decision, Refusal>) -> bool {
    let Ok(import::Decision::Planned(Planned::Append { name, entries, .. })) = decision else { return false };
    entries.iter().any(|(slot, log)| claimed_path(&(name.clone(), *slot), log).is_some())
}

/// Returns the path that an entry gives to its article, in normal form.
fn claimed_path((name, slot): &Key, log: &LogEntry) -> Option<String> {
    let is_live = *slot == Slot::Live && name.kind == Kind::Article && log.operation() == Operation::Put;
    own_path(&log.content).filter(|_| is_live).map(|path| path::normalise(&path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{store::fixture::name, wire::v1};

    fn put(id: &str, path: &str, filler: usize) -> LogEntry {
        let article = v1::Article {
            name: name(id).to_string(),
            path: path.into(),
            headline: "H".repeat(filler),
            ..Default::default()
        };
        LogEntry {
            operation: Operation::Put as i32,
            content: article.encode_to_vec().into(),
            ..Default::default()
        }
    }

    #[test]
    fn the_owner_of_a_path_is_the_last_one() {
        let mut rehearsal = Rehearsal::default();
        let owner =
            |rehearsal: &Rehearsal, path: &str| rehearsal.owners.get(path).map(|name| name.id.to_string());
        rehearsal.write((name("a"), Slot::Live), &put("a", "/x", 1));
        assert_eq!(owner(&rehearsal, "/x").as_deref(), Some("a"));
        rehearsal.write((name("a"), Slot::Live), &put("a", "/y", 1));
        rehearsal.write((name("b"), Slot::Live), &put("b", "/x", 1));
        assert_eq!(
            (owner(&rehearsal, "/x").as_deref(), owner(&rehearsal, "/y").as_deref()),
            (Some("b"), Some("a"))
        );
        let removal = LogEntry { operation: Operation::Remove as i32, ..Default::default() };
        rehearsal.write((name("b"), Slot::Live), &removal);
        rehearsal.write((name("a"), Slot::Pending), &put("a", "/z", 1));
        assert_eq!((owner(&rehearsal, "/x"), owner(&rehearsal, "/z")), (None, None));
        assert_eq!((rehearsal.versions.len(), rehearsal.order.len()), (3, 3));
    }

    #[test]
    fn the_memory_is_bounded_and_the_oldest_are_forgotten() {
        let mut rehearsal = Rehearsal::default();
        let count = 2 * MAX_BYTES / VERSION_BYTES;
        for n in 0..count {
            // The content itself does not count.
            let entry = put(&format!("a{n}"), &format!("/{n}"), 1_000);
            rehearsal.write((name(&format!("a{n}")), Slot::Live), &entry);
            assert!(rehearsal.bytes <= MAX_BYTES);
        }
        let left = rehearsal.versions.len();
        assert!(left > MAX_BYTES / VERSION_BYTES / 2 && left < count, "{left}");
        assert_eq!((rehearsal.order.len(), rehearsal.owners.len()), (left, left));
        assert!(rehearsal.versions.contains_key(&(name(&format!("a{}", count - 1)), Slot::Live)));
        for key in std::mem::take(&mut rehearsal.order) {
            rehearsal.remove(&key);
        }
        assert_eq!((rehearsal.bytes, rehearsal.owners.len()), (0, 0));
    }
}
