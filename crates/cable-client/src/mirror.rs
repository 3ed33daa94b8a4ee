//! Mirrors: local copies of the entities that match a filter. A feed keeps a mirror up to date; reads from it do not wait.
//!
//! A task polls the feed and applies each delivery. A snapshot is collected on the side and replaces the content as a
//! whole; changes are decoded first and then applied under one lock, so that readers never see half a commit.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use futures_util::StreamExt as _;
use tokio::{
    sync::watch::{self, error::RecvError},
    task::AbortHandle,
};

use crate::{
    BodyFormat, Cable, Delivery, Error, ErrorKind, Event, Feed, FeedBuilder, FeedChange, FeedFilter,
    NameState, Position, RawRecord, Result, View,
    feed::FeedStatus,
    shape::full_name,
    v1::{self, record},
};

impl Cable {
    /// Mirrors the entities that match a filter: builds a local copy and keeps it up to date. Articles are in the view BASIC
    /// unless set otherwise.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// use cable_client::FeedFilter;
    ///
    /// let mirror = cable.mirror(FeedFilter::default().any_tag("storm")).start();
    /// mirror.ready().await?;
    /// let mut changes = mirror.watch();
    /// while changes.changed().await.is_ok() {
    ///     println!("{} entities match", mirror.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn mirror(&self, filter: impl Into<FeedFilter>) -> MirrorBuilder {
        MirrorBuilder(self.feed(filter).with_snapshot().allow_reset(true).include_backfill())
    }
}

/// A builder for a [`Mirror`]; [`start`](MirrorBuilder::start) starts it. See [`Cable::mirror`].
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// use cable_client::{BodyFormat, FeedFilter, View};
///
/// let mirror = cable
///     .mirror(FeedFilter::default().section("world"))
///     .view(View::Full)
///     .body_format(BodyFormat::Html)
///     .on_retry(|error| eprintln!("mirror: {error}"))
///     .start();
/// mirror.ready().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "mirrors do nothing unless started"]
pub struct MirrorBuilder(FeedBuilder);

impl MirrorBuilder {
    /// Sets the view of articles. If unset, BASIC.
    pub fn view(self, view: View) -> Self {
        MirrorBuilder(self.0.view(view))
    }

    /// Sets the format of bodies in the view FULL; other views allow only BLOCKS. If unset, BLOCKS.
    pub fn body_format(self, format: BodyFormat) -> Self {
        MirrorBuilder(self.0.body_format(format))
    }

    /// Sets the longest silence of the server; see [`FeedBuilder::checkpoint_interval`].
    pub fn checkpoint_interval(self, interval: Duration) -> Self {
        MirrorBuilder(self.0.checkpoint_interval(interval))
    }

    /// Sets the size of the largest accepted commit in bytes; see [`FeedBuilder::max_commit_bytes`].
    pub fn max_commit_bytes(self, bytes: usize) -> Self {
        MirrorBuilder(self.0.max_commit_bytes(bytes))
    }

    /// Sets a function that is called before each retry; see [`FeedBuilder::on_retry`].
    pub fn on_retry(self, callback: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        MirrorBuilder(self.0.on_retry(callback))
    }

    /// Sets the longest time without a node, after which the mirror ends with the last error; see
    /// [`FeedBuilder::max_outage`].
    pub fn max_outage(self, limit: Duration) -> Self {
        MirrorBuilder(self.0.max_outage(limit))
    }

    /// Follows as a consumer of this name: the node stores the position up to which the mirror has applied its feed, and
    /// shows how far it is behind. The mirror starts with a snapshot wherever that position is, because its memory is empty.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// use cable_client::FeedFilter;
    ///
    /// let mirror = cable.mirror(FeedFilter::default()).consumer("front-page").start();
    /// mirror.ready().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn consumer(self, name: impl Into<String>) -> Self {
        MirrorBuilder(self.0.acknowledge_as(name))
    }

    /// Starts the mirror. It runs as a task of the current tokio runtime until its last clone is dropped or its feed ends
    /// with an error.
    ///
    /// # Panics
    /// If there is no tokio runtime.
    pub fn start(self) -> Mirror {
        let feed = self.0.open();
        let (status, _) = watch::channel(MirrorStatus::default());
        let shared = Arc::new(Shared { content: RwLock::default(), status, feed_status: feed.status() });
        let task = tokio::spawn(run(feed, Running(Arc::clone(&shared)))).abort_handle();
        Mirror(Arc::new(Owner { shared, task }))
    }
}

