//! Reads that return many articles or entities: batches, pages and streams.

use std::{
    collections::VecDeque,
    future::{Future, IntoFuture},
    marker::PhantomData,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{
    Stream, StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use tonic::Streaming;

use crate::{
    BoxFuture, Cable, Conditional, Error, Filter, Optional, Order, ReadResponse, Result,
    client::report_outcome,
    pool::NodeGuard,
    read::{fetch_unconditionally, malformed_response, reads, sealed::Read},
    shape::{Shape, freshness_setters, full_name, shape_setters},
    v1::{self, Damage, Includes, StreamArticlesEnd, batch_item},
};

/// The largest number of names in one call.
const MAX_BATCH_NAMES: usize = 500;

/// A stream of results. It ends after an error.
pub type ResultStream<T> = BoxStream<'static, Result<T>>;

impl Cable {
    /// Gets several articles by id or name, any number of them. Each item of the result is an article or an error. The
    /// articles are in the view BASIC unless set otherwise. One call contains at most 500 names; the client makes as
    /// many calls as are needed, one after the other.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// let articles = cable.articles(["storm", "flood"]).await?;
    /// for item in articles.items {
    ///     match item.article {
    ///         Ok(article) => println!("{}: {}", item.name, article.headline),
    ///         Err(error) => println!("{}: {error}", item.name),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn articles<N: Into<String>>(&self, articles: impl IntoIterator<Item = N>) -> GetArticles {
        let names = articles.into_iter().map(|article| full_name("articles", article)).collect();
        GetArticles::new(self, names, Shape::default(), None)
    }

    /// Lists the articles that match a filter, in pages. The articles are in the view BASIC unless set otherwise.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// use cable_client::Filter;
    /// use futures_util::TryStreamExt as _;
    ///
    /// let mut articles = cable.list(Filter::default().tag("storm")).page_size(200).items();
    /// while let Some(article) = articles.try_next().await? {
    ///     println!("{}", article.headline);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn list(&self, filter: Filter) -> ListArticles {
        let request = v1::ListArticlesRequest { filter: Some(filter), ..Default::default() };
        ListArticles { cable: self.clone(), request, shape: Shape::default(), timeout: None }
    }

    /// Streams all articles that match a filter. The articles are in the view BASIC unless set otherwise.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// use cable_client::{Filter, View};
    /// use futures_util::TryStreamExt as _;
    ///
    /// let mut articles = cable.stream(Filter::default().section("world")).view(View::Full).articles();
    /// while let Some(article) = articles.try_next().await? {
    ///     println!("{}", article.name);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn stream(&self, filter: Filter) -> StreamArticles {
        let request = v1::StreamArticlesRequest { filter: Some(filter), ..Default::default() };
        StreamArticles { cable: self.clone(), request, shape: Shape::default(), timeout: None }
    }

    /// Lists all authors, sorted by id.
    pub fn authors(&self) -> ListEntities<v1::Author> {
        ListEntities::new(self)
    }

    /// Lists all sections, sorted by id.
    pub fn sections(&self) -> ListEntities<v1::Section> {
        ListEntities::new(self)
    }

    /// Lists all tags, sorted by id.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// use futures_util::TryStreamExt as _;
    ///
    /// let mut tags = cable.tags().items();
    /// while let Some(tag) = tags.try_next().await? {
    ///     println!("{}", tag.display_name);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn tags(&self) -> ListEntities<v1::Tag> {
        ListEntities::new(self)
    }

    /// Lists all collections, sorted by id, without the content of their articles.
    pub fn collections(&self) -> ListEntities<v1::Collection> {
        ListEntities::new(self)
    }
}

/// The result of [`Cable::articles`].
#[derive(Debug)]
#[non_exhaustive]
pub struct BatchArticles {
    /// One item for each requested name, in the order of the request.
    pub items: Vec<BatchItem>,
    /// The included authors, sections and tags of the articles. Empty unless [`include`](GetArticles::include) requests
    /// them.
    pub includes: Includes,
}

impl BatchArticles {
    /// Returns the articles that were found, without the errors.
    pub fn found(self) -> impl Iterator<Item = v1::Article> {
        self.items.into_iter().filter_map(|item| item.article.ok())
    }
}

/// One item of the result of [`Cable::articles`].
#[derive(Debug)]
#[non_exhaustive]
pub struct BatchItem {
    /// The requested name.
    pub name: String,
    /// The article, or the error for this name.
    pub article: Result<v1::Article>,
}

