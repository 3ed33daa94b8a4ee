//! Writes. Each carries a request_id, drawn at random unless the caller gives one, so that a repeat is harmless.

use std::{future::IntoFuture, time::Duration};

use prost_types::{FieldMask, Timestamp};

use crate::{
    BoxFuture, Cable, Result,
    read::incomplete,
    shape::{name, timeout_setter},
    v1::{
        self, ArticlePatch, Change, Position, Precondition, Removal, RemovalReason, UpdateKind, WriteResult,
        change, precondition::Condition,
    },
};

/// What a write did.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Written {
    /// The name written.
    pub name: String,
    /// The etag of its version now, for the precondition of a later write. Empty after a removal.
    pub etag: String,
    /// The revision of its newest version.
    pub revision: i64,
    /// False if what was to be written was there already.
    pub changed: bool,
    /// It is a pending version: readers do not see it yet.
    pub pending: bool,
    /// When it becomes visible; none: it is, or it has no due time.
    pub due_time: Option<Timestamp>,
    /// The article that took the path that the put names: the put was done without it. Empty: none.
    pub path_owner: String,
    /// The place in the log after it: a read that asks for [`at_least`](crate::GetArticle::at_least) this sees it.
    pub position: Position,
}

/// What a commit did.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Committed {
    /// What each change did, in order.
    pub results: Vec<WriteResult>,
    /// The place in the log after the last.
    pub position: Position,
}

pub(crate) mod sealed {
    use super::*;

    /// What a put is told beside the entity.
    #[derive(Debug, Clone, Default)]
    pub struct Terms {
        pub(crate) precondition: Option<Precondition>,
        pub(crate) request_id: Option<String>,
        pub(crate) update_kind: UpdateKind,
        pub(crate) allow_killed: bool,
        pub(crate) timeout: Option<Duration>,
    }

    pub trait Sealed: Sized + Send + 'static {
        const COLLECTION: &'static str;

        fn name_mut(&mut self) -> &mut String;
        fn put(self, cable: Cable, terms: Terms) -> BoxFuture<Result<Written>>;
        fn into_change(self) -> change::Change;
    }
}

use sealed::{Sealed, Terms};

/// What can be put: an article, author, section, tag or collection.
pub trait Entity: Sealed {}

macro_rules! entity {
    ($($entity:ident in $collection:literal: $request:ident, $field:ident, $change:ident $(, $update_kind:ident)?;)*) => {$(
        impl Entity for v1::$entity {}

        impl Sealed for v1::$entity {
            const COLLECTION: &'static str = $collection;

            fn name_mut(&mut self) -> &mut String {
                &mut self.name
            }

            fn put(self, cable: Cable, terms: Terms) -> BoxFuture<Result<Written>> {
                let request = v1::$request {
                    $field: Some(self),
                    precondition: terms.precondition,
                    request_id: terms.request_id.unwrap_or_else(request_id),
                    $($update_kind: terms.update_kind.into(), allow_killed: terms.allow_killed,)?
                };
                Box::pin(async move {
                    let answer = cable.call(request, terms.timeout).await?;
                    written(answer.result, answer.position)
                })
            }

            fn into_change(self) -> change::Change {
                change::Change::$change(self)
            }
        }
    )*};
}

entity! {
    Article in "articles": PutArticleRequest, article, PutArticle, update_kind;
    Author in "authors": PutAuthorRequest, author, PutAuthor;
    Section in "sections": PutSectionRequest, section, PutSection;
    Tag in "tags": PutTagRequest, tag, PutTag;
    Collection in "collections": PutCollectionRequest, collection, PutCollection;
}

/// 128 random bits, in hex.
pub(crate) fn request_id() -> String {
    format!("{:032x}", fastrand::u128(..))
}

pub(crate) fn written(result: Option<WriteResult>, position: Option<Position>) -> Result<Written> {
    let WriteResult { name, etag, revision, changed, due_time, pending, path_owner } =
        result.ok_or_else(|| incomplete("no result"))?;
    let position = position.unwrap_or_default();
    Ok(Written { name, etag, revision, changed, pending, due_time, path_owner, position })
}

