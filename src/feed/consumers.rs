//! Consumers: followers with a name, whose acknowledged positions the node stores.
//!
//! One task, [`Consumers::run`], makes all changes on disk. In each round it collects the waiting requests, plans them
//! against the table in memory, and writes them in one transaction. A consumer costs a write when it is created or
//! deleted, when its position moves, and about once an hour while it is in use. All consumers of a node together cost a
//! bounded number of syncs.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use tokio::sync::{Notify, OnceCell, oneshot};

use crate::{
    clock::{self, Clock},
    log::{Position, local::LocalLog},
    model::Revision,
    refusal::Refusal,
    store::{
        self, Head, Store,
        consumer::{Consumer, ConsumerChanges, ConsumerKey, ConsumerTable},
    },
    wire::v1::FeedResetReason,
};

/// The pause after a round: at most 20 syncs a second, so that acknowledgements leave the disk to writes. An
/// acknowledgement that comes alone does not wait.
const FLUSH_PAUSE: Duration = Duration::from_millis(50);

/// How often expired consumers are deleted if nothing else happens.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);

/// The number of acknowledgements that may wait for a round: several for each consumer.
const MAX_WAITING: usize = 4_096;

/// The age at which a repeated acknowledgement is written again, in microseconds; at most a quarter of the retention.
/// After a restart, the last acknowledgement of a consumer can appear older by this much.
const REFRESH_MICROS: i64 = 3_600 * 1_000_000;

/// The limits of consumers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConsumerLimits {
    /// The maximum number of consumers of the node.
    pub(crate) of_node: usize,
    /// The maximum number of consumers of one owner.
    pub(crate) of_owner: usize,
    /// The time without an acknowledgement after which a consumer is deleted.
    pub(crate) retention: Duration,
}

/// The consumers of a node.
pub(crate) struct Consumers {
    store: Arc<Store>,
    log: Arc<LocalLog>,
    clock: Clock,
    limits: ConsumerLimits,
    /// The consumers on disk. They are read when they are first needed.
    table: OnceCell<RwLock<Table>>,
    waiting: Mutex<Vec<Request>>,
    wake: Notify,
    /// For each lagging position, the time of the first revision after it, as of the last listing. The key is the
    /// revision of the position.
    times: Mutex<HashMap<Revision, i64>>,
}

type Table = BTreeMap<ConsumerKey, Entry>;

/// A consumer in memory.
#[derive(Debug, Clone)]
struct Entry {
    stored: Consumer,
    /// The time of its last acknowledgement, in microseconds since 1970 UTC. It can be later than the one on disk.
    acknowledged: i64,
}

/// A change of a consumer that waits for the next round.
struct Request {
    key: ConsumerKey,
    action: Action,
    reply: oneshot::Sender<Result<Position, Refusal>>,
}

#[derive(Debug, Clone)]
enum Action {
    /// Stores a position, in place of a later one only if `allow_rewind` is set.
    Acknowledge {
        position: Position,
        allow_rewind: bool,
    },
    /// Creates the consumer with a position, unless it exists.
    Register(Position),
    Delete,
}

/// The state of a consumer.
#[derive(Debug, Clone)]
pub(crate) struct ConsumerStatus {
    pub(crate) key: ConsumerKey,
    pub(crate) position: Position,
    /// The times of the creation and of the last acknowledgement, in microseconds since 1970 UTC.
    pub(crate) created: i64,
    pub(crate) acknowledged: i64,
    pub(crate) lag_revisions: Revision,
    /// How long ago the oldest revision after the position was made.
    pub(crate) lag: Option<Duration>,
    /// Why a feed cannot resume after the position.
    pub(crate) reset_reason: Option<FeedResetReason>,
}

impl Consumers {
    pub(crate) fn new(
        store: Arc<Store>,
        log: Arc<LocalLog>,
        clock: Clock,
        limits: ConsumerLimits,
    ) -> Consumers {
        Consumers {
            store,
            log,
            clock,
            limits,
            table: OnceCell::new(),
            waiting: Mutex::default(),
            wake: Notify::new(),
            times: Mutex::default(),
        }
    }