/// A call that gets several articles by name. Await it. See [`Cable::articles`].
#[derive(Debug, Clone)]
#[must_use = "calls do nothing unless awaited"]
pub struct GetArticles {
    cable: Cable,
    names: Vec<String>,
    shape: Shape,
    timeout: Option<Duration>,
}

impl GetArticles {
    shape_setters!();

    pub(crate) fn new(cable: &Cable, names: Vec<String>, shape: Shape, timeout: Option<Duration>) -> Self {
        GetArticles { cable: cable.clone(), names, shape, timeout }
    }

    async fn fetch(self) -> Result<BatchArticles> {
        let mut remaining = VecDeque::from(self.names);
        let mut all =
            BatchArticles { items: Vec::with_capacity(remaining.len()), includes: Includes::default() };
        while !remaining.is_empty() {
            let names: Vec<String> = remaining.drain(..remaining.len().min(MAX_BATCH_NAMES)).collect();
            let response = self.cable.call(batch_request(names, &self.shape), self.timeout).await?;
            if response.items.is_empty() {
                return Err(malformed_response("no items"));
            }
            for deferred in response.deferred.into_iter().rev() {
                remaining.push_front(deferred);
            }
            for item in response.items {
                all.items.push(parse_item(item)?);
            }
            merge_includes(&mut all.includes, response.includes.unwrap_or_default());
        }
        Ok(all)
    }
}

impl IntoFuture for GetArticles {
    type Output = Result<BatchArticles>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.fetch())
    }
}

fn batch_request(names: Vec<String>, shape: &Shape) -> v1::BatchGetArticlesRequest {
    v1::BatchGetArticlesRequest {
        names,
        view: shape.view.into(),
        body_format: shape.body_format.into(),
        includes: shape.includes.clone(),
        if_none_match: String::new(),
        freshness: shape.freshness.clone(),
    }
}

fn parse_item(item: v1::BatchItem) -> Result<BatchItem> {
    let article = match item.result {
        Some(batch_item::Result::Article(article)) => Ok(article),
        Some(batch_item::Result::Error(error)) => Err(Error::from_item(&error)),
        None => return Err(malformed_response("item without result")),
    };
    Ok(BatchItem { name: item.name, article })
}

