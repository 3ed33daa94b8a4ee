//! TransferService.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use prost::Message as _;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use super::{publishing::position, request};
use crate::{
    audit::Origin,
    auth::Role,
    health::Health,
    log::Position,
    model::{Kind, Name, limit},
    parse,
    publishing::{
        Change, Checked, Import, Imported, OmittedPath, Original, PendingRecord, Prepared, Publishing,
        Rehearsal, Removal, Verb,
    },
    refusal::{Refusal, at_most, decode_error},
    store::Store,
    transfer::{End, Export, Next},
    wire::{
        fields,
        log::FormerPath,
        number::NAME,
        service::{
            self, record,
            transfer_service_server::{TransferService, TransferServiceServer},
        },
        v1,
    },
};

/// The maximum length in bytes of a text in a response that would be too large with whole texts. 1,000 results with
/// three such texts are 1 MB.
const MAX_SHORT_BYTES: usize = 256;

/// Chunks of an import that are received and checked while another is prepared.
const MAX_CHUNKS_IN_FLIGHT: usize = 1;

/// The imports and exports of a node.
pub(crate) struct TransferRpc {
    pub(crate) store: Arc<Store>,
    pub(crate) publishing: Arc<Publishing>,
    pub(crate) health: Arc<Health>,
    /// Whether the node is shutting down. A transfer then ends at the next chunk, and can continue on another node.
    pub(crate) draining: watch::Receiver<bool>,
}

/// Creates the service, with its limit on the size of chunks.
pub(crate) fn server(rpc: TransferRpc) -> TransferServiceServer<TransferRpc> {
    TransferServiceServer::new(rpc).max_decoding_message_size(limit::WRITE_REQUEST.maximum as usize)
}

#[tonic::async_trait]
impl TransferService for TransferRpc {
    type ImportStream = BoxStream<'static, Result<v1::ImportResponse, Status>>;

    async fn import(
        &self,
        request: Request<Streaming<service::ImportRequest>>,
    ) -> Result<Response<Self::ImportStream>, Status> {
        let publishing = self.publishing.clone();
        let origin = Origin { summarised: true, ..super::origin(&request) };
        let origin = Arc::new(origin);
        let chunks = request.into_inner().map(move |chunk| check(chunk, publishing.clone()));
        let (publishing, planned_by) = (self.publishing.clone(), origin.clone());
        let prepared = chunks
            .buffered(MAX_CHUNKS_IN_FLIGHT)
            .then(move |chunk| prepare(chunk, publishing.clone(), planned_by.clone()));
        let import = Importing {
            chunks: prepared.fuse().boxed(),
            ahead: None,
            written: HashSet::new(),
            rehearsal: Rehearsal::default(),
            publishing: self.publishing.clone(),
            origin,
            health: self.health.clone(),
            draining: self.draining.clone(),
        };
        let responses = stream::try_unfold(import, |mut import| async move {
            let response = import.next().await?;
            Ok(response.map(|response| (response, import)))
        });
        Ok(Response::new(responses.boxed()))
    }

    type ExportStream = BoxStream<'static, Result<service::ExportResponse, Status>>;

    async fn export(
        &self,
        request: Request<v1::ExportRequest>,
    ) -> Result<Response<Self::ExportStream>, Status> {
        let shows_pending = super::shows_pending(&request);
        let (caller, request) = (super::caller(&request), request.into_inner());
        caller.require_no_scope("an export has all articles")?;
        if request.include_pending {
            let action = "an export with pending versions";
            caller.require(Role::Editor, action)?;
            if !shows_pending {
                return Err(Refusal::NotServedHere(action.to_owned()).into());
            }
        }
        if request.after_revision < 0 {
            return Err(Refusal::field("after_revision", "must not be negative").into());
        }
        let log_id = self.store.head().log_id;
        let remedy = "leave log_id and after_revision unset to export everything";
        Refusal::check_log(request::log_id(&request.log_id, "log_id")?, log_id, remedy)?;
        let export = Export::new(self.store.clone(), request.after_revision, request.include_pending);
        let exporting = Exporting::Records(Box::new(export), self.draining.clone(), self.health.clone());
        let messages = stream::try_unfold(exporting, |exporting| async move {
            match exporting {
                Exporting::Records(export, draining, health) => {
                    next_message(export, draining, health).await.map(Some)
                }
                Exporting::Ended(None) => Ok(None),
                Exporting::Ended(Some(refusal)) => Err(refusal.into()),
            }
        });
        Ok(Response::new(messages.boxed()))
    }
}