/// An entity in a mirror. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum MirrorEntity {
    /// An article.
    Article(Arc<v1::Article>),
    /// An author.
    Author(Arc<v1::Author>),
    /// A section.
    Section(Arc<v1::Section>),
    /// A tag.
    Tag(Arc<v1::Tag>),
    /// A collection.
    Collection(Arc<v1::Collection>),
}

macro_rules! mirror_entities {
    ($($entity:ident in $collection:literal: $get:ident;)*) => {
        impl MirrorEntity {
            /// Returns the resource name, such as `articles/storm`.
            #[must_use]
            pub fn name(&self) -> &str {
                match self {
                    $(MirrorEntity::$entity(entity) => &entity.name,)*
                }
            }

            /// Returns the revision of the entity's last change.
            #[must_use]
            pub fn revision(&self) -> i64 {
                match self {
                    $(MirrorEntity::$entity(entity) => entity.revision,)*
                }
            }

            /// Returns the entity as a record. The record lacks the fields that this client does not know.
            #[must_use]
            pub fn to_record(&self) -> RawRecord {
                match self {
                    $(MirrorEntity::$entity(entity) => RawRecord::from(v1::$entity::clone(entity)),)*
                }
            }

            /// Returns the entity of a record, or `None` if it is of a kind that this client does not know.
            fn from_record(record: &RawRecord) -> Result<Option<Self>> {
                Ok(match record.decode()?.record {
                    $(Some(record::Record::$entity(entity)) => Some(MirrorEntity::$entity(Arc::new(entity))),)*
                    Some(record::Record::Tombstone(_) | record::Record::PendingArticle(_)) | None => None,
                })
            }
        }

        impl Mirror {
            $(
                /// Returns the entity with this id or name. `None` if it does not match.
                #[must_use]
                pub fn $get(&self, id: impl Into<String>) -> Option<Arc<v1::$entity>> {
                    match self.get(&full_name($collection, id))? {
                        MirrorEntity::$entity(entity) => Some(entity),
                        _ => None,
                    }
                }
            )*
        }
    };
}

mirror_entities! {
    Article in "articles": article;
    Author in "authors": author;
    Section in "sections": section;
    Tag in "tags": tag;
    Collection in "collections": collection;
}

/// The content of a mirror at one position.
///
/// Cloning a snapshot clones names and pointers, not the entities.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct MirrorSnapshot {
    /// The position of the content. `None` before the first snapshot is complete.
    pub position: Option<Position>,
    /// The matching entities, by resource name.
    pub entities: BTreeMap<String, MirrorEntity>,
    /// Records that may match and that the server cannot read. The mirror lacks them or has older versions. `None`:
    /// the mirror is complete.
    pub damage: Option<v1::Damage>,
}

impl MirrorSnapshot {
    fn put(&mut self, record: &RawRecord) -> Result<()> {
        if let Some(entity) = MirrorEntity::from_record(record)? {
            self.entities.insert(entity.name().to_owned(), entity);
        }
        Ok(())
    }

    /// Records that the server cannot read the newest version of a name. If the list of names is full, the name may be
    /// among those that are counted already.
    fn mark_damaged(&mut self, name: String) {
        let damage = self.damage.get_or_insert_default();
        if damage.names.len() < MAX_DAMAGED_NAMES && !damage.names.contains(&name) {
            damage.count += 1;
            damage.names.push(name);
        }
    }

    /// Removes a name from the damage, because its newest version is known. A name that is not listed remains counted
    /// until the next snapshot.
    fn clear_damage(&mut self, name: &str) {
        let Some(damage) = &mut self.damage else { return };
        if let Some(index) = damage.names.iter().position(|damaged| damaged == name) {
            damage.names.remove(index);
            damage.count -= 1;
        }
        if damage.count == 0 && !damage.database {
            self.damage = None;
        }
    }
}

