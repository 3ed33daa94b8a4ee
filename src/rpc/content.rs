//! ContentService: from the bytes of a request to the bytes of a response.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream::BoxStream};
use prost::Message;
use tonic::Status;

use super::request;
use crate::{
    content::{Content, Document, Form, Listing, Output, Read, ReadQuery, RequestKey, Viewer},
    filter,
    model::{Kind, Revision, limit, path},
    parse,
    refusal::{Refusal, decode_error},
    wire::{
        Framed,
        v1::{self, ArticleView, Freshness},
    },
};

/// The reads of a node.
#[derive(Clone)]
pub(crate) struct ContentRpc {
    pub(crate) content: Arc<Content>,
}

impl ContentRpc {
    /// Returns the read that a method of this service makes.
    pub(crate) fn read(method: &str) -> Option<Read> {
        Some(match method {
            "GetArticle" => Read::GetArticle,
            "BatchGetArticles" => Read::BatchGetArticles,
            "ListArticles" => Read::ListArticles,
            "StreamArticles" => Read::StreamArticles,
            "ResolvePath" => Read::ResolvePath,
            "GetAuthor" => Read::GetAuthor,
            "ListAuthors" => Read::ListAuthors,
            "GetSection" => Read::GetSection,
            "ListSections" => Read::ListSections,
            "GetTag" => Read::GetTag,
            "ListTags" => Read::ListTags,
            "GetCollection" => Read::GetCollection,
            "ListCollections" => Read::ListCollections,
            _ => return None,
        })
    }

    /// Returns the response of a unary read from the cache. The bytes of the request are the key.
    pub(crate) async fn get_cached(&self, key: &RequestKey) -> Option<Result<Framed, Status>> {
        Some(self.content.get_cached(key).await?.map_err(Status::from))
    }

    /// Returns the response of a unary read, from the cache or composed.
    pub(crate) async fn respond(&self, key: RequestKey, viewer: &Viewer) -> Result<Framed, Status> {
        Ok(self.dispatch(key, viewer).await?)
    }

    async fn dispatch(&self, key: RequestKey, viewer: &Viewer) -> Result<Framed, Refusal> {
        let Prepared { key, query, caller } = prepare(key, viewer)?;
        let served = self.wait_for_freshness(caller.freshness).await?;
        self.content.respond(key, (query, viewer), served, &caller.if_none_match).await
    }

    /// Returns a document from the cache, with the revision at which it is served.
    pub(crate) async fn get_cached_document(
        &self,
        key: &RequestKey,
    ) -> Option<Result<(Arc<Document>, Revision), Refusal>> {
        self.content.get_cached_document(key).await
    }

    /// Returns the response of a unary read as a document, from the cache or composed, with the revision at which it is
    /// served. `keys` are the surrogate keys of the request.
    pub(crate) async fn document(
        &self,
        key: RequestKey,
        viewer: &Viewer,
        keys: &Arc<[String]>,
    ) -> Result<(Arc<Document>, Revision), Refusal> {
        let Prepared { key, query, caller } = prepare(key, viewer)?;
        let served = self.wait_for_freshness(caller.freshness).await?;
        Ok((self.content.document(key, (query, viewer), keys).await?, served))
    }

    /// Returns a feed or a sitemap, from the cache or written, with the revision at which it is served.
    pub(crate) async fn output(
        &self,
        key: RequestKey,
        viewer: &Viewer,
        freshness: Option<Freshness>,
        output: &Output,
    ) -> Result<(Arc<Document>, Revision), Refusal> {
        let served = self.wait_for_freshness(freshness).await?;
        Ok((self.content.output(key, output, viewer).await?, served))
    }

