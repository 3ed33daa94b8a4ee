//! The status code, reason and details of each refusal, as `errors.proto` documents them.

use std::time::Duration;

use super::{Refusal, reason_name};
use crate::{
    model::{Kind, Name},
    store,
    wire::{
        fields,
        v1::{ErrorReason, ItemError},
    },
};

/// The maximum length of a status message in bytes. gRPC sends it in HTTP/2 headers, and
/// peers limit headers to between 8 and 16 KiB.
const MAX_MESSAGE: usize = 512;

/// The delay before a retry, for errors that a retry can resolve.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The gRPC status code of a refusal, under its number in gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidArgument = 3,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// A refusal as the public contract expresses it.
pub(crate) struct ErrorParts {
    pub(crate) code: Code,
    pub(crate) reason: ErrorReason,
    /// The path of the field at fault.
    pub(crate) field: Option<String>,
    /// The type and name of the resource at fault.
    pub(crate) resource: Option<(&'static str, String)>,
    pub(crate) metadata: Vec<(&'static str, String)>,
    /// The time after which an attempt can succeed, if a later one can.
    pub(crate) retry: Option<Duration>,
}

impl ErrorParts {
    fn new(code: Code, reason: ErrorReason) -> ErrorParts {
        ErrorParts { code, reason, field: None, resource: None, metadata: Vec::new(), retry: None }
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
        self.retry = Some(RETRY_AFTER);
        self
    }

    fn resource(mut self, name: &Name) -> ErrorParts {
        self.resource = Some((name.kind.noun(), name.to_string()));
        self
    }
}

impl Refusal {
    /// Returns the code, reason and details of the refusal.
    pub(crate) fn describe(&self) -> ErrorParts {
        use ErrorReason as Reason;
        match self {
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
                let article = name.kind == Kind::Article;
                let reason = if article { Reason::ArticleNotFound } else { Reason::NameNotFound };
                ErrorParts::new(Code::NotFound, reason).resource(name)
            }
            Refusal::PathNotFound => ErrorParts::new(Code::NotFound, Reason::ArticleNotFound).field("path"),
            Refusal::Gone { name, tombstone } => gone(name, tombstone),
            Refusal::Exists { name, etag } => {
                ErrorParts::new(Code::AlreadyExists, Reason::NameExists).resource(name).with("etag", etag)
            }
            Refusal::Killed { name, time } => ErrorParts::new(Code::FailedPrecondition, Reason::NameKilled)
                .resource(name)
                .with("remove_time", fields::timestamp(*time)),
            Refusal::SourceConflict { name, holder } => {
                let parts = ErrorParts::new(Code::AlreadyExists, Reason::SourceConflict).resource(name);
                if holder.is_empty() { parts } else { parts.with("source", holder) }
            }
            Refusal::PathTaken { field, path, owner } => {
                ErrorParts::new(Code::AlreadyExists, Reason::PathTaken)
                    .field(field)
                    .with("path", path)
                    .with("owner", owner)
            }
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
            Refusal::Compacted { field, oldest, head } => {
                ErrorParts::new(Code::OutOfRange, Reason::RevisionCompacted)
                    .field(field)
                    .with("oldest_revision", oldest)
                    .with("head_revision", head)
            }
            Refusal::TooManyFeeds { .. } => {
                ErrorParts::new(Code::ResourceExhausted, Reason::TooManyFeeds).retry()
            }
            Refusal::ConsumerNotFound(id) => ErrorParts {
                resource: Some(("consumer", id.clone())),
                ..ErrorParts::new(Code::NotFound, Reason::ConsumerNotFound).field("consumer")
            },
            Refusal::TooManyConsumers { scope, maximum } => {
                ErrorParts::new(Code::ResourceExhausted, Reason::TooManyConsumers)
                    .with("scope", scope)
                    .with("maximum", maximum)
            }
            Refusal::BackupRunning { .. } => {
                ErrorParts::new(Code::ResourceExhausted, Reason::BackupRunning).retry()
            }
            Refusal::BackupInterrupted(_) => {
                ErrorParts::new(Code::Unavailable, Reason::BackupInterrupted).retry()
            }
            Refusal::WriteConflict { .. } | Refusal::Overloaded(_) => {
                ErrorParts::new(Code::Unavailable, Reason::Overloaded).retry()
            }
            Refusal::Unauthenticated(_) => ErrorParts::new(Code::Unauthenticated, Reason::Unauthenticated),
            Refusal::Forbidden { has, required, .. } => {
                ErrorParts::new(Code::PermissionDenied, Reason::RoleRequired)
                    .with("role", has)
                    .with("required_role", required)
            }
            Refusal::Limited { .. } => ErrorParts::new(Code::PermissionDenied, Reason::CredentialLimited),
            Refusal::RateLimited { retry_after, .. } => ErrorParts {
                retry: Some(*retry_after),
                ..ErrorParts::new(Code::ResourceExhausted, Reason::RateLimited)
            },
            Refusal::NotServedHere(_) => ErrorParts::new(Code::PermissionDenied, Reason::NotServedHere),
            Refusal::Draining => ErrorParts::new(Code::Unavailable, Reason::Draining).retry(),
            Refusal::NodeFailed => ErrorParts::new(Code::Unavailable, Reason::NodeFailed).retry(),
            Refusal::Incomplete(damage) => {
                let reason = if damage.database { Reason::StoreDamaged } else { Reason::RecordCorrupt };
                ErrorParts::new(Code::DataLoss, reason)
            }
            Refusal::Store(error) => store_error(error),
            Refusal::Internal(_) => ErrorParts::new(Code::Internal, Reason::Internal),
        }
    }

    /// Returns the status message of the refusal, truncated to the maximum length.
    pub(crate) fn message(&self) -> String {
        let mut message = self.to_string();
        if message.len() > MAX_MESSAGE {
            let end = (0..=MAX_MESSAGE).rev().find(|end| message.is_char_boundary(*end));
            message.truncate(end.unwrap_or(0));
        }
        message
    }
}

fn gone(name: &Name, tombstone: &store::Tombstone) -> ErrorParts {
    let reason = match (name.kind, &tombstone.moved_to) {
        (Kind::Article, Some(_)) => ErrorReason::ArticleMoved,
        (Kind::Article, None) => ErrorReason::ArticleGone,
        _ => ErrorReason::NameGone,
    };
    let parts = ErrorParts::new(Code::NotFound, reason)
        .resource(name)
        .with("reason", reason_name(tombstone.reason))
        .with("remove_time", fields::timestamp(tombstone.time));
    tombstone.moved_to.iter().fold(parts, |parts, target| parts.with("moved_to", target))
}

fn store_error(error: &store::Error) -> ErrorParts {
    use ErrorReason as Reason;
    match error {
        store::Error::Corrupt(name) => ErrorParts::new(Code::DataLoss, Reason::RecordCorrupt).resource(name),
        store::Error::Malformed(_) => ErrorParts::new(Code::DataLoss, Reason::StoreDamaged),
        store::Error::Overloaded => ErrorParts::new(Code::Unavailable, Reason::Overloaded).retry(),
        store::Error::Full { .. } | store::Error::NoSpace(_) | store::Error::NoRoomForCopy { .. } => {
            ErrorParts::new(Code::ResourceExhausted, Reason::StoreFull).retry()
        }
        store::Error::Failed(_) | store::Error::File(_) => {
            ErrorParts::new(Code::Unavailable, Reason::StoreFailed).retry()
        }
        store::Error::ReadOnly { .. } => ErrorParts::new(Code::Unavailable, Reason::StoreFailed),
        store::Error::Uncertain(_) | store::Error::NotErased | store::Error::Lost => {
            ErrorParts::new(Code::Unavailable, Reason::OutcomeUnknown).retry()
        }
        store::Error::Panicked => ErrorParts::new(Code::Internal, Reason::Internal),
        store::Error::Closed => ErrorParts::new(Code::Unavailable, Reason::NodeFailed).retry(),
    }
}

/// Converts the refusal of one item of a batch or an import.
impl From<&Refusal> for ItemError {
    fn from(refusal: &Refusal) -> ItemError {
        let parts = refusal.describe();
        ItemError {
            code: parts.code as i32,
            reason: parts.reason as i32,
            message: refusal.message(),
            field: parts.field.unwrap_or_default(),
            metadata: parts.metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_grpc_numbers() {
        for code in [
            Code::InvalidArgument,
            Code::NotFound,
            Code::AlreadyExists,
            Code::PermissionDenied,
            Code::ResourceExhausted,
            Code::FailedPrecondition,
            Code::Aborted,
            Code::OutOfRange,
            Code::Internal,
            Code::Unavailable,
            Code::DataLoss,
            Code::Unauthenticated,
        ] {
            assert_eq!(format!("{:?}", tonic::Code::from(code as i32)), format!("{code:?}"));
        }
    }
}
