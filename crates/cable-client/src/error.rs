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
    kind: Kind,
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
    Held,
    /// The connection could not be established: the server did not receive the call.
    Refused,
    /// The connection was lost during the call.
    Lost,
}

/// Kinds of failure: the status code of the server, or a failure in the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
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
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Returns the server's reason. `None` if the server sent no reason, or one that this client does not know.
    #[must_use]
    pub fn reason(&self) -> Option<ErrorReason> {
        self.0.reason
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
        self.0.kind == Kind::NotFound
    }

    /// Returns whether the same call may succeed later. The client has already made all attempts that its
    /// [`Retry`](crate::Retry) and its timeout allow.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.kind == Kind::Unavailable
    }

    /// Returns whether the write may have been applied although the call failed. A retry with the same request_id
    /// applies it at most once. False for reads.
    #[must_use]
    pub fn may_have_applied(&self) -> bool {
        self.0.may_have_applied
    }

    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error(Box::new(Inner { kind, message: message.into(), ..Inner::default() }))
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.0.source = Some(source.into());
        self
    }

    pub(crate) fn truncated(what: &str) -> Error {
        Error::new(Kind::Truncated, what)
    }

    /// Returns the error for a response that lacks records because the server cannot read them.
    pub(crate) fn incomplete(damage: &Damage) -> Error {
        let reason = if damage.database { ErrorReason::StoreDamaged } else { ErrorReason::RecordCorrupt };
        let what = if damage.database {
            "incomplete: the server's database is damaged".to_owned()
        } else {
            format!("incomplete: {} records cannot be read by the server", damage.count)
        };
        let names = damage.names.join(" ");
        let metadata = if names.is_empty() { None } else { Some(("damaged".to_owned(), names)) };
        let metadata = metadata.into_iter().collect();
        let (kind, reason) = (Kind::DataLoss, Some(reason));
        Error(Box::new(Inner { kind, reason, message: what, metadata, ..Inner::default() }))
    }

    pub(crate) fn malformed(source: prost::DecodeError) -> Error {
        Error::new(Kind::Malformed, "the bytes are not a message of cable.v1").with_source(source)
    }

    pub(crate) fn deadline() -> Error {
        Error(Box::new(Inner {
            kind: Kind::DeadlineExceeded,
            message: "no answer came in time".into(),
            ..Inner::default()
        }))
    }

    /// Returns whether the node is unusable for now, so that the next attempt should go to another node.
    pub(crate) fn blames_node(&self) -> bool {
        self.0.connection != Connection::Held || self.0.reason == Some(ErrorReason::Draining)
    }

    /// Returns, for one attempt of a write, whether the server may have applied it.
    pub(crate) fn leaves_doubt(&self) -> bool {
        match (self.0.connection, self.0.reason, self.0.kind) {
            (Connection::Refused, ..) => false,
            (Connection::Lost, ..) | (_, Some(ErrorReason::OutcomeUnknown), _) => true,
            (_, None, Kind::Unavailable) => true,
            (.., Kind::DeadlineExceeded | Kind::Cancelled | Kind::Unknown | Kind::Internal) => true,
            _ => false,
        }
    }

    /// Returns whether the error shows that neither this attempt nor an earlier one with the same request_id was
    /// applied. The server looks up the request_id before it refuses a write, so its refusal settles earlier attempts
    /// too.
    pub(crate) fn settles_doubt(&self) -> bool {
        !self.leaves_doubt() && self.0.connection == Connection::Held && self.0.kind != Kind::Unavailable
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

    pub(crate) fn set_may_have_applied(&mut self, may: bool) {
        self.0.may_have_applied = may;
    }

    /// Returns the error of a refused item in a call that succeeded.
    pub(crate) fn of_item(item: &ItemError) -> Error {
        let violation = Violation { field: item.field.clone(), description: item.message.clone() };
        Error(Box::new(Inner {
            kind: Kind::of(Code::from_i32(item.code)),
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
        match connection_of(&status) {
            Some(Ended::TimedOut) => Error::deadline().with_source(status),
            Some(Ended::At(connection)) => {
                let message = match connection {
                    Connection::Refused => "no connection to the server",
                    _ => "the connection to the server was lost",
                };
                let mut error = Error::new(Kind::Unavailable, message).with_source(status);
                error.0.connection = connection;
                error
            }
            None => answered(&status),
        }
    }
}

/// The end of a call to which the server sent no status.
enum Ended {
    TimedOut,
    At(Connection),
}

/// Returns the connection failure behind a status, if there is one. A status has a source only if it was created on
/// this side.
///
/// Not every such status is UNAVAILABLE: a lost connection is CANCELLED, UNKNOWN or INTERNAL, depending on when it was
/// lost. Failures that do not concern the connection, such as a response that is too large, have no source.
fn connection_of(status: &Status) -> Option<Ended> {
    let mut source = status.source();
    source?;
    while let Some(error) = source {
        if error.is::<TimeoutExpired>() {
            return Some(Ended::TimedOut);
        }
        if error.is::<ConnectError>() {
            return Some(Ended::At(Connection::Refused));
        }
        source = error.source();
    }
    let lost = matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Internal);
    lost.then_some(Ended::At(Connection::Lost))
}

fn answered(status: &Status) -> Error {
    if is_oversized(status) {
        let message = format!(
            "{}; no message of a Cable server is above 3.5 MiB: update the server, or look for a proxy that joins messages",
            status.message()
        );
        return Error::new(Kind::TooLarge, message);
    }
    let details = status.get_error_details();
    let info = details.error_info().filter(|info| info.domain == DOMAIN);
    let violations = details.bad_request().map(|bad| &bad.field_violations[..]).unwrap_or_default();
    Error(Box::new(Inner {
        kind: Kind::of(status.code()),
        reason: info.and_then(|info| reason_of(&info.reason)),
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

fn reason_of(name: &str) -> Option<ErrorReason> {
    ErrorReason::from_str_name(&format!("ERROR_REASON_{name}"))
}

impl Kind {
    fn of(code: Code) -> Kind {
        match code {
            Code::InvalidArgument => Kind::InvalidArgument,
            Code::NotFound => Kind::NotFound,
            Code::AlreadyExists => Kind::AlreadyExists,
            Code::Aborted => Kind::Aborted,
            Code::FailedPrecondition => Kind::FailedPrecondition,
            Code::OutOfRange => Kind::OutOfRange,
            Code::ResourceExhausted => Kind::ResourceExhausted,
            Code::Unimplemented => Kind::Unimplemented,
            Code::Unavailable => Kind::Unavailable,
            Code::DeadlineExceeded => Kind::DeadlineExceeded,
            Code::Cancelled => Kind::Cancelled,
            Code::Unauthenticated => Kind::Unauthenticated,
            Code::PermissionDenied => Kind::PermissionDenied,
            Code::DataLoss => Kind::DataLoss,
            Code::Internal => Kind::Internal,
            Code::Ok | Code::Unknown => Kind::Unknown,
        }
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
        let mut shown = f.debug_struct("Error");
        shown.field("kind", &self.0.kind).field("reason", &self.0.reason).field("message", &self.0.message);
        shown.field("violations", &self.0.violations).field("metadata", &self.0.metadata);
        shown.field("retry_after", &self.0.retry_after).field("may_have_applied", &self.0.may_have_applied);
        shown.field("source", &self.0.source).finish()
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
        Error::new(Kind::Config, error.to_string())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{collections::HashMap, sync::Arc};

    use tonic_types::{ErrorDetails, FieldViolation};

    use super::*;

    /// Returns a status as a server sends it.
    pub(crate) fn refusal(code: Code, reason: &str, wait: Option<Duration>) -> Status {
        let mut details = ErrorDetails::new();
        let metadata = HashMap::from([("etag".to_owned(), "0123abcd-7".to_owned())]);
        details.set_error_info(reason, DOMAIN, metadata).set_retry_info(wait);
        details.set_bad_request(vec![FieldViolation::new("article.path", "must start with /")]);
        Status::with_error_details(code, "no", details)
    }

    /// Returns a status as tonic creates it when a connection fails.
    pub(crate) fn broken(code: Code, source: impl StdError + Send + Sync + 'static) -> Status {
        let mut status = Status::new(code, "transport error");
        status.set_source(Arc::new(source));
        status
    }

    fn connect_error() -> ConnectError {
        ConnectError("connection refused".into())
    }

    #[test]
    fn what_the_server_says_is_all_there() {
        let wait = Some(Duration::from_millis(250));
        let error = Error::from(refusal(Code::Aborted, "ETAG_MISMATCH", wait));
        assert_eq!(error.kind(), Kind::Aborted);
        assert_eq!(error.reason(), Some(ErrorReason::EtagMismatch));
        assert_eq!(error.metadata()["etag"], "0123abcd-7");
        assert_eq!(error.violations()[0].field, "article.path");
        assert_eq!(error.retry_after(), wait);
        assert_eq!(error.to_string(), "no; article.path: must start with / (ETAG_MISMATCH)");
        assert!(!error.is_retryable() && !error.blames_node() && !error.leaves_doubt());
    }

    #[test]
    fn a_reason_of_another_domain_is_none_of_ours() {
        let details = ErrorDetails::with_error_info("OVERLOADED", "proxy.example", HashMap::new());
        let error = Error::from(Status::with_error_details(Code::Unavailable, "busy", details));
        assert_eq!((error.reason(), error.metadata().len()), (None, 0));
    }

    #[test]
    fn a_reason_that_this_client_does_not_know_leaves_the_kind() {
        let error = Error::from(refusal(Code::FailedPrecondition, "INVENTED_LATER", None));
        assert_eq!((error.kind(), error.reason()), (Kind::FailedPrecondition, None));
    }

    #[test]
    fn a_connection_that_was_never_made_leaves_no_doubt() {
        let error = Error::from(broken(Code::Unavailable, connect_error()));
        assert!(error.is_retryable() && error.blames_node());
        assert!(!error.leaves_doubt() && !error.settles_doubt());
        assert!(error.source().is_some());
    }

    #[test]
    fn a_connection_that_was_lost_leaves_doubt_whatever_its_code() {
        for code in [Code::Unavailable, Code::Cancelled, Code::Unknown, Code::Internal] {
            let error = Error::from(broken(code, std::io::Error::other("reset")));
            assert_eq!(error.kind(), Kind::Unavailable, "{code:?}");
            assert!(error.is_retryable() && error.blames_node() && error.leaves_doubt(), "{code:?}");
        }
    }

    #[test]
    fn the_same_codes_from_the_server_are_not_retried() {
        for code in [Code::Cancelled, Code::Unknown, Code::Internal] {
            let error = Error::from(Status::new(code, "said the server"));
            assert!(!error.is_retryable() && error.leaves_doubt(), "{code:?}");
        }
    }

    #[test]
    fn time_that_ran_out_is_no_lost_connection() {
        let error = Error::from(broken(Code::Cancelled, TimeoutExpired(())));
        assert_eq!(error.kind(), Kind::DeadlineExceeded);
        assert!(!error.is_retryable() && !error.blames_node() && error.leaves_doubt());
    }

    #[test]
    fn an_item_says_what_a_call_would() {
        let mut item = ItemError { code: 5, message: "gone".into(), ..Default::default() };
        item.set_reason(ErrorReason::ArticleGone);
        let error = Error::of_item(&item);
        assert!(error.is_not_found());
        assert_eq!(error.reason(), Some(ErrorReason::ArticleGone));
        assert!(error.violations().is_empty());
    }
}
