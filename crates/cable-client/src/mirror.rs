//! Mirrors: local copies of what a filter matches. A feed keeps a mirror up to date; reads from it do not wait.

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
    BodyFormat, Cable, Delivery, Error, Event, Feed, FeedBuilder, FeedChange, FeedFilter, Kind, NameState,
    Position, RawRecord, Result, View,
    feed::Standing,
    shape::name,
    v1::{self, record},
};

impl Cable {
    /// Mirrors what a filter matches: builds a local copy and keeps it up to date. Articles are in the view BASIC
    /// unless set otherwise.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// use cable_client::FeedFilter;
    ///
    /// let mirror = cable.mirror(FeedFilter::default().tag("storm")).start();
    /// mirror.ready().await?;
    /// let mut changes = mirror.watch();
    /// while changes.changed().await.is_ok() {
    ///     println!("{} entities match", mirror.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn mirror(&self, filter: impl Into<FeedFilter>) -> MirrorBuilder {
        MirrorBuilder(self.feed(filter).with_snapshot().reset_allowed(true).include_backfill())
    }
}

/// A builder for a [`Mirror`]; [`start`](MirrorBuilder::start) starts it. See [`Cable::mirror`].
#[derive(Debug, Clone)]
#[must_use = "a mirror begins when it is started"]
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
    pub fn on_retry(self, call: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        MirrorBuilder(self.0.on_retry(call))
    }

    /// Starts the mirror. It runs as a task of the current tokio runtime until its last clone is dropped.
    ///
    /// # Panics
    /// If there is no tokio runtime.
    pub fn start(self) -> Mirror {
        let feed = self.0.open();
        let (told, _) = watch::channel(Told::default());
        let shared = Arc::new(Shared { held: RwLock::default(), told, standing: feed.standing() });
        let task = tokio::spawn(keep(feed, Arc::clone(&shared))).abort_handle();
        Mirror(Arc::new(Owner { shared, task }))
    }
}

/// An entity in a mirror. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Mirrored {
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

macro_rules! mirrored {
    ($($entity:ident in $collection:literal: $get:ident;)*) => {
        impl Mirrored {
            /// Returns the resource name, such as `articles/storm`.
            #[must_use]
            pub fn name(&self) -> &str {
                match self {
                    $(Mirrored::$entity(entity) => &entity.name,)*
                }
            }

            /// Returns the revision of the entity's last change.
            #[must_use]
            pub fn revision(&self) -> i64 {
                match self {
                    $(Mirrored::$entity(entity) => entity.revision,)*
                }
            }

            /// Returns the entity as a record. The record lacks the fields that this client does not know.
            #[must_use]
            pub fn to_record(&self) -> RawRecord {
                match self {
                    $(Mirrored::$entity(entity) => RawRecord::from(v1::$entity::clone(entity)),)*
                }
            }

            /// Returns the entity of a record, or `None` if it is of a kind that this client does not know.
            fn of(record: &RawRecord) -> Result<Option<Self>> {
                Ok(match record.decode()?.record {
                    $(Some(record::Record::$entity(entity)) => Some(Mirrored::$entity(Arc::new(entity))),)*
                    Some(record::Record::Tombstone(_)) | None => None,
                })
            }
        }

        impl Mirror {
            $(
                /// Returns the entity with this id or name. `None` if it does not match.
                #[must_use]
                pub fn $get(&self, id: impl Into<String>) -> Option<Arc<v1::$entity>> {
                    match self.get(&name($collection, id))? {
                        Mirrored::$entity(entity) => Some(entity),
                        _ => None,
                    }
                }
            )*
        }
    };
}

mirrored! {
    Article in "articles": article;
    Author in "authors": author;
    Section in "sections": section;
    Tag in "tags": tag;
    Collection in "collections": collection;
}

/// The content of a mirror at one position.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Held {
    /// The position of the content. `None` before the first snapshot is complete.
    pub position: Option<Position>,
    /// The matching entities, by resource name.
    pub entities: BTreeMap<String, Mirrored>,
    /// Records that may match and that the server cannot read. The mirror lacks them or has older versions. `None`: the
    /// mirror is complete.
    pub damage: Option<v1::Damage>,
}

impl Held {
    fn put(&mut self, record: &RawRecord) -> Result<()> {
        if let Some(entity) = Mirrored::of(record)? {
            self.entities.insert(entity.name().to_owned(), entity);
        }
        Ok(())
    }

    /// Records that the server cannot read the newest version of a name.
    fn lacks(&mut self, name: String) {
        let damage = self.damage.get_or_insert_default();
        if !damage.names.contains(&name) {
            damage.count += 1;
            damage.names.push(name);
            damage.names.truncate(MAX_DAMAGED_NAMES);
        }
    }

    /// Records that the newest version of a name is known.
    fn knows(&mut self, name: &str) {
        let Some(damage) = &mut self.damage else { return };
        if let Some(at) = damage.names.iter().position(|damaged| damaged == name) {
            damage.names.remove(at);
            damage.count -= 1;
        }
        if damage.count == 0 && !damage.database {
            self.damage = None;
        }
    }
}

/// The number of names in a [`v1::Damage`], as in those of the server.
const MAX_DAMAGED_NAMES: usize = 100;

