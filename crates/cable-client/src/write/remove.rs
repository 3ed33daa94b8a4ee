//! Removals of names.

use std::{future::IntoFuture, time::Duration};

use super::{WriteOptions, WriteOutcome, random_request_id, write_option_setters, write_outcome};
use crate::{
    BoxFuture, Cable, Result,
    v1::{self, Precondition, Removal, RemovalReason},
};

impl Cable {
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
}

/// A call that removes a name. Await it. See [`Cable::remove`].
///
/// A removal leaves a tombstone with the reason. KILLED also erases the content from the store, its write-ahead log,
/// memory and feeds before the call returns.
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// use cable_client::{ErrorReason, RemovalReason};
///
/// match cable.remove("storm", RemovalReason::Killed).await {
///     Ok(removed) => println!("erased at revision {}", removed.revision),
///     // The content is not erased yet. Repeat the call until it succeeds.
///     Err(error) if error.reason() == Some(ErrorReason::OutcomeUnknown) => println!("repeat the call"),
///     Err(error) => return Err(error),
/// }
/// # Ok(())
/// # }
/// ```
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