/// The progress of one client's export.
enum Exporting {
    Records(Box<Export>, watch::Receiver<bool>, Arc<Health>),
    /// The closing message was sent. The call ends with this refusal if the export is incomplete.
    Ended(Option<Refusal>),
}

async fn next_message(
    mut export: Box<Export>,
    draining: watch::Receiver<bool>,
    health: Arc<Health>,
) -> Result<(service::ExportResponse, Exporting), Status> {
    if *draining.borrow() {
        return Err(Refusal::of_shutdown(&health).into());
    }
    Ok(match export.next().await? {
        Next::Records { records, last } => {
            let message = service::ExportResponse { records, last_revision: last, end: None };
            (message, Exporting::Records(export, draining, health))
        }
        Next::End(End { count, position: at, content_digest, damage }) => {
            let end = v1::ExportEnd {
                count,
                position: Some(position(&at)),
                content_digest: content_digest.to_vec().into(),
                damage: damage.to_message(),
            };
            let refusal = (!damage.is_empty()).then_some(Refusal::Incomplete(damage));
            (service::ExportResponse { end: Some(end), ..Default::default() }, Exporting::Ended(refusal))
        }
    })
}

/// One client's import. Chunks are written one after the other, so that a later record sees the effect of an earlier
/// one. While one chunk is written, the next one is planned and encoded, and those after it are received and checked by
/// the rules that need no store: so the writer's thread waits neither for the network nor for other threads.
struct Importing {
    /// The prepared chunks. After the last one, the stream stays at its end.
    chunks: BoxStream<'static, Result<Chunk<Work>, Status>>,
    /// The chunk that was prepared while the one before it was written.
    ahead: Option<Result<Chunk<Work>, Status>>,
    /// The names that the last chunk has changed.
    written: HashSet<Name>,
    /// The effect of the chunks so far, if nothing is written.
    rehearsal: Rehearsal,
    publishing: Arc<Publishing>,
    origin: Arc<Origin>,
    health: Arc<Health>,
    draining: watch::Receiver<bool>,
}

/// A chunk of records at some stage.
struct Chunk<T> {
    number: i64,
    names: Vec<String>,
    records: T,
}

/// The work that is left of a chunk.
enum Work {
    Commit(Prepared),
    Rehearse(Checked),
}

async fn check(
    chunk: Result<service::ImportRequest, Status>,
    publishing: Arc<Publishing>,
) -> Result<Chunk<Checked>, Status> {
    let chunk = chunk.map_err(map_decode_error)?;
    if chunk.records.is_empty() {
        return Err(Refusal::field("records", "must not be empty").into());
    }
    at_most(&limit::IMPORT, chunk.records.len(), "records")?;
    let options = parse_options(&chunk)?;
    let records: Vec<_> = chunk.records.into_iter().map(decode_record).collect();
    let names = records.iter().map(|record| record.as_ref().map(record_name).unwrap_or_default()).collect();
    let changes = records.into_iter().map(|record| parse_record(record?, &options)).collect();
    let records = publishing.check(changes).await?;
    Ok(Chunk { number: chunk.chunk, names, records })
}

