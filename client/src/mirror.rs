//! A local copy of what a filter matches, kept by a feed and read without waiting.

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
    /// A local copy of what a filter matches, kept up to date. Articles are held in the view BASIC unless told
    /// otherwise.
    pub fn mirror(&self, filter: impl Into<FeedFilter>) -> MirrorBuilder {
        MirrorBuilder(self.feed(filter).with_snapshot().reset_allowed(true).include_backfill())
    }
}

/// Settings of a [`Mirror`]; [`start`](MirrorBuilder::start) begins it.
#[derive(Debug, Clone)]
#[must_use = "a mirror begins when it is started"]
pub struct MirrorBuilder(FeedBuilder);

impl MirrorBuilder {
    /// How much of an article. BASIC unless set.
    pub fn view(self, view: View) -> Self {
        MirrorBuilder(self.0.view(view))
    }

    /// The form of the body, in the view FULL.
    pub fn body_format(self, format: BodyFormat) -> Self {
        MirrorBuilder(self.0.body_format(format))
    }

    /// As [`FeedBuilder::checkpoint_interval`].
    pub fn checkpoint_interval(self, interval: Duration) -> Self {
        MirrorBuilder(self.0.checkpoint_interval(interval))
    }

    /// As [`FeedBuilder::max_commit_bytes`].
    pub fn max_commit_bytes(self, bytes: usize) -> Self {
        MirrorBuilder(self.0.max_commit_bytes(bytes))
    }

    /// As [`FeedBuilder::on_retry`].
    pub fn on_retry(self, call: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        MirrorBuilder(self.0.on_retry(call))
    }

    /// The mirror, which fills from here on. It runs as a task of the present tokio runtime until its last clone is
    /// dropped.
    ///
    /// # Panics
    /// There is no tokio runtime.
    pub fn start(self) -> Mirror {
        let feed = self.0.open();
        let (told, _) = watch::channel(Told::default());
        let shared = Arc::new(Shared { held: RwLock::default(), told, standing: feed.standing() });
        let task = tokio::spawn(keep(feed, Arc::clone(&shared))).abort_handle();
        Mirror(Arc::new(Owner { shared, task }))
    }
}

/// An entity of a mirror. Cheap to clone.
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
            /// The resource name: `articles/storm`.
            #[must_use]
            pub fn name(&self) -> &str {
                match self {
                    $(Mirrored::$entity(entity) => &entity.name,)*
                }
            }

            /// The revision of its last change.
            #[must_use]
            pub fn revision(&self) -> i64 {
                match self {
                    $(Mirrored::$entity(entity) => entity.revision,)*
                }
            }

            /// As a record. It lacks fields that this client does not know.
            #[must_use]
            pub fn to_record(&self) -> RawRecord {
                match self {
                    $(Mirrored::$entity(entity) => RawRecord::from(v1::$entity::clone(entity)),)*
                }
            }

            /// None: of a kind that this client does not know.
            fn of(record: &RawRecord) -> Result<Option<Self>> {
                Ok(match record.decode()?.record {
                    $(Some(record::Record::$entity(entity)) => Some(Mirrored::$entity(Arc::new(entity))),)*
                    Some(record::Record::Tombstone(_)) | None => None,
                })
            }
        }

        impl Mirror {
            $(
                /// The one of that id or name, if it matches.
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

/// What a mirror holds, at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Held {
    /// Where the feed stood. None before the first snapshot is complete.
    pub position: Option<Position>,
    /// All that matched there, by name.
    pub entities: BTreeMap<String, Mirrored>,
    /// What the last snapshot lacked, because the server could not read it. None: it was complete.
    pub damage: Option<v1::Damage>,
}

impl Held {
    fn put(&mut self, record: &RawRecord) -> Result<()> {
        if let Some(entity) = Mirrored::of(record)? {
            self.entities.insert(entity.name().to_owned(), entity);
        }
        Ok(())
    }
}

/// A local copy of what a filter matches. Reads do not wait and see each commit whole or not at all. Cheap to clone.
///
/// It is empty until its first snapshot is complete ([`ready`](Mirror::ready)), and holds what was last known while no
/// node can be reached. Where it has to begin anew, what it holds is replaced as a whole once the new snapshot is
/// complete.
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

/// What those who wait are told.
#[derive(Debug, Default)]
struct Told {
    /// Grows when the content changes.
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
    /// Waits until the first snapshot is complete and all that happened meanwhile has been applied.
    ///
    /// # Errors
    /// The feed ended for a reason that the caller must mend: see [`Feed`].
    pub async fn ready(&self) -> Result<()> {
        let mut told = self.0.shared.told.subscribe();
        let told = told.wait_for(|told| told.ready || told.failed.is_some()).await.map_err(dropped)?;
        told.failed.as_ref().map_or(Ok(()), |error| Err(error.duplicate()))
    }

    /// What is under a resource name, if it matches.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Mirrored> {
        self.0.shared.read().entities.get(name).cloned()
    }

    /// All that it holds at this moment, and where the feed stood.
    #[must_use]
    pub fn snapshot(&self) -> Held {
        self.0.shared.read().clone()
    }

    /// How many entities match.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.shared.read().entities.len()
    }

    /// Whether nothing matches, or nothing is known yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Up to where it holds what has happened. None before the first snapshot is complete.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.0.shared.read().position.clone()
    }

    /// Whether it held all that had happened at the last checkpoint, and the feed still runs.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.0.shared.standing.is_caught_up()
    }

    /// For those who wait for changes, from here on.
    #[must_use]
    pub fn watch(&self) -> MirrorWatch {
        let told = self.0.shared.told.subscribe();
        let seen = told.borrow().version;
        MirrorWatch { told, seen }
    }
}

/// Waits for changes of a mirror.
#[derive(Debug)]
pub struct MirrorWatch {
    told: watch::Receiver<Told>,
    seen: u64,
}

impl MirrorWatch {
    /// Waits until the mirror holds something else than when this was last asked. Several changes count as one.
    ///
    /// # Errors
    /// The feed ended for a reason that the caller must mend, or the mirror was dropped ([`Kind::Cancelled`]).
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

    /// `coming` is the snapshot that is under way.
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

    /// All is decoded before readers see any of it.
    fn change(&self, changes: Vec<FeedChange>, position: Option<Position>) -> Result<()> {
        let decoded = changes.into_iter().map(|change| match change.state {
            NameState::Upsert(record) => Ok((change.name, Mirrored::of(&record)?)),
            NameState::Left | NameState::Removed(_) => Ok((change.name, None)),
        });
        let decoded = decoded.collect::<Result<Vec<_>>>()?;
        let mut held = self.write();
        for (name, entity) in decoded {
            match entity {
                Some(entity) => held.entities.insert(name, entity),
                None => held.entities.remove(&name),
            };
        }
        held.position = position;
        Ok(())
    }
}
