//! The error of a gRPC status, which the server sent or the transport created.
//!
//! The transport uses the codes of the server for its own failures. They have a source, which a received status lacks,
//! and only they concern the connection.

use std::error::Error as _;

use tonic::{Code, ConnectError, Status, TimeoutExpired};
use tonic_types::StatusExt as _;

use super::{Connection, Error, ErrorKind, Inner, Violation};
use crate::{connect::Peer, v1::ErrorReason};

impl From<Status> for Error {
    fn from(status: Status) -> Error {
        Error::from_call(status, None)
    }
}

impl Error {
    /// Returns the error of a call to a server. A failed connection is described with the server and the cause.
    pub(crate) fn from_call(status: Status, peer: Option<&Peer>) -> Error {
        let mut connection = match local_failure(&status) {
            Some(LocalFailure::TimedOut) => return Error::deadline(peer).with_source(status),
            Some(LocalFailure::Connection(connection)) => connection,
            None => return server_error(&status, peer),
        };
        let mut cause = root_cause(&status);
        if connection == Connection::Lost
            && let Some(finding) = peer.and_then(Peer::finding)
        {
            cause = finding.cause;
            if finding.is_refusal {
                connection = Connection::Refused;
            }
        }
        if connection == Connection::Lost && cause.starts_with(STREAM_RESET) {
            connection = Connection::Reset;
        }
        let server = peer.map_or_else(|| "the server".to_owned(), Peer::to_string);
        let message = match connection {
            Connection::Refused => format!("cannot reach {server}: {cause}"),
            Connection::Reset => format!("stream reset by {server}: {cause}"),
            _ => format!("connection to {server} lost: {cause}"),
        };
        let mut error = Error::new(ErrorKind::Unavailable, message).with_source(status);
        error.0.connection = connection;
        error
    }
}

/// Returns the text of the innermost cause, which the others wrap: `Connection refused (os error 111)`.
fn root_cause(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = status.source();
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text
}

/// The start of the cause when a single stream was reset, and not its connection.
const STREAM_RESET: &str = "stream error received: ";
/// The start of the message of a status without a source, which the stubs create if the connection has ended.
const NOT_READY: &str = "Service was not ready: ";

/// The `ErrorInfo` domain of the reasons in [`ErrorReason`].
pub(super) const DOMAIN: &str = "cable.v1";

/// The end of a call to which the server sent no status.
enum LocalFailure {
    TimedOut,
    Connection(Connection),
}

/// Returns the connection failure behind a status, if there is one. A status has a source only if it was created on
/// this side.
///
/// Not every such status is UNAVAILABLE: a lost connection is CANCELLED, UNKNOWN or INTERNAL, depending on when it was
/// lost. Failures that do not concern the connection, such as a response that is too large, have no source.
fn local_failure(status: &Status) -> Option<LocalFailure> {
    let mut source = status.source();
    if source.is_none() {
        // A received status has the metadata of the response.
        let is_not_ready = status.message().starts_with(NOT_READY) && status.metadata().is_empty();
        return is_not_ready.then_some(LocalFailure::Connection(Connection::Refused));
    }
    while let Some(error) = source {
        if error.is::<TimeoutExpired>() {
            return Some(LocalFailure::TimedOut);
        }
        if error.is::<ConnectError>() {
            return Some(LocalFailure::Connection(Connection::Refused));
        }
        source = error.source();
    }
    let lost = matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Internal);
    lost.then_some(LocalFailure::Connection(Connection::Lost))
}

fn server_error(status: &Status, peer: Option<&Peer>) -> Error {
    if let Some(problem) = foreign_response(status) {
        let server = peer.map_or_else(|| "the server".to_owned(), Peer::to_string);
        if problem == HEADERS_TOO_LARGE {
            let message = format!(
                "{server} refused the call with {problem}: headers too large; shorten the token or the metadata"
            );
            return Error::new(ErrorKind::InvalidArgument, message);
        }
        let message = format!("{server} responded with {problem}, not gRPC: a proxy, or another service");
        return Error::new(ErrorKind::from_code(status.code()), message);
    }
    if is_oversized(status) {
        let message = format!(
            "{}; Cable servers send at most 3.5 MiB per message: update the server, or check for a proxy that merges \
             messages",
            status.message()
        );
        return Error::new(ErrorKind::TooLarge, message);
    }
    let details = status.get_error_details();
    let info = details.error_info().filter(|info| info.domain == DOMAIN);
    let violations = details.bad_request().map(|bad| &bad.field_violations[..]).unwrap_or_default();
    Error(Box::new(Inner {
        kind: ErrorKind::from_code(status.code()),
        reason: info.and_then(|info| parse_reason(&info.reason)),
        message: status.message().to_owned(),
        violations: violations
            .iter()
            .map(|v| Violation { field: v.field.clone(), description: v.description.clone() })
            .collect(),
        metadata: info.map(|info| info.metadata.clone().into_iter().collect()).unwrap_or_default(),
        retry_after: details.retry_info().and_then(|info| info.retry_delay),
        ..Inner::default()
    }))
}

/// The description of a response to a call whose headers exceed the limit of the node, which thus has not read it.
const HEADERS_TOO_LARGE: &str = "HTTP status 431";

/// Returns the description of a response that is not gRPC. tonic derives a code from its HTTP status.
fn foreign_response(status: &Status) -> Option<String> {
    let code = status.message().strip_prefix("grpc-status header missing, mapped from HTTP status code ")?;
    Some(format!("HTTP status {code}"))
}

/// Returns whether tonic refused a message of the server because of its length. tonic uses the code of
/// REVISION_COMPACTED for that, without details.
fn is_oversized(status: &Status) -> bool {
    matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted)
        && status.details().is_empty()
        && status.message().contains("message length too large")
}

fn parse_reason(name: &str) -> Option<ErrorReason> {
    ErrorReason::from_str_name(&format!("ERROR_REASON_{name}"))
}
