//! Reads of one resource: an article, a path, an author, a section, a tag, or a collection with its articles.
//!
//! A read becomes a [`ReadResponse`] when it is awaited. [`Conditional`] and [`Optional`] wrap it: each adds one
//! `Option` to the result, for a response that is still current and for a name that does not exist.

use std::{
    fmt,
    future::{Future, IntoFuture},
    ops::Deref,
    time::Duration,
};

use crate::{
    BoxFuture, Cable, Error, ErrorKind, Result,
    list::{GetArticles, merge_includes},
    shape::{Shape, freshness_setters, full_name, shape_setters},
    v1::{self, Includes, ResponseMeta},
};

/// A response with its included entities and metadata. It dereferences to the value.
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// use cable_client::Include;
///
/// let article = cable.article("storm").include([Include::Tags]).await?;
/// println!("{} has {} tags", article.headline, article.includes.tags.len()); // a field of the article
/// println!("as of revision {}", article.meta.served_revision);
/// let article = article.into_inner(); // the article alone
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ReadResponse<T> {
    /// The requested value.
    pub value: T,
    /// The included authors, sections and tags. Empty unless the request includes any.
    pub includes: Includes,
    /// The log and revision at which the response was served, and its etag for
    /// [`if_none_match`](GetArticle::if_none_match).
    pub meta: ResponseMeta,
}

impl<T> ReadResponse<T> {
    /// Returns the value alone.
    /// The includes and the metadata are dropped.
    pub fn into_inner(self) -> T {
        self.value
    }

    pub(crate) fn new(value: T, includes: Option<Includes>, meta: Option<ResponseMeta>) -> Self {
        ReadResponse { value, includes: includes.unwrap_or_default(), meta: meta.unwrap_or_default() }
    }
}

impl<T> Deref for ReadResponse<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

pub(crate) mod sealed {
    use super::{BoxFuture, ReadResponse, Result};

    /// A read that can be conditional on an etag.
    pub trait Read: Sized {
        type Value: Send + 'static;

        /// Makes the call. Returns `None` if the response with this etag is still current.
        fn fetch(self, etag: String) -> BoxFuture<Result<Option<ReadResponse<Self::Value>>>>;
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
#[must_use = "calls do nothing unless awaited"]
pub struct Conditional<R> {
    pub(crate) read: R,
    pub(crate) etag: String,
}

impl<R: Read> IntoFuture for Conditional<R> {
    type Output = Result<Option<ReadResponse<R::Value>>>;
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
#[must_use = "calls do nothing unless awaited"]
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
pub(crate) fn fetch_unconditionally<R: Read>(read: R) -> BoxFuture<Result<ReadResponse<R::Value>>> {
    let fetched = read.fetch(String::new());
    Box::pin(async move { fetched.await?.ok_or_else(|| malformed_response("no content")) })
}

/// Returns the error for a response that no server of this schema sends.
pub(crate) fn malformed_response(problem: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Malformed, format!("malformed response: {problem}"))
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
            type Output = Result<ReadResponse<<Self as Read>::Value>>;
            type IntoFuture = BoxFuture<Self::Output>;

            fn into_future(self) -> Self::IntoFuture {
                fetch_unconditionally(self)
            }
        }
    )*};
}

pub(crate) use reads;