fn named<E: Entity>(mut entity: E) -> E {
    let given = std::mem::take(entity.name_mut());
    *entity.name_mut() = name(E::COLLECTION, given);
    entity
}

fn patch_of(mut article: v1::Article, mask: impl IntoIterator<Item = impl Into<String>>) -> ArticlePatch {
    article = named(article);
    let paths: Vec<String> = mask.into_iter().map(Into::into).collect();
    let update_mask = if paths.is_empty() { None } else { Some(FieldMask { paths }) };
    ArticlePatch { article: Some(article), update_mask }
}

impl Cable {
    /// Puts an article, author, section, tag or collection: creates it, or replaces it whole. Its name may be a bare
    /// id.
    ///
    /// # Errors
    /// INVALID_ARGUMENT with the fields that are wrong; `NameExists`, `EtagMismatch`, `PathTaken`.
    pub fn put<E: Entity>(&self, entity: E) -> Put<E> {
        Put { cable: self.clone(), entity: named(entity), terms: Terms::default() }
    }

    /// Replaces some top-level fields of an article by those given: the ones in the mask, where one that is unset
    /// is cleared; with an empty mask, all that are set.
    ///
    /// # Errors
    /// As [`put`](Cable::put); NOT_FOUND if the article is not there.
    pub fn patch(&self, article: v1::Article, mask: impl IntoIterator<Item = impl Into<String>>) -> Patch {
        Patch { cable: self.clone(), patch: patch_of(article, mask), terms: Terms::default() }
    }

    /// Removes what is under a name of any kind; a bare id is an article's.
    ///
    /// # Errors
    /// NOT_FOUND if nothing is there; `EtagMismatch`.
    pub fn remove(&self, name: impl Into<String>, reason: RemovalReason) -> Remove {
        Remove { cable: self.clone(), removal: removal(name, reason), terms: Terms::default() }
    }

    /// Several changes, all or none.
    pub fn commit(&self) -> Commit {
        Commit { cable: self.clone(), request: v1::CommitRequest::default(), timeout: None }
    }
}

fn removal(given: impl Into<String>, reason: RemovalReason) -> Removal {
    Removal { name: name("articles", given), reason: reason.into(), moved_to: String::new() }
}

/// Conditions that each write may be given.
macro_rules! term_setters {
    () => {
        /// Only if its current version has this etag; else ABORTED with `EtagMismatch`.
        pub fn if_etag(mut self, etag: impl Into<String>) -> Self {
            self.terms.precondition = Some(Precondition { condition: Some(Condition::Etag(etag.into())) });
            self
        }

        /// The request_id, instead of a random one: give one that outlives this process, and a repeat after a crash
        /// is harmless too.
        pub fn request_id(mut self, id: impl Into<String>) -> Self {
            self.terms.request_id = Some(id.into());
            self
        }

        /// How long this call may take, instead of what the client is set to.
        pub fn timeout(mut self, timeout: Duration) -> Self {
            self.terms.timeout = Some(timeout);
            self
        }
    };
}

pub(crate) use term_setters;

/// Puts an entity. Await it.
#[derive(Debug, Clone)]
#[must_use = "a call is made when it is awaited"]
pub struct Put<E> {
    cable: Cable,
    entity: E,
    terms: Terms,
}

impl<E: Entity> Put<E> {
    term_setters!();

    /// Only if nothing is live under the name; else ALREADY_EXISTS with `NameExists`.
    pub fn if_absent(mut self) -> Self {
        self.terms.precondition = Some(absent());
        self
    }
}

impl Put<v1::Article> {
    /// What kind of change it is, for those who follow. MAJOR unless set.
    pub fn update_kind(mut self, kind: UpdateKind) -> Self {
        self.terms.update_kind = kind;
        self
    }

    /// Also if the name was killed; else FAILED_PRECONDITION with `NameKilled`.
    pub fn allow_killed(mut self) -> Self {
        self.terms.allow_killed = true;
        self
    }
}

