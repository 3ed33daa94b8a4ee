//! The durable store of one node: one directory, one embedded database, one writer, a few readers.
//!
//! It holds the newest entry of each key, and the lists and paths derived from these entries. Only [`apply`] changes
//! the state that readers see, always together with the head. It knows nothing of calls, caches or feeds, and does not
//! decide what an entry contains.

use std::{
    fmt,
    fs::File,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::watch;

use crate::{
    digest::Hash,
    digest::SetDigest,
    health::{Condition, Health},
    model::{HashPrefix, Kind, LogId, Name, Revision, Slot},
};

pub(crate) mod apply;
mod changed;
pub(crate) mod consumer;
mod copy;
mod damage;
mod directory;
pub(crate) mod due;
pub(crate) mod envelope;
mod erase;
mod error;
#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod floor;
pub(crate) mod history;
mod ledger;
pub(crate) mod listing;
mod matching;
mod open;
mod pages;
mod read;
mod read_only;
mod readers;
pub(crate) mod rebuild;
mod record;
pub(crate) mod request;
mod row;
mod salvage;
mod scan;
mod schema;
pub(crate) mod scrub;
mod session;
mod snapshot;
pub(crate) mod verify;
mod wal;
mod writer;

use apply::NextDue;
use changed::LastChanged;
pub(crate) use changed::{Stripe, Subject};
pub(crate) use copy::{PREFIX as TEMPORARY_PREFIX, StoreCopy, remove_abandoned};
pub(crate) use damage::Damage;
pub(crate) use directory::{DATABASE, LOCK, is_backup, is_database, is_store, mark_backup};
pub(crate) use error::Error;
use ledger::Ledgers;
pub(crate) use ledger::Tally;
pub(crate) use open::{OpenError, Options, check_log_intact, lock};
pub(crate) use read::RecordCount;
pub(crate) use read_only::ReadOnlyStore;
use readers::Readers;
pub(crate) use record::{Record, Tombstone};
pub(crate) use session::{Adopted, Identity, adopt_copy};
pub(crate) use snapshot::Snapshot;
pub(crate) use writer::Writer;

/// The head of a store: its revision, counts and digests. It moves in the transaction of each entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) log_id: LogId,
    pub(crate) revision: Revision,
    pub(crate) chain: Hash,
    /// The history floor: departures are known from this revision on.
    pub(crate) floor: Revision,
    pub(crate) log_digest: SetDigest,
    pub(crate) content_digest: SetDigest,
    live: [i64; Kind::ALL.len()],
}

impl Head {
    /// Returns the number of live versions of a kind.
    pub(crate) fn live(&self, kind: Kind) -> i64 {
        self.live[kind as usize - 1]
    }

    fn live_mut(&mut self, kind: Kind) -> &mut i64 {
        &mut self.live[kind as usize - 1]
    }
}

/// The outcome of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WriteOutcome {
    pub(crate) name: Name,
    /// The revision of the name's newest version: that of this change or, if it changed nothing, of an earlier one.
    pub(crate) revision: Revision,
    /// The hash prefix of the entry.
    pub(crate) prefix: HashPrefix,
    /// Whether the change created a revision.
    pub(crate) changed: bool,
    pub(crate) slot: Slot,
    /// For a pending version, the time at which it becomes visible, in microseconds since 1970 UTC.
    pub(crate) due: Option<i64>,
    /// Whether the slot is empty after the change.
    pub(crate) removed: bool,
    /// Whether the change is a kill.
    pub(crate) killed: bool,
    /// The article that owns the path of this one, which was written without the path.
    pub(crate) path_owner: Option<Name>,
}

/// An open store: reads, and the head. Dropping it closes the readers.
#[derive(Debug)]
pub(crate) struct Store {
    options: Options,
    readers: Readers,
    head: watch::Sender<Arc<Head>>,
    /// The earliest due time.
    due: watch::Sender<Option<i64>>,
    /// The revision of the head, for callers that need nothing else.
    revision: AtomicI64,
    changed: LastChanged,
    erase_listeners: EraseListeners,
    ledgers: Ledgers,
    last_scrub: Mutex<LastScrub>,
    _lock: File,
}

