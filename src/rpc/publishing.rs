//! PublishingService.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tonic::{Request, Response, Status};

use super::{
    identity::{Method, identify},
    request,
};
use crate::{
    audit::Origin,
    log::Position,
    model::{Kind, Name, Slot, limit},
    parse,
    pending::Pending,
    publishing::{Change, Publishing, Removal, Source, Verb, check_mask},
    refusal::{Refusal, at_most},
    store::WriteOutcome,
    wire::{
        Encoded, fields,
        service::{
            self, change,
            publishing_service_server::{PublishingService, PublishingServiceServer},
        },
        v1::{self, ArticleView, RemovalReason, UpdateKind},
    },
};

/// The writes of a node.
pub(crate) struct PublishingRpc {
    pub(crate) publishing: Arc<Publishing>,
}

/// Creates the service, with its limit on the size of requests.
pub(crate) fn server(publishing: Arc<Publishing>) -> PublishingServiceServer<PublishingRpc> {
    let server = PublishingServiceServer::new(PublishingRpc { publishing });
    server.max_decoding_message_size(limit::WRITE_REQUEST.maximum as usize)
}

/// Converts a position into the message of the schema.
pub(super) fn position(position: &Position) -> v1::Position {
    v1::Position {
        log_id: position.log_id.to_string(),
        revision: position.revision,
        chain: position.chain.to_vec().into(),
    }
}

fn result(
    written: &WriteOutcome,
    position: &Position,
    body_conversion: Option<v1::BodyConversion>,
) -> v1::WriteResult {
    let etag = || position.log_id.etag(written.revision, written.prefix);
    let etag = if written.removed { String::new() } else { etag() };
    v1::WriteResult {
        name: written.name.to_string(),
        etag,
        revision: written.revision,
        changed: written.changed,
        due_time: written.due.map(fields::timestamp),
        pending: written.slot == Slot::Pending && !written.removed,
        path_owner: written.path_owner.as_ref().map(ToString::to_string).unwrap_or_default(),
        body_conversion,
    }
}

fn removal(name: &str, kind: Option<Kind>, reason: i32, moved_to: &str) -> Result<Verb, Refusal> {
    let name = match kind {
        Some(kind) => parse::name(kind, name, "name")?,
        None => Name::parse(name).ok_or_else(|| {
            Refusal::field("name", "must be a resource name, such as `articles/{id}` or `authors/{id}`")
        })?,
    };
    let reason = RemovalReason::try_from(reason)
        .map_err(|_| Refusal::field("reason", format!("unknown value {reason}")))?;
    let moved_to = parse::optional_name(name.kind, moved_to, "moved_to")?;
    Ok(Verb::Remove { name, removal: Removal { reason, moved_to, imported: None } })
}

/// The fields that all five requests to remove an entity have.
struct RemoveFields<'a> {
    kind: Kind,
    name: &'a str,
    reason: i32,
    moved_to: &'a str,
    precondition: Option<v1::Precondition>,
    request_id: &'a str,
    received: Bytes,
}

/// Converts one of the five requests to remove an entity, which differ only in their types.
macro_rules! remove_fields {
    ($kind:ident, $request:ident) => {
        RemoveFields {
            kind: Kind::$kind,
            name: &$request.name,
            reason: $request.reason,
            moved_to: &$request.moved_to,
            precondition: $request.precondition.clone(),
            request_id: &$request.request_id,
            received: $request.received.clone(),
        }
    };
}

/// A method, and who calls it from where.
type Attributed = (Method, Arc<Origin>);

fn split<T>(request: Request<T>) -> (Arc<Origin>, T) {
    (Arc::new(super::origin(&request)), request.into_inner())
}

type WriteResponse = Result<(Option<v1::WriteResult>, Option<v1::Position>), Status>;

/// The changes of a request, and the sources of their bodies.
struct Changes {
    changes: Vec<Change>,
    sources: Vec<Source>,
}

impl PublishingRpc {
    /// Returns the results of a request and the position after it: the stored outcome if the request was committed
    /// before, otherwise that of `changes`. The request is validated, and its sources are converted, only in the second
    /// case.
    async fn write(
        &self,
        (method, origin): Attributed,
        request_id: &str,
        received: Bytes,
        changes: impl FnOnce() -> Result<Changes, Refusal>,
    ) -> Result<(Vec<v1::WriteResult>, v1::Position), Refusal> {
        let request = identify(&self.publishing, method, request_id, received).await?;
        let (written, at, reports) = match self.publishing.find_committed(request.as_ref(), &origin).await? {
            Some((first, at)) => (first, at, Vec::new()),
            None => {
                let Changes { changes, sources } = changes()?;
                let (changes, reports) = self.publishing.convert_bodies(changes, sources).await?;
                let (written, at) = self.publishing.commit(changes, request, &origin).await?;
                (written, at, reports)
            }
        };
        let reports = reports.into_iter().chain(std::iter::repeat(None));
        let results = written.iter().zip(reports).map(|(written, report)| result(written, &at, report));
        Ok((results.collect(), position(&at)))
    }

