//! Reads that answer one thing: an article, a path, an author, section or tag, a collection with its articles.

use std::{
    future::{Future, IntoFuture},
    ops::Deref,
    time::Duration,
};

use crate::{
    BoxFuture, Cable, Error, Kind, Result,
    list::{GetArticles, merge},
    shape::{Shape, freshness_setters, name, shape_setters},
    v1::{self, Includes, ResponseMeta},
};

/// An answer, with what came along. It derefs to the answer itself.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Fetched<T> {
    /// What was asked for.
    pub value: T,
    /// What it names, as far as that was asked for.
    pub includes: Includes,
    /// When the answer was given, and the etag for
    /// [`if_none_match`](GetArticle::if_none_match).
    pub meta: ResponseMeta,
}

impl<T> Fetched<T> {
    /// The answer alone.
    pub fn into_inner(self) -> T {
        self.value
    }

    pub(crate) fn new(value: T, includes: Option<Includes>, meta: Option<ResponseMeta>) -> Self {
        Fetched { value, includes: includes.unwrap_or_default(), meta: meta.unwrap_or_default() }
    }
}

impl<T> Deref for Fetched<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

pub(crate) mod sealed {
    use super::{BoxFuture, Fetched, Result};

    /// A read that may be told what the caller holds.
    pub trait Read: Sized {
        type Value: Send + 'static;

        /// None: what the etag names is still right.
        fn fetch(self, etag: String) -> BoxFuture<Result<Option<Fetched<Self::Value>>>>;
    }
}

use sealed::Read;

/// A read whose answer is `None` if nothing has changed since the answer that the etag names.
#[derive(Debug, Clone)]
#[must_use = "a call is made when it is awaited"]
pub struct Conditional<R> {
    pub(crate) read: R,
    pub(crate) etag: String,
}

impl<R: Read> IntoFuture for Conditional<R> {
    type Output = Result<Option<Fetched<R::Value>>>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.read.fetch(self.etag)
    }
}

/// A call whose answer is `None` if there is nothing under the name, or no longer.
#[derive(Debug, Clone)]
#[must_use = "a call is made when it is awaited"]
pub struct Optional<C>(pub(crate) C);

impl<T, C> IntoFuture for Optional<C>
where
    C: IntoFuture<Output = Result<T>>,
    C::IntoFuture: Send + 'static,
{
    type Output = Result<Option<T>>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let call = self.0.into_future();
        Box::pin(async move {
            match call.await {
                Ok(found) => Ok(Some(found)),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error),
            }
        })
    }
}

/// Awaits a read that was given no etag.
pub(crate) fn unconditional<R: Read>(read: R) -> BoxFuture<Result<Fetched<R::Value>>> {
    let fetched = read.fetch(String::new());
    Box::pin(async move { fetched.await?.ok_or_else(|| incomplete("an answer without content")) })
}

pub(crate) fn incomplete(what: &str) -> Error {
    Error::new(Kind::Malformed, format!("the server sent {what}"))
}

/// Awaiting, conditions and options, for each builder that is a [`Read`].
macro_rules! reads {
    ($($read:ident $(<$of:ident: $bound:path>)?),*) => {$(
        impl$(<$of: $bound>)? $read$(<$of>)? {
            /// Only if something changed since the answer that has this [`meta.etag`](v1::ResponseMeta::etag).
            pub fn if_none_match(self, etag: impl Into<String>) -> Conditional<Self> {
                Conditional { read: self, etag: etag.into() }
            }

            /// `None` instead of an error if there is nothing under the name.
            pub fn optional(self) -> Optional<Self> {
                Optional(self)
            }
        }

        impl$(<$of: $bound>)? IntoFuture for $read$(<$of>)? {
            type Output = Result<Fetched<<Self as Read>::Value>>;
            type IntoFuture = BoxFuture<Self::Output>;

            fn into_future(self) -> Self::IntoFuture {
                unconditional(self)
            }
        }
    )*};
}

pub(crate) use reads;

reads!(GetArticle, Resolve, Get<E: Named>, GetFront);

impl<R: Read> Conditional<R> {
    /// `None` also if there is nothing under the name: the outer one.
    pub fn optional(self) -> Optional<Self> {
        Optional(self)
    }
}