/// The findings of the last pass over the whole store.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastScrub {
    /// The damaged records.
    pub(crate) damage: Damage,
    /// Whether a pass has ended since the store was opened.
    pub(crate) has_ended: bool,
    /// The time at which the pass ended, in microseconds since 1970 UTC. Unset until the server sets the time of the
    /// pass at the opening.
    pub(crate) time: Option<i64>,
}

/// The callbacks of components that hold data in memory that they have read from the store.
#[derive(Default)]
struct EraseListeners(Mutex<Vec<Box<dyn Fn() + Send + Sync>>>);

impl fmt::Debug for EraseListeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EraseListeners")
    }
}

impl Store {
    /// Returns the newest head that is applied.
    pub(crate) fn head(&self) -> Arc<Head> {
        self.head.borrow().clone()
    }

    /// Returns a receiver that is notified of later heads.
    pub(crate) fn heads(&self) -> watch::Receiver<Arc<Head>> {
        self.head.subscribe()
    }

    /// Returns the newest revision that is applied.
    pub(crate) fn revision(&self) -> Revision {
        self.revision.load(Ordering::Acquire)
    }

    /// Returns a receiver of the earliest due time, in microseconds since 1970 UTC, that is notified of changes.
    pub(crate) fn next_due(&self) -> watch::Receiver<Option<i64>> {
        self.due.subscribe()
    }

    /// Returns whether no subject of the stripes has changed since a revision. Data that was loaded at that head is
    /// then current. Other subjects share the stripes, so `false` does not prove a change.
    pub(crate) fn unchanged_since(&self, revision: Revision, stripes: &[Stripe]) -> bool {
        stripes.iter().all(|stripe| self.changed.at(*stripe) <= revision)
    }