    async fn write_one(
        &self,
        method: Attributed,
        request_id: &str,
        received: Bytes,
        change: impl FnOnce() -> Result<Change, Refusal>,
    ) -> WriteResponse {
        let changes = || Ok(Changes { changes: vec![change()?], sources: Vec::new() });
        let (mut results, at) = self.write(method, request_id, received, changes).await?;
        Ok((results.pop(), Some(at)))
    }

    async fn put(
        &self,
        (method, kind): (Attributed, Kind),
        entity: Option<&Encoded>,
        precondition: Option<v1::Precondition>,
        request_id: &str,
        received: Bytes,
    ) -> WriteResponse {
        let change = || put(kind, entity, precondition, UpdateKind::Major, kind.noun());
        self.write_one(method, request_id, received, change).await
    }

    async fn remove(&self, method: Attributed, fields: RemoveFields<'_>) -> WriteResponse {
        let RemoveFields { kind, name, reason, moved_to, precondition, request_id, received } = fields;
        let change = || {
            Ok(Change {
                verb: removal(name, Some(kind), reason, moved_to)?,
                precondition: request::precondition(precondition)?,
                update_kind: Some(UpdateKind::Major),
                allow_killed: false,
                import: None,
                field: String::new(),
            })
        };
        self.write_one(method, request_id, received, change).await
    }
}

fn put(
    kind: Kind,
    entity: Option<&Encoded>,
    precondition: Option<v1::Precondition>,
    update_kind: UpdateKind,
    field: &str,
) -> Result<Change, Refusal> {
    let entity = entity.ok_or_else(|| Refusal::field(field, "required"))?.0.clone();
    Ok(Change {
        verb: Verb::Put { kind, entity },
        precondition: request::precondition(precondition)?,
        update_kind: Some(update_kind),
        allow_killed: false,
        import: None,
        field: field.to_owned(),
    })
}

fn patch(article: Option<&Encoded>, mask: Option<&prost_types::FieldMask>) -> Result<Verb, Refusal> {
    let article = article.ok_or_else(|| Refusal::field("article", "required"))?.0.clone();
    // Many clients send an empty mask instead of none.
    let mask = mask.map(|mask| mask.paths.clone()).filter(|paths| !paths.is_empty());
    mask.as_deref().map_or(Ok(()), check_mask)?;
    Ok(Verb::Patch { article, mask })
}

fn change(i: usize, change: &service::Change) -> Result<Change, Refusal> {
    let field = format!("changes[{i}]");
    let parsed = || {
        let (verb, verb_field) = verb(change.change.as_ref())?;
        Ok(Change {
            verb,
            precondition: request::precondition(change.precondition.clone())?,
            update_kind: Some(request::update_kind(change.update_kind)?),
            allow_killed: change.allow_killed,
            import: None,
            field: format!("{field}.{verb_field}"),
        })
    };
    parsed().map_err(|refusal: Refusal| refusal.within(&field))
}

/// Returns the source of the body that a change puts, if it has one.
fn source(i: usize, change: &service::Change) -> Result<Option<Source>, Refusal> {
    let Some(source) = change.body_source.clone() else { return Ok(None) };
    let field = format!("changes[{i}].body_source");
    match &change.change {
        Some(change::Change::PutArticle(_)) => Ok(Some(Source { change: i, field, source })),
        _ => Err(Refusal::field(field, "allowed only with put_article")),
    }
}

/// Parses the operation of a change. Returns it with the name of the field that holds it.
fn verb(change: Option<&change::Change>) -> Result<(Verb, &'static str), Refusal> {
    use change::Change as Operation;
    let put = |kind, entity: &Encoded| Verb::Put { kind, entity: entity.0.clone() };
    Ok(match change.ok_or_else(|| Refusal::field("change", "required"))? {
        Operation::PutArticle(entity) => (put(Kind::Article, entity), "put_article"),
        Operation::PutAuthor(entity) => (put(Kind::Author, entity), "put_author"),
        Operation::PutSection(entity) => (put(Kind::Section, entity), "put_section"),
        Operation::PutTag(entity) => (put(Kind::Tag, entity), "put_tag"),
        Operation::PutCollection(entity) => (put(Kind::Collection, entity), "put_collection"),
        Operation::PatchArticle(patched) => {
            let verb = patch(patched.article.as_ref(), patched.update_mask.as_ref());
            (verb.map_err(|refusal| refusal.within("patch_article"))?, "patch_article.article")
        }
        Operation::Remove(removed) => {
            let removal = removal(&removed.name, None, removed.reason, &removed.moved_to);
            (removal.map_err(|refusal| refusal.within("remove"))?, "remove")
        }
    })
}

