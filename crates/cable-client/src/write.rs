//! Writes. Each write has a request_id, random unless the caller sets one, so that retries are safe.

use std::{future::IntoFuture, time::Duration};

use cable_proto::change;
use prost_types::Timestamp;

use crate::{
    BoxFuture, Cable, Result,
    read::malformed_response,
    shape::timeout_setter,
    v1::{
        self, ArticlePatch, Change, Position, Precondition, Removal, RemovalReason, UpdateKind, WriteResult,
    },
};

/// The result of a write.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WriteOutcome {
    /// The written name.
    pub name: String,
    /// The current etag of the written version, for the precondition of a later write. Empty after a removal.
    pub etag: String,
    /// The revision of the newest version of the name: that of this write or, if it changed nothing, an earlier one.
    pub revision: i64,
    /// Whether the write changed anything. False if the content or the removal existed already.
    pub changed: bool,
    /// Whether the version is pending: readers do not see it yet.
    pub pending: bool,
    /// The time at which the version becomes visible. `None` if it is visible, or has no due time.
    pub due_time: Option<Timestamp>,
    /// The article that took the path of this put; the put was written without the path. Empty if there is none.
    pub path_owner: String,
    /// The position after the write. A read with [`not_older_than`](crate::GetArticle::not_older_than) this position
    /// sees the write.
    pub position: Position,
}

/// The result of a commit.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CommitOutcome {
    /// The result of each change, in order.
    pub results: Vec<WriteResult>,
    /// The position after the last change.
    pub position: Position,
}

pub(crate) mod sealed {
    use super::*;

    /// The options of a write besides its content.
    #[derive(Debug, Clone, Default)]
    pub struct WriteOptions {
        pub(crate) precondition: Option<Precondition>,
        pub(crate) request_id: Option<String>,
        pub(crate) update_kind: UpdateKind,
        pub(crate) allow_killed: bool,
        pub(crate) timeout: Option<Duration>,
    }

    pub trait Sealed: change::Entity + Send + 'static {
        fn put(self, cable: Cable, options: WriteOptions) -> BoxFuture<Result<WriteOutcome>>;
    }
}

use sealed::{Sealed, WriteOptions};

/// An entity that can be put: an article, author, section, tag or collection.
pub trait Entity: Sealed {}

macro_rules! entity {
    ($($entity:ident: $request:ident, $field:ident $(, $update_kind:ident)?;)*) => {$(
        impl Entity for v1::$entity {}

        impl Sealed for v1::$entity {
fn put ( self , cable : Cable , options : WriteOptions ) -> BoxFuture <Result <WriteOutcome > > {
                let request = v1::$request {
                    $field: Some(self),
                    precondition: options.precondition,
                    request_id: options.request_id.unwrap_or_else(random_request_id),
                    $($update_kind: options.update_kind.into(), allow_killed: options.allow_killed,)?
                };
                Box::pin(async move {
                    let response = cable.call(request, options.timeout).await?;
                    write_outcome(response.result, response.position)
                })
            }
        }
    )*};
}

entity! {
    Article: PutArticleRequest, article, update_kind;
    Author: PutAuthorRequest, author;
    Section: PutSectionRequest, section;
    Tag: PutTagRequest, tag;
    Collection: PutCollectionRequest, collection;
}

/// Returns 128 random bits as 32 hex digits.
pub(crate) fn random_request_id() -> String {
    format!("{:032x}", fastrand::u128(..))
}

pub(crate) fn write_outcome(result: Option<WriteResult>, position: Option<Position>) -> Result<WriteOutcome> {
    let WriteResult { name, etag, revision, changed, due_time, pending, path_owner } =
        result.ok_or_else(|| malformed_response("no result"))?;
    let position = position.unwrap_or_default();
    Ok(WriteOutcome { name, etag, revision, changed, pending, due_time, path_owner, position })
}

impl Cable {
    /// Puts an article, author, section, tag or collection: creates it, or replaces it as a whole. Its name can be a
    /// bare id.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// use cable_client::v1;
    ///
    /// let mut article = v1::Article::default();
    /// article.name = "storm".into();
    /// article.headline = "Storm over Norwick".into();
    /// let written = cable.put(article).if_absent().await?;
    /// println!("{} has the etag {}", written.name, written.etag);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// INVALID_ARGUMENT with the invalid fields. ALREADY_EXISTS with `PathTaken`, or with `NameExists` after
    /// [`if_absent`](Put::if_absent). ABORTED with `EtagMismatch` after [`if_etag`](Put::if_etag). FAILED_PRECONDITION
    /// with `NameKilled`: see [`allow_killed`](Put::allow_killed) for an article and [`Change::allow_killed()`] for
    /// other kinds.
    pub fn put<E: Entity>(&self, entity: E) -> Put<E> {
        Put { cable: self.clone(), entity: entity.with_full_name(), options: WriteOptions::default() }
    }