    /// Runs a read in one transaction, on one of the reader threads. It must be short: some hundred rows.
    ///
    /// # Errors
    /// Fails if the queue is full, or if the read fails.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(Snapshot<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.readers.run(job).await.inspect_err(|error| error.report(&self.options.health))
    }

    /// Measures how long a read is queued now. `None` if the queue is full.
    pub(crate) async fn measure_read_delay(&self) -> Option<Duration> {
        self.readers.measure_delay().await
    }

    /// Returns the size of the store on disk, in bytes.
    pub(crate) fn bytes_on_disk(&self) -> u64 {
        directory::bytes_on_disk(&self.options.dir)
    }

    /// Registers a function that the writer's thread calls after each kill, once the kill is visible and before it is
    /// acknowledged. The function must drop all data that was read before. It blocks all writes.
    pub(crate) fn on_erase(&self, listener: impl Fn() + Send + Sync + 'static) {
        self.erase_listeners.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    /// Returns whether the database is damaged beyond single records. A record that a read does not find may still
    /// exist.
    pub(crate) fn is_damaged(&self) -> bool {
        self.options.health.conditions().is_active(Condition::DatabaseCorrupt)
    }

    /// Scrubs a small store immediately, so that no index is used that has lost rows unnoticed.
    fn scrub_if_small(&self, connection: &Connection) {
        if self.bytes_on_disk() > scrub::MAX_BYTES_AT_OPEN {
            return;
        }
        let mut pass = scrub::Pass::new(self.start_tally());
        loop {
            match Snapshot::read(connection, |snapshot| pass.step(snapshot)) {
                Ok(None) => {}
                Ok(Some(findings)) => return self.record_scrub(findings, None),
                Err(error) => return tracing::warn!(%error, "initial scrub failed"),
            }
        }
    }

    /// Records the findings of a pass and the time at which it ended, in microseconds since 1970 UTC.
    pub(crate) fn record_scrub(&self, findings: scrub::ScrubFindings, time: Option<i64>) {
        if let Some(fault) = &findings.fault {
            self.options.health.report(Condition::DatabaseCorrupt, fault);
        }
        let mut last = self.last_scrub.lock().unwrap_or_else(PoisonError::into_inner);
        *last = LastScrub { damage: findings.damage, has_ended: true, time: time.or(last.time) };
    }

    /// Sets the time of the pass that ran when the store was opened, which had no clock.
    pub(crate) fn set_scrub_time(&self, now: i64) {
        self.last_scrub.lock().unwrap_or_else(PoisonError::into_inner).time.get_or_insert(now);
    }

    /// Returns the findings of the last pass over the whole store.
    pub(crate) fn last_scrub(&self) -> LastScrub {
        self.last_scrub.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts a sum of records.
    pub(crate) fn start_tally(&self) -> Tally {
        self.ledgers.start_tally(self.revision())
    }

    fn notify_erase_listeners(&self) {
        for listener in self.erase_listeners.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            listener();
        }
    }

    /// Makes an entry's effect visible. The order matters: a reader that sees the head finds the changes marked.
    fn publish(&self, effect: apply::Effect) {
        for (stripe, revision) in effect.changed {
            self.changed.mark(stripe, revision);
        }
        self.ledgers.note(&effect.superseded, effect.head.revision);
        self.revision.store(effect.head.revision, Ordering::Release);
        self.head.send_replace(Arc::new(effect.head));
        if let NextDue::Updated(due) = effect.next_due {
            self.due.send_replace(due);
        }
    }

    /// Returns the health of the node that owns the store.
    pub(crate) fn health(&self) -> &Arc<Health> {
        &self.options.health
    }

    /// Reports whether the disk has space for writes, even if there are none.
    pub(crate) fn observe_space(&self) {
        match self.check_space() {
            Ok(()) => self.options.health.clear(Condition::DiskFull),
            Err(error) => error.report(&self.options.health),
        }
    }

    /// Fails if even a successful write could no longer be relied upon.
    fn check_writable(&self) -> Result<(), Error> {
        if self.is_damaged() {
            return Err(Error::damaged());
        }
        match self.options.health.cause(Condition::SyncFailed) {
            Some(cause) => Err(Error::ReadOnly { cause, until: "this node is restarted" }),
            None => Ok(()),
        }
    }

    fn check_space(&self) -> Result<(), Error> {
        let reserve = self.options.reserve_bytes;
        let Some(free) = self.free_bytes() else { return Ok(()) };
        if free < reserve { Err(Error::Full { free, reserve }) } else { Ok(()) }
    }

    /// Returns the free bytes of the disk.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        let space = rustix::fs::statvfs(&self.options.dir).ok()?;
        Some(space.f_bavail.saturating_mul(space.f_frsize))
    }

    /// Notes that a backup has been sent.
    pub(crate) fn mark_backup(&self) -> io::Result<()> {
        mark_backup(&self.options.dir)
    }

    /// Returns the end of the last backup, in seconds since 1970 UTC.
    pub(crate) fn last_backup_secs(&self) -> Option<u64> {
        directory::last_backup_secs(&self.options.dir)
    }

    /// Returns the bytes of the disk that are reserved for removals.
    pub(crate) fn reserve_bytes(&self) -> u64 {
        self.options.reserve_bytes
    }

    /// Returns the number of reads that wait for a thread, and that of reads refused so far.
    pub(crate) fn read_queue(&self) -> (usize, u64) {
        self.readers.counts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_reported_until_there_is_space() {
        let dir = tempfile::tempdir().unwrap();
        let options = |reserve_bytes| Options {
            dir: dir.path().into(),
            readers: 1,
            reserve_bytes,
            health: Arc::default(),
        };
        let (store, writer) = Store::open(options(u64::MAX), LogId(1)).unwrap();
        store.observe_space();
        assert!(store.health().cause(Condition::DiskFull).is_some());
        drop((store, writer));
        let (store, _writer) = Store::open(options(0), LogId(1)).unwrap();
        store.health().report(Condition::DiskFull, "a test");
        store.observe_space();
        assert!(store.health().cause(Condition::DiskFull).is_none());
    }
}