#[tonic::async_trait]
impl PublishingService for PublishingRpc {
    async fn put_article(
        &self,
        request: Request<service::PutArticleRequest>,
    ) -> Result<Response<v1::PutArticleResponse>, Status> {
        let (origin, request) = split(request);
        let changes = || {
            let precondition = request.precondition.clone();
            let update_kind = request::update_kind(request.update_kind)?;
            let change = put(Kind::Article, request.article.as_ref(), precondition, update_kind, "article")?;
            let source = request.body_source.clone();
            let source = source.map(|source| Source { change: 0, field: "body_source".into(), source });
            let changes = vec![Change { allow_killed: request.allow_killed, ..change }];
            Ok(Changes { changes, sources: source.into_iter().collect() })
        };
        let received = request.received.clone();
        let (mut results, at) =
            self.write((Method::PutArticle, origin), &request.request_id, received, changes).await?;
        Ok(Response::new(v1::PutArticleResponse { result: results.pop(), position: Some(at) }))
    }

    async fn patch_article(
        &self,
        request: Request<service::PatchArticleRequest>,
    ) -> Result<Response<v1::PatchArticleResponse>, Status> {
        let (origin, request) = split(request);
        let change = || {
            Ok(Change {
                verb: patch(request.article.as_ref(), request.update_mask.as_ref())?,
                precondition: request::precondition(request.precondition.clone())?,
                update_kind: Some(request::update_kind(request.update_kind)?),
                allow_killed: false,
                import: None,
                field: "article".into(),
            })
        };
        let received = request.received.clone();
        let (result, position) =
            self.write_one((Method::PatchArticle, origin), &request.request_id, received, change).await?;
        Ok(Response::new(v1::PatchArticleResponse { result, position }))
    }

    async fn remove_article(
        &self,
        request: Request<service::RemoveArticleRequest>,
    ) -> Result<Response<v1::RemoveArticleResponse>, Status> {
        let (origin, request) = split(request);
        let (result, position) =
            self.remove((Method::RemoveArticle, origin), remove_fields!(Article, request)).await?;
        Ok(Response::new(v1::RemoveArticleResponse { result, position }))
    }

    async fn put_author(
        &self,
        request: Request<service::PutAuthorRequest>,
    ) -> Result<Response<v1::PutAuthorResponse>, Status> {
        let (origin, request) = split(request);
        let (entity, precondition) = (request.author.as_ref(), request.precondition.clone());
        let (method, received) = (((Method::PutAuthor, origin), Kind::Author), request.received.clone());
        let (result, position) =
            self.put(method, entity, precondition, &request.request_id, received).await?;
        Ok(Response::new(v1::PutAuthorResponse { result, position }))
    }

    async fn remove_author(
        &self,
        request: Request<service::RemoveAuthorRequest>,
    ) -> Result<Response<v1::RemoveAuthorResponse>, Status> {
        let (origin, request) = split(request);
        let (result, position) =
            self.remove((Method::RemoveAuthor, origin), remove_fields!(Author, request)).await?;
        Ok(Response::new(v1::RemoveAuthorResponse { result, position }))
    }

    async fn put_section(
        &self,
        request: Request<service::PutSectionRequest>,
    ) -> Result<Response<v1::PutSectionResponse>, Status> {
        let (origin, request) = split(request);
        let (entity, precondition) = (request.section.as_ref(), request.precondition.clone());
        let (method, received) = (((Method::PutSection, origin), Kind::Section), request.received.clone());
        let (result, position) =
            self.put(method, entity, precondition, &request.request_id, received).await?;
        Ok(Response::new(v1::PutSectionResponse { result, position }))
    }

    async fn remove_section(
        &self,
        request: Request<service::RemoveSectionRequest>,
    ) -> Result<Response<v1::RemoveSectionResponse>, Status> {
        let (origin, request) = split(request);
        let (result, position) =
            self.remove((Method::RemoveSection, origin), remove_fields!(Section, request)).await?;
        Ok(Response::new(v1::RemoveSectionResponse { result, position }))
    }

