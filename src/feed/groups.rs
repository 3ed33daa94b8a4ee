//! All groups of a node, indexed by the lists that their filters name. A group exists as long as it has a member.

use std::{
    collections::HashMap,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    event::CommitEvents,
    group::{Group, GroupKey},
};
use crate::{entry::Term, model::Revision};

/// The groups of a node.
#[derive(Debug)]
pub(super) struct Groups(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    all: HashMap<Arc<GroupKey>, GroupEntry>,
    /// Groups by the terms that `Filter::terms` returns. A matching article has at least one of them.
    by_term: HashMap<Term, ByNumber>,
    /// Groups whose filters name no list.
    unconditional: ByNumber,
    /// Commits after this revision are not delivered yet.
    delivered: Revision,
    created: u64,
}

type ByNumber = HashMap<u64, Arc<Group>>;

#[derive(Debug)]
struct GroupEntry {
    group: Arc<Group>,
    members: usize,
}

/// A follower's membership in a group. When the last one is dropped, the group is removed.
#[derive(Debug)]
pub(super) struct Membership {
    groups: Arc<Groups>,
    group: Arc<Group>,
}

impl Groups {
    /// Creates an empty set of groups. Commits up to `delivered` count as delivered.
    pub(super) fn new(delivered: Revision) -> Groups {
        Groups(Mutex::new(Inner {
            all: HashMap::new(),
            by_term: HashMap::new(),
            unconditional: HashMap::new(),
            delivered,
            created: 0,
        }))
    }

    /// Joins the group with a key, and creates it if it does not exist.
    pub(super) fn join(self: &Arc<Self>, key: GroupKey) -> Membership {
        let mut inner = self.inner();
        let group = match inner.all.get_mut(&key) {
            Some(entry) => {
                entry.members += 1;
                entry.group.clone()
            }
            None => inner.create(key),
        };
        Membership { groups: self.clone(), group }
    }

    /// Returns the revision up to which commits were delivered.
    pub(super) fn delivered(&self) -> Revision {
        self.inner().delivered
    }

    /// Records that commits up to a revision are being delivered. A group that is created later starts after them.
    pub(super) fn mark_delivered(&self, revision: Revision) {
        self.inner().delivered = revision;
    }

    /// Returns whether there is no group. If so, marks commits up to `head` as delivered.
    pub(super) fn skip_if_empty(&self, head: Revision) -> bool {
        let mut inner = self.inner();
        let is_empty = inner.all.is_empty();
        if is_empty {
            inner.delivered = head;
        }
        is_empty
    }

    /// Returns the groups that a commit may concern. The lock is released between two lists, because many groups may
    /// name one list.
    pub(super) fn matching_groups(&self, commit: &CommitEvents) -> ByNumber {
        if commit.has_unknown_lists() {
            return self.all().into_iter().map(|group| (group.number, group)).collect();
        }
        let mut matching = self.inner().unconditional.clone();
        for term in commit.terms() {
            let inner = self.inner();
            let groups = inner.by_term.get(term).into_iter().flatten();
            matching.extend(groups.map(|(number, group)| (*number, group.clone())));
        }
        matching
    }

    /// Returns all groups.
    pub(super) fn all(&self) -> Vec<Arc<Group>> {
        self.inner().all.values().map(|entry| entry.group.clone()).collect()
    }

    /// Returns the number of groups.
    pub(super) fn count(&self) -> usize {
        self.inner().all.len()
    }

    fn leave(&self, group: &Group) {
        self.inner().leave(group);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn create(&mut self, key: GroupKey) -> Arc<Group> {
        self.created += 1;
        let key = Arc::new(key);
        let group = Arc::new(Group::new(self.created, key.clone(), self.delivered));
        let terms = key.filter.terms();
        if terms.is_empty() {
            self.unconditional.insert(group.number, group.clone());
        }
        for term in terms {
            self.by_term.entry(term.clone()).or_default().insert(group.number, group.clone());
        }
        self.all.insert(key, GroupEntry { group: group.clone(), members: 1 });
        group
    }

    fn leave(&mut self, group: &Group) {
        let Some(entry) = self.all.get_mut(&group.key) else { return };
        entry.members -= 1;
        if entry.members > 0 {
            return;
        }
        self.all.remove(&group.key);
        self.unconditional.remove(&group.number);
        for term in group.key.filter.terms() {
            if let Some(groups) = self.by_term.get_mut(term) {
                groups.remove(&group.number);
                if groups.is_empty() {
                    self.by_term.remove(term);
                }
            }
        }
        self.shrink();
    }

    /// Releases memory when most groups have been removed.
    fn shrink(&mut self) {
        if self.all.capacity() > 4 * self.all.len() + 64 {
            self.all.shrink_to_fit();
            self.unconditional.shrink_to_fit();
            self.by_term.shrink_to_fit();
        }
    }
}

impl Deref for Membership {
    type Target = Group;

    fn deref(&self) -> &Group {
        &self.group
    }
}

impl Membership {
    pub(super) fn group(&self) -> &Arc<Group> {
        &self.group
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.groups.leave(&self.group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compose::Shape,
        feed::{Filter, Form},
        wire::v1,
    };

    fn key(tag: usize) -> GroupKey {
        let tags = vec![format!("tags/{tag}"), "tags/sea".to_owned()];
        let filter = v1::FeedFilter { any_tags: tags, ..Default::default() };
        GroupKey {
            filter: Filter::parse(&filter).unwrap(),
            shape: Shape::Basic,
            backfill: false,
            form: Form::Grpc,
        }
    }

    fn sizes(groups: &Groups) -> (usize, usize, usize) {
        let inner = groups.inner();
        let by_term = inner.by_term.values().map(HashMap::len).sum();
        (inner.all.len(), by_term, inner.by_term.len())
    }

    #[test]
    fn a_group_is_removed_with_its_last_member() {
        let groups = Arc::new(Groups::new(0));
        let [first, second] = [groups.join(key(1)), groups.join(key(1))];
        assert_eq!(first.number, second.number);
        let other = groups.join(key(2));
        assert_eq!(sizes(&groups), (2, 4, 3));
        drop(first);
        assert_eq!(sizes(&groups), (2, 4, 3));
        drop(second);
        assert_eq!(sizes(&groups), (1, 2, 2));
        drop(other);
        assert_eq!(sizes(&groups), (0, 0, 0));
    }

    #[test]
    fn closed_feeds_with_new_filters_leave_no_groups() {
        let groups = Arc::new(Groups::new(0));
        let _open: Vec<Membership> = (0..40).map(|tag| groups.join(key(tag))).collect();
        let before = sizes(&groups);
        for round in 0..10_000 {
            drop(groups.join(key(100 + round % 50)));
            drop(groups.join(key(1_000 + round)));
        }
        assert_eq!(sizes(&groups), before);
        assert_eq!(groups.all().len(), 40);
    }
}
