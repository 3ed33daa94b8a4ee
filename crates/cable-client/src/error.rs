//! The errors of calls, classified by the action that a caller can take.

use std::{collections::BTreeMap, error::Error as StdError, fmt, time::Duration};

use tonic::{Code, ConnectError, Status, TimeoutExpired};
use tonic_types::StatusExt as _;

use crate::v1::{Damage, ErrorReason, ItemError};

/// The `ErrorInfo` domain of the reasons in [`ErrorReason`].
const DOMAIN: &str = "cable.v1";

/// The result of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error of a call, or of one item of a call.
///
/// Decide by [`reason`](Error::reason) if the server sent one, and by [`kind`](Error::kind) otherwise. The text is for
/// people.
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// use cable_client::ErrorReason;
///
/// match cable.article("storm").await {
///     Ok(article) => println!("{}", article.headline),
///     Err(error) if error.reason() == Some(ErrorReason::ArticleMoved) => {
///         println!("moved to {:?}", error.metadata().get("moved_to"));
///     }
///     Err(error) if error.is_not_found() => println!("not found"),
///     Err(error) => return Err(error),
/// }
/// # Ok(())
/// # }
/// ```
pub struct Error(Box<Inner>);

#[derive(Default)]
struct Inner {
    kind: ErrorKind,
    reason: Option<ErrorReason>,
    message: String,
    violations: Vec<Violation>,
    metadata: BTreeMap<String, String>,
    retry_after: Option<Duration>,
    connection: Connection,
    may_have_applied: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The state of the connection when an error occurred.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Connection {
    /// The connection works: the server sent this error, or there was no call.
    #[default]
    Intact,
    /// The connection could not be established: the server did not receive the call.
    Refused,
    /// The connection was lost during the call.
    Lost,
}

/// Kinds of failure: the status code of the server, or a failure in the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is invalid; see [`Error::violations`].
    InvalidArgument,
    /// The name does not exist: it was never put, was removed, or moved.
    NotFound,
    /// The precondition requires the name to be absent, but it exists; or another live article has the path.
    AlreadyExists,
    /// The etag of the precondition is not the current one.
    Aborted,
    /// The state of the server does not allow the call: for example, the position belongs to another history, or the
    /// name was killed.
    FailedPrecondition,
    /// A value is outside the available range: for example, the position of a feed is older than the history floor.
    OutOfRange,
    /// The server lacks a resource: for example, disk space, or a free slot for a feed.
    ResourceExhausted,
    /// The server does not implement the call, or cannot store the content.
    Unimplemented,
    /// No node could be reached, the connection was lost, or the node could not serve the call.
    Unavailable,
    /// The timeout expired.
    DeadlineExceeded,
    /// The call was cancelled.
    Cancelled,
    /// The caller is not authenticated.
    Unauthenticated,
    /// The caller lacks the permission for the call.
    PermissionDenied,
    /// Stored data is damaged.
    DataLoss,
    /// An internal error of the server.
    Internal,
    /// An error without a more specific code (UNKNOWN).
    #[default]
    Unknown,
    /// A stream ended early: the items that it delivered are incomplete.
    Truncated,
    /// A setting of the client or a position in text form is invalid.
    Config,
    /// Received or given bytes are not a valid message.
    Malformed,
    /// A message, or a commit of a feed, is larger than this client accepts. The text states the limit and the remedy.
    TooLarge,
    /// The position of a feed could not be loaded or saved.
    PositionStore,
}

/// The problem with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The path of the field, such as `article.tags[3]`.
    pub field: String,
    /// The description of the problem, for people.
    pub description: String,
}

impl Error {
    /// Returns the kind of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the server's reason. `None` if the server sent no reason, or one that this client does not know.
    #[must_use]
    pub fn reason(&self) -> Option<ErrorReason> {
        self.0.reason
    }

    /// Returns the code and the reason as text, for logs and metrics: `NOT_FOUND ARTICLE_GONE`, or the code alone if there
    /// is no reason. An error of the client has the name of its kind in place of a code.
    #[must_use]
    pub fn code_and_reason(&self) -> String {
        let code = self.0.kind.code_name();
        match self.0.reason {
            Some(reason) => format!("{code} {}", reason.as_str_name().trim_start_matches("ERROR_REASON_")),
            None => code,
        }
    }

