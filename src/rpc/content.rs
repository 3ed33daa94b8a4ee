//! ContentService: from the bytes of a request to the bytes of a response.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream::BoxStream};
use prost::Message;
use tonic::Status;

use super::{item_error, request};
use crate::{
    content::{Asked, Content, Listing, Question, Read, filter},
    model::{Kind, Revision, limit, path},
    publishing::{check_name, check_path},
    refusal::{Refusal, at_most, undecodable},
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
    pub(crate) async fn kept(&self, asked: &Asked) -> Option<Result<Framed, Status>> {
        Some(self.content.kept(asked).await?.map_err(Status::from))
    }

    /// Returns the response of a unary read, from the cache or composed.
    pub(crate) async fn answer(&self, asked: Asked) -> Result<Framed, Status> {
        Ok(self.answer_one(asked).await?)
    }

    async fn answer_one(&self, Asked { read, message }: Asked) -> Result<Framed, Refusal> {
        match read {
            Read::GetArticle => self.ask::<v1::GetArticleRequest>(read, message).await,
            Read::BatchGetArticles => self.ask::<v1::BatchGetArticlesRequest>(read, message).await,
            Read::ListArticles => self.ask::<v1::ListArticlesRequest>(read, message).await,
            Read::ResolvePath => self.ask::<v1::ResolvePathRequest>(read, message).await,
            Read::GetAuthor => self.ask::<v1::GetAuthorRequest>(read, message).await,
            Read::ListAuthors => self.ask::<v1::ListAuthorsRequest>(read, message).await,
            Read::GetSection => self.ask::<v1::GetSectionRequest>(read, message).await,
            Read::ListSections => self.ask::<v1::ListSectionsRequest>(read, message).await,
            Read::GetTag => self.ask::<v1::GetTagRequest>(read, message).await,
            Read::ListTags => self.ask::<v1::ListTagsRequest>(read, message).await,
            Read::GetCollection => self.ask::<v1::GetCollectionRequest>(read, message).await,
            Read::ListCollections => self.ask::<v1::ListCollectionsRequest>(read, message).await,
            Read::StreamArticles => Err(Refusal::Internal("a stream is no single answer")),
        }
    }

    async fn ask<R: Ask>(&self, read: Read, message: Bytes) -> Result<Framed, Refusal> {
        let mut request = R::decode(message).map_err(|error| undecodable(&error))?;
        let caller = request.take_caller();
        let asked = Asked { read, message: request.encode_to_vec().into() };
        let question = request.question()?;
        let served = self.at(caller.freshness).await?;
        self.content.answer(asked, question, served, &caller.if_none_match).await
    }

    /// Handles StreamArticles.
    pub(crate) async fn stream(
        &self,
        message: Bytes,
    ) -> Result<BoxStream<'static, Result<Framed, Status>>, Status> {
        let mut request = v1::StreamArticlesRequest::decode(message).map_err(|error| undecodable(&error))?;
        let freshness = request.freshness.take();
        let asked = Asked { read: Read::StreamArticles, message: request.encode_to_vec().into() };
        let selection =
            request::selection(request.view, request.body_format, &request.includes, ArticleView::Basic)?;
        let query = filter::parse(&request.filter.unwrap_or_default(), request.order)?;
        let most = match u64::try_from(request.max_articles) {
            Ok(most) => Some(most).filter(|most| *most > 0),
            Err(_) => return Err(Refusal::field("max_articles", "it must not be negative").into()),
        };
        let start = self.at(freshness).await?;
        let stream = self.content.clone().stream(asked, query, selection, most, start);
        Ok(Box::pin(stream.map_err(Status::from)))
    }

    /// Returns the revision to serve at.
    async fn at(&self, freshness: Option<Freshness>) -> Result<Revision, Refusal> {
        let (asked, log_id, wait) = request::freshness(freshness.as_ref())?;
        Ok(self.content.reach(asked, log_id, wait).await?.revision)
    }
}

