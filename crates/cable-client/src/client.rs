//! The client, and the function through which it sends every call.
//!
//! Every call takes the same path: the pool picks a node, the call gets its metadata and its token and is attempted there
//! within the rest of its timeout, the outcome is reported to the pool, and the retry policy decides about another
//! attempt. For a stream, the path ends when it opens: its owner handles later failures.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Extensions, Request, Response, Status, Streaming, metadata::MetadataMap, transport::Channel};

use crate::{
    Builder, Error, ErrorKind, IntoEndpoints, Result, Retry,
    pool::{NodeGuard, Pool},
    retry::after,
    scope::Scope,
    stubs::{
        admin_service_client::AdminServiceClient, content_service_client::ContentServiceClient,
        feed_service_client::FeedServiceClient, publishing_service_client::PublishingServiceClient,
        status_service_client::StatusServiceClient, transfer_service_client::TransferServiceClient,
    },
    token::Credentials,
    v1,
};

/// The future that a call builder becomes when it is awaited.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A client of one Cable with one or several nodes. Cheap to clone; clones share their connections.
///
/// The methods return builders: set options, then `.await` the builder or take its stream.
///
/// A client needs a tokio runtime when it makes its first call, not when it is built.
///
/// ```no_run
/// # async fn example() -> cable_client::Result<()> {
/// use cable_client::Cable;
///
/// let cable = Cable::builder(["http://10.0.0.1:7190", "http://10.0.0.2:7190"]).build()?;
/// let worker = tokio::spawn({
///     let cable = cable.clone(); // the same connections
///     async move { cable.article("storm").await }
/// });
/// println!("{}", cable.article("flood").await?.headline);
/// # worker.await.unwrap().map(|_| ())
/// # }
/// ```
#[derive(Clone)]
pub struct Cable {
    pub(crate) shared: Arc<Shared>,
    pub(crate) scope: Arc<Scope>,
}

/// The state that all clones of a client share.
pub(crate) struct Shared {
    pub(crate) pool: Pool,
    pub(crate) retry: Retry,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) allow_plaintext_token: bool,
}

impl fmt::Debug for Cable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cable").finish_non_exhaustive()
    }
}

