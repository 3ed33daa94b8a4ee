//! What has just happened, handed to those whom it concerns: each commit is read once, and encoded once for all who
//! are told the same. Only they are woken.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use super::{
    event::{Event, Told},
    group::{Group, Interest, Message},
};
use crate::{
    entry::Term,
    model::{Kind, LogId, Revision},
    store::{
        Error, Store,
        history::{self, Bounds, Place, Stretch, Wanted},
    },
};

/// What is read at once: a commit of the largest size, or some hundred small ones.
const BOUNDS: Bounds = Bounds { rows: 512, records: 512, bytes: 4 << 20 };

/// Bytes of the messages that all groups together keep. Followers that are further behind read the store.
const KEPT: usize = 32 << 20;

/// So few groups can be looked through each time.
const FEW: usize = 16;

/// How long to wait before a failed read is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// The groups of a node, and how far they have been told.
#[derive(Debug)]
pub(super) struct Hub {
    store: Arc<Store>,
    log_id: LogId,
    groups: Mutex<Groups>,
    /// All groups have been told all up to here.
    told: Mutex<Place>,
    /// How often what is kept was erased. Held while commits are handed out: what was read before is not kept after.
    erased: Mutex<u64>,
}

#[derive(Debug, Default)]
struct Groups {
    all: HashMap<Interest, Weak<Group>>,
    /// Groups by each term of which their articles have one; those who need none are under no term.
    by_term: HashMap<Option<Term>, Vec<Weak<Group>>>,
    /// What is after this has yet to be handed out.
    from: Revision,
    created: u64,
    /// With this many, those that nobody holds any more are looked for.
    prune_at: usize,
}

/// A group, and the places of those commits that may concern it.
type Concerned = (Arc<Group>, Vec<usize>);

/// What has been read, and not yet told.
pub(super) struct News {
    commits: Vec<Told>,
    reached: Place,
    /// How often something had been erased before it was read.
    erased: u64,
}

impl Hub {
    pub(super) fn new(store: Arc<Store>) -> Hub {
        let head = store.head();
        let groups = Groups { from: head.revision, ..Groups::default() };
        let told = Place { revision: head.revision, chain: Some(head.chain) };
        Hub {
            log_id: head.log_id,
            store,
            groups: Mutex::new(groups),
            told: Mutex::new(told),
            erased: Mutex::new(0),
        }
    }

    /// The group with an interest. It lives as long as somebody holds it.
    pub(super) fn group(&self, interest: Interest) -> Arc<Group> {
        let mut groups = self.groups();
        if let Some(group) = groups.all.get(&interest).and_then(Weak::upgrade) {
            return group;
        }
        if groups.all.len() >= groups.prune_at {
            groups.prune();
        }
        groups.created += 1;
        let group = Arc::new(Group::new(groups.created, interest.clone(), groups.from));
        let terms = interest.filter.terms();
        let places = terms.iter().cloned().map(Some).chain(terms.is_empty().then_some(None));
        for place in places {
            groups.by_term.entry(place).or_default().push(Arc::downgrade(&group));
        }
        groups.all.insert(interest, Arc::downgrade(&group));
        group
    }

