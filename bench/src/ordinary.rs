//! An ordinary service, such as one writes in an afternoon: tonic's generated server with its defaults, and decoded
//! messages in moka, cloned and encoded for each call. All content is in memory from the start and never changes, so
//! its task is easier than that of any service with a store.

use std::{
    cmp::Reverse,
    collections::HashMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use cable_client::v1::{self, Article};
use futures_util::{StreamExt as _, stream};
use moka::future::Cache;
use prost::{Message as _, encoding::decode_varint};
use tonic::{Request, Response, Status, codegen::BoxStream, transport::Server};

use crate::{
    Outcome,
    service::content_service_server::{ContentService, ContentServiceServer},
};

const PAGE: usize = 20;
/// A log id of the server's form, so that etags have the same length.
const LOG_ID: &str = "00000000";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Address to listen at.
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// File of records, as `cable import binary` reads them.
    #[arg(long)]
    file: PathBuf,
}

/// Serves until the process is killed.
///
/// # Errors
/// Fails if the file cannot be read, or if the service cannot listen.
pub(crate) fn run(options: Options) -> Outcome<()> {
    let articles = read(&options.file)?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let service = ContentServiceServer::from_arc(Arc::new(Articles::new(articles).await));
        Ok(Server::builder().tcp_nodelay(true).add_service(service).serve(options.listen).await?)
    })
}

/// Returns the articles of a file for `cable import binary`, as a server returns them.
fn read(path: &Path) -> Outcome<Vec<Article>> {
    let file = fs::read(path)?;
    let mut rest = file.strip_prefix(b"CABLEREC\x01").ok_or("not a file of records")?;
    let mut articles = Vec::new();
    while !rest.is_empty() {
        let length = decode_varint(&mut rest)?;
        let (record, after) = rest.split_at_checked(length as usize).ok_or("truncated record")?;
        if let Some(v1::record::Record::Article(article)) = v1::Record::decode(record)?.record {
            articles.push(with_server_fields(article, articles.len() as i64 + 1));
        }
        rest = after;
    }
    Ok(articles)
}

/// Adds the fields that a server sets, so that responses are as large as Cable's.
fn with_server_fields(mut article: Article, revision: i64) -> Article {
    article.etag = format!("{LOG_ID}-{revision}-{revision:08x}");
    article.revision = revision;
    article.create_time = article.publish_time;
    article.update_time = article.publish_time;
    article.first_publish_time = article.publish_time;
    article.state = v1::ArticleState::Live.into();
    article.word_count = 1_000;
    article
}

/// The served articles.
struct Articles {
    by_name: Cache<String, Arc<Article>>,
    /// Names by tag, the newest first.
    by_tag: HashMap<String, Arc<[String]>>,
    head: u64,
}

impl Articles {
    async fn new(mut articles: Vec<Article>) -> Articles {
        articles.sort_by_key(|article| Reverse(article.publish_time.map(|time| (time.seconds, time.nanos))));
        // The capacity is twice the number of articles, so none is ever evicted.
        let by_name = Cache::new(2 * articles.len() as u64);
        let head = articles.len() as u64;
        let mut by_tag: HashMap<String, Vec<String>> = HashMap::new();
        for article in articles {
            for tag in &article.tags {
                by_tag.entry(tag.clone()).or_default().push(article.name.clone());
            }
            by_name.insert(article.name.clone(), Arc::new(article)).await;
        }
        let by_tag = by_tag.into_iter().map(|(tag, names)| (tag, names.into())).collect();
        Articles { by_name, by_tag, head }
    }

    async fn article(&self, name: &str) -> Result<Article, Status> {
        let found = self.by_name.get(name).await;
        found.map(|article| (*article).clone()).ok_or_else(|| Status::not_found(format!("{name}: not found")))
    }

    async fn basic(&self, name: &str) -> Result<Article, Status> {
        let mut article = self.article(name).await?;
        article.body = None;
        Ok(article)
    }

    /// Returns the names of the filter's first tag.
    fn tagged(&self, filter: Option<v1::ArticleFilter>) -> Result<Arc<[String]>, Status> {
        let tag = filter.and_then(|filter| filter.all_tags.into_iter().next());
        let tag = tag.ok_or_else(|| Status::invalid_argument("filter.all_tags: required"))?;
        Ok(self.by_tag.get(&tag).cloned().unwrap_or_default())
    }

