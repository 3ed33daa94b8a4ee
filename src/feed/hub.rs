//! The hub reads new commits once and delivers them to the groups that they concern. It wakes only the followers of
//! these groups.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    event::CommitEvents,
    group::CommitMessage,
    groups::Groups,
    retained::{Retained, RetainedCommit},
};
use crate::{
    model::{Kind, LogId, Revision},
    store::{
        Error, Store,
        history::{Bounds, ChainPosition, Commit, HistoryRange, Selection},
    },
};

/// The bounds of one read. A larger commit is not retained: followers read it from the store, part by part.
const READ_BOUNDS: Bounds = Bounds { rows: 20_000, events: 1_024, bytes: 4 << 20 };

/// The first and the longest pause before a failed read is retried.
const FIRST_RETRY_PAUSE: Duration = Duration::from_millis(50);
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How long reads may fail before followers receive the error. Without it, their positions would silently stop
/// advancing.
pub(super) const FAILURE_TIMEOUT: Duration = Duration::from_secs(5);

/// The groups of a node, and how far commits were delivered to them.
pub(super) struct Hub {
    store: Arc<Store>,
    log_id: LogId,
    pub(super) groups: Arc<Groups>,
    progress: Mutex<Progress>,
    retained: Mutex<Retained>,
    /// How long reads may fail before followers receive the error.
    failure_timeout: Duration,
    /// The number of erasures. A message that was read before an erasure is not retained after it.
    erasures: AtomicU64,
    /// Runs once between the two reads of `Follower::peek_next`.
    #[cfg(test)]
    pub(super) between_reads: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// Makes the hub panic.
    #[cfg(test)]
    pub(super) should_panic: Mutex<bool>,
}

#[derive(Debug)]
struct Progress {
    /// All commits up to here were delivered to the groups.
    position: ChainPosition,
    /// The reason why no more commits can be delivered.
    failure: Option<Error>,
}

/// Commits that were read and are not delivered yet.
pub(super) struct CommitBatch {
    commits: Vec<Commit>,
    reached: ChainPosition,
    within: Option<Revision>,
    /// The number of erasures before they were read.
    erasures: u64,
}

impl Hub {
    pub(super) fn new(store: Arc<Store>, failure_timeout: Duration) -> Hub {
        let head = store.head();
        let position = ChainPosition { revision: head.revision, chain: Some(head.chain) };
        Hub {
            log_id: head.log_id,
            store,
            groups: Arc::new(Groups::new(head.revision)),
            progress: Mutex::new(Progress { position, failure: None }),
            retained: Mutex::default(),
            failure_timeout,
            erasures: AtomicU64::new(0),
            #[cfg(test)]
            between_reads: Mutex::default(),
            #[cfg(test)]
            should_panic: Mutex::default(),
        }
    }

    /// Returns the position up to which all groups have received everything.
    ///
    /// # Errors
    /// No more commits can be delivered.
    pub(super) fn position(&self) -> Result<ChainPosition, Error> {
        let progress = self.progress();
        progress.failure.clone().map_or(Ok(progress.position), Err)
    }

    /// Returns the number of erasures so far.
    pub(super) fn erasures(&self) -> u64 {
        self.erasures.load(Ordering::Acquire)
    }

    /// Drops all retained messages. A message that is being encoded is dropped too: `Group::push` checks under the lock
    /// of its group whether there was an erasure since, and the erasure is counted before the group is emptied here.
    pub(super) fn clear(&self) {
        self.erasures.fetch_add(1, Ordering::AcqRel);
        for group in self.groups.all() {
            group.clear();
        }
        self.retained().clear();
    }

    /// Delivers commits until the store closes.
    pub(super) async fn run(&self) {
        let mut heads = self.store.heads();
        #[cfg(test)]
        assert!(!*self.should_panic.lock().unwrap_or_else(PoisonError::into_inner), "injected panic");
        loop {
            let head = heads.borrow_and_update().revision;
            self.deliver_up_to(head).await;
            if heads.changed().await.is_err() {
                return self.fail(Error::Closed);
            }
        }
    }

