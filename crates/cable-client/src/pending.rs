//! Pending versions of articles: scheduled or embargoed versions that readers do not see yet.

use std::{future::IntoFuture, time::Duration};

use futures_util::stream;

use crate::{
    BodyFormat, BoxFuture, Cable, Error, Optional, Result, ResultStream, View, WriteOutcome,
    list::{items, non_empty},
    read::malformed_response,
    shape::{full_name, timeout_setter},
    v1::{self, PendingArticle, Precondition},
    write::{random_request_id, sealed::WriteOptions, write_option_setters, write_outcome},
};

impl Cable {
    /// Gets the pending version of an article, by id or name, in the view FULL unless set otherwise.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// if let Some(version) = cable.pending("storm").optional().await? {
    ///     println!("due at {:?}", version.due_time);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// NOT_FOUND: the article has no pending version.
    pub fn pending(&self, article: impl Into<String>) -> GetPending {
        let request = v1::GetPendingRequest { name: full_name("articles", article), ..Default::default() };
        GetPending { cable: self.clone(), request, timeout: None }
    }

    /// Lists all pending versions: the next due version first, those without a due time last. They are in the view
    /// BASIC unless set otherwise.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// use futures_util::TryStreamExt as _;
    ///
    /// let mut versions = cable.list_pending().items();
    /// while let Some(version) = versions.try_next().await? {
    ///     println!("due at {:?}", version.due_time);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn list_pending(&self) -> ListPending {
        ListPending { cable: self.clone(), request: v1::ListPendingRequest::default(), timeout: None }
    }

    /// Cancels the pending version of an article. The live version stays.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// let written = cable.remove_pending("storm").await?;
    /// println!("cancelled at revision {}", written.revision);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// NOT_FOUND: the article has no pending version. ABORTED with `EtagMismatch`: see
    /// [`if_etag`](RemovePending::if_etag).
    pub fn remove_pending(&self, article: impl Into<String>) -> RemovePending {
        RemovePending {
            cable: self.clone(),
            name: full_name("articles", article),
            options: WriteOptions::default(),
        }
    }
}

/// Setters for the view and the body format, for a builder with a `request` and a `timeout`.
macro_rules! pending_setters {
    () => {
        /// Sets the view of articles.
        pub fn view(mut self, view: View) -> Self {
            self.request.view = view.into();
            self
        }

        /// Sets the format of bodies in the view FULL; other views allow only BLOCKS. If unset, BLOCKS.
        pub fn body_format(mut self, format: BodyFormat) -> Self {
            self.request.body_format = format.into();
            self
        }

        timeout_setter!();
    };
}

/// A call that gets a pending version. Await it. See [`Cable::pending`].
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// use cable_client::BodyFormat;
///
/// // A preview for the editor, as readers will see it.
/// let version = cable.pending("storm").body_format(BodyFormat::Html).await?;
/// if let Some(article) = version.article {
///     println!("{} ({:?})", article.headline, article.rendered_body);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "calls do nothing unless awaited"]
pub struct GetPending {
    cable: Cable,
    request: v1::GetPendingRequest,
    timeout: Option<Duration>,
}

impl GetPending {
    pending_setters!();

    /// Returns `None` instead of an error if the article has no pending version.
    pub fn optional(self) -> Optional<Self> {
        Optional(self)
    }
}

impl IntoFuture for GetPending {
    type Output = Result<PendingArticle>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let GetPending { cable, request, timeout } = self;
        Box::pin(async move {
            let response = cable.call(request, timeout).await?;
            response.pending.ok_or_else(|| malformed_response("no pending version"))
        })
    }
}

/// A call that lists pending versions; [`items`](ListPending::items) returns the stream. See [`Cable::list_pending`].
#[derive(Debug, Clone)]
#[must_use = "calls do nothing unless their stream is polled"]
pub struct ListPending {
    cable: Cable,
    request: v1::ListPendingRequest,
    timeout: Option<Duration>,
}

impl ListPending {
    pending_setters!();

    /// Sets the largest number of versions per call, at most 1,000. If unset or 0, 50.
    pub fn page_size(mut self, versions: u32) -> Self {
        self.request.page_size = versions.try_into().unwrap_or(i32::MAX);
        self
    }

    /// Returns all pending versions. The stream requests a page once the previous page is consumed. If the server
    /// cannot read some versions, the last item is an error ([`ErrorKind::DataLoss`](crate::ErrorKind::DataLoss)).
    #[must_use]
    pub fn items(self) -> ResultStream<PendingArticle> {
        let step = |list: Option<ListPending>| async move {
            let Some(mut list) = list else { return Ok::<_, Error>(None) };
            let response = list.cable.call(list.request.clone(), list.timeout).await?;
            let rest = non_empty(response.next_page_token).map(|token| {
                list.request.page_token = token;
                list
            });
            Ok(Some(((response.pending, response.damage), rest)))
        };
        items(stream::try_unfold(Some(self), step))
    }
}

/// A call that cancels a pending version. Await it. See [`Cable::remove_pending`].
#[derive(Debug, Clone)]
#[must_use = "calls do nothing unless awaited"]
pub struct RemovePending {
    cable: Cable,
    name: String,
    options: WriteOptions,
}

impl RemovePending {
    write_option_setters!();
}

impl IntoFuture for RemovePending {
    type Output = Result<WriteOutcome>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let RemovePending { cable, name, options } = self;
        let request = v1::RemovePendingRequest {
            name,
            precondition: options.precondition,
            request_id: options.request_id.unwrap_or_else(random_request_id),
        };
        Box::pin(async move {
            let response = cable.call(request, options.timeout).await?;
            write_outcome(response.result, response.position)
        })
    }
}
