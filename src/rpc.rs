//! The gRPC services. A handler parses the request, makes the call and encodes the response. Only this module converts
//! a [`Refusal`] into a Status.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    model::limit::{self, Limit},
    refusal::{Refusal, at_most, decode_error, reason_name},
    store,
    wire::{
        fields,
        v1::{ErrorReason, ItemError},
    },
};

pub(crate) mod content;
pub(crate) mod feed;
mod identity;
pub(crate) mod publishing;
mod request;
pub(crate) mod status;
pub(crate) mod transfer;

/// The domain of every ErrorInfo.
const DOMAIN: &str = "cable.v1";

/// The maximum length of a status message in bytes. A status is sent in headers, which peers limit to 8 to 16 KiB.
const MAX_MESSAGE: usize = 512;

/// The delay before a retry, for errors that a retry can resolve.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A refusal in the terms of the public contract.
struct ErrorParts {
    code: Code,
    reason: ErrorReason,
    field: Option<String>,
    resource: Option<(&'static str, String)>,
    metadata: Vec<(&'static str, String)>,
    retry: bool,
}

impl ErrorParts {
    fn new(code: Code, reason: ErrorReason) -> ErrorParts {
        ErrorParts { code, reason, field: None, resource: None, metadata: Vec::new(), retry: false }
    }

    fn field(mut self, field: &str) -> ErrorParts {
        self.field = Some(field.to_owned());
        self
    }

    fn with(mut self, key: &'static str, value: impl ToString) -> ErrorParts {
        self.metadata.push((key, value.to_string()));
        self
    }

    fn retry(mut self) -> ErrorParts {
        self.retry = true;
        self
    }

    fn resource(mut self, name: &crate::model::Name) -> ErrorParts {
        self.resource = Some((name.kind.noun(), name.to_string()));
        self
    }
}

/// Maps a refusal to its code, reason and details: the table of `errors.proto`.
fn describe(refusal: &Refusal) -> ErrorParts {
    use ErrorReason as Reason;
    match refusal {
        Refusal::Field { field, .. } => {
            ErrorParts::new(Code::InvalidArgument, Reason::FieldInvalid).field(field)
        }
        Refusal::Limit { field, limit, value } => {
            ErrorParts::new(Code::InvalidArgument, Reason::LimitExceeded)
                .field(field)
                .with("limit", limit.name)
                .with("value", value)
                .with("maximum", limit.maximum)
        }
        Refusal::PageToken(_) => {
            ErrorParts::new(Code::InvalidArgument, Reason::PageTokenInvalid).field("page_token")
        }
        Refusal::RequestIdReused => {
            ErrorParts::new(Code::InvalidArgument, Reason::RequestIdReused).field("request_id")
        }
        Refusal::NotFound(name) => {
            let article = name.kind == crate::model::Kind::Article;
            let reason = if article { Reason::ArticleNotFound } else { Reason::NameNotFound };
            ErrorParts::new(Code::NotFound, reason).resource(name)
        }
        Refusal::PathNotFound => ErrorParts::new(Code::NotFound, Reason::ArticleNotFound).field("path"),
        Refusal::Gone { name, tombstone } => describe_gone(name, tombstone),
        Refusal::Exists { name, etag } => {
            ErrorParts::new(Code::AlreadyExists, Reason::NameExists).resource(name).with("etag", etag)
        }
        Refusal::Killed { name, time } => ErrorParts::new(Code::FailedPrecondition, Reason::NameKilled)
            .resource(name)
            .with("remove_time", fields::timestamp(*time)),
        Refusal::PathTaken { field, path, owner } => ErrorParts::new(Code::AlreadyExists, Reason::PathTaken)
            .field(field)
            .with("path", path)
            .with("owner", owner),
        Refusal::EtagMismatch { name, current } => {
            let parts = ErrorParts::new(Code::Aborted, Reason::EtagMismatch).resource(name);
            current.iter().fold(parts, |parts, etag| parts.with("etag", etag))
        }
        Refusal::LogChanged { log_id, .. } => {
            ErrorParts::new(Code::FailedPrecondition, Reason::LogChanged).with("log_id", log_id)
        }
        Refusal::NotCaughtUp { reached, .. } => {
            ErrorParts::new(Code::Unavailable, Reason::NotCaughtUp).with("revision", reached).retry()
        }
        Refusal::Compacted { oldest, head } => ErrorParts::new(Code::OutOfRange, Reason::RevisionCompacted)
            .field("after")
            .with("oldest_revision", oldest)
            .with("head_revision", head),
        Refusal::TooManyFeeds { .. } => {
            ErrorParts::new(Code::ResourceExhausted, Reason::TooManyFeeds).retry()
        }
        Refusal::WriteConflict { .. } | Refusal::Overloaded(_) => {
            ErrorParts::new(Code::Unavailable, Reason::Overloaded).retry()
        }
        Refusal::Draining => ErrorParts::new(Code::Unavailable, Reason::Draining).retry(),
        Refusal::NodeFailed => ErrorParts::new(Code::Unavailable, Reason::NodeFailed).retry(),
        Refusal::Incomplete(damage) => {
            let reason = if damage.database { Reason::StoreDamaged } else { Reason::RecordCorrupt };
            ErrorParts::new(Code::DataLoss, reason)
        }
        Refusal::Store(error) => describe_store_error(error),
        Refusal::Internal(_) => ErrorParts::new(Code::Internal, Reason::Internal),
    }
}

fn describe_gone(name: &crate::model::Name, tombstone: &store::Tombstone) -> ErrorParts {
    let reason = match (name.kind, &tombstone.moved_to) {
        (crate::model::Kind::Article, Some(_)) => ErrorReason::ArticleMoved,
        (crate::model::Kind::Article, None) => ErrorReason::ArticleGone,
        _ => ErrorReason::NameGone,
    };
    let parts = ErrorParts::new(Code::NotFound, reason)
        .resource(name)
        .with("reason", reason_name(tombstone.reason))
        .with("remove_time", fields::timestamp(tombstone.time));
    tombstone.moved_to.iter().fold(parts, |parts, target| parts.with("moved_to", target))
}

fn describe_store_error(error: &store::Error) -> ErrorParts {
    use ErrorReason as Reason;
    match error {
        store::Error::Corrupt(name) => ErrorParts::new(Code::DataLoss, Reason::RecordCorrupt).resource(name),
        store::Error::Malformed(_) => ErrorParts::new(Code::DataLoss, Reason::StoreDamaged),
        store::Error::Overloaded => ErrorParts::new(Code::Unavailable, Reason::Overloaded).retry(),
        store::Error::Full { .. } | store::Error::NoSpace(_) => {
            ErrorParts::new(Code::ResourceExhausted, Reason::StoreFull).retry()
        }
        store::Error::Failed(_) => ErrorParts::new(Code::Unavailable, Reason::StoreFailed).retry(),
        store::Error::ReadOnly { .. } => ErrorParts::new(Code::Unavailable, Reason::StoreFailed),
        store::Error::Uncertain(_) | store::Error::NotErased | store::Error::Lost => {
            ErrorParts::new(Code::Unavailable, Reason::OutcomeUnknown).retry()
        }
        store::Error::Panicked => ErrorParts::new(Code::Internal, Reason::Internal),
        store::Error::Closed => ErrorParts::new(Code::Unavailable, Reason::NodeFailed).retry(),
    }
}

fn public_name(reason: ErrorReason) -> &'static str {
    reason.as_str_name().trim_start_matches("ERROR_REASON_")
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        let parts = describe(&refusal);
        let message = message(&refusal);
        let metadata: HashMap<String, String> =
            parts.metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let mut details = ErrorDetails::with_error_info(public_name(parts.reason), DOMAIN, metadata);
        if let Some(field) = parts.field {
            let problem = message.strip_prefix(&format!("{field}: ")).unwrap_or(&message).to_owned();
            details.add_bad_request_violation(field, problem);
        }
        if let Some((kind, name)) = parts.resource {
            details.set_resource_info(kind, name, "", message.clone());
        }
        if parts.retry {
            details.set_retry_info(Some(RETRY_AFTER));
        }
        Status::with_error_details(parts.code, message, details)
    }
}