impl Cable {
    /// One article, by id or name. Unless told otherwise it comes whole.
    ///
    /// # Errors
    /// NOT_FOUND with the reasons `ArticleNotFound`, `ArticleGone` and `ArticleMoved`.
    pub fn article(&self, article: impl Into<String>) -> GetArticle {
        let name = name("articles", article);
        GetArticle { cable: self.clone(), name, shape: Shape::default(), timeout: None }
    }

    /// The article that a path of the site leads to, also a former or an alias path.
    pub fn resolve(&self, path: impl Into<String>) -> Resolve {
        Resolve { cable: self.clone(), path: path.into(), shape: Shape::default(), timeout: None }
    }

    /// One author, by id or name.
    pub fn author(&self, author: impl Into<String>) -> Get<v1::Author> {
        Get::new(self, author)
    }

    /// One section, by id or name.
    pub fn section(&self, section: impl Into<String>) -> Get<v1::Section> {
        Get::new(self, section)
    }

    /// One tag, by id or name.
    pub fn tag(&self, tag: impl Into<String>) -> Get<v1::Tag> {
        Get::new(self, tag)
    }

    /// One collection, by id or name, with its articles in its order.
    pub fn collection(&self, collection: impl Into<String>) -> GetFront {
        let name = name("collections", collection);
        GetFront { cable: self.clone(), name, shape: Shape::default(), timeout: None }
    }
}

/// Gets one article. Await it.
#[derive(Debug, Clone)]
#[must_use = "a call is made when it is awaited"]
pub struct GetArticle {
    cable: Cable,
    name: String,
    shape: Shape,
    timeout: Option<Duration>,
}

impl GetArticle {
    shape_setters!();
}

impl Read for GetArticle {
    type Value = v1::Article;

    fn fetch(self, etag: String) -> BoxFuture<Result<Option<Fetched<v1::Article>>>> {
        let GetArticle { cable, name, shape, timeout } = self;
        let request = v1::GetArticleRequest {
            name,
            view: shape.view.into(),
            body_format: shape.format.into(),
            includes: shape.includes,
            if_none_match: etag,
            freshness: shape.freshness,
        };
        Box::pin(async move {
            let answer = cable.call(request, timeout).await?;
            if answer.not_modified {
                return Ok(None);
            }
            let article = answer.article.ok_or_else(|| incomplete("no article"))?;
            Ok(Some(Fetched::new(article, answer.includes, answer.meta)))
        })
    }
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Resolved {
    /// The article.
    pub article: v1::Article,
    /// The path to send the visitor to, if the one asked for is not the article's own.
    pub redirect_path: Option<String>,
}

/// Gets the article at a path. Await it.
#[derive(Debug, Clone)]
#[must_use = "a call is made when it is awaited"]
pub struct Resolve {
    cable: Cable,
    path: String,
    shape: Shape,
    timeout: Option<Duration>,
}

impl Resolve {
    shape_setters!();
}

impl Read for Resolve {
    type Value = Resolved;

    fn fetch(self, etag: String) -> BoxFuture<Result<Option<Fetched<Resolved>>>> {
        let Resolve { cable, path, shape, timeout } = self;
        let request = v1::ResolvePathRequest {
            path,
            view: shape.view.into(),
            body_format: shape.format.into(),
            includes: shape.includes,
            if_none_match: etag,
            freshness: shape.freshness,
        };
        Box::pin(async move {
            let answer = cable.call(request, timeout).await?;
            if answer.not_modified {
                return Ok(None);
            }
            let article = answer.article.ok_or_else(|| incomplete("no article"))?;
            let redirect_path = Some(answer.redirect_path).filter(|path| !path.is_empty());
            Ok(Some(Fetched::new(Resolved { article, redirect_path }, answer.includes, answer.meta)))
        })
    }
}

/// An author, section or tag: what is got by name alone.
pub trait Named: Sized + Send + 'static {
    #[doc(hidden)]
    const COLLECTION: &'static str;

