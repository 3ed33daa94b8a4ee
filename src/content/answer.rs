//! Whole responses, and the keys under which they are cached.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use bytes::Bytes;

use super::{Document, Selection};
use crate::{
    auth::{Scope, ScopeId},
    cache::Weigh,
    compose::{Composer, ResponseTemplate, Shape, Wants},
    model::{Kind, LogId, Name, Revision},
    page_token::PageScope,
    refusal::Refusal,
    store::{
        Damage, Stripe,
        listing::{Cursor, Query},
    },
    wire::Framed,
};

/// The read methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Read {
    GetArticle,
    BatchGetArticles,
    ListArticles,
    StreamArticles,
    ResolvePath,
    GetAuthor,
    ListAuthors,
    GetSection,
    ListSections,
    GetTag,
    ListTags,
    GetCollection,
    ListCollections,
}

impl Read {
    /// Returns the path of the method: `/package.Service/Method`.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Read::GetArticle => "/cable.v1.ContentService/GetArticle",
            Read::BatchGetArticles => "/cable.v1.ContentService/BatchGetArticles",
            Read::ListArticles => "/cable.v1.ContentService/ListArticles",
            Read::StreamArticles => "/cable.v1.ContentService/StreamArticles",
            Read::ResolvePath => "/cable.v1.ContentService/ResolvePath",
            Read::GetAuthor => "/cable.v1.ContentService/GetAuthor",
            Read::ListAuthors => "/cable.v1.ContentService/ListAuthors",
            Read::GetSection => "/cable.v1.ContentService/GetSection",
            Read::ListSections => "/cable.v1.ContentService/ListSections",
            Read::GetTag => "/cable.v1.ContentService/GetTag",
            Read::ListTags => "/cable.v1.ContentService/ListTags",
            Read::GetCollection => "/cable.v1.ContentService/GetCollection",
            Read::ListCollections => "/cable.v1.ContentService/ListCollections",
        }
    }

    /// Returns the name of the method.
    pub(crate) fn method(self) -> &'static str {
        self.path().rsplit('/').next().unwrap_or_default()
    }
}

/// The form in which a response is encoded and cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// The message, with its gRPC prefix.
    Message,
    /// The message as JSON, with what the headers of HTTP state about it.
    Json,
    /// A feed or a sitemap of the articles, with the same. The key has its name in place of a message.
    Output,
}

/// The key of a cached response: the method and the request without the fields that only describe what the caller
/// already has, the form of the response, and the scope of the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestKey {
    pub(crate) read: Read,
    pub(crate) form: Form,
    /// The scope of the caller. `None`: it sees all articles.
    pub(crate) scope: Option<ScopeId>,
    pub(crate) message: Bytes,
}

/// A scope and a form take no room in a key: they fit beside the method.
const _: () = assert!(size_of::<RequestKey>() == size_of::<(Read, Bytes)>());

impl Hash for RequestKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.read.hash(state);
        self.message.hash(state);
        // Most callers have no scope, and their keys are hashed without it.
        if let Some(scope) = self.scope {
            scope.hash(state);
        }
        if self.form != Form::Message {
            self.form.hash(state);
        }
    }
}

/// A read request, parsed and checked.
#[derive(Debug, Clone)]
pub(crate) enum ReadQuery {
    Article {
        name: Name,
        selection: Selection,
    },
    Batch {
        names: Vec<Name>,
        selection: Selection,
    },
    List {
        listing: Listing,
        selection: Selection,
    },
    Path {
        /// The path in its normal form.
        path: String,
        selection: Selection,
    },
    /// An author, a section or a tag.
    Entity(Name),
    /// All entities of a kind other than articles.
    Entities {
        kind: Kind,
        page_size: usize,
        page_token: String,
    },
    Collection {
        name: Name,
        selection: Selection,
    },
}

/// A listing that is read page by page.
#[derive(Debug, Clone)]
pub(crate) struct Listing {
    pub(crate) query: Query,
    /// The scope of its page tokens.
    pub(crate) scope: PageScope,
    pub(crate) page_size: usize,
    pub(crate) page_token: String,
}

impl ReadQuery {
    /// Narrows a listing to a scope. All other queries remain: what they find is checked when it is loaded.
    pub(crate) fn narrow(&mut self, scope: &Scope) {
        if let ReadQuery::List { listing, .. } = self {
            listing.query.narrow(scope.query());
            listing.scope = scope.page_scope(listing.scope);
        }
    }