    /// Stores the position up to which a consumer has applied its feed. The position must have been checked. Returns the
    /// position of the consumer, which can be a later one.
    ///
    /// # Errors
    /// Fails if there are too many consumers or acknowledgements, or if the store fails.
    pub(crate) async fn acknowledge(
        &self,
        key: ConsumerKey,
        position: Position,
        allow_rewind: bool,
    ) -> Result<Position, Refusal> {
        if let Some(position) = self.repeat(&key, &position, allow_rewind).await? {
            return Ok(position);
        }
        self.submit(key, Action::Acknowledge { position, allow_rewind }).await
    }

    /// Creates a consumer with the position of the head, unless it exists. Returns its position.
    ///
    /// # Errors
    /// Fails like [`Consumers::acknowledge`].
    pub(crate) async fn register(&self, key: ConsumerKey) -> Result<Position, Refusal> {
        let head = Position::of(&self.store.head());
        self.submit(key, Action::Register(head)).await
    }

    /// Deletes a consumer.
    ///
    /// # Errors
    /// Fails if there is no such consumer, or if the store fails.
    pub(crate) async fn delete(&self, key: ConsumerKey) -> Result<(), Refusal> {
        self.submit(key, Action::Delete).await.map(drop)
    }

    /// Returns the position that a consumer has acknowledged.
    ///
    /// # Errors
    /// Fails if the consumers cannot be read.
    pub(crate) async fn position(&self, key: &ConsumerKey) -> Result<Option<Position>, Refusal> {
        let (table, now) = (self.table().await?, self.clock.now());
        let table = table.read().unwrap_or_else(PoisonError::into_inner);
        let entry = table.get(key).filter(|entry| !self.is_expired(entry, now));
        Ok(entry.map(|entry| position(&entry.stored)))
    }

    /// Returns the consumers of an owner or of all, in the order of their keys.
    ///
    /// # Errors
    /// Fails if the consumers, or the times of the revisions after them, cannot be read.
    pub(crate) async fn list(&self, owner: Option<&str>) -> Result<Vec<ConsumerStatus>, store::Error> {
        let (table, now, head) = (self.table().await?, self.clock.now(), self.store.head());
        let mut found: Vec<ConsumerStatus> = {
            let table = table.read().unwrap_or_else(PoisonError::into_inner);
            let of_owner = |key: &ConsumerKey| owner.is_none_or(|owner| owner == key.owner);
            let chosen = table.iter().filter(|(key, entry)| of_owner(key) && !self.is_expired(entry, now));
            chosen.map(|(key, entry)| status(key, entry, &head)).collect()
        };
        let lagging = found.iter().filter(|found| found.lag_revisions > 0);
        let times = self.times_after(lagging.map(|found| found.position.revision).collect()).await?;
        for status in &mut found {
            let micros = times.get(&status.position.revision).map(|time| now.saturating_sub(*time).max(0));
            status.lag = micros
                .filter(|_| status.lag_revisions > 0)
                .map(|micros| Duration::from_micros(micros.unsigned_abs()));
        }
        Ok(found)
    }