impl Cable {
    /// Returns the settings of a client for these endpoints.
    ///
    /// ```no_run
    /// # fn example() -> cable_client::Result<()> {
    /// use cable_client::Cable;
    ///
    /// // One string with commas, as in an environment variable, or a list of strings.
    /// let cable = Cable::builder("http://10.0.0.1:7190,http://10.0.0.2:7190").build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(endpoints: impl IntoEndpoints) -> Builder {
        Builder::new(endpoints)
    }

    /// Returns a client with the settings of the environment: see [`Builder::from_env`].
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn from_env() -> Result<Cable> {
        Builder::from_env().build()
    }

    /// Returns the status of one node: its version, head, counts, digests and limits.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// let status = cable.status().await?;
    /// println!("cable {} is at {:?}", status.version, status.head);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// No node could be reached, or none responded in time.
    pub async fn status(&self) -> Result<v1::GetStatusResponse> {
        self.call(v1::GetStatusRequest::default(), None).await
    }

    /// Makes a call with one response. If `timeout` is `None`, the client's timeout applies.
    pub(crate) async fn call<Q: Rpc + Clone + Sync>(
        &self,
        request: Q,
        timeout: Option<Duration>,
    ) -> Result<Q::Response> {
        let deadline = after(timeout.unwrap_or(self.scope.timeout));
        Ok(self.try_until(deadline, true, &self.shared.retry, || request.clone()).await?.0)
    }

    /// Makes a call whose response is a stream. The timeout applies until the stream opens. The node counts as busy
    /// with the stream until the guard is dropped.
    pub(crate) async fn open<Q: Rpc>(
        &self,
        request: impl Fn() -> Q + Send + Sync,
        timeout: Option<Duration>,
        retry: &Retry,
    ) -> Result<(Q::Response, NodeGuard)> {
        let timeout = timeout.unwrap_or(self.scope.timeout);
        self.try_until(after(timeout), false, retry, request).await
    }

    /// Requests the token again because a server has refused the one with this number. Returns whether there is another
    /// one now, so that another attempt can succeed.
    pub(crate) async fn replace_token(&self, refused: u64, error: &Error) -> bool {
        match &self.shared.credentials {
            Some(credentials) if error.kind() == ErrorKind::Unauthenticated => {
                credentials.replace(refused).await
            }
            _ => false,
        }
    }

    /// Attempts a call until it succeeds, until the policy allows no retry, or until the next wait would end after the
    /// deadline. With `send_deadline`, the server learns the deadline and stops working on the call when it passes;
    /// streams do without, because the deadline would end them too.
    ///
    /// A write whose earlier attempt may have been applied stays in doubt until an attempt settles it; see
    /// [`Error::may_have_applied`].
    async fn try_until<Q: Rpc>(
        &self,
        deadline: Instant,
        send_deadline: bool,
        retry: &Retry,
        request: impl Fn() -> Q + Send + Sync,
    ) -> Result<(Q::Response, NodeGuard)> {
        let (mut failures, mut may_have_applied, mut is_replaced) = (0, false, false);
        loop {
            let (mut error, token_number) = match self.reach(deadline, send_deadline, &request).await {
                Ok(opened) => return Ok(opened),
                Err(failed) => failed,
            };
            failures += 1;
            may_have_applied = Q::WRITES
                && (error.has_unknown_outcome() || may_have_applied && !error.is_definite_refusal());
            error.set_may_have_applied(may_have_applied);
            if !is_replaced
                && timeout_at(deadline, self.replace_token(token_number, &error)).await.unwrap_or(false)
            {
                is_replaced = true;
                continue;
            }
            match retry.wait(failures, &error) {
                Some(wait) if after(wait) < deadline => sleep(wait).await,
                _ => return Err(error),
            }
        }
    }

    /// Makes one attempt on the first node that can be reached. A node that cannot has not received the call, so the next
    /// one is tried at once. A failure has the number of the token that was sent.
    async fn reach<Q: Rpc>(
        &self,
        deadline: Instant,
        send_deadline: bool,
        request: &(impl Fn() -> Q + Send + Sync),
    ) -> Result<(Q::Response, NodeGuard), (Error, u64)> {
        let mut unreached = 0;
        loop {
            let (mut node, nodes) = match timeout_at(deadline, self.shared.pool.pick()).await {
                Ok(picked) => picked.map_err(|error| (error, 0))?,
                Err(_) => return Err((Error::unsent("no address of a node"), 0)),
            };
            let outcome = match timeout_at(deadline, self.metadata(&mut node)).await {
                Ok(Ok(metadata)) => attempt(&node, request, metadata, deadline, send_deadline).await,
                Ok(Err(error)) => Err(error),
                Err(_) => Err(Error::unsent("no token from its source")),
            };
            let error = match outcome {
                Ok(response) => return Ok((response, node)),
                Err(error) => error,
            };
            if error.is_unreached() && unreached + 1 < nodes && Instant::now() < deadline {
                unreached += 1;
                continue;
            }
            return Err((error.with_failed_addresses(unreached), node.token_number));
        }
    }

    /// Returns the metadata of a call to a node, with the token if the client has one. Over plaintext to another machine,
    /// anyone between could read the token.
    async fn metadata(&self, node: &mut NodeGuard) -> Result<MetadataMap> {
        let mut metadata = self.scope.metadata.clone();
        let Some(credentials) = &self.shared.credentials else { return Ok(metadata) };
        if !node.peer().is_private() && !self.shared.allow_plaintext_token {
            return Err(Error::plaintext_token(node.peer()));
        }
        let (header, number) = credentials.current().await?;
        metadata.insert("authorization", header);
        node.token_number = number;
        Ok(metadata)
    }
}

/// Makes one attempt on a node, and reports its outcome to the pool.
async fn attempt<Q: Rpc>(
    node: &NodeGuard,
    request: &(impl Fn() -> Q + Send + Sync),
    metadata: MetadataMap,
    deadline: Instant,
    send_deadline: bool,
) -> Result<Q::Response> {
    let with_metadata = || {
        let mut request = Request::from_parts(metadata, Extensions::new(), request());
        if send_deadline {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        request
    };
    let received = node.peer().received();
    let response = match timeout_at(deadline, Q::send(with_metadata(), node.channel())).await {
        Ok(response) => response.map_err(|status| Error::from_call(status, Some(node.peer()))),
        Err(_) => Err(Error::deadline(Some(node.peer()))),
    };
    match &response {
        Err(error) if error.is_timeout() => node.record_timeout(node.peer().received() == received),
        outcome => report_outcome(node, outcome.as_ref().err()),
    }
    response.map(Response::into_inner)
}

/// Reports the outcome of a call, or of one message of a stream, to the pool.
pub(crate) fn report_outcome(node: &NodeGuard, error: Option<&Error>) {
    match error {
        Some(error) if error.is_node_failure() => node.record_failure(),
        // A node whose own deadline has passed is reachable, and too slow.
        Some(error) if error.kind() == ErrorKind::DeadlineExceeded => {}
        _ => node.record_response(),
    }
}

/// A request type, and the method that it belongs to.
pub(crate) trait Rpc: Send + Sized + 'static {
    /// The response type.
    type Response: Send;
    /// Whether the method writes.
    const WRITES: bool = false;

    /// Sends the request on a connection.
    fn send(
        request: Request<Self>,
        channel: Channel,
    ) -> impl Future<Output = Result<Response<Self::Response>, Status>> + Send;
}

