//! Reads of one resource: an article, a path, an author, a section, a tag, or a collection with its articles.

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

/// A response with its included entities and metadata. It dereferences to the value.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Fetched<T> {
    /// The requested value.
    pub value: T,
    /// The included authors, sections and tags. Empty unless the request includes any.
    pub includes: Includes,
    /// The log and revision at which the response was served, and its etag for
    /// [`if_none_match`](GetArticle::if_none_match).
    pub meta: ResponseMeta,
}

impl<T> Fetched<T> {
    /// Returns the value alone.
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

    /// A read that can be conditional on an etag.
    pub trait Read: Sized {
        type Value: Send + 'static;

        /// Makes the call. Returns `None` if the response with this etag is still current.
        fn fetch(self, etag: String) -> BoxFuture<Result<Option<Fetched<Self::Value>>>>;
    }
}

use sealed::Read;

/// A read that returns `None` if the response with the given etag is still current. Await it.
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// let article = cable.article("storm").await?;
/// // None: the article has not changed.
/// let newer = cable.article("storm").if_none_match(&article.meta.etag).await?;
/// println!("{}", newer.unwrap_or(article).headline);
/// # Ok(())
/// # }
/// ```
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

/// A call that returns `None` instead of an error if the name does not exist, or no longer exists. Await it.
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// match cable.article("storm").optional().await? {
///     Some(article) => println!("{}", article.headline),
///     None => println!("not found"),
/// }
/// # Ok(())
/// # }
/// ```
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

/// Makes a read without an etag.
pub(crate) fn unconditional<R: Read>(read: R) -> BoxFuture<Result<Fetched<R::Value>>> {
    let fetched = read.fetch(String::new());
    Box::pin(async move { fetched.await?.ok_or_else(|| incomplete("an answer without content")) })
}

pub(crate) fn incomplete(what: &str) -> Error {
    Error::new(Kind::Malformed, format!("the server sent {what}"))
}

/// The `IntoFuture` implementation and the conditional methods of each builder that is a [`Read`].
macro_rules! reads {
    ($($read:ident $(<$of:ident: $bound:path>)?),*) => {$(
        impl$(<$of: $bound>)? $read$(<$of>)? {
            /// Returns `None` if the response with this [`meta.etag`](v1::ResponseMeta::etag) is still current. The
            /// etag covers the whole response: the request must have the same view, format and includes.
            pub fn if_none_match(self, etag: impl Into<String>) -> Conditional<Self> {
                Conditional { read: self, etag: etag.into() }
            }

            /// Returns `None` instead of an error if the name does not exist.
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
    /// Returns `None` instead of an error if the name does not exist. This is the outer `Option`; the inner one is
    /// `None` if the response is still current.
    pub fn optional(self) -> Optional<Self> {
        Optional(self)
    }
}

impl Cable {
    /// Gets an article by id or name, in the view FULL unless set otherwise.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// use cable_client::{BodyFormat, Include};
    ///
    /// let article = cable.article("storm").format(BodyFormat::Html).include([Include::Authors]).await?;
    /// println!("{} by {} authors", article.headline, article.includes.authors.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// NOT_FOUND with the reason `ArticleNotFound`, `ArticleGone` or `ArticleMoved`.
    pub fn article(&self, article: impl Into<String>) -> GetArticle {
        let name = name("articles", article);
        GetArticle { cable: self.clone(), name, shape: Shape::default(), timeout: None }
    }

    /// Gets the article that a path of the site leads to, in the view FULL unless set otherwise. The path can also be a
    /// former path or an alias path.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// let page = cable.resolve("/world/storm").await?;
    /// match &page.redirect_path {
    ///     Some(path) => println!("redirect to {path}"),
    ///     None => println!("{}", page.article.headline),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// NOT_FOUND with the reason `ArticleNotFound`, `ArticleGone` or `ArticleMoved`.
    pub fn resolve(&self, path: impl Into<String>) -> Resolve {
        Resolve { cable: self.clone(), path: path.into(), shape: Shape::default(), timeout: None }
    }

    /// Gets an author by id or name.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// let author = cable.author("jane-doe").await?;
    /// println!("{}", author.display_name);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// NOT_FOUND with the reason `NameNotFound` or `NameGone`.
    pub fn author(&self, author: impl Into<String>) -> Get<v1::Author> {
        Get::new(self, author)
    }

    /// Gets a section by id or name.
    ///
    /// # Errors
    /// As [`author`](Cable::author).
    pub fn section(&self, section: impl Into<String>) -> Get<v1::Section> {
        Get::new(self, section)
    }

    /// Gets a tag by id or name.
    ///
    /// # Errors
    /// As [`author`](Cable::author).
    pub fn tag(&self, tag: impl Into<String>) -> Get<v1::Tag> {
        Get::new(self, tag)
    }

    /// Gets a collection by id or name, with its articles in its order. The articles are in the view BASIC unless set
    /// otherwise.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// let front = cable.collection("front").await?;
    /// for article in &front.articles {
    ///     println!("{}", article.headline);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// NOT_FOUND with the reason `NameNotFound` or `NameGone`.
    pub fn collection(&self, collection: impl Into<String>) -> GetFront {
        let name = name("collections", collection);
        GetFront { cable: self.clone(), name, shape: Shape::default(), timeout: None }
    }
}

/// A call that gets one article. Await it. See [`Cable::article`].
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

/// The article that a path leads to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Resolved {
    /// The article.
    pub article: v1::Article,
    /// The article's own path, to redirect the visitor to. `None` if the article has the requested path, or no path.
    pub redirect_path: Option<String>,
}

/// A call that gets the article at a path. Await it. See [`Cable::resolve`].
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

/// An author, section or tag: a kind of entity that is read by its name alone.
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

/// A call that gets one author, section or tag. Await it. See [`Cable::author`].
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
    /// The articles of the collection, in its order. `includes.missing` contains the names of those that do not exist.
    pub articles: Vec<v1::Article>,
}

/// A call that gets a collection with its articles. Await it. See [`Cable::collection`].
///
/// If the articles are too large for one response, the client fetches the rest with further calls. The result then has
/// no etag, because no etag covers all of it.
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
