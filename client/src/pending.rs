//! Versions of articles whose time has not come: readers do not see them.

use std::{future::IntoFuture, time::Duration};

use futures_util::stream;

use crate::{
    BodyFormat, BoxFuture, Cable, Error, Optional, Result, ResultStream, View, Written,
    list::{items, token},
    read::incomplete,
    shape::{name, timeout_setter},
    v1::{self, PendingArticle, Precondition, precondition::Condition},
    write::{request_id, sealed::Terms, term_setters, written},
};

impl Cable {
    /// The pending version of an article, by id or name. Unless told otherwise it comes whole.
    ///
    /// # Errors
    /// NOT_FOUND if it has none.
    pub fn pending(&self, article: impl Into<String>) -> GetPending {
        let request = v1::GetPendingRequest { name: name("articles", article), ..Default::default() };
        GetPending { cable: self.clone(), request, timeout: None }
    }

    /// All pending versions, the one that is due next first, those without a due time last; in the view BASIC unless
    /// told otherwise.
    pub fn list_pending(&self) -> ListPending {
        ListPending { cable: self.clone(), request: v1::ListPendingRequest::default(), timeout: None }
    }

    /// Takes the pending version of an article back. What readers see stays.
    ///
    /// # Errors
    /// NOT_FOUND if it has none; `EtagMismatch`.
    pub fn remove_pending(&self, article: impl Into<String>) -> RemovePending {
        RemovePending { cable: self.clone(), name: name("articles", article), terms: Terms::default() }
    }
}

/// How much of a pending version, for a builder with a `request` and a `timeout`.
macro_rules! pending_setters {
    () => {
        /// How much of each article.
        pub fn view(mut self, view: View) -> Self {
            self.request.view = view.into();
            self
        }

        /// The form of the body, in the view FULL.
        pub fn format(mut self, format: BodyFormat) -> Self {
            self.request.body_format = format.into();
            self
        }

        timeout_setter!();
    };
}

/// Gets a pending version. Await it.
#[derive(Debug, Clone)]
#[must_use = "a call is made when it is awaited"]
pub struct GetPending {
    cable: Cable,
    request: v1::GetPendingRequest,
    timeout: Option<Duration>,
}

impl GetPending {
    pending_setters!();

    /// `None` instead of an error if there is none.
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
            let answer = cable.call(request, timeout).await?;
            answer.pending.ok_or_else(|| incomplete("no pending version"))
        })
    }
}

/// Lists pending versions: see [`items`](ListPending::items).
#[derive(Debug, Clone)]
#[must_use = "a call is made when its stream is polled"]
pub struct ListPending {
    cable: Cable,
    request: v1::ListPendingRequest,
    timeout: Option<Duration>,
}

impl ListPending {
    pending_setters!();

    /// At most this many are fetched at once, 1,000 at most. 50 unless set.
    pub fn page_size(mut self, versions: u32) -> Self {
        self.request.page_size = versions.try_into().unwrap_or(i32::MAX);
        self
    }

    /// All of them. The next page is asked for when this one has been taken.
    #[must_use]
    pub fn items(self) -> ResultStream<PendingArticle> {
        let step = |list: Option<ListPending>| async move {
            let Some(mut list) = list else { return Ok::<_, Error>(None) };
            let answer = list.cable.call(list.request.clone(), list.timeout).await?;
            let rest = token(answer.next_page_token).map(|token| {
                list.request.page_token = token;
                list
            });
            Ok(Some(((answer.pending, answer.damage), rest)))
        };
        items(stream::try_unfold(Some(self), step))
    }
}

/// Takes a pending version back. Await it.
#[derive(Debug, Clone)]
#[must_use = "a call is made when it is awaited"]
pub struct RemovePending {
    cable: Cable,
    name: String,
    terms: Terms,
}

impl RemovePending {
    term_setters!();
}

impl IntoFuture for RemovePending {
    type Output = Result<Written>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let RemovePending { cable, name, terms } = self;
        let request = v1::RemovePendingRequest {
            name,
            precondition: terms.precondition,
            request_id: terms.request_id.unwrap_or_else(request_id),
        };
        Box::pin(async move {
            let answer = cable.call(request, terms.timeout).await?;
            written(answer.result, answer.position)
        })
    }
}