    /// Replaces top-level fields of an article. The mask names the fields; a field in the mask that is unset in
    /// `article` is cleared. With an empty mask, the fields that are set in `article` are replaced.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// use cable_client::{UpdateKind, v1};
    ///
    /// let mut article = v1::Article::default();
    /// article.name = "storm".into();
    /// article.headline = "Storm over Norwick passes".into();
    /// cable.patch(article, ["headline"]).update_kind(UpdateKind::Minor).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`put`](Cable::put). NOT_FOUND if the article does not exist.
    pub fn patch(&self, article: v1::Article, mask: impl IntoIterator<Item = impl Into<String>>) -> Patch {
        Patch {
            cable: self.clone(),
            patch: ArticlePatch::new(article, mask),
            options: WriteOptions::default(),
        }
    }

    /// Removes a name of any kind. A bare id is that of an article.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// use cable_client::RemovalReason;
    ///
    /// cable.remove("storm", RemovalReason::Moved).moved_to("storm-over-norwick").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// NOT_FOUND if the name does not exist. ABORTED with `EtagMismatch` after [`if_etag`](Remove::if_etag).
    pub fn remove(&self, name: impl Into<String>, reason: RemovalReason) -> Remove {
        Remove { cable: self.clone(), removal: Removal::new(name, reason), options: WriteOptions::default() }
    }

    /// Applies several changes atomically: all or none.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// use cable_client::{Change, RemovalReason, v1};
    ///
    /// let mut tag = v1::Tag::default();
    /// tag.name = "storm".into();
    /// tag.display_name = "Storm".into();
    /// let commit = cable
    ///     .commit()
    ///     .change(Change::put(tag).if_absent())
    ///     .remove("articles/flood", RemovalReason::Withdrawn)
    ///     .await?;
    /// println!("committed up to revision {}", commit.position.revision);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the single changes: see [`put`](Cable::put), [`patch`](Cable::patch) and [`remove`](Cable::remove).
    pub fn commit(&self) -> Commit {
        Commit { cable: self.clone(), request: v1::CommitRequest::default(), timeout: None }
    }
}

/// Setters for the options that every write has.
macro_rules! write_option_setters {
    () => {
        /// Requires the current version to have this etag. Otherwise the write fails: ABORTED with `EtagMismatch`.
        pub fn if_etag(mut self, etag: impl Into<String>) -> Self {
            self.options.precondition = Some(Precondition::etag(etag));
            self
        }

        /// Sets the request_id, instead of a random one. If you store the id, a retry after a crash of this process is
        /// safe too.
        pub fn request_id(mut self, id: impl Into<String>) -> Self {
            self.options.request_id = Some(id.into());
            self
        }

        /// Sets the timeout of this call, instead of the [client's](crate::Builder::timeout()).
        pub fn timeout(mut self, timeout: Duration) -> Self {
            self.options.timeout = Some(timeout);
            self
        }
    };
}

pub(crate) use write_option_setters;

/// A call that puts an entity. Await it. See [`Cable::put`].
#[derive(Debug, Clone)]
#[must_use = "calls do nothing unless awaited"]
pub struct Put<E> {
    cable: Cable,
    entity: E,
    options: WriteOptions,
}

impl<E: Entity> Put<E> {
    write_option_setters!();

    /// Requires the name to have no version, live or pending. Otherwise the put fails: ALREADY_EXISTS with
    /// `NameExists`.
    pub fn if_absent(mut self) -> Self {
        self.options.precondition = Some(Precondition::absent());
        self
    }
}

impl Put<v1::Article> {
    /// Sets the kind of update, for followers of feeds. If unset, MAJOR.
    pub fn update_kind(mut self, kind: UpdateKind) -> Self {
        self.options.update_kind = kind;
        self
    }

    /// Allows the put to publish a killed name again. If unset, such a put fails: FAILED_PRECONDITION with
    /// `NameKilled`.
    pub fn allow_killed(mut self) -> Self {
        self.options.allow_killed = true;
        self
    }
}

impl<E: Entity> IntoFuture for Put<E> {
    type Output = Result<WriteOutcome>;
    type IntoFuture = BoxFuture<Result<WriteOutcome>>;

    fn into_future(self) -> Self::IntoFuture {
        self.entity.put(self.cable, self.options)
    }
}