reads!(GetArticle, ResolvePath, GetEntity<E: Gettable>, GetCollection);

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
    /// let article = cable.article("storm").body_format(BodyFormat::Html).include([Include::Authors]).await?;
    /// println!("{} by {} authors", article.headline, article.includes.authors.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// NOT_FOUND with the reason `ArticleNotFound`, `ArticleGone` or `ArticleMoved`.
    pub fn article(&self, article: impl Into<String>) -> GetArticle {
        let name = full_name("articles", article);
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
    pub fn resolve(&self, path: impl Into<String>) -> ResolvePath {
        ResolvePath { cable: self.clone(), path: path.into(), shape: Shape::default(), timeout: None }
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
    pub fn author(&self, author: impl Into<String>) -> GetEntity<v1::Author> {
        GetEntity::new(self, author)
    }

    /// Gets a section by id or name.
    ///
    /// # Errors
    /// As [`author`](Cable::author).
    pub fn section(&self, section: impl Into<String>) -> GetEntity<v1::Section> {
        GetEntity::new(self, section)
    }

    /// Gets a tag by id or name.
    ///
    /// # Errors
    /// As [`author`](Cable::author).
    pub fn tag(&self, tag: impl Into<String>) -> GetEntity<v1::Tag> {
        GetEntity::new(self, tag)
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
    pub fn collection(&self, collection: impl Into<String>) -> GetCollection {
        let name = full_name("collections", collection);
        GetCollection { cable: self.clone(), name, shape: Shape::default(), timeout: None }
    }
}

/// A call that gets one article. Await it. See [`Cable::article`].
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// use std::time::Duration;
/// use cable_client::View;
///
/// // Metadata only, and a failure within a second rather than the timeout of the client.
/// let article = cable.article("storm").view(View::Basic).timeout(Duration::from_secs(1)).await?;
/// assert!(article.body.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "calls do nothing unless awaited"]
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

    fn fetch(self, etag: String) -> BoxFuture<Result<Option<ReadResponse<v1::Article>>>> {
        let GetArticle { cable, name, shape, timeout } = self;
        let request = v1::GetArticleRequest {
            name,
            view: shape.view.into(),
            body_format: shape.body_format.into(),
            includes: shape.includes,
            if_none_match: etag,
            freshness: shape.freshness,
        };
        Box::pin(async move {
            let response = cable.call(request, timeout).await?;
            if response.not_modified {
                return Ok(None);
            }
            let article = response.article.ok_or_else(|| malformed_response("no article"))?;
            Ok(Some(ReadResponse::new(article, response.includes, response.meta)))
        })
    }
}

/// The article that a path leads to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ResolvedArticle {
    /// The article.
    pub article: v1::Article,
    /// The article's own path, to redirect the visitor to. `None` if the article has the requested path, or no path.
    pub redirect_path: Option<String>,
}

/// A call that gets the article at a path. Await it. See [`Cable::resolve`].
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// use cable_client::ErrorReason;
///
/// match cable.resolve("/world/storm").await {
///     Ok(page) if page.redirect_path.is_some() => println!("301 {:?}", page.redirect_path),
///     Ok(page) => println!("200 {}", page.article.headline),
///     Err(error) if error.reason() == Some(ErrorReason::ArticleGone) => println!("410"),
///     Err(error) if error.is_not_found() => println!("404"),
///     Err(error) => return Err(error),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "calls do nothing unless awaited"]
pub struct ResolvePath {
    cable: Cable,
    path: String,
    shape: Shape,
    timeout: Option<Duration>,
}

impl ResolvePath {
    shape_setters!();
}

impl Read for ResolvePath {
    type Value = ResolvedArticle;

    fn fetch(self, etag: String) -> BoxFuture<Result<Option<ReadResponse<ResolvedArticle>>>> {
        let ResolvePath { cable, path, shape, timeout } = self;
        let request = v1::ResolvePathRequest {
            path,
            view: shape.view.into(),
            body_format: shape.body_format.into(),
            includes: shape.includes,
            if_none_match: etag,
            freshness: shape.freshness,
        };
        Box::pin(async move {
            let response = cable.call(request, timeout).await?;
            if response.not_modified {
                return Ok(None);
            }
            let article = response.article.ok_or_else(|| malformed_response("no article"))?;
            let redirect_path = Some(response.redirect_path).filter(|path| !path.is_empty());
            Ok(Some(ReadResponse::new(
                ResolvedArticle { article, redirect_path },
                response.includes,
                response.meta,
            )))
        })
    }
}

/// An author, section or tag: a kind of entity that is read by its name alone.
pub trait Gettable: Sized + Send + 'static {
    #[doc(hidden)]
    const COLLECTION: &'static str;

    #[doc(hidden)]
    fn get(
        cable: &Cable,
        name: String,
        etag: String,
        freshness: Option<v1::Freshness>,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<Option<ReadResponse<Self>>>> + Send;
}