/// A local copy of what a filter matches. Reads do not wait, and each commit is visible as a whole. Cheap to clone.
///
/// The mirror is empty until its first snapshot is complete ([`ready`](Mirror::ready)). While no node can be reached,
/// it serves the last known content. If the feed restarts, the mirror replaces its content as a whole once the new
/// snapshot is complete.
#[derive(Clone)]
pub struct Mirror(Arc<Owner>);

struct Owner {
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Shared {
    held: RwLock<Held>,
    told: watch::Sender<Told>,
    standing: Arc<Standing>,
}

/// The state that waiting tasks are notified of.
#[derive(Debug, Default)]
struct Told {
    /// A number that increases when the content changes.
    version: u64,
    ready: bool,
    failed: Option<Error>,
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
    /// The feed ended with an error that needs intervention; see [`Feed`].
    pub async fn ready(&self) -> Result<()> {
        let mut told = self.0.shared.told.subscribe();
        let told = told.wait_for(|told| told.ready || told.failed.is_some()).await.map_err(dropped)?;
        told.failed.as_ref().map_or(Ok(()), |error| Err(error.duplicate()))
    }

    /// Returns the entity with this resource name. `None` if it does not match.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Mirrored> {
        self.0.shared.read().entities.get(name).cloned()
    }

    /// Returns the current content with its position.
    #[must_use]
    pub fn snapshot(&self) -> Held {
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
        self.0.shared.standing.is_caught_up()
    }

    /// Returns a handle that waits for changes from now on.
    #[must_use]
    pub fn watch(&self) -> MirrorWatch {
        let told = self.0.shared.told.subscribe();
        let seen = told.borrow().version;
        MirrorWatch { told, seen }
    }
}

/// A handle that waits for changes of a mirror. See [`Mirror::watch`].
#[derive(Debug)]
pub struct MirrorWatch {
    told: watch::Receiver<Told>,
    seen: u64,
}

impl MirrorWatch {
    /// Waits until the content has changed since the last call, or since the handle was created. Several changes count
    /// as one.
    ///
    /// # Errors
    /// The feed ended with an error that needs intervention, or the mirror was dropped ([`Kind::Cancelled`]).
    pub async fn changed(&mut self) -> Result<()> {
        let seen = self.seen;
        let moved = self.told.wait_for(|told| told.version != seen || told.failed.is_some()).await;
        let moved = moved.map_err(dropped)?;
        self.seen = moved.version;
        match &moved.failed {
            Some(error) if moved.version == seen => Err(error.duplicate()),
            _ => Ok(()),
        }
    }
}

fn dropped(_: RecvError) -> Error {
    Error::new(Kind::Cancelled, "the mirror was dropped")
}

async fn keep(mut feed: Feed, shared: Arc<Shared>) {
    let mut coming = Held::default();
    while let Some(delivery) = feed.next().await {
        if let Err(error) = delivery.and_then(|delivery| shared.apply(delivery, &mut coming)) {
            shared.told.send_modify(|told| told.failed = Some(error));
            return;
        }
    }
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a delivery. `coming` is the incomplete snapshot.
    fn apply(&self, Delivery { position, event }: Delivery, coming: &mut Held) -> Result<()> {
        match event {
            Event::Reset(_) => *coming = Held::default(),
            Event::Snapshot(records) => records.iter().try_for_each(|record| coming.put(record))?,
            Event::SnapshotEnd { damage, .. } => {
                let complete = Held { position, damage, ..std::mem::take(coming) };
                *self.write() = complete;
                self.told.send_modify(|told| told.version += 1);
            }
            Event::Changes(changes) => {
                self.change(changes, position)?;
                self.told.send_modify(|told| told.version += 1);
            }
            Event::Checkpoint { behind } => {
                self.write().position = position;
                self.told.send_if_modified(|told| !behind && !std::mem::replace(&mut told.ready, true));
            }
        }
        Ok(())
    }

    /// Applies changes. It decodes all of them before readers see any of them.
    fn change(&self, changes: Vec<FeedChange>, position: Option<Position>) -> Result<()> {
        let decoded = changes.into_iter().map(|change| match change.state {
            NameState::Upsert(record) => Ok((change.name, Applied::of(Mirrored::of(&record)?))),
            NameState::Left | NameState::Removed(_) => Ok((change.name, Applied::Remove)),
            NameState::Unreadable => Ok((change.name, Applied::Lack)),
        });
        let decoded = decoded.collect::<Result<Vec<_>>>()?;
        let mut held = self.write();
        for (name, change) in decoded {
            if let Applied::Lack = change {
                held.lacks(name);
                continue;
            }
            held.knows(&name);
            match change {
                Applied::Put(entity) => held.entities.insert(name, entity),
                _ => held.entities.remove(&name),
            };
        }
        held.position = position;
        Ok(())
    }
}

/// The effect of a change on a mirror.
enum Applied {
    Put(Mirrored),
    Remove,
    Lack,
}

impl Applied {
    /// Returns the effect of an upsert. A mirror holds no entity of a kind that this client does not know.
    fn of(entity: Option<Mirrored>) -> Applied {
        entity.map_or(Applied::Remove, Applied::Put)
    }
}