/// A call that replaces fields of an article. Await it. See [`Cable::patch`].
#[derive(Debug, Clone)]
#[must_use = "calls do nothing unless awaited"]
pub struct Patch {
    cable: Cable,
    patch: ArticlePatch,
    options: WriteOptions,
}

impl Patch {
    write_option_setters!();

    /// Sets the kind of update, for followers of feeds. If unset, MAJOR.
    pub fn update_kind(mut self, kind: UpdateKind) -> Self {
        self.options.update_kind = kind;
        self
    }
}

impl IntoFuture for Patch {
    type Output = Result<WriteOutcome>;
    type IntoFuture = BoxFuture<Result<WriteOutcome>>;

    fn into_future(self) -> Self::IntoFuture {
        let Patch { cable, patch, options } = self;
        let request = v1::PatchArticleRequest {
            article: patch.article,
            update_mask: patch.update_mask,
            precondition: options.precondition,
            request_id: options.request_id.unwrap_or_else(random_request_id),
            update_kind: options.update_kind.into(),
        };
        Box::pin(async move {
            let response = cable.call(request, options.timeout).await?;
            write_outcome(response.result, response.position)
        })
    }
}

/// A call that removes a name. Await it. See [`Cable::remove`].
#[derive(Debug, Clone)]
#[must_use = "calls do nothing unless awaited"]
pub struct Remove {
    cable: Cable,
    removal: Removal,
    options: WriteOptions,
}

impl Remove {
    write_option_setters!();

    /// Sets the name that replaces the removed one, of the same kind. Required with the reason MOVED, not allowed
    /// otherwise.
    pub fn moved_to(mut self, target: impl Into<String>) -> Self {
        self.removal = self.removal.moved_to(target);
        self
    }
}

impl IntoFuture for Remove {
    type Output = Result<WriteOutcome>;
    type IntoFuture = BoxFuture<Result<WriteOutcome>>;

    fn into_future(self) -> Self::IntoFuture {
        macro_rules! remove {
            ($request:ident) => {{
                let Remove { cable, removal, options } = self;
                let request = v1::$request {
                    name: removal.name,
                    reason: removal.reason,
                    moved_to: removal.moved_to,
                    precondition: options.precondition,
                    request_id: options.request_id.unwrap_or_else(random_request_id),
                };
                Box::pin(async move {
                    let response = cable.call(request, options.timeout).await?;
                    write_outcome(response.result, response.position)
                })
            }};
        }
        match self.removal.name.split('/').next() {
            Some("authors") => remove!(RemoveAuthorRequest),
            Some("sections") => remove!(RemoveSectionRequest),
            Some("tags") => remove!(RemoveTagRequest),
            Some("collections") => remove!(RemoveCollectionRequest),
            // The server refuses a name of no kind and reports the field.
            _ => remove!(RemoveArticleRequest),
        }
    }
}

/// A call that applies several changes atomically: 1 to 500 changes of different names, at most 3 MiB in total. Await
/// it. See [`Cable::commit`].
#[derive(Debug, Clone)]
#[must_use = "calls do nothing unless awaited"]
pub struct Commit {
    cable: Cable,
    request: v1::CommitRequest,
    timeout: Option<Duration>,
}

impl Commit {
    /// Adds a change.
    pub fn change(mut self, change: Change) -> Self {
        self.request.changes.push(change);
        self
    }

    /// Adds several changes.
    pub fn changes(mut self, changes: impl IntoIterator<Item = Change>) -> Self {
        self.request.changes.extend(changes);
        self
    }

    /// Adds a put without a precondition.
    pub fn put<E: Entity>(self, entity: E) -> Self {
        self.change(Change::put(entity))
    }

    /// Adds a removal without a precondition.
    pub fn remove(self, name: impl Into<String>, reason: RemovalReason) -> Self {
        self.change(Change::remove(name, reason))
    }

    /// Sets the request_id, instead of a random one. If you store the id, a retry after a crash of this process is safe
    /// too.
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.request.request_id = id.into();
        self
    }

    timeout_setter!();
}

impl IntoFuture for Commit {
    type Output = Result<CommitOutcome>;
    type IntoFuture = BoxFuture<Result<CommitOutcome>>;

    fn into_future(self) -> Self::IntoFuture {
        let Commit { cable, mut request, timeout } = self;
        if request.request_id.is_empty() {
            request.request_id = random_request_id();
        }
        Box::pin(async move {
            let response = cable.call(request, timeout).await?;
            Ok(CommitOutcome { results: response.results, position: response.position.unwrap_or_default() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_valid_and_unique() {
        let (first, second) = (random_request_id(), random_request_id());
        assert_ne!(first, second);
        assert!(first.len() == 32 && first.bytes().all(|b| b.is_ascii_hexdigit()));
    }
}
