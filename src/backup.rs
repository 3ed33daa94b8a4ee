//! Backups of the store of a running node: a copy on the node's disk, which is then sent at the pace of the client.
//!
//! Only the copying holds an old state of the store. A kill ends a backup, so no backup that ends after a kill contains
//! the killed content, and no kill waits for a backup.

use std::{
    fs::File,
    io::Read as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

use crate::{
    audit::{Audit, Event, Origin},
    digest::Hash,
    refusal::Refusal,
    store::{self, Head, Store, StoreCopy},
    telemetry::{Metrics, Outcome},
};

/// The maximum number of backups at once: each takes as much of the disk as the store, and reads all of it.
const MAX_BACKUPS: usize = 1;

/// The maximum time of the copying, for which the write-ahead log can only grow. The largest store, 256 GiB, takes less
/// at 100 MB/s.
const MAX_COPY_TIME: Duration = Duration::from_secs(3_600);

/// The number of bytes in one message. The next one is read when the connection has room for it.
const CHUNK_BYTES: usize = 256 << 10;

/// The backups of a node.
pub(crate) struct Backups {
    store: Arc<Store>,
    audit: Arc<Audit>,
    metrics: Arc<Metrics>,
    permits: Arc<Semaphore>,
    /// The number of kills since the start.
    kills: Arc<AtomicU64>,
}

impl Backups {
    pub(crate) fn new(store: Arc<Store>, audit: Arc<Audit>, metrics: Arc<Metrics>) -> Backups {
        let kills = Arc::new(AtomicU64::new(0));
        let counter = kills.clone();
        store.on_erase(move || {
            counter.fetch_add(1, Relaxed);
        });
        Backups { store, audit, metrics, permits: Arc::new(Semaphore::new(MAX_BACKUPS)), kills }
    }

    /// Starts a backup for a caller.
    ///
    /// # Errors
    /// As many backups are running as may.
    pub(crate) fn start(&self, origin: Origin) -> Result<Backup, Refusal> {
        let permit = self.permits.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Refusal::BackupRunning { maximum: MAX_BACKUPS })?;
        let validity = Validity {
            kills: self.kills.clone(),
            kills_at_start: self.kills.load(Relaxed),
            copy_deadline: Instant::now() + MAX_COPY_TIME,
            is_dropped: Arc::default(),
        };
        let record = Record {
            audit: self.audit.clone(),
            metrics: self.metrics.clone(),
            outcome: "cancelled",
            origin,
            head: None,
            bytes: 0,
        };
        let step = Step::Copy;
        Ok(Backup { store: self.store.clone(), step, validity, record, permit: Arc::new(permit) })
    }
}

/// A backup in progress. Dropping it ends it.
pub(crate) struct Backup {
    store: Arc<Store>,
    step: Step,
    validity: Validity,
    record: Record,
    /// Held until the copying has ended, also after the call.
    permit: Arc<OwnedSemaphorePermit>,
}

/// The next part of a backup.
pub(crate) enum Part {
    Manifest { head: Box<Head>, bytes: u64 },
    Chunk(Bytes),
    End { sha256: Hash },
}

/// The next step of a backup.
enum Step {
    Copy,
    Send(Sending),
    Ended,
}

/// The bytes that are left to send, and the digest of those that were sent.
struct Sending {
    file: File,
    left: u64,
    sha256: Sha256,
}

impl Backup {
    /// Returns the next part, `None` after the end.
    ///
    /// # Errors
    /// The store cannot be copied or read, or a kill has made the backup unwanted.
    pub(crate) async fn next(&mut self) -> Result<Option<Part>, Refusal> {
        let part = match std::mem::replace(&mut self.step, Step::Ended) {
            Step::Copy => self.copy().await.map(Some),
            Step::Send(sending) => self.send(sending).await.map(Some),
            Step::Ended => Ok(None),
        };
        part.inspect_err(|_| self.record.outcome = "failed")
    }

    async fn copy(&mut self) -> Result<Part, Refusal> {
        let (store, permit, validity) = (self.store.clone(), self.permit.clone(), self.validity.clone());
        let copied = spawn_blocking(move || {
            let _permit = permit;
            store.copy(move || validity.check_copying().is_err())
        });
        let copied = copied.await.map_err(|_| Refusal::Internal("the copying of the store panicked"))?;
        // A copy that was cancelled fails for that reason.
        self.validity.check_copying()?;
        let StoreCopy { file, bytes, head } = copied?;
        self.record.start(&head);
        self.step = Step::Send(Sending { file, left: bytes, sha256: Sha256::new() });
        Ok(Part::Manifest { head: Box::new(head), bytes })
    }

