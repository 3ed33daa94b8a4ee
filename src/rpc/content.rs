//! ContentService.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use tonic::{Request, Response, Status};

use super::{item_error, request};
use crate::{
    content::{Content, Listing, filter},
    model::{Kind, Revision, limit},
    publishing::{check_name, check_path},
    refusal::{Refusal, at_most},
    wire::{
        Answer,
        service::{self, content_service_server::ContentService},
        v1::{self, ArticleView},
    },
};

/// The reads of a node.
pub(crate) struct ContentRpc {
    pub(crate) content: Arc<Content>,
}

type Answered = Result<Response<Answer>, Status>;

impl ContentRpc {
    /// The head to serve at.
    async fn at(&self, freshness: Option<v1::Freshness>) -> Result<Revision, Refusal> {
        let (asked, log_id, wait) = request::freshness(freshness.as_ref())?;
        Ok(self.content.reach(asked, log_id, wait).await?.revision)
    }

    async fn noun(
        &self,
        kind: Kind,
        name: &str,
        if_none_match: &str,
        freshness: Option<v1::Freshness>,
    ) -> Answered {
        let name = check_name(kind, name, "name")?;
        let served = self.at(freshness).await?;
        Ok(Response::new(self.content.noun(name, served, if_none_match).await?))
    }

    async fn nouns(
        &self,
        kind: Kind,
        page_size: i32,
        page_token: &str,
        freshness: Option<v1::Freshness>,
    ) -> Answered {
        let page_size = request::page_size(page_size)?;
        let served = self.at(freshness).await?;
        Ok(Response::new(self.content.nouns(kind, page_size, page_token, served).await?))
    }
}

#[tonic::async_trait]
impl ContentService for ContentRpc {
    async fn get_article(&self, request: Request<v1::GetArticleRequest>) -> Answered {
        let asked = request.into_inner();
        let name = check_name(Kind::Article, &asked.name, "name")?;
        let selection =
            request::selection(asked.view, asked.body_format, &asked.includes, ArticleView::Full)?;
        let served = self.at(asked.freshness).await?;
        Ok(Response::new(self.content.article(name, selection, served, &asked.if_none_match).await?))
    }

    async fn batch_get_articles(&self, request: Request<v1::BatchGetArticlesRequest>) -> Answered {
        let asked = request.into_inner();
        if asked.names.is_empty() {
            return Err(Refusal::field("names", "it must name at least one article").into());
        }
        at_most(&limit::BATCH, asked.names.len(), "names")?;
        let name = |(i, name): (usize, &String)| check_name(Kind::Article, name, &format!("names[{i}]"));
        let names = asked.names.iter().enumerate().map(name).collect::<Result<Vec<_>, _>>()?;
        let selection =
            request::selection(asked.view, asked.body_format, &asked.includes, ArticleView::Basic)?;
        let served = self.at(asked.freshness).await?;
        let batch = self.content.batch(names, selection, served, &asked.if_none_match, item_error);
        Ok(Response::new(batch.await?))
    }

    async fn list_articles(&self, request: Request<v1::ListArticlesRequest>) -> Answered {
        let asked = request.into_inner();
        let selection =
            request::selection(asked.view, asked.body_format, &asked.includes, ArticleView::Basic)?;
        let wanted = asked.filter.unwrap_or_default();
        let query = filter::parse(&wanted, asked.order)?;
        let listing = Listing {
            fingerprint: filter::fingerprint("ListArticles", &wanted, query.order),
            query,
            page_size: request::page_size(asked.page_size)?,
            page_token: asked.page_token,
        };
        let served = self.at(asked.freshness).await?;
        Ok(Response::new(self.content.list(listing, selection, served, &asked.if_none_match).await?))
    }

    type StreamArticlesStream = BoxStream<'static, Result<Answer, Status>>;

    async fn stream_articles(
        &self,
        request: Request<v1::StreamArticlesRequest>,
    ) -> Result<Response<Self::StreamArticlesStream>, Status> {
        let asked = request.into_inner();
        let selection =
            request::selection(asked.view, asked.body_format, &asked.includes, ArticleView::Basic)?;
        let query = filter::parse(&asked.filter.unwrap_or_default(), asked.order)?;
        let most = match u64::try_from(asked.max_articles) {
            Ok(most) => Some(most).filter(|most| *most > 0),
            Err(_) => return Err(Refusal::field("max_articles", "it must not be negative").into()),
        };
        let start = self.at(asked.freshness).await?;
        let stream = self.content.clone().stream(query, selection, most, start);
        Ok(Response::new(stream.map_err(Status::from).boxed()))
    }

    async fn resolve_path(&self, request: Request<v1::ResolvePathRequest>) -> Answered {
        let asked = request.into_inner();
        check_path(&asked.path, "path")?;
        let selection =
            request::selection(asked.view, asked.body_format, &asked.includes, ArticleView::Full)?;
        let served = self.at(asked.freshness).await?;
        Ok(Response::new(self.content.resolve(asked.path, selection, served, &asked.if_none_match).await?))
    }

    async fn get_author(&self, request: Request<v1::GetAuthorRequest>) -> Answered {
        let asked = request.into_inner();
        self.noun(Kind::Author, &asked.name, &asked.if_none_match, asked.freshness).await
    }

    async fn list_authors(&self, request: Request<v1::ListAuthorsRequest>) -> Answered {
        let asked = request.into_inner();
        self.nouns(Kind::Author, asked.page_size, &asked.page_token, asked.freshness).await
    }

    async fn get_section(&self, request: Request<v1::GetSectionRequest>) -> Answered {
        let asked = request.into_inner();
        self.noun(Kind::Section, &asked.name, &asked.if_none_match, asked.freshness).await
    }

    async fn list_sections(&self, request: Request<v1::ListSectionsRequest>) -> Answered {
        let asked = request.into_inner();
        self.nouns(Kind::Section, asked.page_size, &asked.page_token, asked.freshness).await
    }

    async fn get_tag(&self, request: Request<v1::GetTagRequest>) -> Answered {
        let asked = request.into_inner();
        self.noun(Kind::Tag, &asked.name, &asked.if_none_match, asked.freshness).await
    }

    async fn list_tags(&self, request: Request<v1::ListTagsRequest>) -> Answered {
        let asked = request.into_inner();
        self.nouns(Kind::Tag, asked.page_size, &asked.page_token, asked.freshness).await
    }

    async fn get_collection(&self, request: Request<v1::GetCollectionRequest>) -> Answered {
        let asked = request.into_inner();
        let name = check_name(Kind::Collection, &asked.name, "name")?;
        let selection =
            request::selection(asked.view, asked.body_format, &asked.includes, ArticleView::Basic)?;
        let served = self.at(asked.freshness).await?;
        Ok(Response::new(self.content.collection(name, selection, served, &asked.if_none_match).await?))
    }

    async fn list_collections(&self, request: Request<v1::ListCollectionsRequest>) -> Answered {
        let asked = request.into_inner();
        self.nouns(Kind::Collection, asked.page_size, &asked.page_token, asked.freshness).await
    }
}

/// The service, with its bound on requests.
pub(crate) fn server(
    content: Arc<Content>,
) -> service::content_service_server::ContentServiceServer<ContentRpc> {
    let server = service::content_service_server::ContentServiceServer::new(ContentRpc { content });
    server.max_decoding_message_size(limit::READ_REQUEST.maximum as usize)
}
