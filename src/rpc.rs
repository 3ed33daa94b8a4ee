//! The gRPC services. A handler parses the request, makes the call and encodes the response. Only this module converts
//! a [`Refusal`] into a Status.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    audit::Origin,
    auth::Identity,
    model::limit::Limit,
    refusal::{DOMAIN, Refusal},
    wire::v1::ErrorReason,
};

pub(crate) mod admin;
mod codec;
pub(crate) mod content;
pub(crate) mod feed;
pub(crate) mod health;
mod identity;
pub(crate) mod publishing;
mod request;
pub(crate) mod status;
pub(crate) mod transfer;

pub(crate) use codec::Codec;

fn public_name(reason: ErrorReason) -> &'static str {
    reason.as_str_name().trim_start_matches("ERROR_REASON_")
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        let parts = refusal.describe();
        let message = refusal.message();
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
        if let Some(delay) = parts.retry {
            details.set_retry_info(Some(delay));
        }
        Status::with_error_details(Code::from(parts.code as i32), message, details)
    }
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

/// Returns the caller of a request that tonic serves. The call layer puts it among the extensions.
pub(crate) fn caller<T>(request: &tonic::Request<T>) -> Identity {
    request.extensions().get().cloned().unwrap_or(Identity::Nobody)
}

/// Whether the listener that a request has arrived at shows pending versions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShowsPending(pub(crate) bool);

/// Returns whether a request may show pending versions, as far as its listener is concerned.
pub(crate) fn shows_pending<T>(request: &tonic::Request<T>) -> bool {
    request.extensions().get().is_some_and(|ShowsPending(shows)| *shows)
}

/// Returns who makes a request that tonic serves, from where. The call layer puts it among the extensions.
pub(crate) fn origin<T>(request: &tonic::Request<T>) -> Origin {
    request.extensions().get().cloned().unwrap_or_default()
}

/// Returns the status of an internal error.
pub(crate) fn internal(text: &'static str) -> Status {
    Refusal::Internal(text).into()
}