    async fn send(&mut self, sending: Sending) -> Result<Part, Refusal> {
        self.validity.check()?;
        if sending.left == 0 {
            return Ok(self.end(sending));
        }
        let read = spawn_blocking(move || sending.read());
        let read = read.await.map_err(|_| Refusal::Internal("the reading of the backup panicked"))?;
        let (chunk, sending) = read.map_err(store::Error::from)?;
        self.record.bytes += chunk.len() as u64;
        self.step = Step::Send(sending);
        Ok(Part::Chunk(chunk))
    }

    fn end(&mut self, sending: Sending) -> Part {
        if let Err(error) = self.store.mark_backup() {
            tracing::warn!(%error, "time of the backup not noted");
        }
        self.record.outcome = "sent";
        Part::End { sha256: sending.sha256.finalize().into() }
    }
}

impl Drop for Backup {
    fn drop(&mut self) {
        self.validity.is_dropped.store(true, Relaxed);
    }
}

impl Sending {
    /// Reads the next chunk.
    fn read(mut self) -> std::io::Result<(Bytes, Sending)> {
        let length = self.left.min(CHUNK_BYTES as u64);
        let mut chunk = vec![0; length as usize];
        self.file.read_exact(&mut chunk)?;
        self.sha256.update(&chunk);
        self.left -= length;
        Ok((chunk.into(), self))
    }
}

/// Whether a backup is still wanted.
#[derive(Debug, Clone)]
struct Validity {
    kills: Arc<AtomicU64>,
    kills_at_start: u64,
    copy_deadline: Instant,
    is_dropped: Arc<AtomicBool>,
}

impl Validity {
    fn check(&self) -> Result<(), Refusal> {
        if self.kills.load(Relaxed) != self.kills_at_start {
            return Err(Refusal::BackupInterrupted("an article was killed meanwhile"));
        }
        Ok(())
    }

    fn check_copying(&self) -> Result<(), Refusal> {
        self.check()?;
        if self.is_dropped.load(Relaxed) {
            return Err(Refusal::BackupInterrupted("the call has ended"));
        }
        if Instant::now() >= self.copy_deadline {
            return Err(Refusal::BackupInterrupted("the copy of the store took too long"));
        }
        Ok(())
    }
}

/// The record of a backup in the audit log and the metrics: once before its first byte is sent, and when it is dropped.
struct Record {
    audit: Arc<Audit>,
    metrics: Arc<Metrics>,
    outcome: &'static str,
    origin: Origin,
    /// The head in the copy.
    head: Option<Head>,
    bytes: u64,
}

impl Record {
    fn start(&mut self, head: &Head) {
        self.head = Some(head.clone());
        self.submit("started");
    }

    fn submit(&self, outcome: &'static str) {
        let Some(Head { log_id, revision, .. }) = self.head else { return };
        let (origin, bytes) = (self.origin.clone(), self.bytes);
        self.audit.submit(Event::Backup { origin, outcome, log_id, revision, bytes });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.metrics.backups.get_or_create(&Outcome { outcome: self.outcome }).inc();
        self.submit(self.outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_given_up_for_each_reason() {
        let hour = Duration::from_secs(3_600);
        let validity = |kills: u64, time: Duration, is_dropped: bool| Validity {
            kills: Arc::new(AtomicU64::new(kills)),
            kills_at_start: 1,
            copy_deadline: Instant::now() + time,
            is_dropped: Arc::new(AtomicBool::new(is_dropped)),
        };
        let text = |checked: Result<(), Refusal>| checked.err().map(|refusal| refusal.to_string());
        assert_eq!(text(validity(1, hour, false).check_copying()), None);
        for (validity, reason) in [
            (validity(2, hour, false), "an article was killed meanwhile"),
            (validity(1, Duration::ZERO, false), "the copy of the store took too long"),
            (validity(1, hour, true), "the call has ended"),
        ] {
            let expected = format!("backup interrupted: {reason}; start another one");
            assert_eq!(text(validity.check_copying()), Some(expected));
        }
        // The time for the copying does not limit the sending.
        assert_eq!(text(validity(1, Duration::ZERO, false).check()), None);
    }
}
