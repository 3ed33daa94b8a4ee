//! The deliveries of a feed, and their conversion from the messages of the server.

use prost_types::Timestamp;

use crate::{
    Error, Position, RawRecord, Result,
    read::malformed_response,
    v1::{self, FeedResetReason, Tombstone, UpdateKind, feed_change},
};

/// One item of a feed: an event and the position after it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Delivery {
    /// The position to resume from once this delivery is handled. `None` for a reset and during a snapshot, which
    /// cannot be resumed.
    pub position: Option<Position>,
    /// The event.
    pub event: Event,
}

/// The event of a delivery.
///
/// A follower that keeps a copy applies the events as follows:
///
/// ```
/// use std::collections::BTreeMap;
/// use cable_client::{Event, NameState, RawRecord};
///
/// fn apply(copy: &mut BTreeMap<String, RawRecord>, event: Event) -> cable_client::Result<()> {
///     match event {
///         Event::Reset(_) => copy.clear(),
///         Event::Snapshot(records) => {
///             for record in records {
///                 copy.insert(record.name()?, record);
///             }
///         }
///         Event::Changes(changes) => {
///             for change in changes {
///                 match change.state {
///                     NameState::Upsert(record) => drop(copy.insert(change.name, record)),
///                     NameState::Unreadable => println!("{} is out of date", change.name),
///                     _ => drop(copy.remove(&change.name)),
///                 }
///             }
///         }
///         Event::SnapshotEnd { count, .. } => println!("{count} records"),
///         _ => {} // a checkpoint, or an event of a later release
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The changes of one or several whole commits, in the order of their revisions. A commit that the server sends in
    /// parts is delivered once the last part has arrived.
    Changes(Vec<FeedChange>),
    /// A part of a snapshot: matching records, in no guaranteed order.
    Snapshot(Vec<RawRecord>),
    /// The end of a snapshot.
    SnapshotEnd {
        /// The number of records in the snapshot.
        count: u64,
        /// Matching records that the snapshot lacks because the server cannot read them. `None`: it is complete.
        damage: Option<v1::Damage>,
    },
    /// Everything up to the position of the delivery was delivered.
    Checkpoint {
        /// Whether the feed is behind: the server is still reading earlier changes.
        behind: bool,
    },
    /// The feed restarts: discard what it delivered. A snapshot follows.
    Reset(ResetReason),
}

/// The reason of a reset.
///
/// After a reset, the feed delivers a whole snapshot, whatever the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResetReason {
    /// The position is older than the history floor: the server no longer knows which names have left the
    /// filter since.
    Compacted,
    /// The position belongs to another history: the store was restored or replaced.
    LogChanged,
    /// The connection broke during a snapshot. Such a reset needs no [`FeedBuilder::allow_reset`](crate::FeedBuilder::allow_reset).
    SnapshotBroken,
    /// A reason that this client does not know.
    Other,
}

impl ResetReason {
    pub(super) fn from_message(reason: FeedResetReason) -> Self {
        match reason {
            FeedResetReason::Compacted => ResetReason::Compacted,
            FeedResetReason::LogChanged => ResetReason::LogChanged,
            FeedResetReason::Unspecified => ResetReason::Other,
        }
    }
}

/// The newest state of a name.
///
/// A feed delivers states, not every step between them: if a name changes twice before the feed reads it, only the
/// newer state is delivered.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FeedChange {
    /// The resource name, such as `articles/storm`.
    pub name: String,
    /// The revision of the change in the log.
    pub revision: i64,
    /// The time of the change. `None` if it is no longer known.
    pub time: Option<Timestamp>,
    /// The kind of update.
    pub update_kind: UpdateKind,
    /// The new state of the name.
    pub state: NameState,
    /// The tags, sections and authors that an article left with this change. Empty for [`NameState::Left`]. It lacks
    /// those that the article left with earlier changes that this one supersedes.
    pub former_names: Vec<String>,
    /// Former paths of a matching article, which now redirect to it.
    pub former_paths: Vec<String>,
}

/// The new state of a name.
///
/// [`Left`](NameState::Left) and [`Removed`](NameState::Removed) may name an entity that the follower never had, so a
/// follower deletes without requiring that the entity exists.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum NameState {
    /// The name matches, and this is its content.
    Upsert(RawRecord),
    /// The name of an article that no longer matches and still exists. The follower may never have had it.
    Left,
    /// The name no longer exists.
    Removed(Tombstone),
    /// The name may match, but the server cannot read its record, which is damaged. A copy that the follower holds is
    /// out of date until the name is written or removed again.
    Unreadable,
}

impl TryFrom<v1::FeedChange> for FeedChange {
    type Error = Error;

    fn try_from(change: v1::FeedChange) -> Result<Self> {
        let update_kind = change.update_kind();
        let (name, state) = match change.change {
            Some(feed_change::Change::Upsert(record)) => (record.name()?, NameState::Upsert(record)),
            Some(feed_change::Change::Left(name)) => (name, NameState::Left),
            Some(feed_change::Change::Unreadable(name)) => (name, NameState::Unreadable),
            Some(feed_change::Change::Removed(tombstone)) => {
                (tombstone.name.clone(), NameState::Removed(tombstone))
            }
            None => return Err(malformed_response("change without content")),
        };
        let v1::FeedChange { revision, time, former_names, former_paths, .. } = change;
        Ok(FeedChange { name, revision, time, update_kind, state, former_names, former_paths })
    }
}

impl From<FeedChange> for v1::FeedChange {
    fn from(change: FeedChange) -> Self {
        let state = match change.state {
            NameState::Upsert(record) => feed_change::Change::Upsert(record),
            NameState::Left => feed_change::Change::Left(change.name),
            NameState::Removed(tombstone) => feed_change::Change::Removed(tombstone),
            NameState::Unreadable => feed_change::Change::Unreadable(change.name),
        };
        v1::FeedChange {
            revision: change.revision,
            time: change.time,
            update_kind: change.update_kind.into(),
            former_names: change.former_names,
            former_paths: change.former_paths,
            change: Some(state),
        }
    }
}