fn absent() -> Precondition {
    Precondition { condition: Some(Condition::MustBeAbsent(true)) }
}

impl<E: Entity> IntoFuture for Put<E> {
    type Output = Result<Written>;
    type IntoFuture = BoxFuture<Result<Written>>;

    fn into_future(self) -> Self::IntoFuture {
        self.entity.put(self.cable, self.terms)
    }
}

/// Replaces fields of an article. Await it.
#[derive(Debug, Clone)]
#[must_use = "a call is made when it is awaited"]
pub struct Patch {
    cable: Cable,
    patch: ArticlePatch,
    terms: Terms,
}

impl Patch {
    term_setters!();

    /// What kind of change it is, for those who follow. MAJOR unless set.
    pub fn update_kind(mut self, kind: UpdateKind) -> Self {
        self.terms.update_kind = kind;
        self
    }
}

impl IntoFuture for Patch {
    type Output = Result<Written>;
    type IntoFuture = BoxFuture<Result<Written>>;

    fn into_future(self) -> Self::IntoFuture {
        let Patch { cable, patch, terms } = self;
        let request = v1::PatchArticleRequest {
            article: patch.article,
            update_mask: patch.update_mask,
            precondition: terms.precondition,
            request_id: terms.request_id.unwrap_or_else(request_id),
            update_kind: terms.update_kind.into(),
        };
        Box::pin(async move {
            let answer = cable.call(request, terms.timeout).await?;
            written(answer.result, answer.position)
        })
    }
}

/// Removes a name. Await it.
#[derive(Debug, Clone)]
#[must_use = "a call is made when it is awaited"]
pub struct Remove {
    cable: Cable,
    removal: Removal,
    terms: Terms,
}

impl Remove {
    term_setters!();

    /// With the reason MOVED: where to go instead, a name of the same kind.
    pub fn moved_to(mut self, target: impl Into<String>) -> Self {
        self.removal.move_to(target);
        self
    }
}

impl Removal {
    /// A bare id is of the kind of what is removed.
    fn move_to(&mut self, target: impl Into<String>) {
        let collection = self.name.split('/').next().unwrap_or_default();
        self.moved_to = name(collection, target);
    }
}

impl IntoFuture for Remove {
    type Output = Result<Written>;
    type IntoFuture = BoxFuture<Result<Written>>;

    fn into_future(self) -> Self::IntoFuture {
        macro_rules! remove {
            ($request:ident) => {{
                let Remove { cable, removal, terms } = self;
                let request = v1::$request {
                    name: removal.name,
                    reason: removal.reason,
                    moved_to: removal.moved_to,
                    precondition: terms.precondition,
                    request_id: terms.request_id.unwrap_or_else(request_id),
                };
                Box::pin(async move {
                    let answer = cable.call(request, terms.timeout).await?;
                    written(answer.result, answer.position)
                })
            }};
        }
        match self.removal.name.split('/').next() {
            Some("authors") => remove!(RemoveAuthorRequest),
            Some("sections") => remove!(RemoveSectionRequest),
            Some("tags") => remove!(RemoveTagRequest),
            Some("collections") => remove!(RemoveCollectionRequest),
            // A name of no kind is refused there, with the field.
            _ => remove!(RemoveArticleRequest),
        }
    }
}

impl Change {
    /// Puts an entity, whole. Its name may be a bare id.
    pub fn put<E: Entity>(entity: E) -> Change {
        Change::of(named(entity).into_change())
    }

    /// Replaces fields of an article, as [`Cable::patch`].
    pub fn patch(article: v1::Article, mask: impl IntoIterator<Item = impl Into<String>>) -> Change {
        Change::of(change::Change::PatchArticle(patch_of(article, mask)))
    }

    /// Removes a name of any kind, as [`Cable::remove`].
    pub fn remove(name: impl Into<String>, reason: RemovalReason) -> Change {
        Change::of(change::Change::Remove(removal(name, reason)))
    }