    /// How far everybody who waits has been told.
    pub(super) fn told(&self) -> Place {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often what is kept was erased.
    pub(super) fn times_erased(&self) -> u64 {
        *self.erased()
    }

    /// Drops what is kept in memory of what happened.
    pub(super) fn forget(&self) {
        let mut erased = self.erased();
        *erased += 1;
        let groups: Vec<Arc<Group>> = self.groups().all.values().filter_map(Weak::upgrade).collect();
        for group in groups {
            group.forget();
        }
    }

    /// Hands out what happens, until the store is gone.
    pub(super) async fn run(&self) {
        let mut heads = self.store.heads();
        loop {
            let head = heads.borrow_and_update().clone();
            while self.groups().from < head.revision {
                if let Err(error) = self.hand_out().await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "feeds cannot read the store");
                    tokio::time::sleep(RETRY).await;
                }
            }
            if heads.changed().await.is_err() {
                return;
            }
        }
    }

    /// Reads on from where the groups are, and tells those concerned.
    async fn hand_out(&self) -> Result<(), Error> {
        let Some(news) = self.read().await? else { return Ok(()) };
        for group in self.tell_all(&news) {
            group.wake();
        }
        Ok(())
    }

    pub(super) async fn read(&self) -> Result<Option<News>, Error> {
        let erased = *self.erased();
        let Some(from) = self.begin() else { return Ok(None) };
        let wanted = Wanted { left: Some(Vec::new()), kinds: Kind::ALL.to_vec(), ..Wanted::default() };
        let read = self.store.read(move |connection| history::stretch(connection, from, &wanted, BOUNDS));
        let Stretch { commits, reached, .. } = read.await?;
        Ok(Some(News { commits: commits.into_iter().map(Told::new).collect(), reached, erased }))
    }

    /// Where to read on. Where nobody follows, there is nothing to read: the groups are moved to the head.
    fn begin(&self) -> Option<Revision> {
        let mut groups = self.groups();
        if groups.all.len() < FEW {
            groups.prune();
        }
        if !groups.all.is_empty() {
            return Some(groups.from);
        }
        let head = self.store.head();
        groups.from = head.revision;
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) =
            Place { revision: head.revision, chain: Some(head.chain) };
        None
    }

    /// Tells what was read, unless something was erased since: then it is to be read again. The groups to wake.
    pub(super) fn tell_all(&self, news: &News) -> Vec<Arc<Group>> {
        let erased = self.erased();
        if *erased != news.erased {
            return Vec::new();
        }
        let (concerned, bound) = self.concerned(&news.commits, news.reached.revision);
        for (group, commits_of) in &concerned {
            self.tell(group, commits_of.iter().map(|i| &news.commits[*i]), bound);
        }
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = news.reached;
        concerned.into_iter().map(|(group, _)| group).collect()
    }

    /// Groups that commits may concern, and how many bytes each may keep. A group that is made from here on begins after them.
    fn concerned(&self, commits: &[Told], reached: Revision) -> (Vec<Concerned>, usize) {
        let mut groups = self.groups();
        groups.from = reached;
        let mut concerned: HashMap<u64, Concerned> = HashMap::new();
        for (i, commit) in commits.iter().enumerate() {
            let terms = commit.events.iter().flat_map(|event| event.concerned()).cloned().map(Some);
            let places = terms.chain([None]).filter_map(|term| groups.by_term.get(&term));
            let all = commit.events.iter().any(Event::concerns_all).then(|| groups.all.values());
            for group in places.flatten().chain(all.into_iter().flatten()).filter_map(Weak::upgrade) {
                let (_, commits_of) = concerned.entry(group.number).or_insert((group, Vec::new()));
                if commits_of.last() != Some(&i) {
                    commits_of.push(i);
                }
            }
        }
        (concerned.into_values().collect(), KEPT / groups.all.len().max(1))
    }

    fn tell<'a>(&self, group: &Group, commits: impl Iterator<Item = &'a Told>, bound: usize) {
        let Interest { filter, shape, backfill } = &group.interest;
        for commit in commits {
            let outcomes = commit.outcomes(filter, *backfill);
            if let Some((first, _)) = outcomes.first() {
                let first = commit.events[*first].revision();
                let bytes = commit.message(outcomes, self.log_id, *shape);
                group.push(Message { first, end: commit.end, bytes }, bound);
            }
        }
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn erased(&self) -> MutexGuard<'_, u64> {
        self.erased.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Groups {
    /// Forgets groups that nobody holds.
    fn prune(&mut self) {
        self.all.retain(|_, group| group.strong_count() > 0);
        self.by_term.retain(|_, places| {
            places.retain(|group| group.strong_count() > 0);
            !places.is_empty()
        });
        self.prune_at = 2 * self.all.len() + FEW;
    }
}