    async fn put_tag(
        &self,
        request: Request<service::PutTagRequest>,
    ) -> Result<Response<v1::PutTagResponse>, Status> {
        let (origin, request) = split(request);
        let (entity, precondition) = (request.tag.as_ref(), request.precondition.clone());
        let (method, received) = (((Method::PutTag, origin), Kind::Tag), request.received.clone());
        let (result, position) =
            self.put(method, entity, precondition, &request.request_id, received).await?;
        Ok(Response::new(v1::PutTagResponse { result, position }))
    }

    async fn remove_tag(
        &self,
        request: Request<service::RemoveTagRequest>,
    ) -> Result<Response<v1::RemoveTagResponse>, Status> {
        let (origin, request) = split(request);
        let (result, position) =
            self.remove((Method::RemoveTag, origin), remove_fields!(Tag, request)).await?;
        Ok(Response::new(v1::RemoveTagResponse { result, position }))
    }

    async fn put_collection(
        &self,
        request: Request<service::PutCollectionRequest>,
    ) -> Result<Response<v1::PutCollectionResponse>, Status> {
        let (origin, request) = split(request);
        let (entity, precondition) = (request.collection.as_ref(), request.precondition.clone());
        let (method, received) =
            (((Method::PutCollection, origin), Kind::Collection), request.received.clone());
        let (result, position) =
            self.put(method, entity, precondition, &request.request_id, received).await?;
        Ok(Response::new(v1::PutCollectionResponse { result, position }))
    }

    async fn remove_collection(
        &self,
        request: Request<service::RemoveCollectionRequest>,
    ) -> Result<Response<v1::RemoveCollectionResponse>, Status> {
        let (origin, request) = split(request);
        let (result, position) =
            self.remove((Method::RemoveCollection, origin), remove_fields!(Collection, request)).await?;
        Ok(Response::new(v1::RemoveCollectionResponse { result, position }))
    }

    async fn commit(
        &self,
        request: Request<service::CommitRequest>,
    ) -> Result<Response<v1::CommitResponse>, Status> {
        let (origin, request) = split(request);
        let changes = || {
            if request.changes.is_empty() {
                return Err(Refusal::field("changes", "must not be empty"));
            }
            at_most(&limit::COMMIT, request.changes.len(), "changes")?;
            at_most(&limit::COMMIT_BYTES, request.changes.iter().map(Message::encoded_len).sum(), "changes")?;
            let all = request.changes.iter().enumerate();
            let sources = all.clone().filter_map(|(i, one)| source(i, one).transpose());
            let sources = sources.collect::<Result<_, Refusal>>()?;
            let changes = all.map(|(i, one)| change(i, one)).collect::<Result<_, Refusal>>()?;
            Ok(Changes { changes, sources })
        };
        let received = request.received.clone();
        let (results, at) =
            self.write((Method::Commit, origin), &request.request_id, received, changes).await?;
        Ok(Response::new(v1::CommitResponse { results, position: Some(at) }))
    }

    async fn get_pending(
        &self,
        request: Request<v1::GetPendingRequest>,
    ) -> Result<Response<service::GetPendingResponse>, Status> {
        let request = request.into_inner();
        let name = parse::name(Kind::Article, &request.name, "name")?;
        let selection = request::selection(request.view, request.body_format, &[], ArticleView::Full)?;
        let found = self.publishing.get_pending(name, selection.shape).await?;
        Ok(Response::new(service::GetPendingResponse { pending: Some(found.into_message()) }))
    }

    async fn list_pending(
        &self,
        request: Request<v1::ListPendingRequest>,
    ) -> Result<Response<service::ListPendingResponse>, Status> {
        let request = request.into_inner();
        let size = request::page_size(request.page_size)?;
        let selection = request::selection(request.view, request.body_format, &[], ArticleView::Basic)?;
        let page = self.publishing.list_pending(size, &request.page_token, selection.shape).await?;
        Ok(Response::new(service::ListPendingResponse {
            pending: page.found.into_iter().map(Pending::into_message).collect(),
            next_page_token: page.next_page_token,
            damage: page.damage.to_message(),
        }))
    }

    async fn remove_pending(
        &self,
        request: Request<service::RemovePendingRequest>,
    ) -> Result<Response<v1::RemovePendingResponse>, Status> {
        let (origin, request) = split(request);
        let change = || {
            Ok(Change {
                verb: Verb::RemovePending { name: parse::name(Kind::Article, &request.name, "name")? },
                precondition: request::precondition(request.precondition.clone())?,
                update_kind: Some(UpdateKind::Major),
                allow_killed: false,
                import: None,
                field: String::new(),
            })
        };
        let received = request.received.clone();
        let (result, position) =
            self.write_one((Method::RemovePending, origin), &request.request_id, received, change).await?;
        Ok(Response::new(v1::RemovePendingResponse { result, position }))
    }
}
