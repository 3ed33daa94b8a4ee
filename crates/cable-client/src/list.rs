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
    BoxFuture, Cable, Conditional, Error, Fetched, Filter, Optional, Order, Result,
    client::note,
    pool::Busy,
    read::{incomplete, reads, sealed::Read, unconditional},
    shape::{Shape, freshness_setters, name, shape_setters},
    v1::{self, Damage, Includes, StreamArticlesEnd, batch_item},
};

/// The largest number of names in one call.
const BATCH: usize = 500;

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
        let names = articles.into_iter().map(|given| name("articles", given)).collect();
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
    pub fn list(&self, filter: Filter) -> List {
        let request = v1::ListArticlesRequest { filter: Some(filter), ..Default::default() };
        List { cable: self.clone(), request, shape: Shape::default(), timeout: None }
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
    pub fn authors(&self) -> ListNames<v1::Author> {
        ListNames::new(self)
    }

    /// Lists all sections, sorted by id.
    pub fn sections(&self) -> ListNames<v1::Section> {
        ListNames::new(self)
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
    pub fn tags(&self) -> ListNames<v1::Tag> {
        ListNames::new(self)
    }

    /// Lists all collections, sorted by id, without the content of their articles.
    pub fn collections(&self) -> ListNames<v1::Collection> {
        ListNames::new(self)
    }
}

/// The result of [`Cable::articles`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Articles {
    /// One item for each requested name, in the order of the request.
    pub items: Vec<Item>,
    /// The included authors, sections and tags of the articles. Empty unless [`include`](GetArticles::include) requests
    /// them.
    pub includes: Includes,
}

impl Articles {
    /// Returns the articles that were found, without the errors.
    pub fn found(self) -> impl Iterator<Item = v1::Article> {
        self.items.into_iter().filter_map(|item| item.article.ok())
    }
}

/// One item of the result of [`Cable::articles`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Item {
    /// The requested name.
    pub name: String,
    /// The article, or the error for this name.
    pub article: Result<v1::Article>,
}

/// A call that gets several articles by name. Await it. See [`Cable::articles`].
#[derive(Debug, Clone)]
#[must_use = "a call is made when it is awaited"]
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

    async fn fetch(self) -> Result<Articles> {
        let mut waiting = VecDeque::from(self.names);
        let mut all = Articles { items: Vec::with_capacity(waiting.len()), includes: Includes::default() };
        while !waiting.is_empty() {
            let names: Vec<String> = waiting.drain(..waiting.len().min(BATCH)).collect();
            let answer = self.cable.call(batch_request(names, &self.shape), self.timeout).await?;
            if answer.items.is_empty() {
                return Err(incomplete("an answer without items"));
            }
            for deferred in answer.deferred.into_iter().rev() {
                waiting.push_front(deferred);
            }
            for item in answer.items {
                all.items.push(item_of(item)?);
            }
            merge(&mut all.includes, answer.includes.unwrap_or_default());
        }
        Ok(all)
    }
}

impl IntoFuture for GetArticles {
    type Output = Result<Articles>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.fetch())
    }
}

fn batch_request(names: Vec<String>, shape: &Shape) -> v1::BatchGetArticlesRequest {
    v1::BatchGetArticlesRequest {
        names,
        view: shape.view.into(),
        body_format: shape.format.into(),
        includes: shape.includes.clone(),
        if_none_match: String::new(),
        freshness: shape.freshness.clone(),
    }
}

fn item_of(item: v1::BatchItem) -> Result<Item> {
    let article = match item.result {
        Some(batch_item::Result::Article(article)) => Ok(article),
        Some(batch_item::Result::Error(error)) => Err(Error::of_item(&error)),
        None => return Err(incomplete("an item without a result")),
    };
    Ok(Item { name: item.name, article })
}

/// Adds the entities that are not included yet.
pub(crate) fn merge(into: &mut Includes, more: Includes) {
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
    /// The token of the next page, for [`List::page_token`]. `None`: this is the last page.
    pub next_page_token: Option<String>,
    /// Articles of the page that the server cannot read. `None`: the page is complete.
    pub damage: Option<Damage>,
}