async fn prepare(
    chunk: Result<Chunk<Checked>, Status>,
    publishing: Arc<Publishing>,
    origin: Arc<Origin>,
) -> Result<Chunk<Work>, Status> {
    let Chunk { number, names, records } = chunk?;
    let records = match records.is_dry_run() {
        true => Work::Rehearse(records),
        false => Work::Commit(publishing.prepare(records, &origin).await?),
    };
    Ok(Chunk { number, names, records })
}

impl Importing {
    async fn next(&mut self) -> Result<Option<v1::ImportResponse>, Status> {
        if *self.draining.borrow() {
            return Err(Refusal::of_shutdown(&self.health).into());
        }
        let chunk = match self.ahead.take() {
            Some(chunk) => Some(chunk),
            None => self.chunks.next().await,
        };
        let Some(Chunk { number, names, records }) = chunk.transpose()? else { return Ok(None) };
        let (results, at) = match records {
            Work::Rehearse(checked) => self.publishing.rehearse(checked, &mut self.rehearsal).await?,
            Work::Commit(mut prepared) => {
                // It may have been planned before the last chunk was written.
                prepared.replan_after(&self.written);
                self.written = prepared.names();
                self.commit(prepared).await?
            }
        };
        let results =
            names.into_iter().zip(&results).map(|(name, result)| import_result(name, result)).collect();
        Ok(Some(shorten_errors(v1::ImportResponse { chunk: number, results, position: Some(position(&at)) })))
    }

    /// Writes a chunk, and prepares the next one meanwhile.
    async fn commit(
        &mut self,
        prepared: Prepared,
    ) -> Result<(Vec<Result<Imported, Refusal>>, Position), Refusal> {
        let commit = self.publishing.commit_each(prepared, &self.origin);
        tokio::pin!(commit);
        loop {
            tokio::select! {
                biased;
                written = &mut commit => return written,
                Some(next) = self.chunks.next(), if self.ahead.is_none() => self.ahead = Some(next),
            }
        }
    }
}

/// Replaces tonic's status for a message above the limit by ours.
fn map_decode_error(status: Status) -> Status {
    super::message_too_large(&status, &limit::WRITE_REQUEST).map_or(status, Status::from)
}

/// Shortens the errors of a response that exceeds the maximum message size. Code, reason and the start of field and
/// message remain.
fn shorten_errors(mut response: v1::ImportResponse) -> v1::ImportResponse {
    if response.encoded_len() > limit::MAX_MESSAGE_BYTES {
        for error in response.results.iter_mut().filter_map(|result| result.error.as_mut()) {
            error.metadata.clear();
            error.message = truncate(&error.message);
            error.field = truncate(&error.field);
        }
    }
    response
}

fn import_result(name: String, result: &Result<Imported, Refusal>) -> v1::ImportResult {
    let mut message = v1::ImportResult { name, ..Default::default() };
    let outcome = match result {
        Ok(Imported::Stored { changed, omitted_path }) => {
            if let Some(OmittedPath { path, owner }) = omitted_path {
                (message.omitted_path, message.path_owner) = (path.clone(), owner.to_string());
            }
            if *changed { v1::ImportOutcome::Written } else { v1::ImportOutcome::Unchanged }
        }
        Ok(Imported::Kept(reason)) => {
            message.keep_reason = *reason as i32;
            v1::ImportOutcome::Kept
        }
        Err(refusal) => {
            message.error = Some(refusal.into());
            v1::ImportOutcome::Refused
        }
    };
    message.outcome = outcome as i32;
    message
}

/// Decodes a record. A damaged one is refused alone.
fn decode_record(record: Bytes) -> Result<service::Record, Refusal> {
    service::Record::decode(record).map_err(|error| decode_error(&error))
}

