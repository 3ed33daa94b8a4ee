//! Batches: several articles by name.

use std::{collections::VecDeque, future::IntoFuture, time::Duration};

use crate::{
    BoxFuture, Cable, Error, Result,
    read::malformed_response,
    shape::{Shape, full_name, shape_setters},
    v1::{self, Includes, batch_item},
};

/// The largest number of names in one call.
const MAX_BATCH_NAMES: usize = 500;

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
    /// Names that do not exist are dropped, and so are articles that the server could not read.
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
///
/// The calls are made one after the other, so the articles need not be of the same revision. With
/// [`not_older_than`](GetArticles::not_older_than), all of them are at least as new as a position.
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// use cable_client::{Include, View};
///
/// let names = (1..=2_000).map(|n| format!("match-report-{n}"));
/// let batch = cable.articles(names).view(View::Reference).include([Include::Authors]).await?;
/// println!("{} authors", batch.includes.authors.len());
/// for article in batch.found() {
///     println!("{}", article.name);
/// }
/// # Ok(())
/// # }
/// ```
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

    /// Makes as many calls as are needed. The server defers articles that do not fit into a response; they are
    /// requested again first, so that the order of the items remains that of the names.
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

/// Returns one item of a response: an article, or the error of its name.
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

#[cfg(test)]
mod tests {
    use super::*;

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
