//! Writes. Each write has a request_id, random unless the caller sets one, so that retries are safe.
//!
//! A put, a patch, a removal and a commit are builders of their own, one per file. They share the options in
//! [`sealed::WriteOptions`] and end in the same outcome.

use std::time::Duration;

use cable_proto::change;
use prost_types::Timestamp;

use crate::{
    BoxFuture, Cable, Result,
    read::malformed_response,
    v1::{self, BodyConversion, BodySource, Position, Precondition, UpdateKind, WriteResult},
};

mod commit;
mod patch;
mod put;
mod remove;

pub use commit::Commit;
pub use patch::Patch;
pub use put::Put;
pub use remove::Remove;
use sealed::{Sealed, WriteOptions};

/// The result of a write.
///
/// When a write succeeds, it is on disk.
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// use cable_client::v1;
///
/// let mut tag = v1::Tag::default();
/// tag.name = "storm".into();
/// tag.display_name = "Storm".into();
/// let written = cable.put(tag).await?;
/// // The same put again changes nothing and keeps the revision.
/// println!("{} at revision {}: changed {}", written.name, written.revision, written.changed);
/// // This read sees the write, on any node.
/// cable.tag("storm").not_older_than(&written.position).await?;
/// # Ok(())
/// # }
/// ```
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
    /// The conversion of a body that was put as HTML or Markdown. `None` for all other writes.
    pub body_conversion: Option<BodyConversion>,
    /// The position after the write. A read with [`not_older_than`](crate::GetArticle::not_older_than) this position
    /// sees the write.
    pub position: Position,
}

/// The result of a commit.
///
/// The changes of a commit have consecutive revisions; readers and followers see all of them or none.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CommitOutcome {
    /// The result of each change, in order.
    pub results: Vec<WriteResult>,
    /// The position after the last change.
    pub position: Position,
}

/// An entity that can be put: an article, author, section, tag or collection.
///
/// A name can be a bare id: `storm` in an article is `articles/storm`, in a tag `tags/storm`. The trait is sealed.
pub trait Entity: Sealed {}

macro_rules! entity {
    ($($entity:ident: $request:ident, $field:ident $(, $update_kind:ident)?;)*) => {$(
        impl Entity for v1::$entity {}

        impl Sealed for v1::$entity {
            fn put(self, cable: Cable, options: WriteOptions) -> BoxFuture<Result<WriteOutcome>> {
                let request = v1::$request {
                    $field: Some(self),
                    precondition: options.precondition,
                    request_id: options.request_id.unwrap_or_else(random_request_id),
                    $($update_kind: options.update_kind.into(), allow_killed: options.allow_killed, body_source: options.body_source,)?
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

pub(crate) mod sealed {
    use super::*;

    /// The options of a write besides its content.
    #[derive(Debug, Clone, Default)]
    pub struct WriteOptions {
        pub(crate) precondition: Option<Precondition>,
        pub(crate) request_id: Option<String>,
        pub(crate) update_kind: UpdateKind,
        pub(crate) allow_killed: bool,
        pub(crate) body_source: Option<BodySource>,
        pub(crate) timeout: Option<Duration>,
    }

    pub trait Sealed: change::Entity + Send + 'static {
        fn put(self, cable: Cable, options: WriteOptions) -> BoxFuture<Result<WriteOutcome>>;
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
        /// safe too. An empty id counts as unset.
        pub fn request_id(mut self, id: impl Into<String>) -> Self {
            self.options.request_id = Some(id.into()).filter(|id| !id.is_empty());
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

/// Returns the outcome in a response. A response without a result is malformed.
pub(crate) fn write_outcome(result: Option<WriteResult>, position: Option<Position>) -> Result<WriteOutcome> {
    let WriteResult { name, etag, revision, changed, due_time, pending, path_owner, body_conversion } =
        result.ok_or_else(|| malformed_response("no result"))?;
    let position = position.unwrap_or_default();
    Ok(WriteOutcome {
        name,
        etag,
        revision,
        changed,
        pending,
        due_time,
        path_owner,
        body_conversion,
        position,
    })
}

/// Returns 128 random bits as 32 hex digits.
pub(crate) fn random_request_id() -> String {
    format!("{:032x}", fastrand::u128(..))
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