/// Adds the entities that are not included yet.
pub(crate) fn merge_includes(into: &mut Includes, more: Includes) {
    fn add<T>(into: &mut Vec<T>, more: Vec<T>, same: impl Fn(&T, &T) -> bool) {
        for one in more {
            if !into.iter().any(|other| same(other, &one)) {
                into.push(one);
            }
        }
    }
    add(&mut into.authors, more.authors, |a, b| a.name == b.name);
    add(&mut into.sections, more.sections, |a, b| a.name == b.name);
    add(&mut into.tags, more.tags, |a, b| a.name == b.name);
    add(&mut into.missing, more.missing, |a, b| a == b);
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Page {
    /// The articles of the page, in order. It may be empty although more articles follow.
    pub articles: Vec<v1::Article>,
    /// The token of the next page, for [`ListArticles::page_token`]. `None`: this is the last page.
    pub next_page_token: Option<String>,
    /// Articles of the page that the server cannot read. `None`: the page is complete.
    pub damage: Option<Damage>,
}

/// A call that lists articles. Await it for one page, or take the stream of all [`items`](ListArticles::items) or
/// [`pages`](ListArticles::pages). See [`Cable::list`].
///
/// An article that does not change while the pages are read is returned exactly once.
#[derive(Debug, Clone)]
#[must_use = "calls do nothing unless awaited"]
pub struct ListArticles {
    cable: Cable,
    request: v1::ListArticlesRequest,
    shape: Shape,
    timeout: Option<Duration>,
}

reads!(ListArticles);

impl ListArticles {
    shape_setters!();

    /// Sets the order. If unset, the newest publication is first.
    pub fn order(mut self, order: Order) -> Self {
        self.request.order = order.into();
        self
    }

    /// Sets the largest number of articles on a page, at most 1,000. If unset, 50.
    pub fn page_size(mut self, articles: u32) -> Self {
        self.request.page_size = articles.try_into().unwrap_or(i32::MAX);
        self
    }

    /// Starts with the page of this token, which must come from a page of the same listing.
    pub fn page_token(mut self, token: impl Into<String>) -> Self {
        self.request.page_token = token.into();
        self
    }

    /// Returns all articles from this page on. The stream requests a page once the previous page is consumed. If the
    /// server cannot read some articles, the last item is an error
    /// ([`ErrorKind::DataLoss`](crate::ErrorKind::DataLoss)).
    #[must_use]
    pub fn items(self) -> ResultStream<v1::Article> {
        items(self.pages().map_ok(|page| (page.value.articles, page.value.damage)))
    }

    /// Returns all pages from this one on.
    #[must_use]
    pub fn pages(self) -> ResultStream<ReadResponse<Page>> {
        let step = |list: Option<ListArticles>| async move {
            let Some(list) = list else { return Ok(None) };
            let page = list.clone().await?;
            let rest = page.next_page_token.clone().map(|token| list.page_token(token));
            Ok(Some((page, rest)))
        };
        stream::try_unfold(Some(self), step).boxed()
    }
}

impl Read for ListArticles {
    type Value = Page;

    fn fetch(self, etag: String) -> BoxFuture<Result<Option<ReadResponse<Page>>>> {
        let ListArticles { cable, mut request, shape, timeout } = self;
        request.view = shape.view.into();
        request.body_format = shape.body_format.into();
        request.includes = shape.includes;
        request.freshness = shape.freshness;
        request.if_none_match = etag;
        Box::pin(async move {
            let response = cable.call(request, timeout).await?;
            if response.not_modified {
                return Ok(None);
            }
            let next_page_token = non_empty(response.next_page_token);
            let page = Page { articles: response.articles, next_page_token, damage: response.damage };
            Ok(Some(ReadResponse::new(page, response.includes, response.meta)))
        })
    }
}

/// The items of a page, and the records that it lacks.
pub(crate) type PageItems<T> = (Vec<T>, Option<Damage>);

/// Returns the items of all pages, followed by an error if records were missing.
pub(crate) fn items<T: Send + 'static>(
    pages: impl Stream<Item = Result<PageItems<T>>> + Send + 'static,
) -> ResultStream<T> {
    let damage_total = Arc::new(Mutex::new(None::<Damage>));
    let shared_total = damage_total.clone();
    let items = pages.map_ok(move |(items, damage)| {
        let mut total = shared_total.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(more) = damage {
            let total = total.get_or_insert_default();
            total.count += more.count;
            total.names.extend(more.names.into_iter().take(100_usize.saturating_sub(total.names.len())));
            total.database |= more.database;
        }
        stream::iter(items.into_iter().map(Ok))
    });
    let end = stream::once(async move {
        let damage = damage_total.lock().unwrap_or_else(PoisonError::into_inner).take();
        damage.map(|damage| Err(Error::incomplete(&damage)))
    });
    items.try_flatten().chain(end.filter_map(std::future::ready)).boxed()
}

pub(crate) fn non_empty(token: String) -> Option<String> {
    Some(token).filter(|token| !token.is_empty())
}

/// A call that streams all articles that match a filter; [`articles`](StreamArticles::articles) returns the stream. See
/// [`Cable::stream`].
#[derive(Debug, Clone)]
#[must_use = "calls do nothing unless their stream is polled"]
pub struct StreamArticles {
    cable: Cable,
    request: v1::StreamArticlesRequest,
    shape: Shape,
    timeout: Option<Duration>,
}

impl StreamArticles {
    shape_setters!();

    /// Sets the order. If unset, the newest publication is first.
    pub fn order(mut self, order: Order) -> Self {
        self.request.order = order.into();
        self
    }

    /// Sets the largest number of articles; the stream ends after it. If unset, there is no limit.
    pub fn max_articles(mut self, articles: u64) -> Self {
        self.request.max_articles = articles.try_into().unwrap_or(i64::MAX);
        self
    }

    /// Returns the stream of articles. The call is made when the stream is first polled.
    pub fn articles(self) -> ArticleStream {
        let StreamArticles { cable, mut request, shape, timeout } = self;
        request.view = shape.view.into();
        request.body_format = shape.body_format.into();
        request.includes = shape.includes;
        request.freshness = shape.freshness;
        let opened =
            async move { cable.open(|| request.clone(), timeout, &cable.shared.retry).await.map(messages) };
        let messages = stream::once(opened).try_flatten();
        ArticleStream {
            messages: messages.boxed(),
            articles: VecDeque::new(),
            includes: Includes::default(),
            received: 0,
            end: None,
            incomplete: None,
            done: false,
        }
    }
}

