//! Reads that answer many: batches, pages, streams.

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

/// Names that one call of a batch may hold.
const BATCH: usize = 500;

/// A stream of results. It is done after an error.
pub type ResultStream<T> = BoxStream<'static, Result<T>>;

impl Cable {
    /// Several articles, by ids or names, each there or not; in the view BASIC unless told otherwise. Any number: it
    /// takes as many calls as it needs.
    pub fn articles<N: Into<String>>(&self, articles: impl IntoIterator<Item = N>) -> GetArticles {
        let names = articles.into_iter().map(|given| name("articles", given)).collect();
        GetArticles::new(self, names, Shape::default(), None)
    }

    /// The articles that match a filter, in pages; in the view BASIC unless told otherwise.
    pub fn list(&self, filter: Filter) -> List {
        let request = v1::ListArticlesRequest { filter: Some(filter), ..Default::default() };
        List { cable: self.clone(), request, shape: Shape::default(), timeout: None }
    }

    /// All articles that match a filter, in one stream; in the view BASIC unless told otherwise.
    pub fn stream(&self, filter: Filter) -> StreamArticles {
        let request = v1::StreamArticlesRequest { filter: Some(filter), ..Default::default() };
        StreamArticles { cable: self.clone(), request, shape: Shape::default(), timeout: None }
    }

    /// All authors, by id.
    pub fn authors(&self) -> ListNames<v1::Author> {
        ListNames::new(self)
    }

    /// All sections, by id.
    pub fn sections(&self) -> ListNames<v1::Section> {
        ListNames::new(self)
    }

    /// All tags, by id.
    pub fn tags(&self) -> ListNames<v1::Tag> {
        ListNames::new(self)
    }

    /// All collections, by id, without their articles' content.
    pub fn collections(&self) -> ListNames<v1::Collection> {
        ListNames::new(self)
    }
}

/// Several articles that were asked for by name.
#[derive(Debug)]
#[non_exhaustive]
pub struct Articles {
    /// One for each name, in the order asked for.
    pub items: Vec<Item>,
    /// What the articles name, as far as that was asked for.
    pub includes: Includes,
}

impl Articles {
    /// Those that are there.
    pub fn found(self) -> impl Iterator<Item = v1::Article> {
        self.items.into_iter().filter_map(|item| item.article.ok())
    }
}

/// One of several articles that were asked for by name.
#[derive(Debug)]
#[non_exhaustive]
pub struct Item {
    /// The name asked for.
    pub name: String,
    /// The article, or why there is none.
    pub article: Result<v1::Article>,
}

/// Gets several articles by name. Await it.
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

/// Adds what is not there yet.
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

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Page {
    /// Its articles, in order. It may hold none while more follow.
    pub articles: Vec<v1::Article>,
    /// For [`List::page_token`]. None: this is the last page.
    pub next_page_token: Option<String>,
    /// Articles that belong on the page and cannot be read by the server. None: the page is complete.
    pub damage: Option<Damage>,
}

/// Lists articles. Await it for one page; or take all [`items`](List::items) or [`pages`](List::pages) that follow.
///
/// An article that does not change meanwhile is seen exactly once.
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

    /// The order. Newest publication first unless set.
    pub fn order(mut self, order: Order) -> Self {
        self.request.order = order.into();
        self
    }

    /// At most this many articles on a page, 1,000 at most. 50 unless set.
    pub fn page_size(mut self, articles: u32) -> Self {
        self.request.page_size = articles.try_into().unwrap_or(i32::MAX);
        self
    }

    /// Begins at the page that this token of the same list is for.
    pub fn page_token(mut self, token: impl Into<String>) -> Self {
        self.request.page_token = token.into();
        self
    }

    /// All articles from here on. The next page is asked for when this one has been taken. If the server cannot read
    /// some, the last item is an error ([`Kind::DataLoss`](crate::Kind::DataLoss)).
    #[must_use]
    pub fn items(self) -> ResultStream<v1::Article> {
        items(self.pages().map_ok(|page| (page.value.articles, page.value.damage)))
    }

    /// All pages from here on.
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

/// What a page holds, and what it lacks.
pub(crate) type Part<T> = (Vec<T>, Option<Damage>);

/// The items of all pages, and an error at the end if some were lacking.
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

/// Streams all articles that match a filter: see [`articles`](StreamArticles::articles).
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

    /// The order. Newest publication first unless set.
    pub fn order(mut self, order: Order) -> Self {
        self.request.order = order.into();
        self
    }

    /// Ends after this many articles.
    pub fn max_articles(mut self, articles: u64) -> Self {
        self.request.max_articles = articles.try_into().unwrap_or(i64::MAX);
        self
    }

    /// The articles.
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

/// The messages of a stream, as this crate's results; the node counts as busy meanwhile.
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

/// Articles, one after the other, that end only when the server said that these are all: a connection that breaks is
/// an error, and so is a stream that ends without a word ([`Kind::Truncated`](crate::Kind::Truncated)). If the server
/// cannot read some, the last item is an error ([`Kind::DataLoss`](crate::Kind::DataLoss)).
#[must_use = "streams do nothing unless polled"]
pub struct ArticleStream {
    messages: ResultStream<v1::StreamArticlesResponse>,
    articles: VecDeque<v1::Article>,
    includes: Includes,
    received: i64,
    end: Option<StreamArticlesEnd>,
    /// Why the articles are not all.
    incomplete: Option<Error>,
    done: bool,
}

impl std::fmt::Debug for ArticleStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArticleStream").field("received", &self.received).field("end", &self.end).finish()
    }
}

impl ArticleStream {
    /// What the server said at the end: how many there were, and at which revision it began. None before the end.
    #[must_use]
    pub fn end(&self) -> Option<&StreamArticlesEnd> {
        self.end.as_ref()
    }

    /// What the last article names, and those that came in one message with it.
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

/// A kind of which all can be listed by id.
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

/// Lists authors, sections, tags or collections by id: see [`items`](ListNames::items).
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

    /// At most this many are fetched at once, 1,000 at most. 50 unless set.
    pub fn page_size(mut self, entities: u32) -> Self {
        self.page_size = entities.try_into().unwrap_or(i32::MAX);
        self
    }

    /// All of them. If the server cannot read some, the last item is an error
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