macro_rules! gettable {
    ($($entity:ident in $collection:literal: $request:ident, $field:ident;)*) => {$(
        impl Gettable for v1::$entity {
            const COLLECTION: &'static str = $collection;

            async fn get(
                cable: &Cable,
                name: String,
                etag: String,
                freshness: Option<v1::Freshness>,
                timeout: Option<Duration>,
            ) -> Result<Option<ReadResponse<Self>>> {
                let request = v1::$request { name, if_none_match: etag, freshness };
                let response = cable.call(request, timeout).await?;
                if response.not_modified {
                    return Ok(None);
                }
                let value = response.$field.ok_or_else(|| malformed_response("no content"))?;
                Ok(Some(ReadResponse::new(value, None, response.meta)))
            }
        }
    )*};
}

gettable! {
    Author in "authors": GetAuthorRequest, author;
    Section in "sections": GetSectionRequest, section;
    Tag in "tags": GetTagRequest, tag;
}

/// A call that gets one author, section or tag. Await it. See [`Cable::author`].
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// let section = cable.section("world").await?;
/// println!("{} below {:?}", section.display_name, section.parent);
/// if let Some(tag) = cable.tag("storm").optional().await? {
///     println!("{}", tag.description);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "calls do nothing unless awaited"]
pub struct GetEntity<E> {
    cable: Cable,
    name: String,
    shape: Shape,
    timeout: Option<Duration>,
    entity: std::marker::PhantomData<fn() -> E>,
}

impl<E: Gettable> GetEntity<E> {
    fn new(cable: &Cable, id: impl Into<String>) -> Self {
        let (cable, name) = (cable.clone(), full_name(E::COLLECTION, id));
        GetEntity { cable, name, shape: Shape::default(), timeout: None, entity: std::marker::PhantomData }
    }

    freshness_setters!();
}

impl<E: Gettable> Read for GetEntity<E> {
    type Value = E;

    fn fetch(self, etag: String) -> BoxFuture<Result<Option<ReadResponse<E>>>> {
        let GetEntity { cable, name, shape, timeout, .. } = self;
        Box::pin(async move { E::get(&cable, name, etag, shape.freshness, timeout).await })
    }
}

/// A collection with its articles.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CollectionWithArticles {
    /// The collection.
    pub collection: v1::Collection,
    /// The articles of the collection, in its order. `includes.missing` contains the names of those that do not exist.
    pub articles: Vec<v1::Article>,
}

/// A call that gets a collection with its articles. Await it. See [`Cable::collection`].
///
/// If the articles are too large for one response, the client fetches the rest with further calls. The result then has
/// no etag, because no etag covers all of it.
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// use cable_client::View;
///
/// let front = cable.collection("front").view(View::Reference).await?;
/// println!("{}: {} articles", front.collection.title, front.articles.len());
/// for name in &front.includes.missing {
///     println!("{name} does not exist");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "calls do nothing unless awaited"]
pub struct GetCollection {
    cable: Cable,
    name: String,
    shape: Shape,
    timeout: Option<Duration>,
}

impl GetCollection {
    shape_setters!();

    /// Fetches the articles that did not fit into the response, in the order of the collection.
    async fn complete(
        self,
        mut fetched: ReadResponse<CollectionWithArticles>,
        deferred: Vec<String>,
    ) -> Result<ReadResponse<CollectionWithArticles>> {
        if deferred.is_empty() {
            return Ok(fetched);
        }
        fetched.meta.etag.clear();
        let rest = GetArticles::new(&self.cable, deferred, self.shape, self.timeout).await?;
        merge_includes(&mut fetched.includes, rest.includes);
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

impl Read for GetCollection {
    type Value = CollectionWithArticles;

    fn fetch(self, etag: String) -> BoxFuture<Result<Option<ReadResponse<CollectionWithArticles>>>> {
        let request = v1::GetCollectionRequest {
            name: self.name.clone(),
            view: self.shape.view.into(),
            body_format: self.shape.body_format.into(),
            includes: self.shape.includes.clone(),
            if_none_match: etag,
            freshness: self.shape.freshness.clone(),
        };
        Box::pin(async move {
            let response = self.cable.call(request, self.timeout).await?;
            if response.not_modified {
                return Ok(None);
            }
            let collection = response.collection.ok_or_else(|| malformed_response("no collection"))?;
            let collection = CollectionWithArticles { collection, articles: response.articles };
            let fetched = ReadResponse::new(collection, response.includes, response.meta);
            self.complete(fetched, response.deferred).await.map(Some)
        })
    }
}