    #[doc(hidden)]
    fn get(
        cable: &Cable,
        name: String,
        etag: String,
        freshness: Option<v1::Freshness>,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<Option<Fetched<Self>>>> + Send;
}

macro_rules! named {
    ($($entity:ident in $collection:literal: $request:ident, $field:ident;)*) => {$(
        impl Named for v1::$entity {
            const COLLECTION: &'static str = $collection;

            async fn get(
                cable: &Cable,
                name: String,
                etag: String,
                freshness: Option<v1::Freshness>,
                timeout: Option<Duration>,
            ) -> Result<Option<Fetched<Self>>> {
                let request = v1::$request { name, if_none_match: etag, freshness };
                let answer = cable.call(request, timeout).await?;
                if answer.not_modified {
                    return Ok(None);
                }
                let value = answer.$field.ok_or_else(|| incomplete("an answer without content"))?;
                Ok(Some(Fetched::new(value, None, answer.meta)))
            }
        }
    )*};
}

named! {
    Author in "authors": GetAuthorRequest, author;
    Section in "sections": GetSectionRequest, section;
    Tag in "tags": GetTagRequest, tag;
}

/// Gets one author, section or tag. Await it.
#[derive(Debug, Clone)]
#[must_use = "a call is made when it is awaited"]
pub struct Get<E> {
    cable: Cable,
    name: String,
    shape: Shape,
    timeout: Option<Duration>,
    of: std::marker::PhantomData<fn() -> E>,
}

impl<E: Named> Get<E> {
    fn new(cable: &Cable, given: impl Into<String>) -> Self {
        let (cable, name) = (cable.clone(), name(E::COLLECTION, given));
        Get { cable, name, shape: Shape::default(), timeout: None, of: std::marker::PhantomData }
    }

    freshness_setters!();
}

impl<E: Named> Read for Get<E> {
    type Value = E;

    fn fetch(self, etag: String) -> BoxFuture<Result<Option<Fetched<E>>>> {
        let Get { cable, name, shape, timeout, .. } = self;
        Box::pin(async move { E::get(&cable, name, etag, shape.freshness, timeout).await })
    }
}

/// A collection with its articles.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Front {
    /// The collection.
    pub collection: v1::Collection,
    /// Its articles, in its order. Those that are not there are named in `includes.missing`.
    pub articles: Vec<v1::Article>,
}

/// Gets a collection with its articles, in the view BASIC unless told otherwise. Await it.
///
/// Where the articles are too many for one answer the rest is fetched too; the answer then has no etag, since no etag
/// covers all of it.
#[derive(Debug, Clone)]
#[must_use = "a call is made when it is awaited"]
pub struct GetFront {
    cable: Cable,
    name: String,
    shape: Shape,
    timeout: Option<Duration>,
}

impl GetFront {
    shape_setters!();

    async fn complete(self, mut fetched: Fetched<Front>, deferred: Vec<String>) -> Result<Fetched<Front>> {
        if deferred.is_empty() {
            return Ok(fetched);
        }
        fetched.meta.etag.clear();
        let rest = GetArticles::new(&self.cable, deferred, self.shape, self.timeout).await?;
        merge(&mut fetched.includes, rest.includes);
        for item in rest.items {
            match item.article {
                Ok(article) => fetched.value.articles.push(article),
                Err(error) if error.is_not_found() => fetched.includes.missing.push(item.name),
                Err(error) => return Err(error),
            }
        }
        Ok(fetched)
    }
}

impl Read for GetFront {
    type Value = Front;

    fn fetch(self, etag: String) -> BoxFuture<Result<Option<Fetched<Front>>>> {
        let request = v1::GetCollectionRequest {
            name: self.name.clone(),
            view: self.shape.view.into(),
            body_format: self.shape.format.into(),
            includes: self.shape.includes.clone(),
            if_none_match: etag,
            freshness: self.shape.freshness.clone(),
        };
        Box::pin(async move {
            let answer = self.cable.call(request, self.timeout).await?;
            if answer.not_modified {
                return Ok(None);
            }
            let collection = answer.collection.ok_or_else(|| incomplete("no collection"))?;
            let front = Front { collection, articles: answer.articles };
            let fetched = Fetched::new(front, answer.includes, answer.meta);
            self.complete(fetched, answer.deferred).await.map(Some)
        })
    }
}