    /// Returns the time of the first revision after each of these revisions. Times that were read before are not read
    /// again.
    async fn times_after(&self, after: Vec<Revision>) -> Result<HashMap<Revision, i64>, store::Error> {
        let mut times = std::mem::take(&mut *lock(&self.times));
        times.retain(|revision, _| after.contains(revision));
        let unknown: Vec<Revision> =
            after.into_iter().filter(|revision| !times.contains_key(revision)).collect();
        if !unknown.is_empty() {
            let read = move |snapshot: store::Snapshot<'_>| {
                let time = |revision| Ok(snapshot.time_after(revision)?.map(|time| (revision, time)));
                unknown.into_iter().filter_map(|revision| time(revision).transpose()).collect()
            };
            let found: Vec<(Revision, i64)> = self.store.read(read).await?;
            times.extend(found);
        }
        lock(&self.times).clone_from(&times);
        Ok(times)
    }

    /// Handles an acknowledgement that needs no write. Returns the position of the consumer, or `None` if a write is
    /// needed.
    async fn repeat(
        &self,
        key: &ConsumerKey,
        position: &Position,
        allow_rewind: bool,
    ) -> Result<Option<Position>, Refusal> {
        let (table, now) = (self.table().await?, self.clock.now());
        let mut table = table.write().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = table.get_mut(key).filter(|entry| !self.is_expired(entry, now)) else {
            return Ok(None);
        };
        if !covers(&entry.stored, position, allow_rewind) || self.is_stale(&entry.stored, now) {
            return Ok(None);
        }
        entry.acknowledged = now;
        Ok(Some(self::position(&entry.stored)))
    }

    async fn submit(&self, key: ConsumerKey, action: Action) -> Result<Position, Refusal> {
        let (reply, response) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            if waiting.len() >= MAX_WAITING {
                return Err(Refusal::Overloaded("too many acknowledgements are waiting"));
            }
            waiting.push(Request { key, action, reply });
        }
        self.wake.notify_one();
        // Only the end of the task drops the sender without a reply.
        response.await.unwrap_or(Err(Refusal::Store(store::Error::Lost)))
    }

    /// Makes the changes that are submitted, in rounds. Never returns.
    pub(crate) async fn run(&self) {
        loop {
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(EXPIRY_INTERVAL) => {}
            }
            self.flush().await;
            tokio::time::sleep(FLUSH_PAUSE).await;
        }
    }

    /// Makes the changes that wait, in one transaction.
    async fn flush(&self) {
        let requests = std::mem::take(&mut *lock(&self.waiting));
        let results = match self.apply(&requests).await {
            Ok(results) => results,
            Err(error) => requests.iter().map(|_| Err(Refusal::Store(error.clone()))).collect(),
        };
        for (request, result) in requests.into_iter().zip(results) {
            let _ = request.reply.send(result);
        }
    }

    async fn apply(&self, requests: &[Request]) -> Result<Vec<Result<Position, Refusal>>, store::Error> {
        let (table, now) = (self.table().await?, self.clock.now());
        let (changes, results) = {
            let table = table.read().unwrap_or_else(PoisonError::into_inner);
            self.plan(&table, requests, now)
        };
        if changes.is_empty() {
            return Ok(results);
        }
        self.log.write_consumers(changes.clone()).await?;
        let mut table = table.write().unwrap_or_else(PoisonError::into_inner);
        for (key, change) in changes {
            match change {
                Some(stored) => {
                    let acknowledged = stored.acknowledged;
                    table.insert(key, Entry { stored, acknowledged });
                }
                None => drop(table.remove(&key)),
            }
        }
        Ok(results)
    }

    /// Returns the changes to write for the requests, and the results to send after the write.
    fn plan(
        &self,
        table: &Table,
        requests: &[Request],
        now: i64,
    ) -> (ConsumerChanges, Vec<Result<Position, Refusal>>) {
        let expired = table.iter().filter(|(_, entry)| self.is_expired(entry, now));
        let mut plan = Plan { table, changes: expired.map(|(key, _)| (key.clone(), None)).collect() };
        let results = requests.iter().map(|request| self.plan_one(&mut plan, request, now)).collect();
        (plan.changes, results)
    }

    fn plan_one(
        &self,
        plan: &mut Plan<'_>,
        Request { key, action, .. }: &Request,
        now: i64,
    ) -> Result<Position, Refusal> {
        let current = plan.get(key).cloned();
        let (wanted, current) = match (action, current) {
            (Action::Delete, None) => return Err(Refusal::ConsumerNotFound(key.id.clone())),
            (Action::Delete, Some(current)) => {
                plan.changes.insert(key.clone(), None);
                return Ok(position(&current));
            }
            (Action::Register(_), Some(current)) => return Ok(position(&current)),
            (Action::Acknowledge { position: wanted, allow_rewind }, Some(current))
                if covers(&current, wanted, *allow_rewind) =>
            {
                if !self.is_stale(&current, now) {
                    return Ok(position(&current));
                }
                (position(&current), Some(current))
            }
            (Action::Register(wanted) | Action::Acknowledge { position: wanted, .. }, current) => {
                (wanted.clone(), current)
            }
        };
        if current.is_none() {
            self.check_limits(plan, &key.owner)?;
        }
        let created = current.map_or(now, |current| current.created);
        let Position { log_id, revision, chain } = wanted.clone();
        let consumer = Consumer { log_id, revision, chain, created, acknowledged: now };
        plan.changes.insert(key.clone(), Some(consumer));
        Ok(wanted)
    }

    /// Fails if an owner may have no further consumer.
    fn check_limits(&self, plan: &Plan<'_>, owner: &str) -> Result<(), Refusal> {
        let (of_node, of_owner) = plan.counts(owner);
        if of_owner >= self.limits.of_owner {
            return Err(Refusal::TooManyConsumers { scope: "caller", maximum: self.limits.of_owner });
        }
        if of_node >= self.limits.of_node {
            return Err(Refusal::TooManyConsumers { scope: "node", maximum: self.limits.of_node });
        }
        Ok(())
    }

    fn is_expired(&self, entry: &Entry, now: i64) -> bool {
        now.saturating_sub(entry.acknowledged) > self.retention()
    }

    /// Whether the time of the last acknowledgement on disk is so old that another one is written.
    fn is_stale(&self, stored: &Consumer, now: i64) -> bool {
        now.saturating_sub(stored.acknowledged) >= REFRESH_MICROS.min(self.retention() / 4)
    }

    fn retention(&self) -> i64 {
        clock::micros(self.limits.retention)
    }

    async fn table(&self) -> Result<&RwLock<Table>, store::Error> {
        let load = || async {
            let stored: ConsumerTable = self.store.read(|snapshot| snapshot.consumers()).await?;
            let entry = |stored: Consumer| Entry { acknowledged: stored.acknowledged, stored };
            Ok(RwLock::new(stored.into_iter().map(|(key, stored)| (key, entry(stored))).collect()))
        };
        self.table.get_or_try_init(load).await
    }
}