/// Converts a refusal into the error of one item of a response.
pub(crate) fn item_error(refusal: &Refusal) -> ItemError {
    let parts = describe(refusal);
    ItemError {
        code: parts.code as i32,
        reason: parts.reason as i32,
        message: message(refusal),
        field: parts.field.unwrap_or_default(),
        metadata: parts.metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
    }
}

fn message(refusal: &Refusal) -> String {
    let mut message = refusal.to_string();
    if message.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|end| message.is_char_boundary(*end));
        message.truncate(end.unwrap_or(0));
    }
    message
}

/// Returns the refusal that corresponds to tonic's status for a message above its limit. tonic uses OUT_OF_RANGE
/// without a reason.
pub(crate) fn message_too_large(status: &Status, limit: &'static Limit) -> Option<Refusal> {
    let is_too_large = status.code() == Code::OutOfRange
        && status.details().is_empty()
        && status.message().contains("length too large");
    let found = status.message().split(' ').find_map(|word| word.parse().ok());
    let value = found.unwrap_or(limit.maximum + 1);
    is_too_large.then(|| Refusal::Limit { field: "request".into(), limit, value })
}

/// Returns the status of an internal error.
pub(crate) fn internal(text: &'static str) -> Status {
    Refusal::Internal(text).into()
}

/// Returns the status of a request that cannot be decoded.
pub(crate) fn decode_status(error: &prost::DecodeError) -> Status {
    decode_error(error).into()
}

/// Refuses a request whose lists have too many elements to be decoded.
pub(crate) fn check_elements(elements: usize) -> Result<(), Status> {
    Ok(at_most(&limit::ELEMENTS, elements, "request")?)
}
