//! Streams of all articles that match a filter.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};

use super::{Exclusive, ResultStream, messages};
use crate::{
    Cable, Error, Filter, Order, Result,
    shape::{Shape, shape_setters},
    v1::{self, Includes, StreamArticlesEnd},
};

impl Cable {
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
        StreamArticles {
            cable: self.clone(),
            request,
            shape: Shape::default(),
            timeout: None,
            is_empty: false,
        }
    }
}

/// A call that streams all articles that match a filter; [`articles`](StreamArticles::articles) returns the stream. See
/// [`Cable::stream`].
///
/// An article that matches throughout is sent exactly once. Only one whose place in the order changes meanwhile may be
/// sent twice or not at all.
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// use cable_client::{Filter, Order};
/// use futures_util::TryStreamExt as _;
///
/// // The hundred articles that changed last.
/// let newest = cable.stream(Filter::default()).order(Order::RevisionDesc).max_articles(100).articles();
/// let names: Vec<String> = newest.map_ok(|article| article.name).try_collect().await?;
/// println!("{names:?}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "calls do nothing unless their stream is polled"]
pub struct StreamArticles {
    cable: Cable,
    request: v1::StreamArticlesRequest,
    shape: Shape,
    timeout: Option<Duration>,
    /// Whether the largest number of articles is 0, which the server takes for no limit.
    is_empty: bool,
}

impl StreamArticles {
    shape_setters!();

    /// Sets the order. If unset, the newest publication is first.
    pub fn order(mut self, order: Order) -> Self {
        self.request.order = order.into();
        self
    }

    /// Sets the largest number of articles; the stream ends after it. With 0, the stream is empty, and no call is made. If
    /// unset, there is no limit.
    pub fn max_articles(mut self, articles: u64) -> Self {
        self.request.max_articles = articles.try_into().unwrap_or(i64::MAX);
        self.is_empty = articles == 0;
        self
    }

    /// Returns the stream of articles. The call is made when the stream is first polled.
    ///
    /// A call that cannot be opened is retried like any other; a stream that breaks later is not, and ends with an
    /// error.
    pub fn articles(self) -> ArticleStream {
        let StreamArticles { cable, mut request, shape, timeout, is_empty } = self;
        request.view = shape.view.into();
        request.body_format = shape.body_format.into();
        request.includes = shape.includes;
        request.freshness = shape.freshness;
        let opened =
            async move { cable.open(|| request.clone(), timeout, &cable.shared.retry).await.map(messages) };
        let messages = stream::once(opened).try_flatten();
        ArticleStream {
            messages: Exclusive::new(messages.boxed()),
            articles: VecDeque::new(),
            includes: Includes::default(),
            received: 0,
            end: None,
            incomplete: None,
            done: is_empty,
        }
    }
}

/// A stream of articles that ends without an error only if it is complete.
///
/// A connection that breaks is an error, and so is a stream without the server's closing message
/// ([`ErrorKind::Truncated`](crate::ErrorKind::Truncated)). If the server cannot read some articles, the last item is
/// an error ([`ErrorKind::DataLoss`](crate::ErrorKind::DataLoss)).
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// use cable_client::{Filter, View};
/// use futures_util::TryStreamExt as _;
///
/// let mut articles = cable.stream(Filter::default()).view(View::Full).articles();
/// while let Some(article) = articles.try_next().await? {
///     println!("{}", article.name);
/// }
/// // The stream is complete. A feed after this revision delivers everything that changed since the stream began.
/// println!("{:?}", articles.end().map(|end| end.revision));
/// # Ok(())
/// # }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct ArticleStream {
    messages: Exclusive<ResultStream<v1::StreamArticlesResponse>>,
    articles: VecDeque<v1::Article>,
    includes: Includes,
    received: i64,
    end: Option<StreamArticlesEnd>,
    /// The error if the server cannot read some of the articles.
    incomplete: Option<Error>,
    done: bool,
}

impl fmt::Debug for ArticleStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArticleStream").field("received", &self.received).field("end", &self.end).finish()
    }
}

impl ArticleStream {
    /// Returns the server's closing message: the number of articles, and the head before the first one was read. `None`
    /// before the end, and with [`max_articles(0)`](StreamArticles::max_articles).
    #[must_use]
    pub fn end(&self) -> Option<&StreamArticlesEnd> {
        self.end.as_ref()
    }

    /// Returns the included entities of the last article, and of the other articles in its message.
    #[must_use]
    pub fn includes(&self) -> &Includes {
        &self.includes
    }

    /// Adds the articles of a message, and checks the count in the closing message.
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

impl Stream for ArticleStream {
    type Item = Result<v1::Article>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(article) = self.articles.pop_front() {
                return Poll::Ready(Some(Ok(article)));
            }
            if self.done {
                return Poll::Ready(self.incomplete.take().map(Err));
            }
            let accepted = match ready!(self.messages.get_mut().poll_next_unpin(cx)) {
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
            messages: Exclusive::new(stream::iter(messages).boxed()),
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
}