/// The table after the requests of a round so far.
struct Plan<'a> {
    table: &'a Table,
    changes: ConsumerChanges,
}

impl Plan<'_> {
    fn get(&self, key: &ConsumerKey) -> Option<&Consumer> {
        match self.changes.get(key) {
            Some(change) => change.as_ref(),
            None => self.table.get(key).map(|entry| &entry.stored),
        }
    }

    /// Returns the number of consumers of the node and of an owner.
    fn counts(&self, owner: &str) -> (usize, usize) {
        let unchanged = self.table.keys().filter(|key| !self.changes.contains_key(key));
        let written = self.changes.iter().filter(|(_, change)| change.is_some()).map(|(key, _)| key);
        unchanged.chain(written).fold((0, 0), |(of_node, of_owner), key| {
            (of_node + 1, of_owner + usize::from(key.owner == owner))
        })
    }
}

fn position(Consumer { log_id, revision, chain, .. }: &Consumer) -> Position {
    Position { log_id: *log_id, revision: *revision, chain: *chain }
}

/// Whether the stored position stays if another one is acknowledged.
fn covers(stored: &Consumer, position: &Position, allow_rewind: bool) -> bool {
    let is_same = stored.revision == position.revision && stored.chain == position.chain;
    let is_later = stored.revision > position.revision;
    stored.log_id == position.log_id && (is_same || is_later && !allow_rewind)
}

fn status(key: &ConsumerKey, entry: &Entry, head: &Head) -> ConsumerStatus {
    let Entry { stored, acknowledged } = entry;
    let is_of_log = stored.log_id == head.log_id;
    let reset_reason = match stored.revision {
        _ if !is_of_log => Some(FeedResetReason::LogChanged),
        revision if revision < head.floor => Some(FeedResetReason::Compacted),
        _ => None,
    };
    ConsumerStatus {
        key: key.clone(),
        position: position(stored),
        created: stored.created,
        acknowledged: *acknowledged,
        lag_revisions: if is_of_log { (head.revision - stored.revision).max(0) } else { 0 },
        lag: None,
        reset_reason,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