    /// Handles StreamArticles.
    pub(crate) async fn stream(
        &self,
        message: Bytes,
        viewer: Viewer,
    ) -> Result<BoxStream<'static, Result<Framed, Status>>, Status> {
        let mut request = v1::StreamArticlesRequest::decode(message).map_err(|error| decode_error(&error))?;
        let freshness = request.freshness.take();
        let scope = viewer.as_ref().map(|scope| scope.id());
        let message = request.encode_to_vec().into();
        let key = RequestKey { read: Read::StreamArticles, form: Form::Message, scope, message };
        let selection =
            request::selection(request.view, request.body_format, &request.includes, ArticleView::Basic)?;
        let mut query = filter::parse(&request.filter.unwrap_or_default(), request.order)?;
        if let Some(scope) = &viewer {
            query.narrow(scope.query());
        }
        let max_articles = match u64::try_from(request.max_articles) {
            Ok(maximum) => Some(maximum).filter(|maximum| *maximum > 0),
            Err(_) => return Err(Refusal::field("max_articles", "must not be negative").into()),
        };
        let start = self.wait_for_freshness(freshness).await?;
        let stream = self.content.clone().stream(key, (query, viewer), selection, max_articles, start);
        Ok(Box::pin(stream.map_err(Status::from)))
    }

    /// Returns the revision to serve at.
    async fn wait_for_freshness(&self, freshness: Option<Freshness>) -> Result<Revision, Refusal> {
        let (revision, log_id, wait) = request::freshness(freshness.as_ref())?;
        Ok(self.content.wait_for_revision(revision, log_id, wait).await?.revision)
    }
}

/// The fields of a request that describe the caller: how fresh the response must be, and which response the caller
/// already has.
#[derive(Default)]
struct Caller {
    freshness: Option<Freshness>,
    if_none_match: String,
}

/// A request of a unary read, parsed and checked.
struct Prepared {
    /// The key under which its response is cached.
    key: RequestKey,
    query: ReadQuery,
    caller: Caller,
}

fn prepare(key: RequestKey, viewer: &Viewer) -> Result<Prepared, Refusal> {
    match key.read {
        Read::GetArticle => prepare_as::<v1::GetArticleRequest>(key, viewer),
        Read::BatchGetArticles => prepare_as::<v1::BatchGetArticlesRequest>(key, viewer),
        Read::ListArticles => prepare_as::<v1::ListArticlesRequest>(key, viewer),
        Read::ResolvePath => prepare_as::<v1::ResolvePathRequest>(key, viewer),
        Read::GetAuthor => prepare_as::<v1::GetAuthorRequest>(key, viewer),
        Read::ListAuthors => prepare_as::<v1::ListAuthorsRequest>(key, viewer),
        Read::GetSection => prepare_as::<v1::GetSectionRequest>(key, viewer),
        Read::ListSections => prepare_as::<v1::ListSectionsRequest>(key, viewer),
        Read::GetTag => prepare_as::<v1::GetTagRequest>(key, viewer),
        Read::ListTags => prepare_as::<v1::ListTagsRequest>(key, viewer),
        Read::GetCollection => prepare_as::<v1::GetCollectionRequest>(key, viewer),
        Read::ListCollections => prepare_as::<v1::ListCollectionsRequest>(key, viewer),
        Read::StreamArticles => Err(Refusal::Internal("StreamArticles has no unary response")),
    }
}

fn prepare_as<R: ReadRequest>(key: RequestKey, viewer: &Viewer) -> Result<Prepared, Refusal> {
    let mut request = R::decode(key.message.clone()).map_err(|error| decode_error(&error))?;
    let caller = request.take_caller();
    let key = RequestKey { message: request.encode_to_vec().into(), ..key };
    let mut query = request.query()?;
    if let Some(scope) = viewer {
        query.narrow(scope);
    }
    Ok(Prepared { key, query, caller })
}

/// A request of a unary read.
trait ReadRequest: Message + Default {
    /// Removes the fields that are not part of the query.
    fn take_caller(&mut self) -> Caller;

    /// Checks the other fields.
    fn query(self) -> Result<ReadQuery, Refusal>;
}