    /// Returns the text of the error, for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the invalid fields.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// Returns the metadata of the reason; [`ErrorReason`] lists the keys.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.0.metadata
    }

    /// Returns the delay before a retry that the server requested. `None` if it requested none.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Returns whether the name does not exist: it was never put, was removed, or moved.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.0.kind == ErrorKind::NotFound
    }

    /// Returns whether the same call may succeed later. The client has already made all attempts that its
    /// [`Retry`](crate::Retry) and its timeout allow.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.kind == ErrorKind::Unavailable
    }

    /// Returns whether the write may have been applied although the call failed. A retry with the same request_id
    /// applies it at most once. False for reads.
    #[must_use]
    pub fn may_have_applied(&self) -> bool {
        self.0.may_have_applied
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Box::new(Inner { kind, message: message.into(), ..Inner::default() }))
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.0.source = Some(source.into());
        self
    }

    pub(crate) fn truncated(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Truncated, message)
    }

    /// Returns the error for a response that lacks records because the server cannot read them.
    pub(crate) fn incomplete(damage: &Damage) -> Error {
        let reason = if damage.database { ErrorReason::StoreDamaged } else { ErrorReason::RecordCorrupt };
        let message = if damage.database {
            "incomplete: server database is damaged".to_owned()
        } else {
            format!("incomplete: {} records are unreadable", damage.count)
        };
        let names = damage.names.join(" ");
        let metadata = if names.is_empty() { None } else { Some(("damaged".to_owned(), names)) };
        let metadata = metadata.into_iter().collect();
        let (kind, reason) = (ErrorKind::DataLoss, Some(reason));
        Error(Box::new(Inner { kind, reason, message, metadata, ..Inner::default() }))
    }

    pub(crate) fn malformed(source: prost::DecodeError) -> Error {
        Error::new(ErrorKind::Malformed, "not a valid cable.v1 message").with_source(source)
    }

    pub(crate) fn deadline() -> Error {
        Error(Box::new(Inner {
            kind: ErrorKind::DeadlineExceeded,
            message: "no response before the deadline".into(),
            ..Inner::default()
        }))
    }

    /// Returns whether the node is unusable for now, so that the next attempt should go to another node.
    pub(crate) fn is_node_failure(&self) -> bool {
        self.0.connection != Connection::Intact || self.0.reason == Some(ErrorReason::Draining)
    }

    /// Returns, for one attempt of a write, whether the server may have applied it.
    pub(crate) fn has_unknown_outcome(&self) -> bool {
        match (self.0.connection, self.0.reason, self.0.kind) {
            (Connection::Refused, ..) => false,
            (Connection::Lost, ..) | (_, Some(ErrorReason::OutcomeUnknown), _) => true,
            (_, None, ErrorKind::Unavailable) => true,
            (
                ..,
                ErrorKind::DeadlineExceeded | ErrorKind::Cancelled | ErrorKind::Unknown | ErrorKind::Internal,
            ) => true,
            _ => false,
        }
    }

    /// Returns whether the error shows that neither this attempt nor an earlier one with the same request_id was
    /// applied. The server looks up the request_id before it refuses a write, so its refusal settles earlier attempts
    /// too.
    pub(crate) fn is_definite_refusal(&self) -> bool {
        !self.has_unknown_outcome()
            && self.0.connection == Connection::Intact
            && self.0.kind != ErrorKind::Unavailable
    }

    /// Returns a copy for another receiver of the same error, without the source.
    pub(crate) fn duplicate(&self) -> Error {
        let Inner { kind, reason, retry_after, connection, may_have_applied, .. } = *self.0;
        Error(Box::new(Inner {
            kind,
            reason,
            retry_after,
            connection,
            may_have_applied,
            message: self.0.message.clone(),
            violations: self.0.violations.clone(),
            metadata: self.0.metadata.clone(),
            source: None,
        }))
    }

    pub(crate) fn set_may_have_applied(&mut self, may_have_applied: bool) {
        self.0.may_have_applied = may_have_applied;
    }

    /// Returns the error of a refused item in a call that succeeded.
    pub(crate) fn from_item(item: &ItemError) -> Error {
        let violation = Violation { field: item.field.clone(), description: item.message.clone() };
        Error(Box::new(Inner {
            kind: ErrorKind::from_code(Code::from_i32(item.code)),
            reason: ErrorReason::try_from(item.reason).ok().filter(|r| *r != ErrorReason::Unspecified),
            message: item.message.clone(),
            violations: if item.field.is_empty() { Vec::new() } else { vec![violation] },
            metadata: item.metadata.clone(),
            ..Inner::default()
        }))
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Error {
        match local_failure(&status) {
            Some(LocalFailure::TimedOut) => Error::deadline().with_source(status),
            Some(LocalFailure::Connection(connection)) => {
                let message = match connection {
                    Connection::Refused => "cannot connect to the server",
                    _ => "connection to the server lost",
                };
                let mut error = Error::new(ErrorKind::Unavailable, message).with_source(status);
                error.0.connection = connection;
                error
            }
            None => server_error(&status),
        }
    }
}

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
    source?;
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