fn record_name(record: &service::Record) -> String {
    let entity = match &record.record {
        None => None,
        Some(record::Record::Tombstone(tombstone)) => return truncate(&tombstone.name),
        Some(record::Record::PendingArticle(pending)) => pending.article.as_ref(),
        Some(
            record::Record::Article(entity)
            | record::Record::Author(entity)
            | record::Record::Section(entity)
            | record::Record::Tag(entity)
            | record::Record::Collection(entity),
        ) => Some(entity),
    };
    let name = entity.and_then(|entity| fields::last(&entity.0, NAME)).unwrap_or_default();
    truncate(&String::from_utf8_lossy(name))
}

/// Returns the first bytes of a text, cut between two characters.
fn truncate(text: &str) -> String {
    let end = (0..=text.len().min(MAX_SHORT_BYTES)).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].to_owned()
}

/// Returns the properties that all records of a chunk have.
fn parse_options(chunk: &service::ImportRequest) -> Result<Import, Refusal> {
    parse::import_source(&chunk.source, "source")?;
    let mode = v1::ImportMode::try_from(chunk.mode)
        .map_err(|_| Refusal::field("mode", format!("unknown value {}", chunk.mode)))?;
    Ok(Import {
        source: chunk.source.as_str().into(),
        overwrites: mode == v1::ImportMode::Overwrite,
        dry_run: chunk.dry_run,
        ..Import::default()
    })
}

fn parse_record(record: service::Record, options: &Import) -> Result<Change, Refusal> {
    let service::Record { record, mentioned, import_source, has_pending } = record;
    let Some(record) = record else {
        return Err(Refusal::field("", "unknown kind of record"));
    };
    parse::import_source(&import_source, "import_source")?;
    let pending = match &record {
        record::Record::PendingArticle(pending) => {
            Some(PendingRecord { is_held: pending.hold_reason() != v1::HoldReason::Unspecified })
        }
        _ => None,
    };
    let import = Import { record_source: import_source, mentioned, pending, has_pending, ..options.clone() };
    let put = |kind, entity: crate::wire::Encoded| Verb::Put { kind, entity: entity.0 };
    let verb = match record {
        record::Record::Article(entity) => put(Kind::Article, entity),
        record::Record::Author(entity) => put(Kind::Author, entity),
        record::Record::Section(entity) => put(Kind::Section, entity),
        record::Record::Tag(entity) => put(Kind::Tag, entity),
        record::Record::Collection(entity) => put(Kind::Collection, entity),
        record::Record::Tombstone(tombstone) => import_tombstone(tombstone)?,
        record::Record::PendingArticle(pending) => {
            put(Kind::Article, pending.article.ok_or_else(|| Refusal::field("article", "required"))?)
        }
    };
    let import = Some(import);
    let field = String::new();
    Ok(Change { verb, precondition: None, update_kind: None, allow_killed: false, import, field })
}

fn import_tombstone(tombstone: v1::Tombstone) -> Result<Verb, Refusal> {
    let name = Name::parse(&tombstone.name)
        .ok_or_else(|| Refusal::field("name", "must be a resource name, such as `articles/{id}`"))?;
    let moved_to = parse::optional_name(name.kind, &tombstone.moved_to, "moved_to")?;
    at_most(&limit::ALIAS_PATHS, tombstone.paths.len(), "paths")?;
    for (i, path) in tombstone.paths.iter().enumerate() {
        parse::path(path, &format!("paths[{i}]"))?;
    }
    let mut former_paths = parse::former_paths(&tombstone.former_paths)?;
    if former_paths.is_empty() {
        let without_time = |path: &String| FormerPath { path: path.clone(), ..FormerPath::default() };
        former_paths = tombstone.paths.iter().map(without_time).collect();
    }
    let original = Original {
        created: parse::time(tombstone.create_time.as_ref(), "create_time")?,
        first_published: parse::time(tombstone.first_publish_time.as_ref(), "first_publish_time")?,
        former_paths,
    };
    let reason = tombstone.reason();
    Ok(Verb::Remove { name, removal: Removal { reason, moved_to, imported: Some(original) } })
}