/// The maximum number of names in a [`v1::Damage`], as in those of the server.
const MAX_DAMAGED_NAMES: usize = 100;

/// A local copy of the entities that match a filter. Reads do not wait, and each commit is visible as a whole. Cheap to clone.
///
/// The mirror is empty until its first snapshot is complete ([`ready`](Mirror::ready)). While no node can be reached,
/// it serves the last known content. If the feed restarts, the mirror replaces its content as a whole once the new
/// snapshot is complete.
///
/// The mirror holds the decoded entities of its filter in memory, in the view of its builder.
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// use cable_client::{FeedFilter, MirrorEntity};
///
/// let mirror = cable.mirror(FeedFilter::default()).start();
/// mirror.ready().await?;
/// if let Some(article) = mirror.article("storm") {
///     println!("{}", article.headline);
/// }
/// let sections = mirror.snapshot().entities.into_values();
/// for entity in sections.filter(|entity| matches!(entity, MirrorEntity::Section(_))) {
///     println!("{} at revision {}", entity.name(), entity.revision());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Mirror(Arc<Owner>);

/// The owner of the task of a mirror. The handles share it, and the task ends with the last handle.
struct Owner {
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The state that the task of a mirror writes and its handles read.
struct Shared {
    content: RwLock<MirrorSnapshot>,
    status: watch::Sender<MirrorStatus>,
    feed_status: Arc<FeedStatus>,
}

/// The state that waiting tasks are notified of.
#[derive(Debug, Default)]
struct MirrorStatus {
    /// A number that increases when the content changes.
    version: u64,
    ready: bool,
    error: Option<Error>,
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirror")
            .field("len", &self.len())
            .field("position", &self.position())
            .field("is_caught_up", &self.is_caught_up())
            .finish_non_exhaustive()
    }
}

impl Mirror {
    /// Waits until the first snapshot is complete and the changes made meanwhile have been applied.
    ///
    /// # Errors
    /// The feed ended with an error that needs intervention; see [`Feed`]. [`ErrorKind::Cancelled`]: the task of the mirror
    /// ended with a panic, or with its runtime.
    pub async fn ready(&self) -> Result<()> {
        let mut status = self.0.shared.status.subscribe();
        let status =
            status.wait_for(|status| status.ready || status.error.is_some()).await.map_err(dropped_error)?;
        status.error.as_ref().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Returns the entity with this resource name. `None` if it does not match.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<MirrorEntity> {
        self.0.shared.read().entities.get(name).cloned()
    }

    /// Returns the current content with its position.
    ///
    /// The content is that of one position: no commit is visible in part.
    #[must_use]
    pub fn snapshot(&self) -> MirrorSnapshot {
        self.0.shared.read().clone()
    }

    /// Returns the number of matching entities.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.shared.read().entities.len()
    }

    /// Returns whether the mirror has no entities: nothing matches, or the first snapshot is not complete.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the position up to which all changes are applied. `None` before the first snapshot is complete.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.0.shared.read().position.clone()
    }

    /// Returns whether the feed of the mirror has caught up; see [`Feed::is_caught_up`].
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.0.shared.feed_status.is_caught_up()
    }

    /// Returns a handle that waits for changes from now on.
    #[must_use]
    pub fn watch(&self) -> MirrorWatch {
        let status = self.0.shared.status.subscribe();
        let seen = status.borrow().version;
        MirrorWatch { status, seen }
    }
}

/// A handle that waits for changes of a mirror. See [`Mirror::watch`].
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// use cable_client::FeedFilter;
///
/// let mirror = cable.mirror(FeedFilter::default()).start();
/// let mut changes = mirror.watch();
/// loop {
///     changes.changed().await?; // one or several commits
///     println!("{} entities at {:?}", mirror.len(), mirror.position());
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct MirrorWatch {
    status: watch::Receiver<MirrorStatus>,
    seen: u64,
}