    /// Reads and delivers commits, and retries failed reads. The first failure is logged; failures that last end the
    /// followers.
    async fn deliver_up_to(&self, head: Revision) {
        let (mut pause, mut failing_since) = (FIRST_RETRY_PAUSE, None);
        while self.groups.delivered() < head {
            match self.read().await {
                Ok(batch) => {
                    if let Some(batch) = batch {
                        self.deliver(batch);
                    }
                    if failing_since.take().is_some() {
                        tracing::info!("feed reads recovered");
                        self.progress().failure = None;
                    }
                    pause = FIRST_RETRY_PAUSE;
                }
                Err(error) => {
                    let since = *failing_since.get_or_insert_with(|| {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "feed read failed, will retry"
                        );
                        Instant::now()
                    });
                    if since.elapsed() >= self.failure_timeout {
                        self.fail(error);
                    }
                    tokio::time::sleep(pause).await;
                    pause = (2 * pause).min(MAX_RETRY_PAUSE);
                }
            }
        }
    }

    /// Ends the followers with an error. Later followers receive it too, until a read succeeds.
    pub(super) fn fail(&self, error: Error) {
        self.progress().failure = Some(error);
        for group in self.groups.all() {
            group.wake();
        }
    }

    /// Reads the next commits. Returns None if there is no group to deliver them to.
    pub(super) async fn read(&self) -> Result<Option<CommitBatch>, Error> {
        let erasures = self.erasures();
        let head = self.store.head();
        if self.groups.skip_if_empty(head.revision) {
            self.retained().clear();
            self.progress().position = ChainPosition { revision: head.revision, chain: Some(head.chain) };
            return Ok(None);
        }
        let delivered = self.groups.delivered();
        let wanted =
            Selection { departed_terms: Some(Vec::new()), kinds: Kind::ALL.to_vec(), ..Selection::default() };
        let read = self.store.read(move |snapshot| snapshot.history(delivered, &wanted, READ_BOUNDS));
        let HistoryRange { commits, reached, within, .. } = read.await?;
        Ok(Some(CommitBatch { commits, reached, within, erasures }))
    }

    /// Delivers commits. Groups receive them one by one, and no lock is held while a message is encoded.
    pub(super) fn deliver(&self, CommitBatch { commits, reached, within, erasures }: CommitBatch) {
        self.groups.mark_delivered(reached.revision);
        for commit in commits {
            self.deliver_commit(CommitEvents::new(commit, None), within.is_none(), erasures);
        }
        if within.is_none() {
            self.progress().position = reached;
        }
    }

    /// Adds the message of a commit to each group that it concerns. If the commit was read in parts, the groups only
    /// record that their followers must read it from the store.
    fn deliver_commit(&self, mut commit: CommitEvents, is_complete: bool, erasures: u64) {
        let mut retained = RetainedCommit::new(commit.end.revision);
        for group in self.groups.matching_groups(&commit).into_values() {
            let selected = commit.select(&group.key.filter, group.key.backfill);
            let Some(first_revision) = commit.first_revision(&selected) else { continue };
            let encoding = (group.key.encoding(self.log_id), group.key.form);
            let message = is_complete.then(|| commit.message(selected, encoding, retained.room()));
            match message.flatten() {
                None => group.skip(commit.end.revision),
                Some(message) => {
                    retained.add(&group, commit.retained_bytes());
                    self.retained().make_room(retained.bytes());
                    let message = CommitMessage { first_revision, end: commit.end, message };
                    group.push(message, || self.erasures() == erasures);
                }
            }
            group.wake();
        }
        let mut all_retained = self.retained();
        if self.erasures() == erasures {
            all_retained.make_room(retained.bytes());
            all_retained.push(retained);
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retained(&self) -> MutexGuard<'_, Retained> {
        self.retained.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn retained_bytes(&self) -> usize {
        self.retained().bytes()
    }
}