/// Implements `take_caller` for requests with and without `if_none_match`.
macro_rules! caller {
    (if_none_match) => {
        fn take_caller(&mut self) -> Caller {
            let if_none_match = std::mem::take(&mut self.if_none_match);
            Caller { freshness: self.freshness.take(), if_none_match }
        }
    };
    () => {
        fn take_caller(&mut self) -> Caller {
            Caller { freshness: self.freshness.take(), ..Caller::default() }
        }
    };
}

impl ReadRequest for v1::GetArticleRequest {
    caller!(if_none_match);

    fn query(self) -> Result<ReadQuery, Refusal> {
        let name = parse::name(Kind::Article, &self.name, "name")?;
        let selection = request::selection(self.view, self.body_format, &self.includes, ArticleView::Full)?;
        Ok(ReadQuery::Article { name, selection })
    }
}

impl ReadRequest for v1::BatchGetArticlesRequest {
    caller!(if_none_match);

    fn query(self) -> Result<ReadQuery, Refusal> {
        if self.names.is_empty() {
            return Err(Refusal::field("names", "must not be empty"));
        }
        let names = parse::names(Kind::Article, &limit::BATCH, &self.names, "names")?;
        let selection = request::selection(self.view, self.body_format, &self.includes, ArticleView::Basic)?;
        Ok(ReadQuery::Batch { names, selection })
    }
}

impl ReadRequest for v1::ListArticlesRequest {
    caller!(if_none_match);

    fn query(self) -> Result<ReadQuery, Refusal> {
        let selection = request::selection(self.view, self.body_format, &self.includes, ArticleView::Basic)?;
        let filter = self.filter.unwrap_or_default();
        let query = filter::parse(&filter, self.order)?;
        let listing = Listing {
            scope: filter::page_scope(&filter, query.order),
            query,
            page_size: request::page_size(self.page_size)?,
            page_token: self.page_token,
        };
        Ok(ReadQuery::List { listing, selection })
    }
}

impl ReadRequest for v1::ResolvePathRequest {
    caller!(if_none_match);

    fn query(self) -> Result<ReadQuery, Refusal> {
        parse::path(&self.path, "path")?;
        let selection = request::selection(self.view, self.body_format, &self.includes, ArticleView::Full)?;
        Ok(ReadQuery::Path { path: path::normalise(&self.path), selection })
    }
}

impl ReadRequest for v1::GetCollectionRequest {
    caller!(if_none_match);

    fn query(self) -> Result<ReadQuery, Refusal> {
        let name = parse::name(Kind::Collection, &self.name, "name")?;
        let selection = request::selection(self.view, self.body_format, &self.includes, ArticleView::Basic)?;
        Ok(ReadQuery::Collection { name, selection })
    }
}

/// Implements the Get requests of authors, sections and tags, which are alike.
macro_rules! get {
    ($($request:ident $kind:ident),*) => {$(
        impl ReadRequest for v1::$request {
            caller!(if_none_match);

            fn query(self) -> Result<ReadQuery, Refusal> {
                Ok(ReadQuery::Entity(parse::name(Kind::$kind, &self.name, "name")?))
            }
        }
    )*};
}

get!(GetAuthorRequest Author, GetSectionRequest Section, GetTagRequest Tag);

/// Implements the List requests of these kinds and of collections, which are alike.
macro_rules! list {
    ($($request:ident $kind:ident),*) => {$(
        impl ReadRequest for v1::$request {
            caller!();

            fn query(self) -> Result<ReadQuery, Refusal> {
                let page_size = request::page_size(self.page_size)?;
                Ok(ReadQuery::Entities { kind: Kind::$kind, page_size, page_token: self.page_token })
            }
        }
    )*};
}

list!(ListAuthorsRequest Author, ListSectionsRequest Section, ListTagsRequest Tag,
      ListCollectionsRequest Collection);
