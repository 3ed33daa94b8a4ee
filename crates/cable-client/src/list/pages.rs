//! Listings of articles in pages.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{ResultStream, items, non_empty};
use crate::{
    BoxFuture, Cable, Conditional, Filter, Optional, Order, ReadResponse, Result,
    read::{fetch_unconditionally, reads, sealed::Read},
    shape::{Shape, shape_setters},
    v1::{self, Damage},
};

impl Cable {
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
}

/// One page of a listing.
///
/// A page lists live versions only. Its token is bound to the filter, the order and the log of the request, not to its
/// page size.
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
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// use cable_client::{Filter, Order};
///
/// // One page for a web page, and the token for its link to the next one.
/// let page = cable.list(Filter::default().section("world")).order(Order::RevisionDesc).page_size(20).await?;
/// for article in &page.articles {
///     println!("{}", article.headline);
/// }
/// if let Some(token) = &page.next_page_token {
///     let next = cable.list(Filter::default().section("world")).order(Order::RevisionDesc).page_token(token);
///     println!("{} more", next.page_size(20).await?.articles.len());
/// }
/// # Ok(())
/// # }
/// ```
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

    /// Sets the largest number of articles on a page, at most 1,000. If unset or 0, 50.
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