/// Returns the messages of a stream with the errors of this crate. The node counts as busy until the stream is dropped.
pub(crate) fn messages<M: Send + 'static>((messages, node): (Streaming<M>, NodeGuard)) -> ResultStream<M> {
    messages
        .map(move |message| {
            let message = message.map_err(Error::from);
            if let Err(error) = &message {
                report_outcome(&node, Some(error));
            }
            message
        })
        .boxed()
}

/// A stream of articles that ends without an error only if it is complete.
///
/// A connection that breaks is an error, and so is a stream without the server's closing message
/// ([`ErrorKind::Truncated`](crate::ErrorKind::Truncated)). If the server cannot read some articles, the last item is
/// an error ([`ErrorKind::DataLoss`](crate::ErrorKind::DataLoss)).
#[must_use = "streams do nothing unless polled"]
pub struct ArticleStream {
    messages: ResultStream<v1::StreamArticlesResponse>,
    articles: VecDeque<v1::Article>,
    includes: Includes,
    received: i64,
    end: Option<StreamArticlesEnd>,
    /// The error if the server cannot read some of the articles.
    incomplete: Option<Error>,
    done: bool,
}

impl std::fmt::Debug for ArticleStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArticleStream").field("received", &self.received).field("end", &self.end).finish()
    }
}

impl ArticleStream {
    /// Returns the server's closing message: the number of articles, and the head before the first one was read. `None`
    /// before the end.
    #[must_use]
    pub fn end(&self) -> Option<&StreamArticlesEnd> {
        self.end.as_ref()
    }

    /// Returns the included entities of the last article, and of the other articles in its message.
    #[must_use]
    pub fn includes(&self) -> &Includes {
        &self.includes
    }

    fn accept(&mut self, message: v1::StreamArticlesResponse) -> Result<()> {
        self.received += i64::try_from(message.articles.len()).unwrap_or(i64::MAX);
        if let Some(end) = message.end {
            self.done = true;
            if end.count != self.received {
                let message = format!("{} articles received instead of {}", self.received, end.count);
                return Err(Error::truncated(message));
            }
            self.incomplete = end.damage.as_ref().map(Error::incomplete);
            self.end = Some(end);
        }
        self.includes = message.includes.unwrap_or_default();
        self.articles.extend(message.articles);
        Ok(())
    }
}