/// A call that lists articles. Await it for one page, or take the stream of all [`items`](List::items) or
/// [`pages`](List::pages). See [`Cable::list`].
///
/// An article that does not change while the pages are read is returned exactly once.
#[derive(Debug, Clone)]
#[must_use = "a call is made when it is awaited"]
pub struct List {
    cable: Cable,
    request: v1::ListArticlesRequest,
    shape: Shape,
    timeout: Option<Duration>,
}

reads!(List);

impl List {
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
    /// server cannot read some articles, the last item is an error ([`Kind::DataLoss`](crate::Kind::DataLoss)).
    #[must_use]
    pub fn items(self) -> ResultStream<v1::Article> {
        items(self.pages().map_ok(|page| (page.value.articles, page.value.damage)))
    }

    /// Returns all pages from this one on.
    #[must_use]
    pub fn pages(self) -> ResultStream<Fetched<Page>> {
        let step = |list: Option<List>| async move {
            let Some(list) = list else { return Ok(None) };
            let page = list.clone().await?;
            let rest = page.next_page_token.clone().map(|token| list.page_token(token));
            Ok(Some((page, rest)))
        };
        stream::try_unfold(Some(self), step).boxed()
    }
}

impl Read for List {
    type Value = Page;

    fn fetch(self, etag: String) -> BoxFuture<Result<Option<Fetched<Page>>>> {
        let List { cable, mut request, shape, timeout } = self;
        request.view = shape.view.into();
        request.body_format = shape.format.into();
        request.includes = shape.includes;
        request.freshness = shape.freshness;
        request.if_none_match = etag;
        Box::pin(async move {
            let answer = cable.call(request, timeout).await?;
            if answer.not_modified {
                return Ok(None);
            }
            let next_page_token = token(answer.next_page_token);
            let page = Page { articles: answer.articles, next_page_token, damage: answer.damage };
            Ok(Some(Fetched::new(page, answer.includes, answer.meta)))
        })
    }
}

/// The items of a page, and the records that it lacks.
pub(crate) type Part<T> = (Vec<T>, Option<Damage>);

/// Returns the items of all pages, followed by an error if records were missing.
pub(crate) fn items<T: Send + 'static>(
    pages: impl Stream<Item = Result<Part<T>>> + Send + 'static,
) -> ResultStream<T> {
    let lacking = Arc::new(Mutex::new(None::<Damage>));
    let noted = lacking.clone();
    let items = pages.map_ok(move |(items, damage)| {
        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(more) = damage {
            let sum = noted.get_or_insert_default();
            sum.count += more.count;
            sum.names.extend(more.names.into_iter().take(100_usize.saturating_sub(sum.names.len())));
            sum.database |= more.database;
        }
        stream::iter(items.into_iter().map(Ok))
    });
    let end = stream::once(async move {
        let lacking = lacking.lock().unwrap_or_else(PoisonError::into_inner).take();
        lacking.map(|damage| Err(Error::incomplete(&damage)))
    });
    items.try_flatten().chain(end.filter_map(std::future::ready)).boxed()
}

pub(crate) fn token(token: String) -> Option<String> {
    Some(token).filter(|token| !token.is_empty())
}

/// A call that streams all articles that match a filter; [`articles`](StreamArticles::articles) returns the stream. See
/// [`Cable::stream`].
#[derive(Debug, Clone)]
#[must_use = "a call is made when its stream is polled"]
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
        request.body_format = shape.format.into();
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
pub(crate) fn messages<M: Send + 'static>((messages, node): (Streaming<M>, Busy)) -> ResultStream<M> {
    messages
        .map(move |message| {
            let message = message.map_err(Error::from);
            if let Err(error) = &message {
                note(&node, Some(error));
            }
            message
        })
        .boxed()
}