    /// Returns an empty composer for the response.
    pub(super) fn composer(&self, log_id: LogId) -> Composer {
        let (method, selection) = match self {
            ReadQuery::Article { selection, .. } => ("GetArticle", *selection),
            ReadQuery::Batch { selection, .. } => ("BatchGetArticles", *selection),
            ReadQuery::List { selection, .. } => ("ListArticles", *selection),
            ReadQuery::Path { selection, .. } => ("ResolvePath", *selection),
            ReadQuery::Entity(_) => ("Get", Selection { shape: Shape::FULL_BLOCKS, wants: Wants::default() }),
            ReadQuery::Entities { .. } => {
                ("List", Selection { shape: Shape::FULL_BLOCKS, wants: Wants::default() })
            }
            ReadQuery::Collection { selection, .. } => ("GetCollection", *selection),
        };
        Composer::new(log_id, method, selection.shape, selection.wants)
    }

    /// Returns the number of the response's field `not_modified`; 0 if it has none.
    pub(super) fn not_modified(&self) -> u32 {
        match self {
            ReadQuery::Article { .. } | ReadQuery::Path { .. } => 3,
            ReadQuery::Batch { .. } | ReadQuery::List { .. } => 4,
            ReadQuery::Entity(_) => 2,
            ReadQuery::Entities { .. } => 0,
            ReadQuery::Collection { .. } => 5,
        }
    }
}

/// A whole response, or the reason why there is none.
#[derive(Debug)]
pub(crate) struct CachedResponse {
    /// The head before the first of its parts was looked up.
    pub(super) as_of: Revision,
    /// The stripes that it depends on. It is fresh while none of them has changed since `as_of`.
    pub(super) stripes: Box<[Stripe]>,
    /// The time from which it is not fresh, in microseconds since 1970 UTC, if it depends on the clock.
    pub(super) until: Option<i64>,
    pub(super) result: Result<Encoding, Refusal>,
}

/// A response in one form.
#[derive(Debug)]
pub(super) enum Encoding {
    Message(ResponseTemplate),
    Document(Arc<Document>),
}

/// The error when a key has led to a response in another form than its own, which cannot happen.
const OTHER_FORM: Refusal = Refusal::Internal("a response is cached in another form");

impl CachedResponse {
    /// Returns the response to one call.
    pub(super) fn respond(&self, served: Revision, if_none_match: &str) -> Result<Framed, Refusal> {
        match self.result.as_ref().map_err(Refusal::clone)? {
            Encoding::Message(template) => Ok(template.respond(served, if_none_match)),
            Encoding::Document(_) => Err(OTHER_FORM),
        }
    }

    /// Encodes the response as a document.
    pub(super) fn encode_json(&self, read: Read, keys: &[String]) -> Result<Document, Refusal> {
        match self.result.as_ref().map_err(Refusal::clone)? {
            Encoding::Message(template) => Document::encode(read, template, keys),
            Encoding::Document(_) => Err(OTHER_FORM),
        }
    }

    /// Returns the response as a document.
    pub(super) fn document(&self) -> Result<Arc<Document>, Refusal> {
        match self.result.as_ref().map_err(Refusal::clone)? {
            Encoding::Document(document) => Ok(document.clone()),
            Encoding::Message(_) => Err(OTHER_FORM),
        }
    }
}

impl Weigh for RequestKey {
    fn weight(&self) -> usize {
        self.message.len()
    }
}

impl Weigh for Arc<CachedResponse> {
    fn weight(&self) -> usize {
        let owned = self.result.as_ref().map_or(0, |encoding| match encoding {
            Encoding::Message(template) => template.bytes.len() + template.etag.len(),
            Encoding::Document(document) => document.weight(),
        });
        size_of::<CachedResponse>() + size_of_val(&*self.stripes) + owned
    }
}

/// One message of a stream, and where the stream continues.
#[derive(Debug)]
pub(super) struct CachedSlice {
    pub(super) as_of: Revision,
    pub(super) stripes: Box<[Stripe]>,
    pub(super) message: Framed,
    /// The number of articles in the message.
    pub(super) articles: u64,
    /// Articles that belong in the message and cannot be read.
    pub(super) damage: Damage,
    pub(super) next: Option<Cursor>,
}

impl Weigh for Arc<CachedSlice> {
    fn weight(&self) -> usize {
        use bytes::Buf as _;
        size_of::<CachedSlice>() + size_of_val(&*self.stripes) + self.message.remaining()
    }
}

/// The key of a cached message of a stream: the request, where the message starts, and its maximum number of articles.
pub(super) type SliceKey = (RequestKey, Option<Cursor>, usize);

impl Weigh for SliceKey {
    fn weight(&self) -> usize {
        self.0.weight() + self.1.as_ref().map_or(0, |cursor| cursor.id.len())
    }
}