/// The fields of a request that describe the caller: how fresh the response must be, and which response the caller
/// already has.
#[derive(Default)]
struct Caller {
    freshness: Option<Freshness>,
    if_none_match: String,
}

/// A request of a unary read.
trait Ask: Message + Default {
    /// Removes the fields that are not part of the query.
    fn take_caller(&mut self) -> Caller;

    /// Checks the other fields.
    fn question(self) -> Result<Question, Refusal>;
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

impl Ask for v1::GetArticleRequest {
    caller!(if_none_match);

    fn question(self) -> Result<Question, Refusal> {
        let name = check_name(Kind::Article, &self.name, "name")?;
        let selection = request::selection(self.view, self.body_format, &self.includes, ArticleView::Full)?;
        Ok(Question::Article { name, selection })
    }
}

impl Ask for v1::BatchGetArticlesRequest {
    caller!(if_none_match);

    fn question(self) -> Result<Question, Refusal> {
        if self.names.is_empty() {
            return Err(Refusal::field("names", "it must name at least one article"));
        }
        at_most(&limit::BATCH, self.names.len(), "names")?;
        let name = |(i, name): (usize, &String)| check_name(Kind::Article, name, &format!("names[{i}]"));
        let names = self.names.iter().enumerate().map(name).collect::<Result<Vec<_>, _>>()?;
        let selection = request::selection(self.view, self.body_format, &self.includes, ArticleView::Basic)?;
        Ok(Question::Batch { names, selection, tell: item_error })
    }
}

impl Ask for v1::ListArticlesRequest {
    caller!(if_none_match);

    fn question(self) -> Result<Question, Refusal> {
        let selection = request::selection(self.view, self.body_format, &self.includes, ArticleView::Basic)?;
        let wanted = self.filter.unwrap_or_default();
        let query = filter::parse(&wanted, self.order)?;
        let listing = Listing {
            fingerprint: filter::fingerprint("ListArticles", &wanted, query.order),
            query,
            page_size: request::page_size(self.page_size)?,
            page_token: self.page_token,
        };
        Ok(Question::List { listing, selection })
    }
}

impl Ask for v1::ResolvePathRequest {
    caller!(if_none_match);

    fn question(self) -> Result<Question, Refusal> {
        check_path(&self.path, "path")?;
        let selection = request::selection(self.view, self.body_format, &self.includes, ArticleView::Full)?;
        Ok(Question::Path { path: path::normalise(&self.path), selection })
    }
}

impl Ask for v1::GetCollectionRequest {
    caller!(if_none_match);

    fn question(self) -> Result<Question, Refusal> {
        let name = check_name(Kind::Collection, &self.name, "name")?;
        let selection = request::selection(self.view, self.body_format, &self.includes, ArticleView::Basic)?;
        Ok(Question::Collection { name, selection })
    }
}

/// Implements the Get requests of authors, sections and tags, which are alike.
macro_rules! get {
    ($($request:ident $kind:ident),*) => {$(
        impl Ask for v1::$request {
            caller!(if_none_match);

            fn question(self) -> Result<Question, Refusal> {
                Ok(Question::Entity(check_name(Kind::$kind, &self.name, "name")?))
            }
        }
    )*};
}

get!(GetAuthorRequest Author, GetSectionRequest Section, GetTagRequest Tag);

/// Implements the List requests of these kinds and of collections, which are alike.
macro_rules! list {
    ($($request:ident $kind:ident),*) => {$(
        impl Ask for v1::$request {
            caller!();

            fn question(self) -> Result<Question, Refusal> {
                let page_size = request::page_size(self.page_size)?;
                Ok(Question::Entities { kind: Kind::$kind, page_size, page_token: self.page_token })
            }
        }
    )*};
}

list!(ListAuthorsRequest Author, ListSectionsRequest Section, ListTagsRequest Tag,
      ListCollectionsRequest Collection);