impl MirrorWatch {
    /// Waits until the content has changed since the last call, or since the handle was created. Several changes
    /// count as one.
    ///
    /// # Errors
    /// The feed ended with an error that needs intervention, or the mirror was dropped or its task ended
    /// ([`ErrorKind::Cancelled`]).
    pub async fn changed(&mut self) -> Result<()> {
        let seen = self.seen;
        let status = self.status.wait_for(|status| status.version != seen || status.error.is_some()).await;
        let status = status.map_err(dropped_error)?;
        self.seen = status.version;
        match &status.error {
            Some(error) if status.version == seen => Err(error.clone()),
            _ => Ok(()),
        }
    }
}

fn dropped_error(_: RecvError) -> Error {
    ended_error()
}

fn ended_error() -> Error {
    Error::new(
        ErrorKind::Cancelled,
        "mirror was dropped, or its task ended: a panic, or the end of the runtime",
    )
}

/// Applies deliveries until the feed ends. Its error is retained for the waiting handles; readers keep the last
/// content.
async fn run(mut feed: Feed, running: Running) {
    let shared = &running.0;
    let mut incoming = MirrorSnapshot::default();
    while let Some(delivery) = feed.next().await {
        if let Err(error) = delivery.and_then(|delivery| shared.apply(delivery, &mut incoming)) {
            shared.status.send_modify(|status| status.error = Some(error));
            return;
        }
    }
}

/// The task of a mirror. Dropping it ends the wait of all handles, also if the task has panicked or its runtime was shut
/// down.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.feed_status.end();
        self.0.status.send_modify(|status| {
            status.error.get_or_insert_with(ended_error);
        });
    }
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, MirrorSnapshot> {
        self.content.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, MirrorSnapshot> {
        self.content.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a delivery. `incoming` is the incomplete snapshot.
    fn apply(&self, Delivery { position, event }: Delivery, incoming: &mut MirrorSnapshot) -> Result<()> {
        match event {
            Event::Reset(_) => *incoming = MirrorSnapshot::default(),
            Event::Snapshot(records) => records.iter().try_for_each(|record| incoming.put(record))?,
            Event::SnapshotEnd { damage, .. } => {
                let complete = MirrorSnapshot { position, damage, ..std::mem::take(incoming) };
                *self.write() = complete;
                self.status.send_modify(|status| status.version += 1);
            }
            Event::Changes(changes) => {
                self.apply_changes(changes, position)?;
                self.status.send_modify(|status| status.version += 1);
            }
            Event::Checkpoint { behind } => {
                self.write().position = position;
                self.status.send_if_modified(|status| !behind && !std::mem::replace(&mut status.ready, true));
            }
        }
        Ok(())
    }

    /// Applies changes. It decodes all of them before readers see any of them.
    fn apply_changes(&self, changes: Vec<FeedChange>, position: Option<Position>) -> Result<()> {
        let decoded = changes.into_iter().map(|change| match change.state {
            NameState::Upsert(record) => {
                Ok((change.name, Effect::upsert(MirrorEntity::from_record(&record)?)))
            }
            NameState::Left | NameState::Removed(_) => Ok((change.name, Effect::Remove)),
            NameState::Unreadable => Ok((change.name, Effect::MarkDamaged)),
        });
        let decoded = decoded.collect::<Result<Vec<_>>>()?;
        let mut content = self.write();
        for (name, effect) in decoded {
            if let Effect::MarkDamaged = effect {
                content.mark_damaged(name);
                continue;
            }
            content.clear_damage(&name);
            match effect {
                Effect::Put(entity) => content.entities.insert(name, entity),
                _ => content.entities.remove(&name),
            };
        }
        content.position = position;
        Ok(())
    }
}

/// The effect of a change on a mirror.
enum Effect {
    Put(MirrorEntity),
    Remove,
    MarkDamaged,
}

impl Effect {
    /// Returns the effect of an upsert. A mirror holds no entity of a kind that this client does not know.
    fn upsert(entity: Option<MirrorEntity>) -> Effect {
        entity.map_or(Effect::Remove, Effect::Put)
    }
}