/// A stream of articles that ends without an error only if it is complete.
///
/// A connection that breaks is an error, and so is a stream without the server's closing message
/// ([`Kind::Truncated`](crate::Kind::Truncated)). If the server cannot read some articles, the last item is an error
/// ([`Kind::DataLoss`](crate::Kind::DataLoss)).
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
                return Err(Error::truncated("the server sent another number of articles than it says"));
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
            let taken = match ready!(self.messages.poll_next_unpin(cx)) {
                Some(Ok(message)) => self.accept(message),
                Some(Err(error)) => Err(error),
                None => Err(Error::truncated("the articles ended without the closing message")),
            };
            if let Err(error) = taken {
                self.done = true;
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

/// An author, section, tag or collection: a kind of entity that can be listed by id.
pub trait Listed: Sized + Send + 'static {
    #[doc(hidden)]
    fn page(
        cable: &Cable,
        page_size: i32,
        page_token: String,
        freshness: Option<v1::Freshness>,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<(Part<Self>, Option<String>)>> + Send;
}

macro_rules! listed {
    ($($entity:ident: $request:ident, $field:ident;)*) => {$(
        impl Listed for v1::$entity {
            async fn page(
                cable: &Cable,
                page_size: i32,
                page_token: String,
                freshness: Option<v1::Freshness>,
                timeout: Option<Duration>,
            ) -> Result<(Part<Self>, Option<String>)> {
                let request = v1::$request { page_size, page_token, freshness };
                let answer = cable.call(request, timeout).await?;
                Ok(((answer.$field, answer.damage), token(answer.next_page_token)))
            }
        }
    )*};
}

listed! {
    Author: ListAuthorsRequest, authors;
    Section: ListSectionsRequest, sections;
    Tag: ListTagsRequest, tags;
    Collection: ListCollectionsRequest, collections;
}

/// A call that lists all authors, sections, tags or collections, sorted by id; [`items`](ListNames::items) returns the
/// stream. See [`Cable::tags`].
#[derive(Debug, Clone)]
#[must_use = "a call is made when its stream is polled"]
pub struct ListNames<E> {
    cable: Cable,
    page_size: i32,
    shape: Shape,
    timeout: Option<Duration>,
    of: PhantomData<fn() -> E>,
}

impl<E: Listed> ListNames<E> {
    fn new(cable: &Cable) -> Self {
        ListNames {
            cable: cable.clone(),
            page_size: 0,
            shape: Shape::default(),
            timeout: None,
            of: PhantomData,
        }
    }

    freshness_setters!();

    /// Sets the largest number of entities per call, at most 1,000. If unset, 50.
    pub fn page_size(mut self, entities: u32) -> Self {
        self.page_size = entities.try_into().unwrap_or(i32::MAX);
        self
    }

    /// Returns all entities. If the server cannot read some, the last item is an error
    /// ([`Kind::DataLoss`](crate::Kind::DataLoss)).
    #[must_use]
    pub fn items(self) -> ResultStream<E> {
        let ListNames { cable, page_size, shape, timeout, .. } = self;
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
    use crate::Kind;

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

    async fn run(messages: Vec<Result<v1::StreamArticlesResponse>>) -> (usize, Vec<Kind>, Option<i64>) {
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
    async fn a_stream_is_whole_only_with_its_closing_message() {
        assert_eq!(
            run(vec![message(2, None), message(1, None), message(0, Some(3))]).await,
            (3, vec![], Some(3))
        );
        assert_eq!(run(vec![message(0, Some(0))]).await, (0, vec![], Some(0)));
        assert_eq!(run(vec![message(2, None)]).await, (2, vec![Kind::Truncated], None));
        assert_eq!(run(vec![]).await, (0, vec![Kind::Truncated], None));
    }

    #[tokio::test]
    async fn a_stream_that_counts_wrong_is_not_whole() {
        assert_eq!(run(vec![message(2, None), message(0, Some(3))]).await, (2, vec![Kind::Truncated], None));
    }

    #[tokio::test]
    async fn a_stream_is_over_after_an_error() {
        let broken = Err(Error::new(Kind::Unavailable, "lost"));
        assert_eq!(
            run(vec![message(1, None), broken, message(1, Some(2))]).await,
            (1, vec![Kind::Unavailable], None)
        );
    }

    #[test]
    fn what_several_answers_include_comes_once() {
        let tag = |name: &str| v1::Tag { name: name.into(), ..Default::default() };
        let of = |names: &[&str]| Includes {
            tags: names.iter().map(|n| tag(n)).collect(),
            missing: names.iter().map(|n| (*n).to_owned()).collect(),
            ..Default::default()
        };
        let mut all = of(&["tags/a", "tags/b"]);
        merge(&mut all, of(&["tags/b", "tags/c"]));
        assert_eq!(all, of(&["tags/a", "tags/b", "tags/c"]));
    }
}