macro_rules! rpcs {
    ($client:ident, writes $writes:literal: $($request:ident => $call:ident -> $response:ty;)*) => {$(
        impl Rpc for v1::$request {
            type Response = $response;
            const WRITES: bool = $writes;

            async fn send(request: Request<Self>, channel: Channel) -> Result<Response<$response>, Status> {
                $client::new(channel).$call(request).await
            }
        }
    )*};
}

rpcs! { ContentServiceClient, writes false:
    GetArticleRequest => get_article -> v1::GetArticleResponse;
    BatchGetArticlesRequest => batch_get_articles -> v1::BatchGetArticlesResponse;
    ListArticlesRequest => list_articles -> v1::ListArticlesResponse;
    StreamArticlesRequest => stream_articles -> Streaming<v1::StreamArticlesResponse>;
    ResolvePathRequest => resolve_path -> v1::ResolvePathResponse;
    GetAuthorRequest => get_author -> v1::GetAuthorResponse;
    ListAuthorsRequest => list_authors -> v1::ListAuthorsResponse;
    GetSectionRequest => get_section -> v1::GetSectionResponse;
    ListSectionsRequest => list_sections -> v1::ListSectionsResponse;
    GetTagRequest => get_tag -> v1::GetTagResponse;
    ListTagsRequest => list_tags -> v1::ListTagsResponse;
    GetCollectionRequest => get_collection -> v1::GetCollectionResponse;
    ListCollectionsRequest => list_collections -> v1::ListCollectionsResponse;
}

rpcs! { PublishingServiceClient, writes true:
    PutArticleRequest => put_article -> v1::PutArticleResponse;
    PatchArticleRequest => patch_article -> v1::PatchArticleResponse;
    RemoveArticleRequest => remove_article -> v1::RemoveArticleResponse;
    PutAuthorRequest => put_author -> v1::PutAuthorResponse;
    RemoveAuthorRequest => remove_author -> v1::RemoveAuthorResponse;
    PutSectionRequest => put_section -> v1::PutSectionResponse;
    RemoveSectionRequest => remove_section -> v1::RemoveSectionResponse;
    PutTagRequest => put_tag -> v1::PutTagResponse;
    RemoveTagRequest => remove_tag -> v1::RemoveTagResponse;
    PutCollectionRequest => put_collection -> v1::PutCollectionResponse;
    RemoveCollectionRequest => remove_collection -> v1::RemoveCollectionResponse;
    CommitRequest => commit -> v1::CommitResponse;
    RemovePendingRequest => remove_pending -> v1::RemovePendingResponse;
}

rpcs! { PublishingServiceClient, writes false:
    GetPendingRequest => get_pending -> v1::GetPendingResponse;
    ListPendingRequest => list_pending -> v1::ListPendingResponse;
}

// An acknowledgement and a deletion may be repeated.
rpcs! { FeedServiceClient, writes false:
    AcknowledgePositionRequest => acknowledge_position -> v1::AcknowledgePositionResponse;
    ListConsumersRequest => list_consumers -> v1::ListConsumersResponse;
    DeleteConsumerRequest => delete_consumer -> v1::DeleteConsumerResponse;
}

rpcs! { StatusServiceClient, writes false:
    GetStatusRequest => get_status -> v1::GetStatusResponse;
}

rpcs! { AdminServiceClient, writes false:
    BackupRequest => backup -> Streaming<v1::BackupResponse>;
}

rpcs! { TransferServiceClient, writes false:
    ExportRequest => export -> Streaming<v1::ExportResponse>;
}

impl Rpc for v1::WatchRequest {
    type Response = Streaming<v1::WatchResponse>;

    async fn send(request: Request<Self>, channel: Channel) -> Result<Response<Self::Response>, Status> {
        FeedServiceClient::new(channel).watch(request).await
    }
}

/// The chunks of an import. Each attempt creates its own stream of them.
pub(crate) struct Chunks<S>(pub(crate) S);

impl<S> Rpc for Chunks<S>
where
    S: futures_util::Stream<Item = v1::ImportRequest> + Send + 'static,
{
    type Response = Streaming<v1::ImportResponse>;
    const WRITES: bool = true;

    async fn send(request: Request<Self>, channel: Channel) -> Result<Response<Self::Response>, Status> {
        TransferServiceClient::new(channel).import(request.map(|chunks| chunks.0)).await
    }
}