fn server_error(status: &Status) -> Error {
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

impl ErrorKind {
    fn from_code(code: Code) -> ErrorKind {
        match code {
            Code::InvalidArgument => ErrorKind::InvalidArgument,
            Code::NotFound => ErrorKind::NotFound,
            Code::AlreadyExists => ErrorKind::AlreadyExists,
            Code::Aborted => ErrorKind::Aborted,
            Code::FailedPrecondition => ErrorKind::FailedPrecondition,
            Code::OutOfRange => ErrorKind::OutOfRange,
            Code::ResourceExhausted => ErrorKind::ResourceExhausted,
            Code::Unimplemented => ErrorKind::Unimplemented,
            Code::Unavailable => ErrorKind::Unavailable,
            Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
            Code::Cancelled => ErrorKind::Cancelled,
            Code::Unauthenticated => ErrorKind::Unauthenticated,
            Code::PermissionDenied => ErrorKind::PermissionDenied,
            Code::DataLoss => ErrorKind::DataLoss,
            Code::Internal => ErrorKind::Internal,
            Code::Ok | Code::Unknown => ErrorKind::Unknown,
        }
    }

    /// Returns the name of the kind as gRPC spells it: `NOT_FOUND` for `NotFound`.
    fn code_name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(letter.to_ascii_uppercase());
        }
        name
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, reason, message, violations, .. } = &*self.0;
        match message.is_empty() {
            true => write!(f, "{kind:?}")?,
            false => f.write_str(message)?,
        }
        for violation in violations.iter().filter(|v| !message.contains(&v.description)) {
            write!(f, "; {}: {}", violation.field, violation.description)?;
        }
        if let Some(reason) = reason {
            write!(f, " ({})", reason.as_str_name().trim_start_matches("ERROR_REASON_"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &self.0.kind).field("reason", &self.0.reason).field("message", &self.0.message);
        debug.field("violations", &self.0.violations).field("metadata", &self.0.metadata);
        debug.field("retry_after", &self.0.retry_after).field("may_have_applied", &self.0.may_have_applied);
        debug.field("source", &self.0.source).finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<prost::DecodeError> for Error {
    /// Converts to the kind `Malformed`.
    fn from(error: prost::DecodeError) -> Error {
        Error::malformed(error)
    }
}

impl From<cable_proto::ParsePositionError> for Error {
    /// Converts to the kind `Config`.
    fn from(error: cable_proto::ParsePositionError) -> Error {
        Error::new(ErrorKind::Config, error.to_string())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{collections::HashMap, sync::Arc};

    use tonic_types::{ErrorDetails, FieldViolation};

    use super::*;

    /// Returns a status as a server sends it.
    pub(crate) fn refused_status(code: Code, reason: &str, wait: Option<Duration>) -> Status {
        let mut details = ErrorDetails::new();
        let metadata = HashMap::from([("etag".to_owned(), "0123abcd-7".to_owned())]);
        details.set_error_info(reason, DOMAIN, metadata).set_retry_info(wait);
        details.set_bad_request(vec![FieldViolation::new("article.path", "must start with /")]);
        Status::with_error_details(code, "no", details)
    }

    /// Returns a status as tonic creates it when a connection fails.
    pub(crate) fn transport_status(code: Code, source: impl StdError + Send + Sync + 'static) -> Status {
        let mut status = Status::new(code, "transport error");
        status.set_source(Arc::new(source));
        status
    }

    fn connect_error() -> ConnectError {
        ConnectError("connection refused".into())
    }

    #[test]
    fn all_details_of_a_status_are_available() {
        let wait = Some(Duration::from_millis(250));
        let error = Error::from(refused_status(Code::Aborted, "ETAG_MISMATCH", wait));
        assert_eq!(error.kind(), ErrorKind::Aborted);
        assert_eq!(error.reason(), Some(ErrorReason::EtagMismatch));
        assert_eq!(error.metadata()["etag"], "0123abcd-7");
        assert_eq!(error.violations()[0].field, "article.path");
        assert_eq!(error.retry_after(), wait);
        assert_eq!(error.to_string(), "no; article.path: must start with / (ETAG_MISMATCH)");
        assert!(!error.is_retryable() && !error.is_node_failure() && !error.has_unknown_outcome());
    }

    #[test]
    fn codes_are_named_as_in_grpc() {
        assert_eq!(ErrorKind::NotFound.code_name(), "NOT_FOUND");
        assert_eq!(ErrorKind::Unavailable.code_name(), "UNAVAILABLE");
        let error = Error::from(refused_status(Code::Aborted, "ETAG_MISMATCH", None));
        assert_eq!(error.code_and_reason(), "ABORTED ETAG_MISMATCH");
    }

    #[test]
    fn a_reason_of_another_domain_is_ignored() {
        let details = ErrorDetails::with_error_info("OVERLOADED", "proxy.example", HashMap::new());
        let error = Error::from(Status::with_error_details(Code::Unavailable, "busy", details));
        assert_eq!((error.reason(), error.metadata().len()), (None, 0));
    }

    #[test]
    fn an_unknown_reason_keeps_the_kind() {
        let error = Error::from(refused_status(Code::FailedPrecondition, "INVENTED_LATER", None));
        assert_eq!((error.kind(), error.reason()), (ErrorKind::FailedPrecondition, None));
    }

    #[test]
    fn a_refused_connection_has_a_known_outcome() {
        let error = Error::from(transport_status(Code::Unavailable, connect_error()));
        assert!(error.is_retryable() && error.is_node_failure());
        assert!(!error.has_unknown_outcome() && !error.is_definite_refusal());
        assert!(error.source().is_some());
    }

    #[test]
    fn a_lost_connection_has_an_unknown_outcome() {
        for code in [Code::Unavailable, Code::Cancelled, Code::Unknown, Code::Internal] {
            let error = Error::from(transport_status(code, std::io::Error::other("reset")));
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{code:?}");
            assert!(
                error.is_retryable() && error.is_node_failure() && error.has_unknown_outcome(),
                "{code:?}"
            );
        }
    }

    #[test]
    fn the_same_codes_from_the_server_are_not_retried() {
        for code in [Code::Cancelled, Code::Unknown, Code::Internal] {
            let error = Error::from(Status::new(code, "from the server"));
            assert!(!error.is_retryable() && error.has_unknown_outcome(), "{code:?}");
        }
    }

    #[test]
    fn a_timeout_is_not_a_lost_connection() {
        let error = Error::from(transport_status(Code::Cancelled, TimeoutExpired(())));
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
        assert!(!error.is_retryable() && !error.is_node_failure() && error.has_unknown_outcome());
    }

    #[test]
    fn an_item_error_has_the_kind_and_reason_of_a_call_error() {
        let mut item = ItemError { code: 5, message: "removed".into(), ..Default::default() };
        item.set_reason(ErrorReason::ArticleGone);
        let error = Error::from_item(&item);
        assert!(error.is_not_found());
        assert_eq!(error.reason(), Some(ErrorReason::ArticleGone));
        assert!(error.violations().is_empty());
    }
}