impl futures_util::Stream for ArticleStream {
    type Item = Result<v1::Article>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(article) = self.articles.pop_front() {
                return Poll::Ready(Some(Ok(article)));
            }
            if self.done {
                return Poll::Ready(self.incomplete.take().map(Err));
            }
            let accepted = match ready!(self.messages.poll_next_unpin(cx)) {
                Some(Ok(message)) => self.accept(message),
                Some(Err(error)) => Err(error),
                None => Err(Error::truncated("stream ended without its closing message")),
            };
            if let Err(error) = accepted {
                self.done = true;
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

/// An author, section, tag or collection: a kind of entity that can be listed by id.
pub trait Listable: Sized + Send + 'static {
    #[doc(hidden)]
    fn page(
        cable: &Cable,
        page_size: i32,
        page_token: String,
        freshness: Option<v1::Freshness>,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<(PageItems<Self>, Option<String>)>> + Send;
}

macro_rules! listable {
    ($($entity:ident: $request:ident, $field:ident;)*) => {$(
        impl Listable for v1::$entity {
            async fn page(
                cable: &Cable,
                page_size: i32,
                page_token: String,
                freshness: Option<v1::Freshness>,
                timeout: Option<Duration>,
            ) -> Result<(PageItems<Self>, Option<String>)> {
                let request = v1::$request { page_size, page_token, freshness };
                let response = cable.call(request, timeout).await?;
                Ok(((response.$field, response.damage), non_empty(response.next_page_token)))
            }
        }
    )*};
}

listable! {
    Author: ListAuthorsRequest, authors;
    Section: ListSectionsRequest, sections;
    Tag: ListTagsRequest, tags;
    Collection: ListCollectionsRequest, collections;
}

/// A call that lists all authors, sections, tags or collections, sorted by id; [`items`](ListEntities::items) returns
/// the stream. See [`Cable::tags`].
#[derive(Debug, Clone)]
#[must_use = "calls do nothing unless their stream is polled"]
pub struct ListEntities<E> {
    cable: Cable,
    page_size: i32,
    shape: Shape,
    timeout: Option<Duration>,
    entity: PhantomData<fn() -> E>,
}

impl<E: Listable> ListEntities<E> {
    fn new(cable: &Cable) -> Self {
        ListEntities {
            cable: cable.clone(),
            page_size: 0,
            shape: Shape::default(),
            timeout: None,
            entity: PhantomData,
        }
    }

    freshness_setters!();

    /// Sets the largest number of entities per call, at most 1,000. If unset, 50.
    pub fn page_size(mut self, entities: u32) -> Self {
        self.page_size = entities.try_into().unwrap_or(i32::MAX);
        self
    }

    /// Returns all entities. If the server cannot read some, the last item is an error
    /// ([`ErrorKind::DataLoss`](crate::ErrorKind::DataLoss)).
    #[must_use]
    pub fn items(self) -> ResultStream<E> {
        let ListEntities { cable, page_size, shape, timeout, .. } = self;
        let step = move |token: Option<String>| {
            let (cable, shape) = (cable.clone(), shape.clone());
            async move {
                let Some(token) = token else { return Ok::<_, Error>(None) };
                Ok(Some(E::page(&cable, page_size, token, shape.freshness, timeout).await?))
            }
        };
        items(stream::try_unfold(Some(String::new()), step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn message(articles: usize, end: Option<i64>) -> Result<v1::StreamArticlesResponse> {
        let end = end.map(|count| StreamArticlesEnd { count, ..Default::default() });
        Ok(v1::StreamArticlesResponse {
            articles: vec![v1::Article::default(); articles],
            includes: None,
            end,
        })
    }

    fn stream_of(messages: Vec<Result<v1::StreamArticlesResponse>>) -> ArticleStream {
        ArticleStream {
            messages: stream::iter(messages).boxed(),
            articles: VecDeque::new(),
            includes: Includes::default(),
            received: 0,
            end: None,
            incomplete: None,
            done: false,
        }
    }

    async fn run(messages: Vec<Result<v1::StreamArticlesResponse>>) -> (usize, Vec<ErrorKind>, Option<i64>) {
        let mut articles = stream_of(messages);
        let (mut good, mut bad) = (0, Vec::new());
        while let Some(item) = articles.next().await {
            match item {
                Ok(_) => good += 1,
                Err(error) => bad.push(error.kind()),
            }
        }
        (good, bad, articles.end().map(|end| end.count))
    }

    #[tokio::test]
    async fn a_stream_without_closing_message_is_truncated() {
        assert_eq!(
            run(vec![message(2, None), message(1, None), message(0, Some(3))]).await,
            (3, vec![], Some(3))
        );
        assert_eq!(run(vec![message(0, Some(0))]).await, (0, vec![], Some(0)));
        assert_eq!(run(vec![message(2, None)]).await, (2, vec![ErrorKind::Truncated], None));
        assert_eq!(run(vec![]).await, (0, vec![ErrorKind::Truncated], None));
    }

    #[tokio::test]
    async fn a_stream_with_a_wrong_count_is_truncated() {
        assert_eq!(
            run(vec![message(2, None), message(0, Some(3))]).await,
            (2, vec![ErrorKind::Truncated], None)
        );
    }

    #[tokio::test]
    async fn a_stream_ends_after_an_error() {
        let broken = Err(Error::new(ErrorKind::Unavailable, "lost"));
        assert_eq!(
            run(vec![message(1, None), broken, message(1, Some(2))]).await,
            (1, vec![ErrorKind::Unavailable], None)
        );
    }

    #[test]
    fn merged_includes_have_no_duplicates() {
        let tag = |name: &str| v1::Tag { name: name.into(), ..Default::default() };
        let of = |names: &[&str]| Includes {
            tags: names.iter().map(|n| tag(n)).collect(),
            missing: names.iter().map(|n| (*n).to_owned()).collect(),
            ..Default::default()
        };
        let mut all = of(&["tags/a", "tags/b"]);
        merge_includes(&mut all, of(&["tags/b", "tags/c"]));
        assert_eq!(all, of(&["tags/a", "tags/b", "tags/c"]));
    }
}
