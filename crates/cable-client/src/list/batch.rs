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
    /// Gets several articles by id or name, any number of them. Each item of the result is an article or an error, also for
    /// an invalid name. The articles are in the view BASIC unless set otherwise. One call contains at most 500 names; the
    /// client makes as many calls as are needed, one after the other. Each invalid name needs one call more.
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
        let mut items: Vec<Option<BatchItem>> = self.names.iter().map(|_| None).collect();
        let mut includes = Includes::default();
        let mut remaining: VecDeque<usize> = (0..self.names.len()).collect();
        while !remaining.is_empty() {
            let indices: Vec<usize> = remaining.drain(..remaining.len().min(MAX_BATCH_NAMES)).collect();
            let names = indices.iter().map(|index| self.names[*index].clone()).collect();
            let rest = match self.cable.call(batch_request(names, &self.shape), self.timeout).await {
                Ok(response) => {
                    merge_includes(&mut includes, response.includes.unwrap_or_default());
                    fill(&mut items, indices, response.items)?
                }
                Err(error) => {
                    let (index, item) = self.refused_item(&indices, error)?;
                    items[index] = Some(item);
                    indices.into_iter().filter(|other| *other != index).collect()
                }
            };
            rest.into_iter().rev().for_each(|index| remaining.push_front(index));
        }
        Ok(BatchArticles { items: items.into_iter().flatten().collect(), includes })
    }

    /// Returns the item of the name because of which the server has refused a call, and its index. The field of its error
    /// has that index too. Any other error is returned.
    fn refused_item(&self, indices: &[usize], error: Error) -> Result<(usize, BatchItem)> {
        let Some(index) = invalid_name(&error).and_then(|position| indices.get(position).copied()) else {
            return Err(error);
        };
        let article = Err(error.with_field(&format!("names[{index}]")));
        Ok((index, BatchItem { name: self.names[index].clone(), article }))
    }
}

/// Returns the position of the name because of which a call was refused.
fn invalid_name(error: &Error) -> Option<usize> {
    let [violation] = error.violations() else { return None };
    violation.field.strip_prefix("names[")?.strip_suffix(']')?.parse().ok()
}

/// Fills the items at these indices. Returns the indices of the names that the server has deferred, which are the last.
fn fill(
    items: &mut [Option<BatchItem>],
    mut indices: Vec<usize>,
    received: Vec<v1::BatchItem>,
) -> Result<Vec<usize>> {
    if received.is_empty() || received.len() > indices.len() {
        return Err(malformed_response("items do not match the names"));
    }
    let deferred = indices.split_off(received.len());
    for (index, item) in indices.into_iter().zip(received) {
        items[index] = Some(parse_item(item)?);
    }
    Ok(deferred)
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