    /// For a removal with the reason MOVED: where to go instead. Changes no other change.
    #[must_use]
    pub fn moved_to(mut self, target: impl Into<String>) -> Change {
        if let Some(change::Change::Remove(removal)) = &mut self.change {
            removal.move_to(target);
        }
        self
    }

    /// Only if nothing is live under the name.
    #[must_use]
    pub fn if_absent(mut self) -> Change {
        self.precondition = Some(absent());
        self
    }

    /// Only if its current version has this etag.
    #[must_use]
    pub fn if_etag(mut self, etag: impl Into<String>) -> Change {
        self.precondition = Some(Precondition { condition: Some(Condition::Etag(etag.into())) });
        self
    }

    /// What kind of change it is, for those who follow. MAJOR unless set.
    #[must_use]
    pub fn kind(mut self, kind: UpdateKind) -> Change {
        self.update_kind = kind.into();
        self
    }

    /// For a put of an article: also if the name was killed.
    #[must_use]
    pub fn allow_killed(mut self) -> Change {
        self.allow_killed = true;
        self
    }

    fn of(change: change::Change) -> Change {
        Change { change: Some(change), ..Change::default() }
    }
}

/// Makes several changes, all or none; at most 500, together at most 3 MiB, of different names. Await it.
#[derive(Debug, Clone)]
#[must_use = "a call is made when it is awaited"]
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

    /// Adds changes.
    pub fn changes(mut self, changes: impl IntoIterator<Item = Change>) -> Self {
        self.request.changes.extend(changes);
        self
    }

    /// Adds a put without a condition.
    pub fn put<E: Entity>(self, entity: E) -> Self {
        self.change(Change::put(entity))
    }

    /// Adds a removal without a condition.
    pub fn remove(self, name: impl Into<String>, reason: RemovalReason) -> Self {
        self.change(Change::remove(name, reason))
    }

    /// The request_id, instead of a random one.
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.request.request_id = id.into();
        self
    }

    timeout_setter!();
}

impl IntoFuture for Commit {
    type Output = Result<Committed>;
    type IntoFuture = BoxFuture<Result<Committed>>;

    fn into_future(self) -> Self::IntoFuture {
        let Commit { cable, mut request, timeout } = self;
        if request.request_id.is_empty() {
            request.request_id = request_id();
        }
        Box::pin(async move {
            let answer = cable.call(request, timeout).await?;
            Ok(Committed { results: answer.results, position: answer.position.unwrap_or_default() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_allowed_as_ids_and_differ() {
        let (one, other) = (request_id(), request_id());
        assert_ne!(one, other);
        assert!(one.len() == 32 && one.bytes().all(|b| b.is_ascii_hexdigit()));
    }

    #[test]
    fn where_something_moved_to_is_of_its_own_kind() {
        let moved = |name: &str, to: &str| {
            let mut removal = removal(name, RemovalReason::Moved);
            removal.move_to(to);
            (removal.name, removal.moved_to)
        };
        assert_eq!(moved("a", "b"), ("articles/a".into(), "articles/b".into()));
        assert_eq!(moved("tags/a", "b"), ("tags/a".into(), "tags/b".into()));
        assert_eq!(moved("tags/a", "tags/b"), ("tags/a".into(), "tags/b".into()));
    }

    #[test]
    fn an_empty_mask_is_none() {
        assert_eq!(patch_of(v1::Article::default(), [""; 0]).update_mask, None);
        let mask = patch_of(v1::Article::default(), ["headline"]).update_mask.unwrap();
        assert_eq!(mask.paths, ["headline"]);
    }

    #[test]
    fn what_is_put_by_a_bare_id_is_named() {
        let change = Change::put(v1::Tag { name: "storm".into(), ..Default::default() }).if_absent();
        let Some(change::Change::PutTag(tag)) = change.change else { panic!("{change:?}") };
        assert_eq!(tag.name, "tags/storm");
        assert_eq!(change.precondition, Some(absent()));
    }
}
