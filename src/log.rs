//! The order of writes. Only a log assigns revisions. The store applies the entries that the log has ordered, and reads
//! see applied entries only.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::{
    audit::Origin,
    digest::Hash,
    entry::Entry,
    model::{LogId, Name, Revision, Slot},
    store::{self, Head, WriteOutcome, envelope::Packed},
};

mod audited;
mod commit;
pub(crate) mod local;
mod moves;
mod paths;

/// An entry with the state of its name for which it was planned.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) entry: Entry,
    pub(crate) packed: Packed,
    pub(crate) expected: Expected,
    /// The article that owns the path that was omitted from this one.
    pub(crate) path_owner: Option<Name>,
}

/// The revisions of a name's newest entries, 0 if it never had any. An append is a compare-and-set on both slots,
/// because the effect of a change on one slot depends on the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) live: Revision,
    pub(crate) pending: Revision,
}

impl Expected {
    fn of(self, slot: Slot) -> Revision {
        match slot {
            Slot::Live => self.live,
            Slot::Pending => self.pending,
        }
    }
}

/// The effect of one change of a commit.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Append entries. The last one is the subject of the change.
    Append(Vec<Change>),
    /// Write nothing: the wanted version exists, as long as the name is still in the state for which the change was
    /// planned.
    Unchanged { found: WriteOutcome, expected: Expected },
}

/// Changes that are applied atomically.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) steps: Vec<Step>,
    /// The `request_id`, and the identity of the request.
    pub(crate) request: Option<(String, Hash)>,
    /// The time of the commit, in microseconds since 1970 UTC.
    pub(crate) time: i64,
    /// The origin of the changes.
    pub(crate) origin: Arc<Origin>,
    /// Whether the commit kills, or repeats a kill. Its response is then sent when the killed content is erased.
    pub(crate) erases: bool,
    /// Live articles that may lose their paths to this commit without an entry of their own, because their records are
    /// damaged.
    pub(crate) displaces: Vec<Name>,
}

impl Commit {
    /// Returns the size of its entries in bytes, as they are held in memory until they are written.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |step: &Step| match step {
            Step::Append(changes) => {
                changes.iter().map(|change| 2 * change.entry.bytes.len() + change.packed.len()).sum()
            }
            Step::Unchanged { .. } => 0,
        };
        self.steps.iter().map(bytes).sum()
    }

    /// Returns whether the commit adds content. A commit that adds none may use the reserved disk space.
    pub(crate) fn puts(&self) -> bool {
        let puts = |step: &Step| match step {
            Step::Append(changes) => changes.iter().any(|change| change.entry.derived.live),
            Step::Unchanged { .. } => false,
        };
        self.steps.iter().any(puts)
    }
}

/// A position in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) log_id: LogId,
    pub(crate) revision: Revision,
    /// The chain hash, which proves the lineage up to the revision.
    pub(crate) chain: Hash,
}

impl Position {
    pub(crate) fn of(head: &Head) -> Position {
        Position { log_id: head.log_id, revision: head.revision, chain: head.chain }
    }
}

/// The outcome of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The commit is on disk. Holds the outcome of each step, and the position after the last one.
    Committed(Vec<WriteOutcome>, Position),
    /// The same request was committed before, with this outcome.
    Duplicate(Vec<WriteOutcome>),
    /// Its `request_id` was used for another request.
    Reused,
    /// A name has changed since. Nothing was written.
    Conflict,
    /// Another live article owns the path that this step would give its article. Nothing was written.
    PathTaken { step: usize, path: String, owner: Name },
    /// The name that this step moves to leads back to the one that it removes or, if not `is_back`, through more moves
    /// than are followed. Nothing was written.
    MovedInLoop { step: usize, target: Name, is_back: bool },
}

/// The order of writes, independent of the engine that stores it.
pub(crate) trait Log: Send + Sync + 'static {
    /// Appends commits in order, each atomically. Returns one outcome per commit, once all of them are on disk and the
    /// content that they kill is erased.
    ///
    /// # Errors
    /// Nothing was appended, unless the error states that this is uncertain. Without space on the disk (`Full`,
    /// `NoSpace`), the commits that only remove are still appended.
    ///
    /// The future may be dropped: the commits that were passed in are still appended. Every condition of a write is
    /// therefore checked where it is appended; nothing that the caller's future holds protects it.
    fn append(&self, commits: Vec<Commit>) -> BoxFuture<'_, Result<Vec<Outcome>, store::Error>>;
}
