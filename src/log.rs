//! The order of writes. Only a log hands out revisions; what comes out of it is applied, and only that is read.

use futures_util::future::BoxFuture;

use crate::{
    digest::Hash,
    entry::Entry,
    model::{LogId, Name, Revision, Slot},
    store::{self, Head, Written, envelope::Packed},
};

pub(crate) mod local;
mod paths;

/// One change with the state that it was made for.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) entry: Entry,
    pub(crate) packed: Packed,
    pub(crate) expected: Expected,
    /// The article that has the path that was left out of this one.
    pub(crate) path_owner: Option<Name>,
}

/// The revisions of a name's newest entries, 0 where it never had any: an append is a compare-and-set on both slots, for
/// what becomes of one follows from what is in the other.
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

/// What one change of a commit comes to.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Entries, of which the last is what the change is about.
    Append(Vec<Change>),
    /// Nothing: what was to be written is there, as long as the name is what the change was made for.
    Unchanged { found: Written, expected: Expected },
}

/// Changes that happen together or not at all.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) steps: Vec<Step>,
    /// The request_id, and the identity of the request.
    pub(crate) request: Option<(String, Hash)>,
    /// Microseconds since 1970 UTC.
    pub(crate) time: i64,
    /// It kills, or repeats a kill: it is answered when what was killed is erased.
    pub(crate) erases: bool,
    /// Live articles that may lose their paths to it without an entry of their own: their records are damaged.
    pub(crate) displaces: Vec<Name>,
}

impl Commit {
    /// Bytes of its entries, as they are held until they are written.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |step: &Step| match step {
            Step::Append(changes) => {
                changes.iter().map(|change| 2 * change.entry.bytes.len() + change.packed.len()).sum()
            }
            Step::Unchanged { .. } => 0,
        };
        self.steps.iter().map(bytes).sum()
    }

    /// Whether it brings content. What does not may use the room that is in reserve.
    pub(crate) fn puts(&self) -> bool {
        let puts = |step: &Step| match step {
            Step::Append(changes) => changes.iter().any(|change| change.entry.derived.live),
            Step::Unchanged { .. } => false,
        };
        self.steps.iter().any(puts)
    }
}

/// A place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) log_id: LogId,
    pub(crate) revision: Revision,
    /// Proves the lineage up to there.
    pub(crate) chain: Hash,
}

impl Position {
    pub(crate) fn of(head: &Head) -> Position {
        Position { log_id: head.log_id, revision: head.revision, chain: head.chain }
    }
}

/// What came of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is on disk, with what came of each step; the place after its last.
    Committed(Vec<Written>, Position),
    /// The same request was committed before, with this outcome.
    Duplicate(Vec<Written>),
    /// Its request_id was used for another request.
    Reused,
    /// A name has changed since. Nothing was written.
    Conflict,
    /// Another live article has the path that this step's article shall have. Nothing was written.
    PathTaken { step: usize, path: String, owner: Name },
}

/// The order of writes, whatever carries it.
pub(crate) trait Log: Send + Sync + 'static {
    /// Appends commits in order, each by itself, and answers for each when all are on disk, and what they kill is erased.
    ///
    /// # Errors
    /// Nothing was appended, unless the error says that this is uncertain. Without room on the disk (`Full`, `NoSpace`)
    /// the commits that only remove are appended all the same.
    ///
    /// The future may be dropped: what was handed in is appended all the same. So whatever must hold of a write is
    /// checked where it is appended; nothing that the caller's future holds protects it.
    fn append(&self, commits: Vec<Commit>) -> BoxFuture<'_, Result<Vec<Outcome>, store::Error>>;
}
