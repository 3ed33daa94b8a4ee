//! Commits: several changes that are applied together.

use std::{future::IntoFuture, time::Duration};

use super::{CommitOutcome, Entity, random_request_id};
use crate::{
    BoxFuture, Cable, Result,
    shape::timeout_setter,
    v1::{self, Change, RemovalReason},
};

impl Cable {
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

/// A call that applies several changes atomically: 1 to 500 changes of different names, at most 3 MiB in total. Await
/// it. See [`Cable::commit`].
///
/// An article may take a path that another article of the commit gives up. If one change is refused, no change is
/// applied, and the field of the error starts with its index, such as `changes[1].put_article.path`.
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// use cable_client::{Change, v1};
///
/// let mut moved = v1::Article::default();
/// moved.name = "storm".into();
/// moved.path = "/archive/storm".into();
/// let mut newer = v1::Article::default();
/// newer.name = "storm-2".into();
/// newer.headline = "Second storm".into();
/// newer.path = "/world/storm".into();
/// let commit = cable.commit().change(Change::patch(moved, ["path"])).put(newer).await?;
/// println!("{} changes", commit.results.len());
/// # Ok(())
/// # }
/// ```
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
    /// too. An empty id counts as unset.
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