    fn meta(&self) -> Option<v1::ResponseMeta> {
        let mut meta = v1::ResponseMeta::default();
        meta.log_id = LOG_ID.into();
        meta.etag = format!("{LOG_ID}-{}", self.head);
        meta.served_revision = self.head;
        Some(meta)
    }
}

type RpcResult<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl ContentService for Articles {
    async fn get_article(
        self: Arc<Self>,
        request: Request<v1::GetArticleRequest>,
    ) -> RpcResult<v1::GetArticleResponse> {
        let mut response = v1::GetArticleResponse::default();
        response.article = Some(self.article(&request.into_inner().name).await?);
        response.meta = self.meta();
        Ok(Response::new(response))
    }

    async fn batch_get_articles(
        self: Arc<Self>,
        request: Request<v1::BatchGetArticlesRequest>,
    ) -> RpcResult<v1::BatchGetArticlesResponse> {
        let request = request.into_inner();
        let full = request.view() == v1::ArticleView::Full;
        let mut response = v1::BatchGetArticlesResponse::default();
        for name in request.names {
            let article = if full { self.article(&name).await? } else { self.basic(&name).await? };
            let mut item = v1::BatchItem::default();
            item.name = name;
            item.result = Some(v1::batch_item::Result::Article(article));
            response.items.push(item);
        }
        response.meta = self.meta();
        Ok(Response::new(response))
    }

    /// Returns the first page.
    async fn list_articles(
        self: Arc<Self>,
        request: Request<v1::ListArticlesRequest>,
    ) -> RpcResult<v1::ListArticlesResponse> {
        let mut response = v1::ListArticlesResponse::default();
        for name in self.tagged(request.into_inner().filter)?.iter().take(PAGE) {
            response.articles.push(self.basic(name).await?);
        }
        response.meta = self.meta();
        Ok(Response::new(response))
    }

    /// Streams all articles of a tag, one per message.
    async fn stream_articles(
        self: Arc<Self>,
        request: Request<v1::StreamArticlesRequest>,
    ) -> RpcResult<BoxStream<v1::StreamArticlesResponse>> {
        let request = request.into_inner();
        let full = request.view() == v1::ArticleView::Full;
        let names = self.tagged(request.filter)?;
        let messages = stream::iter(0..names.len()).then(move |index| {
            let (shared, names) = (self.clone(), names.clone());
            async move {
                let name = &names[index];
                let article = if full { shared.article(name).await? } else { shared.basic(name).await? };
                let mut message = v1::StreamArticlesResponse::default();
                message.articles.push(article);
                Ok(message)
            }
        });
        Ok(Response::new(Box::pin(messages)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn newsroom(count: u64) -> Arc<Articles> {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        crate::generate::write(&path("entities"), &path("articles"), count).unwrap();
        Arc::new(Articles::new(read(&path("articles")).unwrap()).await)
    }

    #[tokio::test]
    async fn every_read_method_returns_the_articles_of_the_file() {
        let newsroom = newsroom(200).await;
        let (tag, names) = newsroom.by_tag.iter().max_by_key(|(_, names)| names.len()).unwrap();
        let filter = Some(v1::ArticleFilter::default().tag(tag));
        let mut get = v1::GetArticleRequest::default();
        get.name = names[0].clone();
        let got = newsroom.clone().get_article(Request::new(get)).await.unwrap().into_inner();
        assert!(got.article.is_some_and(|article| article.name == names[0] && article.body.is_some()));
        let mut list = v1::ListArticlesRequest::default();
        list.filter = filter.clone();
        let page = newsroom.clone().list_articles(Request::new(list)).await.unwrap().into_inner();
        assert_eq!(page.articles.len(), PAGE.min(names.len()));
        assert!(page.articles.is_sorted_by_key(|article| Reverse(article.publish_time.unwrap().seconds)));
        assert!(page.articles.iter().all(|article| article.body.is_none() && article.tags.contains(tag)));
        let mut stream = v1::StreamArticlesRequest::default();
        stream.filter = filter;
        let messages = newsroom.clone().stream_articles(Request::new(stream)).await.unwrap().into_inner();
        assert_eq!(messages.count().await, names.len());
    }
}
